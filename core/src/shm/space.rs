//! A space of shared bytes and the two checked views on it.
//!
//! [`Block`] has a length known at compile time: its fields are reached with a constant offset that the compiler checks.
//! [`Span`] has a length known at run time: each access compares with it. Both are made by a check against the mapped
//! length, a private copy that no peer can change.

use std::marker::PhantomData;

use super::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64};
use super::{align8, copy};
use crate::error::{Error, ErrorCode, Result};

#[cfg(not(memora_loom))]
mod backing {
    use super::*;
    use crate::shm::map::Mapping;

    /// A mapped range of bytes that other processes may change at any instant.
    pub struct Shm {
        base: *mut u8,
        len: u64,
        writable: bool,
        /// Unmaps when dropped.
        _mapping: Mapping,
    }

    // SAFETY: the mapping lives as long as the value, is not tied to a thread, and is only accessed through atomics and
    // word-wise copies that tolerate concurrent writers.
    unsafe impl Send for Shm {}
    // SAFETY: as above; no method hands out a plain reference into the mapping.
    unsafe impl Sync for Shm {}

    impl Shm {
        pub(in crate::shm) fn from_mapping(mapping: Mapping) -> Shm {
            Shm { base: mapping.base(), len: mapping.len(), writable: mapping.writable(), _mapping: mapping }
        }

        /// Length of the space in bytes, as mapped: never re-read from shared memory.
        #[inline]
        pub fn len(&self) -> u64 {
            self.len
        }

        /// False for a read-only mapping, on which a store would be a fault.
        #[inline]
        pub fn writable(&self) -> bool {
            self.writable
        }

        /// The space with its address and length in registers, for whoever looks at several places of it.
        #[inline(always)]
        pub fn window(&self) -> Window<'_> {
            Window { shm: self, base: self.base, len: self.len }
        }

        /// # Safety
        /// `offset..offset + width` lies in the space and `offset` is aligned to `width`.
        #[inline]
        pub(in crate::shm) unsafe fn pointer(&self, offset: u64) -> *mut u8 {
            // SAFETY: the caller checked that the offset lies in the mapping.
            unsafe { self.base.add(offset as usize) }
        }
    }

    /// A space whose address and length were read once. An acquire load makes the compiler read both anew from a [`Shm`]; they
    /// never change.
    #[derive(Clone, Copy)]
    pub struct Window<'a> {
        shm: &'a Shm,
        base: *mut u8,
        len: u64,
    }

    // SAFETY: as for `Shm`, which it borrows.
    unsafe impl Send for Window<'_> {}
    // SAFETY: as for `Shm`, which it borrows.
    unsafe impl Sync for Window<'_> {}

    impl<'a> Window<'a> {
        /// The space.
        #[inline(always)]
        pub fn shm(self) -> &'a Shm {
            self.shm
        }

        /// Length of the space in bytes, as mapped.
        #[inline(always)]
        pub fn len(self) -> u64 {
            self.len
        }

        /// # Safety
        /// `offset` lies in the space or right behind it.
        #[inline(always)]
        pub(in crate::shm) unsafe fn place(self, offset: u64) -> Place<'a> {
            // SAFETY: the caller checked that the offset lies in the mapping.
            Place { shm: self.shm, at: unsafe { self.base.add(offset as usize) } }
        }
    }

    /// A place in a space: its address, and the space for those who ask.
    #[derive(Clone, Copy)]
    pub struct Place<'a> {
        shm: &'a Shm,
        at: *mut u8,
    }

    // SAFETY: as for `Shm`, which it borrows.
    unsafe impl Send for Place<'_> {}
    // SAFETY: as for `Shm`, which it borrows.
    unsafe impl Sync for Place<'_> {}

    impl<'a> Place<'a> {
        /// The space.
        #[inline(always)]
        pub fn shm(self) -> &'a Shm {
            self.shm
        }

        /// Where it is in the space.
        #[inline(always)]
        pub fn offset(self) -> u64 {
            (self.at.addr() - self.shm.base.addr()) as u64
        }

        /// # Safety
        /// The place `by` bytes further on lies in the space or right behind it.
        #[inline(always)]
        pub(in crate::shm) unsafe fn moved(self, by: u64) -> Place<'a> {
            // SAFETY: the caller checked it.
            Place { at: unsafe { self.at.add(by as usize) }, ..self }
        }

        /// # Safety
        /// As `moved`.
        #[inline(always)]
        pub(in crate::shm) unsafe fn pointer(self, at: u64) -> *mut u8 {
            // SAFETY: the caller checked it.
            unsafe { self.at.add(at as usize) }
        }

        /// # Safety
        /// `at..at + 8` from here lies in the space and is aligned to 8.
        #[inline(always)]
        pub(in crate::shm) unsafe fn a64(self, at: u64) -> &'a AtomicU64 {
            // SAFETY: in range and aligned by the caller's check; the mapping outlives `'a`; atomics may be shared.
            unsafe { AtomicU64::from_ptr(self.pointer(at).cast()) }
        }

        /// # Safety
        /// As for `a64`, with a width of 4.
        #[inline(always)]
        pub(in crate::shm) unsafe fn a32(self, at: u64) -> &'a AtomicU32 {
            // SAFETY: as in `a64`.
            unsafe { AtomicU32::from_ptr(self.pointer(at).cast()) }
        }

        /// # Safety
        /// As for `a64`, with a width of 2.
        #[inline(always)]
        pub(in crate::shm) unsafe fn a16(self, at: u64) -> &'a AtomicU16 {
            // SAFETY: as in `a64`.
            unsafe { AtomicU16::from_ptr(self.pointer(at).cast()) }
        }

        /// # Safety
        /// As for `a64`, with a width of 1.
        #[inline(always)]
        pub(in crate::shm) unsafe fn a8(self, at: u64) -> &'a AtomicU8 {
            // SAFETY: as in `a64`.
            unsafe { AtomicU8::from_ptr(self.pointer(at)) }
        }
    }
}

