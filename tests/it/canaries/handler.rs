//! The functions, when what is behind them fails: every function, its answers, its log, the store.

use std::time::Duration;

use easm_export::sim::{Fault, SignIn};
use serde_json::{Value, json};

use super::planted;
use super::scene::{FORMATS, Scene, all, assert_none, files};
use super::upstreams::{UPSTREAMS, Upstream};
use crate::contract::functions_host::{Answer, Handler, Mode, Reply, free_port};
use crate::contract::functions_payload::{Ask, SLOT, ask, slot, timer};

/// Longest wait for an answer. What hangs is answered when the host's time is nearly up.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(8);
/// Messages of a run that are delivered: its planning, and what follows from it.
const MESSAGES_MAX: usize = 4;
/// Ways to fail of each thing behind us. All of them come round.
const WAYS_EACH: usize = 5;

/// Names and texts that somebody told.
pub type Texts = Vec<(String, Vec<u8>)>;

/// A handler in a scene, with its canaries and the loudest log, that has little time.
pub async fn serving(scene: &Scene, sign_in: SignIn, vars: &[(&str, &str)]) -> Handler {
    let mut command = scene.command(sign_in, &["serve"]);
    command
        .env("EXPORT_SCHEDULE", "0 0 6 * * *")
        .env("FUNCTIONS_APP_ROOT_PATH", scene.world.folder.path())
        .env("EASM_KINDS", "host")
        .env("EASM_SLICE_SECONDS", "1")
        // Thirty seconds of it are left for the host.
        .env("AzureFunctionsJobHost__functionTimeout", "00:00:33")
        .envs(vars.iter().copied());
    Handler::spawn(scene.world.folder.path(), command).await
}

/// What a caller was told.
pub fn texts_of(answer: &Answer, case: &str) -> Texts {
    let mut texts = vec![(format!("{case}: {}", answer.status), answer.body.clone().into_bytes())];
    for (name, value) in &answer.headers {
        texts.push((format!("{case}: {name}"), value.clone().into_bytes()));
    }
    texts.extend(
        answer.work.iter().map(|text| (format!("{case}: work"), text.clone().into_bytes())),
    );
    texts
}

fn texts_of_reply(reply: &Reply, case: &str) -> Texts {
    vec![(format!("{case}: {}", reply.status), reply.body.to_string().into_bytes())]
}

/// What all functions say, HTTP in both modes.
pub async fn every_function(handler: &Handler) -> Texts {
    let mut texts = Texts::new();
    let (opens, nothing) = (slot(SLOT), timer(&Value::Null));
    let (opened, kept) = tokio::join!(
        invoked(handler, "ExportTimer", &opens),
        invoked(handler, "Maintenance", &nothing)
    );
    let mut work: Vec<String> = opened.iter().flat_map(Reply::work).collect();
    texts.extend(opened.iter().flat_map(|reply| texts_of_reply(reply, "ExportTimer")));
    texts.extend(kept.iter().flat_map(|reply| texts_of_reply(reply, "Maintenance")));
    let carried = async {
        let mut texts = Texts::new();
        for _ in 0..MESSAGES_MAX {
            let Some(message) = work.pop() else { break };
            let delivered = tokio::time::timeout(ANSWER_TIME_MAX, handler.deliver(&message)).await;
            let Ok(reply) = delivered else { break };
            texts.extend(texts_of_reply(&reply, "ExportWorker"));
            work.extend(reply.work());
        }
        texts
    };
    let asks = [
        ask("POST", "/exports").body(&json!({"dryRun": true}).to_string()),
        ask("POST", "/exports").body(&json!({"maxAssets": 3}).to_string()),
        ask("GET", "/exports"),
        ask("GET", "/assets").query("limit", "3"),
        ask("GET", "/assets").query("format", "ndjson").query("limit", "3"),
        ask("GET", "/health"),
    ];
    let each = Mode::BOTH.into_iter().flat_map(|mode| asks.iter().map(move |ask| (mode, ask)));
    let each = each.map(|(mode, ask)| asked(handler, mode, ask));
    let (carried, asked) = tokio::join!(carried, futures::future::join_all(each));
    texts.extend(carried);
    texts.extend(asked.concat());
    texts
}

async fn invoked(handler: &Handler, function: &str, payload: &Value) -> Option<Reply> {
    tokio::time::timeout(ANSWER_TIME_MAX, handler.invoke(function, payload)).await.ok()
}

