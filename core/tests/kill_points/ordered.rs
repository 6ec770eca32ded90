//! Victims on a store that keeps its keys in order: keys come at the end, go at the front and in the middle, as in a queue.
//!
//! The victim acknowledges each change by a line of its own; what a change that it did not live to acknowledge has done is not
//! known. Survivors scan: what is acknowledged is there, in order, and nothing twice.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::ops::Bound;
use std::path::PathBuf;

use memora::{Direction, Durability, Fabric, Store, StoreOptions};
use memora_testkit::kill_point::{Victim, within_patience};

use crate::{Blow, Place, Scenario, check};

pub const SCENARIO: Scenario = Scenario {
    role: "ordered",
    covers: |name| name.starts_with("tree.") || name.starts_with("table.leave."),
    tries: 2,
    prepare,
    survive,
    conclude,
};

/// Keys that are there at once, and those that come in all.
const WINDOW: u32 = 150;
const KEYS: u32 = 1200;

fn open(fabric: &Fabric) -> Store {
    let options =
        StoreOptions { durability: Durability::Process, ordered: Some(true), ..StoreOptions::default() };
    fabric.store("ordered", &options).unwrap_or_else(|error| panic!("the store does not open: {error}"))
}

fn key(number: u32) -> String {
    // Long enough that a few dozen fill a node.
    format!("a job of some length/{number:08}/{}", number % 7)
}

/// Some stay between those that go.
fn stays(number: u32) -> bool {
    number < KEYS / 2 && number.is_multiple_of(10)
}

fn log(place: &Place) -> PathBuf {
    place.root.join("acknowledged")
}

fn prepare(_: &Place) -> Vec<Victim> {
    Vec::new()
}

pub fn victim(place: &Place) {
    let fabric = place.tight();
    let store = open(&fabric);
    let mut log = std::fs::OpenOptions::new().create(true).append(true).open(log(place)).expect("writable");
    let mut tell = |line: String| log.write_all(line.as_bytes()).expect("written");
    for number in 0..KEYS {
        tell(format!("? {number}\n"));
        store.set(key(number).as_bytes(), b"job").expect("stored");
        tell(format!("+ {number}\n"));
        // Every tenth stays.
        let old = number.saturating_sub(WINDOW);
        if number >= WINDOW && !stays(old) {
            tell(format!("? {old}\n"));
            assert!(store.delete(key(old).as_bytes()).expect("deleted"));
            tell(format!("- {old}\n"));
        }
    }
    drop(store);
    fabric.close().expect("closed");
}

/// What the victim's lines say of each key: there, gone, or not known.
fn acknowledged(place: &Place) -> BTreeMap<String, Option<bool>> {
    let text = std::fs::read_to_string(log(place)).unwrap_or_default();
    let mut known = BTreeMap::new();
    for line in text.lines() {
        let (what, number) = line.split_once(' ').expect("a whole line");
        let state = match what {
            "+" => Some(true),
            "-" => Some(false),
            _ => None,
        };
        known.insert(key(number.parse().expect("a number")), state);
    }
    known
}

fn keys(store: &Store, direction: Direction) -> Vec<String> {
    let mut keys = Vec::new();
    store
        .range(Bound::Unbounded, Bound::Unbounded, direction, usize::MAX, |key, _| {
            keys.push(String::from_utf8(key.to_vec()).expect("text"));
        })
        .unwrap_or_else(|error| panic!("the scan fails: {error}"));
    keys
}

fn judge(store: &Store, known: &BTreeMap<String, Option<bool>>) {
    for direction in [Direction::Forward, Direction::Backward] {
        let mut keys = keys(store, direction);
        if direction == Direction::Backward {
            keys.reverse();
        }
        assert!(keys.windows(2).all(|pair| pair[0] < pair[1]), "in order, none twice");
        let found: BTreeSet<_> = keys.into_iter().filter(|key| known.contains_key(key)).collect();
        for (key, state) in known {
            if let Some(there) = state {
                assert_eq!(found.contains(key), *there, "{key}");
            }
        }
    }
}

fn survive(place: &Place, _: Blow) {
    let place = Place { root: place.root.clone() };
    within_patience("operations on the keys of the victim", move || {
        let fabric = place.tight();
        let store = open(&fabric);
        // It is dead or frozen: nothing is acknowledged meanwhile.
        let known = acknowledged(&place);
        judge(&store, &known);
        // Neighbours of all of its keys come and go.
        let beside: Vec<String> = known.keys().map(|key| format!("{key}+")).collect();
        for key in &beside {
            store.set(key.as_bytes(), b"beside").expect("stored");
        }
        judge(&store, &known);
        check(&fabric, "with the victim");
        for key in &beside {
            assert!(store.delete(key.as_bytes()).expect("deleted"));
        }
        judge(&store, &known);
        check(&fabric, "with the victim, later");
    });
}

fn conclude(place: &Place) {
    let fabric = place.tight();
    let store = open(&fabric);
    judge(&store, &acknowledged(place));
    check(&fabric, "after the victim");
    let all = keys(&store, Direction::Forward);
    for key in &all {
        assert!(store.delete(key.as_bytes()).expect("deleted"));
    }
    assert!(keys(&store, Direction::Forward).is_empty());
    check(&fabric, "when all is gone");
}
