//! `export` as its user sees it: what lies in the store afterwards.

use std::time::Duration;

use easm_export::model::manifest::{Completeness, Manifest};
use easm_export::model::plan::{Plan, Range};
use easm_export::model::run::Status;
use easm_export::sim::{EndOfCursor, Inventory, Options};
use serde_json::Value;

use crate::support::{World, assert_same_lines, finish, gunzip};

/// The one check this project exists for. Repeat one case with `SEED=17`.
#[tokio::test]
async fn the_export_is_the_inventory_byte_for_byte_whatever_fails() {
    let seeds = match std::env::var("SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (1..=6).collect::<Vec<u64>>(),
    };
    for seed in seeds {
        let options = Options {
            seed,
            assets: 1200 + seed * 37,
            fault_rate: 0.15,
            duplicates: 0.03,
            whitespace: seed % 2 == 0,
            gzip: seed % 3 == 0,
            new_kind_assets: seed % 4,
            ..Options::default()
        };
        let world = World::new(options).await;
        let compression = if seed % 2 == 0 { "none" } else { "gzip" };
        let manifest = world.export(&["--compression", compression], 0).await;
        let case = format!("SEED={seed}");
        assert_same_lines(&world.lines(&manifest), &world.sim.inventory().ndjson(""), &case);
        assert_eq!(manifest.completeness, Completeness::Exact, "{case}");
        let counts = &manifest.counts["assets"];
        let n_assets = world.sim.inventory().len() as u64;
        assert_eq!((counts.exported, counts.expected_at_start), (n_assets, n_assets), "{case}");
        assert!(counts.duplicates_dropped > 0, "{case}: the simulator sent some twice");
    }
}

/// The check above is worth something: it fails for each thing that must not happen.
#[test]
fn the_check_finds_what_is_dropped_doubled_or_reformatted() {
    let truth = Inventory::new(&Options { assets: 50, ..Options::default() }).ndjson("");
    type Break = fn(&mut Vec<Vec<u8>>);
    let broken: [(&str, Break); 4] = [
        ("dropped", |lines| drop(lines.pop())),
        ("doubled", |lines| lines.push(lines[7].clone())),
        ("reformatted", |lines| lines[3].insert(1, b' ')),
        ("re-serialised", |lines| {
            let value: Value = serde_json::from_slice(&lines[5]).unwrap();
            lines[5] = serde_json::to_vec(&value).unwrap();
        }),
    ];
    assert_same_lines(&truth, &truth, "unbroken");
    for (what, break_it) in broken {
        let mut lines = truth.clone();
        break_it(&mut lines);
        let outcome = std::panic::catch_unwind(|| assert_same_lines(&lines, &truth, what));
        assert!(outcome.is_err(), "{what} was not found");
    }
}

#[tokio::test]
async fn however_the_service_ends_its_cursor_nothing_is_missing() {
    for end_of_cursor in [
        EndOfCursor::NullMark,
        EndOfCursor::AbsentMark,
        EndOfCursor::RepeatedMark,
        EndOfCursor::EmptyPage,
    ] {
        let options = Options { assets: 700, end_of_cursor, ..Options::default() };
        let world = World::new(options).await;
        let manifest = world.export(&[], 0).await;
        let case = format!("{end_of_cursor:?}");
        assert_same_lines(&world.lines(&manifest), &world.sim.inventory().ndjson(""), &case);
    }
}

#[tokio::test]
async fn both_generations_of_the_envelope_give_the_same_assets() {
    for version in ["2022-11-01-preview", "2023-03-01-preview", "2024-10-01-preview"] {
        let world = World::new(Options { assets: 600, ..Options::default() }).await;
        let mut command = world.command(&["export", "--json"]);
        command.env("EASM_DP_API_VERSION", version);
        let done = finish(command).await.expect_code(0);
        let manifest: Manifest = serde_json::from_slice(&done.stdout).unwrap();
        assert_eq!(manifest.api_version, version);
        let ids = |lines: &[Vec<u8>]| {
            let id = |line: &Vec<u8>| serde_json::from_slice::<Value>(line).unwrap()["id"].clone();
            let mut ids: Vec<String> = lines.iter().map(id).map(|id| id.to_string()).collect();
            ids.sort();
            ids
        };
        let (found, truth) = (world.lines(&manifest), world.sim.inventory().ndjson(""));
        assert_eq!(ids(&found), ids(&truth), "{version}");
    }
}

