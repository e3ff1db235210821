//! `easm-export export`: a run in this process, to its end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde::Serialize;
use tracing::info;

use super::chosen::Chosen;
use super::{
    EXIT_ANSWER_IS_NO, interrupt, print, print_json, progress, quoted, read_filter, thousands,
    unless_interrupted,
};
use crate::app::Target;
use crate::config::{TargetSettings, parse};
use crate::error::{Error, Kind, Result};
use crate::export::books::Books;
use crate::export::open::Opening;
use crate::export::plan::{self, Census, CensusReport};
use crate::export::stream::{Streamed, stream};
use crate::export::{Job, World, care, drive, end};
use crate::model::asset::AssetKind;
use crate::model::layout::Layout;
use crate::model::manifest::{Completeness, Manifest};
use crate::model::request::{Compression, Dataset, Format, Request};
use crate::model::run::{RunId, Trigger};
use crate::store::Store;
use crate::telemetry::Terminal;

/// Flags of `export`. They override settings.
#[derive(clap::Args)]
pub struct Args {
    /// EASM filter; @FILE reads it from a file, @- from stdin. Lines that begin with # are dropped.
    #[arg(long, value_name = "FILTER")]
    filter: Option<String>,
    /// Kind of asset; may be repeated or comma separated.
    #[arg(long = "kind", value_name = "KIND")]
    kinds: Vec<String>,
    /// Dataset; may be repeated or comma separated.
    #[arg(long = "dataset", value_name = "DATASET")]
    datasets: Vec<String>,
    /// Format of the files: ndjson.
    #[arg(long)]
    format: Option<String>,
    /// Compression of the files: gzip or none. With --stdout the default is none.
    #[arg(long)]
    compression: Option<String>,
    /// Where the files go: a folder, or the URL of a container of Blob Storage or Azurite.
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// Export at most so many assets.
    #[arg(long, value_name = "N")]
    max_assets: Option<String>,
    /// Take up a run that failed or was interrupted where it stood. Of a complete one the manifest is
    /// printed.
    #[arg(long, value_name = "RUN_ID")]
    resume: Option<String>,
    /// Have latest.json name this run even if the request is not the target's own.
    #[arg(long)]
    publish: bool,
    /// Count per kind, write nothing.
    #[arg(long)]
    dry_run: bool,
    /// Write the records themselves to stdout, and no files.
    #[arg(long)]
    stdout: bool,
    /// Print the manifest (or the counts) as one JSON document to stdout.
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Refuses flags that contradict each other.
    ///
    /// # Errors
    /// [`Kind::Usage`].
    pub fn check(&self) -> Result<()> {
        let refuse = |reason: &str, advice: &'static str| {
            Err(Error::new(Kind::Usage, "read flags").because(reason).advise(advice))
        };
        if self.stdout && self.dry_run {
            return refuse("--dry-run writes no records", "leave out --stdout");
        }
        if self.stdout && self.json {
            return refuse("records and a manifest cannot share stdout", "leave out --json");
        }
        if self.stdout && self.store.is_some() {
            return refuse("--stdout uses no store", "leave out --store");
        }
        if self.publish && (self.stdout || self.dry_run) {
            return refuse("there is nothing to publish", "leave out --publish");
        }
        let asks_otherwise = self.filter.is_some()
            || !self.kinds.is_empty()
            || !self.datasets.is_empty()
            || self.format.is_some()
            || self.compression.is_some()
            || self.max_assets.is_some();
        if self.resume.is_some() && (asks_otherwise || self.stdout || self.dry_run) {
            let reason = "a run that is resumed was asked for when it was opened";
            return refuse(
                reason,
                "leave out all flags but --resume, --store, --publish and --json",
            );
        }
        Ok(())
    }

    /// What the flags ask for, read once: a filter may come from stdin.
    ///
    /// # Errors
    /// [`Kind::Usage`], naming the flag.
    fn asked(&self) -> Result<Asked> {
        let list = |words: &[String]| (!words.is_empty()).then(|| words.join(","));
        let compression = self.compression.as_deref();
        let compression = compression.map(|text| parse::compression("--compression", text));
        Ok(Asked {
            filter: self.filter.as_deref().map(read_filter).transpose()?,
            kinds: list(&self.kinds).map(|text| parse::kinds("--kind", &text)).transpose()?,
            datasets: list(&self.datasets)
                .map(|text| parse::datasets("--dataset", &text))
                .transpose()?,
            format: self
                .format
                .as_deref()
                .map(|text| parse::format("--format", text))
                .transpose()?,
            compression: match compression.transpose()? {
                None if self.stdout => Some(Compression::None),
                compression => compression,
            },
            max_assets: self
                .max_assets
                .as_deref()
                .map(|text| parse::number("--max-assets", text, 1..=u64::MAX))
                .transpose()?,
        })
    }

    /// What takes up the run `id` after this command.
    fn resume_command(&self, id: &RunId) -> String {
        let mut command = format!("easm-export export --resume {id}");
        if let Some(store) = &self.store {
            command += &format!(" --store {}", quoted(store));
        }
        if self.publish {
            command += " --publish";
        }
        command
    }
}

