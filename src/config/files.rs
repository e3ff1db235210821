//! Settings from files in the current folder: `.env` and `local.settings.json`.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::error::{Error, Kind, Result};

/// Reads the text of a `.env` file: `NAME=value` lines, `export` in front allowed, `#` comments,
/// values bare, in single quotes (verbatim) or in double quotes (`\n`, `\"` and `\\` understood).
///
/// Nothing is expanded: a secret may hold a `$`.
///
/// # Errors
/// [`Kind::Config`], naming the line but never its text.
pub fn parse_dotenv(text: &str) -> Result<Vec<(String, String)>> {
    let mut vars = Vec::new();
    for (n_line, line) in text.lines().enumerate() {
        let line = line.trim().trim_start_matches('\u{feff}');
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
        let pair = line.split_once('=').and_then(|(name, value)| {
            let name = name.trim();
            let is_name = !name.is_empty()
                && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.:-".contains(c));
            is_name.then_some((name, unquote(value.trim())?))
        });
        let Some((name, value)) = pair else {
            return Err(Error::new(Kind::Config, "read .env")
                .because(format!("line {} is not NAME=value", n_line + 1))
                .advise("correct the line or begin it with #"));
        };
        vars.push((name.to_owned(), value));
    }
    Ok(vars)
}

/// The value as meant, or `None` if its quotes do not end.
fn unquote(value: &str) -> Option<String> {
    let is_end = |rest: &str| {
        let rest = rest.trim_start();
        rest.is_empty() || rest.starts_with('#')
    };
    if let Some(rest) = value.strip_prefix('\'') {
        let (inner, behind) = rest.split_once('\'')?;
        return is_end(behind).then(|| inner.to_owned());
    }
    if let Some(rest) = value.strip_prefix('"') {
        let mut inner = String::new();
        let mut chars = rest.chars();
        loop {
            match chars.next()? {
                '"' => return is_end(chars.as_str()).then_some(inner),
                '\\' => match chars.next()? {
                    'n' => inner.push('\n'),
                    c @ ('"' | '\\') => inner.push(c),
                    c => inner.extend(['\\', c]),
                },
                c => inner.push(c),
            }
        }
    }
    // A comment behind a bare value needs a space in front, since `#` may be part of a value.
    let bare = value.split(" #").next().unwrap_or_default();
    Some(bare.trim_end().to_owned())
}

/// Reads the `Values` of the text of a `local.settings.json`.
///
/// # Errors
/// [`Kind::Config`], without quoting the text.
pub fn parse_local_settings(text: &str) -> Result<Vec<(String, String)>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct LocalSettings {
        #[serde(default)]
        values: BTreeMap<String, String>,
    }
    // serde's own words quote the value it stumbles over, which may be a secret.
    let settings: LocalSettings = serde_json::from_str(text.trim_start_matches('\u{feff}'))
        .map_err(|err| {
            Error::new(Kind::Config, "read local.settings.json")
                .because(format!(
                    "line {} is not JSON as it should be, or a value is not text",
                    err.line()
                ))
                .advise("correct it: {\"Values\": {\"NAME\": \"value\"}}")
        })?;
    Ok(settings.values.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dotenv_file_is_read_as_it_is_meant() {
        let check = |text: &str, want: Option<&[(&str, &str)]>| {
            let found = parse_dotenv(text).ok();
            let want = want.map(|pairs| {
                pairs.iter().map(|&(n, v)| (n.to_owned(), v.to_owned())).collect::<Vec<_>>()
            });
            assert_eq!(found, want, "{text}");
        };
        check("", Some(&[]));
        check("# only a comment\n\n", Some(&[]));
        check("A=1\r\nexport B = two words # c\r\n", Some(&[("A", "1"), ("B", "two words")]));
        check("A='x $HOME \\n'", Some(&[("A", "x $HOME \\n")]));
        check(r#"A="a \"b\" \\ $c" # comment"#, Some(&[("A", r#"a "b" \ $c"#)]));
        check("A=p#q", Some(&[("A", "p#q")]));
        check("A=", Some(&[("A", "")]));
        check(r#"A=state = "confirmed""#, Some(&[("A", r#"state = "confirmed""#)]));
        check("A", None);
        check("A=\"open", None);
        check("= 1", None);
    }

    #[test]
    fn what_cannot_be_read_is_not_quoted() {
        let err = parse_dotenv("A=1\nhunter2-secret").expect_err("no pair").to_string();
        assert!(err.contains("line 2") && !err.contains("hunter2"), "{err}");
        let err = parse_local_settings(r#"{"Values": {"A": ["hunter2-secret"]}}"#);
        assert!(!err.expect_err("no text").to_string().contains("hunter2"));
    }

    #[test]
    fn the_values_of_local_settings_are_settings() {
        let found = parse_local_settings(r#"{"IsEncrypted": false, "Values": {"A": "1"}}"#);
        assert_eq!(found.expect("read"), [("A".to_owned(), "1".to_owned())]);
        assert!(parse_local_settings("{}").expect("read").is_empty());
    }
}
