//! One function for each form of value, used for settings and flags alike. Each takes the name to
//! blame first.

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::settings::{BlobAccess, BlobUrl, StoreUrl};
use crate::error::{Error, Kind, Result};
use crate::model::asset::AssetKind;
use crate::model::request::{Compression, Dataset, Format};
use crate::net::egress::{self, BLOB_DOMAIN, NamedBy, is_on_loopback};

/// A refusal of `found` for the setting or flag `name`, saying what is allowed.
pub fn refuse(name: &str, allowed: &str, found: &str) -> Error {
    let kind = if name.starts_with('-') { Kind::Usage } else { Kind::Config };
    Error::new(kind, format!("read {name}"))
        .because(format!("{found:?} is not allowed"))
        .advise(format!("use {allowed}"))
}

/// A whole number within `allowed`.
///
/// # Errors
/// A refusal.
pub fn number(name: &str, text: &str, allowed: std::ops::RangeInclusive<u64>) -> Result<u64> {
    let words = match (*allowed.start(), *allowed.end()) {
        (min, u64::MAX) => format!("a whole number from {min}"),
        (min, max) => format!("a whole number from {min} to {max}"),
    };
    let number = text.parse().ok().filter(|number| allowed.contains(number));
    number.ok_or_else(|| refuse(name, &words, text))
}

/// Longest time in hours that a setting may name: ten years.
const HOURS_MAX: f64 = 10.0 * 365.0 * 24.0;

/// A time in hours, which may be a fraction.
///
/// # Errors
/// A refusal.
pub fn hours(name: &str, text: &str) -> Result<Duration> {
    let hours = text.parse::<f64>().ok().filter(|hours| *hours > 0.0 && *hours <= HOURS_MAX);
    let time = hours.map(|hours| Duration::from_secs_f64(hours * 3600.0));
    time.ok_or_else(|| refuse(name, &format!("hours, more than 0 and at most {HOURS_MAX}"), text))
}

/// Comma separated kinds, in the contract's order, each once.
///
/// # Errors
/// A refusal.
pub fn kinds(name: &str, text: &str) -> Result<Vec<AssetKind>> {
    let mut kinds = Vec::new();
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        let kind = AssetKind::parse(word).ok_or_else(|| {
            let all = AssetKind::ALL.map(AssetKind::as_str).join(", ");
            refuse(name, &format!("kinds of assets: {all}"), word)
        })?;
        kinds.push(kind);
    }
    kinds.sort_unstable();
    kinds.dedup();
    match kinds.is_empty() {
        true => Err(refuse(name, "at least one kind of asset", text)),
        false => Ok(kinds),
    }
}

/// Comma separated datasets.
///
/// # Errors
/// A refusal.
pub fn datasets(name: &str, text: &str) -> Result<Vec<Dataset>> {
    let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
    let mut datasets = words
        .map(|word| match word {
            "assets" => Ok(Dataset::Assets),
            _ => Err(refuse(name, "assets, the only dataset of this version", word)),
        })
        .collect::<Result<Vec<_>>>()?;
    datasets.dedup();
    match datasets.is_empty() {
        true => Err(refuse(name, "assets", text)),
        false => Ok(datasets),
    }
}

/// A format.
///
/// # Errors
/// A refusal.
pub fn format(name: &str, text: &str) -> Result<Format> {
    match text {
        "ndjson" => Ok(Format::Ndjson),
        _ => Err(refuse(name, "ndjson, the only format of this version", text)),
    }
}

/// A compression.
///
/// # Errors
/// A refusal.
pub fn compression(name: &str, text: &str) -> Result<Compression> {
    match text {
        "none" => Ok(Compression::None),
        "gzip" => Ok(Compression::Gzip),
        _ => Err(refuse(name, "none or gzip, the compressions of this version", text)),
    }
}

/// A filter as it is sent: trimmed, `#` comment lines dropped, line ends turned into spaces.
///
/// # Errors
/// A refusal of `@saved:`, which this version cannot resolve.
pub fn filter(name: &str, text: &str) -> Result<String> {
    let text = text.trim_start_matches('\u{feff}');
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let filter = lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    if filter.starts_with("@saved:") {
        let allowed = "the filter itself; saved filters cannot be named in this version";
        return Err(refuse(name, allowed, &filter));
    }
    Ok(filter)
}

