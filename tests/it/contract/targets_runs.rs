//! Runs of several targets on a terminal: where they lie, how they end, and what is told of secrets.

use std::path::Path;
use std::time::Duration;

use easm_export::sim::{Fault, Options, Scripted};
use serde_json::{Value, json};
use tokio::process::Command;

use super::targets::{targets, two, with};
use super::world;
use crate::support::{Done, World, assert_same_lines, bare_command, finish, signal};

/// Of the requests of a target that has it, the data plane refuses all.
const REFUSED_FILTER: &str = "state = \"dismissed\"";
/// What nobody may see.
const SECRET: &str = "qX7~canary\"of/a+client=secret%20zz9";
const POLL: Duration = Duration::from_millis(10);
/// Ends a wait for what never comes.
const LOOKS_MAX: u32 = 6000;

/// A script that has `fault` for whatever asks for [`REFUSED_FILTER`].
pub fn refusing(fault: Fault) -> Options {
    let script = vec![Scripted {
        path_contains: "/assets".to_owned(),
        query_contains: REFUSED_FILTER.to_owned(),
        from: 0,
        times: u64::MAX,
        fault,
    }];
    Options { assets: 60, asset_bytes: 900, script, ..Options::default() }
}

pub fn forbidden() -> Fault {
    Fault::Status { status: 403, retry_after: None }
}

/// A command with nothing of ours but what signs in, and these targets.
fn with_targets_alone(world: &World, list: &str, args: &[&str]) -> Command {
    let mut command = world.command(args);
    for name in ["TENANT_ID", "SUBSCRIPTION_ID", "RESOURCE_GROUP", "WORKSPACE"] {
        command.env_remove(format!("EASM_{name}"));
    }
    command.env("EASM_TARGETS", list);
    command
}

/// Whether 16 characters in a row of the secret stand in `text`, plain or as JSON has them.
fn is_told(text: &[u8]) -> bool {
    let escaped = serde_json::to_string(SECRET).unwrap();
    let forms = [SECRET.as_bytes(), escaped.trim_matches('"').as_bytes()];
    let mut windows = forms.iter().flat_map(|form| form.windows(16));
    windows.any(|window| text.windows(16).any(|found| found == window))
}

#[tokio::test]
async fn two_targets_of_one_workspace_are_two_exports_side_by_side() {
    let world = world(90).await;
    let list = targets(&[("first", json!({})), ("Second", json!({}))]);
    let command = with_targets_alone(&world, &list, &["export", "--json"]);
    let done = finish(command).await.expect_code(0);
    let printed: Vec<Value> = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(printed.len(), 2, "one is no repetition of the other");
    for (manifest, name) in printed.iter().zip(["first", "Second"]) {
        assert_eq!(manifest["target"], name);
        let id = manifest["runId"].as_str().unwrap();
        let stored: Value = world.document(&format!("{name}/runs/{id}/manifest.json"));
        assert_eq!(&stored, manifest, "{name}: what is printed is what is stored");
        let lines = world.lines(&serde_json::from_value(stored).unwrap());
        assert_same_lines(&lines, &world.sim.inventory().ndjson(""), name);
        assert_eq!(world.document::<Value>(&format!("{name}/latest.json"))["runId"], id);
        for file in manifest["files"].as_array().unwrap() {
            let path = file["path"].as_str().unwrap();
            assert!(path.starts_with(&format!("{name}/assets/date=")), "{path}");
        }
    }
    assert_ne!(printed[0]["runId"], printed[1]["runId"]);
}

#[tokio::test]
async fn the_exit_code_is_the_worst_of_all_and_each_says_how_it_ended() {
    let world = World::new(refusing(forbidden())).await;
    let good = |name| (name, json!({"kinds": ["host"]}));
    let failing = |name| (name, json!({"filter": REFUSED_FILTER}));
    let wrong = |name| (name, json!({"kinds": ["hostess"]}));
    let cases = [
        (vec![good("a"), good("b")], &[0][..]),
        (vec![failing("a"), good("b")], &[1]),
        (vec![good("a"), failing("b"), good("c")], &[1]),
        (vec![wrong("a"), good("b")], &[2]),
        // Which of the two is worse, nobody says; neither is done.
        (vec![wrong("a"), failing("b"), good("c")], &[1, 2]),
        (vec![failing("a"), wrong("b")], &[1, 2]),
    ];
    for (list, codes) in cases {
        let case = format!("{list:?}");
        let command = with_targets_alone(&world, &targets(&list), &["export", "--json"]);
        let done = finish(command).await;
        assert!(codes.contains(&done.code), "{case}: {} {}", done.code, done.stderr);
        let printed: Vec<Value> = serde_json::from_slice(&done.stdout).unwrap();
        assert_eq!(printed.len(), list.len(), "{case}");
        let mut n_errors = 0;
        for (found, (name, members)) in printed.iter().zip(&list) {
            assert_eq!(found["target"], *name, "{case}");
            let wanted = match members.get("filter") {
                Some(_) => Some("denied"),
                None if members["kinds"] == json!(["hostess"]) => Some("settings"),
                None => None,
            };
            assert_eq!(found["error"]["code"].as_str(), wanted, "{case}: {found}");
            assert_eq!(found.get("completeness").is_some(), wanted.is_none(), "{case}");
            n_errors += usize::from(wanted.is_some());
            if let Some(code) = wanted {
                let message = found["error"]["message"].as_str().unwrap();
                let line = done.stderr.lines().find(|line| line.contains(message));
                assert!(line.is_some(), "{case}: {code}: {}", done.stderr);
            }
        }
        assert_eq!(done.stderr.lines().count(), n_errors, "{case}: {}", done.stderr);
        // Of a failure on stderr one should know whose it is.
        for (name, members) in &list {
            if members.get("filter").is_some() {
                let told = done.stderr.lines().any(|line| {
                    line.contains(&format!("={name}"))
                        || line.contains(&format!("target {name}"))
                        || line.contains(&format!("{name}:"))
                });
                assert!(told, "{name} in {}", done.stderr);
            }
        }
    }
}

