//! The search finds what it must, and no more: else nothing that it does not find proves anything.

use azure_core::base64;
use serde_json::json;

use super::planted;
use super::{RUN_CHARS, Search};

/// A canary with characters that every spelling changes.
const CANARY: &str = r#"q7+ba/rk=vo"gel\rufe&lei%se~bei nacht?42"#;

fn search() -> Search {
    Search::new([("bird".to_owned(), CANARY.to_owned())])
}

/// `text` in each spelling, written by others than the search.
fn written(text: &str) -> Vec<(&'static str, String)> {
    let form: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
    let url = form.replace('+', "%20");
    let json = |text: &str| {
        let quoted = json!(text).to_string();
        quoted[1..quoted.len() - 1].to_owned()
    };
    let mut all = vec![
        ("raw", text.to_owned()),
        ("raw, in an error of Rust", format!("{text:?}")),
        ("raw, in bytes of Rust", format!("{:?}", bytes::Bytes::from(text.to_owned()))),
        ("numbers", format!("{:?}", text.as_bytes())),
        ("form", form.replace("%7E", "~")),
        ("URL, twice", url.replace("%7E", "~").replace('%', "%25")),
        ("URL, small letters", {
            let small = url.replace("%7E", "~");
            small
                .replace("%2B", "%2b")
                .replace("%2F", "%2f")
                .replace("%3D", "%3d")
                .replace("%5C", "%5c")
                .replace("%3F", "%3f")
        }),
        ("URL", url.replace("%7E", "~")),
        ("JSON", json(text)),
        ("JSON in JSON", json(&json(text))),
        ("hex", text.bytes().map(|byte| format!("{byte:02x}")).collect()),
        ("hex, capitals", text.bytes().map(|byte| format!("{byte:02X}")).collect()),
    ];
    for before in ["", "\n", "\n\n"] {
        // Between bytes that have no bits in common with its neighbours.
        let bytes = format!("{before}{text}\u{1}\u{1}\u{1}");
        all.push(("base64", base64::encode(&bytes)));
        all.push(("base64 for URLs", base64::encode_url_safe(&bytes)));
        let basic = base64::encode(format!("u{before}:{text}"));
        all.push(("basic header", format!("Basic {basic}")));
    }
    all
}

#[test]
fn a_planted_canary_is_found_in_each_spelling_wherever_it_stands() {
    let search = search();
    for (way, text) in written(CANARY) {
        for n_before in 0..3 {
            let line = format!("{}{text}; and so on", "-".repeat(n_before));
            let found = search.find(line.as_bytes());
            assert!(found.is_some_and(|found| found.starts_with("bird (")), "{way}: {line}");
        }
    }
}

#[test]
fn sixteen_characters_in_a_row_are_found_and_fifteen_are_not() {
    let search = search();
    for from in 0..=CANARY.len() - RUN_CHARS {
        for (way, text) in written(&CANARY[from..from + RUN_CHARS]) {
            let found = search.find(format!("|{text}|").as_bytes());
            assert!(found.is_some(), "{way}, from {from}: {text}");
        }
        for (way, text) in written(&CANARY[from..from + RUN_CHARS - 1]) {
            let found = search.find(format!("|{text}|").as_bytes());
            assert_eq!(found, None, "{way}, from {from}: {text}");
        }
    }
}

#[test]
fn what_holds_no_canary_is_not_accused() {
    let search = Search::new(planted::canaries());
    let lines = [
        "2026-11-28T01:07:24Z DEBUG ==> Request: url: http://127.0.0.1/msi/token?resource=REDACTED",
        "easm-export: read settings: EASM_CLIENT_SECRET not set; [REDACTED]",
        "q7+ba/rk=vo\"gel is only a part",
    ];
    for line in lines {
        assert_eq!(search.find_or_token(line.as_bytes()), None, "{line}");
    }
    let token = "Authorization: Bearer eyJ0eXAiOiJKV1QiLCJhbGciOiJub25lIn0.e30.x";
    assert!(search.find_or_token(token.as_bytes()).is_some(), "a token that nobody knows");
}

#[test]
fn each_canary_is_found_and_none_is_like_another() {
    let canaries = planted::canaries();
    let search = Search::new(canaries.clone());
    for (name, value) in &canaries {
        for from in 0..=value.len() - RUN_CHARS {
            // Not all need be valid UTF-8 borders; canaries are ASCII.
            let found = search.find(format!("[{}]", &value[from..from + RUN_CHARS]).as_bytes());
            let found = found.unwrap_or_else(|| panic!("{name}, from {from}"));
            assert!(found.starts_with(&format!("{name} (")), "{name}, from {from}: {found}");
        }
    }
}
