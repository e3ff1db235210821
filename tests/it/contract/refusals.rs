//! What a refusal names, and what is refused although nothing would use it.

use easm_export::sim::{Options, Refusal, SignIn};

use super::identity::{Cloud, IN_AZURE, signing_in};
use super::{run, world};
use crate::azurite::Azurite;
use crate::support::finish;

#[tokio::test]
async fn in_azure_a_folder_given_by_the_flag_is_refused_by_the_flags_name() {
    let world = world(10).await;
    let file = format!("file://{}", world.folder.path().display());
    let container = "https://acme.blob.core.windows.net/exports";
    for setting in [container, "./exports", ""] {
        for url in ["./exports", &file] {
            let vars = [IN_AZURE[0], IN_AZURE[1], ("EASM_STORE_URL", setting)];
            let done = run(&world, &["export", "--json", "--store", url], &vars).await;
            let case = format!("--store {url}, EASM_STORE_URL={setting}");
            assert_eq!(done.code, 2, "{case}: {}", done.stdout_text());
            assert!(done.error_line().contains("--store"), "{case}: {}", done.stderr);
        }
    }
}

#[tokio::test]
async fn in_azure_a_container_given_by_the_flag_needs_no_other_store() {
    let test = "in_azure_a_container_given_by_the_flag_needs_no_other_store";
    let Some(azurite) = Azurite::http(test) else { return };
    let world = world(10).await;
    for setting in ["", "./exports"] {
        let vars = [IN_AZURE[0], IN_AZURE[1], ("EASM_STORE_URL", setting)];
        let url = azurite.store_url(&azurite.container());
        let done = run(&world, &["export", "--json", "--store", &url], &vars).await;
        assert_eq!(done.code, 0, "EASM_STORE_URL={setting}: {}", done.stderr);
    }
}

#[tokio::test]
async fn a_client_secret_is_refused_in_azure_even_where_nobody_signs_in_with_it() {
    let test = "a_client_secret_is_refused_in_azure_even_where_nobody_signs_in_with_it";
    let Some(azurite) = Azurite::http(test) else { return };
    let world = world(10).await;
    let url = azurite.store_url(&azurite.container());
    let secret = "c2VjcmV0c2VjcmV0c2VjcmV0";
    for sign_in in [SignIn::ManagedIdentity, SignIn::Federated, SignIn::WorkloadIdentity] {
        for name in ["EASM_CLIENT_SECRET", "CLIENT_SECRET"] {
            let mut command = signing_in(&world, sign_in, &["export"]);
            command.env(name, secret).env("EASM_STORE_URL", &url).envs(IN_AZURE);
            let done = finish(command).await;
            let case = format!("{sign_in:?} {name}");
            assert_eq!(done.code, 2, "{case}: {}", done.stderr);
            assert!(done.error_line().contains("CLIENT_SECRET"), "{case}: {}", done.stderr);
            assert!(!done.stderr.contains(secret), "{case}: {}", done.stderr);
        }
    }
}

#[tokio::test]
async fn a_refused_authority_is_not_told_what_would_be_refused_again() {
    let world = world(10).await;
    for url in ["127.0.0.1", "https://127.0.0.1:1/?a=b", "https://user@127.0.0.1:1"] {
        let mut command = signing_in(&world, SignIn::ClientSecret, &["export"]);
        command.env("AZURE_AUTHORITY_HOST", url);
        let done = finish(command).await.expect_code(2);
        assert!(done.error_line().contains("AZURE_AUTHORITY_HOST"), "{}", done.stderr);
        assert!(!done.error_line().contains("http://"), "{url}: {}", done.stderr);
    }
}

#[tokio::test]
async fn a_file_of_certificates_that_cannot_be_used_is_refused_by_the_settings_name() {
    let world = world(10).await;
    let garbage = world.folder.path().join("garbage.pem");
    std::fs::write(&garbage, "-----BEGIN CERTIFICATE-----\nnone\n").unwrap();
    for sign_in in [SignIn::ClientSecret, SignIn::Federated, SignIn::WorkloadIdentity] {
        for file in ["/nonexistent.pem", garbage.to_str().unwrap()] {
            let mut command = signing_in(&world, sign_in, &["export"]);
            command.env("SSL_CERT_FILE", file);
            let done = finish(command).await;
            let case = format!("{sign_in:?} {file}");
            assert!(done.error_line().contains("SSL_CERT_FILE"), "{case}: {}", done.stderr);
        }
    }
}

#[tokio::test]
async fn an_identity_endpoint_that_cannot_be_used_is_refused_by_its_name() {
    let world = world(10).await;
    for url in ["not a URL", "ftp://127.0.0.1/msi/token"] {
        let mut command = signing_in(&world, SignIn::ManagedIdentity, &["export"]);
        command.env("IDENTITY_ENDPOINT", url);
        let done = finish(command).await.expect_code(2);
        assert!(done.error_line().contains("IDENTITY_ENDPOINT"), "{url}: {}", done.stderr);
    }
}

#[tokio::test]
async fn a_workload_token_that_is_refused_is_looked_for_in_its_file() {
    let world = world(10).await;
    for text in ["", "\n", "no token"] {
        let file = world.folder.path().join("token");
        std::fs::write(&file, text).unwrap();
        let mut command = signing_in(&world, SignIn::WorkloadIdentity, &["export"]);
        command.env("AZURE_FEDERATED_TOKEN_FILE", &file);
        let done = finish(command).await;
        assert!([1, 2].contains(&done.code), "{}", done.stderr);
        let line = done.error_line();
        assert!(line.contains("AZURE_FEDERATED_TOKEN_FILE"), "{text:?}: {line}");
    }
}

/// How often Entra, which throttles, was asked for a token before the program gave up.
async fn n_asked(cloud: &Cloud, store: &str) -> usize {
    let n_before = cloud.world.sim.requests().len();
    let mut command = cloud.command(SignIn::WorkloadIdentity, &["export"], &[]);
    command.env("EASM_STORE_URL", store);
    finish(command).await.expect_code(1);
    let seen = cloud.world.sim.requests().split_off(n_before);
    seen.iter().filter(|seen| seen.path.ends_with("/token")).count()
}

#[tokio::test]
async fn who_throttles_sign_ins_is_not_asked_more_often_for_the_store_than_for_the_planes() {
    let test = "who_throttles_sign_ins_is_not_asked_more_often_for_the_store_than_for_the_planes";
    let mut options = Options { assets: 10, ..Options::default() };
    options.apps[0].refusal = Some(Refusal::Throttled);
    let Some(cloud) = Cloud::new(test, options).await else { return };
    let for_planes = n_asked(&cloud, "./exports").await;
    let for_store = n_asked(&cloud, &cloud.store_url()).await;
    // Each plane and the store may ask at the same time.
    assert!(for_store <= 3 * for_planes, "{for_planes} for the planes, {for_store} for the store");
}
