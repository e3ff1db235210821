//! Our HTTP client for EASM and ARM: one request, tried until its answer is whole or its budget
//! is spent.
//!
//! `turn -> token -> attempt -> read -> (401: new token, once) -> (retryable: pause) -> turn ...`
//!
//! # Invariants
//! - A token goes only to the origin it was issued for ([`Bearer::origin`]); no redirect is
//!   followed.
//! - An answer counts once it was read whole: what cannot be parsed is tried again like what never
//!   came.
//! - Every wait has a limit with a name; nothing waits past the budget.
//! - No URL is logged with its query, no header and no body at all.
//! - Only requests that may be repeated are sent ([`Verb`]): whoever asks twice gets no more than once.
//!
//! Start reading at [`Http::send`].

pub mod egress;
pub mod retry;
mod turns;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::StatusCode;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use tracing::debug;
use url::Url;

use crate::buffer::Buffer;
use crate::clock::{Budget, Clock};
use crate::error::{Error, Kind, Result};
use crate::secret::{Secret, redact};
use egress::{ANSWER_SECONDS_MAX, Egress, from_reqwest};
use retry::{RetryPolicy, Tries};

use turns::Turn;
pub use turns::Turns;

/// Largest body that is read. A page of 100 hosts is about 2 MB (API reference, section 5).
pub const BODY_BYTES_MAX: usize = 64 << 20;

/// Largest part of an error body that is looked at for the service's own words.
pub const ERROR_BODY_BYTES_MAX: usize = 64 << 10;

/// The operation of errors that say that there is no token. Whoever gave up on one has tried often
/// enough: nobody else tries again.
pub const SIGNING_IN: &str = "get a token";

/// Whoever has tokens for one origin.
#[async_trait]
pub trait Bearer: Send + Sync {
    /// The only origin the tokens may be sent to.
    fn origin(&self) -> url::Origin;

    /// A token that is valid now.
    async fn token(&self) -> Result<Secret>;

    /// A new token, since `refused` was answered with 401.
    async fn renew(&self, refused: &Secret) -> Result<Secret>;
}

/// What is asked for. Only verbs that may be repeated: an answer can be lost although the request had
/// its effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Reads.
    Get,
    /// Creates what is not there, and leaves alone what is there already as it should be.
    Put,
    /// Deletes what is there.
    Delete,
}

/// A request.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// What is asked for.
    pub verb: Verb,
    /// Of what.
    pub url: &'a Url,
    /// JSON that goes along.
    pub body: Option<&'a str>,
}

/// A whole answer with a success status.
#[derive(Default)]
pub struct Answer {
    /// The status, 200 to 299.
    pub status: u16,
    /// The headers. May hold links of the service, which are not to be followed elsewhere.
    pub headers: HeaderMap,
    /// The pause that the service asks for before it is asked again, if it does.
    pub retry_after: Option<Duration>,
    /// The body, decoded.
    pub body: Buffer,
}

/// The client. One for each service, shared.
pub struct Http {
    egress: Egress,
    bearer: Arc<dyn Bearer>,
    retry: RetryPolicy,
    clock: Arc<dyn Clock>,
    turns: Turns,
}

impl Http {
    /// A client for the service at the end of `egress`. Each request waits for its turn.
    pub fn new(
        egress: Egress,
        bearer: Arc<dyn Bearer>,
        retry: RetryPolicy,
        clock: Arc<dyn Clock>,
        turns: Turns,
    ) -> Self {
        Self { egress, bearer, retry, clock, turns }
    }

    /// Gets `url`, as [`Http::send`] does.
    ///
    /// # Errors
    /// What the last attempt failed with, saying how often it was tried.
    pub async fn get<T>(
        &self,
        operation: &'static str,
        url: &Url,
        read: impl Fn(Answer) -> Result<T>,
    ) -> Result<T> {
        self.send(operation, Request { verb: Verb::Get, url, body: None }, read).await
    }

