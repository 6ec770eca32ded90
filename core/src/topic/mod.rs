//! Topics: the newest value of each key, for subscribers that may be slow.
//!
//! A topic is a table of values that refuses when it is full, with its events. A value carries its number: how often its key was
//! published. A publisher reads the value that is there and replaces it by a compare-and-swap with the next number, so the numbers of
//! a key have no gap and no two publishers give the same one. Then it tells the event, which nobody waits for.
//!
//! A subscriber takes an event as a hint that a key changed, and reads what stands in the table when it hands the key out: never an
//! older value after a newer one, and never a torn one. The difference of the numbers is what it skipped. Where hints were lost (it was
//! too slow; a publisher died between its two steps, or stands still there) it compares the numbers of all keys with those that it
//! has handed out.
//!
//! | file | holds |
//! |---|---|
//! | `value` | bytes of a value |
//! | `subscriber` | the receiving end |

mod subscriber;
mod value;

#[cfg(all(test, not(memora_loom)))]
mod tests;

use std::sync::Arc;

pub use subscriber::{TopicSubscriber, TopicUpdate};

use crate::cache::{Cache, WhenFull};
use crate::error::{Error, ErrorCode, Result};
use crate::table::entry::{CasOutcome, SetOptions};
use value::Stored;

/// Times that a publisher begins anew because others published the same key: beyond any real contention.
const ATTEMPTS: usize = 1 << 20;

/// What a topic asks of the fabric.
pub(crate) trait Host: Send + Sync {
    /// Threads that were reaped in the fabric's life.
    fn reaped(&self) -> u64;
    /// Takes over from the dead.
    fn reap(&self);
}

/// How a topic is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicOptions {
    /// The most bytes of values and index together. `None`: what the fabric has. A full topic refuses new keys and longer values with
    /// `Full`.
    pub limit: Option<u64>,
}

impl TopicOptions {
    /// The table that holds the values.
    pub(crate) fn cache(&self) -> crate::cache::CacheOptions {
        crate::cache::CacheOptions {
            limit: self.limit,
            when_full: WhenFull::Reject,
            events: true,
            ..crate::cache::CacheOptions::default()
        }
    }
}

/// Counts of a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicStats {
    /// Keys that were ever published, retracted ones included.
    pub keys: u64,
    /// Bytes of their values with keys and headers.
    pub bytes: u64,
    /// Updates ever published.
    pub updates: u64,
}

/// A keyed topic of a fabric, of which each subscriber gets the newest values. Clones share it; any thread may use it.
#[derive(Clone)]
pub struct Topic {
    name: Arc<str>,
    cache: Cache,
    host: Arc<dyn Host>,
}

impl Topic {
    pub(crate) fn new(name: &str, cache: Cache, host: Arc<dyn Host>) -> Topic {
        Topic { name: name.into(), cache, host }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Publishes a value: gives its number, which is how often its key was published. Waits for nobody.
    pub fn publish(&self, key: &[u8], value: &[u8]) -> Result<u64> {
        self.put(key, Some(value))
    }

    /// Publishes that a key has no value any more: gives the number of that update. The key itself, a few dozen bytes, stays, so that
    /// numbers go on.
    pub fn retract(&self, key: &[u8]) -> Result<u64> {
        self.put(key, None)
    }

    fn put(&self, key: &[u8], value: Option<&[u8]>) -> Result<u64> {
        let options = SetOptions::default();
        for _ in 0..ATTEMPTS {
            let Some(entry) = self.cache.get_entry(key)? else {
                if self.cache.add(key, &Stored::encode(1, value), &options)?.is_some() {
                    return Ok(1);
                }
                continue;
            };
            let number = Stored::of(&entry.value)?.next()?;
            let stored = Stored::encode(number, value);
            if let CasOutcome::Stored(_) =
                self.cache.compare_and_swap(key, &stored, entry.version, &options)?
            {
                return Ok(number);
            }
        }
        Err(Error::new(ErrorCode::Busy, "Others publish the same key all the time."))
    }

    /// The newest value of a key with its number; none if it was never published, or retracted.
    pub fn get(&self, key: &[u8]) -> Result<Option<(Vec<u8>, u64)>> {
        let Some(entry) = self.cache.get_entry(key)? else { return Ok(None) };
        let stored = Stored::of(&entry.value)?;
        Ok(stored.value.map(|value| (value.to_vec(), stored.number)))
    }

    /// A subscriber: it gets the newest value of each key first, then those that are published.
    pub fn subscribe(&self) -> Result<TopicSubscriber> {
        TopicSubscriber::new(self.clone())
    }

    /// Counts.
    pub fn stats(&self) -> Result<TopicStats> {
        let stats = self.cache.stats()?;
        Ok(TopicStats { keys: stats.entries, bytes: stats.live_bytes, updates: stats.counts.sets })
    }
}
