//! The life word: proof of a thread's death, set by the kernel.
//!
//! A robust futex is a 4-byte word that holds its owner's thread id; when the owner ends in any way, the kernel walks the
//! thread's private list of such words and replaces the id by the bit FUTEX_OWNER_DIED. Nobody else ever locks a life
//! word, so the known flaw of contended robust mutexes across PID namespaces cannot occur (the kernel compares a dying
//! waiter's thread id, which is not unique across namespaces). The bit shows within a millisecond of SIGKILL, whatever the
//! size of the process: the kernel sets it before it frees the memory.
//!
//! The list runs through nodes that the kernel wants at a fixed distance *behind* the word (32 bytes with glibc). A list
//! node in shared memory would be a pointer there, which a damaged segment could turn against its owner. So each life
//! word is mapped a second time, into the last bytes of a page that is followed by a private page: the word lies in the
//! first, the node in the second.
//!
//! ```text
//!          shared page (duplicate)               private page
//! | ...            | word 0 | word 1 | word 2 || node 0      | node 1 | ...
//!                  ^ 4096-24                   ^ 4096        each node: previous, next
//! ```
//! A node takes 16 bytes at `word + 24`, so nodes of neighbouring words overlap: each thread maps its own pair of pages
//! and uses one node in it.
//!
//! Source: the kernel's `Documentation/locking/robust-futex-ABI.rst`; the list form (a link to the previous node in front
//! of `next`) is that of glibc's `nptl/descr.h`.

use std::sync::atomic::{AtomicPtr, Ordering as StdOrdering, compiler_fence};

use super::atomic::{AtomicU32, Ordering};
use super::{PAGE, Shm, fork, futex};
use crate::error::{Error, ErrorCode, Result};

/// Life words in a page.
pub const WORDS_PER_PAGE: u64 = 3;

/// Where life word `index` lies in its page, in bytes.
pub const fn word_offset(index: u64) -> u64 {
    PAGE - 24 + 8 * index
}

/// What a life word says of its thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Nobody holds it.
    Free,
    /// A thread holds it: running or stopped, but alive.
    Held,
    /// Its holder ended without letting go. It will store nothing more.
    Dead,
}

const TID_MASK: u32 = 0x3fff_ffff;
const OWNER_DIED: u32 = 0x4000_0000;
/// Somebody sleeps on the word: the kernel wakes one when the holder dies.
const WAITERS: u32 = 0x8000_0000;

/// Reads a life word.
#[inline]
pub fn state(word: &AtomicU32) -> Life {
    // ORDER Acquire [life-word]: sees all stores of the dead thread; pairs with the kernel's own store at its exit.
    let value = word.load(Ordering::Acquire);
    if value & OWNER_DIED != 0 {
        Life::Dead
    } else if value & TID_MASK != 0 {
        Life::Held
    } else {
        Life::Free
    }
}

/// Makes a held life word ready to be slept on: gives what it holds then. `None` if nobody holds it.
///
/// The kernel wakes one sleeper when it changes the word of a dead thread; that one wakes the others ([`rouse`]). A holder that lets
/// go wakes nobody: what it had was taken over before.
pub fn watch(word: &AtomicU32) -> Option<u32> {
    // ORDER Relaxed: `state` decides; a changed word is not slept on.
    let seen = word.load(Ordering::Relaxed);
    if seen & OWNER_DIED != 0 || seen & TID_MASK == 0 {
        return None;
    }
    if seen & WAITERS != 0 {
        return Some(seen);
    }
    // ORDER Relaxed: as above. The bit changes nothing for the holder, who never looks at the word.
    let marked = word.compare_exchange(seen, seen | WAITERS, Ordering::Relaxed, Ordering::Relaxed).is_ok();
    marked.then_some(seen | WAITERS)
}

/// Wakes the other sleepers if the holder is dead.
pub fn rouse(word: &AtomicU32) {
    if state(word) == Life::Dead {
        futex::wake(word, u32::MAX);
    }
}

/// The list head of a thread, as the kernel defines it.
#[repr(C)]
struct ListHead {
    next: *mut Node,
    futex_offset: libc::c_long,
    pending: *mut Node,
}

/// A node as the kernel sees it: the address of the next one. glibc's address of the previous one stands 8 bytes before.
#[repr(transparent)]
struct Node(AtomicPtr<Node>);

/// glibc on 64-bit machines: the word stands 32 bytes before `next`.
const FUTEX_OFFSET: libc::c_long = -32;

