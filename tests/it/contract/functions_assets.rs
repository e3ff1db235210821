//! The function `Assets`: what the contract says of a query, seen as the host sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use easm_export::sim::{self, Fault, Options, Scripted};
use serde_json::{Value, json};

use super::functions_host::{Answer, Handler, Mode};
use super::functions_payload::{Ask, ask};
use super::world;
use crate::support::{World, assert_same_lines};

/// Answers of one walk. Ends a test whose cursor goes on for ever.
const ANSWERS_MAX: usize = 400;
const POLL: Duration = Duration::from_millis(10);
const POLLS_MAX: u32 = 1500;
const COLUMNS: [&str; 12] = [
    "id",
    "kind",
    "name",
    "displayName",
    "uuid",
    "state",
    "createdDate",
    "updatedDate",
    "externalId",
    "labels",
    "wildcard",
    "discoGroupName",
];

type Parameters = Vec<(&'static str, Value)>;

/// The query with these parameters: in a URL, or in a body.
fn query(method: &'static str, parameters: &[(&str, Value)]) -> Ask {
    if method == "POST" {
        let body: BTreeMap<&str, &Value> =
            parameters.iter().map(|(name, value)| (*name, value)).collect();
        return ask(method, "/assets").body(&json!(body).to_string());
    }
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    parameters
        .iter()
        .fold(ask(method, "/assets"), |ask, (name, value)| ask.query(name, &text(value)))
}

/// The cursor behind an answer.
fn next_mark(answer: &Answer, format: &str) -> Option<String> {
    match format {
        "json" => answer.json()["nextMark"].as_str().map(str::to_owned),
        _ => answer.headers.get("x-easm-next-mark").cloned(),
    }
}

/// Every answer from the first to the one without a cursor.
async fn walk(
    handler: &Handler,
    mode: Mode,
    method: &'static str,
    parameters: &[(&str, Value)],
    format: &str,
) -> Vec<Answer> {
    let (mut answers, mut mark) = (Vec::new(), None::<String>);
    while answers.len() < ANSWERS_MAX {
        let mut all = parameters.to_vec();
        all.push(("format", json!(format)));
        all.extend(mark.map(|mark| ("mark", json!(mark))));
        let answer = handler.ask(mode, &query(method, &all)).await.expect(200);
        mark = next_mark(&answer, format);
        answers.push(answer);
        if mark.is_none() {
            return answers;
        }
    }
    panic!("the cursor goes on for ever")
}

/// Rows of CSV behind the header row, which is checked.
#[track_caller]
fn rows(text: &str, columns: &[&str]) -> Vec<Vec<String>> {
    assert!(text.ends_with("\r\n"), "RFC 4180: {text:?}");
    let mut reader = csv::ReaderBuilder::new().has_headers(true).from_reader(text.as_bytes());
    assert_eq!(reader.headers().unwrap().iter().collect::<Vec<_>>(), columns);
    reader.records().map(|row| row.unwrap().iter().map(str::to_owned).collect()).collect()
}

fn sorted(mut lines: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    lines.sort();
    lines
}

#[tokio::test]
async fn the_cursor_leads_to_the_end_and_nothing_is_lost_or_doubled() {
    let world = world(65).await;
    let handler = Handler::start(&world, &[]).await;
    let truth = world.sim.inventory().ndjson("");
    let ids: BTreeSet<String> = (0..65).map(|i| world.sim.inventory().id(i)).collect();
    for (mode, method) in [
        (Mode::Default, "GET"),
        (Mode::Default, "POST"),
        (Mode::Forwarding, "GET"),
        (Mode::Forwarding, "POST"),
    ] {
        let limit = [("limit", json!(9))];
        let pages = walk(&handler, mode, method, &limit, "json").await;
        let mut found = Vec::new();
        for page in &pages {
            let page = page.json();
            assert_eq!(page["totalElements"], 65, "{page}");
            let value = page["value"].as_array().unwrap();
            assert!(value.len() <= 9, "{} of 9", value.len());
            found.extend(value.iter().map(|asset| asset["id"].as_str().unwrap().to_owned()));
        }
        assert_eq!(found.len(), 65, "{mode:?} {method}: lost or doubled");
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), ids, "{mode:?} {method}");

        let answers = walk(&handler, mode, method, &limit, "ndjson").await;
        let mut lines: Vec<Vec<u8>> = Vec::new();
        for answer in &answers {
            assert!(answer.body.ends_with('\n'), "every line ends with LF: {answer:?}");
            let of_answer: Vec<Vec<u8>> =
                answer.body.lines().map(|line| line.as_bytes().to_vec()).collect();
            assert!(of_answer.len() <= 9);
            lines.extend(of_answer);
        }
        assert_same_lines(&sorted(lines), &truth, &format!("{mode:?} {method} ndjson"));

        let answers = walk(&handler, mode, method, &limit, "csv").await;
        let found: Vec<String> = answers
            .iter()
            .flat_map(|answer| rows(&answer.body, &COLUMNS))
            .map(|row| row[0].clone())
            .collect();
        assert_eq!(found.len(), 65, "{mode:?} {method} csv");
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), ids, "{mode:?} {method} csv");
    }
    handler.end().await.expect_quiet();
}

