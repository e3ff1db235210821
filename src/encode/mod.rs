//! Records to bytes. Where the bytes go is none of its business.

pub mod compress;
pub mod csv;
pub mod ndjson;
