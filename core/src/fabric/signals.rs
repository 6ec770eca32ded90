//! Opening events, counters, locks and semaphores.

use std::sync::Arc;

use super::directory::{HEADER_BYTES, Object, ObjectKind, Plan};
use super::hosts::Undertaker;
use super::{Fabric, Inner};
use crate::error::{Error, ErrorCode, Result};
use crate::segment::home::check_name;
use crate::signal::{
    self, Area, LockState, NamedCounter, NamedEvent, NamedLock, NamedSemaphore, SemaphoreState, SignalKind,
};

/// What a signal is and how it stands: what listings show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignalState {
    /// Of an event: how often all were notified, and notifications for one that nobody took yet.
    Event {
        /// How often all were notified.
        sequence: u64,
        /// Notifications for one that nobody took yet.
        pending: u64,
    },
    /// Of a counter: its value.
    Counter(i64),
    /// Of a lock: who holds it.
    Lock(LockState),
    /// Of a semaphore: where its permits are.
    Semaphore(SemaphoreState),
}

fn article(kind: &str) -> String {
    if kind.starts_with('e') { format!("an {kind}") } else { format!("a {kind}") }
}

/// What kind of signal an object is.
pub(super) fn kind_of(object: &Object) -> Result<SignalKind> {
    SignalKind::from_number(object.options[0]).ok_or_else(|| {
        Error::new(
            ErrorCode::Corrupt,
            format!("`{}` is no kind of signal: {}.", object.name, object.options[0]),
        )
    })
}

impl Inner {
    /// The control area of a signal, for its users.
    fn signal(self: &Arc<Self>, object: &Object) -> Result<Arc<Area>> {
        let ground = Arc::clone(self) as Arc<dyn signal::Ground>;
        self.signal_area(object, ground).map(Arc::new)
    }

    /// The same, for whoever looks at it or takes over from the dead.
    pub(super) fn bare_signal(&self, object: &Object) -> Result<Area> {
        self.signal_area(object, Arc::new(Undertaker(Arc::clone(&self.registry), Arc::clone(&self.pool))))
    }

    fn signal_area(&self, object: &Object, ground: Arc<dyn signal::Ground>) -> Result<Area> {
        let kind = kind_of(object)?;
        let len = u64::from(object.chunks) * self.pool.geometry().chunk_bytes - HEADER_BYTES;
        let shm = Arc::clone(self.segment.shm());
        let area = Area::open(shm, ground, object.offset + HEADER_BYTES, len, &object.name)?;
        if area.kind == kind {
            return Ok(area);
        }
        Err(Error::new(
            ErrorCode::Corrupt,
            format!("`{}` is a {} and says that it is a {}.", object.name, kind.name(), area.kind.name()),
        ))
    }

    /// The signal of that name, made now if there is none.
    fn open_or_create_signal(
        self: &Arc<Self>,
        name: &str,
        kind: SignalKind,
        permits: u32,
    ) -> Result<Arc<Area>> {
        check_name(name)?;
        let threads = self.registry.thread_entries();
        let made = self.open_or_create_any(&Plan {
            kind: ObjectKind::Signal,
            name,
            options: [kind as u64, u64::from(permits), 0, 0, 0, 0, 0, 0],
            chunks: 1,
            lay_out: &|run, _| {
                let area = run.sub(HEADER_BYTES, run.len() - HEADER_BYTES)?;
                signal::create(area, kind, permits, threads)
            },
        });
        let object = match made {
            // The error then says which kind of signal was wanted.
            Err(error) if error.code() == ErrorCode::WrongKind => {
                self.directory.find(&self.pool, name)?.ok_or(error)?
            }
            made => made?,
        };
        self.signal_of_kind(&object, kind)
    }

    fn signal_of_kind(self: &Arc<Self>, object: &Object, kind: SignalKind) -> Result<Arc<Area>> {
        let is = match object.kind {
            ObjectKind::Signal => kind_of(object)?.name(),
            other => other.name(),
        };
        if is == kind.name() {
            return self.signal(object);
        }
        Err(Error::new(
            ErrorCode::WrongKind,
            format!("`{}` exists as {}, not as {}.", object.name, article(is), article(kind.name())),
        ))
    }
}

