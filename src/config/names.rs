//! Names of settings: which there are, which are fallbacks, which is meant.

use super::reference::{self, GROUPS};

/// Whether the contract has a setting `name`.
pub fn is_known(name: &str) -> bool {
    reference::setting(name).is_some()
}

/// What holds when the setting `name` is not set. Of a name without a default: nothing.
pub fn default(name: &str) -> &'static str {
    reference::setting(name).map_or("", |setting| setting.default)
}

fn known() -> impl Iterator<Item = &'static str> {
    GROUPS.iter().flat_map(|group| group.settings).map(|setting| setting.name)
}

/// Whether `name` means something to this program, whoever made it up.
pub fn is_ours(name: &str) -> bool {
    let is_fallback = known().any(|known| fallback(known) == Some(name));
    name.starts_with("EASM_") || is_fallback || is_known(name) || PLATFORM.contains(&name)
}

/// Names that the platform sets.
pub const PLATFORM: &[&str] = &[
    "AZURE_CLIENT_ID",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_TENANT_ID",
    "IDENTITY_ENDPOINT",
    "IDENTITY_HEADER",
];

/// Those of the platform's names that a library reads in the environment itself.
pub const READ_BY_LIBRARIES: &[&str] = &["IDENTITY_ENDPOINT", "IDENTITY_HEADER"];

/// The name of the Python helper `mdeasm`, or of the Azure SDKs, that is read when `name` is not
/// set.
pub fn fallback(name: &str) -> Option<&'static str> {
    match name {
        "EASM_TENANT_ID" => Some("TENANT_ID"),
        "EASM_SUBSCRIPTION_ID" => Some("SUBSCRIPTION_ID"),
        "EASM_RESOURCE_GROUP" => Some("RESOURCE_GROUP_NAME"),
        "EASM_WORKSPACE" => Some("WORKSPACE_NAME"),
        "EASM_CLIENT_ID" => Some("CLIENT_ID"),
        "EASM_CLIENT_SECRET" => Some("CLIENT_SECRET"),
        _ => None,
    }
}

/// The known name most like `name`, if one is like it at all.
pub fn closest(name: &str) -> Option<&'static str> {
    /// Below this two names are about different things (Jaro-Winkler similarity, 0 to 1).
    const SIMILARITY_MIN: f64 = 0.9;
    // What nearly all begin with says nothing.
    let own = |name: &str| name.strip_prefix("EASM_").map_or(name, |own| own).to_owned();
    known()
        .map(|known| (strsim::jaro_winkler(&own(name), &own(known)), known))
        .filter(|(similarity, _)| *similarity >= SIMILARITY_MIN)
        .max_by(|(left, _), (right, _)| left.total_cmp(right))
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_finds_the_one_that_was_meant() {
        let check = |name, want| assert_eq!(closest(name), want, "{name}");
        check("EASM_FILTERS", Some("EASM_FILTER"));
        check("EASM_TENANTID", Some("EASM_TENANT_ID"));
        check("EASM_COMPRESION", Some("EASM_COMPRESSION"));
        check("EASM_QQQQQQQQQQQQ", None);
        check("EASM_FOO", None);
        check("EASM_WORKSPCE", Some("EASM_WORKSPACE"));
        check("EASM_PRINCIPLES", Some("EASM_PRINCIPALS"));
    }
}
