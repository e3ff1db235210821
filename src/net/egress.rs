//! Where requests may go: the one place that decides, for our own client and for the Azure SDK's.
//!
//! Every client is made for one origin and reaches no other, so a link in an answer, a redirect or
//! a mistake cannot carry a credential elsewhere.
//!
//! # Rules (contract, section 2)
//! - What a service names must lie under [`SERVICE_DOMAINS`]; what a setting names is allowed.
//! - `https`, or `http` to loopback and to the platform's identity endpoint.
//! - No redirect is followed.
//! - No proxy for loopback and the identity endpoint; elsewhere `HTTPS_PROXY` and `NO_PROXY`.
//! - Trusted are the system's roots, or what `SSL_CERT_FILE` names.
//! - No request waits longer than [`ANSWER_SECONDS_MAX`] for its whole answer.

use std::sync::OnceLock;
use std::time::Duration;

use async_trait::async_trait;
use azure_core::error::ErrorKind;
use azure_core::http::headers::HeaderName;
use azure_core::http::{AsyncRawResponse, HttpClient, Request};
use url::{Origin, Url};

use super::retry::parse_retry_after;
use crate::clock::{Clock, SystemClock};
use crate::error::{Error, Kind, Result};

/// Longest wait for one answer, its body included (contract, section 2).
pub const ANSWER_SECONDS_MAX: u64 = 100;

/// Longest wait for a connection.
pub const CONNECT_SECONDS_MAX: u64 = 15;

/// Domains of the services that this program talks to (contract, section 2).
pub const SERVICE_DOMAINS: [&str; 3] =
    [".easm.defender.microsoft.com", ".vault.azure.net", BLOB_DOMAIN];

/// Domain of Blob Storage: an account's name stands in front.
pub const BLOB_DOMAIN: &str = ".blob.core.windows.net";

/// The program and its version, as requests name them.
const USER_AGENT: &str = concat!("easm-export/", env!("CARGO_PKG_VERSION"));

/// Who named a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamedBy {
    /// An operator, in a setting.
    Setting,
    /// The platform, as the endpoint of its managed identities: used as given.
    Platform,
    /// A service, in an answer; or a host made from parts.
    Service,
}

/// Whether an answer's `Content-Encoding` is undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bodies {
    /// Asked for as gzip, and unpacked.
    Unpacked,
    /// As they are stored: what a store must do.
    Verbatim,
}

/// A way out, to one origin.
#[derive(Debug, Clone)]
pub struct Egress {
    origin: Origin,
    client: reqwest::Client,
}

impl Egress {
    /// A way to the origin of `url`, which `named_by` named.
    ///
    /// # Errors
    /// [`Kind::Config`] if requests may not go there, or if there are no certificates to trust.
    pub fn to(url: &Url, named_by: NamedBy, bodies: Bodies) -> Result<Self> {
        check(url, named_by)?;
        let is_direct = named_by == NamedBy::Platform || is_on_loopback(url);
        Ok(Self { origin: url.origin(), client: client(is_direct, bodies)? })
    }

    /// The client, for a request to `url`.
    ///
    /// # Errors
    /// [`Kind::Internal`] if `url` is of another origin.
    pub fn client_for(&self, operation: &'static str, url: &Url) -> Result<&reqwest::Client> {
        if url.origin() == self.origin {
            return Ok(&self.client);
        }
        Err(Error::new(Kind::Internal, operation)
            .because("a request was about to go to a host it was not meant for")
            .advise("please report this"))
    }
}

/// The Azure SDK's transport.
#[async_trait]
impl HttpClient for Egress {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        let client = self.client_for(SENDING, request.url()).map_err(into_azure)?;
        let answer = client.execute_request(request).await.map_err(|err| {
            match from_azure(request.url(), &err) {
                // Its kind keeps the SDK from trying again what cannot help.
                Some(ours) => into_azure(ours),
                None => err,
            }
        })?;
        let status = u16::from(answer.status());
        if (300..=399).contains(&status) {
            // Nobody has a use for it, and in place of a token or a file it would only confuse.
            return Err(into_azure(
                Error::new(Kind::Redirected, SENDING)
                    .because("the answer is a redirect, which is never followed")
                    .with("status", status)
                    .with("host", request.url().host_str().unwrap_or_default())
                    .advise("check the URL, and whether a proxy stands in between"),
            ));
        }
        Ok(answer)
    }
}

