//! The native half of the Java binding: thin, no logic of the product. `guard` holds all casts and catches all panics,
//! `handles` names objects by numbers that stay safe after a close, the other files are one native function a call.
// Addresses and lengths cross one by one, and every function begins with the JVM and the class.
#![allow(clippy::too_many_arguments)]

mod cache;
mod channel;
mod compute;
mod direct;
mod direct_reading;
mod events;
mod fabric;
mod feed;
mod guard;
mod handles;
mod log;
mod object;
mod queue;
mod service;
mod signal;
mod snapshot;
mod stats;
mod store;
mod topic;
mod transaction;
mod update;
mod view;

use jni::EnvUnowned;
use jni::jni_mangle;
use jni::objects::{JByteArray, JByteBuffer, JClass};
use jni::sys::{jint, jlong, jstring};

use guard::{Direct, guard};

/// The version of this library, to be compared with that of the jar.
#[jni_mangle("io.memora.internal.Native")]
pub fn version<'l>(env: EnvUnowned<'l>, class: JClass<'l>) -> jstring {
    guard(env, class, |jvm| jvm.new_text(env!("CARGO_PKG_VERSION")))
}

/// The table of errors: one line a code with number, name, text and remedy, between tabs.
#[jni_mangle("io.memora.internal.Native")]
pub fn error_table<'l>(env: EnvUnowned<'l>, class: JClass<'l>) -> jstring {
    guard(env, class, |jvm| {
        let lines = memora::ErrorCode::ALL
            .iter()
            .map(|code| format!("{}\t{}\t{}\t{}\n", code.number(), code.name(), code.text(), code.remedy()));
        jvm.new_text(&lines.collect::<String>())
    })
}

/// Closes a handle; nothing when it is closed already.
#[jni_mangle("io.memora.internal.Native")]
pub fn close<'l>(env: EnvUnowned<'l>, class: JClass<'l>, handle: jlong) {
    guard(env, class, |_| {
        handles::close(handle);
        Ok(())
    })
}

/// How many handles are open.
#[jni_mangle("io.memora.internal.Native")]
pub fn open_handles<'l>(env: EnvUnowned<'l>, class: JClass<'l>) -> jint {
    guard(env, class, |_| Ok(handles::open_count() as jint))
}

/// The address of a direct buffer that lives as long as its thread: asked for once, then passed as a number.
#[jni_mangle("io.memora.internal.Native")]
pub fn address<'l>(env: EnvUnowned<'l>, class: JClass<'l>, buffer: JByteBuffer<'l>) -> jlong {
    guard(env, class, |jvm| jvm.direct(&buffer, 0, 0).map(|direct| direct.address()))
}

/// What a crossing costs: nothing but the guard.
#[jni_mangle("io.memora.internal.Native")]
pub fn cross_nothing<'l>(env: EnvUnowned<'l>, class: JClass<'l>) -> jint {
    guard(env, class, |_| Ok(1))
}

/// What a crossing costs with the check of the handle.
#[jni_mangle("io.memora.internal.Native")]
pub fn cross_empty<'l>(env: EnvUnowned<'l>, class: JClass<'l>, handle: jlong) -> jint {
    guard(env, class, |_| handles::with(handle, |_| Ok(1)))
}

/// What a crossing costs with bytes in direct memory, by address.
#[jni_mangle("io.memora.internal.Native")]
pub fn cross_address<'l>(env: EnvUnowned<'l>, class: JClass<'l>, address: jlong, len: jint) -> jint {
    guard(env, class, |_| Ok(last(Direct::at(address, len)?.bytes())))
}

/// What a crossing costs with the bytes of an array, copied by the JVM.
#[jni_mangle("io.memora.internal.Native")]
pub fn cross_array<'l>(env: EnvUnowned<'l>, class: JClass<'l>, bytes: JByteArray<'l>, len: jint) -> jint {
    guard(env, class, |jvm| Ok(last(&jvm.bytes(&bytes, 0, len)?)))
}

/// What a crossing costs with a direct buffer as an argument.
#[jni_mangle("io.memora.internal.Native")]
pub fn cross_buffer<'l>(env: EnvUnowned<'l>, class: JClass<'l>, buffer: JByteBuffer<'l>, len: jint) -> jint {
    guard(env, class, |jvm| Ok(last(jvm.direct(&buffer, 0, len)?.bytes())))
}

fn last(bytes: &[u8]) -> jint {
    bytes.last().map_or(0, |byte| jint::from(*byte))
}

/// Bytes of a key at most.
#[jni_mangle("io.memora.internal.Native")]
pub fn key_length_max<'l>(env: EnvUnowned<'l>, class: JClass<'l>) -> jint {
    guard(env, class, |_| Ok(memora::limits::KEY_LEN_MAX as jint))
}
