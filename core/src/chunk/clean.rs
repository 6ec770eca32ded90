//! Choosing and taking chunks that hold dead records. What is live in them is for the table to say.

use super::append::CLEANING;
use super::layout::{Class, Dead, Kind, State, at, pair, unpair};
use super::{Actor, ChunkId, Pool};
use crate::error::Result;
use crate::shm::atomic::Ordering;

/// Sealed chunks that a search looks at before it takes the best of them.
const LOOK_AT: u32 = 1024;

impl Pool {
    /// Bytes of a chunk that something may still point to.
    pub fn live_bytes(&self, chunk: ChunkId) -> Result<u64> {
        let descriptor = self.descriptor(chunk)?;
        // ORDER Relaxed: an estimate.
        let dead = Dead(descriptor.u64::<{ at::DEAD }>().load(Ordering::Relaxed)).bytes() as u64;
        Ok(self.tail(chunk)?.saturating_sub(dead))
    }

    /// The chunk that the caller is cleaning for `object`, taken anew if it has none: of those that a search meets, the one
    /// with the fewest live bytes, if cleaning it gains at least `gain` bytes. With `press` it may also be one that
    /// another thread began to clean and left.
    pub fn victim(
        &self,
        me: Actor<'_>,
        class: Class,
        object: u32,
        gain: u64,
        press: bool,
    ) -> Result<Option<ChunkId>> {
        if let Some(chunk) = self.entry_chunk(me, object | CLEANING) {
            let state = self.state(chunk)?;
            if state.is(Kind::Evicting) && state.owner() == me.index {
                return Ok(Some(chunk));
            }
            self.set_entry_chunk(me, object | CLEANING, None)?;
        }
        let mut best: Option<(u64, ChunkId, State)> = None;
        let mut looked_at = 0;
        // ORDER Relaxed: a private hint.
        let start = self.search.load(Ordering::Relaxed);
        let used = self.used_chunks().count() as u32;
        for step in 0..used {
            let chunk = ChunkId(1 + (start + step) % used);
            let state = self.state(chunk)?;
            let candidate =
                state.is(Kind::Sealed) || (press && state.is(Kind::Evicting) && state.owner() != me.index);
            // ORDER Relaxed: written by the owner before the chunk was sealed.
            let object_word = self.descriptor(chunk)?.u32::<{ at::OBJECT }>();
            if !candidate || state.class() != Some(class) || object_word.load(Ordering::Relaxed) != object {
                continue;
            }
            let live = self.live_bytes(chunk)?;
            if live + gain <= self.geometry().chunk_bytes
                && best.is_none_or(|(least, ..)| live < least)
                && self.may_be_cleaned(chunk, class)?
            {
                best = Some((live, chunk, state));
            }
            looked_at += 1;
            if looked_at >= LOOK_AT && best.is_some() {
                self.search.store((start + step) % used, Ordering::Relaxed);
                break;
            }
        }
        let Some((_, chunk, state)) = best else { return Ok(None) };
        let descriptor = self.descriptor(chunk)?;
        kill_point!("chunk.clean.before_evicting");
        if !self.transition(
            descriptor,
            state,
            State::new(Kind::Evicting, class, me.index, state.generation()),
        ) {
            return Ok(None);
        }
        // DIES AFTER: the reaper puts the chunk back; what was moved is moved, the rest is where it was.
        kill_point!("chunk.clean.evicting");
        // ORDER Relaxed: the cleaner's own.
        descriptor.u64::<{ at::CURSOR }>().store(0, Ordering::Relaxed);
        self.set_entry_chunk(me, object | CLEANING, Some(chunk))?;
        Ok(Some(chunk))
    }

    /// How far the caller came with the chunk that it cleans. The word names its writer: one that was stopped in the middle,
    /// lost the chunk and stores late makes the new cleaner begin again, never skip.
    pub fn clean_position(&self, me: Actor<'_>, chunk: ChunkId) -> Result<u64> {
        // ORDER Relaxed: the caller's own, or not used.
        let (position, owner) =
            unpair(self.descriptor(chunk)?.u64::<{ at::CURSOR }>().load(Ordering::Relaxed));
        Ok(if owner == me.index as u32 { position as u64 } else { 0 })
    }

    /// Remembers how far the caller came.
    pub fn set_clean_position(&self, me: Actor<'_>, chunk: ChunkId, position: u64) -> Result<()> {
        // ORDER Relaxed: as above.
        let word = pair(position as u32, me.index as u32);
        self.descriptor(chunk)?.u64::<{ at::CURSOR }>().store(word, Ordering::Relaxed);
        Ok(())
    }

    /// The caller saw every record of the chunk unlinked or moved: it becomes free when no pin holds it.
    pub fn cleaned(&self, me: Actor<'_>, chunk: ChunkId, object: u32) -> Result<()> {
        self.set_entry_chunk(me, object | CLEANING, None)?;
        let state = self.state(chunk)?;
        if state.is(Kind::Evicting) && state.owner() == me.index {
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
