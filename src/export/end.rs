//! How a run ends, and what follows from it, in an order that can be repeated at any point.
//!
//! `manifest | cancel.json | failed in run.json -> strays, latest, run.json, history -> active away`
//!
//! # Invariants
//! - Manifest beats cancel beats failed.
//! - `active` goes last, under the tag read and only if it still names the run: whoever finds it there
//!   knows that something may be missing, and does it again.
//! - Parts are deleted by what a manifest says, and by nothing else.
//!
//! Start reading at [`finish`].

use std::collections::BTreeSet;

use tracing::{info, warn};

use super::books::Books;
use crate::error::{Error, Kind, Result};
use crate::model::SCHEMA_VERSION;
use crate::model::active::{Active, Cancel};
use crate::model::history::{Entry, History};
use crate::model::manifest::{Completeness, Latest, Manifest};
use crate::model::request::Dataset;
use crate::model::run::{RunDocument, RunError, RunId, Status};
use crate::secret::Said;
use crate::store;

/// How often the steps behind an end are gone through: a manifest may appear meanwhile, once.
const SETTLE_ROUNDS_MAX: u32 = 2;

/// Does what follows the end of the run `id`, and gives its status document. `None`: it is in work.
///
/// Safe to repeat after any error or crash.
///
/// # Errors
/// What the store failed with, where trying again may help. Anything else is only logged: a run that
/// ended stays so.
pub async fn finish(books: &Books, id: &RunId) -> Result<Option<RunDocument>> {
    let Some(run) = settle(books, id).await? else { return Ok(None) };
    or_warn(id, "say that it is not in work any more", take_away(books, &run).await)?;
    Ok(Some(run))
}

/// Does what follows the end of the run `id`, but leaves `active` alone.
///
/// # Errors
/// As [`finish`].
pub(super) async fn settle(books: &Books, id: &RunId) -> Result<Option<RunDocument>> {
    let Some(run) = books.run(id).await? else { return Ok(None) };
    if run.deleted_at.is_some() {
        // A manifest that appears now speaks of parts that are gone.
        return Ok(Some(run));
    }
    for _ in 0..SETTLE_ROUNDS_MAX {
        let manifest = books.manifest(id).await?;
        let (run, verdict) = match &manifest {
            Some(manifest) => (complete(books, &run, manifest).await?, Some(verdict(manifest))),
            None if matches!(run.status, Status::Cancelled | Status::Skipped) => {
                (run.clone(), None)
            }
            None => match books.read::<Cancel>(&books.layout.cancel(id)).await? {
                // Asked for before it failed, or while it did.
                Some(_) => (cancelled(books, id).await?, None),
                None if run.status.is_ended() => (run.clone(), None),
                None => return Ok(None),
            },
        };
        let partial = books.store.delete(&books.layout.partial_plan(id)).await;
        or_warn(id, "delete a plan half made", partial)?;
        let entry = Entry::of(&run, verdict);
        or_warn(id, "write it into history.json", note_history(books, &entry).await)?;
        // A committer may have been on its way when the run was said to have failed.
        if verdict.is_some() || books.manifest(id).await?.is_none() {
            return Ok(Some(run));
        }
    }
    // The manifest appeared and was gone again: somebody else deletes from the store.
    Ok(Some(run))
}

/// Ends the run that was `seen` so with `failure`, unless it ended otherwise or was resumed meanwhile:
/// what failed before that does not count any more. That it saved nothing for too long only counts if
/// nothing was noted meanwhile. Gives its status document.
///
/// # Errors
/// [`Kind::Conflict`] if it was resumed or goes on, and what the store failed with.
pub(super) async fn fail(
    books: &Books,
    seen: &RunDocument,
    failure: &Error,
) -> Result<RunDocument> {
    let id = &seen.run_id;
    let is_cancelled = books.store.read(&books.layout.cancel(id)).await?.is_some();
    if !is_cancelled && books.manifest(id).await?.is_none() {
        let error = RunError {
            code: failure.kind().facts().code.to_owned(),
            message: Said::new(failure.to_string()),
        };
        let noted = books.note(id, |run| {
            let is_idle = failure.kind() != Kind::Deadline || run.updated_at == seen.updated_at;
            let is_new = !run.status.is_ended() && run.resumes == seen.resumes && is_idle;
            if is_new {
                run.status = Status::Failed;
                run.finished_at = Some(books.now());
                run.error = Some(error.clone());
                run.not_before = None;
            }
            is_new
        });
        noted.await?;
    }
    match finish(books, id).await? {
        Some(run) => Ok(run),
        None => Err(Error::new(Kind::Conflict, "end a run")
            .because("it was resumed or went on meanwhile")
            .with("run", id)
            .advise("it goes on")),
    }
}

