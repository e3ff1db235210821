//! Things behind us that repeat all they were sent: in errors, in headers, in members of the wrong
//! type, where a program that passes on what it was told gives its credentials away.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use azure_core::base64;
use easm_export::sim::{Running, SignIn};
use serde_json::json;

use super::Search;
use super::scene::{EXPORT, FORMATS, Scene, all, assert_none, files, tokens, watched};
use crate::azurite::ACCOUNT;
use crate::proxy::{Proxy, ProxyOptions};

/// Largest body that is repeated. Forms and parts of tests are smaller.
const BODY_BYTES_MAX: usize = 1 << 20;

/// Where a parrot puts what it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// Into the texts of an error.
    Json,
    /// Into JSON in a text of an error.
    Nested,
    /// Into every member that a right answer has, of a type that it does not have.
    Types,
    /// Into members that are names of other things.
    Names,
    Text,
    Html,
    Xml,
    Headers,
    Base64,
    /// Into an error that asks to come back much later.
    Later,
}

use Manner::{Base64, Headers, Html, Json, Later, Names, Nested, Text, Types, Xml};

/// A status and a manner in which it comes.
const MANNERS: [(u16, Manner); 16] = [
    (200, Types),
    (200, Names),
    (200, Json),
    (200, Text),
    (302, Headers),
    (400, Json),
    (401, Headers),
    (403, Nested),
    (403, Xml),
    (404, Html),
    (409, Base64),
    (429, Headers),
    (500, Json),
    (503, Text),
    (429, Later),
    (503, Later),
];

/// A run that waits longer than this gives up: less than two seconds, in hours.
const HOURS_MAX: &str = "0.0005";

/// A server that repeats what it was sent. It stops with the runtime.
pub struct Parrot {
    pub url: String,
    heard: Arc<Mutex<Vec<Heard>>>,
}

/// What a parrot was sent: the header or the form that opens something, and everything.
#[derive(Clone)]
struct Heard {
    credential: String,
    all: String,
}

impl Parrot {
    async fn start(status: u16, manner: Manner) -> Self {
        let heard = Arc::default();
        let state = (status, manner, Arc::clone(&heard));
        let router = Router::new().fallback(answer).with_state(state);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, heard }
    }

    fn was_asked(&self) -> bool {
        !self.heard.lock().unwrap().is_empty()
    }

    /// A search for the tokens and assertions that it was sent.
    fn search(&self) -> Search {
        let heard = self.heard.lock().unwrap();
        let sent: Vec<String> = heard.iter().map(|heard| heard.credential.clone()).collect();
        let assertions = sent.iter().flat_map(|form| {
            let pairs = url::form_urlencoded::parse(form.as_bytes());
            pairs
                .filter(|(name, _)| name == "client_assertion")
                .map(|(_, value)| value.into_owned())
        });
        let assertions = assertions.map(|token| ("assertion".to_owned(), token));
        Search::new(assertions.chain(tokens(sent.iter().cloned())))
    }
}

type Told = (u16, Manner, Arc<Mutex<Vec<Heard>>>);

async fn answer(State((status, manner, all)): State<Told>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, BODY_BYTES_MAX).await.unwrap_or_default();
    let body = String::from_utf8_lossy(&body).into_owned();
    let header = |name: &str| {
        let value = parts.headers.get(name)?;
        Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let credential = header("authorization").or_else(|| header("x-identity-header"));
    if credential.is_none() && parts.uri.path().starts_with("/secrets/") {
        return challenged();
    }
    let credential = credential.unwrap_or_else(|| body.clone());
    let text = format!("{} {} {:?} {body}", parts.method, parts.uri, parts.headers);
    let heard = Heard { credential, all: text };
    let mut response = Response::new(Body::from(repeated(manner, &heard)));
    *response.status_mut() = status.try_into().unwrap();
    let headers = response.headers_mut();
    if let Headers = manner {
        repeat_in(headers, heard.credential.trim_start_matches("Bearer "));
    }
    if let Later = manner {
        headers.insert("retry-after", HeaderValue::from_static("3600"));
    }
    let media = match manner {
        Text => "text/plain",
        Html => "text/html",
        Xml => "application/xml",
        _ => "application/json",
    };
    headers.insert("content-type", HeaderValue::from_static(media));
    all.lock().unwrap().push(heard);
    response
}

