//! Random workloads of whole stores, judged at every legal state that a power cut may leave.
//!
//! A run records each call that it makes on the disk, and in a [`Ledger`] in which order things were published and what was acknowledged as
//! durable, with the number of calls made by then. Afterwards the calls are made again one by one on another disk; after
//! each one the power is cut, in several ways, and what recovery makes of the files is compared with the ledger.

use std::collections::{BTreeMap, BTreeSet};

use super::tests::{Memory, contents, recovered};
use super::*;
use crate::journal::FileLayer;
use crate::journal::layout::{
    BATCH_HEADER_LEN, BatchHeader, FIRST_SECTOR, FileName, IDENTITY_NAME, Identity, SECTOR, batch_len,
};
use crate::journal::replay::{census, replay, survey};
use crate::journal::sim::{Disk, Fault, Random};

type Value = Option<Vec<u8>>;
type Found = BTreeMap<Vec<u8>, Vec<u8>>;

/// Changes that become visible together: one, or those of a transaction.
struct Change {
    values: Vec<(Vec<u8>, Value)>,
    /// Since which call it may be in the files.
    published: u64,
}

/// What was done, one after the other, and what was promised when.
#[derive(Default)]
struct Ledger {
    changes: Vec<Change>,
    /// From this call on nothing of the first so many changes may be missing.
    durable: Vec<(u64, usize)>,
}

impl Ledger {
    fn publish(&mut self, values: &[(&[u8], Value)], calls: u64) {
        let values = values.iter().map(|(key, value)| (key.to_vec(), value.clone())).collect();
        self.changes.push(Change { values, published: calls });
    }

    /// The last change did not happen: it was refused.
    fn refused(&mut self) {
        self.changes.pop();
    }

    /// Everything so far is durable from this call on.
    fn durable(&mut self, calls: u64) {
        self.durable.push((calls, self.changes.len()));
    }

    /// Whether `found` may be what is left of a power cut behind this call: the state of one moment, not before what is durable and not
    /// behind what was published.
    fn judge(&self, found: &Found, calls: u64) -> Result<(), String> {
        let durable = self.durable.iter().filter(|(call, _)| *call <= calls);
        let least = durable.map(|(_, count)| *count).max().unwrap_or(0);
        let most = self.changes.iter().take_while(|change| change.published <= calls).count();
        let mut state = Found::new();
        for number in 0..=most {
            if number >= least && state == *found {
                return Ok(());
            }
            for (key, value) in self.changes.get(number).map_or(&[][..], |change| &change.values) {
                match value {
                    Some(value) => state.insert(key.clone(), value.clone()),
                    None => state.remove(key),
                };
            }
        }
        Err(format!("{found:?} was there at no moment from change {least} to change {most}"))
    }
}

#[test]
fn the_judge_sees_what_is_lost_invented_torn_and_out_of_order() {
    let mut ledger = Ledger::default();
    let some = |text: &str| Some(text.as_bytes().to_vec());
    ledger.publish(&[(b"a", some("1"))], 1);
    ledger.durable(3);
    ledger.publish(&[(b"a", some("2")), (b"b", some("2"))], 5);
    ledger.publish(&[(b"b", None)], 9);
    ledger.publish(&[(b"d", some("3"))], 9);
    let judge = |entries: &[(&str, &str)], calls| {
        let bytes = |text: &str| text.as_bytes().to_vec();
        let found: Found = entries.iter().map(|(key, value)| (bytes(key), bytes(value))).collect();
        ledger.judge(&found, calls)
    };
    assert_eq!(judge(&[], 2), Ok(()));
    assert!(judge(&[], 3).is_err(), "lost");
    assert!(judge(&[("a", "2")], 4).is_err(), "before it was published");
    assert_eq!(judge(&[("a", "2"), ("b", "2")], 5), Ok(()));
    assert!(judge(&[("a", "1"), ("b", "2")], 5).is_err(), "torn");
    assert!(judge(&[("a", "2")], 8).is_err(), "torn the other way");
    assert_eq!(judge(&[("a", "2")], 9), Ok(()), "deleted afterwards");
    assert!(judge(&[("a", "1"), ("c", "2")], 9).is_err(), "invented");
    assert_eq!(judge(&[("a", "2"), ("d", "3")], 9), Ok(()));
    assert!(judge(&[("a", "2"), ("b", "2"), ("d", "3")], 9).is_err(), "a later change without an earlier");
}

/// Small files, so that a run rolls through several.
const CAPACITY: u64 = 24 << 10;

