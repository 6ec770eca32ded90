//! Detection of a forked child.
//!
//! One private page holds this process's generation. The kernel hands a forked child a zeroed page instead
//! (MADV_WIPEONFORK), so an attachment that remembers the generation at which it was made sees at the cost of one
//! predictable load that it belongs to the parent. Descriptors whose lock stands for the parent's life are closed in the
//! child by a pthread_atfork handler, so that the child does not keep the parent alive in the eyes of others.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU64, Ordering};
use std::sync::{Mutex, Once};

static PAGE: AtomicPtr<AtomicU64> = AtomicPtr::new(std::ptr::null_mut());
static COUNTER: AtomicU64 = AtomicU64::new(1);
static SETUP: Mutex<()> = Mutex::new(());

/// Descriptors to close in a forked child; -1 is a free place.
static CLOSE: [AtomicI32; 256] = [const { AtomicI32::new(-1) }; 256];
static HANDLER: Once = Once::new();

/// The generation of this process: 0 in a forked child that has not attached anything yet.
#[inline]
pub fn generation() -> u64 {
    let page = PAGE.load(Ordering::Acquire);
    if page.is_null() {
        return 0;
    }
    // SAFETY: once set, the page stays mapped for the life of the process and of its forked children.
    unsafe { (*page).load(Ordering::Relaxed) }
}

/// The word of a process that has attached nothing yet.
static NONE: AtomicU64 = AtomicU64::new(0);

/// The process in which it was made, at that time.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    word: &'static AtomicU64,
    generation: u64,
}

impl Origin {
    /// This process, now.
    pub fn here() -> Origin {
        let page = PAGE.load(Ordering::Acquire);
        // SAFETY: once set, the page stays mapped for the life of the process and of its forked children.
        let word = if page.is_null() { &NONE } else { unsafe { &*page } };
        Origin { word, generation: word.load(Ordering::Relaxed) }
    }

    /// Whether this is still that process, not a forked child of it. One load.
    #[inline(always)]
    pub fn is_here(self) -> bool {
        self.word.load(Ordering::Relaxed) == self.generation
    }
}

