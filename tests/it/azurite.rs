//! Azurite, the emulator of Azure Storage, for tests: installed and started by the tests that use
//! it.
//!
//! `find node and npm -> install what tests/package-lock.json names -> start -> read the port`
//!
//! # Invariants
//! - A test that cannot have Azurite says so on the real stderr, by name, or fails if
//!   `TESTS_MAY_NOT_SKIP` is set.
//! - Azurite ends when the process that started it does, however that ends: it watches a pipe of
//!   which only that process holds the other end.
//! - What looks into a container here shares no code with the product, signatures included.
//!
//! Start reading at [`Azurite::http`].

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use azure_core::base64;
use easm_export::store::folder::hex;
use hmac::{Hmac, KeyInit, Mac};
use reqwest::{Client, Method, Response, StatusCode};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

const PACKAGE: &[u8] = include_bytes!("../package.json");
const LOCK: &[u8] = include_bytes!("../package-lock.json");

/// Longest time to install: 365 MB. It took 15 to 90 s with the registry near.
const INSTALL_TIME_MAX: Duration = Duration::from_secs(600);
/// Longest time until Azurite listens. It took 1 to 4 s.
const START_TIME_MAX: Duration = Duration::from_secs(120);
/// Longest time from the closing of the pipe to the end of Azurite.
const END_TIME_MAX: Duration = Duration::from_secs(10);
/// How often a process is asked whether it has ended.
const POLL_PAUSE: Duration = Duration::from_millis(50);
/// How many last lines of a failed command are shown.
const LINES_SHOWN_MAX: usize = 20;
/// Most pages of one list. Far beyond what tests write: it ends a list that goes in circles.
const LIST_PAGES_MAX: u32 = 1000;
/// Names on a page, as many as the service sends.
const LIST_PAGE: u32 = 5000;
/// Longest time of a request of ours.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(60);

/// The account and key that every Azurite has. They are published:
/// <https://learn.microsoft.com/azure/storage/common/storage-connect-azurite>.
pub const ACCOUNT: &str = "devstoreaccount1";
pub const ACCOUNT_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
const API_VERSION: &str = "2021-12-02";

/// What node runs before Azurite: an end when our end of its stdin closes.
const WATCH: &str = "data:text/javascript,process.stdin.on('end',()=>process.exit(0)).resume()";

/// One of the services of Azurite: its entry point, and its options.
#[derive(Clone, Copy)]
struct Service {
    main: &'static str,
    options: &'static [&'static str],
}

/// Idle connections stay open longer than the 5 s of Azurite, which would cut requests that come
/// just then; the real service waits longer too.
const BLOBS: Service = Service {
    main: "node_modules/azurite/dist/src/blob/main.js",
    options: &["--blobKeepAliveTimeout", "60", "--blobPort", "0"],
};
/// It knows no such option: connections to it are not to be used again.
const QUEUES: Service =
    Service { main: "node_modules/azurite/dist/src/queue/main.js", options: &["--queuePort", "0"] };

/// How long tests are given the same blob service. Every ten minutes Azurite looks through all that it
/// holds for what may go, which takes it longer than a request may, once many tests were there.
const SHARED_FOR: Duration = Duration::from_secs(4 * 60);

/// A running service: of blobs, or of queues. It ends when dropped, or with the process.
pub struct Azurite {
    pub port: u16,
    /// The authority of its certificate, if it has one.
    ca_pem: Option<String>,
    scheme: &'static str,
    node: Child,
    /// Holds certificate and key, if there are any.
    _folder: Option<TempDir>,
}

impl Azurite {
    /// The blob service that tests share which begin within [`SHARED_FOR`]. It speaks plain HTTP and
    /// knows [`ACCOUNT_KEY`]. Nothing where there is no node; then `test` is to return.
    pub fn http(test: &str) -> Option<&'static Self> {
        static SHARED: Mutex<Option<(Instant, &'static Azurite)>> = Mutex::new(None);
        let install = installed(test)?;
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((started_at, azurite)) = *shared
            && started_at.elapsed() < SHARED_FOR
        {
            return Some(azurite);
        }
        let started = start(install, BLOBS, "http", &[], None, None);
        let started = started.unwrap_or_else(|why| panic!("{test}: {why}"));
        // The one before goes on for those who have it, and ends with this process.
        let azurite: &'static Self = Box::leak(Box::new(started));
        *shared = Some((Instant::now(), azurite));
        Some(azurite)
    }

