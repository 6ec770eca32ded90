//! The change feed: every committed change of a store, in order, to be read from any place that the files still hold.
//!
//! The journal is the feed. A store that was opened with [`StoreOptions::feed_bytes`](super::StoreOptions::feed_bytes) writes every
//! committed state of a key, not only the last of each flush, and keeps the files of the journal for so long after checkpoints have made them
//! needless. So a feed costs writers nothing, needs nobody to read it, survives everything that the store survives, and has no
//! other place to fall behind in than the files.
//!
//! Changes come when a flush has made them durable, flush by flush: a transaction is never torn by the end of a flush. Of one key they come
//! in the order in which they were made; between keys of one flush there is no order.
//!
//! A leader that dies behind its sync leaves changes that the next one writes again: a feed leaves out what the flush before had.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use super::Store;
use super::core::Core;
use crate::error::{Error, ErrorCode, Result};
use crate::journal::feed;
use crate::journal::follow::{Flush, Follower};
use crate::journal::layout::FileName;
use crate::journal::replay::corrupt;
use crate::journal::{Control, Journal, Lsn, Record};
use crate::limits::WAIT_SLICE_MS;
use crate::shm::atomic::Ordering;
use crate::shm::futex;

/// A place in a feed: behind a change. Written as text, and read back, by whoever goes on there later. It is counted from the flush before
/// that of the change: what that one had is not told again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FeedPosition {
    /// Of the store whose place it is: another one refuses it, also one that was made later under the same name.
    pub store: u64,
    /// Where a flush begins in the journal.
    pub flush: u64,
    /// How many records are behind one, counted from there.
    pub index: u64,
}

impl fmt::Display for FeedPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}.{}.{}", self.store, self.flush, self.index)
    }
}

impl FromStr for FeedPosition {
    type Err = Error;

    fn from_str(text: &str) -> Result<FeedPosition> {
        let parsed = || {
            let (store, place) = text.split_once('.')?;
            let (flush, index) = place.split_once('.')?;
            let is_plain = |part: &str| part.bytes().all(|it| it.is_ascii_hexdigit());
            if store.len() != 16 || ![store, flush, index].into_iter().all(is_plain) {
                return None;
            }
            let store = u64::from_str_radix(store, 16).ok()?;
            Some(FeedPosition { store, flush: flush.parse().ok()?, index: index.parse().ok()? })
        };
        parsed().ok_or_else(|| {
            Error::new(
                ErrorCode::InvalidArgument,
                format!(
                    "`{text}` is no position of a feed: it is the store's 16 hexadecimal digits and two numbers, with dots \
                     between."
                ),
            )
        })
    }
}

/// Where a feed begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedFrom {
    /// With the oldest change that the files hold.
    Oldest,
    /// With what is flushed from now on.
    Newest,
    /// Behind a change that was handled: [`Change::position`].
    Position(FeedPosition),
}

/// A committed change of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub key: Vec<u8>,
    /// The value that it has then; `None` if it was deleted, or its time was over.
    pub value: Option<Vec<u8>>,
    /// Flags of the user.
    pub flags: u32,
    /// Wall clock in ms from which the entry is gone.
    pub expires_ms: Option<u64>,
    /// Grows from change to change of this key.
    pub order: u64,
    /// Where one goes on who has handled it.
    pub position: FeedPosition,
}

/// The flush that is being read.
struct Reading {
    flush: Flush,
    /// The batch after the one in `body`.
    next: usize,
    body: Vec<u8>,
    at: usize,
    /// Records of the batch that were not looked at, and of the flush that were.
    left: u32,
    index: u64,
}

