//! `memora-compare [PART...] [--results FILE]`: caches, channels and stores beside their peers in one run, interleaved.
//!
//! Peers that processes share: LMDB, Redis and memcached. Peers within one process: dashmap, papaya, moka. Those of channels and of stores stand in
//! `channels` and `store`. What is not installed is said and skipped.

#[allow(dead_code, reason = "the other benches use the rest")]
#[path = "../../src/harness.rs"]
mod harness;

mod channels;
mod full;
mod load;
mod memory;
mod peer;
mod process;
mod server;
mod shift;
mod sizes;
mod speed;
mod store;
mod warm;

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(code) = speed::serve().or_else(warm::serve).or_else(channels::serve).or_else(store::serve) {
        return code;
    }
    let mut results = PathBuf::from("target/bench/results.jsonl");
    let mut arguments = std::env::args().skip(1);
    let mut wanted = Vec::new();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--results" => match arguments.next() {
                Some(file) => results = PathBuf::from(file),
                None => return usage("--results takes a file"),
            },
            _ => wanted.push(argument),
        }
    }
    type Part = (&'static str, fn(&harness::Report));
    let parts: [Part; 8] = [
        ("speed", speed::run),
        ("memory", memory::run),
        ("full", full::run),
        ("shift", shift::run),
        ("warm", warm::run),
        ("sizes", sizes::run),
        ("channels", channels::run),
        ("store", store::run),
    ];
    if let Some(unknown) = wanted.iter().find(|name| !parts.iter().any(|(known, _)| known == name)) {
        return usage(&format!("there is no part `{unknown}`"));
    }
    let report = harness::Report::new(results);
    for (name, run) in parts {
        if wanted.is_empty() || wanted.iter().any(|wish| wish == name) {
            run(&report);
        }
    }
    ExitCode::SUCCESS
}

fn usage(problem: &str) -> ExitCode {
    eprintln!(
        "memora-compare: {problem}\nusage: memora-compare [speed|memory|full|shift|warm|sizes|channels|store] [--results FILE]"
    );
    ExitCode::from(2)
}

/// A folder on tmpfs for one part, gone with it.
fn folder() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("memora-compare-").tempdir_in("/dev/shm").expect("a folder on tmpfs")
}
