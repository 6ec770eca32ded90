//! Entering and leaving as a process.

use super::layout::{Kind, State, process as field};
use super::{NOBODY, Registry};
use crate::error::{Error, ErrorCode, Result};
use crate::segment::locks::PROCESS_BASE;
use crate::shm::atomic::Ordering;
use crate::shm::time;

/// An attached process, for people. Nothing is ever decided by these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessInfo {
    /// Index of its entry.
    pub index: u32,
    /// Its pid in its own PID namespace.
    pub pid: u32,
    /// Its effective user.
    pub uid: u32,
    /// Inode of its PID namespace.
    pub namespace: u64,
    /// Milliseconds since it attached.
    pub attached_ms: u64,
    /// The first bytes of its command.
    pub command: String,
    /// Threads attached.
    pub threads: u32,
    /// Whether the kernel says that it is gone; it will be reaped.
    pub dead: bool,
}

impl Registry {
    /// Takes a process entry. `TooManyProcesses` if none is free: reap, then try again.
    pub fn enter_process(&self) -> Result<()> {
        if !self.segment.shm().writable() {
            return Err(ErrorCode::ReadOnly.into());
        }
        for index in 0..self.process_count() {
            let entry = self.process_entry(index)?;
            let word = entry.u64::<{ field::STATE }>();
            let seen = State::load(word);
            if seen.kind() != Some(Kind::Free) {
                continue;
            }
            if let Some(locks) = self.segment.locks()
                && !locks.try_lock(PROCESS_BASE + i64::from(index))?
            {
                continue;
            }
            // DIES: the kernel drops the lock; the entry is still free.
            kill_point!("registry.process.locked");
            // ORDER Relaxed: the entry is ours by the lock; the change of state releases these.
            entry.u32::<{ field::PID }>().store(std::process::id(), Ordering::Relaxed);
            entry.u32::<{ field::UID }>().store(nix::unistd::geteuid().as_raw(), Ordering::Relaxed);
            entry.u64::<{ field::ATTACHED_MS }>().store(time::boot_ms(), Ordering::Relaxed);
            entry.u64::<{ field::NAMESPACE }>().store(pid_namespace(), Ordering::Relaxed);
            let mut command = [0; field::COMMAND_BYTES];
            let text = std::fs::read("/proc/self/comm").unwrap_or_default();
            let text = text.trim_ascii();
            let len = text.len().min(command.len());
            command[..len].copy_from_slice(&text[..len]);
            entry.span().copy_in(field::COMMAND as u64, &command)?;
            if State::change(word, seen, State::new(Kind::Live, index, seen.generation())) {
                // DIES AFTER: an entry whose lock is free: reaped by anybody.
                kill_point!("registry.process.live");
                self.process.store(index, Ordering::Relaxed);
                return Ok(());
            }
            if let Some(locks) = self.segment.locks() {
                locks.unlock(PROCESS_BASE + i64::from(index));
            }
        }
        Err(Error::new(
            ErrorCode::TooManyProcesses,
            format!("All {} process entries are taken.", self.process_count()),
        ))
    }

    /// Whether this process has an entry.
    pub fn has_entered(&self) -> bool {
        self.process() != NOBODY
    }

    /// Gives up the process entry, after all its threads were left.
    pub(super) fn leave_process(&self) -> Result<()> {
        let index = self.process();
        if index == NOBODY {
            return Ok(());
        }
        let word = self.process_word(index)?;
        let seen = State::load(word);
        kill_point!("registry.process.before_free");
        State::change(word, seen, seen.freed());
        kill_point!("registry.process.freed");
        self.process.store(NOBODY, Ordering::Relaxed);
        if let Some(locks) = self.segment.locks() {
            locks.unlock(PROCESS_BASE + i64::from(index));
        }
        Ok(())
    }

    /// Pid of the process of a thread entry, in its own PID namespace; for people.
    pub fn pid_of(&self, thread: u16) -> Option<u32> {
        let state = self.thread_state(thread).ok()?;
        let known = matches!(state.kind(), Some(Kind::Live | Kind::Attaching));
        let entry = self.process_entry(state.process()).ok().filter(|_| known)?;
        // ORDER Relaxed: for people to read.
        Some(entry.u32::<{ field::PID }>().load(Ordering::Relaxed))
    }

    /// The attached processes.
    pub fn processes(&self) -> Result<Vec<ProcessInfo>> {
        Ok(self.processes_with_threads()?.into_iter().map(|(process, _)| process).collect())
    }

    /// The attached processes, each with the entries of its threads.
    pub fn processes_with_threads(&self) -> Result<Vec<(ProcessInfo, Vec<u16>)>> {
        let now = time::boot_ms();
        let mut threads = vec![Vec::new(); self.process_count() as usize];
        for index in self.each_thread() {
            let state = self.thread_state(index)?;
            if matches!(state.kind(), Some(Kind::Live | Kind::Attaching))
                && let Some(threads) = threads.get_mut(state.process() as usize)
            {
                threads.push(index);
            }
        }
        let mut infos = Vec::new();
        for index in 0..self.process_count() {
            let entry = self.process_entry(index)?;
            if State::load(entry.u64::<{ field::STATE }>()).kind() != Some(Kind::Live) {
                continue;
            }
            let mut command = [0; field::COMMAND_BYTES];
            entry.span().copy_out(field::COMMAND as u64, &mut command)?;
            let text = String::from_utf8_lossy(&command);
            // ORDER Relaxed: for people to read.
            let threads = std::mem::take(&mut threads[index as usize]);
            let info = ProcessInfo {
                index,
                pid: entry.u32::<{ field::PID }>().load(Ordering::Relaxed),
                uid: entry.u32::<{ field::UID }>().load(Ordering::Relaxed),
                namespace: entry.u64::<{ field::NAMESPACE }>().load(Ordering::Relaxed),
                attached_ms: now
                    .saturating_sub(entry.u64::<{ field::ATTACHED_MS }>().load(Ordering::Relaxed)),
                command: text.trim_end_matches('\0').chars().filter(|c| !c.is_control()).collect(),
                threads: threads.len() as u32,
                dead: self.process_is_dead(index)?,
            };
            infos.push((info, threads));
        }
        Ok(infos)
    }
}

/// Inode of this process's PID namespace; 0 where it is hidden.
fn pid_namespace() -> u64 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self/ns/pid").map_or(0, |data| data.ino())
}
