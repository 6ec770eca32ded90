//! Entries of change feeds of stores.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};

use memora_core::{Change, Error, ErrorCode, Feed, FeedFrom, FeedPosition, Result, Store};

use crate::channel::in_slices;
use crate::exclusive::Exclusive;
use crate::guard::{Border, call};
use crate::handles;
use crate::log::{MEMORA_FROM_NEWEST, MEMORA_FROM_OLDEST, MEMORA_FROM_POSITION};
use crate::options;
use crate::store::memora_store_t;

/// A reader of the committed changes of a store. Open it with memora_store_feed(), close it with memora_feed_close(). For one thread at
/// a time: another one is answered MEMORA_BUSY.
#[allow(non_camel_case_types)]
pub struct memora_feed_t {
    _opaque: [u8; 0],
}

/// A place in a feed, to be kept by whoever goes on there later. In text, on the command line and in Java it is `store` in 16 hexadecimal
/// digits and both other numbers in decimal, with dots between.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct memora_feed_position_t {
    /// Of the store whose place it is: another one refuses it, also one that was made later under the same name.
    pub store: u64,
    /// Where a flush begins in the journal.
    pub flush: u64,
    /// How many records are behind one, counted from there.
    pub index: u64,
}

/// A committed change of a key.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct memora_change_t {
    /// Bytes of the key.
    pub key_len: usize,
    /// Bytes of the value; 0 if it is deleted.
    pub value_len: usize,
    /// Where one goes on who has handled this change.
    pub position: memora_feed_position_t,
    /// Grows from change to change of this key.
    pub order: u64,
    /// Wall clock in milliseconds from which the entry is gone; 0: never.
    pub expires_ms: u64,
    /// The number kept with the value.
    pub flags: u32,
    /// 1: the key was deleted, or its time was over; else 0.
    pub deleted: u32,
}

/// A feed behind a handle.
pub(crate) struct FeedHandle {
    feed: Exclusive<Following>,
}

struct Following {
    feed: Feed,
    /// A change that did not fit the buffers of its caller, and the position in front of it.
    held: Option<(Change, FeedPosition)>,
}

impl Following {
    fn position(&self) -> FeedPosition {
        self.held.as_ref().map_or_else(|| self.feed.position(), |(_, before)| *before)
    }
}

fn position_of(position: FeedPosition) -> memora_feed_position_t {
    memora_feed_position_t { store: position.store, flush: position.flush, index: position.index }
}

fn change_of(change: &Change) -> memora_change_t {
    memora_change_t {
        key_len: change.key.len(),
        value_len: change.value.as_ref().map_or(0, Vec::len),
        position: position_of(change.position),
        order: change.order,
        expires_ms: change.expires_ms.unwrap_or(0),
        flags: change.flags,
        deleted: u32::from(change.value.is_none()),
    }
}

impl FeedHandle {
    /// Nobody reads any more; who waits is told.
    pub(crate) fn end(&self) -> Result<()> {
        self.feed.close();
        Ok(())
    }

    /// Reads one change into buffers of the caller. `timeout_ms` 0 does not wait, a negative one has no end.
    fn next(
        &self,
        border: &Border,
        [key, value]: [&mut [u8]; 2],
        change: *mut memora_change_t,
        timeout_ms: i64,
    ) -> Result<()> {
        self.feed.with("feed", |following| {
            if following.held.is_none() {
                let before = following.feed.position();
                let mut found = following.feed.try_next()?;
                if found.is_none() && timeout_ms != 0 {
                    let closing = || self.feed.is_closing();
                    found = in_slices(timeout_ms, closing, |wait| following.feed.next(Some(wait)))?;
                }
                following.held = found.map(|found| (found, before));
            }
            let Some((found, _)) = &following.held else {
                let nothing = if timeout_ms == 0 { ErrorCode::NotFound } else { ErrorCode::TimedOut };
                return Err(nothing.into());
            };
            border.put(change, change_of(found));
            let bytes = [&found.key[..], found.value.as_deref().unwrap_or_default()];
            for (name, buffer, bytes) in [("key", &key, bytes[0]), ("value", &value, bytes[1])] {
                if buffer.len() < bytes.len() {
                    let text = format!("The {name} has {} bytes, its buffer {}.", bytes.len(), buffer.len());
                    return Err(Error::with_amount(ErrorCode::BufferTooSmall, bytes.len() as u64, text));
                }
            }
            key[..bytes[0].len()].copy_from_slice(bytes[0]);
            value[..bytes[1].len()].copy_from_slice(bytes[1]);
            following.held = None;
            Ok(())
        })
    }
}