/// What the flags ask for in place of a target's own request.
struct Asked {
    filter: Option<String>,
    kinds: Option<Vec<AssetKind>>,
    datasets: Option<Vec<Dataset>>,
    format: Option<Format>,
    compression: Option<Compression>,
    max_assets: Option<u64>,
}

impl Asked {
    /// The request that the target's `own` becomes.
    fn of(&self, own: &Request) -> Request {
        Request {
            filter: self.filter.clone().unwrap_or_else(|| own.filter.clone()),
            kinds: self.kinds.clone().unwrap_or_else(|| own.kinds.clone()),
            datasets: self.datasets.clone().unwrap_or_else(|| own.datasets.clone()),
            format: self.format.unwrap_or(own.format),
            compression: self.compression.unwrap_or(own.compression),
            columns: own.columns.clone(),
            max_assets: self.max_assets.or(own.max_assets),
        }
    }
}

/// Runs the command: for one target after the other.
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
        return to_stdout(&chosen.connect(target).await?, request, store, terminal).await;
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
    let (mut outcomes, mut worst) = (Vec::new(), 0);
    for books in &all {
        let target = chosen.settings.target(books.target());
        let exported = match target {
            Ok(target) => one((&args, &asked), chosen, target, (books, &store), terminal)
                .await
                .map_err(|err| target.concern(err)),
            // It says itself whose they are.
            Err(err) => Err(err),
        };
        let (outcome, code) = match exported {
            Ok(done) => done,
            Err(err) if !of_several => return Err(err),
            Err(err) if err.kind() == Kind::Interrupted => {
                // It ends the command. What was done before is told all the same.
                let rest = all[outcomes.len()..].iter();
                outcomes.extend(rest.map(|books| Outcome::failed(books.target(), &err)));
                return match args.json {
                    true => print_json(&outcomes).and(Err(err)),
                    false => Err(err),
                };
            }
            Err(err) => {
                terminal.say(&format!("easm-export: {err}"));
                (Outcome::failed(books.target(), &err), err.kind().facts().exit_code)
            }
        };
        outcomes.push(outcome);
        worst = if severity(code) > severity(worst) { code } else { worst };
    }
    match &outcomes[..] {
        _ if !args.json => {}
        [only] if !of_several => print_json(only)?,
        _ => print_json(&outcomes)?,
    }
    Ok(worst)
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
    Failed { target: String, error: Failure },
}

/// A failure as `run.json` has it.
#[derive(Serialize)]
struct Failure {
    code: &'static str,
    message: String,
}

