//! What more or less memory would give.

use super::Cache;
use crate::error::Result;

/// The parts and multiples of the cache's memory that are looked at.
const FACTORS: [f64; 7] = [0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0];

/// What a cache of other sizes would give, estimated from a sample of what is read. It is the hit ratio of an LRU cache: the
/// eviction of this library does as well or better, so what counts is by how much it rises or falls.
#[derive(Clone, Debug, PartialEq)]
pub struct Advice {
    /// The part of all reads so far that found their key.
    pub hit_ratio: f64,
    /// Reads in the sample: with thousands of them the estimates are good to two or three points, those of a size that has few keys
    /// of the sample (less than 64, of one key of 64 or fewer) to twice as much.
    pub sampled_reads: u64,
    /// What to expect, from the least memory to the most.
    pub points: Vec<AdvicePoint>,
}

/// What to expect of one size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdvicePoint {
    /// How many times the memory that the cache may use now.
    pub factor: f64,
    /// Bytes of records.
    pub bytes: u64,
    /// Entries of the present mean size that it would hold.
    pub entries: u64,
    /// The part of all reads that would find their key.
    pub hit_ratio: f64,
}

impl Cache {
    /// The hit ratio to expect with an eighth of the memory up to eight times as much. `None` while too few of the keys that
    /// were read are in the sample: it takes one key of 64 or fewer.
    pub fn advice(&self) -> Result<Option<Advice>> {
        let stats = self.stats()?;
        let Some(curve) = self.table.curve() else { return Ok(None) };
        let Some(hit_ratio) = stats.counts.hit_ratio() else { return Ok(None) };
        if stats.entries == 0 || stats.live_bytes == 0 {
            return Ok(None);
        }
        let entry_bytes = stats.live_bytes as f64 / stats.entries as f64;
        let by_bytes = (stats.capacity_bytes as f64 / entry_bytes).max(stats.entries as f64);
        let now = match self.table.entries_limit() {
            0 => by_bytes,
            most => by_bytes.min(most as f64),
        };
        let point = |factor: f64| AdvicePoint {
            factor,
            bytes: (now * entry_bytes * factor) as u64,
            entries: (now * factor) as u64,
            hit_ratio: curve.hit_ratio(now * factor),
        };
        let points = FACTORS.into_iter().map(point).collect();
        Ok(Some(Advice { hit_ratio, sampled_reads: curve.sampled(), points }))
    }
}
