//! Blob Storage, through the Azure SDK's client: one request each, tried once.
//!
//! The SDK's own retries are off: [`Remote`](super::remote::Remote) tries again, since only it
//! knows the budget and what a lost answer means.
//!
//! # Invariants
//! - Every block carries its MD5, which the service checks before it keeps the block.
//! - Content that is not what its stored MD5 says is not handed out, nor a range that is not what the
//!   MD5 says that the service computed of it.
//! - The texts of the SDK's errors are never used: status and code say enough, and a text may repeat
//!   what was sent.

use std::collections::HashMap;
use std::num::NonZero;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use azure_core::http::{
    Body, ClientOptions, Etag, RequestContent, RetryOptions, Transport, Url, XmlFormat,
};
use azure_storage_blob::models::{
    BlobClientDeleteOptions, BlobClientDownloadOptions, BlobClientGetPropertiesResultHeaders,
    BlobContainerClientListBlobsOptions, BlockBlobClientCommitBlockListOptions,
    BlockBlobClientStageBlockOptions, BlockBlobClientUploadOptions, BlockLookupList,
    ListBlobsIncludeItem,
};
use azure_storage_blob::{BlobClient, BlobContainerClient, BlobContainerClientOptions};
use bytes::Bytes;
use futures::TryStreamExt;
use md5::{Digest, Md5};

pub use super::blob_error::NO_CONTAINER;
use super::blob_error::{self, Answered};
use super::service::{Committal, Condition, Head, Listing, Service, Stamp};
use super::sign::{WithDevelopmentKey, WithToken};
use super::{CHUNK_BYTES_MAX, DOCUMENT_BYTES_MAX, Tag};
use crate::buffer::Buffer;
use crate::error::{Error, Kind, Result};
use crate::net::egress::{Bodies, Egress, NamedBy, is_on_loopback};
use crate::net::{Bearer, SIGNING_IN};

/// Name of the blob metadata that holds a write's [`Stamp`].
const STAMP: &str = "easmwrite";

/// What a directory of an account with a hierarchical namespace is marked with in a listing.
const IS_FOLDER: &str = "hdi_isfolder";

/// Most paths of one answer to a listing: what Blob Storage allows.
const LIST_PAGE: i32 = 5_000;

/// Size of the pieces in which documents are read. Nearly all are read in one.
const READ_BYTES: usize = 8 << 20;

/// How requests are signed.
pub enum Access {
    /// With tokens of the app's own identity.
    Token(Arc<dyn Bearer>),
    /// With Azurite's published development key. The container is created if it is missing.
    DevelopmentKey,
}

/// A place in a container.
pub struct Blob {
    container: BlobContainerClient,
    /// In front of every path; empty, or ends with `/`.
    prefix: String,
    is_development: bool,
}

impl Blob {
    /// The place `prefix` (empty, or segments without a slash at either end) in the container at
    /// `url`.
    ///
    /// # Errors
    /// [`Kind::Config`] if requests may not go there, or if the development key would leave this
    /// machine.
    pub fn new(url: Url, prefix: &str, access: Access) -> Result<Self> {
        let egress = Egress::to(&url, NamedBy::Setting, Bodies::Verbatim)?;
        let is_development = matches!(access, Access::DevelopmentKey);
        if is_development && !is_on_loopback(&url) {
            return Err(Error::new(Kind::Config, "open the store")
                .because("the development key is for Azurite on this machine only"));
        }
        let mut client_options = ClientOptions {
            retry: RetryOptions::none(),
            transport: Some(Transport::new(Arc::new(egress))),
            ..ClientOptions::default()
        };
        client_options.per_try_policies.push(match access {
            Access::Token(bearer) => Arc::new(WithToken(bearer)),
            Access::DevelopmentKey => Arc::new(WithDevelopmentKey::new()),
        });
        let options =
            BlobContainerClientOptions { client_options, ..BlobContainerClientOptions::default() };
        let container = BlobContainerClient::new(url, None, Some(options)).map_err(|_| {
            Error::new(Kind::Config, "open the store").because("its URL cannot be used")
        })?;
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Ok(Self { container, prefix, is_development })
    }

