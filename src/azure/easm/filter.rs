//! Filters put together (API reference, section 6).

use crate::clock::Timestamp;
use crate::model::asset::{AssetKind, KindCut};
use crate::model::plan::Within;

/// `filter`, narrowed to what of it is `within`.
///
/// Dates take `>=`, `<=` and `between` only, and whether `between` includes its ends is not documented:
/// the millisecond before is the last one that counts.
pub fn within(filter: &str, within: &Within) -> String {
    let Within { created_from, created_before, is_undated, name_prefix, names_excluded } = within;
    let mut conditions = Vec::new();
    if let Some(from) = created_from {
        conditions.push(format!("createdAt >= \"{}\"", from.with_milliseconds()));
    }
    let last = created_before.and_then(|before| Timestamp::from_unix_ms(before.unix_ms() - 1));
    if let Some(last) = last {
        conditions.push(format!("createdAt <= \"{}\"", last.with_milliseconds()));
    }
    if *is_undated {
        conditions.push("createdAt empty".to_owned());
    }
    if let Some(prefix) = name_prefix {
        conditions.push(format!("name ^= \"{prefix}\""));
    }
    conditions.extend(names_excluded.iter().map(|prefix| format!("name !^= \"{prefix}\"")));
    match conditions.is_empty() {
        true => filter.to_owned(),
        false => and(filter, &conditions.join(" AND ")),
    }
}

/// `filter`, narrowed to the assets of `cut`.
///
/// That parentheses are understood is not documented, so they are written only where `OR` makes
/// them necessary.
pub fn narrow(filter: &str, cut: KindCut) -> String {
    let of_kind = match cut {
        KindCut::Only(kind) => format!("kind = \"{kind}\""),
        KindCut::Other => format!("kind !in ({})", quoted(&AssetKind::ALL)),
    };
    and(filter, &of_kind)
}

/// `filter`, narrowed to the assets of `kinds`; all eight narrow nothing.
pub fn narrow_to_any(filter: &str, kinds: &[AssetKind]) -> String {
    match kinds {
        kinds if kinds.len() == AssetKind::ALL.len() => filter.to_owned(),
        [kind] => narrow(filter, KindCut::Only(*kind)),
        kinds => and(filter, &format!("kind in ({})", quoted(kinds))),
    }
}

fn and(filter: &str, condition: &str) -> String {
    match filter.trim() {
        "" => condition.to_owned(),
        filter if has_or(filter) => format!("({filter}) AND {condition}"),
        filter => format!("{filter} AND {condition}"),
    }
}

fn quoted(kinds: &[AssetKind]) -> String {
    kinds.iter().map(|kind| format!("\"{kind}\"")).collect::<Vec<_>>().join(", ")
}

/// Whether `filter` holds the keyword `OR` outside quotes.
fn has_or(filter: &str) -> bool {
    let mut is_quoted = false;
    let mut is_escaped = false;
    let mut bare = String::with_capacity(filter.len());
    for c in filter.chars() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => {
                is_quoted = !is_quoted;
                bare.push(' ');
            }
            c if !is_quoted => bare.push(c),
            _ => {}
        }
    }
    let mut words = bare.split(|c: char| c.is_whitespace() || "()".contains(c));
    // `||` is nobody's documented OR, but wrapping it is safe and overlooking it is not.
    words.any(|word| word.eq_ignore_ascii_case("or")) || bare.contains("||")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_wrapped_only_where_or_makes_it_necessary() {
        let check = |filter: &str, want: &str| {
            assert_eq!(narrow(filter, KindCut::Only(AssetKind::Host)), want);
        };
        check("", "kind = \"host\"");
        check("state = \"confirmed\"", "state = \"confirmed\" AND kind = \"host\"");
        check("a = 1 or b = 2", "(a = 1 or b = 2) AND kind = \"host\"");
        check("(a = 1)OR(b = 2)", "((a = 1)OR(b = 2)) AND kind = \"host\"");
        check("name = \"this OR that\"", "name = \"this OR that\" AND kind = \"host\"");
        check(r#"name = "a \" OR \" b""#, r#"name = "a \" OR \" b" AND kind = "host""#);
        check("organization = x", "organization = x AND kind = \"host\"");
    }

    #[test]
    fn what_is_of_no_known_kind_can_be_asked_for() {
        assert_eq!(
            narrow("", KindCut::Other),
            "kind !in (\"as\", \"contact\", \"domain\", \"host\", \"ipAddress\", \"ipBlock\", \
             \"page\", \"sslCert\")"
        );
    }

    #[test]
    fn a_span_of_time_is_half_open_to_the_millisecond() {
        let at = |text| Timestamp::parse(text);
        let check = |range: Within, want: &str| assert_eq!(within("kind = \"host\"", &range), want);
        let span = Within {
            created_from: at("2024-02-29T00:00:00Z"),
            created_before: at("2024-03-01T12:00:00.500Z"),
            ..Within::default()
        };
        check(
            span,
            "kind = \"host\" AND createdAt >= \"2024-02-29T00:00:00.000Z\" AND createdAt <= \
             \"2024-03-01T12:00:00.499Z\"",
        );
        let undated = Within { is_undated: true, ..Within::default() };
        check(undated, "kind = \"host\" AND createdAt empty");
        let named = Within {
            name_prefix: Some("ab".to_owned()),
            names_excluded: vec!["abc".to_owned(), "abd".to_owned()],
            ..Within::default()
        };
        check(
            named,
            "kind = \"host\" AND name ^= \"ab\" AND name !^= \"abc\" AND name !^= \"abd\"",
        );
        check(Within::default(), "kind = \"host\"");
    }

    #[test]
    fn all_kinds_narrow_nothing() {
        assert_eq!(narrow_to_any("x = 1", &AssetKind::ALL), "x = 1");
        assert_eq!(narrow_to_any("", &[AssetKind::As]), "kind = \"as\"");
        let two = [AssetKind::As, AssetKind::Host];
        assert_eq!(narrow_to_any("x = 1", &two), "x = 1 AND kind in (\"as\", \"host\")");
    }
}
