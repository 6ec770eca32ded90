//! The cache against a model, under concurrency, on damaged content. On a stage: without a segment or a registry.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use proptest::prelude::*;

use super::*;
use crate::chunk::testing::Stage;
use crate::chunk::{Class, Need, Pool, Seat};
use crate::table::{RecordClass, TableOptions, chunks_needed, initialise};

/// A thread of the stage.
struct StageHost {
    stage: Arc<Stage>,
    index: u16,
}

impl Host for StageHost {
    fn enter(&self) -> Result<()> {
        Ok(())
    }

    fn actor(&self) -> Result<Actor<'_>> {
        Ok(self.stage.actor(self.index))
    }

    fn seat(&self) -> Result<Seat> {
        Ok(Seat::new(self.index, self.stage.actor(self.index).pins.offset()))
    }

    fn reader(&self) -> Result<u16> {
        Ok(self.index)
    }

    fn processes(&self) -> Result<Vec<(ProcessInfo, Vec<u16>)>> {
        Ok(Vec::new())
    }

    fn events(&self, _cache: u32) -> Result<Box<dyn EventSource>> {
        Err(ErrorCode::Unsupported.into())
    }

    fn hold(&self, chunk: ChunkId) -> Result<bool> {
        self.stage.hold(chunk)
    }

    fn let_go(&self, chunk: ChunkId) {
        self.stage.let_go(chunk);
    }
}

pub(super) struct Bench {
    pub stage: Arc<Stage>,
    pub pool: Arc<Pool>,
    pub table: Arc<Table>,
    pub now: Arc<AtomicU64>,
}

impl Bench {
    pub fn new(threads: u16, chunks: u32, limit: u64) -> Bench {
        Bench::of(RecordClass::Cache, threads, chunks, limit)
    }

    /// A cache, and one that transactions may change.
    pub fn both(threads: u16, chunks: u32, limit: u64) -> [Bench; 2] {
        [RecordClass::Cache, RecordClass::Stamped].map(|class| Bench::of(class, threads, chunks, limit))
    }

    fn of(class: RecordClass, threads: u16, chunks: u32, limit: u64) -> Bench {
        let (stage, pool) = Stage::pool(threads, chunks, 1 << 14);
        let me = stage.actor(1);
        let transactions = class == RecordClass::Stamped;
        let options = TableOptions { limit, transactions, ..TableOptions::default() };
        let count = chunks_needed(&pool, &options);
        let first = pool.allocate_run(me, Class::Control, 9, count, Need::Object).unwrap();
        let run = pool.run_span(first, count).unwrap();
        initialise(&pool, run, class, 7, &options).unwrap();
        pool.settle(me, first).unwrap();
        let now = Arc::new(AtomicU64::new(1_000_000));
        let clock = now.clone();
        let clock = Arc::new(move || clock.load(Relaxed));
        let offset = run.offset();
        let table = Arc::new(Table::open(pool.clone(), 9, offset, class, clock).unwrap());
        Bench { stage, pool, table, now }
    }

    pub fn cache(&self, index: u16) -> Cache {
        let host = Arc::new(StageHost { stage: self.stage.clone(), index });
        Cache { table: self.table.clone(), host }
    }

    pub fn problems(&self, live: bool) -> Vec<String> {
        let mut problems = Vec::new();
        let mut report = |place: String, what: String| problems.push(format!("{place}: {what}"));
        crate::chunk::check(&self.pool, live, &|_| self.table.has_transactions(), &mut report).unwrap();
        crate::table::check(&self.table, live, &mut report).unwrap();
        problems
    }
}

pub(super) fn torture() -> u64 {
    if std::env::var_os("MEMORA_TORTURE").is_some() { 20 } else { 1 }
}

