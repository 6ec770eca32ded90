//! Victims that back up a store in use, restore over one that is there, and repair damaged files.

use std::path::PathBuf;

use memora::{
    Durability, ErrorCode, Fabric, RepairOptions, RestoreOptions, Store, StoreOptions, repair, restore,
    verify,
};
use memora_testkit::kill_point::{Victim, within_patience};

use crate::{Blow, Place, Scenario, check};

pub const SCENARIO: Scenario = Scenario {
    role: "store files",
    covers: |name| ["store.backup.", "store.restore.", "store.repair."].iter().any(|it| name.starts_with(it)),
    tries: 2,
    prepare,
    survive,
    conclude,
};
const ENTRIES: u32 = 40;

fn open(fabric: &Fabric, place: &Place) -> Store {
    let options = StoreOptions {
        dir: Some(place.store_dir()),
        durability: Durability::Process,
        ..StoreOptions::default()
    };
    fabric.store("ledger", &options).unwrap_or_else(|error| panic!("the store does not open: {error}"))
}

fn fill(store: &Store, what: &str) {
    for key in 0..ENTRIES {
        store.set(&key.to_be_bytes(), what.as_bytes()).expect("stored");
    }
}

/// The only entry of its kind that is read back: all have the same value in every backup of a store that nobody writes.
fn values(store: &Store) -> Vec<Vec<u8>> {
    (0..ENTRIES).filter_map(|key| store.get(&key.to_be_bytes()).expect("readable")).collect()
}

impl Place {
    fn at(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }
}

fn overwrite() -> RestoreOptions {
    RestoreOptions { name: None, overwrite: true }
}

/// Lets the first bit of the first batch of a restored store rot.
fn damage(place: &Place, name: &str) {
    let path = place.at(name).join("checkpoint.0000001.0000000");
    let mut bytes = std::fs::read(&path).expect("a restored store");
    bytes[4096 + 100] ^= 1;
    std::fs::write(path, bytes).expect("writable");
}

fn prepare(place: &Place) -> Vec<Victim> {
    let fabric = place.fabric();
    let store = open(&fabric, place);
    fill(&store, "first");
    store.backup(place.at("good"), |_, _| {}).expect("backed up");
    restore(place.at("good"), place.at("restored"), &RestoreOptions::default(), |_, _| {}).expect("restored");
    Vec::new()
}

pub fn victim(place: &Place) {
    let fabric = place.fabric();
    let store = open(&fabric, place);
    for round in 0..3 {
        store.backup(place.at(&format!("backup.{round}")), |_, _| {}).expect("backed up");
        restore(place.at("good"), place.at("restored"), &overwrite(), |_, _| {}).expect("restored");
        let damaged = format!("damaged.{round}");
        restore(place.at("good"), place.at(&damaged), &overwrite(), |_, _| {}).expect("restored");
        damage(place, &damaged);
        let apply = RepairOptions { apply: true, name: None };
        repair(place.at(&damaged), &apply, |_, _| {}).expect("repaired");
    }
}

fn survive(place: &Place, blow: Blow) {
    let place = Place { root: place.root.clone() };
    within_patience("work on the store that is backed up", move || {
        let fabric = place.fabric();
        let store = open(&fabric, &place);
        // The same values: what a backup holds is known whenever it was made.
        fill(&store, "first");
        store.flush().expect("flushed");
        store.checkpoint().expect("checkpointed");
        let mine = place.at("of the survivor");
        assert!(store.backup(&mine, |_, _| {}).expect("backed up").records >= u64::from(ENTRIES));
        verify(&mine, |_, _| {}).expect("sound");
        check(&fabric, &format!("with the victim of {blow:?}"));
    });
}

fn conclude(place: &Place) {
    let fabric = place.fabric();
    let wanted = vec![b"first".to_vec(); ENTRIES as usize];
    assert_eq!(values(&open(&fabric, place)), wanted);
    for round in 0..3 {
        let backup = place.at(&format!("backup.{round}"));
        // All of a backup, or none.
        match verify(&backup, |_, _| {}) {
            Ok(report) => {
                assert!(report.backup && report.records >= u64::from(ENTRIES), "{report:?}");
                restore(&backup, place.at(&format!("again.{round}")), &overwrite(), |_, _| {})
                    .expect("restored");
            }
            Err(error) => {
                assert!([ErrorCode::NotAStore, ErrorCode::NotFound].contains(&error.code()), "{error}");
                let refused = restore(&backup, place.at("nowhere"), &overwrite(), |_, _| {}).unwrap_err();
                assert!([ErrorCode::NotABackup, ErrorCode::NotFound].contains(&refused.code()), "{refused}");
            }
        }
        // A repair can be done again where it was broken off, and has lost no more.
        let damaged = place.at(&format!("damaged.{round}"));
        let apply = RepairOptions { apply: true, name: None };
        if verify(&damaged, |_, _| {}).is_err_and(|error| error.code() == ErrorCode::JournalCorrupt) {
            let report = repair(&damaged, &apply, |_, _| {}).expect("repaired");
            assert_eq!(report.losses.len(), 1, "{report:?}");
        }
        if let Ok(report) = verify(&damaged, |_, _| {}) {
            assert!([0, u64::from(ENTRIES)].contains(&report.records), "{report:?}");
        }
    }
    restore(place.at("good"), place.at("restored"), &overwrite(), |_, _| {}).expect("restored again");
    let options = StoreOptions { dir: Some(place.at("restored")), ..StoreOptions::default() };
    let other = place.open("other", crate::FABRIC_LIMIT);
    let store = other.store("ledger", &options).unwrap_or_else(|error| panic!("it does not open: {error}"));
    assert_eq!(values(&store), wanted);
    check(&fabric, "after the victim");
}
