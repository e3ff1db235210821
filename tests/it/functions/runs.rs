//! Runs that a timer opens and the queue carries, to their end.

use std::sync::Arc;
use std::time::Duration;

use easm_export::clock::{Clock, SystemClock};
use easm_export::schedule::Schedule;
use easm_export::sim::Options;
use serde_json::{Value, json};

use super::town::{LIMIT, QUEUE, SCHEDULE, Town, log, stderr};
use crate::host::{Failure, Firing, Host, HostOptions, State, utc};

/// Assets of the inventory.
const ASSETS: u64 = 20_000;

/// Between two looks at a run.
const LOOK_PAUSE: Duration = Duration::from_millis(30);

/// Kills that must hit one run.
const N_KILLS: u32 = 20;

/// Most requests to the service between two kills, so that they are spread over the run.
const REQUESTS_BETWEEN_MAX: usize = 25;

/// Between two looks for the moment of the next kill: a few requests.
const KILL_LOOK_PAUSE: Duration = Duration::from_millis(5);

/// So many of those looks between two at the store.
const LOOKS_BETWEEN: u32 = 20;

/// So many looks at nothing new, before what a real host would do in minutes is done at once.
const IDLE_LOOKS: u32 = 400;

/// Times of 21 minutes that the longest pause of maintenance has.
const STALLS_MAX: u32 = 20;

/// The newest occurrence of the schedule: maintenance would make up for it if it were an older one.
fn slot() -> String {
    let schedule = Schedule::parse(SCHEDULE).unwrap();
    schedule.newest_occurrence(SystemClock.now()).unwrap().to_string()
}

fn firing_at(slot: &str) -> Firing {
    Firing::at(utc(slot))
}

pub fn firing() -> Firing {
    firing_at(&slot())
}

fn options() -> Options {
    Options { assets: ASSETS, asset_bytes: 900, ..Options::default() }
}

#[tokio::test]
async fn a_timer_run_of_twenty_thousand_assets_is_exact() {
    let test = "a_timer_run_of_twenty_thousand_assets_is_exact";
    let Some(town) = Town::new(test, options()).await else { return };
    let host = town.host(town.options()).await;
    // The same occurrence twice at the same moment, and once more when it is done.
    let slot = slot();
    let firing = firing_at(&slot);
    let (first, second) =
        tokio::join!(host.fire("ExportTimer", &firing), host.fire("ExportTimer", &firing));
    assert!(first.result.is_ok() && second.result.is_ok(), "{first:?} {second:?}");
    town.until_done(&[&host]).await;
    let third = host.fire("ExportTimer", &firing).await;
    assert_eq!((third.result.is_ok(), third.written.len()), (true, 0), "{third:?}");

    let manifest = town.only_manifest("undisturbed").await;
    assert_eq!([&manifest["trigger"], &manifest["slot"]], ["timer", slot.as_str()], "{manifest}");
    host.until(|host| host.in_work() == 0, LIMIT).await.unwrap();
    assert_eq!(town.account.queues.count(QUEUE).await, 0, "nothing is left to do");
    assert_eq!(stderr(&host), [""; 0]);
    let of_run = |line: &Value| line["span"]["run.id"] == manifest["runId"];
    let lines = log(&host);
    let planned = lines.iter().find(|line| line["span"]["function"] == "ExportWorker");
    let planned = planned.expect("a line of the worker");
    assert!(of_run(planned) && planned["span"]["invocation.id"].is_string(), "{planned}");
    let failed = host.invocations().into_iter().find(|invocation| invocation.result.is_err());
    assert_eq!(failed, None);
}

