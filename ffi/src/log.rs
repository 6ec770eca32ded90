//! Entries of logs: channels that keep their messages in one order.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::ffi::{c_char, c_int, c_void};

use memora_core::{Appender, Channel, Error, ErrorCode, Fabric, LogMessage, LogReader, ReadFrom, Result};

use crate::channel::{in_slices, memora_channel_t};
use crate::claiming::Claiming;
use crate::exclusive::Exclusive;
use crate::fabric::memora_fabric_t;
use crate::guard::{Answer, Border, call};
use crate::handles;
use crate::options::{self, memora_log_options_t};

/// One producer of a log. Open it with memora_appender_open(), close it with memora_appender_close(). For one thread at a time:
/// another one is answered MEMORA_BUSY.
#[allow(non_camel_case_types)]
pub struct memora_appender_t {
    _opaque: [u8; 0],
}

/// One reader of a log. Open it with memora_log_reader_open(), close it with memora_log_reader_close(). For one thread at a
/// time: another one is answered MEMORA_BUSY.
#[allow(non_camel_case_types)]
pub struct memora_log_reader_t {
    _opaque: [u8; 0],
}

/// Where a message of a log stands.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct memora_log_message_t {
    /// Its position: the first message of the log has 0, each next one has one more.
    pub position: u64,
    /// Bytes of the message.
    pub len: usize,
    /// Milliseconds since the host started when it was published; 0 on a log without an age.
    pub time_ms: u64,
}

/// Figures of a log.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct memora_log_stats_t {
    /// The oldest position that is kept: so many messages were trimmed in the log's life.
    pub oldest: u64,
    /// The position that the next message gets.
    pub end: u64,
    /// Bytes of the records in blocks that hold messages which are kept, and of the long messages that are kept in chunks.
    pub bytes: u64,
    /// Bytes that the log takes for records, and as much for long messages.
    pub bytes_max: u64,
    /// Appenders that hold a block now.
    pub appenders: u64,
    /// Named readers.
    pub readers: u64,
    /// Messages that the named reader which is farthest behind has still to read; 0 if there is none.
    pub lag_max: u64,
    /// Messages in front of this position are in files that are synced; 0 of a log without files.
    pub durable: u64,
    /// Bytes of its files.
    pub file_bytes: u64,
    /// 1 if a failed sync has ended all appending.
    pub poisoned: u64,
}

// SAFETY: only integers, as the assertion on its size shows.
unsafe impl Answer for memora_log_stats_t {}
const _: () = assert!(size_of::<memora_log_stats_t>() == 10 * 8);

/// Takes one message of a poll. `message` and `data` are valid only until the function returns.
#[allow(non_camel_case_types)]
pub type memora_log_message_fn = Option<
    unsafe extern "C" fn(
        context: *mut c_void,
        message: *const memora_log_message_t,
        data: *const c_void,
        len: usize,
    ),
>;

/// A reader begins with the oldest message that is kept.
pub const MEMORA_FROM_OLDEST: u32 = 0;
/// A reader begins with what is published from now on.
pub const MEMORA_FROM_NEWEST: u32 = 1;
/// A reader begins with the message at a position.
pub const MEMORA_FROM_POSITION: u32 = 2;

/// An appender behind a handle.
pub(crate) struct AppenderHandle {
    appender: Exclusive<Appending>,
}

struct Appending {
    appender: Appender,
    claiming: Claiming,
}

impl AppenderHandle {
    /// Nobody appends any more.
    pub(crate) fn end(&self) -> Result<()> {
        self.appender.close();
        Ok(())
    }

    fn append(&self, append: impl FnOnce(&mut Appender) -> Result<u64>) -> Result<u64> {
        self.appender.with("appender", |appending| {
            appending.claiming.none()?;
            append(&mut appending.appender)
        })
    }

    fn claim(&self, len: usize) -> Result<()> {
        self.appender.with("appender", |appending| {
            appending.claiming.none()?;
            // Room that was found stays: only this appender takes it.
            appending.appender.claim(len)?.abort();
            appending.claiming.begin(len);
            Ok(())
        })
    }

    fn commit(&self) -> Result<u64> {
        self.appender.with("appender", |appending| {
            let Appending { appender, claiming } = appending;
            let position = appender.append(claiming.bytes()?)?;
            claiming.end()?;
            Ok(position)
        })
    }
}

/// A reader behind a handle.
pub(crate) struct LogReaderHandle {
    reader: Exclusive<Reading>,
}

