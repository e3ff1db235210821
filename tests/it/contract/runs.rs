//! `runs list`, `show`, `files`, `verify` and `publish`, and the documents they read: what the
//! contract says of them, seen from outside.

use std::collections::BTreeSet;
use std::time::Duration;

use easm_export::model::history::{Entry, History};
use easm_export::model::run::{RunId, Status, Trigger};
use easm_export::sim::Options;
use reqwest::Method;
use serde_json::{Value, json};

use super::store::{blobs, export_to};
use super::{assert_shape, export, run, world};
use crate::azurite::{Azurite, blob_path, expect_status, plain_client, signed};
use crate::support::{Done, World, finish, hex};

/// An id that a run could have.
const UNKNOWN: &str = "20200101T000000Z-0a1b2c3d";
/// After that it is another second.
const SECOND: Duration = Duration::from_millis(1001);

pub fn id_of(manifest: &Value) -> &str {
    manifest["runId"].as_str().unwrap()
}

/// What a command prints with `--json`.
pub async fn printed(world: &World, args: &[&str]) -> Value {
    let done = world.run(&[args, &["--json"]].concat()).await.expect_code(0);
    serde_json::from_slice(&done.stdout).unwrap()
}

/// Ids that `runs list --json` prints, in its order.
pub async fn listed(world: &World) -> Vec<String> {
    let list = printed(world, &["runs", "list"]).await;
    assert_eq!(list.as_object().unwrap().keys().collect::<Vec<_>>(), ["value"]);
    list["value"].as_array().unwrap().iter().map(|run| id_of(run).to_owned()).collect()
}

pub fn run_json(world: &World, id: &str) -> Value {
    world.document(&format!("contoso/runs/{id}/run.json"))
}

/// Fails unless `document` has every member that the contract names, of the right type.
#[track_caller]
pub fn assert_run_document(document: &Value, status: &str) {
    let mut shape = json!({
        "schemaVersion": 1, "runId": "run id", "target": "", "trigger": "", "slot": null,
        "request": {"datasets": [""], "filter": "", "kinds": [""], "format": "", "compression": "",
            "columns": [""]},
        "status": "", "startedAt": "time", "updatedAt": "time", "finishedAt": "time",
        "progress": {"expected": 0, "exported": 0, "shardsTotal": 0, "shardsDone": 0},
        "manifest": null, "error": null,
    });
    assert_eq!(document["status"], status, "{document}");
    if document["trigger"] == "timer" && document["slot"].is_string() {
        shape["slot"] = json!("time");
    }
    match status {
        "complete" => shape["manifest"] = json!(""),
        "queued" | "running" => shape["finishedAt"] = Value::Null,
        _ => shape["error"] = json!({"code": "", "message": ""}),
    }
    let mut named = serde_json::Map::new();
    for name in shape.as_object().unwrap().keys() {
        let found = document.get(name).unwrap_or_else(|| panic!("no {name}: {document}"));
        named.insert(name.clone(), found.clone());
    }
    if let Some(request) = named["request"].as_object_mut() {
        request.remove("maxAssets");
    }
    if let Some(error) = named.get_mut("error").and_then(Value::as_object_mut) {
        // See `the_error_of_a_run_names_its_incident`.
        error.remove("incident");
    }
    assert_shape(&Value::Object(named), &shape, "run");
}

#[tokio::test]
async fn a_store_without_runs_lists_none() {
    let world = world(10).await;
    let done = world.run(&["runs", "list"]).await.expect_code(0);
    assert_eq!(done.stdout_text(), "");
    assert_eq!(printed(&world, &["runs", "list"]).await, json!({"value": []}));
    assert!(world.sim.requests().is_empty(), "it reads the store alone");
    assert!(world.files().is_empty());
}

