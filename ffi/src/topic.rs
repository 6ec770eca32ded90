//! Entries of topics: the newest value of each key.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_int, c_void};

use memora_core::{
    Error, ErrorCode, Fabric, Result, Topic, TopicOptions, TopicStats, TopicSubscriber, TopicUpdate,
};

use crate::channel::{in_slices, timed_out};
use crate::entries::on;
use crate::exclusive::Exclusive;
use crate::fabric::memora_fabric_t;
use crate::guard::{Answer, Border, Options, call};
use crate::handles;

/// A topic: publishers give keys new values, subscribers get the newest. Open it with memora_topic_open(), close it with
/// memora_topic_close(). May be used by any number of threads at once.
#[allow(non_camel_case_types)]
pub struct memora_topic_t {
    _opaque: [u8; 0],
}

/// Gets the newest values of a topic. Open it with memora_topic_subscribe(), close it with memora_topic_subscriber_close(). For one
/// thread at a time: another one is answered MEMORA_BUSY.
#[allow(non_camel_case_types)]
pub struct memora_topic_subscriber_t {
    _opaque: [u8; 0],
}

/// Options of a topic. Fill it with memora_topic_options_init().
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct memora_topic_options_t {
    /// Bytes of this structure in the calling program; set by the init function.
    pub struct_size: usize,
    /// The most bytes of values and index together. 0: what the fabric has.
    pub limit: u64,
}

// SAFETY: repr(C), `struct_size` first, two integers of eight bytes.
unsafe impl Options for memora_topic_options_t {
    const DEFAULT: memora_topic_options_t =
        memora_topic_options_t { struct_size: size_of::<memora_topic_options_t>(), limit: 0 };
    const NAME: &'static str = "memora_topic_options_t";
}

/// What came with a value.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct memora_update_t {
    /// How often the key was published.
    pub number: u64,
    /// Updates of the key that were skipped because newer ones came.
    pub conflated: u64,
    /// Bytes of the key.
    pub key_len: usize,
    /// Bytes of the value.
    pub value_len: usize,
    /// Not 0: the key was retracted and has no value.
    pub retracted: u32,
    /// 0.
    pub reserved: u32,
}

/// Figures of a topic.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct memora_topic_stats_t {
    /// Keys that were ever published, retracted ones included.
    pub keys: u64,
    /// Bytes of their values with keys and headers.
    pub bytes: u64,
    /// Updates ever published.
    pub updates: u64,
}

// SAFETY: repr(C), three fields of eight bytes.
unsafe impl Answer for memora_topic_stats_t {}

/// A subscriber behind a handle.
pub(crate) struct TopicSubscriberHandle {
    following: Exclusive<Following>,
}

struct Following {
    subscriber: TopicSubscriber,
    /// An update that did not fit the caller's buffers.
    held: Option<TopicUpdate>,
}

impl TopicSubscriberHandle {
    fn new(subscriber: TopicSubscriber) -> TopicSubscriberHandle {
        TopicSubscriberHandle { following: Exclusive::new(Following { subscriber, held: None }) }
    }

    /// Nobody follows any more; who waits is told.
    pub(crate) fn end(&self) -> Result<()> {
        self.following.close();
        Ok(())
    }

    fn next(
        &self,
        border: &Border,
        timeout_ms: i64,
        key: &mut [u8],
        value: &mut [u8],
        update: *mut memora_update_t,
    ) -> Result<()> {
        self.following.with("subscriber of a topic", |following| {
            let found = match following.held.take() {
                Some(held) => held,
                None => self.wait(&mut following.subscriber, timeout_ms)?,
            };
            let bytes = found.value.as_deref().unwrap_or_default();
            let answer = memora_update_t {
                number: found.number,
                conflated: found.conflated,
                key_len: found.key.len(),
                value_len: bytes.len(),
                retracted: u32::from(found.value.is_none()),
                reserved: 0,
            };
            border.put(update, answer);
            match (key.get_mut(..answer.key_len), value.get_mut(..answer.value_len)) {
                (Some(key), Some(value)) => {
                    key.copy_from_slice(&found.key);
                    value.copy_from_slice(bytes);
                    Ok(())
                }
                _ => {
                    let needed = answer.key_len.max(answer.value_len) as u64;
                    let text = format!(
                        "The key has {} bytes and the value {}: the buffers are too small.",
                        answer.key_len, answer.value_len
                    );
                    following.held = Some(found);
                    Err(Error::with_amount(ErrorCode::BufferTooSmall, needed, text))
                }
            }
        })
    }

    fn wait(&self, subscriber: &mut TopicSubscriber, timeout_ms: i64) -> Result<TopicUpdate> {
        if timeout_ms == 0 {
            return subscriber.try_next()?.ok_or_else(|| ErrorCode::NotFound.into());
        }
        in_slices(timeout_ms, || self.following.is_closing(), |wait| subscriber.next(Some(wait)))?
            .ok_or_else(timed_out)
    }
}

/// Fills `options` with the defaults. `struct_size` is sizeof *options.
///
/// Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_topic_options_init(
    options: *mut memora_topic_options_t,
    struct_size: usize,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe { call(|border| border.init_options(options, struct_size)) }
}

