//! `ExportTimer`: opens a run per target for the slot, and hands its planning to the queue.

use std::time::Duration;

use futures::future::FutureExt;
use futures::stream::{self, StreamExt};
use tracing::error;

use super::{App, opened, out_of_time};
use crate::clock::Timestamp;
use crate::config::TargetSettings;
use crate::error::Result;
use crate::export::books::Books;
use crate::export::open::Opening;
use crate::export::step::Message;
use crate::host::payload::Timer;
use crate::model::run::Trigger;
use crate::schedule::Schedule;

/// How far ahead of its time a timer may go off (protocol, section 5.3).
const EARLY: Duration = Duration::from_secs(5);

/// The same for a timer that may go off again so soon.
const EARLY_UNBOOKED: Duration = Duration::from_secs(1);

/// A timer that goes off less often is booked.
const UNBOOKED_EVERY: Duration = Duration::from_secs(60);

/// Before this no host ran: a date that stands for "never".
const NEVER_BEFORE_MS: i64 = 946_684_800_000;

/// Targets that are opened at once.
const OPENED_AT_ONCE: usize = 8;

/// Runs the function.
///
/// # Errors
/// What kept every target from being opened.
pub async fn run(app: &App, timer: Timer) -> Result<Vec<Message>> {
    let settings = app.settings()?;
    let now = app.clock().now();
    let slot = slot(timer, app.schedule().and_then(Result::ok).as_ref(), now);
    let (all, slice) = (app.all_books().await?, app.slice()?);
    // Their slots are nowhere to be found as missed: so it is said each time.
    settings.nameless.iter().for_each(|err| error!("{err}"));
    let opened = all.iter().map(|books| {
        let slice = slice.clone();
        async move {
            let opened = async {
                let target = settings.target(books.target())?;
                let opened = slice.bound(one(books, target, slot, now)).await;
                opened.unwrap_or_else(|| Err(out_of_time("open a run")))
            };
            (books, opened.await)
        }
        .boxed()
    });
    // Not in order: who waits for a slow one would not be begun.
    let mut opened = stream::iter(opened.collect::<Vec<_>>()).buffer_unordered(OPENED_AT_ONCE);
    let (mut messages, mut failure, mut n_done) = (Vec::new(), None, 0);
    while let Some((books, opened)) = opened.next().await {
        match opened {
            Ok(message) => {
                n_done += 1;
                messages.extend(message);
            }
            // The others' planning is not held up. Maintenance finds the slot that was missed.
            Err(err) => {
                let err = err.with("target", books.target());
                error!("{err}");
                failure = Some(err);
            }
        }
    }
    match failure {
        Some(err) if n_done == 0 => Err(err),
        _ => Ok(messages),
    }
}

/// The slot that the timer went off for. `None`: somebody started it at a time of their own. A timer that
/// the host keeps no book of, since it goes off more than once a minute, is for the newest occurrence.
fn slot(timer: Timer, schedule: Option<&Schedule>, now: Timestamp) -> Option<Timestamp> {
    let is_new = |newest: &Timestamp| now.since(*newest) < UNBOOKED_EVERY;
    let newest = || schedule?.newest_occurrence(now.plus(EARLY_UNBOOKED)).filter(is_new);
    let is_due = |next: &Timestamp| *next <= now.plus(EARLY) && next.unix_ms() > NEVER_BEFORE_MS;
    timer.next.or_else(newest).filter(is_due).filter(|_| !timer.is_by_hand)
}

/// Opens a run of the target. Gives the message that has it planned, unless nothing is to be done.
async fn one(
    books: &Books,
    target: &TargetSettings,
    slot: Option<Timestamp>,
    now: Timestamp,
) -> Result<Option<Message>> {
    let request = target.request.clone();
    let opening = match slot {
        Some(slot) => Opening::for_slot(books.target(), request, slot, now, true),
        None => Opening::now(request, Trigger::Timer, now, true),
    };
    opened(books, &opening.of(target.inventory())).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_what_is_due_now_and_not_what_comes_next() {
        let at = |text: &str| Timestamp::parse(text).expect("a date");
        let now = at("2026-11-22T06:00:00Z");
        let check = |next: Option<&str>, is_by_hand, want: Option<&str>| {
            let timer = Timer { next: next.map(at), is_by_hand };
            assert_eq!(slot(timer, None, now), want.map(at), "{next:?}");
        };
        let due = Some("2026-11-22T06:00:00Z");
        check(due, false, due);
        check(Some("2026-11-22T06:00:05Z"), false, Some("2026-11-22T06:00:05Z"));
        check(Some("2026-11-21T06:00:00Z"), false, Some("2026-11-21T06:00:00Z"));
        check(Some("2026-11-23T06:00:00Z"), false, None);
        check(Some("0001-01-01T00:00:00Z"), false, None);
        check(due, true, None);
        check(None, false, None);
        let often = Schedule::parse("*/20 * * * * *").expect("a schedule");
        let late = at("2026-11-22T06:00:41Z");
        assert_eq!(slot(Timer::default(), Some(&often), late), Some(at("2026-11-22T06:00:40Z")));
        let daily = Schedule::parse("0 0 6 * * *").expect("a schedule");
        let later = at("2026-11-22T06:01:00Z");
        assert_eq!(slot(Timer::default(), Some(&daily), later), None);
    }
}
