//! What was done to a cache, counted by those who did it.
//!
//! Each thread entry has two lines in the aux area. The first is stored by the entry's holder alone, by plain loads and
//! stores, and counts for ever, through all its holders: the sum of these lines is what was done to the cache, exactly,
//! whoever died when. When an entry is given up, or reaped, its counts are copied to the second line, from which the next
//! holder's are told apart. Copying may be repeated: who is killed in the middle of it leaves an entry that is to be reaped,
//! and the reaper copies once more.

use super::Table;
use super::layout::control;
use crate::chunk::Kind;
use crate::chunk::layout::at;
use crate::error::Result;
use crate::shm::atomic::{AtomicU64, Ordering};

/// Words of a line.
const WORDS: usize = 8;
/// In the word of [`Count::Set`]: the holder has taken a place for an entry that is not yet in a slot.
const PLACE: u64 = 1 << 63;
/// Bytes of both lines of a thread entry.
pub const LINES_BYTES: u64 = 2 * 8 * WORDS as u64;
/// An offset that lies in no space: where a table has no lines.
pub(super) const NO_LINES: u64 = 1 << 62;

/// What is counted: the places in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Count {
    /// A key was read that was there.
    Hit = 0,
    /// A key was read that was not there.
    Miss = 1,
    /// An entry was stored, by whatever operation: also by appending, counting or touching.
    Set = 2,
    /// An entry was deleted.
    Delete = 3,
    /// An entry was evicted from among the young.
    EvictSmall = 4,
    /// An entry was evicted from among the old.
    EvictMain = 5,
    /// An expired entry was removed.
    Expire = 6,
    /// An entry that a flush had made invisible was removed.
    Flush = 7,
}

/// What was done, by one thread or by all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts(pub [u64; WORDS]);

impl Counts {
    /// How often.
    pub fn of(&self, what: Count) -> u64 {
        self.0[what as usize]
    }

    fn plus(self, other: Counts) -> Counts {
        Counts(std::array::from_fn(|place| self.0[place].wrapping_add(other.0[place])))
    }

    /// What was done since `base`; damaged content may make that negative.
    fn since(self, base: Counts) -> Counts {
        Counts(std::array::from_fn(|place| self.0[place].saturating_sub(base.0[place])))
    }
}

/// Chunks of records by what is done with them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChunkStates {
    /// Threads append to them.
    pub open: u64,
    /// They are full.
    pub sealed: u64,
    /// They are being cleaned, or evicted from.
    pub cleaning: u64,
    /// They hold nothing any more and wait for views to end.
    pub quiet: u64,
}

impl Table {
    /// Where the lines begin, if there is a pair for each of `threads` thread entries.
    pub(super) fn lines_at(start: u64, bytes: u64, threads: u64) -> u64 {
        if bytes != 0 && bytes / LINES_BYTES >= threads { start } else { NO_LINES }
    }

