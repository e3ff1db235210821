//! Puts the parts together: from checked settings to a [`World`] the engine can work with.

pub mod workspaces;

use std::sync::Arc;

use async_trait::async_trait;
use url::Url;

use crate::azure::arm::Arm;
use crate::azure::easm::{Easm, Path};
use crate::azure::identity::{ARM_SCOPE, EASM_SCOPE, Identity, STORAGE_SCOPE, Tokens};
use crate::azure::keyvault::{VaultSecret, Vaults};
use crate::clock::{Clock, SystemClock};
use crate::config::{BlobAccess, BlobUrl, Env, OwnIdentity, Settings, StoreUrl, TargetSettings};
use crate::error::{Error, Kind, Result};
use crate::export::source::{Page, Query, Sampled, Source};
use crate::export::{Job, Observer, Room, World};
use crate::model::target::Workspace;
use crate::net::egress::{Bodies, Egress, NamedBy};
use crate::net::retry::RetryPolicy;
use crate::net::{Bearer, Http, Turns};
use crate::store::Store;
use crate::store::blob::{Access, Blob};
use crate::store::folder::FolderStore;
use crate::store::remote::Remote;

/// Requests to ARM at once, for one target: it is asked one thing after the other.
const ARM_CONCURRENCY: usize = 1;

/// What the targets of one process share, so that it needs no more for forty of them than for one.
pub struct Shared {
    vaults: Vaults,
    /// For the data plane.
    turns: Turns,
    room: Room,
}

impl Shared {
    /// For a process that sends at most `concurrency` requests at once to data planes.
    pub fn new(concurrency: usize) -> Self {
        let turns = Turns::new(concurrency);
        Self { vaults: Vaults::default(), turns, room: Room::default() }
    }
}

/// The services of one target, and the identity that signs in to them.
pub struct Services<'a> {
    settings: &'a Settings,
    target: &'a TargetSettings,
    shared: &'a Shared,
    retry: RetryPolicy,
    clock: Arc<dyn Clock>,
    identity: Identity,
    arm_tokens: Arc<Tokens>,
}

impl<'a> Services<'a> {
    /// Those of `target`, where requests are tried as `retry` says. Nothing is asked yet.
    ///
    /// # Errors
    /// [`Kind::Config`] if a setting does not fit.
    pub fn new(
        settings: &'a Settings,
        target: &'a TargetSettings,
        shared: &'a Shared,
        env: &Env,
        retry: RetryPolicy,
    ) -> Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let identity = Identity::of_target(&target.identities, &shared.vaults, env, &clock)?;
        let (arm, for_tokens) = (&settings.arm_url, Arc::clone(&clock));
        let arm_tokens = Arc::new(Tokens::new(identity.clone(), ARM_SCOPE, arm, for_tokens));
        Ok(Self { settings, target, shared, retry, clock, identity, arm_tokens })
    }

    /// The client secret in Key Vault that the identity signs in with, if it does so.
    pub fn client_secret(&self) -> Option<&VaultSecret> {
        self.identity.in_vault()
    }

    /// Signs in, unless that was done before: to ARM, since that is known without asking anybody.
    ///
    /// # Errors
    /// What whoever gives out tokens failed with.
    pub async fn sign_in(&self) -> Result<()> {
        self.arm_tokens.token().await.map(drop).map_err(|err| self.target.concern(err))
    }

    /// ARM.
    ///
    /// # Errors
    /// [`Kind::Config`] if there is no way there.
    pub fn arm(&self) -> Result<Arm> {
        let url = &self.settings.arm_url;
        let egress = Egress::to(url, NamedBy::Setting, Bodies::Unpacked)?;
        let (tokens, clock) = (Arc::clone(&self.arm_tokens), Arc::clone(&self.clock));
        let turns = Turns::new(ARM_CONCURRENCY);
        let http = Http::new(egress, tokens, self.retry.clone(), clock, turns);
        Ok(Arm::new(http, url.clone(), self.settings.arm_api_version.clone()))
    }

    /// The region that ARM says the workspace is in.
    ///
    /// # Errors
    /// What ARM failed with.
    pub async fn asked_region(&self) -> Result<String> {
        let TargetSettings { subscription_id, resource_group, workspace, .. } = self.target;
        let region = self.arm()?.region(subscription_id, resource_group, workspace).await;
        region.map_err(|err| self.target.concern(err))
    }

    /// The workspace's data plane in `region`.
    ///
    /// # Errors
    /// [`Kind::Config`] if there is no way there.
    pub fn data_plane(&self, region: &str) -> Result<Inventory> {
        let (url, named_by) = match &self.target.data_plane_url {
            Some(url) => (url.clone(), NamedBy::Setting),
            None => (data_plane_url(region)?, NamedBy::Service),
        };
        let TargetSettings { subscription_id, resource_group, workspace, .. } = self.target;
        let egress = Egress::to(&url, named_by, Bodies::Unpacked)?;
        let (identity, clock) = (self.identity.clone(), Arc::clone(&self.clock));
        let tokens = Arc::new(Tokens::new(identity, EASM_SCOPE, &url, Arc::clone(&clock)));
        let http = Http::new(egress, tokens, self.retry.clone(), clock, self.shared.turns.share());
        let path = Path { subscription_id, resource_group, workspace };
        let easm = Easm::new(http, &url, path, self.settings.data_plane_api_version.clone());
        Ok(Inventory { easm, target: self.target.clone() })
    }
}