    fn blob(&self, path: &str) -> BlobClient {
        self.container.blob_client(&format!("{}{path}", self.prefix))
    }

    /// What `err` means for a request about `path`.
    fn refusal(&self, operation: &'static str, path: &str, err: &azure_core::Error) -> Error {
        let answered = Answered { url: self.container.url(), is_development: self.is_development };
        let err = answered.error(operation, err);
        if err.operation() == SIGNING_IN {
            // It is about no file.
            return err;
        }
        match format!("{}{path}", self.prefix) {
            path if path.is_empty() => err,
            path => err.with("path", path),
        }
    }

    fn stamped(stamp: &Stamp) -> Option<HashMap<String, String>> {
        Some(HashMap::from([(STAMP.to_owned(), stamp.0.clone())]))
    }
}

fn md5(content: &[u8]) -> Vec<u8> {
    Md5::digest(content).to_vec()
}

fn tag(etag: Option<Etag>, operation: &'static str) -> Result<Tag> {
    etag.map(|etag| Tag(etag.to_string())).ok_or_else(|| {
        Error::new(Kind::Unreadable, operation).because("the store's answer has no ETag")
    })
}

#[async_trait]
impl Service for Blob {
    fn name(&self) -> String {
        let url = self.container.url().as_str();
        format!("{url}/{}", self.prefix).trim_end_matches('/').to_owned()
    }

