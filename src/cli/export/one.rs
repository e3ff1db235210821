//! The run of one target: begun, carried, told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::sync::watch;
use tracing::info;

use super::super::chosen::Chosen;
use super::super::{
    EXIT_ANSWER_IS_NO, interrupt, interrupted, is_interrupted, print, progress, thousands,
    unless_interrupted,
};
use super::Outcome;
use super::args::{Args, Asked};
use crate::app::Target;
use crate::clock::Timestamp;
use crate::config::TargetSettings;
use crate::error::{Error, Kind, Result};
use crate::export::books::Books;
use crate::export::open::Opening;
use crate::export::plan::{self, Census};
use crate::export::step::check_workspace;
use crate::export::stream::{Streamed, stream};
use crate::export::{Job, Observer, World, care, drive, end};
use crate::model::layout::Layout;
use crate::model::manifest::{Completeness, Manifest};
use crate::model::request::{Dataset, Request};
use crate::model::run::{RunId, Status, Trigger};
use crate::store::Store;
use crate::telemetry::Terminal;

/// A run that is in work.
pub struct Begun {
    world: World,
    job: Job,
    id: RunId,
    waits: Arc<Waits>,
    began_at: Instant,
    /// When it first waited so that others went first.
    left_at: Option<Instant>,
}

impl Begun {
    /// Whether it ended meanwhile: cancelled, or by another process.
    pub async fn is_ended(&self) -> bool {
        let run = self.world.books(&self.job).run(&self.id).await;
        // What cannot be read is found out by whoever goes on with it.
        !matches!(run, Ok(Some(run)) if !run.status.is_ended())
    }

    /// The failure of a run that waited when it was interrupted.
    pub fn interrupted(&self, args: &Args) -> Error {
        interrupted().with("run", &self.id).advise(go_on(args, &self.id))
    }
}

/// How far a target has come.
pub enum Export {
    /// To its end: what became of it, and the exit code.
    Ended(Outcome, u8),
    /// Its run waits until then.
    Waits(Box<Begun>, Timestamp),
}

/// Tells whoever watches, and notes until when the run waits.
struct Waits {
    inner: Arc<dyn Observer>,
    until: watch::Sender<Option<Timestamp>>,
}

impl Observer for Waits {
    fn planned(&self, expected: u64) {
        self.inner.planned(expected);
    }

    fn took(&self, records: u64) {
        self.inner.took(records);
    }

    fn waits(&self, until: Timestamp, because: &Error) {
        self.inner.waits(until, because);
        self.until.send_replace(Some(until));
    }

    /// No run goes on without the store, so nobody goes first.
    fn store_is_silent(&self, until: Timestamp, because: &Error) {
        self.inner.waits(until, because);
    }

    fn follows(&self) {
        self.inner.follows();
    }
}

/// What one target is exported with.
#[derive(Clone, Copy)]
pub struct One<'a> {
    pub args: &'a Args,
    pub asked: &'a Asked,
    pub chosen: &'a Chosen<'a>,
    pub target: &'a TargetSettings,
    pub books: &'a Books,
    pub store: &'a Arc<dyn Store>,
    pub terminal: &'a Terminal,
}

