//! The handler as the Functions host meets it: how fast it is there, what it weighs, and what it adds to
//! a query.
//!
//! `cargo bench --bench handler`. Simulator and handler run as processes of their own. Nothing is
//! asserted.

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

use std::net::TcpListener;
use std::process::Stdio;
use std::time::{Duration, Instant};

use reqwest::Client;
use sim::{Settings, Sim};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use url::Url;

mod sim;

/// Starts that are measured.
const STARTS: usize = 20;

/// Queries that are measured, of each sort.
const QUERIES: usize = 300;

#[tokio::main]
async fn main() {
    rustls::crypto::ring::default_provider()
        .install_default()
        .expect("the first and only provider");
    for asset_bytes in [2_048, sim::ASSET_BYTES] {
        let sim = Sim::start_with(10_000, 0, asset_bytes).await;
        if asset_bytes == sim::ASSET_BYTES {
            start(&sim.settings).await;
        }
        added_latency(&sim.settings, asset_bytes).await;
    }
    let sim = Sim::start(10_000, 100).await;
    many_at_once(&sim.settings).await;
}

/// A handler, and where it listens.
struct Handler {
    process: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Handler {
    fn start(settings: &Settings) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = free.local_addr().expect("an address").port();
        drop(free);
        let process = Command::new(env!("CARGO_BIN_EXE_easm-export"))
            .arg("serve")
            .current_dir(folder.path())
            .envs(settings.iter().cloned())
            .env("FUNCTIONS_CUSTOMHANDLER_PORT", port.to_string())
            .env("EXPORT_SCHEDULE", "0 0 6 * * *")
            .env("EASM_FILTER", "")
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("the handler starts");
        Self { process, port, _folder: folder }
    }

    /// Waits until `GET /` is answered.
    async fn ready(&self) {
        loop {
            if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)).await {
                let request = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
                stream.write_all(request).await.expect("sent");
                let mut answer = [0; 12];
                stream.read_exact(&mut answer).await.expect("an answer");
                assert_eq!(&answer, b"HTTP/1.1 200");
                return;
            }
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
    }

    fn url(&self, path: &str) -> Url {
        Url::parse(&format!("http://127.0.0.1:{}{path}", self.port)).expect("a URL")
    }

    /// The value `name` of its `/proc` status, in MiB.
    fn mib(&self, name: &str) -> f64 {
        let pid = self.process.id().expect("it runs");
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a status");
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line");
        let kib = line.trim_start_matches(':').trim().trim_end_matches("kB").trim();
        kib.parse::<f64>().expect("a number") / 1024.0
    }
}

async fn start(settings: &Settings) {
    let (mut took_ms, mut idle_mib) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let started = Instant::now();
        let handler = Handler::start(settings);
        handler.ready().await;
        took_ms.push(started.elapsed().as_secs_f64() * 1000.0);
        idle_mib.push(handler.mib("VmRSS"));
    }
    println!(
        "Start to first answered GET /: {:.1} ms at the median of {STARTS} (goal: under 10)\n\
         Idle resident memory: {:.1} MiB (goal: under 20)",
        median(took_ms),
        median(idle_mib)
    );
}

