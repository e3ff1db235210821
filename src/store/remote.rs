//! A store across a network: every request is tried until its answer is certain, and a write whose
//! answer was lost is recognised as our own.
//!
//! A part is staged block by block while it is filled, one block on its way at a time, and
//! committed at its end. What is stored is then compared with what was sent.
//!
//! # Invariants
//! - A write that succeeds is the writer's own: where something is there already, its [`Stamp`] says
//!   whose it is. Equal content is not enough, since two workers may write the same claim.
//! - A removal asks for no more than that the content is gone, so whoever removed it does not matter.
//! - Every piece of a file that is read is asked for under the tag that was there at the beginning.
//! - Two writers of one part never mix their blocks: the names have a random prefix per writer.
//! - A part counts once every block was accepted under its MD5, and size and MD5 as stored are those
//!   of what was sent. (The MD5 of the whole is what we stored: the service computes none over a list
//!   of blocks.)

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use md5::{Digest, Md5};
use tokio::task::JoinSet;
use tracing::{Instrument, debug};

use super::service::{Committal, Condition, Head, Listing, Service, Stamp};
use super::{CHUNK_BYTES_MAX, PartReader, PartWriter, Store, Tag};
use crate::buffer::Buffer;
use crate::error::{Error, Kind, Result};
use crate::net::SIGNING_IN;
use crate::net::retry::{RetryPolicy, Tries};

/// Size of a block. Each part that is open holds one that is filled and one that is on its way.
pub const BLOCK_BYTES: usize = 1 << 20;

/// Most blocks of a part: what Blob Storage allows.
pub const BLOCKS_MAX: usize = 50_000;

/// Most pages of one listing: with up to 5,000 paths a page, ten million files of one run.
pub const LIST_PAGES_MAX: usize = 2_000;

/// Tries before a store counts as not to be had when a command begins: enough for a hiccup, and a
/// misspelt account is reported in seconds.
const CHECK_TRIES_MAX: u32 = 4;

/// A store across a network.
#[derive(Clone)]
pub struct Remote {
    service: Arc<dyn Service>,
    retry: RetryPolicy,
}

impl Remote {
    /// The store that `service` reaches.
    pub fn new(service: Arc<dyn Service>, retry: RetryPolicy) -> Self {
        Self { service, retry }
    }

    /// Writes a document.
    async fn put(
        &self,
        operation: &'static str,
        path: &str,
        content: Bytes,
        condition: Condition,
    ) -> Result<Tag> {
        let stamp = Stamp::new();
        let put = || self.service.put(path, content.clone(), &condition, &stamp);
        let failed = match tried(&self.retry, operation, put).await {
            Ok(tag) => return Ok(tag),
            Err(failed) => failed,
        };
        if !failed.may_be_done() {
            return Err(failed.err);
        }
        let look = || self.service.head(path);
        match (tried(&self.patience_after(&failed), operation, look).await, failed.err.kind()) {
            (Ok(Some(head)), _) if head.stamp == Some(stamp) => {
                debug!(operation, "The answer was lost, but the write at {path} is our own");
                Ok(head.tag)
            }
            // Whose it is cannot be known.
            (Err(unseen), Kind::Conflict) => Err(unseen.err),
            _ => Err(failed.err),
        }
    }

    /// How long to look at what is there after a write that failed.
    fn patience_after(&self, failed: &Failed) -> RetryPolicy {
        match failed.err.kind().is_retryable() {
            // The store was waited for long enough.
            true => RetryPolicy { tries_max: 1, ..self.retry.clone() },
            false => self.retry.clone(),
        }
    }
}

/// What the last try of a request failed with.
#[derive(Debug)]
struct Failed {
    err: Error,
    /// Whether an earlier try may have had its effect.
    is_open: bool,
}

impl Failed {
    /// Whether what is there may be our own work.
    fn may_be_done(&self) -> bool {
        self.is_open || self.err.kind() == Kind::Conflict
    }
}

impl From<Failed> for Error {
    fn from(failed: Failed) -> Self {
        failed.err
    }
}

