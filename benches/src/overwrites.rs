//! What overwriting costs a full cache that evicts: the same requests, with none, a quarter and half of the entries that are found
//! written anew. Garbage takes room until it is cleaned, and cleaning moves what lives.
//!
//! Bytes moved are told by the numbers of chunks: what was opened, less what was set.

use std::path::PathBuf;
use std::time::Instant;

use memora::{Cache, CacheOptions, FabricOptions};

use crate::harness::{Figure, Random, Report, Samples};

const LIMIT: u64 = 64 << 20;
const KEYS: usize = 2_000_000;
const VALUE: [u8; 100] = [7; 100];
/// Bytes of the record of such an entry.
const RECORD_BYTES: u64 = 144;
const EXPONENT: f64 = 0.9;
/// Bits of a version below the number of its chunk.
const NUMBER_SHIFT: u32 = 20;

struct Run {
    hit_ratio: f64,
    /// Bytes moved for each byte that was set.
    moved: f64,
    median_ns: f64,
    p999_ns: f64,
}

fn run_share(overwritten: u64, sums: &[f64]) -> Run {
    let home = PathBuf::from(format!("/dev/shm/memora-overwrites-{}-{overwritten}", std::process::id()));
    let fabric = FabricOptions::new().home(home.clone()).limit(2 * LIMIT).open("bench").expect("a fabric");
    let options = CacheOptions { limit: Some(LIMIT), ..CacheOptions::default() };
    let cache = fabric.cache_with("bench", &options).expect("a cache");
    let mut random = Random(11);
    let mut took = Vec::new();
    // Filled, and turned over twice.
    ask(&cache, sums, overwritten, &mut random, 3 * LIMIT, &mut took);
    took.clear();
    let first = opened(&cache);
    let (requests, hits, set) = ask(&cache, sums, overwritten, &mut random, 4 * LIMIT, &mut took);
    let chunk_bytes =
        fabric.objects().expect("readable").iter().map(|o| o.bytes / o.chunks).max().unwrap_or(1);
    let written = (opened(&cache) - first) * chunk_bytes;
    drop((cache, fabric));
    let _ = std::fs::remove_dir_all(home);
    took.sort_unstable();
    Run {
        hit_ratio: hits as f64 * 100.0 / requests as f64,
        moved: written.saturating_sub(set) as f64 / set as f64,
        median_ns: f64::from(took[took.len() / 2]),
        p999_ns: f64::from(took[took.len() - took.len() / 1000 - 1]),
    }
}

/// The number of the chunk that is opened now: an entry's first version names it.
fn opened(cache: &Cache) -> u64 {
    cache.delete(b"probe").expect("asked");
    cache.set(b"probe", b"").expect("stored").0 >> NUMBER_SHIFT
}

/// Asks by Zipf's law until so many bytes were set; answers requests, hits and bytes set.
fn ask(
    cache: &Cache,
    sums: &[f64],
    overwritten: u64,
    random: &mut Random,
    bytes: u64,
    took: &mut Vec<u32>,
) -> (u64, u64, u64) {
    let (mut requests, mut hits, mut set) = (0, 0, 0);
    let mut buffer = [0; 128];
    while set < bytes {
        let unit = (random.next() >> 11) as f64 / (1u64 << 53) as f64;
        let wanted = unit * sums[sums.len() - 1];
        let number = sums.partition_point(|sum| *sum < wanted);
        // Which keys are popular must not depend on their order.
        let key = ((number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_be_bytes();
        let key = [key, key].concat();
        requests += 1;
        let hit = cache.get_into(&key, &mut buffer).expect("read").is_some();
        hits += u64::from(hit);
        if !hit || random.below(100) < overwritten {
            let start = Instant::now();
            cache.set(&key, &VALUE).expect("stored");
            took.push(start.elapsed().as_nanos().min(u128::from(u32::MAX)) as u32);
            set += RECORD_BYTES;
        }
    }
    (requests, hits, set)
}

/// Runs the shares one after the other.
pub fn run(report: &Report) {
    let mut sum = 0.0;
    let sums: Vec<f64> = (1..=KEYS)
        .map(|rank| {
            sum += (rank as f64).powf(-EXPONENT);
            sum
        })
        .collect();
    for overwritten in [0, 25, 50] {
        let run = run_share(overwritten, &sums);
        let figures = [
            ("hit ratio", "%", run.hit_ratio, None),
            ("bytes moved for each byte set", "B", run.moved, None),
            ("set, median", "ns/op", run.median_ns, None),
            ("set, p99.9", "ns/op", run.p999_ns, Some("20000")),
        ];
        for (name, unit, value, goal) in figures {
            let mut samples = Samples::default();
            samples.push(value);
            report.add(&Figure {
                bench: "overwrites",
                case: &format!("{name}, {overwritten} % of what is found is overwritten"),
                procs: 1,
                unit,
                samples: &samples,
                floor: None,
                goal,
            });
        }
    }
}
