//! The queues of a cache that evicts: its sealed chunks, in the order of their numbers, those of class `Small` and those of
//! class `Main`.
//!
//! Nothing of them is shared but the chunks themselves. Each process looks through all descriptors now and then and remembers
//! the oldest; what it remembers is proved by the state of the chunk when it is taken.

use std::collections::VecDeque;

use super::Table;
use crate::chunk::layout::{Dead, State, at};
use crate::chunk::{Actor, ChunkId, Class, Kind};
use crate::error::Result;
use crate::shm::atomic::Ordering;

/// The fewest and the most chunks of each kind that one search remembers.
const REMEMBER: std::ops::RangeInclusive<usize> = 16..=1024;
/// Chunks in the hands of others that a search for a victim passes.
const PASS: usize = 16;
/// Without progress for so long, a chunk is taken from the live thread that evicts from it: it is stopped.
#[cfg(not(memora_loom))]
const STOPPED_NS: u64 = 20_000_000;

/// A chunk as it was found.
#[derive(Clone, Copy, Debug)]
struct Remembered {
    chunk: ChunkId,
    generation: u32,
    /// For the order: the number of its use, or its dead bytes.
    key: u64,
}

/// What a process remembers of the queues.
#[derive(Default)]
pub(super) struct Queues {
    small: VecDeque<Remembered>,
    main: VecDeque<Remembered>,
    /// Chunks of mostly dead records that nobody has begun to evict from, the worst first.
    dirty: VecDeque<Remembered>,
    /// Chunks that were taken since the last search, and after how many there is another.
    taken: usize,
    enough: usize,
    /// A chunk in the hands of another thread, how far that had come, and when it was seen so.
    #[cfg(not(memora_loom))]
    watched: Option<(ChunkId, State, u64, u64)>,
}

/// Why records are walked over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To gain the room of the dead: what is live is kept as it is.
    Clean,
    /// To evict from the young ones.
    Small,
    /// To evict from the old ones.
    Main,
}

impl Purpose {
    pub(super) fn class(self) -> Class {
        if self == Purpose::Small { Class::Small } else { Class::Main }
    }
}

/// A chunk that the caller has taken to walk over, or a run, which is not taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Victim {
    pub chunk: ChunkId,
    /// Its state now.
    pub state: State,
    pub purpose: Purpose,
}

impl Queues {
    fn of(&mut self, purpose: Purpose) -> &mut VecDeque<Remembered> {
        match purpose {
            Purpose::Clean => &mut self.dirty,
            Purpose::Small => &mut self.small,
            Purpose::Main => &mut self.main,
        }
    }
}

impl Table {
    /// Takes the next chunk of a queue. `None` if none is remembered that can be had.
    pub(super) fn take_victim(
        &self,
        me: Actor<'_>,
        queues: &mut Queues,
        purpose: Purpose,
    ) -> Result<Option<Victim>> {
        let mut at = 0;
        while at < PASS {
            let Some(next) = queues.of(purpose).get(at).copied() else { break };
            let state = self.pool.state(next.chunk)?;
            let class = state.class().unwrap_or(Class::None);
            let right = state.generation() == next.generation
                && self.is_own(class)
                && (purpose == Purpose::Clean || class == purpose.class());
            let taken = match state.kind() {
                Some(Kind::Sealed) if right => self.pool.take_dirty(me, next.chunk, state)?,
                Some(Kind::RunHead) if right => {
                    queues.of(purpose).remove(at);
                    queues.taken += 1;
                    return Ok(Some(Victim { chunk: next.chunk, state, purpose }));
                }
                Some(Kind::Evicting) if right => {
                    if !self.may_take_over(me, queues, next.chunk, state)? {
                        at += 1;
                        continue;
                    }
                    self.pool.take_dirty(me, next.chunk, state)?
                }
                // It was filled on, or is gone.
                _ => {
                    queues.of(purpose).remove(at);
                    queues.taken += 1;
                    continue;
                }
            };
            if taken {
                let state = self.pool.state(next.chunk)?;
                return Ok(Some(Victim { chunk: next.chunk, state, purpose }));
            }
            at += 1;
        }
        Ok(None)
    }

