//! Entries of consumers of queues.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::time::Duration;

use memora_core::{Channel, Consumer, Delivery, Error, ErrorCode, Receipt, Result, WaitSet};

use crate::channel::{in_slices, memora_channel_t, timed_out};
use crate::exclusive::Exclusive;
use crate::guard::{Border, call};
use crate::handles;

/// One of the consumers of a queue (MEMORA_CHANNEL_QUEUE): each message goes to one of them. Open it with
/// memora_consumer_open(), close it with memora_consumer_close(). For one thread at a time: another one is answered MEMORA_BUSY.
#[allow(non_camel_case_types)]
pub struct memora_consumer_t {
    _opaque: [u8; 0],
}

/// What a message of a queue with acknowledgement is acknowledged with, by the consumer that it was handed to. Copy it as you
/// like; what stands in it is nobody's business.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct memora_receipt_t {
    /// Three words of the library.
    pub words: [u64; 3],
}

/// What came with a message of a queue.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct memora_delivery_t {
    /// Bytes of its lane up to the end of this message: lane and position name a message for ever, also when it is seen again.
    pub position: u64,
    /// Bytes of the message.
    pub len: usize,
    /// The ring it came through; each publisher has one.
    pub lane: u32,
    /// How often it was delivered, this time included.
    pub deliveries: u32,
    /// 1 if somebody may have had it before, else 0.
    pub redelivered: u32,
    /// 0.
    pub reserved: u32,
    /// When it was sent: nanoseconds of CLOCK_MONOTONIC; 0 on a channel without timestamps.
    pub sent_ns: u64,
    /// What it is acknowledged with; means nothing on a queue without acknowledgement.
    pub receipt: memora_receipt_t,
}

/// Takes one message of a poll. `delivery` and `data` are valid only until the function returns.
#[allow(non_camel_case_types)]
pub type memora_delivery_fn = Option<
    unsafe extern "C" fn(
        context: *mut c_void,
        delivery: *const memora_delivery_t,
        data: *const c_void,
        len: usize,
    ),
>;

/// A consumer behind a handle.
pub(crate) struct ConsumerHandle {
    consumer: Exclusive<Consuming>,
}

struct Consuming {
    consumer: Consumer,
    /// What came out of a wait.
    scratch: Vec<u8>,
    /// A message that did not fit the buffer of the caller: it comes with the next call.
    held: Option<(Delivery, Vec<u8>)>,
}

fn delivery_of(delivery: &Delivery) -> memora_delivery_t {
    memora_delivery_t {
        position: delivery.position,
        len: delivery.len,
        lane: delivery.lane,
        deliveries: delivery.deliveries,
        redelivered: delivery.redelivered.into(),
        reserved: 0,
        sent_ns: delivery.sent_ns,
        receipt: memora_receipt_t { words: delivery.receipt.words() },
    }
}

impl Consuming {
    /// The next message, which stands in `scratch`. `timeout_ms` 0 does not wait, a negative one has no end.
    fn next(&mut self, closing: impl Fn() -> bool, timeout_ms: i64) -> Result<Delivery> {
        if let Some((delivery, data)) = self.held.take() {
            self.scratch = data;
            return Ok(delivery);
        }
        if let Some(delivery) = self.consumer.try_recv(&mut self.scratch)? {
            return Ok(delivery);
        }
        if timeout_ms == 0 {
            return Err(ErrorCode::NotFound.into());
        }
        in_slices(timeout_ms, closing, |wait| self.consumer.recv(&mut self.scratch, Some(wait)))?
            .ok_or_else(timed_out)
    }
}

impl ConsumerHandle {
    fn new(consumer: Consumer) -> ConsumerHandle {
        ConsumerHandle { consumer: Exclusive::new(Consuming { consumer, scratch: Vec::new(), held: None }) }
    }

    /// Nobody receives any more; who waits is told.
    pub(crate) fn end(&self) -> Result<()> {
        self.consumer.close();
        Ok(())
    }

    /// Notes the consumer among those that are waited for. True: a message waits for a larger buffer, so nothing is waited for.
    pub(crate) fn watch(&self, set: &mut WaitSet) -> Result<bool> {
        self.with(|consuming| {
            set.watch(&mut consuming.consumer)?;
            Ok(consuming.held.is_some())
        })
    }

    fn with<R>(&self, f: impl FnOnce(&mut Consuming) -> Result<R>) -> Result<R> {
        self.consumer.with("consumer", f)
    }

