//! Which names say that a secret follows: one table.

use super::text::Text;

/// How far from a trigger word its name is read, to either side.
const NAME_CHARS_MAX: usize = 64;

/// What a name says of the value behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Means {
    /// It is a secret.
    Secret,
    /// It is a secret that somebody may have thought up: it may read as a word.
    Password,
    /// It is a secret if it looks like one.
    SecretIfRandom,
    /// It is a signature, or a query with a signature in it.
    Signature,
    /// A scheme and credentials.
    Authorization,
    /// Pairs of cookies' names and values.
    Cookie,
    /// Pairs of which some are secret, or one secret.
    ConnectionString,
}

use Means::{Authorization, ConnectionString, Cookie, Password, Secret, SecretIfRandom, Signature};

/// How names end, in small letters and without what separates words. The longest that fits decides;
/// `None` is a name that only looks like one of a secret.
const ENDINGS: &[(&str, Option<Means>)] = &[
    ("secret", Some(Secret)),
    ("token", Some(Secret)),
    ("continuationtoken", None),
    ("pagetoken", None),
    ("skiptoken", None),
    ("cancellationtoken", None),
    ("assertion", Some(Secret)),
    ("codeverifier", Some(Secret)),
    ("identityheader", Some(Secret)),
    ("password", Some(Password)),
    ("passwd", Some(Password)),
    ("passphrase", Some(Password)),
    ("passcode", Some(Password)),
    ("dbpass", Some(Password)),
    ("pass", Some(Password)),
    ("pwd", Some(Password)),
    ("sig", Some(Signature)),
    ("sharedaccesssignature", Some(Signature)),
    ("signature", Some(SecretIfRandom)),
    ("credential", Some(SecretIfRandom)),
    ("bearer", Some(Secret)),
    ("dpop", Some(Secret)),
    ("authorization", Some(Authorization)),
    ("authorizationcode", Some(Secret)),
    ("authorizationauxiliary", Some(Authorization)),
    ("cookie", Some(Cookie)),
    ("connectionstring", Some(ConnectionString)),
    ("connectionstr", Some(ConnectionString)),
    ("apikey", Some(Secret)),
    ("accesskey", Some(Secret)),
    ("accountkey", Some(Secret)),
    ("sharedkey", Some(Secret)),
    ("storagekey", Some(Secret)),
    ("functionkey", Some(Secret)),
    ("functionskey", Some(Secret)),
    ("hostkey", Some(Secret)),
    ("masterkey", Some(Secret)),
    ("systemkey", Some(Secret)),
    ("adminkey", Some(Secret)),
    ("primarykey", Some(Secret)),
    ("secondarykey", Some(Secret)),
    ("privatekey", Some(Secret)),
    ("secretkey", Some(Secret)),
    ("subscriptionkey", Some(Secret)),
    ("encryptionkey", Some(Secret)),
    ("decryptionkey", Some(Secret)),
    ("validationkey", Some(Secret)),
    ("signingkey", Some(Secret)),
    ("sessionkey", Some(Secret)),
    ("machinekey", Some(Secret)),
    // Any other key, such as `key1`.
    ("key", Some(SecretIfRandom)),
    ("publickey", None),
    ("partitionkey", None),
    ("rowkey", None),
    ("sortkey", None),
    ("foreignkey", None),
    ("objectkey", None),
    ("cachekey", None),
    ("idempotencykey", None),
];

/// Endings that count only where a word begins: else `bypass` and `design` were secrets.
const WHOLE_WORDS: &[&str] = &["pass", "pwd", "sig"];

/// Last words of names that say how, or which one, but not what: `secret_value`, `API_KEY_2`.
const SAYS_NOTHING: &[&str] = &[
    "value",
    "text",
    "string",
    "data",
    "header",
    "raw",
    "plain",
    "pem",
    "hex",
    "b64",
    "base64",
    "encoded",
    "old",
    "new",
    "current",
    "previous",
    "primary",
    "secondary",
];

/// Whether `byte` may be in a name.
pub(super) fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

