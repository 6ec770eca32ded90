//! Stale entries, who makes them anew, and what memcached's meta commands can ask for.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::time::Duration;

use super::tests::Bench;
use super::*;
use crate::table::{Action, Id, Revision};

fn flags(entry: Option<MetaEntry>) -> Option<(bool, bool, bool)> {
    entry.map(|entry| (entry.stale, entry.won, entry.taken))
}

const PLAIN: Option<(bool, bool, bool)> = Some((false, false, false));

#[test]
fn a_stale_entry_is_shown_to_all_and_made_anew_by_the_first() {
    let bench = Bench::new(2, 40, 0);
    let (one, two) = (bench.cache(1), bench.cache(2));
    let old = one.set_with(b"k", b"old", &SetOptions { ttl_ms: Some(1000), flags: 9 }).unwrap();
    assert_eq!(flags(one.get_meta(b"k", None).unwrap()), PLAIN);
    assert_eq!(one.invalidate(b"missing", None).unwrap(), None);
    let stale = one.invalidate(b"k", Some(100)).unwrap().unwrap();
    assert_ne!(stale, old);
    // What was computed from the old one comes too late.
    let plain = SetOptions::default();
    assert_eq!(two.compare_and_swap(b"k", b"late", old, &plain).unwrap(), CasOutcome::Stale(stale));
    let first = one.get_meta(b"k", None).unwrap().unwrap();
    assert_eq!((first.stale, first.won, first.taken), (true, true, false));
    let Entry { value, version, flags: client, ttl_ms } = first.entry;
    assert_eq!((value, version, client, ttl_ms), (b"old".to_vec(), stale, 9, Some(100)));
    assert_eq!(flags(two.get_meta(b"k", None).unwrap()), Some((true, false, true)));
    assert_eq!(two.get(b"k").unwrap(), Some(b"old".to_vec()), "plain reads show it");
    let CasOutcome::Stored(_) = one.compare_and_swap(b"k", b"new", stale, &plain).unwrap() else {
        panic!("the winner's version is right")
    };
    assert_eq!(flags(two.get_meta(b"k", None).unwrap()), PLAIN);
    // A value that is not shown any more is not shown as stale either.
    two.invalidate(b"k", Some(50)).unwrap().unwrap();
    bench.now.fetch_add(50, Relaxed);
    assert_eq!(two.get_meta(b"k", None).unwrap(), None);
    assert_eq!(bench.problems(false), Vec::<String>::new());
}

#[test]
fn an_entry_that_ends_soon_is_made_anew_by_one() {
    let bench = Bench::new(2, 40, 0);
    let (one, two) = (bench.cache(1), bench.cache(2));
    one.set_with(b"k", b"v", &SetOptions { ttl_ms: Some(1000), flags: 0 }).unwrap();
    assert_eq!(flags(one.get_meta(b"k", Some(900)).unwrap()), PLAIN);
    bench.now.fetch_add(200, Relaxed);
    assert_eq!(flags(two.get_meta(b"k", Some(900)).unwrap()), Some((false, true, false)));
    assert_eq!(flags(one.get_meta(b"k", Some(900)).unwrap()), Some((false, false, true)));
    one.set(b"forever", b"v").unwrap();
    assert_eq!(flags(one.get_meta(b"forever", Some(u64::MAX)).unwrap()), PLAIN);
}

#[test]
fn of_many_that_see_it_stale_exactly_one_wins() {
    for bench in Bench::both(4, 64, 0) {
        let cache = bench.cache(1);
        let (wins, stales) = (AtomicU64::new(0), AtomicU64::new(0));
        let rounds = 300u64;
        for round in 0..rounds {
            cache.set(b"k", &round.to_le_bytes()).unwrap();
            cache.invalidate(b"k", None).unwrap().unwrap();
            std::thread::scope(|scope| {
                for index in 1..=4u16 {
                    let (cache, wins, stales) = (bench.cache(index), &wins, &stales);
                    scope.spawn(move || {
                        let seen = cache.get_meta(b"k", None).unwrap().unwrap();
                        assert!(seen.stale && seen.won != seen.taken);
                        wins.fetch_add(u64::from(seen.won), SeqCst);
                        stales.fetch_add(1, SeqCst);
                    });
                }
            });
        }
        assert_eq!((wins.load(SeqCst), stales.load(SeqCst)), (rounds, 4 * rounds));
        assert_eq!(bench.problems(false), Vec::<String>::new());
    }
}

