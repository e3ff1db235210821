//! A service that sends our own token back as data: in a cursor, in a record, in the region.
//!
//! In what a program reads back, nothing is altered: it is not written at all, and the run says why.
//! Records of the inventory pass as they are.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use azure_core::base64;
use easm_export::sim::{self, Options, Running, SignIn};
use serde_json::{Value, json};

use super::handler::{Texts, findings, serving, texts_of};
use super::planted::{self, CLIENT_SECRET};
use super::scene::{EXPORT, FORMATS, Scene, all, assert_none, ended, files, tokens};
use crate::contract::functions_host::Mode;
use crate::contract::functions_payload::{SLOT, ask, slot};

/// Assets so large that each page is a part of its own, and each cursor is saved.
const ASSET_BYTES: usize = 24_000;
const PART_BYTES: (&str, &str) = ("EASM_PART_BYTES_MAX", "32768");
const CODE: &str = "credential_in_data";
/// Messages of one run. Ends a test whose messages multiply.
const MESSAGES_MAX: usize = 20;

/// Changes an answer; it gets the path, the answer, and the token that was sent.
pub type Lie = Arc<dyn Fn(&str, &mut Value, &str) + Send + Sync>;

/// A cursor that is made of the true one's number and of the token that was sent.
type MakeMark = fn(usize, &str) -> String;

#[derive(Clone)]
struct Liar {
    lie: Lie,
    mark: Option<MakeMark>,
    /// True cursors by those that were sent in their place.
    marks: Arc<Mutex<HashMap<String, String>>>,
}

