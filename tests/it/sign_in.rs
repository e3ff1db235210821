//! Signing in: every credential of the contract, whose token goes where, and what is said when there
//! is none.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use easm_export::model::manifest::{Completeness, Manifest};
use easm_export::sim::{
    APP_CLIENT_ID, APP_IDENTITY, Audience, Fault, ManagedIdentity, OTHER_IDENTITY, Options,
    Refusal, Scripted, SignIn,
};
use tokio::process::Command;

use crate::azurite::{Azurite, Certificate};
use crate::logs::{assert_clean, secrets};
use crate::proxy::{Proxy, ProxyOptions};
use crate::support::{Done, World, assert_same_lines, bare_command, finish, lines};

const OTHER_TENANT: &str = "07e27e27-51d0-4000-8000-000000000007";

async fn world(options: Options) -> World {
    World::new(Options { assets: 60, asset_bytes: 900, ..options }).await
}

/// A command that signs in with `sign_in`, and nothing else in its environment.
fn command(world: &World, sign_in: SignIn, args: &[&str]) -> Command {
    let mut command = bare_command(world.folder.path(), args);
    command.envs(world.sim.settings_for(sign_in)).env("EASM_FILTER", "").env("EASM_LOG", "error");
    command
}

async fn export(world: &World, sign_in: SignIn) -> Done {
    finish(command(world, sign_in, &["export", "--json"])).await
}

/// Who was seen with a token, by audience: client id and plane.
fn callers(world: &World) -> BTreeSet<(&'static str, Option<String>)> {
    let seen = world.sim.requests();
    let callers = seen.iter().filter_map(|seen| {
        let issued = world.sim.issued(seen.authorization.as_deref()?).unwrap();
        let plane = match issued.audience {
            Audience::Easm if seen.path.ends_with("/assets") => "easm",
            Audience::Arm if seen.path.contains("/providers/Microsoft.Easm/") => "arm",
            Audience::Vault if seen.path.starts_with("/secrets/") => "vault",
            other => panic!("a token for {other:?} went to {}", seen.path),
        };
        Some((plane, issued.client_id))
    });
    callers.collect()
}

#[tokio::test]
async fn every_credential_exports_the_whole_inventory() {
    for sign_in in SignIn::ALL {
        let world = world(Options::default()).await;
        let case = format!("{sign_in:?}");
        let case = case.as_str();
        let done = export(&world, sign_in).await.expect_code(0);
        let manifest: Manifest = serde_json::from_slice(&done.stdout).unwrap();
        assert_same_lines(&world.lines(&manifest), &world.sim.inventory().ndjson(""), case);
        let client_id = match sign_in {
            SignIn::ManagedIdentity => None,
            _ => Some(APP_CLIENT_ID.to_owned()),
        };
        let mut wanted = BTreeSet::from([("easm", client_id.clone()), ("arm", client_id)]);
        if sign_in == SignIn::KeyVault {
            // The app's own identity reads there what the target's signs in with.
            wanted.insert(("vault", None));
        }
        assert_eq!(callers(&world), wanted, "{case}");
        // One token for each audience, and one for all of what vouches.
        let n = |part: &str| world.sim.requests().iter().filter(|s| s.path.contains(part)).count();
        let (entra, platform) = (n("/oauth2/v2.0/token"), n("/msi/token"));
        let wanted = match sign_in {
            SignIn::ManagedIdentity => (0, 2),
            SignIn::ClientSecret | SignIn::WorkloadIdentity => (2, 0),
            SignIn::Federated | SignIn::KeyVault => (2, 1),
        };
        assert_eq!((entra, platform), wanted, "{case}");
    }
}

#[tokio::test]
async fn auto_takes_what_is_there() {
    use SignIn::{ClientSecret, KeyVault, ManagedIdentity, WorkloadIdentity};
    for sign_in in [ManagedIdentity, ClientSecret, KeyVault, WorkloadIdentity] {
        let world = world(Options::default()).await;
        let mut command = command(&world, sign_in, &["query", "--limit", "1"]);
        command.env_remove("EASM_CREDENTIAL");
        finish(command).await.expect_code(0);
        let client_id = (sign_in != ManagedIdentity).then(|| APP_CLIENT_ID.to_owned());
        let mut callers = callers(&world);
        assert_eq!(callers.remove(&("vault", None)), sign_in == KeyVault, "{sign_in:?}");
        let wanted = [("easm", client_id.clone()), ("arm", client_id)];
        assert_eq!(callers, BTreeSet::from(wanted), "{sign_in:?}");
    }
}

