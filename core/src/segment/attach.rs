//! Opening what was published.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, fstat};

use super::home::{self, Home};
use super::layout::HEADER_BYTES;
use super::locks::LockFile;
use super::{Backend, Fingerprint, Segment, header};
use crate::error::{Error, ErrorCode, Result};
use crate::shm::{Shm, sysv};

fn access(read_only: bool) -> OFlag {
    if read_only { OFlag::O_RDONLY } else { OFlag::O_RDWR }
}

/// Attaches the fabric in a file of a home.
pub fn attach_file(
    home: &Home,
    name: &str,
    backend: Backend,
    read_only: bool,
    fingerprint: Fingerprint,
) -> Result<Segment> {
    let path = home.join(name);
    let place = path.display().to_string();
    // Without O_NONBLOCK opening a named pipe that somebody put there would wait for its other end.
    let file = home.open_file(name, access(read_only) | OFlag::O_NONBLOCK, Mode::empty())?;
    let status = fstat(&file).map_err(|errno| Error::io("fstat", &place, &errno.into()))?;
    home::check_file(&place, &status)?;
    let (shm, len, keep) = if backend == Backend::SysV {
        let Some((key, len)) = sysv_key(&file) else {
            return Err(Error::new(
                ErrorCode::NotAFabric,
                format!("{place} does not name a System V segment."),
            ));
        };
        let id = sysv::find(key)?;
        let status = sysv::status(id)?;
        if status.len != len {
            return Err(Error::new(
                ErrorCode::NotAFabric,
                format!("{place} speaks of {len} bytes, System V segment {key:#x} has {}.", status.len),
            ));
        }
        (Shm::attach_sysv(id, len, !read_only)?, len, None)
    } else {
        let len = status.st_size as u64;
        if len < HEADER_BYTES as u64 {
            return Err(Error::new(
                ErrorCode::NotAFabric,
                format!("{place} is not a whole fabric: it has {len} bytes, a header has {HEADER_BYTES}."),
            ));
        }
        (Shm::map_file(&file, len, !read_only)?, len, Some(file))
    };
    let (geometry, identity) = header::read(&shm, &place, len, fingerprint)?;
    let locks = if read_only {
        None
    } else {
        let carrier = home.open_file(name, OFlag::O_RDWR | OFlag::O_NONBLOCK, Mode::empty())?;
        let other = fstat(&carrier).map_err(|errno| Error::io("fstat", &place, &errno.into()))?;
        // Locks on another file than the mapped one would prove nothing: removed and made anew in between.
        if (other.st_dev, other.st_ino) != (status.st_dev, status.st_ino) {
            return Err(Error::new(
                ErrorCode::NotFound,
                format!("{place} was replaced while it was opened."),
            ));
        }
        header::enter_boot(&shm)?;
        Some(LockFile::new(carrier))
    };
    Ok(Segment { shm: Arc::new(shm), geometry, identity, backend, path: Some(path), file: keep, locks })
}

/// Attaches the fabric in a memory file that another process handed over.
pub fn attach_memfd(file: OwnedFd, read_only: bool, fingerprint: Fingerprint) -> Result<Segment> {
    let place = "the memory file";
    let status = fstat(&file).map_err(|errno| Error::io("fstat", place, &errno.into()))?;
    let len = status.st_size as u64;
    if len < HEADER_BYTES as u64 {
        return Err(Error::new(
            ErrorCode::NotAFabric,
            format!("{place} has {len} bytes, a header has {HEADER_BYTES}."),
        ));
    }
    let shm = Shm::map_file(&file, len, !read_only)?;
    let (geometry, identity) = header::read(&shm, place, len, fingerprint)?;
    let locks = if read_only { None } else { Some(LockFile::new(home::reopen(&file, OFlag::O_RDWR)?)) };
    Ok(Segment {
        shm: Arc::new(shm),
        geometry,
        identity,
        backend: Backend::Memfd,
        path: None,
        file: Some(file),
        locks,
    })
}

/// Key and length that the file of a System V fabric names.
pub fn sysv_key(file: &OwnedFd) -> Option<(i32, u64)> {
    let mut bytes = [0; 64];
    let len = nix::sys::uio::pread(file, &mut bytes, 0).ok()?;
    let mut words = std::str::from_utf8(&bytes[..len]).ok()?.split_whitespace();
    if (words.next()?, words.next()?) != ("memora", "sysv") {
        return None;
    }
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}