/// What a vault says before it gets a token.
fn challenged() -> Response {
    let challenge = "Bearer authorization=\"https://login.microsoftonline.com/common\", \
                     resource=\"https://vault.azure.net\"";
    let answer = Response::builder().status(401).header("www-authenticate", challenge);
    answer.body(Body::empty()).unwrap()
}

/// The body of an answer.
fn repeated(manner: Manner, Heard { credential, all }: &Heard) -> String {
    let bare = credential.trim_start_matches("Bearer ");
    let error = |message: &str| {
        json!({"error": {"code": "InvalidToken", "message": message, "innererror": {"message": message}},
            "message": message, "error_description": message, "error_codes": [message]})
    };
    match manner {
        Json | Later => error(&format!("could not read '{all}'")).to_string(),
        Nested => {
            error(&error(&json!({"token": bare, "all": all}).to_string()).to_string()).to_string()
        }
        Types => json!({"access_token": [bare], "expires_in": bare, "expires_on": bare,
            "token_type": 7, "value": bare, "content": bare, "totalElements": bare, "mark": [bare],
            "location": [bare], "properties": bare, "name": {bare: bare}, "id": [bare]})
        .to_string(),
        Names => json!({"access_token": MADE_UP, "expires_in": 3600, "expires_on": "4000000000",
            "resource": bare, "token_type": bare, "client_id": bare, "name": bare, "location": bare,
            "properties": {"dataPlaneEndpoint": bare, "provisioningState": bare},
            "value": [{"kind": bare, "id": 5, bare: bare}], "totalElements": -1, "mark": bare})
        .to_string(),
        Text => all.clone(),
        Html => format!("<html><body><h1>{bare}</h1><pre>{all}</pre></body></html>"),
        Xml => format!(
            "<?xml version=\"1.0\"?><Error><Code>{bare}</Code><Message>{all}</Message>\
             <AuthenticationErrorDetail>{bare}</AuthenticationErrorDetail></Error>"
        ),
        Headers => String::new(),
        Base64 => error(&base64::encode(all)).to_string(),
    }
}

fn repeat_in(headers: &mut HeaderMap, bare: &str) {
    let escaped: String = url::form_urlencoded::byte_serialize(bare.as_bytes()).collect();
    for (name, value) in [
        ("www-authenticate", format!("Bearer error=\"invalid_token\", realm=\"{bare}\"")),
        ("location", format!("https://elsewhere.easm-export.invalid/?token={escaped}")),
        ("x-ms-error-code", bare.to_owned()),
        ("x-ms-request-id", bare.to_owned()),
        ("retry-after", bare.to_owned()),
        ("set-cookie", format!("session={escaped}; Secure")),
    ] {
        headers.insert(name, HeaderValue::from_str(&value).unwrap());
    }
}

/// Who repeats: the setting that leads there, how it is written, and whether it is reached over TLS.
struct Place {
    name: &'static str,
    sign_in: SignIn,
    setting: &'static str,
    path: &'static str,
    is_tls: bool,
}

const fn place(
    name: &'static str,
    sign_in: SignIn,
    setting: &'static str,
    path: &'static str,
    is_tls: bool,
) -> Place {
    Place { name, sign_in, setting, path, is_tls }
}

use SignIn::{ClientSecret, Federated, KeyVault, ManagedIdentity, WorkloadIdentity};

/// A token that a parrot hands out.
const MADE_UP: &str = "eyJ0eXAiOiJKV1QifQ.e30.made-up-by-a-parrot-for-whoever-asks";

const STORE: &str = "EASM_STORE_URL";
const AUTHORITY: &str = "AZURE_AUTHORITY_HOST";

