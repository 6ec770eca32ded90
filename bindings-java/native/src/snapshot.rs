//! Snapshots of stores. Entries are handed over in the form that the head of `cache` describes.

use std::time::Duration;

use jni::objects::{JByteArray, JClass};
use jni::sys::{jboolean, jbyteArray, jint, jlong};
use jni::{EnvUnowned, jni_mangle};
use memora::{Error, ErrorCode, SnapshotLimits};

use crate::cache::{add_entry, entry_into};
use crate::guard::{Direct, guard};
use crate::handles::{insert, with};
use crate::object::{Kind, Object};
use crate::store::range;
use crate::update::give;

/// Takes a snapshot of a store.
#[jni_mangle("io.memora.internal.Native")]
pub fn snapshot<'l>(env: EnvUnowned<'l>, class: JClass<'l>, store: jlong) -> jlong {
    guard(env, class, |_| {
        with(store, |object| {
            let snapshot = object.store()?.snapshot()?;
            insert(Object { parent: store, kind: Kind::Snapshot(snapshot) })
        })
    })
}

/// Sets what snapshots of a store may cost.
#[jni_mangle("io.memora.internal.Native")]
pub fn store_limit_snapshots<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    store: jlong,
    age_ms: jlong,
    percent: jint,
) {
    guard(env, class, |_| {
        let (Ok(age_ms), Ok(percent)) = (u64::try_from(age_ms), u32::try_from(percent)) else {
            let text = format!("Snapshots of {age_ms} ms and {percent} percent are none.");
            return Err(Error::new(ErrorCode::InvalidArgument, text).into());
        };
        let limits = SnapshotLimits { age: Duration::from_millis(age_ms), percent };
        with(store, |object| Ok(object.store()?.limit_snapshots(&limits)?))
    })
}

/// An entry into direct memory: its length, or -1 for a miss, or -(2 + needed) when the memory is too small.
#[jni_mangle("io.memora.internal.Native")]
pub fn snapshot_get<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    key: jlong,
    key_len: jint,
    out: jlong,
    capacity: jint,
) -> jint {
    guard(env, class, |_| {
        let (key, mut out) = (Direct::at(key, key_len)?, Direct::at(out, capacity)?);
        let entry = with(handle, |object| Ok(object.snapshot()?.get_entry(key.bytes())?))?;
        Ok(entry_into(entry, out.bytes_mut()))
    })
}

/// The same as a new array; null for a miss.
#[jni_mangle("io.memora.internal.Native")]
pub fn snapshot_get_array<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    key: jlong,
    key_len: jint,
) -> jbyteArray {
    guard(env, class, |jvm| {
        let key = Direct::at(key, key_len)?;
        let entry = with(handle, |object| Ok(object.snapshot()?.get_entry(key.bytes())?))?;
        give(jvm, entry)
    })
}

/// A part of the entries: the next cursor (8 bytes), then each entry as length of the key (4), key, entry.
#[jni_mangle("io.memora.internal.Native")]
pub fn snapshot_scan<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    cursor: jlong,
    limit: jint,
) -> jbyteArray {
    guard(env, class, |jvm| {
        let limit = usize::try_from(limit).map_err(|_| Error::from(ErrorCode::InvalidArgument))?;
        let mut out = vec![0; 8];
        let next = with(handle, |object| {
            let found = |key: &[u8], entry: &_| add_entry(&mut out, key, entry);
            Ok(object.snapshot()?.scan(cursor as u64, limit, found)?)
        })?;
        out[..8].copy_from_slice(&next.to_ne_bytes());
        jvm.new_bytes(&out)
    })
}

/// A part of the entries in the order of their keys.
#[jni_mangle("io.memora.internal.Native")]
pub fn snapshot_range<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    from: JByteArray<'l>,
    to: JByteArray<'l>,
    backward: jboolean,
    limit: jint,
) -> jbyteArray {
    guard(env, class, |jvm| {
        range(jvm, from, to, backward, limit, &mut |from, to, direction, limit, found| {
            with(handle, |object| Ok(object.snapshot()?.range(from, to, direction, limit, found)?))
        })
    })
}
