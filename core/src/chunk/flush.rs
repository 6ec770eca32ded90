//! How far the journal has the chunks of a store: a mark in each descriptor, moved by whoever flushes.
//!
//! ```text
//! flushed = | position / 16 : 32 | generation 32 |      lowest bits first; a mark of another generation is position 0
//! ```
//! A chunk of a store is not cleaned before its mark has reached its tail: until then the journal may still have to be
//! told which keys changed in it.

use super::layout::{Class, Dead, Kind, at, pair, unpair};
use super::record::RECORD_ALIGN;
use super::{ChunkId, Pool};
use crate::error::Result;
use crate::shm::atomic::Ordering;

/// A chunk with records that the journal does not have.
#[derive(Clone, Copy, Debug)]
pub struct Unflushed {
    pub chunk: ChunkId,
    /// Whether its owner may still publish its last record, and append more.
    pub open: bool,
    /// The mark as it was found.
    mark: u64,
    generation: u32,
    /// Everything below is flushed.
    pub from: u64,
}

/// The position of a mark, for a chunk in `generation`.
const fn position(mark: u64, generation: u32) -> u64 {
    let (units, of) = unpair(mark);
    if of == generation { units as u64 * RECORD_ALIGN } else { 0 }
}

/// What a process knows of the chunks of a store, so that a flush need not look at all chunks of the fabric: as long as nobody has
/// begun a use of any chunk, only these can have records that the journal does not have.
#[derive(Default)]
pub struct Known {
    /// The last number that was given to a use of a chunk when they were found; 0 = never.
    numbers: u64,
    chunks: Vec<ChunkId>,
}

impl Pool {
    /// All chunks of a store with records that the journal does not have. `known` is what the last call for this object left there;
    /// an empty one will do.
    ///
    /// The state is read before the tail: a chunk that is given as not open has no more records than a walk finds.
    pub fn unflushed(&self, object: u32, known: &mut Known) -> Result<Vec<Unflushed>> {
        // ORDER Acquire [flush]: whoever drew a number up to this one had opened the chunk for it before, so it is seen
        // open below, or in what it became.
        let numbers = self.head().u64::<{ at::POOL_SEQUENCE }>().load(Ordering::Acquire);
        let before = std::mem::take(&mut known.chunks);
        let mut found = Vec::new();
        if numbers != 0 && numbers == known.numbers {
            for chunk in before {
                self.look(object, chunk, &mut known.chunks, &mut found)?;
            }
        } else {
            for chunk in self.used_chunks() {
                self.look(object, chunk, &mut known.chunks, &mut found)?;
            }
        }
        // Last: an error leaves a list that is not whole.
        known.numbers = numbers;
        Ok(found)
    }

    /// Adds a chunk to those that may have records for a flush now or later, and to those that have some.
    fn look(
        &self,
        object: u32,
        chunk: ChunkId,
        later: &mut Vec<ChunkId>,
        found: &mut Vec<Unflushed>,
    ) -> Result<()> {
        let state = self.state(chunk)?;
        let open = state.is(Kind::Open);
        if state.class() != Some(Class::Store)
            || !(open || state.is(Kind::Sealed) || state.is(Kind::Evicting))
        {
            return Ok(());
        }
        let descriptor = self.descriptor(chunk)?;
        // An open chunk may still carry the descriptor of its last use: its owner writes this word last.
        // ORDER Acquire [chunk-described]: the tail and the object are those of this use.
        let described = Dead(descriptor.u64::<{ at::DEAD }>().load(Ordering::Acquire)).generation();
        if open && described != state.generation() {
            later.push(chunk);
            return Ok(());
        }
        // ORDER Relaxed: ordered by the load before.
        if descriptor.u32::<{ at::OBJECT }>().load(Ordering::Relaxed) != object {
            return Ok(());
        }
        // ORDER Relaxed: only whoever flushes moves marks, by compare-and-swap from the value read here.
        let mark = descriptor.u64::<{ at::FLUSHED }>().load(Ordering::Relaxed);
        let from = position(mark, state.generation());
        let has = from < self.tail(chunk)?;
        if has {
            found.push(Unflushed { chunk, open, mark, generation: state.generation(), from });
        }
        // What is sealed gets no more records in this use, and a use that begins later draws a number.
        if has || open {
            later.push(chunk);
        }
        Ok(())
    }

