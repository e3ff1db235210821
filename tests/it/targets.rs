//! Several targets on a terminal: the real binary against the simulator. The simulator has one workspace,
//! which targets of different names export in different ways.

use std::collections::BTreeSet;
use std::time::Duration;

use easm_export::model::manifest::Manifest;
use easm_export::sim::{App, Arm, Fault, Options, OtherWorkspace, Scripted, Seen, SignIn};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::support::{Done, World, assert_same_lines, finish, lines, signal};

/// A target of the simulator's workspace, with `more` members.
pub fn target(world: &World, name: &str, more: &Value) -> Value {
    let settings = world.sim.settings();
    let get = |setting: &str| {
        let found = settings.iter().find(|(name, _)| *name == setting);
        found.map(|(_, value)| value.clone()).expect("the simulator sets it")
    };
    let mut target = json!({
        "name": name,
        "tenantId": get("EASM_TENANT_ID"),
        "subscriptionId": get("EASM_SUBSCRIPTION_ID"),
        "resourceGroup": get("EASM_RESOURCE_GROUP"),
        "workspace": get("EASM_WORKSPACE"),
    });
    for (member, value) in more.as_object().expect("members") {
        target[member] = value.clone();
    }
    target
}

async fn small() -> World {
    World::new(Options { assets: 400, asset_bytes: 900, ..Options::default() }).await
}

/// Runs the command with `args` for `targets`.
async fn run(world: &World, targets: &Value, args: &[&str]) -> Done {
    let mut command = world.command(args);
    // What these name is not what is exported.
    for name in ["TENANT_ID", "SUBSCRIPTION_ID", "RESOURCE_GROUP", "WORKSPACE"] {
        command.env_remove(format!("EASM_{name}"));
    }
    command.env("EASM_TARGETS", targets.to_string());
    finish(command).await
}

fn documents(done: &Done) -> Vec<Value> {
    serde_json::from_slice(&done.stdout).expect("an array")
}

/// Every line that the run of `document` exported, sorted.
fn exported(world: &World, document: &Value) -> Vec<Vec<u8>> {
    let manifest: Manifest = serde_json::from_value(document.clone()).expect("a manifest");
    lines(&manifest, |path| std::fs::read(world.exports().join(path)).expect("a file"))
}

#[tokio::test]
async fn each_target_is_exported_as_it_says_itself() {
    let world = small().await;
    let targets = json!([
        target(&world, "all", &json!({})),
        target(&world, "Hosts", &json!({ "kinds": ["host"], "compression": "none" })),
        target(&world, "confirmed", &json!({ "filter": "state = \"confirmed\"" })),
    ]);
    let done = run(&world, &targets, &["export", "--json"]).await.expect_code(0);
    let found = documents(&done);
    let names: Vec<_> = found.iter().map(|manifest| &manifest["target"]).collect();
    assert_eq!(names, ["all", "Hosts", "confirmed"]);
    let inventory = world.sim.inventory();
    for (manifest, filter) in found.iter().zip(["", "kind = \"host\"", "state = \"confirmed\""]) {
        assert_eq!(manifest["completeness"], "exact");
        let case = manifest["target"].as_str().expect("a name");
        assert_same_lines(&exported(&world, manifest), &inventory.ndjson(filter), case);
        let prefix = format!("{case}/");
        let files = manifest["files"].as_array().expect("files");
        let is_own = |file: &Value| file["path"].as_str().expect("a path").starts_with(&prefix);
        assert!(!files.is_empty() && files.iter().all(is_own), "{manifest}");
    }
    assert!(found[1]["files"][0]["path"].as_str().expect("a path").ends_with(".ndjson"));
    let done = run(&world, &targets, &["export"]).await.expect_code(0);
    assert_eq!(done.stderr.lines().count(), 3, "a sentence for each: {}", done.stderr);
}

