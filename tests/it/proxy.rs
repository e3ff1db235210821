//! A reverse proxy between the program under test and Azurite that fails requests, before their
//! effect or after it.
//!
//! `read the request whole -> note it -> choose a fault -> refuse, or forward -> answer, or cut`
//!
//! # Invariants
//! - Path and query are forwarded as they came, byte for byte, or not at all: signatures cover them.
//! - What a seed decides hangs on the request alone (method, path, `comp`, how many such came
//!   before), so requests at the same time do not disturb each other's faults.
//! - A scripted fault comes before what the seed says.
//!
//! Start reading at [`handle`].

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use axum_server::tls_rustls::RustlsConfig;
use bytes::Bytes;
use futures::{StreamExt as _, future, stream};
use reqwest::Client;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use tokio::runtime::Runtime;
use url::{Position, Url};

use crate::azurite::plain_client;

/// Largest body of a request. The service takes more, the program under test sends less.
const BODY_BYTES_MAX: usize = 128 << 20;
/// Most requests remembered.
const N_SEEN_MAX: usize = 100_000;
/// Long enough for hyper to write what it holds, short enough for tests.
const FLUSH_PAUSE: Duration = Duration::from_millis(20);
/// Headers of one connection, not of the request (RFC 9110, section 7.6.1).
const HOP_BY_HOP: &[&str] = &[
    "connection",
    "expect",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyFault {
    /// 503 `ServerBusy`, not forwarded.
    Busy { retry_after_s: Option<u64> },
    /// 500 `InternalError`, not forwarded.
    InternalError,
    /// 500 `OperationTimedOut`, not forwarded.
    TimedOutBefore,
    /// The connection is cut, not forwarded.
    CutBefore,
    /// Forwarded; the connection is cut instead of an answer.
    CutAfter,
    /// Forwarded; the answer is 500 `OperationTimedOut`.
    TimedOutAfter,
    /// Forwarded; the connection is cut in the middle of the answer's body.
    CutBody,
    /// An answer of the test's own, not forwarded.
    Answer { status: u16, code: &'static str, message: &'static str },
    /// No answer, ever; not forwarded.
    Hang,
    /// Forwarded with one bit of the request's body changed; headers are kept.
    CorruptBody,
    /// Forwarded; one bit of the answer's body is changed, headers are kept.
    CorruptAnswer,
}

/// What a seed draws from: every way to fail, the harder ones, after the effect, twice.
const DRAWN: &[ProxyFault] = &[
    ProxyFault::Busy { retry_after_s: None },
    ProxyFault::Busy { retry_after_s: Some(0) },
    ProxyFault::Busy { retry_after_s: Some(1) },
    ProxyFault::InternalError,
    ProxyFault::TimedOutBefore,
    ProxyFault::CutBefore,
    ProxyFault::CutAfter,
    ProxyFault::CutAfter,
    ProxyFault::TimedOutAfter,
    ProxyFault::TimedOutAfter,
    // For GET only: keep these last.
    ProxyFault::CutBody,
    ProxyFault::CutBody,
];
const N_DRAWN_FOR_GET_ONLY: usize = 2;

/// A fault for requests that fit: of those, the ones from number `from` (the first is 0) on,
/// `times` of them.
#[derive(Clone, Debug)]
pub struct ScriptedFault {
    pub method: Method,
    /// Part of the path, as it is without percent signs.
    pub path_contains: String,
    /// Part of the query, as it is sent. Empty: whatever the query.
    pub query_contains: String,
    pub from: u64,
    pub times: u64,
    pub fault: ProxyFault,
}

#[derive(Clone, Debug)]
pub struct ProxyOptions {
    /// `http://127.0.0.1:PORT` or the same with `https`.
    pub upstream: String,
    /// Who vouches for the upstream.
    pub upstream_ca_pem: Option<String>,
    /// Certificate and key, to serve TLS.
    pub tls: Option<(String, String)>,
    pub seed: u64,
    /// Share of requests that fail by the seed, 0 to 1.
    pub fault_rate: f64,
    /// Most faults in a row, by the seed, for the same method, path and `comp`.
    pub faults_in_a_row_max: u32,
    /// Wait before each request is looked at.
    pub latency: Duration,
    pub script: Vec<ScriptedFault>,
}

impl ProxyOptions {
    /// No faults.
    pub fn new(upstream: impl Into<String>) -> Self {
        Self {
            upstream: upstream.into(),
            upstream_ca_pem: None,
            tls: None,
            seed: 0,
            fault_rate: 0.0,
            faults_in_a_row_max: 2,
            latency: Duration::ZERO,
            script: Vec::new(),
        }
    }
}

/// A request that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenRequest {
    pub method: Method,
    /// As sent.
    pub path: String,
    /// As sent, without `?`.
    pub query: String,
    pub authorization: Option<String>,
    pub if_match: Option<String>,
    pub if_none_match: Option<String>,
    pub content_md5: Option<String>,
    pub fault: Option<ProxyFault>,
    pub was_forwarded: bool,
    /// What was answered; 0 if nothing was, or not yet.
    pub status: u16,
}