const PLACES: [Place; 11] = [
    place("identity endpoint", ManagedIdentity, "IDENTITY_ENDPOINT", "/msi/token", false),
    place("identity endpoint, to vouch", Federated, "IDENTITY_ENDPOINT", "/msi/token", false),
    place("Entra, secret", ClientSecret, AUTHORITY, "", true),
    place("Entra, federated", Federated, AUTHORITY, "", true),
    place("Entra, workload", WorkloadIdentity, AUTHORITY, "", true),
    place("vault", KeyVault, "EASM_KEY_VAULT_URL", "", true),
    place("Entra, secret of the vault", KeyVault, AUTHORITY, "", true),
    place("ARM", ManagedIdentity, "EASM_ARM_URL", "", false),
    place("data plane", ManagedIdentity, "EASM_DATA_PLANE_URL", "", false),
    place("store, token", ManagedIdentity, STORE, "/{account}/exports", true),
    place("store, key", ManagedIdentity, STORE, "/{account}/exports", false),
];

#[tokio::test]
async fn what_a_credential_is_sent_to_may_repeat_it_in_any_manner_and_it_is_not_told() {
    let mut cases = Vec::new();
    for (n, place) in PLACES.iter().enumerate() {
        for (at, (status, manner)) in MANNERS.into_iter().enumerate() {
            cases.push(repeats(place, status, manner, FORMATS[(n + at) % FORMATS.len()]));
        }
    }
    assert_none(&all(cases).await);
}

async fn repeats(place: &Place, status: u16, manner: Manner, format: &str) -> Vec<String> {
    let Place { name, sign_in, setting, path, is_tls } = place;
    let case = format!("{name}, {status} {manner:?}, {format}");
    let scene = Scene::new(super::planted::options()).await;
    let parrot = Parrot::start(status, manner).await;
    let tls = is_tls.then(|| tls_before(&scene.world.sim, &parrot.url));
    let base = tls.as_ref().map_or_else(|| parrot.url.clone(), Proxy::url);
    let url = format!("{base}{}", path.replace("{account}", ACCOUNT));
    let mut command = scene.command(*sign_in, &EXPORT);
    command.env(setting, url).env("EASM_LOG_FORMAT", format);
    if (status, manner) == (503, Later) {
        command.env("EASM_RUN_HOURS_MAX", HOURS_MAX);
    }
    let told = watched(command, || parrot.was_asked()).await;

    let mut texts = vec![("stdout".to_owned(), told.stdout.clone())];
    texts.push(("stderr".to_owned(), told.stderr.clone()));
    texts.extend(files(scene.world.folder.path()));
    let mut found = scene.findings_in(&case, &texts);
    let search = parrot.search();
    found.extend(
        texts
            .iter()
            .filter_map(|(at, text)| Some(format!("{case}: {at}: LEAK of {}", search.find(text)?))),
    );
    if !parrot.was_asked() {
        found.push(format!("{case}: nobody was asked: {}", told.stderr_text()));
    }
    if told.code == 0 {
        found.push(format!("{case}: exit code 0"));
    }
    found
}

/// `[REDACTED]` stands in the place of the credential, and of nothing else.
#[tokio::test]
async fn a_line_with_a_repeated_credential_still_says_its_status_and_what_to_do() {
    let mut found = Vec::new();
    for (setting, status, manner) in [
        ("EASM_ARM_URL", 400, Json),
        ("EASM_ARM_URL", 403, Nested),
        ("EASM_DATA_PLANE_URL", 400, Json),
        ("EASM_DATA_PLANE_URL", 403, Nested),
        ("EASM_DATA_PLANE_URL", 403, Text),
        ("EASM_DATA_PLANE_URL", 404, Base64),
    ] {
        let scene = Scene::new(super::planted::options()).await;
        let parrot = Parrot::start(status, manner).await;
        let mut command = scene.command(ManagedIdentity, &EXPORT);
        command.env(setting, &parrot.url);
        let told = watched(command, || false).await.stderr_text();
        let line = told.lines().find(|line| line.starts_with("easm-export: ")).unwrap_or_default();
        if !line.contains(&format!("(status={status}, ")) || !line.contains("); ") {
            found.push(format!("{setting}, {status} {manner:?}: {line}"));
        }
    }
    assert_none(&found);
}

/// TLS in front of `url`, with a certificate that the commands of a scene trust.
pub fn tls_before(sim: &Running, url: &str) -> Proxy {
    let tls = Some(sim.certificate(&["127.0.0.1", "localhost"]));
    Proxy::start(ProxyOptions { tls, ..ProxyOptions::new(url) })
}
