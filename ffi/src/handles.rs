//! The table of handles.
//!
//! A handle is a number, never an address: the index of a place in the low 16 bits, the place's generation in the 32 bits
//! above, and a tag that no address and no small number has. A place holds the very number that names it now, so a closed
//! handle, one closed twice and any other number name nothing, and the caller gets an error.
//!
//! Calls take no lock and write no shared line. A call announces the place that it uses in a word of its own thread, then
//! compares the place's number. A close changes the number, then looks at the announcements of all threads. One of the two
//! sees the other: the call a number that is not its handle's, or the close an announcement. In the second case the object
//! stays, on the list [`LATE`], and the call drops it when it ends, by the same rule: it withdraws its announcement, then
//! looks at the number once more. Both need a full fence between the two; [`fence::heavy`] in the rare close runs it for all.
//!
//! Nothing here waits, so a forked child, whose parent's other threads stopped anywhere, can go on with its own handles.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use memora_core::shm::{fence, fork};
use memora_core::{
    Cache, Channel, Error, ErrorCode, Fabric, NamedCounter, NamedEvent, NamedLock, NamedSemaphore, Outbox,
    Result, Service, Snapshot, Store, Topic,
};

use crate::calls::{ClientHandle, ServerHandle};
use crate::channel::{PublisherHandle, SubscriberHandle};
use crate::compute::TokenHandle;
use crate::events::EventsHandle;
use crate::feed::FeedHandle;
use crate::log::{AppenderHandle, LogReaderHandle};
use crate::queue::ConsumerHandle;
use crate::signal::Signal;
use crate::topic::TopicSubscriberHandle;
use crate::transaction::TransactionHandle;
use crate::view::Looked;
use crate::waiting::ReadinessHandle;

const INDEX_BITS: u32 = 16;
const PLACE_COUNT: usize = 1 << INDEX_BITS;
/// Stands in the high 16 bits: an address of a program has 0 there.
const TAG: usize = 0x4d65;
const TAG_SHIFT: u32 = INDEX_BITS + 32;
/// Calls of one thread that may be inside each other: callbacks that call the library.
const DEPTH: usize = 16;
/// Turns of one sweep: another one comes when an object was given up meanwhile.
const SWEEPS: usize = 8;
/// "Uses no place" in an announcement, "ends here" in a list.
const NONE: u32 = u32::MAX;

const _: () = assert!(usize::BITS == 64, "a handle travels in a pointer and needs 64 bits");

/// What a handle can name.
pub(crate) enum Object {
    Fabric(Fabric),
    Cache(Cache),
    Channel(Channel),
    Publisher(PublisherHandle),
    Subscriber(SubscriberHandle),
    Store(Store),
    View(Looked),
    Events(EventsHandle),
    Token(TokenHandle),
    Consumer(ConsumerHandle),
    Readiness(ReadinessHandle),
    NamedEvent(Signal<NamedEvent>),
    NamedCounter(Signal<NamedCounter>),
    NamedLock(Signal<NamedLock>),
    NamedSemaphore(Signal<NamedSemaphore>),
    Service(Service),
    Client(ClientHandle),
    Server(ServerHandle),
    Topic(Topic),
    TopicSubscriber(TopicSubscriberHandle),
    Appender(AppenderHandle),
    LogReader(LogReaderHandle),
    Transaction(TransactionHandle),
    Outbox(Outbox),
    Feed(FeedHandle),
    Snapshot(Snapshot),
    #[cfg(test)]
    Probe(tests::Probe),
}

