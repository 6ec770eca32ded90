//! Handles: the numbers by which Java names Rust objects. A handle is an index and a generation, so one that was closed is
//! recognised for ever, and a close in one thread never pulls an object from under a call in another.
//!
//! A call announces the entry that it uses in a word of its own thread, then checks the entry's generation. `close` changes
//! the generation, then looks at the announcements of all threads, and drops the object when nobody uses it. So a call
//! either sees the new generation, or its announcement is seen. The calls run on each operation and must not write a shared
//! line; a close is rare and pays for both with [`fence::heavy`].

use std::cell::Cell;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering, fence as full_fence};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use jni::sys::jlong;
use memora::shm::fence;
use memora::{Error, ErrorCode};

use crate::guard::{Answer, Fault};
use crate::object::Object;

/// Handles that may be open at once in one process.
const ENTRIES: usize = 16 * 1024;
/// How long a close waits for calls that are still inside; then the object is dropped by a later close.
const PATIENCE: Duration = Duration::from_millis(200);
/// "Uses no entry", in the word of a thread.
const NONE: u32 = u32::MAX;

/// Odd generation: open. The object stands from before the generation turns odd until after nobody uses it.
struct Entry {
    generation: AtomicU32,
    object: AtomicPtr<Object>,
}

static TABLE: [Entry; ENTRIES] =
    [const { Entry { generation: AtomicU32::new(0), object: AtomicPtr::new(std::ptr::null_mut()) } };
        ENTRIES];

/// What changes only when handles are made and closed.
struct Book {
    /// Entries that were used before and are free now.
    free: Vec<u32>,
    /// Entries from here on were never used.
    fresh: u32,
    /// Closed entries that were in use for longer than a close waits.
    late: Vec<u32>,
    /// The announcements of all threads; those of ended threads are used again.
    announcements: Vec<&'static Announcement>,
}

static BOOK: Mutex<Book> =
    Mutex::new(Book { free: Vec::new(), fresh: 0, late: Vec::new(), announcements: Vec::new() });

fn book() -> MutexGuard<'static, Book> {
    // Nothing in here panics half-way through a change.
    BOOK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The entry that a thread uses now. A line of its own: other threads read it only in a close.
#[repr(align(128))]
struct Announcement {
    entry: AtomicU32,
    taken: AtomicU32,
}

/// A thread's announcement, given back when the thread ends.
struct Seat(Cell<Option<&'static Announcement>>);

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(announcement) = self.0.get() {
            announcement.entry.store(NONE, Ordering::Release);
            announcement.taken.store(0, Ordering::Release);
        }
    }
}

thread_local! {
    static SEAT: Seat = const { Seat(Cell::new(None)) };
}

#[cold]
#[inline(never)]
fn sit_down(seat: &Seat) -> &'static Announcement {
    let mut book = book();
    let found = book
        .announcements
        .iter()
        .copied()
        .find(|it| it.taken.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok());
    let announcement = found.unwrap_or_else(|| {
        let new: &'static Announcement =
            Box::leak(Box::new(Announcement { entry: AtomicU32::new(NONE), taken: AtomicU32::new(1) }));
        book.announcements.push(new);
        new
    });
    seat.0.set(Some(announcement));
    announcement
}

/// Whether the kernel runs the close's fence in the other threads for us.
pub fn asymmetric() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| fence::register() && fence::heavy())
}

