//! The store over a pool without a segment and files without a disk: models, faults, power cuts, sleepers.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;

use proptest::prelude::*;

use super::core::{Core, Host};
use super::recovery::Opening;
use super::*;
use crate::chunk::testing::Stage;
use crate::chunk::{Actor, ChunkId, Class, Need, Pool};
use crate::journal::FileLayer;
use crate::journal::sim::{Disk, Fault, Random};
use crate::table::layout::USER_OFFSET;
use crate::table::{Hands, RecordClass, Table, TableOptions, chunks_needed, initialise};

const THREADS: u16 = 8;
const OBJECT: u32 = 5;

/// Each thread that asks is one of the stage's.
pub(super) struct TestHost {
    pub(super) stage: Arc<Stage>,
    threads: Mutex<HashMap<ThreadId, u16>>,
}

impl Host for TestHost {
    fn enter(&self) -> Result<()> {
        Ok(())
    }

    fn process_entry(&self) -> Result<u16> {
        Ok(self.actor()?.index)
    }
}

impl Hands for TestHost {
    fn actor(&self) -> Result<Actor<'_>> {
        let mut threads = self.threads.lock().unwrap();
        let next = threads.len() as u16 + 1;
        let index = *threads.entry(std::thread::current().id()).or_insert(next);
        Ok(self.stage.actor(index))
    }
}

/// Whatever calls is one thread of another process.
struct Elsewhere {
    stage: Arc<Stage>,
    thread: u16,
}

impl Host for Elsewhere {
    fn enter(&self) -> Result<()> {
        Ok(())
    }

    fn process_entry(&self) -> Result<u16> {
        Ok(self.thread)
    }
}

impl Hands for Elsewhere {
    fn actor(&self) -> Result<Actor<'_>> {
        Ok(self.stage.actor(self.thread))
    }
}

/// A fabric in private memory: what a segment is to real stores.
pub(super) struct Memory {
    pub(super) host: Arc<TestHost>,
    pub(super) pool: Arc<Pool>,
    object: ChunkId,
    class: RecordClass,
}

impl Memory {
    pub(super) fn new(chunks: u32, chunk_bytes: u64) -> Memory {
        Memory::of(chunks, chunk_bytes, RecordClass::Store)
    }

    pub(super) fn of(chunks: u32, chunk_bytes: u64, class: RecordClass) -> Memory {
        let (stage, pool) = Stage::pool(THREADS, chunks, chunk_bytes);
        let host = Arc::new(TestHost { stage, threads: Mutex::default() });
        let me = host.actor().unwrap();
        let count = chunks_needed(&pool, &TableOptions::default());
        let object = pool.allocate_run(me, Class::Control, OBJECT, count, Need::Object).unwrap();
        initialise(&pool, pool.run_span(object, count).unwrap(), class, 42, &TableOptions::default())
            .unwrap();
        for number in object.0..object.0 + count {
            pool.settle(me, ChunkId(number)).unwrap();
        }
        Memory { host: host.clone(), pool, object, class }
    }

    pub(super) fn core(&self, disk: &Disk, checkpoint_bytes: u64) -> Result<Core> {
        self.core_of(self.host.clone(), disk, checkpoint_bytes)
    }

    fn core_of(&self, host: Arc<dyn Host>, disk: &Disk, checkpoint_bytes: u64) -> Result<Core> {
        let offset = self.pool.geometry().chunk_offset(self.object);
        let table =
            Table::open(self.pool.clone(), OBJECT, offset, self.class, Arc::new(crate::shm::time::boot_ms))?;
        let files: Arc<dyn FileLayer> = Arc::new(disk.clone());
        let opening = Opening {
            name: "test",
            fabric: [1; 16],
            fresh: [2; 16],
            checkpoint_bytes,
            shards: SHARDS_DEFAULT,
            files: (self.class == RecordClass::Store).then_some(files),
            writable: true,
        };
        Core::open(host, table, offset + USER_OFFSET, &opening, &mut |_| {})
    }

    /// A handle of another process: with its own thread, its own journal, nothing shared but the memory and the disk.
    pub(super) fn other_process(&self, disk: &Disk, thread: u16) -> Result<Store> {
        let host = Arc::new(Elsewhere { stage: Arc::clone(&self.host.stage), thread });
        Store::new(self.core_of(host, disk, 1 << 20)?, Durability::Process)
    }

    /// A handle without a ticker: the tests say when something is flushed; dropping it flushes nothing either.
    pub(super) fn store(&self, disk: &Disk) -> Result<Store> {
        Store::new(self.core(disk, 1 << 20)?, Durability::Process)
    }

