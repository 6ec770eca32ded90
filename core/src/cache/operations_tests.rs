//! The operations that go beyond get, set and delete, against a model; their errors leave the entry as it was.

use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;

use proptest::prelude::*;

use super::tests::{Bench, torture};
use super::*;
use crate::table::entry::DeleteOutcome;

#[derive(Clone, Debug)]
enum Step {
    Set(Vec<u8>, Option<u64>, u32),
    Append(Vec<u8>),
    Prepend(Vec<u8>),
    Touch(Option<u64>),
    GetAndTouch(Option<u64>),
    GetAndSet(Vec<u8>),
    GetAndDelete,
    DeleteIf(bool),
    Signed(i64),
    Wrapping(u64, bool),
    Renewed(u64, Option<u64>),
    Pass(u64),
    Get,
    Flush,
}

fn steps() -> impl Strategy<Value = Vec<(u8, Step)>> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..300);
    let ttl = || prop::option::of(1u64..60);
    let step = prop_oneof![
        3 => (bytes(), ttl(), any::<u32>()).prop_map(|(v, t, f)| Step::Set(v, t, f)),
        1 => any::<i64>().prop_map(|n| Step::Set(n.to_string().into_bytes(), None, 1)),
        2 => bytes().prop_map(Step::Append),
        2 => bytes().prop_map(Step::Prepend),
        2 => ttl().prop_map(Step::Touch),
        2 => ttl().prop_map(Step::GetAndTouch),
        2 => bytes().prop_map(Step::GetAndSet),
        1 => Just(Step::GetAndDelete),
        1 => any::<bool>().prop_map(Step::DeleteIf),
        2 => any::<i64>().prop_map(Step::Signed),
        2 => (any::<u64>(), any::<bool>()).prop_map(|(n, d)| Step::Wrapping(n, d)),
        1 => (0u64..9, ttl()).prop_map(|(n, t)| Step::Renewed(n, t)),
        2 => (0u64..40).prop_map(Step::Pass),
        2 => Just(Step::Get),
        1 => Just(Step::Flush),
    ];
    prop::collection::vec((0u8..12, step), 1..300)
}

/// An entry of the model, with the instant of its end.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    value: Vec<u8>,
    version: Version,
    flags: u32,
    end: Option<u64>,
}

impl Known {
    fn entry(&self, now: u64) -> Entry {
        let ttl_ms = self.end.map(|end| end - now);
        Entry { value: self.value.clone(), version: self.version, flags: self.flags, ttl_ms }
    }
}

fn unsigned(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value)
        .ok()
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?
        .parse()
        .ok()
}

fn signed(value: &[u8]) -> Option<i64> {
    let number: i64 = std::str::from_utf8(value).ok()?.parse().ok()?;
    (number.to_string().as_bytes() == value).then_some(number)
}

