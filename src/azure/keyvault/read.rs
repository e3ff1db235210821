//! Reads a secret with the official client: one read, tried until there is a secret or it is of no use.
//!
//! `token -> request without it -> challenge -> the same with it -> secret | refusal -> pause -> ...`
//!
//! # Invariants
//! - The client lives for one token: it would keep the token, and the audience that a challenge
//!   names, for good.
//! - A token is handed to the client only for [`VAULT_SCOPE`], whatever the challenge asks for, and
//!   the client reaches the vault's origin only.
//! - What is read is a [`Secret`] at once.
//!
//! Start reading at [`Vault::read`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use azure_core::http::{ClientOptions, RetryOptions, Transport};
use azure_core::time::OffsetDateTime;
use azure_security_keyvault_secrets::{SecretClient, SecretClientOptions, models};
use tracing::debug;
use url::Url;

use super::refusal::{Refusal, without_answer};
use super::{Found, Place, READING, Read, VAULT_SCOPE};
use crate::clock::{Budget, Timestamp};
use crate::error::{Error, Kind, Result};
use crate::net::Bearer;
use crate::net::egress::{Bodies, Egress, NamedBy, into_azure, is_on_loopback};
use crate::net::retry::{RetryPolicy, Tries};
use crate::secret::Secret;

/// Longest time for one read, tries included: half of what a token may take that waits for it.
pub const READ_SECONDS_MAX: u64 = 30;

/// Longest wait for one answer.
pub const ANSWER_SECONDS_MAX: u64 = 10;

/// Most tries for one read, unless the vault says how long to wait.
const TRIES_MAX: u32 = 5;

/// How long a token is said to live to a client that is gone before.
const TOKEN_LIFE: azure_core::time::Duration = azure_core::time::Duration::hours(1);

/// A vault, as one reads a secret there.
pub(super) struct Vault {
    url: Url,
    place: Place,
    egress: Arc<Egress>,
    bearer: Arc<dyn Bearer>,
    retry: RetryPolicy,
}

/// Why there is no secret yet.
struct Failed {
    err: Error,
    /// Whether another token may help.
    is_about_the_token: bool,
}

impl From<Error> for Failed {
    fn from(err: Error) -> Self {
        Self { err, is_about_the_token: false }
    }
}

impl Vault {
    /// The vault at `url`, with the tokens of `bearer`, which are for it alone.
    ///
    /// # Errors
    /// [`Kind::Config`] if there is no way there.
    pub fn new(url: &Url, place: Place, bearer: Arc<dyn Bearer>) -> Result<Self> {
        let egress = Arc::new(Egress::to(url, NamedBy::Setting, Bodies::Unpacked)?);
        let retry = RetryPolicy {
            tries_max: TRIES_MAX,
            elapsed_max: Duration::from_secs(READ_SECONDS_MAX),
            pause_first: Duration::from_millis(500),
            pause_max: Duration::from_secs(8),
        };
        Ok(Self { url: url.clone(), place, egress, bearer, retry })
    }

    /// A token, `refused` being one that is of no use.
    async fn token(&self, refused: Option<Secret>, budget: Budget) -> Result<Secret> {
        if self.bearer.origin() != self.url.origin() {
            return Err(Error::new(Kind::Internal, READING)
                .because("a token was about to go to a host it was not issued for")
                .advise("please report this"));
        }
        let asking = async {
            match &refused {
                None => self.bearer.token().await,
                Some(refused) => self.bearer.renew(refused).await,
            }
        };
        let token = tokio::time::timeout(budget.left(), asking).await.unwrap_or_else(|_elapsed| {
            Err(self
                .place
                .error(
                    Kind::Unavailable { retry_after: None },
                    "no token for Key Vault came in time",
                )
                .advise("try again later"))
        });
        // What it was for, and where, is this one's to say.
        token.map_err(|err| self.place.of(err.during(READING)))
    }

