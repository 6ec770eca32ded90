//! Every interleaving of readers, writers, cleaning and the insert lock, on the real functions over a tiny geometry: index
//! chunks of one home and one stash bucket with two slots each, chunks of two records.
//!
//! In models the insert lock is taken from a live holder at the first look, as if he had been stopped for long.
//!
//! Run with `RUSTFLAGS="--cfg memora_loom" cargo test -p memora --lib --release --target-dir target/loom interleavings`.

use std::sync::Arc;

use super::evict::Budget;
use super::lease::Bell;
use super::queue::{Purpose, Victim};
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
    table_of(threads, 16, threads)
}

/// A table in a pool of `chunks`, of whose threads the first `ready` have a chunk to append to.
fn table_of(threads: u16, chunks: u32, ready: u16) -> (Arc<Stage>, Arc<Table>) {
    table_with(threads, chunks, ready, &TableOptions::default())
}

fn table_with(threads: u16, chunks: u32, ready: u16, options: &TableOptions) -> (Arc<Stage>, Arc<Table>) {
    let (stage, pool) = Stage::pool(threads, chunks, CHUNK_BYTES);
    let me = stage.actor(1);
    let count = chunks_needed(&pool, options);
    let first = pool.allocate_run(me, Class::Control, 5, count, Need::Clean).unwrap();
    // The root, and the chunks that become its children.
    let last = ChunkId(first.0 + count - 1);
    let buckets: Vec<u64> =
        (last.0..chunks).map(|chunk| pool.geometry().chunk_offset(ChunkId(chunk))).collect();
    stage.touch(pool.geometry(), &buckets);
    let run = pool.run_span(first, count).unwrap();
    initialise(&pool, run, RecordClass::Cache, 42, options).unwrap();
    pool.settle(me, first).unwrap();
    // Taking a chunk has many steps, and models of its own.
    for index in 1..=ready {
        pool.next_chunk(stage.actor(index), Class::Main, 5, Need::Clean).unwrap();
    }
    let offset = run.offset();
    (stage, Arc::new(Table::open(pool, 5, offset, RecordClass::Cache, Arc::new(|| 1)).unwrap()))
}

/// A table that evicts, with two young entries in a sealed chunk, which were read `read` times.
fn evicting(threads: u16, read: u8) -> (Arc<Stage>, Arc<Table>, ChunkId) {
    let options = TableOptions { cache: true, evict: true, ..TableOptions::default() };
    let (stage, table) = table_with(threads, 32, 0, &options);
    let me = stage.actor(1);
    let ghosts = table.ghosts().unwrap();
    for set in 0..ghosts.len() / 32 {
        for way in 0..8 {
            ghosts.block::<32>(32 * set).unwrap().u32_at::<0>(way).load(Ordering::Relaxed);
        }
    }
    for index in 1..=threads {
        table.pool.next_chunk(stage.actor(index), Class::Main, 5, Need::Clean).unwrap();
    }
    table.pool.next_chunk(me, Class::Small, 5, Need::Clean).unwrap();
    for key in [b"k", b"l"] {
        put(&table, me, key, 1);
        for _ in 0..read {
            assert_eq!(get(&table, key), Some([1; 16]));
        }
    }
    let young = table.pool.geometry().chunk_of(record_of(&table)).unwrap();
    table.pool.put_away_class(me, Class::Small, 5).unwrap();
    table.pool.next_chunk(me, Class::Small, 5, Need::Clean).unwrap();
    assert!(!table.eviction_is_due(), "only the one who is told to evicts");
    (stage, table, young)
}

/// Evicts from a young chunk that may be in the hands of another thread: it is taken from that as if it were stopped. How
/// victims are searched and chosen is not part of it.
fn evict_young(table: &Table, me: Actor<'_>, chunk: ChunkId) {
    let state = table.pool.state(chunk).unwrap();
    if !state.is(Kind::Sealed) && !state.is(Kind::Evicting)
        || !table.pool.take_dirty(me, chunk, state).unwrap()
    {
        return;
    }
    let taken = table.pool.state(chunk).unwrap();
    if taken.is(Kind::Evicting) && taken.owner() == me.index && taken.generation() == state.generation() {
        let victim = Victim { chunk, state: taken, purpose: Purpose::Small };
        // Whoever was robbed may find the chunk in use for something else, as [`Table::evict`] expects.
        if table.evict_from(me, &victim, &mut Budget::of(4, usize::MAX)).is_err() {
            assert_ne!(table.pool.state(chunk).unwrap(), taken);
        }
    }
}