/// What the answer says, if there is one in time.
pub async fn asked(handler: &Handler, mode: Mode, ask: &Ask) -> Texts {
    let answer = tokio::time::timeout(ANSWER_TIME_MAX, handler.ask_raw(mode, ask)).await;
    let case = format!("{mode:?} {} {}", ask.method, ask.path);
    answer.map(|answer| texts_of(&answer, &case)).unwrap_or_default()
}

/// What is told of a handler, which is ended: its logs and the store, both in the folder, and answers.
pub async fn findings(
    scene: &Scene,
    case: &str,
    mut handler: Handler,
    mut texts: Texts,
) -> Vec<String> {
    handler.child.kill().await.unwrap();
    let files = files(scene.world.folder.path());
    let of_log = files.iter().filter(|(path, _)| path.ends_with(".log"));
    let length: usize = of_log.map(|(_, text)| text.len()).sum();
    texts.extend(files);
    let mut found = scene.findings_in(case, &texts);
    if length < 300 {
        found.push(format!("{case}: the log says nothing"));
    }
    found
}

fn ways() -> [Fault; 14] {
    [
        Fault::EchoToken(403),
        Fault::EchoToken(503),
        Fault::Hang,
        Fault::Garbage,
        Fault::EchoToken(401),
        Fault::Reset,
        Fault::EchoToken(400),
        Fault::Truncated,
        Fault::EchoToken(429),
        Fault::Status { status: 429, retry_after: Some("3600".to_owned()) },
        Fault::CutBody,
        Fault::EchoToken(404),
        Fault::NotJson(502),
        Fault::Redirect("https://elsewhere.easm-export.invalid/?from=here".to_owned()),
    ]
}

#[tokio::test]
async fn whatever_fails_behind_the_functions_no_credential_is_told() {
    let ways = ways();
    let mut cases = Vec::new();
    for (n, upstream) in UPSTREAMS.into_iter().enumerate() {
        for at in 0..WAYS_EACH {
            let fault = ways[(n * WAYS_EACH + at) % ways.len()].clone();
            cases.push(fails(upstream, fault, FORMATS[(n + at) % FORMATS.len()]));
        }
    }
    assert_none(&all(cases).await);
}

async fn fails(upstream: Upstream, fault: Fault, format: &str) -> Vec<String> {
    let Upstream { name, sign_in, path, query } = upstream;
    let case = format!("{name}, {fault:?}, {format}");
    let scene = Scene::failing(path, query, fault).await;
    let vars = [("EASM_PAGE_SIZE", "2"), ("EASM_LOG_FORMAT", format)];
    let handler = serving(&scene, sign_in, &vars).await;
    let texts = every_function(&handler).await;
    let mut found = findings(&scene, &case, handler, texts).await;
    if !scene.was_asked(path, query) {
        found.push(format!("{case}: nobody was asked"));
    }
    found
}

#[tokio::test]
async fn settings_and_a_store_that_fail_the_functions_tell_no_credential() {
    let gone = format!("http://127.0.0.1:{}/devstoreaccount1/exports", free_port());
    let sas = planted::sas_url();
    let token = format!("Bearer {}", planted::CALLER_TOKEN);
    let cases: [&[(&str, &str)]; 9] = [
        &[("EASM_STORE_URL", &gone)],
        &[("EASM_STORE_URL", &sas)],
        &[("EASM_STORE_URL", "/proc/canaries")],
        &[("EASM_REGION", planted::API_KEY)],
        &[("EASM_PAGE_SIZE", &token)],
        &[("EXPORT_SCHEDULE", planted::PASSWORD)],
        &[("EASM_AUTH", planted::CLIENT_SECRET)],
        &[("EASM_NO_SUCH_SETTING", planted::STRANGE_TOKEN)],
        // Where a client secret is refused.
        &[("WEBSITE_SITE_NAME", "easm"), ("EASM_STORE_URL", &gone)],
    ];
    let cases = cases.into_iter().enumerate().map(|(n, vars)| set(vars, FORMATS[n % 2]));
    assert_none(&all(cases).await);
}

async fn set(vars: &[(&str, &str)], format: &str) -> Vec<String> {
    let case = format!("{vars:?}, {format}");
    let scene = Scene::new(planted::options()).await;
    let vars = [vars, &[("EASM_LOG_FORMAT", format)]].concat();
    let handler = serving(&scene, SignIn::ManagedIdentity, &vars).await;
    let texts = every_function(&handler).await;
    let n_answers = texts.len();
    let mut found = findings(&scene, &case, handler, texts).await;
    if n_answers == 0 {
        found.push(format!("{case}: nothing was answered"));
    }
    found
}
