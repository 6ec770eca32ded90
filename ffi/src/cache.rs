//! Entries of caches, and the types that caches and stores share.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_int, c_void};

use memora_core::{Cache, CasOutcome, Entry, Error, ErrorCode, Fabric, Result, Version};

use crate::fabric::memora_fabric_t;
use crate::guard::{Border, call};
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
    /// 0.
    pub reserved: u32,
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

/// The entry for C.
pub(crate) fn entry_of(entry: &Entry) -> memora_entry_t {
    memora_entry_t {
        version: entry.version.0,
        ttl_ms: entry.ttl_ms.unwrap_or(u64::MAX),
        flags: entry.flags,
        reserved: 0,
    }
}

/// Answers a get into a buffer of the caller.
pub(crate) fn put_value(border: &Border, found: Result<Option<usize>>, len: *mut usize) -> Result<()> {
    match found {
        Ok(Some(found)) => {
            border.put(len, found);
            Ok(())
        }
        Ok(None) => Err(ErrorCode::NotFound.into()),
        Err(error) => {
            if error.code() == ErrorCode::BufferTooSmall {
                border.put(len, usize::try_from(error.amount()).unwrap_or(usize::MAX));
            }
            Err(error)
        }
    }
}

/// Answers a get of a value with what is known of it.
pub(crate) fn put_entry(
    border: &Border,
    found: Option<Entry>,
    buffer: &mut [u8],
    len: *mut usize,
    entry: *mut memora_entry_t,
) -> Result<()> {
    let found = found.ok_or(ErrorCode::NotFound)?;
    border.put(len, found.value.len());
    border.put(entry, entry_of(&found));
    match buffer.get_mut(..found.value.len()) {
        Some(place) => {
            place.copy_from_slice(&found.value);
            Ok(())
        }
        None => {
            let text = format!("The value has {} bytes, the buffer {}.", found.value.len(), buffer.len());
            Err(Error::with_amount(ErrorCode::BufferTooSmall, found.value.len() as u64, text))
        }
    }
}

/// Answers a write that may be refused because of what is there, or is not.
pub(crate) fn put_version(
    border: &Border,
    stored: Option<Version>,
    otherwise: ErrorCode,
    version: *mut u64,
) -> Result<()> {
    let stored = stored.ok_or(otherwise)?;
    border.put(version, stored.0);
    Ok(())
}

/// Answers a compare-and-swap.
pub(crate) fn put_outcome(border: &Border, outcome: CasOutcome, version: *mut u64) -> Result<()> {
    match outcome {
        CasOutcome::Stored(stored) => {
            border.put(version, stored.0);
            Ok(())
        }
        CasOutcome::Stale(newer) => {
            border.put(version, newer.0);
            Err(Error::with_amount(ErrorCode::Stale, newer.0, ErrorCode::Stale.text()))
        }
        CasOutcome::NotFound => Err(ErrorCode::NotFound.into()),
    }
}

/// The number that a counter starts with, unless the caller wants a missing one to be refused.
pub(crate) fn initial_of(border: &Border, initial: *const u64) -> Result<Option<u64>> {
    if initial.is_null() {
        return Ok(None);
    }
    Ok(border.elements(initial, 1, "initial")?.first().copied())
}

/// Answers a call on a counter.
pub(crate) fn put_number(border: &Border, number: Option<u64>, answer: *mut u64) -> Result<()> {
    border.put(answer, number.ok_or(ErrorCode::NotFound)?);
    Ok(())
}

/// The keys of a get of many.
pub(crate) fn keys_of(border: &Border, keys: *const memora_bytes_t, count: usize) -> Result<Vec<&[u8]>> {
    border.elements(keys, count, "keys")?.iter().map(|key| border.bytes(key.data, key.len, "key")).collect()
}

