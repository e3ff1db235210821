//! A managed identity endpoint that speaks for several identities.
//!
//! `GET /msi/token?api-version=2019-08-01&resource=R[&client_id=C]` with
//! `X-IDENTITY-HEADER`, the protocol of App Service and Functions.

use serde_json::json;

use super::{
    ManagedIdentity, State,
    http::{Answer, Call},
    tokens::{Audience, Principal, SYSTEM_CLIENT_ID},
};

/// Whether this call is for the identity endpoint.
pub fn is_addressed(call: &Call) -> bool {
    matches!(&call.segments[..], [a, b] if a == "msi" && b == "token")
}

/// Answers a request for a token.
pub fn answer(state: &State, call: &Call) -> Answer {
    let options = state.options();
    if call.method != "GET" {
        return refusal(405, "method_not_allowed", "only GET is answered here");
    }
    if call.identity_header.as_deref() != Some(&options.identity_header) {
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
    let identity = match asked_for(&options.identities, call) {
        Ok(identity) => identity,
        Err(message) => {
            let body = json!({"statusCode": 400, "message": message});
            return Answer::json(400, body.to_string().into_bytes());
        }
    };
    let principal = Principal {
        tenant_id: &options.home_tenant_id,
        client_id: identity.client_id.as_deref(),
        object_id: &identity.object_id,
        has_role: identity.has_role,
    };
    let tokens = state.tokens();
    let body = json!({
        "access_token": tokens.issue(audience, resource, principal),
        "expires_on": tokens.expires_on().to_string(),
        "resource": resource,
        "token_type": "Bearer",
        "client_id": identity.client_id.as_deref().unwrap_or(SYSTEM_CLIENT_ID),
    });
    Answer::json(200, body.to_string().into_bytes())
}

/// The identity that a call is about, or what App Service says if there is none.
fn asked_for<'a>(
    identities: &'a [ManagedIdentity],
    call: &Call,
) -> Result<&'a ManagedIdentity, &'static str> {
    let same = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
    let (client_id, object_id) = (call.param("client_id"), call.param("object_id"));
    let object_id = object_id.or_else(|| call.param("principal_id"));
    let is_meant = |identity: &&ManagedIdentity| match (client_id, object_id) {
        (Some(want), _) => identity.client_id.as_ref().is_some_and(|id| same(id, want)),
        (None, Some(want)) => same(&identity.object_id, want),
        (None, None) => identity.client_id.is_none(),
    };
    identities.iter().find(is_meant).ok_or(match client_id.or(object_id) {
        Some(_) => {
            "No User Assigned or Delegated Managed Identity found for specified \
             ClientId/ResourceId/PrincipalId."
        }
        None => "Unable to load the proper Managed Identity.",
    })
}

fn refusal(status: u16, code: &str, message: &str) -> Answer {
    let body = json!({"error": code, "error_description": message,
        "statusCode": status, "message": message});
    Answer::json(status, body.to_string().into_bytes())
}
