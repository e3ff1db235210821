//! Words for people, in answers and documents.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::{redact, redact_stored};

/// Words for people that leave the process in an answer or a state document: redacted when they are
/// made, and when they are read from a document that somebody else wrote.
///
/// A program does not act on them. What it acts on (a cursor, a filter, a path, an id) has types of
/// its own and is never altered.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct Said(String);

impl Said {
    /// `words`, redacted.
    pub fn new(words: impl AsRef<str>) -> Self {
        Self(redact(words.as_ref()).into_owned())
    }

    /// The words.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Said {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Without what this request's caller sent: the words may be written back, for all others.
        String::deserialize(deserializer).map(|words| Self(redact_stored(&words).into_owned()))
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::{REDACTED, Secret};

    #[test]
    fn words_are_redacted_when_they_are_made_and_when_they_are_read() {
        let secret = Secret::new("canary-of-words-0123456789".to_owned());
        let words = format!("no {} here", secret.expose());
        let want = format!("no {REDACTED} here");
        assert_eq!(Said::new(&words).to_string(), want);
        let read: Said = serde_json::from_value(words.into()).expect("words");
        assert_eq!(read.as_str(), want);
        assert_eq!(serde_json::to_value(&read).expect("JSON"), want);
    }
}
