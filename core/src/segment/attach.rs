//! Opening what was published.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl};
use nix::sys::stat::{FileStat, Mode, fstat};

use super::home::{self, Home};
use super::huge::HugePages;
use super::layout::HEADER_BYTES;
use super::locks::{LockFile, PROCESS_BASE, any_locked};
use super::{Backend, Fingerprint, Segment, header};
use crate::error::{Error, ErrorCode, Result};
use crate::shm::{Shm, sysv};

fn access(read_only: bool) -> OFlag {
    if read_only { OFlag::O_RDONLY } else { OFlag::O_RDWR }
}

/// Attaches the fabric in a file of a home. What a reboot may have torn is refused.
pub fn attach_file(
    home: &Home,
    name: &str,
    backend: Backend,
    read_only: bool,
    fingerprint: Fingerprint,
) -> Result<Segment> {
    attach(home, name, backend, read_only, fingerprint, false)
}

/// As [`attach_file`], but what a reboot may have torn is removed: then the answer is `NotFound`.
pub fn attach_or_clear(
    home: &Home,
    name: &str,
    backend: Backend,
    read_only: bool,
    fingerprint: Fingerprint,
) -> Result<Segment> {
    attach(home, name, backend, read_only, fingerprint, true)
}

fn attach(
    home: &Home,
    name: &str,
    backend: Backend,
    read_only: bool,
    fingerprint: Fingerprint,
    clear: bool,
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
    // Of a file on a disk, a power cut leaves old pages beside new ones: neither records nor a store's own words are whole.
    // A process that is attached proves that there was none: then only the boot id looks different, as in some containers.
    if let Some(file) = &keep
        && header::is_of_another_boot(&shm)?
        && !home::is_in_memory(file)
        && !any_locked(file, PROCESS_BASE, i64::from(geometry.process_count))?
    {
        if clear && !read_only {
            remove_torn(home, name, &status)?;
            return Err(Error::new(ErrorCode::NotFound, format!("{place} was of another boot.")));
        }
        return Err(Error::new(
            ErrorCode::NotAFabric,
            format!("{place} was last used before a restart of the host, which may have torn it."),
        ));
    }
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
    let huge = HugePages::new(keep.as_ref(), geometry.limit);
    Ok(Segment { shm: Arc::new(shm), geometry, identity, backend, path: Some(path), file: keep, huge, locks })
}

/// Removes a file that a reboot may have torn, unless its name stands for another one by now.
fn remove_torn(home: &Home, name: &str, torn: &FileStat) -> Result<()> {
    let carrier = LockFile::new(home.open_file(name, OFlag::O_RDWR | OFlag::O_NONBLOCK, Mode::empty())?);
    // Whoever else found it torn waits for its turn by trying again.
    if !carrier.try_lock(super::create::BUILDER)? {
        std::thread::sleep(std::time::Duration::from_millis(5));
        return Ok(());
    }
    // Behind the lock: all who remove it hold that, so nobody makes it anew between looking and removing.
    let now = home.open_file(name, OFlag::O_RDONLY | OFlag::O_NONBLOCK, Mode::empty())?;
    let now = fstat(&now).map_err(|errno| Error::io("fstat", home.join(name).display(), &errno.into()))?;
    if (now.st_dev, now.st_ino) == (torn.st_dev, torn.st_ino) {
        home.remove(name)?;
    }
    Ok(())
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
    // Whoever could cut it could make every touch of it a bus error.
    let seals = fcntl(&file, FcntlArg::F_GET_SEALS).map_or(SealFlag::empty(), SealFlag::from_bits_truncate);
    if !seals.contains(SealFlag::F_SEAL_SHRINK) {
        return Err(Error::new(
            ErrorCode::InvalidArgument,
            format!("{place} has no seal against being cut (F_SEAL_SHRINK): it is not from `Fabric::memfd`."),
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
        huge: HugePages::new(Some(&file), geometry.limit),
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
