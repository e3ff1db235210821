//! `easm-export query`: assets to stdout, one a line.

use std::io::Write;

use super::chosen::Chosen;
use super::{quoted, read_filter, unless_interrupted};
use crate::config::parse;
use crate::error::{Error, Result};
use crate::export::query::{self, Answered, Bounds, LIMIT_DEFAULT, LIMIT_MAX};
use crate::export::slice::Slice;
use crate::export::source::{Cut, Page, Query};
use crate::export::stream::from_io;
use crate::model::plan::Within;
use crate::secret::holds_credential;
use crate::telemetry::Terminal;

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
pub async fn run(args: Args, chosen: &Chosen<'_>, terminal: &Terminal) -> Result<u8> {
    let settings = chosen.only()?;
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
    let page_size = chosen.settings.page_size;
    let target = chosen.connect(settings).await?;
    let mut output = Output { to: std::io::stdout(), is_document: args.json, n_assets: 0 };
    let (_, slice) = Slice::endless();
    let bounds = Bounds { assets_max: limit, bytes_max: usize::MAX, page_size, slice };
    let mut add = |page: Page| {
        page.assets.iter().try_for_each(|asset| output.add(&page.body[asset.span.clone()]))?;
        Ok(0)
    };
    let read = query::read(target.source(), &query, args.mark, &bounds, &mut add);
    let Answered { next, total } = unless_interrupted(read).await?;
    if next.as_deref().is_some_and(|next| holds_credential(next.as_bytes())) {
        return Err(Error::leak("print the cursor"));
    }
    if args.json {
        output.end(next.as_deref(), total)?;
    } else if let Some(next) = next {
        terminal.hand_over("There is more; go on with --mark ", &quoted(&next));
    }
    Ok(0)
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
