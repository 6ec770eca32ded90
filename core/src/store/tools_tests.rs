//! Backup, restore, verify and repair: over files that fail, lose power or rot at every place, and in real directories.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::backup::backup_into;
use super::tests::{Memory, contents};
use super::tools::{repair_taken, restore_taken};
use super::*;
use crate::journal::FileLayer;
use crate::journal::backup::{StreamReader, read_head};
use crate::journal::check::check_files;
use crate::journal::directory::{read_identity, write_identity};
use crate::journal::layout::{BackupHead, FileHeader, FileName, Identity, Owner, file_tag, set_version};
use crate::journal::manifest::Manifest;
use crate::journal::replay::{Census, replay, survey};
use crate::journal::sim::{Disk, Fault, Random};
use crate::table::entry::SetOptions;

type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

/// The store that the tests open, as the files name it.
const STORE: [u8; 16] = [2; 16];

fn value(random: &mut Random) -> Vec<u8> {
    vec![random.next() as u8; random.below(300) as usize]
}

/// A store with a checkpoint, journals of several flushes, deletions, times to live and flags.
fn filled(disk: &Disk, seed: u64) -> (Memory, Store) {
    let memory = Memory::new(256, 16 << 10);
    let store = memory.store(disk).unwrap();
    let mut random = Random(seed);
    for round in 0..6 {
        for _ in 0..12 {
            let key = vec![b'k', random.below(20) as u8];
            match random.below(5) {
                0 => drop(store.delete(&key).unwrap()),
                1 => {
                    let options = SetOptions { ttl_ms: Some(3_600_000), flags: 77 };
                    store.set_with(&key, &value(&mut random), &options).unwrap();
                }
                _ => drop(store.set(&key, &value(&mut random)).unwrap()),
            }
            if random.below(4) == 0 {
                store.flush().unwrap();
            }
        }
        if round == 2 {
            store.checkpoint().unwrap();
        }
    }
    store.flush().unwrap();
    (memory, store)
}

/// What recovery makes of a store's files, or why it refuses them.
fn recovered(disk: &Disk) -> Result<Entries> {
    Ok(contents(&Memory::new(256, 16 << 10).store(disk)?))
}

fn layer(disk: &Disk) -> Arc<dyn FileLayer> {
    Arc::new(disk.clone())
}

fn back_up(store: &Store) -> (Disk, BackupInfo) {
    let disk = Disk::default();
    let info = backup_into(store.core().unwrap(), &layer(&disk), &mut |_, _| {}).unwrap();
    (disk, info)
}

fn restore_disk(backup: &Disk, to: &Disk, overwrite: bool) -> Result<BackupInfo> {
    let head = read_head(backup)?.expect("a complete backup");
    let found = survey(backup, &head.id)?;
    let options = RestoreOptions { name: None, overwrite };
    restore_taken(layer(to), &options, &head, &mut |push| {
        replay(backup, &head.id, &found, &Census::default(), &mut |_| {}, push)?;
        Ok(found.manifest.clone().expect("a complete backup"))
    })
}

/// A restored store has an id of its own, so it is opened as it says.
fn opened(disk: &Disk) -> Result<Entries> {
    let found = read_identity(disk)?.expect("a store");
    check_files(disk, &found.store, &mut |_| {})?;
    recovered(disk)
}

#[test]
fn a_backup_is_restored_as_it_was_with_times_to_live_and_flags_and_costs_the_store_nothing() {
    let disk = Disk::default();
    let (memory, store) = filled(&disk, 1);
    let calls = disk.calls();
    let (backup, info) = back_up(&store);
    assert_eq!(disk.calls(), calls, "the store's own files are not touched");
    assert_eq!((info.store.as_str(), info.records), ("test", store.len().unwrap()));
    let target = Disk::default();
    assert_eq!(restore_disk(&backup, &target, false).unwrap(), info);
    assert_eq!(opened(&target).unwrap(), contents(&store));
    let other = Memory::new(256, 16 << 10);
    let restored = other.store(&target).unwrap();
    for key in contents(&store).keys() {
        let (before, after) =
            (store.get_entry(key).unwrap().unwrap(), restored.get_entry(key).unwrap().unwrap());
        assert_eq!(before.flags, after.flags);
        assert_eq!(before.ttl_ms.is_some(), after.ttl_ms.is_some());
        assert!(after.ttl_ms <= before.ttl_ms.map(|ttl| ttl + 5), "{before:?} {after:?}");
    }
    // It is a store like any other from now on.
    restored.set(b"new", b"life").unwrap();
    restored.delete(contents(&store).keys().next().unwrap()).unwrap();
    restored.checkpoint().unwrap();
    assert_eq!(opened(&target).unwrap(), contents(&restored));
    memory.assert_sound();
}

