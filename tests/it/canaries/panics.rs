//! Panics with a canary in their message: what is written of them holds no canary, and still says that
//! something panicked, and where.
//!
//! The hook is of the whole process, so each case runs in one of its own: this test binary, started
//! again for [`in_a_process_of_its_own`].

use std::panic::panic_any;
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use azure_core::base64;
use easm_export::error::Result;
use easm_export::host::http::{HttpReply, HttpRequest, Refusal};
use easm_export::host::parent::Parent;
use easm_export::host::payload::Timer;
use easm_export::host::{Function, Functions, Trigger, serve};
use easm_export::secret::Secret;
use easm_export::telemetry::{LogFormat, Terminal, catch_panics, install};
use tokio::process::Command;

use super::planted::{CLIENT_SECRET, FUNCTION_KEY, SHAPED_PASSWORD, STRANGE_TOKEN, sas_url};
use super::scene::{FORMATS, Told, constant, watched};
use crate::azurite::plain_client;
use crate::contract::functions_payload::{SLOT, ask, message, slot};

/// What the process is to do: a case, and the format of its log.
const CASE: &str = "EASM_TEST_PANIC";
/// Where those panics are.
const HERE: &str = "tests/it/canaries/panics.rs:";
/// Longest time that a function has.
const TIME_MAX: Duration = Duration::from_secs(10);

/// Panics, with the secret that it is given.
type Way = fn(&str);

/// Ways to panic with the secret in the message, and how often each says so.
const WAYS: [(&str, Way); 11] = [
    ("a message", |secret| panic!("could not open it with {secret}")),
    ("a text", |secret| panic_any(format!("no, not {secret}"))),
    ("a debug text", |secret| panic!("{:?}", [secret])),
    ("base64", |secret| panic!("authorization: Basic {}", base64::encode(format!("me:{secret}")))),
    ("JSON", |secret| panic!("{}", serde_json::json!({"value": {"value": secret}}))),
    ("lines", |secret| panic!("first\n{secret}\nlast\n")),
    ("an unwrap", |secret| {
        assert_ne!(secret.parse::<u64>().map_err(|_| secret.to_owned()).unwrap(), 0);
    }),
    ("an assertion", |secret| assert_eq!(secret, "another", "{secret} is not it")),
    ("a URL", |_| panic!("GET {}: refused", sas_url())),
    ("a header", |_| panic!("headers: {{\"authorization\": \"Bearer {STRANGE_TOKEN}\"}}")),
    ("a pair", |_| panic!("Server=db;Password={SHAPED_PASSWORD};Timeout=5")),
];

/// Panics as the environment says: the other half of the tests below, and nothing by itself.
#[test]
fn in_a_process_of_its_own() {
    let Ok(case) = std::env::var(CASE) else { return };
    let (case, format) = case.split_once(' ').unwrap();
    let format = if format == "json" { LogFormat::Json } else { LogFormat::Text };
    let terminal = Terminal::default();
    install("trace", format, &terminal).unwrap();
    catch_panics(&terminal);
    let secret = Secret::new(CLIENT_SECRET.to_owned());
    match case {
        "threads" => {
            for (_, way) in WAYS {
                let secret = secret.share();
                let ended = std::thread::spawn(move || way(secret.expose())).join();
                assert!(ended.is_err(), "it panicked");
            }
        }
        "task" => runtime().block_on(async {
            let task = tokio::spawn(async move { WAYS[0].1(secret.expose()) });
            assert!(task.await.unwrap_err().is_panic());
        }),
        "twice" => {
            struct Late(Secret);
            impl Drop for Late {
                fn drop(&mut self) {
                    WAYS[2].1(self.0.expose());
                }
            }
            let _late = Late(secret.share());
            WAYS[0].1(secret.expose());
        }
        "functions" => runtime().block_on(served(secret)),
        other => panic!("no such case: {other}"),
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap()
}

/// Functions that panic, whatever they are to do.
struct Panics(Secret);

const TABLE: &[Function] = &[
    Function { name: "ExportTimer", trigger: Trigger::Timer, emits: true },
    Function { name: "ExportWorker", trigger: Trigger::Queue, emits: true },
    Function {
        name: "Assets",
        trigger: Trigger::Http { route: "assets", methods: &["GET", "POST"] },
        emits: false,
    },
];

#[async_trait]
impl Functions for Panics {
    async fn timer(&self, _: &'static str, _: Timer) -> Result<Vec<String>> {
        panic!("a timer panicked, {}", self.0.expose())
    }

    async fn message(&self, _: &'static str, text: String) -> Result<Vec<String>> {
        panic!("a message panicked, {} {text}", self.0.expose())
    }

    async fn http(
        &self,
        _: &'static str,
        request: HttpRequest,
    ) -> std::result::Result<(HttpReply, Vec<String>), Refusal> {
        panic!("a request panicked, {} {request:?}", self.0.expose())
    }

    async fn keep(&self, work: Vec<String>) -> Result<()> {
        panic!("no work is kept, {} {work:?}", self.0.expose())
    }
}

/// Serves functions that panic, asks for each, and prints what was answered.
async fn served(secret: Secret) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(serve(listener, TABLE, Panics(secret), TIME_MAX, Parent::now()));
    let client = plain_client(None);
    let get = ask("GET", "/assets").query("limit", "3");
    for (path, payload) in [
        ("/Assets", get.payload()),
        ("/ExportTimer", slot(SLOT)),
        ("/ExportWorker", message("{\"v\":1}")),
    ] {
        let request = client.post(format!("{url}{path}")).body(payload.to_string());
        told(path, request).await;
    }
    let forwarded = client.get(format!("{url}/api/assets?code={FUNCTION_KEY}"));
    told("GET", forwarded.header("x-functions-key", FUNCTION_KEY)).await;
    told("ping", client.get(format!("{url}/"))).await;
}

