//! `easm-export query`: assets to stdout, one a line.

use std::io::Write;

use super::{connect, read_filter, unless_interrupted};
use crate::config::{Env, Settings, parse};
use crate::error::{Error, Kind, Result};
use crate::export::source::{Cut, Query, Source};
use crate::export::stream::from_io;
use crate::model::plan::Within;
use crate::telemetry::Terminal;

/// Most assets of one query (contract, section 4).
const LIMIT_MAX: u64 = 5000;

/// Assets of a query that does not say how many (contract, section 4).
const LIMIT_DEFAULT: u64 = 100;

/// Flags of `query`.
#[derive(clap::Args)]
pub struct Args {
    /// EASM filter; @FILE reads it from a file, @- from stdin. Lines that begin with # are dropped.
    #[arg(long, value_name = "FILTER")]
    filter: Option<String>,
    /// Kind of asset; may be repeated or comma separated.
    #[arg(long = "kind", value_name = "KIND")]
    kinds: Vec<String>,
    /// Print at most so many assets, 1 to 5000. Default: 100.
    #[arg(long, value_name = "N")]
    limit: Option<String>,
    /// Go on behind this cursor, which an earlier query with the same filter gave.
    #[arg(long, value_name = "MARK")]
    mark: Option<String>,
    /// Print one JSON document: value, nextMark, totalElements.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// What the service failed with; [`Kind::PipeClosed`] if nobody reads stdout any more.
pub async fn run(args: Args, settings: Settings, env: &Env, terminal: &Terminal) -> Result<u8> {
    let limit = match &args.limit {
        Some(limit) => parse::number("--limit", limit, 1..=LIMIT_MAX)?,
        None => LIMIT_DEFAULT,
    };
    let filter = match &args.filter {
        Some(filter) => read_filter(filter)?,
        None => settings.request.filter.clone(),
    };
    let kinds = match args.kinds.is_empty() {
        true => settings.request.kinds.clone(),
        false => parse::kinds("--kind", &args.kinds.join(","))?,
    };
    let query = Query { filter, cut: Cut::AnyOf(kinds), within: Within::default() };
    let page_size = settings.page_size;
    let target = connect(settings, env).await?;
    let mut output = Output { to: std::io::stdout(), is_document: args.json, n_assets: 0 };
    let read = read(target.source(), &query, args.mark, limit, page_size, &mut output);
    let (next, total) = unless_interrupted(read).await?;
    if args.json {
        output.end(next.as_deref(), total)?;
    } else if let Some(next) = next {
        terminal.say(&format!("There is more; go on with --mark '{next}'"));
    }
    Ok(0)
}

async fn read(
    source: &dyn Source,
    query: &Query,
    mut mark: Option<String>,
    limit: u64,
    page_size: u32,
    output: &mut Output<impl Write>,
) -> Result<(Option<String>, Option<u64>)> {
    let mut marks = std::collections::HashSet::new();
    let mut left = limit;
    loop {
        // The last page asks for what is left only, so that the cursor stands where printing ends.
        let size = page_size.min(u32::try_from(left).unwrap_or(u32::MAX));
        let page = source.page(query, mark.as_deref(), size).await?;
        let fits = usize::try_from(left).unwrap_or(usize::MAX);
        for asset in page.assets.iter().take(fits) {
            output.add(&page.body[asset.span.clone()])?;
        }
        if page.assets.len() > fits {
            // A longer page than was asked for. Going on before it repeats some, and loses none.
            return Ok((Some(mark.unwrap_or_else(|| "*".to_owned())), page.total));
        }
        left -= page.assets.len() as u64;
        let Some(next) = page.next else { return Ok((None, page.total)) };
        if left == 0 {
            return Ok((Some(next), page.total));
        }
        if !marks.insert(next.clone()) {
            return Err(Error::new(Kind::Endless, "list assets")
                .because("the service's cursor came back to where it was")
                .advise("try again later"));
        }
        mark = Some(next);
    }
}

/// What is printed, as lines or as one document.
struct Output<W> {
    to: W,
    is_document: bool,
    n_assets: u64,
}

impl<W: Write> Output<W> {
    fn add(&mut self, asset: &[u8]) -> Result<()> {
        let in_front: &[u8] = match (self.is_document, self.n_assets) {
            (false, _) => b"",
            (true, 0) => b"{\"value\": [\n",
            (true, _) => b",",
        };
        self.n_assets += 1;
        self.write(&[in_front, asset, b"\n"].concat())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let written = self.to.write_all(bytes).and_then(|()| self.to.flush());
        written.map_err(|err| from_io(&err))
    }

    fn end(&mut self, next: Option<&str>, total: Option<u64>) -> Result<()> {
        let start = if self.n_assets == 0 { "{\"value\": [" } else { "" };
        let next = serde_json::Value::from(next);
        let total = serde_json::Value::from(total);
        self.write(
            format!("{start}], \"nextMark\": {next}, \"totalElements\": {total}}}\n").as_bytes(),
        )
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::export::source::{Asset, Page};

    /// Ten numbers, always four a page, however few are asked for.
    struct Stubborn;

    #[async_trait]
    impl Source for Stubborn {
        async fn count(&self, _query: &Query) -> Result<u64> {
            Ok(10)
        }

        async fn page(&self, _query: &Query, cursor: Option<&str>, _size: u32) -> Result<Page> {
            let cursor = cursor.filter(|cursor| *cursor != "*");
            let start: u8 = cursor.map_or(0, |cursor| cursor.parse().expect("a number"));
            let end = (start + 4).min(10);
            let body: Vec<u8> = (start..end).map(|n| b'0' + n).collect();
            let assets = (0..body.len()).map(|at| Asset { span: at..at + 1, id_hash: 0 }).collect();
            let next = (end < 10).then(|| end.to_string());
            Ok(Page { body: body.into(), assets, next, total: Some(10) })
        }
    }

    #[tokio::test]
    async fn no_more_is_printed_than_asked_for_and_going_on_loses_nothing() {
        let check = async |mark: Option<&str>, limit, want: &str, want_next: Option<&str>| {
            let mut output = Output { to: Vec::new(), is_document: false, n_assets: 0 };
            let query = Query {
                filter: String::new(),
                cut: Cut::AnyOf(Vec::new()),
                within: Within::default(),
            };
            let mark = mark.map(str::to_owned);
            let (next, _) =
                read(&Stubborn, &query, mark, limit, 100, &mut output).await.expect("read");
            let printed = String::from_utf8(output.to).expect("text").replace('\n', "");
            assert_eq!((printed.as_str(), next.as_deref()), (want, want_next), "{limit}");
        };
        check(None, 4, "0123", Some("4")).await;
        check(None, 3, "012", Some("*")).await;
        check(None, 6, "012345", Some("4")).await;
        check(Some("4"), 6, "456789", None).await;
        check(Some("8"), 1, "8", Some("8")).await;
        check(None, 5000, "0123456789", None).await;
    }
}