fn run(steps: Vec<(u8, Step)>) {
    for bench in Bench::both(1, 40, 0) {
        let cache = bench.cache(1);
        let mut model: HashMap<u8, Known> = HashMap::new();
        for (key, step) in steps.clone() {
            let now = bench.now.load(Relaxed);
            model.retain(|_, known| known.end.is_none_or(|end| end > now));
            let name = [b"a key longer than eight bytes ".as_slice(), &[key]].concat();
            let name = name.as_slice();
            let before = model.get(&key).cloned();
            let seen = before.as_ref().map(|known| known.entry(now));
            let end = |ttl: Option<u64>| ttl.map(|ttl| now + ttl);
            let version = || cache.get_entry(name).unwrap().expect("it was just stored").version;
            match step {
                Step::Set(value, ttl_ms, flags) => {
                    let version = cache.set_with(name, &value, &SetOptions { ttl_ms, flags }).unwrap();
                    model.insert(key, Known { value, version, flags, end: end(ttl_ms) });
                }
                Step::Append(more) => {
                    let stored = cache.append(name, &more).unwrap();
                    assert_eq!(stored.is_some(), before.is_some());
                    if let (Some(known), Some(version)) = (model.get_mut(&key), stored) {
                        known.value.extend(more);
                        known.version = version;
                    }
                }
                Step::Prepend(more) => {
                    let stored = cache.prepend(name, &more).unwrap();
                    assert_eq!(stored.is_some(), before.is_some());
                    if let (Some(known), Some(version)) = (model.get_mut(&key), stored) {
                        known.value = [more, known.value.clone()].concat();
                        known.version = version;
                    }
                }
                Step::Touch(ttl) => {
                    assert_eq!(cache.touch(name, ttl).unwrap(), before.is_some());
                    model.entry(key).and_modify(|known| known.end = end(ttl));
                }
                Step::GetAndTouch(ttl) => {
                    let answer = cache.get_and_touch(name, ttl).unwrap();
                    model.entry(key).and_modify(|known| known.end = end(ttl));
                    assert_eq!(answer, model.get(&key).map(|known| known.entry(now)));
                }
                Step::GetAndSet(value) => {
                    assert_eq!(cache.get_and_set(name, &value, &SetOptions::default()).unwrap(), seen);
                    model.insert(key, Known { value, version: version(), flags: 0, end: None });
                }
                Step::GetAndDelete => {
                    assert_eq!(cache.get_and_delete(name).unwrap(), seen);
                    model.remove(&key);
                }
                Step::DeleteIf(right) => {
                    let expected =
                        before.as_ref().filter(|_| right).map_or(Version(5), |known| known.version);
                    let outcome = match &before {
                        None => DeleteOutcome::NotFound,
                        Some(_) if right => DeleteOutcome::Deleted,
                        Some(known) => DeleteOutcome::Stale(known.version),
                    };
                    assert_eq!(cache.delete_if(name, expected).unwrap(), outcome);
                    if outcome == DeleteOutcome::Deleted {
                        model.remove(&key);
                    }
                }
                Step::Signed(by) => {
                    let next = match &before {
                        None => Ok(by),
                        Some(known) => signed(&known.value)
                            .ok_or(ErrorCode::NotANumber)
                            .and_then(|number| number.checked_add(by).ok_or(ErrorCode::CounterOverflow)),
                    };
                    let answer = cache.count_with(name, &Counter::signed(by)).map_err(|error| error.code());
                    assert_eq!(answer, next.map(|next| Some(next as u64)));
                    if let Ok(next) = next {
                        let known = Known { value: Vec::new(), version: version(), flags: 0, end: None };
                        let known = Known { version: version(), ..before.unwrap_or(known) };
                        model.insert(key, Known { value: next.to_string().into_bytes(), ..known });
                    }
                }
                Step::Wrapping(by, down) => {
                    let counter = Counter { kind: CounterKind::Wrapping, by, down, ..Counter::default() };
                    let next = match &before {
                        None => Ok(None),
                        Some(known) => unsigned(&known.value).ok_or(ErrorCode::NotANumber).map(|number| {
                            Some(if down { number.saturating_sub(by) } else { number.wrapping_add(by) })
                        }),
                    };
                    assert_eq!(cache.count_with(name, &counter).map_err(|error| error.code()), next);
                    if let (Ok(Some(next)), Some(known)) = (next, model.get_mut(&key)) {
                        (known.value, known.version) = (next.to_string().into_bytes(), version());
                    }
                }
                Step::Renewed(by, ttl_ms) => {
                    let counter = Counter { ttl_ms, renew_ttl: true, initial: Some(7), ..Counter::up(by) };
                    let number = before.as_ref().map_or(Some(7), |known| {
                        unsigned(&known.value).and_then(|number| number.checked_add(by))
                    });
                    let answer = cache.count_with(name, &counter);
                    assert_eq!(answer.ok().flatten(), number);
                    if let Some(number) = number {
                        let flags = before.map_or(0, |known| known.flags);
                        let value = number.to_string().into_bytes();
                        model.insert(key, Known { value, version: version(), flags, end: end(ttl_ms) });
                    }
                }
                Step::Pass(time) => {
                    bench.now.fetch_add(time, Relaxed);
                }
                Step::Get => assert_eq!(cache.get_entry(name).unwrap(), seen),
                Step::Flush => {
                    cache.flush().unwrap();
                    assert_eq!((cache.len().unwrap(), cache.iter().count()), (0, 0));
                    model.clear();
                }
            }
        }
        let now = bench.now.load(Relaxed);
        for (key, known) in model {
            let name = [b"a key longer than eight bytes ".as_slice(), &[key]].concat();
            let expected = known.end.is_none_or(|end| end > now).then(|| known.entry(now));
            assert_eq!(cache.get_entry(&name).unwrap(), expected);
        }
        assert_eq!(bench.problems(false), Vec::<String>::new());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48 * torture() as u32, ..ProptestConfig::default() })]
    #[test]
    fn the_operations_do_what_a_map_does(steps in steps()) {
        run(steps);
    }
}

