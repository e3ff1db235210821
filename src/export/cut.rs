//! Cuts a kind with many assets into ranges that are small enough to read again.
//!
//! `cut by creation time -> where that ends, by the first letters of the name -> small enough`
//!
//! That happens in rounds, between which a long plan is written down. How one piece is cut is in
//! [`super::cutter`].
//!
//! # Invariants
//! - The pieces of a cut are disjoint and cover what was cut, assets that come later included, as far
//!   as the service reads the conditions as they are meant.
//! - A piece that is empty is not cut off: its neighbour keeps its place.

use futures::future;
use serde::{Deserialize, Serialize};
use tracing::debug;

use super::cutter::{By, CUTS_MAX, Cutter, Piece, Terms};
use crate::clock::Timestamp;
use crate::error::Result;
use crate::model::asset::KindCut;
use crate::model::plan::Within;

/// Most ranges of one kind. Beyond that they are not cut any further.
pub const RANGES_MAX: usize = 20_000;

/// Where the search for creation times begins: the service is younger. A range is open towards the
/// past all the same.
const SEARCH_FROM_MS: i64 = 1_262_304_000_000; // 2010-01-01T00:00:00Z

/// A kind that is being cut: what is small enough, and what is not yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Cutting {
    kind: KindCut,
    open: Vec<Piece>,
    ranges: Vec<Piece>,
}

impl Cutting {
    /// `n_assets` assets of `kind`, counted at `now`, of which nothing is cut yet.
    pub fn new(kind: KindCut, n_assets: u64, now: Timestamp) -> Self {
        let whole = Piece {
            within: Within::default(),
            n_assets,
            search_ms: (SEARCH_FROM_MS, now.unix_ms() + 1),
            n_cuts: 0,
            by: By::Sample,
        };
        Self { kind, open: vec![whole], ranges: Vec::new() }
    }

    /// Puts aside what is not cut any further: what has at most `assets_max` assets, and what was cut
    /// too often.
    pub fn sort_out(&mut self, assets_max: u64) {
        let has_room = self.ranges.len() + self.open.len() < RANGES_MAX;
        let is_final =
            |piece: &Piece| piece.n_assets <= assets_max || piece.n_cuts >= CUTS_MAX || !has_room;
        let (small, large) = std::mem::take(&mut self.open).into_iter().partition(is_final);
        self.open = large;
        self.ranges.extend::<Vec<Piece>>(small);
    }

    /// How many pieces are still to be cut.
    pub fn n_open(&self) -> usize {
        self.open.len()
    }

    /// Cuts up to `pieces_max` of what is open once.
    ///
    /// # Errors
    /// What the service finally failed with. Then nothing is changed.
    pub async fn round(&mut self, terms: Terms<'_>, pieces_max: usize) -> Result<()> {
        let cutter = Cutter { terms, kind: self.kind };
        let n_pieces = self.open.len().min(pieces_max);
        let cuts = self.open[..n_pieces].iter().map(|piece| cutter.cut(piece));
        let cuts = future::try_join_all(cuts).await?;
        let rest = self.open.split_off(n_pieces);
        for (piece, pieces) in std::mem::replace(&mut self.open, rest).into_iter().zip(cuts) {
            match pieces {
                Some(pieces) => self.open.extend(pieces),
                None => {
                    let Piece { n_assets, .. } = piece;
                    debug!("A range of {n_assets} {} assets cannot be cut", self.kind.as_str());
                    self.ranges.push(piece);
                }
            }
        }
        self.sort_out(terms.assets_max);
        Ok(())
    }

    /// The ranges that cover what was cut, with the assets counted in each.
    pub fn ranges(&self) -> impl Iterator<Item = (KindCut, Within, u64)> {
        let pieces = self.ranges.iter().chain(&self.open);
        pieces.map(|piece| (self.kind, piece.within.clone(), piece.n_assets))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use async_trait::async_trait;

    use super::*;
    use crate::error::Kind;
    use crate::export::sample::EXCLUDED_MAX;
    use crate::export::source::{Page, Query, Sampled, Source};
    use crate::model::asset::AssetKind;
    use crate::model::request::Request;

    /// An asset, as far as cuts can tell.
    #[derive(Debug, Clone)]
    struct Known {
        created_ms: Option<i64>,
        name: String,
    }

    /// How a service reads conditions otherwise than they are meant.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Quirk {
        None,
        /// It does not know `createdAt empty`.
        NoEmpty,
        /// It keeps microseconds: what was created within a cut's last millisecond is in neither half.
        Finer,
        /// It knows no creation time at all.
        NoTime,
        /// It knows neither creation time nor names.
        Nothing,
    }

