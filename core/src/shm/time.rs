//! Clocks.

use nix::time::{ClockId, clock_gettime};

fn nanoseconds(clock: ClockId) -> u64 {
    // These clocks exist on every Linux that has futexes; 0 stands for one that does not.
    clock_gettime(clock).map_or(0, |time| time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}

/// Milliseconds since the host started, also while it was suspended. Equal in all processes of a host.
pub fn boot_ms() -> u64 {
    nanoseconds(ClockId::CLOCK_BOOTTIME) / 1_000_000
}

/// Nanoseconds of the monotonic clock: for durations and histories.
pub fn monotonic_ns() -> u64 {
    nanoseconds(ClockId::CLOCK_MONOTONIC)
}

/// Nanoseconds that the calling thread has run, in the kernel as well: what others take away does not count.
pub fn thread_ns() -> u64 {
    nanoseconds(ClockId::CLOCK_THREAD_CPUTIME_ID)
}

/// Milliseconds since 1970 by the wall clock, which may jump: only for what outlives the host.
pub fn wall_ms() -> u64 {
    nanoseconds(ClockId::CLOCK_REALTIME) / 1_000_000
}
