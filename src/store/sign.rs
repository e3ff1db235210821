//! Signs requests to Blob Storage: with a bearer token, or for Azurite with its development key.

use std::sync::Arc;

use async_trait::async_trait;
use azure_core::http::headers::HeaderName;
use azure_core::http::policies::{Policy, PolicyResult};
use azure_core::http::{Body, Context, Request, StatusCode};
use azure_core::time::{OffsetDateTime, to_rfc7231};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::error::{Error, Kind, Result};
use crate::net::Bearer;
use crate::net::egress::into_azure;
use crate::secret::Secret;

/// Azurite's account and key, published in its documentation and the same everywhere.
pub const DEVELOPMENT_ACCOUNT: &str = "devstoreaccount1";
const DEVELOPMENT_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

const AUTHORIZATION: HeaderName = HeaderName::from_static("authorization");

/// Puts a token on every request. A token that is refused is replaced once.
pub(super) struct WithToken(pub Arc<dyn Bearer>);

impl std::fmt::Debug for WithToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WithToken")
    }
}

impl WithToken {
    fn sign(&self, request: &mut Request, token: &Secret) -> Result<()> {
        if request.url().origin() != self.0.origin() {
            return Err(Error::new(Kind::Internal, "sign a request")
                .because("a token was about to go to a host it was not issued for")
                .advise("please report this"));
        }
        request.insert_header(AUTHORIZATION, format!("Bearer {}", token.expose()));
        Ok(())
    }
}

#[async_trait]
impl Policy for WithToken {
    async fn send(
        &self,
        ctx: &Context,
        request: &mut Request,
        next: &[Arc<dyn Policy>],
    ) -> PolicyResult {
        let token = self.0.token().await.map_err(into_azure)?;
        self.sign(request, &token).map_err(into_azure)?;
        let answer = next[0].send(ctx, request, &next[1..]).await?;
        if answer.status() != StatusCode::Unauthorized {
            return Ok(answer);
        }
        let token = self.0.renew(&token).await.map_err(into_azure)?;
        self.sign(request, &token).map_err(into_azure)?;
        next[0].send(ctx, request, &next[1..]).await
    }
}

/// Signs every request with Azurite's development key ("Authorize with Shared Key", Azure Storage
/// REST reference).
pub(super) struct WithDevelopmentKey {
    key: Secret,
}

impl std::fmt::Debug for WithDevelopmentKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WithDevelopmentKey")
    }
}

impl WithDevelopmentKey {
    pub fn new() -> Self {
        Self { key: Secret::new(DEVELOPMENT_KEY.to_owned()) }
    }
}

#[async_trait]
impl Policy for WithDevelopmentKey {
    async fn send(
        &self,
        ctx: &Context,
        request: &mut Request,
        next: &[Arc<dyn Policy>],
    ) -> PolicyResult {
        request.insert_header("x-ms-date", to_rfc7231(&OffsetDateTime::now_utc()));
        let key = azure_core::base64::decode(self.key.expose())?;
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).map_err(|_| {
            azure_core::Error::with_message(azure_core::error::ErrorKind::Other, "a bad key")
        })?;
        mac.update(text_to_sign(request).as_bytes());
        let signature = azure_core::base64::encode(mac.finalize().into_bytes());
        let value = format!("SharedKey {DEVELOPMENT_ACCOUNT}:{signature}");
        request.insert_header(AUTHORIZATION, value);
        next[0].send(ctx, request, &next[1..]).await
    }
}