/// Ends a loop of another thread, also when a test fails.
struct Stop<'a>(&'a crate::shm::atomic::AtomicU32);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(1, Ordering::Relaxed);
    }
}

#[test]
fn a_backup_taken_under_writers_is_the_state_of_one_moment_after_all_that_was_acknowledged() {
    let disk = Disk::default();
    let memory = Memory::new(512, 16 << 10);
    let store = memory.store(&disk).unwrap();
    let write = |key: u32, round: u32| {
        let mut value = round.to_be_bytes().to_vec();
        value.resize(20 + (round % 200) as usize, round as u8);
        store.set(&key.to_be_bytes(), &value).map(drop)
    };
    let acknowledged = crate::shm::atomic::AtomicU32::new(0);
    let stop = crate::shm::atomic::AtomicU32::new(0);
    for key in 0..100 {
        write(key, 1).unwrap();
    }
    std::thread::scope(|scope| {
        let _stop = Stop(&stop);
        scope.spawn(|| {
            let mut round = 2;
            while stop.load(Ordering::Relaxed) == 0 {
                for key in 0..100 {
                    write(key, round).unwrap();
                }
                match round % 16 {
                    0 => store.checkpoint().unwrap(),
                    _ => store.flush().unwrap(),
                }
                acknowledged.store(round, Ordering::Release);
                round += 1;
            }
        });
        for _ in 0..10 {
            let before = acknowledged.load(Ordering::Acquire);
            let (backup, info) = back_up(&store);
            assert!(info.records >= 100);
            let target = Disk::default();
            restore_disk(&backup, &target, false).unwrap();
            let mut rounds = Vec::new();
            for (key, value) in opened(&target).unwrap() {
                let round = u32::from_be_bytes(value[..4].try_into().unwrap());
                assert!(round >= before, "{key:?} is of round {round}, {before} was acknowledged before");
                assert_eq!(value.len(), 20 + (round % 200) as usize);
                assert!(value[4..].iter().all(|byte| *byte == round as u8));
                rounds.push(round);
            }
            // The keys come in the order in which they were written.
            assert_eq!(rounds.len(), 100);
            assert!(rounds.is_sorted_by(|earlier, later| earlier >= later), "{rounds:?}");
            assert!(rounds[0] - rounds[99] <= 1, "{rounds:?}");
        }
    });
}

#[test]
fn a_transaction_that_commits_while_a_backup_is_made_is_in_it_as_a_whole_also_with_a_checkpoint_between() {
    for checkpoint in [false, true] {
        let disk = Disk::default();
        let memory = Memory::new(512, 16 << 10);
        let store = memory.store(&disk).unwrap();
        let change = |store: &Store, to: &[u8]| {
            store
                .transact(|all| {
                    (0..64u8).try_for_each(|key| all.put(&[b't', key], to))?;
                    all.delete(b"key 7").map(drop)
                })
                .unwrap();
        };
        for key in 0..3000 {
            store.set(format!("key {key}").as_bytes(), b"value").unwrap();
        }
        change(&store, b"before");
        store.set(b"key 7", b"back").unwrap();
        let backup = Disk::default();
        let mut calls = 0;
        let info = backup_into(store.core().unwrap(), &layer(&backup), &mut |_, _| {
            calls += 1;
            // In the middle of the walk.
            if calls == 1 {
                change(&store, b"after");
                if checkpoint {
                    store.checkpoint().unwrap();
                }
            }
        });
        let info = info.unwrap();
        assert!(calls > 1 && info.records > 3064, "{info:?}");
        let target = Disk::default();
        restore_disk(&backup, &target, false).unwrap();
        let found = opened(&target).unwrap();
        assert_eq!(found, contents(&store));
        assert!(!found.contains_key(&b"key 7"[..]) && found[&[b't', 63][..]] == b"after");
    }
}

