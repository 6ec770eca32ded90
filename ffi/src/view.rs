//! Values that are looked at where they stand.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};

use memora_core::{Cache, Entry, ErrorCode, Result, View};

use crate::cache::{memora_cache_t, memora_entry_t};
use crate::entries::{entry_of, on, span};
use crate::guard::{Border, call};
use crate::handles;

/// A value that can be looked at until the view is released with memora_view_release().
///
/// A view of memora_cache_view() is no copy: it shows the value where it stands in shared memory. The bytes stay as they are,
/// whatever becomes of the entry, and nobody is blocked: others overwrite, delete and evict the entry meanwhile. But the room is
/// not used again before the view is released or its process ends, so keep views for moments. May be used by any number of
/// threads at once.
#[allow(non_camel_case_types)]
pub struct memora_view_t {
    _opaque: [u8; 0],
}

/// What a view looks at.
pub(crate) enum Looked {
    /// A value where it stands, or a copy where the core had to make one.
    Shared(View),
    /// A copy of an entry, with its marks.
    Own(Entry, u32),
}

impl Looked {
    fn bytes(&self) -> (*const u8, usize) {
        match self {
            Looked::Shared(view) => (view.as_ptr(), view.len()),
            Looked::Own(entry, _) => (entry.value.as_ptr(), entry.value.len()),
        }
    }

    fn entry(&self) -> memora_entry_t {
        match self {
            Looked::Shared(view) => memora_entry_t {
                version: view.version().0,
                ttl_ms: view.ttl_ms().unwrap_or(u64::MAX),
                flags: view.flags(),
                marks: 0,
            },
            Looked::Own(entry, marks) => memora_entry_t { marks: *marks, ..entry_of(entry) },
        }
    }
}

/// Makes a view of an entry that was taken out; none of nothing. `place` is looked at before anything is done.
pub(crate) fn open_copy(
    border: &Border,
    place: *mut *mut memora_view_t,
    take: impl FnOnce() -> Result<Option<Entry>>,
) -> Result<()> {
    border.open_some(place, || Ok(take()?.map(|entry| Looked::Own(entry, 0))))
}

/// Looks at the value of `key` where it stands. On success `*view` is a new handle, to be released with memora_view_release();
/// else it is NULL. Lock-free, never waits.
///
/// Views hold at most a quarter of the fabric's chunks. A view that would exceed this, one of an empty value, and one in a fabric
/// that was opened for reading only, holds a copy instead: memora_view_is_copy() tells.
/// Returns MEMORA_OK, MEMORA_NOT_FOUND (also for a key that is too long), MEMORA_FULL (all handles of the process are open),
/// MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_cache_view(
    cache: *mut memora_cache_t,
    key: *const c_void,
    key_len: usize,
    view: *mut *mut memora_view_t,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        on(cache, |border, cache: &Cache| {
            let key = border.key(span(key, key_len))?;
            border.open(view, || Ok(Looked::Shared(cache.view(key)?.ok_or(ErrorCode::NotFound)?)))
        })
    }
}

/// Tells where the bytes of a view are, how many, and what is known of the entry at the time of the view. Each of `data`, `len`,
/// `entry` may be NULL.
///
/// `*data` is never NULL, and may be read, not written, until the view is released or the process forks; closing the cache or the
/// fabric does not end it. In shared memory it is aligned to 8. Trust it as you trust the processes of the fabric: the library
/// never changes these bytes, but a process that writes into shared memory past the library could.
/// Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_view_bytes(
    view: *mut memora_view_t,
    data: *mut *const c_void,
    len: *mut usize,
    entry: *mut memora_entry_t,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        on(view, |border, view: &Looked| {
            let (bytes, count) = view.bytes();
            border.put(data, bytes.cast());
            border.put(len, count);
            border.put(entry, view.entry());
            Ok(())
        })
    }
}

/// Tells whether a view holds a copy (1) or shows the value in shared memory (0).
///
/// Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_view_is_copy(view: *mut memora_view_t, copy: *mut c_int) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        on(view, |border, view: &Looked| {
            border.wanted(copy, "copy")?;
            border.put(
                copy,
                match view {
                    Looked::Shared(view) => view.is_copy().into(),
                    Looked::Own(..) => 1,
                },
            );
            Ok(())
        })
    }
}

/// Ends a view: its bytes must not be looked at any more. NULL is allowed and does nothing.
///
/// Returns MEMORA_OK, MEMORA_CLOSED, MEMORA_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_view_release(view: *mut memora_view_t) -> c_int {
    // SAFETY: the handle is a number, nothing is read through it.
    unsafe { call(|_| handles::close::<Looked>(handles::number(view))) }
}
