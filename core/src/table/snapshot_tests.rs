//! Snapshots of damaged tables, and what a snapshot does that was cancelled while its reader was stopped.

use std::sync::Weak;

use super::snapshot::Seen;
use super::tests::Bench;
use super::*;
use crate::chunk::{Cleaner, Kind, Relief, record};
use crate::shm::atomic::AtomicU64;

const CHUNK: u64 = 1 << 14;

fn bench() -> Bench {
    Bench::new(1, 64, CHUNK, RecordClass::Memory)
}

fn word(bench: &Bench, offset: u64) -> &AtomicU64 {
    bench.pool.shm().block::<8>(offset).unwrap().u64::<0>()
}

fn stamp_at(offset: u64) -> u64 {
    offset + record::at::STAMP as u64
}

fn read(bench: &Bench, view: &View, key: &[u8]) -> Result<Option<Vec<u8>>> {
    let mut value = Vec::new();
    let copy = |head: &record::Head, span: Span<'_>| {
        value.resize(head.value_len as usize, 0);
        span.copy_out(0, &mut value)
    };
    let found = bench.table.read_in(bench.me(1), view, key, copy)?;
    Ok(found.map(|_| value))
}

#[test]
fn a_snapshot_changes_nothing_that_no_slot_names() {
    let bench = bench();
    let me = bench.me(1);
    bench.set(me, b"k", b"before").unwrap();
    let view = bench.table.take_view(1).unwrap();
    let after = bench.set(me, b"k", b"after").unwrap();
    assert_eq!(read(&bench, &view, b"k").unwrap().unwrap(), b"before");
    // A state that names the middle of somebody's value, which is zeros, as the one before it.
    let other = bench.set(me, b"other", &[0; 200]).unwrap();
    let middle = other.offset + 96;
    word(&bench, after.offset + record::at::PREV as u64).store(middle, Ordering::Relaxed);
    assert_eq!(read(&bench, &view, b"k").unwrap_err().code(), ErrorCode::Corrupt);
    assert_eq!(
        bench.table.scan_in(me, &view, 0, 10, |_, _, _| Ok(())).unwrap_err().code(),
        ErrorCode::Corrupt
    );
    assert_eq!(bench.get(b"other").unwrap(), [0; 200]);
    bench.table.drop_view(&view).unwrap();
    assert_eq!(
        bench.table.scan_in(me, &view, 0, 10, |_, _, _| Ok(())).unwrap_err().code(),
        ErrorCode::SnapshotTooOld,
        "it has ended"
    );
}

#[test]
fn who_wakes_under_a_cancelled_snapshot_stamps_nothing() {
    let bench = bench();
    let me = bench.me(1);
    bench.set(me, b"k", b"before").unwrap();
    let view = bench.table.take_view(1).unwrap();
    let after = bench.set(me, b"k", b"after").unwrap();
    assert!(bench.table.let_all_views_go());
    // What stands there is of a later use of the chunk; the slot that led there is one that a split has frozen.
    word(&bench, stamp_at(after.offset)).store(stamp::PENDING, Ordering::Relaxed);
    assert_eq!(read(&bench, &view, b"k").unwrap_err().code(), ErrorCode::SnapshotTooOld);
    assert_eq!(
        bench.table.scan_in(me, &view, 0, 10, |_, _, _| Ok(())).unwrap_err().code(),
        ErrorCode::SnapshotTooOld
    );
    assert_eq!(word(&bench, stamp_at(after.offset)).load(Ordering::Relaxed), stamp::PENDING);
    bench.table.drop_view(&view).unwrap();
}

