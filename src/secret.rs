//! Secrets: values that cannot print, and the list of those that are alive.
//!
//! A [`Secret`] has no `Display` and no `Serialize`, and its `Debug` shows nothing. The word to
//! search for is [`Secret::expose`]. Every secret is entered into a process-wide registry when it
//! is made, so that [`redact`] can keep it out of whatever we print: a last line of defence, not
//! the first.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, RwLock};

use secrecy::{ExposeSecret, SecretString};

/// Shortest run of a secret's bytes that may not be printed (contract, section 7, promise 2).
pub const RUN_BYTES: usize = 16;

/// How many secrets the registry remembers. Tokens are replaced about hourly, per audience.
pub const SECRETS_MAX: usize = 256;

/// What is printed in a secret's place.
pub const REDACTED: &str = "[REDACTED]";

static REGISTRY: RwLock<VecDeque<Arc<SecretString>>> = RwLock::new(VecDeque::new());

/// A value that must never be printed. Cheap to clone.
#[derive(Clone)]
pub struct Secret(Arc<SecretString>);

impl Secret {
    /// Wraps `value` and enters it into the registry. Secrets of equal value are one in there, and
    /// stay as long as anybody holds one of them.
    pub fn new(value: String) -> Self {
        let value = SecretString::from(value);
        let mut registry = REGISTRY.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(known) =
            registry.iter().find(|known| known.expose_secret() == value.expose_secret())
        {
            return Self(Arc::clone(known));
        }
        if registry.len() == SECRETS_MAX {
            // The oldest that nobody holds any more, else the oldest.
            let dead = registry.iter().position(|old| Arc::strong_count(old) == 1);
            registry.remove(dead.unwrap_or(0));
        }
        let secret = Arc::new(value);
        registry.push_back(Arc::clone(&secret));
        Self(secret)
    }

    /// The value itself. Whoever calls this answers for where it goes.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

/// `text` with every run of [`RUN_BYTES`] or more bytes of a registered secret, and every whole
/// shorter secret, replaced by [`REDACTED`].
pub fn redact(text: &str) -> String {
    let registry = REGISTRY.read().unwrap_or_else(|poisoned| poisoned.into_inner());
    let mut hidden = vec![false; text.len()];
    for secret in registry.iter() {
        hide(secret.expose_secret().as_bytes(), text.as_bytes(), &mut hidden);
    }
    drop(registry);

    let mut clean = String::with_capacity(text.len());
    let mut is_hiding = false;
    for (at, c) in text.char_indices() {
        match (hidden[at], is_hiding) {
            (true, false) => clean.push_str(REDACTED),
            (true, true) => {}
            (false, _) => clean.push(c),
        }
        is_hiding = hidden[at];
    }
    clean
}

/// Marks the bytes of `text` that belong to a run of `secret`.
fn hide(secret: &[u8], text: &[u8], hidden: &mut [bool]) {
    // Four characters or fewer would blank ordinary words; no credential is that short.
    const SECRET_BYTES_MIN: usize = 5;
    if secret.len() < SECRET_BYTES_MIN {
        return;
    }
    let run = secret.len().min(RUN_BYTES);
    let windows: std::collections::HashSet<&[u8]> = secret.windows(run).collect();
    for (at, window) in text.windows(run).enumerate() {
        if windows.contains(window) {
            hidden[at..at + run].fill(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_print() {
        let secret = Secret::new("canary-a1b2c3d4e5f6g7h8i9j0".to_owned());
        assert_eq!(format!("{secret:?}"), REDACTED);
    }

    #[test]
    fn sixteen_characters_in_a_row_are_replaced_and_fifteen_are_not() {
        let value = "canary-0123456789-ABCDEFGHIJ-tail";
        let _secret = Secret::new(value.to_owned());
        let check = |text: &str, want: &str| assert_eq!(redact(text), want, "{text}");
        check(&format!("token {value} end"), "token [REDACTED] end");
        check(&format!("token {} end", &value[3..19]), "token [REDACTED] end");
        check(&format!("token {} end", &value[3..18]), &format!("token {} end", &value[3..18]));
        check("größe ohne Geheimnis", "größe ohne Geheimnis");
    }

    #[test]
    fn a_secret_that_is_held_is_remembered_however_many_come_after_it() {
        let value = "canary-of-the-oldest-secret";
        // First known while it is read, then held by whoever uses it.
        drop(Secret::new(value.to_owned()));
        let _held = Secret::new(value.to_owned());
        for n in 0..2 * SECRETS_MAX {
            drop(Secret::new(format!("another-secret-of-the-test-{n:08}")));
        }
        assert_eq!(redact(value), REDACTED);
    }

    #[test]
    fn a_short_secret_is_replaced_whole() {
        let _secret = Secret::new("hunter2!".to_owned());
        assert_eq!(redact("password=hunter2!;"), "password=[REDACTED];");
        assert_eq!(redact("hunter2"), "hunter2");
    }
}
