//! What the project does for itself: `cargo xtask package` makes what a Functions host can run.
//!
//! `arguments -> binary built, or taken -> checked -> entries gathered -> folder and zip written`
//!
//! # Invariants
//! - Nothing is written before everything is checked.
//! - Folder and zip are written from one list of entries, so they hold the same.
//! - The same inputs make the same zip, byte for byte.
//!
//! Start reading at [`package::package`].

mod args;
mod compile;
mod elf;
mod include;
mod level;
mod package;

use std::process::ExitCode;

/// Why nothing came of it: one sentence that says what to do.
#[derive(Debug)]
pub enum Failure {
    /// What was asked for cannot be done. Exit code 2.
    Usage(String),
    /// It went wrong on the way. Exit code 1.
    Failed(String),
}

/// The outcome of anything here.
pub type Result<T> = std::result::Result<T, Failure>;

fn main() -> ExitCode {
    let done = args::parse(std::env::args_os().skip(1)).and_then(|command| match command {
        args::Command::Help => Ok(args::HELP.to_owned()),
        args::Command::Package(options) => package::package(&options),
    });
    match done {
        Ok(text) => {
            eprintln!("{text}");
            ExitCode::SUCCESS
        }
        Err(Failure::Usage(text)) => {
            eprintln!("xtask: {text}");
            ExitCode::from(2)
        }
        Err(Failure::Failed(text)) => {
            eprintln!("xtask: {text}");
            ExitCode::FAILURE
        }
    }
}
