//! The journal against a toy table on a disk in memory: faults at every call, power cuts, bit rot.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;

use super::append::Batches;
use super::checkpoint::CheckpointFile;
use super::control::{CONTROL_LEN, Control, Health};
use super::files::FileLayer;
use super::layout::{FILE_HEADER_LEN, FileName, Owner, Record};
use super::leader::{LeaderWord, claim};
use super::manifest::Manifest;
use super::replay::{Replayed, census, replay, survey};
use super::sim::{Disk, Fault, Random, Step};
use super::{Caller, Journal, Lsn, Source};
use crate::error::{ErrorCode, Result};
use crate::shm::Shm;
use crate::shm::atomic::Ordering;

const STORE: [u8; 16] = [9; 16];
const CAPACITY: u64 = 64 << 10;
const PATIENCE: Duration = Duration::from_secs(10);

type State = (u64, Option<Vec<u8>>);

/// Keys with their states, and which changed since they were last settled.
#[derive(Default)]
struct Toy {
    inner: Mutex<ToyInner>,
}

#[derive(Default)]
struct ToyInner {
    states: BTreeMap<Vec<u8>, State>,
    changed: BTreeMap<Vec<u8>, u64>,
    /// Every state that ever was published.
    history: HashMap<(Vec<u8>, u64), Option<Vec<u8>>>,
    /// Highest order of a tombstone that was taken out.
    floor: u64,
}

impl Toy {
    fn set(&self, key: &[u8], value: Option<&[u8]>) -> u64 {
        let mut inner = self.inner.lock().unwrap();
        let order = inner.states.get(key).map_or(inner.floor, |state| state.0) + 1;
        let value = value.map(<[u8]>::to_vec);
        inner.states.insert(key.to_vec(), (order, value.clone()));
        inner.changed.insert(key.to_vec(), order);
        inner.history.insert((key.to_vec(), order), value);
        order
    }

    /// Whether it was deleted by this state or a later one.
    fn was_deleted(&self, key: &[u8], order: u64) -> bool {
        let inner = self.inner.lock().unwrap();
        inner.history.iter().any(|((of, later), value)| of == key && *later >= order && value.is_none())
    }

    fn published(&self, key: &[u8], state: &State) -> bool {
        self.inner.lock().unwrap().history.get(&(key.to_vec(), state.0)) == Some(&state.1)
    }
}

impl Source for Toy {
    type Taken = BTreeMap<Vec<u8>, u64>;

    fn collect(&self, batches: &mut Batches<'_>) -> Result<Self::Taken> {
        let (taken, states) = {
            let inner = self.inner.lock().unwrap();
            (inner.changed.clone(), inner.states.clone())
        };
        for key in taken.keys() {
            let (order, value) = &states[key];
            batches.push(&Record { order: *order, expiry_ms: 0, flags: 0, key, value: value.as_deref() })?;
        }
        Ok(taken)
    }

    fn settle(&self, taken: Self::Taken) -> Result<()> {
        let mut inner = self.inner.lock().unwrap();
        for (key, order) in taken {
            if inner.changed.get(&key) == Some(&order) {
                inner.changed.remove(&key);
                // A durable tombstone leaves the table, the floor first.
                if inner.states.get(&key).is_some_and(|state| state.1.is_none()) {
                    inner.floor = inner.floor.max(order);
                    inner.states.remove(&key);
                }
            }
        }
        Ok(())
    }
}

struct Rig {
    journal: Journal,
    shm: Shm,
    toy: Toy,
}

impl Rig {
    fn new(disk: &Disk) -> Rig {
        Rig::with_files_of(disk, CAPACITY)
    }

    fn with_files_of(disk: &Disk, capacity: u64) -> Rig {
        let shm = Shm::heap(4096).unwrap();
        Control(shm.block::<CONTROL_LEN>(0).unwrap()).init(1, 0, capacity);
        let journal = Journal::new(Arc::new(disk.clone()), STORE);
        Rig { journal, shm, toy: Toy::default() }
    }

