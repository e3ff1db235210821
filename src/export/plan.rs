//! Makes the plan of a run: counts per kind, ranges, shards.

use std::collections::BTreeMap;

use futures::future;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing::info;

use super::books::Books;
use super::cut::Cutting;
use super::cutter::Terms;
use super::slice::Slice;
use super::source::{Cut, Query, Source};
use super::{Job, World};
use crate::clock::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::model::SCHEMA_VERSION;
use crate::model::asset::KindCut;
use crate::model::plan::{Plan, Range, Within, deal};
use crate::model::request::{Dataset, Request};
use crate::model::run::RunDocument;
use crate::store;

/// What the service counts for a request, kind by kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Census {
    /// Assets in all.
    pub total: u64,
    /// Assets of each kind asked for, and of kinds that are new, if there are any.
    pub by_kind: Vec<(KindCut, u64)>,
}

impl Census {
    /// What a dry run of `request` says of it.
    pub fn report(&self, request: &Request) -> CensusReport {
        let wanted = request.max_assets.unwrap_or(u64::MAX);
        let by_kind = self.by_kind.iter().map(|(cut, n_assets)| (cut.as_str(), *n_assets));
        let counts = CensusCounts { expected: self.total.min(wanted), by_kind: by_kind.collect() };
        CensusReport { counts: BTreeMap::from([(Dataset::Assets.as_str(), counts)]) }
    }
}

/// What a dry run answers (contract, section 4).
#[derive(Debug, Serialize, JsonSchema)]
pub struct CensusReport {
    /// By dataset.
    pub counts: BTreeMap<&'static str, CensusCounts>,
}

/// What a dry run counted of one dataset.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CensusCounts {
    /// What an export would bring.
    pub expected: u64,
    /// What there is of each kind, whatever `maxAssets` says.
    pub by_kind: BTreeMap<&'static str, u64>,
}

/// How often a census is taken while its counts contradict each other. An inventory that moves
/// between two counts does not do so three times in a row.
const CENSUSES_MAX: u32 = 3;

/// Counts what `request` asks for, without regard to `maxAssets`.
///
/// The kinds' counts are held against the count of the whole. When all kinds are asked for, what is of
/// none of them is counted as one more: that the kinds add up to the whole says nothing about it while
/// the inventory moves.
///
/// # Errors
/// What the service finally failed with; [`Kind::BadRequest`] if the parts add up to more than the
/// whole, again and again: reading them would double assets.
pub async fn census(source: &dyn Source, request: &Request) -> Result<Census> {
    let everything = whole(request);
    let count_cut = |cut| async move {
        Ok((cut, source.count(&query(request, cut, &Within::default())).await?))
    };
    let mut n_censuses = 0;
    loop {
        n_censuses += 1;
        let of_kinds = request.kinds.iter().map(|kind| count_cut(KindCut::Only(*kind)));
        let of_kinds = future::try_join_all(of_kinds);
        let of_others = async {
            let is_asked = request.wants_all_kinds();
            Ok(if is_asked { Some(count_cut(KindCut::Other).await) } else { None })
        };
        let counts = future::try_join3(source.count(&everything), of_kinds, of_others);
        let (before, mut by_kind, others): (_, Vec<(KindCut, u64)>, _) = counts.await?;
        let known: u64 = by_kind.iter().map(|(_, n)| n).sum();
        let others = match others {
            // The service does not know how to ask for it, and nothing is left for it.
            Some(Err(err)) if err.kind() == Kind::BadRequest && known == before => None,
            others => others.transpose()?.filter(|(_, n)| *n > 0),
        };
        let parts = known + others.map_or(0, |(_, n)| n);
        // More than the whole: either it grew meanwhile, or the parts overlap.
        let after = if parts > before { source.count(&everything).await? } else { before };
        let is_last = n_censuses == CENSUSES_MAX;
        let adds_up = parts <= after;
        // It takes what is of no known kind for everything.
        let is_misread = is_last && (known == before || known == after);
        if adds_up || is_misread {
            by_kind.extend(others.filter(|_| adds_up));
            return Ok(Census { total: after, by_kind });
        }
        if is_last {
            return Err(Error::new(Kind::BadRequest, "count assets")
                .because(format!(
                    "the kinds add up to {parts} assets, but the whole is {after}: the service \
                     does not narrow the filter by kind"
                ))
                .advise("write the filter without OR, for example with in (...)"));
        }
    }
}

/// Counts what `request` asks for in as few requests as possible.
///
/// # Errors
/// What the service finally failed with.
pub async fn total(source: &dyn Source, request: &Request) -> Result<u64> {
    source.count(&whole(request)).await
}

