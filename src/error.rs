//! The one error type, and the one table of what follows from a kind of failure.
//!
//! A [`Kind`] is named by the response it calls for. Whether it is retried, which exit code it
//! gives and what it is called in documents stands in [`Kind::facts`], without a `_` arm, so a
//! new kind cannot be forgotten.
//!
//! An [`Error`] prints as one line: `operation: what happened (where); what to do next`. It never
//! prints a secret: causes are turned to text where they arise, by code that knows what they may
//! quote, and what is left passes the redactor.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use crate::secret::redact;

/// `Result` with the project's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, named by the response it calls for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A flag is unknown or contradicts another. Whoever typed it must act.
    Usage,
    /// A setting is missing, malformed or contradicts another. An operator must act.
    Config,
    /// The service refuses what was asked for, such as a filter it cannot read.
    BadRequest,
    /// Our token is refused although it is fresh, or no token is to be had.
    Unauthorized,
    /// We are known but not allowed. A role assignment is missing.
    Denied,
    /// What was named does not exist.
    NotFound,
    /// The answer was a redirect, which is never followed with a token.
    Redirected,
    /// The other side's certificate is not trusted.
    Untrusted,
    /// The client secret is not in Key Vault, or there is nothing in it.
    SecretMissing,
    /// The client secret in Key Vault is disabled.
    SecretDisabled,
    /// The client secret in Key Vault is past its date, or before it.
    SecretExpired,
    /// The identity may not read the client secret in Key Vault. A role assignment is missing.
    VaultDenied,
    /// The network in front of Key Vault does not let us through.
    VaultFirewall,
    /// The service asked us to slow down, perhaps saying for how long.
    Throttled {
        /// The pause asked for, if any.
        retry_after: Option<Duration>,
    },
    /// Nobody is to blame yet: a timeout, a reset, a 5xx.
    Unavailable {
        /// The pause asked for, if any.
        retry_after: Option<Duration>,
    },
    /// The answer could not be read. The next one may be whole.
    Unreadable,
    /// The service goes round in circles or never ends: reading on would never finish.
    Endless,
    /// The store refuses: not writable, or not what a store looks like.
    Store,
    /// The store has no room left.
    StoreFull,
    /// Somebody else created or changed the document first.
    Conflict,
    /// The state document is of a newer version than this program.
    Newer,
    /// A run waited so long that it was given up.
    Deadline,
    /// A shard does not get further, however often it is taken up.
    ShardStuck,
    /// Somebody asked to end the run.
    Cancelled,
    /// The run's slot was not exported, since another run of its request was in work.
    Skipped,
    /// The user asked to stop.
    Interrupted,
    /// What reads our output went away; there is nobody left to tell.
    PipeClosed,
    /// A credential of ours was about to be written where a program reads it back.
    Leak,
    /// A promise of this program to itself is broken. Please report it.
    Internal,
}

/// What follows from a [`Kind`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// The name in state documents (`run.json`, `error.code`) and headings of `docs/operations.md`.
    pub code: &'static str,
    /// Whether trying the same again may help.
    pub is_retryable: bool,
    /// The exit code of a command that ends with it (contract, section 3).
    pub exit_code: u8,
    /// The HTTP status that a caller gets for it (contract, section 4): `502` for what the service
    /// answered, `503` for what may pass or an operator must mend.
    pub http_status: u16,
    /// What happened, in words that need no further reason.
    pub words: &'static str,
}

impl Kind {
    /// Every kind once, for tests and documents.
    pub const ALL: &[Self] = &[
        Self::Usage,
        Self::Config,
        Self::BadRequest,
        Self::Unauthorized,
        Self::Denied,
        Self::NotFound,
        Self::Redirected,
        Self::Untrusted,
        Self::SecretMissing,
        Self::SecretDisabled,
        Self::SecretExpired,
        Self::VaultDenied,
        Self::VaultFirewall,
        Self::Throttled { retry_after: None },
        Self::Unavailable { retry_after: None },
        Self::Unreadable,
        Self::Endless,
        Self::Store,
        Self::StoreFull,
        Self::Conflict,
        Self::Newer,
        Self::Deadline,
        Self::ShardStuck,
        Self::Cancelled,
        Self::Skipped,
        Self::Interrupted,
        Self::PipeClosed,
        Self::Leak,
        Self::Internal,
    ];

