//! What stands behind a name: `name=value`, `"name": "value"`, `<name>value</name>` and the like.
//!
//! `name -> separator -> where a value starts -> does it look like a secret -> where it ends`
//!
//! Whether a value is secret is told from its first [`LOOK_BYTES`], so that a long one is walked only
//! if it is hidden.

use std::ops::Range;

use super::headers;
use super::names::{self, Means};
use super::text::Text;
use crate::secret::{RUN_BYTES, VALUE_BYTES_MIN};

/// How much of a value is looked at to tell whether it is secret.
const LOOK_BYTES: usize = 64;

/// How many quotes and backslashes may close or open a name or value: JSON in JSON, four deep.
const QUOTES_MAX: usize = 20;

/// Over how many lines a value without quotes goes on: a token of 5 KiB at 76 characters a line.
const LINES_MAX: usize = 64;

/// Longest thing that is taken for a word.
const WORD_BYTES_MAX: usize = 40;

/// What is written in a value's place if there is none, or none to be shown.
const PLACEHOLDERS: &[&str] = &[
    "none",
    "null",
    "nil",
    "undefined",
    "unset",
    "empty",
    "true",
    "false",
    "redacted",
    "sensitive",
    "hidden",
];

/// Beginnings of values that somebody else looks after, or that say where a secret is.
const NOT_SECRET: &[&str] = &["http://", "https://", "-----begin ", "@microsoft.keyvault("];

/// A leaf: a name that may be one of a secret, and what is behind it.
pub(super) fn named(text: &Text, hit: Range<usize>, hidden: &mut Vec<Range<usize>>) -> usize {
    let name = names::start(text, hit.start, true)..names::end(text, hit.end);
    let Some(first) = behind(text, &name) else { return hit.end };
    let Some(means) = names::meaning(&text.raw[name.clone()]) else { return hit.end };
    let hide = match means {
        Means::Authorization => headers::authorization,
        Means::Cookie => headers::cookies,
        _ => hide_value,
    };
    // The working directory, in an environment.
    if text.small[name].ends_with(b"pwd") && text.byte(first.at) == Some(b'/') {
        return hit.end;
    }
    let mut start = Start { means, ..first };
    let mut at = start.at;
    // Bounded by the text: each element is behind the one before it.
    while let Some(end) = hide(text, &start, hidden) {
        at = end;
        let Some(next) = start.next_element(text, end) else { break };
        start = next;
    }
    at
}

/// A leaf: `code`, which is an authorization code or a function's key as a parameter of a query, and
/// what went wrong anywhere else.
pub(super) fn code(text: &Text, hit: Range<usize>, hidden: &mut Vec<Range<usize>>) -> usize {
    let start = Start::bare(hit.end, Means::Secret);
    hide_value(text, &start, hidden).unwrap_or(hit.end)
}

/// Where a value starts, and how.
#[derive(Debug, Clone)]
pub(super) struct Start {
    /// Its first byte, behind quotes.
    pub at: usize,
    /// What opened it, if quotes did.
    pub quote: Option<Quote>,
    /// What its name says.
    pub means: Means,
    /// Whether prose may look like this: white space between name and value, no quotes at the name.
    pub may_be_prose: bool,
    /// Whether it is an element of a list.
    is_element: bool,
}

/// A quotation mark, and how many backslashes are in front of it: none, or one less than a power of
/// two in text that was escaped.
#[derive(Debug, Clone, Copy)]
pub(super) struct Quote {
    mark: u8,
    n_backslashes: usize,
}

impl Start {
    /// A value without quotes.
    pub fn bare(at: usize, means: Means) -> Self {
        Self { at, quote: None, means, may_be_prose: false, is_element: false }
    }

    /// The same value from `at` on.
    pub fn behind(&self, at: usize) -> Self {
        Self { at, ..self.clone() }
    }

    /// Where the value ends, or `max` bytes of it.
    pub fn end(&self, text: &Text, max: usize) -> usize {
        match self.quote {
            Some(quote) => quoted_end(text, self.at, quote, max),
            None => bare_end(text, self.at, max),
        }
    }

    /// Where the next element starts, if this is one and its value ended at `end`.
    fn next_element(&self, text: &Text, end: usize) -> Option<Self> {
        let close = text.run(end, QUOTES_MAX, is_quote_byte);
        let comma = self.is_element.then(|| text.skip_spaces(close))?;
        let at = (text.byte(comma) == Some(b',')).then(|| skip_gap(text, comma + 1))?;
        let (at, quote) = opening(text, at)?;
        Some(Self { at, quote: Some(quote), ..self.clone() })
    }
}

