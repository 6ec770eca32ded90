//! Every interleaving of transactions with readers, writers, flushes and heirs, on the real functions over a tiny geometry: chunks of
//! three records, index chunks of three home buckets and a stash.
//!
//! Each thread has the table open for itself, as processes have. In models nobody is patient: who meets a transaction that is not
//! decided aborts it at once, as if its thread had been stopped for long.
//!
//! Run with `RUSTFLAGS="--cfg memora_loom" cargo test -p memora --lib --release --target-dir target/loom interleavings`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::stamp::Stamp;
use super::*;
use crate::chunk::Need;
use crate::chunk::testing::Stage;

pub(super) const OBJECT: u32 = 5;
const CHUNK_BYTES: u64 = 256;
const CHUNKS: u32 = 20;

/// Interleavings with so many preemptions, or those that a third of a minute allows.
pub(super) fn model(preemptions: usize, check: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 50_000;
    builder.max_duration = Some(Duration::from_secs(20));
    builder.checkpoint_interval = 50;
    builder.check(check);
}

struct Seat {
    stage: Arc<Stage>,
    index: u16,
}

impl Hands for Seat {
    fn actor(&self) -> Result<Actor<'_>> {
        Ok(self.stage.actor(self.index))
    }
}

/// A thread with a table of its own process.
pub(super) struct Party {
    seat: Arc<Seat>,
    pub(super) table: Table,
}

/// The parties of a store in which both keys have the value 1.
fn parties<const N: usize>() -> [Party; N] {
    parties_of(RecordClass::Store)
}

/// The same, of a store with or without files.
pub(super) fn parties_of<const N: usize>(kind: RecordClass) -> [Party; N] {
    let threads = N as u16;
    let (stage, pool) = Stage::pool(threads, CHUNKS, CHUNK_BYTES);
    let me = stage.actor(1);
    let options = TableOptions::default();
    let count = chunks_needed(&pool, &options);
    let first = pool.allocate_run(me, Class::Control, OBJECT, count, Need::Clean).unwrap();
    stage.touch(pool.geometry(), &[pool.geometry().chunk_offset(ChunkId(first.0 + count - 1))]);
    let run = pool.run_span(first, count).unwrap();
    initialise(&pool, run, kind, 42, &options).unwrap();
    pool.settle(me, first).unwrap();
    for index in 1..=threads {
        pool.next_chunk(stage.actor(index), kind.class(), OBJECT, Need::Clean).unwrap();
    }
    let offset = run.offset();
    let parties = std::array::from_fn(|number| {
        let table = Table::open(pool.clone(), OBJECT, offset, kind, Arc::new(|| 1)).unwrap();
        let seat = Arc::new(Seat { stage: stage.clone(), index: number as u16 + 1 });
        let hands: Arc<dyn Hands> = seat.clone();
        table.set_hands(Arc::downgrade(&hands));
        Party { seat, table }
    });
    // Of the last one: the chunk of the first, who writes in the models, has room for three records.
    let last: &Party = &parties[N - 1];
    last.put(b"x", 1);
    last.put(b"y", 1);
    parties
}

/// What a transaction came to.
pub(super) struct Outcome {
    pub(super) committed: bool,
    saw: Vec<u8>,
}