    /// Sends `request` and hands its whole answer to `read`, again and again until `read` succeeds, the
    /// failure is final, or the retry budget is spent. `operation` is an action ("list assets").
    ///
    /// # Errors
    /// What the last attempt failed with, saying how often it was tried.
    pub async fn send<T>(
        &self,
        operation: &'static str,
        request: Request<'_>,
        read: impl Fn(Answer) -> Result<T>,
    ) -> Result<T> {
        let mut tries = Tries::new(&self.retry);
        let mut was_renewed = false;
        let mut refused: Option<Secret> = None;
        loop {
            // The turn comes first: waiting for it uses up neither the budget nor a token's life.
            let mut turn = self.turns.next().await;
            let budget = tries.begin();
            let asking = async {
                match refused.take() {
                    None => self.bearer.token().await,
                    Some(refused) => self.bearer.renew(&refused).await,
                }
            };
            let asking = tokio::time::timeout(budget.left(), asking);
            let token = turn.lent_while(asking).await.unwrap_or_else(|_| {
                Err(Error::new(Kind::Unavailable { retry_after: None }, SIGNING_IN)
                    .because("no token came within the time there was")
                    .advise("try again later"))
            })?;
            let attempt = self.attempt(operation, request, &token, budget, &mut turn).await;
            let attempt = attempt.and_then(&read);
            drop(turn);
            let err = match attempt {
                Ok(value) => return Ok(value),
                Err(err) => err,
            };
            if err.kind() == Kind::Unauthorized && !was_renewed {
                debug!(operation, "Token was refused, asking for a new one");
                was_renewed = true;
                refused = Some(token);
                continue;
            }
            tries.again(operation, err).await?;
        }
    }

    async fn attempt(
        &self,
        operation: &'static str,
        request: Request<'_>,
        token: &Secret,
        budget: Budget,
        turn: &mut Turn,
    ) -> Result<Answer> {
        let url = request.url;
        if url.origin() != self.bearer.origin() {
            return Err(Error::new(Kind::Internal, operation)
                .because("a token was about to go to a host it was not issued for")
                .advise("please report this"));
        }
        let limit = Duration::from_secs(ANSWER_SECONDS_MAX).min(budget.left());
        let exchange = self.exchange(operation, request, token, turn);
        tokio::time::timeout(limit, exchange).await.unwrap_or_else(|_elapsed| {
            Err(Error::new(Kind::Unavailable { retry_after: None }, operation)
                .because(format!("no whole answer within {} s", limit.as_secs()))
                .with("host", host(url)))
        })
    }

    async fn exchange(
        &self,
        operation: &'static str,
        request: Request<'_>,
        token: &Secret,
        turn: &mut Turn,
    ) -> Result<Answer> {
        let Request { verb, url, body } = request;
        let mut authorization = HeaderValue::try_from(format!("Bearer {}", token.expose()))
            .map_err(|_| {
                Error::new(Kind::Unauthorized, operation)
                    .because("the token holds characters that no header may hold")
            })?;
        authorization.set_sensitive(true);
        let client = self.egress.client_for(operation, url)?;
        let mut asking = match verb {
            Verb::Get => client.get(url.clone()),
            Verb::Put => client.put(url.clone()),
            Verb::Delete => client.delete(url.clone()),
        };
        if let Some(json) = body {
            asking = asking.header(CONTENT_TYPE, "application/json").body(json.to_owned());
        }
        let asking = asking.header(AUTHORIZATION, authorization).header(ACCEPT, "application/json");
        let response = turn.lent_while(asking.send()).await;
        let response = response.map_err(|err| from_reqwest(operation, url, &err))?;

        let status = response.status();
        let headers = response.headers().clone();
        let body_bytes_max =
            if status.is_success() { BODY_BYTES_MAX } else { ERROR_BODY_BYTES_MAX };
        let body = read_body(operation, url, response, body_bytes_max).await;
        if status.is_success() {
            let retry_after = self.retry_after(&headers);
            return Ok(Answer { status: status.as_u16(), headers, retry_after, body: body? });
        }
        // The status counts even if the body of a refusal is cut off.
        let body = body.unwrap_or_default();
        Err(self.error_of_status(operation, url, status, &headers, &body))
    }

    fn retry_after(&self, headers: &HeaderMap) -> Option<Duration> {
        let value = headers.get("retry-after")?.to_str().ok()?;
        retry::parse_retry_after(value, self.clock.now())
    }

