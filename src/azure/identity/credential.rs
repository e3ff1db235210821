//! Makes the credentials of `azure_identity` that the settings ask for.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use azure_core::cloud::{CloudConfiguration, CustomConfiguration};
use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use azure_core::http::{ClientMethodOptions, ClientOptions, RetryOptions, Transport};
use azure_identity::{
    ClientAssertion, ClientAssertionCredential, ClientAssertionCredentialOptions,
    ClientSecretCredential, ClientSecretCredentialOptions, ManagedIdentityCredential,
    ManagedIdentityCredentialOptions, UserAssignedId,
};
use url::Url;

use super::developer::Developer;
use super::from_vault::FromVault;
use super::refusal::Asked;
use super::{OPERATION, Tokens};
use crate::azure::keyvault::{VAULT_SCOPE, VaultSecret, Vaults};
use crate::clock::Clock;
use crate::config::credential::other_tenant;
use crate::config::{ClientSecret, Credential, Env, Identities, OwnIdentity};
use crate::error::{Error, Kind, Result};
use crate::net::Bearer;
use crate::net::egress::{self, Bodies, Egress, NamedBy, into_azure};
use crate::secret::Secret;

/// The audience of a token that vouches for an app registration ("Configure an application to trust
/// a managed identity", Microsoft Entra).
const EXCHANGE_SCOPE: &str = "api://AzureADTokenExchange/.default";

/// Who tokens are asked for. Cheap to clone; clones share what vouches for them.
#[derive(Clone)]
pub struct Identity {
    credential: Credential,
    authority: Url,
    /// Where the platform offers its identities, if it does.
    endpoint: Option<Url>,
    /// The managed identity's tokens that vouch for a federated app registration.
    vouching: Option<Arc<Tokens>>,
    /// The app registration's secret, if Key Vault has it.
    in_vault: Option<Arc<VaultSecret>>,
}

impl Identity {
    /// The app's own identity. `azure_identity` itself reads the endpoint of the managed identity from
    /// the process environment; `env` is asked for where that is.
    ///
    /// # Errors
    /// [`Kind::Config`] if the endpoint cannot be used.
    pub fn own(own: &OwnIdentity, env: &Env, clock: &Arc<dyn Clock>) -> Result<Self> {
        Self::new(own.credential.clone(), &own.authority, env, clock)
    }