impl Object {
    fn kind(&self) -> &'static str {
        match self {
            Object::Fabric(_) => "fabric",
            Object::Cache(_) => "cache",
            Object::Channel(_) => "channel",
            Object::Publisher(_) => "publisher",
            Object::Subscriber(_) => "subscriber",
            Object::Store(_) => "store",
            Object::View(_) => "view",
            Object::Events(_) => "subscriber of events",
            Object::Token(_) => "token",
            Object::Consumer(_) => "consumer",
            Object::Readiness(_) => "readiness",
            Object::NamedEvent(_) => "event",
            Object::NamedCounter(_) => "counter",
            Object::NamedLock(_) => "lock",
            Object::NamedSemaphore(_) => "semaphore",
            Object::Service(_) => "service",
            Object::Client(_) => "client",
            Object::Server(_) => "server",
            Object::Topic(_) => "topic",
            Object::TopicSubscriber(_) => "subscriber of a topic",
            Object::Appender(_) => "appender",
            Object::LogReader(_) => "reader of a log",
            Object::Transaction(_) => "transaction",
            Object::Outbox(_) => "outbox",
            Object::Feed(_) => "feed",
            Object::Snapshot(_) => "snapshot",
            #[cfg(test)]
            Object::Probe(_) => "probe",
        }
    }
}

/// A type that stands behind handles of its own kind.
pub(crate) trait Kind: Sized {
    /// The kind in words.
    const NAME: &'static str;
    /// The opaque type by which C knows it.
    type Opaque;
    /// The value, if the object is of this kind.
    fn of(object: &Object) -> Option<&Self>;
    /// The object of this kind.
    fn into_object(self) -> Object;
    /// Ends it although other threads may still be inside a call: they get an error or finish.
    fn end(&self) -> Result<()> {
        Ok(())
    }
}

macro_rules! kind {
    ($value:ty, $variant:ident, $name:literal, $opaque:ty $(, $end:expr)?) => {
        impl Kind for $value {
            const NAME: &'static str = $name;
            type Opaque = $opaque;
            fn of(object: &Object) -> Option<&Self> {
                match object {
                    Object::$variant(value) => Some(value),
                    _ => None,
                }
            }
            fn into_object(self) -> Object {
                Object::$variant(self)
            }
            $(
                fn end(&self) -> Result<()> {
                    $end(self)
                }
            )?
        }
    };
}

kind!(Fabric, Fabric, "fabric", crate::fabric::memora_fabric_t);
kind!(Cache, Cache, "cache", crate::cache::memora_cache_t);
kind!(Channel, Channel, "channel", crate::channel::memora_channel_t);
kind!(PublisherHandle, Publisher, "publisher", crate::channel::memora_publisher_t, PublisherHandle::end);
kind!(SubscriberHandle, Subscriber, "subscriber", crate::channel::memora_subscriber_t, SubscriberHandle::end);
kind!(Store, Store, "store", crate::store::memora_store_t, Store::close);
kind!(TokenHandle, Token, "token", crate::compute::memora_token_t, TokenHandle::end);
kind!(Looked, View, "view", crate::view::memora_view_t);
kind!(ReadinessHandle, Readiness, "readiness", crate::waiting::memora_readiness_t, ReadinessHandle::end);
kind!(ConsumerHandle, Consumer, "consumer", crate::queue::memora_consumer_t, ConsumerHandle::end);
kind!(Signal<NamedEvent>, NamedEvent, "event", crate::signal::memora_named_event_t, Signal::end);
kind!(Signal<NamedCounter>, NamedCounter, "counter", crate::signal::memora_named_counter_t, Signal::end);
kind!(Signal<NamedLock>, NamedLock, "lock", crate::signal::memora_named_lock_t, Signal::end);
kind!(
    Signal<NamedSemaphore>,
    NamedSemaphore,
    "semaphore",
    crate::signal::memora_named_semaphore_t,
    Signal::end
);
kind!(AppenderHandle, Appender, "appender", crate::log::memora_appender_t, AppenderHandle::end);
kind!(LogReaderHandle, LogReader, "reader of a log", crate::log::memora_log_reader_t, LogReaderHandle::end);
kind!(EventsHandle, Events, "subscriber of events", crate::events::memora_events_t, EventsHandle::end);
kind!(Service, Service, "service", crate::service::memora_service_t);
kind!(ClientHandle, Client, "client", crate::service::memora_client_t, ClientHandle::end);
kind!(ServerHandle, Server, "server", crate::service::memora_server_t, ServerHandle::end);
kind!(Topic, Topic, "topic", crate::topic::memora_topic_t);
kind!(
    TopicSubscriberHandle,
    TopicSubscriber,
    "subscriber of a topic",
    crate::topic::memora_topic_subscriber_t,
    TopicSubscriberHandle::end
);
kind!(
    TransactionHandle,
    Transaction,
    "transaction",
    crate::transaction::memora_transaction_t,
    TransactionHandle::end
);
kind!(Outbox, Outbox, "outbox", crate::outbox::memora_outbox_t);
kind!(FeedHandle, Feed, "feed", crate::feed::memora_feed_t, FeedHandle::end);
kind!(Snapshot, Snapshot, "snapshot", crate::snapshot::memora_snapshot_t);