/// The query for all that `request` asks for.
pub fn whole(request: &Request) -> Query {
    Query {
        filter: request.filter.clone(),
        cut: Cut::AnyOf(request.kinds.clone()),
        within: Within::default(),
    }
}

/// The query for what `request` asks for of `kind` and `within`.
pub fn query(request: &Request, kind: KindCut, within: &Within) -> Query {
    Query { filter: request.filter.clone(), cut: Cut::One(kind), within: within.clone() }
}

/// The query for what `request` asks for within `range`.
pub fn query_of(request: &Request, range: &Range) -> Query {
    query(request, range.kind, &range.within)
}

/// A plan in the making: `plan.partial.json`, so that a long one survives whoever makes it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Draft {
    schema_version: u32,
    counted_at: Timestamp,
    expected: u64,
    /// Pieces that are cut at once. Halved when that was too much for one slice.
    pieces_a_round: usize,
    kinds: Vec<Cutting>,
}

/// Pieces that are cut at once at first. Each takes about ten requests.
const PIECES_A_ROUND: usize = 32;

impl Draft {
    /// Counts what is asked for; nothing is cut yet.
    ///
    /// # Errors
    /// What the service finally failed with.
    pub async fn begin(world: &World, job: &Job, request: &Request) -> Result<Self> {
        let counted_at = world.clock.now();
        let census = census(world.source.as_ref(), request).await?;
        let counted = census.by_kind.iter().filter(|(_, n_assets)| *n_assets > 0);
        let mut kinds: Vec<Cutting> =
            counted.map(|(kind, n_assets)| Cutting::new(*kind, *n_assets, counted_at)).collect();
        kinds.iter_mut().for_each(|cutting| cutting.sort_out(job.range_assets_max));
        Ok(Self {
            schema_version: SCHEMA_VERSION,
            counted_at,
            expected: census.total,
            pieces_a_round: PIECES_A_ROUND,
            kinds,
        })
    }

    /// Whether nothing is to be cut any more.
    pub fn is_done(&self) -> bool {
        self.kinds.iter().all(|cutting| cutting.n_open() == 0)
    }

    /// Cuts some of what is too large once.
    ///
    /// # Errors
    /// What the service finally failed with.
    pub async fn round(&mut self, world: &World, job: &Job, request: &Request) -> Result<()> {
        let terms = Terms {
            source: world.source.as_ref(),
            request,
            assets_max: job.range_assets_max,
            // Where less has to be done at once, counts are the least that can be asked for.
            sample_size: (self.pieces_a_round == PIECES_A_ROUND).then_some(job.page_size),
        };
        let mut left = self.pieces_a_round;
        let rounds = self.kinds.iter_mut().filter_map(|cutting| {
            let n_pieces = cutting.n_open().min(left);
            left -= n_pieces;
            (n_pieces > 0).then(|| cutting.round(terms, n_pieces))
        });
        future::try_join_all(rounds.collect::<Vec<_>>()).await.map(drop)
    }

    /// The ranges, as far as they are cut, numbered. `maxAssets` is shared out among them.
    pub fn ranges(&self, request: &Request) -> Vec<Range> {
        number(self.kinds.iter().flat_map(Cutting::ranges).collect(), request.max_assets)
    }

    /// What the service counted.
    pub fn expected(&self) -> u64 {
        self.expected
    }
}

/// Numbers the ranges, and shares `max_assets` out among them in proportion.
fn number(counted: Vec<(KindCut, Within, u64)>, max_assets: Option<u64>) -> Vec<Range> {
    let n_counted: u64 = counted.iter().map(|(_, _, n)| n).sum();
    let mut left = max_assets;
    let mut n_behind = n_counted;
    let ids = 0..;
    ids.zip(counted)
        .map(|(id, (kind, within, expected))| {
            // What is left of the limit, shared with those that come behind: the last one gets the
            // rest, so the quotas add up to the limit exactly. One that cuts nothing off now may do so
            // when the inventory grows.
            let quota = left.map(|left| share(left, expected, n_behind));
            left = left.zip(quota).map(|(left, quota)| left - quota);
            n_behind -= expected;
            Range { id, kind, within, expected, quota }
        })
        .filter(|range| range.quota != Some(0))
        .collect()
}

/// `left * part / whole`, rounded up, without overflow.
fn share(left: u64, part: u64, whole: u64) -> u64 {
    let share = (u128::from(left) * u128::from(part)).div_ceil(u128::from(whole.max(1)));
    u64::try_from(share).unwrap_or(u64::MAX).min(left)
}

