//! Entries of events, counters, locks and semaphores.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_int};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use memora_core::{ErrorCode, Fabric, NamedCounter, NamedEvent, NamedLock, NamedSemaphore, Notified, Result};

use crate::channel::{deadline, slice};
use crate::fabric::memora_fabric_t;
use crate::guard::call;
use crate::handles::{self, Kind};

/// A named event: notifications for all who wait, or for one. Open it with memora_named_event_open(), close it with
/// memora_named_event_close(). May be used by any number of threads at once.
#[allow(non_camel_case_types)]
pub struct memora_named_event_t {
    _opaque: [u8; 0],
}

/// A named 64-bit number. Open it with memora_named_counter_open(), close it with memora_named_counter_close(). May be used by
/// any number of threads at once.
#[allow(non_camel_case_types)]
pub struct memora_named_counter_t {
    _opaque: [u8; 0],
}

/// A named lock: one thread owns it; when that dies, the next owner is told. Open it with memora_named_lock_open(), close it with
/// memora_named_lock_close(). May be used by any number of threads at once.
#[allow(non_camel_case_types)]
pub struct memora_named_lock_t {
    _opaque: [u8; 0],
}

/// A named semaphore: permits that threads hold; those of a thread that dies come back. Open it with
/// memora_named_semaphore_open(), close it with memora_named_semaphore_close(). May be used by any number of threads at once.
#[allow(non_camel_case_types)]
pub struct memora_named_semaphore_t {
    _opaque: [u8; 0],
}

/// A signal behind a handle.
pub(crate) struct Signal<T> {
    signal: T,
    closing: AtomicBool,
}

impl<T> Signal<T> {
    fn new(signal: T) -> Signal<T> {
        Signal { signal, closing: AtomicBool::new(false) }
    }

    /// Who waits is told.
    pub(crate) fn end(&self) -> Result<()> {
        // Relaxed: a flag that stands for itself.
        self.closing.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Waits in slices, so that a close by another thread is noticed. `timeout_ms` 0 only looks, a negative one has no end.
    fn wait<R>(&self, timeout_ms: i64, mut wait: impl FnMut(&T, Duration) -> Result<R>) -> Result<R> {
        let deadline = deadline(timeout_ms);
        loop {
            let left = slice(deadline);
            match wait(&self.signal, left.unwrap_or_default()) {
                Err(error) if error.code() == ErrorCode::TimedOut && left.is_some() => {}
                result => return result,
            }
            // Relaxed: as in `end`.
            if self.closing.load(Ordering::Relaxed) {
                return Err(ErrorCode::Closed.into());
            }
        }
    }
}

/// Calls `f` with the signal behind the handle.
fn with<T, R>(handle: *mut <Signal<T> as Kind>::Opaque, f: impl FnOnce(&Signal<T>) -> Result<R>) -> Result<R>
where
    Signal<T>: Kind,
{
    handles::with(handles::number(handle), f)
}

/// Opens the event `name` of `fabric`, or makes it.
///
/// On success `*event` is a new handle, to be closed with memora_named_event_close(); else it is NULL.
/// Returns MEMORA_OK, MEMORA_INVALID_NAME, MEMORA_WRONG_KIND, MEMORA_TOO_MANY_OBJECTS, MEMORA_FULL, MEMORA_NO_SPACE,
/// MEMORA_READ_ONLY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_named_event_open(
    fabric: *mut memora_fabric_t,
    name: *const c_char,
    event: *mut *mut memora_named_event_t,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            border.open(event, || {
                let name = border.text(name, "name")?;
                handles::with(handles::number(fabric), |fabric: &Fabric| fabric.event(name)).map(Signal::new)
            })
        })
    }
}

/// Closes the handle. NULL is allowed and does nothing. A thread that is waiting inside is answered MEMORA_CLOSED within 50 ms.
///
/// Returns MEMORA_OK, MEMORA_CLOSED, MEMORA_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_named_event_close(event: *mut memora_named_event_t) -> c_int {
    // SAFETY: the handle is a number, nothing is read through it.
    unsafe { call(|_| handles::close::<Signal<NamedEvent>>(handles::number(event))) }
}

/// How often all were notified: what to give to the next memora_named_event_wait().
///
/// Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_named_event_sequence(
    event: *mut memora_named_event_t,
    sequence: *mut u64,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            let found = with(event, |event: &Signal<NamedEvent>| event.signal.sequence())?;
            border.put(sequence, found);
            Ok(())
        })
    }
}

