//! Carries shards: claim, then range after range into parts, with a checkpoint behind every part.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::task::JoinSet;
use tracing::debug;

use super::books::Books;
use super::part::OpenPart;
use super::plan::query_of;
use super::range::{self, Records, Sink};
use super::{Job, World};
use crate::error::{Error, Kind, Result};
use crate::model::SCHEMA_VERSION;
use crate::model::checkpoint::{Checkpoint, RangeProgress};
use crate::model::layout::PartName;
use crate::model::plan::{Plan, Range, Shard};
use crate::store::{self, Tag};

/// Checkpoints of all shards, by number.
pub(super) type Checkpoints = BTreeMap<u32, Checkpoint>;

/// Carries every shard of `plan` to its end, side by side. The ranges `set_back` are forgotten first
/// and read again. The first failure ends them all.
///
/// # Errors
/// What the first shard to fail failed with.
pub(super) async fn all(
    world: &World,
    job: &Arc<Job>,
    plan: &Arc<Plan>,
    set_back: Vec<u32>,
    books: &mut Books,
) -> Result<Checkpoints> {
    let set_back = Arc::new(set_back);
    let mut shards = JoinSet::new();
    for n_shard in 0..plan.shards.len() {
        let (world, job, plan) = (world.clone(), Arc::clone(job), Arc::clone(plan));
        let set_back = Arc::clone(&set_back);
        shards.spawn(
            async move { carry(&world, &job, &plan, &plan.shards[n_shard], &set_back).await },
        );
    }
    let mut checkpoints = Checkpoints::new();
    while let Some(ended) = shards.join_next().await {
        let ended = ended.unwrap_or_else(|err| {
            Err(Error::new(Kind::Internal, "carry a shard")
                .because(err.to_string())
                .advise("please report this"))
        });
        let noted = match ended {
            Ok(checkpoint) => {
                checkpoints.insert(checkpoint.shard, checkpoint);
                books.progressed(world, &checkpoints).await
            }
            Err(err) => Err(err),
        };
        if let Err(err) = noted {
            // Waited for, so that none of them saves anything any more when the run ends.
            shards.shutdown().await;
            return Err(err);
        }
    }
    Ok(checkpoints)
}

/// Claims `shard` and reads those of its ranges that are not done.
async fn carry(
    world: &World,
    job: &Job,
    plan: &Plan,
    shard: &Shard,
    set_back: &[u32],
) -> Result<Checkpoint> {
    let mut claim = Claim::take(world, job, plan, shard, set_back).await?;
    for range in &shard.ranges {
        if claim.checkpoint.range(range.id).is_some_and(|progress| progress.is_done) {
            continue;
        }
        let mut parts = Parts { world, job, claim: &mut claim, range, open: None };
        let query = query_of(&plan.request, range);
        let source = world.source.as_ref();
        let tally = range::read(source, &query, job.page_size, range, &mut parts).await?;
        parts.finish().await?;
        claim.range_done(world, range, tally.duplicates).await?;
    }
    Ok(claim.checkpoint)
}

/// The right to add parts to a shard, as long as nobody claims it anew.
struct Claim {
    checkpoint: Checkpoint,
    tag: Tag,
    path: String,
    n_parts: u32,
}

impl Claim {
    /// Creates the shard's checkpoint, or takes it over with the next epoch.
    async fn take(
        world: &World,
        job: &Job,
        plan: &Plan,
        shard: &Shard,
        set_back: &[u32],
    ) -> Result<Self> {
        let path = job.layout().checkpoint(&plan.run_id, shard.shard);
        let store = world.store.as_ref();
        let (checkpoint, tag) = match store::read::<Checkpoint>(store, &path).await? {
            None => {
                let checkpoint = Checkpoint {
                    schema_version: SCHEMA_VERSION,
                    run_id: plan.run_id.clone(),
                    shard: shard.shard,
                    epoch: 1,
                    ranges: Vec::new(),
                };
                let tag = store::create(store, &path, &checkpoint).await?;
                (checkpoint, tag)
            }
            Some((mut checkpoint, tag)) => {
                checkpoint.epoch += 1;
                // A range that was begun but not done starts again: its cursor is not kept.
                let half: Vec<u32> = checkpoint
                    .ranges
                    .iter()
                    .filter(|progress| !progress.is_done)
                    .map(|progress| progress.range)
                    .collect();
                for range in half.iter().chain(set_back) {
                    checkpoint.set_back(*range);
                }
                let tag = store::replace(store, &path, &checkpoint, &tag).await?;
                (checkpoint, tag)
            }
        };
        Ok(Self { checkpoint, tag, path, n_parts: 0 })
    }

    fn next_part(&mut self) -> PartName {
        let name = PartName {
            shard: self.checkpoint.shard,
            epoch: self.checkpoint.epoch,
            number: self.n_parts,
        };
        self.n_parts += 1;
        name
    }

    fn progress(&mut self, range: u32) -> &mut RangeProgress {
        let ranges = &mut self.checkpoint.ranges;
        let at = ranges.iter().position(|progress| progress.range == range).unwrap_or_else(|| {
            ranges.push(RangeProgress {
                range,
                parts: Vec::new(),
                duplicates_dropped: 0,
                is_done: false,
            });
            ranges.len() - 1
        });
        &mut ranges[at]
    }

    async fn range_done(&mut self, world: &World, range: &Range, duplicates: u64) -> Result<()> {
        let progress = self.progress(range.id);
        progress.duplicates_dropped = duplicates;
        progress.is_done = true;
        self.save(world).await
    }

    async fn save(&mut self, world: &World) -> Result<()> {
        let store = world.store.as_ref();
        self.tag = store::replace(store, &self.path, &self.checkpoint, &self.tag).await?;
        Ok(())
    }
}

/// The parts of one range.
struct Parts<'a> {
    world: &'a World,
    job: &'a Job,
    claim: &'a mut Claim,
    range: &'a Range,
    open: Option<OpenPart>,
}

impl Parts<'_> {
    async fn begin(&mut self) -> Result<OpenPart> {
        let Self { world, job, claim, range, open: _ } = self;
        let run_id = claim.checkpoint.run_id.clone();
        let path = job.layout().part(&run_id, &job.request, range.kind, claim.next_part());
        let compression = job.request.compression;
        OpenPart::begin(world.store.as_ref(), path, range.kind.as_str(), compression).await
    }

    /// Finishes the part that is open, if one is, and has the next checkpoint count it.
    async fn finish(&mut self) -> Result<()> {
        let Some(part) = self.open.take() else { return Ok(()) };
        let file = part.finish().await?;
        debug!(
            run.id = %self.claim.checkpoint.run_id,
            part_bytes = file.bytes,
            "Finished part {} with {} assets",
            file.path,
            file.records
        );
        // Only now may a checkpoint count the part. A crash before it is saved costs one repeated
        // part, never a lost or doubled one.
        self.claim.progress(self.range.id).parts.push(file);
        Ok(())
    }
}

impl Sink for Parts<'_> {
    async fn add(&mut self, records: Records) -> Result<()> {
        let n_records = records.spans.len() as u64;
        let part = match self.open.take() {
            Some(part) => part,
            None => self.begin().await?,
        };
        let part = part.add(records).await?;
        self.world.observer.took(n_records);
        let is_full = part.plain_bytes() >= self.job.part_bytes_max;
        self.open = Some(part);
        if !is_full {
            return Ok(());
        }
        self.finish().await?;
        self.claim.save(self.world).await
    }
}
