//! What was left half done is done by the next command.

use easm_export::sim::Options;
use reqwest::Method;
use serde_json::Value;

use super::run;
use super::store::{
    assert_one_whole_run, assert_whole_run, blobs, export_to, json, killed_at_a_request_that_hangs,
    scripted,
};
use crate::azurite::{ACCOUNT, Azurite};
use crate::proxy::{Proxy, ProxyFault, ProxyOptions, ScriptedFault};
use crate::support::World;

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

/// The two ways to die right after a commit.
fn deaths() -> [(&'static str, Vec<ScriptedFault>); 2] {
    let hang = |part, from| scripted(part, from, 1, ProxyFault::Hang);
    let lost = scripted("/manifest.json", 0, 1, ProxyFault::CutAfter);
    let mut after_lost = hang("/manifest.json", 0);
    // What follows an answer that is lost is a look, or the same once more.
    after_lost.method = Method::GET;
    [
        ("before latest.json", vec![hang("/latest.json", 0)]),
        ("before the answer", vec![lost, after_lost, hang("/manifest.json", 1)]),
    ]
}

#[tokio::test]
async fn after_a_kill_between_manifest_and_latest_the_next_export_is_the_latest() {
    let test = "after_a_kill_between_manifest_and_latest_the_next_export_is_the_latest";
    let Some(azurite) = Azurite::http(test) else { return };
    for (case, script) in deaths() {
        let container = azurite.container();
        killed(azurite, &container, script).await;
        let world = World::new(small()).await;
        let manifest = export_to(&world, &azurite.store_url(&container), &[]).await;
        let stored = blobs(azurite, &container, "").await;
        assert_whole_run(&stored, &manifest, &world.sim.inventory().ndjson(""), case);
    }
}

#[tokio::test]
async fn a_kill_between_manifest_and_latest_is_repaired_by_the_next_command() {
    let test = "a_kill_between_manifest_and_latest_is_repaired_by_the_next_command";
    let Some(azurite) = Azurite::http(test) else { return };
    for (case, script) in deaths() {
        let container = azurite.container();
        let manifest = killed(azurite, &container, script).await;
        let world = World::new(small()).await;
        let url = azurite.store_url(&container);
        // Of another request than the target's own, so not the latest itself.
        let vars = [("EASM_STORE_URL", url.as_str())];
        run(&world, &["export", "--kind", "host"], &vars).await.expect_code(0);
        let stored = blobs(azurite, &container, "").await;
        let latest =
            stored.get("contoso/latest.json").map(|_| json(&stored, "contoso/latest.json"));
        let named = latest.unwrap_or_else(|| panic!("{case}: no latest.json"))["runId"].clone();
        assert_eq!(named, manifest["runId"], "{case}");
    }
}

#[tokio::test]
async fn a_list_of_blocks_that_is_garbled_once_on_its_way_does_not_end_the_run() {
    let test = "a_list_of_blocks_that_is_garbled_once_on_its_way_does_not_end_the_run";
    let Some(azurite) = Azurite::http(test) else { return };
    let world = World::new(Options { asset_bytes: 8192, ..small() }).await;
    let garbled = scripted("/part-", 0, 1, ProxyFault::CorruptBody);
    let script = vec![ScriptedFault { query_contains: "comp=blocklist".to_owned(), ..garbled }];
    let proxy = Proxy::start(ProxyOptions { script, ..ProxyOptions::new(azurite.base()) });
    let container = azurite.container();
    let url = format!("{}/{ACCOUNT}/{container}", proxy.url());
    let manifest = export_to(&world, &url, &[("EASM_COMPRESSION", "none")]).await;
    assert!(proxy.seen().iter().any(|seen| seen.fault.is_some()), "one was garbled");
    let stored = blobs(azurite, &container, "").await;
    assert_one_whole_run(&stored, &manifest, &world.sim.inventory().ndjson(""), "garbled");
}
