//! Snapshots: a store as it was at one moment, however long one reads in it.
//!
//! ```no_run
//! use memora::{Direction, Fabric, Result, StoreOptions};
//!
//! let fabric = Fabric::open("bank")?;
//! let accounts = fabric.store("accounts", &StoreOptions::default())?;
//! let snapshot = accounts.snapshot()?;
//! let anna = snapshot.get(b"anna")?;
//! let mut cursor = 0;
//! loop {
//!     // Every entry exactly once, with the value that it had when the snapshot was taken.
//!     cursor = snapshot.scan(cursor, 100, |key, entry| println!("{key:?}: {:?}", entry.value))?;
//!     if cursor == 0 {
//!         break;
//!     }
//! }
//! # Ok::<(), memora::Error>(())
//! ```
//!
//! Taking one costs the same for every store, and holds up nobody: writers and transactions go on. What they replace stays in
//! memory as long as a snapshot may see it. **That is bounded**: a snapshot that is open for too long, or for which too much is
//! kept, is cancelled when a writer needs the memory, and from then on its reads answer `SnapshotTooOld`; whoever gets that takes a
//! new one and begins again.
//!
//! A snapshot sees the transactions that committed before it was taken as a whole, and of the others nothing. Entries expire in it
//! as they had when it was taken.

use std::ops::Bound;
use std::time::Duration;

use super::core::Core;
use super::range::end_of_prefix;
use super::{Store, entry};
use crate::chunk::Actor;
use crate::error::{Error, ErrorCode, Result};
use crate::table::entry::{Entry, Version};
use crate::table::{Cursor, Direction, Keys, View};

/// What snapshots of a store may cost; see [`Store::limit_snapshots`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotLimits {
    /// An older one is cancelled when a writer takes more memory.
    pub age: Duration,
    /// Percent of the fabric's memory that may be kept for them; beyond it the oldest are cancelled.
    pub percent: u32,
}

impl Default for SnapshotLimits {
    fn default() -> SnapshotLimits {
        SnapshotLimits { age: Duration::from_secs(60), percent: 25 }
    }
}

/// A store as it was when this was taken, which it holds open as a clone of its handle does. It may be read by several threads at once.
/// Dropping it gives back what is kept for it.
pub struct Snapshot {
    store: Store,
    view: View,
}

impl Store {
    /// Takes a snapshot. `TooManySnapshots` where 64 are open.
    pub fn snapshot(&self) -> Result<Snapshot> {
        let core = self.core()?;
        if !core.table.shm().writable() {
            return Err(ErrorCode::ReadOnly.into());
        }
        let owner = core.host.process_entry()?;
        Ok(Snapshot { store: self.clone(), view: core.table.take_view(owner)? })
    }

    /// Sets what snapshots of this store may cost, for all processes, until it is set anew.
    pub fn limit_snapshots(&self, limits: &SnapshotLimits) -> Result<()> {
        let core = self.core()?;
        if !core.table.shm().writable() {
            return Err(ErrorCode::ReadOnly.into());
        }
        if limits.age.is_zero() || limits.percent == 0 || limits.percent > 100 {
            return Err(Error::new(
                ErrorCode::InvalidArgument,
                format!("Snapshots of {:?} and {} percent are none.", limits.age, limits.percent),
            ));
        }
        let age = u64::try_from(limits.age.as_millis()).unwrap_or(u64::MAX).max(1);
        core.table.limit_views(age, u64::from(limits.percent));
        Ok(())
    }
}

impl Snapshot {
    fn core(&self) -> Result<(&Core, Actor<'_>)> {
        self.store.actor()
    }

    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.get_entry(key)?.map(|entry| entry.value))
    }

    /// The value of a key with what stands beside it.
    pub fn get_entry(&self, key: &[u8]) -> Result<Option<Entry>> {
        let (core, me) = self.core()?;
        self.read(core, me, key)
    }

    /// Copies the value of a key into a buffer; the answer is its length. `BufferTooSmall` tells the length needed.
    pub fn get_into(&self, key: &[u8], into: &mut [u8]) -> Result<Option<usize>> {
        let (core, me) = self.core()?;
        let head = core.table.read_in(me, &self.view, key, |head, span| {
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

    fn read(&self, core: &Core, me: Actor<'_>, key: &[u8]) -> Result<Option<Entry>> {
        let mut value = Vec::new();
        let head = core.table.read_in(me, &self.view, key, |head, span| {
            value.resize(head.value_len as usize, 0);
            span.copy_out(0, &mut value)
        })?;
        Ok(head.map(|head| self.entry(core, &head, value)))
    }

    fn entry(&self, core: &Core, head: &crate::chunk::record::Head, value: Vec<u8>) -> Entry {
        let left = (head.expiry != 0).then(|| head.expiry.saturating_sub(self.view.now_ms));
        Entry { ttl_ms: left, ..entry(core, head, value) }
    }

    /// Visits entries from a cursor on, about `limit` of them; the answer is the next cursor, 0 at the end. Each entry is visited
    /// exactly once.
    pub fn scan(&self, cursor: u64, limit: usize, mut visit: impl FnMut(&[u8], &Entry)) -> Result<u64> {
        let (core, me) = self.core()?;
        core.table.scan_in(me, &self.view, cursor, limit, |key, head, value| {
            visit(key, &self.entry(core, head, value.to_vec()));
            Ok(())
        })
    }

    /// Visits the entries whose keys lie between two bounds, in the order of their keys, at most `limit` of them. The answer is the
    /// last key visited if there may be more, as of [`Store::range`]. `NotOrdered` if the store was made without `ordered`.
    pub fn range(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        direction: Direction,
        limit: usize,
        mut visit: impl FnMut(&[u8], &Entry),
    ) -> Result<Option<Vec<u8>>> {
        let (core, me) = self.core()?;
        if limit == 0 {
            return Ok(None);
        }
        let mut cursor = Cursor::new(direction, from, to);
        let (mut keys, mut left) = (Keys::default(), limit);
        // Every key that the snapshot sees is in the tree: it has a record in its slot as long as the snapshot stands.
        while core.table.next_keys(&mut cursor, &mut keys, None)? {
            for key in keys.iter() {
                let Some(entry) = self.read(core, me, key)? else { continue };
                visit(key, &entry);
                left -= 1;
                if left == 0 {
                    return Ok(Some(key.to_vec()));
                }
            }
        }
        core.table.check_view(&self.view)?;
        Ok(None)
    }

    /// As [`Snapshot::range`], of the keys that begin with `prefix`.
    pub fn prefix(
        &self,
        prefix: &[u8],
        direction: Direction,
        limit: usize,
        visit: impl FnMut(&[u8], &Entry),
    ) -> Result<Option<Vec<u8>>> {
        let end = end_of_prefix(prefix);
        let to = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        self.range(Bound::Included(prefix), to, direction, limit, visit)
    }

    /// The version of a key, as it was; `None` if it had no value.
    pub fn version(&self, key: &[u8]) -> Result<Option<Version>> {
        let (core, me) = self.core()?;
        Ok(core.table.read_in(me, &self.view, key, |_, _| Ok(()))?.map(|head| Version(head.id)))
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        let core = &self.store.shared.core;
        // In a forked child it is the parent's; of a fabric that was closed it has ended.
        if core.host.enter().is_ok() {
            // A chunk that cannot be freed because content is damaged stays.
            let _ = core.table.drop_view(&self.view);
        }
    }
}
