//! Every interleaving of readers, writers, cleaning and the insert lock, on the real functions over a tiny geometry: index
//! chunks of one home and one stash bucket with two slots each, chunks of two records.
//!
//! In models the insert lock is taken from a live holder at the first look, as if he had been stopped for long.
//!
//! Run with `RUSTFLAGS="--cfg memora_loom" cargo test -p memora --lib --release --target-dir target/loom interleavings`.

use std::sync::Arc;

use super::*;
use crate::chunk::testing::Stage;
use crate::chunk::{Actor, Kind, Need, Wish};

const CHUNK_BYTES: u64 = 128;

fn model(preemptions: usize, check: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 50_000;
    builder.check(check);
}

fn table(threads: u16) -> (Arc<Stage>, Arc<Table>) {
    let (stage, pool) = Stage::pool(threads, 16, CHUNK_BYTES);
    let me = stage.actor(1);
    let count = chunks_needed(&pool);
    let first = pool.allocate_run(me, Class::Control, 5, count, Need::Clean).unwrap();
    let root = pool.geometry().chunk_offset(ChunkId(first.0 + count - 1));
    stage.touch(pool.geometry(), &[root]);
    let run = pool.run_span(first, count).unwrap();
    initialise(&pool, run, RecordClass::Cache, 42, 0).unwrap();
    pool.settle(me, first).unwrap();
    // Taking a chunk has many steps, and models of its own.
    for index in 1..=threads {
        pool.next_chunk(stage.actor(index), Class::Main, 5, Need::Clean).unwrap();
    }
    let offset = run.offset();
    (stage, Arc::new(Table::open(pool, 5, offset, RecordClass::Cache, Arc::new(|| 1)).unwrap()))
}

fn put(table: &Table, me: Actor<'_>, key: &[u8], value: u8) {
    let bytes = [value; 16];
    table
        .update(me, key, |_| Ok(Action::Put(Update { value: Value::Bytes(&bytes), expiry: 0, client: 0 })))
        .unwrap();
}

fn add(table: &Table, me: Actor<'_>, key: &[u8], value: u8) -> bool {
    let bytes = [value; 16];
    let changed = table.update(me, key, |current| {
        Ok(match current {
            Some(_) => Action::Keep,
            None => Action::Put(Update { value: Value::Bytes(&bytes), expiry: 0, client: 0 }),
        })
    });
    changed.unwrap().changed
}

fn get(table: &Table, key: &[u8]) -> Option<[u8; 16]> {
    let mut found = [0; 16];
    table.read(key, |_, value| value.copy_out(0, &mut found)).unwrap().map(|_| found)
}

/// Cleans the chunk with the fewest live bytes, if that gains `gain` bytes.
fn clean_one(table: &Table, me: Actor<'_>, gain: u64, press: bool) -> bool {
    let wish = Wish { own: Some(table.object), own_gain: gain, other_gain: gain, press };
    match table.pool.victim(me, &wish).unwrap() {
        Some((chunk, _)) => table.clean_records(me, chunk, 64).unwrap(),
        None => false,
    }
}

/// Slots that name a record.
fn published(table: &Table) -> usize {
    let mut count = 0;
    table
        .each_slot(&mut |_, _| {
            count += 1;
            Ok(())
        })
        .unwrap();
    count
}