/// The arguments of the command that the line names for going on.
fn resume_command(done: &Done) -> Vec<String> {
    let line = done.stderr.lines().find(|line| line.contains("--resume"));
    let line = line.unwrap_or_else(|| panic!("no command in {}", done.stderr));
    let rest = line.split("easm-export ").last().unwrap();
    let words = rest.split_whitespace().map(|word| word.trim_matches(['`', '\'', '.', ',', ';']));
    words.map(str::to_owned).collect()
}

#[tokio::test]
async fn an_interrupt_in_the_middle_of_three_targets_ends_all_and_says_how_to_go_on() {
    let latency = Duration::from_millis(20);
    let world = World::new(Options { assets: 260, latency, ..Options::default() }).await;
    let list = targets(&[
        ("north", json!({"kinds": ["as"]})),
        ("south", json!({"kinds": ["host", "page"]})),
        ("west", json!({"kinds": ["as"]})),
    ]);
    let vars = [("EASM_PAGE_SIZE", "2"), ("EASM_PART_BYTES_MAX", "32768"), ("EASM_SHARDS", "1")];
    let of = |args: &[&str]| {
        let mut command = with_targets_alone(&world, &list, args);
        command.envs(vars);
        command
    };
    for args in [&["export"][..], &["export", "--json"]] {
        let child = of(args).spawn().unwrap();
        let parts = world.exports().join("south/assets");
        let mut n_looks = 0;
        while !has_file(&parts) {
            n_looks += 1;
            assert!(n_looks < LOOKS_MAX, "no part of the second target");
            tokio::time::sleep(POLL).await;
        }
        signal(&child, "INT");
        let done: Done = child.wait_with_output().await.unwrap().into();
        let done = done.expect_code(130);
        assert!(!world.exports().join("west").exists(), "the third is not begun");
        assert!(world.exports().join("north/latest.json").exists(), "the first is whole");
        let command = resume_command(&done);
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        let id = *command.last().unwrap();
        let id = if id.starts_with('-') { command[command.len() - 2] } else { id };
        assert_eq!(
            world.document::<Value>(&format!("south/runs/{id}/run.json"))["status"],
            "running"
        );
        let with_json = [&command[..], &["--json"]].concat();
        let resumed = finish(of(&with_json)).await.expect_code(0);
        let manifest: Value = serde_json::from_slice(&resumed.stdout).unwrap();
        assert_eq!([&manifest["target"], &manifest["runId"]], ["south", id]);
        let truth = world.sim.inventory().ndjson("kind in (\"host\", \"page\")");
        let lines = world.lines(&serde_json::from_value(manifest).unwrap());
        assert_same_lines(&lines, &truth, "resumed");
        std::fs::remove_dir_all(world.exports()).unwrap();
    }
}

fn has_file(folder: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else { return false };
    entries.flatten().any(|entry| match entry.path() {
        path if path.is_dir() => has_file(&path),
        _ => true,
    })
}

