//! Looks after runs in work: what is due goes on, what stalled is given out again, what ended is
//! brought to its end. The function `Maintenance` does this every five minutes; in one process the
//! driver does it for its own run.
//!
//! `active/ -> ended? finish it | waited too long? deadline | due or stalled? messages for what is left`
//!
//! Start reading at [`care`].

use std::time::Duration;

use tracing::{info, warn};

use super::books::Books;
use super::end::{delete_strays, fail, finish};
use super::step::{Message, Standing, deadline, is_possible, standing, work_left};
use crate::clock::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::model::history::{Entry, History};
use crate::model::run::{RunDocument, RunId, Status};

/// How long nothing is saved before work is given out again, the first time. It doubles each time: a
/// message stays hidden for ten minutes when its host dies.
pub const STALL_FIRST: Duration = Duration::from_secs(20 * 60);

/// The longest such time.
pub const STALL_MAX: Duration = Duration::from_secs(6 * 60 * 60);

/// How long after its end a run is looked at once more: a worker that was on its way when it ended may
/// have written a part, or even the manifest. That is as long as the longest slice.
const LATE: Duration = Duration::from_secs(60 * 60);

/// Most runs that are looked at once more.
const LATE_RUNS_MAX: usize = 4;

/// Looks once after everything of a target that is in work. `idle_max` is how long a run may wait
/// without saving anything (`EASM_RUN_HOURS_MAX`). What goes on the queue is added to `messages`, run by
/// run: that it was given out is saved already, so it counts also if this is given up halfway.
///
/// Safe to repeat, and to do twice at once. What fails for one run is logged and does not keep the
/// others from being looked after.
///
/// # Errors
/// What the store failed with before anything could be looked at.
pub async fn care(books: &Books, idle_max: Duration, messages: &mut Vec<Message>) -> Result<()> {
    for active in books.active().await? {
        let looked = async {
            books.open_run(&active).await?;
            look_after(books, &active.run_id, idle_max, Eagerness::WhenStalled).await
        };
        match looked.await {
            Ok(of_run) => messages.extend(of_run),
            Err(err) => warn!(run.id = %active.run_id, "Could not look after a run: {err}"),
        }
    }
    look_at_late(books).await;
    Ok(())
}

/// Brings to its end what ended and has not everything that follows from it: whoever ended it may have
/// died behind that. For commands, before they do anything else.
///
/// What fails is only logged: it is not what the command is for.
pub async fn repair(books: &Books) {
    let repaired = async {
        for active in books.active().await? {
            books.open_run(&active).await?;
            finish(books, &active.run_id).await?;
        }
        look_at_late(books).await;
        Ok::<_, Error>(())
    };
    if let Err(err) = repaired.await {
        warn!("Could not look for runs that ended half: {err}");
    }
}

/// Has the run `id` looked after with the next [`care`], as one that was put off until now: nobody could
/// be told what is to be done for it.
///
/// # Errors
/// What the store failed with, and if there is no such run.
pub async fn make_due(books: &Books, id: &RunId) -> Result<()> {
    let noted = books.note(id, |run| {
        let is_new = !run.status.is_ended() && run.not_before.is_none();
        if is_new {
            run.not_before = Some(books.now());
        }
        is_new
    });
    noted.await.map(drop)
}

/// When work is given out again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Eagerness {
    /// At once, unless the run is put off.
    AtOnce,
    /// When it was put off and is due, or nothing was saved for long.
    WhenStalled,
}

