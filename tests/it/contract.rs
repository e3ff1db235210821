//! What the contract promises, seen from outside: documents, layout, settings, requests, verdicts.
//! Written from the contract alone; documents are read as JSON, not as the program's own types.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use easm_export::sim::{self, Fault, Options, Scripted};
use serde_json::{Value, json};

use crate::support::{Done, World, assert_same_lines, finish};

mod apart;
mod doctor;
mod doctor_store;
mod ends;
mod entra;
mod functions;
mod functions_assets;
mod functions_entra;
pub mod functions_host;
mod functions_life;
pub mod functions_payload;
mod functions_protocol;
mod functions_told;
mod identity;
mod refusals;
mod repair;
mod runs;
mod secrets;
mod settings;
pub mod store;
mod targets;
mod targets_functions;
mod targets_runs;
mod workspace;

const KINDS: [&str; 8] =
    ["as", "contact", "domain", "host", "ipAddress", "ipBlock", "page", "sslCert"];
const RUN_ID: &str = "00000000T000000Z-xxxxxxxx";

async fn world(assets: u64) -> World {
    World::new(Options { assets, asset_bytes: 900, ..Options::default() }).await
}

async fn run(world: &World, args: &[&str], vars: &[(&str, &str)]) -> Done {
    let mut command = world.command(args);
    command.envs(vars.iter().copied());
    finish(command).await
}

/// The manifest that `export --json` prints.
async fn export(world: &World, args: &[&str], vars: &[(&str, &str)]) -> Value {
    let done = run(world, &[&["export", "--json"], args].concat(), vars).await.expect_code(0);
    serde_json::from_slice(&done.stdout).unwrap()
}

/// Whether `text` is like `pattern`: `0` stands for a digit, `x` for a lower-case hex digit.
fn fits(pattern: &str, text: &str) -> bool {
    let like = |(p, c): (u8, u8)| match p {
        b'0' => c.is_ascii_digit(),
        b'x' => c.is_ascii_digit() || (b'a'..=b'f').contains(&c),
        _ => p == c,
    };
    pattern.len() == text.len() && pattern.bytes().zip(text.bytes()).all(like)
}

/// Fails unless `value` is an object with exactly the members of `shape`, of the same types.
/// `"time"` stands for a UTC time, `"run id"` for a run id, `"sha256"` for one.
#[track_caller]
fn assert_shape(value: &Value, shape: &Value, at: &str) {
    match (shape, value) {
        (Value::Object(wanted), Value::Object(found)) => {
            let names = |map: &serde_json::Map<String, Value>| {
                map.keys().cloned().collect::<BTreeSet<String>>()
            };
            assert_eq!(names(found), names(wanted), "members of {at}");
            for (name, inner) in wanted {
                assert_shape(&found[name], inner, &format!("{at}.{name}"));
            }
        }
        (Value::Array(wanted), Value::Array(found)) => {
            for item in found {
                assert_shape(item, &wanted[0], &format!("{at}[]"));
            }
        }
        (Value::String(wanted), Value::String(found)) => assert!(
            match wanted.as_str() {
                "time" =>
                    fits("0000-00-00T00:00:00Z", found) || fits("0000-00-00T00:00:00.000Z", found),
                "run id" => fits(RUN_ID, found),
                "sha256" => fits(&"x".repeat(64), found),
                _ => true,
            },
            "{at} is no {wanted}: {found}"
        ),
        (Value::Number(_), Value::Number(found)) => assert!(found.is_u64(), "{at}: {found}"),
        (Value::Null, Value::Null) => {}
        _ => panic!("{at} is of another type: {value}"),
    }
}

/// Fails unless the files of `manifest` are `truth`, and the books agree with them.
#[track_caller]
fn assert_whole(world: &World, manifest: &Value, truth: &[Vec<u8>], case: &str) {
    let lines = world.lines(&serde_json::from_value(manifest.clone()).unwrap());
    assert_same_lines(&lines, truth, case);
    let counts = &manifest["counts"]["assets"];
    assert_eq!(counts["exported"], lines.len(), "{case}");
    let mut by_kind = BTreeMap::new();
    for line in &lines {
        let asset: Value = serde_json::from_slice(line).unwrap();
        *by_kind.entry(asset["kind"].as_str().unwrap().to_owned()).or_insert(0_u64) += 1;
    }
    let mut said: BTreeMap<String, u64> = serde_json::from_value(counts["byKind"].clone()).unwrap();
    said.retain(|_, n| *n > 0);
    assert_eq!(said, by_kind, "{case}");
    let of_run = format!("/run={}/", manifest["runId"].as_str().unwrap());
    let stored: BTreeSet<String> =
        world.files().into_iter().filter(|path| path.contains(&of_run)).collect();
    let files = manifest["files"].as_array().unwrap();
    let listed = files.iter().map(|file| file["path"].as_str().unwrap().to_owned());
    assert_eq!(stored, listed.collect(), "{case}: parts");
    assert_eq!(stored.len(), files.len(), "{case}: a part is listed twice");
}

