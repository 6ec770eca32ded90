//! What only a store has.

use jni::objects::{JByteArray, JClass};
use jni::sys::{jint, jlong};
use jni::{EnvUnowned, jni_mangle};

use crate::fabric::durability;
use crate::guard::{Direct, guard};
use crate::handles::with;

/// Milliseconds between two syncs of a write that asks for durability `async` by itself.
pub const INTERVAL_MS: jint = 100;

/// Stores a value with a durability of its own: the version.
#[jni_mangle("io.memora.internal.Native")]
pub fn store_set_durable<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    key: jlong,
    key_len: jint,
    value: JByteArray<'l>,
    start: jint,
    value_len: jint,
    how: jint,
) -> jlong {
    guard(env, class, |jvm| {
        let value = jvm.bytes(&value, start, value_len)?;
        let (key, how) = (Direct::at(key, key_len)?, durability(how, INTERVAL_MS)?);
        with(handle, |object| Ok(object.store()?.set_durable(key.bytes(), &value, how)?.0 as jlong))
    })
}

/// Returns when everything so far is durable.
#[jni_mangle("io.memora.internal.Native")]
pub fn store_flush<'l>(env: EnvUnowned<'l>, class: JClass<'l>, handle: jlong) {
    guard(env, class, |_| with(handle, |object| Ok(object.store()?.flush()?)))
}

/// Writes a checkpoint.
#[jni_mangle("io.memora.internal.Native")]
pub fn store_checkpoint<'l>(env: EnvUnowned<'l>, class: JClass<'l>, handle: jlong) {
    guard(env, class, |_| with(handle, |object| Ok(object.store()?.checkpoint().map(|_| ())?)))
}
