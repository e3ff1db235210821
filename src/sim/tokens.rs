//! The tokens that were issued: by whom, for whom, and whether they are still good.
//!
//! Tokens look like JSON web tokens, are signed by nobody and known only to this
//! process.
//!
//! # Invariants
//! - One token serves one plane (API reference, section 3: "two audiences, two
//!   tokens"), in one tenant, for one principal.
//! - No two tokens are equal, and all derive from the seed and the time of issue.
//! - What was issued is remembered after its end.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};

use super::{Options, WORKLOAD_SUBJECT, text};

/// Tokens that are remembered; those that are no longer good are dropped first, then all.
const TOKENS_MAX: usize = 100_000;
/// Life of the workload token: long, since nobody renews it.
const WORKLOAD_SECONDS: u64 = 366 * 86_400;
/// Who issued the workload token: a cluster.
pub const WORKLOAD_ISSUER: &str = "https://cluster.example/51d0";
/// The audience of assertions, as a resource.
pub const EXCHANGE: &str = "api://AzureADTokenExchange";
/// Client id of the system-assigned identity, which nobody asks for by it.
pub const SYSTEM_CLIENT_ID: &str = "0c0ffee0-0000-4000-8000-000000000001";

/// What a token is good for (API reference, section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// The data plane of EASM.
    Easm,
    /// Azure Resource Manager.
    Arm,
    /// Blob Storage.
    Storage,
    /// Key Vault.
    Vault,
    /// Entra, as an assertion.
    Exchange,
}

impl Audience {
    /// The audience of a resource, with or without a slash at its end.
    pub fn of(resource: &str) -> Option<Self> {
        match resource.trim_end_matches('/') {
            "https://easm.defender.microsoft.com" => Some(Self::Easm),
            "https://management.azure.com" | "https://management.core.windows.net" => {
                Some(Self::Arm)
            }
            "https://storage.azure.com" => Some(Self::Storage),
            "https://vault.azure.net" => Some(Self::Vault),
            EXCHANGE => Some(Self::Exchange),
            _ => None,
        }
    }
}

/// Whose token it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// What it is good for.
    pub audience: Audience,
    /// The tenant that issued it.
    pub tenant_id: String,
    /// `None`: the system-assigned identity.
    pub client_id: Option<String>,
    /// Of the managed identity, or of the app in its tenant.
    pub object_id: String,
}

/// Who gets a token.
#[derive(Clone, Copy, Debug)]
pub struct Principal<'a> {
    pub tenant_id: &'a str,
    pub client_id: Option<&'a str>,
    pub object_id: &'a str,
    pub has_role: bool,
}

/// Why a plane does not serve a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stranger {
    /// Missing, unknown, expired, revoked or for another plane.
    NoToken,
    /// Issued by this tenant, which is not the workspace's.
    OtherTenant(String),
    /// Good, but of a principal without a role.
    NoRole(Issued),
}

/// Who may not do what, in ARM's words.
pub fn denied(who: &Issued, action: &str, scope: &str) -> String {
    format!(
        "The client '{}' with object id '{}' does not have authorization to perform action \
         '{action}' over scope '{scope}' or the scope is invalid. If access was recently granted, \
         please refresh your credentials.",
        who.client_id.as_deref().unwrap_or(SYSTEM_CLIENT_ID),
        who.object_id
    )
}

/// Every token that was issued.
#[derive(Debug)]
pub struct Tokens {
    seed: u64,
    life: Duration,
    tenant_id: String,
    workload: String,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    n_issued: u64,
    all: HashMap<String, Entry>,
    client_ids: Vec<Option<String>>,
}

#[derive(Debug)]
struct Entry {
    issued: Issued,
    has_role: bool,
    expires_at: Instant,
    is_revoked: bool,
}

impl Entry {
    fn is_good(&self) -> bool {
        !self.is_revoked && self.expires_at > Instant::now()
    }
}

impl Tokens {
    pub fn new(options: &Options) -> Self {
        let now = now_seconds();
        let claims = json!({"iss": WORKLOAD_ISSUER, "sub": WORKLOAD_SUBJECT, "aud": [EXCHANGE],
            "iat": now, "nbf": now, "exp": now + WORKLOAD_SECONDS});
        Self {
            seed: options.seed,
            life: Duration::from_secs(options.token_seconds),
            tenant_id: options.tenant_id.clone(),
            workload: signed(text::mix(options.seed ^ 0x3017), &claims),
            inner: Mutex::default(),
        }
    }

