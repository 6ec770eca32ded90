//! Single chunks that are named by their number and their generation, for an object that links them itself.
//!
//! A name belongs to one use of the chunk: once that has ended it names nothing, for ever, whoever uses the chunk next. So who gives
//! one back needs no permission but the knowledge that nobody needs it any more, and doing it twice, or late, is harmless.

use super::layout::{Class, Kind, State, at, pair, unpair};
use super::{Actor, ChunkId, Need, Pool};
use crate::error::Result;
use crate::shm::Span;
use crate::shm::atomic::Ordering;

/// Looks at a state that others change meanwhile: it is kept, and given back.
const ROUNDS: u32 = 4;

/// One use of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loose {
    chunk: ChunkId,
    generation: u32,
}

impl Loose {
    /// In one word, which is never 0.
    pub const fn word(self) -> u64 {
        pair(self.chunk.0, self.generation)
    }

    /// What a word names; None for 0.
    pub const fn from_word(word: u64) -> Option<Loose> {
        let (chunk, generation) = unpair(word);
        if chunk == 0 { None } else { Some(Loose { chunk: ChunkId(chunk), generation }) }
    }
}

/// Where who takes many chunks goes on looking: so that all together cost one walk.
#[derive(Clone, Copy, Debug, Default)]
pub struct Search(u32);

impl Pool {
    /// Takes a chunk: open, the caller's alone until it is kept. If the caller dies before, the reaper asks whether its object names it.
    pub fn take_loose(&self, me: Actor<'_>, object: u32, search: &mut Search) -> Result<Loose> {
        // Where some are free none must be made so.
        let chunk = match self.take_next(me, Class::Lane, object, Need::Object, search.0)? {
            Some(chunk) => chunk,
            None => match self.take(me, Class::Lane, object, 1, Need::Object)? {
                Some(chunk) => chunk,
                None => self.allocate(me, Class::Lane, object, Need::Object)?,
            },
        };
        search.0 = chunk.0 + 1;
        Ok(Loose { chunk, generation: self.state(chunk)?.generation() })
    }

    /// The object names it: it is nobody's from here on. `taker` has it open, and calls, or is dead. It may have been given back before.
    pub fn keep_loose(&self, taker: u16, loose: Loose) -> Result<()> {
        let seen = self.state(loose.chunk)?;
        if is_use(seen, loose) && seen.is(Kind::Open) && seen.owner() == taker {
            let kept = State::new(Kind::Lane, Class::Lane, 0, seen.generation());
            self.transition(self.descriptor(loose.chunk)?, seen, kept);
        }
        Ok(())
    }

    /// Its bytes; None if that use of it has ended. Who reads them asks again afterwards, or knows that it has not.
    pub fn loose_span(&self, loose: Loose) -> Result<Option<Span<'_>>> {
        let seen = self.state(loose.chunk)?;
        if !is_use(seen, loose) { Ok(None) } else { self.span(loose.chunk).map(Some) }
    }

    /// Nobody needs it any more, and its object has named it: its taker, who may not have come to keep it yet, does no more than that.
    pub fn give_back_loose(&self, loose: Loose) -> Result<()> {
        // Ends: it is kept at most once.
        for _ in 0..ROUNDS {
            let seen = self.state(loose.chunk)?;
            if !is_use(seen, loose) {
                break;
            }
            self.retire(loose.chunk, seen)?;
        }
        Ok(())
    }

    /// The caller took it, and does not want it.
    pub fn drop_loose(&self, me: Actor<'_>, loose: Loose) -> Result<()> {
        self.release(me, loose.chunk)
    }

    /// The chunks that an object has for lanes and what belongs to them.
    pub fn lane_chunks(&self, object: u32) -> Result<Vec<ChunkId>> {
        let mut chunks = Vec::new();
        for chunk in self.used_chunks() {
            // ORDER Relaxed: written before the chunk was kept.
            let of = self.descriptor(chunk)?.u32::<{ at::OBJECT }>().load(Ordering::Relaxed);
            if of == object && self.state(chunk)?.is(Kind::Lane) {
                chunks.push(chunk);
            }
        }
        Ok(chunks)
    }

    /// Number of the object that it is used for, if that use has not ended.
    pub fn loose_object(&self, loose: Loose) -> Result<u32> {
        // ORDER Relaxed: written before the chunk was named.
        Ok(self.descriptor(loose.chunk)?.u32::<{ at::OBJECT }>().load(Ordering::Relaxed))
    }

    /// Where the bytes of a chunk begin.
    pub fn loose_offset(&self, loose: Loose) -> u64 {
        self.geometry().chunk_offset(loose.chunk)
    }
}

