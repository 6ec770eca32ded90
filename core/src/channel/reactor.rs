//! A thread that sleeps for those who cannot sleep themselves: event loops and tasks.
//!
//! Whoever waits leaves what it waits for, and how it is to be called. The thread announces a sleeper in the wait words of all,
//! looks at all of them, calls those who have something, and sleeps until a word changes or somebody else comes. Who was called
//! is forgotten: it comes again when it has taken what was there. With nobody waiting the thread sleeps for good.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::task::Waker;
use std::time::Duration;

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::watch::{Seen, Target, WaitSet, Waitable, sleep, targets_of};
use crate::error::{Error, Result};
use crate::limits::WAIT_SLICE_MS;
use crate::shm::atomic::{AtomicU32, Ordering};
use crate::shm::fork::Origin;
use crate::shm::futex;

/// How somebody is called who waits.
pub(super) enum Call {
    /// A count is added to the descriptor.
    Descriptor(Arc<EventFd>),
    /// A task.
    Task(Waker),
}

impl Call {
    fn call(self) {
        match self {
            // Full means that it is readable already.
            Call::Descriptor(descriptor) => drop(descriptor.write(1)),
            Call::Task(waker) => waker.wake(),
        }
    }
}

struct Waiting {
    id: u64,
    targets: Vec<Target>,
    call: Call,
}

#[derive(Default)]
struct State {
    waiting: Vec<Waiting>,
    next_id: u64,
    running: bool,
    ended: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    come: Condvar,
    /// Changes when somebody comes, or the thread shall end: it sleeps on this word too.
    bell: AtomicU32,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn ring(&self) {
        // ORDER Release [bell]: behind the change of the state, which is under the lock anyway.
        self.bell.fetch_add(1, Ordering::Release);
        futex::wake(&self.bell, 1);
        self.come.notify_one();
    }

    fn run(&self) {
        loop {
            // ORDER Acquire [bell]: before the look at the state: who comes later changes the word.
            let seen = self.bell.load(Ordering::Acquire);
            let state = self.lock();
            let state = self
                .come
                .wait_while(state, |state| !state.ended && state.waiting.is_empty())
                .unwrap_or_else(|poisoned| poisoned.into_inner());
            if state.ended {
                return;
            }
            let targets: Vec<(u64, Target)> = state
                .waiting
                .iter()
                .flat_map(|one| one.targets.iter().map(|target| (one.id, target.clone())))
                .collect();
            drop(state);
            let armed: Vec<_> = targets.iter().map(|(_, target)| target.word().arm()).collect();
            // An error is for whoever waits to meet.
            let ready: Vec<u64> = targets
                .iter()
                .filter(|(_, target)| target.look() != Ok(Seen::Nothing))
                .map(|(id, _)| *id)
                .collect();
            if ready.is_empty() {
                let targets: Vec<_> = targets.into_iter().map(|(_, target)| target).collect();
                sleep(&targets, &armed, Some((&self.bell, seen)), Duration::from_millis(WAIT_SLICE_MS));
                continue;
            }
            let called: Vec<_> = self.lock().waiting.extract_if(.., |one| ready.contains(&one.id)).collect();
            called.into_iter().for_each(|one| one.call.call());
        }
    }
}

/// The thread, which begins with the first who waits and ends with this.
pub(super) struct Reactor {
    shared: Arc<Shared>,
    origin: Origin,
}

impl Default for Reactor {
    fn default() -> Reactor {
        Reactor { shared: Arc::default(), origin: Origin::here() }
    }
}

impl Reactor {
    /// Calls once when one of the targets has something. The answer names it for [`Reactor::forget`].
    pub fn wait(&self, targets: Vec<Target>, call: Call) -> Result<u64> {
        let mut state = self.shared.lock();
        if !state.running {
            let shared = Arc::clone(&self.shared);
            std::thread::Builder::new()
                .name("memora-waits".to_owned())
                .spawn(move || shared.run())
                .map_err(|error| Error::io("starting a thread", "that waits for channels", &error))?;
            state.running = true;
        }
        let id = state.next_id;
        state.next_id += 1;
        state.waiting.push(Waiting { id, targets, call });
        drop(state);
        self.shared.ring();
        Ok(id)
    }

    /// Nobody is to be called any more. How it was to be called if it was not yet.
    pub fn forget(&self, id: u64) {
        // In a forked child there is no thread, and its lock may be held for ever.
        if !self.origin.is_here() {
            return;
        }
        let gone: Vec<_> = self.shared.lock().waiting.extract_if(.., |one| one.id == id).collect();
        drop(gone);
    }
}

impl Drop for Reactor {
    fn drop(&mut self) {
        if self.origin.is_here() {
            self.shared.lock().ended = true;
            self.shared.ring();
        }
    }
}

/// A file descriptor that is readable when one of several channels has something: for `poll`, `epoll`, mio, tokio's `AsyncFd`.
///
/// [`Readiness::arm`] says what is waited for. When the descriptor becomes readable, take the messages until there are none, and
/// arm it again. It never blocks; reading it is not needed. A thread of the library sleeps in place of the loop, only while it is armed;
/// a publisher makes no system call unless that thread sleeps.
pub struct Readiness {
    descriptor: Arc<EventFd>,
    reactor: Reactor,
    armed: Option<u64>,
}

impl Readiness {
    /// A descriptor that is not readable.
    pub fn new() -> Result<Readiness> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let descriptor = EventFd::from_value_and_flags(0, flags)
            .map_err(|errno| Error::io("eventfd", "for waiting", &errno.into()))?;
        Ok(Readiness { descriptor: Arc::new(descriptor), reactor: Reactor::default(), armed: None })
    }

    /// From now on the descriptor is not readable until one of `sources` has a message, or an error to tell; it is at once if one
    /// has already. What was armed before counts no more. Up to 127 sources, of any fabrics; what they handed out last counts as
    /// handled.
    ///
    /// It may become readable although nothing is there: others may have taken the message of a queue, or time was to be looked at.
    pub fn arm(&mut self, sources: &mut [&mut dyn Waitable]) -> Result<()> {
        self.arm_targets(targets_of(sources)?)
    }

    /// As [`Readiness::arm`], for sources that cannot be held at once.
    pub fn arm_set(&mut self, sources: &WaitSet) -> Result<()> {
        self.arm_targets(sources.targets()?)
    }

    fn arm_targets(&mut self, targets: Vec<Target>) -> Result<()> {
        if let Some(armed) = self.armed.take() {
            self.reactor.forget(armed);
        }
        // Empty means that it was not readable.
        let _ = self.descriptor.read();
        for target in &targets {
            if target.look()? == Seen::Something {
                return self.ring();
            }
        }
        self.armed = Some(self.reactor.wait(targets, Call::Descriptor(Arc::clone(&self.descriptor)))?);
        Ok(())
    }

    /// Makes the descriptor readable.
    pub fn ring(&self) -> Result<()> {
        let rung = self.descriptor.write(1).map(|_| ());
        rung.map_err(|errno| Error::io("writing to", "an eventfd", &errno.into()))
    }
}

impl AsFd for Readiness {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl AsRawFd for Readiness {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.descriptor.as_fd().as_raw_fd()
    }
}
