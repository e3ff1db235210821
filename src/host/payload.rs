//! What the host sends in default mode: `{"Data": {...}, "Metadata": {...}}` (protocol, section 5).
//!
//! Only `Data` counts: what a queue message says can stand in place of anything in `Metadata`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use super::http::{Body, Headers, HttpRequest};
use crate::clock::Timestamp;
use crate::error::{Error, Kind, Result};

/// The trigger's data, and the names of the metadata.
#[derive(Debug, Deserialize)]
pub struct Payload {
    #[serde(rename = "Data", default)]
    data: Map<String, Value>,
    #[serde(rename = "Metadata", default)]
    metadata: BTreeMap<String, IgnoredAny>,
}

/// A timer that went off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timer {
    /// The occurrence it went off for or, started by hand, the one that comes next. Absent: the host
    /// keeps no book of this timer.
    pub next: Option<Timestamp>,
    /// Whether somebody started it by hand.
    pub is_by_hand: bool,
}

/// What the host says of the schedule. Unknown members are no reason to fail.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct TimerInfo {
    schedule_status: Option<ScheduleStatus>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ScheduleStatus {
    next: Option<String>,
}

/// An HTTP request in default mode.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct HttpInfo {
    method: String,
    query: BTreeMap<String, String>,
    headers: BTreeMap<String, Vec<String>>,
    params: BTreeMap<String, Option<String>>,
    body: Option<Value>,
}

impl Payload {
    /// Reads a payload.
    ///
    /// # Errors
    /// [`Kind::Unreadable`] if it is none.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        serde_json::from_slice(bytes).map_err(|_| unreadable("it is not a payload of the host"))
    }

    /// The timer `name`. What cannot be read of it is not known: the timer went off all the same.
    pub fn timer(&self, name: &str) -> Timer {
        let info = self.data.get(name).and_then(|info| TimerInfo::deserialize(info).ok());
        let info = info.unwrap_or_default();
        let next = info.schedule_status.and_then(|status| status.next);
        Timer {
            next: next.and_then(|next| Timestamp::parse_from_host(&next)),
            // A run by hand has an entry named after the binding (seen on a real host).
            is_by_hand: self.metadata.contains_key(name),
        }
    }

    /// The text `name`, which comes as JSON within a JSON string.
    ///
    /// # Errors
    /// [`Kind::Unreadable`] if it is not there.
    pub fn text(&self, name: &str) -> Result<String> {
        match self.data.get(name) {
            Some(Value::String(wire)) => Ok(match serde_json::from_str::<Value>(wire) {
                Ok(Value::String(text)) => text,
                // Not doubly encoded, or the message is itself a number or the like.
                _ => wire.clone(),
            }),
            Some(Value::Null) | None => Err(unreadable("the message is not there")),
            Some(other) => Ok(other.to_string()),
        }
    }

    /// The HTTP request `name`.
    ///
    /// # Errors
    /// [`Kind::Unreadable`] if it is not there.
    pub fn http(mut self, name: &str) -> Result<HttpRequest> {
        let info = self.data.remove(name).and_then(|info| serde_json::from_value(info).ok());
        let Some(HttpInfo { method, query, headers, params, body }) = info else {
            return Err(unreadable("the request is not there"));
        };
        let headers =
            Headers::new(headers.into_iter().map(|(name, values)| (name, values.join(","))));
        let params = params.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let body = match body {
            Some(Value::String(text)) => Body::of_payload(text, &headers),
            // The host knows no other, but a body is a body.
            Some(other) if !other.is_null() => Body::of_payload(other.to_string(), &headers),
            _ if headers.announce_body() => Body::Missing,
            _ => Body::None,
        };
        Ok(HttpRequest { method, query, headers, params: params.collect(), body })
    }
}

