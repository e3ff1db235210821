//! What Blob Storage's refusals mean, in one table: status and code to kind, sentence and advice.

use std::time::Duration;

use azure_core::error::ErrorKind;
use azure_core::http::Url;
use azure_core::http::headers::HeaderName;

use crate::error::{Error, Kind};
use crate::net::egress;

/// Whose answer a failure is.
pub(super) struct Answered<'a> {
    /// URL of the container.
    pub url: &'a Url,
    /// Whether it is Azurite with its development key.
    pub is_development: bool,
}

/// The service's error code, if it sent one.
pub(super) fn code(err: &azure_core::Error) -> Option<&str> {
    match err.kind() {
        ErrorKind::HttpResponse { error_code, .. } => error_code.as_deref(),
        _ => None,
    }
}

/// That the container is missing.
pub const NO_CONTAINER: &str = "the container does not exist";

/// Whether nothing is at the path that was asked for, in a container that is there.
pub(super) fn is_absent(err: &azure_core::Error) -> bool {
    let is_404 = err.http_status().is_some_and(|status| u16::from(status) == 404);
    // Code or not: an answer to HEAD has no body. A container that is missing has its own code.
    is_404 && code(err) != Some("ContainerNotFound")
}

impl Answered<'_> {
    /// What `err` means.
    pub fn error(&self, operation: &'static str, err: &azure_core::Error) -> Error {
        let host = self.url.host_str().unwrap_or_default();
        match egress::from_azure(self.url, err) {
            Some(err) if err.operation() == egress::SENDING => return self.below(operation, err),
            // No token, for example: it says so itself.
            Some(err) => return err,
            None => {}
        }
        let Some(status) = err.http_status().map(u16::from) else {
            return Error::new(Kind::Unreadable, operation)
                .because("the store's answer cannot be read")
                .with("host", host);
        };
        let code = code(err).unwrap_or_default();
        let retry_after = egress::retry_after(err);
        let (kind, reason, advice) = self.meaning(status, code, retry_after);
        let mut answer = Error::new(kind, operation).because(reason).with("status", status);
        if is_word(code) {
            answer = answer.with("code", code);
        }
        if let Some(id) = header(err, "x-ms-request-id").filter(|id| is_word(id)) {
            answer = answer.with("x-ms-request-id", id);
        }
        answer = answer.with("host", host);
        if advice.is_empty() { answer } else { answer.advise(advice) }
    }

    /// What a failure below HTTP means.
    fn below(&self, operation: &'static str, err: Error) -> Error {
        let err = err.during(operation);
        let reason = err.reason().unwrap_or_default().to_owned();
        match (self.is_development, reason == egress::UNKNOWN_HOST, err.kind().is_retryable()) {
            (true, _, true) => err
                .because(format!("Azurite: {reason}"))
                .advise("start Azurite, or correct the port in EASM_STORE_URL"),
            (false, true, _) => err
                .because("no address is known of a storage account of that name")
                .advise("check the account in EASM_STORE_URL, and the network's name service"),
            _ => err.because(format!("the storage account: {reason}")),
        }
    }

    /// The table (Azure Storage REST reference: "Blob service error codes", "Common error codes").
    fn meaning(
        &self,
        status: u16,
        code: &str,
        retry_after: Option<Duration>,
    ) -> (Kind, &'static str, &'static str) {
        match (status, code) {
            (404 | 409, "ContainerNotFound" | "ContainerBeingDeleted" | "ContainerDisabled") => (
                Kind::Store,
                NO_CONTAINER,
                "create the container, or correct EASM_STORE_URL",
            ),
            (404, _) => (
                Kind::Store,
                "what was asked for does not exist in the storage account",
                "check the account and the container in EASM_STORE_URL",
            ),
            (412, "LeaseIdMissing" | "LeaseIdMismatchWithBlobOperation")
            | (409, "LeaseAlreadyPresent") => {
                (Kind::Store, "somebody holds a lease on it", "break the lease")
            }
            (409, "BlobAlreadyExists" | "PathAlreadyExists" | "ResourceAlreadyExists")
            // A range is asked for of what was seen to be that long.
            | (412 | 416, _) => (Kind::Conflict, "somebody else was first", CONFLICT),
            (400, "InvalidBlockList" | "InvalidBlobOrBlock") => {
                (Kind::Conflict, "the part's blocks are not there any more", CONFLICT)
            }
            (403, _) if self.is_development => (
                Kind::Denied,
                "Azurite refuses its published development key",
                "start Azurite without AZURITE_ACCOUNTS",
            ),
            (403, "AuthorizationPermissionMismatch" | "InsufficientAccountPermissions") => (
                Kind::Denied,
                "the app's own identity lacks a role that may do this",
                "assign it Storage Blob Data Contributor on the container; that takes some minutes",
            ),
            (403, "AuthorizationFailure") => (
                Kind::Denied,
                "the storage account's network rules do not let this machine in, or the app's own \
                 identity has no role there",
                "admit the network, and assign Storage Blob Data Contributor on the container",
            ),
            (403, "AccountIsDisabled") => {
                (Kind::Denied, "the storage account is disabled", "enable it, or use another")
            }
            (401, _) | (403, "AuthenticationFailed" | "InvalidAuthenticationInfo") => (
                Kind::Unauthorized,
                "the storage account refuses the token of the app's own identity",
                "check that account and identity belong to the same tenant",
            ),
            (403, _) => (
                Kind::Denied,
                "the storage account denies access",
                "check the account's rules and the roles of the app's own identity",
            ),
            (409, "BlobImmutableDueToPolicy") => (
                Kind::Store,
                "an immutability policy forbids the change",
                "use a container without one",
            ),
            (409, "SnapshotsPresent") => {
                (Kind::Store, "it has snapshots", "delete them, or let the old run lie")
            }
            (400, "Md5Mismatch") => {
                (Kind::Unavailable { retry_after }, "what arrived there is not what was sent", "")
            }
            (429, _) | (503, "ServerBusy") => (
                Kind::Throttled { retry_after },
                "the storage account asks to slow down",
                "lower EASM_SHARDS, or use an account with less to do",
            ),
            (408 | 500..=599, _) => {
                (Kind::Unavailable { retry_after }, "the storage account cannot serve us now", "")
            }
            _ => (Kind::Store, "the storage account refuses the request", "check EASM_STORE_URL"),
        }
    }
}

const CONFLICT: &str = "see that nobody else works in this run's folder, and export again";

/// Whether `text` is a code or an id and nothing else, so that it can be repeated.
fn is_word(text: &str) -> bool {
    const WORD_CHARS_MAX: usize = 64;
    (1..=WORD_CHARS_MAX).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
}

fn header(err: &azure_core::Error, name: &'static str) -> Option<String> {
    match err.kind() {
        ErrorKind::HttpResponse { raw_response: Some(answer), .. } => {
            answer.headers().get_optional_string(&HeaderName::from_static(name))
        }
        _ => None,
    }
}
