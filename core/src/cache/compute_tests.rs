//! One computes and the others wait: among threads, after a failure, a panic and a death, and when somebody is late.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use super::tests::Bench;
use super::*;

const LONG: Duration = Duration::from_secs(60);
const NOT_AT_ALL: Duration = Duration::ZERO;

fn token(cache: &Cache, key: &[u8]) -> Token {
    match cache.lease(key, NOT_AT_ALL).unwrap() {
        Lease::Compute(token) => token,
        Lease::Found(entry) => panic!("the key is there: {entry:?}"),
    }
}

fn refused(cache: &Cache, key: &[u8]) -> ErrorCode {
    cache.lease(key, NOT_AT_ALL).map(|_| ()).expect_err("somebody computes").code()
}

#[test]
fn of_many_that_ask_one_computes() {
    for bench in Bench::both(4, 100, 0) {
        let computed = AtomicU64::new(0);
        let plain = SetOptions::default();
        for round in 0..50u64 {
            let key = round.to_le_bytes();
            std::thread::scope(|scope| {
                for index in 1..=4u16 {
                    let (cache, computed) = (bench.cache(index), &computed);
                    scope.spawn(move || {
                        let compute = || {
                            computed.fetch_add(1, SeqCst);
                            std::thread::yield_now();
                            Ok(vec![round as u8; 100])
                        };
                        let value = cache.get_or_compute(&key, &plain, LONG, compute).unwrap();
                        assert_eq!(value, vec![round as u8; 100]);
                    });
                }
            });
            assert_eq!(computed.load(SeqCst), round + 1);
        }
        assert_eq!(bench.cache(1).len().unwrap(), 50);
        assert_eq!(bench.problems(false), Vec::<String>::new());
    }
}

#[test]
fn a_lease_is_no_entry_and_whatever_is_put_over_it_ends_it() {
    let bench = Bench::new(2, 64, 0);
    let (one, two) = (bench.cache(1), bench.cache(2));
    let plain = SetOptions::default();
    let endings: [(&str, &dyn Fn()); 5] = [
        ("set", &|| assert!(two.set(b"k", b"theirs").unwrap().0 > 0)),
        ("add", &|| assert!(two.add(b"k", b"theirs", &plain).unwrap().is_some())),
        ("delete", &|| assert!(!two.delete(b"k").unwrap(), "no entry is there")),
        ("count", &|| assert_eq!(two.increment(b"k", 1, Some(7)).unwrap(), Some(7))),
        ("get and set", &|| assert_eq!(two.get_and_set(b"k", b"theirs", &plain).unwrap(), None)),
    ];
    for (name, end) in endings {
        let token = token(&one, b"k");
        assert_eq!(two.get(b"k").unwrap(), None, "{name}");
        assert_eq!((two.len().unwrap(), two.iter().count()), (0, 0), "{name}");
        assert_eq!(two.replace(b"k", b"theirs", &plain).unwrap(), None, "{name}");
        assert_eq!(two.append(b"k", b"theirs").unwrap(), None, "{name}");
        assert!(!two.touch(b"k", None).unwrap(), "{name}");
        assert_eq!(bench.problems(false), Vec::<String>::new(), "{name}");
        end();
        let theirs = two.get(b"k").unwrap();
        assert_eq!(one.fill(token, b"mine", &plain).unwrap(), None, "{name}: the lease is over");
        assert_eq!(two.get(b"k").unwrap(), theirs, "{name}");
        two.delete(b"k").unwrap();
        assert_eq!(two.len().unwrap(), 0, "{name}");
        assert_eq!(bench.problems(false), Vec::<String>::new(), "{name}");
    }
    let version = one.fill(token(&one, b"k"), b"mine", &SetOptions { ttl_ms: Some(9), flags: 4 }).unwrap();
    let entry = two.get_entry(b"k").unwrap().unwrap();
    assert_eq!((Some(entry.version), entry.flags, entry.ttl_ms), (version, 4, Some(9)));
}

