//! Key Vault, as far as one reads secrets there.
//!
//! `GET /secrets/{name}[/[{version}]]?api-version=V`, over TLS, with a token for
//! `https://vault.azure.net`.
//!
//! `token -> network -> throttle -> role -> name -> version -> value`
//!
//! # Known
//! From public documentation, answers recorded by Azure's SDKs and answers that
//! users reported:
//! - Without a token: 401 `AKV10000` with the challenge `Bearer authorization="..",
//!   resource="https://vault.azure.net"`. The same challenge, without an `error`,
//!   came with the answer to an expired token (`[TokenExpired] .. 'S2S12086'`).
//! - The words and codes of `AKV10022` (audience), `AKV10032` (issuer), `AKV10046`
//!   (signature), `ForbiddenByRbac`, `AccessDenied`, `ForbiddenByFirewall`,
//!   `ForbiddenByConnection`, `SecretDisabled`, `SecretNotFound` and `Throttled`.
//!   The refusals of 403 have the code `Forbidden`, and their own in `innererror`.
//! - Refusals by the network name the caller, so the token is read first.
//! - A throttled answer that users reported had no `Retry-After`; the guidance on
//!   throttling does not promise one. Here it is as the options say.
//! - The current version is the newest. If it is disabled, a read without a version
//!   is refused, though older ones are enabled.
//! - `exp` and `nbf` inform: such secrets are read as others are ("date-time
//!   controlled operations"), with the dates in the answer.
//! - A deleted secret is not found, in the words for one that never was.
//! - Names are compared without case.
//! - A version: 32 hexadecimal digits; `id` names the host, the secret and the
//!   version; `contentType` is there if one was set.
//!
//! # Guessed
//! - That a token nobody issued is answered with `AKV10046`, and a revoked one as an
//!   expired one.
//! - The order beyond what is said above: audience before issuer, the network before
//!   throttling, throttling before roles, and `api-version` after the token.
//! - Code and words of a missing `api-version`, of a name with other characters, of
//!   other methods and other paths.
//! - That a version that does not exist is named `{name}/{version}` in its refusal,
//!   and that the `id` has the name as it was created.
//! - Which issuers `AKV10032` lists: Azure adds some of its own.
//! - Everything a scripted fault says.
//!
//! Start reading at [`answer`].

use serde_json::{Value, json};

use super::{
    State,
    faults::error_of,
    http::{Answer, Call},
    secrets::{SecretVersion, VAULT_NAME, VAULT_RESOURCE, VaultRefusal},
    tokens::{self, Audience, Issued, SYSTEM_CLIENT_ID},
};

/// Whom a challenge names while nothing listens.
const PUBLIC_AUTHORITY: &str = "https://login.microsoftonline.com";
/// What one may do with a secret, in the words of roles.
const ACTION: &str = "Microsoft.KeyVault/vaults/secrets/getSecret/action";
/// Where the documentation of refusals by access policies is.
const POLICY_DOC: &str = "https://go.microsoft.com/fwlink/?linkid=2125287";
/// Where the documentation of what is not found is.
const NOT_FOUND_DOC: &str = "https://go.microsoft.com/fwlink/?linkid=2125182";
/// The address of every client.
const CLIENT_ADDRESS: &str = "127.0.0.1";
const THROTTLED: (&str, &str) = (
    "Throttled",
    "Request was not processed because too many requests were received. Reason: \
     VaultRequestTypeLimitReached",
);
/// What the vault's secrets can be recovered from, and for how long.
const RECOVERY: (&str, u32) = ("Recoverable+Purgeable", 90);

