//! Commits a run: counts again and judges, then creates the manifest, cleans up, and moves
//! `latest.json`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::future;
use tracing::{info, warn};

use super::books::Books;
use super::carry::{self, Checkpoints};
use super::plan::{query_of, total};
use super::{Job, World};
use crate::error::{Kind, Result};
use crate::model::SCHEMA_VERSION;
use crate::model::checkpoint::{Checkpoint, RangeProgress};
use crate::model::manifest::{Completeness, Counts, FileEntry, Latest, Manifest, Tool};
use crate::model::plan::{Plan, Range};
use crate::model::request::Dataset;
use crate::store;

/// How often ranges that disagree with their count are read again before that is reported.
pub const REREADS_MAX: u32 = 2;

/// How often `latest.json` is tried when others move it at the same time.
const LATEST_TRIES_MAX: u32 = 10;

/// What was read, and the verdict over it.
pub(super) struct Judged {
    counts: Counts,
    completeness: Completeness,
    files: Vec<FileEntry>,
}

/// Counts again and judges the run whose shards are all done. Ranges that disagree with their count
/// are read again, [`REREADS_MAX`] times at most.
///
/// # Errors
/// What source or store failed with.
pub(super) async fn judge(
    world: &World,
    job: &Arc<Job>,
    plan: &Arc<Plan>,
    mut checkpoints: Checkpoints,
    books: &mut Books,
) -> Result<Judged> {
    let mut n_rereads = 0;
    loop {
        let at_end = total(world.source.as_ref(), &job.request).await?;
        let counts = count(plan, &checkpoints, at_end);
        let completeness = Completeness::judge(
            counts.exported,
            counts.expected_at_start,
            counts.expected_at_end,
            job.request.max_assets,
        );
        let files = parts(&checkpoints).cloned().collect();
        if completeness != Completeness::Mismatch {
            return Ok(Judged { counts, completeness, files });
        }
        let disagreeing = disagreeing(world, job, plan, &checkpoints).await?;
        if disagreeing.is_empty() && plan.is_limited() {
            // Every range gave what it was to give, so the inventory shrank below a quota.
            return Ok(Judged { counts, completeness: Completeness::Limited, files });
        }
        if disagreeing.is_empty() || n_rereads == REREADS_MAX {
            return Ok(Judged { counts, completeness, files });
        }
        n_rereads += 1;
        warn!(
            run.id = %books.run_id(),
            "What came and what the service counts disagree; reading {} of {} ranges again",
            disagreeing.len(),
            plan.ranges().count()
        );
        checkpoints = carry::all(world, job, plan, disagreeing, books).await?;
    }
}

/// Creates the manifest, which completes the run, and does what follows from it.
///
/// # Errors
/// What the store failed with before the manifest existed. A failure behind it is only logged.
pub(super) async fn seal(
    world: &World,
    job: &Job,
    judged: Judged,
    books: &mut Books,
) -> Result<Manifest> {
    let Judged { counts, completeness, files } = judged;
    let manifest = Manifest {
        schema_version: SCHEMA_VERSION,
        run_id: books.run_id().clone(),
        target: job.target.clone(),
        trigger: job.trigger,
        slot: books.document().slot,
        workspace: job.workspace.clone(),
        request: job.request.clone(),
        api_version: job.api_version.clone(),
        started_at: books.document().started_at,
        finished_at: world.clock.now(),
        counts: BTreeMap::from([(Dataset::Assets.as_str().to_owned(), counts)]),
        completeness,
        files,
        tool: Tool::this(),
    };
    let path = job.layout().manifest(books.run_id());
    create_once(world, &path, &manifest).await?;
    info!(
        run.id = %manifest.run_id,
        completeness = completeness.as_str(),
        "Committed run {} with {} files",
        manifest.run_id,
        manifest.files.len()
    );
    let warn_of = |step: &str, done: Result<()>| {
        if let Err(err) = done {
            warn!(run.id = %manifest.run_id, "The run is complete, but could not {step}: {err}");
        }
    };
    warn_of("delete parts that do not count", delete_strays(world, job, &manifest).await);
    if job.is_own_request && completeness.is_whole() {
        warn_of("move latest.json", move_latest(world, job, &manifest, &path).await);
    }
    warn_of("say so in run.json", books.complete(world, path).await);
    Ok(manifest)
}