    fn control(&self) -> Control<'_> {
        Control(self.shm.block::<CONTROL_LEN>(0).unwrap())
    }

    fn sync(&self, me: u16) -> Result<()> {
        let ticket = self.journal.ticket(self.control());
        self.journal.wait(self.control(), &Caller { me, is_dead: &|_| false }, &self.toy, ticket, PATIENCE)
    }

    fn checkpoint(&self, term: u32) -> Result<()> {
        let caller = Caller { me: 1, is_dead: &|_| false };
        let control = self.control();
        let (first, first_epoch) = self.journal.cut(control, &caller, &self.toy)?;
        let mut file = CheckpointFile::create(&self.journal, (term, 0), first_epoch)?;
        let states = self.toy.inner.lock().unwrap().states.clone();
        for (key, (order, value)) in &states {
            if value.is_some() {
                file.push(&Record { order: *order, expiry_ms: 0, flags: 0, key, value: value.as_deref() })?;
            }
        }
        let written = file.finish()?;
        self.sync(1)?;
        let manifest = Manifest {
            last_epoch: control.durable().load(Ordering::Acquire),
            order_floor: self.toy.inner.lock().unwrap().floor,
            wall_ms: 1,
            ..Manifest::of_one(STORE, term, written, first, first_epoch)
        };
        self.journal.put_in_force(&manifest, 0, &|| true)
    }

    fn open(&self) -> Result<()> {
        let caller = Caller { me: 1, is_dead: &|_| false };
        self.journal
            .lead(self.control(), &caller, PATIENCE, |reign| self.journal.ensure_room(self.control(), reign))
    }
}

/// What replay makes of a disk: the state with the highest order of each key.
fn recover(disk: &Disk) -> Result<(BTreeMap<Vec<u8>, State>, Replayed)> {
    let found = survey(disk, &STORE)?;
    let mut states: BTreeMap<Vec<u8>, State> = BTreeMap::new();
    let flushes = census(disk, &STORE, &found)?;
    let replayed = replay(disk, &STORE, &found, &flushes, &mut |_| {}, &mut |record| {
        let state = states.entry(record.key.to_vec()).or_default();
        if record.order > state.0 {
            *state = (record.order, record.value.map(<[u8]>::to_vec));
        }
        Ok(())
    })?;
    Ok((states, replayed))
}

/// Nothing acknowledged is lost, nothing is invented.
fn assert_recovers(toy: &Toy, acknowledged: &BTreeMap<Vec<u8>, u64>, disk: &Disk, what: &str) {
    let (states, _) = recover(disk).unwrap_or_else(|error| panic!("{what}: {error}\n{:#?}", disk.trace()));
    for (key, order) in acknowledged {
        let found = states.get(key).map_or(0, |state| state.0);
        // A key whose last acknowledged state, or a later one, is its deletion may be gone with its tombstone.
        let deleted = toy.was_deleted(key, *order);
        assert!(
            found >= *order || deleted && found == 0,
            "{what}: key {key:?} acknowledged at {order}, found {found}"
        );
    }
    for (key, state) in &states {
        assert!(toy.published(key, state), "{what}: key {key:?} has the invented state {state:?}");
    }
}

/// A seeded run of sets and deletes with a sync after each few; returns what was acknowledged when it stopped.
fn workload(rig: &Rig, seed: u64, steps: u32) -> BTreeMap<Vec<u8>, u64> {
    let mut random = Random(seed);
    let mut acknowledged = BTreeMap::new();
    let mut open: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
    let mut checkpoints = 0;
    if rig.open().is_err() {
        return acknowledged;
    }
    for _ in 0..steps {
        let key = format!("key{}", random.below(6)).into_bytes();
        let size = if random.below(8) == 0 { 20_000 } else { random.below(300) };
        let value = vec![random.next() as u8; size as usize];
        let order = rig.toy.set(&key, (random.below(4) != 0).then_some(&value[..]));
        open.insert(key, order);
        if random.below(3) == 0 && rig.sync(1).is_ok() {
            acknowledged.append(&mut open);
        }
        if random.below(9) == 0 {
            checkpoints += 1;
            if rig.checkpoint(checkpoints).is_ok() {
                acknowledged.append(&mut open);
            }
        }
    }
    acknowledged
}

/// A flush of several batches, each in a file of its own: whatever a power cut leaves of it, all of its records come back
/// or none.
#[test]
fn a_flush_counts_as_a_whole_or_not_at_all() {
    let keys: Vec<_> = (0..5u8).map(|key| vec![key]).collect();
    let run = |disk: &Disk| {
        let rig = Rig::with_files_of(disk, 2 << 20);
        let opened = rig.open();
        let rounds: Vec<_> = (1..=2u8)
            .map(|round| {
                for key in &keys {
                    rig.toy.set(key, Some(&vec![round; 700_000]));
                }
                rig.sync(1).is_ok()
            })
            .collect();
        opened.is_ok().then_some(rounds)
    };
    let whole = Disk::default();
    assert_eq!(run(&whole), Some(vec![true, true]));
    assert!(
        whole.trace().iter().filter(|call| call.contains("write")).count() > 6,
        "several batches a flush"
    );
    let (mut torn, mut broken_off) = (0, 0);
    for call in 1..=whole.calls() {
        for seed in 0..4 {
            let disk = Disk::default();
            disk.fail_at(call, Fault::DeadFrom);
            let acknowledged = run(&disk).unwrap_or_default().iter().filter(|done| **done).count() as u8;
            let (states, replayed) = recover(&disk.power_cut(&mut Random(seed))).unwrap();
            let rounds: Vec<_> = keys
                .iter()
                .map(|key| states.get(key).map_or(0, |state| state.1.as_ref().expect("a value")[0]))
                .collect();
            assert!(rounds.iter().all(|round| *round == rounds[0]), "call {call}: {rounds:?}");
            assert!(rounds[0] >= acknowledged, "call {call}: {rounds:?} of {acknowledged}");
            torn += replayed.torn;
            broken_off += replayed.broken_off;
        }
    }
    assert!(torn > 0 && broken_off > 0, "no power cut hit a flush in the middle");
}

