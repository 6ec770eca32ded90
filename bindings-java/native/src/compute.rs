//! Making a value once for all who ask for it, and serving what is out of date meanwhile.

use std::time::Duration;

use jni::objects::{JByteArray, JClass};
use jni::sys::{jbyteArray, jint, jlong};
use jni::{EnvUnowned, jni_mangle};
use memora::{Cache, ErrorCode, Lease, MetaEntry, Token};

use crate::cache::{entry_bytes, options};
use crate::guard::{Direct, guard};
use crate::handles::{insert, with};
use crate::object::{Kind, Object, OneAtATime};
use crate::update::{give, ttl};

/// Instead of a token: somebody else makes the value.
const HELD: jlong = -1;
/// Instead of a token: this very thread makes the value.
const OWN: jlong = -2;

/// A token with the cache that it is of, until it is used up.
pub struct Filler {
    cache: Cache,
    token: Option<Token>,
}

/// The entry of a key as an array; or null, and at `out` (8 bytes) the handle of a token, or -1 when it is still being made by
/// another thread after so many microseconds, or -2 when it is being made by this one.
#[jni_mangle("io.memora.internal.Native")]
pub fn lease<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    key: jlong,
    key_len: jint,
    wait_micros: jint,
    out: jlong,
) -> jbyteArray {
    guard(env, class, |jvm| {
        let (key, mut out) = (Direct::at(key, key_len)?, Direct::at(out, 8)?);
        let wait = Duration::from_micros(wait_micros.max(0) as u64);
        let asked = with(handle, |object| {
            let cache = object.cache()?;
            match cache.lease(key.bytes(), wait) {
                Ok(Lease::Found(entry)) => Ok(Ok(entry)),
                Ok(Lease::Compute(token)) => Ok(Err(Ok(Filler { cache: cache.clone(), token: Some(token) }))),
                Err(error) if error.code() == ErrorCode::TimedOut => Ok(Err(Err(HELD))),
                Err(error) if error.code() == ErrorCode::Busy => Ok(Err(Err(OWN))),
                Err(error) => Err(error.into()),
            }
        })?;
        let answer = match asked {
            Ok(entry) => return jvm.new_bytes(&entry_bytes(&entry)),
            Err(Ok(filler)) => {
                insert(Object { parent: handle, kind: Kind::Filler(OneAtATime::new(filler)) })?
            }
            Err(Err(why)) => why,
        };
        out.bytes_mut().copy_from_slice(&answer.to_ne_bytes());
        Ok(std::ptr::null_mut())
    })
}

/// Stores the value that a token is for, and uses it up: the version, or -1 when the right to store it was lost.
#[jni_mangle("io.memora.internal.Native")]
pub fn fill<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    value: JByteArray<'l>,
    ttl_ms: jlong,
    flags: jint,
) -> jlong {
    guard(env, class, |jvm| {
        let (value, options) = (jvm.all_bytes(&value)?, options(ttl_ms, flags));
        let stored = with(handle, |object| {
            let mut filler = object.filler()?;
            let token = filler.token.take().ok_or(ErrorCode::Closed)?;
            Ok(filler.cache.fill(token, &value, &options)?)
        })?;
        Ok(stored.map_or(-1, |version| version.0 as jlong))
    })
}

/// Marks an entry as out of date: its new version, or -1 when there is none.
#[jni_mangle("io.memora.internal.Native")]
pub fn invalidate<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    key: jlong,
    key_len: jint,
    stale_for_ms: jlong,
) -> jlong {
    guard(env, class, |_| {
        let key = Direct::at(key, key_len)?;
        let version =
            with(handle, |object| Ok(object.cache()?.invalidate(key.bytes(), ttl(stale_for_ms))?))?;
        Ok(version.map_or(-1, |version| version.0 as jlong))
    })
}

/// An entry as an array, or null; its marks at `out` (4 bytes): 1 stale, 2 won, 4 taken.
#[jni_mangle("io.memora.internal.Native")]
pub fn get_meta<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    key: jlong,
    key_len: jint,
    recache_below_ms: jlong,
    out: jlong,
) -> jbyteArray {
    guard(env, class, |jvm| {
        let (key, mut out) = (Direct::at(key, key_len)?, Direct::at(out, 4)?);
        let found =
            with(handle, |object| Ok(object.cache()?.get_meta(key.bytes(), ttl(recache_below_ms))?))?;
        let Some(MetaEntry { entry, stale, won, taken }) = found else { return give(jvm, None) };
        let marks = u32::from(stale) | u32::from(won) << 1 | u32::from(taken) << 2;
        out.bytes_mut().copy_from_slice(&marks.to_ne_bytes());
        give(jvm, Some(entry))
    })
}

/// Empties a cache.
#[jni_mangle("io.memora.internal.Native")]
pub fn cache_flush<'l>(env: EnvUnowned<'l>, class: JClass<'l>, handle: jlong) {
    guard(env, class, |_| with(handle, |object| Ok(object.cache()?.flush().map(|_| ())?)))
}
