//! What the kernel proves about the holder of an entry.

use super::layout::{Kind, State, thread as thread_field};
use super::{NOBODY, Registry};
use crate::error::Result;
use crate::segment::locks::PROCESS_BASE;
use crate::shm::PAGE;
use crate::shm::atomic::{AtomicU32, Ordering};
use crate::shm::life::{self, Life, WORDS_PER_PAGE};

impl Registry {
    /// The page and the place in it of a thread's life word.
    pub(super) fn life_place(&self, thread: u16) -> (u64, u64) {
        let geometry = self.segment.geometry();
        let place = u64::from(thread);
        (geometry.life_offset + place / WORDS_PER_PAGE * PAGE, place % WORDS_PER_PAGE)
    }

    pub(super) fn life_word(&self, thread: u16) -> Result<&AtomicU32> {
        let (page, index) = self.life_place(thread);
        self.segment.shm().span(page, PAGE)?.u32(life::word_offset(index))
    }

    /// Whether the holder of a thread entry is gone for good: it will store nothing more. False for a stopped one, and for
    /// one of which nothing is proved yet.
    pub fn is_dead(&self, thread: u16) -> bool {
        self.proof(thread).unwrap_or(false)
    }

    /// The life word of an entry whose holder lives, made ready to be slept on, and what it holds.
    pub fn watch_life(&self, thread: u16) -> Option<(&AtomicU32, u32)> {
        let entry = self.thread_entry(thread).ok()?;
        if State::load(entry.u64::<{ thread_field::STATE }>()).kind() != Some(Kind::Live) {
            return None;
        }
        let word = self.life_word(thread).ok()?;
        life::watch(word).map(|value| (word, value))
    }

    fn proof(&self, thread: u16) -> Result<bool> {
        let entry = self.thread_entry(thread)?;
        let state = State::load(entry.u64::<{ thread_field::STATE }>());
        match state.kind() {
            // Everything it owned was taken over before the entry came to this.
            Some(Kind::Free | Kind::Lingering) => return Ok(true),
            // Its word may still be the dead one of the last holder: only the process decides.
            Some(Kind::Attaching | Kind::Holder) => return self.process_is_dead(state.process()),
            Some(Kind::Live) => {}
            None => return Ok(false),
        }
        // ORDER Relaxed: written before the state says Live, which was loaded above.
        if entry.u32::<{ thread_field::HAS_LIFE }>().load(Ordering::Relaxed) != 0 {
            match life::state(self.life_word(thread)?) {
                Life::Dead => return Ok(true),
                Life::Held => return Ok(false),
                // Between attaching or leaving and the change of state: the process decides.
                Life::Free => {}
            }
        }
        self.process_is_dead(state.process())
    }

    /// Whether no descriptor of the process holds its byte any more.
    pub(super) fn process_is_dead(&self, process: u32) -> Result<bool> {
        if process == self.process() || process == NOBODY {
            return Ok(false);
        }
        match self.segment.locks() {
            Some(locks) => Ok(!locks.is_locked(PROCESS_BASE + i64::from(process))?),
            None => Ok(false),
        }
    }
}
