//! The one module that touches shared bytes.
//!
//! Everything above works with offsets from the base of a [`Shm`]. An offset is checked once, by [`Shm::block`] or
//! [`Shm::span`], against the mapped length, which is kept in private memory; what comes back is used without further
//! checks. Shared bytes are reached as atomics or copied word by word with relaxed loads and stores. No Rust reference
//! to plain memory ever stands on bytes that a peer may write.
//!
//! | file | holds |
//! |---|---|
//! | `space` | [`Shm`], [`Block`], [`Span`]: checked once, then used |
//! | `kept` | [`Kept`], [`KeptRing`]: checked once and kept with their space |
//! | `viewed` | [`Viewed`]: bytes that may be looked at where they stand |
//! | `map` | mappings of files, System V segments and anonymous memory |
//! | `atomic` | the atomic types: of std, or of loom under `cfg(memora_loom)` |
//! | `copy` | word-wise copies in and out, comparison |
//! | `futex`, `fence`, `life` | sleeping and waking, the fence a sleeper pays for, proof of a thread's death |
//! | `fork`, `thread`, `time` | detection of a forked child and of another thread, clocks |
//! | `turn` | [`Turn`]: one thread at a time |
//! | `features` | what the running kernel allows |
//! | `kill_point` | named points at which tests kill or freeze a process |
#![allow(unsafe_code)]
// A length here is a number of mapped bytes; nothing is ever empty.
#![allow(clippy::len_without_is_empty)]

#[macro_use]
pub mod kill_point;
pub mod atomic;
mod copy;
mod features;
pub mod fence;
pub mod fork;
pub mod futex;
#[cfg(all(test, memora_loom))]
mod interleavings;
mod kept;
pub mod life;
pub mod map;
mod signals;
mod space;
pub mod sysv;
pub mod thread;
pub mod time;
mod turn;
mod viewed;

pub use features::{KernelFeatures, kernel_features};
pub use kept::{Kept, KeptRing, Ring};
pub use signals::uninterrupted;
pub use space::{Block, Shm, Span, Window};
pub use turn::{Held, Turn};
pub use viewed::{Viewed, ViewedMemory};

/// Bytes of a page: the unit of mapping, reserving and populating.
pub const PAGE: u64 = 4096;

/// Bytes of a huge page, where the processor has pages of 4 KiB.
pub const HUGE_PAGE: u64 = 2 << 20;

/// Rounds up to a multiple of 8, the word of all copies. Saturates, so that a hostile length fails the next check.
#[inline]
pub const fn align8(len: u64) -> u64 {
    len.saturating_add(7) & !7
}
