//! A vault of a test's own, and a clock that is set by hand.

use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;

use super::{Found, Place, Read, VaultSecret};
use crate::clock::{Clock, Timestamp};
use crate::error::{Kind, Result};
use crate::secret::Secret;

/// A clock that is set by hand, in seconds.
#[derive(Default)]
pub struct Hand(pub AtomicI64);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        let at_s = self.0.load(Ordering::SeqCst);
        Timestamp::from_unix_ms(at_s * 1000).expect("near the epoch")
    }
}

/// What lies in the vault now. Times are in seconds.
#[derive(Clone, Default)]
pub struct Version {
    pub value: String,
    pub id: String,
    pub made_s: Option<i64>,
    pub begins_s: Option<i64>,
    pub ends_s: Option<i64>,
}

/// A vault with one secret.
#[derive(Default)]
pub struct Shelf {
    /// What lies there, or the failure of whoever reads it.
    version: Mutex<Option<Version>>,
    /// How long reading takes.
    pub pause_s: AtomicU64,
    pub n_read: AtomicU32,
    n_at_once: AtomicU32,
    pub n_at_once_max: AtomicU32,
}

impl Shelf {
    fn version(&self) -> MutexGuard<'_, Option<Version>> {
        self.version.lock().expect("not poisoned")
    }

    /// From now on there is `value`, in a version of that id, made long ago.
    pub fn put(&self, value: &str) {
        *self.version() =
            Some(Version { value: value.into(), id: value.into(), ..Version::default() });
    }

    /// From now on there is `version`.
    pub fn put_version(&self, version: Version) {
        *self.version() = Some(version);
    }

    /// From now on nobody can read it.
    pub fn fail(&self) {
        *self.version() = None;
    }

    pub fn n_read(&self) -> u32 {
        self.n_read.load(Ordering::SeqCst)
    }

    /// The secret, shared.
    pub fn secret(self: &Arc<Self>, clock: &Arc<Hand>) -> Arc<VaultSecret> {
        let reader = Box::new(Reader(Arc::clone(self)));
        Arc::new(VaultSecret::read_by(reader, place(), Arc::clone(clock) as _))
    }
}

pub fn place() -> Place {
    Place { vault: "v.vault.azure.net".to_owned(), name: "n-1".to_owned() }
}

struct Reader(Arc<Shelf>);

/// Counts who is there, until dropped.
struct There<'a>(&'a Shelf);

impl Drop for There<'_> {
    fn drop(&mut self) {
        self.0.n_at_once.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Read for Reader {
    /// What lay there when the reading began.
    async fn read(&self) -> Result<Found> {
        let shelf = &self.0;
        shelf.n_read.fetch_add(1, Ordering::SeqCst);
        let n_at_once = shelf.n_at_once.fetch_add(1, Ordering::SeqCst) + 1;
        let _there = There(shelf);
        shelf.n_at_once_max.fetch_max(n_at_once, Ordering::SeqCst);
        let version = shelf.version().clone();
        tokio::time::sleep(Duration::from_secs(shelf.pause_s.load(Ordering::SeqCst))).await;
        let Some(version) = version else {
            return Err(place().error(Kind::Unavailable { retry_after: None }, "nobody at home"));
        };
        let at = |at_s: Option<i64>| at_s.and_then(|at_s| Timestamp::from_unix_ms(at_s * 1000));
        Ok(Found {
            value: Secret::new(version.value),
            version: version.id,
            made_at: at(version.made_s),
            begins_at: at(version.begins_s),
            ends_at: at(version.ends_s),
        })
    }
}
