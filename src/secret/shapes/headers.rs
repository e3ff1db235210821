//! Headers that carry credentials: schemes, `Authorization` and cookies.

use std::ops::Range;

use super::names;
use super::text::Text;
use super::values::{self, Start, bare_end};
use crate::secret::VALUE_BYTES_MIN;

/// Schemes of `Authorization` (IANA, "HTTP Authentication Scheme Registry", and Azure's), in small
/// letters.
const SCHEMES: &[&[u8]] = &[
    b"bearer",
    b"basic",
    b"digest",
    b"dpop",
    b"hoba",
    b"mutual",
    b"negotiate",
    b"ntlm",
    b"oauth",
    b"privatetoken",
    b"scram-sha-1",
    b"scram-sha-256",
    b"vapid",
    b"gnap",
    b"token",
    b"apikey",
    b"sharedkey",
    b"sharedkeylite",
    b"sharedaccesssignature",
    b"hmac-sha256",
    b"aws4-hmac-sha256",
];

/// How much of a scheme or of credentials is looked at.
const LOOK_BYTES: usize = 64;

/// How many cookies of a header are looked at. Browsers send 180 to a domain.
const COOKIES_MAX: usize = 256;

/// Longest date of a cookie: `Expires=Wed, 21 Oct 2026 07:28:00 GMT`.
const DATE_BYTES_MAX: usize = 40;

/// What a server says of a cookie, in small letters (RFC 6265, section 4.1).
const ATTRIBUTES: &[&[u8]] =
    &[b"expires", b"max-age", b"domain", b"path", b"samesite", b"priority", b"version"];

/// Attributes without a value.
const FLAGS: &[&[u8]] = &[b"secure", b"httponly", b"partitioned"];

/// A leaf: a scheme, wherever it is, and credentials behind it.
pub(super) fn scheme(text: &Text, hit: Range<usize>, hidden: &mut Vec<Range<usize>>) -> usize {
    let is_word = !text.byte_before(hit.start).is_some_and(|byte| byte.is_ascii_alphanumeric());
    let word = hit.start..text.run(hit.end, LOOK_BYTES, |byte| byte.is_ascii_alphabetic());
    let found = gap(text, word.end).filter(|_| is_word && SCHEMES.contains(&&text.small[word]));
    match found {
        Some(at) => credentials(text, at, false, hidden).unwrap_or(hit.end),
        None => values::named(text, hit, hidden),
    }
}

/// Hides the credentials of an `Authorization` that starts at `start`; its scheme stays. Gives the
/// end.
pub(super) fn authorization(
    text: &Text,
    start: &Start,
    hidden: &mut Vec<Range<usize>>,
) -> Option<usize> {
    let word = start.at..bare_end(text, start.at, LOOK_BYTES);
    let first = &text.raw[word.clone()];
    let is_scheme = SCHEMES.contains(&&text.small[word.clone()]);
    let reads = values::reads_as_words(first);
    if first.is_empty() || values::is_placeholder(first) || text.has(start.at, b"[redacted]") {
        return None;
    }
    match gap(text, word.end) {
        Some(at) if is_scheme || reads => match start.quote {
            Some(_) => {
                let second = &text.raw[at..bare_end(text, at, LOOK_BYTES)];
                let is_said =
                    text.has(at, b"[redacted]") || (!is_scheme && values::reads_as_words(second));
                let rest = start.behind(behind_account(text, at));
                (!is_said).then(|| values::hide(text, &rest, hidden))
            }
            None => credentials(text, at, is_scheme, hidden),
        },
        _ if is_scheme || (reads && start.may_be_prose) => None,
        _ => {
            let end = values::hide(text, start, hidden);
            let at = gap(text, end).filter(|_| start.quote.is_none());
            // What was hidden may have been a scheme that nobody knows.
            at.and_then(|at| credentials(text, at, false, hidden)).or(Some(end))
        }
    }
}

/// Hides the credentials at `at`, unless they read as words of a sentence or are parameters, which
/// have names. Gives their end.
fn credentials(
    text: &Text,
    at: usize,
    is_header: bool,
    hidden: &mut Vec<Range<usize>>,
) -> Option<usize> {
    let at = behind_account(text, at);
    let end = bare_end(text, at, LOOK_BYTES);
    let word = &text.raw[at..end];
    let is_said = match is_header {
        true => values::reads_as_words(word) && values::is_in_sentence(text, end),
        false => word.len() < VALUE_BYTES_MIN || values::reads_as_words(values::without_stop(word)),
    };
    if word.is_empty() || is_said || names::is_pair(text, at, false) || text.has(at, b"[redacted]")
    {
        return None;
    }
    Some(values::hide(text, &Start::bare(at, names::Means::Secret), hidden))
}

/// Where a signature begins, if it is behind the name of an account: `SharedKey account:signature`.
fn behind_account(text: &Text, at: usize) -> usize {
    let end = text.run(at, LOOK_BYTES, |byte| byte.is_ascii_alphanumeric());
    if end > at && text.byte(end) == Some(b':') { end + 1 } else { at }
}

/// Where credentials begin, if a scheme ends at `at`: behind spaces, as `+` in a form, or in the next
/// line; and behind a quote.
fn gap(text: &Text, at: usize) -> Option<usize> {
    let spaces = text.skip_spaces(at);
    let start = match text.next_line(spaces) {
        Some(line) => values::goes_on(text, line, None).then_some(line)?,
        None if spaces > at => spaces,
        None => (text.byte(at) == Some(b'+')).then_some(at + 1)?,
    };
    Some(text.run(start, 1, |byte| byte == b'"' || byte == b'\''))
}

/// Hides the values of the cookies that start at `start`; names and attributes stay. Gives the end.
pub(super) fn cookies(text: &Text, start: &Start, hidden: &mut Vec<Range<usize>>) -> Option<usize> {
    let (mut at, mut found) = (start.at, None);
    for n in 0..COOKIES_MAX {
        let name = at..text.run(at, LOOK_BYTES, names::is_name_byte);
        let is_named = text.byte(name.end) == Some(b'=');
        let value = if is_named { name.end + 1 } else { at };
        let look = &text.raw[value..bare_end(text, value, LOOK_BYTES)];
        let small = &text.small[name.clone()];
        let is_said = match is_named {
            true => ATTRIBUTES.contains(&small),
            // Not a cookie, but what is in its place.
            false => n > 0 || (start.may_be_prose && values::reads_as_words(look)),
        };
        let is_shown = is_said || values::is_placeholder(look) || text.has(value, b"[redacted]");
        let mut end = match look.is_empty() || is_shown {
            true if is_named || FLAGS.contains(&small) => bare_end(text, value, LOOK_BYTES),
            true => break,
            false => {
                let end = values::hide(text, &Start::bare(value, start.means), hidden);
                found = Some(end);
                end
            }
        };
        if small == b"expires" {
            end = text.run(end, DATE_BYTES_MAX, |byte| {
                byte.is_ascii_alphanumeric() || b" ,:-".contains(&byte)
            });
        }
        if text.byte(end) != Some(b';') {
            break;
        }
        at = text.skip_spaces(end + 1);
    }
    found
}
