//! Pins: announcements that a chunk must not be reused for a while.
//!
//! Readers of records need none, they validate what they copied. Pins are for those who change words of an index chunk
//! whose expected value could also occur in a chunk that was reused: an empty slot, a free lock.

use super::{Actor, ChunkId};
use crate::error::{Error, ErrorCode, Result};
use crate::shm::atomic::{AtomicU32, Ordering, fence};

/// Pins that a thread may hold at once.
pub const PIN_COUNT: usize = 8;

/// A chunk is pinned as long as this lives.
pub struct Guard<'a> {
    word: &'a AtomicU32,
}

impl<'a> Guard<'a> {
    /// Announces the chunk. The caller must look again, *after* this, whether the chunk is still reachable where it found
    /// it; only then does the pin hold.
    pub fn pin(me: Actor<'a>, chunk: ChunkId) -> Result<Guard<'a>> {
        for place in 0..PIN_COUNT {
            let word = me.pins.u32_at::<0>(place);
            // ORDER Relaxed: only the owner of the entry stores pins.
            if word.load(Ordering::Relaxed) == 0 {
                word.store(chunk.0, Ordering::Relaxed);
                // ORDER SeqCst [pin]: the pin is visible before the caller's second look; pairs with the fence in
                // `Pool::free_if_unpinned`.
                fence(Ordering::SeqCst);
                kill_point!("chunk.pin.announced");
                return Ok(Guard { word });
            }
        }
        Err(Error::new(ErrorCode::Internal, "A thread holds more pins than its entry has."))
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        // ORDER Release [unpin]: everything done under the pin comes before; pairs with the scan of pins.
        self.word.store(0, Ordering::Release);
    }
}