fn feed_from(border: &Border, from: u32, position: *const memora_feed_position_t) -> Result<FeedFrom> {
    match from {
        MEMORA_FROM_OLDEST => Ok(FeedFrom::Oldest),
        MEMORA_FROM_NEWEST => Ok(FeedFrom::Newest),
        MEMORA_FROM_POSITION => {
            let &[memora_feed_position_t { store, flush, index }] =
                border.elements(position, 1, "position")?
            else {
                return Err(ErrorCode::Internal.into());
            };
            Ok(FeedFrom::Position(FeedPosition { store, flush, index }))
        }
        other => Err(options::unknown("place to read from", other)),
    }
}

/// Opens a reader of the committed changes of keys that begin with the `prefix_len` bytes of `prefix` (0: of all), which begins at
/// `from`, one of MEMORA_FROM_*: with the oldest change that the files hold, with what is flushed from now on, or behind a change that
/// was handled; `position` is read with MEMORA_FROM_POSITION only and may be NULL else. The store must keep a feed: `feed_bytes` of
/// memora_store_options_t.
///
/// On success `*feed` is a new handle, to be closed with memora_feed_close(); else it is NULL.
/// Returns MEMORA_OK, MEMORA_POSITION_TRIMMED (the files that come next were removed: read the store as it is, and go on with
/// a feed from MEMORA_FROM_NEWEST that was opened before), MEMORA_POSITION_FOREIGN, MEMORA_POSITION_AHEAD, MEMORA_INVALID_ARGUMENT
/// (also: the store keeps no feed), MEMORA_JOURNAL_CORRUPT, MEMORA_IO, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_store_feed(
    store: *mut memora_store_t,
    from: u32,
    position: *const memora_feed_position_t,
    prefix: *const c_void,
    prefix_len: usize,
    feed: *mut *mut memora_feed_t,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            border.open(feed, || {
                let from = feed_from(border, from, position)?;
                let prefix = border.bytes(prefix, prefix_len, "prefix")?;
                let feed = handles::with(handles::number(store), |store: &Store| store.feed(from, prefix))?;
                Ok(FeedHandle { feed: Exclusive::new(Following { feed, held: None }) })
            })
        })
    }
}

/// Closes the handle. NULL is allowed and does nothing. A thread that is waiting inside memora_feed_next() is answered MEMORA_CLOSED
/// within 50 ms.
///
/// Returns MEMORA_OK, MEMORA_CLOSED, MEMORA_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_feed_close(feed: *mut memora_feed_t) -> c_int {
    // SAFETY: the handle is a number, nothing is read through it.
    unsafe { call(|_| handles::close::<FeedHandle>(handles::number(feed))) }
}

/// Reads the next change: its key into `key`, which has room for `key_capacity` bytes, its value into `value`, which has room for
/// `value_capacity`, waiting for it for `timeout_ms` milliseconds at most; MEMORA_FOREVER: without end; 0: not at all. `*change` (may be
/// NULL) tells their lengths and the rest.
///
/// Returns MEMORA_OK, MEMORA_NOT_FOUND (with `timeout_ms` 0: there is none now), MEMORA_TIMED_OUT, MEMORA_BUFFER_TOO_SMALL (`*change` is
/// filled and tells the bytes needed; the change stays for the next call), MEMORA_POSITION_TRIMMED (it was so far behind that the files
/// that come next were removed; each further call answers the same), MEMORA_BUSY, MEMORA_INVALID_ARGUMENT, MEMORA_JOURNAL_CORRUPT,
/// MEMORA_IO, MEMORA_CLOSED (also: the store was closed), MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_feed_next(
    feed: *mut memora_feed_t,
    key: *mut c_void,
    key_capacity: usize,
    value: *mut c_void,
    value_capacity: usize,
    timeout_ms: i64,
    change: *mut memora_change_t,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            let key = border.buffer(key, key_capacity, "key")?;
            let value = border.buffer(value, value_capacity, "value")?;
            handles::with(handles::number(feed), |feed: &FeedHandle| {
                feed.next(border, [key, value], change, timeout_ms)
            })
        })
    }
}

/// `*position` becomes the place where one goes on who has handled every change that memora_feed_next() gave: MEMORA_FROM_POSITION. With
/// a prefix it may stand behind the last of them.
///
/// Returns MEMORA_OK, MEMORA_BUSY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_feed_position(
    feed: *mut memora_feed_t,
    position: *mut memora_feed_position_t,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            border.wanted(position, "position")?;
            let at = handles::with(handles::number(feed), |feed: &FeedHandle| {
                feed.feed.with("feed", |following| Ok(following.position()))
            })?;
            border.put(position, position_of(at));
            Ok(())
        })
    }
}
