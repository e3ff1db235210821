//! Who may send a request now.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a request may be without a sign of life before another has its turn: several times what the
/// slowest page takes to begin.
const LENT_AFTER: Duration = Duration::from_secs(5);

/// The requests that a process may have in work at once. Whoever has waited longest is next. Those that hang
/// do not count, so that one service, or several, that do not answer keep no other target waiting for long.
#[derive(Debug, Clone)]
pub struct Turns {
    all: Arc<Semaphore>,
    /// Those of one user, also while others have its turns: so it never has more requests in work than there
    /// are turns.
    own: Arc<Semaphore>,
    concurrency: usize,
}

/// The right to have one request in work, until it is dropped.
#[derive(Debug)]
pub struct Turn {
    all: Arc<Semaphore>,
    permit: Option<OwnedSemaphorePermit>,
    _own: OwnedSemaphorePermit,
}

impl Turns {
    /// At most `concurrency` requests at once, of one user and its clones, and of those it is
    /// [shared](Turns::share) with.
    pub fn new(concurrency: usize) -> Self {
        let [all, own] = [0; 2].map(|_| Arc::new(Semaphore::new(concurrency)));
        Self { all, own, concurrency }
    }

    /// The same turns, for another user.
    #[must_use]
    pub fn share(&self) -> Self {
        Self { own: Arc::new(Semaphore::new(self.concurrency)), ..self.clone() }
    }

    /// Waits for a turn. Nobody has one for longer than [`LENT_AFTER`] and the time that reading an answer
    /// takes.
    pub async fn next(&self) -> Turn {
        let own = acquired(&self.own).await;
        Turn { permit: Some(acquired(&self.all).await), all: Arc::clone(&self.all), _own: own }
    }
}

impl Turn {
    /// Waits for `answer`, of which nothing is there yet. After [`LENT_AFTER`] others have the turn; what the
    /// answer holds is read when it is back.
    pub async fn lent_while<T>(&mut self, answer: impl Future<Output = T>) -> T {
        tokio::pin!(answer);
        if let Ok(answer) = tokio::time::timeout(LENT_AFTER, &mut answer).await {
            return answer;
        }
        self.permit = None;
        let answer = answer.await;
        self.permit = Some(acquired(&self.all).await);
        answer
    }
}

async fn acquired(semaphore: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    Arc::clone(semaphore).acquire_owned().await.expect("the semaphore is never closed")
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use futures::future::FutureExt;
    use tokio::task::JoinSet;

    use super::*;

    /// As many turns as are to be had at once.
    fn all(turns: &Turns) -> Vec<Turn> {
        std::iter::from_fn(|| turns.next().now_or_never()).collect()
    }

    #[test]
    fn there_are_never_more_turns_whoever_has_them() {
        for concurrency in [1, 2, 8] {
            let turns = Turns::new(concurrency);
            let held = all(&turns);
            assert_eq!(held.len(), concurrency);
            assert_eq!(all(&turns.share()).len(), 0);
            drop(held);
            assert_eq!(all(&turns.share()).len(), concurrency, "they come back");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn services_that_hang_keep_no_other_waiting_for_long() {
        let turns = Turns::new(2);
        let mut hang = JoinSet::new();
        for _ in 0..20 {
            let ill = turns.share();
            // As many as it may: behind its two no more are sent.
            for _ in 0..4 {
                let ill = ill.clone();
                hang.spawn(async move { ill.next().await.lent_while(pending::<()>()).await });
            }
        }
        tokio::task::yield_now().await;
        let well = turns.share();
        let began_at = tokio::time::Instant::now();
        for _ in 0..3 {
            well.next().await.lent_while(async {}).await;
        }
        // Forty have had their turn, two at a time, and wait for their answers now.
        assert_eq!(began_at.elapsed(), LENT_AFTER * 20);
        assert_eq!(all(&well).len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_read_in_turn_even_if_it_came_late() {
        let turns = Turns::new(1);
        let mut late = turns.next().await;
        let lent = late.lent_while(tokio::time::sleep(LENT_AFTER * 2));
        tokio::pin!(lent);
        let other = tokio::select! {
            () = &mut lent => panic!("it comes late"),
            other = async { turns.share().next().await } => other,
        };
        tokio::time::sleep(LENT_AFTER * 2).await;
        assert!(lent.as_mut().now_or_never().is_none(), "another has the turn");
        drop(other);
        lent.await;
        assert_eq!(all(&turns.share()).len(), 0);
    }
}
