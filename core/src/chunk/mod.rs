//! The pool of equal chunks: who owns which, what is in it, and how it becomes free again.
//!
//! A chunk has one state word. A thread takes a free chunk by one compare-and-swap and then owns its bytes alone; it
//! appends records, or lays out a control area, buckets or lanes. Ownership ends by the owner's own act or by its proven
//! death, never by time. What is live in a chunk of records is not counted but derived: a record is live if a slot points
//! to it. So nothing leaks when a process is killed, and recovery is a walk over the descriptors.
//!
//! | file | holds |
//! |---|---|
//! | `layout` | bytes of a descriptor, the state word as a type |
//! | `state` | the state machine as a table |
//! | `pool` | [`Pool`]: settle, release, spans, counts |
//! | `take` | taking free chunks |
//! | `account` | how many chunks a cache that evicts holds |
//! | `relief` | making room when the pool runs short |
//! | `row` | making chunks in a row free |
//! | `record` | the header of a record |
//! | `run` | records that take chunks of their own |
//! | `loose` | single chunks that are named by number and generation |
//! | `parcel` | long messages in such chunks: [`Parcels`] |
//! | `append` | the owner's side of a chunk of records |
//! | `walk` | all records of a chunk |
//! | `pin` | [`Guard`]: keeps a chunk from being reused |
//! | `hold` | [`Holds`]: the same for the views of a process |
//! | `clean` | choosing and taking chunks that hold dead records |
//! | `flush` | how far the journal has the chunks of a store |
//! | `inherit` | what a dead thread leaves |
//! | `check` | every invariant of the pool |
//!
//! # For users of the pool
//! * [`Pool::allocate`] and [`Pool::allocate_run`] give chunks that are `Open` and yours alone. Their bytes are whatever
//!   was there before: zero what you need zeroed.
//! * Make the chunk reachable (from a directory cell, a lane table), then [`Pool::settle`] it. If you die in between, the
//!   reaper asks its `referenced` function and settles or frees it.
//! * [`Pool::release`] gives a chunk back, whether it was open and never reachable or in use and now unlinked. It becomes
//!   free when no pin holds it.
//! * Functions that act take an [`Actor`]: the calling thread's entry in the registry.

mod account;
mod append;
mod check;
mod clean;
mod flush;
mod hold;
mod inherit;
pub mod layout;
mod loose;
mod parcel;
mod pin;
mod pool;
pub mod record;
mod relief;
mod row;
mod run;
pub mod state;
mod take;
mod walk;

#[cfg(all(test, memora_loom))]
mod interleavings;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(all(test, not(memora_loom)))]
mod tests;

pub use account::Account;
pub use append::{Appended, Extension};
pub use check::check;
#[cfg(test)]
pub use clean::Wish;
pub use flush::{Known, Unflushed};
pub use hold::{Holders, Holds};
pub use inherit::inherit;
pub use layout::{Class, Kind, PoolGeometry};
pub use loose::{Loose, Search};
pub use parcel::{PARCEL_HEADER, ParcelHead, Parcels};
pub use pin::{Guard, PIN_COUNT};
pub use pool::Pool;
pub use relief::{Cleaner, Effort, Relief};
pub use take::Need;
pub use walk::Walked;

use crate::error::Result;
use crate::shm::Block;

/// Number of a chunk in its fabric; 0 means none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChunkId(pub u32);

/// What the pool needs to know of the segment and the registry.
pub trait Ground: Send + Sync {
    /// Reserves the pages of a range, so that touching them cannot fail. Repeating it is harmless.
    fn commit(&self, offset: u64, len: u64) -> Result<()>;
    /// Whether the kernel proved the holder of this thread entry dead.
    fn thread_is_dead(&self, thread: u16) -> bool;
    /// How often this thread entry changed its holder: tells its holder from the next one.
    fn thread_generation(&self, thread: u16) -> u32;
    /// Attached threads that did more than read, live or not yet reaped.
    fn thread_count(&self) -> u32;
    /// Entries of the thread table: every index is below.
    fn thread_limit(&self) -> u32;
    /// Shows every pin of every attached thread: chunk numbers, zeros included or not.
    fn each_pin(&self, visit: &mut dyn FnMut(u32));
    /// The transaction that the holder of a thread entry has under way; an error for an entry that there is not.
    fn transaction(&self, thread: u16) -> Result<Block<'_, 32>>;
}

/// The calling thread, as its entry in the registry shows it.
#[derive(Clone, Copy)]
pub struct Actor<'a> {
    /// Index of the entry, from 1.
    pub index: u16,
    /// The entry's pins: 8 chunk numbers, 0 for none. Stored by the owner, read by whoever frees chunks.
    pub pins: Block<'a, 32>,
    /// The entry's open chunks: 8 words {object 32 | chunk 32}, private to the owner.
    pub open: Block<'a, 64>,
    /// The entry's transaction: its decision, and how many transactions there were, private to the owner.
    pub transaction: Block<'a, 32>,
}

/// An [`Actor`] in one word, which comes out of a call in a register: {offset of the entry 48 | index 16}.
#[derive(Clone, Copy)]
pub struct Seat(u64);

impl Seat {
    /// Of the entry at `offset`.
    #[inline]
    pub fn new(index: u16, offset: u64) -> Seat {
        Seat(offset << 16 | u64::from(index))
    }

    /// The actor in the space that its entry stands in.
    #[inline(always)]
    pub fn actor(self, shm: &crate::shm::Shm) -> Option<Actor<'_>> {
        let entry: Block<'_, 256> = shm.view(self.0 >> 16)?;
        Some(Actor {
            index: self.0 as u16,
            pins: entry.part::<0, 32>(),
            open: entry.part::<64, 64>(),
            transaction: entry.part::<192, 32>(),
        })
    }
}