/// A run of two processes on one store: sets, deletes, transactions, flushes, synced writes, checkpoints, reopening.
fn run(disk: &Disk, seed: u64, steps: u32) -> Ledger {
    let mut ledger = Ledger::default();
    let mut random = Random(seed);
    let memory = Memory::new(96, 16 << 10);
    let Ok(first) = memory.store(disk) else { return ledger };
    // ORDER Relaxed: nobody writes yet.
    first.core().unwrap().words().unwrap().journal().capacity().store(CAPACITY, Ordering::Relaxed);
    let Ok(second) = memory.other_process(disk, 7) else { return ledger };
    let mut stores = [first, second];
    let mut unflushed = 0;
    for step in 0..steps {
        let which = random.below(2) as usize;
        let store = &stores[which];
        let mut keys: Vec<[u8; 2]> = vec![[b'k', random.below(7) as u8]];
        if random.below(4) == 0 {
            keys.extend((0..1 + random.below(3)).map(|_| [b'k', random.below(7) as u8]));
            keys.sort();
            keys.dedup();
        }
        let mut values: Vec<(&[u8], Value)> = Vec::new();
        for key in &keys {
            let len = if random.below(6) == 0 { 3000 } else { random.below(200) };
            let value = (random.below(4) != 0)
                .then(|| [&step.to_be_bytes()[..], &vec![random.next() as u8; len as usize]].concat());
            unflushed += len + 64;
            values.push((key, value));
        }
        let sync = random.below(4) == 0;
        ledger.publish(&values, disk.calls());
        let done = match &values[..] {
            [(key, Some(value))] if sync => store.set_durable(key, value, Durability::Sync).map(drop),
            [(key, Some(value))] => store.set(key, value).map(drop),
            [(key, None)] => store.delete(key).map(drop),
            all => store.transaction().and_then(|mut transaction| {
                transaction.set_durability(if sync { Durability::Sync } else { Durability::Process })?;
                for (key, value) in all {
                    match value {
                        Some(value) => transaction.put(key, value)?,
                        None => drop(transaction.delete(key)?),
                    }
                }
                transaction.commit()
            }),
        };
        // A transaction that deletes what is not there, and nothing else, has nothing to wait for.
        let waited = values.iter().any(|(_, value)| value.is_some());
        match done {
            // A deletion is acknowledged as durable only by a flush: the handle's durability is `process`.
            Ok(()) if sync && waited => ledger.durable(disk.calls()),
            Ok(()) => {}
            // Refused before anything changed, or published and not flushed.
            Err(_) if values.iter().any(|(key, value)| store.get(key).is_ok_and(|now| now != *value)) => {
                ledger.refused();
            }
            Err(_) => {}
        }
        if (random.below(5) == 0 || unflushed > CAPACITY / 4) && store.flush().is_ok() {
            ledger.durable(disk.calls());
            unflushed = 0;
        }
        if random.below(7) == 0 && compact(store, &mut random) {
            ledger.durable(disk.calls());
            unflushed = 0;
        }
        // One process ends, perhaps with something unflushed, and another comes.
        if random.below(16) == 0 {
            let next = if which == 0 { memory.store(disk) } else { memory.other_process(disk, 7) };
            match next {
                Ok(next) => stores[which] = next,
                Err(_) => break,
            }
        }
    }
    ledger
}

/// A checkpoint of one shard or of all; or another number of shards, by one who may die before it has made their checkpoints. True: it
/// flushed.
fn compact(store: &Store, random: &mut Random) -> bool {
    let core = store.core().unwrap();
    let shards = 1 + random.below(5) as u32;
    match random.below(8) {
        0 | 1 => store.checkpoint().is_ok(),
        2 => store.set_shards(shards).is_ok() && store.flush().is_ok(),
        3 => {
            let word = core.words().unwrap().shards();
            // ORDER Relaxed: one thread.
            let version = (word.load(Ordering::Relaxed) >> 32) + 1;
            word.store(version << 32 | u64::from(shards), Ordering::Relaxed);
            false
        }
        _ => core.checkpoint_shard(None).is_ok_and(|made| made.is_some()),
    }
}

/// What replay makes of the files, without a table: as recovery, but faster.
fn replayed(disk: &Disk) -> Result<Found> {
    let Some(identity) = crate::journal::directory::read_identity(disk)? else {
        return Ok(Found::new());
    };
    let found = survey(disk, &identity.store)?;
    let mut newest: BTreeMap<Vec<u8>, (u64, Value)> = BTreeMap::new();
    let flushes = census(disk, &identity.store, &found)?;
    replay(disk, &identity.store, &found, &flushes, &mut |_| {}, &mut |record| {
        let state = newest.entry(record.key.to_vec()).or_default();
        if record.order > state.0 {
            *state = (record.order, record.value.map(<[u8]>::to_vec));
        }
        Ok(())
    })?;
    Ok(newest.into_iter().filter_map(|(key, (_, value))| Some((key, value?))).collect())
}

