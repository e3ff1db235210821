//! What the contract promises to programs that read the store, and to those who set settings.

use easm_export::model::manifest::{Completeness, Manifest};
use easm_export::sim::Options;
use serde_json::Value;

use crate::support::{World, assert_same_lines, finish};

fn members(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

fn sorted(names: &str) -> Vec<&str> {
    let mut names: Vec<&str> = names.split_whitespace().collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn documents_have_the_members_of_the_contract() {
    let world = World::new(Options { assets: 120, ..Options::default() }).await;
    let manifest = world.export(&[], 0).await;
    let id = manifest.run_id.as_str();
    let found: Value = world.document(&format!("contoso/runs/{id}/manifest.json"));
    let check = |value: &Value, names: &str| assert_eq!(members(value), sorted(names));
    check(
        &found,
        "schemaVersion runId target trigger slot workspace request apiVersion startedAt finishedAt \
         counts completeness files tool",
    );
    check(&found["workspace"], "tenantId subscriptionId resourceGroup workspace region");
    check(&found["request"], "datasets filter kinds format compression columns");
    check(
        &found["counts"]["assets"],
        "expectedAtStart expectedAtEnd exported duplicatesDropped byKind",
    );
    check(&found["files"][0], "path dataset kind records bytes sha256");
    check(&found["tool"], "name version");
    assert_eq!((&found["schemaVersion"], &found["slot"]), (&1.into(), &Value::Null));
    assert_eq!((&found["trigger"], &found["completeness"]), (&"cli".into(), &"exact".into()));
    let sha256 = found["files"][0]["sha256"].as_str().unwrap();
    assert!(sha256.len() == 64 && sha256.chars().all(|c| "0123456789abcdef".contains(c)));
    let (time, tail) = id.split_once('-').unwrap();
    assert!(time.len() == 16 && time.ends_with('Z') && tail.len() == 8, "{id}");
    let by_kind = found["counts"]["assets"]["byKind"].as_object().unwrap();
    assert_eq!(by_kind.values().map(|n| n.as_u64().unwrap()).sum::<u64>(), 120);

    let run: Value = world.document(&format!("contoso/runs/{id}/run.json"));
    check(
        &run,
        "schemaVersion runId target trigger slot request status startedAt updatedAt finishedAt \
         progress manifest error",
    );
    check(&run["progress"], "expected exported shardsTotal shardsDone");
    let latest: Value = world.document("contoso/latest.json");
    check(&latest, "schemaVersion runId manifest startedAt finishedAt completeness assets");
}

#[tokio::test]
async fn exports_at_the_same_time_do_not_disturb_each_other() {
    let latency = std::time::Duration::from_millis(20);
    let world = World::new(Options { assets: 900, latency, ..Options::default() }).await;
    let exports = (0..4).map(|_| world.export(&[], 0));
    let manifests = futures::future::join_all(exports).await;
    let truth = world.sim.inventory().ndjson("");
    for manifest in &manifests {
        assert_eq!(manifest.completeness, Completeness::Exact);
        assert_same_lines(&world.lines(manifest), &truth, manifest.run_id.as_str());
    }
    let newest = manifests.iter().map(|manifest| manifest.started_at).max();
    assert_eq!(Some(world.latest().started_at), newest);
}

#[tokio::test]
async fn a_latest_that_is_newer_or_not_ours_to_read_is_left_alone() {
    let world = World::new(Options { assets: 60, ..Options::default() }).await;
    world.export(&[], 0).await;
    let place = world.exports().join("contoso/latest.json");
    let own: Value = world.document("contoso/latest.json");
    let with = |name: &str, value: Value| {
        let mut changed = own.clone();
        changed[name] = value;
        serde_json::to_string(&changed).unwrap()
    };
    let table = [
        (with("startedAt", "2999-01-01T00:00:00Z".into()), ""),
        (with("schemaVersion", 99.into()), "newer version"),
        ("not JSON".to_owned(), "latest.json"),
    ];
    for (content, words) in table {
        std::fs::write(&place, &content).unwrap();
        let mut command = world.command(&["export", "--json"]);
        command.env("EASM_LOG", "warn");
        let done = finish(command).await.expect_code(0);
        let manifest: Manifest = serde_json::from_slice(&done.stdout).unwrap();
        // The run itself is complete all the same.
        assert!(world.run_document(&manifest).manifest.is_some());
        assert_eq!(std::fs::read_to_string(&place).unwrap(), content);
        assert!(done.stderr.contains(words), "{words}: {}", done.stderr);
    }
}

#[tokio::test]
async fn settings_change_how_assets_are_read_and_not_which() {
    let world = World::new(Options { assets: 700, duplicates: 0.02, ..Options::default() }).await;
    let truth = world.sim.inventory().ndjson("");
    let table: &[&[(&str, &str)]] = &[
        &[("EASM_PAGE_SIZE", "7")],
        &[("EASM_SHARDS", "1")],
        &[("EASM_CONCURRENCY", "1"), ("EASM_SHARDS", "64")],
        &[("EASM_SHARDS", "3"), ("EASM_PART_BYTES_MAX", "32768")],
        &[("EASM_COMPRESSION", "none")],
        &[("EASM_STORE_URL", "a folder/größe")],
    ];
    for vars in table {
        let mut command = world.command(&["export", "--stdout", "--compression", "none"]);
        command.envs(vars.iter().copied());
        let done = finish(command).await.expect_code(0);
        let mut lines: Vec<Vec<u8>> =
            done.stdout_text().lines().map(|line| line.as_bytes().to_vec()).collect();
        lines.sort();
        assert_same_lines(&lines, &truth, &format!("{vars:?}"));
        let mut command = world.command(&["export", "--json"]);
        command.envs(vars.iter().copied());
        let done = finish(command).await.expect_code(0);
        let manifest: Manifest = serde_json::from_slice(&done.stdout).unwrap();
        assert_eq!(manifest.counts["assets"].exported, 700, "{vars:?}");
        assert_eq!(manifest.completeness, Completeness::Exact, "{vars:?}");
    }
    assert!(world.folder.path().join("a folder/größe/contoso/latest.json").is_file());
}

#[tokio::test]
async fn without_a_filter_only_what_is_confirmed_is_exported() {
    let world = World::new(Options { assets: 300, ..Options::default() }).await;
    let mut command = world.command(&["export", "--json"]);
    command.env_remove("EASM_FILTER");
    let done = finish(command).await.expect_code(0);
    let manifest: Manifest = serde_json::from_slice(&done.stdout).unwrap();
    let truth = world.sim.inventory().ndjson("state = \"confirmed\"");
    assert!(truth.len() < 300);
    assert_same_lines(&world.lines(&manifest), &truth, "default filter");
    assert_eq!(world.latest().run_id, manifest.run_id, "that is the target's own request");
}

#[tokio::test]
async fn requests_are_those_of_the_reference() {
    let world = World::new(Options { assets: 500, ..Options::default() }).await;
    world.export(&[], 0).await;
    let seen = world.sim.requests();
    let of_data: Vec<_> = seen.iter().filter(|seen| seen.path.ends_with("/assets")).collect();
    for seen in &of_data {
        assert!(seen.query.contains("api-version=2024-10-01-preview"), "{}", seen.query);
        assert!(!seen.query.contains("skip="), "{}", seen.query);
        let token = seen.authorization.as_deref().unwrap().replace("Bearer ", "");
        assert!(!seen.query.contains(&token), "a token in a query");
    }
    let n_cursors = of_data.iter().filter(|seen| seen.query.contains("mark=*")).count();
    assert_eq!(n_cursors, 8, "one cursor for each kind");
    assert!(seen.iter().any(|seen| seen.path.contains("Microsoft.Easm")), "ARM is asked");

    let world = World::new(Options { assets: 50, ..Options::default() }).await;
    let mut command = world.command(&["export", "--json", "--target", "CONTOSO"]);
    command.env("EASM_REGION", "westus3");
    let done = finish(command).await.expect_code(0);
    let manifest: Manifest = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(manifest.workspace.region, "westus3");
    let seen = world.sim.requests();
    assert!(!seen.iter().any(|seen| seen.path.contains("Microsoft.Easm")), "ARM is not asked");
}
