//! Waiting for several subscribers and consumers: by a call, or by a descriptor for event loops.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::os::fd::AsRawFd;

use memora_core::{Error, ErrorCode, Readiness, Result, WaitSet};

use crate::channel::{SubscriberHandle, deadline, memora_subscriber_t, slice};
use crate::exclusive::Exclusive;
use crate::guard::{Border, call};
use crate::handles;
use crate::queue::{ConsumerHandle, memora_consumer_t};

/// A descriptor for event loops. Open it with memora_readiness_open(), close it with memora_readiness_close(). For one thread at a time:
/// another one is answered MEMORA_BUSY.
#[allow(non_camel_case_types)]
pub struct memora_readiness_t {
    _opaque: [u8; 0],
}

/// What is waited for: one of the two, the other NULL.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct memora_source_t {
    pub subscriber: *mut memora_subscriber_t,
    pub consumer: *mut memora_consumer_t,
}

/// A descriptor behind a handle.
pub(crate) struct ReadinessHandle {
    readiness: Exclusive<Readiness>,
}

impl ReadinessHandle {
    /// Nothing is waited for any more; the descriptor is closed.
    pub(crate) fn end(&self) -> Result<()> {
        self.readiness.close();
        Ok(())
    }
}

/// Notes all sources. Some: the place of one that has something already, which only its handle knows.
fn watch(sources: &[memora_source_t], set: &mut WaitSet) -> Result<Option<usize>> {
    let mut ready = None;
    for (place, source) in sources.iter().enumerate() {
        match (source.subscriber.is_null(), source.consumer.is_null()) {
            (false, true) => {
                handles::with(handles::number(source.subscriber), |one: &SubscriberHandle| one.watch(set))?;
            }
            (true, false) => {
                let held =
                    handles::with(handles::number(source.consumer), |one: &ConsumerHandle| one.watch(set))?;
                ready = ready.or(held.then_some(place));
            }
            _ => {
                return Err(Error::new(
                    ErrorCode::InvalidArgument,
                    format!("Source {place} must have a subscriber or a consumer, and not both."),
                ));
            }
        }
    }
    Ok(ready)
}

fn wait_any(sources: &[memora_source_t], timeout_ms: i64) -> Result<usize> {
    let deadline = deadline(timeout_ms);
    loop {
        // Anew for each slice: whoever closes one of them meanwhile is noticed.
        let mut set = WaitSet::new();
        if let Some(place) = watch(sources, &mut set)? {
            return Ok(place);
        }
        let wait = slice(deadline);
        if let Some(place) = set.wait(Some(wait.unwrap_or_default()))? {
            return Ok(place);
        }
        if wait.is_none() {
            return Err(ErrorCode::TimedOut.into());
        }
    }
}

/// Waits until one of `count` sources (1 to 127, of any fabrics) has a message, or an error to tell, `timeout_ms` milliseconds at most;
/// MEMORA_FOREVER: without end; 0: only looks. `*ready` (may be NULL) becomes the place of the first that has. What the sources handed out
/// last counts as handled. A consumer of a queue may find nothing then: others took it, or it was time to look after what others hold.
/// Any thread may close a source meanwhile: the call ends within 50 ms with MEMORA_CLOSED.
///
/// Returns MEMORA_OK, MEMORA_TIMED_OUT, MEMORA_EJECTED, MEMORA_BUSY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED,
/// MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_wait_any(
    sources: *const memora_source_t,
    count: usize,
    timeout_ms: i64,
    ready: *mut usize,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            let place = wait_any(border.elements(sources, count, "sources")?, timeout_ms)?;
            border.put(ready, place);
            Ok(())
        })
    }
}

/// Makes a file descriptor (an eventfd) that becomes readable when one of several sources has something: for poll(), epoll and the event
/// loops above them.
///
/// On success `*readiness` is a new handle, to be closed with memora_readiness_close(); else it is NULL.
/// Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT, MEMORA_IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_readiness_open(readiness: *mut *mut memora_readiness_t) -> c_int {
    let open = || Readiness::new().map(|readiness| ReadinessHandle { readiness: Exclusive::new(readiness) });
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe { call(|border| border.open(readiness, open)) }
}

/// `*fd` becomes the descriptor, which stays that of the handle: do not close it, and do not use it after closing the handle. Reading
/// it is not needed.
///
/// Returns MEMORA_OK, MEMORA_BUSY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_readiness_fd(readiness: *mut memora_readiness_t, fd: *mut c_int) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        on_readiness(readiness, |border, readiness| {
            border.wanted(fd, "fd")?;
            border.put(fd, readiness.as_raw_fd());
            Ok(())
        })
    }
}

/// From now on the descriptor is not readable until one of `count` sources (1 to 127, of any fabrics) has a message, or an error to tell; it
/// is at once if one has already. When it is, take the messages until there are none, and arm it again. What was armed before counts no
/// more; what the sources handed out last counts as handled. It may become readable although a consumer of a queue finds nothing. While
/// it is armed a thread of the library sleeps in place of the loop.
///
/// Returns MEMORA_OK, MEMORA_EJECTED, MEMORA_BUSY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT, MEMORA_IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_readiness_arm(
    readiness: *mut memora_readiness_t,
    sources: *const memora_source_t,
    count: usize,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        on_readiness(readiness, |border, readiness| {
            let mut set = WaitSet::new();
            let ready = watch(border.elements(sources, count, "sources")?, &mut set)?;
            readiness.arm_set(&set)?;
            if ready.is_some() { readiness.ring() } else { Ok(()) }
        })
    }
}

/// Closes the handle and its descriptor. NULL is allowed and does nothing.
///
/// Returns MEMORA_OK, MEMORA_CLOSED, MEMORA_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_readiness_close(readiness: *mut memora_readiness_t) -> c_int {
    // SAFETY: the handle is a number, nothing is read through it.
    unsafe { call(|_| handles::close::<ReadinessHandle>(handles::number(readiness))) }
}

/// Runs a body with the descriptor of a handle.
///
/// # Safety
/// That of [`call`].
unsafe fn on_readiness(
    readiness: *mut memora_readiness_t,
    body: impl FnOnce(&Border, &mut Readiness) -> Result<()>,
) -> c_int {
    // SAFETY: what the caller of this says.
    unsafe {
        call(|border| {
            handles::with(handles::number(readiness), |one: &ReadinessHandle| {
                one.readiness.with("readiness", |readiness| body(border, readiness))
            })
        })
    }
}
