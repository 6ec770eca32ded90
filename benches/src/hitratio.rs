//! The hit ratio on real request traces, beside textbook forms of the usual policies.
//!
//! `memora replay` does the work, with one process and with four that share the cache. The last column gives the cache bytes
//! instead of a number of entries: what each entry may cost by our own goal, so that all that memory is lost on (chunks that
//! are not full, garbage, reserves) shows as a lower hit ratio.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::harness::{Figure, Report, Samples};

/// Bytes of key and value that an entry has in the column of bytes, and what else it may cost (see `docs/benchmarks.md`).
const KEY_BYTES: u64 = 4;
const VALUE_BYTES: u64 = 100;
const OVERHEAD_BYTES: u64 = 48;
const PROCS: u32 = 4;

/// Capacity in percent of the objects, and the hit ratios of LRU, SIEVE, S3-FIFO, ARC and OPT.
type Row = (u64, [f64; 5]);
const POLICIES: [&str; 5] = ["LRU", "SIEVE", "S3-FIFO", "ARC", "OPT"];

/// The traces, their objects, and what textbook forms reach (`examples/data/traces/README.md`).
const TRACES: [(&str, u64, [Row; 4]); 3] = [
    (
        "OLTP",
        186_880,
        [
            (1, [41.63, 40.29, 46.42, 45.44, 59.76]),
            (5, [60.08, 59.99, 62.07, 61.03, 72.64]),
            (10, [66.52, 66.66, 67.73, 67.44, 76.21]),
            (25, [73.27, 73.72, 73.59, 73.78, 79.56]),
        ],
    ),
    (
        "orm-busy",
        76_349,
        [
            (1, [77.03, 70.53, 75.64, 76.77, 82.82]),
            (5, [84.13, 83.89, 85.25, 84.28, 90.18]),
            (10, [88.01, 88.12, 89.03, 88.04, 93.31]),
            (25, [93.37, 93.65, 93.98, 93.33, 96.58]),
        ],
    ),
    (
        "w106",
        275_171,
        [
            (1, [79.79, 80.45, 81.28, 80.00, 84.92]),
            (5, [85.68, 87.70, 87.78, 85.84, 91.80]),
            (10, [91.77, 91.64, 92.18, 92.08, 93.94]),
            (25, [93.59, 93.50, 93.39, 93.44, 94.80]),
        ],
    ),
];

/// Replays a trace and gives the hit ratio in percent, or what the command said.
fn replay(program: &Path, trace: &Path, size: &[&str], procs: u32) -> Result<f64, String> {
    let output = Command::new(program)
        .arg("replay")
        .arg(trace)
        .args(size)
        .args(["--procs", &procs.to_string(), "--format", "json"])
        .output()
        .map_err(|error| error.to_string())?;
    let answer: Option<Value> = serde_json::from_slice(&output.stdout).ok();
    answer
        .and_then(|answer| answer["hit_ratio"].as_f64())
        .ok_or_else(|| String::from_utf8_lossy(&output.stderr).trim().to_owned())
}

/// Runs all traces. They take minutes.
pub fn run(report: &Report) {
    let program = std::env::current_exe().expect("a program knows its path").with_file_name("memora");
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples/data/traces");
    if !program.exists() {
        println!("hitratio skipped: there is no {} (`make native` builds it)", program.display());
        return;
    }
    println!(
        "hit ratio in %, capacity in % of the objects; `bytes`: {OVERHEAD_BYTES} B an entry beside key and value"
    );
    let columns = ["1 process", "4 processes", "bytes"].map(|name| format!("{name:>12}")).concat();
    println!("{:<9}{:>5}{columns}{}", "trace", "%", POLICIES.map(|name| format!("{name:>9}")).concat());
    for (name, objects, rows) in TRACES {
        let trace = folder.join(format!("{name}.u32.zst"));
        for (percent, references) in rows {
            let entries = objects * percent / 100;
            let count = entries.to_string();
            let bytes = (entries * (KEY_BYTES + VALUE_BYTES + OVERHEAD_BYTES)).to_string();
            let value = VALUE_BYTES.to_string();
            let by_count = ["--objects", &count];
            let ways: [(&str, &[&str], u32); 3] = [
                ("entries", &by_count, 1),
                ("entries", &by_count, PROCS),
                ("bytes", &["--memory", &bytes, "--value-bytes", &value], 1),
            ];
            let mut line = format!("{name:<9}{percent:>5}");
            let mut figures = Vec::new();
            let mut refused = Vec::new();
            for (way, size, procs) in ways {
                match replay(&program, &trace, size, procs) {
                    Ok(ratio) => {
                        line += &format!("{ratio:>12.2}");
                        figures.push((format!("{name} {percent} % of the objects, by {way}"), procs, ratio));
                    }
                    Err(reason) => {
                        line += &format!("{:>12}", "-");
                        refused.push(format!("  by {way}: {reason}"));
                    }
                }
            }
            println!("{line}{}", references.map(|ratio| format!("{ratio:>9.2}")).concat());
            refused.iter().for_each(|reason| println!("{reason}"));
            let peers: Vec<(&str, f64)> = POLICIES.into_iter().zip(references).collect();
            for (case, procs, ratio) in figures {
                let mut samples = Samples::default();
                samples.push(ratio);
                let figure = Figure {
                    bench: "hitratio",
                    case: &case,
                    procs,
                    unit: "%",
                    samples: &samples,
                    floor: None,
                    goal: None,
                };
                report.append(&figure, &peers);
            }
        }
    }
}
