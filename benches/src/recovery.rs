//! What a million entries of a store take in memory, and how fast they come back out of the files when the memory is lost.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use memora::{Create, Fabric, FabricOptions, Store, StoreOptions};

use crate::harness::{Figure, Report, Samples};

const KEYS: u64 = 1_000_000;
const KEY: usize = 16;
const VALUE: [u8; 100] = [7; 100];
const ROUNDS: usize = 3;
const NAME: &str = "bench-recovery";

fn key(number: u64) -> [u8; KEY] {
    let mut key = *b"key-000000000000";
    // Each number once, in an order that looks like none.
    key[8..].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    key
}

struct Place {
    home: PathBuf,
    files: PathBuf,
}

impl Place {
    fn fabric(&self) -> Fabric {
        let options =
            FabricOptions::new().home(self.home.clone()).limit(512 << 20).create(Create::OpenOrCreate);
        options.open(NAME).expect("a fabric")
    }

    fn used(&self) -> u64 {
        std::fs::metadata(self.home.join(format!("{NAME}.fabric"))).map_or(0, |data| data.blocks() * 512)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.home);
        let _ = std::fs::remove_dir_all(&self.files);
    }
}

fn load(store: &Store) {
    for number in 0..KEYS {
        store.set(&key(number), &VALUE).expect("set");
    }
    store.flush().expect("flushed");
}

/// One store: bytes an entry takes beside key and value, and records a second that come back.
fn measure(ordered: bool, checkpoint: bool) -> (f64, f64) {
    let number = std::process::id();
    let place = Place {
        home: Path::new("/dev/shm").join(format!("memora-bench-recovery-{number}")),
        files: Path::new("target/bench").join(format!("recovery-{number}")),
    };
    let options = StoreOptions {
        dir: Some(place.files.clone()),
        ordered: Some(ordered),
        // Only when it is asked for.
        checkpoint_bytes: 1 << 40,
        ..StoreOptions::default()
    };
    let fabric = place.fabric();
    let store = fabric.store("bench", &options).expect("a store");
    let before = place.used();
    load(&store);
    let memory = (place.used() - before) as f64 / KEYS as f64 - (KEY + VALUE.len()) as f64;
    if checkpoint {
        store.checkpoint().expect("a checkpoint");
    }
    store.close().expect("closed");
    drop((store, fabric));
    std::fs::remove_dir_all(&place.home).expect("the memory is lost");
    let fabric = place.fabric();
    let start = Instant::now();
    let store = fabric.store("bench", &options).expect("recovered");
    let seconds = start.elapsed().as_secs_f64();
    assert_eq!(store.len().expect("a length"), KEYS, "all came back");
    (memory, KEYS as f64 / seconds / 1e6)
}

/// Runs all cases.
pub fn run(report: &Report) {
    let cases =
        [("the journal", false, false), ("a checkpoint", false, true), ("the journal, ordered", true, false)];
    let mut samples = vec![(Samples::default(), Samples::default()); cases.len()];
    for _ in 0..ROUNDS {
        for ((_, ordered, checkpoint), (memory, speed)) in cases.iter().zip(&mut samples) {
            let (bytes, records) = measure(*ordered, *checkpoint);
            memory.push(bytes);
            speed.push(records);
        }
    }
    for ((from, ordered, checkpoint), (memory, speed)) in cases.iter().zip(&samples) {
        let add = |case: &str, unit: &str, samples: &Samples, goal: &str| {
            let (floor, goal) = (None, Some(goal));
            report.add(&Figure { bench: "store", case, procs: 1, unit, samples, floor, goal });
        };
        if !checkpoint {
            let kind = if *ordered { "an ordered store" } else { "a store" };
            add(&format!("memory beside key and value, 1 M in {kind}"), "B/entry", memory, "64");
        }
        add(&format!("recovery from {from}, 1 M entries"), "M/s", speed, "2");
    }
}