impl Party {
    pub(super) fn me(&self) -> Actor<'_> {
        self.seat.stage.actor(self.seat.index)
    }

    pub(super) fn put(&self, key: &[u8], value: u8) {
        let bytes = [value; 16];
        let update = Update { value: Value::Bytes(&bytes), expiry: 0, client: 0, marks: 0, id: 0 };
        self.table.update(self.me(), key, |_| Ok(Action::Put(update))).unwrap();
    }

    /// The first byte of a value; 0 for none.
    pub(super) fn get(&self, key: &[u8]) -> u8 {
        let mut found = [0; 16];
        let head = self.table.read(key, |_, value| value.copy_out(0, &mut found)).unwrap();
        if head.is_some() { found[0] } else { 0 }
    }

    fn begin(&self) -> Begun {
        self.table.begin(self.me()).unwrap()
    }

    fn install(&self, begun: &Begun, key: &[u8], value: u8) -> Option<Intent> {
        let bytes = [value; 16];
        let update = Update { value: Value::Bytes(&bytes), expiry: 0, client: 0, marks: 0, id: 0 };
        match self.table.install(self.me(), begun, key, Some(&update)) {
            Ok(intent) => Some(intent.expect("something is put")),
            Err(error) if error.code() == ErrorCode::Conflict => None,
            Err(error) => panic!("{error}"),
        }
    }

    fn sight(&self, key: &[u8]) -> (Sighting, u8) {
        let mut found = [0; 16];
        let (sighting, _) = self.table.sight(key, &mut |_, value| value.copy_out(0, &mut found)).unwrap();
        (sighting, found[0])
    }

    /// As the store commits: what is written may depend on what was read.
    pub(super) fn transact<const R: usize, const W: usize>(
        &self,
        reads: [&[u8]; R],
        writes: impl FnOnce(&[u8]) -> [(&'static [u8], u8); W],
    ) -> Outcome {
        let seen = reads.map(|key| (key, self.sight(key)));
        let saw: Vec<u8> = seen.iter().map(|(_, (_, value))| *value).collect();
        let (begun, mut intents) = (self.begin(), Vec::new());
        let mut whole = true;
        for (key, value) in writes(&saw) {
            match self.install(&begun, key, value) {
                Some(intent) => intents.push(intent),
                None => whole = false,
            }
        }
        let committed = whole
            && self.table.prove(self.me())
            && seen.iter().all(|(key, (sighting, _))| {
                self.table.is_unchanged(self.me(), &begun, key, sighting).unwrap()
            })
            && self.table.decide(self.me());
        self.table.end(self.me(), begun, &intents).unwrap();
        Outcome { committed, saw }
    }

    /// What a flush would write: of both keys the newest value of before its cut.
    fn cut(&self) -> [u8; 2] {
        let (table, mut newest) = (&self.table, BTreeMap::new());
        let cut = table.next_time();
        for seen in table.pool.unflushed(OBJECT, &mut crate::chunk::Known::default()).unwrap() {
            let mut walk = table.pool.walk(seen.chunk, EXTENDED_BYTES, seen.from).unwrap();
            while let Some(found) = walk.next().unwrap() {
                if let Cut::Before(order) = table.cut(self.me(), &found, cut).unwrap() {
                    let byte = |at| {
                        let word = table.pool.shm().block::<8>(found.offset + at).unwrap();
                        word.u64::<0>().load(Ordering::Relaxed) as u8
                    };
                    let (key, value) = (byte(EXTENDED_BYTES), byte(EXTENDED_BYTES + 8));
                    let slot = newest.entry(key).or_insert((order, value));
                    *slot = (*slot).max((order, value));
                }
            }
        }
        [b'x', b'y'].map(|key| newest.get(&key).map_or(0, |(_, value)| *value))
    }

    /// Every state that a slot names is stamped: nothing undecided is left.
    fn assert_settled(&self) {
        self.table
            .each_slot(&mut |word, _| {
                let stamp = self.table.stamp_word(word.offset())?.load(Ordering::Relaxed);
                assert!(matches!(Stamp::of(stamp), Stamp::Since(_)), "{stamp:#x}");
                Ok(())
            })
            .unwrap();
    }
}

/// Somebody sets one key and then another while a flush takes its cut: never the second without the first.
#[test]
fn a_cut_has_with_a_state_what_was_there_before_it() {
    model(3, || {
        let [writer, flusher] = parties();
        let writer = loom::thread::spawn(move || {
            writer.put(b"x", 2);
            writer.put(b"y", 2);
        });
        let [x, y] = flusher.cut();
        assert!((1..=2).contains(&x) && (1..=2).contains(&y), "x {x}, y {y}: a key is missing");
        assert!(x >= y, "x {x}, y {y}: the second without the first");
        writer.join().unwrap();
        assert_eq!(flusher.cut(), [2, 2]);
    });
}

/// The same if the second one is set by another thread, which has read the first.
#[test]
fn a_cut_has_with_a_state_what_its_writer_had_read() {
    model(2, || {
        let [writer, other, flusher] = parties();
        let writer = loom::thread::spawn(move || writer.put(b"x", 2));
        let other = loom::thread::spawn(move || {
            let seen = other.get(b"x");
            other.put(b"y", seen);
        });
        let [x, y] = flusher.cut();
        assert!(x >= y, "x {x}, y {y}: what was read is missing");
        writer.join().unwrap();
        other.join().unwrap();
    });
}

/// A transaction commits while a flush takes its cut: all of it is on one side. The thread that runs first is the one that has to be
/// interrupted most often.
#[test]
fn a_cut_has_all_of_a_transaction_or_nothing() {
    model(2, || {
        let [writer, flusher] = parties();
        let flusher = loom::thread::spawn(move || {
            let [x, y] = flusher.cut();
            assert!(x == y, "x {x}, y {y}: a part of it");
            flusher
        });
        let outcome = writer.transact([], |_| [(b"x", 2), (b"y", 2)]);
        let flusher = flusher.join().unwrap();
        assert!(outcome.committed, "a flush aborts nobody");
        assert_eq!(flusher.cut(), [2, 2]);
        flusher.assert_settled();
    });
}

/// Two transactions of which each reads what the other writes: one of them commits at most.
#[test]
fn of_two_with_write_skew_one_commits() {
    model(2, || {
        let [first, second] = parties();
        let other = loom::thread::spawn(move || {
            second.transact([b"x", b"y"], |saw| [(b"y", if saw[0] == 1 { 2 } else { 1 })])
        });
        let mine = first.transact([b"x", b"y"], |saw| [(b"x", if saw[1] == 1 { 2 } else { 1 })]);
        let other = other.join().unwrap();
        assert!(
            !(mine.committed && other.committed && mine.saw == [1, 1] && other.saw == [1, 1]),
            "each has read what the other has changed"
        );
        let mine_counts = u8::from(mine.committed && mine.saw[1] == 1);
        let other_counts = u8::from(other.committed && other.saw[0] == 1);
        assert_eq!([first.get(b"x"), first.get(b"y")], [1 + mine_counts, 1 + other_counts]);
        first.assert_settled();
    });
}

/// Somebody who has seen one key of a transaction changed sees the other one changed.
#[test]
fn who_sees_a_part_of_a_transaction_sees_all_of_it() {
    model(2, || {
        let [writer, reader] = parties();
        let reader = loom::thread::spawn(move || {
            let (y, x) = (reader.get(b"y"), reader.get(b"x"));
            assert!(x >= y, "x {x} after y {y}");
            (reader, x)
        });
        let outcome = writer.transact([], |_| [(b"x", 2), (b"y", 2)]);
        let (reader, x) = reader.join().unwrap();
        assert!(outcome.committed || x == 1, "seen, and then taken back");
        let now = if outcome.committed { 2 } else { 1 };
        assert_eq!([reader.get(b"x"), reader.get(b"y")], [now; 2]);
        reader.assert_settled();
    });
}

/// Somebody overwrites what a transaction has read, and so comes after it if it commits: then what it wrote is there.
#[test]
fn who_overwrites_what_a_transaction_has_read_comes_after_it() {
    model(2, || {
        let [owner, other] = parties();
        let other = loom::thread::spawn(move || {
            other.put(b"y", 2);
            other.get(b"x")
        });
        let outcome = owner.transact([b"y"], |_| [(b"x", 2)]);
        let x = other.join().unwrap();
        assert!(!outcome.committed || outcome.saw != [1] || x == 2, "it came before, and was not seen");
        assert!(outcome.committed || x == 1, "seen, and then taken back");
        owner.assert_settled();
    });
}

/// A transaction adds one to what it has read while somebody else does the same outside of one: nothing is lost.
#[test]
fn no_update_is_lost_between_a_transaction_and_a_writer() {
    model(2, || {
        let [owner, other] = parties();
        let writer = loom::thread::spawn(move || {
            let mut bytes = [0; 16];
            other
                .table
                .update(other.me(), b"x", |current| {
                    current.expect("it is there").value.copy_out(0, &mut bytes)?;
                    Ok(Action::Put(Update {
                        value: Value::Bytes(if bytes[0] == 1 { &[2; 16] } else { &[3; 16] }),
                        expiry: 0,
                        client: 0,
                        marks: 0,
                        id: 0,
                    }))
                })
                .unwrap();
        });
        let outcome = owner.transact([b"x"], |saw| [(b"x", saw[0] + 1)]);
        writer.join().unwrap();
        assert_eq!(owner.get(b"x"), 2 + u8::from(outcome.committed));
        owner.assert_settled();
    });
}

/// A thread died in the middle of a transaction, at each of its steps; its heir ends it while others read and write.
#[test]
fn an_heir_ends_what_the_dead_left_while_others_meet_it() {
    for (proves, decides) in [(false, false), (true, false), (true, true)] {
        model(2, move || {
            let [heir, reader, dead] = parties();
            let begun = dead.begin();
            for key in [b"x", b"y"] {
                assert!(dead.install(&begun, key, 2).is_some());
            }
            assert!(!proves || dead.table.prove(dead.me()));
            assert!(!decides || dead.table.decide(dead.me()));
            let index = dead.seat.index;
            let reader = loom::thread::spawn(move || {
                let seen = [reader.get(b"y"), reader.get(b"x")];
                reader.put(b"x", 3);
                seen
            });
            heir.table.end_left(heir.me(), index).unwrap();
            assert!(!heir.table.has_left(index).unwrap());
            let value = if decides { 2 } else { 1 };
            assert_eq!(heir.get(b"y"), value);
            assert_eq!(reader.join().unwrap(), [value; 2]);
            assert_eq!(heir.get(b"x"), 3);
            heir.assert_settled();
        });
    }
}
