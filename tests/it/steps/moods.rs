//! What must not end a run: a store with moods, clocks that are wrong, workers from before, documents that
//! cannot be read.

use std::collections::BTreeSet;
use std::ops::Range;

use bytes::Bytes;
use easm_export::export::step::Do;
use easm_export::export::{Observer, drive, end, runs};
use easm_export::model::manifest::{Completeness, Latest};
use easm_export::model::run::Status;
use easm_export::store::service::{Committal, Condition, Head, Listing, Service, Stamp};
use easm_export::store::{self, Tag};

use super::*;

/// What a request meets: the operation, and the path.
type Says = Box<dyn Fn(&str, &str) -> Option<Error> + Send + Sync>;

/// A store that fails as a test says.
struct Moody {
    inner: Memory,
    says: Mutex<Says>,
}

impl Moody {
    fn meet(&self, op: &str, path: &str) -> Result<()> {
        (self.says.lock().unwrap())(op, path).map_or(Ok(()), Err)
    }

    fn set(&self, says: impl Fn(&str, &str) -> Option<Error> + Send + Sync + 'static) {
        *self.says.lock().unwrap() = Box::new(says);
    }
}

#[async_trait]
impl Service for Moody {
    fn name(&self) -> String {
        "moody".to_owned()
    }
    fn url(&self, path: &str) -> String {
        path.to_owned()
    }
    async fn check(&self) -> Result<()> {
        Ok(())
    }
    async fn put(&self, path: &str, content: Bytes, on: &Condition, stamp: &Stamp) -> Result<Tag> {
        self.meet("put", path)?;
        self.inner.put(path, content, on, stamp).await
    }
    async fn head(&self, path: &str) -> Result<Option<Head>> {
        self.meet("head", path)?;
        self.inner.head(path).await
    }
    async fn get(&self, path: &str) -> Result<Option<(Bytes, Tag)>> {
        self.meet("get", path)?;
        self.inner.get(path).await
    }
    async fn get_range(&self, path: &str, range: Range<u64>, tag: &Tag) -> Result<Bytes> {
        self.meet("get", path)?;
        self.inner.get_range(path, range, tag).await
    }
    async fn list(&self, prefix: &str, next: Option<&str>) -> Result<Listing> {
        self.meet("list", prefix)?;
        self.inner.list(prefix, next).await
    }
    async fn delete(&self, path: &str, tag: Option<&Tag>) -> Result<()> {
        self.meet("delete", path)?;
        self.inner.delete(path, tag).await
    }
    async fn stage(&self, path: &str, block: &str, content: Bytes, md5: [u8; 16]) -> Result<()> {
        self.meet("stage", path)?;
        self.inner.stage(path, block, content, md5).await
    }
    async fn commit(&self, path: &str, committal: &Committal<'_>) -> Result<()> {
        self.meet("commit", path)?;
        self.inner.commit(path, committal).await
    }
}

/// The same number of each kind; and whether the service is out.
struct Kinds(u64, Box<dyn Fn() -> bool + Send + Sync>);

#[async_trait]
impl Source for Kinds {
    async fn count(&self, query: &Query) -> Result<u64> {
        Ok(match &query.cut {
            Cut::One(KindCut::Only(_)) => self.0,
            Cut::One(KindCut::Other) => 0,
            Cut::AnyOf(kinds) => self.0 * kinds.len() as u64,
        })
    }

    async fn page(&self, query: &Query, cursor: Option<&str>, size: u32) -> Result<Page> {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if self.1() {
            // Some give up before others.
            let name = format!("{:?}", query.cut);
            tokio::time::sleep(Duration::from_secs(name.len() as u64)).await;
            return Err(unavailable());
        }
        let begin: u64 = cursor.map_or(0, |cursor| cursor.parse().unwrap());
        let end = (begin + u64::from(size)).min(self.0);
        let mut body = b"[".to_vec();
        let mut assets = Vec::new();
        for n in begin..end {
            let start = body.len();
            body.extend_from_slice(format!("{{\"id\":{n}}}").as_bytes());
            assets.push(Asset { span: start..body.len(), id_hash: n });
            body.push(b',');
        }
        let next = (end < self.0).then(|| end.to_string());
        Ok(Page { body: body.into(), assets, next, total: None })
    }
}

