//! Entries of services: requests and replies.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_int, c_void};

use memora_core::{Call, ErrorCode, Fabric, Result, Service, ServiceOptions};

use crate::calls::{ClientHandle, ServerHandle};
use crate::entries::on;
use crate::fabric::memora_fabric_t;
use crate::guard::{Answer, Border, Options, call};
use crate::handles;

/// A service: requests from clients, each answered by one of its servers. Open it with memora_service_open(), close it with
/// memora_service_close(). May be used by any number of threads at once.
#[allow(non_camel_case_types)]
pub struct memora_service_t {
    _opaque: [u8; 0],
}

/// One caller of a service. Open it with memora_client_open(), close it with memora_client_close(). For one thread at a time:
/// another one is answered MEMORA_BUSY. It may go from one thread to another, but its calls end with the thread that used it last.
#[allow(non_camel_case_types)]
pub struct memora_client_t {
    _opaque: [u8; 0],
}

/// One server of a service. Open it with memora_server_open(), close it with memora_server_close(). One thread at a time takes
/// requests; any thread may answer them.
#[allow(non_camel_case_types)]
pub struct memora_server_t {
    _opaque: [u8; 0],
}

/// Options of a service. Fill it with memora_service_options_init().
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct memora_service_options_t {
    /// Bytes of this structure in the calling program; set by the init function.
    pub struct_size: usize,
    /// Bytes of a request or reply that a cell holds, up to 64 MiB. Longer ones, up to half of the fabric and 128 MiB, take memory of the
    /// fabric for as long as they are under way. 0: the default.
    pub message_bytes: u32,
    /// Calls that a client may have under way: a power of two. 0: the default.
    pub calls: u32,
}

// SAFETY: repr(C), `struct_size` first, only integers: 8, 4 and 4 bytes fill the structure.
unsafe impl Options for memora_service_options_t {
    const DEFAULT: memora_service_options_t = memora_service_options_t {
        struct_size: size_of::<memora_service_options_t>(),
        message_bytes: 0,
        calls: 0,
    };
    const NAME: &'static str = "memora_service_options_t";
}

/// A request that a server took.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct memora_request_t {
    /// What memora_server_reply() knows it by.
    pub ticket: u64,
    /// Number of the call, unique in the client's entry.
    pub number: u64,
    /// Bytes of the request.
    pub len: usize,
    /// The client's entry. Another client may have it later.
    pub client: u32,
    /// 0.
    pub reserved: u32,
}

/// Figures of a service.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct memora_service_stats_t {
    /// Clients that are there now.
    pub clients: u64,
    /// Servers that are there now.
    pub servers: u64,
    /// Clients for which there is memory: as many as were there at the same time.
    pub rings: u64,
    /// Requests that wait for a server.
    pub asked: u64,
    /// Requests that servers work on for clients who wait.
    pub taken: u64,
    /// Requests that servers still have though their callers are gone.
    pub left: u64,
    /// Calls ever made.
    pub calls: u64,
    /// Calls whose time was over.
    pub timed_out: u64,
    /// Calls whose server died.
    pub died: u64,
}

// SAFETY: repr(C), nine fields of eight bytes.
unsafe impl Answer for memora_service_stats_t {}

/// Fills `options` with the defaults. `struct_size` is sizeof *options.
///
/// Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_service_options_init(
    options: *mut memora_service_options_t,
    struct_size: usize,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe { call(|border| border.init_options(options, struct_size)) }
}

fn options_of(border: &Border, options: *const memora_service_options_t) -> Result<ServiceOptions> {
    let options = border.options(options)?;
    let default = ServiceOptions::default();
    let or = |given: u32, default: u32| if given == 0 { default } else { given };
    Ok(ServiceOptions {
        message_bytes: or(options.message_bytes, default.message_bytes),
        calls: or(options.calls, default.calls),
    })
}

