//! Events: notifications for all who wait, or for one.

use std::sync::Arc;
use std::time::Duration;

use super::area::Area;
use crate::error::Result;
use crate::shm::atomic::Ordering;

/// Looks at the notifications for one before a wait goes on: each failed one is another thread's success.
const ROUNDS: u32 = 10_000;

/// Why a wait for an event ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notified {
    /// All were notified; the sequence is this now.
    All(u64),
    /// One was notified: this one.
    One,
}

/// A named event of a fabric.
///
/// It remembers how often all were notified (its *sequence*), and the notifications for one that nobody took yet. Whoever looks at the sequence,
/// then at its own condition, and then waits with the sequence that it saw, misses nothing that came in between.
#[derive(Clone)]
pub struct NamedEvent {
    area: Arc<Area>,
}

impl NamedEvent {
    pub(crate) fn from_area(area: Arc<Area>) -> NamedEvent {
        NamedEvent { area }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.area.name
    }

    /// How often all were notified. What to give to the next [`NamedEvent::wait`].
    pub fn sequence(&self) -> Result<u64> {
        self.area.ground.usable()?;
        // ORDER Acquire [event]: what whoever notified did before.
        Ok(self.area.word().load(Ordering::Acquire))
    }

    /// Notifications for one that no wait took yet.
    pub fn pending(&self) -> Result<u64> {
        self.area.ground.usable()?;
        // ORDER Relaxed: a figure.
        Ok(self.area.ones().load(Ordering::Relaxed))
    }

    /// Notifies all: every wait that knows an older sequence ends, those that begin later included. Returns the new sequence. No
    /// system call if nobody sleeps.
    pub fn notify_all(&self) -> Result<u64> {
        self.area.writable()?;
        kill_point!("signal.notify.before_all");
        // ORDER Release [event]: what was done before is seen by whoever sees the sequence.
        let sequence = self.area.word().fetch_add(1, Ordering::Release).wrapping_add(1);
        // DIES AFTER: sleepers see it at the end of their slice.
        kill_point!("signal.notify.all");
        self.area.waiters().notify();
        Ok(sequence)
    }

    /// Notifies one: exactly one wait ends by this, one that lasts or else the next that begins. It is kept until then. No system
    /// call if nobody sleeps.
    pub fn notify_one(&self) -> Result<()> {
        self.area.writable()?;
        kill_point!("signal.notify.before_one");
        // ORDER Release [event]: what was done before is seen by whoever takes it.
        self.area.ones().fetch_add(1, Ordering::Release);
        // DIES AFTER: sleepers see it at the end of their slice.
        kill_point!("signal.notify.one");
        self.area.waiters().notify();
        Ok(())
    }

    /// Waits until the sequence is greater than `seen`, or there is a notification for one, which this wait then has taken: nobody
    /// else gets it, also if the caller dies before it acts on it. The sequence comes first. `TimedOut` otherwise, never anything
    /// else: a wait that ends was notified. `None` waits without a limit; a time of zero only looks.
    pub fn wait(&self, seen: u64, timeout: Option<Duration>) -> Result<Notified> {
        self.area.writable()?;
        self.area.wait_for(timeout, |_| Ok(look(&self.area, seen)))
    }
}

/// One look: what a wait that knows `seen` has been notified of.
pub(super) fn look(area: &Area, seen: u64) -> Option<Notified> {
    // ORDER Acquire [event]: what whoever notified did before.
    let sequence = area.word().load(Ordering::Acquire);
    if sequence > seen {
        return Some(Notified::All(sequence));
    }
    let ones = area.ones();
    // ORDER Relaxed: the exchange orders it.
    let mut left = ones.load(Ordering::Relaxed);
    for _ in 0..ROUNDS {
        if left == 0 {
            return None;
        }
        kill_point!("signal.notified.before_take");
        // ORDER Acquire [event]: what whoever notified did before.
        match ones.compare_exchange(left, left - 1, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => {
                // DIES AFTER: the notification went to the dead.
                kill_point!("signal.notified.taken");
                return Some(Notified::One);
            }
            Err(other) => left = other,
        }
    }
    None
}
