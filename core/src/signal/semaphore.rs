//! Semaphores: a number of permits, each held by nobody or by one thread.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use super::area::Area;
use super::layout::{MoveKind, Owner};
use super::permits::{self, Taken};
use crate::error::{Error, ErrorCode, Result};

/// A named semaphore of a fabric. Permits are held by threads; those of a thread that dies come back, and the next who takes
/// permits is told.
///
/// There is no queue: who asks for few permits may be served before who asks for many and came first.
#[derive(Clone)]
pub struct NamedSemaphore {
    area: Arc<Area>,
}

/// Where the permits of a semaphore are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SemaphoreState {
    /// All permits.
    pub permits: u32,
    /// Those that nobody holds.
    pub free: u32,
    /// Who holds permits: process and thread ids, 0 where they are not known, and how many.
    pub holders: Vec<((u32, u32), u32)>,
}

impl NamedSemaphore {
    pub(crate) fn from_area(area: Arc<Area>) -> NamedSemaphore {
        NamedSemaphore { area }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.area.name
    }

    /// All permits: what it was made with.
    pub fn permits(&self) -> u32 {
        self.area.permits
    }

    /// Takes `count` permits at once, waiting as long as it takes. `WouldDeadlock` if there could only be enough once the calling
    /// thread gives back what it holds itself.
    pub fn acquire(&self, count: u32) -> Result<Permits> {
        self.acquire_within(count, None)
    }

    /// As [`NamedSemaphore::acquire`], waiting this long at most: `TimedOut`. Permits of a stopped thread stay its own.
    pub fn acquire_timeout(&self, count: u32, timeout: Duration) -> Result<Permits> {
        self.acquire_within(count, Some(timeout))
    }

    fn acquire_within(&self, count: u32, timeout: Option<Duration>) -> Result<Permits> {
        let me = self.enter(count)?;
        let owner_died = self.area.wait_for(timeout, |last| try_take(&self.area, me, count, last))?;
        Ok(self.guard(me, count, owner_died))
    }

    /// Takes `count` permits if there are so many now; `None` if others, alive or stopped, hold too many.
    pub fn try_acquire(&self, count: u32) -> Result<Option<Permits>> {
        let me = self.enter(count)?;
        let taken = try_take(&self.area, me, count, true)?;
        Ok(taken.map(|owner_died| self.guard(me, count, owner_died)))
    }

    /// The guard of permits that the calling thread holds without one since [`Permits::keep`]. `NotOwner` if the thread does not
    /// hold so many.
    pub fn held(&self, count: u32) -> Result<Permits> {
        let me = self.area.ground.thread()?.thread;
        let held = self.area.permits_of(me)?.held();
        if count == 0 || held < count {
            return Err(permits::too_many(&self.area, held, count));
        }
        Ok(self.guard(me, count, false))
    }

    /// Where the permits are now. Only a look: they move on meanwhile.
    pub fn state(&self) -> Result<SemaphoreState> {
        self.area.ground.usable()?;
        state(&self.area)
    }

    /// The calling thread, which may ask for so many.
    fn enter(&self, count: u32) -> Result<u16> {
        if count == 0 || count > self.area.permits {
            return Err(Error::new(
                ErrorCode::InvalidArgument,
                format!(
                    "{count} permits of the semaphore `{}`, which has {}.",
                    self.area.name, self.area.permits
                ),
            ));
        }
        let me = self.area.ground.thread()?.thread;
        let held = self.area.permits_of(me)?.held();
        if held + count > self.area.permits {
            return Err(Error::new(
                ErrorCode::WouldDeadlock,
                format!(
                    "The calling thread holds {held} of the {} permits of `{}` and asks for {count} more.",
                    self.area.permits, self.area.name
                ),
            ));
        }
        Ok(me)
    }

    fn guard(&self, me: u16, count: u32, owner_died: bool) -> Permits {
        let me = Owner { thread: me, generation: self.area.ground.generation(me) };
        Permits { area: Arc::clone(&self.area), me, count, owner_died, thread_bound: PhantomData }
    }
}

/// One look: takes the permits if there are enough; with `last` also those of the dead.
pub(super) fn try_take(area: &Area, me: u16, count: u32, last: bool) -> Result<Option<bool>> {
    let mut taken = permits::take(area, me, count)?;
    if taken == Taken::TooFew && last && permits::inherit_dead(area)? {
        taken = permits::take(area, me, count)?;
    }
    match taken {
        Taken::Now { owner_died } => Ok(Some(owner_died)),
        Taken::TooFew => Ok(None),
    }
}

pub(super) fn state(area: &Area) -> Result<SemaphoreState> {
    let mut state = SemaphoreState { permits: area.permits, free: area.pool()?.free(), holders: Vec::new() };
    for thread in 1..area.threads {
        let cell = area.permits_of(thread)?;
        if cell.held() > 0 && cell.kind() != MoveKind::Return {
            state.holders.push((area.ground.ids(thread), cell.held()));
        }
    }
    Ok(state)
}

/// Permits that the calling thread holds until this is dropped. They cannot be sent to another thread: they are this thread's.
#[must_use = "the permits are given back when this is dropped"]
pub struct Permits {
    area: Arc<Area>,
    /// Whose they are: a guard that outlives its thread's entry, in thread-local storage, has nothing to give back.
    me: Owner,
    count: u32,
    owner_died: bool,
    thread_bound: PhantomData<*const ()>,
}

impl Permits {
    /// How many.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Whether permits of a thread that died came back, and this is the first to take permits since: what it did under them may
    /// be half done. Nobody else is told.
    pub fn owner_died(&self) -> bool {
        self.owner_died
    }

    /// Gives them back. An error if the semaphore is damaged.
    pub fn release(mut self) -> Result<()> {
        self.let_go()
    }

    /// Keeps them without a guard: until [`NamedSemaphore::held`] gives another one, or the thread ends, which is a death.
    pub fn keep(mut self) {
        self.count = 0;
    }

    fn let_go(&mut self) -> Result<()> {
        self.area.same_process()?;
        match std::mem::take(&mut self.count) {
            0 => Ok(()),
            _ if self.area.ground.generation(self.me.thread) != self.me.generation => {
                Err(ErrorCode::NotOwner.into())
            }
            count => permits::give(&self.area, self.me.thread, count),
        }
    }
}

impl Drop for Permits {
    fn drop(&mut self) {
        // In a forked child the permits are the parent's. Damage is told by the next call on the semaphore.
        let _ = self.let_go();
    }
}
