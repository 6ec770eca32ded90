//! Copies between private memory and shared words.
//!
//! Short copies are relaxed 8-byte loads and stores. From 16 bytes on, x86-64 moves 16 at a time, and long copies use its
//! string move: written as assembly they are outside the memory model of the language, so a concurrent writer makes the
//! bytes torn, not the program undefined. In all cases the caller validates after an acquire fence.

use super::Shm;
use super::atomic::Ordering::Relaxed;

/// Bytes from which the string move wins over a loop of words (measured: break-even near 400).
#[cfg(all(target_arch = "x86_64", not(memora_loom), not(miri)))]
const LONG: usize = 512;

/// # Safety
/// `offset` is a multiple of 8 and `into.len()` rounded up to 8 bytes lie in the space.
#[inline]
pub(super) unsafe fn out(shm: &Shm, offset: u64, into: &mut [u8]) {
    #[cfg(all(target_arch = "x86_64", not(memora_loom), not(miri)))]
    if into.len() >= LONG {
        // SAFETY: source range checked by the caller, destination is the whole slice; the direction flag is clear.
        unsafe { string_move(shm.pointer(offset), into.as_mut_ptr(), into.len()) };
        return;
    }
    #[cfg(all(target_arch = "x86_64", not(memora_loom), not(miri)))]
    if into.len() >= 16 {
        // SAFETY: source range checked by the caller, destination is the whole slice, at least 16 bytes.
        unsafe { wide_move(shm.pointer(offset), into.as_mut_ptr(), into.len()) };
        return;
    }
    let mut offset = offset;
    let mut words = into.chunks_exact_mut(8);
    for word in &mut words {
        // SAFETY: within the range that the caller checked.
        // ORDER Relaxed: bytes of a record or frame; the caller's acquire fence and re-check order them.
        word.copy_from_slice(&unsafe { shm.a64(offset) }.load(Relaxed).to_le_bytes());
        offset += 8;
    }
    let rest = words.into_remainder();
    if !rest.is_empty() {
        // SAFETY: the caller checked the range rounded up to whole words.
        let word = unsafe { shm.a64(offset) }.load(Relaxed).to_le_bytes();
        for (to, from) in rest.iter_mut().zip(word) {
            *to = from;
        }
    }
}

/// # Safety
/// As `out`, and the space is writable.
#[inline]
pub(super) unsafe fn into(shm: &Shm, offset: u64, from: &[u8]) {
    let all = from;
    let mut offset = offset;
    #[allow(unused_mut)]
    let mut from = from;
    #[cfg(all(target_arch = "x86_64", not(memora_loom), not(miri)))]
    if from.len() >= LONG {
        let whole = from.len() & !7;
        // SAFETY: destination range checked by the caller, source is a prefix of the slice.
        unsafe { string_move(from.as_ptr(), shm.pointer(offset), whole) };
        offset += whole as u64;
        from = &from[whole..];
    } else if from.len() >= 16 {
        let whole = from.len() & !7;
        // SAFETY: destination range checked by the caller, source is a prefix of the slice, at least 16 bytes.
        unsafe { wide_move(from.as_ptr(), shm.pointer(offset), whole) };
        offset += whole as u64;
        from = &from[whole..];
    }
    let (words, rest) = from.as_chunks::<8>();
    for word in words {
        // SAFETY: within the range that the caller checked, writable.
        // ORDER Relaxed: the writer owns these bytes; the store that publishes them orders them.
        unsafe { shm.a64(offset) }.store(u64::from_le_bytes(*word), Relaxed);
        offset += 8;
    }
    if !rest.is_empty() {
        // SAFETY: the caller checked the range rounded up to whole words.
        unsafe { shm.a64(offset) }.store(end_word(all, rest), Relaxed);
    }
}

