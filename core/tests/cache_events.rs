//! Events of a cache: each change once, in the order of its thread, from every process; losses are counted exactly.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use memora::{
    Cache, CacheOptions, ErrorCode, Event, EventKind, EventSubscriber, Fabric, FabricOptions, SetOptions,
};
use memora_testkit::process::{self, Worker, tell};

const HOME: &str = "MEMORA_TESTKIT_HOME";
const PATIENCE: Option<Duration> = Some(Duration::from_secs(30));

/// Plays the other processes; a plain run has none.
#[test]
fn entry() {
    let Some(role) = process::role() else {
        assert!(std::env::var_os(HOME).is_none());
        return;
    };
    let home = PathBuf::from(std::env::var_os(HOME).expect("the parent gives a home"));
    assert_eq!(role, "writer");
    let cache = cache(&open(&home));
    for number in 0u32.. {
        cache.set(&number.to_be_bytes(), b"value").expect("stored");
        if number == 0 {
            tell("begun");
        }
        // Kept small, so that no room is needed.
        assert!(cache.delete(&number.to_be_bytes()).expect("deleted"));
    }
}

fn home() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("memora-events-").tempdir_in("/dev/shm").expect("/dev/shm is writable")
}

fn open(home: &Path) -> Fabric {
    FabricOptions::new().home(home.to_path_buf()).limit(8 << 20).open("events").expect("opened")
}

fn cache(fabric: &Fabric) -> Cache {
    let options = CacheOptions { events: true, ..CacheOptions::default() };
    fabric.cache_with("told", &options).expect("opened")
}

#[track_caller]
fn next(events: &mut EventSubscriber) -> Event {
    events.next(PATIENCE).expect("no loss").expect("in time")
}

#[test]
fn each_change_is_told_once_in_order_with_its_key_and_version() {
    let home = home();
    let fabric = open(home.path());
    let cache = cache(&fabric);
    cache.set(b"before", b"nobody hears of it").expect("stored");
    let mut events = cache.events().expect("subscribed");
    assert_eq!(events.try_next().expect("no loss"), None);
    let options = SetOptions::default();
    let set = cache.set(b"key", b"1").expect("stored");
    let overwritten = cache.set(b"key", b"2").expect("stored");
    let added = cache.add(b"added", b"", &options).expect("stored").expect("new");
    assert_eq!(cache.add(b"added", b"", &options).expect("looked"), None);
    assert_eq!(cache.increment(b"key", 5, None).expect("counted"), Some(7));
    let counted = cache.get_entry(b"key").expect("read").expect("there").version;
    assert!(cache.delete(b"key").expect("deleted"));
    assert!(!cache.delete(b"key").expect("there is none"));
    let long = vec![7; 4096];
    let long_version = cache.set(&long, b"value").expect("stored");
    for (kind, version, key) in [
        (EventKind::Set, set.0, &b"key"[..]),
        (EventKind::Set, overwritten.0, b"key"),
        (EventKind::Set, added.0, b"added"),
        (EventKind::Set, counted.0, b"key"),
        (EventKind::Delete, 0, b"key"),
    ] {
        let event = next(&mut events);
        assert_eq!((event.kind, event.version.0, &*event.key), (kind, version, key));
        assert_eq!(event.key_len, key.len());
    }
    let event = next(&mut events);
    assert_eq!((event.kind, event.version, event.key_len), (EventKind::Set, long_version, 4096));
    assert!(event.key.len() > 1000 && long.starts_with(&event.key), "as much of the key as fits");
    assert_eq!((events.try_next().expect("no loss"), events.lost()), (None, 0));
    assert_eq!(events.next(Some(Duration::from_millis(1))).expect("no loss"), None);
}

#[test]
fn a_cache_without_events_says_so() {
    let home = home();
    let fabric = open(home.path());
    let cache = fabric.cache("untold").expect("made");
    assert_eq!(cache.events().err().map(|error| error.code()), Some(ErrorCode::Unsupported));
    assert_eq!(
        fabric.channel(".events-1", &memora::ChannelOptions::default()).err().map(|e| e.code()),
        Some(ErrorCode::InvalidName)
    );
}

#[test]
fn a_subscriber_that_is_too_slow_learns_exactly_how_many_events_it_lost() {
    let home = home();
    let fabric = open(home.path());
    let cache = cache(&fabric);
    let mut events = cache.events().expect("subscribed");
    let all = 20_000u64;
    for number in 0..all {
        cache.set(b"key", &number.to_be_bytes()).expect("stored");
    }
    let (mut got, mut lost) = (0, 0);
    loop {
        match events.try_next() {
            Ok(Some(_)) => got += 1,
            Ok(None) => break,
            Err(error) => {
                assert_eq!(error.code(), ErrorCode::Overrun);
                lost += error.amount();
            }
        }
    }
    assert!(got > 0 && lost > 0, "{got} and {lost}");
    assert_eq!((got + lost, events.lost()), (all, lost));
}