#[cfg(memora_loom)]
mod backing {
    use super::*;
    use std::sync::OnceLock;

    /// A space of loom atomics, one object for each word and width, made at first touch.
    ///
    /// loom wants an atomic to be made before the threads that share it: a model touches every word that it uses from
    /// its main thread first (initialising stores do that).
    pub struct Shm {
        len: u64,
        words: Vec<OnceLock<AtomicU64>>,
        halves: Vec<OnceLock<AtomicU32>>,
        quarters: Vec<OnceLock<AtomicU16>>,
        bytes: Vec<OnceLock<AtomicU8>>,
    }

    fn empty<T>(count: u64) -> Vec<OnceLock<T>> {
        (0..count).map(|_| OnceLock::new()).collect()
    }

    impl Shm {
        /// A zeroed private space of `len` bytes for a model.
        pub fn heap(len: u64) -> Result<Shm> {
            let len = align8(len);
            Ok(Shm {
                len,
                words: empty(len / 8),
                halves: empty(len / 4),
                quarters: empty(len / 2),
                bytes: empty(len),
            })
        }

        /// Length of the space in bytes.
        pub fn len(&self) -> u64 {
            self.len
        }

        /// Models are always writable.
        pub fn writable(&self) -> bool {
            true
        }

        /// Nothing to reserve in a model.
        pub fn populate(&self, _offset: u64, _len: u64) -> Result<()> {
            Ok(())
        }

        /// As in the real space.
        pub fn window(&self) -> Window<'_> {
            Window { shm: self }
        }
    }

    /// As in the real space.
    #[derive(Clone, Copy)]
    pub struct Window<'a> {
        shm: &'a Shm,
    }

    impl<'a> Window<'a> {
        /// The space.
        pub fn shm(self) -> &'a Shm {
            self.shm
        }

        /// Length of the space in bytes.
        pub fn len(self) -> u64 {
            self.shm.len
        }

        pub(in crate::shm) unsafe fn place(self, offset: u64) -> Place<'a> {
            Place { shm: self.shm, offset }
        }
    }

    /// As in the real space.
    #[derive(Clone, Copy)]
    pub struct Place<'a> {
        shm: &'a Shm,
        offset: u64,
    }

    impl<'a> Place<'a> {
        /// The space.
        pub fn shm(self) -> &'a Shm {
            self.shm
        }

        /// Where it is in the space.
        pub fn offset(self) -> u64 {
            self.offset
        }

        pub(in crate::shm) unsafe fn moved(self, by: u64) -> Place<'a> {
            Place { offset: self.offset + by, ..self }
        }

        pub(in crate::shm) unsafe fn a64(self, at: u64) -> &'a AtomicU64 {
            self.shm.words[(self.offset + at) as usize / 8].get_or_init(|| AtomicU64::new(0))
        }

        pub(in crate::shm) unsafe fn a32(self, at: u64) -> &'a AtomicU32 {
            self.shm.halves[(self.offset + at) as usize / 4].get_or_init(|| AtomicU32::new(0))
        }

        pub(in crate::shm) unsafe fn a16(self, at: u64) -> &'a AtomicU16 {
            self.shm.quarters[(self.offset + at) as usize / 2].get_or_init(|| AtomicU16::new(0))
        }

        pub(in crate::shm) unsafe fn a8(self, at: u64) -> &'a AtomicU8 {
            self.shm.bytes[(self.offset + at) as usize].get_or_init(|| AtomicU8::new(0))
        }
    }
}

