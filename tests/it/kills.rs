//! Killed again and again: one run, carried by many processes that die at any moment, and how much
//! of it is read twice.
//!
//! `start -> let it send a random number of requests -> SIGKILL -> start again ... -> look`
//!
//! # Invariants
//! - A kill counts only if the process had begun to ask the service and was still at work.
//! - Nothing hangs on the speed of the machine: a life is as long as its requests, not its seconds.
//!
//! Start reading at [`one_run_survives_fifty_kills_at_random_times`].

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::time::Duration;

use easm_export::model::plan::Plan;
use easm_export::sim::{Options, Seen};
use serde_json::Value;
use tokio::process::{Child, Command};

use crate::azurite::Azurite;
use crate::contract::store::{assert_one_whole_run, blobs, json};
use crate::support::{World, assert_same_lines, finish};

/// Kills that must hit one run.
const N_KILLS_MIN: u64 = 50;
/// Lives after which something is wrong: the last of them are long enough for the whole run.
const N_LIVES_MAX: u64 = 120;
/// Depths, in parts that were stored by then, that the kills must have hit.
const N_DEPTHS_MIN: usize = 20;
/// Requests that the longest life sends, while the run is not planned, and later.
const PLANNING_REQUESTS_MAX: u64 = 400;
const READING_REQUESTS_MAX: u64 = 40;
/// How much longer than that each life may be once there were enough kills, in requests.
const MORE_REQUESTS: u64 = 80;
/// Longest pause between the last request of a life and its end.
const LAST_PAUSE_MS: u64 = 15;
/// How often a condition is looked at.
const POLL_PAUSE: Duration = Duration::from_millis(8);
/// Ends a wait for a condition that never comes.
const WAIT_MAX: Duration = Duration::from_secs(60);

const SHARDS: u64 = 4;
const PAGE_SIZE: u64 = 10;
/// Several ranges, pages and parts of each kind.
const SMALL: [(&str, &str); 5] = [
    ("EASM_SHARDS", "4"),
    ("EASM_CONCURRENCY", "4"),
    ("EASM_PAGE_SIZE", "10"),
    ("EASM_PART_BYTES_MAX", "32768"),
    ("EASM_RANGE_ASSETS_MAX", "250"),
];

/// Numbers from 0 up to `below`, drawn from a seed.
struct Draws(fastrand::Rng);

impl Draws {
    fn below(&mut self, below: u64) -> u64 {
        self.0.u64(0..below)
    }
}

fn options(assets: u64) -> Options {
    let latency = Duration::from_millis(5);
    Options { assets, asset_bytes: 900, latency, ..Options::default() }
}

fn is_list(seen: &Seen) -> bool {
    seen.path.ends_with("/assets")
}

/// Whether `seen` reads a page of a range; what else is sent to a list asks for a count.
fn is_page(seen: &Seen) -> bool {
    is_list(seen) && seen.query.contains("mark=")
}

/// Pages that the ranges of `plan` have, read once.
fn pages(plan: &Plan) -> u64 {
    plan.ranges().map(|range| range.expected.div_ceil(PAGE_SIZE).max(1)).sum()
}

/// Room for records in the pages that `requests` ask for. A shard that was taken up may ask for
/// smaller pages, so pages do not count alike.
fn asked(requests: &[Seen]) -> u64 {
    let size = |seen: &Seen| -> u64 {
        let mut pairs = seen.query.split('&');
        let size = pairs.find_map(|pair| pair.strip_prefix("maxpagesize="));
        size.expect("every page says how large it may be").parse().unwrap()
    };
    requests.iter().filter(|seen| is_page(seen)).map(size).sum()
}

/// Requests for a count.
fn n_counts(requests: &[Seen]) -> usize {
    requests.iter().filter(|seen| is_list(seen) && !is_page(seen)).count()
}

/// Room for the records that one stop has a run of `manifest` read again at most. For each shard:
/// the part that it had not counted, one page that it asked for while that part was stored, and one
/// page because a range that is read by smaller pages may need one more at its end.
fn again_max(manifest: &Value) -> u64 {
    let files = manifest["files"].as_array().unwrap();
    let records = files.iter().map(|file| file["records"].as_u64().unwrap());
    let part_pages_max = records.max().unwrap().div_ceil(PAGE_SIZE);
    SHARDS * (part_pages_max + 2) * PAGE_SIZE
}

