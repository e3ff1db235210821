//! Values that are live, and where they are in a text: raw, and in base64, whose alphabet is that of
//! ordinary words, so that one cannot tell by the look what to decode.
//!
//! ```text
//! value -> blocks of 8 bytes at every 9th byte, raw and in base64 -> index: block -> place
//! text  -> at each byte: is this block known? -> compare to both sides -> long enough? -> hidden
//! ```
//!
//! # Invariants
//! - Of any 16 bytes in a row of a value a whole block is indexed: one of the first nine begins one.
//!   A block of base64 is six bytes that begin a group of characters, and one of nine begins one for
//!   each of the three alignments.
//! - What is found is compared with the value itself. A chance hit of the index hides nothing.
//! - Values are here once, and are overwritten when this is dropped. The index has places only.
//!
//! What is spelled in yet another way is decoded before it comes here (`views`).

use std::ops::Range;

use secrecy::zeroize::Zeroizing;

use super::escapes::Lines;
use super::index::{BLOCK_BYTES, Index};
use super::sextets::{self, NONE, SEXTETS, sextet};
use super::{REDACTED, RUN_BYTES, VALUE_BYTES_MIN};

/// A block begins at every ninth byte: of 16 bytes, the first nine are where a block of eight can
/// begin.
const BLOCK_EVERY_BYTES: usize = RUN_BYTES - BLOCK_BYTES + 1;

/// Characters of base64 that 16 bytes determine at least, wherever they begin.
const BASE64_RUN: usize = 20;

/// How far a match is followed to the left. A block is found at most nine bytes behind the beginning
/// of a match, which is twelve characters of base64.
const LEFT_MAX: usize = 32;

/// How far before the end of a match the search for the next goes on.
const OVERLAP_MAX: usize = 2 * RUN_BYTES;

/// How many places of one block are compared. Where a block is at more, in a value like `aaaaaaaa...` or
/// at the beginning of very many tokens, it is hidden for itself, however long the match would be.
const PLACES_MAX: usize = 64;

/// Which values are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// Those that this process obtained.
    Obtained,
    /// Those that came with the environment too.
    All,
}

/// Values that are looked for. Values and index take up to eight times the length of the values.
#[derive(Default)]
pub(super) struct Live {
    /// All values, one behind the other.
    bytes: Zeroizing<Vec<u8>>,
    values: Vec<Value>,
    index: Index,
}

struct Value {
    range: Range<usize>,
    origin: Which,
    /// How many of its first bytes are no secret: in everybody's tokens they are the same.
    n_open: usize,
}

/// Where a block of a value begins, and how it is spelled: an offset and a bit.
#[derive(Clone, Copy)]
struct Place(u32);

impl Place {
    /// `None` behind two GiB of values, which nobody has.
    fn new(at: usize, is_base64: bool) -> Option<Self> {
        u32::try_from(at << 1 | usize::from(is_base64)).ok().map(Self)
    }

    fn at(self) -> usize {
        self.0 as usize >> 1
    }

    fn is_base64(self) -> bool {
        self.0 & 1 == 1
    }
}