/// Tries `attempt` until it succeeds, its failure is final, or tries or time are used up.
async fn tried<T, F>(
    retry: &RetryPolicy,
    operation: &'static str,
    attempt: impl Fn() -> F,
) -> Result<T, Failed>
where
    F: Future<Output = Result<T>>,
{
    let mut tries = Tries::new(retry);
    loop {
        let limit = tries.begin().left();
        let outcome = tokio::time::timeout(limit, attempt()).await.unwrap_or_else(|_elapsed| {
            Err(Error::new(Kind::Unavailable { retry_after: None }, operation)
                .because("no answer came within the time there was"))
        });
        match outcome {
            Ok(value) => return Ok(value),
            Err(err) if err.operation() == SIGNING_IN => {
                return Err(Failed { is_open: tries.is_repeated(), err });
            }
            Err(err) => tries
                .again(operation, err)
                .await
                .map_err(|err| Failed { is_open: tries.is_repeated(), err })?,
        }
    }
}

#[async_trait]
impl Store for Remote {
    fn name(&self) -> String {
        self.service.name()
    }

    fn url(&self, path: &str) -> String {
        self.service.url(path)
    }

    async fn check(&self) -> Result<()> {
        let retry = RetryPolicy { tries_max: CHECK_TRIES_MAX, ..self.retry.clone() };
        Ok(tried(&retry, "open the store", || self.service.check()).await?)
    }

    async fn begin(&self, path: &str, content_type: &str) -> Result<Box<dyn PartWriter>> {
        Ok(Box::new(RemotePart {
            store: self.clone(),
            path: path.to_owned(),
            content_type: content_type.to_owned(),
            writer: format!("{:016x}", fastrand::u64(..)),
            blocks: Vec::new(),
            pending: None,
            upload: JoinSet::new(),
            bytes: 0,
            md5: Md5::new(),
        }))
    }

    async fn create(&self, path: &str, content: Bytes) -> Result<Tag> {
        self.put("create a document", path, content, Condition::Absent).await
    }

    async fn replace(&self, path: &str, content: Bytes, tag: &Tag) -> Result<Tag> {
        self.put("replace a document", path, content, Condition::Unchanged(tag.clone())).await
    }

    async fn remove(&self, path: &str, tag: &Tag) -> Result<()> {
        const OPERATION: &str = "remove a document";
        let remove = || self.service.delete(path, Some(tag));
        let failed = match tried(&self.retry, OPERATION, remove).await {
            Ok(()) => return Ok(()),
            Err(failed) => failed,
        };
        if !failed.may_be_done() {
            return Err(failed.err);
        }
        let look = || self.service.head(path);
        match (tried(&self.patience_after(&failed), OPERATION, look).await, failed.err.kind()) {
            (Ok(None), _) => Ok(()),
            // Whether it is gone or another one cannot be known.
            (Err(unseen), Kind::Conflict) => Err(unseen.err),
            _ => Err(failed.err),
        }
    }

    async fn read(&self, path: &str) -> Result<Option<(Bytes, Tag)>> {
        Ok(tried(&self.retry, "read a document", || self.service.get(path)).await?)
    }

    async fn open(&self, path: &str) -> Result<Option<Box<dyn PartReader>>> {
        // Not the first piece: an empty file has none that could be asked for.
        let found = tried(&self.retry, "open a file", || self.service.head(path)).await?;
        let Some(Head { tag, bytes, .. }) = found else { return Ok(None) };
        let (store, path) = (self.clone(), path.to_owned());
        Ok(Some(Box::new(RemoteReader { store, path, tag, bytes, at: 0 })))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        const OPERATION: &str = "list files";
        let mut paths = Vec::new();
        let mut next: Option<String> = None;
        for _ in 0..LIST_PAGES_MAX {
            let page = || self.service.list(prefix, next.as_deref());
            let page = tried(&self.retry, OPERATION, page).await?;
            paths.extend(page.paths);
            match page.next {
                Some(there) => next = Some(there),
                None => return Ok(paths),
            }
        }
        Err(Error::new(Kind::Endless, OPERATION)
            .because(format!("there are more than {LIST_PAGES_MAX} pages of files"))
            .with("path", prefix)
            .advise("look into the container; this program writes far fewer"))
    }

    async fn list_some(&self, prefix: &str, next: Option<&str>) -> Result<Listing> {
        Ok(tried(&self.retry, "list files", || self.service.list(prefix, next)).await?)
    }

    async fn delete(&self, path: &str) -> Result<()> {
        Ok(tried(&self.retry, "delete a file", || self.service.delete(path, None)).await?)
    }
}

