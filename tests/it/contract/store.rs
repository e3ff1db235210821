//! The store of the contract, seen from outside: what a container of Azurite holds afterwards,
//! whatever failed, and which URLs are refused.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use easm_export::sim::Options;
use futures::StreamExt as _;
use reqwest::Method;
use serde_json::Value;
use tokio::process::Command;

use super::{KINDS, fits, run, world};
use crate::azurite::{ACCOUNT, Azurite, Certificate, blob_path, plain_client, signed};
use crate::proxy::{Proxy, ProxyFault, ProxyOptions, ScriptedFault};
use crate::support::{World, assert_same_lines, finish, lines};

/// A part of more than one block, uncompressed.
const BIG_ASSET_BYTES: usize = 8192;
/// How many programs run at once.
const N_AT_ONCE: usize = 4;
/// How often a condition is looked at.
const POLL_PAUSE: Duration = Duration::from_millis(5);
/// Ends a wait for a condition that never comes.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Every blob of `container` below `prefix`, by its path behind it. Fails if there are others.
pub async fn blobs(azurite: &Azurite, container: &str, prefix: &str) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for path in azurite.blobs(container).await {
        // Whoever ends a run may delete one meanwhile.
        let Some(bytes) = azurite.get(container, &path).await else { continue };
        let below =
            path.strip_prefix(prefix).unwrap_or_else(|| panic!("{path} is not in {prefix}"));
        found.insert(below.to_owned(), bytes);
    }
    found
}

pub fn json(blobs: &BTreeMap<String, Vec<u8>>, path: &str) -> Value {
    let bytes = blobs.get(path).unwrap_or_else(|| panic!("no {path} in {:?}", blobs.keys()));
    serde_json::from_slice(bytes).unwrap()
}