#[test]
fn what_was_synced_survives_every_power_cut() {
    for seed in 0..100 {
        let disk = Disk::default();
        let rig = Rig::new(&disk);
        let acknowledged = workload(&rig, seed, 40);
        assert!(!acknowledged.is_empty());
        let mut random = Random(seed ^ 0xdead);
        for cut in 0..8 {
            assert_recovers(
                &rig.toy,
                &acknowledged,
                &disk.power_cut(&mut random),
                &format!("seed {seed} cut {cut}"),
            );
        }
    }
}

#[test]
fn a_failing_call_at_every_place_loses_nothing_acknowledged() {
    for seed in 0..4 {
        let calls = {
            let disk = Disk::default();
            workload(&Rig::new(&disk), seed, 25);
            disk.calls()
        };
        assert!(calls > 20);
        for call in 1..=calls {
            for fault in [Fault::Once(libc::EIO), Fault::Once(libc::ENOSPC), Fault::FullFrom] {
                let disk = Disk::default();
                disk.fail_at(call, fault);
                let rig = Rig::new(&disk);
                let acknowledged = workload(&rig, seed, 25);
                let what = format!("seed {seed} call {call} {fault:?}");
                assert_recovers(&rig.toy, &acknowledged, &disk, &what);
                let mut random = Random(call);
                assert_recovers(&rig.toy, &acknowledged, &disk.power_cut(&mut random), &what);
                // Once the disk is well again everything can be made durable, unless a sync failed.
                disk.heal();
                let poisoned = rig.control().health() == Health::Poisoned;
                assert_eq!(rig.sync(1).is_ok(), !poisoned, "{what}");
                if !poisoned {
                    let all =
                        rig.toy.inner.lock().unwrap().states.iter().map(|(k, s)| (k.clone(), s.0)).collect();
                    assert_recovers(&rig.toy, &all, &disk.power_cut(&mut random), &what);
                    assert_eq!(rig.control().health(), Health::Well);
                }
            }
        }
    }
}

#[test]
fn the_power_may_go_at_every_call() {
    for seed in 0..12 {
        let calls = {
            let disk = Disk::default();
            workload(&Rig::new(&disk), seed, 30);
            disk.calls()
        };
        for call in 1..=calls {
            let disk = Disk::default();
            disk.fail_at(call, Fault::DeadFrom);
            let rig = Rig::new(&disk);
            let acknowledged = workload(&rig, seed, 30);
            let mut random = Random(seed << 32 | call);
            for cut in 0..4 {
                let what = format!("seed {seed} call {call} cut {cut}");
                assert_recovers(&rig.toy, &acknowledged, &disk.power_cut(&mut random), &what);
            }
        }
    }
}

/// Larger than what is written ahead, so that it ends within a file.
const PADDED_CAPACITY: u64 = 320 << 10;

/// Many small batches, one after the other, up to the second file and beyond the middle of it.
fn small_batches(rig: &Rig) -> BTreeMap<Vec<u8>, u64> {
    let mut acknowledged = BTreeMap::new();
    if rig.open().is_err() {
        return acknowledged;
    }
    for number in 0..110u32 {
        let key = vec![number as u8 % 7];
        // Not zeros: what is left of one shall not look like nothing.
        let order = rig.toy.set(&key, Some(&vec![number as u8 | 1; 4000 + number as usize * 7]));
        if rig.sync(1).is_ok() {
            acknowledged.insert(key, order);
        }
    }
    acknowledged
}

