//! No credential of ours leaves the process (contract, section 7, promise 2): a canary in every
//! credential, every failure there is, and then a search for each of them, however it is spelled.
//!
//! ```text
//! planted    the canaries, and the environment they are planted in
//! scene      a simulator and a folder, commands that hold all canaries, and what they tell
//! upstreams  each thing behind us fails in each way, on a command line
//! parrots    things behind us that repeat what they were sent
//! stores     the store fails: a folder, and Azurite behind a proxy
//! proxies    the proxy on the way fails, and certificates that nobody vouches for
//! settings   secrets typed into the wrong setting, flag or file
//! ends       runs that are cancelled, interrupted, killed; commands that only read; libraries' logs
//! handler    the functions, when what is behind them fails
//! doors      callers: their keys, bad requests, bad payloads, bad messages
//! panics     panics with a canary in their message
//! liar       a service that sends our token back as data
//! verbatim   what programs read back, and looks like a secret, is never altered
//! ```
//!
//! # Invariants
//! - What is searched for is a run of 16 characters of a canary, in any of the spellings of
//!   [`spellings`]: what the contract promises, no more and no less.
//! - Every case also proves that what it is about has happened: a canary that was never at risk
//!   proves nothing.
//!
//! Start reading at [`Search::find`], then at `upstreams`.

mod doors;
mod ends;
mod handler;
mod liar;
mod panics;
mod parrots;
mod planted;
mod proxies;
mod scene;
mod settings;
mod stores;
mod upstreams;
mod verbatim;

use std::collections::HashMap;

use azure_core::base64;

/// So many characters in a row of a credential are a leak.
const RUN_CHARS: usize = 16;
/// Spellings are cut into blocks of so many bytes. A leak is at least twice as long, whatever its
/// spelling, so it has one of the blocks in it.
const BLOCK: usize = 8;
/// What JSON Web Tokens begin with: base64 of `{"alg":`, `{"typ":` or `{"kid":`.
const JWT_HEADS: [&[u8]; 3] = [b"eyJhbGciO", b"eyJ0eXAiO", b"eyJraWQiO"];

/// One way to write a credential down.
struct Spelling {
    name: &'static str,
    text: Vec<u8>,
    /// For each byte of `text` the bits of the credential that are known with it: from, to.
    bits: Vec<(usize, usize)>,
}

impl Spelling {
    /// Every byte of `value` for itself, as `spell` writes it.
    fn of_bytes(name: &'static str, value: &[u8], spell: impl Fn(u8) -> String) -> Self {
        let (mut text, mut bits) = (Vec::new(), Vec::new());
        for (at, byte) in value.iter().enumerate() {
            let piece = spell(*byte).into_bytes();
            // A byte is known when the whole of its piece is.
            for n in 0..piece.len() {
                let from = if n == 0 { 8 * at } else { 8 * at + 8 };
                let to = if n + 1 == piece.len() { 8 * at + 8 } else { 8 * at };
                bits.push((from, to));
            }
            text.extend(piece);
        }
        Self { name, text, bits }
    }

    /// Base64 of `value` behind `n_before` bytes that are not known. Only characters that hang on
    /// nothing but `value`: a byte at an end counts as known without the few of its bits that its
    /// neighbour's character has.
    fn in_base64(
        name: &'static str,
        value: &[u8],
        n_before: usize,
        encode: fn(&[u8]) -> String,
    ) -> Self {
        let padded = [&vec![0; n_before], value, &[0; 3]].concat();
        let (mut text, mut bits) = (Vec::new(), Vec::new());
        for (at, char) in encode(&padded).bytes().enumerate() {
            let (from, to) = (6 * at, 6 * at + 6);
            if from >= 8 * n_before && to <= 8 * (n_before + value.len()) {
                text.push(char);
                let from = if from % 8 <= 4 { from / 8 * 8 } else { from };
                let to = if to % 8 >= 4 { to.next_multiple_of(8) } else { to };
                bits.push((from - 8 * n_before, to - 8 * n_before));
            }
        }
        Self { name, text, bits }
    }

    /// As Rust shows bytes: `[99, 97, 110]`.
    fn in_numbers(name: &'static str, value: &[u8]) -> Self {
        let (mut text, mut bits) = (Vec::new(), Vec::new());
        for (at, byte) in value.iter().enumerate() {
            if at > 0 {
                text.extend(b", ");
                bits.extend([(8 * at, 8 * at); 2]);
            }
            let number = Self::of_bytes(name, &[*byte], |byte| byte.to_string());
            text.extend(number.text);
            bits.extend(number.bits.iter().map(|(from, to)| (8 * at + from, 8 * at + to)));
        }
        Self { name, text, bits }
    }

    fn in_hex(name: &'static str, value: &[u8], spell: fn(u8) -> String) -> Self {
        let text: Vec<u8> = value.iter().flat_map(|byte| spell(*byte).into_bytes()).collect();
        let bits = (0..text.len()).map(|at| (4 * at, 4 * at + 4)).collect();
        Self { name, text, bits }
    }