/// The base URL of a service: `https`, or `http` on loopback; no query, no user, no fragment.
/// Comes without a slash at its end.
///
/// # Errors
/// A refusal, which does not quote a URL that may hold a secret.
pub fn service_url(name: &str, text: &str) -> Result<Url> {
    const ALLOWED: &str = "an https:// URL without user, query or fragment (http:// on loopback)";
    let mut url = Url::parse(text).map_err(|_| refuse(name, ALLOWED, "(not a URL)"))?;
    let holds_more = !url.username().is_empty()
        || url.password().is_some()
        || url.query().is_some()
        || url.fragment().is_some();
    if holds_more {
        return Err(refuse(name, ALLOWED, "(a URL with user, query or fragment)"));
    }
    if egress::check(&url, NamedBy::Setting).is_err() {
        return Err(refuse(name, ALLOWED, text));
    }
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Ok(url)
}

/// The base URL of a Key Vault: `https`, also on loopback; no path, no query, no user, no fragment.
///
/// # Errors
/// A refusal, which does not quote a URL that may hold a secret.
pub fn vault_url(name: &str, text: &str) -> Result<Url> {
    const ALLOWED: &str = "https://{vault}.vault.azure.net, without a path: https on loopback too";
    let url = Url::parse(text).map_err(|_| refuse(name, ALLOWED, "(not a URL)"))?;
    let holds_more = !url.username().is_empty()
        || url.password().is_some()
        || url.query().is_some()
        || url.fragment().is_some();
    match (holds_more, url.scheme(), url.path()) {
        (true, ..) => Err(refuse(name, ALLOWED, "(a URL with user, query or fragment)")),
        (false, "https", "/") => Ok(url),
        _ => Err(refuse(name, ALLOWED, text)),
    }
}

/// Longest name of a secret in Key Vault ("Set Secret", Key Vault REST reference).
const SECRET_NAME_CHARS_MAX: usize = 127;

/// The name of a secret in Key Vault.
///
/// # Errors
/// A refusal, which does not quote what was found: it may be the secret itself, put there by mistake.
pub fn secret_name(name: &str, text: &str) -> Result<String> {
    let is_name = (1..=SECRET_NAME_CHARS_MAX).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    match is_name {
        true => Ok(text.to_owned()),
        false => Err(Error::new(Kind::Config, format!("read {name}"))
            .because("its value is not allowed")
            .advise(format!(
                "use the secret's name: 1 to {SECRET_NAME_CHARS_MAX} letters, digits and dashes"
            ))),
    }
}

/// Where the store is: a path, a `file://` URL, or the URL of a container.
///
/// # Errors
/// A refusal; a URL with a query (a SAS) is not quoted.
pub fn store_url(name: &str, text: &str) -> Result<StoreUrl> {
    const ALLOWED: &str = "a folder's path, file:///..., \
                           https://{account}.blob.core.windows.net/{container}[/{prefix}], or \
                           http://127.0.0.1:{port}/devstoreaccount1/{container}[/{prefix}]";
    if text.is_empty() {
        return Err(refuse(name, ALLOWED, text));
    }
    // Looked for before anything is quoted, and also where a query was encoded by mistake.
    let plain = percent_decoded(text).unwrap_or_default().to_ascii_lowercase();
    let lower = text.to_ascii_lowercase() + &plain;
    let credentials = ["accountkey=", "sharedaccess", "sig="];
    if credentials.iter().any(|part| lower.contains(part)) {
        let allowed = "a folder's path or a URL; keys and signatures are never used";
        return Err(refuse(name, allowed, "(what looks like a key or a signature)"));
    }
    // These would become folders of that name.
    let places = ["blob.core.", "usedevelopmentstorage", "devstoreaccount1"];
    if !lower.contains("://") && places.iter().any(|part| lower.contains(part)) {
        let allowed =
            "the whole URL, for Azurite http://127.0.0.1:10000/devstoreaccount1/{container}";
        return Err(refuse(name, allowed, text));
    }
    if !text.contains("://") && lower.starts_with("file:") {
        return Err(refuse(name, "file:/// with three slashes, or a folder's path", text));
    }
    if !text.contains("://") {
        return Ok(StoreUrl::Folder(PathBuf::from(text)));
    }
    let url = Url::parse(text).map_err(|_| refuse(name, ALLOWED, "(not a URL)"))?;
    let holds_more = !url.username().is_empty()
        || url.password().is_some()
        || url.query().is_some()
        || url.fragment().is_some();
    if holds_more {
        let allowed =
            "a URL without user, query (SAS) and fragment; the app's own identity signs in";
        return Err(refuse(name, allowed, "(a URL with one of them)"));
    }
    if url.scheme() == "file" {
        let path = url.to_file_path().map_err(|()| refuse(name, ALLOWED, text))?;
        return Ok(StoreUrl::Folder(path));
    }
    blob_url(&url)
        .map(StoreUrl::Blob)
        .map_err(|allowed| refuse(name, if allowed.is_empty() { ALLOWED } else { allowed }, text))
}

