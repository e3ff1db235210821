//! How far a shard has come.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ids::Ids;
use super::manifest::FileEntry;
use super::run::RunId;
use crate::clock::Timestamp;

/// Where reading a range goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bookmark {
    /// The cursor behind the last part that counts.
    pub cursor: String,
    /// When it came.
    pub at: Timestamp,
    /// Ids of the assets up to there.
    pub ids: Ids,
}

/// How far one range has come.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RangeProgress {
    /// Number of the range.
    pub range: u32,
    /// The parts that count, as the manifest lists them, in the order they were written.
    pub parts: Vec<FileEntry>,
    /// Assets that the service sent more than once.
    pub duplicates_dropped: u64,
    /// Whether the range was read to its end.
    pub is_done: bool,
    /// How often it was read again, since what came and what the service counted disagreed.
    #[serde(default)]
    pub rereads: u32,
    /// Where to go on, while it is not done. Absent: at its start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bookmark: Option<Bookmark>,
}

impl RangeProgress {
    /// Unique assets in the parts that count.
    pub fn exported(&self) -> u64 {
        self.parts.iter().map(|part| part.records).sum()
    }

    /// Forgets what came, so that the range is read again from its start. Its parts stay in the store
    /// until a manifest exists that does not list them: another committer may just have listed them.
    fn start_again(&mut self) {
        let Self { range, rereads, .. } = *self;
        *self = Self { range, rereads, ..Self::default() };
    }
}

/// How often a shard was taken up, or a range of it started again, without getting further than ever
/// before.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Futile {
    /// How often. A take-up that ended in being put off does not count.
    pub attempts: u32,
    /// Since when.
    pub since: Option<Timestamp>,
    /// How often it was taken up without getting further, whatever that ended in: so much smaller is
    /// the next step.
    pub shrinks: u32,
    /// The furthest it ever came, in assets and ranges.
    pub furthest: u64,
    /// The run's `resumes` when this was counted. With another one it counts for nothing.
    pub resumes: u32,
}

impl Futile {
    /// Notes an attempt at `now`.
    pub fn attempt(&mut self, now: Timestamp) {
        self.attempts += 1;
        self.since.get_or_insert(now);
    }

    /// Whether that is enough to give up: [`ATTEMPTS_MAX`] attempts over no less than [`ATTEMPTS_TIME`]
    /// (contract, section 4).
    pub fn is_enough(&self, now: Timestamp) -> bool {
        let over = self.since.map_or(Duration::ZERO, |since| now.since(since));
        self.attempts >= ATTEMPTS_MAX && over >= ATTEMPTS_TIME
    }
}

/// Futile attempts after which a shard counts as stuck.
pub const ATTEMPTS_MAX: u32 = 5;

/// The time over which they must have been made.
pub const ATTEMPTS_TIME: Duration = Duration::from_secs(15 * 60);

/// `checkpoints/{shard}.json`: the parts of a shard that count, and where to go on.
///
/// A saved checkpoint never counts a part that is not durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Checkpoint {
    /// Version of this document.
    pub schema_version: u32,
    /// Id of the run.
    pub run_id: RunId,
    /// Number of the shard.
    pub shard: u32,
    /// Number of the claim that wrote this. Part names carry it.
    pub epoch: u32,
    /// Whether all ranges of the shard are done.
    #[serde(default)]
    pub is_done: bool,
    /// When this was saved.
    pub updated_at: Timestamp,
    /// When a part or the end of a range was last counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progressed_at: Option<Timestamp>,
    /// Attempts that came to nothing.
    #[serde(default)]
    pub futile: Futile,
    /// The ranges that were begun, in the order they were begun.
    pub ranges: Vec<RangeProgress>,
}

impl Checkpoint {
    /// Unique assets in the parts that count.
    pub fn exported(&self) -> u64 {
        self.ranges.iter().map(RangeProgress::exported).sum()
    }

    /// How far it has come, in assets and ranges: to tell whether an attempt got further.
    pub fn reach(&self) -> u64 {
        let n_done = self.ranges.iter().filter(|progress| progress.is_done).count();
        self.exported() + n_done as u64
    }

    /// How far the range number `range` has come, if it was begun.
    pub fn range(&self, range: u32) -> Option<&RangeProgress> {
        self.ranges.iter().find(|progress| progress.range == range)
    }

    /// How far the range number `range` has come; it is begun now unless it was.
    pub fn range_mut(&mut self, range: u32) -> &mut RangeProgress {
        let ranges = &mut self.ranges;
        let at = ranges.iter().position(|progress| progress.range == range).unwrap_or_else(|| {
            ranges.push(RangeProgress { range, ..RangeProgress::default() });
            ranges.len() - 1
        });
        &mut ranges[at]
    }

    /// Forgets what came of the range number `range`: its cursor leads nowhere.
    pub fn start_again(&mut self, range: u32) {
        self.range_mut(range).start_again();
    }

    /// Has the range number `range` read again, since it disagrees with its count. That has a count of
    /// its own, so attempts start to be counted anew.
    pub fn set_back(&mut self, range: u32) {
        let progress = self.range_mut(range);
        progress.start_again();
        progress.rereads += 1;
        self.is_done = false;
        self.futile = Futile { resumes: self.futile.resumes, ..Futile::default() };
        self.futile.furthest = self.reach();
    }
}