#[test]
fn a_store_whose_disk_is_full_or_failed_is_backed_up_from_memory() {
    for (fault, code) in [(Fault::FullFrom, ErrorCode::NoSpace), (Fault::DeadFrom, ErrorCode::Poisoned)] {
        let disk = Disk::default();
        let memory = Memory::new(256, 16 << 10);
        let store = memory.store(&disk).unwrap();
        store.set_durable(b"a", b"1", Durability::Sync).unwrap();
        store.set(b"b", b"2").unwrap();
        // A write takes no room in a file that is reserved; a new file does.
        let at = disk.calls() + if fault == Fault::DeadFrom { 2 } else { 1 };
        disk.fail_at(at, fault);
        assert_eq!(store.flush().unwrap_err().code(), code);
        assert_eq!(store.set(b"c", b"3").unwrap_err().code(), code);
        // By another process, which opens the store as it is.
        let (backup, info) = back_up(&memory.other_process(&disk, 7).unwrap());
        assert_eq!(info.records, 2);
        let target = Disk::default();
        restore_disk(&backup, &target, false).unwrap();
        assert_eq!(opened(&target).unwrap(), contents(&store));
    }
}

#[test]
fn a_stream_holds_the_same_and_no_cut_or_changed_byte_makes_a_store() {
    let disk = Disk::default();
    let (_memory, store) = filled(&disk, 2);
    let mut stream = Vec::new();
    let info = store.backup_to(&mut stream, |_, _| {}).unwrap();
    let restore_stream = |bytes: &[u8], to: &Disk| {
        let mut input = bytes;
        let reader = StreamReader::begin(&mut input)?;
        let head = reader.head.clone();
        let mut reader = Some(reader);
        restore_taken(layer(to), &RestoreOptions::default(), &head, &mut |push| {
            reader.take().unwrap().read(&mut |_| {}, push)
        })
    };
    let target = Disk::default();
    assert_eq!(restore_stream(&stream, &target).unwrap(), info);
    assert_eq!(opened(&target).unwrap(), contents(&store));
    for cut in (0..stream.len()).step_by(97) {
        let target = Disk::default();
        let error = restore_stream(&stream[..cut], &target).unwrap_err();
        assert_eq!(error.code(), ErrorCode::Truncated, "{cut}: {error}");
        assert_eq!(target.names().unwrap(), Vec::<String>::new());
    }
    for at in (0..stream.len()).step_by(61) {
        let mut rotten = stream.clone();
        rotten[at] ^= 0x10;
        let target = Disk::default();
        match restore_stream(&rotten, &target) {
            Err(error) => {
                let allowed = [ErrorCode::JournalCorrupt, ErrorCode::NotABackup, ErrorCode::Truncated];
                assert!(allowed.contains(&error.code()), "{at}: {error}");
                assert_eq!(target.names().unwrap(), Vec::<String>::new());
            }
            // Bytes that fill up to the next sector say nothing.
            Ok(_) => assert_eq!(opened(&target).unwrap(), contents(&store), "{at}"),
        }
    }
    let mut longer = stream.clone();
    longer.push(0);
    assert_eq!(restore_stream(&longer, &Disk::default()).unwrap_err().code(), ErrorCode::JournalCorrupt);
}

#[test]
fn a_backup_or_restore_that_fails_or_loses_power_anywhere_leaves_no_half_store() {
    let disk = Disk::default();
    let (_memory, store) = filled(&disk, 3);
    let wanted = contents(&store);
    let (backup, _) = back_up(&store);
    let faults = [Fault::Once(libc::EIO), Fault::Once(libc::ENOSPC), Fault::FullFrom, Fault::DeadFrom];
    for call in 1..=backup.calls() {
        for fault in faults {
            let to = Disk::default();
            to.fail_at(call, fault);
            let done = backup_into(store.core().unwrap(), &layer(&to), &mut |_, _| {});
            to.heal();
            for cut in 0..4 {
                let after = to.power_cut(&mut Random(call * 4 + cut));
                // A head counts only with all that it stands for.
                if read_head(&after).unwrap().is_some() {
                    restore_disk(&after, &Disk::default(), false).unwrap();
                } else {
                    assert!(done.is_err(), "call {call} {fault:?}: a backup that was reported is gone");
                }
            }
            if done.is_err() && fault == Fault::Once(libc::ENOSPC) {
                assert_eq!(to.names().unwrap(), Vec::<String>::new(), "call {call}: space is given back");
            }
        }
    }
    // Into an empty directory, and over a store.
    for overwrite in [false, true] {
        let make = || {
            let to = Disk::default();
            let mut old = None;
            if overwrite {
                let memory = Memory::new(128, 16 << 10);
                let store = memory.store(&to).unwrap();
                store.set(b"old", b"data").unwrap();
                store.checkpoint().unwrap();
                store.set(b"older", b"data").unwrap();
                store.flush().unwrap();
                old = Some(contents(&store));
            }
            (to, old)
        };
        let calls = {
            let (to, _) = make();
            let before = to.calls();
            restore_disk(&backup, &to, overwrite).unwrap();
            (before + 1)..=to.calls()
        };
        for call in calls {
            for fault in faults {
                let (to, old) = make();
                to.fail_at(call, fault);
                let done = restore_disk(&backup, &to, overwrite);
                to.heal();
                for cut in 0..4 {
                    let what = format!("overwrite {overwrite} call {call} {fault:?} cut {cut}: {done:?}");
                    let after = to.power_cut(&mut Random(call * 4 + cut));
                    match read_identity(&after).unwrap() {
                        None => {
                            assert!(done.is_err(), "{what}");
                            // And a second try succeeds.
                            restore_disk(&backup, &after, true).unwrap();
                            assert_eq!(opened(&after).unwrap(), wanted, "{what}");
                        }
                        Some(found) if found.store == STORE => {
                            assert!(done.is_err(), "{what}");
                            assert_eq!(Some(recovered(&after).unwrap()), old, "{what}");
                        }
                        Some(_) => assert_eq!(opened(&after).unwrap(), wanted, "{what}"),
                    }
                }
            }
        }
    }
}

