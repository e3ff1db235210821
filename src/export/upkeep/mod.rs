//! Deletes what is kept no longer: complete runs older than the setting, what is left of others, parts that
//! no manifest lists, idempotency keys that are used up.
//!
//! `upkeep.json: is a look due? -> active/, latest.json, history.json -> runs/, parts -> each run that may go`
//!
//! # Invariants
//! - A run is marked in its run.json before anything of it goes, under the tag that was read. Whoever
//!   resumes or publishes it changes the same document, so one of the two is first and the other sees it.
//! - The manifest goes before the parts, and run.json last ([`erase`]). Whoever dies in between leaves a mark
//!   by which the next look goes on.
//! - What `latest.json` names stays, and so do the newest complete run and everything in work.
//! - What cannot be read is left alone.
//!
//! Start reading at [`retain`].

mod erase;
mod keys;
mod survey;

use std::time::Duration;

use tracing::{info, warn};

use super::books::Books;
use super::end::delete_strays;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::model::SCHEMA_VERSION;
use crate::model::run::{RunId, Status};
use crate::model::upkeep::UpkeepNote;
use erase::{Erased, Limits};
use survey::Survey;

pub use keys::forget_keys;

/// Between two looks for what may go. A look lists everything, and ages are counted in days.
pub const LOOK_EVERY: Duration = Duration::from_secs(6 * 60 * 60);

/// How long what is left of runs that did not complete is kept (contract, section 2).
pub const LEFTOVER_DAYS: u32 = 14;

/// Most runs that one call deletes.
const RUNS_MAX: usize = 20;

/// Most run.json that one call reads to find those.
const LOOKS_MAX: usize = 500;

/// Most files that one call deletes. With a few milliseconds each, eight at once, that is about a minute.
const FILES_MAX: usize = 20_000;

/// Most complete runs that are looked through for stray parts in one call.
const STRAY_RUNS_MAX: usize = 50;

/// How long after its end a run is left to those who may still be at it: longer than any slice.
const QUIET: Duration = Duration::from_secs(60 * 60);

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How long runs are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Days that complete runs are kept (`EASM_RETENTION_DAYS`); 0: for ever.
    pub days: u32,
}

impl Retention {
    /// How old a complete run is when it goes. `None`: it stays.
    fn complete(self) -> Option<Duration> {
        (self.days > 0).then(|| DAY.saturating_mul(self.days))
    }

    /// How old what is left of another run is when it goes.
    fn leftover(self) -> Duration {
        DAY.saturating_mul(match self.days {
            0 => LEFTOVER_DAYS,
            days => days.min(LEFTOVER_DAYS),
        })
    }
}

/// Deletes of one target what is kept no longer, if it was not looked for within [`LOOK_EVERY`]; a call
/// has limits, and the next one goes on where it ended. For `Maintenance`, every five minutes: mostly one
/// request.
///
/// Safe to repeat after any error or crash. What fails for one run is logged and tried again with the
/// next look.
///
/// # Errors
/// What the store failed with before anything could be looked at, or where trying again may help.
pub async fn retain(books: &Books, retention: Retention) -> Result<()> {
    let path = books.layout.upkeep();
    let present = books.read::<UpkeepNote>(&path).await?.map(|(note, _)| note);
    let now = books.now();
    let is_due = present.as_ref().is_none_or(|note| {
        note.goes_on
            || note.retention_days != retention.days
            // Also if a clock that was wrong wrote it.
            || note.looked_at > now
            || now.since(note.looked_at) >= LOOK_EVERY
    });
    if !is_due {
        return Ok(());
    }
    let note = look(books, retention, present.as_ref()).await?;
    books.change(&path, |_: Option<UpkeepNote>| Ok((note.clone(), true))).await.map(drop)
}

