//! Somebody wants a run, resumes it, commits it or publishes it, while retention deletes it: at each of
//! its effects, and dying at each of theirs.

use easm_export::export::step::Do;
use easm_export::export::upkeep::{LOOK_EVERY, Retention, retain};
use easm_export::export::{end, runs};
use easm_export::model::checkpoint::Checkpoint;
use easm_export::model::manifest::Latest;
use easm_export::model::run::Status;
use easm_export::store;

use super::rig::{Rig, contents};
use super::*;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// More than either side has.
const EFFECTS_MAX: usize = 60;

const KEPT: Retention = Retention { days: 15 };

/// What somebody wants of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Resume,
    Commit,
    Publish,
}

impl Place {
    /// The same target, reached through `rig`.
    fn through(&self, rig: &Arc<Rig>) -> Self {
        let store = Arc::clone(rig) as _;
        let world = World::new(
            Arc::clone(&self.source) as _,
            store,
            Arc::clone(&self.world.clock),
            Arc::new(Nobody),
        );
        let (source, job) = (Arc::clone(&self.source), self.job.clone());
        let books = world.books(&job);
        Self { source, world, job, books }
    }

    async fn retain(&self) -> Result<()> {
        retain(&self.books, KEPT).await
    }

    /// Old enough to go: for publishing a complete run beside a newer one, else one that failed when all
    /// it lacked was its commit.
    async fn with_old_run(wish: Wish) -> (Self, RunId) {
        let place = Self::new(40);
        let message = place.planned().await;
        let commit = only(place.step(&message, 10 * MINUTE).await);
        match wish {
            Wish::Publish => drop(place.step(&commit, MINUTE).await),
            Wish::Resume | Wish::Commit => {
                // The service refuses to count.
                place.source.refuses_counts.store(true, Ordering::SeqCst);
                let after = place.step(&commit, MINUTE).await;
                assert!(matches!(after, After::Failed(_)), "{after:?}");
                place.source.refuses_counts.store(false, Ordering::SeqCst);
            }
        }
        tokio::time::sleep(DAY).await;
        if wish == Wish::Publish {
            let newer = place.open().await;
            place.to_end(&newer).await.unwrap();
            // It names neither of them.
            let latest = place.books.layout().latest();
            place.world.store.delete(&latest).await.unwrap();
        }
        tokio::time::sleep(19 * DAY).await;
        (place, message.run_id)
    }

    /// Does what `wish` says. Whether it worked.
    async fn fulfil(&self, wish: Wish, id: &RunId) -> Result<()> {
        if wish == Wish::Publish {
            return end::publish(&self.books, id).await.map(drop);
        }
        drive::resume(&self.books, id).await?;
        if wish == Wish::Commit {
            let plan = Message::plan("contoso", id);
            let commit = Message { r#do: Do::Commit, ..plan };
            step(&self.world, &self.job, &commit, &Slice::of(MINUTE)).await?;
        }
        Ok(())
    }

    /// Fails unless nothing is left of the run, or everything is there that makes it worth having.
    async fn assert_all_or_nothing(&self, id: &RunId, case: &str) {
        let layout = self.books.layout();
        let documents = self.world.store.list(&layout.documents(id)).await.unwrap();
        let parts = self.world.store.list(&layout.parts(id, Dataset::Assets)).await.unwrap();
        let run = self.books.run(id).await.unwrap();
        let Some(run) = run.filter(|run| run.deleted_at.is_none()) else {
            assert!(parts.is_empty(), "{case}: {parts:?}");
            assert!(documents.len() <= 1, "{case}: {documents:?}");
            let listed = runs::list(std::slice::from_ref(&self.books), 10).await.unwrap().runs;
            assert!(listed.iter().all(|run| run.run_id != *id), "{case}: it is listed");
            assert!(self.list("active").await.is_empty(), "{case}");
            return;
        };
        if let Some(manifest) = self.books.manifest(id).await.unwrap() {
            assert_eq!(run.status, Status::Complete, "{case}");
            assert_eq!(manifest.files.len(), parts.len(), "{case}");
            return;
        }
        assert!(self.books.plan(id).await.unwrap().is_some(), "{case}: {documents:?}");
        let path = layout.checkpoint(id, 0);
        let checkpoint = store::read::<Checkpoint>(self.world.store.as_ref(), &path).await.unwrap();
        let (checkpoint, _) = checkpoint.expect(case);
        let counted = checkpoint.ranges.iter().flat_map(|range| &range.parts);
        for file in counted {
            assert!(parts.contains(&file.path), "{case}: {} is gone", file.path);
        }
    }

    async fn latest(&self) -> Option<RunId> {
        let path = self.books.layout().latest();
        let latest = store::read::<Latest>(self.world.store.as_ref(), &path).await.unwrap();
        latest.map(|(latest, _)| latest.run_id)
    }
}

/// Who is interrupted by the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Interrupted {
    Retention,
    Wish,
}

