//! Who signs in, with what, at whom, and where requests go, seen from outside.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::OnceLock;

use easm_export::sim::{
    APP_CLIENT_ID, APP_IDENTITY, App, Audience, OTHER_IDENTITY, Options, SignIn, WORKLOAD_SUBJECT,
};
use serde_json::{Value, json};
use tokio::process::Command;

use super::world;
use crate::azurite::{ACCOUNT, Azurite, Certificate, plain_client};
use crate::proxy::{Proxy, ProxyOptions};
use crate::support::{World, bare_command, finish};

const SECOND_APP: &str = "a9911ca7-51d0-4000-8000-00000000ca02";
const THIRD_APP: &str = "a9911ca7-51d0-4000-8000-00000000ca03";
const HOME: &str = "0e0e0e0e-51d0-4000-8000-00000000403e";
const SYSTEM_OBJECT: &str = "0b1ec700-51d0-4000-8000-00000000b000";
pub const IN_AZURE: [(&str, &str); 2] =
    [("FUNCTIONS_CUSTOMHANDLER_PORT", "7071"), ("WEBSITE_SITE_NAME", "easm")];

/// Name and value of a setting.
type Var<'a> = (&'a str, &'a str);

/// The blob service with TLS that these tests share, and who vouches for it.
fn tls_azurite(test: &str) -> Option<&'static (Azurite, String)> {
    static SHARED: OnceLock<Option<(Azurite, String)>> = OnceLock::new();
    let start = || {
        let certificate = Certificate::new();
        Azurite::tls(test, &certificate).map(|azurite| (azurite, certificate.ca_pem))
    };
    SHARED.get_or_init(start).as_ref()
}

/// A simulator, and a container behind a proxy that the simulator's authority vouches for.
pub struct Cloud {
    pub world: World,
    pub proxy: Proxy,
    pub azurite: &'static Azurite,
    pub container: String,
}

impl Cloud {
    pub async fn new(test: &str, options: Options) -> Option<Self> {
        let (azurite, ca_pem) = tls_azurite(test)?;
        let world = World::new(options).await;
        let proxy = Proxy::start(ProxyOptions {
            tls: Some(world.sim.certificate(&["127.0.0.1", "localhost"])),
            upstream_ca_pem: Some(ca_pem.clone()),
            ..ProxyOptions::new(azurite.base())
        });
        let container = azurite.container();
        azurite.create_container(&container).await;
        Some(Self { world, proxy, azurite, container })
    }

    pub fn store_url(&self) -> String {
        format!("{}/{ACCOUNT}/{}", self.proxy.url(), self.container)
    }

    /// The command with the settings to sign in this way, on a platform with managed identities
    /// unless it is a cluster, and with the store.
    pub fn command(&self, sign_in: SignIn, args: &[&str], vars: &[(&str, &str)]) -> Command {
        let sim = &self.world.sim;
        let mut command = signing_in(&self.world, sign_in, args);
        if sign_in == SignIn::ClientSecret {
            command.envs(platform(&self.world));
        }
        command
            .env("SSL_CERT_FILE", sim.ca_file())
            .env("EASM_STORE_URL", self.store_url())
            .envs(vars.iter().copied());
        command
    }
}

/// The command with the settings to sign in this way.
pub fn signing_in(world: &World, sign_in: SignIn, args: &[&str]) -> Command {
    let mut command = bare_command(world.folder.path(), args);
    command.envs(world.sim.settings_for(sign_in)).env("EASM_FILTER", "").env("EASM_LOG", "error");
    command
}

/// The variables of a platform that offers managed identities.
pub fn platform(world: &World) -> Vec<(&'static str, String)> {
    let mut settings = world.sim.settings();
    settings.retain(|(name, _)| name.starts_with("IDENTITY_"));
    settings
}

fn app(client_id: &str, secret: Option<&str>, trusts: &[&str]) -> App {
    App {
        client_id: client_id.to_owned(),
        secret: secret.map(str::to_owned),
        trusts: trusts.iter().map(|&subject| subject.to_owned()).collect(),
        ..App::default()
    }
}

fn small() -> Options {
    Options { assets: 20, asset_bytes: 900, ..Options::default() }
}

