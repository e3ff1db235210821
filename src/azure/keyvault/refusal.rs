//! What it means when Key Vault gives no secret, in one table: status and codes to kind, sentence and
//! advice.
//!
//! The texts of the SDK and of the service are never used: they name callers and networks, and may
//! repeat what was sent.

use std::time::Duration;

use azure_core::error::ErrorKind;
use serde::Deserialize;
use url::Url;

use super::Place;
use crate::error::{Error, Kind};
use crate::net::egress::{SENDING, UNKNOWN_HOST, from_azure, retry_after};

/// Key Vault's number for a token of another tenant than its own (as its answers have it).
const OTHER_TENANT: &str = "AKV10032";

/// What Key Vault answered in place of a secret.
pub(super) struct Refusal {
    status: u16,
    /// The codes that the answer has, the outermost first.
    codes: Vec<String>,
    /// The pause that the answer asks for.
    retry_after: Option<Duration>,
    /// Whether the token is of another tenant than the vault.
    is_other_tenant: bool,
}

impl Refusal {
    /// The refusal at the bottom of `err`, if there was an answer.
    pub fn of(err: &azure_core::Error) -> Option<Self> {
        let ErrorKind::HttpResponse { status, raw_response, .. } = err.kind() else { return None };
        let body = raw_response.as_ref().map(|answer| answer.body().as_ref());
        let Body { error } = body.and_then(|b| serde_json::from_slice(b).ok()).unwrap_or_default();
        // Only looked at for the one number that is known to stand in it, never repeated.
        let is_other_tenant = error.message.is_some_and(|text| text.starts_with(OTHER_TENANT));
        let codes = std::iter::successors(error.inner, |inner| inner.inner.as_deref().cloned());
        let inner = codes.take(INNER_MAX).filter_map(|inner| inner.code);
        let codes = error.code.into_iter().chain(inner).collect();
        let retry_after = retry_after(err);
        Some(Self { status: u16::from(*status), codes, retry_after, is_other_tenant })
    }

    /// Whether another token may be accepted in place of the one that was sent.
    pub fn is_about_the_token(&self) -> bool {
        self.status == 401 && !self.is_other_tenant
    }

    /// What it means for the secret at `place`.
    pub fn error(&self, place: &Place) -> Error {
        let Self { status, codes, retry_after, is_other_tenant } = self;
        let known = codes.iter().rev().find_map(|code| meaning(code));
        let (code, kind, reason, advice) = match (status, known) {
            (400..=499, Some(Meaning { code, kind, reason, advice })) => {
                (Some(code), kind, reason, advice)
            }
            _ => {
                let (kind, reason, advice) = by_status(*status, *retry_after, *is_other_tenant);
                (is_other_tenant.then_some(OTHER_TENANT), kind, reason, advice)
            }
        };
        let mut err = place.error(kind, reason).with("status", status);
        if let Some(code) = code {
            err = err.with("code", code);
        }
        if let Some(asked) = retry_after {
            err = err.with("retry-after", format!("{} s", asked.as_secs()));
        }
        err.advise(advice)
    }
}

/// How many codes may stand in each other. There are two where there are most.
const INNER_MAX: usize = 8;

/// The error body (Key Vault REST reference, "Authentication, requests and responses").
#[derive(Default, Deserialize)]
struct Body {
    #[serde(default)]
    error: Detail,
}

#[derive(Default, Deserialize)]
struct Detail {
    code: Option<String>,
    message: Option<String>,
    #[serde(rename = "innererror")]
    inner: Option<Inner>,
}

#[derive(Clone, Deserialize)]
struct Inner {
    code: Option<String>,
    #[serde(rename = "innererror")]
    inner: Option<Box<Inner>>,
}

/// What a code means.
struct Meaning {
    code: &'static str,
    kind: Kind,
    reason: &'static str,
    advice: &'static str,
}

