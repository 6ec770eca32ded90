//! Hearing of what changes in a cache.

use std::time::{Duration, Instant};

use super::Cache;
use crate::error::{Error, ErrorCode, Result};
use crate::table::entry::Version;

pub use crate::table::EventKind;

/// Bytes in front of the key in the message of an event:
///
/// ```text
///  0 kind u8; 1..4 zero; 4 length of the whole key u32; 8 version u64; 16 key, or as much of it as a message takes
/// ```
const EVENT_HEADER_BYTES: usize = 16;

/// A change of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// Of a set: the version of the entry from then on. Of an expiry and an eviction: that of the entry that was removed.
    /// Otherwise 0.
    pub version: Version,
    /// The key; empty for a flush. Only the first bytes of a key that is longer than an eighth of a lane.
    pub key: Vec<u8>,
    /// Bytes of the whole key.
    pub key_len: usize,
}

impl Event {
    /// The message of an event. It may be cut where it is too long.
    pub(crate) fn encode(kind: EventKind, version: u64, key: &[u8]) -> Vec<u8> {
        let mut message = Vec::with_capacity(EVENT_HEADER_BYTES + key.len());
        message.extend_from_slice(&[kind as u8, 0, 0, 0]);
        message.extend_from_slice(&(key.len() as u32).to_le_bytes());
        message.extend_from_slice(&version.to_le_bytes());
        message.extend_from_slice(key);
        message
    }

    /// `None` for bytes that are no event.
    fn decode(message: &[u8]) -> Option<Event> {
        let (head, key) = message.split_first_chunk::<EVENT_HEADER_BYTES>()?;
        let key_len = u32::from_le_bytes(head[4..8].try_into().ok()?) as usize;
        Some(Event {
            kind: EventKind::from_number(head[0])?,
            version: Version(u64::from_le_bytes(head[8..16].try_into().ok()?)),
            key: key.to_vec(),
            key_len: key_len.max(key.len()),
        })
    }
}

/// Where the messages of events come from.
pub trait EventSource: Send {
    /// Takes the next message into `into`, waiting at most `timeout` (`None`: without end). False when the time is over.
    /// `Overrun` with their number once for messages that were lost.
    fn next(&mut self, into: &mut Vec<u8>, timeout: Option<Duration>) -> Result<bool>;
}

/// Gets the events of a cache from when it was made.
///
/// Nobody waits for it: if it is too slow, events are lost, and it is told how many. Two things are not events: what a process
/// that was killed between a change and its event did last, one change for each of its threads, with what was evicted for it;
/// and an expired entry that nobody has removed yet.
pub struct EventSubscriber {
    source: Box<dyn EventSource>,
    cache: Cache,
    /// Events that could not be sent, as far as they were told.
    unsent: u64,
    lost: u64,
    buffer: Vec<u8>,
}

impl Cache {
    /// Subscribes to the events of a cache that was made with [`CacheOptions::events`](super::CacheOptions::events);
    /// `Unsupported` if it was not.
    pub fn events(&self) -> Result<EventSubscriber> {
        self.host.enter()?;
        if !self.table.has_events() {
            return Err(Error::new(
                ErrorCode::Unsupported,
                "The cache has no events: it was made without the option `events`.",
            ));
        }
        let unsent = self.table.unsent_events();
        let source = self.host.events(self.table.object())?;
        Ok(EventSubscriber { source, cache: self.clone(), unsent, lost: 0, buffer: Vec::new() })
    }
}

impl EventSubscriber {
    /// The next event; waits at most `timeout`, without one until there is one. `None` when the time is over.
    ///
    /// `Overrun` once for each loss, with the number of events that were lost; the next call goes on behind it.
    pub fn next(&mut self, timeout: Option<Duration>) -> Result<Option<Event>> {
        let end = timeout.map(|timeout| Instant::now() + timeout);
        loop {
            let unsent = self.cache.table.unsent_events().saturating_sub(self.unsent);
            if unsent != 0 {
                self.unsent += unsent;
                self.lost += unsent;
                return Err(Error::with_amount(
                    ErrorCode::Overrun,
                    unsent,
                    format!(
                        "{unsent} events could not be sent: there was no room for the ring of a process."
                    ),
                ));
            }
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            match self.source.next(&mut self.buffer, left) {
                Ok(false) => return Ok(None),
                Ok(true) => {
                    if let Some(event) = Event::decode(&self.buffer) {
                        return Ok(Some(event));
                    }
                    // Of a later version: not one that we know.
                }
                Err(error) => {
                    if error.code() == ErrorCode::Overrun {
                        self.lost += error.amount();
                    }
                    return Err(error);
                }
            }
        }
    }

    /// The next event, if there is one.
    pub fn try_next(&mut self) -> Result<Option<Event>> {
        self.next(Some(Duration::ZERO))
    }

    /// How many events were lost since this was made, as far as [`EventSubscriber::next`] has told.
    pub fn lost(&self) -> u64 {
        self.lost
    }
}