#[tokio::test]
async fn the_manifest_has_the_members_and_types_of_the_contract() {
    let world = world(120).await;
    let manifest = export(&world, &[], &[]).await;
    let by_kind: Value = KINDS.iter().map(|kind| ((*kind).to_owned(), json!(0))).collect();
    let shape = json!({
        "schemaVersion": 1, "runId": "run id", "target": "", "trigger": "", "slot": null,
        "workspace": {"tenantId": "", "subscriptionId": "", "resourceGroup": "", "workspace": "", "region": ""},
        "request": {"datasets": [""], "filter": "", "kinds": [""], "format": "", "compression": "", "columns": [""]},
        "apiVersion": "", "startedAt": "time", "finishedAt": "time",
        "counts": {"assets": {"expectedAtStart": 0, "expectedAtEnd": 0, "exported": 0,
            "duplicatesDropped": 0, "byKind": by_kind}},
        "completeness": "",
        "files": [{"path": "", "dataset": "", "kind": "", "records": 0, "bytes": 0, "sha256": "sha256"}],
        "tool": {"name": "", "version": ""},
    });
    assert_shape(&manifest, &shape, "manifest");
    let Options { tenant_id, subscription_id, resource_group, workspace, region, .. } =
        Options::default();
    let workspace = json!({"tenantId": tenant_id, "subscriptionId": subscription_id,
        "resourceGroup": resource_group, "workspace": workspace, "region": region});
    assert_eq!(manifest["workspace"], workspace);
    assert_eq!(
        manifest["tool"],
        json!({"name": "easm-export", "version": env!("CARGO_PKG_VERSION")})
    );
    let told = [&manifest["schemaVersion"], &manifest["target"], &manifest["apiVersion"]];
    assert_eq!(told, [&json!(1), &json!("contoso"), &json!("2024-10-01-preview")]);
    assert_ne!(manifest["trigger"], "timer");
    assert!(manifest["startedAt"].as_str() <= manifest["finishedAt"].as_str());
    let run_id = manifest["runId"].as_str().unwrap();
    let stored: Value = world.document(&format!("contoso/runs/{run_id}/manifest.json"));
    assert_eq!(stored, manifest, "what is printed is what is stored");
    assert_whole(&world, &manifest, &world.sim.inventory().ndjson(""), "manifest");
}

#[tokio::test]
async fn the_run_and_latest_have_the_members_of_the_contract() {
    let world = world(60).await;
    let manifest = export(&world, &[], &[]).await;
    let run_id = manifest["runId"].as_str().unwrap();
    let path = format!("contoso/runs/{run_id}/manifest.json");
    let mut run: Value = world.document(&format!("contoso/runs/{run_id}/run.json"));
    let shape = json!({
        "schemaVersion": 1, "runId": "run id", "target": "", "trigger": "", "slot": null,
        "request": {"datasets": [""], "filter": "", "kinds": [""], "format": "", "compression": "", "columns": [""]},
        "status": "", "startedAt": "time", "updatedAt": "time", "finishedAt": "time",
        "progress": {"expected": 0, "exported": 0, "shardsTotal": 0, "shardsDone": 0},
        "manifest": "", "error": null,
    });
    // What the program keeps for itself besides.
    assert_eq!(run.as_object_mut().unwrap().remove("publishes"), Some(json!(true)));
    let workspace = run.as_object_mut().unwrap().remove("workspace").unwrap();
    assert_shape(
        &workspace,
        &json!({ "subscriptionId": "", "resourceGroup": "", "workspace": "", "dataPlaneUrl": "" }),
        "workspace",
    );
    for name in ["subscriptionId", "resourceGroup", "workspace"] {
        assert_eq!(workspace[name], manifest["workspace"][name], "{name}");
    }
    assert_shape(&run, &shape, "run");
    assert_eq!([&run["status"], &run["manifest"]], [&json!("complete"), &json!(path)]);
    assert_eq!([&run["progress"]["expected"], &run["progress"]["exported"]], [60, 60]);
    assert_eq!(run["progress"]["shardsDone"], run["progress"]["shardsTotal"]);
    let latest: Value = world.document("contoso/latest.json");
    let shape = json!({
        "schemaVersion": 1, "runId": "run id", "manifest": "", "startedAt": "time",
        "finishedAt": "time", "completeness": "", "assets": 0,
    });
    assert_shape(&latest, &shape, "latest");
    for name in ["runId", "startedAt", "finishedAt", "completeness"] {
        assert_eq!(latest[name], manifest[name], "{name}");
    }
    assert_eq!([&latest["manifest"], &latest["assets"]], [&json!(path), &json!(60)]);
    for path in world.files().iter().filter(|path| path.ends_with(".json")) {
        assert_eq!(world.document::<Value>(path)["schemaVersion"], 1, "{path}");
    }
}

