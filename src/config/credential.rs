//! Who signs in: the target's credential and the app's own identity (contract, section 2).

use std::fmt;
use std::path::PathBuf;

use url::Url;

use super::env::Env;
use super::target::is_guid;
use super::targets::in_members;
use super::{names, parse};
use crate::error::{Error, Kind, Result};
use crate::secret::Secret;

/// How to sign in.
#[derive(Debug, Clone)]
pub enum Credential {
    /// The identity that the platform gives.
    ManagedIdentity {
        /// Client id of a user-assigned identity; absent: system-assigned.
        client_id: Option<String>,
        /// The tenant that its tokens must be of; absent: any.
        tenant_id: Option<String>,
    },
    /// An app registration and its secret.
    ClientSecret {
        /// The tenant it signs in to.
        tenant_id: String,
        /// The app registration.
        client_id: String,
        /// Its secret.
        secret: ClientSecret,
    },
    /// An app registration that trusts the app's own managed identity.
    Federated {
        /// The tenant it signs in to.
        tenant_id: String,
        /// The app registration.
        client_id: String,
        /// Client id of the managed identity that vouches for it; absent: system-assigned.
        identity: Option<String>,
    },
    /// An app registration that trusts the token in a file.
    WorkloadIdentity {
        /// The tenant it signs in to.
        tenant_id: String,
        /// The app registration.
        client_id: String,
        /// The file, which the platform writes anew now and then.
        token_file: PathBuf,
    },
    /// Whoever is signed in to the Azure CLI or the Azure Developer CLI.
    Developer {
        /// The tenant to ask a token of; absent: the one they are signed in to.
        tenant_id: Option<String>,
    },
}

/// Where an app registration's secret is.
pub enum ClientSecret {
    /// Here: `EASM_CLIENT_SECRET`.
    Given(Secret),
    /// In Key Vault, where the app's own identity reads it.
    InVault {
        /// `EASM_KEY_VAULT_URL`: `https`, without a path.
        vault_url: Url,
        /// `EASM_CLIENT_SECRET_NAME`
        name: String,
    },
}

impl Clone for ClientSecret {
    fn clone(&self) -> Self {
        match self {
            Self::Given(secret) => Self::Given(secret.share()),
            Self::InVault { vault_url, name } => {
                Self::InVault { vault_url: vault_url.clone(), name: name.clone() }
            }
        }
    }
}

impl fmt::Debug for ClientSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(_) => f.write_str("Given"),
            Self::InVault { vault_url, name } => f
                .debug_struct("InVault")
                .field("vault_url", &vault_url.as_str())
                .field("name", name)
                .finish(),
        }
    }
}

/// Both identities that a target's export needs.
#[derive(Debug, Clone)]
pub struct Identities {
    /// The target's: for EASM and ARM.
    pub target: Credential,
    /// The app's own, which reads the target's client secret in Key Vault.
    pub own: OwnIdentity,
}

/// The app's own identity: for the store, and for Key Vault.
#[derive(Debug, Clone)]
pub struct OwnIdentity {
    /// How it signs in.
    pub credential: Credential,
    /// Where Entra is, for this and for every target's: `AZURE_AUTHORITY_HOST`.
    pub authority: Url,
}

impl OwnIdentity {
    /// That of an app that is at home in the tenant `tenant_id`, unless something else says where.
    ///
    /// # Errors
    /// [`Kind::Config`], naming the setting.
    pub fn read(env: &Env, tenant_id: &str) -> Result<Self> {
        let name = "AZURE_AUTHORITY_HOST";
        let text = env.get(name).unwrap_or(names::default(name));
        let authority = parse::service_url(name, text).ok().filter(|url| url.scheme() == "https");
        let authority = authority.ok_or_else(|| {
            refuse_value(name, "an https:// URL without user, query or fragment, on loopback too")
        })?;
        let credential = Wanted::read(env)?.own(env, tenant_id);
        Ok(Self { credential, authority })
    }
}

const SECRET: &str = "EASM_CLIENT_SECRET";
const SECRET_NAME: &str = "EASM_CLIENT_SECRET_NAME";
const VAULT_URL: &str = "EASM_KEY_VAULT_URL";
const TOKEN_FILE: &str = "AZURE_FEDERATED_TOKEN_FILE";

impl Identities {
    /// Those of the target in the tenant `tenant_id`.
    ///
    /// # Errors
    /// [`Kind::Config`], naming the setting.
    pub fn read(env: &Env, tenant_id: &str) -> Result<Self> {
        let own = OwnIdentity::read(env, tenant_id)?;
        refuse_secret_in_azure(env)?;
        // Whether they would be used or not, what they say has to make sense.
        let vault = Vault::read(env)?;
        Ok(Self { target: Wanted::read(env)?.target(env, tenant_id, vault)?, own })
    }
}