#[test]
fn a_stale_entry_is_computed_by_one_and_shown_to_the_others_meanwhile() {
    let bench = Bench::new(3, 64, 0);
    let (one, two) = (bench.cache(1), bench.cache(2));
    let plain = SetOptions::default();
    one.set(b"k", b"old").unwrap();
    one.invalidate(b"k", None).unwrap().unwrap();
    let get = |cache: &Cache, value: &'static [u8]| {
        cache.get_or_compute(b"k", &plain, Duration::ZERO, || Ok(value.to_vec())).unwrap()
    };
    let nested = |cache: &Cache| {
        cache.get_or_compute(b"k", &plain, Duration::ZERO, || {
            assert_eq!(get(&two, b"not asked"), b"old");
            Err(ErrorCode::Io.into())
        })
    };
    assert_eq!(nested(&one).unwrap_err().code(), ErrorCode::Io);
    assert_eq!(get(&two, b"new"), b"new", "the first gave it up");
    assert_eq!(get(&one, b"not asked"), b"new");
}

#[test]
fn a_missing_entry_is_vivified_for_one() {
    let bench = Bench::new(2, 40, 0);
    let cache = bench.cache(1);
    let how = MetaGet { vivify_ms: Some(30), version: Some(Version(77)), ..MetaGet::default() };
    let first = cache.get_meta_with(b"k", &how).unwrap().unwrap();
    assert_eq!((first.won, first.taken, first.entry.value.len()), (true, false, 0));
    assert_eq!((first.entry.version, first.entry.ttl_ms), (Version(77), Some(30)));
    assert_eq!(flags(bench.cache(2).get_meta_with(b"k", &how).unwrap()), Some((false, false, true)));
    let set = MetaSet { expected: Some(Version(77)), ..MetaSet::default() };
    assert!(matches!(cache.set_meta(b"k", b"v", &set).unwrap(), SetOutcome::Stored(_)));
    assert_eq!(flags(cache.get_meta_with(b"k", &how).unwrap()), PLAIN);
    let touched = cache.get_meta_with(b"k", &MetaGet { ttl: Ttl::Ms(40), ..MetaGet::default() }).unwrap();
    assert_eq!(touched.unwrap().entry.ttl_ms, Some(40));
    cache.get_meta_with(b"k", &MetaGet { ttl: Ttl::Forever, ..MetaGet::default() }).unwrap();
    assert_eq!(cache.get_entry(b"k").unwrap().unwrap().ttl_ms, None);
    let zero = MetaGet { version: Some(Version(0)), ..how };
    assert_eq!(cache.get_meta_with(b"k", &zero).unwrap_err().code(), ErrorCode::InvalidArgument);
}

