//! The store: a table whose changes also go to files, as durably as the user asks.
//!
//! ```no_run
//! use memora::{Durability, Fabric, StoreOptions};
//!
//! let fabric = Fabric::open("orders")?;
//! let options = StoreOptions { dir: Some("/var/lib/orders".into()), ..StoreOptions::default() };
//! let orders = fabric.store("orders", &options)?;
//! orders.set(b"4711", b"two of them")?;                          // durable within 100 ms
//! orders.set_durable(b"4712", b"paid", Durability::Sync)?;       // durable now
//! assert_eq!(orders.get(b"4711")?, Some(b"two of them".to_vec()));
//! # Ok::<(), memora::Error>(())
//! ```
//!
//! Data lives in memory, in the fabric, where all processes share it; the files hold a journal and checkpoints. What each
//! durability survives stands in `docs/durability.md`. A store without a directory has no files: it survives the death of
//! processes, not of the host.
//!
//! | file | holds |
//! |---|---|
//! | `layout` | the shared words |
//! | `object` | the store as an object of a fabric: layout, opening, inheritance |
//! | `core` | what handles and ticker share; flush |
//! | `flush` | what a flush writes |
//! | `read_range` | ranges that a transaction has read |
//! | `range` | entries in the order of their keys |
//! | `operations` | changes of a part of an entry |
//! | `name` | a key that a transaction remembers |
//! | `recovery` | the first opener reads the files |
//! | `checkpoint` | compaction, shard by shard |
//! | `shards` | which shard a key belongs to, and how many there are |
//! | `backup` | backups while writers go on |
//! | `tools` | restore, verify and repair of files that no fabric has open |
//! | `transaction` | several changes as one |
//! | `snapshot` | the store as it was at one moment |
//! | `check` | every invariant of a store |

mod backup;
mod caching;
pub(crate) mod check;
mod checkpoint;
mod core;
mod feed;
#[cfg(all(test, not(memora_loom)))]
mod feed_tests;
mod flush;
pub(crate) mod layout;
mod name;
pub(crate) mod object;
mod operations;
mod outgoing;
#[cfg(all(test, not(memora_loom)))]
mod power_tests;
#[cfg(all(test, feature = "kill-points", not(memora_loom)))]
mod process_tests;
mod range;
mod read_range;
mod recovery;
mod shards;
#[cfg(all(test, not(memora_loom)))]
mod shards_tests;
mod snapshot;
#[cfg(all(test, not(memora_loom)))]
mod tests;
mod tools;
#[cfg(all(test, not(memora_loom)))]
mod tools_tests;
mod transaction;
#[cfg(all(test, not(memora_loom)))]
mod transaction_hostile_tests;
#[cfg(all(test, not(memora_loom)))]
mod transaction_tests;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use crate::chunk::Actor;
use crate::chunk::record::Head;
use crate::error::{Error, ErrorCode, Result};
use crate::shm::atomic::{AtomicU32, Ordering};
use crate::table::entry::{CasOutcome, Entry, SetOptions, Version};
use crate::table::{Action, Changed, Current, Update, Value};

pub use self::backup::BackupInfo;
pub use self::core::Host;
use self::core::{Core, Patience};
pub use self::tools::{
    RepairOptions, RepairReport, RestoreOptions, VerifyReport, repair, restore, restore_from, verify,
};
pub use crate::journal::Durability;
pub use crate::journal::salvage::Loss;
use crate::journal::ticker::Ticker;
pub use feed::{Change, Feed, FeedFrom, FeedPosition};
pub use range::RangeIter;
pub use shards::SHARDS_DEFAULT;
pub use snapshot::{Snapshot, SnapshotLimits};
pub use transaction::{TRANSACTION_BYTES_MAX, TRANSACTION_KEYS_MAX, Transaction, retry_conflicts};

/// Bytes of journal that trigger a checkpoint, unless the user says otherwise.
pub const CHECKPOINT_BYTES_DEFAULT: u64 = 100 << 20;

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Where the files are. `None`: where the store says, if it exists; a new store then has no files, and its durability
    /// must be `Process`.
    pub dir: Option<PathBuf>,
    /// What changes through this handle survive, where the call says nothing else.
    pub durability: Durability,
    /// Bytes of journal from which a checkpoint is made.
    pub checkpoint_bytes: u64,
    /// Whether it keeps its keys in order, for [`Store::range`] and [`Store::prefix`]: fixed when it is made in a fabric. `None`:
    /// as it was made; a new store then does not.
    pub ordered: Option<bool>,
    /// Bytes of old journal that are kept for [`Store::feed`], which then has every committed change; 0: none, and of each key only
    /// the last state of a flush is written. `None`: as the directory says, which remembers it; a new one keeps none.
    pub feed_bytes: Option<u64>,
    /// Shards that the files of a new store are divided into, 1 to 64; `None`: 4. A store whose files say how many there are keeps
    /// that number: [`Store::set_shards`] changes it.
    pub shards: Option<u32>,
}

