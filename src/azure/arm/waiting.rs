//! What goes on in Azure behind an answer: where its state can be read, and how long it is waited for.

use std::time::Duration;

use tracing::{debug, info};
use url::Url;

use super::call::Reply;
use super::refusal::code;
use super::wire::{OperationStatus, is_failure};
use super::{Arm, Path};
use crate::clock::Budget;
use crate::error::{Error, Kind, Result};
use crate::net::ServiceError;

/// Longest wait for a workspace to be there, or to be gone. Creating one takes minutes.
pub const SETTLE_MAX: Duration = Duration::from_secs(30 * 60);

/// Pause before the second look, unless ARM asks for another. It doubles with every look.
const PAUSE_FIRST: Duration = Duration::from_secs(1);

/// Longest pause that ARM did not ask for.
const PAUSE_MAX: Duration = Duration::from_secs(15);

/// Shortest pause, whatever ARM says: nothing changes faster.
const PAUSE_MIN: Duration = Duration::from_millis(200);

/// Where the state of what was begun can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Track {
    /// At `Azure-AsyncOperation`: says `status`.
    Status(Url),
    /// At `Location`: answers 202 until it has ended.
    Location(Url),
}

/// How far it is.
#[derive(Debug)]
pub(super) enum Look {
    /// Not ended; ARM asks for this pause.
    Going(Option<Duration>),
    /// Ended well. The workspace itself has the last word.
    Ended,
    /// Ended, and failed.
    Failed(Error),
    /// It cannot be told here: the workspace has to be looked at.
    Unknown,
}

impl Track {
    /// Where `reply` says that its state can be read, if that is at the origin of `base`: the token goes
    /// nowhere else.
    pub fn of(base: &Url, reply: &Reply) -> Option<Self> {
        let own = |link: &Option<String>| {
            let link = base.join(link.as_ref()?).ok()?;
            let is_own = link.origin() == base.origin();
            if !is_own {
                debug!(host = link.host_str(), "A link to another host is not followed");
            }
            is_own.then_some(link)
        };
        let status = own(&reply.operation).map(Self::Status);
        status.or_else(|| own(&reply.location).map(Self::Location))
    }
}

impl Arm {
    /// Looks how far what was begun is. `operation` is what it was.
    ///
    /// # Errors
    /// What the network or ARM failed with, unless it is the operation that failed.
    pub(super) async fn look(&self, operation: &'static str, track: &Track) -> Result<Look> {
        let (Track::Status(url) | Track::Location(url)) = track;
        let reply = match self.get(operation, url).await {
            Ok(reply) => reply,
            Err(err) if err.kind() == Kind::NotFound => return Ok(Look::Unknown),
            Err(err) => return Err(err),
        };
        if let Track::Location(_) = track {
            return Ok(match reply.status {
                202 => Look::Going(reply.retry_after),
                _ => Look::Ended,
            });
        }
        let (asked, body) = (reply.retry_after, reply.body.to_string());
        let status = reply.parse::<OperationStatus>().unwrap_or_default().status;
        Ok(match status.as_deref() {
            None | Some("") => Look::Unknown,
            Some(state) if state.eq_ignore_ascii_case("Succeeded") => Look::Ended,
            Some(state) if is_failure(state) => Look::Failed(failure(operation, state, &body)),
            Some(_) => Look::Going(asked),
        })
    }
}

/// The failure of what was begun, in the service's words.
fn failure(operation: &'static str, state: &str, body: &str) -> Error {
    let err = Error::new(Kind::BadRequest, operation);
    let Some(ServiceError { code, message }) = ServiceError::read(body.as_bytes()) else {
        return err.because(format!("Azure gave it up, without a reason (state {state})"));
    };
    let err = err.because(format!("Azure gave it up: {message}"));
    match code {
        Some(code) => err.with("code", code),
        None => err,
    }
}

/// A wait with an end.
pub(super) struct Wait<'a> {
    path: Path<'a>,
    operation: &'static str,
    budget: Budget,
    next: Duration,
}

impl<'a> Wait<'a> {
    /// For `operation` on the workspace at `path`, from now on.
    pub fn new(operation: &'static str, path: Path<'a>) -> Self {
        Self { path, operation, budget: Budget::of(SETTLE_MAX), next: PAUSE_FIRST }
    }

