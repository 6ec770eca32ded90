//! The table of handles.
//!
//! A handle is a number, never an address: the index of a place in the low 16 bits, the place's generation in the 32 bits
//! above, and a tag that no address and no small number has. The generation is odd while something stands in the place,
//! and goes up when it is closed, so a closed handle, one closed twice and any other number name nothing, and the caller
//! gets an error.
//!
//! A thread keeps what it used last in a small private array, so that a look-up is one comparison and one load of a word
//! that nobody writes meanwhile. It takes the kept reference out for the time of the call: a callback that comes back
//! into the library finds the place empty and goes to the table.
//!
//! A forked child has the table too, but maybe with a place locked by a thread that it does not have. So nobody waits
//! here for a place that a child could find locked: look-ups ask first whether this is a child, and a new handle goes
//! to a place that is not locked.

use std::cell::Cell;
use std::ffi::c_void;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

use memora_core::shm::fork;
use memora_core::{Cache, Channel, Error, ErrorCode, Fabric, Result, Store};

use crate::channel::{PublisherHandle, SubscriberHandle};

const INDEX_BITS: u32 = 16;
const PLACE_COUNT: usize = 1 << INDEX_BITS;
/// Stands in the high 16 bits: an address of a program has 0 there.
const TAG: usize = 0x4d65;
const TAG_SHIFT: u32 = INDEX_BITS + 32;
/// References that a thread keeps; a power of two.
const KEPT_COUNT: usize = 16;

const _: () = assert!(usize::BITS == 64, "a handle travels in a pointer and needs 64 bits");