#[tokio::test]
async fn a_target_that_fails_does_not_stop_the_others_and_the_worst_exit_code_counts() {
    let world = small().await;
    let check = async |more: Value, code: i32, error: &str, words: &str| {
        let good = |name: &str| target(&world, name, &json!({}));
        let targets = json!([good("first"), target(&world, "bad", &more), good("last")]);
        let done = run(&world, &targets, &["export", "--json"]).await.expect_code(code);
        let found = documents(&done);
        for (at, name) in [(0, "first"), (2, "last")] {
            assert_eq!(found[at]["target"], name, "{more}");
            assert_eq!(found[at]["completeness"], "exact", "{more}");
        }
        assert_eq!(found[1]["target"], "bad");
        assert_eq!(found[1]["error"]["code"], error, "{}", found[1]);
        let line = done.error_line();
        assert!(line.contains("bad") && line.contains(words), "{more}: {line}");
    };
    check(json!({ "workspace": "nowhere" }), 1, "not_found", "nowhere").await;
    check(json!({ "workspace": "nowhere", "region": "eastus" }), 1, "not_found", "404").await;
    check(json!({ "kinds": "hosts" }), 2, "settings", "kinds of target bad in EASM_TARGETS").await;
    check(
        json!({ "tenantId": "9".repeat(8) + "-2222-3333-4444-555555555555" }),
        2,
        "settings",
        "tenant",
    )
    .await;
    check(json!({ "filter": "no such filter" }), 1, "bad_request", "400").await;
}

#[tokio::test]
async fn a_target_is_chosen_by_its_name_in_any_case() {
    let world = small().await;
    let targets = json!([
        target(&world, "one", &json!({ "kinds": "host" })),
        target(&world, "two", &json!({ "kinds": "domain" })),
        target(&world, "broken", &json!({ "kinds": "hosts" })),
    ]);
    let done = run(&world, &targets, &["--target", "TWO", "export", "--json"]).await;
    let manifest: Value = serde_json::from_slice(&done.expect_code(0).stdout).expect("a manifest");
    assert_eq!(manifest["target"], "two", "of one target, its manifest alone");
    let both = ["--target", "two", "--target", "one", "export", "--json", "--dry-run"];
    let found = documents(&run(&world, &targets, &both).await.expect_code(0));
    let names: Vec<_> = found.iter().map(|counts| &counts["target"]).collect();
    assert_eq!(names, ["one", "two"], "in the order of the settings");
    assert!(found[0]["counts"]["assets"]["byKind"]["host"].is_u64(), "{}", found[0]);

    let done = run(&world, &targets, &["--target", "three", "export"]).await.expect_code(2);
    assert!(done.error_line().contains("one, two, broken"), "{}", done.stderr);
    let done = run(&world, &targets, &["--target", "broken", "query"]).await.expect_code(2);
    assert!(done.error_line().contains("kinds of target broken"), "{}", done.stderr);
    for args in [&["query"][..], &["export", "--stdout"]] {
        let done = run(&world, &targets, args).await.expect_code(2);
        assert!(done.error_line().contains("--target: one, two"), "{}", done.stderr);
        let chosen = [&["--target", "two"], args].concat();
        let done = run(&world, &targets, &chosen).await.expect_code(0);
        assert!(done.stdout_text().lines().all(|line| line.contains("\"domain\"")));
    }
}

/// A filter that comes from stdin is there once, and is every target's all the same.
#[tokio::test]
async fn flags_override_the_request_of_each_target() {
    use tokio::io::AsyncWriteExt as _;
    let world = small().await;
    let targets = json!([
        target(&world, "one", &json!({ "kinds": "domain" })),
        target(&world, "two", &json!({ "filter": "state = \"confirmed\"" })),
    ]);
    let mut command = world.command(&["export", "--filter", "@-", "--kind", "host", "--json"]);
    command.env("EASM_TARGETS", targets.to_string()).stdin(std::process::Stdio::piped());
    let mut child = command.spawn().expect("started");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(b"state = \"candidate\"\n").await.expect("written");
    drop(stdin);
    let done = Done::from(child.wait_with_output().await.expect("it ends")).expect_code(0);
    let wanted = world.sim.inventory().ndjson("state = \"candidate\" AND kind = \"host\"");
    assert!(!wanted.is_empty());
    for manifest in documents(&done) {
        assert_same_lines(&exported(&world, &manifest), &wanted, "both");
    }
}