    /// Pauses before the next look, as long as ARM `asked` for, or as is usual.
    ///
    /// # Errors
    /// [`Kind::Unavailable`] if it would go on for too long.
    pub async fn pause(&mut self, asked: Option<Duration>) -> Result<()> {
        let pause = asked.unwrap_or(self.next).max(PAUSE_MIN);
        self.next = (self.next * 2).min(PAUSE_MAX);
        if !self.budget.allows(pause) {
            return Err(Error::new(Kind::Unavailable { retry_after: None }, self.operation)
                .because(format!(
                    "it has not ended within {} minutes",
                    SETTLE_MAX.as_secs().div_euclid(60)
                ))
                .with("workspace", self.path.workspace)
                .advise(
                    "it goes on in Azure: start the same command again to go on waiting, or look \
                     at the workspace in the portal",
                ));
        }
        info!(
            workspace = self.path.workspace,
            "Waiting for Azure to {}; looking again in {:.1} s",
            self.operation,
            pause.as_secs_f64()
        );
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

/// Whether `err` says that the resource group is not there.
pub(super) fn is_group_missing(err: &Error) -> bool {
    code(err) == Some("ResourceGroupNotFound")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{PATH, Played, refusal, reply};
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).expect("a URL")
    }

    #[test]
    fn a_state_is_read_at_our_own_origin_only() {
        let base = url("https://arm.example/base");
        let check = |operation: Option<&str>, location: Option<&str>, want: Option<Track>| {
            let (operation, location) = (operation.map(str::to_owned), location.map(str::to_owned));
            let reply = Reply { operation, location, ..Reply::default() };
            assert_eq!(Track::of(&base, &reply), want);
        };
        let (own, other) = ("https://arm.example/op/1?x=1", "https://arm.example:444/op/1");
        check(None, None, None);
        check(Some(own), Some("https://arm.example/b"), Some(Track::Status(url(own))));
        check(None, Some(own), Some(Track::Location(url(own))));
        check(Some(other), None, None);
        check(Some("http://arm.example/op/1"), None, None);
        check(Some("https://arm.example.evil.example/"), Some(other), None);
        check(Some(other), Some(own), Some(Track::Location(url(own))));
        check(Some("/op/1?x=1"), None, Some(Track::Status(url(own))));
        check(Some("https://"), None, None);
    }

    #[tokio::test]
    async fn every_answer_says_how_far_it_is() {
        let check = async |is_status: bool, status: u16, body: Value, want: &str| {
            let played = Played::new([Ok(reply(status, body.clone()))]);
            let at = url("https://arm.example/op/1");
            let track = if is_status { Track::Status(at) } else { Track::Location(at) };
            let look = played.arm().look("create the workspace", &track).await.expect("a look");
            let found = match look {
                Look::Failed(err) => err.to_string(),
                look => format!("{look:?}"),
            };
            assert!(found.contains(want), "{status} {body}: {found}");
        };
        check(true, 200, json!({"status": "Accepted"}), "Going").await;
        check(true, 202, json!({"status": "Creating"}), "Going").await;
        check(true, 200, json!({"status": "Succeeded"}), "Ended").await;
        check(true, 200, json!({"status": "Canceled"}), "without a reason (state Canceled)").await;
        let error = json!({"code": "Quota", "message": "too many workspaces"});
        let failed = json!({"status": "failed", "error": error});
        check(true, 200, failed, "gave it up: too many workspaces (code=Quota)").await;
        check(true, 200, json!({}), "Unknown").await;
        check(true, 200, Value::Null, "Unknown").await;
        check(true, 200, json!({"status": 7}), "Unknown").await;
        check(false, 202, Value::Null, "Going").await;
        check(false, 200, json!({}), "Ended").await;
        check(false, 204, Value::Null, "Ended").await;
        // ARM forgets what has ended long ago.
        let played = Played::new([Err(refusal(Kind::NotFound, 404, "NotFound"))]);
        let track = Track::Status(url("https://arm.example/op/1"));
        let look = played.arm().look("create the workspace", &track).await.expect("a look");
        assert!(matches!(look, Look::Unknown));
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_is_as_long_as_it_is_asked_for_and_ends() {
        let started = tokio::time::Instant::now();
        let mut wait = Wait::new("create the workspace", PATH);
        wait.pause(Some(Duration::from_secs(40))).await.expect("time enough");
        assert_eq!(started.elapsed().as_secs(), 40);
        wait.pause(Some(Duration::ZERO)).await.expect("time enough");
        assert!(started.elapsed() >= Duration::from_secs(40) + PAUSE_MIN);
        let mut n_pauses = 2;
        let err = loop {
            match wait.pause(None).await {
                Ok(()) => n_pauses += 1,
                Err(err) => break err,
            }
        };
        assert!(started.elapsed() <= SETTLE_MAX && n_pauses < 150, "{n_pauses}");
        assert!(err.to_string().contains("start the same command again"), "{err}");
    }
}