    pub(super) fn assert_sound(&self) {
        let mut problems = Vec::new();
        let mut report = |place: String, what: String| problems.push(format!("{place}: {what}"));
        crate::chunk::check(&self.pool, false, &|_| false, &mut report).unwrap();
        assert_eq!(problems, Vec::<String>::new());
    }
}

/// All entries of a store.
pub(super) fn contents(store: &Store) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut cursor = 0;
    loop {
        cursor = store
            .scan(cursor, 16, |key, entry| {
                assert!(found.insert(key.to_vec(), entry.value.clone()).is_none(), "{key:?} twice");
            })
            .unwrap();
        if cursor == 0 {
            return found;
        }
    }
}

/// What a new fabric makes of the files.
pub(super) fn recovered(disk: &Disk) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let memory = Memory::new(96, 16 << 10);
    let store = memory.store(disk)?;
    Ok(contents(&store))
}

#[test]
fn what_was_flushed_is_recovered_and_deletes_and_new_lives_come_out_right() {
    let disk = Disk::default();
    let memory = Memory::new(256, 16 << 10);
    let store = memory.store(&disk).unwrap();
    store.set(b"a", b"1").unwrap();
    store.set(b"b", b"1").unwrap();
    store.flush().unwrap();
    assert!(store.delete(b"a").unwrap() && !store.delete(b"a").unwrap());
    store.flush().unwrap();
    // The tombstone has left the table: the journal has it.
    let mut states = 0;
    store
        .shared
        .core
        .table
        .each_state(&mut |_, _, _| {
            states += 1;
            Ok(())
        })
        .unwrap();
    assert_eq!(states, 1);
    assert_eq!(recovered(&disk).unwrap(), BTreeMap::from([(b"b".to_vec(), b"1".to_vec())]));
    // Made again: a state above that of the deletion.
    store.set(b"a", b"2").unwrap();
    store.flush().unwrap();
    assert_eq!(recovered(&disk).unwrap()[&b"a"[..]], b"2");
    store.checkpoint().unwrap();
    assert_eq!(recovered(&disk).unwrap(), contents(&store));
    assert_eq!(store.len().unwrap(), 2);
    memory.assert_sound();
}

#[test]
fn a_damaged_file_is_an_error_and_nothing_of_the_others_stays_in_memory() {
    let disk = Disk::default();
    let memory = Memory::new(400, 16 << 10);
    let store = memory.store(&disk).unwrap();
    for number in 0..2500u32 {
        store.set(&number.to_le_bytes(), &[7; 1000]).unwrap();
    }
    store.checkpoint().unwrap();
    let name = disk.names().unwrap().into_iter().find(|name| name.starts_with("checkpoint")).unwrap();
    // Whole batches stand before the damaged one.
    disk.edit(&name, |bytes| {
        let late = bytes.len() / 8 * 7;
        bytes[late] ^= 1;
    });
    let memory = Memory::new(400, 16 << 10);
    // More than fit at once if the first left anything.
    for _ in 0..2 {
        let error = memory.store(&disk).err().unwrap();
        assert_eq!(error.code(), ErrorCode::JournalCorrupt);
    }
    let offset = memory.pool.geometry().chunk_offset(memory.object);
    let clock = Arc::new(crate::shm::time::boot_ms);
    let table = Table::open(memory.pool.clone(), OBJECT, offset, RecordClass::Store, clock).unwrap();
    assert_eq!(table.stats().unwrap().entries, 0);
    memory.assert_sound();
}

#[test]
fn keys_of_every_allowed_length_are_journaled_and_recovered() {
    let (disk, memory) = (Disk::default(), Memory::new(64, 256 << 10));
    let store = memory.store(&disk).unwrap();
    let lens = [1, 255, 4096, 4097, 65_535, 65_536];
    for len in lens {
        store.set(&vec![len as u8; len], &len.to_le_bytes()).unwrap();
    }
    assert_eq!(store.set(&[7; 65_537], b"v").unwrap_err().code(), ErrorCode::KeyTooLong);
    store.set(&[7; 65_000], b"deleted").unwrap();
    store.flush().unwrap();
    assert!(store.delete(&[7; 65_000]).unwrap());
    store.flush().unwrap();
    let next = Memory::new(64, 256 << 10);
    let recovered = contents(&next.store(&disk).unwrap());
    assert_eq!(recovered.len(), lens.len());
    for len in lens {
        assert_eq!(recovered[&vec![len as u8; len]], len.to_le_bytes(), "a key of {len} bytes");
    }
}

