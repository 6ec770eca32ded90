//! What the running kernel and its filters (seccomp) allow, found by asking, not by its version.

/// System calls that Memora uses where they exist, and what is lost without them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelFeatures {
    /// `membarrier`: without it every publisher pays a full fence for a sleeper that may not be there.
    pub membarrier: bool,
    /// Robust lists: without them death is proved by file locks only.
    pub robust_list: bool,
    /// `futex_waitv`: waiting for several words at once.
    pub futex_waitv: bool,
}

/// Asks the kernel. Nothing is changed.
pub fn kernel_features() -> KernelFeatures {
    const MEMBARRIER_CMD_QUERY: libc::c_int = 0;
    const MEMBARRIER_CMD_GLOBAL_EXPEDITED: libc::c_long = 1 << 1;
    // SAFETY: the query takes no pointers and changes nothing.
    let commands = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0) };
    let mut head: *mut libc::c_void = std::ptr::null_mut();
    let mut len: libc::size_t = 0;
    // SAFETY: both pointers are to live locals of the right size; 0 means the calling thread.
    let robust = unsafe { libc::syscall(libc::SYS_get_robust_list, 0, &raw mut head, &raw mut len) };
    // SAFETY: a count of zero is refused with EINVAL before any pointer is followed.
    let waitv = unsafe { libc::syscall(libc::SYS_futex_waitv, 0usize, 0, 0, 0usize, 0) };
    let refused = std::io::Error::last_os_error().raw_os_error();
    KernelFeatures {
        membarrier: commands > 0 && commands & MEMBARRIER_CMD_GLOBAL_EXPEDITED != 0,
        robust_list: robust == 0,
        futex_waitv: waitv == -1 && refused == Some(libc::EINVAL),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asking_twice_gives_the_same_answer_and_glibc_needs_robust_lists() {
        let features = kernel_features();
        assert_eq!(features, kernel_features());
        assert!(features.robust_list, "{features:?}");
    }
}
