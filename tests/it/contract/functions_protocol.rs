//! The checklist of the host's protocol that is about payloads and work: timers, messages, failures,
//! deadlines and log lines, seen as the host sees them.

use std::collections::BTreeSet;
use std::time::Duration;

use easm_export::sim::{Fault, Options, Scripted};
use serde_json::{Value, json};

use super::functions_host::{Handler, Mode, fresh_id};
use super::functions_payload::{SLOT, ask, message, slot, timer};
use super::runs::{assert_run_document, run_json};
use super::{assert_whole, world};
use crate::support::World;

/// Far more than the host's payloads have.
const LARGE_BYTES: usize = 10 << 20;
const POLL: Duration = Duration::from_millis(10);
const POLLS_MAX: u32 = 2000;
/// Messages that follow from messages. Ends a test whose work does not.
const ROUNDS_MAX: u32 = 30;
/// A request that hangs would be given up much later.
const SLICE: (&str, &str) = ("EASM_SLICE_SECONDS", "3");

/// Run ids in the store, in the order of their times.
fn ids(world: &World) -> Vec<String> {
    let files = world.files();
    let ids = files.iter().filter_map(|path| {
        path.strip_prefix("contoso/runs/")?.strip_suffix("/run.json").map(str::to_owned)
    });
    ids.collect()
}

fn fault(path: &str, fault: Fault) -> Vec<Scripted> {
    let (path_contains, query_contains) = (path.to_owned(), String::new());
    vec![Scripted { path_contains, query_contains, from: 0, times: 100_000, fault }]
}

#[tokio::test]
async fn every_spelling_of_a_timers_status_opens_its_slot_once() {
    let zero = "0001-01-01T00:00:00";
    let last = "2024-03-04T06:00:00";
    // Last, Next, LastUpdated; and the time in the run's id.
    let cases = [
        (zero.to_owned(), "2024-03-01T06:00:00+00:00", zero.to_owned(), "20240301T060000Z-"),
        (format!("{zero}+00:00"), "2024-03-02T06:00:00Z", zero.to_owned(), "20240302T060000Z-"),
        (format!("{zero}Z"), "2024-03-03T06:00:00", format!("{zero}Z"), "20240303T060000Z-"),
        (
            format!("{last}.1Z"),
            "2024-03-04T06:00:00.0+00:00",
            format!("{last}.12Z"),
            "20240304T060000Z-",
        ),
        (
            format!("{last}.123+00:00"),
            "2024-03-05T06:00:00.0000000Z",
            format!("{last}.1234"),
            "20240305T060000Z-",
        ),
        (
            format!("{last}.12345+00:00"),
            "2024-03-06T06:00:00+00:00",
            format!("{last}.123456+00:00"),
            "20240306T060000Z-",
        ),
        // The same moment, told from elsewhere.
        (
            format!("{last}.1234567+02:00"),
            "2024-03-07T08:00:00+02:00",
            zero.to_owned(),
            "20240307T060000Z-",
        ),
    ];
    let world = world(3).await;
    let handler = Handler::start(&world, &[]).await;
    for (at, (last, next, updated, id)) in cases.iter().enumerate() {
        let mut payload = timer(&json!({"Last": last, "Next": next, "LastUpdated": updated}));
        payload["Data"]["timer"]["IsPastDue"] = json!(at % 2 == 1);
        payload["Data"]["timer"]["Later"] = json!({"than": ["this", "version"]});
        payload["Data"]["timer"]["ScheduleStatus"]["Later"] = json!(1);
        payload["Metadata"]["RetryContext"] = json!({"RetryCount": 1, "MaxRetryCount": 4,
            "Exception": {"Message": "x".repeat(3000)}, "Instance": null, "State": {}});
        let work = handler.invoke("ExportTimer", &payload).await.expect(200).work();
        assert_eq!(work.len(), 1, "{next}");
        let of_slot: Vec<String> =
            ids(&world).into_iter().filter(|found| found.starts_with(id)).collect();
        assert_eq!(of_slot.len(), 1, "{next}: {:?}", ids(&world));
        let run = run_json(&world, &of_slot[0]);
        assert_eq!(run["trigger"], "timer");
        let slot = run["slot"].as_str().unwrap();
        assert!(slot.starts_with(&next[..10]) && slot.contains("T06:00:00"), "{slot}");
        handler.carry(work, 1).await;
        assert_eq!(run_json(&world, &of_slot[0])["status"], "complete");
    }
    assert_eq!(ids(&world).len(), cases.len());
    handler.end().await.expect_quiet();
}

