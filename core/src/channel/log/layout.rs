//! Bytes of what a log has, and their packed words as types.
//!
//! ```text
//! behind the subscription entries of the control area, of which a log has 64 and no lanes
//!   0 bytes  u64  bytes of the log: cells and blocks; a power of two         8 age u64  ms after which a message is trimmed; 0 never
//!  16 files  u64  1: the log has files, and their words follow it: see `files::words`
//!  24 parcels u64  0 before there was a long message; then 1 + the position in front of which the chunks of all were given back
//!  64 oldest u64  {position 48 | joins 16}, lowest bits first: messages at positions below it are trimmed
//! 128 block entries, 64 B each
//!
//! position of a named reader, in its subscription entry: {position 48 | generation of the entry, its low bits 16}
//!
//! block entry
//!   0 state  u64  {kind 8 | 0 8 | owner thread 12 | 0 4 | generation 32}, as of a lane: a thread appends to it, or nobody
//!   8 used   u64  bytes of the block that records take        16 behind u64  behind the position of every record of the block
//!  24 parcel u64  the newest long message: {its record, offset in the log / 8 : 31 | kept 1 | generation of the state of its publisher 32}; 0: none
//!
//! then the log itself, `bytes` long: the first eighth is cells of 8 B, the rest is 112 blocks
//!
//! cell: of position p at p modulo their count
//!   {offset in the log / 8 : 27 | lap 37}: lap 1 is of the first positions; 0 = never used. The message is visible when its cell has its lap
//!
//! record: in a block of its publisher, begins at a multiple of 8
//!   0 len    u32  bytes of the payload; the highest bit says that the payload names a parcel          4 zeros u32
//!   8 position u64                                             16 time u64  ms of the boot clock where the log has an age, else 0
//!  24 payload, filled up to 8 bytes. Of a long message: the word of its first chunk u64, its bytes u64, where in the log the record
//!     of the long message before it in this block stands u64, or 0
//! ```

use crate::channel::layout::{Shape, control, sub};
use crate::error::{Error, ErrorCode, Result};

/// Field offsets in what follows the subscription entries.
pub mod part {
    pub const BYTES: usize = 0;
    pub const AGE: usize = 8;
    pub const FILES: usize = 16;
    pub const PARCELS: usize = 24;
    pub const OLDEST: usize = 64;
    /// Where the block entries begin.
    pub const BLOCKS: usize = 128;
}

/// Field offsets in a block entry.
pub mod block {
    pub const STATE: usize = 0;
    pub const USED: usize = 8;
    pub const BEHIND: usize = 16;
    pub const PARCEL: usize = 24;
    pub const BYTES: u64 = 64;
}

/// Field offsets in a record.
pub mod record {
    pub const LEN: u64 = 0;
    pub const POSITION: u64 = 8;
    pub const TIME: u64 = 16;
    /// Bytes in front of the payload.
    pub const HEADER: u64 = 24;
    /// In the length: the payload names a parcel.
    pub const IS_PARCEL: u64 = 1 << 31;
    /// In a payload that names a parcel.
    pub const FIRST: u64 = HEADER;
    pub const WHOLE: u64 = HEADER + 8;
    pub const BEFORE: u64 = HEADER + 16;
    /// Bytes of such a payload.
    pub const NAMES: u64 = 24;
}

/// Subscription entries: the named readers.
pub const SUBS: u32 = 64;
/// Blocks of a log.
pub const BLOCKS: u32 = 112;
/// Blocks that publishers may hold at once: the others go round.
pub const PUBLISHERS_MAX: u32 = 64;
/// Bytes of the smallest log.
pub const BYTES_MIN: u64 = 256 << 10;
/// Bytes of the largest log: cells hold 27 bits of 8 bytes.
pub const BYTES_MAX: u64 = 1 << 30;
/// Bytes of a log if the user names none.
pub const BYTES_DEFAULT: u64 = 16 << 20;

const PLACE_BITS: u32 = 27;
/// Of positions: 2^48 messages at ten million in a second take most of a year, at the million of one busy log ten years.
const POSITION_BITS: u32 = 48;

const _: () = assert!(BYTES_MAX / 8 == 1 << PLACE_BITS);
// In the smallest chunk, behind the header of the object, everything but the log itself fits.
const _: () = assert!(control_bytes(SUBS, BLOCKS) <= (16 << 10) - 256);

/// Bytes of the control area in front of the log itself.
pub const fn control_bytes(subs: u32, blocks: u32) -> u64 {
    control::BYTES as u64 + subs as u64 * sub::BYTES + part::BLOCKS as u64 + blocks as u64 * block::BYTES
}