/// Answers a request that came in over TLS. The whole flow is here.
pub fn answer(state: &State, call: &Call) -> Answer {
    let caller = match caller(state, call) {
        Ok(caller) => caller,
        Err(message) => {
            let answer = error(401, "Unauthorized", &message);
            return answer.with("www-authenticate", challenge(state));
        }
    };
    let refusal = state.shelf().refusal();
    if let Some(refused) = refused_by_network(state, &caller, refusal.as_ref()) {
        return refused;
    }
    if call.param("api-version").is_none_or(str::is_empty) {
        return error(400, "BadParameter", "api-version must be specified");
    }
    let (name, version) = match &call.segments[..] {
        [kind, name] if kind == "secrets" => (name, None),
        [kind, name, version] if kind == "secrets" => (name, Some(version.as_str())),
        _ => return error(404, "NotFound", "Secrets are simulated at /secrets/{name}."),
    };
    if call.method != "GET" {
        return error(405, "MethodNotAllowed", "The simulator only reads secrets.");
    }
    if let Some(refused) = refused_by_role(state, &caller, name, refusal.as_ref()) {
        return refused;
    }
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        let message = format!("The request URI contains an invalid name: {name}");
        return error(400, "BadParameter", &message);
    }
    let Some((name, version)) = state.shelf().find(name, version) else {
        let asked: Vec<&str> = call.segments[1..].iter().map(String::as_str).collect();
        let message = format!(
            "A secret with (name/id) {} was not found in this key vault. If you recently deleted \
             this secret you may be able to recover it using the correct recovery command. For \
             help resolving this issue, please see {NOT_FOUND_DOC}",
            asked.join("/")
        );
        return error(404, "SecretNotFound", &message);
    };
    if !version.enabled {
        return forbidden("SecretDisabled", "Operation get is not allowed on a disabled secret.");
    }
    let id = format!("https://{}/secrets/{name}/{}", call.host, version.id);
    Answer::json(200, bundle(&id, &version).to_string().into_bytes())
}

/// Whose good token a call brings, or what is wrong with it.
fn caller(state: &State, call: &Call) -> Result<Issued, String> {
    let Some(token) = call.bearer() else {
        return Err("AKV10000: Request is missing a Bearer or PoP token.".to_owned());
    };
    let Some((issued, is_good)) = state.tokens().find(token) else {
        return Err("AKV10046: Unable to resolve the key used for signature validation.".to_owned());
    };
    if !is_good {
        return Err("[TokenExpired] Error validating token: 'S2S12086'.".to_owned());
    }
    if issued.audience != Audience::Vault {
        let claims = tokens::claims(token).unwrap_or_default();
        let found = claims["aud"].as_str().unwrap_or_default();
        return Err(format!(
            "AKV10022: Invalid audience. Expected {VAULT_RESOURCE}, found: {found}."
        ));
    }
    let home = &state.options().home_tenant_id;
    if !issued.tenant_id.eq_ignore_ascii_case(home) {
        return Err(format!(
            "AKV10032: Invalid issuer. Expected one of https://sts.windows.net/{home}/, found \
             https://sts.windows.net/{}/.",
            issued.tenant_id
        ));
    }
    Ok(issued)
}

/// Where a token comes from, and what it must be for.
fn challenge(state: &State) -> String {
    let options = state.options();
    let challenge = &options.vault.challenge;
    let authorization = challenge.authorization.clone().unwrap_or_else(|| {
        let authority = state.authority().unwrap_or(PUBLIC_AUTHORITY);
        format!("{authority}/{}", options.home_tenant_id)
    });
    format!("Bearer authorization=\"{authorization}\", resource=\"{}\"", challenge.resource)
}

fn refused_by_network(
    state: &State,
    caller: &Issued,
    refusal: Option<&VaultRefusal>,
) -> Option<Answer> {
    let (caller, vault) = (named(caller), located(state));
    match refusal? {
        VaultRefusal::Firewall => {
            let message = format!(
                "Client address is not authorized and caller is not a trusted service.\r\nClient \
                 address: {CLIENT_ADDRESS}\r\nCaller: {caller}\r\nVault: {vault}"
            );
            Some(forbidden("ForbiddenByFirewall", &message))
        }
        VaultRefusal::Connection => {
            let message = format!(
                "Public network access is disabled and request is not from a trusted service nor \
                 via an approved private link.\r\nCaller: {caller}\r\nVault: {vault}"
            );
            Some(forbidden("ForbiddenByConnection", &message))
        }
        VaultRefusal::Throttled { retry_after } => {
            let answer = error(429, THROTTLED.0, THROTTLED.1);
            Some(match retry_after {
                Some(value) => answer.with("retry-after", value.as_str()),
                None => answer,
            })
        }
        VaultRefusal::Rbac | VaultRefusal::AccessPolicy | VaultRefusal::Fault(_) => None,
    }
}

