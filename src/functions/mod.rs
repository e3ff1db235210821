//! The functions: one file for each folder in `functions/`, of the same name. Each decodes, calls the
//! engine, and encodes.
//!
//! Timer and HTTP functions run on instances of their own, so nothing is remembered that matters: what
//! [`App`] keeps is only what would be made again.
//!
//! Start reading at [`TABLE`], which says what there is.

pub mod access;
mod assets;
mod export_timer;
mod export_worker;
mod exports;
mod fields;
mod health;
mod maintenance;
pub mod openapi;
mod principal;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::OnceCell;
use tracing::{Instrument, Span, info, warn};

use crate::app::{self, Shared, Target};
use crate::clock::{Clock, SystemClock};
use crate::config::{Auth, Env, STORE_URL, Settings, check_store};
use crate::error::{Error, Kind, Result};
use crate::export::books::Books;
use crate::export::care;
use crate::export::open::{Opened, Opening, open};
use crate::export::slice::Slice;
use crate::export::step::Message;
use crate::export::{Job, Nobody, World};
use crate::host::app_root::{self, TIMEOUT_SETTING};
use crate::host::http::{HttpReply, HttpRequest, Refusal};
use crate::host::payload::Timer;
use crate::host::{Function, Functions, Trigger};
use crate::model::run::RunId;
use crate::net::retry::RetryPolicy;
use crate::schedule::{self, Schedule};
use crate::store::Store;
use crate::telemetry::Terminal;

const GET: &str = "GET";
const POST: &str = "POST";
const DELETE: &str = "DELETE";

/// Every function, as its `function.json` has it (contract, section 4).
pub const TABLE: &[Function] = &[
    Function { name: "ExportTimer", trigger: Trigger::Timer, emits: true },
    Function { name: "ExportWorker", trigger: Trigger::Queue, emits: true },
    Function { name: "Maintenance", trigger: Trigger::Timer, emits: true },
    Function {
        name: "Exports",
        trigger: Trigger::Http { route: "exports/{runId?}", methods: &[GET, POST, DELETE] },
        emits: true,
    },
    Function {
        name: "Assets",
        trigger: Trigger::Http { route: "assets", methods: &[GET, POST] },
        emits: false,
    },
    Function {
        name: "Health",
        trigger: Trigger::Http { route: "health", methods: &[GET] },
        emits: false,
    },
    Function {
        name: "OpenApi",
        trigger: Trigger::Http { route: "openapi.json", methods: &[GET] },
        emits: false,
    },
];

/// How much before the host's time-out this program answers for a function that is not done. The host
/// counts from a little earlier: it may have waited for this process to be there.
const ANSWER_BEFORE: Duration = Duration::from_secs(30);

/// How much before the host's time-out a slice ends at the latest: a request of the store that is in
/// work then is tried for [`STORE_TIME_MAX`], and what was read is saved.
const SAVE_BEFORE: Duration = Duration::from_secs(150);

/// Longest time for which a request of the store is tried. What does not work in it comes back with the
/// queue or the maintenance.
const STORE_TIME_MAX: Duration = Duration::from_secs(60);

/// Longest that an HTTP function works: the platform's front end gives up after 230 s (contract,
/// section 4).
const HTTP_TIME_MAX: Duration = Duration::from_secs(200);

/// The app: its settings, and what is made from them when it is first needed.
pub struct App {
    env: Env,
    terminal: Terminal,
    root: PathBuf,
    function_timeout: Duration,
    settings: OnceLock<Settings>,
    store: OnceCell<Arc<dyn Store>>,
    /// Targets by their name, signed in or about to be.
    targets: Mutex<BTreeMap<String, Arc<OnceCell<Arc<Connected>>>>>,
    /// What they share, also while one of them is signed in anew.
    shared: OnceLock<Shared>,
    /// Functions that anybody may call though they should not.
    open: OnceLock<Vec<String>>,
    health: health::Health,
    /// Whose query is answered now.
    turns: assets::Turns,
}

/// A target that is signed in: one world for all that this process does for it, since what works in it
/// shares the room for pages.
struct Connected {
    world: World,
    job: Job,
}

impl App {
    /// The app in the environment `env`. What ends a run badly is said on `terminal`.
    pub fn new(env: Env, terminal: &Terminal) -> Self {
        let root = env.app_root().to_owned();
        Self {
            function_timeout: app_root::function_timeout(env.get(TIMEOUT_SETTING), &root),
            env,
            terminal: terminal.clone(),
            root,
            settings: OnceLock::new(),
            store: OnceCell::new(),
            targets: Mutex::default(),
            shared: OnceLock::new(),
            open: OnceLock::new(),
            health: health::Health::default(),
            turns: assets::Turns::default(),
        }
    }

