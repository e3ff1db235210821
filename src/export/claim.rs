//! The right to add parts to a shard, and the checkpoint that it is written in.
//!
//! # Invariants
//! - A checkpoint is only replaced under the tag that was read: a new claim ends the one before.
//! - What is saved counts no part that is not durable, and has the cursor behind those that it counts.

use std::time::Duration;

use super::books::Books;
use super::range::Reading;
use crate::clock::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::model::SCHEMA_VERSION;
use crate::model::checkpoint::{Bookmark, Checkpoint, Futile};
use crate::model::layout::PartName;
use crate::model::manifest::FileEntry;
use crate::model::plan::{Plan, Shard};
use crate::model::run::RunDocument;
use crate::store::{self, Tag};

/// How long a cursor is used. How long the service keeps one is not known (API reference, section 5);
/// no pause is as long, so an older one was left lying about.
const CURSOR_LIFE: Duration = Duration::from_secs(6 * 60 * 60);

/// How often the next step is halved at most: a page of 100 becomes one of 1.
const SHRINKS_MAX: u32 = 7;

/// Fewest uncompressed bytes after which a part is closed, however often nothing came of larger ones.
const PART_BYTES_MIN: u64 = 32 << 10;

/// What became of a try to claim a shard.
pub(super) enum Claimed<'a> {
    /// It is ours until somebody claims it anew.
    Ours(Claim<'a>),
    /// There is nothing to do.
    Done,
}

/// A claim that counts as long as nobody claims the shard anew.
pub(super) struct Claim<'a> {
    books: &'a Books,
    path: String,
    checkpoint: Checkpoint,
    tag: Tag,
    n_parts: u32,
    /// Whether it got further than any claim before. Until then it counts as an attempt for nothing.
    got_further: bool,
    /// Whether a part or the end of a range was counted under it.
    has_counted: bool,
}

