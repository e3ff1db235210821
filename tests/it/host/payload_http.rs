//! An HTTP request as the handler sees it: as JSON in default mode, rebuilt in forwarding mode.

use super::app::Auth;
use super::json::Json;
use super::payload::{HOST_VERSION, Metadata, Stamp, Value, body, user_agent};
use super::wire::Message;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Headers that the host's web server lists before all others.
const FIRST: [&str; 4] = ["accept", "connection", "host", "user-agent"];

/// Other headers that it knows: listed by name. What it does not know comes after them, as sent.
const KNOWN: &[&str] = &[
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "access-control-request-headers",
    "access-control-request-method",
    "allow",
    "authorization",
    "baggage",
    "cache-control",
    "content-encoding",
    "content-language",
    "content-location",
    "content-md5",
    "content-range",
    "content-type",
    "cookie",
    "correlation-context",
    "date",
    "dnt",
    "expect",
    "expires",
    "from",
    "grpc-accept-encoding",
    "grpc-encoding",
    "grpc-timeout",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "last-modified",
    "max-forwards",
    "origin",
    "pragma",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "referer",
    "request-id",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "translate",
    "upgrade",
    "upgrade-insecure-requests",
    "via",
    "warning",
];

const NAME_CLAIM: &str = "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/name";
const ROLE_CLAIM: &str = "http://schemas.microsoft.com/ws/2008/06/identity/claims/role";
const STRING_TYPE: &str = "http://www.w3.org/2001/XMLSchema#string";
const CLAIMS: &str = "http://schemas.microsoft.com/2017/07/functions/claims";

/// Who called, as far as keys say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    pub level: Auth,
}

/// Headers in the order and grouping of the host's web server.
fn grouped(request: &Message) -> Vec<(String, Vec<String>)> {
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    for (name, value) in &request.headers {
        match groups.iter_mut().find(|(found, _)| found.eq_ignore_ascii_case(name)) {
            Some((_, values)) => values.push(value.clone()),
            None => groups.push((name.clone(), vec![value.clone()])),
        }
    }
    // Stable, so that what has one rank keeps its order.
    groups.sort_by_key(|(name, _)| {
        let name = name.to_lowercase();
        match FIRST.iter().position(|first| **first == name) {
            Some(at) => (0, at),
            None => match KNOWN.iter().position(|known| **known == name) {
                Some(at) => (1, at),
                None if name == "content-length" => (2, 0),
                None => (3, 0),
            },
        }
    });
    groups
}

/// The query of a target, decoded, equal names together.
pub fn query_of(target: &str) -> Vec<(String, Vec<String>)> {
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    let text = target.split_once('?').map_or("", |(_, query)| query);
    for (name, value) in url::form_urlencoded::parse(text.as_bytes()) {
        match groups.iter_mut().find(|(found, _)| *found == name) {
            Some((_, values)) => values.push(value.into_owned()),
            None => groups.push((name.into_owned(), vec![value.into_owned()])),
        }
    }
    groups
}

/// `request` as the body of a POST. `params` are those of the route, absent optional ones as
/// nothing.
pub fn default_body(
    function: &str,
    binding: &str,
    request: &Message,
    params: &[(String, Option<String>)],
    caller: Caller,
    stamp: &Stamp,
) -> String {
    let (method, target) = request.request_line();
    let host = request.header("host").unwrap_or_default();
    let query = query_of(target);
    let groups = grouped(request);
    let object = |pairs: Vec<(String, Json)>| Json::Object(pairs);
    let texts = |values: &[String]| Json::Array(values.iter().map(Json::text).collect());
    let param = |value: &Option<String>| value.as_ref().map_or(Json::Null, Json::text);
    let joined = query.iter().map(|(name, values)| (name.clone(), Json::text(values.join(","))));
    let mut req = vec![
        ("Url".to_owned(), Json::Text(format!("http://{host}{target}"))),
        ("Method".to_owned(), Json::text(method)),
        ("Query".to_owned(), object(joined.collect())),
        (
            "Headers".to_owned(),
            object(groups.iter().map(|(name, values)| (name.clone(), texts(values))).collect()),
        ),
        (
            "Params".to_owned(),
            object(params.iter().map(|(name, value)| (name.clone(), param(value))).collect()),
        ),
        ("Identities".to_owned(), Json::Array(vec![identity(caller)])),
    ];
    let kind = request.header("content-type").unwrap_or_default().to_lowercase();
    if !request.body.is_empty() {
        let is_binary =
            kind.starts_with("application/octet-stream") || kind.starts_with("multipart/");
        let text = if is_binary { STANDARD.encode(&request.body) } else { request.text() };
        req.push(("Body".to_owned(), Json::Text(text)));
    }

    let mut metadata = Metadata::default();
    if kind.starts_with("application/json") {
        metadata.copy_members(&request.text());
    }
    for (name, values) in &query {
        metadata.set(name, Value::text(values.last().map_or("", String::as_str)));
    }
    for (name, value) in params {
        if let Some(value) = value {
            metadata.set(name, Value::text(value));
        }
    }
    let last = query
        .iter()
        .map(|(name, values)| (name.clone(), Json::text(values.last().map_or("", String::as_str))));
    metadata.set("Query", Value::Json(object(last.collect())));
    let flat = groups.iter().map(|(name, values)| (name.clone(), Json::text(values.join(","))));
    metadata.set("Headers", Value::Json(object(flat.collect())));
    metadata.set_sys(function, stamp);
    body((binding, object(req)), metadata)
}

