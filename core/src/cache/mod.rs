//! The cache: entries in memory that all processes of a fabric share.
//!
//! ```no_run
//! use memora::{Fabric, SetOptions};
//!
//! let fabric = Fabric::open("prices")?;
//! let prices = fabric.cache("prices")?;
//! prices.set(b"EURUSD", b"1.0712")?;
//! prices.set_with(b"GBPUSD", b"1.2701", &SetOptions { ttl_ms: Some(5_000), flags: 0 })?;
//! assert_eq!(prices.get(b"EURUSD")?, Some(b"1.0712".to_vec()));
//! # Ok::<(), memora::Error>(())
//! ```
//!
//! Reading takes no lock and writes nothing (but a hint of two bits, until an entry has been read three times). Overwriting
//! is one compare-and-swap. A cache that is full gives up what is least likely to be asked for again; one that was made with
//! [`WhenFull::Reject`] refuses new entries with `Full`, and what is there can always be overwritten, as long as values do
//! not grow. Every change takes effect at one moment, also if the process is killed in the middle: others see the old value
//! or the new one.

mod advisor;
mod compute;
#[cfg(all(test, not(memora_loom)))]
mod compute_tests;
mod counter;
mod events;
#[cfg(all(test, not(memora_loom)))]
mod flush_tests;
mod meta;
#[cfg(all(test, not(memora_loom)))]
mod meta_tests;
mod operations;
#[cfg(all(test, not(memora_loom)))]
mod operations_tests;
mod options;
mod stats;
#[cfg(all(test, not(memora_loom)))]
mod tests;
mod view;
#[cfg(all(test, not(memora_loom)))]
mod view_tests;

pub use compute::{Lease, Token};
pub use counter::{Counter, CounterKind};
pub use meta::{MetaEntry, MetaGet, MetaSet, SetMode, SetOutcome, Ttl};

use std::sync::Arc;

pub use advisor::{Advice, AdvicePoint};
pub(crate) use events::EventSource;
pub use events::{Event, EventKind, EventSubscriber};
pub use options::{CacheOptions, WhenFull};
pub use stats::{CacheCounts, CacheStats, ChunkStates, ProcessCounts};
pub use view::View;

use crate::chunk::record::Head;
use crate::chunk::{Actor, ChunkId, Seat};
use crate::error::{Error, ErrorCode, Result};
use crate::registry::ProcessInfo;
use crate::table::entry::{CasOutcome, Entry, SetOptions, Version};
use crate::table::{Action, Current, Table, Update, Value};

/// The process and thread that a cache is used from.
pub trait Host: Send + Sync {
    /// Refuses a handle that was closed, or that was inherited by a forked child.
    fn enter(&self) -> Result<()>;
    /// The calling thread's entry, attached if it is not. Refuses what `enter` refuses.
    fn actor(&self) -> Result<Actor<'_>>;
    /// The same in a form that costs less to hand over.
    fn seat(&self) -> Result<Seat>;
    /// As `enter`, with the number of the calling thread's entry for counting what it reads; 0 where there is none.
    fn reader(&self) -> Result<u16>;
    /// The attached processes, each with the entries of its threads.
    fn processes(&self) -> Result<Vec<(ProcessInfo, Vec<u16>)>>;
    /// Where the events of the cache with this object number come from.
    fn events(&self, cache: u32) -> Result<Box<dyn EventSource>>;
    /// Announces a chunk for a view, which must then look again. False if the process may hold no more.
    fn hold(&self, chunk: ChunkId) -> Result<bool>;
    /// A view of the chunk ended.
    fn let_go(&self, chunk: ChunkId);
}

/// A handle on a cache; clones share it.
#[derive(Clone)]
pub struct Cache {
    table: Arc<Table>,
    host: Arc<dyn Host>,
}

#[cold]
#[inline(never)]
fn too_small(capacity: usize, len: usize) -> Error {
    Error::with_amount(
        ErrorCode::BufferTooSmall,
        len as u64,
        format!("The value has {len} bytes, the buffer {capacity}."),
    )
}

