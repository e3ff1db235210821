//! A workspace that is to be there.
//!
//! `find -> (missing: put) -> look at the operation, then at the workspace -> Succeeded -> data plane named`

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;
use tracing::{info, warn};

use super::refusal::{Need, explain, is_open};
use super::waiting::{Look, Track, Wait};
use super::wire::{Stage, Workspace};
use super::{Arm, Path};
use crate::error::{Error, Kind, Result};
use crate::net::{Request, Verb};

const OPERATION: &str = "create the workspace";

/// How often a workspace may be missing behind its creation: ARM's copies take a moment to agree.
const MISSING_MAX: u32 = 10;

/// Longest wait for a workspace that is there to name its data plane. After that the host is made from
/// its region.
pub const ENDPOINT_MAX: Duration = Duration::from_secs(2 * 60);

/// A workspace that is there.
#[derive(Debug)]
pub struct Ensured {
    /// It, in the state `Succeeded`.
    pub workspace: Workspace,
    /// What was done for it.
    pub how: How,
}

/// What was done for a workspace to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Nothing.
    WasThere,
    /// It was being created already, and was waited for.
    Waited,
    /// It was created.
    Created,
}

impl Arm {
    /// Sees to it that there is a workspace at `path`. If it is missing, it is created in the region
    /// that `region` gives, which is not asked otherwise.
    ///
    /// # Errors
    /// What `region` fails with; that the creation failed, or takes too long; what ARM refuses.
    pub async fn ensure(
        &self,
        path: Path<'_>,
        region: impl FnOnce() -> Result<String>,
    ) -> Result<Ensured> {
        let mut wait = Wait::new(OPERATION, path);
        let mut found = self.find(path).await?;
        let (how, mut track, mut asked) = match &found {
            None => {
                let (track, asked) = self.create(path, &region()?).await?;
                (How::Created, track, asked)
            }
            Some(found) if found.stage() == Stage::Ready => (How::WasThere, None, None),
            Some(_) => (How::Waited, None, None),
        };
        let (mut n_missing, mut ready_since) = (0, None);
        if how == How::Created {
            wait.pause(asked.take()).await?;
        }
        loop {
            if let Some(begun) = &track {
                match self.look(OPERATION, begun).await.map_err(|err| goes_on(err, path))? {
                    Look::Going(pause) => asked = pause,
                    Look::Failed(err) => return Err(mend(err, path)),
                    Look::Ended | Look::Unknown => {
                        track = None;
                        continue;
                    }
                }
            } else {
                let now = match found.take() {
                    Some(found) => Some(found),
                    None => {
                        let (now, pause) =
                            self.find_and_pause(path).await.map_err(|err| goes_on(err, path))?;
                        asked = pause;
                        now
                    }
                };
                match now {
                    Some(workspace) => match workspace.stage() {
                        Stage::Ready => {
                            let since = *ready_since.get_or_insert_with(Instant::now);
                            let is_named = workspace.data_plane_endpoint.is_some();
                            if is_named || since.elapsed() >= ENDPOINT_MAX {
                                return Ok(Ensured { workspace, how });
                            }
                        }
                        Stage::Going => {}
                        Stage::Failed => return Err(failed(&workspace, path)),
                        Stage::Deleting => return Err(deleting(path)),
                    },
                    None if n_missing < MISSING_MAX => n_missing += 1,
                    None => return Err(vanished(path)),
                }
            }
            wait.pause(asked.take()).await?;
        }
    }

    /// Asks for the workspace in `region`. What comes back is where its state can be read, and the pause
    /// that ARM asks for.
    async fn create(
        &self,
        path: Path<'_>,
        region: &str,
    ) -> Result<(Option<Track>, Option<Duration>)> {
        info!(workspace = path.workspace, region, "Asking Azure to create the workspace");
        let url = self.workspace_url(path);
        let body = json!({"location": region, "properties": {}}).to_string();
        let request = Request { verb: Verb::Put, url: &url, body: Some(&body) };
        match self.calls.call(OPERATION, request).await {
            Ok(reply) => Ok((Track::of(&self.base, &reply), reply.retry_after)),
            Err(err) => {
                // Whether a lost request had its effect, only the workspace can tell.
                if is_open(&err) && matches!(self.find(path).await, Ok(Some(_))) {
                    warn!("{err}; the workspace is there all the same");
                    return Ok((None, None));
                }
                Err(explain(err, Need::Write, path))
            }
        }
    }
}

