//! [`Viewed`]: bytes that their holder may look at where they stand.

use std::sync::Arc;

use super::Shm;
use crate::error::{ErrorCode, Result};

/// Bytes of a value: in shared memory, where a pin keeps them, or copied.
pub struct Viewed(Place);

enum Place {
    Shared { shm: Arc<Shm>, offset: u64, len: u64 },
    Copied(Vec<u8>),
}

/// Keeps memory mapped in which bytes stand that were looked at, without keeping the bytes from changing. So whoever still has
/// their address after the [`Viewed`] is gone reads something else, but never what is not there.
pub struct ViewedMemory {
    _shm: Arc<Shm>,
}

impl Viewed {
    /// The memory that the bytes stand in; none for a copy.
    pub fn memory(&self) -> Option<ViewedMemory> {
        match &self.0 {
            Place::Shared { shm, .. } => Some(ViewedMemory { _shm: Arc::clone(shm) }),
            Place::Copied(_) => None,
        }
    }

    /// The bytes at `offset`, a multiple of 8. The caller keeps them from changing as long as the value lives.
    pub(crate) fn shared(shm: &Arc<Shm>, offset: u64, len: u64) -> Result<Viewed> {
        shm.span(offset, len)?;
        Ok(Viewed(Place::Shared { shm: Arc::clone(shm), offset, len }))
    }

    /// Bytes of our own.
    pub(crate) fn copied(bytes: Vec<u8>) -> Viewed {
        Viewed(Place::Copied(bytes))
    }

    /// Length in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        match &self.0 {
            Place::Shared { len, .. } => *len as usize,
            Place::Copied(bytes) => bytes.len(),
        }
    }

    /// Whether there are no bytes.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether these are a copy, and hold nothing in shared memory.
    #[inline]
    pub fn is_copy(&self) -> bool {
        matches!(self.0, Place::Copied(_))
    }

    /// Copies all bytes.
    pub(crate) fn copy_out(&self, into: &mut [u8]) -> Result<()> {
        match &self.0 {
            Place::Shared { shm, offset, len } => shm.span(*offset, *len)?.copy_out(0, into),
            Place::Copied(bytes) if bytes.len() == into.len() => {
                into.copy_from_slice(bytes);
                Ok(())
            }
            Place::Copied(_) => Err(ErrorCode::Internal.into()),
        }
    }

    /// Where the bytes stand. They are aligned to 8 where [`Viewed::is_copy`] says no.
    ///
    /// The pointer is good as long as this value lives.
    #[cfg(not(memora_loom))]
    #[inline]
    pub fn as_ptr(&self) -> *const u8 {
        match &self.0 {
            // SAFETY: checked against the mapped length when made.
            Place::Shared { shm, offset, .. } => unsafe { shm.pointer(*offset) }.cast_const(),
            Place::Copied(bytes) => bytes.as_ptr(),
        }
    }

    /// The bytes, without a copy.
    ///
    /// # Safety
    ///
    /// Memora never changes the bytes while this value lives. But they stand in memory that every process of the fabric can
    /// write to, so the caller must trust these processes to write there by Memora alone, and must not use the slice in a
    /// forked child, where the pin of the parent may be gone.
    #[cfg(not(memora_loom))]
    #[inline]
    pub unsafe fn as_slice(&self) -> &[u8] {
        // SAFETY: checked against the mapped length when made, which never changes; that nobody writes is the caller's part.
        unsafe { std::slice::from_raw_parts(self.as_ptr(), self.len()) }
    }
}
