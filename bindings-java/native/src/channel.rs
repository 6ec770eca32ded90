//! Publishers and subscribers.
//!
//! A message in scratch memory is its position (8 bytes), lane (4), length (4), the time at which it was sent (8) and payload; in a batch each begins at a
//! multiple of 8.

use std::time::Duration;

use jni::objects::{JByteArray, JByteBuffer, JClass, JIntArray, JLongArray, JString};
use jni::sys::{jbyteArray, jint, jlong};
use jni::{EnvUnowned, jni_mangle};
use memora::{Error, ErrorCode, Message, Publisher, Result, Subscriber, WaitSet};

use crate::direct::Sender;
use crate::direct_reading::Receiver;
use crate::guard::{Answer, Direct, guard};
use crate::handles::{insert, with};
use crate::object::{Kind, Object, wrong};

/// Answer for "nothing there" and "refused for now".
pub const NONE: jint = -1;
/// Bytes of a message before its payload.
const MESSAGE_HEADER: usize = 24;
/// Messages of one poll at most: one batch is held outside the ring.
pub const BATCH_MAX: usize = 4096;

/// A batch on its way to the JVM: in its memory as far as that goes, the end in a rest that it fetches.
pub struct Packing<'a> {
    out: &'a mut [u8],
    used: usize,
    rest: &'a mut Vec<u8>,
    /// Messages so far.
    pub count: u32,
}

/// How far a batch was.
#[derive(Clone, Copy)]
pub struct Mark {
    used: usize,
    rest: usize,
    count: u32,
}

impl<'a> Packing<'a> {
    /// A batch without messages.
    pub fn new(out: &'a mut [u8], rest: &'a mut Vec<u8>) -> Packing<'a> {
        rest.clear();
        Packing { out, used: 0, rest, count: 0 }
    }

    /// Where the next message goes, with so many bytes.
    #[inline]
    pub fn place(&mut self, len: usize) -> &mut [u8] {
        let space = len.next_multiple_of(8);
        self.count += 1;
        // Once a message has gone to the rest, all later ones do, so that their order stays.
        if self.rest.is_empty()
            && let Some(place) = self.out.get_mut(self.used..self.used + space)
        {
            self.used += space;
            return place;
        }
        let start = self.rest.len();
        self.rest.resize(start + space, 0);
        &mut self.rest[start..]
    }

    /// How far it is.
    #[inline]
    pub fn mark(&self) -> Mark {
        Mark { used: self.used, rest: self.rest.len(), count: self.count }
    }

    /// What came since is not part of it.
    #[cold]
    pub fn back_to(&mut self, mark: Mark) {
        self.rest.truncate(mark.rest);
        (self.used, self.count) = (mark.used, mark.count);
    }

    /// The number of messages, and in the upper half the bytes of the rest.
    pub fn answer(&self) -> jlong {
        ((self.rest.len() as u64) << 32 | u64::from(self.count)) as jlong
    }
}

/// A subscriber with what it took out of the ring and the JVM has not fetched yet.
pub struct Reader {
    pub subscriber: Subscriber,
    /// A message that did not fit the memory of `recv`.
    held: Option<(Message, Vec<u8>)>,
    /// The payload of the last `recv`, whose memory is used again.
    buffer: Vec<u8>,
    /// The end of a batch that did not fit the memory of `poll`.
    rest: Vec<u8>,
    /// An error that came after the first messages of a batch: told at the next call.
    trouble: Option<Error>,
}

impl Reader {
    fn new(subscriber: Subscriber) -> Reader {
        Reader { subscriber, held: None, buffer: Vec::new(), rest: Vec::new(), trouble: None }
    }

    /// Notes the subscriber among those that are waited for. True: it has something already that is in no ring.
    fn watch(&mut self, set: &mut WaitSet) -> Result<bool> {
        set.watch(&mut self.subscriber)?;
        Ok(!self.is_plain())
    }

    /// Whether it has nothing that is in no ring.
    pub fn is_plain(&self) -> bool {
        self.held.is_none() && self.rest.is_empty() && self.trouble.is_none()
    }