/// The plan of `run`, made unless it exists. `None`: the slice was over first; what was done is saved.
///
/// # Errors
/// What the service or the store failed with; [`Kind::Conflict`] if somebody else makes the plan;
/// [`Kind::Unavailable`] if the slice was over before anything was done.
pub(super) async fn make(
    world: &World,
    job: &Job,
    books: &Books,
    run: &RunDocument,
    slice: &Slice,
) -> Result<Option<Plan>> {
    let (id, request) = (&run.run_id, &run.request);
    if let Some(plan) = books.plan(id).await? {
        return Ok(Some(plan));
    }
    let (store, path) = (books.store.as_ref(), books.layout.partial_plan(id));
    let (mut draft, mut tag) = match books.read::<Draft>(&path).await? {
        Some((draft, tag)) => (draft, Some(tag)),
        None => match slice.bound(Draft::begin(world, job, request)).await {
            Some(draft) => (draft?, None),
            None if slice.is_stopped() => return Ok(None),
            None => return Err(out_of_time()),
        },
    };
    let mut n_rounds = 0;
    while !draft.is_done() {
        let mut next = draft.clone();
        let is_cut = match slice.bound(next.round(world, job, request)).await {
            Some(cut) => cut.map(|()| true)?,
            None => false,
        };
        match is_cut {
            true => draft = next,
            false if n_rounds > 0 || slice.is_stopped() => return Ok(None),
            // The next step is smaller.
            false => draft.pieces_a_round = (draft.pieces_a_round / 2).max(1),
        }
        tag = Some(match &tag {
            Some(tag) => store::replace(store, &path, &draft, tag).await?,
            None => store::create(store, &path, &draft).await?,
        });
        if !is_cut {
            return Err(out_of_time());
        }
        n_rounds += 1;
    }
    let plan = Plan {
        schema_version: SCHEMA_VERSION,
        run_id: id.clone(),
        request: request.clone(),
        counted_at: draft.counted_at,
        expected: draft.expected,
        shards: deal(draft.ranges(request), job.shards),
    };
    match store::create(store, &books.layout.plan(id), &plan).await {
        // Somebody else was first: theirs is the plan.
        Err(err) if err.kind() == Kind::Conflict => return books.plan(id).await,
        created => created.map(drop)?,
    }
    info!(
        run.id = %id,
        expected = plan.expected,
        shards = plan.shards.len(),
        "Planned run {id}: {} assets in {} ranges and {} shards",
        plan.expected,
        plan.ranges().count(),
        plan.shards.len()
    );
    Ok(Some(plan))
}

fn out_of_time() -> Error {
    Error::new(Kind::Unavailable { retry_after: None }, "plan a run")
        .because("the service did not count in the time there was")
        .advise("it goes on by itself; a larger EASM_SLICE_SECONDS gives it more time")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::asset::AssetKind;

    /// A range for each kind of which there are any.
    fn some(counts: &[u64]) -> Vec<(KindCut, Within, u64)> {
        let kinds = AssetKind::ALL.map(KindCut::Only).into_iter();
        let ranges = kinds.zip(counts).map(|(kind, n)| (kind, Within::default(), *n));
        ranges.filter(|(_, _, n)| *n > 0).collect()
    }

    #[test]
    fn a_limit_is_shared_out_in_proportion_and_adds_up() {
        let check = |counts: &[u64], max: Option<u64>, want: &[Option<u64>]| {
            let quotas: Vec<_> =
                number(some(counts), max).iter().map(|range| range.quota).collect();
            assert_eq!(quotas, want, "{counts:?} {max:?}");
        };
        check(&[10, 0, 30], None, &[None, None]);
        check(&[10, 0, 30], Some(40), &[Some(10), Some(30)]);
        check(&[10, 0, 30], Some(42), &[Some(11), Some(31)]);
        check(&[10, 0, 30], Some(8), &[Some(2), Some(6)]);
        check(&[10, 0, 30], Some(1), &[Some(1)]);
        check(&[1, 1, 1], Some(2), &[Some(1), Some(1)]);
        check(&[u64::MAX / 2, 1], Some(u64::MAX / 2), &[Some(u64::MAX / 2)]);
        check(&[], Some(5), &[]);
    }

    #[test]
    fn quotas_add_up_for_any_counts() {
        for seed in 0..500 {
            let mut random = fastrand::Rng::with_seed(seed);
            let counts: Vec<u64> = (0..8).map(|_| random.u64(0..1000)).collect();
            let total = counts.iter().sum::<u64>();
            let max = random.u64(1..=total.max(1));
            let found = number(some(&counts), Some(max));
            let sum: u64 = found.iter().map(|r| r.quota.unwrap_or(r.expected)).sum();
            assert_eq!(sum, max.min(total), "SEED={seed}");
            assert!(found.iter().all(|r| r.quota.is_none_or(|q| q <= r.expected)), "SEED={seed}");
        }
    }
}
