//! Change feeds of stores.

use std::time::Duration;

use jni::objects::{JByteArray, JClass};
use jni::sys::{jbyteArray, jint, jlong};
use jni::{EnvUnowned, jni_mangle};
use memora::{Change, ErrorCode, Feed, FeedFrom, FeedPosition};

use crate::guard::guard;
use crate::handles::{insert, with};
use crate::object::{Kind, Object, OneAtATime};

/// Stands for a deletion in place of the length of a value.
const DELETED: u32 = u32::MAX;

/// A feed with the change that the JVM has not got yet, and the position in front of it.
pub struct Following {
    feed: Feed,
    held: Option<(Change, FeedPosition)>,
}

/// A feed of the keys that begin with `prefix`; `from` 0 oldest, 1 newest, 2 behind the position.
#[jni_mangle("io.memora.internal.Native")]
pub fn feed<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    store: jlong,
    from: jint,
    position_of: jlong,
    flush: jlong,
    index: jlong,
    prefix: JByteArray<'l>,
) -> jlong {
    guard(env, class, |jvm| {
        let prefix = jvm.all_bytes(&prefix)?;
        let from = match from {
            0 => FeedFrom::Oldest,
            1 => FeedFrom::Newest,
            2 => FeedFrom::Position(FeedPosition {
                store: position_of as u64,
                flush: flush as u64,
                index: index as u64,
            }),
            _ => return Err(ErrorCode::InvalidArgument.into()),
        };
        with(store, |object| {
            let feed = object.store()?.feed(from, &prefix)?;
            let following = Following { feed, held: None };
            insert(Object { parent: store, kind: Kind::Feed(Box::new(OneAtATime::new(following))) })
        })
    })
}

/// The next change within so many microseconds: position (24 bytes), order (8), expiry (8, 0 for none), flags (4), length of the
/// key (4), length of the value (4, all ones for a deletion), key, value; null for none.
#[jni_mangle("io.memora.internal.Native")]
pub fn feed_next<'l>(env: EnvUnowned<'l>, class: JClass<'l>, handle: jlong, wait_us: jint) -> jbyteArray {
    guard(env, class, |jvm| {
        let found = with(handle, |object| {
            let following = &mut *object.feed()?;
            if following.held.is_none() {
                let before = following.feed.position();
                let wait = Duration::from_micros(wait_us.max(0) as u64);
                following.held = following.feed.next(Some(wait))?.map(|change| (change, before));
            }
            Ok(following.held.as_ref().map(|(change, _)| encoded(change)))
        })?;
        let Some(bytes) = found else { return Ok(std::ptr::null_mut()) };
        // It counts as given only when there is an array for it.
        let array = jvm.new_bytes(&bytes)?;
        with(handle, |object| {
            object.feed()?.held = None;
            Ok(())
        })?;
        Ok(array)
    })
}

fn encoded(change: &Change) -> Vec<u8> {
    let value = change.value.as_deref();
    let mut bytes = Vec::with_capacity(52 + change.key.len() + value.map_or(0, <[u8]>::len));
    let FeedPosition { store, flush, index } = change.position;
    for word in [store, flush, index, change.order, change.expires_ms.unwrap_or(0)] {
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    let value_len = value.map_or(DELETED, |value| value.len() as u32);
    for half in [change.flags, change.key.len() as u32, value_len] {
        bytes.extend_from_slice(&half.to_ne_bytes());
    }
    bytes.extend_from_slice(&change.key);
    bytes.extend_from_slice(value.unwrap_or_default());
    bytes
}

/// Where one goes on who has handled what was given: 24 bytes.
#[jni_mangle("io.memora.internal.Native")]
pub fn feed_position<'l>(env: EnvUnowned<'l>, class: JClass<'l>, handle: jlong) -> jbyteArray {
    guard(env, class, |jvm| {
        let position = with(handle, |object| {
            let following = &*object.feed()?;
            Ok(following.held.as_ref().map_or_else(|| following.feed.position(), |(_, before)| *before))
        })?;
        jvm.new_bytes(&[position.store, position.flush, position.index].map(u64::to_ne_bytes).concat())
    })
}
