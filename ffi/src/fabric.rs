//! Entries of fabrics.
#![allow(unsafe_code)]

use std::ffi::{CString, c_char, c_int, c_void};
use std::os::fd::IntoRawFd;
use std::path::Path;

use memora_core::{Error, ErrorCode, Fabric};

use crate::guard::{Answer, call};
use crate::handles;
use crate::options::{self, memora_fabric_options_t};

/// A fabric: shared memory that the processes of a host open by the same name. Open it with memora_fabric_open(), close it
/// with memora_fabric_close(). May be used by any number of threads at once.
#[allow(non_camel_case_types)]
pub struct memora_fabric_t {
    _opaque: [u8; 0],
}

/// Takes one violation that a check has found: the layer it belongs to, what is wrong, and where. The texts are valid only
/// until the function returns.
#[allow(non_camel_case_types)]
pub type memora_problem_fn = Option<
    unsafe extern "C" fn(
        context: *mut c_void,
        layer: *const c_char,
        what: *const c_char,
        place: *const c_char,
    ),
>;

/// Figures of a fabric.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct memora_fabric_stat_t {
    /// Bytes that the fabric may take at most.
    pub limit: u64,
    /// Bytes of the host's memory that it takes now.
    pub taken: u64,
    /// Bytes of a chunk.
    pub chunk_bytes: u64,
    /// Chunks that data can take.
    pub chunks: u64,
    /// Those of them that are free.
    pub free_chunks: u64,
    /// Threads of dead processes taken over so far.
    pub reaped: u64,
    /// Milliseconds since 1970 at its creation.
    pub created_ms: u64,
    /// Processes attached, dead ones that nobody took over yet included.
    pub processes: u64,
}

// SAFETY: repr(C), eight fields of eight bytes.
unsafe impl Answer for memora_fabric_stat_t {}

/// Takes one fabric of a list: its name, the bytes that it may take, how many processes are attached, and why it cannot be
/// opened (NULL: it can). The texts are valid only until the function returns.
#[allow(non_camel_case_types)]
pub type memora_fabric_fn = Option<
    unsafe extern "C" fn(
        context: *mut c_void,
        name: *const c_char,
        limit: u64,
        processes: u32,
        problem: *const c_char,
    ),
>;

/// Takes one object of a fabric: its name, its kind ("cache", "channel", "store", "event", "counter", "lock", "semaphore", "service" or "topic"), and the bytes of its chunks. The texts are
/// valid only until the function returns.
#[allow(non_camel_case_types)]
pub type memora_object_fn =
    Option<unsafe extern "C" fn(context: *mut c_void, name: *const c_char, kind: *const c_char, bytes: u64)>;

/// Opens the fabric `name`, or creates it with the default options.
///
/// On success `*fabric` is a new handle, to be closed with memora_fabric_close(); else it is NULL.
/// Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT, MEMORA_INVALID_NAME, MEMORA_PERMISSION_DENIED, MEMORA_NOT_OURS,
/// MEMORA_NOT_A_FABRIC, MEMORA_LAYOUT_MISMATCH, MEMORA_NO_SPACE, MEMORA_TOO_MANY_PROCESSES, MEMORA_CORRUPT, MEMORA_IO,
/// MEMORA_UNSUPPORTED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_fabric_open(name: *const c_char, fabric: *mut *mut memora_fabric_t) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe { call(|border| border.open(fabric, || Fabric::open(border.text(name, "name")?))) }
}

/// As memora_fabric_open(), with options. NULL means the defaults.
///
/// Returns what memora_fabric_open() does, or MEMORA_NOT_FOUND, MEMORA_ALREADY_EXISTS, MEMORA_WRONG_OPTIONS,
/// MEMORA_LIMIT_TOO_SMALL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_fabric_open_with(
    name: *const c_char,
    options: *const memora_fabric_options_t,
    fabric: *mut *mut memora_fabric_t,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            border.open(fabric, || {
                let name = border.text(name, "name")?;
                options::fabric(border, options)?.open(name)
            })
        })
    }
}

/// Opens the fabric in a memory file that another process handed over, as memora_fabric_memfd() gives it. Of `options`, which
/// may be NULL, only `read_only` counts. The descriptor stays the caller's, who may close it afterwards.
///
/// On success `*fabric` is a new handle, to be closed with memora_fabric_close(); else it is NULL.
/// Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT, MEMORA_NOT_OURS, MEMORA_NOT_A_FABRIC, MEMORA_LAYOUT_MISMATCH,
/// MEMORA_TOO_MANY_PROCESSES, MEMORA_PERMISSION_DENIED, MEMORA_CORRUPT, MEMORA_IO, MEMORA_UNSUPPORTED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_fabric_open_fd(
    fd: c_int,
    options: *const memora_fabric_options_t,
    fabric: *mut *mut memora_fabric_t,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            border.open(fabric, || {
                let options = options::fabric(border, options)?;
                options.open_fd(border.descriptor(fd)?)
            })
        })
    }
}

/// Gives a new descriptor of the memory file of a fabric with the backend MEMORA_BACKEND_MEMFD, to be handed to other processes
/// (over a unix socket, or by inheritance) and closed with close(). It is closed in programs that are executed.
///
/// On success `*fd` is the descriptor; else it is -1.
/// Returns MEMORA_OK, MEMORA_UNSUPPORTED (another backend), MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_fabric_memfd(fabric: *mut memora_fabric_t, fd: *mut c_int) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            border.wanted(fd, "fd")?;
            border.put(fd, -1);
            let file = handles::with(handles::number(fabric), |fabric: &Fabric| fabric.memfd())?;
            border.put(fd, file.into_raw_fd());
            Ok(())
        })
    }
}

