//! `doctor`: every check of the contract, what it says where something is wrong, and that it changes
//! nothing.

use std::collections::{BTreeMap, BTreeSet};

use easm_export::sim::{
    CLIENT_SECRET_NAME, Fault, OTHER_IDENTITY, Options, Scripted, SignIn, VaultRefusal,
};
use serde_json::{Value, json};
use tokio::process::Command;

use super::identity::{Cloud, IN_AZURE};
use super::secrets::{leak, noting_identity_endpoint, windows};
use super::targets::targets;
use super::{run, world};
use crate::support::{Done, World, bare_command, finish};

const SCHEDULE: (&str, &str) = ("EXPORT_SCHEDULE", "0 0 6 * * *");
const NOBODY: &str = "00000000-0000-4000-8000-000000000bad";

/// What `doctor --json` found. Fails unless it is one document and nothing else, and the exit code says
/// the same.
#[track_caller]
pub fn examined(done: Done) -> Value {
    let found: Value = serde_json::from_slice(&done.stdout).unwrap_or_else(|err| {
        panic!("{err}: {} {} {}", done.code, done.stdout_text(), done.stderr)
    });
    let checks = found["checks"].as_array().unwrap();
    assert!(!checks.is_empty());
    let mut is_ok = true;
    for check in checks {
        let status = check["status"].as_str().unwrap();
        assert!(["ok", "failed", "skipped"].contains(&status), "{check}");
        assert!(check["name"].is_string() && check["seconds"].is_number(), "{check}");
        assert!(!check["message"].as_str().unwrap().is_empty(), "{check}");
        if status == "failed" {
            is_ok = false;
            let remedy = check["remedy"].as_str().unwrap_or_default();
            assert!(remedy.len() > 10, "what to do: {check}");
        }
    }
    assert_eq!(found["ok"], is_ok, "{found}");
    assert_eq!(done.code, if is_ok { 0 } else { 3 }, "{found}");
    found
}

async fn doctor(world: &World, args: &[&str], vars: &[(&str, &str)]) -> Value {
    let args = [&["doctor", "--json"], args].concat();
    examined(run(world, &args, &[&[SCHEDULE], vars].concat()).await)
}

/// Each check's status, by its name and target; but for a vault that no target uses, which is skipped.
pub fn statuses(found: &Value) -> BTreeMap<(String, Option<String>), String> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let is_idle = |check: &&Value| {
        let says_so = |text: &str| text.contains("no client secret in Key Vault is used");
        check["name"] == "vault" && check["message"].as_str().is_some_and(says_so)
    };
    let checks = found["checks"].as_array().unwrap().iter();
    checks
        .filter(|check| !is_idle(check))
        .map(|check| {
            let status = text(&check["status"]).unwrap();
            ((text(&check["name"]).unwrap(), text(&check["target"])), status)
        })
        .collect()
}

/// The only check of this name.
#[track_caller]
pub fn check<'a>(found: &'a Value, name: &str) -> &'a Value {
    let mut all = found["checks"].as_array().unwrap().iter().filter(|check| check["name"] == name);
    match (all.next(), all.next()) {
        (Some(check), None) => check,
        other => panic!("{name}: {other:?} in {found}"),
    }
}

/// Fails unless this check, and none but those that hang on it, failed, and says all of `words`.
#[track_caller]
fn assert_found(found: &Value, name: &str, words: &[&str], case: &str) {
    let check = check(found, name);
    assert_eq!(check["status"], "failed", "{case}: {found:#}");
    let text = format!("{} {}", check["message"], check["remedy"]);
    for word in words {
        assert!(text.contains(word), "{case}: {word}: {text}");
    }
    let others = statuses(found)
        .into_iter()
        .filter(|((other, _), status)| other != name && status == "failed");
    assert_eq!(others.count(), 0, "{case}: {found:#}");
}

