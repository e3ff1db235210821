//! The client secret that is in Key Vault: read with the app's own identity, shared by all who sign
//! in with it, and kept for a quarter of an hour.
//!
//! ```text
//! current     kept -> it | turn -> read -> dates -> warning -> keep
//! look_again  (Entra refused it) a read behind a refusal -> it | turn -> read -> ... -> keep
//! ```
//!
//! # Invariants
//! - A secret is read by one at a time in this process. Whoever waits meanwhile shares what comes of
//!   it, a secret or a failure.
//! - What was read is dropped [`KEPT_MAX`] after its reading began, by a timer, and is never put back.
//! - A refusal of Entra is answered by one read that began after it, however many met it.
//! - A failure drops nothing: what is kept goes on serving.
//!
//! What the words of the vault and of its client mean is known by `refusal`, how it is asked by `read`,
//! and who signs in with what comes of it by `identity`.
//!
//! Start reading at [`VaultSecret::current`].

mod read;
mod refusal;

use std::collections::HashMap;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tracing::{debug, warn};
use url::Url;

use crate::clock::{Clock, Timestamp};
use crate::error::{Error, Kind, Result};
use crate::net::Bearer;
use crate::secret::Secret;

pub use read::{ANSWER_SECONDS_MAX, READ_SECONDS_MAX};

/// The scope of tokens for Key Vault ("Authentication, requests and responses", Key Vault REST
/// reference).
pub const VAULT_SCOPE: &str = "https://vault.azure.net/.default";

/// Longest time for which a secret is kept in memory.
pub const KEPT_MAX: Duration = Duration::from_secs(15 * 60);

/// How young a version is that Entra may not know everywhere yet.
pub const YOUNG_MAX: Duration = Duration::from_secs(10 * 60);

/// How long before its end a secret is warned of.
pub const WARNED_BEFORE: Duration = Duration::from_secs(30 * 24 * 3600);

/// The operation of errors that say that there is no client secret. Whoever gave up on one has tried
/// often enough: nobody else tries again.
pub const READING: &str = "read the client secret from Key Vault";

/// A secret that was read.
pub(super) struct Found {
    pub value: Secret,
    /// Which version of the secret it is, in the vault's words.
    pub version: String,
    /// When this version was put into the vault.
    pub made_at: Option<Timestamp>,
    /// From when on it is meant to be used.
    pub begins_at: Option<Timestamp>,
    /// Until when it is meant to be used.
    pub ends_at: Option<Timestamp>,
}

/// Whoever can read one secret.
#[async_trait]
pub(super) trait Read: Send + Sync {
    /// Reads it, in at most [`READ_SECONDS_MAX`].
    async fn read(&self) -> Result<Found>;
}

/// Where a secret is, as errors name it.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// The vault's host.
    pub vault: String,
    /// The secret's name.
    pub name: String,
}

impl Place {
    /// A failure to read it.
    fn error(&self, kind: Kind, reason: impl Into<String>) -> Error {
        self.of(Error::new(kind, READING).because(reason))
    }

    /// `err`, saying that it is about this secret.
    fn of(&self, err: Error) -> Error {
        err.with("vault", &self.vault).with("name", &self.name)
    }

    /// That what answers wants a token that is not for it.
    fn wrong_audience(&self) -> Error {
        let reason = "what answers there asks for a token of something else than Key Vault, and \
                      gets none";
        self.error(Kind::Unauthorized, reason).advise("check EASM_KEY_VAULT_URL")
    }
}

/// A client secret as it was read once.
pub struct Held {
    value: Secret,
    made_at: Option<Timestamp>,
    /// Which reading it is of, counted from 1.
    reading: u64,
    /// Whether it was read because the one before was refused.
    is_second_look: bool,
}

impl Held {
    /// The client secret.
    pub fn value(&self) -> &Secret {
        &self.value
    }

    /// Whether it is the same client secret as `other`, whenever they were read.
    pub fn is_same(&self, other: &Self) -> bool {
        self.value.expose() == other.value.expose()
    }
}

/// A client secret in Key Vault. Shared by all who sign in with it.
pub struct VaultSecret {
    place: Place,
    reader: Box<dyn Read>,
    clock: Arc<dyn Clock>,
    /// Never held while anything is waited for.
    known: Arc<std::sync::Mutex<Known>>,
    /// Held while the secret is read.
    turn: Mutex<()>,
}

