//! Entries of channels, publishers and subscribers.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::ffi::{c_char, c_int, c_void};
use std::time::{Duration, Instant};

use memora_core::limits::WAIT_SLICE_MS;
use memora_core::{
    Channel, Error, ErrorCode, Fabric, Message, MessageView, Publisher, Result, Subscriber, WaitSet,
};

use crate::cache::memora_bytes_t;
use crate::claiming::Claiming;
use crate::exclusive::Exclusive;
use crate::fabric::memora_fabric_t;
use crate::guard::{Border, call};
use crate::handles;
use crate::options::{self, memora_channel_options_t};

/// A channel: messages from publishers to subscribers. Open it with memora_channel_open(), close it with
/// memora_channel_close(). May be used by any number of threads at once.
#[allow(non_camel_case_types)]
pub struct memora_channel_t {
    _opaque: [u8; 0],
}

/// One producer of a channel, with a ring of its own. Open it with memora_publisher_open(), close it with
/// memora_publisher_close(). For one thread at a time: another one is answered MEMORA_BUSY.
#[allow(non_camel_case_types)]
pub struct memora_publisher_t {
    _opaque: [u8; 0],
}

/// One consumer of a channel. Open it with memora_subscriber_open(), close it with memora_subscriber_close(). For one
/// thread at a time: another one is answered MEMORA_BUSY. It may go from one thread to another, but an anonymous one ends with
/// the thread that used it last.
#[allow(non_camel_case_types)]
pub struct memora_subscriber_t {
    _opaque: [u8; 0],
}

/// Where a message stood.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct memora_message_t {
    /// Bytes of its lane up to the end of this message: larger for each message of one publisher, never 0, and the same when
    /// the message is seen again.
    pub position: u64,
    /// Bytes of the message.
    pub len: usize,
    /// The ring it came through; each publisher has one.
    pub lane: u32,
    /// 0.
    pub reserved: u32,
    /// When it was sent: nanoseconds of CLOCK_MONOTONIC; 0 on a channel without timestamps.
    pub sent_ns: u64,
}

/// Takes one message of a poll. `message` and `data` are valid only until the function returns.
#[allow(non_camel_case_types)]
pub type memora_message_fn = Option<
    unsafe extern "C" fn(
        context: *mut c_void,
        message: *const memora_message_t,
        data: *const c_void,
        len: usize,
    ),
>;

/// Wait without end.
pub const MEMORA_FOREVER: i64 = -1;

/// A publisher behind a handle.
pub(crate) struct PublisherHandle {
    publisher: Exclusive<Publishing>,
}

struct Publishing {
    publisher: Publisher,
    claiming: Claiming,
}

/// A subscriber behind a handle.
pub(crate) struct SubscriberHandle {
    subscriber: Exclusive<Receiving>,
}

struct Receiving {
    subscriber: Subscriber,
    /// What came out of a wait.
    scratch: Vec<u8>,
}

/// How long to sleep between two looks for room, where the core has no wait.
const LOOK: Duration = Duration::from_micros(200);

/// The time at which a wait ends; none for one without end.
pub(crate) fn deadline(timeout_ms: i64) -> Option<Instant> {
    let timeout = u64::try_from(timeout_ms).ok()?;
    Instant::now().checked_add(Duration::from_millis(timeout))
}

/// The next slice of a wait, so that a close by another thread is noticed; none when the time is over.
pub(crate) fn slice(deadline: Option<Instant>) -> Option<Duration> {
    let slice = Duration::from_millis(WAIT_SLICE_MS);
    let Some(deadline) = deadline else { return Some(slice) };
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { None } else { Some(left.min(slice)) }
}

