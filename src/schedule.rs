//! When the timer exports: the text of `EXPORT_SCHEDULE`, read as the Functions timer reads it.
//!
//! Six fields `second minute hour day month weekday`, or five without seconds, always UTC. A field is a
//! list of `*`, values and ranges, each with a step if need be; months and weekdays have names, Sunday is 0.
//! An occurrence fits all fields: where both day and weekday are narrowed, both have to fit.
//!
//! A text such as `00:30:00` is an interval. It begins when the host does, so it has no occurrences on the
//! clock that one could miss.
//!
//! Start reading at [`Schedule::newest_occurrence`].

use time::{Date, Duration, OffsetDateTime, Time};

use crate::clock::Timestamp;
use crate::error::{Error, Kind, Result};

/// The setting.
pub const SETTING: &str = "EXPORT_SCHEDULE";

/// Days that are looked through for an occurrence. February 29 falls on one and the same weekday once in 40
/// years at least, also over a year such as 2100.
const DAYS_BACK_MAX: i64 = 41 * 366;

/// Longest schedule: enough for any list of values.
const CHARS_MAX: usize = 1000;

/// Days of each month in a leap year.
const DAYS_OF_MONTHS: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/// A schedule that the Functions timer takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    text: String,
    /// `None`: an interval.
    fields: Option<Fields>,
}

/// The values that fit, a bit for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fields {
    seconds: u64,
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
}

/// What a field may hold.
struct Field {
    name: &'static str,
    min: u32,
    max: u32,
    /// Names of the values from `min`, in lower case.
    names: &'static [&'static str],
}

const FIELDS: [Field; 6] = [
    Field { name: "second", min: 0, max: 59, names: &[] },
    Field { name: "minute", min: 0, max: 59, names: &[] },
    Field { name: "hour", min: 0, max: 23, names: &[] },
    Field { name: "day", min: 1, max: 31, names: &[] },
    Field {
        name: "month",
        min: 1,
        max: 12,
        names: &[
            "january",
            "february",
            "march",
            "april",
            "may",
            "june",
            "july",
            "august",
            "september",
            "october",
            "november",
            "december",
        ],
    },
    Field {
        name: "weekday",
        min: 0,
        max: 6,
        names: &["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"],
    },
];

impl Schedule {
    /// Reads a schedule: six-field NCRONTAB, five fields (at second 0), or an interval `[d.]hh:mm[:ss]`.
    ///
    /// # Errors
    /// [`Kind::Config`], naming the setting, what is allowed and what was found.
    pub fn parse(text: &str) -> Result<Self> {
        let words: Vec<&str> = text.split(' ').filter(|word| !word.is_empty()).collect();
        let normal = words.join(" ");
        if normal.len() > CHARS_MAX {
            return Err(refusal(&format!("it is longer than {CHARS_MAX} characters")));
        }
        let fields = match words.as_slice() {
            [word] if is_interval(word) => None,
            [minute, hour, day, month, weekday] => {
                Some(Fields::parse(["0", minute, hour, day, month, weekday])?)
            }
            [second, minute, hour, day, month, weekday] => {
                Some(Fields::parse([second, minute, hour, day, month, weekday])?)
            }
            _ => return Err(refusal(&format!("{normal:?} has {} fields", words.len()))),
        };
        Ok(Self { text: normal, fields })
    }

    /// The schedule as it was written, with single spaces.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The newest occurrence that is not later than `at`. `None`: it is an interval, or there was none in the
    /// last 41 years.
    pub fn newest_occurrence(&self, at: Timestamp) -> Option<Timestamp> {
        let fields = self.fields?;
        let at = OffsetDateTime::from_unix_timestamp(at.unix_ms().div_euclid(1000)).ok()?;
        let mut day = at.date();
        let mut latest = at.time();
        for _ in 0..DAYS_BACK_MAX {
            if fields.fits(day)
                && let Some(time) = fields.newest_time(latest)
            {
                let found = day.with_time(time).assume_utc().unix_timestamp();
                return Timestamp::from_unix_ms(found.checked_mul(1000)?);
            }
            day = day.checked_sub(Duration::DAY)?;
            latest = Time::from_hms(23, 59, 59).ok()?;
        }
        None
    }
}

