//! The engine alone, against sources and stores that misbehave on purpose.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use easm_export::clock::{Clock, SystemClock, Timestamp};
use easm_export::error::{Error, Kind, Result};
use easm_export::export::open::Opening;
use easm_export::export::source::{Asset, Cut, Page, Query, Source};
use easm_export::export::{Job, Nobody, Observer, World, drive, plan};
use easm_export::model::asset::{AssetKind, KindCut};
use easm_export::model::manifest::{Completeness, Manifest};
use easm_export::model::request::{Compression, Dataset, Format, Request};
use easm_export::model::run::{Status, Trigger};
use easm_export::model::target::{Inventory, Workspace};
use easm_export::net::retry::RetryPolicy;
use easm_export::store::folder::FolderStore;
use easm_export::store::memory::Memory;
use easm_export::store::remote::Remote;
use easm_export::store::service::{Committal, Condition, Head, Listing, Service, Stamp};
use easm_export::store::{PartReader, PartWriter, Store, Tag};
use tokio::time::Instant;

/// Hosts, one a page. Of the first `n_short` readings each leaves out one asset.
struct Hosts {
    n_assets: u64,
    n_short: u64,
    n_readings: AtomicU64,
}

impl Hosts {
    fn new(n_assets: u64, n_short: u64) -> Self {
        Self { n_assets, n_short, n_readings: AtomicU64::new(0) }
    }
}

#[async_trait]
impl Source for Hosts {
    async fn count(&self, query: &Query) -> Result<u64> {
        let is_hosts = query.cut == Cut::One(KindCut::Only(AssetKind::Host));
        let is_all = matches!(&query.cut, Cut::AnyOf(kinds) if kinds.len() == 8);
        Ok(if is_hosts || is_all { self.n_assets } else { 0 })
    }

    async fn page(&self, _query: &Query, cursor: Option<&str>, _size: u32) -> Result<Page> {
        let n: u64 = cursor.map_or(0, |cursor| cursor.parse().unwrap());
        let reading = match cursor {
            None => self.n_readings.fetch_add(1, Ordering::SeqCst),
            Some(_) => self.n_readings.load(Ordering::SeqCst) - 1,
        };
        let end = if reading < self.n_short { self.n_assets - 1 } else { self.n_assets };
        let body = format!("[{{\"id\":{n}}}]").into_bytes();
        let assets = vec![Asset { span: 1..body.len() - 1, id_hash: n }];
        let next = (n + 1 < end).then(|| (n + 1).to_string());
        Ok(Page { body: body.into(), assets, next, total: Some(self.n_assets) })
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

fn job() -> Job {
    Job {
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
        page_size: 100,
        shards: 8,
        range_assets_max: 20_000,
        part_bytes_max: 25,
        idle_max: Duration::from_secs(12 * 60 * 60),
    }
}

fn world(source: impl Source + 'static, store: Arc<dyn Store>) -> World {
    World::new(Arc::new(source), store, Arc::new(SystemClock), Arc::new(Nobody))
}

/// A run from its beginning to its end, in one process.
async fn run(world: &World, interrupt: impl Future<Output = ()>) -> Result<Manifest> {
    let opening = Opening::now(request(), Trigger::Cli, world.clock.now(), true);
    let (id, _) = drive::begin(world, &job(), &opening).await?;
    drive::to_end(world, &job(), &id, interrupt).await
}

async fn export(source: impl Source + 'static, store: Arc<dyn Store>) -> Result<Manifest> {
    run(&world(source, store), std::future::pending()).await
}

async fn text(store: &FolderStore, manifest: &Manifest) -> String {
    let mut text = String::new();
    for file in &manifest.files {
        let (content, _) = store.read(&file.path).await.unwrap().unwrap();
        text += std::str::from_utf8(&content).unwrap();
    }
    text
}

#[tokio::test]
async fn a_range_that_came_short_is_read_again() {
    for n_short in [1, 2] {
        let folder = tempfile::tempdir().unwrap();
        let store = FolderStore::new(folder.path());
        let manifest = export(Hosts::new(10, n_short), Arc::new(store.clone())).await.unwrap();
        assert_eq!(manifest.completeness, Completeness::Exact, "{n_short}");
        let want: String = (0..10).map(|n| format!("{{\"id\":{n}}}\n")).collect();
        assert_eq!(text(&store, &manifest).await, want);

        // The parts of the readings that did not count are gone, and no name meant two contents.
        let listed: Vec<String> = manifest.files.iter().map(|file| file.path.clone()).collect();
        assert_eq!(store.list("contoso/assets/").await.unwrap(), listed);
        assert!(listed.iter().all(|path| path.contains(&format!("part-0-{}-", n_short + 1))));
    }
}

/// A service that does not understand how the filter was narrowed: everything is of every kind.
struct Unnarrowed;

#[async_trait]
impl Source for Unnarrowed {
    async fn count(&self, _query: &Query) -> Result<u64> {
        Ok(10)
    }

    async fn page(&self, _query: &Query, _cursor: Option<&str>, _size: u32) -> Result<Page> {
        panic!("nothing may be read that would come eight times");
    }
}

#[tokio::test]
async fn kinds_that_overlap_are_refused_before_anything_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let store = FolderStore::new(folder.path());
    let err = export(Unnarrowed, Arc::new(store)).await.unwrap_err();
    assert!(err.to_string().contains("add up to 90 assets"), "{err}");
}

/// A service that does not understand `!in`: what is of no known kind is everything.
struct NoRest;

#[async_trait]
impl Source for NoRest {
    async fn count(&self, query: &Query) -> Result<u64> {
        Ok(match &query.cut {
            Cut::One(KindCut::Only(AssetKind::Host)) => 5,
            Cut::One(KindCut::Only(_)) => 0,
            Cut::One(KindCut::Other) | Cut::AnyOf(_) => 6,
        })
    }