#[tokio::test]
async fn runs_are_found_whosever_they_are_and_the_limit_is_over_all() {
    let world = world(40).await;
    let list = two();
    for _ in 0..2 {
        with(&world, &list, &["export"], &[]).await.expect_code(0);
        // Run ids have seconds, and their order is shown.
        tokio::time::sleep(Duration::from_millis(1001)).await;
    }
    let listed = |args: &'static [&'static str]| {
        let command = with_targets_alone(&world, &list, &[args, &["--json"]].concat());
        async move {
            let done = finish(command).await.expect_code(0);
            let printed: Value = serde_json::from_slice(&done.stdout).unwrap();
            printed["value"].as_array().unwrap().clone()
        }
    };
    let all = listed(&["runs", "list"]).await;
    assert_eq!(all.len(), 4);
    let starts: Vec<&str> = all.iter().map(|run| run["startedAt"].as_str().unwrap()).collect();
    assert!(starts.is_sorted_by(|a, b| a >= b), "newest first: {starts:?}");
    assert_eq!(listed(&["runs", "list", "--limit", "3"]).await, all[..3]);
    let south = listed(&["--target", "SOUTH", "runs", "list"]).await;
    assert_eq!(south.len(), 2);
    assert!(south.iter().all(|run| run["target"] == "south"), "{south:?}");
    for run in &all {
        let id = run["runId"].as_str().unwrap();
        for command in ["show", "files", "verify"] {
            let command = with_targets_alone(&world, &list, &["runs", command, id]);
            finish(command).await.expect_code(0);
        }
        let other = if run["target"] == "south" { "north" } else { "south" };
        let args = ["--target", other, "runs", "show", id];
        finish(with_targets_alone(&world, &list, &args)).await.expect_code(1);
    }
    // A target that is wrong hides nobody's runs, nor its own.
    let wrong = targets(&[("north", json!({})), ("south", json!({"kinds": ["hostess"]}))]);
    let id = south[0]["runId"].as_str().unwrap();
    finish(with_targets_alone(&world, &wrong, &["runs", "show", id])).await.expect_code(0);
    // Nor does one that is there no more.
    let gone = targets(&[("north", json!({}))]);
    let done = finish(with_targets_alone(&world, &gone, &["runs", "show", id])).await;
    done.expect_code(1);
    assert_eq!(world.document::<Value>(&format!("south/runs/{id}/run.json"))["status"], "complete");
    assert!(!world.exports().join("contoso").exists(), "nobody is contoso");
}

#[tokio::test]
async fn no_secret_of_a_broken_target_is_told_at_any_level() {
    let world = world(8).await;
    let good = targets(&[("good", json!({"kinds": ["host"]}))]);
    let good = &good[1..good.len() - 1];
    let secret = serde_json::to_string(SECRET).unwrap();
    let four = &good[good.find("\"resourceGroup").unwrap()..good.len() - 1];
    let cases = [
        // No JSON, just behind the secret, in it, and before it.
        format!("[{good},{{\"clientSecret\":{secret}"),
        format!("[{good},{{\"clientSecret\":{}", &secret[..secret.len() - 1]),
        format!("[{good},{{\"clientSecret\":{secret},}}]"),
        format!("[{good},{{\"clientSecret\" {secret}}}]"),
        format!("[{good},{{\"clientSecret\":'{SECRET}'}}]"),
        format!("clientSecret={SECRET}"),
        // JSON, but no targets.
        secret.clone(),
        format!("[{secret}]"),
        format!("{{\"clientSecret\":{secret}}}"),
        // A target that is refused.
        format!("[{good},{{\"name\":\"b\",\"clientSecret\":{secret}}}]"),
        format!("[{good},{{\"name\":\"b\",\"clientSecret\":[{secret}],{four}}}]"),
        format!("[{good},{{\"name\":\"b\",\"clientSecret\":{{{secret}:{secret}}},{four}}}]"),
        format!("[{good},{{\"name\":\"b\",\"ClientSecret\":{secret},{four}}}]"),
        format!("[{good},{{\"name\":\"b\",\"client_secret\":{secret},{four}}}]"),
        format!(
            "[{good},{{\"name\":\"b\",\"clientSecret\":{secret},\"clientSecret\":{secret},{four}}}]"
        ),
        format!(
            "[{good},{{\"name\":\"b\",\"clientSecret\":{secret},\"kinds\":[\"hostess\"],{four}}}]"
        ),
        format!("[{good},{{\"name\":\"b\",\"clientSecretName\":{secret},{four}}}]"),
    ];
    let mut found = Vec::new();
    for text in cases {
        for args in [&["export", "--json"][..], &["doctor", "--json"], &["runs", "list"]] {
            for format in ["text", "json"] {
                let mut command = with_targets_alone(&world, &text, args);
                command.env("EASM_LOG", "trace").env("EASM_LOG_FORMAT", format);
                let done = finish(command).await;
                assert!(!done.stderr.contains("panicked"), "{text}: {}", done.stderr);
                if is_told(&done.stdout) || is_told(done.stderr.as_bytes()) {
                    found.push(format!("{args:?} {format}: {text}"));
                }
            }
        }
    }
    for path in world.files() {
        assert!(!is_told(&std::fs::read(world.exports().join(&path)).unwrap()), "{path}");
    }
    assert!(found.is_empty(), "{found:#?}");
    let done = finish(bare_command(world.folder.path(), &["schema", "settings"])).await;
    assert!(!is_told(&done.stdout), "schema");
}
