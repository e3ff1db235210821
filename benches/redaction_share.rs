//! How much of an export's time goes into keeping secrets out of what it says and writes.
//!
//! `cargo bench --bench redaction_share`. The export runs in a process of its own, against the simulator, and
//! keeps every state document that it writes and every line that it logs. Behind it these are searched and
//! redacted once more, with the same values live, and that is set against the time of the export. (Compressed
//! or not, fast or slow, an export says about the same; the fastest shows the largest share.)
//!
//! Start reading at [`measure`].

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

use std::hint::black_box;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use easm_export::app::{Shared, Target};
use easm_export::clock::SystemClock;
use easm_export::config::{Env, Settings};
use easm_export::error::Result;
use easm_export::export::open::Opening;
use easm_export::export::{Nobody, drive};
use easm_export::model::manifest::Completeness;
use easm_export::model::run::Trigger;
use easm_export::secret::{holds_credential, redact};
use easm_export::store::folder::FolderStore;
use easm_export::store::{PartReader, PartWriter, Store, Tag};
use easm_export::telemetry::{self, LogFormat, Terminal};
use sim::Sim;
use tokio::process::Command;

mod sim;

const ASSETS: u64 = 50_000;

/// Says to a process that it is the one that exports, and what it logs.
const CHILD: &str = "BENCH_LOG";

/// How often documents and lines are gone through: the least counts, since others work on this machine.
const ROUNDS: usize = 5;

#[tokio::main]
async fn main() {
    rustls::crypto::ring::default_provider()
        .install_default()
        .expect("the first and only provider");
    if let Ok(filter) = std::env::var(CHILD) {
        return measure(&filter).await;
    }
    let sim = Sim::start(ASSETS, 0).await;
    println!(
        "{ASSETS} assets of {} bytes, no latency, uncompressed, to a folder",
        sim::ASSET_BYTES
    );
    // The first one pays for what the simulator makes once.
    for (filter, is_shown) in [("error", false), ("info", true), ("debug", true)] {
        let mut child = Command::new(std::env::current_exe().expect("it runs"));
        child.envs(sim.settings.iter().cloned()).env(CHILD, filter).kill_on_drop(true);
        let settings = [("EASM_FILTER", ""), ("EASM_COMPRESSION", "none")];
        let done = child.envs(settings).output().await.expect("the export starts");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        if is_shown {
            print!("{}", String::from_utf8_lossy(&done.stdout));
        }
    }
}

/// Exports, and prints what of that time went into redaction.
async fn measure(filter: &str) {
    let said = Arc::default();
    let terminal = Terminal::kept_in(Arc::clone(&said));
    telemetry::install(filter, LogFormat::Json, &terminal).expect("a filter");
    let env = Env::new(std::env::vars());
    env.keep_secrets();
    let settings = Settings::read(&env).expect("settings");
    let target = settings.targets[0].settings.clone().expect("good settings");
    let request = target.request.clone();
    let folder = tempfile::tempdir().expect("a folder");
    let written = Arc::default();
    let inner = FolderStore::new(folder.path());
    let store: Arc<dyn Store> = Arc::new(Noting { inner, written: Arc::clone(&written) });

    let started = Instant::now();
    let target =
        Target::connect(&settings, &target, &Shared::new(settings.concurrency), &env).await;
    let target = target.expect("the simulator answers");
    let (world, job) = (target.world(store, Arc::new(Nobody)), target.job());
    let now = easm_export::clock::Clock::now(&SystemClock);
    let opening = Opening::now(request, Trigger::Cli, now, true);
    let (id, _) = drive::begin(&world, &job, &opening).await.expect("a folder");
    let carried = drive::to_end(&world, &job, &id, std::future::pending()).await;
    let manifest = carried.expect("the simulator does not fail");
    let export = started.elapsed();
    assert_eq!(manifest.completeness, Completeness::Exact);

    let written: Vec<Bytes> = written.lock().expect("fine").clone();
    let said = said.lock().expect("fine").clone();
    let said = String::from_utf8(said).expect("text");
    let search = least(|| written.iter().filter(|bytes| holds_credential(bytes)).count());
    let words = least(|| said.lines().map(|line| redact(line).len()).sum());
    let share = |part: Duration| 100.0 * part.as_secs_f64() / export.as_secs_f64();
    println!(
        "  {filter}: {:.2} % of {:.2} s (goal: under 3): {:.2} % for {} documents of {} KiB, {:.2} % for {} \
         log lines of {} KiB",
        share(search + words),
        export.as_secs_f64(),
        share(search),
        written.len(),
        written.iter().map(Bytes::len).sum::<usize>() >> 10,
        share(words),
        said.lines().count(),
        said.len() >> 10,
    );
}

fn least(work: impl Fn() -> usize) -> Duration {
    let round = |_| {
        let started = Instant::now();
        black_box(work());
        started.elapsed()
    };
    (0..ROUNDS).map(round).min().expect("some rounds")
}

/// A folder that keeps every document that is written.
struct Noting {
    inner: FolderStore,
    written: Arc<Mutex<Vec<Bytes>>>,
}

impl Noting {
    fn note(&self, content: &Bytes) {
        self.written.lock().expect("fine").push(content.clone());
    }
}

#[async_trait]
impl Store for Noting {
    fn name(&self) -> String {
        self.inner.name()
    }

    fn url(&self, path: &str) -> String {
        self.inner.url(path)
    }

    async fn check(&self) -> Result<()> {
        self.inner.check().await
    }

    async fn begin(&self, path: &str, content_type: &str) -> Result<Box<dyn PartWriter>> {
        self.inner.begin(path, content_type).await
    }

    async fn create(&self, path: &str, content: Bytes) -> Result<Tag> {
        self.note(&content);
        self.inner.create(path, content).await
    }

    async fn replace(&self, path: &str, content: Bytes, tag: &Tag) -> Result<Tag> {
        self.note(&content);
        self.inner.replace(path, content, tag).await
    }

    async fn remove(&self, path: &str, tag: &Tag) -> Result<()> {
        self.inner.remove(path, tag).await
    }

    async fn read(&self, path: &str) -> Result<Option<(Bytes, Tag)>> {
        self.inner.read(path).await
    }

    async fn open(&self, path: &str) -> Result<Option<Box<dyn PartReader>>> {
        self.inner.open(path).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        self.inner.list(prefix).await
    }

    async fn delete(&self, path: &str) -> Result<()> {
        self.inner.delete(path).await
    }
}