    fn url(&self, path: &str) -> String {
        let mut url = self.container.url().clone();
        // The client has added segments to it already, or refused it.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(format!("{}{path}", self.prefix).split('/'));
        }
        // Origin and path and nothing else, so that no query or user can come along.
        format!("{}{}", url.origin().ascii_serialization(), url.path())
    }

    async fn check(&self) -> Result<()> {
        const OPERATION: &str = "open the store";
        if self.is_development {
            let created = self.container.create(None).await;
            return match created {
                Err(err) if blob_error::code(&err) == Some("ContainerAlreadyExists") => Ok(()),
                Err(err) => Err(self.refusal(OPERATION, "", &err)),
                Ok(_) => Ok(()),
            };
        }
        // Needs the rights of a reader of blobs, which a run needs too.
        self.page("", None, 1).await.map(drop).map_err(|err| self.refusal(OPERATION, "", &err))
    }

    async fn put(
        &self,
        path: &str,
        content: Bytes,
        condition: &Condition,
        stamp: &Stamp,
    ) -> Result<Tag> {
        const OPERATION: &str = "write a document";
        let mut options = BlockBlobClientUploadOptions {
            blob_content_type: Some("application/json".to_owned()),
            // The service compares it with what arrives.
            blob_content_md5: Some(md5(&content)),
            metadata: Self::stamped(stamp),
            // One request, so that nobody sees half a document.
            partition_size: NonZero::new(u64::MAX),
            ..BlockBlobClientUploadOptions::default()
        };
        match condition {
            Condition::Absent => options.if_none_match = Some("*".into()),
            Condition::Unchanged(tag) => options.if_match = Some(tag.0.as_str().into()),
        }
        let client = self.blob(path).block_blob_client();
        match client.upload(content.into(), Some(options)).await {
            Ok(done) => tag(done.etag, OPERATION),
            Err(err) => {
                let refusal = self.refusal(OPERATION, path, &err);
                // What was to be replaced is not there any more.
                let is_gone = *condition != Condition::Absent && blob_error::is_absent(&err);
                Err(if is_gone { refusal.as_kind(Kind::Conflict) } else { refusal })
            }
        }
    }

    async fn head(&self, path: &str) -> Result<Option<Head>> {
        const OPERATION: &str = "look at a file";
        let found = match self.blob(path).get_properties(None).await {
            Err(err) if blob_error::is_absent(&err) => return Ok(None),
            Err(err) => return Err(self.refusal(OPERATION, path, &err)),
            Ok(found) => found,
        };
        let read = || -> azure_core::Result<_> {
            Ok((found.etag()?, found.content_length()?, found.content_md5()?, found.metadata()?))
        };
        let unreadable =
            || Error::new(Kind::Unreadable, OPERATION).because("the store's answer lacks a size");
        let (etag, bytes, md5, metadata) = read().map_err(|_| unreadable())?;
        Ok(Some(Head {
            tag: tag(etag, OPERATION)?,
            bytes: bytes.ok_or_else(unreadable)?,
            md5: md5.and_then(|md5| md5.try_into().ok()),
            stamp: metadata
                .into_iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(STAMP))
                .map(|(_, value)| Stamp(value)),
        }))
    }

    async fn get(&self, path: &str) -> Result<Option<(Bytes, Tag)>> {
        const OPERATION: &str = "read a document";
        let options = BlobClientDownloadOptions {
            parallel: NonZero::new(1),
            partition_size: NonZero::new(READ_BYTES),
            ..BlobClientDownloadOptions::default()
        };
        let found = match self.blob(path).download(Some(options)).await {
            Err(err) if blob_error::is_absent(&err) => return Ok(None),
            Err(err) => return Err(self.refusal(OPERATION, path, &err)),
            Ok(found) => found,
        };
        let properties = found.properties;
        let mut body = found.body;
        let mut content = Vec::new();
        // A document of several pieces that is changed or deleted meanwhile is read again.
        let changed = |err: azure_core::Error| match self.refusal(OPERATION, path, &err) {
            err if matches!(err.kind(), Kind::Conflict | Kind::Store) => {
                err.as_kind(Kind::Unreadable)
            }
            err => err,
        };
        while let Some(chunk) = body.try_next().await.map_err(changed)? {
            if (content.len() + chunk.len()) as u64 > DOCUMENT_BYTES_MAX {
                return Err(Error::new(Kind::Store, OPERATION)
                    .because("the document is larger than any this program writes")
                    .with("path", format!("{}{path}", self.prefix))
                    .advise("restore it or move it away"));
            }
            content.extend_from_slice(&chunk);
        }
        let stored = properties.blob_content_md5.or(properties.content_md5);
        if stored.is_some_and(|stored| stored != md5(&content)) {
            return Err(Error::new(Kind::Unreadable, OPERATION)
                .because("what came is not what was stored")
                .with("path", format!("{}{path}", self.prefix)));
        }
        Ok(Some((content.into(), tag(properties.etag, OPERATION)?)))
    }

    async fn get_range(&self, path: &str, range: Range<u64>, tag: &Tag) -> Result<Bytes> {
        const OPERATION: &str = "read a file";
        let wanted = range.end - range.start;
        let options = BlobClientDownloadOptions {
            if_match: Some(tag.0.as_str().into()),
            range: Some(range.into()),
            range_get_content_md5: Some(true),
            parallel: NonZero::new(1),
            // One request.
            partition_size: NonZero::new(CHUNK_BYTES_MAX),
            ..BlobClientDownloadOptions::default()
        };
        let found = self.blob(path).download(Some(options)).await.map_err(|err| {
            let refusal = self.refusal(OPERATION, path, &err);
            if blob_error::is_absent(&err) { refusal.as_kind(Kind::Conflict) } else { refusal }
        })?;
        let (properties, mut body) = (found.properties, found.body);
        let mut content = Buffer::with_capacity(CHUNK_BYTES_MAX);
        while let Some(chunk) =
            body.try_next().await.map_err(|err| self.refusal(OPERATION, path, &err))?
        {
            content.extend_from_slice(&chunk);
            if content.len() as u64 > wanted {
                // Whoever ignores the range may send a file of any size.
                break;
            }
        }
        let is_damaged = properties.content_md5.is_some_and(|sent| sent != md5(&content));
        if content.len() as u64 != wanted || is_damaged {
            return Err(Error::new(Kind::Unreadable, OPERATION)
                .because("what came is not what was asked for")
                .with("path", format!("{}{path}", self.prefix)));
        }
        Ok(Bytes::from_owner(content))
    }

    async fn list(&self, prefix: &str, next: Option<&str>) -> Result<Listing> {
        self.page(prefix, next, LIST_PAGE)
            .await
            .map_err(|err| self.refusal("list files", prefix, &err))
    }

    async fn delete(&self, path: &str, tag: Option<&Tag>) -> Result<()> {
        let options = BlobClientDeleteOptions {
            if_match: tag.map(|tag| tag.0.as_str().into()),
            ..BlobClientDeleteOptions::default()
        };
        match self.blob(path).delete(Some(options)).await {
            Err(err) if !blob_error::is_absent(&err) => {
                Err(self.refusal("delete a file", path, &err))
            }
            _ => Ok(()),
        }
    }

    async fn stage(&self, path: &str, block: &str, content: Bytes, md5: [u8; 16]) -> Result<()> {
        let options = BlockBlobClientStageBlockOptions {
            transactional_content_md5: Some(md5.to_vec()),
            ..BlockBlobClientStageBlockOptions::default()
        };
        let client = self.blob(path).block_blob_client();
        let bytes = content.len() as u64;
        let staged =
            client.stage_block(block.as_bytes(), bytes, content.into(), Some(options)).await;
        staged.map(drop).map_err(|err| self.refusal("write a part", path, &err))
    }

    async fn commit(&self, path: &str, committal: &Committal<'_>) -> Result<()> {
        const OPERATION: &str = "finish a part";
        let blocks = committal.blocks.iter().map(|block| block.as_bytes().to_vec()).collect();
        let blocks = BlockLookupList { latest: Some(blocks), ..BlockLookupList::default() };
        let blocks: RequestContent<BlockLookupList, XmlFormat> =
            blocks.try_into().map_err(|err| self.refusal(OPERATION, path, &err))?;
        let list_md5 = match blocks.body() {
            Body::Bytes(list) => Some(md5(list)),
            Body::SeekableStream(_) => None,
        };
        let options = BlockBlobClientCommitBlockListOptions {
            transactional_content_md5: list_md5,
            if_none_match: Some("*".into()),
            blob_content_type: Some(committal.content_type.to_owned()),
            blob_content_md5: Some(committal.md5.to_vec()),
            metadata: Self::stamped(committal.stamp),
            ..BlockBlobClientCommitBlockListOptions::default()
        };
        let client = self.blob(path).block_blob_client();
        let committed = client.commit_block_list(blocks, Some(options)).await;
        committed.map(drop).map_err(|err| self.refusal(OPERATION, path, &err))
    }
}

