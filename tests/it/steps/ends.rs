//! How a run waits, is given up, is taken up again, and is looked after.

use easm_export::export::step::{Do, PAUSE_MAX};
use easm_export::export::{drive, end, runs};
use easm_export::model::manifest::{Completeness, Latest};
use easm_export::model::run::Status;
use easm_export::store;

use super::rig::Rig;
use super::*;

#[tokio::test(start_paused = true)]
async fn an_outage_puts_the_run_off_with_growing_pauses_and_then_it_goes_on_by_itself() {
    let place = Place::new(95);
    let begun = Instant::now();
    place.source.meet(move |_, _| {
        let is_out = (30..5400).contains(&begun.elapsed().as_secs());
        is_out.then(unavailable)
    });
    let id = place.open().await;
    tokio::time::sleep(Duration::from_secs(27)).await;
    let manifest = place.to_end(&id).await.unwrap();
    assert_eq!(manifest.completeness, Completeness::Exact);
    place.assert_whole(&manifest).await;
    // 1, 2, 4, 8, 16, 30, 30 minutes: eight requests for an hour and a half.
    let asked = place.source.n_pages();
    assert!(asked <= 10 + 8, "{asked}");
    assert!(begun.elapsed() < Duration::from_secs(5400) + PAUSE_MAX + MINUTE);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_done_for_a_run_that_is_put_off_until_it_is_due() {
    let place = Place::new(95);
    let message = place.planned().await;
    place.source.meet(|_, _| Some(unavailable()));
    let check = async |minutes: u64| {
        let After::PutOff { until, because: Some(_) } = place.step(&message, MINUTE).await else {
            panic!("put off")
        };
        let now = place.world.clock.now();
        assert_eq!(until.since(now), MINUTE * u32::try_from(minutes).unwrap());
        let asked = place.source.n_pages();
        let again = place.step(&message, MINUTE).await;
        assert!(matches!(again, After::PutOff { because: None, .. }), "{again:?}");
        assert_eq!(place.source.n_pages(), asked);
        assert!(place.care().await.is_empty());
        tokio::time::sleep(until.since(place.world.clock.now())).await;
        assert_eq!(only(After::Go(place.care().await)), message, "due");
        assert!(place.care().await.is_empty(), "given out once");
    };
    for minutes in [1, 2, 4, 8, 16, 30, 30] {
        check(minutes).await;
    }
    // What comes through starts the pauses anew.
    let asked = place.source.n_pages();
    place.source.meet(move |n, _| (n > asked + 4).then(unavailable));
    check(1).await;
    check(2).await;
}

#[tokio::test(start_paused = true)]
async fn the_service_may_ask_for_a_longer_pause() {
    let place = Place::new(95);
    let message = place.planned().await;
    for (asked_s, want_s) in [(30, 60), (600, 600), (36_000, 1800)] {
        let retry_after = Some(Duration::from_secs(asked_s));
        place.source.meet(move |_, _| Some(Error::new(Kind::Throttled { retry_after }, "list")));
        let After::PutOff { until, .. } = place.step(&message, MINUTE).await else {
            panic!("put off")
        };
        assert_eq!(until.since(place.world.clock.now()).as_secs(), want_s, "{asked_s}");
        tokio::time::sleep(31 * MINUTE).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_waits_and_saves_nothing_is_given_up_in_the_end() {
    let place = Place::new(95);
    let begun = Instant::now();
    place.source.meet(|_, cursor| (cursor == Some("40")).then(unavailable));
    let id = place.open().await;
    let err = place.to_end(&id).await.unwrap_err();
    assert_eq!(err.kind(), Kind::Deadline, "{err}");
    assert!((IDLE_MAX..IDLE_MAX + 40 * MINUTE).contains(&begun.elapsed()));
    let run = place.run(&id).await;
    assert_eq!((run.status, run.error.unwrap().code.as_str()), (Status::Failed, "deadline"));
    assert!(place.list("active").await.is_empty());

    // Resumed, it has all that time again, and what was read still counts.
    place.source.meet(|n, cursor| {
        assert!(n < 2 || cursor.is_some(), "what was read is not read again");
        None
    });
    drive::resume(&place.books, &id).await.unwrap();
    let manifest = place.to_end(&id).await.unwrap();
    place.assert_whole(&manifest).await;
    let runs = runs::list(std::slice::from_ref(&place.books), 10).await.unwrap().runs;
    assert_eq!(runs.iter().map(|run| run.status).collect::<Vec<_>>(), [Status::Complete]);
}

#[tokio::test(start_paused = true)]
async fn a_cursor_that_never_works_fails_the_run_after_five_tries_over_a_quarter_of_an_hour() {
    let place = Place::new(95);
    let begun = Instant::now();
    place.source.meet(|_, cursor| {
        (cursor == Some("40")).then(|| Error::new(Kind::BadRequest, "list assets"))
    });
    let id = place.open().await;
    let err = place.to_end(&id).await.unwrap_err();
    assert_eq!(err.kind(), Kind::ShardStuck, "{err}");
    assert!((15 * MINUTE..35 * MINUTE).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    assert_eq!(place.run(&id).await.error.unwrap().code, "shard_stuck");
    // Resumed, it has five tries again.
    let asked = place.source.n_pages();
    drive::resume(&place.books, &id).await.unwrap();
    let err = place.to_end(&id).await.unwrap_err();
    assert_eq!(err.kind(), Kind::ShardStuck, "{err}");
    assert!(place.source.n_pages() > asked + 20, "{} {asked}", place.source.n_pages());
}

#[tokio::test(start_paused = true)]
async fn take_ups_that_come_to_nothing_count_and_being_put_off_does_not() {
    let place = Place::new(95);
    let message = place.planned().await;
    // Killed before anything is saved, for an hour: five times are enough.
    for n_kill in 0..5 {
        let killed = place.step(&message, 10 * MINUTE);
        tokio::time::timeout(Duration::from_millis(1500), killed).await.unwrap_err();
        tokio::time::sleep(5 * MINUTE).await;
        assert!(!place.run(&message.run_id).await.status.is_ended(), "{n_kill}");
    }
    let after = place.step(&message, 10 * MINUTE).await;
    let After::Failed(err) = after else { panic!("{after:?}") };
    assert_eq!(err.kind(), Kind::ShardStuck);

    let place = Place::new(95);
    let message = place.planned().await;
    for _ in 0..10 {
        place.source.meet(|_, _| Some(unavailable()));
        place.step(&message, 10 * MINUTE).await;
        tokio::time::sleep(31 * MINUTE).await;
    }
    place.source.meet(|_, _| None);
    let commit = only(place.step(&message, 10 * MINUTE).await);
    assert_eq!(commit.r#do, Do::Commit);
}

#[tokio::test(start_paused = true)]
async fn what_will_not_pass_fails_the_run_at_once() {
    let kinds = [
        (Kind::BadRequest, "bad_request"),
        (Kind::Denied, "denied"),
        (Kind::NotFound, "not_found"),
        (Kind::Unauthorized, "unauthorized"),
        (Kind::Redirected, "redirected"),
        (Kind::Untrusted, "untrusted"),
        (Kind::SecretMissing, "secret_missing"),
        (Kind::SecretDisabled, "secret_disabled"),
        (Kind::SecretExpired, "secret_expired"),
        (Kind::VaultDenied, "vault_denied"),
        (Kind::VaultFirewall, "vault_firewall"),
        (Kind::Config, "settings"),
    ];
    for (kind, code) in kinds {
        let place = Place::new(95);
        let message = place.planned().await;
        place.source.meet(move |_, _| Some(Error::new(kind, "list assets")));
        let after = place.step(&message, MINUTE).await;
        assert!(matches!(&after, After::Failed(err) if err.kind() == kind), "{after:?}");
        let run = place.run(&message.run_id).await;
        assert_eq!((run.status, run.error.unwrap().code.as_str()), (Status::Failed, code));
        assert!(place.list("active").await.is_empty());
        assert!(matches!(place.step(&message, MINUTE).await, After::Ended), "said once");
    }
}

#[tokio::test(start_paused = true)]
async fn work_that_stalled_is_given_out_again_later_and_later() {
    let place = Place::new(95);
    let message = place.planned().await;
    let begun = Instant::now();
    let mut at_minutes = Vec::new();
    while begun.elapsed() < 11 * 60 * MINUTE {
        tokio::time::sleep(5 * MINUTE).await;
        let messages = place.care().await;
        if !messages.is_empty() {
            assert_eq!(only(After::Go(messages)), message);
            at_minutes.push(begun.elapsed().as_secs() / 60);
        }
    }
    assert_eq!(at_minutes, [20, 60, 140, 300, 620]);
    // Something came of it: it is soon looked after again.
    only(place.step(&message, Duration::from_millis(3500)).await);
    tokio::time::sleep(21 * MINUTE).await;
    assert_eq!(place.care().await.len(), 1);
    // Nothing came for half a day.
    tokio::time::sleep(IDLE_MAX).await;
    assert!(place.care().await.is_empty());
    assert_eq!(place.run(&message.run_id).await.error.unwrap().code, "deadline");
}

#[tokio::test(start_paused = true)]
async fn maintenance_brings_to_its_end_what_ended_half() {
    // Cancelled, but nobody noted it.
    let place = Place::new(95);
    let message = place.planned().await;
    let path = place.books.layout().cancel(&message.run_id);
    let cancel = serde_json::json!({"schemaVersion": 1, "requestedAt": "2026-11-22T06:00:00Z"});
    store::create(place.world.store.as_ref(), &path, &cancel).await.unwrap();
    assert!(place.care().await.is_empty());
    assert_eq!(place.run(&message.run_id).await.status, Status::Cancelled);
    assert!(place.list("active").await.is_empty());

    // Opened, but without a run.json and a plan.
    let place = Place::new(95);
    let id = place.open().await;
    place.world.store.delete(&place.books.layout().run(&id)).await.unwrap();
    tokio::time::sleep(5 * MINUTE).await;
    assert!(place.care().await.is_empty());
    assert_eq!(place.run(&id).await.status, Status::Queued, "as active says");
    tokio::time::sleep(20 * MINUTE).await;
    assert_eq!(place.care().await, [Message::plan("contoso", &id)]);

    // Failed, while a committer was on its way who then died.
    let place = Place::new(95);
    let id = place.open().await;
    let manifest = place.to_end(&id).await.unwrap();
    let place = Place::new(95);
    let other = place.open().await;
    place.source.meet(|_, _| Some(Error::new(Kind::Denied, "list assets")));
    place.to_end(&other).await.unwrap_err();
    let late = Manifest { run_id: other.clone(), files: Vec::new(), ..manifest };
    let path = place.books.layout().manifest(&other);
    store::create(place.world.store.as_ref(), &path, &late).await.unwrap();
    place.care().await;
    assert_eq!(place.run(&other).await.status, Status::Complete, "manifest beats failed");
    let path = place.books.layout().latest();
    let latest = store::read::<Latest>(place.world.store.as_ref(), &path);
    assert_eq!(latest.await.unwrap().unwrap().0.run_id, other);
    assert!(end::cancel(&place.books, &other).await.unwrap().status == Status::Complete);
}

/// It stands in two places while it ends, and goes from one to the other.
#[tokio::test(start_paused = true)]
async fn a_run_that_ends_while_runs_are_listed_is_listed() {
    for at in 0..6 {
        let place = Arc::new(Place::new(95));
        let shard = place.planned().await;
        let commit = only(place.step(&shard, 4 * MINUTE).await);
        assert_eq!(commit.r#do, Do::Commit);
        let ending = Arc::clone(&place);
        let message = commit.clone();
        let end = async move {
            assert!(matches!(ending.step(&message, MINUTE).await, After::Ended));
        };
        let store = Arc::new(Rig::seen_by(&place.world.store, at, end));
        let books = Books::new(store, Arc::clone(&place.world.clock), "contoso");
        let listed = runs::list(std::slice::from_ref(&books), 10).await.unwrap().runs;
        let ids: Vec<&RunId> = listed.iter().map(|run| &run.run_id).collect();
        assert_eq!(ids, [&commit.run_id], "it ended before look {at}");
    }
}
