//! Deletes one run, in an order in which nothing half deleted can be read, resumed or committed.
//!
//! `marked in run.json -> in latest.json? -> plan -> checkpoints -> manifest -> parts -> the rest -> run.json`
//!
//! | Killed behind | Whoever comes then |
//! | --- | --- |
//! | the mark | resuming and publishing are refused; a reader finds it whole, with its manifest |
//! | the plan, the checkpoints | likewise; a worker or committer finds no plan, and an end in run.json |
//! | the manifest | it is not complete for anybody; its parts are parts that no manifest lists |
//! | the parts | only run.json is left, which says that it was deleted |
//!
//! The next look finds the mark, or what lies there without a run.json, and goes on.
//!
//! Start reading at [`run`].

use std::time::Duration;

use futures::future::FutureExt;
use futures::stream::{self, StreamExt, TryStreamExt};
use tracing::debug;

use crate::clock::Timestamp;
use crate::error::{Kind, Result};
use crate::export::books::Books;
use crate::export::end::finish;
use crate::export::open::KEY_LIFE;
use crate::model::manifest::Latest;
use crate::model::request::Dataset;
use crate::model::run::{RunDocument, RunError, RunId, Status};
use crate::secret::Said;

use super::survey::Survey;
use super::{DAY, QUIET, Retention};

/// Files that are deleted at once.
const DELETES_AT_ONCE: usize = 8;

/// How long run.json stays after the end of the run, whatever else is gone: an idempotency key may stand for
/// it, and would otherwise open it anew.
const RECORD_LIFE: Duration = KEY_LIFE.saturating_add(DAY);

/// What a call may still do.
pub(super) struct Limits {
    /// Files that may be deleted.
    pub files: usize,
}

/// What became of a run.
pub(super) enum Erased {
    /// Nothing is left of it but, if need be, its run.json.
    Gone,
    /// It stays, or was gone before.
    Kept,
    /// The call's limit was reached before its end.
    Begun,
}

/// Deletes the run `id`, if it is as old as the survey takes it to be.
///
/// # Errors
/// What the store failed with, and [`Kind::Newer`] for what a newer version wrote.
pub(super) async fn run(
    books: &Books,
    survey: &Survey,
    retention: Retention,
    id: &RunId,
    limits: &mut Limits,
) -> Result<Erased> {
    let Some(run) = books.run(id).await? else {
        // With a manifest it is a whole export, whoever took its run.json away.
        return match books.store.read(&books.layout.manifest(id)).await? {
            Some(_) => Ok(Erased::Kept),
            None => files(books, id, limits).await,
        };
    };
    if run.deleted_at.is_none() && !begin(books, retention, &run).await? {
        return Ok(Erased::Kept);
    }
    let erased = files(books, id, limits).await?;
    let is_young = books.now().since(ended_at(&run)) < RECORD_LIFE;
    let stays = run.slot.is_some_and(|slot| survey.is_newest_slot(slot)) || is_young;
    match erased {
        Erased::Begun => Ok(Erased::Begun),
        erased if stays => Ok(erased),
        _ => forget(books, id).await,
    }
}

/// When `run` ended, or was last saved.
fn ended_at(run: &RunDocument) -> Timestamp {
    run.finished_at.unwrap_or(run.updated_at)
}

/// Marks `run`, if it is old enough and nobody wants it. Whether it is marked then.
async fn begin(books: &Books, retention: Retention, run: &RunDocument) -> Result<bool> {
    let (id, now) = (&run.run_id, books.now());
    let is_complete = books.manifest(id).await?.is_some();
    if is_complete && run.status != Status::Complete {
        // A committer came late; nobody looked after what follows.
        finish(books, id).await?;
        return Ok(false);
    }
    let limit = if is_complete { retention.complete() } else { Some(retention.leftover()) };
    let age = now.since(ended_at(run));
    let is_quiet = now.since(run.updated_at) >= QUIET;
    if limit.is_none_or(|limit| age < limit) || !is_quiet {
        return Ok(false);
    }
    let noted = books.note(id, |present| {
        // Who resumes or publishes it says so here.
        let is_same = (present.updated_at, present.resumes) == (run.updated_at, run.resumes);
        let is_new = present.deleted_at.is_none() && is_same;
        if is_new {
            present.deleted_at = Some(now);
        }
        if is_new && !present.status.is_ended() {
            present.status = Status::Failed;
            present.finished_at = Some(present.updated_at);
            present.error = Some(RunError {
                code: Kind::Deadline.facts().code.to_owned(),
                message: Said::new("it was neither ended nor in work"),
            });
        }
        is_new
    });
    if noted.await?.deleted_at != Some(now) {
        return Ok(false);
    }
    // Whoever wants it from now on finds the mark. Whoever was about to have `latest.json` name it, for
    // the first time since its end, is looked for once more.
    let latest = books.read::<Latest>(&books.layout.latest()).await?;
    if latest.is_some_and(|(latest, _)| latest.run_id == *id) {
        books.note(id, |run| run.deleted_at.take().is_some()).await?;
        return Ok(false);
    }
    debug!(run.id = %id, "Deleting run {id}, which is {}", run.status.as_str());
    Ok(true)
}

