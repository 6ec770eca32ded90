//! What is in a cache can be overwritten for ever: garbage makes nobody's write fail, whoever left it.

use std::ffi::OsStr;
use std::time::Duration;

use memora::{
    Cache, CacheOptions, ChannelKind, ChannelOptions, ErrorCode, Fabric, FabricOptions, OverrunPolicy,
    SetOptions, WhenFull,
};
use memora_testkit::process::{Worker, role, tell};
use tempfile::TempDir;

fn home() -> TempDir {
    tempfile::Builder::new().prefix("memora-test").tempdir_in("/dev/shm").expect("a temporary home")
}

fn open(home: &std::path::Path, limit: u64) -> Fabric {
    FabricOptions::new().home(home).limit(limit).open("pool").expect("a fabric")
}

/// A cache that refuses what does not fit.
fn rejecting(fabric: &Fabric, name: &str) -> Cache {
    let options = CacheOptions { when_full: WhenFull::Reject, ..CacheOptions::default() };
    fabric.cache_with(name, &options).expect("a cache")
}

fn key(number: u64) -> [u8; 16] {
    let mut key = *b"key-000000000000";
    key[8..].copy_from_slice(&number.to_be_bytes());
    key
}

/// A value that tells its key and turn in every byte's place.
fn value(number: u64, turn: u64) -> [u8; 100] {
    let mut value = [(number ^ turn) as u8; 100];
    value[..8].copy_from_slice(&number.to_le_bytes());
    value[8..16].copy_from_slice(&turn.to_le_bytes());
    value
}

fn turn_of(cache: &Cache, number: u64) -> u64 {
    let found = cache.get(&key(number)).unwrap().expect("the key is there");
    let turn = u64::from_le_bytes(found[8..16].try_into().unwrap());
    assert_eq!(found, value(number, turn), "the value is that of key {number}");
    turn
}

fn assert_sound(fabric: &Fabric) {
    let report = fabric.check().unwrap();
    assert!(report.problems.is_empty(), "{:#?}", report.problems);
}

fn torture() -> u64 {
    if std::env::var_os("MEMORA_TORTURE").is_some() { 10 } else { 1 }
}

/// Adds keys until the cache is full; how many fitted.
fn fill(cache: &Cache) -> u64 {
    for number in 0.. {
        match cache.set(&key(number), &value(number, 0)) {
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error.code(), ErrorCode::Full, "{error}");
                return number;
            }
        }
    }
    unreachable!("a cache is full some time")
}

/// A cache is filled, then emptied but for a few keys and left alone: what another cache, a channel and a third cache may
/// take is as much as if its dead records were free chunks.
#[test]
fn garbage_of_an_idle_cache_is_room_for_others() {
    for limit in [4u64 << 20, 16 << 20] {
        let home = home();
        let fabric = open(home.path(), limit);
        let idle = rejecting(&fabric, "idle");
        let all = fill(&idle);
        assert!(all * 152 > limit / 10 * 7, "{all} records of 152 bytes fill {limit} bytes");
        // Overwritten, so that its dead records are everywhere, and then most of it is deleted.
        for number in 0..all {
            idle.set(&key(number), &value(number, 1)).unwrap();
        }
        for number in (0..all).filter(|number| number % 10 != 0) {
            assert!(idle.delete(&key(number)).unwrap());
        }
        let left = all.div_ceil(10);
        let busy = rejecting(&fabric, "busy");
        let fitted = fill(&busy);
        assert!(
            // The index of the idle cache does not shrink.
            fitted + left > all / 100 * 88,
            "{fitted} new records and {left} old ones fit where {all} had been"
        );
        for turn in 1..=4 * torture() {
            for number in 0..fitted {
                busy.set(&key(number), &value(number, turn)).unwrap();
            }
        }
        for number in 0..fitted {
            assert_eq!(turn_of(&busy, number), 4 * torture());
        }
        for number in (0..all).step_by(10) {
            assert_eq!(turn_of(&idle, number), 1);
        }
        assert_sound(&fabric);
    }
}