pub(super) use backing::Place;
pub use backing::{Shm, Window};

#[cold]
#[inline(never)]
pub(super) fn out_of_range(offset: u64, len: u64, total: u64) -> Error {
    Error::new(
        ErrorCode::Corrupt,
        format!("Offset {offset} with length {len} leaves the mapped {total} bytes or is not aligned to 8."),
    )
}

impl Shm {
    /// A view of `N` bytes at `offset`, which must be a multiple of 8.
    #[inline]
    pub fn block<const N: usize>(&self, offset: u64) -> Result<Block<'_, N>> {
        match self.view(offset) {
            Some(block) => Ok(block),
            None => Err(out_of_range(offset, N as u64, self.len())),
        }
    }

    /// As [`Shm::block`], for a caller who does not ask what is wrong.
    #[inline]
    pub fn view<const N: usize>(&self, offset: u64) -> Option<Block<'_, N>> {
        self.window().view(offset)
    }

    /// As [`Shm::span`], for a caller who does not ask what is wrong.
    #[inline]
    pub fn range(&self, offset: u64, len: u64) -> Option<Span<'_>> {
        self.window().range(offset, len)
    }

    /// A view of `len` bytes, rounded up to whole words, at `offset`, which must be a multiple of 8.
    #[inline]
    pub fn span(&self, offset: u64, len: u64) -> Result<Span<'_>> {
        match self.range(offset, len) {
            Some(span) => Ok(span),
            None => Err(out_of_range(offset, len, self.len())),
        }
    }

    /// As [`Window::prefetch_write`].
    #[inline]
    pub fn prefetch_write(&self, offset: u64) {
        self.window().prefetch_write(offset);
    }

    /// As [`Window::prefetch`].
    #[inline]
    pub fn prefetch(&self, offset: u64) {
        self.window().prefetch(offset);
    }
}

impl<'a> Window<'a> {
    /// As [`Shm::view`].
    #[inline(always)]
    pub fn view<const N: usize>(self, offset: u64) -> Option<Block<'a, N>> {
        const { assert!(N.is_multiple_of(8)) };
        let fits = offset.is_multiple_of(8) && offset <= self.len() && self.len() - offset >= N as u64;
        // SAFETY: `offset` was checked.
        fits.then(|| Block { place: unsafe { self.place(offset) }, length: PhantomData })
    }

    /// As [`Shm::range`].
    #[inline(always)]
    pub fn range(self, offset: u64, len: u64) -> Option<Span<'a>> {
        let fits = offset.is_multiple_of(8) && offset <= self.len() && self.len() - offset >= align8(len);
        // SAFETY: `offset` was checked.
        fits.then(|| Span { place: unsafe { self.place(offset) }, len: align8(len) })
    }

    /// Asks the processor to fetch the line at `offset` in order to write it; does nothing for an offset outside the space.
    #[inline(always)]
    pub fn prefetch_write(self, offset: u64) {
        #[cfg(all(target_arch = "x86_64", not(memora_loom)))]
        if offset < self.len() {
            // The intrinsic becomes a prefetch for reading where the build does not name the feature; processors without it
            // take the instruction for no operation.
            // SAFETY: the address lies in the mapping; a prefetch has no effect but on caches.
            unsafe {
                std::arch::asm!("prefetchw [{}]", in(reg) self.place(offset).pointer(0), options(nostack, preserves_flags, readonly));
            }
        }
        #[cfg(not(all(target_arch = "x86_64", not(memora_loom))))]
        let _ = offset;
    }

    /// Asks the processor to fetch the line at `offset`; does nothing for an offset outside the space.
    #[inline(always)]
    pub fn prefetch(self, offset: u64) {
        #[cfg(all(target_arch = "x86_64", not(memora_loom)))]
        if offset < self.len() {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: the address lies in the mapping; a prefetch has no effect but on caches.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(self.place(offset).pointer(0).cast()) };
        }
        #[cfg(not(all(target_arch = "x86_64", not(memora_loom))))]
        let _ = offset;
    }
}

