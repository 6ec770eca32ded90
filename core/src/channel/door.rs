//! The door between a thread that writes a lane itself and the library: what both know of the lane, and who may touch it.
//!
//! The thread tells that it is inside, then looks whether the door is still open. Whoever wants the publisher (another thread that sends,
//! whoever closes it) shuts the door, then looks whether the thread is inside. Between its two steps each needs a full fence, so that one of
//! them sees the other. The thread takes these steps for each message and pays for none: the other one has a heavy fence run on its processor.
//!
//! A thread that is thrown out in the middle of a message leaves the door broken: then the library looks at the ring itself for the place where it goes on,
//! as it does in the lane of a dead process.

use super::publisher::Publisher;
use crate::error::{Error, ErrorCode, Result};
use crate::shm::atomic::{AtomicU64, Ordering};
use crate::shm::fence;

/// Nobody was let in yet.
const FRESH: u64 = 2;

/// "No thread": no [`marker`](crate::shm::thread::marker) is 0.
const NOBODY: u64 = 0;

/// What the thread and the library share, in private memory. The first four words are at 0, 8, 16 and 24 for bindings, which know them.
#[repr(C, align(64))]
pub struct Door {
    /// Where the next message goes.
    pub(super) head: AtomicU64,
    /// Up to where there is room.
    pub(super) limit: AtomicU64,
    /// Whether the thread may write.
    pub(super) open: AtomicU64,
    /// Whether it does.
    pub(super) inside: AtomicU64,
    /// The thread that was let in.
    writer: AtomicU64,
    /// 1 once the library has made sure that the thread begins nothing any more; its own.
    alone: AtomicU64,
}

#[cfg(not(memora_loom))]
const _: () = assert!(std::mem::offset_of!(Door, open) == 16 && std::mem::offset_of!(Door, inside) == 24);

impl Default for Door {
    fn default() -> Door {
        let [head, limit, inside, writer, alone] = [0, 0, Door::OUTSIDE, NOBODY, 0].map(AtomicU64::new);
        Door { head, limit, open: AtomicU64::new(FRESH), inside, writer, alone }
    }
}

impl Door {
    /// The third word while the thread may write.
    pub const OPEN: u64 = 1;
    /// The third word when it may not, for good.
    pub const SHUT: u64 = 0;
    /// The fourth word while the thread does nothing.
    pub const OUTSIDE: u64 = 0;
    /// The fourth word while it writes.
    pub const INSIDE: u64 = 1;
    /// The fourth word when it was thrown out, and how far it had come is not known.
    pub const BROKEN: u64 = 2;

    /// Lets the calling thread in, `me`. False if some thread was before, or if the door is shut: it may have been since before anybody asked.
    pub fn open(&self, publisher: &Publisher, me: usize) -> bool {
        // ORDER Relaxed: only who has the publisher opens.
        if self.open.load(Ordering::Relaxed) != FRESH {
            return false;
        }
        // ORDER Relaxed: of this thread; others look at it behind a heavy fence.
        self.writer.store(me as u64, Ordering::Relaxed);
        self.give(publisher);
        // ORDER Relaxed: one word, which whoever shuts changes too: who shuts first keeps it shut, who shuts later is seen.
        self.open.compare_exchange(FRESH, Door::OPEN, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// The thread begins nothing any more. Whoever said so runs a heavy fence before it looks at [`Door::is_inside`].
    pub fn shut(&self) {
        // ORDER Relaxed: the heavy fence that follows orders it. A swap, so that it stands behind an opening that came first.
        self.open.swap(Door::SHUT, Ordering::Relaxed);
    }

    /// Whether a thread other than this one, `me`, is writing.
    pub fn is_inside(&self, me: usize) -> bool {
        // ORDER Acquire [door]: what the thread wrote before it said that it has left.
        // ORDER Relaxed: written before the thread could be inside. A thread that is here is not there: it was thrown out.
        self.inside.load(Ordering::Acquire) == Door::INSIDE
            && self.writer.load(Ordering::Relaxed) != me as u64
    }

    /// The calling thread, `me`, has the publisher, which from now on knows how far the one that writes came. False if that is writing.
    pub fn take(&self, publisher: &mut Publisher, me: usize) -> Result<bool> {
        // ORDER Relaxed: written by who had the publisher.
        let writer = self.writer.load(Ordering::Relaxed);
        if writer == NOBODY {
            return Ok(true);
        }
        // ORDER Relaxed: as above.
        if writer != me as u64 && self.alone.load(Ordering::Relaxed) == 0 {
            // For good: another thread has begun to use it.
            self.shut();
            if !fence::heavy() {
                return Err(Error::new(ErrorCode::Internal, "The kernel runs no fences any more."));
            }
            // ORDER Relaxed: for who has the publisher next.
            self.alone.store(1, Ordering::Relaxed);
        }
        if self.is_inside(me) {
            return Ok(false);
        }
        // ORDER Relaxed: of this thread, or ordered by the look before.
        if self.inside.load(Ordering::Relaxed) == Door::OUTSIDE {
            // ORDER Relaxed: as above.
            publisher.went_on(self.head.load(Ordering::Relaxed))?;
        } else {
            publisher.find_head()?;
            // ORDER Relaxed: as above.
            self.inside.store(Door::OUTSIDE, Ordering::Relaxed);
        }
        Ok(true)
    }

    /// Tells the thread where the publisher stands and how far it may go.
    pub fn give(&self, publisher: &Publisher) {
        let (head, limit) = publisher.reach();
        // ORDER Relaxed: for this thread; another one never writes.
        self.head.store(head, Ordering::Relaxed);
        // ORDER Relaxed: as above.
        self.limit.store(limit, Ordering::Relaxed);
    }
}

impl Publisher {
    /// Where the next message goes, and up to which position there is room.
    pub(super) fn reach(&self) -> (u64, u64) {
        (self.head.position, self.limit)
    }

    /// Somebody else has written messages up to `position`.
    pub(super) fn went_on(&mut self, position: u64) -> Result<()> {
        if position == self.head.position {
            return Ok(());
        }
        if !position.is_multiple_of(8) || position < self.head.position || position > self.limit {
            let text = format!("A lane cannot go on from {} to {position}.", self.head.position);
            return Err(Error::new(ErrorCode::InvalidArgument, text));
        }
        self.head.position = position;
        Ok(())
    }
}