/// Closes the handle. NULL is allowed and does nothing. The fabric and what is in it stay, for other processes and for the next
/// time. What was opened through it stays open; the process is attached until the last of it is closed, too.
///
/// Returns MEMORA_OK, MEMORA_CLOSED, MEMORA_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_fabric_close(fabric: *mut memora_fabric_t) -> c_int {
    // SAFETY: the handle is a number, nothing is read through it.
    unsafe { call(|_| handles::close::<Fabric>(handles::number(fabric))) }
}

/// Removes the fabric `name` with all that is in it. Processes that have it open keep what they have until they close it.
/// `home` may be NULL for the default directory.
///
/// Returns MEMORA_OK, MEMORA_NOT_FOUND, MEMORA_INVALID_ARGUMENT, MEMORA_INVALID_NAME, MEMORA_PERMISSION_DENIED,
/// MEMORA_NOT_OURS, MEMORA_IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_fabric_remove(home: *const c_char, name: *const c_char) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            let home = border.optional_text(home, "home")?.map(Path::new);
            Fabric::remove(home, border.text(name, "name")?)
        })
    }
}

/// Verifies the rules of the whole fabric, live or dead, and calls `function` for each violation. `*count` (may be NULL)
/// becomes their number.
///
/// Returns MEMORA_OK (no violation), MEMORA_CORRUPT (one or more), MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_fabric_check(
    fabric: *mut memora_fabric_t,
    function: memora_problem_fn,
    context: *mut c_void,
    count: *mut usize,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            let function = border.function(function)?;
            let report = handles::with(handles::number(fabric), |fabric: &Fabric| fabric.check())?;
            for problem in &report.problems {
                let [layer, what, place] =
                    [&*problem.layer.to_string(), &problem.what.to_string(), &problem.place.to_string()]
                        .map(for_c);
                // Within the licence above: the caller's function, with texts that live during the call.
                function(context, layer.as_ptr(), what.as_ptr(), place.as_ptr());
            }
            border.put(count, report.problems.len());
            match report.problems.first() {
                None => Ok(()),
                Some(first) => {
                    let text = format!("{} violations; the first: {}.", report.problems.len(), first.what);
                    Err(Error::new(ErrorCode::Corrupt, text))
                }
            }
        })
    }
}

/// Calls `function` for each fabric of a directory, by name; `home` may be NULL for the default one.
///
/// Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT, MEMORA_PERMISSION_DENIED, MEMORA_NOT_OURS, MEMORA_IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_fabric_list(
    home: *const c_char,
    function: memora_fabric_fn,
    context: *mut c_void,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            let function = border.function(function)?;
            for info in Fabric::list(border.optional_text(home, "home")?.map(Path::new))? {
                let name = for_c(&info.name);
                let problem = info.problem.map(|problem| for_c(&problem.to_string()));
                let problem = problem.as_ref().map_or(std::ptr::null(), |text| text.as_ptr());
                // Within the licence above: the caller's function, with texts that live during the call.
                function(context, name.as_ptr(), info.limit, info.processes, problem);
            }
            Ok(())
        })
    }
}

/// Calls `function` for each object of the fabric.
///
/// Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_fabric_objects(
    fabric: *mut memora_fabric_t,
    function: memora_object_fn,
    context: *mut c_void,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            let function = border.function(function)?;
            for object in handles::with(handles::number(fabric), |fabric: &Fabric| fabric.objects())? {
                let [name, kind] = [object.name.as_str(), object.kind_name()].map(for_c);
                // Within the licence above: the caller's function, with texts that live during the call.
                function(context, name.as_ptr(), kind.as_ptr(), object.bytes);
            }
            Ok(())
        })
    }
}

/// Fills `stat` with figures of the fabric. `struct_size` is sizeof *stat.
///
/// Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_fabric_stat(
    fabric: *mut memora_fabric_t,
    stat: *mut memora_fabric_stat_t,
    struct_size: usize,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            let figures = handles::with(handles::number(fabric), |fabric: &Fabric| {
                let stat = fabric.stat()?;
                Ok(memora_fabric_stat_t {
                    limit: stat.info.limit,
                    taken: stat.reserved_bytes,
                    chunk_bytes: stat.chunk_bytes,
                    chunks: stat.chunks,
                    free_chunks: stat.chunks.saturating_sub(stat.chunks_used),
                    reaped: stat.reaped_threads,
                    created_ms: stat.info.created_ms,
                    processes: stat.info.processes.into(),
                })
            })?;
            border.put_sized(stat, struct_size, figures)
        })
    }
}

/// Takes over what dead processes and threads held, now. Nobody has to call this: it happens when a fabric is opened and when
/// something is needed. `*threads` (may be NULL) becomes the number of threads that were reaped.
///
/// Returns MEMORA_OK, MEMORA_READ_ONLY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_fabric_reap(fabric: *mut memora_fabric_t, threads: *mut u64) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            let report = handles::with(handles::number(fabric), |fabric: &Fabric| fabric.reap())?;
            border.put(threads, u64::from(report.threads));
            Ok(())
        })
    }
}

/// A text with a NUL at its end; a NUL inside would end it for C.
pub(crate) fn for_c(text: &str) -> CString {
    CString::new(text.replace('\0', "?")).unwrap_or_default()
}
