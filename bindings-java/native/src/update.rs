//! What goes beyond reading, setting and deleting entries of caches. Entries that were there come back as arrays, in the form that
//! the head of `cache` describes; a time to live of -1 is none.

use jni::objects::{JByteArray, JClass};
use jni::sys::{jboolean, jbyteArray, jint, jlong};
use jni::{EnvUnowned, jni_mangle};
use memora::{Counter, CounterKind, DeleteOutcome, Entry, ErrorCode, Version};

use crate::cache::{entry_bytes, options};
use crate::guard::{Answer, Direct, Jvm, guard};
use crate::handles::with;

/// An entry as an array; null for none.
pub fn give(jvm: &mut Jvm<'_>, entry: Option<Entry>) -> Answer<jbyteArray> {
    match entry {
        Some(entry) => jvm.new_bytes(&entry_bytes(&entry)),
        None => Ok(std::ptr::null_mut()),
    }
}

/// A time to live; negative is none.
pub fn ttl(ttl_ms: jlong) -> Option<u64> {
    u64::try_from(ttl_ms).ok()
}

/// Deletes an entry if it still has this version: 1 when it did, or -1 for no entry, or -2 for another version, which is then
/// written to `seen`.
#[jni_mangle("io.memora.internal.Native")]
pub fn delete_if<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    key: jlong,
    key_len: jint,
    version: jlong,
    seen: jlong,
) -> jint {
    guard(env, class, |_| {
        let (key, mut seen) = (Direct::at(key, key_len)?, Direct::at(seen, 8)?);
        let version = Version(version as u64);
        Ok(match with(handle, |object| Ok(object.cache()?.delete_if(key.bytes(), version)?))? {
            DeleteOutcome::Deleted => 1,
            DeleteOutcome::NotFound => -1,
            DeleteOutcome::Stale(version) => {
                seen.bytes_mut().copy_from_slice(&version.0.to_ne_bytes());
                -2
            }
        })
    })
}

/// Gives an entry another time to live: whether there is one.
#[jni_mangle("io.memora.internal.Native")]
pub fn touch<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    key: jlong,
    key_len: jint,
    ttl_ms: jlong,
) -> jint {
    guard(env, class, |_| {
        let key = Direct::at(key, key_len)?;
        with(handle, |object| Ok(jint::from(object.cache()?.touch(key.bytes(), ttl(ttl_ms))?)))
    })
}

/// The same, and gives the entry.
#[jni_mangle("io.memora.internal.Native")]
pub fn get_and_touch<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    key: jlong,
    key_len: jint,
    ttl_ms: jlong,
) -> jbyteArray {
    guard(env, class, |jvm| {
        let key = Direct::at(key, key_len)?;
        let entry = with(handle, |object| Ok(object.cache()?.get_and_touch(key.bytes(), ttl(ttl_ms))?))?;
        give(jvm, entry)
    })
}

/// Stores a value and gives the entry that was there.
#[jni_mangle("io.memora.internal.Native")]
pub fn get_and_set<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    key: jlong,
    key_len: jint,
    value: JByteArray<'l>,
    ttl_ms: jlong,
    flags: jint,
) -> jbyteArray {
    guard(env, class, |jvm| {
        let (key, value) = (Direct::at(key, key_len)?, jvm.all_bytes(&value)?);
        let options = options(ttl_ms, flags);
        let entry = with(handle, |object| Ok(object.cache()?.get_and_set(key.bytes(), &value, &options)?))?;
        give(jvm, entry)
    })
}

/// Deletes an entry and gives it.
#[jni_mangle("io.memora.internal.Native")]
pub fn get_and_delete<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    key: jlong,
    key_len: jint,
) -> jbyteArray {
    guard(env, class, |jvm| {
        let key = Direct::at(key, key_len)?;
        let entry = with(handle, |object| Ok(object.cache()?.get_and_delete(key.bytes())?))?;
        give(jvm, entry)
    })
}

/// Counts by the rules that are given: 1 with the new number at `out`, or 0 when there is no entry and no initial number.
#[jni_mangle("io.memora.internal.Native")]
pub fn count_with<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    key: jlong,
    key_len: jint,
    kind: jint,
    down: jboolean,
    by: jlong,
    has_initial: jboolean,
    initial: jlong,
    ttl_ms: jlong,
    renew_ttl: jboolean,
    out: jlong,
) -> jint {
    guard(env, class, |_| {
        let (key, mut out) = (Direct::at(key, key_len)?, Direct::at(out, 8)?);
        let counter = Counter {
            kind: match kind {
                0 => CounterKind::Unsigned,
                1 => CounterKind::Wrapping,
                2 => CounterKind::Signed,
                _ => return Err(ErrorCode::InvalidArgument.into()),
            },
            down,
            by: by as u64,
            initial: has_initial.then_some(initial as u64),
            ttl_ms: ttl(ttl_ms),
            renew_ttl,
        };
        let number = with(handle, |object| Ok(object.cache()?.count_with(key.bytes(), &counter)?))?;
        if let Some(number) = number {
            out.bytes_mut().copy_from_slice(&number.to_ne_bytes());
        }
        Ok(jint::from(number.is_some()))
    })
}