/// Fails unless the run of `manifest` is whole in `blobs`: its documents say so, its parts are
/// those that are listed, with size and hash, and hold `truth`; and `latest.json` names it.
#[track_caller]
pub fn assert_whole_run(
    blobs: &BTreeMap<String, Vec<u8>>,
    manifest: &Value,
    truth: &[Vec<u8>],
    case: &str,
) {
    let id = manifest["runId"].as_str().unwrap();
    let path = format!("contoso/runs/{id}/manifest.json");
    assert_eq!(json(blobs, &path), *manifest, "{case}: what is printed is what is stored");
    let found = lines(&serde_json::from_value(manifest.clone()).unwrap(), |path| {
        blobs.get(path).unwrap_or_else(|| panic!("{case}: no {path}")).clone()
    });
    assert_same_lines(&found, truth, case);
    assert_eq!(manifest["counts"]["assets"]["exported"], truth.len(), "{case}");
    assert_eq!(manifest["completeness"], "exact", "{case}");
    let of_run = format!("/run={id}/");
    let stored: BTreeSet<&str> =
        blobs.keys().filter(|path| path.contains(&of_run)).map(String::as_str).collect();
    let listed: Vec<&str> = manifest["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| file["path"].as_str().unwrap())
        .collect();
    assert_eq!(stored, listed.iter().copied().collect(), "{case}: parts");
    assert_eq!(stored.len(), listed.len(), "{case}: a part is listed twice");
    let document = json(blobs, &format!("contoso/runs/{id}/run.json"));
    assert_eq!(document["status"], "complete", "{case}: {document}");
    assert_eq!(document["manifest"], path.as_str(), "{case}");
    assert_eq!(document["error"], Value::Null, "{case}");
    assert_eq!(document["progress"]["exported"], truth.len(), "{case}");
    let latest = json(blobs, "contoso/latest.json");
    assert_eq!(
        [&latest["runId"], &latest["manifest"]],
        [&manifest["runId"], &path.into()],
        "{case}"
    );
    assert_eq!(latest["assets"], truth.len(), "{case}");
}

/// Fails unless one run was ever begun in `blobs`, and it is whole.
#[track_caller]
pub fn assert_one_whole_run(
    blobs: &BTreeMap<String, Vec<u8>>,
    manifest: &Value,
    truth: &[Vec<u8>],
    case: &str,
) {
    assert_whole_run(blobs, manifest, truth, case);
    let of_paths = |marker: &str| -> BTreeSet<String> {
        let rest = blobs.keys().filter_map(|path| path.split_once(marker));
        rest.filter_map(|(_, rest)| rest.split('/').next()).map(str::to_owned).collect()
    };
    let id = BTreeSet::from([manifest["runId"].as_str().unwrap().to_owned()]);
    assert_eq!(of_paths("contoso/runs/"), id, "{case}: runs");
    assert_eq!(of_paths("/run="), id, "{case}: folders of parts");
}

/// Exports into `url`.
pub async fn export_to(world: &World, url: &str, vars: &[(&str, &str)]) -> Value {
    let vars = [&[("EASM_STORE_URL", url)], vars].concat();
    super::export(world, &[], &vars).await
}

/// Waits until a request that came to `proxy` is as `is_it` says, or the program has ended.
async fn seen(proxy: &Proxy, is_it: impl Fn(ProxyFault) -> bool) {
    let look = async {
        while !proxy.seen().iter().any(|request| request.fault.is_some_and(&is_it)) {
            tokio::time::sleep(POLL_PAUSE).await;
        }
    };
    tokio::time::timeout(WAIT_MAX, look).await.expect("a request that meets the fault");
}

#[tokio::test]
async fn in_azurite_a_missing_container_is_made_and_all_lies_below_the_prefix() {
    let test = "in_azurite_a_missing_container_is_made_and_all_lies_below_the_prefix";
    let Some(azurite) = Azurite::http(test) else { return };
    let world = world(300).await;
    let truth = world.sim.inventory().ndjson("");
    // What stands behind the container in the URL, and what stands before the target in names.
    for (tail, prefix) in [
        ("", ""),
        ("/", ""),
        ("/nightly", "nightly/"),
        ("/a/b/", "a/b/"),
        ("/a%20b/%C3%BC", "a b/ü/"),
    ] {
        for (compression, ending, kind_of_content) in
            [("gzip", ".ndjson.gz", Some("application/gzip")), ("none", ".ndjson", None)]
        {
            let case = format!("{tail} {compression}");
            let container = azurite.container();
            let url = azurite.store_url(&container) + tail;
            let vars = [("EASM_COMPRESSION", compression), ("EASM_PART_BYTES_MAX", "32768")];
            let manifest = export_to(&world, &url, &vars).await;
            let stored = blobs(azurite, &container, prefix).await;
            assert_one_whole_run(&stored, &manifest, &truth, &case);
            let id = manifest["runId"].as_str().unwrap();
            let day = format!("date={}-{}-{}", &id[..4], &id[4..6], &id[6..8]);
            for path in stored.keys() {
                let parts: Vec<&str> = path.split('/').collect();
                let good = match parts.as_slice() {
                    ["contoso", "latest.json" | "history.json" | "schedule.json"] => true,
                    ["contoso", "runs", run, "run.json" | "plan.json" | "manifest.json"] => {
                        *run == id
                    }
                    ["contoso", "runs", run, "checkpoints", shard] => {
                        *run == id && shard.trim_end_matches(".json").parse::<u32>().is_ok()
                    }
                    ["contoso", "active", hash] => hash.ends_with(".json"),
                    ["contoso", "assets", date, run, kind, part] => {
                        let name = part.strip_prefix("part-").and_then(|p| p.strip_suffix(ending));
                        *date == day
                            && run.strip_prefix("run=") == Some(id)
                            && kind.strip_prefix("kind=").is_some_and(|kind| KINDS.contains(&kind))
                            && name
                                .and_then(|name| name.rsplit('-').next())
                                .is_some_and(|number| fits("00000", number))
                    }
                    _ => false,
                };
                assert!(good, "{case}: {path}");
                let answer = signed(
                    &plain_client(None),
                    &azurite.base(),
                    Method::HEAD,
                    &blob_path(&container, &format!("{prefix}{path}")),
                    &[],
                    &[],
                    Vec::new(),
                )
                .await
                .unwrap();
                let header = |name: &str| {
                    answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned())
                };
                assert_eq!(header("content-encoding").unwrap_or_default(), "", "{case}: {path}");
                if path.ends_with(".gz") {
                    assert_eq!(
                        header("content-type").as_deref(),
                        kind_of_content,
                        "{case}: {path}"
                    );
                }
            }
        }
    }
}