/// What a handle can name.
pub(crate) enum Object {
    Fabric(Fabric),
    Cache(Cache),
    Channel(Channel),
    Publisher(PublisherHandle),
    Subscriber(SubscriberHandle),
    Store(Store),
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

struct Place {
    /// Odd while an object stands here. Written only under the lock of `object`.
    generation: AtomicU32,
    /// Generation of the process that put the object here: another one is a forked child.
    process: AtomicU64,
    object: Mutex<Option<Arc<Object>>>,
}

static PLACES: [Place; PLACE_COUNT] =
    [const { Place { generation: AtomicU32::new(0), process: AtomicU64::new(0), object: Mutex::new(None) } };
        PLACE_COUNT];
/// Where the search for a free place begins.
static NEXT: AtomicUsize = AtomicUsize::new(0);

type Kept = (usize, Arc<Object>);

thread_local! {
    static KEPT: [Cell<Option<Kept>>; KEPT_COUNT] = const { [const { Cell::new(None) }; KEPT_COUNT] };
}

fn index(handle: usize) -> usize {
    handle & (PLACE_COUNT - 1)
}

fn generation(handle: usize) -> u32 {
    (handle >> INDEX_BITS) as u32
}

fn handle_of(index: usize, generation: u32) -> usize {
    TAG << TAG_SHIFT | (generation as usize) << INDEX_BITS | index
}

fn closed(what: &str, handle: usize) -> Error {
    if handle == 0 {
        return Error::new(ErrorCode::InvalidArgument, format!("The handle of the {what} is NULL."));
    }
    Error::new(ErrorCode::Closed, format!("{handle:#x} is not an open handle of a {what}."))
}

/// A poisoned lock is as good as any: a panic cannot leave a place half written.
fn lock(place: &Place) -> MutexGuard<'_, Option<Arc<Object>>> {
    place.object.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Puts an object into the table and gives its handle, never 0.
pub(crate) fn insert(object: Object) -> Result<usize> {
    let start = NEXT.fetch_add(1, Ordering::Relaxed);
    for step in 0..PLACE_COUNT {
        let index = start.wrapping_add(step) % PLACE_COUNT;
        let place = &PLACES[index];
        if place.generation.load(Ordering::Relaxed) % 2 == 1 {
            continue;
        }
        let mut free = match place.object.try_lock() {
            Ok(free) => free,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => continue,
        };
        let generation = place.generation.load(Ordering::Relaxed);
        if generation % 2 == 1 {
            continue;
        }
        *free = Some(Arc::new(object));
        place.process.store(fork::generation(), Ordering::Relaxed);
        let generation = generation.wrapping_add(1);
        place.generation.store(generation, Ordering::Release);
        return Ok(handle_of(index, generation));
    }
    Err(Error::new(ErrorCode::Full, format!("All {PLACE_COUNT} handles of this process are open.")))
}

/// Looks a handle up in the table.
#[cold]
fn find(what: &str, handle: usize) -> Result<Arc<Object>> {
    let place = &PLACES[index(handle)];
    if handle >> TAG_SHIFT != TAG || place.generation.load(Ordering::Acquire) != generation(handle) {
        return Err(closed(what, handle));
    }
    // Before the lock: in a child it may be held by nobody.
    if place.process.load(Ordering::Relaxed) != fork::generation() {
        return Err(ErrorCode::Forked.into());
    }
    let object = lock(place);
    match &*object {
        Some(object) if place.generation.load(Ordering::Relaxed) == generation(handle) => Ok(object.clone()),
        _ => Err(closed(what, handle)),
    }
}

fn typed<T: Kind>(object: &Object) -> Result<&T> {
    T::of(object).ok_or_else(|| {
        let text = format!("The handle is that of a {}, not of a {}.", object.kind(), T::NAME);
        Error::new(ErrorCode::InvalidArgument, text)
    })
}

/// Calls `f` with what the handle names.
#[inline]
pub(crate) fn with<T: Kind, R>(handle: usize, f: impl FnOnce(&T) -> Result<R>) -> Result<R> {
    let mut f = Some(f);
    let mut call = |object: &Object| match f.take() {
        Some(f) => f(typed(object)?),
        None => Err(ErrorCode::Internal.into()),
    };
    let kept = KEPT.try_with(|kept| {
        let keeper = &kept[index(handle) % KEPT_COUNT];
        let place = &PLACES[index(handle)];
        let object = match keeper.take() {
            Some((of, object))
                if of == handle
                    && place.generation.load(Ordering::Acquire) == generation(handle)
                    && place.process.load(Ordering::Relaxed) == fork::generation() =>
            {
                object
            }
            _ => {
                // Rare enough to let go of what others have closed since.
                forget_closed();
                find(T::NAME, handle)?
            }
        };
        let result = call(&object);
        // What a nested call has put there meanwhile goes away; so does everything when `call` panics.
        keeper.set(Some((handle, object)));
        result
    });
    match kept {
        Ok(result) => result,
        // The thread is ending and its array is gone.
        Err(_) => call(&*find(T::NAME, handle)?),
    }
}

/// Takes the object out of the table: from now on the handle is closed. Another thread that is inside a call with it
/// finishes that call. NULL is nothing to close.
pub(crate) fn close<T: Kind>(handle: usize) -> Result<()> {
    if handle == 0 {
        return Ok(());
    }
    let object = find(T::NAME, handle)?;
    typed::<T>(&object)?;
    let place = &PLACES[index(handle)];
    {
        let mut standing = lock(place);
        if place.generation.load(Ordering::Relaxed) != generation(handle) {
            return Err(closed(T::NAME, handle));
        }
        *standing = None;
        place.generation.store(generation(handle).wrapping_add(1), Ordering::Release);
    }
    forget_closed();
    typed::<T>(&object)?.end()
}

/// Drops the references that this thread keeps to objects closed since.
fn forget_closed() {
    // Without its array a thread keeps nothing.
    let _ = KEPT.try_with(|kept| {
        for keeper in kept {
            if let Some((handle, object)) = keeper.take()
                && PLACES[index(handle)].generation.load(Ordering::Acquire) == generation(handle)
            {
                keeper.set(Some((handle, object)));
            }
        }
    });
}

/// The number in a pointer that came from C. Nothing is ever read through it.
pub(crate) fn number<T>(pointer: *const T) -> usize {
    pointer.addr()
}

/// The pointer that carries the number of a handle to C.
pub(crate) fn pointer<T>(handle: usize) -> *mut T {
    std::ptr::without_provenance_mut::<c_void>(handle).cast()
}
