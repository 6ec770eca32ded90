use super::record::{HEADER_BYTES, Head};
use super::testing::Stage;
use super::*;
use crate::error::ErrorCode;

const BYTES: u64 = 1 << 14;

#[test]
fn a_chunk_goes_through_its_life_and_comes_back_with_the_next_generation() {
    let (stage, pool) = Stage::pool(2, 16, BYTES);
    let me = stage.actor(1);
    let chunk = pool.allocate(me, Class::Lane, 7, Need::Object).unwrap();
    let state = pool.state(chunk).unwrap();
    assert_eq!((state.kind(), state.owner(), state.generation()), (Some(Kind::Open), 1, 0));
    pool.settle(me, chunk).unwrap();
    assert!(pool.state(chunk).unwrap().is(Kind::Lane));
    pool.release(me, chunk).unwrap();
    let state = pool.state(chunk).unwrap();
    assert_eq!((state.kind(), state.generation()), (Some(Kind::Free), 1));
    assert_eq!(pool.free_count(), 15);
}

#[test]
fn a_run_is_contiguous_and_a_full_pool_says_so_and_keeps_the_reserve() {
    let (stage, pool) = Stage::pool(2, 16, BYTES);
    let me = stage.actor(1);
    let first = pool.allocate_run(me, Class::Control, 1, 5, Need::Growth).unwrap();
    for number in first.0..first.0 + 5 {
        assert_eq!(pool.state(ChunkId(number)).unwrap().owner(), 1);
    }
    assert_eq!(pool.run_span(first, 5).unwrap().len(), 5 * BYTES);
    let mut taken = 5;
    let error = loop {
        match pool.allocate(me, Class::Main, 1, Need::Growth) {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.code(), ErrorCode::Full);
    assert_eq!(taken, 15 - pool.reserve());
    for _ in 2..pool.reserve() {
        pool.allocate(me, Class::Main, 1, Need::Overwrite).unwrap();
    }
    assert_eq!(pool.allocate(me, Class::Main, 1, Need::Overwrite).unwrap_err().code(), ErrorCode::Full);
    // The last two are for moving what is live elsewhere.
    for _ in 0..2 {
        pool.allocate(me, Class::Main, 1, Need::Clean).unwrap();
    }
    assert_eq!(pool.allocate(me, Class::Main, 1, Need::Clean).unwrap_err().code(), ErrorCode::Full);
    assert_eq!(pool.free_count(), 0);
}

#[test]
fn a_pinned_chunk_waits_and_is_freed_after_the_pin() {
    let (stage, pool) = Stage::pool(2, 8, BYTES);
    let (me, other) = (stage.actor(1), stage.actor(2));
    let chunk = pool.allocate(me, Class::Lane, 1, Need::Overwrite).unwrap();
    let guard = Guard::pin(other, chunk).unwrap();
    pool.release(me, chunk).unwrap();
    assert!(pool.state(chunk).unwrap().is(Kind::Quiesce));
    pool.free_quiet().unwrap();
    assert!(pool.state(chunk).unwrap().is(Kind::Quiesce));
    drop(guard);
    pool.free_quiet().unwrap();
    assert!(pool.state(chunk).unwrap().is(Kind::Free));
}

#[test]
fn appended_records_are_walked_in_order_and_dead_bytes_are_counted_for_one_generation() {
    let (stage, pool) = Stage::pool(1, 8, BYTES);
    let me = stage.actor(1);
    pool.next_chunk(me, Class::Main, 3, Need::Growth).unwrap();
    let mut ids = Vec::new();
    for number in 0..10u32 {
        let (key, value) = (number.to_le_bytes(), vec![number as u8; number as usize * 7]);
        let head = Head { key_len: 4, value_len: value.len() as u32, ..Head::default() };
        let bytes = record::record_bytes(HEADER_BYTES, 4, value.len() as u64);
        let place = pool.room(me, Class::Main, 3, bytes).unwrap().unwrap();
        ids.push(pool.append(place, &head, None, &key, &value).unwrap());
    }
    let chunk = ids[0].chunk;
    let mut walk = pool.walk(chunk, HEADER_BYTES, 0).unwrap();
    for appended in &ids {
        let walked = walk.next().unwrap().unwrap();
        assert_eq!(
            (walked.offset, walked.head.id, walked.bytes),
            (appended.offset, appended.id, appended.bytes)
        );
    }
    assert!(walk.next().unwrap().is_none());
    let before = pool.live_bytes(chunk).unwrap();
    pool.give_up(&ids[4]).unwrap();
    assert_eq!(pool.live_bytes(chunk).unwrap(), before - ids[4].bytes);
    pool.add_dead(chunk, 99, 1000).unwrap();
    assert_eq!(
        pool.live_bytes(chunk).unwrap(),
        before - ids[4].bytes,
        "another generation's dead do not count"
    );
    assert!(pool.room(me, Class::Main, 3, BYTES).unwrap().is_none());
    assert!(pool.room(me, Class::Main, 4, 32).unwrap().is_none());
}

#[test]
fn what_a_dead_thread_owned_is_sealed_settled_or_freed() {
    let (stage, pool) = Stage::pool(2, 32, BYTES);
    let (dead, me) = (stage.actor(1), stage.actor(2));
    pool.next_chunk(dead, Class::Main, 3, Need::Growth).unwrap();
    let head = Head { key_len: 4, value_len: 4, ..Head::default() };
    let place = pool.room(dead, Class::Main, 3, 48).unwrap().unwrap();
    let records = pool.append(place, &head, None, b"abcd", b"wxyz").unwrap().chunk;
    let empty = pool.allocate(dead, Class::Main, 3, Need::Growth).unwrap();
    let published = pool.allocate(dead, Class::Control, 4, Need::Growth).unwrap();
    let lost = pool.allocate(dead, Class::Lane, 4, Need::Growth).unwrap();
    let child = pool.allocate(dead, Class::Buckets, 4, Need::Growth).unwrap();
    let living = pool.allocate(me, Class::Lane, 4, Need::Growth).unwrap();
    stage.kill(1);
    for _ in 0..2 {
        inherit(&pool, 1, &|chunk| chunk == published).unwrap();
        let kind = |chunk| pool.state(chunk).unwrap().kind().unwrap();
        assert_eq!(kind(records), Kind::Sealed);
        assert_eq!(kind(empty), Kind::Free);
        assert_eq!(kind(published), Kind::Index);
        assert_eq!(kind(lost), Kind::Free);
        assert_eq!(kind(child), Kind::Free, "no split names it");
        assert_eq!(kind(living), Kind::Open);
    }
    stage.clear(1);
    let mut problems = Vec::new();
    check(&pool, false, &|_| false, &mut |place, what| problems.push(format!("{place}: {what}"))).unwrap();
    assert_eq!(problems, Vec::<String>::new());
}

#[test]
fn check_names_a_state_that_is_none_and_a_record_that_leaves_its_chunk() {
    use crate::shm::atomic::Ordering::Relaxed;
    let (stage, pool) = Stage::pool(1, 8, BYTES);
    let me = stage.actor(1);
    pool.next_chunk(me, Class::Main, 3, Need::Growth).unwrap();
    let place = pool.room(me, Class::Main, 3, 48).unwrap().unwrap();
    let head = Head { key_len: 4, value_len: 4, ..Head::default() };
    let appended = pool.append(place, &head, None, b"abcd", b"wxyz").unwrap();
    pool.shm().block::<24>(appended.offset).unwrap().u64::<8>().store(u64::MAX, Relaxed);
    pool.descriptor(ChunkId(5)).unwrap().u64::<0>().store(0x77, Relaxed);
    let mut problems = Vec::new();
    check(&pool, true, &|_| false, &mut |place, what| problems.push(format!("{place}: {what}"))).unwrap();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].contains("leaves its chunk") && problems[1].contains("chunk 5"), "{problems:?}");
    assert!(pool.descriptor(ChunkId(0)).is_err() && pool.span(ChunkId(8)).is_err());
}

