//! NDJSON: one record a line (contract, section 5).

use std::ops::Range;

/// Turns a page into lines, in place: the records at `spans` in `page`, in this order, each with LF
/// behind it. Gives where in `page` the lines stand.
///
/// The page has no white space between tokens, so no record holds a line feed. Spans are in order,
/// and at least one byte stands between two of them and behind the last, as commas and brackets do:
/// a line never grows into the record behind it. Where no record is left out, nothing is moved.
pub fn to_lines(page: &mut [u8], spans: &[Range<usize>]) -> Range<usize> {
    let start = spans.first().map_or(0, |span| span.start);
    let mut end = start;
    for span in spans {
        if span.start != end {
            page.copy_within(span.clone(), end);
        }
        end += span.len();
        page[end] = b'\n';
        end += 1;
    }
    start..end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_becomes_lines_in_place_and_records_can_be_left_out() {
        let check = |spans: &[Range<usize>], want: &str| {
            let mut page = br#"[{"a":1},{"b":22},{"c":3}]"#.to_vec();
            let lines = to_lines(&mut page, spans);
            assert_eq!(std::str::from_utf8(&page[lines]).expect("utf-8"), want);
        };
        check(&[1..8, 9..17, 18..25], "{\"a\":1}\n{\"b\":22}\n{\"c\":3}\n");
        check(&[1..8, 18..25], "{\"a\":1}\n{\"c\":3}\n");
        check(&[9..17, 18..25], "{\"b\":22}\n{\"c\":3}\n");
        check(&[], "");
    }
}
