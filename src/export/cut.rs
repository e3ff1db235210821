//! Cuts a kind with many assets into ranges that are small enough to read again.
//!
//! `cut by creation time -> where that ends, by the first letters of the name -> small enough`
//!
//! That happens in rounds, between which a long plan is written down.
//!
//! Creation time and name never change for an asset, so ranges stay disjoint while the inventory
//! moves. How the service reads a condition is not taken on trust: a cut is used only if its pieces
//! add up to what it was cut from, counted before and after. Else it is made another way, and if no
//! way is left, the range stays as it is. What was cut was counted when it was cut off itself, so it is
//! counted again only if its pieces do not add up to that.
//!
//! # Invariants
//! - The pieces of a cut are disjoint and cover what was cut, assets that come later included, as far
//!   as the service reads the conditions as they are meant.
//! - A piece that is empty is not cut off: its neighbour keeps its place.

use futures::future;
use serde::{Deserialize, Serialize};
use tracing::debug;

use super::plan::query;
use super::source::Source;
use crate::clock::Timestamp;
use crate::error::{Kind, Result};
use crate::model::asset::KindCut;
use crate::model::plan::Within;
use crate::model::request::Request;

/// How often the pieces of a cut are counted before another way is tried: an inventory that moves
/// between two counts does not do so twice.
const CHECKS_MAX: u32 = 2;

/// Spans that a cut by creation time makes. So many requests are on their way at once by default.
const SPANS: i64 = 8;

/// Most cuts on the way to one range. Thirty years are cut to a millisecond in fourteen.
const CUTS_MAX: u32 = 64;

/// How names of assets usually begin, the longest first: a beginning that all share need not be found
/// character by character.
const USUAL_BEGINNINGS: [&str; 4] = ["https://www.", "https://", "http://", "www."];

/// Most ranges of one kind. Beyond that they are not cut any further.
pub const RANGES_MAX: usize = 20_000;

/// Longest beginning of a name by which ranges are cut.
const PREFIX_CHARS_MAX: usize = 24;

/// Where the search for creation times begins: the service is younger. A range is open towards the
/// past all the same.
const SEARCH_FROM_MS: i64 = 1_262_304_000_000; // 2010-01-01T00:00:00Z

/// Characters that names of assets are made of, but for rare ones, which stay together.
const NAME_CHARS: &str = "abcdefghijklmnopqrstuvwxyz0123456789-._:/$*@";

/// A range in the making.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Piece {
    within: Within,
    n_assets: u64,
    /// Where creation times are looked for, from and before, in milliseconds.
    search_ms: (i64, i64),
    n_cuts: u32,
}

/// What became of a try to cut.
enum Attempt {
    /// Pieces that add up.
    Cut(Vec<Piece>),
    /// They do not add up, or cannot be asked for.
    Refused,
}

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
    pub async fn round(
        &mut self,
        source: &dyn Source,
        request: &Request,
        assets_max: u64,
        pieces_max: usize,
    ) -> Result<()> {
        let cutter = Cutter { source, request, kind: self.kind, assets_max };
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
        self.sort_out(assets_max);
        Ok(())
    }

    /// The ranges that cover what was cut, with the assets counted in each.
    pub fn ranges(&self) -> impl Iterator<Item = (KindCut, Within, u64)> {
        let pieces = self.ranges.iter().chain(&self.open);
        pieces.map(|piece| (self.kind, piece.within.clone(), piece.n_assets))
    }
}

struct Cutter<'a> {
    source: &'a dyn Source,
    request: &'a Request,
    kind: KindCut,
    assets_max: u64,
}