/// A cache without a limit leaves no free chunk behind: a channel and another cache still find a row of chunks.
#[test]
fn garbage_of_a_cache_is_room_for_rings_and_control_areas() {
    let home = home();
    let fabric = open(home.path(), 4 << 20);
    let cache = rejecting(&fabric, "cache");
    let all = fill(&cache);
    for number in (0..all).filter(|number| number % 4 == 0) {
        assert!(cache.delete(&key(number)).unwrap());
    }
    let options = ChannelOptions {
        kind: ChannelKind::Stream,
        overrun: OverrunPolicy::Block,
        lane_bytes: 128 << 10,
        ..ChannelOptions::default()
    };
    let channel = fabric.channel("channel", &options).unwrap();
    let mut publisher = channel.publisher().unwrap();
    publisher.send(b"there was room").unwrap();
    let other = rejecting(&fabric, "other");
    other.set(b"key", b"value").unwrap();
    for number in (0..all).filter(|number| number % 4 != 0) {
        assert_eq!(turn_of(&cache, number), 0);
    }
    drop(publisher);
    assert_sound(&fabric);
}

/// Threads overwrite a cache that is as full as it may be.
#[test]
fn threads_overwrite_a_full_cache() {
    let home = home();
    let fabric = open(home.path(), 4 << 20);
    let cache = rejecting(&fabric, "full");
    let all = fill(&cache);
    let turns = 5 * torture();
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let cache = &cache;
            scope.spawn(move || {
                for turn in 1..=turns {
                    for number in (thread..all).step_by(4) {
                        cache.set(&key(number), &value(number, turn)).unwrap();
                    }
                }
            });
        }
    });
    for number in 0..all {
        assert_eq!(turn_of(&cache, number), turns);
    }
    let error = cache.set(&key(all + 1_000_000), &[1; 1000]).expect_err("it is full");
    assert_eq!(error.code(), ErrorCode::Full);
    assert_sound(&fabric);
}

/// Threads that come and go leave no chunk behind that nobody fills.
#[test]
fn short_threads_do_not_use_up_the_pool() {
    let home = home();
    let fabric = open(home.path(), 2 << 20);
    let cache = rejecting(&fabric, "cache");
    for number in 0..1000 {
        cache.set(&key(number), &value(number, 0)).unwrap();
    }
    for turn in 1..=400 {
        std::thread::scope(|scope| {
            scope.spawn(|| cache.set(&key(turn % 1000), &value(turn % 1000, turn)).unwrap());
        });
    }
    for turn in 1..=400 {
        assert_eq!(turn_of(&cache, turn), turn);
    }
    let fitted = fill(&rejecting(&fabric, "other"));
    assert!(fitted > 8_000, "{fitted} records fitted");
    assert_sound(&fabric);
}

/// Nearly as many as fit.
const KEYS: u64 = 18_000;

/// What a child of the next test does: three threads overwrite the same keys.
fn overwrite(cache: &Cache, first: u64, turns: u64) {
    std::thread::scope(|scope| {
        for thread in 0..3 {
            scope.spawn(move || {
                let mut at = first + thread * 1237;
                for turn in 1..=turns {
                    for _ in 0..KEYS {
                        at = (at + 2011) % KEYS;
                        if let Err(error) = cache.set(&key(at), &value(at, turn)) {
                            panic!("turn {turn}: {error}");
                        }
                    }
                }
            });
        }
    });
}

/// Two processes with three threads each overwrite a cache without a limit, for many times the size of the fabric.
#[test]
fn processes_overwrite_for_many_turnovers() {
    let turns = 10 * torture();
    if role().is_some() {
        let path = std::env::var_os("MEMORA_TEST_HOME").expect("set by the parent");
        let fabric = open(std::path::Path::new(&path), 4 << 20);
        overwrite(&rejecting(&fabric, "shared"), 1, turns);
        tell("done");
        return;
    }
    let home = home();
    let fabric = open(home.path(), 4 << 20);
    let cache = rejecting(&fabric, "shared");
    for number in 0..KEYS {
        cache.set(&key(number), &value(number, 0)).unwrap();
    }
    let mut child = Worker::spawn(
        "processes_overwrite_for_many_turnovers",
        "overwrite",
        &[("MEMORA_TEST_HOME", home.path().as_os_str() as &OsStr)],
    );
    overwrite(&cache, 0, turns);
    assert!(child.next_line("done", Duration::from_secs(300)).is_some(), "{}", child.errors());
    child.expect_success();
    fabric.reap().unwrap();
    for number in 0..KEYS {
        assert!(turn_of(&cache, number) >= 1);
    }
    assert_eq!(cache.len().unwrap(), KEYS);
    assert_sound(&fabric);
    assert_eq!(cache.add(&key(0), &value(0, 0), &SetOptions::default()).unwrap(), None, "the key is there");
}
