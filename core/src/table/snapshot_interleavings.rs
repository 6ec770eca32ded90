//! Every interleaving of snapshots with those who write, delete, commit and free chunks, on the real functions; see
//! `transaction_interleavings`.

use std::sync::{Arc, Weak};

use super::transaction_interleavings::{OBJECT, Party, model, parties_of};
use super::*;
use crate::chunk::{Cleaner, Kind, Relief, Wish};
use crate::shm::atomic::fence;

/// Knows the one table that there is.
struct Known(Arc<Table>);

impl Relief for Known {
    fn cleaner(&self, object: u32) -> Result<Option<Arc<dyn Cleaner>>> {
        assert_eq!(object, OBJECT);
        Ok(Some(self.0.clone() as Arc<dyn Cleaner>))
    }

    fn cleaners(&self) -> Result<Vec<Arc<dyn Cleaner>>> {
        Ok(vec![self.0.clone() as Arc<dyn Cleaner>])
    }

    fn reap(&self) -> bool {
        false
    }
}

/// Lets the pool ask the table before it frees a chunk. The records of both keys stand in a chunk that gets no more.
fn known(party: &Party) -> (Arc<Known>, ChunkId) {
    let pool = party.table.pool();
    let table = Table::open(
        pool.clone(),
        OBJECT,
        party.table.control - OBJECT_HEADER_BYTES,
        RecordClass::Memory,
        Arc::new(|| 1),
    );
    let known = Arc::new(Known(Arc::new(table.unwrap())));
    let relief: Arc<dyn Relief> = known.clone();
    pool.set_relief(Arc::downgrade(&relief) as Weak<dyn Relief>);
    let mut first = None;
    let see = &mut |word: slot::Slot, _| {
        first = pool.geometry().chunk_of(word.offset());
        Ok(())
    };
    party.table.each_slot(see).unwrap();
    pool.put_away(party.me(), OBJECT).unwrap();
    (known, first.expect("both keys are there"))
}

impl Party {
    fn view(&self) -> View {
        self.table.take_view(self.me().index).unwrap()
    }

    /// The first byte of a value; 0 for none.
    fn get_in(&self, view: &View, key: &[u8]) -> u8 {
        let mut found = [0; 16];
        let copy = |_: &crate::chunk::record::Head, value: Span<'_>| value.copy_out(0, &mut found);
        let head = self.table.read_in(self.me(), view, key, copy).unwrap();
        if head.is_some() { found[0] } else { 0 }
    }

    fn remove(&self, key: &[u8]) {
        self.table.update(self.me(), key, |_| Ok(Action::Remove)).unwrap();
    }
}

/// What somebody writes into a chunk that was freed.
const OTHERS: u64 = u64::MAX / 7;

/// Who uses a chunk that is free writes over it.
fn reuse(table: &Table, chunk: ChunkId) -> bool {
    overwrite(table, chunk, OTHERS)
}

fn overwrite(table: &Table, chunk: ChunkId, with: u64) -> bool {
    let pool = table.pool();
    if !pool.state(chunk).unwrap().is(Kind::Free) {
        return false;
    }
    // ORDER Release [chunk-reuse]: as in `Pool::describe`.
    fence(Ordering::Release);
    words(table, chunk, |word| word.store(with, Ordering::Relaxed));
    true
}

fn words(table: &Table, chunk: ChunkId, mut visit: impl FnMut(&crate::shm::atomic::AtomicU64)) {
    let pool = table.pool();
    let start = pool.geometry().chunk_offset(chunk);
    for offset in (start..start + pool.geometry().chunk_bytes).step_by(8) {
        visit(pool.shm().block::<8>(offset).unwrap().u64::<0>());
    }
}

/// Both keys are overwritten and their chunk is freed, and used again, while a snapshot is taken and read.
#[test]
fn a_chunk_is_not_freed_under_a_snapshot_that_needs_it() {
    model(2, || {
        let [writer, reader] = parties_of(RecordClass::Memory);
        let (known, chunk) = known(&reader);
        let writer = loom::thread::spawn(move || {
            writer.put(b"x", 2);
            writer.put(b"y", 2);
            reuse(&writer.table, chunk);
            writer
        });
        let view = reader.view();
        let [x, y] = [b"x", b"y"].map(|key| reader.get_in(&view, key));
        assert!([[1, 1], [2, 1], [2, 2]].contains(&[x, y]), "x {x}, y {y}");
        assert_eq!([b"x", b"y"].map(|key| reader.get_in(&view, key)), [x, y], "once more");
        let writer = writer.join().unwrap();
        assert_eq!([b"x", b"y"].map(|key| reader.get_in(&view, key)), [x, y], "afterwards");
        reader.table.drop_view(&view).unwrap();
        writer.table.pool().free_quiet().unwrap();
        assert!(writer.table.pool().state(chunk).unwrap().is(Kind::Free), "nothing is kept any more");
        drop(known);
    });
}