/// Repeat the choice of moments with `SEED=17`.
#[tokio::test]
async fn a_run_survives_twenty_kills_on_two_instances() {
    let test = "a_run_survives_twenty_kills_on_two_instances";
    let latency = Duration::from_millis(10);
    let Some(town) = Town::new(test, Options { latency, ..options() }).await else { return };
    let seed = std::env::var("SEED").map_or(1, |seed| seed.parse().unwrap());
    let mut rng = fastrand::Rng::with_seed(seed);
    let small = || {
        let mut options = town.options().set("EASM_SLICE_SECONDS", "2");
        for (name, value) in [
            ("EASM_PAGE_SIZE", "50"),
            ("EASM_RANGE_ASSETS_MAX", "1000"),
            ("EASM_PART_BYTES_MAX", "131072"),
        ] {
            options = options.set(name, value);
        }
        HostOptions { seed, doubled: 0.1, again: 0.1, ..options }
    };
    let mut hosts = [town.host(small()).await, town.host(small()).await];
    let fired = hosts[0].fire("ExportTimer", &firing()).await;
    assert!(fired.result.is_ok(), "{fired:?}");

    let (mut n_kills, mut n_idle, mut n_seen) = (0, 0, 0);
    let mut kill_at = rng.usize(1..REQUESTS_BETWEEN_MAX);
    let live = async {
        for n_look in 0_u32.. {
            tokio::time::sleep(KILL_LOOK_PAUSE).await;
            let n_requests = town.world.sim.requests().len();
            let victim = rng.usize(0..hosts.len());
            if n_kills < N_KILLS && n_requests >= kill_at && hosts[victim].in_work() > 0 {
                hosts[victim].kill_handler().await;
                n_kills += 1;
                kill_at = n_requests + rng.usize(1..REQUESTS_BETWEEN_MAX);
            }
            for host in &mut hosts {
                // The third crash within half an hour stops a host, and the platform starts it anew.
                if host.state() == State::Stopped {
                    *host = town.host(small()).await;
                }
            }
            n_idle = if n_requests == n_seen { n_idle + 1 } else { 0 };
            n_seen = n_requests;
            if n_look % LOOKS_BETWEEN != 0 {
                continue;
            }
            if town.is_done().await {
                break;
            }
            if n_idle > IDLE_LOOKS && hosts.iter().all(|host| host.in_work() == 0) {
                // Messages of a host that stopped stay hidden for ten minutes; those that were dropped
                // five times come back by maintenance, each time after twice as long.
                town.account.queues.advance(Duration::from_secs(600)).await;
                for _ in 0..STALLS_MAX {
                    town.age(Duration::from_secs(21 * 60)).await;
                    let looked = hosts[0].fire("Maintenance", &firing()).await;
                    // The handler may be on its way back.
                    let is_known = matches!(looked.result, Ok(_) | Err(Failure::Transport(_)));
                    assert!(is_known, "SEED={seed}: {looked:?}");
                    if !looked.written.is_empty() {
                        break;
                    }
                }
                n_idle = 0;
            }
        }
    };
    let done = tokio::time::timeout(LIMIT, live).await;
    assert!(done.is_ok(), "SEED={seed}: not done after {n_kills} kills");
    assert_eq!(n_kills, N_KILLS, "SEED={seed}: the run was over before");
    let case = format!("SEED={seed}");
    for host in &hosts {
        host.until(|host| host.in_work() == 0, LIMIT).await.unwrap();
        assert_eq!(stderr(host), [""; 0], "{case}");
    }
    // What a worker that was killed at the very end left lies there until the next look.
    let looked = hosts[0].fire("Maintenance", &firing()).await;
    assert!(looked.result.is_ok(), "{looked:?}");
    town.only_manifest(&case).await;
}

#[tokio::test]
async fn a_run_whose_every_message_is_lost_completes_through_maintenance() {
    let test = "a_run_whose_every_message_is_lost_completes_through_maintenance";
    let options = Options { assets: 3_000, asset_bytes: 900, ..Options::default() };
    let Some(town) = Town::new(test, options).await else { return };
    let small = || town.options().set("EASM_RANGE_ASSETS_MAX", "1000");
    // Nobody hears what the timer and the worker put on the queue; only what maintenance puts there.
    let deaf = town.host(HostOptions { listens: Some(Vec::new()), ..small() }).await;
    let fired = deaf.fire("ExportTimer", &firing()).await;
    assert!(fired.result.is_ok() && fired.written.len() == 1, "{fired:?}");
    let mut n_rounds = 0;
    while !town.is_done().await {
        n_rounds += 1;
        assert!(n_rounds < 30, "{:?}", town.paths().await);
        empty(&town).await;
        town.age(Duration::from_secs(21 * 60)).await;
        let looked = deaf.fire("Maintenance", &firing()).await;
        assert!(looked.result.is_ok(), "{looked:?}");
        // What maintenance put there is done by a host of its own, whose own messages are lost with it.
        let from_maintenance: Vec<String> = texts(&looked.written);
        let worker = town
            .host(HostOptions {
                loses: Some(Arc::new(move |message| {
                    let text = message.text().unwrap_or_default();
                    !from_maintenance.contains(&text)
                })),
                ..small()
            })
            .await;
        worker.until(|host| host.in_work() == 0, LIMIT).await.unwrap();
        let wait = async {
            while town.account.queues.count(QUEUE).await > 0 || worker.in_work() > 0 {
                tokio::time::sleep(LOOK_PAUSE).await;
            }
        };
        tokio::time::timeout(LIMIT, wait).await.expect("the queue becomes empty");
        assert_eq!(stderr(&worker), [""; 0]);
    }
    assert!(n_rounds >= 3, "planned, carried and committed by maintenance alone");
    town.only_manifest("all lost").await;
}

