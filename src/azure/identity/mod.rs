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
mod from_vault;
mod refusal;

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use azure_core::credentials::{AccessToken, TokenCredential};
use tokio::sync::Mutex;
use tracing::debug;
use url::{Origin, Url};

use crate::azure::keyvault;
use crate::clock::{Clock, Timestamp};
use crate::error::{Error, Kind, Result};
use crate::net::retry::{RetryPolicy, Tries};
use crate::net::{self, Bearer};
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

/// Longest wait for a token, tries included.
pub const TOKEN_SECONDS_MAX: u64 = 60;

/// Longest wait for a token while the one before is still good.
pub const EARLY_TOKEN_SECONDS_MAX: u64 = 10;

/// Most tries for one token, unless the other side says how long to wait.
const TRIES_MAX: u32 = 5;

const OPERATION: &str = net::SIGNING_IN;

/// Makes a credential with an empty cache.
type Make = Box<dyn Fn() -> Result<Arc<dyn TokenCredential>> + Send + Sync>;

/// Tokens of one audience for one origin.
pub struct Tokens {
    make: Make,
    asked: Asked,
    scope: &'static str,
    origin: Origin,
    clock: Arc<dyn Clock>,
    /// Never held while anything is waited for.
    known: std::sync::Mutex<Known>,
    /// Held while a token is asked for: one request at a time. It keeps its last token too.
    asking: Mutex<Option<Arc<dyn TokenCredential>>>,
}

#[derive(Default)]
struct Known {
    last: Option<Arc<Token>>,
    /// When asking last failed, and why.
    failure: Option<(Instant, Error)>,
}

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
        let (known, asking) = (std::sync::Mutex::default(), Mutex::default());
        Self { make, asked, scope, origin: url.origin(), clock, known, asking }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last token, if it has not expired.
    fn good(&self) -> Option<Arc<Token>> {
        self.known().last.clone().filter(|token| self.clock.now() < token.expires_at)
    }

    /// Asks for a new token, as one of several may while `token` is good; the others use that.
    async fn replace_early(&self, token: Arc<Token>) -> Result<Secret> {
        let Ok(mut credential) = self.asking.try_lock() else { return Ok(token.value.share()) };
        match self.ask(&mut credential, 1, EARLY_TOKEN_SECONDS_MAX).await {
            Err(err) if self.clock.now() < token.expires_at => {
                debug!("{err}; using the last token until it expires");
                // Whoever comes next does not wait for the same failure again.
                let again_at = Timestamp::from_unix_ms(self.clock.now().unix_ms() + ASK_AGAIN_MS);
                let refresh_at = again_at.unwrap_or(token.expires_at).min(token.expires_at);
                let (value, expires_at) = (token.value.share(), token.expires_at);
                self.known().last = Some(Arc::new(Token { value, expires_at, refresh_at }));
                Ok(token.value.share())
            }
            outcome => outcome,
        }
    }

    /// Waits for the turn to ask. What comes of it while waiting, a token or a failure, serves all who
    /// waited. A token that is `refused` does not count.
    async fn ask_in_turn(&self, refused: Option<&Secret>) -> Result<Secret> {
        let since = Instant::now();
        let mut credential = self.asking.lock().await;
        if let Some(token) = self.good()
            && refused.is_none_or(|refused| refused.expose() != token.value.expose())
        {
            return Ok(token.value.share());
        }
        if let Some((at, err)) = &self.known().failure
            && *at > since
        {
            return Err(err.clone());
        }
        if refused.is_some() {
            // It would answer from its cache; a new one has none.
            *credential = None;
        }
        self.ask(&mut credential, TRIES_MAX, TOKEN_SECONDS_MAX).await
    }

    /// Asks until there is a token, at most `tries_max` times in `limit_s` seconds.
    async fn ask(
        &self,
        credential: &mut Option<Arc<dyn TokenCredential>>,
        tries_max: u32,
        limit_s: u64,
    ) -> Result<Secret> {
        let credential = match credential {
            Some(credential) => Arc::clone(credential),
            None => Arc::clone(credential.insert((self.make)()?)),
        };
        let policy = RetryPolicy {
            tries_max,
            elapsed_max: Duration::from_secs(limit_s),
            pause_first: Duration::from_millis(500),
            pause_max: Duration::from_secs(8),
        };
        let mut tries = Tries::new(&policy);
        loop {
            let limit = tries.begin().left();
            let scopes = [self.scope];
            let answer = tokio::time::timeout(limit, credential.get_token(&scopes, None));
            let err = match answer.await {
                Ok(Ok(answer)) => return Ok(self.keep(&answer)),
                Ok(Err(err)) => self.asked.error(&err),
                Err(_elapsed) => Error::new(Kind::Unavailable { retry_after: None }, OPERATION)
                    .because(format!("no answer within {limit_s} s"))
                    .advise(self.asked.advice()),
            };
            // Whoever reads the client secret has tried often enough.
            let again = match err.operation() == keyvault::READING {
                true => Err(err),
                false => tries.again(OPERATION, err).await,
            };
            if let Err(err) = again {
                self.known().failure = Some((Instant::now(), err.clone()));
                return Err(err);
            }
        }
    }

    fn keep(&self, answer: &AccessToken) -> Secret {
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
        let token = Token { value: value.share(), expires_at, refresh_at };
        self.known().last = Some(Arc::new(token));
        value
    }
}

