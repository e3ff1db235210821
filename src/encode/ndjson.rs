//! NDJSON: one record a line, exactly as the service sent it, without the white space between
//! tokens (contract, section 5).

use memchr::memchr2;

/// Appends one record and its LF to `out`. `json` must be valid JSON (the reader of the page saw
/// to that): then only white space outside strings is dropped, and every other byte is kept.
pub fn append_line(json: &[u8], out: &mut Vec<u8>) {
    out.reserve(json.len() + 1);
    let mut kept_to = 0;
    let mut at = 0;
    while at < json.len() {
        match json[at] {
            b'"' => at = string_end(json, at),
            b' ' | b'\n' | b'\r' | b'\t' => {
                out.extend_from_slice(&json[kept_to..at]);
                at += 1;
                kept_to = at;
            }
            _ => at += 1,
        }
    }
    out.extend_from_slice(&json[kept_to..]);
    out.push(b'\n');
}

/// The position behind the string that starts at `start`.
fn string_end(json: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(found) = json.get(at..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
        at += found;
        if json[at] == b'"' {
            return at + 1;
        }
        at += 2;
    }
    json.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_white_space_between_tokens_is_removed() {
        let check = |json: &str, want: &str| {
            let mut out = Vec::new();
            append_line(json.as_bytes(), &mut out);
            assert_eq!(String::from_utf8(out).expect("utf-8"), format!("{want}\n"));
        };
        check("{}", "{}");
        check("{ \"a\" :\r\n\t[ 1.0 , -0, 1e5 ] }", "{\"a\":[1.0,-0,1e5]}");
        check(r#"{"a b" : "c  d\" : \\" , "é\u00e9" : "\\"}"#, r#"{"a b":"c  d\" : \\","é\u00e9":"\\"}"#);
        check("{\"id\":12345678901234567890123}", "{\"id\":12345678901234567890123}");
        check(" [ ] ", "[]");
    }
}