impl Blob {
    /// One answer of a listing, with at most `max` paths.
    async fn page(
        &self,
        prefix: &str,
        next: Option<&str>,
        max: i32,
    ) -> azure_core::Result<Listing> {
        let options = BlobContainerClientListBlobsOptions {
            // Says which entries are directories, in accounts that have them.
            include: Some(vec![ListBlobsIncludeItem::Metadata]),
            marker: next.map(str::to_owned),
            maxresults: Some(max),
            prefix: Some(format!("{}{prefix}", self.prefix)),
            ..BlobContainerClientListBlobsOptions::default()
        };
        let mut pages = self.container.list_blobs(Some(options))?.into_pages();
        let Some(page) = pages.try_next().await? else { return Ok(Listing::default()) };
        let page = page.into_model()?;
        let is_folder = |metadata: Option<azure_storage_blob::models::BlobMetadata>| {
            let values = metadata.and_then(|metadata| metadata.values).unwrap_or_default();
            values.iter().any(|(name, value)| {
                name.eq_ignore_ascii_case(IS_FOLDER) && value.eq_ignore_ascii_case("true")
            })
        };
        let paths = page.blob_items.into_iter().filter_map(|item| {
            let path = item.name?.strip_prefix(&self.prefix)?.to_owned();
            (!is_folder(item.metadata)).then_some(path)
        });
        let next = page.next_marker.filter(|next| !next.is_empty());
        Ok(Listing { paths: paths.collect(), next })
    }
}