#[test]
fn a_store_that_is_there_is_replaced_only_on_demand_and_not_by_a_bad_backup() {
    let disk = Disk::default();
    let (_memory, store) = filled(&disk, 4);
    let (backup, _) = back_up(&store);
    let error = restore_disk(&backup, &disk, false).unwrap_err();
    assert_eq!(error.code(), ErrorCode::AlreadyExists);
    assert!(error.detail().contains("the store `test`"), "{error}");
    backup.edit("checkpoint.0000001.0000000", |bytes| bytes[5000] ^= 1);
    let error = restore_disk(&backup, &disk, true).unwrap_err();
    assert_eq!(error.code(), ErrorCode::JournalCorrupt, "{error}");
    assert_eq!(recovered(&disk).unwrap(), contents(&store));
    // Under such a name no fabric could open it.
    let (backup, _) = back_up(&store);
    for name in ["", "a/b", ".hidden", &"x".repeat(65), &"ü".repeat(40)] {
        let options = RestoreOptions { name: Some(name.to_owned()), overwrite: true };
        let head = read_head(&backup).unwrap().unwrap();
        let error =
            restore_taken(layer(&disk), &options, &head, &mut |_| panic!("nothing is read")).unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidName, "{name}");
        let head = BackupHead { name: name.to_owned(), ..head };
        let options = RestoreOptions { name: None, overwrite: true };
        let error =
            restore_taken(layer(&disk), &options, &head, &mut |_| panic!("nothing is read")).unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidName, "{name} in the backup");
    }
    assert_eq!(recovered(&disk).unwrap(), contents(&store));
    let foreign = Disk::default();
    foreign.create("thesis.tex").unwrap();
    let (backup, _) = back_up(&store);
    assert_eq!(restore_disk(&backup, &foreign, true).unwrap_err().code(), ErrorCode::NotAStore);
}

fn repair_disk(disk: &Disk, apply: bool) -> Result<RepairReport> {
    repair_taken(layer(disk), &RepairOptions { apply, name: None }, &mut |_| {})
}

/// Names of the files that count.
fn parts(disk: &Disk) -> Vec<String> {
    let counts = |name: &String| {
        matches!(FileName::parse(name), Some(FileName::Journal { .. } | FileName::Checkpoint { .. }))
    };
    disk.names().unwrap().into_iter().filter(counts).collect()
}

#[test]
fn repair_leaves_a_sound_store_alone() {
    let disk = Disk::default();
    let (_memory, store) = filled(&disk, 5);
    store.flush().unwrap();
    let before = disk.names().unwrap();
    let report = repair_disk(&disk, true).unwrap();
    assert_eq!((report.problem, report.losses, report.originals), (None, Vec::new(), Vec::new()));
    assert_eq!(disk.names().unwrap(), before);
}