#[tokio::test]
async fn the_names_of_mdeasm_sign_in_with_a_secret() {
    let world = world(Options::default()).await;
    let mut command = bare_command(world.folder.path(), &["query", "--limit", "1"]);
    for (name, value) in world.sim.settings_for(SignIn::ClientSecret) {
        let name = match name {
            "EASM_TENANT_ID" => "TENANT_ID",
            "EASM_CLIENT_ID" => "CLIENT_ID",
            "EASM_CLIENT_SECRET" => "CLIENT_SECRET",
            "EASM_CREDENTIAL" => continue,
            name => name,
        };
        command.env(name, value);
    }
    finish(command).await.expect_code(0);
}

#[tokio::test]
async fn a_target_in_another_tenant_is_signed_in_to_without_a_secret() {
    // The managed identity lives in one tenant, workspace and app registration in the other.
    let options = Options { home_tenant_id: OTHER_TENANT.to_owned(), ..Options::default() };
    let world = world(options).await;
    export(&world, SignIn::Federated).await.expect_code(0);
    // With the identity alone the service would refuse; that is said before it is asked.
    let done = export(&world, SignIn::ManagedIdentity).await.expect_code(2);
    let line = done.error_line();
    assert!(
        line.contains("another tenant") && line.contains("EASM_CREDENTIAL=federated"),
        "{line}"
    );
    let refused = world.sim.requests().iter().filter(|seen| seen.status == 401).count();
    assert_eq!(refused, 0);
}

#[tokio::test]
async fn the_user_assigned_identity_that_is_named_vouches_and_signs_in() {
    let check = async |sign_in, vars: &[(&str, &str)], wanted: Option<&str>, vouches: bool| {
        let world = world(Options::default()).await;
        let mut command = command(&world, sign_in, &["query", "--limit", "1"]);
        command.envs(vars.iter().copied());
        finish(command).await.expect_code(0);
        let ids = world.sim.client_ids();
        assert_eq!(ids[0].as_deref(), wanted, "{vars:?}");
        let by = if vouches { Some(APP_CLIENT_ID) } else { wanted };
        assert!(callers(&world).iter().all(|(_, id)| id.as_deref() == by), "{vars:?}");
    };
    let own = ("EASM_IDENTITY_CLIENT_ID", APP_IDENTITY);
    let other = ("EASM_CLIENT_ID", OTHER_IDENTITY);
    check(SignIn::ManagedIdentity, &[], None, false).await;
    check(SignIn::ManagedIdentity, &[own], Some(APP_IDENTITY), false).await;
    check(SignIn::ManagedIdentity, &[own, other], Some(OTHER_IDENTITY), false).await;
    check(SignIn::ManagedIdentity, &[("AZURE_CLIENT_ID", APP_IDENTITY)], Some(APP_IDENTITY), false)
        .await;
    check(SignIn::Federated, &[], None, true).await;
    check(SignIn::Federated, &[own], Some(APP_IDENTITY), true).await;
}

