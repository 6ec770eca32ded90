//! A limit of entries is kept whatever comes in whatever way, and what the dead leave of it is found again.

use super::tests::Bench;
use super::*;
use crate::chunk::Guard;

const CHUNK: u64 = 1 << 14;

fn limited(entries: u64, evict: bool) -> Bench {
    let options = TableOptions { cache: true, entries, evict, ..TableOptions::default() };
    Bench::with(2, 128, CHUNK, RecordClass::Cache, &options)
}

fn key(kind: u8, number: u64) -> [u8; 9] {
    let mut key = [kind; 9];
    key[1..].copy_from_slice(&number.to_le_bytes());
    key
}

/// Entries that can be read, of those that may be there.
fn seen(bench: &Bench, kinds: &[u8], many: u64) -> u64 {
    let keys = kinds.iter().flat_map(|kind| (0..many).map(|number| key(*kind, number)));
    keys.filter(|key| bench.get(key).is_some()).count() as u64
}

#[test]
fn values_for_leases_take_places_as_all_do() {
    for evict in [false, true] {
        let bench = limited(10, evict);
        let me = bench.me(1);
        let mut lease = |number| match bench.table.lease(me, &key(b'l', number), &mut |_| Ok(())).unwrap() {
            Asked::Taken(ticket) => ticket,
            other => panic!("{other:?}"),
        };
        let tickets: Vec<u64> = (0..5).map(&mut lease).collect();
        assert_eq!(bench.table.len().unwrap(), 0, "leases are no entries");
        for number in 0..10 {
            bench.set(me, &key(b'k', number), b"value").unwrap();
        }
        let update = Update { value: Value::Bytes(b"value"), expiry: 0, client: 0, marks: 0, id: 0 };
        for (number, ticket) in tickets.into_iter().enumerate() {
            let filled = bench.table.end_lease(me, &key(b'l', number as u64), ticket, End::Fill(update));
            match evict {
                true => assert!(filled.unwrap().changed),
                false => assert_eq!(filled.unwrap_err().code(), ErrorCode::Full),
            }
            assert_eq!((bench.table.len().unwrap(), seen(&bench, b"kl", 10)), (10, 10));
        }
        bench.assert_sound();
    }
}

#[test]
fn values_in_place_of_flushed_ones_take_places_as_all_do() {
    for evict in [false, true] {
        let bench = limited(100, evict);
        let me = bench.me(1);
        let set = |kind, number| bench.set(me, &key(kind, number), b"value");
        let fill = |kind| assert!((0..100).all(|number| set(kind, number).is_ok()));
        fill(b'a');
        bench.table.flush(me).unwrap();
        fill(b'b');
        for number in 0..100 {
            assert_eq!(set(b'a', number).is_ok(), evict);
            assert_eq!((bench.table.len().unwrap(), seen(&bench, b"ab", 100)), (100, 100));
        }
        bench.assert_sound();
    }
}

#[test]
fn places_of_the_dead_are_found_again() {
    for evict in [false, true] {
        let bench = limited(10, evict);
        let me = bench.me(1);
        for _ in 0..10 {
            // Killed before its entry was published.
            bench.table.take_place(bench.me(2)).unwrap();
        }
        bench.table.count_small(7);
        bench.table.close_line(2);
        inherit(&bench.table, true).unwrap();
        for number in 0..10 {
            bench.set(me, &key(b'k', number), b"value").unwrap();
        }
        assert_eq!(seen(&bench, b"k", 10), 10);
        assert_eq!(bench.table.small_entries(), if evict { 10 } else { 0 });
        assert_eq!(bench.set(me, &key(b'k', 10), b"value").is_ok(), evict);
        assert_eq!((bench.table.len().unwrap(), seen(&bench, b"k", 11)), (10, 10));
        bench.assert_sound();
    }
}

#[test]
fn a_place_is_given_back_where_it_was_taken_however_many_flushes_come_between() {
    for flushes in 0..4 {
        let bench = limited(10, false);
        let me = bench.me(1);
        bench.set(me, b"k", b"value").unwrap();
        let place = bench.table.take_place(me).unwrap();
        for _ in 0..flushes {
            bench.table.flush(me).unwrap();
        }
        bench.table.withdraw(me, place);
        let there = u64::from(flushes == 0);
        let sets = [0, 1].map(|set| bench.table.sums_of(set)[1]);
        assert_eq!(sets[bench.table.parity()], there, "{sets:?} after {flushes} flushes");
        assert_eq!(sets[1 - bench.table.parity()], 1 - there, "{sets:?} after {flushes} flushes");
    }
}

#[test]
fn an_error_in_the_middle_gives_back_place_and_record() {
    let bench = limited(3, false);
    let me = bench.me(1);
    bench.set(me, b"k", b"value").unwrap();
    let live = || bench.pool.chunks().map(|chunk| bench.pool.live_bytes(chunk).unwrap()).sum::<u64>();
    let before = live();
    let pins: Vec<_> = (0..crate::chunk::PIN_COUNT).map(|_| Guard::pin(me, ChunkId(1)).unwrap()).collect();
    for _ in 0..10 {
        assert!(bench.set(me, b"another", b"value").is_err(), "no pin is left for the index");
    }
    drop(pins);
    assert_eq!((bench.table.len_now(), live()), (1, before));
    bench.set(me, b"another", b"value").unwrap();
    bench.set(me, b"third", b"value").unwrap();
    bench.assert_sound();
}