#[tokio::test]
async fn a_start_without_a_slot_of_its_own_opens_a_run_and_takes_no_slot() {
    let world = world(3).await;
    let handler = Handler::start(&world, &[]).await;
    let future = json!({"Last": "0001-01-01T00:00:00", "Next": "2999-01-01T06:00:00+00:00",
        "LastUpdated": "0001-01-01T00:00:00"});
    let mut manual = slot(SLOT);
    manual["Metadata"]["timer"] = json!("\"\"");
    for (n, payload) in [timer(&Value::Null), timer(&future), manual].iter().enumerate() {
        let work = handler.invoke("ExportTimer", payload).await.expect(200).work();
        assert_eq!((work.len(), ids(&world).len()), (1, n + 1), "{payload}");
        handler.carry(work, 2).await;
    }
    for id in ids(&world) {
        let run = run_json(&world, &id);
        assert_run_document(&run, "complete");
        assert_eq!([&run["trigger"], &run["slot"]], [&json!("timer"), &Value::Null], "{run}");
    }
    handler.end().await.expect_quiet();
}

#[tokio::test]
async fn a_timer_that_fires_a_moment_early_is_of_the_slot_to_come() {
    let world = world(3).await;
    let handler = Handler::start(&world, &[]).await;
    let now = time::UtcDateTime::now().replace_nanosecond(0).unwrap();
    let next = now + Duration::from_secs(2);
    let next = next.format(&time::format_description::well_known::Rfc3339).unwrap();
    for _ in 0..2 {
        handler.invoke("ExportTimer", &slot(&next)).await.expect(200);
    }
    let all = ids(&world);
    assert_eq!(all.len(), 1, "{all:?}");
    assert!(all[0].starts_with(&next.replace(['-', ':'], "")), "{next}: {all:?}");
    handler.end().await.expect_quiet();
}

#[tokio::test]
async fn a_message_delivered_twice_at_once_does_no_harm() {
    let world = world(150).await;
    let vars = [("EASM_PAGE_SIZE", "10"), ("EASM_RANGE_ASSETS_MAX", "50"), ("EASM_SHARDS", "3")];
    let handler = Handler::start(&world, &vars).await;
    let mut work = handler.invoke("ExportTimer", &slot(SLOT)).await.expect(200).work();
    for _ in 0..ROUNDS_MAX {
        let twice = work.iter().chain(&work).map(|text| handler.deliver(text));
        let replies = futures::future::join_all(twice).await;
        let next: BTreeSet<String> =
            replies.into_iter().flat_map(|reply| reply.expect(200).work()).collect();
        work = next.into_iter().collect();
        if work.is_empty() {
            break;
        }
    }
    let all = ids(&world);
    assert_eq!(all.len(), 1);
    assert_run_document(&run_json(&world, &all[0]), "complete");
    let manifest: Value = world.document(&format!("contoso/runs/{}/manifest.json", all[0]));
    assert_eq!(manifest["completeness"], "exact");
    assert_whole(&world, &manifest, &world.sim.inventory().ndjson(""), "twice at once");
    handler.end().await.expect_quiet();
}

