//! What one target needs: whoever signs in, its place, its inventory.

use std::sync::OnceLock;
use std::time::Duration;

use super::{Check, Limits, Status, TOOLS_TIME, step};
use crate::app::{Services, Shared};
use crate::config::{Credential, Env, Named, Settings, TargetSettings};
use crate::error::{Error, Kind, Result};
use crate::export::source::{Cut, Query, Source};
use crate::model::plan::Within;
use crate::net::retry::RetryPolicy;

/// What is looked at of a target, in order.
pub const CHECKS: [&str; 4] = ["vault", "identity", "arm", "data-plane"];

/// Looks at the target `named`. Its settings are looked at before.
pub async fn look(
    settings: &Settings,
    named: &Named,
    shared: &Shared,
    env: &Env,
    limits: Limits,
) -> Vec<Check> {
    let mut checks = look_at(settings, named, shared, env, limits).await;
    checks.iter_mut().for_each(|check| check.target = Some(named.name.clone()));
    checks
}

async fn look_at(
    settings: &Settings,
    named: &Named,
    shared: &Shared,
    env: &Env,
    limits: Limits,
) -> Vec<Check> {
    let skip = |names: &[&'static str], why: &str| -> Vec<Check> {
        names.iter().map(|name| Check::skipped(name, why)).collect()
    };
    // That they are wrong was said before.
    let Ok(target) = &named.settings else {
        return skip(&CHECKS, "its settings come first");
    };
    // Once: whoever asks wants to know how it is now. A step that takes too long is ended.
    let retry = RetryPolicy { tries_max: 1, ..RetryPolicy::default() };
    let services = match Services::new(settings, target, shared, env, retry) {
        Ok(services) => services,
        Err(err) => {
            let mut checks = vec![
                Check::skipped("vault", "the identity comes first"),
                Check::new("identity", Duration::ZERO, Err(err)),
            ];
            checks.extend(skip(&["arm", "data-plane"], "the identity comes first"));
            return checks;
        }
    };
    let mut checks = Vec::new();
    if let Some(secret) = services.client_secret() {
        let read =
            async { secret.current().await.map(|_| "the client secret is there".to_owned()) };
        let vault = step("vault", limits.step, read).await;
        let is_there = vault.status == Status::Ok;
        checks.push(vault);
        if !is_there {
            checks
                .extend(skip(&["identity", "arm", "data-plane"], "the client secret comes first"));
            return checks;
        }
    }
    if checks.is_empty() {
        checks.push(Check::skipped("vault", "no client secret in Key Vault is used"));
    }
    let uses_tools = matches!(target.identities.target, Credential::Developer { .. });
    let limit = if uses_tools { limits.step.max(TOOLS_TIME) } else { limits.step };
    let signed_in =
        async { services.sign_in().await.map(|()| words_of(&target.identities.target).to_owned()) };
    let identity = step("identity", limit, signed_in).await;
    let is_known = identity.status == Status::Ok;
    checks.push(identity);
    if !is_known {
        checks.extend(skip(&["arm", "data-plane"], "the identity comes first"));
        return checks;
    }
    let found = OnceLock::new();
    let arm = async {
        let arm = step("arm", limits.step, place(&services, target, &found)).await;
        // What nobody needs is not in the way.
        match (&target.region, found.get()) {
            (Some(_), Some(Err(Kind::Denied))) => {
                Check { status: Status::Skipped, remedy: None, ..arm }
            }
            _ => arm,
        }
    };
    let (arm, data_plane) = match &target.region {
        // Nobody need wait for ARM.
        Some(region) => tokio::join!(arm, count(&services, target, region, limit)),
        None => {
            let arm = arm.await;
            let data_plane = match found.get() {
                Some(Ok(region)) => count(&services, target, region, limit).await,
                _ => Check::skipped("data-plane", "the region comes first, which ARM knows"),
            };
            (arm, data_plane)
        }
    };
    checks.extend([arm, data_plane]);
    checks
}

/// Asks ARM for the workspace. What came of it is noted in `found` as well: its region, or the sort of failure.
async fn place(
    services: &Services<'_>,
    target: &TargetSettings,
    found: &OnceLock<std::result::Result<String, Kind>>,
) -> Result<String> {
    let asked = services.asked_region().await;
    // Nobody else writes there.
    found.get_or_init(|| match &asked {
        Ok(region) => Ok(region.clone()),
        Err(err) => Err(err.kind()),
    });
    let region = asked?;
    match &target.region {
        Some(set) if *set != region => Err(Error::new(Kind::Config, "compare the region")
            .because(format!("the workspace is in {region}, and the settings say {set}"))
            .advise(format!("set EASM_REGION, or the target's region, to {region}"))),
        _ => Ok(format!("the workspace {} is in {region}", target.workspace)),
    }
}

/// Asks the data plane in `region` how many assets the target's own request is about.
async fn count(
    services: &Services<'_>,
    target: &TargetSettings,
    region: &str,
    limit: Duration,
) -> Check {
    let counted = async {
        let cut = Cut::AnyOf(target.request.kinds.clone());
        let filter = target.request.filter.clone();
        let query = Query { filter, cut, within: Within::default() };
        let n_assets = services.data_plane(region)?.count(&query).await?;
        Ok(format!("{n_assets} assets match the target's filter"))
    };
    step("data-plane", limit, counted).await
}

/// How the target is signed in to.
fn words_of(credential: &Credential) -> &'static str {
    match credential {
        Credential::ManagedIdentity { .. } => "the managed identity got a token",
        Credential::ClientSecret { .. } => "the app registration got a token for its secret",
        Credential::Federated { .. } => "the managed identity vouched for the app registration",
        Credential::WorkloadIdentity { .. } => "the workload identity got a token",
        Credential::Developer { .. } => "the Azure CLI or the like gave a token",
    }
}