/// Waits until `is_so`, or until `child` ended. Whether it is still at work.
async fn still_works_when(child: &mut Child, is_so: impl Fn() -> bool) -> bool {
    let look = async {
        while child.try_wait().unwrap().is_none() {
            if is_so() {
                return true;
            }
            tokio::time::sleep(POLL_PAUSE).await;
        }
        false
    };
    tokio::time::timeout(WAIT_MAX, look).await.expect("requests, or an end")
}

/// Repeat the choice of moments with `SEED=17`.
#[tokio::test]
async fn one_run_survives_fifty_kills_at_random_times() {
    let test = "one_run_survives_fifty_kills_at_random_times";
    let Some(azurite) = Azurite::http(test) else { return };
    let seed = std::env::var("SEED").map_or(1, |seed| seed.parse().unwrap());
    let case = format!("SEED={seed}");
    let mut draws = Draws(fastrand::Rng::with_seed(seed));
    let world = World::new(options(6500)).await;
    let container = azurite.container();
    azurite.create_container(&container).await;
    let printed = world.folder.path().join("printed");
    let command = |args: &[&str]| {
        let mut command = world.command(&[&["export", "--json"], args].concat());
        command.envs(SMALL).env("EASM_STORE_URL", azurite.store_url(&container));
        // Not a pipe, which the manifest would fill while nobody reads.
        command.stdout(File::create(&printed).unwrap());
        command
    };

    let (mut n_kills, mut n_resumed, mut run_id) = (0_u64, 0_u64, None::<String>);
    let mut depths = BTreeSet::new();
    let (mut is_planned, mut n_kills_at_plan) = (false, 0);
    let mut finished = false;
    for life in 0..N_LIVES_MAX {
        let is_resumed = run_id.is_some() && draws.below(3) == 0;
        let mut child = match &run_id {
            Some(id) if is_resumed => command(&["--resume", id]),
            _ => command(&[]),
        }
        .spawn()
        .unwrap();
        let bound = match is_planned {
            false => PLANNING_REQUESTS_MAX,
            true => READING_REQUESTS_MAX + n_kills.saturating_sub(N_KILLS_MIN) * MORE_REQUESTS,
        };
        let before = world.sim.requests().len() as u64;
        let until = before + 1 + draws.below(bound);
        let pause = Duration::from_millis(draws.below(LAST_PAUSE_MS));
        let sent = || world.sim.requests().len() as u64;
        let is_at_work = still_works_when(&mut child, || sent() >= until).await;
        if is_at_work {
            tokio::time::sleep(pause).await;
        }
        // Where it ended in the meantime there is nobody to kill, and no kill.
        child.start_kill().unwrap_or_default();
        let done = child.wait_with_output().await.unwrap();
        if let Some(code) = done.status.code() {
            let stderr = String::from_utf8_lossy(&done.stderr);
            assert_eq!(code, 0, "{case}: life {life} ended by itself: {stderr}");
            finished = true;
            break;
        }
        n_kills += 1;
        n_resumed += u64::from(is_resumed);

        let paths = azurite.blobs(&container).await;
        let found = paths.iter().filter_map(|path| path.strip_prefix("contoso/runs/"));
        let ids: BTreeSet<&str> = found.filter_map(|path| path.split('/').next()).collect();
        assert!(ids.len() <= 1, "{case}: life {life} opened another run: {ids:?}");
        run_id = ids.first().map(|id| (*id).to_owned());
        if !is_planned && paths.iter().any(|path| path.ends_with("/plan.json")) {
            (is_planned, n_kills_at_plan) = (true, n_kills);
        }
        depths.insert(paths.iter().filter(|path| path.contains("/part-")).count());
    }
    assert!(finished, "{case}: no end after {n_kills} kills");
    let manifest: Value = serde_json::from_slice(&std::fs::read(&printed).unwrap()).unwrap();
    assert!(n_kills >= N_KILLS_MIN, "{case}: over after {n_kills} kills");
    assert!(n_resumed > 0 && n_resumed < n_kills, "{case}: both ways to go on were taken");
    assert!(depths.len() >= N_DEPTHS_MIN, "{case}: {depths:?}");

    let stored = blobs(azurite, &container, "").await;
    assert_one_whole_run(&stored, &manifest, &world.sim.inventory().ndjson(""), &case);
    let id = manifest["runId"].as_str().unwrap();
    let history = json(&stored, "contoso/history.json");
    let entries: Vec<&Value> = history["runs"].as_array().unwrap().iter().collect();
    assert_eq!(entries.len(), 1, "{case}: {history}");
    assert_eq!([&entries[0]["runId"], &entries[0]["status"]], [id, "complete"], "{case}");
    let left = stored.keys().find(|path| path.starts_with("contoso/active/"));
    assert_eq!(left, None, "{case}: nothing is in work");

    // A kill costs a shard at most the part that it had not counted yet.
    let plan: Plan =
        serde_json::from_value(json(&stored, &format!("contoso/runs/{id}/plan.json"))).unwrap();
    assert_eq!(plan.shards.len() as u64, SHARDS, "{case}");
    assert!(plan.ranges().count() > 20, "{case}: several ranges a shard");
    let (asked, once) = (asked(&world.sim.requests()), pages(&plan) * PAGE_SIZE);
    let most = once + (n_kills - n_kills_at_plan + 1) * again_max(&manifest);
    assert!(asked <= most, "{case}: {asked} records asked for, {once} once, {most} at most");
}

