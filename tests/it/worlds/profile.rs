//! What a world is like: how large, how fast, and what goes wrong in it, by seed.

use std::time::Duration;

use super::fate::Outages;

/// Minutes as a duration.
pub const fn minutes(n: u64) -> Duration {
    Duration::from_secs(60 * n)
}

/// Hours as a duration.
pub const fn hours(n: u64) -> Duration {
    minutes(60 * n)
}

/// What a world is like.
#[derive(Debug, Clone)]
pub struct Profile {
    /// When everything stops failing.
    pub calm_at: Duration,
    pub inventory: Inventory,
    pub source: SourceFaults,
    pub store: StoreFaults,
    pub queue: QueueFaults,
    pub processes: Processes,
    pub openers: Openers,
    pub page_size: u32,
    pub shards: u32,
    pub range_assets_max: u64,
    pub part_bytes_max: u64,
    pub idle_max: Duration,
    /// How long a worker works at a piece.
    pub slice: Duration,
}

/// The assets and how they change.
#[derive(Debug, Clone)]
pub struct Inventory {
    pub n_assets: usize,
    /// Share of assets that were created in the same moment as another.
    pub burst: f64,
    /// Share of assets without a creation time.
    pub undated: f64,
    /// Share of assets of a kind that is new.
    pub other: f64,
    /// Assets are added, deleted and changed, each so long after the other.
    pub change_every: Option<Duration>,
    /// A change may move an asset to another place in the order of pages.
    pub moves: bool,
}

/// How the service misbehaves.
#[derive(Debug, Clone)]
pub struct SourceFaults {
    pub throttled: f64,
    pub unavailable: f64,
    pub unreadable: f64,
    pub outages: Outages,
    /// From then on access is denied, for ever.
    pub denied_from: Option<Duration>,
    /// Pages that repeat an asset of an earlier one.
    pub doubled: f64,
    /// Pages that leave out an asset.
    pub left_out: f64,
    /// Pages that are shorter than they need be.
    pub short: f64,
    /// Cursors that are refused without a reason.
    pub cursor_refused: f64,
    /// Cursors that lead back.
    pub cursor_loops: f64,
    /// How old a cursor may be.
    pub cursor_age_max: Option<Duration>,
    /// No cursor ever works.
    pub cursors_broken: bool,
    /// The service does not know how to ask for what has no creation time.
    pub knows_undated: bool,
    /// Longest usual answer.
    pub lag_max: Duration,
}

/// How the store misbehaves.
#[derive(Debug, Clone)]
pub struct StoreFaults {
    /// Requests that fail before their effect.
    pub before: f64,
    /// Requests that fail after their effect.
    pub after: f64,
    /// Requests that fail, and have their effect only later.
    pub later: f64,
    /// Requests that take long.
    pub slow: f64,
    pub outages: Outages,
}

/// How the queue misbehaves.
#[derive(Debug, Clone)]
pub struct QueueFaults {
    pub doubled: f64,
    pub late: f64,
    pub lost: f64,
}

/// Who works, and how that ends.
#[derive(Debug, Clone)]
pub struct Processes {
    pub workers: usize,
    pub carers: usize,
    /// Pieces of work during which the process is killed.
    pub killed: f64,
    /// Pieces of work during which the process stands still for a while.
    pub stalled: f64,
    /// Replies that get lost between the worker and the queue.
    pub reply_lost: f64,
    /// Clocks jump, each so long after the other.
    pub jump_every: Option<Duration>,
}

/// Who opens and ends runs.
#[derive(Debug, Clone)]
pub struct Openers {
    pub slots: usize,
    pub slot_every: Duration,
    pub posts: usize,
    pub terminals: usize,
    pub cancels: usize,
}

/// One of `choices`.
fn pick<T: Copy>(rng: &mut fastrand::Rng, choices: &[T]) -> T {
    choices[rng.usize(0..choices.len())]
}

