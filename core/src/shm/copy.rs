//! Copies between private memory and shared words.
//!
//! Short copies are relaxed 8-byte loads and stores. From 16 bytes on, x86-64 moves 16 at a time, and long copies use its
//! string move: written as assembly they are outside the memory model of the language, so a concurrent writer makes the
//! bytes torn, not the program undefined. In all cases the caller validates after an acquire fence.

use super::atomic::Ordering::Relaxed;
use super::space::Place;

/// Bytes from which the string move wins over a loop of words (measured: break-even near 400).
#[cfg(all(target_arch = "x86_64", not(memora_loom), not(miri)))]
const LONG: usize = 512;

/// # Safety
/// The place is a multiple of 8, and `into.len()` bytes from there, rounded up to whole words, lie in the space.
#[inline]
pub(super) unsafe fn out(place: Place<'_>, into: &mut [u8]) {
    #[cfg(all(target_arch = "x86_64", not(memora_loom), not(miri)))]
    if into.len() >= LONG {
        // SAFETY: source range checked by the caller, destination is the whole slice; the direction flag is clear.
        unsafe { string_move(place.pointer(0), into.as_mut_ptr(), into.len()) };
        return;
    }
    #[cfg(all(target_arch = "x86_64", not(memora_loom), not(miri)))]
    if into.len() >= 16 {
        // SAFETY: source range checked by the caller, destination is the whole slice, at least 16 bytes.
        unsafe { wide_move(place.pointer(0), into.as_mut_ptr(), into.len()) };
        return;
    }
    let mut offset = 0;
    let mut words = into.chunks_exact_mut(8);
    for word in &mut words {
        // SAFETY: within the range that the caller checked.
        // ORDER Relaxed: bytes of a record or frame; the caller's acquire fence and re-check order them.
        word.copy_from_slice(&unsafe { place.a64(offset) }.load(Relaxed).to_le_bytes());
        offset += 8;
    }
    let rest = words.into_remainder();
    if !rest.is_empty() {
        // SAFETY: the caller checked the range rounded up to whole words.
        let word = unsafe { place.a64(offset) }.load(Relaxed).to_le_bytes();
        for (to, from) in rest.iter_mut().zip(word) {
            *to = from;
        }
    }
}

/// # Safety
/// As `out`, and the space is writable.
#[inline]
pub(super) unsafe fn into(place: Place<'_>, from: &[u8]) {
    let all = from;
    let mut offset = 0;
    #[allow(unused_mut)]
    let mut from = from;
    #[cfg(all(target_arch = "x86_64", not(memora_loom), not(miri)))]
    if from.len() >= LONG {
        let whole = from.len() & !7;
        // SAFETY: destination range checked by the caller, source is a prefix of the slice.
        unsafe { string_move(from.as_ptr(), place.pointer(offset), whole) };
        offset += whole as u64;
        from = &from[whole..];
    } else if from.len() >= 16 {
        let whole = from.len() & !7;
        // SAFETY: destination range checked by the caller, source is a prefix of the slice, at least 16 bytes.
        unsafe { wide_move(from.as_ptr(), place.pointer(offset), whole) };
        offset += whole as u64;
        from = &from[whole..];
    }
    let (words, rest) = from.as_chunks::<8>();
    for word in words {
        // SAFETY: within the range that the caller checked, writable.
        // ORDER Relaxed: the writer owns these bytes; the store that publishes them orders them.
        unsafe { place.a64(offset) }.store(u64::from_le_bytes(*word), Relaxed);
        offset += 8;
    }
    if !rest.is_empty() {
        // SAFETY: the caller checked the range rounded up to whole words.
        unsafe { place.a64(offset) }.store(end_word(all, rest), Relaxed);
    }
}

