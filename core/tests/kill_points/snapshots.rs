//! Victims that read snapshots while money is moved in transactions, and plain entries come and go: whoever dies or stops at whatever
//! point, every snapshot is one moment, nobody waits, and nothing is kept for the dead.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

use memora::{
    Direction, Durability, Entry, ErrorCode, Fabric, Result, SnapshotLimits, Store, StoreOptions, Transaction,
};
use memora_stress::random::Random;
use memora_testkit::kill_point::{Harm, Victim, within_patience};
use memora_testkit::process::Worker;

use crate::{Blow, ENTRY, Place, Scenario, borrowed, check, environment};

pub const SCENARIO: Scenario = Scenario {
    role: "snapshots",
    covers: |name| name.starts_with("table.snapshot.") || name.starts_with("table.bury."),
    tries: 2,
    prepare,
    survive,
    conclude,
};

const FABRIC: &str = "moments";
const ACCOUNTS: u64 = 6;
const START: u64 = 20;

fn fabric(place: &Place) -> Fabric {
    place.open(FABRIC, crate::FABRIC_LIMIT)
}

fn open(fabric: &Fabric) -> Store {
    let options =
        StoreOptions { durability: Durability::Process, ordered: Some(true), ..StoreOptions::default() };
    fabric.store("accounts", &options).unwrap_or_else(|error| panic!("the store does not open: {error}"))
}

fn account(number: u64) -> Vec<u8> {
    format!("account {number}").into_bytes()
}

fn number(value: Option<&Vec<u8>>) -> u64 {
    value.map_or(0, |value| String::from_utf8_lossy(value).parse().expect("a number"))
}

fn put(transaction: &mut Transaction, key: &[u8], amount: u64) -> Result<()> {
    match amount {
        0 => transaction.delete(key).map(drop),
        _ => transaction.put(key, amount.to_string().as_bytes()),
    }
}

fn transfer(store: &Store, random: &mut Random) {
    let (from, step) = (random.draw(ACCOUNTS), 1 + random.draw(ACCOUNTS - 1));
    let (from, to) = (account(from), account((from + step) % ACCOUNTS));
    let most = random.draw(START);
    store
        .transact(|transaction| {
            let (balance, other) =
                (number(transaction.get(&from)?.as_ref()), number(transaction.get(&to)?.as_ref()));
            let amount = most.min(balance);
            put(transaction, &from, balance - amount)?;
            put(transaction, &to, other + amount)
        })
        .unwrap_or_else(|error| panic!("cannot transfer: {error}"));
}

/// Whether a snapshot was read to its end: it was one moment then.
fn judge(store: &Store) -> bool {
    match read(store) {
        Ok(()) => true,
        Err(error) if error.code() == ErrorCode::SnapshotTooOld => false,
        Err(error) => panic!("{error}"),
    }
}

fn read(store: &Store) -> Result<()> {
    let snapshot = store.snapshot()?;
    let mut total = 0;
    for of in 0..ACCOUNTS {
        total += number(snapshot.get(&account(of))?.as_ref());
    }
    assert_eq!(total, ACCOUNTS * START, "by keys");
    let (mut scanned, mut ranged, mut cursor) = (BTreeMap::new(), BTreeMap::new(), 0);
    loop {
        let visit = |key: &[u8], entry: &Entry| drop(scanned.insert(key.to_vec(), entry.value.clone()));
        cursor = snapshot.scan(cursor, 5, visit)?;
        if cursor == 0 {
            break;
        }
    }
    let visit = |key: &[u8], entry: &Entry| drop(ranged.insert(key.to_vec(), entry.value.clone()));
    snapshot.range(Bound::Unbounded, Bound::Unbounded, Direction::Forward, usize::MAX, visit)?;
    assert_eq!(scanned, ranged);
    let accounts = scanned.iter().filter(|(key, _)| key.starts_with(b"account"));
    assert_eq!(accounts.map(|(_, value)| number(Some(value))).sum::<u64>(), ACCOUNTS * START, "by a scan");
    Ok(())
}

