//! Reads and writes the documents of one target: what stands in the store is all that there is to know
//! of a run.
//!
//! # Invariants
//! - A document is created if absent or replaced under the tag that was read. Who comes second reads
//!   again.
//! - Nothing here decides how a run ends ([`super::end`]) or goes on ([`super::step`]).

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::FutureExt;
use futures::stream::{self, StreamExt, TryStreamExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::warn;

use crate::clock::{Clock, Timestamp};
use crate::error::{Error, Kind, Result};
use crate::model::SCHEMA_VERSION;
use crate::model::active::Active;
use crate::model::checkpoint::Checkpoint;
use crate::model::layout::Layout;
use crate::model::manifest::Manifest;
use crate::model::plan::Plan;
use crate::model::run::{Progress, RunDocument, RunId, Status};
use crate::store::{self, Store, Tag};

/// Checkpoints of a run by number of the shard, of those that were taken up.
pub(super) type Checkpoints = BTreeMap<u32, Checkpoint>;

/// Documents that are read at once.
const READS_AT_ONCE: usize = 8;

/// How often a document is tried when others change it at the same time. Up to 64 shards may note
/// something at once, and of those that try one always succeeds.
const CHANGE_TRIES_MAX: u32 = 100;

/// The documents of one target.
#[derive(Clone)]
pub struct Books {
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) layout: Layout,
    target: String,
}

