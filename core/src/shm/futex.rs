//! Sleeping on a shared word and waking its sleepers.
//!
//! The futex is shared, not private: private ones do not reach other processes. A sleep is never longer than
//! [`WAIT_SLICE_MS`](crate::limits::WAIT_SLICE_MS): whoever should wake us may be killed before it does.

use std::time::Duration;

use super::atomic::AtomicU32;

/// Why a sleep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitResult {
    /// Somebody woke us, or a signal came.
    Woken,
    /// The word had another value at the start.
    Changed,
    /// The slice or the caller's time is over.
    TimedOut,
}

/// Words that can be waited for at once.
pub const WAIT_MANY_MAX: usize = 128;

#[cfg(not(memora_loom))]
mod real {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    use crate::limits::WAIT_SLICE_MS;

    /// Sleeps while `word` holds `expected`, at most one slice and at most `timeout`.
    pub fn wait(word: &AtomicU32, expected: u32, timeout: Duration) -> WaitResult {
        let slice = timeout.min(Duration::from_millis(WAIT_SLICE_MS));
        let limit = libc::timespec {
            tv_sec: slice.as_secs() as libc::time_t,
            tv_nsec: slice.subsec_nanos() as libc::c_long,
        };
        // SAFETY: the word and the time limit are valid for the call; FUTEX_WAIT ignores the other arguments.
        let result = unsafe {
            libc::syscall(
                libc::SYS_futex,
                word.as_ptr(),
                libc::FUTEX_WAIT,
                expected,
                &raw const limit,
                0usize,
                0u32,
            )
        };
        if result == 0 {
            return WaitResult::Woken;
        }
        match std::io::Error::last_os_error().raw_os_error() {
            Some(libc::ETIMEDOUT) => WaitResult::TimedOut,
            Some(libc::EAGAIN) => WaitResult::Changed,
            _ => WaitResult::Woken,
        }
    }

    /// One word of [`wait_many`], as the kernel has it (`struct futex_waitv`).
    #[repr(C)]
    struct Waited {
        value: u64,
        address: u64,
        flags: u32,
        reserved: u32,
    }

    /// The word has 32 bits and is shared between processes (`FUTEX2_SIZE_U32`).
    const SHARED_WORD: u32 = 2;

    /// Whether the kernel, or a filter, refuses to wait for several words.
    static REFUSED: AtomicBool = AtomicBool::new(false);

    /// Sleeps while each of the words holds the value beside it, at most one slice and at most `timeout`. Where the kernel cannot
    /// do that, while the first one does, at most a millisecond.
    pub fn wait_many(words: &[(&AtomicU32, u32)], timeout: Duration) -> WaitResult {
        let Some((first, expected)) = words.first() else { return WaitResult::TimedOut };
        if words.len() == 1 {
            return wait(first, *expected, timeout);
        }
        // ORDER Relaxed: private to the process, and only a hint.
        if REFUSED.load(Ordering::Relaxed) || words.len() > WAIT_MANY_MAX {
            return wait(first, *expected, timeout.min(Duration::from_millis(1)));
        }
        let waited: Vec<_> = words
            .iter()
            .map(|(word, value)| Waited {
                value: u64::from(*value),
                address: word.as_ptr() as u64,
                flags: SHARED_WORD,
                reserved: 0,
            })
            .collect();
        let slice = timeout.min(Duration::from_millis(WAIT_SLICE_MS));
        let end = u128::from(crate::shm::time::monotonic_ns()) + slice.as_nanos();
        let end = libc::timespec {
            tv_sec: (end / 1_000_000_000) as libc::time_t,
            tv_nsec: (end % 1_000_000_000) as libc::c_long,
        };
        // SAFETY: the words, their descriptions and the end of the time are valid for the call, and as many as said.
        let result = unsafe {
            libc::syscall(
                libc::SYS_futex_waitv,
                waited.as_ptr(),
                waited.len(),
                0usize,
                &raw const end,
                libc::CLOCK_MONOTONIC,
            )
        };
        if result >= 0 {
            return WaitResult::Woken;
        }
        match std::io::Error::last_os_error().raw_os_error() {
            Some(libc::ETIMEDOUT) => WaitResult::TimedOut,
            Some(libc::EAGAIN) => WaitResult::Changed,
            // A kernel without it, or a filter.
            Some(libc::ENOSYS | libc::EPERM) => {
                // ORDER Relaxed: as above.
                REFUSED.store(true, Ordering::Relaxed);
                WaitResult::Woken
            }
            _ => WaitResult::Woken,
        }
    }

    /// Wakes up to `count` sleepers of `word`; returns how many.
    pub fn wake(word: &AtomicU32, count: u32) -> u32 {
        let count = count.min(i32::MAX as u32);
        // SAFETY: the word is mapped for the call; FUTEX_WAKE does not dereference the other arguments.
        let woken = unsafe {
            libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, count, 0usize, 0usize, 0u32)
        };
        u32::try_from(woken).unwrap_or(0)
    }
}

#[cfg(memora_loom)]
mod real {
    use super::*;
    use crate::shm::atomic::Ordering::SeqCst;

    /// A model does not sleep: it yields once and says whether the word still holds `expected`. A model of a wait
    /// protocol asserts that it never reaches a state in which only this slice would rescue it.
    pub fn wait(word: &AtomicU32, expected: u32, _timeout: Duration) -> WaitResult {
        if word.load(SeqCst) != expected {
            return WaitResult::Changed;
        }
        loom::thread::yield_now();
        WaitResult::TimedOut
    }

    /// As [`wait`], for several words.
    pub fn wait_many(words: &[(&AtomicU32, u32)], timeout: Duration) -> WaitResult {
        if words.iter().any(|(word, expected)| word.load(SeqCst) != *expected) {
            return WaitResult::Changed;
        }
        words.first().map_or(WaitResult::TimedOut, |(word, expected)| wait(word, *expected, timeout))
    }

    /// Nobody sleeps in a model.
    pub fn wake(_word: &AtomicU32, _count: u32) -> u32 {
        0
    }
}

pub use real::{wait, wait_many, wake};

#[cfg(all(test, not(memora_loom)))]
mod tests {
    use super::*;
    use crate::shm::Shm;
    use crate::shm::atomic::Ordering::SeqCst;

    #[test]
    fn a_sleeper_sees_a_changed_word_a_wake_and_a_time_out() {
        let shm = Shm::heap(4096).unwrap();
        let word = shm.block::<8>(0).unwrap().u32::<0>();
        assert_eq!(wait(word, 1, Duration::from_secs(5)), WaitResult::Changed);
        assert_eq!(wait(word, 0, Duration::from_millis(1)), WaitResult::TimedOut);
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| {
                while word.load(SeqCst) == 0 {
                    wait(word, 0, Duration::from_secs(5));
                }
                word.load(SeqCst)
            });
            word.store(7, SeqCst);
            wake(word, 1);
            assert_eq!(sleeper.join().unwrap(), 7);
        });
    }
}
