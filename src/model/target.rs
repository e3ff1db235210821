//! One EASM workspace, and what it is called.

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