/// Deletes everything of the run `id` but its run.json.
async fn files(books: &Books, id: &RunId, limits: &mut Limits) -> Result<Erased> {
    let layout = &books.layout;
    let run = layout.run(id);
    let mut documents = books.store.list(&layout.documents(id)).await?;
    documents.retain(|path| *path != run);
    let plans = [layout.plan(id), layout.partial_plan(id)];
    let checkpoints = format!("{}checkpoints/", layout.documents(id));
    let is_first = |path: &String| plans.contains(path);
    let is_second = |path: &String| path.starts_with(&checkpoints);
    let (first, rest): (Vec<_>, Vec<_>) = documents.into_iter().partition(is_first);
    let (second, rest): (Vec<_>, Vec<_>) = rest.into_iter().partition(is_second);
    let (third, rest): (Vec<_>, Vec<_>) =
        rest.into_iter().partition(|path| *path == layout.manifest(id));
    let n_before = limits.files;
    for paths in [first, second, third] {
        if !delete(books, paths, limits).await? {
            return Ok(Erased::Begun);
        }
    }
    for dataset in Dataset::ALL {
        // Listed anew each time, since what was listed before is gone.
        while let paths = books.store.list_some(&layout.parts(id, *dataset), None).await?.paths
            && !paths.is_empty()
        {
            if !delete(books, paths, limits).await? {
                return Ok(Erased::Begun);
            }
        }
    }
    if !delete(books, rest, limits).await? {
        return Ok(Erased::Begun);
    }
    // What somebody wrote who was on his way for days.
    let mut late = books.store.list(&layout.documents(id)).await?;
    late.retain(|path| *path != run);
    if !delete(books, late, limits).await? {
        return Ok(Erased::Begun);
    }
    Ok(if limits.files < n_before { Erased::Gone } else { Erased::Kept })
}

/// Deletes `paths`. `false`: not all of them, since the limit is reached.
async fn delete(books: &Books, mut paths: Vec<String>, limits: &mut Limits) -> Result<bool> {
    let is_all = paths.len() <= limits.files;
    paths.truncate(limits.files);
    limits.files -= paths.len();
    let deletes = paths.iter().map(|path| books.store.delete(path).boxed());
    let deletes = stream::iter(deletes.collect::<Vec<_>>());
    deletes.buffer_unordered(DELETES_AT_ONCE).try_collect::<()>().await?;
    Ok(is_all)
}

/// Deletes the run.json of a run of which nothing else is left.
async fn forget(books: &Books, id: &RunId) -> Result<Erased> {
    // Whoever resumed it while it was deleted may have died before he took that back.
    finish(books, id).await?;
    let path = books.layout.run(id);
    match books.read::<RunDocument>(&path).await? {
        Some((run, tag)) if run.deleted_at.is_some() => {
            books.store.remove(&path, &tag).await?;
            Ok(Erased::Gone)
        }
        _ => Ok(Erased::Kept),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::SystemClock;
    use crate::store::folder::FolderStore;

    #[tokio::test]
    async fn a_run_too_large_for_one_call_goes_over_several_and_its_manifest_before_its_parts() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Arc::new(FolderStore::new(folder.path()));
        let books = Books::new(store, Arc::new(SystemClock), "contoso");
        let id = RunId::parse("20261122T060000Z-1a2b3c4d").expect("an id");
        let layout = &books.layout;
        let parts: Vec<String> = (0..7)
            .map(|n| format!("{}kind=host/part-0-1-{n}", layout.parts(&id, Dataset::Assets)))
            .collect();
        let documents = [
            layout.run(&id),
            layout.plan(&id),
            layout.cancel(&id),
            layout.manifest(&id),
            layout.checkpoint(&id, 0),
            layout.checkpoint(&id, 1),
        ];
        for path in parts.iter().chain(&documents) {
            books.store.create(path, "{}".into()).await.expect("a file");
        }
        let mut n_calls = 0;
        loop {
            n_calls += 1;
            let mut limits = Limits { files: 2 };
            let erased = files(&books, &id, &mut limits).await.expect("a store that works");
            let left = books.store.list("contoso/").await.expect("a list");
            assert!(left.contains(&layout.run(&id)), "it is not deleted here");
            let n_parts = parts.iter().filter(|part| left.contains(part)).count();
            assert!(!left.contains(&layout.manifest(&id)) || n_parts == parts.len(), "{left:?}");
            assert!(!left.contains(&layout.plan(&id)), "it goes first");
            match erased {
                Erased::Begun => assert_eq!(limits.files, 0, "no sooner than that"),
                Erased::Gone | Erased::Kept => break,
            }
        }
        // Twelve files, two a call.
        assert_eq!(n_calls, 6);
    }
}
