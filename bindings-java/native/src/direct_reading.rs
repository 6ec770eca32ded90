//! A subscriber whose lanes the JVM reads itself: a call into native code costs more than the look at a short message.
//!
//! One Java thread may do so, the one that asked for it, as a thread that writes a lane itself (see `direct`): by a [`Door`]. It is inside while it shows
//! its places and looks for messages, and outside while its handler is at work; meanwhile it notes on the desk how far that came.

use std::array::from_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jni::objects::JClass;
use jni::sys::{jint, jlong, jobject};
use jni::{EnvUnowned, jni_mangle};
use memora::shm::thread;
use memora::{Came, DirectReading, Door, Stand, Subscriber};

use crate::channel::Reader;
use crate::direct::busy;
use crate::guard::{Answer, guard};
use crate::handles::{asymmetric, insert, with};
use crate::object::{Kind, Object, OneAtATime, wrong};

/// Lanes that a channel has at most.
const LANES: usize = 256;

/// What the thread and the library share. `LaneReader` knows where the words stand, those of the door at 0 and 8, the others from 32 on.
#[repr(C, align(64))]
struct Desk {
    door: Door,
    /// 1 while the next look may be the thread's.
    ready: AtomicU64,
    /// The number up to which lanes are known.
    epoch: AtomicU64,
    /// How many lanes are known.
    lanes: AtomicU64,
    _filler: u64,
    places: [DeskPlace; LANES],
}

/// Where it stands in a lane.
#[repr(C)]
struct DeskPlace {
    shown: AtomicU64,
    position: AtomicU64,
}

impl Desk {
    fn new() -> Desk {
        let zero = || AtomicU64::new(0);
        Desk {
            door: Door::default(),
            ready: zero(),
            epoch: zero(),
            lanes: zero(),
            _filler: 0,
            places: from_fn(|_| DeskPlace { shown: zero(), position: zero() }),
        }
    }

    /// Tells the subscriber how far the thread came.
    fn tell(&self, subscriber: &mut Subscriber, came: Came) -> Answer<()> {
        // Relaxed, also below: of this thread, or ordered by the look whether the other is inside.
        for number in 0..self.lanes.load(Ordering::Relaxed) as usize {
            let Some(place) = self.places.get(number) else { break };
            let mut stand = Stand {
                shown: place.shown.load(Ordering::Relaxed),
                position: place.position.load(Ordering::Relaxed),
            };
            if came == Came::ThrownOut {
                // It may have shown its place without coming to note that.
                stand.shown =
                    subscriber.shown_of(number)?.clamp(stand.shown, stand.position.max(stand.shown));
            }
            subscriber.went_on(number, stand)?;
        }
        if came == Came::ThrownOut {
            self.door.found_out();
        }
        Ok(())
    }

    /// Tells the thread how far the subscriber came.
    fn learn(&self, reader: &Reader) {
        let subscriber = &reader.subscriber;
        let lanes = subscriber.direct_lanes().min(LANES);
        for (number, place) in self.places.iter().enumerate().take(lanes) {
            let Stand { shown, position } = subscriber.stand(number);
            place.shown.store(shown, Ordering::Relaxed);
            place.position.store(position, Ordering::Relaxed);
        }
        self.lanes.store(lanes as u64, Ordering::Relaxed);
        let epoch = subscriber.direct_epoch().filter(|_| reader.is_plain());
        self.epoch.store(u64::from(epoch.unwrap_or(0)), Ordering::Relaxed);
        self.ready.store(u64::from(epoch.is_some()), Ordering::Relaxed);
    }
}

/// A subscriber behind a handle.
pub struct Receiver {
    reader: OneAtATime<Reader>,
    desk: Arc<Desk>,
}

/// What the JVM reads, kept in memory until it has no buffer of it any more.
pub struct Shown {
    reading: DirectReading,
    desk: Arc<Desk>,
}

impl Receiver {
    pub fn new(reader: Reader) -> Receiver {
        Receiver { reader: OneAtATime::new(reader), desk: Arc::new(Desk::new()) }
    }

    /// The door of the thread that reads itself.
    pub fn door(&self) -> &Door {
        &self.desk.door
    }

    /// Calls `body` with the subscriber, which knows how far the reading thread came, and tells that how far it is now.
    #[inline]
    pub fn with<T>(&self, body: impl FnOnce(&mut Reader) -> Answer<T>) -> Answer<T> {
        let mut reader = self.reader.take()?;
        let came = self.desk.door.pass(thread::marker())?.ok_or_else(busy)?;
        if came == Came::Nowhere {
            return body(&mut reader);
        }
        self.desk.tell(&mut reader.subscriber, came)?;
        let answer = body(&mut reader);
        self.desk.learn(&reader);
        answer
    }

