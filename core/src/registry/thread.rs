//! The calling thread's entry, kept in thread-local storage.
//!
//! A thread attaches at its first operation and leaves when it ends. The last attachment used is remembered in a plain
//! cell, so that a hot path pays two loads and a comparison.

use std::cell::{Cell, RefCell};
use std::sync::{Arc, Weak};

use super::layout::{Kind, State, thread as field};
use super::{Heir, NOBODY, Registry};
use crate::error::{Error, ErrorCode, Result};
use crate::shm::atomic::Ordering;
use crate::shm::life::{self, Life, LifeWord};
use crate::shm::{PAGE, time};

thread_local! {
    /// Id of the attachment used last for more than reading and our thread entry there; (0, 0) for none.
    static LAST: Cell<(u64, u16)> = const { Cell::new((0, 0)) };
    /// The same for reading; entry 0 if there is none to be had.
    static LAST_READ: Cell<(u64, u16)> = const { Cell::new((0, 0)) };
    /// Every attachment that this thread has an entry in.
    static MINE: RefCell<Vec<Membership>> = const { RefCell::new(Vec::new()) };
}

/// Reads that are not counted after no entry was to be had for a thread that only reads.
const READERS_REST: u32 = 10_000;

/// A thread's entry in one attachment.
struct Membership {
    registry: Weak<Registry>,
    id: u64,
    index: u16,
    life: Option<LifeWord>,
}

impl Drop for Membership {
    /// The thread ends, or its entry was given up.
    fn drop(&mut self) {
        for last in [&LAST, &LAST_READ] {
            if last.get().0 == self.id {
                last.set((0, 0));
            }
        }
        let life = self.life.take();
        if let Some(registry) = self.registry.upgrade()
            && !registry.is_forked()
            && let Some(heir) = registry.heir.get().and_then(Weak::upgrade)
        {
            // What fails here is done by the next reaper: the entry stays, its holder's life word soon says dead.
            let _ = registry.leave(self.index, life, &*heir);
        }
        // Otherwise the attachment is being closed by another thread, which left the entry lingering; dropping the life
        // word lets it go.
    }
}

/// Lets go of the life words of attachments that other threads closed: their entries linger until then, and a thread that
/// lives long and sees many attachments would use up all.
fn let_go_of_closed() {
    let closed: Vec<Membership> =
        MINE.with(|mine| mine.borrow_mut().extract_if(.., |one| one.is_closed()).collect());
    drop(closed);
}

impl Membership {
    fn is_closed(&self) -> bool {
        self.registry
            .upgrade()
            .is_none_or(|registry| registry.heir.get().is_none_or(|heir| heir.strong_count() == 0))
    }
}

impl Registry {
    /// The calling thread's entry.
    #[inline]
    pub(super) fn current_thread(&self) -> Result<u16> {
        let (id, index) = LAST.get();
        if id == self.id { Ok(index) } else { self.find_writer() }
    }

    #[cold]
    fn find_writer(&self) -> Result<u16> {
        let index = self.find_thread()?;
        // ORDER Relaxed: an estimate of how many threads may want room.
        self.thread_entry(index)?.u32::<{ field::WRITES }>().store(1, Ordering::Relaxed);
        LAST.set((self.id, index));
        Ok(index)
    }

    /// The calling thread's entry for counting what it reads, attached now if it is not yet; 0 where there is none to be had:
    /// reading goes on without.
    #[inline]
    pub fn reader(&self) -> Result<u16> {
        self.enter()?;
        let (id, index) = LAST.get();
        if id == self.id {
            return Ok(index);
        }
        let (id, index) = LAST_READ.get();
        Ok(if id == self.id { index } else { self.find_reader() })
    }

