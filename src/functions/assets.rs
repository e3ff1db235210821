//! `Assets`: answers a query for some assets, at once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use schemars::JsonSchema;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::fields::{Field, Fields, Sort, bad_field};
use super::openapi::{Answer, Operation, schema};
use super::{App, GET, HTTP_TIME_MAX, POST};
use crate::config::parse;
use crate::encode::csv::{COLUMNS_DEFAULT, COLUMNS_MAX, Csv};
use crate::encode::ndjson;
use crate::error::{Error, Kind, Result};
use crate::export::query::{self, Answered, Bounds, LIMIT_DEFAULT, LIMIT_MAX};
use crate::export::slice::Slice;
use crate::export::source::{Cut, Page, Query};
use crate::host::http::{HttpReply, HttpRequest, JSON, Refusal};
use crate::model::plan::Within;
use crate::model::request::Request;
use crate::secret::holds_credential;

/// Most bytes of assets in an answer (contract, section 4).
const BYTES_MAX: usize = 16 << 20;

/// Queries at once, for one process (contract, section 4).
const QUERIES_AT_ONCE: usize = 2;

/// How long a query waits for its turn (contract, section 4).
const TURN_TIME_MAX: Duration = Duration::from_secs(10);

/// Where the cursor stands of records without a document around them.
const NEXT_MARK: &str = "x-easm-next-mark";

/// What callers may say.
const FIELDS: &[Field] = &[
    Field {
        name: "filter",
        sort: Sort::Text,
        means: "EASM filter; empty: everything. Default: the target's own.",
    },
    Field { name: "kind", sort: Sort::Texts, means: "Kinds of assets. Default: the target's own." },
    Field {
        name: "limit",
        sort: Sort::Number(1, LIMIT_MAX),
        means: "Most assets of the answer. Default: 100. Fewer is normal.",
    },
    Field {
        name: "mark",
        sort: Sort::Text,
        means: "The cursor of an earlier answer: goes on there.",
    },
    Field {
        name: "columns",
        sort: Sort::Texts,
        means: "Columns of csv: top-level members. Default: the twelve of the contract.",
    },
    Field {
        name: "format",
        sort: Sort::Word(&["json", "ndjson", "csv"]),
        means: "What comes back.",
    },
    Field { name: "target", sort: Sort::Text, means: "Name of the target. Default: the only one." },
];

const ANSWERS: &[Answer] = &[Answer {
    status: 200,
    means: "Assets. Where there is a cursor there may be more; without one this was the end.",
    content: &[(JSON, Some(schema::<AssetPage>)), (NDJSON, None), (CSV, None)],
    headers: &[(NEXT_MARK, "The cursor, for ndjson and csv.")],
}];

/// What the function does, for `openapi.json`.
pub const OPERATIONS: &[Operation] = &[
    Operation {
        function: "Assets",
        id: "getAssets",
        method: GET,
        path: "assets",
        does: "Answers a query for some assets, at once.",
        parameters: &[],
        query: FIELDS,
        body: None,
        is_anonymous: false,
        answers: ANSWERS,
        refusals: &[400, 429, 500, 502, 503, 504],
    },
    Operation {
        function: "Assets",
        id: "queryAssets",
        method: POST,
        path: "assets",
        does: "The same, for long filters.",
        parameters: &[],
        query: &[],
        body: Some(FIELDS),
        is_anonymous: false,
        answers: ANSWERS,
        refusals: &[400, 411, 413, 429, 500, 502, 503, 504],
    },
];

/// Content-Type of NDJSON.
const NDJSON: &str = "application/x-ndjson";

/// Content-Type of CSV.
const CSV: &str = "text/csv; charset=utf-8";

/// Some assets, as the document that is written piece by piece below.
#[derive(JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "describes what is written without it")]
struct AssetPage {
    /// The assets, as the service sent them.
    value: Vec<serde_json::Map<String, serde_json::Value>>,
    /// The cursor; `null` at the end.
    next_mark: Option<String>,
    /// How many assets match, if the service says so.
    total_elements: Option<u64>,
}

