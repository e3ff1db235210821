//! Several targets in one app: what goes wrong with one is its own.

use std::time::Duration;

use easm_export::sim::Options;
use reqwest::Method;
use serde_json::{Value, json};

use super::doors::{Caller, read};
use super::runs::firing;
use super::town::{LIMIT, QUEUE, Town, log};
use crate::host::{Host, HostOptions};
use crate::targets::target;

/// Between two looks at the runs.
const LOOK_PAUSE: Duration = Duration::from_millis(200);

fn options(town: &Town, targets: &Value) -> HostOptions {
    // Its name is of a workspace that is not exported.
    town.options().set("EASM_WORKSPACE", "another").set("EASM_TARGETS", targets.to_string())
}

/// The runs of all targets, once none is in work any more.
async fn ended(caller: &Caller<'_>, n_runs: usize) -> Vec<Value> {
    let look = async {
        loop {
            let (status, list) = read(caller.get("/api/exports").await).await;
            assert_eq!(status, 200, "{list}");
            let runs = list["value"].as_array().cloned().expect("a list");
            let is_ended = |run: &Value| run["finishedAt"].is_string();
            if runs.len() == n_runs && runs.iter().all(is_ended) {
                return runs;
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    };
    tokio::time::timeout(LIMIT, look).await.expect("every run ends")
}

/// Until nothing is left to do.
async fn idle(town: &Town, host: &Host) {
    let look = async {
        while host.in_work() > 0 || town.account.queues.count(QUEUE).await > 0 {
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    };
    tokio::time::timeout(LIMIT, look).await.expect("nothing is left to do");
}

fn status_of<'a>(runs: &'a [Value], target: &str) -> &'a Value {
    let run = runs.iter().find(|run| run["target"] == target);
    &run.unwrap_or_else(|| panic!("no run of {target}: {runs:?}"))["status"]
}

async fn town(test: &str) -> Option<Town> {
    Town::new(test, Options { assets: 600, asset_bytes: 900, ..Options::default() }).await
}

/// Four targets: two are good, one has no workspace, and the settings of one are wrong.
async fn four(town: &Town) -> Host {
    let targets = json!([
        target(&town.world, "first", &json!({})),
        target(&town.world, "lost", &json!({ "workspace": "nowhere" })),
        target(&town.world, "wrong", &json!({ "kinds": ["hosts"] })),
        target(&town.world, "Last", &json!({ "kinds": ["host"], "compression": "none" })),
    ]);
    town.host(options(town, &targets)).await
}

#[tokio::test]
async fn one_slot_opens_a_run_of_each_target_and_one_that_fails_stops_no_other() {
    let test = "one_slot_opens_a_run_of_each_target_and_one_that_fails_stops_no_other";
    let Some(town) = town(test).await else { return };
    let host = four(&town).await;
    let fired = host.fire("ExportTimer", &firing()).await;
    assert!(fired.result.is_ok(), "{fired:?}");
    let caller = Caller::new(&town, &host);
    let runs = ended(&caller, 3).await;
    for (name, status) in [("first", "complete"), ("lost", "failed"), ("Last", "complete")] {
        assert_eq!(status_of(&runs, name), status, "{name}");
    }
    let lost = runs.iter().find(|run| run["target"] == "lost").expect("a run");
    assert_eq!(lost["error"]["code"], "not_found", "{lost}");
    let ids: Vec<_> = runs.iter().map(|run| &run["runId"]).collect();
    assert!(ids[0] != ids[1] && ids[1] != ids[2], "each has an id of its own: {ids:?}");

    // What is wrong with the fourth is in the log, by target and member, and in Health.
    let lines = log(&host);
    let named = lines.iter().find(|line| {
        let words = line["fields"]["message"].as_str().unwrap_or_default();
        line["level"] == "ERROR" && words.contains("kinds of target wrong in EASM_TARGETS")
    });
    assert!(named.is_some(), "{lines:#?}");
    let health = read(caller.get("/api/health").await).await;
    assert_eq!(health, (503, json!({ "status": "unhealthy", "problems": ["settings"] })));

    // The same slot again opens nothing anew.
    let again = host.fire("ExportTimer", &firing()).await;
    assert!(again.result.is_ok() && again.written.is_empty(), "{again:?}");
    assert_eq!(ended(&caller, 3).await, runs);
    idle(&town, &host).await;
}

#[tokio::test]
async fn a_caller_names_the_target_where_there_are_several() {
    let test = "a_caller_names_the_target_where_there_are_several";
    let Some(town) = town(test).await else { return };
    let host = four(&town).await;
    let caller = Caller::new(&town, &host);
    let refused = async |answer| {
        let (status, body): (u16, Value) = read(answer).await;
        let words = body["error"]["message"].as_str().unwrap_or_default().to_owned();
        (status, words)
    };
    for path in ["/api/assets", "/api/assets?target=nobody"] {
        let (status, words) = refused(caller.get(path).await).await;
        assert!(status == 400 && words.starts_with("target:"), "{path}: {status} {words}");
    }
    for body in [json!({}), json!({ "target": "nobody" })] {
        let (status, words) = refused(caller.post("/api/exports", &body).await).await;
        assert!(status == 400 && words.starts_with("target:"), "{body}: {status} {words}");
    }
    let (status, body) = refused(caller.get("/api/assets?target=wrong").await).await;
    assert_eq!(status, 503, "{body}");

    let (status, page) = read(caller.get("/api/assets?target=LAST&limit=3").await).await;
    assert_eq!(status, 200, "{page}");
    let kinds: Vec<_> = page["value"].as_array().unwrap().iter().map(|one| &one["kind"]).collect();
    assert_eq!(kinds, ["host", "host", "host"], "its own kinds");
    let dry = json!({ "target": "last", "dryRun": true });
    let (status, counts) = read(caller.post("/api/exports", &dry).await).await;
    assert_eq!((status, counts["counts"]["assets"]["byKind"]["page"].as_u64()), (200, None));

    let (status, accepted) =
        read(caller.post("/api/exports", &json!({ "target": "LAST" })).await).await;
    assert_eq!(status, 202, "{accepted}");
    let runs = ended(&caller, 1).await;
    assert_eq!(status_of(&runs, "Last"), "complete");
    let url = accepted["statusUrl"].as_str().expect("a path");
    let (status, run) = read(caller.get(url).await).await;
    assert_eq!((status, &run["target"]), (200, &json!("Last")), "looked up in all targets");
    for (target, n_runs) in [("last", 1), ("first", 0)] {
        let (_, list) = read(caller.get(&format!("/api/exports?target={target}")).await).await;
        assert_eq!(list["value"].as_array().map(Vec::len), Some(n_runs), "{target}");
    }
    assert_eq!(caller.ask(Method::DELETE, url).send().await.unwrap().status(), 409);
}

/// Who watches the log sees by it that a target is not exported any more, whatever the reason.
#[tokio::test]
async fn maintenance_says_of_each_target_how_old_its_newest_complete_run_is() {
    let test = "maintenance_says_of_each_target_how_old_its_newest_complete_run_is";
    let Some(town) = town(test).await else { return };
    let host = four(&town).await;
    let caller = Caller::new(&town, &host);
    let accepted = caller.post("/api/exports", &json!({ "target": "first" })).await;
    assert_eq!(accepted.status(), 202);
    ended(&caller, 1).await;
    idle(&town, &host).await;
    town.age(Duration::from_secs(5 * 60 * 60)).await;
    let looked = host.fire("Maintenance", &firing()).await;
    assert!(looked.result.is_ok(), "{looked:?}");
    let lines = log(&host);
    let age = |name: &str| {
        let mut fields = lines.iter().map(|line| &line["fields"]);
        let is_of =
            |fields: &&Value| fields["event"] == "newest_complete" && fields["target_name"] == name;
        fields.rfind(is_of).map(|fields| fields["age_hours"].clone())
    };
    let hours = age("first").and_then(|hours| hours.as_f64()).expect("a number");
    assert!((5.0..5.2).contains(&hours), "{hours}");
    for name in ["lost", "wrong", "Last"] {
        assert_eq!(age(name).and_then(|hours| hours.as_f64()), Some(-1.0), "{name}");
    }
}
