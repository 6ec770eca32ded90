//! A store that keeps its keys in order, in a real fabric: what scans find, through deletions, expiry, recovery, many processes.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::{Path, PathBuf};

use memora::{Direction, Durability, ErrorCode, Fabric, FabricOptions, SetOptions, Store, StoreOptions};
use memora_stress::random::Random;
use memora_testkit::process::{Worker, role, tell};
use proptest::prelude::*;

const ENTRY: &str = "plays_its_role";
const HOME: &str = "ORDERED_HOME";
const FABRIC: &str = "ordered";

fn torture() -> bool {
    std::env::var_os("MEMORA_TORTURE").is_some()
}

fn fabric(home: &Path, limit: u64) -> Fabric {
    FabricOptions::new().home(home.to_path_buf()).limit(limit).open(FABRIC).unwrap()
}

fn with_files(home: &Path) -> StoreOptions {
    StoreOptions {
        dir: Some(home.join("files")),
        durability: Durability::Process,
        ordered: Some(true),
        ..StoreOptions::default()
    }
}

fn in_memory() -> StoreOptions {
    StoreOptions { durability: Durability::Process, ordered: Some(true), ..StoreOptions::default() }
}

fn assert_sound(fabric: &Fabric) {
    let report = fabric.check().unwrap();
    assert!(report.problems.is_empty(), "{:#?}", report.problems);
}

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn slice(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    bound.as_ref().map(Vec::as_slice)
}

/// What a range gives, in pages.
fn found(
    store: &Store,
    from: Bound<&[u8]>,
    to: Bound<&[u8]>,
    direction: Direction,
    page: usize,
) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut all = Vec::new();
    let (mut from, mut to) = (from.map(<[u8]>::to_vec), to.map(<[u8]>::to_vec));
    loop {
        let mut count = 0;
        let last = store
            .range(slice(&from), slice(&to), direction, page, |key, entry| {
                count += 1;
                all.push((key.to_vec(), entry.value.clone()));
            })
            .unwrap();
        assert!(count <= page);
        let Some(last) = last else { return all };
        assert_eq!(all.last().map(|(key, _)| key), Some(&last));
        match direction {
            Direction::Forward => from = Bound::Excluded(last),
            Direction::Backward => to = Bound::Excluded(last),
        }
    }
}

/// What a model gives.
fn expected(
    model: &Model,
    from: Bound<&[u8]>,
    to: Bound<&[u8]>,
    direction: Direction,
) -> Vec<(Vec<u8>, Vec<u8>)> {
    let inside = |key: &[u8]| {
        let above = match from {
            Bound::Unbounded => true,
            Bound::Included(from) => key >= from,
            Bound::Excluded(from) => key > from,
        };
        above
            && match to {
                Bound::Unbounded => true,
                Bound::Included(to) => key <= to,
                Bound::Excluded(to) => key < to,
            }
    };
    let mut all: Vec<_> = model
        .iter()
        .filter(|(key, _)| inside(key))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    if direction == Direction::Backward {
        all.reverse();
    }
    all
}

