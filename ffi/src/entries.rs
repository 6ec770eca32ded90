//! What caches and stores have in common: both hold entries and take the same calls. The functions of C differ by name and by
//! the kind of the handle only: their bodies stand here, once for both, and are told by `how` what to call.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};

use memora_core::{CasOutcome, Entry, Error, ErrorCode, Result, SetOptions, Version};

use crate::cache::{memora_bytes_t, memora_entry_fn, memora_entry_t, memora_value_fn};
use crate::guard::{Border, call};
use crate::handles::{self, Kind};
use crate::options::{self, memora_set_options_t};

/// Bytes that came as two arguments.
pub(crate) fn span(data: *const c_void, len: usize) -> memora_bytes_t {
    memora_bytes_t { data, len }
}

impl Border {
    /// The key of a call.
    #[inline]
    pub(crate) fn key(&self, key: memora_bytes_t) -> Result<&[u8]> {
        self.bytes(key.data, key.len, "key")
    }

    /// The value of a call.
    #[inline]
    pub(crate) fn value(&self, value: memora_bytes_t) -> Result<&[u8]> {
        self.bytes(value.data, value.len, "value")
    }
}

/// Runs a body with what a handle of C names.
///
/// # Safety
/// That of [`call`].
#[inline]
pub(crate) unsafe fn on<T: Kind>(
    handle: *mut T::Opaque,
    body: impl FnOnce(&Border, &T) -> Result<()>,
) -> c_int {
    // SAFETY: what the caller of this says.
    unsafe { call(|border| handles::with(handles::number(handle), |object: &T| body(border, object))) }
}