/// Milliseconds until `expiry`, for an entry that has one.
fn ttl_left(expiry: u64, now_ms: impl FnOnce() -> u64) -> Option<u64> {
    (expiry != 0).then(|| expiry.saturating_sub(now_ms()))
}

impl Cache {
    /// A handle on the table of a cache.
    pub(crate) fn new(table: Table, host: Arc<dyn Host>) -> Cache {
        Cache { table: Arc::new(table), host }
    }

    /// The value of `key`.
    #[inline]
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let reader = self.host.reader()?;
        let mut value = Vec::new();
        let found = self.table.read_for(reader, key, |head, bytes| {
            crate::table::entry::set_len(&mut value, head.value_len as usize);
            bytes.copy_out(0, &mut value)
        })?;
        Ok(found.map(|_| value))
    }

    /// The value of `key` with its version, flags and remaining time to live.
    pub fn get_entry(&self, key: &[u8]) -> Result<Option<Entry>> {
        let reader = self.host.reader()?;
        let mut value = Vec::new();
        let found = self.table.read_for(reader, key, |head, bytes| {
            crate::table::entry::set_len(&mut value, head.value_len as usize);
            bytes.copy_out(0, &mut value)
        })?;
        Ok(found.map(|head| self.entry(&head, value)))
    }

    /// Copies the value of `key` into `buffer` and returns its length. `BufferTooSmall` tells the length that is needed.
    #[inline]
    pub fn get_into(&self, key: &[u8], buffer: &mut [u8]) -> Result<Option<usize>> {
        let reader = self.host.reader()?;
        let found = self.table.read_for(reader, key, |head, bytes| {
            let len = head.value_len as usize;
            match buffer.get_mut(..len) {
                Some(part) => bytes.copy_out(0, part),
                None => Err(too_small(buffer.len(), len)),
            }
        })?;
        Ok(found.map(|head| head.value_len as usize))
    }

    /// Reads many keys; `answer` gets the place of each key and its value. Faster for each key than reading them one by
    /// one, because their memory is fetched at once. Each value is one that was there; they are not of one moment.
    pub fn get_many(&self, keys: &[&[u8]], answer: impl FnMut(usize, Option<&[u8]>)) -> Result<()> {
        let reader = self.host.reader()?;
        self.table.read_many(reader, keys, answer)
    }

    /// Sets `key` to `value`, whatever was there. Returns the new version.
    #[inline]
    pub fn set(&self, key: &[u8], value: &[u8]) -> Result<Version> {
        self.set_with(key, value, &SetOptions::default())
    }

    /// As [`Cache::set`], with a time to live and flags.
    #[inline]
    pub fn set_with(&self, key: &[u8], value: &[u8], options: &SetOptions) -> Result<Version> {
        let seat = self.host.seat()?;
        let me = match seat.actor(self.table.shm()) {
            Some(me) => me,
            None => self.host.actor()?,
        };
        let update = self.put(value, options);
        Ok(Version(self.table.put(me, key, &update)?.id))
    }

    /// Sets `key` only if there is no such entry. `None` if there is one.
    pub fn add(&self, key: &[u8], value: &[u8], options: &SetOptions) -> Result<Option<Version>> {
        self.put_if(key, value, options, |current| current.is_none())
    }

    /// Sets `key` only if there is such an entry. `None` if there is none.
    pub fn replace(&self, key: &[u8], value: &[u8], options: &SetOptions) -> Result<Option<Version>> {
        self.put_if(key, value, options, |current| current.is_some())
    }

    /// Deletes `key`. False if there was no such entry.
    pub fn delete(&self, key: &[u8]) -> Result<bool> {
        Ok(self.table.update(self.host.actor()?, key, |_| Ok(Action::Remove))?.changed)
    }

    /// Sets `key` only if its version is still `expected`.
    pub fn compare_and_swap(
        &self,
        key: &[u8],
        value: &[u8],
        expected: Version,
        options: &SetOptions,
    ) -> Result<CasOutcome> {
        let mut found = None;
        let stored = self.put_if(key, value, options, |current| {
            found = current.map(|current| Version(current.head.id));
            found == Some(expected)
        })?;
        Ok(match (stored, found) {
            (Some(version), _) => CasOutcome::Stored(version),
            (None, Some(version)) => CasOutcome::Stale(version),
            (None, None) => CasOutcome::NotFound,
        })
    }

    /// Adds to a decimal number and returns the sum. An entry that is not there is set to `initial`, if one is given.
    /// `NotANumber` for other values, `CounterOverflow` beyond 64 bits.
    pub fn increment(&self, key: &[u8], by: u64, initial: Option<u64>) -> Result<Option<u64>> {
        self.count_with(key, &Counter { initial, ..Counter::up(by) })
    }

    /// Subtracts from a decimal number, not below 0, and returns the rest. Otherwise as [`Cache::increment`].
    pub fn decrement(&self, key: &[u8], by: u64, initial: Option<u64>) -> Result<Option<u64>> {
        self.count_with(key, &Counter { initial, ..Counter::down(by) })
    }

    /// Gives at least one and about `limit` entries, beginning at `cursor` (0 at first); returns the next cursor, 0 at the
    /// end. An entry that stays in the cache is given exactly once in a whole scan, however the cache grows meanwhile.
    pub fn scan(&self, cursor: u64, limit: usize, mut visit: impl FnMut(&[u8], &Entry)) -> Result<u64> {
        self.host.enter()?;
        self.table.scan(cursor, limit, |key, head, value| {
            visit(key, &self.entry(head, value.to_vec()));
            Ok(())
        })
    }

    /// All entries, one after the other.
    pub fn iter(&self) -> Iter<'_> {
        Iter { cache: self, cursor: Some(0), ready: Vec::new().into_iter() }
    }

    /// Its table, for transactions.
    pub(crate) fn table(&self) -> &Table {
        &self.table
    }

    /// Whether transactions of stores may change it: as it was made.
    pub fn has_transactions(&self) -> bool {
        self.table.has_transactions()
    }

    /// Number of entries, expired ones that were not yet removed included.
    pub fn len(&self) -> Result<u64> {
        self.host.enter()?;
        self.table.len()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    fn entry(&self, head: &Head, value: Vec<u8>) -> Entry {
        let ttl_ms = ttl_left(head.expiry, || self.table.now_ms());
        Entry { value, version: Version(head.id), flags: head.client, ttl_ms }
    }

    #[inline]
    fn put<'v>(&self, value: &'v [u8], options: &SetOptions) -> Update<'v> {
        let expiry = expiry(options.ttl_ms, || self.table.now_ms());
        Update { value: Value::Bytes(value), expiry, client: options.flags, marks: 0, id: 0 }
    }

    fn put_if(
        &self,
        key: &[u8],
        value: &[u8],
        options: &SetOptions,
        mut condition: impl FnMut(Option<&Current<'_>>) -> bool,
    ) -> Result<Option<Version>> {
        let me = self.host.actor()?;
        let update = self.put(value, options);
        let changed = self.table.update(me, key, |current| {
            Ok(if condition(current.as_ref()) { Action::Put(update) } else { Action::Keep })
        })?;
        Ok(changed.changed.then_some(Version(changed.id)))
    }
}

/// All entries of a cache, each as it is when it is reached.
pub struct Iter<'a> {
    cache: &'a Cache,
    cursor: Option<u64>,
    ready: std::vec::IntoIter<(Vec<u8>, Entry)>,
}

impl Iterator for Iter<'_> {
    type Item = Result<(Vec<u8>, Entry)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.ready.next() {
                return Some(Ok(entry));
            }
            let cursor = self.cursor?;
            let mut ready = Vec::new();
            match self.cache.scan(cursor, 128, |key, entry| ready.push((key.to_vec(), entry.clone()))) {
                Ok(next) => self.cursor = (next != 0).then_some(next),
                Err(error) => {
                    self.cursor = None;
                    return Some(Err(error));
                }
            }
            self.ready = ready.into_iter();
        }
    }
}

/// The instant of expiry on a clock; 0 for never.
#[inline]
fn expiry(ttl_ms: Option<u64>, now_ms: impl FnOnce() -> u64) -> u64 {
    ttl_ms.map_or(0, |ttl| now_ms().saturating_add(ttl).clamp(1, crate::chunk::record::EXPIRY_MAX))
}