fn assert_same(store: &Store, model: &Model, probes: &[Vec<u8>]) {
    let mut bounds = vec![Bound::Unbounded];
    bounds.extend(probes.iter().flat_map(|key| [Bound::Included(key.as_slice()), Bound::Excluded(key)]));
    for direction in [Direction::Forward, Direction::Backward] {
        for from in &bounds {
            for to in &bounds {
                let wanted = expected(model, *from, *to, direction);
                assert_eq!(found(store, *from, *to, direction, 7), wanted, "{from:?} {to:?} {direction:?}");
                let one: Vec<_> = store
                    .iter_range(*from, *to, direction)
                    .map(|entry| entry.map(|(key, entry)| (key, entry.value)).unwrap())
                    .collect();
                assert_eq!(one, wanted);
            }
        }
        for probe in probes {
            let wanted: Vec<_> = expected(model, Bound::Unbounded, Bound::Unbounded, direction)
                .into_iter()
                .filter(|(key, _)| key.starts_with(probe))
                .collect();
            let mut seen = Vec::new();
            let last = store
                .prefix(probe, direction, usize::MAX, |key, entry| {
                    seen.push((key.to_vec(), entry.value.clone()));
                })
                .unwrap();
            assert_eq!((seen, last), (wanted.clone(), None));
            let one: Vec<_> = store
                .iter_prefix(probe, direction)
                .map(|entry| entry.map(|(key, e)| (key, e.value)).unwrap())
                .collect();
            assert_eq!(one, wanted);
        }
    }
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(prop_oneof![Just(0u8), Just(1), Just(97), Just(255)], 1..6),
        (0u32..300).prop_map(|number| format!("key:{number:06}").into_bytes()),
        (0u8..3, 200usize..900).prop_map(|(byte, len)| vec![byte; len]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if torture() { 200 } else { 12 }))]

    #[test]
    fn ranges_and_prefixes_are_those_of_a_map(
        steps in proptest::collection::vec((key(), 0u8..12), 1..400),
        probes in proptest::collection::vec(key(), 1..4),
        files in any::<bool>(),
    ) {
        let home = tempfile::tempdir().unwrap();
        let fabric = fabric(home.path(), 8 << 20);
        let options = if files { with_files(home.path()) } else { in_memory() };
        let store = fabric.store("ordered", &options).unwrap();
        let mut model = Model::new();
        for (number, (key, what)) in steps.iter().enumerate() {
            let value = number.to_string().into_bytes();
            match what {
                0..7 => {
                    store.set(key, &value).unwrap();
                    model.insert(key.clone(), value);
                }
                7 => {
                    let added = store.add(key, &value, &SetOptions::default()).unwrap().is_some();
                    prop_assert_eq!(added, !model.contains_key(key));
                    model.entry(key.clone()).or_insert(value);
                }
                8..10 => {
                    store.delete(key).unwrap();
                    model.remove(key);
                }
                10 => store.flush().unwrap(),
                _ => {
                    store.set_with(key, b"short", &SetOptions { ttl_ms: Some(0), flags: 0 }).unwrap();
                    model.remove(key);
                }
            }
        }
        // An expiry of 0 is over in the next millisecond.
        std::thread::sleep(std::time::Duration::from_millis(3));
        assert_same(&store, &model, &probes);
        if files {
            store.checkpoint().unwrap();
            assert_same(&store, &model, &probes);
        }
        assert_sound(&fabric);
    }
}

#[test]
fn recovery_makes_the_index_anew_and_another_way_to_open_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let mut model = Model::new();
    {
        let fabric = fabric(home.path(), 16 << 20);
        let store = fabric.store("ordered", &with_files(home.path())).unwrap();
        assert!(store.is_ordered().unwrap());
        for number in 0..5000u32 {
            let key = format!("{:05}", number * 7919 % 5000).into_bytes();
            store.set(&key, &number.to_le_bytes()).unwrap();
            model.insert(key, number.to_le_bytes().to_vec());
        }
        for number in (0..5000u32).step_by(3) {
            let key = format!("{number:05}").into_bytes();
            assert!(store.delete(&key).unwrap());
            model.remove(&key);
        }
        let unordered = StoreOptions { ordered: Some(false), ..with_files(home.path()) };
        let refused = fabric.store("ordered", &unordered).err().unwrap();
        assert_eq!(refused.code(), ErrorCode::WrongOptions, "{refused}");
        let as_it_is = StoreOptions { ordered: None, ..with_files(home.path()) };
        assert!(fabric.store("ordered", &as_it_is).unwrap().is_ordered().unwrap());
        let plain = StoreOptions { ordered: None, ..in_memory() };
        let plain = fabric.store("plain", &plain).unwrap();
        plain.set(b"key", b"value").unwrap();
        let refused = plain.prefix(b"k", Direction::Forward, 10, |_, _| {}).err().unwrap();
        assert_eq!(refused.code(), ErrorCode::NotOrdered, "{refused}");
        assert!(!plain.is_ordered().unwrap());
        let refused = fabric.store("plain", &in_memory()).err().unwrap();
        assert_eq!(refused.code(), ErrorCode::WrongOptions, "{refused}");
        let refused = store.set(&[7; 5000], b"too long").err().unwrap();
        assert_eq!(refused.code(), ErrorCode::KeyTooLong, "{refused}");
        store.flush().unwrap();
        assert_sound(&fabric);
    }
    Fabric::remove(Some(home.path()), FABRIC).unwrap();
    let fabric = fabric(home.path(), 16 << 20);
    let store = fabric.store("ordered", &with_files(home.path())).unwrap();
    let all = expected(&model, Bound::Unbounded, Bound::Unbounded, Direction::Forward);
    assert_eq!(found(&store, Bound::Unbounded, Bound::Unbounded, Direction::Forward, 1000), all);
    assert_sound(&fabric);
}

