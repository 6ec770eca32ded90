//! Victims on a cache: hot keys that collide, enough keys to split the index, enough bytes to clean chunks.

use std::time::Duration;

use memora::{Cache, CacheOptions, ErrorCode, EventKind, Fabric, Lease, SetOptions, WhenFull};
use memora_stress::kv::{Codec, KeyValue, KvClient};
use memora_stress::random::{Random, fnv1a};
use memora_testkit::kill_point::{Harm, Victim, within_patience};
use memora_testkit::process::PATIENCE;

use crate::{Blow, Place, Scenario, Versions, check, judge_kv};

pub const SCENARIO: Scenario = Scenario {
    role: "cache",
    // Whether this one evicts depends on who is scheduled: that is for the scenario of caches that do.
    covers: |name| !name.starts_with("table.evict."),
    tries: 2,
    prepare,
    survive,
    conclude,
};
const CACHE: &str = "things";

pub fn open(fabric: &Fabric) -> Cache {
    let options = CacheOptions { when_full: WhenFull::Reject, ..CacheOptions::default() };
    fabric.cache_with(CACHE, &options).unwrap_or_else(|error| panic!("the cache does not open: {error}"))
}

fn prepare(place: &Place) -> Vec<Victim> {
    let cache = open(&place.fabric());
    let mut client = client(cache, place, "first");
    let mut random = Random::new("first");
    mix(&mut client, &mut random, 50);
    Vec::new()
}

pub fn victim(place: &Place) {
    let fabric = place.fabric();
    let cache = open(&fabric);
    let mut client = client(cache.clone(), place, "victim");
    let mut random = Random::new("victim");
    for round in 0..30 {
        insert_many(&mut client, round * 100, 100);
        mix(&mut client, &mut random, 60);
        mix_long(&mut client, &mut random, 6);
        unrecorded(&cache, round);
        overwrite(&cache, round);
        operate(&kept(&fabric), round);
    }
    drop(client);
    hear(&fabric);
    fill(place);
    fabric.reap().expect("reaped");
}

/// Goes on where others died.
pub fn survivor(place: &Place, who: &str, random: &mut Random) {
    let mut client = client(open(&place.fabric()), place, who);
    mix(&mut client, random, 300);
    mix_long(&mut client, random, 30);
    insert_many(&mut client, 4000, 300);
    mix(&mut client, random, 100);
}

fn survive(place: &Place, blow: Blow) {
    let fabric = place.fabric();
    let history = Place { root: place.root.clone() };
    within_patience("operations on the cache of the victim", move || {
        survivor(&history, "survivor", &mut Random::new(&format!("survivor {blow:?}")));
    });
    let filled = Place { root: place.root.clone() };
    within_patience("the check", move || {
        check(&fabric, "with the victim");
        read_filled(&filled);
        after(&kept(&fabric), blow.harm == Harm::Freeze);
        check(&fabric, "after the operations of the survivor");
    });
}

pub fn conclude(place: &Place) {
    let fabric = place.fabric();
    let mut client = client(open(&fabric), place, "last");
    let mut random = Random::new("last");
    mix(&mut client, &mut random, 100);
    mix_long(&mut client, &mut random, 20);
    read_all(&mut client);
    check(&fabric, "after the victim");
    read_filled(place);
    after(&kept(&fabric), false);
    check(&fabric, "after the last operations");
    judge_kv(place, Versions::Unique);
}

/// Values with a filling that depends on the text: a mixture of two values is noticed.
pub const TAGGED: Codec = Codec { encode, decode };

/// `text+N` stands for the text and N bytes of filling; numbers stand for themselves.
fn encode(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    if let Some((_, len)) = text.split_once('+') {
        let len: u64 = len.parse().expect("written by this test");
        bytes.push(b'|');
        bytes.extend(filling(text, len));
    }
    bytes
}

fn filling(text: &str, len: u64) -> impl Iterator<Item = u8> {
    let hash = fnv1a(text.as_bytes()).to_le_bytes();
    (0..len).map(move |index| hash[(index % 8) as usize] ^ (index / 8) as u8)
}

fn decode(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == b'|').unwrap_or(bytes.len());
    let text = String::from_utf8_lossy(&bytes[..end]).into_owned();
    if encode(&text) == bytes { text } else { format!("torn value that begins with {text}") }
}

pub fn client<K: KeyValue>(object: K, place: &Place, name: &str) -> KvClient<K> {
    KvClient::open(object, &place.history(name), name, TAGGED).expect("the place is writable")
}

