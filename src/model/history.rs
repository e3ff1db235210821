//! The last runs of a target in short.

use serde::{Deserialize, Serialize};

use super::manifest::Completeness;
use super::run::{RunDocument, RunId, Status, Trigger};
use crate::clock::Timestamp;

/// Most runs in a history (contract, section 6).
pub const ENTRIES_MAX: usize = 400;

/// A run that ended, in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Id of the run.
    pub run_id: RunId,
    /// What started it.
    pub trigger: Trigger,
    /// The scheduled occurrence it belongs to, for a timer run.
    pub slot: Option<Timestamp>,
    /// How it ended.
    pub status: Status,
    /// When it was opened.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Its verdict, if it is complete.
    pub completeness: Option<Completeness>,
    /// Assets in its files, if it is complete.
    pub assets: Option<u64>,
    /// Why it failed, in one word.
    pub error: Option<String>,
}

impl Entry {
    /// What there is to say of `run`, which ended; `verdict` if it is complete.
    pub fn of(run: &RunDocument, verdict: Option<(Completeness, u64)>) -> Self {
        Self {
            run_id: run.run_id.clone(),
            trigger: run.trigger,
            slot: run.slot,
            status: run.status,
            started_at: run.started_at,
            finished_at: run.finished_at,
            completeness: verdict.map(|(completeness, _)| completeness),
            assets: verdict.map(|(_, n_assets)| n_assets),
            error: run.error.as_ref().map(|error| error.code.clone()),
        }
    }
}

/// `history.json`: the last [`ENTRIES_MAX`] runs that ended, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct History {
    /// Version of this document.
    pub schema_version: u32,
    /// The runs, newest first by when they were opened.
    pub runs: Vec<Entry>,
}

impl History {
    /// Takes `entry` in, in the place of an older one of the same run. Whether that changed anything.
    pub fn put(&mut self, entry: Entry) -> bool {
        let before = self.runs.clone();
        self.runs.retain(|present| present.run_id != entry.run_id);
        let is_newer = |present: &Entry| {
            (present.started_at, &present.run_id) > (entry.started_at, &entry.run_id)
        };
        let at = self.runs.partition_point(is_newer);
        self.runs.insert(at, entry);
        self.runs.truncate(ENTRIES_MAX);
        self.runs != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SCHEMA_VERSION;

    fn entry(minute: i64, status: Status) -> Entry {
        let at = Timestamp::from_unix_ms(minute * 60_000).expect("a date");
        Entry {
            run_id: RunId::new(at, 7),
            trigger: Trigger::Cli,
            slot: None,
            status,
            started_at: at,
            finished_at: Some(at),
            completeness: None,
            assets: None,
            error: None,
        }
    }

    #[test]
    fn a_history_holds_each_run_once_newest_first_and_only_the_last() {
        use Status::{Complete, Failed};
        let mut history = History { schema_version: SCHEMA_VERSION, runs: Vec::new() };
        for minute in [5, 3, 9, 3, 1] {
            history.put(entry(minute, Failed));
        }
        assert!(!history.put(entry(9, Failed)), "nothing new");
        assert!(history.put(entry(9, Complete)), "resumed and completed");
        let found: Vec<_> =
            history.runs.iter().map(|e| (e.started_at.unix_ms() / 60_000, e.status)).collect();
        assert_eq!(found, [(9, Complete), (5, Failed), (3, Failed), (1, Failed)]);
        for minute in 100..600 {
            history.put(entry(minute, Complete));
        }
        assert_eq!(history.runs.len(), ENTRIES_MAX);
        assert_eq!(history.runs[0].started_at.unix_ms() / 60_000, 599);
        assert!(!history.put(entry(2, Failed)), "too old to be kept");
    }
}
