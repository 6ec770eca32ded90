//! Choosing and taking chunks that hold dead records. What is live in them is for the table to say.

use super::append::CLEANING;
use super::layout::{Class, Dead, Kind, State, at, pair, unpair};
use super::{Actor, ChunkId, Pool};
use crate::error::Result;
use crate::shm::atomic::Ordering;

/// Chunks worth cleaning that one search looks at, and the best of them that it remembers.
const LOOK_AT: usize = 4096;
const REMEMBER: usize = 64;

/// Which chunks are worth cleaning.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// The object that the caller writes to.
    pub own: Option<u32>,
    /// Bytes that cleaning one of its chunks must gain.
    pub own_gain: u64,
    /// Bytes that cleaning a chunk of another object must gain.
    pub other_gain: u64,
    /// Also those that another thread began to clean.
    pub press: bool,
}

impl Pool {
    /// Bytes of a chunk that something may still point to.
    pub fn live_bytes(&self, chunk: ChunkId) -> Result<u64> {
        let descriptor = self.descriptor(chunk)?;
        // ORDER Relaxed: an estimate.
        let dead = Dead(descriptor.u64::<{ at::DEAD }>().load(Ordering::Relaxed)).bytes() as u64;
        Ok(self.tail(chunk)?.saturating_sub(dead))
    }

    /// The live bytes of a chunk that is worth cleaning, and its object.
    fn worth_cleaning(
        &self,
        me: Actor<'_>,
        chunk: ChunkId,
        state: State,
        wish: &Wish,
    ) -> Result<Option<(u64, u32)>> {
        let candidate =
            state.is(Kind::Sealed) || (wish.press && state.is(Kind::Evicting) && state.owner() != me.index);
        let Some(class) = state.class().filter(|class| candidate && class.has_records()) else {
            return Ok(None);
        };
        // ORDER Relaxed: written by the owner before the chunk was sealed.
        let object = self.descriptor(chunk)?.u32::<{ at::OBJECT }>().load(Ordering::Relaxed);
        let own = wish.own == Some(object);
        if !own && !self.has_relief() {
            return Ok(None);
        }
        let (bytes, tail, live) = (self.geometry().chunk_bytes, self.tail(chunk)?, self.live_bytes(chunk)?);
        // What was left empty in the end counts only if a record had fitted: moving it would leave as much again.
        let rest = bytes.saturating_sub(tail);
        let gain = (tail - live) + if rest >= bytes / 4 { rest } else { 0 };
        if gain >= if own { wish.own_gain } else { wish.other_gain } && self.may_be_cleaned(chunk, class)? {
            Ok(Some((live, object)))
        } else {
            Ok(None)
        }
    }

    /// The chunk that the caller has taken for cleaning, and its object.
    pub(super) fn being_cleaned(&self, me: Actor<'_>) -> Result<Option<(ChunkId, u32)>> {
        for place in 0..8 {
            // ORDER Relaxed: private to the owner of the entry.
            let word = me.open.u64_at::<0>(place).load(Ordering::Relaxed);
            let (key, chunk) = unpair(word);
            if chunk == 0 || key & CLEANING == 0 {
                continue;
            }
            let state = self.state(ChunkId(chunk))?;
            if state.is(Kind::Evicting) && state.owner() == me.index {
                return Ok(Some((ChunkId(chunk), key & !CLEANING)));
            }
            self.set_entry_chunk(me, key, None)?;
        }
        Ok(None)
    }

    /// The chunk that the caller is cleaning, and its object; taken anew if it has none: the one with the fewest live bytes
    /// of those that are remembered, or found by a new search.
    pub fn victim(&self, me: Actor<'_>, wish: &Wish) -> Result<Option<(ChunkId, u32)>> {
        if let Some(taken) = self.being_cleaned(me)? {
            return Ok(Some(taken));
        }
        if let Some(taken) = self.take_remembered(me, wish)? {
            return Ok(Some(taken));
        }
        self.search_dirty(me, wish)?;
        self.take_remembered(me, wish)
    }