/// `N` bytes of a space, checked once; fields are reached at constant offsets that the compiler checks.
#[derive(Clone, Copy)]
pub struct Block<'a, const N: usize> {
    place: Place<'a>,
    length: PhantomData<[u8; N]>,
}

impl Block<'_, 64> {
    /// Which of the eight words have `wanted` in the bits of `mask` of their upper halves, as bits: a hint where to look, for
    /// the words may change at any instant and are not loaded as atomics.
    #[inline(always)]
    pub fn matching_halves(self, mask: u32, wanted: u32) -> u32 {
        #[cfg(all(target_arch = "x86_64", not(memora_loom), not(miri)))]
        {
            let (low, high): (u32, u32);
            // SAFETY: reads the 64 bytes of the block, which were checked when it was made; as assembly the loads are
            // outside the memory model of the language, and what they give is used as a hint only.
            unsafe {
                std::arch::asm!(
                    "movups {a}, [{at}]",
                    "movups {b}, [{at} + 16]",
                    "movups {c}, [{at} + 32]",
                    "movups {d}, [{at} + 48]",
                    "shufps {a}, {b}, 0xdd",
                    "shufps {c}, {d}, 0xdd",
                    "movd {b}, {mask:e}",
                    "movd {d}, {wanted:e}",
                    "pshufd {b}, {b}, 0",
                    "pshufd {d}, {d}, 0",
                    "pand {a}, {b}",
                    "pand {c}, {b}",
                    "pcmpeqd {a}, {d}",
                    "pcmpeqd {c}, {d}",
                    "movmskps {low:e}, {a}",
                    "movmskps {high:e}, {c}",
                    at = in(reg) self.place.pointer(0),
                    mask = in(reg) mask, wanted = in(reg) wanted,
                    low = out(reg) low, high = out(reg) high,
                    a = out(xmm_reg) _, b = out(xmm_reg) _, c = out(xmm_reg) _, d = out(xmm_reg) _,
                    options(nostack, preserves_flags, readonly)
                );
            }
            low | high << 4
        }
        #[cfg(not(all(target_arch = "x86_64", not(memora_loom), not(miri))))]
        (0..8).fold(0, |found, index| {
            // ORDER Relaxed: a hint.
            let half = (self.u64_at::<0>(index).load(super::atomic::Ordering::Relaxed) >> 32) as u32;
            found | u32::from(half & mask == wanted) << index
        })
    }
}

impl<'a, const N: usize> Block<'a, N> {
    /// # Safety
    /// `offset` is a multiple of 8 and `offset..offset + N` lies in the space.
    #[inline(always)]
    pub(super) unsafe fn unchecked(shm: &'a Shm, offset: u64) -> Block<'a, N> {
        // SAFETY: by the caller's promise.
        Block { place: unsafe { shm.window().place(offset) }, length: PhantomData }
    }

    /// Where the block begins in the space.
    #[inline]
    pub fn offset(self) -> u64 {
        self.place.offset()
    }

    /// The space that the block lies in.
    #[inline]
    pub fn shm(self) -> &'a Shm {
        self.place.shm()
    }

