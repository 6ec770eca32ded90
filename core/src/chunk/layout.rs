//! Bytes of a chunk descriptor, and its state word as a type.
//!
//! ```text
//! descriptor (128 B; line 0 is read by many, line 1 is written by the owner at each append)
//!   0 state    u64  {kind 8 | class 8 | owner thread 12 | 0 4 | generation 32}, lowest bits first
//!   8 seq      u64  unique number of this use of the chunk: orders chunks, and begins every record id
//!  16 object   u32  the object that the chunk belongs to
//!  20 run_len  u32  chunks of a contiguous run, in its first descriptor; 1 for a single chunk
//!  24 aux      u64  index chunk: its place in the directory, see the table's layout; sealed records and runs: their bytes
//!  32 flushed  u64  store: {position / 16 : 32 | generation 32}, how far the journal has this chunk
//!  40 split    u64  index chunk: {left child 32 | right child 32}, 0 when it was never split
//!  48 dead     u64  {bytes 31 | estimated 1 | generation 32}: bytes of records that nothing points to any more
//!  56 parent   u64  index chunk: {parent 32 | generation of the parent 32}; later chunk of a run: {first chunk 32 | its generation 32}
//!  64 tail     u64  bytes appended; everything below it is whole records
//!  72 cursor   u64  hint: the next bucket of a split; or {position 32 | generation + 1 : 32}: nothing below is live;
//!                   long record: {how far behind its number it went in its queue 32 | generation + 1 : 32}
//!  80 held     u64  first chunk of a cache that evicts: {chunks 32 | epoch 32} that it holds
//!  88 small    u64  first chunk of a cache that evicts: those of them that are of class Small
//!  96 account  u32  the first chunk of the cache that this chunk is counted for; 0 for none
//! 104 opened   u64  when this use of the chunk began, in milliseconds of the boot clock: for statistics
//! 112 first_end u64 records: the lowest expiry among them, 0 for none; a hint once the chunk is sealed
//! 120 quiet_since u64 records of a store: the latest time of its clock at which the chunk became quiet
//! ```
//! Descriptor 0 describes no chunk: chunk 0 is never handed out, so that 0 can mean none. Its words are the pool's own:
//! ```text
//!   8 sequence u64  the last number given to a use of a chunk
//!  16 taken    u64  {count 32 | changes 32}: chunks that are not free; drifts by one when a process is killed in between
//!  24 hints    u32 x 4  chunks that were freed lately
//!  40 committed u64 all chunks from this number on were never used
//! ```

use super::ChunkId;

/// Bytes of one descriptor.
pub const DESCRIPTOR_BYTES: u64 = 128;

/// Field offsets within a descriptor.
pub mod at {
    pub const STATE: usize = 0;
    pub const SEQ: usize = 8;
    pub const OBJECT: usize = 16;
    pub const RUN_LEN: usize = 20;
    pub const AUX: usize = 24;
    pub const FLUSHED: usize = 32;
    pub const SPLIT: usize = 40;
    pub const DEAD: usize = 48;
    pub const PARENT: usize = 56;
    pub const TAIL: usize = 64;
    pub const CURSOR: usize = 72;
    pub const HELD: usize = 80;
    pub const HELD_SMALL: usize = 88;
    pub const ACCOUNT: usize = 96;
    pub const OPENED: usize = 104;
    pub const FIRST_END: usize = 112;
    pub const QUIET_SINCE: usize = 120;

    /// In descriptor 0.
    pub const POOL_SEQUENCE: usize = 8;
    pub const POOL_TAKEN: usize = 16;
    pub const POOL_HINTS: usize = 24;
    pub const POOL_COMMITTED: usize = 40;
}

/// Words of hints in descriptor 0.
pub const HINT_COUNT: usize = 4;

const _: () = assert!(at::QUIET_SINCE + 8 <= DESCRIPTOR_BYTES as usize);
const _: () = assert!(at::POOL_HINTS + 4 * HINT_COUNT <= at::POOL_COMMITTED);
const _: () = assert!(at::TAIL == 64, "the tail has a line of its own");

/// What a chunk is used for just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Never used: its pages are not reserved yet.
    Virgin = 0,
    /// Free, pages reserved. With class `Buckets` it is kept for buckets, and counts as taken.
    Free = 1,
    /// Exclusively its owner's, who alone writes into it.
    Open = 2,
    /// Full of records; nobody writes into it any more.
    Sealed = 3,
    /// A cleaner moves what is live out of it.
    Evicting = 4,
    /// Nothing points to it any more; waits until nobody has it pinned.
    Quiesce = 5,
    /// First chunk of a run that holds one long record.
    RunHead = 6,
    /// Another chunk of such a run: it goes with the first one.
    RunContinued = 7,
    /// In use by an object for its control area or its index.
    Index = 8,
    /// In use by a channel for lanes.
    Lane = 9,
}