#[derive(Default)]
struct Known {
    kept: Option<Kept>,
    n_begun: u64,
    n_ended: u64,
    /// The last failure, and how many readings had ended with it.
    failure: Option<(u64, Error)>,
    /// Of which version's end it was warned last, and on which day.
    warned: Option<Warned>,
}

/// A warning that was given: the version, its last day, and the day of the warning.
#[derive(PartialEq, Eq)]
struct Warned {
    version: String,
    ends_on: String,
    warned_on: String,
}

struct Kept {
    held: Arc<Held>,
    until: Instant,
}

impl VaultSecret {
    /// The secret `name` of the vault at `url`, read with tokens of `bearer`, which are for that vault
    /// alone.
    ///
    /// # Errors
    /// [`Kind::Config`] if there is no way there.
    pub fn new(
        url: &Url,
        name: &str,
        bearer: Arc<dyn Bearer>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let vault = url.host_str().unwrap_or_default().to_owned();
        let place = Place { vault, name: name.to_owned() };
        let vault = read::Vault::new(url, place.clone(), bearer)?;
        Ok(Self::read_by(Box::new(vault), place, clock))
    }

    /// The secret at `place`, which `reader` reads.
    pub(super) fn read_by(reader: Box<dyn Read>, place: Place, clock: Arc<dyn Clock>) -> Self {
        let (known, turn) = (Arc::default(), Mutex::default());
        Self { place, reader, clock, known, turn }
    }