/// Each sentence says what is wrong and what to do; nothing that was sent comes back, at any level.
#[tokio::test]
async fn whatever_refuses_a_token_is_said_in_one_sentence() {
    type Change = fn(&mut Options);
    /// Who signs in, to which world, with which settings; and what is said then.
    type Case<'a> = (SignIn, Change, &'a [(&'a str, &'a str)], &'a [&'a str]);
    let nothing: Change = |_| {};
    let cases: Vec<Case<'_>> = vec![
        (
            SignIn::ClientSecret,
            nothing,
            &[("EASM_CLIENT_SECRET", "canary-wrong-secret-0123456789")],
            &["the client secret is wrong", "AADSTS7000215", "EASM_CLIENT_SECRET"],
        ),
        (
            SignIn::ClientSecret,
            |options| options.apps[0].refusal = Some(Refusal::SecretExpired),
            &[],
            &["the client secret has expired", "AADSTS7000222", "EASM_CREDENTIAL=federated"],
        ),
        (
            SignIn::ClientSecret,
            nothing,
            &[("EASM_TENANT_ID", OTHER_TENANT)],
            &["there is no such tenant", "AADSTS90002", "EASM_TENANT_ID"],
        ),
        (
            SignIn::ClientSecret,
            nothing,
            &[("EASM_CLIENT_ID", OTHER_TENANT)],
            &["the app registration is not known in this tenant", "EASM_CLIENT_ID"],
        ),
        (
            SignIn::ClientSecret,
            |options| options.apps[0].refusal = Some(Refusal::Disabled),
            &[],
            &["the app registration is disabled"],
        ),
        (
            SignIn::ClientSecret,
            |options| options.apps[0].refusal = Some(Refusal::ConditionalAccess),
            &[],
            &["conditional access", "AADSTS53003", "administrator"],
        ),
        (
            SignIn::Federated,
            |options| options.apps[0].trusts.clear(),
            &[],
            &["does not trust the identity", "federated credential", "api://AzureADTokenExchange"],
        ),
        (
            SignIn::WorkloadIdentity,
            |options| options.apps[0].trusts.clear(),
            &[],
            &["does not trust the identity", "federated credential"],
        ),
        (
            SignIn::WorkloadIdentity,
            nothing,
            &[("AZURE_FEDERATED_TOKEN_FILE", "not-there")],
            &["the token file cannot be read", "AZURE_FEDERATED_TOKEN_FILE"],
        ),
        (
            SignIn::ManagedIdentity,
            nothing,
            &[("EASM_IDENTITY_CLIENT_ID", OTHER_TENANT)],
            &["the managed identity is not assigned here", "EASM_IDENTITY_CLIENT_ID"],
        ),
        (
            SignIn::ManagedIdentity,
            |options| options.identities.retain(|identity| identity.client_id.is_some()),
            &[],
            &["the managed identity is not assigned here", "EASM_IDENTITY_CLIENT_ID"],
        ),
        (
            SignIn::Federated,
            |options| options.identities.clear(),
            &[],
            &["the managed identity is not assigned here"],
        ),
        (
            SignIn::ManagedIdentity,
            |options| set_roles(&mut options.identities),
            &[],
            &["find the workspace", "Reader"],
        ),
    ];
    for (sign_in, change, vars, parts) in cases {
        let mut options = Options::default();
        change(&mut options);
        let world = world(options).await;
        let secret = world
            .sim
            .settings_for(SignIn::ClientSecret)
            .into_iter()
            .find(|(name, _)| *name == "EASM_CLIENT_SECRET")
            .map(|(_, secret)| secret)
            .unwrap();
        let case = format!("{} {vars:?} {parts:?}", sign_in.as_str());
        let mut once = command(&world, sign_in, &["export"]);
        once.envs(vars.iter().copied());
        let done = finish(once).await;
        assert!([1, 2].contains(&done.code), "{case}: {}", done.stderr);
        let line = done.error_line().to_owned();
        assert!(parts.iter().all(|part| line.contains(part)), "{case}: {line}");
        let mut loud = command(&world, sign_in, &["export"]);
        loud.envs(vars.iter().copied()).env("EASM_LOG", "trace");
        let loud = finish(loud).await;
        for canary in ["canary", &secret, "client_secret=", "client_assertion="] {
            assert!(!loud.stderr.contains(canary), "{case}: {canary} in {}", loud.stderr);
        }
        assert!(loud.stdout.is_empty(), "{case}");
    }
}

fn set_roles(identities: &mut [ManagedIdentity]) {
    for identity in identities {
        identity.has_role = false;
    }
}

#[tokio::test]
async fn an_authority_whose_certificate_nobody_trusts_is_named_at_once() {
    let world = world(Options::default()).await;
    let mut command = command(&world, SignIn::ClientSecret, &["export"]);
    command.env_remove("SSL_CERT_FILE");
    let done = finish(command).await.expect_code(1);
    let line = done.error_line();
    assert!(line.contains("Entra") && line.contains("SSL_CERT_FILE"), "{line}");
    assert!(
        !world.sim.requests().iter().any(|seen| seen.path.contains("oauth2")),
        "nothing was sent"
    );
}

#[tokio::test]
async fn an_entra_that_falters_is_asked_again() {
    for fault in [
        Fault::Status { status: 503, retry_after: None },
        Fault::Status { status: 429, retry_after: Some("1".to_owned()) },
        Fault::Reset,
        Fault::Slow(Duration::from_millis(300)),
    ] {
        let script = vec![Scripted {
            path_contains: "/oauth2/v2.0/token".to_owned(),
            query_contains: String::new(),
            from: 0,
            times: 2,
            fault: fault.clone(),
        }];
        let world = world(Options { script, ..Options::default() }).await;
        let done = export(&world, SignIn::ClientSecret).await;
        assert_eq!(done.code, 0, "{fault:?}: {}", done.stderr);
    }
}