    /// Whether a chunk may be taken from the thread that evicts from it: that is dead, or has not come on for long. Whatever it
    /// still does fails or does no harm.
    fn may_take_over(
        &self,
        me: Actor<'_>,
        queues: &mut Queues,
        chunk: ChunkId,
        state: State,
    ) -> Result<bool> {
        if state.owner() == me.index || self.pool.ground().thread_is_dead(state.owner()) {
            return Ok(true);
        }
        self.seems_stopped(queues, chunk, state)
    }

    #[cfg(not(memora_loom))]
    fn seems_stopped(&self, queues: &mut Queues, chunk: ChunkId, state: State) -> Result<bool> {
        let (now, position) =
            (crate::shm::time::monotonic_ns(), self.pool.clean_position(chunk, state.generation())?);
        match queues.watched {
            Some((watched, seen, was, since)) if (watched, seen, was) == (chunk, state, position) => {
                Ok(now.saturating_sub(since) >= STOPPED_NS)
            }
            _ => {
                queues.watched = Some((chunk, state, position, now));
                Ok(false)
            }
        }
    }

    #[cfg(memora_loom)]
    fn seems_stopped(&self, _queues: &mut Queues, _chunk: ChunkId, _state: State) -> Result<bool> {
        Ok(true)
    }

    /// The oldest chunk of the old ones, with how far it was walked over.
    pub(super) fn oldest_main(&self, queues: &Queues) -> Result<Option<(ChunkId, u64)>> {
        for next in queues.main.iter().take(PASS) {
            let state = self.pool.state(next.chunk)?;
            if state.generation() == next.generation && state.class() == Some(Class::Main) {
                let from = if state.is(Kind::RunHead) {
                    0
                } else {
                    self.pool.clean_position(next.chunk, next.generation)?
                };
                return Ok(Some((next.chunk, from)));
            }
        }
        Ok(None)
    }

    /// Whether enough was taken since the last search for another one.
    pub(super) fn search_is_due(&self, queues: &Queues) -> bool {
        queues.taken >= queues.enough
    }

    /// Looks through all chunks for those of the queues.
    pub(super) fn search_queues(&self, queues: &mut Queues) -> Result<()> {
        let (mut small, mut main, mut dirty) = (Vec::new(), Vec::new(), Vec::new());
        let mut used = 0;
        for chunk in self.pool.used_chunks() {
            used += 1;
            let state = self.pool.state(chunk)?;
            let Some(class) = state.class().filter(|class| self.is_own(*class)) else { continue };
            if !matches!(state.kind(), Some(Kind::Sealed | Kind::Evicting | Kind::RunHead)) {
                continue;
            }
            let descriptor = self.pool.descriptor(chunk)?;
            // ORDER Relaxed: written before the chunk was sealed; the dead bytes are an estimate.
            if descriptor.u32::<{ at::OBJECT }>().load(Ordering::Relaxed) != self.object {
                continue;
            }
            let dead = u64::from(Dead(descriptor.u64::<{ at::DEAD }>().load(Ordering::Relaxed)).bytes());
            let key = self.pool.queue_number(chunk, state)?;
            let found = Remembered { chunk, generation: state.generation(), key };
            // A run that goes into another use just now may show a tail that fits neither: it is found by the next search.
            let Ok(tail) = self.pool.tail(chunk) else { continue };
            // Below its position a chunk is dead because it was evicted from: that goes on as it began. What was never filled,
            // because a thread ended, is room as well.
            let whole = self.fill_of(class).min(self.pool.geometry().chunk_bytes);
            if state.is(Kind::Sealed)
                && (dead + whole.saturating_sub(tail)) * 3 > whole
                && self.pool.clean_position(chunk, state.generation())? == 0
            {
                dirty.push(Remembered { key: tail.saturating_sub(dead), ..found });
            }
            // Those of mostly dead records are in their queue as well.
            if class == Class::Small {
                small.push(found);
            } else {
                main.push(found);
            }
        }
        let many = (used / 32).clamp(*REMEMBER.start(), *REMEMBER.end());
        let oldest = |mut found: Vec<Remembered>| {
            if found.len() > many {
                found.select_nth_unstable_by_key(many, |found| found.key);
                found.truncate(many);
            }
            found.sort_unstable_by_key(|found| found.key);
            VecDeque::from(found)
        };
        (queues.small, queues.main, queues.dirty) = (oldest(small), oldest(main), oldest(dirty));
        (queues.taken, queues.enough) = (0, many / 2);
        Ok(())
    }
}