/// Whose turn it is.
pub struct Turns(Arc<Semaphore>);

impl Default for Turns {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(QUERIES_AT_ONCE)))
    }
}

impl Turns {
    async fn next(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        let turn = Arc::clone(&self.0).acquire_owned();
        let turn = tokio::time::timeout(TURN_TIME_MAX, turn).await;
        turn.ok().and_then(std::result::Result::ok).ok_or_else(|| {
            Refusal::busy("other queries are being answered; try again later", TURN_TIME_MAX)
        })
    }
}

/// How the assets are written.
enum Format {
    Json,
    Ndjson,
    Csv(Vec<String>),
}

/// What is asked for.
struct Asked {
    query: Query,
    limit: u64,
    mark: Option<String>,
    format: Format,
}

/// Runs the function.
///
/// # Errors
/// What the caller is told in place of an answer.
pub async fn run(app: &App, request: &HttpRequest) -> Result<HttpReply, Refusal> {
    let until = Instant::now() + HTTP_TIME_MAX;
    let fields = match request.method.as_str() {
        POST => {
            Fields::of_query(request, &[])?;
            Fields::of_body(request, FIELDS)?
        }
        _ => Fields::of_query(request, FIELDS)?,
    };
    let settings = app.settings()?;
    let name = app.target_named(fields.text("target")?)?;
    let Asked { query, limit, mark, format } = asked(&fields, &settings.target(name)?.request)?;
    // Held until the answer is read, since it is in memory until then.
    let turn = app.turns.next().await?;
    let slice = Slice::of(until.saturating_duration_since(Instant::now()));
    let target = slice.bound(app.target(name)).await.unwrap_or_else(|| {
        Err(Error::new(Kind::Deadline, "get the target ready").because("it took too long"))
    })?;
    let page_size = settings.page_size;
    let bounds = Bounds { assets_max: limit, bytes_max: BYTES_MAX, page_size, slice };
    let mut output = Output::new(format)?;
    let mut add = |page: Page| output.add(page);
    let answered =
        query::read(target.world.source.as_ref(), &query, mark, &bounds, &mut add).await?;
    Ok(output.end(answered)?.holding(turn))
}

fn asked(fields: &Fields, own: &Request) -> Result<Asked, Refusal> {
    let bad = |err: Error| bad_field(&err);
    let filter = match fields.text("filter")? {
        Some(filter) => parse::filter("filter", filter).map_err(bad)?,
        None => own.filter.clone(),
    };
    let kinds = match fields.texts("kind")? {
        Some(kinds) => parse::kinds("kind", &kinds).map_err(bad)?,
        None => own.kinds.clone(),
    };
    let columns = fields.texts("columns")?.map(|columns| columns_of(&columns)).transpose()?;
    let format = match (fields.text("format")?.unwrap_or("json"), columns) {
        ("csv", columns) => Format::Csv(columns.unwrap_or_else(default_columns)),
        ("json" | "ndjson", Some(_)) => {
            return Err(Refusal::bad_input("columns: only csv has them; use format=csv"));
        }
        ("json", None) => Format::Json,
        ("ndjson", None) => Format::Ndjson,
        _ => unreachable!("only these words pass"),
    };
    Ok(Asked {
        query: Query { filter, cut: Cut::AnyOf(kinds), within: Within::default() },
        limit: fields.number("limit")?.unwrap_or(LIMIT_DEFAULT),
        // A plus that was not escaped arrives as a space, which no cursor has.
        mark: fields
            .text("mark")?
            .filter(|mark| !mark.is_empty())
            .map(|mark| mark.replace(' ', "+")),
        format,
    })
}

fn default_columns() -> Vec<String> {
    COLUMNS_DEFAULT.map(str::to_owned).to_vec()
}

