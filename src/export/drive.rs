//! Drives one run to its end in this process: its own queue, and its own maintenance.
//!
//! `begin or resume -> messages -> steps side by side -> messages -> ... -> the run's end`
//!
//! Start reading at [`to_end`].

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::debug;

use super::books::Books;
use super::care::{Eagerness, look_after};
use super::end::{claim_for_publishing, fail, finish, settle, unknown};
use super::open::{Opened, Opening, busy, open};
use super::slice::Slice;
use super::step::{After, Message, PAUSE_FIRST, PAUSE_MAX, deadline, step};
use super::{Job, World};
use crate::clock::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::model::SCHEMA_VERSION;
use crate::model::active::Active;
use crate::model::manifest::Manifest;
use crate::model::run::{RunDocument, RunError, RunId, Status};
use crate::store;

/// How often it is tried to begin while other runs of the request open and end.
const BEGIN_TRIES_MAX: u32 = 20;

/// Longest time in which an interrupted run saves what it has.
const LAST_SAVE_SECONDS_MAX: u64 = 10;

/// Between two looks at a run that others work on, or that waits: it may be cancelled meanwhile.
const LOOK_PAUSE: Duration = Duration::from_secs(5);

/// Between two looks at everything that there is of such a run.
const FULL_LOOK_PAUSE: Duration = Duration::from_secs(60);

/// Longest time in which it is looked up how far a run has come, for whoever watches.
const REPORT_TIME_MAX: Duration = Duration::from_secs(5);

/// Opens a run, or joins the one that is in work for an equal request. One that has waited for too long
/// is ended instead. Gives its id, and whether it was joined.
///
/// # Errors
/// What the store failed with.
pub async fn begin(world: &World, job: &Job, opening: &Opening) -> Result<(RunId, bool)> {
    let books = world.books(job);
    for _ in 0..BEGIN_TRIES_MAX {
        let id = match open(&books, opening).await? {
            Opened::Ours(id) => return Ok((id, false)),
            Opened::Ended(run) => return Ok((run.run_id, true)),
            Opened::Joined(id) | Opened::Skipped { by: id } => id,
        };
        let Some(run) = books.run(&id).await? else { continue };
        if let Some(err) = deadline(&books, &run, job.idle_max).await? {
            match fail(&books, &run, &err).await {
                // It goes on.
                Err(err) if err.kind() == Kind::Conflict => {}
                failed => drop(failed?),
            }
            continue;
        }
        match resume(&books, &id).await {
            Ok(()) => return Ok((id, true)),
            // It ended in this moment.
            Err(err) if matches!(err.kind(), Kind::Cancelled | Kind::Conflict) => {}
            Err(err) => return Err(err),
        }
    }
    Err(busy("open a run"))
}