    async fn page(&self, _query: &Query, _cursor: Option<&str>, _size: u32) -> Result<Page> {
        panic!("nothing may be read that would come twice");
    }
}

/// An inventory that grows with every question.
struct Growing(AtomicU64);

#[async_trait]
impl Source for Growing {
    async fn count(&self, query: &Query) -> Result<u64> {
        let now = self.0.fetch_add(1, Ordering::SeqCst);
        let is_hosts_or_all = match &query.cut {
            Cut::One(cut) => *cut == KindCut::Only(AssetKind::Host),
            Cut::AnyOf(_) => true,
        };
        Ok(if is_hosts_or_all { now } else { 0 })
    }

    async fn page(&self, query: &Query, cursor: Option<&str>, size: u32) -> Result<Page> {
        Hosts::new(self.0.load(Ordering::SeqCst), 0).page(query, cursor, size).await
    }
}

#[tokio::test]
async fn a_rest_that_is_everything_is_refused_and_a_growing_inventory_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(FolderStore::new(folder.path()));
    let err = export(NoRest, Arc::clone(&store) as Arc<dyn Store>).await.unwrap_err();
    assert!(err.to_string().contains("add up to 11 assets"), "{err}");

    let census = plan::census(&Growing(AtomicU64::new(1000)), &request()).await.unwrap();
    assert!(census.total >= census.by_kind.iter().map(|(_, n)| n).sum());
    let mut hosts_and_pages = request();
    hosts_and_pages.kinds = vec![AssetKind::Host, AssetKind::Page];
    plan::census(&Growing(AtomicU64::new(1000)), &hosts_and_pages).await.unwrap();
    let err = plan::census(&Unnarrowed, &hosts_and_pages).await.unwrap_err();
    assert!(err.to_string().contains("add up to 20 assets"), "{err}");
}

#[tokio::test]
async fn a_range_that_stays_short_is_committed_as_a_mismatch() {
    let folder = tempfile::tempdir().unwrap();
    let store = FolderStore::new(folder.path());
    let manifest = export(Hosts::new(10, 99), Arc::new(store.clone())).await.unwrap();
    assert_eq!(manifest.completeness, Completeness::Mismatch);
    let counts = &manifest.counts["assets"];
    assert_eq!((counts.exported, counts.expected_at_start, counts.expected_at_end), (9, 10, 10));
    assert!(store.read("contoso/latest.json").await.unwrap().is_none(), "latest stays away");
}

/// A folder in which what is called `name` fails, from the call number `fails_from` on, before its
/// effect or after it. Parts fail when they are begun, written and committed.
#[derive(Clone)]
struct Failing {
    inner: FolderStore,
    name: &'static str,
    fails_from: usize,
    is_late: bool,
    n_calls: Arc<AtomicU64>,
}

impl Failing {
    /// `work` on `path`, or its failure.
    async fn meet<T>(&self, path: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
        let fails = path.contains(self.name)
            && self.n_calls.fetch_add(1, Ordering::SeqCst) >= self.fails_from as u64;
        let err = Error::new(Kind::StoreFull, "write").with("path", path);
        match (fails, self.is_late) {
            (false, _) => work.await,
            (true, false) => Err(err),
            (true, true) => work.await.and(Err(err)),
        }
    }
}