fn thread_id() -> u32 {
    // SAFETY: takes no arguments.
    (unsafe { libc::syscall(libc::SYS_gettid) }) as u32
}

/// The calling thread's list head, if this libc keeps it in the form that we know.
fn list_head() -> Option<*mut ListHead> {
    if !cfg!(all(target_env = "gnu", target_pointer_width = "64")) {
        return None;
    }
    let mut head: *mut ListHead = std::ptr::null_mut();
    let mut len: libc::size_t = 0;
    // SAFETY: both places are valid for the answer; 0 means the calling thread.
    let failed = unsafe { libc::syscall(libc::SYS_get_robust_list, 0, &raw mut head, &raw mut len) } != 0;
    if failed || head.is_null() || len != size_of::<ListHead>() {
        return None;
    }
    // SAFETY: the kernel gave the head of this very thread, which lives as long as the thread.
    (unsafe { (*head).futex_offset } == FUTEX_OFFSET).then_some(head)
}

/// A life word held by the calling thread until it is unlocked or the thread ends.
#[derive(Debug)]
pub struct LifeWord {
    pages: *mut u8,
    index: u64,
    head: *mut ListHead,
    owner: u32,
    /// Of the process: a forked child in a PID namespace of its own may have the same ids.
    generation: u64,
}

// SAFETY: the value may be moved, but it acts on the list only when the calling thread is its owner (checked in `unlock`).
unsafe impl Send for LifeWord {}

impl LifeWord {
    /// Locks word `index` of the life page at `page_offset` for the calling thread. The caller owns the thread entry that
    /// the word belongs to, so nobody else locks it.
    ///
    /// `Unsupported` where this libc or kernel does not let us: then the lock on the process's byte of the segment file
    /// is the only proof of death.
    pub fn lock(shm: &Shm, page_offset: u64, index: u64) -> Result<LifeWord> {
        if !page_offset.is_multiple_of(PAGE) || index >= WORDS_PER_PAGE {
            return Err(Error::new(
                ErrorCode::Corrupt,
                format!("There is no life word {index} at {page_offset}."),
            ));
        }
        shm.span(page_offset, PAGE)?;
        let head = list_head().ok_or_else(|| {
            Error::new(
                ErrorCode::Unsupported,
                "This C library keeps its robust list in a form that is not known.",
            )
        })?;
        let pages = map_pages(shm, page_offset)?;
        let life = LifeWord { pages, index, head, owner: thread_id(), generation: fork::begin() };
        // SAFETY: the pages were mapped above and the head belongs to this thread.
        unsafe { life.link() };
        Ok(life)
    }

    fn word(&self) -> &AtomicU32 {
        // SAFETY: the pair of pages stays mapped as long as `self`; the word is aligned to 8.
        unsafe { &*self.pages.add(word_offset(self.index) as usize).cast() }
    }

    /// The place of the node's `next`; `previous` stands right before it. Both lie in the private page.
    fn node(&self) -> *mut Node {
        // SAFETY: 32 bytes behind the word lie within the private page for each of the three words.
        unsafe { self.pages.add((word_offset(self.index) + 32) as usize).cast() }
    }

    /// # Safety
    /// The calling thread owns `self.head`.
    unsafe fn link(&self) {
        let node = self.node();
        // Should the thread die in between, the kernel looks at `pending` too.
        // SAFETY: the head is this thread's; the nodes on its list are valid while they are linked. Marks in the lowest
        // bit belong to other users of the list (priority-inheriting mutexes) and are passed on unchanged.
        unsafe {
            (&raw mut (*self.head).pending).write_volatile(node);
            compiler_fence(StdOrdering::SeqCst);
            // ORDER Release [life-word]: the holder's registration follows in the thread entry; pairs with `state`.
            self.word().store(self.owner & TID_MASK, Ordering::Release);
            let first = (&raw mut (*self.head).next).read_volatile();
            (*node).0.store(first, StdOrdering::Relaxed);
            previous(node).write_volatile(self.head.cast());
            previous(unmarked(first)).write_volatile(node);
            compiler_fence(StdOrdering::SeqCst);
            (&raw mut (*self.head).next).write_volatile(node);
            compiler_fence(StdOrdering::SeqCst);
            (&raw mut (*self.head).pending).write_volatile(std::ptr::null_mut());
        }
    }

