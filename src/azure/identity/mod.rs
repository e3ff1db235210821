//! Tokens for one audience, from `azure_identity`.
//!
//! [`Tokens`] keeps the last token, asks for the next one before it expires, and never asks twice
//! at once. It belongs to one origin, the only place its tokens may go. An [`Identity`] is who they
//! are asked for: the target's for EASM and ARM, the app's own for the store.
//!
//! The texts of `azure_identity`'s errors are never used: a token request's error may repeat what
//! was sent. Status and code say enough (`refusal`).

mod credential;
mod developer;
mod refusal;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use azure_core::credentials::TokenCredential;
use tokio::sync::Mutex;
use tracing::debug;
use url::{Origin, Url};

use crate::clock::{Clock, Timestamp};
use crate::error::{Error, Kind, Result};
use crate::net::Bearer;
use crate::secret::Secret;

pub use credential::Identity;
use refusal::Asked;

/// The data plane's scope (API reference, section 3).
pub const EASM_SCOPE: &str = "https://easm.defender.microsoft.com/.default";

/// ARM's scope (API reference, section 3).
pub const ARM_SCOPE: &str = "https://management.azure.com/.default";

/// Blob Storage's scope (Azure Storage REST reference, "Authorize with Microsoft Entra ID").
pub const STORAGE_SCOPE: &str = "https://storage.azure.com/.default";

/// A token is replaced when it has less than this to live, or half of its life if that is less.
pub const REFRESH_SECONDS: u64 = 300;

/// How long a token that could not be replaced early is used without asking again, in milliseconds.
const ASK_AGAIN_MS: i64 = 30_000;

/// Longest wait for a token, retries included.
pub const TOKEN_SECONDS_MAX: u64 = 60;

const OPERATION: &str = "get a token";

/// Makes a credential with an empty cache.
type Make = Box<dyn Fn() -> Result<Arc<dyn TokenCredential>> + Send + Sync>;

/// Tokens of one audience for one origin.
pub struct Tokens {
    make: Make,
    asked: Asked,
    scope: &'static str,
    origin: Origin,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    credential: Option<Arc<dyn TokenCredential>>,
    last: Option<Token>,
}

#[derive(Clone)]
struct Token {
    value: Secret,
    expires_at: Timestamp,
    /// From when on a new one is asked for.
    refresh_at: Timestamp,
}

impl Tokens {
    /// Tokens of `identity` for `scope`, to be sent to `url`'s origin only.
    pub fn new(identity: Identity, scope: &'static str, url: &Url, clock: Arc<dyn Clock>) -> Self {
        let asked = identity.asked();
        Self::made_by(Box::new(move || identity.make()), asked, scope, url, clock)
    }

    fn made_by(
        make: Make,
        asked: Asked,
        scope: &'static str,
        url: &Url,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { make, asked, scope, origin: url.origin(), clock, state: Mutex::default() }
    }

    async fn fetch(&self, state: &mut State) -> Result<Secret> {
        let credential = match &state.credential {
            Some(credential) => Arc::clone(credential),
            None => Arc::clone(state.credential.insert((self.make)()?)),
        };
        let limit = Duration::from_secs(TOKEN_SECONDS_MAX);
        let answer = tokio::time::timeout(limit, credential.get_token(&[self.scope], None)).await;
        let answer = match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(err)) => return Err(self.asked.error(&err)),
            Err(_elapsed) => {
                return Err(Error::new(Kind::Unavailable { retry_after: None }, OPERATION)
                    .because(format!("no answer within {TOKEN_SECONDS_MAX} s"))
                    .advise(self.asked.advice()));
            }
        };
        let value = Secret::new(answer.token.secret().to_owned());
        let now = self.clock.now();
        let expires_at = i64::try_from(answer.expires_on.unix_timestamp_nanos() / 1_000_000)
            .ok()
            .and_then(Timestamp::from_unix_ms)
            .unwrap_or(now);
        let life_ms = (expires_at.unix_ms() - now.unix_ms()).max(0);
        let ahead_ms = (REFRESH_SECONDS as i64 * 1000).min(life_ms / 2);
        let refresh_at =
            Timestamp::from_unix_ms(expires_at.unix_ms() - ahead_ms).unwrap_or(expires_at);
        debug!(scope = self.scope, expires_at = %expires_at, "Got a token");
        state.last = Some(Token { value: value.clone(), expires_at, refresh_at });
        Ok(value)
    }
}

#[async_trait]
impl Bearer for Tokens {
    fn origin(&self) -> Origin {
        self.origin.clone()
    }

    async fn token(&self) -> Result<Secret> {
        // Held while asking: whoever else needs a token meanwhile gets the same one.
        let mut state = self.state.lock().await;
        let now = self.clock.now();
        let last = state.last.clone();
        if let Some(token) = &last
            && now < token.refresh_at
        {
            return Ok(token.value.clone());
        }
        match (self.fetch(&mut state).await, last) {
            (Ok(value), _) => Ok(value),
            // Asking early failed, but the old token is still good. Whoever comes next does not
            // wait for the same failure again.
            (Err(err), Some(token)) if now < token.expires_at => {
                debug!("{err}; using the last token until it expires");
                let again_at = Timestamp::from_unix_ms(now.unix_ms() + ASK_AGAIN_MS);
                let refresh_at = again_at.unwrap_or(token.expires_at).min(token.expires_at);
                state.last = Some(Token { refresh_at, ..token.clone() });
                Ok(token.value)
            }
            (Err(err), _) => Err(err),
        }
    }