/// A store whose journal was changed afterwards, with what each key had before and has now.
#[test]
fn rot_anywhere_is_reported_to_the_byte_before_anything_is_changed_and_the_rest_is_saved() {
    let seeds = std::env::var("MEMORA_TORTURE").map_or(6, |_| 200);
    let (mut damaged, mut counted) = (0, 0);
    for seed in 0..seeds {
        let disk = Disk::default();
        let (_memory, store) = filled(&disk, seed);
        let wanted = contents(&store);
        let total = check_files(&disk, &STORE, &mut |_| {}).unwrap().records;
        let mut random = Random(seed ^ 0xbad);
        for name in parts(&disk) {
            let whole = disk.content(&name);
            let used = whole.iter().rposition(|byte| *byte != 0).unwrap_or(0);
            for _ in 0..8 {
                let at = random.below(used as u64 + 1) as usize;
                let rotten = disk.power_cut(&mut Random(0));
                rotten.edit(&name, |bytes| bytes[at] ^= 1 << random.below(8));
                let problem = check_files(&rotten, &STORE, &mut |_| {});
                let before = rotten.names().unwrap();
                let dry = repair_disk(&rotten, false).unwrap();
                let what = format!("seed {seed} {name} byte {at}: {dry:?}");
                assert_eq!(rotten.names().unwrap(), before, "{what}");
                assert_eq!(dry.problem.is_some(), problem.is_err(), "{what}");
                if dry.problem.is_none() {
                    continue;
                }
                damaged += 1;
                for loss in &dry.losses {
                    assert_eq!(loss.file, name, "{what}");
                    assert!(loss.from <= at as u64 && (at as u64) < loss.to, "{what}");
                }
                let lost: Option<u64> = dry.losses.iter().map(|loss| loss.records).sum();
                if let Some(lost) = lost {
                    assert_eq!(lost + dry.records, total, "{what}");
                    counted += u64::from(lost > 0);
                }
                let report = repair_disk(&rotten, true).unwrap();
                assert_eq!((&report.losses, report.records), (&dry.losses, dry.records), "{what}");
                assert_eq!(report.originals.len(), before.len() - 1, "{what}");
                // The one changed byte is still there to be looked at.
                assert!(report.originals.iter().any(|aside| aside.starts_with(&name)), "{what}");
                let found = recovered(&rotten).unwrap_or_else(|error| panic!("{what}: {error}"));
                if dry.losses.is_empty() {
                    assert_eq!(found, wanted, "{what}");
                }
                assert_eq!(repair_disk(&rotten, true).unwrap().problem, None, "{what}");
            }
        }
    }
    assert!(damaged > 20 && counted > 5, "{damaged} {counted}");
}

#[test]
fn repair_that_fails_or_loses_power_anywhere_can_be_done_again_and_loses_no_more() {
    let disk = Disk::default();
    let (_memory, _store) = filled(&disk, 7);
    // In the first batch that counts.
    let first = survey(&disk, &STORE).unwrap().journals[0];
    let name = FileName::Journal { term: first.term(), number: first.number() };
    disk.edit(&name.to_string(), |bytes| bytes[first.byte() as usize + 70] ^= 1);
    let copy = || disk.power_cut(&mut Random(0));
    let manifests = |disk: &Disk| {
        let terms = disk.names().unwrap().into_iter().filter_map(|name| match FileName::parse(&name) {
            Some(FileName::Manifest { term }) => Some(term),
            _ => None,
        });
        terms.max()
    };
    let fabric = |disk: &Disk| read_identity(disk).unwrap().unwrap().fabric;
    assert_ne!(fabric(&disk), [0; 16]);
    let (wanted, calls) = {
        let to = copy();
        repair_disk(&to, true).unwrap();
        (recovered(&to).unwrap(), to.calls())
    };
    let mut between = 0;
    for call in 1..=calls {
        for fault in [Fault::Once(libc::EIO), Fault::FullFrom, Fault::DeadFrom] {
            let to = copy();
            to.fail_at(call, fault);
            let done = repair_disk(&to, true);
            to.heal();
            for cut in 0..4 {
                let after = to.power_cut(&mut Random(call * 4 + cut));
                let what = format!("call {call} {fault:?} cut {cut}: {done:?}");
                // What a failed repair has written would only make a full disk fuller.
                if done.is_err() && matches!(fault, Fault::FullFrom) && manifests(&to) == manifests(&disk) {
                    assert_eq!(parts(&to), parts(&disk), "{what}");
                }
                // A fabric that went on with its memory would write behind files that count no more.
                if manifests(&after) > manifests(&disk) {
                    assert_eq!(fabric(&after), [0; 16], "{what}");
                    between += u32::from(done.is_err());
                }
                let again = repair_disk(&after, true).unwrap_or_else(|error| panic!("{what}: {error}"));
                assert!(done.is_err() || again.problem.is_none(), "{what}");
                assert_eq!(recovered(&after).unwrap(), wanted, "{what}");
            }
        }
    }
    assert!(between > 0);
}