/// The entry for C.
pub(crate) fn entry_of(entry: &Entry) -> memora_entry_t {
    memora_entry_t {
        version: entry.version.0,
        ttl_ms: entry.ttl_ms.unwrap_or(u64::MAX),
        flags: entry.flags,
        marks: 0,
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

/// Answers that the entry has another version by now, and which.
pub(crate) fn stale(border: &Border, newer: Version, version: *mut u64) -> Error {
    border.put(version, newer.0);
    Error::with_amount(ErrorCode::Stale, newer.0, ErrorCode::Stale.text())
}

/// Answers a compare-and-swap.
pub(crate) fn put_outcome(border: &Border, outcome: CasOutcome, version: *mut u64) -> Result<()> {
    match outcome {
        CasOutcome::Stored(stored) => {
            border.put(version, stored.0);
            Ok(())
        }
        CasOutcome::Stale(newer) => Err(stale(border, newer, version)),
        CasOutcome::NotFound => Err(ErrorCode::NotFound.into()),
    }
}

/// Copies a value out.
pub(crate) unsafe fn get<T: Kind>(
    handle: *mut T::Opaque,
    key: memora_bytes_t,
    buffer: *mut c_void,
    capacity: usize,
    len: *mut usize,
    how: impl FnOnce(&T, &[u8], &mut [u8]) -> Result<Option<usize>>,
) -> c_int {
    // SAFETY: what the caller of this says.
    unsafe {
        on(handle, |border, entries: &T| {
            let (key, buffer) = (border.key(key)?, border.buffer(buffer, capacity, "buffer")?);
            put_value(border, how(entries, key, buffer), len)
        })
    }
}

/// Copies a value out, and tells what is known of it.
pub(crate) unsafe fn get_entry<T: Kind>(
    handle: *mut T::Opaque,
    key: memora_bytes_t,
    buffer: *mut c_void,
    capacity: usize,
    len: *mut usize,
    entry: *mut memora_entry_t,
    how: impl FnOnce(&T, &[u8]) -> Result<Option<Entry>>,
) -> c_int {
    // SAFETY: what the caller of this says.
    unsafe {
        on(handle, |border, entries: &T| {
            let (key, buffer) = (border.key(key)?, border.buffer(buffer, capacity, "buffer")?);
            put_entry(border, how(entries, key)?, buffer, len, entry)
        })
    }
}

/// Hands many values to a function of the caller.
pub(crate) unsafe fn get_many<T: Kind>(
    handle: *mut T::Opaque,
    keys: *const memora_bytes_t,
    count: usize,
    function: memora_value_fn,
    context: *mut c_void,
    how: impl FnOnce(&T, &[&[u8]], &mut dyn FnMut(usize, Option<&[u8]>)) -> Result<()>,
) -> c_int {
    // SAFETY: what the caller of this says.
    unsafe {
        on(handle, |border, entries: &T| {
            let keys: Vec<&[u8]> = border
                .elements(keys, count, "keys")?
                .iter()
                .map(|key| border.key(*key))
                .collect::<Result<_>>()?;
            let function = border.function(function)?;
            how(entries, &keys, &mut |index, value| {
                let data = value.map_or(std::ptr::null(), |value| value.as_ptr().cast());
                // Within the licence above: the caller's function, with pointers to private copies that live during the call.
                function(context, index, data, value.map_or(0, <[u8]>::len));
            })
        })
    }
}

/// Stores a value by one of the ways of [`Entries`] that ask nothing of what is there.
pub(crate) unsafe fn store<T: Kind>(
    handle: *mut T::Opaque,
    key: memora_bytes_t,
    value: memora_bytes_t,
    options: *const memora_set_options_t,
    version: *mut u64,
    how: impl FnOnce(&T, &[u8], &[u8], &SetOptions) -> Result<Version>,
) -> c_int {
    // SAFETY: what the caller of this says.
    unsafe {
        on(handle, |border, entries: &T| {
            let stored =
                how(entries, border.key(key)?, border.value(value)?, &options::set(border, options)?)?;
            border.put(version, stored.0);
            Ok(())
        })
    }
}

/// Stores a value by one of the ways that may refuse it because of what is there, or is not: `otherwise` says so.
pub(crate) unsafe fn store_if<T: Kind>(
    handle: *mut T::Opaque,
    key: memora_bytes_t,
    value: memora_bytes_t,
    options: *const memora_set_options_t,
    version: *mut u64,
    otherwise: ErrorCode,
    how: impl FnOnce(&T, &[u8], &[u8], &SetOptions) -> Result<Option<Version>>,
) -> c_int {
    let how = |entries: &T, key: &[u8], value: &[u8], options: &SetOptions| {
        how(entries, key, value, options)?.ok_or_else(|| otherwise.into())
    };
    // SAFETY: what the caller of this says.
    unsafe { store(handle, key, value, options, version, how) }
}

/// Stores a value if the entry still has a version.
pub(crate) unsafe fn swap<T: Kind>(
    handle: *mut T::Opaque,
    key: memora_bytes_t,
    value: memora_bytes_t,
    expected: u64,
    options: *const memora_set_options_t,
    version: *mut u64,
    how: impl FnOnce(&T, &[u8], &[u8], Version, &SetOptions) -> Result<CasOutcome>,
) -> c_int {
    // SAFETY: what the caller of this says.
    unsafe {
        on(handle, |border, entries: &T| {
            let options = options::set(border, options)?;
            let (key, value) = (border.key(key)?, border.value(value)?);
            let outcome = how(entries, key, value, Version(expected), &options)?;
            put_outcome(border, outcome, version)
        })
    }
}

/// Deletes an entry.
pub(crate) unsafe fn delete<T: Kind>(
    handle: *mut T::Opaque,
    key: memora_bytes_t,
    how: impl FnOnce(&T, &[u8]) -> Result<bool>,
) -> c_int {
    // SAFETY: what the caller of this says.
    unsafe { on(handle, |border, entries: &T| there_was(how(entries, border.key(key)?)?)) }
}

/// Counts up or down.
pub(crate) unsafe fn count<T: Kind>(
    handle: *mut T::Opaque,
    key: memora_bytes_t,
    initial: *const u64,
    number: *mut u64,
    how: impl FnOnce(&T, &[u8], Option<u64>) -> Result<Option<u64>>,
) -> c_int {
    // SAFETY: what the caller of this says.
    unsafe {
        on(handle, |border, entries: &T| {
            let initial = match initial.is_null() {
                true => None,
                false => border.elements(initial, 1, "initial")?.first().copied(),
            };
            let counted = how(entries, border.key(key)?, initial)?;
            border.put(number, counted.ok_or(ErrorCode::NotFound)?);
            Ok(())
        })
    }
}

/// Tells the number of entries.
pub(crate) unsafe fn len<T: Kind>(
    handle: *mut T::Opaque,
    len: *mut u64,
    how: impl FnOnce(&T) -> Result<u64>,
) -> c_int {
    // SAFETY: what the caller of this says.
    unsafe {
        on(handle, |border, entries: &T| {
            border.wanted(len, "len")?;
            border.put(len, how(entries)?);
            Ok(())
        })
    }
}

/// Hands some entries to a function of the caller.
pub(crate) unsafe fn scan<T: Kind>(
    handle: *mut T::Opaque,
    cursor: *mut u64,
    limit: usize,
    function: memora_entry_fn,
    context: *mut c_void,
    how: impl FnOnce(&T, u64, usize, &mut dyn FnMut(&[u8], &Entry)) -> Result<u64>,
) -> c_int {
    // SAFETY: what the caller of this says.
    unsafe {
        on(handle, |border, entries: &T| {
            let function = border.function(function)?;
            let from = *border.elements(cursor, 1, "cursor")?.first().ok_or(ErrorCode::InvalidArgument)?;
            let next = how(entries, from, limit, &mut |key, entry| {
                let (value, about) = (&entry.value, entry_of(entry));
                // Within the licence above: the caller's function, with pointers to private copies that live during the call.
                function(context, key.as_ptr().cast(), key.len(), value.as_ptr().cast(), value.len(), &about);
            })?;
            border.put(cursor, next);
            Ok(())
        })
    }
}

/// Hands entries in order to a function of the caller.
pub(crate) unsafe fn range<T: Kind>(
    handle: *mut T::Opaque,
    function: memora_entry_fn,
    context: *mut c_void,
    more: *mut c_int,
    how: impl FnOnce(&Border, &T, &mut dyn FnMut(&[u8], &Entry)) -> Result<Option<Vec<u8>>>,
) -> c_int {
    // SAFETY: what the caller of this says.
    unsafe {
        on(handle, |border, entries: &T| {
            let function = border.function(function)?;
            let last = how(border, entries, &mut |key, entry| {
                let (value, about) = (&entry.value, entry_of(entry));
                // As in `scan`.
                function(context, key.as_ptr().cast(), key.len(), value.as_ptr().cast(), value.len(), &about);
            })?;
            border.put(more, c_int::from(last.is_some()));
            Ok(())
        })
    }
}

/// "There was one", for calls that say nothing else.
pub(crate) fn there_was(was: bool) -> Result<()> {
    if was { Ok(()) } else { Err(ErrorCode::NotFound.into()) }
}
