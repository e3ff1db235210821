//! Looks whether an export could work: each thing that it needs, at the same time, with what to do where it
//! cannot.
//!
//! ```text
//! settings -> schedule, authorization, store
//!          -> of each target: vault -> identity -> arm, data-plane
//! ```
//!
//! # Invariants
//! - Nothing is changed but one probe in the store, which is taken away again.
//! - What depends on something that failed is skipped, saying on what, so that one cause is one failure.
//! - Every step has a limit of its own ([`Limits`]): whatever hangs costs that once, since the rest is looked
//!   at meanwhile.
//!
//! Start reading at [`examine`].

mod deployment;
mod target;

use std::path::Path;
use std::time::Duration;

use futures::future::FutureExt;
use futures::stream::{self, StreamExt};
use serde::Serialize;
use tokio::time::Instant;

use crate::app::Shared;
use crate::config::{Env, Named, Settings};
use crate::error::{Error, Kind, Result};
use crate::net::retry;

/// Targets that are looked at at once, each with a request or two.
const TARGETS_AT_ONCE: usize = 64;

/// How long a step may take unless somebody gives it longer: whoever waits for an answer at a prompt has one
/// in three seconds.
pub const STEP_TIME_DEFAULT: Duration = Duration::from_millis(2500);

/// How much longer the tools of a developer take for a token: the Azure CLI alone starts for a second or two.
const TOOLS_TIME: Duration = Duration::from_secs(15);

/// How long a step may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Any step.
    pub step: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { step: STEP_TIME_DEFAULT }
    }
}

/// What came of looking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It works.
    Ok,
    /// It does not.
    Failed,
    /// It was not looked at, since something that it needs failed, or since it is not used.
    Skipped,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
pub struct Check {
    /// What was looked at: `settings`, `schedule`, `authorization`, `store`, `vault`, `identity`, `arm`,
    /// `data-plane`.
    pub name: &'static str,
    /// Whose it is, where it belongs to a target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// What came of it.
    pub status: Status,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// What was found, in a sentence without a secret.
    pub message: String,
    /// What to do, where it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Check {
    /// A check that was not made.
    fn skipped(name: &'static str, why: impl Into<String>) -> Self {
        let status = Status::Skipped;
        Self { name, target: None, status, seconds: 0.0, message: why.into(), remedy: None }
    }

    /// A check that came to `found` after `took`.
    fn new(name: &'static str, took: Duration, found: Result<String>) -> Self {
        let (status, message, remedy) = match found {
            Ok(message) => (Status::Ok, message, None),
            Err(err) => {
                let remedy = err.advice().map(str::to_owned);
                let remedy = remedy.unwrap_or_else(|| {
                    format!("see the heading {} of docs/operations.md", err.kind().facts().code)
                });
                (Status::Failed, err.without_advice().to_string(), Some(remedy))
            }
        };
        Self { name, target: None, status, seconds: took.as_secs_f64(), message, remedy }
    }

    /// The same, of the target `name`.
    fn of(mut self, name: &str) -> Self {
        self.target = Some(name.to_owned());
        self
    }
}

/// Does one step, and says what came of it.
async fn step(
    name: &'static str,
    limit: Duration,
    work: impl Future<Output = Result<String>>,
) -> Check {
    let begun = Instant::now();
    let found = retry::within(limit, work).await.unwrap_or_else(|last| {
        let err = last.unwrap_or_else(|| {
            Error::new(Kind::Unavailable { retry_after: None }, format!("check {name}"))
                .because(format!("no answer within {} s", limit.as_secs_f64()))
        });
        Err(err.or_advise(
            "check the network and the address in the settings, or give it longer with \
             --timeout SECONDS; EASM_LOG=debug says what happened meanwhile",
        ))
    });
    Check::new(name, begun.elapsed(), found)
}

/// Whether something was found that keeps an export from working.
pub fn is_clean(checks: &[Check]) -> bool {
    checks.iter().all(|check| check.status != Status::Failed)
}

/// Looks at everything that the targets in `env` need, those that are `named` or all; the functions' folders
/// lie in `root`.
///
/// # Errors
/// [`Kind::Usage`] for the name of a target that there is not. Whatever else is wrong is found, and no error.
pub async fn examine(
    env: &Env,
    named: &[String],
    root: &Path,
    limits: Limits,
) -> Result<Vec<Check>> {
    let is_named = |target: &Named| {
        named.is_empty() || named.iter().any(|name| name.eq_ignore_ascii_case(&target.name))
    };
    let mut checks = deployment::settings(env, named.is_empty(), is_named);
    let settings = match Settings::read(&env.clone().without(&env.unknown())) {
        Ok(settings) => settings,
        Err(_) => {
            checks.push(deployment::schedule(env));
            checks.push(deployment::authorization(env, root));
            let rest = ["store"].into_iter().chain(target::CHECKS);
            checks.extend(rest.map(|name| Check::skipped(name, "the settings come first")));
            return Ok(checks);
        }
    };
    if let Some(other) = named.iter().find(|name| settings.target_name(name).is_none()) {
        return Err(Error::new(Kind::Usage, "find the target")
            .because(format!("there is no target {other:?}"))
            .advise("use --target with the name of one in EASM_TARGETS, or EASM_WORKSPACE"));
    }
    let targets: Vec<&Named> = settings.targets.iter().filter(|target| is_named(target)).collect();
    let shared = Shared::new(TARGETS_AT_ONCE);
    let looks =
        targets.iter().map(|named| target::look(&settings, named, &shared, env, limits).boxed());
    let looks = stream::iter(looks.collect::<Vec<_>>()).buffered(TARGETS_AT_ONCE).collect();
    let (store, of_targets): (Check, Vec<Vec<Check>>) =
        tokio::join!(deployment::store(&settings, env, limits), looks);
    checks.push(deployment::schedule(env));
    checks.push(deployment::authorization(env, root));
    checks.push(store);
    checks.extend(of_targets.into_iter().flatten());
    Ok(checks)
}