struct Reading {
    reader: LogReader,
    /// What came out of a wait.
    scratch: Vec<u8>,
}

fn message_of(message: &LogMessage) -> memora_log_message_t {
    memora_log_message_t { position: message.position, len: message.len, time_ms: message.time_ms }
}

fn read_from(from: u32, position: u64) -> Result<ReadFrom> {
    match from {
        MEMORA_FROM_OLDEST => Ok(ReadFrom::Oldest),
        MEMORA_FROM_NEWEST => Ok(ReadFrom::Newest),
        MEMORA_FROM_POSITION => Ok(ReadFrom::Position(position)),
        other => Err(options::unknown("place to read from", other)),
    }
}

impl LogReaderHandle {
    /// Nobody reads any more; who waits is told.
    pub(crate) fn end(&self) -> Result<()> {
        self.reader.close();
        Ok(())
    }

    fn with<R>(&self, body: impl FnOnce(&mut LogReader) -> Result<R>) -> Result<R> {
        self.reader.with("reader", |reading| body(&mut reading.reader))
    }

    /// Reads one message into a buffer of the caller. `timeout_ms` 0 does not wait, a negative one has no end.
    fn receive(
        &self,
        border: &Border,
        buffer: &mut [u8],
        message: *mut memora_log_message_t,
        timeout_ms: i64,
    ) -> Result<()> {
        self.reader.with("reader", |reading| {
            let mut fits = true;
            let mut take = |found: &LogMessage, data: &[u8]| {
                border.put(message, message_of(found));
                match buffer.get_mut(..data.len()) {
                    Some(place) => place.copy_from_slice(data),
                    None => fits = false,
                }
                found.len
            };
            let mut len = None;
            reading.reader.poll(1, |found, data| len = Some(take(found, data)))?;
            if len.is_none() && timeout_ms != 0 {
                let found = self.wait(reading, timeout_ms)?;
                len = found.map(|found| take(&found, &reading.scratch));
            }
            match len {
                Some(_) if fits => Ok(()),
                Some(len) => {
                    reading.reader.unread()?;
                    let text = format!("The message has {len} bytes, the buffer {}.", buffer.len());
                    Err(Error::with_amount(ErrorCode::BufferTooSmall, len as u64, text))
                }
                None if timeout_ms == 0 => Err(ErrorCode::NotFound.into()),
                None => Err(ErrorCode::TimedOut.into()),
            }
        })
    }

    fn wait(&self, reading: &mut Reading, timeout_ms: i64) -> Result<Option<LogMessage>> {
        in_slices(
            timeout_ms,
            || self.reader.is_closing(),
            |wait| reading.reader.recv(&mut reading.scratch, Some(wait)),
        )
    }
}

/// Opens the log `name` of `fabric`, or creates it with `options`. NULL: the defaults. A log with files that is not there is made
/// from them: positions go on where they ended, and named readers stand where they stood.
///
/// On success `*log` is a new handle, to be closed with memora_channel_close(); else it is NULL.
/// Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT, MEMORA_INVALID_NAME, MEMORA_WRONG_KIND (it is no log), MEMORA_WRONG_OPTIONS,
/// MEMORA_TOO_MANY_OBJECTS, MEMORA_FULL, MEMORA_NO_SPACE, MEMORA_IO (a file), MEMORA_READ_ONLY, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_log_open(
    fabric: *mut memora_fabric_t,
    name: *const c_char,
    options: *const memora_log_options_t,
    log: *mut *mut memora_channel_t,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            border.open(log, || {
                let name = border.text(name, "name")?;
                let options = options::log(border, options)?;
                handles::with(handles::number(fabric), |fabric: &Fabric| fabric.channel(name, &options))
            })
        })
    }
}

/// Becomes an appender of the log.
///
/// On success `*appender` is a new handle, to be closed with memora_appender_close(); else it is NULL.
/// Returns MEMORA_OK, MEMORA_WRONG_KIND, MEMORA_TOO_MANY_PUBLISHERS, MEMORA_READ_ONLY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED,
/// MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_appender_open(
    log: *mut memora_channel_t,
    appender: *mut *mut memora_appender_t,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            border.open(appender, || {
                handles::with(handles::number(log), |log: &Channel| log.appender())
                    .map(|appender| Appending { appender, claiming: Claiming::default() })
                    .map(|appending| AppenderHandle { appender: Exclusive::new(appending) })
            })
        })
    }
}

