//! Carries a shard: claim, then range after range into parts, with a checkpoint behind every part.
//!
//! `claim -> page -> ... -> part durable -> checkpoint counts it -> ... -> range done -> ... -> shard done`
//!
//! Starting, resuming and reading again are the same path: it goes on where the checkpoint says.
//!
//! Start reading at [`shard`].

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, warn};

use super::books::Books;
use super::claim::{Claim, Claimed};
use super::part::OpenPart;
use super::plan::query_of;
use super::range::{self, Ending, Reading, Records, Sink};
use super::slice::Slice;
use super::{Job, World};
use crate::error::{Error, Kind, Result};
use crate::model::manifest::FileEntry;
use crate::model::plan::{Plan, Range, Shard};
use crate::model::run::RunDocument;

/// Fruitless attempts of a shard that follow one another at once. Behind them it is put off, so that
/// a cursor that never works is not asked for all the time.
const ATTEMPTS_AT_ONCE: u32 = 2;

/// How long a part is filled before it is closed, however little came: what is not saved for long looks as
/// if nobody worked on it.
const PART_TIME_MAX: Duration = Duration::from_secs(5 * 60);

/// How far a shard was carried.
pub(super) struct Carried {
    pub ending: CarryEnding,
    /// Whether it got further than ever before.
    pub got_further: bool,
}

/// Why carrying a shard ended.
pub(super) enum CarryEnding {
    /// All its ranges are done, now or before.
    Done,
    /// The slice was over, and what was read is saved.
    SliceOver,
    /// It has to wait, and what was read is saved.
    PutOff(Error),
}

/// Carries `shard` until it is done, the slice is over, or it has to wait.
///
/// # Errors
/// [`Kind::Conflict`] if the claim is lost or the run ended, what ends the run, and what the store
/// failed with.
pub(super) async fn shard(
    world: &World,
    job: &Job,
    books: &Books,
    run: &RunDocument,
    plan: &Plan,
    shard: &Shard,
    slice: &Slice,
) -> Result<Carried> {
    let mut claim = match Claim::take(books, run, plan, shard).await? {
        Claimed::Ours(claim) => claim,
        Claimed::Done => return Ok(Carried { ending: CarryEnding::Done, got_further: false }),
    };
    let ending = match ranges(world, job, books, run, plan, shard, slice, &mut claim).await {
        // The store does not answer as it should. That is waited out like a service that does not.
        Err(err) if err.kind().is_retryable() => {
            let taken_back = claim.take_back(false).await;
            taken_back.unwrap_or_else(|err| debug!("Could not note that a shard waits: {err}"));
            CarryEnding::PutOff(err)
        }
        ended => ended?,
    };
    Ok(Carried { ending, got_further: claim.got_further() })
}

/// Reads the ranges of `shard` that are not done into parts, under `claim`.
#[expect(clippy::too_many_arguments, reason = "all of a step's world, handed on")]
async fn ranges(
    world: &World,
    job: &Job,
    books: &Books,
    run: &RunDocument,
    plan: &Plan,
    shard: &Shard,
    slice: &Slice,
    claim: &mut Claim<'_>,
) -> Result<CarryEnding> {
    let is_done = |range: &&Range| {
        claim.checkpoint().range(range.id).is_some_and(|progress| progress.is_done)
    };
    let mut left: VecDeque<&Range> = shard.ranges.iter().filter(|range| !is_done(range)).collect();
    while let Some(range) = left.front().copied() {
        let mut reading = claim.reading(range.id);
        let query = query_of(&plan.request, range);
        let mut parts = Parts { world, job, books, plan, claim, range, open: None };
        let (source, room) = (world.source.as_ref(), &world.room);
        let ending =
            range::read(source, room, &query, range, &mut reading, &mut parts, slice).await?;
        match ending {
            Ending::Done => {
                let file = parts.finish().await?;
                claim.range_done(range.id, file, &reading, left.len() == 1).await?;
                left.pop_front();
            }
            Ending::SliceOver => {
                parts.save(&reading).await?;
                if claim.got_further() {
                    return Ok(CarryEnding::SliceOver);
                }
                if slice.is_stopped() {
                    // It was not let work for long enough to count.
                    claim.take_back(false).await?;
                    return Ok(CarryEnding::SliceOver);
                }
                // What is read again does not get further for some time, but it goes on. When nothing
                // came at all, the run waits, and the next step is smaller.
                let has_counted = claim.has_counted();
                claim.take_back(!has_counted).await?;
                return Ok(match has_counted {
                    true => CarryEnding::SliceOver,
                    false => CarryEnding::PutOff(out_of_time()),
                });
            }
            Ending::Failed(err) if leads_nowhere(&err, &reading) => {
                drop(parts);
                warn!(run.id = %run.run_id, "Range {} starts again: {err}", range.id);
                if claim.start_again(range.id, shard).await? > ATTEMPTS_AT_ONCE {
                    claim.take_back(false).await?;
                    return Ok(CarryEnding::PutOff(err));
                }
            }
            Ending::Failed(err) if err.kind().is_retryable() => {
                parts.save(&reading).await?;
                claim.take_back(false).await?;
                return Ok(CarryEnding::PutOff(err));
            }
            Ending::Failed(err) => return Err(err),
        }
    }
    Ok(CarryEnding::Done)
}