/// A snapshot that is too old when somebody takes more memory.
fn outlive(store: &Store) {
    let snapshot = store.snapshot().expect("taken");
    let short = SnapshotLimits { age: Duration::from_millis(1), ..SnapshotLimits::default() };
    store.limit_snapshots(&short).expect("set");
    std::thread::sleep(Duration::from_millis(3));
    for _ in 0..40 {
        store.set(b"pad", &[7; 4000]).expect("set");
    }
    let refused = snapshot.get(b"account 0").expect_err("it is too old");
    assert_eq!(refused.code(), ErrorCode::SnapshotTooOld);
    store.limit_snapshots(&SnapshotLimits::default()).expect("set");
}

fn work(store: &Store, who: &str, rounds: u64) {
    let mut random = Random::new(who);
    let mut judged = 0;
    for round in 0..rounds {
        transfer(store, &mut random);
        let plain = format!("{who} {}", round % 3);
        store.set(plain.as_bytes(), &[7; 900]).expect("set");
        judged += u64::from(judge(store));
        assert!(store.delete(plain.as_bytes()).expect("deleted"));
        if round % 10 == 9 {
            outlive(store);
        }
    }
    assert!(judged > 0, "{who}: no snapshot was read to its end");
}

fn prepare(place: &Place) -> Vec<Victim> {
    {
        let fabric = fabric(place);
        let store = open(&fabric);
        store
            .transact(|transaction| {
                (0..ACCOUNTS).try_for_each(|of| transaction.put(&account(of), START.to_string().as_bytes()))
            })
            .expect("opened");
        drop(store);
        fabric.close().expect("closed");
    }
    let environment = environment(place);
    let freeze = |role, name, nth| {
        Victim::harm(ENTRY, role, &borrowed(&environment), (name, nth, Harm::Freeze))
            .unwrap_or_else(|| panic!("nobody reaches {name}:{nth}"))
    };
    // One that is about to commit, and one that has died with a snapshot, and has done nothing else that could wake the first.
    let committing = freeze("moving", "table.intent.before_commit", 2);
    let mut dead = freeze("keeping", "table.snapshot.opened", 1);
    assert!(Worker::was_killed(dead.worker().kill()), "a frozen process does nothing but die");
    vec![committing]
}

/// Takes a snapshot.
pub fn keeping(place: &Place) {
    let fabric = fabric(place);
    drop(open(&fabric).snapshot().expect("taken"));
}

/// Moves money, and takes a snapshot.
pub fn moving(place: &Place) {
    let fabric = fabric(place);
    let store = open(&fabric);
    let mut random = Random::new("moving");
    for _ in 0..3 {
        transfer(&store, &mut random);
        judge(&store);
    }
}

pub fn victim(place: &Place) {
    for round in 0..2 {
        let fabric = fabric(place);
        let store = open(&fabric);
        // Before the one who is about to commit is met by a writer.
        judge(&store);
        fabric.reap().expect("reaped");
        work(&store, &format!("victim {round}"), 20);
        drop(store);
        fabric.close().expect("closed");
    }
}

fn survive(place: &Place, blow: Blow) {
    let root = Place { root: place.root.clone() };
    within_patience("snapshots beside the victim", move || {
        let fabric = fabric(&root);
        let store = open(&fabric);
        work(&store, &format!("survivor {blow:?}"), 30);
        check(&fabric, "with the victim");
    });
}

fn conclude(place: &Place) {
    let fabric = fabric(place);
    fabric.reap().expect("reaped");
    let store = open(&fabric);
    work(&store, "last", 10);
    assert!(judge(&store), "nobody is in the way");
    assert_eq!(store.stats().expect("told").snapshots, 0, "nothing is kept for the dead");
    check(&fabric, "after the victim");
}