#[test]
fn events_of_threads_that_come_and_go_all_arrive() {
    let home = home();
    let fabric = open(home.path());
    let cache = cache(&fabric);
    let mut events = cache.events().expect("subscribed");
    let mut latest: HashMap<Vec<u8>, u64> = HashMap::new();
    for round in 0..40u8 {
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..3u8)
                .map(|thread| {
                    let cache = &cache;
                    scope.spawn(move || {
                        for number in 0..10u8 {
                            cache.set(&[thread], &[round, number]).expect("stored");
                        }
                    })
                })
                .collect();
            threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
        });
        for _ in 0..30 {
            let event = next(&mut events);
            assert_eq!(event.kind, EventKind::Set);
            latest.insert(event.key, event.version.0);
        }
    }
    assert_eq!(events.try_next().expect("no loss"), None);
    // Only one thread writes each key, so the last event tells what is there.
    for thread in 0..3u8 {
        let version = cache.get_entry(&[thread]).expect("read").expect("there").version;
        assert_eq!(latest[&vec![thread]], version.0);
    }
    // Closing leaves nothing behind that keeps the fabric.
    drop((events, cache));
    let inspected = open(home.path());
    drop(fabric);
    assert_eq!(inspected.stat().expect("counted").processes.len(), 1, "the publisher kept the fabric");
    assert!(inspected.check().expect("checked").problems.is_empty());
}

#[test]
fn a_killed_process_has_told_all_but_its_last_change() {
    let home = home();
    let fabric = open(home.path());
    let cache = cache(&fabric);
    for _ in 0..5 {
        let mut events = cache.events().expect("subscribed");
        let mut writer = Worker::spawn("entry", "writer", &[(HOME, home.path().as_os_str())]);
        writer.expect_line("begun");
        let mut last = None;
        let mut hear = |events: &mut EventSubscriber, timeout| match events.next(timeout) {
            Ok(Some(event)) => {
                let number = u32::from_be_bytes(event.key.as_slice().try_into().expect("a number"));
                if let Some((kind, before)) = last {
                    let follows = if kind == EventKind::Set {
                        (EventKind::Delete, before)
                    } else {
                        (EventKind::Set, before + 1)
                    };
                    assert_eq!((event.kind, number), follows);
                }
                last = Some((event.kind, number));
                true
            }
            Ok(None) => false,
            // The writer is faster: what comes next is not what follows.
            Err(error) => {
                assert_eq!(error.code(), ErrorCode::Overrun);
                last = None;
                true
            }
        };
        for _ in 0..400 {
            assert!(hear(&mut events, PATIENCE), "the writer goes on");
        }
        assert!(Worker::was_killed(writer.kill()));
        while hear(&mut events, Some(Duration::ZERO)) {}
        let (kind, told) = last.expect("there were many");
        // What is in the cache is what the events say, or one change further.
        let there: Vec<u32> = cache
            .iter()
            .map(|entry| u32::from_be_bytes(entry.expect("read").0.try_into().expect("a number")))
            .collect();
        let (as_told, one_further) =
            if kind == EventKind::Set { (vec![told], vec![]) } else { (vec![], vec![told + 1]) };
        assert!(there == as_told || there == one_further, "{there:?} after {kind:?} {told}");
        for number in there {
            cache.delete(&number.to_be_bytes()).expect("deleted");
        }
        fabric.reap().expect("reaped");
    }
    assert!(fabric.check().expect("checked").problems.is_empty());
}

#[test]
fn each_eviction_is_told_and_counted() {
    let home = home();
    let fabric =
        FabricOptions::new().home(home.path().to_path_buf()).limit(1 << 20).open("small").expect("opened");
    let cache = cache(&fabric);
    let mut events = cache.events().expect("subscribed");
    let (mut sets, mut evicted) = (0u64, 0u64);
    let mut hear = |events: &mut EventSubscriber| {
        while let Some(event) = events.try_next().expect("no loss") {
            match event.kind {
                EventKind::Set => sets += 1,
                EventKind::Evict => evicted += 1,
                other => panic!("{other:?}"),
            }
            assert_eq!(event.key.len(), 4);
        }
    };
    for number in 0u32..3000 {
        cache.set(&number.to_be_bytes(), &[7; 1000]).expect("others are evicted");
        hear(&mut events);
    }
    assert_eq!((sets, events.lost()), (3000, 0));
    assert!(evicted > 2000, "{evicted}");
    let stats = cache.stats().expect("counted");
    assert_eq!((stats.counts.sets, stats.counts.evictions()), (sets, evicted));
    assert_eq!(stats.entries, sets - evicted);
}

