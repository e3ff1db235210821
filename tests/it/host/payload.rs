//! What the host sends for an invocation in default mode: one POST with `Data` and `Metadata`.
//!
//! `trigger -> Data, Metadata -> body -> post`
//!
//! # Invariants
//! - Every value goes through [`Value::encoded`]: bytes become base64, objects stand as they are,
//!   everything else becomes a text that holds its own JSON.
//! - What varies from run to run comes in as a [`Stamp`], so that a recording can be made again.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use time::OffsetDateTime;

use super::app::RetryPolicy;
use super::dates;
use super::json::Json;
use super::queues::QueueMessage;
use super::wire::{Message, chunked};

pub const HOST_VERSION: &str = "4.1037.0.0";

/// What varies from run to run.
#[derive(Debug, Clone)]
pub struct Stamp {
    pub port: u16,
    pub invocation: String,
    pub rand: String,
    pub now: OffsetDateTime,
}

impl Stamp {
    pub fn now(port: u16) -> Self {
        Self { port, invocation: guid(), rand: guid(), now: OffsetDateTime::now_utc() }
    }
}

/// A random identifier: `c3a3c4e0-8d0f-4d5a-9c55-0c7f7b1f8f60`.
pub fn guid() -> String {
    let n = fastrand::u128(..);
    let (a, b, c) = (n >> 96, (n >> 80) & 0xffff, (n >> 64) & 0xfff);
    let (d, e) = ((n >> 48) & 0x3fff | 0x8000, n & 0xffff_ffff_ffff);
    format!("{a:08x}-{b:04x}-4{c:03x}-{d:04x}-{e:012x}")
}

/// A value inside the host.
pub enum Value {
    Bytes(Vec<u8>),
    Date(OffsetDateTime),
    Json(Json),
}

impl Value {
    pub fn text(text: &str) -> Self {
        Self::Json(Json::text(text))
    }

    pub fn encoded(self) -> Json {
        match self {
            Self::Bytes(bytes) => Json::Text(STANDARD.encode(bytes)),
            Self::Date(at) => Json::Text(dates::whole_seconds(at)),
            Self::Json(object @ Json::Object(_)) => object,
            Self::Json(other) => Json::Text(other.compact()),
        }
    }
}

/// The entries of `Metadata`, in their order. An entry that is set again keeps its place.
#[derive(Default)]
pub struct Metadata(Vec<(String, Json)>);

impl Metadata {
    pub fn set(&mut self, name: &str, value: Value) {
        self.set_json(name, value.encoded());
    }

    fn set_json(&mut self, name: &str, value: Json) {
        if name.to_lowercase().ends_with("trigger") {
            return;
        }
        match self.0.iter_mut().find(|(found, _)| found == name) {
            Some(entry) => entry.1 = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }

    pub fn set_sys(&mut self, function: &str, stamp: &Stamp) {
        let sys = Json::object([
            ("MethodName", Json::text(function)),
            ("UtcNow", Json::Text(format!("{}Z", dates::exact(stamp.now)))),
            ("RandGuid", Json::text(&stamp.rand)),
        ]);
        self.set_json("sys", sys);
    }

    /// Copies the members of a text that is a JSON object, scalars as text.
    pub fn copy_members(&mut self, text: &str) {
        let text = text.trim();
        let looks_so = text.starts_with('{') && text.ends_with('}');
        let Some(Json::Object(members)) = looks_so.then(|| Json::parse(text)).and_then(Result::ok)
        else {
            return;
        };
        for (name, value) in members {
            match value {
                Json::Array(_) | Json::Null => {}
                object @ Json::Object(_) => {
                    self.set_json(&name, object.with_texts(dates::in_host_zone));
                }
                scalar => {
                    let text = scalar.scalar().expect("what is no container is a scalar");
                    self.set(
                        &name,
                        Value::Json(Json::Text(dates::rewritten(&text).unwrap_or(text))),
                    );
                }
            }
        }
    }
}

/// The body of the POST.
pub fn body(data: (&str, Json), metadata: Metadata) -> String {
    let data = Json::object([data]);
    Json::object([("Data", data), ("Metadata", Json::Object(metadata.0))]).compact()
}

/// The whole request, as bytes on the connection.
pub fn post(function: &str, stamp: &Stamp, body: &[u8]) -> Vec<u8> {
    let head = Message {
        start: format!("POST /{function} HTTP/1.1"),
        headers: vec![
            ("Host".to_owned(), format!("127.0.0.1:{}", stamp.port)),
            ("X-Azure-Functions-HostVersion".to_owned(), HOST_VERSION.to_owned()),
            ("X-Azure-Functions-InvocationId".to_owned(), stamp.invocation.clone()),
            ("User-Agent".to_owned(), user_agent()),
            ("Transfer-Encoding".to_owned(), "chunked".to_owned()),
            ("Content-Type".to_owned(), "application/json; charset=utf-8".to_owned()),
        ],
        body: Vec::new(),
    };
    [head.head(), chunked(body)].concat()
}

pub fn user_agent() -> String {
    format!("Azure-Functions-Host/{HOST_VERSION}")
}

/// The readiness poll.
pub fn ping(port: u16) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n").into_bytes()
}

