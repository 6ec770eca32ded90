//! Bytes of a table: its control area, its directory, its index chunks.
//!
//! ```text
//! control area, behind the 256 B header of the object
//!    0 seed      u64  seed of the hash of keys
//!    8 bits      u32  D: the directory has 2^D entries;  12 class u32: 2 cache, 3 store, 10 store without files
//!   16 limit     u64  bytes that the table may hold, 0 = what the fabric has: live records, or all chunks if it evicts
//!   24 flush     u64  cache: {number of a chunk 44 | 0 18 | set of counts 1 | pending 1}: records with a lower id are gone
//!   32 options   u64  cache: bit 0 = it evicts when it is full, bit 1 = it has events
//!   40 entries   u64  cache: most entries, 0 = any number
//!   48 aux       u64  cache: {bytes of the ghosts / 64 : 32 | bytes of the statistics / 64 : 32}, see below
//!   56 advisor   u64  cache: bytes of the advisor's sample
//!   64 deaths    u64  counts reaped threads: the counts below may be off until they were taken anew
//!   72 recounted u64  the value of `deaths` for which live and dead bytes were taken anew
//!   88 counted   u64  the value of `deaths` for which entries were counted anew
//!   96 ghosts    u64  evicting cache: records that were put among the ghosts so far
//!  104 young     u64  evicting cache with a limit of entries: those of class Small
//!  112 tree      u64  store: bytes of the area of its ordered index, 0 = it has none
//!  192 floor     u64  store: no state that left the table has a higher order; 0 = not recovered yet
//!  200 time      u64  store: the clock of its states, moved on by each flush; from 2
//!  256 stripes   16 x 64 B  2 x {live bytes u64 | entries u64}, by thread index; sums, wrapping; one set for what a flush left
//! 1280 free for the object that uses the table, up to 3840 (a store's leader, terms, marks; a cache's leases)
//! 2304 cache: ages u64 x 2 {milliseconds + 1}: moving means of how old evicted entries were, small and main; 0 = none yet
//! 2320 cache: unsent u64  events that could not be sent
//! 2560 store: announcements of snapshots, see `announce`
//! 3840 directory 2^D x u64  {index chunk 36 | generation 20 | local depth 6 | state 2}, lowest bits first; state 1 = in use
//!
//! aux area of a cache, at the next multiple of 64 behind the directory
//!      ghosts     sets of 8 x u32 {fingerprint 16 | age 16}: keys that were evicted lately
//!      statistics 128 B for each index of a thread entry, from 0: 8 x u64 counted for ever by its holders (hits, misses, sets,
//!                 deletes, evicted small, evicted main, expired, flushed), and the same as they were when the last one left
//!      advisor    a sample of keys, see `advisor`
//! aux area of a store with an ordered index, at the same place: see `tree::layout`
//!
//! index chunk: buckets of 64 B; the last 1/32 (at least one) are the stash
//!    0 slot      7 x u64  see `slot`
//!   56 frequency u16  2 bits for each slot, from the lowest: how often it was read, if the cache evicts; a hint
//!   58 overflow  u8   not 0 once a key homed here was put into one of its other buckets; never back to 0
//!   59 flags     u8   1 = a key homed here was put into the stash; 2 = all slots were moved to the children of a split
//!   60 lock      u32  {owner thread 12 | ticket 20}: who inserts a key homed here
//!
//! descriptor of an index chunk: aux = {local depth 32 | first directory entry 32}
//! ```

use crate::shm::{Block, Span};

/// Bytes of the header that every object begins with.
pub const OBJECT_HEADER_BYTES: u64 = 256;
/// Bytes of the control area in front of the directory, the object's header included. Models have no user part.
pub const DIRECTORY_OFFSET: u64 =
    if cfg!(memora_loom) { USER_OFFSET + 128 } else { OBJECT_HEADER_BYTES + 3840 };
/// The part of the control area that the object above may use, from the start of its header.
pub const USER_OFFSET: u64 = OBJECT_HEADER_BYTES + (control::STRIPES + 64 * STRIPE_COUNT) as u64;
/// Stripes of the counts. Models, whose number of steps counts, have few of everything.
pub const STRIPE_COUNT: usize = if cfg!(memora_loom) { 1 } else { 16 };