fn columns_of(text: &str) -> Result<Vec<String>, Refusal> {
    let columns: Vec<String> = text
        .split(',')
        .map(str::trim)
        .filter(|column| !column.is_empty())
        .map(str::to_owned)
        .collect();
    if columns.is_empty() || columns.len() > COLUMNS_MAX {
        let words = format!("columns: use 1 to {COLUMNS_MAX} names with commas between them");
        return Err(Refusal::bad_input(words));
    }
    if columns.iter().any(|column| column.contains(['.', '[', '*'])) {
        let words = "columns: paths are not part of this version; use members";
        return Err(Refusal::bad_input(words));
    }
    let n_different = columns.iter().collect::<BTreeSet<_>>().len();
    match n_different == columns.len() {
        true => Ok(columns),
        // Whoever asks for one member a hundred times gets an answer a hundred times as large.
        false => Err(Refusal::bad_input("columns: name each of them once")),
    }
}

/// The answer, as it grows: the service's own bytes, where they fit in as they are.
enum Output {
    Json { pieces: Vec<Bytes> },
    Ndjson { pieces: Vec<Bytes> },
    Csv(Box<Csv>),
}

impl Output {
    fn new(format: Format) -> Result<Self> {
        Ok(match format {
            Format::Json => Self::Json { pieces: Vec::new() },
            Format::Ndjson => Self::Ndjson { pieces: Vec::new() },
            Format::Csv(columns) => Self::Csv(Box::new(Csv::new(columns)?)),
        })
    }

    /// Adds a page, and says how many bytes of the answer it is.
    fn add(&mut self, page: Page) -> Result<usize> {
        let Page { mut body, assets, .. } = page;
        let (Some(first), Some(last)) = (assets.first(), assets.last()) else { return Ok(0) };
        match self {
            Self::Json { pieces } => {
                // They are elements of one array, with commas between them and no white space.
                let span = first.span.start..last.span.end;
                let start = if pieces.is_empty() { JSON_START } else { b"," };
                let n_bytes = start.len() + span.len();
                pieces.push(Bytes::from_static(start));
                pieces.push(Bytes::from_owner(body).slice(span));
                Ok(n_bytes)
            }
            Self::Ndjson { pieces } => {
                let spans: Vec<_> = assets.into_iter().map(|asset| asset.span).collect();
                let lines = ndjson::to_lines(&mut body, &spans);
                let n_bytes = lines.len();
                pieces.push(Bytes::from_owner(body).slice(lines));
                Ok(n_bytes)
            }
            Self::Csv(csv) => {
                let before = csv.n_bytes();
                assets.iter().try_for_each(|asset| csv.add(&body[asset.span.clone()]))?;
                Ok(csv.n_bytes() - before)
            }
        }
    }

    fn end(self, answered: Answered) -> Result<HttpReply, Refusal> {
        let Answered { next, total } = answered;
        let (content_type, pieces) = match self {
            Self::Json { mut pieces } => {
                if pieces.is_empty() {
                    pieces.push(Bytes::from_static(JSON_START));
                }
                if next.as_deref().is_some_and(|next| holds_credential(next.as_bytes())) {
                    return Err(Error::leak("answer with a cursor").into());
                }
                let next = serde_json::Value::from(next);
                let total = serde_json::Value::from(total);
                let end = format!("],\"nextMark\":{next},\"totalElements\":{total}}}");
                pieces.push(end.into());
                return Ok(HttpReply::of_records(JSON, pieces));
            }
            Self::Ndjson { pieces } => (NDJSON, pieces),
            Self::Csv(csv) => (CSV, vec![csv.end()?.into()]),
        };
        let reply = HttpReply::of_records(content_type, pieces);
        match next {
            None => Ok(reply),
            // Left out, it would be taken for the end.
            Some(next) if !next.bytes().all(|b| b.is_ascii_graphic()) => Err(Refusal::of(
                &Error::new(Kind::Unreadable, "list assets")
                    .because("the service's cursor does not fit into a header")
                    .advise("use format=json"),
            )),
            Some(next) => Ok(reply.with(NEXT_MARK, next)),
        }
    }
}

/// What stands in front of the first asset.
const JSON_START: &[u8] = b"{\"value\":[";