/// A run that waits for its service lets the others go first.
#[tokio::test]
async fn a_target_that_waits_keeps_no_other_waiting() {
    let busy = Scripted {
        path_contains: "/assets".to_owned(),
        query_contains: "dismissed".to_owned(),
        from: 0,
        times: u64::MAX,
        fault: Fault::Status { status: 503, retry_after: Some("900".to_owned()) },
    };
    let options =
        Options { assets: 100, asset_bytes: 900, script: vec![busy], ..Options::default() };
    let world = World::new(options).await;
    let targets = json!([
        target(&world, "ill", &json!({ "filter": "state = \"dismissed\"" })),
        target(&world, "north", &json!({ "kinds": ["host"] })),
        target(&world, "south", &json!({ "kinds": ["page"] })),
    ]);
    let mut command = world.command(&["export", "--json"]);
    command.env("EASM_TARGETS", targets.to_string());
    let mut child = command.spawn().expect("started");
    let mut stderr = BufReader::new(child.stderr.take().expect("piped")).lines();
    let mut said = Vec::new();
    let others = async {
        // Once when it is put off, and once more when nothing else is left.
        while said.iter().filter(|line: &&String| line.contains("Waiting until")).count() < 2 {
            said.push(stderr.next_line().await.expect("text").expect("it goes on"));
        }
    };
    tokio::time::timeout(Duration::from_secs(120), others).await.expect("they are exported");
    signal(&child, "INT");
    let done = Done::from(child.wait_with_output().await.expect("it ends")).expect_code(130);
    let found = documents(&done);
    let codes: Vec<_> = found.iter().map(|one| one["error"]["code"].as_str()).collect();
    assert_eq!(codes, [Some("interrupted"), None, None], "{found:?}");
}

/// Targets whose cursors were refused twice each: both wait for a minute, and go on.
#[tokio::test]
async fn targets_that_waited_go_on_and_an_interruption_says_how() {
    let refused = |times| Scripted {
        path_contains: "/assets".to_owned(),
        // The beginning of every mark but the first.
        query_contains: "AoE".to_owned(),
        from: 0,
        times,
        fault: Fault::Status { status: 400, retry_after: None },
    };
    for (times, code) in [(4, 0), (u64::MAX, 130)] {
        let script = vec![refused(times)];
        let world =
            World::new(Options { assets: 400, asset_bytes: 900, script, ..Options::default() });
        let world = world.await;
        let targets = json!([
            target(&world, "one", &json!({ "kinds": ["host"] })),
            target(&world, "two", &json!({ "kinds": ["host"] })),
            target(&world, "small", &json!({ "kinds": ["as"] })),
        ]);
        let mut command = world.command(&["export", "--json"]);
        command.env("EASM_TARGETS", targets.to_string()).env("EASM_PAGE_SIZE", "30");
        command.env("EASM_LOG", "info");
        let mut child = command.spawn().expect("started");
        let mut stderr = BufReader::new(child.stderr.take().expect("piped")).lines();
        let mut said = String::new();
        while let Some(line) = stderr.next_line().await.expect("text") {
            said += &format!("{line}\n");
            if code == 130 && line.contains("Every target that is left waits") {
                signal(&child, "INT");
            }
        }
        let done = Done::from(child.wait_with_output().await.expect("it ends"));
        assert_eq!(done.code, code, "{said}");
        let found = documents(&done);
        let end = |at: usize| found[at]["finishedAt"].as_str();
        assert_eq!(found[2]["completeness"], "exact", "{said}");
        // Whoever is left alone before its time says so again.
        assert!((2..=3).contains(&said.matches("Waiting until").count()), "{said}");
        for at in [0, 1] {
            if code == 0 {
                assert_eq!(found[at]["completeness"], "exact", "{said}");
                assert!(end(2) < end(at), "{found:?}");
                continue;
            }
            let message = found[at]["error"]["message"].as_str().expect("text");
            let (_, resume) = message.split_once("go on with: ").expect("how to go on");
            assert!(said.lines().any(|line| line.ends_with(resume)), "{resume}: {said}");
            let name = ["one", "two"][at];
            let runs = world.exports().join(name).join("runs");
            let id = std::fs::read_dir(runs).expect("runs").next().expect("one").expect("a run");
            assert!(resume.ends_with(id.file_name().to_str().expect("text")), "{resume}");
        }
    }
}