#[tokio::test]
async fn an_empty_inventory_is_a_run_like_any_other() {
    let world = world(0).await;
    let manifest = export(&world, &[], &[]).await;
    let id = id_of(&manifest);
    assert_eq!(listed(&world).await, [id]);
    assert_run_document(&printed(&world, &["runs", "show", id]).await, "complete");
    let done = world.run(&["runs", "files", id]).await.expect_code(0);
    assert_eq!(done.stdout_text(), "");
    world.run(&["runs", "verify", id]).await.expect_code(0);
    let done = world.run(&["export", "--resume", id, "--json"]).await.expect_code(0);
    assert_eq!(serde_json::from_slice::<Value>(&done.stdout).unwrap(), manifest);
    assert_eq!(world.document::<Value>("contoso/latest.json")["assets"], 0);
}

#[tokio::test]
async fn runs_are_listed_newest_first_and_shown_as_they_are_stored() {
    let world = world(90).await;
    let mut newest_first = Vec::new();
    for args in [&[][..], &["--kind", "host"], &["--max-assets", "7"], &[]] {
        // For runs of the same second see below.
        tokio::time::sleep(SECOND).await;
        let manifest = export(&world, args, &[]).await;
        newest_first.insert(0, id_of(&manifest).to_owned());
    }
    let n_requests = world.sim.requests().len();
    let list = printed(&world, &["runs", "list"]).await;
    let found = list["value"].as_array().unwrap();
    assert_eq!(found.iter().map(id_of).collect::<Vec<_>>(), newest_first);
    for document in found {
        let id = id_of(document);
        assert_run_document(document, "complete");
        assert_eq!(*document, run_json(&world, id), "{id}");
        assert_eq!(*document, printed(&world, &["runs", "show", id]).await, "{id}");
        let manifest: Value = world.document(document["manifest"].as_str().unwrap());
        for name in ["runId", "target", "trigger", "slot", "request", "startedAt"] {
            assert_eq!(document[name], manifest[name], "{id}: {name}");
        }
        assert_eq!(document["progress"]["exported"], manifest["counts"]["assets"]["exported"]);
        let done = world.run(&["runs", "show", id]).await.expect_code(0);
        assert!(done.stdout_text().contains(id), "{}", done.stdout_text());
        assert!(done.stdout_text().contains("complete"), "{}", done.stdout_text());
    }
    let done = world.run(&["runs", "list"]).await.expect_code(0);
    let lines: Vec<&str> = done.stdout_text().lines().collect();
    assert_eq!(lines.len(), newest_first.len(), "one a line");
    for (line, id) in lines.iter().zip(&newest_first) {
        assert!(line.contains(id.as_str()), "{line}");
    }
    assert_eq!(world.sim.requests().len(), n_requests, "the service is not asked");
}

/// A run that failed at `started_at`, with the id `id`, made from another one's document.
fn store_failed(world: &World, document: &Value, id: &str, started_at: &str) {
    let mut document = document.clone();
    document["runId"] = json!(id);
    document["status"] = json!("failed");
    for name in ["startedAt", "updatedAt", "finishedAt"] {
        document[name] = json!(started_at);
    }
    document["manifest"] = Value::Null;
    document["error"] = json!({"code": "throttled", "message": "made by a test"});
    let folder = world.exports().join(format!("contoso/runs/{id}"));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("run.json"), document.to_string()).unwrap();
    let mut history: History = world.document("contoso/history.json");
    let document = serde_json::from_value(document).unwrap();
    history.put(Entry::of(&document, None));
    let text = serde_json::to_vec(&history).unwrap();
    std::fs::write(world.exports().join("contoso/history.json"), text).unwrap();
}

#[tokio::test]
async fn runs_of_the_same_second_are_listed_newest_first_too() {
    let world = world(5).await;
    let id = id_of(&export(&world, &[], &[]).await).to_owned();
    let document = run_json(&world, &id);
    let second =
        ["20200101T000000Z-33333333", "20200101T000000Z-11111111", "20200101T000000Z-22222222"];
    for (id, millis) in second.iter().zip([900, 500, 100]) {
        store_failed(&world, &document, id, &format!("2020-01-01T00:00:00.{millis}Z"));
    }
    assert_eq!(listed(&world).await, [&id, second[0], second[1], second[2]]);
}

