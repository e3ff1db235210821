//! What a real host sent, as the functions are given it. The recordings are those that the host double is
//! held against.

use std::fs;
use std::path::Path;

use easm_export::host::http::{Body, HttpRequest};
use easm_export::host::payload::{Payload, Timer};

/// The body of the recording `name`, out of its chunks.
fn body(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/host-recordings");
    let recorded = fs::read(folder.join(format!("{name}.http"))).unwrap();
    let (mut body, mut rest) = (Vec::new(), split(&recorded, b"\r\n\r\n").1);
    loop {
        let (size, behind) = split(rest, b"\r\n");
        let size = usize::from_str_radix(std::str::from_utf8(size).unwrap(), 16).unwrap();
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&behind[..size]);
        rest = &behind[size + 2..];
    }
}

fn split<'a>(bytes: &'a [u8], at: &[u8]) -> (&'a [u8], &'a [u8]) {
    let found = bytes.windows(at.len()).position(|window| window == at).unwrap();
    (&bytes[..found], &bytes[found + at.len()..])
}

fn payload(name: &str) -> Payload {
    Payload::parse(&body(name)).unwrap()
}

#[test]
fn timers_of_a_real_host_are_read() {
    let check = |name: &str, next: Option<&str>, is_by_hand: bool| {
        let Timer { next: found, is_by_hand: by_hand } = payload(name).timer("timer");
        let found = found.map(|at| at.to_string());
        assert_eq!((found.as_deref(), by_hand), (next, is_by_hand), "{name}");
    };
    check("timer-first-run", Some("2026-11-22T13:01:00Z"), false);
    check("timer-past-due", Some("2026-11-22T13:23:00Z"), false);
    check("timer-manual", Some("2026-11-22T13:24:00Z"), true);
    check("timer-manual-no-status", None, true);
    check("timer-subminute", None, false);
    check("timer-usemonitor-false", None, false);
}

#[test]
fn messages_of_a_real_host_are_read() {
    let check = |name: &str, want: &str| {
        assert_eq!(payload(name).text("job").unwrap(), want, "{name}");
    };
    check("queue-text", "hello");
    check("queue-empty", "");
    check("queue-number", "123");
    check("queue-broken", "{broken}");
    check(
        "queue-json",
        r#"{"jobId":"j-17","attempt":1,"ok":true,"arr":[1],"nul":null,"obj":{"x":1},"d":"2024-04-06T15:30:00Z","f":1.5}"#,
    );
    // What a message says in its members stands in place of the host's own metadata.
    let shadow = payload("queue-shadow").text("job").unwrap();
    assert!(shadow.starts_with(r#"{"Id":"shadow","DequeueCount":99"#), "{shadow}");
}

#[test]
fn requests_of_a_real_host_in_default_mode_are_read() {
    let read = |name: &str| -> HttpRequest { payload(name).http("req").unwrap() };
    let posted = read("http-default-post-json");
    assert_eq!((posted.method.as_str(), posted.params["id"].as_str()), ("POST", "42"));
    assert_eq!(posted.query["a"], "1,2");
    assert_eq!(posted.headers.get("x-custom"), Some("A"));
    let Body::Bytes(bytes) = &posted.body else { panic!("{:?}", posted.body) };
    assert!(bytes.starts_with(br#"{"reason":"manual","n":1"#));
    assert_eq!(read("http-default-chunked-upload-no-body").body, Body::Missing);
    assert_eq!(read("http-default-octet-stream").body, Body::Bytes((0..=255).collect()));
    assert_eq!(read("http-default-get").body, Body::None);
    assert_eq!(read("http-default-head").method, "HEAD");
    assert!(read("http-default-with-function-key").headers.get("x-functions-key").is_some());
}
