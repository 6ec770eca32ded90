//! Caches and stores: both hold entries and take the same calls.
//!
//! Keys lie in the caller's scratch memory, values there too as long as they are small; larger ones come as arrays or direct
//! buffers. An entry in scratch memory is version (8 bytes), remaining time in ms or -1 (8), flags (4), length (4), value.

use jni::objects::{JByteArray, JByteBuffer, JClass};
use jni::sys::{jboolean, jbyteArray, jint, jlong};
use jni::{EnvUnowned, jni_mangle};
use memora::{Cache, CasOutcome, Entry, Error, ErrorCode, Result, SetOptions, Store, Version};

use crate::guard::{Answer, Direct, guard};
use crate::handles::with;

/// Answer for "no such entry" and "not stored".
const NONE: jint = -1;
/// Bytes of an entry before its value.
const ENTRY_HEADER: usize = 24;

/// How a value is stored.
#[derive(Clone, Copy)]
enum Mode {
    Set,
    Add,
    Replace,
    Append,
    Prepend,
}

fn mode(number: jint) -> Answer<Mode> {
    match number {
        0 => Ok(Mode::Set),
        1 => Ok(Mode::Add),
        2 => Ok(Mode::Replace),
        3 => Ok(Mode::Append),
        4 => Ok(Mode::Prepend),
        _ => Err(ErrorCode::InvalidArgument.into()),
    }
}

/// How a value is stored.
pub fn options(ttl_ms: jlong, flags: jint) -> SetOptions {
    SetOptions { ttl_ms: u64::try_from(ttl_ms).ok(), flags: flags as u32 }
}

/// What caches and stores have in common.
pub trait Entries {
    fn get_into(&self, key: &[u8], out: &mut [u8]) -> Result<Option<usize>>;
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>>;
    fn get_entry(&self, key: &[u8]) -> Result<Option<Entry>>;
    fn get_many(&self, keys: &[&[u8]], found: &mut dyn FnMut(usize, Option<&[u8]>)) -> Result<()>;
    fn set(&self, key: &[u8], value: &[u8], options: &SetOptions) -> Result<Version>;
    fn add(&self, key: &[u8], value: &[u8], options: &SetOptions) -> Result<Option<Version>>;
    fn replace(&self, key: &[u8], value: &[u8], options: &SetOptions) -> Result<Option<Version>>;
    fn cas(&self, key: &[u8], value: &[u8], version: Version, options: &SetOptions) -> Result<CasOutcome>;
    fn delete(&self, key: &[u8]) -> Result<bool>;
    fn increment(&self, key: &[u8], by: u64, initial: Option<u64>) -> Result<Option<u64>>;
    fn decrement(&self, key: &[u8], by: u64, initial: Option<u64>) -> Result<Option<u64>>;
    fn scan(&self, cursor: u64, limit: usize, found: &mut dyn FnMut(&[u8], &Entry)) -> Result<u64>;
    fn len(&self) -> Result<u64>;
}

macro_rules! entries {
    ($type:ident) => {
        impl Entries for $type {
            fn get_into(&self, key: &[u8], out: &mut [u8]) -> Result<Option<usize>> {
                $type::get_into(self, key, out)
            }
            fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
                $type::get(self, key)
            }
            fn get_entry(&self, key: &[u8]) -> Result<Option<Entry>> {
                $type::get_entry(self, key)
            }
            fn get_many(&self, keys: &[&[u8]], found: &mut dyn FnMut(usize, Option<&[u8]>)) -> Result<()> {
                $type::get_many(self, keys, found)
            }
            fn set(&self, key: &[u8], value: &[u8], options: &SetOptions) -> Result<Version> {
                $type::set_with(self, key, value, options)
            }
            fn add(&self, key: &[u8], value: &[u8], options: &SetOptions) -> Result<Option<Version>> {
                $type::add(self, key, value, options)
            }
            fn replace(&self, key: &[u8], value: &[u8], options: &SetOptions) -> Result<Option<Version>> {
                $type::replace(self, key, value, options)
            }
            fn cas(
                &self,
                key: &[u8],
                value: &[u8],
                version: Version,
                options: &SetOptions,
            ) -> Result<CasOutcome> {
                $type::compare_and_swap(self, key, value, version, options)
            }
            fn delete(&self, key: &[u8]) -> Result<bool> {
                $type::delete(self, key)
            }
            fn increment(&self, key: &[u8], by: u64, initial: Option<u64>) -> Result<Option<u64>> {
                $type::increment(self, key, by, initial)
            }
            fn decrement(&self, key: &[u8], by: u64, initial: Option<u64>) -> Result<Option<u64>> {
                $type::decrement(self, key, by, initial)
            }
            fn scan(&self, cursor: u64, limit: usize, found: &mut dyn FnMut(&[u8], &Entry)) -> Result<u64> {
                $type::scan(self, cursor, limit, found)
            }
            fn len(&self) -> Result<u64> {
                $type::len(self)
            }
        }
    };
}
entries!(Cache);
entries!(Store);

