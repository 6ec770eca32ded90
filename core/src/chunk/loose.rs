//! Single chunks that are named by their number and their generation, for an object that links them itself.
//!
//! A name belongs to one use of the chunk: once that has ended it names nothing, for ever, whoever uses the chunk next. So who gives
//! one back needs no permission but the knowledge that nobody needs it any more, and doing it twice, or late, is harmless.

use super::layout::{Class, Kind, State, at, pair, unpair};
use super::{Actor, ChunkId, Need, Pool};
use crate::error::Result;
use crate::shm::Span;
use crate::shm::atomic::Ordering;

/// Tries before giving up: each failed one is another's success.
const ROUNDS: u32 = 1000;

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

/// What became of a chunk that was to be given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GivenBack {
    /// That use of it has ended.
    Done,
    /// Who took it lives and has not kept it yet.
    Held,
}

impl Pool {
    /// Takes a chunk: open, the caller's alone until it is kept. If the caller dies before, the reaper asks whether its object names it.
    pub fn take_loose(&self, me: Actor<'_>, object: u32) -> Result<Loose> {
        // Where some are free none must be made so.
        let chunk = match self.take(me, Class::Lane, object, 1, Need::Object)? {
            Some(chunk) => chunk,
            None => self.allocate(me, Class::Lane, object, Need::Object)?,
        };
        Ok(Loose { chunk, generation: self.state(chunk)?.generation() })
    }

    /// The object names it: it is nobody's from here on.
    pub fn keep_loose(&self, me: Actor<'_>, loose: Loose) -> Result<()> {
        self.settle(me, loose.chunk)
    }

    /// Its bytes; None if that use of it has ended. Who reads them asks again afterwards, or knows that it has not.
    pub fn loose_span(&self, loose: Loose) -> Result<Option<Span<'_>>> {
        let seen = self.state(loose.chunk)?;
        if !is_use(seen, loose) { Ok(None) } else { self.span(loose.chunk).map(Some) }
    }

    /// Nobody needs it any more.
    pub fn give_back_loose(&self, loose: Loose) -> Result<GivenBack> {
        for _ in 0..ROUNDS {
            let seen = self.state(loose.chunk)?;
            if !is_use(seen, loose) {
                return Ok(GivenBack::Done);
            }
            if seen.is(Kind::Open) && !self.ground().thread_is_dead(seen.owner()) {
                return Ok(GivenBack::Held);
            }
            self.retire(loose.chunk, seen)?;
        }
        Ok(GivenBack::Held)
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
        let first = pool.take_loose(me, 7).unwrap();
        assert_eq!(Loose::from_word(first.word()), Some(first));
        assert_eq!(Loose::from_word(0), None);
        assert_eq!(pool.give_back_loose(first).unwrap(), GivenBack::Held, "its taker lives");
        pool.keep_loose(me, first).unwrap();
        assert!(pool.loose_span(first).unwrap().is_some());
        assert_eq!(pool.give_back_loose(first).unwrap(), GivenBack::Done);
        assert!(pool.loose_span(first).unwrap().is_none());
        // The next use of the same chunk is another one: who is late does nothing.
        let next = pool.take_loose(me, 7).unwrap();
        assert_eq!(next.chunk, first.chunk);
        assert_eq!(pool.give_back_loose(first).unwrap(), GivenBack::Done);
        assert!(pool.loose_span(next).unwrap().is_some());
        // That of the dead is given back by anybody.
        stage.kill(1);
        assert_eq!(pool.give_back_loose(next).unwrap(), GivenBack::Done);
        assert_eq!(pool.free_count(), before);
    }
}
