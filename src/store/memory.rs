//! A store in memory, for tests: it does what Blob Storage does, as far as a [`Service`] can tell.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use md5::{Digest, Md5};

use super::Tag;
use super::service::{Committal, Condition, Head, Listing, Service, Stamp};
use crate::error::{Error, Kind, Result};

/// Paths of one listing: few, so that tests see several pages.
const LIST_PAGE: usize = 7;

/// A store in memory.
#[derive(Debug, Default)]
pub struct Memory {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    blobs: BTreeMap<String, Blob>,
    /// Staged and not committed, by path and name.
    blocks: BTreeMap<(String, String), Bytes>,
    n_writes: u64,
}

#[derive(Debug)]
struct Blob {
    content: Bytes,
    head: Head,
}

impl Memory {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn write(&mut self, path: &str, content: Bytes, stamp: &Stamp) -> Tag {
        self.n_writes += 1;
        let tag = Tag(format!("\"{}\"", self.n_writes));
        let head = Head {
            tag: tag.clone(),
            bytes: content.len() as u64,
            md5: Some(Md5::digest(&content).into()),
            stamp: Some(stamp.clone()),
        };
        // What was staged for a blob is gone once the blob is written.
        self.blocks.retain(|(of, _), _| of != path);
        self.blobs.insert(path.to_owned(), Blob { content, head });
        tag
    }
}

fn conflict(path: &str) -> Error {
    Error::new(Kind::Conflict, "write").with("path", path)
}

#[async_trait]
impl Service for Memory {
    fn name(&self) -> String {
        "memory".to_owned()
    }

    fn url(&self, path: &str) -> String {
        format!("memory/{path}")
    }

    async fn check(&self) -> Result<()> {
        Ok(())
    }

    async fn put(
        &self,
        path: &str,
        content: Bytes,
        condition: &Condition,
        stamp: &Stamp,
    ) -> Result<Tag> {
        let mut inner = self.lock();
        let present = inner.blobs.get(path).map(|blob| &blob.head.tag);
        let holds = match condition {
            Condition::Absent => present.is_none(),
            Condition::Unchanged(tag) => present == Some(tag),
        };
        if holds { Ok(inner.write(path, content, stamp)) } else { Err(conflict(path)) }
    }

    async fn head(&self, path: &str) -> Result<Option<Head>> {
        Ok(self.lock().blobs.get(path).map(|blob| blob.head.clone()))
    }

    async fn get(&self, path: &str) -> Result<Option<(Bytes, Tag)>> {
        let inner = self.lock();
        Ok(inner.blobs.get(path).map(|blob| (blob.content.clone(), blob.head.tag.clone())))
    }

    async fn get_range(&self, path: &str, range: Range<u64>, tag: &Tag) -> Result<Bytes> {
        let inner = self.lock();
        let present = inner.blobs.get(path).filter(|blob| blob.head.tag == *tag);
        let content = &present.ok_or_else(|| conflict(path))?.content;
        let at = |byte: u64| usize::try_from(byte).expect("it is in memory");
        Ok(content.slice(at(range.start)..at(range.end)))
    }

    async fn list(&self, prefix: &str, next: Option<&str>) -> Result<Listing> {
        let inner = self.lock();
        let from = next.unwrap_or(prefix).to_owned();
        let mut paths: Vec<String> = inner
            .blobs
            .range(from..)
            .map(|(path, _)| path.clone())
            .take_while(|path| path.starts_with(prefix))
            .take(LIST_PAGE + 1)
            .collect();
        let next = (paths.len() > LIST_PAGE).then(|| paths.pop()).flatten();
        Ok(Listing { paths, next })
    }

    async fn delete(&self, path: &str, tag: Option<&Tag>) -> Result<()> {
        let mut inner = self.lock();
        let present = inner.blobs.get(path).map(|blob| &blob.head.tag);
        // Also where nothing is there, which is the harder answer of the two that are allowed.
        if tag.is_some() && present != tag {
            return Err(conflict(path));
        }
        inner.blobs.remove(path);
        Ok(())
    }

    async fn stage(&self, path: &str, block: &str, content: Bytes, md5: [u8; 16]) -> Result<()> {
        debug_assert_eq!(<[u8; 16]>::from(Md5::digest(&content)), md5);
        self.lock().blocks.insert((path.to_owned(), block.to_owned()), content);
        Ok(())
    }

    async fn commit(&self, path: &str, committal: &Committal<'_>) -> Result<()> {
        let mut inner = self.lock();
        if inner.blobs.contains_key(path) {
            return Err(conflict(path));
        }
        let mut content = Vec::new();
        for block in committal.blocks {
            let staged = inner.blocks.get(&(path.to_owned(), block.clone()));
            content.extend_from_slice(staged.ok_or_else(|| conflict(path))?);
        }
        inner.write(path, content.into(), committal.stamp);
        Ok(())
    }
}
