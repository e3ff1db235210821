//! One EASM workspace, and what it is called.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Longest name of a target (contract, section 1).
pub const TARGET_NAME_CHARS_MAX: usize = 63;

/// Whether `name` is `^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$` (contract, section 1).
///
/// The name becomes a folder of the store, so nothing else may pass.
pub fn is_target_name(name: &str) -> bool {
    let first_is_alphanumeric = name.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
    let rest_is_allowed = name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    first_is_alphanumeric && rest_is_allowed && name.len() <= TARGET_NAME_CHARS_MAX
}

/// Where a workspace is found, as the manifest records it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Workspace {
    /// Entra tenant, a GUID or a domain name.
    pub tenant_id: String,
    /// Azure subscription, a GUID.
    pub subscription_id: String,
    /// Resource group.
    pub resource_group: String,
    /// Name of the workspace.
    pub workspace: String,
    /// Azure region, for example `eastus`.
    pub region: String,
}

/// Which workspace a run is of, wherever its name is written: the rest of [`Workspace`] may be spelt anew.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Inventory {
    /// Azure subscription, a GUID.
    pub subscription_id: String,
    /// Resource group.
    pub resource_group: String,
    /// Name of the workspace.
    pub workspace: String,
    /// The data plane, if it is not the one that belongs to the workspace's region (`EASM_DATA_PLANE_URL`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_plane_url: Option<String>,
}

impl Inventory {
    /// Whether it is the `other`, too. Azure does not tell capital letters from small ones.
    pub fn is(&self, other: &Self) -> bool {
        self.subscription_id.eq_ignore_ascii_case(&other.subscription_id)
            && self.resource_group.eq_ignore_ascii_case(&other.resource_group)
            && self.workspace.eq_ignore_ascii_case(&other.workspace)
            && self.data_plane_url == other.data_plane_url
    }
}

impl fmt::Display for Inventory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of resource group {}", self.workspace, self.resource_group)?;
        self.data_plane_url.iter().try_for_each(|url| write!(f, " at {url}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_name_is_safe_as_a_folder() {
        let check = |name: &str, want: bool| assert_eq!(is_target_name(name), want, "{name}");
        check("contoso", true);
        check("Contoso_EU-1", true);
        check("7", true);
        check(&"a".repeat(63), true);
        check(&"a".repeat(64), false);
        check("", false);
        check("-a", false);
        check("_keys", false);
        check("a/b", false);
        check("..", false);
        check("größe", false);
    }
}