    /// What a status other than success means. Only the service's own `code` and `message` are
    /// taken from the body, since anything else may be somebody's page of HTML.
    fn error_of_status(
        &self,
        operation: &'static str,
        url: &Url,
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Error {
        let retry_after = self.retry_after(headers);
        let (kind, advice) = match status.as_u16() {
            400 => (Kind::BadRequest, "correct what was asked for, for example the filter"),
            401 => (
                Kind::Unauthorized,
                "check that the identity belongs to the tenant and that EASM_TENANT_ID is right",
            ),
            403 => (
                Kind::Denied,
                "assign the identity the Reader role on the EASM workspace or its subscription",
            ),
            404 | 410 => (
                Kind::NotFound,
                "check EASM_SUBSCRIPTION_ID, EASM_RESOURCE_GROUP and EASM_WORKSPACE",
            ),
            300..=399 => (
                Kind::Redirected,
                "check EASM_DATA_PLANE_URL and EASM_ARM_URL; redirects are never followed",
            ),
            429 => (Kind::Throttled { retry_after }, ""),
            408 | 425 | 500..=599 => (Kind::Unavailable { retry_after }, ""),
            _ => (Kind::BadRequest, "the service answers in a way this program does not know"),
        };
        let said = ServiceError::read(body);
        let mut err = Error::new(kind, operation);
        if let Some(said) = &said {
            err = err.because(format!("the service says: {}", said.message));
        }
        err = err.with("status", status.as_u16());
        if let Some(code) = said.and_then(|said| said.code) {
            err = err.with("code", code);
        }
        if let Some(id) = headers.get("x-ms-request-id").and_then(|value| value.to_str().ok()) {
            err = err.with("x-ms-request-id", id);
        }
        if let Some(asked) = retry_after {
            err = err.with("retry-after", format!("{} s", asked.as_secs()));
        }
        err = err.with("host", host(url));
        if advice.is_empty() { err } else { err.advise(advice) }
    }
}

/// The `error` object of the service's error body (API reference, section 11).
pub struct ServiceError {
    /// The service's name for what went wrong.
    pub code: Option<String>,
    /// In the service's words: redacted, and cut to a sentence or two.
    pub message: String,
}

impl ServiceError {
    /// Reads a body. `None`: it has no such object.
    pub fn read(body: &[u8]) -> Option<Self> {
        /// Longest text taken over from a service: a sentence or two.
        const TEXT_CHARS_MAX: usize = 300;
        // What is a secret cannot be told any more once it is cut.
        let cut = |text: &str| redact(text).chars().take(TEXT_CHARS_MAX).collect::<String>();
        let body: serde_json::Value = serde_json::from_slice(body).ok()?;
        let error = body.get("error")?;
        let message = cut(error.get("message")?.as_str()?);
        let code = error.get("code").and_then(|code| code.as_str()).map(cut);
        Some(Self { code, message })
    }
}

async fn read_body(
    operation: &'static str,
    url: &Url,
    mut response: reqwest::Response,
    bytes_max: usize,
) -> Result<Buffer> {
    let expected = response.content_length().and_then(|bytes| usize::try_from(bytes).ok());
    let mut body = Buffer::with_capacity(expected.unwrap_or(0).min(bytes_max));
    while let Some(chunk) =
        response.chunk().await.map_err(|err| from_reqwest(operation, url, &err))?
    {
        if body.len() + chunk.len() > bytes_max {
            return Err(Error::new(Kind::Endless, operation)
                .because(format!("one answer is larger than {} MiB", bytes_max >> 20))
                .with("host", host(url))
                .advise("set a smaller EASM_PAGE_SIZE"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn host(url: &Url) -> &str {
    url.host_str().unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::egress::{Bodies, NamedBy};
    use super::*;
    use crate::clock::SystemClock;

    struct Fixed(Url);

    #[async_trait]
    impl Bearer for Fixed {
        fn origin(&self) -> url::Origin {
            self.0.origin()
        }

        async fn token(&self) -> Result<Secret> {
            Ok(Secret::new("a-token-for-one-host-only".to_owned()))
        }

        async fn renew(&self, _refused: &Secret) -> Result<Secret> {
            self.token().await
        }
    }

    /// A client for `url` whose tokens are for `own`.
    fn http(url: &Url, own: &Url) -> Http {
        let egress = Egress::to(url, NamedBy::Setting, Bodies::Unpacked).expect("a way");
        let bearer = Arc::new(Fixed(own.clone()));
        Http::new(egress, bearer, RetryPolicy::default(), Arc::new(SystemClock), Turns::new(1))
    }

    #[test]
    fn what_a_service_says_is_cut_behind_its_secrets_and_not_within() {
        let secret = Secret::new("n3t-Zq9-x-y".to_owned());
        for n_before in 280..300 {
            let message = format!("{}{}", "é".repeat(n_before), secret.expose());
            let body = serde_json::json!({"error": {"code": message, "message": message}});
            let said = ServiceError::read(body.to_string().as_bytes()).expect("its form");
            for text in [said.message, said.code.expect("a code")] {
                assert!(!text.contains("n3t"), "{n_before}: {text}");
            }
        }
    }

    #[tokio::test]
    async fn a_token_is_not_sent_to_another_host() {
        // Whether or not another test was first.
        rustls::crypto::ring::default_provider().install_default().unwrap_or(());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let own = Url::parse("https://a.example/").expect("a URL");
        let other = Url::parse(&format!("http://127.0.0.1:{port}/")).expect("a URL");
        // Even where the way there is open.
        let err = http(&other, &own).get("test", &other, |_| Ok(())).await;
        assert_eq!(err.expect_err("refused").kind(), Kind::Internal);
        listener.set_nonblocking(true).expect("set");
        assert!(listener.accept().is_err(), "nobody called");
    }
}