/// The same page from the simulator and through the handler, two at once.
async fn added_latency(settings: &Settings, asset_bytes: u64) {
    let http = Client::builder().no_proxy().http1_only().build().expect("a client");
    let token = token(&http, settings).await;
    let mut direct = Url::parse(&assets_url(settings)).expect("a URL");
    direct
        .query_pairs_mut()
        .append_pair("api-version", "2024-10-01-preview")
        .append_pair("filter", "")
        .append_pair("maxpagesize", "100");
    let handler = Handler::start(settings);
    handler.ready().await;
    let own = handler.url("/api/assets?limit=100");
    // Signed in, and every page found once.
    timed(&http, &own, None).await;
    timed(&http, &direct, Some(&token)).await;
    let (mut bare_ms, mut own_ms) = (Vec::new(), Vec::new());
    for _ in 0..QUERIES / 2 {
        let (a, b) =
            tokio::join!(timed(&http, &direct, Some(&token)), timed(&http, &direct, Some(&token)));
        bare_ms.extend([a, b]);
        let (a, b) = tokio::join!(timed(&http, &own, None), timed(&http, &own, None));
        own_ms.extend([a, b]);
    }
    let (bare, own) = (median(bare_ms), median(own_ms));
    println!(
        "A page of 100 assets of {asset_bytes} bytes, two at once: {own:.1} ms through GET /api/assets, {bare:.1} ms from the \
         simulator: {:.1} ms added, at the median (goal: under 2)",
        own - bare
    );
}

/// 64 large queries at once.
async fn many_at_once(settings: &Settings) {
    let http = Client::builder().no_proxy().http1_only().build().expect("a client");
    let handler = Handler::start(settings);
    handler.ready().await;
    let mut asked = JoinSet::new();
    let started = Instant::now();
    for _ in 0..64 {
        let (http, url) = (http.clone(), handler.url("/api/assets?limit=5000"));
        asked.spawn(async move {
            let answer = http.get(url).send().await.expect("an answer");
            let status = answer.status().as_u16();
            (status, answer.bytes().await.expect("a body").len(), started.elapsed())
        });
    }
    let answers = asked.join_all().await;
    let of = |status: u16| answers.iter().filter(move |answer| answer.0 == status);
    let largest = of(200).map(|answer| answer.1).max().unwrap_or(0);
    let slowest = of(429).map(|answer| answer.2).max().unwrap_or_default();
    println!(
        "64 queries for 5,000 assets at once, 100 ms a page: {} answered with up to {:.1} MiB, {} told \
         429 after at most {:.1} s, {} others; peak resident memory {:.1} MiB (goal: all answered or 429 \
         after 10 s, under 96 MiB)",
        of(200).count(),
        largest as f64 / f64::from(1 << 20),
        of(429).count(),
        slowest.as_secs_f64(),
        answers.len() - of(200).count() - of(429).count(),
        handler.mib("VmHWM")
    );
}

/// How long the answer of `url` takes, in milliseconds.
async fn timed(http: &Client, url: &Url, token: Option<&str>) -> f64 {
    let started = Instant::now();
    let mut request = http.get(url.clone());
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let answer = request.send().await.expect("an answer");
    assert!(answer.status().is_success(), "{}", answer.status());
    answer.bytes().await.expect("a body");
    started.elapsed().as_secs_f64() * 1000.0
}

fn get<'a>(settings: &'a Settings, name: &str) -> &'a str {
    &settings.iter().find(|(n, _)| n == name).expect("a setting").1
}

fn assets_url(settings: &Settings) -> String {
    format!(
        "{}/subscriptions/{}/resourceGroups/{}/workspaces/{}/assets",
        get(settings, "EASM_DATA_PLANE_URL"),
        get(settings, "EASM_SUBSCRIPTION_ID"),
        get(settings, "EASM_RESOURCE_GROUP"),
        get(settings, "EASM_WORKSPACE")
    )
}

async fn token(http: &Client, settings: &Settings) -> String {
    let mut url = Url::parse(get(settings, "IDENTITY_ENDPOINT")).expect("a URL");
    url.query_pairs_mut()
        .append_pair("api-version", "2019-08-01")
        .append_pair("resource", "https://easm.defender.microsoft.com");
    let header = get(settings, "IDENTITY_HEADER");
    let answer = http.get(url).header("X-IDENTITY-HEADER", header).send().await;
    let answer = answer.expect("an answer").bytes().await.expect("a body");
    let answer: serde_json::Value = serde_json::from_slice(&answer).expect("JSON");
    answer["access_token"].as_str().expect("a token").to_owned()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
