//! Where parts and documents live: a folder or Blob Storage, behind one small trait.
//!
//! [`folder`] is a [`Store`] of its own. Across a network, a [`service::Service`] does one request
//! each ([`blob`]), and [`remote::Remote`] makes a [`Store`] of it.
//!
//! # Invariants
//! - A part becomes visible whole or not at all, and only if no file of its name exists.
//! - A document is created if absent, or replaced or removed under the [`Tag`] that was read.
//!   Nothing else writes a document.
//! - What is read in pieces is one content from its first byte to its last, or an error.
//! - Paths are relative, separated by `/`, made by [`crate::model::layout`].

pub mod blob;
mod blob_error;
#[cfg(any(test, feature = "sim"))]
pub mod faulty;
pub mod folder;
#[cfg(any(test, feature = "sim"))]
pub mod memory;
pub mod remote;
pub mod service;
mod sign;

use async_trait::async_trait;
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use self::service::Listing;
use crate::error::{Error, Kind, Result};
use crate::model::SCHEMA_VERSION;
use crate::secret::holds_credential;

/// What identifies one content of a document: an ETag, or what stands for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag(pub String);

/// A store.
#[async_trait]
pub trait Store: Send + Sync {
    /// The store as a user would name it, without secrets.
    fn name(&self) -> String;

    /// Where a user finds the file `path`: an absolute path, or a URL without query and secrets.
    fn url(&self, path: &str) -> String;

    /// Makes sure that the store is there and can be used, as far as that can be seen without leaving
    /// anything behind.
    ///
    /// # Errors
    /// [`Kind::Store`], saying what is in the way.
    async fn check(&self) -> Result<()>;

    /// Starts a part. It is not visible under `path` before [`PartWriter::commit`].
    ///
    /// # Errors
    /// [`Kind::Store`] or [`Kind::StoreFull`].
    async fn begin(&self, path: &str, content_type: &str) -> Result<Box<dyn PartWriter>>;

    /// Creates the document `path`.
    ///
    /// # Errors
    /// [`Kind::Conflict`] if it exists, [`Kind::Store`] or [`Kind::StoreFull`].
    async fn create(&self, path: &str, content: Bytes) -> Result<Tag>;

    /// Replaces the document `path` if its content is still the one that `tag` was read with.
    ///
    /// # Errors
    /// [`Kind::Conflict`] if it is not, [`Kind::Store`] or [`Kind::StoreFull`].
    async fn replace(&self, path: &str, content: Bytes, tag: &Tag) -> Result<Tag>;

    /// Deletes the document `path` if its content is still the one that `tag` was read with. That it
    /// does not exist any more is not an error.
    ///
    /// # Errors
    /// [`Kind::Conflict`] if its content is another one now, [`Kind::Store`].
    async fn remove(&self, path: &str, tag: &Tag) -> Result<()>;

    /// Reads the document `path`, at most [`DOCUMENT_BYTES_MAX`] bytes. `None`: it does not exist.
    ///
    /// # Errors
    /// [`Kind::Store`].
    async fn read(&self, path: &str) -> Result<Option<(Bytes, Tag)>>;

    /// Opens the file `path`, of whatever size, to read it from its start. `None`: it does not exist.
    ///
    /// # Errors
    /// [`Kind::Store`].
    async fn open(&self, path: &str) -> Result<Option<Box<dyn PartReader>>>;

    /// Paths of the files below `prefix`, a path that ends with `/`, in order.
    ///
    /// # Errors
    /// [`Kind::Store`].
    async fn list(&self, prefix: &str) -> Result<Vec<String>>;

    /// Some paths of the files below `prefix`, in order, from where `next` of an earlier answer says: for
    /// whoever need not have all of them in memory.
    ///
    /// # Errors
    /// [`Kind::Store`].
    async fn list_some(&self, prefix: &str, next: Option<&str>) -> Result<Listing> {
        debug_assert!(next.is_none(), "the first answer was all there is");
        Ok(Listing { paths: self.list(prefix).await?, next: None })
    }

