//! Shards of stores over files without a disk: what is recovered while their number changes, and what may be removed when.

use std::collections::BTreeMap;

use super::shards::first_word;
use super::tests::{Memory, contents, recovered};
use super::*;
use crate::chunk::Known;
use crate::chunk::record::EXTENDED_BYTES;
use crate::journal::layout::FileName;
use crate::journal::sim::{Disk, Random};
use crate::journal::{Caller, FileLayer, Source};

/// Changes the number, but dies before it has made any checkpoint.
fn change_number(store: &Store, shards: u32) {
    let word = store.core().unwrap().words().unwrap().shards();
    let version = (word.load(Ordering::Relaxed) >> 32) + 1;
    word.store(version << 32 | u64::from(shards), Ordering::Relaxed);
}

fn manifest(store: &Store) -> crate::journal::manifest::Manifest {
    store.core().unwrap().journal.as_ref().unwrap().manifest().unwrap().expect("there is one")
}

fn shard(store: &Store, wanted: Option<u32>) {
    assert!(store.core().unwrap().checkpoint_shard(wanted).unwrap().is_some());
}

#[test]
fn the_number_is_changed_at_any_time_and_every_state_on_the_way_recovers() {
    let disk = Disk::default();
    let memory = Memory::new(128, 16 << 10);
    let store = memory.store(&disk).unwrap();
    assert_eq!(store.shards().unwrap(), SHARDS_DEFAULT);
    let mut random = Random(7);
    for step in 0..300u32 {
        let key = [b'k', random.below(90) as u8];
        match random.below(3) {
            0 => drop(store.delete(&key).unwrap()),
            _ => drop(store.set(&key, &step.to_be_bytes()).unwrap()),
        }
        if step % 6 == 0 {
            match random.below(5) {
                0 => store.set_shards(1 + random.below(16) as u32).unwrap(),
                1 => change_number(&store, 1 + random.below(16) as u32),
                2 => store.checkpoint().unwrap(),
                _ => shard(&store, None),
            }
            store.flush().unwrap();
            let cut = disk.power_cut(&mut random);
            assert_eq!(recovered(&cut).unwrap(), contents(&store), "step {step}");
        }
    }
    store.set_shards(9).unwrap();
    let made = manifest(&store);
    assert_eq!((made.rows.len(), made.shards, made.is_mixed()), (9, 9, false));
    // What is live stands there once, and each shard has a part of it.
    assert_eq!(made.size().1, store.len().unwrap());
    assert!(made.rows.iter().filter(|row| row.records > 0).count() > 4, "{:?}", made.rows);
    let stats = store.stats().unwrap();
    assert_eq!((stats.shards, stats.checkpoints), (9, made.number));
    // Files alone say how many there are.
    let again = Memory::new(128, 16 << 10).store(&disk.power_cut_extreme(true)).unwrap();
    assert_eq!((again.shards().unwrap(), contents(&again)), (9, contents(&store)));
    memory.assert_sound();
}

#[test]
fn setting_the_number_that_is_there_writes_nothing_unless_it_was_broken_off() {
    let disk = Disk::default();
    let store = Memory::new(128, 16 << 10).store(&disk).unwrap();
    store.set(b"a", b"1").unwrap();
    store.set_shards(4).unwrap();
    let calls = disk.calls();
    store.set_shards(4).unwrap();
    assert_eq!(disk.calls(), calls);
    change_number(&store, 7);
    shard(&store, None);
    assert!(manifest(&store).is_mixed());
    store.set_shards(7).unwrap();
    assert_eq!((manifest(&store).rows.len(), manifest(&store).shards), (7, 7));
    for wrong in [0, 65] {
        assert_eq!(store.set_shards(wrong).unwrap_err().code(), ErrorCode::InvalidArgument);
    }
    assert_eq!(store.shards().unwrap(), 7);
}

