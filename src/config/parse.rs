//! One function for each form of value, used for settings and flags alike. Each takes the name to
//! blame first.

use std::path::PathBuf;

use url::Url;

use super::settings::StoreUrl;
use crate::error::{Error, Kind, Result};
use crate::model::asset::AssetKind;
use crate::model::request::{Compression, Dataset, Format};
use crate::net;

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
    let is_loopback = url.host().is_some_and(|host| net::is_loopback(&host));
    if !(url.scheme() == "https" || url.scheme() == "http" && is_loopback) {
        return Err(refuse(name, ALLOWED, text));
    }
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Ok(url)
}

/// Where the store is: a path or a `file://` URL.
///
/// # Errors
/// A refusal; a URL with a query (a SAS) is not quoted.
pub fn store_url(name: &str, text: &str) -> Result<StoreUrl> {
    const ALLOWED: &str = "a folder's path or a file:/// URL";
    if text.is_empty() {
        return Err(refuse(name, ALLOWED, text));
    }
    // A connection string, or a blob URL without its scheme, would become a folder of that name.
    let lower = text.to_ascii_lowercase();
    let credentials = ["accountkey=", "sharedaccess", "sig=", "blob.core."];
    if !lower.contains("://") && credentials.iter().any(|part| lower.contains(part)) {
        let allowed = "a folder's path; keys and signatures are never used";
        return Err(refuse(name, allowed, "(what looks like a key or a signature)"));
    }
    if !text.contains("://") {
        return Ok(StoreUrl::Folder(PathBuf::from(text)));
    }
    let url = Url::parse(text).map_err(|_| refuse(name, ALLOWED, "(not a URL)"))?;
    if url.query().is_some() || !url.username().is_empty() || url.password().is_some() {
        return Err(refuse(name, "a URL without user and query", "(a URL with a user or a query)"));
    }
    if url.scheme() != "file" {
        let allowed = "a folder's path or a file:/// URL, the stores of this version";
        return Err(refuse(name, allowed, text));
    }
    let path = url.to_file_path().map_err(|()| refuse(name, ALLOWED, text))?;
    Ok(StoreUrl::Folder(path))
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
            "",
        ] {
            let err = store_url("--store", text).expect_err("no folder").to_string();
            assert!(!err.contains("canary"), "{err}");
        }
        let err = service_url("EASM_ARM_URL", "https://user:canary@h:99999").expect_err("no URL");
        assert!(!err.to_string().contains("canary"), "{err}");
        assert!(matches!(store_url("--store", "file:///tmp/x"), Ok(StoreUrl::Folder(_))));
        assert!(store_url("--store", "s3://bucket").is_err());
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
