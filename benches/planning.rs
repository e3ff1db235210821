//! What planning a large inventory costs: requests, and time at three latencies.
//!
//! `cargo bench --bench planning`. The simulator runs as a process of its own. Nothing is asserted.

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use easm_export::app::{Shared, Target};
use easm_export::config::{Env, Settings};
use easm_export::error::Result;
use easm_export::export::Nobody;
use easm_export::export::open::{Opened, Opening, open};
use easm_export::export::slice::Slice;
use easm_export::export::source::{Page, Query, Sampled, Source};
use easm_export::export::step::{After, Message, step};
use easm_export::model::run::Trigger;
use easm_export::store::folder::FolderStore;
use sim::Sim;
use tokio::process::Command;

mod sim;

const ASSETS: u64 = 300_000;

#[tokio::main]
async fn main() {
    rustls::crypto::ring::default_provider()
        .install_default()
        .expect("the first and only provider");
    if std::env::var_os(SIGNED_IN).is_some() {
        return report().await;
    }
    for latency_ms in [0, 50, 200] {
        let sim = Sim::start(ASSETS, latency_ms).await;
        println!("Planning {ASSETS} assets, {latency_ms} ms a request, eight at once");
        // The identity is read from the environment of a process.
        let program = std::env::current_exe().expect("it runs");
        let mut child = Command::new(program);
        child.envs(sim.settings.iter().cloned()).env("EASM_FILTER", "").env(SIGNED_IN, "1");
        let status = child.status().await.expect("it starts");
        assert!(status.success(), "planning fails: {status}");
    }
}

/// Set for a process that has the simulator's settings in its environment.
const SIGNED_IN: &str = "BENCH_SIGNED_IN";

async fn report() {
    // The first filter by creation time sorts the simulator's inventory.
    plan(50_000).await;
    for assets_max in [5_000, 2_000] {
        let (took, n_counts, n_samples, n_ranges) = plan(assets_max).await;
        println!(
            "  EASM_RANGE_ASSETS_MAX={assets_max}: {n_ranges} ranges, {n_counts} counts and \
             {n_samples} samples, {:.2} requests a range, {:.2} s",
            (n_counts + n_samples) as f64 / n_ranges as f64,
            took.as_secs_f64(),
        );
    }
}

/// Plans a run: how long it took, counts and samples asked for, and ranges.
async fn plan(assets_max: u64) -> (Duration, u64, u64, usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut vars: Vec<(String, String)> = std::env::vars().collect();
    vars.push(("EASM_RANGE_ASSETS_MAX".to_owned(), assets_max.to_string()));
    let env = Env::new(vars);
    let settings = Settings::read(&env).expect("the simulator's settings");
    let target = settings.targets[0].settings.clone().expect("good settings");
    let request = target.request.clone();
    let target =
        Target::connect(&settings, &target, &Shared::new(settings.concurrency), &env).await;
    let target = target.expect("the simulator answers");
    let (store, job) = (Arc::new(FolderStore::new(folder.path())), target.job());
    let mut world = target.world(store, Arc::new(Nobody));
    let counter = Arc::new(Counter {
        source: Arc::clone(&world.source),
        n_counts: AtomicU64::new(0),
        n_samples: AtomicU64::new(0),
    });
    world.source = Arc::clone(&counter) as _;
    let books = world.books(&job);
    let opening = Opening::now(request, Trigger::Cli, world.clock.now(), false);
    let Opened::Ours(id) = open(&books, &opening).await.expect("a folder") else {
        unreachable!("the folder is empty")
    };
    let (_stop, slice) = Slice::endless();
    let started = Instant::now();
    let after = step(&world, &job, &Message::plan(&job.target, &id), &slice).await;
    let took = started.elapsed();
    assert!(matches!(after, Ok(After::Go(_))), "{after:?}");
    let plan = books.plan(&id).await.expect("readable").expect("a plan");
    let n_counts = counter.n_counts.load(Ordering::SeqCst);
    let n_samples = counter.n_samples.load(Ordering::SeqCst);
    (took, n_counts, n_samples, plan.ranges().count())
}

/// Counts what a source is asked for.
struct Counter {
    source: Arc<dyn Source>,
    n_counts: AtomicU64,
    n_samples: AtomicU64,
}

#[async_trait]
impl Source for Counter {
    async fn count(&self, query: &Query) -> Result<u64> {
        self.n_counts.fetch_add(1, Ordering::SeqCst);
        self.source.count(query).await
    }

    async fn page(&self, query: &Query, cursor: Option<&str>, size: u32) -> Result<Page> {
        self.source.page(query, cursor, size).await
    }

    async fn sample(&self, query: &Query, size: u32) -> Result<Vec<Sampled>> {
        self.n_samples.fetch_add(1, Ordering::SeqCst);
        self.source.sample(query, size).await
    }
}
