//! Hearing of what changes in a cache.

use std::time::Duration;

use jni::objects::JClass;
use jni::sys::{jbyteArray, jint, jlong};
use jni::{EnvUnowned, jni_mangle};

use crate::guard::guard;
use crate::handles::{insert, with};
use crate::object::{Kind, Object, OneAtATime};

/// A subscriber of the events of a cache.
#[jni_mangle("io.memora.internal.Native")]
pub fn events<'l>(env: EnvUnowned<'l>, class: JClass<'l>, handle: jlong) -> jlong {
    guard(env, class, |_| {
        let subscriber = with(handle, |object| Ok(object.cache()?.events()?))?;
        insert(Object { parent: handle, kind: Kind::Events(OneAtATime::new(subscriber)) })
    })
}

/// The next event within so many microseconds: kind (4 bytes), length of the whole key (4), version (8), key; null for none.
#[jni_mangle("io.memora.internal.Native")]
pub fn next_event<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    wait_micros: jint,
) -> jbyteArray {
    guard(env, class, |jvm| {
        let wait = Duration::from_micros(wait_micros.max(0) as u64);
        let Some(event) = with(handle, |object| Ok(object.events()?.next(Some(wait))?))? else {
            return Ok(std::ptr::null_mut());
        };
        let mut bytes = Vec::with_capacity(16 + event.key.len());
        bytes.extend_from_slice(&(event.kind as u32).to_ne_bytes());
        bytes.extend_from_slice(&(event.key_len as u32).to_ne_bytes());
        bytes.extend_from_slice(&event.version.0.to_ne_bytes());
        bytes.extend_from_slice(&event.key);
        jvm.new_bytes(&bytes)
    })
}