/// Refuses sizes that are no power of two or outside the bounds.
pub fn check_bytes(bytes: u64) -> Result<()> {
    if bytes.is_power_of_two() && (BYTES_MIN..=BYTES_MAX).contains(&bytes) {
        return Ok(());
    }
    Err(Error::new(
        ErrorCode::InvalidArgument,
        format!("A log of {bytes} bytes: it must be a power of two from {BYTES_MIN} to {BYTES_MAX}."),
    ))
}

/// Where the parts of a log lie: a private copy, checked when it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Where its part of the control area begins in the segment.
    pub part: u64,
    /// Where the log itself begins in the segment.
    pub log: u64,
    /// Bytes of the log itself.
    pub bytes: u64,
    /// Blocks.
    pub blocks: u32,
    /// Cells, a power of two, as its logarithm.
    cells: u32,
}

impl Geometry {
    /// The log of `bytes` bytes behind the subscriptions of `shape`.
    pub const fn new(shape: &Shape, bytes: u64, blocks: u32) -> Geometry {
        let part = shape.place(shape.subs, 0);
        let log = part + part::BLOCKS as u64 + blocks as u64 * block::BYTES;
        Geometry { part, log, bytes, blocks, cells: (bytes / 64).trailing_zeros() }
    }

    /// Cells: so many messages are kept at most.
    #[inline(always)]
    pub const fn cells(&self) -> u64 {
        1 << self.cells
    }

    /// Bytes of a block.
    #[inline(always)]
    pub const fn block_bytes(&self) -> u64 {
        (self.bytes / 8 * 7 / self.blocks as u64) & !7
    }

    /// Where in the log block `index` begins.
    #[inline(always)]
    pub const fn block_at(&self, index: u32) -> u64 {
        self.bytes / 8 + index as u64 * self.block_bytes()
    }

    /// Where in the segment the words of its files stand if it has some.
    pub const fn words(&self) -> u64 {
        self.log + self.bytes
    }

    /// Bytes of the longest message.
    pub const fn message_len_max(&self) -> u64 {
        self.block_bytes() - record::HEADER
    }

    /// Where a block's entry stands in the segment.
    #[inline]
    pub const fn entry(&self, index: u32) -> u64 {
        self.part + part::BLOCKS as u64 + index as u64 * block::BYTES
    }

    /// The lap of a position.
    #[inline(always)]
    pub const fn lap(&self, position: u64) -> u64 {
        (position >> self.cells) + 1
    }

    /// Where in the log the cell of a position stands.
    #[inline(always)]
    pub const fn cell_at(&self, position: u64) -> u64 {
        (position & (self.cells() - 1)) * 8
    }

    /// Positions at and beyond this one are never used: their laps, or they themselves, do not fit their bits.
    pub const fn position_max(&self) -> u64 {
        let laps = (1u64 << (64 - PLACE_BITS)) - 2;
        let most = 1u64 << POSITION_BITS;
        if laps > most >> self.cells { most - 1 } else { laps << self.cells }
    }

    /// Whether a record with its header and `len` bytes lies in one block at `at`.
    #[inline(always)]
    pub const fn fits(&self, at: u64, len: u64) -> bool {
        let first = self.bytes / 8;
        if at < first || at >= first + self.blocks as u64 * self.block_bytes() {
            return false;
        }
        let rest = self.block_bytes() - (at - first) % self.block_bytes();
        rest >= record::HEADER && len <= rest - record::HEADER
    }
}

/// What stands in a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell(pub u64);

impl Cell {
    /// The cell of a record at byte `at` of the log.
    #[inline(always)]
    pub const fn new(lap: u64, at: u64) -> Cell {
        Cell((lap << PLACE_BITS) | (at / 8))
    }

    #[inline(always)]
    pub const fn lap(self) -> u64 {
        self.0 >> PLACE_BITS
    }

    /// Where in the log the record begins.
    #[inline(always)]
    pub const fn at(self) -> u64 {
        (self.0 & ((1 << PLACE_BITS) - 1)) * 8
    }
}

/// The newest long message of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Newest(pub u64);

impl Newest {
    const KEPT: u64 = 1 << 31;

    /// Its record stands at byte `at` of the log; the publisher, whose state has this generation, has it still to keep.
    pub const fn new(at: u64, generation: u32) -> Newest {
        Newest(((generation as u64) << 32) | (at / 8))
    }

    /// Where in the log its record stands; 0: there is none.
    pub const fn at(self) -> u64 {
        (self.0 & (Newest::KEPT - 1)) * 8
    }

    /// The same once its chunks are nobody's.
    pub const fn kept(self) -> Newest {
        Newest(self.0 | Newest::KEPT)
    }

    /// Whether it was published and its chunks are nobody's.
    pub const fn is_kept(self) -> bool {
        self.0 & Newest::KEPT != 0
    }

    /// Generation of the state of its publisher.
    pub const fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// The oldest position that is kept, and how often a named reader came or went back: who trims with an older look at the readers fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Oldest(pub u64);

impl Oldest {
    #[inline(always)]
    pub const fn position(self) -> u64 {
        self.0 & ((1 << POSITION_BITS) - 1)
    }

