//! Services: clients, servers, and the requests that they have in hand.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jni::objects::{JByteArray, JByteBuffer, JClass, JString};
use jni::sys::{jbyteArray, jint, jlong};
use jni::{EnvUnowned, jni_mangle};
use memora::{Call, Client, Error, ErrorCode, Request, Server, ServiceOptions};

use crate::fabric::name;
use crate::guard::{Answer, guard};
use crate::handles::{insert, with};
use crate::object::{Kind, Object, OneAtATime};

/// A server with the requests that it took and nobody answered yet.
pub struct Serving {
    pub server: OneAtATime<Server>,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    last: u64,
    requests: HashMap<u64, Request>,
}

impl Serving {
    fn open(&self) -> MutexGuard<'_, Open> {
        // Nothing in here panics half-way through a change.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, ticket: jlong) -> Answer<Request> {
        self.open().requests.remove(&(ticket as u64)).ok_or_else(|| {
            Error::new(
                ErrorCode::InvalidArgument,
                "The request was answered before, or is none of this server.",
            )
            .into()
        })
    }

    fn reply(&self, ticket: jlong, reply: &[u8]) -> Answer<jint> {
        let mut request = self.answer(ticket)?;
        let told = request.try_reply(reply);
        if told.as_ref().is_err_and(|error| matches!(error.code(), ErrorCode::ValueTooLong | ErrorCode::Full))
        {
            // It may be answered with a shorter one, or later.
            self.open().requests.insert(ticket as u64, request);
        }
        Ok(jint::from(told?))
    }
}

/// A service of a fabric; with both sizes 0 the defaults.
#[jni_mangle("io.memora.internal.Native")]
pub fn fabric_service<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    service: JString<'l>,
    message_bytes: jint,
    calls: jint,
) -> jlong {
    guard(env, class, |jvm| {
        let service = name(jvm, &service)?;
        let mut options = ServiceOptions::default();
        if message_bytes > 0 {
            options.message_bytes = message_bytes as u32;
        }
        if calls > 0 {
            options.calls = calls as u32;
        }
        with(handle, |object| {
            let service = object.fabric()?.service(&service, &options)?;
            insert(Object { parent: handle, kind: Kind::Service(service) })
        })
    })
}

/// A service that is there already.
#[jni_mangle("io.memora.internal.Native")]
pub fn fabric_open_service<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    service: JString<'l>,
) -> jlong {
    guard(env, class, |jvm| {
        let service = name(jvm, &service)?;
        with(handle, |object| {
            let service = object.fabric()?.open_service(&service)?;
            insert(Object { parent: handle, kind: Kind::Service(service) })
        })
    })
}

/// A client of the service.
#[jni_mangle("io.memora.internal.Native")]
pub fn client<'l>(env: EnvUnowned<'l>, class: JClass<'l>, service: jlong) -> jlong {
    guard(env, class, |_| {
        with(service, |object| {
            let client = object.service()?.client()?;
            insert(Object { parent: service, kind: Kind::Client(OneAtATime::new(client)) })
        })
    })
}

/// A server of the service.
#[jni_mangle("io.memora.internal.Native")]
pub fn server<'l>(env: EnvUnowned<'l>, class: JClass<'l>, service: jlong) -> jlong {
    guard(env, class, |_| {
        with(service, |object| {
            let server = OneAtATime::new(object.service()?.server()?);
            insert(Object { parent: service, kind: Kind::Server(Serving { server, open: Mutex::default() }) })
        })
    })
}

/// The call of a number from Java.
fn call(number: jlong) -> Call {
    Call::from_id(number as u64)
}

fn send_request(client: &mut Client, request: &[u8]) -> Answer<jlong> {
    Ok(client.send(request)?.id() as jlong)
}

/// Sends a request from an array: the call.
#[jni_mangle("io.memora.internal.Native")]
pub fn call_array<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    request: JByteArray<'l>,
    start: jint,
    len: jint,
) -> jlong {
    guard(env, class, |jvm| {
        let request = jvm.bytes(&request, start, len)?;
        with(handle, |object| send_request(&mut *object.client()?, &request))
    })
}

/// Sends a request from a direct buffer: the call.
#[jni_mangle("io.memora.internal.Native")]
pub fn call_buffer<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    request: JByteBuffer<'l>,
    start: jint,
    len: jint,
) -> jlong {
    guard(env, class, |jvm| {
        let request = jvm.direct(&request, start, len)?;
        with(handle, |object| send_request(&mut *object.client()?, request.bytes()))
    })
}

/// The reply to a call within so many microseconds; null when there is none yet: the call goes on.
#[jni_mangle("io.memora.internal.Native")]
pub fn call_wait<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    number: jlong,
    wait_us: jint,
) -> jbyteArray {
    guard(env, class, |jvm| {
        let mut reply = Vec::new();
        let found = with(handle, |object| {
            let client = &mut *object.client()?;
            Ok(match wait_us {
                ..=0 => client.poll(call(number), &mut reply)?,
                us => client.wait_for(call(number), &mut reply, Duration::from_micros(us as u64))?,
            })
        })?;
        match found {
            Some(_) => jvm.new_bytes(&reply),
            None => Ok(std::ptr::null_mut()),
        }
    })
}