/// The audience and the client id behind every token that each of the planes saw: EASM, ARM.
#[track_caller]
fn presented(world: &World) -> BTreeSet<(bool, String, Option<String>)> {
    let mut found = BTreeSet::new();
    for seen in world.sim.requests() {
        let Some(authorization) = seen.authorization else { continue };
        assert!(!seen.path.ends_with("/token"), "who issues tokens gets none: {}", seen.path);
        let issued = world.sim.issued(&authorization).unwrap();
        let is_arm = seen.path.contains("/providers/");
        assert_eq!(
            issued.audience,
            if is_arm { Audience::Arm } else { Audience::Easm },
            "{}",
            seen.path
        );
        found.insert((is_arm, issued.tenant_id, issued.client_id));
    }
    found
}

#[tokio::test]
async fn the_apps_own_identity_opens_the_store_and_the_targets_opens_the_planes() {
    let test = "the_apps_own_identity_opens_the_store_and_the_targets_opens_the_planes";
    let own = |id| ("EASM_IDENTITY_CLIENT_ID", id);
    let azure = |id| ("AZURE_CLIENT_ID", id);
    let target = |id| ("EASM_CLIENT_ID", id);
    let app_id = Some(APP_CLIENT_ID);
    let [first, other] = [Some(APP_IDENTITY), Some(OTHER_IDENTITY)];
    let everything = SignIn::ALL;
    let [managed, secret, federated, workload, _] = everything;
    // How, with what settings; the client ids of the target and of the store.
    type Case<'a> = (SignIn, Vec<Var<'a>>, Option<&'a str>, Option<&'a str>);
    let cases: Vec<Case<'_>> = vec![
        (managed, vec![], None, None),
        (managed, vec![own(APP_IDENTITY)], first, first),
        (managed, vec![azure(APP_IDENTITY)], first, first),
        (managed, vec![azure(OTHER_IDENTITY), own(APP_IDENTITY)], first, first),
        (managed, vec![azure(OTHER_IDENTITY), own("")], None, None),
        (managed, vec![own("")], None, None),
        (managed, vec![target(OTHER_IDENTITY)], other, None),
        (managed, vec![target(OTHER_IDENTITY), own(APP_IDENTITY)], other, first),
        (managed, vec![target(OTHER_IDENTITY), azure(APP_IDENTITY)], other, first),
        (secret, vec![], app_id, None),
        (secret, vec![own(OTHER_IDENTITY)], app_id, other),
        (secret, vec![azure(OTHER_IDENTITY)], app_id, other),
        (federated, vec![], app_id, None),
        (federated, vec![own(APP_IDENTITY)], app_id, first),
        (federated, vec![azure(OTHER_IDENTITY), own(APP_IDENTITY)], app_id, first),
        (workload, vec![], app_id, app_id),
        (workload, vec![target(SECOND_APP)], Some(SECOND_APP), app_id),
    ];
    for (sign_in, vars, target, own) in cases {
        let case = format!("{sign_in:?} {vars:?}");
        let apps = vec![App::default(), app(SECOND_APP, None, &[WORKLOAD_SUBJECT])];
        let options = Options { apps, ..small() };
        let tenant = options.tenant_id.clone();
        let Some(cloud) = Cloud::new(test, options).await else { return };
        let done = finish(cloud.command(sign_in, &["export", "--json"], &vars)).await;
        assert_eq!(done.code, 0, "{case}: {}", done.stderr);
        let id = |id: Option<&str>| id.map(str::to_owned);
        let wanted = [false, true].map(|is_arm| (is_arm, tenant.clone(), id(target)));
        assert_eq!(presented(&cloud.world), wanted.into(), "{case}");
        for seen in cloud.proxy.seen() {
            let issued = cloud.world.sim.issued(&seen.authorization.unwrap()).unwrap();
            assert_eq!(issued.audience, Audience::Storage, "{case}");
            assert_eq!(issued.client_id, id(own), "{case}");
        }
        let who: BTreeSet<_> = cloud.world.sim.client_ids().into_iter().collect();
        assert_eq!(who, BTreeSet::from([id(target), id(own)]), "{case}: nobody else signs in");
    }
}

#[tokio::test]
async fn an_identity_of_one_tenant_vouches_for_an_app_of_another_and_opens_the_store_at_home() {
    let test =
        "an_identity_of_one_tenant_vouches_for_an_app_of_another_and_opens_the_store_at_home";
    let options = Options { home_tenant_id: HOME.to_owned(), ..small() };
    let tenant = options.tenant_id.clone();
    let Some(cloud) = Cloud::new(test, options).await else { return };
    for sign_in in [SignIn::Federated, SignIn::ClientSecret] {
        finish(cloud.command(sign_in, &["export"], &[])).await.expect_code(0);
    }
    let app_id = Some(APP_CLIENT_ID.to_owned());
    let wanted = [false, true].map(|is_arm| (is_arm, tenant.clone(), app_id.clone()));
    assert_eq!(presented(&cloud.world), wanted.into());
    for seen in cloud.proxy.seen() {
        let issued = cloud.world.sim.issued(&seen.authorization.unwrap()).unwrap();
        assert_eq!((issued.audience, issued.tenant_id.as_str()), (Audience::Storage, HOME));
    }
    let done =
        finish(cloud.command(SignIn::ManagedIdentity, &["export"], &[])).await.expect_code(2);
    assert!(done.error_line().contains("EASM_CREDENTIAL"), "{}", done.stderr);
    assert!(done.error_line().contains("tenant"), "{}", done.stderr);
}

