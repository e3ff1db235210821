//! Forty targets in one app, and what hangs before a person who waits: whether the app opens and plans them
//! in time, and how long `doctor` takes.
//!
//! `cargo bench --bench targets`. The simulator and the handlers run as processes of their own; in front of
//! Azurite (which needs Node.js) stands a door that lets each request wait. Nothing is asserted.

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

use std::io;
use std::net::TcpListener;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt};
use reqwest::Client;
use serde_json::{Value, json};
use sim::{Settings, Sim};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use url::Url;

#[path = "../tests/it/azurite.rs"]
#[expect(dead_code, clippy::unwrap_used, reason = "it is the tests' own, and they use all of it")]
mod azurite;
mod sim;

/// Targets of the app.
const TARGETS: usize = 40;

/// What each call waits: of the store, and of the service.
const CALL: Duration = Duration::from_millis(50);

/// Messages that the host hands to one instance at once: `batchSize` and `newBatchThreshold` of `host.json`.
const MESSAGES_AT_ONCE: usize = 8;

/// Rounds of `doctor`, for each upstream.
const DOCTOR_ROUNDS: usize = 5;

#[tokio::main]
async fn main() {
    rustls::crypto::ring::default_provider()
        .install_default()
        .expect("the first and only provider");
    doctor().await;
    forty_targets().await;
}

/// How long `doctor` takes while everything answers, and while one thing does not.
async fn doctor() {
    let sim = Sim::start(1_000, 0).await;
    let deaf = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", deaf.local_addr().expect("an address"));
    let msi = format!("{url}/msi/token");
    for (what, name, value) in [
        ("nothing hangs", "EASM_LOG_FORMAT", "text"),
        ("ARM hangs", "EASM_ARM_URL", &url),
        ("the data plane hangs", "EASM_DATA_PLANE_URL", &url),
        ("the identity endpoint hangs", "IDENTITY_ENDPOINT", &msi),
    ] {
        let mut took_s = Vec::new();
        for _ in 0..DOCTOR_ROUNDS {
            let folder = tempfile::tempdir().expect("a folder");
            let started = Instant::now();
            let mut command = Command::new(env!("CARGO_BIN_EXE_easm-export"));
            command.args(["doctor", "--no-env-files"]).current_dir(folder.path());
            command.envs(sim.settings.iter().cloned()).env("EXPORT_SCHEDULE", "0 0 6 * * *");
            command.env(name, value).stdout(Stdio::null()).stderr(Stdio::null());
            command.status().await.expect("it ends");
            took_s.push(started.elapsed().as_secs_f64());
        }
        println!("doctor, {what}: {:.2} s at most (goal: under 3)", most(&took_s));
    }
}