/// Notifies all: every wait that knows an older sequence ends, those that begin later included. `*sequence` (may be NULL) becomes
/// the new sequence. No system call if nobody sleeps.
///
/// Returns MEMORA_OK, MEMORA_READ_ONLY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_named_event_notify_all(
    event: *mut memora_named_event_t,
    sequence: *mut u64,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            let new = with(event, |event: &Signal<NamedEvent>| event.signal.notify_all())?;
            border.put(sequence, new);
            Ok(())
        })
    }
}

/// Notifies one: exactly one wait ends by this, one that lasts or else the next that begins. No system call if nobody sleeps.
///
/// Returns MEMORA_OK, MEMORA_READ_ONLY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_named_event_notify_one(event: *mut memora_named_event_t) -> c_int {
    // SAFETY: the handle is a number, nothing is read through it.
    unsafe { call(|_| with(event, |event: &Signal<NamedEvent>| event.signal.notify_one())) }
}

/// Waits until the sequence is greater than `seen`, or there is a notification for one, which this wait then has taken.
/// `timeout_ms` milliseconds at most; MEMORA_FOREVER: without end; 0: only looks. `*sequence` (may be NULL) becomes the sequence to wait with
/// next, `*one` (may be NULL) 1 if the notification was for one, else 0.
///
/// Returns MEMORA_OK, MEMORA_TIMED_OUT, MEMORA_READ_ONLY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_named_event_wait(
    event: *mut memora_named_event_t,
    seen: u64,
    timeout_ms: i64,
    sequence: *mut u64,
    one: *mut c_int,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            let notified = with(event, |event: &Signal<NamedEvent>| {
                event.wait(timeout_ms, |event, slice| event.wait(seen, Some(slice)))
            })?;
            let (now, for_one) = match notified {
                Notified::All(now) => (now, 0),
                Notified::One => (seen, 1),
            };
            border.put(sequence, now);
            border.put(one, for_one);
            Ok(())
        })
    }
}

/// Opens the counter `name` of `fabric`, or makes it with the value 0.
///
/// On success `*counter` is a new handle, to be closed with memora_named_counter_close(); else it is NULL.
/// Returns what memora_named_event_open() does.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_named_counter_open(
    fabric: *mut memora_fabric_t,
    name: *const c_char,
    counter: *mut *mut memora_named_counter_t,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            border.open(counter, || {
                let name = border.text(name, "name")?;
                handles::with(handles::number(fabric), |fabric: &Fabric| fabric.counter(name))
                    .map(Signal::new)
            })
        })
    }
}

/// Closes the handle. NULL is allowed and does nothing. A thread that is waiting inside is answered MEMORA_CLOSED within 50 ms.
///
/// Returns MEMORA_OK, MEMORA_CLOSED, MEMORA_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_named_counter_close(counter: *mut memora_named_counter_t) -> c_int {
    // SAFETY: the handle is a number, nothing is read through it.
    unsafe { call(|_| handles::close::<Signal<NamedCounter>>(handles::number(counter))) }
}

/// Asks or changes a counter and writes what it answers.
///
/// # Safety
/// As for [`call`].
unsafe fn counted(
    counter: *mut memora_named_counter_t,
    answer: *mut i64,
    act: impl FnOnce(&Signal<NamedCounter>) -> Result<i64>,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        call(|border| {
            let value = with(counter, act)?;
            border.put(answer, value);
            Ok(())
        })
    }
}

/// `*value` becomes the counter's value.
///
/// Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_named_counter_get(
    counter: *mut memora_named_counter_t,
    value: *mut i64,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe { counted(counter, value, |counter| counter.signal.get()) }
}

/// Adds `delta`, which may be negative; it wraps at 64 bits. `*value` (may be NULL) becomes the new value.
///
/// Returns MEMORA_OK, MEMORA_READ_ONLY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_named_counter_add(
    counter: *mut memora_named_counter_t,
    delta: i64,
    value: *mut i64,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe { counted(counter, value, |counter| counter.signal.add(delta)) }
}

/// Sets the value. `*before` (may be NULL) becomes the one before.
///
/// Returns what memora_named_counter_add() does.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_named_counter_set(
    counter: *mut memora_named_counter_t,
    value: i64,
    before: *mut i64,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe { counted(counter, before, |counter| counter.signal.set(value)) }
}

