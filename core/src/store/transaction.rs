//! Transactions: several reads and changes of a store that take effect as one, or not at all.
//!
//! ```no_run
//! use memora::{Fabric, Result, StoreOptions};
//!
//! # fn number(value: Option<Vec<u8>>) -> u64 { 0 }
//! let fabric = Fabric::open("bank")?;
//! let accounts = fabric.store("accounts", &StoreOptions::default())?;
//! accounts.transact(|transaction| {
//!     let (from, to) = (number(transaction.get(b"anna")?), number(transaction.get(b"bert")?));
//!     transaction.put(b"anna", (from - 10).to_string().as_bytes())?;
//!     transaction.put(b"bert", (to + 10).to_string().as_bytes())
//! })?;
//! # Ok::<(), memora::Error>(())
//! ```
//!
//! They are strictly serializable, together with the operations outside of them, over all processes: there is an order of
//! all that agrees with their order in time, in which each transaction stands at one place. Nothing is locked: what a
//! transaction reads is proved when it commits (optimistic control), and of two that are in each other's way one gets
//! `Conflict`. A transaction whose process was killed or stopped in the middle of committing keeps others waiting for a
//! millisecond at most.
//!
//! **What is read is proved at the commit only.** Until then a transaction that others interfere with may see a key before
//! and another one after the change of somebody else. It cannot commit then, but its function should bear it.
//!
//! Changes are kept privately until the commit, and seen by the transaction's own reads. A commit costs one record and
//! one compare-and-swap for each key that is written, a look at each that was read, and two more compare-and-swaps.

use std::collections::BTreeMap;
use std::ops::{Bound, RangeBounds};
use std::time::Duration;

use super::caching::Caching;
use super::core::{Core, Patience};
use super::name::Name;
use super::outgoing::{Batch, Outgoing};
use super::read_range::ReadRange;
use super::{Durability, Store, entry};
use crate::cache::Cache;
use crate::channel::Outbox;
use crate::error::{Error, ErrorCode, Result};
use crate::table::entry::{Entry, SetOptions, Version};
use crate::table::{Cursor, Direction, Intent, Keys, Sighting, Table, Update, Value};

/// Keys that a transaction may read, and keys that it may write.
pub const TRANSACTION_KEYS_MAX: usize = 1 << 16;
/// Bytes of the keys and values that a transaction may write.
pub const TRANSACTION_BYTES_MAX: usize = 64 << 20;

/// How often a function is called before its transaction gives up.
const TRIES: u32 = 1000;
/// Reads that are proved between two signs of life.
pub(super) const BEAT: usize = 32;

/// A value to be put, with what stands beside it.
pub(super) struct Put {
    pub value: Vec<u8>,
    pub options: SetOptions,
}

impl Put {
    /// As the transaction itself reads it.
    fn entry(&self) -> Entry {
        Entry {
            value: self.value.clone(),
            version: Version(0),
            flags: self.options.flags,
            ttl_ms: self.options.ttl_ms,
        }
    }
}

/// A transaction of a store, which it holds open as a clone of its handle does. Dropping it without [`Transaction::commit`] does nothing to the store. It belongs to one thread at
/// a time and holds nothing that others wait for.
pub struct Transaction {
    store: Store,
    durability: Durability,
    reads: BTreeMap<Name, Sighting>,
    /// `None` deletes.
    writes: BTreeMap<Name, Option<Put>>,
    /// Entries of caches that it changes.
    caching: Caching,
    /// Messages that it sends.
    outgoing: Outgoing,
    /// Of keys and values that are written, and of messages.
    bytes: usize,
    /// Ranges that were read.
    ranges: Vec<ReadRange>,
}

/// What a write takes of what a transaction may write.
fn bytes_of(key: &[u8], put: &Option<Put>) -> usize {
    key.len() + put.as_ref().map_or(0, |put| put.value.len())
}

/// Times that a commit is tried again which had to give up its own changes for room.
const OWN_WAY_TRIES: u32 = 8;

fn too_large(what: &str) -> Error {
    Error::new(ErrorCode::TransactionTooLarge, format!("A transaction may {what}."))
}

impl Store {
    /// Begins a transaction, with the durability of this handle.
    pub fn transaction(&self) -> Result<Transaction> {
        self.core()?;
        Ok(Transaction {
            store: self.clone(),
            durability: self.shared.durability,
            reads: BTreeMap::new(),
            writes: BTreeMap::new(),
            caching: Caching::default(),
            outgoing: Outgoing::default(),
            bytes: 0,
            ranges: Vec::new(),
        })
    }

