//! Secrets: values that cannot print, and how they are kept out of everything that does.
//!
//! ```text
//! a credential is obtained -> Secret (registered) -> expose(), where it is used
//! words we say -> redact: live values and shapes, in the text and in all it can be decoded to
//! words a program reads back -> never altered; not written if holds_credential
//! ```
//!
//! How words are redacted:
//!
//! ```text
//! text -> live, caller, shapes: which ranges hold a secret
//!      -> views, embedded: what it can be decoded to, and the same again for each, a few times
//!      -> replace: [REDACTED] in place of all ranges
//! ```
//!
//! # Invariants
//! - A [`Secret`] is registered before anybody can use it, so nothing that is said later can hold it.
//! - Everything that is said passes [`redact`] where it leaves: in `telemetry` (log lines, errors,
//!   panics) or as a [`Said`] (answers, state documents). Before that it passes where it is cut or its
//!   lines are joined, since what is left of a secret then could not be told. Twice is the same as once.
//! - What the inventory holds is not said by us, and is never altered (contract, section 5).
//!
//! Start reading at [`redact`].

#![cfg_attr(
    test,
    expect(
        clippy::unwrap_used,
        clippy::single_range_in_vec_init,
        reason = "a test that cannot go on should say where, and what is hidden may be one range"
    )
)]

mod caller;
mod embedded;
pub mod environment;
mod escapes;
mod index;
mod live;
#[cfg(test)]
mod matrix_tests;
mod registry;
mod replace;
mod said;
mod sextets;
mod shapes;
#[cfg(test)]
mod spellings;
#[cfg(test)]
mod tests;
mod views;

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hasher};
use std::ops::Range;

use live::{Live, Which};
use views::View;

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

/// How often text is decoded again. The deepest that was ever seen is a form in a JSON text in a JSON
/// string in a JSON string; one more, and one for line breaks.
const DEPTH_MAX: usize = 6;

/// How often a text is looked through in which something was found: a value in the midst of a shape may
/// have kept that from being seen.
const ROUNDS_MAX: usize = 4;

/// How much is decoded for a text, all views together, in bytes: so many times its own length, and so
/// many for the shortest. A log line with every sort of escape in it takes about eight times its length.
const WORK_PER_BYTE: usize = 16;
const WORK_BYTES_MIN: usize = 128 << 10;

/// What one view costs whatever its length, in bytes.
const WORK_PER_VIEW: usize = 64;

/// `text` with every secret in it replaced by [`REDACTED`]: values that are live, keys that the
/// caller of this request sent, and whatever has the shape of a secret.
///
/// All else stays as it is, and a JSON document stays one. A value of [`VALUE_BYTES_MIN`] to
/// [`RUN_BYTES`] bytes is replaced wherever it stands: whoever gives a secret the value `password` or
/// `00000000` finds these replaced everywhere. Of longer ones every run of [`RUN_BYTES`] is; of one that
/// repeats eight bytes very often, these too.
pub fn redact(text: &str) -> Cow<'_, str> {
    redact_with(&registry::live(), text)
}

/// `text` of a stored document, redacted like all others but for keys of the caller: it is the same for
/// all callers.
fn redact_stored(text: &str) -> Cow<'_, str> {
    caller::without_keys(|| redact(text))
}

fn redact_with<'a>(known: &Live, text: &'a str) -> Cow<'a, str> {
    let look = |text: &[u8], hidden: &mut Vec<Range<usize>>| {
        known.find(text, Which::All, hidden);
        caller::find(text, hidden);
        shapes::find(text, hidden);
    };
    let mut said = Cow::Borrowed(text);
    for _ in 0..ROUNDS_MAX {
        // Nothing that we say is too deep to be looked at. What was not looked at is not said either.
        let hidden = Search::new(&look, TooDeep::Hidden, said.len()).all(said.as_bytes());
        if hidden.is_empty() {
            break;
        }
        let clean = replace::without(&said, &hidden);
        // What was hidden before has the shape of a secret itself.
        if clean == *said {
            break;
        }
        said = Cow::Owned(clean);
    }
    said
}

