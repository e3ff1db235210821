//! The rules by which a run goes on, waits and ends: steps, maintenance and commands over a store in
//! memory, with a clock that passes without waiting.

mod ends;
mod erasing;
mod moods;
mod opening;
mod retention;
mod rig;
mod slots;
mod work;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use easm_export::clock::{Clock, Timestamp};
use easm_export::error::{Error, Kind, Result};
use easm_export::export::books::Books;
use easm_export::export::open::{Opened, Opening, open};
use easm_export::export::slice::Slice;
use easm_export::export::source::{Asset, Cut, Page, Query, Sampled, Source};
use easm_export::export::step::{After, Message, step};
use easm_export::export::{Job, Nobody, World, care, drive};
use easm_export::model::asset::{AssetKind, KindCut};
use easm_export::model::manifest::Manifest;
use easm_export::model::request::{Compression, Dataset, Format, Request};
use easm_export::model::run::{RunDocument, RunId, Trigger};
use easm_export::model::target::{Inventory, Workspace};
use easm_export::net::retry::RetryPolicy;
use easm_export::store::memory::Memory;
use easm_export::store::remote::Remote;
use tokio::time::Instant;

/// How long a run may wait without saving anything.
const IDLE_MAX: Duration = Duration::from_secs(12 * 60 * 60);

const MINUTE: Duration = Duration::from_secs(60);

/// A clock that goes with the runtime's.
struct Virtual(Instant);

impl Clock for Virtual {
    fn now(&self) -> Timestamp {
        Timestamp::parse("2026-11-22T06:00:00Z").unwrap().plus(self.0.elapsed())
    }
}

/// What a request for a page meets: the number of the request (from 1), and its cursor.
type Meets = Box<dyn Fn(u64, Option<&str>) -> Option<Error> + Send + Sync>;

/// Hosts, so many a page as are asked for, behind cursors that say how many came before.
struct Hosts {
    n_assets: AtomicU64,
    n_pages: AtomicU64,
    /// How long counting takes.
    count_ms: AtomicU64,
    refuses_counts: AtomicBool,
    meets: Mutex<Meets>,
    /// Page sizes that were asked for.
    sizes: Mutex<Vec<u32>>,
}

impl Hosts {
    fn meet(&self, meets: impl Fn(u64, Option<&str>) -> Option<Error> + Send + Sync + 'static) {
        *self.meets.lock().unwrap() = Box::new(meets);
    }