/// The reply to a call whose time is over, if it came at the last moment; otherwise the call ends with an error.
#[jni_mangle("io.memora.internal.Native")]
pub fn call_end<'l>(env: EnvUnowned<'l>, class: JClass<'l>, handle: jlong, number: jlong) -> jbyteArray {
    guard(env, class, |jvm| {
        let mut reply = Vec::new();
        with(handle, |object| Ok(object.client()?.wait(call(number), &mut reply, Some(Duration::ZERO))?))?;
        jvm.new_bytes(&reply)
    })
}

/// The end of some call within so many microseconds: its number (8 bytes), the number of an error or 0 (8), reply; null for none.
#[jni_mangle("io.memora.internal.Native")]
pub fn call_wait_any<'l>(env: EnvUnowned<'l>, class: JClass<'l>, handle: jlong, wait_us: jint) -> jbyteArray {
    guard(env, class, |jvm| {
        let mut reply = Vec::new();
        let found = with(handle, |object| {
            let client = &mut *object.client()?;
            Ok(match wait_us {
                ..=0 => client.poll_any(&mut reply)?,
                us => client.wait_any(&mut reply, Some(Duration::from_micros(us as u64)))?,
            })
        })?;
        let Some((call, ended)) = found else { return Ok(std::ptr::null_mut()) };
        let code = ended.as_ref().err().map_or(0, |error| u64::from(error.code().number()));
        let mut bytes = Vec::with_capacity(16 + reply.len());
        bytes.extend_from_slice(&call.id().to_ne_bytes());
        bytes.extend_from_slice(&code.to_ne_bytes());
        if ended.is_ok() {
            bytes.extend_from_slice(&reply);
        }
        jvm.new_bytes(&bytes)
    })
}

/// Gives a call up.
#[jni_mangle("io.memora.internal.Native")]
pub fn call_cancel<'l>(env: EnvUnowned<'l>, class: JClass<'l>, handle: jlong, number: jlong) {
    guard(env, class, |_| with(handle, |object| Ok(object.client()?.cancel(call(number))?)))
}

/// The next request within so many microseconds: its ticket (8 bytes), number (8), client (8), bytes; null for none.
#[jni_mangle("io.memora.internal.Native")]
pub fn server_take<'l>(env: EnvUnowned<'l>, class: JClass<'l>, handle: jlong, wait_us: jint) -> jbyteArray {
    guard(env, class, |jvm| {
        let mut request = Vec::new();
        let taken = with(handle, |object| {
            let serving = object.server()?;
            let server = &mut *serving.server.take()?;
            let taken = match wait_us {
                ..=0 => server.try_take(&mut request)?,
                us => server.take(&mut request, Some(Duration::from_micros(us as u64)))?,
            };
            Ok(taken.map(|request| {
                let mut open = serving.open();
                open.last += 1;
                let numbers = [open.last, request.number(), u64::from(request.client())];
                let ticket = open.last;
                open.requests.insert(ticket, request);
                numbers
            }))
        })?;
        let Some(numbers) = taken else { return Ok(std::ptr::null_mut()) };
        let mut bytes = Vec::with_capacity(24 + request.len());
        numbers.iter().for_each(|number| bytes.extend_from_slice(&number.to_ne_bytes()));
        bytes.extend_from_slice(&request);
        jvm.new_bytes(&bytes)
    })
}

/// Answers a request from an array: 1 if its caller waited for the reply.
#[jni_mangle("io.memora.internal.Native")]
pub fn reply_array<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    ticket: jlong,
    reply: JByteArray<'l>,
    start: jint,
    len: jint,
) -> jint {
    guard(env, class, |jvm| {
        let reply = jvm.bytes(&reply, start, len)?;
        with(handle, |object| object.server()?.reply(ticket, &reply))
    })
}

/// Answers a request from a direct buffer: 1 if its caller waited for the reply.
#[jni_mangle("io.memora.internal.Native")]
pub fn reply_buffer<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    ticket: jlong,
    reply: JByteBuffer<'l>,
    start: jint,
    len: jint,
) -> jint {
    guard(env, class, |jvm| {
        let reply = jvm.direct(&reply, start, len)?;
        with(handle, |object| object.server()?.reply(ticket, reply.bytes()))
    })
}

/// Lets a request go without a reply.
#[jni_mangle("io.memora.internal.Native")]
pub fn refuse<'l>(env: EnvUnowned<'l>, class: JClass<'l>, handle: jlong, ticket: jlong) {
    guard(env, class, |_| with(handle, |object| Ok(object.server()?.answer(ticket)?.refuse().map(|_| ())?)))
}