/// Opens the service `name` of `fabric`, or creates it with `options`. With `options` NULL it must be there.
///
/// On success `*service` is a new handle, to be closed with memora_service_close(); else it is NULL.
/// Returns MEMORA_OK, MEMORA_NOT_FOUND, MEMORA_INVALID_ARGUMENT, MEMORA_INVALID_NAME, MEMORA_WRONG_KIND,
/// MEMORA_WRONG_OPTIONS, MEMORA_TOO_MANY_OBJECTS, MEMORA_FULL, MEMORA_NO_SPACE, MEMORA_READ_ONLY, MEMORA_CLOSED,
/// MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_service_open(
    fabric: *mut memora_fabric_t,
    name: *const c_char,
    options: *const memora_service_options_t,
    service: *mut *mut memora_service_t,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            border.open(service, || {
                let name = border.text(name, "name")?;
                if options.is_null() {
                    return handles::with(handles::number(fabric), |fabric: &Fabric| {
                        fabric.open_service(name)
                    });
                }
                let options = options_of(border, options)?;
                handles::with(handles::number(fabric), |fabric: &Fabric| fabric.service(name, &options))
            })
        })
    }
}

/// Closes the handle. NULL is allowed and does nothing. Clients and servers of the service stay open.
///
/// Returns MEMORA_OK, MEMORA_CLOSED, MEMORA_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_service_close(service: *mut memora_service_t) -> c_int {
    // SAFETY: the handle is a number, nothing is read through it.
    unsafe { call(|_| handles::close::<Service>(handles::number(service))) }
}

/// Fills `stats` with figures of the service. `struct_size` is sizeof *stats.
///
/// Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_service_stats(
    service: *mut memora_service_t,
    stats: *mut memora_service_stats_t,
    struct_size: usize,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        on(service, |border, service: &Service| {
            let figures = service.stats()?;
            let answer = memora_service_stats_t {
                clients: figures.clients.into(),
                servers: figures.servers.into(),
                rings: figures.rings.into(),
                asked: figures.asked.into(),
                taken: figures.taken.into(),
                left: figures.left.into(),
                calls: figures.calls,
                timed_out: figures.timed_out,
                died: figures.died,
            };
            border.put_sized(stats, struct_size, answer)
        })
    }
}

/// Becomes a client of the service.
///
/// On success `*client` is a new handle, to be closed with memora_client_close(); else it is NULL.
/// Returns MEMORA_OK, MEMORA_TOO_MANY_CLIENTS, MEMORA_FULL, MEMORA_NO_SPACE, MEMORA_READ_ONLY, MEMORA_INVALID_ARGUMENT,
/// MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_client_open(
    service: *mut memora_service_t,
    client: *mut *mut memora_client_t,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            border.open(client, || {
                handles::with(handles::number(service), |service: &Service| service.client())
                    .map(ClientHandle::new)
            })
        })
    }
}

/// Closes the handle. NULL is allowed and does nothing. Calls under way are given up; a thread that waits for one is answered
/// MEMORA_CLOSED within 50 ms.
///
/// Returns MEMORA_OK, MEMORA_CLOSED, MEMORA_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_client_close(client: *mut memora_client_t) -> c_int {
    // SAFETY: the handle is a number, nothing is read through it.
    unsafe { call(|_| handles::close::<ClientHandle>(handles::number(client))) }
}

/// Sends a request and does not wait: `*id` becomes the number by which the other functions know the call.
///
/// With MEMORA_FULL there is no memory for a request that is longer than `message_bytes`, and nothing was sent.
/// Returns MEMORA_OK, MEMORA_TOO_MANY_CALLS, MEMORA_VALUE_TOO_LONG, MEMORA_FULL, MEMORA_BUSY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED,
/// MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_client_send(
    client: *mut memora_client_t,
    data: *const c_void,
    len: usize,
    id: *mut u64,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        on(client, |border, client: &ClientHandle| {
            border.wanted(id, "id")?;
            let data = border.bytes(data, len, "data")?;
            let call = client.calling.with("client", |calling| calling.client.send(data))?;
            border.put(id, call.id());
            Ok(())
        })
    }
}

