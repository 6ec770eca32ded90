//! Mappings: of a file descriptor, of a System V segment, of private memory.

#[cfg(not(memora_loom))]
pub(in crate::shm) use real::Mapping;

#[cfg(not(memora_loom))]
mod real {
    use std::os::fd::{AsFd, AsRawFd};

    use memmap2::{Advice, MmapOptions, MmapRaw};
    use nix::sys::memfd::{MFdFlags, memfd_create};

    use crate::error::{Error, ErrorCode, Result};
    use crate::shm::{HUGE_PAGE, PAGE, Shm, sysv};

    /// Files from this length on are mapped so that huge pages fit.
    const ALIGN_FROM: u64 = 16 * HUGE_PAGE;

    pub(in crate::shm) enum Mapping {
        /// The file begins `skip` bytes into the mapping; what stands before and behind it is never touched.
        File {
            map: MmapRaw,
            skip: usize,
            len: u64,
            writable: bool,
        },
        SystemV {
            attachment: sysv::Attachment,
            len: u64,
            writable: bool,
        },
    }

    impl Mapping {
        pub fn base(&self) -> *mut u8 {
            match self {
                Mapping::File { map, skip, .. } => map.as_mut_ptr().wrapping_add(*skip),
                Mapping::SystemV { attachment, .. } => attachment.base(),
            }
        }

        pub fn len(&self) -> u64 {
            match self {
                Mapping::File { len, .. } | Mapping::SystemV { len, .. } => *len,
            }
        }

        pub fn writable(&self) -> bool {
            match self {
                Mapping::File { writable, .. } | Mapping::SystemV { writable, .. } => *writable,
            }
        }
    }

    impl Shm {
        /// Maps the first `len` bytes of a file, shared. The file must be that long: the caller checked or made it so. A
        /// long one begins at a multiple of [`HUGE_PAGE`], so that huge pages of the file are huge pages of the mapping.
        ///
        /// The pages are left out of core dumps: dumping a large segment would delay the release of its locks.
        pub fn map_file(file: impl AsFd, len: u64, writable: bool) -> Result<Shm> {
            let file = file.as_fd().as_raw_fd();
            let too_long = || Error::from(ErrorCode::NoSpace);
            let room = if len >= ALIGN_FROM { len.checked_add(HUGE_PAGE).ok_or_else(too_long)? } else { len };
            let mut options = MmapOptions::new();
            options.len(usize::try_from(room).map_err(|_| too_long())?);
            let map = if writable { options.map_raw(file) } else { options.map_raw_read_only(file) }
                .map_err(|error| Error::io("mmap", format_args!("{len} bytes"), &error))?;
            let skip = if room > len { map.as_ptr().align_offset(HUGE_PAGE as usize) } else { 0 };
            if skip != 0 {
                place_at(&map, skip, len as usize, file, writable)?;
            }
            // Only a hint for core dumps: nothing depends on it.
            let _ = map.advise(Advice::DontDump);
            Ok(Shm::from_mapping(Mapping::File { map, skip, len, writable }))
        }

        /// A zeroed space that no other process can reach: for tests and private fabrics.
        ///
        /// It is a mapping of an unnamed memory file, so that everything that works on a segment works on it too.
        pub fn heap(len: u64) -> Result<Shm> {
            let len = len.div_ceil(PAGE) * PAGE;
            let place = format!("{len} bytes");
            let file = memfd_create(c"memora-heap", MFdFlags::MFD_CLOEXEC)
                .map_err(|errno| Error::io("memfd_create", &place, &errno.into()))?;
            nix::unistd::ftruncate(&file, len as i64)
                .map_err(|errno| Error::io("ftruncate", &place, &errno.into()))?;
            Shm::map_file(&file, len, true)
        }

        /// Attaches the System V segment `id` of at least `len` bytes.
        pub fn attach_sysv(id: i32, len: u64, writable: bool) -> Result<Shm> {
            let attachment = sysv::Attachment::new(id, writable)?;
            Ok(Shm::from_mapping(Mapping::SystemV { attachment, len, writable }))
        }