#[test]
fn every_kind_of_bad_files_has_an_error_of_its_own_and_repair_saves_what_it_says() {
    let disk = Disk::default();
    let (_memory, store) = filled(&disk, 8);
    let wanted = contents(&store);
    let manifest = disk.names().unwrap().into_iter().find(|name| name.starts_with("MANIFEST")).unwrap();
    let checkpoint = parts(&disk).into_iter().find(|name| name.starts_with("checkpoint")).unwrap();
    let copy = || disk.power_cut(&mut Random(0));
    let refused = |disk: &Disk, code: ErrorCode, named: &str| {
        let error = recovered(disk).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.detail().contains(named), "{error}");
        error
    };

    let cut = copy();
    cut.edit(&checkpoint, |bytes| bytes.truncate(bytes.len() - 600));
    refused(&cut, ErrorCode::Truncated, &checkpoint);
    let report = repair_disk(&cut, true).unwrap();
    assert!(report.losses.iter().any(|loss| loss.file == checkpoint && loss.records.is_some()), "{report:?}");
    recovered(&cut).unwrap();

    let newer = copy();
    newer.edit(&manifest, |bytes| set_version(bytes, 9));
    let error = refused(&newer, ErrorCode::OtherVersion, &manifest);
    assert!(error.detail().contains("newer"), "{error}");
    assert_eq!(repair_disk(&newer, true).unwrap_err().code(), ErrorCode::OtherVersion);
    let newer = copy();
    newer.edit("STORE", |bytes| set_version(bytes, 9));
    assert_eq!(repair_disk(&newer, true).unwrap_err().code(), ErrorCode::OtherVersion);

    // As long as all of the journal is there nothing is lost; where the directory knows of a manifest, it is missed all the same.
    let gone = copy();
    gone.remove(&manifest).unwrap();
    assert_eq!(recovered(&gone).unwrap(), wanted);
    let known = Identity { manifest: 1, ..read_identity(&gone).unwrap().unwrap() };
    write_identity(&gone, &known).unwrap();
    refused(&gone, ErrorCode::ManifestMissing, "MANIFEST");
    let report = repair_disk(&gone, true).unwrap();
    assert_eq!(report.losses.len(), 1, "{report:?}");
    assert_eq!(recovered(&gone).unwrap(), wanted);

    let bad = copy();
    bad.edit(&manifest, |bytes| bytes[60] ^= 1);
    refused(&bad, ErrorCode::JournalCorrupt, &manifest);
    repair_disk(&bad, true).unwrap();
    assert_eq!(recovered(&bad).unwrap(), wanted);

    let missing = copy();
    let first = parts(&disk).into_iter().find(|name| name.starts_with("journal")).unwrap();
    missing.remove(&first).unwrap();
    refused(&missing, ErrorCode::JournalCorrupt, "missing");
    let report = repair_disk(&missing, true).unwrap();
    assert_eq!(report.losses.iter().map(|loss| loss.file.as_str()).collect::<Vec<_>>(), [first.as_str()]);
    recovered(&missing).unwrap();

    // The identity: the files still say which store it was, and the user its name.
    let anonymous = copy();
    anonymous.edit("STORE", |bytes| bytes[20] ^= 1);
    let error = repair_disk(&anonymous, true).unwrap_err();
    assert_eq!(error.code(), ErrorCode::JournalCorrupt);
    let unnamable = RepairOptions { apply: true, name: Some("te/st".into()) };
    let error = repair_taken(layer(&anonymous), &unnamable, &mut |_| {}).unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidName);
    let named = RepairOptions { apply: true, name: Some("test".into()) };
    repair_taken(layer(&anonymous), &named, &mut |_| {}).unwrap();
    assert_eq!(recovered(&anonymous).unwrap(), wanted);
    assert_eq!(read_identity(&anonymous).unwrap().unwrap().store, STORE);
}