impl One<'_> {
    /// Exports the target to its end; if it `may_leave`, only until its run waits.
    ///
    /// # Errors
    /// What ended the run.
    pub async fn export(self, may_leave: bool) -> Result<Export> {
        let Self { args, chosen, target, .. } = self;
        let request = self.asked.of(&target.request);
        if args.dry_run {
            let connected = chosen.connect(target).await?;
            let census = unless_interrupted(plan::census(connected.source(), &request)).await?;
            let name = Some(target.name.clone()).filter(|_| chosen.is_several());
            if !args.json {
                print_census(name.as_deref(), &census)?;
            }
            let counts = census.report(&request);
            return Ok(Export::Ended(Outcome::Counted { target: name, counts }, 0));
        }
        unless_interrupted(async {
            care::repair(self.books).await;
            Ok(())
        })
        .await?;
        let began_at = Instant::now();
        let resumed_id = args.resume.as_deref().and_then(RunId::parse);
        if let Some(id) = &resumed_id
            && let Some(manifest) =
                unless_interrupted(resumed(self.books, id, target, args.publish)).await?
        {
            return self.told(manifest, began_at);
        }
        let publishes = args.publish || request == target.request;
        let connected = chosen.connect(target).await?;
        let waits = Arc::new(Waits {
            inner: progress::observer(self.terminal),
            until: watch::Sender::new(None),
        });
        let world = connected.world(Arc::clone(self.store), Arc::clone(&waits) as _);
        let job = connected.job();
        let id = match resumed_id {
            Some(id) => id,
            None => {
                let now = world.clock.now();
                let opening =
                    Opening::now(request, Trigger::Cli, now, publishes).of(target.inventory());
                begun(&world, &job, &opening, args.publish).await?
            }
        };
        let run = Begun { world, job, id, waits, began_at, left_at: None };
        self.carry(Box::new(run), may_leave).await
    }

    /// Goes on with a run that waited, for as long as a run may wait: how long it was left alone does not
    /// count, since nobody tried it.
    ///
    /// # Errors
    /// What ended the run.
    pub async fn go_on(self, run: Box<Begun>, may_leave: bool) -> Result<Export> {
        let is_patient = run.left_at.is_some_and(|at| at.elapsed() < run.job.idle_max);
        let now = run.world.clock.now();
        let found = unless_interrupted(self.books.run(&run.id)).await.unwrap_or(None);
        let is_due =
            found.is_some_and(|found| !found.status.is_ended() && found.waits_until(now).is_none());
        if is_patient && is_due {
            let taken_up = unless_interrupted(drive::resume(self.books, &run.id)).await;
            taken_up.or_else(|err| if err.kind().is_retryable() { Ok(()) } else { Err(err) })?;
        }
        self.carry(run, may_leave).await
    }

    /// Carries the run on to its end; if it `may_leave`, only until it waits again.
    async fn carry(self, mut run: Box<Begun>, may_leave: bool) -> Result<Export> {
        let Begun { world, job, id, waits, began_at, .. } = run.as_ref();
        waits.until.send_replace(None);
        let mut until = waits.until.subscribe();
        let stops = async {
            tokio::select! {
                () = interrupt() => {}
                // The sender outlives this.
                _ = until.wait_for(Option::is_some), if may_leave => {}
            }
        };
        let carried = drive::to_end(world, job, id, stops).await;
        self.terminal.hide_bar();
        let go_on = go_on(self.args, id);
        match carried {
            Ok(manifest) => self.told(manifest, *began_at),
            Err(err) if err.kind() == Kind::Interrupted && !is_interrupted() => {
                let until = waits.until.borrow().unwrap_or_else(|| world.clock.now());
                run.left_at.get_or_insert_with(Instant::now);
                Ok(Export::Waits(run, until))
            }
            Err(err) => Err(match err.kind() {
                Kind::Interrupted => err.advise(go_on),
                Kind::Cancelled => err.or_advise("export again"),
                _ => err.with("run", id).or_advise(go_on),
            }),
        }
    }

    /// Says what came of a run that is complete.
    fn told(self, manifest: Manifest, began_at: Instant) -> Result<Export> {
        // That something is missing is said in any case.
        if !self.args.json || manifest.completeness == Completeness::Mismatch {
            let elapsed_s = began_at.elapsed().as_secs_f64();
            let (store, layout) = (self.store.name(), self.books.layout());
            self.terminal.say(&sentence(&manifest, &store, layout, elapsed_s));
        }
        let code = exit_code(manifest.completeness);
        Ok(Export::Ended(Outcome::Complete(Box::new(manifest)), code))
    }
}

fn go_on(args: &Args, id: &RunId) -> String {
    format!("go on with: {}", args.resume_command(id))
}

/// The failure of a target that an interruption kept from being begun.
pub fn not_begun() -> Error {
    interrupted().during("begin to export")
}

/// Takes up the run `id`. Gives its manifest if it is complete.
async fn resumed(
    books: &Books,
    id: &RunId,
    target: &TargetSettings,
    publish: bool,
) -> Result<Option<Manifest>> {
    if let Some(run) = books.run(id).await?
        && run.status != Status::Complete
    {
        check_workspace(&run, &target.inventory())?;
    }
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

/// Writes the records of `target` to stdout, and no files.
///
/// # Errors
/// What the service or stdout failed with.
pub async fn to_stdout(
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