/// The inventory of one target, whose failures say whose they are.
pub struct Inventory {
    easm: Easm,
    target: TargetSettings,
}

#[async_trait]
impl Source for Inventory {
    async fn count(&self, query: &Query) -> Result<u64> {
        self.easm.count(query).await.map_err(|err| self.target.concern(err))
    }

    async fn page(&self, query: &Query, cursor: Option<&str>, size: u32) -> Result<Page> {
        self.easm.page(query, cursor, size).await.map_err(|err| self.target.concern(err))
    }

    async fn sample(&self, query: &Query, size: u32) -> Result<Vec<Sampled>> {
        self.easm.sample(query, size).await.map_err(|err| self.target.concern(err))
    }
}

/// One target, with everything needed to export it.
pub struct Target {
    job: Job,
    source: Arc<dyn Source>,
    clock: Arc<dyn Clock>,
    room: Room,
}

impl Target {
    /// Signs in, asks ARM for the region if it is not set, and gets the data plane ready.
    ///
    /// # Errors
    /// What identity or ARM failed with; [`Kind::Config`] if a setting does not fit.
    pub async fn connect(
        settings: &Settings,
        target: &TargetSettings,
        shared: &Shared,
        env: &Env,
    ) -> Result<Self> {
        let services = Services::new(settings, target, shared, env, RetryPolicy::default())?;
        let region = match &target.region {
            Some(region) => region.clone(),
            None => services.asked_region().await?,
        };
        let source = Arc::new(services.data_plane(&region)?);
        let workspace = Workspace {
            tenant_id: target.tenant_id.clone(),
            subscription_id: target.subscription_id.clone(),
            resource_group: target.resource_group.clone(),
            workspace: target.workspace.clone(),
            region,
        };
        let job = Job {
            target: target.name.clone(),
            workspace,
            inventory: target.inventory(),
            api_version: settings.data_plane_api_version.clone(),
            page_size: settings.page_size,
            shards: settings.shards,
            range_assets_max: settings.range_assets_max,
            part_bytes_max: settings.part_bytes_max,
            idle_max: settings.run_idle_max,
        };
        Ok(Self { job, source, clock: services.clock, room: shared.room.clone() })
    }

    /// Where its assets come from.
    pub fn source(&self) -> &dyn Source {
        self.source.as_ref()
    }

    /// The world its exports work in.
    pub fn world(&self, store: Arc<dyn Store>, observer: Arc<dyn Observer>) -> World {
        World::new(Arc::clone(&self.source), store, Arc::clone(&self.clock), observer)
            .within(self.room.clone())
    }

    /// How its runs are carried.
    pub fn job(&self) -> Job {
        self.job.clone()
    }
}

/// The store at `url`, with the app's own identity. Requests to a service are tried as `retry` says.
///
/// # Errors
/// [`Kind::Config`] if it cannot be used.
pub fn store(
    url: &StoreUrl,
    own: &OwnIdentity,
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
            let identity = Identity::own(own, env, &clock)?;
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