/// Sets the value to `value` if it is `expected`. `*before` (may be NULL) becomes what it was: it was set if and only if that is
/// `expected`.
///
/// Returns what memora_named_counter_add() does.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_named_counter_compare_and_swap(
    counter: *mut memora_named_counter_t,
    expected: i64,
    value: i64,
    before: *mut i64,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe { counted(counter, before, |counter| counter.signal.compare_and_swap(expected, value)) }
}

/// Waits until the value is `least` or more, for `timeout_ms` milliseconds at most; MEMORA_FOREVER: without end; 0: only looks.
/// `*value` (may be NULL) becomes the value.
///
/// Returns MEMORA_OK, MEMORA_TIMED_OUT, MEMORA_READ_ONLY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_named_counter_wait_at_least(
    counter: *mut memora_named_counter_t,
    least: i64,
    timeout_ms: i64,
    value: *mut i64,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        counted(counter, value, |counter| {
            counter.wait(timeout_ms, |counter, slice| counter.wait_at_least(least, Some(slice)))
        })
    }
}

/// Waits until the value is another than `seen`, for `timeout_ms` milliseconds at most; MEMORA_FOREVER: without end; 0: only
/// looks. `*value` (may be NULL) becomes the value.
///
/// Returns what memora_named_counter_wait_at_least() does.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_named_counter_wait_changed(
    counter: *mut memora_named_counter_t,
    seen: i64,
    timeout_ms: i64,
    value: *mut i64,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        counted(counter, value, |counter| {
            counter.wait(timeout_ms, |counter, slice| counter.wait_changed(seen, Some(slice)))
        })
    }
}

/// Opens the lock `name` of `fabric`, or makes it.
///
/// On success `*lock` is a new handle, to be closed with memora_named_lock_close(); else it is NULL.
/// Returns what memora_named_event_open() does.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_named_lock_open(
    fabric: *mut memora_fabric_t,
    name: *const c_char,
    lock: *mut *mut memora_named_lock_t,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            border.open(lock, || {
                let name = border.text(name, "name")?;
                handles::with(handles::number(fabric), |fabric: &Fabric| fabric.lock(name)).map(Signal::new)
            })
        })
    }
}

/// Closes the handle. NULL is allowed and does nothing. The lock stays as it is: a thread that owns it lets go through another
/// handle, or by ending, which is a death. A thread that is waiting inside is answered MEMORA_CLOSED within 50 ms.
///
/// Returns MEMORA_OK, MEMORA_CLOSED, MEMORA_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_named_lock_close(lock: *mut memora_named_lock_t) -> c_int {
    // SAFETY: the handle is a number, nothing is read through it.
    unsafe { call(|_| handles::close::<Signal<NamedLock>>(handles::number(lock))) }
}

/// Locks it for the calling thread, waiting `timeout_ms` milliseconds at most; MEMORA_FOREVER: without end; 0: only looks.
/// `*owner_died` (may be NULL) becomes 1 if an owner died while it held the lock and nobody called
/// memora_named_lock_mark_consistent() since: what the lock guards may be half done; else 0. A stopped owner keeps the lock.
///
/// Returns MEMORA_OK, MEMORA_TIMED_OUT, MEMORA_WOULD_DEADLOCK (the calling thread owns it already), MEMORA_TOO_MANY_THREADS,
/// MEMORA_READ_ONLY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_named_lock_lock(
    lock: *mut memora_named_lock_t,
    timeout_ms: i64,
    owner_died: *mut c_int,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            let died = with(lock, |lock: &Signal<NamedLock>| {
                let guard = lock.wait(timeout_ms, |lock, slice| lock.lock_timeout(slice))?;
                let died = guard.owner_died()?;
                guard.keep();
                Ok(died)
            })?;
            border.put(owner_died, c_int::from(died));
            Ok(())
        })
    }
}

/// Lets go of the lock, which the calling thread owns.
///
/// Returns MEMORA_OK, MEMORA_NOT_OWNER, MEMORA_READ_ONLY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_named_lock_unlock(lock: *mut memora_named_lock_t) -> c_int {
    // SAFETY: the handle is a number, nothing is read through it.
    unsafe { call(|_| with(lock, |lock: &Signal<NamedLock>| lock.signal.held()?.unlock())) }
}