    /// Does `body` as a transaction and commits it, again from the start as long as others are in the way. An error of `body`
    /// other than `Conflict` gives the transaction up.
    pub fn transact<T>(&self, mut body: impl FnMut(&mut Transaction) -> Result<T>) -> Result<T> {
        retry_conflicts(|| {
            let mut transaction = self.transaction()?;
            let answer = body(&mut transaction)?;
            transaction.commit().map(|()| answer)
        })
    }
}

/// Does what ends with a commit, again as long as it fails with `Conflict`; it lets the others go first then. What
/// [`Store::transact`] does, for those who begin and commit their transactions themselves.
pub fn retry_conflicts<T>(mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    for number in 0..TRIES {
        match attempt() {
            Err(error) if error.code() == ErrorCode::Conflict => back_off(number),
            done => return done,
        }
    }
    Err(Error::new(
        ErrorCode::Conflict,
        format!("Others changed what the transaction read each of the {TRIES} times that it was tried."),
    ))
}

/// Lets the others go first, the longer the more often they were in the way; not all for the same time.
fn back_off(attempt: u32) {
    if attempt < 3 {
        std::thread::yield_now();
        return;
    }
    let most = 10u64 << (attempt - 3).min(7);
    let spread = crate::shm::time::monotonic_ns().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    std::thread::sleep(Duration::from_micros(1 + spread % most));
}

impl Transaction {
    /// Makes the commit as durable as this, whatever the handle says.
    pub fn set_durability(&mut self, durability: Durability) -> Result<()> {
        self.store.core()?;
        self.store.has_files_for(durability)?;
        self.durability = durability;
        Ok(())
    }

