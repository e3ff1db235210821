//! Tokens of whoever is signed in to the Azure CLI, or else to the Azure Developer CLI.

use std::ffi::OsStr;
use std::process::{Output, Stdio};
use std::sync::Arc;

use async_trait::async_trait;
use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use azure_identity::{
    AzureCliCredential, AzureCliCredentialOptions, AzureDeveloperCliCredential,
    AzureDeveloperCliCredentialOptions, Executor,
};

use super::OPERATION;
use super::refusal::{aadsts, meaning};
use crate::error::{Error, Kind};
use crate::net::egress::into_azure;

/// The two tools, in order.
#[derive(Debug)]
pub(super) struct Developer {
    tools: [(&'static str, Arc<dyn TokenCredential>); 2],
    tenant_id: Option<String>,
}

impl Developer {
    /// Tokens of the tenant `tenant_id`, or of the one that is signed in to.
    pub fn new(tenant_id: Option<&str>) -> azure_core::Result<Self> {
        let tenant_id = tenant_id.map(str::to_owned);
        let executor: Option<Arc<dyn Executor>> = Some(Arc::new(Quiet));
        let az = AzureCliCredential::new(Some(AzureCliCredentialOptions {
            tenant_id: tenant_id.clone(),
            executor: executor.clone(),
            ..AzureCliCredentialOptions::default()
        }))?;
        let azd = AzureDeveloperCliCredential::new(Some(AzureDeveloperCliCredentialOptions {
            tenant_id: tenant_id.clone(),
            executor,
        }))?;
        Ok(Self { tools: [("az", az), ("azd", azd)], tenant_id })
    }
}

#[async_trait]
impl TokenCredential for Developer {
    async fn get_token(
        &self,
        scopes: &[&str],
        _options: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        // What the first tool that is there fails with: the second one is for those who have no other.
        let mut failure: Option<(&str, Option<u32>)> = None;
        for (name, tool) in &self.tools {
            match tool.get_token(scopes, None).await {
                Ok(token) => return Ok(token),
                Err(err) => {
                    // Only looked at for what is known to stand in it, never repeated.
                    let text = err.to_string();
                    if failure.is_none() && !text.contains("not found on PATH") {
                        failure = Some((name, aadsts(&text)));
                    }
                }
            }
        }
        let err = Error::new(Kind::Unauthorized, OPERATION);
        let tenant =
            self.tenant_id.as_ref().map(|id| format!(" --tenant {id}")).unwrap_or_default();
        Err(into_azure(match failure {
            None => err
                .because("neither the Azure CLI nor the Azure Developer CLI is installed here")
                .advise(format!(
                    "install the Azure CLI and run `az login{tenant}`, or set EASM_CREDENTIAL; \
                     `easm-export demo` needs neither"
                )),
            Some((name, code)) => {
                let known = code.and_then(meaning);
                let (kind, why) = match known {
                    Some((kind, reason, _)) => (kind, format!(": {reason}")),
                    None => (Kind::Unauthorized, String::new()),
                };
                let err = err.as_kind(kind).because(format!("`{name}` has no token for us{why}"));
                let err = match code {
                    Some(code) => err.with("code", format!("AADSTS{code}")),
                    None => err,
                };
                match (name, known) {
                    (_, Some((Kind::Denied, _, advice))) => err.advise(advice),
                    ("azd", _) => err.advise("run `azd auth login`, or install the Azure CLI"),
                    _ => err.advise(format!("run `az login{tenant}`")),
                }
            }
        }))
    }
}

/// Runs a tool that reads nothing from our input.
#[derive(Debug)]
struct Quiet;

#[async_trait]
impl Executor for Quiet {
    async fn run(&self, program: &OsStr, args: &[&OsStr]) -> std::io::Result<Output> {
        tokio::process::Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
    }
}