/// A part being written. Dropped before it is committed, its blocks are never seen, and the service
/// forgets them.
struct RemotePart {
    store: Remote,
    path: String,
    content_type: String,
    /// Begins the name of every block.
    writer: String,
    blocks: Vec<String>,
    pending: Option<Buffer>,
    /// The block on its way, if one is. Dropped, it ends.
    upload: JoinSet<Result<()>>,
    bytes: u64,
    md5: Md5,
}

impl RemotePart {
    /// Waits for the block that is on its way.
    async fn uploaded(&mut self) -> Result<()> {
        while let Some(ended) = self.upload.join_next().await {
            ended.unwrap_or_else(|err| {
                Err(Error::new(Kind::Internal, "write a part").because(err.to_string()))
            })?;
        }
        Ok(())
    }

    /// Sends what is pending on its way.
    async fn stage(&mut self) -> Result<()> {
        self.uploaded().await?;
        let Some(pending) = self.pending.take() else { return Ok(()) };
        if self.blocks.len() == BLOCKS_MAX {
            return Err(Error::new(Kind::Store, "write a part")
                .because(format!("it has more than {BLOCKS_MAX} blocks"))
                .with("path", &self.path)
                .advise("set a smaller EASM_PART_BYTES_MAX"));
        }
        // The names of a part's blocks have one length for ever: blocks that another version left
        // behind stay for a week.
        let block = format!("{}{:08}", self.writer, self.blocks.len());
        self.blocks.push(block.clone());
        let (store, path, content) =
            (self.store.clone(), self.path.clone(), Bytes::from_owner(pending));
        let upload = async move {
            let md5 = Md5::digest(&content).into();
            let stage = || store.service.stage(&path, &block, content.clone(), md5);
            Ok(tried(&store.retry, "write a part", stage).await?)
        };
        // What it logs belongs to the invocation that began it.
        self.upload.spawn(upload.in_current_span());
        Ok(())
    }

    /// Compares what is stored with what was sent: the size as the service counts it, and the MD5 that
    /// came with the commit. That every block is what was sent, the service has checked before.
    fn verify(&self, head: &Head, md5: [u8; 16]) -> Result<()> {
        if head.bytes == self.bytes && head.md5 == Some(md5) {
            return Ok(());
        }
        Err(Error::new(Kind::Store, "finish a part")
            .because("what is stored is not what was sent")
            .with("path", &self.path)
            .with("sent", format!("{} bytes", self.bytes))
            .with("stored", format!("{} bytes", head.bytes))
            .advise("export again; should it come back, ask the storage account's support"))
    }
}

#[async_trait]
impl PartWriter for RemotePart {
    async fn write(&mut self, mut bytes: Bytes) -> Result<()> {
        self.md5.update(&bytes);
        self.bytes += bytes.len() as u64;
        while !bytes.is_empty() {
            let pending = self.pending.get_or_insert_with(|| Buffer::with_capacity(BLOCK_BYTES));
            let room = BLOCK_BYTES - pending.len();
            pending.extend_from_slice(&bytes.split_to(room.min(bytes.len())));
            if pending.len() == BLOCK_BYTES {
                self.stage().await?;
            }
        }
        Ok(())
    }

    async fn commit(mut self: Box<Self>) -> Result<()> {
        const OPERATION: &str = "finish a part";
        self.stage().await?;
        self.uploaded().await?;
        let md5: [u8; 16] = self.md5.clone().finalize().into();
        let stamp = Stamp::new();
        let (service, retry) = (&self.store.service, &self.store.retry);
        let committal = Committal {
            blocks: &self.blocks,
            content_type: &self.content_type,
            md5,
            stamp: &stamp,
        };
        let committed = tried(retry, OPERATION, || service.commit(&self.path, &committal)).await;
        let failed = committed.err();
        if let Some(failed) = &failed
            && !failed.may_be_done()
        {
            return Err(failed.err.clone());
        }
        let patience = match &failed {
            Some(failed) => self.store.patience_after(failed),
            None => retry.clone(),
        };
        let head = tried(&patience, OPERATION, || service.head(&self.path)).await;
        match (failed, head) {
            // Whoever drops what is stored beside the content does not stand in the way.
            (None, Ok(Some(head))) if head.stamp.as_ref().is_none_or(|found| *found == stamp) => {
                self.verify(&head, md5)
            }
            (Some(_), Ok(Some(head))) if head.stamp.as_ref() == Some(&stamp) => {
                self.verify(&head, md5)
            }
            (Some(failed), Err(unseen)) if failed.err.kind() == Kind::Conflict => Err(unseen.err),
            (Some(failed), _) => Err(failed.err),
            (None, Err(failed)) => Err(failed.err),
            (None, Ok(_)) => Err(Error::new(Kind::Store, OPERATION)
                .because("it is gone or replaced as soon as it was written")
                .with("path", &self.path)
                .advise("see who else writes to the container or deletes from it")),
        }
    }
}

