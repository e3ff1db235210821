//! `Maintenance`: every five minutes, brings back what stalled or is due, opens a slot that the timer
//! missed, and deletes what is kept no longer.

use futures::future::FutureExt;
use futures::stream::{self, StreamExt};
use tracing::warn;

use super::{App, opened, out_of_time};
use crate::config::Settings;
use crate::error::{Error, Result};
use crate::export::books::Books;
use crate::export::care;
use crate::export::open::{Opening, open};
use crate::export::slice::Slice;
use crate::export::slots::missed;
use crate::export::step::Message;
use crate::export::upkeep::{Retention, forget_keys, retain};
use crate::schedule::Schedule;

/// Targets that are looked after at once.
const TARGETS_AT_ONCE: usize = 4;

/// Runs the function.
///
/// # Errors
/// What kept it from looking after any target.
pub async fn run(app: &App) -> Result<Vec<Message>> {
    let (settings, all, slice) = (app.settings()?, app.all_books().await?, app.slice()?);
    // Without one the host has no timer that could miss anything, and Health says so.
    let schedule = app.schedule().and_then(Result::ok);
    let looked = all.iter().map(|books| {
        let looked = slice.bound(messages(app, books, settings, schedule.as_ref()));
        async { looked.await.unwrap_or_else(|| Err(out_of_time("look after a target"))) }.boxed()
    });
    let looked: Vec<_> =
        stream::iter(looked.collect::<Vec<_>>()).buffered(TARGETS_AT_ONCE).collect().await;
    let (mut messages, mut failure, mut n_done) = (Vec::new(), None, 0);
    for (books, looked) in all.iter().zip(looked) {
        match looked {
            Ok(of_target) => {
                messages.extend(of_target);
                n_done += 1;
            }
            Err(err) => {
                warn!(target_name = books.target(), "Could not look after a target: {err}");
                failure = Some(err);
            }
        }
    }
    // Behind everything that brings work back, since a look lists all that there is.
    for books in &all {
        delete(books, settings, &slice).await;
    }
    match failure {
        Some(err) if n_done == 0 => Err(err),
        _ => Ok(messages),
    }
}

/// What is to be done for the target now.
async fn messages(
    app: &App,
    books: &Books,
    settings: &Settings,
    schedule: Option<&Schedule>,
) -> Result<Vec<Message>> {
    let mut messages = care::care(books, settings.run_idle_max).await?;
    let Some(schedule) = schedule else { return Ok(messages) };
    let made_up = async {
        let slot = missed(books, schedule, app.is_timer_disabled()).await?;
        let Some(slot) = slot else { return Ok(None) };
        let (request, now) = (settings.request.clone(), app.clock().now());
        let opening = Opening::for_slot(books.target(), request, slot, now, true);
        Ok::<_, Error>(opened(books, &opening, open(books, &opening).await?))
    };
    match made_up.await {
        Ok(message) => messages.extend(message),
        // What was brought back is noted as such, so it has to go on the queue.
        Err(err) => {
            warn!(target_name = books.target(), "Could not look for missed slots: {err}");
        }
    }
    Ok(messages)
}

/// Deletes of a target, and of the keys beside it, what is kept no longer. What fails is only logged: it
/// is tried again the next time.
async fn delete(books: &Books, settings: &Settings, slice: &Slice) {
    let deleted = async {
        retain(books, Retention { days: settings.retention_days }).await?;
        forget_keys(books).await
    };
    if let Some(Err(err)) = slice.bound(deleted).await {
        warn!(target_name = books.target(), "Could not delete what is kept no longer: {err}");
    }
}
