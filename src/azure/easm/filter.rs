//! Filters put together (API reference, section 6).

use crate::model::asset::{AssetKind, KindCut};

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
    fn all_kinds_narrow_nothing() {
        assert_eq!(narrow_to_any("x = 1", &AssetKind::ALL), "x = 1");
        assert_eq!(narrow_to_any("", &[AssetKind::As]), "kind = \"as\"");
        let two = [AssetKind::As, AssetKind::Host];
        assert_eq!(narrow_to_any("x = 1", &two), "x = 1 AND kind in (\"as\", \"host\")");
    }
}