/// The place in a container that `url` names; else what is allowed, or nothing if `url` is of
/// another sort.
fn blob_url(url: &Url) -> Result<BlobUrl, &'static str> {
    let mut segments: Vec<String> = url
        .path_segments()
        .ok_or("")?
        .map(|segment| percent_decoded(segment).ok_or("a URL in UTF-8"))
        .collect::<Result<_, _>>()?;
    if segments.last().is_some_and(String::is_empty) {
        segments.pop();
    }
    let is_loopback = is_on_loopback(url);
    let access = match (url.scheme(), is_loopback) {
        ("https", _) => BlobAccess::Identity,
        ("http", true) => BlobAccess::DevelopmentKey,
        _ => return Err(""),
    };
    let mut segments = segments.into_iter();
    if is_loopback {
        if segments.next().as_deref() != Some("devstoreaccount1") {
            return Err("the account devstoreaccount1 on loopback");
        }
    } else {
        let account = url.host_str().and_then(|host| host.strip_suffix(BLOB_DOMAIN)).ok_or("")?;
        let is_account = (3..=24).contains(&account.len())
            && account.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        if !is_account || url.port().is_some() {
            return Err("an account of 3 to 24 lower-case letters and digits, and no port");
        }
    }
    let container = segments.next().ok_or("a URL that names a container")?;
    if !is_container_name(&container) {
        return Err("a container of 3 to 63 lower-case letters, digits and single hyphens");
    }
    let prefix: Vec<String> = segments.collect();
    let is_plain = |segment: &String| {
        !segment.is_empty()
            && !segment.ends_with('.')
            && !segment.chars().any(|c| c.is_control() || c == '/' || c == '\\')
    };
    let prefix_chars: usize = prefix.iter().map(|segment| segment.chars().count() + 1).sum();
    if !prefix.iter().all(is_plain) || prefix_chars > PREFIX_CHARS_MAX {
        return Err("a prefix of plain folder names, at most 400 characters");
    }
    let mut base = url.clone();
    base.set_path(&match is_loopback {
        true => format!("/devstoreaccount1/{container}"),
        false => format!("/{container}"),
    });
    Ok(BlobUrl { container: base, prefix: prefix.join("/"), access })
}

/// Longest prefix: a blob's name may have 1,024 characters, and ours have up to 400 behind it.
const PREFIX_CHARS_MAX: usize = 400;

/// Azure's rule for names of containers.
fn is_container_name(text: &str) -> bool {
    (3..=63).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        && !text.starts_with('-')
        && !text.ends_with('-')
        && !text.contains("--")
}