/// An entry is overwritten and another deleted while both are evicted: the new value stays, nothing comes back.
#[test]
fn evicting_neither_loses_an_update_nor_revives_an_entry() {
    model(2, || {
        let (stage, table, young) = evicting(2, 0);
        let evictor = {
            let (stage, table) = (stage.clone(), table.clone());
            loom::thread::spawn(move || evict_young(&table, stage.actor(2), young))
        };
        let me = stage.actor(1);
        put(&table, me, b"k", 2);
        table.update(me, b"l", |_| Ok(Action::Remove)).unwrap();
        evictor.join().unwrap();
        assert_eq!((get(&table, b"k"), get(&table, b"l")), (Some([2; 16]), None));
        assert_eq!(published(&table), 1);
    });
}

/// Two threads evict from the same chunk, each taking it from the other as if it were stopped: what is worth keeping is kept
/// once, whole, and never missed.
#[test]
fn who_takes_over_from_an_evictor_keeps_each_entry_once() {
    model(2, || {
        let (stage, table, young) = evicting(2, 3);
        let evictor = {
            let (stage, table) = (stage.clone(), table.clone());
            loom::thread::spawn(move || evict_young(&table, stage.actor(2), young))
        };
        evict_young(&table, stage.actor(1), young);
        assert_eq!(get(&table, b"k"), Some([1; 16]));
        evictor.join().unwrap();
        assert_eq!((get(&table, b"k"), get(&table, b"l")), (Some([1; 16]), Some([1; 16])));
        assert_eq!(published(&table), 2);
    });
}

fn put(table: &Table, me: Actor<'_>, key: &[u8], value: u8) {
    let bytes = [value; 16];
    table
        .update(me, key, |_| {
            Ok(Action::Put(Update { value: Value::Bytes(&bytes), expiry: 0, client: 0, marks: 0, id: 0 }))
        })
        .unwrap();
}

