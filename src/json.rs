//! Reads JSON in one pass without building anything: checks it against RFC 8259, drops the white
//! space between tokens in place, and tells a [`Visit`]or where things stand.
//!
//! Asset bodies are moved as the service's own bytes, at the speed of the disk. A parser that
//! checks a page, another look for white space and a third for ids each cost as much as hashing the
//! page (measured), so this is one loop instead. What it accepts and what it leaves is held against
//! `serde_json` by seed in the tests below.
//!
//! Start reading at [`scan`].

use std::ops::Range;

/// Deepest nesting that is read. The service's deepest assets have about a dozen levels.
pub const DEPTH_MAX: usize = 512;

/// Deepest level that is told to a [`Visit`]or; below it is only checked.
pub const VISIT_DEPTH_MAX: usize = 3;

/// What kind of value was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// `{...}`
    Object,
    /// `[...]`
    Array,
    /// `"..."`
    String,
    /// A number, `true`, `false` or `null`.
    Other,
}

/// Is told what is read, outermost level 0, down to [`VISIT_DEPTH_MAX`]. Positions are those in the
/// text as it is left, without white space. The text itself must be looked at afterwards.
pub trait Visit {
    /// A member begins in an object whose members are at `depth`; `name` is its name as written,
    /// without quotes, escapes and all.
    fn member(&mut self, depth: usize, name: &[u8]);

    /// A value at `depth` ended.
    fn value(&mut self, depth: usize, shape: Shape, span: Range<usize>);
}

/// Where a text stopped being JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Byte of the text as it came.
    pub at: usize,
}

/// Checks `text`, one JSON document in UTF-8, moves it together in place, and tells `visitor`. Gives
/// the length that is left; what stands behind it has no meaning.
///
/// # Errors
/// The first byte that is not JSON. The text may then be in disorder.
pub fn scan(text: &mut [u8], visitor: &mut impl Visit) -> Result<usize, Fault> {
    if let Err(err) = std::str::from_utf8(text) {
        return Err(Fault { at: err.valid_up_to() });
    }
    let mut scanner = Scanner { text, at: 0, kept_from: 0, to: 0 };
    match scanner.document(visitor) {
        Some(()) => Ok(scanner.settle()),
        None => Err(Fault { at: scanner.at }),
    }
}

struct Scanner<'a> {
    text: &'a mut [u8],
    /// What is looked at.
    at: usize,
    /// The text from here to `at` is kept, and not yet moved.
    kept_from: usize,
    /// Where the text from `kept_from` on belongs.
    to: usize,
}

/// An object or array that is not closed yet.
#[derive(Clone, Copy)]
struct Open {
    shape: Shape,
    start: usize,
}