/// Waits in slices, so that a close by another thread is noticed, until `attempt` gives something; none when the time is over.
pub(crate) fn in_slices<T>(
    timeout_ms: i64,
    closing: impl Fn() -> bool,
    mut attempt: impl FnMut(Duration) -> Result<Option<T>>,
) -> Result<Option<T>> {
    let deadline = deadline(timeout_ms);
    while let Some(wait) = slice(deadline) {
        if let Some(found) = attempt(wait)? {
            return Ok(Some(found));
        }
        if closing() {
            return Err(ErrorCode::Closed.into());
        }
    }
    Ok(None)
}

/// The answer of a call that waited for nothing.
pub(crate) fn timed_out() -> Error {
    ErrorCode::TimedOut.into()
}

fn message_of(message: &Message) -> memora_message_t {
    memora_message_t {
        position: message.position,
        len: message.len,
        lane: message.lane,
        reserved: 0,
        sent_ns: message.sent_ns,
    }
}

impl SubscriberHandle {
    fn new(subscriber: Subscriber) -> SubscriberHandle {
        SubscriberHandle { subscriber: Exclusive::new(Receiving { subscriber, scratch: Vec::new() }) }
    }

    /// Nobody receives any more; who waits is told.
    pub(crate) fn end(&self) -> Result<()> {
        self.subscriber.close();
        Ok(())
    }

    /// Receives one message into a buffer of the caller. `timeout_ms` 0 does not wait, a negative one has no end.
    fn receive(
        &self,
        border: &Border,
        buffer: &mut [u8],
        message: *mut memora_message_t,
        timeout_ms: i64,
    ) -> Result<()> {
        self.subscriber.with("subscriber", |receiving| {
            let mut fits = true;
            let mut len = None;
            receiving.subscriber.poll_in_place(1, |view| {
                border.put(message, message_of(view.message()));
                match buffer.get_mut(..view.len()) {
                    Some(place) => view.copy_to(0, place)?,
                    None => fits = false,
                }
                len = Some(view.len());
                Ok(())
            })?;
            if len.is_none()
                && timeout_ms != 0
                && let Some(found) = self.wait(receiving, timeout_ms)?
            {
                border.put(message, message_of(&found));
                match buffer.get_mut(..found.len) {
                    Some(place) => place.copy_from_slice(&receiving.scratch),
                    None => fits = false,
                }
                len = Some(found.len);
            }
            match len {
                Some(_) if fits => Ok(()),
                Some(len) => {
                    receiving.subscriber.unread()?;
                    let text = format!("The message has {len} bytes, the buffer {}.", buffer.len());
                    Err(Error::with_amount(ErrorCode::BufferTooSmall, len as u64, text))
                }
                None if timeout_ms == 0 => Err(ErrorCode::NotFound.into()),
                None => Err(ErrorCode::TimedOut.into()),
            }
        })
    }

    fn wait(&self, receiving: &mut Receiving, timeout_ms: i64) -> Result<Option<Message>> {
        in_slices(
            timeout_ms,
            || self.subscriber.is_closing(),
            |wait| receiving.subscriber.recv(&mut receiving.scratch, Some(wait)),
        )
    }

    /// Notes the subscriber among those that are waited for.
    pub(crate) fn watch(&self, set: &mut WaitSet) -> Result<()> {
        self.subscriber.with("subscriber", |receiving| set.watch(&mut receiving.subscriber).map(drop))
    }

    fn poll(&self, limit: usize, hand_over: impl FnMut(&Message, &[u8])) -> Result<usize> {
        self.subscriber.with("subscriber", |receiving| receiving.subscriber.poll(limit, hand_over))
    }

    fn poll_in_place(
        &self,
        limit: usize,
        hand_over: impl FnMut(&MessageView<'_>) -> Result<()>,
    ) -> Result<usize> {
        self.subscriber.with("subscriber", |receiving| receiving.subscriber.poll_in_place(limit, hand_over))
    }
}

impl PublisherHandle {
    fn new(publisher: Publisher) -> PublisherHandle {
        PublisherHandle { publisher: Exclusive::new(Publishing { publisher, claiming: Claiming::default() }) }
    }