    /// The table: kind to everything that follows from it.
    pub fn facts(self) -> Facts {
        let (code, is_retryable, exit_code, http_status, words) = match self {
            Self::Usage => ("usage", false, 2, 400, "the command line cannot be used"),
            Self::Config => ("settings", false, 2, 503, "a setting cannot be used"),
            Self::BadRequest => ("bad_request", false, 1, 502, "the service refuses the request"),
            Self::Unauthorized => ("unauthorized", false, 1, 502, "the token is refused"),
            Self::Denied => ("denied", false, 1, 502, "access denied"),
            Self::NotFound => ("not_found", false, 1, 502, "not found"),
            Self::Redirected => ("redirected", false, 1, 502, "the answer is a redirect"),
            Self::Untrusted => ("untrusted", false, 1, 502, "the certificate is not trusted"),
            Self::SecretMissing => {
                ("secret_missing", false, 1, 503, "there is no such secret in Key Vault")
            }
            Self::SecretDisabled => {
                ("secret_disabled", false, 1, 503, "the secret in Key Vault is disabled")
            }
            Self::SecretExpired => {
                ("secret_expired", false, 1, 503, "the secret in Key Vault is not valid today")
            }
            Self::VaultDenied => {
                ("vault_denied", false, 1, 503, "the identity may not read the secret")
            }
            Self::VaultFirewall => {
                ("vault_firewall", false, 1, 503, "Key Vault's network does not let us in")
            }
            Self::Throttled { .. } => ("throttled", true, 1, 503, "asked to slow down"),
            Self::Unavailable { .. } => ("unavailable", true, 1, 503, "no usable answer"),
            Self::Unreadable => ("unreadable", true, 1, 502, "the answer cannot be read"),
            Self::Endless => ("endless", false, 1, 502, "the answers never come to an end"),
            Self::Store => ("store", false, 1, 503, "the store refuses"),
            Self::StoreFull => ("store_full", false, 1, 503, "the store is full"),
            Self::Conflict => ("conflict", false, 1, 409, "somebody else was first"),
            Self::Newer => ("newer_version", false, 1, 503, "written by a newer version"),
            Self::Deadline => ("deadline", false, 1, 504, "nothing was saved for too long"),
            Self::ShardStuck => ("shard_stuck", false, 1, 502, "a shard does not get further"),
            Self::Cancelled => ("cancelled", false, 1, 409, "the run was cancelled"),
            Self::Skipped => ("skipped", false, 1, 409, "the run was skipped"),
            Self::Interrupted => ("interrupted", false, 130, 503, "interrupted"),
            Self::PipeClosed => {
                ("pipe_closed", false, 0, 500, "the reader of the output went away")
            }
            Self::Leak => {
                ("credential_in_data", false, 1, 502, "a credential of ours would be written")
            }
            Self::Internal => ("internal", false, 1, 500, "a fault in this program"),
        };
        Facts { code, is_retryable, exit_code, http_status, words }
    }

    /// The kind that `code` stands for in documents.
    pub fn of_code(code: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.facts().code == code)
    }

    /// Whether trying the same again may help.
    pub fn is_retryable(self) -> bool {
        self.facts().is_retryable
    }

    /// The pause the other side asked for, if it did.
    pub fn retry_after(self) -> Option<Duration> {
        match self {
            Self::Throttled { retry_after } | Self::Unavailable { retry_after } => retry_after,
            _ => None,
        }
    }
}

/// One failure: what was tried, what happened, where, and what to do next.
#[derive(Debug, Clone)]
pub struct Error {
    kind: Kind,
    operation: Cow<'static, str>,
    reason: Option<String>,
    context: Vec<(&'static str, String)>,
    advice: Option<Cow<'static, str>>,
}

impl Error {
    /// A failure of `operation`, which is an action ("list assets").
    pub fn new(kind: Kind, operation: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, operation: operation.into(), reason: None, context: Vec::new(), advice: None }
    }