/// Asks for the end of the run `id`, and ends it. Gives its status document: it says whether the run
/// is cancelled or ended otherwise before that.
///
/// # Errors
/// [`Kind::NotFound`] if there is no such run, and what the store failed with.
pub async fn cancel(books: &Books, id: &RunId) -> Result<RunDocument> {
    let Some(run) = books.run(id).await? else { return Err(unknown(books, id)) };
    if !run.status.is_ended() && books.manifest(id).await?.is_none() {
        let document = Cancel { schema_version: SCHEMA_VERSION, requested_at: books.now() };
        let path = books.layout.cancel(id);
        match store::create(books.store.as_ref(), &path, &document).await {
            // Somebody asked before.
            Err(err) if err.kind() != Kind::Conflict => return Err(err),
            _ => {}
        }
    }
    Ok(finish(books, id).await?.unwrap_or(run))
}

/// Has `latest.json` name the complete run `id`, whatever it was asked for. Gives what `latest.json`
/// names now: another one if that started later.
///
/// # Errors
/// [`Kind::NotFound`] if there is no such run or it is not complete, and what the store failed with.
pub async fn publish(books: &Books, id: &RunId) -> Result<Latest> {
    if books.run(id).await?.is_some() {
        // Said first: from then on retention leaves it alone.
        claim_for_publishing(books, id).await?;
    }
    if let Some(manifest) = books.manifest(id).await? {
        return move_latest(books, &manifest).await;
    }
    let Some(run) = books.run(id).await? else { return Err(unknown(books, id)) };
    Err(Error::new(Kind::NotFound, "publish a run")
        .because(format!("run {id} is {}, not complete", run.status.as_str()))
        .advise("publish a run that is complete; runs list shows them"))
}

/// Notes in run.json that the run `id` is to be published.
///
/// # Errors
/// [`Kind::NotFound`] if retention deletes it, and what the store failed with.
pub(super) async fn claim_for_publishing(books: &Books, id: &RunId) -> Result<()> {
    let noted = books.note(id, |run| {
        run.publishes = run.publishes || run.deleted_at.is_none();
        run.deleted_at.is_none()
    });
    match noted.await {
        Ok(run) if run.deleted_at.is_none() => Ok(()),
        Err(err) if books.run(id).await?.is_some() => Err(err),
        // Deleted, or about to be.
        _ => Err(unknown(books, id)),
    }
}

pub(super) fn unknown(books: &Books, id: &RunId) -> Error {
    Error::new(Kind::NotFound, "find a run")
        .because(format!("there is no run {id} of target {} in this store", books.target()))
        .advise("see runs list, and look at EASM_STORE_URL")
}

/// Does what follows from `manifest`, by what it says.
async fn complete(books: &Books, run: &RunDocument, manifest: &Manifest) -> Result<RunDocument> {
    let id = &manifest.run_id;
    or_warn(id, "delete parts that do not count", delete_strays(books, manifest).await)?;
    // What was limited was asked to be, and to be published.
    let is_fit = manifest.completeness.is_whole() || manifest.completeness == Completeness::Limited;
    if run.publishes && is_fit {
        or_warn(id, "move latest.json", move_latest(books, manifest).await.map(drop))?;
    }
    let noted = books.note(id, |run| {
        let is_new = run.status != Status::Complete;
        run.status = Status::Complete;
        run.finished_at = Some(manifest.finished_at);
        run.progress.exported = verdict(manifest).1;
        run.progress.shards_done = run.progress.shards_total;
        run.manifest = Some(books.layout.manifest(id));
        run.error = None;
        run.not_before = None;
        is_new
    });
    match noted.await {
        Ok(run) => Ok(run),
        Err(err) => {
            or_warn(id, "say so in run.json", Err(err))?;
            Ok(RunDocument { status: Status::Complete, ..run.clone() })
        }
    }
}

