//! The shards of a store: groups of its keys with checkpoint files of their own, and how many there are.
//!
//! The hash of a key chooses its bucket, and the number of the bucket its partition, of 4096; a jump consistent hash (Lamping and Veach, "A
//! fast, minimal memory, consistent hash algorithm", 2014) maps partitions to shards. So the walk of one shard visits its own
//! buckets and no others. A key that is deleted and made again may come into another bucket; that does no harm, because whoever reads
//! the files looks at all of them, and the newest state of a key counts wherever it stands.
//!
//! For the same reason nothing moves when the number changes. Each number, and each table in memory, has a *map* id of its own; the
//! manifest keeps the rows of the map before until every shard of the new one has a checkpoint.
//!
//! ```text
//! word = | version 32 | number 32 |      version: grows with each change
//! ```

use super::Store;
use super::core::Core;
use crate::error::{Error, ErrorCode, Result};
use crate::journal::manifest::{MAP_OF_ONE, Row, SHARDS_MAX};
use crate::shm::atomic::Ordering;

/// Shards of a new store, unless the user says otherwise.
pub const SHARDS_DEFAULT: u32 = 4;

const PARTITIONS: u64 = 4096;

/// Which shard a partition belongs to: when one more shard comes, only what goes there changes its place.
fn jump(partition: u64, shards: u32) -> u32 {
    // Neighbours shall not look alike.
    let mut random = partition.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let (mut place, mut next) = (0u64, 0u64);
    while next < u64::from(shards) {
        place = next;
        random = random.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        next = ((place + 1) as f64 * ((1u64 << 31) as f64 / ((random >> 33) + 1) as f64)) as u64;
    }
    place as u32
}

/// A way of dividing the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Map {
    pub id: u64,
    pub shards: u32,
}

impl Map {
    /// The shard of each bucket of an index chunk.
    pub fn places(self, buckets: u64) -> Vec<u32> {
        let partition = |bucket: u64| bucket * PARTITIONS / buckets.max(1);
        (0..buckets).map(|bucket| jump(partition(bucket), self.shards)).collect()
    }

    /// The shard that needs a checkpoint most: one that has none, else that which holds the journal back.
    pub fn neediest(self, rows: &[Row]) -> u32 {
        let place = |shard: u32| {
            rows.iter()
                .find(|row| (row.map, row.shard) == (self.id, shard))
                .map(|row| (row.first, row.term, row.part))
        };
        (0..self.shards).min_by_key(|shard| place(*shard)).unwrap_or(0)
    }
}

/// Refuses a number of shards that cannot be.
pub fn check_shards(shards: u32) -> Result<()> {
    if (1..=SHARDS_MAX).contains(&shards) {
        return Ok(());
    }
    Err(Error::new(
        ErrorCode::InvalidArgument,
        format!("`shards` is {shards}, but a store has 1 to {SHARDS_MAX} of them."),
    ))
}

/// The word of a number that was set for the first time.
pub fn first_word(shards: u32) -> u64 {
    1 << 32 | u64::from(shards)
}