    fn n_pages(&self) -> u64 {
        self.n_pages.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Source for Hosts {
    async fn count(&self, query: &Query) -> Result<u64> {
        let is_hosts = query.cut == Cut::One(KindCut::Only(AssetKind::Host));
        let is_all = matches!(&query.cut, Cut::AnyOf(_));
        let counted = if is_hosts || is_all { self.n_assets.load(Ordering::SeqCst) } else { 0 };
        tokio::time::sleep(Duration::from_millis(self.count_ms.load(Ordering::SeqCst))).await;
        match self.refuses_counts.load(Ordering::SeqCst) {
            true => Err(Error::new(Kind::Denied, "count assets")),
            false => Ok(counted),
        }
    }

    async fn page(&self, _query: &Query, cursor: Option<&str>, size: u32) -> Result<Page> {
        let n_request = self.n_pages.fetch_add(1, Ordering::SeqCst) + 1;
        self.sizes.lock().unwrap().push(size);
        tokio::time::sleep(Duration::from_secs(1)).await;
        if let Some(err) = (self.meets.lock().unwrap())(n_request, cursor) {
            return Err(err);
        }
        let n_assets = self.n_assets.load(Ordering::SeqCst);
        let begin: u64 = cursor.map_or(0, |cursor| cursor.parse().unwrap());
        let end = (begin + u64::from(size)).min(n_assets);
        let mut body = b"[".to_vec();
        let mut assets = Vec::new();
        for n in begin..end {
            let start = body.len();
            body.extend_from_slice(format!("{{\"id\":{n}}}").as_bytes());
            assets.push(Asset { span: start..body.len(), id_hash: n });
            body.push(b',');
        }
        let next = (end < n_assets).then(|| end.to_string());
        Ok(Page { body: body.into(), assets, next, total: Some(n_assets) })
    }
}

/// A target, its store and its service.
struct Place {
    source: Arc<Hosts>,
    world: World,
    job: Job,
    books: Books,
}

impl Place {
    /// With so many hosts, and pages of ten.
    fn new(n_assets: u64) -> Self {
        let source = Arc::new(Hosts {
            n_assets: AtomicU64::new(n_assets),
            n_pages: AtomicU64::new(0),
            count_ms: AtomicU64::new(0),
            refuses_counts: AtomicBool::new(false),
            meets: Mutex::new(Box::new(|_, _| None)),
            sizes: Mutex::default(),
        });
        let store = Arc::new(Remote::new(Arc::new(Memory::default()), RetryPolicy::default()));
        let clock = Arc::new(Virtual(Instant::now()));
        let world = World::new(Arc::clone(&source) as _, store, clock, Arc::new(Nobody));
        let job = Job {
            target: "contoso".to_owned(),
            workspace: Workspace {
                tenant_id: String::new(),
                subscription_id: String::new(),
                resource_group: String::new(),
                workspace: "contoso".to_owned(),
                region: String::new(),
            },
            inventory: Inventory::default(),
            api_version: String::new(),
            page_size: 10,
            shards: 2,
            range_assets_max: 20_000,
            part_bytes_max: 200,
            idle_max: IDLE_MAX,
        };
        let books = world.books(&job);
        Self { source, world, job, books }
    }

    fn opening(&self, trigger: Trigger) -> Opening {
        Opening::now(request(), trigger, self.world.clock.now(), true)
    }

    /// Opens a run.
    async fn open(&self) -> RunId {
        match open(&self.books, &self.opening(Trigger::Http)).await.unwrap() {
            Opened::Ours(id) => id,
            other => panic!("{other:?}"),
        }
    }

    /// Does what `message` says within `slice`, as the queue's function would.
    async fn step(&self, message: &Message, slice: Duration) -> After {
        step(&self.world, &self.job, message, &Slice::of(slice)).await.unwrap()
    }

    /// Opens and plans a run, and gives the message for its only shard.
    async fn planned(&self) -> Message {
        let id = self.open().await;
        let after = self.step(&Message::plan("contoso", &id), 4 * MINUTE).await;
        only(after)
    }

    async fn care(&self) -> Vec<Message> {
        let mut messages = Vec::new();
        care::care(&self.books, IDLE_MAX, &mut messages).await.unwrap();
        messages
    }

    async fn run(&self, id: &RunId) -> RunDocument {
        self.books.run(id).await.unwrap().unwrap()
    }

    /// Carries the run to its end in one process.
    async fn to_end(&self, id: &RunId) -> Result<Manifest> {
        drive::to_end(&self.world, &self.job, id, std::future::pending()).await
    }

    async fn list(&self, folder: &str) -> Vec<String> {
        self.world.store.list(&format!("contoso/{folder}/")).await.unwrap()
    }

    /// Fails unless the files of `manifest` hold each host once, and nothing else lies beside them.
    async fn assert_whole(&self, manifest: &Manifest) {
        let mut lines = Vec::new();
        for file in &manifest.files {
            let (content, _) = self.world.store.read(&file.path).await.unwrap().unwrap();
            let text = String::from_utf8(content.to_vec()).unwrap();
            lines.extend(text.lines().map(str::to_owned));
        }
        lines.sort();
        let n_assets = self.source.n_assets.load(Ordering::SeqCst);
        let mut want: Vec<String> = (0..n_assets).map(|n| format!("{{\"id\":{n}}}")).collect();
        want.sort();
        assert_eq!(lines, want);
        let listed: Vec<String> = manifest.files.iter().map(|file| file.path.clone()).collect();
        let mut stored = self.list("assets").await;
        stored.sort();
        let mut sorted = listed.clone();
        sorted.sort();
        assert_eq!(stored, sorted);
        assert!(self.list("active").await.is_empty());
    }
}

fn request() -> Request {
    Request {
        datasets: vec![Dataset::Assets],
        filter: String::new(),
        kinds: AssetKind::ALL.to_vec(),
        format: Format::Ndjson,
        compression: Compression::None,
        columns: Vec::new(),
        max_assets: None,
    }
}

/// The only message that follows.
#[track_caller]
fn only(after: After) -> Message {
    match after {
        After::Go(messages) if messages.len() == 1 => messages.into_iter().next().unwrap(),
        other => panic!("one message, not {other:?}"),
    }
}

fn unavailable() -> Error {
    Error::new(Kind::Unavailable { retry_after: None }, "list assets")
}