    /// One try.
    async fn get(&self, token: &Secret) -> Result<Found, Failed> {
        let client = self.client(token)?;
        let answer = client.get_secret(&self.place.name, None).await.map_err(|err| {
            match Refusal::of(&err) {
                Some(refusal) => Failed {
                    err: refusal.error(&self.place),
                    is_about_the_token: refusal.is_about_the_token(),
                },
                None => without_answer(&self.place, &self.url, &err).into(),
            }
        })?;
        // Its error would quote what it cannot read.
        let model = answer.into_model().map_err(|_| {
            let reason = "what Key Vault answered cannot be read";
            self.place.error(Kind::Unreadable, reason).advise("check EASM_KEY_VAULT_URL")
        })?;
        Ok(found(model))
    }

    fn client(&self, token: &Secret) -> Result<SecretClient> {
        let credential = Presented { token: token.share(), place: self.place.clone() };
        let transport = Some(Transport::new(Arc::clone(&self.egress) as _));
        let client_options =
            ClientOptions { retry: RetryOptions::none(), transport, ..ClientOptions::default() };
        let options = SecretClientOptions {
            client_options,
            // A vault of this machine has no name under which its challenge could be checked.
            verify_challenge_resource: Some(!is_on_loopback(&self.url)),
            ..SecretClientOptions::default()
        };
        SecretClient::new(self.url.as_str(), Arc::new(credential), Some(options)).map_err(|_| {
            let reason = "the URL of the Key Vault cannot be used";
            self.place.error(Kind::Config, reason).advise("check EASM_KEY_VAULT_URL")
        })
    }
}

#[async_trait]
impl Read for Vault {
    async fn read(&self) -> Result<Found> {
        let mut tries = Tries::new(&self.retry);
        let mut was_renewed = false;
        let mut refused = None;
        loop {
            let budget = tries.begin();
            let token = self.token(refused.take(), budget).await?;
            let limit = Duration::from_secs(ANSWER_SECONDS_MAX).min(budget.left());
            let tried = tokio::time::timeout(limit, self.get(&token)).await;
            let failed = match tried {
                Ok(Ok(found)) => return Ok(found),
                Ok(Err(failed)) => failed,
                Err(_elapsed) => {
                    let reason = format!("no answer within {} s", limit.as_secs());
                    let kind = Kind::Unavailable { retry_after: None };
                    let advice = "try again later; check EASM_KEY_VAULT_URL and the network";
                    self.place.error(kind, reason).advise(advice).into()
                }
            };
            if failed.is_about_the_token && !was_renewed {
                debug!("Key Vault refused the token, asking for a new one");
                was_renewed = true;
                refused = Some(token);
                continue;
            }
            tries.again(READING, failed.err).await?;
        }
    }
}

/// What `model` says. The value is moved, not copied.
fn found(model: models::Secret) -> Found {
    let attributes = model.attributes.unwrap_or_default();
    Found {
        value: Secret::new(model.value.unwrap_or_default()),
        version: model.id.unwrap_or_default(),
        made_at: attributes.created.or(attributes.updated).and_then(timestamp),
        begins_at: attributes.not_before.and_then(timestamp),
        ends_at: attributes.expires.and_then(timestamp),
    }
}

fn timestamp(at: OffsetDateTime) -> Option<Timestamp> {
    Timestamp::from_unix_ms(at.unix_timestamp().checked_mul(1000)?)
}

/// A token that is given for Key Vault and for nothing else.
struct Presented {
    token: Secret,
    place: Place,
}

impl fmt::Debug for Presented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Presented")
    }
}

#[async_trait]
impl TokenCredential for Presented {
    async fn get_token(
        &self,
        scopes: &[&str],
        _options: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        if scopes != [VAULT_SCOPE] {
            return Err(into_azure(self.place.wrong_audience()));
        }
        let expires_on = OffsetDateTime::now_utc() + TOKEN_LIFE;
        Ok(AccessToken::new(self.token.expose().to_owned(), expires_on))
    }
}