/// Waits for the reply to a call, `timeout_ms` milliseconds at most; MEMORA_FOREVER: without end; 0: looks, and the call goes on
/// if there is none. The reply goes to `reply`, which has room for `capacity` bytes; `*reply_len` (may be NULL) becomes its length.
///
/// MEMORA_PEER_DIED comes at once when the server that took the call is dead. After MEMORA_TIMED_OUT a reply that comes is dropped.
/// With MEMORA_BUFFER_TOO_SMALL the reply stays for the next call of this function; memora_last_error_amount() is its length.
/// All other answers but MEMORA_OK, MEMORA_NOT_FOUND and MEMORA_BUSY are the end of the call, too.
/// Returns MEMORA_OK, MEMORA_NOT_FOUND (with `timeout_ms` 0), MEMORA_TIMED_OUT, MEMORA_PEER_DIED, MEMORA_UNANSWERED,
/// MEMORA_BUFFER_TOO_SMALL, MEMORA_BUSY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_client_wait(
    client: *mut memora_client_t,
    id: u64,
    timeout_ms: i64,
    reply: *mut c_void,
    capacity: usize,
    reply_len: *mut usize,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        on(client, |border, client: &ClientHandle| {
            let buffer = border.buffer(reply, capacity, "reply")?;
            let len = client.calling.with("client", |calling| match timeout_ms {
                0 => ClientHandle::poll(calling, Call::from_id(id), buffer),
                _ => client.wait(calling, Call::from_id(id), timeout_ms, buffer),
            })?;
            border.put(reply_len, len);
            Ok(())
        })
    }
}

/// Sends a request and waits for the reply: memora_client_send() and memora_client_wait(). With `timeout_ms` 0 the call ends at
/// once, with MEMORA_TIMED_OUT.
///
/// With MEMORA_BUFFER_TOO_SMALL the server has answered; memora_client_wait_any() gives the reply.
/// Returns what these two do, but for MEMORA_NOT_FOUND.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_client_call(
    client: *mut memora_client_t,
    data: *const c_void,
    len: usize,
    timeout_ms: i64,
    reply: *mut c_void,
    capacity: usize,
    reply_len: *mut usize,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        on(client, |border, client: &ClientHandle| {
            let data = border.bytes(data, len, "data")?;
            let buffer = border.buffer(reply, capacity, "reply")?;
            let len = client.calling.with("client", |calling| {
                let call = calling.client.send(data)?;
                client.wait(calling, call, timeout_ms, buffer)
            })?;
            border.put(reply_len, len);
            Ok(())
        })
    }
}

/// Waits for the end of any call of the client, as memora_client_wait() does for one: `*id` becomes the call, and the answer is how
/// it ended. Calls go on when the time is over. MEMORA_NOT_FOUND: none is under way, or, with `timeout_ms` 0, none is at its end.
///
/// `*id` becomes 0 when the answer belongs to no call.
/// Returns what memora_client_wait() does.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_client_wait_any(
    client: *mut memora_client_t,
    timeout_ms: i64,
    id: *mut u64,
    reply: *mut c_void,
    capacity: usize,
    reply_len: *mut usize,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        on(client, |border, client: &ClientHandle| {
            border.wanted(id, "id")?;
            border.put(id, 0);
            let buffer = border.buffer(reply, capacity, "reply")?;
            let (call, ended) = client.wait_any(timeout_ms, buffer)?;
            border.put(id, call.id());
            border.put(reply_len, ended?);
            Ok(())
        })
    }
}

/// Gives a call up: a request that no server took is never served, a reply that comes later is dropped.
///
/// Returns MEMORA_OK, MEMORA_BUSY, MEMORA_INVALID_ARGUMENT (its end was told before), MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_client_cancel(client: *mut memora_client_t, id: u64) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        on(client, |_, client: &ClientHandle| {
            client.calling.with("client", |calling| {
                if calling.take_held(|held| held == Call::from_id(id)).is_some() {
                    return Ok(());
                }
                calling.client.cancel(Call::from_id(id))
            })
        })
    }
}