    /// Longest time after which any invocation is answered, well before the host kills this process.
    pub fn answer_time_max(&self) -> Duration {
        self.function_timeout.saturating_sub(ANSWER_BEFORE).max(self.function_timeout / 2)
    }

    /// The settings.
    fn settings(&self) -> Result<&Settings> {
        let read = || {
            let unknown = self.env.unknown();
            if !unknown.is_empty() {
                // An app setting too many, or a newer one, is no reason to stop exporting.
                warn!("Unknown setting {}; see docs/configuration.md", unknown.join(", "));
            }
            let settings = Settings::read(&self.env.clone().without(&unknown))?;
            check_store(STORE_URL, &settings.store, &self.env)?;
            Ok(settings)
        };
        // Wrong ones are read again: a file that they name may be there the next time.
        match self.settings.get() {
            Some(settings) => Ok(settings),
            None => read().map(|settings| self.settings.get_or_init(|| settings)),
        }
    }

    /// The store, which was seen to be there: a missing container of Azurite is created.
    async fn store(&self) -> Result<Arc<dyn Store>> {
        let open = || async {
            let settings = self.settings()?;
            let elapsed_max = STORE_TIME_MAX.min(settings.slice);
            let retry = RetryPolicy { elapsed_max, ..RetryPolicy::default() };
            let store = app::store(&settings.store, &settings.own, &self.env, retry)?;
            store.check().await?;
            Ok(store)
        };
        self.store.get_or_try_init(open).await.cloned()
    }

    /// The books of every target.
    async fn all_books(&self) -> Result<Vec<Books>> {
        let (settings, store) = (self.settings()?, self.store().await?);
        let books = |name: &str| Books::new(Arc::clone(&store), self.clock(), name);
        Ok(settings.targets.iter().map(|target| books(&target.name)).collect())
    }

    /// The books of the target `name`. `None`: there is no such target.
    async fn books(&self, name: &str) -> Result<Option<Books>> {
        let Some(name) = self.settings()?.target_name(name) else { return Ok(None) };
        Ok(Some(Books::new(self.store().await?, self.clock(), name)))
    }

    /// The target that a caller means with `name`: the only one, if none is named.
    ///
    /// # Errors
    /// A refusal that names the field `target`.
    fn target_named(&self, name: Option<&str>) -> Result<&str, Refusal> {
        let settings = self.settings()?;
        let found = match name {
            Some(name) => settings.target_name(name),
            None if settings.targets.len() + settings.nameless.len() > 1 => {
                return Err(Refusal::bad_input("target: there are several; name one"));
            }
            None => settings.targets.first().map(|target| target.name.as_str()),
        };
        found.ok_or_else(|| Refusal::bad_input("target: no target has this name"))
    }

    /// The target `name`, signed in.
    async fn target(&self, name: &str) -> Result<Arc<Connected>> {
        let settings = self.settings()?;
        let target = settings.target(name)?;
        let shared = self.shared.get_or_init(|| Shared::new(settings.concurrency));
        let cell = {
            let mut targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(targets.entry(target.name.clone()).or_default())
        };
        let connect = || async {
            let store = self.store().await?;
            let target = Target::connect(settings, target, shared, &self.env).await?;
            let (world, job) = (target.world(store, Arc::new(Nobody)), target.job());
            Ok(Arc::new(Connected { world, job }))
        };
        cell.get_or_try_init(connect).await.cloned()
    }

    /// Refuses what would let in whoever calls. The folders are looked at until that works once.
    fn check_access(&self, auth: &Auth) -> Result<()> {
        let open = match self.open.get() {
            Some(open) => open,
            None => {
                let open = access::open_functions(auth, &self.root)?;
                self.open.get_or_init(|| open)
            }
        };
        access::check(auth, &self.env, open)
    }

    /// The time that one invocation may work.
    fn slice(&self) -> Result<Slice> {
        let longest = self.function_timeout.saturating_sub(SAVE_BEFORE);
        // A host with a very short time-out gets half of it.
        let longest = longest.max(self.function_timeout / 2);
        Ok(Slice::of(self.settings()?.slice.min(longest)))
    }

    /// When the timer exports, if that is set.
    fn schedule(&self) -> Option<Result<Schedule>> {
        self.env.get(schedule::SETTING).map(Schedule::parse)
    }

    /// Whether somebody switched the timer off. A dot of the setting's name may have become something
    /// else on its way into the environment.
    fn is_timer_disabled(&self) -> bool {
        let names =
            [".", "_", "__", ":"].map(|dot| format!("AzureWebJobs{dot}ExportTimer{dot}Disabled"));
        let values = names.iter().filter_map(|name| self.env.get(name));
        values.into_iter().any(|value| value == "1" || value.eq_ignore_ascii_case("true"))
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(SystemClock)
    }

