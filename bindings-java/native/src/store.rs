//! What only a store has.

use std::ops::Bound;

use jni::objects::{JByteArray, JClass, JString};
use jni::sys::{jboolean, jbyteArray, jint, jlong, jstring};
use jni::{EnvUnowned, jni_mangle};
use memora::{BackupInfo, Direction, Entry, Error, ErrorCode, RepairOptions, RestoreOptions};

use crate::cache::add_entry;
use crate::fabric::durability;
use crate::guard::{Answer, Direct, Fault, Jvm, guard};
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

/// Changes how many shards the files are divided into.
#[jni_mangle("io.memora.internal.Native")]
pub fn store_set_shards<'l>(env: EnvUnowned<'l>, class: JClass<'l>, handle: jlong, shards: jint) {
    guard(env, class, |_| with(handle, |object| Ok(object.store()?.set_shards(shards as u32)?)))
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

fn path<'l>(jvm: &mut Jvm<'l>, text: &JString<'l>) -> Answer<String> {
    jvm.text(text)?.ok_or(Fault::from(ErrorCode::InvalidArgument))
}

fn of_backup(info: &BackupInfo) -> String {
    format!("{}\t{}\t{}", info.records, info.bytes, info.begun_ms)
}

/// Writes a backup into a directory: entries, bytes, begin.
#[jni_mangle("io.memora.internal.Native")]
pub fn store_backup<'l>(env: EnvUnowned<'l>, class: JClass<'l>, handle: jlong, dir: JString<'l>) -> jstring {
    guard(env, class, |jvm| {
        let dir = path(jvm, &dir)?;
        let info = with(handle, |object| Ok(object.store()?.backup(dir, |_, _| {})?))?;
        jvm.new_text(&of_backup(&info))
    })
}

/// Makes a store of a backup: as [`store_backup`]. `name` null stands for the old one.
#[jni_mangle("io.memora.internal.Native")]
pub fn store_restore<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    from: JString<'l>,
    to: JString<'l>,
    name: JString<'l>,
    overwrite: jboolean,
) -> jstring {
    guard(env, class, |jvm| {
        let (from, to) = (path(jvm, &from)?, path(jvm, &to)?);
        let options = RestoreOptions { name: jvm.text(&name)?, overwrite };
        jvm.new_text(&of_backup(&memora::restore(from, to, &options, |_, _| {})?))
    })
}

/// Reads the files of a store or backup: whether it is a backup, records, bytes, torn ends, files for the feed.
#[jni_mangle("io.memora.internal.Native")]
pub fn store_verify<'l>(env: EnvUnowned<'l>, class: JClass<'l>, dir: JString<'l>) -> jstring {
    guard(env, class, |jvm| {
        let report = memora::verify(path(jvm, &dir)?, |_, _| {})?;
        let backup = u32::from(report.backup);
        let figures =
            [u64::from(backup), report.records, report.bytes, report.torn.into(), report.feed_files.into()];
        jvm.new_text(&figures.map(|figure| figure.to_string()).join("\t"))
    })
}

/// Repairs the files of a store, or says what that would lose: whether they are sound, records; then a line for each loss.
#[jni_mangle("io.memora.internal.Native")]
pub fn store_repair<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    dir: JString<'l>,
    apply: jboolean,
    name: JString<'l>,
) -> jstring {
    guard(env, class, |jvm| {
        let options = RepairOptions { apply, name: jvm.text(&name)? };
        let report = memora::repair(path(jvm, &dir)?, &options, |_, _| {})?;
        let mut text = format!("{}\t{}", u32::from(report.problem.is_none()), report.records);
        for loss in &report.losses {
            let records = loss.records.map_or_else(|| "-".to_owned(), |records| records.to_string());
            text += &format!("\n{}\t{}\t{}\t{records}\t{}", loss.file, loss.from, loss.to, loss.what);
        }
        jvm.new_text(&text)
    })
}