/// Remembers what it is told.
#[derive(Default)]
pub(super) struct Heard(pub std::sync::Mutex<Vec<(EventKind, Vec<u8>)>>);

impl Observer for Heard {
    fn tell(&self, kind: EventKind, _version: u64, key: &[u8]) -> u64 {
        self.0.lock().unwrap().push((kind, key.to_vec()));
        0
    }

    fn tell_later(&self, kind: EventKind, version: u64, key: &[u8]) -> u64 {
        self.tell(kind, version, key)
    }
}

#[test]
fn what_expired_is_told_and_counted_whoever_takes_it_out() {
    let options = TableOptions { cache: true, events: true, ..TableOptions::default() };
    let bench = Bench::with(2, 128, CHUNK, RecordClass::Cache, &options);
    let heard = Arc::new(Heard::default());
    bench.table.observe(heard.clone());
    let me = bench.me(1);
    for number in 0..100 {
        // The clock of the bench stands at 1000.
        bench.set_until(me, &key(b'k', number), &[1; 60], if number % 4 == 0 { 0 } else { 500 }).unwrap();
    }
    assert!(!bench.delete(me, &key(b'k', 1)).unwrap(), "it has expired");
    bench.pool.put_away(me, bench.table.object).unwrap();
    let chunks: Vec<ChunkId> =
        bench.pool.chunks().filter(|chunk| bench.table.is_sealed_record_chunk(*chunk).unwrap()).collect();
    for chunk in chunks {
        let seen = bench.pool.state(chunk).unwrap();
        assert!(bench.pool.take_dirty(me, chunk, seen).unwrap());
        assert!(bench.table.clean_records(me, chunk, usize::MAX).unwrap());
    }
    let heard = heard.0.lock().unwrap();
    let expired: std::collections::HashSet<_> =
        heard.iter().filter(|(kind, _)| *kind == EventKind::Expire).map(|(_, key)| key.clone()).collect();
    let wanted = (0..100).filter(|number| number % 4 != 0).map(|number| key(b'k', number).to_vec()).collect();
    assert_eq!(expired, wanted);
    assert_eq!(heard.iter().filter(|(kind, _)| *kind == EventKind::Expire).count(), 75);
    assert_eq!(bench.table.counts().of(Count::Expire), 75);
    assert_eq!(bench.table.len().unwrap(), 25);
    bench.assert_sound();
}

#[test]
fn a_damaged_word_of_the_flush_ends_in_an_error_not_in_a_loop() {
    for entries in [0, 10] {
        let bench = limited(entries, true);
        let me = bench.me(1);
        bench.set(me, b"k", b"value").unwrap();
        let word = bench.table.control().u64::<{ layout::control::FLUSH }>();
        word.store(!1, Ordering::Relaxed);
        for number in 0..3 {
            assert!(bench.set(me, &key(b'k', number), b"value").is_err(), "every chunk is flushed");
        }
        assert_eq!(bench.get(b"k"), None);
        bench.table.flush(me).unwrap();
        bench.set(me, b"k", b"value").unwrap();
        assert_eq!(bench.get(b"k").as_deref(), Some(&b"value"[..]));
    }
}

#[test]
fn the_dead_leave_the_sample_of_reads_to_the_next() {
    let bench = limited(0, true);
    let lock = bench.table.advisor_area().unwrap().u64(0).unwrap();
    lock.store(2, Ordering::Relaxed);
    bench.table.close_line(1);
    assert_eq!(lock.load(Ordering::Relaxed), 2, "it is another one's");
    // Its entry may have a living holder before anybody looks.
    bench.table.close_line(2);
    assert_eq!(lock.load(Ordering::Relaxed), 0);
}

#[test]
fn the_place_of_one_who_lives_and_is_stopped_stays_taken_when_entries_are_counted_anew() {
    for evict in [false, true] {
        let bench = limited(10, evict);
        let me = bench.me(1);
        // Stopped between its place and its slot; meanwhile another one dies, so that entries are counted anew.
        let place = bench.table.take_place(bench.me(2)).unwrap();
        inherit(&bench.table, true).unwrap();
        for number in 0..9 {
            bench.set(me, &key(b'k', number), b"value").unwrap();
        }
        assert_eq!(bench.set(me, &key(b'k', 9), b"value").is_ok(), evict);
        assert_eq!(seen(&bench, b"k", 10), 9, "one of ten places is that of the stopped one");
        bench.table.withdraw(bench.me(2), place);
        bench.set(me, &key(b'k', 10), b"value").unwrap();
        assert_eq!((bench.table.len().unwrap(), seen(&bench, b"k", 11)), (10, 10));
        bench.assert_sound();
    }
}