fn identity(caller: Caller) -> Json {
    let claim = |kind: &str, value: &str| {
        Json::object([
            ("Issuer", Json::text("LOCAL AUTHORITY")),
            ("OriginalIssuer", Json::text("LOCAL AUTHORITY")),
            ("Properties", Json::Object(Vec::new())),
            ("Type", Json::Text(format!("{CLAIMS}/{kind}"))),
            ("Value", Json::text(value)),
            ("ValueType", Json::text(STRING_TYPE)),
        ])
    };
    let (level, key) = match caller.level {
        Auth::Anonymous => ("", ""),
        Auth::Function => ("Function", "default"),
        Auth::Admin => ("Admin", "master"),
    };
    let is_known = !level.is_empty();
    let claims = match is_known {
        false => Vec::new(),
        true => vec![claim("authlevel", level), claim("invoke", "true"), claim("keyid", key)],
    };
    let kind = if is_known { Json::text("WebJobsAuthLevel") } else { Json::Null };
    Json::object([
        ("AuthenticationType", kind),
        ("IsAuthenticated", Json::Bool(is_known)),
        ("Actor", Json::Null),
        ("BootstrapContext", Json::Null),
        ("Claims", Json::Array(claims)),
        ("Label", Json::Null),
        ("Name", Json::Null),
        ("NameClaimType", Json::text(NAME_CLAIM)),
        ("RoleClaimType", Json::text(ROLE_CLAIM)),
    ])
}

/// `request` as forwarding mode sends it to the handler, as bytes on the connection.
pub fn forwarded(request: &Message, stamp: &Stamp) -> Vec<u8> {
    let (method, target) = request.request_line();
    let path = target.split('?').next().unwrap_or_default();
    let query = query_of(target).into_iter().map(|(name, values)| {
        let values: Vec<String> = values.iter().map(|value| query_encoded(value)).collect();
        format!("{}={}", query_encoded(&name), values.join(","))
    });
    let query = query.collect::<Vec<_>>().join("&");
    let mark = if query.is_empty() { "" } else { "?" };
    let start = format!("{method} {path}{mark}{query} HTTP/1.1");
    let mut sent = Message { start, headers: Vec::new(), body: request.body.clone() };
    for (name, values) in grouped(request) {
        let lower = name.to_lowercase();
        let is_of_content = lower.starts_with("content-") || lower == "transfer-encoding";
        // These two are the content's own, and come with it.
        if is_of_content || ["allow", "expires", "last-modified"].contains(&lower.as_str()) {
            continue;
        }
        let between = match lower.as_str() {
            "cookie" => "; ",
            "user-agent" => " ",
            _ => ", ",
        };
        sent.headers.push((name, values.join(between)));
    }
    add(&mut sent, "X-Azure-Functions-HostVersion", ", ", HOST_VERSION);
    add(&mut sent, "X-Azure-Functions-InvocationId", ", ", &stamp.invocation);
    add(&mut sent, "User-Agent", " ", &user_agent());
    if !sent.body.is_empty() {
        sent.headers.push(("Content-Length".to_owned(), sent.body.len().to_string()));
        if let Some(kind) = request.header("content-type") {
            sent.headers.push(("Content-Type".to_owned(), kind.to_owned()));
        }
    }
    [sent.head(), sent.body].concat()
}

/// Puts `value` behind what the client sent under that name.
fn add(message: &mut Message, name: &str, between: &str, value: &str) {
    match message.headers.iter_mut().find(|(found, _)| found.eq_ignore_ascii_case(name)) {
        Some((_, sent)) => *sent = format!("{sent}{between}{value}"),
        None => message.headers.push((name.to_owned(), value.to_owned())),
    }
}

/// With the characters that .NET's encoder leaves alone in a query.
fn query_encoded(text: &str) -> String {
    let encode = |byte: u8| match char::from(byte) {
        c if c.is_ascii_alphanumeric() || "-._~!$()*,;@".contains(c) => c.to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}