/// Withdraws the announcement, also when the body panics.
struct Using(&'static Announcement);

impl Drop for Using {
    fn drop(&mut self) {
        // What the call did with the object comes before this; `users` reads it with Acquire before the object is dropped.
        self.0.entry.store(NONE, Ordering::Release);
    }
}

fn closed() -> Fault {
    ErrorCode::Closed.into()
}

fn parts(handle: jlong) -> (u32, u32) {
    (handle as u32, (handle as u64 >> 32) as u32)
}

/// Runs `body` with the object of a handle; `CLOSED` when there is none any more.
#[inline]
pub fn with<T>(handle: jlong, body: impl FnOnce(&Object) -> Answer<T>) -> Answer<T> {
    let (index, generation) = parts(handle);
    let entry = TABLE.get(index as usize).ok_or_else(closed)?;
    let announcement = SEAT
        .try_with(|seat| seat.0.get().unwrap_or_else(|| sit_down(seat)))
        // The thread is ending; nothing may be opened for it any more.
        .map_err(|_| closed())?;
    if announcement.entry.load(Ordering::Relaxed) != NONE {
        // One word names one entry. No native function uses two handles at once; should one ever, this says so.
        return Err(Error::new(ErrorCode::Internal, "A call used two handles at once.").into());
    }
    announcement.entry.store(index, Ordering::Relaxed);
    let using = Using(announcement);
    // Between the announcement and the check of the generation; pairs with the fence in `retire`.
    if asymmetric() {
        fence::light();
    } else {
        full_fence(Ordering::SeqCst);
    }
    // Acquire: the object was stored before the generation turned odd.
    if generation.is_multiple_of(2) || entry.generation.load(Ordering::Acquire) != generation {
        return Err(closed());
    }
    let object = entry.object.load(Ordering::Relaxed);
    // SAFETY: the generation is that of an open entry, so `object` is the box that `insert` stored. It is freed only by
    // `sweep`, after `close` changed the generation, `retire` ran the heavy fence, and no announcement named this entry.
    // We announced it before we read the generation, with a fence in between: had `sweep` not seen the announcement,
    // we would have seen its generation. So the box lives until `using` is dropped, which is after `body`.
    let answer = body(unsafe { &*object });
    drop(using);
    answer
}

/// Takes an object in and gives its handle.
pub fn insert(object: Object) -> Answer<jlong> {
    sweep();
    let mut book = book();
    let index = match book.free.pop() {
        Some(index) => index,
        None if (book.fresh as usize) < ENTRIES => {
            book.fresh += 1;
            book.fresh - 1
        }
        None => {
            return Err(Error::new(
                ErrorCode::InvalidArgument,
                format!(
                    "This process has {ENTRIES} open handles, which is the limit: close what is not needed."
                ),
            )
            .into());
        }
    };
    let entry = &TABLE[index as usize];
    entry.object.store(Box::into_raw(Box::new(object)), Ordering::Relaxed);
    let generation = entry.generation.load(Ordering::Relaxed).wrapping_add(1);
    // Release: with the object; pairs with the load in `with`.
    entry.generation.store(generation, Ordering::Release);
    Ok(((u64::from(generation) << 32) | u64::from(index)) as jlong)
}

/// Closes a handle and those made from it. Closing one that is closed does nothing.
pub fn close(handle: jlong) {
    let (index, generation) = parts(handle);
    let Some(entry) = TABLE.get(index as usize) else { return };
    let next = generation.wrapping_add(1);
    // SeqCst: one order with the fences; from here on `with` refuses the handle.
    if generation.is_multiple_of(2)
        || entry.generation.compare_exchange(generation, next, Ordering::SeqCst, Ordering::Relaxed).is_err()
    {
        return;
    }
    // Subscribers settle their places before the fabric goes.
    children(handle).into_iter().for_each(close);
    retire(index);
    // Those that a call was still making when we looked: it has ended now.
    children(handle).into_iter().for_each(close);
}

/// Open handles that were made from `parent`.
fn children(parent: jlong) -> Vec<jlong> {
    let fresh = book().fresh;
    let mut found = Vec::new();
    for index in 0..fresh {
        let generation = TABLE[index as usize].generation.load(Ordering::Acquire);
        let handle = ((u64::from(generation) << 32) | u64::from(index)) as jlong;
        if let Ok(true) = with(handle, |object| Ok(object.parent == parent)) {
            found.push(handle);
        }
    }
    found
}

/// Waits until nobody uses a closed entry, then drops its object; leaves it to a later call when that takes too long.
fn retire(index: u32) {
    shut(index);
    // Between the change of the generation and the look at the announcements; pairs with the fence in `with`.
    if !asymmetric() {
        full_fence(Ordering::SeqCst);
    } else if !fence::heavy() {
        // The kernel broke its word: nothing can be proved, so the object stays for ever.
        return;
    }
    let start = Instant::now();
    book().late.push(index);
    while sweep().contains(&index) && start.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_micros(100));
    }
}

/// Tells a Java thread that writes or reads without a call to begin nothing any more.
fn shut(index: u32) {
    // SAFETY: `insert` made this box. Only `sweep` frees it, once the index is on the list `late`, and only the `retire` that called
    // this puts it there, afterwards.
    if let Some(object) = unsafe { TABLE[index as usize].object.load(Ordering::Relaxed).as_ref() } {
        object.shut();
    }
}

/// Drops the closed objects that nobody uses; gives the indexes of those that are left.
fn sweep() -> Vec<u32> {
    let mut unused = Vec::new();
    let left = {
        let mut book = book();
        for index in std::mem::take(&mut book.late) {
            // SAFETY: as below; nobody but the holder of the book's lock drops it.
            let object = unsafe { TABLE[index as usize].object.load(Ordering::Relaxed).as_ref() };
            // Acquire: pairs with the Release in `Using::drop`: the user has finished with the object. Who is inside without a call
            // was told before the fence that came before the index was put onto the list.
            if object.is_some_and(Object::is_entered)
                || book.announcements.iter().any(|it| it.entry.load(Ordering::Acquire) == index)
            {
                book.late.push(index);
                continue;
            }
            let object = TABLE[index as usize].object.swap(std::ptr::null_mut(), Ordering::Relaxed);
            // SAFETY: `insert` made this box, and the list `late` names it once, so the swap under the book's lock gives it to
            // us alone. The generation was changed and the fence run (in `retire`, before the index came onto the list) before
            // the announcements were read, so no thread that is inside `with` uses it, and none can begin to.
            unused.push((index, unsafe { Box::from_raw(object) }));
        }
        book.late.clone()
    };
    // Outside the lock: detaching from a fabric or closing a store takes its time. Only then is the entry used again.
    for (index, object) in unused {
        drop(object);
        book().free.push(index);
    }
    left
}

/// Handles that are open now, for tests of leaks.
pub fn open_count() -> usize {
    let fresh = book().fresh as usize;
    TABLE[..fresh].iter().filter(|entry| !entry.generation.load(Ordering::Acquire).is_multiple_of(2)).count()
}