    fn check(&mut self) -> Result<()> {
        self.trouble.take().map_or(Ok(()), Err)
    }
}

fn header(out: &mut [u8], message: &Message, len: usize) {
    out[0..8].copy_from_slice(&message.position.to_ne_bytes());
    out[8..12].copy_from_slice(&message.lane.to_ne_bytes());
    out[12..16].copy_from_slice(&(len as u32).to_ne_bytes());
    out[16..24].copy_from_slice(&message.sent_ns.to_ne_bytes());
}

/// A publisher of the channel.
#[jni_mangle("io.memora.internal.Native")]
pub fn publisher<'l>(env: EnvUnowned<'l>, class: JClass<'l>, channel: jlong) -> jlong {
    guard(env, class, |_| {
        with(channel, |object| {
            let publisher = object.channel()?.publisher()?;
            insert(Object { parent: channel, kind: Kind::Publisher(Sender::new(publisher)) })
        })
    })
}

/// A subscriber of the channel: anonymous, or the holder of a named subscription.
#[jni_mangle("io.memora.internal.Native")]
pub fn subscriber<'l>(env: EnvUnowned<'l>, class: JClass<'l>, channel: jlong, name: JString<'l>) -> jlong {
    guard(env, class, |jvm| {
        let name = jvm.text(&name)?;
        with(channel, |object| {
            let channel_object = object.channel()?;
            let subscriber = match &name {
                Some(name) => channel_object.subscribe(name)?,
                None => channel_object.subscriber()?,
            };
            insert(Object {
                parent: channel,
                kind: Kind::Subscriber(Box::new(Receiver::new(Reader::new(subscriber)))),
            })
        })
    })
}

/// Subscribers and consumers that are waited for: also the place of one that has something which is in no ring.
fn watch(handles: &[jlong]) -> Answer<(WaitSet, Option<usize>)> {
    let mut set = WaitSet::new();
    let mut ready = None;
    for (place, handle) in handles.iter().enumerate() {
        let has = with(*handle, |object| match &object.kind {
            Kind::Subscriber(receiver) => receiver.with(|reader| Ok(reader.watch(&mut set)?)),
            Kind::Consumer(_) => Ok(object.consumer()?.watch(&mut set)?),
            _ => Err(wrong()),
        })?;
        ready = ready.or(has.then_some(place));
    }
    Ok((set, ready))
}

fn wait(set: &WaitSet, wait_us: jint) -> Result<Option<usize>> {
    set.wait(Some(Duration::from_micros(u64::try_from(wait_us).unwrap_or(0))))
}

/// Waits for several subscribers and consumers: the place of one that has something, or -1 for none in time.
#[jni_mangle("io.memora.internal.Native")]
pub fn wait_any<'l>(env: EnvUnowned<'l>, class: JClass<'l>, handles: JLongArray<'l>, wait_us: jint) -> jint {
    guard(env, class, |jvm| {
        let (set, mut ready) = watch(&jvm.all_longs(&handles)?)?;
        if ready.is_none() {
            ready = wait(&set, wait_us)?;
        }
        Ok(ready.map_or(NONE, |place| place as jint))
    })
}

/// Several subscribers and consumers, to be waited for by another thread; 0 if one has something already.
#[jni_mangle("io.memora.internal.Native")]
pub fn wait_set<'l>(env: EnvUnowned<'l>, class: JClass<'l>, handles: JLongArray<'l>) -> jlong {
    guard(env, class, |jvm| {
        let handles = jvm.all_longs(&handles)?;
        if handles.is_empty() {
            return Err(ErrorCode::InvalidArgument.into());
        }
        match watch(&handles)? {
            (set, None) => insert(Object { parent: 0, kind: Kind::WaitSet(set) }),
            (_, Some(_)) => Ok(0),
        }
    })
}

/// Waits for a set: the place of one that has something, or -1 for none in time.
#[jni_mangle("io.memora.internal.Native")]
pub fn wait_set_wait<'l>(env: EnvUnowned<'l>, class: JClass<'l>, handle: jlong, wait_us: jint) -> jint {
    guard(env, class, |_| {
        with(handle, |object| Ok(wait(object.wait_set()?, wait_us)?.map_or(NONE, |place| place as jint)))
    })
}

