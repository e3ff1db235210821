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
//!
//! Start reading at [`Http::get`].

pub mod retry;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use reqwest::StatusCode;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue};
use tokio::sync::Semaphore;
use tracing::{debug, warn};
use url::Url;

use crate::buffer::Buffer;
use crate::clock::{Budget, Clock};
use crate::error::{Error, Kind, Result};
use crate::secret::Secret;
use retry::RetryPolicy;

/// Longest wait for one answer, its body included (contract, section 2).
pub const ANSWER_SECONDS_MAX: u64 = 100;

/// Longest wait for a connection.
pub const CONNECT_SECONDS_MAX: u64 = 15;

/// Largest body that is read. A page of 100 hosts is about 2 MB (API reference, section 5).
pub const BODY_BYTES_MAX: usize = 64 << 20;

/// Largest part of an error body that is looked at for the service's own words.
pub const ERROR_BODY_BYTES_MAX: usize = 64 << 10;

/// The program and its version, as requests name them.
const USER_AGENT: &str = concat!("easm-export/", env!("CARGO_PKG_VERSION"));

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

/// A whole answer with a success status.
#[derive(Debug)]
pub struct Answer {
    /// The body, decoded.
    pub body: Buffer,
}

/// The client. One for each service, shared.
pub struct Http {
    client: reqwest::Client,
    bearer: Arc<dyn Bearer>,
    retry: RetryPolicy,
    clock: Arc<dyn Clock>,
    permits: Semaphore,
}

impl Http {
    /// A client for the service at `bearer`'s origin, with at most `concurrency` requests at once.
    ///
    /// # Errors
    /// [`Kind::Internal`] if the TLS set-up fails.
    pub fn new(
        bearer: Arc<dyn Bearer>,
        retry: RetryPolicy,
        clock: Arc<dyn Clock>,
        concurrency: usize,
    ) -> Result<Self> {
        let is_loopback = match bearer.origin() {
            url::Origin::Tuple(_, host, _) => is_loopback(&host),
            url::Origin::Opaque(_) => false,
        };
        let client = client(is_loopback)?;
        Ok(Self { client, bearer, retry, clock, permits: Semaphore::new(concurrency) })
    }

    /// Gets `url` and hands its whole answer to `read`, again and again until `read` succeeds, the
    /// failure is final, or the retry budget is spent. `operation` is an action ("list assets").
    ///
    /// # Errors
    /// What the last attempt failed with, saying how often it was tried.
    pub async fn get<T>(
        &self,
        operation: &'static str,
        url: &Url,
        read: impl Fn(Answer) -> Result<T>,
    ) -> Result<T> {
        let mut budget = None;
        let mut n_tries = 0;
        let mut was_renewed = false;
        let mut refused: Option<Secret> = None;
        loop {
            n_tries += 1;
            // The turn comes first: waiting for it uses up neither the budget nor a token's life.
            let permit = self.permits.acquire().await.expect("the semaphore is never closed");
            let budget = *budget.get_or_insert_with(|| Budget::of(self.retry.elapsed_max));
            let token = match refused.take() {
                None => self.bearer.token().await?,
                Some(refused) => self.bearer.renew(&refused).await?,
            };
            let attempt = self.attempt(operation, url, &token, budget).await.and_then(&read);
            drop(permit);
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
            if !err.kind().is_retryable() {
                return Err(err);
            }
            let asked = err.kind().retry_after();
            let pause = self.retry.pause(n_tries, asked, fastrand::f64());
            // Where the service says how long to wait, only the budget counts.
            let is_spent = n_tries >= self.retry.tries_max && asked.is_none();
            if is_spent || !budget.allows(pause) {
                return Err(err
                    .with("tries", n_tries)
                    .advise("try again later; the service is not answering as it should"));
            }
            warn!(
                operation,
                tries = n_tries,
                pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
                "{err}; trying again in {:.1} s",
                pause.as_secs_f64()
            );
            tokio::time::sleep(pause).await;
        }
    }

