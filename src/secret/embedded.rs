//! What a text holds in base64 or in hex digits: found by the characters, for nothing says so.
//!
//! Ordinary words are spelled in the characters of base64 too. What they decode to is seldom printable, and
//! what is not printable is not looked at: values in base64 are known by their own spelling
//! (`live`), so this is for what can be recognised by its look only, and for what was escaped first.

use std::ops::Range;

use super::VALUE_BYTES_MIN;
use super::sextets::{self, NONE, SEXTETS};
use super::views::{Base64, View};

/// Shortest text that is looked at, in bytes: in hex digits the shortest value, in base64 the shortest
/// in which a character is escaped.
const HEX_TEXT_MIN: usize = VALUE_BYTES_MIN;
const BASE64_TEXT_MIN: usize = VALUE_BYTES_MIN + 1;

/// How many characters that are.
const HEX_MIN: usize = 2 * HEX_TEXT_MIN;
const BASE64_MIN: usize = BASE64_TEXT_MIN / 3 * 4;

/// What `text` holds in base64 or hex digits and is text, one view for each, where what holds it
/// `is_new`.
pub(super) fn find(text: &[u8], is_new: impl Fn(&Range<usize>) -> bool) -> Vec<View> {
    let mut views = Vec::new();
    for run in runs(text, BASE64_MIN, sextets::is_character).filter(is_new) {
        let characters = &text[run.clone()];
        for first in printable(characters) {
            let bytes = sextets::decode(&characters[first..]);
            let padding = text[run.end..].iter().take(2).take_while(|byte| **byte == b'=').count();
            for text in texts(&bytes, BASE64_TEXT_MIN) {
                let (start, end) = (run.start + first, run.end + padding);
                let (bytes_before, n_bytes) = (text.start, bytes.len());
                let from = Base64 { start, end, bytes_before, n_bytes };
                views.push(View::of_base64(bytes[text].to_vec(), from));
            }
        }
        // Hex digits are characters of base64.
        for digits in runs(characters, HEX_MIN, |byte| byte.is_ascii_hexdigit()) {
            // The first digit may belong to a word before.
            for first in digits.start..digits.start + 2 {
                let bytes = from_hex(&characters[first..digits.end]);
                for text in texts(&bytes, HEX_TEXT_MIN) {
                    let start = run.start + first + 2 * text.start;
                    views.push(View::of_hex(bytes[text].to_vec(), start));
                }
            }
        }
    }
    views
}

/// The stretches of `bytes` without control characters that hold text of `bytes_min`. What is around
/// it goes along: text that was cut may begin and end in the middle of a character.
fn texts(bytes: &[u8], bytes_min: usize) -> impl Iterator<Item = Range<usize>> {
    let is_control = |byte: &u8| byte.is_ascii_control() && !matches!(byte, b'\t' | b'\r' | b'\n');
    let stretches = bytes.split(is_control).scan(0, |at, stretch| {
        let start = *at;
        *at = start + stretch.len() + 1;
        Some((start..start + stretch.len(), stretch))
    });
    stretches.filter_map(move |(range, stretch)| {
        let is_text = stretch.len() >= bytes_min
            && stretch.utf8_chunks().any(|text| text.valid().len() >= bytes_min);
        is_text.then_some(range)
    })
}

/// The stretches of `bytes_min` and more of `text` that are all `is_one`.
fn runs(
    text: &[u8],
    bytes_min: usize,
    is_one: impl Fn(u8) -> bool,
) -> impl Iterator<Item = Range<usize>> {
    let mut end = 0;
    std::iter::from_fn(move || {
        loop {
            // Each such stretch has a byte here, or at a multiple behind.
            let mut at = end + bytes_min - 1;
            while !is_one(*text.get(at)?) {
                at += bytes_min;
            }
            let before = text[end..at].iter().rev().take_while(|byte| is_one(**byte)).count();
            let start = at - before;
            end = at + text[at..].iter().take_while(|byte| is_one(**byte)).count();
            if end - start >= bytes_min {
                return Some(start..end);
            }
        }
    })
}

/// At which of the first four of `characters` groups may begin, so that somewhere [`BASE64_MIN`] in a row
/// are printable ASCII.
fn printable(characters: &[u8]) -> impl Iterator<Item = usize> {
    // Bit n: the last n + 1 characters fit, with the first of them the first of a group.
    let mut fits: u16 = 0;
    let mut begins = [false; 4];
    for (at, c) in characters.iter().enumerate() {
        fits = (fits << 1 | 1) & FITS[usize::from(*c)];
        if fits >> (BASE64_MIN - 1) & 1 == 1 {
            begins[(at + 1) % 4] = true;
        }
    }
    (0..4).filter(move |first| begins[*first])
}

/// Bit n of a character: where n are before it, from the beginning of a group on, its bits can be of
/// printable ASCII.
static FITS: [u16; 256] = fits();

const fn fits() -> [u16; 256] {
    let mut table = [0; 256];
    let mut c = 0;
    while c < 256 {
        let six = SEXTETS[c];
        if six != NONE {
            // Printable bytes begin with the bits 001 to 011: here they are those of the first byte of a group, ...
            let mut places = 0b1000;
            if six >> 3 >= 0b001 && six >> 3 <= 0b011 {
                places |= 0b0001;
            }
            // ... of the second, ...
            if six >> 1 & 0b111 >= 0b001 && six >> 1 & 0b111 <= 0b011 {
                places |= 0b0010;
            }
            // ... and of the third, two of them.
            if six & 0b11 <= 0b01 {
                places |= 0b0100;
            }
            table[c] = places << 12 | places << 8 | places << 4 | places;
        }
        c += 1;
    }
    table
}

/// The bytes that pairs of `digits` stand for.
fn from_hex(digits: &[u8]) -> Vec<u8> {
    // The letters of either case are nine behind their lower four bits.
    let four = |digit: u8| (digit & 15) + 9 * (digit >> 6);
    digits.chunks_exact(2).map(|pair| four(pair[0]) << 4 | four(pair[1])).collect()
}
