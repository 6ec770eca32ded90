//! Bytes that an entry costs beside its key and value, at a million entries.

use std::os::unix::fs::MetadataExt;

use memora::{CacheOptions, WhenFull};

use crate::harness::{Figure, Report, Samples};
use crate::load::all_keys;
use crate::peer::{ENTRIES, Handle, KEY, VALUE, memora};
use crate::server::{Kind, Server};

fn for_each_entry(bytes: u64) -> f64 {
    bytes as f64 / ENTRIES as f64 - (KEY + VALUE) as f64
}

/// Loads the same entries everywhere and looks at the pages in use.
pub fn run(report: &Report) {
    let folder = crate::folder();
    let value = [7u8; VALUE];
    let home = folder.path().join("memora");
    let options = CacheOptions { when_full: WhenFull::Reject, ..CacheOptions::default() };
    let cache = memora(&home, 512 << 20, &options);
    let file = home.join("compare.fabric");
    let used = || std::fs::metadata(&file).map_or(0, |data| data.blocks() * 512);
    let before = used();
    all_keys().for_each(|key| {
        cache.set(&key, &value).expect("set");
    });
    let mut ours = Samples::default();
    ours.push(for_each_entry(used() - before));

    let mut beside = Vec::new();
    for kind in [Kind::Redis, Kind::Memcached] {
        let Some(server) = Server::start(kind, folder.path(), 1024) else {
            println!("skipped: {kind:?} is not installed or does not start");
            continue;
        };
        let before = server.resident();
        server.connect().fill(&mut all_keys().map(Vec::from), &value);
        beside.push((server.name.clone(), for_each_entry(server.resident() - before)));
    }
    let beside: Vec<(&str, f64)> = beside.iter().map(|(name, bytes)| (name.as_str(), *bytes)).collect();
    report.add_beside(
        &Figure {
            bench: "compare",
            case: "memory beside key and value, 1M 16B/100B",
            procs: 1,
            unit: "B/entry",
            samples: &ours,
            floor: None,
            goal: Some("48 B"),
        },
        &beside,
    );
}