#[test]
fn every_operation_keeps_its_promise() {
    let memory = Memory::new(256, 16 << 10);
    let store = memory.store(&Disk::default()).unwrap();
    let none = SetOptions::default();
    let first = store.add(b"k", b"v", &none).unwrap().expect("absent");
    assert_eq!(store.add(b"k", b"w", &none).unwrap(), None);
    assert_eq!(store.replace(b"other", b"w", &none).unwrap(), None);
    let second =
        store.replace(b"k", b"w", &SetOptions { flags: 9, ttl_ms: Some(60_000) }).unwrap().expect("there");
    let entry = store.get_entry(b"k").unwrap().expect("there");
    assert_eq!((entry.version, entry.flags, &entry.value[..]), (second, 9, &b"w"[..]));
    assert!(entry.ttl_ms.is_some_and(|ttl| ttl > 0 && ttl <= 60_000));
    assert_eq!(store.compare_and_swap(b"k", b"x", first, &none).unwrap(), CasOutcome::Stale(second));
    assert!(matches!(store.compare_and_swap(b"k", b"x", second, &none).unwrap(), CasOutcome::Stored(_)));
    assert_eq!(store.compare_and_swap(b"no", b"x", second, &none).unwrap(), CasOutcome::NotFound);
    assert_eq!(store.increment(b"n", 1, None).unwrap(), None);
    assert_eq!(store.increment(b"n", 1, Some(10)).unwrap(), Some(10));
    assert_eq!(store.increment(b"n", 5, None).unwrap(), Some(15));
    assert_eq!(store.decrement(b"n", 20, None).unwrap(), Some(0));
    assert_eq!(store.increment(b"k", 1, None).unwrap_err().code(), ErrorCode::NotANumber);
    store.set(b"n", b"18446744073709551615").unwrap();
    assert_eq!(store.increment(b"n", 1, None).unwrap_err().code(), ErrorCode::CounterOverflow);
    let mut small = [0; 4];
    let error = store.get_into(b"n", &mut small).unwrap_err();
    assert_eq!((error.code(), error.amount()), (ErrorCode::BufferTooSmall, 20));
    assert_eq!(store.get_into(b"k", &mut small).unwrap(), Some(1));
    assert_eq!(small[0], b'x');
    let mut seen = vec![None; 3];
    store.get_many(&[b"k", b"none", b"n"], |at, value| seen[at] = value.map(<[u8]>::to_vec)).unwrap();
    assert_eq!(seen, [Some(b"x".to_vec()), None, Some(b"18446744073709551615".to_vec())]);
    assert_eq!(store.set(b"", b"").unwrap_err().code(), ErrorCode::KeyTooLong);
    assert_eq!(store.set(b"k", &vec![0; 1 << 20]).unwrap_err().code(), ErrorCode::ValueTooLong);
    store.close().unwrap();
    assert_eq!(store.get(b"k").unwrap_err().code(), ErrorCode::Closed);
    assert!(store.close().is_ok());
}

#[test]
fn time_to_live_goes_on_over_a_recovery_and_ends() {
    let disk = Disk::default();
    let memory = Memory::new(256, 16 << 10);
    let store = memory.store(&disk).unwrap();
    store.set_with(b"short", b"1", &SetOptions { ttl_ms: Some(1), flags: 0 }).unwrap();
    store.set_with(b"long", b"1", &SetOptions { ttl_ms: Some(3_600_000), flags: 3 }).unwrap();
    store.flush().unwrap();
    let next = Memory::new(256, 16 << 10);
    let store = next.store(&disk).unwrap();
    let long = store.get_entry(b"long").unwrap().expect("not over yet");
    assert!(long.flags == 3 && long.ttl_ms.is_some_and(|ttl| ttl > 3_000_000 && ttl <= 3_600_000));
    while store.get(b"short").unwrap().is_some() {
        std::thread::yield_now();
    }
    // Its end becomes a deletion as any other, so it cannot come back.
    store.checkpoint().unwrap();
    store.flush().unwrap();
    assert_eq!(recovered(&disk).unwrap().len(), 1);
}

#[test]
fn a_time_to_live_longer_than_a_record_can_hold_does_not_wrap_when_it_is_recovered() {
    use super::recovery::boot_expiry;
    use crate::chunk::record::EXPIRY_MAX;
    let (wall, boot) = (1_700_000_000_000, 5_000_000);
    assert_eq!(boot_expiry(0, wall, boot), 0);
    assert_eq!(boot_expiry(wall - 7, wall, boot), boot + 1);
    assert_eq!(boot_expiry(wall + 10, wall, boot), boot + 10);
    // Set with the longest time to live on a host that was up for less long, or written by something hostile.
    assert_eq!(boot_expiry(wall + EXPIRY_MAX - 1000, wall, boot), EXPIRY_MAX);
    assert_eq!(boot_expiry(u64::MAX, wall, boot), EXPIRY_MAX);
}