    /// The client secret as it was read last, or now if that is too long ago.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn current(&self) -> Result<Arc<Held>> {
        match self.kept() {
            Some(held) => Ok(held),
            None => self.read_in_turn(|_| true, false).await,
        }
    }

    /// The client secret as it is now that Entra refused `refused`: it may have been replaced.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn look_again(&self, refused: &Held) -> Result<Arc<Held>> {
        // Another one may be what Entra wants. The same one tells something only if it was read behind
        // a refusal of it, and not before `refused`: whoever replaces a secret puts the new one into
        // the vault first.
        let serves = |held: &Held| {
            !held.is_same(refused) || (held.is_second_look && held.reading > refused.reading)
        };
        match self.kept().filter(|held| serves(held)) {
            Some(held) => Ok(held),
            None => self.read_in_turn(serves, true).await,
        }
    }

    /// Whether Entra may not know `held` yet, since it was put into the vault a short while ago.
    pub fn is_young(&self, held: &Held) -> bool {
        let now = self.clock.now();
        // Clocks differ: it may seem to be of the near future.
        held.made_at.is_some_and(|made_at| now.since(made_at).max(made_at.since(now)) < YOUNG_MAX)
    }

    /// `err`, saying that it is about this secret.
    pub fn concern(&self, err: Error) -> Error {
        self.place.of(err)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        lock(&self.known)
    }

    /// What is kept, if it is not too old.
    fn kept(&self) -> Option<Arc<Held>> {
        let known = self.known();
        // The timer may be late.
        let kept = known.kept.as_ref().filter(|kept| Instant::now() < kept.until);
        kept.map(|kept| Arc::clone(&kept.held))
    }

    /// Waits for the turn to read. What comes of it while waiting, a secret that `serves` or a failure,
    /// is for all who waited.
    async fn read_in_turn(
        &self,
        serves: impl Fn(&Held) -> bool,
        is_second_look: bool,
    ) -> Result<Arc<Held>> {
        let n_ended = self.known().n_ended;
        let _turn = self.turn.lock().await;
        if let Some(held) = self.kept().filter(|held| serves(held)) {
            return Ok(held);
        }
        if let Some((ended, err)) = &self.known().failure
            && *ended > n_ended
        {
            return Err(err.clone());
        }
        self.read(is_second_look).await
    }

    /// Reads the secret and keeps it. Only called by whoever has the turn.
    async fn read(&self, is_second_look: bool) -> Result<Arc<Held>> {
        let until = Instant::now() + KEPT_MAX;
        let reading = {
            let mut known = self.known();
            known.n_begun += 1;
            known.n_begun
        };
        let outcome = self.reader.read().await.and_then(|found| self.check(found));
        let mut known = self.known();
        known.n_ended += 1;
        match outcome {
            Ok(Found { value, made_at, .. }) => {
                debug!("Read the client secret from Key Vault {}", self.place.vault);
                let held = Arc::new(Held { value, made_at, reading, is_second_look });
                known.kept = Some(Kept { held: Arc::clone(&held), until });
                self.drop_at(until, reading);
                Ok(held)
            }
            Err(err) => {
                known.failure = Some((known.n_ended, err.clone()));
                Err(err)
            }
        }
    }

    /// Drops at `until` what is kept of the reading number `reading`, unless a later one took its place.
    fn drop_at(&self, until: Instant, reading: u64) {
        let known = Arc::downgrade(&self.known);
        tokio::spawn(async move {
            tokio::time::sleep_until(until).await;
            if let Some(known) = known.upgrade() {
                let mut known = lock(&known);
                known.kept = known.kept.take().filter(|kept| kept.held.reading != reading);
            }
        });
    }

    /// Refuses a secret that is of no use: there is nothing in it, or it is not meant for today. Key
    /// Vault gives those out too.
    fn check(&self, found: Found) -> Result<Found> {
        let now = self.clock.now();
        if found.value.expose().trim().is_empty() {
            return Err(self
                .place
                .error(Kind::SecretMissing, "the secret in Key Vault is empty")
                .advise("add a version that has the value of the app registration's secret"));
        }
        if let Some(ends_at) = found.ends_at.filter(|ends_at| *ends_at <= now) {
            let reason = format!("the secret in Key Vault expired on {}", ends_at.date());
            return Err(self.place.error(Kind::SecretExpired, reason).advise(
                "add a new secret to the app registration and put it into the vault as a new version",
            ));
        }
        if let Some(begins_at) = found.begins_at.filter(|begins_at| *begins_at > now) {
            let reason =
                format!("the secret in Key Vault is not to be used before {}", begins_at.date());
            return Err(self
                .place
                .error(Kind::SecretExpired, reason)
                .advise("correct its activation date, or add a version that is to be used today"));
        }
        if let Some(words) = self.warning(&found, now) {
            warn!("{words}");
        }
        // A line feed at the end comes with values that were set from a file.
        let trimmed = found.value.expose().trim();
        let value = match trimmed.len() == found.value.expose().len() {
            true => found.value,
            false => Secret::new(trimmed.to_owned()),
        };
        Ok(Found { value, ..found })
    }

    /// That the secret ends soon, unless that was said today.
    fn warning(&self, found: &Found, now: Timestamp) -> Option<String> {
        let ends_at = found.ends_at.filter(|at| at.since(now) <= WARNED_BEFORE)?;
        let Place { vault, name } = &self.place;
        let (ends_on, warned_on) = (ends_at.date(), now.date());
        let warned = Warned { version: found.version.clone(), ends_on, warned_on };
        let mut known = self.known();
        if known.warned.as_ref() == Some(&warned) {
            return None;
        }
        let words = format!(
            "The client secret {name} in Key Vault {vault} expires on {}; add a new one to the app \
             registration and put it into the vault as a new version",
            warned.ends_on
        );
        known.warned = Some(warned);
        Some(words)
    }
}

fn lock(known: &std::sync::Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The secrets in Key Vault that this process signs in with, at most one for each target. One for the
/// process, so that each is read by one at a time.
#[derive(Default)]
pub struct Vaults(std::sync::Mutex<HashMap<(Url, String), Arc<VaultSecret>>>);

impl Vaults {
    /// The secret `name` of the vault at `url`. It is made by `make` the first time it is asked for.
    ///
    /// # Errors
    /// What `make` failed with.
    pub fn secret(
        &self,
        url: &Url,
        name: &str,
        make: impl FnOnce() -> Result<VaultSecret>,
    ) -> Result<Arc<VaultSecret>> {
        let mut secrets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = (url.clone(), name.to_ascii_lowercase());
        if let Some(secret) = secrets.get(&place) {
            return Ok(Arc::clone(secret));
        }
        let secret = Arc::new(make()?);
        secrets.insert(place, Arc::clone(&secret));
        Ok(secret)
    }
}

#[cfg(test)]
pub(super) mod fake;
#[cfg(test)]
mod tests;
