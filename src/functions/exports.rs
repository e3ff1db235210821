//! `Exports`: opens, lists, shows and cancels runs.

use schemars::JsonSchema;
use serde::Serialize;
use tracing::warn;

use super::fields::{Field, Fields, Sort, bad_field};
use super::openapi::{Answer, Operation, Parameter, schema};
use super::{App, DELETE, GET, POST, note_run, planning};
use crate::config::parse;
use crate::error::Error;
use crate::export::books::Books;
use crate::export::open::{Keyed, Opened, Opening, open, open_by_key};
use crate::export::plan::CensusReport;
use crate::export::runs::{self, Listed};
use crate::export::step::Message;
use crate::export::{end, plan};
use crate::host::http::{HttpReply, HttpRequest, JSON, Refusal};
use crate::model::request::Request;
use crate::model::run::{RunDocument, RunId, Status, Trigger};

/// Runs of a list that does not say how many.
const LIST_DEFAULT: u64 = 20;

/// Most runs of a list: as many as the history holds.
const LIST_MAX: u64 = 400;

/// Longest idempotency key.
const KEY_CHARS_MAX: usize = 255;

/// Members of the body of a `POST` (contract, section 4).
const MEMBERS: &[Field] = &[
    Field { name: "target", sort: Sort::Text, means: "Name of the target. Default: the only one." },
    Field {
        name: "filter",
        sort: Sort::Text,
        means: "EASM filter; empty: everything. Default, as of what follows: the target's own.",
    },
    Field { name: "kinds", sort: Sort::Texts, means: "Kinds of assets." },
    Field { name: "datasets", sort: Sort::Texts, means: "Datasets: assets." },
    Field { name: "format", sort: Sort::Text, means: "Format of the files: ndjson." },
    Field {
        name: "compression",
        sort: Sort::Text,
        means: "Compression of the files: gzip or none.",
    },
    Field { name: "columns", sort: Sort::Texts, means: "Columns, for formats that have them." },
    Field { name: "maxAssets", sort: Sort::Number(1, u64::MAX), means: "Most assets to export." },
    Field { name: "dryRun", sort: Sort::Switch, means: "Counts, and opens no run." },
];

/// Fields of the query of a list.
const LIST_FIELDS: &[Field] = &[
    Field { name: "target", sort: Sort::Text, means: "Name of the target. Default: all." },
    Field { name: "limit", sort: Sort::Number(1, LIST_MAX), means: "Most runs. Default: 20." },
];

const RUN_ID: Parameter = Parameter { name: "runId", place: "path", means: "Id of the run." };

const ACCEPTED: Answer = Answer {
    status: 202,
    means: "The run, and where to look at it.",
    content: &[(JSON, Some(schema::<Accepted>))],
    headers: &[("location", "Where to look at the run: an absolute path.")],
};

/// What the function does, for `openapi.json`.
pub const OPERATIONS: &[Operation] = &[
    Operation {
        function: "Exports",
        id: "listExports",
        method: GET,
        path: "exports",
        does: "Lists runs, newest first.",
        parameters: &[],
        query: LIST_FIELDS,
        body: None,
        is_anonymous: false,
        answers: &[Answer {
            status: 200,
            means: "The runs.",
            content: &[(JSON, Some(schema::<List>))],
            headers: &[],
        }],
        refusals: &[400, 500, 503],
    },
    Operation {
        function: "Exports",
        id: "startExport",
        method: POST,
        path: "exports",
        does: "Opens a run, or joins the one in work for an equal request; or counts, with dryRun.",
        parameters: &[Parameter {
            name: "Idempotency-Key",
            place: "header",
            means: "The same key within 7 days gives the same run.",
        }],
        query: &[],
        body: Some(MEMBERS),
        is_anonymous: false,
        answers: &[
            Answer {
                status: 200,
                means: "What a dry run counted.",
                content: &[(JSON, Some(schema::<CensusReport>))],
                headers: &[],
            },
            ACCEPTED,
        ],
        refusals: &[400, 409, 411, 413, 500, 502, 503, 504],
    },
    Operation {
        function: "Exports",
        id: "getExport",
        method: GET,
        path: "exports/{runId}",
        does: "The status document of a run, looked up in all targets.",
        parameters: &[RUN_ID],
        query: &[],
        body: None,
        is_anonymous: false,
        answers: &[Answer {
            status: 200,
            means: "The run.",
            content: &[(JSON, Some(schema::<RunDocument>))],
            headers: &[],
        }],
        refusals: &[400, 404, 500, 503],
    },
    Operation {
        function: "Exports",
        id: "cancelExport",
        method: DELETE,
        path: "exports/{runId}",
        does: "Cancels a run.",
        parameters: &[RUN_ID],
        query: &[],
        body: None,
        is_anonymous: false,
        answers: &[ACCEPTED],
        refusals: &[400, 404, 409, 500, 503],
    },
];

