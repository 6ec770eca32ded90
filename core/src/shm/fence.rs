//! The asymmetric fence: who goes to sleep pays, who publishes does not.
//!
//! A publisher stores its data and then loads the wait word; a sleeper stores the wait word and then loads the data.
//! Both need a full fence between the two. [`heavy`] runs one on every processor that executes a registered process
//! (`membarrier`, GLOBAL_EXPEDITED: 0.6 to 3.7 µs), so that [`light`] on the publisher's side only keeps the compiler
//! from reordering. Where the kernel refuses to register a process, the object is marked and its publishers use a full
//! fence instead. In a model both are full fences.

#[cfg(not(memora_loom))]
mod real {
    use std::sync::OnceLock;
    use std::sync::atomic::{Ordering, compiler_fence, fence};

    const GLOBAL_EXPEDITED: libc::c_int = 1 << 1;
    const REGISTER_GLOBAL_EXPEDITED: libc::c_int = 1 << 2;

    fn membarrier(command: libc::c_int) -> bool {
        // SAFETY: membarrier takes no pointers.
        unsafe { libc::syscall(libc::SYS_membarrier, command, 0u32, 0i32) == 0 }
    }

    /// Registers this process, once, as one that heavy fences of others reach. False where the kernel refuses: then this
    /// process must not publish with light fences.
    pub fn register() -> bool {
        static REGISTERED: OnceLock<bool> = OnceLock::new();
        *REGISTERED.get_or_init(|| {
            // Tests of the fenced path take the asymmetric one away.
            std::env::var_os("MEMORA_NO_MEMBARRIER").is_none() && membarrier(REGISTER_GLOBAL_EXPEDITED)
        })
    }

    /// A full fence here and on every processor that runs a registered process. False where the kernel refuses.
    pub fn heavy() -> bool {
        fence(Ordering::SeqCst);
        membarrier(GLOBAL_EXPEDITED)
    }

    /// The other side of [`heavy`]: free at run time.
    #[inline]
    pub fn light() {
        compiler_fence(Ordering::SeqCst);
    }
}

#[cfg(memora_loom)]
mod real {
    use crate::shm::atomic::{Ordering, fence};

    /// Always possible in a model.
    pub fn register() -> bool {
        true
    }

    /// A full fence: what membarrier amounts to.
    pub fn heavy() -> bool {
        fence(Ordering::SeqCst);
        true
    }

    /// A full fence: what membarrier makes of the other side.
    pub fn light() {
        fence(Ordering::SeqCst);
    }
}

pub use real::{heavy, light, register};