/// Bytes of a bucket: one cache line.
pub const BUCKET_BYTES: u64 = 64;
/// Slots of a bucket.
pub const SLOT_COUNT: usize = if cfg!(memora_loom) { 2 } else { 7 };
/// Buckets of an index chunk for each stash bucket.
const STASH_SHARE: u64 = 32;
/// Other buckets of which a key has one. Few and the same for all keys of a home, so that whoever takes an insert lock away
/// knows every place where its holder may still be about to insert.
pub const ALTERNATIVES: &[u64] = if cfg!(memora_loom) { &[1] } else { &[1, 5, 23, 101] };

/// Field offsets of the control area, from the end of the object's header.
pub mod control {
    pub const SEED: usize = 0;
    pub const BITS_CLASS: usize = 8;
    pub const LIMIT: usize = 16;
    pub const FLUSH: usize = 24;
    pub const OPTIONS: usize = 32;
    pub const ENTRIES_LIMIT: usize = 40;
    pub const AUX: usize = 48;
    pub const ADVISOR: usize = 56;
    pub const DEATHS: usize = 64;
    pub const RECOUNTED: usize = 72;
    pub const COUNTED: usize = 88;
    pub const GHOSTS: usize = 96;
    pub const SMALL_ENTRIES: usize = 104;
    pub const TREE: usize = 112;
    pub const FLOOR: usize = 192;
    pub const TIME: usize = 200;
    pub const STRIPES: usize = 256;
    /// Of a store.
    pub const SNAPSHOTS: u64 =
        if cfg!(memora_loom) { super::USER_OFFSET - super::OBJECT_HEADER_BYTES } else { 2560 };
    /// Of a cache; models have none.
    pub const AGES: u64 = 2304;
    pub const UNSENT: u64 = 2320;
    /// Within a stripe.
    pub const LIVE: usize = 0;
    pub const ENTRIES: usize = 8;
    /// From one set of counts to the other.
    pub const SET: usize = 16;
}

/// Bits of the word `options`.
pub mod option {
    /// The cache evicts when it is full.
    pub const EVICT: u64 = 1;
    /// The cache tells its events.
    pub const EVENTS: u64 = 2;
    /// Transactions may change the cache: its records have the extended header.
    pub const TRANSACTIONS: u64 = 4;
}

/// Field offsets of a bucket behind its slots.
pub mod bucket {
    pub const FREQUENCY: usize = 56;
    pub const OVERFLOW: usize = 58;
    pub const FLAGS: usize = 59;
    pub const LOCK: usize = 60;
}

const _: () = assert!(SLOT_COUNT * 8 <= bucket::FREQUENCY && bucket::LOCK + 4 == BUCKET_BYTES as usize);
const _: () =
    assert!(OBJECT_HEADER_BYTES + control::SNAPSHOTS + super::announce::AREA_BYTES <= DIRECTORY_OFFSET);
const _: () = assert!(cfg!(memora_loom) || USER_OFFSET == OBJECT_HEADER_BYTES + 1280);

/// Bucket flag: a key homed here was put into the stash.
pub const IN_STASH: u8 = 1;
/// Bucket flag: everything here was moved to the children.
pub const MIGRATED: u8 = 2;

/// Words that those sleep on who wait for the end of a lease: at the start of the user's part, for caches.
pub const BELL_COUNT: u64 = 64;
/// Bytes from one to the next.
pub const BELL_BYTES: u64 = 16;

/// A bucket as a block.
pub type Bucket<'a> = Block<'a, { BUCKET_BYTES as usize }>;
/// The fixed words of the control area.
pub type Control<'a> = Block<'a, { (USER_OFFSET - OBJECT_HEADER_BYTES) as usize }>;

/// How index chunks of this fabric are divided.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Buckets in all.
    pub buckets: u64,
    /// Home buckets: those before the stash.
    pub homes: u64,
}

impl Shape {
    pub const fn new(chunk_bytes: u64) -> Shape {
        let buckets = chunk_bytes / BUCKET_BYTES;
        let stash = if buckets / STASH_SHARE > 0 { buckets / STASH_SHARE } else { 1 };
        Shape { buckets, homes: buckets - stash }
    }

