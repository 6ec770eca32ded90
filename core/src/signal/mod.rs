//! Signals: small named objects by which processes wait for each other and exclude each other.
//!
//! | | holds | waits for | when its holder dies |
//! |---|---|---|---|
//! | [`NamedEvent`] | a sequence of notifications | the next one | - |
//! | [`NamedCounter`] | a 64-bit number | a value | - |
//! | [`NamedLock`] | its owner | the owner to let go | the next owner has it and is told |
//! | [`NamedSemaphore`] | permits, free or held by threads | enough free ones | they come back, and the next who takes is told |
//!
//! No call enters the kernel unless somebody has to sleep or sleeps. Death is proved by the kernel; a stopped process keeps what
//! it holds.
//!
//! | file | holds |
//! |---|---|
//! | `layout` | bytes of the control area, packed words |
//! | `area` | checked views on it; waiting |
//! | `event`, `counter`, `lock`, `semaphore` | the four kinds |
//! | `permits` | moving permits so that each is in one place, whoever dies |
//! | `inherit`, `check` | what a dead thread leaves; every invariant |

mod area;
mod check;
mod counter;
mod event;
mod inherit;
pub mod layout;
mod lock;
mod permits;
mod semaphore;

#[cfg(all(test, not(memora_loom)))]
mod damage_tests;
#[cfg(all(test, memora_loom))]
mod interleavings;
#[cfg(test)]
mod testing;
#[cfg(all(test, not(memora_loom)))]
mod tests;

pub(crate) use area::{Area, Ground, check_permits, create};
pub(crate) use check::{check, check_taken_over};
pub use counter::NamedCounter;
pub use event::{NamedEvent, Notified};
pub(crate) use inherit::inherit;
pub use layout::SignalKind;
pub use lock::{LockGuard, LockState, NamedLock};
pub use semaphore::{NamedSemaphore, Permits, SemaphoreState};
