//! A client of the simulator's vault that knows HTTP and nothing else.

use std::collections::HashMap;

use reqwest::{Method, redirect::Policy};
use serde_json::Value;

use super::test_client::*;
use super::*;

pub(super) const VERSION: &str = "api-version=2025-07-01";
pub(super) const PATH: &str = "/secrets/easm-client-secret/";

/// A simulator, a client of its vault, and a token of the system-assigned identity.
pub(super) struct Reader {
    pub(super) client: Client,
    pub(super) http: reqwest::Client,
    pub(super) token: String,
}

/// What the vault answered.
pub(super) struct Read {
    pub(super) status: u16,
    pub(super) headers: HashMap<String, String>,
    pub(super) text: String,
}

impl Read {
    #[track_caller]
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|err| panic!("{err}: {}", self.text))
    }

    /// The value, of an answer that has one.
    #[track_caller]
    pub(super) fn value(&self) -> String {
        assert_eq!(self.status, 200, "{}", self.text);
        self.json()["value"].as_str().unwrap().to_owned()
    }

    /// Status, code, inner code and message of a refusal.
    #[track_caller]
    pub(super) fn refusal(&self) -> (u16, String, String, String) {
        let error = &self.json()["error"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let inner = text(&error["innererror"]["code"]);
        (self.status, text(&error["code"]), inner, text(&error["message"]))
    }
}

impl Reader {
    pub(super) async fn new(options: Options) -> Self {
        let client = Client::new(options).await;
        let http = http(&client.running).redirect(Policy::none()).build().unwrap();
        let token = client.fresh_token("https://vault.azure.net").await;
        Self { client, http, token }
    }

    pub(super) fn state(&self) -> &State {
        self.client.running.state()
    }

    /// `Err`: no whole answer came.
    pub(super) async fn send(
        &self,
        method: Method,
        target: &str,
        token: &str,
    ) -> reqwest::Result<Read> {
        let url = format!("{}{target}", self.client.running.vault_url());
        let mut request = self.http.request(method, url);
        if !token.is_empty() {
            request = request.bearer_auth(token);
        }
        let got = request.send().await?;
        let text = |value: &reqwest::header::HeaderValue| value.to_str().unwrap().to_owned();
        let headers = got.headers().iter().map(|(name, value)| (name.to_string(), text(value)));
        let (status, headers) = (got.status().as_u16(), headers.collect());
        Ok(Read { status, headers, text: got.text().await? })
    }

    pub(super) async fn with(&self, path: &str, token: &str) -> Read {
        self.send(Method::GET, &format!("{path}?{VERSION}"), token).await.unwrap()
    }

    pub(super) async fn get(&self, path: &str) -> Read {
        self.with(path, &self.token).await
    }

    /// A token of the default app, for a scope.
    pub(super) async fn app_token(&self, scope: &str) -> String {
        let secret = secret(&self.client.running);
        sign_in(&self.client.running, &with_secret(&secret, scope)).await.token()
    }

    /// What Entra thinks of a secret of the default app: 0, or a code.
    pub(super) async fn entra(&self, secret: &str) -> u64 {
        let told = sign_in(&self.client.running, &with_secret(secret, EASM_SCOPE)).await;
        if told.status == 200 { 0 } else { told.refusal().2 }
    }
}

/// What every refusal of everybody looks like: code, inner code, part of the message.
pub(super) fn refusals() -> [(VaultRefusal, u16, &'static str, &'static str, &'static str); 5] {
    let forbidden = "Forbidden";
    [
        (
            VaultRefusal::Rbac,
            403,
            forbidden,
            "ForbiddenByRbac",
            "\r\nAction: 'Microsoft.KeyVault/vaults/secrets/getSecret/action'\r\nResource: \
             '/subscriptions/5ab5c21b-51d0-4000-8000-0000000005ab/resourcegroups/rg-easm/\
             providers/microsoft.keyvault/vaults/easm-sim/secrets/easm-client-secret'\r\n",
        ),
        (
            VaultRefusal::AccessPolicy,
            403,
            forbidden,
            "AccessDenied",
            "/' does not have secrets get permission on key vault 'easm-sim;location=eastus'. For \
             help",
        ),
        (
            VaultRefusal::Firewall,
            403,
            forbidden,
            "ForbiddenByFirewall",
            "Client address is not authorized and caller is not a trusted service.\r\nClient \
             address: 127.0.0.1\r\nCaller: appid=",
        ),
        (
            VaultRefusal::Connection,
            403,
            forbidden,
            "ForbiddenByConnection",
            "Public network access is disabled and request is not from a trusted service nor via \
             an approved private link.\r\n",
        ),
        (
            VaultRefusal::Throttled { retry_after: Some("7".to_owned()) },
            429,
            "Throttled",
            "",
            "Reason: VaultRequestTypeLimitReached",
        ),
    ]
}