/// What is evicted for another object is told with the next change of the cache; when there is none, at the end.
#[test]
fn what_was_not_told_yet_is_told_when_the_fabric_is_closed_and_counted_when_it_is_dropped() {
    for close in [true, false] {
        let home = home();
        let (watching, working) = (open(home.path()), open(home.path()));
        let mut events = cache(&watching).events().expect("subscribed");
        let told = cache(&working);
        for number in 0u32..20_000 {
            told.set(&number.to_be_bytes(), &[7; 200]).expect("stored");
        }
        let evictions = || {
            let counts = cache(&watching).stats().expect("readable").counts;
            (counts.evictions() + counts.expired, counts.sets)
        };
        let hear = |events: &mut EventSubscriber| {
            let (mut removed, mut set, before) = (0, 0, events.lost());
            loop {
                match events.try_next() {
                    Ok(None) => return (removed, set, events.lost() - before),
                    Ok(Some(event)) if event.kind == EventKind::Set => set += 1,
                    Ok(Some(_)) => removed += 1,
                    Err(error) => assert_eq!(error.code(), ErrorCode::Overrun),
                }
            }
        };
        // Up to here a subscriber that slept may have lost some; from here on none may be lost.
        hear(&mut events);
        let (evicted, sets) = evictions();
        let options = CacheOptions { when_full: memora::WhenFull::Reject, ..CacheOptions::default() };
        let greedy = working.cache_with("greedy", &options).expect("made");
        let mut number = 0u32;
        while (evictions().0 - evicted) % 64 < 10 {
            greedy.set(&number.to_be_bytes(), &[7; 2000]).expect("stored: the other cache gives way");
            number += 1;
        }
        let gone = evictions().0 - evicted;
        let (first, _, _) = hear(&mut events);
        assert!(first < gone, "some are not told yet: {first} of {gone}");
        if close {
            working.close().expect("closed");
        }
        drop((told, greedy, working));
        let (rest, set, lost) = hear(&mut events);
        assert_eq!((first + rest + lost, set, evictions().1), (gone, 0, sets), "closed: {close}");
        assert_eq!(lost == 0, close);
    }
}

/// Whoever overwrites an entry that has expired tells both: that it is gone, and that there is a new one.
#[test]
fn an_expired_entry_that_is_overwritten_or_deleted_is_told_to_have_expired_once() {
    let home = home();
    let fabric = open(home.path());
    let cache = cache(&fabric);
    let mut events = cache.events().expect("subscribed");
    let short = SetOptions { ttl_ms: Some(1), flags: 0 };
    let expired = || cache.stats().expect("readable").counts.expired;
    type Change = fn(&Cache) -> bool;
    let changes: [(Change, Option<EventKind>); 5] = [
        (|cache| cache.set(b"key", b"a").is_ok(), Some(EventKind::Set)),
        (|cache| cache.set(b"key", &[7; 100]).is_ok(), Some(EventKind::Set)),
        (
            |cache| cache.add(b"key", b"a", &SetOptions::default()).is_ok_and(|version| version.is_some()),
            Some(EventKind::Set),
        ),
        (|cache| cache.increment(b"key", 1, Some(1)).is_ok(), Some(EventKind::Set)),
        (|cache| !cache.delete(b"key").expect("none is there"), None),
    ];
    for (round, (change, kind)) in changes.into_iter().enumerate() {
        let version = cache.set_with(b"key", b"short", &short).expect("stored");
        while cache.get(b"key").expect("read").is_some() {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(expired(), round as u64);
        assert!(change(&cache), "{round}");
        let first = next(&mut events);
        assert_eq!((first.kind, first.version), (EventKind::Set, version));
        if kind.is_none() {
            // What nobody asked for is told with the next change.
            cache.set(b"other", b"").expect("stored");
        }
        let second = next(&mut events);
        assert_eq!((second.kind, second.version, &*second.key), (EventKind::Expire, version, &b"key"[..]));
        assert_eq!(next(&mut events).kind, EventKind::Set, "{kind:?}");
        if kind.is_some() {
            cache.delete(b"key").expect("deleted");
            assert_eq!(next(&mut events).kind, EventKind::Delete);
        }
        assert_eq!((events.try_next().expect("no loss"), expired()), (None, round as u64 + 1));
    }
    assert_eq!(events.lost(), 0);
}