/// Has one side interrupt the other before its effect `at`, and the one that interrupts die at its effect
/// `dies_at`. Gives whether the wish was fulfilled, whether they met, and whether one of them died.
async fn meet(
    interrupted: Interrupted,
    wish: Wish,
    at: usize,
    dies_at: usize,
) -> (bool, bool, bool) {
    let case = format!("{wish:?}: {interrupted:?} before effect {at} by one dying at {dies_at}");
    let (place, id) = Place::with_old_run(wish).await;
    let inner = Arc::clone(&place.world.store);
    let dying = Arc::new(Rig::dying_at(&inner, dies_at));
    let other = place.through(&dying);
    let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
    let wished = id.clone();
    let interlude = async move {
        let done = match interrupted {
            Interrupted::Retention => other.fulfil(wish, &wished).await,
            Interrupted::Wish => other.retain().await,
        };
        sender.send(done).await.unwrap();
    };
    let ours = Arc::new(Rig::interrupted(&inner, at, interlude));
    let place_of_ours = place.through(&ours);
    let done = match interrupted {
        Interrupted::Retention => place_of_ours.retain().await,
        Interrupted::Wish => place_of_ours.fulfil(wish, &id).await,
    };
    let Ok(of_other) = receiver.try_recv() else { return (false, false, false) };
    let (retained, done) = match interrupted {
        Interrupted::Retention => (done, of_other),
        Interrupted::Wish => (of_other, done),
    };
    let is_dead = dying.n_effects() >= dies_at;
    assert!(retained.is_ok() || is_dead, "{case}: {retained:?}");
    assert_eq!(*ours.broken.lock().unwrap(), [""; 0], "{case}");
    let is_done = done.is_ok();
    if let Err(err) = &done
        && !is_dead
    {
        assert_eq!(err.kind(), Kind::NotFound, "{case}: {err}");
    }
    if let Some(run) = place.books.run(&id).await.unwrap() {
        assert!(run.deleted_at.is_none() || run.status.is_ended(), "{case}: it goes on");
    }
    if is_done && wish == Wish::Resume {
        place.to_end(&id).await.expect(&case);
    }
    // Maintenance goes on.
    for _ in 0..3 {
        place.care().await;
        place.retain().await.unwrap();
        tokio::time::sleep(LOOK_EVERY).await;
    }
    place.assert_all_or_nothing(&id, &case).await;
    if is_done {
        let run = place.books.run(&id).await.unwrap().expect(&case);
        assert_eq!(run.deleted_at, None, "{case}: it was said to be had");
        match wish {
            Wish::Publish => assert_eq!(place.latest().await, Some(id), "{case}"),
            Wish::Commit | Wish::Resume => assert_eq!(run.status, Status::Complete, "{case}"),
        }
    } else if place.latest().await.as_ref() == Some(&id) {
        assert!(place.books.manifest(&id).await.unwrap().is_some(), "{case}");
    }
    (is_done, true, is_dead)
}

#[tokio::test(start_paused = true)]
async fn whoever_wants_a_run_that_is_deleted_gets_all_of_it_or_is_told_that_it_is_gone() {
    for interrupted in [Interrupted::Retention, Interrupted::Wish] {
        for wish in [Wish::Resume, Wish::Commit, Wish::Publish] {
            let (n_had, n_refused) = meet_everywhere(interrupted, wish).await;
            let case = format!("{wish:?}: {interrupted:?} is interrupted");
            assert!(n_had > 0 && n_refused > 0, "{case}: had {n_had}, refused {n_refused}");
        }
    }
}

/// How often the wish was fulfilled, and how often refused.
async fn meet_everywhere(interrupted: Interrupted, wish: Wish) -> (u32, u32) {
    let (mut n_had, mut n_refused) = (0, 0);
    for at in 0..EFFECTS_MAX {
        let mut was_met = false;
        // First without dying.
        for dies_at in std::iter::once(usize::MAX).chain(0..EFFECTS_MAX) {
            let (is_had, is_met, is_dead) = meet(interrupted, wish, at, dies_at).await;
            was_met |= is_met;
            n_had += u32::from(is_had);
            n_refused += u32::from(is_met && !is_had && !is_dead);
            if dies_at != usize::MAX && !is_dead {
                break;
            }
        }
        if !was_met {
            break;
        }
    }
    (n_had, n_refused)
}

#[tokio::test(start_paused = true)]
async fn a_message_that_comes_late_finds_that_the_run_is_gone() {
    let (place, id) = Place::with_old_run(Wish::Commit).await;
    place.retain().await.unwrap();
    let before = contents(place.world.store.as_ref()).await;
    for what in [Do::Plan, Do::Shard, Do::Commit] {
        let message = Message { r#do: what, shard: Some(0), ..Message::plan("contoso", &id) };
        let after = place.step(&message, MINUTE).await;
        assert!(matches!(after, After::Ended), "{what:?}: {after:?}");
    }
    assert!(contents(place.world.store.as_ref()).await == before);
}
