//! The names of all settings of the contract, section 2.

/// Every `EASM_` name there is. Those that this version does not use yet are known all the same,
/// so that one file of settings serves every command.
const KNOWN: &[&str] = &[
    "EASM_API_VERSION",
    "EASM_ARM_URL",
    "EASM_AUTH",
    "EASM_CLIENT_ID",
    "EASM_CLIENT_SECRET",
    "EASM_CLIENT_SECRET_NAME",
    "EASM_COLUMNS",
    "EASM_COMPRESSION",
    "EASM_CONCURRENCY",
    "EASM_CP_API_VERSION",
    "EASM_CREDENTIAL",
    "EASM_DATASETS",
    "EASM_DATA_PLANE_URL",
    "EASM_DELTA",
    "EASM_DP_API_VERSION",
    "EASM_FILTER",
    "EASM_FORMAT",
    "EASM_IDENTITY_CLIENT_ID",
    "EASM_KEY_VAULT_URL",
    "EASM_KINDS",
    "EASM_LOG",
    "EASM_LOG_FORMAT",
    "EASM_PAGE_SIZE",
    "EASM_PART_BYTES_MAX",
    "EASM_PRINCIPALS",
    "EASM_RANGE_ASSETS_MAX",
    "EASM_REGION",
    "EASM_RESOURCE_GROUP",
    "EASM_RETENTION_DAYS",
    "EASM_RUN_HOURS_MAX",
    "EASM_SCHEMA_POLICY",
    "EASM_SHARDS",
    "EASM_SLICE_SECONDS",
    "EASM_STORE_URL",
    "EASM_SUBSCRIPTION_ID",
    "EASM_TARGETS",
    "EASM_TENANT_ID",
    "EASM_WORKSPACE",
];

/// Whether the contract has a setting `name`.
pub fn is_known(name: &str) -> bool {
    KNOWN.contains(&name)
}

/// Whether `name` means something to this program, whoever made it up.
pub fn is_ours(name: &str) -> bool {
    let is_fallback = KNOWN.iter().any(|known| fallback(known) == Some(name));
    name.starts_with("EASM_") || is_fallback || PLATFORM.contains(&name)
}

/// Names that only the platform sets, in the environment itself: libraries read them there.
pub const PLATFORM: &[&str] = &["AZURE_CLIENT_ID", "IDENTITY_ENDPOINT", "IDENTITY_HEADER"];

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
    KNOWN
        .iter()
        .map(|known| (strsim::jaro_winkler(name, known), *known))
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
    }

    #[test]
    fn known_names_are_in_order_and_each_once() {
        assert!(KNOWN.is_sorted_by(|left, right| left < right));
    }
}
