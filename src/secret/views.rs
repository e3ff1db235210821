//! What a text can be decoded to, with where each byte of it came from.
//!
//! ```text
//! escapes   the whole text: without line breaks, and each time one sort of escape sequence decoded
//! embedded  what is spelled in the characters of base64 or in hex digits, for itself
//! ```
//!
//! One view undoes one encoder and nothing else, since a value may itself hold what looks like the
//! work of another. Whoever looks through views of views, in every order, undoes any chain of them.

use std::ops::Range;

use memchr::{memchr, memchr2};

use super::escapes::{self, Escape, Lines};

/// Text that was decoded.
pub(super) struct View {
    text: Vec<u8>,
    source: Source,
}

/// Where the bytes of a view came from.
enum Source {
    /// Stretches of the view, in order.
    Stretches(Vec<Stretch>),
    Base64(Base64),
    /// Hex digits from here on.
    Hex(usize),
}

/// A stretch of a view that goes on to the next.
struct Stretch {
    /// Where it begins in the view.
    at: usize,
    /// Where it begins in the original.
    from: usize,
    /// Bytes of the escape sequence that all of it came from; 0 if it came byte for byte.
    escape_bytes: usize,
}

/// Base64 that a view came from.
pub(super) struct Base64 {
    /// Where the first group of characters begins.
    pub start: usize,
    /// Where the characters of the last byte and their padding end.
    pub end: usize,
    /// How many bytes are in front of the view.
    pub bytes_before: usize,
    /// How many bytes there are.
    pub n_bytes: usize,
}

impl Base64 {
    /// Characters that say something of the byte `n` of the view.
    fn characters(&self, n: usize) -> Range<usize> {
        let n = self.bytes_before + n;
        let start = self.start + 4 * n / 3;
        match n + 1 == self.n_bytes {
            true => start..self.end,
            false => start..self.start + (4 * (n + 1)).div_ceil(3),
        }
    }
}

impl View {
    /// The decoded text.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// The range of the original that `range` of the decoded text, not empty, came from.
    pub fn origin(&self, range: &Range<usize>) -> Range<usize> {
        self.origin_of(range.start).start..self.origin_of(range.end - 1).end
    }

    /// Whether `range` of the decoded text, not empty, stands in the original as it is.
    pub fn is_verbatim(&self, range: &Range<usize>) -> bool {
        self.origin(range).len() == range.len()
    }

    fn origin_of(&self, byte: usize) -> Range<usize> {
        match &self.source {
            Source::Stretches(stretches) => {
                let behind = stretches.partition_point(|stretch| stretch.at <= byte);
                let Stretch { at, from, escape_bytes } = stretches[behind - 1];
                match escape_bytes {
                    0 => from + byte - at..from + byte - at + 1,
                    n => from..from + n,
                }
            }
            Source::Base64(base64) => base64.characters(byte),
            Source::Hex(start) => start + 2 * byte..start + 2 * byte + 2,
        }
    }

    /// `text`, which was spelled in base64.
    pub fn of_base64(text: Vec<u8>, from: Base64) -> Self {
        Self { text, source: Source::Base64(from) }
    }

    /// `text`, which was spelled in hex digits from `start` on.
    pub fn of_hex(text: Vec<u8>, start: usize) -> Self {
        Self { text, source: Source::Hex(start) }
    }
}

/// What is decoded in one view.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Decoder {
    /// Line breaks, and the indentation behind them, are left out.
    Lines,
    /// `\"`, `\u002b`: JSON, and strings as Rust prints them.
    Backslash,
    /// `%2B`.
    Percent,
    /// `%2B`, and `+` for a space.
    Form,
}

/// `text` without line breaks, and without the escape sequences of each sort that there is in it.
pub(super) fn unescaped(text: &[u8]) -> impl Iterator<Item = View> {
    use Decoder::{Backslash, Form, Lines, Percent};
    // Lines last: the others are looked through deeper when they come first.
    [Backslash, Percent, Form, Lines].into_iter().filter_map(move |decoder| decoder.decode(text))
}

impl Decoder {
    /// `None` if there is nothing to decode.
    fn decode(self, text: &[u8]) -> Option<View> {
        // Line breaks at the end of a log line break nothing.
        let breaks = text.iter().rev().take_while(|byte| is_break(**byte)).count();
        let text = &text[..text.len() - breaks];
        match self {
            Self::Lines => memchr2(b'\r', b'\n', text)?,
            Self::Backslash => memchr(b'\\', text)?,
            Self::Percent => memchr(b'%', text)?,
            // Without it, this is the same as Percent.
            Self::Form => memchr(b'+', text)?,
        };
        let (mut decoded, mut stretches) = (Vec::with_capacity(text.len()), Vec::new());
        let mut is_changed = self == Self::Lines;
        let mut lines = Lines::default();
        let mut from = 0;
        while from < text.len() {
            let (at, rest) = (decoded.len(), &text[from..]);
            if let Some(escape) = self.escape(rest) {
                is_changed = true;
                decoded.extend_from_slice(escape.bytes());
                stretches.push(Stretch { at, from, escape_bytes: escape.len });
                from += escape.len;
                continue;
            }
            // Up to where there may be the next one.
            let n = 1 + self.next(&rest[1..]).unwrap_or(rest.len() - 1);
            let is_left_out = |byte: &&u8| self == Self::Lines && !lines.keeps(**byte);
            let left_out = rest[..n].iter().take_while(is_left_out).count();
            if left_out < n {
                decoded.extend_from_slice(&rest[left_out..n]);
                stretches.push(Stretch { at, from: from + left_out, escape_bytes: 0 });
            }
            from += n;
        }
        let source = Source::Stretches(stretches);
        (is_changed && !decoded.is_empty()).then_some(View { text: decoded, source })
    }

    /// Where in `text` there may be something to decode.
    fn next(self, text: &[u8]) -> Option<usize> {
        match self {
            Self::Lines => memchr2(b'\r', b'\n', text),
            Self::Backslash => memchr(b'\\', text),
            Self::Percent => memchr(b'%', text),
            Self::Form => memchr2(b'%', b'+', text),
        }
    }

    fn escape(self, text: &[u8]) -> Option<Escape> {
        match self {
            Self::Lines => None,
            Self::Backslash => escapes::backslash(text),
            Self::Percent => escapes::percent(text),
            Self::Form => escapes::percent(text).or_else(|| escapes::plus(text)),
        }
    }
}

fn is_break(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}
