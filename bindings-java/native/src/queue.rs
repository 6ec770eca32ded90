//! Consumers of queues.
//!
//! A delivery in scratch memory is position (8 bytes), lane (4), length (4), deliveries (4), redelivered (4), the three words of its
//! receipt (24) and payload; in a batch each begins at a multiple of 8.

use std::time::Duration;

use jni::objects::JClass;
use jni::sys::{jbyteArray, jint, jlong};
use jni::{EnvUnowned, jni_mangle};
use memora::{Consumer, Delivery, ErrorCode, Receipt, Result, WaitSet};

use crate::channel::{BATCH_MAX, NONE, Packing};
use crate::guard::{Answer, Direct, guard};
use crate::handles::{insert, with};
use crate::object::{Kind, Object, OneAtATime};

/// Bytes of a delivery before its payload.
const HEADER: usize = 48;
/// Where its receipt stands.
const RECEIPT: usize = 24;

/// A consumer with what it took out of the queue and the JVM has not fetched yet.
pub struct Worker {
    consumer: Consumer,
    /// A message that did not fit the memory of `consumer_recv`.
    held: Option<(Delivery, Vec<u8>)>,
    /// The payload of the last `consumer_recv`, whose memory is used again.
    buffer: Vec<u8>,
    /// The end of a batch that did not fit the memory of `consumer_poll`.
    rest: Vec<u8>,
}

impl Worker {
    /// Notes the consumer among those that are waited for. True: it has something already that is in no ring.
    pub fn watch(&mut self, set: &mut WaitSet) -> Result<bool> {
        set.watch(&mut self.consumer)?;
        Ok(self.held.is_some() || !self.rest.is_empty())
    }
}

#[inline]
fn header(out: &mut [u8], delivery: &Delivery) {
    out[0..8].copy_from_slice(&delivery.position.to_ne_bytes());
    out[8..12].copy_from_slice(&delivery.lane.to_ne_bytes());
    out[12..16].copy_from_slice(&(delivery.len as u32).to_ne_bytes());
    out[16..20].copy_from_slice(&delivery.deliveries.to_ne_bytes());
    out[20..24].copy_from_slice(&u32::from(delivery.redelivered).to_ne_bytes());
    words(&mut out[RECEIPT..HEADER], &delivery.receipt);
}

#[inline]
fn words(out: &mut [u8], receipt: &Receipt) {
    for (place, word) in out.chunks_exact_mut(8).zip(receipt.words()) {
        place.copy_from_slice(&word.to_ne_bytes());
    }
}

fn receipt(owner: jlong, number: jlong, word: jlong) -> Receipt {
    Receipt::from_words([owner as u64, number as u64, word as u64])
}

fn milliseconds(time_ms: jlong) -> Duration {
    Duration::from_millis(time_ms.max(0) as u64)
}

/// A consumer of the queue.
#[jni_mangle("io.memora.internal.Native")]
pub fn consumer<'l>(env: EnvUnowned<'l>, class: JClass<'l>, channel: jlong) -> jlong {
    guard(env, class, |_| {
        with(channel, |object| {
            let consumer = object.channel()?.consumer()?;
            let worker = Worker { consumer, held: None, buffer: Vec::new(), rest: Vec::new() };
            insert(Object { parent: channel, kind: Kind::Consumer(OneAtATime::new(worker)) })
        })
    })
}

/// Takes up to `limit` messages into direct memory: their number, and in the upper half of the answer the bytes that did not
/// fit, which `consumer_rest` fetches.
#[jni_mangle("io.memora.internal.Native")]
pub fn consumer_poll<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    out: jlong,
    capacity: jint,
    limit: jint,
) -> jlong {
    guard(env, class, |_| {
        let mut out = Direct::at(out, capacity)?;
        let limit = usize::try_from(limit).unwrap_or(0).min(BATCH_MAX);
        with(handle, |object| {
            let Worker { consumer, rest, held, .. } = &mut *object.consumer()?;
            let mut packing = Packing::new(out.bytes_mut(), rest);
            let mut pack = |delivery: &Delivery, payload: &[u8]| {
                let place = packing.place(HEADER + payload.len());
                header(place, delivery);
                place[HEADER..HEADER + payload.len()].copy_from_slice(payload);
            };
            match held.take() {
                Some((delivery, payload)) => pack(&delivery, &payload),
                None => drop(consumer.poll(limit, pack)?),
            }
            Ok(packing.answer())
        })
    })
}