/// What a laptop or a platform may have at hand to sign in with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Has {
    Secret,
    Cluster,
    Platform,
    Developer,
}

/// Gives `folder` an `az` that knows one token for each plane, of [`OTHER_IDENTITY`].
async fn install_az(world: &World, folder: &std::path::Path) {
    let header = platform(world).pop().unwrap().1;
    for (file, resource) in
        [("easm", "https://easm.defender.microsoft.com"), ("arm", "https://management.azure.com")]
    {
        let url = format!(
            "{}/msi/token?api-version=2019-08-01&client_id={OTHER_IDENTITY}&resource={resource}",
            world.sim.url()
        );
        let answer = plain_client(None).get(url).header("x-identity-header", &header).send().await;
        let answer: Value =
            serde_json::from_slice(&answer.unwrap().bytes().await.unwrap()).unwrap();
        let expires_on: u64 = answer["expires_on"].as_str().unwrap().parse().unwrap();
        let told = json!({"accessToken": answer["access_token"], "tokenType": "Bearer",
            "expiresOn": "2099-01-01 00:00:00.000000", "expires_on": expires_on,
            "subscription": "s", "tenant": "t"});
        std::fs::write(folder.join(file), told.to_string()).unwrap();
    }
    let folder_name = folder.display();
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in\n*easm*) exec cat '{folder_name}/easm';;\n\
         *) exec cat '{folder_name}/arm';;\nesac\n"
    );
    let az = folder.join("az");
    std::fs::write(&az, script).unwrap();
    std::fs::set_permissions(&az, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test]
async fn auto_takes_the_secret_then_the_cluster_then_the_platform_then_the_developer() {
    let apps = vec![
        app(APP_CLIENT_ID, Some(""), &[]),
        app(SECOND_APP, None, &[WORKLOAD_SUBJECT]),
        app(THIRD_APP, None, &[SYSTEM_OBJECT]),
    ];
    let world = World::new(Options { apps, ..small() }).await;
    let az = tempfile::tempdir().unwrap();
    install_az(&world, az.path()).await;
    let path = format!("{}:/usr/bin:/bin", az.path().display());
    let of = |sign_in: SignIn| world.sim.settings_for(sign_in);
    use Has::{Cluster, Developer, Platform, Secret};
    let all = [Secret, Cluster, Platform, Developer];
    let none: [(&str, &str); 0] = [];
    let third = [("EASM_CLIENT_ID", THIRD_APP)];
    let third_with_secret = [third[0], ("EASM_CLIENT_SECRET", "not-one-that-opens-anything")];
    let own = [("EASM_IDENTITY_CLIENT_ID", APP_IDENTITY)];
    let (first, second) = (Some(APP_CLIENT_ID), Some(SECOND_APP));
    // `EASM_CREDENTIAL`, what is at hand, more settings, and who signs in.
    type Case<'a> = (Option<&'a str>, &'a [Has], &'a [Var<'a>], Option<&'a str>);
    let cases: [Case<'_>; 15] = [
        (None, &all, &none, first),
        (Some("auto"), &all, &none, first),
        (Some(""), &all, &none, first),
        (None, &[Secret, Platform], &none, first),
        (None, &all[1..], &none, second),
        (Some("auto"), &[Cluster, Developer], &none, second),
        (None, &all[2..], &none, None),
        (None, &[Developer], &none, Some(OTHER_IDENTITY)),
        (Some("client-secret"), &all, &none, first),
        (Some("workload-identity"), &all[1..], &none, second),
        (Some("managed-identity"), &all[1..], &own, Some(APP_IDENTITY)),
        (Some("managed-identity"), &all[2..], &none, None),
        (Some("federated"), &[Platform], &third, Some(THIRD_APP)),
        (Some("federated"), &all[2..], &third_with_secret, Some(THIRD_APP)),
        (Some("developer"), &all, &none, Some(OTHER_IDENTITY)),
    ];
    let mut n_before = 0;
    for (credential, has, vars, who) in cases {
        let mut command = bare_command(world.folder.path(), &["export", "--dry-run"]);
        let base = of(SignIn::ClientSecret);
        let base = base.into_iter().filter(|(name, _)| !name.contains("CLIENT"));
        command.envs(base.filter(|(name, _)| *name != "EASM_CREDENTIAL")).env("EASM_LOG", "error");
        let mut case = format!("{credential:?} {vars:?}:");
        for (has_it, name, settings) in [
            (has.contains(&Secret), "EASM_CLIENT", of(SignIn::ClientSecret)),
            (has.contains(&Cluster), "AZURE_", of(SignIn::WorkloadIdentity)),
            (has.contains(&Platform), "IDENTITY_", platform(&world)),
        ] {
            if has_it {
                command.envs(settings.into_iter().filter(|(var, _)| var.starts_with(name)));
                if name == "AZURE_" {
                    command.env("AZURE_CLIENT_ID", SECOND_APP);
                }
                case += &format!(" {name}");
            }
        }
        if has.contains(&Developer) {
            command.env("PATH", &path);
            case += " az";
        }
        command.envs(credential.map(|value| ("EASM_CREDENTIAL", value))).envs(vars.iter().copied());
        let done = finish(command).await;
        assert_eq!(done.code, 0, "{case}: {}", done.stderr);
        let seen = world.sim.requests().split_off(n_before);
        n_before += seen.len();
        let mut found = BTreeSet::new();
        for authorization in seen.into_iter().filter_map(|seen| seen.authorization) {
            found.insert(world.sim.issued(&authorization).unwrap().client_id);
        }
        assert_eq!(found, BTreeSet::from([who.map(str::to_owned)]), "{case}");
    }
}