/// An `az` of our own: it prints a token that the simulator issued, or fails as the real one does.
fn write_tool(world: &World, name: &str, script: &str) -> String {
    let folder = world.folder.path().join("bin");
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join(name);
    std::fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    format!("{}:/usr/bin:/bin", folder.display())
}

/// A token of the system-assigned identity, got by hand.
async fn issued_by_hand(world: &World, resource: &str) -> String {
    let settings = world.sim.settings();
    let get = |name: &str| settings.iter().find(|(n, _)| *n == name).unwrap().1.clone();
    let url = format!("{}?api-version=2019-08-01&resource={resource}", get("IDENTITY_ENDPOINT"));
    let client = crate::azurite::plain_client(None);
    let answer = client.get(url).header("X-IDENTITY-HEADER", get("IDENTITY_HEADER")).send();
    let answer = answer.await.unwrap().bytes().await.unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
    answer["access_token"].as_str().unwrap().to_owned()
}

/// A laptop: the target's settings, and no identity that a platform offers.
fn laptop(world: &World, args: &[&str], path: &str) -> Command {
    let mut command = bare_command(world.folder.path(), args);
    let settings = world
        .sim
        .settings()
        .into_iter()
        .filter(|(name, _)| !name.starts_with("IDENTITY_") && *name != "EASM_CREDENTIAL");
    command.envs(settings).env("EASM_FILTER", "").env("EASM_LOG", "error").env("PATH", path);
    command
}

#[tokio::test]
async fn on_a_laptop_whoever_is_signed_in_to_the_azure_cli_exports() {
    let world = world(Options::default()).await;
    let (easm, arm) = (
        issued_by_hand(&world, "https://easm.defender.microsoft.com").await,
        issued_by_hand(&world, "https://management.azure.com").await,
    );
    let log = world.folder.path().join("az.log");
    let path = write_tool(
        &world,
        "az",
        &format!(
            "echo \"$@\" >> '{}'\ncase \"$*\" in *easm.defender*) token='{easm}';; *) token='{arm}';; esac\n\
             echo \"{{\\\"accessToken\\\": \\\"$token\\\", \\\"expires_on\\\": 4102444800, \\\"tokenType\\\": \\\"Bearer\\\"}}\"",
            log.display()
        ),
    );
    let done = finish(laptop(&world, &["export", "--json"], &path)).await.expect_code(0);
    let manifest: Manifest = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(manifest.completeness, Completeness::Exact);
    let calls = std::fs::read_to_string(log).unwrap();
    let tenant = format!("--tenant {}", Options::default().tenant_id);
    assert_eq!(calls.lines().count(), 2, "once for each audience: {calls}");
    assert!(calls.lines().all(|line| line.contains(&tenant)), "{calls}");
}

#[tokio::test]
async fn a_laptop_where_nobody_is_signed_in_says_how() {
    let world = world(Options::default()).await;
    let done = finish(laptop(&world, &["export"], "/usr/bin:/bin")).await.expect_code(1);
    let line = done.error_line();
    assert!(line.contains("neither the Azure CLI") && line.contains("az login --tenant"), "{line}");
    assert!(line.contains("easm-export demo"), "{line}");
    let refusal = "echo 'ERROR: AADSTS700082: The refresh token canary-token-in-text has expired' >&2; exit 1";
    let path = write_tool(&world, "az", refusal);
    let done = finish(laptop(&world, &["export"], &path)).await.expect_code(1);
    let line = done.error_line();
    assert!(line.contains("`az` has no token") && line.contains("AADSTS700082"), "{line}");
    assert!(line.contains("run `az login --tenant") && !line.contains("canary"), "{line}");
}