    /// What a service account of a cluster presents to Entra.
    pub fn workload(&self) -> &str {
        &self.workload
    }

    /// Seconds that a token issued now is good for.
    pub fn life_seconds(&self) -> u64 {
        self.life.as_secs()
    }

    /// When a token issued now expires, in seconds since 1970.
    pub fn expires_on(&self) -> u64 {
        now_seconds() + self.life.as_secs()
    }

    /// Issues a token for a resource.
    pub fn issue(&self, audience: Audience, resource: &str, principal: Principal<'_>) -> String {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.n_issued += 1;
        let token = self.token(inner.n_issued, resource, principal);
        if inner.all.len() >= TOKENS_MAX {
            inner.all.retain(|_, entry| entry.is_good());
        }
        if inner.all.len() >= TOKENS_MAX {
            inner.all.clear();
        }
        let Principal { tenant_id, client_id, object_id, has_role } = principal;
        let client_id = client_id.map(str::to_owned);
        if inner.client_ids.len() < TOKENS_MAX {
            inner.client_ids.push(client_id.clone());
        }
        let (tenant_id, object_id) = (tenant_id.to_owned(), object_id.to_owned());
        let issued = Issued { audience, tenant_id, client_id, object_id };
        let expires_at = Instant::now() + self.life;
        inner.all.insert(token.clone(), Entry { issued, has_role, expires_at, is_revoked: false });
        token
    }

    /// Whether a plane of the workspace's tenant serves this token.
    pub fn admit(&self, token: Option<&str>, audience: Audience) -> Result<(), Stranger> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = token.and_then(|token| inner.all.get(token)).ok_or(Stranger::NoToken)?;
        if !entry.is_good() || entry.issued.audience != audience {
            return Err(Stranger::NoToken);
        }
        if !entry.issued.tenant_id.eq_ignore_ascii_case(&self.tenant_id) {
            return Err(Stranger::OtherTenant(entry.issued.tenant_id.clone()));
        }
        if !entry.has_role {
            return Err(Stranger::NoRole(entry.issued.clone()));
        }
        Ok(())
    }

    /// Whose token this is, and whether it is still good.
    pub fn find(&self, token: &str) -> Option<(Issued, bool)> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.all.get(token).map(|entry| (entry.issued.clone(), entry.is_good()))
    }

    /// From now on no token issued so far is good, but for those for exchange:
    /// nobody asks whether they were revoked.
    pub fn revoke_all(&self) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        for entry in inner.all.values_mut() {
            entry.is_revoked = entry.issued.audience != Audience::Exchange;
        }
    }

    /// The `client_id` of every token, oldest first.
    pub fn client_ids(&self) -> Vec<Option<String>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).client_ids.clone()
    }

    fn token(&self, number: u64, resource: &str, principal: Principal<'_>) -> String {
        let seed = text::mix(self.seed ^ text::mix(number));
        let Principal { tenant_id, client_id, object_id, has_role: _ } = principal;
        let now = now_seconds();
        let claims = json!({
            "aud": resource.trim_end_matches('/'),
            "iss": format!("https://sts.windows.net/{tenant_id}/"),
            "tid": tenant_id, "oid": object_id, "sub": object_id, "idtyp": "app",
            "appid": client_id.unwrap_or(SYSTEM_CLIENT_ID),
            "iat": now, "nbf": now, "exp": now + self.life.as_secs(),
            "jti": text::uuid(seed, number), "ver": "1.0", "xms_mirid": "/simulated",
        });
        signed(seed, &claims)
    }
}

/// A JSON web token whose signature is made up.
fn signed(seed: u64, claims: &Value) -> String {
    let head = json!({"typ": "JWT", "alg": "RS256", "kid": text::uuid(text::mix(seed), seed)});
    let mut rng = fastrand::Rng::with_seed(seed);
    let signature: Vec<u8> = (0..256).map(|_| rng.u8(..)).collect();
    let part = |bytes: &[u8]| text::base64_url(bytes);
    let (head, claims) = (head.to_string(), claims.to_string());
    format!("{}.{}.{}", part(head.as_bytes()), part(claims.as_bytes()), part(&signature))
}

/// The claims of what looks like a JSON web token.
pub fn claims(token: &str) -> Option<Value> {
    let mut parts = token.split('.');
    let (_head, claims, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    serde_json::from_slice(&text::base64_decoded(claims)?).ok()
}

/// Seconds since 1970.
pub fn now_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