    /// A blob service of the caller's own, with TLS and bearer tokens (Azurite reads a token's
    /// claims and verifies no signature). It knows [`ACCOUNT_KEY`] too.
    pub fn tls(test: &str, certificate: &Certificate) -> Option<Self> {
        let Certificate { ca_pem, cert_pem, key_pem } = certificate;
        let install = installed(test)?;
        let folder = tempfile::tempdir().unwrap();
        let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        fs::write(&cert, cert_pem).unwrap();
        fs::write(&key, key_pem).unwrap();
        let (cert, key) = (cert.to_str().unwrap(), key.to_str().unwrap());
        let options = ["--oauth", "basic", "--cert", cert, "--key", key];
        let started = start(install, BLOBS, "https", &options, Some(folder), Some(ca_pem));
        Some(started.unwrap_or_else(|why| panic!("{test}: {why}")))
    }

    /// The one queue service of this process, likewise.
    pub fn queues(test: &str) -> Option<&'static Self> {
        static SHARED: OnceLock<Result<Azurite, String>> = OnceLock::new();
        let install = installed(test)?;
        let started = SHARED.get_or_init(|| start(install, QUEUES, "http", &[], None, None));
        Some(started.as_ref().unwrap_or_else(|why| panic!("{test}: {why}")))
    }

    /// `http://127.0.0.1:PORT`, or the same with `https`.
    pub fn base(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.port)
    }

    pub fn store_url(&self, container: &str) -> String {
        format!("{}/{ACCOUNT}/{container}", self.base())
    }

    /// A name for a container that no other test has. It is not created.
    pub fn container(&self) -> String {
        static N_NAMES: AtomicU64 = AtomicU64::new(0);
        format!("test-{}-{}", std::process::id(), N_NAMES.fetch_add(1, Ordering::Relaxed))
    }

    pub async fn create_container(&self, container: &str) {
        let path = container_path(container);
        let query = [("restype", "container")];
        let answer = self.signed(Method::PUT, &path, &query, &[], Vec::new()).await;
        expect_status(answer.unwrap(), StatusCode::CREATED).await;
    }

    /// Whether there is such a container.
    pub async fn has_container(&self, container: &str) -> bool {
        let path = container_path(container);
        let query = [("restype", "container")];
        let answer = self.signed(Method::HEAD, &path, &query, &[], Vec::new()).await.unwrap();
        answer.status() == StatusCode::OK
    }

    /// Creates or replaces a blob.
    pub async fn put(&self, container: &str, path: &str, bytes: &[u8]) {
        let path = blob_path(container, path);
        let headers = [("x-ms-blob-type", "BlockBlob")];
        let answer = self.signed(Method::PUT, &path, &[], &headers, bytes.to_vec()).await;
        expect_status(answer.unwrap(), StatusCode::CREATED).await;
    }

    /// A blob's bytes, if there is such a blob.
    pub async fn get(&self, container: &str, path: &str) -> Option<Vec<u8>> {
        let path = blob_path(container, path);
        let answer = self.signed(Method::GET, &path, &[], &[], Vec::new()).await.unwrap();
        match answer.status() {
            StatusCode::NOT_FOUND => None,
            _ => Some(expect_status(answer, StatusCode::OK).await),
        }
    }

    /// Names of all blobs of `container`, in the order of the service, which is that of names.
    pub async fn blobs(&self, container: &str) -> Vec<String> {
        self.blobs_by_pages(container, LIST_PAGE).await
    }

    async fn signed(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> reqwest::Result<Response> {
        // A client for each request: a connection of one test cannot outlive it in another's runtime.
        let client = plain_client(self.ca_pem.as_deref());
        signed(&client, &self.base(), method, path, query, headers, body).await
    }

    async fn blobs_by_pages(&self, container: &str, page: u32) -> Vec<String> {
        let page = page.to_string();
        let (mut names, mut marker) = (Vec::new(), String::new());
        for _ in 0..LIST_PAGES_MAX {
            let mut query = vec![("restype", "container"), ("comp", "list"), ("maxresults", &page)];
            if !marker.is_empty() {
                query.push(("marker", &marker));
            }
            let path = container_path(container);
            let answer = self.signed(Method::GET, &path, &query, &[], Vec::new()).await;
            let body = expect_status(answer.unwrap(), StatusCode::OK).await;
            let xml = String::from_utf8(body).unwrap();
            names.extend(elements(&xml, "Name"));
            marker = elements(&xml, "NextMarker").pop().unwrap_or_default();
            if marker.is_empty() {
                return names;
            }
        }
        panic!("a list of more than {LIST_PAGES_MAX} pages");
    }
}

