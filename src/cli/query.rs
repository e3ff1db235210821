//! `easm-export query`: assets to stdout, one a line.

use super::{connect, print, read_filter, unless_interrupted};
use crate::config::{Env, Settings, parse};
use crate::error::{Error, Kind, Result};
use crate::export::source::{Cut, Query, Source};
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
    let query = Query { filter, cut: Cut::AnyOf(kinds) };
    let page_size = settings.page_size;
    let target = connect(settings, env).await?;
    let mut output = Output { is_document: args.json, n_assets: 0 };
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
    output: &mut Output,
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
struct Output {
    is_document: bool,
    n_assets: u64,
}

impl Output {
    fn add(&mut self, asset: &[u8]) -> Result<()> {
        let in_front: &[u8] = match (self.is_document, self.n_assets) {
            (false, _) => b"",
            (true, 0) => b"{\"value\": [\n",
            (true, _) => b",",
        };
        self.n_assets += 1;
        print(&[in_front, asset, b"\n"].concat())
    }

    fn end(&self, next: Option<&str>, total: Option<u64>) -> Result<()> {
        let start = if self.n_assets == 0 { "{\"value\": [" } else { "" };
        let next = serde_json::Value::from(next);
        let total = serde_json::Value::from(total);
        print(format!("{start}], \"nextMark\": {next}, \"totalElements\": {total}}}\n").as_bytes())
    }
}
