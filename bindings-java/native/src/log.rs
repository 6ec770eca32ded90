//! Logs, their appenders and readers.
//!
//! A message in scratch memory is its position (8 bytes), the time at which it was published (8) and payload.

use std::time::Duration;

use jni::objects::{JByteArray, JClass, JString};
use jni::sys::{jboolean, jbyteArray, jint, jlong, jstring};
use jni::{EnvUnowned, jni_mangle};
use memora::{
    ChannelKind, ChannelOptions, Error, ErrorCode, LogFiles, LogMessage, LogReader, OverrunPolicy, ReadFrom,
    Retention,
};

use crate::fabric::durability;
use crate::guard::{Answer, Direct, guard};
use crate::handles::{insert, with};
use crate::object::{Kind, Object, OneAtATime};

/// Answer for "nothing there".
const NONE: jint = -1;
/// Bytes of a message before its payload.
const MESSAGE_HEADER: usize = 16;

/// A reader with what it took and the JVM has not fetched yet.
pub struct Reading {
    reader: LogReader,
    /// A message that did not fit the memory of `log_recv`.
    held: Option<(LogMessage, Vec<u8>)>,
    /// The payload of the last one, whose memory is used again.
    buffer: Vec<u8>,
}

/// Opens a log, or makes it; `bytes` 0 is the default, `age_ms` 0 is no age. `dir` null is no files; `file_bytes_max` 0 is no limit,
/// `file_bytes` 0 the default.
#[jni_mangle("io.memora.internal.Native")]
pub fn fabric_log<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    log: JString<'l>,
    bytes: jlong,
    age_ms: jlong,
    keeps_for_readers: jboolean,
    dir: JString<'l>,
    how: jint,
    interval_ms: jint,
    file_bytes_max: jlong,
    file_bytes: jlong,
) -> jlong {
    guard(env, class, |jvm| {
        let log = jvm.text(&log)?.ok_or(ErrorCode::InvalidName)?;
        let mut retention = Retention::default();
        if bytes != 0 {
            retention.bytes = bytes as u64;
        }
        retention.age = (age_ms != 0).then(|| Duration::from_millis(age_ms as u64));
        let overrun = if keeps_for_readers { OverrunPolicy::Block } else { OverrunPolicy::Overrun };
        let mut files = jvm.text(&dir)?.map(LogFiles::new);
        if let Some(files) = &mut files {
            files.durability = durability(how, interval_ms)?;
            files.bytes = u64::try_from(file_bytes_max).ok().filter(|bytes| *bytes > 0);
            if file_bytes > 0 {
                files.file_bytes = file_bytes as u64;
            }
        }
        let (kind, retention) = (ChannelKind::Log, Some(retention));
        let options = ChannelOptions { kind, overrun, retention, files, ..ChannelOptions::default() };
        with(handle, |object| {
            let channel = object.fabric()?.channel(&log, &options)?;
            insert(Object { parent: handle, kind: Kind::Channel(channel) })
        })
    })
}

/// An appender of a log.
#[jni_mangle("io.memora.internal.Native")]
pub fn appender<'l>(env: EnvUnowned<'l>, class: JClass<'l>, log: jlong) -> jlong {
    guard(env, class, |_| {
        with(log, |object| {
            let appender = object.channel()?.appender()?;
            insert(Object { parent: log, kind: Kind::Appender(OneAtATime::new(appender)) })
        })
    })
}

/// Appends from direct memory: the position.
#[jni_mangle("io.memora.internal.Native")]
pub fn append<'l>(env: EnvUnowned<'l>, class: JClass<'l>, handle: jlong, payload: jlong, len: jint) -> jlong {
    guard(env, class, |_| {
        let payload = Direct::at(payload, len)?;
        with(handle, |object| Ok(object.appender()?.append(payload.bytes())? as jlong))
    })
}

