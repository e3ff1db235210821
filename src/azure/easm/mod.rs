//! The EASM data plane: a [`Source`] of assets.
//!
//! Paging is by cursor (`mark`), the only full scan that does not repeat or miss rows. `nextLink`
//! is never followed: its host is not ours (API reference, section 5).

pub mod filter;
mod wire;

use async_trait::async_trait;
use sha2::{Digest, Sha256};
use url::Url;

use crate::clock::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::export::source::{Asset, Cut, Page, Query, Sampled, Source};
use crate::net::{Answer, Http};

/// One workspace's assets.
pub struct Easm {
    http: Http,
    assets: Url,
    api_version: String,
}

/// Names a workspace in the data plane.
#[derive(Debug, Clone, Copy)]
pub struct Path<'a> {
    /// Azure subscription.
    pub subscription_id: &'a str,
    /// Resource group.
    pub resource_group: &'a str,
    /// Name of the workspace.
    pub workspace: &'a str,
}

impl Easm {
    /// The workspace at `path` below `base`, through `http`.
    pub fn new(http: Http, base: &Url, path: Path<'_>, api_version: String) -> Self {
        let mut assets = base.clone();
        assets
            .path_segments_mut()
            .expect("a service URL is http or https, so it has a path")
            .pop_if_empty()
            .extend([
                "subscriptions",
                path.subscription_id,
                "resourceGroups",
                path.resource_group,
                "workspaces",
                path.workspace,
                "assets",
            ]);
        Self { http, assets, api_version }
    }

    fn url(&self, query: &Query, more: &[(&str, &str)]) -> Url {
        let filter = match &query.cut {
            Cut::AnyOf(kinds) => filter::narrow_to_any(&query.filter, kinds),
            Cut::One(cut) => filter::narrow(&query.filter, *cut),
        };
        let filter = filter::within(&filter, &query.within);
        let mut url = self.assets.clone();
        let mut pairs = url.query_pairs_mut();
        pairs.append_pair("api-version", &self.api_version);
        if !filter.is_empty() {
            pairs.append_pair("filter", &filter);
        }
        pairs.extend_pairs(more);
        drop(pairs);
        url
    }
}

#[async_trait]
impl Source for Easm {
    async fn count(&self, query: &Query) -> Result<u64> {
        const OPERATION: &str = "count assets";
        // One row is the least the service can be asked for.
        let url = self.url(query, &[("maxpagesize", "1")]);
        self.http
            .get(OPERATION, &url, |answer| {
                read_page(OPERATION, answer, None)?.total.ok_or_else(|| {
                    unreadable(OPERATION, "it does not say how many assets there are".to_owned())
                })
            })
            .await
    }

    async fn page(&self, query: &Query, cursor: Option<&str>, size: u32) -> Result<Page> {
        const OPERATION: &str = "list assets";
        let size = size.to_string();
        let url =
            self.url(query, &[("maxpagesize", &size), ("mark", cursor.unwrap_or(FIRST_MARK))]);
        self.http.get(OPERATION, &url, |answer| read_page(OPERATION, answer, cursor)).await
    }

    async fn sample(&self, query: &Query, size: u32) -> Result<Vec<Sampled>> {
        const OPERATION: &str = "sample assets";
        let url = self.url(query, &[("maxpagesize", &size.to_string()), ("mark", FIRST_MARK)]);
        self.http
            .get(OPERATION, &url, |answer| {
                let Page { body, assets, .. } = read_page(OPERATION, answer, None)?;
                Ok(assets.into_iter().map(|asset| sampled(&body[asset.span])).collect())
            })
            .await
    }
}

/// What of an asset is looked at in a sample.
fn sampled(asset: &[u8]) -> Sampled {
    let wire::Described { created_date, name } = serde_json::from_slice(asset).unwrap_or_default();
    Sampled {
        created_at: created_date.as_str().and_then(Timestamp::parse),
        name: name.as_str().map(str::to_owned),
    }
}

/// The cursor that starts at the beginning (API reference, section 5).
const FIRST_MARK: &str = "*";

fn read_page(operation: &'static str, answer: Answer, sent: Option<&str>) -> Result<Page> {
    let Answer { mut body, .. } = answer;
    let page = wire::Page::read(&mut body).map_err(|reason| unreadable(operation, reason))?;
    let (mark, total, is_last) = (page.mark.clone(), page.total_elements, page.last == Some(true));
    let Some(assets) = page.assets() else {
        return Err(unreadable(operation, "it has neither value nor content".to_owned()));
    };
    let assets: Vec<Asset> = assets
        .into_iter()
        .map(|wire::Asset { span, id }| {
            // An asset without an id cannot be told from another by anything but all of it.
            let id_hash = hash(&body[id.unwrap_or_else(|| span.clone())]);
            Asset { span, id_hash }
        })
        .collect();
    // The stop rules (API reference, section 5). A cursor that comes back later is for the reader
    // of the whole range to notice.
    let is_end = is_last || assets.is_empty();
    let next =
        mark.filter(|mark| !is_end && !mark.is_empty() && mark != sent.unwrap_or(FIRST_MARK));
    Ok(Page { body, assets, next, total })
}

