//! What is counted about a cache: exactly, by all processes, also those that are gone.

use std::path::{Path, PathBuf};

use memora::{Cache, CacheCounts, Fabric, FabricOptions, SetOptions};
use memora_testkit::process::{self, Worker, tell};

const HOME: &str = "MEMORA_TESTKIT_HOME";

/// Plays the other processes; a plain run has none.
#[test]
fn entry() {
    let Some(role) = process::role() else {
        assert!(std::env::var_os(HOME).is_none());
        return;
    };
    let home = PathBuf::from(std::env::var_os(HOME).expect("the parent gives a home"));
    assert_eq!(role, "worker");
    let fabric = open(&home);
    work(&fabric.cache("cache").expect("opened"), "worker");
    tell("done");
    // Stays until it is killed.
    loop {
        std::thread::park();
    }
}

fn home() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("memora-stats-").tempdir_in("/dev/shm").expect("/dev/shm is writable")
}

fn open(home: &Path) -> Fabric {
    FabricOptions::new().home(home.to_path_buf()).limit(4 << 20).open("stats").expect("opened")
}

/// 30 sets, 10 deletes, 50 hits, 25 misses.
fn work(cache: &Cache, who: &str) {
    let key = |number: u32| format!("{who} {number}").into_bytes();
    for number in 0..20 {
        cache.set(&key(number), b"value").expect("stored");
    }
    for number in 0..10 {
        cache.set(&key(number), b"other").expect("stored");
        assert!(cache.delete(&key(number)).expect("deleted"));
        assert!(!cache.delete(&key(number)).expect("there is none"));
    }
    for round in 0..4 {
        for number in 10..20 {
            let key = key(number);
            let found = match round {
                0 => cache.get(&key).expect("read").is_some(),
                1 => cache.get_entry(&key).expect("read").is_some(),
                2 => cache.view(&key).expect("read").is_some(),
                _ => cache.get_into(&key, &mut [0; 16]).expect("read").is_some(),
            };
            assert!(found);
        }
    }
    let keys: Vec<Vec<u8>> = (0..20).map(key).collect();
    let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    cache.get_many(&keys, |number, value| assert_eq!(value.is_some(), number >= 10)).expect("read");
    for number in 0..5 {
        assert!(cache.get(&key(number)).expect("read").is_none());
        assert!(cache.get_entry(&key(number)).expect("read").is_none());
        assert!(cache.view(&key(number)).expect("read").is_none());
    }
}

const WORK: CacheCounts = CacheCounts {
    hits: 50,
    misses: 25,
    sets: 30,
    deletes: 10,
    evicted_small: 0,
    evicted_main: 0,
    expired: 0,
    flushed: 0,
};

fn times(counts: CacheCounts, by: u64) -> CacheCounts {
    CacheCounts {
        hits: counts.hits * by,
        misses: counts.misses * by,
        sets: counts.sets * by,
        deletes: counts.deletes * by,
        ..counts
    }
}

fn counts(cache: &Cache) -> CacheCounts {
    cache.stats().expect("counted").counts
}

#[test]
fn threads_that_ended_are_counted_for_the_cache_and_those_that_live_for_their_process() {
    let home = home();
    let fabric = open(home.path());
    let cache = fabric.cache("cache").expect("made");
    assert_eq!(counts(&cache), CacheCounts::default());
    assert_eq!(counts(&cache).hit_ratio(), None);
    // More threads than there are entries, one after the other, so that entries are used again.
    let threads = 300;
    for number in 0..threads {
        std::thread::scope(|scope| {
            // Joined, it has left its entry as well.
            scope.spawn(|| work(&cache, &format!("thread {}", number % 7))).join().expect("no panic");
        });
    }
    work(&cache, "main");
    assert_eq!(counts(&cache), times(WORK, threads + 1));
    let ratio = counts(&cache).hit_ratio().expect("it was read");
    assert!((ratio - 2.0 / 3.0).abs() < 1e-9);
    let processes = cache.process_counts().expect("counted");
    let [ours] = processes.as_slice() else { panic!("one process: {processes:#?}") };
    assert_eq!((ours.process.pid, ours.counts), (std::process::id(), WORK), "only the main thread lives");
    let stats = cache.stats().expect("counted");
    assert_eq!(stats.chunks.open + stats.chunks.sealed + stats.chunks.cleaning, stats.record_chunks);
    assert_eq!((stats.evicted_small_age_ms, stats.evicted_main_age_ms), (None, None));
}

#[test]
fn a_thread_that_only_reads_is_counted() {
    let home = home();
    let fabric = open(home.path());
    let cache = fabric.cache("cache").expect("made");
    cache.set_with(b"key", b"value", &SetOptions::default()).expect("stored");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..1000 {
                    assert!(cache.get(b"key").expect("read").is_some());
                }
            });
        }
    });
    assert_eq!(counts(&cache), CacheCounts { hits: 4000, sets: 1, ..CacheCounts::default() });
}

#[test]
fn reading_goes_on_uncounted_where_no_entry_is_left_for_a_thread_and_where_nothing_may_be_written() {
    let home = home();
    let fabric = open(home.path());
    let cache = fabric.cache("cache").expect("made");
    cache.set(b"key", b"value").expect("stored");
    // Each holds an entry until all are there.
    let threads = 300;
    let barrier = std::sync::Barrier::new(threads);
    let written: usize = std::thread::scope(|scope| {
        let write = || {
            let written = cache.set(b"key", b"value").is_ok();
            for _ in 0..10 {
                assert_eq!(cache.get(b"key").expect("read").as_deref(), Some(&b"value"[..]));
            }
            barrier.wait();
            usize::from(written)
        };
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(write)).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
    });
    assert!(written > 50 && written < threads, "{written}");
    assert_eq!(counts(&cache).sets as usize, written + 1);
    assert!(counts(&cache).hits as usize >= written * 10);
    let reader = FabricOptions::new().home(home.path().to_path_buf()).read_only(true).open("stats");
    let reader = reader.expect("opened").cache("cache").expect("opened");
    let before = counts(&reader);
    assert!(reader.get(b"key").expect("read").is_some());
    assert_eq!(counts(&reader), before);
}

#[test]
fn what_a_killed_process_did_stays_counted() {
    let home = home();
    let fabric = open(home.path());
    let cache = fabric.cache("cache").expect("made");
    work(&cache, "main");
    let mut worker = Worker::spawn("entry", "worker", &[(HOME, home.path().as_os_str())]);
    worker.expect_line("done");
    assert_eq!(counts(&cache), times(WORK, 2));
    let of = |pid: u32| {
        let processes = cache.process_counts().expect("counted");
        processes.into_iter().find(|process| process.process.pid == pid).map(|process| process.counts)
    };
    assert_eq!(of(worker.pid()), Some(WORK));
    assert_eq!(of(std::process::id()), Some(WORK));
    let pid = worker.pid();
    assert!(Worker::was_killed(worker.kill()));
    assert_eq!(counts(&cache), times(WORK, 2));
    fabric.reap().expect("reaped");
    assert_eq!((of(pid), counts(&cache)), (None, times(WORK, 2)));
    // The entry of the dead one is used again, and counts from there.
    std::thread::scope(|scope| {
        scope.spawn(|| work(&cache, "another")).join().expect("no panic");
    });
    assert_eq!(counts(&cache), times(WORK, 3));
    assert!(fabric.check().expect("checked").problems.is_empty());
}
