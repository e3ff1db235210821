//! How runs are opened: one for a slot, one for equal requests, one for an idempotency key.

use easm_export::export::open::{Keyed, open_by_key};
use easm_export::model::run::Status;

use super::*;

fn slot(at: &str) -> Opening {
    let at = Timestamp::parse(at).unwrap();
    Opening {
        run_id: RunId::new(at, 0x0510_7000),
        request: request(),
        trigger: Trigger::Timer,
        slot: Some(at),
        started_at: at,
        publishes: true,
        workspace: None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_slot_is_exported_once_whatever_the_host_repeats() {
    let place = Place::new(15);
    let opening = slot("2026-11-22T06:00:00Z");
    let id = opening.run_id.clone();
    for _ in 0..3 {
        assert_eq!(open(&place.books, &opening).await.unwrap(), Opened::Ours(id.clone()));
    }
    place.to_end(&id).await.unwrap();
    let again = open(&place.books, &opening).await.unwrap();
    assert!(matches!(again, Opened::Ended(run) if run.status == Status::Complete));
    assert!(place.list("active").await.is_empty());
    assert_eq!(place.source.n_pages(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_slot_that_finds_an_equal_request_in_work_is_skipped_and_the_next_starts_afresh() {
    let place = Place::new(15);
    let by = place.open().await;
    let opening = slot("2026-11-22T06:00:00Z");
    for _ in 0..2 {
        match open(&place.books, &opening).await.unwrap() {
            Opened::Skipped { by: other } => assert_eq!(other, by),
            Opened::Ended(run) => assert_eq!(run.status, Status::Skipped, "said again"),
            other => panic!("{other:?}"),
        }
    }
    let run = place.run(&opening.run_id).await;
    assert_eq!(run.status, Status::Skipped);
    assert!(run.error.unwrap().message.as_str().contains(by.as_str()), "it names who was in work");
    place.to_end(&by).await.unwrap();
    let again = open(&place.books, &opening).await.unwrap();
    assert!(matches!(again, Opened::Ended(run) if run.status == Status::Skipped));
    let next = slot("2026-11-23T06:00:00Z");
    assert_eq!(open(&place.books, &next).await.unwrap(), Opened::Ours(next.run_id));
}

#[tokio::test(start_paused = true)]
async fn equal_requests_join_and_others_run_side_by_side() {
    let place = Place::new(15);
    let id = place.open().await;
    let joined = open(&place.books, &place.opening(Trigger::Http)).await.unwrap();
    assert_eq!(joined, Opened::Joined(id.clone()));
    let mut other = place.opening(Trigger::Http);
    other.request.kinds.truncate(4);
    assert_eq!(open(&place.books, &other).await.unwrap(), Opened::Ours(other.run_id.clone()));
    assert_eq!(place.list("active").await.len(), 2);
    place.to_end(&id).await.unwrap();
    let next = place.opening(Trigger::Http);
    assert_eq!(open(&place.books, &next).await.unwrap(), Opened::Ours(next.run_id));
}

#[tokio::test(start_paused = true)]
async fn an_idempotency_key_gives_the_same_run_for_seven_days() {
    let place = Place::new(15);
    let keyed = async |key: &str, body: &str| {
        let opening = place.opening(Trigger::Http);
        open_by_key(&place.books, key, body.as_bytes(), &opening).await.unwrap()
    };
    let first = keyed("k1", "{}").await;
    let Keyed::Run { run_id, target } = first.clone() else { panic!("{first:?}") };
    assert_eq!(target, "contoso");
    assert_eq!(keyed("k1", "{}").await, first, "while it is in work");
    assert_eq!(keyed("k1", "{ }").await, Keyed::OtherBody);
    // Another key joins, and from then on stands for the run it joined.
    assert_eq!(keyed("k2", "{}").await, first);
    place.to_end(&run_id).await.unwrap();
    for key in ["k1", "k2"] {
        assert_eq!(keyed(key, "{}").await, first, "when it ended");
    }
    tokio::time::sleep(Duration::from_secs(6 * 24 * 60 * 60)).await;
    assert_eq!(keyed("k1", "{}").await, first);
    tokio::time::sleep(Duration::from_secs(2 * 24 * 60 * 60)).await;
    let later = keyed("k1", "{\"other\":1}").await;
    assert!(matches!(&later, Keyed::Run { run_id: other, .. } if *other != run_id), "{later:?}");
}

/// The inventory of the workspace `name`.
fn inventory(name: &str) -> Inventory {
    Inventory { workspace: name.to_owned(), ..Inventory::default() }
}

/// A target's name that is given to another workspace: neither inventory gets into the other's export, no slot
/// is lost, and an instance with the settings of before ends nothing.
#[tokio::test(start_paused = true)]
async fn a_run_is_carried_on_for_its_own_workspace_only_and_the_next_one_takes_its_place() {
    let mut place = Place::new(95);
    place.job.inventory = inventory("contoso");
    let mut new = place.job.clone();
    new.inventory = inventory("fabrikam");
    let old = place.opening(Trigger::Http).of(inventory("contoso"));
    let Opened::Ours(id) = open(&place.books, &old).await.unwrap() else { panic!("it is new") };
    let plan = Message::plan("contoso", &id);
    let slice = Slice::of(4 * MINUTE);
    // It waits, whatever is to be done, and says why.
    let after = step(&place.world, &new, &plan, &slice).await.unwrap();
    assert!(matches!(after, After::PutOff { .. }), "{after:?}");
    let run = place.run(&id).await;
    assert!(!run.status.is_ended() && run.waits_for.unwrap().message.as_str().contains("contoso"));
    assert_eq!(place.source.n_pages(), 0);
    // It goes on where its own settings are.
    tokio::time::sleep(2 * MINUTE).await;
    let message = only(place.step(&only(After::Go(place.care().await)), 4 * MINUTE).await);
    tokio::time::sleep(2 * MINUTE).await;
    assert!(matches!(
        step(&place.world, &new, &message, &slice).await.unwrap(),
        After::PutOff { .. }
    ));
    // A run of the other workspace takes its place, and the slot is exported.
    let at = Timestamp::parse("2026-11-22T06:00:00Z").unwrap();
    let slot = Opening::for_slot("contoso", request(), at, place.world.clock.now(), true);
    let slot = slot.of(inventory("fabrikam"));
    let Opened::Ours(next) = open(&place.books, &slot).await.unwrap() else { panic!("it is new") };
    let run = place.run(&id).await;
    assert_eq!((run.status, run.error.unwrap().code), (Status::Failed, "settings".to_owned()));
    let manifest = drive::to_end(&place.world, &new, &next, std::future::pending()).await.unwrap();
    assert_eq!(manifest.run_id, next);
    place.assert_whole(&manifest).await;
}
