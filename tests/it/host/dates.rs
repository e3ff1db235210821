//! Date-times as the host sees and rewrites them: a text is one if it is one as a whole.
//!
//! The host's time zone is UTC.

use std::time::Duration;

use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime, UtcOffset};

/// Texts of other lengths are no date-times, whatever is in them.
const LENGTHS: std::ops::RangeInclusive<usize> = 19..=40;
/// Digits of a second that .NET keeps.
const FRACTION_DIGITS: usize = 7;

/// A date-time in a text, with what the text says of its zone.
struct Found {
    /// In UTC, if the text has a zone.
    at: PrimitiveDateTime,
    /// Digits after the point, without zeros at their end.
    fraction: String,
    zone: Zone,
}

enum Zone {
    Utc,
    /// An offset: .NET converts it to the zone of the machine.
    Local,
    Unsaid,
}

/// `04/06/2024 15:30:00`, if `text` is an ISO date-time as a whole.
pub fn rewritten(text: &str) -> Option<String> {
    let format = format_description!("[month]/[day]/[year] [hour]:[minute]:[second]");
    find(text)?.at.format(&format).ok()
}

/// The same date-time in the host's zone, still in ISO form, if `text` is one as a whole.
pub fn in_host_zone(text: &str) -> Option<String> {
    let Found { at, fraction, zone } = find(text)?;
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]");
    let point = if fraction.is_empty() { "" } else { "." };
    let zone = match zone {
        Zone::Utc => "Z",
        Zone::Local => "+00:00",
        Zone::Unsaid => "",
    };
    Some(format!("{}{point}{fraction}{zone}", at.format(&format).ok()?))
}

fn find(text: &str) -> Option<Found> {
    if !LENGTHS.contains(&text.len()) || !text.is_ascii() || text.as_bytes()[10] != b'T' {
        return None;
    }
    let (date, rest) = text.split_at(19);
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]");
    let at = PrimitiveDateTime::parse(date, &format).ok()?;
    let (fraction, zone) = match rest.strip_prefix('.') {
        None => ("", rest),
        Some(rest) => {
            let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            (Some(rest.split_at(end)).filter(|(digits, _)| !digits.is_empty()))?
        }
    };
    let fraction = &fraction[..fraction.len().min(FRACTION_DIGITS)];
    let fraction = fraction.trim_end_matches('0').to_owned();
    let (at, zone) = match zone {
        "" => (at, Zone::Unsaid),
        "Z" => (at, Zone::Utc),
        offset => {
            let minutes = offset_minutes(offset)?;
            let at = at.checked_sub(time::Duration::minutes(minutes))?;
            (at, Zone::Local)
        }
    };
    Some(Found { at, fraction, zone })
}

/// Minutes of `+02:00`, `+0200` or `+02`.
fn offset_minutes(text: &str) -> Option<i64> {
    let sign = match text.as_bytes()[0] {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let digits = text[1..].replacen(':', "", 1);
    let is_known = [2, 4].contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    let hours: i64 = is_known.then(|| digits[..2].parse().ok())??;
    let minutes: i64 = digits[2..].parse().unwrap_or(0);
    Some(sign * (hours * 60 + minutes))
}

/// `2026-11-22T13:47:00+00:00`: a date-time among the metadata of a trigger, whole seconds.
pub fn whole_seconds(at: OffsetDateTime) -> String {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]+00:00");
    at.to_offset(UtcOffset::UTC).format(&format).expect("a date of four digits formats")
}

/// `2026-11-22T13:47:00.0123456`, with as many digits of the second as it has, up to seven.
pub fn exact(at: OffsetDateTime) -> String {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]");
    let at = at.to_offset(UtcOffset::UTC);
    let text = at.format(&format).expect("a date of four digits formats");
    let digits = format!("{:07}", at.nanosecond() / 100);
    match digits.trim_end_matches('0') {
        "" => text,
        digits => format!("{text}.{digits}"),
    }
}

/// Reads RFC 3339, for tests to say a slot in.
pub fn utc(text: &str) -> OffsetDateTime {
    OffsetDateTime::parse(text, &Rfc3339).expect("tests give RFC 3339")
}

/// A .NET time span (`00:10:00`, `1.00:00:00`, `00:00:00.5`).
pub fn span(text: &str) -> Option<Duration> {
    let (days, rest) = match text.split_once('.') {
        Some((days, rest)) if rest.contains(':') => (days.parse().ok()?, rest),
        _ => (0_u64, text),
    };
    let mut parts = rest.split(':');
    let (hours, minutes, seconds) = (parts.next()?, parts.next()?, parts.next()?);
    let (hours, minutes): (u64, u64) = (hours.parse().ok()?, minutes.parse().ok()?);
    let seconds: f64 = seconds.parse().ok().filter(|s| (0.0..60.0).contains(s))?;
    if parts.next().is_some() || hours > 23 || minutes > 59 {
        return None;
    }
    let whole = Duration::from_secs(days * 86_400 + hours * 3600 + minutes * 60);
    Some(whole + Duration::from_secs_f64(seconds))
}

#[test]
fn a_text_that_is_a_date_time_as_a_whole_is_rewritten() {
    // The text, the invariant form, the form in the host's zone.
    let cases = [
        ("2024-04-06T15:30:00Z", Some(("04/06/2024 15:30:00", "2024-04-06T15:30:00Z"))),
        ("2024-04-06T15:30:00", Some(("04/06/2024 15:30:00", "2024-04-06T15:30:00"))),
        (
            "2024-04-06T01:30:00.1230+02:00",
            Some(("04/05/2024 23:30:00", "2024-04-05T23:30:00.123+00:00")),
        ),
        ("2024-04-06T15:30:00-0130", Some(("04/06/2024 17:00:00", "2024-04-06T17:00:00+00:00"))),
        ("2024-04-06", None),
        ("2024-04-06 15:30:00", None),
        ("at 2024-04-06T15:30:00Z", None),
        ("2024-04-06T15:30:00Z.", None),
        ("2024-13-06T15:30:00Z", None),
        ("2024-04-06T15:30:00.Z", None),
    ];
    for (text, want) in cases {
        let found = rewritten(text).zip(in_host_zone(text));
        let want = want.map(|(us, iso)| (us.to_owned(), iso.to_owned()));
        assert_eq!(found, want, "{text}");
    }
}

#[test]
fn a_time_span_is_read_as_net_writes_it() {
    let cases = [
        ("00:00:30", Some(30_000)),
        ("1.02:03:04.5", Some(93_784_500)),
        ("00:00:00.025", Some(25)),
        ("30", None),
        ("00:61:00", None),
        ("0:0:0:0:0", None),
    ];
    for (text, want_ms) in cases {
        assert_eq!(span(text), want_ms.map(Duration::from_millis), "{text}");
    }
}