    #[cold]
    fn find_reader(&self) -> u16 {
        // ORDER Relaxed: a private hint: looking for an entry in a full table at each read would be slow.
        let rest = self.readers_rest.load(Ordering::Relaxed);
        if rest > 0 {
            self.readers_rest.store(rest - 1, Ordering::Relaxed);
            return 0;
        }
        let index = if self.process() == NOBODY { Ok(0) } else { self.find_thread() };
        let index = index.unwrap_or_else(|_| {
            self.readers_rest.store(READERS_REST, Ordering::Relaxed);
            0
        });
        LAST_READ.set((self.id, index));
        index
    }

    #[cold]
    fn find_thread(&self) -> Result<u16> {
        let known = MINE
            .try_with(|mine| mine.borrow().iter().find(|one| one.id == self.id).map(|one| one.index))
            .map_err(|_| Error::new(ErrorCode::Closed, "The calling thread is ending."))?;
        match known {
            Some(index) => Ok(index),
            None => self.attach_thread(),
        }
    }

    /// Whether the calling thread has an entry.
    pub fn has_attached(&self) -> bool {
        MINE.try_with(|mine| mine.borrow().iter().any(|one| one.id == self.id)).unwrap_or(false)
    }

    fn attach_thread(&self) -> Result<u16> {
        let process = self.process();
        if process == NOBODY {
            return Err(ErrorCode::ReadOnly.into());
        }
        let Some(heir) = self.heir.get().and_then(Weak::upgrade) else {
            return Err(ErrorCode::Closed.into());
        };
        let_go_of_closed();
        let mut index = self.claim_thread(process)?;
        if index.is_none() {
            self.reap(&*heir)?;
            index = self.claim_thread(process)?;
        }
        let Some(index) = index else {
            return Err(Error::new(
                ErrorCode::TooManyThreads,
                format!("All {} thread entries are taken.", self.thread_entries() - 1),
            ));
        };
        let life = match self.take_life(index) {
            Ok(life) => life,
            Err(error) => {
                self.leave(index, None, &*heir)?;
                return Err(error);
            }
        };
        MINE.with(|mine| {
            mine.borrow_mut().push(Membership { registry: self.weak(), id: self.id, index, life });
        });
        Ok(index)
    }

    /// Claims an entry for the calling thread and prepares it.
    pub(super) fn claim_thread(&self, process: u32) -> Result<Option<u16>> {
        for index in self.each_thread() {
            let entry = self.thread_entry(index)?;
            let word = entry.u64::<{ field::STATE }>();
            let seen = State::load(word);
            let usable = match seen.kind() {
                Some(Kind::Free) => true,
                Some(Kind::Lingering) => life::state(self.life_word(index)?) != Life::Held,
                _ => false,
            };
            if !usable {
                continue;
            }
            // ORDER Release [claimed-threads]: before anything is stored in the entry.
            self.claimed_threads()?.fetch_max(u64::from(index) + 1, Ordering::Release);
            let claimed = State::new(Kind::Attaching, process, seen.generation().wrapping_add(1));
            if !State::change(word, seen, claimed) {
                continue;
            }
            // DIES: an entry of a dead process that owns nothing.
            kill_point!("registry.thread.claimed");
            // ORDER Relaxed: ours; the state releases them.
            entry.u32::<{ field::HAS_LIFE }>().store(0, Ordering::Relaxed);
            entry.u32::<{ field::WRITES }>().store(0, Ordering::Relaxed);
            entry.span().zero(field::PINS as u64, field::STATE as u64)?;
            entry.u32::<{ field::TID }>().store(nix::unistd::gettid().as_raw() as u32, Ordering::Relaxed);
            entry.u64::<{ field::ATTACHED_MS }>().store(time::boot_ms(), Ordering::Relaxed);
            return Ok(Some(index));
        }
        Ok(None)
    }