#[test]
fn small_batches_are_written_with_zeros_for_many_that_follow_and_never_beyond_their_file() {
    let disk = Disk::default();
    disk.record();
    let rig = Rig::with_files_of(&disk, PADDED_CAPACITY);
    assert_eq!(small_batches(&rig).len(), 7);
    let (mut batches, mut padded, mut to_the_end) = (0, 0, 0);
    // Of each file: how many batches it has, and up to where it was written ahead.
    let mut files: HashMap<u64, (u32, u64)> = HashMap::new();
    for (_, step) in disk.steps() {
        let Step::Write(file, at, bytes) = step else { continue };
        let Some(header) = super::layout::BatchHeader::decode(&bytes) else { continue };
        let len = super::layout::batch_len(header.body_len as usize);
        let end = at + bytes.len() as u64;
        assert!(end <= PADDED_CAPACITY, "a write from {at} to {end}");
        assert!(bytes[len as usize..].iter().all(|byte| *byte == 0), "at {at}");
        let (number, filled) = files.entry(file).or_insert((0, 0));
        batches += 1;
        *number += 1;
        if bytes.len() as u64 > len {
            assert!(end == at + len + (128 << 10) || end == PADDED_CAPACITY, "at {at} up to {end}");
            // What the first batch of a file wrote ahead may be forgotten.
            assert!(at + len > *filled || *number == 2, "at {at}: it was written ahead up to {filled}");
            padded += 1;
            to_the_end += u32::from(end == PADDED_CAPACITY);
        } else {
            assert!(end <= *filled || end == PADDED_CAPACITY, "at {at}: it was not written ahead");
        }
        *filled = end.max(*filled);
    }
    assert_eq!(batches, 110);
    assert!((4..=12).contains(&padded) && to_the_end >= 1, "{padded} were padded, {to_the_end} to the end");
    assert!(files.len() >= 2, "it rolled");
    for name in disk.names().unwrap().iter().filter(|name| name.starts_with("journal.")) {
        assert_eq!(disk.content(name).len() as u64, PADDED_CAPACITY, "{name}");
    }
    assert_eq!(recover(&disk).unwrap().1.torn, 0);
}

#[test]
fn the_power_may_go_within_what_is_written_ahead() {
    let calls = {
        let disk = Disk::default();
        small_batches(&Rig::with_files_of(&disk, PADDED_CAPACITY));
        disk.calls()
    };
    for call in 1..=calls {
        let disk = Disk::default();
        disk.fail_at(call, Fault::DeadFrom);
        let rig = Rig::with_files_of(&disk, PADDED_CAPACITY);
        let acknowledged = small_batches(&rig);
        let mut random = Random(call);
        for cut in 0..2 {
            let what = format!("call {call} cut {cut}");
            assert_recovers(&rig.toy, &acknowledged, &disk.power_cut(&mut random), &what);
        }
        for everything in [false, true] {
            let what = format!("call {call} everything {everything}");
            assert_recovers(&rig.toy, &acknowledged, &disk.power_cut_extreme(everything), &what);
        }
    }
}

#[test]
fn a_write_that_fails_within_what_is_written_ahead_is_done_again() {
    let writes: Vec<u64> = {
        let disk = Disk::default();
        disk.record();
        small_batches(&Rig::with_files_of(&disk, PADDED_CAPACITY));
        let of_batches = |(call, step): (u64, Step)| match step {
            Step::Write(_, _, bytes) if bytes.len() > 64 << 10 => Some(call),
            _ => None,
        };
        disk.steps().into_iter().filter_map(of_batches).collect()
    };
    assert!(writes.len() >= 4, "{writes:?}");
    for call in writes {
        for fault in [Fault::Once(libc::ENOSPC), Fault::Once(libc::EIO), Fault::FullFrom] {
            // Half of it was written: the batch, and some of the zeros.
            let disk = Disk::default();
            disk.fail_at(call, fault);
            let rig = Rig::with_files_of(&disk, PADDED_CAPACITY);
            let acknowledged = small_batches(&rig);
            let what = format!("call {call} {fault:?}");
            let mut random = Random(call);
            assert_recovers(&rig.toy, &acknowledged, &disk.power_cut(&mut random), &what);
            disk.heal();
            assert_ne!(rig.control().health(), Health::Poisoned, "{what}: only a sync that fails does that");
            rig.toy.set(b"behind", Some(b"1"));
            rig.sync(1).unwrap_or_else(|error| panic!("{what}: {error}"));
            let all = rig.toy.inner.lock().unwrap().states.iter().map(|(k, s)| (k.clone(), s.0)).collect();
            assert_recovers(&rig.toy, &all, &disk.power_cut(&mut random), &what);
        }
    }
}

