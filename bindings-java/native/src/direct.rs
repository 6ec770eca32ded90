//! A publisher whose lane the JVM writes itself: a call into native code costs more than a short message.
//!
//! One Java thread may do so, the one that asked for it, for as long as no other thread uses the publisher and nobody closes it. It tells by its
//! [`Gate`] that it is inside, then looks whether it may still be; whoever wants the publisher stores that it may not, then looks whether it is
//! inside. The thread writes on each message, so it pays no fence: the other one runs a heavy one, as in `handles`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use jni::objects::JClass;
use jni::sys::{jint, jlong, jobject};
use jni::{EnvUnowned, jni_mangle};
use memora::shm::{fence, thread};
use memora::{DirectLane, Error, ErrorCode, Publisher};

use crate::guard::{Answer, guard};
use crate::handles::{asymmetric, insert, with};
use crate::object::{Kind, Object, OneAtATime, wrong};

/// By which a Java thread goes in and out that uses an object without a call.
#[repr(C)]
pub struct Door {
    /// 1 while the thread may go in.
    open: AtomicU64,
    /// 1 while it is.
    inside: AtomicU64,
}

impl Door {
    /// For a thread that may.
    pub fn new() -> Door {
        Door { open: AtomicU64::new(1), inside: AtomicU64::new(0) }
    }

    /// The thread begins nothing any more; whoever said so looks at [`Door::is_inside`] behind a heavy fence.
    pub fn shut(&self) {
        self.open.store(0, Ordering::SeqCst);
    }

    /// Whether the thread is inside.
    pub fn is_inside(&self) -> bool {
        // Acquire: pairs with the release by which the thread says that it is done.
        self.inside.load(Ordering::Acquire) != 0
    }

    /// A call uses the object: the thread `user` that may go in, if it is another one, does so never again. An error while it is inside.
    pub fn pass(&self, user: &mut Option<usize>) -> Answer<()> {
        let another = user.is_some_and(|user| user != thread::marker());
        if another {
            // For good: another thread has begun to use it.
            self.shut();
            if !fence::heavy() {
                return Err(Error::new(ErrorCode::Internal, "The kernel runs no fences any more.").into());
            }
        }
        if self.is_inside() {
            return Err(busy());
        }
        if another {
            *user = None;
        }
        Ok(())
    }
}

/// What the thread and the library share. `LaneWriter` knows where the words stand.
#[repr(C, align(64))]
struct Gate {
    /// Where the next message goes.
    head: AtomicU64,
    /// Up to where there is room.
    limit: AtomicU64,
    door: Door,
}

/// A publisher behind a handle.
pub struct Sender {
    publisher: OneAtATime<Sending>,
    gate: OnceLock<Arc<Gate>>,
}

struct Sending {
    publisher: Publisher,
    /// The thread that may write itself.
    writer: Option<usize>,
}

/// What the JVM writes, kept in memory until it has no buffer of it any more.
pub struct Shared {
    lane: DirectLane,
    gate: Arc<Gate>,
}

impl Sender {
    pub fn new(publisher: Publisher) -> Sender {
        Sender { publisher: OneAtATime::new(Sending { publisher, writer: None }), gate: OnceLock::new() }
    }

    /// The door, if a thread writes itself.
    pub fn door(&self) -> Option<&Door> {
        self.gate.get().map(|gate| &gate.door)
    }

    /// Calls `body` with the publisher, which knows how far the writing thread came, and tells that how far it may go.
    #[inline]
    pub fn with<T>(&self, body: impl FnOnce(&mut Publisher) -> Answer<T>) -> Answer<T> {
        let mut sending = self.publisher.take()?;
        let Sending { publisher, writer } = &mut *sending;
        let Some(gate) = self.gate.get() else { return body(publisher) };
        gate.door.pass(writer)?;
        // Relaxed: of this thread, or ordered by the look above.
        publisher.went_on(gate.head.load(Ordering::Relaxed))?;
        let answer = body(publisher);
        let (head, limit) = publisher.reach();
        gate.head.store(head, Ordering::Relaxed);
        gate.limit.store(limit, Ordering::Relaxed);
        answer
    }

    /// Lets the calling thread write; none if it cannot be, or somebody does.
    fn share(&self) -> Answer<Option<Shared>> {
        let mut sending = self.publisher.take()?;
        if self.gate.get().is_some() || !asymmetric() {
            return Ok(None);
        }
        let Some(lane) = sending.publisher.direct()? else { return Ok(None) };
        let (head, limit) = sending.publisher.reach();
        let gate =
            Arc::new(Gate { head: AtomicU64::new(head), limit: AtomicU64::new(limit), door: Door::new() });
        sending.writer = Some(thread::marker());
        let gate = Arc::clone(self.gate.get_or_init(|| gate));
        Ok(Some(Shared { lane, gate }))
    }
}

#[cold]
fn busy() -> crate::guard::Fault {
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

/// A direct buffer over a part of a shared lane: 0 the ring, 1 its entry, 2 the word of who sleeps, 3 the gate. Java keeps the handle for as long as
/// the buffer can be reached.
#[jni_mangle("io.memora.internal.Native")]
pub fn lane_part<'l>(env: EnvUnowned<'l>, class: JClass<'l>, handle: jlong, part: jint) -> jobject {
    guard(env, class, |jvm| {
        let (address, len) = shared(handle, |shared| match part {
            0 => Ok(shared.lane.ring()),
            1 => Ok(shared.lane.entry()),
            2 => Ok(shared.lane.sleepers()),
            3 => Ok((std::ptr::from_ref(&*shared.gate).addr(), size_of::<Gate>())),
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

/// Wakes who sleeps until a message comes.
#[jni_mangle("io.memora.internal.Native")]
pub fn wake_subscribers<'l>(env: EnvUnowned<'l>, class: JClass<'l>, publisher: jlong) {
    guard(env, class, |_| {
        with(publisher, |object| {
            object.sender()?.publisher.take()?.publisher.wake();
            Ok(())
        })
    })
}
