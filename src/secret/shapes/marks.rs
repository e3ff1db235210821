//! Secrets that are known by their looks, whatever is in front of them.

use std::ops::Range;

use memchr::memmem;

use super::text::Text;
use super::values;

/// Fewest characters of a web token's header: `{"alg":""}` has 14.
const HEADER_CHARS_MIN: usize = 10;

/// Over how many lines a web token goes on; and its header, of which there is only one.
const LINES_MAX: usize = 64;
const HEADER_LINES_MAX: usize = 4;

/// Longest label of a PEM block, with room to spare: `ENCRYPTED PRIVATE KEY`.
const LABEL_CHARS_MAX: usize = 64;

/// Characters of a storage account's key in Base64, which is 64 bytes, without `==`.
const STORAGE_KEY_CHARS: usize = 86;

/// Characters in front of `8Q~` in an Entra client secret, and the fewest behind it.
const CLIENT_SECRET_CHARS: (usize, usize) = (3, 31);

/// Characters in front of `AzFu` in a Functions key, of which a few may be cut off, and behind it
/// without `==`.
const FUNCTION_KEY_CHARS: (usize, usize) = (44, 6);

/// A leaf: a JSON web token, signed or encrypted (RFC 7519), begins with `{"` in Base64.
pub(super) fn json_web_token(
    text: &Text,
    hit: Range<usize>,
    hidden: &mut Vec<Range<usize>>,
) -> usize {
    // A word may be tied to it: `id-eyJ...`.
    let is_inside = text.byte_before(hit.start).is_some_and(|byte| byte.is_ascii_alphanumeric());
    if is_inside || text.raw[hit.clone()] != *b"eyJ" {
        return hit.end;
    }
    match web_token_end(text, hit.start) {
        Some(end) => {
            hidden.push(hit.start..end);
            end
        }
        // Nor is there one that begins further on in the same characters.
        None => text.run(hit.end, usize::MAX, is_base64url),
    }
}

/// Where the web token ends that begins at `at`, if there is one: a header, and more behind a dot.
fn web_token_end(text: &Text, at: usize) -> Option<usize> {
    let is_part = |byte| is_base64url(byte) || byte == b'.';
    let next_line = |end| text.next_line(end).filter(|at| values::goes_on(text, *at, None));
    let mut dot = text.run(at, usize::MAX, is_base64url);
    for _ in 1..HEADER_LINES_MAX {
        let Some(line) = next_line(dot) else { break };
        dot = text.run(line, usize::MAX, is_base64url);
    }
    // Two of them if there is no encrypted key (RFC 7516, section 7.1).
    let behind = text.run(dot, 2, |byte| byte == b'.');
    let goes_on = behind > dot && text.byte(behind).is_some_and(is_base64url);
    if dot - at < HEADER_CHARS_MIN || !goes_on {
        return None;
    }
    let mut end = text.run(behind, usize::MAX, is_part);
    for _ in 1..LINES_MAX {
        let Some(line) = next_line(end) else { break };
        end = text.run(line, usize::MAX, is_part);
    }
    Some(end)
}

/// A leaf: a PEM block (RFC 7468). Its two lines stay; without the second all that follows goes.
pub(super) fn pem_block(text: &Text, hit: Range<usize>, hidden: &mut Vec<Range<usize>>) -> usize {
    let is_label_byte = |byte: u8| byte.is_ascii_alphanumeric() || byte == b' ';
    let label = text.run(hit.end, LABEL_CHARS_MAX, is_label_byte);
    if !text.has(label, b"-----") {
        return hit.end;
    }
    let body = label + b"-----".len();
    let end = memmem::find(&text.small[body..], b"-----end").map_or(text.raw.len(), |n| body + n);
    text.look_at(end - body);
    let at = end - text.raw[body..end].trim_ascii_start().len();
    let n_bytes = text.raw[body..end].trim_ascii().len();
    if n_bytes > 0 {
        hidden.push(at..at + n_bytes);
    }
    end
}

/// A leaf: the key of a storage account, 88 characters of Base64.
pub(super) fn storage_key(text: &Text, hit: Range<usize>, hidden: &mut Vec<Range<usize>>) -> usize {
    let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
    let end = hit.end - b"==".len();
    let start = key_start(text, end, STORAGE_KEY_CHARS, is_base64);
    let is_whole = !text.byte(hit.end).is_some_and(|byte| is_base64(byte) || byte == b'=');
    hidden.extend(start.filter(|_| is_whole).map(|start| start..hit.end));
    hit.end
}

/// Where a key of `n_chars` begins that ends at `end`, which may be in the line before; nothing if it
/// is part of something longer. A slash may be in front of it.
fn key_start(
    text: &Text,
    end: usize,
    n_chars: usize,
    is_part: impl Fn(u8) -> bool + Copy,
) -> Option<usize> {
    let start = text.run_back(end, n_chars + 1, is_part);
    match end - start {
        n if n > n_chars => (text.byte(start) == Some(b'/')).then_some(start + 1),
        n if n == n_chars => Some(start),
        n => {
            let line_end = text.line_before(start)?;
            let start = text.run_back(line_end, n_chars - n + 1, is_part);
            (line_end - start == n_chars - n).then_some(start)
        }
    }
}

/// A leaf: a client secret of Entra, 40 characters with a version in the fourth.
pub(super) fn client_secret(
    text: &Text,
    hit: Range<usize>,
    hidden: &mut Vec<Range<usize>>,
) -> usize {
    let is_part = |byte| is_base64url(byte) || byte == b'.' || byte == b'~';
    let (n_before, n_behind_min) = CLIENT_SECRET_CHARS;
    let start = text.run_back(hit.start, n_before, is_part);
    let mut end = text.run(hit.end, usize::MAX, is_part);
    let mut n_behind = end - hit.end;
    if let Some(line) = text.next_line(end).filter(|_| n_behind < n_behind_min) {
        end = text.run(line, usize::MAX, is_part);
        n_behind += end - line;
    }
    if text.raw[hit.start + 1] != b'Q' || hit.start - start < n_before || n_behind < n_behind_min {
        return hit.end;
    }
    hidden.push(start..end);
    end
}

/// A leaf: a key of a Functions app, which has `AzFu` in it so that it can be found.
pub(super) fn function_key(
    text: &Text,
    hit: Range<usize>,
    hidden: &mut Vec<Range<usize>>,
) -> usize {
    let is_part = |byte| is_base64url(byte) || byte == b'+' || byte == b'/';
    let (n_before, n_behind) = FUNCTION_KEY_CHARS;
    let start = text.run_back(hit.start, n_before, is_part);
    let end = text.run(hit.end, n_behind, is_part);
    if text.raw[hit.clone()] != *b"AzFu" || hit.start - start < n_before || end - hit.end < n_behind
    {
        return hit.end;
    }
    let end = text.run(end, b"==".len(), |byte| byte == b'=');
    hidden.push(start..end);
    end
}

fn is_base64url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}