/// Whether `err` says that going on from where `reading` is is of no use.
fn leads_nowhere(err: &Error, reading: &Reading) -> bool {
    match err.kind() {
        Kind::Endless => true,
        // Without a cursor it is the request that is refused.
        Kind::BadRequest | Kind::NotFound => reading.cursor.is_some(),
        _ => false,
    }
}

fn out_of_time() -> Error {
    Error::new(Kind::Unavailable { retry_after: None }, "list assets")
        .because("no part could be filled in the time there was")
        .advise(
            "it goes on by itself in smaller steps; a larger EASM_SLICE_SECONDS gives it more time",
        )
}

/// The parts of one range.
struct Parts<'a, 'b> {
    world: &'a World,
    job: &'a Job,
    books: &'a Books,
    plan: &'a Plan,
    claim: &'a mut Claim<'b>,
    range: &'a Range,
    /// The part that is filled, and since when.
    open: Option<(OpenPart, Instant)>,
}

impl Parts<'_, '_> {
    async fn begin(&mut self) -> Result<OpenPart> {
        let Self { books, plan, claim, range, .. } = self;
        let Plan { run_id, request, .. } = plan;
        let path = books.layout.part(run_id, request, range.kind, claim.next_part());
        let (store, compression) = (books.store.as_ref(), request.compression);
        OpenPart::begin(store, path, range.kind.as_str(), compression).await
    }

    /// Makes the part that is open durable, if one is. Only then may a checkpoint count it: a crash
    /// between the two costs one repeated part, never a lost or doubled one.
    async fn finish(&mut self) -> Result<Option<FileEntry>> {
        let Some((part, _)) = self.open.take() else { return Ok(None) };
        let file = part.finish().await?;
        debug!(
            run.id = %self.plan.run_id,
            part_bytes = file.bytes,
            "Finished part {} with {} assets",
            file.path,
            file.records
        );
        Ok(Some(file))
    }

    /// Has the checkpoint count what is read, if anything is.
    async fn save(&mut self, reading: &Reading) -> Result<()> {
        match self.finish().await? {
            Some(file) => self.claim.count(self.range.id, Some(file), reading).await,
            None => Ok(()),
        }
    }
}

impl Sink for Parts<'_, '_> {
    fn page_size(&self) -> u32 {
        self.claim.page_size(self.job.page_size)
    }

    async fn add(&mut self, records: Records, reading: &Reading) -> Result<()> {
        let n_records = records.spans.len() as u64;
        let (part, begun) = match self.open.take() {
            Some(open) => open,
            None => (self.begin().await?, Instant::now()),
        };
        let part = part.add(records).await?;
        self.world.observer.took(n_records);
        let is_full = part.plain_bytes() >= self.claim.part_bytes_max(self.job.part_bytes_max)
            || begun.elapsed() >= PART_TIME_MAX;
        self.open = Some((part, begun));
        // Without a cursor the range is at its end, and whoever ends it counts the part: a checkpoint
        // that counts parts of a range but has no cursor would have it read from its start.
        match is_full && reading.cursor.is_some() {
            true => self.save(reading).await,
            false => Ok(()),
        }
    }
}
