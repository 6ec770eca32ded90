//! The smallest cache and a large one: both are filled one and a half times over and stay within their limit.

use std::os::unix::fs::MetadataExt;
use std::time::Instant;

use memora::{CacheOptions, FabricOptions};

use crate::harness::{Figure, Report, Samples};
use crate::peer::key;

const MIB: u64 = 1 << 20;
/// Name, limit, bytes of a value.
const SIZES: [(&str, u64, usize); 3] =
    [("1 MiB", MIB, 100), ("1 GiB", 1024 * MIB, 1024), ("16 GiB", 16 * 1024 * MIB, 4096)];

/// Bytes of this process that lie in shared mappings.
fn shared_resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssShmem:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).map_or(0, |kib| kib * 1024)
}

/// Fills each, and looks at the pages of its file and of this process.
pub fn run(report: &Report) {
    for (name, limit, len) in SIZES {
        let folder = crate::folder();
        let free = nix::sys::statvfs::statvfs(folder.path())
            .map_or(0, |found| found.blocks_available() * found.fragment_size());
        if free < limit + limit / 8 {
            println!("skipped: a cache of {name}, for which /dev/shm has not enough room");
            continue;
        }
        let before = shared_resident();
        let start = Instant::now();
        let options = FabricOptions::new().home(folder.path()).limit(limit);
        let fabric = options.open("sizes").expect("a fabric");
        let cache = fabric.cache_with("sizes", &CacheOptions::default()).expect("a cache");
        let started = start.elapsed().as_secs_f64() * 1000.0;
        let value = vec![7u8; len];
        let times = limit * 3 / 2 / len as u64;
        for number in 0..times {
            cache.set(&key(number), &value).expect("set");
        }
        let file =
            std::fs::metadata(folder.path().join("sizes.fabric")).map_or(0, |data| data.blocks() * 512);
        let resident = shared_resident() - before;
        // The page that tells whether a process lives is mapped twice and so counted twice.
        assert!(
            file <= limit && resident <= limit + 4096,
            "{name}: {file} bytes of tmpfs, {resident} resident"
        );
        let kept = (0..times).filter(|number| cache.get(&key(*number)).expect("get").is_some()).count();
        for (what, unit, number) in [
            ("pages of tmpfs in use", "% of the limit", file as f64 * 100.0 / limit as f64),
            ("resident pages of a process", "% of the limit", resident as f64 * 100.0 / limit as f64),
            ("keys and values in it", "% of the limit", (kept * (len + 16)) as f64 * 100.0 / limit as f64),
            ("opened in", "ms", started),
        ] {
            let mut samples = Samples::default();
            samples.push(number);
            let case = &format!("a full cache of {name}, {len} B: {what}");
            let goal = what.contains("pages").then_some("100 %");
            report.add(&Figure {
                bench: "compare",
                case,
                procs: 1,
                unit,
                samples: &samples,
                floor: None,
                goal,
            });
        }
    }
}
