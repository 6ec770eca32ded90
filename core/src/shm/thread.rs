//! A cheap answer to "is this still the same thread?".

/// A number that no two living threads of this process share. After a thread's end another may get its number.
#[inline]
pub fn marker() -> usize {
    #[cfg(all(target_arch = "x86_64", target_os = "linux", not(memora_loom), not(miri)))]
    {
        let marker: usize;
        // SAFETY: on x86-64 Linux the word at fs:0 is the address of the thread's own control block (System V ABI, variant II
        // of thread-local storage); reading it has no effect.
        unsafe {
            std::arch::asm!("mov {}, fs:0", out(reg) marker, options(pure, readonly, nostack, preserves_flags));
        }
        marker
    }
    #[cfg(not(all(target_arch = "x86_64", target_os = "linux", not(memora_loom), not(miri))))]
    {
        thread_local!(static HERE: u8 = const { 0 });
        HERE.with(|here| std::ptr::from_ref(here).addr())
    }
}

#[cfg(all(test, not(memora_loom)))]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_same_in_one_thread_and_another_in_another() {
        let here = marker();
        assert_eq!(marker(), here);
        let there = std::thread::scope(|scope| scope.spawn(marker).join().unwrap());
        assert_ne!(there, here);
    }
}
