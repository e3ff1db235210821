//! `easm-export runs`: what there is in the store, and what can be done with it.

use futures::future::FutureExt;
use futures::stream::{self, StreamExt};
use serde::Serialize;

use super::chosen::Chosen;
use super::{EXIT_ANSWER_IS_NO, print, print_json, quoted, thousands, unless_interrupted};
use crate::error::{Error, Kind, Result};
use crate::export::books::Books;
use crate::export::runs::{self, Fault, Listed};
use crate::export::{care, end};
use crate::model::manifest::{Completeness, FileEntry, Manifest};
use crate::model::run::{RunDocument, RunId, Status};
use crate::store::Store;
use crate::telemetry::Terminal;

/// Targets whose books are looked into at once.
const TARGETS_AT_ONCE: usize = 8;

/// Arguments of `runs`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
    /// Where the runs are: a folder, or the URL of a container of Blob Storage or Azurite.
    #[arg(long, global = true, value_name = "URL")]
    store: Option<String>,
    /// Print the result as one JSON document to stdout.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(clap::Subcommand)]
enum Command {
    /// List the newest runs.
    List {
        /// Most runs to list, at most 400.
        #[arg(long, value_name = "N", default_value_t = 20,
              value_parser = clap::value_parser!(u16).range(1..=400))]
        limit: u16,
    },
    /// Show where a run stands.
    Show(Id),
    /// Print the URLs of a run's files, one a line.
    Files(Id),
    /// End a run that is in work. Nothing of it counts.
    Cancel(Id),
    /// Have latest.json name a complete run, unless it names one that started later.
    Publish(Id),
    /// Read every file of a run again and compare it with the manifest.
    Verify(Id),
}

#[derive(clap::Args)]
struct Id {
    /// Id of the run.
    #[arg(value_name = "RUN_ID")]
    id: String,
}

/// Runs the command.
///
/// # Errors
/// [`Kind::NotFound`] if there is no such run, and what the store failed with.
pub async fn run(args: Args, chosen: &Chosen<'_>, terminal: &Terminal) -> Result<u8> {
    let store = chosen.store(args.store.as_deref())?;
    let all = chosen.books(&store);
    let json = args.json;
    unless_interrupted(async {
        if matches!(args.command, Command::Cancel(_) | Command::Publish(_)) {
            store.check().await?;
        }
        let repairs = all.iter().map(|books| care::repair(books).boxed());
        let repairs = stream::iter(repairs.collect::<Vec<_>>());
        repairs.for_each_concurrent(TARGETS_AT_ONCE, |repair| repair).await;
        let (Command::Show(Id { id })
        | Command::Files(Id { id })
        | Command::Cancel(Id { id })
        | Command::Publish(Id { id })
        | Command::Verify(Id { id })) = &args.command
        else {
            let Command::List { limit } = args.command else { unreachable!("the rest has an id") };
            return list(&all, usize::from(limit), json, terminal).await;
        };
        let (books, id) = chosen.books_of_run(&all, id).await?;
        match &args.command {
            Command::List { .. } => unreachable!("listed above"),
            Command::Show(_) => show(&books, &id, args.store.as_deref(), json).await,
            Command::Files(_) => files(&books, store.as_ref(), &id, json).await,
            Command::Cancel(_) => cancel(&books, &id, json, terminal).await,
            Command::Publish(_) => publish(&books, &id, json, terminal).await,
            Command::Verify(_) => verify(&books, &id, json, terminal).await,
        }
    })
    .await
}

/// `{"value": [...]}`, as the HTTP functions answer lists.
#[derive(Serialize)]
struct Value<T> {
    value: Vec<T>,
}

/// As `GET /api/exports` answers it.
#[derive(Serialize)]
struct List {
    value: Vec<RunDocument>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unread: Vec<String>,
}

async fn list(all: &[Books], limit: usize, json: bool, terminal: &Terminal) -> Result<u8> {
    let Listed { runs: value, unread } = runs::list(all, limit).await?;
    for (name, err) in &unread {
        terminal.say(&format!("easm-export: left out the runs of target {name}: {err}"));
    }
    let code = unread.first().map_or(0, |(_, err)| err.kind().facts().exit_code);
    if json {
        let unread = unread.into_iter().map(|(name, _)| name).collect();
        print_json(&List { value, unread })?;
        return Ok(code);
    }
    let mut table = String::new();
    for run in &value {
        let RunDocument { run_id, target, status, trigger, progress, error, .. } = run;
        let target = if all.len() > 1 { format!("  {target:<16}") } else { String::new() };
        table += &format!(
            "{run_id}{target}  {:<9}  {:<5}  {:>12} assets{}\n",
            status.as_str(),
            trigger.as_str(),
            thousands(progress.exported),
            error.as_ref().map_or_else(String::new, |error| format!("  {}", error.code)),
        );
    }
    print(table.as_bytes())?;
    Ok(code)
}