    /// Nobody sends any more; who waits is told.
    pub(crate) fn end(&self) -> Result<()> {
        self.publisher.close();
        Ok(())
    }

    /// Sends one message, waiting as long as said.
    #[inline]
    fn send(&self, data: &[u8], timeout_ms: i64) -> Result<u64> {
        self.publisher.with("publisher", |publishing| {
            publishing.claiming.none()?;
            match publishing.publisher.try_send(data) {
                Err(error) if error.code() == ErrorCode::BackPressure && timeout_ms != 0 => {
                    self.wait_and_send(&mut publishing.publisher, data, timeout_ms)
                }
                result => result,
            }
        })
    }

    /// Sends messages that come together or not at all, waiting as long as said.
    fn send_all(&self, messages: &[&[u8]], timeout_ms: i64) -> Result<u64> {
        self.publisher.with("publisher", |publishing| {
            publishing.claiming.none()?;
            match publishing.publisher.try_send_all(messages) {
                Err(error) if error.code() == ErrorCode::BackPressure && timeout_ms != 0 => {}
                other => return other,
            }
            self.waiting(timeout_ms, |wait| publishing.publisher.send_all_timeout(messages, wait))
        })
    }

    #[cold]
    #[inline(never)]
    fn wait_and_send(&self, publisher: &mut Publisher, data: &[u8], timeout_ms: i64) -> Result<u64> {
        self.waiting(timeout_ms, |wait| publisher.send_timeout(data, wait))
    }

    /// Sends in slices of the time, so that a close by another thread is noticed.
    fn waiting(&self, timeout_ms: i64, mut send: impl FnMut(Duration) -> Result<u64>) -> Result<u64> {
        let attempt = |wait| match send(wait) {
            Err(error) if error.code() == ErrorCode::TimedOut => Ok(None),
            other => other.map(Some),
        };
        in_slices(timeout_ms, || self.publisher.is_closing(), attempt)?.ok_or_else(timed_out)
    }

    /// Claims room for one message, waiting as long as said.
    fn claim(&self, len: usize, timeout_ms: i64) -> Result<()> {
        self.publisher.with("publisher", |publishing| {
            publishing.claiming.none()?;
            let deadline = deadline(timeout_ms);
            loop {
                // Room that was found stays: only this publisher takes it.
                match publishing.publisher.try_claim(len) {
                    Ok(claim) => claim.abort(),
                    Err(error) if error.code() == ErrorCode::BackPressure && timeout_ms != 0 => {
                        let Some(wait) = slice(deadline) else { return Err(ErrorCode::TimedOut.into()) };
                        std::thread::sleep(wait.min(LOOK));
                        if self.publisher.is_closing() {
                            return Err(ErrorCode::Closed.into());
                        }
                        continue;
                    }
                    Err(error) => return Err(error),
                }
                publishing.claiming.begin(len);
                return Ok(());
            }
        })
    }

    fn write(&self, at: usize, data: &[u8]) -> Result<()> {
        self.publisher.with("publisher", |publishing| publishing.claiming.write(at, data))
    }

    fn commit(&self) -> Result<u64> {
        self.publisher.with("publisher", |publishing| {
            let Publishing { publisher, claiming } = publishing;
            let bytes = claiming.bytes()?;
            let mut room = publisher.try_claim(bytes.len())?;
            room.write(0, bytes)?;
            let position = room.commit()?;
            claiming.end()?;
            Ok(position)
        })
    }