fn add(table: &Table, me: Actor<'_>, key: &[u8], value: u8) -> bool {
    let bytes = [value; 16];
    let changed = table.update(me, key, |current| {
        Ok(match current {
            Some(_) => Action::Keep,
            None => {
                Action::Put(Update { value: Value::Bytes(&bytes), expiry: 0, client: 0, marks: 0, id: 0 })
            }
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
///
/// It is the release fence of whoever opens the chunk that the reader relies on. So nothing else that whoever opens it does
/// before it writes may be such a fence: it has no other chunk to seal, and there are so many free ones that it cleans none.
#[test]
fn a_reader_never_gets_torn_or_foreign_bytes() {
    model(2, || {
        let (stage, table) = table_of(2, 32, 1);
        let (me, other) = (stage.actor(1), stage.actor(2));
        put(&table, me, b"k", 1);
        let first = table.pool.geometry().chunk_of(record_of(&table)).unwrap();
        table.pool.put_away(me, 5).unwrap();
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
                // The only record of its chunk dies, so the chunk is free at once.
                put(&table, me, b"k", 2);
            })
        };
        cleaner.join().unwrap();
        assert!(table.pool.state(first).unwrap().is(Kind::Free));
        // Another thread takes the chunk that was freed: its bytes become another record.
        table.pool.next_chunk(other, Class::Main, 5, Need::Clean).unwrap();
        put(&table, other, b"o", 3);
        assert_eq!(record_at(&table, first), b'o', "the bytes were used again");
        reader.join().unwrap();
        assert_eq!((get(&table, b"k"), get(&table, b"o")), (Some([2; 16]), Some([3; 16])));
    });
}

/// A thread views a key while its record is replaced and its chunk would be free at once: as long as the view lives, its
/// bytes are those of the record, and nobody else gets the chunk.
#[test]
fn a_view_keeps_the_record_that_it_found() {
    model(2, || {
        let (stage, table) = table_of(2, 32, 1);
        let me = stage.actor(1);
        put(&table, me, b"k", 1);
        let first = table.pool.geometry().chunk_of(record_of(&table)).unwrap();
        table.pool.put_away(me, 5).unwrap();
        let viewer = {
            let (stage, table) = (stage.clone(), table.clone());
            loom::thread::spawn(move || {
                let hold = |chunk| Ok(stage.hold(chunk)?.then_some(Let { stage: &stage, chunk }));
                let (_, bytes, held) = table.view(0, b"k", hold).unwrap().expect("the key is never absent");
                let mut copy = [0; 16];
                bytes.copy_out(&mut copy).unwrap();
                assert!(copy == [1; 16] || copy == [2; 16], "torn or foreign: {copy:?}");
                if held.is_some_and(|held| held.chunk == first) {
                    assert_eq!(copy, [1; 16]);
                }
            })
        };
        // The only record of its chunk dies, so the chunk is free at once, unless it is held; another record is written to it.
        put(&table, me, b"k", 2);
        if table.pool.state(first).unwrap().is(Kind::Free) {
            // As whoever opens a chunk does before it writes.
            crate::shm::atomic::fence(crate::shm::atomic::Ordering::Release);
            table.pool.span(first).unwrap().zero(0, CHUNK_BYTES).unwrap();
        }
        viewer.join().unwrap();
        table.pool.free_quiet().unwrap();
        assert!(table.pool.state(first).unwrap().is(Kind::Free));
    });
}

/// Lets go of a chunk when it is dropped.
struct Let<'a> {
    stage: &'a Stage,
    chunk: ChunkId,
}

impl Drop for Let<'_> {
    fn drop(&mut self) {
        self.stage.let_go(self.chunk);
    }
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
        table.pool.put_away(me, 5).unwrap();
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

/// A table with a key, whose index chunk is about to be divided: the children are named.
fn splitting(threads: u16) -> (Arc<Stage>, Arc<Table>, u64) {
    let (stage, table) = table_of(threads, 20, 2);
    let me = stage.actor(1);
    put(&table, me, b"k", 1);
    let hash = table.hasher.hash(b"k");
    table.begin_split(me, hash).unwrap();
    (stage, table, hash)
}

/// After a split: the keys with these values are there, once, and the directory names the children.
fn assert_divided(table: &Table, entries: &[(&[u8], u8)]) {
    for (key, value) in entries {
        assert_eq!(get(table, key), Some([*value; 16]));
    }
    assert_eq!(published(table), entries.len(), "each key is there once");
    for index in 0..1 << table.bits {
        let entry = Entry(table.directory_word(index).unwrap().load(Ordering::Relaxed));
        assert_eq!(entry.depth(), 1, "entry {index} names a child");
    }
}

/// An index chunk is divided while a thread reads a key in it: it is not missed.
#[test]
fn a_split_hides_no_key_from_a_reader() {
    model(2, || {
        let (stage, table, hash) = splitting(2);
        let reader = {
            let table = table.clone();
            loom::thread::spawn(move || {
                assert_eq!(get(&table, b"k"), Some([1; 16]), "the key is never absent")
            })
        };
        table.split(stage.actor(1), hash).unwrap();
        reader.join().unwrap();
        assert_divided(&table, &[(b"k", 1)]);
    });
}

/// An index chunk is divided while one thread reads a key in it and another adds one: nothing is missed, lost or doubled.
/// Three threads have too many interleavings for all: those that a third of a minute allows.
#[test]
fn a_split_neither_loses_nor_doubles_a_key() {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(1);
    builder.max_branches = 50_000;
    builder.max_duration = Some(std::time::Duration::from_secs(20));
    builder.checkpoint_interval = 50;
    builder.check(|| {
        let (stage, table, hash) = splitting(3);
        let reader = {
            let table = table.clone();
            loom::thread::spawn(move || {
                assert_eq!(get(&table, b"k"), Some([1; 16]), "the key is never absent")
            })
        };
        let inserter = {
            let (stage, table) = (stage.clone(), table.clone());
            loom::thread::spawn(move || assert!(add(&table, stage.actor(2), b"n", 2), "nobody else adds it"))
        };
        table.split(stage.actor(1), hash).unwrap();
        reader.join().unwrap();
        inserter.join().unwrap();
        assert_divided(&table, &[(b"k", 1), (b"n", 2)]);
    });
}

/// A thread adds a key while its buckets are moved: it is there afterwards, once.
#[test]
fn a_split_takes_a_new_key_along() {
    model(1, || {
        let (stage, table, hash) = splitting(2);
        let inserter = {
            let (stage, table) = (stage.clone(), table.clone());
            loom::thread::spawn(move || assert!(add(&table, stage.actor(2), b"n", 2), "nobody else adds it"))
        };
        table.split(stage.actor(1), hash).unwrap();
        inserter.join().unwrap();
        assert_divided(&table, &[(b"k", 1), (b"n", 2)]);
    });
}

/// A key is overwritten while its slot is moved to a child by two helpers: the old value does not come back.
#[test]
fn a_split_does_not_bring_back_what_was_replaced() {
    model(1, || {
        let (stage, table, hash) = splitting(2);
        let writer = {
            let (stage, table) = (stage.clone(), table.clone());
            loom::thread::spawn(move || {
                put(&table, stage.actor(2), b"k", 2);
                assert_eq!(get(&table, b"k"), Some([2; 16]));
            })
        };
        table.split(stage.actor(1), hash).unwrap();
        writer.join().unwrap();
        assert_divided(&table, &[(b"k", 2)]);
    });
}

/// A lease ends while two wait for it: whoever decides to sleep after its end is woken.
#[test]
fn no_sleeper_misses_the_end_of_a_lease() {
    model(4, || {
        let shm = Arc::new(Shm::heap(16).unwrap());
        shm.block::<16>(0).unwrap().u32::<0>().store(0, Ordering::Relaxed);
        shm.block::<16>(0).unwrap().u64::<8>().store(0, Ordering::Relaxed);
        let wait = |shm: Arc<Shm>| {
            move || {
                let block = shm.block::<16>(0).unwrap();
                let seen = Bell::new(block.u32::<0>()).listen();
                // The slot of the key: 0 stands for the lease.
                let held = block.u64::<8>().load(Ordering::Acquire) == 0;
                held.then_some(seen)
            }
        };
        let other = loom::thread::spawn(wait(shm.clone()));
        let owner = {
            let shm = shm.clone();
            loom::thread::spawn(move || {
                let block = shm.block::<16>(0).unwrap();
                block.u64::<8>().store(1, Ordering::Release);
                Bell::new(block.u32::<0>()).ring();
            })
        };
        let asleep = [wait(shm.clone())(), other.join().unwrap()];
        owner.join().unwrap();
        let word = shm.block::<16>(0).unwrap().u32::<0>().load(Ordering::Relaxed);
        for seen in asleep.into_iter().flatten() {
            assert_ne!(word, seen, "asleep for ever");
        }
    });
}

/// A key is set, in a chunk that is opened for it, while everything is flushed: if the flush was not yet done when the writer
/// looked at another key afterwards, its own is gone too.
#[test]
fn a_flush_leaves_nothing_that_was_set_before() {
    model(2, || {
        let (stage, table) = table_of(2, 16, 1);
        put(&table, stage.actor(1), b"old", 1);
        let writer = {
            let (stage, table) = (stage.clone(), table.clone());
            loom::thread::spawn(move || {
                put(&table, stage.actor(2), b"new", 2);
                get(&table, b"old").is_some()
            })
        };
        table.flush(stage.actor(1)).unwrap();
        assert_eq!(get(&table, b"old"), None);
        let before = writer.join().unwrap();
        let left = get(&table, b"new");
        assert!(left.is_none() || left == Some([2; 16]) && !before, "set before the flush and not gone");
        assert_eq!(table.len().unwrap(), u64::from(left.is_some()));
    });
}
