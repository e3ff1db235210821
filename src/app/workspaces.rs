//! What the command `workspace` works with: ARM, and the data plane of a workspace that is new.

use std::sync::Arc;
use std::time::Duration;

use tracing::info;
use url::Url;

use crate::azure::arm::{Arm, regions};
use crate::azure::easm::Path;
use crate::azure::identity::{ARM_SCOPE, EASM_SCOPE, Identity, Tokens};
use crate::clock::{Budget, Clock, SystemClock};
use crate::config::{Env, Identities, Settings, TargetSettings};
use crate::error::{Error, Kind, Result};
use crate::net::egress::{Bodies, Egress, NamedBy};
use crate::net::retry::RetryPolicy;
use crate::net::{Http, SIGNING_IN, Turns};

use super::Vaults;

pub use crate::azure::arm::regions::{nearest, normalised};
pub use crate::azure::arm::{Ensured, How, Workspace};

/// Longest wait for the data plane of a workspace that is there. Its host's name has to spread, and the
/// data plane has to hear of the workspace.
pub const DATA_PLANE_MAX: Duration = Duration::from_secs(15 * 60);

/// Pause before the data plane is asked for the second time. It doubles.
const PAUSE_FIRST: Duration = Duration::from_millis(500);

/// Longest pause before the data plane is asked again.
const PAUSE_MAX: Duration = Duration::from_secs(15);

/// Where workspaces are, and who asks: the part of the settings that counts here.
#[derive(Debug, Clone)]
pub struct Place {
    /// Azure subscription.
    pub subscription_id: String,
    /// Resource group.
    pub resource_group: String,
    /// The workspace that `ensure` sees to.
    pub workspace: String,
    /// Where it is to be, if the settings say so.
    pub region: Option<String>,
    /// Who asks.
    pub identities: Identities,
    /// Where ARM is.
    pub arm_url: Url,
    /// The api-version of ARM.
    pub arm_api_version: String,
    /// Where the data plane is; absent: where the workspace says.
    pub data_plane_url: Option<Url>,
    /// The api-version of the data plane.
    pub data_plane_api_version: String,
}

impl Place {
    /// That of `target`.
    pub fn of(settings: &Settings, target: &TargetSettings) -> Self {
        Self {
            subscription_id: target.subscription_id.clone(),
            resource_group: target.resource_group.clone(),
            workspace: target.workspace.clone(),
            region: target.region.clone(),
            identities: target.identities.clone(),
            arm_url: settings.arm_url.clone(),
            arm_api_version: settings.arm_api_version.clone(),
            data_plane_url: target.data_plane_url.clone(),
            data_plane_api_version: settings.data_plane_api_version.clone(),
        }
    }

    fn path<'a>(&'a self, workspace: &'a str) -> Path<'a> {
        let Self { subscription_id, resource_group, .. } = self;
        Path { subscription_id, resource_group, workspace }
    }
}

/// Whether a data plane serves the workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serves {
    /// It does.
    Yes,
    /// It answers, but the identity has no role there.
    NotUs,
}

/// The workspaces of a subscription.
pub struct Workspaces {
    place: Place,
    identity: Identity,
    clock: Arc<dyn Clock>,
    arm: Arm,
}