#[test]
fn an_entry_that_would_become_too_long_stays_as_it_was() {
    let bench = Bench::new(1, 100, 0);
    let cache = bench.cache(1);
    let max = bench.table.value_len_max(1) as usize;
    let version = cache.set(b"k", &vec![1; max - 1]).unwrap();
    assert_eq!(cache.append(b"k", &[2; 2]).unwrap_err().code(), ErrorCode::ValueTooLong);
    assert_eq!(cache.prepend(b"k", &[2; 2]).unwrap_err().code(), ErrorCode::ValueTooLong);
    let entry = cache.get_entry(b"k").unwrap().unwrap();
    assert_eq!((entry.value.len(), entry.version), (max - 1, version));
    // As long as allowed, but the pool has no room for both.
    assert_eq!(cache.append(b"k", &[2]).unwrap_err().code(), ErrorCode::Full);
    assert_eq!(cache.get_entry(b"k").unwrap().unwrap(), entry);
}

#[test]
fn refused_counting_says_why_and_leaves_the_entry() {
    let bench = Bench::new(1, 40, 0);
    let cache = bench.cache(1);
    let options = SetOptions { ttl_ms: Some(500), flags: 3 };
    let cases: [(&[u8], Counter, ErrorCode); 5] = [
        (b"18446744073709551615", Counter::up(1), ErrorCode::CounterOverflow),
        (b"9223372036854775807", Counter::signed(1), ErrorCode::CounterOverflow),
        (b"-9223372036854775808", Counter::signed(-1), ErrorCode::CounterOverflow),
        (b"-1", Counter::up(1), ErrorCode::NotANumber),
        (b"one", Counter::signed(1), ErrorCode::NotANumber),
    ];
    for (value, counter, code) in cases {
        cache.set_with(b"n", value, &options).unwrap();
        let before = cache.get_entry(b"n").unwrap();
        let error = cache.count_with(b"n", &counter).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert_eq!(cache.get_entry(b"n").unwrap(), before, "{error}");
    }
    let wrapping = Counter { kind: CounterKind::Wrapping, ..Counter::up(2) };
    cache.set_with(b"n", b"18446744073709551615", &options).unwrap();
    assert_eq!(cache.count_with(b"n", &wrapping).unwrap(), Some(1));
    assert_eq!(cache.get_entry(b"n").unwrap().map(|entry| (entry.flags, entry.ttl_ms)), Some((3, Some(500))));
    assert_eq!(cache.count_with(b"n", &Counter { by: 5, down: true, ..wrapping }).unwrap(), Some(0));
    assert_eq!(cache.count_with(b"new", &wrapping).unwrap(), None);
}

#[test]
fn threads_that_append_lose_nothing() {
    let bench = Bench::new(4, 64, 0);
    bench.cache(1).set(b"log", b"").unwrap();
    let turns = 300u64;
    std::thread::scope(|scope| {
        for index in 1..=4u16 {
            let cache = bench.cache(index);
            scope.spawn(move || {
                for turn in 0..turns {
                    let mark = [b'a' + index as u8];
                    let stored = if turn % 2 == 0 {
                        cache.append(b"log", &mark)
                    } else {
                        cache.prepend(b"log", &mark)
                    };
                    stored.unwrap().expect("the entry is there");
                    cache.touch(b"log", None).unwrap();
                }
            });
        }
    });
    let log = bench.cache(1).get(b"log").unwrap().unwrap();
    for index in 1..=4u8 {
        assert_eq!(log.iter().filter(|byte| **byte == b'a' + index).count() as u64, turns);
    }
    assert_eq!(bench.problems(false), Vec::<String>::new());
}