impl Fabric {
    /// Opens the event `name`, or makes it.
    pub fn event(&self, name: &str) -> Result<NamedEvent> {
        self.inner.open_or_create_signal(name, SignalKind::Event, 0).map(NamedEvent::from_area)
    }

    /// Opens the counter `name`, or makes it with the value 0.
    pub fn counter(&self, name: &str) -> Result<NamedCounter> {
        self.inner.open_or_create_signal(name, SignalKind::Counter, 0).map(NamedCounter::from_area)
    }

    /// Opens the lock `name`, or makes it.
    pub fn lock(&self, name: &str) -> Result<NamedLock> {
        self.inner.open_or_create_signal(name, SignalKind::Lock, 0).map(NamedLock::from_area)
    }

    /// Opens the semaphore `name`, or makes it with so many permits, 1 to 32,767. `WrongOptions` if it exists with another number.
    pub fn semaphore(&self, name: &str, permits: u32) -> Result<NamedSemaphore> {
        signal::check_permits(permits)?;
        let area = self.inner.open_or_create_signal(name, SignalKind::Semaphore, permits)?;
        if area.permits == permits {
            return Ok(NamedSemaphore::from_area(area));
        }
        Err(Error::new(
            ErrorCode::WrongOptions,
            format!("The semaphore `{name}` was made with {} permits, not with {permits}.", area.permits),
        ))
    }

    /// Opens the semaphore `name`, however it was made. `NotFound` if there is none.
    pub fn open_semaphore(&self, name: &str) -> Result<NamedSemaphore> {
        self.inner.registry.enter()?;
        match self.inner.directory.find(&self.inner.pool, name)? {
            Some(object) => {
                self.inner.signal_of_kind(&object, SignalKind::Semaphore).map(NamedSemaphore::from_area)
            }
            None => Err(Error::new(ErrorCode::NotFound, format!("There is no semaphore `{name}`."))),
        }
    }

    /// What the signal `name` is and how it stands. `NotFound` if there is none, `WrongKind` if it is no signal.
    pub fn signal_state(&self, name: &str) -> Result<SignalState> {
        self.inner.registry.enter()?;
        let object = match self.inner.directory.find(&self.inner.pool, name)? {
            Some(object) if object.kind == ObjectKind::Signal => object,
            Some(object) => {
                return Err(Error::new(
                    ErrorCode::WrongKind,
                    format!("`{name}` exists as a {}, not as a signal.", object.kind.name()),
                ));
            }
            None => return Err(Error::new(ErrorCode::NotFound, format!("There is no signal `{name}`."))),
        };
        let area = self.inner.signal(&object)?;
        Ok(match area.kind {
            SignalKind::Event => {
                let event = NamedEvent::from_area(area);
                SignalState::Event { sequence: event.sequence()?, pending: event.pending()? }
            }
            SignalKind::Counter => SignalState::Counter(NamedCounter::from_area(area).get()?),
            SignalKind::Lock => SignalState::Lock(NamedLock::from_area(area).state()?),
            SignalKind::Semaphore => SignalState::Semaphore(NamedSemaphore::from_area(area).state()?),
        })
    }
}

impl signal::Ground for Inner {
    fn thread(&self) -> Result<signal::layout::Owner> {
        let thread = self.registry.member()?.index;
        Ok(signal::layout::Owner { thread, generation: self.registry.generation(thread) })
    }

    fn usable(&self) -> Result<()> {
        self.registry.enter()
    }

    fn threads(&self) -> u16 {
        self.registry.thread_entries()
    }

    fn thread_is_dead(&self, thread: u16) -> bool {
        self.registry.is_dead(thread)
    }

    fn generation(&self, thread: u16) -> u32 {
        self.registry.generation(thread)
    }

    fn ids(&self, thread: u16) -> (u32, u32) {
        self.registry.ids(thread)
    }
}

impl signal::Ground for Undertaker {
    fn thread(&self) -> Result<signal::layout::Owner> {
        Err(ErrorCode::Internal.into())
    }

    fn usable(&self) -> Result<()> {
        Ok(())
    }

    fn threads(&self) -> u16 {
        self.0.thread_entries()
    }

    fn thread_is_dead(&self, thread: u16) -> bool {
        self.0.is_dead(thread)
    }

    fn generation(&self, thread: u16) -> u32 {
        self.0.generation(thread)
    }

    fn ids(&self, thread: u16) -> (u32, u32) {
        self.0.ids(thread)
    }
}