async fn cancelled(books: &Books, id: &RunId) -> Result<RunDocument> {
    let run = books.note(id, |run| {
        let is_new = !run.status.is_ended() || run.status == Status::Failed;
        if is_new {
            run.status = Status::Cancelled;
            run.finished_at = Some(books.now());
            run.not_before = None;
            run.error = Some(RunError {
                code: Kind::Cancelled.facts().code.to_owned(),
                message: Said::new("cancelled on request"),
            });
        }
        is_new
    });
    let run = run.await?;
    info!(run.id = %id, "Run {id} ended: {}", run.status.as_str());
    Ok(run)
}

/// Verdict and number of assets.
fn verdict(manifest: &Manifest) -> (Completeness, u64) {
    let n_assets = manifest.counts.values().map(|counts| counts.exported).sum();
    (manifest.completeness, n_assets)
}

/// Deletes the parts of a run that its manifest does not list.
///
/// # Errors
/// What the store failed with.
pub(super) async fn delete_strays(books: &Books, manifest: &Manifest) -> Result<()> {
    let listed: BTreeSet<&str> = manifest.files.iter().map(|file| file.path.as_str()).collect();
    let prefix = books.layout.parts(&manifest.run_id, Dataset::Assets);
    for path in books.store.list(&prefix).await? {
        if !listed.contains(path.as_str()) {
            books.store.delete(&path).await?;
        }
    }
    Ok(())
}

/// Lets `latest.json` name the run of `manifest`, unless it names one that started later.
async fn move_latest(books: &Books, manifest: &Manifest) -> Result<Latest> {
    let latest = Latest {
        schema_version: SCHEMA_VERSION,
        run_id: manifest.run_id.clone(),
        manifest: books.layout.manifest(&manifest.run_id),
        started_at: manifest.started_at,
        finished_at: manifest.finished_at,
        completeness: manifest.completeness,
        assets: verdict(manifest).1,
    };
    let path = books.layout.latest();
    let moved = books.change(&path, |present: Option<Latest>| {
        Ok(match present {
            Some(present) if present.started_at > latest.started_at => (present, false),
            Some(present) if present == latest => (present, false),
            _ => (latest.clone(), true),
        })
    });
    moved.await
}

/// Writes `entry` into the history, in the place of an older one of its run.
async fn note_history(books: &Books, entry: &Entry) -> Result<()> {
    change_history(books, |history| history.put(entry.clone())).await
}

/// Writes `entry` into the history, unless it knows the run.
///
/// # Errors
/// What the store failed with.
pub(super) async fn note_if_new(books: &Books, entry: &Entry) -> Result<()> {
    let is_known = |known: &Entry| known.run_id == entry.run_id;
    let put_new =
        |history: &mut History| !history.runs.iter().any(is_known) && history.put(entry.clone());
    change_history(books, put_new).await
}

async fn change_history(
    books: &Books,
    change: impl Fn(&mut History) -> bool + Send + Sync,
) -> Result<()> {
    let path = books.layout.history();
    let changed = books.change(&path, |present: Option<History>| {
        let empty = || History { schema_version: SCHEMA_VERSION, runs: Vec::new() };
        let mut history = present.unwrap_or_else(empty);
        let is_changed = change(&mut history);
        Ok((history, is_changed))
    });
    changed.await.map(drop)
}

/// Says that `run` is not in work any more, if `active` still says so.
async fn take_away(books: &Books, run: &RunDocument) -> Result<()> {
    let path = books.layout.active(&run.request);
    match books.read::<Active>(&path).await? {
        // It ended before it was resumed.
        Some((active, _))
            if active.run_id == run.run_id
                && active.resumes > run.resumes
                && run.deleted_at.is_none() =>
        {
            Ok(())
        }
        Some((active, tag)) if active.run_id == run.run_id => {
            match books.store.remove(&path, &tag).await {
                // Another run took its place.
                Err(err) if err.kind() == Kind::Conflict => Ok(()),
                removed => removed,
            }
        }
        _ => Ok(()),
    }
}

/// A failure that may pass is given back; any other is only logged, since repeating it would hold up
/// what comes behind for ever.
fn or_warn(id: &RunId, step: &str, done: Result<()>) -> Result<()> {
    match done {
        Err(err) if err.kind().is_retryable() => Err(err),
        Err(err) => {
            warn!(run.id = %id, "Run {id} ended, but could not {step}: {err}");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}
