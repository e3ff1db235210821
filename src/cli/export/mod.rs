//! `easm-export export`: a run in this process, to its end; of several targets one after the other.
//!
//! `flags read once -> each target: begun, carried | waits: the others first -> those that wait -> told`

mod args;
mod one;

use std::time::Duration;

use serde::Serialize;
use tracing::info;

use super::chosen::Chosen;
use super::{EXIT_ANSWER_IS_NO, print_json, unless_interrupted};
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::error::{Error, Kind, Result};
use crate::export::books::Books;
use crate::export::plan::CensusReport;
use crate::model::manifest::Manifest;
use crate::telemetry::Terminal;
pub use args::Args;
use one::{Begun, Export, One};

/// Between two looks at runs that all wait: one may be cancelled meanwhile.
const LOOK_PAUSE: Duration = Duration::from_secs(10);

/// A target that is not done.
enum Left {
    /// Not begun.
    Fresh { at: usize },
    /// Its run waits until then.
    Waiting { at: usize, run: Box<Begun>, until: Timestamp },
}

/// Runs the command: for one target after the other. A run that waits lets the others go first.
///
/// # Errors
/// What ended the run of the only target. Of several, only what ends the command: what ended a run is said,
/// and the others are exported.
pub async fn run(args: Args, chosen: &Chosen<'_>, terminal: &Terminal) -> Result<u8> {
    let asked = args.asked()?;
    let store = chosen.store(args.store.as_deref())?;
    if args.stdout {
        let target = chosen.only()?;
        let request = asked.of(&target.request);
        let connected = chosen.connect(target).await?;
        return one::to_stdout(&connected, request, store, terminal).await;
    }
    if !args.dry_run {
        // Asked first, since it needs nobody else.
        unless_interrupted(store.check()).await?;
    }
    let mut all = chosen.books(&store);
    if let Some(id) = &args.resume {
        all = vec![unless_interrupted(chosen.books_of_run(&all, id)).await?.0];
    }
    let of_several = chosen.is_several() && args.resume.is_none();
    let mut done: Vec<Option<(Outcome, u8)>> = all.iter().map(|_| None).collect();
    let mut left: Vec<Left> = (0..all.len()).rev().map(|at| Left::Fresh { at }).collect();
    loop {
        let next = match unless_interrupted(next(&mut left)).await {
            Ok(Some(next)) => next,
            Ok(None) => break,
            Err(err) => return stopped(&args, done, left, &all, chosen, terminal, err),
        };
        let (Left::Fresh { at } | Left::Waiting { at, .. }) = next;
        let (books, may_leave) = (&all[at], !left.is_empty());
        let exported = match chosen.settings.target(books.target()) {
            Ok(target) => {
                let (args, asked, store) = (&args, &asked, &store);
                let one = One { args, asked, chosen, target, books, store, terminal };
                let exported = match next {
                    Left::Fresh { .. } => one.export(may_leave).await,
                    Left::Waiting { run, .. } => one.go_on(run, may_leave).await,
                };
                exported.map_err(|err| target.concern(err))
            }
            // It says itself whose they are.
            Err(err) => Err(err),
        };
        match exported {
            Ok(Export::Ended(outcome, code)) => done[at] = Some((outcome, code)),
            Ok(Export::Waits(run, until)) => left.insert(0, Left::Waiting { at, run, until }),
            Err(err) if !of_several => return Err(err),
            Err(err) if err.kind() == Kind::Interrupted => {
                done[at] = Some((Outcome::failed(books.target(), &err), 0));
                return stopped(&args, done, left, &all, chosen, terminal, err);
            }
            Err(err) => {
                terminal.say(&format!("easm-export: {err}"));
                let outcome = Outcome::failed(books.target(), &err);
                done[at] = Some((outcome, err.kind().facts().exit_code));
            }
        }
    }
    let codes = done.iter().flatten().map(|(_, code)| *code);
    let codes = codes.chain(chosen.nameless.iter().map(|err| err.kind().facts().exit_code));
    let worst = codes.max_by_key(|code| severity(*code)).unwrap_or(0);
    if args.json {
        let outcomes = told(done, chosen);
        match &outcomes[..] {
            [only] if !of_several => print_json(only)?,
            _ => print_json(&outcomes)?,
        }
    }
    Ok(worst)
}