#[expect(clippy::print_stdout, reason = "the parent reads it there")]
async fn told(case: &str, request: reqwest::RequestBuilder) {
    let request =
        request.header("X-Azure-Functions-InvocationId", "6c1c3ae5-2f0c-4a0e-9a53-0123456789ab");
    match request.send().await {
        Ok(answer) => {
            let head = format!("{} {:?}", answer.status(), answer.headers());
            println!("ANSWER {case}: {head} {}", answer.text().await.unwrap_or_default());
        }
        Err(err) => println!("ANSWER {case}: none, {err:?}"),
    }
}

/// What the process says that runs this case.
async fn said(case: &str, format: &str) -> Told {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "canaries::panics::in_a_process_of_its_own", "--nocapture"])
        .env_clear()
        .env(CASE, format!("{case} {format}"))
        .env("RUST_BACKTRACE", "1")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let told = watched(command, || false).await;
    for (at, text) in [("stdout", &told.stdout), ("stderr", &told.stderr)] {
        let found = constant().find_or_token(text);
        assert_eq!(found, None, "{case}, {format}: {at}: LEAK");
    }
    told
}

#[tokio::test]
async fn a_panic_says_that_it_panicked_and_where_and_no_credential() {
    for format in FORMATS {
        // At least so often; a panic at a panic may say more of itself.
        for (case, n_panics) in [("threads", WAYS.len()), ("task", 1), ("twice", 2)] {
            let told = said(case, format).await;
            let stderr = told.stderr_text();
            assert_eq!(told.code == 0, case != "twice", "{case}, {format}: {stderr}");
            for what in ["panicked", HERE] {
                let n_said = stderr.matches(what).count();
                assert!(n_said >= n_panics, "{case}, {format}: {what} {n_said} times: {stderr}");
            }
        }
    }
}

#[tokio::test]
async fn a_function_that_panics_tells_nobody_a_credential() {
    for format in FORMATS {
        let told = said("functions", format).await;
        let (stdout, stderr) = (told.stdout_text(), told.stderr_text());
        assert_eq!(told.code, 0, "{format}: {stdout}");
        for kind in ["a timer", "a message", "a request"] {
            assert!(stderr.contains(&format!("{kind} panicked, [REDACTED]")), "{kind}: {stderr}");
        }
        assert!(stderr.contains(HERE), "{format}: {stderr}");
        let answers: Vec<&str> = stdout.lines().filter(|line| line.contains("ANSWER ")).collect();
        assert_eq!(answers.len(), 5, "{format}: {stdout}");
        for answer in &answers[..4] {
            assert!(!answer.contains("panicked") && !answer.contains("panics.rs"), "{answer}");
        }
        assert!(answers[4].contains("ping: 200 OK"), "{format}: it serves on: {stdout}");
    }
}