#[test]
fn modes_and_versions_of_a_set() {
    let bench = Bench::new(1, 40, 0);
    let cache = bench.cache(1);
    let mode = |mode| MetaSet { mode, ..MetaSet::default() };
    use SetOutcome::{NotFound, NotStored, Stale, Stored};
    for refused in [SetMode::Replace, SetMode::Append, SetMode::Prepend] {
        assert_eq!(cache.set_meta(b"k", b"v", &mode(refused)).unwrap(), NotStored);
    }
    let expecting = MetaSet { expected: Some(Version(5)), ..MetaSet::default() };
    assert_eq!(cache.set_meta(b"k", b"v", &expecting).unwrap(), NotFound);
    let given = |version| MetaSet { version: Some(Version(version)), ..MetaSet::default() };
    assert_eq!(cache.set_meta(b"k", b"v", &given(500)).unwrap(), Stored(Version(500)));
    assert_eq!(cache.set_meta(b"k", b"v", &mode(SetMode::Add)).unwrap(), NotStored);
    assert_eq!(cache.set_meta(b"k", b"w", &expecting).unwrap(), Stale(Version(500)));
    let joined = MetaSet { mode: SetMode::Append, expected: Some(Version(500)), ..given(501) };
    assert_eq!(cache.set_meta(b"k", b"w", &joined).unwrap(), Stored(Version(501)));
    assert_eq!(cache.get(b"k").unwrap(), Some(b"vw".to_vec()));
    // A value that is known to be older than the entry: better than none, but to be made anew.
    let outcome = cache.set_meta(b"k", b"older", &MetaSet { invalidate: true, ..expecting }).unwrap();
    assert!(matches!(outcome, Stored(_)));
    let seen = cache.get_meta(b"k", None).unwrap().unwrap();
    assert!(seen.stale && seen.won && seen.entry.value == b"older");
    let vivified = MetaSet { mode: SetMode::Append, vivify_ms: Some(10), ..MetaSet::default() };
    assert!(matches!(cache.set_meta(b"new", b"v", &vivified).unwrap(), Stored(_)));
    assert_eq!(cache.get_entry(b"new").unwrap().unwrap().ttl_ms, Some(10));
    assert_eq!(bench.problems(false), Vec::<String>::new());
}

#[test]
fn entries_with_a_given_version_are_moved_flushed_and_counted_as_others() {
    let bench = Bench::new(1, 64, 0);
    let cache = bench.cache(1);
    let given = |version| MetaSet { version: Some(Version(version)), ..MetaSet::default() };
    for round in 0..4u64 {
        for key in 0..200u64 {
            let version = if key % 2 == 0 { 1 + key } else { u64::MAX - key };
            let outcome = cache.set_meta(&key.to_le_bytes(), &[round as u8; 90], &given(version)).unwrap();
            assert_eq!(outcome, SetOutcome::Stored(Version(version)));
        }
        // Enough garbage that all of them are moved.
        for turn in 0..20_000u64 {
            cache.set(&(1000 + turn % 50).to_le_bytes(), &[turn as u8; 90]).unwrap();
        }
        assert_eq!(cache.len().unwrap(), 250);
        for key in 0..200u64 {
            let version = if key % 2 == 0 { 1 + key } else { u64::MAX - key };
            let entry = cache.get_entry(&key.to_le_bytes()).unwrap().unwrap();
            assert_eq!((entry.version, entry.value), (Version(version), vec![round as u8; 90]));
        }
        assert_eq!(bench.problems(false), Vec::<String>::new());
        cache.flush().unwrap();
        assert_eq!((cache.len().unwrap(), cache.iter().count()), (0, 0));
        assert_eq!(bench.problems(false), Vec::<String>::new());
    }
}

