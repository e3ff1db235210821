//! What a store across a network can do: one request each, tried once.
//!
//! An implementation has no opinions: it sends, reads the answer, and says what a refusal means.
//! [`Remote`](super::remote::Remote) makes a [`Store`](super::Store) of it.
//!
//! # What a failure means
//! A failure of a retryable kind leaves open whether the request had its effect. Any other failure
//! means that this request had none; of an earlier one it says nothing.

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;

use super::Tag;
use crate::error::Result;

/// What a write is known by: it is stored with the content, so that a writer whose answer was lost
/// finds its own work. No two writes have the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp(pub String);

impl Stamp {
    /// A new one.
    pub fn new() -> Self {
        Self(format!("{:032x}", fastrand::u128(..)))
    }
}

impl Default for Stamp {
    fn default() -> Self {
        Self::new()
    }
}

/// What must be so for a write to take effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// Nothing is there.
    Absent,
    /// The content that is there is the one of this tag.
    Unchanged(Tag),
}

/// What is known of a content without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Identifies the content.
    pub tag: Tag,
    /// Its size.
    pub bytes: u64,
    /// Its MD5, if one is stored.
    pub md5: Option<[u8; 16]>,
    /// The write that it came from, if that was one of this program.
    pub stamp: Option<Stamp>,
}

/// A part put together from staged blocks.
#[derive(Debug)]
pub struct Committal<'a> {
    /// Names of the blocks, in order.
    pub blocks: &'a [String],
    /// The part's Content-Type.
    pub content_type: &'a str,
    /// MD5 of the whole part.
    pub md5: [u8; 16],
    /// The write that this is.
    pub stamp: &'a Stamp,
}

/// Some of the paths below a prefix.
#[derive(Debug, Default)]
pub struct Listing {
    /// Paths, in order.
    pub paths: Vec<String>,
    /// Where to go on, if there are more.
    pub next: Option<String>,
}

/// A store across a network.
#[async_trait]
pub trait Service: Send + Sync {
    /// The store as a user would name it, without secrets.
    fn name(&self) -> String;

    /// Where a user finds `path`: a URL without query and secrets.
    fn url(&self, path: &str) -> String;

    /// Makes sure that the place where everything goes is there.
    async fn check(&self) -> Result<()>;

    /// Writes a document if `condition` holds.
    ///
    /// # Errors
    /// [`Kind::Conflict`](crate::error::Kind::Conflict) if it does not.
    async fn put(
        &self,
        path: &str,
        content: Bytes,
        condition: &Condition,
        stamp: &Stamp,
    ) -> Result<Tag>;

    /// Looks at what is at `path`. `None`: nothing.
    async fn head(&self, path: &str) -> Result<Option<Head>>;

    /// Reads what is at `path`, at most [`DOCUMENT_BYTES_MAX`](super::DOCUMENT_BYTES_MAX). `None`:
    /// nothing.
    async fn get(&self, path: &str) -> Result<Option<(Bytes, Tag)>>;

    /// Reads the bytes `range` of the content of `tag` at `path`: at least one, at most
    /// [`CHUNK_BYTES_MAX`](super::CHUNK_BYTES_MAX), and all within that content.
    ///
    /// # Errors
    /// [`Kind::Conflict`](crate::error::Kind::Conflict) if another content is there, or none.
    async fn get_range(&self, path: &str, range: Range<u64>, tag: &Tag) -> Result<Bytes>;

    /// Lists paths that begin with `prefix`, from where `next` of an earlier listing says.
    async fn list(&self, prefix: &str, next: Option<&str>) -> Result<Listing>;

    /// Deletes what is at `path`, if anything is; with a `tag`, only the content of that tag.
    ///
    /// # Errors
    /// [`Kind::Conflict`](crate::error::Kind::Conflict) if another content is there. Whether nothing
    /// being there is the same to a request with a tag, an implementation may choose.
    async fn delete(&self, path: &str, tag: Option<&Tag>) -> Result<()>;

    /// Stages a block of the part `path`, if `md5` is that of what arrives. The same block again
    /// replaces it. All names of one part's
    /// blocks have the same length.
    async fn stage(&self, path: &str, block: &str, content: Bytes, md5: [u8; 16]) -> Result<()>;

    /// Makes the part `path` of staged blocks, if nothing is there.
    ///
    /// # Errors
    /// [`Kind::Conflict`](crate::error::Kind::Conflict) if something is, or if the blocks are not
    /// there any more, as after another committal.
    async fn commit(&self, path: &str, committal: &Committal<'_>) -> Result<()>;
}