#[test]
fn checkpoints_that_fail_before_they_write_use_up_no_terms() {
    let disk = Disk::default();
    let memory = Memory::new(256, 16 << 10);
    let store = memory.store(&disk).unwrap();
    store.set(b"a", b"1").unwrap();
    store.flush().unwrap();
    let core = &store.shared.core;
    let term = || core.words().unwrap().checkpointer().load(Ordering::Relaxed) >> 44;
    let before = term();
    disk.fail_at(disk.calls() + 1, Fault::FullFrom);
    for _ in 0..5 {
        assert_eq!(core.checkpoint_shard(None).unwrap_err().code(), ErrorCode::NoSpace);
    }
    assert_eq!(term(), before);
    disk.heal();
    assert!(core.checkpoint_shard(None).unwrap().is_some());
    assert_eq!(recovered(&disk).unwrap().len(), 1);
}

#[test]
fn impossible_words_of_the_journal_are_an_error_of_the_flush() {
    let disk = Disk::default();
    let memory = Memory::new(256, 16 << 10);
    let store = memory.store(&disk).unwrap();
    store.set(b"a", b"1").unwrap();
    store.flush().unwrap();
    let control = store.shared.core.words().unwrap().journal();
    let good = control.capacity().load(Ordering::Relaxed);
    // A journal file of that size would fill the disk.
    for capacity in [0, 4095, 128 << 20, u64::MAX] {
        control.capacity().store(capacity, Ordering::Relaxed);
        store.set(b"a", b"2").unwrap();
        assert_eq!(store.flush().unwrap_err().code(), ErrorCode::Corrupt, "{capacity}");
        assert_eq!(store.checkpoint().unwrap_err().code(), ErrorCode::Corrupt, "{capacity}");
    }
    control.capacity().store(good, Ordering::Relaxed);
    store.flush().unwrap();
    control.epoch().store(u64::MAX, Ordering::Relaxed);
    store.set(b"a", b"3").unwrap();
    assert_eq!(store.flush().unwrap_err().code(), ErrorCode::Corrupt);
    assert_eq!(store.checkpoint().unwrap_err().code(), ErrorCode::Corrupt);
}

#[test]
fn overwriting_for_ever_fits_because_what_is_flushed_is_cleaned() {
    let disk = Disk::default();
    let memory = Memory::new(64, 16 << 10);
    let store = memory.store(&disk).unwrap();
    for round in 0..40_000u32 {
        // Written once and never again: cleaning moves these, and must not make the journal forget them.
        if round % 20 == 0 && round < 20_000 {
            store.set(&round.to_be_bytes(), &[1; 100]).unwrap();
        }
        let key = [b'k', (round % 50) as u8];
        store.set(&key, &[round as u8; 200]).unwrap();
        if round % 7 == 0 {
            store.delete(&key).unwrap();
        }
    }
    assert_eq!(contents(&store).len(), store.len().unwrap() as usize);
    store.flush().unwrap();
    assert_eq!(recovered(&disk).unwrap(), contents(&store));
    memory.assert_sound();
}

#[test]
fn checkpoints_bound_the_files_and_a_reopened_segment_needs_only_a_flush() {
    let disk = Disk::default();
    let memory = Memory::new(512, 16 << 10);
    let store = memory.store(&disk).unwrap();
    let window = 1 << 20;
    for round in 0..60_000u32 {
        store.set(&(round % 1000).to_be_bytes(), &[round as u8; 120]).unwrap();
        if round % 2000 == 0 {
            store.shared.core.tick().unwrap();
            let live = store.stats().unwrap().live_bytes;
            let files = disk.bytes();
            // Twice the live data, the journal of a window, the current file and the one prepared.
            assert!(files <= 2 * live + window + 2 * (2 << 20), "round {round}: {files} bytes, {live} live");
        }
    }
    assert!(store.stats().unwrap().checkpoints > 2);
    // The process dies without a word; the segment stays.
    store.set(b"last", b"word").unwrap();
    drop(store);
    let again = memory.store(&disk).unwrap();
    assert_eq!(again.get(b"last").unwrap(), Some(b"word".to_vec()));
    again.flush().unwrap();
    assert_eq!(recovered(&disk).unwrap(), contents(&again));
}

