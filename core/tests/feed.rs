//! The change feed of a store: every committed change once, in the order of its key, also behind kills of those who write the files, and
//! behind the loss of the segment.
//!
//! `MEMORA_TORTURE=N` makes the storm longer.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use memora::{
    Change, Durability, ErrorCode, Fabric, FabricOptions, Feed, FeedFrom, FeedPosition, RepairOptions,
    RestoreOptions, SetOptions, Store, StoreOptions, repair, restore, restore_from, verify,
};
use memora_stress::random::Random;
use memora_testkit::kill_point::{Harm, Victim, torture};
use memora_testkit::process::{self, PATIENCE, Worker};
use tempfile::TempDir;

const HOME: &str = "MEMORA_FEED_HOME";
const KEEP: u64 = 256 << 20;

fn place() -> TempDir {
    tempfile::Builder::new().prefix("memora-feed-").tempdir_in("/dev/shm").expect("writable")
}

fn fabric(home: &Path) -> Fabric {
    FabricOptions::new().home(home.join("home")).limit(24 << 20).open("fed").expect("the fabric opens")
}

fn options(home: &Path) -> StoreOptions {
    StoreOptions {
        dir: Some(home.join("files")),
        durability: Durability::Async { interval_ms: 20 },
        checkpoint_bytes: 4 << 20,
        feed_bytes: Some(KEEP),
        ..StoreOptions::default()
    }
}

fn open(fabric: &Fabric, home: &Path) -> Store {
    fabric.store("fed", &options(home)).unwrap_or_else(|error| panic!("the store does not open: {error}"))
}

