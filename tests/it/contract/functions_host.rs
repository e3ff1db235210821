//! What a handler notices of the Functions host: the real binary, started and spoken to as the host
//! does. Every answer to an HTTP function is held against the handler's own OpenAPI document, and
//! searched for secrets.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use tokio::sync::OnceCell;

use super::functions_payload::{Ask, FUNCTION_KEY, ask, message};
use crate::azurite::plain_client;
use crate::support::{World, bare_command};

const SCHEDULE: &str = "0 0 6 * * *";
/// The host's pieces of a body.
const CHUNK_BYTES: usize = 1024;
const POLL: Duration = Duration::from_millis(25);
/// As often as the host does before it gives up.
const POLLS_MAX: u32 = 1200;
/// Messages that one run may need here. Ends a test whose messages multiply.
const MESSAGES_MAX: u32 = 600;
/// Messages that are delivered a second time.
const REPEATS_MAX: u32 = 12;
static N_LOGS: AtomicU64 = AtomicU64::new(0);

/// How the host passes an HTTP request on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// As data: `POST /{Function}`.
    Default,
    /// As it came: `/api/{route}`.
    Forwarding,
}

impl Mode {
    pub const BOTH: [Self; 2] = [Self::Default, Self::Forwarding];
}

/// What a caller gets.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: String,
    /// What the function put on the queue besides.
    pub work: Vec<String>,
}

impl Answer {
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|err| panic!("{err}: {self:?}"))
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// Fails unless it is an error of `status` that names `word`.
    #[track_caller]
    pub fn expect_error(self, status: u16, word: &str) -> Self {
        let answer = self.expect(status);
        let error = &answer.json()["error"];
        assert!(error["code"].is_string(), "{answer:?}");
        assert!(error["message"].as_str().unwrap().contains(word), "{word}: {answer:?}");
        assert_eq!(error["requestId"], answer.headers["x-request-id"].as_str(), "{answer:?}");
        answer
    }

    #[track_caller]
    pub fn run_id(&self) -> String {
        self.json()["runId"].as_str().unwrap_or_else(|| panic!("{self:?}")).to_owned()
    }
}

/// What the host gets for an invocation.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub body: Value,
    pub invocation: String,
}

impl Reply {
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// What it puts on the queue: messages as texts.
    #[track_caller]
    pub fn work(&self) -> Vec<String> {
        let Some(work) = self.body["Outputs"].get("work") else { return Vec::new() };
        let texts = work.as_array().unwrap_or_else(|| panic!("{self:?}"));
        texts.iter().map(|text| text.as_str().expect("an exact text").to_owned()).collect()
    }
}

/// A handler that runs.
pub struct Handler {
    pub child: Child,
    pub port: u16,
    client: reqwest::Client,
    logs: [PathBuf; 2],
    secrets: Vec<String>,
    document: OnceCell<Value>,
    /// Operations and statuses that were answered.
    seen: Mutex<BTreeSet<(String, u16)>>,
}

/// What a handler wrote until it was killed.
pub struct Logs {
    pub stdout: String,
    pub stderr: String,
}

impl Logs {
    /// Fails unless nothing but the standard output was written to.
    #[track_caller]
    pub fn expect_quiet(self) -> Self {
        assert_eq!(self.stderr, "", "stdout: {}", self.stdout);
        self
    }
}

impl Handler {
    /// A handler for the world's simulator and folder, with `vars` besides.
    pub async fn start(world: &World, vars: &[(&str, &str)]) -> Self {
        let mut command = world.command(&["serve"]);
        command.env("EASM_LOG", "info").env("EXPORT_SCHEDULE", SCHEDULE);
        command.env("FUNCTIONS_APP_ROOT_PATH", world.folder.path()).envs(vars.iter().copied());
        let mut handler = Self::spawn(world.folder.path(), command).await;
        let settings = world.sim.settings();
        let header = settings.into_iter().find(|(name, _)| *name == "IDENTITY_HEADER").unwrap();
        handler.secrets.push(header.1);
        handler
    }

    /// A handler without any settings but the port.
    pub async fn start_bare(folder: &Path) -> Self {
        Self::spawn(folder, bare_command(folder, &["serve"])).await
    }

