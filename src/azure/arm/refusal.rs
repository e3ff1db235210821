//! What ARM's refusals mean, and what to do about each.

use crate::azure::easm::Path;
use crate::error::{Error, Kind};

/// What a caller must be allowed to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// See the workspaces of the subscription.
    List,
    /// See a workspace.
    Read,
    /// Create or delete a workspace.
    Write,
}

/// The service's name for the failure `err`, if it gave one.
pub fn code(err: &Error) -> Option<&str> {
    err.context("code")
}

/// Whether `err` says that the workspace is not there, in ARM's own words: a 404 of anybody else, such as
/// a proxy, says nothing about it. Nor does that of what stands above it.
pub fn is_missing(err: &Error) -> bool {
    let above = ["ResourceGroupNotFound", "SubscriptionNotFound", "InvalidResourceType"];
    err.kind() == Kind::NotFound && code(err).is_some_and(|code| !above.contains(&code))
}

/// Whether `err` leaves open if the request had its effect: the answer was lost, or an earlier try of
/// the same request is in the way.
pub fn is_open(err: &Error) -> bool {
    err.kind().is_retryable() || err.context("status") == Some("409")
}

/// `err` with what to do about it, for who needs `need` at `path`.
pub fn explain(err: Error, need: Need, path: Path<'_>) -> Error {
    let Path { subscription_id, resource_group, workspace: _ } = path;
    let is_conflict = err.context("status") == Some("409");
    let advice = match code(&err).unwrap_or_default() {
        "ResourceGroupNotFound" => format!(
            "create it (az group create --name {resource_group} --location REGION), or check \
             EASM_RESOURCE_GROUP and EASM_SUBSCRIPTION_ID"
        ),
        "SubscriptionNotFound" => {
            "check EASM_SUBSCRIPTION_ID, and that it belongs to EASM_TENANT_ID".to_owned()
        }
        "MissingSubscriptionRegistration" | "SubscriptionNotRegistered" => format!(
            "run az provider register --namespace Microsoft.Easm --subscription \
             {subscription_id}, wait until az provider show says Registered, and start the command \
             again"
        ),
        "RequestDisallowedByPolicy" => {
            "a policy of the subscription forbids it: choose what it allows, for example another \
             --region, or ask who looks after it"
                .to_owned()
        }
        "InvalidResourceLocation"
        | "LocationNotAvailableForResourceType"
        | "LocationNotAvailableForResourceGroup"
        | "NoRegisteredProviderFound" => "choose another --region".to_owned(),
        "ScopeLocked" => "remove the lock that stands on it or on its resource group".to_owned(),
        _ if err.kind() == Kind::Denied => match need {
            Need::List => format!(
                "assign the identity the Reader role on subscription {subscription_id} or on the \
                 resource groups of its workspaces"
            ),
            Need::Read => format!(
                "assign the identity the Reader role on resource group {resource_group:?}, or \
                 Contributor to create and delete workspaces"
            ),
            Need::Write => format!(
                "assign the identity the Contributor role on resource group {resource_group:?}; a \
                 new assignment takes some minutes to work"
            ),
        },
        _ if err.kind() == Kind::NotFound => {
            "check EASM_ARM_URL and EASM_CP_API_VERSION".to_owned()
        }
        _ if is_conflict => {
            "something else is under way with it: wait until that has ended, and start the command \
             again"
                .to_owned()
        }
        // What our client advises is meant for the data plane.
        _ if err.kind() == Kind::BadRequest && err.context("status").is_some() => {
            "mend what the service says, and start the command again".to_owned()
        }
        _ => return err,
    };
    let err = if is_conflict { err.as_kind(Kind::Conflict) } else { err };
    err.advise(advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: Path<'_> = Path { subscription_id: "s-1", resource_group: "rg", workspace: "w" };

    fn failure(kind: Kind, status: u16, code: &str) -> Error {
        let err = Error::new(kind, "create the workspace").with("status", status);
        if code.is_empty() { err } else { err.with("code", code) }
    }

    #[test]
    fn each_refusal_says_what_to_do() {
        let check = |kind, status, code: &str, need, want: &str| {
            let err = explain(failure(kind, status, code), need, PATH).to_string();
            assert!(err.contains(want), "{err}");
        };
        let (denied, missing, other) = (Kind::Denied, Kind::NotFound, Kind::BadRequest);
        check(denied, 403, "AuthorizationFailed", Need::List, "Reader role on subscription s-1");
        check(denied, 403, "AuthorizationFailed", Need::Read, "Reader role on resource group");
        check(denied, 403, "AuthorizationFailed", Need::Write, "Contributor role on resource");
        check(denied, 403, "RequestDisallowedByPolicy", Need::Write, "policy");
        check(missing, 404, "ResourceGroupNotFound", Need::Read, "az group create --name rg");
        check(missing, 404, "SubscriptionNotFound", Need::Read, "EASM_SUBSCRIPTION_ID");
        check(missing, 404, "", Need::Read, "EASM_ARM_URL");
        let code = "MissingSubscriptionRegistration";
        check(other, 409, code, Need::Write, "az provider register --namespace Microsoft.Easm");
        check(other, 409, "InvalidResourceLocation", Need::Write, "another --region");
        check(other, 409, "ScopeLocked", Need::Write, "remove the lock");
        check(other, 409, "Conflict", Need::Write, "wait until that has ended");
        check(other, 400, "InvalidRequestContent", Need::Write, "mend what the service says");
    }

    #[test]
    fn only_arms_own_word_makes_a_workspace_missing() {
        let check = |kind, code: &str, want: bool| {
            assert_eq!(is_missing(&failure(kind, 404, code)), want, "{kind:?} {code}");
        };
        check(Kind::NotFound, "ResourceNotFound", true);
        check(Kind::NotFound, "NotFound", true);
        check(Kind::NotFound, "ResourceGroupNotFound", false);
        check(Kind::NotFound, "SubscriptionNotFound", false);
        check(Kind::NotFound, "", false);
        check(Kind::Denied, "ResourceNotFound", false);
    }
}