impl Books {
    /// The documents of `target`, a name that passed [`crate::model::target::is_target_name`].
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, target: &str) -> Self {
        Self { store, clock, layout: Layout::new(target), target: target.to_owned() }
    }

    /// Name of the target.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Where its files lie.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The status document of the run `id`. `None`: there is no such run.
    ///
    /// # Errors
    /// What the store failed with.
    pub async fn run(&self, id: &RunId) -> Result<Option<RunDocument>> {
        Ok(self.read(&self.layout.run(id)).await?.map(|(run, _)| run))
    }

    /// The manifest of the run `id`. `None`: it is not complete.
    ///
    /// # Errors
    /// What the store failed with.
    pub async fn manifest(&self, id: &RunId) -> Result<Option<Manifest>> {
        Ok(self.read(&self.layout.manifest(id)).await?.map(|(manifest, _)| manifest))
    }

    /// The plan of the run `id`, once it is made.
    ///
    /// # Errors
    /// What the store failed with.
    pub async fn plan(&self, id: &RunId) -> Result<Option<Plan>> {
        Ok(self.read(&self.layout.plan(id)).await?.map(|(plan, _)| plan))
    }

    /// The checkpoints of `plan`.
    ///
    /// # Errors
    /// What the store failed with.
    pub(super) async fn checkpoints(&self, plan: &Plan) -> Result<Checkpoints> {
        let read = plan.shards.iter().map(|shard| {
            let path = self.layout.checkpoint(&plan.run_id, shard.shard);
            let read = async move {
                let read = self.read::<Checkpoint>(&path).await?;
                Ok::<_, Error>(read.map(|(checkpoint, _)| (shard.shard, checkpoint)))
            };
            read.boxed()
        });
        let read = stream::iter(read.collect::<Vec<_>>());
        let read: Vec<_> = read.buffered(READS_AT_ONCE).try_collect().await?;
        Ok(read.into_iter().flatten().collect())
    }

    /// What is in work. What cannot be read is logged and left out, so that it does not stand in the way
    /// of the others: a newer version may have written it.
    ///
    /// # Errors
    /// What the store failed with, where trying again may help.
    pub(super) async fn active(&self) -> Result<Vec<Active>> {
        let mut all = Vec::new();
        for path in self.store.list(&self.layout.active_all()).await? {
            match self.read::<Active>(&path).await {
                Ok(Some((active, _))) => all.push(active),
                // Taken away since it was listed.
                Ok(None) => {}
                Err(err) if err.kind().is_retryable() => return Err(err),
                Err(err) => warn!("Could not see which run is in work: {err}"),
            }
        }
        Ok(all)
    }

    /// Sees to it that the status document says what `active` says: creates it, or notes that the run
    /// is resumed. Whoever wrote `active` may have died before that.
    ///
    /// # Errors
    /// What the store failed with.
    pub(super) async fn open_run(&self, active: &Active) -> Result<RunDocument> {
        let run = match self.run(&active.run_id).await? {
            Some(run) => run,
            None if active.resumes > 0 => self.create_run(self.gone(active)).await?,
            None => self.create_run(self.document(active, Status::Queued)).await?,
        };
        if run.resumes >= active.resumes || run.deleted_at.is_some() {
            return Ok(run);
        }
        let is_planned = self.plan(&run.run_id).await?.is_some();
        let noted = self.note(&run.run_id, |run| {
            if run.resumes >= active.resumes || run.deleted_at.is_some() {
                return false;
            }
            run.resumes = active.resumes;
            // What ended otherwise stays so.
            if matches!(run.status, Status::Queued | Status::Running | Status::Failed) {
                run.status = if is_planned { Status::Running } else { Status::Queued };
                run.error = None;
                run.finished_at = None;
                run.not_before = None;
                run.waits_for = None;
                run.pauses = 0;
                run.requeues = 0;
                run.resumed_at = Some(self.now());
            }
            true
        });
        noted.await
    }

    /// The status document of a run that retention had deleted when somebody resumed it. Made as a new
    /// one it would begin again, and write parts under names that meant something else. It is deleted
    /// anew.
    fn gone(&self, active: &Active) -> RunDocument {
        let now = self.now();
        RunDocument {
            finished_at: Some(now),
            deleted_at: Some(now),
            ..self.document(active, Status::Failed)
        }
    }

    /// The status document that a run begins with.
    pub(super) fn document(&self, active: &Active, status: Status) -> RunDocument {
        RunDocument {
            schema_version: SCHEMA_VERSION,
            run_id: active.run_id.clone(),
            target: self.target.clone(),
            trigger: active.trigger,
            slot: active.slot,
            request: active.request.clone(),
            status,
            started_at: active.started_at,
            updated_at: self.now(),
            finished_at: None,
            progress: Progress::default(),
            manifest: None,
            error: None,
            workspace: active.workspace.clone(),
            publishes: active.publishes,
            not_before: None,
            waits_for: None,
            pauses: 0,
            requeued_at: None,
            requeues: 0,
            resumed_at: None,
            resumes: active.resumes,
            deleted_at: None,
        }
    }

    /// Creates `document`, or gives the one that is there.
    pub(super) async fn create_run(&self, document: RunDocument) -> Result<RunDocument> {
        let path = self.layout.run(&document.run_id);
        match store::create(self.store.as_ref(), &path, &document).await {
            Ok(_) => Ok(document),
            Err(err) if err.kind() == Kind::Conflict => {
                self.run(&document.run_id).await?.ok_or_else(|| missing(&path))
            }
            Err(err) => Err(err),
        }
    }

    /// Changes the status document of the run `id` as `change` says, unless that says that there is
    /// nothing to change. Gives it as it is then.
    ///
    /// # Errors
    /// What the store failed with, and if there is no such run.
    pub(super) async fn note(
        &self,
        id: &RunId,
        change: impl Fn(&mut RunDocument) -> bool + Send + Sync,
    ) -> Result<RunDocument> {
        let path = self.layout.run(id);
        let changed = self.change(&path, |present: Option<RunDocument>| {
            let mut run = present.ok_or_else(|| missing(&path))?;
            let is_changed = change(&mut run);
            run.updated_at = if is_changed { self.now() } else { run.updated_at };
            Ok((run, is_changed))
        });
        changed.await
    }

    /// Makes of the document at `path`, if there is one, what `change` says, if that says that there
    /// is a change. Whoever changes it meanwhile is taken into account.
    ///
    /// # Errors
    /// What the store or `change` failed with.
    pub(super) async fn change<T: Serialize + DeserializeOwned + Send + Sync>(
        &self,
        path: &str,
        change: impl Fn(Option<T>) -> Result<(T, bool)> + Send + Sync,
    ) -> Result<T> {
        let store = self.store.as_ref();
        for n_try in 1.. {
            let present = self.read::<T>(path).await?;
            let (present, tag) = present.map_or((None, None), |(doc, tag)| (Some(doc), Some(tag)));
            let (document, is_changed) = change(present)?;
            if !is_changed {
                return Ok(document);
            }
            let saved = match &tag {
                None => store::create(store, path, &document).await,
                Some(tag) => store::replace(store, path, &document, tag).await,
            };
            match saved {
                Err(err) if err.kind() == Kind::Conflict && n_try < CHANGE_TRIES_MAX => {}
                saved => return saved.map(|_| document),
            }
        }
        unreachable!("the loop returns at its last try")
    }

    pub(super) async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<Option<(T, Tag)>> {
        store::read(self.store.as_ref(), path).await
    }
}

fn missing(path: &str) -> Error {
    Error::new(Kind::Store, "read a state document")
        .because("it is gone")
        .with("path", path)
        .advise("see who else deletes from the store")
}
