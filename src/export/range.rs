//! Reads one range to its end, page by page, each asset once.

use std::collections::HashSet;
use std::num::NonZero;
use std::ops::Range as Span;
use std::sync::{Arc, LazyLock};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::source::{Page, Query, Source};
use crate::buffer::Buffer;
use crate::error::{Error, Kind, Result};
use crate::model::plan::Range;

/// How many assets in a row may be old ones before reading is given up. A service that repeats itself
/// for ever ends here; one that shifts assets between pages does not repeat a thousand.
pub const STALE_ASSETS_MAX: usize = 1000;

/// How many assets more than twice what was counted a range may bring before reading is given up: an
/// inventory does not double while it is read.
pub const SURPLUS_MAX: u64 = 10_000;

/// Most pages in work at once, however many cores there are: with pages of 2 MB (API reference,
/// section 5) they take a third of the memory that is promised.
const ROOM_MAX: usize = 16;

/// Assets of one page that are taken over.
#[derive(Debug)]
pub(super) struct Records {
    /// The page's body.
    pub body: Buffer,
    /// Where the assets stand in it. Never empty.
    pub spans: Vec<Span<usize>>,
    /// Held until the page is written, so that few pages are in memory.
    pub room: OwnedSemaphorePermit,
}

/// Room for one page in work, of all shards together. Two for each core: one is encoded while the
/// other is written. Without a common limit memory would grow with the shards.
async fn room() -> OwnedSemaphorePermit {
    static ROOM: LazyLock<Arc<Semaphore>> = LazyLock::new(|| {
        let n_cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        Arc::new(Semaphore::new((2 * n_cores).min(ROOM_MAX)))
    });
    Arc::clone(&ROOM).acquire_owned().await.expect("the semaphore is never closed")
}

/// Where the records of a range go.
pub(super) trait Sink: Send {
    /// Takes over `records`.
    fn add(&mut self, records: Records) -> impl Future<Output = Result<()>> + Send;
}

/// What became of a range.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Unique assets taken over.
    pub taken: u64,
    /// Assets that came more than once.
    pub duplicates: u64,
}

/// Reads `range`, which is `query`, from its beginning into `sink`, `page_size` assets at a time, at
/// most its quota. While a page is taken over, the next one is on its way.
///
/// # Errors
/// [`Kind::Endless`] if the cursor comes back, nothing new comes any more, or far more than was
/// counted, and what source or sink failed with.
pub(super) async fn read(
    source: &dyn Source,
    query: &Query,
    page_size: u32,
    range: &Range,
    sink: &mut impl Sink,
) -> Result<Tally> {
    let quota = range.quota;
    let taken_max = range.expected.saturating_mul(2).saturating_add(SURPLUS_MAX);
    let mut ids = HashSet::new();
    let mut cursors = HashSet::new();
    let mut tally = Tally::default();
    let mut n_stale = 0;
    let mut coming = Some(source.page(query, None, page_size).await?);
    while let Some(page) = coming {
        let Page { body, assets, next, total: _ } = page;
        let mut spans = Vec::with_capacity(assets.len());
        for asset in assets {
            if quota == Some(tally.taken) {
                break;
            }
            match ids.insert(asset.id_hash) {
                true => {
                    spans.push(asset.span);
                    tally.taken += 1;
                    n_stale = 0;
                }
                false => {
                    tally.duplicates += 1;
                    n_stale += 1;
                }
            }
        }
        let next = next.filter(|_| quota != Some(tally.taken));
        if let Some(cursor) = &next {
            if !cursors.insert(cursor.clone()) {
                return Err(endless("the service's cursor came back to where it was", tally));
            }
            if n_stale >= STALE_ASSETS_MAX {
                return Err(endless("nothing new comes any more", tally));
            }
            if tally.taken > taken_max {
                return Err(endless("far more assets come than the service counts", tally));
            }
        }
        let records = match spans.is_empty() {
            true => None,
            // The next page is not asked for before there is room for this one.
            false => Some(Records { body, spans, room: room().await }),
        };
        let take = async {
            match records {
                Some(records) => sink.add(records).await,
                None => Ok(()),
            }
        };
        let fetch = async {
            match &next {
                Some(cursor) => source.page(query, Some(cursor), page_size).await.map(Some),
                None => Ok(None),
            }
        };
        ((), coming) = futures::future::try_join(take, fetch).await?;
    }
    Ok(tally)
}