#[test]
fn a_leader_deposed_while_it_syncs_acknowledges_nothing() {
    let disk = Disk::default();
    let rig = Arc::new(Rig::new(&disk));
    rig.open().unwrap();
    rig.toy.set(b"a", Some(b"1"));
    let deposer = Arc::clone(&rig);
    disk.after_next_sync(move || super::leader::inherit(deposer.control().leader(), 5));
    let caller = Caller { me: 5, is_dead: &|_| false };
    let before =
        (rig.control().tail().load(Ordering::Relaxed), rig.control().durable().load(Ordering::Relaxed));
    let error = rig.journal.flush_if_free(rig.control(), &caller, &rig.toy).unwrap_err();
    assert_eq!(error.code(), ErrorCode::Busy);
    let after =
        (rig.control().tail().load(Ordering::Relaxed), rig.control().durable().load(Ordering::Relaxed));
    assert_eq!(before, after, "neither the tail nor the durable epoch moved");
    assert!(rig.toy.inner.lock().unwrap().changed.contains_key(&b"a"[..]), "and nothing counts as flushed");
    rig.sync(6).unwrap();
    assert_recovers(
        &rig.toy,
        &BTreeMap::from([(b"a".to_vec(), 1)]),
        &disk.power_cut(&mut Random(3)),
        "successor",
    );
}

#[test]
fn batches_of_an_epoch_before_the_checkpoint_do_not_count() {
    let disk = Disk::default();
    let rig = Rig::new(&disk);
    rig.open().unwrap();
    rig.toy.set(b"a", Some(b"1"));
    rig.sync(1).unwrap();
    let epoch = rig.control().durable().load(Ordering::Relaxed);
    for (first_epoch, expected) in [(epoch, 1), (epoch + 1, 0)] {
        let manifest = Manifest::of_one(STORE, 1 + first_epoch as u32, (0, 0, 0), Lsn::NONE, first_epoch);
        rig.journal.publish_manifest(&manifest, &|| true).unwrap();
        assert_eq!(recover(&disk).unwrap().0.len(), expected);
    }
}

#[test]
fn a_failed_sync_poisons_for_good_and_a_full_disk_only_until_there_is_room() {
    let disk = Disk::default();
    let rig = Rig::new(&disk);
    rig.open().unwrap();
    rig.toy.set(b"a", Some(b"1"));
    rig.sync(1).unwrap();
    // write, then sync: the second call from now fails.
    disk.fail_at(disk.calls() + 2, Fault::Once(libc::EIO));
    rig.toy.set(b"a", Some(b"2"));
    assert_eq!(rig.sync(1).unwrap_err().code(), ErrorCode::Poisoned);
    disk.heal();
    assert_eq!(rig.sync(1).unwrap_err().code(), ErrorCode::Poisoned, "never retried");
    assert_eq!(rig.control().accept().unwrap_err().code(), ErrorCode::Poisoned);

    let disk = Disk::default();
    let rig = Rig::new(&disk);
    rig.open().unwrap();
    disk.fail_at(disk.calls() + 1, Fault::FullFrom);
    let mut refused = false;
    for step in 0..200u32 {
        if rig.control().accept().is_err() {
            refused = true;
            break;
        }
        rig.toy.set(b"big", Some(&vec![step as u8; 900]));
        // The write itself hits the preallocated blocks of a real disk; here it fails as well.
        let _ = rig.sync(1);
    }
    assert!(refused);
    assert_eq!(rig.control().accept().unwrap_err().code(), ErrorCode::NoSpace);
    disk.heal();
    rig.sync(1).unwrap();
    assert!(rig.control().accept().is_ok());
}

#[test]
fn the_end_may_be_torn_at_every_byte() {
    let disk = Disk::default();
    let rig = Rig::new(&disk);
    rig.open().unwrap();
    rig.toy.set(b"first", Some(b"kept"));
    rig.sync(1).unwrap();
    let name = FileName::Journal { term: 1, number: 0 }.to_string();
    let before = disk.content(&name);
    let end = Lsn(rig.control().tail().load(Ordering::Relaxed)).byte() as usize;
    rig.toy.set(b"second", Some(&[7; 900]));
    rig.sync(1).unwrap();
    let after = disk.content(&name);
    let whole = Lsn(rig.control().tail().load(Ordering::Relaxed)).byte() as usize;
    assert!(whole > end + 900);
    for cut in end..=whole {
        disk.edit(&name, |bytes| {
            bytes.clone_from(&before);
            bytes[end..cut].copy_from_slice(&after[end..cut]);
        });
        let (states, replayed) = recover(&disk).unwrap();
        assert_eq!(states[&b"first"[..]], (1, Some(b"kept".to_vec())), "cut at {cut}");
        // The filling of the last sector carries nothing.
        let complete = after[cut..whole].iter().all(|byte| *byte == 0);
        assert_eq!(states.contains_key(&b"second"[..]), complete, "cut at {cut}");
        assert_eq!(replayed.torn, u32::from(!complete && cut > end), "cut at {cut}");
    }
}

