//! ARM: which workspaces there are, and where their data planes are (API reference, section 12).
//!
//! `GET .../providers/Microsoft.Easm/workspaces[/{ws}]`, for the subscription or a resource group, in
//! pages; `PUT` and `DELETE` of one, which go on after the answer; and what tells how far they are:
//! `GET .../workspaces/{ws}/operationResults/{id}`. [`Workspaces`](super::workspaces) knows what is
//! there by now.

use serde_json::{Value, json};

use super::{
    State,
    http::{Answer, Call},
    text,
    tokens::{Audience, Stranger, denied},
    workspaces::{Phase, Tracking, Workspace},
};

/// Name of the parameter that says which page of a list is meant.
const SKIP: &str = "$skiptoken";

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
    let group = of_group.then(|| call.segments[3].as_str());
    if let Some(group) = group.filter(|group| !state.workspaces().has_group(group)) {
        return not_found("ResourceGroupNotFound", group);
    }
    let from = if of_group { 4 } else { 2 };
    if !call.segment_is(from + 1, "Microsoft.Easm") || !call.segment_is(from + 2, "workspaces") {
        return not_found("InvalidResourceType", &call.path);
    }
    match (group, call.segments.get(from + 3..).unwrap_or_default()) {
        (_, []) => list(state, call, group),
        (Some(group), [name]) => one(state, call, group, name),
        (Some(group), [name, results, _id])
            if results.eq_ignore_ascii_case("operationResults") && call.method == "GET" =>
        {
            operation(state, call, group, name)
        }
        _ => not_found("InvalidResourceType", &call.path),
    }
}

/// A page of workspaces.
fn list(state: &State, call: &Call, group: Option<&str>) -> Answer {
    if call.method != "GET" {
        return not_allowed();
    }
    let (options, arm) = (state.options(), state.workspaces().arm());
    let all = state.workspaces().list(group);
    let start = match call.param(SKIP).map(str::parse::<usize>) {
        None => 0,
        Some(Ok(start)) if start <= all.len() => start,
        Some(_) => return Answer::arm_error(400, "InvalidSkipToken", "The skip token is invalid."),
    };
    let end = all.len().min(start + arm.page_size.max(1));
    let value: Vec<Value> =
        all[start..end].iter().map(|one| one.json(&options.subscription_id)).collect();
    let mut body = json!({ "value": value });
    if end < all.len() || arm.pages_go_round {
        let version = call.param("api-version").unwrap_or_default();
        let at = if end < all.len() { end } else { 0 };
        let query = format!("api-version={}&{SKIP}={at}", text::query_encoded(version));
        body["nextLink"] = format!("{}{}?{query}", origin(state, call), call.path).into();
    }
    Answer::json(200, body.to_string().into_bytes())
}

/// One workspace: read, created or deleted.
fn one(state: &State, call: &Call, group: &str, name: &str) -> Answer {
    let subscription = &state.options().subscription_id;
    let found = match call.method.as_str() {
        "GET" => state.workspaces().look(group, name),
        "PUT" => return create(state, call, group, name),
        "DELETE" => return delete(state, call, group, name),
        _ => return not_allowed(),
    };
    match found.filter(|one| one.phase != Phase::Gone) {
        Some(one) => {
            let answer = Answer::json(200, one.json(subscription).to_string().into_bytes());
            let is_settled = matches!(one.phase, Phase::There(0) | Phase::Failed);
            if is_settled { answer } else { with_pause(state, answer) }
        }
        None => {
            let what = format!("Microsoft.Easm/workspaces/{name}' under resource group '{group}");
            not_found("ResourceNotFound", &what)
        }
    }
}

/// The workspace, if there is one, without time going by.
fn known(state: &State, group: &str, name: &str) -> Option<Workspace> {
    let all = state.workspaces().list(Some(group));
    all.into_iter().find(|one| one.name.eq_ignore_ascii_case(name))
}

