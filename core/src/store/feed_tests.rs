//! Feeds of a store whose flushes are written in parts.

use std::sync::Barrier;

use super::tests::Memory;
use super::*;
use crate::journal::sim::Disk;

#[test]
fn the_states_of_a_key_come_in_order_wherever_they_stand_in_memory() {
    // The later state stands in the chunk that is walked first, or in the other one.
    for late_first in [false, true] {
        let (disk, memory) = (Disk::default(), Memory::new(256, 16 << 10));
        let store = memory.store(&disk).unwrap();
        store.shared.core.keep_feed(Some(64 << 20)).unwrap();
        let mut feed = store.feed(FeedFrom::Oldest, b"key").unwrap();
        let step = Barrier::new(2);
        let fill = |name: &str| {
            for number in 0..100 {
                store.set(format!("{name} {number}").as_bytes(), b"").unwrap();
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                if late_first {
                    store.set(b"first", b"").unwrap();
                }
                step.wait();
                step.wait();
                store.set(b"key", b"2").unwrap();
                fill("late");
            });
            step.wait();
            store.set(b"key", b"1").unwrap();
            fill("early");
            step.wait();
        });
        store.flush().unwrap();
        let values: Vec<Vec<u8>> =
            std::iter::from_fn(|| feed.try_next().unwrap()).map(|change| change.value.unwrap()).collect();
        assert_eq!(values, [b"1", b"2"], "late first {late_first}");
        memory.assert_sound();
    }
}
