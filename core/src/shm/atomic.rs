//! The atomic types that stand in shared memory: of std, or of loom when a model is checked.
//!
//! The switch is our own `cfg(memora_loom)`, so that it never reaches dependencies.

#[cfg(memora_loom)]
pub use loom::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering, fence};
#[cfg(not(memora_loom))]
pub use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering, fence};

/// Tells the processor that this is a spinning loop; lets another thread of a model run.
#[inline]
pub fn spin_hint() {
    #[cfg(memora_loom)]
    loom::thread::yield_now();
    #[cfg(not(memora_loom))]
    std::hint::spin_loop();
}

/// Gives the rest of the time slice to another thread.
#[inline]
pub fn yield_now() {
    #[cfg(memora_loom)]
    loom::thread::yield_now();
    #[cfg(not(memora_loom))]
    std::thread::yield_now();
}