    /// Lets the calling thread read; none if it cannot be, or somebody does.
    fn share(&self) -> Answer<Option<Shown>> {
        let mut reader = self.reader.take()?;
        if !asymmetric() {
            return Ok(None);
        }
        let Some(reading) = reader.subscriber.direct()? else { return Ok(None) };
        let opened = self.desk.door.open(thread::marker(), || self.desk.learn(&reader));
        Ok(opened.then(|| Shown { reading, desk: Arc::clone(&self.desk) }))
    }
}

impl Drop for Receiver {
    /// Nobody is inside any more: what the thread handled counts.
    fn drop(&mut self) {
        let came = self.desk.door.last(thread::marker());
        if let Ok(mut reader) = self.reader.take()
            && came != Came::Nowhere
        {
            // An error leaves the place where it was: messages come again.
            let _ = self.desk.tell(&mut reader.subscriber, came);
        }
    }
}

/// Lets the calling thread read the lanes of a subscriber itself: a handle of what it needs, or 0.
#[jni_mangle("io.memora.internal.Native")]
pub fn share_reading<'l>(env: EnvUnowned<'l>, class: JClass<'l>, subscriber: jlong) -> jlong {
    guard(env, class, |_| {
        match with(subscriber, |object| object.receiver()?.share())? {
            // No child of the subscriber: Java keeps it as long as its buffers.
            Some(shown) => insert(Object { parent: 0, kind: Kind::SharedReading(shown) }),
            None => Ok(0),
        }
    })
}

fn shown<T>(handle: jlong, body: impl FnOnce(&Shown) -> Answer<T>) -> Answer<T> {
    with(handle, |object| match &object.kind {
        Kind::SharedReading(shown) => body(shown),
        _ => Err(wrong()),
    })
}

/// A direct buffer over a part of what is read: 0 the channel's control area, 1 the subscription's entry, 2 the desk. Java keeps the handle for
/// as long as the buffer can be reached.
#[jni_mangle("io.memora.internal.Native")]
pub fn reading_part<'l>(env: EnvUnowned<'l>, class: JClass<'l>, handle: jlong, part: jint) -> jobject {
    guard(env, class, |jvm| {
        let (address, len) = shown(handle, |shown| match part {
            0 => Ok(shown.reading.control()),
            1 => Ok(shown.reading.entry()),
            2 => Ok((std::ptr::from_ref(&*shown.desk).addr(), size_of::<Desk>())),
            _ => Err(wrong()),
        })?;
        jvm.new_direct(address, len)
    })
}

/// What there is to know of it: 0 the state by which the subscription is held, 1 bytes of the time in front of a message.
#[jni_mangle("io.memora.internal.Native")]
pub fn reading_figure<'l>(env: EnvUnowned<'l>, class: JClass<'l>, handle: jlong, figure: jint) -> jlong {
    guard(env, class, |_| {
        shown(handle, |shown| match figure {
            0 => Ok(shown.reading.state() as jlong),
            1 => Ok(if shown.reading.stamped() { 8 } else { 0 }),
            _ => Err(wrong()),
        })
    })
}

/// A direct buffer over a part of a lane that the subscriber knows as the `number`th: 0 its ring, 1 the place in it. Java keeps the handle of the
/// whole for as long as the buffer can be reached.
#[jni_mangle("io.memora.internal.Native")]
pub fn reading_lane<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    subscriber: jlong,
    number: jint,
    part: jint,
) -> jobject {
    guard(env, class, |jvm| {
        let place = place(subscriber, number)?;
        let (address, len) = match part {
            0 => place.ring,
            1 => place.place,
            _ => return Err(wrong()),
        };
        jvm.new_direct(address, len)
    })
}

/// The number in the channel of that lane.
#[jni_mangle("io.memora.internal.Native")]
pub fn reading_lane_index<'l>(
    env: EnvUnowned<'l>,
    class: JClass<'l>,
    subscriber: jlong,
    number: jint,
) -> jint {
    guard(env, class, |_| Ok(place(subscriber, number)?.lane as jint))
}

fn place(subscriber: jlong, number: jint) -> Answer<memora::DirectPlace> {
    with(subscriber, |object| {
        object.receiver()?.with(|reader| {
            let number = usize::try_from(number).map_err(|_| wrong())?;
            reader.subscriber.direct_place(number)?.ok_or_else(wrong)
        })
    })
}

/// Wakes who sleeps until there is room, for a thread that reads itself.
#[jni_mangle("io.memora.internal.Native")]
pub fn wake_publishers<'l>(env: EnvUnowned<'l>, class: JClass<'l>, handle: jlong) {
    guard(env, class, |_| shown(handle, |shown| Ok(shown.reading.wake()?)))
}