#[test]
fn many_threads_take_and_give_back_without_losing_a_chunk() {
    let (stage, pool) = Stage::pool(4, 40, 1 << 12);
    std::thread::scope(|scope| {
        for index in 1..=4 {
            let (stage, pool) = (&stage, &pool);
            scope.spawn(move || {
                let me = stage.actor(index);
                for round in 0..2000u64 {
                    let count = 1 + (round % 3) as u32;
                    if let Ok(first) = pool.allocate_run(me, Class::Lane, 1, count, Need::Growth) {
                        for number in first.0..first.0 + count {
                            let chunk = ChunkId(number);
                            let word = pool.span(chunk).unwrap().u64(0).unwrap();
                            word.store(
                                index as u64 * 1_000_000 + round,
                                crate::shm::atomic::Ordering::Relaxed,
                            );
                        }
                        for number in first.0..first.0 + count {
                            let word = pool.span(ChunkId(number)).unwrap().u64(0).unwrap();
                            let found = word.load(crate::shm::atomic::Ordering::Relaxed);
                            assert_eq!(found, index as u64 * 1_000_000 + round, "two owners of one chunk");
                        }
                        // The run goes back as one: from then on its chunks may be anybody's.
                        pool.release(me, first).unwrap();
                    }
                }
            });
        }
    });
    pool.recount().unwrap();
    assert_eq!(pool.free_count(), 39);
}

