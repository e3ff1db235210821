//! `Maintenance`: every five minutes, brings back what stalled or is due.

use std::time::Duration;

use futures::future::FutureExt;
use futures::stream::{self, StreamExt};
use tracing::warn;

use super::App;
use crate::error::{Error, Kind, Result};
use crate::export::books::Books;
use crate::export::care;
use crate::export::step::Message;

/// Targets that are looked after at once.
const TARGETS_AT_ONCE: usize = 4;

/// Runs the function.
///
/// # Errors
/// What kept it from looking after any target.
pub async fn run(app: &App) -> Result<Vec<Message>> {
    let idle_max = app.settings()?.run_idle_max;
    let all = app.all_books()?;
    let slice = app.slice()?;
    let looked = all.iter().map(|books| {
        let looked = slice.bound(one(books, idle_max));
        async { looked.await.unwrap_or_else(|| Err(out_of_time())) }.boxed()
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
    match failure {
        Some(err) if n_done == 0 => Err(err),
        _ => Ok(messages),
    }
}

async fn one(books: &Books, idle_max: Duration) -> Result<Vec<Message>> {
    care::care(books, idle_max).await
}

fn out_of_time() -> Error {
    Error::new(Kind::Unavailable { retry_after: None }, "look after a target")
        .because("it took longer than a slice")
        .advise("it is looked after again in five minutes")
}