#[test]
fn a_thousand_openings_leak_nothing() {
    let disk = Disk::default();
    let memory = Memory::new(128, 16 << 10);
    let mut files = 0;
    for round in 0..1000u32 {
        let store = memory.store(&disk).unwrap();
        store.set(b"round", &round.to_be_bytes()).unwrap();
        if round % 100 == 0 {
            store.checkpoint().unwrap();
        }
        store.flush().unwrap();
        store.close().unwrap();
        if round == 150 {
            files = disk.names().unwrap().len();
        }
    }
    assert_eq!(disk.names().unwrap().len(), files);
    assert_eq!(recovered(&disk).unwrap()[&b"round"[..]], 999u32.to_be_bytes());
    memory.assert_sound();
}

/// A seeded run on a disk that fails; what was acknowledged as durable when it ended, and every value ever written.
type History = HashMap<Vec<u8>, Vec<Option<Vec<u8>>>>;
fn faulty_run(disk: &Disk, seed: u64) -> (BTreeMap<Vec<u8>, usize>, History) {
    let mut random = Random(seed);
    let memory = Memory::new(48, 16 << 10);
    let (mut acknowledged, mut history) = (BTreeMap::new(), History::new());
    let Ok(store) = memory.store(disk) else { return (acknowledged, history) };
    for step in 0..40u64 {
        let key = vec![b'k', random.below(5) as u8];
        let states = history.entry(key.clone()).or_insert_with(|| vec![None]);
        let sync = random.below(3) == 0;
        let value = format!("{step}-{}", "x".repeat(random.below(400) as usize)).into_bytes();
        let (wanted, done) = if random.below(4) == 0 {
            (None, store.delete(&key).map(|there| there || states.last() == Some(&None)))
        } else {
            (Some(value.clone()), store.set(&key, &value).map(|_| true))
        };
        if let Ok(true) = done
            && states.last() != Some(&wanted)
        {
            states.push(wanted);
        }
        if sync && store.flush().is_ok() {
            acknowledged = history.iter().map(|(key, states)| (key.clone(), states.len() - 1)).collect();
        }
        if random.below(12) == 0 && store.checkpoint().is_ok() {
            acknowledged = history.iter().map(|(key, states)| (key.clone(), states.len() - 1)).collect();
        }
    }
    drop(store);
    (acknowledged, history)
}

fn assert_kept(acknowledged: &BTreeMap<Vec<u8>, usize>, history: &History, disk: &Disk, what: &str) {
    let found = recovered(disk).unwrap_or_else(|error| panic!("{what}: {error}\n{:#?}", disk.trace()));
    for (key, states) in history {
        let value = found.get(key);
        let since = acknowledged.get(key).copied().unwrap_or(0);
        assert!(
            states[since..].iter().any(|state| state.as_ref() == value),
            "{what}: key {key:?} is {value:?}, acknowledged was {:?}",
            states[since]
        );
    }
    assert!(found.keys().all(|key| history.contains_key(key)), "{what}: invented keys");
}

#[test]
fn a_failing_call_at_every_place_loses_nothing_acknowledged_by_the_store() {
    let seeds = std::env::var("MEMORA_TORTURE").map_or(1, |_| 10);
    for seed in 0..seeds {
        let calls = {
            let disk = Disk::default();
            let (acknowledged, history) = faulty_run(&disk, seed);
            assert!(acknowledged.len() >= 4);
            assert_kept(&acknowledged, &history, &disk, "no fault");
            disk.calls()
        };
        for call in 1..=calls {
            for fault in [Fault::Once(libc::EIO), Fault::Once(libc::ENOSPC), Fault::FullFrom, Fault::DeadFrom]
            {
                let disk = Disk::default();
                disk.fail_at(call, fault);
                let (acknowledged, history) = faulty_run(&disk, seed);
                let what = format!("seed {seed} call {call} {fault:?}");
                disk.heal();
                assert_kept(&acknowledged, &history, &disk.power_cut(&mut Random(call)), &what);
            }
        }
    }
}

#[test]
fn writers_go_on_while_a_checkpoint_is_made_and_all_of_it_is_recovered() {
    let disk = Disk::default();
    let memory = Memory::new(1024, 16 << 10);
    let store = memory.store(&disk).unwrap();
    let stop = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for writer in 0..3u8 {
            let (store, stop) = (&store, &stop);
            scope.spawn(move || {
                let mut round = 0u32;
                while stop.load(Ordering::Relaxed) == 0 || round < 3000 {
                    let key = [writer, (round % 97) as u8];
                    if round % 5 == 4 {
                        store.delete(&key).unwrap();
                    } else {
                        store.set(&key, &round.to_be_bytes()).unwrap();
                    }
                    if round.is_multiple_of(100) {
                        store.flush().unwrap();
                    }
                    round += 1;
                }
            });
        }
        for _ in 0..15 {
            store.checkpoint().unwrap();
        }
        stop.store(1, Ordering::Relaxed);
    });
    store.flush().unwrap();
    assert_eq!(recovered(&disk).unwrap(), contents(&store));
    memory.assert_sound();
}