impl Live {
    /// Looks for these values from now on, and for those of several lines without the line breaks too.
    /// Values of less than [`VALUE_BYTES_MIN`] bytes are left out, and what stands for a secret itself.
    pub fn new<'a>(values: impl Iterator<Item = (&'a str, Which)>) -> Self {
        let known: Vec<(&str, Which)> =
            values.filter(|(value, _)| !REDACTED.contains(value)).collect();
        let mut live = Self::default();
        // Room for all at once: what a vector leaves behind when it grows is not overwritten.
        let is_broken = |value: &str| value.contains(['\r', '\n']);
        let n_bytes = |value: &str| if is_broken(value) { 2 * value.len() } else { value.len() };
        live.bytes.reserve_exact(known.iter().map(|(value, _)| n_bytes(value)).sum());
        for (value, origin) in known {
            live.enter(value.bytes(), origin);
            if is_broken(value) {
                let mut lines = Lines::default();
                live.enter(value.bytes().filter(|byte| lines.keeps(*byte)), origin);
            }
        }
        // A ninth of all bytes begin a block, a third one of base64, and some of these are spelled in two
        // ways.
        live.index = Index::new(live.bytes.len() / 2, |see| live.blocks(see));
        live
    }

    fn enter(&mut self, value: impl Iterator<Item = u8>, origin: Which) {
        let start = self.bytes.len();
        self.bytes.extend(value);
        let range = start..self.bytes.len();
        match range.len() < VALUE_BYTES_MIN {
            true => self.bytes.truncate(start),
            false => {
                let n_open = open_bytes(&self.bytes[range.clone()]);
                self.values.push(Value { range, origin, n_open });
            }
        }
    }

    /// Names every block that is indexed, with its place.
    fn blocks(&self, see: &mut dyn FnMut([u8; BLOCK_BYTES], u32)) {
        let mut see = |block, at, is_base64| {
            if let Some(place) = Place::new(at, is_base64) {
                see(block, place.0);
            }
        };
        for Value { range, .. } in &self.values {
            for start in range.clone().step_by(BLOCK_EVERY_BYTES) {
                if let Some(block) = self.bytes[start..range.end].first_chunk() {
                    see(*block, start, false);
                }
                // One for each alignment.
                for at in start..range.end.min(start + 3) {
                    let Some(six) = self.bytes[at..range.end].first_chunk() else { break };
                    let standard = sextets::spell(six);
                    let url_safe = sextets::url_safe(standard);
                    see(standard, at, true);
                    if url_safe != standard {
                        see(url_safe, at, true);
                    }
                }
            }
        }
    }

    /// Adds the ranges of `text` that hold [`RUN_BYTES`] of a value, or a whole shorter one, to
    /// `hidden`.
    pub fn find(&self, text: &[u8], which: Which, hidden: &mut Vec<Range<usize>>) {
        if self.values.is_empty() {
            return;
        }
        let mut from = 0;
        while let Some(at) = self.index.next(text, from) {
            from = at + 1;
            if let Some(found) = self.match_at(text, at, which) {
                // All of a long match but its end is done with: another may begin in it, and go on behind.
                from = from.max(found.end.saturating_sub(OVERLAP_MAX));
                hidden.push(found);
            }
        }
    }

    /// What matches around the block at `at`: all matches that are long enough, as one range.
    fn match_at(&self, text: &[u8], at: usize, which: Which) -> Option<Range<usize>> {
        let block: [u8; BLOCK_BYTES] = *text[at..].first_chunk()?;
        let mut found: Option<Range<usize>> = None;
        let mut n_compared = 0;
        let places = self.index.places(block).iter().map(|place| Place(*place));
        for place in places.filter(|place| self.is_at(block, *place)) {
            let value = self.value_at(place.at());
            if which == Which::Obtained && value.origin != which {
                continue;
            }
            let bytes = &self.bytes[value.range.clone()];
            let within = place.at() - value.range.start;
            if which == Which::Obtained && within + BLOCK_BYTES <= value.n_open {
                continue;
            }
            let matched = match place.is_base64() {
                false => raw(bytes, within, text, at),
                true => in_base64(bytes, within, text, at),
            };
            if let Some(range) = matched {
                let all = found.unwrap_or(range.clone());
                found = Some(all.start.min(range.start)..all.end.max(range.end));
            }
            n_compared += 1;
            if n_compared == PLACES_MAX {
                // A document is not refused for that: other blocks of a credential are its own.
                return found.or((which == Which::All).then_some(at..at + BLOCK_BYTES));
            }
        }
        found
    }

    /// The value that the byte at `at` is of.
    fn value_at(&self, at: usize) -> &Value {
        &self.values[self.values.partition_point(|value| value.range.end <= at)]
    }

    /// Whether `block` is what is spelled at `place`.
    fn is_at(&self, block: [u8; BLOCK_BYTES], place: Place) -> bool {
        let bytes = &self.bytes[place.at()..];
        match place.is_base64() {
            false => bytes.starts_with(&block),
            true => (0..).zip(block).all(|(n, c)| is_sextet(bytes, 6 * n, c)),
        }
    }
}

