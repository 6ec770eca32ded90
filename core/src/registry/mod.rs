//! Who is attached: processes and threads, whether they live, and what happens to what the dead held.
//!
//! | file | holds |
//! |---|---|
//! | `layout` | bytes of the entries |
//! | `process` | entering and leaving as a process |
//! | `thread` | the calling thread's entry, kept in thread-local storage |
//! | `holder` | entries that keep the pins of a process's views |
//! | `death` | what the kernel proves |
//! | `reap` | taking over from the dead |
//! | `check` | every invariant of the registry |
//!
//! A process holds a lock on its byte of the segment's file for as long as it is attached; a thread holds its life word.
//! The kernel gives up both when they die, however they die. No pid, no time and no heartbeat decides anything.

mod check;
mod death;
mod holder;
pub mod layout;
mod process;
mod reap;
#[cfg(all(test, not(memora_loom)))]
mod tests;
mod thread;

use std::sync::{Arc, Mutex, OnceLock, Weak};

pub use check::check;
pub use process::ProcessInfo;
pub use reap::ReapReport;

use crate::error::{Error, ErrorCode, Result};
use crate::segment::Segment;
use crate::shm::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::shm::{Block, fork};
use layout::{Kind, PROCESS_BYTES, State, THREAD_BYTES, process as process_field, thread as thread_field};

/// Takes over everything that a thread owned. Called with proof that the thread is dead, or by the thread itself when it
/// leaves. Repeating it is harmless, also after it was broken off at any point.
pub trait Heir: Send + Sync {
    /// Takes over what thread entry `thread` owned.
    fn inherit(&self, thread: u16) -> Result<()>;
}

type ProcessEntry<'a> = Block<'a, PROCESS_BYTES>;
type ThreadEntry<'a> = Block<'a, THREAD_BYTES>;

/// The calling thread's entry.
#[derive(Clone, Copy)]
pub struct Member<'a> {
    /// Index of the entry, from 1.
    pub index: u16,
    /// Its pins: 8 chunk numbers.
    pub pins: Block<'a, 32>,
    /// Its open chunks, private to the thread.
    pub open: Block<'a, 64>,
    /// Its transaction: what became of it, and how many there were.
    pub transaction: Block<'a, 32>,
}

/// The registry of a segment, as one attachment sees it.
pub struct Registry {
    segment: Arc<Segment>,
    /// Tells attachments of this process apart; never reused.
    id: u64,
    fork_generation: u64,
    closed: AtomicU32,
    /// Our process entry; `u32::MAX` before we entered, and for read-only attachments.
    process: AtomicU32,
    heir: OnceLock<Weak<dyn Heir>>,
    /// This very value, for thread-local storage.
    me: OnceLock<Weak<Registry>>,
    /// Reads for which no entry is looked for.
    readers_rest: AtomicU32,
    /// One reaper at a time in this process: locks of one description do not exclude each other.
    reaping: Mutex<()>,
}

const NOBODY: u32 = u32::MAX;

impl Registry {
    /// The registry of an attached segment; this process has not entered it yet.
    pub fn new(segment: Arc<Segment>) -> Registry {
        static NEXT: std::sync::Mutex<u64> = std::sync::Mutex::new(1);
        let id = {
            let mut next = NEXT.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            *next += 1;
            *next
        };
        Registry {
            segment,
            id,
            fork_generation: fork::begin(),
            closed: AtomicU32::new(0),
            process: AtomicU32::new(NOBODY),
            heir: OnceLock::new(),
            me: OnceLock::new(),
            readers_rest: AtomicU32::new(0),
            reaping: Mutex::new(()),
        }
    }

    /// Who takes over from threads of ours that end.
    pub fn set_heir(&self, heir: Weak<dyn Heir>) {
        // Only the first is kept: there is one fabric for a registry.
        let _ = self.heir.set(heir);
    }

    /// The segment that it stands in.
    pub fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    /// An error if the attachment was closed or belongs to the parent of a fork.
    #[inline]
    pub fn enter(&self) -> Result<()> {
        // ORDER Relaxed: a flag that stands for itself; memory stays mapped while a handle lives.
        if self.closed.load(Ordering::Relaxed) != 0 {
            return Err(ErrorCode::Closed.into());
        }
        if fork::generation() != self.fork_generation {
            return Err(ErrorCode::Forked.into());
        }
        Ok(())
    }

    /// From now on every call answers `Closed`.
    pub fn close(&self) {
        self.closed.store(1, Ordering::Relaxed);
    }

    /// Whether this is a forked child of the process that attached.
    pub fn is_forked(&self) -> bool {
        fork::generation() != self.fork_generation
    }

    fn process(&self) -> u32 {
        // ORDER Relaxed: private to this process, set once before threads attach.
        self.process.load(Ordering::Relaxed)
    }

    fn process_count(&self) -> u32 {
        self.segment.geometry().process_count
    }

    /// Entries of the thread table; index 0 is nobody.
    pub fn thread_entries(&self) -> u16 {
        self.segment.geometry().thread_count as u16
    }

