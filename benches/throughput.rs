//! How fast an export is beside clients that do less, and how much memory it takes.
//!
//! `cargo bench` runs everything; `cargo bench -- latency`, `-- cpu`, `-- memory`, `-- azurite` or
//! `-- shards` a part; `azurite` needs Node.js. The
//! simulator runs as a process of its own, and so does every export. Ratios compare figures of one
//! run; the medians of [`ROUNDS`] rounds, taken in turn, are printed. Nothing is asserted.
//!
//! - *bare*: the same pages by the same cursors, eight at once, thrown away.
//! - *bare with disk*: the same, hashed (SHA-256) and written, a file per cursor.
//! - *compressor alone*: the same bytes, page by page, gzip on all cores, from memory.

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use easm_export::encode::compress;
use easm_export::model::asset::AssetKind;
use sha2::{Digest, Sha256};
use sim::{ASSET_BYTES, Settings, Sim};
use tokio::process::Command;
use url::Url;

const ROUNDS: usize = 5;
const ASSETS: u64 = 50_000;
const CONCURRENCY: usize = 8;

mod sim;

#[path = "../tests/it/azurite.rs"]
#[expect(dead_code, clippy::unwrap_used, reason = "it is the tests' own, and they use all of it")]
mod azurite;

#[tokio::main]
async fn main() {
    rustls::crypto::ring::default_provider()
        .install_default()
        .expect("the first and only provider");
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let wants = |part: &str| wanted.is_empty() || wanted.iter().any(|arg| arg == part);
    if wants("latency") {
        latency().await;
    }
    if wants("cpu") {
        cpu().await;
    }
    if wants("memory") {
        memory().await;
    }
    if wants("azurite") {
        to_azurite().await;
    }
    if wants("shards") {
        shards().await;
    }
}

/// 50 ms per page: does the export keep all cursors busy?
async fn latency() {
    let sim = Sim::start(ASSETS, 50).await;
    let (mut bare, mut plain, mut gzip) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        bare.push(bare_client(&sim.settings, Keep::Nothing).await.1);
        plain.push(export(&sim.settings, "none").await.0);
        gzip.push(export(&sim.settings, "gzip").await.0);
    }
    println!("50 ms per page, {ASSETS} assets of {ASSET_BYTES} bytes, {CONCURRENCY} at once");
    print_ratio("uncompressed : bare", &bare, &plain, 0.9);
    print_ratio("gzip : bare", &bare, &gzip, 0.9);
}

/// 0 ms per page: what does the work itself cost?
async fn cpu() {
    let sim = Sim::start(ASSETS, 0).await;
    let (mut bare, mut plain) = (Vec::new(), Vec::new());
    let (mut gzip, mut alone) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let folder = tempfile::tempdir().expect("a folder");
        bare.push(bare_client(&sim.settings, Keep::OnDisk(folder.path())).await.1);
        drop(folder);
        plain.push(export(&sim.settings, "none").await.0);
        gzip.push(export(&sim.settings, "gzip").await.0);
        let pages = bare_client(&sim.settings, Keep::InMemory).await.0;
        alone.push(compressor_alone(pages));
    }
    println!("0 ms per page, {ASSETS} assets of {ASSET_BYTES} bytes, {CONCURRENCY} at once");
    print_ratio("uncompressed : bare with disk", &bare, &plain, 0.7);
    print_ratio("gzip : compressor alone", &alone, &gzip, 0.6);
}

/// Peak resident memory of an export, small, large and very large.
async fn memory() {
    println!("Peak resident memory, default settings, 0 ms per page");
    for (compression, ending) in [("gzip", "gzip"), ("none", "uncompressed")] {
        let mut peaks = Vec::new();
        for assets in [10_000, 300_000, 1_000_000] {
            let sim = Sim::start(assets, 0).await;
            peaks.push(export(&sim.settings, compression).await.1);
        }
        let [small, large, very_large] = peaks[..] else { unreachable!("three sizes") };
        println!(
            "  {ending:<13} 10,000 assets {small:>5.1} MiB, 300,000 assets {large:>5.1} MiB, 1,000,000 assets \
             {very_large:>5.1} MiB (goal: under 96; difference of the first two under 16)"
        );
    }
}