/// Runs, newest first.
#[derive(Debug, Serialize, JsonSchema)]
struct List {
    value: Vec<RunDocument>,
    /// Targets whose runs cannot be read now; the log says why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unread: Vec<String>,
}

/// A run that was opened, joined or cancelled, and where to look at it.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Accepted {
    run_id: RunId,
    status: Status,
    /// Absolute path, without host and key.
    status_url: String,
}

type Answered = Result<(HttpReply, Vec<Message>), Refusal>;

/// Runs the function.
///
/// # Errors
/// What the caller is told in place of an answer.
pub async fn run(app: &App, request: &HttpRequest) -> Answered {
    let id = request.params.get("runId");
    match (request.method.as_str(), id) {
        (POST, None) => post(app, request).await,
        (POST, Some(_)) => Err(Refusal::bad_input("runId: a run that is opened has no id yet")),
        (DELETE, None) => Err(Refusal::bad_input("runId: name the run that is to be cancelled")),
        (DELETE, Some(id)) => {
            Fields::of_query(request, &[])?;
            cancel(app, id).await
        }
        (_, None) => list(app, request).await,
        (_, Some(id)) => {
            Fields::of_query(request, &[])?;
            let (books, run) = find(app, id).await?;
            let run = runs::show(&books, &run.run_id).await?;
            Ok((HttpReply::json(&run), Vec::new()))
        }
    }
}

async fn list(app: &App, request: &HttpRequest) -> Answered {
    let fields = Fields::of_query(request, LIST_FIELDS)?;
    let limit = fields.number("limit")?.unwrap_or(LIST_DEFAULT);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let target = fields.text("target")?;
    let all = match target {
        None => app.all_books().await?,
        Some(name) => vec![books_of(app, app.target_named(Some(name))?).await?],
    };
    let Listed { runs, unread } = runs::list(&all, limit).await?;
    for (name, err) in &unread {
        warn!(target_name = name, "Left out of a list of runs: {err}");
    }
    let unread = unread.into_iter().map(|(name, _)| name).collect();
    Ok((HttpReply::json(&List { value: runs, unread }), Vec::new()))
}

async fn cancel(app: &App, id: &str) -> Answered {
    let (books, found) = find(app, id).await?;
    let run = end::cancel(&books, &found.run_id).await?;
    match run.status {
        Status::Cancelled if !found.status.is_ended() => Ok((accepted(&run), Vec::new())),
        status => Err(Refusal::conflict(format!(
            "run {} is {}, so there is nothing to cancel",
            run.run_id,
            status.as_str()
        ))),
    }
}

