//! Locks on bytes of the segment's file.
//!
//! Locks of open file descriptions (`F_OFD_SETLK`): the kernel drops them when the last descriptor of the description is
//! closed, which for a killed process is when its memory has been freed. They work across PID namespaces, and another
//! part of the process that opens and closes the same file does not lose them, as it would a classic POSIX lock. Every
//! attachment opens a description of its own. The bytes lie far beyond the data.

use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};

use crate::error::{Error, Result};
use crate::shm::fork::{self, CloseInChild};

/// The first of one byte for each process entry.
pub const PROCESS_BASE: i64 = 1 << 62;
/// The first of one byte for each thread entry: held while the entry of a dead thread is reaped.
pub const THREAD_BASE: i64 = (1 << 62) + (1 << 16);

/// A description of the file that carries the locks of an attachment.
pub struct LockFile {
    file: ManuallyDrop<OwnedFd>,
    generation: u64,
    close_in_child: Option<CloseInChild>,
}

impl LockFile {
    /// Takes a descriptor whose description nobody else uses.
    pub fn new(file: OwnedFd) -> LockFile {
        let generation = fork::begin();
        let close = fork::close_in_child(file.as_raw_fd());
        LockFile { file: ManuallyDrop::new(file), generation, close_in_child: close }
    }

    /// Tries to take a byte. True: it is ours until unlocked or until this attachment ends.
    pub fn try_lock(&self, byte: i64) -> Result<bool> {
        match fcntl(self.file.as_fd(), FcntlArg::F_OFD_SETLK(&request(byte, libc::F_WRLCK))) {
            Ok(_) => Ok(true),
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
            Err(errno) => Err(Error::io("fcntl(F_OFD_SETLK)", "the lock file", &errno.into())),
        }
    }

    /// Gives a byte back.
    pub fn unlock(&self, byte: i64) {
        // Cannot fail for a range without conflict; if it did, the end of the attachment would give the byte back.
        let _ = fcntl(self.file.as_fd(), FcntlArg::F_OFD_SETLK(&request(byte, libc::F_UNLCK)));
    }

    /// Whether another description holds a byte.
    pub fn is_locked(&self, byte: i64) -> Result<bool> {
        any_locked(self.file.as_fd(), byte, 1)
    }
}

/// Whether another description holds one of `count` bytes.
pub fn any_locked(file: impl AsFd, first: i64, count: i64) -> Result<bool> {
    let mut answer = libc::flock { l_len: count, ..request(first, libc::F_WRLCK) };
    match fcntl(file.as_fd(), FcntlArg::F_OFD_GETLK(&mut answer)) {
        Ok(_) => Ok(answer.l_type != libc::F_UNLCK as libc::c_short),
        Err(errno) => Err(Error::io("fcntl(F_OFD_GETLK)", "the lock file", &errno.into())),
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        // In a forked child the descriptor was closed at the fork, and its number may be another file's by now.
        if fork::generation() == self.generation {
            drop(self.close_in_child.take());
            fork::close(&mut self.file);
        }
    }
}

fn request(byte: i64, kind: libc::c_int) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: byte,
        l_len: 1,
        l_pid: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_descriptions_exclude_each_other_also_within_one_process() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let open = || {
            LockFile::new(std::fs::File::options().read(true).write(true).open(file.path()).unwrap().into())
        };
        let (first, second) = (open(), open());
        assert!(first.try_lock(PROCESS_BASE).unwrap());
        assert!(!second.try_lock(PROCESS_BASE).unwrap() && second.is_locked(PROCESS_BASE).unwrap());
        assert!(second.try_lock(PROCESS_BASE + 1).unwrap());
        drop(first);
        assert!(!second.is_locked(PROCESS_BASE).unwrap() && second.try_lock(PROCESS_BASE).unwrap());
    }
}