/// A reader copies while its record is replaced, its chunk is cleaned and freed, and another key's record is written over
/// the very bytes: it gets the old value or the new one, whole.
#[test]
fn a_reader_never_gets_torn_or_foreign_bytes() {
    model(3, || {
        let (stage, table) = table(2);
        let (me, other) = (stage.actor(1), stage.actor(2));
        put(&table, me, b"k", 1);
        let first = table.pool.geometry().chunk_of(record_of(&table)).unwrap();
        table.pool.seal_mine(me, 5).unwrap();
        let reader = {
            let table = table.clone();
            loom::thread::spawn(move || {
                let value = get(&table, b"k").expect("the key is never absent");
                assert!(value == [1; 16] || value == [2; 16], "torn or foreign: {value:?}");
            })
        };
        let cleaner = {
            let (stage, table) = (stage.clone(), table.clone());
            loom::thread::spawn(move || {
                let me = stage.actor(1);
                put(&table, me, b"k", 2);
                assert!(clean_one(&table, me, 16, false));
            })
        };
        cleaner.join().unwrap();
        assert!(table.pool.state(first).unwrap().is(Kind::Free));
        // Another thread takes the chunk that was freed: its bytes become another record.
        table.pool.next_chunk(other, Class::Main, 5, Need::Clean).unwrap();
        put(&table, other, b"o", 3);
        assert_eq!(
            table.pool.tail(first).unwrap(),
            table.pool.tail(first).unwrap().max(1),
            "the bytes were used again"
        );
        reader.join().unwrap();
        assert_eq!((get(&table, b"k"), get(&table, b"o")), (Some([2; 16]), Some([3; 16])));
    });
}

/// First byte of the key of the first record in a chunk.
fn record_at(table: &Table, chunk: ChunkId) -> u8 {
    let word = table.pool.span(chunk).unwrap().u64(table.header).unwrap();
    word.load(crate::shm::atomic::Ordering::Relaxed) as u8
}

/// Where the only record stands.
fn record_of(table: &Table) -> u64 {
    let mut offset = 0;
    table
        .each_slot(&mut |word, _| {
            offset = word.offset();
            Ok(())
        })
        .unwrap();
    offset
}

/// Two threads add the same key, and each takes the lock from the other when it finds it held, however far the other has
/// come: one of them succeeds, and there is one record.
#[test]
fn a_key_is_added_once_although_the_lock_is_stolen() {
    model(2, || {
        let (stage, table) = table(2);
        let other = {
            let (stage, table) = (stage.clone(), table.clone());
            loom::thread::spawn(move || add(&table, stage.actor(2), b"k", 2))
        };
        let mine = add(&table, stage.actor(1), b"k", 1);
        let other = other.join().unwrap();
        assert!(mine ^ other, "both or none added the key");
        assert_eq!(published(&table), 1, "the key is there more than once");
        assert_eq!(get(&table, b"k"), Some(if mine { [1; 16] } else { [2; 16] }));
    });
}

/// The same with a third thread that deletes the key: what was added and not deleted is there, once.
#[test]
fn adding_and_deleting_add_up() {
    model(1, || {
        let (stage, table) = table(3);
        let other = {
            let (stage, table) = (stage.clone(), table.clone());
            loom::thread::spawn(move || i64::from(add(&table, stage.actor(2), b"k", 2)))
        };
        let deleter = {
            let (stage, table) = (stage.clone(), table.clone());
            loom::thread::spawn(move || {
                let changed = table.update(stage.actor(3), b"k", |_| Ok(Action::Remove)).unwrap();
                i64::from(changed.changed)
            })
        };
        let added = i64::from(add(&table, stage.actor(1), b"k", 1)) + other.join().unwrap();
        let deleted = deleter.join().unwrap();
        assert_eq!(published(&table) as i64, added - deleted);
        assert_eq!(get(&table, b"k").is_some(), added > deleted);
        assert!((0..=1).contains(&(added - deleted)));
    });
}

/// A key is overwritten and deleted while its record is being moved by the cleaner: no lost update, no resurrection.
#[test]
fn cleaning_neither_loses_an_update_nor_revives_an_entry() {
    model(2, || {
        let (stage, table) = table(2);
        let me = stage.actor(1);
        put(&table, me, b"k", 1);
        put(&table, me, b"l", 1);
        table.pool.seal_mine(me, 5).unwrap();
        let cleaner = {
            let (stage, table) = (stage.clone(), table.clone());
            loom::thread::spawn(move || {
                clean_one(&table, stage.actor(2), 0, true);
            })
        };
        put(&table, me, b"k", 2);
        assert!(table.update(me, b"l", |_| Ok(Action::Remove)).unwrap().changed);
        cleaner.join().unwrap();
        assert_eq!((get(&table, b"k"), get(&table, b"l")), (Some([2; 16]), None));
        assert_eq!(published(&table), 1);
    });
}