#[test]
fn a_writer_stopped_before_publishing_is_neither_journaled_nor_forgotten() {
    let disk = Disk::default();
    let memory = Memory::new(256, 16 << 10);
    let store = memory.store(&disk).unwrap();
    store.set(b"k", b"first").unwrap();
    store.flush().unwrap();
    let core = &store.shared.core;
    // Another thread appends the next state of the key and stops.
    let sleeper = memory.host.stage.actor(THREADS);
    let append = |value: &[u8], order: u64| {
        let head = Head { key_len: 1, value_len: value.len() as u32, ..Head::default() };
        let bytes = crate::chunk::record::record_bytes(48, 1, value.len() as u64);
        if memory.pool.room(sleeper, Class::Store, OBJECT, bytes).unwrap().is_none() {
            memory.pool.next_chunk(sleeper, Class::Store, OBJECT, Need::Growth).unwrap();
        }
        let place = memory.pool.room(sleeper, Class::Store, OBJECT, bytes).unwrap().expect("room");
        memory
            .pool
            .append(place, &head, Some(&crate::chunk::Extension { order, ..Default::default() }), b"k", value)
            .unwrap()
    };
    let mut old = Vec::new();
    let order = core.table.key_state(sleeper, b"k", &mut old).unwrap().expect("there").order;
    let appended = append(b"second", order + 1);
    let batches = || core.words().unwrap().journal().batches().load(Ordering::Relaxed);
    let before = batches();
    for _ in 0..3 {
        store.flush().unwrap();
    }
    assert_eq!(batches(), before, "nothing new was published, so nothing is written");
    assert_eq!(recovered(&disk).unwrap()[&b"k"[..]], b"first");
    // It wakes and publishes: only now the state exists, and the next flush has it.
    core.table.publish_late(sleeper, b"k", &appended).unwrap();
    assert_eq!(store.get(b"k").unwrap(), Some(b"second".to_vec()));
    store.flush().unwrap();
    assert_eq!(recovered(&disk).unwrap()[&b"k"[..]], b"second");
    // It appends again and stops; somebody else is faster, so its record never is anything.
    let lost = append(b"lost", order + 2);
    store.set(b"k", b"third").unwrap();
    store.flush().unwrap();
    assert_eq!(recovered(&disk).unwrap()[&b"k"[..]], b"third");
    // It dies: its chunk is sealed, flushed and may be cleaned.
    crate::chunk::inherit(&memory.pool, THREADS, &|_| true).unwrap();
    let before = batches();
    store.flush().unwrap();
    assert_eq!(batches(), before);
    assert!(memory.pool.may_be_cleaned(lost.chunk, Class::Store).unwrap());
    assert_eq!(recovered(&disk).unwrap()[&b"k"[..]], b"third");
}

#[test]
fn a_key_that_is_overwritten_often_is_written_once_for_each_flush() {
    let disk = Disk::default();
    let memory = Memory::new(256, 16 << 10);
    let store = memory.store(&disk).unwrap();
    for round in 0..5000u32 {
        store.set(b"hot", &round.to_be_bytes()).unwrap();
    }
    store.flush().unwrap();
    assert!(store.stats().unwrap().flushed_records <= 3, "{:?}", store.stats());
    assert_eq!(recovered(&disk).unwrap()[&b"hot"[..]], 4999u32.to_be_bytes());
}