    async fn renew(&self, refused: &Secret) -> Result<Secret> {
        let mut state = self.state.lock().await;
        if let Some(token) = &state.last
            && token.value.expose() != refused.expose()
        {
            return Ok(token.value.clone());
        }
        // The credential would answer from its cache; a new one has none.
        *state = State::default();
        self.fetch(&mut state).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex as StdMutex;
    use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

    use azure_core::credentials::{AccessToken, TokenRequestOptions};
    use azure_core::time::OffsetDateTime;

    use super::*;

    /// A clock that is set by hand, in seconds.
    #[derive(Default)]
    struct Hand(AtomicI64);

    impl Clock for Hand {
        fn now(&self) -> Timestamp {
            let at_s = self.0.load(Ordering::SeqCst);
            Timestamp::from_unix_ms(at_s * 1000).expect("near the epoch")
        }
    }

    /// Gives `token-1`, `token-2`, ... that live until what is set; fails while nothing is set.
    #[derive(Debug, Default)]
    struct Endpoint {
        expires_s: StdMutex<Option<i64>>,
        n_asked: AtomicU32,
    }

    #[async_trait]
    impl TokenCredential for Endpoint {
        async fn get_token(
            &self,
            _scopes: &[&str],
            _options: Option<TokenRequestOptions<'_>>,
        ) -> azure_core::Result<AccessToken> {
            let n = self.n_asked.fetch_add(1, Ordering::SeqCst) + 1;
            let expires_s = *self.expires_s.lock().expect("not poisoned");
            let Some(expires_s) = expires_s else {
                let kind = azure_core::error::ErrorKind::Credential;
                return Err(azure_core::Error::with_message(kind, "canary in the text"));
            };
            let expires_on = OffsetDateTime::from_unix_timestamp(expires_s).expect("a time");
            Ok(AccessToken::new(format!("token-{n}"), expires_on))
        }
    }

    struct World {
        clock: Arc<Hand>,
        endpoint: Arc<Endpoint>,
        tokens: Tokens,
    }

    impl World {
        fn new() -> Self {
            let (clock, endpoint) = (Arc::new(Hand::default()), Arc::new(Endpoint::default()));
            let credential = Arc::clone(&endpoint);
            let make: Make = Box::new(move || Ok(Arc::clone(&credential) as _));
            let url = Url::parse("https://a.example").expect("a URL");
            let asked = Asked::Entra(url.clone());
            let tokens = Tokens::made_by(make, asked, EASM_SCOPE, &url, Arc::clone(&clock) as _);
            Self { clock, endpoint, tokens }
        }

        /// Sets the clock and until when the endpoint's tokens live, and asks for a token.
        async fn token(&self, now_s: i64, expires_s: Option<i64>) -> Result<String> {
            self.clock.0.store(now_s, Ordering::SeqCst);
            *self.endpoint.expires_s.lock().expect("not poisoned") = expires_s;
            self.tokens.token().await.map(|token| token.expose().to_owned())
        }
    }

    #[tokio::test]
    async fn a_token_is_kept_until_shortly_before_it_expires() {
        let world = World::new();
        let check = async |now_s, want: &str| {
            let found = world.token(now_s, Some(now_s + 3600)).await;
            assert_eq!(found.expect("a token"), want, "{now_s}");
        };
        check(0, "token-1").await;
        check(3299, "token-1").await;
        check(3300, "token-2").await;
        check(3301, "token-2").await;
    }

    #[tokio::test]
    async fn the_last_token_is_used_while_no_new_one_is_to_be_had() {
        let world = World::new();
        let first = world.token(0, Some(3600)).await;
        assert_eq!(first.expect("a token"), "token-1");
        for now_s in [3300, 3301, 3329] {
            let found = world.token(now_s, None).await;
            assert_eq!(found.expect("still good"), "token-1", "{now_s}");
        }
        assert_eq!(world.endpoint.n_asked.load(Ordering::SeqCst), 2, "asked again, but not always");
        let err = world.token(3600, None).await.expect_err("expired");
        assert!(!err.to_string().contains("canary"), "{err}");
        assert_eq!(world.token(3601, Some(7200)).await.expect("back"), "token-4");
    }

    #[tokio::test]
    async fn a_refused_token_is_replaced_once_for_all_who_used_it() {
        let world = World::new();
        world.token(0, Some(3600)).await.expect("a token");
        let refused = world.tokens.token().await.expect("a token");
        for _ in 0..3 {
            let token = world.tokens.renew(&refused).await.expect("a token");
            assert_eq!(token.expose(), "token-2");
        }
    }
}