#[test]
fn what_held_buckets_is_kept_for_buckets() {
    let (stage, pool) = Stage::pool(1, 16, BYTES);
    let me = stage.actor(1);
    let take = |class| pool.take(me, class, 1, 1, Need::Clean).unwrap();
    let index = take(Class::Buckets).unwrap();
    pool.settle(me, index).unwrap();
    pool.release(me, index).unwrap();
    let state = pool.state(index).unwrap();
    assert!(state.is(Kind::Free) && !state.is_free());
    assert_eq!(pool.free_count(), 14);
    pool.recount().unwrap();
    assert_eq!(pool.free_count(), 14);
    // A reader may still note in it that an entry was read, however late: nothing else may be there.
    while let Some(chunk) = take(Class::Main) {
        assert_ne!(chunk, index);
    }
    assert_eq!(pool.free_count(), 0);
    assert_eq!(pool.allocate_run(me, Class::Control, 1, 1, Need::Clean).unwrap_err().code(), ErrorCode::Full);
    assert_eq!(take(Class::Buckets), Some(index), "it is the last one");
    pool.settle(me, index).unwrap();
    pool.recount().unwrap();
    assert_eq!(pool.free_count(), 0);
    let mut problems = Vec::new();
    check(&pool, false, &|_| false, &mut |place, what| problems.push(format!("{place}: {what}"))).unwrap();
    assert_eq!(problems, Vec::<String>::new());
}

#[test]
fn who_dies_before_a_chunk_is_described_gives_nothing_back_to_the_account_of_its_last_use() {
    let (stage, pool) = Stage::pool(2, 16, BYTES);
    let (dead, me) = (stage.actor(1), stage.actor(2));
    let head = pool.allocate(me, Class::Control, 7, Need::Object).unwrap();
    pool.begin_account(head, 1).unwrap();
    pool.settle(me, head).unwrap();
    pool.open_account(7, Account { head, limit: 3 });
    let held = || pool.held(head).chunks;
    let used = pool.take(me, Class::Main, 7, 1, Need::Clean).unwrap().unwrap();
    assert_eq!(held(), 2);
    pool.release(me, used).unwrap();
    assert_eq!(held(), 1);
    // Opened for another object, and not described.
    let free = pool.state(used).unwrap();
    let open = layout::State::new(Kind::Open, Class::Main, dead.index, free.generation());
    assert!(pool.transition(pool.descriptor(used).unwrap(), free, open));
    assert_eq!(held(), 1);
    // Whoever counts anew meanwhile takes it for nobody's.
    pool.recount_held(7, head).unwrap();
    assert_eq!(held(), 1);
    stage.kill(1);
    inherit(&pool, 1, &|_| false).unwrap();
    assert!(pool.state(used).unwrap().is(Kind::Free));
    assert_eq!(held(), 1);
}

#[test]
fn a_chunk_that_is_filled_on_is_not_taken_for_one_without_ends_by_who_looked_before() {
    let (stage, pool) = Stage::pool(1, 16, BYTES);
    let me = stage.actor(1);
    pool.next_chunk(me, Class::Main, 3, Need::Growth).unwrap();
    let head = Head { key_len: 4, value_len: 4, expiry: 500, ..Head::default() };
    let place = pool.room(me, Class::Main, 3, 48).unwrap().unwrap();
    let chunk = pool.append(place, &head, None, b"abcd", b"wxyz").unwrap().chunk;
    pool.put_away(me, 3).unwrap();
    let word = pool.descriptor(chunk).unwrap().u64::<{ layout::at::FIRST_END }>();
    let seen = word.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(seen, 500);
    assert!(pool.adopt(me, Class::Main, 3, 48, 0).unwrap());
    let later = Head { expiry: 900, ..head };
    pool.append(pool.room(me, Class::Main, 3, 48).unwrap().unwrap(), &later, None, b"abce", b"wxyz").unwrap();
    // Whoever had seen all records but the last found none that ends later.
    use std::sync::atomic::Ordering::Relaxed;
    assert!(word.compare_exchange(seen, 0, Relaxed, Relaxed).is_err());
    assert!(word.load(Relaxed) != 0);
}
