//! Snapshots of stores: one moment of everything, however long one reads, whoever writes meanwhile, and whoever is killed or
//! stopped; and what they cost is bounded.
//!
//! `MEMORA_TORTURE=N` makes it longer.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use memora::{
    Direction, Durability, Entry, ErrorCode, Fabric, FabricOptions, Result, SetOptions, Snapshot,
    SnapshotLimits, Store, StoreOptions, Transaction,
};
use memora_stress::random::Random;
use memora_testkit::crew::Crew;
use memora_testkit::kill_point::torture;
use memora_testkit::process::{self, Worker};

const HOME: &str = "MEMORA_SNAPSHOTS_HOME";
const FABRIC: &str = "snapshots";
const ACCOUNTS: u64 = 40;
const START: u64 = 10;

fn fabric(home: &Path) -> Fabric {
    let options = FabricOptions::new().home(home.join("home")).limit(8 << 20);
    options.open(FABRIC).unwrap_or_else(|error| panic!("the fabric does not open: {error}"))
}

/// With files or without, with keys in order or not.
fn open(fabric: &Fabric, home: &Path, name: &str) -> Store {
    let files = name.starts_with("files");
    let options = StoreOptions {
        dir: files.then(|| home.join(name)),
        durability: if files { Durability::Async { interval_ms: 3 } } else { Durability::Process },
        checkpoint_bytes: 256 << 10,
        ordered: Some(name.ends_with("ordered")),
        ..StoreOptions::default()
    };
    fabric.store(name, &options).unwrap_or_else(|error| panic!("the store does not open: {error}"))
}

const STORES: [&str; 4] = ["files", "memory", "files-ordered", "memory-ordered"];

fn in_place(run: impl Fn(&Fabric, &Store, &str)) {
    for name in STORES {
        let dir = tempfile::Builder::new().prefix("memora-snap-").tempdir_in("/dev/shm").expect("writable");
        let fabric = fabric(dir.path());
        let store = open(&fabric, dir.path(), name);
        run(&fabric, &store, name);
        drop(store);
        check(&fabric);
    }
}

fn check(fabric: &Fabric) {
    fabric.reap().expect("reaped");
    let report = fabric.check().expect("checked");
    assert!(report.problems.is_empty(), "{:#?}", report.problems);
}

/// All that a snapshot has, by a scan; each key once.
fn scanned(snapshot: &Snapshot) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let (mut all, mut cursor) = (BTreeMap::new(), 0);
    loop {
        let visit = |key: &[u8], entry: &Entry| {
            assert!(all.insert(key.to_vec(), entry.value.clone()).is_none(), "{key:?} came twice");
        };
        cursor = snapshot.scan(cursor, 7, visit)?;
        if cursor == 0 {
            return Ok(all);
        }
    }
}

fn ranged(snapshot: &Snapshot, direction: Direction) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let (mut all, mut last) = (BTreeMap::new(), None::<Vec<u8>>);
    loop {
        let bound = last.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let (from, to) = match direction {
            Direction::Forward => (bound, Bound::Unbounded),
            Direction::Backward => (Bound::Unbounded, bound),
        };
        last = snapshot.range(from, to, direction, 7, |key, entry| {
            assert!(all.insert(key.to_vec(), entry.value.clone()).is_none(), "{key:?} came twice");
        })?;
        if last.is_none() {
            return Ok(all);
        }
    }
}

fn account(number: u64) -> Vec<u8> {
    format!("account {number:02}").into_bytes()
}

fn number(value: Option<Vec<u8>>) -> u64 {
    value.map_or(0, |value| String::from_utf8(value).expect("text").parse().expect("a number"))
}

/// An account without money has no entry.
fn put(transaction: &mut Transaction, key: &[u8], amount: u64) -> Result<()> {
    match amount {
        0 => transaction.delete(key).map(drop),
        _ => transaction.put(key, amount.to_string().as_bytes()),
    }
}

fn open_accounts(store: &Store) {
    let all = |transaction: &mut Transaction| {
        (0..ACCOUNTS).try_for_each(|of| transaction.put(&account(of), START.to_string().as_bytes()))
    };
    store.transact(all).expect("opened");
}

