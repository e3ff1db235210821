//! A store in memory that fails by seed, and looks at every effect that it has.
//!
//! Every request is a task of its own, as a request on the network is: whoever made it may be dead
//! when it has its effect. Faults: no answer and no effect, an effect without an answer, an answer
//! that it failed and an effect long after that, slow answers, outages.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use easm_export::error::{Error, Kind, Result};
use easm_export::store::{PartReader, PartWriter, Store, Tag};
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::check;
use super::fate::Fate;
use super::profile::{StoreFaults, minutes};
use crate::support::hex;

/// Longest usual request.
const LAG_MAX: Duration = Duration::from_millis(80);

/// Longest slow request.
const SLOW_MAX: Duration = minutes(2);

/// Longest time after which a request that was given up has its effect.
const LATER_MAX: Duration = minutes(25);

/// The store as one process reaches it.
#[derive(Clone)]
pub struct SimStore {
    who: Arc<str>,
    shared: Arc<Shared>,
}

struct Shared {
    fate: Arc<Fate>,
    faults: StoreFaults,
    state: Mutex<State>,
}

/// What is in the store, and what was.
#[derive(Default)]
pub struct State {
    pub files: BTreeMap<String, File>,
    /// SHA-256 of every part that ever was.
    pub parts_ever: BTreeMap<String, String>,
    pub runs: BTreeMap<String, check::RunSeen>,
    /// When a part was deleted because no manifest lists it, or came after that.
    pub n_parts_deleted: usize,
    n_writes: u64,
}

/// One file.
#[derive(Clone)]
pub struct File {
    pub content: Bytes,
    pub tag: Tag,
    pub sha256: String,
    /// Lines, if it is a part.
    pub records: u64,
    pub made_at: Duration,
}

impl File {
    pub fn new(content: Bytes, n_writes: u64, made_at: Duration) -> Self {
        Self {
            tag: Tag(format!("\"{n_writes}\"")),
            sha256: hex(&Sha256::digest(&content)),
            records: content.iter().filter(|byte| **byte == b'\n').count() as u64,
            content,
            made_at,
        }
    }
}

/// What a request does to the store.
pub enum Effect {
    Create(Bytes),
    Replace(Bytes, Tag),
    CommitPart(Bytes),
    Remove(Tag),
    Delete,
}

impl Effect {
    fn name(&self) -> &'static str {
        match self {
            Self::Create(_) => "create",
            Self::Replace(..) => "replace",
            Self::CommitPart(_) => "commit part",
            Self::Remove(_) => "remove",
            Self::Delete => "delete",
        }
    }
}

/// What becomes of a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    Before,
    After,
    Later,
}

fn unavailable(operation: &'static str, path: &str) -> Error {
    Error::new(Kind::Unavailable { retry_after: None }, operation).with("path", path)
}

fn conflict(operation: &'static str, path: &str) -> Error {
    Error::new(Kind::Conflict, operation).with("path", path)
}

impl SimStore {
    pub fn new(fate: &Arc<Fate>, faults: StoreFaults) -> Self {
        let shared = Shared { fate: Arc::clone(fate), faults, state: Mutex::new(State::default()) };
        Self { who: "world".into(), shared: Arc::new(shared) }
    }

    /// The same store, as the process `who` reaches it.
    pub fn of(&self, who: &str) -> Self {
        Self { who: who.into(), shared: Arc::clone(&self.shared) }
    }