#[tokio::test]
async fn a_slot_that_comes_again_is_exported_once() {
    let world = world(40).await;
    let handler = Handler::start(&world, &[]).await;
    let payload = slot(SLOT);
    let all = (0..6).map(|_| handler.invoke("ExportTimer", &payload));
    let mut work: Vec<String> = Vec::new();
    for reply in futures::future::join_all(all).await {
        work.extend(reply.expect(200).work());
    }
    assert!(!work.is_empty(), "the planning");
    work.extend(handler.invoke("ExportTimer", &payload).await.expect(200).work());
    handler.carry(work, 3).await;
    // When it has ended, too; and to another process.
    handler.invoke("ExportTimer", &payload).await.expect(200);
    handler.end().await.expect_quiet();
    let handler = Handler::start(&world, &[]).await;
    let work = handler.invoke("ExportTimer", &payload).await.expect(200).work();
    handler.carry(work, 3).await;
    let all = ids(&world);
    assert_eq!(all.len(), 1, "one run: {all:?}");
    let manifest: Value = world.document(&format!("contoso/runs/{}/manifest.json", all[0]));
    assert_whole(&world, &manifest, &world.sim.inventory().ndjson(""), "one slot");
    handler.end().await.expect_quiet();
}

#[tokio::test]
async fn a_slot_that_finds_its_request_in_work_is_skipped_and_names_the_run() {
    let world = world(10).await;
    let handler = Handler::start(&world, &[]).await;
    handler.invoke("ExportTimer", &slot(SLOT)).await.expect(200);
    let first = ids(&world).remove(0);
    let later = slot("2024-03-06T06:00:00+00:00");
    let work = handler.invoke("ExportTimer", &later).await.expect(200).work();
    assert!(work.is_empty(), "{work:?}");
    let skipped = ids(&world).into_iter().find(|id| *id != first).unwrap();
    let run = run_json(&world, &skipped);
    assert_run_document(&run, "skipped");
    assert!(run["error"]["message"].as_str().unwrap().contains(&first), "{run}");
    handler.end().await.expect_quiet();
}

#[tokio::test]
async fn a_message_is_read_from_its_text_and_nothing_beside_it() {
    let world = world(30).await;
    let handler = Handler::start(&world, &[]).await;
    let work = handler.invoke("ExportTimer", &slot(SLOT)).await.expect(200).work();
    // As if its text had had members of these names, and had come often.
    let mut shadowed = message(&work[0]);
    shadowed["Metadata"] = json!({"DequeueCount": "\"99\"", "Id": "\"shadow\"", "sys": "\"z\"",
        "runId": "\"20200101T000000Z-0a1b2c3d\"", "do": "\"commit\"", "InsertionTime": "\"\""});
    let mut fifth = message(&work[0]);
    fifth["Metadata"]["DequeueCount"] = json!("5");
    let mut work = handler.invoke("ExportWorker", &shadowed).await.expect(200).work();
    work.extend(handler.invoke("ExportWorker", &fifth).await.expect(200).work());
    handler.carry(work, 4).await;
    let id = ids(&world).remove(0);
    assert_run_document(&run_json(&world, &id), "complete");
    handler.end().await.expect_quiet();
}