struct Place {
    /// The handle of the object that stands here. When closed: that number with the lowest bit of the index changed, which
    /// no handle of this place has. 0 before the first.
    word: AtomicUsize,
    /// Generation of the process that put the object here: another one is a forked child.
    process: AtomicU64,
    /// Not null from before the handle is given out until after the closed object was dropped.
    object: AtomicPtr<Object>,
    /// The next place of the list that this one is in.
    next: AtomicU32,
}

static PLACES: [Place; PLACE_COUNT] = [const {
    Place {
        word: AtomicUsize::new(0),
        process: AtomicU64::new(0),
        object: AtomicPtr::new(std::ptr::null_mut()),
        next: AtomicU32::new(NONE),
    }
}; PLACE_COUNT];
/// Where the search for a free place begins.
static NEXT: AtomicUsize = AtomicUsize::new(0);
/// Closed places whose object may still be in use, linked by `next`. Always taken as a whole.
static LATE: AtomicU32 = AtomicU32::new(NONE);

/// What one thread uses now. Lines of its own: others read them only when something is closed.
#[repr(align(128))]
struct Announcement {
    /// The places of the calls that are inside each other, the outermost first.
    places: [AtomicU32; DEPTH],
    /// How many calls these are. Only the thread itself looks at it.
    depth: AtomicU32,
    /// 1 while a thread has it.
    taken: AtomicU32,
    /// The one that was made before.
    before: *const Announcement,
}

// SAFETY: `before` is set before the announcement is shared and never changes; it points to one that is never freed.
unsafe impl Sync for Announcement {}

/// The announcement that was made last.
static ANNOUNCEMENTS: AtomicPtr<Announcement> = AtomicPtr::new(std::ptr::null_mut());

/// All announcements; they are never freed.
fn announcements() -> impl Iterator<Item = &'static Announcement> {
    // Acquire: pairs with the exchange in `take_announcement`, which makes the new one's content visible.
    let mut at = ANNOUNCEMENTS.load(Ordering::Acquire).cast_const();
    std::iter::from_fn(move || {
        // SAFETY: null, or leaked by `take_announcement` before it was linked.
        let here = unsafe { at.as_ref() }?;
        at = here.before;
        Some(here)
    })
}

/// An announcement that no thread has, made if there is none.
fn take_announcement() -> &'static Announcement {
    let free = announcements()
        .find(|it| it.taken.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok());
    if let Some(free) = free {
        return free;
    }
    let new = Box::into_raw(Box::new(Announcement {
        places: [const { AtomicU32::new(NONE) }; DEPTH],
        depth: AtomicU32::new(0),
        taken: AtomicU32::new(1),
        before: std::ptr::null(),
    }));
    let mut before = ANNOUNCEMENTS.load(Ordering::Relaxed);
    loop {
        // SAFETY: made above and not yet shared.
        unsafe { (*new).before = before };
        match ANNOUNCEMENTS.compare_exchange_weak(before, new, Ordering::AcqRel, Ordering::Relaxed) {
            // SAFETY: never freed, and from here on only shared.
            Ok(_) => return unsafe { &*new },
            Err(other) => before = other,
        }
    }
}