struct FailingPart {
    store: Failing,
    path: String,
    inner: Box<dyn PartWriter>,
}

#[async_trait]
impl PartWriter for FailingPart {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.store.meet(&self.path, self.inner.write(bytes)).await
    }

    async fn commit(self: Box<Self>) -> Result<()> {
        self.store.meet(&self.path, self.inner.commit()).await
    }
}

#[async_trait]
impl Store for Failing {
    fn name(&self) -> String {
        self.inner.name()
    }

    fn url(&self, path: &str) -> String {
        self.inner.url(path)
    }

    async fn check(&self) -> Result<()> {
        self.inner.check().await
    }

    async fn begin(&self, path: &str, content_type: &str) -> Result<Box<dyn PartWriter>> {
        let inner = self.meet(path, self.inner.begin(path, content_type)).await?;
        Ok(Box::new(FailingPart { store: self.clone(), path: path.to_owned(), inner }))
    }

    async fn create(&self, path: &str, content: Bytes) -> Result<Tag> {
        self.meet(path, self.inner.create(path, content)).await
    }

    async fn replace(&self, path: &str, content: Bytes, tag: &Tag) -> Result<Tag> {
        self.meet(path, self.inner.replace(path, content, tag)).await
    }

    async fn remove(&self, path: &str, tag: &Tag) -> Result<()> {
        self.meet(path, self.inner.remove(path, tag)).await
    }

    async fn open(&self, path: &str) -> Result<Option<Box<dyn PartReader>>> {
        self.inner.open(path).await
    }

    async fn read(&self, path: &str) -> Result<Option<(Bytes, Tag)>> {
        self.inner.read(path).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        self.inner.list(prefix).await
    }

    async fn delete(&self, path: &str) -> Result<()> {
        self.inner.delete(path).await
    }
}

#[tokio::test]
async fn whatever_write_fails_no_manifest_speaks_of_what_is_not_there() {
    let places =
        ["run.json", "plan.json", "checkpoints/", "/part-", "manifest.json", "latest.json"];
    let cases = places.iter().flat_map(|name| {
        (0..14).flat_map(move |fails_from| [(*name, fails_from, false), (*name, fails_from, true)])
    });
    for (name, fails_from, is_late) in cases {
        let folder = tempfile::tempdir().unwrap();
        let inner = FolderStore::new(folder.path());
        let n_calls = Arc::default();
        let failing = Failing { inner: inner.clone(), name, fails_from, is_late, n_calls };
        let outcome = export(Hosts::new(10, 0), Arc::new(failing)).await;
        let files = inner.list("contoso/").await.unwrap();
        let case = format!("{name} from {fails_from}, late {is_late}: {files:?}");
        let is_committed = files.iter().any(|path| path.ends_with("manifest.json"));
        assert_eq!(outcome.is_ok(), is_committed, "{case}");
        match outcome {
            Ok(manifest) => {
                assert_eq!(text(&inner, &manifest).await.lines().count(), 10, "{case}");
            }
            Err(err) => assert_eq!(err.kind(), Kind::StoreFull, "{case}"),
        }
        let has_latest = files.iter().any(|path| path.ends_with("latest.json"));
        assert!(is_committed || !has_latest, "{case}");
        // The books say how it ended, unless they are what could not be written.
        let run = files.iter().find(|path| path.ends_with("run.json"));
        if let Some(run) = run.filter(|_| name != "run.json") {
            let (content, _) = inner.read(run).await.unwrap().unwrap();
            let run: serde_json::Value = serde_json::from_slice(&content).unwrap();
            let want = if is_committed { "complete" } else { "failed" };
            assert_eq!(run["status"], want, "{case}");
        }
    }
}

/// A store to which the manifest gets through, while the answers about it are lost for some time.
#[derive(Default)]
struct NoAnswer {
    inner: Memory,
    n_written: AtomicU64,
    n_lost: AtomicU64,
}

/// Answers that are lost: those of several tries, one after the other put off.
const LOST: u64 = 20;

impl NoAnswer {
    fn lose<T>(&self, path: &str, answer: Result<T>) -> Result<T> {
        let is_struck =
            path.ends_with("manifest.json") && self.n_written.load(Ordering::SeqCst) > 0;
        match is_struck && self.n_lost.fetch_add(1, Ordering::SeqCst) < LOST {
            true => Err(Error::new(Kind::Unavailable { retry_after: None }, "write")),
            false => answer,
        }
    }
}

#[async_trait]
impl Service for NoAnswer {
    fn name(&self) -> String {
        self.inner.name()
    }

