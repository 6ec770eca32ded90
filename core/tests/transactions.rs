//! Transactions under a storm: processes that read and write a few keys of a store in transactions, and beside them, are killed, stopped,
//! continued and replaced at random. Afterwards there is one order that explains all that they saw, the fabric passes its check, and so
//! do the files without the fabric.
//!
//! `MEMORA_TORTURE=N` makes it longer.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use memora::{Durability, ErrorCode, Fabric, FabricOptions, Store, StoreOptions};
use memora_stress::random::Random;
use memora_stress::transaction::TransactionClient;
use memora_testkit::crew::Crew;
use memora_testkit::history::{operations, read};
use memora_testkit::kill_point::{Harm, Victim, torture};
use memora_testkit::process;
use memora_testkit::transaction_history::{self, Summary};

const HOME: &str = "MEMORA_TRANSACTIONS_HOME";
const FABRIC: &str = "transactions";
const KEYS: u64 = 6;

fn options_of(home: &Path) -> FabricOptions {
    FabricOptions::new().home(home.join("home")).limit(8 << 20)
}

fn fabric(home: &Path) -> Fabric {
    options_of(home).open(FABRIC).unwrap_or_else(|error| panic!("the fabric does not open: {error}"))
}

/// With files, or without.
fn open(fabric: &Fabric, home: &Path, name: &str) -> Store {
    let files = StoreOptions {
        dir: Some(home.join("store")),
        durability: Durability::Async { interval_ms: 3 },
        checkpoint_bytes: 256 << 10,
        ..StoreOptions::default()
    };
    let memory = StoreOptions { durability: Durability::Process, ..StoreOptions::default() };
    let options = if name == "files" { files } else { memory };
    fabric.store(name, &options).unwrap_or_else(|error| panic!("the store does not open: {error}"))
}

fn client(home: &Path, role: &str) -> TransactionClient {
    let who = format!("{role}.{}", std::process::id());
    TransactionClient::open(&home.join(format!("{who}.jsonl")), &who).expect("the place is writable")
}

/// Some of the keys, each once.
fn keys(random: &mut Random, most: u64) -> Vec<String> {
    let mut keys: Vec<String> =
        (0..random.draw(most + 1)).map(|_| format!("k{}", random.draw(KEYS))).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
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
    if role == "slow" {
        store.set(b"late", b"1").expect("set");
        return;
    }
    let mut client = client(&home, role);
    process::tell("ready");
    let mut random = Random::new(&format!("{role}{}", std::process::id()));
    loop {
        match (role, random.draw(10)) {
            ("look", 0..=4) => client.get(&store, &format!("k{}", random.draw(KEYS))).expect("read"),
            ("look", 5..=8) => drop(client.transact(&store, &keys(&mut random, 4), &[]).expect("read")),
            ("look", _) if random.draw(8) == 0 => store.flush().expect("flushed"),
            ("look", _) => {}
            (_, 0) => drop(client.set(&store, &format!("k{}", random.draw(KEYS))).expect("set")),
            (_, draw) => {
                // Most look at what they replace, so that the order of the values is known.
                let writes = keys(&mut random, 3);
                let mut reads = keys(&mut random, 3);
                if draw > 1 {
                    reads.extend(writes.iter().cloned());
                    reads.sort_unstable();
                    reads.dedup();
                }
                client
                    .transact(&store, &reads, &writes)
                    .expect("committed, or told that others were in the way");
                // What comes and goes makes work for the cleaner.
                store.set(format!("pad {}", random.draw(50)).as_bytes(), &[7; 1000]).expect("set");
            }
        }
        if random.draw(20) == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn contents(store: &Store) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let (mut all, mut cursor) = (BTreeMap::new(), 0);
    loop {
        let visit = |key: &[u8], entry: &memora::Entry| drop(all.insert(key.to_vec(), entry.value.clone()));
        cursor = store.scan(cursor, 100, visit).expect("scanned");
        if cursor == 0 {
            return all;
        }
    }
}

fn check(fabric: &Fabric) {
    fabric.reap().expect("reaped");
    let report = fabric.check().expect("checked");
    assert!(report.problems.is_empty(), "{:#?}", report.problems);
}

fn storm(name: &'static str) -> Summary {
    let mut random = Random::new(name);
    let roles = ["write", "write", "write", "look"];
    let mut crew = Crew::new(HOME, name, &roles, |home| drop(open(&fabric(home), home, name)));
    for _ in 0..15 * torture() {
        std::thread::sleep(Duration::from_millis(random.draw(80)));
        crew.blow(&mut random);
    }
    crew.end();
    let home = crew.dir.path();
    let last = {
        let fabric = fabric(home);
        let store = open(&fabric, home, name);
        let all: Vec<String> = (0..KEYS).map(|key| format!("k{key}")).collect();
        assert!(client(home, "end").transact(&store, &all, &[]).expect("read"), "nobody is in the way");
        check(&fabric);
        let last = contents(&store);
        assert_eq!(store.len().expect("counted"), last.len() as u64);
        if name == "files" {
            store.flush().expect("flushed");
        }
        last
    };
    if name == "files" {
        Fabric::remove(Some(&home.join("home")), FABRIC).expect("nobody has it open");
        let fabric = fabric(home);
        assert_eq!(contents(&open(&fabric, home, name)), last, "what the files give back");
        check(&fabric);
    }
    let entries = std::fs::read_dir(home).expect("readable").map(|entry| entry.expect("readable").path());
    let paths: Vec<PathBuf> = entries.filter(|path| path.extension() == Some(OsStr::new("jsonl"))).collect();
    let operations = operations(&read(&paths).expect("readable")).expect("well formed");
    match transaction_history::check(&operations) {
        Ok(summary) => {
            println!("{name}: {} kills, {summary:?}", crew.kills);
            assert!(crew.kills > 0 && summary.writers > 200 && summary.refused > 0, "{summary:?}");
            summary
        }
        Err(error) => panic!("{error}\nhistories kept in {}", crew.dir.keep().display()),
    }
}

#[test]
fn a_key_that_came_by_a_slow_insertion_and_went_again_is_seen_by_the_proof_of_its_absence() {
    let dir = tempfile::Builder::new().prefix("memora-absent-").tempdir_in("/dev/shm").expect("writable");
    let home = dir.path();
    let fabric = fabric(home);
    let store = open(&fabric, home, "files");
    for round in 0..20u8 {
        store.set(b"leaves", &[round]).expect("set");
    }
    let path: std::ffi::OsString = home.into();
    let environment: [(&str, &OsStr); 1] = [(HOME, &path)];
    let point = ("table.insert.before_publish", 1, Harm::Freeze);
    // It has drawn an order for its record, and made sure that it is above the floor.
    let slow = Victim::harm("entry", "slow files", &environment, point).expect("it inserts");
    store.delete(b"leaves").expect("deleted");
    store.flush().expect("flushed: it has left the table");
    let mut transaction = store.transaction().expect("begun");
    assert_eq!(transaction.get(b"late").expect("read"), None);
    transaction.put(b"other", b"1").expect("put");
    slow.finish();
    assert_eq!(store.get(b"late").expect("read"), Some(b"1".to_vec()), "here it was");
    assert!(store.delete(b"late").expect("deleted"));
    store.flush().expect("flushed: it has left the table");
    assert_eq!(transaction.commit().expect_err("refused").code(), ErrorCode::Conflict);
    check(&fabric);
}

#[test]
fn a_storm_of_transactions_on_files_has_one_order() {
    storm("files");
}

#[test]
fn a_storm_of_transactions_in_memory_has_one_order() {
    storm("memory");
}
