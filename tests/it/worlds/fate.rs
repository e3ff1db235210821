//! What all of a world shares: its dice, its time, its history, and whether faults still happen.

use std::collections::VecDeque;
use std::fmt::{Arguments, Write};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use easm_export::clock::{Clock, Timestamp};
use tokio::time::Instant;

/// 2026-11-22T00:00:00Z: when every world begins.
const BEGIN_UNIX_MS: i64 = 1_795_305_600_000;

/// Lines of history that are kept. The last ones say what broke.
const HISTORY_LINES_MAX: usize = 20_000;

/// Dice, time and history of one world.
pub struct Fate {
    began: Instant,
    is_calm: AtomicBool,
    inner: Mutex<Inner>,
}

struct Inner {
    rng: fastrand::Rng,
    history: VecDeque<String>,
    digest: u64,
    broken: Option<String>,
}

impl Fate {
    /// The fate of the world `seed`. It begins now.
    pub fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            is_calm: AtomicBool::new(false),
            inner: Mutex::new(Inner {
                rng: fastrand::Rng::with_seed(seed),
                history: VecDeque::new(),
                digest: 0xcbf2_9ce4_8422_2325,
                broken: None,
            }),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    /// How old the world is.
    pub fn age(&self) -> Duration {
        self.began.elapsed()
    }

    /// From now on nothing fails any more.
    pub fn calm_down(&self) {
        self.is_calm.store(true, Ordering::Relaxed);
        self.note(format_args!("-- from now on nothing fails --"));
    }

    pub fn is_calm(&self) -> bool {
        self.is_calm.load(Ordering::Relaxed)
    }

    /// Whether a fault that comes with probability `rate` comes now.
    pub fn strikes(&self, rate: f64) -> bool {
        rate > 0.0 && !self.is_calm() && self.lock().rng.f64() < rate
    }

    /// A number of `0..n`.
    pub fn below(&self, n: usize) -> usize {
        self.lock().rng.usize(0..n)
    }

    /// A duration between `min` and `max`, short ones as often as long ones.
    pub fn between(&self, min: Duration, max: Duration) -> Duration {
        let (min, max) = (min.as_secs_f64().max(0.001), max.as_secs_f64().max(0.001));
        let seconds = min * (max / min).powf(self.lock().rng.f64());
        // Whole milliseconds, as timers count them.
        let ms = Duration::from_secs_f64(seconds).as_millis().max(1);
        Duration::from_millis(u64::try_from(ms).unwrap())
    }

    /// Pauses for as long as [`Fate::between`] says.
    pub async fn pause(&self, min: Duration, max: Duration) {
        tokio::time::sleep(self.between(min, max)).await;
    }

    /// A generator of its own that follows from the seed.
    pub fn fork(&self) -> fastrand::Rng {
        self.lock().rng.fork()
    }

    /// Writes a line of history.
    pub fn note(&self, what: Arguments<'_>) {
        let age = self.age();
        let mut inner = self.lock();
        if inner.broken.is_some() {
            return;
        }
        let mut line = String::with_capacity(100);
        let (seconds, ms) = (age.as_secs(), age.subsec_millis());
        let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
        let _ = write!(line, "{hours:02}:{minutes:02}:{:02}.{ms:03} {what}", seconds % 60);
        for byte in line.bytes() {
            inner.digest = (inner.digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if inner.history.len() == HISTORY_LINES_MAX {
            inner.history.pop_front();
        }
        inner.history.push_back(line);
    }

    /// Something happened that must not. The first such thing counts.
    pub fn broken(&self, what: Arguments<'_>) {
        self.note(format_args!("BROKEN: {what}"));
        self.lock().broken.get_or_insert_with(|| what.to_string());
    }

    /// What happened that must not.
    pub fn what_broke(&self) -> Option<String> {
        self.lock().broken.clone()
    }

    /// Stands for the whole history.
    pub fn digest(&self) -> u64 {
        self.lock().digest
    }

    /// The last lines of history.
    pub fn history(&self) -> Vec<String> {
        self.lock().history.iter().cloned().collect()
    }
}

/// A process's clock. It jumps.
pub struct SimClock {
    fate: Arc<Fate>,
    offset_ms: AtomicI64,
}

impl SimClock {
    pub fn new(fate: &Arc<Fate>) -> Arc<Self> {
        Arc::new(Self { fate: Arc::clone(fate), offset_ms: AtomicI64::new(0) })
    }

    /// Goes wrong by `offset_ms` from now on.
    pub fn jump(&self, offset_ms: i64) {
        self.offset_ms.store(offset_ms, Ordering::Relaxed);
    }
}

/// The right time at the world's age `age`.
pub fn time_at(age: Duration) -> Timestamp {
    time_of(i64::try_from(age.as_millis()).unwrap())
}

fn time_of(age_ms: i64) -> Timestamp {
    Timestamp::from_unix_ms(BEGIN_UNIX_MS + age_ms).unwrap()
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        let age_ms = i64::try_from(self.fate.age().as_millis()).unwrap();
        let offset_ms = match self.fate.is_calm() {
            true => 0,
            false => self.offset_ms.load(Ordering::Relaxed),
        };
        time_of(age_ms + offset_ms)
    }
}

/// Times from and to which something does not answer.
#[derive(Debug, Clone, Default)]
pub struct Outages(pub Vec<(Duration, Duration)>);

impl Outages {
    /// Whether the world's age `age` lies in one.
    pub fn hold(&self, age: Duration) -> bool {
        self.0.iter().any(|(from, to)| (*from..*to).contains(&age))
    }
}