async fn post(app: &App, request: &HttpRequest) -> Answered {
    Fields::of_query(request, &[])?;
    let fields = Fields::of_body(request, MEMBERS)?;
    let name = app.target_named(fields.text("target")?)?;
    let target = app.settings()?.target(name)?;
    let own = &target.request;
    let asked = asked(&fields, own)?;
    if fields.switch("dryRun")? {
        return dry_run(app, name, &asked).await;
    }
    let books = books_of(app, name).await?;
    let (publishes, now) = (asked == *own, app.clock().now());
    let opening = Opening::now(asked, Trigger::Http, now, publishes).of(target.inventory());
    let (books, id) = match key(request)? {
        None => match open(&books, &opening).await? {
            Opened::Ours(id) | Opened::Joined(id) | Opened::Skipped { by: id } => (books, id),
            Opened::Ended(run) => (books, run.run_id),
        },
        Some(key) => {
            let body = request.body.bytes()?.unwrap_or_default();
            match open_by_key(&books, key, body, &opening).await? {
                Keyed::OtherBody => {
                    return Err(Refusal::conflict(
                        "Idempotency-Key: it was used with another body; use a new one",
                    ));
                }
                Keyed::Run { target, run_id } => (books_of(app, &target).await?, run_id),
            }
        }
    };
    note_run(&id);
    let run = books.run(&id).await?.ok_or_else(|| gone(&id))?;
    let messages = match run.status.is_ended() {
        true => None,
        false => planning(&books, &id).await?,
    };
    Ok((accepted(&run), messages.into_iter().collect()))
}

/// What the target's own request becomes with what the caller asked for.
fn asked(fields: &Fields, own: &Request) -> Result<Request, Refusal> {
    let mut request = own.clone();
    let bad = |err: Error| bad_field(&err);
    if let Some(filter) = fields.text("filter")? {
        request.filter = parse::filter("filter", filter).map_err(bad)?;
    }
    if let Some(kinds) = fields.texts("kinds")? {
        request.kinds = parse::kinds("kinds", &kinds).map_err(bad)?;
    }
    if let Some(datasets) = fields.texts("datasets")? {
        request.datasets = parse::datasets("datasets", &datasets).map_err(bad)?;
    }
    if let Some(format) = fields.text("format")? {
        request.format = parse::format("format", format).map_err(bad)?;
    }
    if let Some(compression) = fields.text("compression")? {
        request.compression = parse::compression("compression", compression).map_err(bad)?;
    }
    if fields.texts("columns")?.is_some_and(|columns| !columns.is_empty()) {
        return Err(Refusal::bad_input("columns: ndjson has none; leave them out"));
    }
    if let Some(max_assets) = fields.number("maxAssets")? {
        request.max_assets = Some(max_assets);
    }
    Ok(request)
}

async fn dry_run(app: &App, name: &str, asked: &Request) -> Answered {
    let target = app.target(name).await?;
    let census = plan::census(target.world.source.as_ref(), asked).await?;
    Ok((HttpReply::json(&census.report(asked)), Vec::new()))
}

/// The idempotency key of `request`, if there is one.
fn key(request: &HttpRequest) -> Result<Option<&str>, Refusal> {
    let is_key = |key: &str| {
        (1..=KEY_CHARS_MAX).contains(&key.len())
            && key.chars().all(|c| c.is_ascii_graphic() || c == ' ')
    };
    match request.headers.get("idempotency-key") {
        None => Ok(None),
        Some(key) if is_key(key) => Ok(Some(key)),
        Some(_) => {
            let words =
                format!("Idempotency-Key: use 1 to {KEY_CHARS_MAX} printable ASCII characters");
            Err(Refusal::bad_input(words))
        }
    }
}

/// The books of the target `name`.
async fn books_of(app: &App, name: &str) -> Result<Books, Refusal> {
    app.books(name).await?.ok_or_else(|| Refusal::bad_input("target: no target has this name"))
}

/// The run `id`, which may be any target's.
async fn find(app: &App, id: &str) -> Result<(Books, RunDocument), Refusal> {
    let id = RunId::parse(id).ok_or_else(|| {
        Refusal::bad_input("runId: use the id of a run, such as 20261122T060000Z-1a2b3c4d")
    })?;
    note_run(&id);
    let all = app.all_books().await?;
    let found = runs::look_up(&all, &id).await?.map(|(books, run)| (books.clone(), run));
    found.ok_or_else(|| gone(&id))
}

fn gone(id: &RunId) -> Refusal {
    Refusal::not_found(format!("no target has a run {id}"))
}

/// `202`, and where to look.
fn accepted(run: &RunDocument) -> HttpReply {
    let url = format!("/api/exports/{}", run.run_id);
    let (run_id, status) = (run.run_id.clone(), run.status);
    let body = Accepted { run_id, status, status_url: url.clone() };
    HttpReply::json(&body).accepted().with("location", url)
}
