//! Values that are live, and where they are in a text: raw, and in base64, whose alphabet is that of
//! ordinary words, so that one cannot tell by the look what to decode.
//!
//! ```text
//! value -> blocks of 8 bytes at every 9th byte, raw and in base64 -> index: block -> place
//! text  -> at each byte: is this block known? -> compare to both sides -> long enough? -> hidden
//! ```
//!
//! # Invariants
//! - Of 16 bytes in a row of a value a whole block is indexed, whichever they are: one of nine in a
//!   row begins a block, and eight bytes follow it. In base64 the blocks are of 6 bytes (8
//!   characters that begin a group), at one place in nine for each of the three alignments.
//! - What is found is compared with the value itself. A chance hit of the index hides nothing.
//! - Values are here once, and are overwritten when this is dropped. The index has places only.
//!
//! What is spelled in yet another way is decoded before it comes here (`views`).

use std::ops::Range;

use secrecy::zeroize::Zeroizing;

use super::escapes::Lines;
use super::index::{BLOCK_BYTES, Entries, Index};
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

/// Values that are looked for. They take up to seven times their length of memory, and as much again while
/// this is made.
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
        live.bytes.reserve_exact(known.iter().map(|(value, _)| 2 * value.len()).sum());
        for (value, origin) in known {
            live.enter(value.bytes(), origin);
            if value.contains(['\r', '\n']) {
                let mut lines = Lines::default();
                live.enter(value.bytes().filter(|byte| lines.keeps(*byte)), origin);
            }
        }
        live.index = Index::new(live.blocks());
        live
    }

    fn enter(&mut self, value: impl Iterator<Item = u8>, origin: Which) {
        let start = self.bytes.len();
        self.bytes.extend(value);
        let range = start..self.bytes.len();
        match range.len() < VALUE_BYTES_MIN {
            true => self.bytes.truncate(start),
            false => self.values.push(Value { range, origin }),
        }
    }

    /// Every block that is indexed, with its place.
    fn blocks(&self) -> Entries {
        let mut entries = Entries::default();
        let mut enter = |block, at, is_base64| {
            if let Some(place) = Place::new(at, is_base64) {
                entries.enter(block, place.0);
            }
        };
        for Value { range, .. } in &self.values {
            for at in range.clone() {
                let (n, rest) = (at - range.start, &self.bytes[at..range.end]);
                if n % BLOCK_EVERY_BYTES == 0
                    && let Some(block) = rest.first_chunk()
                {
                    enter(*block, at, false);
                }
                if n % BLOCK_EVERY_BYTES < 3
                    && let Some(six) = rest.first_chunk()
                {
                    let standard = sextets::spell(six);
                    let url_safe = sextets::url_safe(standard);
                    enter(standard, at, true);
                    if url_safe != standard {
                        enter(url_safe, at, true);
                    }
                }
            }
        }
        entries
    }

    /// Adds the ranges of `text` that hold [`RUN_BYTES`] of a value, or a whole shorter one, to
    /// `hidden`.
    pub fn find(&self, text: &[u8], which: Which, hidden: &mut Vec<Range<usize>>) {
        if self.index.is_empty() {
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
                return Some(found.unwrap_or(at..at + BLOCK_BYTES));
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
        while (end - at) % 4 != 0 && text.get(end) == Some(&b'=') {
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