#[tokio::test]
async fn a_way_to_sign_in_that_lacks_something_is_refused_by_what_it_lacks() {
    let world = world(10).await;
    let of = |sign_in: SignIn| world.sim.settings_for(sign_in);
    // Settings, the one that is taken away, and what is said, one of these.
    let cases: [(SignIn, &str, &[&str]); 5] = [
        (SignIn::ClientSecret, "EASM_CLIENT_ID", &["EASM_CLIENT_ID"]),
        (SignIn::ClientSecret, "EASM_CLIENT_SECRET", &["EASM_CLIENT_SECRET"]),
        (SignIn::Federated, "EASM_CLIENT_ID", &["EASM_CLIENT_ID"]),
        (SignIn::WorkloadIdentity, "AZURE_FEDERATED_TOKEN_FILE", &["AZURE_FEDERATED_TOKEN_FILE"]),
        (SignIn::WorkloadIdentity, "AZURE_CLIENT_ID", &["AZURE_CLIENT_ID", "EASM_CLIENT_ID"]),
    ];
    for (sign_in, missing, said) in cases {
        let mut command = signing_in(&world, sign_in, &["export"]);
        command.env_remove(missing);
        let done = finish(command).await;
        assert_eq!(done.code, 2, "{sign_in:?} without {missing}: {}", done.stderr);
        let line = done.error_line();
        assert!(said.iter().any(|name| line.contains(name)), "{sign_in:?} {missing}: {line}");
    }
    for value in ["secret", "Managed Identity", "msi", "auto,developer"] {
        let mut command = bare_command(world.folder.path(), &["export"]);
        command.envs(of(SignIn::ManagedIdentity)).env("EASM_CREDENTIAL", value);
        let done = finish(command.env("EASM_LOG", "error").take()).await.expect_code(2);
        let line = done.error_line();
        for word in ["EASM_CREDENTIAL", value, "managed-identity", "federated", "auto"] {
            assert!(line.contains(word), "{value}: {line}");
        }
    }
    // Not as a managed identity: a machine that has one would be asked for it.
    for credential in ["auto", "developer"] {
        let mut command = signing_in(&world, SignIn::ManagedIdentity, &["export"]);
        command.env("EASM_CREDENTIAL", credential).env_remove("IDENTITY_ENDPOINT");
        let done = finish(command.env_remove("IDENTITY_HEADER").take()).await;
        assert!([1, 2].contains(&done.code), "{credential}: {}", done.stderr);
        assert!(!done.error_line().is_empty() && done.stdout.is_empty(), "{credential}");
    }
    assert!(world.sim.requests().is_empty(), "nobody is asked");
}

/// Gives up what a chain of calls made.
trait Take {
    fn take(&mut self) -> Command;
}

impl Take for Command {
    fn take(&mut self) -> Command {
        std::mem::replace(self, Command::new("false"))
    }
}

