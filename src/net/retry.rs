//! When a failed request is tried again, and after which pause.

use std::cell::RefCell;
use std::time::Duration;

use tracing::warn;

use crate::clock::{Budget, Timestamp};
use crate::error::{Error, Result};

/// How often and how long a request is tried.
#[derive(Debug, Clone)]
pub struct RetryPolicy {
    /// Most attempts, the first included, unless the service says how long to wait.
    pub tries_max: u32,
    /// Longest time over all attempts and pauses.
    pub elapsed_max: Duration,
    /// Upper bound of the first pause. It doubles with every attempt.
    pub pause_first: Duration,
    /// Upper bound of any pause that the service did not ask for.
    pub pause_max: Duration,
}

impl Default for RetryPolicy {
    /// Eight tries over at most four minutes: the length of one slice of work
    /// (`EASM_SLICE_SECONDS`), and longer than the 20 s times 10 that the vendor's own playbooks
    /// wait is not worth blocking a terminal for.
    fn default() -> Self {
        Self {
            tries_max: 8,
            elapsed_max: Duration::from_secs(240),
            pause_first: Duration::from_millis(500),
            pause_max: Duration::from_secs(30),
        }
    }
}

impl RetryPolicy {
    /// The pause after attempt number `n_tries` (from 1). `retry_after` is what the service asked
    /// for and the least that is waited; `jitter` is random in `0.0..1.0` and keeps many clients
    /// from coming back at the same moment.
    pub fn pause(&self, n_tries: u32, retry_after: Option<Duration>, jitter: f64) -> Duration {
        let doubled = self.pause_first.saturating_mul(1 << n_tries.saturating_sub(1).min(16));
        let bound = doubled.min(self.pause_max);
        // At least half of the bound: full jitter would often not wait at all.
        let own = bound.mul_f64(0.5 + jitter / 2.0);
        match retry_after {
            // Asked again and again for the same pause, the own one grows past it.
            Some(asked) => own.max(asked + self.pause_first.mul_f64(jitter)),
            None => own,
        }
    }
}

tokio::task_local! {
    /// What was tried again last, for whoever gives up first.
    static LAST: RefCell<Option<Error>>;
}

/// What `work` gives within `limit`.
///
/// # Errors
/// What it tried again last, if the time was up before it ended: that is why it took so long. `None`: it
/// had no answer at all.
pub async fn within<T>(
    limit: Duration,
    work: impl Future<Output = T>,
) -> std::result::Result<T, Option<Error>> {
    let limited = async {
        let done = tokio::time::timeout(limit, work).await;
        done.map_err(|_elapsed| LAST.with(RefCell::take))
    };
    LAST.scope(RefCell::default(), limited).await
}

/// The tries of one operation.
#[derive(Debug)]
pub struct Tries<'a> {
    policy: &'a RetryPolicy,
    budget: Option<Budget>,
    n_tries: u32,
}

impl<'a> Tries<'a> {
    /// None yet.
    pub fn new(policy: &'a RetryPolicy) -> Self {
        Self { policy, budget: None, n_tries: 0 }
    }

    /// Begins a try. The first one starts the budget, which is what comes back.
    pub fn begin(&mut self) -> Budget {
        self.n_tries += 1;
        *self.budget.get_or_insert_with(|| Budget::of(self.policy.elapsed_max))
    }

    /// Whether more than one try was begun: an earlier one may have had its effect, and its answer was
    /// lost.
    pub fn is_repeated(&self) -> bool {
        self.n_tries > 1
    }

    /// Waits until the try that failed with `err` may be repeated.
    ///
    /// # Errors
    /// `err`, if repeating cannot help, or tries or time are used up.
    pub async fn again(&mut self, operation: &'static str, err: Error) -> Result<()> {
        if !err.kind().is_retryable() {
            return Err(err);
        }
        let budget = *self.budget.get_or_insert_with(|| Budget::of(self.policy.elapsed_max));
        let asked = err.kind().retry_after();
        let pause = self.policy.pause(self.n_tries, asked, fastrand::f64());
        // Where the service says how long to wait, only the budget counts.
        let is_spent = self.n_tries >= self.policy.tries_max && asked.is_none();
        if is_spent || !budget.allows(pause) {
            let err = err.with("tries", self.n_tries);
            return Err(
                err.or_advise("try again later; the other side is not answering as it should")
            );
        }
        warn!(
            operation,
            tries = self.n_tries,
            pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
            "{err}; trying again in {:.1} s",
            pause.as_secs_f64()
        );
        // Where nobody asks, nothing is kept.
        LAST.try_with(|last| last.replace(Some(err))).map(drop).unwrap_or(());
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

/// Reads a `Retry-After` header in either form, seconds or an HTTP date. A date that is past
/// means now; a pause of more than [`RETRY_AFTER_SECONDS_MAX`] is taken as that.
pub fn parse_retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    let seconds = match value.parse::<u64>() {
        Ok(seconds) => seconds,
        Err(_) => {
            let at = httpdate::parse_http_date(value).ok()?;
            let at_s = at.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs();
            let now_s = u64::try_from(now.unix_ms().div_euclid(1000)).unwrap_or(0);
            at_s.saturating_sub(now_s)
        }
    };
    Some(Duration::from_secs(seconds.min(RETRY_AFTER_SECONDS_MAX)))
}

/// Longest pause that a service can ask for: a day. No budget allows it; the limit keeps sums of
/// durations from overflowing.
pub const RETRY_AFTER_SECONDS_MAX: u64 = 24 * 60 * 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_read_as_seconds_or_a_date() {
        let now = Timestamp::parse("2025-01-01T00:00:00Z").expect("a date");
        let check = |header: &str, want_s: Option<u64>| {
            assert_eq!(parse_retry_after(header, now), want_s.map(Duration::from_secs), "{header}");
        };
        check("7", Some(7));
        check(" 0 ", Some(0));
        check("Wed, 01 Jan 2025 00:00:30 GMT", Some(30));
        check("Tue, 31 Dec 2024 23:59:59 GMT", Some(0));
        check("18446744073709551615", Some(RETRY_AFTER_SECONDS_MAX));
        check("-1", None);
        check("soon", None);
        check("", None);
    }

    #[test]
    fn pauses_grow_to_their_bound_and_never_undercut_what_was_asked_for() {
        let policy = RetryPolicy::default();
        for n_tries in 1..40 {
            for jitter in [0.0, 0.5, 0.999] {
                let pause = policy.pause(n_tries, None, jitter);
                assert!(pause <= policy.pause_max && pause >= policy.pause_first / 2);
                let asked = Duration::from_secs(12);
                assert!(policy.pause(n_tries, Some(asked), jitter) >= asked);
            }
        }
        assert!(policy.pause(5, None, 0.0) > policy.pause(1, None, 0.999));
    }
}
