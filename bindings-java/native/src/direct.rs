//! A publisher whose lane the JVM writes itself: a call into native code costs more than a short message.
//!
//! One Java thread may do so, the one that asked for it, for as long as no other thread uses the publisher and nobody closes it: see [`Door`].

use std::sync::Arc;

use jni::objects::JClass;
use jni::sys::{jint, jlong, jobject};
use jni::{EnvUnowned, jni_mangle};
use memora::shm::thread;
use memora::{DirectLane, Door, Error, ErrorCode, Publisher, WritingDesk};

use crate::guard::{Answer, guard};
use crate::handles::{asymmetric, insert, with};
use crate::object::{Kind, Object, OneAtATime, wrong};

/// A publisher behind a handle.
pub struct Sender {
    publisher: OneAtATime<Publisher>,
    desk: Arc<WritingDesk>,
}

/// What the JVM writes, kept in memory until it has no buffer of it any more.
pub struct Shared {
    lane: DirectLane,
    desk: Arc<WritingDesk>,
}

impl Sender {
    pub fn new(publisher: Publisher) -> Sender {
        Sender { publisher: OneAtATime::new(publisher), desk: Arc::default() }
    }

    /// The door of the thread that writes itself.
    pub fn door(&self) -> &Door {
        &self.desk.door
    }

    /// Calls `body` with the publisher, which knows how far the writing thread came, and tells that how far it may go.
    #[inline]
    pub fn with<T>(&self, body: impl FnOnce(&mut Publisher) -> Answer<T>) -> Answer<T> {
        let mut publisher = self.publisher.take()?;
        if !self.desk.take(&mut publisher, thread::marker())? {
            return Err(busy());
        }
        let answer = body(&mut publisher);
        self.desk.give(&publisher);
        answer
    }

    /// Lets the calling thread write; none if it cannot be, or somebody does.
    fn share(&self) -> Answer<Option<Shared>> {
        let mut publisher = self.publisher.take()?;
        if !asymmetric() {
            return Ok(None);
        }
        let Some(lane) = publisher.direct()? else { return Ok(None) };
        let opened = self.desk.open(&publisher, thread::marker());
        Ok(opened.then(|| Shared { lane, desk: Arc::clone(&self.desk) }))
    }
}

#[cold]
pub fn busy() -> crate::guard::Fault {
    Error::new(
        ErrorCode::Busy,
        "Another thread is inside this publisher or subscriber: give each thread its own.",
    )
    .into()
}

/// Lets the calling thread write the lane of a publisher itself: a handle of what it needs, or 0.
#[jni_mangle("io.memora.internal.Native")]
pub fn share_lane<'l>(env: EnvUnowned<'l>, class: JClass<'l>, publisher: jlong) -> jlong {
    guard(env, class, |_| {
        match with(publisher, |object| object.sender()?.share())? {
            // No child of the publisher: Java keeps it as long as its buffers.
            Some(shared) => insert(Object { parent: 0, kind: Kind::SharedLane(shared) }),
            None => Ok(0),
        }
    })
}

fn shared<T>(handle: jlong, body: impl FnOnce(&Shared) -> Answer<T>) -> Answer<T> {
    with(handle, |object| match &object.kind {
        Kind::SharedLane(shared) => body(shared),
        _ => Err(wrong()),
    })
}

/// A direct buffer over a part of a shared lane: 0 the ring, 1 its entry, 2 the word of who sleeps, 3 the desk. Java keeps the handle for as long as
/// the buffer can be reached.
#[jni_mangle("io.memora.internal.Native")]
pub fn lane_part<'l>(env: EnvUnowned<'l>, class: JClass<'l>, handle: jlong, part: jint) -> jobject {
    guard(env, class, |jvm| {
        let (address, len) = shared(handle, |shared| match part {
            0 => Ok(shared.lane.ring()),
            1 => Ok(shared.lane.entry()),
            2 => Ok(shared.lane.sleepers()),
            3 => Ok((std::ptr::from_ref(&*shared.desk).addr(), size_of::<WritingDesk>())),
            _ => Err(wrong()),
        })?;
        jvm.new_direct(address, len)
    })
}

/// What there is to know of a shared lane: 0 the state by which it is the publisher's, 1 the longest message, 2 the frame's word for length and position 0.
#[jni_mangle("io.memora.internal.Native")]
pub fn lane_figure<'l>(env: EnvUnowned<'l>, class: JClass<'l>, handle: jlong, figure: jint) -> jlong {
    guard(env, class, |_| {
        shared(handle, |shared| match figure {
            0 => Ok(shared.lane.state() as jlong),
            1 => Ok(shared.lane.message_len_max() as jlong),
            2 => Ok(DirectLane::FRAME as jlong),
            _ => Err(wrong()),
        })
    })
}

/// Wakes who sleeps until a message comes, for a thread that wrote one itself.
#[jni_mangle("io.memora.internal.Native")]
pub fn wake_subscribers<'l>(env: EnvUnowned<'l>, class: JClass<'l>, handle: jlong) {
    guard(env, class, |_| shared(handle, |shared| Ok(shared.lane.wake()?)))
}