/// When it was said that the run waits, and for how long, in seconds.
struct Waits(Instant, Mutex<Vec<(u64, u64)>>);

impl Observer for Waits {
    fn planned(&self, _expected: u64) {}

    fn took(&self, _records: u64) {}

    fn waits(&self, until: Timestamp, _because: &Error) {
        let now = Virtual(self.0).now();
        self.1.lock().unwrap().push((self.0.elapsed().as_secs(), until.since(now).as_secs()));
    }
}

/// `place` with a store that can be moody.
fn moody(place: &mut Place) -> Arc<Moody> {
    let says: Says = Box::new(|_, _| None);
    let moody = Arc::new(Moody { inner: Memory::default(), says: Mutex::new(says) });
    let store = Arc::new(Remote::new(Arc::clone(&moody) as _, RetryPolicy::default()));
    let (source, clock) = (Arc::clone(&place.source) as _, Arc::clone(&place.world.clock));
    place.world = World::new(source, store, clock, Arc::new(Nobody));
    place.books = place.world.books(&place.job);
    moody
}

/// Eight shards, of which all meet an outage of ten minutes: of the service, or of the store.
#[tokio::test(start_paused = true)]
async fn an_outage_that_all_shards_meet_is_waited_out_and_said_once_a_pause() {
    for of_store in [true, false] {
        let mut place = Place::new(0);
        let moody = moody(&mut place);
        let begun = Instant::now();
        let is_out = move || (20..600).contains(&begun.elapsed().as_secs());
        let waits = Arc::new(Waits(begun, Mutex::default()));
        let source = Arc::new(Kinds(2000, Box::new(move || is_out() && !of_store)));
        let store = Arc::clone(&place.world.store);
        place.world = World::new(source, store, Arc::new(Virtual(begun)), Arc::clone(&waits) as _);
        place.job.shards = 8;
        place.books = place.world.books(&place.job);
        let id = place.open().await;
        moody.set(move |_, _| (is_out() && of_store).then(unavailable));
        let manifest = place.to_end(&id).await.unwrap();
        assert_eq!(manifest.completeness, Completeness::Exact);
        let waits = waits.1.lock().unwrap().clone();
        assert!((3..=6).contains(&waits.len()), "{waits:?}");
        assert!(
            waits.windows(2).all(|pair| pair[0].0 < pair[1].0),
            "one after the other: {waits:?}"
        );
        assert!(waits.iter().all(|(_, pause_s)| *pause_s <= 960), "{waits:?}");
    }
}