    fn abort(&self) -> Result<()> {
        self.publisher.with("publisher", |publishing| publishing.claiming.end())
    }
}

/// Opens the channel `name` of `fabric`, or creates it with `options`. With `options` NULL it must be there, of any kind.
///
/// On success `*channel` is a new handle, to be closed with memora_channel_close(); else it is NULL.
/// Returns MEMORA_OK, MEMORA_NOT_FOUND, MEMORA_INVALID_ARGUMENT, MEMORA_INVALID_NAME, MEMORA_WRONG_KIND,
/// MEMORA_WRONG_OPTIONS, MEMORA_TOO_MANY_OBJECTS, MEMORA_FULL, MEMORA_NO_SPACE, MEMORA_READ_ONLY, MEMORA_CLOSED,
/// MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_channel_open(
    fabric: *mut memora_fabric_t,
    name: *const c_char,
    options: *const memora_channel_options_t,
    channel: *mut *mut memora_channel_t,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            border.open(channel, || {
                let name = border.text(name, "name")?;
                if options.is_null() {
                    return handles::with(handles::number(fabric), |fabric: &Fabric| {
                        fabric.open_channel(name)
                    });
                }
                let options = options::channel(border, options)?;
                handles::with(handles::number(fabric), |fabric: &Fabric| fabric.channel(name, &options))
            })
        })
    }
}

/// Closes the handle. NULL is allowed and does nothing. Publishers and subscribers of the channel stay open.
///
/// Returns MEMORA_OK, MEMORA_CLOSED, MEMORA_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_channel_close(channel: *mut memora_channel_t) -> c_int {
    // SAFETY: the handle is a number, nothing is read through it.
    unsafe { call(|_| handles::close::<Channel>(handles::number(channel))) }
}

/// Becomes a publisher of the channel.
///
/// On success `*publisher` is a new handle, to be closed with memora_publisher_close(); else it is NULL.
/// Returns MEMORA_OK, MEMORA_TOO_MANY_PUBLISHERS, MEMORA_FULL, MEMORA_NO_SPACE, MEMORA_READ_ONLY, MEMORA_INVALID_ARGUMENT,
/// MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_publisher_open(
    channel: *mut memora_channel_t,
    publisher: *mut *mut memora_publisher_t,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            border.open(publisher, || {
                handles::with(handles::number(channel), |channel: &Channel| channel.publisher())
                    .map(PublisherHandle::new)
            })
        })
    }
}

/// Closes the handle. NULL is allowed and does nothing. What was sent stays for the subscribers; a message that was claimed
/// and not committed is given up. A thread that is waiting inside a send is answered MEMORA_CLOSED within 50 ms.
///
/// Returns MEMORA_OK, MEMORA_CLOSED, MEMORA_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_publisher_close(publisher: *mut memora_publisher_t) -> c_int {
    // SAFETY: the handle is a number, nothing is read through it.
    unsafe { call(|_| handles::close::<PublisherHandle>(handles::number(publisher))) }
}

/// Sends a message, waiting for room as long as it takes: MEMORA_BACK_PRESSURE never comes. `*position` (may be NULL) becomes
/// its place in the lane. The bytes are copied.
///
/// Returns MEMORA_OK, MEMORA_VALUE_TOO_LONG, MEMORA_BUSY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED,
/// MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_publisher_send(
    publisher: *mut memora_publisher_t,
    data: *const c_void,
    len: usize,
    position: *mut u64,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe { call(|border| send(border, publisher, data, len, MEMORA_FOREVER, position)) }
}

/// As memora_publisher_send(), but never waits.
///
/// Returns what memora_publisher_send() does, or MEMORA_BACK_PRESSURE: a subscriber is behind and the ring is full.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_publisher_try_send(
    publisher: *mut memora_publisher_t,
    data: *const c_void,
    len: usize,
    position: *mut u64,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe { call(|border| send(border, publisher, data, len, 0, position)) }
}

/// As memora_publisher_send(), but waits for `timeout_ms` milliseconds at most; MEMORA_FOREVER: without end; 0: as
/// memora_publisher_try_send().
///
/// Returns what memora_publisher_send() does, or MEMORA_TIMED_OUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_publisher_send_timeout(
    publisher: *mut memora_publisher_t,
    data: *const c_void,
    len: usize,
    timeout_ms: i64,
    position: *mut u64,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe { call(|border| send(border, publisher, data, len, timeout_ms, position)) }
}