/// Where the value of `name` starts, if one follows.
fn behind(text: &Text, name: &Range<usize>) -> Option<Start> {
    // Of a form's or a map's field too: `headers["cookie"]`.
    let close = text.run(name.end, QUOTES_MAX, |byte| is_quote_byte(byte) || byte == b']');
    let at = text.skip_spaces(close);
    let is_open = close == name.end;
    let value = match (text.byte(at)?, text.byte(at + 1)) {
        (b'=', Some(b'=')) | (b':', Some(b':')) => return None,
        (b':', Some(b'/')) if text.byte(at + 2) == Some(b'/') => return None,
        (b'=', Some(b'>')) | (b':', Some(b'=')) => at + 2,
        (b'=' | b':', _) => at + 1,
        (b'>', _) if is_open && is_element_of_xml(text, name) => at + 1,
        (b',', _) if !is_open && is_in_pair(text, name) => at + 1,
        _ if is_open && at == name.end + 1 && is_option(text, name) => at,
        _ => return None,
    };
    let is_spaced = at > close || matches!(text.byte(value), Some(b' ' | b'\t'));
    let mut at = text.skip_spaces(value);
    // A block of YAML.
    let block = text.run(at, 2, |byte| b"|>-".contains(&byte));
    at = if text.next_line(block).is_some() { block } else { at };
    if let Some(next) = text.next_line(at) {
        at = Some(next).filter(|next| goes_on(text, *next, None))?;
    }
    for wrapper in [&b"some("[..], b"ok("] {
        at += if text.has(at, wrapper) { wrapper.len() } else { 0 };
    }
    let list = skip_gap(text, at + 1);
    let is_element = text.byte(at) == Some(b'[') && opening(text, list).is_some();
    let at = if is_element { list } else { at };
    let (at, quote) = opening(text, at).map_or((at, None), |(at, quote)| (at, Some(quote)));
    let may_be_prose = is_spaced && is_open && quote.is_none_or(|quote| quote.mark != b'"');
    Some(Start { at, quote, means: Means::Secret, may_be_prose, is_element })
}

/// Whether `name` stands in angle brackets.
fn is_element_of_xml(text: &Text, name: &Range<usize>) -> bool {
    matches!(text.byte_before(names::start(text, name.end, false)), Some(b'<' | b':'))
}

/// Whether `name` is the first of a pair, as Rust prints one: `("name", "value")`.
fn is_in_pair(text: &Text, name: &Range<usize>) -> bool {
    let start = text.run_back(name.start, QUOTES_MAX, is_quote_byte);
    start < name.start && text.byte_before(start) == Some(b'(')
}

/// Whether `name` is an option of a command: `--name value`.
fn is_option(text: &Text, name: &Range<usize>) -> bool {
    text.has(names::start(text, name.end, false), b"--") && text.byte(name.end + 1) != Some(b'-')
}

/// Adds the value that starts at `start` to what is hidden, unless it is no secret. Gives its end.
fn hide_value(text: &Text, start: &Start, hidden: &mut Vec<Range<usize>>) -> Option<usize> {
    let looked_at = start.at..start.end(text, LOOK_BYTES);
    is_secret(text, start, looked_at).then(|| hide(text, start, hidden))
}

/// Adds all of the value that starts at `start` to what is hidden. Gives its end.
pub(super) fn hide(text: &Text, start: &Start, hidden: &mut Vec<Range<usize>>) -> usize {
    let end = over_lines(text, start.end(text, usize::MAX), start.quote);
    hidden.push(start.at..end);
    end
}

/// Whether the value that starts at `start`, of which `looked_at` was looked at, is secret.
fn is_secret(text: &Text, start: &Start, looked_at: Range<usize>) -> bool {
    let is_elsewhere = NOT_SECRET.iter().any(|word| text.has(start.at, word.as_bytes()));
    let word = without_stop(&text.raw[looked_at.clone()]);
    if word.is_empty() || is_placeholder(word) || is_elsewhere || text.is_redacted(start.at) {
        return false;
    }
    match start.means {
        Means::SecretIfRandom => looks_random(word, RUN_BYTES),
        // Its parts have names of their own.
        Means::ConnectionString if has_parts(text, start.at) => false,
        Means::Signature if is_query(text, start.at) => false,
        Means::Password => {
            let is_said = reads_as_words(word) && is_in_sentence(text, looked_at.end);
            !(start.may_be_prose && is_said)
        }
        // A status, or how many there are.
        _ if word.len() <= 3 && word.iter().all(u8::is_ascii_digit) => false,
        _ => !(start.may_be_prose && (reads_as_words(word) || names_something(word))),
    }
}

