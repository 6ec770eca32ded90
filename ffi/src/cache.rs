//! Entries of caches, and the types that caches and stores share. The bodies that they share stand in `entries`.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_int, c_void};

use memora_core::{Cache, ErrorCode, Fabric};

use crate::entries;
use crate::fabric::memora_fabric_t;
use crate::guard::call;
use crate::handles;
use crate::options::{self, memora_cache_options_t, memora_set_options_t};

/// A cache: entries of key and value in a fabric, shared by all its processes. Open it with memora_cache_open(), close it
/// with memora_cache_close(). May be used by any number of threads at once.
#[allow(non_camel_case_types)]
pub struct memora_cache_t {
    _opaque: [u8; 0],
}

/// Bytes of the caller.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct memora_bytes_t {
    /// The first byte; may be NULL if `len` is 0.
    pub data: *const c_void,
    /// How many.
    pub len: usize,
}

/// What is known of an entry beside its value.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct memora_entry_t {
    /// The version: another one for each write, never used again.
    pub version: u64,
    /// Milliseconds until the entry expires; UINT64_MAX: never.
    pub ttl_ms: u64,
    /// The number that the writer gave.
    pub flags: u32,
    /// After memora_cache_get_meta() those of MEMORA_ENTRY_* that apply; otherwise 0.
    pub marks: u32,
}

/// Takes one answer of a get of many: `index` is that of the key; `value` is NULL for a miss, and is valid only until
/// the function returns.
#[allow(non_camel_case_types)]
pub type memora_value_fn =
    Option<unsafe extern "C" fn(context: *mut c_void, index: usize, value: *const c_void, value_len: usize)>;

/// Takes one entry of a scan. `key`, `value` and `entry` are valid only until the function returns.
#[allow(non_camel_case_types)]
pub type memora_entry_fn = Option<
    unsafe extern "C" fn(
        context: *mut c_void,
        key: *const c_void,
        key_len: usize,
        value: *const c_void,
        value_len: usize,
        entry: *const memora_entry_t,
    ),
>;

/// Opens the cache `name` of `fabric`, or creates it. With `options` NULL it is opened however it was made, or created with the
/// defaults.
///
/// On success `*cache` is a new handle, to be closed with memora_cache_close(); else it is NULL.
/// Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT, MEMORA_INVALID_NAME, MEMORA_WRONG_KIND, MEMORA_WRONG_OPTIONS,
/// MEMORA_TOO_MANY_OBJECTS, MEMORA_FULL, MEMORA_NO_SPACE, MEMORA_READ_ONLY, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_cache_open(
    fabric: *mut memora_fabric_t,
    name: *const c_char,
    options: *const memora_cache_options_t,
    cache: *mut *mut memora_cache_t,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            border.open(cache, || {
                let name = border.text(name, "name")?;
                let chosen = options::cache(border, options)?;
                handles::with(handles::number(fabric), |fabric: &Fabric| {
                    if options.is_null() { fabric.cache(name) } else { fabric.cache_with(name, &chosen) }
                })
            })
        })
    }
}

/// Closes the handle. NULL is allowed and does nothing. Calls of other threads that are under way finish.
///
/// Returns MEMORA_OK, MEMORA_CLOSED, MEMORA_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_cache_close(cache: *mut memora_cache_t) -> c_int {
    // SAFETY: the handle is a number, nothing is read through it.
    unsafe { call(|_| handles::close::<Cache>(handles::number(cache))) }
}

/// Copies the value of `key` into `buffer`, which has room for `capacity` bytes. Lock-free, never waits.
///
/// `*len` becomes the length of the value, also when the buffer was too small: call once with capacity 0 to learn it. The
/// value may be another one by the second call; so repeat it while it answers MEMORA_BUFFER_TOO_SMALL.
/// Returns MEMORA_OK, MEMORA_NOT_FOUND (also for a key that is too long), MEMORA_BUFFER_TOO_SMALL (the buffer's content is then
/// undefined), MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_cache_get(
    cache: *mut memora_cache_t,
    key: *const c_void,
    key_len: usize,
    buffer: *mut c_void,
    capacity: usize,
    len: *mut usize,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe { entries::get(cache, entries::span(key, key_len), buffer, capacity, len, Cache::get_into) }
}

/// As memora_cache_get(), and tells the version, the flags and the rest of the time to live in `*entry`.
///
/// Returns what memora_cache_get() does.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_cache_get_entry(
    cache: *mut memora_cache_t,
    key: *const c_void,
    key_len: usize,
    buffer: *mut c_void,
    capacity: usize,
    len: *mut usize,
    entry: *mut memora_entry_t,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        entries::get_entry(cache, entries::span(key, key_len), buffer, capacity, len, entry, Cache::get_entry)
    }
}

/// Looks `count` keys up and calls `function` once for each: faster than one by one, because the waits for memory overlap.
/// Not one moment for all of them. The function may call the library, but not throw or jump out.
///
/// Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_cache_get_many(
    cache: *mut memora_cache_t,
    keys: *const memora_bytes_t,
    count: usize,
    function: memora_value_fn,
    context: *mut c_void,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        entries::get_many(cache, keys, count, function, context, |cache: &Cache, keys, answer| {
            cache.get_many(keys, answer)
        })
    }
}