/// Deletes every message.
async fn empty(town: &Town) {
    loop {
        let messages = town.account.queues.get(QUEUE, 32).await;
        if messages.is_empty() {
            break;
        }
        for message in messages {
            town.account.queues.delete(QUEUE, &message).await;
        }
    }
}

fn texts(written: &[(String, Vec<u8>)]) -> Vec<String> {
    written.iter().map(|(_, text)| String::from_utf8(text.clone()).unwrap()).collect()
}

/// A host that dies leaves its handler behind, which ends itself; what it was at goes on elsewhere.
#[tokio::test]
async fn an_orphan_ends_itself_and_its_work_goes_on_elsewhere() {
    let test = "an_orphan_ends_itself_and_its_work_goes_on_elsewhere";
    let latency = Duration::from_millis(20);
    let few = Options { assets: 4_000, asset_bytes: 900, latency, ..Options::default() };
    let Some(town) = Town::new(test, few).await else { return };
    let host = town.host(town.options()).await;
    let fired = host.fire("ExportTimer", &firing()).await;
    assert!(fired.result.is_ok(), "{fired:?}");
    let is_at_work = |_: &Host| town.world.sim.requests().len() > 20;
    host.until(is_at_work, LIMIT).await.unwrap();
    let orphan = host.die().await.expect("a handler that is left behind");
    assert!(orphan.is_alive());
    assert!(orphan.ended(Duration::from_secs(5)).await, "it ends itself within five seconds");

    let next = town.host(town.options()).await;
    town.account.queues.advance(Duration::from_secs(600)).await;
    town.until_done(&[&next]).await;
    town.only_manifest("orphan").await;
}

/// The platform counts a failure once; the message comes again and finds the run ended.
#[tokio::test]
async fn a_run_that_ends_badly_fails_one_invocation_and_says_so_on_stderr() {
    let test = "a_run_that_ends_badly_fails_one_invocation_and_says_so_on_stderr";
    let few = Options { assets: 100, asset_bytes: 900, ..Options::default() };
    let Some(town) = Town::new(test, few).await else { return };
    let options = town.options().set("EASM_FILTER", "nonsense ((").set("EASM_LOG", "error");
    let host = town.host(options).await;
    let fired = host.fire("ExportTimer", &firing()).await;
    assert!(fired.result.is_ok(), "{fired:?}");
    let of_worker = |host: &Host| -> Vec<bool> {
        let all = host.invocations().into_iter();
        let of_worker = all.filter(|invocation| invocation.function == "ExportWorker");
        of_worker.map(|invocation| invocation.result.is_ok()).collect()
    };
    host.until(|host| of_worker(host).contains(&true), LIMIT).await.unwrap();
    assert_eq!(of_worker(&host), [false, true]);
    let said = stderr(&host);
    assert_eq!(said.len(), 1, "{said:?}");
    let stored = town.blobs().await;
    let run = stored.keys().find(|path| path.ends_with("/run.json")).expect("a run");
    let run = crate::contract::store::json(&stored, run);
    assert_eq!([&run["status"], &run["error"]["code"]], ["failed", "bad_request"], "{run}");
    assert!(said[0].contains(run["runId"].as_str().unwrap()), "{said:?}");
    // Whatever level is logged, a line says which invocation and run it is of.
    let lines = log(&host);
    assert!(!lines.is_empty());
    for line in lines {
        let span = &line["span"];
        let told = [&span["function"], &span["run.id"]];
        assert_eq!(told, [&json!("ExportWorker"), &run["runId"]], "{line}");
        assert!(span["invocation.id"].is_string(), "{line}");
    }
    assert_eq!(town.account.queues.count(&format!("{QUEUE}-poison")).await, 0);
}

