//! That a world's things do what they are said to do.

use std::time::Duration;

use bytes::Bytes;
use easm_export::error::Kind;
use easm_export::export::source::{Cut, Query, Source};
use easm_export::model::asset::AssetKind;
use easm_export::model::plan::Within;
use easm_export::store::Store;

use super::check::ids_in;
use super::fate::Fate;
use super::profile::Profile;
use super::queue::Queue;
use super::source::SimSource;
use super::store::{File, SimStore};

fn is_unavailable(kind: Kind) -> bool {
    matches!(kind, Kind::Unavailable { .. })
}

/// A profile in which the faults of the store, the service and the queue are all there.
fn bad_profile() -> Profile {
    let mut profile = Profile::draw(&mut fastrand::Rng::with_seed(0));
    profile.store.before = 0.1;
    profile.store.after = 0.1;
    profile.store.later = 0.1;
    profile.queue.doubled = 0.3;
    profile.queue.late = 0.3;
    profile.queue.lost = 0.1;
    profile.source.doubled = 0.3;
    profile.source.left_out = 0.0;
    profile.source.cursor_loops = 0.0;
    profile.source.cursors_broken = false;
    profile.source.denied_from = None;
    profile.inventory.n_assets = 60;
    profile
}

#[tokio::test(start_paused = true)]
async fn one_of_two_writers_wins_whatever_answers_are_lost() {
    let fate = Fate::new(7);
    let store = SimStore::new(&fate, bad_profile().store);
    let mut seen = [0; 3];
    for n in 0..300 {
        let path = format!("contoso/other-{n}.json");
        let create = |who: &str| {
            let (store, path) = (store.of(who), path.clone());
            async move { store.create(&path, Bytes::from(store.name())).await }
        };
        let (one, two) = tokio::join!(create("one"), create("two"));
        assert!(one.is_err() || two.is_err(), "both won");
        for outcome in [one, two] {
            match outcome {
                Ok(_) => seen[0] += 1,
                Err(err) if err.kind() == Kind::Conflict => seen[1] += 1,
                Err(err) => {
                    assert!(is_unavailable(err.kind()), "{err}");
                    seen[2] += 1;
                }
            }
        }
    }
    assert!(seen.iter().all(|n| *n > 50), "{seen:?}");
    assert_eq!(fate.what_broke(), None);
}

#[tokio::test(start_paused = true)]
async fn a_part_that_is_replaced_is_noticed() {
    let fate = Fate::new(7);
    fate.calm_down();
    let store = SimStore::new(&fate, bad_profile().store);
    let path = "contoso/assets/date=2026-11-22/run=20261122T000000Z-00000000/kind=host/part-0-1-0";
    for content in ["{\"id\":\"a\",\"v\":1}\n", "{\"id\":\"b\",\"v\":1}\n"] {
        let mut part = store.begin(path, "").await.unwrap();
        part.write(Bytes::from(content)).await.unwrap();
        part.commit().await.unwrap();
        store.state().files.clear();
    }
    assert!(fate.what_broke().unwrap().contains("second content"));
}

#[tokio::test(start_paused = true)]
async fn an_inventory_is_read_whole_and_changes() {
    let fate = Fate::new(7);
    let mut profile = bad_profile();
    profile.inventory.change_every = Some(Duration::from_secs(60));
    let source = SimSource::new(&fate, profile.source, profile.inventory);
    let kinds = AssetKind::ALL.to_vec();
    let query =
        Query { filter: String::new(), cut: Cut::AnyOf(kinds.clone()), within: Within::default() };
    let changing = source.clone();
    let change = tokio::spawn(async move { changing.change().await });
    tokio::time::sleep(Duration::from_secs(3600)).await;
    fate.calm_down();
    change.await.unwrap();
    let begin = fate.age();
    let (mut ids, mut cursor, mut n_rows) = (std::collections::BTreeSet::new(), None, 0);
    loop {
        let page = source.page(&query, cursor.as_deref(), 7).await.unwrap();
        for asset in &page.assets {
            let record = std::str::from_utf8(&page.body[asset.span.clone()]).unwrap();
            let line = Bytes::from(format!("{record}\n"));
            let file = File::new(line, 0, Duration::ZERO);
            ids.extend(ids_in(&file).unwrap());
            n_rows += 1;
        }
        let Some(next) = page.next else { break };
        cursor = Some(next);
    }
    let truth = source.truth(&kinds, begin, fate.age());
    assert!(truth.is_still && truth.is_told_whole);
    assert_eq!(ids, truth.always);
    assert_eq!(n_rows, ids.len(), "nothing comes twice in calm");
    assert_eq!(source.count(&query).await.unwrap(), ids.len() as u64);
    let truth = source.truth(&kinds, Duration::ZERO, fate.age());
    assert!(!truth.is_still && truth.always.len() < truth.ever.len());
}

#[tokio::test(start_paused = true)]
async fn a_message_comes_at_least_once_unless_it_is_lost() {
    let fate = Fate::new(7);
    let queue = Queue::new(&fate, bad_profile().queue);
    for n in 0..100 {
        queue.put("test", n);
    }
    let (mut seen, mut n_deliveries) = ([0; 100], 0);
    let hour = Duration::from_secs(3600);
    while let Ok(delivery) = tokio::time::timeout(hour, queue.take()).await {
        seen[delivery.message] += 1;
        n_deliveries += 1;
        match n_deliveries % 3 {
            0 => queue.failed(&delivery),
            // Whoever took it died.
            1 => {}
            _ => queue.done(&delivery),
        }
    }
    assert!(queue.is_empty());
    let n_lost = seen.iter().filter(|n| **n == 0).count();
    assert!((1..30).contains(&n_lost) && n_deliveries > 150, "{n_lost} {n_deliveries}");
    assert!(queue.n_poison() < 40, "{}", queue.n_poison());
}