/// Whether requests may go to `url`.
///
/// # Errors
/// [`Kind::Config`] if not.
pub fn check(url: &Url, named_by: NamedBy) -> Result<()> {
    let host = url.host_str().unwrap_or_default();
    let is_named = match named_by {
        NamedBy::Setting | NamedBy::Platform => true,
        NamedBy::Service => {
            is_on_loopback(url) || SERVICE_DOMAINS.iter().any(|domain| host.ends_with(domain))
        }
    };
    let is_safe = match url.scheme() {
        "https" => true,
        "http" => is_on_loopback(url) || named_by == NamedBy::Platform,
        _ => false,
    };
    if is_named && is_safe {
        return Ok(());
    }
    Err(Error::new(Kind::Config, "choose where to send requests")
        .because("requests go over https to Azure's own hosts and to those that settings name")
        .with("host", host)
        .advise("check EASM_REGION, and the settings whose names end in _URL"))
}

/// Whether `url`'s host is this machine.
pub fn is_on_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

fn client(is_direct: bool, bodies: Bodies) -> Result<reqwest::Client> {
    // One of each for the process: reading the system's certificates takes longer than a request.
    static CLIENTS: [OnceLock<reqwest::Client>; 4] = [const { OnceLock::new() }; 4];
    let does_unpack = bodies == Bodies::Unpacked;
    let shared = &CLIENTS[usize::from(is_direct) * 2 + usize::from(does_unpack)];
    match shared.get() {
        Some(client) => Ok(client.clone()),
        None => {
            new_client(is_direct, does_unpack).map(|client| shared.get_or_init(|| client).clone())
        }
    }
}

fn new_client(is_direct: bool, does_unpack: bool) -> Result<reqwest::Client> {
    let mut builder = reqwest::Client::builder()
        .user_agent(USER_AGENT)
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(CONNECT_SECONDS_MAX))
        .timeout(Duration::from_secs(ANSWER_SECONDS_MAX))
        .gzip(does_unpack)
        // Pages come one after another; HTTP/1.1 connections move them faster (measured:
        // several times as fast as one HTTP/2 connection).
        .http1_only();
    if is_direct {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|err| {
        Error::new(Kind::Config, "set up TLS")
            .because(format!("no certificates to trust can be read: {}", err.without_url()))
            .advise(
                "set SSL_CERT_FILE to a file of certificates in PEM, or unset it and install the \
                 system's (package ca-certificates)",
            )
    })
}

/// What a failure below HTTP means. The text of `reqwest`'s error is not used: it holds the URL.
pub fn from_reqwest(operation: &'static str, url: &Url, err: &reqwest::Error) -> Error {
    let unavailable = Kind::Unavailable { retry_after: None };
    let (kind, reason, advice) = if is_untrusted(err) {
        (
            Kind::Untrusted,
            "the certificate of the other side is not trusted",
            "check the host, or set SSL_CERT_FILE to the certificates to trust",
        )
    } else if is_unknown_host(err) {
        (unavailable, UNKNOWN_HOST, "check its spelling, and the network's name service")
    } else if err.is_connect() {
        (unavailable, "no connection", "check the host and the network")
    } else if err.is_timeout() {
        (unavailable, "no answer in time", "")
    } else if err.is_decode() || err.is_body() {
        (unavailable, "the answer broke off", "")
    } else {
        (unavailable, "the connection was cut", "")
    };
    let host = url.host_str().unwrap_or_default();
    let err = Error::new(kind, operation).because(reason).with("host", host);
    if advice.is_empty() { err } else { err.advise(advice) }
}

/// The reason of an error that says that no such host is known.
pub const UNKNOWN_HOST: &str = "no host of that name is known";

/// The operation of errors that the SDK's transport makes: callers know better what it was for.
pub const SENDING: &str = "send a request";