    /// The same after trimming.
    #[inline]
    pub const fn moved(self, position: u64) -> Oldest {
        Oldest(self.0 & !((1 << POSITION_BITS) - 1) | position & ((1 << POSITION_BITS) - 1))
    }

    /// The same after a named reader came or went back.
    #[inline]
    pub const fn joined(self) -> Oldest {
        Oldest(self.0.wrapping_add(1 << POSITION_BITS))
    }
}

/// Where a named reader stands, and the mark of who said so: the low bits of the generation of its entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReaderPlace(pub u64);

impl ReaderPlace {
    #[inline(always)]
    pub const fn new(position: u64, generation: u32) -> ReaderPlace {
        ReaderPlace(position & ((1 << POSITION_BITS) - 1) | (generation as u64) << POSITION_BITS)
    }

    #[inline(always)]
    pub const fn position(self) -> u64 {
        self.0 & ((1 << POSITION_BITS) - 1)
    }
}

/// What goes into the layout hash from here.
pub const FACTS: &[u64] = &[
    part::BYTES as u64,
    part::AGE as u64,
    part::FILES as u64,
    part::OLDEST as u64,
    part::BLOCKS as u64,
    block::BYTES,
    block::USED as u64,
    block::BEHIND as u64,
    record::POSITION,
    record::TIME,
    record::HEADER,
    record::IS_PARCEL,
    record::FIRST,
    record::WHOLE,
    record::BEFORE,
    part::PARCELS as u64,
    block::PARCEL as u64,
    SUBS as u64,
    BLOCKS as u64,
    PLACE_BITS as u64,
    POSITION_BITS as u64,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_give_back_their_parts() {
        let cell = Cell::new((1 << 37) - 1, BYTES_MAX - 8);
        assert_eq!((cell.lap(), cell.at()), ((1 << 37) - 1, BYTES_MAX - 8));
        let oldest = Oldest(0).moved((1 << 48) - 1).joined();
        assert_eq!(oldest.position(), (1 << 48) - 1);
        assert_eq!(oldest.moved(7).position(), 7);
        assert_ne!(oldest.moved(7), Oldest(0).moved(7), "the joins stay");
        let newest = Newest::new(BYTES_MAX - 8, u32::MAX);
        assert_eq!((newest.at(), newest.generation(), newest.is_kept()), (BYTES_MAX - 8, u32::MAX, false));
        let kept = newest.kept();
        assert_eq!((kept.at(), kept.generation(), kept.is_kept()), (BYTES_MAX - 8, u32::MAX, true));
        assert_eq!(Newest(0).at(), 0);
        let place = ReaderPlace::new((1 << 48) - 1, 0x1_ffff);
        assert_eq!(place.position(), (1 << 48) - 1);
        assert_ne!(place, ReaderPlace::new((1 << 48) - 1, 0x1_fffe));
        let mut wrapped = oldest;
        for _ in 0..1 << 16 {
            wrapped = wrapped.joined();
        }
        assert_eq!(wrapped, oldest, "the joins wrap and leave the position alone");
    }

    #[test]
    fn cells_and_blocks_fill_the_log_and_every_position_has_its_lap() {
        for bytes in [BYTES_MIN, BYTES_DEFAULT, BYTES_MAX] {
            let shape = Shape { offset: 256, lane_bytes: 4096, lanes: 0, subs: SUBS };
            let geometry = Geometry::new(&shape, bytes, BLOCKS);
            assert_eq!(geometry.block_at(BLOCKS), bytes, "nothing is left over");
            assert_eq!(geometry.block_at(0), geometry.cells() * 8);
            assert_eq!(geometry.log, 256 + control_bytes(SUBS, BLOCKS));
            let last = geometry.position_max() - 1;
            assert!(geometry.lap(last) < 1 << 37 && last < 1 << 48);
            assert_eq!((geometry.lap(0), geometry.lap(geometry.cells())), (1, 2));
            let (first, block) = (geometry.block_at(0), geometry.block_bytes());
            assert!(geometry.fits(first, geometry.message_len_max()));
            assert!(!geometry.fits(first, geometry.message_len_max() + 1));
            assert!(!geometry.fits(first - 8, 0) && !geometry.fits(bytes, 0));
            assert!(geometry.fits(first + block - 24, 0) && !geometry.fits(first + block - 16, 0));
            assert!(!geometry.fits(first + 8, u64::MAX));
        }
        for bytes in [0, 1000, BYTES_MIN / 2, BYTES_MIN + 64, BYTES_MAX * 2] {
            assert_eq!(check_bytes(bytes).unwrap_err().code(), ErrorCode::InvalidArgument, "{bytes}");
        }
    }
}
