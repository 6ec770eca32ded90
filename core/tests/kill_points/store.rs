//! Victims on a store: every durability, checkpoints, recovery after the segment is lost.

use memora::{Durability, ErrorCode, Fabric, Store, StoreOptions};
use memora_stress::random::Random;
use memora_testkit::kill_point::{Harm, Victim, within_patience};

use crate::cache::{client, insert_many, mix, read_all};
use crate::{Blow, ENTRY, FABRIC, Place, Scenario, Versions, borrowed, check, environment, judge_kv};

pub const SCENARIO: Scenario =
    Scenario { role: "store", covers: |_| true, tries: 2, prepare, survive, conclude };
const STORE: &str = "ledger";

/// Everything acknowledged is on disk, so it must survive the loss of the segment.
fn options(place: &Place) -> StoreOptions {
    StoreOptions {
        dir: Some(place.store_dir()),
        durability: Durability::Sync,
        checkpoint_bytes: 256 << 10,
        ..StoreOptions::default()
    }
}

fn open_result(fabric: &Fabric, place: &Place) -> memora::Result<Store> {
    fabric.store(STORE, &options(place))
}

fn open(fabric: &Fabric, place: &Place) -> Store {
    open_result(fabric, place).unwrap_or_else(|error| panic!("the store does not open: {error}"))
}

/// None if a frozen victim keeps others out, and they are told so.
fn try_open(fabric: &Fabric, place: &Place, blow: Blow) -> Option<Store> {
    match open_result(fabric, place) {
        Ok(store) => Some(store),
        Err(error) if blow.keeps_out() && error.code() == ErrorCode::Busy => None,
        Err(error) => panic!("the store does not open: {error}"),
    }
}

fn lose_the_segment(place: &Place) {
    Fabric::remove(Some(&place.home()), FABRIC).unwrap_or_else(|error| panic!("the fabric stays: {error}"));
}

fn prepare(place: &Place) -> Vec<Victim> {
    let fabric = place.fabric();
    let mut client = client(open(&fabric, place), place, "first");
    mix(&mut client, &mut Random::new("first"), 30);
    drop(client);
    fabric.close().expect("closed");
    lose_the_segment(place);
    // A recovery that was broken off: the next one begins again with what it left in the table.
    let environment = environment(place);
    Victim::harm(ENTRY, "store", &borrowed(&environment), ("store.recover.record", 3, Harm::Kill))
        .expect("there are records to recover");
    Vec::new()
}

pub fn victim(place: &Place) {
    let mut random = Random::new("victim");
    for round in 0..3 {
        let fabric = place.fabric();
        let store = open(&fabric, place);
        // Each life keeps a feed of another size.
        let fed = StoreOptions { feed_bytes: Some((round + 1) << 20), ..options(place) };
        drop(fabric.store(STORE, &fed).expect("the store opens"));
        let mut client = client(store.clone(), place, "victim");
        for part in 0..4 {
            insert_many(&mut client, 400 * round + 100 * part, 20);
            mix(&mut client, &mut random, 30);
            store.set_durable(b"unrecorded", b"memory", Durability::Process).expect("stored");
            store.set_durable(b"unrecorded", b"soon", Durability::Async { interval_ms: 5 }).expect("stored");
            store.flush().expect("flushed");
        }
        store.checkpoint().expect("checkpointed");
        store.set_shards([2, 5, 3][round as usize]).expect("divided anew");
        mix(&mut client, &mut random, 20);
        store.stats().expect("counted");
        drop((client, store));
        fabric.close().expect("closed");
        if round < 2 {
            lose_the_segment(place);
        }
    }
}

fn survive(place: &Place, blow: Blow) {
    let place = Place { root: place.root.clone() };
    within_patience("operations on the store of the victim", move || {
        let fabric = place.fabric();
        let Some(store) = try_open(&fabric, &place, blow) else { return check(&fabric, "with the victim") };
        let mut client = client(store, &place, "survivor");
        let mut random = Random::new(&format!("survivor {blow:?}"));
        mix(&mut client, &mut random, 60);
        check(&fabric, "with the victim");
    });
}

fn conclude(place: &Place) {
    {
        let fabric = place.fabric();
        let mut client = client(open(&fabric, place), place, "last");
        mix(&mut client, &mut Random::new("last"), 20);
        read_all(&mut client);
        check(&fabric, "after the victim");
        drop(client);
        fabric.close().expect("closed");
    }
    lose_the_segment(place);
    let fabric = place.fabric();
    let mut client = client(open(&fabric, place), place, "recovered");
    read_all(&mut client);
    check(&fabric, "after recovery");
    judge_kv(place, Versions::Renewed);
}
