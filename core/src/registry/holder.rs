//! Entries that keep the pins of a process's views.
//!
//! A holder is an entry of the thread table that no thread has: it owns nothing but its pins. It has no life word: the lock
//! of its process proves its death. Whoever frees chunks looks at its pins as at those of a thread.

use super::Registry;
use super::layout::{Kind, State, thread as field};
use crate::error::{Error, ErrorCode, Result};
use crate::shm::Block;

impl Registry {
    /// Claims an entry for views of this process. `None` when `most` entries are holders, or no entry is free: threads need
    /// them more.
    pub fn claim_holder(&self, most: u32) -> Result<Option<u16>> {
        let holders = self
            .each_claimed_thread()
            .filter(|index| self.thread_state(*index).is_ok_and(|state| state.kind() == Some(Kind::Holder)))
            .count();
        if !self.has_entered() || holders as u32 >= most {
            return Ok(None);
        }
        let Some(index) = self.claim_thread(self.process())? else { return Ok(None) };
        kill_point!("registry.holder.claimed");
        let word = self.thread_entry(index)?.u64::<{ field::STATE }>();
        let seen = State::load(word);
        let holder = State::new(Kind::Holder, self.process(), seen.generation());
        if seen.kind() != Some(Kind::Attaching)
            || seen.process() != self.process()
            || !State::change(word, seen, holder)
        {
            return Err(Error::new(ErrorCode::Corrupt, format!("Thread entry {index} was taken from us.")));
        }
        // DIES AFTER: the reaper of the process clears the pins and frees the entry.
        kill_point!("registry.holder.live");
        Ok(Some(index))
    }

    /// The pins of a holder.
    pub fn holder_pins(&self, index: u16) -> Result<Block<'_, 32>> {
        Ok(self.thread_entry(index)?.part::<{ field::PINS }, 32>())
    }

    /// Gives back a holder of this process; its pins hold nothing any more.
    pub fn free_holder(&self, index: u16) -> Result<()> {
        let entry = self.thread_entry(index)?;
        let word = entry.u64::<{ field::STATE }>();
        let seen = State::load(word);
        if seen.kind() == Some(Kind::Holder) && seen.process() == self.process() {
            entry.span().zero(field::PINS as u64, field::STATE as u64)?;
            kill_point!("registry.holder.before_free");
            State::change(word, seen, seen.freed());
            kill_point!("registry.holder.freed");
        }
        Ok(())
    }
}
