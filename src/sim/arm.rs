//! The part of ARM that answers where a workspace's data plane is.
//!
//! `GET .../providers/Microsoft.Easm/workspaces[/{ws}]`, for the subscription or
//! a resource group (API reference, section 12). There is one workspace, and it
//! exists already.

use serde_json::{Value, json};

use super::{
    State,
    http::{Answer, Call},
    tokens::{Audience, Stranger, denied},
};

/// Whether this call is for ARM: it names a resource provider.
pub fn is_addressed(call: &Call) -> bool {
    call.segment_is(0, "subscriptions")
        && (call.segment_is(2, "providers") || call.segment_is(4, "providers"))
}

/// Answers a call to ARM.
pub fn answer(state: &State, call: &Call) -> Answer {
    let options = state.options();
    if let Err(stranger) = state.tokens().admit(call.bearer(), Audience::Arm) {
        return refusal(&stranger, &options.tenant_id, call);
    }
    if call.param("api-version").is_none_or(str::is_empty) {
        let message = "The api-version query parameter is required for all requests.";
        return Answer::arm_error(400, "MissingApiVersionParameter", message);
    }
    if !call.segment_is(1, &options.subscription_id) {
        return not_found("SubscriptionNotFound", &call.segments[1]);
    }
    let of_group = call.segment_is(2, "resourceGroups");
    if of_group && !call.segment_is(3, &options.resource_group) {
        return not_found("ResourceGroupNotFound", &call.segments[3]);
    }
    let from = if of_group { 4 } else { 2 };
    if !call.segment_is(from + 1, "Microsoft.Easm") || !call.segment_is(from + 2, "workspaces") {
        return not_found("InvalidResourceType", &call.path);
    }
    if call.method != "GET" {
        return Answer::arm_error(405, "MethodNotAllowed", "The simulator only reads workspaces.");
    }
    let body = match call.segments.get(from + 3) {
        None => json!({"value": [workspace(state)]}),
        Some(_) if !of_group || call.segments.len() > from + 4 => {
            return not_found("InvalidResourceType", &call.path);
        }
        Some(name) if !name.eq_ignore_ascii_case(&options.workspace) => {
            return not_found("ResourceNotFound", name);
        }
        Some(_) => workspace(state),
    };
    Answer::json(200, body.to_string().into_bytes())
}

/// What ARM says to who is not admitted.
fn refusal(stranger: &Stranger, tenant: &str, call: &Call) -> Answer {
    let (code, message) = match stranger {
        Stranger::NoToken => (
            "InvalidAuthenticationToken",
            "The access token is missing, expired or for another audience.".to_owned(),
        ),
        Stranger::OtherTenant(other) => (
            "InvalidAuthenticationTokenTenant",
            format!(
                "The access token is from the wrong issuer 'https://sts.windows.net/{other}/'. It \
                 must match the tenant 'https://sts.windows.net/{tenant}/' associated with this \
                 subscription. Please use the authority (URL) 'https://login.windows.net/{tenant}' \
                 to get the token. Note, if the subscription is transferred to another tenant \
                 there is no impact to the services, but information about new tenant could take \
                 time to propagate (up to an hour). If you just transferred your subscription and \
                 see this error message, please try back later."
            ),
        ),
        Stranger::NoRole(issued) => {
            let list = "/providers/Microsoft.Easm/workspaces";
            let scope = call.path.strip_suffix(list).unwrap_or(&call.path);
            let message = denied(issued, "Microsoft.Easm/workspaces/read", scope);
            return Answer::arm_error(403, "AuthorizationFailed", &message);
        }
    };
    Answer::arm_error(401, code, &message).with(
        "www-authenticate",
        "Bearer authorization_uri=\"https://login.microsoftonline.com/\", error=\"invalid_token\"",
    )
}

/// The workspace, with an id spelled as ARM sometimes does and a bare host
/// (API reference, sections 2 and 12).
fn workspace(state: &State) -> Value {
    let options = state.options();
    let id = format!(
        "/subscriptions/{}/resourcegroups/{}/providers/Microsoft.Easm/workspaces/{}",
        options.subscription_id, options.resource_group, options.workspace
    );
    json!({
        "id": id,
        "name": options.workspace,
        "type": "microsoft.easm/workspaces",
        "location": options.region,
        "tags": {},
        "systemData": null,
        "properties": {
            "provisioningState": "Succeeded",
            "dataPlaneEndpoint": format!("{}.easm.defender.microsoft.com", options.region),
        },
    })
}

fn not_found(code: &str, what: &str) -> Answer {
    Answer::arm_error(404, code, &format!("'{what}' could not be found."))
}
