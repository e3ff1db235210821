//! Fills parts: encodes and compresses pages, hashes what is stored, closes a part when it is large
//! enough.

use std::ops::Range as Span;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::range::Records;
use crate::encode::{compress, ndjson};
use crate::error::{Error, Kind, Result};
use crate::model::manifest::FileEntry;
use crate::model::request::{Compression, Dataset};
use crate::store::folder::hex;
use crate::store::{PartWriter, Store};

/// A part that is being filled.
pub(super) struct OpenPart {
    writer: Box<dyn PartWriter>,
    compression: Compression,
    entry: FileEntry,
    hasher: Sha256,
    plain_bytes: u64,
}

/// One page, as it goes into a file.
pub(super) struct Encoded {
    /// The bytes, compressed.
    pub bytes: Bytes,
    /// How many there were before.
    pub plain_bytes: u64,
}

/// Encodes and compresses `records`.
///
/// # Errors
/// [`Kind::Internal`].
pub(super) fn encode(records: &Records, compression: Compression) -> Result<Encoded> {
    let plain_bytes_most: usize = records.spans.iter().map(Span::len).sum();
    let mut plain = Vec::with_capacity(plain_bytes_most + records.spans.len());
    for span in &records.spans {
        ndjson::append_line(&records.body[span.clone()], &mut plain);
    }
    let plain_bytes = plain.len() as u64;
    if compression == Compression::None {
        return Ok(Encoded { bytes: plain.into(), plain_bytes });
    }
    // Inventories compress to about a fifth.
    let mut bytes = Vec::with_capacity(plain.len() / 4);
    compress::append(compression, &plain, &mut bytes).map_err(|err| internal(err.to_string()))?;
    Ok(Encoded { bytes: bytes.into(), plain_bytes })
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
        Ok(Self { writer, compression, entry, hasher: Sha256::new(), plain_bytes: 0 })
    }

    /// Adds `records`.
    ///
    /// # Errors
    /// What the store failed with.
    pub async fn add(&mut self, records: Records) -> Result<()> {
        let n_records = records.spans.len() as u64;
        let compression = self.compression;
        let mut hasher = std::mem::take(&mut self.hasher);
        // Pages of all shards are compressed side by side on threads of their own.
        let (encoded, hasher) = tokio::task::spawn_blocking(move || {
            let encoded = encode(&records, compression)?;
            hasher.update(&encoded.bytes);
            Ok((encoded, hasher))
        })
        .await
        .unwrap_or_else(|err| Err(internal(err.to_string())))?;
        self.hasher = hasher;
        self.plain_bytes += encoded.plain_bytes;
        self.entry.records += n_records;
        self.entry.bytes += encoded.bytes.len() as u64;
        self.writer.write(encoded.bytes).await
    }

    /// Uncompressed bytes so far.
    pub fn plain_bytes(&self) -> u64 {
        self.plain_bytes
    }

    /// Makes the part durable and says what is in it.
    ///
    /// # Errors
    /// What the store failed with.
    pub async fn finish(self) -> Result<FileEntry> {
        let Self { writer, compression: _, mut entry, hasher, plain_bytes: _ } = self;
        writer.commit().await?;
        entry.sha256 = hex(&hasher.finalize());
        Ok(entry)
    }
}

fn internal(reason: String) -> Error {
    Error::new(Kind::Internal, "encode a page").because(reason).advise("please report this")
}
