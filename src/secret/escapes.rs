//! Escape sequences: what one stands for, and where it begins and ends.

use std::ops::Range;

/// Longest escape sequence, in bytes: a character of JSON that takes two, `\ud83d\ude00`.
const ESCAPE_BYTES_MAX: usize = 12;

/// An escape sequence.
#[derive(Debug, PartialEq, Eq)]
pub struct Escape {
    bytes: [u8; 4],
    n_bytes: usize,
    /// Bytes of the sequence.
    pub len: usize,
}

impl Escape {
    fn of_byte(byte: u8, len: usize) -> Self {
        Self { bytes: [byte, 0, 0, 0], n_bytes: 1, len }
    }

    fn of_char(code: u32, len: usize) -> Self {
        let mut bytes = [0; 4];
        // Half of a pair alone stands for no character.
        let c = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
        let n_bytes = c.encode_utf8(&mut bytes).len();
        Self { bytes, n_bytes, len }
    }

    /// The bytes it stands for.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.n_bytes]
    }
}

/// The escape sequence that `text` begins with, of JSON or as Rust prints strings: `\"`, `\u002b`,
/// `\ud83d\ude00`, `\u{2b}`, `\x2b`.
pub fn backslash(text: &[u8]) -> Option<Escape> {
    let [b'\\', kind, rest @ ..] = text else { return None };
    match kind {
        b'"' | b'\'' | b'\\' | b'/' => Some(Escape::of_byte(*kind, 2)),
        b'b' => Some(Escape::of_byte(8, 2)),
        b'f' => Some(Escape::of_byte(12, 2)),
        b'n' => Some(Escape::of_byte(b'\n', 2)),
        b'r' => Some(Escape::of_byte(b'\r', 2)),
        b't' => Some(Escape::of_byte(b'\t', 2)),
        b'0' => Some(Escape::of_byte(0, 2)),
        b'x' => Some(Escape::of_byte(hex(rest.get(..2)?)?.to_le_bytes()[0], 4)),
        b'u' if rest.first() == Some(&b'{') => {
            let digits = rest[1..].iter().take(6).take_while(|b| b.is_ascii_hexdigit()).count();
            let code = hex(&rest[1..=digits])?;
            (rest.get(digits + 1) == Some(&b'}')).then(|| Escape::of_char(code, digits + 4))
        }
        b'u' => {
            let code = hex(rest.get(..4)?)?;
            let low = rest[4..].strip_prefix(b"\\u").and_then(|low| hex(low.get(..4)?));
            match (code, low) {
                (0xD800..0xDC00, Some(low @ 0xDC00..0xE000)) => {
                    let code = 0x1_0000 + ((code - 0xD800) << 10) + (low - 0xDC00);
                    Some(Escape::of_char(code, 12))
                }
                _ => Some(Escape::of_char(code, 6)),
            }
        }
        _ => None,
    }
}

/// The escape sequence that `text` begins with, of a URL: `%2B`.
pub fn percent(text: &[u8]) -> Option<Escape> {
    let [b'%', rest @ ..] = text else { return None };
    Some(Escape::of_byte(hex(rest.get(..2)?)?.to_le_bytes()[0], 3))
}

/// The space that a `+` stands for in a form.
pub fn plus(text: &[u8]) -> Option<Escape> {
    text.starts_with(b"+").then(|| Escape::of_byte(b' ', 1))
}

/// The number that `digits` are, if there are any and they are no others.
fn hex(digits: &[u8]) -> Option<u32> {
    let number = |sum: u32, digit: &u8| Some(sum << 4 | char::from(*digit).to_digit(16)?);
    if digits.is_empty() { None } else { digits.iter().try_fold(0, number) }
}

/// `range` of `text`, widened so that it begins and ends beside escape sequences and not inside of one.
pub fn whole(text: &[u8], range: &Range<usize>) -> Range<usize> {
    let start = around(text, range.start).map_or(range.start, |escape| escape.start);
    let end = around(text, range.end).map_or(range.end, |escape| escape.end);
    start..end
}

/// The escape sequence of `text` that `at` is inside of.
fn around(text: &[u8], at: usize) -> Option<Range<usize>> {
    // The longest first: the second half of a pair looks like one of its own.
    (1..ESCAPE_BYTES_MAX.min(at + 1)).rev().find_map(|back| {
        let start = at - back;
        let escape = match text[start] {
            // A backslash behind another may be escaped itself.
            b'\\' if backslashes_before(text, start).is_multiple_of(2) => backslash(&text[start..]),
            b'%' => percent(&text[start..]),
            _ => None,
        };
        escape.filter(|escape| escape.len > back).map(|escape| start..start + escape.len)
    })
}

fn backslashes_before(text: &[u8], at: usize) -> usize {
    text[..at].iter().rev().take_while(|byte| **byte == b'\\').count()
}

/// Which bytes of a text are left when it is moved together into one line: neither a line break nor the
/// indentation behind it.
#[derive(Default)]
pub struct Lines {
    is_indented: bool,
}

impl Lines {
    /// Whether `byte`, the next of the text, is left.
    pub fn keeps(&mut self, byte: u8) -> bool {
        let is_break = matches!(byte, b'\r' | b'\n');
        self.is_indented = is_break || (self.is_indented && matches!(byte, b' ' | b'\t'));
        !self.is_indented
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_stands_for_what_its_writer_meant() {
        let check = |text: &str, want: &str, len: usize| {
            let escape = backslash(text.as_bytes()).or_else(|| percent(text.as_bytes())).unwrap();
            assert_eq!((escape.bytes(), escape.len), (want.as_bytes(), len), "{text}");
        };
        check(r#"\"abc"#, "\"", 2);
        check(r"\\n", "\\", 2);
        check(r"\/", "/", 2);
        check(r"\n", "\n", 2);
        check(r"\u002bff", "+", 6);
        check(r"\u002Bff", "+", 6);
        check(r"\u00e4", "ä", 6);
        check(r"\ud83d\uDE00", "😀", 12);
        check(r"\ud83d\u0041", "\u{FFFD}", 6);
        check(r"\u{e4}bc", "ä", 6);
        check(r"\x2bff", "+", 4);
        check("%2Bff", "+", 3);
        check("%2bff", "+", 3);
    }

    #[test]
    fn what_is_no_sequence_is_none() {
        for text in
            ["", "\\", "\\q", "\\u12", "\\u{}", "\\u{12", "\\x", "%", "%2", "%2g", "ab", "é"]
        {
            let bytes = text.as_bytes();
            assert_eq!((backslash(bytes), percent(bytes)), (None, None), "{text}");
        }
    }

    #[test]
    fn a_range_takes_the_sequences_along_that_it_begins_or_ends_in() {
        let check = |text: &str, range: Range<usize>, want: Range<usize>| {
            assert_eq!(whole(text.as_bytes(), &range), want, "{text} {range:?}");
        };
        check(r"ab\ncd", 3..6, 2..6);
        check(r"ab\\ncd", 4..7, 4..7);
        check(r"ab\\ncd", 3..7, 2..7);
        check(r"ab\\\ncd", 5..8, 4..8);
        check(r"ab\u002bcd", 0..5, 0..8);
        check(r"ab\ud83d\ude00cd", 9..16, 2..16);
        check(r"ab\ud83d\ude00cd", 0..8, 0..14);
        check("ab%2Bcd", 4..7, 2..7);
        check("ab%2Bcd", 0..3, 0..5);
        check("abcd", 0..4, 0..4);
    }
}
