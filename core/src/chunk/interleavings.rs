//! Every interleaving of pins with the reuse of chunks, on the real functions.
//!
//! Run with `RUSTFLAGS="--cfg memora_loom" cargo test -p memora --lib --release --target-dir target/loom interleavings`.

use std::sync::Arc;

use super::testing::Stage;
use super::*;
use crate::shm::atomic::{AtomicU64, Ordering};

fn model(preemptions: usize, check: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 20_000;
    builder.check(check);
}

/// A shared word that nobody else uses: the last one of descriptor 0.
fn name(pool: &Pool) -> &AtomicU64 {
    pool.shm().block::<128>(pool.geometry().table_offset).unwrap().u64::<120>()
}

/// A chunk of 7s that the word names, in a pool that has no other free one: so it is the next to be used when it is given back.
fn named() -> (Arc<Stage>, Arc<Pool>, ChunkId) {
    let (stage, pool) = Stage::pool(2, 3, 64);
    stage.touch(pool.geometry(), &[]);
    let me = stage.actor(1);
    let chunk = pool.allocate(me, Class::Lane, 1, Need::Clean).unwrap();
    pool.allocate(me, Class::Lane, 1, Need::Clean).unwrap();
    pool.span(chunk).unwrap().u64(0).unwrap().store(7, Ordering::Relaxed);
    pool.settle(me, chunk).unwrap();
    name(&pool).store(chunk.0 as u64, Ordering::Release);
    (stage, pool, chunk)
}

/// Makes the word name nothing, gives the chunk back, takes it for another object if it can be had, and writes into it.
fn reuse(stage: &Stage, pool: &Pool, chunk: ChunkId) {
    let me = stage.actor(1);
    name(pool).compare_exchange(chunk.0 as u64, 0, Ordering::AcqRel, Ordering::Relaxed).unwrap();
    pool.release(me, chunk).unwrap();
    if let Ok(next) = pool.allocate(me, Class::Lane, 2, Need::Clean) {
        assert_eq!(next, chunk);
        pool.span(next).unwrap().u64(0).unwrap().store(8, Ordering::Relaxed);
    }
}

/// One thread pins a chunk that a word names, and looks again; the other makes the word name nothing, gives the chunk back,
/// takes a chunk and writes into it. Who saw the word unchanged after the pin finds the old bytes.
#[test]
fn a_pinned_chunk_is_not_reused() {
    model(3, || {
        let (stage, pool, chunk) = named();
        let reader = {
            let (stage, pool) = (stage.clone(), pool.clone());
            loom::thread::spawn(move || {
                let seen = name(&pool).load(Ordering::Acquire);
                if seen != 0 {
                    let chunk = ChunkId(seen as u32);
                    let guard = Guard::pin(stage.actor(2), chunk).unwrap();
                    if name(&pool).load(Ordering::Acquire) == seen {
                        let found = pool.span(chunk).unwrap().u64(0).unwrap().load(Ordering::Relaxed);
                        assert_eq!(found, 7, "the chunk was reused under a pin");
                    }
                    drop(guard);
                }
            })
        };
        reuse(&stage, &pool, chunk);
        reader.join().unwrap();
        // Nothing is lost: without the pin the chunk can be had, if it was not already.
        pool.free_quiet().unwrap();
        assert!(!pool.state(chunk).unwrap().is(Kind::Quiesce));
    });
}

/// Two views of a process share the pin of a chunk while a third thread makes its name name nothing, gives it back, takes a
/// chunk and writes into it: whoever saw the name unchanged after it held finds the old bytes, for as long as it holds.
#[test]
fn a_chunk_that_views_hold_is_not_reused() {
    model(2, || {
        let (stage, pool, chunk) = named();
        let look = |stage: &Stage, pool: &Pool| {
            let seen = name(pool).load(Ordering::Acquire);
            if seen != 0 && stage.hold(ChunkId(seen as u32)).unwrap() {
                if name(pool).load(Ordering::Acquire) == seen {
                    let found =
                        pool.span(ChunkId(seen as u32)).unwrap().u64(0).unwrap().load(Ordering::Relaxed);
                    assert_eq!(found, 7, "the chunk was reused under a view");
                }
                stage.let_go(ChunkId(seen as u32));
            }
        };
        let viewers: Vec<_> = (0..2)
            .map(|_| {
                let (stage, pool) = (stage.clone(), pool.clone());
                loom::thread::spawn(move || look(&stage, &pool))
            })
            .collect();
        reuse(&stage, &pool, chunk);
        for viewer in viewers {
            viewer.join().unwrap();
        }
        assert_eq!(stage.held(), 0);
        pool.free_quiet().unwrap();
        assert!(!pool.state(chunk).unwrap().is(Kind::Quiesce));
    });
}