    /// Moves the mark of a chunk; does nothing if it was moved since, or the chunk was reused.
    pub fn set_flushed(&self, seen: &Unflushed, to: u64) -> Result<()> {
        if to > seen.from {
            let word = pair((to / RECORD_ALIGN) as u32, seen.generation);
            // ORDER Release [flushed]: the files have what the mark covers; pairs with `may_be_cleaned`.
            let _ = self.descriptor(seen.chunk)?.u64::<{ at::FLUSHED }>().compare_exchange(
                seen.mark,
                word,
                Ordering::Release,
                Ordering::Relaxed,
            );
        }
        Ok(())
    }

    /// For checks: the position of a mark that lies behind the tail of a store's chunk.
    pub fn flushed_beyond_tail(&self, chunk: ChunkId, object: u32) -> Result<Option<u64>> {
        let state = self.state(chunk)?;
        let descriptor = self.descriptor(chunk)?;
        // ORDER Relaxed: both are only compared; the mark is loaded first and never passes the tail.
        let mark = position(descriptor.u64::<{ at::FLUSHED }>().load(Ordering::Relaxed), state.generation());
        let tail = self.tail(chunk)?;
        let of = descriptor.u32::<{ at::OBJECT }>().load(Ordering::Relaxed);
        let in_use = state.is(Kind::Open) || state.is(Kind::Sealed) || state.is(Kind::Evicting);
        let same = self.state(chunk)? == state;
        Ok((state.class() == Some(Class::Store) && of == object && in_use && same && mark > tail)
            .then_some(mark))
    }

    /// Whether the journal has the record that stands at `position` of the chunk, as far as its mark tells.
    pub fn is_flushed(&self, chunk: ChunkId, position_in_chunk: u64) -> Result<bool> {
        let generation = self.state(chunk)?.generation();
        // ORDER Acquire [flushed]: the files have what the mark covers.
        let mark = self.descriptor(chunk)?.u64::<{ at::FLUSHED }>().load(Ordering::Acquire);
        Ok(position_in_chunk < position(mark, generation))
    }

    /// Whether cleaning may reset this chunk: a store's chunk only when the journal has all of it.
    pub fn may_be_cleaned(&self, chunk: ChunkId, class: Class) -> Result<bool> {
        if class != Class::Store {
            return Ok(true);
        }
        let generation = self.state(chunk)?.generation();
        // ORDER Acquire [flushed]: the journal has written what the mark covers.
        let mark = self.descriptor(chunk)?.u64::<{ at::FLUSHED }>().load(Ordering::Acquire);
        Ok(position(mark, generation) >= self.tail(chunk)?)
    }
}

#[cfg(all(test, not(memora_loom)))]
mod tests {
    use super::super::Need;
    use super::super::record::Head;
    use super::super::testing::Stage;
    use super::*;
    use crate::chunk::append::Extension;