#[test]
fn a_failure_a_panic_and_a_dropped_token_let_the_next_one_compute() {
    let bench = Bench::new(2, 64, 0);
    let (one, two) = (bench.cache(1), bench.cache(2));
    let plain = SetOptions::default();
    let failed = one.get_or_compute(b"k", &plain, LONG, || Err(ErrorCode::Io.into()));
    assert_eq!(failed.unwrap_err().code(), ErrorCode::Io);
    let panicked =
        catch_unwind(AssertUnwindSafe(|| one.get_or_compute(b"k", &plain, LONG, || panic!("as asked"))));
    assert!(panicked.is_err());
    drop(token(&one, b"k"));
    one.abandon(token(&one, b"k")).unwrap();
    assert_eq!(two.get_or_compute(b"k", &plain, NOT_AT_ALL, || Ok(b"second".to_vec())).unwrap(), b"second");
    assert_eq!(one.get(b"k").unwrap(), Some(b"second".to_vec()));
}

#[test]
fn a_lease_is_taken_from_a_dead_owner_and_from_nobody_else() {
    for bench in Bench::both(3, 64, 0) {
        let (one, two, three) = (bench.cache(1), bench.cache(2), bench.cache(3));
        let plain = SetOptions::default();
        let lost = token(&one, b"k");
        assert_eq!(refused(&one, b"k"), ErrorCode::Busy, "it would wait for itself");
        assert_eq!(refused(&two, b"k"), ErrorCode::TimedOut);
        let error =
            two.get_or_compute(b"k", &plain, Duration::from_millis(60), || unreachable!()).unwrap_err();
        assert_eq!(error.code(), ErrorCode::TimedOut);
        assert!(error.detail().contains("Thread 1"), "{error}");
        bench.stage.kill(1);
        let taken = token(&two, b"k");
        assert_eq!(refused(&three, b"k"), ErrorCode::TimedOut);
        // The kernel said dead, and yet it comes late: what it knows is another ticket.
        assert_eq!(one.fill(lost, b"late", &plain).unwrap(), None);
        assert_eq!(three.get(b"k").unwrap(), None);
        assert!(two.fill(taken, b"in time", &plain).unwrap().is_some());
        assert_eq!(three.get(b"k").unwrap(), Some(b"in time".to_vec()));
        assert_eq!(bench.problems(true), Vec::<String>::new());
    }
}

#[test]
fn leases_are_as_many_as_keys_and_survive_splits_and_cleaning() {
    for bench in Bench::both(2, 200, 0) {
        let (one, two) = (bench.cache(1), bench.cache(2));
        let tokens: Vec<Token> = (0..200u64).map(|key| token(&one, &key.to_le_bytes())).collect();
        for turn in 0..30_000u64 {
            two.set(&(1000 + turn % 5000).to_le_bytes(), &[turn as u8; 60]).unwrap();
        }
        assert_eq!(bench.problems(false), Vec::<String>::new());
        for token in tokens {
            let key = token.key().to_vec();
            assert_eq!(refused(&two, &key), ErrorCode::TimedOut);
            assert!(one.fill(token, &key, &SetOptions::default()).unwrap().is_some());
            assert_eq!(two.get(&key).unwrap(), Some(key));
        }
        assert_eq!(two.len().unwrap(), 5200);
        assert_eq!(bench.problems(false), Vec::<String>::new());
    }
}

#[test]
fn a_token_of_another_cache_is_refused() {
    let (bench, other) = (Bench::new(1, 40, 0), Bench::new(1, 40, 0));
    let error = other.cache(1).fill(token(&bench.cache(1), b"k"), b"v", &SetOptions::default()).unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidArgument);
    assert_eq!(bench.cache(1).len().unwrap(), 0);
}

#[test]
fn what_is_made_while_the_key_is_invalidated_is_not_stored() {
    let bench = Bench::new(2, 100, 0);
    let (one, two) = (bench.cache(1), bench.cache(2));
    let late = token(&one, b"k");
    assert_eq!(two.invalidate_with(b"k", None, Some(Version(5)), None).unwrap(), CasOutcome::NotFound);
    assert_eq!(refused(&two, b"k"), ErrorCode::TimedOut, "only of that version");
    assert_eq!(two.invalidate(b"k", None).unwrap(), None);
    let next = token(&two, b"k");
    assert_eq!(one.fill(late, b"out of date", &SetOptions::default()).unwrap(), None);
    assert_eq!(two.get(b"k").unwrap(), None);
    assert!(two.fill(next, b"new", &SetOptions::default()).unwrap().is_some());
    assert_eq!(one.get(b"k").unwrap(), Some(b"new".to_vec()));
    assert_eq!(one.len().unwrap(), 1);
    assert_eq!(bench.problems(false), Vec::<String>::new());
}
