//! The engine: moves pages from a [`Source`] to parts in a [`Store`] and keeps the books.
//!
//! `open -> plan -> carry every shard -> judge -> seal`
//!
//! # Invariants
//! - A saved checkpoint never counts a part that is not durable.
//! - A part's name carries shard, epoch and number, so a name never means two contents.
//! - The manifest is created last, and exists exactly when the run is complete.
//! - Nothing here knows Azure, HTTP, settings or the terminal. They arrive as [`World`] and [`Job`].
//!
//! Start reading at [`run`].

mod books;
mod carry;
mod commit;
mod cut;
mod part;
pub mod plan;
mod range;
pub mod source;
pub mod stream;

use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use crate::clock::Clock;
use crate::error::{Error, Kind, Result};
use crate::model::manifest::Manifest;
use crate::model::request::Request;
use crate::model::run::Trigger;
use crate::model::target::Workspace;
use crate::store::Store;
use books::Books;
use source::Source;

/// Everything outside that the engine works with.
#[derive(Clone)]
pub struct World {
    /// Where assets come from.
    pub source: Arc<dyn Source>,
    /// Where parts and documents go.
    pub store: Arc<dyn Store>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Who wants to know how it goes.
    pub observer: Arc<dyn Observer>,
}

/// Told how an export goes, for a progress bar.
pub trait Observer: Send + Sync {
    /// So many assets are expected.
    fn planned(&self, expected: u64);

    /// So many more assets were taken over.
    fn took(&self, records: u64);
}

/// An [`Observer`] who does not care.
#[derive(Debug, Clone, Copy, Default)]
pub struct Nobody;

impl Observer for Nobody {
    fn planned(&self, _expected: u64) {}

    fn took(&self, _records: u64) {}
}

/// What is to be exported, and how.
#[derive(Debug, Clone)]
pub struct Job {
    /// Name of the target.
    pub target: String,
    /// Where its assets are, for the manifest.
    pub workspace: Workspace,
    /// The data plane's api-version, for the manifest.
    pub api_version: String,
    /// What is asked for.
    pub request: Request,
    /// Whether that is the target's own request, so that `latest.json` may name the run.
    pub is_own_request: bool,
    /// What started the run.
    pub trigger: Trigger,
    /// Most assets of a page.
    pub page_size: u32,
    /// Most shards, each with one cursor at a time.
    pub shards: u32,
    /// Most assets of a range, where the service lets it be cut.
    pub range_assets_max: u64,
    /// Uncompressed bytes after which a part is closed.
    pub part_bytes_max: u64,
}

/// Longest time in which an interrupted run notes that it ended.
const LAST_NOTE_SECONDS_MAX: u64 = 10;

/// Carries one run from its opening to its commit. When `interrupt` completes before everything is
/// read, the run ends as failed and nothing of it counts; after that the commit is not held up.
///
/// # Errors
/// What ended the run; its `run.json` says the same, unless it cannot be known whether the manifest
/// exists. [`Kind::Interrupted`] after `interrupt`.
pub async fn run(world: &World, job: Job, interrupt: impl Future<Output = ()>) -> Result<Manifest> {
    let job = Arc::new(job);
    tokio::pin!(interrupt);
    let open = Books::open(world, &job, fastrand::u32(..));
    tokio::pin!(open);
    let (mut books, is_interrupted) = tokio::select! {
        books = &mut open => (books?, false),
        // What may be there already is to say that it ended.
        () = &mut interrupt => match within_last_note(open).await {
            Some(books) => (books?, true),
            None => return Err(interrupted("no run was begun")),
        },
    };
    let run_id = books.run_id().clone();
    let interrupt = async {
        if !is_interrupted {
            interrupt.await;
        }
    };
    info!(run.id = %run_id, target = job.target, "Opened run {run_id} of target {}", job.target);
    let read = tokio::select! {
        biased;
        () = interrupt => {
            let reason = format!("run {run_id} did not complete and nothing of it counts");
            Err(interrupted(&reason))
        }
        read = read(world, &job, &mut books) => read,
    };
    let judged = match read {
        Ok(judged) => judged,
        Err(err) => {
            let note = books.fail(world, &err);
            match err.kind() {
                Kind::Interrupted => {
                    if within_last_note(note).await.is_none() {
                        warn!(run.id = %run_id, "Could not note in run.json that it was interrupted");
                    }
                }
                _ => note.await,
            }
            return Err(err);
        }
    };
    // Not to be interrupted: whoever asks for that must know whether there is a manifest.
    match commit::seal(world, &job, judged, &mut books).await {
        Ok(manifest) => Ok(manifest),
        // Whether the manifest came to be is open, so the run is not said to have failed.
        Err(err) if err.kind().is_retryable() => Err(err.advise(format!(
            "run {run_id} is complete if {} exists; look, or export again",
            job.layout().manifest(&run_id)
        ))),
        Err(err) => {
            books.fail(world, &err).await;
            Err(err)
        }
    }
}

/// What `work` gives, if that does not take longer than an interrupted run may.
async fn within_last_note<T>(work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(Duration::from_secs(LAST_NOTE_SECONDS_MAX), work).await.ok()
}

/// Plans, reads everything, and judges what came.
async fn read(world: &World, job: &Arc<Job>, books: &mut Books) -> Result<commit::Judged> {
    let plan = Arc::new(plan::make(world, job, books.run_id()).await?);
    books.planned(world, &plan).await?;
    let checkpoints = carry::all(world, job, &plan, Vec::new(), books).await?;
    commit::judge(world, job, &plan, checkpoints, books).await
}

fn interrupted(what_follows: &str) -> Error {
    Error::new(Kind::Interrupted, "export")
        .because(format!("interrupted; {what_follows}"))
        .advise("start the export again")
}