async fn show(books: &Books, id: &RunId, flag: Option<&str>, json: bool) -> Result<u8> {
    let run = runs::show(books, id).await?;
    if json {
        print_json(&run)?;
        return Ok(0);
    }
    let mut text = String::new();
    let mut line = |name: &str, value: String| text += &format!("{name:<10} {value}\n");
    line("run", run.run_id.to_string());
    line("target", run.target.clone());
    if let Some(workspace) = &run.workspace {
        line("workspace", workspace.to_string());
    }
    line("status", run.status.as_str().to_owned());
    line("trigger", run.trigger.as_str().to_owned());
    if let Some(slot) = run.slot {
        line("slot", slot.to_string());
    }
    line("started", run.started_at.to_string());
    line("updated", run.updated_at.to_string());
    if let Some(at) = run.finished_at {
        line("finished", at.to_string());
    }
    if let Some(until) = run.not_before {
        let cause = run.waits_for.as_ref().map_or("it was put off", |cause| cause.message.as_str());
        line("waits", format!("until {until}: {cause}"));
    }
    let progress = run.progress;
    line("assets", format!("{} of {}", thousands(progress.exported), thousands(progress.expected)));
    line("shards", format!("{} of {} done", progress.shards_done, progress.shards_total));
    let filter = &run.request.filter;
    line("filter", if filter.is_empty() { "everything".to_owned() } else { filter.clone() });
    if let Some(manifest) = &run.manifest {
        line("manifest", manifest.clone());
    }
    if let Some(error) = &run.error {
        line("error", format!("{}: {}", error.code, error.message));
    }
    if run.status == Status::Failed || !run.status.is_ended() {
        let store = flag.map(|flag| format!(" --store {}", quoted(flag))).unwrap_or_default();
        line("go on", format!("easm-export export --resume {}{store}", run.run_id));
    }
    print(text.as_bytes())?;
    Ok(0)
}

/// The manifest of the run `id`, which must be complete.
async fn manifest(books: &Books, id: &RunId) -> Result<Manifest> {
    if let Some(manifest) = books.manifest(id).await? {
        return Ok(manifest);
    }
    let run = runs::show(books, id).await?;
    let advice = match run.status {
        Status::Queued | Status::Running => "wait for its end, see runs show".to_owned(),
        Status::Failed => format!("resume it: easm-export export --resume {id}"),
        _ => "see runs list for those that are complete".to_owned(),
    };
    Err(Error::new(Kind::NotFound, "read a manifest")
        .because(format!("run {id} is {}, so no files of it count", run.status.as_str()))
        .advise(advice))
}

/// A file of a run, with where it is found.
#[derive(Serialize)]
struct File<'a> {
    url: String,
    #[serde(flatten)]
    entry: &'a FileEntry,
}

async fn files(books: &Books, store: &dyn Store, id: &RunId, json: bool) -> Result<u8> {
    let manifest = manifest(books, id).await?;
    let files = manifest.files.iter().map(|entry| File { url: store.url(&entry.path), entry });
    if json {
        print_json(&Value { value: files.collect() })?;
    } else {
        let lines: String = files.map(|file| file.url + "\n").collect();
        print(lines.as_bytes())?;
    }
    Ok(0)
}

async fn cancel(books: &Books, id: &RunId, json: bool, terminal: &Terminal) -> Result<u8> {
    let was_ended = runs::show(books, id).await?.status.is_ended();
    let run = end::cancel(books, id).await?;
    if run.status != Status::Cancelled {
        return Err(Error::new(Kind::Conflict, "cancel a run")
            .because(format!("run {id} is {}", run.status.as_str()))
            .advise("there is nothing left to cancel"));
    }
    if json {
        print_json(&run)?;
    } else {
        let when = if was_ended { "was cancelled before" } else { "is cancelled" };
        terminal.say(&format!("Run {id} {when}; nothing of it counts."));
    }
    Ok(0)
}

async fn publish(books: &Books, id: &RunId, json: bool, terminal: &Terminal) -> Result<u8> {
    let latest = end::publish(books, id).await?;
    if latest.run_id != *id {
        return Err(Error::new(Kind::Conflict, "publish a run")
            .because(format!("latest.json names run {}, which started later", latest.run_id))
            .advise("it only moves forward; export again for a newer one"));
    }
    if json {
        print_json(&latest)?;
    } else {
        let note = match latest.completeness {
            Completeness::Exact | Completeness::Changed => String::new(),
            other => format!(" Its completeness is {}.", other.as_str()),
        };
        terminal.say(&format!("latest.json names run {id} now.{note}"));
    }
    Ok(0)
}

/// What `runs verify --json` prints.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Verified<'a> {
    run_id: &'a RunId,
    files: usize,
    records: u64,
    bytes: u64,
    faults: Vec<Fault>,
}

async fn verify(books: &Books, id: &RunId, json: bool, terminal: &Terminal) -> Result<u8> {
    let manifest = manifest(books, id).await?;
    let verified = Verified {
        run_id: id,
        files: manifest.files.len(),
        records: manifest.files.iter().map(|file| file.records).sum(),
        bytes: manifest.files.iter().map(|file| file.bytes).sum(),
        faults: runs::verify(books, &manifest).await?,
    };
    let code = if verified.faults.is_empty() { 0 } else { EXIT_ANSWER_IS_NO };
    if json {
        print_json(&verified)?;
        return Ok(code);
    }
    for Fault { path, reason } in &verified.faults {
        terminal.say(&format!("{path}: {reason}"));
    }
    let (n_files, n_faults) = (verified.files, verified.faults.len());
    terminal.say(&match n_faults {
        0 => format!(
            "All {n_files} files of run {id} are what its manifest says: {} assets, {}.",
            thousands(verified.records),
            indicatif::HumanBytes(verified.bytes)
        ),
        _ => format!(
            "{n_faults} of {n_files} files of run {id} are not what its manifest says; export again."
        ),
    });
    Ok(code)
}
