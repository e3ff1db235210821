//! HTTP as the functions see it, whichever way the host passes it on.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::request::Parts;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use tracing::warn;

use super::{ROUTE_PREFIX, body};
use crate::error::{Error, Kind};
use crate::secret::{CallerKeys, Said, holds_credential};

/// Largest body that a function takes (contract, section 4).
pub const BODY_BYTES_MAX: usize = 1 << 20;

/// How long a caller should wait who asked at a bad time, unless somebody knows better.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// Values that the route names.
pub type Params = BTreeMap<String, String>;

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpRequest {
    /// The method, in capitals.
    pub method: String,
    /// The query, decoded. Values of a repeated key are joined by commas, as the host does it.
    pub query: BTreeMap<String, String>,
    /// The headers.
    pub headers: Headers,
    /// Values that the route names. An optional one that is not given is not there.
    pub params: Params,
    /// The body.
    pub body: Body,
}

/// The body of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// There is none.
    None,
    /// One was announced, and the host did not pass it on.
    Missing,
    /// It is larger than [`BODY_BYTES_MAX`].
    TooLarge,
    /// It is here.
    Bytes(Vec<u8>),
}

impl Body {
    /// The body of a forwarded request. `is_announced`: its headers say that there is one.
    ///
    /// # Errors
    /// A refusal if it broke off.
    pub(super) fn of_forwarded(read: body::Body, is_announced: bool) -> Result<Self, Refusal> {
        match read {
            body::Body::Read(bytes) if bytes.is_empty() && is_announced => Ok(Self::Missing),
            body::Body::Read(bytes) if bytes.is_empty() => Ok(Self::None),
            body::Body::Read(bytes) => Ok(Self::Bytes(bytes.into())),
            body::Body::TooLarge => Ok(Self::TooLarge),
            body::Body::Busy => Err(Refusal::body_busy()),
            body::Body::Broken => Err(Refusal::new(400, "bad_request", "the body broke off")),
        }
    }

    /// The body that a payload holds as text.
    pub(super) fn of_payload(text: String, headers: &Headers) -> Self {
        let content_type = headers.get("content-type").unwrap_or_default().to_ascii_lowercase();
        let is_binary = content_type.starts_with("application/octet-stream")
            || content_type.starts_with("multipart/");
        let bytes = match is_binary.then(|| STANDARD.decode(&text)) {
            Some(Ok(bytes)) => bytes,
            _ => text.into_bytes(),
        };
        match bytes.len() {
            0 => Self::None,
            n_bytes if n_bytes > BODY_BYTES_MAX => Self::TooLarge,
            _ => Self::Bytes(bytes),
        }
    }

    /// The bytes of the body, or nothing if there is none.
    ///
    /// # Errors
    /// A refusal if it did not arrive or is too large.
    pub fn bytes(&self) -> Result<Option<&[u8]>, Refusal> {
        match self {
            Self::None => Ok(None),
            Self::Missing => Err(Refusal::new(
                411,
                "length_required",
                "the body did not arrive; send it with a Content-Length, not chunked",
            )),
            Self::TooLarge => Err(Refusal::too_large()),
            Self::Bytes(bytes) => Ok(Some(bytes)),
        }
    }
}

/// Headers by name, in any case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(BTreeMap<String, String>);

impl Headers {
    /// Headers of these names and values. Values of a repeated name are joined by commas: none of them may
    /// hide another.
    pub fn new(headers: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut joined: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in headers {
            joined
                .entry(name.to_ascii_lowercase())
                .and_modify(|known| *known += &format!(",{value}"))
                .or_insert(value);
        }
        Self(joined)
    }

    /// The value of the header `name`, which is in lower case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.trim())
    }

    /// Whether they say that a body follows.
    pub(super) fn announce_body(&self) -> bool {
        self.get("transfer-encoding").is_some()
            || self.get("content-length").is_some_and(|length| length != "0")
    }
}

impl From<&HeaderMap> for Headers {
    fn from(headers: &HeaderMap) -> Self {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        Self::new(headers.iter().map(|(name, value)| (name.to_string(), text(value.as_bytes()))))
    }
}

/// Whether `headers` say that a body follows.
pub(super) fn is_body_announced(headers: &HeaderMap) -> bool {
    Headers::from(headers).announce_body()
}

impl HttpRequest {
    /// The request that the host forwarded, its body aside.
    pub(super) fn forwarded(parts: &Parts, params: Params) -> Self {
        let mut query: BTreeMap<String, String> = BTreeMap::new();
        let pairs = parts.uri.query().unwrap_or_default();
        for (name, value) in url::form_urlencoded::parse(pairs.as_bytes()) {
            query
                .entry(name.into_owned())
                .and_modify(|known| *known += &format!(",{value}"))
                .or_insert_with(|| value.into_owned());
        }
        let (method, headers) = (parts.method.as_str().to_owned(), Headers::from(&parts.headers));
        Self { method, query, headers, params, body: Body::None }
    }