impl<'a> Claim<'a> {
    /// Claims `shard` of `run`: creates its checkpoint, or takes it over with the next epoch.
    ///
    /// # Errors
    /// [`Kind::Conflict`] if somebody else claims it at this moment, [`Kind::ShardStuck`] if it was
    /// taken up often enough for nothing, and what the store failed with.
    pub async fn take(
        books: &'a Books,
        run: &RunDocument,
        plan: &Plan,
        shard: &Shard,
    ) -> Result<Claimed<'a>> {
        let path = books.layout.checkpoint(&plan.run_id, shard.shard);
        let (store, now) = (books.store.as_ref(), books.now());
        let (mut checkpoint, tag) = match books.read::<Checkpoint>(&path).await? {
            Some((checkpoint, _)) if checkpoint.is_done => return Ok(Claimed::Done),
            Some((checkpoint, tag)) => (checkpoint, Some(tag)),
            None => (first(plan, shard, now), None),
        };
        let futile = &mut checkpoint.futile;
        if futile.resumes != run.resumes {
            *futile =
                Futile { resumes: run.resumes, furthest: futile.furthest, ..Futile::default() };
        }
        if futile.is_enough(now) {
            return Err(stuck(shard, futile));
        }
        futile.attempt(now);
        futile.shrinks = (futile.shrinks + 1).min(SHRINKS_MAX + 1);
        checkpoint.epoch += 1;
        checkpoint.updated_at = now;
        let tag = match tag {
            Some(tag) => store::replace(store, &path, &checkpoint, &tag).await?,
            None => store::create(store, &path, &checkpoint).await?,
        };
        let (n_parts, got_further, has_counted) = (0, false, false);
        let claim = Self { books, path, checkpoint, tag, n_parts, got_further, has_counted };
        Ok(Claimed::Ours(claim))
    }

    /// The checkpoint as it is now.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Whether it got further than any claim before.
    pub fn got_further(&self) -> bool {
        self.got_further
    }

    /// Whether a part or the end of a range was counted under it.
    pub fn has_counted(&self) -> bool {
        self.has_counted
    }

    /// The name of the next part.
    pub fn next_part(&mut self) -> PartName {
        let Checkpoint { shard, epoch, .. } = self.checkpoint;
        let name = PartName { shard, epoch, number: self.n_parts };
        self.n_parts += 1;
        name
    }

    /// `page_size`, halved for every take-up before this one that came to nothing.
    pub fn page_size(&self, page_size: u32) -> u32 {
        (page_size >> self.shrinks()).max(1)
    }

    /// `part_bytes_max`, halved likewise.
    pub fn part_bytes_max(&self, part_bytes_max: u64) -> u64 {
        (part_bytes_max >> self.shrinks()).max(PART_BYTES_MIN.min(part_bytes_max))
    }

    fn shrinks(&self) -> u32 {
        // The claim itself counts until it gets further.
        self.checkpoint.futile.shrinks.saturating_sub(1)
    }

    /// Where reading `range` goes on. A range whose cursor is too old starts again.
    pub fn reading(&mut self, range: u32) -> Reading {
        let now = self.books.now();
        let progress = self.checkpoint.range_mut(range);
        match &progress.bookmark {
            Some(Bookmark { cursor, at, ids }) if now.since(*at) < CURSOR_LIFE => Reading {
                cursor: Some(cursor.clone()),
                ids: ids.clone(),
                taken: progress.exported(),
                duplicates: progress.duplicates_dropped,
            },
            _ => {
                self.checkpoint.start_again(range);
                Reading::default()
            }
        }
    }

    /// Counts `file`, which is durable, and saves that reading `range` goes on at `reading`.
    ///
    /// # Errors
    /// [`Kind::Conflict`] if the shard was claimed anew or the run ended, and what the store failed
    /// with. Then nothing is known to be saved.
    pub async fn count(
        &mut self,
        range: u32,
        file: Option<FileEntry>,
        reading: &Reading,
    ) -> Result<()> {
        let at = self.books.now();
        let bookmark =
            reading.cursor.clone().map(|cursor| Bookmark { cursor, at, ids: reading.ids.clone() });
        let progress = self.checkpoint.range_mut(range);
        progress.parts.extend(file);
        progress.duplicates_dropped = reading.duplicates;
        progress.bookmark = bookmark;
        self.save_further().await
    }

    /// Counts `file`, if there is one, and saves that `range` is read to its end; `is_last`: and with
    /// it the shard.
    ///
    /// # Errors
    /// As [`Claim::count`].
    pub async fn range_done(
        &mut self,
        range: u32,
        file: Option<FileEntry>,
        reading: &Reading,
        is_last: bool,
    ) -> Result<()> {
        let progress = self.checkpoint.range_mut(range);
        progress.parts.extend(file);
        progress.duplicates_dropped = reading.duplicates;
        progress.bookmark = None;
        progress.is_done = true;
        self.checkpoint.is_done = is_last;
        self.save_further().await
    }

    /// Saves that `range` starts again, since its cursor leads nowhere. Gives how often that or taking
    /// up came to nothing.
    ///
    /// # Errors
    /// [`Kind::ShardStuck`] if that was often enough, else as [`Claim::count`].
    pub async fn start_again(&mut self, range: u32, shard: &Shard) -> Result<u32> {
        let now = self.books.now();
        self.checkpoint.start_again(range);
        let futile = &mut self.checkpoint.futile;
        futile.attempt(now);
        futile.shrinks = (futile.shrinks + 1).min(SHRINKS_MAX + 1);
        self.save().await?;
        let futile = &self.checkpoint.futile;
        if futile.is_enough(now) { Err(stuck(shard, futile)) } else { Ok(futile.attempts) }
    }

    /// Saves that the take-up does not count as an attempt for nothing: it ended in being put off, or
    /// reads again what was read before. `shrinks`: it was too much at once, so the next step is smaller
    /// all the same.
    ///
    /// # Errors
    /// As [`Claim::count`].
    pub async fn take_back(&mut self, shrinks: bool) -> Result<()> {
        if self.got_further {
            return Ok(());
        }
        let futile = &mut self.checkpoint.futile;
        futile.attempts = futile.attempts.saturating_sub(1);
        futile.shrinks = futile.shrinks.saturating_sub(u32::from(!shrinks));
        futile.since = futile.since.filter(|_| futile.attempts > 0);
        self.save().await
    }

    async fn save_further(&mut self) -> Result<()> {
        self.has_counted = true;
        let reach = self.checkpoint.reach();
        let futile = &mut self.checkpoint.futile;
        if reach > futile.furthest {
            let resumes = futile.resumes;
            *futile = Futile { furthest: reach, resumes, ..Futile::default() };
            // A range that starts again and again saves parts too, and gets nowhere.
            self.checkpoint.progressed_at = Some(self.books.now());
            self.got_further = true;
        }
        self.save().await
    }

    async fn save(&mut self) -> Result<()> {
        let (books, id) = (self.books, &self.checkpoint.run_id);
        self.checkpoint.updated_at = books.now();
        let store = books.store.as_ref();
        let saved = store::replace(store, &self.path, &self.checkpoint, &self.tag);
        // Whoever ended the run meanwhile need not wait for the end of the slice.
        let (tag, run) = futures::future::try_join(saved, books.run(id)).await?;
        self.tag = tag;
        match run {
            Some(run) if !run.status.is_ended() => Ok(()),
            _ => Err(Error::new(Kind::Conflict, "save a checkpoint")
                .because("the run ended meanwhile")
                .with("run", id)),
        }
    }
}

/// The checkpoint that the first claim of `shard` writes, but for what every claim does.
fn first(plan: &Plan, shard: &Shard, now: Timestamp) -> Checkpoint {
    Checkpoint {
        schema_version: SCHEMA_VERSION,
        run_id: plan.run_id.clone(),
        shard: shard.shard,
        epoch: 0,
        is_done: false,
        updated_at: now,
        progressed_at: None,
        futile: Futile::default(),
        ranges: Vec::new(),
    }
}

fn stuck(shard: &Shard, futile: &Futile) -> Error {
    let Futile { attempts, furthest, .. } = futile;
    Error::new(Kind::ShardStuck, "carry a shard")
        .because(format!(
            "it was taken up or started again {attempts} times without getting past {furthest} assets"
        ))
        .with("shard", shard.shard)
        .advise("look at the lines before for the cause, then resume the run")
}