/// Sends `count` messages that subscribers get all or none of, in this order, also if the process dies meanwhile. Together they may take
/// what one message may. Waits as memora_publisher_send_timeout() does. `*position` (may be NULL) becomes the place of the last.
///
/// Returns what memora_publisher_send_timeout() does.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_publisher_send_all(
    publisher: *mut memora_publisher_t,
    messages: *const memora_bytes_t,
    count: usize,
    timeout_ms: i64,
    position: *mut u64,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            let messages = border.elements(messages, count, "messages")?;
            let messages = messages.iter().map(|bytes| border.bytes(bytes.data, bytes.len, "messages"));
            let messages = messages.collect::<Result<Vec<_>>>()?;
            let sent = handles::with(handles::number(publisher), |publisher: &PublisherHandle| {
                publisher.send_all(&messages, timeout_ms)
            })?;
            border.put(position, sent);
            Ok(())
        })
    }
}

fn send(
    border: &Border,
    publisher: *mut memora_publisher_t,
    data: *const c_void,
    len: usize,
    timeout_ms: i64,
    position: *mut u64,
) -> Result<()> {
    let data = border.bytes(data, len, "data")?;
    let sent = handles::with(handles::number(publisher), |publisher: &PublisherHandle| {
        publisher.send(data, timeout_ms)
    })?;
    border.put(position, sent);
    Ok(())
}

/// Claims room for a message of `len` bytes, waiting for it for `timeout_ms` milliseconds at most; MEMORA_FOREVER: without end;
/// 0: not at all. Then write it with memora_publisher_write(), and commit or abort it. Bytes that are not written are 0.
///
/// Returns MEMORA_OK, MEMORA_BACK_PRESSURE (with `timeout_ms` 0), MEMORA_TIMED_OUT, MEMORA_VALUE_TOO_LONG, MEMORA_BUSY (also
/// when a message is claimed already), MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_publisher_claim(
    publisher: *mut memora_publisher_t,
    len: usize,
    timeout_ms: i64,
) -> c_int {
    // SAFETY: the handle is a number, nothing is read through it.
    unsafe {
        call(|_| {
            handles::with(handles::number(publisher), |publisher: &PublisherHandle| {
                publisher.claim(len, timeout_ms)
            })
        })
    }
}

/// Writes `len` bytes at byte `at` of the message that is claimed. In any order, any number of times.
///
/// Returns MEMORA_OK, MEMORA_NOT_FOUND (no message is claimed), MEMORA_INVALID_ARGUMENT (also when the bytes do not fit),
/// MEMORA_BUSY, MEMORA_CLOSED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_publisher_write(
    publisher: *mut memora_publisher_t,
    at: usize,
    data: *const c_void,
    len: usize,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            let data = border.bytes(data, len, "data")?;
            handles::with(handles::number(publisher), |publisher: &PublisherHandle| publisher.write(at, data))
        })
    }
}

/// Makes the message that is claimed visible to the subscribers. `*position` (may be NULL) becomes its place in the lane.
///
/// Returns MEMORA_OK, MEMORA_NOT_FOUND (no message is claimed), MEMORA_BUSY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED,
/// MEMORA_FORKED, MEMORA_CORRUPT; MEMORA_BACK_PRESSURE only if the publisher went to another thread since the claim, which
/// stands then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_publisher_commit(
    publisher: *mut memora_publisher_t,
    position: *mut u64,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            let sent = handles::with(handles::number(publisher), PublisherHandle::commit)?;
            border.put(position, sent);
            Ok(())
        })
    }
}

/// Gives the message that is claimed up. Nobody has seen anything of it.
///
/// Returns MEMORA_OK, MEMORA_NOT_FOUND (no message is claimed), MEMORA_BUSY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_publisher_abort(publisher: *mut memora_publisher_t) -> c_int {
    // SAFETY: the handle is a number, nothing is read through it.
    unsafe { call(|_| handles::with(handles::number(publisher), PublisherHandle::abort)) }
}