fn drain(feed: &mut Feed) -> Vec<Change> {
    std::iter::from_fn(|| feed.try_next().expect("read")).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What changes say: key and value, of a deletion none.
fn said(changes: &[Change]) -> Vec<(String, Option<String>)> {
    changes.iter().map(|change| (text(&change.key), change.value.as_deref().map(text))).collect()
}

#[test]
fn every_change_comes_once_and_those_of_a_key_in_their_order() {
    let home = place();
    let fabric = fabric(home.path());
    let store = open(&fabric, home.path());
    let mut feed = store.feed(FeedFrom::Oldest, b"").unwrap();
    assert_eq!(feed.next(Some(Duration::from_millis(1))).unwrap(), None);
    for round in 0..5 {
        store.set(b"a", round.to_string().as_bytes()).unwrap();
        if round == 2 {
            assert!(store.delete(b"a").unwrap());
        }
    }
    let options = SetOptions { ttl_ms: Some(60_000), flags: 7 };
    store.set_with(b"b", b"with", &options).unwrap();
    store.flush().unwrap();
    let changes = drain(&mut feed);
    let of_a: Vec<_> = changes.iter().filter(|change| change.key == b"a").cloned().collect();
    let expected = ["0", "1", "2", "", "3", "4"].map(|value| ("a".to_owned(), Some(value.to_owned())));
    let expected = expected.map(|(key, value)| (key, value.filter(|value| !value.is_empty())));
    assert_eq!(said(&of_a), expected);
    assert!(of_a.windows(2).all(|pair| pair[0].order < pair[1].order));
    let b = changes.iter().find(|change| change.key == b"b").unwrap();
    assert!(b.flags == 7 && b.expires_ms.is_some());
    assert_eq!(changes.len(), 7);

    // Who comes later goes on behind any of them.
    store.set(b"c", b"1").unwrap();
    store.flush().unwrap();
    let all: Vec<Change> = changes.iter().cloned().chain(drain(&mut feed)).collect();
    assert_eq!(all.len(), 8);
    for (number, change) in all.iter().enumerate() {
        let position: FeedPosition = change.position.to_string().parse().unwrap();
        let mut later = store.feed(FeedFrom::Position(position), b"").unwrap();
        assert_eq!(drain(&mut later), all[number + 1..], "behind {position}");
        assert_eq!(later.position(), all.last().unwrap().position);
    }
    let mut of_b = store.feed(FeedFrom::Oldest, b"b").unwrap();
    assert_eq!(drain(&mut of_b), std::slice::from_ref(b));
    let mut newest = store.feed(FeedFrom::Newest, b"").unwrap();
    store.set(b"d", b"1").unwrap();
    store.flush().unwrap();
    assert_eq!(said(&drain(&mut newest)), [("d".to_owned(), Some("1".to_owned()))]);
}

#[test]
fn one_who_waits_is_woken_by_the_flush() {
    let home = place();
    let fabric = fabric(home.path());
    let store = open(&fabric, home.path());
    let mut feed = store.feed(FeedFrom::Newest, b"").unwrap();
    std::thread::scope(|scope| {
        let waits = scope.spawn(move || feed.next(None).unwrap());
        store.set_durable(b"key", b"value", Durability::Sync).unwrap();
        assert_eq!(waits.join().unwrap().unwrap().value.as_deref(), Some(&b"value"[..]));
    });
}

#[test]
fn one_who_was_away_goes_on_behind_checkpoints_and_the_loss_of_the_segment() {
    let home = place();
    let (mut position, mut all) = (None, Vec::new());
    for life in 0..4u64 {
        let fabric = fabric(home.path());
        let store = open(&fabric, home.path());
        let from = position.map_or(FeedFrom::Oldest, FeedFrom::Position);
        for round in 0..40u64 {
            store.set(b"hot", &(life * 40 + round).to_le_bytes()).unwrap();
            store.set(&(round % 7).to_le_bytes(), &vec![round as u8; 9000]).unwrap();
            if round % 9 == 3 {
                store.checkpoint().unwrap();
            }
        }
        store.flush().unwrap();
        let mut feed = store.feed(from, b"hot").unwrap();
        // Only a part of what there is: the rest is for the next life.
        for _ in 0..23 {
            let change = feed.try_next().unwrap().expect("there is more");
            all.push(u64::from_le_bytes(change.value.unwrap().try_into().unwrap()));
            position = Some(change.position);
        }
        if life == 3 {
            let rest = drain(&mut feed);
            all.extend(
                rest.iter().map(|it| u64::from_le_bytes(it.value.clone().unwrap().try_into().unwrap())),
            );
        }
        drop((feed, store));
        fabric.close().unwrap();
        if life % 2 == 1 {
            Fabric::remove(Some(&home.path().join("home")), "fed").unwrap();
        }
    }
    assert_eq!(all, (0..160).collect::<Vec<_>>());
}

#[test]
fn what_cannot_be_read_is_refused_with_a_code_of_its_own() {
    let home = place();
    let fabric = fabric(home.path());
    let plain = fabric
        .store("plain", &StoreOptions { dir: Some(home.path().join("plain")), ..StoreOptions::default() })
        .unwrap();
    let refused = |store: &Store, from| store.feed(from, b"").map(drop).unwrap_err().code();
    assert_eq!(refused(&plain, FeedFrom::Oldest), ErrorCode::InvalidArgument);
    let memory = StoreOptions { durability: Durability::Process, ..StoreOptions::default() };
    assert_eq!(
        refused(&fabric.store("memory", &memory).unwrap(), FeedFrom::Newest),
        ErrorCode::InvalidArgument
    );
    let memory = StoreOptions { feed_bytes: Some(KEEP), ..memory };
    assert_eq!(fabric.store("memory", &memory).map(drop).unwrap_err().code(), ErrorCode::InvalidArgument);

    let small =
        StoreOptions { feed_bytes: Some(3 << 20), checkpoint_bytes: 64 << 10, ..options(home.path()) };
    let store = fabric.store("fed", &small).unwrap();
    let mut behind = store.feed(FeedFrom::Oldest, b"").unwrap();
    store.set(b"first", b"1").unwrap();
    store.flush().unwrap();
    let first = behind.try_next().unwrap().unwrap();
    let ahead = FeedPosition { flush: u64::MAX, ..first.position };
    assert_eq!(refused(&store, FeedFrom::Position(ahead)), ErrorCode::PositionAhead);
    for text in
        ["", "1", "1.2", "1.2.3", "0123456789abcdef.1", "0123456789abcdef.1.+2", "0123456789abcdef.1.2.3"]
    {
        assert_eq!(text.parse::<FeedPosition>().unwrap_err().code(), ErrorCode::InvalidArgument, "{text}");
    }
    assert_eq!(ahead.to_string().parse::<FeedPosition>().unwrap(), ahead);
    for round in 0..60u64 {
        store.set(b"large", &vec![round as u8; 60_000]).unwrap();
        store.checkpoint().unwrap();
    }
    assert_eq!(refused(&store, FeedFrom::Position(first.position)), ErrorCode::PositionTrimmed);
    let mut oldest = store.feed(FeedFrom::Oldest, b"").unwrap();
    let kept = drain(&mut oldest);
    assert!(kept.last().unwrap().value.as_deref() == Some(&[59; 60_000][..]));
    assert!(kept.len() < 60 && kept.windows(2).all(|pair| pair[0].order + 1 == pair[1].order), "no gap");
    // The directory remembers; who wants none says so.
    drop((behind, oldest, store));
    let store = fabric.store("fed", &StoreOptions { feed_bytes: None, ..small.clone() }).unwrap();
    assert!(store.feed(FeedFrom::Newest, b"").is_ok());
    drop(store);
    let store = fabric.store("fed", &StoreOptions { feed_bytes: Some(0), ..small }).unwrap();
    assert_eq!(refused(&store, FeedFrom::Newest), ErrorCode::InvalidArgument);
}

#[test]
fn a_position_of_another_store_is_refused_also_of_one_with_the_same_name() {
    let (home, elsewhere) = (place(), place());
    let fabric = fabric(home.path());
    let store = open(&fabric, home.path());
    let written = |store: &Store| {
        store.set(b"key", b"value").unwrap();
        store.flush().unwrap();
        store.feed(FeedFrom::Oldest, b"").unwrap().try_next().unwrap().unwrap().position
    };
    let mine = written(&store);
    let options_there = StoreOptions { dir: Some(elsewhere.path().join("other")), ..options(home.path()) };
    let other = fabric.store("other", &options_there).unwrap();
    let theirs = written(&other);
    assert_eq!((mine.flush, mine.index), (theirs.flush, theirs.index), "nothing else tells them apart");
    let refused = |store: &Store, from| store.feed(FeedFrom::Position(from), b"").map(drop).unwrap_err();
    let error = refused(&other, mine);
    assert_eq!(error.code(), ErrorCode::PositionForeign);
    assert!(error.to_string().contains(&mine.to_string()) && error.to_string().contains("other"), "{error}");
    assert_eq!(refused(&store, theirs).code(), ErrorCode::PositionForeign);
    assert!(store.feed(FeedFrom::Position(mine), b"").is_ok());
    drop((store, other));
    fabric.close().unwrap();
    Fabric::remove(Some(&home.path().join("home")), "fed").unwrap();
    std::fs::remove_dir_all(home.path().join("files")).unwrap();
    let fabric = self::fabric(home.path());
    let anew = open(&fabric, home.path());
    let newer = written(&anew);
    assert_eq!((mine.flush, mine.index), (newer.flush, newer.index));
    assert_eq!(refused(&anew, mine).code(), ErrorCode::PositionForeign);
}

/// Flips a bit of a file, and back.
fn flip(file: &Path, at: usize) {
    let mut bytes = std::fs::read(file).unwrap();
    bytes[at] ^= 1;
    std::fs::write(file, bytes).unwrap();
}

#[test]
fn damage_in_files_that_are_kept_for_the_feed_is_found_and_told_from_damage_of_the_data() {
    let home = place();
    let files = home.path().join("files");
    let mut fabric_here = fabric(home.path());
    let mut store = open(&fabric_here, home.path());
    for round in 0..6u64 {
        // More than half of a file, so that the checkpoint begins a new one.
        for _ in 0..150 {
            store.set(b"key", &vec![round as u8; 5000]).unwrap();
        }
        store.set(b"other", &round.to_le_bytes()).unwrap();
        store.flush().unwrap();
        store.set(b"third", b"").unwrap();
        store.checkpoint().unwrap();
        if round == 2 {
            // The first file after it does not say where the one before ends.
            drop(store);
            fabric_here.close().unwrap();
            Fabric::remove(Some(&home.path().join("home")), "fed").unwrap();
            fabric_here = fabric(home.path());
            store = open(&fabric_here, home.path());
        }
    }
    let report = verify(&files, |_, _| {}).unwrap();
    assert!(report.feed_files >= 6, "{report:?}");
    let mut names: Vec<PathBuf> = std::fs::read_dir(&files).unwrap().map(|it| it.unwrap().path()).collect();
    names.retain(|path| path.file_name().unwrap().to_string_lossy().starts_with("journal."));
    names.sort();
    let (needed, kept) = names.split_last().unwrap();
    let code = || verify(&files, |_, _| {}).map(drop).map_err(|error| error.code());
    let is_written = |path: &Path| std::fs::read(path).unwrap()[4096..].iter().any(|byte| *byte != 0);
    let term = |path: &Path| path.file_name().unwrap().to_string_lossy()[8..15].to_owned();
    let mut found = 0;
    // With the host is lost what says which file was the last one before, and where it ended.
    for pair in names.windows(2).filter(|pair| is_written(&pair[0]) && term(&pair[0]) == term(&pair[1])) {
        let path = &pair[0];
        // In the body of the first batch, and in the header of the file.
        for at in [4096 + 64 + 8, 20] {
            flip(path, at);
            let error = verify(&files, |_, _| {}).unwrap_err();
            assert_eq!(error.code(), ErrorCode::FeedDamaged, "{}: {error}", path.display());
            assert!(error.to_string().contains(&path.display().to_string()), "{error}");
            // The data is whole: recovery and repair know of nothing.
            assert_eq!(repair(&files, &RepairOptions::default(), |_, _| {}).unwrap().problem, None);
            flip(path, at);
        }
        found += 1;
        if path != &kept[0] {
            let aside = home.path().join("aside");
            std::fs::rename(path, &aside).unwrap();
            assert_eq!(code(), Err(ErrorCode::FeedDamaged), "without {}", path.display());
            std::fs::rename(&aside, path).unwrap();
        }
    }
    assert!(found >= 4, "{found} of {kept:#?} hold something");
    flip(&kept[1], 4096 + 64 + 8);
    let problems = fabric_here.check().unwrap().problems;
    assert!(
        problems.len() == 1 && problems[0].place.starts_with("history of the change feed"),
        "{problems:?}"
    );
    // The remedy: what is damaged goes, with what is older.
    std::fs::remove_file(&kept[0]).unwrap();
    std::fs::remove_file(&kept[1]).unwrap();
    assert_eq!(code(), Ok(()));
    assert!(!drain(&mut store.feed(FeedFrom::Oldest, b"").unwrap()).is_empty());
    // What is needed is data.
    store.set(b"last", b"1").unwrap();
    store.flush().unwrap();
    flip(needed, 4096 + 64 + 8);
    store.set(b"last", b"2").unwrap();
    store.flush().unwrap();
    assert_eq!(code(), Err(ErrorCode::JournalCorrupt));
    flip(needed, 4096 + 64 + 8);
    // What stands in front of a checkpoint that cuts a file in the middle is the feed's.
    store.checkpoint().unwrap();
    assert_eq!(code(), Ok(()));
    flip(needed, 4096 + 64 + 8);
    assert_eq!(code(), Err(ErrorCode::FeedDamaged));
}

#[test]
fn a_restored_store_keeps_a_feed_if_the_one_that_was_backed_up_did() {
    let home = place();
    let fabric = fabric(home.path());
    let at = |name: &str| home.path().join(name);
    let open_at = |name: &str, feed_bytes| {
        let options = StoreOptions { dir: Some(at(name)), feed_bytes, ..options(home.path()) };
        fabric.store(name, &options).unwrap()
    };
    let [with, without] = [("with", Some(KEEP)), ("without", None)].map(|(name, feed)| open_at(name, feed));
    with.set(b"key", b"1").unwrap();
    with.backup(at("backup"), |_, _| {}).unwrap();
    let mut stream = Vec::new();
    with.backup_to(&mut stream, |_, _| {}).unwrap();
    without.backup(at("backup without"), |_, _| {}).unwrap();
    let named = |name: &str, overwrite| RestoreOptions { name: Some(name.to_owned()), overwrite };
    restore(at("backup"), at("one"), &named("one", false), |_, _| {}).unwrap();
    restore_from(&mut &stream[..], at("two"), &named("two", false), |_| {}).unwrap();
    for name in ["one", "two"] {
        let store = open_at(name, None);
        let mut feed = store.feed(FeedFrom::Newest, b"").unwrap();
        store.set(b"key", b"2").unwrap();
        store.set(b"key", b"3").unwrap();
        store.flush().unwrap();
        assert_eq!(drain(&mut feed).len(), 2, "{name}");
        assert_eq!(std::fs::read_to_string(at(name).join("FEED")).unwrap(), format!("{KEEP}\n"));
    }
    // A store that is replaced becomes the one that was backed up, also in this.
    let none = |name: &str| {
        let error = open_at(name, None).feed(FeedFrom::Newest, b"").map(drop).unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidArgument, "{name}");
    };
    restore(at("backup without"), at("three"), &named("three", false), |_, _| {}).unwrap();
    none("three");
    restore(at("backup"), at("four"), &named("four", false), |_, _| {}).unwrap();
    restore(at("backup without"), at("four"), &named("four", true), |_, _| {}).unwrap();
    none("four");
}