#[tokio::test]
async fn a_message_of_somebody_else_fails_alone() {
    let world = world(5).await;
    let handler = Handler::start(&world, &[]).await;
    let triple = json!({"a": json!({"b": json!({"c": 1}).to_string()}).to_string()}).to_string();
    let texts = [
        "",
        " ",
        "hello",
        "{broken",
        "[1,2]",
        "42",
        "null",
        "\"quoted\"",
        "{}",
        &triple,
        "{\"Id\":\"shadow\",\"DequeueCount\":99,\"sys\":\"z\"}",
        "Übermut 東京 \u{0}",
        "2024-03-05T06:00:00Z",
    ];
    for text in texts {
        let reply = handler.deliver(text).await.expect(500);
        assert!(reply.work().is_empty(), "{text}: {reply:?}");
    }
    let payloads = [
        json!({}),
        json!({"Data": {}, "Metadata": {}}),
        json!({"Data": {"message": "not encoded"}, "Metadata": {}}),
        json!({"Data": {"message": ""}, "Metadata": {}}),
        json!({"Data": {"message": null}, "Metadata": {}}),
        json!({"Data": {"message": 5}, "Metadata": {}}),
        json!({"Data": []}),
    ];
    for payload in payloads {
        handler.invoke("ExportWorker", &payload).await.expect(500);
    }
    for body in ["", "nonsense", "{\"Data\":"] {
        for function in ["ExportTimer", "ExportWorker"] {
            let path = format!("/{function}");
            let (status, ..) = handler.post(&path, &fresh_id(), body.into()).await;
            assert_eq!(status, 500, "{function} {body}");
        }
    }
    // None of it was in the way of what comes next.
    let work = handler.invoke("ExportTimer", &slot(SLOT)).await.expect(200).work();
    handler.carry(work, 5).await;
    assert_run_document(&run_json(&world, &ids(&world)[0]), "complete");
    handler.end().await;
}

#[tokio::test]
async fn a_large_body_is_read_to_its_end_before_the_answer() {
    let world = world(5).await;
    let handler = Handler::start(&world, &[]).await;
    let large = "x".repeat(LARGE_BYTES);
    let (status, ..) = handler.post("/Nobody", &fresh_id(), large.clone().into()).await;
    assert_eq!(status, 404, "an unknown function");
    let reply = handler.deliver(&large).await;
    assert!([413, 500].contains(&reply.status), "{reply:?}");
    let mut payload = slot(SLOT);
    payload["Metadata"]["RetryContext"] = json!({"Exception": large});
    let reply = handler.invoke("ExportTimer", &payload).await;
    assert!([200, 413, 500].contains(&reply.status), "{}", reply.status);
    let asked = ask("POST", "/exports").body(&large);
    for mode in Mode::BOTH {
        handler.ask(mode, &asked).await.expect_error(413, "");
    }
    handler.ping().await;
    handler.end().await;
}

#[tokio::test]
async fn work_that_hangs_is_handed_over_within_its_slice() {
    let script = fault("/assets", Fault::Hang);
    let world = World::new(Options { assets: 20, script, ..Options::default() }).await;
    let handler = Handler::start(&world, &[SLICE]).await;
    let work = handler.invoke("ExportTimer", &slot(SLOT)).await.expect(200).work();
    let mut deliver = Box::pin(handler.deliver(&work[0]));
    // Other calls are answered meanwhile.
    for _ in 0..10 {
        let pinged = tokio::select! {
            () = handler.ping() => true,
            reply = &mut deliver => panic!("it did not wait: {reply:?}"),
        };
        assert!(pinged);
    }
    let list = handler.ask(Mode::Default, &ask("GET", "/exports")).await.expect(200);
    assert_eq!(list.json()["value"].as_array().unwrap().len(), 1);
    let reply = deliver.await.expect(200);
    let run = run_json(&world, &ids(&world)[0]);
    assert!(["queued", "running"].contains(&run["status"].as_str().unwrap()), "{run}");
    assert!(
        !reply.work().is_empty() || run["notBefore"].is_string(),
        "it goes on: {reply:?} {run}"
    );
    handler.end().await.expect_quiet();
}