    /// Starts `command`, and waits for its first answer as the host does.
    pub async fn spawn(folder: &Path, mut command: Command) -> Self {
        let port = free_port();
        let n = N_LOGS.fetch_add(1, Ordering::Relaxed);
        let logs = ["out", "err"].map(|name| folder.join(format!("{name}-{n}.log")));
        command.env("FUNCTIONS_CUSTOMHANDLER_PORT", port.to_string());
        command.stdout(File::create(&logs[0]).unwrap()).stderr(File::create(&logs[1]).unwrap());
        let child = command.spawn().unwrap();
        let client = plain_client(None);
        let secrets = vec![FUNCTION_KEY.to_owned()];
        let (document, seen) = (OnceCell::new(), Mutex::default());
        let handler = Self { child, port, client, logs, secrets, document, seen };
        for _ in 0..POLLS_MAX {
            if handler.client.get(handler.url("/")).send().await.is_ok() {
                return handler;
            }
            tokio::time::sleep(POLL).await;
        }
        panic!("it does not listen: {}", fs::read_to_string(&handler.logs[1]).unwrap())
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// The host's ping.
    pub async fn ping(&self) {
        let answer = self.client.get(self.url("/")).send().await.unwrap();
        assert_eq!(answer.status(), 200);
    }

    /// Sends `body` in the host's pieces. The answer as it came.
    pub async fn post(
        &self,
        path: &str,
        id: &str,
        body: Vec<u8>,
    ) -> (u16, BTreeMap<String, String>, String) {
        let pieces: Vec<std::io::Result<Vec<u8>>> =
            body.chunks(CHUNK_BYTES).map(|piece| Ok(piece.to_vec())).collect();
        let request = self
            .client
            .post(self.url(path))
            .header("X-Azure-Functions-HostVersion", "4.1037.0.0")
            .header("X-Azure-Functions-InvocationId", id)
            .header("User-Agent", "Azure-Functions-Host/4.1037.0.0")
            .header("Content-Type", "application/json; charset=utf-8")
            .body(reqwest::Body::wrap_stream(futures::stream::iter(pieces)));
        let (status, headers, body) = taken(request.send().await.unwrap()).await;
        self.assert_no_secret(&body);
        assert_eq!(
            headers["content-type"].split(';').next().unwrap(),
            "application/json",
            "{path}: {status} {body}"
        );
        let object = serde_json::from_str::<Value>(&body).is_ok_and(|body| body.is_object());
        assert!(object, "{path}: {status} {body}");
        (status, headers, body)
    }

    /// Fires a function's trigger with `payload`.
    pub async fn invoke(&self, function: &str, payload: &Value) -> Reply {
        let id = fresh_id();
        let text = serde_json::to_vec(payload).unwrap();
        let (status, _, body) = self.post(&format!("/{function}"), &id, text).await;
        Reply { status, body: serde_json::from_str(&body).unwrap(), invocation: id }
    }

    /// Delivers a message of the queue.
    pub async fn deliver(&self, text: &str) -> Reply {
        self.invoke("ExportWorker", &message(text)).await
    }

    /// Delivers `work` and all that follows from it, in an order of `seed`, some of it twice.
    pub async fn carry(&self, mut work: Vec<String>, seed: u64) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut n_repeats = 0;
        for _ in 0..MESSAGES_MAX {
            if work.is_empty() {
                return;
            }
            let text = work.swap_remove(random.usize(..work.len()));
            work.extend(self.deliver(&text).await.expect(200).work());
            if n_repeats < REPEATS_MAX && random.bool() {
                n_repeats += 1;
                work.push(text);
            }
        }
        panic!("SEED={seed}: after {MESSAGES_MAX} messages there are still {work:?}");
    }

    /// Asks as a caller does, and holds the answer against the document.
    pub async fn ask(&self, mode: Mode, ask: &Ask) -> Answer {
        let answer = self.ask_raw(mode, ask).await;
        let document = self.document().await;
        assert_documented(document, ask, &answer);
        let operation = format!("{} {}", ask.method, ask.template());
        self.seen.lock().unwrap().insert((operation, answer.status));
        answer
    }

    /// As [`Handler::ask`], where the document cannot be had.
    pub async fn ask_raw(&self, mode: Mode, ask: &Ask) -> Answer {
        let id = fresh_id();
        let answer = match mode {
            Mode::Default => self.ask_as_data(ask, &id).await,
            Mode::Forwarding => self.forward(ask, &id).await,
        };
        assert_eq!(answer.headers["x-request-id"], id, "{mode:?} {ask:?}: {answer:?}");
        for text in answer.headers.values().chain([&answer.body]).chain(&answer.work) {
            self.assert_no_secret(text);
        }
        answer
    }

    async fn ask_as_data(&self, ask: &Ask, id: &str) -> Answer {
        let payload = serde_json::to_vec(&ask.payload()).unwrap();
        let (status, _, body) = self.post(&format!("/{}", ask.function()), id, payload).await;
        // Any other status reaches the caller as a 500 without a body.
        assert_eq!(status, 200, "{ask:?}: {body}");
        let reply =
            Reply { status, body: serde_json::from_str(&body).unwrap(), invocation: id.to_owned() };
        let res = &reply.body["Outputs"]["res"];
        let status = res["statusCode"].as_u64().unwrap_or_else(|| panic!("{ask:?}: {reply:?}"));
        let headers = res["headers"].as_object().into_iter().flatten();
        let headers = headers.map(|(name, value)| {
            (name.to_ascii_lowercase(), value.as_str().expect("the host reads texts").to_owned())
        });
        let body = res["body"].as_str().unwrap_or_default().to_owned();
        let (headers, work) = (headers.collect(), reply.work());
        Answer { status: status.try_into().unwrap(), headers, body, work }
    }

