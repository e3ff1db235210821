//! Commits a run whose shards are all done: counts again, judges, creates the manifest.
//!
//! `counted again -> verdict -> a mismatch: ranges set back, to be read again | manifest.json created`
//!
//! What follows from a manifest is in [`super::end`].

use std::collections::BTreeMap;

use futures::future::FutureExt;
use futures::stream::{self, StreamExt, TryStreamExt};
use tracing::{info, warn};

use super::books::{Books, Checkpoints};
use super::plan::{query, query_of, total};
use super::slice::Slice;
use super::step::{Standing, standing};
use super::{Job, World};
use crate::error::{Error, Kind, Result};
use crate::model::SCHEMA_VERSION;
use crate::model::asset::KindCut;
use crate::model::checkpoint::{Checkpoint, RangeProgress};
use crate::model::manifest::{Completeness, Counts, FileEntry, Manifest, Tool};
use crate::model::plan::{Plan, Range, Within};
use crate::model::request::Dataset;
use crate::model::run::RunDocument;
use crate::store;

/// How often a range that disagrees with its count is read again before that is reported.
pub const REREADS_MAX: u32 = 2;

/// Ranges that are counted again at once. The source has a limit of its own, over all runs.
const COUNTS_AT_ONCE: usize = 64;

/// Most ranges that are all counted again: at three seconds a count, eight at once, they take a third of a
/// slice.
const RECOUNTS_MAX: usize = 200;

/// What became of a try to commit.
pub(super) enum Committed {
    /// The manifest exists.
    Done,
    /// Shards are not done.
    NotAllDone,
    /// Ranges of these shards are to be read again.
    SetBack(Vec<u32>),
    /// The slice was over.
    SliceOver,
}

/// Commits `run`, if all shards of `plan` are done and what came agrees with what the service counts.
///
/// # Errors
/// [`Kind::Conflict`] if a shard was claimed or the run ended meanwhile, and what source or store
/// failed with.
pub(super) async fn commit(
    world: &World,
    job: &Job,
    books: &Books,
    run: &RunDocument,
    plan: &Plan,
    slice: &Slice,
) -> Result<Committed> {
    let checkpoints = books.checkpoints(plan).await?;
    if !left(plan, &checkpoints).is_empty() {
        return Ok(Committed::NotAllDone);
    }
    let judged = match slice.bound(judge(world, plan, &checkpoints)).await {
        Some(judged) => judged?,
        None if slice.is_stopped() => return Ok(Committed::SliceOver),
        None => return Err(out_of_time()),
    };
    let (counts, completeness) = match judged {
        Judged::Final(counts, completeness) => (counts, completeness),
        Judged::ReadAgain(ranges) => {
            warn!(
                run.id = %run.run_id,
                "What came and what the service counts disagree; reading {} of {} ranges again",
                ranges.len(),
                plan.ranges().count()
            );
            return Ok(Committed::SetBack(set_back(books, plan, &ranges).await?));
        }
    };
    // Counting took its time.
    let Standing::InWork(run) = standing(books, &run.run_id).await? else {
        return Err(Error::new(Kind::Conflict, "commit a run").because("it ended meanwhile"));
    };
    let manifest = Manifest {
        schema_version: SCHEMA_VERSION,
        run_id: run.run_id.clone(),
        target: run.target.clone(),
        trigger: run.trigger,
        slot: run.slot,
        workspace: job.workspace.clone(),
        request: plan.request.clone(),
        api_version: job.api_version.clone(),
        started_at: run.started_at,
        finished_at: books.now(),
        counts: BTreeMap::from([(Dataset::Assets.as_str().to_owned(), counts)]),
        completeness,
        files: parts(&checkpoints).cloned().collect(),
        tool: Tool::this(),
    };
    let path = books.layout.manifest(&run.run_id);
    match store::create(books.store.as_ref(), &path, &manifest).await {
        // Another committer was first: by the manifest as it stands the run is complete.
        Err(err) if err.kind() == Kind::Conflict => {}
        created => {
            created?;
            info!(
                run.id = %manifest.run_id,
                completeness = completeness.as_str(),
                "Committed run {} with {} files",
                manifest.run_id,
                manifest.files.len()
            );
        }
    }
    Ok(Committed::Done)
}

/// Shards of `plan` that are not done.
pub(super) fn left(plan: &Plan, checkpoints: &Checkpoints) -> Vec<u32> {
    let is_done = |shard: &u32| checkpoints.get(shard).is_some_and(|found| found.is_done);
    plan.shards.iter().map(|shard| shard.shard).filter(|shard| !is_done(shard)).collect()
}

/// The verdict.
enum Judged {
    /// It stands.
    Final(Counts, Completeness),
    /// It would be a mismatch, and these ranges disagree with their counts.
    ReadAgain(Vec<u32>),
}