#[tokio::test]
async fn a_client_secret_to_sign_in_with_is_refused_in_azure_and_not_repeated() {
    let test = "a_client_secret_to_sign_in_with_is_refused_in_azure_and_not_repeated";
    let Some(azurite) = Azurite::http(test) else { return };
    let world = world(10).await;
    let url = azurite.store_url(&azurite.container());
    let secret = world.sim.settings_for(SignIn::ClientSecret);
    let secret = secret.into_iter().find(|(name, _)| *name == "EASM_CLIENT_SECRET").unwrap().1;
    for name in ["EASM_CLIENT_SECRET", "CLIENT_SECRET"] {
        for credential in ["client-secret", "auto"] {
            for (place, is_refused) in [("", true), ("Production", true), ("Development", false)] {
                let mut command = signing_in(&world, SignIn::ClientSecret, &["export"]);
                command.env_remove("EASM_CLIENT_SECRET").env(name, &secret).envs(IN_AZURE);
                command.envs(platform(&world)).env("EASM_STORE_URL", &url);
                command.env("EASM_CREDENTIAL", credential);
                command.env("AZURE_FUNCTIONS_ENVIRONMENT", place);
                let case = format!("{name} {credential} {place}");
                let done = finish(command).await;
                assert_eq!(done.code, if is_refused { 2 } else { 0 }, "{case}: {}", done.stderr);
                let said = format!("{}{}", done.stdout_text(), done.stderr);
                assert!(!said.contains(&secret[..16]), "{case}: {said}");
                if is_refused {
                    assert!(done.error_line().contains("CLIENT_SECRET"), "{case}: {}", done.stderr);
                }
            }
        }
    }
}

#[tokio::test]
async fn the_names_of_mdeasm_are_read_where_ours_are_missing() {
    let world = world(10).await;
    let settings = world.sim.settings_for(SignIn::ClientSecret);
    let theirs = [
        ("EASM_TENANT_ID", "TENANT_ID"),
        ("EASM_SUBSCRIPTION_ID", "SUBSCRIPTION_ID"),
        ("EASM_RESOURCE_GROUP", "RESOURCE_GROUP_NAME"),
        ("EASM_WORKSPACE", "WORKSPACE_NAME"),
        ("EASM_CLIENT_ID", "CLIENT_ID"),
        ("EASM_CLIENT_SECRET", "CLIENT_SECRET"),
    ];
    // Ours beside theirs, and what theirs are then.
    for (with_ours, wrong) in [(false, None), (true, Some("00000000-0000-4000-8000-00000000bad0"))]
    {
        let mut command = bare_command(world.folder.path(), &["export", "--json"]);
        command.env("EASM_LOG", "error").env("EASM_FILTER", "");
        for (name, value) in &settings {
            match theirs.iter().find(|(ours, _)| ours == name) {
                _ if *name == "EASM_CREDENTIAL" => continue,
                Some((_, their)) => _ = command.env(their, wrong.unwrap_or(value)),
                None => _ = command.env(name, value),
            }
            if with_ours {
                command.env(name, value);
            }
        }
        finish(command).await.expect_code(0);
    }
    let found = presented(&world);
    assert!(found.iter().all(|(_, _, id)| id.as_deref() == Some(APP_CLIENT_ID)), "{found:?}");
}

#[tokio::test]
async fn entra_is_asked_over_https_alone() {
    let world = world(10).await;
    let http = world.sim.authority().replace("https", "http");
    for sign_in in [SignIn::ClientSecret, SignIn::Federated, SignIn::WorkloadIdentity] {
        let bad =
            [http.as_str(), "http://localhost:1", "http://login.microsoftonline.com", "ftp://a.b"];
        for url in bad {
            let mut command = signing_in(&world, sign_in, &["export"]);
            let done = finish(command.env("AZURE_AUTHORITY_HOST", url).take()).await;
            assert_eq!(done.code, 2, "{sign_in:?} {url}: {}", done.stderr);
            assert!(done.error_line().contains("AZURE_AUTHORITY_HOST"), "{url}: {}", done.stderr);
        }
        let mut command = signing_in(&world, sign_in, &["export"]);
        command.env("AZURE_AUTHORITY_HOST", world.sim.authority() + "/");
        finish(command).await.expect_code(0);
        let mut command = signing_in(&world, sign_in, &["export"]);
        let done = finish(command.env_remove("SSL_CERT_FILE").take()).await.expect_code(1);
        assert!(done.error_line().contains("certificate"), "{sign_in:?}: {}", done.stderr);
    }
}