/// Sends: the position, or -1 when the ring stayed full. `wait_us` 0 does not wait.
fn publish(publisher: &mut Publisher, payload: &[u8], wait_us: jint) -> Answer<jlong> {
    answer(match u64::try_from(wait_us) {
        Ok(0) | Err(_) => publisher.try_send(payload),
        Ok(us) => publisher.send_timeout(payload, Duration::from_micros(us)),
    })
}

/// What became of a sending.
fn answer(sent: Result<u64>) -> Answer<jlong> {
    match sent {
        Ok(position) => Ok(position as jlong),
        Err(error) if matches!(error.code(), ErrorCode::BackPressure | ErrorCode::TimedOut) => {
            Ok(jlong::from(NONE))
        }
        Err(error) => Err(error.into()),
    }
}

/// Sends messages that come together or not at all: payloads one behind the other, and their lengths.
#[jni_mangle("io.memora.internal.Native")]
pub fn send_all<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    payloads: JByteArray<'l>,
    lengths: JIntArray<'l>,
    wait_us: jint,
) -> jlong {
    guard(env, class, |jvm| {
        let (payloads, lengths) = (jvm.all_bytes(&payloads)?, jvm.all_ints(&lengths)?);
        let (mut messages, mut rest) = (Vec::new(), payloads.as_slice());
        for len in lengths {
            let len = usize::try_from(len).ok().filter(|len| *len <= rest.len());
            let (message, behind) = rest.split_at(len.ok_or(ErrorCode::InvalidArgument)?);
            messages.push(message);
            rest = behind;
        }
        with(handle, |object| {
            object.sender()?.with(|publisher| {
                answer(match u64::try_from(wait_us) {
                    Ok(0) | Err(_) => publisher.try_send_all(&messages),
                    Ok(us) => publisher.send_all_timeout(&messages, Duration::from_micros(us)),
                })
            })
        })
    })
}

/// Sends from direct memory.
#[jni_mangle("io.memora.internal.Native")]
pub fn send<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    payload: jlong,
    len: jint,
    wait_us: jint,
) -> jlong {
    guard(env, class, |_| {
        let payload = Direct::at(payload, len)?;
        with(handle, |object| object.sender()?.with(|publisher| publish(publisher, payload.bytes(), wait_us)))
    })
}

/// Sends from an array.
#[jni_mangle("io.memora.internal.Native")]
pub fn send_array<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    payload: JByteArray<'l>,
    start: jint,
    len: jint,
    wait_us: jint,
) -> jlong {
    guard(env, class, |jvm| {
        let payload = jvm.bytes(&payload, start, len)?;
        with(handle, |object| object.sender()?.with(|publisher| publish(publisher, &payload, wait_us)))
    })
}

/// Sends from a direct buffer.
#[jni_mangle("io.memora.internal.Native")]
pub fn send_buffer<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    handle: jlong,
    payload: JByteBuffer<'l>,
    start: jint,
    len: jint,
    wait_us: jint,
) -> jlong {
    guard(env, class, |jvm| {
        let payload = jvm.direct(&payload, start, len)?;
        with(handle, |object| object.sender()?.with(|publisher| publish(publisher, payload.bytes(), wait_us)))
    })
}

/// Takes up to `limit` messages into direct memory: their number, and in the upper half of the answer the bytes that did not
/// fit, which `rest` fetches.
#[jni_mangle("io.memora.internal.Native")]
pub fn poll<'l>(
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
            object.receiver()?.with(|reader| {
                reader.check()?;
                let Reader { subscriber, rest, trouble, .. } = reader;
                let mut packing = Packing::new(out.bytes_mut(), rest);
                let polled = subscriber.poll_in_place(limit, |view| {
                    let (len, before) = (view.len(), packing.mark());
                    let place = packing.place(MESSAGE_HEADER + len);
                    header(place, view.message(), len);
                    let copied = view.copy_to(0, &mut place[MESSAGE_HEADER..MESSAGE_HEADER + len]);
                    if copied.is_err() || !view.is_whole() {
                        packing.back_to(before);
                    }
                    copied
                });
                match polled {
                    Ok(_) => {}
                    Err(error) if packing.count > 0 => *trouble = Some(error),
                    Err(error) => return Err(error.into()),
                }
                Ok(packing.answer())
            })
        })
    })
}

