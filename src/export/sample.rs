//! Where a sample of assets says that a piece is cut best: creation times, and beginnings of names.
//!
//! In which order the service sends assets is not known, so a sample may say little. It never says how
//! many assets are where: that is counted.

use crate::model::plan::Within;

/// Longest beginning of a name by which ranges are cut, in characters.
pub const PREFIX_CHARS_MAX: usize = 24;

/// Characters that names of assets are made of, but for rare ones, which stay together.
pub const NAME_CHARS: &str = "abcdefghijklmnopqrstuvwxyz0123456789-._:/$*@";

/// Most beginnings of names that a range leaves out, so that its filter fits into a URL.
pub const EXCLUDED_MAX: usize = NAME_CHARS.len();

/// Fewest sampled assets that stand for a piece: of fewer, chance makes too much.
const SEEN_MIN: usize = 8;

/// How many assets a piece has, how many of them are seen in its sample, and how many a range may have.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    pub n_assets: u64,
    pub n_seen: usize,
    pub assets_max: u64,
}

impl Scale {
    /// Whether what was seen so often is likely to be more than `percent` of a range.
    fn is_over(self, n_seen: usize, percent: u64) -> bool {
        let product = |a: u64, b: usize, c: u64| u128::from(a) * b as u128 * u128::from(c);
        product(self.n_assets, n_seen, 100) > product(self.assets_max, self.n_seen, percent)
    }
}

/// How many pieces `n_assets` assets are cut into, so that each has room to be larger than the mean.
pub fn n_pieces(n_assets: u64, assets_max: u64) -> usize {
    let wanted = n_assets.saturating_add(n_assets / 4).div_ceil(assets_max.max(1));
    usize::try_from(wanted).unwrap_or(usize::MAX).max(2)
}

/// Times at which to cut, sorted: about `pieces_max` pieces with equally many of `times_ms` each, or
/// fewer; and a time that alone makes half a range is a piece of its own.
pub fn edges(mut times_ms: Vec<i64>, scale: Scale, pieces_max: usize) -> Vec<i64> {
    times_ms.sort_unstable();
    let n_pieces = pieces_max.min(times_ms.len() / SEEN_MIN).max(2);
    let groups: Vec<&[i64]> = times_ms.chunk_by(|a, b| a == b).collect();
    let mut edges = Vec::new();
    let mut n_seen = 0;
    for (at, group) in groups.iter().enumerate() {
        let time = group[0];
        if group.len() > 1 && scale.is_over(group.len(), 50) {
            edges.extend([time, time + 1]);
            n_seen = 0;
            continue;
        }
        n_seen += group.len();
        if n_seen * n_pieces >= times_ms.len()
            && let Some(next) = groups.get(at + 1)
        {
            edges.push(time + (next[0] - time + 1) / 2);
            n_seen = 0;
        }
    }
    edges.dedup();
    edges
}

/// Beginnings of names to cut what is `within` by, none of which begins another: each of so few of
/// `names` that it may make a range, or of names that differ too much. What has none of them stays
/// together.
pub fn beginnings(names: &[&str], within: &Within, scale: Scale) -> Vec<String> {
    let begin = within.name_prefix.as_deref().unwrap_or_default();
    let is_within = |name: &&str| {
        let is_excluded = within.names_excluded.iter().any(|prefix| name.starts_with(prefix));
        name.starts_with(begin) && !is_excluded
    };
    let names = names.iter().copied().filter(is_within).collect();
    let groups_max = EXCLUDED_MAX.saturating_sub(within.names_excluded.len());
    let mut groups: Vec<(String, Vec<&str>)> = Vec::new();
    let mut large: Vec<(String, Vec<&str>)> = vec![(begin.to_owned(), names)];
    while let Some((begin, names)) = large.pop() {
        let parts = match begin.chars().count() < PREFIX_CHARS_MAX {
            true => parted(&begin, &names),
            false => Vec::new(),
        };
        let n_parted: usize = parts.iter().map(|(_, names)| names.len()).sum();
        let is_in_bits = 4 * n_parted < 3 * names.len();
        if is_in_bits || groups.len() + large.len() + parts.len() > groups_max {
            groups.push((begin, names));
            continue;
        }
        let is_large = |(_, names): &(String, Vec<&str>)| {
            names.len() >= SEEN_MIN && scale.is_over(names.len(), 125)
        };
        let (still_large, small): (Vec<_>, Vec<_>) = parts.into_iter().partition(is_large);
        groups.extend(small);
        large.extend(still_large);
        large.sort_by_key(|(_, names)| names.len());
    }
    let mut beginnings: Vec<String> = groups.into_iter().map(|(begin, _)| begin).collect();
    beginnings.retain(|beginning| beginning != begin);
    beginnings.sort_unstable();
    beginnings
}

/// `names`, which begin with `begin`, by their next character. What is seen once only, or goes on with a
/// rare character, is left out.
fn parted<'a>(begin: &str, names: &[&'a str]) -> Vec<(String, Vec<&'a str>)> {
    let mut parts: Vec<(String, Vec<&str>)> = Vec::new();
    for name in names {
        let Some(c) = name[begin.len()..].chars().next().filter(|c| is_usual(*c)) else { continue };
        let begin = format!("{begin}{c}");
        match parts.iter_mut().find(|(part, _)| *part == begin) {
            Some((_, names)) => names.push(name),
            None => parts.push((begin, vec![name])),
        }
    }
    parts.retain(|(_, names)| names.len() > 1);
    parts
}

