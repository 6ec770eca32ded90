//! The receiving end of a topic.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::Topic;
use super::value::Stored;
use crate::cache::EventSubscriber;
use crate::error::{ErrorCode, Result};
use crate::limits::WAIT_SLICE_MS;

/// Hints that are read at once at most before values are handed out.
const HINTS: usize = 4096;
/// How often the numbers of all keys are compared if something was published meanwhile: a publisher may stand still between its value
/// and its hint.
const COMPARE_AFTER: Duration = Duration::from_secs(1);
/// Entries of a scan at a time.
const SCANNED: usize = 256;

/// The newest value of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicUpdate {
    /// The key.
    pub key: Vec<u8>,
    /// Its value; none if it was retracted.
    pub value: Option<Vec<u8>>,
    /// How often the key was published.
    pub number: u64,
    /// Updates of this key that were skipped because newer ones came, since the last one that was handed out.
    pub conflated: u64,
}

/// What a subscriber knows of a key.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// Number of the value that was handed out last.
    handed_out: u64,
    /// It waits in the queue.
    queued: bool,
}

/// Gets for each key of a topic the newest value: those that are there first, then those that are published.
///
/// Nobody waits for it. If it is slow it skips values that were replaced, and is told how many. It keeps the keys and numbers that
/// it has handed out in its own memory.
pub struct TopicSubscriber {
    topic: Topic,
    pub(super) events: EventSubscriber,
    known: HashMap<Vec<u8>, Known>,
    queue: VecDeque<Vec<u8>>,
    /// Threads that were reaped, when all keys were compared last.
    reaped: u64,
    /// Updates that were published before all keys were compared last, and when that was.
    updates: u64,
    compared: Instant,
}

impl TopicSubscriber {
    pub(super) fn new(topic: Topic) -> Result<TopicSubscriber> {
        // Before the first scan: what is published after a key was passed is told.
        let events = topic.cache.events()?;
        let mut subscriber = TopicSubscriber {
            topic,
            events,
            known: HashMap::new(),
            queue: VecDeque::new(),
            reaped: 0,
            updates: 0,
            compared: Instant::now(),
        };
        subscriber.compare()?;
        // What came before it is not skipped by it.
        for key in subscriber.queue.clone() {
            if let Some(number) = subscriber.number_of(&key)?
                && let Some(known) = subscriber.known.get_mut(&key)
            {
                known.handed_out = number - 1;
            }
        }
        Ok(subscriber)
    }

    fn number_of(&self, key: &[u8]) -> Result<Option<u64>> {
        let Some(entry) = self.topic.cache.get_entry(key)? else { return Ok(None) };
        Stored::of(&entry.value).map(|stored| Some(stored.number))
    }

    /// Puts a key at the end of the queue, unless it waits there.
    fn hint(&mut self, key: Vec<u8>) {
        let known = self.known.entry(key.clone()).or_default();
        if !known.queued {
            known.queued = true;
            self.queue.push_back(key);
        }
    }

    /// Compares the numbers of all keys with those that were handed out.
    fn compare(&mut self) -> Result<()> {
        // Before the scan: what changes meanwhile makes for another.
        self.reaped = self.topic.host.reaped();
        self.updates = self.topic.stats()?.updates;
        self.compared = Instant::now();
        let (mut cursor, mut damage) = (0, Ok(()));
        loop {
            let mut changed = Vec::new();
            let known = &self.known;
            cursor = self.topic.cache.scan(cursor, SCANNED, |key, entry| match Stored::of(&entry.value) {
                Ok(stored) if known.get(key).is_none_or(|known| known.handed_out < stored.number) => {
                    changed.push(key.to_vec());
                }
                Ok(_) => {}
                Err(error) => damage = Err(error),
            })?;
            changed.into_iter().for_each(|key| self.hint(key));
            if cursor == 0 {
                return damage;
            }
        }
    }

    /// Reads hints that are there; waits for the first at most `wait`.
    fn listen(&mut self, mut wait: Duration) -> Result<()> {
        let mut compare = false;
        for _ in 0..HINTS {
            match self.events.next(Some(wait)) {
                Ok(None) => break,
                Ok(Some(event)) if event.key.len() < event.key_len => compare = true,
                Ok(Some(event)) => self.hint(event.key),
                Err(error) if error.code() == ErrorCode::Overrun => compare = true,
                Err(error) => return Err(error),
            }
            wait = Duration::ZERO;
        }
        if compare || self.must_compare()? { self.compare() } else { Ok(()) }
    }

    /// Whether hints may be missing: a thread died, or something was published since the last comparison a while ago.
    fn must_compare(&mut self) -> Result<bool> {
        if self.topic.host.reaped() != self.reaped {
            return Ok(true);
        }
        if self.compared.elapsed() < COMPARE_AFTER {
            return Ok(false);
        }
        // Nobody else may be there who takes over from a publisher that died.
        self.topic.host.reap();
        let updates = self.topic.stats()?.updates;
        if self.topic.host.reaped() != self.reaped || updates != self.updates {
            return Ok(true);
        }
        self.compared = Instant::now();
        Ok(false)
    }

    /// The newest value of the first key in the queue that has one which was not handed out.
    fn hand_out(&mut self) -> Result<Option<TopicUpdate>> {
        while let Some(key) = self.queue.pop_front() {
            let entry = match self.topic.cache.get_entry(&key) {
                Ok(entry) => entry,
                Err(error) => {
                    // It waits there still; behind the others, which may have better luck.
                    self.queue.push_back(key);
                    return Err(error);
                }
            };
            let Some(known) = self.known.get_mut(&key) else { continue };
            known.queued = false;
            let Some(entry) = entry else { continue };
            let stored = Stored::of(&entry.value)?;
            if stored.number <= known.handed_out {
                continue;
            }
            let conflated = stored.number - known.handed_out - 1;
            known.handed_out = stored.number;
            let value = stored.value.map(<[u8]>::to_vec);
            return Ok(Some(TopicUpdate { key, value, number: stored.number, conflated }));
        }
        Ok(None)
    }

    /// The next update, if there is one.
    pub fn try_next(&mut self) -> Result<Option<TopicUpdate>> {
        self.listen(Duration::ZERO)?;
        self.hand_out()
    }

    /// The next update; waits at most `timeout`, without one until there is one. `None` when the time is over.
    pub fn next(&mut self, timeout: Option<Duration>) -> Result<Option<TopicUpdate>> {
        let end = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            if let Some(update) = self.try_next()? {
                return Ok(Some(update));
            }
            let slice = Duration::from_millis(WAIT_SLICE_MS);
            let left = end.map_or(slice, |end| end.saturating_duration_since(Instant::now()).min(slice));
            if left.is_zero() {
                return Ok(None);
            }
            self.listen(left)?;
        }
    }

    /// Keys that have an update waiting, as far as hints were read.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }
}