    /// The home bucket of a hash.
    #[inline]
    pub const fn home(&self, hash: u64) -> u64 {
        ((hash >> 14 & 0x3fff_ffff) * self.homes) >> 30
    }

    /// One of the other buckets of a home.
    #[inline]
    pub const fn alternative(&self, home: u64, which: usize) -> u64 {
        let sum = home + ALTERNATIVES[which % ALTERNATIVES.len()];
        // A division only where it changes anything.
        if sum < self.homes { sum } else { sum % self.homes }
    }

    /// Which of the other buckets a hash uses: bits that choose neither the home nor the tag.
    #[inline]
    pub const fn choice(hash: u64) -> usize {
        // The directory uses the bits above 44 from the top; those nearest to 44 are used by huge fabrics only.
        (hash >> 44 & 3) as usize
    }

    /// The two stash buckets of a home.
    #[inline]
    pub const fn stash(&self, home: u64) -> [u64; 2] {
        let count = self.buckets - self.homes;
        [self.homes + home % count, self.homes + (home / count + home + 1) % count]
    }

    /// Every bucket where a key with this hash may be: home, other, stash.
    #[inline]
    pub const fn candidates(&self, hash: u64) -> [u64; 4] {
        let home = self.home(hash);
        let stash = self.stash(home);
        [home, self.alternative(home, Self::choice(hash)), stash[0], stash[1]]
    }
}

/// Directory bits for a pool: two entries for each chunk that could become an index chunk, if half of all did.
pub const fn directory_bits(chunk_count: u32) -> u32 {
    let bits = (chunk_count / 2).next_power_of_two().trailing_zeros();
    if bits < 4 { 4 } else { bits }
}

/// Where the aux area begins, from the start of the object's header.
pub const fn aux_offset(bits: u32) -> u64 {
    (DIRECTORY_OFFSET + (8 << bits)).next_multiple_of(64)
}

/// Chunks of a table's control area, directory and aux area.
pub const fn control_chunks(chunk_bytes: u64, bits: u32, aux: Aux) -> u32 {
    (aux_offset(bits) + aux.bytes()).div_ceil(chunk_bytes) as u32
}

/// The parts of the aux area: bytes of each, multiples of 64, in the order in which they stand. All are 0 where the table is
/// not a cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Aux {
    pub ghosts: u64,
    pub stats: u64,
    pub advisor: u64,
    pub tree: u64,
}

/// Bytes of one thread entry's statistics: two lines.
pub const STATS_LINE_BYTES: u64 = super::stats::LINES_BYTES;
/// The most and the least bytes of ghosts of a cache that evicts.
const GHOSTS_MAX: u64 = 64 << 20;
const GHOSTS_MIN: u64 = if cfg!(memora_loom) { 64 } else { 1024 };
/// The most and the least bytes of an advisor's sample.
const ADVISOR_MAX: u64 = 66 << 10;
const ADVISOR_MIN: u64 = 2 << 10;

impl Aux {
    /// The parts for a cache that may use `room` bytes; `limited`: because it has a limit. `entries` is its limit of those, or
    /// 0, and `threads` the number of thread entries.
    pub fn of_cache(room: u64, limited: bool, entries: u64, evicts: bool, threads: u32) -> Aux {
        // Without a limit it may be one of many.
        let share = if limited { room / 64 } else { room / 128 };
        // As many ghosts as there are entries, in tables that are half full.
        let ghosts = if entries != 0 { entries.saturating_mul(8).min(room / 16) } else { share };
        let ghosts = if evicts { ghosts.clamp(GHOSTS_MIN, GHOSTS_MAX).next_multiple_of(64) } else { 0 };
        let advisor = (room / 512).clamp(ADVISOR_MIN, ADVISOR_MAX).next_multiple_of(64);
        let full = Aux { ghosts, stats: u64::from(threads) * STATS_LINE_BYTES, advisor, tree: 0 };
        if cfg!(memora_loom) { Aux { ghosts, ..Aux::default() } } else { full }
    }

    /// The words of the control area that say how long the parts are.
    pub const fn words(self) -> [u64; 3] {
        [(self.ghosts / 64) | ((self.stats / 64) << 32), self.advisor, self.tree]
    }

