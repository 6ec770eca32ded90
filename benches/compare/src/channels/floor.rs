//! What the hardware and the kernel allow: a cache line that goes from one core to another, and one process that wakes another.

use std::fs::OpenOptions;
use std::time::{Duration, Instant};

use memora::shm::atomic::Ordering;
use memora::shm::{PAGE, Shm, futex};

use super::worker::{Task, let_the_peer_sleep, ready};

const HERE: u64 = 0;
const BACK: u64 = 1024;

fn page(task: &Task) -> Shm {
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(task.folder.join("line"));
    let file = file.expect("a file in the folder");
    file.set_len(PAGE).expect("one page");
    Shm::map_file(&file, PAGE, true).expect("one page")
}

/// `line`: one line goes to and fro; each side owns it when it writes, for it has just read it. `lines`: a line for each direction, as
/// any queue has: who writes must first take it from who looks at it. `futex`: each sleeps until the other wakes it.
pub fn run(task: &Task) -> String {
    let shm = page(task);
    let back = if task.case == "line" { HERE } else { BACK };
    let word = shm.block::<64>(HERE).expect("in the page").u32::<0>();
    let answer = shm.block::<64>(back).expect("in the page").u32::<0>();
    let all = (task.warm() + task.count) as u32;
    let asleep = task.case == "futex";
    let wait = |at: &memora::shm::atomic::AtomicU32, expected: u32| {
        loop {
            let seen = at.load(Ordering::Acquire);
            if seen == expected {
                break;
            }
            if asleep {
                futex::wait(at, seen, Duration::from_millis(50));
            }
        }
    };
    if !task.first {
        word.store(0, Ordering::Release);
        answer.store(0, Ordering::Release);
        ready();
        for round in 0..all {
            wait(word, round * 2 + 1);
            answer.store(round * 2 + 2, Ordering::Release);
            if asleep {
                futex::wake(answer, 1);
            }
        }
        return String::new();
    }
    let mut times = Vec::with_capacity(task.count as usize);
    for round in 0..all {
        if asleep {
            let_the_peer_sleep();
        }
        let start = Instant::now();
        word.store(round * 2 + 1, Ordering::Release);
        if asleep {
            futex::wake(word, 1);
        }
        wait(answer, round * 2 + 2);
        let time = start.elapsed();
        if u64::from(round) >= task.warm() {
            times.push(u32::try_from(time.as_nanos()).unwrap_or(u32::MAX));
        }
    }
    task.answer(&times)
}
