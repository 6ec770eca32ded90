//! A process that has one database open and does what it is told.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::engine::{Engine, Handle, Safe, open};
use super::{BATCH, Key, SCAN, VALUE, key};
use crate::harness::Random;

/// What a worker is to open: the name of the engine.
pub const ENGINE: &str = "MEMORA_COMPARE_STORE";
/// Where its files stand.
pub const FILES: &str = "MEMORA_COMPARE_STORE_FILES";
/// Where its memory stands.
pub const MEMORY: &str = "MEMORA_COMPARE_STORE_MEMORY";
/// How many keys there are.
pub const KEYS: &str = "MEMORA_COMPARE_STORE_KEYS";

/// The first byte of the value that must be found after a kill.
pub const LAST: u8 = 99;

/// Numbers below `keys`, each once, in an order that looks like none.
fn shuffled(keys: u64) -> impl Iterator<Item = u64> {
    // A prime that does not divide it.
    let step = [611_953, 700_001, 750_019].into_iter().find(|prime| keys % prime != 0).expect("one of them");
    (0..keys).map(move |number| number * step % keys)
}

/// A value that is not the one before: some do not write what is there already.
fn fresh(number: u64) -> [u8; VALUE] {
    let mut value = [7; VALUE];
    value[1..9].copy_from_slice(&number.to_be_bytes());
    value
}

/// Puts all keys, [`BATCH`] in a transaction.
fn put_all(handle: &mut dyn Handle, keys: u64, value: &[u8]) {
    let mut rest = shuffled(keys).map(key).peekable();
    while rest.peek().is_some() {
        handle.batch(&mut rest.by_ref().take(BATCH), value, Safe::Soon);
    }
}

/// Does one of what is measured, and says how many operations that was.
fn step(handle: &mut dyn Handle, case: &str, random: &mut Random, keys: u64) -> u64 {
    let value = fresh(random.next());
    let mut any = || key(random.below(keys));
    let safe = if case.ends_with(" sync") { Safe::Now } else { Safe::Soon };
    match case.split(' ').next() {
        Some("get") => {
            let mut into = [0; VALUE];
            assert_eq!(handle.get(&any(), &mut into), Some(VALUE), "a value");
        }
        Some("put") => handle.put(&any(), &value, safe),
        Some("batch") => {
            handle.batch(&mut (0..BATCH).map(|_| any()), &value, safe);
            return BATCH as u64;
        }
        Some("transaction") => handle.transfer(&std::array::from_fn(|_| any()), safe),
        _ => {
            let (mut bytes, mut sum) = (0, 0u64);
            let from = key(random.below(keys - SCAN as u64));
            let visited = handle.scan(&from, SCAN, &mut |key, value| {
                bytes += key.len() + value.len();
                sum += u64::from(key[0]) + u64::from(value[0]);
            });
            assert_eq!((visited, bytes), (SCAN, SCAN * (size_of::<Key>() + VALUE)), "all of them");
            assert!(sum > 0, "what is visited is looked at");
            return SCAN as u64;
        }
    }
    1
}

/// Operations a nanosecond of one thread.
fn rate(handle: &mut dyn Handle, case: &str, random: &mut Random, keys: u64, time: Duration) -> f64 {
    // Between two looks at the clock.
    let group = if case.starts_with("get") || case == "put async" { 32 } else { 1 };
    let mut run = |time: Duration| {
        let (start, mut count) = (Instant::now(), 0);
        while start.elapsed() < time {
            count += (0..group).map(|_| step(handle, case, random, keys)).sum::<u64>();
        }
        count as f64 / start.elapsed().as_nanos() as f64
    };
    run(time / 10);
    run(time)
}

/// Nanoseconds an operation of all threads together.
fn measure(engine: &dyn Engine, words: &[u64], case: &str, keys: u64) -> Option<f64> {
    let [threads, seed, millis] = *words else { return None };
    engine.prepare(if case.ends_with(" sync") { Safe::Now } else { Safe::Soon });
    let time = Duration::from_millis(millis);
    let rates: f64 = std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads)
            .map(|thread| {
                scope.spawn(move || {
                    let mut random = Random(seed.wrapping_mul(1 << 20) + thread);
                    rate(engine.handle().as_mut(), case, &mut random, keys, time)
                })
            })
            .collect();
        all.into_iter().map(|one| one.join().expect("a writer")).sum()
    });
    Some(1.0 / rates)
}

/// What one task answers.
fn perform(engine: &dyn Engine, task: &str, keys: u64) -> Option<f64> {
    let (case, words) = task.split_once(':')?;
    let words: Vec<u64> = words.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let start = Instant::now();
    match case {
        "load" => {
            engine.prepare(Safe::Soon);
            for time in 0..*words.first()? {
                put_all(engine.handle().as_mut(), keys, &fresh(time));
            }
            engine.settle();
            Some(start.elapsed().as_nanos() as f64 / keys as f64)
        }
        "settle" => {
            engine.settle();
            Some(0.0)
        }
        "last" => {
            measure(engine, &words, "put async", keys)?;
            engine.prepare(Safe::Now);
            engine.handle().put(&key(0), &[LAST; VALUE], Safe::Now);
            Some(0.0)
        }
        _ => measure(engine, &words, case, keys),
    }
}

/// Opens its database, reads one key, and does tasks until its input ends; None where this process is none of these.
pub fn serve() -> Option<ExitCode> {
    let name = std::env::var(ENGINE).ok()?;
    let place = |variable| std::env::var_os(variable).map(PathBuf::from);
    let (files, memory) = (place(FILES)?, place(MEMORY)?);
    let keys: u64 = std::env::var(KEYS).ok()?.parse().ok()?;
    let start = Instant::now();
    let engine = match open(&name, &files, &memory, keys) {
        Ok(engine) => engine,
        Err(why) => {
            eprintln!("{name}: {why}");
            return Some(ExitCode::FAILURE);
        }
    };
    let mut value = [0; VALUE];
    let found = engine.handle().get(&key(0), &mut value);
    println!("ready {} {}", start.elapsed().as_nanos(), found.map_or(0, |_| value[0]));
    for task in std::io::stdin().lines() {
        match perform(engine.as_ref(), &task.ok()?, keys) {
            Some(nanos) => println!("done {nanos}"),
            None => println!("done what?"),
        }
    }
    drop(engine);
    println!("done");
    Some(ExitCode::SUCCESS)
}
