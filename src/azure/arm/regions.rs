//! Names of regions: how they are spelled, and which are known.

/// Regions that Microsoft names for workspaces (API reference, section 12). The list grows, so what is
/// not in it is tried all the same.
pub const KNOWN: &[&str] = &[
    "australiaeast",
    "canadacentral",
    "centralus",
    "eastasia",
    "eastus",
    "francecentral",
    "japaneast",
    "northeurope",
    "norwayeast",
    "southcentralus",
    "swedencentral",
    "switzerlandnorth",
    "westeurope",
    "westus3",
];

/// How many known names are offered in place of an unknown one.
const NEAREST_MAX: usize = 3;

/// `eastus` from `East US`. `None`: it is no name of a region.
pub fn normalised(location: &str) -> Option<String> {
    let region: String =
        location.chars().filter(|c| *c != ' ').map(|c| c.to_ascii_lowercase()).collect();
    let is_region = (2..=32).contains(&region.len())
        && region.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    is_region.then_some(region)
}

/// `eastus` from `eastus.easm.defender.microsoft.com`, a bare host name (API reference, section 2).
pub fn of_host(host: &str) -> Option<String> {
    let host = host.strip_prefix("https://").unwrap_or(host).trim_end_matches('/');
    normalised(host.strip_suffix(".easm.defender.microsoft.com")?)
}

/// The known names most like `region`, the most like it first. Empty: it is known itself.
pub fn nearest(region: &str) -> Vec<&'static str> {
    if KNOWN.contains(&region) {
        return Vec::new();
    }
    let mut names: Vec<(f64, &str)> =
        KNOWN.iter().map(|known| (strsim::jaro_winkler(region, known), *known)).collect();
    names.sort_by(|(left, _), (right, _)| right.total_cmp(left));
    names.into_iter().take(NEAREST_MAX).map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_is_read_from_the_endpoint_or_the_location() {
        let check = |host: &str, want: Option<&str>| {
            assert_eq!(of_host(host).as_deref(), want, "{host}");
        };
        check("eastus.easm.defender.microsoft.com", Some("eastus"));
        check("https://westus3.easm.defender.microsoft.com/", Some("westus3"));
        check("eastus.easm.defender.microsoft.com.evil.example", None);
        check("a.b.easm.defender.microsoft.com", None);
        assert_eq!(normalised("West US 3").as_deref(), Some("westus3"));
        assert_eq!(normalised("evil.example/"), None);
        assert_eq!(normalised(""), None);
    }

    #[test]
    fn an_unknown_region_is_answered_with_the_nearest_known_names() {
        let check = |region: &str, want: &str| {
            let found = nearest(region);
            assert_eq!((found.first(), found.len()), (Some(&want), NEAREST_MAX), "{region}");
        };
        check("eastus2", "eastus");
        check("westeurop", "westeurope");
        check("swedensouth", "swedencentral");
        check("qq", KNOWN[0]);
        for known in KNOWN {
            assert!(nearest(known).is_empty(), "{known}");
            assert_eq!(normalised(known).as_deref(), Some(*known));
        }
    }
}
