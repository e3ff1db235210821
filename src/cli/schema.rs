//! `easm-export schema`: what settings may look like, for editors and for whoever makes them.

use super::print_json;
use crate::config::targets;
use crate::error::Result;

/// Arguments of `schema`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Print the JSON Schema of EASM_TARGETS.
    Settings {
        /// The result is JSON in any case.
        #[arg(long)]
        json: bool,
    },
}

/// Runs the command.
///
/// # Errors
/// What stdout failed with.
pub fn run(args: &Args) -> Result<u8> {
    let Command::Settings { json: _ } = args.command;
    print_json(&targets::schema())?;
    Ok(0)
}