/// Closes the handle. NULL is allowed and does nothing. What was appended stays.
///
/// Returns MEMORA_OK, MEMORA_CLOSED, MEMORA_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_appender_close(appender: *mut memora_appender_t) -> c_int {
    // SAFETY: the handle is a number, nothing is read through it.
    unsafe { call(|_| handles::close::<AppenderHandle>(handles::number(appender))) }
}

/// Appends a message. Never waits: what is in the way is trimmed. `*position` (may be NULL) becomes its position. The bytes are
/// copied.
///
/// Returns MEMORA_OK, MEMORA_LOG_FULL (a named reader of a log with MEMORA_OVERRUN_BLOCK has still to read what is in the way;
/// memora_last_error_amount() tells where it stands), MEMORA_VALUE_TOO_LONG, MEMORA_TOO_MANY_PUBLISHERS, MEMORA_BUSY,
/// MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_appender_append(
    appender: *mut memora_appender_t,
    data: *const c_void,
    len: usize,
    position: *mut u64,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            let data = border.bytes(data, len, "data")?;
            let appended = handles::with(handles::number(appender), |appender: &AppenderHandle| {
                appender.append(|appender| appender.append(data))
            })?;
            border.put(position, appended);
            Ok(())
        })
    }
}

/// As memora_appender_append(), with a durability of its own: one of MEMORA_DURABILITY_*. With MEMORA_DURABILITY_SYNC the message is on
/// the disk when the call returns; an error of the flush says that it is visible and not known to be durable.
///
/// Returns as memora_appender_append(), and MEMORA_INVALID_ARGUMENT for anything but MEMORA_DURABILITY_PROCESS on a log without
/// files, MEMORA_NO_SPACE, MEMORA_POISONED (a sync failed, now or before), MEMORA_IO, MEMORA_TIMED_OUT (the disk hangs).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_appender_append_durable(
    appender: *mut memora_appender_t,
    data: *const c_void,
    len: usize,
    durability: u32,
    position: *mut u64,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            let data = border.bytes(data, len, "data")?;
            let durability = options::durability(durability, 0)?;
            let appended = handles::with(handles::number(appender), |appender: &AppenderHandle| {
                appender.append(|appender| appender.append_durable(data, durability))
            })?;
            border.put(position, appended);
            Ok(())
        })
    }
}

/// Claims room for a message of `len` bytes. Then write it with memora_appender_write(), and commit or abort it. It has no position
/// before the commit, and nobody waits for it. Bytes that are not written are 0.
///
/// Returns as memora_appender_append(), and MEMORA_BUSY when a message is claimed already.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_appender_claim(appender: *mut memora_appender_t, len: usize) -> c_int {
    // SAFETY: the handle is a number, nothing is read through it.
    unsafe {
        call(|_| handles::with(handles::number(appender), |appender: &AppenderHandle| appender.claim(len)))
    }
}

/// Writes `len` bytes at byte `at` of the message that is claimed. In any order, any number of times.
///
/// Returns MEMORA_OK, MEMORA_NOT_FOUND (no message is claimed), MEMORA_INVALID_ARGUMENT (also when the bytes do not fit),
/// MEMORA_BUSY, MEMORA_CLOSED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_appender_write(
    appender: *mut memora_appender_t,
    at: usize,
    data: *const c_void,
    len: usize,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            let data = border.bytes(data, len, "data")?;
            handles::with(handles::number(appender), |appender: &AppenderHandle| {
                appender.appender.with("appender", |appending| appending.claiming.write(at, data))
            })
        })
    }
}

/// Makes the message that is claimed visible to the readers. `*position` (may be NULL) becomes its position.
///
/// Returns as memora_appender_append(), and MEMORA_NOT_FOUND (no message is claimed). After an error of MEMORA_LOG_FULL the claim stands.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_appender_commit(
    appender: *mut memora_appender_t,
    position: *mut u64,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            let appended = handles::with(handles::number(appender), AppenderHandle::commit)?;
            border.put(position, appended);
            Ok(())
        })
    }
}

/// Gives the message that is claimed up. Nobody has seen anything of it.
///
/// Returns MEMORA_OK, MEMORA_NOT_FOUND (no message is claimed), MEMORA_BUSY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_appender_abort(appender: *mut memora_appender_t) -> c_int {
    // SAFETY: the handle is a number, nothing is read through it.
    unsafe {
        call(|_| {
            handles::with(handles::number(appender), |appender: &AppenderHandle| {
                appender.appender.with("appender", |appending| appending.claiming.end())
            })
        })
    }
}

