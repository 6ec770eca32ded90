//! Transactions of stores. Entries are handed over in the form that the head of `cache` describes.

use jni::objects::{JByteArray, JByteBuffer, JClass};
use jni::sys::{jboolean, jbyteArray, jint, jlong};
use jni::{EnvUnowned, jni_mangle};
use memora::{Cache, ErrorCode, Transaction, Version};

use crate::cache::{entry_into, options};
use crate::fabric::durability;
use crate::guard::{Answer, Direct, guard};
use crate::handles::{insert, with};
use crate::object::{Kind, Object, OneAtATime};
use crate::store::{INTERVAL_MS, range};
use crate::update::give;

/// A transaction until its commit takes it.
pub type Begun = Option<Transaction>;

fn on<T>(handle: jlong, f: impl FnOnce(&mut Transaction) -> memora::Result<T>) -> Answer<T> {
    with(handle, |object| Ok(f(object.transaction()?.as_mut().ok_or(ErrorCode::Closed)?)?))
}

/// Begins a transaction of a store.
#[jni_mangle("io.memora.internal.Native")]
pub fn transaction<'l>(env: EnvUnowned<'l>, class: JClass<'l>, store: jlong) -> jlong {
    guard(env, class, |_| {
        with(store, |object| {
            let begun = Some(object.store()?.transaction()?);
            insert(Object { parent: store, kind: Kind::Transaction(OneAtATime::new(begun)) })
        })
    })
}

/// An entry into direct memory: its length, or -1 for a miss, or -(2 + needed) when the memory is too small.
#[jni_mangle("io.memora.internal.Native")]
pub fn transaction_get<'l>(
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
        let entry = on(handle, |transaction| transaction.get_entry(key.bytes()))?;
        Ok(entry_into(entry, out.bytes_mut()))
    })
}

/// The same as a new array; null for a miss.
#[jni_mangle("io.memora.internal.Native")]
pub fn transaction_get_array<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    key: jlong,
    key_len: jint,
) -> jbyteArray {
    guard(env, class, |jvm| {
        let key = Direct::at(key, key_len)?;
        let entry = on(handle, |transaction| transaction.get_entry(key.bytes()))?;
        give(jvm, entry)
    })
}

fn put(handle: jlong, key: Direct, value: &[u8], ttl_ms: jlong, flags: jint) -> Answer<()> {
    on(handle, |transaction| transaction.put_with(key.bytes(), value, &options(ttl_ms, flags)))
}

/// Puts a value out of direct memory.
#[jni_mangle("io.memora.internal.Native")]
pub fn transaction_put<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    key: jlong,
    key_len: jint,
    value: jlong,
    value_len: jint,
    ttl_ms: jlong,
    flags: jint,
) {
    guard(env, class, |_| {
        let (key, value) = (Direct::at(key, key_len)?, Direct::at(value, value_len)?);
        put(handle, key, value.bytes(), ttl_ms, flags)
    })
}

/// Puts a value out of an array.
#[jni_mangle("io.memora.internal.Native")]
pub fn transaction_put_array<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    key: jlong,
    key_len: jint,
    value: JByteArray<'l>,
    ttl_ms: jlong,
    flags: jint,
) {
    guard(env, class, |jvm| {
        let (key, value) = (Direct::at(key, key_len)?, jvm.all_bytes(&value)?);
        put(handle, key, &value, ttl_ms, flags)
    })
}

/// Puts a value out of a direct buffer.
#[jni_mangle("io.memora.internal.Native")]
pub fn transaction_put_buffer<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    key: jlong,
    key_len: jint,
    value: JByteBuffer<'l>,
    start: jint,
    value_len: jint,
    ttl_ms: jlong,
    flags: jint,
) {
    guard(env, class, |jvm| {
        let (key, value) = (Direct::at(key, key_len)?, jvm.direct(&value, start, value_len)?);
        put(handle, key, value.bytes(), ttl_ms, flags)
    })
}

/// Deletes an entry: whether there is one.
#[jni_mangle("io.memora.internal.Native")]
pub fn transaction_delete<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    key: jlong,
    key_len: jint,
) -> jint {
    guard(env, class, |_| {
        let key = Direct::at(key, key_len)?;
        on(handle, |transaction| transaction.delete(key.bytes())).map(jint::from)
    })
}