    /// What the caller proves with who they are, as far as its name tells: keys, tokens, cookies.
    pub(super) fn keys_of_caller(&self) -> CallerKeys {
        /// What is in the name of a header or parameter that holds one.
        const NAMES: [&str; 10] = [
            "key",
            "token",
            "secret",
            "auth",
            "cookie",
            "assertion",
            "sig",
            "pass",
            "pwd",
            "verifier",
        ];
        let is_one = |name: &str| {
            let name = name.to_ascii_lowercase();
            let is_like = NAMES.iter().any(|one| name.contains(one));
            name == "code" || (is_like && name != "idempotency-key")
        };
        let both = self.query.iter().chain(&self.headers.0);
        let mut named: Vec<_> = both.filter(|(name, _)| is_one(name)).collect();
        // Last what there may be many of.
        named.sort_by_key(|(name, _)| name.eq_ignore_ascii_case("cookie"));
        // A header may hold several, with a scheme or a name in front.
        CallerKeys::new(named.iter().flat_map(|(_, value)| {
            std::iter::once(value.as_str()).chain(value.split([' ', ';', ',', '=']))
        }))
    }
}

/// The values that `path` has for `route`. `None`: it is another path. As on the host, case does not
/// matter in what the route says itself, nor a slash at the end.
pub(super) fn params(route: &str, path: &str) -> Option<Params> {
    let prefix = path.get(..ROUTE_PREFIX.len())?;
    let below = prefix.eq_ignore_ascii_case(ROUTE_PREFIX).then(|| &path[ROUTE_PREFIX.len()..])?;
    let mut found = below.strip_suffix('/').unwrap_or(below).split('/');
    let mut params = Params::new();
    for wanted in route.split('/') {
        let value = wanted.strip_prefix('{').and_then(|name| name.strip_suffix('}'));
        match (value, found.next()) {
            (None, Some(word)) if word.eq_ignore_ascii_case(wanted) => {}
            (Some(name), Some(word)) if !word.is_empty() => {
                let name = name.strip_suffix('?').unwrap_or(name);
                // A plus is a plus in a path.
                let word = word.replace('+', "%2B").replace('&', "%26");
                let word = format!("v={word}");
                let (_, value) = url::form_urlencoded::parse(word.as_bytes()).next()?;
                params.insert(name.to_owned(), value.into_owned());
            }
            (Some(name), None) if name.ends_with('?') => {}
            _ => return None,
        }
    }
    found.next().is_none().then_some(params)
}

/// An answer.
#[derive(Debug)]
pub struct HttpReply {
    /// The status: 200 to 299, or what a [`Refusal`] says.
    pub(super) status: u16,
    /// Names in lower case.
    pub(super) headers: Vec<(&'static str, String)>,
    /// The body, UTF-8, in pieces: an answer of many pages is not copied together.
    pub(super) body: Vec<Bytes>,
    /// Whether the body is records of the inventory, which pass verbatim whatever is in them.
    pub(super) is_records: bool,
    /// Held until the body is sent.
    pub(super) turn: Option<OwnedSemaphorePermit>,
}

impl HttpReply {
    /// An answer `200` with records of the inventory, in pieces, together UTF-8.
    pub fn of_records(content_type: &'static str, body: Vec<Bytes>) -> Self {
        let headers = vec![("content-type", content_type.to_owned())];
        Self { status: 200, headers, body, is_records: true, turn: None }
    }

    /// An answer `200` with `json`.
    pub fn json(json: &impl serde::Serialize) -> Self {
        // What is written here has no maps with keys that JSON cannot have.
        let text = serde_json::to_vec(json).unwrap_or_else(|_| b"{}".to_vec());
        Self { is_records: false, ..Self::of_records(JSON, vec![text.into()]) }
    }

    /// Whether a credential of ours is in what this program says itself.
    pub(super) fn holds_credential(&self) -> bool {
        let in_headers = self.headers.iter().any(|(_, value)| holds_credential(value.as_bytes()));
        in_headers || !self.is_records && self.body.iter().any(|piece| holds_credential(piece))
    }

    /// The same answer with the status `202`.
    #[must_use]
    pub fn accepted(mut self) -> Self {
        self.status = 202;
        self
    }

    /// The same answer with the status `503`, for whoever watches the app.
    #[must_use]
    pub fn unavailable(mut self) -> Self {
        self.status = 503;
        self
    }

    /// The same answer, which holds `turn` until its body is sent.
    #[must_use]
    pub fn holding(mut self, turn: OwnedSemaphorePermit) -> Self {
        self.turn = Some(turn);
        self
    }

