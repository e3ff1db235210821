//! The bodies of the fuzz targets (`fuzz/`), for a few seconds: each with every seed as it is, then with
//! inputs made from the seeds by chance.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use fastrand::Rng;

#[path = "../../fuzz/bodies/payload.rs"]
mod payload;
#[path = "../../fuzz/bodies/redactor.rs"]
mod redactor;

/// Inputs that are made for each target.
const INPUTS: u64 = 1000;

/// How often an input is changed at most.
const CHANGES_MAX: usize = 8;

/// What is put into inputs: beginnings and ends of what a decoder knows.
const PIECES: &[&str] = &[
    "\\",
    "\\\\",
    "\\n",
    "\\u",
    "\\u00",
    "\\ud83d",
    "\\x",
    "%",
    "%2",
    "%25",
    "+",
    "=",
    "==",
    "\n",
    "\r\n    ",
    "\"",
    "{",
    "}",
    "[",
    ",",
    "0",
    "é",
    "😀",
    "\u{0}",
    "$0p",
    "$1u",
    "$2b",
    "$3U",
    "$4B",
    "$5j",
    "$6J",
    "$7h",
    "$8l",
    "$9n",
    "$0c",
    "$1r",
    "$4p",
    "[REDACTED]",
    "Bearer ",
    "key=",
    "sig=",
];

/// Repeat one input with `SEED=17`.
fn run(target: &str, body: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let mut paths: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let seeds: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
    seeds.iter().for_each(|seed| body(seed));

    let seeds_asked = match std::env::var("SEED") {
        Ok(seed) => seed.parse().unwrap()..=seed.parse().unwrap(),
        Err(_) => 1..=INPUTS,
    };
    for seed in seeds_asked {
        let input = changed(&mut Rng::with_seed(seed), &seeds);
        let done = catch_unwind(AssertUnwindSafe(|| body(&input)));
        assert!(done.is_ok(), "SEED={seed}: {target}: {:?}", String::from_utf8_lossy(&input));
    }
}

/// One of `seeds`, changed here and there.
fn changed(rng: &mut Rng, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut input = rng.choice(seeds).unwrap().clone();
    for _ in 0..=rng.usize(..CHANGES_MAX) {
        let from = rng.usize(..=input.len());
        let to = rng.usize(from..=input.len().min(from + 40));
        match rng.u8(..8) {
            0 => drop(input.drain(from..to)),
            1 => drop(input.splice(from..from, input[from..to].to_vec())),
            2 if from < input.len() => input[from] ^= 1 << rng.u8(..8),
            3 => input.truncate(to.max(1)),
            4 => {
                let other = rng.choice(seeds).unwrap();
                drop(input.splice(from..to, other[rng.usize(..other.len())..].to_vec()));
            }
            _ => drop(input.splice(from..from, rng.choice(PIECES).unwrap().bytes())),
        }
    }
    input
}

#[test]
fn the_redactor_keeps_its_promises_for_any_input() {
    run("redactor", redactor::check);
}

#[test]
fn the_decoder_of_payloads_keeps_its_promises_for_any_input() {
    run("payload", payload::check);
}
