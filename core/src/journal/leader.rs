//! Leadership: one word that says who flushes (or checkpoints, or recovers), fenced by a term.
//!
//! ```text
//! word = | term 20 | owner 12 | beat 32 |      owner = thread index, 0 nobody
//! ```
//!
//! Free (`owner` 0): whoever swaps itself in leads, in the same term. Held: the owner's death, proved by the kernel, or a
//! beat that did not change for one second, lets another swap itself in **with the next term**. A leader that was only
//! stopped finds the term changed. It is never trusted to notice in time: everything it may still do in its old term is
//! harmless, because it writes to files of that term and changes shared words only by a compare-and-swap whose expected
//! value a successor has changed, or after it has seen, *behind* its sync, that it still leads.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::lsn::Lsn;
use crate::error::{Error, ErrorCode, Result};
use crate::shm::atomic::{AtomicU64, Ordering};

/// A leader whose beat did not change for this long is taken for stopped and deposed.
pub const BEAT_PATIENCE: Duration = Duration::from_secs(1);

/// The word as a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaderWord(pub u64);

impl LeaderWord {
    fn new(term: u32, owner: u16, beat: u32) -> LeaderWord {
        LeaderWord(u64::from(term & Lsn::PART_MAX) << 44 | u64::from(owner & 0xfff) << 32 | u64::from(beat))
    }

    /// A free word of a term.
    pub fn free(term: u32) -> LeaderWord {
        LeaderWord::new(term, 0, 0)
    }

    /// The reign.
    pub fn term(self) -> u32 {
        (self.0 >> 44) as u32
    }

    /// Thread index of the leader; 0 = nobody.
    pub fn owner(self) -> u16 {
        (self.0 >> 32) as u16 & 0xfff
    }

    fn beat(self) -> u32 {
        self.0 as u32
    }
}

/// What this process last saw of a foreign leader: private, because time observed by others proves nothing here.
pub struct Watch(Mutex<Seen>);

struct Seen {
    word: u64,
    since: Instant,
    /// Grows with each leader that was deposed for its silence while nothing got done: where a sync takes longer than the
    /// patience, leaders would depose each other for ever.
    factor: u32,
    progress: u64,
}

impl Watch {
    /// Has seen nothing yet.
    pub fn new() -> Watch {
        Watch(Mutex::new(Seen { word: 0, since: Instant::now(), factor: 1, progress: 0 }))
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Whether the word has stood unchanged before our eyes for longer than is to be borne.
    fn is_silent(&self, word: u64) -> bool {
        let mut seen = self.seen();
        if seen.word != word {
            (seen.word, seen.since) = (word, Instant::now());
        }
        seen.since.elapsed() >= BEAT_PATIENCE * seen.factor
    }

    /// A silent leader was deposed.
    fn deposed(&self) {
        let mut seen = self.seen();
        seen.factor = (seen.factor * 2).min(64);
    }

    /// Tells what leaders have achieved so far: if it grew, the patience is as at first.
    pub fn progress(&self, achieved: u64) {
        let mut seen = self.seen();
        if seen.progress != achieved {
            (seen.progress, seen.factor) = (achieved, 1);
        }
    }
}

/// Leadership held by this thread.
pub struct Reign<'a> {
    word: &'a AtomicU64,
    me: u16,
    term: u32,
}

/// Tries to become leader. `None`: somebody else leads and is alive as far as can be told.
///
/// The calling thread is never already leader by this word, so its own index there is a former owner's.
pub fn claim<'a>(
    word: &'a AtomicU64,
    me: u16,
    is_dead: &dyn Fn(u16) -> bool,
    watch: &Watch,
    always_next_term: bool,
) -> Result<Option<Reign<'a>>> {
    loop {
        // ORDER Acquire [leader-word]: what the former leader stored before it let go.
        let seen = LeaderWord(word.load(Ordering::Acquire));
        let free = seen.owner() == 0;
        let mut silent = false;
        if !free && seen.owner() != me && !is_dead(seen.owner()) {
            silent = watch.is_silent(seen.0);
            if !silent {
                return Ok(None);
            }
        }
        let term = if free && !always_next_term { seen.term() } else { seen.term() + 1 };
        if term > Lsn::PART_MAX {
            return Err(Error::new(ErrorCode::Full, "All terms of the journal are used up."));
        }
        let next = LeaderWord::new(term, me, seen.beat().wrapping_add(1));
        // ORDER AcqRel [leader-word]: takes over what the former leader released; nobody else leads in this term.
        if word.compare_exchange(seen.0, next.0, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            if silent {
                watch.deposed();
            }
            return Ok(Some(Reign { word, me, term }));
        }
        crate::shm::atomic::spin_hint();
    }
}

/// Takes leadership away from a thread that is proven dead: nobody leads, in the next term.
pub fn inherit(word: &AtomicU64, dead: u16) {
    let seen = LeaderWord(word.load(Ordering::Acquire));
    if dead != 0 && seen.owner() == dead && seen.term() < Lsn::PART_MAX {
        let next = LeaderWord::new(seen.term() + 1, 0, seen.beat().wrapping_add(1));
        // ORDER AcqRel [leader-word]: as a claim; a lost race means that somebody took over already.
        let _ = word.compare_exchange(seen.0, next.0, Ordering::AcqRel, Ordering::Relaxed);
    }
}