#[tokio::test]
async fn over_https_the_container_must_exist_and_the_certificate_be_trusted() {
    let test = "over_https_the_container_must_exist_and_the_certificate_be_trusted";
    let world = world(60).await;
    let ca_pem = std::fs::read_to_string(world.sim.ca_file()).unwrap();
    let (cert_pem, key_pem) = world.sim.certificate(&["127.0.0.1", "localhost"]);
    let Some(azurite) = Azurite::tls(test, &Certificate { ca_pem, cert_pem, key_pem }) else {
        return;
    };
    let trusted = world.sim.ca_file().to_str().unwrap();
    let container = azurite.container();
    let url = azurite.store_url(&container) + "/p";
    let vars = [("EASM_STORE_URL", url.as_str()), ("SSL_CERT_FILE", trusted)];

    let done = run(&world, &["export", "--json"], &vars).await.expect_code(1);
    assert!(done.stdout.is_empty(), "{}", done.stdout_text());
    assert!(done.error_line().contains("container"), "{}", done.stderr);

    azurite.create_container(&container).await;
    let manifest = export_to(&world, &url, &vars[1..]).await;
    let stored = blobs(&azurite, &container, "p/").await;
    assert_one_whole_run(&stored, &manifest, &world.sim.inventory().ndjson(""), "with a token");

    let others = Certificate::new();
    let file = world.folder.path().join("other.pem");
    std::fs::write(&file, others.ca_pem).unwrap();
    let vars = [("EASM_STORE_URL", url.as_str()), ("SSL_CERT_FILE", file.to_str().unwrap())];
    let done = run(&world, &["export", "--json"], &vars).await.expect_code(1);
    assert!(done.stdout.is_empty(), "{}", done.stdout_text());
    assert!(done.error_line().contains("certificate"), "{}", done.stderr);
    assert_eq!(blobs(&azurite, &container, "p/").await, stored, "nothing was written");
}

/// URLs that are no store.
fn odd_urls(base: &str) -> Vec<String> {
    let long = "a".repeat(64);
    let containers = [
        "", "/", "/C", "/Exports", "/ab", "/a--b", "/-abc", "/abc-", "/a_bc", "/a.bc", "/a%20b",
        &long,
    ];
    let mut urls: Vec<String> = Vec::new();
    for host in [format!("{base}/{ACCOUNT}"), "https://acme.blob.core.windows.net".to_owned()] {
        urls.extend(
            containers.map(|container| format!("{host}/{}", container.trim_start_matches('/'))),
        );
    }
    let port = base.rsplit(':').next().unwrap();
    urls.extend([
        base.to_owned(),
        format!("{base}/"),
        format!("{base}/otheraccount/exports"),
        format!("{base}/{ACCOUNT}/exports#part"),
        format!("{base}/{ACCOUNT}/exports/a%5Cb"),
        format!("http://10.0.0.1:{port}/{ACCOUNT}/exports"),
        format!("http://127.0.0.1.example.com:{port}/{ACCOUNT}/exports"),
        format!("http://[::ffff:10.0.0.1]:{port}/{ACCOUNT}/exports"),
        format!("http://127.0.0.1:99999/{ACCOUNT}/exports"),
    ]);
    urls.extend(
        [
            "http://acme.blob.core.windows.net/exports",
            "HTTP://ACME.blob.core.windows.net/exports",
            "https://acme.blob.core.windows.net.example.com/exports",
            "https://blob.core.windows.net/exports",
            "https://a.b.blob.core.windows.net/exports",
            "https://acme.dfs.core.windows.net/exports",
            "ftp://127.0.0.1/exports",
            "s3://exports/p",
            "file://otherhost/exports",
        ]
        .map(str::to_owned),
    );
    urls
}