/// Counts again and judges what came.
async fn judge(world: &World, plan: &Plan, checkpoints: &Checkpoints) -> Result<Judged> {
    let at_end = total(world.source.as_ref(), &plan.request).await?;
    let counts = count(plan, checkpoints, at_end);
    let completeness = Completeness::judge(
        counts.exported,
        counts.expected_at_start,
        counts.expected_at_end,
        plan.request.max_assets,
    );
    // The inventory grew, and the limit may have cut off what was there all the time.
    let is_full = |range: &Range| {
        let exported = progress(checkpoints, range.id).map_or(0, RangeProgress::exported);
        range.quota.is_some_and(|quota| exported >= quota)
    };
    if completeness == Completeness::Changed && plan.ranges().any(is_full) {
        return Ok(Judged::Final(counts, Completeness::Limited));
    }
    if completeness != Completeness::Mismatch {
        return Ok(Judged::Final(counts, completeness));
    }
    let disagreeing = disagreeing(world, plan, checkpoints).await?;
    if disagreeing.is_empty() && plan.is_limited() {
        // Every range gave what it was to give, so the inventory shrank below a quota.
        return Ok(Judged::Final(counts, Completeness::Limited));
    }
    let rereads = |range: &u32| progress(checkpoints, *range).map_or(0, |found| found.rereads);
    let again: Vec<u32> =
        disagreeing.into_iter().filter(|range| rereads(range) < REREADS_MAX).collect();
    match again.is_empty() {
        true => Ok(Judged::Final(counts, completeness)),
        false => Ok(Judged::ReadAgain(again)),
    }
}

/// Has `ranges` read again. Gives the shards they belong to, but for those that another committer set
/// back: somebody may be reading them already.
async fn set_back(books: &Books, plan: &Plan, ranges: &[u32]) -> Result<Vec<u32>> {
    let mut shards = Vec::new();
    for shard in &plan.shards {
        let of_shard = shard.ranges.iter().map(|range| range.id);
        let of_shard: Vec<u32> = of_shard.filter(|range| ranges.contains(range)).collect();
        if of_shard.is_empty() {
            continue;
        }
        let path = books.layout.checkpoint(&plan.run_id, shard.shard);
        let Some((mut checkpoint, tag)) = books.read::<Checkpoint>(&path).await? else { continue };
        let rereads = |range: &u32| checkpoint.range(*range).map_or(0, |found| found.rereads);
        let of_shard: Vec<u32> =
            of_shard.into_iter().filter(|range| rereads(range) < REREADS_MAX).collect();
        if !checkpoint.is_done || of_shard.is_empty() {
            continue;
        }
        of_shard.iter().for_each(|range| checkpoint.set_back(*range));
        checkpoint.updated_at = books.now();
        match store::replace(books.store.as_ref(), &path, &checkpoint, &tag).await {
            Err(err) if err.kind() == Kind::Conflict => {}
            replaced => {
                replaced?;
                shards.push(shard.shard);
            }
        }
    }
    Ok(shards)
}

fn out_of_time() -> Error {
    Error::new(Kind::Unavailable { retry_after: None }, "commit a run")
        .because("the service did not count in the time there was")
        .advise("it goes on by itself; a larger EASM_SLICE_SECONDS gives it more time")
}

fn parts(checkpoints: &Checkpoints) -> impl Iterator<Item = &FileEntry> {
    let ranges = checkpoints.values().flat_map(|checkpoint| &checkpoint.ranges);
    ranges.flat_map(|range| &range.parts)
}

fn progress(checkpoints: &Checkpoints, range: u32) -> Option<&RangeProgress> {
    checkpoints.values().find_map(|checkpoint| checkpoint.range(range))
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

/// Numbers of the ranges of which another number of assets came than the service counts now. Where there
/// are many, kinds that agree are not asked about range by range: that would take longer than there is
/// time. (Asked range by range, fewer differences make up for each other.)
async fn disagreeing(world: &World, plan: &Plan, checkpoints: &Checkpoints) -> Result<Vec<u32>> {
    let mut of_kinds: BTreeMap<KindCut, Vec<&Range>> = BTreeMap::new();
    for range in plan.ranges() {
        of_kinds.entry(range.kind).or_default().push(range);
    }
    let exported =
        |range: &Range| progress(checkpoints, range.id).map_or(0, RangeProgress::exported);
    let is_long = plan.ranges().count() > RECOUNTS_MAX;
    let mut suspects = Vec::new();
    for (kind, ranges) in of_kinds {
        // With a limit, what a kind is to give is said range by range.
        let agrees = is_long && !plan.is_limited() && {
            let whole = query(&plan.request, kind, &Within::default());
            let n_exported: u64 = ranges.iter().map(|range| exported(range)).sum();
            world.source.count(&whole).await? == n_exported
        };
        suspects.extend(ranges.into_iter().filter(|_| !agrees));
    }
    let recounts = suspects.into_iter().map(|range| {
        let recount = async move {
            let now = world.source.count(&query_of(&plan.request, range)).await?;
            let wanted = now.min(range.quota.unwrap_or(u64::MAX));
            let exported = progress(checkpoints, range.id).map_or(0, RangeProgress::exported);
            Ok::<_, Error>((exported != wanted).then_some(range.id))
        };
        recount.boxed()
    });
    let recounts = stream::iter(recounts.collect::<Vec<_>>());
    let recounts: Vec<_> = recounts.buffered(COUNTS_AT_ONCE).try_collect().await?;
    Ok(recounts.into_iter().flatten().collect())
}
