//! Snapshots of damaged tables, and what a snapshot does that was cancelled while its reader was stopped.

use super::tests::Bench;
use super::*;
use crate::chunk::record;
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
fn states_that_name_each_other_are_an_error() {
    let bench = bench();
    let me = bench.me(1);
    let first = bench.set(me, b"k", b"one").unwrap();
    let view = bench.table.take_view(1).unwrap();
    let [second, third] = [b"two", b"thr"].map(|value| bench.set(me, b"k", value).unwrap().offset);
    assert_eq!(read(&bench, &view, b"k").unwrap().unwrap(), b"one");
    for to in [third, second, first.offset + 8, 8, u64::MAX, 1 << 40] {
        word(&bench, second + record::at::PREV as u64).store(to, Ordering::Relaxed);
        assert_eq!(read(&bench, &view, b"k").unwrap_err().code(), ErrorCode::Corrupt, "{to}");
    }
    bench.table.drop_view(&view).unwrap();
}