// `None` means: not JSON, at `self.at`.
impl Scanner<'_> {
    fn document(&mut self, visitor: &mut impl Visit) -> Option<()> {
        let mut open: Vec<Open> = Vec::with_capacity(16);
        'value: loop {
            self.skip_white_space();
            let start = self.position();
            let shape = match self.peek()? {
                b'"' => self.string().map(|()| Shape::String)?,
                bracket @ (b'{' | b'[') => {
                    let shape = if bracket == b'{' { Shape::Object } else { Shape::Array };
                    if open.len() == DEPTH_MAX {
                        return None;
                    }
                    open.push(Open { shape, start });
                    self.at += 1;
                    self.skip_white_space();
                    let is_empty = match shape {
                        Shape::Object => self.peek()? == b'}',
                        _ => self.peek()? == b']',
                    };
                    if !is_empty {
                        if shape == Shape::Object {
                            self.member(open.len(), visitor)?;
                        }
                        continue 'value;
                    }
                    open.pop();
                    self.at += 1;
                    shape
                }
                b'-' | b'0'..=b'9' => self.number().map(|()| Shape::Other)?,
                b't' => self.literal(b"true")?,
                b'f' => self.literal(b"false")?,
                b'n' => self.literal(b"null")?,
                _ => return None,
            };
            let mut ended = Open { shape, start };
            loop {
                if open.len() <= VISIT_DEPTH_MAX {
                    visitor.value(open.len(), ended.shape, ended.start..self.position());
                }
                self.skip_white_space();
                let Some(container) = open.last().copied() else {
                    return (self.at == self.text.len()).then_some(());
                };
                match (self.peek()?, container.shape) {
                    (b',', Shape::Object) => {
                        self.at += 1;
                        self.skip_white_space();
                        self.member(open.len(), visitor)?;
                        continue 'value;
                    }
                    (b',', _) => {
                        self.at += 1;
                        continue 'value;
                    }
                    (b'}', Shape::Object) | (b']', Shape::Array) => {
                        self.at += 1;
                        open.pop();
                        ended = container;
                    }
                    _ => return None,
                }
            }
        }
    }

    /// `"name":`
    fn member(&mut self, depth: usize, visitor: &mut impl Visit) -> Option<()> {
        let start = self.at;
        if self.peek()? != b'"' {
            return None;
        }
        self.string()?;
        if depth <= VISIT_DEPTH_MAX {
            visitor.member(depth, &self.text[start + 1..self.at - 1]);
        }
        self.skip_white_space();
        (self.peek()? == b':').then(|| self.at += 1)
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// Where `at` stands once everything kept has moved to its place.
    fn position(&self) -> usize {
        self.to + self.at - self.kept_from
    }

    /// Moves what is kept to its place. Gives the position behind it.
    fn settle(&mut self) -> usize {
        let end = self.position();
        if self.to != self.kept_from {
            self.text.copy_within(self.kept_from..self.at, self.to);
        }
        (self.to, self.kept_from) = (end, self.at);
        end
    }

    fn skip_white_space(&mut self) {
        if !self.peek().is_some_and(is_white_space) {
            return;
        }
        self.settle();
        while self.peek().is_some_and(is_white_space) {
            self.at += 1;
        }
        self.kept_from = self.at;
    }

    /// A string, from its opening quote to behind its closing one.
    fn string(&mut self) -> Option<()> {
        self.at += 1;
        loop {
            self.skip_plain();
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    return Some(());
                }
                b'\\' => self.escape()?,
                _ => return None,
            }
        }
    }

    /// Moves on to the next quote, backslash or control character, eight bytes at a time.
    fn skip_plain(&mut self) {
        while let Some(chunk) = self.text.get(self.at..self.at + 8) {
            let chunk = u64::from_le_bytes(chunk.try_into().expect("eight bytes"));
            let found = find(chunk);
            if found != 0 {
                self.at += found.trailing_zeros() as usize / 8;
                return;
            }
            self.at += 8;
        }
        while self.peek().is_some_and(|byte| !matches!(byte, b'"' | b'\\' | 0..0x20)) {
            self.at += 1;
        }
    }

    fn escape(&mut self) -> Option<()> {
        self.at += 1;
        match self.peek()? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => self.at += 1,
            b'u' => {
                self.at += 1;
                for _ in 0..4 {
                    if !self.peek()?.is_ascii_hexdigit() {
                        return None;
                    }
                    self.at += 1;
                }
            }
            _ => return None,
        }
        Some(())
    }

    fn number(&mut self) -> Option<()> {
        if self.peek()? == b'-' {
            self.at += 1;
        }
        match self.peek()? {
            b'0' => self.at += 1,
            _ => self.digits()?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Some(())
    }

    /// One digit or more.
    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }

    fn literal(&mut self, word: &[u8]) -> Option<Shape> {
        let is_there = self.text[self.at..].starts_with(word);
        is_there.then(|| {
            self.at += word.len();
            Shape::Other
        })
    }
}

fn is_white_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\r' | b'\t')
}