#[test]
fn no_transaction_is_torn_by_the_end_of_a_flush() {
    let home = place();
    let fabric = fabric(home.path());
    let store = open(&fabric, home.path());
    let mut feed = store.feed(FeedFrom::Oldest, b"").unwrap();
    let money = |value: Option<Vec<u8>>| value.map_or(100, |it| i64::from_le_bytes(it.try_into().unwrap()));
    std::thread::scope(|scope| {
        for from in [b"a", b"b"] {
            let store = store.clone();
            scope.spawn(move || {
                let to = if from == b"a" { b"b" } else { b"a" };
                for _ in 0..500 {
                    store
                        .transact(|transaction| {
                            let (here, there) = (money(transaction.get(from)?), money(transaction.get(to)?));
                            transaction.put(from, &(here - 1).to_le_bytes())?;
                            transaction.put(to, &(there + 1).to_le_bytes())
                        })
                        .unwrap();
                }
            });
        }
        let store = store.clone();
        scope.spawn(move || {
            for _ in 0..50 {
                store.flush().unwrap();
                std::thread::sleep(Duration::from_millis(1));
            }
        });
    });
    store.flush().unwrap();
    let (mut accounts, mut flush, mut count) = (HashMap::new(), 0, 0);
    for change in drain(&mut feed) {
        // Counted from the flush before: the first two have the same.
        if change.position.flush != flush {
            flush = change.position.flush;
            assert!(accounts.is_empty() || accounts.values().sum::<i64>() == 200, "{accounts:?}");
        }
        accounts.insert(change.key, money(change.value));
        count += 1;
    }
    assert_eq!((accounts.values().sum::<i64>(), count), (200, 2000));
}