/// What a timer's trigger says.
pub struct TimerValue {
    pub is_cron: bool,
    /// `ScheduleStatus`, which may be `null`.
    pub status: Json,
    pub is_past_due: bool,
    pub is_manual: bool,
}

pub fn timer(
    function: &str,
    binding: &str,
    value: &TimerValue,
    retry: Option<(&RetryPolicy, u32, Json)>,
    stamp: &Stamp,
) -> String {
    let TimerValue { is_cron, status, is_past_due, is_manual } = value;
    let object = Json::object([
        ("Schedule", Json::object([("AdjustForDST", Json::Bool(*is_cron))])),
        ("ScheduleStatus", status.clone()),
        ("IsPastDue", Json::Bool(*is_past_due)),
    ]);
    let mut metadata = Metadata::default();
    if *is_manual {
        metadata.set(binding, Value::text(""));
    }
    metadata.set_sys(function, stamp);
    if let Some((policy, n_retries, exception)) = retry {
        let context = Json::object([
            ("RetryCount", Json::Number(n_retries.into())),
            ("MaxRetryCount", Json::Number(policy.retries_max.into())),
            ("Exception", exception),
            ("Instance", Json::Null),
            ("State", Json::Object(Vec::new())),
        ]);
        metadata.set_json("RetryContext", context);
    }
    body((binding, Value::Json(object).encoded()), metadata)
}

/// Fails if the text is not UTF-8 and the function wants text.
pub fn queue(
    function: &str,
    binding: &str,
    is_binary: bool,
    message: &QueueMessage,
    stamp: &Stamp,
) -> Result<String, String> {
    let bytes = message.bytes().ok_or("the message is not valid base64")?;
    let mut metadata = Metadata::default();
    metadata.set("DequeueCount", Value::Json(Json::Number(message.dequeue_count.into())));
    metadata.set("ExpirationTime", Value::Date(message.expires_at));
    metadata.set("Id", Value::text(&message.id));
    metadata.set("InsertionTime", Value::Date(message.inserted_at));
    metadata.set("NextVisibleTime", Value::Date(message.next_visible_at));
    metadata.set("PopReceipt", Value::text(&message.pop_receipt));
    metadata.set_sys(function, stamp);
    if is_binary {
        return Ok(body((binding, Value::Bytes(bytes).encoded()), metadata));
    }
    let text = String::from_utf8(bytes).map_err(|_| "the message is not UTF-8")?;
    metadata.copy_members(&text);
    Ok(body((binding, Value::text(&text).encoded()), metadata))
}

/// A queue function started by hand with `input`.
pub fn queue_by_hand(function: &str, binding: &str, input: &str, stamp: &Stamp) -> String {
    let end_of_time = dates::utc("9999-12-31T23:59:59Z");
    let mut metadata = Metadata::default();
    metadata.set("DequeueCount", Value::Json(Json::Number(0.into())));
    metadata.set("ExpirationTime", Value::Date(end_of_time));
    metadata.set("InsertionTime", Value::Date(stamp.now));
    metadata.set("NextVisibleTime", Value::Date(end_of_time));
    metadata.set(binding, Value::text(input));
    metadata.set_sys(function, stamp);
    metadata.copy_members(input);
    body((binding, Value::text(input).encoded()), metadata)
}

#[test]
fn a_value_is_encoded_by_what_it_is() {
    let json = |text: &str| Value::Json(Json::parse(text).unwrap());
    let cases = [
        (Value::text("hello"), r#""\"hello\"""#),
        (Value::text(r#"{"a":1}"#), r#""\"{\\\"a\\\":1}\"""#),
        (json("1"), r#""1""#),
        (json("[1,2]"), r#""[1,2]""#),
        (json("true"), r#""true""#),
        (json("null"), r#""null""#),
        (json(r#"{"a":[1]}"#), r#"{"a":[1]}"#),
        (Value::Bytes(b"hello".to_vec()), r#""aGVsbG8=""#),
        (Value::Date(dates::utc("2026-11-22T13:47:01.9607177Z")), r#""2026-11-22T13:47:01+00:00""#),
    ];
    for (value, written) in cases {
        assert_eq!(value.encoded().compact(), written);
    }
}

#[test]
fn identifiers_look_like_the_hosts() {
    let (one, other) = (guid(), guid());
    assert_ne!(one, other);
    let lengths: Vec<usize> = one.split('-').map(str::len).collect();
    assert_eq!(lengths, [8, 4, 4, 4, 12]);
    assert_eq!(one.as_bytes()[14], b'4');
}