#[tokio::test]
async fn the_store_looks_as_the_contract_says() {
    let world = World::new(Options { assets: 400, ..Options::default() }).await;
    let manifest = world.export(&[], 0).await;
    let (id, date) = (manifest.run_id.as_str(), manifest.run_id.date());
    let mut expected = vec![
        "contoso/history.json".to_owned(),
        "contoso/latest.json".to_owned(),
        format!("contoso/runs/{id}/run.json"),
        format!("contoso/runs/{id}/plan.json"),
        format!("contoso/runs/{id}/manifest.json"),
    ];
    expected.extend((0..8).map(|shard| format!("contoso/runs/{id}/checkpoints/{shard}.json")));
    // Eight kinds, each of which fits into one part of a shard of its own.
    for file in &manifest.files {
        let name = format!("contoso/assets/date={date}/run={id}/kind={}/part-", file.kind);
        let number = file.path.strip_prefix(&name).unwrap();
        assert_eq!(number[1..], *"-1-00000.ndjson.gz", "{}", file.path);
        expected.push(file.path.clone());
    }
    expected.sort();
    assert_eq!(world.files(), expected);

    let latest = world.latest();
    assert_eq!(latest.run_id, manifest.run_id);
    assert_eq!(latest.manifest, format!("contoso/runs/{id}/manifest.json"));
    assert_eq!((latest.assets, latest.completeness), (400, Completeness::Exact));
    assert_eq!(world.document::<Manifest>(&latest.manifest), manifest);
    let run = world.run_document(&manifest);
    assert_eq!((run.status, run.progress.exported), (Status::Complete, 400));
    assert_eq!((run.progress.shards_done, run.progress.shards_total), (8, 8));
    assert_eq!(run.manifest, Some(latest.manifest));
    assert_eq!(manifest.workspace.region, "eastus", "asked from ARM");
}

#[tokio::test]
async fn an_empty_inventory_is_a_complete_run() {
    let world = World::new(Options { assets: 0, ..Options::default() }).await;
    let manifest = world.export(&[], 0).await;
    assert_eq!(manifest.completeness, Completeness::Exact);
    assert!(manifest.files.is_empty());
    assert_eq!(world.latest().assets, 0);
    let done = world.run(&["query"]).await.expect_code(0);
    assert!(done.stdout.is_empty());
    let done = world.run(&["query", "--json"]).await.expect_code(0);
    let answer: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(answer, serde_json::json!({"value": [], "nextMark": null, "totalElements": 0}));
}

#[tokio::test]
async fn a_kind_that_is_new_is_exported_too() {
    let options = Options { assets: 300, new_kind_assets: 25, ..Options::default() };
    let world = World::new(options).await;
    let manifest = world.export(&[], 0).await;
    assert_eq!(manifest.counts["assets"].by_kind["other"], 25);
    assert_same_lines(&world.lines(&manifest), &world.sim.inventory().ndjson(""), "new kind");
}

#[tokio::test]
async fn parts_close_when_they_are_large_enough() {
    let world = World::new(Options { assets: 600, ..Options::default() }).await;
    let mut command = world.command(&["export", "--json", "--kind", "page"]);
    command.env("EASM_PART_BYTES_MAX", "32768").env("EASM_PAGE_SIZE", "10");
    let done = finish(command).await.expect_code(0);
    let manifest: Manifest = serde_json::from_slice(&done.stdout).unwrap();
    let n_files = manifest.files.len();
    assert!(n_files > 3, "{n_files} files");
    for (number, file) in manifest.files.iter().enumerate() {
        assert!(file.path.ends_with(&format!("/kind=page/part-0-1-{number:05}.ndjson.gz")));
    }
    let truth = world.sim.inventory().ndjson("kind = \"page\"");
    assert_same_lines(&world.lines(&manifest), &truth, "many parts");
}