    fn process_entry(&self, index: u32) -> Result<ProcessEntry<'_>> {
        if index >= self.process_count() {
            return Err(Error::new(ErrorCode::Corrupt, format!("There is no process entry {index}.")));
        }
        self.segment
            .shm()
            .block(self.segment.geometry().process_offset + u64::from(index) * PROCESS_BYTES as u64)
    }

    #[inline]
    fn thread_entry(&self, index: u16) -> Result<ThreadEntry<'_>> {
        if index == 0 || u32::from(index) >= self.segment.geometry().thread_count {
            return Err(Error::new(ErrorCode::Corrupt, format!("There is no thread entry {index}.")));
        }
        self.segment
            .shm()
            .block(self.segment.geometry().thread_offset + u64::from(index) * THREAD_BYTES as u64)
    }

    /// As [`Registry::member`]: the index of the entry and where it stands.
    #[inline]
    pub fn seat(&self) -> Result<(u16, u64)> {
        self.enter()?;
        let index = self.current_thread()?;
        Ok((index, self.segment.geometry().thread_offset + u64::from(index) * THREAD_BYTES as u64))
    }

    /// The calling thread's entry, attached now if it is not yet.
    #[inline]
    pub fn member(&self) -> Result<Member<'_>> {
        self.enter()?;
        self.member_at(self.current_thread()?)
    }

    /// A thread's entry: the calling thread's own, or one whose holder is dead, for whoever takes over from it.
    #[inline]
    pub fn member_at(&self, index: u16) -> Result<Member<'_>> {
        let entry = self.thread_entry(index)?;
        Ok(Member {
            index,
            pins: entry.part::<{ thread_field::PINS }, 32>(),
            open: entry.part::<{ thread_field::OPEN }, 64>(),
            transaction: entry.part::<{ thread_field::TRANSACTION }, { thread_field::TRANSACTION_BYTES }>(),
        })
    }

    /// The transaction that the holder of a thread entry has under way.
    pub fn transaction(&self, thread: u16) -> Result<Block<'_, 32>> {
        let entry = self.thread_entry(thread)?;
        Ok(entry.part::<{ thread_field::TRANSACTION }, { thread_field::TRANSACTION_BYTES }>())
    }

    /// The index of the calling thread's entry, attached now if it is not yet, also after closing: for who ends what it has in hand. The
    /// caller has a share in the attachment.
    pub fn thread_to_end(&self) -> Result<u16> {
        if self.is_forked() { Err(ErrorCode::Forked.into()) } else { self.current_thread() }
    }

    fn thread_state(&self, index: u16) -> Result<State> {
        Ok(State::load(self.thread_entry(index)?.u64::<{ thread_field::STATE }>()))
    }

    fn process_word(&self, index: u32) -> Result<&AtomicU64> {
        Ok(self.process_entry(index)?.u64::<{ process_field::STATE }>())
    }

    /// How often a thread entry was freed; 0 for one that does not exist.
    pub fn generation(&self, thread: u16) -> u32 {
        self.thread_state(thread).map_or(0, State::generation)
    }

    /// Process and thread ids of the holder of a thread entry, for people to read; 0 where they are not known.
    pub fn ids(&self, thread: u16) -> (u32, u32) {
        let (Ok(entry), Ok(state)) = (self.thread_entry(thread), self.thread_state(thread)) else {
            return (0, 0);
        };
        // ORDER Relaxed: for people to read.
        let tid = entry.u32::<{ thread_field::TID }>().load(Ordering::Relaxed);
        let process = self.process_entry(state.process());
        let pid =
            process.map_or(0, |process| process.u32::<{ process_field::PID }>().load(Ordering::Relaxed));
        if state.kind() == Some(Kind::Free) { (0, 0) } else { (pid, tid) }
    }

    fn each_thread(&self) -> impl Iterator<Item = u16> + use<> {
        1..self.thread_entries()
    }

    /// One more than the highest entry that was ever claimed: a word of entry 0, which is nobody's.
    fn claimed_threads(&self) -> Result<&AtomicU64> {
        let nobody: ThreadEntry<'_> = self.segment.shm().block(self.segment.geometry().thread_offset)?;
        Ok(nobody.u64::<{ thread_field::CLAIMED }>())
    }

    /// The entries that were ever claimed: those that may hold anything.
    fn each_claimed_thread(&self) -> impl Iterator<Item = u16> + use<> {
        // ORDER Acquire [claimed-threads]: behind the caller's fence, where it looks for pins: whoever claims an entry stores
        // this before its first pin, so that the fences of both order this load as they order that of the pin.
        let claimed = self.claimed_threads().map_or(u64::MAX, |word| word.load(Ordering::Acquire));
        1..claimed.min(u64::from(self.thread_entries())) as u16
    }
}

impl Registry {
    /// Attached threads that did more than read, live or not yet reaped.
    pub fn thread_count(&self) -> u32 {
        let writes = |index: &u16| {
            let entry = self.thread_entry(*index).ok()?;
            let state = State::load(entry.u64::<{ thread_field::STATE }>());
            // ORDER Relaxed: an estimate.
            let writes = entry.u32::<{ thread_field::WRITES }>().load(Ordering::Relaxed) != 0;
            Some(writes && !matches!(state.kind(), Some(Kind::Free | Kind::Holder)))
        };
        self.each_claimed_thread().filter(|index| writes(index) == Some(true)).count() as u32
    }

    /// Shows every pin of every attached thread, zeros included.
    pub fn each_pin(&self, visit: &mut dyn FnMut(u32)) {
        for index in self.each_claimed_thread() {
            let Ok(entry) = self.thread_entry(index) else { continue };
            let state = State::load(entry.u64::<{ thread_field::STATE }>());
            if state.kind() == Some(Kind::Free) {
                continue;
            }
            for pin in 0..8 {
                // ORDER Acquire [unpin]: what was done under the pin is seen before the chunk is reused.
                visit(entry.u32_at::<{ thread_field::PINS }>(pin).load(Ordering::Acquire));
            }
        }
    }
}