#[test]
fn a_queue_of_keys_that_moves_on_for_long_needs_no_more_memory() {
    for files in [false, true] {
        let home = tempfile::tempdir().unwrap();
        let fabric = fabric(home.path(), 4 << 20);
        let options = if files { with_files(home.path()) } else { in_memory() };
        let store = fabric.store("ordered", &options).unwrap();
        let key = |number: u32| format!("job/{number:08}").into_bytes();
        let rounds = if torture() { 200_000 } else { 25_000u32 };
        for number in 0..rounds {
            store.set(&key(number), &[7; 40]).unwrap();
            if number % 500 == 499 {
                // The front goes.
                let mut front = Vec::new();
                let from = number.saturating_sub(2000);
                store
                    .range(
                        Bound::Unbounded,
                        Bound::Excluded(&key(from)),
                        Direction::Forward,
                        usize::MAX,
                        |key, _| {
                            front.push(key.to_vec());
                        },
                    )
                    .unwrap();
                for key in &front {
                    assert!(store.delete(key).unwrap());
                }
                store.flush().unwrap();
            }
        }
        let left = found(&store, Bound::Unbounded, Bound::Unbounded, Direction::Forward, 100);
        let wanted: Vec<_> = (rounds - 2001..rounds).map(|number| (key(number), vec![7; 40])).collect();
        assert_eq!(left, wanted);
        assert_sound(&fabric);
    }
}

/// Not a test of its own: what a child of the tests below does.
#[test]
fn plays_its_role() {
    let Some(role) = role() else { return };
    let home = PathBuf::from(std::env::var_os(HOME).unwrap());
    let fabric = fabric(&home, 16 << 20);
    let store = fabric.store("ordered", &with_files(&home)).unwrap();
    tell("ready");
    let mut random = Random::new(&role);
    for round in 0u64.. {
        // Keys of an even number stay, with changing values; the others come and go.
        let number = random.draw(3000);
        let key = format!("{number:06}").into_bytes();
        if number.is_multiple_of(2) {
            store.set(&key, &round.to_le_bytes()).unwrap();
        } else if random.draw(2) == 0 {
            store.set(&key, b"guest").unwrap();
        } else {
            store.delete(&key).unwrap();
        }
        if round % 700 == 0 {
            store.flush().unwrap();
        }
    }
}

#[test]
fn scans_beside_processes_that_write_die_and_stop_miss_nothing_that_stays() {
    let home = tempfile::tempdir().unwrap();
    let fabric = fabric(home.path(), 16 << 20);
    let store = fabric.store("ordered", &with_files(home.path())).unwrap();
    for number in (0..3000u32).step_by(2) {
        store.set(format!("{number:06}").as_bytes(), b"stays").unwrap();
    }
    let path = home.path().to_path_buf();
    let worker = |name: &str| {
        let mut worker = Worker::spawn(ENTRY, name, &[(HOME, path.as_os_str())]);
        worker.expect_line("ready");
        worker
    };
    let mut random = Random::new("storm");
    let mut workers: Vec<_> = (0..3).map(|number| worker(&format!("writer {number}"))).collect();
    for round in 0..if torture() { 400 } else { 40u32 } {
        let at = random.draw(3) as usize;
        if round % 4 == 1 {
            workers[at].kill();
            workers[at] = worker(&format!("writer {round}"));
        } else if round % 4 == 3 {
            workers[at].stop();
        }
        for direction in [Direction::Forward, Direction::Backward] {
            let mut keys = Vec::new();
            store
                .range(Bound::Unbounded, Bound::Unbounded, direction, usize::MAX, |key, _| {
                    keys.push(String::from_utf8(key.to_vec()).unwrap());
                })
                .unwrap();
            if direction == Direction::Backward {
                keys.reverse();
            }
            assert!(keys.windows(2).all(|pair| pair[0] < pair[1]), "in order, none twice");
            let even = keys.iter().filter(|key| key.parse::<u32>().unwrap() % 2 == 0);
            let wanted = (0..3000u32).step_by(2).map(|number| format!("{number:06}"));
            assert!(even.cloned().eq(wanted), "a key that stays was missed in round {round}");
        }
        if round % 8 == 0 {
            assert_sound(&fabric);
        }
        if round % 4 == 3 {
            workers[at].resume();
        }
    }
    for worker in &mut workers {
        worker.kill();
    }
    drop(workers);
    fabric.reap().unwrap();
    assert_sound(&fabric);
    // What the dead left in the index is taken out by scans that may write.
    for _ in 0..200 {
        store.range(Bound::Unbounded, Bound::Unbounded, Direction::Forward, usize::MAX, |_, _| {}).unwrap();
    }
    assert_sound(&fabric);
}
