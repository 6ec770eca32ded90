//! What goes beyond reading, setting and deleting entries of caches: each is one change of one entry, seen by others at one moment.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};

use memora_core::{Cache, DeleteOutcome, ErrorCode, Result, Version};

use crate::cache::{memora_cache_t, memora_entry_t};
use crate::entries::{self, on, put_entry, span, there_was};
use crate::options::{self, memora_counter_options_t, memora_set_options_t};
use crate::view::{self, memora_view_t};

/// Puts bytes beside the value that is there.
unsafe fn extend(
    cache: *mut memora_cache_t,
    key: (*const c_void, usize),
    bytes: (*const c_void, usize),
    version: *mut u64,
    how: impl FnOnce(&Cache, &[u8], &[u8]) -> Result<Option<Version>>,
) -> c_int {
    // SAFETY: what the caller of this says.
    unsafe {
        on(cache, |border, cache: &Cache| {
            let (key, bytes) = (border.key(span(key.0, key.1))?, border.value(span(bytes.0, bytes.1))?);
            let stored = how(cache, key, bytes)?.ok_or(ErrorCode::NotFound)?;
            border.put(version, stored.0);
            Ok(())
        })
    }
}

/// Puts bytes behind the value that is there; its flags and time to live stay. `*version` (may be NULL) becomes the new version.
///
/// Returns what memora_cache_set() does, or MEMORA_NOT_FOUND.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_cache_append(
    cache: *mut memora_cache_t,
    key: *const c_void,
    key_len: usize,
    value: *const c_void,
    value_len: usize,
    version: *mut u64,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe { extend(cache, (key, key_len), (value, value_len), version, Cache::append) }
}

/// Puts bytes in front of the value that is there; its flags and time to live stay. `*version` (may be NULL) becomes the new
/// version.
///
/// Returns what memora_cache_set() does, or MEMORA_NOT_FOUND.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_cache_prepend(
    cache: *mut memora_cache_t,
    key: *const c_void,
    key_len: usize,
    value: *const c_void,
    value_len: usize,
    version: *mut u64,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe { extend(cache, (key, key_len), (value, value_len), version, Cache::prepend) }
}

/// Deletes the entry under `key` only if it still has version `expected`. With MEMORA_STALE `*version` (may be NULL) becomes
/// that of the one found.
///
/// Returns what memora_cache_delete() does, or MEMORA_STALE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_cache_delete_if(
    cache: *mut memora_cache_t,
    key: *const c_void,
    key_len: usize,
    expected: u64,
    version: *mut u64,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        on(cache, |border, cache: &Cache| {
            match cache.delete_if(border.key(span(key, key_len))?, Version(expected))? {
                DeleteOutcome::Deleted => Ok(()),
                DeleteOutcome::Stale(newer) => Err(entries::stale(border, newer, version)),
                DeleteOutcome::NotFound => Err(ErrorCode::NotFound.into()),
            }
        })
    }
}

/// Gives the entry under `key` another time to live, `ttl_ms` milliseconds from now on; 0: for ever. Its version stays.
///
/// Returns what memora_cache_set() does, or MEMORA_NOT_FOUND.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_cache_touch(
    cache: *mut memora_cache_t,
    key: *const c_void,
    key_len: usize,
    ttl_ms: u64,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        on(cache, |border, cache: &Cache| {
            there_was(cache.touch(border.key(span(key, key_len))?, options::ttl(ttl_ms))?)
        })
    }
}

/// As memora_cache_touch(), and copies the value out as memora_cache_get_entry() does: the entry has its new time to live also
/// when the buffer was too small.
///
/// Returns what both do.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_cache_get_and_touch(
    cache: *mut memora_cache_t,
    key: *const c_void,
    key_len: usize,
    ttl_ms: u64,
    buffer: *mut c_void,
    capacity: usize,
    len: *mut usize,
    entry: *mut memora_entry_t,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        on(cache, |border, cache: &Cache| {
            let (key, buffer) = (border.key(span(key, key_len))?, border.buffer(buffer, capacity, "buffer")?);
            put_entry(border, cache.get_and_touch(key, options::ttl(ttl_ms))?, buffer, len, entry)
        })
    }
}

/// As memora_cache_set(), and gives the entry that was there: `*old` becomes a view of a copy, to be released, or NULL if there was
/// none. With MEMORA_FULL because all handles of the process are open the value is set all the same.
///
/// Returns what memora_cache_set() does.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_cache_get_and_set(
    cache: *mut memora_cache_t,
    key: *const c_void,
    key_len: usize,
    value: *const c_void,
    value_len: usize,
    options: *const memora_set_options_t,
    old: *mut *mut memora_view_t,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        on(cache, |border, cache: &Cache| {
            let (key, value) = (border.key(span(key, key_len))?, border.value(span(value, value_len))?);
            let options = options::set(border, options)?;
            view::open_copy(border, old, || cache.get_and_set(key, value, &options))
        })
    }
}

/// As memora_cache_delete(), and gives the entry that was there: `*old` becomes a view of a copy, to be released, or NULL. It is
/// also gone when the answer is MEMORA_FULL, because all handles of the process are open.
///
/// Returns what memora_cache_delete() does, or MEMORA_FULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_cache_get_and_delete(
    cache: *mut memora_cache_t,
    key: *const c_void,
    key_len: usize,
    old: *mut *mut memora_view_t,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        on(cache, |border, cache: &Cache| {
            let key = border.key(span(key, key_len))?;
            let mut was = false;
            view::open_copy(border, old, || {
                cache.get_and_delete(key).inspect(|found| was = found.is_some())
            })?;
            there_was(was)
        })
    }
}

/// Counts the number under `key`, which is kept as decimal text, by `by`, with the rules of `options` (NULL: those of
/// memora_cache_increment() without an initial number). For a signed counter `by` and `*number` are an int64_t cast to uint64_t.
/// `*number` (may be NULL) becomes the new number.
///
/// An error leaves the entry as it was.
/// Returns what memora_cache_set() does, or MEMORA_NOT_FOUND, MEMORA_NOT_A_NUMBER, MEMORA_COUNTER_OVERFLOW.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_cache_count(
    cache: *mut memora_cache_t,
    key: *const c_void,
    key_len: usize,
    by: u64,
    options: *const memora_counter_options_t,
    number: *mut u64,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        on(cache, |border, cache: &Cache| {
            let counter = options::counter(border, by, options)?;
            let counted = cache.count_with(border.key(span(key, key_len))?, &counter)?;
            border.put(number, counted.ok_or(ErrorCode::NotFound)?);
            Ok(())
        })
    }
}