fn transfer(store: &Store, random: &mut Random) {
    let (from, step) = (random.draw(ACCOUNTS), 1 + random.draw(ACCOUNTS - 1));
    let (from, to) = (account(from), account((from + step) % ACCOUNTS));
    let most = random.draw(START + 5);
    store
        .transact(|transaction| {
            let (balance, other) = (number(transaction.get(&from)?), number(transaction.get(&to)?));
            let amount = most.min(balance);
            put(transaction, &from, balance - amount)?;
            put(transaction, &to, other + amount)
        })
        .unwrap_or_else(|error| panic!("cannot transfer: {error}"));
}

fn sum(all: &BTreeMap<Vec<u8>, Vec<u8>>) -> u64 {
    let accounts = all.iter().filter(|(key, _)| key.starts_with(b"account"));
    accounts.map(|(_, value)| number(Some(value.clone()))).sum()
}

/// Plain writes in an order that every moment shows: the second key never is ahead of the first. Each tenth time both are deleted.
fn step(store: &Store, who: &str, round: u64) {
    for part in ["a", "b"] {
        let key = format!("step {who} {part}");
        match round % 10 {
            9 => drop(store.delete(key.as_bytes()).expect("deleted")),
            _ => drop(store.set(key.as_bytes(), round.to_string().as_bytes()).expect("set")),
        }
    }
}

/// Reads a snapshot in every way, twice. What is wrong is told.
fn judge(store: &Store, ordered: bool, pause: Duration) -> Result<()> {
    let snapshot = store.snapshot()?;
    let first = scanned(&snapshot)?;
    assert_eq!(sum(&first), ACCOUNTS * START, "by a scan");
    for (key, value) in &first {
        let Some(who) = key.strip_suffix(b" b") else { continue };
        let before = number(first.get(&[who, b" a"].concat()).cloned());
        let round = number(Some(value.clone()));
        // The first key may be one round ahead, or deleted in the ninth.
        assert!(
            before == round || before == round + 1 || (before == 0 && round % 10 == 8),
            "{}: {before} and {round}",
            String::from_utf8_lossy(key)
        );
    }
    std::thread::sleep(pause);
    let mut total = 0;
    for of in 0..ACCOUNTS {
        let value = snapshot.get(&account(of))?;
        assert_eq!(value, first.get(&account(of)).cloned(), "account {of} by its key");
        total += number(value);
    }
    assert_eq!(total, ACCOUNTS * START, "by keys");
    if ordered {
        assert_eq!(ranged(&snapshot, Direction::Forward)?, first, "by a range");
        assert_eq!(ranged(&snapshot, Direction::Backward)?, first, "by a range backwards");
    }
    assert_eq!(scanned(&snapshot)?, first, "by a scan once more");
    Ok(())
}

