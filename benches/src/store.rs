//! The store: reading, writing async, writing sync with one and with eight writers, beside a bare `fdatasync`.

use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use memora::{Create, Durability, FabricOptions, Store, StoreOptions};

use crate::harness::{Case, Figure, Random, Report, interleave};

const KEYS: u64 = 10_000;
const VALUE: [u8; 100] = [7; 100];

fn key(number: u64) -> [u8; 16] {
    let mut key = *b"key-000000000000";
    key[8..].copy_from_slice(&number.to_be_bytes());
    key
}

/// Nanoseconds of one `pwrite` of 4 KiB over existing blocks and its `fdatasync`.
fn bare_sync(file: &mut std::fs::File, times: u32) -> f64 {
    let page = [1u8; 4096];
    let start = Instant::now();
    for _ in 0..times {
        file.seek(SeekFrom::Start(0)).expect("seek");
        file.write_all(&page).expect("write");
        file.sync_data().expect("fdatasync");
    }
    start.elapsed().as_nanos() as f64 / f64::from(times)
}

/// Nanoseconds for each change when `writers` threads make `each` durable changes at once.
fn sync_writes(store: &Store, writers: u64, each: u64, seed: &AtomicU64) -> f64 {
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..writers {
            scope.spawn(|| {
                let mut random = Random(seed.fetch_add(1, Ordering::Relaxed));
                for _ in 0..each {
                    let key = key(random.next() % KEYS);
                    store.set_durable(&key, &VALUE, Durability::Sync).expect("set");
                }
            });
        }
    });
    start.elapsed().as_nanos() as f64 / (writers * each) as f64
}

/// Nanoseconds of a transaction that reads four keys and writes them again.
fn transactions(store: &Store, random: &mut Random, times: u32) -> f64 {
    let start = Instant::now();
    for _ in 0..times {
        let keys: [_; 4] = std::array::from_fn(|_| key(random.next() % KEYS));
        store
            .transact(|transaction| {
                for key in &keys {
                    let mut value = transaction.get(key)?.expect("a value");
                    value[0] = value[0].wrapping_add(1);
                    transaction.put(key, &value)?;
                }
                Ok(())
            })
            .expect("a transaction");
    }
    start.elapsed().as_nanos() as f64 / f64::from(times)
}

/// Runs all cases; the files stand below `target/bench`, on the disk of the sources.
pub fn run(report: &Report) {
    let place = Path::new("target/bench").join(format!("store-{}", std::process::id()));
    std::fs::create_dir_all(&place).expect("a directory for the files");
    let home = std::env::temp_dir().join(format!("memora-bench-{}", std::process::id()));
    let name = "bench-store";
    let fabric = FabricOptions::new()
        .home(home.clone())
        .limit(256 << 20)
        .create(Create::CreateNew)
        .open(name)
        .expect("a fabric");
    let options = StoreOptions { dir: Some(place.join("files")), ..StoreOptions::default() };
    let store = fabric.store("bench", &options).expect("a store");
    for number in 0..KEYS {
        store.set(&key(number), &VALUE).expect("set");
    }
    let mut bare = std::fs::File::create(place.join("bare")).expect("a file");
    bare.write_all(&[0; 4096]).and_then(|()| bare.sync_all()).expect("a first write");
    let in_memory = StoreOptions { durability: Durability::Process, ..StoreOptions::default() };
    let memory = fabric.store("memory", &in_memory).expect("a store without files");
    for number in 0..KEYS {
        memory.set(&key(number), &VALUE).expect("set");
    }
    let mut memory_writes = Random(13);
    let (mut memory_transactions, mut store_transactions) = (Random(15), Random(17));
    let seed = AtomicU64::new(1);
    let mut value = [0; 128];
    let mut random = Random(9);
    let mut writes = Random(11);
    let mut cases: Vec<Case<'_>> = vec![
        (
            "get, 10 k keys, 100 B",
            Box::new(|| {
                let start = Instant::now();
                for _ in 0..200_000 {
                    let found = store.get_into(&key(random.next() % KEYS), &mut value).expect("get");
                    assert_eq!(found, Some(VALUE.len()));
                }
                start.elapsed().as_nanos() as f64 / 200_000.0
            }),
        ),
        (
            "overwrite without files, 10 k keys, 100 B",
            Box::new(|| {
                let start = Instant::now();
                for _ in 0..200_000 {
                    memory.set(&key(memory_writes.next() % KEYS), &VALUE).expect("set");
                }
                start.elapsed().as_nanos() as f64 / 200_000.0
            }),
        ),
        (
            "overwrite async, 10 k keys, 100 B",
            Box::new(|| {
                let start = Instant::now();
                for _ in 0..200_000 {
                    store.set(&key(writes.next() % KEYS), &VALUE).expect("set");
                }
                start.elapsed().as_nanos() as f64 / 200_000.0
            }),
        ),
        (
            "transaction without files, 4 keys read and written",
            Box::new(|| transactions(&memory, &mut memory_transactions, 50_000)),
        ),
        (
            "transaction async, 4 keys read and written",
            Box::new(|| transactions(&store, &mut store_transactions, 50_000)),
        ),
        ("bare fdatasync of a 4 KiB overwrite", Box::new(|| bare_sync(&mut bare, 200))),
        ("set sync, 1 writer", Box::new(|| sync_writes(&store, 1, 200, &seed))),
        ("set sync, 8 writers, per change", Box::new(|| sync_writes(&store, 8, 100, &seed))),
    ];
    let samples = interleave(5, &mut cases);
    let names: Vec<&str> = cases.iter().map(|(name, _)| *name).collect();
    drop(cases);
    let bare = names.iter().position(|name| name.starts_with("bare")).expect("the case of the floor");
    let bare_ns = samples[bare].median();
    for (case, samples) in names.iter().zip(&samples) {
        report.add(&Figure {
            bench: "store",
            case,
            procs: 1,
            unit: "ns/op",
            samples,
            floor: case.starts_with("set sync").then_some(("bare fdatasync", bare_ns)),
            goal: None,
        });
    }
    store.close().expect("close");
    drop((store, memory, fabric));
    let _ = std::fs::remove_dir_all(&place);
    let _ = std::fs::remove_dir_all(&home);
}
