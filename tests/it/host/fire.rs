//! Timers: what a firing says, and what is remembered between two.

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;

use super::app::{Function, Trigger, is_disabled};
use super::invoke::Invocation;
use super::json::Json;
use super::payload::{self, TimerValue};
use super::reply::Failure;
use super::{Host, Inner, dates};

/// `Last` of a timer that never ran.
const NEVER: &str = "0001-01-01T00:00:00";
/// Most tries of one occurrence where the policy says "for ever".
const TRIES_MAX: u32 = 1000;

/// What is remembered of a timer, as it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimerStatus {
    last: String,
    next: String,
    last_updated: String,
}

/// One firing of a timer.
#[derive(Debug, Clone, PartialEq)]
pub struct Firing(Kind);

#[derive(Debug, Clone, PartialEq)]
enum Kind {
    At(OffsetDateTime),
    PastDue(OffsetDateTime),
    ByHand,
    WithStatus(Json),
}

impl TimerStatus {
    pub fn new(last: &str, next: &str, last_updated: &str) -> Self {
        let [last, next, last_updated] = [last, next, last_updated].map(str::to_owned);
        Self { last, next, last_updated }
    }
}

impl Firing {
    /// The occurrence at `slot`.
    pub fn at(slot: OffsetDateTime) -> Self {
        Self(Kind::At(slot))
    }

    /// The occurrence at `slot`, which was missed.
    pub fn past_due(slot: OffsetDateTime) -> Self {
        Self(Kind::PastDue(slot))
    }

    /// Started by `POST /admin/functions/{name}`: what is remembered is sent, and stays as it is.
    pub fn by_hand() -> Self {
        Self(Kind::ByHand)
    }

    /// A scheduled run with a `ScheduleStatus` of one's own, a JSON text.
    ///
    /// # Panics
    /// If it is no JSON.
    pub fn with_status(json: &str) -> Self {
        Self(Kind::WithStatus(Json::parse(json).expect("a test gives JSON")))
    }
}

impl Firing {
    pub fn is_past_due(&self) -> bool {
        matches!(self.0, Kind::PastDue(_))
    }

    pub fn is_by_hand(&self) -> bool {
        self.0 == Kind::ByHand
    }
}

/// A host writes a first status for timers that have none.
pub fn start_timers(inner: &Arc<Inner>) {
    let now = OffsetDateTime::now_utc();
    for function in &inner.app.functions {
        let Trigger::Timer { schedule, is_monitored: true } = &function.trigger else { continue };
        if is_disabled(&function.name, &inner.options.settings) {
            continue;
        }
        let status = TimerStatus {
            last: NEVER.to_owned(),
            next: schedule.next(now).map_or(NEVER.to_owned(), with_offset),
            last_updated: with_offset(now),
        };
        inner.account.timers().entry(function.name.clone()).or_insert(status);
    }
}

impl Host {
    /// Fires the timer function `name` once, its retries included, and writes its outputs. The real
    /// host never lets a timer overlap with itself; calling this twice does.
    pub async fn fire(&self, name: &str, firing: &Firing) -> Invocation {
        self.inner.fire(name, firing).await
    }
}

impl Inner {
    pub async fn fire(&self, name: &str, firing: &Firing) -> Invocation {
        let stamp = self.stamp();
        let function = self.app.function(name);
        let Some((function, Trigger::Timer { schedule, is_monitored })) =
            function.map(|function| (function, &function.trigger))
        else {
            // Nothing happens in the real host either, with as little noise.
            let why =
                format!("there is no timer function '{name}' (was it indexed? see the lines)");
            return Invocation {
                id: stamp.invocation,
                function: name.to_owned(),
                body: String::new(),
                reply: None,
                result: Err(Failure::Input(why)),
                written: Vec::new(),
                logs: Vec::new(),
            };
        };
        let _in_work = self.begin();
        let started_at = stamp.now;
        let value = TimerValue {
            is_cron: schedule.is_cron(),
            status: status(self.account.timers().get(name).cloned(), firing, *is_monitored),
            is_past_due: firing.is_past_due(),
            is_manual: firing.is_by_hand(),
        };
        let invocation = self.tries(function, &value).await;
        // Only after the run, whether it succeeded or failed; a host that has ended writes nothing.
        let slot = match &firing.0 {
            Kind::At(slot) | Kind::PastDue(slot) if *is_monitored => Some(*slot),
            _ => None,
        };
        if let Some(slot) = slot.filter(|_| invocation.result != Err(Failure::Stopped)) {
            let last = started_at.max(slot);
            let status = TimerStatus {
                last: with_offset(last),
                next: schedule.next(last).map_or(NEVER.to_owned(), with_offset),
                last_updated: with_offset(last),
            };
            self.account.timers().insert(name.to_owned(), status);
        }
        invocation
    }

    async fn tries(&self, function: &Function, value: &TimerValue) -> Invocation {
        let (mut exception, mut pause) = (Json::Null, Duration::ZERO);
        let first = self.stamp();
        for n_retries in 0..TRIES_MAX {
            let stamp = payload::Stamp { invocation: first.invocation.clone(), ..self.stamp() };
            let retry =
                function.retry.as_ref().map(|policy| (policy, n_retries, exception.clone()));
            let body = payload::timer(&function.name, &function.binding, value, retry, &stamp);
            let invocation = self.invoke(function, &stamp, body).await;
            let Some(policy) = &function.retry else { return invocation };
            let is_last = policy.retries_max >= 0 && i64::from(n_retries) >= policy.retries_max;
            match &invocation.result {
                Err(Failure::Stopped) | Ok(_) => return invocation,
                Err(_) if is_last => return invocation,
                Err(failure) => {
                    let why = Json::Text(failure.to_string());
                    exception = Json::object([("Message", why)]);
                    pause = (pause * 2).max(policy.pause).min(policy.pause_max);
                    tokio::time::sleep(pause).await;
                }
            }
        }
        unreachable!("no test lets a policy try {TRIES_MAX} times")
    }
}

/// `ScheduleStatus` of a firing, by what is remembered of the timer.
pub fn status(stored: Option<TimerStatus>, firing: &Firing, is_monitored: bool) -> Json {
    let (stored, next) = match &firing.0 {
        Kind::WithStatus(status) => return status.clone(),
        _ if !is_monitored => return Json::Null,
        Kind::ByHand => match stored {
            None => return Json::Null,
            Some(stored) => {
                let next = stored.next.clone();
                (stored, next)
            }
        },
        Kind::At(slot) => {
            // In its first run a timer sends what it had in memory before it wrote a status.
            let known = stored.filter(|stored| stored.last != NEVER);
            (known.unwrap_or_else(|| TimerStatus::new(NEVER, "", NEVER)), with_offset(*slot))
        }
        Kind::PastDue(slot) => {
            (stored.unwrap_or_else(|| TimerStatus::new(NEVER, "", NEVER)), with_offset(*slot))
        }
    };
    Json::object([
        ("Last", Json::Text(stored.last)),
        ("Next", Json::Text(next)),
        ("LastUpdated", Json::Text(stored.last_updated)),
    ])
}

/// `2026-11-22T13:21:00.0022397+00:00`.
fn with_offset(at: OffsetDateTime) -> String {
    format!("{}+00:00", dates::exact(at))
}