/// Looks once through everything of the target.
async fn look(
    books: &Books,
    retention: Retention,
    before: Option<&UpkeepNote>,
) -> Result<UpkeepNote> {
    let now = books.now();
    let survey = Survey::make(books).await?;
    let after = before.and_then(|note| RunId::parse(note.after.as_deref()?));
    let (after, n_gone) = delete_runs(books, &survey, retention, after).await?;
    if n_gone > 0 {
        info!("Deleted {n_gone} runs of target {} that are kept no longer", books.target());
    }
    let strays_until = before.and_then(|note| note.strays_until);
    let (strays_until, has_more_strays) = look_for_strays(books, &survey, strays_until).await?;
    Ok(UpkeepNote {
        schema_version: SCHEMA_VERSION,
        looked_at: now,
        retention_days: retention.days,
        goes_on: after.is_some() || has_more_strays,
        after: after.map(|id| id.to_string()),
        strays_until: Some(strays_until),
    })
}

/// Deletes runs that may go, beginning behind `after`. Gives behind which the next call goes on, if this one
/// ended at its limits, and how many are gone.
async fn delete_runs(
    books: &Books,
    survey: &Survey,
    retention: Retention,
    after: Option<RunId>,
) -> Result<(Option<RunId>, usize)> {
    let mut limits = Limits { files: FILES_MAX };
    let (mut n_gone, mut n_looks) = (0, 0);
    let mut last = after.clone();
    for (id, lies) in survey.runs_behind(after.as_ref()) {
        if !survey.may_go(id, *lies, retention, books.now()) {
            continue;
        }
        if n_gone == RUNS_MAX || n_looks == LOOKS_MAX {
            return Ok((last, n_gone));
        }
        n_looks += 1;
        match erase::run(books, survey, retention, id, &mut limits).await {
            Ok(Erased::Gone) => n_gone += 1,
            Ok(Erased::Kept) => {}
            // It was begun, so it is looked at again.
            Ok(Erased::Begun) => return Ok((last.or_else(|| before(id)), n_gone)),
            Err(err) if err.kind().is_retryable() => return Err(err),
            Err(err) => warn!(run.id = %id, "Could not delete run {id}, which is too old: {err}"),
        }
        last = Some(id.clone());
    }
    Ok((None, n_gone))
}

/// An id that comes before `id` and all of its second.
fn before(id: &RunId) -> Option<RunId> {
    let second = id.time()?.unix_ms() - 1000;
    Some(RunId::new(Timestamp::from_unix_ms(second)?, 0))
}

/// Deletes the parts that their manifests do not list of runs that completed since `until`: a worker that
/// died may have written one after the others were deleted. Gives up to when that is done, and
/// whether there are more.
async fn look_for_strays(
    books: &Books,
    survey: &Survey,
    until: Option<Timestamp>,
) -> Result<(Timestamp, bool)> {
    let now = books.now();
    let quiet_since = Timestamp::from_unix_ms(
        now.unix_ms() - i64::try_from(QUIET.as_millis()).unwrap_or(i64::MAX),
    )
    .unwrap_or(now);
    let mut complete: Vec<(Timestamp, &RunId)> = survey
        .history
        .iter()
        .filter(|entry| entry.status == Status::Complete)
        .filter_map(|entry| Some((entry.finished_at?, &entry.run_id)))
        .filter(|(at, _)| *at <= quiet_since && until.is_none_or(|until| *at > until))
        .collect();
    complete.sort();
    let has_more = complete.len() > STRAY_RUNS_MAX;
    let mut done_until = until;
    for (at, id) in complete.into_iter().take(STRAY_RUNS_MAX) {
        let looked = async {
            let run = books.run(id).await?;
            match books.manifest(id).await? {
                Some(manifest) if run.is_some_and(|run| run.deleted_at.is_none()) => {
                    delete_strays(books, &manifest).await
                }
                _ => Ok(()),
            }
        };
        match looked.await {
            Err(err) if err.kind().is_retryable() => return Err(err),
            Err(err) => warn!(run.id = %id, "Could not look for stray parts of run {id}: {err}"),
            Ok(()) => {}
        }
        done_until = Some(at);
    }
    Ok((if has_more { done_until.unwrap_or(quiet_since) } else { quiet_since }, has_more))
}
