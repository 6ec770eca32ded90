//! Victims that move money among the accounts of a store in transactions, and publish a message and set an entry of a cache with each: whoever dies or stops at
//! whatever point, nobody waits for it, money is neither made nor lost, what counts is what is counted, there is a message of each
//! transaction that was committed and of no other, and the cache has what the last one set.

use std::collections::BTreeMap;

use memora::{
    Cache, CacheOptions, Channel, ChannelKind, ChannelOptions, Durability, ErrorCode, Fabric, Outbox, Result,
    SetOptions, Store, StoreOptions, Transaction, WhenFull,
};
use memora_stress::random::Random;
use memora_testkit::kill_point::{Harm, Victim, within_patience};
use memora_testkit::process::Worker;

use crate::{Blow, ENTRY, Place, Scenario, borrowed, check, environment};

pub const SCENARIO: Scenario =
    Scenario { role: "transactions", covers, tries: 2, prepare, survive, conclude };

const FABRIC: &str = "bank";
const ACCOUNTS: u64 = 6;
const START: u64 = 20;

/// Those who stand at these points when the victim comes; the first ones are dead by then.
const OTHERS: [(&str, u64); 6] = [
    ("table.intent.installed", 3),
    ("table.intent.before_commit", 5),
    ("table.intent.committed", 4),
    ("table.intent.installed", 2),
    ("table.intent.before_commit", 2),
    ("table.intent.committed", 2),
];
const DEAD: usize = 3;

fn covers(name: &str) -> bool {
    ["table.stamp.", "table.decide.", "table.intent.", "table.cut.", "store.flush.cut"]
        .iter()
        .chain(&["table.verdict.", "channel.gate."])
        .any(|part| name.starts_with(part))
        || ["before_abort", "state_ended", "before_none"]
            .iter()
            .any(|part| name.strip_prefix("table.inherit.") == Some(part))
}

fn fabric(place: &Place) -> Fabric {
    place.open(FABRIC, crate::FABRIC_LIMIT)
}

fn open(fabric: &Fabric, place: &Place) -> Store {
    let options = StoreOptions {
        dir: Some(place.root.join("bank")),
        durability: Durability::Async { interval_ms: 1000 },
        checkpoint_bytes: 256 << 10,
        ..StoreOptions::default()
    };
    fabric.store("accounts", &options).unwrap_or_else(|error| panic!("the store does not open: {error}"))
}

/// Where each transaction says that it was committed; the auditor reads it in the end.
fn moves(fabric: &Fabric) -> Channel {
    let options = ChannelOptions { kind: ChannelKind::Broadcast, ..ChannelOptions::default() };
    fabric.channel("moves", &options).expect("the channel opens")
}

/// What else a transaction changes.
struct Beside {
    outbox: Outbox,
    mirror: Cache,
}

/// It has what the store has of those who count.
fn mirror(fabric: &Fabric) -> Cache {
    let options = CacheOptions { transactions: true, when_full: WhenFull::Reject, ..CacheOptions::default() };
    fabric.cache_with("mirror", &options).expect("the cache opens")
}

impl Beside {
    fn of(fabric: &Fabric) -> Beside {
        Beside { outbox: moves(fabric).outbox().expect("an outbox"), mirror: mirror(fabric) }
    }

    fn say(&self, transaction: &mut Transaction, who: &str, key: &[u8], count: u64) -> Result<()> {
        transaction.publish(&self.outbox, format!("{who} {count}").as_bytes())?;
        transaction.cache_set(&self.mirror, key, count.to_string().as_bytes(), &SetOptions::default())
    }
}