impl Workspaces {
    /// Those of `place`. Nobody is asked yet.
    ///
    /// # Errors
    /// [`Kind::Config`] if a setting does not fit.
    pub fn new(place: Place, env: &Env) -> Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let identity = Identity::of_target(&place.identities, &Vaults::default(), env, &clock)?;
        let egress = Egress::to(&place.arm_url, NamedBy::Setting, Bodies::Unpacked)?;
        let tokens = Tokens::new(identity.clone(), ARM_SCOPE, &place.arm_url, Arc::clone(&clock));
        let one = Turns::new(1);
        let http =
            Http::new(egress, Arc::new(tokens), RetryPolicy::default(), Arc::clone(&clock), one);
        let arm = Arm::new(http, place.arm_url.clone(), place.arm_api_version.clone());
        Ok(Self { place, identity, clock, arm })
    }

    /// The place that was given.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Every workspace of the subscription that the identity may see.
    ///
    /// # Errors
    /// What ARM or signing in failed with.
    pub async fn list(&self) -> Result<Vec<Workspace>> {
        self.arm.list(&self.place.subscription_id).await
    }

    /// Sees to it that the place's workspace is there; see [`Arm::ensure`].
    ///
    /// # Errors
    /// What ARM, signing in or `region` failed with.
    pub async fn ensure(&self, region: impl FnOnce() -> Result<String>) -> Result<Ensured> {
        self.arm.ensure(self.place.path(&self.place.workspace), region).await
    }

    /// Deletes the workspace `name` of the place's resource group; see [`Arm::delete`].
    ///
    /// # Errors
    /// What ARM or signing in failed with.
    pub async fn delete(&self, name: &str) -> Result<Workspace> {
        self.arm.delete(self.place.path(name)).await
    }

    /// Waits until the data plane of the `workspace` serves it.
    ///
    /// # Errors
    /// That it did not for [`DATA_PLANE_MAX`]; what cannot pass by waiting.
    pub async fn wait_for_data_plane(&self, workspace: &Workspace) -> Result<Serves> {
        const OPERATION: &str = "reach the data plane";
        let (base, named_by) = self.data_plane(workspace)?;
        let egress = Egress::to(&base, named_by, Bodies::Unpacked)?;
        let tokens = Tokens::new(self.identity.clone(), EASM_SCOPE, &base, Arc::clone(&self.clock));
        // Tried once: what is not there yet is waited for here.
        let once = RetryPolicy { tries_max: 1, ..RetryPolicy::default() };
        let http =
            Http::new(egress, Arc::new(tokens), once, Arc::clone(&self.clock), Turns::new(1));
        let url = self.one_asset(&base);
        let budget = Budget::of(DATA_PLANE_MAX);
        let mut pause = PAUSE_FIRST;
        loop {
            let err = match http.get(OPERATION, &url, |_| Ok(())).await {
                Ok(()) => return Ok(Serves::Yes),
                Err(err) if err.kind() == Kind::Denied => return Ok(Serves::NotUs),
                Err(err) => err,
            };
            if !may_pass(&err) {
                return Err(err);
            }
            let next = err.kind().retry_after().map_or(pause, |asked| asked.max(pause));
            if !budget.allows(next) {
                return Err(err.advise(format!(
                    "the workspace is there, but its data plane does not serve it: start the same \
                     command again to go on waiting (it gave up after {} minutes)",
                    DATA_PLANE_MAX.as_secs().div_euclid(60)
                )));
            }
            // What to do is to wait, which is done here.
            let (again_s, err) = (next.as_secs_f64(), err.without_advice());
            info!("The data plane does not serve it yet ({err}); asking again in {again_s:.1} s");
            tokio::time::sleep(next).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Where the data plane of the `workspace` is, and who says so.
    fn data_plane(&self, workspace: &Workspace) -> Result<(Url, NamedBy)> {
        if let Some(url) = &self.place.data_plane_url {
            return Ok((url.clone(), NamedBy::Setting));
        }
        let url = workspace
            .data_plane_host()
            .and_then(|host| Url::parse(&format!("https://{host}")).ok());
        let url = url.ok_or_else(|| {
            Error::new(Kind::Unreadable, "find the data plane")
                .because("ARM says neither the workspace's data plane nor its region")
                .advise("set EASM_DATA_PLANE_URL")
        })?;
        Ok((url, NamedBy::Service))
    }

    /// The least that the data plane can be asked for.
    fn one_asset(&self, base: &Url) -> Url {
        let Place { subscription_id, resource_group, workspace, .. } = &self.place;
        let mut url = base.clone();
        url.path_segments_mut()
            .expect("a service URL is http or https, so it has a path")
            .pop_if_empty()
            .extend(["subscriptions", subscription_id, "resourceGroups", resource_group])
            .extend(["workspaces", workspace, "assets"]);
        url.query_pairs_mut()
            .append_pair("api-version", &self.place.data_plane_api_version)
            .append_pair("maxpagesize", "1");
        url
    }
}

/// Whether `err` of a data plane that is new may pass: its host is not known yet, does not answer, or
/// does not know the workspace. Who cannot sign in has been tried often enough.
fn may_pass(err: &Error) -> bool {
    (err.kind().is_retryable() || err.kind() == Kind::NotFound) && err.operation() != SIGNING_IN
}

/// The region that is meant by the flag `--region`, or else by the setting.
///
/// # Errors
/// [`Kind::Usage`] if neither is given, or the flag's is no name of a region.
pub fn region(flag: Option<&str>, setting: Option<&str>) -> Result<String> {
    let err = |reason: String| Error::new(Kind::Usage, "choose a region").because(reason);
    match (flag, setting) {
        (Some(flag), _) => normalised(flag).ok_or_else(|| {
            err(format!("{flag:?} is not the name of a region"))
                .advise("use a name such as eastus or \"East US\"")
        }),
        (None, Some(setting)) => Ok(setting.to_owned()),
        (None, None) => {
            Err(err("there is no such workspace yet, and no region to create it in".to_owned())
                .advise(format!(
                    "give --region or set EASM_REGION; Microsoft names {}",
                    regions::KNOWN.join(", ")
                )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_comes_before_the_setting_and_one_of_them_is_needed() {
        let check = |flag: Option<&str>, setting: Option<&str>, want: Result<&str, &str>| {
            let found = region(flag, setting).map_err(|err| err.to_string());
            match want {
                Ok(want) => assert_eq!(found.as_deref(), Ok(want)),
                Err(want) => {
                    assert!(found.as_ref().is_err_and(|err| err.contains(want)), "{found:?}")
                }
            }
        };
        check(Some("West US 3"), Some("eastus"), Ok("westus3"));
        check(Some("moon1"), None, Ok("moon1"));
        check(None, Some("eastus"), Ok("eastus"));
        check(None, None, Err("give --region or set EASM_REGION"));
        check(Some("evil.example/"), Some("eastus"), Err("not the name of a region"));
        check(Some(""), Some("eastus"), Err("not the name of a region"));
    }

    #[test]
    fn only_what_may_pass_is_waited_for() {
        let unavailable = Kind::Unavailable { retry_after: None };
        let check = |kind, operation: &'static str, want| {
            assert_eq!(may_pass(&Error::new(kind, operation)), want, "{kind:?} {operation}");
        };
        check(Kind::NotFound, "reach the data plane", true);
        check(unavailable, "reach the data plane", true);
        check(Kind::Unreadable, "reach the data plane", true);
        check(unavailable, SIGNING_IN, false);
        check(Kind::Unauthorized, "reach the data plane", false);
        check(Kind::Untrusted, "reach the data plane", false);
        check(Kind::BadRequest, "reach the data plane", false);
    }
}
