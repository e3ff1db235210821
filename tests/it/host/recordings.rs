//! What the double sends, held against what a real host sent.
//!
//! Each row gives what came in: the function, the trigger's value, the client's request. From the
//! recording come only the values that vary from run to run (ports, identifiers, times). The rest
//! must be the same bytes, the heads and the borders of the chunks too.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::app::{App, Auth, Trigger};
use super::config::Settings;
use super::dates::utc;
use super::door::routed;
use super::fire::{Firing, TimerStatus, status};
use super::json::Json;
use super::payload::{self, Stamp, TimerValue};
use super::payload_http::{Caller, default_body, forwarded};
use super::queues::QueueMessage;
use super::wire::{self, Message};

/// `host.json`, and functions by name, of the app that was recorded.
const APP: &[(&str, &str)] = &[
    ("nightly", r#"[{"type":"timerTrigger","name":"timer","schedule":"0 */1 * * * *"}]"#),
    ("m1", r#"[{"type":"timerTrigger","name":"timer","schedule":"0 * * * * *"}]"#),
    ("onstart", r#"[{"type":"timerTrigger","name":"timer","schedule":"0 0 2 * * *"}]"#),
    ("disapp", r#"[{"type":"timerTrigger","name":"timer","schedule":"0 * * * * *"}]"#),
    ("fast", r#"[{"type":"timerTrigger","name":"timer","schedule":"*/10 * * * * *"}]"#),
    (
        "nomon",
        r#"[{"type":"timerTrigger","name":"timer","schedule":"0 * * * * *","useMonitor":false}]"#,
    ),
    ("tspan", r#"[{"type":"timerTrigger","name":"timer","schedule":"00:01:30"}]"#),
    ("r1", r#"[{"type":"timerTrigger","name":"timer","schedule":"0 * * * * *"}]"#),
    ("job", r#"[{"type":"queueTrigger","name":"job","queueName":"jobs"}]"#),
    ("jobbin", r#"[{"type":"queueTrigger","name":"job","queueName":"bin","dataType":"binary"}]"#),
    (
        "run",
        r#"[{"type":"httpTrigger","name":"req","route":"runs/{id?}","authLevel":"anonymous"},
            {"type":"http","direction":"out","name":"res"}]"#,
    ),
    (
        "both",
        r#"[{"type":"httpTrigger","name":"req","authLevel":"anonymous"},
            {"type":"http","direction":"out","name":"res"},
            {"type":"queue","direction":"out","name":"q","queueName":"jobs"}]"#,
    ),
    (
        "func",
        r#"[{"type":"httpTrigger","name":"req"},{"type":"http","direction":"out","name":"res"}]"#,
    ),
];

const RETRY: &str = r#"{"strategy":"fixedDelay","maxRetryCount":2,"delayInterval":"00:00:05"}"#;
const KEY: &str = "KKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKK==";

/// The app, in a folder.
fn app() -> (tempfile::TempDir, App) {
    let folder = tempfile::tempdir().unwrap();
    let host =
        r#"{"version":"2.0","customHandler":{"description":{"defaultExecutablePath":"sh"}}}"#;
    fs::write(folder.path().join("host.json"), host).unwrap();
    for (name, bindings) in APP {
        let function = folder.path().join(name);
        fs::create_dir(&function).unwrap();
        let retry = if *name == "r1" { format!(",\"retry\":{RETRY}") } else { String::new() };
        let text = format!("{{\"bindings\":{bindings}{retry}}}");
        fs::write(function.join("function.json"), text).unwrap();
    }
    let app = App::read(folder.path(), &Settings::new()).unwrap();
    assert_eq!(app.errors, Vec::<String>::new());
    (folder, app)
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/host-recordings")
}

/// A recording, and what of it varies.
struct Recorded {
    bytes: Vec<u8>,
    stamp: Stamp,
    body: Value,
}

impl Recorded {
    fn read(name: &str) -> Self {
        let bytes = fs::read(folder().join(format!("{name}.http"))).unwrap();
        let end = wire::find(&bytes, b"\r\n\r\n").unwrap();
        let head = wire::parse_head(&bytes[..end]).unwrap();
        let body = serde_json::from_slice(&unchunked(&bytes[end + 4..])).unwrap_or_default();
        let port = head.header("host").unwrap().rsplit(':').next().unwrap();
        let id = head.header("x-azure-functions-invocationid").unwrap_or_default();
        let stamp = Stamp {
            // Where it is missing, the client's name for the host stands there.
            port: port.parse().unwrap_or(0),
            invocation: id.rsplit(", ").next().unwrap().to_owned(),
            rand: said(&body, "/Metadata/sys/RandGuid"),
            now: time_or_now(&said(&body, "/Metadata/sys/UtcNow")),
        };
        Self { bytes, stamp, body }
    }

    /// Fails unless `sent` are the same bytes.
    #[track_caller]
    fn check(&self, name: &str, sent: &[u8]) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert_eq!(text(sent), text(&self.bytes), "{name}");
        assert_eq!(sent, self.bytes, "{name}");
    }

    fn post(&self, function: &str, body: &str) -> Vec<u8> {
        payload::post(function, &self.stamp, body.as_bytes())
    }

    /// The message that was delivered, with `bytes` for its content.
    fn message(&self, bytes: &[u8]) -> QueueMessage {
        let metadata = |name: &str| said(&self.body, &format!("/Metadata/{name}"));
        // Text is encoded twice. What the message shadows does not show, so any value will do.
        let text = |name: &str| metadata(name).trim_matches('"').to_owned();
        QueueMessage {
            id: text("Id"),
            pop_receipt: text("PopReceipt"),
            dequeue_count: metadata("DequeueCount").parse().unwrap_or(1),
            inserted_at: time_or_now(&metadata("InsertionTime")),
            expires_at: time_or_now(&metadata("ExpirationTime")),
            next_visible_at: time_or_now(&metadata("NextVisibleTime")),
            stored: STANDARD.encode(bytes),
        }
    }
}

fn said(body: &Value, pointer: &str) -> String {
    body.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn time_or_now(text: &str) -> time::OffsetDateTime {
    use time::format_description::well_known::Rfc3339;
    time::OffsetDateTime::parse(text, &Rfc3339).unwrap_or_else(|_| time::OffsetDateTime::now_utc())
}

fn unchunked(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = wire::find(rest, b"\r\n") {
        let size = std::str::from_utf8(&rest[..end]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        body.extend(&rest[end + 2..end + 2 + size]);
        rest = &rest[end + size + 4..];
    }
    body
}

#[rustfmt::skip]
fn timers() -> Vec<(&'static str, &'static str, Option<TimerStatus>, Firing)> {
    let at = |slot| Firing::at(utc(slot));
    let past_due = |slot| Firing::past_due(utc(slot));
    let ran = |last| Some(TimerStatus::new(last, "", last));
    let manual = TimerStatus::new(
        "2026-11-22T13:23:11.4883543+00:00",
        "2026-11-22T13:24:00+00:00",
        "2026-11-22T13:23:11.4883543+00:00",
    );
    let new = TimerStatus::new("0001-01-01T00:00:00", "", "2026-11-22T13:00:50+00:00");
    vec![
        ("timer-first-run", "nightly", Some(new), at("2026-11-22T13:01:00Z")),
        ("timer-second-run", "m1", ran("2026-11-22T13:21:00.0022397+00:00"), at("2026-11-22T13:22:00Z")),
        ("timer-past-due", "m1", ran("2026-11-22T13:22:00+00:00"), past_due("2026-11-22T13:23:00Z")),
        ("timer-runonstartup-first", "onstart", None, at("2026-11-23T02:00:00Z")),
        ("timer-runonstartup-second", "onstart", ran("2026-11-22T13:20:10.6495124+00:00"), at("2026-11-23T02:00:00Z")),
        ("timer-subminute", "fast", None, at("2026-11-22T13:01:00Z")),
        ("timer-usemonitor-false", "nomon", None, at("2026-11-22T13:21:00Z")),
        ("timer-timespan-first", "tspan", None, at("2026-11-22T13:21:40.6474282Z")),
        ("timer-timespan-past-due", "tspan", ran("2026-11-22T13:21:40.6496914+00:00"), past_due("2026-11-22T13:23:10.6496914Z")),
        ("timer-manual", "m1", Some(manual), Firing::by_hand()),
        ("timer-manual-no-status", "disapp", None, Firing::by_hand()),
        ("timer-retry-attempt0", "r1", None, at("2026-11-22T13:26:00Z")),
    ]
}

#[rustfmt::skip]
const QUEUES: &[(&str, &str, &[u8])] = &[
    ("queue-text", "job", b"hello"),
    ("queue-empty", "job", b""),
    ("queue-space", "job", b"  {\"a\":1} "),
    ("queue-number", "job", b"123"),
    ("queue-quoted", "job", b"\"quoted\""),
    ("queue-array", "job", b"[\"one\",\"two\"]"),
    ("queue-date", "job", b"2024-04-06T15:30:00Z"),
    ("queue-broken", "job", b"{broken}"),
    ("queue-umlaut", "job", "ümläut 😀\n\"x\"\\".as_bytes()),
    ("queue-json", "job", br#"{"jobId":"j-17","attempt":1,"ok":true,"arr":[1],"nul":null,"obj":{"x":1},"d":"2024-04-06T15:30:00Z","f":1.5}"#),
    ("queue-shadow", "job", br#"{"Id":"shadow","DequeueCount":99,"PopReceipt":"x","QueueTrigger":"y","InsertionTime":"2020-01-01T00:00:00Z","sys":"z"}"#),
    ("queue-from-output-binding", "job", b"-two-"),
    ("queue-redelivered-dequeuecount5", "job", br#"{"jobId":"p-1","n":1}"#),
    ("queue-stale-timed-out-invocation", "job", b"early"),
    ("queue-after-host-sigkill", "job", b"kill-host"),
    ("queue-after-host-sigterm", "job", b"term-host"),
    ("queue-binary-text", "jobbin", b"hello"),
    ("queue-binary-empty", "jobbin", b""),
    ("queue-binary-json", "jobbin", b"{\"a\":1}"),
    ("queue-binary-bytes", "jobbin", b"\xff\xfe\0bad\x80"),
];

const EVERY_BYTE: [u8; 256] = {
    let (mut all, mut byte) = ([0; 256], 0_u8);
    while byte < u8::MAX {
        byte += 1;
        all[byte as usize] = byte;
    }
    all
};

/// Name, head and body as the client sent them.
#[rustfmt::skip]
const HTTP: &[(&str, &str, &[u8])] = &[
    ("http-default-get", "GET /api/runs HTTP/1.1\nHost: 127.0.0.1:7071\nUser-Agent: curl/7.88.1\nAccept: */*", b""),
    ("http-default-head", "HEAD /api/runs/1 HTTP/1.1\nHost: 127.0.0.1:7084\nAccept-Encoding: identity", b""),
    ("http-default-post-json", "POST /api/runs/42?verbose=1&a=1&a=2 HTTP/1.1\nHost: 127.0.0.1:7071\nUser-Agent: curl/7.88.1\nAccept: */*\nContent-Type: application/json\nX-Custom: A\nAuthorization: Bearer abc\nContent-Length: 78", br#"{"reason":"manual","n":1,"arr":[1,2],"obj":{"x":1},"d":"2024-04-06T15:30:00Z"}"#),
    ("http-default-in-forwarding-app", "GET /api/both HTTP/1.1\nHost: h\nConnection: close", b""),
    ("http-default-with-function-key", "GET /api/func HTTP/1.1\nHost: 127.0.0.1:7091\nAccept-Encoding: identity\nx-functions-key: KKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKK==", b""),
    ("http-default-chunked-upload-no-body", "POST /api/runs/9?x=%20y%2Fz+w HTTP/1.1\nHost: 127.0.0.1:7084\nAccept-Encoding: identity\nContent-Type: text/plain\nX-Multi: 1\nTransfer-Encoding: chunked", b""),
    ("http-default-octet-stream", "POST /api/runs/9 HTTP/1.1\nHost: 127.0.0.1:7084\nAccept-Encoding: identity\nContent-Length: 256\nContent-Type: application/octet-stream", &EVERY_BYTE),
];

#[rustfmt::skip]
const FORWARDED: &[(&str, &str, &[u8])] = &[
    ("http-forwarding-get", "GET /api/runs/42?a=1&a=2&b=+x%2Fy%20z&c=&d=%C3%BC&e=a%26b HTTP/1.1\nHost: public.example.net\nConnection: close\nX-Multi: one\nX-Multi: two\nCookie: a=b; c=d\nCookie: e=f\nX-Forwarded-For: 1.2.3.4\nUser-Agent: myagent/1.0\nX-Azure-Functions-InvocationId: fake\nX-Azure-Functions-HostVersion: fake\nAccept-Encoding: gzip, br\nAuthorization: Bearer t\nx-functions-key: mk\ntraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\nIf-None-Match: \"x\"\nRange: bytes=0-5", b""),
    ("http-forwarding-head", "HEAD /api/runs/42 HTTP/1.1\nHost: h\nConnection: close", b""),
    ("http-forwarding-post", "POST /api/runs/42 HTTP/1.1\nHost: h\nContent-Length: 5\nContent-Type: application/json; charset=utf-8\nContent-Encoding: gzip\nConnection: close", b"hello"),
    ("http-forwarding-encoded-path", "GET /api/runs/a%2Fb%20c%C3%BC HTTP/1.1\nHost: h\nConnection: close", b""),
];

fn request(head: &str, body: &[u8]) -> Message {
    let head = wire::parse_head(head.replace('\n', "\r\n").as_bytes()).unwrap();
    Message { body: body.to_vec(), ..head }
}

#[test]
fn timers_are_fired_as_the_real_host_fired_them() {
    let (_folder, app) = app();
    for (name, function, stored, firing) in timers() {
        let recorded = Recorded::read(name);
        let function = app.function(function).unwrap();
        let Trigger::Timer { schedule, is_monitored } = &function.trigger else { panic!("{name}") };
        let value = TimerValue {
            is_cron: schedule.is_cron(),
            status: status(stored, &firing, *is_monitored),
            is_past_due: firing.is_past_due(),
            is_manual: firing.is_by_hand(),
        };
        let retry = function.retry.as_ref().map(|policy| (policy, 0, Json::Null));
        let body =
            payload::timer(&function.name, &function.binding, &value, retry, &recorded.stamp);
        recorded.check(name, &recorded.post(&function.name, &body));
    }
}

#[test]
fn messages_are_delivered_as_the_real_host_delivered_them() {
    let (_folder, app) = app();
    for (name, function, bytes) in QUEUES {
        let recorded = Recorded::read(name);
        let function = app.function(function).unwrap();
        let Trigger::Queue { is_binary, .. } = &function.trigger else { panic!("{name}") };
        let message = recorded.message(bytes);
        let body = payload::queue(
            &function.name,
            &function.binding,
            *is_binary,
            &message,
            &recorded.stamp,
        );
        recorded.check(name, &recorded.post(&function.name, &body.unwrap()));
    }
    let (name, recorded) = ("queue-manual-admin", Recorded::read("queue-manual-admin"));
    let body = payload::queue_by_hand("job", "job", r#"{"jobId":"m"}"#, &recorded.stamp);
    recorded.check(name, &recorded.post("job", &body));
}

#[test]
fn http_requests_arrive_as_the_real_host_passed_them_on() {
    let (_folder, app) = app();
    for (name, head, body) in HTTP {
        let (recorded, request) = (Recorded::read(name), request(head, body));
        let (method, target) = request.request_line();
        let path = target.split('?').next().unwrap();
        let found = routed(&app, &Settings::new(), method, path);
        let (function, params, _) = found.unwrap_or_else(|| panic!("{name}: no such route"));
        let is_known = request.header("x-functions-key") == Some(KEY);
        let caller = Caller { level: if is_known { Auth::Function } else { Auth::Anonymous } };
        let (function, binding) = (&function.name, &function.binding);
        let body = default_body(function, binding, &request, &params, caller, &recorded.stamp);
        recorded.check(name, &recorded.post(function, &body));
    }
    for (name, head, body) in FORWARDED {
        let recorded = Recorded::read(name);
        recorded.check(name, &forwarded(&request(head, body), &recorded.stamp));
    }
}

#[test]
fn the_readiness_poll_is_the_real_hosts() {
    let recorded = Recorded::read("startup-get-root");
    recorded.check("startup-get-root", &payload::ping(recorded.stamp.port));
}

#[test]
fn every_recording_is_held_against() {
    let timers = timers();
    let mut held: BTreeSet<&str> = timers.iter().map(|(name, ..)| *name).collect();
    held.extend([QUEUES, HTTP, FORWARDED].concat().iter().map(|(name, ..)| *name));
    held.extend(["queue-manual-admin", "startup-get-root"]);
    let files = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name());
    let files: BTreeSet<String> =
        files.filter_map(|name| Some(name.to_str()?.strip_suffix(".http")?.to_owned())).collect();
    assert_eq!(held, files.iter().map(String::as_str).collect());
}