/// What maintenance gave out is noted as given out, so it goes on the queue whatever else fails.
#[tokio::test]
async fn maintenance_brings_work_back_though_it_cannot_look_for_missed_slots() {
    let test = "maintenance_brings_work_back_though_it_cannot_look_for_missed_slots";
    let few = Options { assets: 100, asset_bytes: 900, ..Options::default() };
    let Some(town) = Town::new(test, few).await else { return };
    let deaf = HostOptions { listens: Some(Vec::new()), ..town.options() };
    let host = town.host(deaf).await;
    let fired = host.fire("ExportTimer", &firing()).await;
    assert!(fired.result.is_ok(), "{fired:?}");
    let newer = br#"{"schemaVersion":99}"#;
    town.azurite.put(&town.container, "contoso/schedule.json", newer).await;
    town.age(Duration::from_secs(21 * 60)).await;
    let looked = host.fire("Maintenance", &firing()).await;
    assert_eq!((looked.result.is_ok(), looked.written.len()), (true, 1), "{looked:?}");
    let kept = town.azurite.get(&town.container, "contoso/schedule.json").await.unwrap();
    assert_eq!(kept, newer, "what a newer version wrote is left alone");
}

#[tokio::test]
async fn maintenance_deletes_runs_that_are_kept_no_longer() {
    let test = "maintenance_deletes_runs_that_are_kept_no_longer";
    let few = Options { assets: 100, asset_bytes: 900, ..Options::default() };
    let Some(town) = Town::new(test, few).await else { return };
    let host = town.host(town.options().set("EASM_RETENTION_DAYS", "30")).await;
    let slots = [slot(), "2026-01-01T06:00:00Z".to_owned()];
    let n_complete = async || {
        let paths = town.paths().await;
        paths.iter().filter(|path| path.ends_with("/manifest.json")).count()
    };
    for (n, slot) in slots.iter().enumerate() {
        let fired = host.fire("ExportTimer", &firing_at(slot)).await;
        assert!(fired.result.is_ok(), "{fired:?}");
        let wait = async {
            while n_complete().await <= n || !town.is_done().await {
                tokio::time::sleep(LOOK_PAUSE).await;
            }
        };
        tokio::time::timeout(LIMIT, wait).await.expect("a run that completes");
    }
    host.until(|host| host.in_work() == 0, LIMIT).await.unwrap();
    let day = Duration::from_secs(24 * 60 * 60);
    town.age(40 * day).await;
    let third = host.fire("ExportTimer", &firing_at("2026-02-01T06:00:00Z")).await;
    assert!(third.result.is_ok(), "{third:?}");
    let wait = async {
        while n_complete().await < 3 || !town.is_done().await {
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    };
    tokio::time::timeout(LIMIT, wait).await.expect("a run that completes");
    host.until(|host| host.in_work() == 0, LIMIT).await.unwrap();
    for _ in 0..2 {
        let looked = host.fire("Maintenance", &firing()).await;
        assert!(looked.result.is_ok(), "{looked:?}");
    }
    let left = town.paths().await;
    let is_left =
        |slot: &str| left.iter().any(|path| path.contains(slot) && path.contains("/part-"));
    assert!(!is_left("20260101T060000Z"), "old, and another one is newer: {left:?}");
    assert!(is_left("20260201T060000Z"), "the newest complete one: {left:?}");
    assert_eq!(stderr(&host), [""; 0]);
}

/// A second plan message behind the plan would take every shard away from whoever works on it.
#[tokio::test]
async fn a_start_by_hand_joins_the_run_in_work_and_asks_for_its_plan_only_while_there_is_none() {
    let test =
        "a_start_by_hand_joins_the_run_in_work_and_asks_for_its_plan_only_while_there_is_none";
    let few = Options { assets: 300, asset_bytes: 900, ..Options::default() };
    let Some(town) = Town::new(test, few).await else { return };
    let deaf = HostOptions { listens: Some(Vec::new()), ..town.options() };
    let host = town.host(deaf).await;
    let by_hand = async |n_written: usize| {
        let fired = host.fire("ExportTimer", &Firing::by_hand()).await;
        assert_eq!((fired.result.is_ok(), fired.written.len()), (true, n_written), "{fired:?}");
    };
    let fired = host.fire("ExportTimer", &firing()).await;
    assert!(fired.result.is_ok(), "{fired:?}");
    by_hand(1).await;

    let plans_only = HostOptions {
        loses: Some(Arc::new(|message| {
            !message.text().unwrap_or_default().contains("\"do\":\"plan\"")
        })),
        ..town.options()
    };
    let planner = town.host(plans_only).await;
    let wait = async {
        while !town.paths().await.iter().any(|path| path.ends_with("/plan.json")) {
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    };
    tokio::time::timeout(LIMIT, wait).await.expect("a plan");
    planner.until(|host| host.in_work() == 0, LIMIT).await.unwrap();
    by_hand(0).await;
    let paths = town.paths().await;
    let runs = paths.iter().filter(|path| path.ends_with("/run.json")).count();
    assert_eq!(runs, 1, "{paths:?}");
}
