//! Waiting for messages, for room or for a signal: spin, yield, park; and waking who is parked.
//!
//! A wait word holds `{waiters 1 | fenced 1 | sequence 30}`. Who publishes stores its data and then looks at the word by a plain
//! load; who wants to sleep sets the bit and then looks at the data. The full fence that both need is paid by the sleeper
//! alone ([`fence::heavy`]). Where the kernel refuses that, `fenced` is set for ever and whoever publishes pays too.
//! The waker clears the bit, so there is one wake for a sleep. A waker that dies between its store and the wake costs the
//! sleeper at most one slice.

use std::time::{Duration, Instant};

use crate::limits::WAIT_SLICE_MS;
use crate::shm::atomic::{AtomicU32, Ordering, fence as full_fence, spin_hint, yield_now};
use crate::shm::{fence, futex};

const WAITERS: u32 = 1;
const FENCED: u32 = 2;
const STEP: u32 = 4;

/// One side's view of a wait word.
#[derive(Clone, Copy)]
pub struct WaitWord<'a> {
    word: &'a AtomicU32,
    /// Whether heavy fences of others reach this process.
    registered: bool,
}

impl<'a> WaitWord<'a> {
    #[inline(always)]
    pub fn new(word: &'a AtomicU32, registered: bool) -> WaitWord<'a> {
        WaitWord { word, registered }
    }

    /// The word itself, for who sleeps on several.
    pub fn word(self) -> &'a AtomicU32 {
        self.word
    }

    /// After the store that others wait for: wakes them if anybody sleeps. No system call and no fence otherwise.
    #[inline(always)]
    pub fn notify(self) {
        if self.registered {
            fence::light();
        } else {
            // ORDER SeqCst [wait]: heavy fences of others do not reach this process; pairs with the fence in `arm`.
            full_fence(Ordering::SeqCst);
        }
        // ORDER Relaxed: the fences on both sides order it against the data.
        let seen = self.word.load(Ordering::Relaxed);
        if seen & (WAITERS | FENCED) != 0 {
            self.wake(seen);
        }
    }

    #[cold]
    #[inline(never)]
    fn wake(self, mut seen: u32) {
        if seen & FENCED != 0 {
            // ORDER SeqCst [wait]: somebody sleeps whose heavy fences do not work; pairs with the fence in `arm`.
            full_fence(Ordering::SeqCst);
            // ORDER Relaxed: the fence orders it.
            seen = self.word.load(Ordering::Relaxed);
        }
        if seen & WAITERS == 0 {
            return;
        }
        kill_point!("channel.wake.before_clear");
        // Twice, as a sleeper may set the other bit in between; else who fails leaves it to the one who succeeded.
        for _ in 0..2 {
            let next = (seen & !WAITERS).wrapping_add(STEP);
            // ORDER Relaxed: sleepers look at the data anew.
            match self.word.compare_exchange(seen, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => {
                    // DIES AFTER: the sleepers wake at the end of their slice, or when the reaper pays what was owed.
                    kill_point!("channel.wake.cleared");
                    futex::wake(self.word, u32::MAX);
                    return;
                }
                Err(now) if now & WAITERS == 0 => return,
                Err(now) => seen = now,
            }
        }
    }

    /// Wakes everybody who sleeps or is about to: what a dead process may have owed.
    pub fn wake_all(self) {
        // ORDER SeqCst [wait]: the repair came before; pairs with the fence in `arm`.
        full_fence(Ordering::SeqCst);
        // ORDER Relaxed: a late sleeper finds another sequence and does not sleep.
        self.word.fetch_add(STEP, Ordering::Relaxed);
        futex::wake(self.word, u32::MAX);
    }

    /// Announces a sleeper. The caller then looks once more at what it waits for, and sleeps with what this gives.
    pub fn arm(self) -> u32 {
        let bits = if self.registered { WAITERS } else { WAITERS | FENCED };
        // ORDER Relaxed: the fence below orders it.
        let mut armed = self.word.fetch_or(bits, Ordering::Relaxed) | bits;
        kill_point!("channel.wait.armed");
        if !self.registered {
            // ORDER SeqCst [wait]: the bit before the second look; pairs with the fences in `notify` and `wake`.
            full_fence(Ordering::SeqCst);
        } else if !fence::heavy() {
            // ORDER Relaxed: the fence below orders it.
            armed = self.word.fetch_or(FENCED, Ordering::Relaxed) | FENCED;
            // ORDER SeqCst [wait]: as above.
            full_fence(Ordering::SeqCst);
        }
        armed
    }

