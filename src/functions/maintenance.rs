//! `Maintenance`: every five minutes, brings back what stalled or is due, opens a slot that the timer
//! missed, and deletes what is kept no longer.

use futures::future::FutureExt;
use futures::stream::{self, StreamExt};
use tracing::{info, warn};

use super::{App, opened, out_of_time};
use crate::clock::Timestamp;
use crate::config::Settings;
use crate::error::Result;
use crate::export::books::Books;
use crate::export::open::Opening;
use crate::export::slots::missed;
use crate::export::step::Message;
use crate::export::upkeep::{Retention, forget_keys, retain};
use crate::export::{care, runs};
use crate::schedule::Schedule;

/// Targets that are looked after at once.
const TARGETS_AT_ONCE: usize = 4;

/// The age in hours of what there never was.
const NEVER: f64 = -1.0;

/// Runs the function.
///
/// # Errors
/// What kept it from looking after any target.
pub async fn run(app: &App) -> Result<Vec<Message>> {
    let (settings, all, slice) = (app.settings()?, app.all_books().await?, app.slice()?);
    // Without one the host has no timer that could miss anything, and Health says so.
    let schedule = app.schedule().and_then(Result::ok);
    let (schedule, within) = (schedule.as_ref(), &slice);
    let looked = all.iter().map(|books| {
        let look = async move {
            let mut messages = Vec::new();
            let look = look(app, books, settings, schedule, &mut messages);
            let looked = within.bound(look).await;
            let looked = looked.unwrap_or_else(|| Err(out_of_time("look after a target")));
            (books, messages, looked)
        };
        look.boxed()
    });
    // Not in order: who waits for a slow one would not be begun.
    let mut looked = stream::iter(looked.collect::<Vec<_>>()).buffer_unordered(TARGETS_AT_ONCE);
    let (mut messages, mut failure, mut n_done) = (Vec::new(), None, 0);
    while let Some((books, of_target, looked)) = looked.next().await {
        messages.extend(of_target);
        match looked {
            Ok(()) => n_done += 1,
            Err(err) => {
                warn!(target_name = books.target(), "Could not look after a target: {err}");
                failure = Some(err);
            }
        }
    }
    let retention = Retention { days: settings.retention_days };
    // What is brought back leaves with the answer, so nothing else is done before that.
    if messages.is_empty() {
        for books in &all {
            let deleted = slice.bound(retain(books, retention)).await;
            warn_of(books, deleted);
        }
        // They lie beside the targets, so the books of any will do.
        if let Some(books) = all.first() {
            warn_of(books, slice.bound(forget_keys(books)).await);
        }
    }
    match failure {
        Some(err) if n_done == 0 && messages.is_empty() => Err(err),
        _ => Ok(messages),
    }
}

/// Looks after the target once. What goes on the queue is added to `messages`, also where it fails
/// behind that: it is noted as given out.
async fn look(
    app: &App,
    books: &Books,
    settings: &Settings,
    schedule: Option<&Schedule>,
    messages: &mut Vec<Message>,
) -> Result<()> {
    care::care(books, settings.run_idle_max, messages).await?;
    if let Err(err) = tell_age(books, app.clock().now()).await {
        // What is said of a target is no reason not to export it.
        warn!(target_name = books.target(), "Could not look how old its newest run is: {err}");
    }
    let Some(schedule) = schedule else { return Ok(()) };
    if let Some(slot) = missed(books, schedule, app.is_timer_disabled()).await? {
        let target = settings.target(books.target())?;
        let request = target.request.clone();
        let now = app.clock().now();
        let opening = Opening::for_slot(books.target(), request, slot, now, true);
        messages.extend(opened(books, &opening.of(target.inventory())).await?);
    }
    Ok(())
}

/// Says how old the newest complete run is, for whoever watches the log: an alert on it finds a target that
/// is not exported any more, whatever the reason, and the timer's too (docs/operations.md).
async fn tell_age(books: &Books, now: Timestamp) -> Result<()> {
    let age = runs::newest_complete(books).await?.map(|newest| now.since(newest.finished_at));
    let hours = age.map_or(NEVER, |age| age.as_secs_f64() / 3600.0);
    let target = books.target();
    let words = match age {
        Some(_) => format!("The newest complete run of {target} is {hours:.1} hours old"),
        None => format!("{target} has no complete run yet"),
    };
    info!(event = "newest_complete", target_name = target, age_hours = hours, "{words}");
    Ok(())
}

/// What is kept no longer and could not be deleted is only logged: it is tried again the next time.
fn warn_of<T>(books: &Books, deleted: Option<Result<T>>) {
    if let Some(Err(err)) = deleted {
        warn!(target_name = books.target(), "Could not delete what is kept no longer: {err}");
    }
}
