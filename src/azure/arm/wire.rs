//! What ARM sends (API reference, section 12), and what we make of it.

use serde::{Deserialize, Serialize};

use super::regions;

/// A workspace as it is sent. Every member can be missing or `null`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Resource {
    pub id: Option<String>,
    pub name: Option<String>,
    pub location: Option<String>,
    pub properties: Option<Properties>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Properties {
    pub provisioning_state: Option<String>,
    pub data_plane_endpoint: Option<String>,
}

/// A page of workspaces.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    pub value: Option<Vec<Resource>>,
    pub next_link: Option<String>,
}

/// The state of what was begun: what `Azure-AsyncOperation` leads to.
#[derive(Debug, Default, Deserialize)]
pub struct OperationStatus {
    pub status: Option<String>,
}

/// A workspace, as ARM knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Workspace {
    /// Its name.
    pub name: Option<String>,
    /// Where it belongs.
    pub resource_group: Option<String>,
    /// Where it is, for example `eastus`.
    pub region: Option<String>,
    /// How far its creation or deletion is.
    pub provisioning_state: Option<String>,
    /// The host of its data plane, for example `eastus.easm.defender.microsoft.com`.
    pub data_plane_endpoint: Option<String>,
    /// ARM's own name of it.
    pub id: Option<String>,
}

/// What can be done with a workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It is there.
    Ready,
    /// It is being created or changed.
    Going,
    /// Its creation has failed, or was cancelled.
    Failed,
    /// It is being deleted.
    Deleting,
}

impl From<Resource> for Workspace {
    fn from(sent: Resource) -> Self {
        let Resource { id, name, location, properties } = sent;
        let Properties { provisioning_state, data_plane_endpoint } = properties.unwrap_or_default();
        let endpoint = data_plane_endpoint.filter(|host| !host.trim().is_empty());
        let of_endpoint = endpoint.as_deref().and_then(regions::of_host);
        let of_location = || location.as_deref().and_then(regions::normalised);
        Self {
            region: of_endpoint.or_else(of_location),
            resource_group: id.as_deref().and_then(resource_group),
            name,
            provisioning_state,
            data_plane_endpoint: endpoint,
            id,
        }
    }
}

impl Workspace {
    /// What can be done with it. A state that is not known is one on the way to another: those that are
    /// final have the same names for every resource of Azure. Nothing said means that it is there.
    pub fn stage(&self) -> Stage {
        match self.provisioning_state.as_deref() {
            None | Some("") => Stage::Ready,
            Some(state) if state.eq_ignore_ascii_case("Succeeded") => Stage::Ready,
            Some(state) if is_failure(state) => Stage::Failed,
            Some(state) if state.to_ascii_lowercase().starts_with("deleting") => Stage::Deleting,
            Some(_) => Stage::Going,
        }
    }
}

/// Whether `state`, of a resource or an operation, says that it has failed.
pub fn is_failure(state: &str) -> bool {
    ["Failed", "Canceled"].iter().any(|failure| state.eq_ignore_ascii_case(failure))
}

/// The resource group in the id of a resource: ARM spells `resourceGroups` in two ways.
fn resource_group(id: &str) -> Option<String> {
    let mut segments = id.split('/');
    segments.find(|segment| segment.eq_ignore_ascii_case("resourceGroups"))?;
    segments.next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workspace_is_read_whatever_is_missing() {
        let check = |sent: &str, want: [Option<&str>; 4]| {
            let sent: Resource = serde_json::from_str(sent).expect("a workspace");
            let Workspace {
                resource_group, region, provisioning_state, data_plane_endpoint, ..
            } = Workspace::from(sent);
            let found = [resource_group, region, provisioning_state, data_plane_endpoint];
            assert_eq!(found.each_ref().map(Option::as_deref), want);
        };
        let id = "/subscriptions/s/resourcegroups/rg-1/providers/Microsoft.Easm/workspaces/w";
        let host = "westus3.easm.defender.microsoft.com";
        check("{}", [None; 4]);
        check(r#"{"id": null, "properties": null, "location": null}"#, [None; 4]);
        check(
            &format!(r#"{{"id": "{id}", "location": "West US", "properties": {{}}}}"#),
            [Some("rg-1"), Some("westus"), None, None],
        );
        check(
            &format!(
                r#"{{"location": "West US", "systemData": null, "properties":
                {{"provisioningState": "Creating", "dataPlaneEndpoint": "{host}", "x": 1}}}}"#
            ),
            [None, Some("westus3"), Some("Creating"), Some(host)],
        );
    }

    #[test]
    fn every_state_of_the_reference_has_a_stage() {
        let check = |state: Option<&str>, want| {
            let properties = Properties {
                provisioning_state: state.map(str::to_owned),
                ..Properties::default()
            };
            let sent = Resource { properties: Some(properties), ..Resource::default() };
            assert_eq!(Workspace::from(sent).stage(), want, "{state:?}");
        };
        check(None, Stage::Ready);
        check(Some("Succeeded"), Stage::Ready);
        check(Some("succeeded"), Stage::Ready);
        check(Some("Failed"), Stage::Failed);
        check(Some("Canceled"), Stage::Failed);
        check(Some("DeletingArtifacts"), Stage::Deleting);
        check(Some("Deleting"), Stage::Deleting);
        for going in ["NotSpecified", "Accepted", "Creating", "ProvisioningResources", "NewOne"] {
            check(Some(going), Stage::Going);
        }
    }
}
