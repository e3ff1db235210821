//! Opens a run, or finds the one that is in work for an equal request.
//!
//! `active/{requestHash}.json -> run.json -> (the caller puts its planning on the queue)`
//!
//! # Invariants
//! - Nothing is in work that `active` does not name: it comes first and goes last.
//! - Of equal requests one run is in work.
//! - The name of a slot's run.json is its guard: one slot is exported once.
//!
//! Start reading at [`open`].

use std::time::Duration;

use tracing::info;

use super::books::Books;
use super::end::{fail, finish, note_if_new, settle};
use super::step::check_workspace;
use crate::clock::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::model::SCHEMA_VERSION;
use crate::model::active::{Active, Key};
use crate::model::hash::sha256_hex;
use crate::model::history::Entry;
use crate::model::layout;
use crate::model::request::Request;
use crate::model::run::{RunDocument, RunError, RunId, Status, Trigger};
use crate::model::target::Inventory;
use crate::secret::Said;
use crate::store;

/// How often opening is tried while others open and end runs of an equal request.
const OPEN_TRIES_MAX: u32 = 20;

/// How long an idempotency key stands for its run (contract, section 4).
pub const KEY_LIFE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// A run that is to be opened.
#[derive(Debug, Clone)]
pub struct Opening {
    /// Its id, from when it starts and, for a slot, from target and slot.
    pub run_id: RunId,
    /// What it is asked for.
    pub request: Request,
    /// What starts it.
    pub trigger: Trigger,
    /// The scheduled occurrence, for a timer run.
    pub slot: Option<Timestamp>,
    /// When it starts.
    pub started_at: Timestamp,
    /// Whether `latest.json` may name it.
    pub publishes: bool,
    /// The workspace whose assets it exports. `None`: there is but one.
    pub workspace: Option<Inventory>,
}

impl Opening {
    /// A run that starts `at`, which nobody else can open.
    pub fn now(request: Request, trigger: Trigger, at: Timestamp, publishes: bool) -> Self {
        let run_id = RunId::new(at, fastrand::u32(..));
        Self { run_id, request, trigger, slot: None, started_at: at, publishes, workspace: None }
    }

    /// The run of `target` for `slot`, which starts `at`: later than the slot if that was missed.
    pub fn for_slot(
        target: &str,
        request: Request,
        slot: Timestamp,
        at: Timestamp,
        publishes: bool,
    ) -> Self {
        let (run_id, trigger) = (RunId::of_slot(target, slot), Trigger::Timer);
        let workspace = None;
        Self { run_id, request, trigger, slot: Some(slot), started_at: at, publishes, workspace }
    }

    /// The same run, of the workspace `inventory`.
    #[must_use]
    pub fn of(self, inventory: Inventory) -> Self {
        Self { workspace: Some(inventory), ..self }
    }

    fn active(&self) -> Active {
        Active {
            schema_version: SCHEMA_VERSION,
            run_id: self.run_id.clone(),
            trigger: self.trigger,
            slot: self.slot,
            started_at: self.started_at,
            request: self.request.clone(),
            publishes: self.publishes,
            workspace: self.workspace.clone(),
            resumes: 0,
        }
    }
}

/// What became of an [`Opening`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// It is in work, opened now or before.
    Ours(RunId),
    /// A run of an equal request is in work.
    Joined(RunId),
    /// A run of an equal request is in work, so the slot is not exported.
    Skipped {
        /// The run in work.
        by: RunId,
    },
    /// The slot's run ended before.
    Ended(Box<RunDocument>),
}

/// Opens a run. Safe to repeat.
///
/// # Errors
/// What the store failed with.
pub async fn open(books: &Books, opening: &Opening) -> Result<Opened> {
    if let Some(run) = books.run(&opening.run_id).await?
        && run.status.is_ended()
    {
        let run = finish(books, &opening.run_id).await?.unwrap_or(run);
        return Ok(Opened::Ended(Box::new(run)));
    }
    let (store, ours) = (books.store.as_ref(), opening.active());
    let path = books.layout.active(&opening.request);
    for _ in 0..OPEN_TRIES_MAX {
        let placed = match books.read::<Active>(&path).await? {
            None => store::create(store, &path, &ours).await,
            Some((active, _)) if active.run_id == ours.run_id => return opened(books, &ours).await,
            Some((active, tag)) => {
                let run = books.open_run(&active).await?;
                if let Some(ours) = &opening.workspace {
                    end_if_of_other(books, &run, ours).await?;
                }
                match settle(books, &active.run_id).await? {
                    // It ended, so ours may take its place.
                    Some(_) => store::replace(store, &path, &ours, &tag).await,
                    None if opening.slot.is_some() => {
                        return skip(books, opening, active.run_id).await;
                    }
                    None => return Ok(Opened::Joined(active.run_id)),
                }
            }
        };
        match placed {
            Ok(_) => return opened(books, &ours).await,
            Err(err) if err.kind() == Kind::Conflict => {}
            Err(err) => return Err(err),
        }
    }
    Err(busy("open a run"))
}