    /// Receives one message into a buffer of the caller.
    fn receive(
        &self,
        border: &Border,
        buffer: &mut [u8],
        delivery: *mut memora_delivery_t,
        timeout_ms: i64,
    ) -> Result<()> {
        self.with(|consuming| {
            let found = consuming.next(|| self.consumer.is_closing(), timeout_ms)?;
            border.put(delivery, delivery_of(&found));
            match buffer.get_mut(..found.len) {
                Some(place) => {
                    place.copy_from_slice(&consuming.scratch);
                    Ok(())
                }
                None => {
                    let len = found.len;
                    consuming.held = Some((found, std::mem::take(&mut consuming.scratch)));
                    let text = format!("The message has {len} bytes, the buffer {}.", buffer.len());
                    Err(Error::with_amount(ErrorCode::BufferTooSmall, len as u64, text))
                }
            }
        })
    }

    fn poll(&self, limit: usize, mut hand_over: impl FnMut(&Delivery, &[u8])) -> Result<()> {
        self.with(|consuming| {
            let mut limit = limit;
            if limit > 0
                && let Some((delivery, data)) = consuming.held.take()
            {
                hand_over(&delivery, &data);
                limit -= 1;
            }
            consuming.consumer.poll(limit, hand_over).map(drop)
        })
    }

    fn ack_all(&self) -> Result<u64> {
        self.with(|consuming| match consuming.held {
            None => consuming.consumer.ack_all(),
            Some(_) => {
                let text = "A message did not fit its buffer: receive it before you acknowledge everything.";
                Err(Error::new(ErrorCode::Busy, text))
            }
        })
    }
}

/// Milliseconds as a duration.
fn milliseconds(time_ms: u64) -> Duration {
    Duration::from_millis(time_ms)
}

/// Becomes a consumer of the queue.
///
/// With acknowledgement it holds what it receives until that is acknowledged, given back, or its time is over; when it closes or
/// dies, others get it. On a queue without, what was received is gone.
/// On success `*consumer` is a new handle, to be closed with memora_consumer_close(); else it is NULL.
/// Returns MEMORA_OK, MEMORA_WRONG_KIND (the channel is no queue), MEMORA_TOO_MANY_SUBSCRIBERS, MEMORA_FULL, MEMORA_NO_SPACE,
/// MEMORA_READ_ONLY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_consumer_open(
    channel: *mut memora_channel_t,
    consumer: *mut *mut memora_consumer_t,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            border.open(consumer, || {
                handles::with(handles::number(channel), |channel: &Channel| channel.consumer())
                    .map(ConsumerHandle::new)
            })
        })
    }
}

/// Closes the handle. NULL is allowed and does nothing. What it holds goes to others; on a queue without acknowledgement a
/// message that did not fit a buffer and was not received again is lost. A thread that is waiting inside a recv is answered
/// MEMORA_CLOSED within 50 ms.
///
/// Returns MEMORA_OK, MEMORA_CLOSED, MEMORA_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_consumer_close(consumer: *mut memora_consumer_t) -> c_int {
    // SAFETY: the handle is a number, nothing is read through it.
    unsafe { call(|_| handles::close::<ConsumerHandle>(handles::number(consumer))) }
}

/// Takes the next message into `buffer`, which has room for `capacity` bytes, if there is one. Never waits. `*delivery`
/// (may be NULL) tells its length and place, how often it was delivered, and what it is acknowledged with.
///
/// Returns MEMORA_OK, MEMORA_NOT_FOUND (there is none now), MEMORA_BUFFER_TOO_SMALL (`delivery->len` and
/// memora_last_error_amount() tell the bytes needed; the message stays for the next call of this consumer), MEMORA_TOO_MANY_HELD,
/// MEMORA_BUSY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_consumer_try_recv(
    consumer: *mut memora_consumer_t,
    buffer: *mut c_void,
    capacity: usize,
    delivery: *mut memora_delivery_t,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe { call(|border| receive(border, consumer, buffer, capacity, 0, delivery)) }
}

/// As memora_consumer_try_recv(), but waits for a message for `timeout_ms` milliseconds at most; MEMORA_FOREVER: without end;
/// 0: not at all.
///
/// Returns what memora_consumer_try_recv() does, and MEMORA_TIMED_OUT instead of MEMORA_NOT_FOUND unless `timeout_ms` is 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_consumer_recv(
    consumer: *mut memora_consumer_t,
    buffer: *mut c_void,
    capacity: usize,
    timeout_ms: i64,
    delivery: *mut memora_delivery_t,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe { call(|border| receive(border, consumer, buffer, capacity, timeout_ms, delivery)) }
}