#[tokio::test]
async fn a_url_that_is_no_store_is_refused_by_one_line_that_names_the_setting_or_the_flag() {
    let world = world(10).await;
    let urls = odd_urls("http://127.0.0.1:10000");
    let refused = |url: String| {
        let world = &world;
        async move {
            let by_flag = run(world, &["export", "--json", "--store", &url], &[]).await;
            let vars = [("EASM_STORE_URL", url.as_str())];
            let by_setting = run(world, &["export", "--json"], &vars).await;
            for (done, name) in [(by_flag, "--store"), (by_setting, "EASM_STORE_URL")] {
                assert_eq!(done.code, 2, "{url}: {}", done.stderr);
                assert!(done.stdout.is_empty(), "{url}: {}", done.stdout_text());
                assert!(done.error_line().contains(name), "{url}: {name}: {}", done.stderr);
            }
        }
    };
    futures::stream::iter(urls.into_iter().map(refused))
        .buffer_unordered(N_AT_ONCE)
        .collect::<Vec<()>>()
        .await;
    assert!(world.sim.requests().is_empty(), "nobody is asked");
    assert!(std::fs::read_dir(world.folder.path()).unwrap().next().is_none(), "nothing is written");
}

#[tokio::test]
async fn a_url_in_capitals_or_by_another_name_of_loopback_is_the_same_store() {
    let test = "a_url_in_capitals_or_by_another_name_of_loopback_is_the_same_store";
    let Some(azurite) = Azurite::http(test) else { return };
    let world = world(20).await;
    let (container, port) = (azurite.container(), azurite.port);
    for host in ["HTTP://127.0.0.1", "http://localhost", "Http://LocalHost"] {
        let url = format!("{host}:{port}/{ACCOUNT}/{container}/p/");
        let manifest = export_to(&world, &url, &[]).await;
        let stored = blobs(azurite, &container, "p/").await;
        assert_whole_run(&stored, &manifest, &world.sim.inventory().ndjson(""), &url);
    }
}

#[tokio::test]
async fn in_azure_the_disk_is_no_store() {
    let world = world(10).await;
    let file = format!("file://{}/f", world.folder.path().display());
    let folder = world.folder.path().join("g").display().to_string();
    let host = ("FUNCTIONS_CUSTOMHANDLER_PORT", "7071");
    let site = ("WEBSITE_SITE_NAME", "easm");
    // Variables of the platform, and whether the disk is refused.
    let places: [(&[(&str, &str)], bool); 6] = [
        (&[host, site], true),
        (&[host, site, ("AZURE_FUNCTIONS_ENVIRONMENT", "Production")], true),
        (&[host, site, ("AZURE_FUNCTIONS_ENVIRONMENT", "Development")], false),
        (&[host], false),
        (&[site], false),
        (&[], false),
    ];
    for (place, is_refused) in places {
        for url in ["", "./exports", &folder, &file] {
            let vars = [place, &[("EASM_STORE_URL", url)]].concat();
            let by_setting = run(&world, &["export", "--json"], &vars).await;
            let args = ["export", "--json", "--store", url];
            let by_flag = match url {
                "" => None,
                _ => Some(run(&world, &args, place).await),
            };
            let all = [Some((by_setting, "EASM_STORE_URL")), by_flag.map(|done| (done, "--store"))];
            for (done, name) in all.into_iter().flatten() {
                let case = format!("{place:?} {url} {name}");
                assert_eq!(done.code, if is_refused { 2 } else { 0 }, "{case}: {}", done.stderr);
                if is_refused {
                    assert!(done.stdout.is_empty(), "{case}: {}", done.stdout_text());
                    let line = done.error_line();
                    let is_named = line.contains(name) || line.contains("EASM_STORE_URL");
                    assert!(is_named, "{case}: {line}");
                }
            }
        }
    }
}