/// Appends from an array: the position.
#[jni_mangle("io.memora.internal.Native")]
pub fn append_array<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    payload: JByteArray<'l>,
    start: jint,
    len: jint,
) -> jlong {
    guard(env, class, |jvm| {
        let payload = jvm.bytes(&payload, start, len)?;
        with(handle, |object| Ok(object.appender()?.append(&payload)? as jlong))
    })
}

/// Milliseconds between two syncs of a message that asks for durability `async` by itself.
const INTERVAL_MS: jint = 100;

/// Appends from an array with a durability of its own: the position.
#[jni_mangle("io.memora.internal.Native")]
pub fn append_durable<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    payload: JByteArray<'l>,
    how: jint,
) -> jlong {
    guard(env, class, |jvm| {
        let payload = jvm.all_bytes(&payload)?;
        let how = durability(how, INTERVAL_MS)?;
        with(handle, |object| Ok(object.appender()?.append_durable(&payload, how)? as jlong))
    })
}

/// Waits until everything that was appended is in files that are synced.
#[jni_mangle("io.memora.internal.Native")]
pub fn log_flush<'l>(env: EnvUnowned<'l>, class: JClass<'l>, log: jlong) {
    guard(env, class, |_| with(log, |object| Ok(object.channel()?.flush()?)))
}

fn read_from(from: jint, position: jlong) -> Answer<ReadFrom> {
    match from {
        0 => Ok(ReadFrom::Oldest),
        1 => Ok(ReadFrom::Newest),
        2 => Ok(ReadFrom::Position(position as u64)),
        _ => Err(ErrorCode::InvalidArgument.into()),
    }
}

/// A reader of a log, without a name if that is null; `from` 0 oldest, 1 newest, 2 the position.
#[jni_mangle("io.memora.internal.Native")]
pub fn log_reader<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    log: jlong,
    name: JString<'l>,
    from: jint,
    position: jlong,
) -> jlong {
    guard(env, class, |jvm| {
        let name = jvm.text(&name)?;
        let from = read_from(from, position)?;
        with(log, |object| {
            let channel = object.channel()?;
            let reader = match &name {
                Some(name) => channel.named_reader(name, from)?,
                None => channel.reader(from)?,
            };
            let reading = Reading { reader, held: None, buffer: Vec::new() };
            insert(Object { parent: log, kind: Kind::LogReader(OneAtATime::new(reading)) })
        })
    })
}

/// Reads one message into direct memory: the length of its payload, -1 for none in time, or -(2 + length) when it does not
/// fit: `log_held` fetches it then.
#[jni_mangle("io.memora.internal.Native")]
pub fn log_recv<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    out: jlong,
    capacity: jint,
    wait_us: jint,
) -> jint {
    guard(env, class, |_| {
        let mut out = Direct::at(out, capacity)?;
        with(handle, |object| {
            let reading = &mut *object.log_reader()?;
            // Before a message is taken that could not be told.
            let (head, body) =
                out.bytes_mut().split_at_mut_checked(MESSAGE_HEADER).ok_or(ErrorCode::InvalidArgument)?;
            if reading.held.is_none() {
                let mut buffer = std::mem::take(&mut reading.buffer);
                let found = match u64::try_from(wait_us) {
                    Ok(0) | Err(_) => reading.reader.try_recv(&mut buffer),
                    Ok(us) => reading.reader.recv(&mut buffer, Some(Duration::from_micros(us))),
                };
                match found? {
                    Some(message) => reading.held = Some((message, buffer)),
                    None => {
                        reading.buffer = buffer;
                        return Ok(NONE);
                    }
                }
            }
            let Some((message, payload)) = reading.held.take() else { return Ok(NONE) };
            let len = payload.len();
            head[0..8].copy_from_slice(&message.position.to_ne_bytes());
            head[8..16].copy_from_slice(&message.time_ms.to_ne_bytes());
            match body.get_mut(..len) {
                Some(body) => {
                    body.copy_from_slice(&payload);
                    reading.buffer = payload;
                    Ok(len as jint)
                }
                None => {
                    reading.held = Some((message, payload));
                    Ok(-2 - len as jint)
                }
            }
        })
    })
}