/// The failure of `operation`, which others were ahead of each time.
pub(super) fn busy(operation: &'static str) -> Error {
    Error::new(Kind::Unavailable { retry_after: None }, operation)
        .because("others open and end runs of the same request all the time")
        .advise("try again later")
}

/// Ends `run` if it is of another workspace than `ours`: nobody carries it on under these settings.
async fn end_if_of_other(books: &Books, run: &RunDocument, ours: &Inventory) -> Result<()> {
    let Err(err) = check_workspace(run, ours) else { return Ok(()) };
    if run.status.is_ended() {
        return Ok(());
    }
    match fail(books, run, &err).await {
        // It ended otherwise, or was resumed: that is seen next.
        Err(err) if err.kind() == Kind::Conflict => Ok(()),
        failed => failed.map(drop),
    }
}

/// Creates the run.json of `active`, which is in its place.
async fn opened(books: &Books, active: &Active) -> Result<Opened> {
    let id = &active.run_id;
    let run = books.open_run(active).await?;
    // It may have ended long ago: whoever opened it was slow.
    if let Some(run) = finish(books, id).await? {
        return Ok(Opened::Ended(Box::new(run)));
    }
    info!(run.id = %id, target = run.target, "Opened run {id} of target {}", run.target);
    Ok(Opened::Ours(id.clone()))
}

/// Says that the slot of `opening` is not exported, since the run `by` is in work.
async fn skip(books: &Books, opening: &Opening, by: RunId) -> Result<Opened> {
    let now = books.now();
    let active = opening.active();
    let run = RunDocument {
        finished_at: Some(now),
        error: Some(RunError {
            code: Kind::Skipped.facts().code.to_owned(),
            message: Said::new(format!("run {by} of the same request is still in work")),
        }),
        ..books.document(&active, Status::Skipped)
    };
    // The history first: nobody looks after a run that is not in active/, so whoever dies between the
    // two leaves an entry without a run.json, and the slot is opened again.
    note_if_new(books, &Entry::of(&run, None)).await?;
    let run = books.create_run(run).await?;
    let id = &opening.run_id;
    match finish(books, id).await? {
        Some(run) if run.status == Status::Skipped => Ok(Opened::Skipped { by }),
        Some(run) => Ok(Opened::Ended(Box::new(run))),
        // It was opened before, and is in work.
        None => Ok(Opened::Ours(run.run_id)),
    }
}

/// What became of an [`Opening`] under an idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keyed {
    /// The key stands for this run of this target now, which is in work or ended.
    Run {
        /// Name of the target.
        target: String,
        /// Id of the run.
        run_id: RunId,
    },
    /// The key stands for a request with another body.
    OtherBody,
}

/// Opens a run under an idempotency key: the same `key` within [`KEY_LIFE`] gives the same run,
/// whatever the target. `body` is the request as it was sent.
///
/// # Errors
/// What the store failed with.
pub async fn open_by_key(
    books: &Books,
    key: &str,
    body: &[u8],
    opening: &Opening,
) -> Result<Keyed> {
    let (path, body_sha256) = (layout::key(key), sha256_hex(body));
    let ours = Key {
        schema_version: SCHEMA_VERSION,
        target: books.target().to_owned(),
        run_id: opening.run_id.clone(),
        body_sha256: body_sha256.clone(),
        used_at: opening.started_at,
    };
    // Saved before the run is opened, with the id it will be opened under.
    let key = books.change(&path, |present: Option<Key>| {
        Ok(match present {
            Some(present) if books.now().since(present.used_at) < KEY_LIFE => (present, false),
            _ => (ours.clone(), true),
        })
    });
    let key = key.await?;
    if key.body_sha256 != body_sha256 {
        return Ok(Keyed::OtherBody);
    }
    let books = Books::new(books.store.clone(), books.clock.clone(), &key.target);
    let Key { target, run_id, .. } = key;
    if books.run(&run_id).await?.is_some() {
        return Ok(Keyed::Run { target, run_id });
    }
    // It starts now: whoever used the key before may have died before it opened anything.
    let opening = Opening { run_id: run_id.clone(), ..opening.clone() };
    let run_id = match open(&books, &opening).await? {
        Opened::Ours(run_id) => run_id,
        Opened::Ended(run) => run.run_id,
        // Another caller with this key opened it meanwhile.
        Opened::Joined(_) | Opened::Skipped { .. } if books.run(&run_id).await?.is_some() => run_id,
        Opened::Joined(by) | Opened::Skipped { by } => {
            let joined = books.change(&path, |present: Option<Key>| {
                let present = present.unwrap_or_else(|| ours.clone());
                let is_changed = present.run_id != by && present.body_sha256 == ours.body_sha256;
                let run_id = if is_changed { by.clone() } else { present.run_id.clone() };
                Ok((Key { run_id, ..present }, is_changed))
            });
            joined.await?.run_id
        }
    };
    Ok(Keyed::Run { target, run_id })
}