/// Counts keys of its own up, and sometimes deletes one, so that each change of a key says which it is.
#[test]
fn entry() {
    let Some(role) = process::role() else {
        assert!(std::env::var_os(HOME).is_none());
        return;
    };
    let home = PathBuf::from(std::env::var_os(HOME).expect("the parent gives a place"));
    let fabric = fabric(&home);
    let store = open(&fabric, &home);
    let mut random = Random::new(&format!("{role}{}", std::process::id()));
    process::tell("ready");
    loop {
        let key = format!("{role} {}", random.draw(5));
        store.increment(key.as_bytes(), 1, Some(1)).expect("counted");
        match random.draw(60) {
            0 => store.flush().expect("flushed"),
            1 => std::thread::sleep(Duration::from_millis(random.draw(4))),
            2 if random.draw(20) == 0 => store.checkpoint().expect("written"),
            _ => {}
        }
    }
}

/// Where a leader dies, and the next one: what was written, or only some of it, may come again from the one behind them.
const DEATHS: [(&str, &str); 12] = [
    ("journal.batch.written", "journal.batch.written"),
    ("journal.batch.synced", "journal.batch.synced"),
    ("journal.tail.moved", "journal.tail.moved"),
    ("journal.flush.before_settle", "journal.flush.before_settle"),
    ("store.flush.before_mark", "store.flush.before_mark"),
    ("store.flush.marked", "store.flush.marked"),
    ("journal.flush.settled", "journal.flush.settled"),
    ("journal.durable.moved", "journal.durable.moved"),
    ("journal.file.header_written", "journal.file.header_written"),
    ("journal.file.before_install", "journal.file.before_install"),
    ("journal.file.installed", "journal.file.installed"),
    // Behind a whole flush that was not said to be synced there is a file with nothing in it.
    ("journal.batch.synced", "journal.file.installed"),
];

