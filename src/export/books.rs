//! Keeps `run.json`: where a run stands, for whoever looks.

use tracing::warn;

use super::carry::Checkpoints;
use super::{Job, World};
use crate::error::{Error, Kind, Result};
use crate::model::SCHEMA_VERSION;
use crate::model::checkpoint::Checkpoint;
use crate::model::layout::Layout;
use crate::model::plan::Plan;
use crate::model::run::{Progress, RunDocument, RunError, RunId, Status};
use crate::store::{self, Tag};

impl Job {
    /// Where the target's files lie.
    pub(super) fn layout(&self) -> Layout {
        Layout::new(&self.target)
    }
}

/// The status document of one run.
pub(super) struct Books {
    document: RunDocument,
    tag: Tag,
    path: String,
}

impl Books {
    /// Opens a run that starts now: creates its `run.json`. `tail` tells runs of one second apart.
    ///
    /// # Errors
    /// What the store failed with.
    pub async fn open(world: &World, job: &Job, tail: u32) -> Result<Self> {
        let now = world.clock.now();
        let run_id = RunId::new(now, tail);
        let path = job.layout().run(&run_id);
        let document = RunDocument {
            schema_version: SCHEMA_VERSION,
            run_id,
            target: job.target.clone(),
            trigger: job.trigger,
            slot: None,
            request: job.request.clone(),
            status: Status::Running,
            started_at: now,
            updated_at: now,
            finished_at: None,
            progress: Progress::default(),
            manifest: None,
            error: None,
        };
        let tag = store::create(world.store.as_ref(), &path, &document).await?;
        Ok(Self { document, tag, path })
    }

    /// The run's id.
    pub fn run_id(&self) -> &RunId {
        &self.document.run_id
    }

    /// The document as last saved.
    pub fn document(&self) -> &RunDocument {
        &self.document
    }

    /// Notes what was planned.
    ///
    /// # Errors
    /// What the store failed with.
    pub async fn planned(&mut self, world: &World, plan: &Plan) -> Result<()> {
        self.document.progress = Progress {
            expected: plan.expected,
            exported: 0,
            shards_total: u32::try_from(plan.shards.len()).unwrap_or(u32::MAX),
            shards_done: 0,
        };
        let wanted = plan.request.max_assets.unwrap_or(u64::MAX);
        world.observer.planned(plan.expected.min(wanted));
        self.save(world).await
    }

    /// Notes that the shards in `checkpoints` are done.
    ///
    /// # Errors
    /// What the store failed with.
    pub async fn progressed(&mut self, world: &World, checkpoints: &Checkpoints) -> Result<()> {
        self.document.progress.exported = checkpoints.values().map(Checkpoint::exported).sum();
        self.document.progress.shards_done = u32::try_from(checkpoints.len()).unwrap_or(u32::MAX);
        self.save(world).await
    }

    /// Notes that the manifest at `path` exists.
    ///
    /// # Errors
    /// What the store failed with.
    pub async fn complete(&mut self, world: &World, path: String) -> Result<()> {
        self.document.status = Status::Complete;
        self.document.finished_at = Some(world.clock.now());
        self.document.manifest = Some(path);
        self.save(world).await
    }

    /// Notes that the run failed with `failure`. That this fails too is only logged: the caller has
    /// the failure that matters.
    pub async fn fail(&mut self, world: &World, failure: &Error) {
        self.document.status = Status::Failed;
        self.document.finished_at = Some(world.clock.now());
        self.document.error = Some(RunError {
            code: failure.kind().facts().code.to_owned(),
            message: crate::secret::redact(&failure.to_string()),
        });
        if let Err(err) = self.save_over_own(world).await {
            warn!(run.id = %self.run_id(), "Could not note in run.json that the run failed: {err}");
        }
    }

    /// Saves although the document may have changed: when a run is interrupted while it saves, that
    /// save still goes on, and its tag is lost.
    async fn save_over_own(&mut self, world: &World) -> Result<()> {
        /// Saves of ours that can be going on: one. The rest is for slow ones.
        const TRIES_MAX: u32 = 4;
        for _ in 1..TRIES_MAX {
            match self.save(world).await {
                Err(err) if err.kind() == Kind::Conflict => {}
                saved => return saved,
            }
            let store = world.store.as_ref();
            if let Some((_, tag)) = store::read::<RunDocument>(store, &self.path).await? {
                self.tag = tag;
            }
        }
        self.save(world).await
    }

    async fn save(&mut self, world: &World) -> Result<()> {
        self.document.updated_at = world.clock.now();
        self.tag =
            store::replace(world.store.as_ref(), &self.path, &self.document, &self.tag).await?;
        Ok(())
    }
}
