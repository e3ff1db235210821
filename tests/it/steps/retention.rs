//! What retention deletes and what it keeps, by tables and by chance.

use std::collections::{BTreeMap, BTreeSet};

use easm_export::export::upkeep::{LOOK_EVERY, Retention, forget_keys, retain};
use easm_export::model::SCHEMA_VERSION;
use easm_export::model::active::{Active, Key};
use easm_export::model::history::{Entry, History};
use easm_export::model::layout;
use easm_export::model::manifest::{Completeness, FileEntry, Latest, Tool};
use easm_export::model::run::Status;
use easm_export::store;

use super::rig::{Rig, contents};
use super::*;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What there is of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Complete,
    Failed,
    Cancelled,
    Skipped,
    /// Said to be running, and not in `active/`.
    Forgotten,
    /// Parts without a run.json.
    Orphan,
    /// In `active/`.
    InWork,
}

/// A run as it lies in the store.
#[derive(Debug, Clone)]
struct Lain {
    id: RunId,
    shape: Shape,
    slot: Option<Timestamp>,
}

impl Place {
    fn ago(&self, age: Duration) -> Timestamp {
        let ms = self.world.clock.now().unix_ms() - i64::try_from(age.as_millis()).unwrap();
        Timestamp::from_unix_ms(ms).unwrap()
    }

    async fn put<T: serde::Serialize>(&self, path: &str, document: &T) {
        store::create(self.world.store.as_ref(), path, document).await.unwrap();
    }

    async fn put_part(&self, path: &str) {
        let mut part = self.world.store.begin(path, "application/x-ndjson").await.unwrap();
        part.write("{\"id\":1}\n".into()).await.unwrap();
        part.commit().await.unwrap();
    }

    /// Lays down a run that ended `days` ago, an hour after it began.
    async fn lay(&self, shape: Shape, days: u64, is_slot: bool) -> Lain {
        let ended = self.ago(DAY * u32::try_from(days).unwrap());
        let began = Timestamp::from_unix_ms(ended.unix_ms() - 3_600_000).unwrap();
        let slot = is_slot.then_some(began);
        let id = match slot {
            Some(slot) => RunId::of_slot("contoso", slot),
            None => RunId::new(began, fastrand::u32(..)),
        };
        let (layout, request) = (self.books.layout(), request());
        let status = match shape {
            Shape::Complete => Status::Complete,
            Shape::Failed => Status::Failed,
            Shape::Cancelled => Status::Cancelled,
            Shape::Skipped => Status::Skipped,
            Shape::Forgotten | Shape::Orphan | Shape::InWork => Status::Running,
        };
        let run = serde_json::json!({
            "schemaVersion": 1, "runId": id, "target": "contoso", "trigger": "http", "slot": slot,
            "request": request, "status": status, "startedAt": began, "updatedAt": ended,
            "finishedAt": status.is_ended().then_some(ended),
            "progress": {"expected": 0, "exported": 0, "shardsTotal": 0, "shardsDone": 0},
            "manifest": null, "error": null,
        });
        let run: RunDocument = serde_json::from_value(run).unwrap();
        if shape == Shape::InWork {
            let active = Active {
                schema_version: SCHEMA_VERSION,
                run_id: id.clone(),
                trigger: run.trigger,
                slot,
                started_at: began,
                request: Request { max_assets: Some(days), ..request.clone() },
                publishes: false,
                workspace: None,
                resumes: 0,
            };
            self.put(&layout.active(&active.request), &active).await;
        }
        if shape != Shape::Orphan {
            self.put(&layout.run(&id), &run).await;
        }
        if shape == Shape::Cancelled {
            let cancel = serde_json::json!({"schemaVersion": 1, "requestedAt": ended});
            self.put(&layout.cancel(&id), &cancel).await;
        }
        if shape != Shape::Skipped {
            let nothing = serde_json::json!({"schemaVersion": 1});
            self.put(&layout.plan(&id), &nothing).await;
            for shard in 0..2 {
                self.put(&layout.checkpoint(&id, shard), &nothing).await;
            }
            let mut files = Vec::new();
            for n in 0..3 {
                let path = format!(
                    "{}kind=host/part-0-1-{n:05}.ndjson",
                    layout.parts(&id, Dataset::Assets)
                );
                self.put_part(&path).await;
                files.push(FileEntry {
                    path,
                    dataset: Dataset::Assets,
                    kind: "host".to_owned(),
                    records: 1,
                    bytes: 9,
                    sha256: String::new(),
                });
            }
            if shape == Shape::Complete {
                let manifest = Manifest {
                    schema_version: SCHEMA_VERSION,
                    run_id: id.clone(),
                    target: "contoso".to_owned(),
                    trigger: run.trigger,
                    slot,
                    workspace: self.job.workspace.clone(),
                    request,
                    api_version: String::new(),
                    started_at: began,
                    finished_at: ended,
                    counts: BTreeMap::new(),
                    completeness: Completeness::Exact,
                    files,
                    tool: Tool::this(),
                };
                self.put(&layout.manifest(&id), &manifest).await;
            }
        }
        Lain { id, shape, slot }
    }

