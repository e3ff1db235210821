//! The workspaces that there are by now, and how they come and go.
//!
//! `PUT -> Accepted -> (looks) -> Succeeded, without a data plane -> (looks) -> named -> (404s) -> serves`
//!
//! A look is a GET of the workspace or of its operation: what happens in Azure over time happens here
//! look by look, so a test depends on no clock.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use super::Options;

/// Workspaces that are remembered, those that are gone among them.
const WORKSPACES_MAX: usize = 10_000;

/// How ARM behaves. The default is quick and healthy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arm {
    /// Whether [`Options::workspace`] exists from the beginning. Default: yes.
    pub has_workspace: bool,
    /// More workspaces that exist from the beginning. All that do have the same inventory.
    pub workspaces: Vec<OtherWorkspace>,
    /// Resource groups that exist beside those of the workspaces.
    pub resource_groups: Vec<String>,
    /// Workspaces on a page of a list. Default: 100.
    pub page_size: usize,
    /// Host that links in answers name, as `https://host`. Default: the one that was called.
    pub links: Option<String>,
    /// Whether the last page of a list leads back to the first one.
    pub pages_go_round: bool,
    /// Whether identities may create and delete. Default: yes.
    pub may_write: bool,
    /// Whether the subscription knows the resource provider. Default: yes.
    pub is_registered: bool,
    /// Looks that find a creation or a deletion unfinished. Default: 2.
    pub looks: u64,
    /// Further looks that find no `dataPlaneEndpoint`. Default: 1.
    pub unnamed_looks: u64,
    /// Requests to a new workspace's data plane that are answered with 404. Default: 2.
    pub unknown_requests: u64,
    /// How creations and deletions end.
    pub ending: Ending,
    /// How the state of what was begun is told.
    pub tracking: Tracking,
    /// `Retry-After` of what has not ended. Default: `0`.
    pub retry_after: Option<String>,
}

impl Default for Arm {
    fn default() -> Self {
        Self {
            has_workspace: true,
            workspaces: Vec::new(),
            resource_groups: Vec::new(),
            page_size: 100,
            links: None,
            pages_go_round: false,
            may_write: true,
            is_registered: true,
            looks: 2,
            unnamed_looks: 1,
            unknown_requests: 2,
            ending: Ending::default(),
            tracking: Tracking::default(),
            retry_after: Some("0".to_owned()),
        }
    }
}

/// A workspace of the subscription beside [`Options::workspace`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherWorkspace {
    /// Where it belongs; the group exists then.
    pub resource_group: String,
    /// Its name.
    pub name: String,
    /// Where it is, for example `eastus`.
    pub region: String,
}

/// How creations and deletions end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ending {
    /// Well.
    #[default]
    Succeeds,
    /// With an error, and the workspace in the state `Failed`.
    Fails,
    /// Never.
    Never,
}

/// How the state of what was begun is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tracking {
    /// By `Azure-AsyncOperation` (API reference, section 12).
    #[default]
    Operation,
    /// By `Location`.
    Location,
    /// By the workspace alone.
    Nothing,
}

/// How far a workspace is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It will be there after so many looks.
    Creating(u64),
    /// It is there, and names its data plane after so many looks.
    There(u64),
    /// Its creation or deletion has failed.
    Failed,
    /// It will be gone after so many looks.
    Deleting(u64),
    /// It is not there any more.
    Gone,
}

/// A workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workspace {
    pub resource_group: String,
    pub name: String,
    pub region: String,
    pub phase: Phase,
    /// Whether it was created here: then it has no assets.
    pub is_new: bool,
    /// Requests that its data plane still answers with 404.
    unknown_requests: u64,
}

/// All of them.
#[derive(Debug)]
pub struct Workspaces {
    arm: Arm,
    groups: Vec<String>,
    all: Mutex<Vec<Workspace>>,
}

impl Workspaces {
    pub fn new(options: &Options) -> Self {
        let arm = options.arm.clone();
        let own = OtherWorkspace {
            resource_group: options.resource_group.clone(),
            name: options.workspace.clone(),
            region: options.region.clone(),
        };
        let own_group = own.resource_group.clone();
        let there = |OtherWorkspace { resource_group, name, region }| Workspace {
            resource_group,
            name,
            region,
            phase: Phase::There(0),
            is_new: false,
            unknown_requests: 0,
        };
        let own = arm.has_workspace.then_some(own);
        let all: Vec<_> = own.into_iter().chain(arm.workspaces.clone()).map(there).collect();
        let groups = arm.resource_groups.iter().chain(all.iter().map(|one| &one.resource_group));
        let groups = groups.cloned().chain([own_group]).collect();
        Self { arm, groups, all: Mutex::new(all) }
    }