/// The high bit of each byte of `chunk` that is a quote, a backslash or below 0x20. Bits above the
/// lowest one found may be wrong (borrows run upwards), so only that one counts.
fn find(chunk: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = ONES << 7;
    let equals = |byte: u8| {
        let zeros = chunk ^ (ONES * u64::from(byte));
        zeros.wrapping_sub(ONES) & !zeros
    };
    let below_space = chunk.wrapping_sub(ONES * 0x20) & !chunk;
    (equals(b'"') | equals(b'\\') | below_space) & HIGHS
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[derive(Default)]
    struct Log(Vec<String>);

    impl Visit for Log {
        fn member(&mut self, depth: usize, name: &[u8]) {
            self.0.push(format!("{depth} {}:", String::from_utf8_lossy(name)));
        }

        fn value(&mut self, depth: usize, shape: Shape, span: Range<usize>) {
            self.0.push(format!("{depth} {shape:?} {span:?}"));
        }
    }

    fn compact(text: &str) -> Option<String> {
        let mut bytes = text.as_bytes().to_vec();
        let length = scan(&mut bytes, &mut Log::default()).ok()?;
        bytes.truncate(length);
        Some(String::from_utf8(bytes).expect("still UTF-8"))
    }

    #[test]
    fn only_white_space_between_tokens_is_removed() {
        let check = |text: &str, want: &str| assert_eq!(compact(text).as_deref(), Some(want));
        check("{}", "{}");
        check(" { \"a\" :\r\n\t[ 1.0 , -0, 1e5 ,1E+2] } ", "{\"a\":[1.0,-0,1e5,1E+2]}");
        check(
            r#"{"a b" : "c  d\" : \\" , "é\u00e9\ud800" : "\\"}"#,
            r#"{"a b":"c  d\" : \\","é\u00e9\ud800":"\\"}"#,
        );
        check("12345678901234567890123 ", "12345678901234567890123");
        check("[ [ ] , { } , true,false , null ]", "[[],{},true,false,null]");
        check(
            "\"a long string, longer than eight bytes\"",
            "\"a long string, longer than eight bytes\"",
        );
    }

    #[test]
    fn what_is_not_json_is_refused_where_it_stops_being_so() {
        let check = |text: &[u8], want: usize| {
            let found = scan(&mut text.to_vec(), &mut Log::default());
            assert_eq!(found, Err(Fault { at: want }), "{}", String::from_utf8_lossy(text));
        };
        check(b"", 0);
        check(b"<html>", 0);
        check(b"{\"a\":1", 6);
        check(b"{\"a\" 1}", 5);
        check(b"{\"a\":1,}", 7);
        check(b"[1,]", 3);
        check(b"[1}", 2);
        check(b"{} {}", 3);
        check(b"01", 1);
        check(b"1.", 2);
        check(b"-", 1);
        check(b"1e+", 3);
        check(b"tru", 0);
        check(b"\"a\nb\"", 2);
        check(b"\"0123456789\x01\"", 11);
        check(b"\"\\x\"", 2);
        check(b"\"\\u12g4\"", 5);
        check(b"\"\xff\"", 1);
        check(b"\"open", 5);
        check(&[b'['; DEPTH_MAX + 1], DEPTH_MAX);
    }

    #[test]
    fn a_visitor_learns_where_things_stand_afterwards() {
        let mut log = Log::default();
        let mut text = br#"{ "v" : [ {"id" : "x", "y":{"z":[1]}} ,2] }"#.to_vec();
        let length = scan(&mut text, &mut log).expect("JSON");
        assert_eq!(&text[..length], br#"{"v":[{"id":"x","y":{"z":[1]}},2]}"#);
        let want = [
            "1 v:",
            "3 id:",
            "3 String 12..15",
            "3 y:",
            "3 Object 20..29",
            "2 Object 6..30",
            "2 Other 31..32",
            "1 Array 5..33",
            "0 Object 0..34",
        ];
        assert_eq!(log.0, want);
    }

    /// A document of any shape, with white space anywhere it may stand.
    fn document(random: &mut fastrand::Rng, depth: u32, out: &mut String) {
        const STRINGS: [&str; 8] = [
            "",
            "id",
            "\\\"",
            "a  b",
            "größe 漢字",
            "\\u00e9\\\\",
            "{[,:]}",
            "0123456789abcdef\\n",
        ];
        const SCALARS: [&str; 8] =
            ["0", "-0", "1.50", "1e5", "12345678901234567890", "true", "false", "null"];
        let space = |random: &mut fastrand::Rng, out: &mut String| {
            for _ in 0..random.usize(0..3) {
                out.push(*random.choice(&[' ', '\n', '\t', '\r']).expect("four"));
            }
        };
        space(random, out);
        match random.u32(0..if depth == 0 { 2 } else { 4 }) {
            0 => *out += random.choice(SCALARS).expect("eight"),
            1 => *out += &format!("\"{}\"", random.choice(STRINGS).expect("eight")),
            shape => {
                let (start, end) = if shape == 2 { ('[', ']') } else { ('{', '}') };
                out.push(start);
                for n in 0..random.u32(0..5) {
                    if n > 0 {
                        out.push(',');
                    }
                    if shape == 3 {
                        space(random, out);
                        *out += &format!("\"{}\"", random.choice(STRINGS).expect("eight"));
                        space(random, out);
                        out.push(':');
                    }
                    document(random, depth - 1, out);
                }
                space(random, out);
                out.push(end);
            }
        }
        space(random, out);
    }

    /// What the scanner accepts is what `serde_json` accepts, and what it leaves means the same and
    /// has no white space to lose. Repeat one case with its seed.
    #[test]
    fn the_scanner_agrees_with_serde_json() {
        let (mut n_good, mut n_bad) = (0, 0);
        for seed in 0..20_000 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut text = String::new();
            document(&mut random, 4, &mut text);
            // Half of them broken in one place.
            let mut bytes = text.into_bytes();
            if seed % 2 == 1 && !bytes.is_empty() {
                let at = random.usize(0..bytes.len());
                match random.u32(0..3) {
                    0 => drop(bytes.remove(at)),
                    1 => bytes[at] = random.u8(..),
                    _ => bytes.truncate(at),
                }
            }
            // The parser that keeps what it skips unread: it judges grammar alone.
            let judged = serde_json::from_slice::<&serde_json::value::RawValue>(&bytes);
            let mut left = bytes.clone();
            let found = scan(&mut left, &mut Log::default());
            assert_eq!(found.is_ok(), judged.is_ok(), "seed {seed}: {:?}", bytes.escape_ascii());
            let Ok(length) = found else {
                n_bad += 1;
                continue;
            };
            n_good += 1;
            left.truncate(length);
            let again = compact(std::str::from_utf8(&left).expect("UTF-8"));
            assert_eq!(again.map(String::into_bytes).as_ref(), Some(&left), "seed {seed}");
            if let Ok(value) = serde_json::from_slice::<Value>(&bytes) {
                let same = serde_json::from_slice::<Value>(&left).expect("JSON");
                assert_eq!(same, value, "seed {seed}");
            }
        }
        assert!(n_good > 8_000 && n_bad > 3_000, "{n_good} good, {n_bad} bad");
    }
}