/// The simulator, with answers that are changed by `lie`, and cursors in the place of its own. Gives the
/// URL of both planes.
pub async fn liar(sim: &Running, lie: Lie, mark: Option<MakeMark>) -> String {
    let liar = Liar { lie, mark, marks: Arc::default() };
    let router = sim::router(Arc::clone(sim.state())).layer(from_fn_with_state(liar, lied));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

async fn lied(State(liar): State<Liar>, mut request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let token = request.headers().get("authorization").and_then(|value| value.to_str().ok());
    let token = token.unwrap_or_default().trim_start_matches("Bearer ").to_owned();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let true_query = {
        let marks = liar.marks.lock().unwrap();
        let pairs = url::form_urlencoded::parse(query.as_bytes()).into_owned();
        let true_pairs = pairs.map(|(name, value)| match marks.get(&value) {
            Some(mark) if name == "mark" => (name, mark.clone()),
            _ => (name, value),
        });
        url::form_urlencoded::Serializer::new(String::new()).extend_pairs(true_pairs).finish()
    };
    *request.uri_mut() = format!("{path}?{true_query}").parse().unwrap();
    let (mut parts, body) = next.run(request).await.into_parts();
    let text = to_bytes(body, usize::MAX).await.unwrap();
    let Ok(mut answer) = serde_json::from_slice::<Value>(&text) else {
        return Response::from_parts(parts, Body::from(text));
    };
    (liar.lie)(&path, &mut answer, &token);
    if let (Some(make), Some(Value::String(mark))) = (liar.mark, answer.get_mut("mark")) {
        let mut marks = liar.marks.lock().unwrap();
        let made = make(marks.len(), &token);
        marks.insert(made.clone(), std::mem::replace(mark, made));
    }
    parts.headers.remove("content-length");
    Response::from_parts(parts, Body::from(answer.to_string()))
}

pub fn truth() -> Lie {
    Arc::new(|_, _, _| {})
}

/// A lie about every record of a list.
fn of_records(change: fn(&mut Value, &str)) -> Lie {
    Arc::new(move |path, answer, token| {
        if path.ends_with("/assets") {
            let records = answer["value"].as_array_mut().into_iter().flatten();
            records.for_each(|record| change(record, token));
        }
    })
}

pub fn large() -> Options {
    Options { asset_bytes: ASSET_BYTES, ..planted::options() }
}

/// Cursors with a credential of ours in them, spelled in some way.
const MARKS: [(&str, MakeMark); 9] = [
    ("the token", |n, token| format!("{n}.{token}")),
    ("the token at the end of a URL", |n, token| format!("https://host/?n={n}&t={token}")),
    ("a piece of the token", |n, token| format!("{n}:{}", &token[token.len() / 2..][..40])),
    ("base64", |n, token| base64::encode(format!("{n}{token}"))),
    ("base64 for URLs, shifted", |n, token| base64::encode_url_safe(format!("{n}xy{token}"))),
    ("hex", |n, token| {
        let hex: String = token.bytes().map(|byte| format!("{byte:02x}")).collect();
        format!("{n}{hex}")
    }),
    ("JSON", |n, token| json!({"n": n, "token": {"t": token}}).to_string()),
    ("the client secret", |n, _| format!("{n}{CLIENT_SECRET}")),
    ("the client secret, for a URL", |n, _| format!("{n}{}", planted::escaped(CLIENT_SECRET))),
];

#[tokio::test]
async fn a_cursor_with_a_credential_ends_the_run_and_is_written_nowhere() {
    let cases = MARKS.iter().enumerate();
    let cases = cases.map(|(n, (what, make))| exported(what, *make, FORMATS[n % FORMATS.len()]));
    assert_none(&all(cases).await);
}

/// What is wrong with how exports and queries end.
async fn exported(what: &str, make: MakeMark, format: &str) -> Vec<String> {
    let scene = Scene::new(large()).await;
    let url = liar(&scene.world.sim, truth(), Some(make)).await;
    let command = |args: &[&str]| {
        let mut command = scene.command(SignIn::ClientSecret, args);
        command.env("EASM_DATA_PLANE_URL", &url).env("EASM_PAGE_SIZE", "2");
        command.env("EASM_LOG_FORMAT", format).envs([PART_BYTES]);
        command
    };
    let mut found = Vec::new();
    let told = ended(command(&EXPORT)).await;
    found.extend(scene.findings(&format!("{what}, export"), &told));
    let run = scene.world.files().into_iter().find(|path| path.ends_with("/run.json")).unwrap();
    let run: Value = scene.world.document(&run);
    let error = &run["error"]["code"];
    if told.code != 1 || error != CODE || run["status"] != "failed" {
        found.push(format!("{what}: exit code {}, {error}, {}", told.code, run["status"]));
    }
    for (path, text) in files(&scene.world.exports()) {
        // The line of the error may have one; a document that a program reads has not.
        let is_read = path.contains("/checkpoints/") || path.ends_with("/plan.json");
        if is_read && text.windows(10).any(|part| part == b"[REDACTED]") {
            found.push(format!("{what}: {path} was altered"));
        }
        if path.ends_with("/manifest.json") {
            found.push(format!("{what}: {path} is there"));
        }
    }
    for args in [&["query", "--limit", "2"][..], &["query", "--limit", "2", "--json"]] {
        let told = ended(command(args)).await;
        found.extend(scene.findings_in(&format!("{what}, {args:?}"), &told.texts()));
        // Records that came are printed; but no whole document, which would have a wrong cursor or none.
        let is_document = args.contains(&"--json");
        let is_whole = serde_json::from_slice::<Value>(&told.stdout).is_ok();
        let is_refused = told.code == 1 && !is_whole;
        if !told.stderr_text().contains("credential") || is_document && !is_refused {
            found.push(format!("{what}, {args:?}: {} {}", told.code, told.stderr_text()));
        }
    }
    found
}

#[tokio::test]
async fn a_cursor_with_a_credential_is_answered_to_nobody() {
    let cases = MARKS.iter().enumerate();
    let cases = cases.map(|(n, (what, make))| answered(what, *make, FORMATS[n % FORMATS.len()]));
    assert_none(&all(cases).await);
}

async fn answered(what: &str, make: MakeMark, format: &str) -> Vec<String> {
    let scene = Scene::new(large()).await;
    let url = liar(&scene.world.sim, truth(), Some(make)).await;
    let vars = [
        ("EASM_DATA_PLANE_URL", url.as_str()),
        ("EASM_PAGE_SIZE", "2"),
        PART_BYTES,
        ("EASM_LOG_FORMAT", format),
        ("AzureFunctionsJobHost__functionTimeout", "00:05:00"),
        ("EASM_SLICE_SECONDS", "60"),
    ];
    let handler = serving(&scene, SignIn::ClientSecret, &vars).await;
    let (mut texts, mut found) = (Texts::new(), Vec::new());
    for mode in Mode::BOTH {
        for records in ["json", "ndjson", "csv"] {
            let ask = ask("GET", "/assets").query("limit", "2").query("format", records);
            let answer = handler.ask_raw(mode, &ask).await;
            texts.extend(texts_of(&answer, &format!("{mode:?} {records}")));
            let code = serde_json::from_str::<Value>(&answer.body).unwrap_or_default();
            // What no header can hold is refused before it is looked through.
            let is_told = code["error"]["code"] == CODE || what == "the client secret";
            if answer.status < 500 || !is_told {
                found.push(format!("{what}, {mode:?} {records}: {answer:.300?}"));
            }
        }
    }
    // A run of the queue ends in the same way, and says so to whoever asks.
    let mut work = handler.invoke("ExportTimer", &slot(SLOT)).await.work();
    for _ in 0..MESSAGES_MAX {
        let Some(message) = work.pop() else { break };
        let reply = handler.deliver(&message).await;
        texts.push((format!("{what}, worker"), reply.body.to_string().into_bytes()));
        work.extend(reply.work());
    }
    let runs = handler.ask_raw(Mode::Forwarding, &ask("GET", "/exports")).await.expect(200);
    texts.extend(texts_of(&runs, &format!("{what}, runs")));
    let run = &runs.json()["value"][0];
    if run["error"]["code"] != CODE {
        found.push(format!("{what}: the run says {run}"));
    }
    found.extend(findings(&scene, what, handler, texts).await);
    found
}

/// Records that say a token, and the region.
fn lies() -> [(&'static str, Lie); 7] {
    [
        ("name", of_records(|record, token| record["name"] = json!(format!("host {token}")))),
        ("labels", of_records(|record, token| record["labels"] = json!([token, token]))),
        ("member", of_records(|record, token| record[token] = json!({token: token}))),
        (
            "id",
            of_records(|record, token| {
                record["id"] = json!(format!("{}${token}", record["id"].as_str().unwrap()));
            }),
        ),
        ("kind", of_records(|record, token| record["kind"] = json!(token))),
        ("createdDate", of_records(|record, token| record["createdDate"] = json!(token))),
        ("uuid", of_records(|record, token| record["uuid"] = json!(base64::encode(token)))),
    ]
}

#[tokio::test]
async fn records_that_say_our_token_pass_as_they_are_and_nothing_else_says_it() {
    let cases = lies().into_iter().zip(FORMATS.into_iter().cycle());
    assert_none(&all(cases.map(|((what, lie), format)| recorded(what, lie, format))).await);
}

async fn recorded(what: &str, lie: Lie, format: &str) -> Vec<String> {
    let scene = Scene::new(planted::options()).await;
    let url = liar(&scene.world.sim, lie, None).await;
    let command = |args: &[&str]| {
        let mut command = scene.command(SignIn::ManagedIdentity, args);
        command.env("EASM_DATA_PLANE_URL", &url).env("EASM_PAGE_SIZE", "2");
        command.env("EASM_LOG_FORMAT", format);
        command
    };
    let told = ended(command(&EXPORT)).await;
    // Each command has a token of its own.
    let holds = |text: &[u8]| {
        let text = String::from_utf8_lossy(text).into_owned();
        let seen = scene.world.sim.requests().into_iter();
        let seen = seen.filter(|seen| seen.path.ends_with("/assets"));
        tokens(seen.filter_map(|seen| seen.authorization))
            .any(|(_, token)| text.contains(&token) || text.contains(&base64::encode(&token)))
    };
    let (parts, mut others): (Texts, Texts) =
        files(scene.world.folder.path()).into_iter().partition(|(path, _)| path.contains("/part-"));
    others.extend([
        ("stdout".to_owned(), told.stdout.clone()),
        ("stderr".to_owned(), told.stderr.clone()),
    ]);
    let mut found = scene.findings_in(&format!("{what}, export"), &others);
    // A kind and an id may be more to the program than data; then it says why it did not write them.
    let is_refused = told.code == 1 && told.stderr_text().contains("credential");
    let is_whole = told.code == 0 && !parts.is_empty() && parts.iter().all(|(_, part)| holds(part));
    if !(is_whole || is_refused && ["id", "kind"].contains(&what)) {
        let n_parts = parts.len();
        found.push(format!(
            "{what}: exit code {}, {n_parts} parts: {}",
            told.code,
            told.stderr_text()
        ));
    }
    for args in [
        &["query", "--limit", "5000"][..],
        &["query", "--limit", "5000", "--json"],
        &["export", "--stdout"],
    ] {
        let told = ended(command(args)).await;
        let stderr = [("stderr".to_owned(), told.stderr.clone())];
        found.extend(scene.findings_in(&format!("{what}, {args:?}"), &stderr));
        if told.code != 0 || !holds(&told.stdout) {
            found.push(format!("{what}, {args:?}: {} {}", told.code, told.stderr_text()));
        }
    }
    found
}

#[tokio::test]
async fn a_region_that_is_our_token_is_not_taken() {
    type Change = fn(&mut Value, &str);
    let lies: [(&str, Change); 3] = [
        ("location", |answer, token| answer["location"] = json!(token)),
        ("endpoint", |answer, token| answer["properties"]["dataPlaneEndpoint"] = json!(token)),
        ("name", |answer, token| {
            answer["name"] = json!(token);
            answer["id"] = json!(format!("/subscriptions/{token}"));
        }),
    ];
    let cases = lies.into_iter().flat_map(|(what, change)| {
        FORMATS.into_iter().map(move |format| async move {
            let lie: Lie = Arc::new(move |path, answer, token| {
                if path.contains("/providers/") {
                    change(answer, token);
                }
            });
            let scene = Scene::new(planted::options()).await;
            let url = liar(&scene.world.sim, lie, None).await;
            let mut command = scene.command(SignIn::ManagedIdentity, &EXPORT);
            command.env("EASM_ARM_URL", &url).env("EASM_LOG_FORMAT", format);
            let told = ended(command).await;
            let mut found = scene.findings(what, &told);
            let says = |text: &[u8]| String::from_utf8_lossy(text).contains("[REDACTED]");
            let all = files(&scene.world.exports());
            found.extend(
                all.iter()
                    .filter(|(path, text)| path.ends_with("manifest.json") && says(text))
                    .map(|(path, _)| format!("{what}: {path} was altered")),
            );
            found
        })
    });
    assert_none(&all(cases).await);
}
