//! How work goes on from step to step.

use easm_export::error::{Error, Kind};
use easm_export::export::step::{After, Do};
use easm_export::export::{drive, end};
use easm_export::model::manifest::Completeness;
use easm_export::model::run::Status;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_run_goes_from_message_to_message_until_it_is_complete() {
    let place = Place::new(95);
    let mut message = place.planned().await;
    assert_eq!(place.run(&message.run_id).await.status, Status::Running);
    let mut n_slices = 0;
    // Three pages a slice, a second each.
    while message.r#do == Do::Shard {
        n_slices += 1;
        message = only(place.step(&message, Duration::from_millis(3500)).await);
    }
    assert_eq!(n_slices, 4, "each slice goes on where the one before ended");
    assert_eq!(place.source.n_pages(), 10 + 3, "but for the page that was on its way");
    assert!(matches!(place.step(&message, MINUTE).await, After::Ended));
    let manifest = place.books.manifest(&message.run_id).await.unwrap().unwrap();
    assert_eq!(manifest.completeness, Completeness::Exact);
    place.assert_whole(&manifest).await;
    // Whatever comes again finds it complete.
    assert!(matches!(place.step(&message, MINUTE).await, After::Ended));
}

#[tokio::test(start_paused = true)]
async fn a_slice_that_is_too_short_for_a_page_makes_the_next_step_smaller() {
    let place = Place::new(30);
    let mut message = place.planned().await;
    for _ in 0..3 {
        let after = place.step(&message, Duration::from_millis(500)).await;
        assert!(matches!(after, After::PutOff { because: Some(_), .. }), "{after:?}");
        tokio::time::sleep(40 * MINUTE).await;
    }
    while message.r#do == Do::Shard {
        message = only(place.step(&message, MINUTE).await);
    }
    let sizes = place.source.sizes.lock().unwrap().clone();
    assert_eq!(sizes[..4], [10, 5, 2, 1], "halved each time: {sizes:?}");
    assert_eq!(sizes.last(), Some(&10), "and whole again once something came");
}

#[tokio::test(start_paused = true)]
async fn a_new_claim_ends_the_one_before() {
    let place = Place::new(500);
    let message = place.planned().await;
    let first = place.step(&message, 60 * MINUTE);
    let second = async {
        tokio::time::sleep(Duration::from_millis(10_500)).await;
        place.step(&message, 60 * MINUTE).await
    };
    let (first, second) = tokio::join!(first, second);
    assert!(matches!(first, After::Lost), "{first:?}");
    let commit = only(second);
    assert!(matches!(place.step(&commit, MINUTE).await, After::Ended));
    let manifest = place.books.manifest(&message.run_id).await.unwrap().unwrap();
    place.assert_whole(&manifest).await;
    assert!(manifest.files.iter().any(|file| file.path.contains("part-0-1-")));
    assert!(manifest.files.iter().any(|file| file.path.contains("part-0-2-")));
}