#[test]
fn two_recover_at_once_and_one_that_wakes_late_changes_nothing() {
    let disk = Disk::default();
    let memory = Memory::new(256, 16 << 10);
    let store = memory.store(&disk).unwrap();
    for number in 0..200u8 {
        store.set(&[number], &[number; 50]).unwrap();
    }
    store.flush().unwrap();
    drop(store);
    let next = Memory::new(256, 16 << 10);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let store = next.store(&disk).unwrap();
                assert_eq!(store.len().unwrap(), 200);
            });
        }
    });
    // What a sleeping recoverer may still do: restore an old state of a key that was deleted since.
    let store = next.store(&disk).unwrap();
    store.delete(&[7]).unwrap();
    store.flush().unwrap();
    let core = &store.shared.core;
    let late = crate::table::Restored { value: Some(b"old"), order: 1, expiry: 0, client: 0 };
    assert!(
        core.table.restore(core.host.actor().unwrap(), &[7], &late).is_err()
            || store.get(&[7]).unwrap().is_none()
    );
    assert_eq!(store.get(&[7]).unwrap(), None);
    let words = core.words().unwrap();
    let before = words.journal().epoch().load(Ordering::Relaxed);
    words.journal().init(1, 1, 4096);
    assert_eq!(words.journal().epoch().load(Ordering::Relaxed), before);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_random_workload_agrees_with_a_model_before_and_after_recovery(
        steps in proptest::collection::vec((0u8..12, 0u8..9, 0u16..2000), 1..200)
    ) {
        let disk = Disk::default();
        let memory = Memory::new(128, 16 << 10);
        let mut store = memory.store(&disk).unwrap();
        let mut model: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        for (number, (operation, key, size)) in steps.into_iter().enumerate() {
            let key = vec![b'k', key];
            let value = vec![number as u8; usize::from(size)];
            match operation {
                0..=4 => {
                    store.set(&key, &value).unwrap();
                    model.insert(key, value);
                }
                5 | 6 => prop_assert_eq!(store.delete(&key).unwrap(), model.remove(&key).is_some()),
                7 => {
                    let added = store.add(&key, &value, &SetOptions::default()).unwrap();
                    prop_assert_eq!(added.is_some(), !model.contains_key(&key));
                    model.entry(key).or_insert(value);
                }
                8 => prop_assert_eq!(store.get(&key).unwrap(), model.get(&key).cloned()),
                9 => store.flush().unwrap(),
                10 => store.checkpoint().unwrap(),
                _ => {
                    // The process dies; the segment stays.
                    drop(store);
                    store = memory.store(&disk).unwrap();
                }
            }
        }
        prop_assert_eq!(&contents(&store), &model);
        store.flush().unwrap();
        prop_assert_eq!(recovered(&disk).unwrap(), model);
        memory.assert_sound();
    }
}

/// Objects as a fabric makes them, with real files.
mod objects {
    use super::super::object::{Object, check_options, initialise, open};
    use super::*;

    fn make(options: &StoreOptions) -> Result<(Memory, u64)> {
        let memory = Memory::new(128, 16 << 10);
        let me = memory.host.actor().unwrap();
        let count = chunks_needed(&memory.pool, &TableOptions::default());
        let first = memory.pool.allocate_run(me, Class::Control, 9, count, Need::Object).unwrap();
        initialise(&memory.pool, memory.pool.run_span(first, count).unwrap(), 7, options)?;
        let offset = memory.pool.geometry().chunk_offset(first);
        Ok((memory, offset))
    }

    fn open_at(memory: &Memory, offset: u64, fabric: u8, options: &StoreOptions) -> Result<Store> {
        let object = Object { name: "orders", number: 9, offset, fabric: [fabric; 16] };
        open(memory.pool.clone(), memory.host.clone(), &object, options, &mut |_| {})
    }

    fn problems(memory: &Memory, offset: u64) -> Vec<String> {
        let mut found = Vec::new();
        let mut report = |place: String, what: String| found.push(format!("{place}: {what}"));
        super::super::check::check(&memory.pool, 9, offset, &mut report).unwrap();
        found
    }

