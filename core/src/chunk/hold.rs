//! Pins of a process: what keeps the chunks of its views.
//!
//! A view may outlive the call that made it and move from thread to thread, so its pin cannot stand in a thread's entry. The
//! process claims entries of its own for them, *holders*, which end with the process as its threads do. However many views
//! look into a chunk, one pin holds it: they are counted in private memory.
//!
//! The protocol is that of [`Guard`](super::Guard): announce, fence, look again. Who finds the chunk pinned by another view
//! only counts: the fence of the first comes before, because the count was acquired.

use super::ChunkId;
use crate::error::Result;
use crate::shm::Block;
use crate::shm::atomic::{AtomicU32, Ordering, fence};

#[cfg(memora_loom)]
use loom::sync::{Mutex, MutexGuard};
#[cfg(not(memora_loom))]
use std::sync::{Mutex, MutexGuard};

/// Refusals after which a process that holds all it may asks again for an entry.
const REST: u32 = 64;
/// Pins of a holder.
const PLACES: u32 = 8;

/// Where holders come from.
pub trait Holders {
    /// Claims an entry whose pins are the process's; `None` when views hold all that they may.
    fn claim_holder(&self) -> Result<Option<u16>>;
    /// The pins of a claimed entry.
    fn holder_pins(&self, holder: u16) -> Result<Block<'_, 32>>;
    /// Gives a claimed entry back, whose pins are all 0.
    fn free_holder(&self, holder: u16) -> Result<()>;
}

/// The pins of one process in one fabric.
pub struct Holds {
    /// How many views look into each chunk: private.
    counts: Vec<AtomicU32>,
    places: Mutex<Places>,
}

/// An entry of the process, with the pins that are in use as bits.
#[derive(Clone, Copy)]
struct Holder {
    index: u16,
    used: u8,
}

#[derive(Default)]
struct Places {
    holders: Vec<Holder>,
    /// Calls that will be refused without asking for another entry.
    rest: u32,
}

impl Holds {
    /// Nothing held, of `chunk_count` chunks.
    pub fn new(chunk_count: u32) -> Holds {
        Holds {
            counts: (0..chunk_count).map(|_| AtomicU32::new(0)).collect(),
            places: Mutex::new(Places::default()),
        }
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Announces the chunk for one view. As with [`Guard::pin`](super::Guard::pin) the caller must look again, after this,
    /// whether the chunk is still reachable where it found it. False if the process may hold no more.
    pub fn hold(&self, holders: &dyn Holders, chunk: ChunkId) -> Result<bool> {
        let Some(count) = self.counts.get(chunk.0 as usize) else { return Ok(false) };
        if add_to(count) {
            return Ok(true);
        }
        let mut places = self.places();
        if add_to(count) {
            return Ok(true);
        }
        let Some((holder, place)) = places.take(holders)? else { return Ok(false) };
        let pins = match holders.holder_pins(holder) {
            Ok(pins) => pins,
            Err(error) => {
                places.leave(holders, holder, place)?;
                return Err(error);
            }
        };
        // ORDER Relaxed: only this process stores the pins of its holders.
        pins.u32_at::<0>(place as usize).store(chunk.0, Ordering::Relaxed);
        // ORDER SeqCst [pin]: the pin is visible before the caller's second look; pairs with the fence in
        // `Pool::free_if_unpinned`.
        fence(Ordering::SeqCst);
        kill_point!("chunk.hold.announced");
        // ORDER Release [hold-count]: whoever counts on from here has this fence behind it.
        count.store(1, Ordering::Release);
        Ok(true)
    }

    /// Whether a view holds the chunk already, so that another costs nothing.
    pub fn is_held(&self, chunk: ChunkId) -> bool {
        // ORDER Relaxed: a hint: holding decides.
        self.counts.get(chunk.0 as usize).is_some_and(|count| count.load(Ordering::Relaxed) != 0)
    }

    /// One view fewer looks into the chunk.
    pub fn let_go(&self, holders: &dyn Holders, chunk: ChunkId) -> Result<()> {
        let Some(count) = self.counts.get(chunk.0 as usize) else { return Ok(()) };
        if take_one(count) {
            return Ok(());
        }
        let mut places = self.places();
        // ORDER AcqRel [hold-count]: what other views read comes before the pin is cleared. With the lock held nobody counts
        // from 0; each failure is a view that was made or let go meanwhile.
        while count.compare_exchange(1, 0, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            // ORDER Relaxed: nothing is held, so there is nothing to let go.
            if take_one(count) || count.load(Ordering::Relaxed) == 0 {
                return Ok(());
            }
        }
        for at in 0..places.holders.len() {
            let Holder { index, used } = places.holders[at];
            let pins = holders.holder_pins(index)?;
            for place in (0..PLACES).filter(|place| used >> place & 1 == 1) {
                let word = pins.u32_at::<0>(place as usize);
                // ORDER Relaxed: only this process stores the pins of its holders.
                if word.load(Ordering::Relaxed) != chunk.0 {
                    continue;
                }
                kill_point!("chunk.hold.before_clear");
                // ORDER Release [unpin]: everything that was read comes before; pairs with the scan of pins.
                word.store(0, Ordering::Release);
                kill_point!("chunk.hold.cleared");
                return places.leave(holders, index, place);
            }
        }
        Ok(())
    }

    /// Chunks that this process holds.
    #[cfg(test)]
    pub fn count(&self) -> u32 {
        self.places().holders.iter().map(|holder| holder.used.count_ones()).sum()
    }
}

/// Counts one view more, if there is one.
fn add_to(count: &AtomicU32) -> bool {
    // ORDER Acquire [hold-count]: behind the fence of whoever announced the pin.
    count
        .fetch_update(
            Ordering::Acquire,
            Ordering::Relaxed,
            |seen| if seen == 0 { None } else { Some(seen + 1) },
        )
        .is_ok()
}

/// Counts one view fewer, if it is not the last.
fn take_one(count: &AtomicU32) -> bool {
    // ORDER Release [hold-count]: what this view read comes before the last one clears the pin.
    count
        .fetch_update(
            Ordering::Release,
            Ordering::Relaxed,
            |seen| if seen > 1 { Some(seen - 1) } else { None },
        )
        .is_ok()
}

impl Places {
    /// A pin that is not in use.
    fn take(&mut self, holders: &dyn Holders) -> Result<Option<(u16, u32)>> {
        if let Some(holder) = self.holders.iter_mut().find(|holder| holder.used != u8::MAX) {
            let place = holder.used.trailing_ones();
            holder.used |= 1 << place;
            return Ok(Some((holder.index, place)));
        }
        if self.rest > 0 {
            self.rest -= 1;
            return Ok(None);
        }
        let Some(index) = holders.claim_holder()? else {
            self.rest = REST;
            return Ok(None);
        };
        self.holders.push(Holder { index, used: 1 });
        Ok(Some((index, 0)))
    }

    /// A pin is not in use any more. An entry without one is given back, unless it is the only one with room.
    fn leave(&mut self, holders: &dyn Holders, index: u16, place: u32) -> Result<()> {
        self.rest = 0;
        let Some(at) = self.holders.iter().position(|holder| holder.index == index) else { return Ok(()) };
        self.holders[at].used &= !(1 << place);
        let room = self.holders.iter().filter(|holder| holder.used != u8::MAX).count();
        if self.holders[at].used == 0 && room > 1 {
            self.holders.swap_remove(at);
            return holders.free_holder(index);
        }
        Ok(())
    }
}