/// A length, or -1 for a miss, or -(2 + needed) when the memory is too small.
fn length(found: Result<Option<usize>>) -> Answer<jint> {
    match found {
        Ok(Some(len)) => Ok(len as jint),
        Ok(None) => Ok(NONE),
        Err(error) if error.code() == ErrorCode::BufferTooSmall => Ok(-2 - error.amount() as jint),
        Err(error) => Err(error.into()),
    }
}

/// The value of a key into direct memory.
#[jni_mangle("io.memora.internal.Native")]
pub fn get<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    key: jlong,
    key_len: jint,
    out: jlong,
    capacity: jint,
) -> jint {
    guard(env, class, |_| {
        with(handle, |object| {
            let (key, mut out) = (Direct::at(key, key_len)?, Direct::at(out, capacity)?);
            length(object.entries()?.get_into(key.bytes(), out.bytes_mut()))
        })
    })
}

/// The value of a key into a direct buffer.
#[jni_mangle("io.memora.internal.Native")]
pub fn get_buffer<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    key: jlong,
    key_len: jint,
    out: JByteBuffer<'l>,
    start: jint,
    capacity: jint,
) -> jint {
    guard(env, class, |jvm| {
        let (key, mut out) = (Direct::at(key, key_len)?, jvm.direct(&out, start, capacity)?);
        with(handle, |object| length(object.entries()?.get_into(key.bytes(), out.bytes_mut())))
    })
}

/// The value of a key as a new array; null for a miss.
#[jni_mangle("io.memora.internal.Native")]
pub fn get_array<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    key: jlong,
    key_len: jint,
) -> jbyteArray {
    guard(env, class, |jvm| {
        let key = Direct::at(key, key_len)?;
        match with(handle, |object| Ok(object.entries()?.get(key.bytes())?))? {
            Some(value) => jvm.new_bytes(&value),
            None => Ok(std::ptr::null_mut()),
        }
    })
}

/// An entry into direct memory, in the form that the head of this file describes.
#[jni_mangle("io.memora.internal.Native")]
pub fn get_entry<'l>(
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
        let entry = with(handle, |object| Ok(object.entries()?.get_entry(key.bytes())?))?;
        Ok(entry_into(entry, out.bytes_mut()))
    })
}

/// Writes an entry: its length, or -1 for none, or -(2 + needed) when the memory is too small.
pub fn entry_into(entry: Option<Entry>, out: &mut [u8]) -> jint {
    let Some(entry) = entry else { return NONE };
    let len = ENTRY_HEADER + entry.value.len();
    match out.get_mut(..len) {
        Some(out) => {
            put_entry(out, &entry);
            len as jint
        }
        None => -2 - len as jint,
    }
}

/// The same as a new array; null for a miss.
#[jni_mangle("io.memora.internal.Native")]
pub fn get_entry_array<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    key: jlong,
    key_len: jint,
) -> jbyteArray {
    guard(env, class, |jvm| {
        let key = Direct::at(key, key_len)?;
        let Some(entry) = with(handle, |object| Ok(object.entries()?.get_entry(key.bytes())?))? else {
            return Ok(std::ptr::null_mut());
        };
        jvm.new_bytes(&entry_bytes(&entry))
    })
}

/// An entry in the form that the head of this file describes.
pub fn entry_bytes(entry: &Entry) -> Vec<u8> {
    let mut bytes = vec![0; ENTRY_HEADER + entry.value.len()];
    put_entry(&mut bytes, entry);
    bytes
}

/// `out` is exactly as long as the entry.
fn put_entry(out: &mut [u8], entry: &Entry) {
    let ttl = entry.ttl_ms.map_or(-1, |ttl| i64::try_from(ttl).unwrap_or(i64::MAX));
    out[0..8].copy_from_slice(&entry.version.0.to_ne_bytes());
    out[8..16].copy_from_slice(&ttl.to_ne_bytes());
    out[16..20].copy_from_slice(&entry.flags.to_ne_bytes());
    out[20..24].copy_from_slice(&(entry.value.len() as u32).to_ne_bytes());
    out[ENTRY_HEADER..].copy_from_slice(&entry.value);
}

/// Keys of one `get_many_address` at most.
const MANY: usize = 64;