fn endless(reason: &str, tally: Tally) -> Error {
    Error::new(Kind::Endless, "list assets")
        .because(reason)
        .with("assets", tally.taken)
        .advise("try again later, and report it to the service if it stays so")
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;

    use super::*;
    use crate::export::plan::whole;
    use crate::export::source::Asset;
    use crate::model::asset::KindCut;
    use crate::model::plan::Within;
    use crate::model::request::Request;

    /// Serves pages of ids by cursor: page n is behind cursor "n", the first behind `None`.
    struct Script {
        pages: Vec<(Vec<u64>, Option<&'static str>)>,
        asked: Mutex<u32>,
    }

    #[async_trait]
    impl Source for Script {
        async fn count(&self, _query: &Query) -> Result<u64> {
            Ok(0)
        }

        async fn page(&self, _query: &Query, cursor: Option<&str>, _size: u32) -> Result<Page> {
            *self.asked.lock().expect("not poisoned") += 1;
            let n: usize = cursor.map_or(0, |cursor| cursor.parse().expect("a number"));
            let (ids, next) = &self.pages[n];
            let assets = ids.iter().map(|&id_hash| Asset { span: 0..2, id_hash }).collect();
            Ok(Page { body: Buffer::default(), assets, next: next.map(str::to_owned), total: None })
        }
    }

    #[derive(Default)]
    struct Counter(u64);

    impl Sink for Counter {
        async fn add(&mut self, records: Records) -> Result<()> {
            self.0 += records.spans.len() as u64;
            Ok(())
        }
    }

    async fn read_script(
        pages: Vec<(Vec<u64>, Option<&'static str>)>,
        quota: Option<u64>,
    ) -> (Result<Tally>, u64, u32) {
        let script = Script { pages, asked: Mutex::new(0) };
        let mut counter = Counter::default();
        let range =
            Range { id: 0, kind: KindCut::Other, within: Within::default(), expected: 5, quota };
        let tally = read(&script, &whole(&Request::everything()), 100, &range, &mut counter).await;
        let asked = *script.asked.lock().expect("not poisoned");
        (tally, counter.0, asked)
    }

    #[tokio::test]
    async fn an_asset_that_comes_twice_is_taken_once() {
        let pages = vec![(vec![1, 2], Some("1")), (vec![2, 3, 3], Some("2")), (vec![4], None)];
        let (tally, taken, _) = read_script(pages, None).await;
        assert_eq!(tally.expect("read"), Tally { taken: 4, duplicates: 2 });
        assert_eq!(taken, 4);
    }

    #[tokio::test]
    async fn a_quota_is_met_exactly_and_nothing_more_is_asked_for() {
        let pages = vec![(vec![1, 2], Some("1")), (vec![3, 4], Some("2")), (vec![5], None)];
        let (tally, taken, asked) = read_script(pages, Some(3)).await;
        assert_eq!((tally.expect("read").taken, taken, asked), (3, 3, 2));
    }

    #[tokio::test]
    async fn a_cursor_that_comes_back_is_refused() {
        let pages = vec![(vec![1], Some("1")), (vec![2], Some("2")), (vec![3], Some("1"))];
        let (tally, _, _) = read_script(pages, None).await;
        assert_eq!(tally.expect_err("a circle").kind(), Kind::Endless);
    }

    #[tokio::test]
    async fn pages_that_never_bring_anything_new_are_refused() {
        let old = vec![1; STALE_ASSETS_MAX / 2];
        let pages = vec![
            (vec![1], Some("1")),
            (old.clone(), Some("2")),
            (old.clone(), Some("3")),
            (old, Some("4")),
            (vec![2], None),
        ];
        let (tally, _, asked) = read_script(pages, None).await;
        assert_eq!(tally.expect_err("for ever").kind(), Kind::Endless);
        assert_eq!(asked, 3);
    }

    #[tokio::test]
    async fn pages_that_always_bring_something_new_are_refused() {
        let some = |n: u64| (n * 6000..(n + 1) * 6000).collect::<Vec<u64>>();
        let pages = vec![(some(0), Some("1")), (some(1), Some("2")), (some(2), None)];
        let (tally, _, asked) = read_script(pages, None).await;
        assert_eq!(tally.expect_err("five were counted").kind(), Kind::Endless);
        assert_eq!(asked, 2);
    }
}