/// Reads the changes of a store. For one thread at a time; it holds the store open, and nothing that others wait for.
pub struct Feed {
    store: Store,
    prefix: Vec<u8>,
    follower: Follower,
    reading: Option<Reading>,
    position: FeedPosition,
    /// The place to begin at: what is in front of it is not told.
    start: FeedPosition,
    /// Where the flush before the one that is read begins, and how many records it has; before there was one, the first.
    base: Option<(Lsn, u64)>,
    /// The highest order of each key in the flush that is read, and in the one before.
    seen: HashMap<Vec<u8>, u64>,
    before: HashMap<Vec<u8>, u64>,
}

impl Store {
    /// The changes from a place on, of keys that begin with `prefix`. `InvalidArgument` if the store keeps none
    /// ([`StoreOptions::feed_bytes`](super::StoreOptions::feed_bytes)); `PositionTrimmed` if the place was removed: then read the store as it is
    /// and go on with [`FeedFrom::Newest`], taken before; `PositionForeign` if it is one of another store; `PositionAhead` if it is none that
    /// the store has given.
    pub fn feed(&self, from: FeedFrom, prefix: &[u8]) -> Result<Feed> {
        let core = self.core()?;
        let (journal, control) = core.fed()?;
        let tail = tail_of(control);
        let store = short_id(journal);
        let position = match from {
            FeedFrom::Oldest => FeedPosition { store, flush: journal.oldest(tail)?.0, index: 0 },
            FeedFrom::Newest => FeedPosition { store, flush: tail.0, index: 0 },
            FeedFrom::Position(position) => position,
        };
        if position.store != store {
            let name = &core.name;
            return Err(Error::new(
                ErrorCode::PositionForeign,
                format!("{position} is a place in another store: those of `{name}` begin with {store:016x}."),
            ));
        }
        if position.flush > tail.0 {
            return Err(Error::new(
                ErrorCode::PositionAhead,
                format!("The feed has not come to {position}: it is at {store:016x}.{}.0.", tail.0),
            ));
        }
        let mut feed = Feed {
            store: self.clone(),
            prefix: prefix.to_vec(),
            follower: Follower::new(Lsn(position.flush)),
            reading: None,
            position,
            start: position,
            base: None,
            seen: HashMap::new(),
            before: HashMap::new(),
        };
        // Told now if it was removed.
        feed.look()?;
        Ok(feed)
    }
}

/// What positions have of the id of their store.
fn short_id(journal: &Journal) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *journal.store();
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

fn tail_of(control: Control<'_>) -> Lsn {
    // ORDER Acquire [journal-tail]: the files up to there.
    Lsn(control.tail().load(Ordering::Acquire))
}

impl Core {
    /// The journal of a store that keeps its changes.
    fn fed(&self) -> Result<(&Journal, Control<'_>)> {
        let words = self.words()?;
        let refused =
            |why| Error::new(ErrorCode::InvalidArgument, format!("The store has no change feed: {why}."));
        let journal =
            self.journal.as_ref().ok_or_else(|| refused("it has no files, or is open read-only"))?;
        // ORDER Relaxed: a number that stands for itself.
        if words.feed_bytes().load(Ordering::Relaxed) == 0 {
            return Err(refused("open it with `feed_bytes`, which says how much is kept"));
        }
        Ok((journal, words.journal()))
    }

    /// Sets how much is kept for the feed, or finds out how much was.
    pub(super) fn keep_feed(&self, wanted: Option<u64>) -> Result<()> {
        let Some(journal) = &self.journal else {
            return match wanted {
                Some(1..) if self.pool().shm().writable() => Err(Error::new(
                    ErrorCode::InvalidArgument,
                    "A store without `dir` has no files, so it cannot keep a change feed.",
                )),
                _ => Ok(()),
            };
        };
        // ORDER Relaxed: a number that stands for itself; it grows before the caller of this makes a change.
        feed::keep(&**journal.files(), wanted, self.words()?.feed_bytes())
    }
}

