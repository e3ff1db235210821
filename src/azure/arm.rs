//! ARM: where a workspace is.

use serde::Deserialize;
use url::Url;

use crate::error::{Error, Kind, Result};
use crate::net::{Answer, Http};

/// Most workspaces that are named when the one asked for is missing.
const NAMED_MAX: usize = 5;

/// The control plane, for one subscription and resource group.
pub struct Arm {
    http: Http,
    base: Url,
    api_version: String,
}

/// What the service sends (API reference, section 12).
mod wire {
    use super::Deserialize;

    #[derive(Deserialize)]
    pub struct Workspace {
        pub name: Option<String>,
        pub location: Option<String>,
        pub properties: Option<Properties>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub struct Properties {
        pub data_plane_endpoint: Option<String>,
    }

    #[derive(Deserialize)]
    pub struct Workspaces {
        #[serde(default)]
        pub value: Vec<Workspace>,
    }
}

impl Arm {
    /// ARM at `base`, through `http`.
    pub fn new(http: Http, base: Url, api_version: String) -> Self {
        Self { http, base, api_version }
    }

    /// The region of a workspace, for example `eastus`.
    ///
    /// # Errors
    /// [`Kind::NotFound`] if there is no such workspace, naming those that there are.
    pub async fn region(
        &self,
        subscription_id: &str,
        resource_group: &str,
        workspace: &str,
    ) -> Result<String> {
        const OPERATION: &str = "find the workspace";
        let url = self.url(&[
            "subscriptions",
            subscription_id,
            "resourceGroups",
            resource_group,
            "providers",
            "Microsoft.Easm",
            "workspaces",
            workspace,
        ]);
        let found = self.http.get(OPERATION, &url, json::<wire::Workspace>).await;
        let found = match found {
            Ok(found) => found,
            Err(err) if err.kind() == Kind::NotFound => {
                return Err(self.not_found(subscription_id, resource_group, workspace).await);
            }
            Err(err) => return Err(err),
        };
        let endpoint = found.properties.and_then(|properties| properties.data_plane_endpoint);
        let of_endpoint = endpoint.as_deref().and_then(region_of_host);
        let of_location = || found.location.as_deref().and_then(region_of_location);
        of_endpoint.or_else(of_location).ok_or_else(|| {
            Error::new(Kind::Unreadable, OPERATION)
                .because("ARM does not say in which region the workspace is")
                .with("workspace", workspace)
                .advise("set EASM_REGION")
        })
    }

    /// The error for a missing workspace, with the names of its neighbours: the usual cause is a
    /// misspelt name.
    async fn not_found(&self, subscription_id: &str, group: &str, workspace: &str) -> Error {
        let url = self.url(&[
            "subscriptions",
            subscription_id,
            "resourceGroups",
            group,
            "providers",
            "Microsoft.Easm",
            "workspaces",
        ]);
        let err = Error::new(Kind::NotFound, "find the workspace")
            .because(format!("there is no workspace {workspace:?} in resource group {group:?}"));
        let names: Vec<String> =
            match self.http.get("list workspaces", &url, json::<wire::Workspaces>).await {
                Ok(list) => list.value.into_iter().filter_map(|found| found.name).collect(),
                // The group may be missing too; the first error says enough.
                Err(_) => Vec::new(),
            };
        match names.is_empty() {
            true => err.advise(
                "check EASM_WORKSPACE, EASM_RESOURCE_GROUP and EASM_SUBSCRIPTION_ID, and that the \
                 identity may read them",
            ),
            false => err.advise(format!(
                "set EASM_WORKSPACE to one that is there: {}",
                names.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join(", ")
            )),
        }
    }

    fn url(&self, segments: &[&str]) -> Url {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .expect("a service URL is http or https, so it has a path")
            .pop_if_empty()
            .extend(segments);
        url.query_pairs_mut().append_pair("api-version", &self.api_version);
        url
    }
}

fn json<T: serde::de::DeserializeOwned>(answer: Answer) -> Result<T> {
    serde_json::from_slice(&answer.body).map_err(|err| {
        Error::new(Kind::Unreadable, "read ARM's answer")
            .because(format!("not the JSON that was expected, line {}", err.line()))
    })
}

/// `eastus` from `eastus.easm.defender.microsoft.com`, a bare host name (API reference, section 2).
fn region_of_host(host: &str) -> Option<String> {
    let host = host.strip_prefix("https://").unwrap_or(host).trim_end_matches('/');
    let region = host.strip_suffix(".easm.defender.microsoft.com")?;
    region_of_location(region)
}

/// `eastus` from `East US`.
fn region_of_location(location: &str) -> Option<String> {
    let region: String =
        location.chars().filter(|c| *c != ' ').map(|c| c.to_ascii_lowercase()).collect();
    let is_region = (2..=32).contains(&region.len())
        && region.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    is_region.then_some(region)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_is_read_from_the_endpoint_or_the_location() {
        let check = |host: &str, want: Option<&str>| {
            assert_eq!(region_of_host(host).as_deref(), want, "{host}");
        };
        check("eastus.easm.defender.microsoft.com", Some("eastus"));
        check("https://westus3.easm.defender.microsoft.com/", Some("westus3"));
        check("eastus.easm.defender.microsoft.com.evil.example", None);
        check("a.b.easm.defender.microsoft.com", None);
        assert_eq!(region_of_location("West US 3").as_deref(), Some("westus3"));
        assert_eq!(region_of_location("evil.example/"), None);
    }
}