#[tokio::test]
async fn a_hundred_come_unless_a_limit_says_otherwise() {
    let world = world(230).await;
    let handler = Handler::start(&world, &[]).await;
    // What is asked for, and the most that may come; here there is time and room for all of it.
    for (limit, n) in [(None, 100), (Some(1), 1), (Some(150), 150), (Some(5000), 230)] {
        for mode in Mode::BOTH {
            let parameters: Vec<(&str, Value)> =
                limit.map(|limit| ("limit", json!(limit))).into_iter().collect();
            let page = handler.ask(mode, &query("GET", &parameters)).await.expect(200).json();
            assert_eq!(page["value"].as_array().unwrap().len(), n, "{limit:?}");
            assert_eq!(page["nextMark"].is_string(), n < 230, "{limit:?}: {}", page["nextMark"]);
            assert_eq!(page["totalElements"], 230);
        }
    }
    handler.end().await.expect_quiet();
}

#[tokio::test]
async fn a_query_brings_what_its_filter_and_kinds_select() {
    let world = world(120).await;
    let handler = Handler::start(&world, &[("EASM_FILTER", "state = \"confirmed\"")]).await;
    let confirmed = "state = \"confirmed\"";
    let pages_and_hosts = "(kind = \"host\" OR kind = \"page\")";
    let long = format!("{pages_and_hosts} AND ({})", vec![confirmed; 200].join(" OR "));
    let cases: [(&str, Parameters, String); 6] = [
        ("GET", vec![], confirmed.to_owned()),
        ("GET", vec![("filter", json!(""))], String::new()),
        ("GET", vec![("filter", json!("kind = \"as\""))], "kind = \"as\"".to_owned()),
        (
            "GET",
            vec![("kind", json!("host,page")), ("filter", json!(""))],
            pages_and_hosts.to_owned(),
        ),
        (
            "POST",
            vec![("kind", json!(["host", "page"])), ("target", json!("Contoso"))],
            format!("{pages_and_hosts} AND {confirmed}"),
        ),
        ("POST", vec![("filter", json!(long))], long.clone()),
    ];
    for (method, parameters, truth) in cases {
        for mode in Mode::BOTH {
            let mut parameters = parameters.clone();
            parameters.push(("limit", json!(5000)));
            let answers = walk(&handler, mode, method, &parameters, "ndjson").await;
            let lines = answers.iter().flat_map(|answer| answer.body.lines());
            let lines = sorted(lines.map(|line| line.as_bytes().to_vec()).collect());
            assert_same_lines(&lines, &world.sim.inventory().ndjson(&truth), &truth);
        }
    }
    handler.end().await.expect_quiet();
}

/// The service's answer with names that a spreadsheet would run.
async fn with_formulas(request: Request, next: Next) -> Response {
    let (mut parts, body) = next.run(request).await.into_parts();
    let text = to_bytes(body, usize::MAX).await.unwrap();
    let mut answer: Value = serde_json::from_slice(&text).unwrap_or_default();
    let starts = ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "a=b", "say \"hi\",\r\nyou"];
    if let Some(assets) = answer.get_mut("value").and_then(Value::as_array_mut) {
        for (at, asset) in assets.iter_mut().enumerate() {
            asset["displayName"] = json!(starts[at % starts.len()]);
            asset["count"] = json!(-5);
        }
        parts.headers.remove("content-length");
        return Response::from_parts(parts, Body::from(answer.to_string()));
    }
    Response::from_parts(parts, Body::from(text))
}