    async fn attempt(
        &self,
        operation: &'static str,
        url: &Url,
        token: &Secret,
        budget: Budget,
    ) -> Result<Answer> {
        if url.origin() != self.bearer.origin() {
            return Err(Error::new(Kind::Internal, operation)
                .because("a token was about to go to a host it was not issued for")
                .advise("please report this"));
        }
        let limit = Duration::from_secs(ANSWER_SECONDS_MAX).min(budget.left());
        tokio::time::timeout(limit, self.exchange(operation, url, token)).await.unwrap_or_else(
            |_elapsed| {
                Err(Error::new(Kind::Unavailable { retry_after: None }, operation)
                    .because(format!("no whole answer within {} s", limit.as_secs()))
                    .with("host", host(url)))
            },
        )
    }

    async fn exchange(&self, operation: &'static str, url: &Url, token: &Secret) -> Result<Answer> {
        let mut authorization = HeaderValue::try_from(format!("Bearer {}", token.expose()))
            .map_err(|_| {
                Error::new(Kind::Unauthorized, operation)
                    .because("the token holds characters that no header may hold")
            })?;
        authorization.set_sensitive(true);
        let response = self
            .client
            .get(url.clone())
            .header(AUTHORIZATION, authorization)
            .header(ACCEPT, "application/json")
            .send()
            .await
            .map_err(|err| from_reqwest(operation, url, err))?;

        let status = response.status();
        let headers = response.headers().clone();
        let body_bytes_max =
            if status.is_success() { BODY_BYTES_MAX } else { ERROR_BODY_BYTES_MAX };
        let body = read_body(operation, url, response, body_bytes_max).await;
        if status.is_success() {
            return Ok(Answer { body: body? });
        }
        // The status counts even if the body of a refusal is cut off.
        let body = body.unwrap_or_default();
        Err(self.error_of_status(operation, url, status, &headers, &body))
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
        let retry_after = headers
            .get("retry-after")
            .and_then(|value| value.to_str().ok())
            .and_then(|value| retry::parse_retry_after(value, self.clock.now()));
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
            err =
                err.because(crate::secret::redact(&format!("the service says: {}", said.message)));
        }
        err = err.with("status", status.as_u16());
        if let Some(code) = said.and_then(|said| said.code) {
            err = err.with("code", crate::secret::redact(&code));
        }
        if let Some(id) = headers.get("x-ms-request-id").and_then(|value| value.to_str().ok()) {
            err = err.with("x-ms-request-id", crate::secret::redact(id));
        }
        if let Some(asked) = retry_after {
            err = err.with("retry-after", format!("{} s", asked.as_secs()));
        }
        err = err.with("host", host(url));
        if advice.is_empty() { err } else { err.advise(advice) }
    }
}

/// The `error` object of the service's error body (API reference, section 11).
struct ServiceError {
    code: Option<String>,
    message: String,
}

