//! Taking over from the dead.
//!
//! Anybody may reap. A reaper holds the lock on the dead one's byte while it works: others skip it, and if the reaper dies
//! the kernel drops the lock and the next one starts again. Every step may be repeated.

use super::layout::{Kind, State, thread as field};
use super::{Heir, Registry};
use crate::error::Result;
use crate::segment::locks::{PROCESS_BASE, THREAD_BASE};
use crate::shm::atomic::Ordering;
use crate::shm::life::{self, Life};

/// What a reaping did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReapReport {
    /// Dead processes whose entries are free now.
    pub processes: u32,
    /// Dead threads whose entries are free now.
    pub threads: u32,
}

impl Registry {
    /// Takes over from every process and thread that the kernel proves dead.
    pub fn reap(&self, heir: &dyn Heir) -> Result<ReapReport> {
        let mut report = ReapReport::default();
        let Some(locks) = self.segment.locks() else { return self.reap_lingering().map(|()| report) };
        // Another thread of this process is at it: it does the same.
        let Ok(_only) = self.reaping.try_lock() else { return Ok(report) };
        // What cannot be taken over because content is damaged does not keep the rest from being taken over.
        let mut failure = None;
        for index in self.each_thread() {
            let state = self.thread_state(index)?;
            // The word of an attaching thread may still be the dead one of the last holder: its process decides.
            if state.kind() == Some(Kind::Live) && self.life_ended(index)? {
                match self.reap_thread(index, state, heir) {
                    Ok(done) => report.threads += u32::from(done),
                    Err(error) => failure = Some(error),
                }
            }
        }
        for process in 0..self.process_count() {
            if process == self.process() {
                continue;
            }
            let word = self.process_word(process)?;
            if State::load(word).kind() != Some(Kind::Live)
                || !locks.try_lock(PROCESS_BASE + i64::from(process))?
            {
                continue;
            }
            // The lock is ours, so the process is gone and nobody takes its entry. Read again what may have changed.
            let seen = State::load(word);
            if seen.kind() == Some(Kind::Live) {
                kill_point!("registry.reap.process_locked");
                match self.reap_threads_of(process, heir, &mut report) {
                    Ok(true) => {
                        kill_point!("registry.reap.before_process_free");
                        if State::change(word, seen, seen.freed()) {
                            kill_point!("registry.reap.process_freed");
                            report.processes += 1;
                        }
                    }
                    // Another reaper is at one of its threads.
                    Ok(false) => {}
                    Err(error) => failure = Some(error),
                }
            }
            locks.unlock(PROCESS_BASE + i64::from(process));
        }
        self.reap_lingering()?;
        failure.map_or(Ok(report), Err)
    }

    /// Takes over from all threads of a process whose lock we hold. False if some are left to another reaper.
    fn reap_threads_of(&self, process: u32, heir: &dyn Heir, report: &mut ReapReport) -> Result<bool> {
        let mut all = true;
        for index in self.each_thread() {
            let state = self.thread_state(index)?;
            if state.process() == process
                && matches!(state.kind(), Some(Kind::Live | Kind::Attaching | Kind::Holder))
            {
                let done = self.reap_thread(index, state, heir)?;
                report.threads += u32::from(done);
                all &= done;
            }
        }
        Ok(all)
    }

    /// Whether the life word of an entry says that its holder ended.
    fn life_ended(&self, index: u16) -> Result<bool> {
        // ORDER Relaxed: written before the state that the caller loaded.
        let has_life = self.thread_entry(index)?.u32::<{ field::HAS_LIFE }>().load(Ordering::Relaxed) != 0;
        Ok(has_life && life::state(self.life_word(index)?) == Life::Dead)
    }

    /// Takes over from one dead thread. False if another reaper is at it.
    fn reap_thread(&self, index: u16, seen: State, heir: &dyn Heir) -> Result<bool> {
        let entry = self.thread_entry(index)?;
        let word = entry.u64::<{ field::STATE }>();
        let done = self.alone_at(index, || {
            if State::load(word) != seen {
                return Ok(());
            }
            kill_point!("registry.reap.thread_locked");
            heir.inherit(index)?;
            kill_point!("registry.reap.thread_inherited");
            entry.span().zero(field::PINS as u64, field::STATE as u64)?;
            kill_point!("registry.reap.before_thread_free");
            State::change(word, seen, seen.freed());
            kill_point!("registry.reap.thread_freed");
            // ORDER Relaxed: a count; whoever keeps derived figures only asks whether it changed.
            self.segment.reaped().fetch_add(1, Ordering::Relaxed);
            Ok(())
        })?;
        Ok(done.is_some())
    }

    /// Acts on an entry whose holder does not, with its lock; `None` if somebody else is at it. Without that a reaper which
    /// was slow would take over from the entry's next holder.
    pub(super) fn alone_at<T>(&self, index: u16, act: impl FnOnce() -> Result<T>) -> Result<Option<T>> {
        let Some(locks) = self.segment.locks() else { return act().map(Some) };
        if !locks.try_lock(THREAD_BASE + i64::from(index))? {
            return Ok(None);
        }
        let result = act();
        locks.unlock(THREAD_BASE + i64::from(index));
        result.map(Some)
    }

    /// Frees entries whose threads have let go by now.
    fn reap_lingering(&self) -> Result<()> {
        for index in self.each_thread() {
            let word = self.thread_entry(index)?.u64::<{ field::STATE }>();
            let seen = State::load(word);
            if seen.kind() == Some(Kind::Lingering) && life::state(self.life_word(index)?) != Life::Held {
                State::change(word, seen, seen.freed());
            }
        }
        Ok(())
    }
}
