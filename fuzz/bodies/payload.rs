//! What the decoder of the host's payloads promises of any bytes, for the fuzz target and for
//! `cargo test` (`tests/it/fuzz.rs`).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use easm_export::host::http::{BODY_BYTES_MAX, Body, HttpRequest};
use easm_export::host::payload::Payload;
use serde_json::{Value, json};

/// Names of the bindings, as every `function.json` has them.
const NAMES: [&str; 3] = ["timer", "message", "req"];

/// Panics if the decoder breaks a promise about `data`.
pub fn check(data: &[u8]) {
    as_it_is(data);
    let text = String::from_utf8_lossy(data);
    within(&text);
    twice_encoded(&text);
}

/// Whatever it is, it is decoded or refused.
fn as_it_is(data: &[u8]) {
    // Each is used up by what it is read as.
    for name in NAMES {
        let Ok(payload) = Payload::parse(data) else { return };
        payload.timer(name);
        payload.text(name).map(drop).unwrap_or(());
        if let Ok(request) = payload.http(name) {
            check_request(&request);
        }
    }
}

fn check_request(request: &HttpRequest) {
    match &request.body {
        Body::Bytes(bytes) => assert!((1..=BODY_BYTES_MAX).contains(&bytes.len())),
        Body::None | Body::Missing | Body::TooLarge => {}
    }
}

/// Whatever stands in a payload of the host's form comes out as it went in.
fn within(text: &str) {
    let payload = |data: Value| {
        let bytes = json!({ "Data": data, "Metadata": { "sys": {} } }).to_string();
        Payload::parse(bytes.as_bytes()).expect("it has the host's form")
    };
    // A message comes as JSON within a JSON string.
    let message = payload(json!({ "message": Value::from(text).to_string() }));
    assert_eq!(message.text("message").expect("it is there"), text);

    let request = |content_type: &str, body: &str| {
        let request = payload(json!({ "req": {
            "Method": "POST",
            "Url": "http://localhost/api/exports",
            "Query": { "filter": text },
            "Headers": { "X-Any": [text.trim()], "Content-Type": [content_type] },
            "Params": { "runId": text, "other": null },
            "Body": body,
        }}));
        request.http("req").expect("it is there")
    };
    let wanted = match text.is_empty() {
        true => Body::None,
        false => Body::Bytes(text.as_bytes().to_vec()),
    };
    let in_text = request("application/json", text);
    assert_eq!(in_text.query["filter"], text);
    assert_eq!(in_text.params.get("runId").map(String::as_str), Some(text));
    assert!(!in_text.params.contains_key("other"));
    assert_eq!(in_text.headers.get("x-any"), Some(text.trim()));
    assert_eq!(in_text.body, wanted);
    // Of these types the host makes base64.
    let in_base64 = request("application/octet-stream", &STANDARD.encode(text));
    assert_eq!(in_base64.body, wanted);
}

/// A payload in the place of a message is a message.
fn twice_encoded(text: &str) {
    let inner = json!({ "Data": { "message": text } }).to_string();
    let outer = json!({ "Data": { "message": Value::from(inner.clone()).to_string() } });
    let payload = Payload::parse(outer.to_string().as_bytes()).expect("it has the host's form");
    assert_eq!(payload.text("message").expect("it is there"), inner);
}