    /// The 8-byte word at byte `AT` of the block.
    #[inline]
    pub fn u64<const AT: usize>(self) -> &'a AtomicU64 {
        const { assert!(AT.is_multiple_of(8) && AT + 8 <= N) };
        // SAFETY: the block was checked against the mapped length when made; `AT` is checked above.
        unsafe { self.place.a64(AT as u64) }
    }

    /// The 4-byte word at byte `AT` of the block.
    #[inline]
    pub fn u32<const AT: usize>(self) -> &'a AtomicU32 {
        const { assert!(AT.is_multiple_of(4) && AT + 4 <= N) };
        // SAFETY: as in `u64`.
        unsafe { self.place.a32(AT as u64) }
    }

    /// The 2-byte word at byte `AT` of the block.
    #[inline]
    pub fn u16<const AT: usize>(self) -> &'a AtomicU16 {
        const { assert!(AT.is_multiple_of(2) && AT + 2 <= N) };
        // SAFETY: as in `u64`.
        unsafe { self.place.a16(AT as u64) }
    }

    /// The byte at byte `AT` of the block.
    #[inline]
    pub fn u8<const AT: usize>(self) -> &'a AtomicU8 {
        const { assert!(AT < N) };
        // SAFETY: as in `u64`.
        unsafe { self.place.a8(AT as u64) }
    }

    /// Word `index` of the array of 8-byte words that begins at byte `AT` and ends with the block.
    ///
    /// # Panics
    /// If the index leaves the block: a bug of the caller, who never takes an index from shared memory unchecked.
    #[inline]
    pub fn u64_at<const AT: usize>(self, index: usize) -> &'a AtomicU64 {
        const { assert!(AT.is_multiple_of(8) && AT + 8 <= N) };
        assert!(index < (N - AT) / 8, "index {index} leaves the block");
        // SAFETY: the block was checked when made; the index is checked above.
        unsafe { self.place.a64((AT + index * 8) as u64) }
    }

    /// Word `index` of the array of 4-byte words that begins at byte `AT` and ends with the block.
    ///
    /// # Panics
    /// As [`Block::u64_at`].
    #[inline]
    pub fn u32_at<const AT: usize>(self, index: usize) -> &'a AtomicU32 {
        const { assert!(AT.is_multiple_of(4) && AT + 4 <= N) };
        assert!(index < (N - AT) / 4, "index {index} leaves the block");
        // SAFETY: the block was checked when made; the index is checked above.
        unsafe { self.place.a32((AT + index * 4) as u64) }
    }

    /// The part of `M` bytes at byte `AT`, a multiple of 8: checked when compiled.
    #[inline]
    pub fn part<const AT: usize, const M: usize>(self) -> Block<'a, M> {
        const { assert!(AT.is_multiple_of(8) && M.is_multiple_of(8) && AT + M <= N) };
        // SAFETY: the part lies in the block.
        Block { place: unsafe { self.place.moved(AT as u64) }, length: PhantomData }
    }

    /// The block as a span, for copies.
    #[inline]
    pub fn span(self) -> Span<'a> {
        Span { place: self.place, len: N as u64 }
    }
}

/// A range of whole words of a space, checked once; each access is compared with its length.
#[derive(Clone, Copy)]
pub struct Span<'a> {
    place: Place<'a>,
    len: u64,
}

impl<'a> Span<'a> {
    /// Where the span begins in the space.
    #[inline]
    pub fn offset(self) -> u64 {
        self.place.offset()
    }

    /// Length in bytes, a multiple of 8.
    #[inline]
    pub fn len(self) -> u64 {
        self.len
    }

