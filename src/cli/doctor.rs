//! `easm-export doctor`: looks whether an export could work, and says what to do where it could not.

use std::time::Duration;

use serde::Serialize;

use super::{EXIT_ANSWER_IS_NO, print, print_json, unless_interrupted};
use crate::config::{Env, parse};
use crate::doctor::{self, Check, Limits, Status};
use crate::error::Result;

/// Longest time that anybody may give a step, in seconds.
const TIMEOUT_SECONDS_MAX: u64 = 300;

/// Flags of `doctor`.
#[derive(clap::Args)]
pub struct Args {
    /// Print the result as one JSON document to stdout.
    #[arg(long)]
    json: bool,
    /// Give each step so many seconds, 1 to 300. Default: 2.5.
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<String>,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Found {
    /// Whether nothing is in the way of an export.
    ok: bool,
    checks: Vec<Check>,
}

/// Runs the command for the targets that are `named`, or all.
///
/// # Errors
/// [`crate::error::Kind::Usage`]. What is wrong elsewhere is the result.
pub async fn run(args: &Args, named: &[String], env: &Env) -> Result<u8> {
    let limits = match &args.timeout {
        Some(seconds) => {
            let seconds = parse::number("--timeout", seconds, 1..=TIMEOUT_SECONDS_MAX)?;
            Limits { step: Duration::from_secs(seconds) }
        }
        None => Limits::default(),
    };
    let checks = unless_interrupted(doctor::examine(env, named, env.app_root(), limits)).await?;
    let ok = doctor::is_clean(&checks);
    match args.json {
        true => print_json(&Found { ok, checks })?,
        false => print(table(&checks).as_bytes())?,
    }
    Ok(if ok { 0 } else { EXIT_ANSWER_IS_NO })
}

/// The checks for people: a line each, and behind one that failed what to do.
fn table(checks: &[Check]) -> String {
    let of = |check: &Check| check.target.clone().unwrap_or_default();
    let width = checks.iter().map(|check| of(check).len()).max().unwrap_or(0);
    let mut text = String::new();
    for check in checks {
        let word = match check.status {
            Status::Ok => "ok",
            Status::Failed => "FAILED",
            Status::Skipped => "skipped",
        };
        let Check { name, seconds, message, remedy, .. } = check;
        let target = of(check);
        text += &format!("{word:<7}  {name:<13}  {target:<width$}  {seconds:>5.2} s  {message}\n");
        if let Some(remedy) = remedy {
            text += &format!("         what to do:    {remedy}\n");
        }
    }
    text
}