    /// The target's identity. Where its secret is in Key Vault, the app's own identity reads it there,
    /// as one of those that `vaults` has.
    ///
    /// # Errors
    /// [`Kind::Config`] if the endpoint of the managed identity, or the vault, cannot be used.
    pub fn of_target(
        identities: &Identities,
        vaults: &Vaults,
        env: &Env,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self> {
        let target = Self::new(identities.target.clone(), &identities.own.authority, env, clock)?;
        let Credential::ClientSecret { secret: ClientSecret::InVault { vault_url, name }, .. } =
            &identities.target
        else {
            return Ok(target);
        };
        let in_vault = vaults.secret(vault_url, name, || {
            let own = Self::own(&identities.own, env, clock)?;
            let tokens = Tokens::new(own, VAULT_SCOPE, vault_url, Arc::clone(clock));
            VaultSecret::new(vault_url, name, Arc::new(tokens), Arc::clone(clock))
        });
        Ok(Self { in_vault: Some(in_vault?), ..target })
    }

    /// The identity that `credential` names; Entra is at `authority`.
    fn new(
        credential: Credential,
        authority: &Url,
        env: &Env,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self> {
        let endpoint = match env.get("IDENTITY_ENDPOINT") {
            Some(text) => Some(endpoint(text)?),
            None => None,
        };
        let authority = authority.clone();
        let mut identity = Self { credential, authority, endpoint, vouching: None, in_vault: None };
        if let Credential::Federated { identity: client_id, .. } = &identity.credential {
            let vouches =
                Credential::ManagedIdentity { client_id: client_id.clone(), tenant_id: None };
            let vouches = Self { credential: vouches, ..identity.clone() };
            let authority = &identity.authority;
            let tokens = Tokens::new(vouches, EXCHANGE_SCOPE, authority, Arc::clone(clock));
            identity.vouching = Some(Arc::new(tokens));
        }
        Ok(identity)
    }

    /// The client secret in Key Vault that it signs in with, if it does so.
    pub fn in_vault(&self) -> Option<&VaultSecret> {
        self.in_vault.as_deref()
    }

    /// Whom its tokens are asked of.
    pub(super) fn asked(&self) -> Asked {
        match &self.credential {
            Credential::ManagedIdentity { client_id, .. } => Asked::ManagedIdentity {
                endpoint: self.endpoint.clone(),
                is_named: client_id.is_some(),
            },
            Credential::ClientSecret { secret, .. } => Asked::Entra {
                authority: self.authority.clone(),
                advice: match secret {
                    ClientSecret::Given(_) => {
                        "check EASM_TENANT_ID, EASM_CLIENT_ID and EASM_CLIENT_SECRET"
                    }
                    ClientSecret::InVault { .. } => {
                        "check EASM_TENANT_ID, EASM_CLIENT_ID and the secret in Key Vault"
                    }
                },
            },
            Credential::Federated { .. } => Asked::Entra {
                authority: self.authority.clone(),
                advice: "check EASM_TENANT_ID and EASM_CLIENT_ID, and the app registration's \
                         federated credential",
            },
            Credential::WorkloadIdentity { .. } => Asked::Entra {
                authority: self.authority.clone(),
                advice: "check EASM_TENANT_ID and EASM_CLIENT_ID, and the token in \
                         AZURE_FEDERATED_TOKEN_FILE",
            },
            Credential::Developer { .. } => Asked::Tools,
        }
    }

    /// A credential with an empty cache.
    pub(super) fn make(&self) -> Result<Arc<dyn TokenCredential>> {
        let credential: azure_core::Result<Arc<dyn TokenCredential>> = match &self.credential {
            Credential::ManagedIdentity { client_id, tenant_id } => {
                let endpoint = self.endpoint.as_ref().ok_or_else(|| {
                    Error::new(Kind::Config, OPERATION)
                        .because("no managed identity is offered here (IDENTITY_ENDPOINT)")
                        .advise("set another EASM_CREDENTIAL")
                })?;
                let options = ManagedIdentityCredentialOptions {
                    client_options: options(endpoint, NamedBy::Platform)?,
                    user_assigned_id: client_id.clone().map(UserAssignedId::ClientId),
                };
                ManagedIdentityCredential::new(Some(options)).map(|inner| match tenant_id {
                    Some(tenant_id) => Arc::new(OfTenant { inner, tenant_id: tenant_id.clone() }),
                    None => inner as Arc<dyn TokenCredential>,
                })
            }
            Credential::ClientSecret { tenant_id, client_id, secret } => match secret {
                ClientSecret::Given(secret) => {
                    let options = ClientSecretCredentialOptions { client_options: self.entra()? };
                    let secret = secret.expose().to_owned().into();
                    ClientSecretCredential::new(tenant_id, client_id.clone(), secret, Some(options))
                        .map(|credential| credential as _)
                }
                ClientSecret::InVault { .. } => {
                    let secret = self.in_vault.clone().ok_or_else(|| {
                        Error::new(Kind::Internal, OPERATION).because("nobody reads the vault")
                    })?;
                    Ok(Arc::new(FromVault {
                        tenant_id: tenant_id.clone(),
                        client_id: client_id.clone(),
                        secret,
                        entra: self.entra()?,
                        asked: self.asked(),
                    }) as _)
                }
            },
            Credential::Federated { tenant_id, client_id, .. } => {
                let vouching = self.vouching.clone().ok_or_else(|| {
                    Error::new(Kind::Internal, OPERATION).because("nobody vouches for the app")
                })?;
                self.vouched(tenant_id, client_id, Vouching(vouching))
            }
            Credential::WorkloadIdentity { tenant_id, client_id, token_file } => {
                self.vouched(tenant_id, client_id, TokenFile(token_file.clone()))
            }
            Credential::Developer { tenant_id } => {
                Developer::new(tenant_id.as_deref()).map(|credential| Arc::new(credential) as _)
            }
        };
        credential.map_err(|err| {
            // A failure of ours says itself what to do.
            egress::from_azure(&self.authority, &err).unwrap_or_else(|| {
                Error::new(Kind::Config, "set up a credential")
                    .because("this platform or these ids are not supported")
                    .advise("check EASM_CREDENTIAL, EASM_TENANT_ID and EASM_CLIENT_ID")
            })
        })
    }

    /// The app registration `client_id`, which `assertion` vouches for.
    fn vouched(
        &self,
        tenant_id: &str,
        client_id: &str,
        assertion: impl ClientAssertion + 'static,
    ) -> azure_core::Result<Arc<dyn TokenCredential>> {
        let client_options = self.entra().map_err(into_azure)?;
        let options = ClientAssertionCredentialOptions { client_options };
        let (tenant_id, client_id) = (tenant_id.to_owned(), client_id.to_owned());
        ClientAssertionCredential::new(tenant_id, client_id, assertion, Some(options))
            .map(|credential| credential as _)
    }

    fn entra(&self) -> Result<ClientOptions> {
        let mut cloud = CustomConfiguration::default();
        cloud.authority_host = self.authority.as_str().to_owned();
        let cloud = Some(Arc::new(CloudConfiguration::from(cloud)));
        Ok(ClientOptions { cloud, ..options(&self.authority, NamedBy::Setting)? })
    }
}

/// The platform's endpoint, used as given.
fn endpoint(text: &str) -> Result<Url> {
    let url = Url::parse(text).ok().filter(|url| egress::check(url, NamedBy::Platform).is_ok());
    url.ok_or_else(|| {
        Error::new(Kind::Config, "read IDENTITY_ENDPOINT")
            .because("it is not an http:// or https:// URL")
            .advise("leave it as the platform sets it")
    })
}

/// A way to `url`. Tries are [`Tokens`]' matter.
fn options(url: &Url, named_by: NamedBy) -> Result<ClientOptions> {
    let egress = Egress::to(url, named_by, Bodies::Unpacked)?;
    let transport = Some(Transport::new(Arc::new(egress)));
    Ok(ClientOptions { retry: RetryOptions::none(), transport, ..ClientOptions::default() })
}

/// A managed identity, which has tokens of its own tenant only: one of another tenant would be
/// refused by the service without saying why.
#[derive(Debug)]
struct OfTenant {
    inner: Arc<ManagedIdentityCredential>,
    tenant_id: String,
}

#[async_trait]
impl TokenCredential for OfTenant {
    async fn get_token(
        &self,
        scopes: &[&str],
        options: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        let token = self.inner.get_token(scopes, options).await?;
        let is_other = tenant_of(token.token.secret())
            // A tenant that is set by its domain name cannot be compared.
            .filter(|_| !self.tenant_id.contains('.'))
            .is_some_and(|tenant| !tenant.eq_ignore_ascii_case(&self.tenant_id));
        if is_other { Err(into_azure(other_tenant(OPERATION))) } else { Ok(token) }
    }
}

/// The tenant that a token says it is of, if it can be read: tokens have no form that one may rely
/// on.
fn tenant_of(token: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Claims {
        tid: String,
    }
    let claims = azure_core::base64::decode_url_safe(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice(&claims).ok().map(|Claims { tid }| tid)
}

/// The managed identity that vouches for an app registration.
struct Vouching(Arc<Tokens>);

impl fmt::Debug for Vouching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Vouching")
    }
}

#[async_trait]
impl ClientAssertion for Vouching {
    async fn secret(&self, _: Option<ClientMethodOptions<'_>>) -> azure_core::Result<String> {
        let token = self.0.token().await.map_err(into_azure)?;
        Ok(token.expose().to_owned())
    }
}

/// A file with a token that vouches for an app registration. It is read each time, since the
/// platform writes it anew.
#[derive(Debug)]
struct TokenFile(PathBuf);

#[async_trait]
impl ClientAssertion for TokenFile {
    async fn secret(&self, _: Option<ClientMethodOptions<'_>>) -> azure_core::Result<String> {
        let path = self.0.clone();
        let read = tokio::task::spawn_blocking(move || std::fs::read_to_string(path)).await;
        let token = read.unwrap_or_else(|err| Err(std::io::Error::other(err))).map_err(|err| {
            into_azure(
                Error::new(Kind::Config, OPERATION)
                    .because(format!("the token file cannot be read: {}", err.kind()))
                    .with("path", self.0.display())
                    .advise("check AZURE_FEDERATED_TOKEN_FILE"),
            )
        })?;
        let token = Secret::new(token.trim().to_owned());
        if token.expose().is_empty() {
            return Err(into_azure(
                Error::new(Kind::Config, OPERATION)
                    .because("the token file is empty")
                    .with("path", self.0.display())
                    .advise("check AZURE_FEDERATED_TOKEN_FILE"),
            ));
        }
        Ok(token.expose().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_says_which_tenant_it_is_of_if_it_can_be_read() {
        let payload = azure_core::base64::encode_url_safe(r#"{"tid":"a-tenant","aud":"x"}"#);
        let check = |token: &str, want: Option<&str>| {
            assert_eq!(tenant_of(token).as_deref(), want, "{token}");
        };
        check(&format!("head.{payload}.signature"), Some("a-tenant"));
        check(&format!("head.{}.signature", payload.trim_end_matches('=')), Some("a-tenant"));
        check("opaque", None);
        check("a.b.c", None);
    }
}
