//! `cargo fuzz run payload`: looks for bytes that break what the decoder of payloads promises.

#![no_main]

#[path = "../bodies/payload.rs"]
mod payload;

libfuzzer_sys::fuzz_target!(|data: &[u8]| payload::check(data));