/// # Safety
/// As `out`.
#[inline]
pub(super) unsafe fn equal(shm: &Shm, offset: u64, with: &[u8]) -> bool {
    let (whole, rest) = with.as_chunks::<8>();
    let mut offset = offset;
    for word in whole {
        // SAFETY: within the range that the caller checked.
        // ORDER Relaxed: as in `out`.
        if unsafe { shm.a64(offset) }.load(Relaxed) != u64::from_le_bytes(*word) {
            return false;
        }
        offset += 8;
    }
    if rest.is_empty() {
        return true;
    }
    let mask = (1u64 << (rest.len() * 8)) - 1;
    // SAFETY: the caller checked the range rounded up to whole words.
    unsafe { shm.a64(offset) }.load(Relaxed) & mask == end_word(with, rest)
}

/// The last 1 to 7 bytes of a slice as a little-endian word filled up with zeros.
#[inline]
fn end_word(all: &[u8], rest: &[u8]) -> u64 {
    match all.last_chunk::<8>() {
        Some(end) => u64::from_le_bytes(*end) >> (64 - rest.len() * 8),
        None => rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    }
}

/// # Safety
/// Both ranges of `len` bytes are mapped, the destination is writable and owned by the caller.
#[cfg(all(target_arch = "x86_64", not(memora_loom), not(miri)))]
#[inline(never)]
unsafe fn string_move(from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: `rep movsb` reads and writes exactly the two ranges; the direction flag is clear at entry of `asm!`.
    unsafe {
        std::arch::asm!(
            "rep movsb",
            inout("rcx") len => _, inout("rdi") to => _, inout("rsi") from => _,
            options(nostack, preserves_flags)
        );
    }
}

/// Moves `len` bytes, 16 at a time; the last 16 overlap those before.
///
/// # Safety
/// As `string_move`, and `len` is at least 16.
#[cfg(all(target_arch = "x86_64", not(memora_loom), not(miri)))]
#[inline]
unsafe fn wide_move(from: *const u8, to: *mut u8, len: usize) {
    let mut at = 0;
    while len - at >= 64 {
        // SAFETY: both halves lie below `len`.
        unsafe {
            move_32(from.add(at), to.add(at));
            move_32(from.add(at + 32), to.add(at + 32));
        }
        at += 64;
    }
    if len - at >= 32 {
        // SAFETY: below `len`.
        unsafe { move_32(from.add(at), to.add(at)) };
        at += 32;
    }
    if len - at > 16 {
        // SAFETY: below `len`.
        unsafe { move_16(from.add(at), to.add(at)) };
    }
    if len - at > 0 {
        // SAFETY: the last 16 of at least 16 bytes.
        unsafe { move_16(from.add(len - 16), to.add(len - 16)) };
    }
}

/// # Safety
/// As `string_move`, for 32 bytes.
#[cfg(all(target_arch = "x86_64", not(memora_loom), not(miri)))]
#[inline(always)]
unsafe fn move_32(from: *const u8, to: *mut u8) {
    // SAFETY: reads and writes exactly the two ranges.
    unsafe {
        std::arch::asm!(
            "movups {a}, [{from}]",
            "movups {b}, [{from} + 16]",
            "movups [{to}], {a}",
            "movups [{to} + 16], {b}",
            from = in(reg) from, to = in(reg) to, a = out(xmm_reg) _, b = out(xmm_reg) _,
            options(nostack, preserves_flags)
        );
    }
}

/// # Safety
/// As `string_move`, for 16 bytes.
#[cfg(all(target_arch = "x86_64", not(memora_loom), not(miri)))]
#[inline(always)]
unsafe fn move_16(from: *const u8, to: *mut u8) {
    // SAFETY: reads and writes exactly the two ranges.
    unsafe {
        std::arch::asm!(
            "movups {a}, [{from}]",
            "movups [{to}], {a}",
            from = in(reg) from, to = in(reg) to, a = out(xmm_reg) _,
            options(nostack, preserves_flags)
        );
    }
}