#[tokio::test]
async fn csv_is_quoted_and_never_runs_in_a_spreadsheet() {
    let world = world(16).await;
    let options = Options { assets: 16, asset_bytes: 900, ..Options::default() };
    let router = sim::router(Arc::new(sim::State::new(options))).layer(from_fn(with_formulas));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let identity = format!("{url}/msi/token");
    let vars = [
        ("EASM_DATA_PLANE_URL", url.as_str()),
        ("EASM_ARM_URL", &url),
        ("IDENTITY_ENDPOINT", &identity),
    ];
    let handler = Handler::start(&world, &vars).await;
    for mode in Mode::BOTH {
        let parameters = [
            ("format", json!("csv")),
            ("limit", json!(8)),
            ("columns", json!("displayName,count")),
        ];
        let answer = handler.ask(mode, &query("GET", &parameters)).await.expect(200);
        let found = rows(&answer.body, &["displayName", "count"]);
        let names: Vec<&str> = found.iter().map(|row| row[0].as_str()).collect();
        let wanted =
            ["'=1+1", "'+1", "'-1", "'@SUM(A1)", "'\tx", "'\rx", "a=b", "say \"hi\",\r\nyou"];
        assert_eq!(names, wanted, "{mode:?}");
        assert!(found.iter().all(|row| row[1] == "-5"), "a number is no formula: {found:?}");
    }
    handler.end().await.expect_quiet();
}

#[tokio::test]
async fn csv_has_the_contracts_columns_or_those_asked_for() {
    let world = world(12).await;
    let handler = Handler::start(&world, &[]).await;
    let lines = world.sim.inventory().ndjson("");
    for mode in Mode::BOTH {
        let answers = walk(&handler, mode, "GET", &[("limit", json!(5000))], "csv").await;
        let found = rows(&answers[0].body, &COLUMNS);
        assert_eq!(found.len(), lines.len());
        for line in &lines {
            let asset: Value = serde_json::from_slice(line).unwrap();
            let row = found.iter().find(|row| asset["id"] == row[0]).unwrap();
            for (at, column) in COLUMNS.iter().enumerate() {
                let wanted = match &asset[*column] {
                    Value::String(text) => text.clone(),
                    Value::Array(list) => {
                        list.iter().map(|one| one.as_str().unwrap()).collect::<Vec<_>>().join(";")
                    }
                    Value::Null => String::new(),
                    other => other.to_string(),
                };
                let guarded = wanted.starts_with(['=', '+', '-', '@', '\t', '\r']);
                let wanted = if guarded { format!("'{wanted}") } else { wanted };
                assert_eq!(row[at], wanted, "{column} of {}", asset["id"]);
            }
        }
        let columns = [("columns", json!(["uuid", "name"])), ("limit", json!(5000))];
        let answers = walk(&handler, mode, "POST", &columns, "csv").await;
        assert_eq!(rows(&answers[0].body, &["uuid", "name"]).len(), 12);
    }
    handler.end().await.expect_quiet();
}

#[tokio::test]
async fn an_empty_inventory_is_an_empty_list() {
    let world = world(0).await;
    let handler = Handler::start(&world, &[]).await;
    for mode in Mode::BOTH {
        for method in ["GET", "POST"] {
            let page = handler.ask(mode, &query(method, &[])).await.expect(200).json();
            assert_eq!([&page["value"], &page["nextMark"]], [&json!([]), &Value::Null], "{page}");
            let lines = walk(&handler, mode, method, &[], "ndjson").await;
            assert_eq!([lines.len(), lines[0].body.len()], [1, 0]);
            let table = walk(&handler, mode, method, &[], "csv").await;
            assert_eq!(rows(&table[0].body, &COLUMNS), Vec::<Vec<String>>::new());
        }
    }
    handler.end().await.expect_quiet();
}