#[test]
fn a_snapshot_stays_as_it_was_whatever_is_done_to_its_keys() {
    in_place(|_, store, name| {
        for number in 0..200u32 {
            store.set(format!("k{number:03}").as_bytes(), &number.to_le_bytes()).expect("set");
        }
        store.set_with(b"short", b"lived", &SetOptions { ttl_ms: Some(50), flags: 7 }).expect("set");
        store.delete(b"k199").expect("deleted");
        let snapshot = store.snapshot().expect("taken");
        let before = scanned(&snapshot).expect("read");
        assert_eq!(before.len(), 200, "{name}");
        let version = snapshot.version(b"k000").expect("read");
        assert_eq!(snapshot.get_entry(b"short").expect("read").expect("there").flags, 7);
        for round in 0..5u8 {
            for number in 0..200u32 {
                let key = format!("k{number:03}");
                match number % 5 {
                    0 => drop(store.set(key.as_bytes(), &[round; 300]).expect("set")),
                    1 => drop(store.delete(key.as_bytes()).expect("deleted")),
                    2 => {
                        store.delete(key.as_bytes()).expect("deleted");
                        store.set(key.as_bytes(), b"again").expect("set");
                    }
                    3 => store.transact(|it| it.put(key.as_bytes(), &[round])).expect("committed"),
                    _ => drop(store.transact(|it| it.delete(key.as_bytes())).expect("committed")),
                }
                store.set(format!("new {round} {number}").as_bytes(), b"new").expect("set");
            }
            store.flush().expect("flushed");
            if name.starts_with("files") {
                store.checkpoint().expect("checkpointed");
            }
        }
        std::thread::sleep(Duration::from_millis(60));
        assert_eq!(store.get(b"short").expect("read"), None);
        // What expires meanwhile would be taken out by those who write.
        for number in 0..2000u32 {
            store.set(format!("fill {}", number % 20).as_bytes(), &[1; 500]).expect("set");
        }
        assert_eq!(scanned(&snapshot).expect("read"), before, "{name}");
        for (key, value) in &before {
            assert_eq!(snapshot.get(key).expect("read").as_ref(), Some(value), "{name} {key:?}");
        }
        assert_eq!(snapshot.version(b"k000").expect("read"), version);
        assert_eq!(snapshot.get(b"k199").expect("read"), None);
        assert_eq!(snapshot.get(b"new 0 0").expect("read"), None);
        if name.ends_with("ordered") {
            for direction in [Direction::Forward, Direction::Backward] {
                assert_eq!(ranged(&snapshot, direction).expect("read"), before, "{name} {direction:?}");
            }
            let mut found = 0;
            let visit = |_: &[u8], _: &Entry| found += 1;
            assert_eq!(snapshot.prefix(b"k", Direction::Forward, 1000, visit).expect("read"), None);
            assert_eq!(found, 199);
        } else {
            let all = (Bound::Unbounded, Bound::Unbounded);
            let refused = snapshot.range(all.0, all.1, Direction::Forward, 1, |_, _| {});
            assert_eq!(refused.expect_err("not in order").code(), ErrorCode::NotOrdered);
        }
        let now = store.snapshot().expect("taken");
        assert_eq!(now.get(b"k002").expect("read"), Some(b"again".to_vec()));
        assert_eq!(now.get(b"k001").expect("read"), None);
        assert_eq!(store.stats().expect("told").snapshots, 2);
        drop((now, snapshot));
        let stats = store.stats().expect("told");
        assert_eq!((stats.snapshots, stats.snapshots_cancelled), (0, 0));
    });
}

#[test]
fn what_a_snapshot_keeps_goes_with_it() {
    in_place(|fabric, store, name| {
        for round in 0..3 {
            for number in 0..300u32 {
                store.set(format!("k{number}").as_bytes(), &[1; 200]).expect("set");
            }
            let snapshot = store.snapshot().expect("taken");
            for number in 0..300u32 {
                assert!(store.delete(format!("k{number}").as_bytes()).expect("deleted"), "{name} {round}");
            }
            assert_eq!(scanned(&snapshot).expect("read").len(), 300);
            assert!(store.is_empty().expect("counted"));
        }
        // Nothing is left of them when others have written for a while.
        for number in 0..40_000u32 {
            store.set(format!("other {}", number % 10).as_bytes(), &[2; 300]).expect("set");
            if number % 4000 == 0 {
                store.flush().expect("flushed");
            }
        }
        store.flush().expect("flushed");
        if name.starts_with("files") {
            store.checkpoint().expect("checkpointed");
        }
        assert_eq!(store.len().expect("counted"), 10);
        let live = store.stats().expect("told").live_bytes;
        assert!(live < 40 * 400, "{name}: {live} bytes are live, and ten entries");
        check(fabric);
    });
}