#[test]
fn a_restored_store_that_loses_its_manifest_says_so_instead_of_being_empty() {
    let disk = Disk::default();
    let (_memory, store) = filled(&disk, 9);
    let (backup, _) = back_up(&store);
    let target = Disk::default();
    restore_disk(&backup, &target, false).unwrap();
    target.remove("MANIFEST.0000001").unwrap();
    let store = read_identity(&target).unwrap().unwrap().store;
    assert_eq!(check_files(&target, &store, &mut |_| {}).unwrap_err().code(), ErrorCode::ManifestMissing);
    // So does one that was repaired.
    let name = parts(&disk).into_iter().find(|name| name.starts_with("journal")).unwrap();
    disk.edit(&name, |bytes| bytes[20] ^= 1);
    let before = disk.names().unwrap();
    repair_disk(&disk, true).unwrap();
    let made = |name: &&String| {
        !before.contains(name) && matches!(FileName::parse(name), Some(FileName::Manifest { .. }))
    };
    disk.remove(disk.names().unwrap().iter().find(made).unwrap()).unwrap();
    assert_eq!(check_files(&disk, &STORE, &mut |_| {}).unwrap_err().code(), ErrorCode::ManifestMissing);
}

#[test]
fn the_files_of_a_log_and_those_whose_terms_are_used_up_are_left_alone() {
    let disk = Disk::default();
    let (_memory, store) = filled(&disk, 12);
    let (backup, _) = back_up(&store);
    let last = disk.power_cut(&mut Random(0));
    add(&last, "journal.1048573.0000000", b"");
    assert_eq!(restore_disk(&backup, &last, true).unwrap_err().code(), ErrorCode::Full);
    assert!(read_identity(&last).unwrap().is_some(), "it is what it was");
    let of_a_log = Identity { owner: Owner::Log, ..read_identity(&disk).unwrap().unwrap() };
    write_identity(&disk, &of_a_log).unwrap();
    let before = disk.names().unwrap();
    assert_eq!(restore_disk(&backup, &disk, true).unwrap_err().code(), ErrorCode::NotAStore);
    disk.edit(&parts(&disk)[0], |bytes| bytes[4096 + 70] ^= 1);
    assert_eq!(repair_disk(&disk, true).unwrap_err().code(), ErrorCode::NotAStore);
    assert_eq!(disk.names().unwrap(), before);
}

/// The public calls, in real directories.
#[test]
fn directories_in_use_read_only_or_foreign_are_refused_and_left_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let disk = Disk::default();
    let (_memory, store) = filled(&disk, 10);
    let mut steps = Vec::new();
    let info = store.backup(at("backup"), |done, total| steps.push((done, total))).unwrap();
    assert!(steps.last().is_some_and(|(done, total)| done == total && *done == info.bytes));
    assert_eq!(store.backup(at("backup"), |_, _| {}).unwrap_err().code(), ErrorCode::AlreadyExists);
    let report = verify(at("backup"), |_, _| {}).unwrap();
    assert_eq!((report.backup, report.records, report.store.as_str()), (true, info.records, "test"));
    let options = RestoreOptions { name: Some("copy".into()), overwrite: false };
    assert_eq!(restore(at("backup"), at("copy"), &options, |_, _| {}).unwrap(), info);
    let report = verify(at("copy"), |_, _| {}).unwrap();
    assert_eq!((report.backup, report.records, report.store.as_str()), (false, info.records, "copy"));
    let again = restore(at("backup"), at("copy"), &options, |_, _| {}).unwrap_err();
    assert_eq!(again.code(), ErrorCode::AlreadyExists);
    // A store is no backup, and a backup no store.
    assert_eq!(restore(at("copy"), at("x"), &options, |_, _| {}).unwrap_err().code(), ErrorCode::NotABackup);
    assert!(!at("x").exists());
    let none = RepairOptions::default();
    assert_eq!(repair(at("backup"), &none, |_, _| {}).unwrap_err().code(), ErrorCode::NotAStore);
    assert_eq!(verify(at("nowhere"), |_, _| {}).unwrap_err().code(), ErrorCode::NotFound);
    // A stream in a file.
    let mut stream = Vec::new();
    store.backup_to(&mut stream, |_, _| {}).unwrap();
    std::fs::write(at("stream"), &stream).unwrap();
    restore(at("stream"), at("third"), &options, |_, _| {}).unwrap();
    assert_eq!(verify(at("third"), |_, _| {}).unwrap().records, info.records);
    let overwrite = RestoreOptions { name: None, overwrite: true };
    restore_from(&mut &stream[..], at("third"), &overwrite, |_| {}).unwrap();
    assert_eq!(verify(at("third"), |_, _| {}).unwrap().store, "test");
    in_use(&at("third"));
}