/// Becomes a subscriber of the channel. With `name` NULL: anonymous, from now on. With a name: the subscription is kept
/// while nobody holds it, and goes on where its last holder stopped. A message is done with when its holder calls recv, poll
/// or commit again after it, or closes: after a kill the last ones come once more.
///
/// On success `*subscriber` is a new handle, to be closed with memora_subscriber_close(); else it is NULL.
/// Returns MEMORA_OK, MEMORA_SUBSCRIPTION_IN_USE, MEMORA_TOO_MANY_SUBSCRIBERS, MEMORA_INVALID_NAME, MEMORA_READ_ONLY,
/// MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_subscriber_open(
    channel: *mut memora_channel_t,
    name: *const c_char,
    subscriber: *mut *mut memora_subscriber_t,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            border.open(subscriber, || {
                let name = border.optional_text(name, "name")?;
                let made = handles::with(handles::number(channel), |channel: &Channel| match name {
                    Some(name) => channel.subscribe(name),
                    None => channel.subscriber(),
                })?;
                Ok(SubscriberHandle::new(made))
            })
        })
    }
}

/// Closes the handle. NULL is allowed and does nothing. What was received is done with; a named subscription stays. A thread
/// that is waiting inside a recv is answered MEMORA_CLOSED within 50 ms.
///
/// Returns MEMORA_OK, MEMORA_CLOSED, MEMORA_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_subscriber_close(subscriber: *mut memora_subscriber_t) -> c_int {
    // SAFETY: the handle is a number, nothing is read through it.
    unsafe { call(|_| handles::close::<SubscriberHandle>(handles::number(subscriber))) }
}

/// Takes the next message into `buffer`, which has room for `capacity` bytes, if there is one. Never waits. `*message`
/// (may be NULL) tells its length and place.
///
/// Returns MEMORA_OK, MEMORA_NOT_FOUND (there is none now), MEMORA_BUFFER_TOO_SMALL (`message->len` and
/// memora_last_error_amount() tell the bytes needed; the message stays for the next call), MEMORA_OVERRUN (once for each
/// loss; memora_last_error_amount() tells the messages lost; the next call goes on), MEMORA_BUSY, MEMORA_INVALID_ARGUMENT,
/// MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_subscriber_try_recv(
    subscriber: *mut memora_subscriber_t,
    buffer: *mut c_void,
    capacity: usize,
    message: *mut memora_message_t,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe { call(|border| receive(border, subscriber, buffer, capacity, 0, message)) }
}

/// As memora_subscriber_try_recv(), but waits for a message for `timeout_ms` milliseconds at most; MEMORA_FOREVER: without
/// end; 0: not at all.
///
/// Returns what memora_subscriber_try_recv() does, and MEMORA_TIMED_OUT instead of MEMORA_NOT_FOUND unless `timeout_ms` is 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_subscriber_recv(
    subscriber: *mut memora_subscriber_t,
    buffer: *mut c_void,
    capacity: usize,
    timeout_ms: i64,
    message: *mut memora_message_t,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe { call(|border| receive(border, subscriber, buffer, capacity, timeout_ms, message)) }
}

fn receive(
    border: &Border,
    subscriber: *mut memora_subscriber_t,
    buffer: *mut c_void,
    capacity: usize,
    timeout_ms: i64,
    message: *mut memora_message_t,
) -> Result<()> {
    let buffer = border.buffer(buffer, capacity, "buffer")?;
    handles::with(handles::number(subscriber), |subscriber: &SubscriberHandle| {
        subscriber.receive(border, buffer, message, timeout_ms)
    })
}