    fn take_remembered(&self, me: Actor<'_>, wish: &Wish) -> Result<Option<(ChunkId, u32)>> {
        loop {
            let next = self.dirty.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).pop();
            let Some((chunk, seen)) = next else { return Ok(None) };
            if self.state(chunk)? == seen
                && let Some((_, object)) = self.worth_cleaning(me, chunk, seen, wish)?
                && self.begin_cleaning(me, chunk, seen, object)?
            {
                return Ok(Some((chunk, object)));
            }
        }
    }

    /// Looks for chunks worth cleaning, and remembers the best.
    fn search_dirty(&self, me: Actor<'_>, wish: &Wish) -> Result<()> {
        let mut found = Vec::new();
        // ORDER Relaxed: a private hint.
        let start = self.search.load(Ordering::Relaxed);
        let used = self.used_chunks().count() as u32;
        for step in 0..used {
            let chunk = ChunkId(1 + (start + step) % used);
            let state = self.state(chunk)?;
            if let Some((live, _)) = self.worth_cleaning(me, chunk, state, wish)? {
                found.push((live, chunk, state));
                if found.len() >= LOOK_AT {
                    self.search.store((start + step) % used, Ordering::Relaxed);
                    break;
                }
            }
        }
        found.sort_unstable_by_key(|(live, chunk, _)| (*live, chunk.0));
        found.truncate(REMEMBER);
        let best_last = found.into_iter().rev().map(|(_, chunk, state)| (chunk, state)).collect();
        *self.dirty.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = best_last;
        Ok(())
    }

    /// Takes a chunk for cleaning. False if somebody else was first.
    pub(super) fn begin_cleaning(
        &self,
        me: Actor<'_>,
        chunk: ChunkId,
        seen: State,
        object: u32,
    ) -> Result<bool> {
        if !self.take_dirty(me, chunk, seen)? {
            return Ok(false);
        }
        self.set_entry_chunk(me, object | CLEANING, Some(chunk))?;
        Ok(true)
    }

    /// As [`Pool::begin_cleaning`], without a place in the caller's entry.
    pub fn take_dirty(&self, me: Actor<'_>, chunk: ChunkId, seen: State) -> Result<bool> {
        let (descriptor, class) = (self.descriptor(chunk)?, seen.class().unwrap_or(Class::Main));
        kill_point!("chunk.clean.before_evicting");
        if !self.transition(descriptor, seen, State::new(Kind::Evicting, class, me.index, seen.generation()))
        {
            return Ok(false);
        }
        // DIES AFTER: the reaper puts the chunk back; what was moved is moved, the rest is where it was.
        kill_point!("chunk.clean.evicting");
        Ok(true)
    }

    /// Below this position nothing of the chunk is live. It was so when that was noted, because all who had appended were ready
    /// (see [`Pool::walk_taken`]), and stays so, because a record that was unlinked or moved never becomes live again where it was:
    /// so whoever noted it, and however late the store comes, it is right for its generation.
    pub fn clean_position(&self, chunk: ChunkId, generation: u32) -> Result<u64> {
        // ORDER Acquire [clean-position]: the unlinking of what stands below is seen.
        let (position, of) = unpair(self.descriptor(chunk)?.u64::<{ at::CURSOR }>().load(Ordering::Acquire));
        Ok(if of == generation.wrapping_add(1) { u64::from(position) } else { 0 })
    }

    /// Notes how far the chunk was cleaned. A word of generation + 1, so that 0 means nothing.
    pub fn set_clean_position(&self, chunk: ChunkId, generation: u32, position: u64) -> Result<()> {
        let word = pair(position as u32, generation.wrapping_add(1));
        // ORDER Release [clean-position]: everything below was unlinked before.
        self.descriptor(chunk)?.u64::<{ at::CURSOR }>().store(word, Ordering::Release);
        Ok(())
    }

    /// The caller saw every record of the chunk unlinked or moved: it becomes free when no pin holds it.
    pub fn cleaned(&self, me: Actor<'_>, chunk: ChunkId, object: u32) -> Result<()> {
        self.set_entry_chunk(me, object | CLEANING, None)?;
        let state = self.state(chunk)?;
        if state.is(Kind::Evicting) && state.owner() == me.index && !self.is_kept(chunk) {
            kill_point!("chunk.clean.before_quiesce");
            self.retire(chunk, state)?;
        }
        Ok(())
    }

    /// Gives up cleaning: the chunk is sealed again.
    pub fn put_back(&self, me: Actor<'_>, chunk: ChunkId) -> Result<()> {
        let state = self.state(chunk)?;
        if state.is(Kind::Evicting) && state.owner() == me.index {
            let class = state.class().unwrap_or(Class::Main);
            self.transition(
                self.descriptor(chunk)?,
                state,
                State::new(Kind::Sealed, class, 0, state.generation()),
            );
        }
        Ok(())
    }
}
