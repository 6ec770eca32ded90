//! What the hardware allows: the time in which a cache line goes from one core to another.

use std::fs::OpenOptions;
use std::time::Instant;

use memora::Fabric;
use memora::shm::atomic::Ordering;
use memora::shm::{PAGE, Shm};

use crate::pair::Pair;

/// The second process's task.
pub const TASK: u8 = b'F';

fn line(fabric: &Fabric) -> Shm {
    let path = fabric.path().expect("a fabric in a file").with_file_name("line");
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    let file = file.expect("a file beside the fabric");
    file.set_len(PAGE).expect("one page");
    Shm::map_file(&file, PAGE, true).expect("one page")
}

/// The second process's side: answers each odd number with the even one behind it.
pub fn answer(fabric: &Fabric, count: u64) {
    let shm = line(fabric);
    let word = shm.block::<64>(0).expect("in the page").u64::<0>();
    for round in 0..count {
        while word.load(Ordering::Acquire) != round * 2 + 1 {}
        word.store(round * 2 + 2, Ordering::Release);
    }
}

/// Nanoseconds in which a line goes one way between two processes.
pub fn line_transfer(pair: &mut Pair) -> f64 {
    const COUNT: u64 = 100_000;
    let shm = line(&pair.fabric);
    let word = shm.block::<64>(0).expect("in the page").u64::<0>();
    word.store(0, Ordering::Release);
    pair.start(TASK, COUNT);
    let mut start = Instant::now();
    for round in 0..COUNT {
        // The second process has woken after the first rounds.
        if round == COUNT / 10 {
            start = Instant::now();
        }
        word.store(round * 2 + 1, Ordering::Release);
        while word.load(Ordering::Acquire) != round * 2 + 2 {}
    }
    start.elapsed().as_nanos() as f64 / (COUNT - COUNT / 10) as f64 / 2.0
}
