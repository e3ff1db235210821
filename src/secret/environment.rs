//! Which values of the environment are secrets.
//!
//! The Functions host hands its own environment down to the handler: the keys of its store, of its
//! telemetry and of its sessions, besides what the operator set.
//!
//! | what | is remembered |
//! |---|---|
//! | `IDENTITY_HEADER`, `MSI_SECRET` | the value |
//! | a name that contains one of [`WORDS`] | the value |
//! | a value that is a connection string, or a URL with a signature | its secret parts |
//! | a proxy with user information | that, and the password in it, as written and decoded |
//!
//! A name is searched for words and not read: `SOME_KEYBOARD` contains `KEY`, so its value is never
//! said either. That is the contract (section 7), and the safe side: what such a name means is known
//! to whoever set it. Values of less than eight characters would blank ordinary words and are left
//! out. A whole connection string under such a name makes its host unreadable wherever 16 characters
//! of it are said.

use std::borrow::Cow;

use super::VALUE_BYTES_MIN;
use super::shapes::names;

/// Names of secrets; in large letters, as all names are compared.
const NAMES: &[&str] = &["IDENTITY_HEADER", "MSI_SECRET"];

/// What the name of a secret contains.
const WORDS: &[&str] = &["KEY", "SECRET", "TOKEN", "PASSWORD", "CONNECTION", "SAS"];

/// Names of ours that contain one of [`WORDS`] and say where a secret is.
const NOT_SECRET: &[&str] = &["EASM_KEY_VAULT_URL", "EASM_CLIENT_SECRET_NAME"];

/// The end of names whose values are paths.
const PATH: &str = "_FILE";

/// Names of proxies, which may have user information.
const PROXIES: &[&str] = &["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"];

/// The secrets among the variables of an environment: values, and parts of them.
pub fn secrets<'a>(vars: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<Cow<'a, str>> {
    let mut found: Vec<Cow<'a, str>> = Vec::new();
    for (name, value) in vars {
        let (name, value) = (name.to_ascii_uppercase(), value.trim());
        if is_secret(&name) {
            found.push(value.into());
        }
        let parts = parts_of_connection_string(value).into_iter().chain(signature(value));
        let parts = parts
            .chain(user_info(value).filter(|_| PROXIES.contains(&&*name)).into_iter().flatten());
        for part in parts {
            found.extend(decoded(part));
            found.push(part.into());
        }
    }
    found.retain(|value| value.len() >= VALUE_BYTES_MIN);
    found
}

/// Whether the value of `name`, in large letters, is a secret as a whole.
fn is_secret(name: &str) -> bool {
    let has_word = WORDS.iter().any(|word| name.contains(word));
    NAMES.contains(&name) || (has_word && !NOT_SECRET.contains(&name) && !name.ends_with(PATH))
}

/// The secret parts of `value`, if it is a connection string: pairs of name and value, with `;`
/// between them.
fn parts_of_connection_string(value: &str) -> Vec<&str> {
    let pairs = value.split(';').filter(|pair| !pair.trim().is_empty());
    let Some(pairs) = pairs.map(pair).collect::<Option<Vec<_>>>() else { return Vec::new() };
    let is_secret = |name: &str| names::meaning(name.as_bytes()).is_some();
    pairs.into_iter().filter(|(name, _)| is_secret(name)).map(|(_, value)| value).collect()
}

/// Name and value of a pair.
fn pair(text: &str) -> Option<(&str, &str)> {
    let (name, value) = text.split_once('=')?;
    let is_name = |name: &str| {
        let mut bytes = name.bytes();
        bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic())
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b' ' || byte == b'_')
    };
    Some((name.trim(), value.trim())).filter(|(name, _)| is_name(name))
}

/// The signature in `value`, if it is a query or has one.
fn signature(value: &str) -> Option<&str> {
    let parameters = value.split(['?', '&', ';']);
    let mut pairs = parameters.filter_map(|parameter| parameter.split_once('='));
    pairs.find(|(name, _)| name.eq_ignore_ascii_case("sig")).map(|(_, value)| value)
}

/// User and password of a proxy's URL, and the password alone.
fn user_info(url: &str) -> Option<[&str; 2]> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (info, _) = rest.split(['/', '?', '#']).next()?.rsplit_once('@')?;
    Some([info, info.split_once(':').map_or(info, |(_, password)| password)])
}

/// `part` without what is escaped for a URL; nothing if it is the same.
fn decoded(part: &str) -> Option<Cow<'static, str>> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        let digits = behind.first_chunk::<2>().filter(|_| byte == b'%');
        let digits = digits.filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(escaped) => {
                bytes.push(escaped);
                rest = &behind[2..];
            }
            None => {
                bytes.push(byte);
                rest = behind;
            }
        }
    }
    let text = String::from_utf8(bytes).ok().filter(|text| text != part)?;
    Some(text.into())
}