/// A running proxy. It stops when dropped.
pub struct Proxy {
    shared: Arc<Shared>,
    addr: SocketAddr,
    /// A thread of its own: a test that blocks its thread does not stop the proxy.
    runtime: Option<Runtime>,
}

impl Proxy {
    pub fn start(options: ProxyOptions) -> Self {
        let client = plain_client(options.upstream_ca_pem.as_deref());
        let tls = options.tls.as_ref().map(|(cert, key)| tls_config(cert, key));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let counts = Mutex::new(Counts { of_key: HashMap::new(), of_script: Vec::new() });
        let shared = Arc::new(Shared { options, client, counts, seen: Mutex::default() });

        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build().unwrap();
        let app = Router::new().fallback(handle).with_state(Arc::clone(&shared));
        runtime.spawn(async move {
            let service = app.into_make_service();
            match tls {
                Some(tls) => {
                    let server = axum_server::from_tcp_rustls(listener, tls).unwrap();
                    server.http1_only().serve(service).await
                }
                None => {
                    let server = axum_server::from_tcp(listener).unwrap();
                    server.http1_only().serve(service).await
                }
            }
        });
        Self { shared, addr, runtime: Some(runtime) }
    }

    /// `http://127.0.0.1:PORT`, or the same with `https`.
    pub fn url(&self) -> String {
        let scheme = if self.shared.options.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.addr)
    }

    /// The requests that came, in their order, the first [`N_SEEN_MAX`] of them.
    pub fn seen(&self) -> Vec<SeenRequest> {
        self.shared.seen.lock().unwrap().clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Does not wait, so it may be called where waiting is not allowed.
            runtime.shutdown_background();
        }
    }
}

fn tls_config(cert_pem: &str, key_pem: &str) -> RustlsConfig {
    let certs = CertificateDer::pem_slice_iter(cert_pem.as_bytes()).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).unwrap();
    let builder = rustls::ServerConfig::builder().with_no_client_auth();
    let mut config = builder.with_single_cert(certs, key).unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    RustlsConfig::from_config(Arc::new(config))
}

struct Shared {
    options: ProxyOptions,
    client: Client,
    counts: Mutex<Counts>,
    seen: Mutex<Vec<SeenRequest>>,
}

struct Counts {
    /// By method, path and `comp`: how many came, and how many faults the last ones had in a row.
    of_key: HashMap<(Method, String, String), (u64, u32)>,
    /// How many requests fitted each entry of the script.
    of_script: Vec<u64>,
}

impl Shared {
    /// Which fault the next such request has.
    fn choose(&self, method: &Method, path: &str, query: &str) -> Option<ProxyFault> {
        let ProxyOptions { seed, fault_rate, faults_in_a_row_max, script, .. } = &self.options;
        let mut counts = self.counts.lock().unwrap();
        let Counts { of_key, of_script } = &mut *counts;

        of_script.resize(script.len(), 0);
        let mut scripted = None;
        for (entry, n_before) in script.iter().zip(of_script) {
            if entry.fits(method, path, query) {
                let is_due = (entry.from..entry.from + entry.times).contains(n_before);
                scripted = scripted.or(is_due.then_some(entry.fault));
                *n_before += 1;
            }
        }

        let mut pairs = url::form_urlencoded::parse(query.as_bytes());
        let comp = pairs.find(|(name, _)| name == "comp").map(|(_, value)| value.into_owned());
        let key = (method.clone(), path.to_owned(), comp.unwrap_or_default());
        let hashed = format!("{seed} {method} {path} {}", key.2);
        let (n_before, n_in_a_row) = of_key.entry(key).or_default();
        let drawn = draw(&format!("{hashed} {n_before}"), *fault_rate, *method == Method::GET)
            .filter(|_| *n_in_a_row < *faults_in_a_row_max);
        *n_before += 1;
        *n_in_a_row = if drawn.is_some() { *n_in_a_row + 1 } else { 0 };
        scripted.or(drawn)
    }