/// Takes up the run `id`, which failed or was interrupted, where it stood; how often and how long it
/// came to nothing is counted anew. A complete run is left as it is.
///
/// # Errors
/// [`Kind::NotFound`] if there is no such run, [`Kind::Cancelled`] if it was cancelled,
/// [`Kind::Skipped`] if it was skipped, [`Kind::Conflict`] if another run of its request is in work, and
/// what the store failed with.
pub async fn resume(books: &Books, id: &RunId) -> Result<()> {
    const OPERATION: &str = "resume a run";
    let Some(run) = books.run(id).await? else { return Err(unknown(books, id)) };
    let refuse = |kind, reason: String, advice: &'static str| {
        Err(Error::new(kind, OPERATION).because(reason).with("run", id).advise(advice))
    };
    if run.deleted_at.is_some() {
        return Err(deleted(id));
    }
    // Whether it was cancelled or completed may not stand in its run.json yet.
    let run =
        if run.status == Status::Failed { run } else { settle(books, id).await?.unwrap_or(run) };
    if books.manifest(id).await?.is_some() {
        return finish(books, id).await.map(drop);
    }
    match run.status {
        Status::Cancelled => {
            return refuse(Kind::Cancelled, "it was cancelled".to_owned(), "export again");
        }
        Status::Skipped => {
            let reason = "it was skipped, so there is nothing to take up".to_owned();
            return refuse(Kind::Skipped, reason, "export again");
        }
        Status::Queued | Status::Running | Status::Failed | Status::Complete => {}
    }
    let (path, store) = (books.layout.active(&run.request), books.store.as_ref());
    for _ in 0..BEGIN_TRIES_MAX {
        let Some(run) = books.run(id).await? else { return Err(unknown(books, id)) };
        let mut active = Active {
            schema_version: SCHEMA_VERSION,
            run_id: id.clone(),
            trigger: run.trigger,
            slot: run.slot,
            started_at: run.started_at,
            request: run.request.clone(),
            publishes: run.publishes,
            workspace: run.workspace.clone(),
            resumes: run.resumes + 1,
        };
        // Said here first: whoever still finishes its end cannot take `active` away any more, and
        // whoever finds it there goes on with resuming.
        let placed = match books.read::<Active>(&path).await? {
            None => store::create(store, &path, &active).await,
            Some((present, tag)) if present.run_id == *id => {
                active.resumes = active.resumes.max(present.resumes + 1);
                store::replace(store, &path, &active, &tag).await
            }
            Some((present, tag)) => {
                books.open_run(&present).await?;
                if settle(books, &present.run_id).await?.is_none() {
                    let reason = format!("run {} of the same request is in work", present.run_id);
                    return refuse(Kind::Conflict, reason, "resume or cancel that one first");
                }
                store::replace(store, &path, &active, &tag).await
            }
        };
        match placed {
            Err(err) if err.kind() == Kind::Conflict => {}
            placed => {
                placed?;
                let run = books.open_run(&active).await?;
                if run.deleted_at.is_none() {
                    return Ok(());
                }
                // Retention was first, at this very moment.
                finish(books, id).await?;
                return Err(deleted(id));
            }
        }
    }
    Err(busy(OPERATION))
}

fn deleted(id: &RunId) -> Error {
    Error::new(Kind::NotFound, "resume a run")
        .because("it is older than EASM_RETENTION_DAYS keeps it, or than 14 days, and was deleted")
        .with("run", id)
        .advise("export again")
}

/// Has `latest.json` name the run `id` when it is complete, whatever it was asked for.
///
/// # Errors
/// [`Kind::NotFound`] if retention deletes it, and what the store failed with.
pub async fn have_published(books: &Books, id: &RunId) -> Result<()> {
    claim_for_publishing(books, id).await
}

/// What there is to do next.
enum Event {
    Interrupted,
    Stepped(Result<After>),
    Looked(Result<Look>),
}

/// What a look at the run found.
enum Look {
    Ended,
    Work(Vec<Message>),
    /// It is put off until then, for that.
    Waits(Timestamp, Option<RunError>),
    /// Somebody else works on it.
    Follows,
}