#[tokio::test(start_paused = true)]
async fn a_cursor_that_is_rejected_starts_its_range_again() {
    for kind in [Kind::BadRequest, Kind::NotFound, Kind::Endless] {
        let place = Place::new(95);
        place.source.meet(move |n, cursor| {
            let is_struck = n == 6 && cursor.is_some();
            is_struck.then(|| Error::new(kind, "list assets"))
        });
        let id = place.open().await;
        let manifest = place.to_end(&id).await.unwrap();
        assert_eq!(manifest.completeness, Completeness::Exact);
        place.assert_whole(&manifest).await;
        assert_eq!(place.source.n_pages(), 6 + 10, "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cursor_that_is_hours_old_is_not_used() {
    let place = Place::new(95);
    let message = place.planned().await;
    let message = only(place.step(&message, Duration::from_millis(3500)).await);
    tokio::time::sleep(Duration::from_secs(7 * 60 * 60)).await;
    place.source.meet(|n, cursor| {
        assert!(n != 5 || cursor.is_none(), "it starts again");
        None
    });
    let commit = only(place.step(&message, 10 * MINUTE).await);
    assert!(matches!(place.step(&commit, MINUTE).await, After::Ended));
    let manifest = place.books.manifest(&message.run_id).await.unwrap().unwrap();
    place.assert_whole(&manifest).await;
}

#[tokio::test(start_paused = true)]
async fn what_the_manifest_lists_stays_though_another_committer_had_it_read_again() {
    let place = Place::new(94);
    let message = place.planned().await;
    place.source.n_assets.store(93, Ordering::SeqCst);
    let commit = only(place.step(&message, 10 * MINUTE).await);
    // One asset is gone, counts the first committer, slowly.
    place.source.count_ms.store(60_000, Ordering::SeqCst);
    let first = place.step(&commit, 10 * MINUTE);
    let second = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        // It is back, counts the second: what came does not agree, so the range is read again.
        place.source.count_ms.store(0, Ordering::SeqCst);
        place.source.n_assets.store(94, Ordering::SeqCst);
        let again = only(place.step(&commit, 10 * MINUTE).await);
        assert_eq!(again.r#do, Do::Shard);
        let before = place.list("assets").await;
        let second = only(place.step(&again, 10 * MINUTE).await);
        assert_eq!(second.r#do, Do::Commit, "read again before the first has counted");
        let parts = place.list("assets").await;
        assert!(before.iter().all(|path| parts.contains(path)) && parts.len() > before.len());
        second
    };
    let (first, second) = tokio::join!(first, second);
    assert!(matches!(first, After::Ended), "{first:?}");
    assert!(matches!(place.step(&second, MINUTE).await, After::Ended));
    let manifest = place.books.manifest(&message.run_id).await.unwrap().unwrap();
    assert_eq!(manifest.completeness, Completeness::Changed);
    assert!(manifest.files.iter().all(|file| file.path.contains("part-0-1-")));
    place.source.n_assets.store(93, Ordering::SeqCst);
    place.assert_whole(&manifest).await;
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_cancelled_stops_at_its_next_part() {
    let place = Place::new(5000);
    let message = place.planned().await;
    let work = place.step(&message, 60 * MINUTE);
    let cancel = async {
        tokio::time::sleep(Duration::from_secs(20)).await;
        end::cancel(&place.books, &message.run_id).await.unwrap()
    };
    let (after, run) = tokio::join!(work, cancel);
    assert!(matches!(after, After::Lost), "{after:?}");
    assert_eq!(run.status, Status::Cancelled);
    assert!(place.source.n_pages() < 30, "it did not go on: {}", place.source.n_pages());
    assert!(matches!(place.step(&message, MINUTE).await, After::Ended));
    let err = drive::resume(&place.books, &message.run_id).await.unwrap_err();
    assert_eq!(err.kind(), Kind::Cancelled);
    assert!(place.list("active").await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_planning_that_does_not_fit_into_a_slice_goes_on_where_it_was() {
    assert!(slices_of_planning(Duration::ZERO).await >= 3);
}

#[tokio::test(start_paused = true)]
async fn a_page_that_never_comes_does_not_hold_up_planning() {
    slices_of_planning(60 * MINUTE).await;
}

/// Plans 1000 hosts in short slices. A sample of them takes so long. Gives how many slices it took.
async fn slices_of_planning(sample_takes: Duration) -> u32 {
    let mut place = Place::new(0);
    place.job.range_assets_max = 50;
    place.world = World::new(
        Arc::new(Dated { sample_takes }),
        Arc::clone(&place.world.store),
        Arc::clone(&place.world.clock),
        Arc::new(Nobody),
    );
    let id = place.open().await;
    let mut message = Message::plan("contoso", &id);
    let mut n_slices = 0;
    while message.r#do == Do::Plan {
        n_slices += 1;
        assert!(n_slices < 100, "planning never ends");
        match place.step(&message, Duration::from_millis(1500)).await {
            After::Go(mut messages) => message = messages.remove(0),
            After::PutOff { .. } => tokio::time::sleep(31 * MINUTE).await,
            other => panic!("{other:?}"),
        }
    }
    let plan = place.books.plan(&id).await.unwrap().unwrap();
    assert_eq!(plan.ranges().map(|range| range.expected).sum::<u64>(), Dated::N_ASSETS);
    assert!(plan.ranges().all(|range| range.expected <= 50));
    n_slices
}

/// Hosts created one a day, which can be counted by creation time, a second each.
struct Dated {
    sample_takes: Duration,
}

impl Dated {
    const N_ASSETS: u64 = 1000;
}

#[async_trait]
impl Source for Dated {
    async fn count(&self, query: &Query) -> Result<u64> {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let is_hosts = query.cut == Cut::One(KindCut::Only(AssetKind::Host));
        if !is_hosts && matches!(query.cut, Cut::One(_)) {
            return Ok(0);
        }
        let ms = |at: Option<Timestamp>, none: i64| at.map_or(none, Timestamp::unix_ms);
        let (from, before) =
            (ms(query.within.created_from, i64::MIN), ms(query.within.created_before, i64::MAX));
        let at = |n: u64| 1_600_000_000_000 + i64::try_from(n).unwrap() * 86_400_000;
        let within = (0..Self::N_ASSETS).filter(|n| (from..before).contains(&at(*n)));
        Ok(if query.within.is_undated { 0 } else { within.count() as u64 })
    }

    async fn page(&self, _query: &Query, _cursor: Option<&str>, _size: u32) -> Result<Page> {
        unreachable!("planning only counts and samples")
    }

    async fn sample(&self, _query: &Query, _size: u32) -> Result<Vec<Sampled>> {
        tokio::time::sleep(self.sample_takes).await;
        Ok(Vec::new())
    }
}
