//! A wrapper, for tests, in which requests fail by seed: before their effect or after it.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use super::Tag;
use super::service::{Committal, Condition, Head, Listing, Service, Stamp};
use crate::error::{Error, Kind, Result};

/// Most failures in a row of one request, so that tries with a limit come through.
pub const FAULTS_IN_A_ROW_MAX: u32 = 3;

/// A service that fails now and then.
#[derive(Debug)]
pub struct Faulty<S> {
    inner: S,
    seed: u64,
    /// Share of requests that fail, 0 to 1.
    rate: f64,
    /// By operation and path.
    seen: Mutex<HashMap<(&'static str, String), Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    n_requests: u64,
    n_faults_in_a_row: u32,
}

/// When a request fails.
enum Fault {
    Before,
    After,
}

impl<S> Faulty<S> {
    /// `inner`, of whose requests the share `rate` (0 to 1) fails, which ones follows from `seed`.
    pub fn new(inner: S, seed: u64, rate: f64) -> Self {
        Self { inner, seed, rate, seen: Mutex::default() }
    }

    /// What the next request `operation` on `path` meets.
    fn draw(&self, operation: &'static str, path: &str) -> Option<Fault> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = seen.entry((operation, path.to_owned())).or_default();
        let mut hasher = DefaultHasher::new();
        (self.seed, operation, path, seen.n_requests).hash(&mut hasher);
        let mut rng = fastrand::Rng::with_seed(hasher.finish());
        seen.n_requests += 1;
        if rng.f64() >= self.rate || seen.n_faults_in_a_row == FAULTS_IN_A_ROW_MAX {
            seen.n_faults_in_a_row = 0;
            return None;
        }
        seen.n_faults_in_a_row += 1;
        Some(if rng.bool() { Fault::Before } else { Fault::After })
    }

    /// `work`, unless it is to fail before; its answer is lost if it is to fail after.
    async fn meet<T>(
        &self,
        operation: &'static str,
        path: &str,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let lost = || Error::new(Kind::Unavailable { retry_after: None }, operation);
        match self.draw(operation, path) {
            None => work.await,
            Some(Fault::Before) => Err(lost()),
            Some(Fault::After) => {
                // Whether it succeeded or not, nobody hears of it.
                drop(work.await);
                Err(lost())
            }
        }
    }
}

#[async_trait]
impl<S: Service> Service for Faulty<S> {
    fn name(&self) -> String {
        self.inner.name()
    }

    fn url(&self, path: &str) -> String {
        self.inner.url(path)
    }

    async fn check(&self) -> Result<()> {
        self.meet("check", "", self.inner.check()).await
    }

    async fn put(
        &self,
        path: &str,
        content: Bytes,
        condition: &Condition,
        stamp: &Stamp,
    ) -> Result<Tag> {
        self.meet("put", path, self.inner.put(path, content, condition, stamp)).await
    }

    async fn head(&self, path: &str) -> Result<Option<Head>> {
        self.meet("head", path, self.inner.head(path)).await
    }

    async fn get(&self, path: &str) -> Result<Option<(Bytes, Tag)>> {
        self.meet("get", path, self.inner.get(path)).await
    }

    async fn get_range(&self, path: &str, range: Range<u64>, tag: &Tag) -> Result<Bytes> {
        self.meet("get_range", path, self.inner.get_range(path, range, tag)).await
    }

    async fn list(&self, prefix: &str, next: Option<&str>) -> Result<Listing> {
        self.meet("list", prefix, self.inner.list(prefix, next)).await
    }

    async fn delete(&self, path: &str, tag: Option<&Tag>) -> Result<()> {
        self.meet("delete", path, self.inner.delete(path, tag)).await
    }

    async fn stage(&self, path: &str, block: &str, content: Bytes, md5: [u8; 16]) -> Result<()> {
        self.meet("stage", path, self.inner.stage(path, block, content, md5)).await
    }

    async fn commit(&self, path: &str, committal: &Committal<'_>) -> Result<()> {
        self.meet("commit", path, self.inner.commit(path, committal)).await
    }
}