/// What the bytes of a chunk are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Class {
    /// Nothing: the chunk is free.
    None = 0,
    /// Records of a cache that evicts: the young ones.
    Small = 1,
    /// Records of a cache.
    Main = 2,
    /// Records of a store, with the extended header.
    Store = 3,
    /// Nodes of an ordered index.
    Node = 4,
    /// Records of a work queue (reserved).
    Queue = 5,
    /// Records of a log (reserved).
    Log = 6,
    /// The control area of an object.
    Control = 7,
    /// Buckets of a table.
    Buckets = 8,
    /// Lanes of a channel.
    Lane = 9,
    /// Records of a store without files, with the extended header.
    Memory = 10,
}

impl Class {
    /// Whether chunks of this class hold records, which are appended, sealed and cleaned.
    pub const fn has_records(self) -> bool {
        matches!(
            self,
            Class::Small
                | Class::Main
                | Class::Store
                | Class::Node
                | Class::Queue
                | Class::Log
                | Class::Memory
        )
    }

    /// Whether its records have the extended header.
    pub const fn is_extended(self) -> bool {
        matches!(self, Class::Store | Class::Memory)
    }

    /// Whether its records may be read as they were.
    pub const fn has_snapshots(self) -> bool {
        matches!(self, Class::Store | Class::Memory)
    }

    /// What an open chunk of this class becomes when its owner is ready with it.
    pub const fn settled(self) -> Kind {
        match self {
            Class::Control | Class::Buckets => Kind::Index,
            Class::Lane => Kind::Lane,
            _ => Kind::Sealed,
        }
    }
}

/// The state word of a descriptor.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct State(pub u64);

impl State {
    pub const fn new(kind: Kind, class: Class, owner: u16, generation: u32) -> State {
        State(kind as u64 | (class as u64) << 8 | ((owner as u64) & 0xfff) << 16 | (generation as u64) << 32)
    }

    /// None for a number that is no kind: damaged content.
    pub const fn kind(self) -> Option<Kind> {
        Some(match self.0 as u8 {
            0 => Kind::Virgin,
            1 => Kind::Free,
            2 => Kind::Open,
            3 => Kind::Sealed,
            4 => Kind::Evicting,
            5 => Kind::Quiesce,
            6 => Kind::RunHead,
            7 => Kind::RunContinued,
            8 => Kind::Index,
            9 => Kind::Lane,
            _ => return None,
        })
    }

    /// None for a number that is no class: damaged content.
    pub const fn class(self) -> Option<Class> {
        Some(match (self.0 >> 8) as u8 {
            0 => Class::None,
            1 => Class::Small,
            2 => Class::Main,
            3 => Class::Store,
            4 => Class::Node,
            5 => Class::Queue,
            6 => Class::Log,
            7 => Class::Control,
            8 => Class::Buckets,
            9 => Class::Lane,
            10 => Class::Memory,
            _ => return None,
        })
    }

    /// Index of the thread entry that owns the chunk; 0 for none.
    pub const fn owner(self) -> u16 {
        (self.0 >> 16) as u16 & 0xfff
    }

    /// Counts how often the chunk was freed.
    pub const fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }

    pub fn is(self, kind: Kind) -> bool {
        self.kind() == Some(kind)
    }

    /// Whether anybody may take the chunk for anything.
    pub fn is_free(self) -> bool {
        self.is(Kind::Virgin) || (self.is(Kind::Free) && !self.is_kept())
    }

    /// Whether the chunk is free, but for buckets only, because it held some: readers note in a bucket how often an entry was
    /// read, and one that was stopped in between does so however late.
    pub fn is_kept(self) -> bool {
        self.is(Kind::Free) && self.class() == Some(Class::Buckets)
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.kind(), self.class()) {
            (Some(kind), Some(class)) => {
                write!(f, "{kind:?} {class:?} of thread {} generation {}", self.owner(), self.generation())
            }
            _ => write!(f, "{:#018x}", self.0),
        }
    }
}

/// The word `dead`: bytes that nothing points to, valid for one generation of the chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dead(pub u64);

/// Mark of a count that was taken anew: a record that was unlinked just then may have been counted twice.
const ESTIMATED: u32 = 1 << 31;

