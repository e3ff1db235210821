//! Puts the parts together: from checked settings to a [`World`] the engine can work with.

pub mod workspaces;

use std::sync::Arc;

use url::Url;

use crate::azure::arm::Arm;
use crate::azure::easm::{Easm, Path};
use crate::azure::identity::{ARM_SCOPE, EASM_SCOPE, Identity, STORAGE_SCOPE, Tokens};
use crate::clock::{Clock, SystemClock};
use crate::config::{BlobAccess, BlobUrl, Env, Identities, Settings, StoreUrl};
use crate::error::{Error, Kind, Result};
use crate::export::source::Source;
use crate::export::{Job, Observer, World};
use crate::model::target::Workspace;
use crate::net::Http;
use crate::net::egress::{Bodies, Egress, NamedBy};
use crate::net::retry::RetryPolicy;
use crate::store::Store;
use crate::store::blob::{Access, Blob};
use crate::store::folder::FolderStore;
use crate::store::remote::Remote;

pub use crate::azure::keyvault::Vaults;

/// Requests to ARM at once: it is asked one thing after the other.
const ARM_CONCURRENCY: usize = 1;

/// One target, with everything needed to export it.
pub struct Target {
    settings: Settings,
    workspace: Workspace,
    source: Arc<dyn Source>,
    clock: Arc<dyn Clock>,
}

impl Target {
    /// Signs in, asks ARM for the region if it is not set, and gets the data plane ready. `vaults` is
    /// the process's own.
    ///
    /// # Errors
    /// What identity or ARM failed with; [`Kind::Config`] if a setting does not fit.
    pub async fn connect(settings: Settings, vaults: &Vaults, env: &Env) -> Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let identity = Identity::of_target(&settings.identities, vaults, env, &clock)?;
        let http = |scope, url: &Url, named_by, concurrency| -> Result<Http> {
            let egress = Egress::to(url, named_by, Bodies::Unpacked)?;
            let tokens = Arc::new(Tokens::new(identity.clone(), scope, url, Arc::clone(&clock)));
            let retry = RetryPolicy::default();
            Ok(Http::new(egress, tokens, retry, Arc::clone(&clock), concurrency))
        };
        let region = match &settings.region {
            Some(region) => region.clone(),
            None => {
                let http = http(ARM_SCOPE, &settings.arm_url, NamedBy::Setting, ARM_CONCURRENCY)?;
                let arm =
                    Arm::new(http, settings.arm_url.clone(), settings.arm_api_version.clone());
                let group = &settings.resource_group;
                arm.region(&settings.subscription_id, group, &settings.workspace).await?
            }
        };
        let (data_plane, named_by) = match &settings.data_plane_url {
            Some(url) => (url.clone(), NamedBy::Setting),
            None => (data_plane_url(&region)?, NamedBy::Service),
        };
        let path = Path {
            subscription_id: &settings.subscription_id,
            resource_group: &settings.resource_group,
            workspace: &settings.workspace,
        };
        let http = http(EASM_SCOPE, &data_plane, named_by, settings.concurrency)?;
        let easm = Easm::new(http, &data_plane, path, settings.data_plane_api_version.clone());
        let workspace = Workspace {
            tenant_id: settings.tenant_id.clone(),
            subscription_id: settings.subscription_id.clone(),
            resource_group: settings.resource_group.clone(),
            workspace: settings.workspace.clone(),
            region,
        };
        Ok(Self { settings, workspace, source: Arc::new(easm), clock })
    }

    /// Where its assets come from.
    pub fn source(&self) -> &dyn Source {
        self.source.as_ref()
    }

    /// The world its exports work in.
    pub fn world(&self, store: Arc<dyn Store>, observer: Arc<dyn Observer>) -> World {
        World::new(Arc::clone(&self.source), store, Arc::clone(&self.clock), observer)
    }

    /// How its runs are carried.
    pub fn job(&self) -> Job {
        Job {
            target: self.settings.workspace.clone(),
            workspace: self.workspace.clone(),
            api_version: self.settings.data_plane_api_version.clone(),
            page_size: self.settings.page_size,
            shards: self.settings.shards,
            range_assets_max: self.settings.range_assets_max,
            part_bytes_max: self.settings.part_bytes_max,
            idle_max: self.settings.run_idle_max,
        }
    }
}

/// The store at `url`, with the app's own identity. Requests to a service are tried as `retry` says.
///
/// # Errors
/// [`Kind::Config`] if it cannot be used.
pub fn store(
    url: &StoreUrl,
    identities: &Identities,
    env: &Env,
    retry: RetryPolicy,
) -> Result<Arc<dyn Store>> {
    let BlobUrl { container, prefix, access } = match url {
        StoreUrl::Folder(path) => return Ok(Arc::new(FolderStore::new(path))),
        StoreUrl::Blob(url) => url,
    };
    let access = match access {
        BlobAccess::DevelopmentKey => Access::DevelopmentKey,
        BlobAccess::Identity => {
            let clock: Arc<dyn Clock> = Arc::new(SystemClock);
            let identity = Identity::own(identities, env, &clock)?;
            Access::Token(Arc::new(Tokens::new(identity, STORAGE_SCOPE, container, clock)))
        }
    };
    let blob = Blob::new(container.clone(), prefix, access)?;
    Ok(Arc::new(Remote::new(Arc::new(blob), retry)))
}

/// `https://{region}.easm.defender.microsoft.com` (API reference, section 2).
fn data_plane_url(region: &str) -> Result<Url> {
    Url::parse(&format!("https://{region}.easm.defender.microsoft.com")).map_err(|_| {
        Error::new(Kind::Config, "find the data plane")
            .because("the region makes no host name")
            .with("region", region)
            .advise("set EASM_REGION")
    })
}
