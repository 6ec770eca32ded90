//! When a state of a store began to count: the word `stamp` of its record.
//!
//! ```text
//! 0                                       published, but not stamped yet
//! | 1 | thread 12 | number 51 |           of a transaction, which decides; highest bits first
//! | 0 | time 63 |                         counts since this time of the store's clock
//! ```
//! A record is published without a stamp and stamped right after with the time that the clock shows *then*; whoever meets
//! one without a stamp stamps it before relying on it, and nobody replaces one without. So times grow along the states of a
//! key, and whatever somebody saw counts from a time that had begun when it was seen. (After Wei et al., "Constant-time
//! snapshots with applications to concurrent data structures", PPoPP 2021.)
//!
//! A flush moves the clock on by one and then takes all states of earlier times. A state that was published before it looks
//! is found and stamped; one that is published later is stamped later. So what a flush takes is a cut: with a state it
//! takes everything that was there when that state was published.
//!
//! The decision of a transaction is one word in the entry of its thread:
//! ```text
//! | time 50 | number 8 | beat 3 | state 3 |       state: 0 none, 1 active, 2 proving, 3 committed, 4 aborted
//! ```

use super::Table;
use crate::chunk::record::{EXTENDED_BYTES, at};
use crate::error::Result;
use crate::shm::atomic::{AtomicU64, Ordering};

/// The stamp of what was read from files: before all times.
pub const RESTORED: u64 = 1;
/// What the clock of a new store shows.
pub const TIME_FIRST: u64 = 2;
/// A record that waits for its stamp.
pub const PENDING: u64 = 0;

const UNDECIDED: u64 = 1 << 63;
const NUMBER_BITS: u32 = 51;
const NUMBER_MASK: u64 = (1 << NUMBER_BITS) - 1;

/// What a stamp says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stamp {
    Pending,
    /// Counts since this time.
    Since(u64),
    Of(Reference),
}

impl Stamp {
    #[inline]
    pub fn of(word: u64) -> Stamp {
        match word {
            PENDING => Stamp::Pending,
            word if word & UNDECIDED != 0 => Stamp::Of(Reference(word)),
            word => Stamp::Since(word),
        }
    }
}

/// Names a transaction; unique for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference(pub u64);

impl Reference {
    pub fn new(thread: u16, number: u64) -> Reference {
        Reference(UNDECIDED | u64::from(thread & 0xfff) << NUMBER_BITS | number & NUMBER_MASK)
    }

    pub fn thread(self) -> u16 {
        (self.0 >> NUMBER_BITS) as u16 & 0xfff
    }

    pub fn number(self) -> u64 {
        self.0 & NUMBER_MASK
    }
}

/// How far a transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    None = 0,
    /// Its states are being put in place.
    Active = 1,
    /// They are in place; what it read is being proved.
    Proving = 2,
    Committed = 3,
    Aborted = 4,
}

/// The decision word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision(pub u64);

impl Decision {
    const BEAT_SHIFT: u32 = 3;
    const BEAT_MASK: u64 = 7;
    const NUMBER_SHIFT: u32 = 6;
    const TIME_SHIFT: u32 = 14;
    const NUMBER_MASK: u64 = (1 << (Self::TIME_SHIFT - Self::NUMBER_SHIFT)) - 1;

    /// The decision about a transaction with a number. `time`: since when it counts, or the earliest from which it may.
    pub fn new(phase: Phase, number: u64, time: u64) -> Decision {
        Decision(phase as u64 | (number & Self::NUMBER_MASK) << Self::NUMBER_SHIFT | time << Self::TIME_SHIFT)
    }

    /// `None` for a number that is none: damaged content.
    pub fn phase(self) -> Option<Phase> {
        Some(match self.0 & 7 {
            0 => Phase::None,
            1 => Phase::Active,
            2 => Phase::Proving,
            3 => Phase::Committed,
            4 => Phase::Aborted,
            _ => return None,
        })
    }

    pub fn time(self) -> u64 {
        self.0 >> Self::TIME_SHIFT
    }

    /// Whether it is about the transaction of this number, as far as its lowest bits tell.
    pub fn is_of(self, number: u64) -> bool {
        self.0 >> Self::NUMBER_SHIFT & Self::NUMBER_MASK == number & Self::NUMBER_MASK
    }

    /// The same transaction in another phase.
    pub fn with(self, phase: Phase, time: u64) -> Decision {
        Decision::new(phase, self.0 >> Self::NUMBER_SHIFT, time)
    }