fn refused_by_role(
    state: &State,
    caller: &Issued,
    name: &str,
    refusal: Option<&VaultRefusal>,
) -> Option<Answer> {
    let has_policies = refusal == Some(&VaultRefusal::AccessPolicy);
    let is_caller = |reader: &Option<String>| match (reader, &caller.client_id) {
        (Some(reader), Some(caller)) => reader.eq_ignore_ascii_case(caller),
        (reader, caller) => reader.is_none() && caller.is_none(),
    };
    let options = state.options();
    let is_reader = options.vault.readers.iter().any(is_caller);
    if is_reader && !has_policies && refusal != Some(&VaultRefusal::Rbac) {
        return None;
    }
    let (caller, vault) = (named(caller), located(state));
    if has_policies {
        let message = format!(
            "The user, group or application '{caller}' does not have secrets get permission on \
             key vault '{vault}'. For help resolving this issue, please see {POLICY_DOC}"
        );
        return Some(forbidden("AccessDenied", &message));
    }
    let message = format!(
        "Caller is not authorized to perform action on resource.\r\nIf role assignments, deny \
         assignments or role definitions were changed recently, please observe propagation \
         time.\r\nCaller: {caller}\r\nAction: '{ACTION}'\r\nResource: \
         '/subscriptions/{}/resourcegroups/{}/providers/microsoft.keyvault/vaults/{VAULT_NAME}/\
         secrets/{name}'\r\nAssignment: (not found)\r\nDenyAssignmentId: null\r\nDecisionReason: \
         'DeniedWithNoValidRBAC' \r\nVault: {vault}\r\n",
        options.subscription_id, options.resource_group
    );
    Some(forbidden("ForbiddenByRbac", &message))
}

/// A caller, as messages name one.
fn named(caller: &Issued) -> String {
    format!(
        "appid={};oid={};iss=https://sts.windows.net/{}/",
        caller.client_id.as_deref().unwrap_or(SYSTEM_CLIENT_ID),
        caller.object_id,
        caller.tenant_id
    )
}

/// The vault, as messages name it.
fn located(state: &State) -> String {
    format!("{VAULT_NAME};location={}", state.options().region)
}

/// A secret as it is read.
fn bundle(id: &str, version: &SecretVersion) -> Value {
    let SecretVersion { id: _, value, content_type, enabled, exp, nbf, created, updated } = version;
    let mut attributes = json!({"enabled": enabled, "created": created, "updated": updated,
        "recoveryLevel": RECOVERY.0, "recoverableDays": RECOVERY.1});
    for (name, time) in [("exp", exp), ("nbf", nbf)] {
        if let Some(time) = time {
            attributes[name] = json!(time);
        }
    }
    let mut bundle = json!({"value": value, "id": id, "attributes": attributes});
    if let Some(content_type) = content_type {
        bundle["contentType"] = json!(content_type);
    }
    bundle
}

fn forbidden(inner: &str, message: &str) -> Answer {
    let error = json!({"error": {"code": "Forbidden", "message": message,
        "innererror": {"code": inner}}});
    Answer::json(403, error.to_string().into_bytes())
}

fn error(status: u16, code: &str, message: &str) -> Answer {
    let error = json!({"error": {"code": code, "message": message}});
    Answer::json(status, error.to_string().into_bytes())
}

/// The error of a scripted status.
pub fn scripted(status: u16) -> Answer {
    let (code, message) = if status == 429 { THROTTLED } else { error_of(status) };
    error(status, code, message)
}

/// Headers that the vault sends with every answer.
pub fn with_headers(state: &State, answer: Answer) -> Answer {
    answer
        .with("cache-control", "no-cache")
        .with("pragma", "no-cache")
        .with("expires", "-1")
        .with("strict-transport-security", "max-age=31536000;includeSubDomains")
        .with("x-content-type-options", "nosniff")
        .with("x-ms-keyvault-region", state.options().region.as_str())
        .with("x-ms-request-id", state.fresh_id())
}