#[derive(Clone, Debug)]
enum Step {
    Set(u8, Vec<u8>, Option<u64>, u32),
    Add(u8, Vec<u8>),
    Replace(u8, Vec<u8>),
    Delete(u8),
    CasRight(u8, Vec<u8>),
    CasStale(u8, Vec<u8>),
    Number(u8, u64),
    Increment(u8, u64, Option<u64>),
    Decrement(u8, u64, Option<u64>),
    Pass(u64),
    Get(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let value = || prop::collection::vec(any::<u8>(), 0..700);
    let key = || 0u8..40;
    let step = prop_oneof![
        4 => (key(), value(), prop::option::of(0u64..50), any::<u32>()).prop_map(|(k, v, t, f)| Step::Set(k, v, t, f)),
        2 => (key(), value()).prop_map(|(k, v)| Step::Add(k, v)),
        2 => (key(), value()).prop_map(|(k, v)| Step::Replace(k, v)),
        2 => key().prop_map(Step::Delete),
        1 => (key(), value()).prop_map(|(k, v)| Step::CasRight(k, v)),
        1 => (key(), value()).prop_map(|(k, v)| Step::CasStale(k, v)),
        1 => (key(), any::<u64>()).prop_map(|(k, n)| Step::Number(k, n)),
        2 => (key(), 0u64..1000, prop::option::of(any::<u64>())).prop_map(|(k, n, i)| Step::Increment(k, n, i)),
        2 => (key(), any::<u64>(), prop::option::of(0u64..9)).prop_map(|(k, n, i)| Step::Decrement(k, n, i)),
        1 => (0u64..40).prop_map(Step::Pass),
        3 => key().prop_map(Step::Get),
    ];
    prop::collection::vec(step, 1..400)
}

/// What the model knows of an entry: value, version, flags, expiry.
type Known = (Vec<u8>, Version, u32, Option<u64>);

fn parse(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?;
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

fn run(steps: Vec<Step>) {
    for bench in Bench::both(1, 40, 0) {
        let cache = bench.cache(1);
        let mut model: HashMap<u8, Known> = HashMap::new();
        let plain = SetOptions::default();
        for step in steps.clone() {
            let now = bench.now.load(Relaxed);
            model.retain(|_, known| known.3.is_none_or(|expiry| expiry > now));
            let name = |key: u8| [b"key ".as_slice(), &[key]].concat();
            match step {
                Step::Set(key, value, ttl_ms, flags) => {
                    let version = cache.set_with(&name(key), &value, &SetOptions { ttl_ms, flags }).unwrap();
                    model.insert(key, (value, version, flags, ttl_ms.map(|ttl| now + ttl)));
                }
                Step::Add(key, value) => {
                    let version = cache.add(&name(key), &value, &plain).unwrap();
                    assert_eq!(version.is_some(), !model.contains_key(&key));
                    if let Some(version) = version {
                        model.insert(key, (value, version, 0, None));
                    }
                }
                Step::Replace(key, value) => {
                    let version = cache.replace(&name(key), &value, &plain).unwrap();
                    assert_eq!(version.is_some(), model.contains_key(&key));
                    if let Some(version) = version {
                        model.insert(key, (value, version, 0, None));
                    }
                }
                Step::Delete(key) => {
                    assert_eq!(cache.delete(&name(key)).unwrap(), model.remove(&key).is_some());
                }
                Step::CasRight(key, value) => {
                    let expected = model.get(&key).map_or(Version(1), |known| known.1);
                    let outcome = cache.compare_and_swap(&name(key), &value, expected, &plain).unwrap();
                    match outcome {
                        CasOutcome::Stored(version) => {
                            assert!(model.insert(key, (value, version, 0, None)).is_some());
                        }
                        CasOutcome::NotFound => assert!(!model.contains_key(&key)),
                        CasOutcome::Stale(_) => panic!("the version is the one that was given"),
                    }
                }
                Step::CasStale(key, value) => {
                    let outcome = cache.compare_and_swap(&name(key), &value, Version(3), &plain).unwrap();
                    match model.get(&key) {
                        Some(known) => assert_eq!(outcome, CasOutcome::Stale(known.1)),
                        None => assert_eq!(outcome, CasOutcome::NotFound),
                    }
                }
                Step::Number(key, number) => {
                    let text = number.to_string().into_bytes();
                    let version = cache.set(&name(key), &text).unwrap();
                    model.insert(key, (text, version, 0, None));
                }
                Step::Increment(key, by, initial) => {
                    let answer = cache.increment(&name(key), by, initial);
                    let next = |number: u64| number.checked_add(by).ok_or(ErrorCode::CounterOverflow);
                    counted(&cache, &mut model, key, &name(key), answer, initial, next);
                }
                Step::Decrement(key, by, initial) => {
                    let answer = cache.decrement(&name(key), by, initial);
                    counted(&cache, &mut model, key, &name(key), answer, initial, |number| {
                        Ok(number.saturating_sub(by))
                    });
                }
                Step::Pass(time) => {
                    bench.now.fetch_add(time, Relaxed);
                }
                Step::Get(key) => {
                    let entry = cache.get_entry(&name(key)).unwrap();
                    let known = model.get(&key);
                    assert_eq!(entry.is_some(), known.is_some());
                    if let (Some(entry), Some(known)) = (entry, known) {
                        let ttl = known.3.map(|expiry| expiry - now);
                        assert_eq!(
                            (entry.value, entry.version, entry.flags, entry.ttl_ms),
                            (known.0.clone(), known.1, known.2, ttl)
                        );
                    }
                }
            }
        }
        let now = bench.now.load(Relaxed);
        model.retain(|_, known| known.3.is_none_or(|expiry| expiry > now));
        let mut all = HashMap::new();
        for found in cache.iter() {
            let (key, entry) = found.unwrap();
            assert!(all.insert(key[4], entry.value).is_none(), "given twice");
        }
        assert_eq!(all, model.into_iter().map(|(key, known)| (key, known.0)).collect());
        assert!(cache.len().unwrap() >= all.len() as u64);
        assert_eq!(bench.problems(false), Vec::<String>::new());
    }
}

/// Compares a counting with what the model says.
fn counted(
    cache: &Cache,
    model: &mut HashMap<u8, Known>,
    key: u8,
    name: &[u8],
    answer: Result<Option<u64>>,
    initial: Option<u64>,
    next: impl Fn(u64) -> std::result::Result<u64, ErrorCode>,
) {
    let expected = match model.get(&key) {
        Some(known) => match parse(&known.0) {
            Some(number) => next(number).map(Some),
            None => Err(ErrorCode::NotANumber),
        },
        None => Ok(initial),
    };
    assert_eq!(answer.map_err(|error| error.code()), expected);
    if let Ok(Some(number)) = expected {
        let entry = cache.get_entry(name).unwrap();
        match (model.get_mut(&key), entry) {
            (Some(known), Some(entry)) => (known.0, known.1) = (entry.value, entry.version),
            (None, Some(entry)) => {
                assert_eq!(entry.value, number.to_string().into_bytes());
                model.insert(key, (entry.value, entry.version, 0, None));
            }
            (_, None) => panic!("counted, but not there"),
        }
        assert_eq!(model[&key].0, number.to_string().into_bytes());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48 * torture() as u32, ..ProptestConfig::default() })]
    #[test]
    fn the_cache_does_what_a_map_does(steps in steps()) {
        run(steps);
    }
}

