//! The cache in one process: reading, reading many, overwriting; tables that fit the processor's caches and that do not.
//! The floor is what the layout cannot avoid: two dependent loads from shared memory of the same size, and the copy of the
//! value. For overwriting, whose compare-and-swap lets nothing pass, it is taken of accesses that do not overlap.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use memora::shm::atomic::{AtomicU64, Ordering};
use memora::shm::{HUGE_PAGE, Shm};
use memora::{Cache, Create, FabricOptions};

use crate::harness::{Case, Figure, Random, Report, interleave};

const VALUE: [u8; 100] = [7; 100];
/// Bytes of a record, and of a bucket with four keys in it.
const RECORD: u64 = 144;
const BUCKET: u64 = 64;
const KEYS_IN_BUCKET: u64 = 4;
const BATCH: usize = 64;

fn key(number: u64) -> [u8; 16] {
    let mut key = *b"key-000000000000";
    key[8..].copy_from_slice(&number.to_be_bytes());
    key
}

/// Shared memory of the size of the cache's, in huge pages where it has them, and the numbers of records in buckets.
struct Floor {
    shm: Shm,
    keys: u64,
}

impl Floor {
    fn new(home: &Path, keys: u64) -> Floor {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(true).open(home.join("floor"));
        let file = file.expect("a file beside the fabric");
        let len = (keys / KEYS_IN_BUCKET * BUCKET + keys * RECORD).next_multiple_of(HUGE_PAGE);
        file.set_len(len).expect("room");
        let shm = Shm::map_file(&file, len, true).expect("mapped");
        for start in (0..len).step_by(HUGE_PAGE as usize) {
            // The kernel makes no huge page out of nothing; where it makes none, the stores below make small ones.
            file.write_all_at(&[0], start).expect("room");
            shm.collapse(start);
        }
        let mut random = Random(3);
        let records = Floor { shm, keys };
        for key in 0..keys {
            records.slot(key, |slot| slot.store(random.below(keys), Ordering::Relaxed));
            records.shm.span(records.record(key), RECORD).expect("inside").zero(0, RECORD).expect("inside");
        }
        records
    }

    fn record(&self, number: u64) -> u64 {
        self.keys / KEYS_IN_BUCKET * BUCKET + number * RECORD
    }

    #[inline(always)]
    fn slot<T>(&self, key: u64, with: impl FnOnce(&AtomicU64) -> T) -> T {
        let bucket = self.shm.span(key / KEYS_IN_BUCKET * BUCKET, BUCKET).expect("inside");
        with(bucket.u64(key % KEYS_IN_BUCKET * 8).expect("inside"))
    }

    /// Nanoseconds of a load that gives the place of a record, and the copy of 100 bytes from there. What one access waits for
    /// the processor overlaps with the next, unless each is to be over before the next begins (`alone`): so it is with writes,
    /// for the compare-and-swap that publishes a record lets nothing pass.
    fn run(&self, random: &mut Random, times: u32, alone: bool) -> f64 {
        let mut value = [0u8; VALUE.len()];
        let mut sum = 0u64;
        let start = Instant::now();
        for _ in 0..times {
            let place = if alone {
                (random.below(self.keys) + (sum & 1)) % self.keys
            } else {
                random.below(self.keys)
            };
            let number = self.slot(place, |slot| slot.load(Ordering::Relaxed));
            self.shm
                .span(self.record(number), RECORD)
                .and_then(|record| record.copy_out(0, &mut value))
                .expect("inside");
            sum += u64::from(std::hint::black_box(&value)[0]);
        }
        std::hint::black_box(sum);
        start.elapsed().as_nanos() as f64 / f64::from(times)
    }
}

fn get_many(cache: &Cache, random: &mut Random, keys: u64, times: u32) -> f64 {
    let mut names = [[0u8; 16]; BATCH];
    let mut found = 0usize;
    let start = Instant::now();
    for _ in 0..times / BATCH as u32 {
        names.iter_mut().for_each(|name| *name = key(random.below(keys)));
        let wanted: [&[u8]; BATCH] = std::array::from_fn(|place| &names[place][..]);
        cache.get_many(&wanted, |_, value| found += value.map_or(0, <[u8]>::len)).expect("get_many");
    }
    let elapsed = start.elapsed().as_nanos() as f64;
    let read = times / BATCH as u32 * BATCH as u32;
    assert_eq!(found, read as usize * VALUE.len());
    elapsed / f64::from(read)
}

/// Runs all cases.
pub fn run(report: &Report) {
    let goals = [["35 ns", "75 ns", "60 ns"], ["130 ns", "75 ns", "230 ns"]];
    let names = [
        ["get 10k 16B/100B", "get_many 10k 16B/100B, per key", "overwrite 10k 16B/100B"],
        ["get uniform 1M 16B/100B", "get_many uniform 1M 16B/100B, per key", "overwrite uniform 1M 16B/100B"],
    ];
    for (size, (keys, limit)) in [(10_000u64, 64u64 << 20), (1_000_000, 512 << 20)].into_iter().enumerate() {
        let home = std::path::PathBuf::from(format!("/dev/shm/memora-bench-{}", std::process::id()));
        let options = FabricOptions::new().home(home.clone()).limit(limit).create(Create::CreateNew);
        let fabric = options.open("bench-cache").expect("a fabric");
        let cache = fabric.cache("bench").expect("a cache");
        for number in 0..keys {
            cache.set(&key(number), &VALUE).expect("set");
        }
        let (mut random, mut random_alone) = (Random(3), Random(11));
        let floor = Floor::new(&home, keys);
        let (mut reads, mut many, mut writes) = (Random(5), Random(7), Random(9));
        let mut buffer = [0; 128];
        const TIMES: u32 = 400_000;
        let mut cases: Vec<Case<'_>> = vec![
            ("floor", Box::new(|| floor.run(&mut random, TIMES, false))),
            ("floor, one after the other", Box::new(|| floor.run(&mut random_alone, TIMES, true))),
            (
                names[size][0],
                Box::new(|| {
                    let start = Instant::now();
                    for _ in 0..TIMES {
                        let found = cache.get_into(&key(reads.below(keys)), &mut buffer).expect("get");
                        assert_eq!(found, Some(VALUE.len()));
                    }
                    start.elapsed().as_nanos() as f64 / f64::from(TIMES)
                }),
            ),
            (names[size][1], Box::new(|| get_many(&cache, &mut many, keys, TIMES))),
            (
                names[size][2],
                Box::new(|| {
                    let start = Instant::now();
                    for _ in 0..TIMES {
                        cache.set(&key(writes.below(keys)), &VALUE).expect("set");
                    }
                    start.elapsed().as_nanos() as f64 / f64::from(TIMES)
                }),
            ),
        ];
        let samples = interleave(5, &mut cases);
        drop(cases);
        let together = ("two dependent loads and the copy", samples[0].median());
        let alone = ("the same, each over before the next begins", samples[1].median());
        for (place, case) in names[size].iter().enumerate() {
            report.add(&Figure {
                bench: "cache",
                case,
                procs: 1,
                unit: "ns/op",
                samples: &samples[place + 2],
                floor: Some(if place < 2 { together } else { alone }),
                goal: Some(goals[size][place]),
            });
        }
        drop((cache, fabric));
        let _ = std::fs::remove_dir_all(&home);
    }
}