/// Judges changes of counters: each comes once, in order.
#[derive(Default)]
struct Judge {
    last: HashMap<Vec<u8>, u64>,
    position: Option<FeedPosition>,
}

impl Judge {
    /// Reads what there is; who reads is another one for each change.
    fn follow(&mut self, store: &Store, what: &str) {
        loop {
            let from = self.position.map_or(FeedFrom::Oldest, FeedFrom::Position);
            let mut feed = store.feed(from, b"").expect("its place is kept");
            let Some(change) = feed.try_next().expect("read") else { return };
            let number: u64 = text(&change.value.expect("nothing is deleted")).parse().expect("a number");
            let before = self.last.insert(change.key.clone(), number).unwrap_or(0);
            assert_eq!(number, before + 1, "{} with {what}", text(&change.key));
            self.position = Some(change.position);
        }
    }
}

#[test]
fn leaders_that_die_neither_lose_a_change_nor_have_one_told_twice() {
    for (name, next) in DEATHS {
        for nth in [1, 2, 5] {
            for lost in [false, true] {
                let what = format!("{name}:{nth}, then {next}, lost {lost}");
                let home = place();
                let fabric_here = fabric(home.path());
                let store = open(&fabric_here, home.path());
                let path: OsString = home.path().into();
                let environment: [(&str, &OsStr); 1] = [(HOME, &path)];
                let mut judge = Judge::default();
                // The second one finds what the first one left, and leaves it to the next.
                for (role, name, nth) in [("first", name, nth), ("second", next, 1)] {
                    let victim = Victim::harm("entry", role, &environment, (name, nth, Harm::Kill));
                    assert!(victim.is_some() || name.starts_with("journal.file."), "{what} is not reached");
                    if role == "first" {
                        judge.follow(&store, &what);
                    }
                }
                // Of a new key: before those in the flush that come again.
                store.increment(b"new", 1, Some(1)).unwrap();
                let (fabric_here, store) = if lost {
                    // Nobody flushes what is in the segment alone: it is lost with it.
                    drop(store);
                    drop(fabric_here);
                    Fabric::remove(Some(&home.path().join("home")), "fed").unwrap();
                    let fabric_here = fabric(home.path());
                    let store = open(&fabric_here, home.path());
                    (fabric_here, store)
                } else {
                    store.flush().unwrap();
                    (fabric_here, store)
                };
                judge.follow(&store, &what);
                for _ in 0..3 {
                    for key in ["first 0", "second 1"] {
                        store.increment(key.as_bytes(), 1, Some(1)).unwrap();
                    }
                    store.flush().unwrap();
                    judge.follow(&store, &what);
                }
                for (key, number) in &judge.last {
                    assert_eq!(store.get(key).unwrap().map(|it| text(&it)), Some(number.to_string()));
                }
                drop(store);
                fabric_here.close().unwrap();
            }
        }
    }
}

