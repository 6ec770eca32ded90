//! One mapping that holds a whole fabric: made under a private name, published in one step, attached by anybody allowed.
//!
//! | file | holds |
//! |---|---|
//! | `layout` | bytes of the header, sizes and places of the tables |
//! | `header` | writing, reading and checking the header |
//! | `home` | the directory of the fabrics of a user, and names in it |
//! | `create` | building under a private name and publishing |
//! | `attach` | opening what was published |
//! | `huge` | huge pages, where the kernel gives them |
//! | `locks` | locks on bytes of the segment's file, which the kernel drops at a process's death |

mod attach;
mod create;
mod header;
pub mod home;
mod huge;
pub mod layout;
pub mod locks;

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

pub use attach::{attach_file, attach_memfd, attach_or_clear, sysv_key};
pub use create::{check_mode, create_file, create_heap, create_memfd, sweep};
pub use header::{Fingerprint, Identity};
use huge::HugePages;
pub use layout::Geometry;

use crate::error::{Error, ErrorCode, Result};
use crate::shm::atomic::AtomicU64;
use crate::shm::{Shm, sysv, uninterrupted};

/// Where a fabric's bytes live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// A file `<home>/<name>.fabric`, by default on the host's tmpfs; any file system works.
    #[default]
    File,
    /// A POSIX shared memory object `/memora.<uid>.<name>`.
    Posix,
    /// A System V segment; a small file `<home>/<name>.sysv` holds its key and the locks.
    SysV,
    /// An unnamed memory file, sealed against changes of its size: handed on as a descriptor.
    Memfd,
    /// Memory of this process alone.
    Heap,
}

impl Backend {
    /// The name in messages and listings.
    pub const fn name(self) -> &'static str {
        match self {
            Backend::File => "file",
            Backend::Posix => "posix",
            Backend::SysV => "sysv",
            Backend::Memfd => "memfd",
            Backend::Heap => "heap",
        }
    }
}

/// A mapped segment: its bytes, its geometry in private memory, and its file.
pub struct Segment {
    shm: Arc<Shm>,
    geometry: Geometry,
    identity: Identity,
    backend: Backend,
    /// What a user finds it under, where it has a name.
    path: Option<PathBuf>,
    /// The segment's bytes as a file: for reserving pages. None for System V.
    file: Option<OwnedFd>,
    huge: HugePages,
    /// The file that carries the locks, by a description of our own. None for heap and read-only attachments.
    locks: Option<locks::LockFile>,
}

impl Segment {
    pub fn shm(&self) -> &Arc<Shm> {
        &self.shm
    }

    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    pub fn backend(&self) -> Backend {
        self.backend
    }

    pub fn path(&self) -> Option<&PathBuf> {
        self.path.as_ref()
    }

    pub fn file(&self) -> Option<&OwnedFd> {
        self.file.as_ref()
    }

    pub fn locks(&self) -> Option<&locks::LockFile> {
        self.locks.as_ref()
    }

    /// The count of threads reaped so far.
    pub fn reaped(&self) -> &AtomicU64 {
        self.shm
            .block::<{ layout::HEADER_BYTES }>(0)
            .expect("the header was read when the segment was mapped")
            .u64::<{ layout::at::REAPED }>()
    }

    /// Reserves and maps the pages of a range, so that touching them is never a fault. Repeating it is harmless.
    pub fn commit(&self, offset: u64, len: u64) -> Result<()> {
        if offset.checked_add(len).is_none_or(|end| end > self.geometry.limit) {
            return Err(Error::new(
                ErrorCode::Corrupt,
                format!("{len} bytes at {offset} leave the segment."),
            ));
        }
        if let Some(file) = &self.file {
            self.huge.prepare(&self.shm, file, offset, len);
            reserve(file, offset, len, self.path.as_ref())?;
        }
        self.shm.populate(offset, len)
    }
}

/// Reserves pages of a file; a full file system is an error here and not a bus error later.
fn reserve(file: &OwnedFd, offset: u64, len: u64, path: Option<&PathBuf>) -> Result<()> {
    use nix::errno::Errno;
    use nix::fcntl::{FallocateFlags, fallocate};
    let place = || path.map_or_else(|| "a memory file".to_owned(), |path| path.display().to_string());
    match uninterrupted(|| fallocate(file, FallocateFlags::empty(), offset as i64, len as i64)) {
        Ok(()) => Ok(()),
        Err(Errno::ENOSPC | Errno::EDQUOT | Errno::ENOMEM) => Err(Error::new(
            ErrorCode::NoSpace,
            format!(
                "No room for {} more of {}: {}.",
                layout::bytes_text(len),
                place(),
                home::room_text(path.map(PathBuf::as_path))
            ),
        )),
        // A file system without fallocate: the pages are reserved by populating them.
        Err(Errno::EOPNOTSUPP) => Ok(()),
        Err(errno) => Err(Error::io("fallocate", place(), &errno.into())),
    }
}

/// Removes the System V segment of a key, if there is one.
pub fn remove_sysv(key: i32) -> Result<()> {
    match sysv::find(key) {
        Ok(id) => sysv::remove(id),
        Err(error) if error.code() == ErrorCode::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}