    fn url(&self, path: &str) -> String {
        self.inner.url(path)
    }

    async fn check(&self) -> Result<()> {
        self.inner.check().await
    }

    async fn put(&self, path: &str, content: Bytes, on: &Condition, stamp: &Stamp) -> Result<Tag> {
        self.n_written.fetch_add(u64::from(path.ends_with("manifest.json")), Ordering::SeqCst);
        self.lose(path, self.inner.put(path, content, on, stamp).await)
    }

    async fn head(&self, path: &str) -> Result<Option<Head>> {
        self.lose(path, self.inner.head(path).await)
    }

    async fn get(&self, path: &str) -> Result<Option<(Bytes, Tag)>> {
        self.lose(path, self.inner.get(path).await)
    }

    async fn get_range(&self, path: &str, range: Range<u64>, tag: &Tag) -> Result<Bytes> {
        self.lose(path, self.inner.get_range(path, range, tag).await)
    }

    async fn list(&self, prefix: &str, next: Option<&str>) -> Result<Listing> {
        self.inner.list(prefix, next).await
    }

    async fn delete(&self, path: &str, tag: Option<&Tag>) -> Result<()> {
        self.inner.delete(path, tag).await
    }

    async fn stage(&self, path: &str, block: &str, content: Bytes, md5: [u8; 16]) -> Result<()> {
        self.inner.stage(path, block, content, md5).await
    }

    async fn commit(&self, path: &str, committal: &Committal<'_>) -> Result<()> {
        self.inner.commit(path, committal).await
    }
}

/// A clock that goes with the runtime's, which a test lets pass without waiting.
struct Virtual(Instant);

impl Clock for Virtual {
    fn now(&self) -> Timestamp {
        Timestamp::parse("2026-11-22T06:00:00Z").unwrap().plus(self.0.elapsed())
    }
}

/// What was waited for, and why.
#[derive(Default)]
struct Waits(Mutex<Vec<String>>);

impl Observer for Waits {
    fn planned(&self, _expected: u64) {}

    fn took(&self, _records: u64) {}

    fn waits(&self, until: Timestamp, because: &Error) {
        self.0.lock().unwrap().push(format!("{until} {because}"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_of_whose_manifest_nothing_is_known_goes_on_until_it_is() {
    let service = Arc::new(NoAnswer::default());
    let retry = RetryPolicy { tries_max: 3, ..RetryPolicy::default() };
    let store = Remote::new(Arc::clone(&service) as Arc<dyn Service>, retry);
    let (source, clock) = (Arc::new(Hosts::new(10, 0)), Arc::new(Virtual(Instant::now())));
    let waits = Arc::new(Waits::default());
    let world = World::new(source, Arc::new(store), clock, Arc::clone(&waits) as _);
    let manifest = run(&world, std::future::pending()).await.unwrap();
    assert_eq!(manifest.counts["assets"].exported, 10);
    assert!(!waits.0.lock().unwrap().is_empty(), "it had to wait");
    let files = world.store.list("contoso/").await.unwrap();
    assert_eq!(files.iter().filter(|path| path.ends_with("manifest.json")).count(), 1);
    let books = world.books(&job());
    let run = books.run(&manifest.run_id).await.unwrap().unwrap();
    assert_eq!(run.status, Status::Complete);
}

#[tokio::test]
async fn an_interrupted_run_is_taken_up_by_the_next_export_of_the_same_request() {
    let folder = tempfile::tempdir().unwrap();
    let store = FolderStore::new(folder.path());
    let world = world(Hosts::new(500, 0), Arc::new(store.clone()));
    // Once something is read.
    let interrupt = async {
        while store.list("contoso/assets/").await.unwrap().len() < 3 {
            tokio::task::yield_now().await;
        }
    };
    let err = run(&world, interrupt).await.unwrap_err();
    assert_eq!(err.kind(), Kind::Interrupted);
    let active = store.list("contoso/active/").await.unwrap();
    assert_eq!(active.len(), 1, "it is still in work");
    let saved = store.list("contoso/assets/").await.unwrap();
    let manifest = run(&world, std::future::pending()).await.unwrap();
    assert!(err.to_string().contains(manifest.run_id.as_str()), "the same run: {err}");
    assert_eq!(text(&store, &manifest).await.lines().count(), 500);
    // It goes on where it was: nothing that was saved is read again.
    let listed: Vec<String> = manifest.files.iter().map(|file| file.path.clone()).collect();
    assert!(saved.iter().all(|path| listed.contains(path)), "{saved:?}");
    assert!(store.list("contoso/active/").await.unwrap().is_empty());
}
