//! What the vault holds, whom it lets in, and how tests change that while it runs.
//!
//! The types describe a vault to start with ([`Options::vault`]); the methods of
//! [`State`] change it afterwards. How it answers is in `vault`.
//!
//! # Invariants
//! - A version never changes its id or its value; a new value is a new version.
//! - The newest version is the current one, whether it is enabled or not.
//! - Ids derive from the seed, the name and how many versions came before.
//!
//! [`Options::vault`]: super::Options::vault

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{APP_CLIENT_ID, APP_IDENTITY, Fault, Options, State, entra, text, tokens};

/// Name of the vault, as the service says it in its messages.
pub const VAULT_NAME: &str = "easm-sim";
/// The host that the vault's certificate names, beside `localhost` and 127.0.0.1.
pub const VAULT_HOST: &str = "easm-sim.vault.azure.net";
/// Name of the default secret.
pub const CLIENT_SECRET_NAME: &str = "easm-client-secret";
/// The resource that tokens for a vault are for.
pub const VAULT_RESOURCE: &str = "https://vault.azure.net";

/// Secrets that are kept, and versions of each; beyond it, the oldest are dropped.
const KEPT_MAX: usize = 1000;

/// A vault, in the tenant of the managed identities
/// ([`Options::home_tenant_id`](super::Options::home_tenant_id)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vault {
    /// What is in it. Default: [`CLIENT_SECRET_NAME`] in two versions, the newer
    /// with the secret of the first app.
    pub secrets: Vec<VaultSecret>,
    /// Client ids of those who may read secrets, `None` being the
    /// system-assigned identity. Default: that one, [`APP_IDENTITY`] and
    /// [`APP_CLIENT_ID`].
    pub readers: Vec<Option<String>>,
    /// Why it refuses everybody.
    pub refusal: Option<VaultRefusal>,
    /// What it tells those who come without a token.
    pub challenge: Challenge,
}

impl Default for Vault {
    fn default() -> Self {
        let versions = vec![SecretVersion::default(), SecretVersion::default()];
        let readers = [None, Some(APP_IDENTITY), Some(APP_CLIENT_ID)];
        Self {
            secrets: vec![VaultSecret { name: CLIENT_SECRET_NAME.to_owned(), versions }],
            readers: readers.map(|id| id.map(str::to_owned)).to_vec(),
            refusal: None,
            challenge: Challenge::default(),
        }
    }
}

/// A secret and its versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VaultSecret {
    /// Letters, digits and dashes. Case does not matter.
    pub name: String,
    /// Oldest first.
    pub versions: Vec<SecretVersion>,
}

/// One version of a secret. Times are seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretVersion {
    /// 32 hexadecimal digits. Empty: derived.
    pub id: String,
    /// Empty: the secret of the first app for the newest version, and made up for
    /// older ones.
    pub value: String,
    /// What the value is; Azure does not look at it.
    pub content_type: Option<String>,
    /// Whether it can be read.
    pub enabled: bool,
    /// When it ends. It can be read after that all the same.
    pub exp: Option<u64>,
    /// When it begins. It can be read before that all the same.
    pub nbf: Option<u64>,
    /// 0: when the simulator started.
    pub created: u64,
    /// 0: when the simulator started.
    pub updated: u64,
}

impl Default for SecretVersion {
    fn default() -> Self {
        Self {
            id: String::new(),
            value: String::new(),
            content_type: None,
            enabled: true,
            exp: None,
            nbf: None,
            created: 0,
            updated: 0,
        }
    }
}

/// Why the vault refuses whoever comes with a good token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VaultRefusal {
    /// The caller has no role on it: 403, `ForbiddenByRbac`.
    Rbac,
    /// It is governed by access policies, and none names the caller: 403,
    /// `AccessDenied`.
    AccessPolicy,
    /// Its firewall does not know the address: 403, `ForbiddenByFirewall`.
    Firewall,
    /// It is not reachable over public networks: 403, `ForbiddenByConnection`.
    Connection,
    /// Too many requests: 429.
    Throttled {
        /// Value of `Retry-After`, sent as it is.
        retry_after: Option<String>,
    },
    /// Whatever else can go wrong, token or not, until it is switched off.
    Fault(Fault),
}

/// What a vault says in `WWW-Authenticate`. The default tells the truth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// Who hands out tokens. `None`: this simulator's Entra, in the vault's tenant.
    pub authorization: Option<String>,
    /// What a token must be for. Default: `https://vault.azure.net`.
    pub resource: String,
}

impl Default for Challenge {
    fn default() -> Self {
        Self { authorization: None, resource: VAULT_RESOURCE.to_owned() }
    }
}