/// To Azurite on this machine: does the store keep up, and what does it cost in memory?
async fn to_azurite() {
    let Some(azurite) = azurite::Azurite::http("cargo bench -- azurite") else { return };
    let to = || Some(azurite.store_url(&azurite.container()));
    let sim = Sim::start(ASSETS, 50).await;
    let (mut bare, mut gzip) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        bare.push(bare_client(&sim.settings, Keep::Nothing).await.1);
        gzip.push(export_to(&sim.settings, "gzip", to()).await.0);
    }
    println!(
        "To Azurite, 50 ms per page, {ASSETS} assets of {ASSET_BYTES} bytes, {CONCURRENCY} at once"
    );
    print_ratio("gzip : bare", &bare, &gzip, 0.85);
    drop(sim);
    for (compression, ending) in [("gzip", "gzip"), ("none", "uncompressed")] {
        let mut peaks = Vec::new();
        for assets in [10_000, 150_000] {
            let sim = Sim::start(assets, 0).await;
            peaks.push(export_to(&sim.settings, compression, to()).await.1);
        }
        let [small, large] = peaks[..] else { unreachable!("two sizes") };
        println!(
            "  peak resident memory, {ending}: 10,000 assets {small:.1} MiB, 150,000 assets \
             {large:.1} MiB (goal: under 96, difference under 16)"
        );
    }
}

/// 50 ms per page, many small ranges: how much faster are eight cursors than one?
async fn shards() {
    let mut sim = Sim::start(300_000, 50).await;
    sim.settings.push(("EASM_RANGE_ASSETS_MAX".to_owned(), "5000".to_owned()));
    let mut took = Vec::new();
    for n_shards in ["1", "8"] {
        let mut settings = sim.settings.clone();
        settings.push(("EASM_SHARDS".to_owned(), n_shards.to_owned()));
        took.push(export(&settings, "none").await.0.as_secs_f64());
    }
    let [one, eight] = took[..] else { unreachable!("two numbers of shards") };
    println!(
        "300,000 assets at 50 ms per page in ranges of 5,000, uncompressed: 8 shards {:.1} times as fast as one \
         (goal: 6.8 or more; {eight:.1} s and {one:.1} s, planning included)",
        one / eight
    );
}

fn print_ratio(name: &str, less: &[Duration], export: &[Duration], goal: f64) {
    let ratios = less.iter().zip(export).map(|(less, own)| less.as_secs_f64() / own.as_secs_f64());
    let seconds = |all: &[Duration]| median(all.iter().map(Duration::as_secs_f64).collect());
    println!(
        "  {name:<30} {:.2} (goal: {goal} or more; {:.2} s and {:.2} s)",
        median(ratios.collect()),
        seconds(export),
        seconds(less)
    );
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// One export to a temporary folder: how long it took, and its peak resident memory in MiB.
async fn export(settings: &Settings, compression: &str) -> (Duration, f64) {
    export_to(settings, compression, None).await
}

/// One export to `store`, or to a temporary folder.
async fn export_to(
    settings: &Settings,
    compression: &str,
    store: Option<String>,
) -> (Duration, f64) {
    let folder = tempfile::tempdir().expect("a folder");
    let started = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_easm-export"))
        .args(["--no-env-files", "export", "--json", "--compression", compression])
        .current_dir(folder.path())
        .envs(settings.iter().cloned())
        .envs(store.map(|url| ("EASM_STORE_URL", url)))
        .env("EASM_FILTER", "")
        .env("EASM_LOG", "error")
        .stdout(Stdio::null())
        .spawn()
        .expect("the export starts");
    let pid = child.id().expect("it runs");
    let mut peak_mib = 0.0;
    let status = loop {
        tokio::select! {
            status = child.wait() => break status.expect("it ends"),
            // The kernel keeps the peak; it only has to be read before the process is gone.
            () = tokio::time::sleep(Duration::from_millis(10)) => {
                peak_mib = peak_resident_mib(pid).unwrap_or(peak_mib);
            }
        }
    };
    let elapsed = started.elapsed();
    assert!(status.success(), "the export fails: {status}");
    (elapsed, peak_mib)
}

fn peak_resident_mib(pid: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib / 1024.0)
}

/// What a bare client does with a page.
#[derive(Clone, Copy)]
enum Keep<'a> {
    Nothing,
    OnDisk(&'a Path),
    InMemory,
}