#[test]
fn bad_keys_and_values_and_buffers_get_errors_that_say_what_is_allowed() {
    let bench = Bench::new(1, 40, 0);
    let cache = bench.cache(1);
    assert_eq!(cache.set(b"", b"v").unwrap_err().code(), ErrorCode::KeyTooLong);
    assert_eq!(cache.set(&[1; 65_537], b"v").unwrap_err().code(), ErrorCode::KeyTooLong);
    let error = cache.set(b"k", &[1; 1 << 20]).unwrap_err();
    assert!(error.code() == ErrorCode::ValueTooLong && error.detail().contains("1048576"), "{error}");
    assert_eq!(cache.get(b"").unwrap(), None);
    assert_eq!(cache.get(&[1; 65_537]).unwrap(), None);
    let longest = vec![7; bench.table.value_len_max(1) as usize];
    cache.set(b"k", &longest).unwrap();
    assert_eq!(cache.get(b"k").unwrap(), Some(longest.clone()));
    let mut small = [0; 10];
    let error = cache.get_into(b"k", &mut small).unwrap_err();
    assert_eq!((error.code(), error.amount()), (ErrorCode::BufferTooSmall, longest.len() as u64));
    cache.set(b"k", b"").unwrap();
    assert_eq!(cache.get_into(b"k", &mut small).unwrap(), Some(0));
}

