//! Fills parts: encodes and compresses pages side by side, writes them in order, hashes what is
//! stored.
//!
//! Every page is a task: it is encoded at once, and written when the page before it was. The shard
//! goes on to its next page meanwhile.

use std::ops::Range;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::task::JoinHandle;
use tracing::Instrument;

use super::range::Records;
use crate::buffer::Buffer;
use crate::encode::{compress, ndjson};
use crate::error::{Error, Kind, Result};
use crate::model::hash::hex;
use crate::model::manifest::FileEntry;
use crate::model::request::{Compression, Dataset};
use crate::store::{PartWriter, Store};

/// A part that is being filled.
pub(super) struct OpenPart {
    compression: Compression,
    plain_bytes: u64,
    /// Gives the file back once the last page that was added is written.
    last: Task<File>,
}

/// A task that ends when nobody waits for it any more, and with it whatever it waits for.
struct Task<T>(JoinHandle<Result<T>>);

impl<T: Send + 'static> Task<T> {
    fn spawn(work: impl Future<Output = Result<T>> + Send + 'static) -> Self {
        // What it logs belongs to the invocation that began it.
        Self(tokio::spawn(work.in_current_span()))
    }

    async fn joined(mut self) -> Result<T> {
        joined(&mut self.0).await
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What is written so far.
struct File {
    writer: Box<dyn PartWriter>,
    entry: FileEntry,
    hasher: Sha256,
}

impl File {
    async fn write(mut self, bytes: Bytes, n_records: u64) -> Result<Self> {
        self.hasher.update(&bytes);
        self.entry.records += n_records;
        self.entry.bytes += bytes.len() as u64;
        self.writer.write(bytes).await?;
        Ok(self)
    }
}

impl OpenPart {
    /// Begins the part `path`.
    ///
    /// # Errors
    /// What the store failed with.
    pub async fn begin(
        store: &dyn Store,
        path: String,
        kind: &str,
        compression: Compression,
    ) -> Result<Self> {
        let writer = store.begin(&path, compression.content_type()).await?;
        let entry = FileEntry {
            path,
            dataset: Dataset::Assets,
            kind: kind.to_owned(),
            records: 0,
            bytes: 0,
            sha256: String::new(),
        };
        let file = File { writer, entry, hasher: Sha256::new() };
        let last = Task::spawn(std::future::ready(Ok(file)));
        Ok(Self { compression, plain_bytes: 0, last })
    }

    /// Takes over `records`, which are written while others come in.
    ///
    /// # Errors
    /// What an earlier page failed with.
    pub async fn add(self, records: Records) -> Result<Self> {
        let Self { compression, mut plain_bytes, mut last } = self;
        if last.0.is_finished() {
            // Looked at now, so that a full disk ends a run at once.
            last = Task::spawn(std::future::ready(Ok(last.joined().await?)));
        }
        let n_records = records.spans.len() as u64;
        // Each line has one byte more than its record.
        plain_bytes += records.spans.iter().map(|span| span.len() as u64 + 1).sum::<u64>();
        let last = Task::spawn(async move {
            let Records { body, spans, room } = records;
            let bytes = encode(body, spans, compression).await?;
            let file = last.joined().await?.write(bytes, n_records).await?;
            drop(room);
            Ok(file)
        });
        Ok(Self { compression, plain_bytes, last })
    }

    /// Uncompressed bytes taken over.
    pub fn plain_bytes(&self) -> u64 {
        self.plain_bytes
    }

    /// Waits for the pages in work, makes the part durable, and says what is in it.
    ///
    /// # Errors
    /// What a page or the store failed with.
    pub async fn finish(self) -> Result<FileEntry> {
        let File { writer, mut entry, hasher } = self.last.joined().await?;
        writer.commit().await?;
        entry.sha256 = hex(&hasher.finalize());
        Ok(entry)
    }
}

/// The records at `spans` in `body` as they go into a file. What takes long is done on a thread that
/// may block.
///
/// # Errors
/// [`Kind::Internal`].
pub(super) async fn encode(
    mut body: Buffer,
    spans: Vec<Range<usize>>,
    compression: Compression,
) -> Result<Bytes> {
    let lines = ndjson::to_lines(&mut body, &spans);
    match compression {
        Compression::None => Ok(Bytes::from_owner(body).slice(lines)),
        Compression::Gzip => {
            let work = move || Ok(compress::gzip(&body[lines]).into());
            joined(&mut tokio::task::spawn_blocking(work)).await
        }
    }
}

async fn joined<T>(task: &mut JoinHandle<Result<T>>) -> Result<T> {
    task.await.unwrap_or_else(|err| Err(internal(err.to_string())))
}

fn internal(reason: String) -> Error {
    Error::new(Kind::Internal, "encode a page").because(reason).advise("please report this")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn a_part_that_is_given_up_ends_the_pages_in_work() {
        let held = Arc::new(());
        let page = |held: Arc<()>, before: Option<Task<()>>| {
            Task::spawn(async move {
                let _held = held;
                if let Some(before) = before {
                    before.joined().await?;
                }
                std::future::pending::<Result<()>>().await
            })
        };
        let first = page(Arc::clone(&held), None);
        let last = page(Arc::clone(&held), Some(first));
        tokio::task::yield_now().await;
        assert_eq!(Arc::strong_count(&held), 3);
        drop(last);
        // The last ends, and with it the one that it waits for.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
