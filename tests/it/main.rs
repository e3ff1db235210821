//! Whole-program tests: the real binary against the simulator, one module a theme.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod azurite;
mod bad_input;
mod blob;
mod canaries;
mod contract;
mod demo;
mod doctor;
mod engine;
mod export;
mod functions;
mod fuzz;
mod host;
mod identity;
mod infra;
mod kills;
mod library_logs;
mod logs;
mod package;
mod proxy;
mod retry;
mod sign_in;
mod steps;
mod store;
mod store_requests;
mod support;
mod targets;
mod tidy;
mod vault;
mod workspace;
mod worlds;
