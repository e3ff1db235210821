//! One piece of work on a run: what a message of the queue asks for, within a slice of time.
//!
//! `message -> is the run in work? -> plan | carry a shard | commit -> messages for what is next`
//!
//! Nothing but the store and the messages carries state from one step to the next. A message says what
//! to look at, never how far it is: one that comes twice, late or out of order costs work, not data.
//!
//! Start reading at [`step`].

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::books::{Books, Checkpoints};
use super::carry::{self, CarryEnding};
use super::commit::{self, Committed};
use super::end::{fail, finish};
use super::plan;
use super::slice::Slice;
use super::{Job, World};
use crate::clock::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::model::active::Cancel;
use crate::model::plan::Plan;
use crate::model::run::{Progress, RunDocument, RunError, RunId, Status};
use crate::model::target::Inventory;
use crate::secret::Said;

/// Version of the messages this program writes, and the newest it reads.
pub const MESSAGE_VERSION: u32 = 1;

/// The first pause of a run that is put off (contract, section 4). It doubles each time.
pub const PAUSE_FIRST: Duration = Duration::from_secs(60);

/// The longest pause.
pub const PAUSE_MAX: Duration = Duration::from_secs(30 * 60);

/// A message of the queue `export-work`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// [`MESSAGE_VERSION`].
    pub v: u32,
    /// What is to be done.
    pub r#do: Do,
    /// Name of the target.
    pub target: String,
    /// Id of the run.
    pub run_id: RunId,
    /// Number of the shard, for [`Do::Shard`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<u32>,
}

/// What a message asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Do {
    /// Make the plan.
    Plan,
    /// Carry a shard.
    Shard,
    /// Commit, if all shards are done.
    Commit,
}

