//! A queue that delivers at least once: twice, late and in another order, and now and then not at
//! all.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::fate::Fate;
use super::profile::{QueueFaults, minutes};

/// How long a message stays hidden while somebody works on it. When the worker dies, it is seen
/// again after that.
const HIDDEN: Duration = minutes(10);

/// How long a message stays hidden after an answer that it failed.
const HIDDEN_AFTER_FAILURE: Duration = Duration::from_secs(30);

/// How often a message is delivered before nobody sees it any more.
const DELIVERIES_MAX: u32 = 5;

/// A queue.
pub struct Queue<M> {
    fate: Arc<Fate>,
    faults: QueueFaults,
    inner: Mutex<Inner<M>>,
    came: Notify,
}

struct Inner<M> {
    waiting: BTreeMap<u64, Waiting<M>>,
    n_put: u64,
    n_poison: usize,
}

struct Waiting<M> {
    message: M,
    seen_from: Instant,
    n_deliveries: u32,
}

/// A message, and what to answer by.
pub struct Delivery<M> {
    pub message: M,
    number: u64,
}

impl<M: Clone + Debug> Queue<M> {
    pub fn new(fate: &Arc<Fate>, faults: QueueFaults) -> Self {
        Self {
            fate: Arc::clone(fate),
            faults,
            inner: Mutex::new(Inner { waiting: BTreeMap::new(), n_put: 0, n_poison: 0 }),
            came: Notify::new(),
        }
    }

    /// Whether nothing waits in it.
    pub fn is_empty(&self) -> bool {
        self.inner.lock().unwrap().waiting.is_empty()
    }

    /// How many messages nobody sees any more.
    pub fn n_poison(&self) -> usize {
        self.inner.lock().unwrap().n_poison
    }

    pub fn put(&self, who: &str, message: M) {
        let fate = &self.fate;
        if fate.strikes(self.faults.lost) {
            fate.note(format_args!("queue: {message:?} of {who} is lost"));
            return;
        }
        let n_times = if fate.strikes(self.faults.doubled) { 2 } else { 1 };
        for _ in 0..n_times {
            let delay_max = match fate.strikes(self.faults.late) {
                true => minutes(30),
                false => Duration::from_secs(5),
            };
            let seen_from = Instant::now() + fate.between(Duration::from_millis(10), delay_max);
            let mut inner = self.inner.lock().unwrap();
            let number = inner.n_put;
            inner.n_put += 1;
            let waiting = Waiting { message: message.clone(), seen_from, n_deliveries: 0 };
            inner.waiting.insert(number, waiting);
            fate.note(format_args!("queue: {message:?} of {who} is number {number}"));
        }
        self.came.notify_waiters();
    }

    /// The next message, in no particular order.
    pub async fn take(&self) -> Delivery<M> {
        loop {
            let came = self.came.notified();
            if let Some(delivery) = self.take_now() {
                return delivery;
            }
            let next = self.inner.lock().unwrap().waiting.values().map(|w| w.seen_from).min();
            match next {
                Some(next) => tokio::select! {
                    biased;
                    () = sleep_until(next) => {}
                    () = came => {}
                },
                None => came.await,
            }
        }
    }

    fn take_now(&self) -> Option<Delivery<M>> {
        let now = Instant::now();
        let mut inner = self.inner.lock().unwrap();
        let seen = inner.waiting.iter().filter(|(_, waiting)| waiting.seen_from <= now);
        let numbers: Vec<u64> = seen.map(|(number, _)| *number).collect();
        if numbers.is_empty() {
            return None;
        }
        let number = numbers[self.fate.below(numbers.len())];
        let waiting = inner.waiting.get_mut(&number)?;
        if waiting.n_deliveries == DELIVERIES_MAX {
            let message = inner.waiting.remove(&number).map(|waiting| waiting.message);
            inner.n_poison += 1;
            drop(inner);
            self.fate.note(format_args!("queue: {message:?}, number {number}, is poison"));
            return self.take_now();
        }
        waiting.n_deliveries += 1;
        // Another one gets it too, as after a clock that went wrong.
        let is_doubled = self.fate.strikes(self.faults.doubled / 4.0);
        waiting.seen_from = now + if is_doubled { Duration::from_millis(20) } else { HIDDEN };
        Some(Delivery { message: waiting.message.clone(), number })
    }

    /// The message is done with.
    pub fn done(&self, delivery: &Delivery<M>) {
        self.inner.lock().unwrap().waiting.remove(&delivery.number);
    }

    /// The message is to come again.
    pub fn failed(&self, delivery: &Delivery<M>) {
        let mut inner = self.inner.lock().unwrap();
        if let Some(waiting) = inner.waiting.get_mut(&delivery.number) {
            waiting.seen_from = Instant::now() + HIDDEN_AFTER_FAILURE;
        }
    }
}