/// The generation of this process, begun now if it has none: for a new attachment.
pub fn begin() -> u64 {
    // A forked child may find the mutex locked by a thread that it does not have: then it takes its time-out, never
    // the lock. `try_lock` in a bounded loop keeps that from hanging.
    let mut guard = None;
    for _ in 0..1000 {
        if let Ok(locked) = SETUP.try_lock() {
            guard = Some(locked);
            break;
        }
        std::thread::sleep(std::time::Duration::from_micros(100));
    }
    let page = PAGE.load(Ordering::Acquire);
    let page = if page.is_null() { map_page() } else { page };
    // SAFETY: the page is mapped for good.
    let word = unsafe { &*page };
    if word.load(Ordering::Relaxed) == 0 {
        word.store(COUNTER.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
    }
    let generation = word.load(Ordering::Relaxed);
    drop(guard);
    generation
}

fn map_page() -> *mut AtomicU64 {
    let len = super::PAGE as usize;
    // SAFETY: a fresh private anonymous mapping.
    let page = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    let page: *mut AtomicU64 = if page == libc::MAP_FAILED {
        // Without a page of its own the word lives in ordinary memory: forks then go unnoticed, nothing else.
        Box::leak(Box::new(AtomicU64::new(0)))
    } else {
        // SAFETY: the mapping was made above; before Linux 4.14 the advice is refused and forks go unnoticed.
        unsafe { libc::madvise(page, len, libc::MADV_WIPEONFORK) };
        page.cast()
    };
    PAGE.store(page, Ordering::Release);
    page
}

/// A descriptor that a forked child closes at once. Dropping the value ends that, it does not close the descriptor.
#[derive(Debug)]
pub struct CloseInChild {
    place: usize,
    generation: u64,
}

/// Has forked children close `descriptor`; it must be given up before the descriptor is closed, or a child closes whatever
/// has its number by then. `None` when 256 descriptors are registered already: then a child keeps the
/// lock of the parent until it ends or executes another program, which delays reaping but harms nothing.
pub fn close_in_child(descriptor: RawFd) -> Option<CloseInChild> {
    HANDLER.call_once(|| {
        // SAFETY: the handler only makes async-signal-safe calls.
        unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    });
    CLOSE
        .iter()
        .position(|place| place.compare_exchange(-1, descriptor, Ordering::AcqRel, Ordering::Relaxed).is_ok())
        .map(|place| CloseInChild { place, generation: generation() })
}

impl Drop for CloseInChild {
    fn drop(&mut self) {
        // In a forked child the place was freed at the fork, and may hold a descriptor of the child's own by now.
        if generation() == self.generation {
            CLOSE[self.place].store(-1, Ordering::Release);
        }
    }
}

/// Closes a descriptor that is not closed by itself, because a forked child must not close its number.
pub fn close(descriptor: &mut std::mem::ManuallyDrop<std::os::fd::OwnedFd>) {
    // SAFETY: the only caller is the destructor of the owner, which does not use the descriptor afterwards.
    unsafe { std::mem::ManuallyDrop::drop(descriptor) };
}

extern "C" fn in_child() {
    for place in &CLOSE {
        let descriptor = place.load(Ordering::Relaxed);
        if descriptor >= 0 {
            // The kernel closes the child's copy only; the parent's lock belongs to its own copy of the description,
            // which stays open there.
            // SAFETY: closing a descriptor number that the library owns; its owner in the child answers `Forked`.
            unsafe { libc::close(descriptor) };
            // A free number may be given to another file of the child: point it nowhere until it execs or exits.
            place.store(-1, Ordering::Relaxed);
        }
    }
}

#[cfg(all(test, not(memora_loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_a_child_drops_of_its_parent_leaves_its_own_registrations_alone() {
        use std::os::fd::AsRawFd;
        begin();
        let file = tempfile::tempfile().unwrap();
        let descriptor = file.as_raw_fd();
        let registered = close_in_child(descriptor).unwrap();
        // SAFETY: the child makes async-signal-safe calls and such that take no memory, and leaves by _exit.
        let child = unsafe { libc::fork() };
        if child == 0 {
            begin();
            // A descriptor of the child's own, in the place that the parent's had.
            let place = &CLOSE[registered.place];
            let free = place.load(Ordering::Relaxed) == -1;
            place.store(descriptor, Ordering::Relaxed);
            drop(registered);
            let kept = place.load(Ordering::Relaxed) == descriptor;
            // SAFETY: leaves the child without running anything of the parent's.
            unsafe { libc::_exit(if free && kept { 0 } else { 1 }) };
        }
        let mut status = 0;
        // SAFETY: `status` is a valid place for the answer.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        assert_eq!(status, 0, "the child lost its own registration");
        drop(registered);
    }

    #[test]
    fn a_forked_child_sees_generation_zero_and_the_descriptor_closed() {
        use std::os::fd::AsRawFd;
        let generation_here = begin();
        assert!(generation_here != 0 && generation() == generation_here && begin() == generation_here);
        let origin = Origin::here();
        assert!(origin.is_here());
        let file = tempfile::tempfile().unwrap();
        let descriptor = file.as_raw_fd();
        let registered = close_in_child(descriptor).unwrap();
        // SAFETY: the child only makes async-signal-safe calls and leaves by _exit.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let wiped = generation() == 0 && !origin.is_here();
            // SAFETY: F_GETFD takes no pointer.
            let closed = unsafe { libc::fcntl(descriptor, libc::F_GETFD) } < 0;
            // SAFETY: leaves the child without running anything of the parent's.
            unsafe { libc::_exit(if wiped && closed { 0 } else { 1 }) };
        }
        let mut status = 0;
        // SAFETY: `status` is a valid place for the answer.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        assert_eq!(status, 0, "the child saw the parent's generation or descriptor");
        // SAFETY: F_GETFD takes no pointer.
        assert!(unsafe { libc::fcntl(descriptor, libc::F_GETFD) } >= 0, "the parent keeps its descriptor");
        drop(registered);
    }
}