    /// How many whole characters of the credential are known with `text[from..to]`.
    fn n_known(&self, from: usize, to: usize) -> usize {
        let (from, to) = (self.bits[from].0.div_ceil(8), self.bits[to - 1].1 / 8);
        to.saturating_sub(from)
    }
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

fn percent(byte: u8) -> String {
    if is_unreserved(byte) { char::from(byte).into() } else { format!("%{byte:02X}") }
}

/// As in a JSON string.
fn json(byte: u8) -> String {
    let quoted = serde_json::to_string(&char::from(byte)).unwrap();
    quoted[1..quoted.len() - 1].to_owned()
}

fn each(text: &str, spell: impl Fn(u8) -> String) -> String {
    text.bytes().map(spell).collect()
}

/// Every way in which a credential may be written down.
fn spellings(value: &[u8]) -> Vec<Spelling> {
    let of = |name, spell: &dyn Fn(u8) -> String| Spelling::of_bytes(name, value, spell);
    // .NET escapes these as well, and some writers the slash.
    let unicode = |byte: u8| match byte {
        b'"' | b'\\' | b'+' | b'&' | b'<' | b'>' | b'\'' => format!("\\u{byte:04X}"),
        b'/' => "\\/".to_owned(),
        _ => json(byte),
    };
    let html = |byte: u8| match byte {
        b'&' => "&amp;".to_owned(),
        b'"' => "&quot;".to_owned(),
        _ => char::from(byte).into(),
    };
    let form = |byte: u8| if byte == b' ' { "+".to_owned() } else { percent(byte) };
    // What a path may hold stays as it is there.
    let path = |byte: u8| match byte {
        b'+' | b'=' | b'&' | b'/' => char::from(byte).into(),
        _ => percent(byte),
    };
    let mut all = vec![
        of("raw", &|byte| char::from(byte).into()),
        of("URL", &percent),
        of("URL, small letters", &|byte| percent(byte).to_lowercase_escape()),
        of("form", &form),
        of("path", &path),
        of("URL in a URL", &|byte| each(&percent(byte), percent)),
        of("JSON", &json),
        of("JSON in JSON", &|byte| each(&json(byte), json)),
        of("JSON, escaped more than it must", &unicode),
        of("HTML", &html),
        Spelling::in_numbers("numbers", value),
        Spelling::in_hex("hex", value, |byte| format!("{byte:02x}")),
        Spelling::in_hex("hex, capitals", value, |byte| format!("{byte:02X}")),
    ];
    for n_before in 0..3 {
        let standard = |bytes: &[u8]| base64::encode(bytes);
        let for_urls = |bytes: &[u8]| base64::encode_url_safe(bytes);
        all.push(Spelling::in_base64("base64", value, n_before, standard));
        all.push(Spelling::in_base64("base64 for URLs", value, n_before, for_urls));
    }
    all
}

trait Escape {
    /// The letters behind a percent sign made small.
    fn to_lowercase_escape(self) -> String;
}

impl Escape for String {
    fn to_lowercase_escape(self) -> String {
        if self.starts_with('%') { self.to_lowercase() } else { self }
    }
}

/// A place where a block of a text may come from: canary, spelling, position.
type Place = (usize, usize, usize);

/// What is searched for.
pub struct Search {
    names: Vec<String>,
    /// Of each canary.
    spellings: Vec<Vec<Spelling>>,
    blocks: HashMap<[u8; BLOCK], Vec<Place>>,
}

impl Search {
    /// A search for each of these: name and value.
    pub fn new(canaries: impl IntoIterator<Item = (String, String)>) -> Self {
        let (mut names, mut all, mut blocks) = (Vec::new(), Vec::new(), HashMap::new());
        for (name, value) in canaries {
            assert!(value.len() >= RUN_CHARS, "{name} is too short to be found");
            let spellings = spellings(value.as_bytes());
            for (n, spelling) in spellings.iter().enumerate() {
                for (at, block) in spelling.text.chunks_exact(BLOCK).enumerate() {
                    let places: &mut Vec<Place> =
                        blocks.entry(block.try_into().unwrap()).or_default();
                    places.push((names.len(), n, BLOCK * at));
                }
            }
            names.push(name);
            all.push(spellings);
        }
        Self { names, spellings: all, blocks }
    }

    /// The first canary that `text` tells, how it is spelled, and what is around it.
    pub fn find(&self, text: &[u8]) -> Option<String> {
        for (at, block) in text.windows(BLOCK).enumerate() {
            let Some(places) = self.blocks.get(block) else { continue };
            for (canary, spelling, place) in places {
                let spelling = &self.spellings[*canary][*spelling];
                let (n_before, n_behind) = common(&text[..at], &text[at..], spelling, *place);
                if spelling.n_known(place - n_before, place + n_behind) >= RUN_CHARS {
                    let (name, way) = (&self.names[*canary], spelling.name);
                    return Some(format!("{name} ({way}): {}", around(text, at)));
                }
            }
        }
        None
    }

    /// As [`Search::find`], where there is no reason to write any token, known or not.
    pub fn find_or_token(&self, text: &[u8]) -> Option<String> {
        self.find(text).or_else(|| token(text))
    }
}

/// How far a text and a spelling agree, before a place and behind it.
fn common(before: &[u8], behind: &[u8], spelling: &Spelling, place: usize) -> (usize, usize) {
    let (left, right) = spelling.text.split_at(place);
    let n_before = left.iter().rev().zip(before.iter().rev()).take_while(|(a, b)| a == b).count();
    let n_behind = right.iter().zip(behind).take_while(|(a, b)| a == b).count();
    (n_before, n_behind)
}

/// The start of a JSON Web Token in `text`.
fn token(text: &[u8]) -> Option<String> {
    let is_inner = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    let is_token = |at: &usize| {
        let rest = &text[*at..];
        let is_headed = JWT_HEADS.iter().any(|head| rest.starts_with(head));
        is_headed && rest.iter().take_while(|byte| is_inner(byte)).count() >= RUN_CHARS
    };
    let at = (0..text.len()).find(is_token)?;
    Some(format!("a token: {}", around(text, at)))
}

fn around(text: &[u8], at: usize) -> String {
    let (from, to) = (at.saturating_sub(160), (at + 60).min(text.len()));
    String::from_utf8_lossy(&text[from..to]).into_owned()
}

#[cfg(test)]
mod tests;
