//! `memora-bench [cache|channel|store|fabric|hitratio|overwrites|recovery|all] [--results FILE]`: the figures of `docs/benchmarks.md`.
//!
//! Each bench measures the physical floor in the same run and prints it beside the figure.

mod cache;
mod channel;
mod fabric;
mod floor;
mod harness;
mod hitratio;
mod overwrites;
mod pair;
mod recovery;
mod store;

use std::path::PathBuf;
use std::process::ExitCode;

/// A bench: its name on the command line, and what runs it.
type Bench = (&'static str, fn(&harness::Report));

fn main() -> ExitCode {
    if let Some(code) = pair::serve(channel::perform).or_else(fabric::serve) {
        return code;
    }
    let mut wanted = Vec::new();
    let mut results = PathBuf::from("target/bench/results.jsonl");
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--results" => match arguments.next() {
                Some(file) => results = PathBuf::from(file),
                None => return usage("--results takes a file"),
            },
            _ => wanted.push(argument),
        }
    }
    let report = harness::Report::new(results);
    let benches: [Bench; 7] = [
        ("cache", cache::run),
        ("channel", channel::run),
        ("store", store::run),
        ("fabric", fabric::run),
        ("hitratio", hitratio::run),
        ("overwrites", overwrites::run),
        ("recovery", recovery::run),
    ];
    if let Some(unknown) =
        wanted.iter().find(|name| *name != "all" && !benches.iter().any(|(known, _)| known == name))
    {
        return usage(&format!("there is no bench `{unknown}`"));
    }
    for (name, run) in benches {
        if wanted.is_empty() || wanted.iter().any(|wish| wish == "all" || wish == name) {
            run(&report);
        }
    }
    ExitCode::SUCCESS
}

fn usage(problem: &str) -> ExitCode {
    eprintln!(
        "memora-bench: {problem}\nusage: memora-bench [cache|channel|store|fabric|hitratio|overwrites|recovery|all] [--results FILE]"
    );
    ExitCode::from(2)
}