/// Opens the topic `name` of `fabric`, or creates it with `options`. With `options` NULL it must be there.
///
/// On success `*topic` is a new handle, to be closed with memora_topic_close(); else it is NULL.
/// Returns MEMORA_OK, MEMORA_NOT_FOUND, MEMORA_INVALID_ARGUMENT, MEMORA_INVALID_NAME, MEMORA_WRONG_KIND,
/// MEMORA_WRONG_OPTIONS, MEMORA_LIMIT_TOO_SMALL, MEMORA_TOO_MANY_OBJECTS, MEMORA_FULL, MEMORA_NO_SPACE, MEMORA_READ_ONLY,
/// MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_topic_open(
    fabric: *mut memora_fabric_t,
    name: *const c_char,
    options: *const memora_topic_options_t,
    topic: *mut *mut memora_topic_t,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            border.open(topic, || {
                let name = border.text(name, "name")?;
                if options.is_null() {
                    return handles::with(handles::number(fabric), |fabric: &Fabric| fabric.open_topic(name));
                }
                let limit = border.options(options)?.limit;
                let options = TopicOptions { limit: (limit != 0).then_some(limit) };
                handles::with(handles::number(fabric), |fabric: &Fabric| fabric.topic(name, &options))
            })
        })
    }
}

/// Closes the handle. NULL is allowed and does nothing. Subscribers stay open.
///
/// Returns MEMORA_OK, MEMORA_CLOSED, MEMORA_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_topic_close(topic: *mut memora_topic_t) -> c_int {
    // SAFETY: the handle is a number, nothing is read through it.
    unsafe { call(|_| handles::close::<Topic>(handles::number(topic))) }
}

/// Gives a key a new value. `*number` (may be NULL) becomes how often the key was published. Waits for nobody.
///
/// Returns MEMORA_OK, MEMORA_KEY_TOO_LONG, MEMORA_VALUE_TOO_LONG, MEMORA_FULL, MEMORA_NO_SPACE, MEMORA_BUSY, MEMORA_READ_ONLY,
/// MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_topic_publish(
    topic: *mut memora_topic_t,
    key: *const c_void,
    key_len: usize,
    value: *const c_void,
    value_len: usize,
    number: *mut u64,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        on(topic, |border, topic: &Topic| {
            let (key, value) = (border.bytes(key, key_len, "key")?, border.bytes(value, value_len, "value")?);
            border.put(number, topic.publish(key, value)?);
            Ok(())
        })
    }
}

/// Publishes that a key has no value any more. `*number` (may be NULL) becomes how often the key was published.
///
/// Returns what memora_topic_publish() does.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_topic_retract(
    topic: *mut memora_topic_t,
    key: *const c_void,
    key_len: usize,
    number: *mut u64,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        on(topic, |border, topic: &Topic| {
            border.put(number, topic.retract(border.bytes(key, key_len, "key")?)?);
            Ok(())
        })
    }
}

/// Fills `stats` with figures of the topic. `struct_size` is sizeof *stats.
///
/// Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_topic_stats(
    topic: *mut memora_topic_t,
    stats: *mut memora_topic_stats_t,
    struct_size: usize,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        on(topic, |border, topic: &Topic| {
            let TopicStats { keys, bytes, updates } = topic.stats()?;
            border.put_sized(stats, struct_size, memora_topic_stats_t { keys, bytes, updates })
        })
    }
}

/// Becomes a subscriber of the topic: it gets the newest value of each key first, then those that are published.
///
/// On success `*subscriber` is a new handle, to be closed with memora_topic_subscriber_close(); else it is NULL.
/// Returns MEMORA_OK, MEMORA_TOO_MANY_SUBSCRIBERS, MEMORA_FULL, MEMORA_NO_SPACE, MEMORA_READ_ONLY, MEMORA_INVALID_ARGUMENT,
/// MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_topic_subscribe(
    topic: *mut memora_topic_t,
    subscriber: *mut *mut memora_topic_subscriber_t,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            border.open(subscriber, || {
                handles::with(handles::number(topic), |topic: &Topic| topic.subscribe())
                    .map(TopicSubscriberHandle::new)
            })
        })
    }
}

/// Takes the newest value of some key that has one which this subscriber has not got: the key goes to `key`, the value to `value`, and
/// `*update` (may be NULL) becomes what came with it. Waits for `timeout_ms` milliseconds at most; MEMORA_FOREVER: without end; 0: not at
/// all.
///
/// With MEMORA_BUFFER_TOO_SMALL the update stays for the next call, and `*update` says how long key and value are.
/// Returns MEMORA_OK, MEMORA_NOT_FOUND (with `timeout_ms` 0), MEMORA_TIMED_OUT, MEMORA_BUFFER_TOO_SMALL, MEMORA_BUSY, MEMORA_EJECTED,
/// MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_topic_next(
    subscriber: *mut memora_topic_subscriber_t,
    timeout_ms: i64,
    key: *mut c_void,
    key_capacity: usize,
    value: *mut c_void,
    value_capacity: usize,
    update: *mut memora_update_t,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        on(subscriber, |border, subscriber: &TopicSubscriberHandle| {
            let key = border.buffer(key, key_capacity, "key")?;
            let value = border.buffer(value, value_capacity, "value")?;
            subscriber.next(border, timeout_ms, key, value, update)
        })
    }
}

/// Closes the handle. NULL is allowed and does nothing. A call of another thread that waits ends with MEMORA_CLOSED.
///
/// Returns MEMORA_OK, MEMORA_CLOSED, MEMORA_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_topic_subscriber_close(subscriber: *mut memora_topic_subscriber_t) -> c_int {
    // SAFETY: the handle is a number, nothing is read through it.
    unsafe { call(|_| handles::close::<TopicSubscriberHandle>(handles::number(subscriber))) }
}