const TEXT: [&str; 12] =
    ["get", "gets", "gets", "set", "set", "set", "add", "replace", "del", "casv", "casv", "cas"];
/// For keys whose values have no filling, so that they can be put together.
const PLAIN: [&str; 8] = ["get", "gets", "set", "del", "append", "append", "prepend", "cas"];
const NUMBER: [&str; 8] = ["get", "set", "add", "incr", "incr", "decr", "del", "gets"];

/// Random operations on few keys, with values from a few bytes to several thousand.
pub fn mix<K: KeyValue>(client: &mut KvClient<K>, random: &mut Random, count: u64) {
    for number in 0..count {
        let (key, ops, bytes) = match random.draw(10) {
            0..=2 => (format!("k{}", random.draw(8)), &TEXT[..], 60),
            3 => (format!("a{}", random.draw(3)), &PLAIN[..], 1),
            4..=5 => (format!("n{}", random.draw(3)), &NUMBER[..], 0),
            6..=7 => (format!("b{}", random.draw(8)), &TEXT[..], 6000),
            _ => (format!("f{}", random.draw(3000)), &TEXT[..], 60),
        };
        step(client, random, number, &key, ops, bytes);
    }
}

/// Random operations on few keys, with values that take several chunks each.
fn mix_long<K: KeyValue>(client: &mut KvClient<K>, random: &mut Random, count: u64) {
    for number in 0..count {
        let key = format!("l{}", random.draw(3));
        step(client, random, number, &key, &TEXT, 90_000);
    }
}

/// One operation out of `ops`, with less than `bytes` of filling.
fn step<K: KeyValue>(
    client: &mut KvClient<K>,
    random: &mut Random,
    number: u64,
    key: &str,
    ops: &[&str],
    bytes: u64,
) {
    let op = ops[random.draw(ops.len() as u64) as usize];
    let mut line = client.line(op, key);
    match line.op.as_str() {
        "set" | "add" | "replace" | "casv" if bytes == 0 => line.v = Some(random.draw(100).to_string()),
        "set" | "cas" | "append" | "prepend" if bytes == 1 => line.v = Some(format!("{number:x}.")),
        "set" | "add" | "replace" | "casv" | "cas" => {
            let tag = random.draw(1 << 40);
            line.v = Some(format!("{}:{number}:{tag:x}+{}", client.name(), random.draw(bytes)));
        }
        "incr" | "decr" => line.by = Some(1 + random.draw(9)),
        _ => {}
    }
    perform(client, line);
}

/// New keys, which make the index grow.
pub fn insert_many<K: KeyValue>(client: &mut KvClient<K>, first: u64, count: u64) {
    for number in first..first + count {
        let mut line = client.line("add", &format!("f{number}"));
        line.v = Some(format!("{}:{number}+20", client.name()));
        perform(client, line);
    }
}

#[track_caller]
fn perform<K: KeyValue>(client: &mut KvClient<K>, line: memora_testkit::history::Line) {
    let shown = format!("{} {:?}", line.op, line.k);
    match client.perform(line) {
        Ok(true) => {}
        Ok(false) => panic!("{shown} was refused although there is room: {:?}", client.refusal()),
        Err(error) => panic!("{shown}: {error}"),
    }
}

/// Reads every key that the scenario knows, so that a lost or damaged value shows.
pub fn read_all<K: KeyValue>(client: &mut KvClient<K>) {
    let named = [("k", 8), ("a", 3), ("n", 3), ("b", 8), ("f", 4300)];
    for key in named.iter().flat_map(|(kind, count)| (0..*count).map(move |number| format!("{kind}{number}")))
    {
        let line = client.line("get", &key);
        perform(client, line);
    }
}

/// So many bytes that chunks are cleaned, with entries between them that must be moved and such that have expired.
fn overwrite(cache: &Cache, round: u64) {
    let expiring = SetOptions { ttl_ms: Some(1), ..SetOptions::default() };
    for number in 0..30 {
        cache.set(b"overwritten", &vec![round as u8; 7000]).expect("stored");
        cache.set_with(format!("e{round}.{number}").as_bytes(), b"expired", &expiring).expect("stored");
        // One in each chunk stays: it must be moved before the chunk can be used again.
        cache.set(format!("s{round}.{number}").as_bytes(), b"stays").expect("stored");
    }
    for number in 0..30 {
        let key = format!("s{}.{number}", round / 2);
        assert_eq!(cache.get(key.as_bytes()).expect("read").as_deref(), Some(&b"stays"[..]), "{key}");
    }
    assert_eq!(cache.get(b"overwritten").expect("read").as_deref(), Some(&[round as u8; 7000][..]));
}

