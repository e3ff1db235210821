//! How a run ends, seen from outside: cancelled, interrupted, failed, put off, given up; and how it
//! is taken up, by one process or by several.

use std::time::Duration;

use easm_export::sim::{Fault, Options, Scripted};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use super::runs::{assert_run_document, id_of, listed, printed, run_json};
use super::store::{assert_one_whole_run, blobs};
use super::{assert_whole, export, run};
use crate::azurite::Azurite;
use crate::support::{Done, World, finish, signal};

/// How often a condition is looked at.
const POLL_PAUSE: Duration = Duration::from_millis(5);
/// Ends a wait for a condition that never comes.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Many pages and parts.
const SMALL: [(&str, &str); 4] = [
    ("EASM_SHARDS", "4"),
    ("EASM_CONCURRENCY", "4"),
    ("EASM_PAGE_SIZE", "5"),
    ("EASM_PART_BYTES_MAX", "32768"),
];
/// Longer than a request may wait for its answer, so the work is put off at the first one.
const LONG: &str = "3600";

/// A service that takes its time: an export of it can be caught in the middle.
async fn slow_world(assets: u64) -> World {
    let latency = Duration::from_millis(20);
    World::new(Options { assets, asset_bytes: 900, latency, ..Options::default() }).await
}

/// A service that answers `status` to the pages number `from` on, `times` of them.
async fn failing_world(status: u16, from: u64, times: u64) -> World {
    let retry_after = (status != 403).then(|| LONG.to_owned());
    let script = vec![Scripted {
        path_contains: "/assets".to_owned(),
        query_contains: "mark=".to_owned(),
        from,
        times,
        fault: Fault::Status { status, retry_after },
    }];
    World::new(Options { assets: 300, asset_bytes: 900, script, ..Options::default() }).await
}

fn small(world: &World, args: &[&str]) -> Command {
    let mut command = world.command(args);
    command.envs(SMALL);
    command
}

fn parts(world: &World) -> usize {
    world.files().iter().filter(|path| path.contains("/part-")).count()
}

/// Waits until `is_so` while `child` works.
async fn at_work_when(child: &mut Child, is_so: impl Fn() -> bool) {
    let look = async {
        while !is_so() {
            assert_eq!(child.try_wait().unwrap(), None, "it ended before");
            tokio::time::sleep(POLL_PAUSE).await;
        }
    };
    tokio::time::timeout(WAIT_MAX, look).await.expect("what is waited for");
}

/// What `child` did, which ends soon.
async fn end(child: Child) -> Done {
    let output = tokio::time::timeout(WAIT_MAX, child.wait_with_output());
    output.await.expect("an end").unwrap().into()
}

/// The one run in the store.
async fn only_id(world: &World) -> String {
    let ids = listed(world).await;
    assert_eq!(ids.len(), 1, "{ids:?}");
    ids[0].clone()
}

fn is_there(world: &World, ending: &str) -> bool {
    world.files().iter().any(|path| path.ends_with(ending))
}

fn assert_nothing_in_work(world: &World) {
    let files = world.files();
    let active: Vec<&String> = files.iter().filter(|path| path.contains("/active/")).collect();
    assert!(active.is_empty(), "{active:?}");
}

/// Starts an export and interrupts it when `n_parts` are stored.
async fn interrupted(world: &World, args: &[&str], n_parts: usize) -> Done {
    let mut child = small(world, args).spawn().unwrap();
    at_work_when(&mut child, || parts(world) >= n_parts).await;
    signal(&child, "INT");
    let done = end(child).await.expect_code(130);
    assert_eq!(done.stdout_text(), "", "no manifest is printed");
    done
}

/// The words of the command that `done` says to go on with, without the program's name.
fn resume_command(done: &Done) -> Vec<String> {
    let line = done.stderr.lines().last().unwrap();
    let at = line.find("easm-export export").unwrap_or_else(|| panic!("no command: {line}"));
    assert!(line.contains("--resume"), "{line}");
    let words = line[at..].split_whitespace().skip(1);
    words.map(|word| word.trim_matches(['\'', '"', '`']).to_owned()).collect()
}