/// Whoever interrupts a run to do something else meanwhile, again and again, uses up none of its patience: a
/// shard that was not let work for long is not stuck.
#[tokio::test(start_paused = true)]
async fn a_run_that_is_interrupted_at_each_pause_of_an_outage_is_not_given_up_for_it() {
    let mut place = Place::new(0);
    let begun = Instant::now();
    let waits = Arc::new(Waits(begun, Mutex::default()));
    let is_out = move || (3..7200).contains(&begun.elapsed().as_secs());
    let source = Arc::new(Kinds(300, Box::new(is_out)));
    let store = Arc::clone(&place.world.store);
    place.world = World::new(source, store, Arc::new(Virtual(begun)), Arc::clone(&waits) as _);
    place.job.shards = 8;
    place.books = place.world.books(&place.job);
    let id = place.open().await;
    let manifest = loop {
        let n_told = waits.1.lock().unwrap().len();
        let is_told = async {
            while waits.1.lock().unwrap().len() == n_told {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        match drive::to_end(&place.world, &place.job, &id, is_told).await {
            Err(err) if err.kind() == Kind::Interrupted => {
                let pause_s = waits.1.lock().unwrap().last().unwrap().1;
                tokio::time::sleep(Duration::from_secs(pause_s + 1)).await;
            }
            ended => break ended.unwrap(),
        }
    };
    assert_eq!(manifest.completeness, Completeness::Exact);
}

/// Otherwise all shards of a service that hangs would hold all that a host works on at once, again and again.
#[tokio::test(start_paused = true)]
async fn a_run_that_was_put_off_is_tried_with_one_shard_and_the_others_follow() {
    let mut place = Place::new(0);
    let is_out = Arc::new(AtomicBool::new(true));
    let begun = Instant::now();
    let (out, store) = (Arc::clone(&is_out), Arc::clone(&place.world.store));
    let source = Arc::new(Kinds(100, Box::new(move || out.load(Ordering::SeqCst))));
    place.world = World::new(source, store, Arc::new(Virtual(begun)), Arc::new(Nobody));
    place.job.shards = 8;
    place.books = place.world.books(&place.job);
    let id = place.open().await;
    let After::Go(all) = place.step(&Message::plan("contoso", &id), 4 * MINUTE).await else {
        panic!("it is planned");
    };
    assert_eq!(all.len(), 8);
    for message in &all {
        assert!(matches!(place.step(message, 4 * MINUTE).await, After::PutOff { .. }));
    }
    let mut tried = BTreeSet::new();
    for _ in 0..3 {
        tokio::time::sleep(31 * MINUTE).await;
        let message = only(After::Go(place.care().await));
        assert!(matches!(place.step(&message, 4 * MINUTE).await, After::PutOff { .. }));
        tried.insert(message.shard);
    }
    assert_eq!(tried.len(), 3, "what fails can be one shard's own");
    is_out.store(false, Ordering::SeqCst);
    tokio::time::sleep(31 * MINUTE).await;
    let message = only(After::Go(place.care().await));
    let After::Go(others) = place.step(&message, 4 * MINUTE).await else { panic!("it goes on") };
    let want = all.into_iter().filter(|other| *other != message);
    assert_eq!(BTreeSet::from_iter(others), BTreeSet::from_iter(want));
    assert_eq!(place.run(&id).await.pauses, 0);
    assert_eq!(place.to_end(&id).await.unwrap().completeness, Completeness::Exact);
}

/// Each request to such a store can take minutes.
#[tokio::test(start_paused = true)]
async fn of_a_target_whose_runs_cannot_be_read_no_more_than_a_few_are_asked_for() {
    let mut place = Place::new(5);
    let moody = moody(&mut place);
    for _ in 0..40 {
        let id = place.open().await;
        place.to_end(&id).await.unwrap();
        tokio::time::sleep(MINUTE).await;
    }
    let other = Books::new(Arc::clone(&place.world.store), Arc::clone(&place.world.clock), "other");
    let all = [place.books.clone(), other];
    let n_asked = Arc::new(AtomicU64::new(0));
    let asked = Arc::clone(&n_asked);
    moody.set(move |_, path| {
        let is_run = path.ends_with("/run.json");
        asked.fetch_add(u64::from(is_run), Ordering::SeqCst);
        is_run.then(|| Error::new(Kind::Denied, "read"))
    });
    let listed = runs::list(&all, 30).await.unwrap();
    assert!(listed.runs.is_empty());
    let names: Vec<&str> = listed.unread.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["contoso"]);
    let n_asked = n_asked.load(Ordering::SeqCst);
    assert!((1..=8).contains(&n_asked), "{n_asked}");
    assert!(runs::list(&all[..1], 30).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn who_finds_a_run_put_off_by_another_process_is_told_until_when() {
    let mut place = Place::new(95);
    let begun = Instant::now();
    let waits = Arc::new(Waits(begun, Mutex::default()));
    let (source, store) = (Arc::clone(&place.source) as _, Arc::clone(&place.world.store));
    place.world = World::new(source, store, Arc::new(Virtual(begun)), Arc::clone(&waits) as _);
    place.books = place.world.books(&place.job);
    let message = place.planned().await;
    place.source.meet(|n, _| (n == 1).then(unavailable));
    place.step(&message, MINUTE).await;
    place.to_end(&message.run_id).await.unwrap();
    let waits = waits.1.lock().unwrap().clone();
    assert!(matches!(waits[..], [(_, 55..=60)]), "once: {waits:?}");
}

#[tokio::test(start_paused = true)]
async fn parts_that_cannot_be_stored_for_hours_do_not_make_a_shard_stuck() {
    let mut place = Place::new(95);
    let moody = moody(&mut place);
    let mut message = place.planned().await;
    moody.set(|op, path| (op == "stage" && path.contains("/assets/")).then(unavailable));
    let begun = Instant::now();
    while begun.elapsed() < IDLE_MAX / 2 {
        let after = place.step(&message, 10 * MINUTE).await;
        assert!(matches!(after, After::PutOff { .. }), "{after:?}");
        tokio::time::sleep(31 * MINUTE).await;
        message = only(After::Go(place.care().await));
    }
    moody.set(|_, _| None);
    let commit = only(place.step(&message, 10 * MINUTE).await);
    assert!(matches!(place.step(&commit, MINUTE).await, After::Ended));
}

#[tokio::test(start_paused = true)]
async fn a_range_that_is_read_again_over_several_slices_is_neither_put_off_nor_shrunk() {
    let place = Place::new(1500);
    let mut message = place.planned().await;
    place.source.meet(|n, cursor| {
        (n == 120 && cursor.is_some()).then(|| Error::new(Kind::BadRequest, "list assets"))
    });
    let mut n_slices = 0;
    while message.r#do == Do::Shard {
        n_slices += 1;
        message = only(place.step(&message, Duration::from_millis(30_500)).await);
    }
    assert!(n_slices < 15, "{n_slices}");
    let sizes = place.source.sizes.lock().unwrap().clone();
    assert_eq!(sizes.last(), Some(&10), "as large as ever");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_does_not_keep_other_runs_from_being_looked_after() {
    let mut place = Place::new(95);
    let moody = moody(&mut place);
    let message = place.planned().await;
    let newer = serde_json::json!({"schemaVersion": 99});
    let store = Arc::clone(&place.world.store);
    store::create(store.as_ref(), "contoso/active/0000.json", &newer).await.unwrap();
    moody.set(|op, path| {
        let is_history = op == "get" && path.ends_with("/history.json");
        is_history.then(|| Error::new(Kind::Newer, "read a state document"))
    });
    tokio::time::sleep(30 * MINUTE).await;
    assert_eq!(only(After::Go(place.care().await)), message);
    moody.set(|_, _| None);
    assert_eq!(runs::list(std::slice::from_ref(&place.books), 5).await.unwrap().runs.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_worker_from_before_does_not_end_what_was_resumed_meanwhile() {
    let place = Place::new(95);
    let message = place.planned().await;
    tokio::time::sleep(IDLE_MAX - MINUTE).await;
    // Its tries end two minutes later, one minute after the run was resumed.
    place.source.meet(|_, _| Some(unavailable()));
    let source = Arc::new(Slow(Arc::clone(&place.source)));
    let (store, clock) = (Arc::clone(&place.world.store), Arc::clone(&place.world.clock));
    let world = World::new(source, store, clock, Arc::new(Nobody));
    let slice = Slice::of(10 * MINUTE);
    let slow = step(&world, &place.job, &message, &slice);
    let resumed = async {
        tokio::time::sleep(MINUTE).await;
        drive::resume(&place.books, &message.run_id).await.unwrap();
    };
    let (slow, ()) = tokio::join!(slow, resumed);
    assert!(!matches!(slow.unwrap(), After::Failed(_)));
    assert_eq!(place.run(&message.run_id).await.status, Status::Running);
}

/// Two minutes a page.
struct Slow(Arc<Hosts>);

#[async_trait]
impl Source for Slow {
    async fn count(&self, query: &Query) -> Result<u64> {
        self.0.count(query).await
    }

    async fn page(&self, query: &Query, cursor: Option<&str>, size: u32) -> Result<Page> {
        tokio::time::sleep(2 * MINUTE).await;
        self.0.page(query, cursor, size).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_kill_between_the_plan_and_its_note_leaves_no_mark() {
    let mut place = Place::new(95);
    let moody = moody(&mut place);
    let id = place.open().await;
    moody.set(|op, path| (op == "put" && path.ends_with("/run.json")).then(unavailable));
    let plan = Message::plan("contoso", &id);
    let killed = place.step(&plan, 4 * MINUTE);
    tokio::time::timeout(Duration::from_secs(5), killed).await.unwrap_err();
    moody.set(|_, _| None);
    let look = async {
        tokio::time::sleep(Duration::from_secs(8)).await;
        runs::show(&place.books, &id).await.unwrap()
    };
    let (manifest, meanwhile) = tokio::join!(place.to_end(&id), look);
    manifest.unwrap();
    assert_eq!((meanwhile.status, meanwhile.progress.expected), (Status::Running, 95));
    let run = place.run(&id).await;
    assert_eq!((run.status, run.progress.expected), (Status::Complete, 95));
    assert_eq!((run.progress.shards_done, run.progress.shards_total), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_was_opened_by_a_clock_far_ahead_is_looked_after_all_the_same() {
    let place = Place::new(95);
    let mut opening = place.opening(Trigger::Http);
    opening.started_at = place.world.clock.now().plus(Duration::from_secs(365 * 24 * 60 * 60));
    open(&place.books, &opening).await.unwrap();
    tokio::time::sleep(25 * MINUTE).await;
    assert_eq!(place.care().await, [Message::plan("contoso", &opening.run_id)]);
    let manifest = place.to_end(&opening.run_id).await.unwrap();
    place.assert_whole(&manifest).await;
}

#[tokio::test(start_paused = true)]
async fn who_cancels_while_a_run_fails_has_it_cancelled() {
    let mut place = Place::new(95);
    let moody = moody(&mut place);
    let message = place.planned().await;
    place.source.meet(|_, _| Some(Error::new(Kind::Denied, "list assets")));
    // The failing worker has looked for cancel.json; then somebody cancels; then it notes its failure.
    let cancel = place.books.layout().cancel(&message.run_id);
    let n_looks = Arc::new(AtomicU64::new(0));
    let (n_seen, of) = (Arc::clone(&n_looks), cancel.clone());
    moody.set(move |op, path| {
        if op == "get" && path == of {
            n_seen.fetch_add(1, Ordering::SeqCst);
        }
        let is_note = op == "put" && path.ends_with("/run.json");
        (is_note && n_seen.load(Ordering::SeqCst) == 2).then(unavailable)
    });
    let failing = place.step(&message, 10 * MINUTE);
    let cancelling = async {
        while n_looks.load(Ordering::SeqCst) < 2 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let asked = serde_json::json!({"schemaVersion": 1, "requestedAt": "2026-11-22T06:00:00Z"});
        store::create(place.world.store.as_ref(), &cancel, &asked).await.unwrap();
        moody.set(|_, _| None);
    };
    let (after, ()) = tokio::join!(failing, cancelling);
    assert!(matches!(after, After::Ended), "{after:?}");
    let run = end::cancel(&place.books, &message.run_id).await.unwrap();
    assert_eq!(run.status, Status::Cancelled);
    let err = drive::resume(&place.books, &message.run_id).await.unwrap_err();
    assert_eq!(err.kind(), Kind::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn a_manifest_that_came_late_is_found_by_the_next_command() {
    let place = Place::new(95);
    let id = place.open().await;
    let manifest = place.to_end(&id).await.unwrap();
    let place = Place::new(95);
    let id = place.open().await;
    end::cancel(&place.books, &id).await.unwrap();
    let late = Manifest { run_id: id.clone(), files: Vec::new(), ..manifest };
    let path = place.books.layout().manifest(&id);
    store::create(place.world.store.as_ref(), &path, &late).await.unwrap();
    care::repair(&place.books).await;
    assert_eq!(place.run(&id).await.status, Status::Complete);
    let path = place.books.layout().latest();
    let latest = store::read::<Latest>(place.world.store.as_ref(), &path).await.unwrap().unwrap().0;
    assert_eq!(latest.run_id, id);
}
