//! How long a secret is kept, who reads it, and what is said of it.

use std::sync::atomic::Ordering;

use super::fake::{Hand, Shelf, Version, place};
use super::*;

const DAY_S: i64 = 24 * 3600;

struct World {
    shelf: Arc<Shelf>,
    clock: Arc<Hand>,
    secret: Arc<VaultSecret>,
}

impl World {
    /// A vault that has `value`.
    fn new(value: &str) -> Self {
        let (shelf, clock) = (Arc::new(Shelf::default()), Arc::new(Hand::default()));
        shelf.put(value);
        let secret = shelf.secret(&clock);
        Self { shelf, clock, secret }
    }

    async fn current(&self) -> Arc<Held> {
        self.secret.current().await.expect("a secret")
    }

    #[track_caller]
    fn expect_read(&self, n_read: u32) {
        assert_eq!(self.shelf.n_read(), n_read, "readings");
    }
}

fn value(held: &Held) -> &str {
    held.value().expose()
}

#[tokio::test(start_paused = true)]
async fn a_secret_is_read_by_one_at_a_time_and_whoever_waits_shares_what_comes_of_it() {
    for is_there in [true, false] {
        let world = World::new("value-1");
        if !is_there {
            world.shelf.fail();
        }
        world.shelf.pause_s.store(5, Ordering::SeqCst);
        let asking = (0..16).map(|_| world.secret.current());
        let answers = futures::future::join_all(asking).await;
        assert!(answers.iter().all(|answer| answer.is_ok() == is_there));
        world.expect_read(1);
        // Who comes later has not waited for that.
        assert_eq!(world.secret.current().await.is_ok(), is_there);
        world.expect_read(if is_there { 1 } else { 2 });
        assert_eq!(world.shelf.n_at_once_max.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_secret_is_dropped_a_quarter_of_an_hour_after_its_reading_began_though_nobody_asks() {
    let world = World::new("value-1");
    world.shelf.pause_s.store(20, Ordering::SeqCst);
    let begun = Instant::now();
    let held = Arc::downgrade(&world.current().await);
    tokio::time::sleep_until(begun + KEPT_MAX - Duration::from_secs(1)).await;
    assert!(held.upgrade().is_some(), "still kept");
    world.current().await;
    world.expect_read(1);
    tokio::time::sleep_until(begun + KEPT_MAX + Duration::from_millis(10)).await;
    assert!(held.upgrade().is_none(), "nobody has it any more");
    world.current().await;
    world.expect_read(2);
}

#[tokio::test(start_paused = true)]
async fn what_was_read_later_is_kept_for_its_own_time_and_what_was_dropped_stays_dropped() {
    let world = World::new("value-1");
    let first = world.current().await;
    tokio::time::sleep(KEPT_MAX - Duration::from_secs(60)).await;
    let second = world.secret.look_again(&first).await.expect("a secret");
    tokio::time::sleep(Duration::from_secs(120)).await;
    // The first one's time is over; who still has it gives it to nobody.
    assert!(Arc::ptr_eq(&world.current().await, &second));
    tokio::time::sleep(KEPT_MAX).await;
    let third = world.current().await;
    assert!(!Arc::ptr_eq(&third, &first) && !Arc::ptr_eq(&third, &second));
    world.expect_read(3);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_answered_by_one_reading_for_all_who_met_it() {
    for now_there in ["value-1", "value-2"] {
        let world = World::new("value-1");
        let refused = world.current().await;
        world.shelf.put(now_there);
        world.shelf.pause_s.store(5, Ordering::SeqCst);
        let looking = (0..16).map(|n| {
            let (secret, refused) = (&world.secret, &refused);
            async move {
                // Some come while it is read, some afterwards.
                tokio::time::sleep(Duration::from_secs(n)).await;
                secret.look_again(refused).await.expect("a secret")
            }
        });
        let found = futures::future::join_all(looking).await;
        assert!(found.iter().all(|held| value(held) == now_there));
        world.expect_read(2);
        // Refused once more, by whoever came later.
        world.secret.look_again(&found[0]).await.expect("a secret");
        world.expect_read(3);
        assert_eq!(world.shelf.n_at_once_max.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_to_look_again_is_shared_and_drops_nothing() {
    let world = World::new("value-1");
    let held = world.current().await;
    world.shelf.fail();
    world.shelf.pause_s.store(5, Ordering::SeqCst);
    let looking = (0..16).map(|_| world.secret.look_again(&held));
    assert!(futures::future::join_all(looking).await.iter().all(Result::is_err));
    world.expect_read(2);
    assert!(Arc::ptr_eq(&world.current().await, &held), "it goes on serving");
    world.expect_read(2);
}

/// Whoever replaces a secret puts the new one into the vault, and then takes the old one away from the
/// app registration: what was read before the refusal may be the old one.
#[tokio::test(start_paused = true)]
async fn a_reading_that_began_before_the_refusal_does_not_answer_it() {
    let world = World::new("value-1");
    let refused = world.current().await;
    tokio::time::sleep(KEPT_MAX).await;
    world.shelf.pause_s.store(5, Ordering::SeqCst);
    let other = async {
        let held = world.current().await;
        assert_eq!(value(&held), "value-1");
    };
    let refusal = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.shelf.put("value-2");
        let held = world.secret.look_again(&refused).await.expect("a secret");
        assert_eq!(value(&held), "value-2");
    };
    tokio::join!(other, refusal);
    world.expect_read(3);
}

#[tokio::test(start_paused = true)]
async fn whoever_gives_up_waiting_leaves_the_turn_to_the_next() {
    let world = World::new("value-1");
    world.shelf.pause_s.store(5, Ordering::SeqCst);
    let hasty = tokio::time::timeout(Duration::from_secs(1), world.secret.current());
    let (hasty, patient) = tokio::join!(hasty, world.secret.current());
    assert!(hasty.is_err() && patient.is_ok());
    world.expect_read(2);
    assert_eq!(world.shelf.n_at_once_max.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_is_not_meant_for_today_is_refused_with_the_day() {
    let check = async |value: &str, begins_s, ends_s, want: Option<(Kind, &str)>| {
        let world = World::new("");
        world.clock.0.store(1000 * DAY_S, Ordering::SeqCst);
        let value = value.to_owned();
        let version = Version { value, begins_s, ends_s, ..Version::default() };
        world.shelf.put_version(version);
        match (world.secret.current().await, want) {
            (Ok(held), None) => assert_eq!(held.value().expose(), "value-1"),
            (Err(err), Some((kind, part))) => {
                let text = err.to_string();
                assert!(err.kind() == kind && text.contains(part), "{text}");
                assert!(text.contains("vault=v.vault.azure.net, name=n-1"), "{text}");
            }
            (found, _) => panic!("{begins_s:?} {ends_s:?}: {:?}", found.err()),
        }
        world.expect_read(1);
    };
    let (expired, missing) = (Kind::SecretExpired, Kind::SecretMissing);
    let now = 1000 * DAY_S;
    check("value-1", None, None, None).await;
    check(" value-1\r\n", Some(now), Some(now + 1), None).await;
    check("value-1", None, Some(now), Some((expired, "expired on 1972-09-27"))).await;
    check("value-1", None, Some(now - 1), Some((expired, "expired on 1972-09-26"))).await;
    check("value-1", Some(now + 1), None, Some((expired, "not to be used before 1972-09-27")))
        .await;
    check("", None, None, Some((missing, "is empty"))).await;
    check(" \n", None, None, Some((missing, "is empty"))).await;
}

#[test]
fn a_secret_that_ends_within_thirty_days_is_warned_of_once_a_day_and_version() {
    let world = World::new("");
    let warning = |now_s: i64, id: &str, ends_s: i64| {
        let at = |at_s: i64| Timestamp::from_unix_ms(at_s * 1000).expect("near the epoch");
        let found = Found {
            value: Secret::new("value-1".to_owned()),
            version: id.to_owned(),
            made_at: None,
            begins_at: None,
            ends_at: Some(at(ends_s)),
        };
        world.secret.warning(&found, at(now_s))
    };
    let now = 1000 * DAY_S;
    assert_eq!(warning(now, "a", now + 30 * DAY_S + 1), None);
    let words = warning(now, "a", now + 30 * DAY_S).expect("a warning");
    assert!(words.contains("n-1 in Key Vault v.vault.azure.net expires on 1972-10-27"), "{words}");
    assert_eq!(warning(now + 900, "a", now + 30 * DAY_S), None, "the same day");
    assert!(warning(now + 900, "b", now + 29 * DAY_S).is_some(), "another version");
    assert_eq!(warning(now + 1800, "b", now + 29 * DAY_S), None);
    assert!(warning(now + DAY_S, "b", now + 29 * DAY_S).is_some(), "another day");
}

#[tokio::test(start_paused = true)]
async fn a_version_of_the_last_ten_minutes_is_young_by_whoevers_clock() {
    for (made_s, is_young) in [
        (Some(10_000), true),
        (Some(10_000 - 599), true),
        (Some(10_000 - 600), false),
        (Some(10_000 + 599), true),
        (Some(10_000 + 600), false),
        (None, false),
    ] {
        let world = World::new("");
        world.clock.0.store(10_000, Ordering::SeqCst);
        let value = "value-1".to_owned();
        world.shelf.put_version(Version { value, made_s, ..Version::default() });
        assert_eq!(world.secret.is_young(&*world.current().await), is_young, "{made_s:?}");
    }
}

#[test]
fn a_process_has_each_secret_once() {
    let vaults = Vaults::default();
    let secret = |url: &str, name: &str| {
        let url = Url::parse(url).expect("a URL");
        let make = || {
            let reader = Box::new(Nobody);
            Ok(VaultSecret::read_by(reader, place(), Arc::new(Hand::default())))
        };
        vaults.secret(&url, name, make).expect("made")
    };
    let first = secret("https://a.vault.azure.net", "n-1");
    assert!(Arc::ptr_eq(&first, &secret("https://A.vault.azure.net/", "N-1")));
    assert!(!Arc::ptr_eq(&first, &secret("https://a.vault.azure.net", "n-2")));
    assert!(!Arc::ptr_eq(&first, &secret("https://b.vault.azure.net", "n-1")));
}

struct Nobody;

#[async_trait]
impl Read for Nobody {
    async fn read(&self) -> Result<Found> {
        Err(place().error(Kind::Internal, "nobody reads"))
    }
}
