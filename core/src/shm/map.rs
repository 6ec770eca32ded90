//! Mappings: of a file descriptor, of a System V segment, of private memory.

#[cfg(not(memora_loom))]
pub(in crate::shm) use real::Mapping;

#[cfg(not(memora_loom))]
mod real {
    use std::os::fd::{AsFd, AsRawFd};

    use memmap2::{Advice, MmapOptions, MmapRaw};
    use nix::sys::memfd::{MFdFlags, memfd_create};

    use crate::error::{Error, ErrorCode, Result};
    use crate::shm::{PAGE, Shm, sysv};

    pub(in crate::shm) enum Mapping {
        File { map: MmapRaw, writable: bool },
        SystemV { attachment: sysv::Attachment, len: u64, writable: bool },
    }

    impl Mapping {
        pub fn base(&self) -> *mut u8 {
            match self {
                Mapping::File { map, .. } => map.as_mut_ptr(),
                Mapping::SystemV { attachment, .. } => attachment.base(),
            }
        }

        pub fn len(&self) -> u64 {
            match self {
                Mapping::File { map, .. } => map.len() as u64,
                Mapping::SystemV { len, .. } => *len,
            }
        }

        pub fn writable(&self) -> bool {
            match self {
                Mapping::File { writable, .. } | Mapping::SystemV { writable, .. } => *writable,
            }
        }
    }

    impl Shm {
        /// Maps the first `len` bytes of a file, shared. The file must be that long: the caller checked or made it so.
        ///
        /// The pages are left out of core dumps: dumping a large segment would delay the release of its locks.
        pub fn map_file(file: impl AsFd, len: u64, writable: bool) -> Result<Shm> {
            let file = file.as_fd().as_raw_fd();
            let options = {
                let mut options = MmapOptions::new();
                options.len(usize::try_from(len).map_err(|_| Error::from(ErrorCode::NoSpace))?);
                options
            };
            let map = if writable { options.map_raw(file) } else { options.map_raw_read_only(file) }
                .map_err(|error| Error::io("mmap", format_args!("{len} bytes"), &error))?;
            // Only a hint for core dumps: nothing depends on it.
            let _ = map.advise(Advice::DontDump);
            Ok(Shm::from_mapping(Mapping::File { map, writable }))
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

    #[cfg(test)]
    mod tests {
        use super::*;

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
