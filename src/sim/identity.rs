//! A managed identity endpoint and the tokens it issued.
//!
//! `GET /msi/token?api-version=2019-08-01&resource=R` with `X-IDENTITY-HEADER`,
//! the protocol of App Service and Functions. Tokens look like JSON web tokens,
//! are signed by nobody and known only to this process.
//!
//! # Invariants
//! - One token serves one plane (API reference, section 3: "two audiences, two
//!   tokens").
//! - No two tokens are equal, and all derive from the seed.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde_json::json;

use super::{
    Options, State,
    http::{Answer, Call},
    text,
};

/// Tokens that are remembered; the expired ones are dropped first, then all.
const TOKENS_MAX: usize = 100_000;

/// What a token is good for (API reference, section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    Easm,
    Arm,
}

impl Audience {
    fn of(resource: &str) -> Option<Self> {
        match resource.trim_end_matches('/') {
            "https://easm.defender.microsoft.com" => Some(Self::Easm),
            "https://management.azure.com" | "https://management.core.windows.net" => {
                Some(Self::Arm)
            }
            _ => None,
        }
    }
}

/// Every token that is still good.
#[derive(Debug)]
pub struct Tokens {
    seed: u64,
    life: Duration,
    inner: Mutex<Issued>,
}

#[derive(Debug, Default)]
struct Issued {
    n_issued: u64,
    good: HashMap<String, (Audience, Instant)>,
    client_ids: Vec<Option<String>>,
}

impl Tokens {
    pub fn new(options: &Options) -> Self {
        let life = Duration::from_secs(options.token_seconds);
        Self { seed: options.seed, life, inner: Mutex::default() }
    }

    /// Issues a token, to be answered to `client_id`.
    pub fn issue(&self, audience: Audience, resource: &str, client_id: Option<&str>) -> String {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.n_issued += 1;
        let token = self.token(inner.n_issued, resource, client_id);
        if inner.good.len() >= TOKENS_MAX {
            let now = Instant::now();
            inner.good.retain(|_, (_, expires_at)| *expires_at > now);
        }
        if inner.good.len() >= TOKENS_MAX {
            inner.good.clear();
        }
        inner.good.insert(token.clone(), (audience, Instant::now() + self.life));
        if inner.client_ids.len() < TOKENS_MAX {
            inner.client_ids.push(client_id.map(str::to_owned));
        }
        token
    }

    pub fn is_good(&self, token: &str, audience: Audience) -> bool {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.good.get(token).is_some_and(|(a, until)| *a == audience && *until > Instant::now())
    }

    /// From now on no token issued so far is good.
    pub fn revoke_all(&self) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).good.clear();
    }

    /// The `client_id` of every request for a token, oldest first.
    pub fn client_ids(&self) -> Vec<Option<String>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).client_ids.clone()
    }

    fn token(&self, number: u64, resource: &str, client_id: Option<&str>) -> String {
        let seed = text::mix(self.seed ^ text::mix(number));
        let head = json!({"typ": "JWT", "alg": "RS256", "kid": text::uuid(seed, self.seed)});
        let claims = json!({"aud": resource, "appid": client_id, "jti": number,
            "exp": expires_on(self.life), "xms_mirid": "/simulated"});
        let mut rng = fastrand::Rng::with_seed(seed);
        let signature: Vec<u8> = (0..256).map(|_| rng.u8(..)).collect();
        let part = |bytes: &[u8]| text::base64_url(bytes);
        let (head, claims) = (head.to_string(), claims.to_string());
        format!("{}.{}.{}", part(head.as_bytes()), part(claims.as_bytes()), part(&signature))
    }
}

fn expires_on(life: Duration) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (now + life).as_secs()
}

/// Whether this call is for the identity endpoint.
pub fn is_addressed(call: &Call) -> bool {
    matches!(&call.segments[..], [a, b] if a == "msi" && b == "token")
}

/// Answers a request for a token.
pub fn answer(state: &State, call: &Call) -> Answer {
    if call.method != "GET" {
        return refusal(405, "method_not_allowed", "only GET is answered here");
    }
    if call.identity_header.as_deref() != Some(&state.options().identity_header) {
        return refusal(401, "unauthorized", "X-IDENTITY-HEADER is missing or wrong");
    }
    if call.param("api-version") != Some("2019-08-01") {
        return refusal(400, "invalid_request", "api-version must be 2019-08-01");
    }
    let Some(resource) = call.param("resource") else {
        return refusal(400, "invalid_request", "the parameter resource is missing");
    };
    let Some(audience) = Audience::of(resource) else {
        return refusal(400, "invalid_resource", "no such resource in this tenant");
    };
    let client_id = call.param("client_id");
    let tokens = state.tokens();
    let body = json!({
        "access_token": tokens.issue(audience, resource, client_id),
        "expires_on": expires_on(tokens.life).to_string(),
        "resource": resource,
        "token_type": "Bearer",
        "client_id": client_id.unwrap_or("0c0ffee0-0000-4000-8000-000000000001"),
    });
    Answer::json(200, body.to_string().into_bytes())
}

fn refusal(status: u16, code: &str, message: &str) -> Answer {
    let body = json!({"error": code, "error_description": message,
        "statusCode": status, "message": message});
    Answer::json(status, body.to_string().into_bytes())
}