/// A file being read, a request a chunk.
struct RemoteReader {
    store: Remote,
    path: String,
    /// Of the content that was there when the file was opened.
    tag: Tag,
    /// Its size.
    bytes: u64,
    /// How much of it was read.
    at: u64,
}

#[async_trait]
impl PartReader for RemoteReader {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        let Self { store, path, tag, bytes, at } = self;
        let range = *at..(*at + CHUNK_BYTES_MAX as u64).min(*bytes);
        if range.is_empty() {
            return Ok(None);
        }
        let get = || store.service.get_range(path, range.clone(), tag);
        let chunk = tried(&store.retry, "read a file", get).await.map_err(|failed| match failed
            .err
            .kind()
        {
            Kind::Conflict => failed
                .err
                .because("it was changed or deleted while it was read")
                .advise("see who else writes to the container or deletes from it"),
            _ => failed.err,
        })?;
        *at = range.end;
        Ok(Some(chunk))
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;
    use std::sync::Mutex;
    use std::time::Duration;

    use super::super::memory::Memory;
    use super::super::service::Listing;
    use super::*;

    /// A store whose answers to a look at a part are changed.
    #[derive(Default)]
    struct Lying {
        inner: Memory,
        lie: Mutex<Option<fn(&mut Head)>>,
    }

    #[async_trait]
    impl Service for Lying {
        fn name(&self) -> String {
            "lying".to_owned()
        }

        fn url(&self, path: &str) -> String {
            self.inner.url(path)
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
            self.inner.put(path, content, condition, stamp).await
        }

        async fn head(&self, path: &str) -> Result<Option<Head>> {
            let lie = *self.lie.lock().expect("not poisoned");
            let mut head = self.inner.head(path).await?;
            if let (Some(head), Some(lie)) = (&mut head, lie) {
                lie(head);
            }
            Ok(head)
        }

        async fn get(&self, path: &str) -> Result<Option<(Bytes, Tag)>> {
            self.inner.get(path).await
        }

        async fn get_range(&self, path: &str, range: Range<u64>, tag: &Tag) -> Result<Bytes> {
            self.inner.get_range(path, range, tag).await
        }

        async fn list(&self, prefix: &str, next: Option<&str>) -> Result<Listing> {
            self.inner.list(prefix, next).await
        }

        async fn delete(&self, path: &str, tag: Option<&Tag>) -> Result<()> {
            self.inner.delete(path, tag).await
        }

        async fn stage(
            &self,
            path: &str,
            block: &str,
            content: Bytes,
            md5: [u8; 16],
        ) -> Result<()> {
            self.inner.stage(path, block, content, md5).await
        }

        async fn commit(&self, path: &str, committal: &Committal<'_>) -> Result<()> {
            self.inner.commit(path, committal).await
        }
    }

    #[tokio::test]
    async fn a_part_counts_only_if_what_is_stored_is_what_was_sent() {
        let retry = RetryPolicy { elapsed_max: Duration::from_secs(5), ..RetryPolicy::default() };
        let check = async |lie: Option<fn(&mut Head)>, is_whole: bool| {
            let service = Arc::new(Lying { lie: Mutex::new(lie), ..Lying::default() });
            let store = Remote::new(service, retry.clone());
            let mut part = store.begin("t/part-0", "application/gzip").await.expect("begun");
            part.write("content".into()).await.expect("written");
            match part.commit().await {
                Ok(()) => assert!(is_whole),
                Err(err) => {
                    assert!(!is_whole && err.kind() == Kind::Store, "{err}");
                    let text = err.to_string();
                    assert!(
                        text.contains("not what was sent") || text.contains("replaced"),
                        "{err}"
                    );
                }
            }
        };
        check(None, true).await;
        check(Some(|head| head.bytes -= 1), false).await;
        check(Some(|head| head.md5 = Some([7; 16])), false).await;
        check(Some(|head| head.md5 = None), false).await;
        // Whoever drops the metadata does not stand in the way.
        check(Some(|head| head.stamp = None), true).await;
        check(Some(|head| head.stamp = Some(Stamp::new())), false).await;
    }
}
