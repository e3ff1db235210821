//! What a kill right after the commit leaves behind does no harm.

use std::collections::BTreeMap;

use easm_export::sim::Options;
use reqwest::Method;
use serde_json::Value;

use super::store::{
    assert_whole_run, blobs, export_to, json, killed_at_a_request_that_hangs, scripted,
};
use crate::azurite::{ACCOUNT, Azurite};
use crate::proxy::{Proxy, ProxyFault, ProxyOptions, ScriptedFault};
use crate::support::{World, finish};

fn small() -> Options {
    Options { assets: 120, asset_bytes: 900, ..Options::default() }
}

/// The manifest of the run that was killed when `script` made a request hang.
async fn killed(azurite: &Azurite, container: &str, script: Vec<ScriptedFault>) -> Value {
    let world = World::new(small()).await;
    let proxy = Proxy::start(ProxyOptions { script, ..ProxyOptions::new(azurite.base()) });
    let mut command = world.command(&["export", "--json"]);
    command.env("EASM_STORE_URL", format!("{}/{ACCOUNT}/{container}", proxy.url()));
    killed_at_a_request_that_hangs(command, &proxy).await;
    let left = blobs(azurite, container, "").await;
    let paths: Vec<&String> = left.keys().filter(|path| path.ends_with("/manifest.json")).collect();
    assert_eq!(paths.len(), 1, "it is committed: {:?}", left.keys());
    json(&left, paths[0])
}

/// Looks at a manifest, by method, that an export sends before it commits.
async fn looks_before_the_commit(azurite: &Azurite) -> Vec<(Method, u64)> {
    let world = World::new(small()).await;
    let proxy = Proxy::start(ProxyOptions::new(azurite.base()));
    let url = format!("{}/{ACCOUNT}/{}", proxy.url(), azurite.container());
    export_to(&world, &url, &[]).await;
    let seen = proxy.seen();
    let of_manifest = seen.iter().filter(|request| request.path.ends_with("manifest.json"));
    let before: Vec<&Method> = of_manifest
        .map(|request| &request.method)
        .take_while(|method| *method != Method::PUT)
        .collect();
    let n_of = |method: &Method| before.iter().filter(|found| **found == method).count() as u64;
    [Method::GET, Method::HEAD].map(|method| (method.clone(), n_of(&method))).to_vec()
}

/// The two ways to die right after a commit.
async fn deaths(azurite: &Azurite) -> [(&'static str, Vec<ScriptedFault>); 2] {
    let hang = |part, from| scripted(part, from, 1, ProxyFault::Hang);
    let lost = scripted("/manifest.json", 0, 1, ProxyFault::CutAfter);
    let mut unheard = vec![lost, hang("/manifest.json", 1)];
    // What follows an answer that is lost is a look, or the same once more.
    for (method, n_before) in looks_before_the_commit(azurite).await {
        unheard.push(ScriptedFault { method, ..hang("/manifest.json", n_before) });
    }
    [("before latest.json", vec![hang("/latest.json", 0)]), ("before the answer", unheard)]
}

#[tokio::test]
async fn after_a_kill_between_manifest_and_latest_the_next_export_is_the_latest() {
    let test = "after_a_kill_between_manifest_and_latest_the_next_export_is_the_latest";
    let Some(azurite) = Azurite::http(test) else { return };
    for (case, script) in deaths(azurite).await {
        let container = azurite.container();
        killed(azurite, &container, script).await;
        let world = World::new(small()).await;
        let manifest = export_to(&world, &azurite.store_url(&container), &[]).await;
        let stored = blobs(azurite, &container, "").await;
        assert_whole_run(&stored, &manifest, &world.sim.inventory().ndjson(""), case);
    }
}

/// Fails unless what was left of the run of `manifest` is repaired: it is the latest, its run.json is
/// complete, the history tells it once, and nothing is in work.
#[track_caller]
fn assert_repaired(stored: &BTreeMap<String, Vec<u8>>, manifest: &Value, case: &str) {
    let id = manifest["runId"].as_str().unwrap();
    assert_eq!(json(stored, "contoso/latest.json")["runId"], id, "{case}");
    let document = json(stored, &format!("contoso/runs/{id}/run.json"));
    assert_eq!(document["status"], "complete", "{case}: {document}");
    assert_eq!(document["manifest"], format!("contoso/runs/{id}/manifest.json"), "{case}");
    let history = json(stored, "contoso/history.json");
    let told = history["runs"].as_array().unwrap().iter().filter(|run| run["runId"] == id);
    assert_eq!(told.count(), 1, "{case}: {history}");
    let active = stored.keys().find(|path| path.starts_with("contoso/active/"));
    assert_eq!(active, None, "{case}");
}

#[tokio::test]
async fn after_a_kill_between_manifest_and_latest_whichever_command_comes_next_repairs() {
    let test = "after_a_kill_between_manifest_and_latest_whichever_command_comes_next_repairs";
    let Some(azurite) = Azurite::http(test) else { return };
    for (death, script) in deaths(azurite).await {
        for args in [&["export", "--kind", "host"][..], &["runs", "list"]] {
            let case = format!("{death}, then {args:?}");
            let container = azurite.container();
            let manifest = killed(azurite, &container, script.clone()).await;
            let world = World::new(small()).await;
            let mut command = world.command(args);
            command.env("EASM_STORE_URL", azurite.store_url(&container));
            finish(command).await.expect_code(0);
            let stored = blobs(azurite, &container, "").await;
            assert_repaired(&stored, &manifest, &case);
            let truth = world.sim.inventory().ndjson("");
            assert_whole_run(&stored, &manifest, &truth, &case);
        }
    }
}

/// `--resume` and an equal export find it complete, and print it.
#[tokio::test]
async fn a_run_whose_process_died_after_the_commit_is_resumed_by_printing_it() {
    let test = "a_run_whose_process_died_after_the_commit_is_resumed_by_printing_it";
    let Some(azurite) = Azurite::http(test) else { return };
    for (case, script) in deaths(azurite).await {
        let container = azurite.container();
        let manifest = killed(azurite, &container, script).await;
        let world = World::new(small()).await;
        let id = manifest["runId"].as_str().unwrap();
        let mut command = world.command(&["export", "--json", "--resume", id]);
        command.env("EASM_STORE_URL", azurite.store_url(&container));
        let done = finish(command).await.expect_code(0);
        assert_eq!(serde_json::from_slice::<Value>(&done.stdout).unwrap(), manifest, "{case}");
        assert!(!world.sim.requests().iter().any(|seen| seen.query.contains("mark=")), "{case}");
        let stored = blobs(azurite, &container, "").await;
        assert_repaired(&stored, &manifest, case);
    }
}
