//! Values that need many chunks in a row, in a fabric that is full of what caches hold that evict.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use memora::{Cache, Fabric, FabricOptions};
use memora_testkit::kill_point::torture;
use tempfile::TempDir;

const MIB: usize = 1 << 20;

fn home() -> TempDir {
    tempfile::Builder::new().prefix("memora-test").tempdir_in("/dev/shm").expect("a temporary home")
}

fn open(home: &TempDir) -> Fabric {
    FabricOptions::new().home(home.path()).limit(16 << 20).open("long").expect("a fabric")
}

/// Short entries until the cache has evicted some.
fn fill(cache: &Cache) {
    for number in 0u64.. {
        cache.set(&number.to_be_bytes(), &[number as u8; 100]).expect("what evicts is never full");
        if number % 1000 == 0 {
            let counts = cache.stats().expect("readable").counts;
            if counts.evicted_small + counts.evicted_main > 0 {
                return;
            }
        }
    }
}

/// A value that tells its length and number in every place.
fn value(len: usize, number: u64) -> Vec<u8> {
    let word = ((len as u64) << 32) | number;
    let mut value: Vec<u8> = (0..len as u64 / 8 + 1).flat_map(|at| (word ^ at).to_le_bytes()).collect();
    value.truncate(len);
    value
}

fn assert_sound(fabric: &Fabric) {
    let report = fabric.check().expect("checked");
    assert!(report.problems.is_empty(), "{:#?}", report.problems);
}

/// One value after the other, each as long as a quarter of the fabric at most.
#[test]
fn long_values_come_into_a_fabric_that_is_full_of_short_ones() {
    let home = home();
    let fabric = open(&home);
    let (cache, other) = (fabric.cache("cache").unwrap(), fabric.cache("other").unwrap());
    fill(&other);
    fill(&cache);
    for number in 0..40 * torture() {
        let len = MIB + (number as usize * 977 % 3000) * 1024;
        let (key, value) = (format!("long {}", number % 7), value(len, number));
        cache
            .set(key.as_bytes(), &value)
            .unwrap_or_else(|error| panic!("value {number} of {len} bytes: {error}"));
        assert_eq!(
            cache.get(key.as_bytes()).unwrap().as_deref(),
            Some(&value[..]),
            "what was just set is there"
        );
        // Short ones come in between, so that the next long one finds everything in use again.
        for short in 0..500 {
            other.set(format!("{number} {short}").as_bytes(), &[1; 100]).unwrap();
        }
    }
    assert_sound(&fabric);
}

/// Threads that set long values, while others set short ones in the same cache and in one beside it.
#[test]
fn threads_set_long_values_while_others_set_short_ones() {
    let home = home();
    let fabric = open(&home);
    let (cache, other) = (fabric.cache("cache").unwrap(), fabric.cache("other").unwrap());
    fill(&other);
    fill(&cache);
    let (done, hits) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for (cache, thread) in [(&cache, 0), (&other, 1)] {
            let done = &done;
            scope.spawn(move || {
                for number in 0u64.. {
                    if done.load(Ordering::Relaxed) {
                        return;
                    }
                    let key = ((thread << 32) | (number % 100_000)).to_be_bytes();
                    cache
                        .set(&key, &[7; 100])
                        .unwrap_or_else(|error| panic!("short value {number}: {error}"));
                }
            });
        }
        let long: Vec<_> = (0..3u64)
            .map(|thread| {
                let (cache, hits) = (&cache, &hits);
                scope.spawn(move || {
                    for number in 0..30 * torture() {
                        let len = MIB + ((thread + number * 7) as usize * 977 % 2000) * 1024;
                        let (key, value) = (format!("long {thread}"), value(len, number));
                        cache
                            .set(key.as_bytes(), &value)
                            .unwrap_or_else(|error| panic!("value {number} of {len} bytes: {error}"));
                        // Others may have needed its room, but it is never another one.
                        if let Some(found) = cache.get(key.as_bytes()).unwrap() {
                            assert!(found == value, "{len} bytes, number {number}");
                            hits.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                })
            })
            .collect();
        let ended: Vec<_> = long.into_iter().map(|thread| thread.join()).collect();
        done.store(true, Ordering::Relaxed);
        for thread in ended {
            thread.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    });
    let hits = hits.into_inner();
    assert!(hits > 45 * torture(), "{hits} of {} values were still there at once", 90 * torture());
    assert_sound(&fabric);
}