/// What one export into the world's folder asks for, without any interruption: counts, and room for
/// records.
async fn undisturbed(assets: u64) -> (usize, u64) {
    let world = World::new(options(assets)).await;
    let mut command = world.command(&["export", "--json"]);
    command.envs(SMALL);
    finish(command).await.expect_code(0);
    let requests = world.sim.requests();
    (n_counts(&requests), asked(&requests))
}

/// What a run asks for that was stopped once is the planning, once; the counting at the end, once;
/// every page, once; and what [`again_max`] allows. No page is asked for three times.
#[tokio::test]
async fn a_run_that_is_taken_up_reads_again_at_most_one_part_of_each_shard() {
    const ASSETS: u64 = 2500;
    let (n_counts_once, asked_once) = undisturbed(ASSETS).await;
    // How it is stopped, after how many parts, and how it goes on.
    for (signal, n_parts, resumes) in [
        ("KILL", 1, false),
        ("KILL", 13, true),
        ("KILL", 30, false),
        ("INT", 13, false),
        ("INT", 30, true),
    ] {
        let case = format!("{signal} after {n_parts} parts");
        let world = World::new(options(ASSETS)).await;
        let with = |args: &[&str]| -> Command {
            let mut command = world.command(&[&["export", "--json"], args].concat());
            command.envs(SMALL);
            command
        };
        let mut child = with(&[]).spawn().unwrap();
        let stored = || world.files().iter().filter(|path| path.contains("/part-")).count();
        assert!(still_works_when(&mut child, || stored() >= n_parts).await, "{case}: too late");
        crate::support::signal(&child, signal);
        let done = child.wait_with_output().await.unwrap();
        let code = if signal == "INT" { Some(130) } else { None };
        assert_eq!(done.status.code(), code, "{case}: {}", String::from_utf8_lossy(&done.stderr));

        let left = world.files();
        let id = left.iter().find_map(|path| path.strip_prefix("contoso/runs/")).unwrap();
        let id = id.split('/').next().unwrap();
        let args: &[&str] = if resumes { &["--resume", id] } else { &[] };
        let done = finish(with(args)).await.expect_code(0);
        let manifest: Value = serde_json::from_slice(&done.stdout).unwrap();
        assert_eq!(manifest["runId"], id, "{case}");
        let lines = world.lines(&serde_json::from_value(manifest.clone()).unwrap());
        assert_same_lines(&lines, &world.sim.inventory().ndjson(""), &case);

        let requests = world.sim.requests();
        let (n_counts_now, asked_now) = (n_counts(&requests), asked(&requests));
        assert_eq!(n_counts_now, n_counts_once, "{case}: nothing is counted twice");
        let plan: Plan = world.document(&format!("contoso/runs/{id}/plan.json"));
        // Planning looks at a few pages too.
        assert!(pages(&plan) * PAGE_SIZE <= asked_once, "{case}: every page once");
        let most = asked_once + again_max(&manifest);
        assert!(
            asked_now <= most,
            "{case}: {asked_now} records, {asked_once} once, {most} at most"
        );
        let mut times = BTreeMap::new();
        for seen in requests.iter().filter(|seen| is_page(seen)) {
            *times.entry(seen.query.as_str()).or_insert(0_u32) += 1;
        }
        assert!(times.values().all(|n| *n <= 2), "{case}: a page was read three times");
    }
}
