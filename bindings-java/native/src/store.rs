//! What only a store has.

use std::ops::Bound;

use jni::objects::{JByteArray, JClass};
use jni::sys::{jboolean, jbyteArray, jint, jlong};
use jni::{EnvUnowned, jni_mangle};
use memora::{Direction, Entry, Error, ErrorCode};

use crate::cache::add_entry;
use crate::fabric::durability;
use crate::guard::{Answer, Direct, Jvm, guard};
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

/// A bound of a range; null for none.
fn bound<'l>(jvm: &mut Jvm<'l>, key: &JByteArray<'l>) -> Answer<Option<Vec<u8>>> {
    if key.is_null() { Ok(None) } else { jvm.all_bytes(key).map(Some) }
}

/// What goes over a range: from, to, direction, limit, and what takes each entry; gives where to go on.
type Walk<'a> = &'a mut dyn FnMut(
    Bound<&[u8]>,
    Bound<&[u8]>,
    Direction,
    usize,
    &mut dyn FnMut(&[u8], &Entry),
) -> Answer<Option<Vec<u8>>>;

/// A part of the entries in the order of their keys, with the key `from` and without the key `to`: whether there may be more
/// (1 byte), then each entry as in a scan.
pub fn range<'l>(
    jvm: &mut Jvm<'l>,
    from: JByteArray<'l>,
    to: JByteArray<'l>,
    backward: jboolean,
    limit: jint,
    walk: Walk<'_>,
) -> Answer<jbyteArray> {
    let limit = usize::try_from(limit).map_err(|_| Error::from(ErrorCode::InvalidArgument))?;
    let (from, to) = (bound(jvm, &from)?, bound(jvm, &to)?);
    let from = from.as_deref().map_or(Bound::Unbounded, Bound::Included);
    let to = to.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
    let direction = if backward { Direction::Backward } else { Direction::Forward };
    let mut out = vec![0];
    let more = walk(from, to, direction, limit, &mut |key, entry| add_entry(&mut out, key, entry))?.is_some();
    out[0] = u8::from(more);
    jvm.new_bytes(&out)
}

/// A part of the entries of a store.
#[jni_mangle("io.memora.internal.Native")]
pub fn store_range<'l>(
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
            with(handle, |object| Ok(object.store()?.range(from, to, direction, limit, found)?))
        })
    })
}
