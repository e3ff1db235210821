//! Answers one query for some assets, page after page, within bounds. No run, no books: what comes goes
//! straight to whoever asked.
//!
//! Start reading at [`read`].

use std::collections::HashSet;

use super::slice::Slice;
use super::source::{Page, Query, Source};
use crate::error::{Error, Kind, Result};

/// The cursor of the first page, as the service writes it.
const FIRST: &str = "*";

/// Most assets of one query (contract, section 4).
pub const LIMIT_MAX: u64 = 5000;

/// Assets of a query that does not say how many (contract, section 4).
pub const LIMIT_DEFAULT: u64 = 100;

/// How much is read.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// Most assets.
    pub assets_max: u64,
    /// Most bytes of assets, as the service sends them less white space and as they are given back by what
    /// takes them. A page may be more of the latter, and a single asset of both.
    pub bytes_max: usize,
    /// Most assets of a page.
    pub page_size: u32,
    /// How long it may take.
    pub slice: Slice,
}

/// What came of a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// Where to go on. Absent: there is no more.
    pub next: Option<String>,
    /// How many assets match, if the service says so.
    pub total: Option<u64>,
}

/// Reads the assets that match `query`, from `mark` on, and gives `add` page by page, less what is more
/// than was asked for; it says how many bytes it made of it. Stops early, with a cursor, where a bound is reached, and where the service stops answering
/// after at least one page.
///
/// # Errors
/// [`Kind::Deadline`] if the time was over before one page came, [`Kind::Endless`] if the service's
/// cursor comes back, and what the service or `add` failed with.
pub async fn read(
    source: &dyn Source,
    query: &Query,
    mark: Option<String>,
    bounds: &Bounds,
    add: &mut (dyn FnMut(Page) -> Result<usize> + Send),
) -> Result<Answered> {
    let (mut n_left, mut bytes_left) = (bounds.assets_max, bounds.bytes_max);
    let (mut mark, mut total, mut page_size) = (mark, None, bounds.page_size);
    let mut marks = HashSet::new();
    let mut is_first = true;
    loop {
        // The last page asks for what is left only, so that the cursor stands where reading ends.
        let size = page_size.min(u32::try_from(n_left).unwrap_or(u32::MAX));
        let read = bounds.slice.bound(source.page(query, mark.as_deref(), size)).await;
        let before = || Some(mark.clone().unwrap_or_else(|| FIRST.to_owned()));
        let mut page = match read {
            Some(Ok(page)) => page,
            // What came so far is worth more than nothing.
            Some(Err(err)) if err.kind().is_retryable() && !is_first => {
                return Ok(Answered { next: before(), total });
            }
            Some(Err(err)) => return Err(err),
            None if is_first => return Err(out_of_time()),
            None => return Ok(Answered { next: before(), total }),
        };
        total = page.total.or(total);
        let (n_assets, n_bytes) = (page.assets.len() as u64, bytes(&page));
        if n_bytes > bytes_left {
            if !is_first {
                return Ok(Answered { next: before(), total });
            }
            if size > 1 {
                page_size = size / 2;
                continue;
            }
        }
        let fits = usize::try_from(n_left).unwrap_or(usize::MAX);
        page.assets.truncate(fits);
        let next = page.next.take();
        let n_bytes = add(page)?.max(n_bytes);
        if n_assets > n_left {
            // A longer page than was asked for. Going on before it repeats some, and loses none.
            return Ok(Answered { next: before(), total });
        }
        is_first = false;
        n_left -= n_assets;
        bytes_left = bytes_left.saturating_sub(n_bytes);
        let Some(next) = next else { return Ok(Answered { next: None, total }) };
        if n_left == 0 || bytes_left == 0 {
            return Ok(Answered { next: Some(next), total });
        }
        if !marks.insert(next.clone()) {
            return Err(Error::new(Kind::Endless, "list assets")
                .because("the service's cursor came back to where it was")
                .advise("try again later"));
        }
        mark = Some(next);
    }
}

/// Bytes of the assets of `page`.
fn bytes(page: &Page) -> usize {
    page.assets.iter().map(|asset| asset.span.len()).sum()
}