impl Cutter<'_> {
    /// `piece` cut into smaller ones, or into one that knows better where to look. `None`: it cannot
    /// be cut.
    async fn cut(&self, piece: &Piece) -> Result<Option<Vec<Piece>>> {
        if piece.within.name_prefix.is_none()
            && !piece.within.is_undated
            && piece.search_ms.1 - piece.search_ms.0 > 1
            && let Attempt::Cut(pieces) = self.by_time(piece).await?
        {
            return Ok(Some(pieces));
        }
        match self.by_name(piece).await? {
            Attempt::Cut(pieces) => Ok(Some(pieces)),
            Attempt::Refused => Ok(None),
        }
    }

    /// Cuts where creation times are looked for into [`SPANS`] spans of equal length, and puts together
    /// again what is small.
    async fn by_time(&self, piece: &Piece) -> Result<Attempt> {
        let (from_ms, before_ms) = piece.search_ms;
        let width_ms = ((before_ms - from_ms + SPANS - 1) / SPANS).max(1);
        let edges_ms: Vec<i64> = (1..SPANS)
            .map(|n| from_ms + n * width_ms)
            .take_while(|edge_ms| *edge_ms < before_ms)
            .collect();
        let edges: Option<Vec<Timestamp>> =
            edges_ms.iter().map(|edge_ms| Timestamp::from_unix_ms(*edge_ms)).collect();
        let Some(edges) = edges else { return Ok(Attempt::Refused) };
        let Within { created_from, created_before, .. } = piece.within;
        let from = std::iter::once(created_from).chain(edges.iter().copied().map(Some));
        let before = edges.iter().copied().map(Some).chain(std::iter::once(created_before));
        let mut withins: Vec<Within> = from
            .zip(before)
            .map(|(created_from, created_before)| Within {
                created_from,
                created_before,
                ..Within::default()
            })
            .collect();
        let n_spans = withins.len();
        let mut counts = self.checked(piece, &withins, None).await?;
        if counts.is_none() && piece.within.is_all() {
            // Assets may lack a creation date.
            withins.push(Within { is_undated: true, ..Within::default() });
            counts = self.checked(piece, &withins, None).await?;
        }
        let Some(counts) = counts else { return Ok(Attempt::Refused) };
        let starts_ms = std::iter::once(from_ms).chain(edges_ms.iter().copied());
        let ends_ms = edges_ms.iter().copied().chain(std::iter::once(before_ms));
        let searches = starts_ms.zip(ends_ms).chain(std::iter::once(piece.search_ms));
        let mut pieces: Vec<Piece> = withins
            .into_iter()
            .zip(counts)
            .zip(searches)
            .map(|((within, n_assets), search_ms)| Piece {
                within,
                n_assets,
                search_ms,
                n_cuts: piece.n_cuts + 1,
            })
            .collect();
        let undated = pieces.split_off(n_spans);
        let joined = self.joined(pieces.clone());
        // A range that is open at both ends would hold what is undated too.
        let mut pieces = if joined.len() == 1 && !undated.is_empty() { pieces } else { joined };
        pieces.extend(undated);
        Ok(Attempt::Cut(pieces))
    }

    /// `spans`, which follow one another, put together where that is small enough. One that is empty
    /// goes with its neighbour.
    fn joined(&self, spans: Vec<Piece>) -> Vec<Piece> {
        let mut pieces: Vec<Piece> = Vec::new();
        for span in spans {
            match pieces.last_mut() {
                Some(last)
                    if last.n_assets == 0
                        || span.n_assets == 0
                        || last.n_assets + span.n_assets <= self.assets_max =>
                {
                    last.within.created_before = span.within.created_before;
                    last.n_assets += span.n_assets;
                    if span.n_assets > 0 {
                        last.search_ms = span.search_ms;
                    }
                }
                _ => pieces.push(span),
            }
        }
        pieces
    }

    /// The beginning that all names of `piece` share, of those that are usual.
    async fn common_beginning(&self, piece: &Piece) -> Result<Option<&'static str>> {
        let with = |prefix: &&str| Within {
            name_prefix: Some((*prefix).to_owned()),
            ..piece.within.clone()
        };
        let withins: Vec<Within> = USUAL_BEGINNINGS.iter().map(with).collect();
        let counts = self.counted(&withins).await?.unwrap_or_default();
        let mut shared = USUAL_BEGINNINGS.iter().zip(counts);
        let all = shared.find(|(_, n_assets)| *n_assets == piece.n_assets);
        Ok(all.map(|(beginning, _)| *beginning))
    }

    /// Cuts `piece` by the next character of its names; what begins with another one stays together.
    async fn by_name(&self, piece: &Piece) -> Result<Attempt> {
        let begin = match &piece.within.name_prefix {
            Some(prefix) => prefix.clone(),
            None => self.common_beginning(piece).await?.unwrap_or_default().to_owned(),
        };
        if !piece.within.names_excluded.is_empty() || begin.len() >= PREFIX_CHARS_MAX {
            return Ok(Attempt::Refused);
        }
        let with =
            |c: char| Within { name_prefix: Some(format!("{begin}{c}")), ..piece.within.clone() };
        let withins: Vec<Within> = NAME_CHARS.chars().map(with).collect();
        let Some(counts) = self.counted(&withins).await? else { return Ok(Attempt::Refused) };
        let (mut withins, mut counts): (Vec<Within>, Vec<u64>) =
            withins.into_iter().zip(counts).filter(|(_, n_assets)| *n_assets > 0).unzip();
        let names_excluded = withins.iter().filter_map(|within| within.name_prefix.clone());
        let rest = Within { names_excluded: names_excluded.collect(), ..piece.within.clone() };
        if withins.is_empty() {
            return Ok(Attempt::Refused);
        }
        let Some(n_rest) = self.counted(std::slice::from_ref(&rest)).await? else {
            return Ok(Attempt::Refused);
        };
        withins.push(rest);
        counts.extend(n_rest);
        let Some(counts) = self.checked(piece, &withins, Some(counts)).await? else {
            return Ok(Attempt::Refused);
        };
        let pieces = withins.into_iter().zip(counts).map(|(within, n_assets)| Piece {
            within,
            n_assets,
            search_ms: piece.search_ms,
            n_cuts: piece.n_cuts + 1,
        });
        Ok(Attempt::Cut(pieces.collect()))
    }

    /// Counts of `pieces`, if together they lie between two counts of the whole, one before and one
    /// after. `counted` are their counts if they were counted already.
    ///
    /// `whole` was counted when it was cut off itself, and only if the pieces do not add up to that has
    /// it to be counted again.
    async fn checked(
        &self,
        whole: &Piece,
        pieces: &[Within],
        mut counted: Option<Vec<u64>>,
    ) -> Result<Option<Vec<u64>>> {
        let mut before = whole.n_assets;
        for n_checks in 1..=CHECKS_MAX {
            let counts = match counted.take() {
                Some(counts) => counts,
                None => match self.counted(pieces).await? {
                    Some(counts) => counts,
                    None => return Ok(None),
                },
            };
            let sum: u64 = counts.iter().sum();
            if sum == before {
                return Ok(Some(counts));
            }
            let after = self.count(&whole.within).await?;
            if (before.min(after)..=before.max(after)).contains(&sum) {
                return Ok(Some(counts));
            }
            if n_checks < CHECKS_MAX {
                before = self.count(&whole.within).await?;
            }
        }
        Ok(None)
    }

    /// Counts of `pieces`. `None`: the service does not understand one of them.
    async fn counted(&self, pieces: &[Within]) -> Result<Option<Vec<u64>>> {
        match future::try_join_all(pieces.iter().map(|within| self.count(within))).await {
            Ok(counts) => Ok(Some(counts)),
            Err(err) if err.kind() == Kind::BadRequest => {
                debug!("A range is cut another way: {err}");
                Ok(None)
            }
            Err(err) => Err(err),
        }
    }

    async fn count(&self, within: &Within) -> Result<u64> {
        self.source.count(&query(self.request, self.kind, within)).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use async_trait::async_trait;

    use super::*;
    use crate::export::source::{Page, Query};
    use crate::model::asset::AssetKind;

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

    struct Inventory {
        assets: Vec<Known>,
        quirk: Quirk,
        /// Assets are added after so many counts.
        grows_after: u32,
        n_counts: AtomicU32,
    }

    impl Inventory {
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
            let Within { created_from, created_before, is_undated, name_prefix, names_excluded } =
                &query.within;
            let by_time = created_from.is_some() || created_before.is_some() || *is_undated;
            let by_name = name_prefix.is_some() || !names_excluded.is_empty();
            let is_refused = match self.quirk {
                Quirk::None | Quirk::Finer => false,
                Quirk::NoEmpty => *is_undated,
                Quirk::NoTime => by_time,
                Quirk::Nothing => by_time || by_name,
            };
            if is_refused {
                return Err(crate::error::Error::new(Kind::BadRequest, "count assets"));
            }
            let n_counts = self.n_counts.fetch_add(1, Ordering::SeqCst);
            let n_new = u64::from(n_counts >= self.grows_after && query.within.is_all());
            Ok(self.matching(&query.within).len() as u64 + n_new)
        }

        async fn page(&self, _query: &Query, _cursor: Option<&str>, _size: u32) -> Result<Page> {
            unreachable!("planning only counts")
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
        Inventory { assets: assets.collect(), quirk, grows_after, n_counts: AtomicU32::new(0) }
    }

    async fn ranges(inventory: &Inventory, assets_max: u64) -> Vec<(Within, u64)> {
        let now = Timestamp::parse("2026-11-22T06:00:00Z").expect("a date");
        let kind = KindCut::Only(AssetKind::Host);
        let mut cutting = Cutting::new(kind, inventory.assets.len() as u64, now);
        cutting.sort_out(assets_max);
        while cutting.n_open() > 0 {
            // Half way it is written down and read again, as by another process.
            let text = serde_json::to_string(&cutting).expect("JSON");
            cutting = serde_json::from_str(&text).expect("what was written");
            cutting.round(inventory, &Request::everything(), assets_max, 3).await.expect("cut");
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
        let assets = (0..10_000_i64)
            .map(|n| Known { created_ms: Some(1_600_000_000_000 + n * n), name: "a".to_owned() });
        let assets: Vec<Known> = assets.collect();
        let n_counts = AtomicU32::new(0);
        let inventory = Inventory { assets, quirk: Quirk::None, grows_after: u32::MAX, n_counts };
        let found = ranges(&inventory, 500).await;
        assert!(found.iter().all(|(_, n_assets)| *n_assets <= 500));
        assert!((20..=60).contains(&found.len()), "{} ranges", found.len());
        let n_counts = inventory.n_counts.load(Ordering::SeqCst);
        assert!(n_counts < 10 * 60, "{n_counts} requests");
    }

    #[tokio::test]
    async fn a_burst_of_equal_times_is_cut_by_name_and_stays_whole_where_names_are_equal_too() {
        let burst = |name: &dyn Fn(u32) -> String| {
            let at = Some(1_600_000_000_000);
            let assets = (0..1000).map(|n| Known { created_ms: at, name: name(n) }).collect();
            let n_counts = AtomicU32::new(0);
            Inventory { assets, quirk: Quirk::None, grows_after: u32::MAX, n_counts }
        };
        let found = ranges(&burst(&|n| format!("host-{n:04}")), 100).await;
        assert!(found.iter().all(|(_, n_assets)| *n_assets <= 100), "{found:?}");
        let found = ranges(&burst(&|_| "same".to_owned()), 100).await;
        assert!(found.iter().any(|(_, n_assets)| *n_assets == 1000), "{found:?}");
    }

    #[tokio::test]
    async fn what_was_counted_is_not_counted_again_unless_the_pieces_do_not_add_up() {
        let at = |n: i64| 1_600_000_000_000 + n * 1_000_000_000;
        let known = |n| Known { created_ms: Some(at(n)), name: format!("a{n}") };
        let check = async |n_counted, want| {
            let n_counts = AtomicU32::new(0);
            let (assets, grows_after) = ((0..100).map(known).collect(), u32::MAX);
            let inventory = Inventory { assets, quirk: Quirk::None, grows_after, n_counts };
            let now = Timestamp::parse("2026-11-22T06:00:00Z").expect("a date");
            let mut cutting = Cutting::new(KindCut::Only(AssetKind::Host), n_counted, now);
            cutting.round(&inventory, &Request::everything(), 99, 1).await.expect("cut");
            assert_eq!(inventory.n_counts.load(Ordering::SeqCst), want);
            assert_eq!(cutting.n_open(), 0);
        };
        check(100, 8).await;
        // The pieces have one more or one fewer: so does the whole, counted again.
        check(99, 9).await;
        check(101, 9).await;
    }

    #[tokio::test]
    async fn what_is_small_is_not_cut_and_not_asked_about() {
        let inventory = inventory(3, Quirk::None);
        let found = ranges(&inventory, 10_000).await;
        assert_eq!(found, [(Within::default(), inventory.assets.len() as u64)]);
        assert_eq!(inventory.n_counts.load(Ordering::SeqCst), 0);
    }
}
