//! Topics and their subscribers.

use std::time::Duration;

use jni::objects::{JByteArray, JClass, JString};
use jni::sys::{jbyteArray, jint, jlong};
use jni::{EnvUnowned, jni_mangle};
use memora::TopicOptions;

use crate::fabric::name;
use crate::guard::guard;
use crate::handles::{insert, with};
use crate::object::{Kind, Object, OneAtATime};

/// A topic of a fabric; `limit` 0 is none.
#[jni_mangle("io.memora.internal.Native")]
pub fn fabric_topic<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    topic: JString<'l>,
    limit: jlong,
) -> jlong {
    guard(env, class, |jvm| {
        let topic = name(jvm, &topic)?;
        let options = TopicOptions { limit: u64::try_from(limit).ok().filter(|limit| *limit != 0) };
        with(handle, |object| {
            let topic = object.fabric()?.topic(&topic, &options)?;
            insert(Object { parent: handle, kind: Kind::Topic(topic) })
        })
    })
}

/// A topic that is there already.
#[jni_mangle("io.memora.internal.Native")]
pub fn fabric_open_topic<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    topic: JString<'l>,
) -> jlong {
    guard(env, class, |jvm| {
        let topic = name(jvm, &topic)?;
        with(handle, |object| {
            let topic = object.fabric()?.open_topic(&topic)?;
            insert(Object { parent: handle, kind: Kind::Topic(topic) })
        })
    })
}

/// Publishes a value, or, with null, that there is none any more: the number of the update.
#[jni_mangle("io.memora.internal.Native")]
pub fn topic_publish<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    key: JByteArray<'l>,
    value: JByteArray<'l>,
) -> jlong {
    guard(env, class, |jvm| {
        let key = jvm.all_bytes(&key)?;
        let value = if value.is_null() { None } else { Some(jvm.all_bytes(&value)?) };
        with(handle, |object| {
            let topic = object.topic()?;
            let number = match &value {
                Some(value) => topic.publish(&key, value)?,
                None => topic.retract(&key)?,
            };
            Ok(number as jlong)
        })
    })
}

/// A subscriber of the topic.
#[jni_mangle("io.memora.internal.Native")]
pub fn topic_subscribe<'l>(env: EnvUnowned<'l>, class: JClass<'l>, topic: jlong) -> jlong {
    guard(env, class, |_| {
        with(topic, |object| {
            let subscriber = object.topic()?.subscribe()?;
            insert(Object { parent: topic, kind: Kind::TopicSubscriber(OneAtATime::new(subscriber)) })
        })
    })
}

/// The next update within so many microseconds: number (8 bytes), conflated (8), length of the key (4), 1 if it was retracted (4), key,
/// value; null for none.
#[jni_mangle("io.memora.internal.Native")]
pub fn topic_next<'l>(env: EnvUnowned<'l>, class: JClass<'l>, handle: jlong, wait_us: jint) -> jbyteArray {
    guard(env, class, |jvm| {
        let wait = Duration::from_micros(wait_us.max(0) as u64);
        let Some(update) = with(handle, |object| Ok(object.topic_subscriber()?.next(Some(wait))?))? else {
            return Ok(std::ptr::null_mut());
        };
        let value = update.value.as_deref().unwrap_or_default();
        let mut bytes = Vec::with_capacity(24 + update.key.len() + value.len());
        bytes.extend_from_slice(&update.number.to_ne_bytes());
        bytes.extend_from_slice(&update.conflated.to_ne_bytes());
        bytes.extend_from_slice(&(update.key.len() as u32).to_ne_bytes());
        bytes.extend_from_slice(&u32::from(update.value.is_none()).to_ne_bytes());
        bytes.extend_from_slice(&update.key);
        bytes.extend_from_slice(value);
        jvm.new_bytes(&bytes)
    })
}