/// What hands the answers of a get of many to the caller's function.
pub(crate) fn answer_of(
    border: &Border,
    function: memora_value_fn,
    context: *mut c_void,
) -> Result<impl FnMut(usize, Option<&[u8]>)> {
    let function = border.function(function)?;
    Ok(move |index: usize, value: Option<&[u8]>| {
        let data = value.map_or(std::ptr::null(), |value| value.as_ptr().cast());
        // SAFETY: the caller's function, within the licence of `call`, with pointers to private copies that live during the call.
        unsafe { function(context, index, data, value.map_or(0, <[u8]>::len)) }
    })
}

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
    unsafe {
        call(|border| {
            let key = border.bytes(key, key_len, "key")?;
            let buffer = border.buffer(buffer, capacity, "buffer")?;
            handles::with(handles::number(cache), |cache: &Cache| {
                put_value(border, cache.get_into(key, buffer), len)
            })
        })
    }
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
        call(|border| {
            let key = border.bytes(key, key_len, "key")?;
            let buffer = border.buffer(buffer, capacity, "buffer")?;
            let found = handles::with(handles::number(cache), |cache: &Cache| cache.get_entry(key))?;
            put_entry(border, found, buffer, len, entry)
        })
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
        call(|border| {
            let (keys, mut answer) = (keys_of(border, keys, count)?, answer_of(border, function, context)?);
            handles::with(handles::number(cache), |cache: &Cache| cache.get_many(&keys, &mut answer))
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
        call(|border| {
            let key = border.bytes(key, key_len, "key")?;
            let value = border.bytes(value, value_len, "value")?;
            let options = options::set(border, options)?;
            let stored =
                handles::with(handles::number(cache), |cache: &Cache| cache.set_with(key, value, &options))?;
            border.put(version, stored.0);
            Ok(())
        })
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
        call(|border| {
            let key = border.bytes(key, key_len, "key")?;
            let value = border.bytes(value, value_len, "value")?;
            let options = options::set(border, options)?;
            let stored =
                handles::with(handles::number(cache), |cache: &Cache| cache.add(key, value, &options))?;
            put_version(border, stored, ErrorCode::AlreadyExists, version)
        })
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
        call(|border| {
            let key = border.bytes(key, key_len, "key")?;
            let value = border.bytes(value, value_len, "value")?;
            let options = options::set(border, options)?;
            let stored =
                handles::with(handles::number(cache), |cache: &Cache| cache.replace(key, value, &options))?;
            put_version(border, stored, ErrorCode::NotFound, version)
        })
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
        call(|border| {
            let key = border.bytes(key, key_len, "key")?;
            let value = border.bytes(value, value_len, "value")?;
            let options = options::set(border, options)?;
            let outcome = handles::with(handles::number(cache), |cache: &Cache| {
                cache.compare_and_swap(key, value, Version(expected), &options)
            })?;
            put_outcome(border, outcome, version)
        })
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
    unsafe {
        call(|border| {
            let key = border.bytes(key, key_len, "key")?;
            let was = handles::with(handles::number(cache), |cache: &Cache| cache.delete(key))?;
            if was { Ok(()) } else { Err(ErrorCode::NotFound.into()) }
        })
    }
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
        call(|border| {
            let key = border.bytes(key, key_len, "key")?;
            let initial = initial_of(border, initial)?;
            let counted =
                handles::with(handles::number(cache), |cache: &Cache| cache.increment(key, by, initial))?;
            put_number(border, counted, number)
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
        call(|border| {
            let key = border.bytes(key, key_len, "key")?;
            let initial = initial_of(border, initial)?;
            let counted =
                handles::with(handles::number(cache), |cache: &Cache| cache.decrement(key, by, initial))?;
            put_number(border, counted, number)
        })
    }
}

/// Tells the number of entries; those that have expired but were not met since still count.
///
/// Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_cache_len(cache: *mut memora_cache_t, len: *mut u64) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            border.wanted(len, "len")?;
            border.put(len, handles::with(handles::number(cache), |cache: &Cache| cache.len())?);
            Ok(())
        })
    }
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
        call(|border| {
            let function = border.function(function)?;
            let from = *border.elements(cursor, 1, "cursor")?.first().ok_or(ErrorCode::InvalidArgument)?;
            let next = handles::with(handles::number(cache), |cache: &Cache| {
                cache.scan(from, limit, |key, entry| {
                    let (value, about) = (&entry.value, entry_of(entry));
                    // Within the licence above: the caller's function, with pointers to private copies that live during the call.
                    function(
                        context,
                        key.as_ptr().cast(),
                        key.len(),
                        value.as_ptr().cast(),
                        value.len(),
                        &about,
                    );
                })
            })?;
            border.put(cursor, next);
            Ok(())
        })
    }
}