    #[test]
    fn a_store_without_a_directory_lives_in_memory_alone_and_says_so() {
        let process = StoreOptions { durability: Durability::Process, ..StoreOptions::default() };
        let error = make(&StoreOptions::default()).err().unwrap();
        assert_eq!(error.code(), ErrorCode::InvalidArgument);
        let (memory, offset) = make(&process).unwrap();
        let store = open_at(&memory, offset, 1, &process).unwrap();
        store.set(b"a", b"1").unwrap();
        assert!(store.delete(b"a").unwrap());
        store.set(b"a", b"2").unwrap();
        let error = store.set_durable(b"a", b"3", Durability::Sync).unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidArgument);
        assert_eq!(store.get(b"a").unwrap(), Some(b"2".to_vec()));
        store.flush().unwrap();
        store.checkpoint().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let with_files = StoreOptions { dir: Some(folder.path().join("x")), ..StoreOptions::default() };
        assert_eq!(open_at(&memory, offset, 1, &with_files).err().unwrap().code(), ErrorCode::WrongOptions);
        assert_eq!(problems(&memory, offset), Vec::<String>::new());
    }

    #[test]
    fn a_store_is_opened_by_name_alone_flushed_by_its_ticker_and_recovered_by_another_fabric() {
        let folder = tempfile::tempdir().unwrap();
        let options = StoreOptions {
            dir: Some(folder.path().join("orders")),
            durability: Durability::Async { interval_ms: 1 },
            ..StoreOptions::default()
        };
        check_options("orders", &options).unwrap();
        let (memory, offset) = make(&options).unwrap();
        let store = open_at(&memory, offset, 1, &options).unwrap();
        let by_name = open_at(&memory, offset, 1, &StoreOptions::default()).unwrap();
        store.set(b"a", b"1").unwrap();
        // Nobody asks for a flush: the ticker does it.
        while by_name.stats().unwrap().flushed_records == 0 {
            std::thread::yield_now();
        }
        assert_eq!(by_name.get(b"a").unwrap(), Some(b"1".to_vec()));
        assert_eq!(problems(&memory, offset), Vec::<String>::new());
        // Another fabric must wait until all are gone.
        let (other, place) = make(&options).unwrap();
        assert_eq!(open_at(&other, place, 2, &options).err().unwrap().code(), ErrorCode::Busy);
        drop((store, by_name));
        let mut heard = 0;
        let object = Object { name: "orders", number: 9, offset: place, fabric: [2; 16] };
        let next =
            open(other.pool.clone(), other.host.clone(), &object, &options, &mut |_| heard += 1).unwrap();
        assert!(heard > 0, "recovery tells how far it is");
        assert_eq!(next.get(b"a").unwrap(), Some(b"1".to_vec()));
        // A wrong directory is refused before anything is made in it.
        let foreign = folder.path().join("foreign");
        std::fs::create_dir(&foreign).unwrap();
        std::fs::write(foreign.join("mine.txt"), "mine").unwrap();
        let wrong = StoreOptions { dir: Some(foreign.clone()), ..StoreOptions::default() };
        assert_eq!(check_options("orders", &wrong).unwrap_err().code(), ErrorCode::NotAStore);
        assert_eq!(check_options("others", &options).unwrap_err().code(), ErrorCode::NotAStore);
        // Rot is found and named.
        next.flush().unwrap();
        next.checkpoint().unwrap();
        let names = std::fs::read_dir(folder.path().join("orders")).unwrap();
        let checkpoint = names
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("checkpoint"))
            // That of the shard which has the key.
            .max_by_key(|path| path.metadata().unwrap().len())
            .unwrap();
        let mut bytes = std::fs::read(&checkpoint).unwrap();
        bytes[4096 + 70] ^= 1;
        std::fs::write(&checkpoint, bytes).unwrap();
        let found = problems(&other, place);
        assert!(found.len() == 1 && found[0].contains("checkpoint."), "{found:?}");
    }

    #[test]
    fn memory_that_another_fabric_has_overtaken_is_refused_and_spoils_no_files() {
        let folder = tempfile::tempdir().unwrap();
        let options = StoreOptions {
            dir: Some(folder.path().join("orders")),
            durability: Durability::Process,
            ..StoreOptions::default()
        };
        let (memory, offset) = make(&options).unwrap();
        let store = open_at(&memory, offset, 1, &options).unwrap();
        store.set(b"a", b"1").unwrap();
        store.flush().unwrap();
        drop(store);
        // The first fabric is still there, but nobody has the store open in it.
        let (other, place) = make(&options).unwrap();
        let store = open_at(&other, place, 2, &options).unwrap();
        for value in [&b"2"[..], b"3", b"4"] {
            store.set(b"a", value).unwrap();
            store.set(b"b", value).unwrap();
            store.flush().unwrap();
            store.checkpoint().unwrap();
        }
        drop(store);
        // What the first holds in memory is older than the files: whatever it wrote would mix two histories.
        let error = open_at(&memory, offset, 1, &options).err().expect("refused");
        assert!(error.code() == ErrorCode::NotAStore && error.detail().contains("remove"), "{error}");
        let (third, place) = make(&options).unwrap();
        let store = open_at(&third, place, 3, &options).unwrap();
        assert_eq!(store.get(b"a").unwrap(), Some(b"4".to_vec()));
        assert_eq!(store.get(b"b").unwrap(), Some(b"4".to_vec()));
    }

    #[test]
    fn what_a_dead_thread_led_is_free_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let options = StoreOptions {
            dir: Some(folder.path().join("orders")),
            durability: Durability::Process,
            ..StoreOptions::default()
        };
        let (memory, offset) = make(&options).unwrap();
        let store = open_at(&memory, offset, 1, &options).unwrap();
        let leader = store.shared.core.words().unwrap().journal().leader();
        let alive = |_: u16| false;
        let watch = crate::journal::leader::Watch::new();
        let reign = crate::journal::leader::claim(leader, 7, &alive, &watch, false).unwrap().expect("free");
        super::super::object::inherit(&memory.pool, offset, 7).unwrap();
        assert!(!reign.holds());
        store.set_durable(b"a", b"1", Durability::Sync).unwrap();
        assert_eq!(store.get(b"a").unwrap(), Some(b"1".to_vec()));
    }
}