/// A name that is given to another workspace while a run is open: two inventories in one export would look
/// like one.
#[tokio::test]
async fn a_run_goes_on_in_no_other_workspace_than_it_was_begun_in() {
    let fabrikam = OtherWorkspace {
        resource_group: "rg-easm".to_owned(),
        name: "fabrikam".to_owned(),
        region: "eastus".to_owned(),
    };
    let arm = Arm { workspaces: vec![fabrikam], ..Arm::default() };
    let latency = Duration::from_millis(30);
    let options = Options { assets: 400, asset_bytes: 900, latency, arm, ..Options::default() };
    let world = World::new(options).await;
    let named = |workspace: &str| json!([target(&world, "a", &json!({ "workspace": workspace }))]);
    let mut command = world.command(&["export"]);
    command.env("EASM_TARGETS", named("contoso").to_string()).env("EASM_PAGE_SIZE", "5");
    let child = command.spawn().expect("started");
    let begun = async {
        while !world.files().iter().any(|path| path.contains("/checkpoints/")) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), begun).await.expect("it begins");
    signal(&child, "INT");
    let done = Done::from(child.wait_with_output().await.expect("it ends"));
    let resume = done.expect_code(130);
    let id = resume.stderr.split("--resume ").nth(1).expect("an id").split_whitespace().next();
    let id = id.expect("an id");
    let done = run(&world, &named("fabrikam"), &["export", "--resume", id]).await.expect_code(2);
    let line = done.stderr.lines().last().expect("a line");
    assert!(line.contains("contoso") && line.contains("names another now"), "{line}");
    // Nor of another data plane, which holds other assets under the same names.
    let mut moved = named("contoso");
    moved[0]["dataPlaneUrl"] = format!("{}/other", world.sim.url()).into();
    let done = run(&world, &moved, &["export", "--resume", id]).await.expect_code(2);
    assert!(done.stderr.contains("names another now"), "{}", done.stderr);
    assert!(!world.exports().join("a/latest.json").exists());
    let done = run(&world, &named("fabrikam"), &["export", "--json"]).await.expect_code(0);
    let manifest: Value = serde_json::from_slice(&done.stdout).expect("a manifest");
    assert_eq!(manifest["workspace"]["workspace"], "fabrikam");
    let done = run(&world, &named("fabrikam"), &["runs", "show", id, "--json"]).await;
    let ended: Value = serde_json::from_slice(&done.expect_code(0).stdout).expect("a run");
    assert_eq!((&ended["status"], &ended["error"]["code"]), (&json!("failed"), &json!("settings")));
    assert!(manifest["runId"] != id && manifest["completeness"] == "exact", "{manifest}");
    // The one that was begun before goes on where it was.
    let done = run(&world, &named("CONTOSO"), &["export", "--resume", id, "--json"]).await;
    let manifest: Value = serde_json::from_slice(&done.expect_code(0).stdout).expect("a manifest");
    assert_eq!((&manifest["runId"], &manifest["completeness"]), (&json!(id), &json!("exact")));
}

#[tokio::test]
async fn books_that_cannot_be_read_hide_no_others_runs() {
    let world = small().await;
    let targets = json!([
        target(&world, "one", &json!({ "kinds": "host" })),
        target(&world, "two", &json!({ "kinds": "page" })),
    ]);
    let found = documents(&run(&world, &targets, &["export", "--json"]).await.expect_code(0));
    let newer = json!({ "schemaVersion": 99 }).to_string();
    std::fs::write(world.exports().join("one/history.json"), newer).expect("written");
    let done = run(&world, &targets, &["runs", "list", "--json"]).await.expect_code(1);
    let list: Value = serde_json::from_slice(&done.stdout).expect("a list");
    assert_eq!(list["value"].as_array().map(Vec::len), Some(1), "{list}");
    assert_eq!(list["value"][0]["target"], "two");
    assert!(done.stderr.contains("target one"), "{}", done.stderr);
    let id = found[1]["runId"].as_str().expect("an id");
    run(&world, &targets, &["runs", "show", id]).await.expect_code(0);
}

