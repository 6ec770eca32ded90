//! A forked child: a copy of this process with everything that it has open, and with one thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

use crate::process::PATIENCE;

/// A child that was made by `fork` alone. It is killed when this is dropped before its end.
pub struct Child {
    pid: Pid,
    ended: bool,
}

impl Child {
    /// Forks a child that does `work` and ends, well or, after a panic, with status 1. Nothing of the parent's is run at its end.
    ///
    /// Call it from a process with few threads: the child has only the caller's, and the locks of the others stay as they are.
    pub fn fork(work: impl FnOnce()) -> Child {
        // SAFETY: the child runs code of the caller's choice in the midst of a process with other threads, which POSIX does not
        // allow and glibc and Linux do, as long as it needs no lock that another thread held. What these tests find out is what the
        // library does then.
        match unsafe { fork() }.expect("fork") {
            ForkResult::Parent { child } => Child { pid: child, ended: false },
            ForkResult::Child => {
                let status = i32::from(catch_unwind(AssertUnwindSafe(work)).is_err());
                // SAFETY: ends this process; nothing is run.
                unsafe { libc::_exit(status) }
            }
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw() as u32
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid, signal).expect("it is our child, and not waited for");
    }

    /// SIGKILL, and waits until it is gone. False if it had ended before, by itself.
    pub fn kill(mut self) -> bool {
        self.signal(Signal::SIGKILL);
        self.ended = true;
        matches!(waitpid(self.pid, None), Ok(WaitStatus::Signaled(_, Signal::SIGKILL, _)))
    }

    /// Waits for its end. `None` if it does not come in time; otherwise whether it was a good one.
    pub fn wait(&mut self, timeout: Duration) -> Option<bool> {
        let end = Instant::now() + timeout;
        loop {
            match waitpid(self.pid, Some(WaitPidFlag::WNOHANG)).expect("it is our child") {
                WaitStatus::StillAlive if Instant::now() >= end => return None,
                WaitStatus::StillAlive => std::thread::sleep(Duration::from_millis(1)),
                status => {
                    self.ended = true;
                    return Some(status == WaitStatus::Exited(self.pid, 0));
                }
            }
        }
    }

    /// Waits for its end, which must be a good one.
    #[track_caller]
    pub fn expect_success(mut self) {
        assert_eq!(self.wait(PATIENCE), Some(true), "the forked child failed, or does not end");
    }
}

/// Ends the calling thread without its destructors, as if it alone had been killed: what they would let go of is leaked.
pub fn end_thread() -> ! {
    loop {
        // SAFETY: ends this thread; nothing is run.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.ended && kill(self.pid, Signal::SIGKILL).is_ok() {
            // Failing means that it is gone, which is what we want.
            let _ = waitpid(self.pid, None);
        }
    }
}
