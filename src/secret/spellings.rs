//! The ways in which others write a value, for tests: as encoders do it, and not as we decode it.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use fastrand::Rng;
use url::form_urlencoded::byte_serialize;

/// Writes a value; what an encoder may choose, chance does.
pub type Spell = fn(&str, &mut Rng) -> String;

/// Every way, by name.
pub const SPELLINGS: &[(&str, Spell)] = &[
    ("plain", |value, _| value.to_owned()),
    ("URL-encoded", |value, _| url(value)),
    ("URL-encoded, lower case", |value, _| percent(value, is_reserved, lower)),
    ("URL-encoded, every byte", |value, _| percent(value, |_| true, upper)),
    ("URL-encoded, some bytes", |value, rng| some_percent(value, rng)),
    ("URL-encoded twice", |value, _| url(&url(value))),
    ("form", |value, _| byte_serialize(value.as_bytes()).collect()),
    ("base64", |value, _| STANDARD.encode(value)),
    ("base64, no padding", |value, _| STANDARD_NO_PAD.encode(value)),
    ("base64, URL-safe", |value, _| URL_SAFE.encode(value)),
    ("base64, URL-safe, no padding", |value, _| URL_SAFE_NO_PAD.encode(value)),
    ("JSON", |value, _| json(value)),
    ("JSON, more than must be", |value, rng| wide_json(value, rng)),
    ("JSON in JSON", |value, _| json(&json(value))),
    ("JSON in JSON in JSON", |value, _| json(&json(&json(value)))),
    ("Debug", |value, _| inner(&format!("{value:?}")).to_owned()),
    ("Debug of bytes", |value, _| value.as_bytes().escape_ascii().to_string()),
    ("hex", |value, _| hex(value, lower)),
    ("hex, upper case", |value, _| hex(value, upper)),
    ("line break", |value, rng| broken(value, rng, "\n")),
    ("CR LF", |value, rng| broken(value, rng, "\r\n")),
    ("line break, indented", |value, rng| broken(value, rng, "\n  \t")),
    ("line break in JSON", |value, rng| json(&broken(value, rng, "\r\n    "))),
    ("line break in JSON in JSON", |value, rng| json(&json(&broken(value, rng, "\n")))),
    ("line break, URL-encoded", |value, rng| url(&broken(value, rng, "\r\n "))),
    ("base64 in lines", |value, rng| broken(&STANDARD.encode(value), rng, "\r\n")),
    ("base64 of URL-encoded", |value, _| STANDARD.encode(url(value))),
    ("base64 of JSON", |value, _| URL_SAFE_NO_PAD.encode(ascii_json(value))),
    ("base64 of base64", |value, _| STANDARD.encode(STANDARD.encode(value))),
    ("URL-encoded base64", |value, _| url(&STANDARD.encode(value))),
    ("JSON of base64", |value, rng| wide_json(&STANDARD.encode(value), rng)),
    ("JSON of URL-encoded", |value, rng| wide_json(&url(value), rng)),
    ("JSON of a form of JSON", |value, _| {
        json(&byte_serialize(json(value).as_bytes()).collect::<String>())
    }),
    ("hex of JSON", |value, _| hex(&json(value), lower)),
];

fn upper(byte: u8) -> String {
    format!("{byte:02X}")
}

fn lower(byte: u8) -> String {
    format!("{byte:02x}")
}

fn hex(text: &str, digits: fn(u8) -> String) -> String {
    text.bytes().map(digits).collect()
}

/// Bytes that every encoder of URLs encodes: all that are not unreserved (RFC 3986, section 2.3).
fn is_reserved(byte: u8) -> bool {
    !byte.is_ascii_alphanumeric() && !b"-._~".contains(&byte)
}

pub fn url(text: &str) -> String {
    percent(text, is_reserved, upper)
}

fn percent(text: &str, is_encoded: impl Fn(u8) -> bool, digits: fn(u8) -> String) -> String {
    let encode = |byte: u8| match is_encoded(byte) {
        true => format!("%{}", digits(byte)),
        false => char::from(byte).to_string(),
    };
    text.bytes().map(encode).collect()
}

/// As encoders of paths, of queries or of whole URLs do, which leave out this or that.
fn some_percent(text: &str, rng: &mut Rng) -> String {
    let left: Vec<u8> = (0..128).filter(|byte| *byte != b'%' && rng.bool()).collect();
    percent(text, |byte| !left.contains(&byte), upper)
}

/// The content of a string.
fn inner(string: &str) -> &str {
    &string[1..string.len() - 1]
}

pub fn json(text: &str) -> String {
    inner(&serde_json::to_string(text).unwrap()).to_owned()
}

/// As Python does.
fn ascii_json(text: &str) -> String {
    let escape = |c: char| match c.is_ascii() {
        true => json(&c.to_string()),
        false => c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect(),
    };
    text.chars().map(escape).collect()
}

/// As encoders do that escape what is not ASCII, what is HTML, or a slash.
fn wide_json(text: &str, rng: &mut Rng) -> String {
    let escape = |c: char| match rng.u8(..4) {
        0 if c == '/' => "\\/".to_owned(),
        0 => c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect(),
        1 => c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04X}")).collect(),
        _ => json(&c.to_string()),
    };
    text.chars().map(escape).collect()
}

/// `text` in two lines. Indentation takes white space along that belongs to the text, so there is none
/// behind the break.
fn broken(text: &str, rng: &mut Rng, line_break: &str) -> String {
    let can_begin = |(at, c): (usize, char)| (at > 0 && !c.is_whitespace()).then_some(at);
    let places: Vec<usize> = text.char_indices().filter_map(can_begin).collect();
    match rng.choice(&places) {
        Some(at) => format!("{}{line_break}{}", &text[..*at], &text[*at..]),
        None => text.to_owned(),
    }
}