#[test]
fn a_flipped_bit_before_synced_data_is_corruption_and_names_file_and_offset() {
    let disk = Disk::default();
    let rig = Rig::new(&disk);
    rig.open().unwrap();
    for step in 0..4u8 {
        rig.toy.set(&[b'k', step], Some(&[step; 40]));
        rig.sync(1).unwrap();
    }
    let name = FileName::Journal { term: 1, number: 0 }.to_string();
    let good = disk.content(&name);
    let end = Lsn(rig.control().tail().load(Ordering::Relaxed)).byte() as usize;
    let last = end - 512;
    for batch in (FILE_HEADER_LEN as usize..last).step_by(512) {
        // Header 64 bytes, record 32 + key 2 + value 40, filled up to 80.
        for bit in (0..(64 + 80) * 8).filter(|bit| (bit / 8) % 64 < 60 || bit / 8 >= 64) {
            disk.edit(&name, |bytes| {
                bytes.clone_from(&good);
                bytes[batch + bit / 8] ^= 1 << (bit % 8);
            });
            let error = recover(&disk).map(|_| ()).expect_err(&format!("batch {batch} bit {bit}"));
            assert_eq!(error.code(), ErrorCode::JournalCorrupt);
            assert!(error.detail().contains(&name) && error.detail().contains(&batch.to_string()), "{error}");
        }
    }
    // The last batch: nothing proves that it was synced, so it is a torn end, but never a wrong value.
    for bit in 0..(64 + 80) * 8 {
        disk.edit(&name, |bytes| {
            bytes.clone_from(&good);
            bytes[last + bit / 8] ^= 1 << (bit % 8);
        });
        let (states, _) = recover(&disk).unwrap();
        for (key, state) in &states {
            assert!(rig.toy.published(key, state), "bit {bit}");
        }
        assert!(states.len() >= 3);
    }
    // The header of the file.
    for bit in 0..64 * 8 {
        disk.edit(&name, |bytes| {
            bytes.clone_from(&good);
            bytes[bit / 8] ^= 1 << (bit % 8);
        });
        assert_eq!(recover(&disk).map(|_| ()).unwrap_err().code(), ErrorCode::JournalCorrupt, "bit {bit}");
    }
}

#[test]
fn a_short_or_missing_earlier_file_is_corruption() {
    let disk = Disk::default();
    let rig = Rig::new(&disk);
    rig.open().unwrap();
    for step in 0..8u8 {
        rig.toy.set(&[b'k', step], Some(&vec![step; 20_000]));
        rig.sync(1).unwrap();
    }
    assert!(Lsn(rig.control().tail().load(Ordering::Relaxed)).number() >= 2, "it rolled");
    assert_eq!(recover(&disk).unwrap().0.len(), 8);
    let first = FileName::Journal { term: 1, number: 0 }.to_string();
    let good = disk.content(&first);
    disk.edit(&first, |bytes| bytes[FILE_HEADER_LEN as usize + 20_480 + 512..].fill(0));
    assert_eq!(recover(&disk).map(|_| ()).unwrap_err().code(), ErrorCode::JournalCorrupt);
    disk.edit(&first, |bytes| bytes.clone_from(&good));
    disk.remove(&first).unwrap();
    let error = recover(&disk).map(|_| ()).unwrap_err();
    assert!(error.code() == ErrorCode::JournalCorrupt && error.detail().contains(&first), "{error}");
}

#[test]
fn a_deposed_leader_moves_nothing_and_its_late_batches_harm_nothing() {
    let disk = Disk::default();
    let rig = Rig::new(&disk);
    rig.open().unwrap();
    let control = rig.control();
    rig.toy.set(b"a", Some(b"old"));
    let sleeper = claim(control.leader(), 5, &|_| false, &super::leader::Watch::new(), false)
        .unwrap()
        .expect("nobody leads");
    let mut late = rig.journal.begin(control, &sleeper, control.epoch().fetch_add(1, Ordering::SeqCst) + 1);
    let taken = rig.toy.collect(&mut late).unwrap();
    // It stops here; another finds it dead, flushes a newer state and a deletion.
    let successor = Caller { me: 6, is_dead: &|thread| thread == 5 };
    rig.toy.set(b"a", Some(b"new"));
    rig.toy.set(b"b", Some(b"kept"));
    let ticket = rig.journal.ticket(control);
    rig.journal.wait(control, &successor, &rig.toy, ticket, PATIENCE).unwrap();
    let tail = control.tail().load(Ordering::Relaxed);
    assert_eq!(Lsn(tail).term(), 2);
    // It wakes and goes on.
    assert_eq!(late.seal().unwrap_err().code(), ErrorCode::Busy);
    assert_eq!(control.tail().load(Ordering::Relaxed), tail);
    drop(sleeper);
    assert_eq!(LeaderWord(control.leader().load(Ordering::Relaxed)).term(), 2);
    drop(taken);
    let acknowledged = BTreeMap::from([(b"a".to_vec(), 2), (b"b".to_vec(), 1)]);
    assert_recovers(&rig.toy, &acknowledged, &disk, "late batch");
}