#[tokio::test]
async fn the_history_tells_every_run_once_newest_first() {
    let world = world(40).await;
    let mut newest_first = Vec::new();
    for args in [&[][..], &["--kind", "host"], &[]] {
        newest_first.insert(0, id_of(&export(&world, args, &[]).await).to_owned());
        let history: Value = world.document("contoso/history.json");
        assert_eq!(history["schemaVersion"], 1);
        let runs = history["runs"].as_array().unwrap();
        assert_eq!(runs.iter().map(id_of).collect::<Vec<_>>(), newest_first);
        assert!(runs.iter().all(|run| run["status"] == "complete"), "{history}");
    }
}

#[tokio::test]
async fn the_history_holds_the_last_400_runs() {
    let world = world(5).await;
    let first = export(&world, &[], &[]).await;
    let mut history: History = world.document("contoso/history.json");
    let known = history.runs[0].clone();
    for second in 0..399_i64 {
        let at = easm_export::clock::Timestamp::from_unix_ms(1_600_000_000_000 + second * 1000);
        let at = at.unwrap();
        let run_id = RunId::new(at, 7);
        let (trigger, status) = (Trigger::Timer, Status::Failed);
        let error = Some("throttled".to_owned());
        let (completeness, assets) = (None, None);
        let finished_at = Some(at);
        let slot = Some(at);
        history.put(Entry {
            run_id,
            trigger,
            slot,
            status,
            started_at: at,
            finished_at,
            completeness,
            assets,
            error,
        });
    }
    assert_eq!((history.runs.len(), &history.runs[0]), (400, &known));
    let path = world.exports().join("contoso/history.json");
    std::fs::write(&path, serde_json::to_vec(&history).unwrap()).unwrap();
    let second = export(&world, &[], &[]).await;
    let after: History = world.document("contoso/history.json");
    let newest: Vec<&str> = after.runs.iter().take(2).map(|run| run.run_id.as_str()).collect();
    assert_eq!(newest, [id_of(&second), id_of(&first)]);
    assert_eq!(after.runs.len(), 400);
    assert_eq!(after.runs[2..], history.runs[1..399], "the oldest is gone");
}

/// Path of the folder's file that `line` names.
fn named(line: &str) -> &str {
    line.strip_prefix("file://").unwrap_or(line)
}

#[tokio::test]
async fn the_files_of_a_run_are_printed_one_a_line_and_are_there() {
    let world = world(200).await;
    let manifest = export(&world, &[], &[("EASM_PART_BYTES_MAX", "32768")]).await;
    export(&world, &["--kind", "host"], &[]).await;
    let files = manifest["files"].as_array().unwrap();
    let folder = world.exports().display().to_string();
    for store in [None, Some(folder.clone()), Some(format!("file://{folder}"))] {
        let mut args = vec!["runs", "files", id_of(&manifest)];
        args.extend(store.as_deref().map(|url| ["--store", url]).into_iter().flatten());
        let done = world.run(&args).await.expect_code(0);
        assert_eq!(done.stdout_text().lines().count(), files.len(), "{store:?}");
        for (line, file) in done.stdout_text().lines().zip(files) {
            assert!(line.ends_with(file["path"].as_str().unwrap()), "{line}");
            let bytes = std::fs::read(world.folder.path().join(named(line))).unwrap();
            assert_eq!(bytes.len(), file["bytes"], "{line}");
        }
    }
}

#[tokio::test]
async fn the_urls_of_files_in_azurite_can_be_fetched_as_they_are_printed() {
    use sha2::Digest as _;
    let test = "the_urls_of_files_in_azurite_can_be_fetched_as_they_are_printed";
    let Some(azurite) = Azurite::http(test) else { return };
    let world = world(100).await;
    for tail in ["", "/nightly", "/a%20b/%C3%BC"] {
        let container = azurite.container();
        let url = azurite.store_url(&container) + tail;
        let manifest = export_to(&world, &url, &[]).await;
        let args = ["runs", "files", id_of(&manifest), "--store", &url];
        let done = run(&world, &args, &[]).await.expect_code(0);
        let files = manifest["files"].as_array().unwrap();
        assert_eq!(done.stdout_text().lines().count(), files.len());
        for (line, file) in done.stdout_text().lines().zip(files) {
            let path = line.strip_prefix(&azurite.base()).unwrap_or_else(|| panic!("{line}"));
            let client = plain_client(None);
            let answer =
                signed(&client, &azurite.base(), Method::GET, path, &[], &[], Vec::new()).await;
            let bytes = expect_status(answer.unwrap(), reqwest::StatusCode::OK).await;
            assert_eq!(hex(&sha2::Sha256::digest(&bytes)), file["sha256"], "{line}");
        }
    }
}