/// Calls `function` for up to `limit` messages that are there now. Never waits. `*count` (may be NULL) becomes their number,
/// 0 when there was none. The function may call the library, but not use this subscriber (MEMORA_BUSY), throw or jump out.
///
/// Returns MEMORA_OK, MEMORA_OVERRUN (as memora_subscriber_try_recv() does), MEMORA_BUSY, MEMORA_INVALID_ARGUMENT,
/// MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_subscriber_poll(
    subscriber: *mut memora_subscriber_t,
    limit: usize,
    function: memora_message_fn,
    context: *mut c_void,
    count: *mut usize,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            let function = border.function(function)?;
            let taken = Cell::new(0);
            let hand_over = |message: &Message, data: &[u8]| {
                taken.set(taken.get() + 1);
                // Within the licence above: the caller's function, with pointers to private copies that live during the call.
                function(context, &message_of(message), data.as_ptr().cast(), data.len());
            };
            let result = handles::with(handles::number(subscriber), |subscriber: &SubscriberHandle| {
                subscriber.poll(limit, hand_over).map(drop)
            });
            // Also after a loss: some may have come before it was met.
            border.put(count, taken.get());
            result
        })
    }
}

/// As memora_subscriber_poll(), but `data` of the function is where the message stands in the fabric: nothing is copied. It is
/// valid until the function returns. The library does not change these bytes before the next call with this subscriber; but any
/// process that has the fabric mapped for writing may do so, by a mistake or by intent, at any moment. So do not check a byte and
/// then read it again: take lengths, offsets and what else your memory safety hangs on into variables first, or use
/// memora_subscriber_poll() where a process of the fabric is not trusted.
///
/// A message longer than the ring of its publisher takes stands in several places and is put together for the function; on a
/// channel that overruns it gets a copy, too. When the subscription is ejected while the function is at work, its bytes may be
/// those of another message: then this, or the next call, returns MEMORA_EJECTED, and the message that was handed out last was not
/// received.
///
/// Returns what memora_subscriber_poll() does, and MEMORA_EJECTED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_subscriber_poll_in_place(
    subscriber: *mut memora_subscriber_t,
    limit: usize,
    function: memora_message_fn,
    context: *mut c_void,
    count: *mut usize,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            let function = border.function(function)?;
            let taken = Cell::new(0);
            let hand_over = |view: &MessageView<'_>| {
                let pieces = if view.as_ptr().is_none() { view.to_vec()? } else { Vec::new() };
                let data = view.as_ptr().unwrap_or(pieces.as_ptr());
                taken.set(taken.get() + 1);
                // Within the licence above: the caller's function, with pointers to private copies, or to a message that stays mapped
                // while the handle is in use.
                function(context, &message_of(view.message()), data.cast(), view.len());
                Ok(())
            };
            let result = handles::with(handles::number(subscriber), |subscriber: &SubscriberHandle| {
                subscriber.poll_in_place(limit, hand_over).map(drop)
            });
            // Also after a loss: some may have come before it was met.
            border.put(count, taken.get());
            result
        })
    }
}

/// Says that everything received so far is done with: after a kill it does not come again. Without this call that happens
/// with the next recv or poll.
///
/// Returns MEMORA_OK, MEMORA_BUSY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_subscriber_commit(subscriber: *mut memora_subscriber_t) -> c_int {
    // SAFETY: the handle is a number, nothing is read through it.
    unsafe {
        call(|_| {
            handles::with(handles::number(subscriber), |subscriber: &SubscriberHandle| {
                subscriber.subscriber.with("subscriber", |receiving| receiving.subscriber.commit())
            })
        })
    }
}

/// Tells the bytes that were published and not yet received, with headers and padding.
///
/// Returns MEMORA_OK, MEMORA_BUSY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_subscriber_lag(
    subscriber: *mut memora_subscriber_t,
    bytes: *mut u64,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            border.wanted(bytes, "bytes")?;
            let lag = handles::with(handles::number(subscriber), |subscriber: &SubscriberHandle| {
                subscriber.subscriber.with("subscriber", |receiving| receiving.subscriber.lag())
            })?;
            border.put(bytes, lag);
            Ok(())
        })
    }
}