#[test]
fn states_that_cannot_follow_each_other_are_an_error() {
    let bench = bench();
    let me = bench.me(1);
    let first = bench.set(me, b"k", b"one").unwrap().offset;
    let other = bench.set(me, b"other", b"of another key").unwrap().offset;
    let view = bench.table.take_view(1).unwrap();
    let [second, third] = [b"two", b"thr"].map(|value| bench.set(me, b"k", value).unwrap().offset);
    assert_eq!(read(&bench, &view, b"k").unwrap().unwrap(), b"one");
    for to in [third, second, first + 8, other, 8, u64::MAX, 1 << 40] {
        word(&bench, second + record::at::PREV as u64).store(to, Ordering::Relaxed);
        assert_eq!(read(&bench, &view, b"k").unwrap_err().code(), ErrorCode::Corrupt, "{to}");
    }
    // The numbers of a key's states grow.
    word(&bench, second + record::at::PREV as u64).store(first, Ordering::Relaxed);
    let number = word(&bench, first + record::at::ORDER as u64);
    let before = number.load(Ordering::Relaxed);
    number.store(before + 1, Ordering::Relaxed);
    assert_eq!(read(&bench, &view, b"k").unwrap_err().code(), ErrorCode::Corrupt);
    number.store(before, Ordering::Relaxed);
    assert_eq!(read(&bench, &view, b"k").unwrap().unwrap(), b"one");
    bench.table.drop_view(&view).unwrap();
}

#[test]
fn what_had_expired_is_not_there_and_what_expires_later_is() {
    let bench = bench();
    bench.set_until(bench.me(1), b"over", b"x", 900).unwrap();
    bench.set_until(bench.me(1), b"now", b"x", 1000).unwrap();
    bench.set_until(bench.me(1), b"later", b"x", 1001).unwrap();
    let view = bench.table.take_view(1).unwrap();
    assert_eq!([b"over" as &[u8], b"now"].map(|key| read(&bench, &view, key).unwrap()), [None, None]);
    assert_eq!(read(&bench, &view, b"later").unwrap().unwrap(), b"x");
    bench.table.drop_view(&view).unwrap();
}

#[test]
fn a_commit_is_on_the_side_of_the_snapshot_on_which_its_decision_is() {
    for before in [true, false] {
        let bench = Bench::new(2, 64, CHUNK, RecordClass::Memory);
        let (table, me) = (&bench.table, bench.me(2));
        bench.set(bench.me(1), b"k", b"old").unwrap();
        let begun = table.begin(me).unwrap();
        let update = Update { value: Value::Bytes(b"new"), expiry: 0, client: 0, marks: 0, id: 0 };
        let intents = [table.install(me, &begun, b"k", Some(&update)).unwrap().unwrap()];
        assert!(table.prove(me));
        if before {
            assert!(table.decide(me));
        }
        // Its states have no stamp yet.
        let view = table.take_view(1).unwrap();
        let seen: &[u8] = if before { b"new" } else { b"old" };
        assert_eq!(read(&bench, &view, b"k").unwrap().unwrap(), seen);
        assert!(before || table.decide(me), "a snapshot aborts nobody");
        assert_eq!(read(&bench, &view, b"k").unwrap().unwrap(), seen, "decided");
        table.end(me, begun, &intents).unwrap();
        assert_eq!(read(&bench, &view, b"k").unwrap().unwrap(), seen, "stamped");
        assert_eq!(bench.get(b"k").unwrap(), b"new");
        table.drop_view(&view).unwrap();
        bench.assert_sound();
    }
}

#[test]
fn who_was_stopped_in_front_of_a_state_looks_at_its_slot_again() {
    let bench = Bench::new(2, 64, CHUNK, RecordClass::Memory);
    let (table, me) = (&bench.table, bench.me(2));
    bench.set(bench.me(1), b"k", b"old").unwrap();
    let view = table.take_view(1).unwrap();
    let begun = table.begin(me).unwrap();
    let update = Update { value: Value::Bytes(b"new"), expiry: 0, client: 0, marks: 0, id: 0 };
    let intents = [table.install(me, &begun, b"k", Some(&update)).unwrap().unwrap()];
    let offset = intents[0].offset();
    table.end(me, begun, &intents).unwrap();
    assert_eq!(bench.get(b"k").unwrap(), b"old", "it was taken back");
    // What names a transaction that is over, and what has no stamp.
    for stamp in [word(&bench, stamp_at(offset)).load(Ordering::Relaxed), stamp::PENDING] {
        word(&bench, stamp_at(offset)).store(stamp, Ordering::Relaxed);
        let seen = table.state_in(bench.me(1), &view, &|| false, offset).unwrap();
        assert!(matches!(seen, Seen::Again));
        assert_eq!(word(&bench, stamp_at(offset)).load(Ordering::Relaxed), stamp);
    }
    table.drop_view(&view).unwrap();
}

