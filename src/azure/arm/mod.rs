//! ARM: which workspaces there are and where, and how one comes to be and goes.
//!
//! | Module | What it knows |
//! | --- | --- |
//! | `call` | one request, and what comes back |
//! | `wire` | what ARM sends, and the workspace that we make of it |
//! | `list` | all pages of workspaces |
//! | `ensure`, `delete` | a workspace that is to be there, or to be gone |
//! | `waiting` | what goes on in Azure behind an answer, and how long it is waited for |
//! | `regions` | names of regions |
//! | `refusal` | what a refusal means, and what to do about it |
//!
//! # Invariants
//! - The token goes to our own origin only. Of a link to a next page only the query is taken; where the state of an
//!   operation can be read is followed at our origin, and not at all elsewhere.
//! - What was asked for goes on in Azure whether or not anybody waits, so each command can be
//!   stopped at any moment, and started again goes on where it was.
//!
//! Nothing here was tried against the live ARM: what it is built from is the API reference, section 12.

mod call;
mod delete;
mod ensure;
mod list;
mod refusal;
pub mod regions;
#[cfg(test)]
mod testing;
mod waiting;
mod wire;

use std::time::Duration;

use url::Url;

use crate::azure::easm::Path;
use crate::error::{Error, Kind, Result};
use crate::net::{Http, Request, Verb};
use call::{Calls, Reply};
use refusal::{Need, explain, is_missing};

pub use ensure::{Ensured, How};
pub use wire::Workspace;

/// Most workspaces that are named when the one asked for is missing.
const NAMED_MAX: usize = 5;

/// The control plane.
pub struct Arm {
    calls: Box<dyn Calls>,
    base: Url,
    api_version: String,
}

impl Arm {
    /// ARM at `base`, through `http`.
    pub fn new(http: Http, base: Url, api_version: String) -> Self {
        Self { calls: Box::new(http), base, api_version }
    }

    /// The region of a workspace, for example `eastus`.
    ///
    /// # Errors
    /// [`Kind::NotFound`] if there is no such workspace, naming those that there are.
    pub async fn region(
        &self,
        subscription_id: &str,
        resource_group: &str,
        workspace: &str,
    ) -> Result<String> {
        const OPERATION: &str = "find the workspace";
        let path = Path { subscription_id, resource_group, workspace };
        let found = match self.get(OPERATION, &self.workspace_url(path)).await {
            Ok(found) => Workspace::from(found.parse::<wire::Resource>()?),
            Err(err) if err.kind() == Kind::NotFound => return Err(self.not_found(path).await),
            Err(err) => return Err(err),
        };
        found.region.ok_or_else(|| {
            Error::new(Kind::Unreadable, OPERATION)
                .because("ARM does not say in which region the workspace is")
                .with("workspace", workspace)
                .advise("set EASM_REGION")
        })
    }

    /// The workspace at `path`, if it is there.
    ///
    /// # Errors
    /// What ARM or the network failed with, and that what stands above the workspace is missing.
    pub async fn find(&self, path: Path<'_>) -> Result<Option<Workspace>> {
        Ok(self.find_and_pause(path).await?.0)
    }

    /// The same, and the pause that ARM asks for before it is asked again.
    async fn find_and_pause(
        &self,
        path: Path<'_>,
    ) -> Result<(Option<Workspace>, Option<Duration>)> {
        match self.get("find the workspace", &self.workspace_url(path)).await {
            Ok(found) => {
                let asked = found.retry_after;
                Ok((Some(found.parse::<wire::Resource>()?.into()), asked))
            }
            Err(err) if is_missing(&err) => Ok((None, None)),
            Err(err) => Err(explain(err, Need::Read, path)),
        }
    }

    /// The error for a missing workspace, with the names of its neighbours: the usual cause is a
    /// misspelt name.
    async fn not_found(&self, path: Path<'_>) -> Error {
        let Path { subscription_id: _, resource_group, workspace } = path;
        let err = Error::new(Kind::NotFound, "find the workspace").because(format!(
            "there is no workspace {workspace:?} in resource group {resource_group:?}"
        ));
        let names = self.neighbours(path).await;
        match names.is_empty() {
            true => err.advise(
                "check EASM_WORKSPACE, EASM_RESOURCE_GROUP and EASM_SUBSCRIPTION_ID, and that the \
                 identity may read them",
            ),
            false => {
                err.advise(format!("set EASM_WORKSPACE to one that is there: {}", names.join(", ")))
            }
        }
    }

    /// Names of workspaces in the resource group of `path`, a few at most. None if they cannot be read:
    /// the group may be missing too, and whoever asks has an error to tell of already.
    async fn neighbours(&self, path: Path<'_>) -> Vec<String> {
        let mut url = self.workspace_url(path);
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop();
        }
        let found = self.get("list workspaces", &url).await.and_then(Reply::parse);
        let wire::Resources { value, next_link: _ } = found.unwrap_or_default();
        let names = value.into_iter().flatten().filter_map(|found| found.name);
        names.take(NAMED_MAX).collect()
    }

    async fn get(&self, operation: &'static str, url: &Url) -> Result<Reply> {
        self.calls.call(operation, Request { verb: Verb::Get, url, body: None }).await
    }

    fn workspace_url(&self, path: Path<'_>) -> Url {
        let Path { subscription_id, resource_group, workspace } = path;
        self.url(&[
            "subscriptions",
            subscription_id,
            "resourceGroups",
            resource_group,
            "providers",
            "Microsoft.Easm",
            "workspaces",
            workspace,
        ])
    }

    fn url(&self, segments: &[&str]) -> Url {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .expect("a service URL is http or https, so it has a path")
            .pop_if_empty()
            .extend(segments);
        url.query_pairs_mut().append_pair("api-version", &self.api_version);
        url
    }
}
