//! What there is to see of runs: the list of them, where one stands, and whether its files are what its
//! manifest says.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use futures::future::FutureExt;
use futures::stream::{self, StreamExt, TryStreamExt};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::books::Books;
use super::end::unknown;
use super::step::progress;
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::model::hash::hex;
use crate::model::history::History;
use crate::model::manifest::{FileEntry, Latest, Manifest};
use crate::model::run::{RunDocument, RunId, Status};

/// Documents that are read at once.
const READS_AT_ONCE: usize = 8;

/// Files that are verified at once.
const FILES_AT_ONCE: usize = 4;

/// Runs of several targets, and the targets whose books could not be read.
pub struct Listed {
    /// The runs, newest first.
    pub runs: Vec<RunDocument>,
    /// Names of targets, and what the store failed with.
    pub unread: Vec<(String, Error)>,
}

/// The newest `limit` runs of the targets of `all`, in work or ended, newest first. One target whose books
/// cannot be read does not hide the others'.
///
/// # Errors
/// What the store failed with, if it did for every target.
pub async fn list(all: &[Books], limit: usize) -> Result<Listed> {
    let named = all.iter().map(|books| async move { (books, ids(books).await) }.boxed());
    let mut named = stream::iter(named.collect::<Vec<_>>()).buffer_unordered(READS_AT_ONCE);
    let (mut found, mut unread) = (Vec::new(), Vec::new());
    while let Some((books, ids)) = named.next().await {
        match ids {
            Ok(ids) => found.extend(ids.into_iter().map(|(at, id)| (at, id, books))),
            Err(err) => unread.push((books.target().to_owned(), err)),
        }
    }
    if let Some((_, err)) = unread.first().filter(|_| unread.len() == all.len()) {
        return Err(err.clone());
    }
    found.sort_by(|left, right| (right.0, &right.1).cmp(&(left.0, &left.1)));
    // Whoever's run cannot be read is asked for no other: each would be waited for as long.
    let failed = Mutex::new(BTreeSet::new());
    let reads: Vec<_> = found
        .into_iter()
        .map(|(_, id, books)| {
            let has_failed = || failed.lock().unwrap_or_else(PoisonError::into_inner);
            async move {
                if has_failed().contains(books.target()) {
                    return (books, Ok(None));
                }
                let run = find(books, &id).await;
                if run.is_err() {
                    has_failed().insert(books.target());
                }
                (books, run)
            }
            .boxed()
        })
        .collect();
    let mut reads = stream::iter(reads).buffered(READS_AT_ONCE.min(limit.max(1)));
    let mut runs = Vec::new();
    while runs.len() < limit
        && let Some((books, run)) = reads.next().await
    {
        match run {
            // The history goes on naming what retention deleted.
            Ok(run) => runs.extend(run.filter(|run| run.deleted_at.is_none())),
            Err(err) => {
                if unread.iter().all(|(name, _)| name != books.target()) {
                    unread.push((books.target().to_owned(), err));
                }
            }
        }
    }
    if let Some((_, err)) = unread.first().filter(|_| unread.len() == all.len()) {
        return Err(err.clone());
    }
    Ok(Listed { runs, unread })
}

/// Ids of the runs that a target's books name, each once, with the time of its start.
async fn ids(books: &Books) -> Result<BTreeSet<(Timestamp, RunId)>> {
    // First what is in work: a run that ends meanwhile is in the history before it is taken away there.
    let in_work = books.active().await?.into_iter();
    let history = books.read::<History>(&books.layout.history()).await?;
    let ended = history.map(|(history, _)| history.runs).unwrap_or_default();
    Ok(in_work
        .map(|active| (active.started_at, active.run_id))
        .chain(ended.into_iter().map(|entry| (entry.started_at, entry.run_id)))
        .collect())
}

/// The run `id`, and whose it is: looked up in the books of `all` targets. `None`: nobody has it.
///
/// # Errors
/// What the store failed with for a target, if no other has the run.
pub async fn look_up<'a>(all: &'a [Books], id: &RunId) -> Result<Option<(&'a Books, RunDocument)>> {
    let looked = all.iter().map(|books| async move { (books, books.run(id).await) }.boxed());
    let mut looked = stream::iter(looked.collect::<Vec<_>>()).buffer_unordered(READS_AT_ONCE);
    let mut failure = None;
    while let Some((books, run)) = looked.next().await {
        match run {
            Ok(Some(run)) => return Ok(Some((books, run))),
            Ok(None) => {}
            Err(err) => failure = Some(err),
        }
    }
    failure.map_or(Ok(None), Err)
}

/// What `latest.json` names: the newest whole run of the target's own request. `None`: there is none yet.
///
/// # Errors
/// What the store failed with.
pub async fn newest_complete(books: &Books) -> Result<Option<Latest>> {
    Ok(books.read(&books.layout.latest()).await?.map(|(latest, _)| latest))
}

/// The run `id` as it stands now.
///
/// # Errors
/// [`crate::error::Kind::NotFound`] if there is no such run, and what the store failed with.
pub async fn show(books: &Books, id: &RunId) -> Result<RunDocument> {
    find(books, id).await?.ok_or_else(|| unknown(books, id))
}

/// The run `id`, with how far it has come by its checkpoints unless it is complete.
async fn find(books: &Books, id: &RunId) -> Result<Option<RunDocument>> {
    let Some(mut run) = books.run(id).await? else { return Ok(None) };
    if !matches!(run.status, Status::Complete | Status::Skipped)
        && let Some(plan) = books.plan(id).await?
    {
        run.progress = progress(&plan, &books.checkpoints(&plan).await?);
        run.status = if run.status == Status::Queued { Status::Running } else { run.status };
    }
    Ok(Some(run))
}

/// A file that is not what the manifest says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Where the file is to lie, from the store's URL.
    pub path: String,
    /// What is wrong with it.
    pub reason: String,
}

/// Reads every file of `manifest` again and compares it with the size and SHA-256 that stand there.
/// Gives those that differ, in the manifest's order.
///
/// # Errors
/// What the store failed with.
pub async fn verify(books: &Books, manifest: &Manifest) -> Result<Vec<Fault>> {
    let checks = manifest.files.iter().map(|file| verify_file(books, file).boxed());
    let checks = stream::iter(checks.collect::<Vec<_>>());
    let faults: Vec<_> = checks.buffered(FILES_AT_ONCE).try_collect().await?;
    Ok(faults.into_iter().flatten().collect())
}

async fn verify_file(books: &Books, file: &FileEntry) -> Result<Option<Fault>> {
    let fault = |reason: String| Some(Fault { path: file.path.clone(), reason });
    let Some(mut reader) = books.store.open(&file.path).await? else {
        return Ok(fault("it does not exist".to_owned()));
    };
    let (mut hasher, mut n_bytes) = (Sha256::new(), 0);
    while let Some(chunk) = reader.next().await? {
        hasher.update(&chunk);
        n_bytes += chunk.len() as u64;
    }
    let sha256 = hex(&hasher.finalize());
    Ok::<_, Error>(match (n_bytes == file.bytes, sha256 == file.sha256) {
        (true, true) => None,
        (false, _) => fault(format!("it has {n_bytes} bytes instead of {}", file.bytes)),
        (true, false) => fault("its SHA-256 is another one".to_owned()),
    })
}