impl Default for StoreOptions {
    fn default() -> StoreOptions {
        StoreOptions {
            dir: None,
            durability: Durability::default(),
            checkpoint_bytes: CHECKPOINT_BYTES_DEFAULT,
            ordered: None,
            feed_bytes: None,
            shards: None,
        }
    }
}

/// Figures of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Entries, tombstones not counted.
    pub entries: u64,
    /// Bytes of live records in memory.
    pub live_bytes: u64,
    /// Flushes that wrote something, by all processes.
    pub flushes: u64,
    /// Records written by flushes.
    pub flushed_records: u64,
    /// Bytes written by flushes.
    pub flushed_bytes: u64,
    /// Bytes of journal since the last checkpoint of a shard.
    pub journal_bytes: u64,
    /// Bytes of the checkpoints that count, one of each shard.
    pub checkpoint_bytes: u64,
    /// Checkpoints of single shards so far, over the life of the files.
    pub checkpoints: u64,
    /// Whether a failed sync made the store read-only.
    pub poisoned: bool,
    /// Snapshots that are open.
    pub snapshots: u64,
    /// Snapshots that were cancelled, over the life of the store in memory.
    pub snapshots_cancelled: u64,
    /// For how many milliseconds the oldest snapshot has been open; 0 without any.
    pub snapshot_oldest_ms: u64,
    /// Bytes of memory that would be free without snapshots.
    pub snapshot_bytes: u64,
    /// Shards that the files are divided into; 0 without files.
    pub shards: u32,
}

struct Shared {
    core: Arc<Core>,
    durability: Durability,
    closed: AtomicU32,
    ticker: Mutex<Option<Ticker>>,
}

/// A store of a fabric. Clones share it; every method may be called from any thread.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

impl Store {
    /// The face of a store that is ready.
    pub(crate) fn new(core: Core, durability: Durability) -> Result<Store> {
        let core = Arc::new(core);
        let interval = durability.interval().filter(|_| core.journal.is_some());
        let ticker = match interval {
            None => None,
            Some(interval) => {
                let weak = Arc::downgrade(&core);
                Some(Ticker::start(interval, move || match weak.upgrade() {
                    // Errors are told by the health word to whoever writes next; the next tick tries again.
                    Some(core) => {
                        let result = core.tick();
                        !result.is_err_and(|e| matches!(e.code(), ErrorCode::Closed | ErrorCode::Forked))
                    }
                    None => false,
                })?)
            }
        };
        Ok(Store {
            shared: Arc::new(Shared {
                core,
                durability,
                closed: AtomicU32::new(0),
                ticker: Mutex::new(ticker),
            }),
        })
    }

    fn core(&self) -> Result<&Core> {
        // ORDER Relaxed: a flag that stands for itself.
        if self.shared.closed.load(Ordering::Relaxed) != 0 {
            return Err(ErrorCode::Closed.into());
        }
        self.shared.core.host.enter()?;
        Ok(&self.shared.core)
    }

