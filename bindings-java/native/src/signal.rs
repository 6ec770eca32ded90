//! Events, counters, locks and semaphores. A wait answers -1 for nothing in time.

use std::time::Duration;

use jni::objects::{JClass, JString};
use jni::sys::{jboolean, jint, jlong};
use jni::{EnvUnowned, jni_mangle};
use memora::{ErrorCode, NamedCounter, NamedEvent, NamedLock, NamedSemaphore, Notified, Result};

use crate::guard::{Answer, Direct, Fault, guard};
use crate::handles::{insert, with};
use crate::object::{Kind, Object, wrong};

/// Answer for nothing in time.
const NONE: jint = -1;
/// Answer of a wait for an event that took a notification for one.
const ONE: jlong = -2;

/// A signal behind a handle.
pub enum Signal {
    Event(NamedEvent),
    Counter(NamedCounter),
    Lock(NamedLock),
    Semaphore(NamedSemaphore),
}

fn signal<T>(handle: jlong, body: impl FnOnce(&Signal) -> Answer<T>) -> Answer<T> {
    with(handle, |object| match &object.kind {
        Kind::Signal(signal) => body(signal),
        _ => Err(wrong()),
    })
}

fn event<T>(handle: jlong, body: impl FnOnce(&NamedEvent) -> Result<T>) -> Answer<T> {
    signal(handle, |signal| match signal {
        Signal::Event(event) => Ok(body(event)?),
        _ => Err(wrong()),
    })
}

fn counter<T>(handle: jlong, body: impl FnOnce(&NamedCounter) -> Result<T>) -> Answer<T> {
    signal(handle, |signal| match signal {
        Signal::Counter(counter) => Ok(body(counter)?),
        _ => Err(wrong()),
    })
}

fn lock<T>(handle: jlong, body: impl FnOnce(&NamedLock) -> Result<T>) -> Answer<T> {
    signal(handle, |signal| match signal {
        Signal::Lock(lock) => Ok(body(lock)?),
        _ => Err(wrong()),
    })
}

fn semaphore<T>(handle: jlong, body: impl FnOnce(&NamedSemaphore) -> Result<T>) -> Answer<T> {
    signal(handle, |signal| match signal {
        Signal::Semaphore(semaphore) => Ok(body(semaphore)?),
        _ => Err(wrong()),
    })
}

fn micros(wait: jint) -> Duration {
    Duration::from_micros(u64::try_from(wait).unwrap_or(0))
}

/// What came, or nothing if the time is over.
fn in_time<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Err(error) if error.code() == ErrorCode::TimedOut => Ok(None),
        result => result.map(Some),
    }
}

/// The signal of a kind and name: 1 event, 2 counter, 3 lock, 4 semaphore, with 0 permits one that is there.
#[jni_mangle("io.memora.internal.Native")]
pub fn fabric_signal<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    name: JString<'l>,
    kind: jint,
    permits: jint,
) -> jlong {
    guard(env, class, |jvm| {
        let name = jvm.text(&name)?.ok_or(Fault::from(ErrorCode::InvalidName))?;
        with(handle, |object| {
            let fabric = object.fabric()?;
            let signal = match (kind, permits) {
                (1, _) => Signal::Event(fabric.event(&name)?),
                (2, _) => Signal::Counter(fabric.counter(&name)?),
                (3, _) => Signal::Lock(fabric.lock(&name)?),
                (4, 0) => Signal::Semaphore(fabric.open_semaphore(&name)?),
                (4, permits) => {
                    // A negative number is refused as one that is too large.
                    Signal::Semaphore(fabric.semaphore(&name, permits as u32)?)
                }
                _ => return Err(ErrorCode::InvalidArgument.into()),
            };
            insert(Object { parent: handle, kind: Kind::Signal(signal) })
        })
    })
}

/// How often all were notified.
#[jni_mangle("io.memora.internal.Native")]
pub fn event_sequence<'l>(env: EnvUnowned<'l>, class: JClass<'l>, handle: jlong) -> jlong {
    guard(env, class, |_| event(handle, |event| Ok(event.sequence()? as jlong)))
}

/// Notifies all, or one; gives the sequence.
#[jni_mangle("io.memora.internal.Native")]
pub fn event_notify<'l>(env: EnvUnowned<'l>, class: JClass<'l>, handle: jlong, one: jboolean) -> jlong {
    guard(env, class, |_| {
        event(handle, |event| {
            if one {
                event.notify_one()?;
                return Ok(event.sequence()? as jlong);
            }
            Ok(event.notify_all()? as jlong)
        })
    })
}

/// The new sequence, -2 if a notification for one was taken, -1 for nothing in time.
#[jni_mangle("io.memora.internal.Native")]
pub fn event_wait<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    seen: jlong,
    wait_micros: jint,
) -> jlong {
    guard(env, class, |_| {
        event(handle, |event| {
            Ok(match in_time(event.wait(seen as u64, Some(micros(wait_micros))))? {
                Some(Notified::All(sequence)) => sequence as jlong,
                Some(Notified::One) => ONE,
                None => jlong::from(NONE),
            })
        })
    })
}