/// Creates the manifest. If that fails although it exists as we meant it, only the answer was lost.
async fn create_once(world: &World, path: &str, manifest: &Manifest) -> Result<()> {
    let store = world.store.as_ref();
    let Err(err) = store::create(store, path, manifest).await else { return Ok(()) };
    match store::read::<Manifest>(store, path).await {
        Ok(Some((present, _))) if present == *manifest => Ok(()),
        _ => Err(err),
    }
}

fn parts(checkpoints: &Checkpoints) -> impl Iterator<Item = &FileEntry> {
    let ranges = checkpoints.values().flat_map(|checkpoint| &checkpoint.ranges);
    ranges.flat_map(|range| &range.parts)
}

fn count(plan: &Plan, checkpoints: &Checkpoints, at_end: u64) -> Counts {
    let mut by_kind = BTreeMap::new();
    for file in parts(checkpoints) {
        *by_kind.entry(file.kind.clone()).or_insert(0) += file.records;
    }
    let ranges = checkpoints.values().flat_map(|checkpoint| &checkpoint.ranges);
    Counts {
        expected_at_start: plan.expected,
        expected_at_end: at_end,
        exported: checkpoints.values().map(Checkpoint::exported).sum(),
        duplicates_dropped: ranges.map(|range| range.duplicates_dropped).sum(),
        by_kind,
    }
}

/// Numbers of the ranges of which another number of assets came than the service counts now.
async fn disagreeing(
    world: &World,
    job: &Job,
    plan: &Plan,
    checkpoints: &Checkpoints,
) -> Result<Vec<u32>> {
    let exported = |range: &Range| {
        let mut all = checkpoints.values().filter_map(|checkpoint| checkpoint.range(range.id));
        all.next().map_or(0, RangeProgress::exported)
    };
    let recounts = plan.ranges().map(|range| async move {
        let now = world.source.count(&query_of(&job.request, range)).await?;
        let wanted = now.min(range.quota.unwrap_or(u64::MAX));
        Ok::<_, crate::error::Error>((range, wanted))
    });
    let recounts = future::try_join_all(recounts).await?;
    let others = recounts.into_iter().filter(|(range, wanted)| exported(range) != *wanted);
    Ok(others.map(|(range, _)| range.id).collect())
}

/// Deletes the parts of this run that its manifest does not list.
async fn delete_strays(world: &World, job: &Job, manifest: &Manifest) -> Result<()> {
    let listed: BTreeSet<&str> = manifest.files.iter().map(|file| file.path.as_str()).collect();
    let prefix = job.layout().parts(&manifest.run_id, Dataset::Assets);
    for path in world.store.list(&prefix).await? {
        if !listed.contains(path.as_str()) {
            world.store.delete(&path).await?;
        }
    }
    Ok(())
}

/// Lets `latest.json` name the run, unless it names one that started later.
async fn move_latest(world: &World, job: &Job, manifest: &Manifest, path: &str) -> Result<()> {
    let latest = Latest {
        schema_version: SCHEMA_VERSION,
        run_id: manifest.run_id.clone(),
        manifest: path.to_owned(),
        started_at: manifest.started_at,
        finished_at: manifest.finished_at,
        completeness: manifest.completeness,
        assets: manifest.counts.values().map(|counts| counts.exported).sum(),
    };
    let (place, store) = (job.layout().latest(), world.store.as_ref());
    for n_try in 1.. {
        let moved = match store::read::<Latest>(store, &place).await? {
            None => store::create(store, &place, &latest).await,
            Some((present, _)) if present.started_at > latest.started_at => return Ok(()),
            Some((_, tag)) => store::replace(store, &place, &latest, &tag).await,
        };
        match moved {
            Err(err) if err.kind() == Kind::Conflict && n_try < LATEST_TRIES_MAX => {}
            moved => return moved.map(drop),
        }
    }
    unreachable!("the loop returns at its last try")
}