    /// Whether the calling thread is the one that holds the word.
    pub fn is_mine(&self) -> bool {
        self.generation == fork::generation() && self.owner == thread_id()
    }

    /// Lets go of the word. Must be called by the thread that locked it: from another one the word stays held until its
    /// thread ends, and the pages stay mapped for that.
    pub fn unlock(self) {
        drop(self);
    }
}

impl Drop for LifeWord {
    fn drop(&mut self) {
        if !self.is_mine() {
            return;
        }
        let node = self.node();
        // SAFETY: the node is on this thread's list, whose nodes are valid while they are linked. The order is that of
        // `link` in reverse: unlinked first, then the word is freed, with `pending` naming it in between.
        unsafe {
            (&raw mut (*self.head).pending).write_volatile(node);
            compiler_fence(StdOrdering::SeqCst);
            let next = (*node).0.load(StdOrdering::Relaxed);
            let before = previous(node).read_volatile();
            previous(unmarked(next)).write_volatile(before);
            unmarked(before).cast::<*mut Node>().write_volatile(next);
            compiler_fence(StdOrdering::SeqCst);
            // ORDER Release [life-word]: the thread's last stores come before; pairs with `state`.
            self.word().store(0, Ordering::Release);
            compiler_fence(StdOrdering::SeqCst);
            (&raw mut (*self.head).pending).write_volatile(std::ptr::null_mut());
            libc::munmap(self.pages.cast(), 2 * PAGE as usize);
        }
    }
}

/// The place of the address of the previous node, 8 bytes before the node's `next`.
///
/// # Safety
/// `node` is a node or the list head of glibc, both of which have that word in front.
unsafe fn previous(node: *mut Node) -> *mut *mut Node {
    // SAFETY: by the caller's promise the word in front belongs to the same object.
    unsafe { node.cast::<*mut Node>().sub(1) }
}

fn unmarked(node: *mut Node) -> *mut Node {
    node.map_addr(|address| address & !1)
}