    /// Which assets a service sends first.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum First {
        Any,
        Oldest,
        /// By name.
        Last,
        /// Any, but their times and names cannot be read.
        Unreadable,
        /// Any of the whole inventory, whatever is asked for.
        Others,
        /// None can be had.
        Nothing,
    }

    struct Inventory {
        assets: Vec<Known>,
        quirk: Quirk,
        first: First,
        /// Assets are added after so many counts.
        grows_after: u32,
        n_counts: AtomicU32,
        n_samples: AtomicU32,
    }

    impl Inventory {
        fn new(assets: Vec<Known>) -> Self {
            Self {
                assets,
                quirk: Quirk::None,
                first: First::Any,
                grows_after: u32::MAX,
                n_counts: AtomicU32::new(0),
                n_samples: AtomicU32::new(0),
            }
        }

        fn n_requests(&self) -> u32 {
            self.n_counts.load(Ordering::SeqCst) + self.n_samples.load(Ordering::SeqCst)
        }

        fn is_refused(&self, within: &Within) -> bool {
            let by_time = within.created_from.is_some()
                || within.created_before.is_some()
                || within.is_undated;
            let by_name = within.name_prefix.is_some() || !within.names_excluded.is_empty();
            match self.quirk {
                Quirk::None | Quirk::Finer => false,
                Quirk::NoEmpty => within.is_undated,
                Quirk::NoTime => by_time,
                Quirk::Nothing => by_time || by_name,
            }
        }

        fn matches(&self, asset: &Known, within: &Within) -> bool {
            let ms = |at: Option<Timestamp>| at.map(Timestamp::unix_ms);
            let from = ms(within.created_from).unwrap_or(i64::MIN);
            let before = ms(within.created_before).unwrap_or(i64::MAX);
            let is_bounded = within.created_from.is_some() || within.created_before.is_some();
            let is_within = match asset.created_ms {
                None => !is_bounded,
                Some(at) => {
                    let is_lost = self.quirk == Quirk::Finer && at == before - 1;
                    !within.is_undated && (from..before).contains(&at) && !is_lost
                }
            };
            let begins = |prefix: &String| asset.name.starts_with(prefix.as_str());
            is_within
                && within.name_prefix.as_ref().is_none_or(begins)
                && !within.names_excluded.iter().any(begins)
        }

        fn matching(&self, within: &Within) -> Vec<usize> {
            let all = self.assets.iter().enumerate();
            all.filter(|(_, asset)| self.matches(asset, within)).map(|(n, _)| n).collect()
        }
    }

    #[async_trait]
    impl Source for Inventory {
        async fn count(&self, query: &Query) -> Result<u64> {
            if self.is_refused(&query.within) {
                return Err(crate::error::Error::new(Kind::BadRequest, "count assets"));
            }
            let Within { created_from, created_before, names_excluded, .. } = &query.within;
            assert!(created_from.zip(*created_before).is_none_or(|(from, before)| from < before));
            assert!(names_excluded.len() <= EXCLUDED_MAX, "{names_excluded:?}");
            let n_counts = self.n_counts.fetch_add(1, Ordering::SeqCst);
            let n_new = u64::from(n_counts >= self.grows_after && query.within.is_all());
            Ok(self.matching(&query.within).len() as u64 + n_new)
        }

        async fn page(&self, _query: &Query, _cursor: Option<&str>, _size: u32) -> Result<Page> {
            unreachable!("planning only counts and samples")
        }

        async fn sample(&self, query: &Query, size: u32) -> Result<Vec<Sampled>> {
            if self.is_refused(&query.within) || self.first == First::Nothing {
                return Err(crate::error::Error::new(Kind::BadRequest, "sample assets"));
            }
            self.n_samples.fetch_add(1, Ordering::SeqCst);
            let is_any = self.first == First::Others;
            let within = if is_any { &Within::default() } else { &query.within };
            let matching = self.matching(within);
            let mut found: Vec<&Known> = matching.iter().map(|n| &self.assets[*n]).collect();
            match self.first {
                First::Oldest => found.sort_by_key(|asset| asset.created_ms),
                First::Last => found.sort_by_key(|asset| std::cmp::Reverse(&asset.name)),
                First::Any | First::Unreadable | First::Others | First::Nothing => {}
            }
            let is_read = self.first != First::Unreadable;
            let sampled = |asset: &&Known| Sampled {
                created_at: asset.created_ms.and_then(Timestamp::from_unix_ms).filter(|_| is_read),
                name: is_read.then(|| asset.name.clone()),
            };
            Ok(found.iter().take(size as usize).map(sampled).collect())
        }
    }

    /// An inventory made up by `seed`: bursts, old and future times, missing times, long names.
    fn inventory(seed: u64, quirk: Quirk) -> Inventory {
        let mut random = fastrand::Rng::with_seed(seed);
        let n_assets = random.usize(0..600);
        let bursts: Vec<i64> =
            (0..3).map(|_| random.i64(1_600_000_000_000..1_700_000_000_000)).collect();
        let grows_after = if random.bool() { random.u32(0..20) } else { u32::MAX };
        let assets = (0..n_assets).map(|_| {
            let created_ms = match random.u32(0..10) {
                0 if random.bool() => None,
                0 => Some(random.i64(-10_000_000_000..4_000_000_000_000)),
                1..=4 => Some(bursts[random.usize(0..3)]),
                _ => Some(random.i64(1_500_000_000_000..1_760_000_000_000)),
            };
            let letters = ["a", "b", "www.", "x-", "1", "ü", "Z", "https://"];
            let name = (0..random.usize(0..6)).map(|_| letters[random.usize(0..8)]).collect();
            Known { created_ms, name }
        });
        let assets = assets.collect();
        use First::{Any, Last, Nothing, Oldest, Others, Unreadable};
        let first = [Any, Oldest, Last, Unreadable, Others, Nothing][random.usize(0..6)];
        Inventory { quirk, first, grows_after, ..Inventory::new(assets) }
    }

    fn terms<'a>(source: &'a Inventory, request: &'a Request, assets_max: u64) -> Terms<'a> {
        Terms { source, request, assets_max, sample_size: Some(100) }
    }

    async fn ranges(inventory: &Inventory, assets_max: u64) -> Vec<(Within, u64)> {
        let request = Request::everything();
        let now = Timestamp::parse("2026-11-22T06:00:00Z").expect("a date");
        let kind = KindCut::Only(AssetKind::Host);
        let mut cutting = Cutting::new(kind, inventory.assets.len() as u64, now);
        cutting.sort_out(assets_max);
        while cutting.n_open() > 0 {
            // Half way it is written down and read again, as by another process.
            let text = serde_json::to_string(&cutting).expect("JSON");
            cutting = serde_json::from_str(&text).expect("what was written");
            cutting.round(terms(inventory, &request, assets_max), 3).await.expect("cut");
        }
        cutting.ranges().map(|(_, within, n_assets)| (within, n_assets)).collect()
    }

    /// Repeat one case with `SEED=17`.
    #[tokio::test]
    async fn ranges_are_disjoint_and_cover_everything_whatever_the_service_understands() {
        let seeds = match std::env::var("SEED") {
            Ok(seed) => {
                let seed = seed.parse().expect("a number");
                seed..seed + 1
            }
            Err(_) => 0..400,
        };
        for seed in seeds {
            use Quirk::{Finer, NoEmpty, NoTime, None, Nothing};
            for quirk in [None, NoEmpty, Finer, NoTime, Nothing] {
                let inventory = inventory(seed, quirk);
                let assets_max = 50;
                let mut found: Vec<usize> = Vec::new();
                for (within, _) in ranges(&inventory, assets_max).await {
                    found.extend(inventory.matching(&within));
                }
                found.sort_unstable();
                let all: Vec<usize> = (0..inventory.assets.len()).collect();
                assert_eq!(found, all, "SEED={seed} {quirk:?}");
            }
        }
    }

    #[tokio::test]
    async fn ranges_are_small_enough_where_times_differ() {
        // The first of them long before the service was there, or yet to come.
        for first_ms in [1_600_000_000_000, 1_000_000_000_000, 2_000_000_000_000] {
            let known = |n: i64| Known { created_ms: Some(first_ms + n * n), name: "a".to_owned() };
            let mut inventory = Inventory::new((0..10_000).map(known).collect());
            fastrand::Rng::with_seed(7).shuffle(&mut inventory.assets);
            let found = ranges(&inventory, 500).await;
            assert!(found.iter().all(|(_, n_assets)| *n_assets <= 500), "{first_ms}");
            assert!((20..=60).contains(&found.len()), "{} ranges", found.len());
            let n_requests = inventory.n_requests();
            assert!(n_requests < 3 * 60, "{n_requests} requests");
        }
    }

    #[tokio::test]
    async fn a_burst_that_a_sample_shows_is_cut_out_at_once() {
        let mut inventory = usual(1000);
        for (_, asset) in inventory.assets.iter_mut().enumerate().filter(|(n, _)| n % 10 > 0) {
            asset.created_ms = Some(1);
        }
        let now = Timestamp::parse("2026-11-22T06:00:00Z").expect("a date");
        let mut cutting = Cutting::new(KindCut::Only(AssetKind::Host), 1000, now);
        let request = Request::everything();
        cutting.round(terms(&inventory, &request, 400), 1).await.expect("cut");
        let at = Timestamp::from_unix_ms;
        let burst = cutting.ranges().find(|(_, within, _)| within.created_before == at(2));
        assert!(burst.expect("cut out").2 >= 900);
    }

    #[tokio::test]
    async fn assets_that_come_in_runs_of_a_minute_are_cut_run_by_run() {
        let mut random = fastrand::Rng::with_seed(7);
        let known = |n: i64| {
            let created_ms = 1_600_000_000_000 + n / 500 * 864_000_000 + random.i64(0..60_000);
            Known { created_ms: Some(created_ms), name: "a".to_owned() }
        };
        let mut inventory = Inventory::new((0..20_000).map(known).collect());
        random.shuffle(&mut inventory.assets);
        let found = ranges(&inventory, 400).await;
        assert!(found.iter().all(|(_, n_assets)| *n_assets <= 400), "{found:?}");
        let n_requests = inventory.n_requests();
        assert!(
            n_requests < 3 * u32::try_from(found.len()).expect("few ranges"),
            "{n_requests} for {}",
            found.len()
        );
    }

    #[tokio::test]
    async fn a_burst_of_equal_times_is_cut_by_name_and_stays_whole_where_names_are_equal_too() {
        let burst = |name: &dyn Fn(u32) -> String| {
            let at = Some(1_600_000_000_000);
            let assets = (0..1000).map(|n| Known { created_ms: at, name: name(n) });
            Inventory::new(assets.collect())
        };
        let found = ranges(&burst(&|n| format!("host-{n:04}")), 100).await;
        assert!(found.iter().all(|(_, n_assets)| *n_assets <= 100), "{found:?}");
        let found = ranges(&burst(&|_| "same".to_owned()), 100).await;
        assert!(found.iter().any(|(_, n_assets)| *n_assets == 1000), "{found:?}");
    }

    #[tokio::test]
    async fn what_was_counted_is_not_counted_again_unless_the_pieces_do_not_add_up() {
        let at = |n: i64| SEARCH_FROM_MS + n * 5_000_000_000;
        let known = |n| Known { created_ms: Some(at(n)), name: format!("a{n}") };
        let check = async |n_counted, want| {
            let mut inventory = Inventory::new((0..100).map(known).collect());
            inventory.first = First::Nothing;
            let now = Timestamp::parse("2026-11-22T06:00:00Z").expect("a date");
            let mut cutting = Cutting::new(KindCut::Only(AssetKind::Host), n_counted, now);
            let request = Request::everything();
            cutting.round(terms(&inventory, &request, 99), 1).await.expect("cut");
            assert_eq!(inventory.n_counts.load(Ordering::SeqCst), want);
            assert_eq!(cutting.n_open(), 0);
        };
        check(100, 2).await;
        // The pieces have one more than was counted: so has the whole, counted again.
        check(99, 3).await;
    }

    #[tokio::test]
    async fn what_no_usual_letter_begins_is_asked_about_once() {
        let name = |n: u32| format!("{}{}", if n.is_multiple_of(2) { 'a' } else { 'Z' }, n % 20);
        let assets = (0..1000).map(|n| Known { created_ms: None, name: name(n) });
        let inventory = Inventory { first: First::Nothing, ..Inventory::new(assets.collect()) };
        let found = ranges(&inventory, 400).await;
        let largest = found.iter().max_by_key(|(_, n_assets)| *n_assets).expect("ranges");
        assert_eq!(largest.0.names_excluded, ["a"]);
        // Twice all characters: to cut off what begins with a, and to cut that.
        let n_requests = inventory.n_requests();
        assert!(n_requests < 2 * 44 + 16, "{n_requests} requests");
    }

    #[tokio::test]
    async fn what_is_small_is_not_cut_and_not_asked_about() {
        let inventory = inventory(3, Quirk::None);
        let found = ranges(&inventory, 10_000).await;
        assert_eq!(found, [(Within::default(), inventory.assets.len() as u64)]);
        assert_eq!(inventory.n_requests(), 0);
    }

    /// Most created over three years, a fifth at one moment, with names of two beginnings.
    fn usual(n_assets: i64) -> Inventory {
        let mut random = fastrand::Rng::with_seed(7);
        let labels = ["www", "mail", "shop", "api", "vpn", "dev", "static", "intranet"];
        let known = |n| {
            let spread_ms = 1_670_000_000_000 + random.i64(0..94_608_000_000);
            let created_ms = if random.u8(0..5) == 0 { 1_700_000_000_000 } else { spread_ms };
            let begin = ["https://", "https://", "http://"][random.usize(0..3)];
            let name = format!("{begin}{}.{n}.example", labels[random.usize(0..8)]);
            Known { created_ms: Some(created_ms), name }
        };
        Inventory::new((0..n_assets).map(known).collect())
    }

    #[tokio::test]
    async fn a_usual_inventory_takes_less_than_one_and_a_half_requests_a_range() {
        let inventory = usual(20_000);
        let found = ranges(&inventory, 400).await;
        assert!(found.iter().all(|(_, n_assets)| *n_assets <= 400), "{found:?}");
        let n_requests = inventory.n_requests();
        assert!(
            2 * n_requests < 3 * u32::try_from(found.len()).expect("few ranges"),
            "{n_requests} for {}",
            found.len()
        );
    }

    #[tokio::test]
    async fn what_has_no_creation_date_is_a_range_and_costs_no_more_than_that() {
        let mut inventory = usual(20_000);
        inventory.assets[19_980..].iter_mut().for_each(|asset| asset.created_ms = None);
        let found = ranges(&inventory, 400).await;
        assert_eq!(found.iter().filter(|(within, _)| within.is_undated).count(), 1);
        let n_requests = inventory.n_requests();
        assert!(
            2 * n_requests < 3 * u32::try_from(found.len()).expect("few ranges"),
            "{n_requests} for {}",
            found.len()
        );
    }

    #[tokio::test]
    async fn a_sample_that_misleads_costs_requests_and_nothing_else() {
        let check = async |first, times_max| {
            let inventory = Inventory { first, ..usual(20_000) };
            let found = ranges(&inventory, 400).await;
            assert!(found.iter().all(|(_, n_assets)| *n_assets <= 400), "{first:?} {found:?}");
            let (n_requests, n_ranges) =
                (inventory.n_requests(), u32::try_from(found.len()).expect("few ranges"));
            assert!(n_requests < times_max * n_ranges, "{first:?}: {n_requests} for {n_ranges}");
        };
        check(First::Oldest, 2).await;
        check(First::Others, 2).await;
        check(First::Last, 12).await;
        check(First::Unreadable, 12).await;
        check(First::Nothing, 12).await;
    }
}