/// Where the name ends that goes on at `at`.
pub(super) fn end(text: &Text, at: usize) -> usize {
    text.run(at, NAME_CHARS_MAX, is_name_byte)
}

/// Where the name begins that goes on before `at`: one word, or words with a space between them.
pub(super) fn start(text: &Text, at: usize, has_spaces: bool) -> usize {
    let start = text
        .run_back(at, NAME_CHARS_MAX, |byte| is_name_byte(byte) || (has_spaces && byte == b' '));
    text.run(start, NAME_CHARS_MAX, |byte| byte == b' ').min(at)
}

/// Whether a name and what separates it from its value are at `at`; with spaces as in a connection
/// string, which has `=` only.
pub(super) fn is_pair(text: &Text, at: usize, has_spaces: bool) -> bool {
    let end =
        text.run(at, NAME_CHARS_MAX, |byte| is_name_byte(byte) || (has_spaces && byte == b' '));
    let next = text.byte(end + 1);
    let is_separator = match text.byte(end) {
        // Base64 ends in `=` too.
        Some(b'=') => {
            next.is_some_and(|byte| !byte.is_ascii_whitespace() && !b"=)]},;&<".contains(&byte))
        }
        Some(b':') => !has_spaces && next.is_some_and(|byte| byte.is_ascii_whitespace()),
        _ => false,
    };
    end > at && is_separator
}

/// What `name` says; nothing if it is none of a secret.
pub fn meaning(name: &[u8]) -> Option<Means> {
    let mut words = Words::of(name);
    loop {
        let ends = |(ending, _): &&(&str, _)| words.end_with(ending);
        if let Some((_, means)) = ENDINGS.iter().filter(ends).max_by_key(|(ending, _)| ending.len())
        {
            return *means;
        }
        if !words.drop_last(SAYS_NOTHING) {
            break;
        }
    }
    // Of many, all or none are secret, and a number is how many there are.
    match words.letters.strip_suffix(b"s").map(meaning)? {
        Some(Secret | Password | Signature) => Some(SecretIfRandom),
        means => means,
    }
}

/// The words of a name, whatever separates them.
struct Words {
    /// Small letters and digits, without what separates words.
    letters: Vec<u8>,
    /// Where in `letters` words begin.
    starts: Vec<usize>,
}

impl Words {
    fn of(name: &[u8]) -> Self {
        let mut words = Self { letters: Vec::with_capacity(name.len()), starts: Vec::new() };
        for (at, &byte) in name.iter().enumerate() {
            if !byte.is_ascii_alphanumeric() {
                continue;
            }
            if begins_word(name, at) {
                words.starts.push(words.letters.len());
            }
            words.letters.push(byte.to_ascii_lowercase());
        }
        words
    }

    fn end_with(&self, ending: &str) -> bool {
        self.letters.ends_with(ending.as_bytes())
            && (!WHOLE_WORDS.contains(&ending)
                || self.starts.contains(&(self.letters.len() - ending.len())))
    }

    /// Drops the last word if it is one of `words` or a number. False if there is nothing to drop.
    fn drop_last(&mut self, words: &[&str]) -> bool {
        let n_digits = self.letters.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
        let is_last = |word: &&&str| {
            self.letters.ends_with(word.as_bytes())
                && self.starts.contains(&(self.letters.len() - word.len()))
        };
        let dropped = words.iter().find(is_last).map_or(n_digits, |word| word.len());
        self.letters.truncate(self.letters.len() - dropped);
        dropped > 0 && !self.letters.is_empty()
    }
}

/// Whether a word begins at `at`: `client_secret`, `client secret`, `clientSecret`, `APIKey`.
fn begins_word(name: &[u8], at: usize) -> bool {
    let Some(before) = at.checked_sub(1).map(|at| name[at]) else { return true };
    let is_before_small = name.get(at + 1).is_some_and(u8::is_ascii_lowercase);
    !before.is_ascii_alphanumeric()
        || (name[at].is_ascii_uppercase() && (!before.is_ascii_uppercase() || is_before_small))
}
