//! Reading configuration as the host does: names in any case, values from JSON or from settings,
//! `%NAME%` for a setting.

use std::collections::BTreeMap;
use std::time::Duration;

use super::dates;
use super::json::Json;

/// The settings of the app, which are the environment of the host.
pub type Settings = BTreeMap<String, String>;

/// `text` with the setting `NAME` in the place of every `%NAME%`.
pub fn resolve(text: &str, settings: &Settings) -> Result<String, String> {
    replaced(text, |name| match setting(name, settings) {
        Some(value) => Ok(value.clone()),
        None => Err(format!("'%{name}%' does not resolve to a value.")),
    })
}

/// The same where what is not set vanishes.
pub fn expand(text: &str, settings: &Settings) -> String {
    let value = |name: &str| Ok(setting(name, settings).cloned().unwrap_or_default());
    replaced(text, value).expect("nothing can be missing")
}

fn replaced(text: &str, value: impl Fn(&str) -> Result<String, String>) -> Result<String, String> {
    let parts: Vec<&str> = text.split('%').collect();
    // A last sign without a partner stands for itself.
    let n_closed = if parts.len() % 2 == 1 { parts.len() } else { parts.len() - 1 };
    let mut out = String::new();
    for (at, part) in parts[..n_closed].iter().enumerate() {
        match at % 2 {
            0 => out.push_str(part),
            _ => out.push_str(&value(part)?),
        }
    }
    if n_closed < parts.len() {
        out.push('%');
        out.push_str(parts[n_closed]);
    }
    Ok(out)
}

/// Settings are found in any case, as .NET's configuration finds them.
pub fn setting<'a>(name: &str, settings: &'a Settings) -> Option<&'a String> {
    settings.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// A command line as a .NET process start takes it apart: by spaces, except within quotes.
pub fn words(line: &str) -> Vec<String> {
    let (mut all, mut word, mut is_quoted) = (Vec::new(), None::<String>, false);
    for c in line.chars() {
        match c {
            '"' => {
                is_quoted = !is_quoted;
                word.get_or_insert_default();
            }
            ' ' if !is_quoted => all.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    all.extend(word);
    all
}

pub fn text_at(from: &Json, name: &str) -> Option<String> {
    from.get(name)?.scalar().filter(|text| !text.is_empty())
}

pub fn flag_at(from: &Json, name: &str) -> Option<bool> {
    text_at(from, name).map(|text| text.eq_ignore_ascii_case("true"))
}

pub fn number_at(from: &Json, name: &str, default: u32) -> Result<u32, String> {
    let read = |text: String| text.parse().map_err(|_| format!("{name}: '{text}' is no number"));
    text_at(from, name).map_or(Ok(default), read)
}

pub fn span_at(from: &Json, name: &str, default: Duration) -> Result<Duration, String> {
    let read = |text: String| dates::span(&text).ok_or(format!("{name}: '{text}' is no time span"));
    text_at(from, name).map_or(Ok(default), read)
}

/// Sets the member at `path`, whose names match in any case.
pub fn override_member(at: &mut Json, path: &[&str], value: &str) {
    let Some((name, rest)) = path.split_first() else {
        *at = Json::text(value);
        return;
    };
    if !matches!(at, Json::Object(_)) {
        *at = Json::Object(Vec::new());
    }
    let Json::Object(members) = at else { return };
    let found = members.iter().position(|(found, _)| found.eq_ignore_ascii_case(name));
    let position = found.unwrap_or_else(|| {
        members.push(((*name).to_owned(), Json::Null));
        members.len() - 1
    });
    override_member(&mut members[position].1, rest, value);
}