    /// The space that the span lies in.
    #[inline]
    pub fn shm(self) -> &'a Shm {
        self.place.shm()
    }

    #[inline]
    fn check(self, at: u64, width: u64) -> Result<()> {
        if at.is_multiple_of(width) && at <= self.len && self.len - at >= width {
            Ok(())
        } else {
            Err(out_of_range(self.offset().saturating_add(at), width, self.place.shm().len()))
        }
    }

    /// Checks a range that begins at a multiple of 8, rounded up to whole words.
    #[inline(always)]
    fn check_words(self, at: u64, len: u64) -> Result<()> {
        if at.is_multiple_of(8) && at <= self.len && self.len - at >= align8(len) {
            Ok(())
        } else {
            Err(out_of_range(self.offset().saturating_add(at), len, self.place.shm().len()))
        }
    }

    /// The 8-byte word at byte `at`.
    #[inline]
    pub fn u64(self, at: u64) -> Result<&'a AtomicU64> {
        self.check(at, 8)?;
        // SAFETY: the span was checked against the mapped length when made, `at` against the span above.
        Ok(unsafe { self.place.a64(at) })
    }

    /// The 4-byte word at byte `at`.
    #[inline]
    pub fn u32(self, at: u64) -> Result<&'a AtomicU32> {
        self.check(at, 4)?;
        // SAFETY: as in `u64`.
        Ok(unsafe { self.place.a32(at) })
    }

    /// A view of `N` bytes at byte `at`, a multiple of 8.
    #[inline(always)]
    pub fn block<const N: usize>(self, at: u64) -> Result<Block<'a, N>> {
        self.check_words(at, N as u64)?;
        // SAFETY: the range was checked above.
        Ok(Block { place: unsafe { self.place.moved(at) }, length: PhantomData })
    }

    /// The part of `len` bytes, rounded up to whole words, that begins at byte `at`, a multiple of 8.
    #[inline(always)]
    pub fn sub(self, at: u64, len: u64) -> Result<Span<'a>> {
        self.check_words(at, len)?;
        // SAFETY: the range was checked above.
        Ok(Span { place: unsafe { self.place.moved(at) }, len: align8(len) })
    }

    /// Copies bytes out, word by word with relaxed loads. What a concurrent writer does may be torn between words: the
    /// caller validates afterwards.
    #[inline(always)]
    pub fn copy_out(self, at: u64, into: &mut [u8]) -> Result<()> {
        self.check_words(at, into.len() as u64)?;
        // SAFETY: the range of whole words was checked above.
        unsafe { copy::out(self.place.moved(at), into) };
        Ok(())
    }

    /// Copies bytes in, word by word with relaxed stores; the last word is filled up with zeros.
    ///
    /// Fails with `ReadOnly` on a read-only mapping.
    #[inline(always)]
    pub fn copy_in(self, at: u64, from: &[u8]) -> Result<()> {
        self.check_words(at, from.len() as u64)?;
        if !self.place.shm().writable() {
            return Err(ErrorCode::ReadOnly.into());
        }
        // SAFETY: the range of whole words was checked above and the mapping is writable.
        unsafe { copy::into(self.place.moved(at), from) };
        Ok(())
    }

    /// As [`Span::copy_out`], from any byte on.
    #[inline]
    pub fn copy_out_from(self, at: u64, into: &mut [u8]) -> Result<()> {
        let skipped = at % 8;
        if skipped == 0 {
            return self.copy_out(at, into);
        }
        let first = into.len().min(8 - skipped as usize);
        let (first, rest) = into.split_at_mut(first);
        let mut word = [0; 8];
        self.copy_out(at - skipped, &mut word)?;
        first.copy_from_slice(&word[skipped as usize..][..first.len()]);
        if rest.is_empty() { Ok(()) } else { self.copy_out(at - skipped + 8, rest) }
    }

    /// Copies `len` bytes to the start of another span, as [`Span::copy_out`] and [`Span::copy_in`] together would.
    ///
    /// Fails with `ReadOnly` if the other one is in a read-only mapping.
    pub fn copy_across(self, to: Span<'_>, len: u64) -> Result<()> {
        self.check_words(0, len)?;
        to.check_words(0, len)?;
        if !to.place.shm().writable() {
            return Err(ErrorCode::ReadOnly.into());
        }
        // SAFETY: both ranges of whole words were checked above and the second mapping is writable.
        unsafe { copy::across(self.place, to.place, len) };
        Ok(())
    }

    /// Where the bytes stand in this process. Whoever reads there must bear that peers write.
    #[cfg(not(memora_loom))]
    #[inline]
    pub fn as_ptr(self) -> *const u8 {
        // SAFETY: the start of a span that was checked when made.
        unsafe { self.place.pointer(0) }.cast_const()
    }

    /// Whether the bytes at `at` equal `with`, by relaxed loads.
    #[inline(always)]
    pub fn equals(self, at: u64, with: &[u8]) -> Result<bool> {
        self.check_words(at, with.len() as u64)?;
        // SAFETY: the range of whole words was checked above.
        Ok(unsafe { copy::equal(self.place.moved(at), with) })
    }

    /// Stores zeros into whole words, with relaxed stores.
    pub fn zero(self, at: u64, len: u64) -> Result<()> {
        self.check_words(at, len)?;
        if !self.place.shm().writable() {
            return Err(ErrorCode::ReadOnly.into());
        }
        for word in 0..align8(len) / 8 {
            // SAFETY: the range of whole words was checked above and the mapping is writable.
            // ORDER Relaxed: bulk bytes of an exclusive owner; the word that publishes them orders them.
            unsafe { self.place.a64(at + word * 8) }.store(0, super::atomic::Ordering::Relaxed);
        }
        Ok(())
    }

    /// Asks the processor to fetch the line at byte `at` in order to write it.
    #[inline]
    pub fn prefetch_write(self, at: u64) {
        self.place.shm().prefetch_write(self.offset().saturating_add(at));
    }

    /// Asks the processor to fetch the line at byte `at`.
    #[inline]
    pub fn prefetch(self, at: u64) {
        self.place.shm().prefetch(self.offset().saturating_add(at));
    }
}