fn is_use(seen: State, loose: Loose) -> bool {
    matches!(seen.kind(), Some(Kind::Open | Kind::Lane))
        && seen.class() == Some(Class::Lane)
        && seen.generation() == loose.generation
}

#[cfg(all(test, not(memora_loom)))]
mod tests {
    use super::super::testing::Stage;
    use super::*;

    #[test]
    fn a_name_belongs_to_one_use() {
        let (stage, pool) = Stage::pool(2, 64, 16 << 10);
        let me = stage.actor(1);
        let before = pool.free_count();
        let take = || pool.take_loose(me, 7, &mut Search::default()).unwrap();
        let first = take();
        assert_eq!(Loose::from_word(first.word()), Some(first));
        assert_eq!(Loose::from_word(0), None);
        pool.keep_loose(2, first).unwrap();
        assert!(pool.state(first.chunk).unwrap().is(Kind::Open), "it is another's");
        pool.keep_loose(1, first).unwrap();
        assert!(pool.state(first.chunk).unwrap().is(Kind::Lane));
        assert!(pool.loose_span(first).unwrap().is_some());
        pool.give_back_loose(first).unwrap();
        assert!(pool.loose_span(first).unwrap().is_none());
        // The next use of the same chunk is another one: who is late does nothing.
        let next = take();
        assert_eq!(next.chunk, first.chunk);
        pool.give_back_loose(first).unwrap();
        pool.keep_loose(1, first).unwrap();
        assert!(pool.state(next.chunk).unwrap().is(Kind::Open));
        // One that its taker has not kept yet is given back as well: who took it keeps nothing then.
        pool.give_back_loose(next).unwrap();
        pool.keep_loose(1, next).unwrap();
        assert_eq!((pool.free_count(), pool.state(next.chunk).unwrap().is_free()), (before, true));
    }

    #[test]
    fn who_takes_many_goes_on_behind_the_last_one_and_comes_round() {
        let (stage, pool) = Stage::pool(2, 64, 16 << 10);
        let me = stage.actor(1);
        let before = pool.free_count();
        let mut search = Search::default();
        let mut taken: Vec<_> = (0..8).map(|_| pool.take_loose(me, 7, &mut search).unwrap()).collect();
        assert!(taken.windows(2).all(|pair| pair[0].chunk.0 < pair[1].chunk.0));
        pool.drop_loose(me, taken.remove(0)).unwrap();
        let next = pool.take_loose(me, 7, &mut search).unwrap();
        assert!(next.chunk.0 > taken[6].chunk.0, "it does not look again at what is behind it");
        taken.push(next);
        // There is nothing above it any more, but one at the beginning.
        search.0 = u32::MAX;
        let round = pool.take_loose(me, 7, &mut search).unwrap();
        assert!(round.chunk.0 < taken[0].chunk.0);
        taken.push(round);
        while let Ok(more) = pool.take_loose(me, 7, &mut search) {
            taken.push(more);
        }
        assert_eq!(pool.free_count(), pool.must_stay(Need::Object), "as many as objects may have");
        taken.iter().for_each(|chunk| pool.drop_loose(me, *chunk).unwrap());
        assert_eq!(pool.free_count(), before);
    }
}