#[cfg(not(memora_loom))]
fn map_pages(shm: &Shm, page_offset: u64) -> Result<*mut u8> {
    let page = PAGE as usize;
    // SAFETY: a fresh private mapping of two pages; its first page is then replaced by a second mapping of the shared
    // page (mremap with old size 0 duplicates a shared mapping), whose range `lock` has checked.
    unsafe {
        let pages = libc::mmap(
            std::ptr::null_mut(),
            2 * page,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        if pages == libc::MAP_FAILED {
            return Err(Error::io("mmap", "a life word", &std::io::Error::last_os_error()));
        }
        let shared = shm.pointer(page_offset);
        let moved = libc::mremap(shared.cast(), 0, page, libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED, pages);
        if moved == libc::MAP_FAILED {
            let error = std::io::Error::last_os_error();
            // Only the second page: the first may be unmapped already, and be somebody else's by now.
            libc::munmap(pages.byte_add(page), page);
            return Err(Error::new(ErrorCode::Unsupported, format!("mremap of a life word: {error}")));
        }
        Ok(pages.cast())
    }
}

#[cfg(memora_loom)]
fn map_pages(_shm: &Shm, _page_offset: u64) -> Result<*mut u8> {
    Err(ErrorCode::Unsupported.into())
}

#[cfg(all(test, not(memora_loom)))]
mod tests {
    use super::*;

    fn word(shm: &Shm, index: u64) -> &AtomicU32 {
        shm.span(0, PAGE).unwrap().u32(word_offset(index)).unwrap()
    }

    #[test]
    fn a_thread_that_ends_without_unlocking_is_dead_and_one_that_unlocks_is_not() {
        let shm = Shm::heap(PAGE).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let life = LifeWord::lock(&shm, 0, 0).unwrap();
                assert_eq!(state(word(&shm, 0)), Life::Held);
                life.unlock();
                assert_eq!(state(word(&shm, 0)), Life::Free);
                std::mem::forget(LifeWord::lock(&shm, 0, 1).unwrap());
            });
        });
        // The scope ends when the thread's closure has returned, which is shortly before the kernel's part of its exit.
        for _ in 0..1000 {
            if state(word(&shm, 1)) == Life::Dead {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        assert_eq!(state(word(&shm, 1)), Life::Dead);
        assert_eq!(state(word(&shm, 0)), Life::Free);
    }

    #[test]
    fn several_words_of_a_thread_mix_with_robust_mutexes_of_the_c_library_in_any_order() {
        let shm = Shm::heap(2 * PAGE).unwrap();
        // SAFETY: pthread types are plain data; they are initialised before use and stay in place.
        unsafe {
            let mut attributes: libc::pthread_mutexattr_t = std::mem::zeroed();
            libc::pthread_mutexattr_init(&mut attributes);
            libc::pthread_mutexattr_setrobust(&mut attributes, libc::PTHREAD_MUTEX_ROBUST);
            let mut mutexes: Box<[libc::pthread_mutex_t; 2]> = Box::new(std::mem::zeroed());
            for mutex in mutexes.iter_mut() {
                libc::pthread_mutex_init(mutex, &attributes);
            }
            let first = LifeWord::lock(&shm, 0, 0).unwrap();
            assert_eq!(libc::pthread_mutex_lock(&mut mutexes[0]), 0);
            let second = LifeWord::lock(&shm, 0, 1).unwrap();
            assert_eq!(libc::pthread_mutex_lock(&mut mutexes[1]), 0);
            let third = LifeWord::lock(&shm, PAGE, 2).unwrap();
            second.unlock();
            assert_eq!(libc::pthread_mutex_unlock(&mut mutexes[0]), 0);
            assert_eq!(libc::pthread_mutex_lock(&mut mutexes[0]), 0);
            first.unlock();
            assert_eq!(libc::pthread_mutex_unlock(&mut mutexes[1]), 0);
            third.unlock();
            assert_eq!(libc::pthread_mutex_unlock(&mut mutexes[0]), 0);
            let head = list_head().unwrap();
            assert_eq!((*head).next.cast::<ListHead>(), head, "the list is empty again");
        }
        assert_eq!(state(word(&shm, 0)), Life::Free);
        assert_eq!(state(word(&shm, 1)), Life::Free);
    }

    #[test]
    fn a_killed_process_is_dead() {
        let shm = Shm::heap(PAGE).unwrap();
        // SAFETY: the child makes system calls only and is killed.
        let child = unsafe { libc::fork() };
        if child == 0 {
            std::mem::forget(LifeWord::lock(&shm, 0, 2));
            loop {
                // SAFETY: takes no pointers.
                unsafe { libc::pause() };
            }
        }
        while state(word(&shm, 2)) != Life::Held {
            std::thread::yield_now();
        }
        // SAFETY: our own child.
        unsafe { libc::kill(child, libc::SIGKILL) };
        // SAFETY: no place for the status is wanted.
        unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
        assert_eq!(state(word(&shm, 2)), Life::Dead);
    }

    #[test]
    fn the_kernel_wakes_who_sleeps_on_the_word_of_a_thread_that_dies() {
        use super::futex::{WaitResult, wait_many};
        use std::time::Duration;
        let shm = Shm::heap(2 * PAGE).unwrap();
        let other = shm.span(PAGE, PAGE).unwrap().u32(0).unwrap();
        assert_eq!(watch(word(&shm, 0)), None, "nobody holds it");
        let mut woken = 0;
        for _ in 0..20 {
            std::thread::scope(|scope| {
                let (tell, told) = std::sync::mpsc::channel::<()>();
                let shm = &shm;
                scope.spawn(move || {
                    std::mem::forget(LifeWord::lock(shm, 0, 0).unwrap());
                    told.recv().unwrap();
                });
                let mut tell = Some(tell);
                loop {
                    let Some(value) = watch(word(shm, 0)) else {
                        if state(word(shm, 0)) == Life::Dead {
                            break;
                        }
                        std::thread::yield_now();
                        continue;
                    };
                    assert_eq!(value & TID_MASK, value & !WAITERS, "sleepers change nothing else");
                    let _ = tell.take().map(|tell| tell.send(()));
                    let ended = wait_many(&[(other, 0), (word(shm, 0), value)], Duration::from_secs(1));
                    woken += u32::from(ended == WaitResult::Woken);
                }
                rouse(word(shm, 0));
            });
            word(&shm, 0).store(0, Ordering::Relaxed);
        }
        // Not each time: the thread may be dead before the sleep begins.
        assert!(woken > 0);
    }

    #[test]
    fn words_outside_the_page_are_refused() {
        let shm = Shm::heap(PAGE).unwrap();
        assert!(LifeWord::lock(&shm, 0, 3).is_err());
        assert!(LifeWord::lock(&shm, PAGE, 0).is_err());
        assert!(LifeWord::lock(&shm, 8, 0).is_err());
    }
}