impl Drop for Azurite {
    fn drop(&mut self) {
        drop(self.node.stdin.take());
        if wait(&mut self.node, END_TIME_MAX).is_none() {
            // It may have ended just now.
            let _ended = self.node.kill();
            let _status = self.node.wait();
        }
    }
}

/// The folder Azurite is installed in, or nothing, said aloud, where it cannot be.
fn installed(test: &str) -> Option<&'static Path> {
    static INSTALLED: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let missing: Vec<&str> = ["npm", "node"].into_iter().filter(|name| !is_on_path(name)).collect();
    if !missing.is_empty() {
        let why = format!(
            "SKIPPED: {test}: no {}, so nothing was tested against Azurite \
             (install Node.js 20 or later)",
            missing.join(" and no ")
        );
        assert!(std::env::var_os("TESTS_MAY_NOT_SKIP").is_none(), "{why}");
        // Not `eprintln!`: the test harness hides that where a test passes.
        std::io::stderr().write_all(format!("\n{why}\n").as_bytes()).unwrap();
        return None;
    }
    let folder = INSTALLED.get_or_init(install);
    Some(folder.as_ref().unwrap_or_else(|why| panic!("{test}: {why}")))
}

fn is_on_path(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
}

/// Installs what the lock file names, unless that was done before.
fn install() -> Result<PathBuf, String> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("azurite");
    let said = |err: std::io::Error| format!("install Azurite in {}: {err}", folder.display());
    fs::create_dir_all(&folder).map_err(said)?;
    // Another test process may be installing at this moment.
    let guard = File::create(folder.join("install.lock")).map_err(said)?;
    guard.lock().map_err(said)?;

    let digest = hex(&Sha256::digest([PACKAGE, LOCK].concat()));
    let marker = folder.join("installed.sha256");
    if fs::read_to_string(&marker).is_ok_and(|found| found == digest) {
        return Ok(folder);
    }
    fs::write(folder.join("package.json"), PACKAGE).map_err(said)?;
    fs::write(folder.join("package-lock.json"), LOCK).map_err(said)?;
    let log = folder.join("npm.log");
    let options = [
        "ci",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--engine-strict=false",
        "--omit=dev",
    ];
    let mut npm = Command::new("npm")
        .args(options)
        .current_dir(&folder)
        // npm holds the guard as well: if this process is killed, the next one waits for npm.
        .stdin(guard.try_clone().map_err(said)?)
        .stdout(Stdio::null())
        .stderr(File::create(&log).map_err(said)?)
        .spawn()
        .map_err(said)?;
    let status = wait(&mut npm, INSTALL_TIME_MAX);
    if !status.is_some_and(|status| status.success()) {
        // It may have ended just now.
        let _ended = npm.kill();
        let _status = npm.wait();
        let text = fs::read_to_string(&log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let last = lines[lines.len().saturating_sub(LINES_SHOWN_MAX)..].join("\n");
        let how = status.map_or(format!("no end within {INSTALL_TIME_MAX:?}"), |s| s.to_string());
        return Err(format!("npm {}: {how}\n{last}", options.join(" ")));
    }
    // Last, so that an install which was cut short is repeated.
    fs::write(&marker, digest).map_err(said)?;
    Ok(folder)
}

/// Waits until `child` has ended, for `limit` at most.
fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let begin = Instant::now();
    loop {
        match child.try_wait().unwrap() {
            Some(status) => return Some(status),
            None if begin.elapsed() > limit => return None,
            None => std::thread::sleep(POLL_PAUSE),
        }
    }
}

