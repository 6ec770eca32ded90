//! Bytes of an ordered index outside its nodes: its area, its mapping words, the references from node to node.
//!
//! ```text
//! area of the index, at the end of the aux area of its table
//!    0 high      u64  the lowest id that was never used; the root is 1
//!    8 zeros up to 64
//!   64 intents   2 x u64 for each index of a thread entry: references to the node that its holder is about to link, and to
//!                the one that it is about to unlink; 0 = none
//!      directory u64 each: {chunk of mapping words 32 | its generation 32}; 0 = none yet
//!
//! chunk of mapping words, class Control, kind Index: one u64 for each id, from 0
//!      mapping   {version 28 | offset of the node's record / 16 : 36}, highest bits first; offset 0 = the id is free
//!
//! reference {birth 32 | id 32}, highest bits first: `birth` is the version that the mapping word got when the id was
//! taken into use, so a reference to an id that was freed and reused since leads nowhere
//! ```

/// The id of the root, which is never freed.
pub const ROOT: u32 = 1;

/// Bytes of the fixed words of the area.
pub const HEAD_BYTES: u64 = 64;
/// Bytes of the intents of one thread.
pub const INTENT_BYTES: u64 = 16;
/// Field offset in the area.
pub const HIGH: usize = 0;

/// The nodes of an index need at least so many bytes each, with the records of their keys.
const BYTES_PER_NODE: u64 = 128;

/// Offsets are named in units of so many bytes.
const UNIT: u64 = crate::chunk::record::RECORD_ALIGN;
const OFFSET_BITS: u32 = 36;
const OFFSET_MASK: u64 = (1 << OFFSET_BITS) - 1;
const VERSION_MASK: u64 = (1 << 28) - 1;

/// Which of a thread's intents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// A node that was made and is not linked yet.
    Link = 0,
    /// A node that is being merged into the next one.
    Unlink = 1,
}

/// Where the parts of an area stand, from its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub threads: u64,
    /// Entries of the directory.
    pub chunks: u64,
    /// Mapping words of one chunk.
    pub words: u64,
}

impl Shape {
    pub const fn new(chunk_bytes: u64, chunk_count: u32, threads: u32) -> Shape {
        let chunks = chunk_count as u64 * 8 / BYTES_PER_NODE;
        Shape { threads: threads as u64, chunks: if chunks < 2 { 2 } else { chunks }, words: chunk_bytes / 8 }
    }

    /// Where the directory begins.
    pub const fn directory(&self) -> u64 {
        HEAD_BYTES + self.threads * INTENT_BYTES
    }

    /// Bytes of the area, a multiple of 64.
    pub const fn bytes(&self) -> u64 {
        (self.directory() + self.chunks * 8).next_multiple_of(64)
    }

    /// Ids in all, 0 included.
    pub const fn ids(&self) -> u64 {
        let ids = self.chunks * self.words;
        if ids > u32::MAX as u64 { u32::MAX as u64 } else { ids }
    }
}

/// A mapping word.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Word(pub u64);

impl Word {
    /// Of an id that was never used.
    pub const VIRGIN: Word = Word(0);

    /// How often the word was changed.
    #[inline]
    pub const fn version(self) -> u32 {
        (self.0 >> OFFSET_BITS) as u32
    }

    /// Where the record of the node stands; 0 for a free id.
    #[inline]
    pub const fn offset(self) -> u64 {
        (self.0 & OFFSET_MASK) * UNIT
    }

    const fn next_version(self) -> u64 {
        let next = (self.version() as u64 + 1) & VERSION_MASK;
        if next == 0 { 1 } else { next }
    }

    /// The word that names the record at `offset`, in place of this one.
    #[inline]
    pub const fn publish(self, offset: u64) -> Word {
        Word(self.next_version() << OFFSET_BITS | (offset / UNIT) & OFFSET_MASK)
    }

    /// The same record under another version: what was prepared before fails.
    #[inline]
    pub const fn touch(self) -> Word {
        self.publish(self.offset())
    }

    /// The word of the id when it is free again.
    #[inline]
    pub const fn free(self) -> Word {
        self.publish(0)
    }
}

impl std::fmt::Debug for Word {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "v{} at {}", self.version(), self.offset())
    }
}

/// A reference to a node.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Ref(pub u64);

impl Ref {
    pub const NONE: Ref = Ref(0);

    #[inline]
    pub const fn new(id: u32, birth: u32) -> Ref {
        Ref(id as u64 | (birth as u64) << 32)
    }

    #[inline]
    pub const fn id(self) -> u32 {
        self.0 as u32
    }

    #[inline]
    pub const fn birth(self) -> u32 {
        (self.0 >> 32) as u32
    }

    #[inline]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }
}

impl std::fmt::Debug for Ref {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}#{}", self.id(), self.birth())
    }
}

/// What goes into the layout hash from this layer.
pub const FACTS: &[u64] = &[
    HEAD_BYTES,
    INTENT_BYTES,
    BYTES_PER_NODE,
    OFFSET_BITS as u64,
    super::node::HEADER as u64,
    super::node::NODE_BYTES as u64,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_gives_back_its_parts_and_its_version_never_returns_to_virgin() {
        let mut word = Word((VERSION_MASK - 2) << OFFSET_BITS);
        for round in 1..6u64 {
            let next = word.publish(round * 16);
            assert_eq!(next.offset(), round * 16);
            assert_ne!(next.version(), word.version());
            assert_eq!((next.touch().offset(), next.free().offset()), (round * 16, 0));
            assert_ne!(next.free(), Word::VIRGIN);
            assert_ne!(next.touch(), next);
            word = next;
        }
        assert_eq!(Word::VIRGIN.publish((1 << 40) - 16).offset(), (1 << 40) - 16);
    }

    #[test]
    fn an_area_takes_a_small_part_of_its_fabric() {
        for (chunk_bytes, count) in [(1u64 << 14, 64u32), (1 << 16, 4096), (1 << 16, 262_144)] {
            let shape = Shape::new(chunk_bytes, count, 128);
            assert!(shape.bytes().is_multiple_of(64));
            assert!(shape.bytes() <= chunk_bytes * u64::from(count) / 200, "{shape:?}");
            assert!(shape.ids() >= u64::from(count) * chunk_bytes / BYTES_PER_NODE);
        }
    }
}