        /// Makes the pages of a range present and writable now, so that no later store pays for a page fault.
        ///
        /// The range is widened to whole pages. Kernels before 5.14 cannot; then the first stores pay.
        pub fn populate(&self, offset: u64, len: u64) -> Result<()> {
            let from = offset / PAGE * PAGE;
            let end = offset.saturating_add(len).div_ceil(PAGE) * PAGE;
            if end > self.len() {
                return Err(Error::new(ErrorCode::Corrupt, format!("Pages up to {end} are not mapped.")));
            }
            // SAFETY: the range lies in the mapping; MADV_POPULATE_WRITE changes no content.
            let result = unsafe {
                libc::madvise(self.pointer(from).cast(), (end - from) as usize, libc::MADV_POPULATE_WRITE)
            };
            if result == 0 {
                return Ok(());
            }
            let error = std::io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::EINVAL | libc::ENOSYS) => Ok(()),
                // A file system without room answers EFAULT here, where a store would be a bus error.
                Some(libc::EFAULT) => Err(Error::new(
                    ErrorCode::NoSpace,
                    format!("No page for bytes {from} to {end} of the segment."),
                )),
                _ => Err(Error::io("madvise", format_args!("bytes {from} to {end}"), &error)),
            }
        }
    }

    impl Shm {
        /// Makes the huge page at `offset`, a multiple of [`HUGE_PAGE`], out of a range of the file that has at least one
        /// page; the rest is filled with zeros. False where the kernel will not (before 6.1, not in memory, none to be had).
        pub fn collapse(&self, offset: u64) -> bool {
            let inside = self.len().checked_sub(HUGE_PAGE).is_some_and(|last| offset <= last);
            if !inside || !offset.is_multiple_of(HUGE_PAGE) {
                return false;
            }
            // SAFETY: the range lies in the mapping; MADV_COLLAPSE changes no content.
            unsafe {
                libc::madvise(self.pointer(offset).cast(), HUGE_PAGE as usize, libc::MADV_COLLAPSE) == 0
            }
        }
    }

    /// Maps the file once more, `skip` bytes into its mapping.
    fn place_at(map: &MmapRaw, skip: usize, len: usize, file: i32, writable: bool) -> Result<()> {
        let protection = if writable { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_READ };
        debug_assert!(skip + len <= map.len());
        // SAFETY: replaces pages of a mapping that nobody has seen yet and that unmaps the whole range when dropped.
        let placed = unsafe {
            let at = map.as_mut_ptr().add(skip).cast();
            libc::mmap(at, len, protection, libc::MAP_SHARED | libc::MAP_FIXED, file, 0)
        };
        if placed == libc::MAP_FAILED {
            return Err(Error::io("mmap", format_args!("{len} bytes"), &std::io::Error::last_os_error()));
        }
        Ok(())
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_long_file_is_mapped_from_its_beginning_where_huge_pages_fit() {
            let file = tempfile::tempfile().unwrap();
            file.set_len(ALIGN_FROM + PAGE).unwrap();
            let (shm, other) = (
                Shm::map_file(&file, ALIGN_FROM + PAGE, true).unwrap(),
                Shm::map_file(&file, ALIGN_FROM + PAGE, false).unwrap(),
            );
            // SAFETY: the offset lies in the space; the address is only looked at.
            assert!(unsafe { shm.pointer(0) }.addr().is_multiple_of(HUGE_PAGE as usize));
            for at in [0, HUGE_PAGE - 8, ALIGN_FROM, ALIGN_FROM + PAGE - 8] {
                shm.span(at, 8).unwrap().copy_in(0, &at.to_le_bytes()).unwrap();
                assert!(other.span(at, 8).unwrap().equals(0, &at.to_le_bytes()).unwrap(), "at {at}");
            }
            assert_eq!(shm.len(), ALIGN_FROM + PAGE);
            assert!(shm.span(ALIGN_FROM + PAGE, 8).is_err());
        }

        #[test]
        fn a_huge_page_keeps_what_stood_in_its_range_and_no_range_outside_is_one() {
            let shm = Shm::heap(ALIGN_FROM).unwrap();
            let word = |at: u64| at + 1;
            for at in (0..HUGE_PAGE).step_by(128 << 10) {
                shm.span(at, 8).unwrap().copy_in(0, &word(at).to_le_bytes()).unwrap();
            }
            // Whether the kernel makes one depends on the host.
            shm.collapse(0);
            for at in (0..HUGE_PAGE).step_by(64 << 10) {
                let wanted = if at.is_multiple_of(128 << 10) { word(at) } else { 0 };
                assert!(shm.span(at, 8).unwrap().equals(0, &wanted.to_le_bytes()).unwrap(), "at {at}");
            }
            for outside in [PAGE, ALIGN_FROM, ALIGN_FROM - PAGE, u64::MAX - HUGE_PAGE + 1] {
                assert!(!shm.collapse(outside), "{outside}");
            }
        }

        #[test]
        fn a_store_through_a_read_only_mapping_is_an_error() {
            let file = tempfile::tempfile().unwrap();
            file.set_len(8192).unwrap();
            let shm = Shm::map_file(&file, 8192, false).unwrap();
            let error = shm.span(0, 64).unwrap().copy_in(0, b"x").unwrap_err();
            assert_eq!(error.code(), ErrorCode::ReadOnly);
        }

        #[test]
        fn populating_pages_that_the_file_does_not_have_is_an_error_and_no_signal() {
            let file = tempfile::tempfile().unwrap();
            file.set_len(4096).unwrap();
            let shm = Shm::map_file(&file, 8192, true).unwrap();
            assert!(shm.populate(0, 4096).is_ok());
            assert_eq!(shm.populate(4096, 4096).unwrap_err().code(), ErrorCode::NoSpace);
        }
    }
}