/// Fills a fabric with live entries, until the room is used that threads left in their chunks: too little to be worth cleaning.
fn fill(place: &Place) {
    let fabric = place.tight();
    let cache = open(&fabric);
    for number in 0..3 {
        let cache = cache.clone();
        std::thread::spawn(move || {
            for part in ["a", "b"] {
                store_filled(&cache, &format!("left{number}{part}:6500")).expect("there is room");
            }
        })
        .join()
        .expect("no panic");
    }
    let mut stored = 6;
    for len in [7000, 1900] {
        let refused = loop {
            match store_filled(&cache, &format!("n{stored}:{len}")) {
                Ok(_) => stored += 1,
                Err(error) => break error,
            }
            assert!(stored < 2000, "a fabric of 1 MiB takes no end of entries");
        };
        assert_eq!(refused.code(), ErrorCode::Full, "{refused}");
    }
    assert!(read_filled(place) >= stored);
    make_rows(&cache, stored);
}

/// Long values in a fabric whose chunks all hold something: what is live must be moved out of their way.
fn make_rows(cache: &Cache, stored: usize) {
    for number in (6..stored).filter(|number| number % 8 != 0) {
        for len in [7000, 1900] {
            cache.delete(format!("n{number}:{len}").as_bytes()).expect("deleted");
        }
    }
    for key in ["long:100000", "longer:150000", "long:100000"] {
        store_filled(cache, key).expect("there is room in a row");
    }
}

/// Stores a value that follows from the key, which ends with the length.
fn store_filled(cache: &Cache, key: &str) -> memora::Result<memora::Version> {
    cache.set(key.as_bytes(), &filled(key))
}

fn filled(key: &str) -> Vec<u8> {
    let len = key.rsplit(':').next().and_then(|len| len.parse().ok()).expect("a key of this test");
    filling(key, len).collect()
}

/// Whatever is in the full fabric is whole. Answers how many entries there are.
fn read_filled(place: &Place) -> usize {
    let fabric = place.tight();
    let mut count = 0;
    let cache = open(&fabric);
    let mut cursor = 0;
    loop {
        let visit = |key: &[u8], entry: &memora::Entry| {
            let key = String::from_utf8_lossy(key);
            assert!(entry.value == filled(&key), "{key} is torn");
            count += 1;
        };
        cursor = cache.scan(cursor, 100, visit).expect("scanned");
        if cursor == 0 {
            break;
        }
    }
    check(&fabric, "the full fabric");
    count
}

/// What no history describes: times to live, scans, batches, statistics.
fn unrecorded(cache: &Cache, round: u64) {
    let options = SetOptions { ttl_ms: Some(1), ..SetOptions::default() };
    let key = format!("t{}", round % 5);
    if let Some(value) = cache.get(key.as_bytes()).expect("read") {
        assert_eq!(value, b"short-lived");
    }
    cache.set_with(key.as_bytes(), b"short-lived", &options).expect("stored");
    let mut cursor = 0;
    let mut seen = 0;
    loop {
        cursor = cache.scan(cursor, 100, |_, _| seen += 1).expect("scanned");
        if cursor == 0 {
            break;
        }
    }
    assert!(seen > 0, "a scan finds the keys of this victim");
    let keys: Vec<String> = (0..20).map(|number| format!("f{}", round * 100 + number)).collect();
    let keys: Vec<&[u8]> = keys.iter().map(|key| key.as_bytes()).collect();
    let mut found = 0;
    cache.get_many(&keys, |_, value| found += usize::from(value.is_some())).expect("read");
    assert!(found <= keys.len());
    assert!(cache.len().expect("counted") > 0);
    look(cache, &keys);
    cache.stats().expect("counted");
}

/// Views, of which some are of one chunk, while their entries are replaced; and so many reads that some are sampled.
fn look(cache: &Cache, keys: &[&[u8]]) {
    for number in 0..3000 {
        cache.get(format!("f{number}").as_bytes()).expect("read");
    }
    let look = |key: &&[u8]| cache.view(key).expect("read");
    let views: Vec<memora::View> = keys.iter().filter_map(look).collect();
    let values: Vec<Vec<u8>> = views.iter().map(|view| view.to_vec().expect("read")).collect();
    for number in 0..20 {
        cache.set(b"overwritten", &[number; 7000]).expect("stored");
    }
    for (view, value) in views.iter().zip(&values) {
        assert!(view.to_vec().expect("read") == *value, "a view changed");
    }
}