#[tokio::test]
async fn every_check_of_the_contract_is_made_and_nothing_is_changed() {
    let test = "every_check_of_the_contract_is_made_and_nothing_is_changed";
    let options = Options { assets: 30, asset_bytes: 900, ..Options::default() };
    let Some(cloud) = Cloud::new(test, options).await else { return };
    for args in [&["doctor", "--json"][..], &["doctor"]] {
        let mut command = cloud.command(SignIn::KeyVault, args, &[SCHEDULE]);
        command.env("EASM_LOG", "info");
        let done = finish(command).await.expect_code(0);
        for name in ["settings", "schedule", "store", "vault", "identity", "arm", "data-plane"] {
            assert!(done.stdout_text().contains(name), "{name}: {}", done.stdout_text());
        }
        if args.contains(&"--json") {
            let found = examined(done);
            assert!(statuses(&found).values().all(|status| status == "ok"), "{found:#}");
        } else {
            assert!(serde_json::from_slice::<Value>(&done.stdout).is_err(), "for people");
        }
        assert!(cloud.azurite.blobs(&cloud.container).await.is_empty(), "the probe is removed");
    }
    // Whatever it did in the store, it did to its probe.
    let seen = cloud.proxy.seen();
    let written: Vec<_> =
        seen.iter().filter(|seen| !["GET", "HEAD"].contains(&seen.method.as_str())).collect();
    assert!(written.iter().any(|seen| seen.method == "DELETE"), "{written:#?}");
    assert!(written.iter().all(|seen| seen.path.contains("/_doctor%2F")), "{written:#?}");
    let asked = cloud.world.sim.requests();
    let changing =
        asked.iter().filter(|seen| seen.method != "GET" && !seen.path.contains("/oauth2/"));
    assert_eq!(changing.count(), 0, "nobody is asked to change anything");
}

#[tokio::test]
async fn what_lies_in_the_store_is_as_it_was() {
    let world = world(30).await;
    super::export(&world, &[], &[]).await;
    let read = || -> BTreeMap<String, Vec<u8>> {
        let files = world.files().into_iter();
        files
            .map(|path| (path.clone(), std::fs::read(world.exports().join(path)).unwrap()))
            .collect()
    };
    let before = read();
    let found = doctor(&world, &[], &[]).await;
    assert_eq!(found["ok"], true, "{found:#}");
    assert_eq!(read(), before);
    let left: Vec<_> =
        std::fs::read_dir(world.exports()).unwrap().flatten().map(|e| e.file_name()).collect();
    assert!(!left.iter().any(|name| name == "_doctor"), "{left:?}");
}

#[tokio::test]
async fn before_the_first_deployment_it_says_what_is_missing_and_makes_none_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let bare = || bare_command(folder.path(), &["doctor", "--json"]);
    let found = examined(finish(bare()).await);
    let settings = check(&found, "settings");
    assert_eq!(settings["status"], "failed");
    for name in ["EASM_TENANT_ID", "EASM_SUBSCRIPTION_ID", "EASM_RESOURCE_GROUP", "EASM_WORKSPACE"]
    {
        assert!(settings["message"].as_str().unwrap().contains(name), "{found:#}");
    }
    assert_eq!(check(&found, "schedule")["status"], "failed");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is made");

    let world = world(5).await;
    let found = doctor(&world, &[], &[("EASM_WORKSPACE", "fabrikam")]).await;
    assert_found(&found, "arm", &["fabrikam", "contoso"], "no such workspace");
    let found = doctor(&world, &[], &[("EASM_RESOURCE_GROUP", "rg-none")]).await;
    assert_found(&found, "arm", &["rg-none"], "no such group");
    assert!(!world.exports().exists(), "no folder is left");

    let test = "before_the_first_deployment_it_says_what_is_missing_and_makes_none_of_it";
    let Some(cloud) = Cloud::new(test, Options { assets: 5, ..Options::default() }).await else {
        return;
    };
    let missing = cloud.azurite.container();
    let url = cloud.store_url().replace(&cloud.container, &missing);
    let vars = [SCHEDULE, ("EASM_STORE_URL", url.as_str())];
    let command = cloud.command(SignIn::ManagedIdentity, &["doctor", "--json"], &vars);
    let found = examined(finish(command).await);
    assert_found(&found, "store", &["container", "create", "EASM_STORE_URL"], "no container");
    assert!(!cloud.azurite.has_container(&missing).await, "it is not made");
}

