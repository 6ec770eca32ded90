//! Telling what changes, for whoever wants to hear it.
//!
//! A change takes effect first and is told then, by the thread that made it: who hears of a change finds it done. A thread
//! that is killed between the two has not told its last change, nor what left the cache for it, and told all before it. Events of different threads have no
//! order among each other but the one in which they were told: of two about the same key the versions say which is in the
//! cache.

use super::Table;
use super::layout::control;
use crate::shm::atomic::{AtomicU64, Ordering};

/// What happened to an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum EventKind {
    /// It was stored, or got another time to live.
    Set = 1,
    /// It was deleted.
    Delete = 2,
    /// It had expired and was removed.
    Expire = 3,
    /// It was evicted for want of room.
    Evict = 4,
    /// All entries were flushed.
    Flush = 5,
}

impl EventKind {
    /// The kind of a number.
    pub fn from_number(number: u8) -> Option<EventKind> {
        let all = [EventKind::Set, EventKind::Delete, EventKind::Expire, EventKind::Evict, EventKind::Flush];
        all.into_iter().find(|kind| *kind as u8 == number)
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            EventKind::Set => "set",
            EventKind::Delete => "delete",
            EventKind::Expire => "expire",
            EventKind::Evict => "evict",
            EventKind::Flush => "flush",
        }
    }
}

/// One who hears of each change that this process makes to a table.
pub trait Observer: Send + Sync {
    /// The entry of `key` changed. `version` is that of the entry that is there now, or that was removed; 0 where it is not
    /// known. Answers how many events could not be sent.
    fn tell(&self, kind: EventKind, version: u64, key: &[u8]) -> u64;

    /// As `tell`, by one who only met the change and may be in the middle of something: it may be told with the next one.
    fn tell_later(&self, kind: EventKind, version: u64, key: &[u8]) -> u64;
}

impl Table {
    /// From now on every change that is made through this value is told. Only of a table that has events.
    pub fn observe(&self, observer: std::sync::Arc<dyn Observer>) {
        // Only the first is kept.
        let _ = self.observer.set(observer);
    }

    /// Tells a change.
    #[inline]
    pub fn tell(&self, kind: EventKind, version: u64, key: &[u8]) {
        if self.events {
            self.tell_observer(&|observer| observer.tell(kind, version, key));
        }
    }

    /// Tells a change that the caller met, and did not make.
    pub(super) fn tell_later(&self, kind: EventKind, version: u64, key: &[u8]) {
        if self.events {
            self.tell_observer(&|observer| observer.tell_later(kind, version, key));
        }
    }

    #[cold]
    #[inline(never)]
    fn tell_observer(&self, tell: &dyn Fn(&dyn Observer) -> u64) {
        if let Some(observer) = self.observer.get() {
            kill_point!("table.event.before_tell");
            let unsent = tell(observer.as_ref());
            if let Some(word) = self.unsent_word().filter(|_| unsent != 0) {
                // ORDER Relaxed: a count.
                word.fetch_add(unsent, Ordering::Relaxed);
            }
        }
    }

    /// Where events that could not be sent are counted, if there are events.
    pub fn unsent_offset(&self) -> Option<u64> {
        self.events.then_some(self.control + control::UNSENT)
    }

    fn unsent_word(&self) -> Option<&AtomicU64> {
        let block = self.shm.view::<8>(self.unsent_offset()?)?;
        Some(block.u64::<0>())
    }

    /// Events that could not be sent since the cache was made.
    pub fn unsent_events(&self) -> u64 {
        // ORDER Relaxed: a count.
        self.unsent_word().map_or(0, |word| word.load(Ordering::Relaxed))
    }
}
