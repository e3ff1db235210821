//! Puts the parts together: from checked settings to a [`World`] the engine can work with.

use std::sync::Arc;

use url::Url;

use crate::azure::arm::Arm;
use crate::azure::easm::{Easm, Path};
use crate::azure::identity::{ARM_SCOPE, EASM_SCOPE, Identity, Tokens};
use crate::clock::{Clock, SystemClock};
use crate::config::{Env, Settings, StoreUrl};
use crate::error::{Error, Kind, Result};
use crate::export::source::Source;
use crate::export::{Job, Observer, World};
use crate::model::request::Request;
use crate::model::run::Trigger;
use crate::model::target::Workspace;
use crate::net::Http;
use crate::net::retry::RetryPolicy;
use crate::store::Store;
use crate::store::folder::FolderStore;

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
    /// Signs in, asks ARM for the region if it is not set, and gets the data plane ready.
    ///
    /// # Errors
    /// What identity or ARM failed with; [`Kind::Config`] if a setting does not fit.
    pub async fn connect(settings: Settings, env: &Env) -> Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let identity = Identity::new(settings.credential.clone(), env);
        let http = |scope, url: &Url, concurrency| {
            let tokens = Tokens::new(identity.clone(), scope, url, Arc::clone(&clock));
            Http::new(Arc::new(tokens), RetryPolicy::default(), Arc::clone(&clock), concurrency)
        };
        let region = match &settings.region {
            Some(region) => region.clone(),
            None => {
                let http = http(ARM_SCOPE, &settings.arm_url, ARM_CONCURRENCY)?;
                let arm =
                    Arm::new(http, settings.arm_url.clone(), settings.arm_api_version.clone());
                let group = &settings.resource_group;
                arm.region(&settings.subscription_id, group, &settings.workspace).await?
            }
        };
        let data_plane = match &settings.data_plane_url {
            Some(url) => url.clone(),
            None => data_plane_url(&region)?,
        };
        let path = Path {
            subscription_id: &settings.subscription_id,
            resource_group: &settings.resource_group,
            workspace: &settings.workspace,
        };
        let http = http(EASM_SCOPE, &data_plane, settings.concurrency)?;
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
        World { source: Arc::clone(&self.source), store, clock: Arc::clone(&self.clock), observer }
    }

    /// The job of exporting `request`.
    pub fn job(&self, request: Request, trigger: Trigger) -> Job {
        Job {
            target: self.settings.workspace.clone(),
            workspace: self.workspace.clone(),
            api_version: self.settings.data_plane_api_version.clone(),
            is_own_request: request == self.settings.request,
            request,
            trigger,
            page_size: self.settings.page_size,
            shards: self.settings.shards,
            part_bytes_max: self.settings.part_bytes_max,
        }
    }
}

/// The store at `url`.
pub fn store(url: &StoreUrl) -> Arc<dyn Store> {
    match url {
        StoreUrl::Folder(path) => Arc::new(FolderStore::new(path)),
    }
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