    async fn put_history(&self, lain: &[Lain]) {
        let mut history = History { schema_version: SCHEMA_VERSION, runs: Vec::new() };
        for lain in lain {
            if let Some(run) = self.books.run(&lain.id).await.unwrap()
                && run.status.is_ended()
            {
                history.put(Entry::of(&run, None));
            }
        }
        self.put(&self.books.layout().history(), &history).await;
    }

    async fn put_latest(&self, lain: &Lain) {
        let manifest = self.books.manifest(&lain.id).await.unwrap().unwrap();
        let latest = Latest {
            schema_version: SCHEMA_VERSION,
            run_id: lain.id.clone(),
            manifest: self.books.layout().manifest(&lain.id),
            started_at: manifest.started_at,
            finished_at: manifest.finished_at,
            completeness: manifest.completeness,
            assets: 0,
        };
        self.put(&self.books.layout().latest(), &latest).await;
    }

    /// Number of files of a run, and whether its run.json is one of them.
    async fn files_of(&self, id: &RunId) -> (usize, bool) {
        let paths = self.world.store.list("contoso/").await.unwrap();
        let of_run: Vec<_> =
            paths.iter().filter(|path| layout::run_of(path).as_ref() == Some(id)).collect();
        (of_run.len(), of_run.iter().any(|path| path.ends_with("/run.json")))
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Whole,
    /// Only run.json is left.
    Record,
    Gone,
}

async fn fate(place: &Place, lain: &Lain) -> Fate {
    let n_whole = match lain.shape {
        Shape::Complete | Shape::Cancelled => 8,
        Shape::Failed | Shape::Forgotten | Shape::InWork => 7,
        Shape::Orphan => 6,
        Shape::Skipped => 1,
    };
    match place.files_of(&lain.id).await {
        (0, _) => Fate::Gone,
        (1, true) if lain.shape == Shape::Skipped => {
            let run = place.run(&lain.id).await;
            if run.deleted_at.is_some() { Fate::Record } else { Fate::Whole }
        }
        (1, true) => Fate::Record,
        (n, _) if n == n_whole => Fate::Whole,
        (n, _) => panic!("{n} files are left of {lain:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn each_run_goes_in_its_time() {
    use Fate::{Gone, Record, Whole};
    use Shape::{Cancelled, Complete, Failed, Forgotten, InWork, Orphan, Skipped};
    let cases = [
        // Shape, days since its end, and what becomes of it when kept for 0, 1, 10 and 30 days.
        (Complete, 0, [Whole, Whole, Whole, Whole]),
        (Complete, 2, [Whole, Record, Whole, Whole]),
        (Complete, 9, [Whole, Gone, Whole, Whole]),
        (Complete, 11, [Whole, Gone, Gone, Whole]),
        (Complete, 31, [Whole, Gone, Gone, Gone]),
        (Failed, 0, [Whole, Whole, Whole, Whole]),
        (Failed, 3, [Whole, Record, Whole, Whole]),
        (Failed, 11, [Whole, Gone, Gone, Whole]),
        (Failed, 15, [Gone, Gone, Gone, Gone]),
        (Cancelled, 13, [Whole, Gone, Gone, Whole]),
        (Cancelled, 15, [Gone, Gone, Gone, Gone]),
        (Skipped, 15, [Gone, Gone, Gone, Gone]),
        (Forgotten, 13, [Whole, Gone, Gone, Whole]),
        (Forgotten, 15, [Gone, Gone, Gone, Gone]),
        (Orphan, 13, [Whole, Gone, Gone, Whole]),
        (Orphan, 15, [Gone, Gone, Gone, Gone]),
        (InWork, 100, [Whole, Whole, Whole, Whole]),
    ];
    for (shape, days, wants) in cases {
        for (retention_days, want) in [0, 1, 10, 30].into_iter().zip(wants) {
            let place = Place::new(0);
            let lain = place.lay(shape, days, false).await;
            // A newer one of each kind, which is the newest complete one and the newest slot.
            let newest = place.lay(Complete, 0, true).await;
            place.put_history(&[lain.clone(), newest.clone()]).await;
            retain(&place.books, Retention { days: retention_days }).await.unwrap();
            let case = format!("{shape:?} of {days} days, kept for {retention_days}");
            assert_eq!(fate(&place, &lain).await, want, "{case}");
            assert_eq!(fate(&place, &newest).await, Whole, "{case}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_latest_names_and_the_newest_complete_run_stay_however_old() {
    let place = Place::new(0);
    let latest = place.lay(Shape::Complete, 300, false).await;
    let between = place.lay(Shape::Complete, 200, false).await;
    let newest = place.lay(Shape::Complete, 100, false).await;
    place.put_latest(&latest).await;
    retain(&place.books, Retention { days: 1 }).await.unwrap();
    let fates = [&latest, &between, &newest].map(|lain| fate(&place, lain));
    let fates = futures::future::join_all(fates).await;
    assert_eq!(fates, [Fate::Whole, Fate::Gone, Fate::Whole]);
}

#[tokio::test(start_paused = true)]
async fn the_newest_slot_keeps_its_run_json_so_that_it_is_not_missed() {
    use easm_export::export::slots::missed;
    let place = Place::new(0);
    let older = place.lay(Shape::Failed, 40, true).await;
    let slot = place.lay(Shape::Failed, 20, true).await;
    place.lay(Shape::Complete, 10, false).await;
    place.put_history(&[older.clone(), slot.clone()]).await;
    let schedule = easm_export::schedule::Schedule::parse("0 0 5 2 * *").unwrap();
    assert_eq!(schedule.newest_occurrence(place.world.clock.now()), slot.slot);
    for _ in 0..3 {
        retain(&place.books, Retention { days: 0 }).await.unwrap();
        assert_eq!(fate(&place, &older).await, Fate::Gone);
        assert_eq!(fate(&place, &slot).await, Fate::Record);
        assert_eq!(missed(&place.books, &schedule, false).await.unwrap(), None);
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_look_is_taken_now_and_then_and_costs_one_request_otherwise() {
    let mut place = Place::new(0);
    let rig = Arc::new(Rig::new(&place.world.store));
    place.world.store = Arc::clone(&rig) as _;
    place.books = place.world.books(&place.job);
    retain(&place.books, Retention { days: 5 }).await.unwrap();
    let failed = place.lay(Shape::Failed, 20, false).await;
    let n_before = rig.n_requests();
    retain(&place.books, Retention { days: 5 }).await.unwrap();
    assert_eq!(rig.n_requests() - n_before, 1);
    assert_eq!(fate(&place, &failed).await, Fate::Whole);
    tokio::time::sleep(LOOK_EVERY).await;
    retain(&place.books, Retention { days: 5 }).await.unwrap();
    assert_eq!(fate(&place, &failed).await, Fate::Gone);
    // Another setting is looked at at once.
    place.lay(Shape::Complete, 1, false).await;
    let complete = place.lay(Shape::Complete, 20, false).await;
    retain(&place.books, Retention { days: 5 }).await.unwrap();
    assert_eq!(fate(&place, &complete).await, Fate::Whole);
    retain(&place.books, Retention { days: 6 }).await.unwrap();
    assert_eq!(fate(&place, &complete).await, Fate::Gone);
}

#[tokio::test(start_paused = true)]
async fn a_call_deletes_so_many_runs_and_the_next_one_goes_on() {
    let place = Place::new(0);
    let mut lain = Vec::new();
    for days in 0..50 {
        lain.push(place.lay(Shape::Failed, 20 + days, false).await);
    }
    for want in [30, 10, 0, 0] {
        retain(&place.books, Retention { days: 0 }).await.unwrap();
        let fates = futures::future::join_all(lain.iter().map(|lain| fate(&place, lain))).await;
        assert_eq!(fates.iter().filter(|fate| **fate == Fate::Whole).count(), want);
    }
    assert!(place.list("assets").await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn stray_parts_of_complete_runs_go_an_hour_after_their_end() {
    let place = Place::new(95);
    let id = place.open().await;
    let manifest = place.to_end(&id).await.unwrap();
    let stray = format!(
        "{}kind=host/part-7-7-00000.ndjson",
        place.books.layout().parts(&id, Dataset::Assets)
    );
    place.put_part(&stray).await;
    retain(&place.books, Retention { days: 0 }).await.unwrap();
    assert!(place.list("assets").await.contains(&stray), "a worker may still be at it");
    tokio::time::sleep(LOOK_EVERY).await;
    retain(&place.books, Retention { days: 0 }).await.unwrap();
    place.assert_whole(&manifest).await;
}

#[tokio::test(start_paused = true)]
async fn a_deleted_run_is_listed_no_more_and_cannot_be_resumed_or_published() {
    use easm_export::export::{end, runs};
    let place = Place::new(0);
    let failed = place.lay(Shape::Failed, 5, true).await;
    let complete = place.lay(Shape::Complete, 5, false).await;
    let newest = place.lay(Shape::Complete, 0, false).await;
    place.put_history(&[failed.clone(), complete.clone(), newest.clone()]).await;
    retain(&place.books, Retention { days: 2 }).await.unwrap();
    assert_eq!(fate(&place, &failed).await, Fate::Record);
    assert_eq!(fate(&place, &complete).await, Fate::Record);
    let listed = runs::list(std::slice::from_ref(&place.books), 2).await.unwrap().runs;
    let listed: Vec<_> = listed.iter().map(|run| run.run_id.clone()).collect();
    assert_eq!(listed, [newest.id]);
    let shown = runs::show(&place.books, &failed.id).await.unwrap();
    assert!(shown.deleted_at.is_some());
    for id in [&failed.id, &complete.id] {
        let resumed = drive::resume(&place.books, id).await.unwrap_err();
        assert_eq!(resumed.kind(), Kind::NotFound);
        let published = end::publish(&place.books, id).await.unwrap_err();
        assert_eq!(published.kind(), Kind::NotFound);
    }
    assert!(place.list("active").await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_a_newer_version_wrote_is_left_alone() {
    let newer = serde_json::json!({"schemaVersion": 99});
    for path in ["contoso/latest.json", "contoso/history.json", "contoso/active/0.json"] {
        let place = Place::new(0);
        let failed = place.lay(Shape::Failed, 20, false).await;
        place.put(path, &newer).await;
        let err = retain(&place.books, Retention { days: 0 }).await.unwrap_err();
        assert_eq!(err.kind(), Kind::Newer, "{path}");
        assert_eq!(fate(&place, &failed).await, Fate::Whole, "{path}");
    }
    let place = Place::new(0);
    let orphan = place.lay(Shape::Orphan, 30, false).await;
    place.put(&place.books.layout().run(&orphan.id), &newer).await;
    let failed = place.lay(Shape::Failed, 20, false).await;
    retain(&place.books, Retention { days: 0 }).await.unwrap();
    assert_eq!(place.files_of(&orphan.id).await, (7, true));
    assert_eq!(fate(&place, &failed).await, Fate::Gone, "the others are looked after");
}

#[tokio::test(start_paused = true)]
async fn idempotency_keys_go_a_day_after_they_stand_for_nothing() {
    let place = Place::new(0);
    let put = async |key: &str, days: u32| {
        let key_document = Key {
            schema_version: SCHEMA_VERSION,
            target: "contoso".to_owned(),
            run_id: RunId::new(place.world.clock.now(), 7),
            body_sha256: String::new(),
            used_at: place.ago(DAY * days),
        };
        place.put(&layout::key(key), &key_document).await;
    };
    for (key, days) in [("a", 0), ("b", 7), ("c", 8), ("d", 300)] {
        put(key, days).await;
    }
    let keys = async || place.world.store.list(layout::KEYS_ALL).await.unwrap();
    forget_keys(&place.books).await.unwrap();
    let left: BTreeSet<String> = keys().await.into_iter().collect();
    assert_eq!(left, BTreeSet::from([layout::key("a"), layout::key("b")]));
    // Each call looks at a thousand.
    for n in 0..2300 {
        put(&n.to_string(), 30).await;
    }
    tokio::time::sleep(LOOK_EVERY).await;
    for want in [1302, 302, 2, 2] {
        forget_keys(&place.books).await.unwrap();
        assert!(keys().await.len().abs_diff(want) <= 2, "{} and not {want}", keys().await.len());
    }
    assert_eq!(keys().await.len(), 2);
}

/// The store that `seed` gives, days to keep complete runs, and what lies there.
async fn by_chance(seed: u64) -> (Place, u32, Vec<Lain>) {
    let mut rng = fastrand::Rng::with_seed(seed);
    fastrand::seed(seed);
    let place = Place::new(0);
    let shapes = [
        Shape::Complete,
        Shape::Complete,
        Shape::Complete,
        Shape::Failed,
        Shape::Cancelled,
        Shape::Skipped,
        Shape::Forgotten,
        Shape::Orphan,
        Shape::InWork,
    ];
    let mut ages: Vec<u64> = (0..60).collect();
    rng.shuffle(&mut ages);
    let mut lain = Vec::new();
    for days in ages.into_iter().take(rng.usize(1..8)) {
        let shape = shapes[rng.usize(..shapes.len())];
        lain.push(place.lay(shape, days, rng.bool()).await);
    }
    let known: Vec<Lain> = lain.iter().filter(|_| rng.u8(..10) > 0).cloned().collect();
    place.put_history(&known).await;
    let complete: Vec<&Lain> = lain.iter().filter(|lain| lain.shape == Shape::Complete).collect();
    if !complete.is_empty() && rng.bool() {
        place.put_latest(complete[rng.usize(..complete.len())]).await;
    }
    (place, [0, 1, 7, 30][rng.usize(..4)], lain)
}

/// Repeat one case with `SEED=17`.
fn seeds() -> std::ops::Range<u64> {
    match std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => seed..seed + 1,
        None => 0..60,
    }
}

#[tokio::test(start_paused = true)]
async fn wherever_it_is_killed_no_reader_sees_half_a_run_and_the_next_look_ends_it() {
    for seed in seeds() {
        let (mut place, days, _) = by_chance(seed).await;
        let rig = Arc::new(Rig::new(&place.world.store));
        place.world.store = Arc::clone(&rig) as _;
        retain(&place.world.books(&place.job), Retention { days }).await.unwrap();
        assert_eq!(*rig.broken.lock().unwrap(), [""; 0], "SEED={seed}");
        let want = contents(rig.inner.as_ref()).await;
        for dies_at in 0..rig.n_effects() {
            let (mut place, days, lain) = by_chance(seed).await;
            let rig = Arc::new(Rig::dying_at(&place.world.store, dies_at));
            place.world.store = Arc::clone(&rig) as _;
            retain(&place.world.books(&place.job), Retention { days }).await.unwrap_err();
            assert_eq!(*rig.broken.lock().unwrap(), [""; 0], "SEED={seed}, {dies_at}: {lain:?}");
            retain(&place.books, Retention { days }).await.unwrap();
            let found = contents(rig.inner.as_ref()).await;
            let case = format!("SEED={seed} killed at {dies_at}, kept for {days}: {lain:?}");
            let paths = |contents: &BTreeMap<String, _>| contents.keys().cloned().collect();
            let (found_paths, want_paths): (Vec<_>, Vec<_>) = (paths(&found), paths(&want));
            assert_eq!(found_paths, want_paths, "{case}");
            assert!(found == want, "{case}");
        }
    }
}