    /// Deletes `path`. That it does not exist is not an error.
    ///
    /// # Errors
    /// [`Kind::Store`].
    async fn delete(&self, path: &str) -> Result<()>;
}

/// A part being written. Dropped without [`PartWriter::commit`], nothing of it stays.
#[async_trait]
pub trait PartWriter: Send {
    /// Adds `bytes`.
    ///
    /// # Errors
    /// [`Kind::Store`] or [`Kind::StoreFull`].
    async fn write(&mut self, bytes: Bytes) -> Result<()>;

    /// Makes the part visible, durable and unchangeable.
    ///
    /// # Errors
    /// [`Kind::Conflict`] if the name is taken, [`Kind::Store`] or [`Kind::StoreFull`].
    async fn commit(self: Box<Self>) -> Result<()>;
}

/// A file being read, as it was when it was opened.
#[async_trait]
pub trait PartReader: Send {
    /// The bytes that come next, at least one and at most [`CHUNK_BYTES_MAX`]. `None`: there are no
    /// more.
    ///
    /// # Errors
    /// [`Kind::Conflict`] if the file as it was when it was opened is not to be had any more,
    /// [`Kind::Store`].
    async fn next(&mut self) -> Result<Option<Bytes>>;
}

/// Most bytes that [`PartReader::next`] reads at once: what reading a file of any size takes of
/// memory.
pub const CHUNK_BYTES_MAX: usize = 1 << 20;

/// Largest state document: a manifest of a hundred thousand files stays well below it.
pub const DOCUMENT_BYTES_MAX: u64 = 64 << 20;

/// Creates `document` at `path`.
///
/// # Errors
/// As [`Store::create`].
pub async fn create<T: Serialize>(store: &dyn Store, path: &str, document: &T) -> Result<Tag> {
    store.create(path, to_json(path, document)?).await
}

/// Replaces the document at `path` under `tag`.
///
/// # Errors
/// As [`Store::replace`].
pub async fn replace<T: Serialize>(
    store: &dyn Store,
    path: &str,
    document: &T,
    tag: &Tag,
) -> Result<Tag> {
    store.replace(path, to_json(path, document)?, tag).await
}

/// Reads the document at `path`.
///
/// # Errors
/// [`Kind::Newer`] if a newer version of this program wrote it, [`Kind::Store`] if it is not what
/// belongs there.
pub async fn read<T: DeserializeOwned>(store: &dyn Store, path: &str) -> Result<Option<(T, Tag)>> {
    let Some((content, tag)) = store.read(path).await? else { return Ok(None) };
    let unreadable = |_| {
        Error::new(Kind::Store, "read a state document")
            .because("it is not what belongs there")
            .with("path", path)
            .advise("restore it or move it away")
    };
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Version {
        schema_version: u32,
    }
    // The version is looked at first: a newer document may have other members.
    let Version { schema_version } = serde_json::from_slice(&content).map_err(unreadable)?;
    if schema_version > SCHEMA_VERSION {
        return Err(Error::new(Kind::Newer, "read a state document")
            .with("path", path)
            .with("schemaVersion", schema_version)
            .advise("use the newer easm-export; this one leaves the document alone"));
    }
    Ok(Some((serde_json::from_slice(&content).map_err(unreadable)?, tag)))
}

fn to_json<T: Serialize>(path: &str, document: &T) -> Result<Bytes> {
    let mut json = serde_json::to_vec_pretty(document).map_err(|err| {
        Error::new(Kind::Internal, "write a state document")
            .because(err.to_string())
            .with("path", path)
    })?;
    json.push(b'\n');
    // What is written must be read again.
    if json.len() as u64 > DOCUMENT_BYTES_MAX {
        return Err(Error::new(Kind::Store, "write a state document")
            .because(format!("it is larger than {} MiB", DOCUMENT_BYTES_MAX >> 20))
            .with("path", path)
            .advise("set a larger EASM_PART_BYTES_MAX, so that there are fewer files"));
    }
    if holds_credential(&json) {
        return Err(Error::leak("write a state document").with("path", path));
    }
    Ok(json.into())
}
