//! How much faster four processes are on one run than one.
//!
//! `cargo bench --bench workers`. Each worker is this program again: it connects as a function would, takes
//! messages from a queue, does one step for each, and puts back what follows. The simulator runs as a process
//! of its own, the queue in this one. Ratios compare figures of one run; nothing is asserted of them, but
//! that each run ended `exact`.
//!
//! Start reading at [`run`].

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use easm_export::app::{self, Shared, Target};
use easm_export::clock::SystemClock;
use easm_export::config::{Env, Settings};
use easm_export::export::Nobody;
use easm_export::export::books::Books;
use easm_export::export::open::{Opened, Opening, open};
use easm_export::export::slice::Slice;
use easm_export::export::step::{After, Message, step};
use easm_export::model::manifest::{Completeness, Manifest};
use easm_export::model::run::{RunId, Trigger};
use easm_export::net::retry::RetryPolicy;
use easm_export::store::Store;
use easm_export::store::folder::FolderStore;
use queue::{Client, Queue};
use sim::Sim;
use tokio::process::Command;
use tokio::task::JoinSet;

mod queue;
mod sim;

/// One process needs about a minute for them.
const ASSETS: u64 = 200_000;
const LATENCY_MS: u64 = 200;
const WORKERS: usize = 4;

const SETTINGS: [(&str, &str); 5] = [
    ("EASM_FILTER", ""),
    ("EASM_COMPRESSION", "none"),
    ("EASM_SHARDS", "32"),
    ("EASM_CONCURRENCY", "8"),
    ("EASM_RANGE_ASSETS_MAX", "2000"),
];

/// Says to a process where the queue is, and so that it is a worker.
const QUEUE: &str = "BENCH_QUEUE";

/// As in host.json: a worker asks for more messages when it has no more than so many in work.
const NEW_BATCH_THRESHOLD: usize = 4;
const BATCH_SIZE: usize = 4;

/// How long a message that was taken is not given to others.
const INVISIBLE: Duration = Duration::from_secs(300);

/// Between two looks at an empty queue.
const POLL_PAUSE: Duration = Duration::from_millis(100);

/// How long a step may work.
const SLICE: Duration = Duration::from_secs(240);

/// How long a run may take.
const RUN_MAX: Duration = Duration::from_secs(15 * 60);

#[tokio::main]
async fn main() {
    rustls::crypto::ring::default_provider()
        .install_default()
        .expect("the first and only provider");
    if let Ok(queue) = std::env::var(QUEUE) {
        return work(&queue).await;
    }
    let sim = Sim::start(ASSETS, LATENCY_MS).await;
    // The first filter by creation time sorts the simulator's inventory: whoever comes first would pay.
    warm_up(&sim).await;
    let one = run(&sim, 1).await;
    let many = run(&sim, WORKERS).await;
    println!(
        "{ASSETS} assets of {} bytes at {LATENCY_MS} ms per page, ranges of 2,000 in 32 shards, eight \
         requests at once for each process, uncompressed",
        sim::ASSET_BYTES
    );
    let print = |what: &str, one: Duration, many: Duration| {
        let (one, many) = (one.as_secs_f64(), many.as_secs_f64());
        println!(
            "  {what:<28} {WORKERS} processes {:.2} times as fast as one ({many:.1} s and {one:.1} s)",
            one / many
        );
    };
    print("whole run (goal: 3.2)", one.whole, many.whole);
    print("carrying alone (goal: 3.2)", one.carrying, many.carrying);
}

/// How long a run took.
struct Took {
    /// From the start of its first worker to its manifest.
    whole: Duration,
    /// From its plan to its manifest.
    carrying: Duration,
}