#[test]
fn many_keys_are_read_at_once_in_their_order() {
    let bench = Bench::new(1, 100, 0);
    let cache = bench.cache(1);
    let keys: Vec<String> = (0..500).map(|number| format!("key {number}")).collect();
    for (number, key) in keys.iter().enumerate().filter(|(number, _)| number % 3 != 0) {
        cache.set(key.as_bytes(), number.to_string().as_bytes()).unwrap();
    }
    let wanted: Vec<&[u8]> = keys.iter().map(|key| key.as_bytes()).collect();
    let mut seen = Vec::new();
    cache
        .get_many(&wanted, |place, value| {
            seen.push((place, value.map(<[u8]>::to_vec)));
        })
        .unwrap();
    assert_eq!(seen.len(), 500);
    for (number, (place, value)) in seen.into_iter().enumerate() {
        assert_eq!(place, number);
        assert_eq!(value, (number % 3 != 0).then(|| number.to_string().into_bytes()));
    }
}

#[test]
fn a_limit_of_its_own_is_kept_and_expired_entries_make_room() {
    let bench = Bench::new(1, 200, 200_000);
    let cache = bench.cache(1);
    let options = SetOptions { ttl_ms: Some(10), flags: 0 };
    let fill = |prefix: &str| {
        let mut count = 0u64;
        while cache.set_with(format!("{prefix} {count}").as_bytes(), &[1; 200], &options).is_ok() {
            count += 1;
            assert!(count < 5000, "no limit was kept");
        }
        count
    };
    let first = fill("first");
    assert!(first > 500 && cache.stats().unwrap().live_bytes <= 200_000, "{first}");
    bench.now.fetch_add(5000, Relaxed);
    let second = fill("second");
    assert!(second > first * 9 / 10, "{second} after {first}: expired entries were not removed");
    assert_eq!(bench.problems(false), Vec::<String>::new());
}

/// A value that shows whether it is whole and whose it is.
fn marked(key: u64, turn: u64) -> Vec<u8> {
    let len = 32 + (turn % 5 * 100) as usize;
    let mut value = vec![(key ^ turn) as u8; len];
    value[..8].copy_from_slice(&key.to_le_bytes());
    value[8..16].copy_from_slice(&turn.to_le_bytes());
    value
}

fn is_whole(key: u64, value: &[u8]) -> bool {
    let turn = u64::from_le_bytes(value[8..16].try_into().unwrap());
    value == marked(key, turn)
}

#[test]
fn readers_see_whole_values_while_writers_split_clean_and_delete() {
    for bench in Bench::both(3, 300, 0) {
        let done = AtomicBool::new(false);
        let keys = 6000u64;
        std::thread::scope(|scope| {
            let (bench, done) = (&bench, &done);
            let writers: Vec<_> = (1..=3u16)
                .map(|index| {
                    let cache = bench.cache(index);
                    scope.spawn(move || {
                        for turn in 0..60_000 * torture() {
                            let key = (turn * 31 + index as u64 * 7) % keys;
                            if turn % 11 == 0 {
                                cache.delete(&key.to_le_bytes()).unwrap();
                            } else {
                                cache.set(&key.to_le_bytes(), &marked(key, turn)).unwrap();
                            }
                        }
                    })
                })
                .collect();
            let mut readers = Vec::new();
            for _ in 0..2 {
                let cache = bench.cache(1);
                readers.push(scope.spawn(move || {
                    let mut hits = 0u64;
                    let mut key = 0;
                    while !done.load(Relaxed) {
                        key = (key + 17) % keys;
                        if let Some(value) = cache.get(&u64::to_le_bytes(key)).unwrap() {
                            assert!(is_whole(key, &value), "torn value of {key}");
                            hits += 1;
                        }
                    }
                    hits
                }));
            }
            writers.into_iter().for_each(|writer| writer.join().unwrap());
            assert!(bench.problems(true).is_empty());
            done.store(true, Relaxed);
            for reader in readers {
                assert!(reader.join().unwrap() > 0);
            }
        });
        assert_eq!(bench.problems(false), Vec::<String>::new());
    }
}

