//! What a run is asked for.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::asset::AssetKind;
use super::hash::sha256_hex;

/// A kind of thing that is exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Dataset {
    /// The assets of the inventory.
    Assets,
}

impl Dataset {
    /// All of them.
    pub const ALL: &[Self] = &[Self::Assets];

    /// The name in settings, folders and documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Assets => "assets",
        }
    }
}

/// How records are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Format {
    /// One asset a line, as the service sent it.
    Ndjson,
}

impl Format {
    /// The file ending, without compression.
    pub fn ending(self) -> &'static str {
        match self {
            Self::Ndjson => "ndjson",
        }
    }
}

/// How files are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Compression {
    /// Not at all.
    None,
    /// Gzip, one member a page.
    Gzip,
}

impl Compression {
    /// What is added to the file ending.
    pub fn ending(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip => ".gz",
        }
    }

    /// The Content-Type of a stored blob (contract, section 5).
    pub fn content_type(self) -> &'static str {
        match self {
            Self::None => "application/x-ndjson",
            Self::Gzip => "application/gzip",
        }
    }
}

/// What a run is asked for. Frozen when the run is opened; two requests are equal when all of
/// this is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// What is exported.
    pub datasets: Vec<Dataset>,
    /// EASM filter; empty exports everything.
    pub filter: String,
    /// Kinds of assets, in the contract's order, each once.
    pub kinds: Vec<AssetKind>,
    /// How records are written.
    pub format: Format,
    /// How files are compressed.
    pub compression: Compression,
    /// Columns, for formats that have them. Empty for NDJSON.
    pub columns: Vec<String>,
    /// Most assets to export. Absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_assets: Option<u64>,
}

#[cfg(test)]
impl Request {
    /// A request for everything there is, for tests.
    pub(crate) fn everything() -> Self {
        Self {
            datasets: vec![Dataset::Assets],
            filter: String::new(),
            kinds: AssetKind::ALL.to_vec(),
            format: Format::Ndjson,
            compression: Compression::None,
            columns: Vec::new(),
            max_assets: None,
        }
    }
}

impl Request {
    /// What stands for it: equal requests have equal hashes, in every version of this program that
    /// knows the same members. 64 hexadecimal digits.
    ///
    /// A saved filter counts by its name, since the run that resolves it is the one in work.
    pub fn hash(&self) -> String {
        let json = serde_json::to_vec(self).expect("names and numbers are JSON");
        sha256_hex(&json)
    }

    /// Whether every kind is asked for, those that are new included.
    pub fn wants_all_kinds(&self) -> bool {
        self.kinds.len() == AssetKind::ALL.len()
    }
}