/// Stores `value` under `key`, whatever is there. `options` (time to live, flags) may be NULL, `version` too.
///
/// The bytes are copied. `*version` becomes the version of the new entry.
/// Returns MEMORA_OK, MEMORA_KEY_TOO_LONG, MEMORA_VALUE_TOO_LONG, MEMORA_FULL, MEMORA_NO_SPACE, MEMORA_READ_ONLY,
/// MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_cache_set(
    cache: *mut memora_cache_t,
    key: *const c_void,
    key_len: usize,
    value: *const c_void,
    value_len: usize,
    options: *const memora_set_options_t,
    version: *mut u64,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        entries::store(
            cache,
            entries::span(key, key_len),
            entries::span(value, value_len),
            options,
            version,
            Cache::set_with,
        )
    }
}

/// As memora_cache_set(), but only if there is no entry under `key`.
///
/// Returns what memora_cache_set() does, or MEMORA_ALREADY_EXISTS.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_cache_add(
    cache: *mut memora_cache_t,
    key: *const c_void,
    key_len: usize,
    value: *const c_void,
    value_len: usize,
    options: *const memora_set_options_t,
    version: *mut u64,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        entries::store_if(
            cache,
            entries::span(key, key_len),
            entries::span(value, value_len),
            options,
            version,
            ErrorCode::AlreadyExists,
            Cache::add,
        )
    }
}

/// As memora_cache_set(), but only if there is an entry under `key`.
///
/// Returns what memora_cache_set() does, or MEMORA_NOT_FOUND.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_cache_replace(
    cache: *mut memora_cache_t,
    key: *const c_void,
    key_len: usize,
    value: *const c_void,
    value_len: usize,
    options: *const memora_set_options_t,
    version: *mut u64,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        entries::store_if(
            cache,
            entries::span(key, key_len),
            entries::span(value, value_len),
            options,
            version,
            ErrorCode::NotFound,
            Cache::replace,
        )
    }
}

/// Stores `value` under `key` only if the entry there still has version `expected`.
///
/// `*version` (may be NULL) becomes the version of the new entry, or with MEMORA_STALE that of the one found.
/// Returns what memora_cache_set() does, or MEMORA_STALE, MEMORA_NOT_FOUND.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_cache_compare_and_swap(
    cache: *mut memora_cache_t,
    key: *const c_void,
    key_len: usize,
    value: *const c_void,
    value_len: usize,
    expected: u64,
    options: *const memora_set_options_t,
    version: *mut u64,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        entries::swap(
            cache,
            entries::span(key, key_len),
            entries::span(value, value_len),
            expected,
            options,
            version,
            Cache::compare_and_swap,
        )
    }
}

/// Deletes the entry under `key`.
///
/// Returns MEMORA_OK, MEMORA_NOT_FOUND, MEMORA_KEY_TOO_LONG, MEMORA_READ_ONLY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED,
/// MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_cache_delete(
    cache: *mut memora_cache_t,
    key: *const c_void,
    key_len: usize,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe { entries::delete(cache, entries::span(key, key_len), Cache::delete) }
}

/// Adds `by` to the number under `key`, which is kept as decimal text. If there is none: with `initial` it is created with
/// `*initial`, with NULL the answer is MEMORA_NOT_FOUND. `*number` (may be NULL) becomes the new number.
///
/// Returns what memora_cache_set() does, or MEMORA_NOT_FOUND, MEMORA_NOT_A_NUMBER, MEMORA_COUNTER_OVERFLOW.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_cache_increment(
    cache: *mut memora_cache_t,
    key: *const c_void,
    key_len: usize,
    by: u64,
    initial: *const u64,
    number: *mut u64,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        entries::count(cache, entries::span(key, key_len), initial, number, |cache: &Cache, key, initial| {
            cache.increment(key, by, initial)
        })
    }
}

/// Takes `by` from the number under `key`; it stops at 0. Otherwise as memora_cache_increment().
///
/// Returns what memora_cache_increment() does, but never MEMORA_COUNTER_OVERFLOW.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_cache_decrement(
    cache: *mut memora_cache_t,
    key: *const c_void,
    key_len: usize,
    by: u64,
    initial: *const u64,
    number: *mut u64,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        entries::count(cache, entries::span(key, key_len), initial, number, |cache: &Cache, key, initial| {
            cache.decrement(key, by, initial)
        })
    }
}

/// Tells the number of entries; those that have expired but were not met since still count.
///
/// Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_cache_len(cache: *mut memora_cache_t, len: *mut u64) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe { entries::len(cache, len, Cache::len) }
}

/// Calls `function` for some entries, about `limit`, and moves `*cursor` on. Begin with a cursor of 0 and go on until it
/// is 0 again. An entry that is there during the whole scan comes at least once; one that comes or goes meanwhile may.
/// The function may call the library, but not throw or jump out.
///
/// Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_cache_scan(
    cache: *mut memora_cache_t,
    cursor: *mut u64,
    limit: usize,
    function: memora_entry_fn,
    context: *mut c_void,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        entries::scan(cache, cursor, limit, function, context, |cache: &Cache, cursor, limit, found| {
            cache.scan(cursor, limit, found)
        })
    }
}