    /// That a credential of ours stands in what `operation` would write for a program to read back: it
    /// is neither written nor altered.
    pub fn leak(operation: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Leak, operation)
            .because("a credential of ours is in it, for example in a cursor of the service")
            .advise(
                "see who answers in the service's place (EASM_DATA_PLANE_URL, a proxy), and renew \
                 the credential",
            )
    }

    /// Says what happened in more words than the kind does. Must not hold a secret.
    #[must_use]
    pub fn because(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// Adds where or with what it happened. Must not hold a secret.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.context.push((name, value.to_string()));
        self
    }

    /// Says what to do next.
    #[must_use]
    pub fn advise(mut self, advice: impl Into<Cow<'static, str>>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    /// Says what to do next, unless that is said already.
    #[must_use]
    pub fn or_advise(mut self, advice: impl Into<Cow<'static, str>>) -> Self {
        self.advice.get_or_insert(advice.into());
        self
    }

    /// The same failure with another kind, for callers that know better what it means.
    #[must_use]
    pub fn as_kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// The same failure as one of `operation`, which it was a step of.
    #[must_use]
    pub fn during(mut self, operation: impl Into<Cow<'static, str>>) -> Self {
        self.operation = operation.into();
        self
    }

    /// The same failure with its sentences as `words` makes them.
    #[must_use]
    pub fn reworded(mut self, words: impl Fn(&str) -> String) -> Self {
        self.reason = self.reason.map(|reason| words(&reason));
        self.advice = self.advice.map(|advice| words(&advice).into());
        self
    }

    /// What to do next, if that was said.
    pub fn advice(&self) -> Option<&str> {
        self.advice.as_deref()
    }

    /// The same failure without what to do next, for whoever says that elsewhere.
    #[must_use]
    pub fn without_advice(mut self) -> Self {
        self.advice = None;
        self
    }

    /// What was tried.
    pub fn operation(&self) -> &str {
        &self.operation
    }

    /// What happened, if that was said in more words than the kind's.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// Where or with what it happened: what was added as `name`, for example the service's `code`.
    pub fn context(&self, name: &str) -> Option<&str> {
        self.context.iter().find(|(of, _)| *of == name).map(|(_, value)| value.as_str())
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> Kind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = format!(
            "{}: {}",
            self.operation,
            self.reason.as_deref().unwrap_or(self.kind.facts().words)
        );
        if !self.context.is_empty() {
            let pairs: Vec<String> =
                self.context.iter().map(|(name, value)| format!("{name}={value}")).collect();
            text += &format!(" ({})", pairs.join(", "));
        }
        if let Some(advice) = &self.advice {
            text += &format!("; {advice}");
        }
        // One failure is one line, whatever a service put into its message. Secrets go first: one that is
        // broken by a line break, or cut off, could not be told any more.
        f.write_str(&one_line(&redact(&text)))
    }
}

impl std::error::Error for Error {}

/// `text` with every run of control characters turned into one space, cut at [`LINE_CHARS_MAX`].
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len().min(LINE_CHARS_MAX));
    for (n_chars, c) in text.chars().enumerate() {
        if n_chars == LINE_CHARS_MAX {
            line.push('…');
            break;
        }
        match c.is_control() {
            false => line.push(c),
            true if line.ends_with(' ') => {}
            true => line.push(' '),
        }
    }
    line
}

/// Longest line an error prints: enough for a sentence, too short for a page of somebody's HTML.
pub const LINE_CHARS_MAX: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    #[test]
    fn an_error_prints_as_one_line_that_says_what_to_do() {
        let err = Error::new(Kind::Denied, "list assets")
            .with("target", "contoso")
            .advise("assign the Reader role");
        assert_eq!(
            err.to_string(),
            "list assets: access denied (target=contoso); assign the Reader role"
        );
        let err = Error::new(Kind::BadRequest, "count assets").because("line one\r\n\tline two");
        assert_eq!(err.to_string(), "count assets: line one line two");
    }

    #[test]
    fn a_secret_goes_before_lines_are_joined_and_cut() {
        let secret = Secret::new("kAn8Q~of-an-error".to_owned());
        let (front, back) = secret.expose().split_at(9);
        let said =
            |reason: String| Error::new(Kind::BadRequest, "test").because(reason).to_string();
        assert_eq!(said(format!("no {front}\n    {back} here")), "test: no [REDACTED] here");
        let short = Secret::new("hunter2-Zq9x".to_owned());
        let filler = "é ".repeat((LINE_CHARS_MAX - "test: ".len()) / 2 - 5);
        let text = said(format!("{filler}{}", short.expose()));
        assert!(!text.contains("hunter2"), "cut within a short secret: {text}");
        let info = "https://operator:sup3rs3cretpassw0rd";
        let filler = "é".repeat(LINE_CHARS_MAX - 30);
        let text = said(format!("{filler} {info}@a.example"));
        assert!(!text.contains("sup3r"), "cut within a shape: {text}");
    }

    #[test]
    fn a_page_of_somebodys_html_is_cut() {
        let err = Error::new(Kind::Unreadable, "list assets").because("é".repeat(5000));
        assert_eq!(err.to_string().chars().count(), LINE_CHARS_MAX + 1);
    }

    #[test]
    fn every_kind_has_a_code_of_its_own() {
        let mut codes: Vec<_> = Kind::ALL.iter().map(|kind| kind.facts().code).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Kind::ALL.len());
    }
}