fn unreadable(reason: &str) -> Error {
    Error::new(Kind::Unreadable, "read what the host sent")
        .because(reason)
        .advise("see whether function.json is the one that came with this program")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(data: &str) -> Payload {
        Payload::parse(format!(r#"{{"Data": {data}, "Metadata": {{"sys": {{}}}}}}"#).as_bytes())
            .expect("a payload")
    }

    #[test]
    fn a_timer_is_read_whatever_the_host_leaves_out_or_adds() {
        let check = |info: &str, want: Option<&str>| {
            let timer = payload(&format!(r#"{{"timer": {info}}}"#)).timer("timer");
            assert_eq!(timer.next.map(|at| at.to_string()).as_deref(), want, "{info}");
        };
        let status = |next: &str| {
            format!(
                r#"{{"ScheduleStatus": {{"Last": "", "Next": "{next}", "More": 1}}, "New": 2}}"#
            )
        };
        check(&status("2026-01-12T02:00:00+00:00"), Some("2026-01-12T02:00:00Z"));
        check(&status("2026-01-12T02:00:00.0049611+00:00"), Some("2026-01-12T02:00:00.004Z"));
        check(&status("2026-01-12T02:00:00Z"), Some("2026-01-12T02:00:00Z"));
        check(&status("2026-01-12T02:00:00"), Some("2026-01-12T02:00:00Z"));
        check(&status("2026-01-12T03:00:00.5+01:00"), Some("2026-01-12T02:00:00.500Z"));
        check(&status("0001-01-01T00:00:00"), Some("0001-01-01T00:00:00Z"));
        check(&status("0001-01-01T00:00:00+00:00"), Some("0001-01-01T00:00:00Z"));
        check(&status("soon"), None);
        check(r#"{"ScheduleStatus": null, "IsPastDue": false}"#, None);
        check(r#"{"ScheduleStatus": {}}"#, None);
        check(r#""text""#, None);
        check("null", None);
    }

    #[test]
    fn a_timer_that_somebody_started_by_hand_is_known() {
        let text = r#"{"Data": {"timer": {}}, "Metadata": {"timer": "\"\""}}"#;
        let timer = Payload::parse(text.as_bytes()).expect("a payload").timer("timer");
        assert!(timer.is_by_hand);
        assert!(!payload(r#"{"timer": {}}"#).timer("timer").is_by_hand);
    }

    #[test]
    fn a_text_is_decoded_twice() {
        let check = |wire: &str, want: Option<&str>| {
            let found = payload(&format!(r#"{{"message": {wire}}}"#)).text("message").ok();
            assert_eq!(found.as_deref(), want, "{wire}");
        };
        check(r#""\"hello\"""#, Some("hello"));
        check(r#""\"{\\\"a\\\":1}\"""#, Some(r#"{"a":1}"#));
        check(r#""\"\"""#, Some(""));
        check(r#""hello""#, Some("hello"));
        check(r#"{"a":1}"#, Some(r#"{"a":1}"#));
        check(r#""1""#, Some("1"));
        check("null", None);
        assert!(payload("{}").text("message").is_err());
    }

    #[test]
    fn a_body_that_was_announced_and_is_not_there_is_not_taken_for_an_empty_one() {
        let check = |headers: &str, body: &str, want: Body| {
            let req = format!(r#"{{"req": {{"Method": "POST", "Headers": {headers}{body}}}}}"#);
            let found = payload(&req).http("req").expect("a request").body;
            assert_eq!(found, want, "{headers} {body}");
        };
        check("{}", "", Body::None);
        check(r#"{"Content-Length": ["0"]}"#, "", Body::None);
        check(r#"{"Content-Length": ["7"]}"#, "", Body::Missing);
        check(r#"{"Transfer-Encoding": ["chunked"]}"#, "", Body::Missing);
        check("{}", r#", "Body": "{}""#, Body::Bytes(b"{}".to_vec()));
        let octets = r#"{"Content-Type": ["application/octet-stream"]}"#;
        check(octets, r#", "Body": "e30=""#, Body::Bytes(b"{}".to_vec()));
        let large = format!(r#", "Body": "{}""#, "x".repeat((1 << 20) + 1));
        check("{}", &large, Body::TooLarge);
    }
}
