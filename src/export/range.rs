//! Reads one range, page by page, each asset once, from where an earlier reading ended.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::num::NonZero;
use std::ops::Range as Span;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::slice::Slice;
use super::source::{Page, Query, Source};
use crate::buffer::Buffer;
use crate::error::{Error, Kind, Result};
use crate::model::ids::Ids;
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

/// Room for pages in work, of all shards together. Without a common limit memory would grow with the
/// shards.
#[derive(Debug, Clone)]
pub struct Room(Arc<Semaphore>);

impl Default for Room {
    /// Two pages for each core: one is encoded while the other is written.
    fn default() -> Self {
        let n_cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self(Arc::new(Semaphore::new((2 * n_cores).min(ROOM_MAX))))
    }
}

impl Room {
    /// Room for one page.
    async fn take(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.0).acquire_owned().await.expect("the semaphore is never closed")
    }
}

/// Where the records of a range go.
pub(super) trait Sink: Send {
    /// How many assets the next page may have.
    fn page_size(&self) -> u32;

    /// Takes over `records`; `reading` is how far that comes.
    fn add(
        &mut self,
        records: Records,
        reading: &Reading,
    ) -> impl Future<Output = Result<()>> + Send;
}

/// How far reading a range has come: what is taken over, and the cursor behind it.
#[derive(Debug, Clone, Default)]
pub(super) struct Reading {
    /// Where to go on. `None`: at the start, or nothing comes any more.
    pub cursor: Option<String>,
    /// Ids taken over.
    pub ids: Ids,
    /// Unique assets taken over.
    pub taken: u64,
    /// Assets that came more than once.
    pub duplicates: u64,
}

/// Why reading ended.
#[derive(Debug)]
pub(super) enum Ending {
    /// Everything came.
    Done,
    /// The slice was over.
    SliceOver,
    /// What the source failed with. [`Kind::Endless`]: the cursor came back, nothing new comes any
    /// more, or far more than was counted.
    Failed(Error),
}

/// Reads `range`, which is `query`, into `sink` from where `reading` is, at most its quota. While a
/// page is taken over, the next one is on its way. `reading` is moved on with what `sink` took, so
/// that whatever the ending, going on from there loses and doubles nothing.
///
/// # Errors
/// What `sink` failed with.
pub(super) async fn read(
    source: &dyn Source,
    room: &Room,
    query: &Query,
    range: &Range,
    reading: &mut Reading,
    sink: &mut impl Sink,
    slice: &Slice,
) -> Result<Ending> {
    let quota = range.quota;
    let taken_max = range.expected.saturating_mul(2).saturating_add(SURPLUS_MAX);
    let mut cursors = HashSet::new();
    let mut n_stale = 0;
    let size = sink.page_size();
    let mut coming = slice.bound(source.page(query, reading.cursor.as_deref(), size)).await;
    loop {
        let Page { body, assets, next, total: _ } = match coming {
            Some(Ok(page)) => page,
            Some(Err(err)) => return Ok(Ending::Failed(err)),
            None => return Ok(Ending::SliceOver),
        };
        let mut spans = Vec::with_capacity(assets.len());
        for asset in assets {
            if quota == Some(reading.taken) {
                break;
            }
            match reading.ids.insert(asset.id_hash) {
                true => {
                    spans.push(asset.span);
                    reading.taken += 1;
                    n_stale = 0;
                }
                false => {
                    reading.duplicates += 1;
                    n_stale += 1;
                }
            }
        }
        reading.cursor = next.filter(|_| quota != Some(reading.taken));
        if let Some(cursor) = &reading.cursor {
            let fault = match () {
                () if !cursors.insert(hash(cursor)) => {
                    "the service's cursor came back to where it was"
                }
                () if n_stale >= STALE_ASSETS_MAX => "nothing new comes any more",
                () if reading.taken > taken_max => "far more assets come than the service counts",
                () => "",
            };
            if !fault.is_empty() {
                return Ok(Ending::Failed(endless(fault, reading.taken)));
            }
        }
        let records = match spans.is_empty() {
            true => None,
            // The next page is not asked for before there is room for this one.
            false => Some(Records { body, spans, room: room.take().await }),
        };
        let size = sink.page_size();
        let take = async {
            match records {
                Some(records) => sink.add(records, reading).await,
                None => Ok(()),
            }
        };
        let Some(cursor) = &reading.cursor else {
            take.await?;
            return Ok(Ending::Done);
        };
        // A page that fails to come does not hold up what is being taken over.
        let fetch = async { Ok(slice.bound(source.page(query, Some(cursor), size)).await) };
        ((), coming) = futures::future::try_join(take, fetch).await?;
    }
}

/// Stands for a cursor among those of one reading.
fn hash(cursor: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    cursor.hash(&mut hasher);
    hasher.finish()
}

fn endless(reason: &str, n_assets: u64) -> Error {
    Error::new(Kind::Endless, "list assets")
        .because(reason)
        .with("assets", n_assets)
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
        fn page_size(&self) -> u32 {
            100
        }

        async fn add(&mut self, records: Records, _reading: &Reading) -> Result<()> {
            self.0 += records.spans.len() as u64;
            Ok(())
        }
    }

    async fn read_script(
        pages: Vec<(Vec<u64>, Option<&'static str>)>,
        quota: Option<u64>,
    ) -> (Result<(u64, u64)>, u64, u32) {
        let script = Script { pages, asked: Mutex::new(0) };
        let mut counter = Counter::default();
        let range =
            Range { id: 0, kind: KindCut::Other, within: Within::default(), expected: 5, quota };
        let (query, (_stop, slice)) = (whole(&Request::everything()), Slice::endless());
        let mut reading = Reading::default();
        let (room, read) = (Room::default(), &mut reading);
        let ending = super::read(&script, &room, &query, &range, read, &mut counter, &slice).await;
        let tally = match ending.expect("a counter does not fail") {
            Ending::Done => Ok((reading.taken, reading.duplicates)),
            Ending::Failed(err) => Err(err),
            Ending::SliceOver => panic!("nobody stops it"),
        };
        let asked = *script.asked.lock().expect("not poisoned");
        (tally, counter.0, asked)
    }

    #[tokio::test]
    async fn an_asset_that_comes_twice_is_taken_once() {
        let pages = vec![(vec![1, 2], Some("1")), (vec![2, 3, 3], Some("2")), (vec![4], None)];
        let (tally, taken, _) = read_script(pages, None).await;
        assert_eq!(tally.expect("read"), (4, 2));
        assert_eq!(taken, 4);
    }

    #[tokio::test]
    async fn a_quota_is_met_exactly_and_nothing_more_is_asked_for() {
        let pages = vec![(vec![1, 2], Some("1")), (vec![3, 4], Some("2")), (vec![5], None)];
        let (tally, taken, asked) = read_script(pages, Some(3)).await;
        assert_eq!((tally.expect("read").0, taken, asked), (3, 3, 2));
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