impl Feed {
    /// The next change; waits for one at most `timeout`, without one until there is one. `None` when the time is over.
    ///
    /// `PositionTrimmed` if it was so far behind that its file was removed.
    pub fn next(&mut self, timeout: Option<Duration>) -> Result<Option<Change>> {
        let end = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        if let Some(change) = self.try_next()? {
            return Ok(Some(change));
        }
        loop {
            let store = self.store.clone();
            let control = store.core()?.fed()?.1;
            // Before the look: what comes in between ends the sleep at once.
            // ORDER Acquire [journal-durable]: as for those who wait for a flush.
            let event = control.event().load(Ordering::Acquire);
            if let Some(change) = self.try_next()? {
                return Ok(Some(change));
            }
            let slice = Duration::from_millis(WAIT_SLICE_MS);
            let left = end.map_or(slice, |end| end.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Ok(None);
            }
            futex::wait(control.event(), event, left.min(slice));
        }
    }

    /// Where one goes on who has handled everything that it gave.
    pub fn position(&self) -> FeedPosition {
        self.position
    }

    /// The next change, if there is one.
    pub fn try_next(&mut self) -> Result<Option<Change>> {
        while self.look()? {
            if let Some(change) = self.take()? {
                return Ok(Some(change));
            }
        }
        Ok(None)
    }

    /// Makes sure that a flush is being read. False if there is none.
    fn look(&mut self) -> Result<bool> {
        if self.reading.is_some() {
            return Ok(true);
        }
        let (journal, control) = self.store.core()?.fed()?;
        let Some(flush) = self.follower.next(journal, tail_of(control))? else { return Ok(false) };
        self.base.get_or_insert((flush.batches[0], 0));
        self.before = std::mem::take(&mut self.seen);
        self.reading = Some(Reading { flush, next: 0, body: Vec::new(), at: 0, left: 0, index: 0 });
        Ok(true)
    }

    /// The next change of the flush that is read; `None` where it ends.
    fn take(&mut self) -> Result<Option<Change>> {
        let (journal, _) = self.store.core()?.fed()?;
        let Some(reading) = &mut self.reading else { return Ok(None) };
        loop {
            if reading.left == 0 {
                let Some(&place) = reading.flush.batches.get(reading.next) else {
                    self.base = Some((reading.flush.batches[0], reading.index));
                    self.reading = None;
                    return Ok(None);
                };
                reading.left = self.follower.body(journal, place, &mut reading.body)?;
                (reading.next, reading.at) = (reading.next + 1, 0);
                continue;
            }
            let Some((record, len)) = Record::decode(&reading.body[reading.at..]) else {
                let place = reading.flush.batches[reading.next - 1];
                let name = FileName::Journal { term: place.term(), number: place.number() };
                let what = "a record of the batch is malformed";
                return Err(corrupt(&**journal.files(), name, place.byte(), what));
            };
            reading.at += len;
            reading.left -= 1;
            reading.index += 1;
            let (base, records) = self.base.unwrap_or((Lsn::NONE, 0));
            let position = FeedPosition { flush: base.0, index: records + reading.index, ..self.start };
            let is_behind = position.flush == self.start.flush && position.index <= self.start.index;
            if !is_behind {
                self.position = position;
            }
            if !record.key.starts_with(&self.prefix) {
                continue;
            }
            let known = [&self.before, &self.seen].into_iter().filter_map(|seen| seen.get(record.key)).max();
            let is_new = known.is_none_or(|known| record.order > *known);
            if is_new {
                self.seen.insert(record.key.to_vec(), record.order);
            } else if let Some(order) = self.before.get(record.key) {
                // The flush behind this one may have it once more.
                self.seen.entry(record.key.to_vec()).or_insert(*order);
            }
            if is_behind || !is_new {
                continue;
            }
            return Ok(Some(Change {
                key: record.key.to_vec(),
                value: record.value.map(<[u8]>::to_vec),
                flags: record.flags,
                expires_ms: (record.expiry_ms != 0).then_some(record.expiry_ms),
                order: record.order,
                position,
            }));
        }
    }
}