fn judge(ledger: &Ledger, disk: &Disk, calls: u64, whole: bool, what: &str) {
    let found = if whole { recovered(disk) } else { replayed(disk) };
    let found = found.unwrap_or_else(|error| panic!("{what}: {error}"));
    if let Err(wrong) = ledger.judge(&found, calls) {
        panic!("{what}: {wrong}");
    }
}

#[test]
fn every_legal_power_cut_state_of_random_workloads_recovers_what_was_promised() {
    let seeds = std::env::var("MEMORA_TORTURE").map_or(100, |_| 3000);
    let (mut cuts, mut rolls) = (0u64, BTreeSet::new());
    for seed in 0..seeds {
        let disk = Disk::default();
        disk.record();
        let ledger = run(&disk, seed, 30);
        let steps = disk.steps();
        assert!(steps.len() > 20, "seed {seed}");
        let again = Disk::default();
        let mut random = Random(seed ^ 0xc0ffee);
        for (calls, step) in &steps {
            again.apply(step);
            let mut states = vec![again.power_cut_extreme(false), again.power_cut_extreme(true)];
            states.extend((0..2).map(|_| again.power_cut(&mut random)));
            for (cut, state) in states.iter().enumerate() {
                let what = format!("seed {seed} call {calls} cut {cut}");
                judge(&ledger, state, *calls, random.below(50) == 0, &what);
                cuts += 1;
            }
        }
        rolls.extend(disk.names().unwrap());
    }
    let rolled = rolls
        .iter()
        .any(|name: &String| matches!(FileName::parse(name), Some(FileName::Journal { number: 3.., .. })));
    assert!(cuts > 20_000 && rolled, "{cuts} {rolls:?}");
    eprintln!("{seeds} workloads, {cuts} states");
}

#[test]
fn any_call_of_two_processes_may_fail_and_nothing_promised_is_lost() {
    let seeds = std::env::var("MEMORA_TORTURE").map_or(4, |_| 100);
    for seed in 0..seeds {
        let calls = {
            let disk = Disk::default();
            run(&disk, seed, 30);
            disk.calls()
        };
        for call in 1..=calls {
            for fault in [Fault::Once(libc::EIO), Fault::Once(libc::ENOSPC), Fault::FullFrom, Fault::DeadFrom]
            {
                let disk = Disk::default();
                disk.fail_at(call, fault);
                let ledger = run(&disk, seed, 30);
                disk.heal();
                let what = format!("seed {seed} call {call} {fault:?}");
                let mut random = Random(seed << 32 | call);
                for state in [disk.power_cut_extreme(false), disk.power_cut(&mut random)] {
                    judge(&ledger, &state, disk.calls(), false, &what);
                }
                if fault != Fault::DeadFrom {
                    judge(&ledger, &disk.power_cut_extreme(true), disk.calls(), call % 16 == 0, &what);
                }
            }
        }
    }
}

/// Where the last batch of a journal file begins.
fn last_batch(bytes: &[u8]) -> usize {
    let (mut at, mut last) = (FIRST_SECTOR as usize * SECTOR as usize, 0);
    while let Some(batch) = bytes.get(at..at + BATCH_HEADER_LEN).and_then(BatchHeader::decode) {
        last = at;
        at += batch_len(batch.body_len as usize) as usize;
    }
    last
}