#[tokio::test]
async fn a_bad_query_is_refused_by_the_name_of_what_is_wrong() {
    let world = world(5).await;
    let handler = Handler::start(&world, &[]).await;
    let cases = [
        ("limit", json!(0)),
        ("limit", json!(5001)),
        ("limit", json!(-1)),
        ("limit", json!(1.5)),
        ("limit", json!("many")),
        ("limit", json!("")),
        ("kind", json!("nonsense")),
        ("kind", json!("host,nonsense")),
        ("format", json!("xml")),
        ("format", json!("parquet")),
        ("target", json!("nobody")),
        ("colour", json!("red")),
        ("columns", json!("")),
    ];
    for mode in Mode::BOTH {
        for (name, value) in &cases {
            for method in ["GET", "POST"] {
                let mut parameters = vec![(*name, value.clone())];
                if *name == "columns" {
                    parameters.push(("format", json!("csv")));
                }
                let answer = handler.ask(mode, &query(method, &parameters)).await;
                assert_eq!(answer.status, 400, "{mode:?} {method} {parameters:?}: {answer:?}");
                answer.expect_error(400, name);
            }
        }
        for body in ["{", "[]", "nonsense", "null"] {
            let ask = ask("POST", "/assets").body(body);
            handler.ask(mode, &ask).await.expect_error(400, "body");
        }
        let large = json!({"filter": "x".repeat((1 << 20) + 1)}).to_string();
        handler.ask(mode, &ask("POST", "/assets").body(&large)).await.expect_error(413, "");
    }
    handler.end().await.expect_quiet();
}

/// The first `n` answers to a query take `time`.
async fn slow_world(n: u64, time: Duration) -> World {
    let slow = Scripted {
        path_contains: "/assets".to_owned(),
        query_contains: String::new(),
        from: 0,
        times: n,
        fault: Fault::Slow(time),
    };
    let options =
        Options { assets: 20, asset_bytes: 900, script: vec![slow], ..Options::default() };
    World::new(options).await
}

/// How often somebody asked for assets so far.
fn n_asked(world: &World) -> usize {
    world.sim.requests().iter().filter(|seen| seen.path.contains("/assets")).count()
}

/// Three queries: two in work, and then one more. The statuses of the two, and the third answer.
async fn three(world: &World, handler: &Handler) -> (Vec<u16>, Answer) {
    let ask = query("GET", &[("limit", json!(5))]);
    let third = async {
        for _ in 0..POLLS_MAX {
            if n_asked(world) >= 2 {
                break;
            }
            tokio::time::sleep(POLL).await;
        }
        assert_eq!(n_asked(world), 2, "two are in work");
        let third = handler.ask(Mode::Forwarding, &ask);
        tokio::pin!(third);
        // Whoever waits is in nobody's way.
        handler.ping().await;
        handler.ask(Mode::Default, &self::ask("GET", "/exports")).await.expect(200);
        third.await
    };
    let (first, second, third) =
        tokio::join!(handler.ask(Mode::Default, &ask), handler.ask(Mode::Forwarding, &ask), third);
    (vec![first.status, second.status], third)
}

#[tokio::test]
async fn a_third_query_at_once_waits_its_turn() {
    let world = slow_world(2, Duration::from_secs(2)).await;
    let handler = Handler::start(&world, &[]).await;
    let (two, third) = three(&world, &handler).await;
    assert_eq!((two, third.status), (vec![200, 200], 200), "{third:?}");
    handler.end().await.expect_quiet();
}

#[tokio::test]
async fn a_third_query_is_told_to_come_again_if_its_turn_does_not_come() {
    let world = slow_world(2, Duration::from_secs(16)).await;
    let handler = Handler::start(&world, &[]).await;
    let (two, third) = three(&world, &handler).await;
    assert_eq!(two, [200, 200]);
    let third = third.expect_error(429, "");
    let seconds: u64 = third.headers["retry-after"].parse().expect("seconds");
    assert!((1..=600).contains(&seconds), "{seconds}");
    // And then there is room again.
    handler.ask(Mode::Default, &query("GET", &[])).await.expect(200);
    handler.end().await.expect_quiet();
}
