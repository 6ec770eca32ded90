//! Huge pages for the segment's file, without asking the administrator for them.
//!
//! Random reads of a large fabric wait for page tables as long as for the data. Where `shmem_enabled` is `never`, as nearly
//! everywhere, a file in memory gets small pages; but since Linux 6.1 a process may ask for a range to be made one huge page
//! (`MADV_COLLAPSE`). A range of which only one page exists costs no more than clearing 2 MiB, which is less than
//! 512 small pages cost one after the other. So the first to take a page of an empty range of 2 MiB makes all of it.
//!
//! Nothing depends on it: whatever fails leaves the range to small pages, which are reserved as if this did not exist. A
//! process that is killed in between leaves one page more than it needed.

use std::os::fd::OwnedFd;

use nix::fcntl::{FallocateFlags, fallocate};
use nix::unistd::{Whence, lseek64};

use super::home::is_in_memory;
use crate::shm::atomic::{AtomicU32, Ordering};
use crate::shm::{HUGE_PAGE, PAGE, Shm, time};

/// Smaller segments keep small pages: a huge one would be a large part of them.
const FROM: u64 = 32 << 20;
/// A huge page for which a thread had to work longer than this was made by moving other pages about. The first touch of memory
/// that a virtual machine gets from its host only then takes 6 ms for 2 MiB; small pages wait as long for it.
const SLOW_NS: u64 = 20_000_000;
/// The most ranges that are left to small pages after one that was slow or failed.
const PAUSE_MAX: u32 = 64;

/// What one attachment knows of the huge pages of its segment.
pub struct HugePages {
    /// Whole ranges in the segment; 0 if it gets none.
    ranges: u64,
    /// Ranges to be left to small pages before the next is tried.
    pause: AtomicU32,
    /// The pause after the next failure.
    next_pause: AtomicU32,
}

impl HugePages {
    /// For a segment of `len` bytes in `file`.
    pub fn new(file: Option<&OwnedFd>, len: u64) -> HugePages {
        let fits = len >= FROM && file.is_some_and(is_in_memory);
        HugePages {
            ranges: if fits { len / HUGE_PAGE } else { 0 },
            pause: AtomicU32::new(0),
            next_pause: AtomicU32::new(1),
        }
    }

    /// Called before pages of `offset..offset + len` are reserved: makes the ranges that it touches huge pages, those that are
    /// still empty.
    pub fn prepare(&self, shm: &Shm, file: &OwnedFd, offset: u64, len: u64) {
        let end = offset.saturating_add(len).div_ceil(HUGE_PAGE).min(self.ranges);
        for range in offset / HUGE_PAGE..end {
            let start = range * HUGE_PAGE;
            if is_empty(file, start) && self.go_on() {
                let before = time::thread_ns();
                // The kernel makes no huge page out of nothing.
                let made = fallocate(file, FallocateFlags::empty(), start as i64, PAGE as i64).is_ok()
                    && shm.collapse(start);
                self.note(made && time::thread_ns() - before < SLOW_NS);
            }
        }
    }

    /// Whether the next range is to be tried.
    fn go_on(&self) -> bool {
        // ORDER Relaxed: private to this process; a race leaves one range more or less to small pages.
        let pause = self.pause.load(Ordering::Relaxed);
        self.pause.store(pause.saturating_sub(1), Ordering::Relaxed);
        pause == 0
    }

    fn note(&self, quick: bool) {
        // ORDER Relaxed: as in `go_on`.
        let pause = self.next_pause.load(Ordering::Relaxed);
        let next = if quick { 1 } else { (pause * 2).min(PAUSE_MAX) };
        self.next_pause.store(next, Ordering::Relaxed);
        if !quick {
            self.pause.store(pause, Ordering::Relaxed);
        }
    }
}

/// Whether the range that begins at `start` holds no data. Nobody uses the position of the file.
fn is_empty(file: &OwnedFd, start: u64) -> bool {
    match lseek64(file, start as i64, Whence::SeekData) {
        Ok(data) => data as u64 >= start + HUGE_PAGE,
        Err(errno) => errno == nix::Error::ENXIO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::memfd::{MFdFlags, memfd_create};

    fn memory_file(len: u64) -> (OwnedFd, Shm) {
        let file = memfd_create(c"test", MFdFlags::MFD_CLOEXEC).unwrap();
        nix::unistd::ftruncate(&file, len as i64).unwrap();
        let shm = Shm::map_file(&file, len, true).unwrap();
        (file, shm)
    }

    fn blocks(file: &OwnedFd) -> u64 {
        nix::sys::stat::fstat(file).unwrap().st_blocks as u64 * 512
    }

    #[test]
    fn one_range_is_made_for_what_is_needed_and_a_range_with_data_is_left_alone() {
        let (file, shm) = memory_file(FROM);
        let pages = HugePages::new(Some(&file), FROM);
        pages.prepare(&shm, &file, 5 * HUGE_PAGE + PAGE, PAGE);
        let taken = blocks(&file);
        // A host may refuse; then no more than the one page was taken.
        assert!(taken == HUGE_PAGE || taken == PAGE, "{taken}");
        assert!(!is_empty(&file, 5 * HUGE_PAGE) || taken == PAGE);
        assert!(is_empty(&file, 4 * HUGE_PAGE) && is_empty(&file, 6 * HUGE_PAGE));
        pages.prepare(&shm, &file, 5 * HUGE_PAGE, HUGE_PAGE);
        assert_eq!(blocks(&file), taken);
        shm.span(7 * HUGE_PAGE, 8).unwrap().copy_in(0, b"a page").unwrap();
        pages.prepare(&shm, &file, 7 * HUGE_PAGE, PAGE);
        assert_eq!(blocks(&file), taken + PAGE);
    }

    #[test]
    fn neither_small_segments_nor_files_on_disks_are_touched() {
        let (file, shm) = memory_file(FROM - PAGE);
        HugePages::new(Some(&file), FROM - PAGE).prepare(&shm, &file, 0, FROM - PAGE);
        assert_eq!(blocks(&file), 0);
        assert_eq!(HugePages::new(None, FROM).ranges, 0);
    }

    #[test]
    fn the_pause_grows_with_each_failure_and_ends_with_a_success() {
        let pages = HugePages::new(None, FROM);
        let tries = |rounds: u32| {
            let mut tried = 0usize;
            for _ in 0..rounds {
                if pages.go_on() {
                    pages.note(false);
                    tried += 1;
                }
            }
            tried
        };
        assert_eq!(tries(2 + 3 + 5), 3);
        assert!((1000 / PAUSE_MAX as usize..20).contains(&tries(1000)));
        while !pages.go_on() {}
        pages.note(true);
        assert!(pages.go_on() && pages.go_on());
    }
}
