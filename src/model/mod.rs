//! The words of the contract as types: what is asked for, what is written down.
//!
//! Nothing here does IO. The documents ([`run::RunDocument`], [`plan::Plan`],
//! [`checkpoint::Checkpoint`], [`manifest::Manifest`]) are the store layout of the contract,
//! section 6: camelCase members, each with a `schemaVersion`.

pub mod active;
pub mod asset;
pub mod checkpoint;
pub mod hash;
pub mod history;
pub mod ids;
pub mod layout;
pub mod manifest;
pub mod plan;
pub mod request;
pub mod run;
pub mod target;
pub mod upkeep;

/// Version of the state documents this program writes, and the newest it reads.
pub const SCHEMA_VERSION: u32 = 1;
