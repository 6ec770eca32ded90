//! Reading a value where it stands.

use std::ops::Deref;
use std::sync::Arc;

use super::{Cache, Host, too_small, ttl_left};
use crate::chunk::ChunkId;
use crate::error::Result;
use crate::shm::Viewed;
use crate::table::entry::Version;

/// A value of a cache, looked at where it stands.
///
/// The bytes stay as they are for as long as the view lives, whatever becomes of the entry. A view blocks nobody: others
/// overwrite, delete and evict the entry meanwhile, only the chunk that the old value stands in is not used again until the
/// view is dropped or its process has ended. So keep views for moments, not for ever.
///
/// Views hold at most a quarter of a fabric's chunks. A view that would exceed this, one of an empty value and one from a
/// fabric that was opened for reading only holds a copy instead: [`Viewed::is_copy`].
///
/// It may be sent to other threads and shared by them. In a forked child it answers `Forked`; dropping it there does not end
/// the view of the parent.
pub struct View {
    bytes: Viewed,
    held: Held,
    version: Version,
    flags: u32,
    ttl_ms: Option<u64>,
}

/// What keeps the bytes.
struct Held {
    host: Arc<dyn Host>,
    /// None for a copy.
    chunk: Option<ChunkId>,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(chunk) = self.chunk {
            self.host.let_go(chunk);
        }
    }
}

impl Cache {
    /// The value of `key` without a copy.
    ///
    /// ```no_run
    /// # fn main() -> memora::Result<()> {
    /// # let prices = memora::Fabric::open("prices")?.cache("prices")?;
    /// if let Some(view) = prices.view(b"EURUSD")? {
    ///     // Others may overwrite the entry now; the view stays.
    ///     println!("{} bytes: {:?}", view.len(), view.to_vec()?);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn view(&self, key: &[u8]) -> Result<Option<View>> {
        let reader = self.host.reader()?;
        let found = self.table.view(reader, key, |chunk| {
            let held = self.host.hold(chunk)?;
            Ok(held.then(|| Held { host: Arc::clone(&self.host), chunk: Some(chunk) }))
        })?;
        Ok(found.map(|(head, bytes, held)| View {
            bytes,
            held: held.unwrap_or_else(|| Held { host: Arc::clone(&self.host), chunk: None }),
            version: Version(head.id),
            flags: head.client,
            ttl_ms: ttl_left(head.expiry, || self.table.now_ms()),
        }))
    }
}

impl View {
    /// Copies the value into `buffer` and returns its length. `BufferTooSmall` tells the length that is needed.
    pub fn copy_to(&self, buffer: &mut [u8]) -> Result<usize> {
        self.held.host.enter()?;
        let (capacity, len) = (buffer.len(), self.bytes.len());
        let part = buffer.get_mut(..len).ok_or_else(|| too_small(capacity, len))?;
        self.bytes.copy_out(part)?;
        Ok(len)
    }

    /// A copy of the value.
    pub fn to_vec(&self) -> Result<Vec<u8>> {
        let mut copy = vec![0; self.bytes.len()];
        self.copy_to(&mut copy)?;
        Ok(copy)
    }

    /// Where the value stands: its length, and its bytes without a copy.
    pub fn bytes(&self) -> &Viewed {
        &self.bytes
    }

    /// The version of the entry that was looked at.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Its flags.
    pub fn flags(&self) -> u32 {
        self.flags
    }

    /// Milliseconds that it had to live when it was looked at.
    pub fn ttl_ms(&self) -> Option<u64> {
        self.ttl_ms
    }
}

impl Deref for View {
    type Target = Viewed;

    fn deref(&self) -> &Viewed {
        &self.bytes
    }
}