/// A fault for `times` PUTs of what has `part` in its path, from number `from` on.
pub fn scripted(part: &str, from: u64, times: u64, fault: ProxyFault) -> ScriptedFault {
    let (path_contains, query_contains) = (part.to_owned(), String::new());
    ScriptedFault { method: Method::PUT, path_contains, query_contains, from, times, fault }
}

#[tokio::test]
async fn whichever_answer_of_the_store_is_lost_one_whole_run_is_there() {
    let test = "whichever_answer_of_the_store_is_lost_one_whole_run_is_there";
    let Some(azurite) = Azurite::http(test) else { return };
    let faults = [
        ProxyFault::CutBefore,
        ProxyFault::CutAfter,
        ProxyFault::TimedOutBefore,
        ProxyFault::TimedOutAfter,
        ProxyFault::InternalError,
        ProxyFault::Busy { retry_after_s: Some(0) },
        ProxyFault::CorruptBody,
    ];
    let mut cases = Vec::new();
    // Part of a path, part of the query, and which of these requests fail.
    for (part, query, from) in [
        ("", "restype=container", 0),
        ("/run.json", "", 0),
        ("/run.json", "", 1),
        ("/plan.json", "", 0),
        ("/checkpoints/", "", 0),
        ("/checkpoints/", "", 9),
        ("/part-", "blockid=", 1),
        ("/part-", "comp=blocklist", 0),
        ("/part-", "comp=blocklist", 2),
        ("/part-", "", 0),
        ("/manifest.json", "", 0),
        ("/latest.json", "", 0),
    ] {
        let query_contains = query.to_owned();
        // A garbled list of blocks is refused for what it says, not for its sum.
        let is_garbled = |fault: &ProxyFault| *fault == ProxyFault::CorruptBody;
        let faults = faults.into_iter().filter(|fault| query.is_empty() || !is_garbled(fault));
        cases.extend(faults.map(|fault| ScriptedFault {
            query_contains: query_contains.clone(),
            ..scripted(part, from, 1, fault)
        }));
        let twice = scripted(part, from, 2, ProxyFault::CutAfter);
        cases.push(ScriptedFault { query_contains, ..twice });
    }
    let one = |script: ScriptedFault| async move {
        let case = format!("{script:?}");
        let options = Options { assets: 400, asset_bytes: BIG_ASSET_BYTES, ..Options::default() };
        let world = World::new(options).await;
        let proxy = Proxy::start(ProxyOptions {
            script: vec![script],
            ..ProxyOptions::new(azurite.base())
        });
        let container = azurite.container();
        let url = format!("{}/{ACCOUNT}/{container}", proxy.url());
        let vars = [("EASM_STORE_URL", url.as_str()), ("EASM_COMPRESSION", "none")];
        let done = run(&world, &["export", "--json"], &vars).await;
        assert_eq!(done.code, 0, "{case}: {}", done.stderr);
        let n_faults = proxy.seen().iter().filter(|seen| seen.fault.is_some()).count();
        let manifest = serde_json::from_slice(&done.stdout).unwrap();
        let stored = blobs(azurite, &container, "").await;
        assert_one_whole_run(&stored, &manifest, &world.sim.inventory().ndjson(""), &case);
        (case, n_faults)
    };
    let done: Vec<(String, usize)> = futures::stream::iter(cases.into_iter().map(one))
        .buffer_unordered(N_AT_ONCE)
        .collect()
        .await;
    let unmet: Vec<&String> = done.iter().filter(|(_, n)| *n == 0).map(|(case, _)| case).collect();
    assert!(unmet.is_empty(), "no request met {unmet:#?}");
}