/// Where a value without quotes ends that starts at `at`, or `max` bytes of it.
///
/// White space and double quotes end it. What may be part of a password ends it only if something
/// follows that shows that it is not: `(secret=a),b` is one value, `(secret=a), b=1` is not.
pub(super) fn bare_end(text: &Text, at: usize, max: usize) -> usize {
    let limit = text.raw.len().min(at.saturating_add(max));
    let ends = |at: &usize| match text.raw[*at] {
        b'"' | b'<' | b' ' => true,
        b'\\' => text.byte(at + 1).is_none_or(|byte| b"\"'\\/bfnrtux0".contains(&byte)),
        b')' | b']' | b'}' | b'>' | b'\'' | b'`' | b'|' => is_end(text, at + 1),
        b',' => is_end(text, at + 1) || names::is_pair(text, at + 1, false),
        b';' => is_end(text, at + 1) || names::is_pair(text, at + 1, true),
        b'&' => is_end(text, at + 1) || is_parameter(text, at + 1),
        byte => byte.is_ascii_control(),
    };
    let end = (at..limit).find(ends).unwrap_or(limit);
    text.look_at(end - at + 1);
    end
}

/// Whether nothing of a value is at `at`, but white space, quotes and what closes.
fn is_end(text: &Text, at: usize) -> bool {
    text.byte(at).is_none_or(|byte| {
        byte.is_ascii_whitespace() || b"\"'`\\)]}>|,;&<".contains(&byte) || byte.is_ascii_control()
    })
}

/// Whether a connection string's first pair is at `at`, or a URL.
fn has_parts(text: &Text, at: usize) -> bool {
    names::is_pair(text, at, true) || text.has(names::end(text, at), b"://")
}

/// Whether a query with a signature is at `at`: its names are short, `sv` and `sig` among them.
fn is_query(text: &Text, at: usize) -> bool {
    let at = text.run(at, 1, |byte| byte == b'?');
    let end = text.run(at, 3, |byte| byte.is_ascii_alphabetic());
    end > at && text.byte(end) == Some(b'=') && !is_end(text, end + 1)
}

/// Whether a parameter is at `at`, behind `&` or what stands for it in HTML.
fn is_parameter(text: &Text, at: usize) -> bool {
    let end = names::end(text, at);
    end > at && matches!(text.byte(end), Some(b'=' | b';'))
}

/// Where a value in quotes ends that starts at `at`, or `max` bytes of it: with its line, if nothing
/// closes it there.
fn quoted_end(text: &Text, at: usize, quote: Quote, max: usize) -> usize {
    let Quote { mark, n_backslashes } = quote;
    let mut n_before = 0;
    let n_max = text.raw.len().min(at.saturating_add(max)) - at;
    for (n, &byte) in text.raw[at..at + n_max].iter().enumerate() {
        // Deeper quotes have more backslashes, and an escaped backslash is as many again.
        let n_deeper = 2 * (n_backslashes + 1);
        if byte == b'\n' {
            text.look_at(n);
            return unclosed_end(text, at, n, quote, max);
        }
        if byte == mark && (n_before < n_backslashes || n_before % n_deeper == n_backslashes) {
            text.look_at(n);
            return at + n - n_before.min(n_backslashes);
        }
        n_before = if byte == b'\\' { n_before + 1 } else { 0 };
    }
    text.look_at(n_max);
    unclosed_end(text, at, n_max, quote, max)
}

/// Where a value ends that nothing closes in the `n` bytes from `at` on: there, or as one without
/// quotes if it was an apostrophe that seemed to open it.
fn unclosed_end(text: &Text, at: usize, n: usize, quote: Quote, max: usize) -> usize {
    if quote.mark == b'"' || n == max { at + n } else { bare_end(text, at, max) }
}

/// Where the value ends whose line ends at `end`: it may go on in the lines behind.
pub(super) fn over_lines(text: &Text, mut end: usize, quote: Option<Quote>) -> usize {
    for _ in 0..LINES_MAX {
        let Some(next) = text.next_line(end) else { break };
        if !goes_on(text, next, quote) {
            break;
        }
        end = bare_end(text, next, usize::MAX);
    }
    end
}

/// Whether a value goes on at `at`, where a line begins: with something random that is no name, or up
/// to the quotes that close it.
pub(super) fn goes_on(text: &Text, at: usize, quote: Option<Quote>) -> bool {
    let end = bare_end(text, at, usize::MAX);
    let word = &text.raw[at..end];
    let close = text.run(end, QUOTES_MAX, |byte| byte == b'\\');
    let is_closed =
        quote.is_some_and(|quote| text.byte(close) == Some(quote.mark) && is_end(text, close + 1));
    let is_random = looks_random(word, VALUE_BYTES_MIN) && !is_numeric(word);
    is_closed || (is_random && !names::is_pair(text, at, false))
}