#[test]
fn what_was_deleted_does_not_come_back_from_the_checkpoints_of_the_map_before() {
    let disk = Disk::default();
    let store = Memory::new(128, 16 << 10).store(&disk).unwrap();
    for number in 0..60u8 {
        store.set(&[number], b"of old").unwrap();
    }
    store.set_shards(2).unwrap();
    // All are deleted, and no tombstone stays in memory.
    for number in 0..60u8 {
        store.delete(&[number]).unwrap();
    }
    store.flush().unwrap();
    change_number(&store, 3);
    for wanted in 0..3 {
        assert_eq!(recovered(&disk.power_cut_extreme(true)).unwrap(), BTreeMap::new(), "before {wanted}");
        shard(&store, Some(wanted));
        // Old journal would go with it if it could.
        store.set(b"other", &[wanted as u8]).unwrap();
        store.flush().unwrap();
        store.delete(b"other").unwrap();
        store.flush().unwrap();
    }
    assert!(!manifest(&store).is_mixed());
    assert_eq!(recovered(&disk.power_cut_extreme(true)).unwrap(), BTreeMap::new());
    // In another fabric, whose map is another one again.
    let next = Memory::new(128, 16 << 10).store(&disk).unwrap();
    next.set(b"x", b"1").unwrap();
    next.delete(b"x").unwrap();
    next.flush().unwrap();
    shard(&next, None);
    assert!(manifest(&next).is_mixed());
    assert_eq!(recovered(&disk.power_cut_extreme(true)).unwrap(), BTreeMap::new());
}

#[test]
fn a_table_with_another_hash_has_another_map() {
    let disk = Disk::default();
    let first = Memory::new(128, 16 << 10).store(&disk).unwrap();
    first.set(b"a", b"1").unwrap();
    first.checkpoint().unwrap();
    let second = Memory::new(128, 16 << 10).store(&disk).unwrap();
    assert_ne!(first.core().unwrap().map().unwrap().id, second.core().unwrap().map().unwrap().id);
    let word = second.core().unwrap().words().unwrap().shards().load(Ordering::Relaxed);
    assert_eq!(word, first_word(4), "the number is that of the files, the version begins anew");
}

#[test]
fn one_slice_is_due_after_its_part_of_the_window_and_the_oldest_comes_first() {
    let disk = Disk::default();
    let store = Memory::new(512, 16 << 10).store(&disk).unwrap();
    let core = store.core().unwrap();
    let mut slices = 0;
    // The window is 1 MiB, that of one of four shards a quarter.
    for round in 0..1600u32 {
        store.set(&(round % 100).to_be_bytes(), &[7; 1000]).unwrap();
        store.flush().unwrap();
        let due = core.checkpoint_is_due().unwrap();
        core.tick().unwrap();
        slices += u32::from(due);
    }
    assert!((4..=9).contains(&slices), "{slices}");
    let made = manifest(&store);
    assert_eq!((made.number, made.rows.len()), (u64::from(slices), 4));
    let mut order: Vec<_> = made.rows.iter().map(|row| (row.first, row.shard)).collect();
    let rows: Vec<u32> = order.iter().map(|row| row.1).collect();
    order.sort_unstable();
    assert_eq!(order.iter().map(|row| row.1).collect::<Vec<_>>(), rows, "the last in the row is the newest");
    assert_eq!(core.map().unwrap().neediest(&made.rows), rows[0]);
}

#[test]
fn who_comes_late_makes_as_many_as_it_takes_to_let_the_journal_go() {
    let disk = Disk::default();
    let store = Memory::new(512, 16 << 10).store(&disk).unwrap();
    let core = store.core().unwrap();
    store.checkpoint().unwrap();
    let before = manifest(&store).number;
    // Eight windows, while nobody makes a checkpoint.
    for round in 0..8000u32 {
        store.set(&(round % 100).to_be_bytes(), &[7; 1000]).unwrap();
        if round % 10 == 9 {
            store.flush().unwrap();
        }
    }
    let control = core.words().unwrap().journal();
    let full = || {
        let tail = crate::journal::Lsn(control.tail().load(Ordering::Relaxed)).at_sector(0);
        let first = manifest(&store).first.at_sector(0);
        core.journal.as_ref().unwrap().bytes_between(first, tail).unwrap()
    };
    let most = 2 * control.checked_capacity().unwrap();
    assert!(full() > most);
    core.tick().unwrap();
    assert!(full() <= most, "{} of {most}", full());
    assert_eq!(manifest(&store).number, before + 4, "of each shard one");
}

#[test]
fn files_of_another_map_are_replaced_in_one_round_when_a_checkpoint_is_due() {
    let disk = Disk::default();
    let store = Memory::new(512, 16 << 10).store(&disk).unwrap();
    store.set(b"a", b"1").unwrap();
    store.checkpoint().unwrap();
    change_number(&store, 6);
    let core = store.core().unwrap();
    for round in 0..400u32 {
        store.set(&(round % 100).to_be_bytes(), &[7; 1000]).unwrap();
        store.flush().unwrap();
        core.tick().unwrap();
    }
    assert!(manifest(&store).is_of_map(core.map().unwrap().id));
}

