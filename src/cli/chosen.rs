//! What a command works with: the settings, and the targets that it is for.

use std::sync::Arc;

use super::{store, unless_interrupted};
use crate::app::{Shared, Target};
use crate::clock::SystemClock;
use crate::config::{Auth, Env, Settings, TargetSettings};
use crate::error::{Error, Kind, Result};
use crate::export::books::Books;
use crate::export::runs;
use crate::model::run::RunId;
use crate::store::Store;
use crate::telemetry::Terminal;

/// Most names that are listed where one was not found.
const NAMED_MAX: usize = 10;

/// The settings, and the targets that `--target` names: all, if it names none.
pub struct Chosen<'a> {
    /// The settings.
    pub settings: Settings,
    /// The environment they were read in.
    pub env: &'a Env,
    /// Names of the targets, in the order of the settings.
    names: Vec<String>,
    /// What is wrong with the names of others: they are meant too, if `--target` names none.
    pub nameless: Vec<Error>,
    shared: Shared,
}

impl<'a> Chosen<'a> {
    /// The targets of `env` that are `named`. It is said what keeps others from being looked at.
    ///
    /// # Errors
    /// [`Kind::Config`] for settings, [`Kind::Usage`] for a target that there is not.
    pub fn read(env: &'a Env, named: &[String], terminal: &Terminal) -> Result<Self> {
        let mut settings = Settings::read(env)?;
        // Nobody calls a command; but what is wrong is said by the first who reads it.
        Auth::read(env)?;
        let names = settings.targets.iter().map(|target| target.name.clone());
        if let Some(other) = named.iter().find(|name| settings.target_name(name).is_none()) {
            let names: Vec<String> = names.take(NAMED_MAX).collect();
            return Err(Error::new(Kind::Usage, "find the target")
                .because(format!("there is no target {other:?}"))
                .advise(match &names[..] {
                    [only] => format!("use --target {only}, the only one"),
                    _ => format!("use --target with one that is there: {}", names.join(", ")),
                }));
        }
        let is_named = |name: &String| {
            named.is_empty() || named.iter().any(|other| other.eq_ignore_ascii_case(name))
        };
        let names = names.filter(is_named).collect();
        let mut nameless = std::mem::take(&mut settings.nameless);
        nameless.retain(|_| named.is_empty());
        nameless.iter().for_each(|err| terminal.say(&format!("easm-export: {err}")));
        let shared = Shared::new(settings.concurrency);
        Ok(Self { settings, env, names, nameless, shared })
    }

    /// Whether more than one target is meant.
    pub fn is_several(&self) -> bool {
        self.names.len() + self.nameless.len() > 1
    }

    /// The one target, for what cannot be done for several.
    ///
    /// # Errors
    /// [`Kind::Usage`] if several are meant, and what is wrong with its settings.
    pub fn only(&self) -> Result<&TargetSettings> {
        match &self.names[..] {
            [name] if self.nameless.is_empty() => self.settings.target(name),
            names => Err(Error::new(Kind::Usage, "find the target")
                .because("this is done for one target at a time, and there are several")
                .advise(format!(
                    "name one with --target: {}",
                    names.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join(", ")
                ))),
        }
    }

    /// Signs in to the target and gets it ready, unless interrupted.
    ///
    /// # Errors
    /// What identity or ARM failed with, and what is wrong with the settings.
    pub async fn connect(&self, target: &TargetSettings) -> Result<Target> {
        let connect = Target::connect(&self.settings, target, &self.shared, self.env);
        unless_interrupted(connect).await
    }

    /// The store that the flag `--store` names, or else the settings.
    ///
    /// # Errors
    /// [`Kind::Usage`] or [`Kind::Config`] if it cannot be used here.
    pub fn store(&self, flag: Option<&str>) -> Result<Arc<dyn Store>> {
        store(flag, &self.settings, self.env)
    }

    /// The books of each target in `store`.
    pub fn books(&self, store: &Arc<dyn Store>) -> Vec<Books> {
        let books = |name: &String| Books::new(Arc::clone(store), Arc::new(SystemClock), name);
        self.names.iter().map(books).collect()
    }

    /// The books of the target whose run `text` names, and its id.
    ///
    /// # Errors
    /// [`Kind::NotFound`] if no target has such a run, and what the store failed with.
    pub async fn books_of_run(&self, all: &[Books], text: &str) -> Result<(Books, RunId)> {
        let whose = match &self.names[..] {
            [only] => format!("target {only}"),
            names => format!("any of {} targets", names.len()),
        };
        let id = RunId::parse(text).ok_or_else(|| {
            Error::new(Kind::NotFound, "find a run")
                .because(format!("{text:?} is not the id of a run of {whose}"))
                .advise("see runs list; an id looks like 20261122T060000Z-1a2b3c4d")
        })?;
        if let [only] = all {
            return Ok((only.clone(), id));
        }
        if let Some((books, _)) = runs::look_up(all, &id).await? {
            return Ok((books.clone(), id));
        }
        Err(Error::new(Kind::NotFound, "find a run")
            .because(format!("there is no run {id} of {whose}"))
            .advise("see runs list for those that there are"))
    }
}