fn account(number: u64) -> Vec<u8> {
    format!("account {number}").into_bytes()
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

/// Moves money from one account to another, counts that for `who`, and says so.
fn transfer(store: &Store, beside: &Beside, who: &str, random: &mut Random, durability: Durability) {
    let (from, step) = (random.draw(ACCOUNTS), 1 + random.draw(ACCOUNTS - 1));
    let (from, to) = (account(from), account((from + step) % ACCOUNTS));
    let most = random.draw(START);
    store
        .transact(|transaction| {
            transaction.set_durability(durability)?;
            let (balance, other) = (number(transaction.get(&from)?), number(transaction.get(&to)?));
            let amount = most.min(balance);
            put(transaction, &from, balance - amount)?;
            put(transaction, &to, other + amount)?;
            let done = number(transaction.get(who.as_bytes())?);
            beside.say(transaction, who, who.as_bytes(), done + 1)?;
            transaction.put(who.as_bytes(), (done + 1).to_string().as_bytes())
        })
        .unwrap_or_else(|error| panic!("{who} cannot transfer: {error}"));
}

/// What all have together, at one moment.
fn sum(store: &Store) -> u64 {
    store
        .transact(|transaction| {
            (0..ACCOUNTS).try_fold(0, |sum, of| Ok(sum + number(transaction.get(&account(of))?)))
        })
        .unwrap_or_else(|error| panic!("the accounts cannot be read: {error}"))
}

/// A transaction that cannot commit, because what it has read changes meanwhile.
fn fail(store: &Store, beside: &Beside, who: &str) {
    let mut transaction = store.transaction().expect("begun");
    let read = format!("{who} reads");
    transaction.get(read.as_bytes()).expect("read");
    transaction.put(b"account 0", b"1000000").expect("put");
    beside.say(&mut transaction, "never", b"never", 1).expect("kept");
    transaction.cache_delete(&beside.mirror, who.as_bytes()).expect("kept");
    transaction.put(format!("{who} never").as_bytes(), b"made").expect("put");
    store.set(read.as_bytes(), b"changed").expect("set");
    let error = transaction.commit().expect_err("what it has read was changed");
    assert_eq!(error.code(), ErrorCode::Conflict);
}

fn work(store: &Store, beside: &Beside, who: &str, random: &mut Random, rounds: u64) {
    for round in 0..rounds {
        transfer(store, beside, who, random, Durability::Process);
        match round % 8 {
            1 => assert_eq!(sum(store), ACCOUNTS * START, "{who}"),
            3 => fail(store, beside, who),
            5 => {
                store.set(format!("{who} plain").as_bytes(), &[7; 500]).expect("set");
                store.delete(format!("{who} plain").as_bytes()).expect("deleted");
            }
            7 => store.flush().expect("flushed"),
            _ => {}
        }
    }
    transfer(store, beside, who, random, Durability::Sync);
}

fn prepare(place: &Place) -> Vec<Victim> {
    {
        let fabric = fabric(place);
        let store = open(&fabric, place);
        store
            .transact(|transaction| {
                (0..ACCOUNTS).try_for_each(|of| transaction.put(&account(of), START.to_string().as_bytes()))
            })
            .expect("opened");
        store.flush().expect("flushed");
        drop(moves(&fabric).subscribe("auditor").expect("subscribed"));
        fabric.close().expect("closed");
    }
    let environment = environment(place);
    let mut others: Vec<Victim> = OTHERS
        .into_iter()
        .map(|(name, nth)| {
            Victim::harm(ENTRY, "halfway", &borrowed(&environment), (name, nth, Harm::Freeze))
                .unwrap_or_else(|| panic!("nobody reaches {name}:{nth}"))
        })
        .collect();
    for dead in &mut others[..DEAD] {
        assert!(Worker::was_killed(dead.worker().kill()), "a frozen process does nothing but die");
    }
    others.split_off(DEAD)
}

/// Stops in the middle of a transaction on keys of its own: so that the victim finds it as it is.
pub fn halfway(place: &Place) {
    let fabric = fabric(place);
    let store = open(&fabric, place);
    let beside = Beside::of(&fabric);
    let me = std::process::id();
    let own = [format!("halfway {me} a"), format!("halfway {me} b")];
    for round in 1..=6u64 {
        store
            .transact(|transaction| {
                for key in &own {
                    transaction.put(key.as_bytes(), round.to_string().as_bytes())?;
                }
                beside.say(transaction, &format!("halfway {me}"), own[0].as_bytes(), round)
            })
            .expect("committed");
    }
}

/// The keys of those who stopped halfway have the same value, for whoever reads.
fn read_halves(store: &Store) {
    let mut halves: BTreeMap<String, u64> = BTreeMap::new();
    let mut cursor = 0;
    loop {
        let visit = |key: &[u8], _: &memora::Entry| {
            let key = String::from_utf8_lossy(key).into_owned();
            if let Some(who) = key.strip_prefix("halfway ") {
                halves.entry(who[..who.len() - 2].to_string()).or_default();
            }
        };
        cursor = store.scan(cursor, 100, visit).expect("scanned");
        if cursor == 0 {
            break;
        }
    }
    for who in halves.keys() {
        let half = |which: &str| format!("halfway {who} {which}").into_bytes();
        let (a, b) = store
            .transact(|transaction| Ok((transaction.get(&half("a"))?, transaction.get(&half("b"))?)))
            .expect("read");
        assert_eq!(a, b, "one half of a transaction counts");
    }
}

pub fn victim(place: &Place) {
    let mut random = Random::new("victim");
    for _ in 0..2 {
        let fabric = fabric(place);
        let store = open(&fabric, place);
        // Before those who are halfway are met: the cut has to tell their states apart.
        store.flush().expect("flushed");
        read_halves(&store);
        fabric.reap().expect("reaped");
        let beside = Beside::of(&fabric);
        work(&store, &beside, "victim", &mut random, 30);
        forget(&fabric);
        drop((store, beside));
        fabric.close().expect("closed");
    }
}

/// A store without files takes what is deleted out at once.
fn forget(fabric: &Fabric) {
    let options = StoreOptions { durability: Durability::Process, ..StoreOptions::default() };
    let store = fabric.store("memory", &options).expect("created");
    for round in 0..4u8 {
        store
            .transact(|transaction| {
                transaction.delete(b"gone")?;
                transaction.put(b"kept", &[round])
            })
            .expect("committed");
        store.set(b"gone", b"again").expect("set");
        let both = store
            .transact(|transaction| Ok((transaction.get(b"gone")?, transaction.get(b"kept")?)))
            .expect("read");
        assert!(both.1.is_some(), "{both:?}");
    }
}

fn survive(place: &Place, blow: Blow) {
    let root = Place { root: place.root.clone() };
    within_patience("transactions beside the victim", move || {
        let fabric = fabric(&root);
        let store = open(&fabric, &root);
        read_halves(&store);
        assert_eq!(sum(&store), ACCOUNTS * START, "with the victim");
        let mut random = Random::new(&format!("survivor {blow:?}"));
        work(&store, &Beside::of(&fabric), "survivor", &mut random, 40);
        assert_eq!(sum(&store), ACCOUNTS * START, "with the victim");
        check(&fabric, "with the victim");
    });
}

fn conclude(place: &Place) {
    let (mut done, mut entries) = (Vec::new(), BTreeMap::new());
    {
        let fabric = fabric(place);
        fabric.reap().expect("reaped");
        let store = open(&fabric, place);
        work(&store, &Beside::of(&fabric), "last", &mut Random::new("last"), 10);
        read_halves(&store);
        audit(&fabric, &store);
        for who in ["victim", "survivor", "last"] {
            done.push((who, number(store.get(who.as_bytes()).expect("read"))));
        }
        store.flush().expect("flushed");
        entries.extend(contents(&store));
        assert_eq!(store.len().expect("counted"), entries.len() as u64);
        check(&fabric, "after the victim");
        drop(store);
        fabric.close().expect("closed");
    }
    assert!(done.iter().any(|(who, count)| *who == "last" && *count == 11));
    Fabric::remove(Some(&place.home()), FABRIC).unwrap_or_else(|error| panic!("the fabric stays: {error}"));
    let fabric = fabric(place);
    let store = open(&fabric, place);
    assert_eq!(sum(&store), ACCOUNTS * START, "after recovery");
    assert_eq!(contents(&store), entries, "what was flushed is recovered");
    assert_eq!(store.len().expect("counted"), entries.len() as u64);
    read_halves(&store);
    check(&fabric, "after recovery");
}

/// There is a message of each transaction that was committed, once, and of no other.
fn audit(fabric: &Fabric, store: &Store) {
    let mut said: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let mirror = mirror(fabric);
    assert_eq!(mirror.len().expect("counted"), mirror.iter().count() as u64);
    let mut auditor = moves(fabric).subscribe("auditor").expect("subscribed");
    let mut message = Vec::new();
    while auditor.try_recv(&mut message).expect("received").is_some() {
        let text = std::str::from_utf8(&message).expect("text");
        let (who, count) = text.rsplit_once(' ').expect("two words");
        said.entry(who.to_owned()).or_default().push(count.parse().expect("of a committed transaction"));
    }
    for (who, counts) in &mut said {
        // One after the other uses several lanes, between which there is no order.
        counts.sort_unstable();
        let key = if who.starts_with("halfway") { format!("{who} a") } else { who.clone() };
        let done = number(store.get(key.as_bytes()).expect("read"));
        assert_eq!(*counts, (1..=done).collect::<Vec<_>>(), "{who}");
        assert_eq!(number(mirror.get(key.as_bytes()).expect("read")), done, "{who} in the cache");
    }
    for who in contents(store).into_keys().map(|key| String::from_utf8(key).expect("text")) {
        let counted = ["victim", "survivor", "last"].contains(&who.as_str());
        let who = who.strip_suffix(" a").unwrap_or(&who);
        if counted || who.starts_with("halfway") && !who.ends_with(" b") {
            assert!(said.contains_key(who), "nothing was said of {who}");
        }
    }
}

fn contents(store: &Store) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let (mut all, mut cursor) = (BTreeMap::new(), 0);
    loop {
        cursor = store
            .scan(cursor, 100, |key, entry| {
                all.insert(key.to_vec(), entry.value.clone());
            })
            .expect("scanned");
        if cursor == 0 {
            return all;
        }
    }
}
