//! `cargo fuzz run redactor`: looks for an input that breaks what the redactor promises.

#![no_main]

#[path = "../bodies/redactor.rs"]
mod redactor;

libfuzzer_sys::fuzz_target!(|data: &[u8]| redactor::check(data));
