//! Views that were checked once and are kept together with their space, so that using them costs no further check.
//!
//! A space never changes its length, so what lay in it once lies in it as long as it lives. [`Kept`] is a [`Block`] that is
//! kept, [`KeptRing`] a [`Ring`]: a power of two of bytes that is addressed by positions that grow for ever.

use std::sync::Arc;

use super::atomic::AtomicU64;
use super::space::out_of_range;
use super::{Block, Shm, Span, align8, copy};
use crate::error::{ErrorCode, Result};

/// `N` bytes of a space that were checked once, with the space.
pub struct Kept<const N: usize> {
    shm: Arc<Shm>,
    offset: u64,
}

impl<const N: usize> Kept<N> {
    /// Checks the block of `N` bytes at `offset`, a multiple of 8.
    pub fn new(shm: &Arc<Shm>, offset: u64) -> Result<Kept<N>> {
        shm.block::<N>(offset)?;
        Ok(Kept { shm: shm.clone(), offset })
    }

    /// The block.
    #[inline(always)]
    pub fn block(&self) -> Block<'_, N> {
        // SAFETY: checked in `new` against the length of the same space, which never changes.
        unsafe { Block::unchecked(&self.shm, self.offset) }
    }
}

/// A power of two of bytes of a space that were checked once, with the space.
pub struct KeptRing {
    shm: Arc<Shm>,
    offset: u64,
    mask: u64,
}

impl KeptRing {
    /// Checks the ring of `len` bytes, a power of two of at least 8, at `offset`, a multiple of 8.
    pub fn new(shm: &Arc<Shm>, offset: u64, len: u64) -> Result<KeptRing> {
        let Ring { offset, mask, .. } = shm.span(offset, len)?.ring()?;
        Ok(KeptRing { shm: shm.clone(), offset, mask })
    }

    /// The ring.
    #[inline(always)]
    pub fn ring(&self) -> Ring<'_> {
        Ring { shm: &self.shm, offset: self.offset, mask: self.mask }
    }
}

/// A power of two of bytes; a position is taken modulo its length, so no position leaves it.
#[derive(Clone, Copy)]
pub struct Ring<'a> {
    // The bytes `offset..=offset + mask` lie in the space, `offset` is a multiple of 8, `mask + 1` a power of two of at
    // least 8.
    shm: &'a Shm,
    offset: u64,
    mask: u64,
}

impl<'a> Span<'a> {
    /// The span as a ring: an error if its length is not a power of two.
    #[inline]
    pub fn ring(self) -> Result<Ring<'a>> {
        if self.len() >= 8 && self.len().is_power_of_two() {
            Ok(Ring { shm: self.shm(), offset: self.offset(), mask: self.len() - 1 })
        } else {
            Err(out_of_range(self.offset(), self.len(), self.shm().len()))
        }
    }
}

impl<'a> Ring<'a> {
    /// Length in bytes.
    #[inline(always)]
    pub fn len(self) -> u64 {
        self.mask + 1
    }

    /// Where in the ring a position lies.
    #[inline(always)]
    pub fn at(self, position: u64) -> u64 {
        position & self.mask
    }