/// Says that what the lock guards, which the calling thread owns, is whole again after the death of an owner: the next owners are
/// not told any more.
///
/// Returns what memora_named_lock_unlock() does.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_named_lock_mark_consistent(lock: *mut memora_named_lock_t) -> c_int {
    // SAFETY: the handle is a number, nothing is read through it.
    unsafe {
        call(|_| {
            with(lock, |lock: &Signal<NamedLock>| {
                let mut guard = lock.signal.held()?;
                let marked = guard.mark_consistent();
                guard.keep();
                marked
            })
        })
    }
}

/// Opens the semaphore `name` of `fabric`, or makes it with so many permits, 1 to 32767. With 0 it must be there, with any number.
///
/// On success `*semaphore` is a new handle, to be closed with memora_named_semaphore_close(); else it is NULL.
/// Returns what memora_named_event_open() does, or MEMORA_NOT_FOUND, MEMORA_WRONG_OPTIONS.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_named_semaphore_open(
    fabric: *mut memora_fabric_t,
    name: *const c_char,
    permits: u32,
    semaphore: *mut *mut memora_named_semaphore_t,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            border.open(semaphore, || {
                let name = border.text(name, "name")?;
                handles::with(handles::number(fabric), |fabric: &Fabric| match permits {
                    0 => fabric.open_semaphore(name),
                    permits => fabric.semaphore(name, permits),
                })
                .map(Signal::new)
            })
        })
    }
}

/// Closes the handle. NULL is allowed and does nothing. Permits stay where they are: a thread that holds some gives them back
/// through another handle, or by ending, which is a death. A thread that is waiting inside is answered MEMORA_CLOSED within 50 ms.
///
/// Returns MEMORA_OK, MEMORA_CLOSED, MEMORA_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_named_semaphore_close(semaphore: *mut memora_named_semaphore_t) -> c_int {
    // SAFETY: the handle is a number, nothing is read through it.
    unsafe { call(|_| handles::close::<Signal<NamedSemaphore>>(handles::number(semaphore))) }
}

/// Takes `count` permits at once for the calling thread, waiting `timeout_ms` milliseconds at most; MEMORA_FOREVER: without end;
/// 0: only looks. `*owner_died` (may be NULL) becomes 1 if permits of a thread that died came back and this is the first to take
/// permits since; else 0. Permits of a stopped thread stay its own.
///
/// Returns MEMORA_OK, MEMORA_TIMED_OUT, MEMORA_WOULD_DEADLOCK (the calling thread holds too many itself),
/// MEMORA_TOO_MANY_THREADS, MEMORA_BUSY, MEMORA_READ_ONLY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED,
/// MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_named_semaphore_acquire(
    semaphore: *mut memora_named_semaphore_t,
    count: u32,
    timeout_ms: i64,
    owner_died: *mut c_int,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            let died = with(semaphore, |semaphore: &Signal<NamedSemaphore>| {
                let permits =
                    semaphore.wait(timeout_ms, |semaphore, slice| semaphore.acquire_timeout(count, slice))?;
                let died = permits.owner_died();
                permits.keep();
                Ok(died)
            })?;
            border.put(owner_died, c_int::from(died));
            Ok(())
        })
    }
}

/// Gives back `count` permits that the calling thread holds.
///
/// Returns MEMORA_OK, MEMORA_NOT_OWNER, MEMORA_BUSY, MEMORA_READ_ONLY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED,
/// MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_named_semaphore_release(
    semaphore: *mut memora_named_semaphore_t,
    count: u32,
) -> c_int {
    // SAFETY: the handle is a number, nothing is read through it.
    unsafe {
        call(|_| {
            with(semaphore, |semaphore: &Signal<NamedSemaphore>| semaphore.signal.held(count)?.release())
        })
    }
}

/// `*permits` (may be NULL) becomes the number of all permits, `*free` (may be NULL) that of those that nobody holds now.
///
/// Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_named_semaphore_count(
    semaphore: *mut memora_named_semaphore_t,
    permits: *mut u32,
    free: *mut u32,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            let state = with(semaphore, |semaphore: &Signal<NamedSemaphore>| semaphore.signal.state())?;
            border.put(permits, state.permits);
            border.put(free, state.free);
            Ok(())
        })
    }
}