impl Dead {
    pub const fn new(generation: u32, bytes: u32) -> Dead {
        Dead((bytes & !ESTIMATED) as u64 | (generation as u64) << 32)
    }

    /// A count that was taken anew while others may have unlinked records.
    pub const fn estimated(generation: u32, bytes: u32) -> Dead {
        Dead((bytes | ESTIMATED) as u64 | (generation as u64) << 32)
    }

    /// The count with more bytes.
    pub const fn plus(self, bytes: u64) -> Dead {
        let sum = self.bytes() as u64 + bytes;
        let sum = if sum < ESTIMATED as u64 { sum as u32 } else { ESTIMATED - 1 };
        Dead(self.0 & !((ESTIMATED - 1) as u64) | sum as u64)
    }

    pub const fn bytes(self) -> u32 {
        self.0 as u32 & !ESTIMATED
    }

    /// Whether every byte counted was counted once, by whoever unlinked it: never too many, maybe too few.
    pub const fn is_exact(self) -> bool {
        self.0 as u32 & ESTIMATED == 0
    }

    pub const fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// Two chunk ids in one word: the children of a split, or a parent and its generation.
pub const fn pair(low: u32, high: u32) -> u64 {
    low as u64 | (high as u64) << 32
}

/// The halves of [`pair`].
pub const fn unpair(word: u64) -> (u32, u32) {
    (word as u32, (word >> 32) as u32)
}

/// Where the pool's parts stand in a segment: a private copy, checked when it was made.
#[derive(Clone, Copy, Debug)]
pub struct PoolGeometry {
    /// Bytes of a chunk, a power of two.
    pub chunk_bytes: u64,
    /// Descriptors, and chunks in the arena, chunk 0 included.
    pub chunk_count: u32,
    /// Where descriptor 0 begins.
    pub table_offset: u64,
    /// Where chunk 0 begins.
    pub arena_offset: u64,
}

impl PoolGeometry {
    /// Where the bytes of a chunk begin.
    #[inline]
    pub const fn chunk_offset(&self, chunk: ChunkId) -> u64 {
        self.arena_offset + chunk.0 as u64 * self.chunk_bytes
    }

    /// The chunk that holds the byte at `offset`, if one does.
    #[inline]
    pub const fn chunk_of(&self, offset: u64) -> Option<ChunkId> {
        if offset < self.arena_offset + self.chunk_bytes {
            return None;
        }
        let index = (offset - self.arena_offset) >> self.chunk_bytes.trailing_zeros();
        if index < self.chunk_count as u64 { Some(ChunkId(index as u32)) } else { None }
    }
}

/// What goes into the layout hash from this layer.
pub const FACTS: &[u64] = &[
    DESCRIPTOR_BYTES,
    super::record::WINNER_BYTES,
    at::STATE as u64,
    at::SEQ as u64,
    at::DEAD as u64,
    at::TAIL as u64,
    at::FLUSHED as u64,
    at::SPLIT as u64,
    at::PARENT as u64,
    at::CURSOR as u64,
    at::HELD as u64,
    at::HELD_SMALL as u64,
    at::ACCOUNT as u64,
    at::OPENED as u64,
    at::QUIET_SINCE as u64,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_word_gives_back_its_parts() {
        let state = State::new(Kind::Evicting, Class::Store, 0xabc, 0xdead_beef);
        assert_eq!(
            (state.kind(), state.class(), state.owner(), state.generation()),
            (Some(Kind::Evicting), Some(Class::Store), 0xabc, 0xdead_beef)
        );
        assert_eq!(State(0).kind(), Some(Kind::Virgin));
        assert_eq!(State(0xff).kind(), None);
        assert_eq!(State(0xff00).class(), None);
    }

    #[test]
    fn offsets_outside_the_arena_belong_to_no_chunk() {
        let geometry =
            PoolGeometry { chunk_bytes: 1 << 14, chunk_count: 4, table_offset: 4096, arena_offset: 8192 };
        assert_eq!(geometry.chunk_of(0), None);
        assert_eq!(geometry.chunk_of(8192), None, "chunk 0 is never used");
        assert_eq!(geometry.chunk_of(8192 + (1 << 14)), Some(ChunkId(1)));
        assert_eq!(geometry.chunk_of(geometry.chunk_offset(ChunkId(3)) + 16383), Some(ChunkId(3)));
        assert_eq!(geometry.chunk_of(geometry.chunk_offset(ChunkId(3)) + 16384), None);
        assert_eq!(geometry.chunk_of(u64::MAX), None);
    }
}