#[tokio::test]
async fn every_file_lies_where_the_layout_says_and_ends_as_it_is_compressed() {
    for (compression, ending) in [("none", ".ndjson"), ("gzip", ".ndjson.gz")] {
        let world = world(300).await;
        let vars = [("EASM_COMPRESSION", compression), ("EASM_PART_BYTES_MAX", "32768")];
        let manifest = export(&world, &[], &vars).await;
        assert_whole(&world, &manifest, &world.sim.inventory().ndjson(""), compression);
        let id = manifest["runId"].as_str().unwrap();
        let day = format!("date={}-{}-{}", &id[..4], &id[4..6], &id[6..8]);
        for path in world.files() {
            let parts: Vec<&str> = path.split('/').collect();
            let good = match parts.as_slice() {
                ["contoso", "latest.json" | "history.json"] => true,
                ["contoso", "runs", run, "run.json" | "plan.json" | "manifest.json"] => *run == id,
                ["contoso", "runs", run, "checkpoints", shard] => {
                    *run == id && shard.strip_suffix(".json").unwrap().parse::<u32>().is_ok()
                }
                ["contoso", "assets", date, run, kind, part] => {
                    let name = part.strip_prefix("part-").and_then(|p| p.strip_suffix(ending));
                    let numbers: Vec<&str> = name.unwrap_or_default().split('-').collect();
                    *date == day
                        && run.strip_prefix("run=") == Some(id)
                        && kind.strip_prefix("kind=").is_some_and(|kind| KINDS.contains(&kind))
                        && numbers.len() == 3
                        && numbers.iter().all(|number| number.parse::<u32>().is_ok())
                        && numbers[2].len() == 5
                }
                _ => false,
            };
            assert!(good, "{compression}: {path}");
        }
        for file in manifest["files"].as_array().unwrap() {
            let kind = format!("/kind={}/", file["kind"].as_str().unwrap());
            assert!(file["path"].as_str().unwrap().contains(&kind), "{file}");
            assert_eq!(file["dataset"], "assets");
        }
    }
}

#[tokio::test]
async fn a_run_id_is_the_time_of_its_start_and_no_two_are_equal() {
    let world = world(5).await;
    let (mut times, mut ids) = (Vec::new(), BTreeSet::new());
    for _ in 0..4 {
        let manifest = export(&world, &[], &[]).await;
        let id = manifest["runId"].as_str().unwrap().to_owned();
        let start = manifest["startedAt"].as_str().unwrap().replace(['-', ':'], "");
        assert_eq!(id[..15], start[..15], "{id} is of {start}");
        times.push(id[..16].to_owned());
        assert!(ids.insert(id), "an id came twice");
    }
    assert!(times.is_sorted(), "{times:?}");
}

#[tokio::test]
async fn exports_at_the_same_time_into_one_store_do_not_disturb_each_other() {
    let latency = Duration::from_millis(3);
    let options = Options { assets: 200, asset_bytes: 900, latency, ..Options::default() };
    let world = World::new(options).await;
    let vars = [("EASM_PAGE_SIZE", "10")];
    let runs = tokio::join!(
        export(&world, &[], &vars),
        export(&world, &[], &vars),
        export(&world, &["--kind", "host"], &vars),
    );
    let truth = world.sim.inventory().ndjson("");
    assert_whole(&world, &runs.0, &truth, "first");
    assert_whole(&world, &runs.1, &truth, "second");
    let hosts = world.sim.inventory().ndjson("kind = \"host\"");
    assert_whole(&world, &runs.2, &hosts, "hosts");
    let later = runs.0["startedAt"].as_str().max(runs.1["startedAt"].as_str());
    assert_eq!(world.document::<Value>("contoso/latest.json")["startedAt"].as_str(), later);
}