#[test]
fn a_key_that_was_moved_to_the_child_of_a_split_is_read_there() {
    let bench = bench();
    let (me, table) = (bench.me(1), &bench.table);
    let keys: Vec<_> = (0..300u64).map(u64::to_le_bytes).collect();
    for key in &keys {
        bench.set(me, key, b"before").unwrap();
    }
    table.begin_split(me, table.hasher.hash(&keys[0])).unwrap();
    let first = &keys[..4];
    for key in first {
        // Its bucket is moved, and a few more.
        let split = table.enter_split(me, table.hasher.hash(key)).unwrap();
        assert!(!split.unwrap().exhausted);
        bench.set(me, key, b"moved and set").unwrap();
    }
    let view = table.take_view(1).unwrap();
    let all_are_there = |when: &str| {
        for key in &keys {
            let value: &[u8] = if first.contains(key) { b"moved and set" } else { b"before" };
            assert_eq!(read(&bench, &view, key).unwrap().unwrap(), value, "{when}");
        }
    };
    all_are_there("during the split");
    for key in &keys {
        bench.set(me, key, b"after").unwrap();
    }
    all_are_there("behind it");
    table.drop_view(&view).unwrap();
    bench.assert_sound();
}

#[test]
fn a_state_that_is_not_settled_is_needed() {
    let bench = bench();
    let offset = bench.set(bench.me(1), b"k", b"v").unwrap().offset;
    let head = record::head_at(bench.pool.shm(), offset).unwrap();
    assert!(!bench.table.is_needed_by_views(offset, &head).unwrap());
    for stamp in [stamp::PENDING, Reference::new(1, 1).0] {
        word(&bench, stamp_at(offset)).store(stamp, Ordering::Relaxed);
        assert!(bench.table.is_needed_by_views(offset, &head).unwrap());
    }
}

/// Knows the one table that there is.
struct Known(Arc<Table>);

impl Relief for Known {
    fn cleaner(&self, _object: u32) -> Result<Option<Arc<dyn Cleaner>>> {
        Ok(Some(self.0.clone() as Arc<dyn Cleaner>))
    }

    fn cleaners(&self) -> Result<Vec<Arc<dyn Cleaner>>> {
        Ok(vec![self.0.clone() as Arc<dyn Cleaner>])
    }

    fn reap(&self) -> bool {
        false
    }
}

/// Snapshots of which each keeps a chunk, or the run of a value of `len` bytes, and those chunks: the oldest first.
fn kept(bench: &Bench, keys: &[&[u8]], len: usize) -> (Arc<dyn Relief>, Vec<(View, ChunkId)>) {
    let relief: Arc<dyn Relief> = Arc::new(Known(bench.table.clone()));
    bench.pool.set_relief(Arc::downgrade(&relief) as Weak<dyn Relief>);
    let me = bench.me(1);
    let set_all =
        |len| keys.iter().map(|key| bench.set(me, key, &vec![1; len]).unwrap().offset).min().unwrap();
    let mut all = Vec::new();
    for _ in 0..3 {
        let chunk = bench.pool.geometry().chunk_of(set_all(len)).unwrap();
        bench.pool.put_away(me, 5).unwrap();
        all.push((bench.table.take_view(1).unwrap(), chunk));
    }
    set_all(5);
    for (view, chunk) in &all {
        assert!(bench.pool.state(*chunk).unwrap().is(Kind::Quiesce), "{chunk:?}");
        assert_eq!(read(bench, view, keys[0]).unwrap().unwrap(), vec![1; len]);
    }
    (relief, all)
}