/// The longest beginning that all of `names` share, of usual characters.
pub fn shared_beginning(names: &[&str]) -> String {
    let Some((first, others)) = names.split_first() else { return String::new() };
    let usual = first.chars().take(PREFIX_CHARS_MAX).take_while(|c| is_usual(*c));
    let mut shared: String = usual.collect();
    while !others.iter().all(|name| name.starts_with(&shared)) {
        shared.pop();
    }
    shared
}

/// Whether ranges are cut by `c`. Quotes and backslashes mean something in a filter, and of capital
/// letters it is not known whether they differ from small ones.
fn is_usual(c: char) -> bool {
    match c.is_ascii() {
        true => NAME_CHARS.contains(c),
        false => c.is_alphanumeric() && !c.is_uppercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hundred are seen of a thousand, and a range has a hundred.
    const SCALE: Scale = Scale { n_assets: 1000, n_seen: 100, assets_max: 100 };

    #[test]
    fn times_are_cut_where_the_sample_is_dense_and_around_a_burst() {
        let check = |times_ms: &[i64], pieces_max: usize, want: &[i64]| {
            assert_eq!(edges(times_ms.to_vec(), SCALE, pieces_max), want);
        };
        let dense: Vec<i64> = (0..100).collect();
        check(&dense, 4, &[25, 50, 75]);
        check(&dense, 2, &[50]);
        // Of fewer than eight a piece, chance makes too much.
        assert_eq!(edges(dense, SCALE, 1000).len(), 11);
        let squares: Vec<i64> = (0..100).map(|n| n * n).rev().collect();
        check(&squares, 2, &[(49 * 49 + 50 * 50 + 1) / 2]);
        // Half a range and more at one time.
        let burst: Vec<i64> = (0..94).chain([200; 6]).collect();
        check(&burst, 2, &[50, 200, 201]);
        let small: Vec<i64> = (0..95).chain([200; 5]).collect();
        check(&small, 2, &[50]);
        let behind: Vec<i64> = (0..50).chain([50; 50]).collect();
        check(&behind, 2, &[50, 51]);
        check(&[7; 100], 10, &[7, 8]);
        check(&[], 10, &[]);
        check(&[7], 10, &[]);
    }

    #[test]
    fn names_are_cut_by_beginnings_that_are_about_a_range_each() {
        let check = |names: &[&str], within: &Within, want: &[&str]| {
            assert_eq!(beginnings(names, within, SCALE), want);
        };
        let many = |counts: &[(&'static str, usize)]| -> Vec<&'static str> {
            counts.iter().flat_map(|(name, n)| vec![*name; *n]).collect()
        };
        let all = Within::default();
        let names = many(&[("www.a", 8), ("www.b", 8), ("mail.c", 8), ("x", 8), ("y", 1)]);
        check(&names, &all, &["m", "www.a", "www.b", "x"]);
        // What goes on with a rare character stays together.
        check(&many(&[("a\"", 2), ("a\\", 2), ("aB", 2), ("aé", 30), ("A", 9)]), &all, &["aé"]);
        // And so does what would fall into bits.
        check(&many(&[("a\"", 9), ("a\\", 9), ("aB", 9), ("aé", 8), ("A", 9)]), &all, &["a"]);
        check(&many(&[("A", 50), ("\"", 50)]), &all, &[]);
        let within = Within {
            name_prefix: Some("ww".to_owned()),
            names_excluded: vec!["www.a".to_owned()],
            ..Within::default()
        };
        check(&names, &within, &["www"]);
        check(&[], &all, &[]);
        let long = "a".repeat(PREFIX_CHARS_MAX + 1);
        check(&[long.as_str(); 100], &all, &[&long[..PREFIX_CHARS_MAX]]);
    }

    #[test]
    fn no_range_leaves_out_more_beginnings_than_a_url_has_room_for() {
        let names: Vec<String> = (0..2000).map(|n| format!("{n:04}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let scale = Scale { n_assets: 1_000_000, n_seen: names.len(), assets_max: 100 };
        let check = |n_excluded: usize, want: usize| {
            let names_excluded = (0..n_excluded).map(|n| format!("x{n:02}")).collect();
            let within = Within { names_excluded, ..Within::default() };
            assert_eq!(beginnings(&names, &within, scale).len(), want, "{n_excluded}");
        };
        check(0, 38);
        check(20, 20);
        check(EXCLUDED_MAX, 0);
    }

    #[test]
    fn the_beginning_that_all_share_is_found() {
        let check = |names: &[&str], want: &str| assert_eq!(shared_beginning(names), want);
        check(&["https://a", "https://b"], "https://");
        check(&["same", "same"], "same");
        check(&["süß", "süd"], "sü");
        check(&["a\"b", "a\"b"], "a");
        check(&["a", "b"], "");
        check(&[], "");
    }

    #[test]
    fn pieces_have_room_to_be_larger_than_the_mean() {
        let check = |n_assets: u64, want: usize| assert_eq!(n_pieces(n_assets, 1000), want);
        check(1001, 2);
        check(1600, 2);
        check(1601, 3);
        check(80_000, 100);
        assert_eq!(n_pieces(u64::MAX, 0), usize::MAX);
    }
}