/// `err` of a look: what was begun goes on.
fn goes_on(err: Error, path: Path<'_>) -> Error {
    match err.kind().is_retryable() {
        true => err.advise(
            "what was asked for goes on in Azure: start the same command again to go on waiting",
        ),
        false => explain(err, Need::Read, path),
    }
}

/// `err` of a creation that was given up, with what to do about it.
fn mend(err: Error, path: Path<'_>) -> Error {
    explain(err, Need::Write, path).or_advise(format!(
        "mend what it says, delete what is left (easm-export workspace delete {} --yes), and start \
         the command again",
        path.workspace
    ))
}

fn failed(workspace: &Workspace, path: Path<'_>) -> Error {
    let state = workspace.provisioning_state.as_deref().unwrap_or_default();
    let err = Error::new(Kind::BadRequest, OPERATION)
        .because(format!("the workspace is there, but its creation has ended as {state}"))
        .with("workspace", path.workspace);
    mend(err, path)
}

fn deleting(path: Path<'_>) -> Error {
    Error::new(Kind::Conflict, OPERATION)
        .because("the workspace is being deleted")
        .with("workspace", path.workspace)
        .advise("wait until workspace list does not show it any more, and start the command again")
}

fn vanished(path: Path<'_>) -> Error {
    Error::new(Kind::NotFound, OPERATION)
        .because("ARM took the request, but the workspace does not appear")
        .with("workspace", path.workspace)
        .advise("look at the activity log of the resource group, and start the command again")
}

