//! The door between a thread that writes or reads lanes itself and the library: who may touch what both know.
//!
//! The thread tells that it is inside, then looks whether the door is still open. Whoever wants the object (another thread that uses it,
//! whoever closes it) shuts the door, then looks whether the thread is inside. Between its two steps each needs a full fence, so that one of
//! them sees the other. The thread takes these steps for each message and pays for none: the other one has a heavy fence run on its processor.
//!
//! A thread that is thrown out in the middle leaves the door broken: then the library looks itself for the place where it goes on, as it does in what a dead
//! process leaves.

use super::publisher::Publisher;
use crate::error::{Error, ErrorCode, Result};
use crate::shm::atomic::{AtomicU64, Ordering};
use crate::shm::fence;

/// Nobody was let in yet.
const FRESH: u64 = 2;

/// "No thread": no [`marker`](crate::shm::thread::marker) is 0.
const NOBODY: u64 = 0;

/// By which a thread goes in and out that uses an object without a call, in private memory. The first two words are at 0 and 8 for bindings, which
/// know them.
#[repr(C)]
pub struct Door {
    /// Whether the thread may go in.
    pub(super) open: AtomicU64,
    /// Whether it is.
    pub(super) inside: AtomicU64,
    /// The thread that was let in.
    user: AtomicU64,
    /// 1 once the library has made sure that the thread begins nothing any more; its own.
    alone: AtomicU64,
}

/// What a thread left that was let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came {
    /// Nothing: there was none, or the library knows how far it came.
    Nowhere,
    /// It is outside: it came as far as it noted.
    Outside,
    /// It was thrown out in the middle: what it noted may be behind what it did. Whoever has found out says so by [`Door::found_out`].
    ThrownOut,
}

#[cfg(not(memora_loom))]
const _: () = assert!(std::mem::offset_of!(Door, open) == 0 && std::mem::offset_of!(Door, inside) == 8);

impl Default for Door {
    fn default() -> Door {
        let [inside, user, alone] = [Door::OUTSIDE, NOBODY, 0].map(AtomicU64::new);
        Door { open: AtomicU64::new(FRESH), inside, user, alone }
    }
}

impl Door {
    /// The first word while the thread may go in.
    pub const OPEN: u64 = 1;
    /// The first word when it may not, for good.
    pub const SHUT: u64 = 0;
    /// The second word while the thread does nothing.
    pub const OUTSIDE: u64 = 0;
    /// The second word while it is inside.
    pub const INSIDE: u64 = 1;
    /// The second word when it was thrown out, and how far it had come is not known.
    pub const BROKEN: u64 = 2;