/// Walks one cursor per kind, all at once: the pages that an export reads. Gives the pages it
/// kept and how long it took.
async fn bare_client(settings: &Settings, keep: Keep<'_>) -> (Vec<bytes::Bytes>, Duration) {
    let get = |name: &str| settings.iter().find(|(n, _)| n == name).expect("a setting").1.clone();
    let started = Instant::now();
    let http = reqwest::Client::builder().no_proxy().http1_only().build().expect("a client");
    let mut token_url = Url::parse(&get("IDENTITY_ENDPOINT")).expect("a URL");
    token_url
        .query_pairs_mut()
        .append_pair("api-version", "2019-08-01")
        .append_pair("resource", "https://easm.defender.microsoft.com");
    let answer = http.get(token_url).header("X-IDENTITY-HEADER", get("IDENTITY_HEADER")).send();
    let answer = answer.await.expect("an answer").bytes().await.expect("a body");
    let answer: serde_json::Value = serde_json::from_slice(&answer).expect("JSON");
    let token = answer["access_token"].as_str().expect("a token").to_owned();
    let base = format!(
        "{}/subscriptions/{}/resourceGroups/{}/workspaces/{}/assets",
        get("EASM_DATA_PLANE_URL"),
        get("EASM_SUBSCRIPTION_ID"),
        get("EASM_RESOURCE_GROUP"),
        get("EASM_WORKSPACE")
    );
    let permits = Arc::new(tokio::sync::Semaphore::new(CONCURRENCY));
    let mut walks = tokio::task::JoinSet::new();
    for kind in AssetKind::ALL {
        let (http, token, base) = (http.clone(), token.clone(), base.clone());
        let permits = Arc::clone(&permits);
        let in_memory = matches!(keep, Keep::InMemory);
        let mut file = match keep {
            Keep::OnDisk(folder) => {
                Some(std::fs::File::create(folder.join(kind.as_str())).expect("a file"))
            }
            _ => None,
        };
        walks.spawn(async move {
            let (mut mark, mut pages, mut hasher) = ("*".to_owned(), Vec::new(), Sha256::new());
            loop {
                let mut url = Url::parse(&base).expect("a URL");
                url.query_pairs_mut()
                    .append_pair("api-version", "2024-10-01-preview")
                    .append_pair("filter", &format!("kind = \"{kind}\""))
                    .append_pair("maxpagesize", "100")
                    .append_pair("mark", &mark);
                let permit = permits.acquire().await.expect("open");
                let answer = http.get(url).bearer_auth(&token).send().await.expect("an answer");
                let body = answer.bytes().await.expect("a body");
                drop(permit);
                let next = find_mark(&body);
                if let Some(file) = &mut file {
                    tokio::task::block_in_place(|| {
                        hasher.update(&body);
                        file.write_all(&body).expect("written");
                    });
                }
                if in_memory {
                    pages.push(body);
                }
                match next {
                    Some(next) => mark = next,
                    None => break,
                }
            }
            std::hint::black_box(hasher.finalize());
            pages
        });
    }
    let pages = walks.join_all().await.concat();
    (pages, started.elapsed())
}

/// The value of the envelope's `mark`, which stands before or behind the assets, found without
/// reading them.
fn find_mark(body: &[u8]) -> Option<String> {
    let near = |part: &[u8]| {
        let text = String::from_utf8_lossy(part).into_owned();
        let (_, behind) = text.rsplit_once("\"mark\":")?;
        let value = behind.trim_start().strip_prefix('"')?;
        value.split_once('"').map(|(mark, _)| mark.to_owned())
    };
    let edge = body.len().min(400);
    near(&body[..edge]).or_else(|| near(&body[body.len() - edge..]))
}

/// Compresses `pages` one by one on all cores.
fn compressor_alone(pages: Vec<bytes::Bytes>) -> Duration {
    let pages = std::sync::Mutex::new(pages);
    let n_threads = std::thread::available_parallelism().expect("known").get();
    let started = Instant::now();
    std::thread::scope(|threads| {
        for _ in 0..n_threads {
            threads.spawn(|| {
                loop {
                    let Some(page) = pages.lock().expect("not poisoned").pop() else { break };
                    std::hint::black_box(compress::gzip(&page));
                }
            });
        }
    });
    started.elapsed()
}
