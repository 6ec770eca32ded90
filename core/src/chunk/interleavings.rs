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