#[tokio::test]
async fn latest_is_never_moved_back_nor_taken_from_a_newer_version() {
    let world = world(30).await;
    export(&world, &[], &[]).await;
    let path = world.exports().join("contoso/latest.json");
    let good: Value = world.document("contoso/latest.json");
    let with = |name: &str, value: Value| {
        let mut changed = good.clone();
        changed[name] = value;
        changed.to_string()
    };
    // What is there, and what the tool says of it.
    let cases: [(String, &[&str]); 3] = [
        (with("startedAt", json!("2999-01-01T00:00:00.000Z")), &[]),
        (with("schemaVersion", json!(99)), &["latest.json", "newer"]),
        ("{\"schemaV".to_owned(), &["latest.json"]),
    ];
    for (text, said) in cases {
        std::fs::write(&path, &text).unwrap();
        let vars = [("EASM_LOG", "warn")];
        let done = run(&world, &["export", "--json"], &vars).await.expect_code(0);
        let manifest: Value = serde_json::from_slice(&done.stdout).unwrap();
        assert_whole(&world, &manifest, &world.sim.inventory().ndjson(""), &text);
        assert!(said.iter().all(|word| done.stderr.contains(word)), "{text}: {}", done.stderr);
        // What to do with a broken one, the contract does not say.
        if serde_json::from_str::<Value>(&text).is_ok() {
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "left alone");
        }
    }
}

#[tokio::test]
async fn a_failed_run_says_why_and_changes_nothing_for_readers() {
    let script = vec![Scripted {
        path_contains: "/assets".to_owned(),
        query_contains: "maxpagesize=3".to_owned(),
        from: 4,
        times: 1000,
        fault: Fault::Status { status: 403, retry_after: None },
    }];
    let world = World::new(Options { assets: 90, script, ..Options::default() }).await;
    export(&world, &[], &[]).await;
    let before = std::fs::read(world.exports().join("contoso/latest.json")).unwrap();
    let done = run(&world, &["export", "--json"], &[("EASM_PAGE_SIZE", "3")]).await.expect_code(1);
    assert!(done.stdout.is_empty(), "{}", done.stdout_text());
    done.error_line();
    let after = std::fs::read(world.exports().join("contoso/latest.json")).unwrap();
    assert_eq!(before, after, "latest");
    let files = world.files();
    assert_eq!(files.iter().filter(|path| path.ends_with("/manifest.json")).count(), 1);
    let failed: Vec<Value> = files
        .iter()
        .filter(|path| path.ends_with("/run.json"))
        .map(|path| world.document::<Value>(path))
        .filter(|run| run["status"] != "complete")
        .collect();
    assert_eq!(failed.len(), 1);
    let run = &failed[0];
    assert_eq!([&run["status"], &run["manifest"]], [&json!("failed"), &Value::Null]);
    assert!(run["error"]["code"].is_string() && run["error"]["message"].is_string(), "{run}");
    assert!(run["finishedAt"].is_string(), "{run}");
}

/// The service's answer without the asset `victim`, which it counts all the same.
async fn without(State(victim): State<String>, request: Request, next: Next) -> Response {
    let (mut parts, body) = next.run(request).await.into_parts();
    let text = to_bytes(body, usize::MAX).await.unwrap();
    let mut answer: Value = serde_json::from_slice(&text).unwrap();
    if let Some(assets) = answer.get_mut("value").and_then(Value::as_array_mut) {
        assets.retain(|asset| asset["id"] != victim);
    }
    parts.headers.remove("content-length");
    Response::from_parts(parts, Body::from(answer.to_string()))
}

#[tokio::test]
async fn fewer_assets_than_counted_are_committed_reported_and_exit_with_3() {
    let truth = world(80).await;
    let victim = truth.sim.inventory().id(7);
    let options = Options { assets: 80, asset_bytes: 900, ..Options::default() };
    let router = sim::router(Arc::new(sim::State::new(options)));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = router.layer(from_fn_with_state(victim, without));
    tokio::spawn(async move { axum::serve(listener, router).await });
    let identity = format!("{url}/msi/token");
    let vars = [
        ("EASM_DATA_PLANE_URL", url.as_str()),
        ("EASM_ARM_URL", &url),
        ("IDENTITY_ENDPOINT", &identity),
        ("EASM_LOG", "warn"),
    ];
    let done = run(&truth, &["export", "--json"], &vars).await.expect_code(3);
    let manifest: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(manifest["completeness"], "mismatch");
    let lines = truth.lines(&serde_json::from_value(manifest.clone()).unwrap());
    assert_whole(&truth, &manifest, &lines, "no part of a re-read is left");
    let counts = &manifest["counts"]["assets"];
    let counts = [&counts["expectedAtStart"], &counts["expectedAtEnd"], &counts["exported"]];
    assert_eq!(counts, [80, 80, 79]);
    let id = manifest["runId"].as_str().unwrap();
    assert!(truth.files().contains(&format!("contoso/runs/{id}/manifest.json")), "committed");
    assert!(!truth.files().contains(&"contoso/latest.json".to_owned()), "not the latest");
    let run: Value = truth.document(&format!("contoso/runs/{id}/run.json"));
    assert_eq!(run["status"], "complete");
    let told = self::run(&truth, &["export"], &vars).await.expect_code(3).stderr;
    let last = told.lines().last().unwrap();
    assert!(last.contains("79") && last.contains("80"), "both numbers are said: {told}");
}