#[test]
fn a_store_in_need_cancels_its_snapshots_and_never_is_full_because_of_them() {
    in_place(|_, store, name| {
        let value = [7u8; 2000];
        for number in 0..200u32 {
            store.set(format!("k{number}").as_bytes(), &value).expect("set");
        }
        let snapshot = store.snapshot().expect("taken");
        let (mut kept, mut oldest) = (0, 0);
        for round in 0..60u32 {
            for number in 0..200u32 {
                store.set(format!("k{number}").as_bytes(), &value).unwrap_or_else(|error| {
                    panic!("{name}, round {round}: {error}");
                });
            }
            let stats = store.stats().expect("told");
            (kept, oldest) = (stats.snapshot_bytes.max(kept), stats.snapshot_oldest_ms.max(oldest));
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(kept > 0 && oldest > 0, "{name}: it kept {kept} bytes and was {oldest} ms old");
        let stats = store.stats().expect("told");
        assert_eq!((stats.snapshots, stats.snapshot_bytes, stats.snapshot_oldest_ms), (0, 0, 0));
        let cancelled = snapshot.get(b"k7").expect_err("cancelled");
        assert_eq!(cancelled.code(), ErrorCode::SnapshotTooOld, "{name}: {cancelled}");
        assert_eq!(scanned(&snapshot).expect_err("cancelled").code(), ErrorCode::SnapshotTooOld);
        assert_eq!(store.stats().expect("told").snapshots_cancelled, 1);
        let again = store.snapshot().expect("taken");
        assert_eq!(again.get(b"k7").expect("read"), Some(value.to_vec()));
        drop(snapshot);
        assert_eq!(again.get(b"k7").expect("read"), Some(value.to_vec()), "{name}");
        // An old one goes when a writer takes more memory.
        let limits = SnapshotLimits { age: Duration::from_millis(1), ..SnapshotLimits::default() };
        store.limit_snapshots(&limits).expect("set");
        std::thread::sleep(Duration::from_millis(5));
        for number in 0..200u32 {
            store.set(format!("k{number}").as_bytes(), &value).expect("set");
        }
        assert_eq!(again.get(b"k7").expect_err("cancelled").code(), ErrorCode::SnapshotTooOld);
        drop(again);
        store.limit_snapshots(&SnapshotLimits::default()).expect("set");
        let none = SnapshotLimits { percent: 0, ..SnapshotLimits::default() };
        assert_eq!(store.limit_snapshots(&none).expect_err("none").code(), ErrorCode::InvalidArgument);
        let all: Vec<_> = (0..64).map(|_| store.snapshot().expect("taken")).collect();
        let more = store.snapshot().map(drop).expect_err("as many as there may be");
        assert_eq!(more.code(), ErrorCode::TooManySnapshots);
        drop(all);
        drop(store.snapshot().expect("taken"));
    });
}

#[test]
fn threads_that_move_money_are_seen_at_one_moment() {
    in_place(|_, store, name| {
        open_accounts(store);
        let (stop, judged) = (AtomicBool::new(false), AtomicU64::new(0));
        let ordered = name.ends_with("ordered");
        std::thread::scope(|scope| {
            for who in 0..2 {
                let stop = &stop;
                scope.spawn(move || {
                    let mut random = Random::new(&format!("{name} {who}"));
                    let mut round = 1;
                    while !stop.load(Ordering::Relaxed) {
                        transfer(store, &mut random);
                        step(store, &who.to_string(), round);
                        round += 1;
                    }
                });
            }
            let reading = scope.spawn(|| {
                for _ in 0..150 * torture() {
                    match judge(store, ordered, Duration::ZERO) {
                        Ok(()) => judged.fetch_add(1, Ordering::Relaxed),
                        Err(error) if error.code() == ErrorCode::SnapshotTooOld => 0,
                        Err(error) => panic!("{name}: {error}"),
                    };
                }
            });
            let done = reading.join();
            stop.store(true, Ordering::Relaxed);
            done.expect("every snapshot is one moment");
        });
        assert!(judged.load(Ordering::Relaxed) > 50, "{name}: most are read to their end");
    });
}

/// Plays the workers; a plain run has none.
#[test]
fn entry() {
    let Some(role) = process::role() else {
        assert!(std::env::var_os(HOME).is_none());
        return;
    };
    let home = PathBuf::from(std::env::var_os(HOME).expect("the parent gives a place"));
    let (role, name) = role.split_once(' ').expect("what to do on which store");
    let fabric = fabric(&home);
    let store = open(&fabric, &home, name);
    if role == "hold" {
        return hold(&store);
    }
    process::tell("ready");
    let who = format!("{role}.{}", std::process::id());
    let mut random = Random::new(&who);
    let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        for round in 1.. {
            if role.starts_with("move") {
                transfer(&store, &mut random);
                step(&store, &who, round);
                store.set(format!("pad {}", random.draw(50)).as_bytes(), &[7; 1000]).expect("set");
                continue;
            }
            let pause = Duration::from_micros(random.draw(3000));
            match judge(&store, name.ends_with("ordered"), pause) {
                Ok(()) => drop(store.increment(b"judged", 1, Some(1)).expect("counted")),
                Err(error) if error.code() == ErrorCode::SnapshotTooOld => {}
                Err(error) => panic!("{error}"),
            }
        }
    }));
    if let Err(panic) = worked {
        let what = panic.downcast_ref::<String>().cloned().unwrap_or_default();
        std::fs::write(home.join(format!("{who}.wrong")), what).expect("writable");
    }
}