/// The simulator's inventory has a burst: one asset in five was created in the same millisecond.
#[tokio::test]
async fn a_large_kind_is_cut_into_ranges_that_are_read_side_by_side() {
    for (filter, faults) in
        [("", 0.0), ("", 0.1), ("state = \"confirmed\" OR state = \"candidate\"", 0.05)]
    {
        let options =
            Options { assets: 3000, fault_rate: faults, duplicates: 0.02, ..Options::default() };
        let world = World::new(options).await;
        let mut command = world.command(&["export", "--json", "--kind", "page,host"]);
        command.env("EASM_RANGE_ASSETS_MAX", "50").env("EASM_FILTER", filter);
        let done = finish(command).await.expect_code(0);
        let manifest: Manifest = serde_json::from_slice(&done.stdout).unwrap();
        let case = format!("{filter:?} {faults}");
        assert_eq!(manifest.completeness, Completeness::Exact, "{case}");
        let of_kinds = "kind in (\"page\", \"host\")";
        let truth = match filter {
            "" => of_kinds.to_owned(),
            filter => format!("({filter}) AND {of_kinds}"),
        };
        assert_same_lines(&world.lines(&manifest), &world.sim.inventory().ndjson(&truth), &case);

        let plan = format!("contoso/runs/{}/plan.json", manifest.run_id);
        let plan: Plan = world.document(&plan);
        assert_eq!(plan.shards.len(), 8, "{case}");
        let n_ranges = plan.ranges().count();
        assert!(n_ranges > 25, "{case}: {n_ranges}");
        let largest = plan.ranges().map(|range| range.expected).max().unwrap();
        assert!(largest <= 50, "{case}: {largest}");
        if faults == 0.0 {
            let requests = world.sim.requests();
            let counts = requests.iter().filter(|seen| seen.query.ends_with("&maxpagesize=1"));
            let n_counts = counts.count();
            assert!(n_counts > 0, "{case}");
            assert!(n_counts < 2 * n_ranges, "{case}: {n_counts} counts for {n_ranges} ranges");
        }
        let is_by_name = |range: &Range| range.within.name_prefix.is_some();
        assert!(plan.ranges().any(is_by_name), "{case}: the burst is cut by name");
        let shards = plan
            .shards
            .iter()
            .map(|shard| shard.ranges.iter().map(|range| range.expected).sum::<u64>());
        let (least, most) = (shards.clone().min().unwrap(), shards.max().unwrap());
        assert!(most - least <= 50, "{case}: {least} to {most}");
    }
}

#[tokio::test]
async fn a_limit_is_met_over_many_ranges_and_stdout_is_read_by_them_too() {
    let world = World::new(Options { assets: 1000, ..Options::default() }).await;
    let mut command = world.command(&["export", "--json", "--max-assets", "333"]);
    command.env("EASM_RANGE_ASSETS_MAX", "50");
    let done = finish(command).await.expect_code(0);
    let manifest: Manifest = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(manifest.completeness, Completeness::Limited);
    assert_eq!(world.lines(&manifest).len(), 333);
    let mut command = world.command(&["export", "--stdout"]);
    command.env("EASM_RANGE_ASSETS_MAX", "50");
    let done = finish(command).await.expect_code(0);
    let mut lines: Vec<Vec<u8>> =
        done.stdout.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    lines.retain(|line| !line.is_empty());
    lines.sort();
    assert_same_lines(&lines, &world.sim.inventory().ndjson(""), "stdout");
}

