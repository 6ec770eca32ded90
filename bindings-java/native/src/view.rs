//! Values that are looked at where they stand.

use jni::objects::JClass;
use jni::sys::{jbyteArray, jint, jlong, jobject};
use jni::{EnvUnowned, jni_mangle};

use crate::guard::{Direct, guard};
use crate::handles::{insert, with};
use crate::object::{Kind, Object};

/// Looks at the value of a key: a handle, or 0 when there is none. What is known of it stands at `out` then: version (8 bytes),
/// remaining time in ms or -1 (8), length (8), flags (4), and 1 if it is a copy (4).
#[jni_mangle("io.memora.internal.Native")]
pub fn view<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    key: jlong,
    key_len: jint,
    out: jlong,
) -> jlong {
    guard(env, class, |_| {
        let (key, mut out) = (Direct::at(key, key_len)?, Direct::at(out, 32)?);
        let Some(view) = with(handle, |object| Ok(object.cache()?.view(key.bytes())?))? else { return Ok(0) };
        let ttl = view.ttl_ms().map_or(-1, |ttl| i64::try_from(ttl).unwrap_or(i64::MAX));
        let out = out.bytes_mut();
        out[0..8].copy_from_slice(&view.version().0.to_ne_bytes());
        out[8..16].copy_from_slice(&ttl.to_ne_bytes());
        out[16..24].copy_from_slice(&(view.len() as u64).to_ne_bytes());
        out[24..28].copy_from_slice(&view.flags().to_ne_bytes());
        out[28..32].copy_from_slice(&u32::from(view.is_copy()).to_ne_bytes());
        // No child of the cache: closing that does not end it.
        insert(Object { parent: 0, kind: Kind::View(view) })
    })
}

/// A direct buffer over the bytes of a view that is no copy, empty ones excepted; null of a copy. Java must not write it, and keeps
/// the memory mapped (see [`view_memory`]) for as long as the buffer can be reached.
#[jni_mangle("io.memora.internal.Native")]
pub fn view_buffer<'l>(env: EnvUnowned<'l>, class: JClass<'l>, handle: jlong) -> jobject {
    guard(env, class, |jvm| {
        let place = with(handle, |object| {
            let view = object.view()?;
            Ok((!view.is_copy()).then(|| (view.as_ptr() as usize, view.len())))
        })?;
        match place {
            Some((address, len)) => jvm.new_direct(address, len),
            None => Ok(std::ptr::null_mut()),
        }
    })
}

/// The bytes of a view as a new array.
#[jni_mangle("io.memora.internal.Native")]
pub fn view_bytes<'l>(env: EnvUnowned<'l>, class: JClass<'l>, handle: jlong) -> jbyteArray {
    guard(env, class, |jvm| {
        let bytes = with(handle, |object| Ok(object.view()?.to_vec()?))?;
        jvm.new_bytes(&bytes)
    })
}

/// A handle that keeps the memory of a fabric mapped in which a view stands, without keeping anything else.
#[jni_mangle("io.memora.internal.Native")]
pub fn view_memory<'l>(env: EnvUnowned<'l>, class: JClass<'l>, handle: jlong) -> jlong {
    guard(env, class, |_| {
        let memory = with(handle, |object| Ok(object.view()?.memory()))?;
        match memory {
            Some(memory) => insert(Object { parent: 0, kind: Kind::Memory { _memory: memory } }),
            None => Ok(0),
        }
    })
}

/// Whether a view is still open.
#[jni_mangle("io.memora.internal.Native")]
pub fn view_open<'l>(env: EnvUnowned<'l>, class: JClass<'l>, handle: jlong) -> jint {
    guard(env, class, |_| with(handle, |object| object.view().map(|_| 1)))
}