/// The app's own identity writes to the store, the target's reads EASM and asks ARM; each token is
/// seen at its own host and nowhere else, and none in what is said at the loudest.
#[tokio::test]
async fn each_identitys_token_goes_where_it_belongs() {
    let name = "each_identitys_token_goes_where_it_belongs";
    let ways = [SignIn::Federated, SignIn::ManagedIdentity, SignIn::ClientSecret, SignIn::KeyVault];
    for sign_in in ways {
        let world = world(Options::default()).await;
        let (cert_pem, key_pem) = world.sim.certificate(&["127.0.0.1", "localhost"]);
        let ca_pem = std::fs::read_to_string(world.sim.ca_file()).unwrap();
        let certificate = Certificate { ca_pem: ca_pem.clone(), cert_pem, key_pem };
        let Some(azurite) = Azurite::tls(name, &certificate) else { return };
        let container = azurite.container();
        azurite.create_container(&container).await;
        let proxy = Proxy::start(ProxyOptions {
            upstream_ca_pem: Some(ca_pem),
            tls: Some((certificate.cert_pem, certificate.key_pem)),
            ..ProxyOptions::new(azurite.base())
        });
        let mut command = command(&world, sign_in, &["export", "--json"]);
        let platform = world.sim.settings().into_iter().filter(|(n, _)| n.starts_with("IDENTITY_"));
        command
            .envs(platform)
            .env("SSL_CERT_FILE", world.sim.ca_file())
            .env("EASM_LOG", "trace")
            .env("EASM_IDENTITY_CLIENT_ID", APP_IDENTITY)
            .env("EASM_STORE_URL", format!("{}/devstoreaccount1/{container}", proxy.url()));
        if sign_in == SignIn::ManagedIdentity {
            command.env("EASM_CLIENT_ID", OTHER_IDENTITY);
        }
        let done = finish(command).await.expect_code(0);
        let case = format!("{sign_in:?}");
        let case = case.as_str();
        let manifest: Manifest = serde_json::from_slice(&done.stdout).unwrap();
        let mut files = std::collections::BTreeMap::new();
        for path in azurite.blobs(&container).await {
            files.insert(path.clone(), azurite.get(&container, &path).await.unwrap());
        }
        let found = lines(&manifest, |path| files[path].clone());
        assert_same_lines(&found, &world.sim.inventory().ndjson(""), case);

        let target = match sign_in {
            SignIn::ManagedIdentity => OTHER_IDENTITY,
            _ => APP_CLIENT_ID,
        };
        let wanted = ["easm", "arm"].map(|plane| (plane, Some(target.to_owned())));
        let mut wanted = BTreeSet::from(wanted);
        if sign_in == SignIn::KeyVault {
            wanted.insert(("vault", Some(APP_IDENTITY.to_owned())));
        }
        assert_eq!(callers(&world), wanted, "{case}");
        let seen = proxy.seen();
        assert!(seen.len() > 20, "{case}");
        let tokens: BTreeSet<_> = seen.iter().map(|seen| seen.authorization.clone()).collect();
        assert_eq!(tokens.len(), 1, "{case}: one token for the whole run");
        let issued = world.sim.issued(seen[0].authorization.as_deref().unwrap()).unwrap();
        assert_eq!(issued.audience, Audience::Storage, "{case}");
        assert_eq!(issued.client_id.as_deref(), Some(APP_IDENTITY), "{case}");

        let mut secrets = secrets(&world);
        secrets.extend(tokens.into_iter().flatten().map(|value| value.replace("Bearer ", "")));
        let settings = world.sim.settings_for(SignIn::ClientSecret);
        let secret = settings.into_iter().find(|(name, _)| *name == "EASM_CLIENT_SECRET");
        secrets.push(secret.unwrap().1);
        assert!(done.stderr.len() > 10_000, "{case}: trace says a lot");
        assert_clean(&done.stderr, &secrets, case);
        for (path, content) in files.iter().filter(|(path, _)| path.ends_with(".json")) {
            assert_clean(&String::from_utf8_lossy(content), &secrets, path);
        }
    }
}

/// The container must be there, and a token must be good, where the store is Azure's.
#[tokio::test]
async fn a_container_that_is_missing_is_not_created_with_an_identity() {
    let name = "a_container_that_is_missing_is_not_created_with_an_identity";
    let world = world(Options::default()).await;
    let (cert_pem, key_pem) = world.sim.certificate(&["127.0.0.1"]);
    let ca_pem = std::fs::read_to_string(world.sim.ca_file()).unwrap();
    let Some(azurite) = Azurite::tls(name, &Certificate { ca_pem, cert_pem, key_pem }) else {
        return;
    };
    let mut command = command(&world, SignIn::Federated, &["export"]);
    command.env("EASM_STORE_URL", azurite.store_url("not-there"));
    let done = finish(command).await.expect_code(1);
    let line = done.error_line();
    assert!(
        line.contains("the container does not exist") && line.contains("EASM_STORE_URL"),
        "{line}"
    );
}
