//! Emptying a cache at one moment: what was there is gone, what comes after stays, and its room is used again.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::time::Duration;

use super::tests::Bench;
use super::*;

fn fill(cache: &Cache, round: u64) -> u64 {
    (0..)
        .find(|number| cache.set(&(round << 32 | number).to_le_bytes(), &[round as u8; 100]).is_err())
        .unwrap()
}

#[test]
fn everything_is_gone_at_once_and_what_comes_after_stays() {
    for bench in Bench::both(2, 100, 0) {
        let (one, two) = (bench.cache(1), bench.cache(2));
        for key in 0..500u64 {
            one.set(&key.to_le_bytes(), b"before").unwrap();
            two.set(&(1000 + key).to_le_bytes(), b"before").unwrap();
        }
        let long = vec![7; 100_000];
        one.set(b"long", &long).unwrap();
        let version = two.set(b"kept", b"before").unwrap();
        one.flush().unwrap();
        assert_eq!((one.len().unwrap(), two.iter().count()), (0, 0));
        assert_eq!(two.get(b"kept").unwrap(), None);
        assert_eq!(two.get(b"long").unwrap(), None);
        assert!(two.view(b"kept").unwrap().is_none());
        assert!(!two.touch(b"kept", None).unwrap() && !two.delete(b"kept").unwrap());
        let plain = SetOptions::default();
        assert_eq!(two.replace(b"kept", b"v", &plain).unwrap(), None);
        assert_eq!(two.compare_and_swap(b"kept", b"v", version, &plain).unwrap(), CasOutcome::NotFound);
        let mut found = 0;
        two.get_many(&[b"kept", b"long"], |_, value| found += u64::from(value.is_some())).unwrap();
        assert_eq!(found, 0);
        assert_eq!(bench.problems(false), Vec::<String>::new());
        // Over records that are still linked, and beside them.
        for cache in [&one, &two] {
            for key in 400..600u64 {
                cache.set(&key.to_le_bytes(), b"after").unwrap();
            }
        }
        assert!(two.add(b"kept", b"after", &plain).unwrap().is_some());
        assert_eq!(one.len().unwrap(), 201);
        assert_eq!(one.iter().filter(|entry| entry.as_ref().unwrap().1.value == b"after").count(), 201);
        assert_eq!(bench.problems(false), Vec::<String>::new());
        two.flush().unwrap();
        one.flush().unwrap();
        assert_eq!((one.len().unwrap(), one.get(b"kept").unwrap()), (0, None));
        assert_eq!(bench.problems(false), Vec::<String>::new());
    }
}

#[test]
fn a_full_cache_that_was_flushed_takes_as_much_again() {
    for limit in [0, 300_000] {
        let bench = Bench::new(1, 60, limit);
        let cache = bench.cache(1);
        let first = fill(&cache, 0);
        for round in 1..6 {
            cache.flush().unwrap();
            assert_eq!(cache.len().unwrap(), 0);
            let count = fill(&cache, round);
            assert!(count + first / 10 >= first, "round {round}: {count} after {first} at first");
            assert_eq!(cache.len().unwrap(), count);
            assert_eq!(bench.problems(false), Vec::<String>::new());
        }
    }
}

#[test]
fn long_values_are_given_back_at_once() {
    let bench = Bench::new(1, 100, 0);
    let cache = bench.cache(1);
    for round in 0..20u8 {
        for key in 0..8u8 {
            cache.set(&[key], &vec![round; 100_000]).unwrap();
        }
        cache.flush().unwrap();
        assert_eq!(cache.len().unwrap(), 0);
    }
    assert_eq!(bench.problems(false), Vec::<String>::new());
}

#[test]
fn a_lease_ends_with_a_flush() {
    let bench = Bench::new(2, 64, 0);
    let (one, two) = (bench.cache(1), bench.cache(2));
    let Lease::Compute(token) = one.lease(b"k", Duration::ZERO).unwrap() else { panic!("it is not there") };
    two.flush().unwrap();
    assert_eq!(one.fill(token, b"of before", &SetOptions::default()).unwrap(), None);
    assert_eq!(two.get(b"k").unwrap(), None);
    assert_eq!(bench.problems(false), Vec::<String>::new());
}

#[test]
fn counting_goes_on_from_nothing_while_others_flush() {
    for bench in Bench::both(4, 100, 0) {
        let done = AtomicBool::new(false);
        let flushes = AtomicU64::new(0);
        std::thread::scope(|scope| {
            let (bench, done, flushes) = (&bench, &done, &flushes);
            let flusher = scope.spawn(move || {
                let cache = bench.cache(4);
                while !done.load(Relaxed) {
                    cache.set(b"marker", b"set").unwrap();
                    cache.flush().unwrap();
                    assert_eq!(cache.get(b"marker").unwrap(), None, "it was set before the flush");
                    flushes.fetch_add(1, SeqCst);
                    std::thread::yield_now();
                }
            });
            let workers: Vec<_> = (1..=3u16)
                .map(|index| {
                    scope.spawn(move || {
                        let cache = bench.cache(index);
                        let own = [index as u8];
                        let mut last = 0;
                        for turn in 0..20_000u64 {
                            let before = flushes.load(SeqCst);
                            let counted = cache.increment(&own, 1, Some(1)).unwrap().unwrap();
                            let seen = cache.get(&own).unwrap();
                            // A flush that is counted later may have come in between.
                            let flushed = flushes.load(SeqCst) != before;
                            assert!(counted == last + 1 || counted == 1, "{counted} after {last}");
                            if let Some(seen) = &seen {
                                assert_eq!(seen, counted.to_string().as_bytes());
                            }
                            last = if seen.is_some() && !flushed { counted } else { 0 };
                            if last == 0 {
                                // Whether the number is still there is not known: begin anew.
                                cache.delete(&own).unwrap();
                            }
                            cache.set(&(turn % 300).to_le_bytes(), &[1; 50]).unwrap();
                        }
                    })
                })
                .collect();
            workers.into_iter().for_each(|worker| worker.join().unwrap());
            done.store(true, Relaxed);
            flusher.join().unwrap();
        });
        assert!(flushes.load(SeqCst) > 0);
        let cache = bench.cache(1);
        cache.flush().unwrap();
        assert_eq!(cache.iter().count(), 0);
    }
}

#[test]
fn what_has_expired_is_taken_out_by_those_who_write() {
    let bench = Bench::new(1, 400, 0);
    let cache = bench.cache(1);
    let soon = SetOptions { ttl_ms: Some(100), flags: 0 };
    for key in 0..5000u64 {
        let options = if key % 10 == 0 { SetOptions::default() } else { soon };
        cache.set_with(&key.to_le_bytes(), &[1; 100], &options).unwrap();
    }
    cache.set_with(b"long", &vec![7; 100_000], &soon).unwrap();
    bench.now.fetch_add(100, Relaxed);
    assert!(cache.len().unwrap() > 4000, "nobody runs in the background");
    let mut written = 0u64;
    while cache.len().unwrap() > 500 + written.min(300) + 110 {
        // New keys, or the same ones again: both take new chunks.
        cache.set(&(10_000 + written % 300).to_le_bytes(), &[2; 100]).unwrap();
        written += 1;
        assert!(written < 20_000, "{} entries are left", cache.len().unwrap());
    }
    assert_eq!(cache.iter().count() as u64, 500 + written.min(300));
    assert_eq!(bench.problems(false), Vec::<String>::new());
}