    pub fn arm(&self) -> &Arm {
        &self.arm
    }

    pub fn has_group(&self, group: &str) -> bool {
        self.groups.iter().any(|known| known.eq_ignore_ascii_case(group))
    }

    /// Those that are there, in `group` or everywhere.
    pub fn list(&self, group: Option<&str>) -> Vec<Workspace> {
        let is_listed = |one: &&Workspace| {
            one.phase != Phase::Gone
                && group.is_none_or(|group| one.resource_group.eq_ignore_ascii_case(group))
        };
        self.lock().iter().filter(is_listed).cloned().collect()
    }

    /// Looks at a workspace, and time goes by.
    pub fn look(&self, group: &str, name: &str) -> Option<Workspace> {
        let mut all = self.lock();
        let one = all.iter_mut().find(|one| one.is(group, name))?;
        let found = one.clone();
        one.phase = one.phase.next(&self.arm);
        match found.phase {
            // Whoever looks when it is over finds it so.
            Phase::Creating(0) | Phase::Deleting(0) => Some(one.clone()),
            _ => Some(found),
        }
    }

    /// Begins to create a workspace. `false`: there is no room for more.
    pub fn create(&self, group: &str, name: &str, region: &str) -> bool {
        let mut all = self.lock();
        all.retain(|one| !one.is(group, name));
        if all.len() >= WORKSPACES_MAX {
            return false;
        }
        all.push(Workspace {
            resource_group: group.to_owned(),
            name: name.to_owned(),
            region: region.to_owned(),
            phase: Phase::Creating(self.arm.looks),
            is_new: true,
            unknown_requests: self.arm.unknown_requests,
        });
        true
    }

    /// Begins to delete a workspace.
    pub fn delete(&self, group: &str, name: &str) {
        if let Some(one) = self.lock().iter_mut().find(|one| one.is(group, name)) {
            one.phase = Phase::Deleting(self.arm.looks);
        }
    }

    /// The workspace that a request to the data plane is for, if it is known there by now.
    pub fn serve(&self, group: &str, name: &str) -> Option<Workspace> {
        let mut all = self.lock();
        let is_there = |one: &&mut Workspace| matches!(one.phase, Phase::There(_));
        let one = all.iter_mut().find(|one| one.is(group, name)).filter(is_there)?;
        if one.unknown_requests > 0 {
            one.unknown_requests -= 1;
            return None;
        }
        Some(one.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Workspace>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Phase {
    fn next(self, arm: &Arm) -> Self {
        match (self, arm.ending) {
            (Self::Creating(0), Ending::Succeeds) => Self::There(arm.unnamed_looks),
            (Self::Deleting(0), Ending::Succeeds) => Self::Gone,
            (Self::Creating(0) | Self::Deleting(0), Ending::Fails) => Self::Failed,
            (Self::Creating(0) | Self::Deleting(0), Ending::Never) => self,
            (Self::Creating(n), _) => Self::Creating(n - 1),
            (Self::Deleting(n), _) => Self::Deleting(n - 1),
            (Self::There(n), _) => Self::There(n.saturating_sub(1)),
            (Self::Failed | Self::Gone, _) => self,
        }
    }
}

impl Workspace {
    fn is(&self, group: &str, name: &str) -> bool {
        self.resource_group.eq_ignore_ascii_case(group) && self.name.eq_ignore_ascii_case(name)
    }

    /// As ARM spells its states.
    pub fn state(&self) -> &'static str {
        match self.phase {
            Phase::Creating(n) if n.is_multiple_of(2) => "Accepted",
            Phase::Creating(_) => "Creating",
            Phase::There(_) => "Succeeded",
            Phase::Failed => "Failed",
            Phase::Deleting(_) | Phase::Gone => "DeletingArtifacts",
        }
    }

    /// With an id spelled as ARM sometimes does and a bare host (API reference, sections 2 and 12).
    pub fn json(&self, subscription_id: &str) -> Value {
        let Self { resource_group, name, region, .. } = self;
        let mut properties = json!({ "provisioningState": self.state() });
        if self.phase == Phase::There(0) {
            properties["dataPlaneEndpoint"] =
                format!("{region}.easm.defender.microsoft.com").into();
        }
        json!({
            "id": format!(
                "/subscriptions/{subscription_id}/resourcegroups/{resource_group}/providers/\
                 Microsoft.Easm/workspaces/{name}"
            ),
            "name": name,
            "type": "microsoft.easm/workspaces",
            "location": region,
            "tags": {},
            "systemData": null,
            "properties": properties,
        })
    }
}