    /// Locks the life word of our claimed entry and makes the entry live.
    pub(super) fn take_life(&self, index: u16) -> Result<Option<LifeWord>> {
        let (page, place) = self.life_place(index);
        self.segment.commit(page, PAGE)?;
        let life = match LifeWord::lock(self.segment.shm(), page, place) {
            Ok(life) => Some(life),
            Err(error) if error.code() == ErrorCode::Unsupported => None,
            Err(error) => return Err(error),
        };
        // DIES: the life word shows it, or the lock of the process.
        kill_point!("registry.thread.life_taken");
        let entry = self.thread_entry(index)?;
        // ORDER Relaxed: released by the state, with the locked word: nobody looks at either before the state is live.
        entry.u32::<{ field::HAS_LIFE }>().store(u32::from(life.is_some()), Ordering::Relaxed);
        let word = entry.u64::<{ field::STATE }>();
        let seen = State::load(word);
        let live = State::new(Kind::Live, self.process(), seen.generation());
        if seen.kind() != Some(Kind::Attaching)
            || seen.process() != self.process()
            || !State::change(word, seen, live)
        {
            return Err(Error::new(ErrorCode::Corrupt, format!("Thread entry {index} was taken from us.")));
        }
        kill_point!("registry.thread.live");
        Ok(life)
    }

    /// Gives up the calling thread's entry: everything it owns is taken over first, the life word is let go before the
    /// entry is free, so that its next holder is the only one who writes the word.
    fn leave(&self, index: u16, life: Option<LifeWord>, heir: &dyn Heir) -> Result<()> {
        if let Err(error) = heir.inherit(index) {
            // The word stays locked until the thread ends: then it shows that the entry is to be reaped.
            std::mem::forget(life);
            return Err(error);
        }
        kill_point!("registry.thread.inherited");
        let entry = self.thread_entry(index)?;
        let word = entry.u64::<{ field::STATE }>();
        let seen = State::load(word);
        entry.span().zero(field::PINS as u64, field::STATE as u64)?;
        drop(life);
        // DIES: a live entry with a free life word: the lock of the process decides.
        kill_point!("registry.thread.before_free");
        State::change(word, seen, seen.freed());
        kill_point!("registry.thread.freed");
        Ok(())
    }

    /// Gives up all entries of this process: those of other threads are left lingering, because only they can let go of
    /// their life words. No thread is inside a call any more.
    pub fn leave_all(&self, heir: &dyn Heir) -> Result<()> {
        if self.is_forked() || !self.has_entered() {
            return Ok(());
        }
        let mine = MINE
            .try_with(|mine| {
                let mut mine = mine.try_borrow_mut().ok()?;
                let place = mine.iter().position(|one| one.id == self.id)?;
                Some(mine.swap_remove(place))
            })
            .ok()
            .flatten();
        if let Some(mut membership) = mine {
            let life = membership.life.take();
            self.leave(membership.index, life, heir)?;
            membership.registry = Weak::new();
        }
        for index in self.each_thread() {
            let entry = self.thread_entry(index)?;
            let word = entry.u64::<{ field::STATE }>();
            let seen = State::load(word);
            if seen.process() == self.process() && seen.kind() == Some(Kind::Holder) {
                heir.inherit(index)?;
                self.free_holder(index)?;
            }
            if seen.process() != self.process() || !matches!(seen.kind(), Some(Kind::Live | Kind::Attaching))
            {
                continue;
            }
            // A reaper that is at the thread of ours because it died finishes it, or the one after.
            self.alone_at(index, || {
                if State::load(word) != seen {
                    return Ok(());
                }
                heir.inherit(index)?;
                entry.span().zero(field::PINS as u64, field::STATE as u64)?;
                // DIES: as a thread of a dead process.
                kill_point!("registry.leave.before_linger");
                State::change(word, seen, State::new(Kind::Lingering, 0, seen.generation()));
                Ok(())
            })?;
        }
        self.leave_process()
    }

    fn weak(&self) -> Weak<Registry> {
        self.me.get().cloned().unwrap_or_default()
    }

    /// The registry behind a shared pointer to itself, which thread-local storage holds weakly.
    pub fn shared(self) -> Arc<Registry> {
        let shared = Arc::new(self);
        let _ = shared.me.set(Arc::downgrade(&shared));
        shared
    }
}
