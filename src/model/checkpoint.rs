//! How far a shard has come.

use serde::{Deserialize, Serialize};

use super::manifest::FileEntry;
use super::run::RunId;

/// How far one range has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
}

impl RangeProgress {
    /// Unique assets in the parts that count.
    pub fn exported(&self) -> u64 {
        self.parts.iter().map(|part| part.records).sum()
    }
}

/// `checkpoints/{shard}.json`: the parts of a shard that count.
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
    /// The ranges that were begun, in the order they were begun.
    pub ranges: Vec<RangeProgress>,
}

impl Checkpoint {
    /// Unique assets in the parts that count.
    pub fn exported(&self) -> u64 {
        self.ranges.iter().map(RangeProgress::exported).sum()
    }

    /// How far the range number `range` has come, if it was begun.
    pub fn range(&self, range: u32) -> Option<&RangeProgress> {
        self.ranges.iter().find(|progress| progress.range == range)
    }

    /// Forgets what came of the range number `range`, so that it is read again from its start. Its
    /// parts stay in the store until a manifest exists that does not list them.
    pub fn set_back(&mut self, range: u32) {
        self.ranges.retain(|progress| progress.range != range);
    }
}
