//! Secrets: values that cannot print, and how they are kept out of everything that does.
//!
//! ```text
//! a credential is obtained -> Secret (registered) -> expose(), where it is used
//! words we say -> redact: live values and shapes, in the text and in all it can be decoded to
//! words a program reads back -> never altered; not written if holds_credential
//! ```
//!
//! # Invariants
//! - A [`Secret`] is registered before anybody can use it, so nothing that is said later can hold it.
//! - Everything that is said passes [`redact`] once, where it leaves: in `telemetry` (log lines,
//!   errors, panics) or as a [`Said`] (answers, state documents).
//! - What the inventory holds is not said by us, and is never altered (contract, section 5).
//!
//! Start reading at [`redact`].

mod caller;
pub mod environment;
mod live;
#[cfg(test)]
mod matrix_tests;
mod registry;
mod said;
mod shapes;
mod views;

use std::borrow::Cow;
use std::ops::Range;

pub use caller::{CallerKeys, with_keys_of_caller};
pub use registry::{SECRETS_MAX, Secret, inherit};
pub use said::Said;

/// What is printed in a secret's place.
pub const REDACTED: &str = "[REDACTED]";

/// Shortest run of a secret's bytes that may not be printed (contract, section 7, promise 2). Of a
/// shorter secret the whole.
pub const RUN_BYTES: usize = 16;

/// Shortest value that is looked for: shorter ones would blank ordinary words.
pub const VALUE_BYTES_MIN: usize = 8;

/// How often text is decoded again: a JSON text in a JSON text in a form, and one more.
const DEPTH_MAX: usize = 4;

/// `text` with every secret in it replaced by [`REDACTED`]: values that are live, keys that the
/// caller of this request sent, and whatever has the shape of a secret.
pub fn redact(text: &str) -> Cow<'_, str> {
    let mut hidden = Vec::new();
    let known = registry::live();
    find(&known, text.as_bytes(), 0, &mut hidden);
    if hidden.is_empty() { Cow::Borrowed(text) } else { Cow::Owned(without(text, hidden)) }
}

/// Whether `bytes`, which a program reads back, hold a credential that this process obtained, in
/// any spelling. Values that were only inherited with the environment do not count: a filter may
/// hold the same words.
pub fn holds_credential(bytes: &[u8]) -> bool {
    let mut hidden = Vec::new();
    registry::live().find(bytes, live::Which::Obtained, &mut hidden);
    !hidden.is_empty()
}

/// Adds the ranges of `text` that hold a secret to `hidden`.
fn find(known: &live::Live, text: &[u8], depth: usize, hidden: &mut Vec<Range<usize>>) {
    known.find(text, live::Which::All, hidden);
    caller::find(text, hidden);
    shapes::find(text, hidden);
    if depth == DEPTH_MAX {
        return;
    }
    for view in views::of(text) {
        let mut inner = Vec::new();
        find(known, view.text(), depth + 1, &mut inner);
        hidden.extend(inner.into_iter().map(|range| view.origin(range)));
    }
}

/// `text` without the bytes that are `hidden`.
fn without(text: &str, mut hidden: Vec<Range<usize>>) -> String {
    hidden.sort_unstable_by_key(|range| range.start);
    let mut clean = String::with_capacity(text.len());
    let mut at = 0;
    for Range { mut start, mut end } in hidden {
        while !text.is_char_boundary(start) {
            start -= 1;
        }
        while !text.is_char_boundary(end) {
            end += 1;
        }
        if end <= at {
            continue;
        }
        if start > at || at == 0 {
            clean.push_str(&text[at..start.max(at)]);
            clean.push_str(REDACTED);
        }
        at = end;
    }
    clean.push_str(&text[at..]);
    clean
}
