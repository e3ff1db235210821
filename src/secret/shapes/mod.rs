//! What has the shape of a secret, whoever's it is.
//!
//! `trigger words, all in one search -> the leaf of the word -> what it hides, and where to go on`
//!
//! # Invariants
//! - Only the secret is hidden: the name in front of it, its scheme and its host stay readable.
//! - Text is looked at as it stands. What it can be decoded to comes here again, as a view.
//! - Work is linear: a leaf looks back and ahead a bounded way, and further only over what it hides,
//!   behind which the search goes on.
//!
//! What is a secret by its name is in [`names`], by its looks in [`marks`]. Start reading at [`find`].

mod headers;
mod marks;
pub(super) mod names;
mod text;
mod url;
mod values;

#[cfg(test)]
mod corpus_tests;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind, Input, MatchKind};

use text::Text;

/// What looks at the text around a trigger word: adds what is secret to the ranges, and tells where
/// the search goes on, at the end of the trigger at least.
type Leaf = fn(&Text, Range<usize>, &mut Vec<Range<usize>>) -> usize;

/// Words without which there is no secret, in small letters.
///
/// From three bytes, and 48 at most: so many the vector instructions of x86-64 and aarch64 look for at
/// once (`aho_corasick::packed`), at about a nanosecond a byte.
const TRIGGERS: &[(&str, Leaf)] = &[
    ("secret", values::named),
    ("pass", values::named),
    ("pwd", values::named),
    ("token", values::named),
    ("key", values::named),
    ("sig", values::named),
    ("cookie", values::named),
    ("credential", values::named),
    ("authorization", values::named),
    ("assertion", values::named),
    ("verifier", values::named),
    ("connectionstr", values::named),
    ("connection_str", values::named),
    ("connection-str", values::named),
    ("connection str", values::named),
    ("identityheader", values::named),
    ("identity_header", values::named),
    ("identity-header", values::named),
    ("?code=", values::code),
    ("&code=", values::code),
    ("&amp;code=", values::code),
    ("bearer", headers::scheme),
    ("basic", headers::scheme),
    ("negotiate", headers::scheme),
    ("ntlm", headers::scheme),
    ("dpop", headers::scheme),
    ("sharedkey", headers::scheme),
    ("://", url::user_info),
    ("eyj", marks::json_web_token),
    ("-----begin ", marks::pem_block),
    // The last of 64 bytes leaves two bits for the last letter.
    ("a==", marks::storage_key),
    ("q==", marks::storage_key),
    ("g==", marks::storage_key),
    ("w==", marks::storage_key),
    ("7q~", marks::client_secret),
    ("8q~", marks::client_secret),
    ("azfu", marks::function_key),
];

static SEARCH: LazyLock<AhoCorasick> = LazyLock::new(|| {
    AhoCorasick::builder()
        .kind(Some(AhoCorasickKind::DFA))
        // Of those that begin at one place the first in the table.
        .match_kind(MatchKind::LeftmostFirst)
        .build(TRIGGERS.iter().map(|(word, _)| word))
        .expect("a few short words are no large automaton")
});

/// Adds the ranges of `text` that have the shape of a secret to `hidden`.
pub(super) fn find(text: &[u8], hidden: &mut Vec<Range<usize>>) {
    // A search that ignores case knows no vector instructions and takes twice as long, copy included.
    let small = text.to_ascii_lowercase();
    find_in(&Text::new(text, &small), hidden);
}

/// The same; gives how many leaves were called.
fn find_in(text: &Text, hidden: &mut Vec<Range<usize>>) -> usize {
    let (mut at, mut n_calls) = (0, 0);
    while let Some(hit) = SEARCH.find(Input::new(text.small).range(at..)) {
        let (_, leaf) = TRIGGERS[hit.pattern().as_usize()];
        at = leaf(text, hit.range(), hidden).max(hit.end());
        n_calls += 1;
    }
    n_calls
}