/// Takes a snapshot, reads in it when it is told to, and once more.
fn hold(store: &Store) {
    let snapshot = store.snapshot().expect("taken");
    assert_eq!(snapshot.get(b"held").expect("read"), Some(vec![0; 2000]));
    process::tell("ready");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("the parent ends it");
    let answer = snapshot.get(b"held").map(|value| value.is_some());
    process::tell(&format!("read {:?}", answer.map_err(|error| error.code())));
}

fn storm(name: &'static str) {
    let mut random = Random::new(name);
    let roles = ["move", "move", "look", "look"];
    let mut crew = Crew::new(HOME, name, &roles, |home| {
        let fabric = fabric(home);
        open_accounts(&open(&fabric, home, name));
    });
    for _ in 0..15 * torture() {
        std::thread::sleep(Duration::from_millis(20 + random.draw(80)));
        crew.blow(&mut random);
    }
    crew.end();
    let home = crew.dir.path();
    for entry in std::fs::read_dir(home).expect("readable") {
        let path = entry.expect("readable").path();
        assert!(
            path.extension().is_none_or(|it| it != "wrong"),
            "{}: {}",
            path.display(),
            std::fs::read_to_string(&path).expect("readable")
        );
    }
    let fabric = fabric(home);
    check(&fabric);
    let store = open(&fabric, home, name);
    judge(&store, name.ends_with("ordered"), Duration::ZERO).expect("one moment");
    let judged = number(store.get(b"judged").expect("read"));
    println!("{name}: {} kills, {judged} snapshots judged", crew.kills);
    assert!(crew.kills > 0 && judged > 50, "{name}: {judged} judged");
    assert_eq!(store.stats().expect("told").snapshots, 0, "those of the dead ended with them");
    check(&fabric);
}

#[test]
fn a_storm_on_files_is_seen_at_one_moment() {
    storm("files");
}

#[test]
fn a_storm_in_memory_is_seen_at_one_moment() {
    storm("memory-ordered");
}

#[test]
fn a_stopped_reader_fills_no_store_and_is_told_afterwards() {
    for name in ["files", "memory"] {
        let dir = tempfile::Builder::new().prefix("memora-snap-").tempdir_in("/dev/shm").expect("writable");
        let home = dir.path();
        let fabric = fabric(home);
        let store = open(&fabric, home, name);
        store.set(b"held", &[0; 2000]).expect("set");
        let mut reader = Worker::spawn("entry", &format!("hold {name}"), &[(HOME, home.as_os_str())]);
        reader.expect_line("ready");
        assert!(reader.stop());
        for round in 0..100u32 {
            for number in 0..200u32 {
                let key = if number == 7 { "held".to_string() } else { format!("k{number}") };
                store.set(key.as_bytes(), &[9; 2000]).unwrap_or_else(|error| {
                    panic!("{name}, round {round}: {error}");
                });
            }
        }
        reader.resume();
        reader.end_input();
        assert_eq!(reader.expect_line("read "), "Err(SnapshotTooOld)", "{name}");
        reader.expect_success();
        // One who is killed keeps nothing either.
        let mut reader = Worker::spawn("entry", &format!("hold {name}"), &[(HOME, home.as_os_str())]);
        store.set(b"held", &[0; 2000]).expect("set");
        reader.kill();
        fabric.reap().expect("reaped");
        assert_eq!(store.stats().expect("told").snapshots, 0);
        drop(store);
        check(&fabric);
    }
}
