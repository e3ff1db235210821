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
use super::end::{fail, finish, settle, unknown};
use super::open::{Opened, Opening, open};
use super::slice::Slice;
use super::step::{After, Message, PAUSE_FIRST, PAUSE_MAX, deadline, step};
use super::{Job, World};
use crate::error::{Error, Kind, Result};
use crate::model::SCHEMA_VERSION;
use crate::model::active::Active;
use crate::model::manifest::Manifest;
use crate::model::run::{RunDocument, RunId, Status};
use crate::store;

/// How often it is tried to begin while other runs of the request open and end.
const BEGIN_TRIES_MAX: u32 = 20;

/// Longest time in which an interrupted run saves what it has.
const LAST_SAVE_SECONDS_MAX: u64 = 10;

/// Between two looks at a run that others work on, or that waits: it may be cancelled meanwhile.
const LOOK_PAUSE: Duration = Duration::from_secs(5);

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
        match deadline(&books, &run, job.idle_max).await? {
            Some(err) => drop(fail(&books, &id, &err).await?),
            None => return Ok((id, true)),
        }
    }
    Err(Error::new(Kind::Unavailable { retry_after: None }, "open a run")
        .because("others open and end runs of the same request all the time")
        .advise("try again later"))
}

/// Takes up the run `id`, which failed or was interrupted, where it stood; how often and how long it
/// came to nothing is counted anew. A complete run is left as it is.
///
/// # Errors
/// [`Kind::NotFound`] if there is no such run, [`Kind::Cancelled`] if it was cancelled,
/// [`Kind::Conflict`] if another run of its request is in work, [`Kind::Usage`] if it was skipped, and
/// what the store failed with.
pub async fn resume(books: &Books, id: &RunId) -> Result<()> {
    const OPERATION: &str = "resume a run";
    let Some(run) = books.run(id).await? else { return Err(unknown(books, id)) };
    let refuse = |kind, reason: String, advice: &'static str| {
        Err(Error::new(kind, OPERATION).because(reason).with("run", id).advise(advice))
    };
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
            return refuse(Kind::Usage, reason, "export again");
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
                return books.open_run(&active).await.map(drop);
            }
        }
    }
    Err(Error::new(Kind::Unavailable { retry_after: None }, OPERATION)
        .because("others open and end runs of the same request all the time")
        .advise("try again later"))
}

/// Has `latest.json` name the run `id` when it is complete, whatever it was asked for.
///
/// # Errors
/// What the store failed with.
pub async fn have_published(books: &Books, id: &RunId) -> Result<()> {
    let noted = books.note(id, |run| !std::mem::replace(&mut run.publishes, true));
    noted.await.map(drop)
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
    let mut follows = false;
    let mut silence = Silence::default();
    if let Err(err) = report_begun(world, &books, id).await {
        // That a bar begins at nothing is no reason to end.
        debug!("Could not see how far run {id} has come: {err}");
    }
    loop {
        let is_idle = driver.steps.is_empty();
        let look_at = next_look.or_else(|| is_idle.then(|| Instant::now() + LOOK_PAUSE));
        let look = async {
            tokio::time::sleep_until(look_at.unwrap_or_else(Instant::now)).await;
            look(&books, id, job.idle_max, follows).await
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
            Event::Looked(Ok(Look::Work(messages))) => {
                next_look = messages.is_empty().then(|| Instant::now() + LOOK_PAUSE);
                driver.take_on(messages);
                None
            }
            Event::Stepped(Ok(After::Go(messages))) => {
                driver.take_on(messages);
                None
            }
            Event::Stepped(Ok(After::PutOff { until, because })) => {
                if let Some(because) = because {
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
                let pause = silence.pause();
                world.observer.waits(books.now().plus(pause), &err);
                next_look = Some(Instant::now() + pause);
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
}

impl Silence {
    /// The next pause.
    fn pause(&mut self) -> Duration {
        self.since.get_or_insert_with(Instant::now);
        let pause = PAUSE_FIRST.saturating_mul(1 << self.n_pauses.min(16)).min(PAUSE_MAX);
        self.n_pauses += 1;
        pause
    }

    /// Whether that was long enough to give up.
    fn is_over(&self, idle_max: Duration) -> bool {
        self.since.is_some_and(|since| since.elapsed() >= idle_max)
    }
}

/// Looks after the run `id`. `follows`: somebody else works on it, so it is only taken up when that
/// stalls.
async fn look(books: &Books, id: &RunId, idle_max: Duration, follows: bool) -> Result<Look> {
    let Some(run) = books.run(id).await? else { return Err(unknown(books, id)) };
    let eagerness = if follows { Eagerness::WhenStalled } else { Eagerness::AtOnce };
    let messages = look_after(books, run, idle_max, eagerness).await?;
    match messages.is_empty() && finish(books, id).await?.is_some() {
        true => Ok(Look::Ended),
        false => Ok(Look::Work(messages)),
    }
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
    let reason = error.map_or_else(|| "it ended".to_owned(), |error| error.message);
    let kind = kind.unwrap_or(Kind::Internal);
    Err(Error::new(kind, "export").because(format!("run {id} is {}: {reason}", status.as_str())))
}