#[tokio::test]
async fn killed_in_the_middle_and_told_the_same_again_it_ends_exact() {
    let latency = Duration::from_millis(60);
    let options = Options { assets: 300, asset_bytes: 900, latency, ..Options::default() };
    let world = World::new(options).await;
    let vars = [("EASM_PAGE_SIZE", "10"), ("EASM_PART_BYTES_MAX", "32768"), ("EASM_SHARDS", "2")];
    let handler = Handler::start(&world, &vars).await;
    let work = handler.invoke("ExportTimer", &slot(SLOT)).await.expect(200).work();
    let shards = handler.deliver(&work[0]).await.expect(200).work();
    assert!(!shards.is_empty());
    let parts = || world.files().iter().filter(|path| path.contains("/part-")).count();
    let all = futures::future::join_all(shards.iter().map(|text| handler.deliver(text)));
    let seen = async {
        for _ in 0..POLLS_MAX {
            if parts() > 0 {
                return;
            }
            tokio::time::sleep(POLL).await;
        }
        panic!("no part came");
    };
    tokio::select! {
        () = seen => {}
        _ = all => panic!("it was done before it could be killed"),
    }
    handler.end().await.expect_quiet();
    let handler = Handler::start(&world, &vars).await;
    let again: Vec<String> = work.into_iter().chain(shards).collect();
    handler.carry(again, 6).await;
    let all = ids(&world);
    assert_eq!(all.len(), 1);
    assert_run_document(&run_json(&world, &all[0]), "complete");
    let manifest: Value = world.document(&format!("contoso/runs/{}/manifest.json", all[0]));
    assert_eq!(manifest["completeness"], "exact");
    assert_whole(&world, &manifest, &world.sim.inventory().ndjson(""), "killed");
    world.run(&["runs", "verify", &all[0]]).await.expect_code(0);
    handler.end().await.expect_quiet();
}

#[tokio::test]
async fn maintenance_finds_nothing_to_do_or_harms_nothing() {
    let world = world(20).await;
    let handler = Handler::start(&world, &[]).await;
    let maintain = timer(&Value::Null);
    let work = handler.invoke("Maintenance", &maintain).await.expect(200).work();
    // It makes up for the newest slot, if that is of today and the timer had time enough for it.
    assert!(work.len() <= 1, "{work:?}");
    handler.carry(work, 6).await;
    handler.invoke("ExportTimer", &slot(SLOT)).await.expect(200);
    let work = handler.invoke("Maintenance", &maintain).await.expect(200).work();
    handler.carry(work, 7).await;
    handler.end().await.expect_quiet();
}

#[tokio::test]
async fn log_lines_name_the_invocation_the_function_and_the_run() {
    let world = world(20).await;
    let handler = Handler::start(&world, &[]).await;
    let timer = handler.invoke("ExportTimer", &slot(SLOT)).await.expect(200);
    let mut invocations = vec![(timer.invocation.clone(), "ExportTimer")];
    let mut work = timer.work();
    while let Some(text) = work.pop() {
        let reply = handler.deliver(&text).await.expect(200);
        work.extend(reply.work());
        invocations.push((reply.invocation, "ExportWorker"));
    }
    let id = ids(&world).remove(0);
    assert_run_document(&run_json(&world, &id), "complete");
    let logs = handler.end().await.expect_quiet();
    let of_run: Vec<&str> = logs.stdout.lines().filter(|line| line.contains(&id)).collect();
    assert!(of_run.len() >= 2, "opened and ended: {}", logs.stdout);
    for line in of_run {
        let named = invocations
            .iter()
            .any(|(invocation, function)| line.contains(invocation) && line.contains(function));
        assert!(named, "no invocation and function: {line}");
        assert!(line.contains("\"run.id\""), "a field to search by: {line}");
    }
}

#[tokio::test]
async fn what_the_host_sent_and_cannot_be_read_is_not_called_too_large() {
    let world = world(5).await;
    let handler = Handler::start(&world, &[]).await;
    for body in ["nonsense", "", "{\"Data\":"] {
        let (status, _, text) = handler.post("/Exports", &fresh_id(), body.into()).await;
        let reply: Value = serde_json::from_str(&text).unwrap();
        let told = reply["Outputs"]["res"]["statusCode"].clone();
        assert!(status == 500 || told != 413, "{body:?}: {text}");
    }
    handler.end().await;
}