fn out_of_time() -> Error {
    Error::new(Kind::Deadline, "list assets")
        .because("the service did not answer in time")
        .advise("try again later")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use async_trait::async_trait;

    use super::*;
    use crate::export::source::{Asset, Cut};
    use crate::model::plan::Within;

    /// Ten numbers, `least` a page, however few are asked for. The page at `stops_at` takes an hour, the
    /// one at `fails_at` fails.
    #[derive(Default)]
    struct Numbers {
        least: u8,
        stops_at: Option<u8>,
        fails_at: Option<u8>,
    }

    #[async_trait]
    impl Source for Numbers {
        async fn count(&self, _query: &Query) -> Result<u64> {
            Ok(10)
        }

        async fn page(&self, _query: &Query, cursor: Option<&str>, size: u32) -> Result<Page> {
            let cursor = cursor.filter(|cursor| *cursor != FIRST);
            let start: u8 = cursor.map_or(0, |cursor| cursor.parse().expect("a number"));
            if self.stops_at == Some(start) {
                tokio::time::sleep(Duration::from_secs(3600)).await;
            }
            if self.fails_at == Some(start) {
                return Err(Error::new(Kind::Unreadable, "list assets"));
            }
            let n = self.least.max(u8::try_from(size).unwrap_or(u8::MAX));
            let end = start.saturating_add(n).min(10);
            let body: Vec<u8> = (start..end).map(|n| b'0' + n).collect();
            let assets = (0..body.len()).map(|at| Asset { span: at..at + 1, id_hash: 0 }).collect();
            let next = (end < 10).then(|| end.to_string());
            Ok(Page { body: body.into(), assets, next, total: Some(10) })
        }
    }

    async fn ask(
        source: &Numbers,
        mark: Option<&str>,
        assets_max: u64,
        bytes_max: usize,
    ) -> Result<(String, Option<String>)> {
        let query =
            Query { filter: String::new(), cut: Cut::AnyOf(Vec::new()), within: Within::default() };
        let slice = Slice::of(Duration::from_secs(200));
        let bounds = Bounds { assets_max, bytes_max, page_size: 4, slice };
        let mut text = String::new();
        let mut add = |page: Page| {
            let spans = page.assets.iter().map(|asset| asset.span.clone());
            text.extend(spans.map(|span| std::str::from_utf8(&page.body[span]).expect("text")));
            Ok(0)
        };
        let answered = read(source, &query, mark.map(str::to_owned), &bounds, &mut add).await?;
        Ok((text, answered.next))
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_comes_than_asked_for_and_going_on_loses_nothing() {
        let check = async |mark: Option<&str>, limit, want: &str, want_next: Option<&str>| {
            let numbers = Numbers { least: 4, ..Numbers::default() };
            let (text, next) = ask(&numbers, mark, limit, usize::MAX).await.expect("read");
            assert_eq!((text.as_str(), next.as_deref()), (want, want_next), "{limit}");
        };
        check(None, 4, "0123", Some("4")).await;
        check(None, 3, "012", Some("*")).await;
        check(None, 6, "012345", Some("4")).await;
        check(Some("4"), 6, "456789", None).await;
        check(Some("8"), 1, "8", Some("8")).await;
        check(None, 5000, "0123456789", None).await;
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_and_time_end_it_early_with_a_cursor() {
        let check = async |numbers: Numbers, bytes_max, want: Option<(&str, Option<&str>)>| {
            let found = ask(&numbers, None, 5000, bytes_max).await;
            let found = found.as_ref().ok().map(|(text, next)| (text.as_str(), next.as_deref()));
            assert_eq!(found, want, "{bytes_max}");
        };
        let stops_at = |at| Numbers { stops_at: Some(at), ..Numbers::default() };
        let fails_at = |at| Numbers { fails_at: Some(at), ..Numbers::default() };
        check(Numbers::default(), 8, Some(("01234567", Some("8")))).await;
        check(Numbers::default(), 7, Some(("0123", Some("4")))).await;
        // A page of four is too large, and so the pages become smaller.
        check(Numbers::default(), 2, Some(("01", Some("2")))).await;
        // A single asset is not.
        check(Numbers::default(), 0, Some(("0", Some("1")))).await;
        check(stops_at(8), 100, Some(("01234567", Some("8")))).await;
        check(stops_at(0), 100, None).await;
        check(fails_at(4), 100, Some(("0123", Some("4")))).await;
        check(fails_at(0), 100, None).await;
    }
}