#[tokio::test]
async fn a_filter_and_kinds_narrow_the_export() {
    let world = World::new(Options { assets: 800, ..Options::default() }).await;
    let check = |args: &'static [&'static str], filter: &'static str| {
        let world = &world;
        async move {
            let manifest = world.export(args, 0).await;
            let truth = world.sim.inventory().ndjson(filter);
            assert!(!truth.is_empty(), "{filter}");
            assert_same_lines(&world.lines(&manifest), &truth, filter);
        }
    };
    check(&["--filter", "state = \"confirmed\""], "state = \"confirmed\"").await;
    check(&["--kind", "host,SSLCERT"], "kind in (\"host\", \"sslCert\")").await;
    check(&["--kind", "host", "--kind", "page"], "kind in (\"host\", \"page\")").await;
    let either = "state = \"dismissed\" OR state = \"candidate\"";
    check(&["--filter", "state = \"dismissed\" OR state = \"candidate\""], either).await;

    let file = world.folder.path().join("filter.txt");
    std::fs::write(&file, "# what we own\nstate = \"confirmed\"\n  AND kind = \"domain\"\n")
        .unwrap();
    let both = "state = \"confirmed\" AND kind = \"domain\"";
    check(&["--filter", "@filter.txt"], both).await;
    let mut command = world.command(&["export", "--json", "--filter", "@-"]);
    command.stdin(std::fs::File::open(&file).unwrap());
    let done = finish(command).await.expect_code(0);
    let manifest = serde_json::from_slice(&done.stdout).unwrap();
    assert_same_lines(&world.lines(&manifest), &world.sim.inventory().ndjson(both), "stdin");
}

#[tokio::test]
async fn a_limited_export_is_not_the_latest() {
    let world = World::new(Options { assets: 500, ..Options::default() }).await;
    let manifest = world.export(&["--max-assets", "120"], 0).await;
    assert_eq!(manifest.completeness, Completeness::Limited);
    assert_eq!(manifest.counts["assets"].exported, 120);
    assert_eq!(world.lines(&manifest).len(), 120);
    assert!(!world.exports().join("contoso/latest.json").exists());
}

#[tokio::test]
async fn latest_names_the_newest_run_of_the_targets_own_request() {
    let world = World::new(Options { assets: 100, ..Options::default() }).await;
    let first = world.export(&[], 0).await;
    assert_eq!(world.latest().run_id, first.run_id);
    let second = world.export(&[], 0).await;
    assert_eq!(world.latest().run_id, second.run_id);
    world.export(&["--kind", "host"], 0).await;
    assert_eq!(world.latest().run_id, second.run_id, "another request does not move it");
}

#[tokio::test]
async fn an_inventory_that_shrinks_meanwhile_is_reported_as_changed() {
    let options = Options { assets: 900, shrink_after: Some((14, 20)), ..Options::default() };
    let world = World::new(options).await;
    let manifest = world.export(&[], 0).await;
    assert_eq!(manifest.completeness, Completeness::Changed);
    let counts = &manifest.counts["assets"];
    assert_eq!((counts.expected_at_start, counts.expected_at_end), (900, 880));
    assert!(counts.exported >= 880, "{counts:?}");
}

