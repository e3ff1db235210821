//! Exports Microsoft Defender EASM inventories, whole and every day.
//!
//! `ARCHITECTURE.md` is the map: floors, rooms, invariants, words. Start reading at
//! [`export::step::step`], the engine, or at [`cli::main`], the door.

pub mod app;
pub mod azure;
pub mod buffer;
pub mod cli;
pub mod clock;
pub mod config;
pub mod doctor;
pub mod encode;
pub mod error;
pub mod export;
pub mod functions;
pub mod host;
pub mod json;
pub mod model;
pub mod net;
pub mod schedule;
pub mod secret;
#[cfg(feature = "sim")]
pub mod sim;
pub mod store;
pub mod telemetry;
