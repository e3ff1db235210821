//! Headers that carry credentials: schemes, `Authorization` and cookies.

use std::ops::Range;

use super::names;
use super::text::Text;
use super::values::{self, Start, bare_end};
use crate::secret::{REDACTED, VALUE_BYTES_MIN};

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

/// Longest name of a storage account.
const ACCOUNT_CHARS_MAX: usize = 24;

/// How many cookies of a header are looked at. Browsers send 180 to a domain.
const COOKIES_MAX: usize = 256;

/// Longest date of a cookie: `Expires=Wed, 21 Oct 2026 07:28:00 GMT`.
const DATE_BYTES_MAX: usize = 40;

/// What a server says of a cookie, in small letters (RFC 6265, section 4.1).
const ATTRIBUTES: &[&[u8]] =
    &[b"expires", b"max-age", b"domain", b"path", b"samesite", b"priority", b"version"];

/// A leaf: a scheme, wherever it is, and credentials behind it.
pub(super) fn scheme(text: &Text, hit: Range<usize>, hidden: &mut Vec<Range<usize>>) -> usize {
    let is_word = !text.byte_before(hit.start).is_some_and(|byte| byte.is_ascii_alphanumeric());
    let word = hit.start..text.run(hit.end, LOOK_BYTES, |byte| byte.is_ascii_alphabetic());
    let scheme = &text.small[word.clone()];
    match gap(text, word.end).filter(|_| is_word && SCHEMES.contains(&scheme)) {
        Some(at) => {
            let at = behind_account(text, scheme, at);
            credentials(text, at, false, hidden).unwrap_or(hit.end)
        }
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
    let scheme = &text.small[word.clone()];
    let is_scheme = SCHEMES.contains(&scheme);
    let reads = values::reads_as_words(first);
    if first.is_empty() || values::is_placeholder(first) || text.is_redacted(start.at) {
        return None;
    }
    let rest = gap(text, word.end).map(|at| behind_account(text, scheme, at));
    match (rest, start.quote) {
        (Some(at), None) if is_scheme || reads => credentials(text, at, is_scheme, hidden),
        (Some(at), Some(_)) if is_scheme || reads => {
            let second = &text.raw[at..bare_end(text, at, LOOK_BYTES)];
            let is_said = text.is_redacted(at) || (!is_scheme && values::reads_as_words(second));
            (!is_said).then(|| values::hide(text, &start.behind(at), hidden))
        }
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
    let end = bare_end(text, at, LOOK_BYTES);
    let word = &text.raw[at..end];
    let is_said = match is_header {
        true => values::reads_as_words(word) && values::is_in_sentence(text, end),
        false => word.len() < VALUE_BYTES_MIN || values::reads_as_words(values::without_stop(word)),
    };
    let name = &text.raw[at..names::end(text, at)];
    let is_parameter = names::is_pair(text, at, false) && values::reads_as_words(name);
    if word.is_empty() || is_said || is_parameter || text.is_redacted(at) {
        return None;
    }
    Some(values::hide(text, &Start::bare(at, names::Means::Secret), hidden))
}

/// Where the signature begins of what `scheme` has at `at`: `SharedKey account:signature`.
fn behind_account(text: &Text, scheme: &[u8], at: usize) -> usize {
    let end = text.run(at, ACCOUNT_CHARS_MAX, |byte| byte.is_ascii_alphanumeric());
    let has_account = scheme.starts_with(b"sharedkey") && text.byte(end) == Some(b':');
    if has_account { end + 1 } else { at }
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
    let n_hidden = hidden.len();
    let mut at = start.at;
    for n in 0..COOKIES_MAX {
        let name = at..text.run(at, LOOK_BYTES, names::is_name_byte);
        let is_named = text.byte(name.end) == Some(b'=');
        let value = if is_named { name.end + 1 } else { at };
        let look = &text.raw[value..bare_end(text, value, LOOK_BYTES)];
        let word = values::without_stop(look);
        let small = &text.small[name];
        let is_shown = match is_named {
            true => ATTRIBUTES.contains(&small),
            // A flag, or what is in a cookie's place, as in `cookies: 4`.
            false => {
                let is_number = look.iter().all(u8::is_ascii_digit);
                (n > 0 || start.may_be_prose) && (is_number || values::reads_as_words(word))
            }
        };
        let is_shown = look.is_empty() || is_shown || values::is_placeholder(look);
        at = match text.is_redacted(value) {
            true => value + REDACTED.len(),
            false if is_shown => value + look.len(),
            false => values::hide(text, &Start::bare(value, start.means), hidden),
        };
        if small == b"expires" {
            let is_date_byte = |byte: u8| byte.is_ascii_alphanumeric() || b" ,:-".contains(&byte);
            at = text.run(at, DATE_BYTES_MAX, is_date_byte);
        }
        if text.byte(at) != Some(b';') {
            break;
        }
        at = text.skip_spaces(at + 1);
    }
    (hidden.len() > n_hidden).then_some(at)
}