/// Calls `found` with each key of those that are packed as its length (4 bytes) and its bytes.
fn unpack<'a>(mut packed: &'a [u8], mut found: impl FnMut(&'a [u8]) -> Result<()>) -> Result<()> {
    while let Some((head, tail)) = packed.split_first_chunk::<4>() {
        let len = u32::from_ne_bytes(*head) as usize;
        let (key, rest) = tail.split_at_checked(len).ok_or(ErrorCode::InvalidArgument)?;
        found(key)?;
        packed = rest;
    }
    Ok(())
}

/// Many values at once, by way of direct memory. `packed` holds each key after its length (4 bytes); `out` gets each value after
/// its length, or -1 as the length of a miss. The answer is the number of bytes in `out`, or -1 when they do not fit.
#[jni_mangle("io.memora.internal.Native")]
pub fn get_many_address<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    packed: jlong,
    len: jint,
    out: jlong,
    capacity: jint,
) -> jint {
    guard(env, class, |_| {
        let (packed, mut out) = (Direct::at(packed, len)?, Direct::at(out, capacity)?);
        let (mut keys, mut count) = ([&[][..]; MANY], 0);
        unpack(packed.bytes(), |key| {
            *keys.get_mut(count).ok_or(ErrorCode::InvalidArgument)? = key;
            count += 1;
            Ok(())
        })?;
        with(handle, |object| {
            // What is left of the memory; nothing from the first value on that does not fit.
            let mut rest = Some(out.bytes_mut());
            object.entries()?.get_many(&keys[..count], &mut |_, value| {
                let len = value.map_or(-1, |value| value.len() as i32);
                rest = rest.take().and_then(|rest| {
                    let (head, rest) = rest.split_first_chunk_mut::<4>()?;
                    *head = len.to_ne_bytes();
                    let value = value.unwrap_or_default();
                    let (place, rest) = rest.split_at_mut_checked(value.len())?;
                    place.copy_from_slice(value);
                    Some(rest)
                });
            })?;
            Ok(rest.map_or(NONE, |rest| capacity - rest.len() as jint))
        })
    })
}

/// Many values at once. `packed` holds each key after its length (4 bytes); the answer holds each value after its length, or
/// -1 as the length of a miss.
#[jni_mangle("io.memora.internal.Native")]
pub fn get_many<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    packed: JByteArray<'l>,
    len: jint,
) -> jbyteArray {
    guard(env, class, |jvm| {
        let packed = jvm.bytes(&packed, 0, len)?;
        let mut keys: Vec<&[u8]> = Vec::new();
        unpack(&packed, |key| {
            keys.push(key);
            Ok(())
        })?;
        let mut values: Vec<Option<Vec<u8>>> = vec![None; keys.len()];
        with(handle, |object| {
            object
                .entries()?
                .get_many(&keys, &mut |place, value| values[place] = value.map(<[u8]>::to_vec))?;
            Ok(())
        })?;
        let mut out = Vec::with_capacity(values.iter().flatten().map(|value| value.len() + 4).sum());
        for value in &values {
            out.extend_from_slice(&value.as_ref().map_or(-1, |value| value.len() as i32).to_ne_bytes());
            out.extend_from_slice(value.as_deref().unwrap_or_default());
        }
        jvm.new_bytes(&out)
    })
}

fn put(handle: jlong, how: jint, key: Direct, value: &[u8], ttl_ms: jlong, flags: jint) -> Answer<jlong> {
    let (how, options) = (mode(how)?, options(ttl_ms, flags));
    with(handle, |object| {
        let entries = object.entries()?;
        let version = match how {
            Mode::Set => Some(entries.set(key.bytes(), value, &options)?),
            Mode::Add => entries.add(key.bytes(), value, &options)?,
            Mode::Replace => entries.replace(key.bytes(), value, &options)?,
            Mode::Append => object.cache()?.append(key.bytes(), value)?,
            Mode::Prepend => object.cache()?.prepend(key.bytes(), value)?,
        };
        Ok(version.map_or(jlong::from(NONE), |version| version.0 as jlong))
    })
}

/// Stores a value from direct memory: the version, or -1 when it was not stored.
#[jni_mangle("io.memora.internal.Native")]
pub fn put_address<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    how: jint,
    key: jlong,
    key_len: jint,
    value: jlong,
    value_len: jint,
    ttl_ms: jlong,
    flags: jint,
) -> jlong {
    guard(env, class, |_| {
        let value = Direct::at(value, value_len)?;
        put(handle, how, Direct::at(key, key_len)?, value.bytes(), ttl_ms, flags)
    })
}

