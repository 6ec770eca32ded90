//! Fabrics, and the objects that are opened from them. Lists cross as text: one line for each, its fields between tabs.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jni::objects::{JClass, JString};
use jni::sys::{jboolean, jint, jlong, jstring};
use jni::{EnvUnowned, jni_mangle};
use memora::{
    Acknowledge, Backend, CacheOptions, ChannelKind, ChannelOptions, Create, DeadLetters, Durability,
    ErrorCode, Fabric, FabricOptions, OverrunPolicy, StoreOptions, WhenFull,
};

use crate::guard::{Answer, Fault, Jvm, guard};
use crate::handles::{insert, with};
use crate::object::{Kind, Object};

pub fn name<'l>(jvm: &mut Jvm<'l>, name: &JString<'l>) -> Answer<String> {
    jvm.text(name)?.ok_or(Fault::from(ErrorCode::InvalidName))
}

/// Opens a fabric. `home` null, `limit` 0, `mode` -1 and `group` -1 stand for the defaults.
#[jni_mangle("io.memora.internal.Native")]
pub fn fabric_open<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    fabric: JString<'l>,
    home: JString<'l>,
    limit: jlong,
    mode: jint,
    group: jlong,
    backend: jint,
    read_only: jboolean,
    create: jint,
) -> jlong {
    guard(env, class, |jvm| {
        let mut options = FabricOptions::new().read_only(read_only).create(match create {
            0 => Create::OpenOrCreate,
            1 => Create::CreateNew,
            2 => Create::OpenOnly,
            _ => return Err(ErrorCode::InvalidArgument.into()),
        });
        options = options.backend(match backend {
            0 => Backend::File,
            1 => Backend::Posix,
            2 => Backend::SysV,
            3 => Backend::Memfd,
            4 => Backend::Heap,
            _ => return Err(ErrorCode::InvalidArgument.into()),
        });
        if let Some(home) = jvm.text(&home)? {
            options = options.home(PathBuf::from(home));
        }
        if limit > 0 {
            options = options.limit(limit as u64);
        }
        if mode >= 0 {
            options = options.mode(mode as u32);
        }
        if let Ok(group) = u32::try_from(group) {
            options = options.group(group);
        }
        let fabric = options.open(&name(jvm, &fabric)?)?;
        insert(Object { parent: 0, kind: Kind::Fabric(fabric) })
    })
}

/// The file of a fabric; empty where it has none.
#[jni_mangle("io.memora.internal.Native")]
pub fn fabric_path<'l>(env: EnvUnowned<'l>, class: JClass<'l>, handle: jlong) -> jstring {
    guard(env, class, |jvm| {
        let path = with(handle, |object| {
            Ok(object.fabric()?.path().map_or(String::new(), |path| path.display().to_string()))
        })?;
        jvm.new_text(&path)
    })
}

/// What a fabric is, for people.
#[jni_mangle("io.memora.internal.Native")]
pub fn fabric_info<'l>(env: EnvUnowned<'l>, class: JClass<'l>, handle: jlong) -> jstring {
    guard(env, class, |jvm| {
        let stat = with(handle, |object| Ok(object.fabric()?.stat()?))?;
        let info = &stat.info;
        jvm.new_text(&format!(
            "fabric {}: limit {} bytes, {} reserved, {} of {} chunks of {} bytes in use\n\
             {} processes attached, {} threads reaped so far, layout {}, mode {:o}\n",
            info.name,
            info.limit,
            stat.reserved_bytes,
            stat.chunks_used,
            stat.chunks,
            stat.chunk_bytes,
            info.processes,
            stat.reaped_threads,
            info.layout_version,
            info.mode & 0o777,
        ))
    })
}

/// The objects of a fabric: id, name, kind, chunks, bytes.
#[jni_mangle("io.memora.internal.Native")]
pub fn fabric_objects<'l>(env: EnvUnowned<'l>, class: JClass<'l>, handle: jlong) -> jstring {
    guard(env, class, |jvm| {
        let objects = with(handle, |object| Ok(object.fabric()?.objects()?))?;
        let mut lines = String::new();
        for object in objects {
            let kind = object.kind_name();
            // Writing to a string cannot fail.
            let _ = writeln!(
                lines,
                "{}\t{}\t{kind}\t{}\t{}",
                object.id, object.name, object.chunks, object.bytes
            );
        }
        jvm.new_text(&lines)
    })
}

/// What is wrong in a fabric.
#[jni_mangle("io.memora.internal.Native")]
pub fn fabric_check<'l>(env: EnvUnowned<'l>, class: JClass<'l>, handle: jlong) -> jstring {
    guard(env, class, |jvm| {
        let report = with(handle, |object| Ok(object.fabric()?.check()?))?;
        let lines: String = report
            .problems
            .iter()
            .map(|problem| format!("{}: {} ({})\n", problem.layer, problem.what, problem.place))
            .collect();
        jvm.new_text(&lines)
    })
}

/// Takes over what the dead held.
#[jni_mangle("io.memora.internal.Native")]
pub fn fabric_reap<'l>(env: EnvUnowned<'l>, class: JClass<'l>, handle: jlong) {
    guard(env, class, |_| with(handle, |object| Ok(object.fabric()?.reap().map(|_| ())?)))
}

/// The names of the fabrics of a home.
#[jni_mangle("io.memora.internal.Native")]
pub fn fabric_list<'l>(env: EnvUnowned<'l>, class: JClass<'l>, home: JString<'l>) -> jstring {
    guard(env, class, |jvm| {
        let home = jvm.text(&home)?;
        let fabrics = Fabric::list(home.as_deref().map(Path::new))?;
        let lines: String = fabrics.iter().map(|fabric| format!("{}\n", fabric.name)).collect();
        jvm.new_text(&lines)
    })
}

