//! NCRONTAB, as far as function.json uses it: six fields, or five with second 0.

use std::time::Duration;

use time::OffsetDateTime;

use super::dates;

/// Longest way to the next occurrence: a leap day, past a year that has none.
const DAYS_MAX: u32 = 366 * 9;

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// When a timer fires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schedule {
    Cron(Box<Cron>),
    Every(Duration),
}

/// Which values each field allows, rising.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cron {
    seconds: Vec<u8>,
    minutes: Vec<u8>,
    hours: Vec<u8>,
    days: Vec<u8>,
    months: Vec<u8>,
    weekdays: Vec<u8>,
}

impl Schedule {
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(every) = dates::span(text.trim()) {
            return Ok(Self::Every(every));
        }
        let bad = || format!("The schedule expression '{text}' was not recognized.");
        let mut fields: Vec<&str> = text.split_whitespace().collect();
        if fields.len() == 5 {
            fields.insert(0, "0");
        }
        let [seconds, minutes, hours, days, months, weekdays] = fields[..] else {
            return Err(bad());
        };
        let read = || {
            Some(Cron {
                seconds: field(seconds, 0, 59, &[])?,
                minutes: field(minutes, 0, 59, &[])?,
                hours: field(hours, 0, 23, &[])?,
                days: field(days, 1, 31, &[])?,
                months: field(months, 1, 12, &MONTHS)?,
                weekdays: field(weekdays, 0, 6, &WEEKDAYS)?,
            })
        };
        read().map(|cron| Self::Cron(Box::new(cron))).ok_or_else(bad)
    }

    pub fn is_cron(&self) -> bool {
        matches!(self, Self::Cron(_))
    }

    /// Whether it fires more often than once a minute, so that nothing is kept of its state.
    pub fn is_sub_minute(&self) -> bool {
        match self {
            Self::Cron(cron) => cron.seconds.len() > 1,
            Self::Every(every) => *every < Duration::from_secs(60),
        }
    }

    /// The first occurrence after `after`, if there is one.
    pub fn next(&self, after: OffsetDateTime) -> Option<OffsetDateTime> {
        match self {
            Self::Cron(cron) => cron.next(after),
            Self::Every(every) => after.checked_add((*every).try_into().ok()?),
        }
    }
}

impl Cron {
    fn next(&self, after: OffsetDateTime) -> Option<OffsetDateTime> {
        let mut date = after.date();
        for n_days in 0..DAYS_MAX {
            let fits = self.days.contains(&date.day())
                && self.months.contains(&u8::from(date.month()))
                && self.weekdays.contains(&date.weekday().number_days_from_sunday());
            if fits {
                let at = |h: u8, m: u8, s: u8| date.with_hms(h, m, s).map(|at| at.assume_utc());
                let times =
                    self.hours.iter().flat_map(|h| self.minutes.iter().map(move |m| (h, m)));
                let times = times.flat_map(|(h, m)| self.seconds.iter().map(move |s| (*h, *m, *s)));
                let mut times = times.filter_map(|(h, m, s)| at(h, m, s).ok());
                let found = times.find(|at| n_days > 0 || *at > after);
                if found.is_some() {
                    return found;
                }
            }
            date = date.next_day()?;
        }
        None
    }
}

/// `1,5-9,*/10,Mon-Fri` as a rising list of numbers.
fn field(text: &str, min: u8, max: u8, names: &[&str]) -> Option<Vec<u8>> {
    let value = |text: &str| {
        let name = text.to_lowercase();
        let at = names.iter().position(|known| *known == name);
        let named = at.and_then(|at| u8::try_from(at).ok()).map(|at| at + min);
        named.or_else(|| text.parse().ok()).filter(|value| (min..=max).contains(value))
    };
    let mut all = Vec::new();
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, step.parse::<u8>().ok().filter(|step| *step > 0)?),
            None => (part, 1),
        };
        let (from, to) = match range.split_once('-') {
            Some((from, to)) => (value(from)?, value(to)?),
            None if range == "*" => (min, max),
            None if part.contains('/') => (value(range)?, max),
            None => (value(range)?, value(range)?),
        };
        if from > to {
            return None;
        }
        all.extend((from..=to).step_by(step.into()));
    }
    all.sort_unstable();
    all.dedup();
    Some(all)
}

#[test]
fn a_schedule_says_when_it_fires_next() {
    // Thursday, 2026-01-15T12:30:30Z.
    let after = dates::utc("2026-01-15T12:30:30Z");
    let cases = [
        ("0 0 6 * * *", "2026-01-16T06:00:00Z"),
        ("30 30 12 * * *", "2026-01-16T12:30:30Z"),
        ("*/5 * * * *", "2026-01-15T12:35:00Z"),
        ("0 */5 * * * *", "2026-01-15T12:35:00Z"),
        ("0 0 0 * * Mon-Wed", "2026-01-19T00:00:00Z"),
        ("0 0 0 29 Feb *", "2028-02-29T00:00:00Z"),
        ("0 15,45 12 * * *", "2026-01-15T12:45:00Z"),
        ("00:30:00", "2026-01-15T13:00:30Z"),
    ];
    for (text, want) in cases {
        let found = Schedule::parse(text).unwrap().next(after);
        assert_eq!(found, Some(dates::utc(want)), "{text}");
    }
    assert_eq!(Schedule::parse("0 0 0 31 2 *").unwrap().next(after), None);
    for text in ["", "0 0 6 * *  * *", "0 60 * * * *", "0 0 6 * * 7", "0 9-5 * * * *", "soon"] {
        assert!(Schedule::parse(text).is_err(), "{text}");
    }
    for (text, is) in [("*/10 * * * * *", true), ("5 * * * * *", false), ("00:00:30", true)] {
        assert_eq!(Schedule::parse(text).unwrap().is_sub_minute(), is, "{text}");
    }
}