    async fn forward(&self, ask: &Ask, id: &str) -> Answer {
        let mut url = url::Url::parse(&self.url(&format!("/api{}", ask.path))).unwrap();
        url.query_pairs_mut().extend_pairs(&ask.query).append_pair("code", FUNCTION_KEY);
        let method = Method::from_bytes(ask.method.as_bytes()).unwrap();
        let mut request = self
            .client
            .request(method, url)
            .header("Host", "app.example.net")
            .header("User-Agent", "curl/7.88.1 Azure-Functions-Host/4.1037.0.0")
            .header("X-Azure-Functions-HostVersion", "4.1037.0.0")
            .header("X-Azure-Functions-InvocationId", format!("made-up-by-the-caller, {id}"))
            .header("x-functions-key", FUNCTION_KEY);
        for (name, value) in &ask.headers {
            request = request.header(name, value);
        }
        if let Some(body) = &ask.body {
            request = request.header("Content-Type", "application/json").body(body.clone());
        }
        let (status, headers, body) = taken(request.send().await.unwrap()).await;
        Answer { status, headers, body, work: Vec::new() }
    }

    /// Its OpenAPI document.
    pub async fn document(&self) -> &Value {
        let ask = ask("GET", "/openapi.json");
        self.document
            .get_or_init(|| async { self.ask_raw(Mode::Forwarding, &ask).await.expect(200).json() })
            .await
    }

    pub fn seen(&self) -> BTreeSet<(String, u16)> {
        self.seen.lock().unwrap().clone()
    }

    /// Ends as the host does: without a word. Whatever was written is JSON, and says no secret.
    pub async fn end(mut self) -> Logs {
        self.child.kill().await.unwrap();
        let [stdout, stderr] = self.logs.each_ref().map(|path| fs::read_to_string(path).unwrap());
        for line in stdout.lines() {
            let read = serde_json::from_str::<Value>(line);
            assert!(read.is_ok_and(|line| line.is_object()), "no JSON on stdout: {line}");
        }
        self.assert_no_secret(&stdout);
        self.assert_no_secret(&stderr);
        Logs { stdout, stderr }
    }

    #[track_caller]
    fn assert_no_secret(&self, text: &str) {
        for secret in &self.secrets {
            assert!(!text.contains(secret.as_str()), "a secret is told: {text}");
        }
    }
}

async fn taken(answer: reqwest::Response) -> (u16, BTreeMap<String, String>, String) {
    let status = answer.status().as_u16();
    let text = |value: &reqwest::header::HeaderValue| value.to_str().unwrap().to_owned();
    let headers =
        answer.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    (status, headers, answer.text().await.unwrap())
}

/// The header with which the platform passes on a principal with the claims `claims`, signed in by
/// Entra.
pub fn principal(claims: &[(&str, &str)]) -> String {
    let claims = claims.iter().map(|(typ, val)| json!({"typ": typ, "val": val}));
    let principal = json!({"auth_typ": "aad", "claims": claims.collect::<Vec<_>>(),
        "name_typ": "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/name",
        "role_typ": "http://schemas.microsoft.com/ws/2008/06/identity/claims/role"});
    STANDARD.encode(principal.to_string())
}

/// Fails unless `document` has the operation, the status, the headers and the body of `answer`.
#[track_caller]
pub fn assert_documented(document: &Value, ask: &Ask, answer: &Answer) {
    let operation = &document["paths"][ask.template()][ask.method.to_lowercase()];
    let response = &operation["responses"][answer.status.to_string()];
    assert!(response.is_object(), "not in the document: {ask:?}: {answer:?}");
    for name in ["location", "retry-after", "www-authenticate", "x-easm-next-mark", "x-request-id"]
    {
        let is_told = response["headers"].get(name).is_some();
        assert!(is_told || !answer.headers.contains_key(name), "{name}: {ask:?}: {answer:?}");
    }
    let media = answer.headers["content-type"].split(';').next().unwrap();
    let mut schema = response["content"][media]["schema"].clone();
    assert!(schema.is_object(), "{media} is not in the document: {ask:?}: {answer:?}");
    if media == "application/json" {
        schema["components"] = document["components"].clone();
        let validator = jsonschema::validator_for(&schema).unwrap();
        if let Some(error) = validator.iter_errors(&answer.json()).next() {
            panic!("{error}: {ask:?}: {answer:?}");
        }
    }
}

/// A port that nobody listens on.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub fn fresh_id() -> String {
    let tail = fastrand::u64(..1 << 48);
    format!("6c1c3ae5-2f0c-4a0e-9a53-{tail:012x}")
}
