//! The folder that the host serves: what its `host.json` and the functions' `function.json` say that
//! this program must know.

use std::io;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

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

/// The function that anybody may call, and its route.
const HEALTH: (&str, &str) = ("Health", "health");

/// Whether there is a function in `root` at all.
pub fn has_functions(root: &Path) -> bool {
    let mut folders = std::fs::read_dir(root).into_iter().flatten().flatten();
    folders.any(|folder| folder.path().join("function.json").exists())
}

/// Folders of functions in `root` that anybody may call, in order, but for `Health` at its own route. The host
/// takes every folder with a `function.json` for a function, whether this program knows it or not, and
/// requests are told apart by their path: so any of them may lead to any function here. One that cannot be
/// read here may be one that the host can read, so it counts as open.
///
/// # Errors
/// That it cannot be told what there is in `root`.
pub fn anonymous(root: &Path) -> io::Result<Vec<String>> {
    let folders = std::fs::read_dir(root)?.collect::<io::Result<Vec<_>>>()?;
    let mut open: Vec<String> = folders
        .into_iter()
        .filter_map(|folder| {
            let path = folder.path().join("function.json");
            let name = folder.file_name().to_string_lossy().into_owned();
            let is_open = is_there(&path)
                && read(&path).is_none_or(|document| {
                    let may_be_open = name.eq_ignore_ascii_case(HEALTH.0) && is_health(&document);
                    is_open(&document) && !may_be_open
                });
            is_open.then_some(name)
        })
        .collect();
    open.sort();
    Ok(open)
}

/// Whether there is a file, or it cannot be told.
fn is_there(path: &Path) -> bool {
    match path.try_exists() {
        Ok(is_there) => is_there,
        // A file beside the folders has nothing in it.
        Err(err) => err.kind() != io::ErrorKind::NotADirectory,
    }
}

/// Whether a binding of `document` does not demand a key: its level is something else than `function` or
/// `admin`. Without a level the host demands one. It reads names and levels in any case, and levels as numbers
/// too.
fn is_open(document: &Value) -> bool {
    bindings(document).any(|binding| {
        let is_shut = |level: &Value| {
            level.as_str().is_some_and(|level| {
                ["function", "admin"].iter().any(|shut| level.eq_ignore_ascii_case(shut))
            })
        };
        members(binding, "authLevel").any(|level| !is_shut(level))
    })
}

/// Whether every route of `document` is that of `Health`.
fn is_health(document: &Value) -> bool {
    let is_own = |route: &Value| {
        route.as_str().is_some_and(|route| route.trim_matches('/').eq_ignore_ascii_case(HEALTH.1))
    };
    bindings(document).all(|binding| members(binding, "route").all(is_own))
}

fn bindings(document: &Value) -> impl Iterator<Item = &Value> {
    members(document, "bindings").filter_map(Value::as_array).flatten()
}

/// Every member of that name, in any case.
fn members<'a>(object: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    let members = object.as_object().into_iter().flatten();
    members.filter(move |(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
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
        let root = tempfile::tempdir().expect("a folder");
        for (name, text) in [
            ("Open", r#"{"bindings": [{}, {"authLevel": "Anonymous"}]}"#),
            ("Shut", "\u{feff}{\"bindings\": [{\"authLevel\": \"function\"}]}"),
            ("Admin", r#"{"bindings": [{"authLevel": "Admin"}, {"type": "queue"}]}"#),
            ("Otherwise", r#"{"Bindings": [{"AuthLevel": "anonymous"}]}"#),
            ("Remarked", r#"{ /* the host reads this */ "bindings": [] }"#),
            ("Number", r#"{"bindings": [{"authLevel": 0}]}"#),
            ("Digit", r#"{"bindings": [{"authLevel": "0"}]}"#),
            ("Twice", r#"{"bindings": [{"authLevel": "function", "AuthLevel": "anonymous"}]}"#),
            ("Unlevelled", r#"{"bindings": [{"type": "httpTrigger"}]}"#),
            ("Health", r#"{"bindings": [{"authLevel": "anonymous", "route": "health"}]}"#),
        ] {
            let folder = root.path().join(name);
            std::fs::create_dir(&folder).expect("a folder");
            std::fs::write(folder.join("function.json"), text).expect("written");
        }
        std::fs::create_dir(root.path().join("Missing")).expect("a folder");
        let open = ["Digit", "Number", "Open", "Otherwise", "Remarked", "Twice"];
        assert_eq!(anonymous(root.path()).expect("a folder"), open);
        // At another route it lets everybody through to everything.
        let health = r#"{"bindings": [{"authLevel": "anonymous", "route": "{*any}"}]}"#;
        std::fs::write(root.path().join("Health/function.json"), health).expect("written");
        assert!(anonymous(root.path()).expect("a folder").contains(&"Health".to_owned()));
        assert!(anonymous(&root.path().join("nowhere")).is_err());
    }
}