#[test]
fn a_flipped_bit_anywhere_is_an_error_or_harmless() {
    let seeds = std::env::var("MEMORA_TORTURE").map_or(40, |_| 400);
    let (mut detected, mut harmless, mut torn) = (0, 0, 0);
    for seed in 0..seeds {
        let disk = Disk::default();
        let mut ledger = run(&disk, seed, 40);
        let whole = disk.power_cut_extreme(true);
        let wanted = replayed(&whole).unwrap();
        ledger.judge(&wanted, disk.calls()).unwrap();
        let mut random = Random(seed ^ 0xb17);
        let names = whole.names().unwrap();
        let newest = names.iter().rfind(|name| {
            matches!(FileName::parse(name), Some(FileName::Journal { .. }))
                && last_batch(&whole.content(name)) > 0
        });
        for name in names.iter().filter(|name| FileName::parse(name).is_some() || *name == IDENTITY_NAME) {
            let content = whole.content(name);
            let used = content.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            for _ in 0..30 {
                if used == 0 {
                    break;
                }
                let at = random.below(used as u64) as usize;
                let rotten = whole.power_cut_extreme(true);
                rotten.edit(name, |bytes| bytes[at] ^= 1 << random.below(8));
                match replayed(&rotten) {
                    Err(error) => {
                        assert_eq!(
                            error.code(),
                            ErrorCode::JournalCorrupt,
                            "seed {seed} {name} {at}: {error}"
                        );
                        detected += 1;
                    }
                    Ok(found) if found == wanted => harmless += 1,
                    // Nothing behind the last batch proves that it was ever complete.
                    Ok(found) => {
                        assert!(
                            Some(name) == newest && at >= last_batch(&content),
                            "seed {seed} {name} {at}"
                        );
                        // The state of an earlier moment all the same.
                        let undone =
                            Ledger { changes: std::mem::take(&mut ledger.changes), durable: Vec::new() };
                        undone.judge(&found, disk.calls()).unwrap();
                        ledger.changes = undone.changes;
                        torn += 1;
                    }
                }
            }
        }
    }
    eprintln!("detected {detected}, harmless {harmless}, torn {torn}");
    assert!(detected > 200 && torn > 3, "detected {detected}, harmless {harmless}, torn {torn}");
}

#[test]
fn a_cut_while_the_directory_changes_hands_leaves_a_store_of_one_of_them() {
    let disk = Disk::default();
    let memory = Memory::new(96, 16 << 10);
    let store = memory.store(&disk).unwrap();
    store.set(b"a", b"1").unwrap();
    store.checkpoint().unwrap();
    let wanted = contents(&store);
    let begun = disk.power_cut_extreme(true);
    // As another fabric left it: the next opener writes the identity anew.
    let found = crate::journal::directory::read_identity(&begun).unwrap().unwrap();
    crate::journal::directory::write_identity(&begun, &Identity { fabric: [9; 16], ..found }).unwrap();
    let calls = begun.calls();
    let all = {
        let to = begun.power_cut_extreme(true);
        Memory::new(96, 16 << 10).store(&to).unwrap();
        to.calls()
    };
    assert!(all > 4 && calls > 0);
    for call in 1..=all {
        let to = begun.power_cut_extreme(true);
        to.fail_at(call, Fault::DeadFrom);
        let opened = Memory::new(96, 16 << 10).store(&to);
        drop(opened);
        to.heal();
        for cut in 0..6 {
            let after = to.power_cut(&mut Random(call * 8 + cut));
            assert_eq!(recovered(&after).unwrap(), wanted, "call {call} cut {cut}");
        }
    }
}

/// A journal file whose header could not be written is removed and made anew by the next attempt: who had it open must not write on into
/// the one that has no name any more.
#[test]
fn a_checkpoint_that_failed_at_any_call_takes_nothing_with_it_when_it_is_made_again() {
    let made = |fail: u64| {
        let disk = Disk::default();
        let memory = Memory::new(96, 16 << 10);
        let store = memory.store(&disk).unwrap();
        store.set_durable(b"a", b"1", Durability::Sync).unwrap();
        let before = disk.calls();
        disk.fail_at(before + fail, Fault::Once(libc::EIO));
        let failed = store.checkpoint().is_err();
        let calls = disk.calls() - before;
        disk.heal();
        // A failed sync of the journal itself ends all writing.
        let poisoned = store.flush().is_err_and(|error| error.code() == ErrorCode::Poisoned);
        if !poisoned {
            store.set(b"b", b"2").unwrap();
            store.checkpoint().unwrap();
            store.set_durable(b"c", b"3", Durability::Sync).unwrap();
        }
        let found = recovered(&disk.power_cut_extreme(false)).unwrap();
        let keys: Vec<&[u8]> = found.keys().map(Vec::as_slice).collect();
        let wanted: &[&[u8]] = if poisoned { &[b"a"] } else { &[b"a", b"b", b"c"] };
        assert_eq!(keys, wanted, "call {fail} failed: {failed}");
        (failed, poisoned, calls)
    };
    let all = made(u64::MAX >> 1).2;
    let (failed, poisoned) = (1..=all)
        .map(made)
        .fold((0, 0), |sum, (failed, poisoned, _)| (sum.0 + u64::from(failed), sum.1 + u64::from(poisoned)));
    assert!(all > 15 && failed > all / 2 && poisoned < failed / 2, "{failed} of {all}, {poisoned} poisoned");
}
