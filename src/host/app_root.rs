//! The folder that the host serves: what its `host.json` and the functions' `function.json` say that
//! this program must know.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::Function;

/// How long an invocation may take where nothing says so: the shortest default of any plan (protocol,
/// section 10).
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(5 * 60);

/// Stands for "unbounded".
const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// App setting that stands above `host.json`.
pub const TIMEOUT_SETTING: &str = "AzureFunctionsJobHost__functionTimeout";

/// How long the host lets an invocation take, before it kills this process: `setting`
/// ([`TIMEOUT_SETTING`]), else what `host.json` in `root` says.
pub fn function_timeout(setting: Option<&str>, root: &Path) -> Duration {
    let host = read(&root.join("host.json"));
    let written = host.as_ref().and_then(|host| host.get("functionTimeout")?.as_str());
    setting.or(written).and_then(time_span).unwrap_or(TIMEOUT_DEFAULT)
}

/// Functions of `table` that anybody may call, by their `function.json` in `root`. One that is not there is
/// none of the host's either; one that cannot be read here may be one that the host can read, so it counts
/// as open.
pub fn anonymous(table: &[Function], root: &Path) -> Vec<&'static str> {
    let is_anonymous = |function: &&Function| {
        let path = root.join(function.name).join("function.json");
        path.exists() && read(&path).is_none_or(|document| is_open(&document))
    };
    table.iter().filter(is_anonymous).map(|function| function.name).collect()
}

/// Whether a binding of `document` demands no key. The host reads names and levels in any case.
fn is_open(document: &Value) -> bool {
    let bindings = member(document, "bindings").and_then(Value::as_array);
    bindings.into_iter().flatten().any(|binding| {
        let level = member(binding, "authLevel").and_then(Value::as_str);
        level.is_some_and(|level| level.eq_ignore_ascii_case("anonymous"))
    })
}

fn member<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    let mut members = object.as_object()?.iter();
    members.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

fn read(path: &Path) -> Option<Value> {
    let bytes = std::fs::read(path).ok()?;
    // Some editors put a mark in front.
    serde_json::from_slice(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes)).ok()
}

/// `[d.]hh:mm:ss`, or `-1` for as long as it takes.
fn time_span(text: &str) -> Option<Duration> {
    if text.trim() == "-1" {
        return Some(TIMEOUT_MAX);
    }
    let (days, time) = match text.trim().split_once('.') {
        Some((days, time)) if !days.contains(':') => (days.parse::<u64>().ok()?, time),
        _ => (0, text.trim()),
    };
    let numbers: Vec<u64> = time.split(':').map(str::parse).collect::<Result<_, _>>().ok()?;
    let [hours, minutes, seconds] = numbers[..] else { return None };
    let is_time = hours < 24 && minutes < 60 && seconds < 60;
    let span = Duration::from_secs(((days * 24 + hours) * 60 + minutes) * 60 + seconds);
    (is_time && !span.is_zero()).then_some(span.min(TIMEOUT_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Trigger;

    #[test]
    fn a_time_out_is_read_as_the_host_reads_it() {
        let check = |text: &str, want: Option<u64>| {
            assert_eq!(time_span(text).map(|span| span.as_secs()), want, "{text}");
        };
        check("00:10:00", Some(600));
        check("1.00:00:00", Some(86400));
        check("-1", Some(86400));
        check("00:61:00", None);
        check("00:00:00", None);
        check("10", None);
        check("soon", None);
    }

    #[test]
    fn a_setting_stands_above_the_file_and_a_default_behind_both() {
        let root = tempfile::tempdir().expect("a folder");
        let check = |setting, want: u64| {
            assert_eq!(function_timeout(setting, root.path()).as_secs(), want, "{setting:?}");
        };
        check(None, 300);
        std::fs::write(root.path().join("host.json"), r#"{"functionTimeout": "00:07:00"}"#)
            .expect("written");
        check(None, 420);
        check(Some("00:09:00"), 540);
    }

    #[test]
    fn functions_that_anybody_may_call_are_found() {
        const TABLE: &[Function] = &[
            Function { name: "Open", trigger: Trigger::Queue, emits: false },
            Function { name: "Shut", trigger: Trigger::Queue, emits: false },
            Function { name: "Missing", trigger: Trigger::Queue, emits: false },
            Function { name: "Otherwise", trigger: Trigger::Queue, emits: false },
            Function { name: "Remarked", trigger: Trigger::Queue, emits: false },
        ];
        let root = tempfile::tempdir().expect("a folder");
        for (name, text) in [
            ("Open", r#"{"bindings": [{}, {"authLevel": "Anonymous"}]}"#),
            ("Shut", "\u{feff}{\"bindings\": [{\"authLevel\": \"function\"}]}"),
            ("Otherwise", r#"{"Bindings": [{"AuthLevel": "anonymous"}]}"#),
            ("Remarked", r#"{ /* the host reads this */ "bindings": [] }"#),
        ] {
            let folder = root.path().join(name);
            std::fs::create_dir(&folder).expect("a folder");
            std::fs::write(folder.join("function.json"), text).expect("written");
        }
        assert_eq!(anonymous(TABLE, root.path()), ["Open", "Otherwise", "Remarked"]);
    }
}
