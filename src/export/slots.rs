//! Notices slots that nobody exported: the host was down, or its timer did not fire.
//!
//! `schedule.json -> the newest occurrence: 15 minutes old, without a run? -> the caller opens it`
//!
//! Only the newest occurrence is made up for: what it exports is the inventory as it is now, and so would be
//! what an older one does. Older ones are noted in `schedule.json` and said once in a line of the log.
//!
//! Start reading at [`missed`].

use std::time::Duration;

use tracing::{info, warn};

use super::books::Books;
use crate::clock::Timestamp;
use crate::error::{Kind, Result};
use crate::model::SCHEMA_VERSION;
use crate::model::run::RunId;
use crate::model::upkeep::ScheduleNote;
use crate::schedule::Schedule;
use crate::store::{self, Tag};

/// How old an occurrence is before it counts as missed: until then the timer may open it (contract,
/// section 4).
pub const MISSED_AFTER: Duration = Duration::from_secs(15 * 60);

/// Most older occurrences that are looked at when there is a new one, newest first.
const OLDER_LOOKS_MAX: usize = 20;

/// Most missed occurrences that `schedule.json` keeps.
pub const MISSED_KEPT_MAX: usize = 100;

/// The slot of a target that has to be opened now, because the timer did not. `is_disabled`: the timer is
/// switched off, so that nothing is missed.
///
/// Asks for `schedule.json` and at most one run.json, but for the first time it sees an occurrence. Safe to
/// repeat: opening a slot is.
///
/// # Errors
/// What the store failed with.
pub async fn missed(
    books: &Books,
    schedule: &Schedule,
    is_disabled: bool,
) -> Result<Option<Timestamp>> {
    let now = books.now();
    let (note, tag) = noted(books, schedule, now).await?;
    let Some(newest) = schedule.newest_occurrence(now) else { return Ok(None) };
    if now.since(newest) < MISSED_AFTER {
        return Ok(None);
    }
    if newest > note.watched_until {
        let older = match is_disabled {
            true => Vec::new(),
            false => older(books, schedule, &note, newest).await?,
        };
        save(books, note.clone(), &tag, newest, older).await?;
    }
    let is_old = newest.date() < note.since.date();
    if is_disabled || is_old || has_run(books, newest).await? {
        return Ok(None);
    }
    info!(slot = %newest, "Slot {newest} of target {} was missed and is opened now", books.target());
    Ok(Some(newest))
}

/// What stands in `schedule.json`; it is written anew for a schedule that it does not name.
async fn noted(books: &Books, schedule: &Schedule, now: Timestamp) -> Result<(ScheduleNote, Tag)> {
    let (path, store) = (books.layout.schedule(), books.store.as_ref());
    let present = books.read::<ScheduleNote>(&path).await?;
    let note = ScheduleNote {
        schema_version: SCHEMA_VERSION,
        schedule: schedule.text().to_owned(),
        since: now,
        watched_until: now,
        missed: present.as_ref().map(|(note, _)| note.missed.clone()).unwrap_or_default(),
    };
    match present {
        Some((present, tag)) if present.schedule == note.schedule => Ok((present, tag)),
        Some((_, tag)) => Ok((note.clone(), store::replace(store, &path, &note, &tag).await?)),
        None => Ok((note.clone(), store::create(store, &path, &note).await?)),
    }
}

/// The occurrences before `newest` that nobody exported and nobody noted yet, oldest first.
async fn older(
    books: &Books,
    schedule: &Schedule,
    note: &ScheduleNote,
    newest: Timestamp,
) -> Result<Vec<Timestamp>> {
    let mut found = Vec::new();
    let mut at = newest;
    for _ in 0..OLDER_LOOKS_MAX {
        let before = Timestamp::from_unix_ms(at.unix_ms() - 1000);
        match before.and_then(|before| schedule.newest_occurrence(before)) {
            // That one was the newest when it was last looked, and was opened then.
            Some(slot) if slot > note.watched_until => at = slot,
            _ => break,
        }
        if !has_run(books, at).await? {
            found.push(at);
        }
    }
    found.reverse();
    Ok(found)
}

/// Notes that everything before `newest` is dealt with, and `older` missed.
async fn save(
    books: &Books,
    mut note: ScheduleNote,
    tag: &Tag,
    newest: Timestamp,
    older: Vec<Timestamp>,
) -> Result<()> {
    note.watched_until = newest;
    note.missed.extend(&older);
    let n_over = note.missed.len().saturating_sub(MISSED_KEPT_MAX);
    note.missed.drain(..n_over);
    match store::replace(books.store.as_ref(), &books.layout.schedule(), &note, tag).await {
        // Somebody else looks at this moment, and says it.
        Err(err) if err.kind() == Kind::Conflict => return Ok(()),
        saved => drop(saved?),
    }
    if let (Some(first), Some(last)) = (older.first(), older.last()) {
        warn!(
            "{} slots of target {} from {first} to {last} were missed, and are not made up for",
            older.len(),
            books.target()
        );
    }
    Ok(())
}

/// Whether the run of `slot` was opened, also if it was skipped.
async fn has_run(books: &Books, slot: Timestamp) -> Result<bool> {
    let id = RunId::of_slot(books.target(), slot);
    // What stands in it does not matter, nor which version wrote it.
    Ok(books.store.read(&books.layout.run(&id)).await?.is_some())
}
