//! Locks: one owner at a time, also when owners die.
//!
//! The word names the owner: its thread entry and the generation of that entry, which no other thread ever has. Whoever wants the
//! lock and finds a dead owner in it takes it by one compare-and-swap, which fails unless the same dead owner still stands there. The
//! dead one stores nothing more, so that exchange can never meet a lock that somebody alive holds.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use super::area::Area;
use super::layout::{LockWord, Owner};
use crate::error::{Error, ErrorCode, Result};

/// Tries of one look: each failed one is another thread's success.
const ROUNDS: u32 = 100;

/// A named lock of a fabric. Its owner is a thread; it passes on when the owner dies, and the next owner is told.
#[derive(Clone)]
pub struct NamedLock {
    area: Arc<Area>,
}

/// Who holds a lock, as others see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockState {
    /// The owner's process and thread ids, 0 where they are not known; none if the lock is free.
    pub owner: Option<(u32, u32)>,
    /// Whether an owner died and nobody said since that what the lock guards is whole.
    pub owner_died: bool,
}

impl NamedLock {
    pub(crate) fn from_area(area: Arc<Area>) -> NamedLock {
        NamedLock { area }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.area.name
    }

    /// Locks it, waiting as long as it takes. `WouldDeadlock` if the calling thread holds it already.
    pub fn lock(&self) -> Result<LockGuard> {
        self.lock_within(None)
    }

    /// Locks it, waiting this long at most: `TimedOut`. A stopped owner keeps the lock.
    pub fn lock_timeout(&self, timeout: Duration) -> Result<LockGuard> {
        self.lock_within(Some(timeout))
    }

    fn lock_within(&self, timeout: Option<Duration>) -> Result<LockGuard> {
        let me = self.area.ground.thread()?;
        self.area.wait_for(timeout, |last| try_take(&self.area, me, last))?;
        Ok(self.guard(me))
    }

    /// Locks it if it is free, or its owner dead; `None` if somebody alive, or stopped, holds it. `WouldDeadlock` if the calling
    /// thread does.
    pub fn try_lock(&self) -> Result<Option<LockGuard>> {
        let me = self.area.ground.thread()?;
        Ok(try_take(&self.area, me, true)?.map(|_| self.guard(me)))
    }

    /// The guard of a lock that the calling thread holds without one since [`LockGuard::keep`]. `NotOwner` if the thread does not
    /// hold the lock.
    pub fn held(&self) -> Result<LockGuard> {
        let me = self.area.ground.thread()?;
        own(&self.area, me)?;
        Ok(self.guard(me))
    }

    /// Who holds it now.
    pub fn state(&self) -> Result<LockState> {
        self.area.ground.usable()?;
        state(&self.area)
    }

    fn guard(&self, me: Owner) -> LockGuard {
        LockGuard { area: Arc::clone(&self.area), me, held: true, thread_bound: PhantomData }
    }
}

pub(super) fn state(area: &Area) -> Result<LockState> {
    let word = area.lock_word()?;
    Ok(LockState {
        owner: word.owner().map(|owner| area.ground.ids(owner.thread)),
        owner_died: word.died() || word.owner().is_some_and(|owner| area.is_gone(owner)),
    })
}

/// The calling thread holds the lock until this is dropped. It cannot be sent to another thread: the lock is this thread's.
#[must_use = "the lock is let go when this is dropped"]
pub struct LockGuard {
    area: Arc<Area>,
    me: Owner,
    held: bool,
    thread_bound: PhantomData<*const ()>,
}

impl LockGuard {
    /// Whether an owner died while it held the lock, and nobody called [`LockGuard::mark_consistent`] since: what the lock guards
    /// may be half done. The next owners are told, too, until somebody says that it is whole.
    pub fn owner_died(&self) -> Result<bool> {
        self.area.same_process()?;
        own(&self.area, self.me).map(LockWord::died)
    }

    /// Says that what the lock guards is whole again.
    pub fn mark_consistent(&mut self) -> Result<()> {
        self.area.same_process()?;
        let word = own(&self.area, self.me)?;
        kill_point!("signal.lock.before_consistent");
        if !self.area.change_lock(word, LockWord::held(self.me, false)) {
            return Err(not_ours(&self.area));
        }
        kill_point!("signal.lock.consistent");
        Ok(())
    }

    /// Lets go of the lock. An error if the lock's word is damaged.
    pub fn unlock(mut self) -> Result<()> {
        self.let_go()
    }

    /// Keeps the lock without a guard: until [`NamedLock::held`] gives another one, or the thread ends, which is a death.
    pub fn keep(mut self) {
        self.held = false;
    }

    fn let_go(&mut self) -> Result<()> {
        self.area.same_process()?;
        if std::mem::take(&mut self.held) { let_go(&self.area, self.me) } else { Ok(()) }
    }
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        // In a forked child the lock is the parent's. Damage is told by the next call on the lock.
        let _ = self.let_go();
    }
}

fn not_ours(area: &Area) -> Error {
    area.damaged("the lock was taken from its living owner".to_owned())
}

/// The lock's word, which says that `me` holds it.
fn own(area: &Area, me: Owner) -> Result<LockWord> {
    let word = area.lock_word()?;
    if word.owner() == Some(me) {
        return Ok(word);
    }
    Err(Error::new(
        ErrorCode::NotOwner,
        format!("The calling thread does not hold the lock `{}`.", area.name),
    ))
}

/// One look at the lock: takes it if it is free, or, with `last`, if its owner is dead.
pub(super) fn try_take(area: &Area, me: Owner, last: bool) -> Result<Option<LockWord>> {
    for _ in 0..ROUNDS {
        let seen = area.lock_word()?;
        let mine = match seen.owner() {
            None => LockWord::held(me, seen.died()),
            Some(owner) if owner == me => {
                return Err(Error::new(
                    ErrorCode::WouldDeadlock,
                    format!("The calling thread holds the lock `{}` already.", area.name),
                ));
            }
            Some(owner) if last && area.is_gone(owner) => LockWord::held(me, true),
            Some(_) => return Ok(None),
        };
        kill_point!("signal.lock.before_take");
        if area.change_lock(seen, mine) {
            // DIES AFTER: as any owner that died.
            kill_point!("signal.lock.taken");
            return Ok(Some(mine));
        }
    }
    Ok(None)
}

/// The owner lets go.
pub(super) fn let_go(area: &Area, me: Owner) -> Result<()> {
    let word = own(area, me)?;
    kill_point!("signal.lock.before_free");
    if !area.change_lock(word, LockWord::free(word.died())) {
        return Err(not_ours(area));
    }
    // DIES AFTER: sleepers see it at the end of their slice.
    kill_point!("signal.lock.freed");
    area.waiters().notify();
    Ok(())
}

/// The thread is dead or leaves: the lock is free, and the next owner is told. True if it was the thread's.
pub(super) fn inherit(area: &Area, thread: u16) -> Result<bool> {
    // A word that cannot be is nobody's: it must not keep every thread's entry from being free. Whoever uses the lock is told.
    let Ok(seen) = area.lock_word() else { return Ok(false) };
    if seen.owner().is_none_or(|owner| owner.thread != thread) {
        return Ok(false);
    }
    kill_point!("signal.inherit.before_free");
    // Who wanted the lock may have found the dead owner first.
    let freed = area.change_lock(seen, LockWord::free(true));
    kill_point!("signal.inherit.freed");
    Ok(freed)
}
