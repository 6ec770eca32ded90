//! Bytes of a table: its control area, its directory, its index chunks.
//!
//! ```text
//! control area, behind the 256 B header of the object
//!    0 seed      u64  seed of the hash of keys
//!    8 bits      u32  D: the directory has 2^D entries;  12 class u32: 2 cache, 3 store
//!   16 limit     u64  bytes of live records that the table may hold, 0 = what the fabric has
//!   64 deaths    u64  counts reaped threads: the counts below may be off until they were taken anew
//!   72 recounted u64  the value of `deaths` for which live and dead bytes were taken anew
//!   88 counted   u64  the value of `deaths` for which entries were counted anew
//!   80 swept_ms  u64  when expired entries were last looked for
//!  192 floor     u64  store: no state that left the table has a higher order; 0 = not recovered yet
//!  256 stripes   16 x 64 B  {live bytes u64 | entries u64 | 0}, by thread index; sums, wrapping
//! 1280 free for the object that uses the table, up to 3840 (a store's leader, terms, marks)
//! 3840 directory 2^D x u64  {index chunk 36 | generation 20 | local depth 6 | state 2}, lowest bits first; state 1 = in use
//!
//! index chunk: buckets of 64 B; the last 1/32 (at least one) are the stash
//!    0 slot      7 x u64  see `slot`
//!   56 frequency u16  reserved for eviction: 2 bits for each slot
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
pub const DIRECTORY_OFFSET: u64 = if cfg!(memora_loom) { USER_OFFSET } else { OBJECT_HEADER_BYTES + 3840 };
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
    pub const DEATHS: usize = 64;
    pub const RECOUNTED: usize = 72;
    pub const SWEPT_MS: usize = 80;
    pub const COUNTED: usize = 88;
    pub const FLOOR: usize = 192;
    pub const STRIPES: usize = 256;
    /// Within a stripe.
    pub const LIVE: usize = 0;
    pub const ENTRIES: usize = 8;
}

/// Field offsets of a bucket behind its slots.
pub mod bucket {
    pub const OVERFLOW: usize = 58;
    pub const FLAGS: usize = 59;
    pub const LOCK: usize = 60;
}

const _: () = assert!(SLOT_COUNT * 8 <= bucket::OVERFLOW && bucket::LOCK + 4 == BUCKET_BYTES as usize);
const _: () = assert!(cfg!(memora_loom) || USER_OFFSET == OBJECT_HEADER_BYTES + 1280);

/// Bucket flag: a key homed here was put into the stash.
pub const IN_STASH: u8 = 1;
/// Bucket flag: everything here was moved to the children.
pub const MIGRATED: u8 = 2;

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
        (home + ALTERNATIVES[which % ALTERNATIVES.len()]) % self.homes
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

/// Chunks of a table's control area and directory.
pub const fn control_chunks(chunk_bytes: u64, bits: u32) -> u32 {
    (DIRECTORY_OFFSET + (8 << bits)).div_ceil(chunk_bytes) as u32
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
pub const FACTS: &[u64] =
    &[OBJECT_HEADER_BYTES, DIRECTORY_OFFSET, USER_OFFSET, BUCKET_BYTES, SLOT_COUNT as u64];

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
    fn a_directory_entry_gives_back_its_parts() {
        let entry = Entry::new(0xabcdef, 0x1_2345_6789u64 as u32, 17);
        assert_eq!(
            (entry.chunk(), entry.generation(), entry.depth(), entry.in_use()),
            (0xabcdef, 0x56789, 17, true)
        );
        assert!(!Entry(0).in_use());
    }
}