#[tokio::test]
async fn a_run_that_is_cancelled_ends_soon_and_nothing_of_it_counts() {
    let world = slow_world(6000).await;
    let mut child = small(&world, &["export", "--json"]).spawn().unwrap();
    at_work_when(&mut child, || parts(&world) >= 4).await;
    let id = only_id(&world).await;
    assert_run_document(&printed(&world, &["runs", "show", &id]).await, "running");
    world.run(&["runs", "cancel", &id]).await.expect_code(0);
    let done = end(child).await.expect_code(1);
    assert_eq!(done.stdout_text(), "");
    assert!(done.stderr.contains("cancelled"), "{}", done.stderr);
    let n_pages = world.sim.requests().iter().filter(|seen| seen.query.contains("mark=")).count();
    assert!(n_pages < 600, "it did not read on for long: {n_pages} pages of 1200");
    assert_run_document(&run_json(&world, &id), "cancelled");
    assert!(!is_there(&world, "/manifest.json") && !is_there(&world, "/latest.json"));
    assert_nothing_in_work(&world);
    let history: Value = world.document("contoso/history.json");
    assert_eq!(history["runs"].as_array().unwrap().len(), 1);
    assert_eq!(history["runs"][0]["status"], "cancelled");

    let done = world.run(&["export", "--resume", &id]).await.expect_code(1);
    assert!(done.error_line().contains("cancelled"), "{}", done.stderr);
    let before = run_json(&world, &id);
    // Whether to cancel it again is a mistake, the contract does not say.
    world.run(&["runs", "cancel", &id]).await;
    let manifest = export(&world, &[], &[]).await;
    assert_ne!(id_of(&manifest), id, "a new run");
    assert_whole(&world, &manifest, &world.sim.inventory().ndjson(""), "the run after");
    assert_eq!(run_json(&world, &id), before);
    assert_eq!(world.document::<Value>("contoso/latest.json")["runId"], manifest["runId"]);
}

#[tokio::test]
async fn a_run_that_nobody_works_on_is_cancelled_at_once() {
    let world = slow_world(1500).await;
    interrupted(&world, &["export", "--json"], 3).await;
    let id = only_id(&world).await;
    world.run(&["runs", "cancel", &id]).await.expect_code(0);
    assert_run_document(&run_json(&world, &id), "cancelled");
    assert_nothing_in_work(&world);
    world.run(&["export", "--resume", &id]).await.expect_code(1);
    assert_ne!(id_of(&export(&world, &[], &[]).await), id);
}

#[tokio::test]
async fn a_complete_run_cannot_be_cancelled() {
    let world = slow_world(20).await;
    let manifest = export(&world, &[], &[]).await;
    let id = id_of(&manifest);
    let files = world.files();
    let done = world.run(&["runs", "cancel", id]).await.expect_code(1);
    assert!(done.error_line().contains("complete"), "{}", done.stderr);
    assert_eq!(run_json(&world, id)["status"], "complete");
    assert_eq!(world.files(), files);
    world.run(&["runs", "verify", id]).await.expect_code(0);
}