    /// Remembers a request, and under which number.
    fn note(&self, parts: &Parts, fault: Option<ProxyFault>) -> usize {
        let text = |name: &str| {
            let value = parts.headers.get(name)?;
            Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        let mut seen = self.seen.lock().unwrap();
        if seen.len() < N_SEEN_MAX {
            seen.push(SeenRequest {
                method: parts.method.clone(),
                path: parts.uri.path().to_owned(),
                query: parts.uri.query().unwrap_or_default().to_owned(),
                authorization: text("authorization"),
                if_match: text("if-match"),
                if_none_match: text("if-none-match"),
                content_md5: text("content-md5"),
                fault,
                was_forwarded: false,
                status: 0,
            });
            return seen.len() - 1;
        }
        usize::MAX
    }

    fn amend(&self, number: usize, amendment: impl FnOnce(&mut SeenRequest)) {
        if let Some(request) = self.seen.lock().unwrap().get_mut(number) {
            amendment(request);
        }
    }

    /// Sends the request on and waits for the whole answer.
    async fn forward(&self, parts: Parts, body: Bytes) -> Result<Answer, String> {
        let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
        let text = format!("{}{target}", self.options.upstream);
        let url = Url::parse(&text).map_err(|err| format!("{text}: {err}"))?;
        if &url[Position::BeforePath..] != target {
            return Err(format!("{target} would be forwarded as {url}"));
        }
        let mut request = self.client.request(parts.method, url).headers(end_to_end(parts.headers));
        if !body.is_empty() {
            request = request.body(body);
        }
        let said = |err: reqwest::Error| format!("{:?}", err.without_url());
        let answer = request.send().await.map_err(said)?;
        let (status, headers) = (answer.status(), end_to_end(answer.headers().clone()));
        Ok(Answer { status, headers, body: answer.bytes().await.map_err(said)? })
    }
}

impl ScriptedFault {
    fn fits(&self, method: &Method, path: &str, query: &str) -> bool {
        let Self { method: wanted, path_contains, query_contains, .. } = self;
        method == wanted && decoded(path).contains(path_contains) && query.contains(query_contains)
    }
}

/// An answer of the upstream.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

async fn handle(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(mut body) = to_bytes(body, BODY_BYTES_MAX).await else {
        return error(502, "ProxyFailed", "a body larger than the proxy's limit, or cut", None);
    };
    let method = parts.method.clone();
    let fault = shared.choose(&method, parts.uri.path(), parts.uri.query().unwrap_or_default());
    let number = shared.note(&parts, fault);
    tokio::time::sleep(shared.options.latency).await;

    let answer = match fault {
        Some(ProxyFault::Hang) => return future::pending().await,
        Some(ProxyFault::CutBefore) => cut(),
        Some(ProxyFault::Busy { retry_after_s }) => {
            error(503, "ServerBusy", "The server is busy.", retry_after_s)
        }
        Some(ProxyFault::InternalError) => {
            error(500, "InternalError", "The server encountered an internal error.", None)
        }
        Some(ProxyFault::TimedOutBefore) => timed_out(),
        Some(ProxyFault::Answer { status, code, message }) => error(status, code, message, None),
        Some(ProxyFault::CutAfter | ProxyFault::TimedOutAfter | ProxyFault::CutBody)
        | Some(ProxyFault::CorruptBody | ProxyFault::CorruptAnswer)
        | None => {
            if fault == Some(ProxyFault::CorruptBody) {
                body = corrupted(&body);
            }
            shared.amend(number, |request| request.was_forwarded = true);
            match (shared.forward(parts, body).await, fault) {
                // No emulator, no effect: a fault of the tests, and it should look like one.
                (Err(why), _) => error(502, "ProxyFailed", &why, None),
                (Ok(_), Some(ProxyFault::CutAfter)) => cut(),
                (Ok(_), Some(ProxyFault::TimedOutAfter)) => timed_out(),
                (Ok(_), Some(ProxyFault::CutBody)) if method == Method::HEAD => cut(),
                (Ok(answer), Some(ProxyFault::CutBody)) => half(answer),
                (Ok(answer), Some(ProxyFault::CorruptAnswer)) => {
                    whole(Answer { body: corrupted(&answer.body), ..answer })
                }
                (Ok(answer), _) => whole(answer),
            }
        }
    };
    shared.amend(number, |request| request.status = answer.status().as_u16());
    answer
}

/// Cuts the connection, nothing sent. hyper closes a connection whose service fails, but axum's
/// never does; so the connection's task is unwound, without the message of a panic. A body that
/// fails (as in `src/sim/http.rs`) would not do for HEAD, whose answer has none.
fn cut() -> ! {
    std::panic::resume_unwind(Box::new("the proxy cuts this connection"))
}

fn timed_out() -> Response {
    let message = "Operation could not be completed within the specified time.";
    error(500, "OperationTimedOut", message, None)
}

/// An error as Azure Storage sends it.
/// <https://learn.microsoft.com/rest/api/storageservices/status-and-error-codes2>
fn error(status: u16, code: &str, message: &str, retry_after_s: Option<u64>) -> Response {
    let id = "00000000-0000-0000-0000-000000000000";
    let body = format!(
        "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>{code}</Code>\
         <Message>{message}\nRequestId:{id}\nTime:2025-01-01T00:00:00.0000000Z</Message></Error>"
    );
    let mut response = Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, "application/xml")
        .header("x-ms-error-code", code)
        .header("x-ms-request-id", id);
    if let Some(seconds) = retry_after_s {
        response = response.header(header::RETRY_AFTER, seconds);
    }
    response.body(Body::from(body)).unwrap()
}