impl Workspace {
    /// The host of its data plane: the one it names, else the one of its region.
    /// `None` if neither is known.
    pub fn data_plane_host(&self) -> Option<String> {
        let of_region = || Some(format!("{}.easm.defender.microsoft.com", self.region.as_deref()?));
        let named = self.data_plane_endpoint.as_deref().map(|host| {
            host.strip_prefix("https://").unwrap_or(host).trim_end_matches('/').to_owned()
        });
        named.or_else(of_region)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::call::Reply;
    use super::super::testing::{PATH, Played, missing, refusal, reply, workspace};
    use super::*;

    type Answers = Vec<Result<Reply>>;

    async fn ensure(played: &Played) -> Result<Ensured> {
        played.arm().ensure(PATH, || Ok("eastus".to_owned())).await
    }

    /// A creation that was taken, with the state at this link.
    fn taken(link: &str) -> Result<Reply> {
        let Reply { body, .. } = workspace("Accepted").expect("an answer");
        Ok(Reply { status: 201, operation: Some(link.to_owned()), body, ..Reply::default() })
    }

    const OWN: &str = "https://arm.example/base/op/1?api-version=v";

    fn status(state: &str) -> Result<Reply> {
        Ok(reply(200, json!({"status": state})))
    }

    fn unnamed() -> Result<Reply> {
        Ok(reply(
            200,
            json!({"location": "eastus", "properties": {"provisioningState": "Succeeded"}}),
        ))
    }

    fn no_answer() -> Result<Reply> {
        Err(Error::new(Kind::Unavailable { retry_after: None }, "test"))
    }

    #[tokio::test(start_paused = true)]
    async fn a_workspace_is_there_in_the_end() {
        let (ready, going) = (|| workspace("Succeeded"), || workspace("Creating"));
        let conflict = || Err(refusal(Kind::BadRequest, 409, "Conflict"));
        let foreign = || taken("https://evil.example/op/1");
        let table: Vec<(&str, How, usize, Answers)> = vec![
            ("it was", How::WasThere, 0, vec![ready()]),
            ("it named no data plane", How::WasThere, 0, vec![unnamed(), unnamed(), ready()]),
            ("somebody creates it", How::Waited, 0, vec![going(), going(), ready()]),
            (
                "by its operation",
                How::Created,
                1,
                vec![missing(), taken(OWN), status("Creating"), status("Succeeded"), ready()],
            ),
            (
                "behind its operation",
                How::Created,
                1,
                vec![missing(), taken(OWN), status("Succeeded"), missing(), going(), ready()],
            ),
            (
                "its operation is forgotten",
                How::Created,
                1,
                vec![missing(), taken(OWN), missing(), going(), ready()],
            ),
            ("by its state", How::Created, 1, vec![missing(), foreign(), going(), ready()]),
            ("at once", How::Created, 1, vec![missing(), ready(), ready()]),
            (
                "answer lost",
                How::Created,
                1,
                vec![missing(), no_answer(), going(), going(), ready()],
            ),
            ("two at once", How::Created, 1, vec![missing(), conflict(), going(), ready()]),
        ];
        for (case, how, n_puts, answers) in table {
            let (n_answers, played) = (answers.len(), Played::new(answers));
            let found = ensure(&played).await.unwrap_or_else(|err| panic!("{case}: {err}"));
            assert_eq!((found.how, found.workspace.stage()), (how, Stage::Ready), "{case}");
            assert_eq!((played.n_asked(""), played.n_asked("PUT ")), (n_answers, n_puts), "{case}");
            assert_eq!(played.n_asked("GET https://evil"), 0, "{case}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_creation_that_fails_says_why() {
        let going = || workspace("Creating");
        let refused = |kind, status, code: &str| Err(refusal(kind, status, code));
        let (denied, other) = (Kind::Denied, Kind::BadRequest);
        let error = json!({"code": "Quota", "message": "too many workspaces"});
        let broken = || Ok(reply(200, json!({"status": "Failed", "error": error})));
        let register = || refused(other, 409, "MissingSubscriptionRegistration");
        let no_group = || refused(Kind::NotFound, 404, "ResourceGroupNotFound");
        let table: Vec<(&str, usize, Answers)> = vec![
            ("az group create --name rg", 0, vec![no_group()]),
            ("Reader role", 0, vec![refused(denied, 403, "AuthorizationFailed")]),
            ("Contributor role", 1, vec![missing(), refused(denied, 403, "AuthorizationFailed")]),
            ("az provider register", 1, vec![missing(), register(), missing()]),
            ("is being deleted", 0, vec![workspace("DeletingArtifacts")]),
            ("ended as Failed", 0, vec![workspace("Failed")]),
            ("ended as Canceled", 1, vec![missing(), going(), workspace("Canceled")]),
            ("too many workspaces (code=Quota)", 1, vec![missing(), taken(OWN), broken()]),
            ("workspace delete w --yes", 1, vec![missing(), taken(OWN), broken()]),
            ("does not appear", 1, vec![missing(), taken(OWN), status("Succeeded"), missing()]),
            ("not ended within 30 minutes", 1, vec![missing(), going(), going()]),
            ("not ended within 30 minutes", 1, vec![missing(), taken(OWN), status("Creating")]),
            ("goes on in Azure", 1, vec![missing(), going(), no_answer()]),
        ];
        for (want, n_puts, answers) in table {
            let played = Played::new(answers);
            let err = ensure(&played).await.expect_err(want).to_string();
            assert!(err.contains(want), "{want}: {err}");
            assert_eq!(played.n_asked("PUT "), n_puts, "{want}");
            assert!(played.n_asked("") < 200, "{want}: it asks too often");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_region_is_asked_for_only_where_a_workspace_is_created() {
        let nowhere = || Err(Error::new(Kind::Usage, "choose a region"));
        let played = Played::new([workspace("Succeeded")]);
        played.arm().ensure(PATH, nowhere).await.expect("it is there");
        let played = Played::new([missing()]);
        let err = played.arm().ensure(PATH, nowhere).await.expect_err("no region");
        assert_eq!((err.kind(), played.n_asked("PUT ")), (Kind::Usage, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_workspace_that_never_names_its_data_plane_has_the_one_of_its_region() {
        let started = Instant::now();
        let found = ensure(&Played::new([unnamed()])).await.expect("it is there");
        assert!((ENDPOINT_MAX..ENDPOINT_MAX * 2).contains(&started.elapsed()));
        let host = found.workspace.data_plane_host();
        assert_eq!(host.as_deref(), Some("eastus.easm.defender.microsoft.com"));
    }
}