#[tokio::test]
async fn ctrl_c_saves_what_was_read_and_the_command_it_prints_goes_on() {
    let world = slow_world(2000).await;
    // With and without a store and a request of its own, which the command must not lose.
    let elsewhere = world.folder.path().join("else where").display().to_string();
    let cases: [&[&str]; 3] = [&[], &["--kind", "host"], &["--store", &elsewhere]];
    for args in cases {
        let case = format!("{args:?}");
        let is_elsewhere = args.contains(&"--store");
        let mut child = small(&world, &[&["export", "--json"], args].concat()).spawn().unwrap();
        let folder = if is_elsewhere { elsewhere.clone().into() } else { world.exports() };
        let n_before = parts(&world);
        let is_at_work = || match is_elsewhere {
            true => folder.join("contoso/history.json").exists() || has_part(&folder),
            false => parts(&world) >= n_before + 2,
        };
        at_work_when(&mut child, is_at_work).await;
        signal(&child, "INT");
        let done = end(child).await.expect_code(130);
        assert_eq!(done.stdout_text(), "", "{case}");
        let line = done.stderr.lines().last().unwrap().to_owned();
        let at = line.find("easm-export export").unwrap_or_else(|| panic!("{case}: {line}"));
        let id_at = line.find("--resume ").unwrap() + "--resume ".len();
        let id = line[id_at..].split_whitespace().next().unwrap();

        // As a person would: pasted into a shell, with one word more.
        let program = crate::support::program().display();
        let script = format!("exec {program} {} --json", &line[at + "easm-export ".len()..]);
        let mut shell = Command::new("sh");
        let settings = small(&world, &[]);
        let vars = settings.as_std().get_envs().filter_map(|(name, value)| Some((name, value?)));
        shell.args(["-c", &script]).current_dir(world.folder.path()).env_clear().envs(vars);
        let done = finish(shell).await;
        assert_eq!(done.code, 0, "{case}: {line}: {}", done.stderr);
        let manifest: Value = serde_json::from_slice(&done.stdout).unwrap();
        assert_eq!(id_of(&manifest), id, "{case}");
        let filter = if args.contains(&"host") { "kind = \"host\"" } else { "" };
        let truth = world.sim.inventory().ndjson(filter);
        if is_elsewhere {
            let read = |path: &str| std::fs::read(folder.join(path)).unwrap();
            let manifest = serde_json::from_value(manifest).unwrap();
            let found = crate::support::lines(&manifest, read);
            crate::support::assert_same_lines(&found, &truth, &case);
        } else {
            assert_whole(&world, &manifest, &truth, &case);
            assert_run_document(&run_json(&world, id), "complete");
        }
    }
    assert_nothing_in_work(&world);
}

/// Whether a part lies below `folder`.
fn has_part(folder: &std::path::Path) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else { return false };
    entries.flatten().any(|entry| {
        let is_part = entry.file_name().to_string_lossy().starts_with("part-");
        is_part || has_part(&entry.path())
    })
}

#[tokio::test]
async fn after_ctrl_c_the_next_export_takes_up_the_same_run_and_another_request_does_not() {
    let world = slow_world(2000).await;
    let done = interrupted(&world, &["export", "--json"], 5).await;
    let id = only_id(&world).await;
    assert_eq!(resume_command(&done), ["export", "--resume", &id]);
    let document = run_json(&world, &id);
    assert!(["queued", "running"].contains(&document["status"].as_str().unwrap()), "{document}");
    assert_run_document(&document, document["status"].as_str().unwrap());
    assert!(!is_there(&world, "/manifest.json") && !is_there(&world, "/latest.json"));

    let hosts = export(&world, &["--kind", "host"], &SMALL).await;
    assert_ne!(id_of(&hosts), id);
    let manifest = export(&world, &[], &SMALL).await;
    assert_eq!(id_of(&manifest), id);
    assert_whole(&world, &manifest, &world.sim.inventory().ndjson(""), "taken up");
    assert_eq!(manifest["startedAt"], document["startedAt"]);
    assert_eq!(world.document::<Value>("contoso/latest.json")["runId"], id);
    assert_nothing_in_work(&world);
}

