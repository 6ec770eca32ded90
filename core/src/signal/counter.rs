//! Counters: a 64-bit number that all processes see.

use std::sync::Arc;
use std::time::Duration;

use super::area::Area;
use crate::error::Result;
use crate::shm::atomic::Ordering;

/// A named 64-bit number of a fabric. Signed; it wraps as the processor's own arithmetic does.
///
/// Every change is one atomic instruction: it took place as a whole or not at all, whoever dies. No system call if nobody waits.
#[derive(Clone)]
pub struct NamedCounter {
    area: Arc<Area>,
}

impl NamedCounter {
    pub(crate) fn from_area(area: Arc<Area>) -> NamedCounter {
        NamedCounter { area }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.area.name
    }

    /// Its value.
    pub fn get(&self) -> Result<i64> {
        self.area.ground.usable()?;
        Ok(self.load())
    }

    fn load(&self) -> i64 {
        // ORDER Acquire [counter]: what whoever changed it did before.
        self.area.word().load(Ordering::Acquire) as i64
    }

    /// Adds `delta`, which may be negative. Returns the new value.
    pub fn add(&self, delta: i64) -> Result<i64> {
        self.change(|| {
            // ORDER AcqRel [counter]: hands over what was done before; takes over what others did.
            let before = self.area.word().fetch_add(delta as u64, Ordering::AcqRel) as i64;
            (before.wrapping_add(delta), true)
        })
    }

    /// Sets the value. Returns the one before.
    pub fn set(&self, value: i64) -> Result<i64> {
        // ORDER AcqRel [counter]: as in `add`.
        self.change(|| (self.area.word().swap(value as u64, Ordering::AcqRel) as i64, true))
    }

    /// Sets the value to `new` if it is `expected`. Returns what it was: it was set if and only if that is `expected`.
    pub fn compare_and_swap(&self, expected: i64, new: i64) -> Result<i64> {
        self.change(|| {
            // ORDER AcqRel [counter]: as in `add`.
            let done = self.area.word().compare_exchange(
                expected as u64,
                new as u64,
                Ordering::AcqRel,
                Ordering::Acquire,
            );
            match done {
                Ok(before) => (before as i64, true),
                Err(before) => (before as i64, false),
            }
        })
    }

    fn change(&self, change: impl FnOnce() -> (i64, bool)) -> Result<i64> {
        self.area.writable()?;
        kill_point!("signal.counter.before_change");
        let (value, changed) = change();
        // DIES AFTER: sleepers see it at the end of their slice.
        kill_point!("signal.counter.changed");
        if changed {
            self.area.waiters().notify();
        }
        Ok(value)
    }

    /// Waits until the value is `least` or more. Returns the value. `TimedOut` if it did not come so far; a value that came and
    /// went between two looks may be missed.
    pub fn wait_at_least(&self, least: i64, timeout: Option<Duration>) -> Result<i64> {
        self.wait_until(timeout, |value| value >= least)
    }

    /// Waits until the value is another than `seen`. Returns the value. `TimedOut` if it stayed; a value that changed and came back
    /// between two looks may be missed.
    pub fn wait_changed(&self, seen: i64, timeout: Option<Duration>) -> Result<i64> {
        self.wait_until(timeout, |value| value != seen)
    }

    fn wait_until(&self, timeout: Option<Duration>, good: impl Fn(i64) -> bool) -> Result<i64> {
        self.area.writable()?;
        self.area.wait_for(timeout, |_| Ok(Some(self.load()).filter(|value| good(*value))))
    }
}