/// Our own error inside an error of the SDK, or what a failure below HTTP in it means (its operation
/// is [`SENDING`]). `None`: it is of another sort.
pub fn from_azure(url: &Url, err: &azure_core::Error) -> Option<Error> {
    causes(err).find_map(|cause| {
        if let Some(ours) = cause.downcast_ref::<Error>() {
            return Some(ours.clone());
        }
        Some(from_reqwest(SENDING, url, cause.downcast_ref::<reqwest::Error>()?))
    })
}

/// `err` as an error that passes through the SDK, which tries again what may help.
pub fn into_azure(err: Error) -> azure_core::Error {
    let kind = match err.kind().is_retryable() {
        true => ErrorKind::Io,
        false => ErrorKind::Other,
    };
    azure_core::Error::new(kind, err)
}

/// The pause that an answer at the bottom of `err` asks for.
pub fn retry_after(err: &azure_core::Error) -> Option<Duration> {
    let answer =
        causes(err).find_map(|cause| match cause.downcast_ref::<azure_core::Error>()?.kind() {
            ErrorKind::HttpResponse { raw_response, .. } => raw_response.as_ref(),
            _ => None,
        })?;
    let value = answer.headers().get_optional_string(&HeaderName::from_static("retry-after"))?;
    parse_retry_after(&value, SystemClock.now())
}

/// `err` and its causes.
pub fn causes<'a>(
    err: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    // A chain of causes is a handful long; the limit guards against one that loops.
    const CAUSES_MAX: usize = 16;
    let next = |cause: &&'a (dyn std::error::Error + 'static)| {
        // What an `io::Error` holds is not its source, but has to be looked at too.
        let held = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        held.map(|held| held as &(dyn std::error::Error + 'static)).or_else(|| cause.source())
    };
    std::iter::successors(Some(err), next).take(CAUSES_MAX)
}

/// Whether no address was found for the host's name.
fn is_unknown_host(err: &reqwest::Error) -> bool {
    // The connector has no type for it that could be asked.
    causes(err).any(|cause| cause.to_string().starts_with("dns error"))
}

/// Whether a TLS handshake failed because of the other side's certificate.
fn is_untrusted(err: &reqwest::Error) -> bool {
    causes(err)
        .any(|cause| matches!(cause.downcast_ref(), Some(rustls::Error::InvalidCertificate(_))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_go_only_where_the_contract_lets_them() {
        use NamedBy::{Platform, Service, Setting};
        let check = |url: &str, named_by, want: bool| {
            let found = check(&Url::parse(url).expect("a URL"), named_by).is_ok();
            assert_eq!(found, want, "{url} named by {named_by:?}");
        };
        check("https://eastus.easm.defender.microsoft.com", Service, true);
        check("https://a.blob.core.windows.net", Service, true);
        check("https://a.vault.azure.net", Service, true);
        check("https://127.0.0.1:1", Service, true);
        check("http://[::1]:1", Service, true);
        check("https://a.example", Service, false);
        check("https://easm.defender.microsoft.com.a.example", Service, false);
        check("https://evil-easm.defender.microsoft.com", Service, false);
        check("http://eastus.easm.defender.microsoft.com", Service, false);
        check("https://a.example", Setting, true);
        check("http://a.example", Setting, false);
        check("http://127.0.0.1.a.example", Setting, false);
        check("http://localhost:1", Setting, true);
        check("ftp://127.0.0.1", Setting, false);
        check("http://169.254.169.254", Platform, true);
        check("http://169.254.169.254", Setting, false);
    }

    #[test]
    fn a_client_reaches_its_own_origin_only() {
        rustls::crypto::ring::default_provider().install_default().unwrap_or(());
        let url = |text: &str| Url::parse(text).expect("a URL");
        let own = url("https://a.example/base");
        let egress = Egress::to(&own, NamedBy::Setting, Bodies::Verbatim).expect("allowed");
        assert!(egress.client_for("test", &url("https://a.example/other?x=1")).is_ok());
        for other in ["https://b.example/", "http://a.example/", "https://a.example:444/"] {
            let err = egress.client_for("test", &url(other)).expect_err(other);
            assert_eq!(err.kind(), Kind::Internal);
        }
    }
}