/// Carries the run `id` to its end, whoever else works on it. When `interrupt` completes, what was read
/// is saved, and the run can be taken up again.
///
/// # Errors
/// What ended the run; [`Kind::Interrupted`] after `interrupt`; [`Kind::Deadline`] if the store did not
/// answer for as long as a run may wait.
pub async fn to_end(
    world: &World,
    job: &Job,
    id: &RunId,
    interrupt: impl Future<Output = ()>,
) -> Result<Manifest> {
    let books = world.books(job);
    let (stop, slice) = Slice::endless();
    let mut driver = Driver {
        world: world.clone(),
        job: Arc::new(job.clone()),
        slice,
        in_work: BTreeSet::new(),
        steps: JoinSet::new(),
    };
    tokio::pin!(interrupt);
    let mut next_look = Some(Instant::now());
    let mut next_full_look = Instant::now();
    let mut follows = false;
    let mut told = Told::default();
    let mut silence = Silence::default();
    let begun = tokio::time::timeout(REPORT_TIME_MAX, report_begun(world, &books, id));
    if !begun.await.is_ok_and(|begun| begun.is_ok()) {
        // That a bar begins at nothing is no reason to end.
        debug!("Could not see how far run {id} has come");
    }
    loop {
        let is_idle = driver.steps.is_empty();
        let look_at = next_look.or_else(|| is_idle.then(|| Instant::now() + LOOK_PAUSE));
        let look = async {
            tokio::time::sleep_until(look_at.unwrap_or_else(Instant::now)).await;
            look(&books, id, job.idle_max, follows, Instant::now() >= next_full_look).await
        };
        let event = tokio::select! {
            biased;
            () = &mut interrupt => Event::Interrupted,
            Some(after) = driver.next() => Event::Stepped(after),
            looked = look, if look_at.is_some() => Event::Looked(looked),
        };
        let failed = match event {
            Event::Interrupted => {
                stop.stop();
                let saved = async { while driver.next().await.is_some() {} };
                let limit = Duration::from_secs(LAST_SAVE_SECONDS_MAX);
                // What is not saved by then is read again.
                tokio::time::timeout(limit, saved).await.unwrap_or(());
                return Err(Error::new(Kind::Interrupted, "export")
                    .because(format!("interrupted; what was read of run {id} is saved")));
            }
            Event::Looked(Ok(Look::Ended)) | Event::Stepped(Ok(After::Ended)) => {
                driver.steps.shutdown().await;
                return report_end(&books, id).await;
            }
            Event::Looked(Ok(looked)) => {
                let now = Instant::now();
                if now >= next_full_look {
                    next_full_look = now + FULL_LOOK_PAUSE;
                }
                next_look = Some(now + LOOK_PAUSE);
                match looked {
                    Look::Work(messages) => {
                        next_look = next_look.filter(|_| messages.is_empty());
                        driver.take_on(messages);
                    }
                    Look::Waits(until, cause) => told.waits(world, until, cause),
                    Look::Follows => told.follows(world),
                    Look::Ended => {}
                }
                None
            }
            Event::Stepped(Ok(After::Go(messages))) => {
                driver.take_on(messages);
                None
            }
            Event::Stepped(Ok(After::PutOff { until, because })) => {
                if let Some(because) = because {
                    told.until = Some(until);
                    world.observer.waits(until, &because);
                }
                next_look = Some(Instant::now() + LOOK_PAUSE);
                None
            }
            Event::Stepped(Ok(After::Lost)) => {
                follows = true;
                None
            }
            Event::Stepped(Ok(After::Failed(err))) => {
                driver.steps.shutdown().await;
                return Err(err);
            }
            Event::Looked(Err(err)) | Event::Stepped(Err(err)) => Some(err),
        };
        match failed {
            None => silence = Silence::default(),
            // The store does not answer, so nothing can be noted there.
            Some(err) if err.kind().is_retryable() && !silence.is_over(job.idle_max) => {
                // All steps meet the same outage: the first of them makes the pause.
                if let Some(pause) = silence.pause() {
                    world.observer.store_is_silent(books.now().plus(pause), &err);
                    next_look = Some(Instant::now() + pause);
                }
            }
            Some(err) => {
                driver.steps.shutdown().await;
                let is_silent = err.kind().is_retryable();
                return Err(if is_silent { err.as_kind(Kind::Deadline) } else { err });
            }
        }
    }
}

/// The steps that this process is at.
struct Driver {
    world: World,
    job: Arc<Job>,
    slice: Slice,
    in_work: BTreeSet<Message>,
    steps: JoinSet<(Message, Result<After>)>,
}

impl Driver {
    /// Begins the steps that `messages` ask for, but for those that are in work.
    fn take_on(&mut self, messages: Vec<Message>) {
        for message in messages {
            if self.in_work.insert(message.clone()) {
                let (world, job) = (self.world.clone(), Arc::clone(&self.job));
                let slice = self.slice.clone();
                self.steps.spawn(async move {
                    let after = step(&world, &job, &message, &slice).await;
                    (message, after)
                });
            }
        }
    }

    /// What follows from the next step that ends. `None`: there is none.
    async fn next(&mut self) -> Option<Result<After>> {
        match self.steps.join_next().await? {
            Ok((message, after)) => {
                self.in_work.remove(&message);
                Some(after)
            }
            // It panicked; which one it was is not known.
            Err(err) => Some(Err(Error::new(Kind::Internal, "carry a run")
                .because(err.to_string())
                .advise("please report this"))),
        }
    }
}