/// A process that has the directory open keeps tools out.
fn in_use(dir: &Path) {
    let files = crate::journal::RealFiles::open(dir).unwrap();
    assert!(files.lock(0, crate::journal::files::LockMode::Shared).unwrap());
    let apply = RepairOptions { apply: true, name: None };
    assert_eq!(repair(dir, &apply, |_, _| {}).unwrap_err().code(), ErrorCode::Busy);
    assert_eq!(repair(dir, &RepairOptions::default(), |_, _| {}).unwrap().problem, None);
    verify(dir, |_, _| {}).unwrap();
}

/// A store with what a checkpoint made needless and a crash kept from being removed.
fn left_behind(seed: u64) -> (Disk, Entries) {
    let disk = Disk::default();
    drop(filled(&disk, seed));
    let before = disk.power_cut(&mut Random(0));
    // Another life: its files are of the next term.
    let memory = Memory::new(256, 16 << 10);
    let store = memory.store(&disk).unwrap();
    for key in contents(&store).keys().take(4) {
        store.delete(key).unwrap();
    }
    store.checkpoint().unwrap();
    store.set(b"since", b"the checkpoint").unwrap();
    store.flush().unwrap();
    let wanted = contents(&store);
    let there = disk.names().unwrap();
    for name in before.names().unwrap().into_iter().filter(|name| !there.contains(name)) {
        add(&disk, &name, &before.content(&name));
    }
    assert_eq!(recovered(&disk.power_cut(&mut Random(0))).unwrap(), wanted);
    (disk, wanted)
}

fn add(disk: &Disk, name: &str, bytes: &[u8]) {
    let file = disk.create(name).unwrap();
    file.write_at(0, bytes).unwrap();
    file.sync().unwrap();
    disk.sync_names().unwrap();
}

#[test]
fn what_a_checkpoint_made_needless_does_not_come_back_by_a_repair() {
    for seed in 0..4 {
        let (disk, wanted) = left_behind(seed);
        let obsolete = survey(&disk, &STORE).unwrap().obsolete;
        for kind in ["journal", "checkpoint", "MANIFEST"] {
            assert!(obsolete.iter().any(|name| name.starts_with(kind)), "{seed} {kind}: {obsolete:?}");
        }
        let newest = parts(&disk).into_iter().filter(|name| name.starts_with("journal")).max().unwrap();
        disk.edit(&newest, |bytes| bytes[20] ^= 1);
        // Nor is rot in it a loss.
        let needless = obsolete.iter().find(|name| name.starts_with("journal")).unwrap();
        disk.edit(needless, |bytes| bytes[4096 + 70] ^= 1);
        let report = repair_disk(&disk, true).unwrap();
        assert!(report.problem.is_some() && report.losses.is_empty(), "{seed}: {report:?}");
        assert_eq!(recovered(&disk).unwrap(), wanted, "{seed}");
    }
}

#[test]
fn files_that_are_not_the_stores_are_told_and_count_for_nothing() {
    let (disk, wanted) = left_behind(11);
    let found = survey(&disk, &STORE).unwrap();
    let manifest = found.manifest.unwrap();
    let term = found.term_max + 1;
    let name = FileName::Manifest { term }.to_string();
    let of_another = Manifest { store: [9; 16], term, ..manifest.clone() };
    // That of another store, and one under another name.
    for strange in [of_another, manifest] {
        let disk = disk.power_cut(&mut Random(0));
        add(&disk, &name, &strange.encode());
        let report = repair_disk(&disk, true).unwrap();
        let told: Vec<_> = report.losses.iter().map(|loss| (loss.file.as_str(), loss.what)).collect();
        let what = "the manifest is damaged: every checkpoint and journal counts";
        assert_eq!(told, [(name.as_str(), what)]);
        let found = recovered(&disk).unwrap();
        // A deletion that only the newest checkpoint knew of is undone, no more.
        assert!(wanted.iter().all(|(key, value)| found.get(key) == Some(value)));
    }
    let name = FileName::Journal { term, number: 0 };
    let previous = crate::journal::Lsn::NONE;
    let header = FileHeader {
        store: [9; 16],
        tag: file_tag(&[9; 16], name),
        capacity: 1 << 20,
        previous,
        created_ms: 1,
    };
    add(&disk, &name.to_string(), &header.encode());
    let report = repair_disk(&disk, true).unwrap();
    let told: Vec<_> = report.losses.iter().map(|loss| (loss.file.clone(), loss.what)).collect();
    assert_eq!(told, [(name.to_string(), "the file belongs to another store")]);
    assert_eq!(recovered(&disk).unwrap(), wanted);
}