/// `segment` of a URL's path as it is meant.
fn percent_decoded(segment: &str) -> Option<String> {
    // In a form, `+` is a space; in a path it is a plus.
    let form = format!("x={}", segment.replace('+', "%2B").replace('&', "%26"));
    let (_, value) = url::form_urlencoded::parse(form.as_bytes()).next()?;
    (!value.contains(char::REPLACEMENT_CHARACTER)).then(|| value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_read_in_any_case_and_order() {
        let check = |text: &str, want: &str| {
            let found = match kinds("EASM_KINDS", text) {
                Ok(kinds) => kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(","),
                Err(err) => err.to_string(),
            };
            assert_eq!(found, want, "{text}");
        };
        check("sslCert, HOST,host,", "host,sslCert");
        check(
            "host,hosts",
            "read EASM_KINDS: \"hosts\" is not allowed; use kinds of assets: as, contact, domain, \
             host, ipAddress, ipBlock, page, sslCert",
        );
        check(" , ", "read EASM_KINDS: \" , \" is not allowed; use at least one kind of asset");
    }

    #[test]
    fn a_service_is_reached_over_tls_or_on_loopback() {
        let check = |text: &str, want: Option<&str>| {
            let found = service_url("EASM_DATA_PLANE_URL", text).ok();
            assert_eq!(found.as_ref().map(Url::as_str), want, "{text}");
        };
        check("https://a.example/", Some("https://a.example/"));
        check("https://a.example/base/", Some("https://a.example/base"));
        check("http://127.0.0.1:8080", Some("http://127.0.0.1:8080/"));
        check("http://[::1]:8080", Some("http://[::1]:8080/"));
        check("http://localhost", Some("http://localhost/"));
        check("http://a.example", None);
        check("http://127.0.0.1.a.example", None);
        check("https://user@a.example", None);
        check("https://a.example?sig=x", None);
        check("ftp://127.0.0.1", None);
        check("a.example", None);
    }

    #[test]
    fn a_store_with_a_signature_is_refused_without_quoting_it() {
        let url = "https://a.blob.core.windows.net/c?sv=1&sig=canary";
        let err = store_url("--store", url).expect_err("a SAS").to_string();
        assert!(!err.contains("canary"), "{err}");
        for text in [
            "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=canary",
            "a.blob.core.windows.net/c?sig=canary",
            "https://acct.blob.core.windows.net/c%3Fsv=1&sig=canary",
            "https://acct.blob.core.windows.net/c/&sv=1&sig%3Dcanary",
            "",
        ] {
            let err = store_url("--store", text).expect_err("no folder").to_string();
            assert!(!err.contains("canary"), "{err}");
        }
        let err = service_url("EASM_ARM_URL", "https://user:canary@h:99999").expect_err("no URL");
        assert!(!err.to_string().contains("canary"), "{err}");
        assert!(matches!(store_url("--store", "file:///tmp/x"), Ok(StoreUrl::Folder(_))));
    }

    #[test]
    fn a_store_is_a_folder_or_a_place_in_a_container() {
        let check = |text: &str, want: Option<&str>| {
            let found = match store_url("--store", text) {
                Ok(StoreUrl::Folder(path)) => Some(format!("folder {}", path.display())),
                Ok(StoreUrl::Blob(BlobUrl { container, prefix, access })) => {
                    Some(format!("{access:?} {container} {prefix}"))
                }
                Err(_) => None,
            };
            assert_eq!(found.as_deref(), want, "{text}");
        };
        let azure = "Identity https://acct.blob.core.windows.net/exports ";
        let key = "DevelopmentKey http://127.0.0.1:10000/devstoreaccount1/exports ";
        let tls = "Identity https://localhost:1/devstoreaccount1/exports ";
        check("exports", Some("folder exports"));
        check("file:///tmp/x", Some("folder /tmp/x"));
        check("https://acct.blob.core.windows.net/exports", Some(azure));
        check("https://acct.blob.core.windows.net/exports/", Some(azure));
        let prefix = format!("{azure}easm/ä +daily");
        check("https://acct.blob.core.windows.net/exports/easm/%C3%A4%20+daily", Some(&prefix));
        check("http://127.0.0.1:10000/devstoreaccount1/exports", Some(key));
        check("https://localhost:1/devstoreaccount1/exports/", Some(tls));
        for refused in [
            "UseDevelopmentStorage=true",
            "file:exports",
            "127.0.0.1:10000/devstoreaccount1/exports",
            "s3://bucket",
            "https://acct.blob.core.windows.net",
            "https://acct.blob.core.windows.net/",
            "https://acct.blob.core.windows.net/Exports",
            "https://acct.blob.core.windows.net/$web",
            "https://acct.blob.core.windows.net/exports//a",
            "https://acct.blob.core.windows.net/exports/a%2Fb",
            "https://acct.blob.core.windows.net/exports/a./b",
            "https://acct.blob.core.windows.net:8443/exports",
            "http://acct.blob.core.windows.net/exports",
            "https://a.blob.core.windows.net/exports",
            "https://acct.blob.core.windows.net.example/exports",
            "https://blob.example/exports",
            "http://10.0.0.4:10000/devstoreaccount1/exports",
            "http://127.0.0.1:10000/exports",
            "http://127.0.0.1:10000/other/exports",
            "http://127.0.0.1:10000/devstoreaccount1",
        ] {
            check(refused, None);
        }
    }

    #[test]
    fn comment_lines_of_a_filter_are_dropped() {
        let check =
            |text: &str, want: &str| assert_eq!(filter("--filter", text).expect("read"), want);
        check("  ", "");
        check(
            "# all hosts\nkind = \"host\"\n  AND state = \"confirmed\"\n",
            "kind = \"host\" AND state = \"confirmed\"",
        );
        assert!(filter("--filter", "@saved:mine").is_err());
    }
}
