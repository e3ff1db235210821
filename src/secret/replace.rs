//! Puts [`REDACTED`] in the place of what is hidden.

use std::ops::Range;

use serde::de::IgnoredAny;

use super::REDACTED;

/// `ranges` in order, those that overlap or touch as one.
pub(super) fn merged(mut ranges: Vec<Range<usize>>) -> Vec<Range<usize>> {
    ranges.sort_unstable_by_key(|range| range.start);
    ranges.dedup_by(|next, last| {
        let touches = next.start <= last.end;
        if touches {
            last.end = last.end.max(next.end);
        }
        touches
    });
    ranges
}

/// `text` without what is `hidden`, which is in order and does not overlap. A JSON document stays one.
pub(super) fn without(text: &str, hidden: &[Range<usize>]) -> String {
    let hidden = hidden.iter().map(|range| whole_chars(text, range)).collect();
    let hidden = merged(hidden);
    let begins = text.trim_start().starts_with(['{', '[']);
    match begins && serde_json::from_str::<IgnoredAny>(text).is_ok() {
        true => in_json(text, &hidden),
        false => in_words(text, 0..text.len(), &hidden),
    }
}

/// `range`, widened so that it cuts no character in two.
fn whole_chars(text: &str, range: &Range<usize>) -> Range<usize> {
    let start = (0..=range.start).rev().find(|at| text.is_char_boundary(*at));
    let end = (range.end..text.len()).find(|at| text.is_char_boundary(*at));
    start.unwrap_or(0)..end.unwrap_or(text.len())
}

/// The `part` of `text` without what is `hidden` of it.
fn in_words(text: &str, part: Range<usize>, hidden: &[Range<usize>]) -> String {
    let mut clean = String::with_capacity(part.len());
    let mut at = part.start;
    let first = hidden.partition_point(|range| range.end <= part.start);
    for range in hidden[first..].iter().take_while(|range| range.start < part.end) {
        clean.push_str(&text[at..range.start.max(at)]);
        clean.push_str(REDACTED);
        at = range.end.min(part.end);
    }
    clean.push_str(&text[at..part.end]);
    clean
}

/// A JSON document without what is `hidden`: in strings as in words; for a number that holds some
/// comes a string, and punctuation says nothing and stays.
fn in_json(text: &str, hidden: &[Range<usize>]) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        let n = match rest[0] {
            b'"' => string_bytes(rest),
            byte if is_of_scalar(byte) => rest.iter().take_while(|b| is_of_scalar(**b)).count(),
            _ => 1,
        };
        let token = at..at + n;
        let is_hidden = hidden
            .get(hidden.partition_point(|range| range.end <= token.start))
            .is_some_and(|range| range.start < token.end);
        match rest[0] {
            b'"' if is_hidden => {
                let words = in_words(text, token.start + 1..token.end - 1, hidden);
                clean.extend(["\"", &words, "\""]);
            }
            byte if is_hidden && is_of_scalar(byte) => clean.extend(["\"", REDACTED, "\""]),
            _ => clean.push_str(&text[token]),
        }
        at += n;
    }
    clean
}

/// Bytes of the JSON string that `text` begins with.
fn string_bytes(text: &[u8]) -> usize {
    let mut at = 1;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    text.len()
}

/// Whether `byte` is of a number, `true`, `false` or `null`.
fn is_of_scalar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_overlap_or_touch_are_one() {
        let check = |ranges: &[Range<usize>], want: &[Range<usize>]| {
            assert_eq!(merged(ranges.to_vec()), want);
        };
        check(&[], &[]);
        check(&[4..6, 1..2], &[1..2, 4..6]);
        check(&[1..3, 3..4, 2..3], &[1..4]);
        check(&[1..9, 2..3, 8..10], &[1..10]);
    }

    #[test]
    fn what_is_hidden_is_replaced_and_all_else_stays() {
        let check = |text: &str, hidden: &[Range<usize>], want: &str| {
            assert_eq!(without(text, hidden), want, "{text} {hidden:?}");
        };
        check("abcdef", &[0..2, 4..6], "[REDACTED]cd[REDACTED]");
        check("abcdef", &[0..6], "[REDACTED]");
        // Two ranges of one character are one.
        check("aäöü", &[2..4], "a[REDACTED]ü");
        check("aäöü", &[2..3, 3..4], "a[REDACTED]ü");
    }

    #[test]
    fn a_json_document_stays_one() {
        let check = |text: &str, hidden: &str, want: &str| {
            let start = text.find(hidden).unwrap();
            assert_eq!(without(text, &[start..start + hidden.len()]), want, "{text} {hidden}");
            serde_json::from_str::<serde_json::Value>(want).unwrap();
        };
        check(r#"{"a":"bcd"}"#, "c", r#"{"a":"b[REDACTED]d"}"#);
        check(r#"{"a":12345}"#, "234", r#"{"a":"[REDACTED]"}"#);
        check(r#"{"a": [true]}"#, "true", r#"{"a": ["[REDACTED]"]}"#);
        check(
            r#"{"a":"bcd","e":"f"}"#,
            r#"d","e":"f"#,
            r#"{"a":"bc[REDACTED]","[REDACTED]":"[REDACTED]"}"#,
        );
        check(
            r#"{"a":"b\\","c":1.5e+3}"#,
            r#"\\","c":1"#,
            r#"{"a":"b[REDACTED]","[REDACTED]":"[REDACTED]"}"#,
        );
        // What is no document is words.
        assert_eq!(without(r#"{"a":12345"#, &[5..7]), r#"{"a":[REDACTED]345"#);
    }
}
