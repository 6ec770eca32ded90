//! Group commit: whoever needs something durable waits for a flush that began after it, or leads that flush itself.
//!
//! A writer publishes, then reads `epoch` = s. A flush numbered s+1 or higher draws its number after that read, so it
//! sees what the writer published: the store and the load of the writer, and the increment and the scan of the leader,
//! have a full fence between them on both sides. So the writer is served when `durable` > s. All who arrive while a flush
//! is under way are served together by the next one, which the first of them to come leads: one sync for many.

use std::time::{Duration, Instant};

use super::append::{Batches, Journal};
use super::control::{Control, Health};
use super::leader::claim;
use crate::error::{Error, ErrorCode, Result};
use crate::shm::atomic::{Ordering, fence};
use crate::shm::futex;

/// A sleeper looks this often whether its leader died.
const SLICE: Duration = Duration::from_millis(5);

/// What is flushed, and what is done once it is durable.
pub trait Source {
    /// What one flush remembers between the two calls.
    type Taken;
    /// Pushes the present state of everything that changed. The flush's number was drawn before.
    fn collect(&self, batches: &mut Batches<'_>) -> Result<Self::Taken>;
    /// Remembers that what was collected is durable. Called behind a sync and a proof of leadership that came after it.
    fn settle(&self, taken: Self::Taken) -> Result<()>;
}

/// The calling thread, and who is dead.
pub struct Caller<'a> {
    /// Index of the calling thread.
    pub me: u16,
    /// Whether the kernel proves a thread dead.
    pub is_dead: &'a dyn Fn(u16) -> bool,
}

impl Journal {
    /// The number that `durable` must exceed for everything published so far, by anybody, to be durable.
    pub fn ticket(&self, control: Control<'_>) -> u64 {
        // ORDER SeqCst [journal-epoch]: full fence between what this thread published or read and the load of the number;
        // pairs with the fence in `flush`.
        fence(Ordering::SeqCst);
        control.epoch().load(Ordering::SeqCst)
    }

    /// Waits until `durable` exceeds `ticket`, leading a flush whenever nobody else does.
    ///
    /// Bounded by `patience`: then `TimedOut`, and the data stays published and will be flushed later.
    pub fn wait<S: Source>(
        &self,
        control: Control<'_>,
        caller: &Caller<'_>,
        source: &S,
        ticket: u64,
        patience: Duration,
    ) -> Result<()> {
        let start = Instant::now();
        loop {
            // The event is read before the condition: a change between the two ends the sleep at once.
            let event = control.event().load(Ordering::Acquire);
            // ORDER Acquire [journal-durable]: the files hold what the number says.
            if control.durable().load(Ordering::Acquire) > ticket {
                return Ok(());
            }
            if control.health() == Health::Poisoned {
                return Err(ErrorCode::Poisoned.into());
            }
            match self.flush_if_free(control, caller, source) {
                Ok(true) => {
                    // Served others as well: wake-ups were sent by the flush. The loop looks again.
                    if start.elapsed() > patience && control.durable().load(Ordering::Acquire) <= ticket {
                        return Err(timed_out());
                    }
                    continue;
                }
                Ok(false) => {}
                // Deposed: somebody else leads now.
                Err(error) if error.code() == ErrorCode::Busy => {}
                Err(error) => return Err(error),
            }
            if start.elapsed() > patience {
                return Err(timed_out());
            }
            futex::wait(control.event(), event, SLICE);
        }
    }

    /// Leads one flush if nobody leads. False: somebody does.
    pub fn flush_if_free<S: Source>(
        &self,
        control: Control<'_>,
        caller: &Caller<'_>,
        source: &S,
    ) -> Result<bool> {
        if control.health() == Health::Poisoned {
            return Err(ErrorCode::Poisoned.into());
        }
        self.watch.progress(control.durable().load(Ordering::Acquire));
        let Some(reign) = claim(control.leader(), caller.me, caller.is_dead, &self.watch, false)? else {
            return Ok(false);
        };
        kill_point!("journal.lead.claimed");
        let result = self.flush(control, &reign, source);
        kill_point!("journal.lead.before_release");
        drop(reign);
        // One of those who came while this flush was under way leads the next.
        control.event().fetch_add(1, Ordering::AcqRel);
        futex::wake(control.event(), u32::MAX);
        kill_point!("journal.lead.released");
        result.map(|()| true)
    }

    /// One flush, led by this thread.
    pub(super) fn flush<S: Source>(
        &self,
        control: Control<'_>,
        reign: &super::leader::Reign<'_>,
        source: &S,
    ) -> Result<()> {
        let epoch = control.draw_epoch()?;
        fence(Ordering::SeqCst);
        kill_point!("journal.epoch.drawn");
        let outcome = (|| {
            let mut batches = self.begin(control, reign, epoch);
            let taken = source.collect(&mut batches)?;
            batches.seal()?;
            kill_point!("journal.flush.before_settle");
            source.settle(taken)?;
            kill_point!("journal.flush.settled");
            control.advance_durable(epoch);
            kill_point!("journal.durable.moved");
            Ok(())
        })();
        // Room is made behind the flush, so that the next write is refused before it changes anything, not after.
        let outcome = outcome.and_then(|()| self.ensure_room(control, reign));
        // A leader that was deposed meanwhile may have found its files gone: that says nothing about the disk.
        let outcome = outcome.map_err(|error| {
            if reign.holds() || error.code() == ErrorCode::Poisoned {
                error
            } else {
                super::append::deposed()
            }
        });
        match &outcome {
            Ok(()) => control.set_health(Health::Well),
            Err(error) => match error.code() {
                ErrorCode::NoSpace => control.set_health(Health::NoSpace),
                ErrorCode::Busy | ErrorCode::Poisoned | ErrorCode::Forked | ErrorCode::Corrupt => {}
                _ => control.set_health(Health::CannotWrite),
            },
        }
        // A flush that is done and durable succeeded, even where there is no room for the next.
        match outcome {
            Err(_) if control.durable().load(Ordering::Acquire) >= epoch => Ok(()),
            other => other,
        }
    }

    /// Leads without flushing: for opening and for the cut of a checkpoint. `act` is called again if this thread was deposed
    /// meanwhile. `TimedOut` if another leader keeps moving.
    pub fn lead<'a, T>(
        &self,
        control: Control<'a>,
        caller: &Caller<'_>,
        patience: Duration,
        mut act: impl FnMut(&super::leader::Reign<'a>) -> Result<T>,
    ) -> Result<T> {
        let start = Instant::now();
        loop {
            let event = control.event().load(Ordering::Acquire);
            if let Some(reign) = claim(control.leader(), caller.me, caller.is_dead, &self.watch, false)? {
                let result =
                    act(&reign).map_err(|error| if reign.holds() { error } else { super::append::deposed() });
                drop(reign);
                control.event().fetch_add(1, Ordering::AcqRel);
                futex::wake(control.event(), u32::MAX);
                match result {
                    // Stopped for too long and deposed: once more, in a new term.
                    Err(error) if error.code() == ErrorCode::Busy && start.elapsed() <= patience => continue,
                    other => return other,
                }
            }
            if start.elapsed() > patience {
                return Err(timed_out());
            }
            futex::wait(control.event(), event, SLICE);
        }
    }
}

fn timed_out() -> Error {
    Error::new(
        ErrorCode::TimedOut,
        "The flush took too long: the change is visible and will be flushed, but is not durable yet.",
    )
}