impl Message {
    /// Asks for the plan of the run `run_id`.
    pub fn plan(target: &str, run_id: &RunId) -> Self {
        let target = target.to_owned();
        Self { v: MESSAGE_VERSION, r#do: Do::Plan, target, run_id: run_id.clone(), shard: None }
    }

    fn shard(&self, shard: u32) -> Self {
        Self { r#do: Do::Shard, shard: Some(shard), ..self.clone() }
    }

    fn commit(&self) -> Self {
        Self { r#do: Do::Commit, shard: None, ..self.clone() }
    }
}

/// What follows from a step. Whatever it is, the message is dealt with.
#[derive(Debug)]
pub enum After {
    /// These go on the queue, if any.
    Go(Vec<Message>),
    /// The run is put off: nothing goes on before then, and maintenance brings it back.
    PutOff {
        /// Until when.
        until: Timestamp,
        /// Why, if it was this step that put it off.
        because: Option<Error>,
    },
    /// This step ended the run badly.
    Failed(Error),
    /// The run ended, by this step or before.
    Ended,
    /// Somebody else does this work.
    Lost,
}

/// Where a run stands.
pub(super) enum Standing {
    /// It goes on.
    InWork(Box<RunDocument>),
    /// It ended, or there is no such run.
    Ended,
}

/// Where the run `id` stands. It is not in work if its manifest or cancel.json exists, or its run.json
/// says that it ended.
pub(super) async fn standing(books: &Books, id: &RunId) -> Result<Standing> {
    let run = match books.run(id).await? {
        Some(run) if !run.status.is_ended() => run,
        _ => return Ok(Standing::Ended),
    };
    let cancel = books.layout.cancel(id);
    let (manifest, cancel) =
        futures::future::try_join(books.manifest(id), books.read::<Cancel>(&cancel)).await?;
    Ok(match manifest.is_none() && cancel.is_none() {
        true => Standing::InWork(Box::new(run)),
        false => Standing::Ended,
    })
}

impl RunDocument {
    /// Until when it is put off, if it is. A time that no pause can give was written by a clock that
    /// was wrong.
    pub fn waits_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.not_before.filter(|until| *until > now && until.since(now) <= PAUSE_MAX)
    }
}

/// Does what `message` asks for, within `slice`.
///
/// # Errors
/// What the store failed with. Nothing is lost: the message may be delivered again.
pub async fn step(world: &World, job: &Job, message: &Message, slice: &Slice) -> Result<After> {
    let books = world.books(job);
    let id = &message.run_id;
    let run = match standing(&books, id).await? {
        Standing::InWork(run) => run,
        Standing::Ended => {
            // Whoever ended it may have died behind that.
            finish(&books, id).await?;
            return Ok(After::Ended);
        }
    };
    if let Some(until) = run.waits_until(books.now()) {
        return Ok(After::PutOff { until, because: None });
    }
    if let Err(err) = check_workspace(&run, &job.inventory) {
        // This process may be the one whose settings are of yesterday, so the run goes on elsewhere.
        return put_off(&books, job.idle_max, &run, err, false).await;
    }
    let mut got_further = false;
    let done = match message.r#do {
        Do::Plan => make_plan(world, job, &books, &run, message, slice).await,
        Do::Shard => carry_shard(world, job, &books, &run, message, slice, &mut got_further).await,
        Do::Commit => try_commit(world, job, &books, &run, message, slice).await,
    };
    match done {
        Ok(after) => Ok(after),
        Err(err) if err.kind() == Kind::Conflict => Ok(After::Lost),
        Err(err) => stopped(&books, job.idle_max, &run, err, got_further).await,
    }
}

/// Refuses `run` if it is of another workspace than `ours`: two inventories in one export would look like one.
///
/// # Errors
/// [`Kind::Config`].
pub fn check_workspace(run: &RunDocument, ours: &Inventory) -> Result<()> {
    match run.workspace.as_ref().filter(|inventory| !inventory.is(ours)) {
        None => Ok(()),
        Some(other) => Err(Error::new(Kind::Config, "carry a run")
            .because(format!(
                "it was begun for the workspace {other}, and the target {} names another now",
                run.target
            ))
            .advise("export again; each workspace should have a target name of its own")),
    }
}

/// What follows for the run of `message` from `err`, which kept its [`World`] from being made: the
/// target cannot be signed in to, say. `idle_max` is how long a run may wait without saving anything.
///
/// # Errors
/// What the store failed with. Nothing is lost: the message may be delivered again.
pub async fn without_world(
    books: &Books,
    idle_max: Duration,
    message: &Message,
    err: Error,
) -> Result<After> {
    let Standing::InWork(run) = standing(books, &message.run_id).await? else {
        finish(books, &message.run_id).await?;
        return Ok(After::Ended);
    };
    match run.waits_until(books.now()) {
        Some(until) => Ok(After::PutOff { until, because: None }),
        None => stopped(books, idle_max, &run, err, false).await,
    }
}

/// What follows for `run` from `err`, which stopped a step: it waits, or it ends.
async fn stopped(
    books: &Books,
    idle_max: Duration,
    run: &RunDocument,
    err: Error,
    got_further: bool,
) -> Result<After> {
    match err.kind() {
        // The document is left alone, and so is its run.
        Kind::Newer => Err(err),
        kind if kind.is_retryable() => put_off(books, idle_max, run, err, got_further).await,
        _ => end_badly(books, run, err).await,
    }
}

async fn make_plan(
    world: &World,
    job: &Job,
    books: &Books,
    run: &RunDocument,
    message: &Message,
    slice: &Slice,
) -> Result<After> {
    let Some(plan) = plan::make(world, job, books, run, slice).await? else {
        return Ok(After::Go(vec![message.clone()]));
    };
    let noted = books.note(&run.run_id, |run| {
        let is_new = run.status == Status::Queued;
        if is_new {
            run.status = Status::Running;
            run.progress = progress(&plan, &Checkpoints::new());
        }
        is_new
    });
    noted.await?;
    let wanted = plan.request.max_assets.unwrap_or(u64::MAX);
    world.observer.planned(plan.expected.min(wanted));
    work_left(books, message).await.map(After::Go)
}

async fn carry_shard(
    world: &World,
    job: &Job,
    books: &Books,
    run: &RunDocument,
    message: &Message,
    slice: &Slice,
    got_further: &mut bool,
) -> Result<After> {
    let Some(plan) = books.plan(&run.run_id).await? else {
        return Ok(After::Go(vec![Message { shard: None, r#do: Do::Plan, ..message.clone() }]));
    };
    let shard = plan.shards.iter().find(|shard| Some(shard.shard) == message.shard);
    let Some(shard) = shard else {
        warn!(run.id = %run.run_id, "A message asks for a shard that the run does not have");
        return Ok(After::Go(Vec::new()));
    };
    let carried = carry::shard(world, job, books, run, &plan, shard, slice).await?;
    *got_further = carried.got_further;
    let mut messages = match carried.ending {
        CarryEnding::PutOff(err) => {
            return put_off(books, job.idle_max, run, err, carried.got_further).await;
        }
        CarryEnding::SliceOver => vec![message.clone()],
        CarryEnding::Done => {
            let checkpoints = books.checkpoints(&plan).await?;
            let found = progress(&plan, &checkpoints);
            let noted = books.note(&run.run_id, |run| {
                let is_new = !run.status.is_ended() && run.progress != found;
                if is_new {
                    // Whoever made the plan may have died before that.
                    run.status = Status::Running;
                    run.progress = found;
                }
                is_new
            });
            noted.await?;
            let is_done = commit::left(&plan, &checkpoints).is_empty();
            if is_done { vec![message.commit()] } else { Vec::new() }
        }
    };
    if carried.got_further && run.pauses > 0 {
        let noted = books.note(&run.run_id, |run| {
            let is_new = run.pauses > 0 && !run.status.is_ended();
            if is_new {
                // The next time it is put off is the first in a row again.
                run.pauses = 0;
                run.waits_for = None;
            }
            is_new
        });
        noted.await?;
        // It was given out alone, to try whether the run goes on.
        for other in work_left(books, message).await? {
            if !messages.contains(&other) {
                messages.push(other);
            }
        }
    }
    Ok(After::Go(messages))
}

/// How far a run has come, by its plan and checkpoints.
pub(super) fn progress(plan: &Plan, checkpoints: &Checkpoints) -> Progress {
    let (n_shards, n_left) = (plan.shards.len(), commit::left(plan, checkpoints).len());
    let number = |n| u32::try_from(n).unwrap_or(u32::MAX);
    Progress {
        expected: plan.expected,
        exported: checkpoints.values().map(|found| found.exported()).sum(),
        shards_total: number(n_shards),
        shards_done: number(n_shards - n_left),
    }
}

async fn try_commit(
    world: &World,
    job: &Job,
    books: &Books,
    run: &RunDocument,
    message: &Message,
    slice: &Slice,
) -> Result<After> {
    let Some(plan) = books.plan(&run.run_id).await? else { return Ok(After::Go(Vec::new())) };
    match commit::commit(world, job, books, run, &plan, slice).await? {
        Committed::Done => {
            finish(books, &run.run_id).await?;
            Ok(After::Ended)
        }
        // Whoever carries them emits what is next.
        Committed::NotAllDone => Ok(After::Go(Vec::new())),
        Committed::SetBack(shards) => {
            Ok(After::Go(shards.into_iter().map(|shard| message.shard(shard)).collect()))
        }
        Committed::SliceOver => Ok(After::Go(vec![message.clone()])),
    }
}

/// What is to be done next for the run of `message`: its plan, its shards that are not done, or its
/// commit.
///
/// # Errors
/// What the store failed with.
pub(super) async fn work_left(books: &Books, message: &Message) -> Result<Vec<Message>> {
    let Some(plan) = books.plan(&message.run_id).await? else {
        return Ok(vec![Message::plan(books.target(), &message.run_id)]);
    };
    let left = commit::left(&plan, &books.checkpoints(&plan).await?);
    Ok(match left.is_empty() {
        true => vec![message.commit()],
        false => left.into_iter().map(|shard| message.shard(shard)).collect(),
    })
}

/// When `run` last got further, or was begun or resumed, as far as that can be known.
///
/// # Errors
/// What the store failed with.
async fn last_progress(books: &Books, run: &RunDocument) -> Result<Option<Timestamp>> {
    let now = books.now();
    let begun = [Some(run.started_at), run.resumed_at];
    let checkpoints = match books.plan(&run.run_id).await? {
        Some(plan) => books.checkpoints(&plan).await?,
        None => Checkpoints::new(),
    };
    let progressed = checkpoints.values().map(|checkpoint| checkpoint.progressed_at);
    Ok(progressed.chain(begun).flatten().filter(|at| is_possible(*at, now)).max())
}

/// How far clocks of two machines may be apart.
const SKEW_MAX: Duration = Duration::from_secs(5 * 60);

/// Whether `at` can have been noted by `now`. A time further ahead was written by a clock that was wrong.
pub(super) fn is_possible(at: Timestamp, now: Timestamp) -> bool {
    at <= now.plus(SKEW_MAX)
}

/// The failure of a run that waited for too long, if it did.
///
/// # Errors
/// What the store failed with.
pub(super) async fn deadline(
    books: &Books,
    run: &RunDocument,
    idle_max: Duration,
) -> Result<Option<Error>> {
    let now = books.now();
    let is_young = is_possible(run.started_at, now) && now.since(run.started_at) < idle_max;
    if is_young {
        return Ok(None);
    }
    let idle = last_progress(books, run).await?.map_or(Duration::ZERO, |at| now.since(at));
    if idle < idle_max {
        return Ok(None);
    }
    let hours = idle.as_secs_f64() / 3600.0;
    let mut err = Error::new(Kind::Deadline, "wait for the service")
        .because(format!("run {} has saved nothing for {hours:.1} hours", run.run_id))
        .advise("resume it when the cause is gone, or set a longer EASM_RUN_HOURS_MAX");
    if let Some(cause) = &run.waits_for {
        err = err.with("last", &cause.message);
    }
    Ok(Some(err))
}

/// Puts `run` off because of `err`, or ends it if it waited for too long.
async fn put_off(
    books: &Books,
    idle_max: Duration,
    run: &RunDocument,
    err: Error,
    got_further: bool,
) -> Result<After> {
    let id = &run.run_id;
    let cause =
        RunError { code: err.kind().facts().code.to_owned(), message: Said::new(err.to_string()) };
    // As it stands now: the step took its time.
    if let Some(now) = books.run(id).await?.filter(|now| now.resumes == run.resumes) {
        let waiting = RunDocument { waits_for: Some(cause.clone()), ..now };
        if let Some(deadline) = deadline(books, &waiting, idle_max).await? {
            return end_badly(books, &waiting, deadline).await;
        }
    }
    let asked = err.kind().retry_after().unwrap_or_default();
    let is_first = AtomicBool::new(false);
    let noted = books.note(id, |run| {
        let now = books.now();
        // All shards meet the same outage: the first of them puts the run off.
        let is_new = !run.status.is_ended() && run.waits_until(now).is_none();
        is_first.store(is_new, Ordering::Relaxed);
        if !is_new {
            return false;
        }
        run.waits_for = Some(cause.clone());
        run.pauses = if got_further { 1 } else { run.pauses.saturating_add(1) };
        run.not_before = Some(now.plus(pause(run.pauses).max(asked).min(PAUSE_MAX)));
        true
    });
    let run = noted.await?;
    // Saving that may have taken longer than the pause.
    Ok(match run.status.is_ended() {
        true => After::Ended,
        false => After::PutOff {
            until: run.not_before.unwrap_or_else(|| books.now()),
            because: is_first.into_inner().then_some(err),
        },
    })
}

/// The pause number `n`, from 1.
fn pause(n: u32) -> Duration {
    PAUSE_FIRST.saturating_mul(1 << n.saturating_sub(1).min(16)).min(PAUSE_MAX)
}

/// Ends the run that was `seen` so with `err`.
async fn end_badly(books: &Books, seen: &RunDocument, err: Error) -> Result<After> {
    let id = &seen.run_id;
    match fail(books, seen, &err).await {
        Ok(run) if run.status == Status::Failed => Ok(After::Failed(err)),
        Ok(_) => Ok(After::Ended),
        // Resumed meanwhile: what failed before that does not count.
        Err(resumed) if resumed.kind() == Kind::Conflict => Ok(After::Lost),
        // What ended it matters more than that it cannot be noted.
        Err(unnoted) => {
            warn!(run.id = %id, "Could not note in run.json that the run failed: {unnoted}");
            Err(err)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_written_as_the_queue_needs_it() {
        let id = RunId::parse("20261122T060000Z-1a2b3c4d").expect("an id");
        let message = Message::plan("contoso", &id);
        let check = |message: &Message, want: &str| {
            let text = serde_json::to_string(message).expect("JSON");
            assert_eq!(text, want);
            assert_eq!(&serde_json::from_str::<Message>(&text).expect("a message"), message);
        };
        let id = "20261122T060000Z-1a2b3c4d";
        let rest = format!(r#""target":"contoso","runId":"{id}""#);
        check(&message, &format!(r#"{{"v":1,"do":"plan",{rest}}}"#));
        check(&message.shard(3), &format!(r#"{{"v":1,"do":"shard",{rest},"shard":3}}"#));
        check(&message.commit(), &format!(r#"{{"v":1,"do":"commit",{rest}}}"#));
    }

    #[test]
    fn pauses_grow_from_one_to_thirty_minutes() {
        let minutes: Vec<u64> = (1..8).map(|n| pause(n).as_secs() / 60).collect();
        assert_eq!(minutes, [1, 2, 4, 8, 16, 30, 30]);
    }
}