fn give_announcement(announcement: &Announcement) {
    // Release: the next thread that takes it finds it as it is now. All its calls have ended.
    announcement.taken.store(0, Ordering::Release);
}

/// The announcement of a thread until the thread ends.
struct Seat(Cell<Option<&'static Announcement>>);

impl Drop for Seat {
    fn drop(&mut self) {
        MINE.set(None);
        if let Some(announcement) = self.0.take() {
            give_announcement(announcement);
        }
    }
}

thread_local! {
    /// The thread's announcement, without a destructor so that looking at it is one load.
    static MINE: Cell<Option<&'static Announcement>> = const { Cell::new(None) };
    /// Gives it back.
    static SEAT: Seat = const { Seat(Cell::new(None)) };
}

/// The announcement of a thread that has none yet; whether it is only lent for one call, because the thread is ending.
#[cold]
#[inline(never)]
fn sit_down() -> (&'static Announcement, bool) {
    let announcement = take_announcement();
    let seated = SEAT.try_with(|seat| seat.0.set(Some(announcement))).is_ok();
    if seated {
        MINE.set(Some(announcement));
    }
    (announcement, !seated)
}

/// The full fence of a call: nothing, where the kernel lets a close run it for all threads.
#[inline]
pub(crate) fn call_fence() {
    if asymmetric() {
        fence::light();
    } else {
        std::sync::atomic::fence(Ordering::SeqCst);
    }
}

/// The full fence of a close. False when it cannot be had: then nothing is known of the calls of others.
pub(crate) fn close_fence() -> bool {
    std::sync::atomic::fence(Ordering::SeqCst);
    !asymmetric() || fence::heavy()
}

/// Whether the kernel runs the fence of a close in all threads that call. Two threads may both find out: nobody waits.
#[inline]
fn asymmetric() -> bool {
    static ANSWER: AtomicU8 = AtomicU8::new(0);
    const NO: u8 = 1;
    const YES: u8 = 2;
    match ANSWER.load(Ordering::Relaxed) {
        0 => {
            let answer = fence::register() && fence::heavy();
            ANSWER.store(if answer { YES } else { NO }, Ordering::Relaxed);
            answer
        }
        answer => answer == YES,
    }
}

fn index(handle: usize) -> usize {
    handle & (PLACE_COUNT - 1)
}

/// What stands in the place of a handle that was closed.
fn closed_word(handle: usize) -> usize {
    handle ^ 1
}

/// The handle that comes after what stands in a free place.
fn next_handle(index: usize, word: usize) -> usize {
    let generation = ((word >> INDEX_BITS) as u32).wrapping_add(1);
    TAG << TAG_SHIFT | (generation as usize) << INDEX_BITS | index
}

#[cold]
#[inline(never)]
fn closed(what: &str, handle: usize) -> Error {
    if handle == 0 {
        return Error::new(ErrorCode::InvalidArgument, format!("The handle of the {what} is NULL."));
    }
    Error::new(ErrorCode::Closed, format!("{handle:#x} is not an open handle of a {what}."))
}

/// Puts an object into the table and gives its handle, never 0.
pub(crate) fn insert(object: Object) -> Result<usize> {
    if LATE.load(Ordering::Relaxed) != NONE {
        sweep();
    }
    let object = Box::into_raw(Box::new(object));
    let start = NEXT.fetch_add(1, Ordering::Relaxed);
    for step in 0..PLACE_COUNT {
        let index = start.wrapping_add(step) % PLACE_COUNT;
        let place = &PLACES[index];
        // Acquire: pairs with the Release in `sweep`, after the object before was dropped.
        if place.object.load(Ordering::Relaxed).is_null()
            && place
                .object
                .compare_exchange(std::ptr::null_mut(), object, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
        {
            place.process.store(fork::generation(), Ordering::Relaxed);
            let handle = next_handle(index, place.word.load(Ordering::Relaxed));
            // Release: with the object and the process; pairs with the load in `with`.
            place.word.store(handle, Ordering::Release);
            return Ok(handle);
        }
    }
    // SAFETY: made above, and no place took it.
    drop(unsafe { Box::from_raw(object) });
    Err(Error::new(ErrorCode::Full, format!("All {PLACE_COUNT} handles of this process are open.")))
}

/// A call that uses a place. Withdraws its announcement at the end, also when the call panics.
struct Using {
    announcement: &'static Announcement,
    depth: u32,
    /// The announcement is lent for this call.
    lent: bool,
    handle: usize,
}

impl Drop for Using {
    #[inline]
    fn drop(&mut self) {
        // Release: what the call did with the object comes before; pairs with the load in `in_use`.
        self.announcement.places[self.depth as usize].store(NONE, Ordering::Release);
        self.announcement.depth.store(self.depth, Ordering::Relaxed);
        if self.lent {
            give_announcement(self.announcement);
        }
        // Between the withdrawal and the second look at the number; pairs with the fences in `sweep`.
        call_fence();
        let closed = PLACES[index(self.handle)].word.load(Ordering::Relaxed) != self.handle;
        if closed && LATE.load(Ordering::Relaxed) != NONE {
            sweep();
        }
    }
}

/// Announces a call with a handle; the place is not looked at yet.
#[inline(always)]
fn announce(handle: usize) -> Result<Using> {
    let (announcement, lent) = match MINE.get() {
        Some(announcement) => (announcement, false),
        None => sit_down(),
    };
    let depth = announcement.depth.load(Ordering::Relaxed);
    let Some(word) = announcement.places.get(depth as usize) else { return Err(too_deep()) };
    word.store(index(handle) as u32, Ordering::Relaxed);
    announcement.depth.store(depth + 1, Ordering::Relaxed);
    // Between the announcement and the first look at the number; pairs with the fences in `sweep`.
    call_fence();
    Ok(Using { announcement, depth, lent, handle })
}

#[cold]
#[inline(never)]
fn too_deep() -> Error {
    let text = format!("{DEPTH} calls of this thread are inside each other, which is the limit.");
    Error::new(ErrorCode::Busy, text)
}

/// Calls `f` with what the handle names.
#[inline]
pub(crate) fn with<T: Kind, R>(handle: usize, f: impl FnOnce(&T) -> Result<R>) -> Result<R> {
    let using = announce(handle)?;
    let place = &PLACES[index(handle)];
    // Acquire: the object and the process were stored before the number.
    if place.word.load(Ordering::Acquire) != handle || handle == 0 {
        return Err(closed(T::NAME, handle));
    }
    if place.process.load(Ordering::Relaxed) != fork::generation() {
        return Err(ErrorCode::Forked.into());
    }
    // SAFETY: the place had this handle's number, so `object` is the box that `insert` stored. Only `sweep` frees it, after
    // `close` changed the number, ran its fence, and no announcement named this place. We announced the place before we
    // looked at the number, with a fence in between: had `sweep` not seen the announcement, we would have seen the changed
    // number. So the box lives until `using` is dropped, which is after `f`.
    let object = unsafe { &*place.object.load(Ordering::Relaxed) };
    let answer = match T::of(object) {
        Some(value) => f(value),
        None => Err(of_another_kind(object, T::NAME)),
    };
    drop(using);
    answer
}

#[cold]
#[inline(never)]
fn of_another_kind(object: &Object, wanted: &str) -> Error {
    let text = format!("The handle is that of a {}, not of a {wanted}.", object.kind());
    Error::new(ErrorCode::InvalidArgument, text)
}

/// From now on the handle is closed. Other threads that are inside a call with it finish that call, or are told to end; the
/// last one of all drops the object. NULL is nothing to close.
pub(crate) fn close<T: Kind>(handle: usize) -> Result<()> {
    if handle == 0 {
        return Ok(());
    }
    let place = &PLACES[index(handle)];
    let ended = with(handle, |object: &T| {
        // SeqCst: before the fence below. Of two that close, one gets here.
        place
            .word
            .compare_exchange(handle, closed_word(handle), Ordering::SeqCst, Ordering::Relaxed)
            .map_err(|_| closed(T::NAME, handle))?;
        Ok(object.end())
    })?;
    put_late(index(handle) as u32);
    sweep();
    ended
}

/// Puts a closed place onto the list of those whose object is to be dropped.
fn put_late(index: u32) {
    let place = &PLACES[index as usize];
    let mut first = LATE.load(Ordering::Relaxed);
    loop {
        place.next.store(first, Ordering::Relaxed);
        // Release: with `next`; pairs with the exchange in `sweep`.
        match LATE.compare_exchange_weak(first, index, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => return,
            Err(other) => first = other,
        }
    }
}

/// Whether a call uses a place.
fn in_use(index: u32) -> bool {
    // Acquire: pairs with the Release in `Using::drop`: who used the object has finished with it.
    announcements().any(|it| it.places.iter().any(|place| place.load(Ordering::Acquire) == index))
}

/// Drops the closed objects that no call uses any more.
#[cold]
#[inline(never)]
fn sweep() {
    for _ in 0..SWEEPS {
        // AcqRel: with the links of the places.
        let mut at = LATE.swap(NONE, Ordering::AcqRel);
        // Between the changed numbers and the look at the announcements; pairs with the fence in `announce`. Where the kernel
        // breaks its word nothing is known of the calls of others, and the objects stay for ever.
        if at == NONE || !close_fence() {
            return;
        }
        let mut used = Vec::new();
        while at != NONE {
            let place = &PLACES[at as usize];
            let next = place.next.load(Ordering::Relaxed);
            if in_use(at) {
                used.push(at);
            } else {
                let object = place.object.load(Ordering::Relaxed);
                // SAFETY: `insert` made this box. The list names the place once, and taking the list gave it to us alone. The
                // number was changed before the place came onto the list, and the fence ran after it was taken from there,
                // before the announcements were read: nobody uses the object, and nobody can begin to.
                let object = unsafe { Box::from_raw(object) };
                // This may run at the end of any call, even while that one panics.
                let _ = catch_unwind(AssertUnwindSafe(|| drop(object)));
                // Release: pairs with the exchange in `insert`.
                place.object.store(std::ptr::null_mut(), Ordering::Release);
            }
            at = next;
        }
        used.iter().for_each(|&index| put_late(index));
        // Whoever withdraws from here on finds them on the list; whoever did so before is seen now. Pairs with the fence in
        // `Using::drop`.
        if used.is_empty() || !close_fence() || used.iter().all(|&index| in_use(index)) {
            return;
        }
    }
}

/// The number in a pointer that came from C. Nothing is ever read through it.
pub(crate) fn number<T>(pointer: *const T) -> usize {
    pointer.addr()
}

/// The pointer that carries the number of a handle to C.
pub(crate) fn pointer<T>(handle: usize) -> *mut T {
    std::ptr::without_provenance_mut::<c_void>(handle).cast()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    /// Tells when it is dropped.
    pub(crate) struct Probe {
        alive: Arc<AtomicU32>,
        ended: AtomicBool,
    }

    impl Drop for Probe {
        fn drop(&mut self) {
            self.alive.fetch_sub(1, Ordering::SeqCst);
        }
    }

    kind!(Probe, Probe, "probe", c_void, |probe: &Probe| {
        assert!(!probe.ended.swap(true, Ordering::SeqCst), "ended twice");
        Ok(())
    });

    fn probe() -> (usize, Arc<AtomicU32>) {
        let alive = Arc::new(AtomicU32::new(1));
        let probe = Probe { alive: alive.clone(), ended: AtomicBool::new(false) };
        (insert(probe.into_object()).unwrap(), alive)
    }

    fn code_of(result: Result<()>) -> ErrorCode {
        result.map_or_else(|error| error.code(), |()| panic!("the call succeeded"))
    }

    #[test]
    fn no_call_sees_a_dropped_object_and_each_is_dropped_once() {
        for _ in 0..100 {
            let (handle, alive) = probe();
            let closed = std::thread::scope(|scope| {
                for _ in 0..3 {
                    scope.spawn(|| {
                        loop {
                            let result = with(handle, |_: &Probe| {
                                for _ in 0..20 {
                                    assert_eq!(alive.load(Ordering::SeqCst), 1, "dropped under a call");
                                    std::hint::spin_loop();
                                }
                                Ok(())
                            });
                            if let Err(error) = result {
                                assert_eq!(error.code(), ErrorCode::Closed);
                                break;
                            }
                        }
                    });
                }
                std::thread::yield_now();
                let closers: Vec<_> =
                    (0..2).map(|_| scope.spawn(|| close::<Probe>(handle).is_ok())).collect();
                closers.into_iter().map(|closer| closer.join().unwrap()).filter(|closed| *closed).count()
            });
            assert_eq!(closed, 1, "of two that close, one succeeds");
            assert_eq!(alive.load(Ordering::SeqCst), 0, "dropped when the last call has ended");
            assert_eq!(code_of(with(handle, |_: &Probe| Ok(()))), ErrorCode::Closed);
        }
    }

    #[test]
    fn an_object_closed_within_its_own_call_is_dropped_at_the_end_of_that_call() {
        let (handle, alive) = probe();
        let (inner, inner_alive) = probe();
        let result = with(handle, |_: &Probe| {
            close::<Probe>(handle)?;
            assert_eq!(alive.load(Ordering::SeqCst), 1);
            with(inner, |_: &Probe| close::<Probe>(inner))?;
            assert_eq!(inner_alive.load(Ordering::SeqCst), 0, "its own call has ended");
            assert_eq!(alive.load(Ordering::SeqCst), 1);
            Ok(())
        });
        assert!(result.is_ok());
        assert_eq!(alive.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn a_panic_withdraws_the_announcement() {
        let (handle, alive) = probe();
        let call = AssertUnwindSafe(|| with(handle, |_: &Probe| -> Result<()> { panic!("in a call") }));
        assert!(catch_unwind(call).is_err());
        assert!(close::<Probe>(handle).is_ok());
        assert_eq!(alive.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn calls_inside_each_other_have_a_limit() {
        fn nest(handle: usize, depth: usize) -> (usize, Result<()>) {
            let mut deepest = depth;
            let result = with(handle, |_: &Probe| {
                let (reached, result) = nest(handle, depth + 1);
                deepest = reached;
                result
            });
            (deepest, result)
        }
        let (handle, _) = probe();
        let (deepest, result) = nest(handle, 0);
        assert_eq!((deepest, code_of(result)), (DEPTH, ErrorCode::Busy));
        assert!(with(handle, |_: &Probe| Ok(())).is_ok());
        assert!(close::<Probe>(handle).is_ok());
    }

    #[test]
    fn a_place_is_used_again_with_another_number() {
        let (first, _) = probe();
        assert!(close::<Probe>(first).is_ok());
        let next = next_handle(index(first), PLACES[index(first)].word.load(Ordering::Relaxed));
        assert_eq!(index(next), index(first));
        assert_eq!(next >> INDEX_BITS, (first >> INDEX_BITS) + 1);
        for number in [first, 1, usize::MAX] {
            assert_eq!(code_of(with(number, |_: &Probe| Ok(()))), ErrorCode::Closed, "{number:#x}");
        }
        assert_eq!(code_of(with(0, |_: &Probe| Ok(()))), ErrorCode::InvalidArgument);
    }
}