impl Core {
    /// How the store is divided now.
    pub fn map(&self) -> Result<Map> {
        let words = self.words()?;
        // ORDER Acquire [shards]: whoever sees the number makes its checkpoints by it.
        let word = words.shards().load(Ordering::Acquire);
        let shards = word as u32;
        if !(1..=SHARDS_MAX).contains(&shards) {
            return Err(Error::new(ErrorCode::Corrupt, format!("The store has {shards} shards.")));
        }
        // ORDER Relaxed: set before the store is ready, never changed.
        let seed = words.map_seed().load(Ordering::Relaxed);
        let id = seed ^ (word >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Ok(Map { id: id.max(MAP_OF_ONE + 1), shards })
    }

    /// Divides the store anew, and writes the checkpoints by which that is in the files.
    fn set_shards(&self, shards: u32) -> Result<()> {
        check_shards(shards)?;
        let Some(journal) = &self.journal else { return Err(no_files(self.pool().shm().writable())) };
        self.accept()?;
        let word = self.words()?.shards();
        // ORDER Acquire [shards]: as in `map`.
        let mut seen = word.load(Ordering::Acquire);
        while seen as u32 != shards {
            let next = (seen >> 32).wrapping_add(1) << 32 | u64::from(shards);
            kill_point!("store.shards.before_change");
            // ORDER AcqRel [shards]: from now on checkpoints are made by the new number.
            match word.compare_exchange(seen, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break,
                Err(now) => seen = now,
            }
        }
        kill_point!("store.shards.changed");
        // One who set the same number may have died before it had made them.
        let map = self.map()?;
        if journal.manifest()?.is_some_and(|manifest| manifest.is_of_map(map.id)) {
            return Ok(());
        }
        self.checkpoint_now()
    }
}

fn no_files(writable: bool) -> Error {
    if !writable {
        return Error::new(ErrorCode::ReadOnly, "The number of shards cannot be changed by a reader.");
    }
    Error::new(ErrorCode::InvalidArgument, "A store without `dir` has no files, so it has no shards.")
}

impl Store {
    /// How many shards the files of the store are divided into; 0 for a store without files.
    pub fn shards(&self) -> Result<u32> {
        let core = self.core()?;
        // ORDER Relaxed: set before the store is ready, and only if it has files.
        Ok(if core.words()?.shards().load(Ordering::Relaxed) != 0 { core.map()?.shards } else { 0 })
    }

    /// Changes how many shards the files of the store are divided into, 1 to 64, while everybody goes on reading and writing. Returns when
    /// the files are divided so: it writes a checkpoint of each new shard. Whoever dies on the way loses nothing; until all
    /// checkpoints are there the loss of the segment may bring the old number back.
    pub fn set_shards(&self, shards: u32) -> Result<()> {
        self.core()?.set_shards(shards)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Lsn;

    #[test]
    fn one_more_shard_takes_its_part_of_all_others_and_moves_nothing_else() {
        for shards in 1..SHARDS_MAX {
            let (mut moved, mut sizes) = (0, vec![0; shards as usize + 1]);
            for partition in 0..PARTITIONS {
                let (before, after) = (jump(partition, shards), jump(partition, shards + 1));
                assert!(before < shards && (after == before || after == shards), "{partition} of {shards}");
                moved += u64::from(after != before);
                sizes[after as usize] += 1;
            }
            let fair = PARTITIONS / u64::from(shards + 1);
            assert!(moved < 2 * fair && moved > fair / 2, "{moved} of {fair}");
            assert!(sizes.iter().all(|size| *size < 2 * fair && *size > fair / 3), "{sizes:?}");
        }
    }

    #[test]
    fn every_bucket_has_a_shard_and_every_shard_a_bucket() {
        for buckets in [256, 1024, 16384, 1 << 20] {
            for shards in [1, 4, 16] {
                let places = Map { id: 1, shards }.places(buckets);
                assert_eq!(places.len() as u64, buckets);
                let mut seen: Vec<u32> = places;
                seen.sort_unstable();
                seen.dedup();
                assert_eq!(seen, (0..shards).collect::<Vec<u32>>());
            }
        }
    }

    #[test]
    fn first_comes_who_has_no_checkpoint_then_who_has_the_oldest() {
        let map = Map { id: 9, shards: 3 };
        let row = |map, shard, file| {
            let first = Lsn::new(1, file, 8);
            let (term, part, parts) = (file, 0, 1);
            Row { map, shards: 3, shard, term, part, parts, first, first_epoch: 1, bytes: 1, records: 1 }
        };
        assert_eq!(map.neediest(&[row(8, 1, 1), row(9, 0, 2)]), 1);
        assert_eq!(map.neediest(&[row(9, 0, 2), row(9, 1, 1), row(9, 2, 5)]), 1);
    }

    #[test]
    fn a_number_that_cannot_be_is_refused() {
        for shards in [0, SHARDS_MAX + 1, u32::MAX] {
            assert_eq!(check_shards(shards).unwrap_err().code(), ErrorCode::InvalidArgument);
        }
        assert!(check_shards(1).is_ok() && check_shards(SHARDS_MAX).is_ok());
    }
}