/// Takes the next of what is `left`: what is not begun comes first, and then the run that goes on first, once it
/// does.
async fn next(left: &mut Vec<Left>) -> Result<Option<Left>> {
    if let Some(Left::Fresh { .. }) | None = left.last() {
        return Ok(left.pop());
    }
    let mut is_said = false;
    // Alone it waits by itself, which says more of it.
    while left.len() > 1 {
        let mut first: Option<(usize, Timestamp)> = None;
        for (at, one) in left.iter().enumerate() {
            let Left::Waiting { run, until, .. } = one else { continue };
            if run.is_ended().await {
                return Ok(Some(left.remove(at)));
            }
            if first.is_none_or(|(_, earliest)| *until < earliest) {
                first = Some((at, *until));
            }
        }
        let Some((at, until)) = first else { break };
        let pause = until.since(SystemClock.now());
        if pause.is_zero() {
            return Ok(Some(left.remove(at)));
        }
        if !std::mem::replace(&mut is_said, true) {
            info!("Every target that is left waits; the first goes on at {until}");
        }
        tokio::time::sleep(pause.min(LOOK_PAUSE)).await;
    }
    Ok(left.pop())
}

/// Ends the command with `err`, which interrupted it. What was done before is told all the same, and how each
/// target that is `left` goes on.
fn stopped(
    args: &Args,
    mut done: Vec<Option<(Outcome, u8)>>,
    left: Vec<Left>,
    all: &[Books],
    chosen: &Chosen<'_>,
    terminal: &Terminal,
    err: Error,
) -> Result<u8> {
    for one in left.into_iter().rev() {
        let (at, err) = match one {
            Left::Fresh { at } => (at, one::not_begun()),
            Left::Waiting { at, run, .. } => (at, run.interrupted(args)),
        };
        let target = all[at].target();
        done[at] = Some((Outcome::failed(target, &err), 0));
        terminal.say(&format!("easm-export: {}", err.with("target", target)));
    }
    match args.json {
        true => print_json(&told(done, chosen)).and(Err(err)),
        false => Err(err),
    }
}

/// What became of each target. Behind them, those that have no name.
fn told(done: Vec<Option<(Outcome, u8)>>, chosen: &Chosen<'_>) -> Vec<Outcome> {
    let told = done.into_iter().flatten().map(|(outcome, _)| outcome);
    told.chain(chosen.nameless.iter().map(Outcome::nameless)).collect()
}

/// What became of a target, as `--json` prints it: one such document, or an array of them for several
/// targets.
#[derive(Serialize)]
#[serde(untagged)]
enum Outcome {
    /// The manifest of its run.
    Complete(Box<Manifest>),
    /// What a dry run counted.
    Counted {
        #[serde(skip_serializing_if = "Option::is_none")]
        target: Option<String>,
        #[serde(flatten)]
        counts: CensusReport,
    },
    /// What ended it. Only beside others: alone it ends the command.
    Failed {
        #[serde(skip_serializing_if = "Option::is_none")]
        target: Option<String>,
        error: Failure,
    },
}

/// A failure as `run.json` has it.
#[derive(Serialize)]
struct Failure {
    code: &'static str,
    message: String,
}

impl Outcome {
    fn failed(target: &str, err: &Error) -> Self {
        Self::Failed { target: Some(target.to_owned()), error: Failure::of(err) }
    }

    fn nameless(err: &Error) -> Self {
        Self::Failed { target: None, error: Failure::of(err) }
    }
}

impl Failure {
    fn of(err: &Error) -> Self {
        Self { code: err.kind().facts().code, message: err.to_string() }
    }
}

/// How bad an exit code is: the worst of several is the command's.
fn severity(code: u8) -> u8 {
    match code {
        0 => 0,
        EXIT_ANSWER_IS_NO => 1,
        1 => 2,
        _ => 3,
    }
}
