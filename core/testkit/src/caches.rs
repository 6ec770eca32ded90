//! What must be so of the caches of the stress workers whenever nobody works on them.

use memora::Fabric;
use memora_stress::evict::{CACHES, Caches, Place};

/// Nobody works now: what is there is what counts. `taking`: workers that may be about to take a chunk.
pub fn within_limits(fabric: &Fabric, caches: &Caches, taking: u64) {
    let objects = fabric.objects().expect("readable");
    for (Place { name, limit, entries, .. }, cache) in CACHES.iter().zip(caches.each()) {
        let object = objects.iter().find(|object| object.name == *name).expect("it exists");
        let chunk = object.bytes / object.chunks;
        if let Some(limit) = limit {
            assert!(
                object.bytes <= limit + taking * chunk,
                "{name} has {} chunks of {chunk} bytes, and a limit of {limit}",
                object.chunks
            );
        }
        if let Some(limit) = entries {
            let found = cache.iter().inspect(|entry| assert!(entry.is_ok(), "{name}")).count() as u64;
            assert!(found <= *limit, "{name} has {found} entries of {limit}");
        }
    }
}

/// All users are dead and reaped.
pub fn counts_are_exact(caches: &Caches) {
    for (Place { name, .. }, cache) in CACHES.iter().zip(caches.each()) {
        let found: Vec<_> = cache.iter().map(|entry| entry.expect("readable")).collect();
        assert_eq!(cache.len().expect("counted"), found.len() as u64, "{name}");
    }
}
