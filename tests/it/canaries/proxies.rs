//! The proxy on the way fails, or repeats what it was sent; certificates that nobody vouches for, and
//! files of credentials that are not what they should be.

use std::fs;
use std::sync::{Arc, Mutex};

use azure_core::base64;
use easm_export::sim::SignIn;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::parrots::tls_before;
use super::planted::{self, PROXY_PASSWORD, PROXY_USER, STRANGE_TOKEN};
use super::scene::{EXPORT, FORMATS, Scene, all, assert_none, watched};
use crate::azurite::Certificate;

/// Longest head of a request that a proxy of these tests reads.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// What a proxy answers to a request whose head is `{head}`, and whose user and password are `{basic}`
/// as they were sent. Nothing: it closes the connection.
const ANSWERS: [&str; 8] = [
    "",
    "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"{basic}\"\r\n\
     X-Seen: {basic}\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 403 {basic} may not pass\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<pre>{head}</pre>",
    "HTTP/1.1 302 Found\r\nLocation: http://{basic}@elsewhere.invalid/\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 200 Connection established\r\n\r\nThis is no TLS: {head}",
    "{head} is no HTTP",
    "HTTP/1.1 200 {head}\r\n{basic}: {basic}\r\n\r\n",
];

/// Settings that lead beyond loopback, and so through the proxy.
const WAYS: [(&str, SignIn, &str, &str); 4] = [
    ("Entra", SignIn::ClientSecret, "AZURE_AUTHORITY_HOST", "https://login.easm-export.invalid"),
    ("ARM", SignIn::ManagedIdentity, "EASM_ARM_URL", "https://management.azure.com"),
    (
        "data plane",
        SignIn::ManagedIdentity,
        "EASM_DATA_PLANE_URL",
        "https://eastus.easm.defender.microsoft.com",
    ),
    (
        "store",
        SignIn::ManagedIdentity,
        "EASM_STORE_URL",
        "https://acme.blob.core.windows.net/exports",
    ),
];

type Heads = Arc<Mutex<Vec<String>>>;

/// A proxy that answers like that. Its address, and the heads of requests that it got.
async fn proxy(answer: &'static str) -> (String, Heads) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let heads = Heads::default();
    let noted = Arc::clone(&heads);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(answered(client, answer, Arc::clone(&noted)));
        }
    });
    (address, heads)
}