/// Becomes a server of the service.
///
/// On success `*server` is a new handle, to be closed with memora_server_close(); else it is NULL.
/// Returns MEMORA_OK, MEMORA_TOO_MANY_CLIENTS, MEMORA_READ_ONLY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED,
/// MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_server_open(
    service: *mut memora_service_t,
    server: *mut *mut memora_server_t,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            border.open(server, || {
                handles::with(handles::number(service), |service: &Service| service.server())
                    .map(ServerHandle::new)
            })
        })
    }
}

/// Closes the handle. NULL is allowed and does nothing. Requests that were taken and not answered are let go: their clients are
/// told MEMORA_UNANSWERED. A thread that waits is answered MEMORA_CLOSED within 50 ms.
///
/// Returns MEMORA_OK, MEMORA_CLOSED, MEMORA_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_server_close(server: *mut memora_server_t) -> c_int {
    // SAFETY: the handle is a number, nothing is read through it.
    unsafe { call(|_| handles::close::<ServerHandle>(handles::number(server))) }
}

/// Takes the next request into `data`, which has room for `capacity` bytes; `*request` becomes what is said of it. Waits for
/// `timeout_ms` milliseconds at most; MEMORA_FOREVER: without end; 0: not at all. Each request is taken by one server, once. It must
/// be answered by memora_server_reply() or memora_server_refuse().
///
/// With MEMORA_BUFFER_TOO_SMALL the request stays for the next call; memora_last_error_amount() is its length.
/// Returns MEMORA_OK, MEMORA_NOT_FOUND (with `timeout_ms` 0), MEMORA_TIMED_OUT, MEMORA_BUFFER_TOO_SMALL, MEMORA_BUSY,
/// MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_server_take(
    server: *mut memora_server_t,
    timeout_ms: i64,
    data: *mut c_void,
    capacity: usize,
    request: *mut memora_request_t,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        on(server, |border, server: &ServerHandle| {
            border.wanted(request, "request")?;
            let buffer = border.buffer(data, capacity, "data")?;
            let taken = server.take(timeout_ms, buffer)?;
            border.put(request, taken);
            Ok(())
        })
    }
}

/// Answers a request, from any thread. `*waited_for` (may be NULL) becomes 1 if its client was waiting for the reply, 0 if it had
/// given up or was gone: then the reply was dropped, unless the client gave up in this very moment, and had seen it.
///
/// With MEMORA_VALUE_TOO_LONG, and with MEMORA_FULL (there is no memory for a reply that is longer than `message_bytes`), the request is
/// still to be answered.
/// Returns MEMORA_OK, MEMORA_VALUE_TOO_LONG, MEMORA_FULL, MEMORA_INVALID_ARGUMENT (it was answered before), MEMORA_CLOSED, MEMORA_FORKED,
/// MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_server_reply(
    server: *mut memora_server_t,
    request: *const memora_request_t,
    data: *const c_void,
    len: usize,
    waited_for: *mut c_int,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        on(server, |border, server: &ServerHandle| {
            let ticket = ticket(border, request)?;
            let told = server.reply(ticket, border.bytes(data, len, "data")?)?;
            border.put(waited_for, c_int::from(told));
            Ok(())
        })
    }
}

/// Lets a request go without a reply: its client is told MEMORA_UNANSWERED, unless it had given up.
///
/// Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT (it was answered before), MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_server_refuse(
    server: *mut memora_server_t,
    request: *const memora_request_t,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        on(server, |border, server: &ServerHandle| {
            server.answer(ticket(border, request)?)?.refuse().map(|_| ())
        })
    }
}

fn ticket(border: &Border, request: *const memora_request_t) -> Result<u64> {
    let request = border.elements(request, 1, "request")?;
    request.first().map(|request| request.ticket).ok_or_else(|| ErrorCode::InvalidArgument.into())
}