fn stands(bench: &Bench, all: &[(View, ChunkId)]) -> Vec<bool> {
    all.iter().map(|(view, _)| bench.table.check_view(view).is_ok()).collect()
}

#[test]
fn no_more_snapshots_go_than_have_to() {
    let bench = bench();
    let (_relief, all) = kept(&bench, &[b"a", b"b", b"c"], 4000);
    assert!(bench.table.let_a_view_go().unwrap());
    assert_eq!(stands(&bench, &all), [false, true, true]);
    assert!(bench.pool.state(all[0].1).unwrap().is(Kind::Free));
    let visit = |_: &[u8], _: &record::Head, _: &[u8]| Ok(());
    for (view, stands) in all.iter().map(|(view, _)| view).zip([false, true, true]) {
        let scanned = bench.table.scan_in(bench.me(1), view, 0, 10, visit);
        assert_eq!(scanned.is_err_and(|error| error.code() == ErrorCode::SnapshotTooOld), !stands);
    }
    // Two of 64 are more than 2 percent.
    bench.table.limit_views(0, 2);
    bench.table.bound_views().unwrap();
    assert_eq!(stands(&bench, &all), [false, false, true]);
    assert!(bench.pool.state(all[1].1).unwrap().is(Kind::Free));
    assert!(bench.table.let_a_view_go().unwrap() && !bench.table.let_a_view_go().unwrap());
    all.iter().for_each(|(view, _)| bench.table.drop_view(view).unwrap());
    bench.assert_sound();
}

#[test]
fn all_chunks_of_a_long_value_count() {
    let bench = bench();
    let (_relief, all) = kept(&bench, &[b"a"], 40_000);
    // Three runs of three chunks, of 64.
    bench.table.limit_views(0, 15);
    bench.table.bound_views().unwrap();
    assert_eq!(stands(&bench, &all), [true; 3]);
    bench.table.limit_views(0, 5);
    bench.set(bench.me(1), b"changes", &[1; 9000]).unwrap();
    bench.table.bound_views().unwrap();
    assert_eq!(stands(&bench, &all), [false, false, true]);
    all.iter().for_each(|(view, _)| bench.table.drop_view(view).unwrap());
    bench.assert_sound();
}

#[test]
fn what_only_an_overdue_snapshot_kept_is_free_at_once() {
    let bench = bench();
    let (_relief, all) = kept(&bench, &[b"a", b"b", b"c"], 4000);
    let at = |now_ms| {
        let offset = bench.table.control - OBJECT_HEADER_BYTES;
        Table::open(bench.pool.clone(), 5, offset, RecordClass::Memory, Arc::new(move || now_ms)).unwrap()
    };
    at(1000 + announce::SNAPSHOT_AGE_MS - 1).bound_views().unwrap();
    assert_eq!(stands(&bench, &all), [true; 3]);
    at(1000 + announce::SNAPSHOT_AGE_MS).bound_views().unwrap();
    assert_eq!(stands(&bench, &all), [false; 3]);
    for (view, chunk) in &all {
        assert!(bench.pool.state(*chunk).unwrap().is(Kind::Free));
        bench.table.drop_view(view).unwrap();
    }
}

#[test]
fn of_a_store_that_is_gone_nothing_is_kept() {
    let bench = bench();
    let view = bench.table.take_view(1).unwrap();
    assert!(bench.table.views_keep(u64::MAX).unwrap());
    let first = bench.pool.geometry().chunk_of(bench.table.control).unwrap();
    let object = bench.pool.descriptor(first).unwrap().u32::<{ crate::chunk::layout::at::OBJECT }>();
    let before = object.load(Ordering::Relaxed);
    object.store(before + 1, Ordering::Relaxed);
    assert!(!bench.table.views_keep(u64::MAX).unwrap());
    object.store(before, Ordering::Relaxed);
    bench.table.drop_view(&view).unwrap();
}
