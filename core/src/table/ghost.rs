//! Ghosts: which keys were evicted lately without having been read. Who comes back so soon is worth keeping longer.
//!
//! A table of sets of eight words `{fingerprint 16 | age 16}`. It is a hint: words are loaded and stored plainly, and a key
//! that two threads put there at once, or that a fingerprint is mistaken for, costs a miss at worst. Ages count the keys that
//! were put there, in steps, so that they last for several turnovers; the oldest of a set makes room.

use super::Table;
use super::layout::control;
use crate::error::Result;
use crate::shm::Block;
use crate::shm::atomic::{AtomicU32, Ordering};

/// Words of a set.
const WAYS: usize = 8;
const SET_BYTES: usize = 4 * WAYS;
type Set<'a> = Block<'a, SET_BYTES>;
/// Steps that the age of all ghosts takes at most while all of them are replaced once.
const STEPS: u64 = 8192;

const fn word(fingerprint: u16, age: u16) -> u32 {
    fingerprint as u32 | (age as u32) << 16
}

/// A set and the fingerprint for a hash: bits that choose neither the slot nor the tag alone.
const fn place(hash: u64, sets: u64) -> (u64, u16) {
    let mixed = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let fingerprint = mixed as u16;
    (((mixed >> 32) * sets) >> 32, if fingerprint == 0 { 1 } else { fingerprint })
}

impl Table {
    fn ghost_set(&self, hash: u64) -> Result<Option<(Set<'_>, u64, u16)>> {
        let ghosts = self.ghosts()?;
        let sets = ghosts.len() / SET_BYTES as u64;
        if sets == 0 {
            return Ok(None);
        }
        let (set, fingerprint) = place(hash, sets);
        Ok(Some((ghosts.block(set * SET_BYTES as u64)?, sets * WAYS as u64, fingerprint)))
    }

    /// The age of what is put there now, and the oldest that counts.
    fn ghost_ages(&self, words: u64) -> (u16, u16) {
        // ORDER Relaxed: a clock of hints.
        let now = self.control().u64::<{ control::GHOSTS }>().load(Ordering::Relaxed);
        let step = (words / STEPS).max(1);
        let window = (self.eviction.ghost_window() / step).min(u64::from(u16::MAX / 2)) + 1;
        ((now / step) as u16, window as u16)
    }

    /// Whether the key was evicted lately; it is a ghost no longer.
    pub(super) fn take_ghost(&self, hash: u64) -> Result<bool> {
        let Some((set, words, fingerprint)) = self.ghost_set(hash)? else { return Ok(false) };
        let (now, window) = self.ghost_ages(words);
        for way in 0..WAYS {
            let ghost: &AtomicU32 = set.u32_at::<0>(way);
            // ORDER Relaxed: a hint, as all of these.
            let seen = ghost.load(Ordering::Relaxed);
            if seen as u16 == fingerprint && now.wrapping_sub((seen >> 16) as u16) <= window {
                ghost.store(0, Ordering::Relaxed);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The key was evicted.
    pub(super) fn put_ghost(&self, hash: u64) -> Result<()> {
        let Some((set, words, fingerprint)) = self.ghost_set(hash)? else { return Ok(()) };
        // ORDER Relaxed: as above.
        self.control().u64::<{ control::GHOSTS }>().fetch_add(1, Ordering::Relaxed);
        let (now, _) = self.ghost_ages(words);
        let mut oldest: Option<(u16, &AtomicU32)> = None;
        for way in 0..WAYS {
            let ghost: &AtomicU32 = set.u32_at::<0>(way);
            let seen = ghost.load(Ordering::Relaxed);
            if seen == 0 || seen as u16 == fingerprint {
                ghost.store(word(fingerprint, now), Ordering::Relaxed);
                return Ok(());
            }
            let age = now.wrapping_sub((seen >> 16) as u16);
            if oldest.is_none_or(|(most, _)| age > most) {
                oldest = Some((age, ghost));
            }
        }
        if let Some((_, ghost)) = oldest {
            ghost.store(word(fingerprint, now), Ordering::Relaxed);
        }
        Ok(())
    }
}