#[tokio::test]
async fn two_exports_of_one_request_at_once_are_one_run_which_both_print() {
    let world = slow_world(800).await;
    let azurite = Azurite::http("two_exports_of_one_request_at_once_are_one_run_which_both_print");
    for kind in ["folder", "container"] {
        let truth = world.sim.inventory().ndjson("");
        let container = azurite.map(Azurite::container).unwrap_or_default();
        let url = match (kind, azurite) {
            ("container", Some(azurite)) => {
                azurite.create_container(&container).await;
                azurite.store_url(&container)
            }
            ("container", None) => return,
            _ => world.exports().display().to_string(),
        };
        let one = || {
            let mut command = small(&world, &["export", "--json"]);
            command.env("EASM_STORE_URL", &url);
            finish(command)
        };
        let later = async {
            tokio::time::sleep(Duration::from_millis(400)).await;
            one().await
        };
        let (first, second, third) = tokio::join!(one(), one(), later);
        let manifests = [first, second, third].map(|done| {
            let done = done.expect_code(0);
            serde_json::from_slice::<Value>(&done.stdout).unwrap()
        });
        assert_eq!(manifests[0], manifests[1], "{kind}");
        assert_eq!(manifests[0], manifests[2], "{kind}");
        match azurite.filter(|_| kind == "container") {
            Some(azurite) => {
                let stored = blobs(azurite, &container, "").await;
                assert_one_whole_run(&stored, &manifests[0], &truth, kind);
            }
            None => {
                assert_whole(&world, &manifests[0], &truth, kind);
                assert_eq!(listed(&world).await, [id_of(&manifests[0])]);
                assert_nothing_in_work(&world);
            }
        }
    }
}

