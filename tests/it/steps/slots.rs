//! Which slots count as missed.

use easm_export::export::slots::{MISSED_KEPT_MAX, missed};
use easm_export::model::run::Status;
use easm_export::model::upkeep::ScheduleNote;
use easm_export::schedule::Schedule;
use easm_export::store;

use super::rig::Rig;
use super::*;

const HOUR: Duration = Duration::from_secs(60 * 60);

impl Place {
    async fn missed(&self, schedule: &str) -> Option<String> {
        let schedule = Schedule::parse(schedule).unwrap();
        missed(&self.books, &schedule, false).await.unwrap().map(|slot| slot.to_string())
    }

    async fn schedule_note(&self) -> ScheduleNote {
        let path = self.books.layout().schedule();
        store::read(self.world.store.as_ref(), &path).await.unwrap().unwrap().0
    }

    async fn open_slot(&self, slot: &str) -> Opened {
        let (slot, now) = (Timestamp::parse(slot).unwrap(), self.world.clock.now());
        let opening = Opening::for_slot("contoso", request(), slot, now, true);
        open(&self.books, &opening).await.unwrap()
    }
}

// The clock begins at 2026-11-22T06:00:00Z.

#[tokio::test(start_paused = true)]
async fn a_slot_is_missed_when_it_is_a_quarter_of_an_hour_old_and_has_no_run() {
    let place = Place::new(15);
    assert_eq!(place.missed("0 0 6 * * *").await, None, "the timer may still open it");
    tokio::time::sleep(15 * MINUTE - Duration::from_secs(1)).await;
    assert_eq!(place.missed("0 0 6 * * *").await, None);
    tokio::time::sleep(Duration::from_secs(1)).await;
    for _ in 0..2 {
        let slot = place.missed("0 0 6 * * *").await;
        assert_eq!(slot.as_deref(), Some("2026-11-22T06:00:00Z"), "until it is opened");
    }
    let Opened::Ours(id) = place.open_slot("2026-11-22T06:00:00Z").await else { panic!() };
    assert_eq!(place.missed("0 0 6 * * *").await, None);
    place.to_end(&id).await.unwrap();
    assert_eq!(place.missed("0 0 6 * * *").await, None, "whatever became of it");
    let started_at = place.run(&id).await.started_at;
    assert_eq!(started_at.to_string(), "2026-11-22T06:15:00Z", "it starts when it is opened");
}

#[tokio::test(start_paused = true)]
async fn a_target_that_missed_nothing_costs_two_requests() {
    let mut place = Place::new(15);
    let rig = Arc::new(Rig::new(&place.world.store));
    place.world.store = Arc::clone(&rig) as _;
    place.books = place.world.books(&place.job);
    let slot = place.missed("0 0 5 * * *").await.unwrap();
    place.open_slot(&slot).await;
    for (minutes, want) in [(0, 2), (5, 2), (22 * 60, 2)] {
        tokio::time::sleep(minutes * MINUTE).await;
        let n_before = rig.n_requests();
        assert_eq!(place.missed("0 0 5 * * *").await, None);
        assert_eq!(rig.n_requests() - n_before, want, "after {minutes} minutes");
    }
    // A new one that is not old enough is not looked for.
    tokio::time::sleep(60 * MINUTE).await;
    let n_before = rig.n_requests();
    assert_eq!(place.missed("0 0 5 * * *").await, None);
    assert_eq!(rig.n_requests() - n_before, 1);
}

#[tokio::test(start_paused = true)]
async fn a_slot_that_was_skipped_is_not_missed() {
    let place = Place::new(15);
    place.open().await;
    tokio::time::sleep(15 * MINUTE).await;
    assert!(place.missed("0 0 6 * * *").await.is_some());
    assert!(matches!(place.open_slot("2026-11-22T06:00:00Z").await, Opened::Skipped { .. }));
    let id = RunId::of_slot("contoso", Timestamp::parse("2026-11-22T06:00:00Z").unwrap());
    assert_eq!(place.run(&id).await.status, Status::Skipped);
    assert_eq!(place.missed("0 0 6 * * *").await, None);
}

#[tokio::test(start_paused = true)]
async fn slots_before_the_day_the_schedule_was_set_are_not_missed() {
    let place = Place::new(15);
    for (schedule, want) in [
        ("0 0 5 * * *", Some("2026-11-22T05:00:00Z")),
        ("0 0 0 * * *", Some("2026-11-22T00:00:00Z")),
        ("0 59 23 * * *", None),
        ("0 0 0 1 * *", None),
        ("00:30:00", None),
        ("0 */10 * * * *", None),
    ] {
        assert_eq!(place.missed(schedule).await.as_deref(), want, "{schedule}");
        let note = place.schedule_note().await;
        assert_eq!((note.schedule.as_str(), note.since), (schedule, place.world.clock.now()));
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_schedule_was_before_counts_no_more() {
    let place = Place::new(15);
    assert!(place.missed("0 0 5 * * *").await.is_some());
    tokio::time::sleep(30 * HOUR).await;
    // It is noon, and was exported at five until now.
    assert_eq!(place.missed("0 0 18 * * *").await, None, "that of yesterday was none of its");
    assert_eq!(place.schedule_note().await.since.to_string(), "2026-11-23T12:00:00Z");
    tokio::time::sleep(7 * HOUR).await;
    assert_eq!(place.missed("0 0 18 * * *").await.as_deref(), Some("2026-11-23T18:00:00Z"));
}

#[tokio::test(start_paused = true)]
async fn of_several_missed_slots_the_newest_is_opened_and_the_others_are_noted_once() {
    let place = Place::new(15);
    let slot = place.missed("0 0 5 * * *").await.unwrap();
    place.open_slot(&slot).await;
    // The host is down from now on, but for one slot that somebody opens.
    tokio::time::sleep(72 * HOUR).await;
    place.open_slot("2026-11-24T05:00:00Z").await;
    tokio::time::sleep(24 * HOUR).await;
    let missed = |days: &[u32]| -> Vec<String> {
        days.iter().map(|day| format!("2026-11-{day}T05:00:00Z")).collect()
    };
    for _ in 0..3 {
        let newest = place.missed("0 0 5 * * *").await;
        assert_eq!(newest.as_deref(), Some("2026-11-26T05:00:00Z"));
        let noted: Vec<_> =
            place.schedule_note().await.missed.iter().map(Timestamp::to_string).collect();
        assert_eq!(noted, missed(&[23, 25]));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_noted_of_missed_slots_has_a_limit() {
    let place = Place::new(15);
    for n in 0..10 {
        place.missed("0 30 * * * *").await;
        let n_noted = place.schedule_note().await.missed.len();
        assert_eq!(n_noted, (n * 20).min(MISSED_KEPT_MAX), "twenty at once");
        tokio::time::sleep(200 * HOUR).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_timer_that_is_switched_off_misses_nothing() {
    let place = Place::new(15);
    let schedule = Schedule::parse("0 0 5 * * *").unwrap();
    for _ in 0..4 {
        assert_eq!(missed(&place.books, &schedule, true).await.unwrap(), None);
        tokio::time::sleep(24 * HOUR).await;
    }
    // Switched on again: what it missed itself.
    let newest = place.missed("0 0 5 * * *").await;
    assert_eq!(newest.as_deref(), Some("2026-11-26T05:00:00Z"));
    assert!(place.schedule_note().await.missed.is_empty());
}