/// Refuses a client secret among the app's settings, whether it would be used or not: it does not belong
/// there.
///
/// # Errors
/// [`Kind::Config`].
pub(super) fn refuse_secret_in_azure(env: &Env) -> Result<()> {
    if !env.is_in_azure() || env.get(SECRET).is_none() {
        return Ok(());
    }
    let fallback = names::fallback(SECRET).filter(|_| !is_set_itself(env, SECRET));
    let name = fallback.map_or_else(|| env.name(SECRET), str::to_owned);
    Err(refuse(format!("{name} is refused in Azure")).advise(
        "remove it, and put the secret into Key Vault (EASM_CLIENT_SECRET_NAME and \
         EASM_KEY_VAULT_URL), or set EASM_CREDENTIAL=federated, which needs none",
    ))
}

/// Whether the platform offers a managed identity.
fn is_offered(env: &Env) -> bool {
    env.get("IDENTITY_ENDPOINT").is_some() && env.get("IDENTITY_HEADER").is_some()
}

/// Refuses unless the platform offers a managed identity. Its endpoint is the only one that is asked:
/// requests over plain http go nowhere else (contract, section 2).
fn check_offered(env: &Env) -> Result<()> {
    if is_offered(env) {
        return Ok(());
    }
    const ADVICE: &str = "run it on Azure Functions or App Service; on a virtual machine run \
                          `az login --identity` and set EASM_CREDENTIAL=developer";
    let one = ["IDENTITY_ENDPOINT", "IDENTITY_HEADER"].map(|name| env.get(name).is_some());
    Err(match one.contains(&true) {
        true => refuse("of IDENTITY_ENDPOINT and IDENTITY_HEADER only one is set")
            .advise("set both, as the platform does, or another EASM_CREDENTIAL"),
        false => refuse("no managed identity is offered here (IDENTITY_ENDPOINT)").advise(ADVICE),
    })
}

/// A refusal of a setting's value that does not quote it.
fn refuse_value(name: &str, allowed: &str) -> Error {
    Error::new(Kind::Config, format!("read {name}"))
        .because("its value is not allowed")
        .advise(format!("use {allowed}"))
}

fn refuse(reason: impl Into<String>) -> Error {
    Error::new(Kind::Config, "choose a credential").because(reason)
}

/// `EASM_CREDENTIAL`, with `auto` resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    ManagedIdentity,
    ClientSecret,
    Federated,
    WorkloadIdentity,
    Developer,
}

impl Wanted {
    fn read(env: &Env) -> Result<Self> {
        const ALLOWED: &str = "managed-identity, client-secret, federated, workload-identity, \
                               developer or auto";
        let name = "EASM_CREDENTIAL";
        match env.get(name).unwrap_or(names::default(name)) {
            "managed-identity" => Ok(Self::ManagedIdentity),
            "client-secret" => Ok(Self::ClientSecret),
            "federated" => Ok(Self::Federated),
            "workload-identity" => Ok(Self::WorkloadIdentity),
            "developer" => Ok(Self::Developer),
            "auto" if env.get(SECRET_NAME).or(env.get(SECRET)).is_some() => Ok(Self::ClientSecret),
            "auto" if env.get(TOKEN_FILE).is_some() => Ok(Self::WorkloadIdentity),
            "auto" if is_offered(env) => Ok(Self::ManagedIdentity),
            "auto" => Ok(Self::Developer),
            other => Err(parse::refuse(&env.name(name), ALLOWED, other)),
        }
    }

    fn target(self, env: &Env, tenant_id: &str, vault: Vault) -> Result<Credential> {
        let client_id = env.get("EASM_CLIENT_ID").map(str::to_owned);
        let app = |fallback: Option<&str>| {
            client_id.clone().or(fallback.map(str::to_owned)).ok_or_else(|| {
                refuse(format!("{} is not set", env.name("EASM_CLIENT_ID")))
                    .advise("set it to the client id of the target's app registration")
            })
        };
        let tenant_id = tenant_id.to_owned();
        Ok(match self {
            Self::ManagedIdentity => {
                check_offered(env)?;
                refuse_other_tenant(env, &tenant_id)?;
                let client_id = client_id.or_else(|| own_client_id(env));
                Credential::ManagedIdentity { client_id, tenant_id: Some(tenant_id) }
            }
            Self::ClientSecret => {
                let secret = client_secret(env, vault)?;
                Credential::ClientSecret { tenant_id, client_id: app(None)?, secret }
            }
            Self::Federated => {
                let client_id = app(None)?;
                check_offered(env)?;
                Credential::Federated { tenant_id, client_id, identity: own_client_id(env) }
            }
            Self::WorkloadIdentity => {
                let token_file = env.get(TOKEN_FILE).ok_or_else(|| {
                    refuse(format!("{TOKEN_FILE} is not set"))
                        .advise("run it where workload identity is set up, or choose another")
                })?;
                Credential::WorkloadIdentity {
                    tenant_id,
                    client_id: app(env.get("AZURE_CLIENT_ID"))?,
                    token_file: token_file.into(),
                }
            }
            Self::Developer => Credential::Developer { tenant_id: Some(tenant_id) },
        })
    }

