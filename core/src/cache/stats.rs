//! What a cache says of itself.

use super::Cache;
use crate::error::Result;
use crate::registry::ProcessInfo;
use crate::table::{Count, Counts, TableStats};

pub use crate::table::ChunkStates;

/// Figures of a cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Entries, expired ones that were not yet removed included.
    pub entries: u64,
    /// Bytes of the records of these entries, keys and headers included.
    pub live_bytes: u64,
    /// Bytes of replaced and deleted records that were not yet reclaimed.
    pub dead_bytes: u64,
    /// Bytes of records that the cache may hold now.
    pub capacity_bytes: u64,
    /// Chunks of records.
    pub record_chunks: u64,
    /// Chunks of the index.
    pub index_chunks: u64,
    /// What was done since the cache was made, by all processes, also those that are gone.
    pub counts: CacheCounts,
    /// The chunks of records by what is done with them.
    pub chunks: ChunkStates,
    /// Milliseconds that entries evicted from among the young had been there, as a moving mean; `None` before the first.
    pub evicted_small_age_ms: Option<u64>,
    /// The same for those evicted from among the old.
    pub evicted_main_age_ms: Option<u64>,
}

/// What was done to a cache. Reading by processes that opened the fabric for reading only is not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheCounts {
    /// Keys read that were there.
    pub hits: u64,
    /// Keys read that were not there, or had expired.
    pub misses: u64,
    /// Entries stored, by whatever operation.
    pub sets: u64,
    /// Entries deleted.
    pub deletes: u64,
    /// Entries evicted from among the young, which were not read often enough.
    pub evicted_small: u64,
    /// Entries evicted from among the old, which were not read any more.
    pub evicted_main: u64,
    /// Expired entries that were removed to make room.
    pub expired: u64,
    /// Flushed entries that were removed to make room.
    pub flushed: u64,
}

impl CacheCounts {
    /// The part of all reads that found their key; `None` before the first.
    pub fn hit_ratio(&self) -> Option<f64> {
        let reads = self.hits.saturating_add(self.misses);
        (reads != 0).then(|| self.hits as f64 / reads as f64)
    }

    /// All entries evicted for want of room.
    pub fn evictions(&self) -> u64 {
        self.evicted_small.saturating_add(self.evicted_main)
    }
}

impl From<Counts> for CacheCounts {
    fn from(counts: Counts) -> CacheCounts {
        CacheCounts {
            hits: counts.of(Count::Hit),
            misses: counts.of(Count::Miss),
            sets: counts.of(Count::Set),
            deletes: counts.of(Count::Delete),
            evicted_small: counts.of(Count::EvictSmall),
            evicted_main: counts.of(Count::EvictMain),
            expired: counts.of(Count::Expire),
            flushed: counts.of(Count::Flush),
        }
    }
}

/// What the threads of one process did to a cache since they attached; threads that have ended are not among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessCounts {
    /// The process.
    pub process: ProcessInfo,
    /// What its threads did.
    pub counts: CacheCounts,
}

impl Cache {
    /// Figures of the cache.
    pub fn stats(&self) -> Result<CacheStats> {
        self.host.enter()?;
        let TableStats {
            entries, live_bytes, dead_bytes, capacity_bytes, record_chunks, index_chunks, ..
        } = self.table.stats()?;
        let [evicted_small_age_ms, evicted_main_age_ms] = self.table.evicted_ages();
        Ok(CacheStats {
            entries,
            live_bytes,
            dead_bytes,
            capacity_bytes,
            record_chunks,
            index_chunks,
            counts: self.table.counts().into(),
            chunks: self.table.chunk_states()?,
            evicted_small_age_ms,
            evicted_main_age_ms,
        })
    }

    /// What each attached process did to the cache.
    pub fn process_counts(&self) -> Result<Vec<ProcessCounts>> {
        self.host.enter()?;
        let sharers = self.host.processes()?.into_iter();
        Ok(sharers
            .map(|(process, threads)| ProcessCounts {
                process,
                counts: self.table.counts_of_all(&threads).into(),
            })
            .collect())
    }
}