/// One `ExportTimer` call opens a run of each target; two workers plan them.
async fn forty_targets() {
    let Some(azurite) = azurite::Azurite::http("cargo bench --bench targets") else { return };
    let sim = Sim::start(2_000, u64::try_from(CALL.as_millis()).expect("a small number")).await;
    let container = azurite.container();
    let straight = Url::parse(&azurite.store_url(&container)).expect("a URL");
    // So that it is there: a door has nothing to say to a container that is missing.
    let n_calls = Arc::new(AtomicU64::new(0));
    let door = door(straight.port().expect("a port"), Arc::clone(&n_calls)).await;
    let mut store = straight.clone();
    store.set_port(Some(door)).expect("it has a host");
    let get = |name: &str| {
        let found = sim.settings.iter().find(|(found, _)| found == name);
        found.map(|(_, value)| value.clone()).expect("the simulator's settings")
    };
    let target = |at: usize| {
        json!({
            "name": format!("customer-{at}"),
            "tenantId": get("EASM_TENANT_ID"),
            "subscriptionId": get("EASM_SUBSCRIPTION_ID"),
            "resourceGroup": get("EASM_RESOURCE_GROUP"),
            "workspace": get("EASM_WORKSPACE"),
        })
    };
    let targets: Vec<Value> = (0..TARGETS).map(target).collect();
    let settings: Settings = sim
        .settings
        .iter()
        .cloned()
        .chain([
            ("EASM_TARGETS".to_owned(), json!(targets).to_string()),
            ("EASM_STORE_URL".to_owned(), store.to_string()),
        ])
        .collect();
    let handlers = [Handler::start(&settings).await, Handler::start(&settings).await];
    let http = Client::builder().no_proxy().http1_only().build().expect("a client");

    // Signs nobody in and opens nothing, but has the store opened.
    handlers[0].call(&http, "Maintenance", &json!({ "timer": {} })).await;
    n_calls.store(0, Ordering::SeqCst);
    let started = Instant::now();
    let timer = json!({ "timer": { "Schedule": {}, "ScheduleStatus": null, "IsPastDue": false } });
    let work = handlers[0].call(&http, "ExportTimer", &timer).await;
    println!(
        "ExportTimer opens {} of {TARGETS} targets in {:.1} s at {} ms a call of the store, {} calls \
         (goal: 10 s)",
        work.len(),
        started.elapsed().as_secs_f64(),
        CALL.as_millis(),
        n_calls.load(Ordering::SeqCst)
    );
    let started = Instant::now();
    let planned = stream::iter(work.into_iter().enumerate())
        .map(|(at, message)| {
            let (http, handler) = (http.clone(), &handlers[at % 2]);
            async move { handler.call(&http, "ExportWorker", &json!({ "message": message })).await }
        })
        .buffer_unordered(2 * MESSAGES_AT_ONCE);
    let emitted: Vec<Vec<String>> = planned.collect().await;
    let n_planned = emitted.iter().filter(|messages| !messages.is_empty()).count();
    println!(
        "Two workers plan {n_planned} of them in {:.1} s, each call of the service and of the store {} ms \
         (goal: one slice, 240 s)",
        started.elapsed().as_secs_f64(),
        CALL.as_millis()
    );
}

fn most(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

/// A port in front of Azurite's, behind which each request waits. What a client sends comes in one piece or
/// in few: a pause before each piece that begins a request is a pause for the request.
async fn door(to: u16, n_calls: Arc<AtomicU64>) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.expect("a client");
            let n_calls = Arc::clone(&n_calls);
            tokio::spawn(async move {
                let passed = pass(client, to, &n_calls).await;
                // A client that goes away is no news.
                passed.unwrap_or(());
            });
        }
    });
    port
}

async fn pass(client: TcpStream, to: u16, n_calls: &AtomicU64) -> io::Result<()> {
    const METHODS: [&[u8]; 5] = [b"GET ", b"PUT ", b"HEAD ", b"DELETE ", b"POST "];
    let server = TcpStream::connect(("127.0.0.1", to)).await?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let back = tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
    let mut buffer = vec![0; 64 << 10];
    loop {
        let n_bytes = from_client.read(&mut buffer).await?;
        if n_bytes == 0 {
            break;
        }
        let bytes = &buffer[..n_bytes];
        if METHODS.iter().any(|method| bytes.starts_with(method)) {
            n_calls.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(CALL).await;
        }
        to_server.write_all(bytes).await?;
    }
    drop(to_server);
    back.await?.map(drop)
}

/// A handler, and where it listens.
struct Handler {
    _process: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Handler {
    async fn start(settings: &Settings) -> Self {
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
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Self { _process: process, port, _folder: folder }
    }

    /// Calls a function as the host does. Gives the messages that it hands to the queue.
    async fn call(&self, http: &Client, function: &str, data: &Value) -> Vec<String> {
        let url = format!("http://127.0.0.1:{}/{function}", self.port);
        let body = json!({ "Data": data, "Metadata": {} }).to_string();
        let answer = http.post(url).header("content-type", "application/json").body(body);
        let answer = answer.send().await.expect("an answer");
        let (status, text) = (answer.status(), answer.text().await.expect("a text"));
        assert!(status.is_success(), "{function}: {status} {text}");
        let reply: Value = serde_json::from_str(&text).expect("JSON");
        let work = reply["Outputs"]["work"].as_array().cloned().unwrap_or_default();
        work.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    }
}