#[test]
fn many_threads_commit_at_once_and_what_each_was_told_survives() {
    let disk = Disk::default();
    let rig = Rig::new(&disk);
    rig.open().unwrap();
    let acknowledged = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for thread in 0..4u16 {
            let (rig, acknowledged) = (&rig, &acknowledged);
            scope.spawn(move || {
                for step in 0..50u32 {
                    let key = format!("{thread}.{}", step % 7).into_bytes();
                    let order = rig.toy.set(&key, Some(&step.to_le_bytes()));
                    rig.sync(thread + 1).unwrap();
                    acknowledged.lock().unwrap().insert(key, order);
                }
            });
        }
    });
    assert_recovers(
        &rig.toy,
        &acknowledged.into_inner().unwrap(),
        &disk.power_cut(&mut Random(1)),
        "threads",
    );
}

#[test]
fn a_checkpoint_takes_the_place_of_the_journal_and_its_corruption_is_named() {
    let disk = Disk::default();
    let rig = Rig::new(&disk);
    rig.open().unwrap();
    for round in 1..=6u32 {
        for step in 0..20u8 {
            rig.toy.set(&[b'k', step % 5], Some(&vec![step; 9_000]));
            rig.sync(1).unwrap();
        }
        rig.checkpoint(round).unwrap();
        // Live 45 KB; one journal file and one spare at most stand beside it.
        assert!(disk.bytes() <= 2 * 48_000 + 3 * CAPACITY, "round {round}: {} bytes", disk.bytes());
        assert_eq!(recover(&disk).unwrap().0.len(), 5);
    }
    let names = disk.names().unwrap();
    let checkpoint = names.iter().find(|name| name.starts_with("checkpoint")).unwrap();
    let good = disk.content(checkpoint);
    for at in (0..64).chain((FILE_HEADER_LEN as usize..FILE_HEADER_LEN as usize + 45_000).step_by(997)) {
        disk.edit(checkpoint, |bytes| {
            bytes.clone_from(&good);
            bytes[at] ^= 0x10;
        });
        let error = recover(&disk).map(|_| ()).expect_err(&format!("byte {at}"));
        assert!(error.code() == ErrorCode::JournalCorrupt && error.detail().contains(checkpoint), "{error}");
    }
    disk.remove(checkpoint).unwrap();
    assert_eq!(recover(&disk).map(|_| ()).unwrap_err().code(), ErrorCode::JournalCorrupt);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn random_damage_gives_an_error_or_published_states_only(
        seed in 0u64..1000, damage in proptest::collection::vec((any::<u32>(), any::<u8>()), 1..6),
    ) {
        let disk = Disk::default();
        let rig = Rig::new(&disk);
        workload(&rig, seed, 20);
        let names: Vec<_> = disk.names().unwrap();
        for (at, byte) in damage {
            let name = &names[at as usize % names.len()];
            disk.edit(name, |bytes| {
                let at = at as usize % bytes.len();
                bytes[at] = byte;
            });
        }
        match recover(&disk) {
            Ok((states, _)) => for (key, state) in &states {
                prop_assert!(rig.toy.published(key, state));
            },
            Err(error) => prop_assert_eq!(error.code(), ErrorCode::JournalCorrupt),
        }
    }
}