#[tokio::test]
async fn whatever_fails_at_the_store_two_whole_runs_follow_one_another() {
    let test = "whatever_fails_at_the_store_two_whole_runs_follow_one_another";
    let Some(azurite) = Azurite::http(test) else { return };
    let one = |seed: u64| async move {
        let case = format!("SEED={seed}");
        let asset_bytes = if seed.is_multiple_of(2) { BIG_ASSET_BYTES } else { 900 };
        let options = Options { seed, assets: 300, asset_bytes, ..Options::default() };
        let world = World::new(options).await;
        let upstream = ProxyOptions::new(azurite.base());
        let proxy = Proxy::start(ProxyOptions { seed, fault_rate: 0.25, ..upstream });
        let container = azurite.container();
        let url = format!("{}/{ACCOUNT}/{container}/p", proxy.url());
        let truth = world.sim.inventory().ndjson("");
        let vars = [
            ("EASM_STORE_URL", url.as_str()),
            ("EASM_COMPRESSION", if seed.is_multiple_of(3) { "gzip" } else { "none" }),
            ("EASM_PART_BYTES_MAX", if seed.is_multiple_of(2) { "67108864" } else { "32768" }),
            ("EASM_PAGE_SIZE", "25"),
        ];
        let done = run(&world, &["export", "--json"], &vars).await;
        assert_eq!(done.code, 0, "{case}: {}", done.stderr);
        let first: Value = serde_json::from_slice(&done.stdout).unwrap();
        let stored = blobs(azurite, &container, "p/").await;
        assert_one_whole_run(&stored, &first, &truth, &case);
        let n_faults = proxy.seen().iter().filter(|seen| seen.fault.is_some()).count();
        assert!(n_faults > 0, "{case}: nothing failed");

        let done = run(&world, &["export", "--json"], &vars).await;
        assert_eq!(done.code, 0, "{case}: {}", done.stderr);
        let second: Value = serde_json::from_slice(&done.stdout).unwrap();
        let after = blobs(azurite, &container, "p/").await;
        assert_whole_run(&after, &second, &truth, &case);
        for (path, bytes) in &stored {
            if path.contains(first["runId"].as_str().unwrap()) {
                assert_eq!(after.get(path), Some(bytes), "{case}: {path} of the first run");
            }
        }
    };
    futures::stream::iter((1..=10).map(one)).buffer_unordered(N_AT_ONCE).collect::<Vec<()>>().await;
}

#[tokio::test]
async fn a_store_that_refuses_ends_the_run_with_one_line_and_nothing_on_stdout() {
    let test = "a_store_that_refuses_ends_the_run_with_one_line_and_nothing_on_stdout";
    let Some(azurite) = Azurite::http(test) else { return };
    for part in ["/run.json", "/plan.json", "/part-", "/checkpoints/", "/manifest.json"] {
        let world = world(60).await;
        let container = azurite.container();
        let direct = azurite.store_url(&container);
        let before = export_to(&world, &direct, &[]).await;
        let latest = azurite.get(&container, "contoso/latest.json").await;
        let (code, message) =
            ("AuthorizationPermissionMismatch", "This request is not authorized.");
        let fault = ProxyFault::Answer { status: 403, code, message };
        let script = vec![scripted(part, 0, u64::MAX / 2, fault)];
        let proxy = Proxy::start(ProxyOptions { script, ..ProxyOptions::new(azurite.base()) });
        let url = format!("{}/{ACCOUNT}/{container}", proxy.url());
        let vars = [("EASM_STORE_URL", url.as_str())];
        let done = run(&world, &["export", "--json"], &vars).await;
        assert_eq!(done.code, 1, "{part}: {}", done.stderr);
        assert!(done.stdout.is_empty(), "{part}: {}", done.stdout_text());
        assert!(done.error_line().contains("403"), "{part}: {}", done.stderr);
        assert_eq!(azurite.get(&container, "contoso/latest.json").await, latest, "{part}");
        let stored = blobs(azurite, &container, "").await;
        let truth = world.sim.inventory().ndjson("");
        assert_whole_run(&stored, &before, &truth, &format!("{part}: the run before"));
        let n_manifests = stored.keys().filter(|path| path.ends_with("/manifest.json")).count();
        assert_eq!(n_manifests, 1, "{part}");
        let after = export_to(&world, &direct, &[]).await;
        assert_whole_run(&blobs(azurite, &container, "").await, &after, &truth, part);
    }
}