fn whole(answer: Answer) -> Response {
    let mut response = Response::new(Body::from(answer.body));
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    response
}

/// Announces the whole body, sends half of it, then cuts the connection.
fn half(answer: Answer) -> Response {
    let Answer { status, mut headers, mut body } = answer;
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len().max(1)));
    body.truncate(body.len() / 2);
    let then = stream::once(async {
        tokio::time::sleep(FLUSH_PAUSE).await;
        Err(io::Error::from(io::ErrorKind::ConnectionReset))
    });
    let body = Body::from_stream(stream::iter([Ok(body)]).chain(then));
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// `body` with one bit changed, in the middle.
fn corrupted(body: &[u8]) -> Bytes {
    let mut body = body.to_vec();
    let middle = body.len() / 2;
    if let Some(byte) = body.get_mut(middle) {
        *byte ^= 1;
    }
    body.into()
}

/// `headers` without those of the connection.
fn end_to_end(mut headers: HeaderMap) -> HeaderMap {
    for name in HOP_BY_HOP {
        headers.remove(HeaderName::from_static(name));
    }
    headers
}

/// A fault in the share `rate` of all cases, always the same for the same `case`.
fn draw(case: &str, rate: f64, is_get: bool) -> Option<ProxyFault> {
    let hash = Sha256::digest(case);
    let number = |at: usize| u32::from_le_bytes(hash[at..at + 4].try_into().unwrap());
    let n_kinds = if is_get { DRAWN.len() } else { DRAWN.len() - N_DRAWN_FOR_GET_ONLY };
    let is_fault = f64::from(number(0)) / f64::from(u32::MAX) < rate;
    is_fault.then(|| DRAWN[number(4) as usize % n_kinds])
}

/// `path` without percent signs.
fn decoded(path: &str) -> String {
    // In a form, `+` would be a space.
    let form = path.replace('+', "%2B").replace('&', "%26").replace('=', "%3D");
    let mut pairs = url::form_urlencoded::parse(form.as_bytes());
    pairs.next().map(|(text, _)| text.into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