    /// The value of a key, as this transaction sees it.
    pub fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.get_entry(key)?.map(|entry| entry.value))
    }

    /// The value of a key with what stands beside it. The version of what the transaction itself has put is 0.
    pub fn get_entry(&mut self, key: &[u8]) -> Result<Option<Entry>> {
        let core = self.store.core()?;
        match self.writes.get(key) {
            Some(None) => Ok(None),
            Some(Some(put)) => Ok(Some(put.entry())),
            None => Transaction::read(core, &mut self.reads, key),
        }
    }

    /// Reads a key past what the transaction itself has put.
    fn read(core: &Core, reads: &mut BTreeMap<Name, Sighting>, key: &[u8]) -> Result<Option<Entry>> {
        let mut value = Vec::new();
        let (sighting, head) = core.table.sight(key, &mut |head, span| {
            value.resize(head.value_len as usize, 0);
            span.copy_out(0, &mut value)
        })?;
        let found = head.map(|head| entry(core, &head, value));
        Transaction::saw(reads, key, sighting)?;
        Ok(found)
    }

    fn saw(reads: &mut BTreeMap<Name, Sighting>, key: &[u8], sighting: Sighting) -> Result<()> {
        match reads.get(key) {
            Some(before) if *before == sighting => Ok(()),
            // It cannot commit any more.
            Some(_) => Err(ErrorCode::Conflict.into()),
            None if reads.len() >= TRANSACTION_KEYS_MAX => {
                Err(too_large(&format!("read {TRANSACTION_KEYS_MAX} keys")))
            }
            None => {
                reads.insert(Name::from(key), sighting);
                Ok(())
            }
        }
    }

    /// Visits the entries between two bounds, as this transaction sees them, in the order of their keys, at most `limit` of them; as
    /// [`Store::range`] it answers from where to go on. It is proved at the commit that no entry came into the part that was
    /// visited, or left it. `NotOrdered` if the store was made without `ordered`.
    pub fn range(
        &mut self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        direction: Direction,
        limit: usize,
        mut visit: impl FnMut(&[u8], &Entry),
    ) -> Result<Option<Vec<u8>>> {
        let core = self.store.core()?;
        if limit == 0 {
            return Ok(None);
        }
        let table = &core.table;
        let floor = table.floor_now();
        let mut cursor = Cursor::new(direction, from, to);
        let (mut keys, mut found, mut left) = (Keys::default(), BTreeMap::new(), limit);
        let mut last = None;
        // What the transaction deletes takes no place: only what stays is counted.
        'leaves: while table.next_keys(&mut cursor, &mut keys, None)? {
            for key in keys.iter() {
                let Some(entry) = Transaction::read(core, &mut self.reads, key)? else { continue };
                left -= usize::from(!matches!(self.writes.get(key), Some(None)));
                found.insert(key.to_vec(), entry);
                if left == 0 {
                    last = Some(key.to_vec());
                    break 'leaves;
                }
            }
        }
        let (from, to) = match (&last, direction) {
            (None, _) => (from, to),
            (Some(last), Direction::Forward) => (from, Bound::Included(last.as_slice())),
            (Some(last), Direction::Backward) => (Bound::Included(last.as_slice()), to),
        };
        self.ranges.push(ReadRange::new(from, to, floor));
        for (key, put) in self.writes.iter().filter(|(key, _)| (from, to).contains(&***key)) {
            match put {
                Some(put) => drop(found.insert(key.to_vec(), put.entry())),
                None => drop(found.remove(&**key)),
            }
        }
        let more = last.is_some() || found.len() > limit;
        let mut shown = None;
        let mut show = |(key, entry): (&Vec<u8>, &Entry)| {
            visit(key, entry);
            shown = Some(key.clone());
        };
        match direction {
            Direction::Forward => found.iter().take(limit).for_each(&mut show),
            Direction::Backward => found.iter().rev().take(limit).for_each(&mut show),
        }
        Ok(shown.filter(|_| more))
    }

    /// Refuses to go on unless a key has this version now, or none; and to commit unless it still has.
    pub fn expect(&mut self, key: &[u8], version: Option<Version>) -> Result<()> {
        let (sighting, head) = self.store.core()?.table.sight(key, &mut |_, _| Ok(()))?;
        Transaction::saw(&mut self.reads, key, sighting)?;
        if head.map(|head| Version(head.id)) == version {
            Ok(())
        } else {
            Err(Error::new(ErrorCode::Conflict, "A key has not the version that the transaction expects."))
        }
    }

    /// Puts a value.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.put_with(key, value, &SetOptions::default())
    }

    /// Puts a value with options. Its time to live begins with the commit.
    pub fn put_with(&mut self, key: &[u8], value: &[u8], options: &SetOptions) -> Result<()> {
        self.store.core()?.table.check_lengths(key.len(), value.len())?;
        self.write(key, Some(Put { value: value.to_vec(), options: *options }))
    }

    /// Deletes a key; false if it has no value. This reads it.
    pub fn delete(&mut self, key: &[u8]) -> Result<bool> {
        let core = self.store.core()?;
        let there = match self.reads.get(key) {
            Some(sighting) => sighting.present,
            None => {
                let (sighting, head) = core.table.sight(key, &mut |_, _| Ok(()))?;
                Transaction::saw(&mut self.reads, key, sighting)?;
                head.is_some()
            }
        };
        let present = self.writes.get(key).map_or(there, Option::is_some);
        if there {
            self.write(key, None)?;
        } else {
            // What the transaction alone has put is only forgotten.
            self.unwrite(key);
        }
        Ok(present)
    }

    fn unwrite(&mut self, key: &[u8]) {
        if let Some(old) = self.writes.remove(key) {
            self.bytes -= bytes_of(key, &old);
        }
    }

    fn write(&mut self, key: &[u8], put: Option<Put>) -> Result<()> {
        let before = self.writes.get(key);
        let bytes = self.bytes - before.map_or(0, |old| bytes_of(key, old)) + bytes_of(key, &put);
        if before.is_none() && self.writes.len() >= TRANSACTION_KEYS_MAX {
            return Err(too_large(&format!("write {TRANSACTION_KEYS_MAX} keys")));
        }
        if bytes > TRANSACTION_BYTES_MAX {
            return Err(too_large(&format!("write {TRANSACTION_BYTES_MAX} bytes of keys and values")));
        }
        self.bytes = bytes;
        self.writes.insert(Name::from(key), put);
        Ok(())
    }

    /// Sets an entry of a cache with the commit. Caches that were made with [`CacheOptions::transactions`](crate::CacheOptions::transactions),
    /// of the same fabric. The transaction does not read them: what is there is replaced.
    pub fn cache_set(&mut self, cache: &Cache, key: &[u8], value: &[u8], options: &SetOptions) -> Result<()> {
        self.cache_write(cache, key, Some(Put { value: value.to_vec(), options: *options }))
    }

    /// Deletes an entry of a cache with the commit, whether it is there or not: what somebody puts there meanwhile goes as well, and
    /// leases end, because it may be made of what this transaction changes.
    pub fn cache_delete(&mut self, cache: &Cache, key: &[u8]) -> Result<()> {
        self.cache_write(cache, key, None)
    }

    fn cache_write(&mut self, cache: &Cache, key: &[u8], put: Option<Put>) -> Result<()> {
        let shm = self.store.core()?.pool().shm();
        if self.caching.len() >= TRANSACTION_KEYS_MAX {
            return Err(too_large(&format!("change {TRANSACTION_KEYS_MAX} entries of caches")));
        }
        let bytes = self.bytes + key.len() + put.as_ref().map_or(0, |put| put.value.len());
        if bytes > TRANSACTION_BYTES_MAX {
            return Err(too_large(&format!(
                "write {TRANSACTION_BYTES_MAX} bytes of keys, values and messages"
            )));
        }
        self.bytes = bytes - self.caching.add(cache, key, put, shm)?;
        Ok(())
    }

    /// Sends a message with the commit: subscribers get it if the transaction commits, and not before; the messages of one outbox in the
    /// order in which they were published. Together they may take what one message may (`ValueTooLong`). Streams, broadcasts
    /// and queues; what is sent lives as long as its channel, whatever the durability.
    pub fn publish(&mut self, outbox: &Outbox, message: &[u8]) -> Result<()> {
        let shm = self.store.core()?.pool().shm();
        let bytes = self.bytes + message.len();
        if bytes > TRANSACTION_BYTES_MAX {
            return Err(too_large(&format!(
                "write {TRANSACTION_BYTES_MAX} bytes of keys, values and messages"
            )));
        }
        self.outgoing.add(outbox, message, shm)?;
        self.bytes = bytes;
        Ok(())
    }

    /// Makes all changes count at one moment, or none: `Conflict` if something that was read has changed, or another
    /// transaction was in the way; `TransactionTooLarge` if there is no room for all of them at once but in the place of each other. With durability `Sync` it is on the disk when this returns. It does not wait for subscribers:
    /// `BackPressure` if there is no room for a message, and nothing was done.
    pub fn commit(self) -> Result<()> {
        let core = self.store.core()?;
        if !self.writes.is_empty() {
            core.accept()?;
        }
        let mut patience = Patience::default();
        let mut own_way = 0;
        loop {
            let mut batches = self.outgoing.ready()?;
            let done = self.try_commit(&mut batches);
            // Others may commit with these outboxes while this one waits for room, and share the sync.
            drop(batches);
            match done {
                Err(error) if error.code() == ErrorCode::Full && core.flush_for_room(&mut patience)? => {}
                // What others put there at the same time may have been in the way as well.
                Err(error) if error.code() == ErrorCode::TransactionTooLarge && own_way < OWN_WAY_TRIES => {
                    own_way += 1;
                }
                other => break other?,
            }
        }
        if self.durability == Durability::Sync && !self.writes.is_empty() {
            core.flush()?;
        }
        Ok(())
    }

    /// Gives the transaction up; so does dropping it.
    pub fn abort(self) {}

    fn try_commit(&self, batches: &mut [Batch<'_>]) -> Result<()> {
        let (core, me) = self.store.actor()?;
        let table = &core.table;
        if Table::has_own_left(me) {
            core.host.end_left(me)?;
        }
        let begun = table.begin_over(me, !self.caching.is_empty())?;
        let mut intents: Vec<Intent> = Vec::with_capacity(self.writes.len());
        let mut cached: Vec<Vec<Intent>> = Vec::new();
        let outcome: Result<bool> = (|| {
            // All install in the order of the keys: so two never wait for each other.
            for (key, put) in &self.writes {
                let update = put.as_ref().map(|put| Update {
                    value: Value::Bytes(&put.value),
                    expiry: put.options.ttl_ms.map_or(0, |ttl| table.now_ms().saturating_add(ttl).max(1)),
                    client: put.options.flags,
                    marks: 0,
                    id: 0,
                });
                match table.install(me, &begun, key, update.as_ref())? {
                    Some(intent) => intents.push(intent),
                    // There was something to delete when it was read.
                    None => return Ok(false),
                }
            }
            if !self.caching.install(me, &begun, &mut cached)? {
                return Ok(false);
            }
            for batch in &mut *batches {
                batch.set(begun.reference())?;
            }
            if !table.prove(me) {
                return Ok(false);
            }
            let mut installed = self.writes.keys().zip(&intents).peekable();
            for (number, (key, sighting)) in self.reads.iter().enumerate() {
                if number % BEAT == BEAT - 1 {
                    table.beat(me);
                }
                while installed.next_if(|(written, _)| *written < key).is_some() {}
                if installed.peek().is_some_and(|(it, intent)| *it == key && table.replaced(intent, sighting))
                {
                    continue;
                }
                if !table.is_unchanged(me, &begun, key, sighting)? {
                    return Ok(false);
                }
            }
            for range in &self.ranges {
                if !range.is_unchanged(table, me, &begun, &self.reads)? {
                    return Ok(false);
                }
            }
            Ok(table.decide(me))
        })();
        let committed = table.settle_own(me);
        let in_own_way = Table::is_in_its_own_way(me);
        batches.iter_mut().for_each(|batch| batch.end(committed));
        let ended = table.end_states(me, &begun, &intents);
        let ended = ended.and(self.caching.end(me, &begun, &cached));
        if ended.is_ok() {
            Table::finish(me);
        }
        if in_own_way {
            ended?;
            return Err(Error::new(
                ErrorCode::TransactionTooLarge,
                "A transaction may change as much as the store and each cache can hold beside what it replaces: \
                 room for the rest was made by giving its own changes up.",
            ));
        }
        match outcome? {
            true => ended,
            false => ended.and(Err(ErrorCode::Conflict.into())),
        }
    }
}
