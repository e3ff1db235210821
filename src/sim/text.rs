//! Small codecs that the simulator needs and no dependency brings: percent
//! and base64 decoding, JSON strings, white space, dates and mixing of seeds.
//!
//! Everything here is pure. Dates are milliseconds since 1970, UTC.

use std::fmt::Write as _;

/// How `createdDate` and `updatedDate` look (API reference, section 7, "Dates").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DateForm {
    /// `2022-12-12T10:41:09.000+00:00`: most api-versions.
    Offset,
    /// `2023-10-02T23:23:17+0000`: what 2023-03-01-preview sends.
    Compact,
    /// `2024-03-17T00:00:00Z`: seen in deltas.
    Zulu,
}

/// Appends a date without allocating: a page holds hundreds of them.
pub fn push_date(out: &mut Vec<u8>, ms: i64, form: DateForm) {
    let (days, day_ms) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000) as u32);
    let (year, month, day) = civil(days);
    let (seconds, millis) = (day_ms / 1000, day_ms % 1000);
    let mut text = *b"0000-00-00T00:00:00.000+00:00";
    two(&mut text[0..2], year / 100);
    two(&mut text[2..4], year % 100);
    two(&mut text[5..7], month);
    two(&mut text[8..10], day);
    two(&mut text[11..13], seconds / 3600);
    two(&mut text[14..16], seconds / 60 % 60);
    two(&mut text[17..19], seconds % 60);
    two(&mut text[20..22], millis / 10);
    text[22] += (millis % 10) as u8;
    match form {
        DateForm::Offset => out.extend_from_slice(&text),
        DateForm::Compact => {
            out.extend_from_slice(&text[..19]);
            out.extend_from_slice(b"+0000");
        }
        DateForm::Zulu => {
            out.extend_from_slice(&text[..19]);
            out.push(b'Z');
        }
    }
}

/// Appends `value` in decimal.
pub fn push_u64(out: &mut Vec<u8>, mut value: u64) {
    let mut text = [0_u8; 20];
    let mut at = text.len();
    loop {
        at -= 1;
        text[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&text[at..]);
}

/// Appends the lowest `nibbles` hex digits of `value`, at most 16.
pub fn push_hex(out: &mut Vec<u8>, value: u64, nibbles: usize) {
    let mut text = [0_u8; 16];
    for (n, digit) in text.iter_mut().enumerate() {
        *digit = b"0123456789abcdef"[(value >> (60 - 4 * n) & 15) as usize];
    }
    out.extend_from_slice(&text[16 - nibbles..]);
}

/// Adds a number below 100 to the two digits that stand there.
fn two(digits: &mut [u8], value: u32) {
    digits[0] += (value / 10) as u8;
    digits[1] += (value % 10) as u8;
}

/// Year, month and day of a day number (the usual days-to-civil arithmetic).
fn civil(days: i64) -> (u32, u32, u32) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year as u32, month as u32, day as u32)
}

/// How characters that need no escape are written all the same.
#[derive(Clone, Copy, Debug, Default)]
pub struct Escapes {
    /// `/` becomes `\/`.
    pub slash: bool,
    /// Everything beyond ASCII becomes `\uXXXX`.
    pub unicode: bool,
}

/// Appends `text` as the inside of a JSON string, without the quotes.
pub fn push_escaped(out: &mut Vec<u8>, text: &str, escapes: Escapes) {
    let plain = |b: u8| (b' '..0x80).contains(&b) && b != b'"' && b != b'\\' && b != b'/';
    if text.bytes().all(plain) {
        out.extend_from_slice(text.as_bytes());
        return;
    }
    for c in text.chars() {
        match c {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '/' if escapes.slash => out.extend_from_slice(b"\\/"),
            c if (c as u32) < 0x20 || (escapes.unicode && !c.is_ascii()) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    out.extend_from_slice(b"\\u");
                    push_hex(out, u64::from(*unit), 4);
                }
            }
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// Appends `text` as a JSON string with its quotes.
pub fn push_json(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    push_escaped(out, text, Escapes::default());
    out.push(b'"');
}

/// Appends a piece of compact JSON with pretty-printing white space between
/// its tokens. A piece may end at any token; `depth` carries the indentation on.
pub fn push_spaced(out: &mut Vec<u8>, compact: &[u8], depth: &mut usize) {
    let (mut in_string, mut escaped) = (false, false);
    for &byte in compact {
        if in_string {
            out.push(byte);
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'{' | b'[' => {
                out.push(byte);
                *depth += 1;
                indent(out, *depth);
            }
            b'}' | b']' => {
                *depth = depth.saturating_sub(1);
                indent(out, *depth);
                out.push(byte);
            }
            b',' => {
                out.push(byte);
                indent(out, *depth);
            }
            b':' => out.extend_from_slice(b" : "),
            _ => {
                in_string = byte == b'"';
                out.push(byte);
            }
        }
    }
}

fn indent(out: &mut Vec<u8>, depth: usize) {
    out.push(b'\n');
    out.resize(out.len() + 2 * depth, b' ');
}

/// Undoes percent encoding. What is no valid escape stays as it is.
pub fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = |n: usize| bytes.get(at + n).and_then(|b| (*b as char).to_digit(16));
        match (bytes[at], hex(1), hex(2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 3;
            }
            (byte, ..) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// A query string as a person would read it: percent and `+` undone.
pub fn query_decoded(query: &str) -> String {
    percent_decoded(&query.replace('+', " "))
}

/// One value of a query, percent-encoded for a URL.
pub fn query_encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Standard base64 with padding.
pub fn base64(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |n: usize| u32::from(chunk.get(n).copied().unwrap_or(0));
        let group = byte(0) << 16 | byte(1) << 8 | byte(2);
        for n in 0..4_usize {
            let sextet = (group >> (18 - 6 * n) & 63) as usize;
            out.push(if n <= chunk.len() { STANDARD[sextet] as char } else { '=' });
        }
    }
    out
}

/// URL-safe base64 without padding, as in JSON web tokens.
pub fn base64_url(bytes: &[u8]) -> String {
    base64(bytes).trim_end_matches('=').replace('+', "-").replace('/', "_")
}

/// Reads base64 in the standard or the URL-safe alphabet, padded or not: which
/// of them the service takes is not known (API reference, section 4).
pub fn base64_decoded(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=');
    if text.len() % 4 == 1 {
        return None;
    }
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    let (mut group, mut n_bits) = (0_u32, 0);
    for byte in text.bytes() {
        let byte = match byte {
            b'-' => b'+',
            b'_' => b'/',
            other => other,
        };
        let sextet = STANDARD.iter().position(|b| *b == byte)?;
        group = group << 6 | sextet as u32;
        n_bits += 6;
        if n_bits >= 8 {
            n_bits -= 8;
            out.push((group >> n_bits) as u8);
        }
    }
    Some(out)
}

/// A good spread of one number (splitmix64), the root of all pseudo-chance here.
pub fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Hash of some bytes under a seed; the same in every run and on every machine.
pub fn hash(seed: u64, bytes: &[u8]) -> u64 {
    let fnv = |h: u64, b: &u8| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3);
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325 ^ mix(seed), fnv))
}