/// Up to `n_max` outages within `life`, of up to `longest`.
fn outages(rng: &mut fastrand::Rng, n_max: usize, life: Duration, longest: Duration) -> Outages {
    let n = rng.usize(0..=n_max);
    let some = (0..n).map(|_| {
        let from = life.mul_f64(rng.f64());
        let share = rng.f64();
        (from, from + minutes(1) + longest.mul_f64(share * share))
    });
    Outages(some.collect())
}

impl Profile {
    /// A world drawn with `rng`. Every kind of fault is absent from many worlds, so that what must
    /// hold without it is seen too.
    pub fn draw(rng: &mut fastrand::Rng) -> Self {
        let calm_at = minutes(pick(rng, &[120, 240, 480, 900]) + rng.u64(0..120));
        let seldom = [0.0, 0.0, 0.005, 0.02, 0.08];
        Self {
            calm_at,
            inventory: Inventory {
                n_assets: pick(rng, &[0, 1, 5, 20, 40, 40, 80, 150]),
                burst: pick(rng, &[0.0, 0.2, 0.9]),
                undated: pick(rng, &[0.0, 0.0, 0.1]),
                other: pick(rng, &[0.0, 0.0, 0.1]),
                change_every: pick(rng, &[None, None, Some(30), Some(300), Some(1800)])
                    .map(Duration::from_secs),
                moves: rng.bool(),
            },
            source: SourceFaults {
                throttled: pick(rng, &seldom),
                unavailable: pick(rng, &seldom),
                unreadable: pick(rng, &seldom),
                outages: outages(rng, 2, calm_at, hours(6)),
                denied_from: (rng.f64() < 0.05).then(|| calm_at.mul_f64(rng.f64())),
                doubled: pick(rng, &[0.0, 0.0, 0.05, 0.3]),
                left_out: pick(rng, &[0.0, 0.0, 0.0, 0.005, 0.03]),
                short: pick(rng, &[0.0, 0.05]),
                cursor_refused: pick(rng, &[0.0, 0.0, 0.01, 0.05]),
                cursor_loops: pick(rng, &[0.0, 0.0, 0.0, 0.01, 0.03]),
                cursor_age_max: pick(rng, &[None, None, Some(2), Some(15), Some(60)]).map(minutes),
                cursors_broken: rng.f64() < 0.03,
                knows_undated: rng.f64() < 0.8,
                lag_max: Duration::from_secs(pick(rng, &[1, 10, 60])),
            },
            store: StoreFaults {
                before: pick(rng, &seldom),
                after: pick(rng, &seldom),
                later: pick(rng, &[0.0, 0.0, 0.005, 0.03]),
                slow: pick(rng, &[0.0, 0.01, 0.05]),
                outages: outages(rng, 1, calm_at, hours(3)),
            },
            queue: QueueFaults {
                doubled: pick(rng, &[0.0, 0.1, 0.4]),
                late: pick(rng, &[0.0, 0.1, 0.3]),
                lost: pick(rng, &[0.0, 0.0, 0.02, 0.1]),
            },
            processes: Processes {
                workers: rng.usize(2..=4),
                carers: pick(rng, &[1, 1, 2]),
                killed: pick(rng, &[0.0, 0.0, 0.05, 0.2, 0.5]),
                stalled: pick(rng, &[0.0, 0.0, 0.05, 0.2]),
                reply_lost: pick(rng, &[0.0, 0.05]),
                jump_every: pick(rng, &[None, None, Some(20), Some(120)]).map(minutes),
            },
            openers: Openers {
                slots: rng.usize(0..=3),
                slot_every: minutes(pick(rng, &[15, 120, 480])),
                posts: rng.usize(0..=3),
                terminals: pick(rng, &[0, 0, 1, 2]),
                cancels: pick(rng, &[0, 0, 1, 3]),
            },
            page_size: rng.u32(1..=10),
            shards: rng.u32(1..=4),
            range_assets_max: rng.u64(10..=50),
            part_bytes_max: rng.u64(60..=400),
            idle_max: hours(pick(rng, &[2, 6, 12])),
            slice: Duration::from_secs(pick(rng, &[60, 240, 240])),
        }
    }
}