/// What of `text` is `value` around `at`, where the block is that `value` has at `within`.
fn raw(value: &[u8], within: usize, text: &[u8], at: usize) -> Option<Range<usize>> {
    let before = value[..within].iter().rev().zip(text[..at].iter().rev()).take(LEFT_MAX);
    let start = at - before.take_while(|(a, b)| a == b).count();
    let behind = value[within..].iter().zip(&text[at..]);
    let end = at + behind.take_while(|(a, b)| a == b).count();
    (end - start >= RUN_BYTES.min(value.len())).then_some(start..end)
}

/// How many bytes in front of `value` are the header of a JSON web token, which says how it is signed: a
/// cursor that happens to be one too begins with the same.
fn open_bytes(value: &[u8]) -> usize {
    let dot = || value.iter().position(|byte| *byte == b'.');
    value.starts_with(b"eyJ").then(dot).flatten().unwrap_or(0)
}

/// What of `text` is `value` in base64 around `at`, where a group of characters begins with the byte that
/// `value` has at `within`.
fn in_base64(value: &[u8], within: usize, text: &[u8], at: usize) -> Option<Range<usize>> {
    // Characters whose bits are all of the value, before `at` and from there on.
    let (bits_before, bits_behind) = (8 * within, 8 * (value.len() - within));
    let (n_before, n_behind) = (bits_before / 6, bits_behind / 6);
    let is_before = |n: &usize| {
        at.checked_sub(*n).is_some_and(|i| is_sextet(value, bits_before - 6 * n, text[i]))
    };
    let before = (1..=n_before.min(LEFT_MAX)).take_while(is_before).count();
    let is_behind =
        |n: &usize| text.get(at + n).is_some_and(|c| is_sextet(value, bits_before + 6 * n, *c));
    let behind = (0..n_behind).take_while(is_behind).count();
    let is_whole = before == n_before && behind == n_behind;
    if before + behind < BASE64_RUN && !is_whole {
        return None;
    }
    // A character that says some of the first or last byte goes too, and padding that belongs to it.
    let (mut start, mut end) = (at - before, at + behind);
    let is_character = |at: usize| text.get(at).is_some_and(|c| sextets::is_character(*c));
    if before == n_before && bits_before % 6 != 0 && start > 0 && is_character(start - 1) {
        start -= 1;
    }
    if behind == n_behind {
        if bits_behind % 6 != 0 && is_character(end) {
            end += 1;
        }
        while !(end - at).is_multiple_of(4) && text.get(end) == Some(&b'=') {
            end += 1;
        }
    }
    Some(start..end)
}