/// The value of a counter.
#[jni_mangle("io.memora.internal.Native")]
pub fn counter_get<'l>(env: EnvUnowned<'l>, class: JClass<'l>, handle: jlong) -> jlong {
    guard(env, class, |_| counter(handle, NamedCounter::get))
}

/// Adds; gives the new value.
#[jni_mangle("io.memora.internal.Native")]
pub fn counter_add<'l>(env: EnvUnowned<'l>, class: JClass<'l>, handle: jlong, delta: jlong) -> jlong {
    guard(env, class, |_| counter(handle, |counter| counter.add(delta)))
}

/// Sets; gives the value before.
#[jni_mangle("io.memora.internal.Native")]
pub fn counter_set<'l>(env: EnvUnowned<'l>, class: JClass<'l>, handle: jlong, value: jlong) -> jlong {
    guard(env, class, |_| counter(handle, |counter| counter.set(value)))
}

/// Sets if the value is the expected one; gives the value before.
#[jni_mangle("io.memora.internal.Native")]
pub fn counter_compare_and_swap<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    expected: jlong,
    value: jlong,
) -> jlong {
    guard(env, class, |_| counter(handle, |counter| counter.compare_and_swap(expected, value)))
}

/// Waits until the counter is at least, or, with `changed`, another than `value`; the value goes to `out`.
#[jni_mangle("io.memora.internal.Native")]
pub fn counter_wait<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    value: jlong,
    changed: jboolean,
    wait_micros: jint,
    out: jlong,
) -> jint {
    guard(env, class, |_| {
        let mut out = Direct::at(out, 8)?;
        let wait = Some(micros(wait_micros));
        let found = counter(handle, |counter| {
            in_time(if changed {
                counter.wait_changed(value, wait)
            } else {
                counter.wait_at_least(value, wait)
            })
        })?;
        let Some(found) = found else { return Ok(NONE) };
        out.bytes_mut().copy_from_slice(&found.to_ne_bytes());
        Ok(0)
    })
}

/// Locks: 1 if an owner died before, 0 if not.
#[jni_mangle("io.memora.internal.Native")]
pub fn lock_take<'l>(env: EnvUnowned<'l>, class: JClass<'l>, handle: jlong, wait_micros: jint) -> jint {
    guard(env, class, |_| {
        lock(handle, |lock| {
            let Some(guard) = in_time(lock.lock_timeout(micros(wait_micros)))? else { return Ok(NONE) };
            let died = guard.owner_died()?;
            guard.keep();
            Ok(jint::from(died))
        })
    })
}

/// Lets go of the lock that the calling thread holds.
#[jni_mangle("io.memora.internal.Native")]
pub fn lock_free<'l>(env: EnvUnowned<'l>, class: JClass<'l>, handle: jlong) {
    guard(env, class, |_| lock(handle, |lock| lock.held()?.unlock()))
}

/// What the lock guards, which the calling thread holds, is whole.
#[jni_mangle("io.memora.internal.Native")]
pub fn lock_mark_consistent<'l>(env: EnvUnowned<'l>, class: JClass<'l>, handle: jlong) {
    guard(env, class, |_| {
        lock(handle, |lock| {
            let mut guard = lock.held()?;
            let marked = guard.mark_consistent();
            guard.keep();
            marked
        })
    })
}

/// Takes permits: 1 if permits of a dead thread came back and nobody heard of it, 0 if not.
#[jni_mangle("io.memora.internal.Native")]
pub fn permits_take<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    count: jint,
    wait_micros: jint,
) -> jint {
    guard(env, class, |_| {
        semaphore(handle, |semaphore| {
            // A negative number is refused as one that is too large.
            let taken = in_time(semaphore.acquire_timeout(count as u32, micros(wait_micros)))?;
            let Some(permits) = taken else { return Ok(NONE) };
            let died = permits.owner_died();
            permits.keep();
            Ok(jint::from(died))
        })
    })
}

/// Gives back permits that the calling thread holds.
#[jni_mangle("io.memora.internal.Native")]
pub fn permits_give<'l>(env: EnvUnowned<'l>, class: JClass<'l>, handle: jlong, count: jint) {
    guard(env, class, |_| semaphore(handle, |semaphore| semaphore.held(count as u32)?.release()))
}

/// All permits in the upper 32 bits, the free ones in the lower.
#[jni_mangle("io.memora.internal.Native")]
pub fn permits_count<'l>(env: EnvUnowned<'l>, class: JClass<'l>, handle: jlong) -> jlong {
    guard(env, class, |_| {
        semaphore(handle, |semaphore| {
            let state = semaphore.state()?;
            Ok(jlong::from(state.permits) << 32 | jlong::from(state.free))
        })
    })
}
