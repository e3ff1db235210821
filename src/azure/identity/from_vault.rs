//! An app registration whose secret is in Key Vault.
//!
//! `secret -> ask Entra -> (refused: look again -> another one? ask Entra once more) -> token`
//!
//! The credential of `azure_identity` keeps the secret and its tokens, so one is made for each
//! question and dropped behind it: [`super::Tokens`] keeps the token, [`VaultSecret`] the secret, for
//! a quarter of an hour.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use azure_core::http::ClientOptions;
use azure_identity::{ClientSecretCredential, ClientSecretCredentialOptions};
use tracing::{debug, info};

use super::refusal::{Asked, refuses_secret};
use crate::azure::keyvault::{Held, VaultSecret};
use crate::error::{Error, Kind};
use crate::net::egress::into_azure;

/// Signs in as `client_id` with the secret that Key Vault has.
pub(super) struct FromVault {
    pub tenant_id: String,
    pub client_id: String,
    pub secret: Arc<VaultSecret>,
    /// The way to Entra.
    pub entra: ClientOptions,
    pub asked: Asked,
}

impl fmt::Debug for FromVault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FromVault")
    }
}

impl FromVault {
    /// Asks Entra once, with this secret.
    async fn ask(&self, held: &Held, scopes: &[&str]) -> azure_core::Result<AccessToken> {
        let secret = held.value().expose().to_owned().into();
        let options = ClientSecretCredentialOptions { client_options: self.entra.clone() };
        let client_id = self.client_id.clone();
        ClientSecretCredential::new(&self.tenant_id, client_id, secret, Some(options))?
            .get_token(scopes, None)
            .await
    }

    /// What it means that Entra refuses what Key Vault has now.
    fn refused(&self, refusal: &azure_core::Error, held: &Held) -> Error {
        let err = self.secret.concern(self.asked.error(refusal));
        match self.secret.is_young(held) {
            true => err
                .as_kind(Kind::Unavailable { retry_after: None })
                .because(
                    "Entra refuses the client secret, which was put into Key Vault a few minutes ago",
                )
                .advise(
                    "it may not be known everywhere yet; if it stays so, see that it is the value \
                     (not the id) of a secret of the app registration EASM_CLIENT_ID",
                ),
            false => err.advise(
                "put the value (not the id) of a secret of the app registration EASM_CLIENT_ID \
                 that has not expired into Key Vault as a new version; nothing is to be restarted",
            ),
        }
    }
}

#[async_trait]
impl TokenCredential for FromVault {
    async fn get_token(
        &self,
        scopes: &[&str],
        _options: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        let held = self.secret.current().await.map_err(into_azure)?;
        let refusal = match self.ask(&held, scopes).await {
            Err(err) if refuses_secret(&err) => err,
            answered => return answered,
        };
        debug!("Entra refused the client secret, reading it again from Key Vault");
        let newer = self.secret.look_again(&held).await.map_err(into_azure)?;
        if newer.is_same(&held) {
            return Err(into_azure(self.refused(&refusal, &newer)));
        }
        info!("Entra refused the client secret, and Key Vault has another one: using that");
        match self.ask(&newer, scopes).await {
            Err(err) if refuses_secret(&err) => Err(into_azure(self.refused(&err, &newer))),
            answered => answered,
        }
    }
}
