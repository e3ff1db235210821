//! The plan of a run: its ranges, dealt into shards.

use serde::{Deserialize, Serialize};

use super::asset::KindCut;
use super::request::Request;
use super::run::RunId;
use crate::clock::Timestamp;

/// What of a kind a range covers: all of it, or what was created in a span of time, or what is named
/// so. All conditions hold together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Within {
    /// Created then or later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_from: Option<Timestamp>,
    /// Created before that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_before: Option<Timestamp>,
    /// Without a creation time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_undated: bool,
    /// The name begins so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name_prefix: Option<String>,
    /// The name begins with none of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names_excluded: Vec<String>,
}

impl Within {
    /// Whether it is all of the kind.
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }
}

/// A cut of the inventory. Ranges of a run never overlap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Range {
    /// Number of the range within its run.
    pub id: u32,
    /// The kind it covers.
    pub kind: KindCut,
    /// What of the kind it covers.
    #[serde(default, skip_serializing_if = "Within::is_all")]
    pub within: Within,
    /// Assets the service counted in it when the run was planned.
    pub expected: u64,
    /// Most assets to take from it: its share of `maxAssets`. Absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<u64>,
}

/// A fixed share of a run's ranges, read with one cursor at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Shard {
    /// Number of the shard within its run.
    pub shard: u32,
    /// Its ranges, in the order they are read.
    pub ranges: Vec<Range>,
}

/// `plan.json`: written once, before anything is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// Version of this document.
    pub schema_version: u32,
    /// Id of the run.
    pub run_id: RunId,
    /// What the run is asked for.
    pub request: Request,
    /// When the service was asked for its counts.
    pub counted_at: Timestamp,
    /// Assets the service counted, over all ranges.
    pub expected: u64,
    /// The shards, each with its ranges.
    pub shards: Vec<Shard>,
}

impl Plan {
    /// Every range of the run, shard by shard.
    pub fn ranges(&self) -> impl Iterator<Item = &Range> {
        self.shards.iter().flat_map(|shard| &shard.ranges)
    }

    /// Whether `maxAssets` cuts something off.
    pub fn is_limited(&self) -> bool {
        self.ranges().any(|range| range.quota.is_some_and(|quota| quota < range.expected))
    }
}

/// Deals `ranges` to at most `n_shards` shards: the largest first, each to the lightest.
pub fn deal(mut ranges: Vec<Range>, n_shards: u32) -> Vec<Shard> {
    ranges.sort_by_key(|range| (std::cmp::Reverse(range.expected), range.id));
    let n_shards = n_shards.min(u32::try_from(ranges.len()).unwrap_or(u32::MAX));
    let mut shards: Vec<Shard> =
        (0..n_shards).map(|shard| Shard { shard, ranges: Vec::new() }).collect();
    let mut weights = vec![0_u64; shards.len()];
    for range in ranges {
        let of_shards = weights.iter_mut().zip(&mut shards);
        let lightest = of_shards.min_by_key(|(weight, shard)| (**weight, shard.ranges.len()));
        let (weight, shard) = lightest.expect("a shard for every range, up to n_shards");
        *weight += range.expected;
        shard.ranges.push(range);
    }
    shards
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::asset::AssetKind;

    fn ranges(sizes: &[u64]) -> Vec<Range> {
        let kind = KindCut::Only(AssetKind::Host);
        let ids = 0..;
        ids.zip(sizes)
            .map(|(id, &expected)| Range {
                id,
                kind,
                within: Within::default(),
                expected,
                quota: None,
            })
            .collect()
    }

    #[test]
    fn ranges_are_dealt_largest_first_to_the_lightest_shard() {
        let check = |sizes: &[u64], n_shards: u32, want: &[u64]| {
            let weights: Vec<u64> = deal(ranges(sizes), n_shards)
                .iter()
                .map(|shard| shard.ranges.iter().map(|range| range.expected).sum())
                .collect();
            assert_eq!(weights, want, "{sizes:?}");
        };
        check(&[], 8, &[]);
        check(&[0], 8, &[0]);
        check(&[5, 1, 4, 2], 2, &[6, 6]);
        check(&[5, 1, 4, 2], 8, &[5, 4, 2, 1]);
        check(&[0, 0, 0], 2, &[0, 0]);
    }
}
