//! What a kill right after the commit leaves behind does no harm.

use easm_export::sim::Options;
use reqwest::Method;
use serde_json::Value;

use super::store::{
    assert_whole_run, blobs, export_to, json, killed_at_a_request_that_hangs, scripted,
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
    after_lost.method = Method::HEAD;
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