    /// Says on stderr why an invocation fails: the host drops the body of the answer, and takes what is
    /// on stdout for information only.
    fn say(&self, err: &Error) {
        self.terminal.say(&format!("easm-export: {err}"));
    }
}

/// Adds the run to every log line of the invocation.
fn note_run(id: &RunId) {
    Span::current().record("run.id", id.as_str());
}

/// Opens a run for a timer. Gives what is to be done for it: its planning, unless that is done.
async fn opened(books: &Books, opening: &Opening) -> Result<Option<Message>> {
    let id = match open(books, opening).await? {
        Opened::Ours(id) => id,
        Opened::Joined(id) => {
            info!(run.id = %id, "Run {id} of the same request is in work");
            id
        }
        Opened::Skipped { by } => {
            info!(run.id = %opening.run_id, "Skipped the slot: run {by} is still in work");
            return Ok(None);
        }
        Opened::Ended(run) => {
            info!(run.id = %run.run_id, "The slot was exported before: {}", run.status.as_str());
            return Ok(None);
        }
    };
    planning(books, &id).await
}

/// The message that has the run `id` planned, while it is not: whoever opened it may have died, or been
/// told of an error, before its planning was on the queue. Behind the plan there would be as much again of
/// every shard's message.
async fn planning(books: &Books, id: &RunId) -> Result<Option<Message>> {
    Ok(match books.plan(id).await? {
        None => Some(Message::plan(books.target(), id)),
        Some(_) => None,
    })
}

/// Messages as the queue takes them.
fn texts(messages: &[Message]) -> Vec<String> {
    let text = |message| serde_json::to_string(message).expect("a message without maps");
    messages.iter().map(text).collect()
}

#[async_trait]
impl Functions for Arc<App> {
    async fn timer(&self, name: &'static str, timer: Timer) -> Result<Vec<String>> {
        let done = match name {
            "ExportTimer" => export_timer::run(self, timer).await,
            "Maintenance" => maintenance::run(self).await,
            _ => Err(unknown(name)),
        };
        done.map(|messages| texts(&messages)).inspect_err(|err| self.say(err))
    }

    async fn message(&self, name: &'static str, text: String) -> Result<Vec<String>> {
        let done = match name {
            "ExportWorker" => export_worker::run(self, &text).await,
            _ => Err(unknown(name)),
        };
        done.map(|messages| texts(&messages)).inspect_err(|err| self.say(err))
    }

    async fn keep(&self, work: Vec<String>) -> Result<()> {
        let mut kept = Ok(());
        for text in &work {
            let keep = async {
                let message = export_worker::read(text)?;
                match self.books(&message.target).await? {
                    Some(books) => care::make_due(&books, &message.run_id).await.map(drop),
                    None => Ok(()),
                }
            };
            // One that cannot be kept keeps no other from it.
            kept = kept.and(keep.await);
        }
        kept
    }

    async fn http(
        &self,
        name: &'static str,
        request: HttpRequest,
    ) -> Result<(HttpReply, Vec<String>), Refusal> {
        if name == "Health" {
            // To its end, also if whoever asked is gone: it is not begun anew for everybody who asks.
            let app = Self::clone(self);
            let looked = async move { health::run(&app).await }.in_current_span();
            let looked = tokio::spawn(looked).await;
            let reply =
                looked.map_err(|_| Refusal::new(500, "internal", "a fault in this program"))?;
            return Ok((reply, Vec::new()));
        }
        let auth = access::admit(self, &request)?;
        match name {
            "Exports" => {
                let work = exports::run(self, &request);
                let done = tokio::time::timeout(HTTP_TIME_MAX, work).await;
                let (reply, messages) = done.unwrap_or_else(|_| Err(Refusal::late()))?;
                Ok((reply, texts(&messages)))
            }
            "OpenApi" => Ok((openapi::run(&request, &auth)?, Vec::new())),
            "Assets" => Ok((assets::run(self, &request).await?, Vec::new())),
            _ => Err(Refusal::of(&unknown(name))),
        }
    }
}

/// What took longer than a slice.
fn out_of_time(operation: &'static str) -> Error {
    Error::new(Kind::Unavailable { retry_after: None }, operation)
        .because("it took longer than a slice")
        .advise("it is tried again by itself")
}

fn unknown(name: &str) -> Error {
    Error::new(Kind::Internal, "run a function")
        .because(format!("there is no function {name}"))
        .advise("deploy the functions that came with this program")
}