    #[test]
    fn a_chunk_is_cleaned_only_when_its_mark_has_reached_its_tail_and_a_mark_ends_with_its_generation() {
        let (stage, pool) = Stage::pool(1, 8, 4096);
        let me = stage.actor(1);
        pool.next_chunk(me, Class::Store, 7, Need::Growth).unwrap();
        let mut known = Known::default();
        let append = || {
            let place = pool.room(me, Class::Store, 7, 64).unwrap().expect("room");
            let head = Head { key_len: 1, value_len: 3, ..Head::default() };
            pool.append(place, &head, Some(&Extension::default()), b"k", b"abc").unwrap()
        };
        let first = append();
        let seen = pool.unflushed(7, &mut known).unwrap();
        assert_eq!(seen.len(), 1);
        assert!(seen[0].open && seen[0].from == 0 && seen[0].chunk == first.chunk);
        assert!(pool.unflushed(8, &mut Known::default()).unwrap().is_empty(), "of another object");
        assert!(!pool.may_be_cleaned(first.chunk, Class::Store).unwrap());
        pool.set_flushed(&seen[0], first.bytes).unwrap();
        assert!(pool.unflushed(7, &mut known).unwrap().is_empty());
        assert!(
            pool.is_flushed(first.chunk, 0).unwrap() && !pool.is_flushed(first.chunk, first.bytes).unwrap()
        );
        assert!(pool.may_be_cleaned(first.chunk, Class::Store).unwrap());
        append();
        let again = pool.unflushed(7, &mut known).unwrap();
        assert_eq!(again[0].from, first.bytes);
        // A late flusher that saw the older mark changes nothing.
        pool.set_flushed(&seen[0], 4000).unwrap();
        assert_eq!(pool.unflushed(7, &mut known).unwrap()[0].from, first.bytes);
        pool.put_away(me, 7).unwrap();
        let sealed = pool.unflushed(7, &mut known).unwrap()[0];
        assert!(!sealed.open);
        let tail = pool.tail(first.chunk).unwrap();
        pool.set_flushed(&sealed, tail).unwrap();
        let wish = crate::chunk::Wish { own: Some(7), own_gain: 0, other_gain: 0, press: false };
        let (victim, _) = pool.victim(me, &wish).unwrap().expect("flushed, so it may be cleaned");
        pool.cleaned(me, victim, 7).unwrap();
        // The chunk is used again: the late flusher's mark is of an older generation.
        pool.next_chunk(me, Class::Store, 7, Need::Growth).unwrap();
        let reused = append();
        pool.set_flushed(&sealed, 4000).unwrap();
        if reused.chunk == first.chunk {
            assert_eq!(pool.unflushed(7, &mut known).unwrap()[0].from, 0);
        }
        assert!(!pool.may_be_cleaned(reused.chunk, Class::Store).unwrap());
    }

    #[test]
    fn what_a_process_knows_of_chunks_holds_until_somebody_begins_a_use_of_one() {
        let (stage, pool) = Stage::pool(2, 8, 4096);
        let (me, other) = (stage.actor(1), stage.actor(2));
        let append = |me, value: &[u8]| {
            let place = pool.room(me, Class::Store, 7, 64).unwrap().expect("room");
            let head = Head { key_len: 1, value_len: value.len() as u32, ..Head::default() };
            pool.append(place, &head, Some(&Extension::default()), b"k", value).unwrap()
        };
        let mut known = Known::default();
        let chunks = |known: &mut Known| -> Vec<ChunkId> {
            pool.unflushed(7, known).unwrap().iter().map(|seen| seen.chunk).collect()
        };
        pool.next_chunk(me, Class::Store, 7, Need::Growth).unwrap();
        assert!(chunks(&mut known).is_empty(), "open, and nothing in it");
        let first = append(me, b"a");
        assert_eq!(chunks(&mut known), [first.chunk], "known to be open");
        pool.next_chunk(other, Class::Store, 7, Need::Growth).unwrap();
        let second = append(other, b"b");
        let mut both = chunks(&mut known);
        both.sort_by_key(|chunk| chunk.0);
        let mut expected = [first.chunk, second.chunk];
        expected.sort_by_key(|chunk| chunk.0);
        assert_eq!(both, expected, "begun since");
        pool.put_away(me, 7).unwrap();
        let sealed = pool.unflushed(7, &mut known).unwrap();
        let sealed = sealed.iter().find(|seen| seen.chunk == first.chunk).expect("sealed, not flushed");
        pool.set_flushed(sealed, pool.tail(first.chunk).unwrap()).unwrap();
        assert_eq!(chunks(&mut known), [second.chunk]);
        assert_eq!(known.chunks, [second.chunk], "what is sealed and flushed is not looked at again");
        append(other, b"c");
        assert_eq!(chunks(&mut known), [second.chunk]);
    }
}
