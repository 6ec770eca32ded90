//! One small thread for each process that has a store, or a log with files, open: flushes at an interval.
//!
//! It keeps nothing alive: it holds the store or log weakly, ends when that is gone, and a process that returns from `main`
//! does not wait for it. In a forked child it does not exist; the child's copy of the handle knows that and neither locks
//! nor joins anything.

use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::shm::fork;

/// A thread that hangs in a call to a disk is left to itself after this.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Default)]
struct Signals {
    stop: bool,
    ended: bool,
}

/// The thread, as its owner holds it.
pub struct Ticker {
    shared: Arc<(Mutex<Signals>, Condvar)>,
    thread: std::thread::ThreadId,
    generation: u64,
}

impl Ticker {
    /// Calls `tick` at every interval until it returns false or the ticker is dropped.
    pub fn start(interval: Duration, mut tick: impl FnMut() -> bool + Send + 'static) -> Result<Ticker> {
        let generation = fork::begin();
        let shared = Arc::new((Mutex::new(Signals::default()), Condvar::new()));
        let theirs = Arc::clone(&shared);
        let handle = std::thread::Builder::new()
            .name("memora-ticker".to_owned())
            .stack_size(512 << 10)
            .spawn(move || {
                let (signals, changed) = &*theirs;
                let mut next = Instant::now() + interval;
                loop {
                    let mut seen = signals.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                    while !seen.stop {
                        let now = Instant::now();
                        if now >= next {
                            break;
                        }
                        seen = changed
                            .wait_timeout(seen, next - now)
                            .unwrap_or_else(|poisoned| poisoned.into_inner())
                            .0;
                    }
                    if seen.stop {
                        break;
                    }
                    drop(seen);
                    if !tick() {
                        break;
                    }
                    // A slow disk makes the ticks rarer, not more frequent afterwards.
                    next = Instant::now() + interval;
                }
                drop(tick);
                signals.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).ended = true;
                changed.notify_all();
            })
            .map_err(|error| Error::io("clone", "a thread for flushing", &error))?;
        Ok(Ticker { shared, thread: handle.thread().id(), generation })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        // In a forked child the thread is not there, and its lock may be held for ever.
        if fork::generation() != self.generation {
            return;
        }
        let (signals, changed) = &*self.shared;
        let mut seen = signals.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        seen.stop = true;
        changed.notify_all();
        // The last holder of what is flushed may be the thread itself.
        if std::thread::current().id() == self.thread {
            return;
        }
        let start = Instant::now();
        while !seen.ended && start.elapsed() < PATIENCE {
            seen = changed
                .wait_timeout(seen, Duration::from_millis(50))
                .unwrap_or_else(|poisoned| poisoned.into_inner())
                .0;
        }
    }
}

#[cfg(all(test, not(memora_loom)))]
mod tests {
    use super::*;
    use crate::shm::atomic::{AtomicU32, Ordering};

    #[test]
    fn it_ticks_until_it_is_dropped_and_not_after() {
        let count = Arc::new(AtomicU32::new(0));
        let theirs = Arc::clone(&count);
        let ticker = Ticker::start(Duration::from_millis(1), move || {
            theirs.fetch_add(1, Ordering::Relaxed);
            true
        })
        .unwrap();
        while count.load(Ordering::Relaxed) < 3 {
            std::thread::yield_now();
        }
        drop(ticker);
        // The thread has ended: it held the only other reference to the count.
        assert_eq!(Arc::strong_count(&count), 1);
    }

    #[test]
    fn it_ends_by_itself_when_there_is_nothing_left_to_flush() {
        let alive = Arc::new(());
        let weak = Arc::downgrade(&alive);
        let ticker = Ticker::start(Duration::from_millis(1), move || weak.upgrade().is_some()).unwrap();
        drop(alive);
        let shared = Arc::clone(&ticker.shared);
        while !shared.0.lock().unwrap().ended {
            std::thread::yield_now();
        }
        drop(ticker);
        assert!(shared.0.lock().unwrap().stop);
    }
}
