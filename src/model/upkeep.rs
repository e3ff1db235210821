//! What maintenance notes between two of its looks.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// `schedule.json`: the schedule, and since when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleNote {
    /// Version of this document.
    pub schema_version: u32,
    /// The schedule as it was written.
    pub schedule: String,
    /// When maintenance first saw it.
    pub since: Timestamp,
    /// Occurrences before this one are dealt with: they have a run, or are noted as missed.
    pub watched_until: Timestamp,
    /// The last occurrences that nobody exported and nobody will, oldest first.
    #[serde(default)]
    pub missed: Vec<Timestamp>,
}

/// `upkeep.json` of a target and `_upkeep.json` of the store: when it was last looked for what may go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpkeepNote {
    /// Version of this document.
    pub schema_version: u32,
    /// When the last look ended.
    pub looked_at: Timestamp,
    /// Days that complete runs were kept then; 0: for ever.
    #[serde(default)]
    pub retention_days: u32,
    /// Whether the look ended at its limits, so that the next one is due at once.
    #[serde(default)]
    pub goes_on: bool,
    /// For idempotency keys: where the next look begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Runs that were complete by then have no parts left that their manifest does not list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strays_until: Option<Timestamp>,
}
