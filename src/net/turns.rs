//! Who may send a request now.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The requests that a process may have in work at once. Whoever has waited longest is next.
#[derive(Debug, Clone)]
pub struct Turns {
    /// For whoever comes first.
    common: Arc<Semaphore>,
    /// For one request each of those who share the turns: so one whose requests hang does not keep the
    /// others waiting.
    reserve: Arc<Semaphore>,
    /// As many as this user may have, so that it leaves the reserve to others.
    own: Arc<Semaphore>,
    /// Whether this user has one of the reserve.
    own_of_reserve: Arc<Semaphore>,
    own_max: usize,
}

/// The right to have one request in work, until it is dropped.
#[derive(Debug)]
pub struct Turn {
    _permits: (OwnedSemaphorePermit, OwnedSemaphorePermit, Option<OwnedSemaphorePermit>),
}

impl Turns {
    /// At most `concurrency` requests at once, of one user and its clones.
    pub fn new(concurrency: usize) -> Self {
        Self::with(concurrency, 0)
    }

    /// At most `concurrency` requests at once, of several users that [`Turns::share`]. None of them takes
    /// the last quarter if it has turns already.
    pub fn of_several(concurrency: usize) -> Self {
        let reserve = concurrency.div_ceil(4).min(concurrency.saturating_sub(1));
        Self::with(concurrency - reserve, reserve)
    }

    fn with(common: usize, reserve: usize) -> Self {
        let permits = |n_permits| Arc::new(Semaphore::new(n_permits));
        Self {
            common: permits(common),
            reserve: permits(reserve),
            own: permits(common),
            own_of_reserve: permits(1),
            own_max: common,
        }
    }

    /// The same turns, for another user.
    #[must_use]
    pub fn share(&self) -> Self {
        let [own, own_of_reserve] =
            [self.own_max, 1].map(|n_permits| Arc::new(Semaphore::new(n_permits)));
        Self { own, own_of_reserve, ..self.clone() }
    }

    /// Waits for a turn.
    pub async fn next(&self) -> Turn {
        let own = acquired(&self.own).await;
        let of_reserve = async {
            let own = acquired(&self.own_of_reserve).await;
            (acquired(&self.reserve).await, own)
        };
        let (turn, of_reserve) = tokio::select! {
            biased;
            turn = acquired(&self.common) => (turn, None),
            (turn, own) = of_reserve => (turn, Some(own)),
        };
        Turn { _permits: (own, turn, of_reserve) }
    }
}

async fn acquired(semaphore: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    Arc::clone(semaphore).acquire_owned().await.expect("the semaphore is never closed")
}

#[cfg(test)]
mod tests {
    use futures::future::FutureExt;

    use super::*;

    /// As many turns as are to be had at once.
    fn all(turns: &Turns) -> Vec<Turn> {
        std::iter::from_fn(|| turns.next().now_or_never()).collect()
    }

    #[test]
    fn one_user_has_all_turns() {
        for concurrency in [1, 2, 8] {
            let turns = Turns::new(concurrency);
            let held = all(&turns);
            assert_eq!(held.len(), concurrency);
            drop(held);
            assert_eq!(all(&turns.clone()).len(), concurrency, "they come back");
        }
    }

    #[test]
    fn of_several_none_takes_all_and_there_are_never_more() {
        let check = |concurrency: usize, want: &[usize]| {
            let turns = Turns::of_several(concurrency);
            let users: Vec<Turns> = want.iter().map(|_| turns.share()).collect();
            let held: Vec<Vec<Turn>> = users.iter().map(all).collect();
            let found: Vec<usize> = held.iter().map(Vec::len).collect();
            assert_eq!(found, want, "{concurrency}");
            assert!(found.iter().sum::<usize>() <= concurrency);
        };
        check(8, &[6, 1, 1, 0]);
        check(4, &[3, 1, 0]);
        check(3, &[2, 1, 0]);
        check(2, &[1, 1, 0]);
        check(1, &[1, 0]);
    }

    #[tokio::test]
    async fn whoever_waits_is_next_when_a_turn_of_its_own_comes_back() {
        let turns = Turns::of_several(4);
        let (ill, well) = (turns.share(), turns.share());
        let hangs = all(&ill);
        let first = well.next().await;
        let second = well.next();
        tokio::pin!(second);
        assert!(second.as_mut().now_or_never().is_none(), "it waits");
        drop(first);
        second.await;
        drop(hangs);
    }
}
