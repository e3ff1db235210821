//! Deletes idempotency keys that stand for nothing any more.

use std::time::Duration;

use futures::future::FutureExt;
use futures::stream::{self, StreamExt, TryStreamExt};
use tracing::warn;

use crate::error::{Error, Kind, Result};
use crate::export::books::Books;
use crate::export::open::KEY_LIFE;
use crate::model::SCHEMA_VERSION;
use crate::model::active::Key;
use crate::model::layout::{KEYS_ALL, KEYS_UPKEEP};
use crate::model::upkeep::UpkeepNote;
use crate::store::remote::LIST_PAGES_MAX;

use super::{DAY, LOOK_EVERY};

/// How long a key is kept: a day longer than it counts, for clocks and requests that are late.
const KEPT: Duration = KEY_LIFE.saturating_add(DAY);

/// Most keys that one call looks at.
const KEYS_MAX: usize = 1_000;

/// Keys that are looked at once.
const KEYS_AT_ONCE: usize = 8;

/// Deletes idempotency keys that are a week old and a day more, if it was not looked for within
/// [`LOOK_EVERY`]. They belong to the store, so the books of any of its targets will do, once for all.
///
/// # Errors
/// What the store failed with.
pub async fn forget_keys(books: &Books) -> Result<()> {
    let (now, path) = (books.now(), KEYS_UPKEEP);
    let present = books.read::<UpkeepNote>(path).await?.map(|(note, _)| note);
    let is_due = present.as_ref().is_none_or(|note| {
        note.goes_on || note.looked_at > now || now.since(note.looked_at) >= LOOK_EVERY
    });
    if !is_due {
        return Ok(());
    }
    let after = present.and_then(|note| note.after).unwrap_or_default();
    let mut paths = keys_behind(books, &after).await?;
    let has_more = paths.len() > KEYS_MAX;
    paths.truncate(KEYS_MAX);
    let looks = paths.iter().map(|path| look_at(books, path).boxed());
    let looks = stream::iter(looks.collect::<Vec<_>>());
    looks.buffer_unordered(KEYS_AT_ONCE).try_collect::<()>().await?;
    let note = UpkeepNote {
        schema_version: SCHEMA_VERSION,
        looked_at: now,
        retention_days: 0,
        goes_on: has_more,
        after: paths.pop().filter(|_| has_more),
        strays_until: None,
    };
    books.change(path, |_: Option<UpkeepNote>| Ok((note.clone(), true))).await.map(drop)
}

/// Paths of keys behind `after`, up to one more than are looked at.
async fn keys_behind(books: &Books, after: &str) -> Result<Vec<String>> {
    let mut paths = Vec::new();
    let mut next: Option<String> = None;
    for _ in 0..LIST_PAGES_MAX {
        let page = books.store.list_some(KEYS_ALL, next.as_deref()).await?;
        paths.extend(page.paths.into_iter().filter(|path| path.as_str() > after));
        match page.next {
            Some(there) if paths.len() <= KEYS_MAX => next = Some(there),
            _ => {
                paths.truncate(KEYS_MAX + 1);
                return Ok(paths);
            }
        }
    }
    Err(Error::new(Kind::Endless, "look for keys that may go")
        .because(format!("there are more than {LIST_PAGES_MAX} pages of them"))
        .advise("look into the container; something opens runs all the time"))
}

async fn look_at(books: &Books, path: &str) -> Result<()> {
    let looked = async {
        match books.read::<Key>(path).await? {
            Some((key, tag)) if books.now().since(key.used_at) >= KEPT => {
                match books.store.remove(path, &tag).await {
                    // Somebody uses it again.
                    Err(err) if err.kind() == Kind::Conflict => Ok(()),
                    removed => removed,
                }
            }
            _ => Ok(()),
        }
    };
    match looked.await {
        Err(err) if !err.kind().is_retryable() => {
            warn!("Could not look at an idempotency key: {err}");
            Ok(())
        }
        looked => looked,
    }
}