fn receive(
    border: &Border,
    consumer: *mut memora_consumer_t,
    buffer: *mut c_void,
    capacity: usize,
    timeout_ms: i64,
    delivery: *mut memora_delivery_t,
) -> Result<()> {
    let buffer = border.buffer(buffer, capacity, "buffer")?;
    handles::with(handles::number(consumer), |consumer: &ConsumerHandle| {
        consumer.receive(border, buffer, delivery, timeout_ms)
    })
}

/// Calls `function` for up to `limit` messages that are there now. Never waits. `*count` (may be NULL) becomes their number,
/// 0 when there was none. The function may call the library, but not use this consumer (MEMORA_BUSY), throw or jump out:
/// acknowledge after the poll, with copies of the receipts or with memora_consumer_ack_all().
///
/// Messages are taken in batches: on a queue without acknowledgement those of a batch that the function has not seen yet are lost
/// if the process dies.
/// Returns MEMORA_OK, MEMORA_TOO_MANY_HELD, MEMORA_BUSY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_consumer_poll(
    consumer: *mut memora_consumer_t,
    limit: usize,
    function: memora_delivery_fn,
    context: *mut c_void,
    count: *mut usize,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            let function = border.function(function)?;
            let taken = Cell::new(0);
            let hand_over = |delivery: &Delivery, data: &[u8]| {
                taken.set(taken.get() + 1);
                // Within the licence above: the caller's function, with pointers to private copies that live during the call.
                function(context, &delivery_of(delivery), data.as_ptr().cast(), data.len());
            };
            let result = handles::with(handles::number(consumer), |consumer: &ConsumerHandle| {
                consumer.poll(limit, hand_over)
            });
            border.put(count, taken.get());
            result
        })
    }
}

/// Says that the message is handled: nobody gets it again.
///
/// Returns MEMORA_OK, MEMORA_NOT_HELD (its time was over and another has it, or it was acknowledged or given back before),
/// MEMORA_BUSY, MEMORA_INVALID_ARGUMENT (also on a queue without acknowledgement), MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_consumer_ack(
    consumer: *mut memora_consumer_t,
    receipt: *const memora_receipt_t,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe { call(|border| on_receipt(border, consumer, receipt, |consumer, receipt| consumer.ack(receipt))) }
}

/// Acknowledges everything that this consumer holds. `*count` (may be NULL) becomes the number of messages.
///
/// Returns MEMORA_OK, MEMORA_BUSY (also while a message that did not fit its buffer waits), MEMORA_INVALID_ARGUMENT,
/// MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_consumer_ack_all(consumer: *mut memora_consumer_t, count: *mut u64) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            let done = handles::with(handles::number(consumer), ConsumerHandle::ack_all)?;
            border.put(count, done);
            Ok(())
        })
    }
}

/// Gives the message back: after `delay_ms` milliseconds it is delivered again, to this consumer or another.
///
/// Returns what memora_consumer_ack() does.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_consumer_nack(
    consumer: *mut memora_consumer_t,
    receipt: *const memora_receipt_t,
    delay_ms: u64,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            on_receipt(border, consumer, receipt, |consumer, receipt| {
                consumer.nack(receipt, milliseconds(delay_ms))
            })
        })
    }
}

/// Holds the message for `time_ms` milliseconds from now on, whatever was said before. `*receipt` is changed: the old one
/// means nothing any more.
///
/// Returns what memora_consumer_ack() does.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_consumer_extend(
    consumer: *mut memora_consumer_t,
    receipt: *mut memora_receipt_t,
    time_ms: u64,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            let extended = on_receipt(border, consumer, receipt, |consumer, receipt| {
                consumer.extend(receipt, milliseconds(time_ms))?;
                Ok(receipt.words())
            })?;
            border.put(receipt, memora_receipt_t { words: extended });
            Ok(())
        })
    }
}

fn on_receipt<R>(
    border: &Border,
    consumer: *mut memora_consumer_t,
    receipt: *const memora_receipt_t,
    f: impl FnOnce(&mut Consumer, &mut Receipt) -> Result<R>,
) -> Result<R> {
    let [receipt] = border.elements(receipt, 1, "receipt")? else { return Err(ErrorCode::Internal.into()) };
    let mut receipt = Receipt::from_words(receipt.words);
    handles::with(handles::number(consumer), |consumer: &ConsumerHandle| {
        consumer.with(|consuming| f(&mut consuming.consumer, &mut receipt))
    })
}
