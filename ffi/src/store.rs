//! Entries of stores: as caches, and on disk.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_int, c_void};
use std::ops::Bound;

use memora_core::{Direction, Error, ErrorCode, Fabric, Result, Store};

use crate::cache::{memora_bytes_t, memora_entry_fn, memora_entry_t, memora_value_fn};
use crate::entries;
use crate::fabric::memora_fabric_t;
use crate::guard::{Border, call};
use crate::handles;
use crate::options::{self, memora_set_options_t, memora_store_options_t};

/// A store: entries of key and value that also stand in files, and come back after all processes or the host died. Open it
/// with memora_store_open(), close it with memora_store_close(). May be used by any number of threads at once.
#[allow(non_camel_case_types)]
pub struct memora_store_t {
    _opaque: [u8; 0],
}

/// Opens the store `name` of `fabric`, or creates it; if its files have more than the fabric, it is recovered from them.
/// `options` may be NULL for the defaults.
///
/// On success `*store` is a new handle, to be closed with memora_store_close(); else it is NULL.
/// Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT, MEMORA_INVALID_NAME, MEMORA_WRONG_KIND, MEMORA_WRONG_OPTIONS,
/// MEMORA_TOO_MANY_OBJECTS, MEMORA_FULL, MEMORA_NO_SPACE, MEMORA_READ_ONLY, MEMORA_NOT_A_STORE, MEMORA_JOURNAL_CORRUPT,
/// MEMORA_PERMISSION_DENIED, MEMORA_IO, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_store_open(
    fabric: *mut memora_fabric_t,
    name: *const c_char,
    options: *const memora_store_options_t,
    store: *mut *mut memora_store_t,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            border.open(store, || {
                let name = border.text(name, "name")?;
                let options = options::store(border, options)?;
                handles::with(handles::number(fabric), |fabric: &Fabric| fabric.store(name, &options))
            })
        })
    }
}

/// Flushes, unless the durability is process, and closes the handle, also when that failed. NULL is allowed and does nothing.
/// Calls of other threads that are under way finish.
///
/// Returns MEMORA_OK, MEMORA_POISONED, MEMORA_IO, MEMORA_CLOSED, MEMORA_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_store_close(store: *mut memora_store_t) -> c_int {
    // SAFETY: the handle is a number, nothing is read through it.
    unsafe { call(|_| handles::close::<Store>(handles::number(store))) }
}

/// Copies the value of `key` into `buffer`, which has room for `capacity` bytes. Lock-free; never waits for the disk.
///
/// `*len` becomes the length of the value, also when the buffer was too small: call once with capacity 0 to learn it. The
/// value may be another one by the second call; so repeat it while it answers MEMORA_BUFFER_TOO_SMALL.
/// Returns MEMORA_OK, MEMORA_NOT_FOUND (also for a key that is too long), MEMORA_BUFFER_TOO_SMALL (the buffer's content is then
/// undefined), MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_store_get(
    store: *mut memora_store_t,
    key: *const c_void,
    key_len: usize,
    buffer: *mut c_void,
    capacity: usize,
    len: *mut usize,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe { entries::get(store, entries::span(key, key_len), buffer, capacity, len, Store::get_into) }
}

/// As memora_store_get(), and tells the version, the flags and the rest of the time to live in `*entry`.
///
/// Returns what memora_store_get() does.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_store_get_entry(
    store: *mut memora_store_t,
    key: *const c_void,
    key_len: usize,
    buffer: *mut c_void,
    capacity: usize,
    len: *mut usize,
    entry: *mut memora_entry_t,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        entries::get_entry(store, entries::span(key, key_len), buffer, capacity, len, entry, Store::get_entry)
    }
}

/// Looks `count` keys up and calls `function` once for each, as memora_cache_get_many() does.
///
/// Returns what that does.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_store_get_many(
    store: *mut memora_store_t,
    keys: *const memora_bytes_t,
    count: usize,
    function: memora_value_fn,
    context: *mut c_void,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        entries::get_many(store, keys, count, function, context, |store: &Store, keys, answer| {
            store.get_many(keys, answer)
        })
    }
}

/// Stores `value` under `key`, whatever is there; the answer survives what the durability of the store says. `options` (time to live, flags) may be NULL, `version` too.
///
/// The bytes are copied. `*version` becomes the version of the new entry.
/// Returns MEMORA_OK, MEMORA_KEY_TOO_LONG, MEMORA_VALUE_TOO_LONG, MEMORA_FULL, MEMORA_NO_SPACE, MEMORA_READ_ONLY,
/// MEMORA_POISONED, MEMORA_IO, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_store_set(
    store: *mut memora_store_t,
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
            store,
            entries::span(key, key_len),
            entries::span(value, value_len),
            options,
            version,
            Store::set_with,
        )
    }
}

/// As memora_store_set(), but only if there is no entry under `key`.
///
/// Returns what memora_store_set() does, or MEMORA_ALREADY_EXISTS.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_store_add(
    store: *mut memora_store_t,
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
            store,
            entries::span(key, key_len),
            entries::span(value, value_len),
            options,
            version,
            ErrorCode::AlreadyExists,
            Store::add,
        )
    }
}

