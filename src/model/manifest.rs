//! What a complete run consists of, and how complete it is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::request::{Dataset, Request};
use super::run::{RunId, Trigger};
use super::target::Workspace;
use crate::clock::Timestamp;

/// How what came compares with what the service counted (contract, section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Completeness {
    /// Unique ids equal the service's count, the same before and after.
    Exact,
    /// The inventory moved meanwhile, and at least as many came as the smaller of the two counts.
    Changed,
    /// `maxAssets` cut the export short.
    Limited,
    /// Anything else: what came and what the service counts do not agree.
    Mismatch,
}

impl Completeness {
    /// The word in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Changed => "changed",
            Self::Limited => "limited",
            Self::Mismatch => "mismatch",
        }
    }

    /// Whether `latest.json` may name a run that ended so.
    pub fn is_whole(self) -> bool {
        matches!(self, Self::Exact | Self::Changed)
    }

    /// The verdict over `exported` unique assets, when the service counted `at_start` before and
    /// `at_end` after, and `max_assets` were asked for at most.
    pub fn judge(exported: u64, at_start: u64, at_end: u64, max_assets: Option<u64>) -> Self {
        let fewest = at_start.min(at_end);
        match max_assets {
            // The limit cut something, and as much came as it allows.
            Some(max) if max < at_start && exported >= max.min(fewest) => Self::Limited,
            _ if exported == at_start && exported == at_end => Self::Exact,
            _ if at_start != at_end && exported >= fewest => Self::Changed,
            _ => Self::Mismatch,
        }
    }
}

/// Counts of one dataset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// What the service counted before.
    pub expected_at_start: u64,
    /// What the service counted after.
    pub expected_at_end: u64,
    /// Unique assets in the files.
    pub exported: u64,
    /// Assets that the service sent more than once, dropped.
    pub duplicates_dropped: u64,
    /// Unique assets in the files, by kind.
    pub by_kind: BTreeMap<String, u64>,
}

/// One data file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileEntry {
    /// Path from the store's URL.
    pub path: String,
    /// What it holds.
    pub dataset: Dataset,
    /// The kind of its assets; `other` for kinds without a name here.
    pub kind: String,
    /// Records in it.
    pub records: u64,
    /// Bytes as stored.
    pub bytes: u64,
    /// SHA-256 of the bytes as stored, lower-case hex.
    pub sha256: String,
}

/// What wrote a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tool {
    /// `easm-export`.
    pub name: String,
    /// Its version.
    pub version: String,
}

impl Tool {
    /// This program.
    pub fn this() -> Self {
        Self {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

/// `manifest.json`: the immutable list of all parts of a complete run. Its creation is the commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Version of this document.
    pub schema_version: u32,
    /// Id of the run.
    pub run_id: RunId,
    /// Name of the target.
    pub target: String,
    /// What started the run.
    pub trigger: Trigger,
    /// The scheduled occurrence it belongs to, for a timer run.
    pub slot: Option<Timestamp>,
    /// Where the assets came from.
    pub workspace: Workspace,
    /// What was asked for.
    pub request: Request,
    /// The data plane's api-version.
    pub api_version: String,
    /// When the run was opened.
    pub started_at: Timestamp,
    /// When the verdict was reached.
    pub finished_at: Timestamp,
    /// Counts by dataset.
    pub counts: BTreeMap<String, Counts>,
    /// The verdict.
    pub completeness: Completeness,
    /// Every file of the run.
    pub files: Vec<FileEntry>,
    /// What wrote this.
    pub tool: Tool,
}

/// `latest.json`: the newest complete run of the target's own request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Latest {
    /// Version of this document.
    pub schema_version: u32,
    /// Id of the run.
    pub run_id: RunId,
    /// Path of its manifest from the store's URL.
    pub manifest: String,
    /// When it was opened. `latest.json` moves only forward in this.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
    /// Its verdict.
    pub completeness: Completeness,
    /// Assets in its files.
    pub assets: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_follows_from_what_came_and_what_was_counted() {
        use Completeness::{Changed, Exact, Limited, Mismatch};
        let check = |exported, at_start, at_end, max, want| {
            assert_eq!(Completeness::judge(exported, at_start, at_end, max), want);
        };
        check(0, 0, 0, None, Exact);
        check(10, 10, 10, None, Exact);
        check(10, 10, 12, None, Changed);
        check(11, 10, 12, None, Changed);
        check(10, 12, 10, None, Changed);
        check(11, 10, 10, None, Mismatch);
        check(9, 10, 10, None, Mismatch);
        check(9, 10, 12, None, Mismatch);
        check(0, 1, 1, None, Mismatch);
        check(5, 10, 10, Some(5), Limited);
        check(4, 10, 10, Some(5), Mismatch);
        check(4, 10, 4, Some(5), Limited);
        check(10, 10, 10, Some(10), Exact);
        check(10, 10, 10, Some(99), Exact);
        check(9, 10, 10, Some(99), Mismatch);
    }
}