    fn actor(&self) -> Result<(&Core, Actor<'_>)> {
        let core = self.core()?;
        Ok((core, core.host.actor()?))
    }

    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.get_entry(key)?.map(|entry| entry.value))
    }

    /// The value of a key with what stands beside it.
    pub fn get_entry(&self, key: &[u8]) -> Result<Option<Entry>> {
        let core = self.core()?;
        let mut value = Vec::new();
        let head = core.table.read(key, |head, span| {
            value.resize(head.value_len as usize, 0);
            span.copy_out(0, &mut value)
        })?;
        Ok(head.map(|head| entry(core, &head, value)))
    }

    /// Copies the value of a key into a buffer; the answer is its length. `BufferTooSmall` tells the length needed.
    pub fn get_into(&self, key: &[u8], into: &mut [u8]) -> Result<Option<usize>> {
        let core = self.core()?;
        let head = core.table.read(key, |head, span| {
            let len = head.value_len as usize;
            match into.get_mut(..len) {
                Some(part) => span.copy_out(0, part),
                None => Err(Error::with_amount(
                    ErrorCode::BufferTooSmall,
                    len as u64,
                    format!("The value has {len} bytes."),
                )),
            }
        })?;
        Ok(head.map(|head| head.value_len as usize))
    }

    /// Reads many keys faster than one by one; `visit` gets the place of the key and its value.
    pub fn get_many(&self, keys: &[&[u8]], visit: impl FnMut(usize, Option<&[u8]>)) -> Result<()> {
        self.core()?.table.read_many(0, keys, visit)
    }

    /// One change, made as durable as asked. Where memory is full of what the files do not have yet, it flushes first.
    fn change<'v>(
        &self,
        key: &[u8],
        durability: Durability,
        mut decide: impl FnMut(Option<Current<'_>>) -> Result<Action<'v>>,
    ) -> Result<Changed> {
        let (core, actor) = self.actor()?;
        core.accept()?;
        let mut patience = Patience::default();
        let changed = loop {
            match core.table.update(actor, key, &mut decide) {
                Err(error) if error.code() == ErrorCode::Full && core.flush_for_room(&mut patience)? => {}
                other => break other?,
            }
        };
        if changed.changed && durability == Durability::Sync {
            core.flush()?;
        }
        Ok(changed)
    }

    fn put<'v>(&self, value: &'v [u8], options: &SetOptions) -> Result<Action<'v>> {
        let expiry = match options.ttl_ms {
            Some(ttl) => self.core()?.table.now_ms().saturating_add(ttl).max(1),
            None => 0,
        };
        Ok(Action::Put(Update { value: Value::Bytes(value), expiry, client: options.flags, marks: 0, id: 0 }))
    }

    /// Sets a key.
    pub fn set(&self, key: &[u8], value: &[u8]) -> Result<Version> {
        self.set_with(key, value, &SetOptions::default())
    }

    /// Sets a key with options.
    pub fn set_with(&self, key: &[u8], value: &[u8], options: &SetOptions) -> Result<Version> {
        let action = self.put(value, options)?;
        Ok(Version(self.change(key, self.shared.durability, |_| Ok(action))?.id))
    }

    /// Sets a key with another durability than that of the handle.
    pub fn set_durable(&self, key: &[u8], value: &[u8], durability: Durability) -> Result<Version> {
        self.has_files_for(durability)?;
        let action = self.put(value, &SetOptions::default())?;
        Ok(Version(self.change(key, durability, |_| Ok(action))?.id))
    }

    fn has_files_for(&self, durability: Durability) -> Result<()> {
        if durability != Durability::Process && self.core()?.journal.is_none() {
            return Err(Error::new(
                ErrorCode::InvalidArgument,
                format!("The store has no directory, so it cannot be {durability:?}."),
            ));
        }
        Ok(())
    }

    /// Sets a key that has no value yet; `None` if it has one.
    pub fn add(&self, key: &[u8], value: &[u8], options: &SetOptions) -> Result<Option<Version>> {
        let action = self.put(value, options)?;
        let changed = self.change(key, self.shared.durability, |current| {
            Ok(if current.is_none() { action } else { Action::Keep })
        })?;
        Ok(changed.changed.then_some(Version(changed.id)))
    }

    /// Sets a key that has a value; `None` if it has none.
    pub fn replace(&self, key: &[u8], value: &[u8], options: &SetOptions) -> Result<Option<Version>> {
        let action = self.put(value, options)?;
        let changed = self.change(key, self.shared.durability, |current| {
            Ok(if current.is_some() { action } else { Action::Keep })
        })?;
        Ok(changed.changed.then_some(Version(changed.id)))
    }

    /// Deletes a key; false if it had no value.
    pub fn delete(&self, key: &[u8]) -> Result<bool> {
        let changed = self.change(key, self.shared.durability, |current| {
            Ok(if current.is_some() { Action::Remove } else { Action::Keep })
        })?;
        Ok(changed.changed)
    }

    /// Sets a key if its version is still the given one.
    pub fn compare_and_swap(
        &self,
        key: &[u8],
        value: &[u8],
        version: Version,
        options: &SetOptions,
    ) -> Result<CasOutcome> {
        let action = self.put(value, options)?;
        let mut seen = None;
        let changed = self.change(key, self.shared.durability, |current| {
            seen = current.map(|current| Version(current.head.id));
            Ok(if seen == Some(version) { action } else { Action::Keep })
        })?;
        Ok(match (changed.changed, seen) {
            (true, _) => CasOutcome::Stored(Version(changed.id)),
            (false, Some(other)) => CasOutcome::Stale(other),
            (false, None) => CasOutcome::NotFound,
        })
    }

    /// Adds to a decimal counter. A missing one begins with `initial`, or stays missing.
    pub fn increment(&self, key: &[u8], by: u64, initial: Option<u64>) -> Result<Option<u64>> {
        self.count(key, initial, |number| {
            number.checked_add(by).ok_or_else(|| {
                Error::new(ErrorCode::CounterOverflow, format!("{number} + {by} would leave 64 bits."))
            })
        })
    }

    /// Subtracts from a decimal counter, down to 0. A missing one begins with `initial`, or stays missing.
    pub fn decrement(&self, key: &[u8], by: u64, initial: Option<u64>) -> Result<Option<u64>> {
        self.count(key, initial, |number| Ok(number.saturating_sub(by)))
    }

    fn count(
        &self,
        key: &[u8],
        initial: Option<u64>,
        step: impl Fn(u64) -> Result<u64>,
    ) -> Result<Option<u64>> {
        let mut answer = None;
        self.change(key, self.shared.durability, |current| {
            let (number, expiry, client) = match &current {
                None => match initial {
                    None => {
                        answer = None;
                        return Ok(Action::Keep);
                    }
                    Some(initial) => (initial, 0, 0),
                },
                Some(current) => {
                    let mut digits = [0; 20];
                    let len = current.head.value_len as usize;
                    let digits = digits.get_mut(..len).ok_or(ErrorCode::NotANumber)?;
                    current.value.copy_out(0, digits)?;
                    (step(parse(digits)?)?, current.head.expiry, current.head.client)
                }
            };
            answer = Some(number);
            Ok(Action::Put(Update { value: Value::Number(number), expiry, client, marks: 0, id: 0 }))
        })?;
        Ok(answer)
    }

    /// Visits entries from a cursor on, about `limit` of them; the answer is the next cursor, 0 at the end. An entry that is
    /// there all the time is seen at least once.
    pub fn scan(&self, cursor: u64, limit: usize, mut visit: impl FnMut(&[u8], &Entry)) -> Result<u64> {
        let core = self.core()?;
        core.table.scan(cursor, limit, |key, head, value| {
            visit(key, &entry(core, head, value.to_vec()));
            Ok(())
        })
    }

    /// Number of entries.
    pub fn len(&self) -> Result<u64> {
        Ok(self.core()?.table.stats()?.entries)
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Returns when everything that was acknowledged so far, to anybody, is durable.
    pub fn flush(&self) -> Result<()> {
        self.core()?.flush()
    }

    /// Writes a checkpoint of every shard and removes the journal that it makes needless. Writers go on meanwhile.
    pub fn checkpoint(&self) -> Result<()> {
        self.core()?.checkpoint_now()
    }

    /// Figures.
    pub fn stats(&self) -> Result<StoreStats> {
        let core = self.core()?;
        let table = core.table.stats()?;
        let mut stats =
            StoreStats { entries: table.entries, live_bytes: table.live_bytes, ..StoreStats::default() };
        let views = core.table.view_figures()?;
        (stats.snapshots, stats.snapshots_cancelled) = (views.open, views.cancelled);
        (stats.snapshot_oldest_ms, stats.snapshot_bytes) = (views.oldest_ms, views.kept_bytes);
        if core.journal.is_some() {
            let words = core.words()?;
            let control = words.journal();
            // ORDER Relaxed: counters.
            let load = |word: &crate::shm::atomic::AtomicU64| word.load(Ordering::Relaxed);
            stats.flushes = load(control.flushes());
            stats.flushed_records = load(control.records());
            stats.flushed_bytes = load(control.bytes());
            stats.journal_bytes = load(control.written());
            stats.checkpoint_bytes = load(words.checkpoint_len());
            stats.checkpoints = load(words.checkpoints());
            stats.shards = core.map()?.shards;
            stats.poisoned = control.health() == crate::journal::Health::Poisoned;
        }
        Ok(stats)
    }

    /// Flushes, unless the durability is `Process`, and ends the use of this handle and its clones.
    pub fn close(&self) -> Result<()> {
        let Ok(core) = self.core() else { return Ok(()) };
        let flushed = if self.shared.durability == Durability::Process { Ok(()) } else { core.flush() };
        self.shared.closed.store(1, Ordering::Relaxed);
        let ticker = self.shared.ticker.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        drop(ticker);
        flushed
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // A forked child or a detached process gets an error here, and has nothing to flush.
        if self.closed.load(Ordering::Relaxed) == 0 && self.durability != Durability::Process {
            let _ = self.core.flush();
        }
    }
}

fn entry(core: &Core, head: &Head, value: Vec<u8>) -> Entry {
    Entry {
        value,
        version: Version(head.id),
        flags: head.client,
        ttl_ms: (head.expiry != 0).then(|| head.expiry.saturating_sub(core.table.now_ms())),
    }
}

fn parse(digits: &[u8]) -> Result<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(ErrorCode::NotANumber.into());
    }
    std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok()).ok_or(ErrorCode::NotANumber.into())
}