/// As memora_store_set(), but only if there is an entry under `key`.
///
/// Returns what memora_store_set() does, or MEMORA_NOT_FOUND.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_store_replace(
    store: *mut memora_store_t,
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
            store,
            entries::span(key, key_len),
            entries::span(value, value_len),
            options,
            version,
            ErrorCode::NotFound,
            Store::replace,
        )
    }
}

/// Stores `value` under `key` only if the entry there still has version `expected`.
///
/// `*version` (may be NULL) becomes the version of the new entry, or with MEMORA_STALE that of the one found.
/// Returns what memora_store_set() does, or MEMORA_STALE, MEMORA_NOT_FOUND.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_store_compare_and_swap(
    store: *mut memora_store_t,
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
            store,
            entries::span(key, key_len),
            entries::span(value, value_len),
            expected,
            options,
            version,
            Store::compare_and_swap,
        )
    }
}

/// Deletes the entry under `key`.
///
/// Returns MEMORA_OK, MEMORA_NOT_FOUND, MEMORA_KEY_TOO_LONG, MEMORA_READ_ONLY, MEMORA_POISONED, MEMORA_IO,
/// MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_store_delete(
    store: *mut memora_store_t,
    key: *const c_void,
    key_len: usize,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe { entries::delete(store, entries::span(key, key_len), Store::delete) }
}

/// Adds `by` to the number under `key`, which is kept as decimal text. If there is none: with `initial` it is created with
/// `*initial`, with NULL the answer is MEMORA_NOT_FOUND. `*number` (may be NULL) becomes the new number.
///
/// Returns what memora_store_set() does, or MEMORA_NOT_FOUND, MEMORA_NOT_A_NUMBER, MEMORA_COUNTER_OVERFLOW.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_store_increment(
    store: *mut memora_store_t,
    key: *const c_void,
    key_len: usize,
    by: u64,
    initial: *const u64,
    number: *mut u64,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        entries::count(store, entries::span(key, key_len), initial, number, |store: &Store, key, initial| {
            store.increment(key, by, initial)
        })
    }
}

/// Takes `by` from the number under `key`; it stops at 0. Otherwise as memora_store_increment().
///
/// Returns what memora_store_increment() does, but never MEMORA_COUNTER_OVERFLOW.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_store_decrement(
    store: *mut memora_store_t,
    key: *const c_void,
    key_len: usize,
    by: u64,
    initial: *const u64,
    number: *mut u64,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        entries::count(store, entries::span(key, key_len), initial, number, |store: &Store, key, initial| {
            store.decrement(key, by, initial)
        })
    }
}

/// Tells the number of entries; those that have expired but were not met since still count.
///
/// Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_store_len(store: *mut memora_store_t, len: *mut u64) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe { entries::len(store, len, Store::len) }
}

/// Calls `function` for some entries, about `limit`, and moves `*cursor` on. Begin with a cursor of 0 and go on until it
/// is 0 again. An entry that is there during the whole scan comes at least once; one that comes or goes meanwhile may.
/// The function may call the library, but not throw or jump out.
///
/// Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_store_scan(
    store: *mut memora_store_t,
    cursor: *mut u64,
    limit: usize,
    function: memora_entry_fn,
    context: *mut c_void,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        entries::scan(store, cursor, limit, function, context, |store: &Store, cursor, limit, found| {
            store.scan(cursor, limit, found)
        })
    }
}

/// From the greatest key to the least.
pub const MEMORA_RANGE_BACKWARD: u32 = 1;
/// Without the key `from` itself.
pub const MEMORA_RANGE_FROM_EXCLUDED: u32 = 2;
/// With the key `to` itself.
pub const MEMORA_RANGE_TO_INCLUDED: u32 = 4;

/// The flags of a range, without any that are none.
fn range_flags(flags: u32, known: u32) -> Result<u32> {
    if flags & !known == 0 {
        return Ok(flags);
    }
    Err(Error::new(ErrorCode::InvalidArgument, format!("`flags` is {flags:#x}; {known:#x} are known.")))
}

fn direction(flags: u32) -> Direction {
    if flags & MEMORA_RANGE_BACKWARD == 0 { Direction::Forward } else { Direction::Backward }
}

/// A range as a caller gave it.
pub(crate) struct Range<'a> {
    pub from: Bound<&'a [u8]>,
    pub to: Bound<&'a [u8]>,
    pub direction: Direction,
}