/// Whether `bytes`, which a program reads back, hold a credential that this process obtained, in
/// any spelling. Values that were only inherited with the environment do not count: a filter may
/// hold the same words.
pub fn holds_credential(bytes: &[u8]) -> bool {
    is_credential_in(&registry::live(), bytes)
}

fn is_credential_in(known: &Live, bytes: &[u8]) -> bool {
    let look = |text: &[u8], hidden: &mut Vec<Range<usize>>| {
        known.find(text, Which::Obtained, hidden);
    };
    // A filter may be escaped without end and still be one.
    !Search::new(&look, TooDeep::Passed, bytes.len()).all(bytes).is_empty()
}

/// What becomes of what would take too long to be decoded.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TooDeep {
    /// It is hidden as a whole.
    Hidden,
    /// It counts as it stands.
    Passed,
}

/// Looks through a text and through all that it can be decoded to.
struct Search<'a, F> {
    /// Adds the ranges of a text that hold a secret.
    look: &'a F,
    too_deep: TooDeep,
    /// How many bytes may still be decoded.
    work_left: usize,
}

impl<'a, F: Fn(&[u8], &mut Vec<Range<usize>>)> Search<'a, F> {
    fn new(look: &'a F, too_deep: TooDeep, text_bytes: usize) -> Self {
        Self { look, too_deep, work_left: WORK_BYTES_MIN + WORK_PER_BYTE * text_bytes }
    }

    /// The ranges of `text` that hold a secret, in order.
    fn all(mut self, text: &[u8]) -> Vec<Range<usize>> {
        self.within(text, |_| true, 0, &mut Vec::new())
    }

    /// The ranges of `text` that hold a secret, in order. It was decoded `depth` times; `is_new` tells
    /// which ranges of it are not as they were before. `seen` are hashes of this text and of others that
    /// came out of the same by decoding escapes.
    fn within(
        &mut self,
        text: &[u8],
        is_new: impl Fn(&Range<usize>) -> bool,
        depth: usize,
        seen: &mut Vec<u64>,
    ) -> Vec<Range<usize>> {
        let mut hidden = Vec::new();
        (self.look)(text, &mut hidden);
        if depth < DEPTH_MAX {
            let views: Vec<View> = views::unescaped(text).collect();
            // Nothing comes out twice where there is only one way.
            let is_only = views.len() == 1 && seen.is_empty();
            for view in views {
                // Else it may have: two sorts of escapes decoded in the other order.
                if is_only || is_first(view.text(), seen) {
                    hidden.extend(self.within_view(&view, text, depth, seen));
                }
            }
            for view in embedded::find(text, is_new) {
                hidden.extend(self.within_view(&view, text, depth, &mut Vec::new()));
            }
        }
        // Merged first: there may be one at every byte.
        let hidden = replace::merged(hidden).into_iter();
        replace::merged(hidden.map(|range| escapes::whole(text, &range)).collect())
    }

    /// The ranges of `text` that hold a secret as `view` shows it.
    fn within_view(
        &mut self,
        view: &View,
        text: &[u8],
        depth: usize,
        seen: &mut Vec<u64>,
    ) -> Vec<Range<usize>> {
        let Some(left) = self.work_left.checked_sub(view.text().len() + WORK_PER_VIEW) else {
            let all = (self.too_deep == TooDeep::Hidden).then_some(0..text.len());
            return all.into_iter().collect();
        };
        self.work_left = left;
        let is_new = |range: &Range<usize>| !view.is_verbatim(range);
        let hidden = self.within(view.text(), is_new, depth + 1, seen);
        hidden.iter().map(|range| view.origin(range)).collect()
    }
}

/// Whether `text` was not `seen` before; from now on it was.
fn is_first(text: &[u8], seen: &mut Vec<u64>) -> bool {
    let mut hasher = DefaultHasher::new();
    hasher.write(text);
    let hash = hasher.finish();
    let is_first = !seen.contains(&hash);
    if is_first {
        seen.push(hash);
    }
    is_first
}