/// Refuses to go on unless a key has this version, or none.
#[jni_mangle("io.memora.internal.Native")]
pub fn transaction_expect<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    key: jlong,
    key_len: jint,
    present: jboolean,
    version: jlong,
) {
    guard(env, class, |_| {
        let key = Direct::at(key, key_len)?;
        let version = present.then_some(Version(version as u64));
        on(handle, |transaction| transaction.expect(key.bytes(), version))
    })
}

/// Makes the commit as durable as this.
#[jni_mangle("io.memora.internal.Native")]
pub fn transaction_set_durability<'l>(env: EnvUnowned<'l>, class: JClass<'l>, handle: jlong, how: jint) {
    guard(env, class, |_| {
        let how = durability(how, INTERVAL_MS)?;
        on(handle, |transaction| transaction.set_durability(how))
    })
}

/// Commits and ends a transaction, whatever comes of it.
#[jni_mangle("io.memora.internal.Native")]
pub fn transaction_commit<'l>(env: EnvUnowned<'l>, class: JClass<'l>, handle: jlong) {
    guard(env, class, |_| {
        with(handle, |object| {
            let mut begun = object.transaction()?;
            Ok(begun.take().ok_or(ErrorCode::Closed)?.commit()?)
        })
    })
}

/// A part of the entries as a transaction sees them.
#[jni_mangle("io.memora.internal.Native")]
pub fn transaction_range<'l>(
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
            on(handle, |transaction| transaction.range(from, to, direction, limit, &mut *found))
        })
    })
}

fn in_cache<T>(
    handle: jlong,
    cache: jlong,
    f: impl FnOnce(&mut Transaction, &Cache) -> memora::Result<T>,
) -> Answer<T> {
    // One handle after the other: a call announces one.
    let cache = with(cache, |object| Ok(object.cache()?.clone()))?;
    on(handle, |transaction| f(transaction, &cache))
}

/// Sets an entry of a cache with the commit, out of arrays.
#[jni_mangle("io.memora.internal.Native")]
#[allow(clippy::too_many_arguments)]
pub fn transaction_cache_set<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    cache: jlong,
    key: JByteArray<'l>,
    value: JByteArray<'l>,
    ttl_ms: jlong,
    flags: jint,
) {
    guard(env, class, |jvm| {
        let (key, value) = (jvm.all_bytes(&key)?, jvm.all_bytes(&value)?);
        in_cache(handle, cache, |transaction, cache| {
            transaction.cache_set(cache, &key, &value, &options(ttl_ms, flags))
        })
    })
}

/// Deletes an entry of a cache with the commit.
#[jni_mangle("io.memora.internal.Native")]
pub fn transaction_cache_delete<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    cache: jlong,
    key: JByteArray<'l>,
) {
    guard(env, class, |jvm| {
        let key = jvm.all_bytes(&key)?;
        in_cache(handle, cache, |transaction, cache| transaction.cache_delete(cache, &key))
    })
}

/// An outbox of a channel.
#[jni_mangle("io.memora.internal.Native")]
pub fn outbox<'l>(env: EnvUnowned<'l>, class: JClass<'l>, channel: jlong) -> jlong {
    guard(env, class, |_| {
        with(channel, |object| {
            let outbox = object.channel()?.outbox()?;
            insert(Object { parent: channel, kind: Kind::Outbox(outbox) })
        })
    })
}

fn publish(handle: jlong, outbox: jlong, message: &[u8]) -> Answer<()> {
    // One handle after the other: a call announces one.
    let outbox = with(outbox, |object| Ok(object.outbox()?.clone()))?;
    on(handle, |transaction| transaction.publish(&outbox, message))
}

/// Sends a message out of direct memory with the commit.
#[jni_mangle("io.memora.internal.Native")]
pub fn transaction_publish<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    outbox: jlong,
    message: jlong,
    len: jint,
) {
    guard(env, class, |_| publish(handle, outbox, Direct::at(message, len)?.bytes()))
}

/// The same out of an array.
#[jni_mangle("io.memora.internal.Native")]
pub fn transaction_publish_array<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    outbox: jlong,
    message: JByteArray<'l>,
) {
    guard(env, class, |jvm| publish(handle, outbox, &jvm.all_bytes(&message)?))
}

/// The same out of a direct buffer.
#[jni_mangle("io.memora.internal.Native")]
pub fn transaction_publish_buffer<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    outbox: jlong,
    message: JByteBuffer<'l>,
    start: jint,
    len: jint,
) {
    guard(env, class, |jvm| publish(handle, outbox, jvm.direct(&message, start, len)?.bytes()))
}