    /// Counts for the holder of a thread entry; nothing for entry 0, which is nobody's, and in a table that counts nothing.
    #[inline(always)]
    pub fn note(&self, thread: u16, what: Count, by: u64) {
        if thread == 0 {
            return;
        }
        if let Some(line) = self.shm.view::<{ 8 * WORDS }>(self.lines + u64::from(thread) * LINES_BYTES) {
            let word = line.u64_at::<0>(what as usize);
            // ORDER Relaxed: only the entry's holder stores it; others only look. What the last holder stored is seen by the
            // state of the entry.
            word.store(word.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
        }
    }

    fn line(&self, thread: u16, second: bool) -> Option<[&AtomicU64; WORDS]> {
        let offset = self.lines + u64::from(thread) * LINES_BYTES + u64::from(second) * LINES_BYTES / 2;
        let line = self.shm.view::<{ 8 * WORDS }>(offset)?;
        Some(std::array::from_fn(|place| line.u64_at::<0>(place)))
    }

    fn load(words: [&AtomicU64; WORDS]) -> Counts {
        // ORDER Relaxed: figures that change meanwhile.
        Counts(words.map(|word| word.load(Ordering::Relaxed) & !PLACE))
    }

    /// The holder of a thread entry has taken a place among a limited number of entries, or has used it or given it back.
    pub(super) fn hold_place(&self, thread: u16, taken: bool) {
        let Some(line) = self.line(thread, false).filter(|_| thread != 0) else { return };
        let word = line[Count::Set as usize];
        // ORDER Relaxed: only the entry's holder stores it.
        let counted = word.load(Ordering::Relaxed) & !PLACE;
        // ORDER Release [places]: the entry is in its slot, or its place was given back, before it says so.
        word.store(if taken { counted | PLACE } else { counted }, Ordering::Release);
    }

    /// Places that holders of thread entries have taken and not yet used or given back.
    pub(super) fn places_held(&self) -> u64 {
        let threads = self.pool.ground().thread_limit() as u16;
        let lines = (1..threads).filter_map(|thread| self.line(thread, false));
        // ORDER Acquire [places]: who is seen to have none any more has its entry in a slot, or gave its place back.
        lines.filter(|line| line[Count::Set as usize].load(Ordering::Acquire) & PLACE != 0).count() as u64
    }

    /// The entry's holder leaves, or is dead: what it did is told apart from what the next one does, and it holds nothing.
    pub fn close_line(&self, thread: u16) {
        self.unlock_sample(thread);
        if let (Some(line), Some(base)) = (self.line(thread, false), self.line(thread, true)) {
            for (counted, base) in line.into_iter().zip(base) {
                kill_point!("table.stats.before_close");
                // ORDER Relaxed: nobody stores to either while the entry is being given up; its state orders them.
                let seen = counted.load(Ordering::Relaxed) & !PLACE;
                base.store(seen, Ordering::Relaxed);
                counted.store(seen, Ordering::Relaxed);
            }
        }
    }

    /// What the present holder of a thread entry did.
    pub fn counts_of(&self, thread: u16) -> Counts {
        match (self.line(thread, false), self.line(thread, true)) {
            (Some(line), Some(base)) => Self::load(line).since(Self::load(base)),
            _ => Counts::default(),
        }
    }

    /// What the holders of several entries did.
    pub fn counts_of_all(&self, threads: &[u16]) -> Counts {
        threads.iter().fold(Counts::default(), |sum, thread| sum.plus(self.counts_of(*thread)))
    }

    /// What was done to the cache since it was made.
    pub fn counts(&self) -> Counts {
        let threads = self.pool.ground().thread_limit() as u16;
        let lines = (1..threads).filter_map(|thread| self.line(thread, false));
        lines.fold(Counts::default(), |sum, line| sum.plus(Self::load(line)))
    }

    /// How old evicted entries were, small and main, in milliseconds.
    pub fn evicted_ages(&self) -> [Option<u64>; 2] {
        [false, true].map(|main| {
            // ORDER Relaxed: a figure.
            self.age_word(main).and_then(|word| word.load(Ordering::Relaxed).checked_sub(1))
        })
    }

    /// Entries were evicted that were `age_ms` old.
    pub fn note_evicted_age(&self, main: bool, age_ms: u64) {
        if let Some(word) = self.age_word(main) {
            // ORDER Relaxed: a moving mean, of which a race loses a part.
            let mean = match word.load(Ordering::Relaxed).checked_sub(1) {
                Some(mean) => mean - mean / 8 + age_ms / 8,
                None => age_ms,
            };
            word.store(mean.saturating_add(1), Ordering::Relaxed);
        }
    }

    fn age_word(&self, main: bool) -> Option<&AtomicU64> {
        let has_ages = self.class.is_cache() && !cfg!(memora_loom);
        let block = has_ages.then(|| self.shm.view::<16>(self.control + control::AGES))??;
        Some(block.u64_at::<0>(usize::from(main)))
    }

    /// The chunks of the table's records.
    pub fn chunk_states(&self) -> Result<ChunkStates> {
        let mut states = ChunkStates::default();
        for chunk in self.pool.used_chunks() {
            let state = self.pool.state(chunk)?;
            // ORDER Relaxed: figures.
            let object = self.pool.descriptor(chunk)?.u32::<{ at::OBJECT }>().load(Ordering::Relaxed);
            if object != self.object || !state.class().is_some_and(|class| class.has_records()) {
                continue;
            }
            match state.kind() {
                Some(Kind::Open) => states.open += 1,
                Some(Kind::Sealed | Kind::RunHead | Kind::RunContinued) => states.sealed += 1,
                Some(Kind::Evicting) => states.cleaning += 1,
                Some(Kind::Quiesce) => states.quiet += 1,
                _ => {}
            }
        }
        Ok(states)
    }
}