    /// The 8-byte word that contains the byte at `position`.
    #[inline(always)]
    pub fn word(self, position: u64) -> &'a AtomicU64 {
        // SAFETY: `mask` is 8 or more below a multiple of 8, so the word at `position & mask & !7` ends at `mask` or before
        // it; the ring was checked against the length of the space when made.
        unsafe { self.shm.window().place(self.offset).a64(position & self.mask & !7) }
    }

    #[inline(always)]
    fn check(self, position: u64, len: u64) -> Result<u64> {
        let at = self.at(position);
        if at.is_multiple_of(8) && self.len() - at >= align8(len) {
            Ok(self.offset + at)
        } else {
            Err(out_of_range(self.offset + at, len, self.shm.len()))
        }
    }

    /// Copies bytes out as [`Span::copy_out`] does. They begin at a multiple of 8 and must not cross the ring's end.
    #[inline(always)]
    pub fn copy_out(self, position: u64, into: &mut [u8]) -> Result<()> {
        let offset = self.check(position, into.len() as u64)?;
        // SAFETY: the range of whole words was checked above.
        unsafe { copy::out(self.shm.window().place(offset), into) };
        Ok(())
    }

    /// Copies bytes in as [`Span::copy_in`] does. They begin at a multiple of 8 and must not cross the ring's end.
    #[inline(always)]
    pub fn copy_in(self, position: u64, from: &[u8]) -> Result<()> {
        let offset = self.check(position, from.len() as u64)?;
        if !self.shm.writable() {
            return Err(ErrorCode::ReadOnly.into());
        }
        // SAFETY: the range of whole words was checked above and the mapping is writable.
        unsafe { copy::into(self.shm.window().place(offset), from) };
        Ok(())
    }

    /// The part of `len` bytes, rounded up to whole words, at `position`; it must not cross the ring's end.
    pub fn span(self, position: u64, len: u64) -> Result<Span<'a>> {
        self.shm.span(self.check(position, len)?, len)
    }

    /// Asks the processor to fetch the line at `position` in order to write it.
    #[inline(always)]
    pub fn prefetch_write(self, position: u64) {
        self.shm.prefetch_write(self.offset + self.at(position));
    }

    /// Asks the processor to fetch the line at `position`.
    #[inline(always)]
    pub fn prefetch(self, position: u64) {
        self.shm.prefetch(self.offset + self.at(position));
    }
}

#[cfg(all(test, not(memora_loom)))]
mod tests {
    use super::*;
    use crate::shm::atomic::Ordering::Relaxed;

    #[test]
    fn what_does_not_lie_in_the_space_is_not_kept() {
        let shm = Arc::new(Shm::heap(8192).unwrap());
        assert!(Kept::<64>::new(&shm, 8192 - 64).is_ok());
        for offset in [8192 - 56, 8192, 4, u64::MAX - 7] {
            assert_eq!(Kept::<64>::new(&shm, offset).err().unwrap().code(), ErrorCode::Corrupt, "{offset}");
        }
        assert!(KeptRing::new(&shm, 4096, 4096).is_ok());
        for (offset, len) in
            [(4104, 4096), (4096, 8192), (0, 0), (0, 24), (0, 16384), (4, 8), (u64::MAX - 7, 8)]
        {
            let error =
                KeptRing::new(&shm, offset, len).err().unwrap_or_else(|| panic!("{offset}+{len} kept"));
            assert_eq!(error.code(), ErrorCode::Corrupt);
        }
    }

    #[test]
    fn no_position_leaves_a_ring() {
        let shm = Arc::new(Shm::heap(4096).unwrap());
        let whole = shm.span(0, 4096).unwrap();
        let kept = KeptRing::new(&shm, 1024, 256).unwrap();
        let ring = kept.ring();
        for position in (0..600).chain([u64::MAX, u64::MAX - 7, 1 << 62]) {
            ring.word(position).store(position | 1, Relaxed);
            let at = 1024 + (position % 256) / 8 * 8;
            assert_eq!(whole.u64(at).unwrap().load(Relaxed), position | 1, "{position}");
        }
        let outside = (0..4096).step_by(8).filter(|at| !(1024..1280).contains(at));
        for at in outside {
            assert_eq!(whole.u64(at).unwrap().load(Relaxed), 0, "byte {at}");
        }
    }

    #[test]
    fn copies_do_not_cross_the_end_of_a_ring() {
        let shm = Arc::new(Shm::heap(4096).unwrap());
        let kept = KeptRing::new(&shm, 1024, 256).unwrap();
        let ring = kept.ring();
        let bytes: Vec<u8> = (0..96).collect();
        ring.copy_in(256 * 7 + 160, &bytes).unwrap();
        let mut back = vec![0; 96];
        ring.copy_out(160, &mut back).unwrap();
        assert_eq!(back, bytes);
        for (position, len) in [(168, 96), (248, 9), (4, 8), (0, 257)] {
            let mut bytes = vec![0; len];
            assert!(ring.copy_in(position, &bytes).is_err(), "{position}+{len}");
            assert!(ring.copy_out(position, &mut bytes).is_err(), "{position}+{len}");
            assert!(ring.span(position, len as u64).is_err(), "{position}+{len}");
        }
    }
}