#[tokio::test]
async fn a_dry_run_counts_and_writes_nothing() {
    let world = World::new(Options { assets: 640, ..Options::default() }).await;
    let done = world.run(&["export", "--dry-run", "--json"]).await.expect_code(0);
    let answer: Value = serde_json::from_slice(&done.stdout).unwrap();
    let assets = &answer["counts"]["assets"];
    assert_eq!(assets["expected"], 640);
    let sum: u64 =
        assets["byKind"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
    assert_eq!(sum, 640);
    let done = world.run(&["export", "--dry-run"]).await.expect_code(0);
    assert!(done.stdout_text().lines().any(|line| line.split_whitespace().eq(["all", "640"])));
    assert!(!world.exports().exists());
}

#[tokio::test]
async fn records_go_to_stdout_when_asked_for() {
    let options = Options { assets: 900, fault_rate: 0.1, duplicates: 0.02, ..Options::default() };
    let world = World::new(options).await;
    let truth = world.sim.inventory().ndjson("");
    let lines = |text: &[u8]| {
        let mut lines: Vec<Vec<u8>> =
            text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        assert_eq!(lines.pop(), Some(Vec::new()), "the last line ends too");
        lines.sort();
        lines
    };
    let done = world.run(&["export", "--stdout"]).await.expect_code(0);
    assert_same_lines(&lines(&done.stdout), &truth, "plain");
    let done = world.run(&["export", "--stdout", "--compression", "gzip"]).await.expect_code(0);
    assert_same_lines(&lines(&gunzip(&done.stdout)), &truth, "gzip");
    assert!(!world.exports().exists());
}

#[tokio::test]
async fn a_query_goes_on_where_it_stopped() {
    let world = World::new(Options { assets: 250, ..Options::default() }).await;
    let mut lines = Vec::new();
    let mut mark: Option<String> = None;
    for _ in 0..5 {
        let mut args = vec!["query", "--json", "--limit", "70"];
        args.extend(mark.as_deref().map(|mark| ["--mark", mark]).into_iter().flatten());
        let done = world.run(&args).await.expect_code(0);
        let answer: Value = serde_json::from_slice(&done.stdout).unwrap();
        assert_eq!(answer["totalElements"], 250);
        let ids = answer["value"].as_array().unwrap().iter().map(|asset| asset["id"].to_string());
        lines.extend(ids);
        mark = answer["nextMark"].as_str().map(str::to_owned);
        if mark.is_none() {
            break;
        }
    }
    assert_eq!(mark, None);
    lines.sort();
    lines.dedup();
    assert_eq!(lines.len(), 250);

    let done = world.run(&["query", "--limit", "3", "--kind", "host"]).await.expect_code(0);
    assert_eq!(done.stdout_text().lines().count(), 3);
    assert!(done.stderr.contains("--mark"), "{}", done.stderr);
}

#[tokio::test]
async fn an_interrupted_export_leaves_nothing_that_looks_whole() {
    for (signal, code) in [("INT", 130), ("KILL", -1)] {
        let options =
            Options { assets: 3000, latency: Duration::from_millis(60), ..Options::default() };
        let world = World::new(options).await;
        let mut command = world.command(&["export", "--json"]);
        command.env("EASM_PART_BYTES_MAX", "200000");
        let mut child = command.spawn().unwrap();
        let pid = child.id().unwrap().to_string();
        // The signal comes once a part is there, however fast the machine is.
        while !world.files().iter().any(|path| path.contains("/part-")) {
            assert!(child.try_wait().unwrap().is_none(), "it ended before its first part");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let kill = format!("kill -s {signal} {pid}");
        let killed = std::process::Command::new("sh").args(["-c", &kill]).status();
        assert!(killed.unwrap().success());
        let output = child.wait_with_output().await.unwrap();
        assert_eq!(output.status.code().unwrap_or(-1), code, "{signal}");
        assert!(output.stdout.is_empty(), "{signal}: no manifest is printed");

        let files = world.files();
        assert!(!files.iter().any(|path| path.ends_with("/manifest.json")), "{signal}");
        assert!(!files.iter().any(|path| path.ends_with("/latest.json")), "{signal}");
        for path in files.iter().filter(|path| path.contains("/part-")) {
            let text = gunzip(&std::fs::read(world.exports().join(path)).unwrap());
            assert_eq!(text.last(), Some(&b'\n'), "{signal}: {path} is whole");
        }
        if signal == "INT" {
            let stderr = String::from_utf8(output.stderr).unwrap();
            assert!(stderr.contains("interrupted"), "{stderr}");
            let run = files.iter().find(|path| path.ends_with("/run.json")).unwrap();
            let run: Value = world.document(run);
            assert_eq!((&run["status"], &run["error"]), (&"running".into(), &Value::Null));
        }
        // The next export takes it up.
        let run = files.iter().find(|path| path.ends_with("/run.json")).unwrap();
        let manifest = world.export(&[], 0).await;
        assert!(run.contains(manifest.run_id.as_str()), "{signal}");
        assert_eq!(manifest.completeness, Completeness::Exact);
    }
}