#[tokio::test]
async fn a_run_that_is_refused_fails_and_goes_on_by_resume_alone() {
    let world = failing_world(403, 20, 1).await;
    let done = finish(small(&world, &["export", "--json"])).await.expect_code(1);
    assert_eq!(done.stdout_text(), "");
    let id = only_id(&world).await;
    let failed = run_json(&world, &id);
    assert_run_document(&failed, "failed");
    assert_eq!(failed["error"]["code"], "denied");
    assert!(!failed["error"]["message"].as_str().unwrap().is_empty());
    assert!(!is_there(&world, "/manifest.json") && !is_there(&world, "/latest.json"));
    assert_nothing_in_work(&world);
    let history: Value = world.document("contoso/history.json");
    assert_eq!([&history["runs"][0]["runId"], &history["runs"][0]["status"]], [&id, "failed"]);
    world.run(&["runs", "cancel", &id]).await.expect_code(1);

    // A failed run is over: the next export is another one.
    let other = export(&world, &[], &SMALL).await;
    assert_ne!(id_of(&other), id);
    let done = finish(small(&world, &["export", "--json", "--resume", &id])).await.expect_code(0);
    let manifest: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(id_of(&manifest), id);
    assert_whole(&world, &manifest, &world.sim.inventory().ndjson(""), "resumed");
    let document = run_json(&world, &id);
    assert_run_document(&document, "complete");
    assert_eq!(document["error"], Value::Null);
    let latest: Value = world.document("contoso/latest.json");
    assert_eq!(latest["runId"], other["runId"], "it started later");
    let history: Value = world.document("contoso/history.json");
    let told: Vec<[&Value; 2]> = history["runs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| [&run["runId"], &run["status"]])
        .collect();
    let complete = json!("complete");
    assert_eq!(told, [[&other["runId"], &complete], [&json!(id), &complete]], "each once");
    assert_nothing_in_work(&world);
}

/// One request after the other, so that each life of a run meets one fault.
fn in_turn(world: &World, args: &[&str]) -> Command {
    let mut command = small(world, args);
    command.env("EASM_SHARDS", "1").env("EASM_CONCURRENCY", "1");
    command
}

/// Starts an export that is put off, and gives what it says about that.
async fn put_off(world: &World, args: &[&str]) -> (Child, String) {
    let mut child = in_turn(world, args).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let line = tokio::time::timeout(WAIT_MAX, lines.next_line());
    let line = line.await.unwrap_or_else(|_| panic!("{args:?}: it says nothing"));
    let line = line.unwrap().expect("a line before the end");
    // Nobody else reads it, and what comes is little.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    (child, line)
}

/// Whether `line` says a time of day, such as 06:30.
fn says_when(line: &str) -> bool {
    let fits = |window: &[u8]| match window {
        [a, b, b':', c, d] => [a, b, c, d].iter().all(|byte| byte.is_ascii_digit()),
        _ => false,
    };
    line.as_bytes().windows(5).any(fits)
}

#[tokio::test]
async fn a_run_that_is_put_off_says_until_when_and_can_be_interrupted_and_taken_up() {
    for status in [429, 503] {
        let world = failing_world(status, 20, 2).await;
        let (child, line) = put_off(&world, &["export", "--json"]).await;
        assert!(says_when(&line), "until when: {line}");
        let id = only_id(&world).await;
        let document = run_json(&world, &id);
        let is_in_work = ["queued", "running"].contains(&document["status"].as_str().unwrap());
        assert!(is_in_work, "to wait is not to fail: {document}");
        assert_eq!(document["error"], Value::Null);
        signal(&child, "INT");
        let done = end(child).await;
        assert_eq!((done.code, done.stdout_text()), (130, ""), "{status}");

        // Who resumes it need not wait; here it is put off once more.
        let args = ["export", "--json", "--resume", &id];
        let n_met = || world.sim.requests().iter().filter(|seen| seen.status == status).count();
        let (child, line) = put_off(&world, &args).await;
        assert_eq!(n_met(), 2, "{status}: {line}");
        signal(&child, "INT");
        assert_eq!(end(child).await.code, 130, "{status}");

        let done = finish(in_turn(&world, &args)).await.expect_code(0);
        let manifest: Value = serde_json::from_slice(&done.stdout).unwrap();
        assert_eq!(id_of(&manifest), id, "{status}");
        assert_whole(&world, &manifest, &world.sim.inventory().ndjson(""), "after the pause");
        assert_run_document(&run_json(&world, &id), "complete");
        assert_eq!(listed(&world).await, [id], "{status}");
        assert_nothing_in_work(&world);
    }
}

#[tokio::test]
async fn an_export_takes_up_a_run_that_waits_at_once_as_resume_does() {
    let world = failing_world(503, 20, 1).await;
    let (child, _line) = put_off(&world, &["export", "--json"]).await;
    let id = only_id(&world).await;
    signal(&child, "INT");
    end(child).await.expect_code(130);
    let done = finish(in_turn(&world, &["export", "--json"])).await.expect_code(0);
    let manifest: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(manifest["runId"], id.as_str());
    assert_whole(&world, &manifest, &world.sim.inventory().ndjson(""), "taken up");
}

#[tokio::test]
async fn a_run_that_waits_too_long_ends_and_the_next_export_opens_another() {
    // About a second.
    let short = [SMALL[0], SMALL[1], SMALL[2], SMALL[3], ("EASM_RUN_HOURS_MAX", "0.0003")];
    let world = failing_world(503, 0, 1000).await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        let done = run(&world, &["export", "--json"], &short).await.expect_code(1);
        assert_eq!(done.stdout_text(), "");
        let found = listed(&world).await;
        let new: Vec<&String> = found.iter().filter(|id| !ids.contains(*id)).collect();
        assert_eq!(new.len(), 1, "{found:?}");
        let document = run_json(&world, new[0]);
        assert_run_document(&document, "failed");
        assert_eq!(document["error"]["code"], "deadline");
        assert_nothing_in_work(&world);
        ids.push(new[0].clone());
    }
}

#[tokio::test]
async fn a_run_that_saved_nothing_for_too_long_is_given_up_by_the_next_export() {
    let world = failing_world(503, 20, 4).await;
    let (child, _line) = put_off(&world, &["export", "--json"]).await;
    let id = only_id(&world).await;
    signal(&child, "KILL");
    end(child).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let hours = [("EASM_RUN_HOURS_MAX", "0.0003")];
    // The new one may meet what is left of the outage; what became of the old one is the question.
    let _whatever = run(&world, &["export", "--json"], &hours).await;
    let document = run_json(&world, &id);
    assert_run_document(&document, "failed");
    assert_eq!(document["error"]["code"], "deadline");
    assert_eq!(listed(&world).await.len(), 2, "a new one opened");
}