impl ServiceError {
    fn read(body: &[u8]) -> Option<Self> {
        /// Longest text taken over from a service: a sentence or two.
        const TEXT_CHARS_MAX: usize = 300;
        let cut = |text: &str| text.chars().take(TEXT_CHARS_MAX).collect::<String>();
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
        response.chunk().await.map_err(|err| from_reqwest(operation, url, err))?
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

/// A client that follows no redirect. Loopback is reached without a proxy, anything else by the
/// usual `HTTPS_PROXY` and `NO_PROXY`.
///
/// # Errors
/// [`Kind::Internal`] if the TLS set-up fails.
pub fn client(is_loopback: bool) -> Result<reqwest::Client> {
    // One of each for the process: reading the system's certificates takes longer than a request.
    static CLIENTS: [OnceLock<reqwest::Client>; 2] = [OnceLock::new(), OnceLock::new()];
    let shared = &CLIENTS[usize::from(is_loopback)];
    match shared.get() {
        Some(client) => Ok(client.clone()),
        None => new_client(is_loopback).map(|client| shared.get_or_init(|| client).clone()),
    }
}

fn new_client(is_loopback: bool) -> Result<reqwest::Client> {
    let mut builder = reqwest::Client::builder()
        .user_agent(USER_AGENT)
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(CONNECT_SECONDS_MAX))
        .gzip(true)
        // Pages come one after another; HTTP/1.1 connections move them faster (measured:
        // several times as fast as one HTTP/2 connection).
        .http1_only();
    if is_loopback {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|err| {
        Error::new(Kind::Internal, "set up TLS")
            .because(err.without_url().to_string())
            .advise("install the system's root certificates (package ca-certificates)")
    })
}

/// Whether `host` is this machine.
pub fn is_loopback(host: &url::Host<impl AsRef<str>>) -> bool {
    match host {
        url::Host::Domain(name) => name.as_ref().eq_ignore_ascii_case("localhost"),
        url::Host::Ipv4(ip) => ip.is_loopback(),
        url::Host::Ipv6(ip) => ip.is_loopback(),
    }
}

fn host(url: &Url) -> &str {
    url.host_str().unwrap_or("")
}

/// What a failure below HTTP means. The text of `reqwest`'s error is not used: it holds the URL.
fn from_reqwest(operation: &'static str, url: &Url, err: reqwest::Error) -> Error {
    let (kind, reason, advice) = if is_untrusted(&err) {
        (
            Kind::Untrusted,
            "the certificate of the other side is not trusted",
            "check the host, or set SSL_CERT_FILE to the certificates to trust",
        )
    } else if err.is_connect() {
        (Kind::Unavailable { retry_after: None }, "no connection", "check the host and the network")
    } else if err.is_timeout() {
        (Kind::Unavailable { retry_after: None }, "no answer in time", "")
    } else if err.is_decode() || err.is_body() {
        (Kind::Unavailable { retry_after: None }, "the answer broke off", "")
    } else {
        (Kind::Unavailable { retry_after: None }, "the connection was cut", "")
    };
    let err = Error::new(kind, operation).because(reason).with("host", host(url));
    if advice.is_empty() { err } else { err.advise(advice) }
}

/// Whether a TLS handshake failed because of the other side's certificate.
fn is_untrusted(err: &reqwest::Error) -> bool {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(err);
    // A chain of causes is a handful long; the limit guards against one that loops.
    for _ in 0..16 {
        let Some(cause) = source else { break };
        let inner = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let tls = match inner {
            Some(inner) => inner.downcast_ref::<rustls::Error>(),
            None => cause.downcast_ref::<rustls::Error>(),
        };
        if let Some(rustls::Error::InvalidCertificate(_)) = tls {
            return true;
        }
        source = inner.map(|inner| inner as &(dyn std::error::Error + 'static)).or(cause.source());
    }
    false
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn what_a_service_says_is_repeated_without_our_secrets() {
        rustls::crypto::ring::default_provider().install_default().unwrap_or(());
        let token = Secret::new("canary-token-0123456789abcdef".to_owned());
        let url = Url::parse("https://a.example/assets?filter=x").expect("a URL");
        let bearer = Arc::new(Fixed(url.clone()));
        let http = Http::new(bearer, RetryPolicy::default(), Arc::new(SystemClock), 1);
        let said = format!("no filter in {} understood", token.expose());
        let body = serde_json::json!({"error": {"code": token.expose(), "message": said}});
        let err = http.expect("a client").error_of_status(
            "test",
            &url,
            StatusCode::BAD_REQUEST,
            &HeaderMap::new(),
            body.to_string().as_bytes(),
        );
        assert_eq!(
            err.to_string(),
            "test: the service says: no filter in [REDACTED] understood (status=400, \
             code=[REDACTED], host=a.example); correct what was asked for, for example the filter"
        );
    }

    #[tokio::test]
    async fn a_token_is_not_sent_to_another_host() {
        // Whether or not another test was first.
        rustls::crypto::ring::default_provider().install_default().unwrap_or(());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let own = Url::parse("https://a.example/").expect("a URL");
        let retry = RetryPolicy::default();
        let http = Http::new(Arc::new(Fixed(own)), retry, Arc::new(SystemClock), 1);
        let other = Url::parse(&format!("http://127.0.0.1:{port}/")).expect("a URL");
        let err = http.expect("a client").get("test", &other, |_| Ok(())).await;
        assert_eq!(err.expect_err("refused").kind(), Kind::Internal);
        listener.set_nonblocking(true).expect("set");
        assert!(listener.accept().is_err(), "nobody called");
    }
}
