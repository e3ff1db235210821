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

    /// `{t}/schedule.json`
    pub fn schedule(&self) -> String {
        format!("{}/schedule.json", self.target)
    }

    /// `{t}/upkeep.json`: when retention last looked for what may go.
    pub fn upkeep(&self) -> String {
        format!("{}/upkeep.json", self.target)
    }

    /// `{t}/runs/`, below which each run has a folder of documents.
    pub fn runs_all(&self) -> String {
        format!("{}/runs/", self.target)
    }

    /// `{t}/runs/{runId}/`
    pub fn documents(&self, id: &RunId) -> String {
        format!("{}{id}/", self.runs_all())
    }

    /// `{t}/assets/`, below which the parts of all runs lie.
    pub fn parts_all(&self, dataset: Dataset) -> String {
        format!("{}/{}/", self.target, dataset.as_str())
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
        format!("{}date={}/run={id}/", self.parts_all(dataset), id.date())
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

/// The run that the document or part at `path` belongs to. `None`: to none.
pub fn run_of(path: &str) -> Option<RunId> {
    let mut members = path.split('/').skip(1);
    match members.next()? {
        "runs" => RunId::parse(members.next()?),
        _ => {
            let (date, run) = (members.next()?, members.next()?);
            let id = RunId::parse(run.strip_prefix("run=")?)?;
            (date.strip_prefix("date=")? == id.date()).then_some(id)
        }
    }
}

/// `_keys/`, below which a document for each idempotency key lies.
pub const KEYS_ALL: &str = "_keys/";

/// `_upkeep.json`: when it was last looked for idempotency keys that are too old.
pub const KEYS_UPKEEP: &str = "_upkeep.json";

/// `_keys/{sha256(Idempotency-Key)}.json`
pub fn key(idempotency_key: &str) -> String {
    format!("{KEYS_ALL}{}.json", sha256_hex(idempotency_key.as_bytes()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_tells_which_run_it_belongs_to() {
        let id = RunId::parse("20261122T060000Z-1a2b3c4d").expect("an id");
        let layout = Layout::new("contoso");
        let part = format!("{}kind=host/part-0-1-00000.ndjson", layout.parts(&id, Dataset::Assets));
        for path in [layout.run(&id), layout.checkpoint(&id, 7), part] {
            assert_eq!(run_of(&path), Some(id.clone()), "{path}");
        }
        for path in [
            "contoso/latest.json",
            "contoso/runs/README.md",
            "contoso/assets/date=2026-11-23/run=20261122T060000Z-1a2b3c4d/x",
            "contoso/assets/run=20261122T060000Z-1a2b3c4d/x",
            "contoso/assets/notes.txt",
            "",
        ] {
            assert_eq!(run_of(path), None, "{path}");
        }
    }
}