/// Key Vault's codes ("Azure Key Vault REST API error codes", and the answers that its documentation of
/// networks and roles shows).
fn meaning(code: &str) -> Option<Meaning> {
    const ROLE: &str = "assign it Key Vault Secrets User on the vault or the secret; a new \
                        assignment takes some minutes to work";
    let (code, kind, reason, advice) = match code {
        "SecretNotFound" => (
            "SecretNotFound",
            Kind::SecretMissing,
            "there is no secret of that name in this Key Vault",
            "put the client secret there, or correct EASM_CLIENT_SECRET_NAME or EASM_KEY_VAULT_URL",
        ),
        "SecretDisabled" => (
            "SecretDisabled",
            Kind::SecretDisabled,
            "the secret's newest version in Key Vault is disabled",
            "enable it, or add a version that is enabled",
        ),
        "ForbiddenByRbac" => (
            "ForbiddenByRbac",
            Kind::VaultDenied,
            "the app's own identity may not read the secret in Key Vault",
            ROLE,
        ),
        "AccessDenied" => (
            "AccessDenied",
            Kind::VaultDenied,
            "the app's own identity may not read the secret: this Key Vault goes by access policies",
            "give it the permission Get on secrets there, or have the vault go by roles and assign \
             it Key Vault Secrets User",
        ),
        "ForbiddenByFirewall" => (
            "ForbiddenByFirewall",
            Kind::VaultFirewall,
            "Key Vault's firewall does not let this machine in",
            "allow its address or its virtual network in the vault's networking",
        ),
        "ForbiddenByConnection" => (
            "ForbiddenByConnection",
            Kind::VaultFirewall,
            "this Key Vault is closed to public networks",
            "reach it over a private endpoint, or allow this machine's network in the vault's \
             networking",
        ),
        _ => return None,
    };
    Some(Meaning { code, kind, reason, advice })
}

/// What an answer means that has no code one knows.
fn by_status(
    status: u16,
    retry_after: Option<Duration>,
    is_other_tenant: bool,
) -> (Kind, &'static str, &'static str) {
    match status {
        401 if is_other_tenant => (
            Kind::Unauthorized,
            "the Key Vault belongs to another tenant than the app's own identity",
            "use a vault of the identity's tenant, or EASM_CREDENTIAL=federated, which needs no \
             secret",
        ),
        401 => (
            Kind::Unauthorized,
            "Key Vault refuses the token of the app's own identity",
            "check EASM_KEY_VAULT_URL, EASM_IDENTITY_CLIENT_ID, and this machine's clock",
        ),
        403 => (
            Kind::VaultDenied,
            "the app's own identity may not read the secret in Key Vault",
            "assign it Key Vault Secrets User on the vault or the secret, and see whether a policy \
             stands against it",
        ),
        404 | 410 => {
            (Kind::NotFound, "what answers there is no Key Vault", "check EASM_KEY_VAULT_URL")
        }
        429 => (
            Kind::Throttled { retry_after },
            "Key Vault asks to slow down",
            "try again later; the vault serves too many at once",
        ),
        408 | 500..=599 => (
            Kind::Unavailable { retry_after },
            "Key Vault cannot serve us now",
            "try again later, and see whether Azure reports an outage",
        ),
        _ => (
            Kind::BadRequest,
            "Key Vault refuses the request",
            "check EASM_KEY_VAULT_URL and EASM_CLIENT_SECRET_NAME",
        ),
    }
}

/// What it means that no answer came from the vault at `url`, or one that the SDK could not follow.
pub(super) fn without_answer(place: &Place, url: &Url, err: &azure_core::Error) -> Error {
    match from_azure(url, err) {
        Some(below) if below.operation() == SENDING => {
            let reason = below.reason().unwrap_or_default();
            let advice = match below.kind() {
                Kind::Untrusted => {
                    "check EASM_KEY_VAULT_URL, or set SSL_CERT_FILE to the certificates to trust"
                }
                Kind::Redirected => {
                    "check EASM_KEY_VAULT_URL, and whether a proxy stands in between"
                }
                _ if reason == UNKNOWN_HOST => {
                    "check EASM_KEY_VAULT_URL, and the network's name service"
                }
                _ => "try again later; check EASM_KEY_VAULT_URL and the network",
            };
            place.error(below.kind(), reason).advise(advice)
        }
        // Ours: it says so itself.
        Some(below) => below,
        None if matches!(err.kind(), ErrorKind::Io | ErrorKind::Connection) => place
            .error(Kind::Unavailable { retry_after: None }, "the connection was cut")
            .advise("try again later"),
        // The SDK could not follow the challenge: its host is not the vault's, or there is none.
        None => place.wrong_audience(),
    }
}
