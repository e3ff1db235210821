//! A workspace that is to be gone.
//!
//! `find -> delete -> look at the operation, then at the workspace -> 404`

use tracing::{info, warn};

use super::refusal::{Need, explain, is_missing, is_open};
use super::waiting::{Look, Track, Wait, is_group_missing};
use super::wire::{Stage, Workspace};
use super::{Arm, Path};
use crate::error::{Error, Kind, Result};
use crate::net::{Request, Verb};

const OPERATION: &str = "delete the workspace";

impl Arm {
    /// Deletes the workspace at `path` and waits until it is gone. What comes back is what it was.
    ///
    /// # Errors
    /// [`Kind::NotFound`] if there was none, naming its neighbours: a misspelt name must not pass for a
    /// deletion. That it takes too long; what ARM refuses.
    pub async fn delete(&self, path: Path<'_>) -> Result<Workspace> {
        let Some(found) = self.find(path).await? else {
            return Err(self.nothing_to_delete(path).await);
        };
        let mut wait = Wait::new(OPERATION, path);
        info!(workspace = path.workspace, "Asking Azure to delete the workspace");
        let url = self.workspace_url(path);
        let request = Request { verb: Verb::Delete, url: &url, body: None };
        let (mut track, mut asked) = match self.calls.call(OPERATION, request).await {
            // It went meanwhile: our own earlier try, or somebody else.
            Ok(reply) if reply.status == 204 => return Ok(found),
            Ok(reply) => (Track::of(&self.base, &reply), reply.retry_after),
            Err(err) if is_missing(&err) => return Ok(found),
            Err(err) => {
                // An answer that was lost, or a deletion that is under way already.
                let now = if is_open(&err) { self.find(path).await.ok() } else { None };
                match now {
                    Some(None) => return Ok(found),
                    Some(Some(now)) if now.stage() == Stage::Deleting => {
                        warn!("{err}; the workspace is being deleted all the same");
                        (None, None)
                    }
                    _ => return Err(explain(err, Need::Write, path)),
                }
            }
        };
        wait.pause(asked.take()).await?;
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
                match self.find_and_pause(path).await {
                    Ok((None, _)) => return Ok(found),
                    Ok((Some(now), pause)) => {
                        // It may have been so before; only what was not and has failed is news.
                        if now.stage() == Stage::Failed && found.stage() != Stage::Failed {
                            return Err(mend(failed(), path));
                        }
                        asked = pause;
                    }
                    Err(err) if is_group_missing(&err) => return Ok(found),
                    Err(err) => return Err(goes_on(err, path)),
                }
            }
            wait.pause(asked.take()).await?;
        }
    }

    /// The error for a workspace that is not there, with the names of those that are.
    async fn nothing_to_delete(&self, path: Path<'_>) -> Error {
        let Path { subscription_id: _, resource_group, workspace } = path;
        let names = self.neighbours(path).await;
        let err = Error::new(Kind::NotFound, OPERATION).because(format!(
            "there is no workspace {workspace:?} in resource group {resource_group:?}, so nothing \
             was deleted"
        ));
        match names.is_empty() {
            true => err.advise("if it was deleted before, that is all; see workspace list"),
            false => err.advise(format!("there are: {}", names.join(", "))),
        }
    }
}

/// `err` of a look: what was begun goes on.
fn goes_on(err: Error, path: Path<'_>) -> Error {
    match err.kind().is_retryable() {
        true => err.advise(
            "the deletion goes on in Azure: start the same command again to go on waiting, or see \
             workspace list",
        ),
        false => explain(err, Need::Read, path),
    }
}

fn failed() -> Error {
    Error::new(Kind::BadRequest, OPERATION).because("the workspace is there, in the state Failed")
}

/// `err` of a deletion that was given up, with what to do about it.
fn mend(err: Error, path: Path<'_>) -> Error {
    explain(err, Need::Write, path)
        .with("workspace", path.workspace)
        .or_advise("mend what it says, and start the command again")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{PATH, Played, missing, refusal, reply, workspace};
    use super::*;
    use crate::azure::arm::call::Reply;

    fn accepted() -> Result<Reply> {
        let link = "https://arm.example/base/op/1?api-version=v".to_owned();
        Ok(Reply { status: 202, operation: Some(link), ..Reply::default() })
    }

    fn status(state: &str) -> Result<Reply> {
        Ok(reply(200, json!({"status": state})))
    }

    #[tokio::test(start_paused = true)]
    async fn a_deletion_ends_when_the_workspace_is_gone() {
        let there = || workspace("Succeeded");
        let going = || workspace("DeletingArtifacts");
        let no_group = || Err(refusal(Kind::NotFound, 404, "ResourceGroupNotFound"));
        let no_answer = || Err(Error::new(Kind::Unavailable { retry_after: None }, "test"));
        let conflict = || Err(refusal(Kind::BadRequest, 409, "Conflict"));
        let gone = |status| Ok(reply(status, json!(null)));
        let op = status;
        let table: Vec<(&str, Vec<Result<Reply>>)> = vec![
            ("at once", vec![there(), gone(204)]),
            ("not there any more", vec![there(), missing()]),
            ("by its state", vec![there(), gone(202), going(), going(), missing()]),
            ("with its group", vec![there(), gone(200), going(), no_group()]),
            (
                "by its operation",
                vec![there(), accepted(), op("Deleting"), op("Succeeded"), going(), missing()],
            ),
            ("whose operation is forgotten", vec![there(), accepted(), missing(), missing()]),
            ("whose answer was lost", vec![there(), no_answer(), missing()]),
            ("that is under way", vec![going(), conflict(), going(), going(), missing()]),
            (
                "of what failed",
                vec![workspace("Failed"), gone(202), workspace("Failed"), missing()],
            ),
        ];
        for (case, answers) in table {
            let (n_answers, played) = (answers.len(), Played::new(answers));
            played.arm().delete(PATH).await.unwrap_or_else(|err| panic!("{case}: {err}"));
            assert_eq!(played.n_asked(""), n_answers, "{case}");
            assert_eq!(played.n_asked("DELETE "), 1, "{case}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_deletion_that_fails_says_why() {
        let there = || workspace("Succeeded");
        let gone = |status| Ok(reply(status, json!(null)));
        let denied = || Err(refusal(Kind::Denied, 403, "AuthorizationFailed"));
        let locked = || Err(refusal(Kind::BadRequest, 409, "ScopeLocked"));
        let error = json!({"code": "InUse", "message": "it is in use"});
        let broken = || Ok(reply(200, json!({"status": "Failed", "error": error})));
        let neighbours = Ok(reply(200, json!({"value": [{"name": "w1"}, {"name": "w2"}]})));
        let table: Vec<(&str, usize, Vec<Result<Reply>>)> = vec![
            ("there are: w1, w2", 0, vec![missing(), neighbours]),
            ("see workspace list", 0, vec![missing(), Ok(reply(200, json!({"value": []})))]),
            ("Contributor role", 1, vec![there(), denied()]),
            ("remove the lock", 1, vec![there(), locked(), there()]),
            ("it is in use (code=InUse", 1, vec![there(), accepted(), broken()]),
            ("state Failed", 1, vec![there(), gone(202), workspace("Failed")]),
            ("not ended within 30 minutes", 1, vec![there(), gone(202), there()]),
        ];
        for (want, n_deletions, answers) in table {
            let played = Played::new(answers);
            let err = played.arm().delete(PATH).await.expect_err(want).to_string();
            assert!(err.contains(want), "{want}: {err}");
            assert_eq!(played.n_asked("DELETE "), n_deletions, "{want}");
        }
    }
}