fn create(state: &State, call: &Call, group: &str, name: &str) -> Answer {
    let (workspaces, subscription) = (state.workspaces(), &state.options().subscription_id);
    if !workspaces.arm().may_write {
        return may_not(state, call, "write");
    }
    if !workspaces.arm().is_registered {
        let message = "The subscription is not registered to use namespace 'Microsoft.Easm'. See \
                       https://aka.ms/rps-not-found for how to register subscriptions.";
        return Answer::arm_error(409, "MissingSubscriptionRegistration", message);
    }
    let body: Value = serde_json::from_str(&call.form).unwrap_or_default();
    let Some(region) = body["location"].as_str().filter(|_| body["properties"].is_object()) else {
        let message = "The request needs a location and properties.";
        return Answer::arm_error(400, "InvalidRequestContent", message);
    };
    if let Some(one) = known(state, group, name) {
        return match one.phase {
            Phase::There(_) if one.region == region => {
                Answer::json(200, one.json(subscription).to_string().into_bytes())
            }
            Phase::There(_) => Answer::arm_error(
                409,
                "InvalidResourceLocation",
                &format!("The resource '{name}' already exists in location '{}'.", one.region),
            ),
            _ => in_work(&one),
        };
    }
    if !workspaces.create(group, name, region) {
        return Answer::arm_error(429, "TooManyWorkspaces", "There is no room for more.");
    }
    let one = known(state, group, name);
    let body = one.map_or(Value::Null, |one| one.json(subscription));
    tracked(state, call, Answer::json(201, body.to_string().into_bytes()))
}

fn delete(state: &State, call: &Call, group: &str, name: &str) -> Answer {
    if !state.workspaces().arm().may_write {
        return may_not(state, call, "delete");
    }
    match known(state, group, name) {
        None => Answer::json(204, Vec::new()),
        Some(one) if matches!(one.phase, Phase::Creating(_) | Phase::Deleting(_)) => in_work(&one),
        Some(_) => {
            state.workspaces().delete(group, name);
            tracked(state, call, Answer::json(202, Vec::new()))
        }
    }
}

/// How far a creation or a deletion is.
fn operation(state: &State, call: &Call, group: &str, name: &str) -> Answer {
    let Some(one) = state.workspaces().look(group, name) else {
        return not_found("ResourceNotFound", name);
    };
    let has_ended = !matches!(one.phase, Phase::Creating(_) | Phase::Deleting(_));
    let is_location = state.workspaces().arm().tracking == Tracking::Location;
    if is_location {
        return match has_ended {
            false => with_pause(state, Answer::json(202, Vec::new())),
            true => Answer::json(204, Vec::new()),
        };
    }
    let id = call.segments.last().map_or("", String::as_str);
    let mut body = json!({"id": call.path, "name": id});
    body["status"] = match one.phase {
        Phase::There(_) | Phase::Gone => "Succeeded",
        Phase::Failed => "Failed",
        Phase::Creating(_) | Phase::Deleting(_) => one.state(),
    }
    .into();
    if one.phase == Phase::Failed {
        let message = "The workspace could not be provisioned: no capacity in this region.";
        body["error"] = json!({"code": "ProvisioningFailed", "message": message});
    }
    let answer = Answer::json(200, body.to_string().into_bytes());
    if has_ended { answer } else { with_pause(state, answer) }
}

/// `answer`, with where it is told how far it is.
fn tracked(state: &State, call: &Call, answer: Answer) -> Answer {
    let version = text::query_encoded(call.param("api-version").unwrap_or_default());
    let link = format!(
        "{}{}/operationResults/{}?api-version={version}",
        origin(state, call),
        call.path,
        state.fresh_id()
    );
    let answer = with_pause(state, answer);
    match state.workspaces().arm().tracking {
        Tracking::Operation => answer.with("azure-asyncoperation", link),
        Tracking::Location => answer.with("location", link),
        Tracking::Nothing => answer,
    }
}

fn with_pause(state: &State, answer: Answer) -> Answer {
    match &state.workspaces().arm().retry_after {
        Some(pause) => answer.with("retry-after", pause.as_str()),
        None => answer,
    }
}

/// The host that links name.
fn origin(state: &State, call: &Call) -> String {
    let own = || format!("http://{}", call.host);
    state.workspaces().arm().links.clone().unwrap_or_else(own)
}

fn in_work(one: &Workspace) -> Answer {
    let message = format!("Another operation is in progress on '{}' ({}).", one.name, one.state());
    Answer::arm_error(409, "Conflict", &message)
}

fn may_not(state: &State, call: &Call, action: &str) -> Answer {
    let issued = call.bearer().and_then(|token| state.tokens().find(token));
    let action = format!("Microsoft.Easm/workspaces/{action}");
    let message = issued.map(|(issued, _is_good)| denied(&issued, &action, &call.path));
    Answer::arm_error(403, "AuthorizationFailed", &message.unwrap_or_default())
}

fn not_allowed() -> Answer {
    Answer::arm_error(405, "MethodNotAllowed", "The simulator knows no such verb here.")
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

fn not_found(code: &str, what: &str) -> Answer {
    Answer::arm_error(404, code, &format!("'{what}' could not be found."))
}