/// A copied entry, or a name that makes no folder, is the fault of those that have it.
#[tokio::test]
async fn a_target_without_a_name_of_its_own_stops_no_other() {
    let world = small().await;
    let good = target(&world, "good", &json!({ "kinds": "host" }));
    let targets = json!([
        target(&world, "twice", &json!({})),
        good,
        target(&world, "Twice", &json!({})),
        target(&world, "a.b", &json!({})),
    ]);
    let done = run(&world, &targets, &["export", "--json"]).await.expect_code(2);
    let found = documents(&done);
    assert_eq!(found[0]["completeness"], "exact");
    let codes: Vec<_> = found[1..].iter().map(|one| &one["error"]["code"]).collect();
    assert_eq!(codes, ["settings", "settings"], "{found:?}");
    for part in ["targets number 1, 3 are all named twice", "target number 4 is \"a.b\""] {
        assert!(done.stderr.contains(part), "{part}: {}", done.stderr);
    }
    let files = world.files();
    assert!(files.iter().all(|path| path.starts_with("good/")), "{files:?}");
    // Whoever asks for one that is well meets no fault of others; one of several is not guessed.
    let one = run(&world, &targets, &["--target", "good", "export", "--dry-run"]).await;
    assert_eq!(one.expect_code(0).stderr, "");
    let done = run(&world, &targets, &["query", "--limit", "1"]).await.expect_code(2);
    assert!(done.stderr.contains("--target"), "{}", done.stderr);
    let done = run(&world, &targets, &["doctor", "--json"]).await.expect_code(3);
    let checks: Value = serde_json::from_slice(&done.stdout).expect("JSON");
    let failed = |check: &&Value| check["name"] == "settings" && check["status"] == "failed";
    assert_eq!(checks["checks"].as_array().expect("checks").iter().filter(failed).count(), 2);
    run(&world, &json!([targets[0], targets[2]]), &["export"]).await.expect_code(2);
}

#[tokio::test]
async fn runs_are_found_whosever_they_are() {
    let world = small().await;
    let targets = json!([
        target(&world, "one", &json!({})),
        target(&world, "two", &json!({ "kinds": "host" }))
    ]);
    let found = documents(&run(&world, &targets, &["export", "--json"]).await.expect_code(0));
    let done = run(&world, &targets, &["runs", "list", "--json"]).await.expect_code(0);
    let list: Value = serde_json::from_slice(&done.stdout).expect("a list");
    let names: Vec<_> =
        list["value"].as_array().expect("runs").iter().map(|run| &run["target"]).collect();
    assert_eq!(names, ["two", "one"], "newest first");
    let table = run(&world, &targets, &["runs", "list"]).await.expect_code(0);
    assert!(table.stdout_text().lines().next().expect("a line").contains("  two "));
    for manifest in &found {
        let id = manifest["runId"].as_str().expect("an id");
        let done = run(&world, &targets, &["runs", "show", id, "--json"]).await.expect_code(0);
        let shown: Value = serde_json::from_slice(&done.stdout).expect("a run");
        assert_eq!(shown["target"], manifest["target"]);
        run(&world, &targets, &["runs", "verify", id]).await.expect_code(0);
        let resume = ["export", "--resume", id, "--json"];
        let done = run(&world, &targets, &resume).await.expect_code(0);
        let again: Value = serde_json::from_slice(&done.stdout).expect("its manifest");
        assert_eq!(&again, manifest);
    }
    let unknown = "20260101T000000Z-00000000";
    for args in [&["runs", "show", unknown][..], &["export", "--resume", unknown]] {
        let done = run(&world, &targets, args).await.expect_code(1);
        assert!(done.error_line().contains("2 targets"), "{}", done.stderr);
    }
}

