//! Views on a stage: the bytes of a view stay, whatever becomes of its entry, and nobody waits for it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use super::tests::Bench;
use super::*;

/// Bytes that a mixture of two values does not have.
fn filling(key: usize, round: u64, len: usize) -> Vec<u8> {
    let seed =
        (key as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ round.wrapping_mul(0xd6e8_feb8_6659_fd93);
    seed.to_le_bytes().into_iter().cycle().take(len).collect()
}

fn assert_whole(bytes: &[u8]) {
    let head = &bytes[..8.min(bytes.len())];
    assert!(bytes.chunks(8).all(|part| part == &head[..part.len()]), "torn or foreign");
}

#[test]
fn a_view_keeps_its_bytes_while_the_entry_is_overwritten_deleted_and_cleaned_away() {
    for bench in Bench::both(2, 40, 0) {
        let cache = bench.cache(1);
        cache.set_with(b"key", &filling(1, 1, 3000), &SetOptions { ttl_ms: Some(500), flags: 7 }).unwrap();
        let version = cache.get_entry(b"key").unwrap().unwrap().version;
        let view = cache.view(b"key").unwrap().unwrap();
        assert!(!view.is_copy() && view.len() == 3000 && !view.is_empty());
        assert_eq!((view.version(), view.flags(), view.ttl_ms()), (version, 7, Some(500)));
        let other = bench.cache(1);
        // All chunks are used many times over.
        for round in 2..2000 {
            other.set(b"key", &filling(1, round, 3000)).unwrap();
            if round % 3 == 0 {
                assert!(other.delete(b"key").unwrap());
            }
        }
        assert_eq!(view.to_vec().unwrap(), filling(1, 1, 3000));
        assert_eq!(bench.stage.held(), 1);
        assert_eq!(view.copy_to(&mut [0; 2999]).unwrap_err().code(), ErrorCode::BufferTooSmall);
        drop(view);
        assert_eq!(bench.stage.held(), 0);
        assert_eq!(bench.problems(false), Vec::<String>::new());
    }
}

#[test]
fn what_is_not_there_or_expired_has_no_view_and_nothing_stays_held() {
    let bench = Bench::new(2, 40, 0);
    let cache = bench.cache(1);
    assert!(cache.view(b"key").unwrap().is_none());
    cache.set_with(b"key", b"value", &SetOptions { ttl_ms: Some(5), flags: 0 }).unwrap();
    bench.now.fetch_add(6, Relaxed);
    assert!(cache.view(b"key").unwrap().is_none());
    cache.set(b"empty", b"").unwrap();
    let view = cache.view(b"empty").unwrap().unwrap();
    assert!(view.is_empty() && view.is_copy() && view.to_vec().unwrap().is_empty());
    assert_eq!(bench.stage.held(), 0);
}

#[test]
fn beyond_the_pins_views_hold_copies_and_pins_that_are_let_go_serve_again() {
    let bench = Bench::new(2, 40, 0);
    let cache = bench.cache(1);
    // One entry in each chunk.
    let keys: Vec<String> = (0..12).map(|number| format!("key {number}")).collect();
    for (number, key) in keys.iter().enumerate() {
        cache.set(key.as_bytes(), &filling(number, 0, 12_000)).unwrap();
    }
    let look = |key: &String| cache.view(key.as_bytes()).unwrap().unwrap();
    let mut views: Vec<View> = keys.iter().map(look).collect();
    assert_eq!(
        views.iter().map(|view| view.is_copy()).collect::<Vec<_>>(),
        [[false; 8].as_slice(), &[true; 4]].concat()
    );
    for (number, view) in views.iter().enumerate() {
        assert_eq!(view.to_vec().unwrap(), filling(number, 0, 12_000));
    }
    // Views of a chunk that is held already need no other pin.
    let again: Vec<View> = keys[..8].iter().map(look).collect();
    assert!(again.iter().all(|view| !view.is_copy()));
    assert_eq!(bench.stage.held(), 8);
    drop(again);
    assert_eq!(bench.stage.held(), 8);
    views.drain(..3);
    assert_eq!(bench.stage.held(), 5);
    assert!(!look(&keys[11]).is_copy());
    drop(views);
    assert_eq!(bench.stage.held(), 0);
}

#[test]
fn threads_share_views_while_writers_use_every_chunk_again() {
    for bench in Bench::both(4, 24, 0) {
        let rounds = 3000 * crate::cache::tests::torture();
        let (done, looked) = (AtomicBool::new(false), AtomicU64::new(0));
        let (sender, receiver) = std::sync::mpsc::channel::<View>();
        std::thread::scope(|scope| {
            for writer in 1..=2 {
                let (cache, done) = (bench.cache(writer), &done);
                scope.spawn(move || {
                    for round in 0..rounds {
                        let key = round as usize % 7;
                        cache.set(&[key as u8 + 1], &filling(key, round, 500 + key * 300)).unwrap();
                    }
                    done.store(true, Relaxed);
                });
            }
            let (viewer, looked, done) = (bench.cache(3), &looked, &done);
            scope.spawn(move || {
                let mut kept = std::collections::VecDeque::new();
                let mut number = 0u8;
                while !done.load(Relaxed) {
                    number = number % 7 + 1;
                    if let Some(view) = viewer.view(&[number]).unwrap() {
                        assert_whole(&view.to_vec().unwrap());
                        looked.fetch_add(1, Relaxed);
                        kept.push_back((view.to_vec().unwrap(), view));
                    }
                    if kept.len() > 20 {
                        let (copy, view) = kept.pop_front().unwrap();
                        assert_eq!(copy, view.to_vec().unwrap(), "a view changed");
                        // The rest of its life is on another thread.
                        sender.send(view).unwrap();
                    }
                }
            });
            scope.spawn(move || {
                for view in receiver {
                    assert_whole(&view.to_vec().unwrap());
                }
            });
        });
        assert!(looked.load(Relaxed) > 0);
        assert_eq!(bench.stage.held(), 0);
        bench.pool.free_quiet().unwrap();
        assert_eq!(bench.problems(false), Vec::<String>::new());
    }
}
