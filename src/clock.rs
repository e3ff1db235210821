//! Time: a point in it ([`Timestamp`]), where it comes from ([`Clock`]), and what is left of it
//! ([`Budget`]).
//!
//! Wall-clock time is only written down and compared with what others wrote down. How long
//! something took is always measured with the runtime's monotonic clock.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{OffsetDateTime, UtcOffset};
use tokio::time::Instant;

/// A point in time, UTC, to the millisecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    unix_ms: i64,
}

impl Timestamp {
    /// The point `unix_ms` milliseconds after 1970-01-01T00:00:00Z, within the years 0 to 9999.
    pub fn from_unix_ms(unix_ms: i64) -> Option<Self> {
        let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_ms) * 1_000_000).ok()?;
        (0..=9999).contains(&at.year()).then_some(Self { unix_ms })
    }

    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub fn unix_ms(self) -> i64 {
        self.unix_ms
    }

    /// Reads the three forms the service writes (API reference, section 7, "Dates"):
    /// `2022-12-12T10:41:09.000+00:00`, `2023-10-02T23:23:17+0000` and `2024-03-17T00:00:00Z`.
    pub fn parse(text: &str) -> Option<Self> {
        let at = OffsetDateTime::parse(text, &Rfc3339).ok().or_else(|| {
            // The second form has no colon in its offset, which RFC 3339 demands.
            let no_colon = format_description!(
                "[year]-[month]-[day]T[hour]:[minute]:[second][offset_hour sign:mandatory][offset_minute]"
            );
            OffsetDateTime::parse(text, &no_colon).ok()
        })?;
        Self::from_unix_ms(i64::try_from(at.unix_timestamp_nanos().div_euclid(1_000_000)).ok()?)
    }

    /// Reads a date as the Functions host writes it: without an offset it is UTC.
    pub fn parse_from_host(text: &str) -> Option<Self> {
        Self::parse(text).or_else(|| Self::parse(&format!("{text}Z")))
    }

    /// `20261122T060000Z`, the form used in run ids.
    pub fn compact(self) -> String {
        let format = format_description!("[year][month][day]T[hour][minute][second]Z");
        self.date_time().format(&format).expect("a date within the years 0 to 9999 formats")
    }

    /// Reads the form used in run ids, `20261122T060000Z`.
    pub fn parse_compact(text: &str) -> Option<Self> {
        let format = format_description!("[year][month][day]T[hour][minute][second]Z");
        let at = time::PrimitiveDateTime::parse(text, &format).ok()?.assume_utc();
        Self::from_unix_ms(at.unix_timestamp().checked_mul(1000)?)
    }

    /// The point `duration` later, as far as there is one.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        let ms = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self::from_unix_ms(self.unix_ms.saturating_add(ms)).unwrap_or(self)
    }

    /// How long it is since `earlier`; nothing if that is later.
    pub fn since(self, earlier: Self) -> Duration {
        let ms = self.unix_ms.saturating_sub(earlier.unix_ms);
        Duration::from_millis(u64::try_from(ms).unwrap_or(0))
    }

    /// `2026-11-22`, the form used in `date=` folders.
    pub fn date(self) -> String {
        let format = format_description!("[year]-[month]-[day]");
        self.date_time().format(&format).expect("a date within the years 0 to 9999 formats")
    }

    /// `2026-11-22T06:00:00.000Z`, the form of dates in filters.
    pub fn with_milliseconds(self) -> String {
        let seconds = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]");
        let text = self.date_time().format(&seconds);
        let text = text.expect("a date within the years 0 to 9999 formats");
        format!("{text}.{:03}Z", self.unix_ms.rem_euclid(1000))
    }

    fn date_time(self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.unix_ms) * 1_000_000)
            .expect("checked when the timestamp was made")
            .to_offset(UtcOffset::UTC)
    }
}

/// RFC 3339 with `Z`: whole seconds without a fraction, else three digits of it.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]");
        let text = self.date_time().format(&seconds).map_err(|_| fmt::Error)?;
        match self.unix_ms.rem_euclid(1000) {
            0 => write!(f, "{text}Z"),
            ms => write!(f, "{text}.{ms:03}Z"),
        }
    }
}

impl JsonSchema for Timestamp {
    fn schema_name() -> Cow<'static, str> {
        "Timestamp".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({ "type": "string", "format": "date-time" })
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not a date of a known form"))
    }
}

/// Where the time of day comes from.
pub trait Clock: Send + Sync {
    /// The time of day.
    fn now(&self) -> Timestamp;
}

/// The machine's own clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let unix_ms = OffsetDateTime::now_utc().unix_timestamp_nanos().div_euclid(1_000_000);
        i64::try_from(unix_ms)
            .ok()
            .and_then(Timestamp::from_unix_ms)
            .expect("a system clock within the years 0 to 9999")
    }
}

/// What is left of the time a piece of work may take.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    deadline: Instant,
}

impl Budget {
    /// A budget of `duration` from now.
    pub fn of(duration: Duration) -> Self {
        Self { deadline: Instant::now() + duration }
    }

    /// What is left.
    pub fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Whether a wait of `pause` would still leave time to use.
    pub fn allows(&self, pause: Duration) -> bool {
        Instant::now() + pause < self.deadline
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_three_date_forms_of_the_service_are_read() {
        let check = |text: &str, want: Option<&str>| {
            let found = Timestamp::parse(text).map(|at| at.to_string());
            assert_eq!(found.as_deref(), want, "{text}");
        };
        check("2022-12-12T10:41:09.000+00:00", Some("2022-12-12T10:41:09Z"));
        check("2020-02-29T03:51:55.275+00:00", Some("2020-02-29T03:51:55.275Z"));
        check("2023-10-02T23:23:17+0000", Some("2023-10-02T23:23:17Z"));
        check("2023-10-02T23:23:17+0130", Some("2023-10-02T21:53:17Z"));
        check("2024-03-17T00:00:00Z", Some("2024-03-17T00:00:00Z"));
        check("1969-12-31T23:59:59.999Z", Some("1969-12-31T23:59:59.999Z"));
        check("2023-02-29T00:00:00Z", None);
        check("yesterday", None);
        check("", None);
    }

    #[test]
    fn a_timestamp_is_written_as_run_ids_and_folders_need_it() {
        let at = Timestamp::parse("2026-11-22T06:00:00Z").expect("a date");
        assert_eq!((at.compact(), at.date()), ("20261122T060000Z".into(), "2026-11-22".into()));
    }
}