/// The vault as it is by now. Shared by all connections.
#[derive(Debug)]
pub struct Shelf {
    seed: u64,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    secrets: Vec<VaultSecret>,
    refusal: Option<VaultRefusal>,
    n_versions: u64,
}

impl Shelf {
    /// The vault of the options, whose apps must have their secrets already.
    pub fn new(options: &Options) -> Self {
        let Vault { secrets, refusal, readers: _, challenge: _ } = options.vault.clone();
        let of_app = options.apps.iter().find_map(|app| app.secret.clone());
        let now = tokens::now_seconds();
        let inner = Inner { secrets: Vec::new(), refusal, n_versions: 0 };
        let shelf = Self { seed: options.seed, inner: Mutex::new(inner) };
        for VaultSecret { name, versions } in secrets {
            let n_older = versions.len().saturating_sub(1);
            for (at, mut version) in versions.into_iter().enumerate() {
                if version.value.is_empty() {
                    version.value = match &of_app {
                        Some(secret) if at == n_older => secret.clone(),
                        _ => entra::made_up_secret(options.seed, &format!("{name}/{at}")),
                    };
                }
                for time in [&mut version.created, &mut version.updated] {
                    *time = if *time == 0 { now } else { *time };
                }
                shelf.add(&name, version);
            }
        }
        shelf
    }

    /// A secret's name as it was created, and its newest version or the named one.
    pub fn find(&self, name: &str, version: Option<&str>) -> Option<(String, SecretVersion)> {
        let inner = self.lock();
        let secret = inner.secrets.iter().find(|secret| is_named(secret, name))?;
        let found = match version {
            Some(id) => secret.versions.iter().find(|version| version.id == id),
            None => secret.versions.last(),
        };
        Some((secret.name.clone(), found?.clone()))
    }

    /// Why it refuses everybody by now.
    pub fn refusal(&self) -> Option<VaultRefusal> {
        self.lock().refusal.clone()
    }

    /// Adds a version, the newest from now on, and answers its id.
    fn add(&self, name: &str, mut version: SecretVersion) -> String {
        let mut inner = self.lock();
        if version.id.is_empty() {
            let high = text::hash(self.seed ^ 0x0f_ae17, name.as_bytes());
            let low = text::mix(high ^ text::mix(inner.n_versions));
            version.id = text::uuid(high ^ low, low).replace('-', "");
        }
        inner.n_versions += 1;
        let id = version.id.clone();
        let at = inner.secrets.iter().position(|secret| is_named(secret, name));
        let at = at.unwrap_or_else(|| {
            drop_oldest(&mut inner.secrets);
            inner.secrets.push(VaultSecret { name: name.to_owned(), versions: Vec::new() });
            inner.secrets.len() - 1
        });
        let versions = &mut inner.secrets[at].versions;
        drop_oldest(versions);
        versions.push(version);
        id
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_named(secret: &VaultSecret, name: &str) -> bool {
    secret.name.eq_ignore_ascii_case(name)
}

fn drop_oldest<T>(all: &mut Vec<T>) {
    if all.len() >= KEPT_MAX {
        all.remove(0);
    }
}

/// What an administrator of the vault does while it is in use.
impl State {
    /// Adds a version with this value, created now, and answers its id. A secret
    /// that does not exist, or not any more, is created.
    pub fn set_secret(&self, name: &str, value: &str) -> String {
        let now = tokens::now_seconds();
        let value = value.to_owned();
        let version =
            SecretVersion { value, created: now, updated: now, ..SecretVersion::default() };
        self.shelf().add(name, version)
    }

    /// Changes the newest version of a secret: `|v| v.enabled = false`.
    ///
    /// # Panics
    /// If there is no such secret.
    pub fn change_secret(&self, name: &str, change: impl FnOnce(&mut SecretVersion)) {
        let mut inner = self.shelf().lock();
        let secret = inner.secrets.iter_mut().find(|secret| is_named(secret, name));
        let newest = secret.and_then(|secret| secret.versions.last_mut());
        let newest = newest.expect("the secret to change exists");
        newest.updated = tokens::now_seconds();
        change(newest);
    }

    /// The newest version of a secret, enabled or not.
    pub fn secret(&self, name: &str) -> Option<SecretVersion> {
        self.shelf().find(name, None).map(|(_name, version)| version)
    }

    /// Deletes a secret with all its versions.
    pub fn delete_secret(&self, name: &str) {
        self.shelf().lock().secrets.retain(|secret| !is_named(secret, name));
    }

    /// From now on the vault refuses everybody, or nobody any more.
    pub fn set_vault_refusal(&self, refusal: Option<VaultRefusal>) {
        self.shelf().lock().refusal = refusal;
    }
}