/// Stores a value from an array.
#[jni_mangle("io.memora.internal.Native")]
pub fn put_array<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    how: jint,
    key: jlong,
    key_len: jint,
    value: JByteArray<'l>,
    start: jint,
    value_len: jint,
    ttl_ms: jlong,
    flags: jint,
) -> jlong {
    guard(env, class, |jvm| {
        let value = jvm.bytes(&value, start, value_len)?;
        put(handle, how, Direct::at(key, key_len)?, &value, ttl_ms, flags)
    })
}

/// Stores a value from a direct buffer.
#[jni_mangle("io.memora.internal.Native")]
pub fn put_buffer<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    how: jint,
    key: jlong,
    key_len: jint,
    value: JByteBuffer<'l>,
    start: jint,
    value_len: jint,
    ttl_ms: jlong,
    flags: jint,
) -> jlong {
    guard(env, class, |jvm| {
        let value = jvm.direct(&value, start, value_len)?;
        put(handle, how, Direct::at(key, key_len)?, value.bytes(), ttl_ms, flags)
    })
}

/// Stores a value if the entry still has this version: the new version, or -1 for no entry, or -2 for another version, which
/// is then written to the first 8 bytes of the key's memory.
#[jni_mangle("io.memora.internal.Native")]
pub fn compare_and_swap<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    key: jlong,
    key_len: jint,
    value: JByteArray<'l>,
    start: jint,
    value_len: jint,
    version: jlong,
    ttl_ms: jlong,
    flags: jint,
    seen: jlong,
) -> jlong {
    guard(env, class, |jvm| {
        let value = jvm.bytes(&value, start, value_len)?;
        let (key, mut seen) = (Direct::at(key, key_len)?, Direct::at(seen, 8)?);
        let (version, options) = (Version(version as u64), options(ttl_ms, flags));
        let outcome =
            with(handle, |object| Ok(object.entries()?.cas(key.bytes(), &value, version, &options)?))?;
        Ok(match outcome {
            CasOutcome::Stored(version) => version.0 as jlong,
            CasOutcome::NotFound => -1,
            CasOutcome::Stale(version) => {
                seen.bytes_mut().copy_from_slice(&version.0.to_ne_bytes());
                -2
            }
        })
    })
}

/// Removes an entry: whether there was one.
#[jni_mangle("io.memora.internal.Native")]
pub fn delete<'l>(env: EnvUnowned<'l>, class: JClass<'l>, handle: jlong, key: jlong, key_len: jint) -> jint {
    guard(env, class, |_| {
        let key = Direct::at(key, key_len)?;
        with(handle, |object| Ok(jint::from(object.entries()?.delete(key.bytes())?)))
    })
}

/// Counts up or down: 1 with the new number at `out`, or 0 when there is no entry and no initial number.
#[jni_mangle("io.memora.internal.Native")]
pub fn count<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    key: jlong,
    key_len: jint,
    down: jboolean,
    by: jlong,
    has_initial: jboolean,
    initial: jlong,
    out: jlong,
) -> jint {
    guard(env, class, |_| {
        let (key, mut out) = (Direct::at(key, key_len)?, Direct::at(out, 8)?);
        let initial = has_initial.then_some(initial as u64);
        let number = with(handle, |object| {
            let entries = object.entries()?;
            Ok(if down {
                entries.decrement(key.bytes(), by as u64, initial)?
            } else {
                entries.increment(key.bytes(), by as u64, initial)?
            })
        })?;
        Ok(match number {
            Some(number) => {
                out.bytes_mut().copy_from_slice(&number.to_ne_bytes());
                1
            }
            None => 0,
        })
    })
}

/// Adds an entry with its key: the length of the key (4), key, entry.
pub fn add_entry(out: &mut Vec<u8>, key: &[u8], entry: &Entry) {
    out.extend_from_slice(&(key.len() as u32).to_ne_bytes());
    out.extend_from_slice(key);
    let start = out.len();
    out.resize(start + ENTRY_HEADER + entry.value.len(), 0);
    put_entry(&mut out[start..], entry);
}

/// A part of the entries: the next cursor (8 bytes), then each entry as length of the key (4), key, entry.
#[jni_mangle("io.memora.internal.Native")]
pub fn scan<'l>(
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
            Ok(object.entries()?.scan(cursor as u64, limit, &mut |key, entry| {
                add_entry(&mut out, key, entry);
            })?)
        })?;
        out[..8].copy_from_slice(&next.to_ne_bytes());
        jvm.new_bytes(&out)
    })
}

/// How many entries there are.
#[jni_mangle("io.memora.internal.Native")]
pub fn size<'l>(env: EnvUnowned<'l>, class: JClass<'l>, handle: jlong) -> jlong {
    guard(env, class, |_| with(handle, |object| Ok(object.entries()?.len()? as jlong)))
}