/// Exports through `proxy` until a request hangs there, then kills the program.
pub async fn killed_at_a_request_that_hangs(mut command: Command, proxy: &Proxy) {
    let mut child = command.spawn().unwrap();
    seen(proxy, |fault| fault == ProxyFault::Hang).await;
    assert_eq!(child.try_wait().unwrap(), None, "it is at work");
    child.kill().await.unwrap();
}

#[tokio::test]
async fn a_kill_at_any_request_leaves_no_manifest_and_the_next_export_is_whole() {
    let test = "a_kill_at_any_request_leaves_no_manifest_and_the_next_export_is_whole";
    let Some(azurite) = Azurite::http(test) else { return };
    let cases = [
        ("/run.json", 0),
        ("/plan.json", 0),
        ("/part-", 0),
        ("/part-", 12),
        ("/checkpoints/", 0),
        ("/checkpoints/", 11),
        ("/manifest.json", 0),
    ];
    let one = |(part, from): (&'static str, u64)| async move {
        let case = format!("{part} {from}");
        let world =
            World::new(Options { assets: 300, asset_bytes: 900, ..Options::default() }).await;
        let script = vec![scripted(part, from, 1, ProxyFault::Hang)];
        let proxy = Proxy::start(ProxyOptions { script, ..ProxyOptions::new(azurite.base()) });
        let container = azurite.container();
        let small = [("EASM_PART_BYTES_MAX", "32768"), ("EASM_PAGE_SIZE", "25")];
        let mut command = world.command(&["export", "--json"]);
        command.envs(small).env("EASM_STORE_URL", format!("{}/{ACCOUNT}/{container}", proxy.url()));
        killed_at_a_request_that_hangs(command, &proxy).await;
        let left = blobs(azurite, &container, "").await;
        let manifests = left.keys().filter(|path| path.ends_with("/manifest.json"));
        assert_eq!(manifests.count(), 0, "{case}: {:?}", left.keys());
        assert!(!left.contains_key("contoso/latest.json"), "{case}");

        let manifest = export_to(&world, &azurite.store_url(&container), &small).await;
        let stored = blobs(azurite, &container, "").await;
        assert_whole_run(&stored, &manifest, &world.sim.inventory().ndjson(""), &case);
        let manifests: Vec<&String> =
            stored.keys().filter(|path| path.ends_with("/manifest.json")).collect();
        assert_eq!(manifests.len(), 1, "{case}: {manifests:?}");
    };
    futures::stream::iter(cases.map(one)).buffer_unordered(N_AT_ONCE).collect::<Vec<()>>().await;
}

#[tokio::test]
async fn two_exports_at_once_into_one_container_that_is_not_there_are_both_whole() {
    let test = "two_exports_at_once_into_one_container_that_is_not_there_are_both_whole";
    let Some(azurite) = Azurite::http(test) else { return };
    let world = world(150).await;
    let container = azurite.container();
    let url = azurite.store_url(&container);
    // Of two requests, so that neither takes up the other's run.
    let host = [("EASM_STORE_URL", url.as_str()), ("EASM_KINDS", "host")];
    let (all, hosts) = tokio::join!(
        export_to(&world, &url, &[]),
        finish({
            let mut command = world.command(&["export", "--json", "--max-assets", "100000"]);
            command.envs(host);
            command
        }),
    );
    let hosts: Value = serde_json::from_slice(&hosts.expect_code(0).stdout).unwrap();
    let stored = blobs(azurite, &container, "").await;
    assert_whole_run(&stored, &all, &world.sim.inventory().ndjson(""), "all");
    let found = lines(&serde_json::from_value(hosts).unwrap(), |path| stored[path].clone());
    assert_same_lines(&found, &world.sim.inventory().ndjson("kind = \"host\""), "hosts");
}
