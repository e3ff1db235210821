use super::*;

/// One asset that every case of the table is asked about.
struct Sample;

impl Fields for Sample {
    fn kind(&self) -> &str {
        "ipAddress"
    }
    fn state(&self) -> &str {
        "associatedThirdparty"
    }
    fn name(&self) -> String {
        "a, \"b\" Ü.example".to_owned()
    }
    fn id(&self) -> String {
        format!("ipAddress$${}", self.name())
    }
    fn uuid(&self) -> String {
        "08bc18a0-0000-4000-8000-00000000000a".to_owned()
    }
    fn external_id(&self) -> Option<String> {
        None
    }
    fn labels(&self) -> Vec<&'static str> {
        vec!["red", "two words"]
    }
    fn wildcard(&self) -> bool {
        false
    }
    fn created_ms(&self) -> i64 {
        1_709_210_096_789 // 2024-02-29T12:34:56.789Z
    }
    fn updated_ms(&self) -> i64 {
        1_735_689_600_000 // 2025-01-01T00:00:00Z
    }
}

#[track_caller]
fn check(filter: &str, want: bool) {
    assert_eq!(Filter::parse(filter).unwrap().matches(&Sample), want, "{filter}");
}

#[track_caller]
fn refused_at(filter: &str, position: usize) {
    assert_eq!(Filter::parse(filter).unwrap_err().position, position, "{filter}");
}

#[test]
fn operators_mean_what_the_reference_says() {
    check("", true);
    check("  ", true);
    check("kind = \"ipAddress\"", true);
    check("kind=ipaddress", true);
    check("type = IPADDRESS", true);
    check("kind ! host", true);
    check("kind != ipAddress", false);
    check("status in (\"CONFIRMED\", \"associatedThirdParty\")", true);
    check("state !in (confirmed, archived)", true);
    check("kind ^= IP and kind ~ ADDR", true);
    check("name ^= \"a, \\\"b\\\"\"", true);
    check("name ^= \"A, \"", false);
    check("name ~ \"Ü\"", true);
    check("id !^= \"host$$\"", true);
    check("id !~ \"$$\"", false);
    check("uuid in (08BC18A0-0000-4000-8000-00000000000A)", true);
    check("externalID empty", true);
    check("externalID !empty", false);
    check("label = red", true);
    check("label = \"two words\"", true);
    check("label != red", false);
    check("label !empty", true);
    check("wildcard = false", true);
    check("wildcard ! false", false);
    check("wildcard != true", true);
}

#[test]
fn dates_compare_by_the_millisecond_and_between_includes_both_ends() {
    check("createdAt >= \"2024-02-29T12:34:56.789Z\"", true);
    check("createdAt >= \"2024-02-29T12:34:56.790Z\"", false);
    check("createdAt <= \"2024-02-29T12:34:56.788Z\"", false);
    check("createdAt <= \"2024-02-29T13:34:56.789+01:00\"", true);
    check("updatedAt between (\"2025-01-01T00:00:00Z\", \"2025-01-01T00:00:00Z\")", true);
    check("updatedAt between (2025-01-02, 2025-01-03)", false);
    check("createdAt BETWEEN (\"2024-02-29\", \"2024-03-01\")", true);
}

#[test]
fn and_binds_tighter_than_or_and_parentheses_group() {
    check("kind = ipAddress OR kind = host AND state = confirmed", true);
    check("(kind = ipAddress OR kind = host) AND state = confirmed", false);
    check("kind = ipAddress | state = confirmed", false);
    check("kind = ipAddress and (state = x or (wildcard = false))", true);
}

#[test]
fn what_is_not_understood_is_refused_with_its_position() {
    refused_at("asn = 1", 0);
    refused_at("kind", 4);
    refused_at("kind host", 5);
    refused_at("kind = ", 7);
    refused_at("kind = \"host", 7);
    refused_at("kind # host", 5);
    refused_at("kind >= host", 5);
    refused_at("createdAt = \"2024-01-01\"", 10);
    refused_at("createdAt >= yesterday", 13);
    refused_at("wildcard = maybe", 11);
    refused_at("(kind = host", 12);
    refused_at("kind = host)", 11);
    refused_at("kind = host kind = page", 12);
    refused_at("kind in ()", 9);
    refused_at("kind = host AND", 15);
    let deep = format!("{}kind = host{}", "(".repeat(40), ")".repeat(40));
    refused_at(&deep, DEPTH_MAX);
    refused_at(&"x".repeat(FILTER_BYTES_MAX + 1), FILTER_BYTES_MAX);
}

#[test]
fn a_filter_reaches_no_further_than_its_conditions_on_kind_creation_and_name() {
    let everywhere = Reach { from_ms: i64::MIN, to_ms: i64::MAX, name_prefix: "" };
    let check = |filter: &str, want: Reach| {
        assert_eq!(Filter::parse(filter).unwrap().reach("host"), want, "{filter}");
    };
    check("", everywhere);
    check("state = confirmed and wildcard = true and updatedAt >= 2024-01-01", everywhere);
    check("kind in (page, HOST)", everywhere);
    check("kind != page and name !^= ww", everywhere);
    check("kind = page", Reach::NONE);
    check("kind = page and createdAt >= 2024-01-01 and name ^= w", {
        Reach { name_prefix: "w", ..Reach::NONE }
    });
    check("createdAt >= 1970-01-02 and (kind = host and createdAt <= 1970-01-03)", {
        Reach { from_ms: 86_400_000, to_ms: 2 * 86_400_000, ..everywhere }
    });
    check("createdAt between (1970-01-02, 1970-01-03) or createdAt <= 1970-01-01", {
        Reach { to_ms: 2 * 86_400_000, ..everywhere }
    });
    check("name ^= w and name ^= www and name ^= ww", Reach { name_prefix: "www", ..everywhere });
    check("name ^= w or name ^= ww", everywhere);
    check("kind = page and name ^= w or createdAt <= 1970-01-01", Reach { to_ms: 0, ..everywhere });
}