#[tokio::test]
async fn what_is_wrong_is_found_by_its_check_with_what_to_do() {
    let without_role = || Options {
        identities: Options::default()
            .identities
            .into_iter()
            .map(|identity| easm_export::sim::ManagedIdentity { has_role: false, ..identity })
            .collect(),
        ..Options::default()
    };
    let elsewhere = Options { home_tenant_id: NOBODY.to_owned(), ..Options::default() };
    let region = [("EASM_REGION", "westeurope")];
    type Case<'a> = (Options, &'a [(&'a str, &'a str)], &'a str, &'a [&'a str]);
    let healthy = Options::default;
    let cases: [Case<'_>; 12] = [
        (healthy(), &[("EXPORT_SCHEDULE", "")], "schedule", &["EXPORT_SCHEDULE", "0 0 6 * * *"]),
        (
            healthy(),
            &[("EXPORT_SCHEDULE", "0 0 6 * * * *")],
            "schedule",
            &["EXPORT_SCHEDULE", "six"],
        ),
        (healthy(), &[("EXPORT_SCHEDULE", "0 0 25 * * *")], "schedule", &["EXPORT_SCHEDULE"]),
        (healthy(), &[("EASM_FLITER", "x")], "settings", &["EASM_FLITER", "EASM_FILTER"]),
        (healthy(), &[("EASM_FROBNICATE", "x")], "settings", &["EASM_FROBNICATE"]),
        (healthy(), &[("EASM_PAGE_SIZE", "5000")], "settings", &["EASM_PAGE_SIZE", "5000", "100"]),
        (healthy(), &[("EASM_FILTER", "stat ~ 1")], "data-plane", &["filter"]),
        (healthy(), &region, "arm", &["eastus", "westeurope", "EASM_REGION"]),
        (healthy(), &[("EASM_CLIENT_ID", NOBODY)], "identity", &["identity"]),
        (elsewhere, &[], "identity", &["tenant", "federated"]),
        (without_role(), &[], "arm", &["Reader"]),
        (without_role(), &region, "data-plane", &["Reader"]),
    ];
    for (options, vars, name, words) in cases {
        let world = World::new(Options { assets: 5, ..options }).await;
        let found = doctor(&world, &[], vars).await;
        assert_found(&found, name, words, &format!("{vars:?}"));
    }
}

#[tokio::test]
async fn what_is_wrong_with_the_vault_or_the_secret_is_found() {
    let test = "what_is_wrong_with_the_vault_or_the_secret_is_found";
    type Make = fn(&World);
    let cases: [(&str, Make, &str, &[&str]); 3] = [
        ("no role", |_| {}, "vault", &["Key Vault Secrets User"]),
        (
            "deleted",
            |world| world.sim.state().delete_secret(CLIENT_SECRET_NAME),
            "vault",
            &[CLIENT_SECRET_NAME, "EASM_CLIENT_SECRET_NAME"],
        ),
        (
            "firewall",
            |world| world.sim.state().set_vault_refusal(Some(VaultRefusal::Firewall)),
            "vault",
            &["network"],
        ),
    ];
    for (case, make, name, words) in cases {
        let Some(cloud) = Cloud::new(test, Options { assets: 5, ..Options::default() }).await
        else {
            return;
        };
        make(&cloud.world);
        let mut vars = vec![SCHEDULE];
        if case == "no role" {
            vars.push(("EASM_IDENTITY_CLIENT_ID", OTHER_IDENTITY));
        }
        let command = cloud.command(SignIn::KeyVault, &["doctor", "--json"], &vars);
        let found = examined(finish(command).await);
        assert_found(&found, name, words, case);
        let of_target =
            ["identity", "arm", "data-plane"].map(|name| check(&found, name)["status"].clone());
        assert_eq!(of_target, ["skipped"; 3], "{case}: they need the secret");
        assert_eq!(check(&found, "store")["status"], "ok", "{case}");
    }
}

#[tokio::test]
async fn a_function_that_is_open_to_anybody_is_named() {
    let world = world(5).await;
    let root = world.folder.path().join("root");
    let open = json!({"bindings": [{"type": "httpTrigger", "direction": "in", "name": "req",
        "authLevel": "anonymous", "route": "assets"}, {"type": "http", "direction": "out", "name": "res"}]});
    for name in ["Health", "Assets"] {
        std::fs::create_dir_all(root.join(name)).unwrap();
        // Each at its own route.
        let open = open.to_string().replace("assets", &name.to_lowercase());
        std::fs::write(root.join(name).join("function.json"), open).unwrap();
    }
    std::fs::write(root.join("host.json"), "{\"version\": \"2.0\"}").unwrap();
    let vars = [("FUNCTIONS_APP_ROOT_PATH", root.to_str().unwrap())];
    let found = doctor(&world, &[], &vars).await;
    assert_found(&found, "authorization", &["Assets"], "anonymous");
    assert!(!check(&found, "authorization")["message"].to_string().contains("Health"), "{found:#}");
    std::fs::remove_dir_all(root.join("Assets")).unwrap();
    assert_eq!(doctor(&world, &[], &vars).await["ok"], true);
}

#[tokio::test]
async fn a_setting_of_who_may_call_that_is_wrong_is_named() {
    let world = world(5).await;
    for vars in [("EASM_AUTH", "none"), ("EASM_PRINCIPALS", NOBODY)] {
        let found = doctor(&world, &[], &[vars]).await;
        let failed =
            found["checks"].as_array().unwrap().iter().filter(|check| check["status"] == "failed");
        let text = failed.map(Value::to_string).collect::<String>();
        for word in [vars.0, "entra"] {
            assert!(text.contains(word), "{word}: {found:#}");
        }
    }
}

#[tokio::test]
async fn of_several_targets_each_is_examined_and_one_that_is_wrong_hides_no_other() {
    let world = world(20).await;
    let list = targets(&[
        ("good", json!({"kinds": ["host"]})),
        ("typo", json!({"kinds": ["hostess"]})),
        ("lost", json!({"workspace": "fabrikam"})),
    ]);
    let vars = [("EASM_TARGETS", list.as_str())];
    let found = doctor(&world, &[], &vars).await;
    let of = |name: &str, target: &str| {
        let key = (name.to_owned(), Some(target.to_owned()));
        statuses(&found).get(&key).unwrap_or_else(|| panic!("{key:?} in {found:#}")).clone()
    };
    for name in ["identity", "arm", "data-plane"] {
        assert_eq!(of(name, "good"), "ok", "{name}");
        assert_eq!(of(name, "typo"), "skipped", "{name}");
    }
    assert_eq!([of("settings", "typo"), of("arm", "lost")], ["failed", "failed"]);
    let text = found.to_string();
    for word in ["kinds", "typo", "hostess", "fabrikam"] {
        assert!(text.contains(word), "{word}: {found:#}");
    }
    let found = doctor(&world, &["--target", "LOST"], &vars).await;
    let told = statuses(&found).into_keys().filter(|(name, _)| name != "settings");
    let told: BTreeSet<Option<String>> = told.map(|(_, target)| target).collect();
    assert!(told.iter().flatten().all(|target| target == "lost"), "{found:#}");
    let args = ["doctor", "--target", "nobody"];
    let done = run(&world, &args, &vars).await.expect_code(2);
    assert!(done.error_line().contains("nobody") && done.stdout.is_empty(), "{done:?}");
    for timeout in ["0", "301", "soon", "-1", ""] {
        run(&world, &["doctor", "--timeout", timeout], &vars).await.expect_code(2);
    }
}

/// As of the contract, what is refused in Azure.
#[tokio::test]
async fn a_secret_in_a_target_is_found_in_azure_and_not_on_a_laptop() {
    let world = world(5).await;
    let secret = world.sim.settings_for(SignIn::ClientSecret);
    let value = |name: &str| secret.iter().find(|(n, _)| *n == name).unwrap().1.clone();
    let members = json!({"credential": "client-secret", "clientId": value("EASM_CLIENT_ID"),
        "clientSecret": value("EASM_CLIENT_SECRET")});
    let list = targets(&[("open", json!({})), ("closed", members)]);
    let (entra, ca) = (value("AZURE_AUTHORITY_HOST"), value("SSL_CERT_FILE"));
    let vars =
        [("EASM_TARGETS", list.as_str()), ("AZURE_AUTHORITY_HOST", &entra), ("SSL_CERT_FILE", &ca)];
    let found = doctor(&world, &[], &vars).await;
    assert_eq!(found["ok"], true, "{found:#}");
    let found = doctor(&world, &[], &[&vars[..], &IN_AZURE].concat()).await;
    let told = found.to_string();
    assert!(told.contains("clientSecret of target closed"), "{found:#}");
    assert!(!told.contains(&value("EASM_CLIENT_SECRET")[..16]), "{found:#}");
    let ok = ("identity".to_owned(), Some("open".to_owned()));
    assert_eq!(statuses(&found)[&ok], "ok", "{found:#}");
}

/// Commands with whatever signs in, at the lowest level of the log.
fn commands(cloud: &Cloud, endpoint: &str) -> Vec<(SignIn, Command)> {
    let args: [&[&str]; 2] = [&["doctor", "--json"], &["doctor"]];
    let all = SignIn::ALL.into_iter().flat_map(|sign_in| args.map(|args| (sign_in, args)));
    all.map(|(sign_in, args)| {
        let mut command = cloud.command(sign_in, args, &[SCHEDULE, ("EASM_LOG", "trace")]);
        if sign_in != SignIn::WorkloadIdentity {
            command.env("IDENTITY_ENDPOINT", endpoint);
        }
        (sign_in, command)
    })
    .collect()
}

#[tokio::test]
async fn whoever_repeats_what_was_sent_no_secret_is_told() {
    let test = "whoever_repeats_what_was_sent_no_secret_is_told";
    for path in ["/providers/", "/assets", "/oauth2/", "/secrets/", "nowhere"] {
        let script = vec![Scripted {
            path_contains: path.to_owned(),
            query_contains: String::new(),
            from: 0,
            times: u64::MAX,
            fault: Fault::EchoToken(403),
        }];
        let options = Options { assets: 5, script, ..Options::default() };
        let Some(cloud) = Cloud::new(test, options).await else { return };
        let (endpoint, issued) = noting_identity_endpoint(&cloud.world.sim).await;
        let of_app = cloud.world.sim.settings_for(SignIn::ClientSecret);
        let mut secrets = vec![cloud.world.sim.workload_token()];
        let named = ["EASM_CLIENT_SECRET", "IDENTITY_HEADER"];
        for (_, value) in
            of_app.into_iter().chain(cloud.world.sim.settings()).filter(|(n, _)| named.contains(n))
        {
            secrets.push(value);
        }
        for (sign_in, command) in commands(&cloud, &endpoint) {
            let done = finish(command).await;
            assert!([0, 3].contains(&done.code), "{path} {sign_in:?}: {}", done.stderr);
            let tokens =
                cloud.world.sim.requests().into_iter().filter_map(|seen| seen.authorization);
            let tokens = tokens.map(|text| text.trim_start_matches("Bearer ").to_owned());
            let all: Vec<String> = secrets
                .iter()
                .cloned()
                .chain(tokens)
                .chain(issued.lock().unwrap().clone())
                .collect();
            let windows = windows(&all);
            for text in [&done.stdout[..], done.stderr.as_bytes()] {
                let told = leak(text, &windows);
                assert!(told.is_none(), "{path} {sign_in:?}: {told:?}");
            }
        }
    }
}