#[async_trait]
impl Bearer for Tokens {
    fn origin(&self) -> Origin {
        self.origin.clone()
    }

    async fn token(&self) -> Result<Secret> {
        match self.good() {
            Some(token) if self.clock.now() < token.refresh_at => Ok(token.value.share()),
            Some(token) => self.replace_early(token).await,
            None => self.ask_in_turn(None).await,
        }
    }

    async fn renew(&self, refused: &Secret) -> Result<Secret> {
        self.ask_in_turn(Some(refused)).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex as StdMutex;
    use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};

    use azure_core::credentials::TokenRequestOptions;
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
        pause_s: AtomicU64,
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
            tokio::time::sleep(Duration::from_secs(self.pause_s.load(Ordering::SeqCst))).await;
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
            let asked = Asked::Entra { authority: url.clone(), advice: "look" };
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

    #[tokio::test(start_paused = true)]
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
        let n_asked = world.endpoint.n_asked.load(Ordering::SeqCst);
        assert_eq!(n_asked, 2 + TRIES_MAX, "without a token it is worth more tries");
        assert_eq!(world.token(3601, Some(7200)).await.expect("back"), "token-8");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_for_a_token_shares_what_comes_of_it() {
        for expires_s in [Some(3600), None] {
            let world = World::new();
            *world.endpoint.expires_s.lock().expect("not poisoned") = expires_s;
            world.endpoint.pause_s.store(5, Ordering::SeqCst);
            let asking = (0..16).map(|_| world.tokens.token());
            let answers = futures::future::join_all(asking).await;
            assert!(answers.iter().all(|answer| answer.is_ok() == expires_s.is_some()));
            let n_asked = world.endpoint.n_asked.load(Ordering::SeqCst);
            assert_eq!(n_asked, if expires_s.is_some() { 1 } else { TRIES_MAX });
        }
    }

    #[tokio::test(start_paused = true)]
    async fn while_a_token_is_good_nobody_waits_long_for_the_next_one() {
        let world = World::new();
        world.token(0, Some(3600)).await.expect("a token");
        world.clock.0.store(3400, Ordering::SeqCst);
        world.endpoint.pause_s.store(3600, Ordering::SeqCst);
        let begin = tokio::time::Instant::now();
        let first = async {
            let token = world.tokens.token().await.expect("the old one");
            (token.expose().to_owned(), begin.elapsed())
        };
        let others = async {
            tokio::task::yield_now().await;
            world.tokens.token().await.expect("the old one");
            begin.elapsed()
        };
        let ((token, waited), others_waited) = tokio::join!(first, others);
        assert_eq!(token, "token-1");
        assert_eq!(waited, Duration::from_secs(EARLY_TOKEN_SECONDS_MAX));
        assert_eq!(others_waited, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_cannot_be_renewed_is_asked_for_once_by_all() {
        let world = World::new();
        world.token(0, Some(3600)).await.expect("a token");
        let refused = world.tokens.token().await.expect("a token");
        *world.endpoint.expires_s.lock().expect("not poisoned") = None;
        world.endpoint.pause_s.store(1, Ordering::SeqCst);
        let renewing = (0..16).map(|_| world.tokens.renew(&refused));
        assert!(futures::future::join_all(renewing).await.iter().all(Result::is_err));
        assert_eq!(world.endpoint.n_asked.load(Ordering::SeqCst), 1 + TRIES_MAX);
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