    /// The same, but not the same word: its thread goes on.
    pub fn beaten(self) -> Decision {
        let beat = (self.0 >> Self::BEAT_SHIFT).wrapping_add(1) & Self::BEAT_MASK;
        Decision(self.0 & !(Self::BEAT_MASK << Self::BEAT_SHIFT) | beat << Self::BEAT_SHIFT)
    }
}

impl Table {
    /// The stamp of the record at `offset`.
    pub(super) fn stamp_word(&self, offset: u64) -> Result<&AtomicU64> {
        Ok(self.pool.shm().block::<{ EXTENDED_BYTES as usize }>(offset)?.u64::<{ at::STAMP }>())
    }

    /// What the clock shows.
    #[inline]
    pub(super) fn time_now(&self) -> u64 {
        #[cfg(memora_loom)]
        crate::shm::atomic::fence(Ordering::SeqCst);
        // ORDER SeqCst [store-time]: behind the publication of what is to be stamped; pairs with `next_time`, behind which the
        // flush looks at the slots: either it finds the record there, or this load sees the clock moved on.
        self.time().load(Ordering::SeqCst)
    }

    /// Moves the clock on; what it showed before is over once everything published until now is stamped.
    pub fn next_time(&self) -> u64 {
        // ORDER SeqCst [store-time]: before the caller looks at any slot.
        let before = self.time().fetch_add(1, Ordering::SeqCst);
        crate::shm::atomic::fence(Ordering::SeqCst);
        before
    }

    /// Sees to it that whoever found the key of this record absent before it was published can see it come and go: by the floor, which
    /// moves to the order of what leaves a slot. Its order is above the floor that the inserter saw, but that may have moved since, and
    /// somebody have looked in between: then it moves once more. Before the record counts.
    pub(super) fn show_by_the_floor(&self, offset: u64) -> Result<()> {
        if self.before(offset)? != 0 {
            return Ok(());
        }
        // ORDER SeqCst [order-floor]: behind the publication: whoever looked at the slot before that has loaded the floor before.
        let floor = self.floor().load(Ordering::SeqCst);
        if self.order_at(offset)? <= floor {
            // ORDER AcqRel [order-floor]: before the record counts, and so before it leaves its slot.
            self.floor().fetch_max(floor.saturating_add(1), Ordering::AcqRel);
        }
        Ok(())
    }

    /// Stamps a published record, unless that was done. The caller holds its chunk, or owns it.
    pub(super) fn stamp(&self, offset: u64) -> Result<u64> {
        self.show_by_the_floor(offset)?;
        kill_point!("table.stamp.before");
        let (word, now) = (self.stamp_word(offset)?, self.time_now());
        // ORDER AcqRel [stamp]: what its writer did before comes before; pairs with the loads of stamps.
        let stamped = word.compare_exchange(PENDING, now, Ordering::AcqRel, Ordering::Acquire);
        kill_point!("table.stamp.done");
        Ok(stamped.map_or_else(|other| other, |_| now))
    }

    /// Stamps what the caller has just published in its own chunk, where records have stamps.
    #[inline]
    pub(super) fn stamp_own(&self, offset: u64) -> Result<()> {
        if self.class.has_stamps() {
            self.stamp(offset)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_and_decisions_give_back_their_parts() {
        let reference = Reference::new(0xabc, (1 << 51) - 5);
        assert_eq!((reference.thread(), reference.number()), (0xabc, (1 << 51) - 5));
        assert_eq!(Stamp::of(reference.0), Stamp::Of(reference));
        assert_eq!((Stamp::of(0), Stamp::of(RESTORED)), (Stamp::Pending, Stamp::Since(1)));
        let decision = Decision::new(Phase::Proving, reference.number(), (1 << 50) - 7);
        assert_eq!((decision.phase(), decision.time()), (Some(Phase::Proving), (1 << 50) - 7));
        assert!(decision.is_of(reference.number()) && !decision.is_of(reference.number() - 1));
        let beaten = decision.beaten();
        assert!(beaten != decision && beaten.with(Phase::Proving, decision.time()) == decision);
        let committed = decision.with(Phase::Committed, 9);
        assert_eq!((committed.phase(), committed.time()), (Some(Phase::Committed), 9));
        assert!(committed.is_of(reference.number()));
        assert_eq!(Decision(5).phase(), None);
    }
}