impl Fields {
    fn parse(words: [&str; 6]) -> Result<Self> {
        let mut bits = [0; 6];
        for ((word, field), bits) in words.into_iter().zip(&FIELDS).zip(&mut bits) {
            *bits = field.parse(word)?;
        }
        let [seconds, minutes, hours, days, months, weekdays] = bits;
        let fields = Self { seconds, minutes, hours, days, months, weekdays };
        let is_day = |(month, n_days): (u32, u32)| {
            has(months, month) && (1..=n_days).any(|day| has(days, day))
        };
        if !(1..).zip(DAYS_OF_MONTHS).any(is_day) {
            let reason = format!("day {} does not exist in month {}", words[3], words[4]);
            return Err(refusal(&reason));
        }
        Ok(fields)
    }

    fn fits(&self, day: Date) -> bool {
        has(self.days, day.day().into())
            && has(self.months, u8::from(day.month()).into())
            && has(self.weekdays, day.weekday().number_days_from_sunday().into())
    }

    /// The newest time of a day that is not later than `latest`.
    fn newest_time(&self, latest: Time) -> Option<Time> {
        let (hour, minute, second) = latest.as_hms();
        let at = |hour: u32, minute: u32, second: u32| {
            let byte = |n: u32| u8::try_from(n).ok();
            Time::from_hms(byte(hour)?, byte(minute)?, byte(second)?).ok()
        };
        let (hour, minute, second) = (u32::from(hour), u32::from(minute), u32::from(second));
        // In this minute, in this hour before that, or in this day before that.
        if has(self.hours, hour) {
            if has(self.minutes, minute)
                && let Some(second) = newest(self.seconds, second)
            {
                return at(hour, minute, second);
            }
            if let Some(minute) = before(self.minutes, minute) {
                return at(hour, minute, newest(self.seconds, 59)?);
            }
        }
        let hour = before(self.hours, hour)?;
        at(hour, newest(self.minutes, 59)?, newest(self.seconds, 59)?)
    }
}

/// Whether `value` is one of `bits`.
fn has(bits: u64, value: u32) -> bool {
    bits & (1 << value) != 0
}

/// The largest of `bits` that is not larger than `value`.
fn newest(bits: u64, value: u32) -> Option<u32> {
    (0..=value).rev().find(|value| has(bits, *value))
}

/// The largest of `bits` that is smaller than `value`.
fn before(bits: u64, value: u32) -> Option<u32> {
    newest(bits, value.checked_sub(1)?)
}

impl Field {
    /// The values that `word` stands for.
    fn parse(&self, word: &str) -> Result<u64> {
        let mut bits = 0;
        for item in word.split(',') {
            let (range, step) = match item.split_once('/') {
                // The host has a step of 0 count as 1.
                Some((range, step)) => (range, Some(self.step(step, word)?.max(1))),
                None => (item, None),
            };
            let (first, last) = match range.split_once('-') {
                _ if range == "*" => (self.min, self.max),
                Some((first, last)) => {
                    let (first, last) = (self.value(first, word)?, self.value(last, word)?);
                    // So does the host: 22-4 is 4-22.
                    (first.min(last), first.max(last))
                }
                None => {
                    let first = self.value(range, word)?;
                    (first, if step.is_some() { self.max } else { first })
                }
            };
            for value in (first..=last).step_by(step.unwrap_or(1)) {
                bits |= 1 << value;
            }
        }
        Ok(bits)
    }

    fn step(&self, text: &str, word: &str) -> Result<usize> {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|_| is_number).ok_or_else(|| self.refusal(word))
    }

    /// A number, or the beginning of a name.
    fn value(&self, text: &str, word: &str) -> Result<u32> {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let lower = text.to_ascii_lowercase();
        let value = match is_number {
            true => text.parse().ok(),
            false if text.is_empty() => None,
            false => (self.min..)
                .zip(self.names)
                .find(|(_, name)| name.starts_with(&lower))
                .map(|found| found.0),
        };
        value
            .filter(|value| (self.min..=self.max).contains(value))
            .ok_or_else(|| self.refusal(word))
    }

    fn refusal(&self, word: &str) -> Error {
        let Self { name, min, max, .. } = self;
        refusal(&format!("{word:?} is no {name}: those are {min} to {max}"))
    }
}

fn refusal(reason: &str) -> Error {
    Error::new(Kind::Config, format!("read {SETTING}")).because(reason).advise(
        "use six fields `second minute hour day month weekday`, such as 0 0 6 * * * for six in the morning UTC",
    )
}

