//! What arrives and what leaves, in the simulator's own words.
//!
//! `Call` is a request taken apart once, `Answer` is a response before it is
//! known whether it will be cut, zipped or sent whole: see [`Answer::send`].
//!
//! # How connections break
//! hyper gives up a connection whose body fails, and flushes before that only
//! what it had time to flush. So [`Delivery::Reset`] announces a length and fails
//! at the first poll: nothing leaves, the client sees the connection close
//! before any answer. [`Delivery::CutBody`] hands over half, waits
//! [`FLUSH_PAUSE`] so that head and half really leave, then fails.

use std::{convert::Infallible, io, io::Write as _, time::Duration};

use axum::{
    body::Body,
    http::{HeaderValue, Method, StatusCode, header, request::Parts},
    response::Response,
};
use bytes::Bytes;
use futures::{StreamExt as _, future, stream};
use serde_json::json;
use tokio::sync::watch;

use super::text;

/// Long enough for hyper to write what it holds, short enough for tests.
const FLUSH_PAUSE: Duration = Duration::from_millis(20);
/// Size of the pieces of a body that never ends.
const ENDLESS_PIECE: &[u8] = &[b'a'; 16 * 1024];

/// Longest form that is read; the longest real one holds an assertion of some 2 KiB.
pub const FORM_BYTES_MAX: usize = 64 << 10;

/// Where a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// http: the data plane, ARM and the identity endpoint.
    Azure,
    /// TLS: Entra alone.
    Entra,
    /// TLS: Key Vault alone.
    Vault,
}

/// A request, taken apart.
#[derive(Debug)]
pub struct Call {
    pub door: Door,
    pub method: Method,
    /// The host, and the port if it was named.
    pub host: String,
    /// Path as sent.
    pub path: String,
    /// Path segments, each percent-decoded, so `%2F` stays inside its segment.
    pub segments: Vec<String>,
    /// Query as sent.
    pub query: String,
    pairs: Vec<(String, String)>,
    pub authorization: Option<String>,
    pub identity_header: Option<String>,
    pub takes_gzip: bool,
    /// Body as sent. Empty unless it came to Entra or with PUT.
    pub form: String,
}

impl Call {
    pub fn read(door: Door, request: &Parts) -> Self {
        let text = |name: &str| {
            let value = request.headers.get(name)?;
            Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        let path = request.uri.path().to_owned();
        let query = request.uri.query().unwrap_or_default().to_owned();
        let pairs = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        Self {
            door,
            method: request.method.clone(),
            host: text("host").unwrap_or_default(),
            segments: path.trim_matches('/').split('/').map(text::percent_decoded).collect(),
            path,
            query,
            pairs,
            authorization: text("authorization"),
            identity_header: text("x-identity-header"),
            takes_gzip: text("accept-encoding").is_some_and(|v| v.contains("gzip")),
            form: String::new(),
        }
    }

    /// Reads the body. `false`: it is too long.
    pub async fn read_form(&mut self, body: Body) -> bool {
        match axum::body::to_bytes(body, FORM_BYTES_MAX).await {
            Ok(form) => {
                self.form = String::from_utf8_lossy(&form).into_owned();
                true
            }
            Err(_) => false,
        }
    }

    /// A query parameter, decoded; the first if there are several.
    pub fn param(&self, name: &str) -> Option<&str> {
        let found = self.pairs.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?;
        Some(&found.1)
    }

    /// The bearer token, if there is one.
    pub fn bearer(&self) -> Option<&str> {
        let (scheme, token) = self.authorization.as_deref()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    }

    /// Whether segment `n` is `want`, ignoring case as ARM does.
    pub fn segment_is(&self, n: usize, want: &str) -> bool {
        self.segments.get(n).is_some_and(|s| s.eq_ignore_ascii_case(want))
    }
}

/// How much of an answer reaches the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    Whole,
    Reset,
    CutBody,
    Endless,
}

/// A response in the making.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub content_type: &'static str,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    pub delivery: Delivery,
}

impl Answer {
    pub fn json(status: u16, body: Vec<u8>) -> Self {
        let content_type = "application/json; charset=utf-8";
        Self { status, content_type, headers: Vec::new(), body, delivery: Delivery::Whole }
    }

    /// An error of the data plane (API reference, section 11).
    pub fn error(status: u16, code: &str, message: &str) -> Self {
        let error = json!({"error": {"code": code, "message": message,
            "target": null, "details": null, "innererror": null}});
        Self::json(status, error.to_string().into_bytes()).with("x-ms-error-code", code)
    }

    /// An error of ARM (API reference, section 12).
    pub fn arm_error(status: u16, code: &str, message: &str) -> Self {
        let error = json!({"error": {"code": code, "message": message, "target": null,
            "details": [], "additionalInfo": []}});
        Self::json(status, error.to_string().into_bytes())
    }

    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Turns the answer into a response. Zipped bodies go out chunked, others
    /// with their length (API reference, section 11: "gzip, chunked"). An endless
    /// body ends when the simulator is `closing`.
    pub fn send(self, gzip: bool, closing: &watch::Receiver<bool>) -> Response {
        let Self { status, content_type, headers, mut body, delivery } = self;
        let gzip = gzip && delivery == Delivery::Whole && !body.is_empty();
        if gzip {
            body = zipped(&body);
        }
        let length = body.len().max(2);
        let body = match delivery {
            Delivery::Whole if gzip => {
                Body::from_stream(stream::iter([Ok::<_, Infallible>(Bytes::from(body))]))
            }
            Delivery::Whole => Body::from(body),
            Delivery::Reset => Body::from_stream(stream::iter([Err::<Bytes, _>(cut())])),
            Delivery::CutBody => {
                body.truncate(length / 2);
                let first = stream::iter([Ok(Bytes::from(body))]);
                let then = stream::once(async {
                    tokio::time::sleep(FLUSH_PAUSE).await;
                    Err(cut())
                });
                Body::from_stream(first.chain(then))
            }
            Delivery::Endless => {
                let pieces = stream::repeat(()).then(|()| async {
                    tokio::task::yield_now().await;
                    Ok::<_, Infallible>(Bytes::from_static(ENDLESS_PIECE))
                });
                let start = stream::iter([Ok(Bytes::from_static(b"{\"value\":[{\"id\":\""))]);
                let closing = closing.clone();
                let goes_on = move |_: &_| future::ready(!*closing.borrow());
                Body::from_stream(start.chain(pieces).take_while(goes_on))
            }
        };
        let mut response = Response::new(body);
        *response.status_mut() =
            StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let out = response.headers_mut();
        out.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        if gzip {
            out.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        if matches!(delivery, Delivery::Reset | Delivery::CutBody) {
            out.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        for (name, value) in headers {
            // A scripted value that no header can hold is left out.
            if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
                out.insert(name, value);
            }
        }
        response
    }
}

fn zipped(body: &[u8]) -> Vec<u8> {
    let level = flate2::Compression::new(1);
    let mut gzip = flate2::write::GzEncoder::new(Vec::with_capacity(body.len() / 3), level);
    gzip.write_all(body).expect("writing to memory does not fail");
    gzip.finish().expect("writing to memory does not fail")
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "the simulator cuts this connection")
}