#[cfg(all(test, not(memora_loom)))]
mod tests {
    use super::*;
    use crate::shm::atomic::Ordering::Relaxed;

    #[test]
    fn views_outside_the_space_or_unaligned_are_refused() {
        let shm = Shm::heap(8192).unwrap();
        for (offset, len) in
            [(8192, 1), (8184, 9), (u64::MAX, 8), (u64::MAX - 7, u64::MAX), (4, 8), (0, 8193)]
        {
            let error = shm.span(offset, len).err().unwrap_or_else(|| panic!("{offset}+{len} accepted"));
            assert_eq!(error.code(), ErrorCode::Corrupt);
        }
        assert!(shm.block::<64>(8192 - 56).is_err());
        assert!(shm.block::<64>(8192 - 64).is_ok());
        let span = shm.span(64, 100).unwrap();
        assert_eq!(span.len(), 104);
        assert!(span.u64(104).is_err() && span.u64(96).is_ok() && span.u64(97).is_err());
        assert!(span.sub(8, 97).is_err() && span.copy_out(96, &mut [0; 9]).is_err());
        assert!(span.copy_out_from(97, &mut [0; 8]).is_err() && span.copy_out_from(97, &mut [0; 7]).is_ok());
        assert!(span.copy_out_from(u64::MAX, &mut [0; 1]).is_err());
        let short = shm.span(0, 96).unwrap();
        assert!(span.copy_across(short, 97).is_err() && short.copy_across(span, 97).is_err());
    }

    #[test]
    fn copies_of_every_length_come_back_and_touch_nothing_else() {
        let shm = Shm::heap(65536).unwrap();
        let span = shm.span(0, 65536).unwrap();
        for len in (0..600).chain([1000, 4095, 4096, 5000]) {
            let bytes: Vec<u8> = (0..len).map(|i| (i * 7 + len) as u8).collect();
            span.u64(64 + align8(len as u64)).unwrap().store(u64::MAX, Relaxed);
            span.copy_in(64, &bytes).unwrap();
            assert_eq!(span.u64(64 + align8(len as u64)).unwrap().load(Relaxed), u64::MAX, "length {len}");
            let mut back = vec![0; len];
            span.copy_out(64, &mut back).unwrap();
            assert_eq!(back, bytes);
            for from in 0..len.min(17) {
                let mut part = vec![0; len - from];
                span.copy_out_from(64 + from as u64, &mut part).unwrap();
                assert_eq!(part, bytes[from..], "length {len} from {from}");
            }
            let to = span.sub(16384, len as u64 + 8).unwrap();
            to.u64(align8(len as u64)).unwrap().store(u64::MAX, Relaxed);
            span.sub(64, len as u64).unwrap().copy_across(to, len as u64).unwrap();
            to.copy_out(0, &mut back).unwrap();
            assert_eq!(back, bytes, "length {len}");
            assert_eq!(to.u64(align8(len as u64)).unwrap().load(Relaxed), u64::MAX, "length {len}");
            assert!(span.equals(64, &bytes).unwrap());
            if len > 0 {
                back[len / 2] ^= 1;
                assert!(!span.equals(64, &back).unwrap(), "length {len}");
                back[len / 2] ^= 1;
                back[len - 1] ^= 1;
                assert!(!span.equals(64, &back).unwrap(), "length {len}");
            }
        }
    }
}