/// One run by `n_workers` processes.
async fn run(sim: &Sim, n_workers: usize) -> Took {
    let folder = tempfile::tempdir().expect("a folder");
    let store: Arc<dyn Store> = Arc::new(FolderStore::new(folder.path()));
    let vars = sim.settings.iter().cloned().chain(owned(&SETTINGS));
    let settings = Settings::read(&Env::new(vars)).expect("the simulator's settings");
    let target = settings.targets[0].settings.clone().expect("good settings");
    let books = Books::new(store, Arc::new(SystemClock), &target.name);
    let now = easm_export::clock::Clock::now(&SystemClock);
    let opening = Opening::now(target.request.clone(), Trigger::Http, now, true);
    let Opened::Ours(id) = open(&books, &opening).await.expect("a folder") else {
        unreachable!("the folder is empty")
    };
    let queue = Queue::start().await;
    queue.put(&Message::plan(&target.name, &id));
    let started = SystemTime::now();
    let mut workers = JoinSet::new();
    for _ in 0..n_workers {
        let mut child = Command::new(std::env::current_exe().expect("it runs"))
            .envs(sim.settings.iter().cloned())
            .envs(owned(&SETTINGS))
            .env("EASM_STORE_URL", folder.path())
            .env(QUEUE, queue.address())
            .kill_on_drop(true)
            .spawn()
            .expect("a worker starts");
        workers.spawn(async move { child.wait().await.expect("it ends") });
    }
    let manifest = tokio::select! {
        manifest = tokio::time::timeout(RUN_MAX, manifest(&books, &id)) => manifest,
        Some(status) = workers.join_next() => panic!("a worker ended: {status:?}"),
    };
    let manifest = manifest.expect("the run ends in time");
    assert_eq!(manifest.completeness, Completeness::Exact);
    let written = |path: &str| {
        let path = folder.path().join(path);
        path.metadata().and_then(|file| file.modified()).expect("it is there")
    };
    let ended = written(&books.layout().manifest(&id));
    let planned = written(&books.layout().plan(&id));
    let since = |earlier| ended.duration_since(earlier).expect("a clock that goes forward");
    Took { whole: since(started), carrying: since(planned) }
}

/// The manifest of the run `id`, once it is there.
async fn manifest(books: &Books, id: &RunId) -> Manifest {
    loop {
        if let Some(manifest) = books.manifest(id).await.expect("readable") {
            return manifest;
        }
        tokio::time::sleep(POLL_PAUSE).await;
    }
}

fn owned(settings: &[(&str, &str)]) -> Vec<(String, String)> {
    settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Exports a few assets.
async fn warm_up(sim: &Sim) {
    let folder = tempfile::tempdir().expect("a folder");
    let status = Command::new(env!("CARGO_BIN_EXE_easm-export"))
        .args(["--no-env-files", "export", "--json", "--max-assets", "1000"])
        .current_dir(Path::new(folder.path()))
        .envs(sim.settings.iter().cloned())
        .envs(owned(&SETTINGS))
        .env("EASM_RANGE_ASSETS_MAX", "50000")
        .env("EASM_LOG", "error")
        .stdout(std::process::Stdio::null())
        .status()
        .await
        .expect("the export starts");
    assert!(status.success(), "the export fails: {status}");
}

/// What a worker does: steps for messages, until it is killed.
async fn work(queue: &str) {
    let env = Env::new(std::env::vars());
    let settings = Settings::read(&env).expect("settings");
    let store =
        app::store(&settings.store, &settings.own, &env, RetryPolicy::default()).expect("a folder");
    let target = settings.targets[0].settings.clone().expect("good settings");
    let target =
        Target::connect(&settings, &target, &Shared::new(settings.concurrency), &env).await;
    let target = target.expect("the simulator answers");
    let (world, job) = (target.world(store, Arc::new(Nobody)), Arc::new(target.job()));
    let mut client = Client::connect(queue).await;
    let mut steps = JoinSet::new();
    loop {
        if steps.len() <= NEW_BATCH_THRESHOLD {
            for (receipt, message) in client.take(BATCH_SIZE, INVISIBLE).await {
                let (world, job) = (world.clone(), Arc::clone(&job));
                steps.spawn(async move {
                    let slice = Slice::of(SLICE);
                    (receipt, step(&world, &job, &message, &slice).await)
                });
            }
        }
        let next = async {
            match steps.join_next().await {
                Some(done) => done.expect("a step does not panic"),
                None => std::future::pending().await,
            }
        };
        let done = tokio::select! {
            done = next => done,
            () = tokio::time::sleep(POLL_PAUSE) => continue,
        };
        let (receipt, after) = done;
        match after {
            Ok(After::Go(messages)) => {
                for message in &messages {
                    client.put(message).await;
                }
            }
            Ok(After::Ended | After::Lost) => {}
            after => panic!("the simulator does not fail: {after:?}"),
        }
        // Only now: whoever dies before that leaves the message to somebody else.
        client.delete(&receipt).await;
    }
}
