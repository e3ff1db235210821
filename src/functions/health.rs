//! `Health`: whether this app can do its work, for whoever watches it. Anybody may ask, so it names what
//! is wrong, without detail; the log has the rest.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tracing::warn;

use super::openapi::{Answer, Operation, schema};
use super::{App, GET};
use crate::config::Auth;
use crate::host::http::{HttpReply, JSON};

/// How long an answer stands (contract, section 4).
const STANDS_FOR: Duration = Duration::from_secs(60);

/// Longest time that the store is waited for.
const STORE_TIME_MAX: Duration = Duration::from_secs(10);

/// What the function does, for `openapi.json`.
pub const OPERATIONS: &[Operation] = &[Operation {
    function: "Health",
    id: "getHealth",
    method: GET,
    path: "health",
    does: "Whether the app can do its work. Anybody may ask.",
    parameters: &[],
    query: &[],
    body: None,
    is_anonymous: true,
    answers: &[
        Answer {
            status: 200,
            means: "It can.",
            content: &[(JSON, Some(schema::<Found>))],
            headers: &[],
        },
        Answer {
            status: 503,
            means: "It cannot: problems names what is wrong. The log has the detail.",
            content: &[(JSON, Some(schema::<Found>))],
            headers: &[],
        },
    ],
    refusals: &[],
}];

/// What was found.
#[derive(Serialize, JsonSchema)]
struct Found {
    /// `ok` or `unhealthy`.
    status: &'static str,
    /// What is wrong: `settings`, `schedule`, `authorization` or `store`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<&'static str>,
}

/// What was found the last time, and when.
#[derive(Default)]
pub struct Health(Mutex<Option<(Instant, Vec<&'static str>)>>);

/// Runs the function.
pub async fn run(app: &App) -> HttpReply {
    let mut found = app.health.0.lock().await;
    let problems = match &*found {
        Some((at, problems)) if at.elapsed() < STANDS_FOR => problems.clone(),
        _ => {
            let problems = problems(app).await;
            *found = Some((Instant::now(), problems.clone()));
            problems
        }
    };
    match problems.is_empty() {
        true => HttpReply::json(&Found { status: "ok", problems }),
        false => HttpReply::json(&Found { status: "unhealthy", problems }).unavailable(),
    }
}

/// What is wrong, in words of one sort each.
async fn problems(app: &App) -> Vec<&'static str> {
    let mut problems = Vec::new();
    let mut found = |problem: &'static str, detail: &dyn std::fmt::Display| {
        warn!("Not healthy: {problem}: {detail}");
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    };
    match app.settings() {
        Ok(settings) => {
            let wrong = settings.targets.iter().filter_map(|target| target.settings.as_ref().err());
            let wrong = wrong.chain(&settings.nameless);
            let wrong: Vec<String> = wrong.map(ToString::to_string).collect();
            if !wrong.is_empty() {
                found("settings", &wrong.join("; "));
            }
        }
        Err(err) => found("settings", &err),
    }
    // The host drops a timer without a schedule, or with one that it cannot read, with one line in its
    // log.
    match app.schedule() {
        Some(Ok(_)) => {}
        Some(Err(err)) => found("schedule", &err),
        None => found("schedule", &"EXPORT_SCHEDULE is not set, so the timer never goes off"),
    }
    match Auth::read(&app.env) {
        Ok(auth) => {
            if let Err(err) = app.check_access(&auth) {
                found("authorization", &err);
            }
        }
        // It shuts the functions, and stops no export.
        Err(err) => found("settings", &err),
    }
    if app.settings().is_ok() {
        let checked = async { app.store().await?.check().await };
        match tokio::time::timeout(STORE_TIME_MAX, checked).await {
            Ok(Ok(())) => {}
            Ok(Err(err)) => found("store", &err),
            Err(_) => found("store", &"it does not answer in time"),
        }
    }
    problems
}
