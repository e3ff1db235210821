//! What the redactor promises of any text, for the fuzz target and for `cargo test` (`tests/it/fuzz.rs`).
//!
//! A fuzzer does not guess a secret. So `$` in an input chooses one: `$`, a digit for which, a letter for
//! how it is spelled. `Authorization: Bearer $0p` is a token as it is.

use std::collections::HashSet;
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use easm_export::secret::{RUN_BYTES, Secret, holds_credential, redact};
use memchr::memmem::find;
use serde_json::{Value, json};
use url::form_urlencoded::byte_serialize;

/// Longest text that is made of an input. With every `$` a secret, it would be very long.
const TEXT_BYTES_MAX: usize = 16 << 10;

/// Longest escape sequence.
const ESCAPE_BYTES_MAX: usize = 12;

/// Characters that `a user:` takes in base64; the last says something of the password too.
const BEFORE_PASSWORD: usize = 9;

/// One of each sort; all of them are made up. The last two look like pieces of a JSON text.
const CANARIES: &[&str] = &[
    "eyJ0eXAiOiJKV1QifQ.eyJhdWQiOiJjYW5hcnkifQ.q8Zt4mBw7Xc1nRf5Hj9Ld2Gs6Pa0YeUoKiTb",
    "cAn8Q~rUUM4Ndz3GpvjxlhxG-7wYh~T4sv3Sgaar",
    "CanaryvdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
    "sv=2024-11-04&sr=c&sig=Q2FuYXJ5%2BYmFyL2Jheg%3D%3D",
    "n4c4ry-!",
    "canary \"quoted\" \\and\\ \u{e9}scaped, and more of it",
    "ude00n-canary-that-may-end-an-escape-u002b",
    "-----BEGIN KEY-----\nCanaryQAwBQYDK2VwBCIEINTu\nE1hK1bbY\n-----END KEY-----",
    "31415926535897932384",
    "c\",\"anary\":{\"k\":[1,\"",
];

/// Every canary, live as long as the process is.
static LIVE: LazyLock<Vec<Secret>> =
    LazyLock::new(|| CANARIES.iter().map(|canary| Secret::new((*canary).to_owned())).collect());

/// Every run of a canary that may not be printed; of a short one the whole.
static RUNS: LazyLock<HashSet<&[u8]>> = LazyLock::new(|| {
    let runs = |canary: &'static &str| canary.as_bytes().windows(RUN_BYTES.min(canary.len()));
    CANARIES.iter().flat_map(runs).collect()
});

/// Panics if the redactor breaks a promise about `data`.
pub fn check(data: &[u8]) {
    assert_eq!(LIVE.len(), CANARIES.len());
    let input = String::from_utf8_lossy(data);
    let Text { text, secrets } = Text::new(&input);
    let clean = check_text(&text);
    for secret in secrets.iter().map(String::as_bytes) {
        for run in secret.windows(RUN_BYTES.min(secret.len())) {
            // What the input itself spells out may be too short to be one.
            let is_left =
                find(clean.as_bytes(), run).is_some() && find(input.as_bytes(), run).is_none();
            let run = String::from_utf8_lossy(run);
            assert!(!is_left, "{run:?} is left in {clean:?} of {text:?}");
        }
    }
    // As a log line has it.
    let line = json!({ "message": text, "n": 17, "of": ["all", null] });
    let clean: Value = serde_json::from_str(&check_text(&line.to_string())).expect("JSON");
    assert_eq!((&clean["n"], &clean["of"]), (&line["n"], &line["of"]));
    // What is read back is searched as it is, text or not.
    holds_credential(data);
}

/// `text`, redacted.
fn check_text(text: &str) -> String {
    let clean = redact(text).into_owned();
    for n_bytes in RUNS.iter().map(|run| run.len()).collect::<HashSet<_>>() {
        for run in clean.as_bytes().windows(n_bytes) {
            assert!(!RUNS.contains(run), "{:?} is left in {clean:?}", String::from_utf8_lossy(run));
        }
    }
    assert!(!holds_credential(clean.as_bytes()), "a credential is left in {clean:?}");
    assert_eq!(redact(&clean), clean, "it is redacted once more");
    assert!(!is_document(text) || is_document(&clean), "{clean:?} is no JSON, as {text:?} was");
    clean
}

fn is_document(text: &str) -> bool {
    let begins = text.trim_start().starts_with(['{', '[']);
    begins && serde_json::from_str::<Value>(text).is_ok()
}

/// A text with secrets in it.
#[derive(Default)]
struct Text {
    text: String,
    /// Those that cannot be mistaken for something else, as they are spelled.
    secrets: Vec<String>,
}

impl Text {
    fn new(input: &str) -> Self {
        let mut made = Self::default();
        let mut mistaken = HashSet::new();
        let mut parts = input.split('$');
        made.text.push_str(parts.next().unwrap_or_default());
        for part in parts {
            let mut chars = part.chars();
            let which = chars.next().and_then(|c| c.to_digit(10));
            let canary = which.and_then(|which| CANARIES.get(which as usize));
            let how = chars.next().unwrap_or_default();
            match canary.and_then(|canary| spelled(canary, how)) {
                Some(spelled) => {
                    let secret = match how {
                        'B' => spelled[BEFORE_PASSWORD..].to_owned(),
                        _ => spelled.clone(),
                    };
                    // The beginning of an escape sequence would end in it.
                    let mut before = made.text.bytes().rev().take(ESCAPE_BYTES_MAX);
                    if before.any(|byte| matches!(byte, b'\\' | b'%')) {
                        mistaken.insert(secret.clone());
                    }
                    made.text.extend([&spelled, chars.as_str()]);
                    made.secrets.push(secret);
                }
                None => made.text.extend(["$", part]),
            }
            if made.text.len() > TEXT_BYTES_MAX {
                break;
            }
        }
        made.secrets.retain(|secret| !mistaken.contains(secret));
        made
    }
}

fn spelled(canary: &str, how: char) -> Option<String> {
    let json = |text: &str| {
        let string = Value::from(text).to_string();
        string[1..string.len() - 1].to_owned()
    };
    let url = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
    // Not at white space: indentation would take it along.
    let half = canary.char_indices().skip(canary.len() / 2).find(|(_, c)| !c.is_whitespace());
    let (front, back) = canary.split_at(half.map_or(0, |(at, _)| at));
    match how {
        'p' => Some(canary.to_owned()),
        'u' => Some(url(canary)),
        'U' => Some(canary.bytes().map(twice).collect()),
        'b' => Some(STANDARD.encode(canary)),
        'B' => Some(URL_SAFE_NO_PAD.encode(format!("a user:{canary}"))),
        'j' => Some(json(canary)),
        'J' => Some(json(&json(canary))),
        'h' => Some(canary.bytes().map(|byte| format!("{byte:02x}")).collect()),
        'l' => Some(format!("{front}\n    {back}")),
        'n' => Some(json(&format!("{front}\r\n{back}"))),
        'c' => Some(STANDARD.encode(url(canary))),
        'r' => Some(canary.chars().take(RUN_BYTES + 1).collect()),
        _ => None,
    }
}

/// URL-encoded twice, in lower case.
fn twice(byte: u8) -> String {
    match byte.is_ascii_alphanumeric() {
        true => char::from(byte).to_string(),
        false => format!("%25{byte:02x}"),
    }
}