/// An export under faults of all kinds, against one of the same inventory without any.
async fn rough_export(seed: u64, version: (&str, &str)) {
    let calm = Options { seed, assets: 160, asset_bytes: 900, ..Options::default() };
    let rough = Options {
        fault_rate: 0.3,
        duplicates: 0.1,
        revoke_after: Some(seed),
        gzip: seed.is_multiple_of(2),
        whitespace: seed.is_multiple_of(3),
        ..calm.clone()
    };
    let vars = [("EASM_PAGE_SIZE", "20"), version];
    let (calm, rough) = (World::new(calm).await, World::new(rough).await);
    let reference = export(&calm, &[], &vars).await;
    let truth = calm.lines(&serde_json::from_value(reference).unwrap());
    assert_eq!(truth.len(), 160);
    if version.1.is_empty() {
        assert_same_lines(&truth, &calm.sim.inventory().ndjson(""), "without faults");
    }
    let manifest = export(&rough, &[], &vars).await;
    assert_whole(&rough, &manifest, &truth, &format!("SEED={seed}"));
    assert_eq!(manifest["completeness"], "exact", "SEED={seed}");
    assert_ne!(manifest["counts"]["assets"]["duplicatesDropped"], 0, "SEED={seed}");
    assert!(manifest["apiVersion"].as_str().unwrap().contains(version.1), "SEED={seed}");
    assert!(rough.sim.requests().iter().any(|seen| seen.status == 401), "SEED={seed}: revoked");
}

#[tokio::test]
async fn whatever_fails_every_asset_lands_once_in_both_generations() {
    let (new, old) = ("", "2022-11-01-preview");
    // Side by side, since most of their time is pauses. Repeat one with its line alone.
    let cases = [(11, new), (12, new), (13, new), (14, old), (15, old)];
    let all = cases.map(|(seed, version)| rough_export(seed, ("EASM_DP_API_VERSION", version)));
    futures::future::join_all(all).await;
}

#[tokio::test]
async fn an_inventory_that_shrinks_at_any_moment_never_makes_a_torn_run() {
    let mut verdicts = BTreeSet::new();
    for after in [1, 2, 4, 6, 8, 9, 10, 12, 15, 20, 30, 40, 50] {
        let shrink_after = Some((after, 25));
        let options = Options { assets: 200, asset_bytes: 900, shrink_after, ..Options::default() };
        let world = World::new(options).await;
        let manifest = export(&world, &[], &[("EASM_PAGE_SIZE", "5")]).await;
        let lines = world.lines(&serde_json::from_value(manifest.clone()).unwrap());
        assert_whole(&world, &manifest, &lines, &format!("after {after}"));
        let unique: BTreeSet<&Vec<u8>> = lines.iter().collect();
        assert_eq!(unique.len(), lines.len(), "after {after}: doubled");
        let (all, left) =
            (world.sim.inventory().ndjson(""), world.sim.inventory().ndjson_after_shrink(""));
        assert!(lines.iter().all(|line| all.binary_search(line).is_ok()), "after {after}");
        assert!(left.iter().all(|line| unique.contains(line)), "after {after}: one is missing");
        let counts = &manifest["counts"]["assets"];
        let count = |name: &str| counts[name].as_u64().unwrap();
        let (start, end) = (count("expectedAtStart"), count("expectedAtEnd"));
        let moved = start != end || lines.len() as u64 != start;
        let verdict = if moved { "changed" } else { "exact" };
        assert_eq!(manifest["completeness"], verdict, "after {after}: {counts}");
        assert!(lines.len() as u64 >= start.min(end), "after {after}: {counts}");
        verdicts.insert(verdict);
    }
    assert!(verdicts.contains("changed"), "the inventory moved in the middle of a run");
}