/// The payload of a message that did not fit; null when there is none.
#[jni_mangle("io.memora.internal.Native")]
pub fn log_held<'l>(env: EnvUnowned<'l>, class: JClass<'l>, handle: jlong) -> jbyteArray {
    guard(env, class, |jvm| match with(handle, |object| Ok(object.log_reader()?.held.take()))? {
        Some((_, payload)) => jvm.new_bytes(&payload),
        None => Ok(std::ptr::null_mut()),
    })
}

/// Confirms everything that was read.
#[jni_mangle("io.memora.internal.Native")]
pub fn log_commit<'l>(env: EnvUnowned<'l>, class: JClass<'l>, handle: jlong) {
    guard(env, class, |_| with(handle, |object| Ok(object.log_reader()?.reader.commit()?)))
}

/// Goes on elsewhere.
#[jni_mangle("io.memora.internal.Native")]
pub fn log_seek<'l>(env: EnvUnowned<'l>, class: JClass<'l>, handle: jlong, from: jint, position: jlong) {
    guard(env, class, |_| {
        let from = read_from(from, position)?;
        with(handle, |object| {
            let reading = &mut *object.log_reader()?;
            reading.held = None;
            Ok(reading.reader.seek(from)?)
        })
    })
}

/// The position of the message that is read next.
#[jni_mangle("io.memora.internal.Native")]
pub fn log_position<'l>(env: EnvUnowned<'l>, class: JClass<'l>, handle: jlong) -> jlong {
    guard(env, class, |_| with(handle, |object| Ok(object.log_reader()?.reader.position() as jlong)))
}

/// Messages from there to the end.
#[jni_mangle("io.memora.internal.Native")]
pub fn log_lag<'l>(env: EnvUnowned<'l>, class: JClass<'l>, handle: jlong) -> jlong {
    guard(env, class, |_| with(handle, |object| Ok(object.log_reader()?.reader.lag()? as jlong)))
}

/// Ends a named reader whose holder is away. False if there is none.
#[jni_mangle("io.memora.internal.Native")]
pub fn log_forget<'l>(env: EnvUnowned<'l>, class: JClass<'l>, log: jlong, name: JString<'l>) -> jboolean {
    guard(env, class, |jvm| {
        let name = jvm.text(&name)?.ok_or(ErrorCode::InvalidName)?;
        with(log, |object| Ok(object.channel()?.unsubscribe(&name)?))
    })
}

/// Figures of a log; then a line for each named reader: whether it is held, position, lag, name.
#[jni_mangle("io.memora.internal.Native")]
pub fn log_stats<'l>(env: EnvUnowned<'l>, class: JClass<'l>, log: jlong) -> jstring {
    guard(env, class, |jvm| {
        let text = with(log, |object| {
            let stats = object.channel()?.stats()?;
            let Some(of_log) = stats.log else {
                return Err(Error::new(ErrorCode::WrongKind, "The channel is no log.").into());
            };
            let (durable, file_bytes, poisoned) = of_log
                .files
                .as_ref()
                .map_or((0, 0, false), |files| (files.durable, files.bytes, files.poisoned));
            let mut lines = format!(
                "{}\t{}\t{}\t{}\t{}\t{durable}\t{file_bytes}\t{}",
                of_log.oldest,
                of_log.end,
                of_log.bytes,
                of_log.bytes_max,
                stats.publishers,
                u8::from(poisoned)
            );
            for it in &of_log.readers {
                lines.push_str(&format!("\n{}\t{}\t{}\t{}", u8::from(it.held), it.position, it.lag, it.name));
            }
            Ok(lines)
        })?;
        jvm.new_text(&text)
    })
}