/// The last live record of a sealed chunk is given up while another thread fills the chunk on and seals it again: the chunk looks
/// as it did, and must not be freed with the new record in it.
#[test]
fn a_chunk_that_is_filled_on_is_not_freed_for_what_was_dead_before() {
    model(3, || {
        let (stage, pool) = Stage::pool(2, 3, 128);
        stage.touch(pool.geometry(), &[]);
        let me = stage.actor(1);
        let append = |pool: &Pool, me: Actor<'_>| {
            let place = pool.room(me, Class::Main, 1, 32).unwrap().expect("room");
            let head = record::Head { key_len: 1, ..record::Head::default() };
            pool.append(place, &head, None, b"k", b"").unwrap()
        };
        pool.next_chunk(me, Class::Main, 1, Need::Clean).unwrap();
        let old = append(&pool, me);
        pool.put_away(me, 1).unwrap();
        let other = {
            let (stage, pool) = (stage.clone(), pool.clone());
            loom::thread::spawn(move || {
                let me = stage.actor(2);
                if !pool.adopt(me, Class::Main, 1, 32, 0).unwrap() {
                    return None;
                }
                let fresh = append(&pool, me);
                pool.put_away(me, 1).unwrap();
                Some(fresh)
            })
        };
        pool.give_up(&old).unwrap();
        if let Some(fresh) = other.join().unwrap() {
            assert!(
                pool.state(fresh.chunk).unwrap().is(Kind::Sealed),
                "a chunk was freed with what is live in it"
            );
        } else {
            assert!(pool.state(old.chunk).unwrap().is(Kind::Free));
        }
    });
}

/// A chunk of 7s of thread 1, open, by its use, in a pool that has no other free one.
fn open_use() -> (Arc<Stage>, Arc<Pool>, Loose) {
    let (stage, pool) = Stage::pool(2, 3, 64);
    stage.touch(pool.geometry(), &[]);
    let me = stage.actor(1);
    let chunk = pool.allocate(me, Class::Lane, 1, Need::Clean).unwrap();
    pool.allocate(me, Class::Lane, 1, Need::Clean).unwrap();
    pool.span(chunk).unwrap().u64(0).unwrap().store(7, Ordering::Relaxed);
    let generation = pool.state(chunk).unwrap().generation();
    (stage, pool, Loose::from_word(layout::pair(chunk.0, generation)).unwrap())
}

/// What a reader of a parcel copies: None if that use of the chunk has ended.
fn copied(pool: &Pool, of: Loose) -> Option<u64> {
    let span = pool.loose_span(of).unwrap()?;
    let found = span.u64(0).unwrap().load(Ordering::Relaxed);
    crate::shm::atomic::fence(Ordering::Acquire);
    pool.loose_span(of).unwrap().map(|_| found)
}

/// A publisher names a chunk and comes to keep it; a consumer that saw the name is done with it at once, and the chunk goes on to another
/// use. Whoever keeps it late, the publisher or an heir, leaves that use alone.
#[test]
fn a_chunk_that_is_given_back_before_it_was_kept_is_free_once_and_its_next_use_is_left_alone() {
    for dies in [false, true] {
        model(3, move || {
            let (stage, pool, of) = open_use();
            let publisher = {
                let (stage, pool) = (stage.clone(), pool.clone());
                loom::thread::spawn(move || {
                    name(&pool).store(of.word(), Ordering::Release);
                    if dies {
                        stage.kill(1);
                    }
                    pool.keep_loose(1, of).unwrap();
                })
            };
            let mut next = None;
            if let Some(seen) = Loose::from_word(name(&pool).load(Ordering::Acquire)) {
                assert_eq!(copied(&pool, seen), Some(7), "it was published, and nobody gave it back");
                pool.give_back_loose(seen).unwrap();
                next = pool.allocate(stage.actor(2), Class::Lane, 2, Need::Clean).ok();
                assert!(next.is_some(), "it was given back");
            }
            publisher.join().unwrap();
            let chunk = ChunkId(of.word() as u32);
            let state = pool.state(chunk).unwrap();
            match next {
                Some(next) => {
                    assert!(next == chunk && state.is(Kind::Open) && state.owner() == 2, "{state:?}")
                }
                None => assert!(state.is(Kind::Lane), "{state:?}"),
            }
        });
    }
}

/// A reader copies while the chunk is given back by two at once and goes on to another use: it accepts nothing of that.
#[test]
fn a_reader_of_a_chunk_that_is_given_back_never_takes_bytes_of_its_next_use() {
    model(2, || {
        let (stage, pool, of) = open_use();
        pool.keep_loose(1, of).unwrap();
        let reader = {
            let pool = pool.clone();
            loom::thread::spawn(move || {
                if let Some(found) = copied(&pool, of) {
                    assert_eq!(found, 7, "bytes of another use");
                }
                // Late, and not alone.
                pool.give_back_loose(of).unwrap();
            })
        };
        pool.give_back_loose(of).unwrap();
        let next = pool.allocate(stage.actor(1), Class::Lane, 2, Need::Clean).ok();
        if let Some(next) = next {
            pool.span(next).unwrap().u64(0).unwrap().store(8, Ordering::Relaxed);
        }
        reader.join().unwrap();
        let chunk = ChunkId(of.word() as u32);
        match next {
            Some(next) => assert!(next == chunk && pool.state(chunk).unwrap().is(Kind::Open)),
            None => {
                pool.free_quiet().unwrap();
                assert!(pool.state(chunk).unwrap().is_free());
            }
        }
    });
}