/// Whether `text` is an interval `[d.]hh:mm[:ss]` of more than nothing.
fn is_interval(text: &str) -> bool {
    let (days, clock) = match text.split_once('.') {
        Some((days, clock)) => (days, clock),
        None => ("0", text),
    };
    let number = |text: &str, max: u64| {
        let is_number = (1..=8).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<u64>().ok().filter(|number| is_number && *number <= max)
    };
    let parts: Vec<&str> = clock.split(':').collect();
    let (hours, minutes, seconds) = match parts[..] {
        [hours, minutes] => (hours, minutes, "0"),
        [hours, minutes, seconds] => (hours, minutes, seconds),
        _ => return false,
    };
    let parts =
        [number(days, 10_675_199), number(hours, 23), number(minutes, 59), number(seconds, 59)];
    parts.iter().all(Option::is_some) && parts.iter().flatten().any(|part| *part > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(&format!("{}Z", text.replace(' ', "T"))).expect("a date")
    }

    #[test]
    fn the_newest_occurrence_is_the_last_that_fits_all_fields() {
        let check = |schedule: &str, now: &str, want: &str| {
            let found = Schedule::parse(schedule).expect("a schedule").newest_occurrence(at(now));
            assert_eq!(found, Some(at(want)), "{schedule} at {now}: {found:?}");
        };
        // To the second, and itself included.
        check("0 0 6 * * *", "2026-11-22 06:00:00", "2026-11-22 06:00:00");
        check("0 0 6 * * *", "2026-11-22 05:59:59", "2026-11-21 06:00:00");
        check("0 0 6 * * *", "2026-11-22 06:00:00.999", "2026-11-22 06:00:00");
        check("0 0 6 * * *", "2026-11-22 23:59:59", "2026-11-22 06:00:00");
        check("* * * * * *", "2026-11-22 06:07:08", "2026-11-22 06:07:08");
        check("30 * * * * *", "2026-11-22 06:07:08", "2026-11-22 06:06:30");
        check("30 15 * * * *", "2026-11-22 06:15:08", "2026-11-22 05:15:30");
        check("30 15 4 * * *", "2026-11-22 04:15:08", "2026-11-21 04:15:30");
        check("59 59 23 * * *", "2026-01-01 00:00:00", "2025-12-31 23:59:59");
        // Five fields are at second 0.
        check("*/5 * * * *", "2026-11-22 06:07:08", "2026-11-22 06:05:00");
        check("0 6 * * *", "2026-11-22 06:07:08", "2026-11-22 06:00:00");
        // Lists, ranges, steps.
        check("0 0 1,5,9 * * *", "2026-11-22 08:00:00", "2026-11-22 05:00:00");
        check("0 0 9-17 * * *", "2026-11-22 23:00:00", "2026-11-22 17:00:00");
        check("0 0 17-9 * * *", "2026-11-22 23:00:00", "2026-11-22 17:00:00");
        check("0 10-40/15 * * * *", "2026-11-22 08:39:00", "2026-11-22 08:25:00");
        check("0 2/25 * * * *", "2026-11-22 08:59:00", "2026-11-22 08:52:00");
        check("0 */0 * * * *", "2026-11-22 08:59:30", "2026-11-22 08:59:00");
        check("0 3,10-12,*/40 * * * *", "2026-11-22 08:39:00", "2026-11-22 08:12:00");
        // Weekdays from Sunday 0, and names by their beginning. 2026-11-22 is a Sunday.
        check("0 0 6 * * 0", "2026-11-25 00:00:00", "2026-11-22 06:00:00");
        check("0 30 9 * * 1-5", "2026-11-22 12:00:00", "2026-11-20 09:30:00");
        check("0 30 9 * * Mon-fri", "2026-11-22 12:00:00", "2026-11-20 09:30:00");
        check("0 0 6 * * SATURDAY", "2026-11-22 12:00:00", "2026-11-21 06:00:00");
        check("0 30 9 * Jan Mon", "2026-11-22 12:00:00", "2026-01-26 09:30:00");
        check("0 0 0 * Ju *", "2026-11-22 12:00:00", "2026-06-30 00:00:00");
        // Day and weekday: both, not one of them.
        check("0 0 6 13 * 5", "2026-11-22 12:00:00", "2026-11-13 06:00:00");
        check("0 0 6 13 * 5", "2026-11-13 05:00:00", "2026-03-13 06:00:00");
        // Ends of months, leap days.
        check("0 0 0 31 * *", "2026-07-30 00:00:00", "2026-05-31 00:00:00");
        check("0 0 0 30,31 * *", "2026-03-15 00:00:00", "2026-01-31 00:00:00");
        check("0 0 0 29 2 *", "2026-11-22 00:00:00", "2024-02-29 00:00:00");
        check("0 0 0 29 2 *", "2103-11-22 00:00:00", "2096-02-29 00:00:00");
        check("0 0 0 29 2 6", "2116-02-28 00:00:00", "2076-02-29 00:00:00");
        check("0 0 0 28-31 2 *", "2026-11-22 00:00:00", "2026-02-28 00:00:00");
        // UTC knows no summer time: this hour exists each day.
        check("0 30 2 * * *", "2026-03-29 12:00:00", "2026-03-29 02:30:00");
    }

    #[test]
    fn every_occurrence_is_found_by_going_back_second_by_second() {
        for text in ["7,9 */7 3-22/5 * * *", "*/13 59 0,23 28-31 2,3,12 *", "0 0 0 1 1 *"] {
            let schedule = Schedule::parse(text).expect("a schedule");
            let mut rng = fastrand::Rng::with_seed(7);
            for _ in 0..300 {
                let ms = 1_700_000_000_000 + rng.i64(0..4 * 366 * 86_400_000);
                let now = Timestamp::from_unix_ms(ms).expect("a date");
                let found = schedule.newest_occurrence(now).expect("it occurs");
                assert!(found <= now, "{text} at {now}");
                assert_eq!(schedule.newest_occurrence(found), Some(found), "{text} at {now}");
                // Nothing in between: each of some seconds leads back to the same.
                let gap_ms = now.unix_ms() - found.unix_ms();
                for _ in 0..20 {
                    let ms = found.unix_ms() + rng.i64(0..=gap_ms);
                    let between = Timestamp::from_unix_ms(ms).expect("a date");
                    assert_eq!(schedule.newest_occurrence(between), Some(found), "{text}");
                }
            }
        }
    }

    #[test]
    fn an_interval_is_a_schedule_without_occurrences() {
        for text in ["00:30:00", "00:30", "1.00:00:00", "23:59:59"] {
            let schedule = Schedule::parse(text).expect("an interval");
            assert_eq!(schedule.newest_occurrence(at("2026-11-22 00:00:00")), None, "{text}");
        }
    }

    #[test]
    fn what_is_no_schedule_is_refused_with_the_field_that_is_wrong() {
        let check = |text: &str, word: &str| {
            let err = Schedule::parse(text).expect_err(text);
            assert_eq!(err.kind(), Kind::Config, "{text}");
            let line = err.to_string();
            for word in [word, SETTING, "second minute hour day month weekday"] {
                assert!(line.contains(word), "{text}: {line}");
            }
        };
        check("", "0 fields");
        check("* * * *", "4 fields");
        check("* * * * * * *", "7 fields");
        check("0 60 * * * *", "\"60\" is no minute: those are 0 to 59");
        check("60 0 6 * * *", "\"60\" is no second");
        check("0 0 24 * * *", "no hour");
        check("0 0 6 0 * *", "\"0\" is no day: those are 1 to 31");
        check("0 0 6 * 13 *", "no month");
        check("0 0 6 * * 7", "\"7\" is no weekday: those are 0 to 6");
        check("0 0 6 * * 1-7", "no weekday");
        check("0 0 6 * * Mo-Xy", "no weekday");
        check("0 0 six * * *", "no hour");
        check("0 0 6, * * *", "no hour");
        check("0 0 ,6 * * *", "no hour");
        check("0 0 -6 * * *", "no hour");
        check("0 0 /2 * * *", "no hour");
        check("0 0 */ * * *", "no hour");
        check("0 0 */-1 * * *", "no hour");
        check("0 0 6 L * *", "no day");
        check("0 0 6 ? * *", "no day");
        check("0 0 6 * * 5#2", "no weekday");
        check("0 0 6 31 2,4 *", "day 31 does not exist in month 2,4");
        check("0 0\t6 * * *", "no hour");
        check("@daily", "1 fields");
        check("00:00:00", "1 fields");
        check("24:00:00", "1 fields");
        check("-00:30:00", "1 fields");
        check(&"0 ".repeat(800), "longer than");
    }

    #[test]
    fn the_text_is_the_same_however_it_is_spaced() {
        let text = |text| Schedule::parse(text).map(|schedule| schedule.text().to_owned());
        assert_eq!(text("  0  0 6 * * * ").ok().as_deref(), Some("0 0 6 * * *"));
    }
}
