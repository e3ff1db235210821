//! Where assets come from, as the engine sees it.

use std::ops::Range;

use async_trait::async_trait;

use crate::buffer::Buffer;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::model::asset::{AssetKind, KindCut};
use crate::model::plan::Within;

/// Which assets are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// EASM filter; empty means everything.
    pub filter: String,
    /// What the filter is narrowed to.
    pub cut: Cut,
    /// What of that is asked for.
    pub within: Within,
}

/// What a filter is narrowed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cut {
    /// The assets of any of these kinds. All eight narrow nothing: new kinds come too.
    AnyOf(Vec<AssetKind>),
    /// The assets of one cut.
    One(KindCut),
}

/// One asset of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asset {
    /// Where it stands in the page's body.
    pub span: Range<usize>,
    /// Stands for its id: equal ids have equal hashes, in every version of this program.
    pub id_hash: u64,
}

/// One answer of the service.
#[derive(Debug)]
pub struct Page {
    /// The answer as it came, one valid JSON document, less the white space between tokens.
    pub body: Buffer,
    /// The assets in it, in order, elements of one JSON array.
    pub assets: Vec<Asset>,
    /// The cursor behind it; `None` at the end.
    pub next: Option<String>,
    /// How many assets match the query now, if the service says so.
    pub total: Option<u64>,
}

/// What is known of one asset that ranges are cut by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sampled {
    /// When it was created, if that can be read.
    pub created_at: Option<Timestamp>,
    /// Its name, if that can be read.
    pub name: Option<String>,
}

/// An inventory that can be counted and paged through.
#[async_trait]
pub trait Source: Send + Sync {
    /// How many assets match `query` now.
    ///
    /// # Errors
    /// What the service finally failed with, after the usual retries.
    async fn count(&self, query: &Query) -> Result<u64>;

    /// The page of at most `size` assets behind `cursor`; `None` starts at the beginning.
    ///
    /// # Errors
    /// What the service finally failed with, after the usual retries.
    async fn page(&self, query: &Query, cursor: Option<&str>, size: u32) -> Result<Page>;

    /// Some assets that match `query`, at most `size`, in one request. Which ones is up to the source;
    /// one that cannot tell gives none.
    ///
    /// # Errors
    /// What the service finally failed with, after the usual retries.
    async fn sample(&self, query: &Query, size: u32) -> Result<Vec<Sampled>> {
        let (_, _) = (query, size);
        Ok(Vec::new())
    }
}