    /// What is in it.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap()
    }

    /// Sends a request, which does `work` to the state when it arrives, unless it never does.
    async fn request<T: Send + 'static>(
        &self,
        operation: &'static str,
        path: &str,
        is_write: bool,
        work: impl FnOnce(&Self, &str) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let Shared { fate, faults, .. } = self.shared.as_ref();
        let fault = match () {
            () if fate.strikes(faults.before) => Fault::Before,
            () if is_write && fate.strikes(faults.after) => Fault::After,
            () if is_write && fate.strikes(faults.later) => Fault::Later,
            () => Fault::None,
        };
        let lag_max = if fate.strikes(faults.slow) { SLOW_MAX } else { LAG_MAX };
        let there = fate.between(Duration::from_millis(1), lag_max);
        let back = fate.between(Duration::from_millis(1), LAG_MAX);
        let (sender, receiver) = oneshot::channel();
        let (store, path) = (self.clone(), path.to_owned());
        tokio::spawn(async move {
            sleep(there).await;
            let Shared { fate, faults, .. } = store.shared.as_ref();
            let is_out = !fate.is_calm() && faults.outages.hold(fate.age());
            if is_out || fault == Fault::Before {
                let _ = sender.send(Err(unavailable(operation, &path)));
                return;
            }
            if fault == Fault::Later {
                let _ = sender.send(Err(unavailable(operation, &path)));
                let later = fate.between(Duration::from_millis(10), LATER_MAX);
                fate.note(format_args!("{}: {operation} {path} is on its way", store.who));
                sleep(later).await;
                drop(work(&store, &path));
                return;
            }
            let answer = work(&store, &path);
            sleep(back).await;
            let _ = sender.send(match fault {
                Fault::After => Err(unavailable(operation, &path)),
                _ => answer,
            });
        });
        let answer = receiver.await;
        answer.unwrap_or_else(|_| Err(unavailable(operation, "the world has ended")))
    }

    async fn write(&self, path: &str, effect: Effect) -> Result<Option<Tag>> {
        let work = move |store: &Self, path: &str| store.apply(path, effect);
        let operation = "write";
        self.request(operation, path, true, work).await
    }

    /// Does what a request asks for, if its condition holds, and looks at it.
    fn apply(&self, path: &str, effect: Effect) -> Result<Option<Tag>> {
        let Shared { fate, state, .. } = self.shared.as_ref();
        let mut guard = state.lock().unwrap();
        let state = &mut *guard;
        let (name, who) = (effect.name(), &self.who);
        let present = state.files.get(path);
        let holds = match &effect {
            Effect::Create(_) | Effect::CommitPart(_) => present.is_none(),
            Effect::Replace(_, tag) => present.is_some_and(|file| file.tag == *tag),
            // What is not there need not be removed.
            Effect::Remove(tag) => present.is_none_or(|file| file.tag == *tag),
            Effect::Delete => true,
        };
        if !holds {
            fate.note(format_args!("{who}: {name} {path} is refused"));
            return Err(conflict(name, path));
        }
        let is_part = matches!(effect, Effect::CommitPart(_));
        let is_blind = matches!(effect, Effect::Delete);
        let before = present.cloned();
        let after = match effect {
            Effect::Create(content) | Effect::CommitPart(content) | Effect::Replace(content, _) => {
                state.n_writes += 1;
                Some(File::new(content, state.n_writes, fate.age()))
            }
            Effect::Remove(_) | Effect::Delete => None,
        };
        match &after {
            Some(file) => {
                let about = check::about(path, file);
                fate.note(format_args!("{who}: {name} {path}{about}"));
                state.files.insert(path.to_owned(), file.clone());
            }
            None => {
                if state.files.remove(path).is_some() {
                    fate.note(format_args!("{who}: {name} {path}"));
                }
            }
        }
        let change = check::Change {
            who,
            path,
            before: before.as_ref(),
            after: after.as_ref(),
            is_part,
            is_blind,
        };
        if let Err(reason) = check::at_every_effect(state, &change, fate.age()) {
            fate.broken(format_args!("{who}: {name} {path}: {reason}"));
        }
        Ok(after.map(|file| file.tag))
    }

    fn tag_of(written: Result<Option<Tag>>) -> Result<Tag> {
        written.map(|tag| tag.expect("a write has a tag"))
    }
}

struct SimPart {
    store: SimStore,
    path: String,
    content: Vec<u8>,
}

#[async_trait]
impl PartWriter for SimPart {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.content.extend_from_slice(&bytes);
        self.store.request("stage", &self.path, false, |_, _| Ok(())).await
    }

    async fn commit(self: Box<Self>) -> Result<()> {
        let Self { store, path, content } = *self;
        store.write(&path, Effect::CommitPart(content.into())).await.map(drop)
    }
}

/// A file that is read at once.
struct Whole(Option<Bytes>);

#[async_trait]
impl PartReader for Whole {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        Ok(self.0.take().filter(|content| !content.is_empty()))
    }
}

#[async_trait]
impl Store for SimStore {
    fn name(&self) -> String {
        "memory".to_owned()
    }

    fn url(&self, path: &str) -> String {
        format!("memory:{path}")
    }

    async fn check(&self) -> Result<()> {
        self.request("check", "", false, |_, _| Ok(())).await
    }

    async fn begin(&self, path: &str, _content_type: &str) -> Result<Box<dyn PartWriter>> {
        let part = SimPart { store: self.clone(), path: path.to_owned(), content: Vec::new() };
        self.request("begin", path, false, |_, _| Ok(())).await?;
        Ok(Box::new(part))
    }

    async fn create(&self, path: &str, content: Bytes) -> Result<Tag> {
        Self::tag_of(self.write(path, Effect::Create(content)).await)
    }

    async fn replace(&self, path: &str, content: Bytes, tag: &Tag) -> Result<Tag> {
        Self::tag_of(self.write(path, Effect::Replace(content, tag.clone())).await)
    }

    async fn read(&self, path: &str) -> Result<Option<(Bytes, Tag)>> {
        let look = |store: &Self, path: &str| {
            let state = store.state();
            Ok(state.files.get(path).map(|file| (file.content.clone(), file.tag.clone())))
        };
        self.request("read", path, false, look).await
    }

    async fn remove(&self, path: &str, tag: &Tag) -> Result<()> {
        self.write(path, Effect::Remove(tag.clone())).await.map(drop)
    }

    async fn open(&self, path: &str) -> Result<Option<Box<dyn PartReader>>> {
        let read = self.read(path).await?;
        Ok(read.map(|(content, _)| Box::new(Whole(Some(content))) as Box<dyn PartReader>))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        let look = |store: &Self, prefix: &str| {
            let state = store.state();
            let below = state.files.range(prefix.to_owned()..).map(|(path, _)| path.clone());
            Ok(below.take_while(|path| path.starts_with(prefix)).collect())
        };
        self.request("list", prefix, false, look).await
    }

    async fn delete(&self, path: &str) -> Result<()> {
        self.write(path, Effect::Delete).await.map(drop)
    }
}