async fn answered(mut client: TcpStream, answer: &str, heads: Heads) {
    let (mut head, mut piece) = (Vec::new(), [0; 1024]);
    while head.len() < HEAD_BYTES_MAX && !head.ends_with(b"\r\n\r\n") {
        match client.read(&mut piece).await {
            Ok(n) if n > 0 => head.extend(&piece[..n]),
            _ => return,
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    heads.lock().unwrap().push(head.clone());
    let basic = base64::encode(format!("{PROXY_USER}:{PROXY_PASSWORD}"));
    let one_line = head.replace("\r\n", " | ");
    let text = answer.replace("{head}", &one_line).replace("{basic}", &basic);
    // A client that has gone hears nothing.
    let _sent = client.write_all(text.as_bytes()).await;
}

#[tokio::test]
async fn whatever_a_proxy_answers_its_user_and_password_are_not_told() {
    let mut cases = Vec::new();
    for (n, way) in WAYS.into_iter().enumerate() {
        for (at, answer) in ANSWERS.into_iter().enumerate() {
            cases.push(passes(way, answer, FORMATS[(n + at) % FORMATS.len()]));
        }
    }
    assert_none(&all(cases).await);
}

async fn passes(
    (name, sign_in, setting, url): (&str, SignIn, &str, &str),
    answer: &'static str,
    format: &str,
) -> Vec<String> {
    let case = format!("{name}, {answer:?}, {format}");
    let scene = Scene::new(planted::options()).await;
    let (address, heads) = proxy(answer).await;
    let mut command = scene.command(sign_in, &EXPORT);
    command
        .env("HTTPS_PROXY", planted::proxy_url(&address))
        .env(setting, url)
        .env("EASM_LOG_FORMAT", format);
    let told = watched(command, || !heads.lock().unwrap().is_empty()).await;
    let mut found = scene.findings(&case, &told);
    let basic = base64::encode(format!("{PROXY_USER}:{PROXY_PASSWORD}"));
    if !heads.lock().unwrap().iter().any(|head| head.contains(&basic)) {
        found.push(format!("{case}: the proxy got no password: {}", told.stderr_text()));
    }
    found
}

#[tokio::test]
async fn a_proxy_that_cannot_be_is_refused_without_its_user_and_password() {
    let scene = Scene::new(planted::options()).await;
    let password = planted::escaped(PROXY_PASSWORD);
    let mut cases = Vec::new();
    for (n, proxy) in [
        format!("{PROXY_USER}:{password}@127.0.0.1:9"),
        format!("http://{PROXY_USER}:{PROXY_PASSWORD}@127.0.0.1:9"),
        format!("socks5://{PROXY_USER}:{password}@127.0.0.1:9"),
        format!("ftp://{PROXY_USER}:{password}@127.0.0.1:9"),
        format!("http://{PROXY_USER}:{password}@127.0.0.1:999999"),
        format!("http://{PROXY_USER}:{password}@"),
        format!("http://{PROXY_USER}:{password}@127.0.0.1:9/?password={password}"),
        format!(" http://{PROXY_USER}:{password}@127.0.0.1:9 "),
        format!("http://{password}@127.0.0.1:9"),
    ]
    .into_iter()
    .enumerate()
    {
        for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"] {
            let mut command = scene.command(SignIn::ClientSecret, &EXPORT);
            command.env_remove("HTTPS_PROXY").env_remove("HTTP_PROXY").env(name, &proxy);
            command.env("AZURE_AUTHORITY_HOST", "https://login.easm-export.invalid");
            command.env("EASM_LOG_FORMAT", FORMATS[n % FORMATS.len()]);
            let (scene, case) = (&scene, format!("{name}={proxy}"));
            cases.push(async move {
                let told = watched(command, || true).await;
                let mut found = scene.findings(&case, &told);
                if told.code == 0 {
                    found.push(format!("{case}: exit code 0"));
                }
                found
            });
        }
    }
    assert_none(&all(cases).await);
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_refused_without_a_credential() {
    let scene = Scene::new(planted::options()).await;
    let sim = &scene.world.sim;
    let planes = tls_before(sim, &sim.url());
    let store = format!("{}/devstoreaccount1/exports", planes.url());
    let others = scene.world.folder.path().join("others.pem");
    fs::write(&others, Certificate::new().ca_pem).unwrap();
    let mut found = Vec::new();
    for (n, (sign_in, setting, url)) in [
        (SignIn::ClientSecret, "EASM_REGION", "eastus".to_owned()),
        (SignIn::Federated, "EASM_REGION", "eastus".to_owned()),
        (SignIn::WorkloadIdentity, "EASM_REGION", "eastus".to_owned()),
        (SignIn::ManagedIdentity, "EASM_ARM_URL", planes.url()),
        (SignIn::ManagedIdentity, "EASM_DATA_PLANE_URL", planes.url()),
        (SignIn::ManagedIdentity, "EASM_STORE_URL", store),
    ]
    .into_iter()
    .enumerate()
    {
        let mut command = scene.command(sign_in, &EXPORT);
        command.env("SSL_CERT_FILE", &others).env(setting, &url);
        command.env("EASM_LOG_FORMAT", FORMATS[n % FORMATS.len()]);
        let told = watched(command, || false).await;
        let case = format!("{sign_in:?}, {setting}={url}");
        found.extend(scene.findings(&case, &told));
        if told.code != 1 || !told.stderr_text().contains("certificate") {
            found.push(format!("{case}: exit code {}: {}", told.code, told.stderr_text()));
        }
    }
    assert_none(&found);
}

#[tokio::test]
async fn a_file_that_holds_something_else_is_refused_without_what_it_holds() {
    let scene = Scene::new(planted::options()).await;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let broken = planted::pem().replace("PRIVATE KEY", "CERTIFICATE");
    let strange = format!("{STRANGE_TOKEN}\n");
    let cases = [
        ("SSL_CERT_FILE", file("key.pem", planted::pem().as_bytes())),
        ("SSL_CERT_FILE", file("broken.pem", broken.as_bytes())),
        ("SSL_CERT_FILE", file("binary.pem", &[b"\xff\xfe", STRANGE_TOKEN.as_bytes()].concat())),
        ("AZURE_FEDERATED_TOKEN_FILE", file("strange", STRANGE_TOKEN.as_bytes())),
        (
            "AZURE_FEDERATED_TOKEN_FILE",
            file("lines", [strange.as_bytes(), b"\nand so on"].concat().as_slice()),
        ),
        (
            "AZURE_FEDERATED_TOKEN_FILE",
            file("binary", &[STRANGE_TOKEN.as_bytes(), b"\xff\xfe"].concat()),
        ),
        (
            "AZURE_FEDERATED_TOKEN_FILE",
            file("json", format!("{{\"token\": \"{STRANGE_TOKEN}\"}}").as_bytes()),
        ),
        ("AZURE_FEDERATED_TOKEN_FILE", folder.path().to_owned()),
        ("EASM_TARGETS", file("targets.json", format!("@{STRANGE_TOKEN}").as_bytes())),
    ];
    let mut runs = Vec::new();
    for (n, (setting, path)) in cases.into_iter().enumerate() {
        let mut command = scene.command(SignIn::WorkloadIdentity, &EXPORT);
        command.env(setting, &path).env("EASM_LOG_FORMAT", FORMATS[n % FORMATS.len()]);
        let (scene, case) = (&scene, format!("{setting}={}", path.display()));
        runs.push(async move {
            let told = watched(command, || true).await;
            let mut found = scene.findings(&case, &told);
            if told.code == 0 {
                found.push(format!("{case}: exit code 0"));
            }
            found
        });
    }
    assert_none(&all(runs).await);
}