/// Copies bytes from one place of shared memory to another; the last word is filled up with zeros.
///
/// # Safety
/// Both places are multiples of 8, `len` bytes from each, rounded up to whole words, lie in its space, and that of `to` is writable.
pub(super) unsafe fn across(from: Place<'_>, to: Place<'_>, len: u64) {
    let whole = len & !7;
    #[allow(unused_mut)]
    let mut done = 0;
    #[cfg(all(target_arch = "x86_64", not(memora_loom), not(miri)))]
    if whole >= 16 {
        let move_bytes = if whole as usize >= LONG { string_move } else { wide_move };
        // SAFETY: both ranges were checked by the caller; the direction flag is clear.
        unsafe { move_bytes(from.pointer(0), to.pointer(0), whole as usize) };
        done = whole;
    }
    while done < whole {
        // SAFETY: within the ranges that the caller checked.
        // ORDER Relaxed: bytes of a frame on one side, of their owner on the other: as in `out` and `into`.
        unsafe { to.a64(done).store(from.a64(done).load(Relaxed), Relaxed) };
        done += 8;
    }
    if len > whole {
        let mask = (1u64 << ((len - whole) * 8)) - 1;
        // SAFETY: the caller checked the ranges rounded up to whole words.
        // ORDER Relaxed: as above.
        unsafe { to.a64(whole).store(from.a64(whole).load(Relaxed) & mask, Relaxed) };
    }
}

/// # Safety
/// As `out`.
#[inline]
pub(super) unsafe fn equal(place: Place<'_>, with: &[u8]) -> bool {
    let (whole, rest) = with.as_chunks::<8>();
    let mut offset = 0;
    for word in whole {
        // SAFETY: within the range that the caller checked.
        // ORDER Relaxed: as in `out`.
        if unsafe { place.a64(offset) }.load(Relaxed) != u64::from_le_bytes(*word) {
            return false;
        }
        offset += 8;
    }
    if rest.is_empty() {
        return true;
    }
    let mask = (1u64 << (rest.len() * 8)) - 1;
    // SAFETY: the caller checked the range rounded up to whole words.
    unsafe { place.a64(offset) }.load(Relaxed) & mask == end_word(with, rest)
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

/// Moves `len` bytes, 16 at a time; the last pieces overlap those before.
///
/// # Safety
/// As `string_move`, and `len` is at least 16.
#[cfg(all(target_arch = "x86_64", not(memora_loom), not(miri)))]
#[inline(always)]
unsafe fn wide_move(mut from: *const u8, mut to: *mut u8, mut len: usize) {
    // SAFETY: each piece lies below `len`: the first ones because of the comparison, the last ones because they end there.
    unsafe {
        while len > 128 {
            move_64(from, to);
            (from, to, len) = (from.add(64), to.add(64), len - 64);
        }
        if len >= 64 {
            move_64(from, to);
            move_64(from.add(len - 64), to.add(len - 64));
        } else if len >= 32 {
            move_32(from, to);
            move_32(from.add(len - 32), to.add(len - 32));
        } else {
            move_16(from, to);
            move_16(from.add(len - 16), to.add(len - 16));
        }
    }
}

/// # Safety
/// As `string_move`, for 64 bytes.
#[cfg(all(target_arch = "x86_64", not(memora_loom), not(miri)))]
#[inline(always)]
unsafe fn move_64(from: *const u8, to: *mut u8) {
    // SAFETY: reads and writes exactly the two ranges.
    unsafe {
        std::arch::asm!(
            "movups {a}, [{from}]",
            "movups {b}, [{from} + 16]",
            "movups {c}, [{from} + 32]",
            "movups {d}, [{from} + 48]",
            "movups [{to}], {a}",
            "movups [{to} + 16], {b}",
            "movups [{to} + 32], {c}",
            "movups [{to} + 48], {d}",
            from = in(reg) from, to = in(reg) to,
            a = out(xmm_reg) _, b = out(xmm_reg) _, c = out(xmm_reg) _, d = out(xmm_reg) _,
            options(nostack, preserves_flags)
        );
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