/// The bytes of the last batch that did not fit.
#[jni_mangle("io.memora.internal.Native")]
pub fn rest<'l>(env: EnvUnowned<'l>, class: JClass<'l>, handle: jlong) -> jbyteArray {
    guard(env, class, |jvm| {
        let rest =
            with(handle, |object| object.receiver()?.with(|reader| Ok(std::mem::take(&mut reader.rest))))?;
        jvm.new_bytes(&rest)
    })
}

/// Takes one message into direct memory: the length of its payload, -1 for none in time, or -(2 + length) when it does not
/// fit: `held` fetches it then.
#[jni_mangle("io.memora.internal.Native")]
pub fn recv<'l>(
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
            object.receiver()?.with(|reader| {
                reader.check()?;
                // Before a message is taken that could not be told.
                let (head, body) =
                    out.bytes_mut().split_at_mut_checked(MESSAGE_HEADER).ok_or(ErrorCode::InvalidArgument)?;
                if reader.held.is_none() {
                    let mut buffer = std::mem::take(&mut reader.buffer);
                    let taken = match u64::try_from(wait_us) {
                        Ok(0) | Err(_) => reader.subscriber.try_recv(&mut buffer),
                        Ok(us) => reader.subscriber.recv(&mut buffer, Some(Duration::from_micros(us))),
                    };
                    match taken {
                        Ok(Some(message)) => reader.held = Some((message, buffer)),
                        Ok(None) => {
                            reader.buffer = buffer;
                            return Ok(NONE);
                        }
                        Err(error) if error.code() == ErrorCode::TimedOut => return Ok(NONE),
                        Err(error) => return Err(error.into()),
                    }
                }
                let Some((message, payload)) = reader.held.take() else { return Ok(NONE) };
                let len = payload.len();
                header(head, &message, len);
                match body.get_mut(..len) {
                    Some(body) => {
                        body.copy_from_slice(&payload);
                        reader.buffer = payload;
                        Ok(len as jint)
                    }
                    None => {
                        reader.held = Some((message, payload));
                        Ok(-2 - len as jint)
                    }
                }
            })
        })
    })
}

/// The payload of a message that did not fit; null when there is none.
#[jni_mangle("io.memora.internal.Native")]
pub fn held<'l>(env: EnvUnowned<'l>, class: JClass<'l>, handle: jlong) -> jbyteArray {
    guard(env, class, |jvm| {
        match with(handle, |object| object.receiver()?.with(|reader| Ok(reader.held.take())))? {
            Some((_, payload)) => jvm.new_bytes(&payload),
            None => Ok(std::ptr::null_mut()),
        }
    })
}

/// Bytes that were published and not yet taken.
#[jni_mangle("io.memora.internal.Native")]
pub fn lag<'l>(env: EnvUnowned<'l>, class: JClass<'l>, handle: jlong) -> jlong {
    guard(env, class, |_| {
        with(handle, |object| object.receiver()?.with(|reader| Ok(reader.subscriber.lag()? as jlong)))
    })
}

/// Gives back everything that was taken and not confirmed: it comes again.
#[jni_mangle("io.memora.internal.Native")]
pub fn unread<'l>(env: EnvUnowned<'l>, class: JClass<'l>, handle: jlong) {
    guard(env, class, |_| {
        with(handle, |object| {
            object.receiver()?.with(|reader| {
                reader.subscriber.unread()?;
                (reader.held, reader.rest) = (None, Vec::new());
                Ok(())
            })
        })
    })
}

/// Confirms everything that was taken.
#[jni_mangle("io.memora.internal.Native")]
pub fn commit<'l>(env: EnvUnowned<'l>, class: JClass<'l>, handle: jlong) {
    guard(env, class, |_| {
        with(handle, |object| object.receiver()?.with(|reader| Ok(reader.subscriber.commit()?)))
    })
}