/// Waits until everything that anybody appended before, and where the named readers stand, is in files that are synced.
///
/// Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT (the log has no files), MEMORA_WRONG_KIND, MEMORA_NO_SPACE, MEMORA_POISONED,
/// MEMORA_IO, MEMORA_TIMED_OUT, MEMORA_READ_ONLY, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_log_flush(log: *mut memora_channel_t) -> c_int {
    // SAFETY: the handle is a number, nothing is read through it.
    unsafe { call(|_| handles::with(handles::number(log), |log: &Channel| log.flush())) }
}

/// Becomes a reader of the log, which begins at `from`, one of MEMORA_FROM_*; `position` counts with MEMORA_FROM_POSITION. With
/// `name` NULL others do not know of it. With a name it goes on where its last holder stopped, if there was one, and `from` is
/// not used; a message is done with when its holder calls recv, poll or commit again after it, or closes.
///
/// On success `*reader` is a new handle, to be closed with memora_log_reader_close(); else it is NULL.
/// Returns MEMORA_OK, MEMORA_POSITION_TRIMMED (memora_last_error_amount() tells the oldest position), MEMORA_POSITION_AHEAD (it
/// tells the end), MEMORA_WRONG_KIND, MEMORA_SUBSCRIPTION_IN_USE, MEMORA_TOO_MANY_SUBSCRIBERS, MEMORA_INVALID_NAME,
/// MEMORA_READ_ONLY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_log_reader_open(
    log: *mut memora_channel_t,
    name: *const c_char,
    from: u32,
    position: u64,
    reader: *mut *mut memora_log_reader_t,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            border.open(reader, || {
                let name = border.optional_text(name, "name")?;
                let from = read_from(from, position)?;
                let reader = handles::with(handles::number(log), |log: &Channel| match name {
                    Some(name) => log.named_reader(name, from),
                    None => log.reader(from),
                })?;
                Ok(LogReaderHandle { reader: Exclusive::new(Reading { reader, scratch: Vec::new() }) })
            })
        })
    }
}

/// Closes the handle. NULL is allowed and does nothing. What was read is done with; a name keeps its position. A thread that is
/// waiting inside a recv is answered MEMORA_CLOSED within 50 ms.
///
/// Returns MEMORA_OK, MEMORA_CLOSED, MEMORA_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_log_reader_close(reader: *mut memora_log_reader_t) -> c_int {
    // SAFETY: the handle is a number, nothing is read through it.
    unsafe { call(|_| handles::close::<LogReaderHandle>(handles::number(reader))) }
}

/// Reads the next message into `buffer`, which has room for `capacity` bytes, waiting for it for `timeout_ms` milliseconds at
/// most; MEMORA_FOREVER: without end; 0: not at all. `*message` (may be NULL) tells its length and position.
///
/// Returns MEMORA_OK, MEMORA_NOT_FOUND (with `timeout_ms` 0: there is none now), MEMORA_TIMED_OUT, MEMORA_BUFFER_TOO_SMALL
/// (`message->len` and memora_last_error_amount() tell the bytes needed; the message stays for the next call), MEMORA_OVERRUN
/// (messages were trimmed before they were read; memora_last_error_amount() tells how many; the next call goes on behind them),
/// MEMORA_EJECTED, MEMORA_BUSY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_log_reader_recv(
    reader: *mut memora_log_reader_t,
    buffer: *mut c_void,
    capacity: usize,
    timeout_ms: i64,
    message: *mut memora_log_message_t,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            let buffer = border.buffer(buffer, capacity, "buffer")?;
            handles::with(handles::number(reader), |reader: &LogReaderHandle| {
                reader.receive(border, buffer, message, timeout_ms)
            })
        })
    }
}

