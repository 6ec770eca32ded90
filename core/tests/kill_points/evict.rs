//! Victims on caches that evict: one with a limit of bytes, one with a limit of entries, one that has what its fabric has.
//! Entries may be gone at any time; what is there must be right, and new ones must always find room.

use memora::{Cache, CacheOptions, Fabric, SetOptions};
use memora_stress::random::{Random, fnv1a};
use memora_testkit::kill_point::within_patience;

use crate::{Blow, Place, Scenario, check};

pub const SCENARIO: Scenario = Scenario {
    role: "evict",
    covers: |name| name.starts_with("table.") || name.starts_with("chunk."),
    tries: 2,
    prepare: |_| Vec::new(),
    survive,
    conclude,
};
const ENTRIES: u64 = 300;
const LIMIT: u64 = 500 << 10;

fn caches(fabric: &Fabric) -> [Cache; 3] {
    let bytes = CacheOptions { limit: Some(LIMIT), ..CacheOptions::default() };
    let entries = CacheOptions { entries: Some(ENTRIES), ..CacheOptions::default() };
    let cache = |name: &str, options: &CacheOptions| {
        fabric.cache_with(name, options).unwrap_or_else(|error| panic!("{name} does not open: {error}"))
    };
    [cache("bytes", &bytes), cache("entries", &entries), cache("rest", &CacheOptions::default())]
}

/// A value that follows from its key and turn, and tells both.
fn value(key: &str, turn: u64, len: u64) -> Vec<u8> {
    let hash = (fnv1a(key.as_bytes()) ^ turn).to_le_bytes();
    let filling = (0..len).map(|index| hash[(index % 8) as usize] ^ (index / 8) as u8);
    turn.to_le_bytes().into_iter().chain(filling).collect()
}

fn assert_right(key: &str, found: &[u8]) {
    let turn = u64::from_le_bytes(found[..8].try_into().expect("every value begins with its turn"));
    assert!(found == value(key, turn, found.len() as u64 - 8), "{key} has a wrong or torn value");
}

/// Random operations. Whoever does them finds room and right values, whatever others were doing when they died or stopped.
fn work(place: &Place, who: &str, count: u64) {
    let fabric = place.fabric();
    let caches = caches(&fabric);
    let mut random = Random::new(who);
    let expiring = SetOptions { ttl_ms: Some(1), ..SetOptions::default() };
    for turn in 0..count {
        let cache = &caches[random.draw(3) as usize];
        let key = match random.draw(4) {
            0 => format!("hot{}", random.draw(20)),
            1 => format!("warm{}", random.draw(400)),
            _ => format!("cold{}", random.draw(100_000)),
        };
        let len = match random.draw(40) {
            0 => 4000 + random.draw(30_000),
            1..=4 => random.draw(3000),
            _ => random.draw(200),
        };
        let filled = value(&key, turn, len);
        let stored = match random.draw(10) {
            0 => cache.delete(key.as_bytes()).map(|_| ()),
            1 => cache.set_with(key.as_bytes(), &filled, &expiring).map(|_| ()),
            2..=5 => cache.set(key.as_bytes(), &filled).map(|_| ()),
            6 => cache.add(key.as_bytes(), &filled, &SetOptions::default()).map(|_| ()),
            _ => cache.get(key.as_bytes()).map(|found| {
                if let Some(found) = found {
                    assert_right(&key, &found);
                }
            }),
        };
        stored.unwrap_or_else(|error| panic!("{who}: {key} of {len} bytes: {error}"));
        // Long ones are few: some of them are worth keeping.
        for _ in 0..if len > 10_000 { 3 } else { 0 } {
            if let Some(found) = cache.get(key.as_bytes()).expect("readable") {
                assert_right(&key, &found);
            }
        }
    }
}

pub fn victim(place: &Place) {
    work(place, "victim", 6000);
}

fn survive(place: &Place, blow: Blow) {
    let root = Place { root: place.root.clone() };
    within_patience("operations on caches that evict", move || {
        work(&root, &format!("survivor {blow:?}"), 2000);
    });
    check(&place.fabric(), "with the victim");
}

fn conclude(place: &Place) {
    work(place, "last", 300);
    let fabric = place.fabric();
    check(&fabric, "after the victim");
    let [bytes, entries, rest] = caches(&fabric);
    assert!(entries.len().expect("counted") <= ENTRIES);
    for object in fabric.objects().expect("listed") {
        if object.name == "bytes" {
            assert!(object.bytes <= LIMIT, "{object:?}");
        }
    }
    for cache in [bytes, entries, rest] {
        let mut cursor = 0;
        loop {
            let visit = |key: &[u8], entry: &memora::Entry| {
                assert_right(&String::from_utf8_lossy(key), &entry.value);
            };
            cursor = cache.scan(cursor, 100, visit).expect("scanned");
            if cursor == 0 {
                break;
            }
        }
    }
}
