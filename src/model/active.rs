//! Which runs are in work, and which run an idempotency key stands for.

use serde::{Deserialize, Serialize};

use super::request::Request;
use super::run::{RunId, Trigger};
use super::target::Inventory;
use crate::clock::Timestamp;

/// `active/{requestHash}.json`: the run in work for a request. It says enough to make the run's
/// `run.json`, since whoever wrote it may have died before that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Active {
    /// Version of this document.
    pub schema_version: u32,
    /// Id of the run.
    pub run_id: RunId,
    /// What started it.
    pub trigger: Trigger,
    /// The scheduled occurrence it belongs to, for a timer run.
    pub slot: Option<Timestamp>,
    /// When it was opened.
    pub started_at: Timestamp,
    /// What it is asked for.
    pub request: Request,
    /// Whether `latest.json` may name it.
    pub publishes: bool,
    /// The workspace whose assets it exports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<Inventory>,
    /// How often it was resumed. More than its `run.json` says: whoever resumes it is about to say so
    /// there, or died before that.
    #[serde(default)]
    pub resumes: u32,
}

/// `runs/{runId}/cancel.json`: somebody asked to end the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cancel {
    /// Version of this document.
    pub schema_version: u32,
    /// When.
    pub requested_at: Timestamp,
}

/// `_keys/{hash}.json`: the run that an idempotency key stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Key {
    /// Version of this document.
    pub schema_version: u32,
    /// Name of the target.
    pub target: String,
    /// Id of the run, which may not be opened yet.
    pub run_id: RunId,
    /// SHA-256 of the body as it was sent.
    pub body_sha256: String,
    /// When the key was first used.
    pub used_at: Timestamp,
}