/// The bytes of the last batch that did not fit.
#[jni_mangle("io.memora.internal.Native")]
pub fn consumer_rest<'l>(env: EnvUnowned<'l>, class: JClass<'l>, handle: jlong) -> jbyteArray {
    guard(env, class, |jvm| {
        let rest = with(handle, |object| Ok(std::mem::take(&mut object.consumer()?.rest)))?;
        jvm.new_bytes(&rest)
    })
}

/// Takes one message into direct memory: the length of its payload, -1 for none in time, or -(2 + length) when it does not
/// fit: `consumer_held` fetches it then.
#[jni_mangle("io.memora.internal.Native")]
pub fn consumer_recv<'l>(
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
            let worker = &mut *object.consumer()?;
            // Before a message is taken that could not be told.
            let (head, body) =
                out.bytes_mut().split_at_mut_checked(HEADER).ok_or(ErrorCode::InvalidArgument)?;
            if worker.held.is_none() {
                let mut buffer = std::mem::take(&mut worker.buffer);
                let taken = match u64::try_from(wait_us) {
                    Ok(0) | Err(_) => worker.consumer.try_recv(&mut buffer)?,
                    Ok(us) => worker.consumer.recv(&mut buffer, Some(Duration::from_micros(us)))?,
                };
                match taken {
                    Some(delivery) => worker.held = Some((delivery, buffer)),
                    None => worker.buffer = buffer,
                }
            }
            let Some((delivery, payload)) = worker.held.take() else { return Ok(NONE) };
            let len = payload.len();
            header(head, &delivery);
            match body.get_mut(..len) {
                Some(body) => {
                    body.copy_from_slice(&payload);
                    worker.buffer = payload;
                    Ok(len as jint)
                }
                None => {
                    worker.held = Some((delivery, payload));
                    Ok(-2 - len as jint)
                }
            }
        })
    })
}

/// The payload of a message that did not fit; null when there is none.
#[jni_mangle("io.memora.internal.Native")]
pub fn consumer_held<'l>(env: EnvUnowned<'l>, class: JClass<'l>, handle: jlong) -> jbyteArray {
    guard(env, class, |jvm| match with(handle, |object| Ok(object.consumer()?.held.take()))? {
        Some((_, payload)) => jvm.new_bytes(&payload),
        None => Ok(std::ptr::null_mut()),
    })
}

fn on_receipt<R>(
    handle: jlong,
    mut receipt: Receipt,
    f: impl FnOnce(&mut Consumer, &mut Receipt) -> memora::Result<R>,
) -> Answer<R> {
    with(handle, |object| Ok(f(&mut object.consumer()?.consumer, &mut receipt)?))
}

/// Says that a message is handled.
#[jni_mangle("io.memora.internal.Native")]
pub fn consumer_ack<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    owner: jlong,
    number: jlong,
    word: jlong,
) {
    guard(env, class, |_| {
        on_receipt(handle, receipt(owner, number, word), |consumer, receipt| consumer.ack(receipt))
    })
}

/// Acknowledges everything that the consumer holds: how many messages that were.
#[jni_mangle("io.memora.internal.Native")]
pub fn consumer_ack_all<'l>(env: EnvUnowned<'l>, class: JClass<'l>, handle: jlong) -> jlong {
    guard(env, class, |_| with(handle, |object| Ok(object.consumer()?.consumer.ack_all()? as jlong)))
}

/// Gives a message back, to be delivered again after so many milliseconds.
#[jni_mangle("io.memora.internal.Native")]
pub fn consumer_nack<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    owner: jlong,
    number: jlong,
    word: jlong,
    delay_ms: jlong,
) {
    guard(env, class, |_| {
        on_receipt(handle, receipt(owner, number, word), |consumer, receipt| {
            consumer.nack(receipt, milliseconds(delay_ms))
        })
    })
}

/// Holds a message for so many milliseconds from now on; its new receipt is written to `out`.
#[jni_mangle("io.memora.internal.Native")]
pub fn consumer_extend<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    owner: jlong,
    number: jlong,
    word: jlong,
    time_ms: jlong,
    out: jlong,
) {
    guard(env, class, |_| {
        let mut out = Direct::at(out, (HEADER - RECEIPT) as jint)?;
        on_receipt(handle, receipt(owner, number, word), |consumer, receipt| {
            consumer.extend(receipt, milliseconds(time_ms))?;
            words(out.bytes_mut(), receipt);
            Ok(())
        })
    })
}