impl Border {
    /// The range between two keys, either of which may be NULL for none.
    pub(crate) fn range(&self, from: memora_bytes_t, to: memora_bytes_t, flags: u32) -> Result<Range<'_>> {
        let known = MEMORA_RANGE_BACKWARD | MEMORA_RANGE_FROM_EXCLUDED | MEMORA_RANGE_TO_INCLUDED;
        let flags = range_flags(flags, known)?;
        let bound = |key: memora_bytes_t, name, included| -> Result<Bound<&[u8]>> {
            Ok(match (key.data.is_null(), included) {
                (true, _) => Bound::Unbounded,
                (false, true) => Bound::Included(self.bytes(key.data, key.len, name)?),
                (false, false) => Bound::Excluded(self.bytes(key.data, key.len, name)?),
            })
        };
        Ok(Range {
            from: bound(from, "from", flags & MEMORA_RANGE_FROM_EXCLUDED == 0)?,
            to: bound(to, "to", flags & MEMORA_RANGE_TO_INCLUDED != 0)?,
            direction: direction(flags),
        })
    }
}

/// Which way a scan of a prefix goes.
pub(crate) fn prefix_direction(flags: u32) -> Result<Direction> {
    Ok(direction(range_flags(flags, MEMORA_RANGE_BACKWARD)?))
}

/// Calls `function` for the entries whose keys lie between `from` and `to`, in the order of their bytes, at most `limit` of
/// them. NULL: no bound. `flags` are those of MEMORA_RANGE_*; without any the scan goes forwards, with `from`, without `to`.
/// An entry that is there during the whole scan comes once; one that comes or goes meanwhile may. `more`, which may be NULL,
/// tells whether there may be more: then go on behind the last key that came, with MEMORA_RANGE_FROM_EXCLUDED, or
/// backwards before it, without MEMORA_RANGE_TO_INCLUDED.
/// The function may call the library, but not throw or jump out.
///
/// Returns MEMORA_OK, MEMORA_NOT_ORDERED, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_store_range(
    store: *mut memora_store_t,
    from: *const c_void,
    from_len: usize,
    to: *const c_void,
    to_len: usize,
    flags: u32,
    limit: usize,
    function: memora_entry_fn,
    context: *mut c_void,
    more: *mut c_int,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        entries::range(store, function, context, more, |border, store: &Store, found| {
            let range = border.range(entries::span(from, from_len), entries::span(to, to_len), flags)?;
            store.range(range.from, range.to, range.direction, limit, found)
        })
    }
}

/// As memora_store_range(), of the keys that begin with `prefix`; of the flags only MEMORA_RANGE_BACKWARD. Where there is more, go
/// on with memora_store_range().
///
/// Returns what memora_store_range() does.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_store_prefix(
    store: *mut memora_store_t,
    prefix: *const c_void,
    prefix_len: usize,
    flags: u32,
    limit: usize,
    function: memora_entry_fn,
    context: *mut c_void,
    more: *mut c_int,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        entries::range(store, function, context, more, |border, store: &Store, found| {
            let direction = prefix_direction(flags)?;
            store.prefix(border.bytes(prefix, prefix_len, "prefix")?, direction, limit, found)
        })
    }
}

/// As memora_store_set() without options, with another durability for this one write: one of MEMORA_DURABILITY_*.
///
/// Returns what memora_store_set() does.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_store_set_durable(
    store: *mut memora_store_t,
    key: *const c_void,
    key_len: usize,
    value: *const c_void,
    value_len: usize,
    durability: u32,
    version: *mut u64,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        entries::on(store, |border, store: &Store| {
            let (key, value) = (border.bytes(key, key_len, "key")?, border.bytes(value, value_len, "value")?);
            let stored = store.set_durable(key, value, options::durability(durability, 0)?)?;
            border.put(version, stored.0);
            Ok(())
        })
    }
}

/// Waits until everything that was answered so far, to any process, stands on the disk.
///
/// Returns MEMORA_OK, MEMORA_POISONED, MEMORA_IO, MEMORA_READ_ONLY, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_store_flush(store: *mut memora_store_t) -> c_int {
    // SAFETY: the handle is a number, nothing is read through it.
    unsafe { call(|_| handles::with(handles::number(store), |store: &Store| store.flush())) }
}

/// Writes all entries to a checkpoint and lets the journal before it go.
///
/// Returns MEMORA_OK, MEMORA_BUSY (another process is doing it), MEMORA_POISONED, MEMORA_IO, MEMORA_NO_SPACE,
/// MEMORA_READ_ONLY, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_store_checkpoint(store: *mut memora_store_t) -> c_int {
    // SAFETY: the handle is a number, nothing is read through it.
    unsafe { call(|_| handles::with(handles::number(store), |store: &Store| store.checkpoint().map(|_| ()))) }
}

/// Changes how many shards the files of the store are divided into, 1 to 64, while everybody goes on reading and writing. Returns when they are
/// divided so: a checkpoint of each new shard is written. memora_store_stats() says how many there are.
///
/// Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT (no such number, or a store without files), MEMORA_BUSY (others change it all the time),
/// MEMORA_TIMED_OUT, MEMORA_POISONED, MEMORA_IO, MEMORA_NO_SPACE, MEMORA_READ_ONLY, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_store_set_shards(store: *mut memora_store_t, shards: u32) -> c_int {
    // SAFETY: the handle is a number, nothing is read through it.
    unsafe { call(|_| handles::with(handles::number(store), |store: &Store| store.set_shards(shards))) }
}