#[tokio::test]
async fn a_run_that_is_not_there_ends_every_command_with_1() {
    let world = world(10).await;
    let check = |world, id: &'static str| async move {
        let commands: [&[&str]; 6] = [
            &["runs", "show"],
            &["runs", "files"],
            &["runs", "cancel"],
            &["runs", "publish"],
            &["runs", "verify"],
            &["export", "--resume"],
        ];
        for command in commands {
            for json in [&[][..], &["--json"]] {
                let done = World::run(world, &[command, &[id], json].concat()).await;
                assert_eq!(done.code, 1, "{command:?} {id}: {}", done.stderr);
                assert_eq!(done.stdout_text(), "", "{command:?} {id}");
                assert!(done.error_line().contains(id), "{command:?}: {}", done.stderr);
            }
        }
    };
    check(&world, UNKNOWN).await;
    export(&world, &[], &[]).await;
    let before = world.files();
    check(&world, UNKNOWN).await;
    check(&world, "yesterday").await;
    check(&world, "../contoso").await;
    assert_eq!(world.files(), before, "nothing was written");
}

async fn verified(world: &World, id: &str, code: i32) -> Done {
    world.run(&["runs", "verify", id, "--json"]).await.expect_code(code);
    world.run(&["runs", "verify", id]).await.expect_code(code)
}

#[tokio::test]
async fn verify_finds_a_changed_byte_a_missing_file_and_a_cut_one() {
    let world = world(200).await;
    let manifest = export(&world, &[], &[("EASM_PART_BYTES_MAX", "32768")]).await;
    let id = id_of(&manifest);
    let files = manifest["files"].as_array().unwrap();
    verified(&world, id, 0).await;
    for file in [&files[0], &files[files.len() - 1]] {
        let name = file["path"].as_str().unwrap();
        let path = world.exports().join(name);
        let good = std::fs::read(&path).unwrap();
        let mut changed = good.clone();
        changed[good.len() / 2] ^= 1;
        let longer = [&good[..], b"\n"].concat();
        for bytes in [Some(&changed[..]), Some(&good[..good.len() - 1]), Some(&longer), None] {
            match bytes {
                Some(bytes) => std::fs::write(&path, bytes).unwrap(),
                None => std::fs::remove_file(&path).unwrap(),
            }
            let done = verified(&world, id, 3).await;
            let said = format!("{}{}", done.stdout_text(), done.stderr);
            assert!(said.contains(name), "which file: {said}");
        }
        std::fs::write(&path, &good).unwrap();
    }
    verified(&world, id, 0).await;
}

#[tokio::test]
async fn verify_finds_the_same_in_azurite() {
    let test = "verify_finds_the_same_in_azurite";
    let Some(azurite) = Azurite::http(test) else { return };
    let world = world(60).await;
    let container = azurite.container();
    let url = azurite.store_url(&container) + "/p";
    let manifest = export_to(&world, &url, &[]).await;
    let verify = ["runs", "verify", id_of(&manifest), "--store", &url];
    world.run(&verify).await.expect_code(0);
    let name = format!("p/{}", manifest["files"][0]["path"].as_str().unwrap());
    let good = azurite.get(&container, &name).await.unwrap();
    let mut changed = good.clone();
    changed[good.len() / 2] ^= 1;
    azurite.put(&container, &name, &changed).await;
    world.run(&verify).await.expect_code(3);
    let (client, path) = (plain_client(None), blob_path(&container, &name));
    let answer =
        signed(&client, &azurite.base(), Method::DELETE, &path, &[], &[], Vec::new()).await;
    expect_status(answer.unwrap(), reqwest::StatusCode::ACCEPTED).await;
    world.run(&verify).await.expect_code(3);
    azurite.put(&container, &name, &good).await;
    world.run(&verify).await.expect_code(0);
    assert!(blobs(azurite, &container, "p/").await.contains_key("contoso/latest.json"));
}