impl Reign<'_> {
    /// The term of this reign.
    pub fn term(&self) -> u32 {
        self.term
    }

    /// Whether this thread still leads.
    pub fn holds(&self) -> bool {
        // ORDER Acquire [leader-word]: a successor's claim is seen before anything that it did.
        let seen = LeaderWord(self.word.load(Ordering::Acquire));
        seen.term() == self.term && seen.owner() == self.me
    }

    /// Lets go of a term in which nothing was done: the next leader takes the same one, because terms are limited.
    pub fn give_back(self) {
        let seen = LeaderWord(self.word.load(Ordering::Acquire));
        if seen.term() == self.term && seen.owner() == self.me {
            let next = LeaderWord::new(self.term.saturating_sub(1), 0, seen.beat().wrapping_add(1));
            // ORDER AcqRel [leader-word]: as a release; nobody has led in this term.
            let _ = self.word.compare_exchange(seen.0, next.0, Ordering::AcqRel, Ordering::Relaxed);
        }
    }

    /// Shows that this thread moves. False: it was deposed and must stop.
    pub fn beat(&self) -> bool {
        let seen = LeaderWord(self.word.load(Ordering::Acquire));
        if seen.term() != self.term || seen.owner() != self.me {
            return false;
        }
        let next = LeaderWord::new(self.term, self.me, seen.beat().wrapping_add(1));
        self.word.compare_exchange(seen.0, next.0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

impl Drop for Reign<'_> {
    /// Lets go, in the same term; nothing if somebody took over.
    fn drop(&mut self) {
        let seen = LeaderWord(self.word.load(Ordering::Acquire));
        if seen.term() == self.term && seen.owner() == self.me {
            let next = LeaderWord::new(self.term, 0, seen.beat().wrapping_add(1));
            // ORDER AcqRel [leader-word]: releases all that this reign stored to the next leader.
            let _ = self.word.compare_exchange(seen.0, next.0, Ordering::AcqRel, Ordering::Relaxed);
        }
    }
}

#[cfg(all(test, not(memora_loom)))]
mod tests {
    use super::*;

    fn alive(_: u16) -> bool {
        false
    }

    #[test]
    fn a_released_word_is_taken_in_the_same_term_and_a_held_one_is_not_taken() {
        let word = AtomicU64::new(LeaderWord::free(3).0);
        let watch = Watch::new();
        let first = claim(&word, 5, &alive, &watch, false).unwrap().expect("free");
        assert_eq!(first.term(), 3);
        assert!(claim(&word, 6, &alive, &watch, false).unwrap().is_none());
        assert!(first.beat() && first.holds());
        drop(first);
        assert_eq!(claim(&word, 6, &alive, &watch, false).unwrap().expect("released").term(), 3);
    }

    #[test]
    fn the_dead_and_the_stopped_are_deposed_by_the_next_term_and_can_do_nothing_after() {
        let word = AtomicU64::new(LeaderWord::free(3).0);
        let watch = Watch::new();
        let sleeper = claim(&word, 5, &alive, &watch, false).unwrap().expect("free");
        let next = claim(&word, 6, &|thread| thread == 5, &watch, false).unwrap().expect("owner is dead");
        assert_eq!(next.term(), 4);
        assert!(!sleeper.holds() && !sleeper.beat());
        drop(sleeper);
        assert!(next.holds(), "the late release of the old leader changes nothing");
        // Stopped: seen once, then unchanged for the whole patience.
        assert!(claim(&word, 7, &alive, &watch, false).unwrap().is_none());
        watch.0.lock().unwrap().since -= BEAT_PATIENCE;
        assert_eq!(claim(&word, 7, &alive, &watch, false).unwrap().expect("stopped").term(), 5);
        assert!(!next.holds());
    }

    #[test]
    fn where_nothing_gets_done_each_deposition_takes_longer() {
        let word = AtomicU64::new(LeaderWord::free(1).0);
        let watch = Watch::new();
        for (round, factor) in [1u32, 2, 4].into_iter().enumerate() {
            let slow = claim(&word, 5, &alive, &watch, false).unwrap().expect("free");
            assert!(claim(&word, 7, &alive, &watch, false).unwrap().is_none());
            watch.0.lock().unwrap().since -= BEAT_PATIENCE * factor - Duration::from_millis(500);
            assert!(claim(&word, 7, &alive, &watch, false).unwrap().is_none(), "round {round}");
            watch.0.lock().unwrap().since -= Duration::from_millis(500);
            drop(claim(&word, 7, &alive, &watch, false).unwrap().expect("silent for long enough"));
            assert!(!slow.holds());
        }
        watch.progress(1);
        assert_eq!(watch.0.lock().unwrap().factor, 1);
    }

    #[test]
    fn a_beat_renews_the_patience_and_inheritance_frees_the_word_in_the_next_term() {
        let word = AtomicU64::new(LeaderWord::free(1).0);
        let watch = Watch::new();
        let leader = claim(&word, 5, &alive, &watch, false).unwrap().expect("free");
        assert!(claim(&word, 7, &alive, &watch, false).unwrap().is_none());
        watch.0.lock().unwrap().since -= BEAT_PATIENCE;
        assert!(leader.beat());
        assert!(claim(&word, 7, &alive, &watch, false).unwrap().is_none(), "it moved");
        inherit(&word, 9);
        assert!(leader.holds(), "another thread died");
        inherit(&word, 5);
        assert!(!leader.holds());
        assert_eq!(
            LeaderWord(word.load(Ordering::Relaxed)),
            LeaderWord::new(2, 0, LeaderWord(word.load(Ordering::Relaxed)).beat())
        );
        assert_eq!(
            claim(&word, 7, &alive, &watch, true).unwrap().expect("free").term(),
            3,
            "asked for a new term"
        );
    }
}