/// Where spaces and one end of a line end, from `at` on.
fn skip_gap(text: &Text, at: usize) -> usize {
    let at = text.skip_spaces(at);
    text.next_line(at).unwrap_or(at)
}

/// Where what is in quotes begins, and the quotes, if there are some at `at`.
fn opening(text: &Text, at: usize) -> Option<(usize, Quote)> {
    let mark = text.run(at, QUOTES_MAX, |byte| byte == b'\\');
    let byte = text.byte(mark).filter(|byte| matches!(byte, b'"' | b'\'' | b'`'))?;
    Some((mark + 1, Quote { mark: byte, n_backslashes: mark - at }))
}

fn is_quote_byte(byte: u8) -> bool {
    matches!(byte, b'"' | b'\'' | b'`' | b'\\')
}

/// `word` without what ends a sentence or its part.
pub(super) fn without_stop(word: &[u8]) -> &[u8] {
    let end = word.iter().rposition(|byte| !b".,:;!?".contains(byte)).map_or(0, |last| last + 1);
    &word[..end]
}

/// Whether `word` is written where there is no secret to be shown, as a variable of a shell is, or
/// where something with parts begins.
pub(super) fn is_placeholder(word: &[u8]) -> bool {
    let is_variable =
        |name: &[u8]| name.iter().all(|byte| byte.is_ascii_uppercase() || *byte == b'_');
    word.strip_prefix(b"$").is_some_and(is_variable)
        || PLACEHOLDERS.iter().any(|placeholder| word.eq_ignore_ascii_case(placeholder.as_bytes()))
        || word.iter().all(|byte| b"*.-x{}[]()".contains(byte))
}

/// Whether prose goes on behind a word that ends at `end`.
pub(super) fn is_in_sentence(text: &Text, end: usize) -> bool {
    text.byte(end) == Some(b' ')
        && text.byte(end + 1).is_some_and(|byte| byte.is_ascii_alphabetic())
}

/// Whether `word` has at least `bytes_min` bytes, letters among them, and something else that is not
/// in words: digits, signs, or large and small letters without order.
pub(super) fn looks_random(word: &[u8], bytes_min: usize) -> bool {
    let is_odd = |byte: &u8| {
        byte.is_ascii_digit() || (byte.is_ascii_punctuation() && !b"-_./:,'()".contains(byte))
    };
    word.len() >= bytes_min
        && word.iter().any(u8::is_ascii_alphabetic)
        && !word.contains(&b' ')
        && (word.iter().any(is_odd) || has_humps(word))
}

/// Whether there are more large letters behind small ones, or among all, than in `NamesOfThisKind`:
/// of random letters every fourth pair is one, and half are large.
fn has_humps(word: &[u8]) -> bool {
    let is_hump = |pair: &&[u8]| pair[0].is_ascii_lowercase() && pair[1].is_ascii_uppercase();
    let n_humps = word.windows(2).filter(is_hump).count();
    let n_letters = word.iter().filter(|byte| byte.is_ascii_alphabetic()).count();
    let n_large = word.iter().filter(|byte| byte.is_ascii_uppercase()).count();
    let is_half =
        n_letters >= VALUE_BYTES_MIN && (n_letters < 4 * n_large && 4 * n_large < 3 * n_letters);
    5 * n_humps > word.len() || (n_humps > 0 && is_half)
}

/// Whether `word` is a word, or some that belong together: `client-secret`, `AuthorizationFailed`.
pub(super) fn reads_as_words(word: &[u8]) -> bool {
    word.len() <= WORD_BYTES_MAX
        && word.iter().all(|byte| byte.is_ascii_alphabetic() || b"-_./'".contains(byte))
        && !has_humps(word)
}

/// Whether `word` is a host, an address, a time or one of Entra's codes.
fn names_something(word: &[u8]) -> bool {
    let host = word.split(|byte| *byte == b':').next().unwrap_or_default();
    let labels: Vec<&[u8]> = host.split(|byte| *byte == b'.').collect();
    let is_label_byte =
        |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    let is_host = labels.len() > 1
        && labels.iter().all(|label| !label.is_empty() && label.iter().all(is_label_byte))
        && labels.last().is_some_and(|last| last.iter().all(u8::is_ascii_lowercase));
    is_host || is_numeric(word) || word.starts_with(b"AADSTS")
}

/// Whether `word` is a number, an address or a time.
fn is_numeric(word: &[u8]) -> bool {
    word.iter().all(|byte| byte.is_ascii_digit() || b".:-/TZ+".contains(byte))
        && word.iter().any(u8::is_ascii_digit)
        && word.iter().any(|byte| b".:-/".contains(byte))
}