    /// Adds a header. `name` is in lower case.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// Content-Type of JSON.
pub const JSON: &str = "application/json; charset=utf-8";

/// Why a caller gets no answer, in words for the caller: never a secret, nor an upstream's body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub(super) status: u16,
    pub(super) code: &'static str,
    pub(super) message: Said,
    pub(super) retry_after: Option<Duration>,
    pub(super) allow: Option<String>,
}

impl Refusal {
    /// A refusal with a status of 400 to 599.
    pub fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        let message = Said::new(message.into());
        let retry_after = matches!(status, 429 | 503).then_some(RETRY_AFTER);
        Self { status, code, message, retry_after, allow: None }
    }

    /// `400`: a field is not what it may be. `message` names it and says what is allowed.
    pub fn bad_input(message: impl Into<String>) -> Self {
        Self::new(400, "bad_request", message)
    }

    /// Whether its message names the field `name`.
    #[cfg(test)]
    pub fn names(&self, name: &str) -> bool {
        self.message.as_str().contains(name)
    }

    /// `401`, which asks for a token.
    pub fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(401, "unauthorized", message)
    }

    /// `403`.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(403, "forbidden", message)
    }

    /// `404`.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(404, Kind::NotFound.facts().code, message)
    }

    /// `409`.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(409, Kind::Conflict.facts().code, message)
    }

    /// `413`.
    pub fn too_large() -> Self {
        Self::new(
            413,
            "too_large",
            format!("the body is larger than {BODY_BYTES_MAX} bytes; send a smaller one"),
        )
    }

    /// `405`.
    pub(super) fn method_not_allowed(methods: &[&str]) -> Self {
        let allow = methods.join(", ");
        let mut refusal =
            Self::new(405, "method_not_allowed", format!("the method is not one of {allow}"));
        refusal.allow = Some(allow);
        refusal
    }

    /// `504`.
    pub fn late() -> Self {
        Self::new(504, Kind::Deadline.facts().code, "it was not done in time; try again later")
    }

    /// `429`: large bodies of others are in work.
    pub(super) fn body_busy() -> Self {
        Self::busy("other large bodies are in work; try again later", RETRY_AFTER)
    }

    /// `429`.
    pub fn busy(message: impl Into<String>, retry_after: Duration) -> Self {
        let mut refusal =
            Self::new(429, Kind::Throttled { retry_after: None }.facts().code, message);
        refusal.retry_after = Some(retry_after);
        refusal
    }

    /// What a caller is told of `err`. What an upstream said of it stays in the log.
    pub fn of(err: &Error) -> Self {
        let facts = err.kind().facts();
        let message = match facts.http_status {
            502 => {
                let (operation, words) = (err.operation(), facts.words);
                format!("{operation}: {words}; the log has more of this request's id")
            }
            _ => err.to_string(),
        };
        let mut refusal = Self::new(facts.http_status, facts.code, message);
        refusal.retry_after = err.kind().retry_after().or(refusal.retry_after);
        refusal
    }
}

impl From<Error> for Refusal {
    fn from(err: Error) -> Self {
        warn!("{err}");
        Self::of(&err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_matched_as_the_host_matches_it() {
        let check = |path: &str, want: Option<&str>| {
            let found = params("exports/{runId?}", path);
            let found = found.map(|found| found.get("runId").cloned().unwrap_or_default());
            assert_eq!(found.as_deref(), want, "{path}");
        };
        check("/api/exports", Some(""));
        check("/api/exports/", Some(""));
        check("/API/Exports/a-b", Some("a-b"));
        check("/api/exports/a%20b+c", Some("a b+c"));
        check("/api/exports/a/b", None);
        check("/api/exports//b", None);
        check("/api/export", None);
        check("/exports", None);
        check("/äpi/exports", None);
        check("/", None);
        assert!(params("openapi.json", "/api/openapi.json").is_some());
    }

    #[test]
    fn a_refusal_of_an_error_says_when_to_come_again_if_that_may_help() {
        let check = |kind: Kind, status: u16, retry_after: Option<u64>| {
            let refusal = Refusal::of(&Error::new(kind, "list assets"));
            let found = (refusal.status, refusal.retry_after.map(|pause| pause.as_secs()));
            assert_eq!(found, (status, retry_after), "{kind:?}");
        };
        let asked = Some(Duration::from_secs(7));
        check(Kind::Throttled { retry_after: asked }, 503, Some(7));
        check(Kind::Unavailable { retry_after: None }, 503, Some(30));
        check(Kind::Denied, 502, None);
        check(Kind::Usage, 400, None);
        check(Kind::Deadline, 504, None);
    }
}