/// A cache that tells what changes.
fn hear(fabric: &Fabric) {
    let options = memora::CacheOptions { events: true, ..memora::CacheOptions::default() };
    let cache = fabric.cache_with("told", &options).expect("opened");
    let mut events = cache.events().expect("subscribed");
    for number in 0..20u8 {
        let version = cache.set(&[number % 3], &[number]).expect("stored");
        // In a full fabric this cache gives way to others, and tells that as well.
        let event = loop {
            let event = events.next(None).expect("no loss").expect("told");
            if event.kind == EventKind::Set {
                break event;
            }
            assert_eq!(event.kind, EventKind::Evict);
        };
        assert_eq!((event.version, &*event.key), (version, &[number % 3][..]));
    }
}

/// A cache of its own for what no history describes and what empties a cache.
fn kept(fabric: &Fabric) -> Cache {
    let options = CacheOptions { when_full: WhenFull::Reject, ..CacheOptions::default() };
    fabric.cache_with("kept", &options).expect("a cache")
}

/// Entries of a round, of which the last one says that they are all there.
const PARTS: u64 = 12;
/// Keys whose values are computed.
const COMPUTED: u64 = 4;

/// Leases, stale entries, touching, and emptying the cache. Others may empty it while this one is frozen.
fn operate(cache: &Cache, round: u64) {
    let plain = SetOptions::default();
    let begun = cache.set(b"complete", b"begun").expect("stored");
    for number in 0..PARTS {
        cache.set(format!("part {number}").as_bytes(), &round.to_le_bytes()).expect("stored");
    }
    cache.touch(b"complete", Some(3_600_000)).expect("touched");
    // Fails if it was emptied since: then the parts are not all there.
    cache.compare_and_swap(b"complete", b"done", begun, &plain).expect("compared");
    for number in 0..COMPUTED {
        let key = format!("computed {number}");
        let compute = || Ok(filled(&format!("{key}:300")));
        let value = cache.get_or_compute(key.as_bytes(), &plain, PATIENCE, compute).expect("a value");
        assert_eq!(value, filled(&format!("{key}:300")));
        cache.invalidate(key.as_bytes(), None).expect("marked");
        if round.is_multiple_of(2)
            && let Some(seen) = cache.get_meta(key.as_bytes(), None).expect("read")
        {
            assert!(!(seen.won && seen.taken));
        }
        cache.get_and_delete(key.as_bytes()).expect("deleted");
    }
    if let Lease::Compute(token) = cache.lease(b"given up", PATIENCE).expect("nobody computes") {
        cache.abandon(token).expect("given up");
    }
    is_complete(cache);
    cache.flush().expect("emptied");
    assert_eq!(cache.get(b"complete").expect("read"), None);
}

/// A flush is done or not done: either everything of a round is there or the mark of the round is gone.
fn is_complete(cache: &Cache) {
    if cache.get(b"complete").expect("read").as_deref() == Some(b"done") {
        for number in 0..PARTS {
            let part = cache.get(format!("part {number}").as_bytes()).expect("read");
            // It may be emptied just now, by one who was frozen until now.
            let still = cache.get(b"complete").expect("read").is_some();
            assert!(part.is_some() || !still, "part {number} is gone and the mark is not");
        }
    }
}

/// What a victim leaves of these: a flush that is done or not done, and leases that the next one takes over.
fn after(cache: &Cache, frozen: bool) {
    is_complete(cache);
    for number in 0..COMPUTED {
        let key = format!("computed {number}");
        let wait = if frozen { Duration::from_millis(1) } else { PATIENCE };
        let compute = || Ok(filled(&format!("{key}:300")));
        match cache.get_or_compute(key.as_bytes(), &SetOptions::default(), wait, compute) {
            Ok(value) => assert_eq!(value, filled(&format!("{key}:300"))),
            Err(error) => assert!(frozen && error.code() == ErrorCode::TimedOut, "{error}"),
        }
    }
    cache.set(b"complete", b"begun").expect("stored");
    for number in 0..PARTS {
        cache.set(format!("part {number}").as_bytes(), b"before").expect("stored");
    }
    cache.flush().expect("emptied");
    assert_eq!(cache.get(b"complete").expect("read"), None);
    assert_eq!(cache.iter().count(), 0, "everything is gone");
    cache.set(b"part 0", b"after").expect("stored");
    assert_eq!(cache.get(b"part 0").expect("read").as_deref(), Some(&b"after"[..]));
}