/// Three customers: the app's own tenant with its managed identity, and others with app registrations of
/// their own, by federation and by a secret.
#[tokio::test]
async fn each_target_is_signed_in_to_with_its_own_identity() {
    let trusting =
        App { client_id: "0a0a0a0a-0000-4000-8000-00000000000a".into(), ..App::default() };
    let secret = "made-up-secret-of-an-app-b";
    let known = App {
        client_id: "0b0b0b0b-0000-4000-8000-00000000000b".into(),
        secret: Some(secret.to_owned()),
        ..App::default()
    };
    let options = Options {
        assets: 60,
        asset_bytes: 900,
        apps: vec![trusting.clone(), known.clone()],
        ..Options::default()
    };
    let world = World::new(options).await;
    let targets = json!([
        target(&world, "managed", &json!({ "credential": "managed-identity" })),
        target(
            &world,
            "federated",
            &json!({
                "credential": "federated", "clientId": trusting.client_id,
            })
        ),
        target(&world, "secret", &json!({ "clientId": known.client_id, "clientSecret": secret })),
    ]);
    let mut command = world.command(&["export", "--json"]);
    command.envs(world.sim.settings_for(SignIn::Federated));
    command.env_remove("EASM_CREDENTIAL").env_remove("EASM_CLIENT_ID");
    command.env("EASM_TARGETS", targets.to_string());
    let done = finish(command).await.expect_code(0);
    for manifest in documents(&done) {
        assert_eq!(manifest["completeness"], "exact", "{manifest}");
    }
    let seen = world.sim.requests();
    let whose = |seen: &Seen| world.sim.issued(seen.authorization.as_deref()?);
    let signed_in: BTreeSet<Option<String>> =
        seen.iter().filter_map(whose).map(|issued| issued.client_id).collect();
    let all = [None, Some(trusting.client_id), Some(known.client_id)];
    assert_eq!(signed_in, all.into_iter().collect());
}

/// The schema takes what the program takes, and refuses what it refuses by form.
#[tokio::test]
async fn the_schema_of_the_settings_fits_what_is_read() {
    let world = small().await;
    let done = finish(crate::support::bare_command(world.folder.path(), &["schema", "settings"]));
    let done = done.await.expect_code(0);
    assert_eq!(done.stderr, "");
    let schema: Value = serde_json::from_slice(&done.stdout).expect("JSON");
    let validator = jsonschema::draft202012::new(&schema).expect("a schema");
    let check = async |more: Value, is_good: bool| {
        let targets = json!([target(&world, "one", &more)]);
        assert_eq!(validator.is_valid(&targets), is_good, "{more}");
        let counted = run(&world, &targets, &["export", "--dry-run"]).await;
        assert_eq!(counted.code == 0, is_good, "{more}: {}", counted.stderr);
    };
    check(json!({}), true).await;
    check(json!({ "kinds": ["host"], "format": "ndjson", "region": "eastus" }), true).await;
    check(json!({ "kinds": "host,domain", "datasets": ["assets"], "delta": "off" }), true).await;
    check(json!({ "kinds": [1] }), false).await;
    check(json!({ "format": "xml" }), false).await;
    check(json!({ "region": "East US" }), false).await;
    check(json!({ "filter": null }), false).await;
    check(json!({ "password": "x" }), false).await;
    check(json!({ "name": "a/b" }), false).await;
    check(
        json!({ "region": "", "format": "", "clientId": "", "dataPlaneUrl": world.sim.url() }),
        true,
    )
    .await;
    check(json!({ "subscriptionId": "{66666666-7777-8888-9999-aaaaaaaaaaaa}" }), false).await;
    check(json!({ "tenantId": "a b" }), false).await;
    check(json!({ "workspace": ".." }), false).await;
    check(json!({ "resourceGroup": "a/b" }), false).await;
    check(json!({ "kinds": ["hots"] }), false).await;
    check(json!({ "datasets": ["risks"] }), false).await;
    check(json!({ "dataPlaneUrl": "foo" }), false).await;
    assert!(!validator.is_valid(&json!([])) && !validator.is_valid(&json!({})));
}