/// A transaction commits while a snapshot is taken and read: all of it is seen, or nothing.
#[test]
fn a_snapshot_has_all_of_a_transaction_or_nothing() {
    model(2, || {
        let [writer, reader] = parties_of(RecordClass::Store);
        let reader = loom::thread::spawn(move || {
            let view = reader.view();
            let [x, y] = [b"x", b"y"].map(|key| reader.get_in(&view, key));
            assert!(x == y, "x {x}, y {y}: a part of it");
            (reader, view, x)
        });
        let outcome = writer.transact([], |_| [(b"x", 2), (b"y", 2)]);
        let (reader, view, seen) = reader.join().unwrap();
        assert!(outcome.committed, "a snapshot aborts nobody");
        assert_eq!([b"y", b"x"].map(|key| reader.get_in(&view, key)), [seen; 2], "once more");
        assert_eq!([reader.get(b"x"), reader.get(b"y")], [2, 2]);
    });
}

/// Somebody deletes a key and makes it again: a snapshot sees one state of it, and the same for ever.
#[test]
fn a_deletion_stays_as_long_as_a_snapshot_may_see_what_it_replaced() {
    model(2, || {
        let [writer, reader] = parties_of(RecordClass::Memory);
        let writer = loom::thread::spawn(move || {
            writer.remove(b"x");
            writer.put(b"x", 3);
        });
        let view = reader.view();
        let seen = reader.get_in(&view, b"x");
        assert!([1, 0, 3].contains(&seen), "{seen}");
        writer.join().unwrap();
        assert_eq!(reader.get_in(&view, b"x"), seen, "afterwards");
        assert_eq!(reader.get(b"x"), 3);
    });
}

/// A snapshot is cancelled because the room is needed: what it read before is right, and what it reads afterwards is refused.
#[test]
fn a_cancelled_snapshot_reads_what_was_there_or_is_refused() {
    for with in [OTHERS, 0] {
        a_snapshot_is_cancelled(with);
    }
}

/// Who uses the chunk next fills it with one word.
fn a_snapshot_is_cancelled(with: u64) {
    model(2, move || {
        let [writer, reader] = parties_of(RecordClass::Memory);
        let (known, chunk) = known(&reader);
        let view = reader.view();
        let writer = loom::thread::spawn(move || {
            writer.put(b"x", 2);
            writer.put(b"y", 2);
            assert!(writer.table.let_a_snapshot_go().unwrap(), "the chunk is kept");
            assert!(overwrite(&writer.table, chunk, with));
        });
        let mut found = [0; 16];
        let copy = |_: &crate::chunk::record::Head, value: Span<'_>| value.copy_out(0, &mut found);
        match reader.table.read_in(reader.me(), &view, b"x", copy) {
            Ok(head) => assert!(head.is_some() && found[0] == 1, "{head:?} {found:?}"),
            Err(error) => assert_eq!(error.code(), ErrorCode::SnapshotTooOld, "{error}"),
        }
        writer.join().unwrap();
        assert_eq!(reader.table.check_view(&view).unwrap_err().code(), ErrorCode::SnapshotTooOld);
        // Who came late has changed nothing of it.
        words(&reader.table, chunk, |word| assert_eq!(word.load(Ordering::Relaxed), with));
        drop(known);
    });
}

/// One key is overwritten while its chunk is cleaned, freed and used again, before a snapshot is taken: what was replaced is not needed
/// then, because whoever frees it has given the new state its stamp.
#[test]
fn what_a_state_without_a_stamp_has_replaced_is_not_freed() {
    model(2, || {
        let [writer, cleaner] = parties_of(RecordClass::Memory);
        let (known, chunk) = known(&cleaner);
        let writer = loom::thread::spawn(move || writer.put(b"x", 2));
        let (table, me) = (&cleaner.table, cleaner.me());
        let wish = Wish { own: Some(OBJECT), own_gain: 0, other_gain: 0, press: false };
        let taken = table.pool().victim(me, &wish).unwrap();
        assert_eq!(taken, Some((chunk, OBJECT)));
        assert!(table.clean_records(me, chunk, usize::MAX).unwrap());
        assert!(reuse(table, chunk), "nobody needs it");
        let view = cleaner.view();
        let [x, y] = [b"x", b"y"].map(|key| cleaner.get_in(&view, key));
        assert!((1..=2).contains(&x) && y == 1, "x {x}, y {y}");
        writer.join().unwrap();
        assert_eq!([b"x", b"y"].map(|key| cleaner.get_in(&view, key)), [x, y], "afterwards");
        drop(known);
    });
}