/// Calls `function` for up to `limit` messages that are there now. Never waits. `*count` (may be NULL) becomes their number,
/// 0 when there was none. The function may call the library, but not use this reader (MEMORA_BUSY), throw or jump out.
///
/// Returns MEMORA_OK, MEMORA_OVERRUN (as memora_log_reader_recv() does), MEMORA_EJECTED, MEMORA_BUSY, MEMORA_INVALID_ARGUMENT,
/// MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_log_reader_poll(
    reader: *mut memora_log_reader_t,
    limit: usize,
    function: memora_log_message_fn,
    context: *mut c_void,
    count: *mut usize,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            let function = border.function(function)?;
            let taken = Cell::new(0);
            let hand_over = |message: &LogMessage, data: &[u8]| {
                taken.set(taken.get() + 1);
                // Within the licence above: the caller's function, with pointers to private copies that live during the call.
                function(context, &message_of(message), data.as_ptr().cast(), data.len());
            };
            let result = handles::with(handles::number(reader), |reader: &LogReaderHandle| {
                reader.with(|reader| reader.poll(limit, hand_over).map(drop))
            });
            border.put(count, taken.get());
            result
        })
    }
}

/// Says that everything read so far is done with: after a kill a named reader does not see it again.
///
/// Returns MEMORA_OK, MEMORA_EJECTED, MEMORA_BUSY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_log_reader_commit(reader: *mut memora_log_reader_t) -> c_int {
    // SAFETY: the handle is a number, nothing is read through it.
    unsafe {
        call(|_| {
            handles::with(handles::number(reader), |reader: &LogReaderHandle| reader.with(LogReader::commit))
        })
    }
}

/// Goes on elsewhere: `from` and `position` as with memora_log_reader_open(). What was read before is done with.
///
/// Returns MEMORA_OK, MEMORA_POSITION_TRIMMED, MEMORA_POSITION_AHEAD, MEMORA_EJECTED, MEMORA_BUSY, MEMORA_INVALID_ARGUMENT,
/// MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_log_reader_seek(
    reader: *mut memora_log_reader_t,
    from: u32,
    position: u64,
) -> c_int {
    // SAFETY: the handle is a number, nothing is read through it.
    unsafe {
        call(|_| {
            let from = read_from(from, position)?;
            handles::with(handles::number(reader), |reader: &LogReaderHandle| {
                reader.with(|reader| reader.seek(from))
            })
        })
    }
}

/// Tells the position of the message that is read next, and how many messages there are from there to the end. Both may be NULL.
///
/// Returns MEMORA_OK, MEMORA_BUSY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_log_reader_position(
    reader: *mut memora_log_reader_t,
    position: *mut u64,
    lag: *mut u64,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            let (at, behind) = handles::with(handles::number(reader), |reader: &LogReaderHandle| {
                reader.with(|reader| Ok((reader.position(), reader.lag()?)))
            })?;
            border.put(position, at);
            border.put(lag, behind);
            Ok(())
        })
    }
}

/// Ends the named reader `name`, whose holder is away: it keeps nothing any more. `*ended` (may be NULL) becomes 1, or 0 if there
/// is none.
///
/// Returns MEMORA_OK, MEMORA_SUBSCRIPTION_IN_USE, MEMORA_INVALID_NAME, MEMORA_BUSY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED,
/// MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_log_forget(
    log: *mut memora_channel_t,
    name: *const c_char,
    ended: *mut c_int,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            let name = border.text(name, "name")?;
            let done = handles::with(handles::number(log), |log: &Channel| log.unsubscribe(name))?;
            border.put(ended, c_int::from(done));
            Ok(())
        })
    }
}

/// Gives figures of the log. `struct_size` is sizeof *stats.
///
/// Returns MEMORA_OK, MEMORA_WRONG_KIND, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_log_stats(
    log: *mut memora_channel_t,
    stats: *mut memora_log_stats_t,
    struct_size: usize,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            let (appenders, figures) = handles::with(handles::number(log), |log: &Channel| {
                let stats = log.stats()?;
                let figures = stats.log.ok_or_else(|| {
                    Error::new(ErrorCode::WrongKind, format!("Channel `{}` is no log.", log.name()))
                })?;
                Ok((stats.publishers, figures))
            })?;
            let figures = memora_log_stats_t {
                oldest: figures.oldest,
                end: figures.end,
                bytes: figures.bytes,
                bytes_max: figures.bytes_max,
                appenders: u64::from(appenders),
                readers: figures.readers.len() as u64,
                lag_max: figures.readers.iter().map(|reader| reader.lag).max().unwrap_or(0),
                durable: figures.files.as_ref().map_or(0, |files| files.durable),
                file_bytes: figures.files.as_ref().map_or(0, |files| files.bytes),
                poisoned: figures.files.as_ref().map_or(0, |files| u64::from(files.poisoned)),
            };
            border.put_sized(stats, struct_size, figures)
        })
    }
}
