//! Hearing of what changes in a cache.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};

use memora_core::{Cache, Error, ErrorCode, Event, EventSubscriber, Result};

use crate::cache::memora_cache_t;
use crate::channel::{in_slices, timed_out};
use crate::entries::on;
use crate::exclusive::Exclusive;
use crate::guard::{Border, call};
use crate::handles;

/// An entry was stored, or got another time to live; `version` is that of the entry from then on.
pub const MEMORA_EVENT_SET: u32 = 1;
/// An entry was deleted.
pub const MEMORA_EVENT_DELETE: u32 = 2;
/// An entry had expired and was removed; `version` is that of the entry.
pub const MEMORA_EVENT_EXPIRE: u32 = 3;
/// An entry was evicted for want of room; `version` is that of the entry.
pub const MEMORA_EVENT_EVICT: u32 = 4;
/// All entries were flushed: no key.
pub const MEMORA_EVENT_FLUSH: u32 = 5;

/// Hears what happens to the entries of a cache. Open it with memora_events_open(), close it with memora_events_close(). For one
/// thread at a time.
#[allow(non_camel_case_types)]
pub struct memora_events_t {
    _opaque: [u8; 0],
}

/// One change of an entry.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct memora_event_t {
    /// A version, as the kind says; otherwise 0.
    pub version: u64,
    /// Bytes of the key. More than the event brought for a key that is longer than an eighth of a ring.
    pub whole_key_len: usize,
    /// One of MEMORA_EVENT_*.
    pub kind: u32,
    /// 0.
    pub reserved: u32,
}

/// A subscriber of events behind a handle.
pub(crate) struct EventsHandle {
    listening: Exclusive<Listening>,
}

struct Listening {
    subscriber: EventSubscriber,
    /// An event that did not fit the caller's buffer.
    held: Option<Event>,
}

impl EventsHandle {
    /// Nobody listens any more; who waits is told.
    pub(crate) fn end(&self) -> Result<()> {
        self.listening.close();
        Ok(())
    }

    /// The next event. `timeout_ms` 0 does not wait, a negative one has no end.
    fn next(
        &self,
        border: &Border,
        key: &mut [u8],
        key_len: *mut usize,
        event: *mut memora_event_t,
        timeout_ms: i64,
    ) -> Result<()> {
        self.listening.with("subscriber of events", |listening| {
            let found = match listening.held.take() {
                Some(held) => held,
                None => self.wait(&mut listening.subscriber, timeout_ms)?,
            };
            border.put(
                event,
                memora_event_t {
                    version: found.version.0,
                    whole_key_len: found.key_len,
                    kind: found.kind as u32,
                    reserved: 0,
                },
            );
            let len = found.key.len();
            border.put(key_len, len);
            match key.get_mut(..len) {
                Some(place) => place.copy_from_slice(&found.key),
                None => {
                    listening.held = Some(found);
                    let text = format!("The key has {len} bytes, the buffer {}.", key.len());
                    return Err(Error::with_amount(ErrorCode::BufferTooSmall, len as u64, text));
                }
            }
            Ok(())
        })
    }

    fn wait(&self, subscriber: &mut EventSubscriber, timeout_ms: i64) -> Result<Event> {
        if timeout_ms == 0 {
            return subscriber.try_next()?.ok_or_else(|| ErrorCode::NotFound.into());
        }
        in_slices(timeout_ms, || self.listening.is_closing(), |wait| subscriber.next(Some(wait)))?
            .ok_or_else(timed_out)
    }
}

/// Listens to the events of a cache from now on. The cache must have been made with the option `events`.
///
/// Nobody waits for one who listens: if it is too slow, events are lost, and it is told how many. Two things are not events: what a
/// process that was killed between a change and its event did last, and an expired entry that nobody has removed yet.
/// On success `*events` is a new handle, to be closed with memora_events_close(); else it is NULL.
/// Returns MEMORA_OK, MEMORA_UNSUPPORTED (the cache has no events), MEMORA_TOO_MANY_SUBSCRIBERS, MEMORA_READ_ONLY, MEMORA_FULL,
/// MEMORA_NO_SPACE, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_events_open(
    cache: *mut memora_cache_t,
    events: *mut *mut memora_events_t,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        on(cache, |border, cache: &Cache| {
            border.open(events, || {
                let listening = Listening { subscriber: cache.events()?, held: None };
                Ok(EventsHandle { listening: Exclusive::new(listening) })
            })
        })
    }
}

/// Takes the next event: `*event`, and its key in `key`, which has room for `capacity` bytes; `*key_len` (may be NULL, as `event`)
/// becomes the length of the key. Waits for `timeout_ms` milliseconds at most; MEMORA_FOREVER: without end; 0: not at all.
///
/// MEMORA_OVERRUN comes once for each loss: memora_last_error_amount() events were lost, and the next call goes on behind them.
/// With MEMORA_BUFFER_TOO_SMALL the event stays for the next call.
/// Returns MEMORA_OK, MEMORA_NOT_FOUND (with `timeout_ms` 0), MEMORA_TIMED_OUT, MEMORA_OVERRUN, MEMORA_BUFFER_TOO_SMALL, MEMORA_BUSY,
/// MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_events_next(
    events: *mut memora_events_t,
    timeout_ms: i64,
    key: *mut c_void,
    capacity: usize,
    key_len: *mut usize,
    event: *mut memora_event_t,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        on(events, |border, events: &EventsHandle| {
            events.next(border, border.buffer(key, capacity, "key")?, key_len, event, timeout_ms)
        })
    }
}

/// Closes the handle. NULL is allowed and does nothing. A call of another thread that waits ends with MEMORA_CLOSED.
///
/// Returns MEMORA_OK, MEMORA_CLOSED, MEMORA_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_events_close(events: *mut memora_events_t) -> c_int {
    // SAFETY: the handle is a number, nothing is read through it.
    unsafe { call(|_| handles::close::<EventsHandle>(handles::number(events))) }
}