/// Starts `service` on a free port and waits until it listens.
fn start(
    install: &Path,
    service: Service,
    scheme: &'static str,
    options: &[&str],
    folder: Option<TempDir>,
    ca_pem: Option<&str>,
) -> Result<Azurite, String> {
    let mut node = Command::new("node")
        .args([
            "--import",
            WATCH,
            service.main,
            "--silent",
            "--disableTelemetry",
            "--disableProductStyleUrl",
        ])
        // In memory, so that nothing is left behind.
        .arg("--inMemoryPersistence")
        .args(service.options)
        .args(options)
        .current_dir(install)
        .env_remove("AZURITE_ACCOUNTS")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|err| format!("start node: {err}"))?;
    let (sender, lines) = channel();
    drain(node.stdout.take().unwrap(), sender.clone());
    drain(node.stderr.take().unwrap(), sender);
    let ca_pem = ca_pem.map(str::to_owned);
    let mut azurite = Azurite { port: 0, ca_pem, scheme, node, _folder: folder };

    let begin = Instant::now();
    let mut said: Vec<String> = Vec::new();
    // Fails when the time is up, or when node has ended.
    while let Ok(line) = lines.recv_timeout(START_TIME_MAX.saturating_sub(begin.elapsed())) {
        let port = line.contains("successfully listens on").then(|| line.rsplit(':').next());
        if let Some(port) = port.flatten().and_then(|port| port.trim().parse().ok()) {
            azurite.port = port;
            return Ok(azurite);
        }
        said.push(line);
    }
    let last = said[said.len().saturating_sub(LINES_SHOWN_MAX)..].join("\n");
    Err(format!("Azurite does not listen after {:?}; it said:\n{last}", begin.elapsed()))
}

/// Reads `stream` to its end, so that node never waits for us.
fn drain(stream: impl Read + Send + 'static, lines: Sender<String>) {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            // Nobody listens once Azurite has started.
            let _unheard = lines.send(line);
        }
    });
}

fn container_path(container: &str) -> String {
    format!("/{ACCOUNT}/{container}")
}

/// Path of a blob in a URL.
pub fn blob_path(container: &str, blob: &str) -> String {
    format!("{}/{}", container_path(container), encoded(blob, "/="))
}

/// `text` for a URL, with percent signs for all but what always may stand there, and `kept`.
fn encoded(text: &str, kept: &str) -> String {
    let mut url = String::new();
    for byte in text.bytes() {
        match char::from(byte) {
            c if c.is_ascii_alphanumeric() || "-._~".contains(c) || kept.contains(c) => url.push(c),
            _ => url.push_str(&format!("%{byte:02X}")),
        }
    }
    url
}

/// A client without proxies, redirects and trust in anything but `ca_pem`.
pub fn plain_client(ca_pem: Option<&str>) -> Client {
    // Another test may have done it.
    let _done = rustls::crypto::ring::default_provider().install_default();
    let roots = ca_pem.map(|pem| reqwest::Certificate::from_pem(pem.as_bytes()).unwrap());
    Client::builder()
        .http1_only()
        .no_proxy()
        .no_gzip()
        .redirect(reqwest::redirect::Policy::none())
        .tls_certs_only(roots)
        .timeout(REQUEST_TIME_MAX)
        // Well below what Azurite is told to keep.
        .pool_idle_timeout(Duration::from_secs(20))
        .build()
        .unwrap()
}

/// Sends a request with a signature by [`ACCOUNT_KEY`]. `path` is as it goes out, encoded;
/// `query` is not.
/// <https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key>
pub async fn signed(
    client: &Client,
    base: &str,
    method: Method,
    path: &str,
    query: &[(&str, &str)],
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> reqwest::Result<Response> {
    let date = httpdate::fmt_http_date(SystemTime::now());
    let mut headers = headers.to_vec();
    headers.extend([("x-ms-date", date.as_str()), ("x-ms-version", API_VERSION)]);
    headers.sort_unstable();
    let mut query = query.to_vec();
    query.sort_unstable();

    let length = if body.is_empty() { String::new() } else { body.len().to_string() };
    let header = |wanted: &str| match headers.iter().find(|(name, _)| *name == wanted) {
        Some((_, value)) => *value,
        None => "",
    };
    let mut text = format!("{method}\n");
    for name in ["content-encoding", "content-language"] {
        text += &format!("{}\n", header(name));
    }
    text += &format!("{length}\n");
    for name in ["content-md5", "content-type", "date", "if-modified-since", "if-match"] {
        text += &format!("{}\n", header(name));
    }
    for name in ["if-none-match", "if-unmodified-since", "range"] {
        text += &format!("{}\n", header(name));
    }
    for (name, value) in headers.iter().filter(|(name, _)| name.starts_with("x-ms-")) {
        text += &format!("{name}:{value}\n");
    }
    text += &format!("/{ACCOUNT}{path}");
    for (name, value) in &query {
        text += &format!("\n{name}:{value}");
    }
    let key = base64::decode(ACCOUNT_KEY).unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    mac.update(text.as_bytes());
    let signature = base64::encode(mac.finalize().into_bytes());

    let pairs: Vec<String> =
        query.iter().map(|(name, value)| format!("{name}={}", encoded(value, ""))).collect();
    let mark = if pairs.is_empty() { "" } else { "?" };
    let url = format!("{base}{path}{mark}{}", pairs.join("&"));
    let mut request = client.request(method, url).body(body);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    request.header("authorization", format!("SharedKey {ACCOUNT}:{signature}")).send().await
}

/// The body of `answer`, which must have `status`.
pub async fn expect_status(answer: Response, status: StatusCode) -> Vec<u8> {
    let (found, url) = (answer.status(), answer.url().clone());
    let body = answer.bytes().await.unwrap();
    assert_eq!(found, status, "{url}: {}", String::from_utf8_lossy(&body));
    body.to_vec()
}

/// The text of every element `name` of `xml`, if it has no attributes and no elements in it.
pub fn elements(xml: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let texts = xml.split(&open).skip(1).map(|rest| rest.split(&close).next().unwrap_or_default());
    texts.map(unescaped).collect()
}

fn unescaped(text: &str) -> String {
    let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"");
    text.replace("&apos;", "'").replace("&amp;", "&")
}

