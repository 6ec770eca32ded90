//! Entries of snapshots of stores.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::time::Duration;

use memora_core::{Snapshot, SnapshotLimits, Store};

use crate::cache::{memora_entry_fn, memora_entry_t};
use crate::entries;
use crate::guard::call;
use crate::handles;
use crate::store::{self, memora_store_t};

/// A store as it was when the snapshot was taken. Take it with memora_store_snapshot(), end it with memora_snapshot_close(). May be
/// used by any number of threads at once.
#[allow(non_camel_case_types)]
pub struct memora_snapshot_t {
    _opaque: [u8; 0],
}

/// Takes a snapshot of `store`: from now on it shows the same, whatever is done to the store. What it needs stays in memory until it
/// is closed, or cancelled because that is too much or takes too long: then its calls are answered MEMORA_SNAPSHOT_TOO_OLD.
///
/// On success `*snapshot` is a new handle, to be closed with memora_snapshot_close(); else it is NULL. When the store is closed its calls
/// are answered MEMORA_CLOSED, and it is still to be closed.
/// Returns MEMORA_OK, MEMORA_TOO_MANY_SNAPSHOTS (64 of the store are open), MEMORA_READ_ONLY, MEMORA_FULL (all handles of the process
/// are open), MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_store_snapshot(
    store: *mut memora_store_t,
    snapshot: *mut *mut memora_snapshot_t,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe { call(|border| border.open(snapshot, || handles::with(handles::number(store), Store::snapshot))) }
}

/// Sets for all processes after how many milliseconds a snapshot of the store may be cancelled, and how many percent of the fabric's
/// memory may be kept for them. Without it: 60,000 and 25.
///
/// Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT (0, or more than 100 percent), MEMORA_READ_ONLY, MEMORA_CLOSED, MEMORA_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_store_limit_snapshots(
    store: *mut memora_store_t,
    age_ms: u64,
    percent: u32,
) -> c_int {
    // SAFETY: the handle is a number, nothing is read through it.
    unsafe {
        entries::on(store, |_, store: &Store| {
            store.limit_snapshots(&SnapshotLimits { age: Duration::from_millis(age_ms), percent })
        })
    }
}

/// Ends a snapshot and gives back what is kept for it. NULL is allowed and does nothing. Calls of other threads that are under way finish.
///
/// Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_snapshot_close(snapshot: *mut memora_snapshot_t) -> c_int {
    // SAFETY: the handle is a number, nothing is read through it.
    unsafe { call(|_| handles::close::<Snapshot>(handles::number(snapshot))) }
}

/// Copies the value that `key` had into `buffer`, which has room for `capacity` bytes.
///
/// `*len` becomes the length of the value, also when the buffer was too small: call once with capacity 0 to learn it. The second
/// call finds the same value.
/// Returns MEMORA_OK, MEMORA_NOT_FOUND (also for a key that is too long), MEMORA_BUFFER_TOO_SMALL (the buffer's content is then
/// undefined), MEMORA_SNAPSHOT_TOO_OLD, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_snapshot_get(
    snapshot: *mut memora_snapshot_t,
    key: *const c_void,
    key_len: usize,
    buffer: *mut c_void,
    capacity: usize,
    len: *mut usize,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe { entries::get(snapshot, entries::span(key, key_len), buffer, capacity, len, Snapshot::get_into) }
}

/// As memora_snapshot_get(), and tells the version, the flags and the rest of the time to live, as they were, in `*entry`.
///
/// Returns what memora_snapshot_get() does.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_snapshot_get_entry(
    snapshot: *mut memora_snapshot_t,
    key: *const c_void,
    key_len: usize,
    buffer: *mut c_void,
    capacity: usize,
    len: *mut usize,
    entry: *mut memora_entry_t,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        let key = entries::span(key, key_len);
        entries::get_entry(snapshot, key, buffer, capacity, len, entry, Snapshot::get_entry)
    }
}

/// Calls `function` for some entries, about `limit`, and moves `*cursor` on. Begin with a cursor of 0 and go on until it
/// is 0 again. Each entry that was there comes exactly once.
/// The function may call the library, but not throw or jump out.
///
/// Returns MEMORA_OK, MEMORA_SNAPSHOT_TOO_OLD, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_snapshot_scan(
    snapshot: *mut memora_snapshot_t,
    cursor: *mut u64,
    limit: usize,
    function: memora_entry_fn,
    context: *mut c_void,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        entries::scan(
            snapshot,
            cursor,
            limit,
            function,
            context,
            |snapshot: &Snapshot, cursor, limit, found| snapshot.scan(cursor, limit, found),
        )
    }
}

/// As memora_store_range(), of the entries as they were: each comes exactly once.
///
/// Returns MEMORA_OK, MEMORA_NOT_ORDERED, MEMORA_SNAPSHOT_TOO_OLD, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED,
/// MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_snapshot_range(
    snapshot: *mut memora_snapshot_t,
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
        entries::range(snapshot, function, context, more, |border, snapshot: &Snapshot, found| {
            let range = border.range(entries::span(from, from_len), entries::span(to, to_len), flags)?;
            snapshot.range(range.from, range.to, range.direction, limit, found)
        })
    }
}

/// As memora_snapshot_range(), of the keys that begin with `prefix`; of the flags only MEMORA_RANGE_BACKWARD. Where there is more, go
/// on with memora_snapshot_range().
///
/// Returns what memora_snapshot_range() does.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_snapshot_prefix(
    snapshot: *mut memora_snapshot_t,
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
        entries::range(snapshot, function, context, more, |border, snapshot: &Snapshot, found| {
            let direction = store::prefix_direction(flags)?;
            snapshot.prefix(border.bytes(prefix, prefix_len, "prefix")?, direction, limit, found)
        })
    }
}