/// Whether the character `c` of base64 stands for the six bits of `value` from `bit` on.
fn is_sextet(value: &[u8], bit: usize, c: u8) -> bool {
    let six = SEXTETS[usize::from(c)];
    six != NONE && six == sextet(value, bit)
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    use super::super::replace::merged;
    use super::*;

    fn find(values: &[(&str, Which)], which: Which, text: &str) -> Vec<Range<usize>> {
        let mut hidden = Vec::new();
        Live::new(values.iter().copied()).find(text.as_bytes(), which, &mut hidden);
        hidden
    }

    #[test]
    fn every_run_is_found_wherever_it_is_cut_out() {
        let value = "q8~Zt_4mB-w7Xc1nRf5Hj9Ld2Gs6Pa0YeUoKiTbVvWx3";
        let values = [(value, Which::All)];
        for start in 0..value.len() {
            for end in start + 1..=value.len() {
                let text = format!("({})", &value[start..end]);
                let found = find(&values, Which::All, &text);
                match end - start >= RUN_BYTES {
                    true => assert!(found.contains(&(1..1 + end - start)), "{text}: {found:?}"),
                    false => assert!(found.is_empty(), "{text}: {found:?}"),
                }
            }
        }
    }

    #[test]
    fn every_run_is_found_in_base64_of_what_is_no_text() {
        let value = "q8~Zt_4mB-w7Xc1nRf5Hj9Ld2Gs6Pa0YeUoKiTbVvWx3";
        for start in 0..=value.len() - RUN_BYTES {
            for before in 0..3 {
                let run = &value.as_bytes()[start..start + RUN_BYTES];
                let encoded = STANDARD.encode([&[0xFF; 3][..before], run, &[0xFF; 3]].concat());
                let found = find(&[(value, Which::All)], Which::All, &encoded);
                let first = found.first().cloned().unwrap_or_default();
                // The characters at both ends say something of other bytes too.
                assert!(first.len() >= BASE64_RUN, "{start}, {before}: {found:?} of {encoded}");
            }
        }
    }

    #[test]
    fn inherited_values_are_not_among_those_obtained() {
        let values = [
            ("the-same-beginning-obtained", Which::Obtained),
            ("the-same-beginning-inherited", Which::All),
        ];
        let check = |which, text: &str, want: bool| {
            assert_eq!(!find(&values, which, text).is_empty(), want, "{which:?} {text}");
        };
        check(Which::All, "beginning-inherited", true);
        check(Which::Obtained, "beginning-inherited", false);
        check(Which::All, "beginning-obtained", true);
        check(Which::Obtained, "beginning-obtained", true);
        check(Which::Obtained, "the-same-beginning-inherited", true);
    }

    #[test]
    fn what_all_tokens_begin_with_is_no_credential() {
        let header = "eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiIsImtpZCI6IjEifQ";
        let claims = "eyJhdWQiOiJodHRwczovL2Vhc20iLCJpc3MiOiJodHRwczovL3N0cyJ9";
        let token = |n: usize| format!("{header}.{claims}.signature-number-{n:06}-of-a-token");
        let tokens: Vec<String> = (0..2 * PLACES_MAX).map(token).collect();
        let values: Vec<_> = tokens.iter().map(|token| (&token[..], Which::Obtained)).collect();
        let check = |text: &str, in_words: bool, in_a_document: bool| {
            assert_eq!(!find(&values, Which::All, text).is_empty(), in_words, "{text}");
            assert_eq!(!find(&values, Which::Obtained, text).is_empty(), in_a_document, "{text}");
        };
        check(&format!("{header}.e30."), true, false);
        check(&format!("{header}.{claims}."), true, true);
        check(&tokens[1], true, true);
        check(&tokens[1][tokens[1].len() - RUN_BYTES..], true, true);
    }

    #[test]
    fn a_run_of_one_of_many_that_begin_alike_is_found() {
        let name = |n: usize| format!("they-all-begin-like-this-{n:03}");
        for n_values in [PLACES_MAX - 1, PLACES_MAX, 3 * PLACES_MAX] {
            let names: Vec<String> = (0..n_values).map(name).collect();
            let values: Vec<_> = names.iter().map(|name| (&name[..], Which::All)).collect();
            for n in [0, n_values / 2, n_values - 1] {
                let run = &name(n)[12..];
                let mut visible = 0;
                let mut from = 0;
                for range in merged(find(&values, Which::All, run)) {
                    visible = visible.max(range.start - from);
                    from = range.end;
                }
                visible = visible.max(run.len() - from);
                assert!(visible < RUN_BYTES, "{n} of {n_values}: {visible} bytes of {run}");
            }
        }
    }

    #[test]
    fn what_is_no_value_is_not_looked_for() {
        for value in ["", "seven77", "REDACTED", "[REDACTED]", "a\nb\nc\nd\n"] {
            let found =
                find(&[(value, Which::All)], Which::All, "seven77 c2V2ZW43Nw== [REDACTED] abcd");
            assert!(found.is_empty(), "{value:?}: {found:?}");
        }
    }
}