fn unreadable(operation: &'static str, reason: String) -> Error {
    Error::new(Kind::Unreadable, operation).because(format!("the answer cannot be read: {reason}"))
}

/// The first 8 bytes of the SHA-256: the same in every version of this program.
fn hash(text: &[u8]) -> u64 {
    let digest = Sha256::digest(text);
    u64::from_be_bytes(digest[..8].try_into().expect("a SHA-256 has 32 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &'static str, sent: Option<&str>) -> Result<Page> {
        let answer = Answer { body: body.as_bytes().to_vec().into(), ..Answer::default() };
        read_page("list assets", answer, sent)
    }

    #[test]
    fn reading_stops_by_the_rules_of_the_reference() {
        let check = |body: &'static str, sent: Option<&str>, want: Option<&str>| {
            assert_eq!(read(body, sent).expect("a page").next.as_deref(), want, "{body}");
        };
        check(r#"{"value":[{"id":"a"}],"mark":"m2"}"#, Some("m1"), Some("m2"));
        check(r#"{"value":[{"id":"a"}],"mark":"m2"}"#, None, Some("m2"));
        check(r#"{"value":[{"id":"a"}],"mark":null}"#, Some("m1"), None);
        check(r#"{"value":[{"id":"a"}]}"#, Some("m1"), None);
        check(r#"{"value":[{"id":"a"}],"mark":""}"#, Some("m1"), None);
        check(r#"{"value":[{"id":"a"}],"mark":"m1"}"#, Some("m1"), None);
        check(r#"{"value":[{"id":"a"}],"mark":"*"}"#, None, None);
        check(r#"{"value":[],"mark":"m2"}"#, Some("m1"), None);
        check(r#"{"content":[{"id":"a"}],"mark":"m2","last":false}"#, Some("m1"), Some("m2"));
        check(r#"{"content":[{"id":"a"}],"mark":"m2","last":true}"#, Some("m1"), None);
    }

    #[test]
    fn an_asset_is_the_services_own_bytes() {
        let page =
            read("{\"value\": [ {\"id\":\"a\" , \"n\":1.0} ,{\"n\":-0}]}", None).expect("a page");
        let texts: Vec<&[u8]> =
            page.assets.iter().map(|asset| &page.body[asset.span.clone()]).collect();
        assert_eq!(texts, [&b"{\"id\":\"a\",\"n\":1.0}"[..], b"{\"n\":-0}"]);
    }

    #[test]
    fn equal_ids_have_equal_hashes_and_assets_without_id_are_kept_apart() {
        let page = read(r#"{"value":[{"id":"a","n":1},{"n":2,"id":"a"},{"n":1},{"n":2}]}"#, None);
        let hashes: Vec<u64> =
            page.expect("a page").assets.iter().map(|asset| asset.id_hash).collect();
        assert_eq!(hashes[0], hashes[1]);
        assert_ne!(hashes[2], hashes[3]);
        assert_eq!(hash(b"\"host$$contoso.com\""), 0xaa39_593c_c081_d825);
    }

    #[test]
    fn of_a_sampled_asset_creation_time_and_name_are_read_if_they_can_be() {
        let check = |asset: &str, created_at: Option<&str>, name: Option<&str>| {
            let sampled = sampled(asset.as_bytes());
            assert_eq!(sampled.created_at, created_at.and_then(Timestamp::parse), "{asset}");
            assert_eq!(sampled.name.as_deref(), name, "{asset}");
        };
        let at = Some("2022-12-12T10:41:09.000+00:00");
        check(
            r#"{"id":"host$$a","name":"\u00fc.a","createdDate":"2022-12-12T10:41:09.000+00:00"}"#,
            at,
            Some("ü.a"),
        );
        check(r#"{"createdDate":"2022-12-12T10:41:09+0000","asset":{"name":"b"}}"#, at, None);
        check(r#"{"createdDate":"yesterday","name":"a"}"#, None, Some("a"));
        check(r#"{"createdDate":null,"name":7}"#, None, None);
        check(r#"["a"]"#, None, None);
    }

    #[test]
    fn what_is_no_page_is_unreadable_and_not_quoted() {
        for body in
            ["<html>canary", "{\"error\":\"canary\"}", "[\"canary\"]", "{\"value\":\"canary\"}", ""]
        {
            let err = read(body, None).expect_err(body);
            assert_eq!(err.kind(), Kind::Unreadable);
            assert!(!err.to_string().contains("canary"), "{err}");
        }
    }
}
