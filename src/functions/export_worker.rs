//! `ExportWorker`: does one piece of work on a run, for at most a slice.

use tracing::{debug, info};

use super::{App, note_run, out_of_time};
use crate::error::{Error, Kind, Result};
use crate::export::step::{After, MESSAGE_VERSION, Message, step, without_world};

/// Runs the function for the message `text`.
///
/// # Errors
/// What ended the run, once; what the store failed with, so that the message comes again; and
/// [`Kind::Config`] if the message is none.
pub async fn run(app: &App, text: &str) -> Result<Vec<Message>> {
    let message = read(text)?;
    note_run(&message.run_id);
    let Some(books) = app.books(&message.target).await? else {
        return Err(Error::new(Kind::Config, "find the target of a message")
            .because("no target of this app has its name")
            .with("target", &message.target)
            .advise("give the target its name back in EASM_TARGETS; then its runs go on, or can be cancelled"));
    };
    let slice = app.slice()?;
    debug!(work = ?message.r#do, shard = message.shard, "Begins");
    let connected = slice.bound(app.target(books.target())).await;
    let connected = connected.unwrap_or_else(|| Err(out_of_time("get the target ready")));
    let after = match connected {
        Ok(target) => step(&target.world, &target.job, &message, &slice).await?,
        Err(err) => {
            let idle_max = app.settings()?.run_idle_max;
            without_world(&books, idle_max, &message, err).await?
        }
    };
    match after {
        After::Go(messages) => Ok(messages),
        After::PutOff { until, because } => {
            if let Some(because) = because {
                info!(run.id = %message.run_id, "The run goes on at {until}: {because}");
            }
            Ok(Vec::new())
        }
        After::Failed(err) => Err(err.with("run", &message.run_id)),
        After::Ended | After::Lost => Ok(Vec::new()),
    }
}

/// The message that `text` is.
///
/// # Errors
/// [`Kind::Config`] if it is none, [`Kind::Newer`] if another version wrote it.
pub fn read(text: &str) -> Result<Message> {
    let refuse = |kind, reason: String, advice| {
        Err(Error::new(kind, "read a message of the queue").because(reason).advise(advice))
    };
    match serde_json::from_str::<Message>(text) {
        Ok(message) if message.v <= MESSAGE_VERSION => Ok(message),
        Ok(message) => refuse(
            Kind::Newer,
            format!("it is of version {}", message.v),
            "deploy the version of this program that wrote it",
        ),
        Err(err) => refuse(
            Kind::Config,
            // What it says is not repeated: it may be anything.
            format!("it is none of this program's (column {})", err.column()),
            "see who else puts messages on export-work",
        ),
    }
}