/// Removes a fabric.
#[jni_mangle("io.memora.internal.Native")]
pub fn fabric_remove<'l>(env: EnvUnowned<'l>, class: JClass<'l>, home: JString<'l>, fabric: JString<'l>) {
    guard(env, class, |jvm| {
        let home = jvm.text(&home)?;
        Ok(Fabric::remove(home.as_deref().map(Path::new), &name(jvm, &fabric)?)?)
    })
}

/// A cache of a fabric. `when_full` -1: however it was made, or with the defaults; then the rest is not looked at. 0 stands for no
/// limit, and for any number of entries.
#[jni_mangle("io.memora.internal.Native")]
pub fn fabric_cache<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    cache: JString<'l>,
    limit: jlong,
    entries: jlong,
    when_full: jint,
    events: jboolean,
    transactions: jboolean,
) -> jlong {
    guard(env, class, |jvm| {
        let cache = name(jvm, &cache)?;
        let some = |number: jlong| u64::try_from(number).ok().filter(|number| *number != 0);
        let when_full = match when_full {
            -1 => None,
            0 => Some(WhenFull::Evict),
            1 => Some(WhenFull::Reject),
            _ => return Err(ErrorCode::InvalidArgument.into()),
        };
        with(handle, |object| {
            let fabric = object.fabric()?;
            let cache = match when_full {
                None => fabric.cache(&cache)?,
                Some(when_full) => {
                    let (limit, entries) = (some(limit), some(entries));
                    let options = CacheOptions { limit, entries, when_full, events, transactions };
                    fabric.cache_with(&cache, &options)?
                }
            };
            insert(Object { parent: handle, kind: Kind::Cache(cache) })
        })
    })
}

/// A channel of a fabric; `lane_bytes` 0, `visibility_ms` 0 and `dead_letters` null are the defaults.
#[jni_mangle("io.memora.internal.Native")]
pub fn fabric_channel<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    channel: JString<'l>,
    kind: jint,
    overrun: jint,
    lane_bytes: jint,
    acknowledge: jboolean,
    visibility_ms: jlong,
    deliveries_max: jint,
    dead_letters: JString<'l>,
    timestamps: jboolean,
    eject_after_ms: jlong,
) -> jlong {
    guard(env, class, |jvm| {
        let channel = name(jvm, &channel)?;
        let dead_letters = jvm
            .text(&dead_letters)?
            .map(|channel| DeadLetters { after: u32::try_from(deliveries_max).unwrap_or(0), channel });
        let visibility = u64::try_from(visibility_ms).ok().filter(|ms| *ms > 0).map(Duration::from_millis);
        let mut options = ChannelOptions {
            kind: match kind {
                0 => ChannelKind::Stream,
                1 => ChannelKind::Broadcast,
                2 => ChannelKind::Queue,
                _ => return Err(ErrorCode::InvalidArgument.into()),
            },
            overrun: if overrun == 0 { OverrunPolicy::Block } else { OverrunPolicy::Overrun },
            acknowledge: acknowledge.then_some(Acknowledge { visibility, dead_letters }),
            timestamps,
            eject_after: u64::try_from(eject_after_ms).ok().filter(|ms| *ms > 0).map(Duration::from_millis),
            ..ChannelOptions::default()
        };
        if lane_bytes > 0 {
            options.lane_bytes = lane_bytes as u32;
        }
        with(handle, |object| {
            let channel = object.fabric()?.channel(&channel, &options)?;
            insert(Object { parent: handle, kind: Kind::Channel(channel) })
        })
    })
}

/// A channel that is there already.
#[jni_mangle("io.memora.internal.Native")]
pub fn fabric_open_channel<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    channel: JString<'l>,
) -> jlong {
    guard(env, class, |jvm| {
        let channel = name(jvm, &channel)?;
        with(handle, |object| {
            let channel = object.fabric()?.open_channel(&channel)?;
            insert(Object { parent: handle, kind: Kind::Channel(channel) })
        })
    })
}

/// A durability by its number in Java.
pub fn durability(number: jint, interval_ms: jint) -> Answer<Durability> {
    match number {
        0 => Ok(Durability::Process),
        1 => Ok(Durability::Async { interval_ms: interval_ms.max(1) as u64 }),
        2 => Ok(Durability::Sync),
        _ => Err(ErrorCode::InvalidArgument.into()),
    }
}

/// A store of a fabric; `dir` null, `checkpoint_bytes` 0, `ordered` -1, `feed_bytes` -1 and `shards` 0 stand for the defaults.
#[jni_mangle("io.memora.internal.Native")]
pub fn fabric_store<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    store: JString<'l>,
    dir: JString<'l>,
    how: jint,
    interval_ms: jint,
    checkpoint_bytes: jlong,
    ordered: jint,
    feed_bytes: jlong,
    shards: jint,
) -> jlong {
    guard(env, class, |jvm| {
        let store = name(jvm, &store)?;
        let ordered = match ordered {
            -1 => None,
            0 => Some(false),
            1 => Some(true),
            _ => return Err(ErrorCode::InvalidArgument.into()),
        };
        let mut options = StoreOptions {
            dir: jvm.text(&dir)?.map(PathBuf::from),
            durability: durability(how, interval_ms)?,
            ordered,
            feed_bytes: u64::try_from(feed_bytes).ok(),
            // A negative number is as impossible as a large one.
            shards: (shards != 0).then_some(shards as u32),
            ..StoreOptions::default()
        };
        if checkpoint_bytes > 0 {
            options.checkpoint_bytes = checkpoint_bytes as u64;
        }
        with(handle, |object| {
            let store = object.fabric()?.store(&store, &options)?;
            insert(Object { parent: handle, kind: Kind::Store(store) })
        })
    })
}
