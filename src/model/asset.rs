//! Kinds of assets.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A kind of asset (API reference, section 7, "Kinds and states"; order as in the contract).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum AssetKind {
    /// Autonomous system.
    As,
    /// Contact, usually of a WHOIS record.
    Contact,
    /// Domain.
    Domain,
    /// Host name.
    Host,
    /// IP address.
    IpAddress,
    /// IP block.
    IpBlock,
    /// Web page.
    Page,
    /// Certificate.
    SslCert,
}

impl AssetKind {
    /// All eight, in the contract's order.
    pub const ALL: [Self; 8] = [
        Self::As,
        Self::Contact,
        Self::Domain,
        Self::Host,
        Self::IpAddress,
        Self::IpBlock,
        Self::Page,
        Self::SslCert,
    ];

    /// The names of [`AssetKind::ALL`].
    pub const NAMES: [&'static str; 8] = {
        let mut names = [""; 8];
        let mut at = 0;
        while at < names.len() {
            names[at] = Self::ALL[at].as_str();
            at += 1;
        }
        names
    };

    /// The service's spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::As => "as",
            Self::Contact => "contact",
            Self::Domain => "domain",
            Self::Host => "host",
            Self::IpAddress => "ipAddress",
            Self::IpBlock => "ipBlock",
            Self::Page => "page",
            Self::SslCert => "sslCert",
        }
    }

    /// Reads a kind, ignoring case.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str().eq_ignore_ascii_case(text))
    }
}

impl fmt::Display for AssetKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The assets a range covers: one kind, or those of a kind this program has no name for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KindCut {
    /// Assets of one kind.
    Only(AssetKind),
    /// Assets of none of the eight kinds: a kind that is new.
    Other,
}

impl KindCut {
    /// The name in `kind=` folders and in `byKind`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Only(kind) => kind.as_str(),
            Self::Other => "other",
        }
    }
}

impl Serialize for KindCut {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for KindCut {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        match AssetKind::parse(&text) {
            Some(kind) => Ok(Self::Only(kind)),
            None if text == "other" => Ok(Self::Other),
            None => Err(serde::de::Error::custom("not a kind of asset")),
        }
    }
}
