//! Where things lie under the store's URL (contract, section 6).

use super::asset::KindCut;
use super::hash::sha256_hex;
use super::request::{Dataset, Request};
use super::run::RunId;

/// Paths of one target's files.
#[derive(Debug, Clone)]
pub struct Layout {
    target: String,
}

impl Layout {
    /// The layout of `target`, a name that passed [`super::target::is_target_name`].
    pub fn new(target: &str) -> Self {
        Self { target: target.to_owned() }
    }

    /// `{t}/latest.json`
    pub fn latest(&self) -> String {
        format!("{}/latest.json", self.target)
    }

    /// `{t}/history.json`
    pub fn history(&self) -> String {
        format!("{}/history.json", self.target)
    }

    /// `{t}/active/`, below which a document for each request in work lies.
    pub fn active_all(&self) -> String {
        format!("{}/active/", self.target)
    }

    /// `{t}/active/{requestHash}.json`
    pub fn active(&self, request: &Request) -> String {
        format!("{}{}.json", self.active_all(), request.hash())
    }

    /// `{t}/runs/{runId}/run.json`
    pub fn run(&self, id: &RunId) -> String {
        format!("{}/runs/{id}/run.json", self.target)
    }

    /// `{t}/runs/{runId}/plan.json`
    pub fn plan(&self, id: &RunId) -> String {
        format!("{}/runs/{id}/plan.json", self.target)
    }

    /// `{t}/runs/{runId}/plan.partial.json`: how far a long plan has come.
    pub fn partial_plan(&self, id: &RunId) -> String {
        format!("{}/runs/{id}/plan.partial.json", self.target)
    }

    /// `{t}/runs/{runId}/cancel.json`
    pub fn cancel(&self, id: &RunId) -> String {
        format!("{}/runs/{id}/cancel.json", self.target)
    }

    /// `{t}/runs/{runId}/checkpoints/{shard}.json`
    pub fn checkpoint(&self, id: &RunId, shard: u32) -> String {
        format!("{}/runs/{id}/checkpoints/{shard}.json", self.target)
    }

    /// `{t}/runs/{runId}/manifest.json`
    pub fn manifest(&self, id: &RunId) -> String {
        format!("{}/runs/{id}/manifest.json", self.target)
    }

    /// `{t}/assets/date={date}/run={runId}/`, below which a run's parts lie.
    pub fn parts(&self, id: &RunId, dataset: Dataset) -> String {
        format!("{}/{}/date={}/run={id}/", self.target, dataset.as_str(), id.date())
    }

    /// `{parts}kind={kind}/part-{shard}-{epoch}-{number}.{ending}`
    pub fn part(&self, id: &RunId, request: &Request, kind: KindCut, name: PartName) -> String {
        let PartName { shard, epoch, number } = name;
        format!(
            "{}kind={}/part-{shard}-{epoch}-{number:05}.{}{}",
            self.parts(id, Dataset::Assets),
            kind.as_str(),
            request.format.ending(),
            request.compression.ending()
        )
    }
}

/// `_keys/{sha256(Idempotency-Key)}.json`
pub fn key(idempotency_key: &str) -> String {
    format!("_keys/{}.json", sha256_hex(idempotency_key.as_bytes()))
}

/// What makes a part's name its own within a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartName {
    /// Number of the shard.
    pub shard: u32,
    /// Number of the claim that wrote it.
    pub epoch: u32,
    /// Number of the part within the claim.
    pub number: u32,
}
