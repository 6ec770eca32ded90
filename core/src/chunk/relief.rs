//! Making room when the pool runs short: whoever is short cleans, whatever object the garbage belongs to.
//!
//! The pool knows which chunks hold how many dead bytes; which records of them are live, the tables know. So a cleaner is
//! found by the number of the object. Who finds nothing to clean takes over from the dead, puts away what it has open
//! itself, waits a little for others who hold the last chunks to clean with, and only then is told that there is no room.

use std::sync::Arc;

use super::append::CLEANING;
use super::clean::Wish;
use super::layout::{Class, Kind, State, at};
use super::{Actor, ChunkId, Pool};
use crate::error::{Error, ErrorCode, Result};
use crate::shm::atomic::Ordering;

/// Knows which records of its chunks are live.
pub trait Cleaner: Send + Sync {
    /// The object whose chunks it knows.
    fn object(&self) -> u32;
    /// Unlinks or moves up to `count` records of a chunk that the caller has taken for cleaning; gives the chunk back when
    /// it is through. False when there was no room to move one.
    fn clean(&self, me: Actor<'_>, chunk: ChunkId, count: usize) -> Result<bool>;
    /// What the clock of the object's records shows, behind what was unlinked of them.
    fn quiet_time(&self) -> u64 {
        0
    }
    /// Whether a snapshot needs what is in a chunk that became quiet at that time.
    fn keeps(&self, _quiet_since: u64) -> Result<bool> {
        Ok(false)
    }
    /// Cancels the oldest snapshot for which chunks are kept. Whether any became free by that.
    fn let_a_snapshot_go(&self) -> Result<bool> {
        Ok(false)
    }
    /// Counts dead bytes anew if somebody died who may not have counted all. Whether it did.
    fn recount(&self, me: Actor<'_>) -> Result<bool>;
    /// Evicts every entry of a chunk that the caller has taken, or of a run, as long as that is in the state `seen`. Only who
    /// gives way is asked.
    fn empty(&self, me: Actor<'_>, chunk: ChunkId, seen: State) -> Result<()>;
    /// Whether it evicts what is live for whoever is short.
    fn gives_way(&self) -> bool {
        false
    }
    /// Evicts about a chunk's worth. Whether that gained anything.
    fn give(&self, _me: Actor<'_>) -> Result<bool> {
        Ok(false)
    }
}

/// Knows all objects of a fabric, and its dead.
pub trait Relief: Send + Sync {
    /// Who cleans the chunks of an object; `None` if no such object holds records.
    fn cleaner(&self, object: u32) -> Result<Option<Arc<dyn Cleaner>>>;
    /// All of them.
    fn cleaners(&self) -> Result<Vec<Arc<dyn Cleaner>>>;
    /// Takes over from dead processes and threads. Whether there were any.
    fn reap(&self) -> bool;
}

/// How far somebody went who looks for room.
pub struct Effort {
    cleaned: u32,
    failed: u32,
    /// Whether small gains count.
    thrifty: bool,
    /// Whether everything else was tried once.
    exhausted: bool,
    #[cfg(not(memora_loom))]
    patience: Patience,
}

impl Effort {
    pub fn new(_pool: &Pool) -> Effort {
        Effort {
            cleaned: 0,
            failed: 0,
            thrifty: false,
            exhausted: false,
            #[cfg(not(memora_loom))]
            patience: Patience { begun_ns: 0, since_ns: 0, changes: _pool.changes(), looks: 0 },
        }
    }
}

/// Waiting for others that hold the last chunks to clean with.
#[cfg(not(memora_loom))]
struct Patience {
    begun_ns: u64,
    /// The last time that the pool was seen to change.
    since_ns: u64,
    changes: u32,
    looks: u32,
}

#[cfg(not(memora_loom))]
impl Patience {
    /// Without any change of the pool for so long, chunks are taken from whoever began to clean them.
    const PRESS_NS: u64 = 20_000_000;
    /// Without any change of the pool for so long, there is no room.
    const QUIET_NS: u64 = 500_000_000;
    /// There is no room when it was always others who got it.
    const END_NS: u64 = 10_000_000_000;

    /// Waits a little. False when it was too long.
    fn wait(&mut self, pool: &Pool) -> bool {
        self.looks += 1;
        let now = crate::shm::time::monotonic_ns();
        if self.begun_ns == 0 {
            (self.begun_ns, self.since_ns) = (now, now);
        }
        let changes = pool.changes();
        if changes != self.changes {
            (self.changes, self.since_ns) = (changes, now);
        }
        if now - self.since_ns > Self::QUIET_NS || now - self.begun_ns > Self::END_NS {
            return false;
        }
        if self.looks < 64 {
            crate::shm::atomic::yield_now();
        } else {
            std::thread::sleep(std::time::Duration::from_micros(100));
        }
        true
    }

    /// Whether nothing has happened for so long that others seem to be stopped.
    fn presses(&self) -> bool {
        self.begun_ns != 0 && crate::shm::time::monotonic_ns().saturating_sub(self.since_ns) > Self::PRESS_NS
    }
}

impl Pool {
    /// One step towards room for `bytes`: afterwards the caller looks again whether there is. False when nothing more can be
    /// done. `own` is the table that the caller writes to: what its chunks gain is in the caller's open chunk.
    #[cold]
    #[inline(never)]
    pub fn relieve(
        &self,
        me: Actor<'_>,
        own: Option<&dyn Cleaner>,
        bytes: u64,
        effort: &mut Effort,
    ) -> Result<bool> {
        let chunk_bytes = self.geometry().chunk_bytes;
        // The whole pool was cleaned twice: what is dead lies where nobody can use it.
        if effort.cleaned > self.geometry().chunk_count * 2 + 64 {
            return Ok(false);
        }
        // As long as chunks are kept for a snapshot, cleaning gains nothing.
        if let Some(own) = own
            && own.let_a_snapshot_go()?
        {
            return Ok(true);
        }
        loop {
            let wish = Wish {
                own: own.map(Cleaner::object),
                own_gain: if effort.thrifty { bytes.min(chunk_bytes / 8) } else { chunk_bytes / 8 },
                other_gain: if effort.thrifty { chunk_bytes / 32 } else { chunk_bytes / 8 },
                press: self.presses(effort),
            };
            let mut crowded = false;
            match self.victim(me, &wish)? {
                Some((chunk, object)) => match self.clean_taken(me, own, chunk, object, usize::MAX) {
                    Ok(true) => {
                        effort.cleaned += 1;
                        return Ok(true);
                    }
                    Ok(false) => crowded = true,
                    // Damage in another object is not the caller's affair, as long as there is something else to clean.
                    Err(error) if wish.own == Some(object) || effort.failed >= 4 => return Err(error),
                    Err(_) => {
                        effort.failed += 1;
                        self.put_back(me, chunk)?;
                        self.set_entry_chunk(me, object | CLEANING, None)?;
                        continue;
                    }
                },
                None if !effort.thrifty => {
                    if self.let_give_way(me, wish.own)? {
                        effort.cleaned += 1;
                        return Ok(true);
                    }
                    effort.thrifty = true;
                    continue;
                }
                None => {}
            }
            if !effort.exhausted {
                effort.exhausted = true;
                if self.last_resorts(me, wish.own)? {
                    return Ok(true);
                }
            }
            if !crowded && !self.others_clean(me)? {
                return Ok(false);
            }
            return Ok(self.wait(effort));
        }
    }

    /// Waits a little for others that hold what there is. False when nothing has come of it for long.
    #[cfg(not(memora_loom))]
    pub fn wait(&self, effort: &mut Effort) -> bool {
        if effort.patience.presses() {
            // Whoever held them may be dead since.
            effort.exhausted = false;
        }
        effort.patience.wait(self)
    }

    #[cfg(memora_loom)]
    pub fn wait(&self, _effort: &mut Effort) -> bool {
        false
    }

    #[cfg(not(memora_loom))]
    fn presses(&self, effort: &Effort) -> bool {
        effort.patience.presses()
    }

    #[cfg(memora_loom)]
    fn presses(&self, _effort: &Effort) -> bool {
        false
    }

    /// Looks at a few records of a chunk that has many dead ones. False when there is no such chunk.
    pub fn relieve_a_little(&self, me: Actor<'_>, own: &dyn Cleaner, records: usize) -> Result<bool> {
        let gain = self.geometry().chunk_bytes / 8;
        let wish = Wish { own: Some(own.object()), own_gain: gain, other_gain: gain, press: false };
        match self.victim(me, &wish)? {
            Some((chunk, object)) => self.clean_taken(me, Some(own), chunk, object, records),
            None => Ok(false),
        }
    }

    /// Cleans a chunk that the caller has taken, by whoever knows its object.
    pub(super) fn clean_taken(
        &self,
        me: Actor<'_>,
        own: Option<&dyn Cleaner>,
        chunk: ChunkId,
        object: u32,
        records: usize,
    ) -> Result<bool> {
        match own.filter(|own| own.object() == object) {
            Some(own) => own.clean(me, chunk, records),
            None => self.cleaner(object)?.clean(me, chunk, records),
        }
    }

    /// Evicts what is in a chunk that the caller has taken, or in a run, by whoever knows its object. False for damage in
    /// another object, which is not the caller's affair.
    pub(super) fn empty_taken(
        &self,
        me: Actor<'_>,
        own: Option<&dyn Cleaner>,
        chunk: ChunkId,
        seen: State,
        object: u32,
    ) -> Result<bool> {
        match own.filter(|own| own.object() == object) {
            Some(own) => own.empty(me, chunk, seen).map(|()| true),
            None => Ok(self.cleaner(object).and_then(|cleaner| cleaner.empty(me, chunk, seen)).is_ok()),
        }
    }

    fn cleaner(&self, object: u32) -> Result<Arc<dyn Cleaner>> {
        let relief = self.relief.get().and_then(std::sync::Weak::upgrade);
        relief.and_then(|relief| relief.cleaner(object).transpose()).unwrap_or_else(|| {
            Err(Error::new(
                ErrorCode::Corrupt,
                format!("No object {object} holds records, but a chunk is its."),
            ))
        })
    }

    /// Notes when a chunk of records becomes quiet, on the clock of its object. However late the store comes, it can only let the
    /// chunk be kept for longer.
    pub(super) fn note_quiet(&self, chunk: ChunkId) -> Result<()> {
        let time = match self.known_cleaner(chunk) {
            Ok(None) => return Ok(()),
            Ok(Some(cleaner)) => cleaner.quiet_time(),
            Err(_) => u64::MAX,
        };
        // ORDER Relaxed: released by the state, which goes on next.
        self.descriptor(chunk)?.u64::<{ at::QUIET_SINCE }>().fetch_max(time, Ordering::Relaxed);
        Ok(())
    }

    /// Whether a snapshot needs what is in a chunk that is quiet, or emptied. Behind the fence that pairs with the taking of one.
    pub(super) fn is_kept_for_snapshot(&self, chunk: ChunkId, seen: State) -> Result<bool> {
        if !seen.class().is_some_and(Class::has_snapshots) {
            return Ok(false);
        }
        let cleaner = match self.known_cleaner(chunk) {
            Ok(None) => return Ok(false),
            Ok(Some(cleaner)) => cleaner,
            // Left to somebody who can ask.
            Err(_) => return Ok(true),
        };
        let since = match seen.is(Kind::Quiesce) {
            // ORDER Relaxed: ordered by the state that the caller loaded.
            true => self.descriptor(chunk)?.u64::<{ at::QUIET_SINCE }>().load(Ordering::Relaxed),
            false => cleaner.quiet_time(),
        };
        cleaner.keeps(since)
    }

    /// Who knows the object of a chunk; `None` if that is gone, or there is only this one. An error if it cannot be said.
    fn known_cleaner(&self, chunk: ChunkId) -> Result<Option<Arc<dyn Cleaner>>> {
        // ORDER Relaxed: written by the owner before the chunk was reachable.
        let object = self.descriptor(chunk)?.u32::<{ at::OBJECT }>().load(Ordering::Relaxed);
        match self.relief.get() {
            Some(relief) => relief.upgrade().ok_or(ErrorCode::Closed)?.cleaner(object),
            None => Ok(None),
        }
    }

    /// The cache that evicts and holds most chunks, besides the caller's own object, gives way. Whether one did.
    fn let_give_way(&self, me: Actor<'_>, own: Option<u32>) -> Result<bool> {
        let Some(relief) = self.relief.get().and_then(std::sync::Weak::upgrade) else { return Ok(false) };
        // Damage in another object is not the caller's affair.
        let cleaners = relief.cleaners().unwrap_or_default();
        let most = cleaners
            .iter()
            .filter(|cleaner| cleaner.gives_way() && Some(cleaner.object()) != own)
            .max_by_key(|cleaner| self.held_by(cleaner.object()));
        most.map_or(Ok(false), |cleaner| cleaner.give(me))
    }

    /// Takes over from the dead. Whether there were any.
    pub fn reap(&self) -> bool {
        self.relief.get().and_then(std::sync::Weak::upgrade).is_some_and(|relief| relief.reap())
    }

    /// Whether chunks of every object can be cleaned.
    pub(super) fn has_relief(&self) -> bool {
        self.relief.get().is_some_and(|relief| relief.strong_count() > 0)
    }

    /// What is done before nothing is left to do: puts away the caller's open chunks of other objects, takes over from the
    /// dead, counts anew. Whether anything came of it.
    fn last_resorts(&self, me: Actor<'_>, own: Option<u32>) -> Result<bool> {
        let mut any = self.put_away_others(me, own)?;
        if let Some(relief) = self.relief.get().and_then(std::sync::Weak::upgrade) {
            any |= relief.reap();
            for cleaner in relief.cleaners()? {
                any |= cleaner.recount(me)? | cleaner.let_a_snapshot_go()?;
            }
        }
        self.free_quiet()?;
        self.recount()?;
        Ok(any)
    }

    /// Whether another thread is about to make a chunk free.
    fn others_clean(&self, me: Actor<'_>) -> Result<bool> {
        for chunk in self.used_chunks() {
            let state = self.state(chunk)?;
            if state.is(Kind::Quiesce) || (state.is(Kind::Evicting) && state.owner() != me.index) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