/// What was won stays with the winner as long as he lives, whoever moves or changes the entry, and no longer.
#[test]
fn when_the_winner_dies_the_next_who_asks_wins() {
    let bench = Bench::new(3, 64, 0);
    let (one, two, three) = (bench.cache(1), bench.cache(2), bench.cache(3));
    let plain = SetOptions::default();
    // Lengths at the borders of words, and a value that has a run of chunks of its own.
    for len in [0, 1, 7, 8, 9, 100, 50_000] {
        let value = vec![7; len];
        one.set(b"k", &value).unwrap();
        one.invalidate(b"k", None).unwrap().unwrap();
        assert_eq!(flags(two.get_meta(b"k", None).unwrap()), Some((true, true, false)));
        // Others write to it: it is still two's.
        assert!(one.touch(b"k", Some(5000)).unwrap());
        one.append(b"k", b"x").unwrap().unwrap();
        assert_eq!(flags(three.get_meta(b"k", None).unwrap()), Some((true, false, true)), "{len}");
        let longer = [&value[..], b"x"].concat();
        let never = || -> Result<Vec<u8>> { panic!("two computes") };
        assert_eq!(three.get_or_compute(b"k", &plain, Duration::ZERO, never).unwrap(), longer);
        let by_meta = len % 2 == 0;
        bench.stage.kill(2);
        assert!(one.touch(b"k", Some(6000)).unwrap(), "who touches it wins nothing");
        if by_meta {
            assert_eq!(flags(three.get_meta(b"k", None).unwrap()), Some((true, true, false)), "{len}");
            assert_eq!(flags(one.get_meta(b"k", None).unwrap()), Some((true, false, true)));
            three.set(b"k", b"anew").unwrap();
        } else {
            let made = three.get_or_compute(b"k", &plain, Duration::ZERO, || Ok(b"anew".to_vec()));
            assert_eq!(made.unwrap(), b"anew");
        }
        assert_eq!(one.get(b"k").unwrap(), Some(b"anew".to_vec()));
        bench.stage.clear(2);
        assert!(one.delete(b"k").unwrap());
    }
    // The same for one who made an entry to be filled, and for one that ends soon.
    let vivify = MetaGet { vivify_ms: Some(5000), recache_below_ms: Some(9000), ..MetaGet::default() };
    assert_eq!(flags(two.get_meta_with(b"v", &vivify).unwrap()), Some((false, true, false)));
    assert_eq!(flags(one.get_meta_with(b"v", &vivify).unwrap()), Some((false, false, true)));
    bench.stage.kill(2);
    assert_eq!(flags(one.get_meta_with(b"v", &vivify).unwrap()), Some((false, true, false)));
    // Nobody reaps here.
    let left = bench.problems(false).into_iter().filter(|problem| !problem.contains("Open Main of thread 2"));
    assert_eq!(left.collect::<Vec<_>>(), Vec::<String>::new());
}

/// A winner's record is eight bytes longer than others: also where the value is as long as can be.
#[test]
fn the_longest_value_can_be_won() {
    let bench = Bench::new(2, 64, 0);
    let (one, two) = (bench.cache(1), bench.cache(2));
    for less in 0..17 {
        let value = vec![9; one.table.value_len_max(1) as usize / 3 - less];
        one.set(b"k", &value).unwrap();
        one.invalidate(b"k", None).unwrap().unwrap();
        assert_eq!(flags(two.get_meta(b"k", None).unwrap()), Some((true, true, false)));
        assert_eq!(one.get(b"k").unwrap(), Some(value));
        assert_eq!(bench.problems(false), Vec::<String>::new());
    }
}

/// A change that was decided from an entry takes no effect once the entry has expired: nobody may see it again.
#[test]
fn an_entry_that_expires_during_a_change_does_not_come_back() {
    let bench = Bench::new(2, 64, 0);
    let (cache, key) = (bench.cache(1), b"k");
    let me = cache.host.actor().unwrap();
    let action = |revise: bool| match revise {
        true => Action::Revise(Revision { expiry: 0, marks: 0, id: Id::Keep, win: false }),
        false => Action::Remove,
    };
    for revise in [true, false] {
        cache.set_with(key, b"v", &SetOptions { ttl_ms: Some(100), flags: 0 }).unwrap();
        let mut seen = Vec::new();
        let changed = bench
            .table
            .update(me, key, |current| {
                seen.push(current.is_some());
                // The caller is stopped here.
                bench.now.fetch_add(100, Relaxed);
                Ok(if current.is_some() { action(revise) } else { Action::Keep })
            })
            .unwrap();
        assert_eq!((seen, changed.changed), (vec![true, false], false));
        assert_eq!(cache.get(key).unwrap(), None);
    }
}