#[test]
fn a_key_that_stays_is_never_missed_while_the_index_is_split() {
    let bench = Bench::new(2, 400, 0);
    let cache = bench.cache(1);
    let stays = 500u64;
    for key in 0..stays {
        cache.set(&key.to_le_bytes(), &marked(key, 0)).unwrap();
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (bench, done) = (&bench, &done);
        let reader = scope.spawn(move || {
            let cache = bench.cache(1);
            let mut rounds = 0u64;
            while !done.load(Relaxed) || rounds < 2 {
                for key in 0..stays {
                    let value = cache.get(&key.to_le_bytes()).unwrap();
                    assert!(value.is_some_and(|value| is_whole(key, &value)), "{key} was missed");
                }
                let mut seen = 0;
                for found in cache.iter() {
                    let key = u64::from_le_bytes(found.unwrap().0.try_into().unwrap());
                    seen += u64::from(key < stays);
                }
                assert_eq!(seen, stays, "a scan gives what stays exactly once");
                rounds += 1;
            }
        });
        let cache = bench.cache(2);
        for key in stays..25_000 {
            cache.set(&key.to_le_bytes(), b"grows").unwrap();
            cache.set(&(key % stays).to_le_bytes(), &marked(key % stays, key)).unwrap();
        }
        done.store(true, Relaxed);
        reader.join().unwrap();
    });
    assert!(cache.stats().unwrap().index_chunks > 8);
    assert_eq!(bench.problems(false), Vec::<String>::new());
}

#[test]
fn concurrent_increments_and_adds_are_exact() {
    for bench in Bench::both(4, 64, 0) {
        let added = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for index in 1..=4u16 {
                let (cache, added) = (bench.cache(index), &added);
                scope.spawn(move || {
                    for turn in 0..5000u64 {
                        cache.increment(b"counter", 1, Some(1)).unwrap();
                        let key = (turn % 500).to_le_bytes();
                        if cache.add(&key, b"x", &SetOptions::default()).unwrap().is_some() {
                            added.fetch_add(1, Relaxed);
                        }
                        if turn % 3 == 0 && cache.delete(&key).unwrap() {
                            added.fetch_sub(1, Relaxed);
                        }
                    }
                });
            }
        });
        let cache = bench.cache(1);
        assert_eq!(cache.get(b"counter").unwrap(), Some(b"20000".to_vec()));
        assert_eq!(cache.len().unwrap(), added.load(Relaxed) + 1);
        assert_eq!(bench.problems(false), Vec::<String>::new());
    }
}
#[test]
fn damaged_content_gives_errors_or_values_but_no_panic_and_no_endless_loop() {
    for seed in 0..30 * torture() {
        let bench = Bench::new(2, 40, 0);
        let cache = bench.cache(1);
        for key in 0..400u64 {
            cache.set(&key.to_le_bytes(), &marked(key, key)).unwrap();
        }
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let (bench, done) = (&bench, &done);
            scope.spawn(move || {
                let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1;
                let shm = bench.pool.shm();
                for _ in 0..4000 {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    // Anything behind the actors: descriptors, control area, index, records.
                    let offset = 512 + random % (shm.len() - 520);
                    let word = shm.block::<8>(offset & !7).unwrap();
                    let value = match random >> 60 {
                        0..4 => 0,
                        4..6 => u64::MAX,
                        6..10 => word.u64::<0>().load(Relaxed) ^ 1 << (random >> 8 & 63),
                        _ => random.rotate_left(19),
                    };
                    word.u64::<0>().store(value, Relaxed);
                }
                done.store(true, Relaxed);
            });
            let mut answers = 0u64;
            let mut turn = 0u64;
            while !done.load(Relaxed) || turn < 1000 {
                turn += 1;
                let key = (turn % 400).to_le_bytes();
                answers += u64::from(cache.get(&key).is_ok());
                answers += u64::from(cache.set(&key, &marked(turn % 400, turn)).is_ok());
                answers += u64::from(turn.is_multiple_of(16) && cache.delete(&key).is_ok());
                answers += u64::from(turn.is_multiple_of(64) && cache.scan(turn, 10, |_, _| ()).is_ok());
            }
            assert!(answers > 0);
        });
        let mut found = 0;
        let _ = crate::chunk::check(&bench.pool, false, &|_| false, &mut |_, _| found += 1);
        let _ = crate::table::check(&bench.table, false, &mut |_, _| found += 1);
        assert!(found > 0 || seed > 0, "4000 damaged words were not noticed");
    }
}
