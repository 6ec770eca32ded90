//! What the hardware and the kernel allow: the time in which a cache line goes from one core to another, and in which one
//! process wakes another.

use std::fs::OpenOptions;
use std::time::{Duration, Instant};

use memora::Fabric;
use memora::shm::atomic::Ordering;
use memora::shm::{PAGE, Shm, futex};

use crate::pair::Pair;

/// The second process's task: one line that goes to and fro.
pub const LINE: u8 = b'F';
/// The second process's task: a line for each direction.
pub const LINES: u8 = b'G';
/// The second process's task: it sleeps until it is woken, and wakes.
pub const WAKE: u8 = b'W';

const HERE: u64 = 0;
const BACK: u64 = 1024;

/// Leaves a peer the time to fall asleep.
pub fn let_the_peer_sleep() {
    let start = Instant::now();
    while start.elapsed() < Duration::from_micros(200) {
        std::hint::spin_loop();
    }
}

fn page(fabric: &Fabric) -> Shm {
    let path = fabric.path().expect("a fabric in a file").with_file_name("line");
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    let file = file.expect("a file beside the fabric");
    file.set_len(PAGE).expect("one page");
    Shm::map_file(&file, PAGE, true).expect("one page")
}

/// The second process's side: answers each odd number with the even one behind it.
pub fn answer(fabric: &Fabric, task: u8, count: u64) {
    let shm = page(fabric);
    let back = if task == LINE { HERE } else { BACK };
    let word = shm.block::<64>(HERE).expect("in the page").u64::<0>();
    let answer = shm.block::<64>(back).expect("in the page").u64::<0>();
    for round in 0..count {
        while word.load(Ordering::Acquire) != round * 2 + 1 {}
        answer.store(round * 2 + 2, Ordering::Release);
    }
}

/// Nanoseconds in which a line goes one way between two processes. With one line (`LINE`) each side owns it when it writes, for
/// it has just read it. With a line for each direction (`LINES`), as any queue has, who writes must first take it from who looks
/// at it.
pub fn line_transfer(pair: &mut Pair, task: u8) -> f64 {
    const COUNT: u64 = 100_000;
    let shm = page(&pair.fabric);
    let back = if task == LINE { HERE } else { BACK };
    let word = shm.block::<64>(HERE).expect("in the page").u64::<0>();
    let answer = shm.block::<64>(back).expect("in the page").u64::<0>();
    word.store(0, Ordering::Release);
    answer.store(0, Ordering::Release);
    pair.start(task, COUNT);
    let mut start = Instant::now();
    for round in 0..COUNT {
        // The second process has woken after the first rounds.
        if round == COUNT / 10 {
            start = Instant::now();
        }
        word.store(round * 2 + 1, Ordering::Release);
        while answer.load(Ordering::Acquire) != round * 2 + 2 {}
    }
    start.elapsed().as_nanos() as f64 / (COUNT - COUNT / 10) as f64 / 2.0
}

/// The second process's side of [`futex_round_trip`].
pub fn wake_back(fabric: &Fabric, count: u64) {
    let shm = page(fabric);
    let word = shm.block::<64>(HERE).expect("in the page").u32::<0>();
    let answer = shm.block::<64>(BACK).expect("in the page").u32::<0>();
    for round in 1..=count as u32 {
        while word.load(Ordering::Acquire) != round {
            futex::wait(word, round - 1, Duration::from_millis(50));
        }
        answer.store(round, Ordering::Release);
        futex::wake(answer, 1);
    }
}

/// Nanoseconds in which one process wakes another by a bare futex and is woken by it.
pub fn futex_round_trip(pair: &mut Pair, count: u64) -> f64 {
    let shm = page(&pair.fabric);
    let word = shm.block::<64>(HERE).expect("in the page").u32::<0>();
    let answer = shm.block::<64>(BACK).expect("in the page").u32::<0>();
    word.store(0, Ordering::Release);
    answer.store(0, Ordering::Release);
    pair.start(WAKE, count);
    let mut total = Duration::ZERO;
    for round in 1..=count as u32 {
        let_the_peer_sleep();
        let start = Instant::now();
        word.store(round, Ordering::Release);
        futex::wake(word, 1);
        while answer.load(Ordering::Acquire) != round {
            futex::wait(answer, round - 1, Duration::from_millis(50));
        }
        total += start.elapsed();
    }
    total.as_nanos() as f64 / count as f64
}
