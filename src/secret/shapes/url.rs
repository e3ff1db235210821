//! User information in a URL: `scheme://user:password@host`.

use std::ops::Range;

use super::text::Text;
use super::values::{self, bare_end};
use crate::secret::VALUE_BYTES_MIN;

/// How far a password with a bare `/`, `?` or `#` in it is followed.
const PASSWORD_BYTES_MAX: usize = 256;

/// A leaf: `://`, behind which there may be user information.
pub(super) fn user_info(text: &Text, hit: Range<usize>, hidden: &mut Vec<Range<usize>>) -> usize {
    if !text.byte_before(hit.start).is_some_and(|byte| byte.is_ascii_alphanumeric()) {
        return hit.end;
    }
    let at = hit.end;
    let end = text.run(at, usize::MAX, is_authority_byte);
    let found = last_at_sign(text, at..end).or_else(|| {
        let authority = &text.raw[at..end];
        let end = match text.next_line(end) {
            // No dot: it is not the host of a URL that ends here.
            Some(line) if has_password(authority) || (looks_like_token(authority)) => {
                text.run(line, usize::MAX, is_authority_byte)
            }
            None if has_password(authority) => bare_end(text, end, PASSWORD_BYTES_MAX),
            _ => return None,
        };
        last_at_sign(text, at..end)
    });
    match found {
        Some(sign) if sign > at => {
            hidden.push(at..sign);
            sign
        }
        _ => hit.end,
    }
}

fn is_authority_byte(byte: u8) -> bool {
    !(byte.is_ascii_whitespace() || byte.is_ascii_control() || b"/?#\"'`\\<>|".contains(&byte))
}

/// Where the last `@` of a range is, which ends the user information.
fn last_at_sign(text: &Text, range: Range<usize>) -> Option<usize> {
    text.look_at(range.len());
    text.raw[range.clone()].iter().rposition(|byte| *byte == b'@').map(|n| range.start + n)
}

/// Whether what is behind the colon of `authority` is no port.
fn has_password(authority: &[u8]) -> bool {
    let port = authority.split(|byte| *byte == b':').nth(1).unwrap_or_default();
    !authority.starts_with(b"[") && !port.iter().all(u8::is_ascii_digit)
}

fn looks_like_token(authority: &[u8]) -> bool {
    !authority.contains(&b'.') && values::looks_random(authority, VALUE_BYTES_MIN)
}