    /// The parts that the words say.
    pub const fn from_words(words: [u64; 3]) -> Aux {
        let advisor = if words[1] < 1 << 32 { words[1] } else { 0 };
        let tree = if words[2] < 1 << 32 { words[2] } else { 1 };
        Aux { ghosts: (words[0] & 0xffff_ffff) * 64, stats: (words[0] >> 32) * 64, advisor, tree }
    }

    pub const fn bytes(self) -> u64 {
        self.ghosts + self.stats + self.advisor + self.tree
    }
}

/// A word of the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry(pub u64);

impl Entry {
    pub const fn new(chunk: u32, generation: u32, depth: u32) -> Entry {
        Entry(chunk as u64 | (generation as u64 & 0xf_ffff) << 36 | (depth as u64 & 0x3f) << 56 | 1 << 62)
    }

    pub const fn chunk(self) -> u64 {
        self.0 & 0xf_ffff_ffff
    }

    /// The low 20 bits of the chunk's generation.
    pub const fn generation(self) -> u32 {
        (self.0 >> 36) as u32 & 0xf_ffff
    }

    /// Top bits of the hash that all keys of the chunk share.
    pub const fn depth(self) -> u32 {
        (self.0 >> 56) as u32 & 0x3f
    }

    pub const fn in_use(self) -> bool {
        self.0 >> 62 == 1
    }
}

/// The bucket at a number of an index chunk's bytes.
pub fn bucket_of(span: Span<'_>, number: u64) -> crate::Result<Bucket<'_>> {
    span.block(number * BUCKET_BYTES)
}

/// What goes into the layout hash from this layer.
pub const FACTS: &[u64] = &[
    OBJECT_HEADER_BYTES,
    DIRECTORY_OFFSET,
    USER_OFFSET,
    BUCKET_BYTES,
    SLOT_COUNT as u64,
    control::FLUSH as u64,
    control::OPTIONS as u64,
    control::AUX as u64,
    control::TREE as u64,
    bucket::FREQUENCY as u64,
    STATS_LINE_BYTES,
    control::AGES,
    control::UNSENT,
    option::TRANSACTIONS,
    control::SNAPSHOTS,
    super::announce::ENTRY_BYTES,
    super::announce::SNAPSHOTS_MAX,
    super::announce::AREA_BYTES,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_of_a_key_are_in_the_chunk_and_its_home_is_not_its_other() {
        for bytes in [128u64, 256, 1 << 14, 1 << 16, 1 << 20] {
            let shape = Shape::new(bytes);
            for seed in 0..2000u64 {
                let hash = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let [home, other, one, two] = shape.candidates(hash);
                assert!(home < shape.homes && other < shape.homes);
                assert!(
                    shape.homes <= one && one < shape.buckets && shape.homes <= two && two < shape.buckets
                );
                assert!(
                    home != other || shape.homes == 1 || shape.homes == 5 || shape.homes == 23,
                    "{shape:?}"
                );
            }
        }
    }

    #[test]
    fn the_aux_area_takes_a_small_part_and_its_words_give_it_back() {
        for room in [1u64 << 20, 256 << 20, 16 << 30, 1 << 40] {
            for (limited, entries, evicts) in
                [(true, 0, true), (false, 0, true), (true, 1000, true), (true, 0, false)]
            {
                let aux = Aux::of_cache(room, limited, entries, evicts, 128);
                assert_eq!(Aux::from_words(aux.words()), aux);
                assert!(aux.bytes() <= room / 20 && aux.bytes() % 64 == 0, "{aux:?} of {room}");
                assert_eq!(aux.ghosts != 0, evicts);
            }
        }
        assert_eq!(Aux::of_cache(1 << 30, true, 1000, true, 128).ghosts, 8000);
    }

    #[test]
    fn a_directory_entry_gives_back_its_parts() {
        let entry = Entry::new(0xabcdef, 0x1_2345_6789u64 as u32, 17);
        assert_eq!(
            (entry.chunk(), entry.generation(), entry.depth(), entry.in_use()),
            (0xabcdef, 0x56789, 17, true)
        );
        assert!(!Entry(0).in_use());
    }
}