/// A certificate for `127.0.0.1` and `localhost`, its key, and the authority that signed it.
pub struct Certificate {
    pub ca_pem: String,
    pub cert_pem: String,
    pub key_pem: String,
}

impl Certificate {
    pub fn new() -> Self {
        use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
        let issuer = Issuer::new(ca, ca_key);
        let key = KeyPair::generate().unwrap();
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let leaf = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
        Self { ca_pem, cert_pem: leaf.pem(), key_pem: key.serialize_pem() }
    }
}

/// A token whose claims Azurite accepts; nobody signed it.
pub fn storage_token() -> String {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let claims = serde_json::json!({
        "aud": "https://storage.azure.com", "iss": "https://sts.windows.net/tests/",
        "nbf": now - 60, "iat": now - 60, "exp": now + 3600, "oid": "tests", "tid": "tests",
    });
    let part = |text: &str| base64::encode_url_safe(text).trim_end_matches('=').to_owned();
    let head = part(r#"{"alg":"RS256","typ":"JWT"}"#);
    format!("{head}.{}.{}", part(&claims.to_string()), part("nobody"))
}

#[tokio::test]
async fn a_blob_that_was_put_can_be_read_and_listed() {
    let Some(azurite) = Azurite::http("a_blob_that_was_put_can_be_read_and_listed") else { return };
    let container = azurite.container();
    azurite.create_container(&container).await;
    assert!(azurite.store_url(&container).ends_with(&format!("/{ACCOUNT}/{container}")));
    let paths = ["a/date=2025-01-01/part 1.json", "b & <c>'d\"/é.json", "c%20d+e?f#g", "z"];
    for path in paths {
        azurite.put(&container, path, path.as_bytes()).await;
    }
    for path in paths {
        let found = azurite.get(&container, path).await;
        assert_eq!(found.as_deref(), Some(path.as_bytes()), "{path}");
    }
    assert_eq!(azurite.get(&container, "not there").await, None);
    assert_eq!(azurite.blobs(&container).await, paths);
    assert_eq!(azurite.blobs_by_pages(&container, 1).await, paths, "page by page");
}

#[tokio::test]
async fn azurite_speaks_tls_and_takes_bearer_tokens() {
    let certificate = Certificate::new();
    let test = "azurite_speaks_tls_and_takes_bearer_tokens";
    let Some(azurite) = Azurite::tls(test, &certificate) else { return };
    let url = azurite.store_url(&azurite.container()) + "?restype=container";
    let request = |client: Client, token: &str| {
        let request = client.put(&url).header("x-ms-version", API_VERSION).bearer_auth(token);
        request.header("content-length", "0").send()
    };
    let client = plain_client(Some(&certificate.ca_pem));
    let refused = request(client.clone(), "no-token").await.unwrap();
    assert!(refused.status().is_client_error(), "{}", refused.status());
    expect_status(request(client, &storage_token()).await.unwrap(), StatusCode::CREATED).await;
    request(plain_client(None), &storage_token()).await.expect_err("nobody vouches for it");
}

#[test]
fn azurite_ends_when_the_pipe_to_its_test_process_closes() {
    let test = "azurite_ends_when_the_pipe_to_its_test_process_closes";
    let Some(install) = installed(test) else { return };
    let mut azurite = start(install, BLOBS, "http", &[], None, None).unwrap();
    drop(azurite.node.stdin.take());
    assert!(wait(&mut azurite.node, END_TIME_MAX).is_some_and(|status| status.success()));
}