fn latest(world: &World) -> Value {
    world.document("contoso/latest.json")
}

#[tokio::test]
async fn another_request_is_published_only_when_asked_for() {
    let world = world(80).await;
    let own = export(&world, &[], &[]).await;
    let hosts = export(&world, &["--kind", "host"], &[]).await;
    let limited = export(&world, &["--max-assets", "3"], &[]).await;
    assert_eq!(latest(&world)["runId"], own["runId"]);
    assert_ne!(limited["runId"], own["runId"]);

    world.run(&["runs", "publish", id_of(&hosts)]).await.expect_code(0);
    let published = latest(&world);
    for name in ["runId", "startedAt", "finishedAt", "completeness"] {
        assert_eq!(published[name], hosts[name], "{name}");
    }
    assert_eq!(published["assets"], hosts["counts"]["assets"]["exported"]);
    let path = format!("contoso/runs/{}/manifest.json", id_of(&hosts));
    assert_eq!(published["manifest"], path);

    let pages = export(&world, &["--kind", "page", "--publish"], &[]).await;
    assert_eq!(latest(&world)["runId"], pages["runId"], "by --publish");
    // It only moves forward.
    let before = latest(&world);
    let done = world.run(&["runs", "publish", id_of(&own)]).await;
    assert_ne!(done.code, 0, "latest.json does not name it, and nobody is told that it does");
    assert_eq!(latest(&world), before);
    world.run(&["runs", "publish", id_of(&pages)]).await.expect_code(0);
    assert_eq!(latest(&world), before, "the same once more");
    let next = export(&world, &[], &[]).await;
    assert_eq!(latest(&world)["runId"], next["runId"]);
}

#[tokio::test]
async fn the_same_request_spelt_by_flags_is_the_targets_own() {
    let world = world(60).await;
    let mut command = world.command(&["export", "--json", "--filter", "", "--format", "ndjson"]);
    command.env("EASM_FILTER", "");
    let done = finish(command).await.expect_code(0);
    let manifest: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(latest(&world)["runId"], manifest["runId"]);
    let all = "sslCert,page,ipBlock,ipAddress,host,domain,contact,as";
    let manifest = export(&world, &["--kind", all], &[]).await;
    assert_eq!(latest(&world)["runId"], manifest["runId"]);
}

#[tokio::test]
async fn a_complete_run_that_is_resumed_is_printed_and_nothing_is_done() {
    let world = World::new(Options { assets: 60, asset_bytes: 900, ..Options::default() }).await;
    let manifest = export(&world, &[], &[]).await;
    let id = id_of(&manifest);
    let (files, n_requests) = (world.files(), world.sim.requests().len());
    let done = world.run(&["export", "--resume", id, "--json"]).await.expect_code(0);
    assert_eq!(serde_json::from_slice::<Value>(&done.stdout).unwrap(), manifest);
    let done = world.run(&["export", "--resume", id]).await.expect_code(0);
    assert_eq!(done.stdout_text(), "");
    assert!(done.stderr.contains("60"), "{}", done.stderr);
    assert_eq!(world.files(), files);
    assert_eq!(world.sim.requests().len(), n_requests, "the service is not asked");

    // What was asked for was frozen when the run was opened.
    for flags in [
        &["--kind", "host"][..],
        &["--filter", "state = \"confirmed\""],
        &["--max-assets", "5"],
        &["--compression", "none"],
        &["--format", "ndjson"],
        &["--dataset", "assets"],
        &["--dry-run"],
        &["--stdout"],
    ] {
        let done = world.run(&[&["export", "--resume", id], flags].concat()).await;
        assert_eq!(done.code, 2, "{flags:?}: {}", done.stderr);
        assert_eq!(done.stdout_text(), "", "{flags:?}");
        assert!(done.stderr.contains("--resume"), "{flags:?}: {}", done.stderr);
    }
    let ids: BTreeSet<String> = listed(&world).await.into_iter().collect();
    assert_eq!(ids, BTreeSet::from([id.to_owned()]));
}