    /// The app's own identity: that of the place where it runs.
    fn own(self, env: &Env, tenant_id: &str) -> Credential {
        let client_id = own_client_id(env);
        // Where the target's app registration is vouched for by a file, it may be the app's own too.
        let vouched = client_id.clone().or_else(|| match self {
            Self::WorkloadIdentity => env.get("EASM_CLIENT_ID").map(str::to_owned),
            _ => None,
        });
        if let (Some(token_file), Some(client_id)) = (env.get(TOKEN_FILE), vouched) {
            return Credential::WorkloadIdentity {
                tenant_id: env.get("AZURE_TENANT_ID").unwrap_or(tenant_id).to_owned(),
                client_id,
                token_file: token_file.into(),
            };
        }
        match is_offered(env) {
            true => Credential::ManagedIdentity { client_id, tenant_id: None },
            false => Credential::Developer { tenant_id: None },
        }
    }
}

/// Client id of the app's own identity. A setting that is set to nothing means the system-assigned
/// one.
fn own_client_id(env: &Env) -> Option<String> {
    let client_id = match env.raw("EASM_IDENTITY_CLIENT_ID") {
        Some(value) => Some(value.trim()).filter(|value| !value.is_empty()),
        None => env.get("AZURE_CLIENT_ID"),
    };
    client_id.map(str::to_owned)
}

/// What the settings say of Key Vault.
struct Vault {
    url: Option<Url>,
    name: Option<String>,
}

impl Vault {
    fn read(env: &Env) -> Result<Self> {
        let url = env.get(VAULT_URL).map(|text| parse::vault_url(VAULT_URL, text)).transpose()?;
        let name = env.get(SECRET_NAME);
        let name = name.map(|text| parse::secret_name(&env.name(SECRET_NAME), text));
        Ok(Self { url, name: name.transpose()? })
    }
}

fn client_secret(env: &Env, vault: Vault) -> Result<ClientSecret> {
    if let Some(name) = vault.name {
        // The name that `mdeasm` reads gives way: its file of settings may be there all the same.
        if is_set_itself(env, SECRET) {
            let (secret, name) = (env.name(SECRET), env.name(SECRET_NAME));
            return Err(refuse(format!("{secret} and {name} are both set")).advise(format!(
                "remove one of them; {SECRET_NAME} keeps the secret in Key Vault"
            )));
        }
        let vault_url = vault.url.ok_or_else(|| {
            refuse(format!("{} is set, but not {VAULT_URL}", env.name(SECRET_NAME)))
                .advise(format!("set {VAULT_URL} to https://{{vault}}.vault.azure.net"))
        })?;
        return Ok(ClientSecret::InVault { vault_url, name });
    }
    match env.get(SECRET) {
        Some(secret) => Ok(ClientSecret::Given(Secret::new(secret.to_owned()))),
        None => {
            let (secret, name) = (env.name(SECRET), env.name(SECRET_NAME));
            Err(refuse(format!("neither {name} nor {secret} is set")).advise(format!(
                "set {SECRET_NAME} and {VAULT_URL}, on a laptop {SECRET}, or choose another \
                 credential"
            )))
        }
    }
}

/// Whether the setting `name` is set, and not only a name that it falls back to.
fn is_set_itself(env: &Env, name: &str) -> bool {
    env.raw(name).is_some_and(|value| !value.trim().is_empty())
}

/// A managed identity has tokens of its own tenant only.
fn refuse_other_tenant(env: &Env, tenant_id: &str) -> Result<()> {
    let Some(own) = env.get("AZURE_TENANT_ID") else { return Ok(()) };
    let is_other = is_guid(own) && is_guid(tenant_id) && !own.eq_ignore_ascii_case(tenant_id);
    match is_other {
        true => {
            let err = other_tenant("choose a credential");
            Err(match env.target() {
                Some(_) => err.reworded(in_members).with("setting", env.name("EASM_TENANT_ID")),
                None => err,
            })
        }
        false => Ok(()),
    }
}

/// That a managed identity cannot sign in to the target's tenant.
pub fn other_tenant(operation: &'static str) -> Error {
    Error::new(Kind::Config, operation)
        .because("the managed identity belongs to another tenant than EASM_TENANT_ID")
        .advise("set EASM_CREDENTIAL=federated and EASM_CLIENT_ID, or correct EASM_TENANT_ID")
}

#[cfg(test)]
#[path = "credential_tests.rs"]
mod tests;