/// The real directory: what the simulated one cannot show.
mod real {
    use super::super::directory::{Claimant, enter, read_identity};
    use super::super::files::{LockMode, RealFiles};
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    fn claimant(name: &str, fabric: u8) -> Claimant<'_> {
        Claimant { owner: Owner::Store, name, fabric: [fabric; 16], store: None, fresh: [fabric + 100; 16] }
    }

    #[test]
    fn a_directory_belongs_to_one_store_and_to_one_fabric_at_a_time() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("new");
        let first = RealFiles::open(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        let store = enter(&first, &claimant("a", 1)).unwrap();
        assert_eq!(store, [101; 16]);
        // Another process of the same fabric shares it.
        let second = RealFiles::open(&path).unwrap();
        assert_eq!(enter(&second, &claimant("a", 1)).unwrap(), store);
        // Another fabric does not, as long as one of them is there.
        drop(first);
        let other = RealFiles::open(&path).unwrap();
        let error = enter(&other, &claimant("a", 2)).unwrap_err();
        assert_eq!(error.code(), ErrorCode::Busy, "{error}");
        assert_eq!(
            enter(&other, &claimant("b", 1)).unwrap_err().code(),
            ErrorCode::NotAStore,
            "another name"
        );
        let wrong = Claimant { store: Some([3; 16]), ..claimant("a", 1) };
        assert_eq!(enter(&other, &wrong).unwrap_err().code(), ErrorCode::NotAStore, "another store");
        drop(second);
        assert_eq!(enter(&other, &claimant("a", 2)).unwrap(), store, "the store stays the same one");
        assert_eq!(read_identity(&other).unwrap().unwrap().fabric, [2; 16]);
        let late = RealFiles::open(&path).unwrap();
        assert_eq!(
            enter(&late, &claimant("a", 1)).unwrap_err().code(),
            ErrorCode::Busy,
            "the old fabric is out"
        );
    }

    #[test]
    fn strange_directories_are_refused_and_left_alone() {
        let place = tempfile::tempdir().unwrap();
        let foreign = place.path().join("foreign");
        std::fs::create_dir(&foreign).unwrap();
        std::fs::set_permissions(&foreign, std::fs::Permissions::from_mode(0o700)).unwrap();
        std::fs::write(foreign.join("thesis.tex"), "years of work").unwrap();
        let files = RealFiles::open(&foreign).unwrap();
        let error = enter(&files, &claimant("a", 1)).unwrap_err();
        assert!(error.code() == ErrorCode::NotAStore && error.detail().contains("thesis.tex"), "{error}");
        assert_eq!(std::fs::read_to_string(foreign.join("thesis.tex")).unwrap(), "years of work");
        assert!(!foreign.join("STORE").exists());

        // The files of a store that is in memory are gone.
        let empty = place.path().join("empty");
        let files = RealFiles::open(&empty).unwrap();
        let missing = Claimant { store: Some([3; 16]), ..claimant("a", 1) };
        assert_eq!(enter(&files, &missing).unwrap_err().code(), ErrorCode::NotAStore);

        // A damaged identity is never taken for an empty directory.
        std::fs::write(empty.join("STORE"), "rubbish").unwrap();
        assert_eq!(enter(&files, &claimant("a", 1)).unwrap_err().code(), ErrorCode::JournalCorrupt);

        let link = place.path().join("link");
        std::os::unix::fs::symlink(&empty, &link).unwrap();
        assert_eq!(RealFiles::open(&link).err().unwrap().code(), ErrorCode::NotOurs);
        let file = place.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert_eq!(RealFiles::open(&file).err().unwrap().code(), ErrorCode::NotOurs);
        let open_to_all = place.path().join("all");
        std::fs::create_dir(&open_to_all).unwrap();
        std::fs::set_permissions(&open_to_all, std::fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(RealFiles::open(&open_to_all).err().unwrap().code(), ErrorCode::NotOurs);
    }

    #[test]
    fn the_real_files_keep_the_contract_of_the_layer() {
        let place = tempfile::tempdir().unwrap();
        let files = RealFiles::open(place.path()).unwrap();
        let file = files.create("a").unwrap();
        assert!(files.create("a").is_err());
        file.reserve(1 << 20).unwrap();
        assert_eq!(file.len().unwrap(), 1 << 20);
        file.write_at(5000, b"hello").unwrap();
        file.sync().unwrap();
        let mut back = [1; 8];
        assert_eq!(file.read_at(4998, &mut back).unwrap(), 8);
        assert_eq!(&back, b"\0\0hello\0");
        assert_eq!(file.read_at((1 << 20) - 3, &mut back).unwrap(), 3);
        files.rename("a", "b").unwrap();
        files.sync_names().unwrap();
        assert_eq!(files.names().unwrap(), ["LOCK", "b"]);
        assert_eq!(std::fs::metadata(place.path().join("b")).unwrap().mode() & 0o777, 0o600);
        files.remove("b").unwrap();
        assert_eq!(files.open("b").err().unwrap().kind(), std::io::ErrorKind::NotFound);
        let other = RealFiles::open(place.path()).unwrap();
        assert!(files.lock(7, LockMode::Shared).unwrap() && other.lock(7, LockMode::Shared).unwrap());
        assert!(!files.lock(7, LockMode::Exclusive).unwrap());
        assert!(files.lock(8, LockMode::Exclusive).unwrap() && !other.lock(8, LockMode::Shared).unwrap());
        drop(files);
        assert!(other.lock(7, LockMode::Exclusive).unwrap() && other.lock(8, LockMode::Exclusive).unwrap());
    }
}
