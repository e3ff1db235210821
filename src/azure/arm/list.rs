//! All workspaces of a subscription, page by page.

use std::collections::HashSet;

use tracing::debug;
use url::Url;

use super::refusal::{Need, explain};
use super::wire::{Resources, Workspace};
use super::{Arm, Path};
use crate::error::{Error, Kind, Result};

const OPERATION: &str = "list workspaces";

/// Most pages that are read. ARM's have hundreds of resources each, and a subscription has few
/// workspaces: more pages than that never end.
pub const PAGES_MAX: usize = 500;

impl Arm {
    /// Every workspace of the subscription that the identity may see, in the order of ARM.
    ///
    /// # Errors
    /// [`Kind::Endless`] if the pages go round or do not end.
    pub async fn list(&self, subscription_id: &str) -> Result<Vec<Workspace>> {
        let segments =
            ["subscriptions", subscription_id, "providers", "Microsoft.Easm", "workspaces"];
        let first = self.url(&segments);
        let mut seen = HashSet::new();
        let mut all = Vec::new();
        let mut url = first.clone();
        while seen.insert(url.query().unwrap_or_default().to_owned()) {
            if seen.len() > PAGES_MAX {
                return Err(endless(&format!("there is no end after {PAGES_MAX} pages")));
            }
            let path = Path { subscription_id, resource_group: "", workspace: "" };
            let page = self.get(OPERATION, &url).await;
            let page: Resources =
                page.map_err(|err| explain(err, Need::List, path)).and_then(super::Reply::parse)?;
            all.extend(page.value.into_iter().flatten().map(Workspace::from));
            match page.next_link.filter(|link| !link.is_empty()) {
                Some(link) => url = self.next(&first, &link)?,
                None => return Ok(all),
            }
        }
        Err(endless("a page leads back to one that was read before"))
    }

    /// The page that `link` leads to. Only its query is taken: host and path stay those of the `first`
    /// page, so the token goes nowhere else.
    fn next(&self, first: &Url, link: &str) -> Result<Url> {
        let link = first.join(link).map_err(|_| {
            Error::new(Kind::Unreadable, OPERATION).because("ARM's link to the next page is no URL")
        })?;
        if link.origin() != first.origin() {
            debug!(host = link.host_str(), "Of a link to another host only the query is used");
        }
        let mut url = first.clone();
        url.query_pairs_mut()
            .clear()
            .extend_pairs(link.query_pairs().filter(|(name, _)| name != "api-version"))
            .append_pair("api-version", &self.api_version);
        Ok(url)
    }
}

fn endless(reason: &str) -> Error {
    Error::new(Kind::Endless, OPERATION)
        .because(reason)
        .advise("check EASM_ARM_URL, and try again later")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{Played, reply};
    use super::*;

    /// The names of all workspaces if the links are these, and the URLs that were asked.
    async fn list(links: &[Option<&str>]) -> (Result<Vec<String>>, Vec<String>) {
        let page = |(n, link): (usize, &Option<&str>)| {
            Ok(reply(200, json!({"value": [{"name": format!("w{n}")}], "nextLink": link})))
        };
        let played = Played::new(links.iter().enumerate().map(page));
        let found = played.arm().list("s-1").await;
        let names = found.map(|all| all.into_iter().filter_map(|one| one.name).collect());
        (names, played.asked())
    }

    #[tokio::test]
    async fn every_page_is_asked_of_our_own_host_and_path() {
        let path = "/base/subscriptions/s-1/providers/Microsoft.Easm/workspaces";
        let own = format!("https://arm.example{path}?api-version=v&$skiptoken=a%2Fb");
        let foreign = "https://evil.example/elsewhere?$skiptoken=c&api-version=older";
        let relative = "?$skiptoken=d";
        let (found, asked) = list(&[Some(&own), Some(foreign), Some(relative), Some("")]).await;
        assert_eq!(found.expect("all"), ["w0", "w1", "w2", "w3"]);
        let want = ["", "%24skiptoken=a%2Fb&", "%24skiptoken=c&", "%24skiptoken=d&"];
        let want = want.map(|query| format!("GET https://arm.example{path}?{query}api-version=v"));
        assert_eq!(asked, want);
    }

    #[tokio::test]
    async fn pages_that_go_round_or_do_not_end_are_an_error() {
        let round = [Some("?t=1"), Some("?t=2"), Some("https://evil.example/?t=1"), None];
        let (found, asked) = list(&round).await;
        assert_eq!((found.expect_err("a circle").kind(), asked.len()), (Kind::Endless, 3));
        // Without a query it is the first page once more.
        let (found, asked) = list(&[Some("https://arm.example/"), None]).await;
        assert_eq!((found.expect_err("a circle").kind(), asked.len()), (Kind::Endless, 1));
        let links: Vec<String> = (0..=PAGES_MAX).map(|n| format!("?t={n}")).collect();
        let links: Vec<Option<&str>> = links.iter().map(|link| Some(link.as_str())).collect();
        let (found, asked) = list(&links).await;
        assert_eq!((found.expect_err("no end").kind(), asked.len()), (Kind::Endless, PAGES_MAX));
    }

    #[tokio::test]
    async fn no_workspaces_are_an_empty_list() {
        for body in [json!({"value": []}), json!({"value": null, "nextLink": null}), json!({})] {
            let played = Played::new([Ok(reply(200, body))]);
            assert!(played.arm().list("s-1").await.expect("a list").is_empty());
        }
    }
}