#[test]
fn a_storm_loses_no_change_and_tells_none_twice() {
    let home = place();
    let fabric = fabric(home.path());
    let store = open(&fabric, home.path());
    let spawn = |role: &str| {
        let path: OsString = home.path().into();
        let environment: [(&str, &OsStr); 1] = [(HOME, &path)];
        let mut worker = Worker::spawn("entry", role, &environment);
        worker.expect_line("ready");
        worker
    };
    let mut random = Random::new("feed");
    let roles = ["one", "two", "three"];
    let mut workers: Vec<Worker> = roles.iter().map(|role| spawn(role)).collect();
    let mut feed = store.feed(FeedFrom::Oldest, b"").unwrap();
    let mut last: HashMap<Vec<u8>, u64> = HashMap::new();
    let mut changes = 0u64;
    let mut follow = |feed: &mut Feed, wait: Duration| {
        let Some(change) = feed.next(Some(wait)).expect("read") else { return false };
        let number: u64 = text(&change.value.expect("nothing is deleted")).parse().expect("a number");
        let before = last.insert(change.key.clone(), number).unwrap_or(0);
        assert_eq!(number, before + 1, "{} behind {}", text(&change.key), change.position);
        changes += 1;
        true
    };
    for _ in 0..25 * torture() {
        let end = Instant::now() + Duration::from_millis(random.draw(80));
        while Instant::now() < end {
            follow(&mut feed, Duration::from_millis(5));
        }
        if random.draw(4) == 0 {
            // Somebody else goes on from there.
            let from = FeedFrom::Position(feed.position());
            feed = store.feed(from, b"").expect("its place is kept");
        }
        let which = random.draw(roles.len() as u64) as usize;
        if random.draw(4) == 0 {
            assert!(workers[which].stop(), "it ended by itself: {}", workers[which].errors());
            // Sometimes for so long that another takes over what it leads.
            let pause = if random.draw(4) == 0 { 1300 } else { random.draw(100) };
            std::thread::sleep(Duration::from_millis(pause));
            workers[which].resume();
        } else {
            assert!(Worker::was_killed(workers[which].kill()), "{}", workers[which].errors());
            workers[which] = spawn(roles[which]);
        }
    }
    for worker in &mut workers {
        assert!(Worker::was_killed(worker.kill()), "it ended by itself: {}", worker.errors());
    }
    store.flush().expect("flushed");
    let end = Instant::now() + PATIENCE;
    while follow(&mut feed, Duration::from_millis(50)) {
        assert!(Instant::now() < end, "the feed does not end");
    }
    assert!(changes > 1000, "this was no storm: {changes} changes");
    let mut cursor = 0;
    loop {
        cursor = store
            .scan(cursor, 100, |key, entry| {
                assert_eq!(last.get(key).map(u64::to_string), Some(text(&entry.value)), "{}", text(key));
            })
            .expect("scanned");
        if cursor == 0 {
            break;
        }
    }
    fabric.reap().expect("reaped");
    let report = fabric.check().expect("checked");
    assert!(report.problems.is_empty(), "{:#?}", report.problems);
}
