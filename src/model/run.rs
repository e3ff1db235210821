//! A run: its id and its status document.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::hash::sha256_hex;
use super::request::Request;
use super::target::Inventory;
use crate::clock::Timestamp;
use crate::secret::Said;

/// Id of a run: `20261122T060000Z-1a2b3c4d`, the start in UTC and a tail that tells runs of the
/// same second apart.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct RunId(#[schemars(regex(pattern = r"^[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}$"))] String);

impl RunId {
    /// The id of a run that starts at `at`, with a random or hashed `tail`.
    pub fn new(at: Timestamp, tail: u32) -> Self {
        Self(format!("{}-{tail:08x}", at.compact()))
    }

    /// The id of the run of `target` that belongs to `slot`. It is the same whoever opens it.
    pub fn of_slot(target: &str, slot: Timestamp) -> Self {
        let hash = sha256_hex(format!("{target}\n{}", slot.compact()).as_bytes());
        Self(format!("{}-{}", slot.compact(), &hash[..8]))
    }

    /// The time in it: its slot or its start.
    pub fn time(&self) -> Option<Timestamp> {
        Timestamp::parse_compact(self.0.split_once('-')?.0)
    }

    /// Reads an id. `None`: `text` is none.
    pub fn parse(text: &str) -> Option<Self> {
        let (at, tail) = text.split_once('-')?;
        let is_tail =
            tail.len() == 8 && tail.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let is_id = is_tail && Timestamp::parse_compact(at).is_some();
        is_id.then(|| Self(text.to_owned()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `2026-11-22`, for `date=` folders.
    pub fn date(&self) -> String {
        format!("{}-{}-{}", &self.0[0..4], &self.0[4..6], &self.0[6..8])
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What started a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Trigger {
    /// The schedule.
    Timer,
    /// A request to the HTTP function.
    Http,
    /// Somebody at a terminal.
    Cli,
}

impl Trigger {
    /// The word in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Timer => "timer",
            Self::Http => "http",
            Self::Cli => "cli",
        }
    }
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Status {
    /// Opened, and not planned yet.
    Queued,
    /// In work.
    Running,
    /// The manifest exists.
    Complete,
    /// Ended without a manifest.
    Failed,
    /// Somebody asked to end it.
    Cancelled,
    /// Its slot found a run of an equal request in work.
    Skipped,
}

impl Status {
    /// Whether nothing more comes.
    pub fn is_ended(self) -> bool {
        match self {
            Self::Queued | Self::Running => false,
            Self::Complete | Self::Failed | Self::Cancelled | Self::Skipped => true,
        }
    }

    /// The word in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Complete => "complete",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Skipped => "skipped",
        }
    }
}

/// How far a run has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// Assets the service counted when the run was planned.
    pub expected: u64,
    /// Assets in parts that count.
    pub exported: u64,
    /// Shards of the plan.
    pub shards_total: u32,
    /// Shards read to their end.
    pub shards_done: u32,
}

/// Why a run failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunError {
    /// The kind of failure, a heading of `docs/operations.md`.
    pub code: String,
    /// One sentence.
    pub message: Said,
}

/// `run.json`: the status document of a run (contract, section 6).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunDocument {
    /// Version of this document.
    pub schema_version: u32,
    /// Id of the run.
    pub run_id: RunId,
    /// Name of the target.
    pub target: String,
    /// What started it.
    pub trigger: Trigger,
    /// The scheduled occurrence it belongs to, for a timer run.
    pub slot: Option<Timestamp>,
    /// What it is asked for.
    pub request: Request,
    /// Where it stands.
    pub status: Status,
    /// When it was opened.
    pub started_at: Timestamp,
    /// When this document was last saved.
    pub updated_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// How far it has come.
    pub progress: Progress,
    /// Path of the manifest, once it exists.
    pub manifest: Option<String>,
    /// Why it failed, was cancelled or skipped.
    pub error: Option<RunError>,
    /// The workspace whose assets it exports. A target whose name is given to another one meanwhile does not
    /// go on with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<Inventory>,
    /// Whether `latest.json` may name it: it is of the target's own request, or was asked to be
    /// published.
    #[serde(default)]
    pub publishes: bool,
    /// Put off: nothing is done for the run before then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
    /// What it was put off for last, since it last got further.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<RunError>,
    /// How often in a row it was put off.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub pauses: u32,
    /// When maintenance last gave its work out again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requeued_at: Option<Timestamp>,
    /// How often maintenance did so since something was last saved.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub requeues: u32,
    /// When it was last resumed by `--resume`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resumed_at: Option<Timestamp>,
    /// How often it was resumed. Counts of futile attempts start anew with each.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub resumes: u32,
    /// When retention began to delete what belongs to it. From then on it can neither be resumed nor
    /// published, and counts as gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<Timestamp>,
}

/// Whether a count can be left out.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_id_sorts_by_time_and_gives_its_date() {
        let at = Timestamp::parse("2026-11-22T06:00:00.750Z").expect("a date");
        let id = RunId::new(at, 0x1a2b_3c4d);
        assert_eq!(id.as_str(), "20261122T060000Z-1a2b3c4d");
        assert_eq!(id.date(), "2026-11-22");
        assert_eq!(RunId::parse(id.as_str()), Some(id));
    }

    #[test]
    fn the_run_of_a_slot_has_one_id_for_each_target_and_slot() {
        let at = |text| Timestamp::parse(text).expect("a date");
        let id = RunId::of_slot("contoso", at("2026-11-22T06:00:00Z"));
        assert_eq!(id.as_str(), "20261122T060000Z-80644f4a");
        assert_eq!(id.time(), Some(at("2026-11-22T06:00:00Z")));
        assert_eq!(RunId::parse(id.as_str()), Some(id.clone()));
        assert_ne!(id, RunId::of_slot("fabrikam", at("2026-11-22T06:00:00Z")));
        assert_ne!(id, RunId::of_slot("contoso", at("2026-11-23T06:00:00Z")));
    }

    #[test]
    fn what_is_no_run_id_is_not_taken_for_one() {
        for text in [
            "",
            "20261122T060000Z",
            "20261122T060000Z-",
            "20261122T060000Z-1A2B3C4D",
            "20261122T060000Z-1a2b3c4",
            "20261322T060000Z-1a2b3c4d",
            "../20261122T060000Z-1a2b3c4d",
            "20261122T060000Z-1a2b3c4d/..",
        ] {
            assert_eq!(RunId::parse(text), None, "{text}");
        }
    }
}
