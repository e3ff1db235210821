//! How long one invocation may work: until its time is over, or somebody asks it to stop.

use std::time::Duration;

use tokio::sync::watch;

use crate::clock::Budget;

/// The time of one invocation. What is begun in it is saved before it is over, and handed on.
#[derive(Debug, Clone)]
pub struct Slice {
    budget: Option<Budget>,
    stop: watch::Receiver<bool>,
}

/// Ends a [`Slice`] early.
#[derive(Debug)]
pub struct Stop(watch::Sender<bool>);

impl Stop {
    /// Ends it.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Slice {
    /// A slice of `duration` from now.
    pub fn of(duration: Duration) -> Self {
        let (_, slice) = Self::endless();
        Self { budget: Some(Budget::of(duration)), ..slice }
    }

    /// A slice that lasts until it is stopped. Without its [`Stop`] it is never over.
    pub fn endless() -> (Stop, Self) {
        let (sender, stop) = watch::channel(false);
        (Stop(sender), Self { budget: None, stop })
    }

    /// Whether it is over.
    pub fn is_over(&self) -> bool {
        self.is_stopped() || self.budget.is_some_and(|budget| budget.left().is_zero())
    }

    /// Whether somebody stopped it.
    pub fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }

    /// What `work` gives. `None`: the slice was over first, and `work` was given up.
    pub async fn bound<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        if self.is_over() {
            return None;
        }
        let mut stop = self.stop.clone();
        let is_over = async {
            let stopped = async {
                if stop.wait_for(|is_stopped| *is_stopped).await.is_err() {
                    // Nobody is left who could stop it.
                    std::future::pending::<()>().await;
                }
            };
            match self.budget {
                // Which of the two it was makes no difference.
                Some(budget) => drop(tokio::time::timeout(budget.left(), stopped).await),
                None => stopped.await,
            }
        };
        tokio::select! {
            biased;
            outcome = work => Some(outcome),
            () = is_over => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_slice_ends_with_its_time_or_when_it_is_stopped() {
        let long = || tokio::time::sleep(Duration::from_secs(60));
        let slice = Slice::of(Duration::from_secs(10));
        assert_eq!(slice.bound(std::future::ready(7)).await, Some(7));
        assert!(slice.bound(long()).await.is_none() && slice.is_over());
        assert!(slice.bound(std::future::ready(7)).await.is_none(), "nothing new is begun");

        let (stop, slice) = Slice::endless();
        assert!(slice.bound(long()).await.is_some() && !slice.is_over());
        let stopper = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            stop.stop();
        };
        let (outcome, ()) = tokio::join!(slice.bound(long()), stopper);
        assert!(outcome.is_none() && slice.is_over());
    }
}