    /// Lets the calling thread in, `me`, which `tell` tells what it has to know. False if some thread was before, or if the door is shut: it may have
    /// been since before anybody asked. Only who has the object calls.
    pub fn open(&self, me: usize, tell: impl FnOnce()) -> bool {
        // ORDER Relaxed: only who has the object opens.
        if self.open.load(Ordering::Relaxed) != FRESH {
            return false;
        }
        // ORDER Relaxed: of this thread; others look at it behind a heavy fence.
        self.user.store(me as u64, Ordering::Relaxed);
        tell();
        // ORDER Relaxed: one word, which whoever shuts changes too: who shuts first keeps it shut, who shuts later is seen.
        self.open.compare_exchange(FRESH, Door::OPEN, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// The thread begins nothing any more. Whoever said so runs a heavy fence before it looks at [`Door::is_inside`].
    pub fn shut(&self) {
        // ORDER Relaxed: the heavy fence that follows orders it. A swap, so that it stands behind an opening that came first.
        self.open.swap(Door::SHUT, Ordering::Relaxed);
    }

    /// Whether a thread other than this one, `me`, is inside.
    pub fn is_inside(&self, me: usize) -> bool {
        // ORDER Acquire [door]: what the thread did before it said that it has left.
        // ORDER Relaxed: written before the thread could be inside. A thread that is here is not there: it was thrown out.
        self.inside.load(Ordering::Acquire) == Door::INSIDE && self.user.load(Ordering::Relaxed) != me as u64
    }

    /// The calling thread, `me`, has the object, and learns what the one that goes in without a call left. None if that is inside. From the
    /// first call of another thread on it never goes in again, and what it notes later is nobody's affair.
    pub fn pass(&self, me: usize) -> Result<Option<Came>> {
        // ORDER Relaxed: written by who had the object.
        let user = self.user.load(Ordering::Relaxed);
        if user == NOBODY {
            return Ok(Some(Came::Nowhere));
        }
        // ORDER Relaxed: as above.
        let known = self.alone.load(Ordering::Relaxed) != 0;
        if user != me as u64 && !known {
            // For good: another thread has begun to use it.
            self.shut();
            if !fence::heavy() {
                return Err(Error::new(ErrorCode::Internal, "The kernel runs no fences any more."));
            }
        }
        if self.is_inside(me) {
            return Ok(None);
        }
        if known {
            return Ok(Some(Came::Nowhere));
        }
        if user != me as u64 {
            // ORDER Relaxed: for who has the object next.
            self.alone.store(1, Ordering::Relaxed);
        }
        // ORDER Relaxed: of this thread, or ordered by the look before.
        let outside = self.inside.load(Ordering::Relaxed) == Door::OUTSIDE;
        Ok(Some(if outside { Came::Outside } else { Came::ThrownOut }))
    }

    /// What the one that goes in without a call left, for whoever ends the object, `me`: the door was shut, and the thread seen outside behind a heavy
    /// fence. Since then it may have come as far as to find the door shut.
    pub fn last(&self, me: usize) -> Came {
        // ORDER Relaxed: written by who had the object.
        let user = self.user.load(Ordering::Relaxed);
        // ORDER Relaxed: as above.
        if user == NOBODY || self.alone.load(Ordering::Relaxed) != 0 {
            return Came::Nowhere;
        }
        // ORDER Acquire [door]: what the thread did before it said that it has left.
        match self.inside.load(Ordering::Acquire) {
            Door::BROKEN => Came::ThrownOut,
            // A thread that is here is not there.
            Door::INSIDE if user == me as u64 => Came::ThrownOut,
            _ => Came::Outside,
        }
    }

    /// How far the thread came that was thrown out is known now. Only who has the object calls.
    pub fn found_out(&self) {
        // ORDER Relaxed: of this thread, or of one that goes in no more.
        self.inside.store(Door::OUTSIDE, Ordering::Relaxed);
    }
}

/// What a thread that writes a lane and the library share: the place in the lane, and the door. The words are at 0 and 8 for bindings, the door's at 16 and 24.
#[repr(C, align(64))]
#[derive(Default)]
pub struct WritingDesk {
    /// Where the next message goes.
    pub(super) head: AtomicU64,
    /// Up to where there is room.
    pub(super) limit: AtomicU64,
    /// Who may touch them.
    pub door: Door,
}

#[cfg(not(memora_loom))]
const _: () = assert!(std::mem::offset_of!(WritingDesk, door) == 16);

impl WritingDesk {
    /// Lets the calling thread write, `me`: as [`Door::open`].
    pub fn open(&self, publisher: &Publisher, me: usize) -> bool {
        self.door.open(me, || self.give(publisher))
    }

    /// The calling thread, `me`, has the publisher, which from now on knows how far the one that writes came. False if that is writing.
    pub fn take(&self, publisher: &mut Publisher, me: usize) -> Result<bool> {
        match self.door.pass(me)? {
            None => return Ok(false),
            Some(Came::Nowhere) => {}
            // ORDER Relaxed: of this thread, or ordered by the look at the door.
            Some(Came::Outside) => publisher.went_on(self.head.load(Ordering::Relaxed))?,
            Some(Came::ThrownOut) => {
                publisher.find_head()?;
                self.door.found_out();
            }
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