    /// Sleeps until a wake after `armed`, at most one slice.
    pub fn sleep(self, armed: u32, at_most: Duration) {
        futex::wait(self.word, armed, at_most);
    }
}

/// How a waiter spends its time. Tells the caller when to look again.
#[derive(Debug)]
pub struct Backoff {
    round: u32,
    spins: u32,
    deadline: Option<Instant>,
    slice: Duration,
}

/// Tight looks before the first pause: what is on its way arrives within them.
const TIGHT: u32 = 64;
/// Yields before parking.
const YIELDS: u32 = 12;
/// Looks with a pause, at least and at most.
const SPINS_MIN: u32 = 16;
const SPINS_MAX: u32 = 512;

/// What a waiter remembers from one wait to the next: whether spinning paid.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    spins: u32,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience { spins: SPINS_MAX / 2 }
    }
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Look again.
    Again,
    /// Announce yourself, look once more, then sleep this long.
    Park(Duration),
    /// The time is over.
    TimedOut,
}

impl Backoff {
    /// A wait until `timeout` is over, which parks for `slice` at most.
    pub fn new(patience: &Patience, timeout: Option<Duration>, slice: Duration) -> Backoff {
        Backoff {
            round: 0,
            spins: patience.spins,
            // A time beyond what a clock can show is no limit.
            deadline: timeout.and_then(|timeout| Instant::now().checked_add(timeout)),
            slice: slice.min(Duration::from_millis(WAIT_SLICE_MS)),
        }
    }

    /// Spends a moment.
    pub fn step(&mut self) -> Step {
        self.round = self.round.saturating_add(1);
        if self.round <= TIGHT {
            return Step::Again;
        }
        if self.round <= TIGHT + self.spins {
            spin_hint();
            return Step::Again;
        }
        let left = match self.deadline {
            None => self.slice,
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Step::TimedOut;
                }
                left.min(self.slice)
            }
        };
        if self.round <= TIGHT + self.spins + YIELDS {
            yield_now();
            return Step::Again;
        }
        Step::Park(left)
    }

    /// What was waited for is there: remembers whether spinning was enough.
    pub fn done(&self, patience: &mut Patience) {
        if self.round <= TIGHT + self.spins {
            patience.spins = (patience.spins * 2).min(SPINS_MAX);
        } else {
            patience.spins = (patience.spins / 2).max(SPINS_MIN);
        }
    }
}

#[cfg(all(test, not(memora_loom)))]
mod tests {
    use super::*;
    use crate::shm::Shm;

    #[test]
    fn nobody_is_woken_who_does_not_sleep_and_one_wake_clears_the_bit() {
        let shm = Shm::heap(4096).unwrap();
        let word = shm.block::<8>(0).unwrap().u32::<0>();
        let wait = WaitWord::new(word, true);
        wait.notify();
        assert_eq!(word.load(Ordering::Relaxed), 0);
        let armed = wait.arm();
        assert_eq!(armed & WAITERS, WAITERS);
        wait.notify();
        assert_eq!(word.load(Ordering::Relaxed) & WAITERS, 0);
        assert_ne!(
            word.load(Ordering::Relaxed) & !FENCED,
            0,
            "the sequence went on: a late sleeper does not sleep"
        );
        wait.sleep(armed, Duration::from_secs(9));
    }

    #[test]
    fn who_cannot_fence_others_makes_them_fence() {
        let shm = Shm::heap(4096).unwrap();
        let word = shm.block::<8>(0).unwrap().u32::<0>();
        let armed = WaitWord::new(word, false).arm();
        assert_eq!(armed, WAITERS | FENCED);
        WaitWord::new(word, true).notify();
        assert_eq!(word.load(Ordering::Relaxed) & (WAITERS | FENCED), FENCED, "woken, and the mark stays");
    }

    #[test]
    fn sleepers_and_wakers_hand_over_every_number_with_each_kind_of_fence() {
        for registered in [fence::register(), false] {
            let shm = Shm::heap(4096).unwrap();
            let block = shm.block::<256>(0).unwrap();
            let (word, data) = (block.u32::<0>(), block.u64::<128>());
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    for number in 1..=2000u64 {
                        data.store(number, Ordering::Release);
                        WaitWord::new(word, registered).notify();
                        if number % 50 == 0 {
                            std::thread::sleep(Duration::from_micros(200));
                        }
                    }
                });
                let mut seen = 0;
                while seen < 2000 {
                    let wait = WaitWord::new(word, registered);
                    let armed = wait.arm();
                    let now = data.load(Ordering::Acquire);
                    assert!(now >= seen);
                    if now == seen {
                        wait.sleep(armed, Duration::from_millis(50));
                    }
                    seen = now;
                }
            });
        }
    }
}
