//! What lies in the store of one target, and what of it may go by where it lies.
//!
//! Nothing is deleted by a survey alone: it only says which run.json are worth reading. It is made page by
//! page, so memory depends on the number of runs and not on that of their files.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use crate::clock::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::export::books::Books;
use crate::model::active::Active;
use crate::model::history::{Entry, History};
use crate::model::layout::run_of;
use crate::model::manifest::Latest;
use crate::model::request::Dataset;
use crate::model::run::{RunId, Status};
use crate::store::remote::LIST_PAGES_MAX;

use super::Retention;

/// Most runs of one survey, the oldest: more than five years of one an hour.
const RUNS_SEEN_MAX: usize = 50_000;

/// What of a run lies in the store.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Lies {
    has_manifest: bool,
    has_plan: bool,
}

/// What lies in the store of one target.
pub(super) struct Survey {
    /// The last runs that ended, newest first.
    pub history: Vec<Entry>,
    /// The newest slot that is known to have a run.
    newest_slot: Option<Timestamp>,
    in_work: BTreeSet<RunId>,
    /// What `latest.json` names, and the newest complete run.
    stays: BTreeSet<RunId>,
    runs: BTreeMap<RunId, Lies>,
}

impl Survey {
    /// Lists what there is.
    ///
    /// # Errors
    /// What the store failed with. A document that a newer version wrote is one, too: what it protects is not
    /// known.
    pub async fn make(books: &Books) -> Result<Self> {
        let history = books.read::<History>(&books.layout.history()).await?;
        let history = history.map(|(history, _)| history.runs).unwrap_or_default();
        let latest = books.read::<Latest>(&books.layout.latest()).await?;
        let mut survey = Self {
            newest_slot: history.iter().filter_map(|entry| entry.slot).max(),
            history,
            in_work: BTreeSet::new(),
            stays: latest.into_iter().map(|(latest, _)| latest.run_id).collect(),
            runs: BTreeMap::new(),
        };
        for path in books.store.list(&books.layout.active_all()).await? {
            if let Some((active, _)) = books.read::<Active>(&path).await? {
                survey.newest_slot = survey.newest_slot.max(active.slot);
                survey.in_work.insert(active.run_id);
            }
        }
        let mut newest_complete = None;
        each_path(books, &books.layout.runs_all(), |path| {
            let Some(id) = run_of(path) else { return };
            let has_manifest = path.ends_with("/manifest.json");
            if has_manifest {
                newest_complete = newest_complete.take().max(Some(id.clone()));
            }
            if let Some(lies) = survey.see(id) {
                lies.has_manifest |= has_manifest;
                lies.has_plan |= path.ends_with("/plan.json");
            }
        })
        .await?;
        for dataset in Dataset::ALL {
            each_path(books, &books.layout.parts_all(*dataset), |path| {
                run_of(path).map(|id| survey.see(id).map(drop));
            })
            .await?;
        }
        // By when it was opened, and by its id, where a slot was made up for late: both stay.
        let has_manifest = |id: &RunId| survey.runs.get(id).is_some_and(|lies| lies.has_manifest);
        let mut complete = survey.history.iter().filter(|entry| entry.status == Status::Complete);
        let by_start = complete.find(|entry| has_manifest(&entry.run_id));
        let by_start = by_start.map(|entry| entry.run_id.clone());
        survey.stays.extend(newest_complete.into_iter().chain(by_start));
        Ok(survey)
    }

    fn see(&mut self, id: RunId) -> Option<&mut Lies> {
        let has_room = self.runs.len() < RUNS_SEEN_MAX || self.runs.contains_key(&id);
        has_room.then(|| self.runs.entry(id).or_default())
    }

    /// The runs whose ids come behind `after`, in order.
    pub fn runs_behind(&self, after: Option<&RunId>) -> impl Iterator<Item = (&RunId, &Lies)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.runs.range((from, Bound::Unbounded))
    }

    /// Whether the run `id` may be old enough to go, so that it is worth looking at.
    pub fn may_go(&self, id: &RunId, lies: Lies, retention: Retention, now: Timestamp) -> bool {
        // No run ends before the time in its id.
        let age = id.time().map(|at| now.since(at)).unwrap_or_default();
        // Of a complete one whose deletion has begun, the plan went first.
        let is_complete = lies.has_manifest && lies.has_plan;
        let limit = if is_complete { retention.complete() } else { Some(retention.leftover()) };
        !self.stays.contains(id)
            && !self.in_work.contains(id)
            && limit.is_some_and(|limit| age >= limit)
    }

    /// Whether the run.json of `slot` stays, so that the slot does not count as missed.
    pub fn is_newest_slot(&self, slot: Timestamp) -> bool {
        self.newest_slot.is_none_or(|newest| slot >= newest)
    }
}

/// Shows `see` every path below `prefix`.
async fn each_path(books: &Books, prefix: &str, mut see: impl FnMut(&str) + Send) -> Result<()> {
    let mut next: Option<String> = None;
    for _ in 0..LIST_PAGES_MAX {
        let page = books.store.list_some(prefix, next.as_deref()).await?;
        page.paths.iter().for_each(|path| see(path));
        match page.next {
            Some(there) => next = Some(there),
            None => return Ok(()),
        }
    }
    Err(Error::new(Kind::Endless, "look for what may go")
        .because(format!("there are more than {LIST_PAGES_MAX} pages of files"))
        .with("path", prefix)
        .advise("look into the container; this program writes far fewer"))
}
