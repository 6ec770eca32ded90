//! The 8-byte word that publishes a record, as a type.
//!
//! ```text
//! | kind 2 | version 12 | tag 14 | offset / 16 : 36 |     highest bits first
//! ```
//! `version` counts the changes of this very slot, so that a compare-and-swap that was prepared long ago fails. A slot that
//! was never used is 0; later versions skip 0.

use crate::chunk::record::RECORD_ALIGN;

const OFFSET_BITS: u32 = 36;
const TAG_BITS: u32 = 14;
const VERSION_BITS: u32 = 12;
const OFFSET_MASK: u64 = (1 << OFFSET_BITS) - 1;
const TAG_MASK: u64 = (1 << TAG_BITS) - 1;
const VERSION_MASK: u64 = (1 << VERSION_BITS) - 1;
const VERSION_SHIFT: u32 = OFFSET_BITS + TAG_BITS;
const KIND_SHIFT: u32 = VERSION_SHIFT + VERSION_BITS;
/// Kind and tag: what a search compares.
const WANTED_MASK: u64 = 3 << KIND_SHIFT | TAG_MASK << OFFSET_BITS;

const _: () = assert!(WANTED_MASK as u32 == 0, "a search compares upper halves only");

/// What a slot is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SlotKind {
    Empty = 0,
    Record = 1,
    /// A record that a transaction has not decided yet (reserved).
    Intent = 2,
    /// Moved to a child of a split, or about to be; the rest of the word is as it was.
    Frozen = 3,
}

/// A slot word.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Slot(pub u64);

impl Slot {
    /// A slot that was never used.
    pub const VIRGIN: Slot = Slot(0);

    /// The word that publishes the record at `offset` in a slot that was `self`.
    #[inline]
    pub const fn publish(self, tag: u16, offset: u64) -> Slot {
        Slot(
            (SlotKind::Record as u64) << KIND_SHIFT
                | self.next_version() << VERSION_SHIFT
                | (tag as u64 & TAG_MASK) << OFFSET_BITS
                | (offset / RECORD_ALIGN) & OFFSET_MASK,
        )
    }

    /// The empty word that follows `self`.
    #[inline]
    pub const fn unlink(self) -> Slot {
        Slot(self.next_version() << VERSION_SHIFT)
    }

    /// The same word, frozen. What it was shows in its offset: only a record has one.
    #[inline]
    pub const fn freeze(self) -> Slot {
        Slot(self.0 | (SlotKind::Frozen as u64) << KIND_SHIFT)
    }

    const fn next_version(self) -> u64 {
        let next = (self.version() as u64 + 1) & VERSION_MASK;
        if next == 0 { 1 } else { next }
    }

    #[inline]
    pub const fn kind(self) -> SlotKind {
        match self.0 >> KIND_SHIFT {
            0 => SlotKind::Empty,
            1 => SlotKind::Record,
            2 => SlotKind::Intent,
            _ => SlotKind::Frozen,
        }
    }

    #[inline]
    pub const fn version(self) -> u16 {
        (self.0 >> VERSION_SHIFT & VERSION_MASK) as u16
    }

    #[inline]
    pub const fn tag(self) -> u16 {
        (self.0 >> OFFSET_BITS & TAG_MASK) as u16
    }

    /// Where the record stands in the segment; 0 for an empty slot.
    #[inline]
    pub const fn offset(self) -> u64 {
        (self.0 & OFFSET_MASK) * RECORD_ALIGN
    }

    /// Whether this is a published record with the tag of `wanted`, which [`Slot::wanted`] made.
    #[inline]
    pub const fn matches(self, wanted: u64) -> bool {
        self.0 & WANTED_MASK == wanted
    }

    /// The bits that [`Slot::matches`] compares, in the upper half of the word.
    pub const WANTED_HALF: u32 = (WANTED_MASK >> 32) as u32;

    /// What [`Slot::matches`] compares with, for a tag.
    #[inline]
    pub const fn wanted(tag: u16) -> u64 {
        (SlotKind::Record as u64) << KIND_SHIFT | (tag as u64 & TAG_MASK) << OFFSET_BITS
    }
}

/// The tag of a hash: its lowest bits.
#[inline]
pub const fn tag_of(hash: u64) -> u16 {
    (hash & TAG_MASK) as u16
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} v{} tag {:#x} at {}", self.kind(), self.version(), self.tag(), self.offset())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_gives_back_its_parts_and_its_version_never_returns_to_virgin() {
        let mut slot = Slot::VIRGIN;
        for round in 0..10_000u64 {
            slot = slot.publish(0x2abc, round * 16 + 16);
            assert_eq!((slot.kind(), slot.tag(), slot.offset()), (SlotKind::Record, 0x2abc, round * 16 + 16));
            assert!(slot.matches(Slot::wanted(0x2abc)) && !slot.matches(Slot::wanted(0x2abd)));
            assert_eq!(slot.freeze().offset(), slot.offset());
            assert_eq!(slot.freeze().kind(), SlotKind::Frozen);
            assert!(!slot.freeze().matches(Slot::wanted(0x2abc)));
            slot = slot.unlink();
            assert_eq!((slot.kind(), slot.offset()), (SlotKind::Empty, 0));
            assert_ne!(slot, Slot::VIRGIN);
        }
    }

    #[test]
    fn offsets_reach_a_terabyte() {
        let last = (1u64 << 40) - 16;
        assert_eq!(Slot::VIRGIN.publish(1, last).offset(), last);
    }
}