/// Looks after the run `id`. Gives what is to be done for it now.
///
/// # Errors
/// What the store failed with.
pub(super) async fn look_after(
    books: &Books,
    id: &RunId,
    idle_max: Duration,
    eagerness: Eagerness,
) -> Result<Vec<Message>> {
    let Standing::InWork(run) = standing(books, id).await? else {
        finish(books, id).await?;
        return Ok(Vec::new());
    };
    let now = books.now();
    if run.waits_until(now).is_some() {
        if let Some(err) = deadline(books, &run, idle_max).await? {
            give_up(books, &run, &err).await?;
        }
        return Ok(Vec::new());
    }
    let (saved, progressed) = last_saved(books, &run, now).await?;
    let requeues = match run.requeued_at {
        // Something came of it.
        Some(at) if progressed.is_some_and(|progressed| progressed > at) => 0,
        _ => run.requeues,
    };
    let is_due = run.not_before.is_some();
    let patience = STALL_FIRST.saturating_mul(1 << requeues.min(16)).min(STALL_MAX);
    let is_stalled = saved >= patience;
    if !is_due && !is_stalled && eagerness == Eagerness::WhenStalled {
        return Ok(Vec::new());
    }
    if let Some(err) = deadline(books, &run, idle_max).await? {
        give_up(books, &run, &err).await?;
        return Ok(Vec::new());
    }
    // Read before it is noted that it is given out.
    let mut messages = work_left(books, &Message::plan(books.target(), id)).await?;
    if run.pauses > 0 && eagerness == Eagerness::WhenStalled {
        messages = vec![probe(messages, run.pauses)];
    }
    // Who drives a run of its own need not say that it goes on.
    if is_due || eagerness == Eagerness::WhenStalled {
        let requeues = if is_due { 0 } else { requeues + 1 };
        if !note_requeued(books, &run, requeues).await? {
            // Somebody else does the same at this moment.
            return Ok(Vec::new());
        }
    }
    if eagerness == Eagerness::WhenStalled {
        let why = if is_due { "is due" } else { "stalled" };
        info!(run.id = %id, "Run {id} {why}; its work is given out again");
    }
    Ok(messages)
}

/// The one of `messages` that tries whether a run, which waited `n_pauses` times in a row, goes on. The others
/// are given out when it does: what hangs would otherwise hold all that a host works on at once. Each time
/// it is another one, since what fails can be one shard's own.
fn probe(mut messages: Vec<Message>, n_pauses: u32) -> Message {
    let at = usize::try_from(n_pauses).unwrap_or(0) % messages.len();
    messages.swap_remove(at)
}

/// Ends `run` with `err`, unless it goes on meanwhile.
async fn give_up(books: &Books, run: &RunDocument, err: &Error) -> Result<()> {
    match fail(books, run, err).await {
        Err(err) if err.kind() == Kind::Conflict => Ok(()),
        failed => failed.map(drop),
    }
}

/// Notes that the work of the run, which was `seen` so, is given out again. `false`: somebody else did
/// so meanwhile.
async fn note_requeued(books: &Books, seen: &RunDocument, requeues: u32) -> Result<bool> {
    let now = books.now();
    let is_same = |run: &RunDocument| {
        (run.not_before, run.requeued_at) == (seen.not_before, seen.requeued_at)
    };
    let noted = books.note(&seen.run_id, |run| {
        let is_new = is_same(run) && !run.status.is_ended();
        if is_new {
            run.not_before = None;
            run.requeued_at = Some(now);
            run.requeues = requeues;
        }
        is_new
    });
    let run = noted.await?;
    Ok(!run.status.is_ended() && run.requeued_at == Some(now) && run.not_before.is_none())
}

/// How long ago anything of `run` was saved, and when it last got further.
async fn last_saved(
    books: &Books,
    run: &RunDocument,
    now: Timestamp,
) -> Result<(Duration, Option<Timestamp>)> {
    let checkpoints = match books.plan(&run.run_id).await? {
        Some(plan) => books.checkpoints(&plan).await?,
        None => Default::default(),
    };
    let saved = checkpoints.values().map(|checkpoint| checkpoint.updated_at);
    let saved = saved.chain([run.updated_at, run.started_at]);
    let progressed = checkpoints.values().filter_map(|checkpoint| checkpoint.progressed_at);
    let is_known = |at: &Timestamp| is_possible(*at, now);
    // What was only written by clocks that were wrong counts as long ago.
    let saved = saved.filter(is_known).max().map_or(Duration::MAX, |at| now.since(at));
    Ok((saved, progressed.filter(is_known).max()))
}

/// Looks once more at runs that ended a short time ago. What fails is only logged.
async fn look_at_late(books: &Books) {
    let looked = async {
        let history = books.read::<History>(&books.layout.history()).await?;
        let now = books.now();
        let ended = history.map(|(history, _)| history.runs).unwrap_or_default().into_iter();
        let mut late: Vec<Entry> = ended
            .filter(|entry| entry.finished_at.is_some_and(|at| now.since(at) <= LATE))
            .collect();
        late.sort_by_key(|entry| std::cmp::Reverse(entry.finished_at));
        for entry in late.iter().take(LATE_RUNS_MAX) {
            let id = &entry.run_id;
            if let Some(manifest) = books.manifest(id).await? {
                match entry.status {
                    Status::Complete => delete_strays(books, &manifest).await?,
                    _ => drop(finish(books, id).await?),
                }
            }
        }
        Ok::<_, Error>(())
    };
    if let Err(err) = looked.await {
        warn!("Could not look once more at runs that ended: {err}");
    }
}