/// A number from 0 up to but not including 1, from the high bits of a hash.
pub fn share(hash: u64) -> f64 {
    (hash >> 11) as f64 / (1_u64 << 53) as f64
}

/// Something that looks like a UUID.
pub fn uuid(high: u64, low: u64) -> String {
    let mut out = String::with_capacity(36);
    let (a, b, c) = (high >> 32, high >> 16 & 0xffff, high & 0x0fff);
    let (d, e) = (low >> 48 & 0x3fff | 0x8000, low & 0xffff_ffff_ffff);
    write!(out, "{a:08x}-{b:04x}-4{c:03x}-{d:04x}-{e:012x}").expect("a string takes any text");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_date(ms: i64, form: DateForm, want: &str) {
        let mut out = Vec::new();
        push_date(&mut out, ms, form);
        assert_eq!(String::from_utf8(out).unwrap(), want);
    }

    #[test]
    fn dates_have_the_three_forms_of_the_service() {
        check_date(0, DateForm::Zulu, "1970-01-01T00:00:00Z");
        check_date(1_709_210_096_789, DateForm::Offset, "2024-02-29T12:34:56.789+00:00");
        check_date(1_709_210_096_789, DateForm::Compact, "2024-02-29T12:34:56+0000");
        check_date(1_735_689_599_999, DateForm::Zulu, "2024-12-31T23:59:59Z");
    }

    #[test]
    fn base64_is_read_in_both_alphabets_padded_or_not() {
        for bytes in [&b""[..], b"f", b"fo", b"foo", b"\xff\xfe\xfb\xef"] {
            let padded = base64(bytes);
            assert_eq!(base64_decoded(&padded).as_deref(), Some(bytes));
            assert_eq!(base64_decoded(&base64_url(bytes)).as_deref(), Some(bytes));
        }
        assert_eq!(base64(b"host$$contoso.com"), "aG9zdCQkY29udG9zby5jb20=");
        assert_eq!(base64_decoded("abcde"), None);
        assert_eq!(base64_decoded("a$$b"), None);
    }

    #[test]
    fn percent_signs_that_are_no_escape_stay() {
        assert_eq!(percent_decoded("domain%24%24k%C3%BC.example"), "domain$$kü.example");
        assert_eq!(percent_decoded("100%"), "100%");
        assert_eq!(percent_decoded("%zz%2"), "%zz%2");
        assert_eq!(query_decoded("a=1+2%2B3"), "a=1 2+3");
    }

    #[test]
    fn white_space_goes_only_between_tokens() {
        let compact = br#"{"a":[1,{}],"b, \": {":"x: [1, 2]"}"#;
        let mut spaced = Vec::new();
        push_spaced(&mut spaced, compact, &mut 0);
        let want: serde_json::Value = serde_json::from_slice(compact).unwrap();
        assert!(spaced.len() > compact.len());
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&spaced).unwrap(), want);
    }

    #[test]
    fn escapes_change_the_text_but_not_the_meaning() {
        for text in ["plain", "a\"b\\c/d", "Zürich 東京 🚀", "line\none"] {
            for (slash, unicode) in [(false, false), (true, true)] {
                let mut out = b"\"".to_vec();
                push_escaped(&mut out, text, Escapes { slash, unicode });
                out.push(b'"');
                assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
            }
        }
    }
}