/// Verb, twelve headers, the `x-ms-` headers and the resource, a line each.
fn text_to_sign(request: &Request) -> String {
    /// Signed headers in their order; Content-Length stands before them by its own rule, and Date
    /// (empty, since `x-ms-date` is there) after the third.
    const HEADERS: [&str; 10] = [
        "content-encoding",
        "content-language",
        "content-length",
        "content-md5",
        "content-type",
        "date",
        "if-modified-since",
        "if-match",
        "if-none-match",
        "if-unmodified-since",
    ];
    let header = |name: &'static str| {
        request.headers().get_optional_str(&HeaderName::from_static(name)).unwrap_or_default()
    };
    let length = match request.body() {
        Body::Bytes(bytes) => bytes.len() as u64,
        Body::SeekableStream(stream) => stream.len().unwrap_or(0),
    };
    let mut text = format!("{}\n", request.method().as_ref());
    for name in HEADERS {
        match name {
            // An empty body counts as no length.
            "content-length" if length == 0 => {}
            "content-length" => text += &length.to_string(),
            "date" => {}
            name => text += header(name),
        }
        text.push('\n');
    }
    text += header("range");
    text.push('\n');
    let mut own: Vec<(&str, &str)> = request
        .headers()
        .iter()
        .filter(|(name, _)| name.as_str().starts_with("x-ms-"))
        .map(|(name, value)| (name.as_str(), value.as_str().trim()))
        .collect();
    own.sort_unstable();
    for (name, value) in own {
        text += &format!("{name}:{value}\n");
    }
    text += &format!("/{DEVELOPMENT_ACCOUNT}{}", request.url().path());
    let mut params: Vec<(String, String)> = request
        .url()
        .query_pairs()
        .map(|(name, value)| (name.to_lowercase(), value.into_owned()))
        .collect();
    params.sort_unstable();
    for (name, value) in params {
        text += &format!("\n{name}:{value}");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use azure_core::http::headers::Headers;
    use azure_core::http::{AsyncRawResponse, Method, Url};

    use super::*;

    /// Whoever would send: notes what came with which token, and refuses the first.
    #[derive(Debug, Default)]
    struct Wire(Mutex<Vec<String>>);

    #[async_trait]
    impl Policy for Wire {
        async fn send(
            &self,
            _ctx: &Context,
            request: &mut Request,
            _next: &[Arc<dyn Policy>],
        ) -> PolicyResult {
            let token = request.headers().get_str(&AUTHORIZATION)?.to_owned();
            let mut tokens = self.0.lock().expect("not poisoned");
            tokens.push(token);
            let status = if tokens.len() == 1 { StatusCode::Unauthorized } else { StatusCode::Ok };
            Ok(AsyncRawResponse::from_bytes(status, Headers::new(), ""))
        }
    }

    struct Fixed(Url);

    #[async_trait]
    impl Bearer for Fixed {
        fn origin(&self) -> url::Origin {
            self.0.origin()
        }

        async fn token(&self) -> Result<Secret> {
            Ok(Secret::new("a-token-for-one-account".to_owned()))
        }

        async fn renew(&self, _refused: &Secret) -> Result<Secret> {
            Ok(Secret::new("a-new-token-for-one-account".to_owned()))
        }
    }

    #[tokio::test]
    async fn a_token_goes_to_its_own_account_and_is_renewed_once() {
        let url = |text: &str| Url::parse(text).expect("a URL");
        let policy = WithToken(Arc::new(Fixed(url("https://acct.blob.core.windows.net/c"))));
        let wire = Arc::new(Wire::default());
        let next: [Arc<dyn Policy>; 1] = [Arc::clone(&wire) as _];
        let mut other = Request::new(url("https://other.blob.core.windows.net/c"), Method::Get);
        policy.send(&Context::default(), &mut other, &next).await.expect_err("another account");
        assert!(wire.0.lock().expect("not poisoned").is_empty(), "nothing was sent");
        let mut own = Request::new(url("https://acct.blob.core.windows.net/c/b"), Method::Get);
        policy.send(&Context::default(), &mut own, &next).await.expect("sent");
        let tokens = wire.0.lock().expect("not poisoned").clone();
        assert_eq!(
            tokens,
            ["Bearer a-token-for-one-account", "Bearer a-new-token-for-one-account"]
        );
    }

    #[test]
    fn what_is_signed_has_the_form_that_the_service_expects() {
        let url = "http://127.0.0.1:10000/devstoreaccount1/c/a%2Fb=c?comp=block&blockid=QQ%3D%3D";
        let mut request = Request::new(Url::parse(url).expect("a URL"), Method::Put);
        request.insert_header("x-ms-version", "2026-04-06");
        request.insert_header("x-ms-date", "Sun, 22 Nov 2026 06:00:00 GMT");
        request.insert_header("content-type", "application/octet-stream");
        request.insert_header("content-md5", "bWQ1");
        request.insert_header("if-none-match", "*");
        request.set_body("12345");
        assert_eq!(
            text_to_sign(&request),
            "PUT\n\n\n5\nbWQ1\napplication/octet-stream\n\n\n\n*\n\n\n\
             x-ms-date:Sun, 22 Nov 2026 06:00:00 GMT\nx-ms-version:2026-04-06\n\
             /devstoreaccount1/devstoreaccount1/c/a%2Fb=c\nblockid:QQ==\ncomp:block"
        );
    }
}
