//! What it costs to keep secrets out of what is said.
//!
//! `cargo bench --bench redaction`. First without any value that is live, then with as many as a handler has
//! that works for a few targets. Nothing is asserted but that secrets are found.

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

use std::fmt::Write;
use std::hint::black_box;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use easm_export::secret::{REDACTED, SECRETS_MAX, Secret, holds_credential, inherit, redact};

/// Tokens that are live, and values of the environment.
const TOKENS: usize = 20;
const INHERITED: usize = 20;

/// Bytes of a token's claims.
const CLAIMS_BYTES: usize = 900;

/// How often each is measured.
const ROUNDS: usize = 50;

/// Bytes of a large checkpoint.
const CHECKPOINT_BYTES: usize = 1 << 20;

fn main() {
    let checkpoint = checkpoint();
    println!("No value is live");
    ordinary_lines();
    document(&checkpoint);

    let tokens: Vec<Secret> = (0..TOKENS as u64).map(|seed| Secret::new(token(seed))).collect();
    (0..INHERITED as u64).for_each(|seed| inherit(&setting(seed)));
    println!("{TOKENS} tokens of {} bytes and {INHERITED} settings are live", token(0).len());
    ordinary_lines();
    document(&checkpoint);
    let echoed = format!("{TEXT_LINE} Authorization: Bearer {}\n", tokens[7].expose());
    assert_eq!(redact(&echoed).matches(REDACTED).count(), 1);
    line("text, with a token", &echoed);
    let json = serde_json::json!({ "level": "WARN", "message": echoed }).to_string();
    assert_eq!(redact(&json).matches(REDACTED).count(), 1);
    line("JSON, with a token in it", &json);

    let more: Vec<Secret> = (0..SECRETS_MAX as u64).map(|n| Secret::new(token(1000 + n))).collect();
    println!("{} tokens are live", more.len());
    // The first line after a token was entered prepares for all of them.
    let first = |n| {
        let entered = Secret::new(token(2000 + n));
        let started = Instant::now();
        redact(TEXT_LINE);
        drop(entered);
        started.elapsed().as_secs_f64() * 1e3
    };
    let took_ms = (0..ROUNDS as u64).map(first).fold(f64::INFINITY, f64::min);
    println!("  the first line after a new token: {took_ms:.1} ms");
    ordinary_lines();
}

const TEXT_LINE: &str = "2026-11-28T06:00:02.113471Z  INFO invocation{function=\"ExportWorker\" \
    run.id=20261128T060000Z-1a2b3c4d}: Committed run 20261128T060000Z-1a2b3c4d of target contoso: \
    exact, 12,345 assets in 14 files, 9.1 MiB assets=12345 files=14\n";

const JSON_LINE: &str = "{\"timestamp\":\"2026-11-28T06:00:02.113471Z\",\"level\":\"INFO\",\"fields\":\
    {\"message\":\"Opened run 20261128T060000Z-1a2b3c4d of target contoso\",\"run.id\":\
    \"20261128T060000Z-1a2b3c4d\",\"target\":\"contoso\"},\"target\":\"easm_export::export::open\"}\n";

/// A JSON line with escapes in it.
const QUOTED_LINE: &str = "{\"timestamp\":\"2026-11-28T06:00:02.113471Z\",\"level\":\"WARN\",\"fields\":\
    {\"message\":\"read page: the service is unavailable (found=\\\"503\\\"), trying again in 2 s\"},\
    \"target\":\"easm_export::net::retry\"}\n";

fn ordinary_lines() {
    line("text", TEXT_LINE);
    line("JSON", JSON_LINE);
    line("JSON with quotes in a string", QUOTED_LINE);
}

/// Prints what one line costs.
fn line(name: &str, line: &str) {
    let ns = timed_ns(1000, || redact(line).len());
    println!("  a line of {} bytes, {name}: {ns:.0} ns", line.len());
}

fn document(checkpoint: &str) {
    assert!(!holds_credential(checkpoint.as_bytes()));
    let ns = timed_ns(1, || usize::from(holds_credential(checkpoint.as_bytes())));
    let bytes = checkpoint.len() as f64;
    println!("  a checkpoint of {bytes} bytes, searched: {:.2} ns a byte", ns / bytes);
}

/// The least of many rounds, for one call: others work on this machine too.
fn timed_ns(calls: u32, call: impl Fn() -> usize) -> f64 {
    let round = || {
        let started = Instant::now();
        (0..calls).for_each(|_| {
            black_box(call());
        });
        started.elapsed().as_secs_f64() * 1e9 / f64::from(calls)
    };
    (0..ROUNDS).map(|_| round()).fold(f64::INFINITY, f64::min)
}

/// Looks like a token of Entra: header and first claims are as those of all others.
fn token(seed: u64) -> String {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut claims =
        "{\"aud\":\"https://easm.defender.microsoft.com\",\"iss\":\"https://sts.windows.net/\
        11111111-2222-3333-4444-555555555555/\",\"iat\":"
            .to_owned();
    while claims.len() < CLAIMS_BYTES {
        claims.push(rng.alphanumeric());
    }
    let signature: Vec<u8> = (0..256).map(|_| rng.u8(..)).collect();
    let header = "{\"typ\":\"JWT\",\"alg\":\"RS256\",\"kid\":\"kWgmtIYcS1kFzV3T0xq1y2\"}";
    let parts = [header.as_bytes(), claims.as_bytes(), &signature];
    parts.map(|part| URL_SAFE_NO_PAD.encode(part)).join(".")
}

fn setting(seed: u64) -> String {
    let mut rng = fastrand::Rng::with_seed(seed);
    (0..rng.usize(16..88)).map(|_| rng.alphanumeric()).collect()
}

/// Looks like a checkpoint: parts with hashes, a cursor, and ids.
fn checkpoint() -> String {
    let mut rng = fastrand::Rng::with_seed(1);
    let mut text = "{\n  \"schemaVersion\": 1,\n  \"cursor\": \"*\",\n  \"files\": [\n".to_owned();
    while text.len() < CHECKPOINT_BYTES {
        let hash: String = (0..64).map(|_| rng.digit(16)).collect();
        let n = rng.u32(..10_000);
        let path = "contoso/assets/date=2026-11-28/run=20261128T060000Z-1a2b3c4d/kind=host";
        let file = format!(
            "    {{\n      \"path\": \"{path}/part-0-1-{n:05}.ndjson.gz\",\n      \"records\": {n},\n      \
             \"sha256\": \"{hash}\"\n    }},\n"
        );
        text.write_str(&file).expect("a string takes all");
    }
    text
}