/// How long the store has not answered.
#[derive(Default)]
struct Silence {
    n_pauses: u32,
    since: Option<Instant>,
    until: Option<Instant>,
}

impl Silence {
    /// The next pause, unless one is going on.
    fn pause(&mut self) -> Option<Duration> {
        let now = Instant::now();
        if self.until.is_some_and(|until| until > now) {
            return None;
        }
        self.since.get_or_insert(now);
        let pause = PAUSE_FIRST.saturating_mul(1 << self.n_pauses.min(16)).min(PAUSE_MAX);
        self.n_pauses += 1;
        self.until = Some(now + pause);
        Some(pause)
    }

    /// Whether that was long enough to give up.
    fn is_over(&self, idle_max: Duration) -> bool {
        self.since.is_some_and(|since| since.elapsed() >= idle_max)
    }
}

/// What whoever watches was told, to be told it once.
#[derive(Default)]
struct Told {
    until: Option<Timestamp>,
    follows: bool,
}

impl Told {
    fn waits(&mut self, world: &World, until: Timestamp, cause: Option<RunError>) {
        if self.until.replace(until) != Some(until) {
            let kind = cause.as_ref().and_then(|cause| Kind::of_code(&cause.code));
            let reason = cause
                .map_or_else(|| "it was put off".to_owned(), |cause| cause.message.to_string());
            let kind = kind.unwrap_or(Kind::Unavailable { retry_after: None });
            world.observer.waits(until, &Error::new(kind, "carry a run").because(reason));
        }
    }

    fn follows(&mut self, world: &World) {
        if !std::mem::replace(&mut self.follows, true) {
            world.observer.follows();
        }
    }
}

/// Looks after the run `id`; unless `is_full`, only whether it ended. `follows`: somebody else works on it, so it is only taken up when that
/// stalls.
async fn look(
    books: &Books,
    id: &RunId,
    idle_max: Duration,
    follows: bool,
    is_full: bool,
) -> Result<Look> {
    let Some(run) = books.run(id).await? else { return Err(unknown(books, id)) };
    let waits = |run: &RunDocument| {
        let until = run.waits_until(books.now());
        until.map(|until| Look::Waits(until, run.waits_for.clone()))
    };
    if !is_full && !run.status.is_ended() {
        match waits(&run) {
            Some(waits) => return Ok(waits),
            None if follows => return Ok(Look::Follows),
            None => {}
        }
    }
    let eagerness = if follows { Eagerness::WhenStalled } else { Eagerness::AtOnce };
    let messages = look_after(books, id, idle_max, eagerness).await?;
    if !messages.is_empty() {
        return Ok(Look::Work(messages));
    }
    if finish(books, id).await?.is_some() {
        return Ok(Look::Ended);
    }
    let idle = if follows { Look::Follows } else { Look::Work(messages) };
    Ok(waits(&run).unwrap_or(idle))
}

/// Tells who watches what of the run `id` is there already.
async fn report_begun(world: &World, books: &Books, id: &RunId) -> Result<()> {
    if let Some(plan) = books.plan(id).await? {
        let wanted = plan.request.max_assets.unwrap_or(u64::MAX);
        world.observer.planned(plan.expected.min(wanted));
        let checkpoints = books.checkpoints(&plan).await?;
        world.observer.took(checkpoints.values().map(|checkpoint| checkpoint.exported()).sum());
    }
    Ok(())
}

/// How the run `id` ended.
async fn report_end(books: &Books, id: &RunId) -> Result<Manifest> {
    if let Some(manifest) = books.manifest(id).await? {
        return Ok(manifest);
    }
    let Some(RunDocument { status, error, .. }) = books.run(id).await? else {
        return Err(unknown(books, id));
    };
    let kind = error.as_ref().and_then(|error| Kind::of_code(&error.code));
    let reason = error.map_or_else(|| "it ended".to_owned(), |error| error.message.to_string());
    let kind = kind.unwrap_or(Kind::Internal);
    Err(Error::new(kind, "export").because(format!("run {id} is {}: {reason}", status.as_str())))
}