impl Outcome {
    fn failed(target: &str, err: &Error) -> Self {
        let error = Failure { code: err.kind().facts().code, message: err.to_string() };
        Self::Failed { target: target.to_owned(), error }
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

/// Exports one target to its end. Gives what became of it, and the exit code.
async fn one(
    (args, asked): (&Args, &Asked),
    chosen: &Chosen<'_>,
    target: &TargetSettings,
    (books, store): (&Books, &Arc<dyn Store>),
    terminal: &Terminal,
) -> Result<(Outcome, u8)> {
    let request = asked.of(&target.request);
    if args.dry_run {
        let connected = chosen.connect(target).await?;
        let census = unless_interrupted(plan::census(connected.source(), &request)).await?;
        let name = Some(target.name.clone()).filter(|_| chosen.is_several());
        if !args.json {
            print_census(name.as_deref(), &census)?;
        }
        return Ok((Outcome::Counted { target: name, counts: census.report(&request) }, 0));
    }
    unless_interrupted(async {
        care::repair(books).await;
        Ok(())
    })
    .await?;
    let started = Instant::now();
    let publishes = args.publish || request == target.request;
    let resumed_id = args.resume.as_deref().and_then(RunId::parse);
    let complete = match &resumed_id {
        Some(id) => unless_interrupted(resumed(books, id, args.publish)).await?,
        None => None,
    };
    let manifest = match complete {
        Some(manifest) => manifest,
        None => {
            let connected = chosen.connect(target).await?;
            let world = connected.world(Arc::clone(store), progress::observer(terminal));
            let job = connected.job();
            let id = match resumed_id {
                Some(id) => id,
                None => {
                    let now = world.clock.now();
                    let opening = Opening::now(request, Trigger::Cli, now, publishes);
                    begun(&world, &job, &opening, args.publish).await?
                }
            };
            let carried = drive::to_end(&world, &job, &id, interrupt()).await;
            terminal.hide_bar();
            let go_on = format!("go on with: {}", args.resume_command(&id));
            carried.map_err(|err| match err.kind() {
                Kind::Interrupted => err.advise(go_on),
                Kind::Cancelled => err.or_advise("export again"),
                _ => err.with("run", &id).or_advise(go_on),
            })?
        }
    };
    // That something is missing is said in any case.
    if !args.json || manifest.completeness == Completeness::Mismatch {
        let elapsed_s = started.elapsed().as_secs_f64();
        terminal.say(&sentence(&manifest, &store.name(), books.layout(), elapsed_s));
    }
    let code = exit_code(manifest.completeness);
    Ok((Outcome::Complete(Box::new(manifest)), code))
}

/// Takes up the run `id`. Gives its manifest if it is complete.
async fn resumed(books: &Books, id: &RunId, publish: bool) -> Result<Option<Manifest>> {
    drive::resume(books, id).await?;
    if publish {
        drive::have_published(books, id).await?;
    }
    let manifest = books.manifest(id).await?;
    if manifest.is_some() {
        end::finish(books, id).await?;
    }
    Ok(manifest)
}

/// Opens a run, or takes up the one in work for an equal request.
async fn begun(world: &World, job: &Job, opening: &Opening, publish: bool) -> Result<RunId> {
    let begin = async {
        let (id, is_joined) = drive::begin(world, job, opening).await?;
        if is_joined {
            info!(run.id = %id, "Run {id} of the same request is in work; taking it up");
            if publish {
                drive::have_published(&world.books(job), &id).await?;
            }
        }
        Ok(id)
    };
    unless_interrupted(begin).await
}

async fn to_stdout(
    target: &Target,
    request: Request,
    store: Arc<dyn Store>,
    terminal: &Terminal,
) -> Result<u8> {
    let job = target.job();
    let world = target.world(store, progress::observer(terminal));
    let output = Arc::new(Mutex::new(std::io::stdout()));
    let streamed = unless_interrupted(stream(&world, &job, &request, output)).await;
    terminal.hide_bar();
    let Streamed { exported, expected_at_start, completeness } = streamed?;
    print(b"")?;
    if completeness == Completeness::Mismatch {
        terminal.say(&format!(
            "Wrote {} assets, but the service counts {}: mismatch; run the export again.",
            thousands(exported),
            thousands(expected_at_start)
        ));
    }
    Ok(exit_code(completeness))
}

fn exit_code(completeness: Completeness) -> u8 {
    if completeness == Completeness::Mismatch { EXIT_ANSWER_IS_NO } else { 0 }
}

/// What a person wants to know of a complete run.
fn sentence(manifest: &Manifest, store: &str, layout: &Layout, elapsed_s: f64) -> String {
    let counts = &manifest.counts[Dataset::Assets.as_str()];
    let bytes: u64 = manifest.files.iter().map(|file| file.bytes).sum();
    let verdict = match manifest.completeness {
        Completeness::Exact => "exactly what the service counts".to_owned(),
        Completeness::Changed => "the inventory changed meanwhile".to_owned(),
        Completeness::Limited => {
            format!("limited by --max-assets, of {}", thousands(counts.expected_at_start))
        }
        Completeness::Mismatch => format!(
            "MISMATCH: the service counts {}; run the export again",
            thousands(counts.expected_at_end)
        ),
    };
    format!(
        "Exported {} assets ({verdict}) of {} to {store} in {elapsed_s:.1} s: {}, {}; the manifest is {store}/{}",
        thousands(counts.exported),
        manifest.target,
        match manifest.files.len() {
            1 => "1 file".to_owned(),
            n_files => format!("{n_files} files"),
        },
        indicatif::HumanBytes(bytes),
        layout.manifest(&manifest.run_id)
    )
}

/// The counts as a table, below the target's name where there are several.
fn print_census(name: Option<&str>, census: &Census) -> Result<()> {
    let by_kind: BTreeMap<_, _> =
        census.by_kind.iter().map(|(cut, n_assets)| (cut.as_str(), *n_assets)).collect();
    let mut table = name.map_or_else(String::new, |name| format!("{name}\n"));
    for (kind, n_assets) in &by_kind {
        table += &format!("{kind:<10} {:>12}\n", thousands(*n_assets));
    }
    table += &format!("{:<10} {:>12}\n", "all", thousands(census.total));
    print(table.as_bytes())
}