#[test]
fn checkpoints_of_one_reign_share_its_term_and_take_the_next_one_when_its_parts_are_used_up() {
    let disk = Disk::default();
    let store = Memory::new(128, 16 << 10).store(&disk).unwrap();
    for round in 0..20u8 {
        store.set(b"a", &[round]).unwrap();
        store.checkpoint().unwrap();
    }
    let made = manifest(&store);
    assert_eq!((made.number, made.next_part(made.term)), (80, 80));
    let names = disk.names().unwrap();
    let count = |wanted: fn(FileName) -> bool| {
        names.iter().filter_map(|name| FileName::parse(name)).filter(|name| wanted(*name)).count()
    };
    assert_eq!(count(|name| matches!(name, FileName::Checkpoint { .. })), 4);
    assert_eq!(count(|name| matches!(name, FileName::Manifest { .. })), 1);
    // As if there had been half a million.
    let mut late = made.clone();
    let last = late.rows.last_mut().unwrap();
    let files: Vec<String> = last.files().map(|name| name.to_string()).collect();
    last.part = 1 << 19;
    let renamed = FileName::Checkpoint { term: last.term, part: last.part }.to_string();
    let bytes = disk.content(&files[0]);
    assert_eq!(files.len(), 1);
    let journal = store.core().unwrap().journal.as_ref().unwrap();
    let file = journal.files().create(&renamed).unwrap();
    file.write_at(0, &bytes).unwrap();
    journal.publish_manifest(&late, &|| true).unwrap();
    shard(&store, None);
    let next = manifest(&store);
    assert_eq!((next.term, next.next_part(next.term)), (made.term + 1, 1));
}

#[test]
fn a_maker_that_was_deposed_before_its_manifest_got_its_name_removes_nothing() {
    let disk = Disk::default();
    let store = Memory::new(128, 16 << 10).store(&disk).unwrap();
    for number in 0..60u8 {
        store.set(&[number], b"1").unwrap();
    }
    store.checkpoint().unwrap();
    let core = store.core().unwrap();
    let journal = core.journal.as_ref().unwrap();
    // What a successor has read, and will name.
    let read = manifest(&store);
    let wanted = contents(&store);
    // The maker asks whether it leads, is stopped, is deposed, wakes and names its manifest.
    let mut late = read.clone();
    late.rows.remove(0);
    (late.term, late.number) = (read.term + 1, read.number + 1);
    let asked = std::cell::Cell::new(0);
    let leads = || asked.replace(asked.get() + 1) == 0;
    let error = journal.put_in_force(&late, 0, &leads).unwrap_err();
    assert_eq!((error.code(), asked.get()), (ErrorCode::Busy, 2));
    assert_eq!(manifest(&store).term, late.term);
    let next = crate::journal::manifest::Manifest { term: read.term + 2, ..read };
    journal.put_in_force(&next, 0, &|| true).unwrap();
    assert_eq!(recovered(&disk.power_cut_extreme(true)).unwrap(), wanted);
}

#[test]
fn a_value_that_is_flushed_again_behind_the_deletion_that_hid_it_does_not_come_back() {
    let disk = Disk::default();
    let memory = Memory::new(128, 16 << 10);
    let store = memory.store(&disk).unwrap();
    let other = memory.other_process(&disk, 7).unwrap();
    store.set(b"a", b"1").unwrap();
    other.delete(b"a").unwrap();
    // A leader writes both, and dies when it has noted that the files have the chunk of the deletion.
    let core = store.core().unwrap();
    let (journal, control) = (core.journal.as_ref().unwrap(), core.words().unwrap().journal());
    let caller = Caller { me: core.me().unwrap(), is_dead: &|_| false };
    journal
        .lead(control, &caller, std::time::Duration::from_secs(1), |reign| {
            let mut batches = journal.begin(control, reign, control.draw_epoch()?);
            core.collect(&mut batches)?;
            batches.seal().map(drop)
        })
        .unwrap();
    let mut noted = 0;
    for seen in core.pool().unflushed(core.object, &mut Known::default()).unwrap() {
        let mut walk = core.pool().walk(seen.chunk, EXTENDED_BYTES, seen.from).unwrap();
        while let Some(found) = walk.next().unwrap() {
            if found.head.is_tombstone() {
                core.mark_flushed(&seen, walk.position()).unwrap();
                noted += 1;
                break;
            }
        }
    }
    assert_eq!(noted, 1);
    store.checkpoint().unwrap();
    assert_eq!(recovered(&disk.power_cut_extreme(true)).unwrap(), BTreeMap::new());
}
