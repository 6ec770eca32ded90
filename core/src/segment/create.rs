//! Building a segment under a private name and publishing it in one step.
//!
//! Nobody sees a half-made fabric: everything is written before `linkat` gives the file its public name, and `linkat`
//! fails if the name is taken. The private name is swept by whoever creates next: its builder holds a lock on it.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use nix::fcntl::{OFlag, SealFlag};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::Mode;

use super::home::{self, Home};
use super::huge::HugePages;
use super::locks::LockFile;
use super::{Backend, Fingerprint, Geometry, Identity, Segment, header, reserve};
use crate::error::{Error, ErrorCode, Result};
use crate::shm::{Shm, sysv};

/// The byte that the builder of a private file holds.
pub(super) const BUILDER: i64 = super::locks::PROCESS_BASE - 1;
const PRIVATE_PREFIX: &str = ".building-";

/// Makes the file `public` in `home`. `AlreadyExists` if somebody was faster.
pub fn create_file(
    home: &Home,
    public: &str,
    backend: Backend,
    geometry: &Geometry,
    identity: &Identity,
    group: Option<u32>,
    fingerprint: Fingerprint,
) -> Result<()> {
    let private = format!("{PRIVATE_PREFIX}{}", uuid::Uuid::new_v4());
    let path = home.join(public);
    let file = home.open_file(
        &private,
        OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL,
        Mode::S_IRUSR | Mode::S_IWUSR,
    )?;
    let built = (|| {
        let builder = LockFile::new(home.open_file(&private, OFlag::O_RDWR, Mode::empty())?);
        let swept =
            || Error::new(ErrorCode::NotFound, format!("{} was swept while it was built.", path.display()));
        let links = |file| nix::sys::stat::fstat(file).map(|status| status.st_nlink);
        // A sweeper may come between making the file and locking it: then its name is gone or going.
        if !builder.try_lock(BUILDER)? || links(&file).unwrap_or(0) == 0 {
            return Err(swept());
        }
        // DIES: a private file whose lock is free: the next creator sweeps it.
        kill_point!("segment.create.locked");
        let key = if backend == Backend::SysV {
            Some(build_sysv(&file, geometry, identity, group, fingerprint)?)
        } else {
            nix::unistd::ftruncate(&file, geometry.limit as i64)
                .map_err(|errno| Error::io("ftruncate", path.display(), &errno.into()))?;
            write_tables(&file, Some(&path), geometry, identity, fingerprint)?;
            None
        };
        let result = home::set_access(&file, &path, identity.mode, group).and_then(|()| {
            kill_point!("segment.create.before_publish");
            home.publish(&private, public)
        });
        // DIES: published and whole; the private name is left and swept.
        kill_point!("segment.create.published");
        if let (Err(_), Some(key)) = (&result, key) {
            super::remove_sysv(key)?;
        }
        result
    })();
    home.remove(&private)?;
    built
}

/// Reserves the pages of the tables of a new file that has its length, and writes its header.
fn write_tables(
    file: &OwnedFd,
    path: Option<&PathBuf>,
    geometry: &Geometry,
    identity: &Identity,
    fingerprint: Fingerprint,
) -> Result<Shm> {
    let shm = Shm::map_file(file, geometry.limit, true)?;
    HugePages::new(Some(file), geometry.limit).prepare(&shm, file, 0, geometry.table_bytes());
    reserve(file, 0, geometry.table_bytes(), path)?;
    header::write(&shm, geometry, identity, fingerprint)?;
    Ok(shm)
}

/// Makes a System V segment under a random key and writes the key into the file that stands for it.
fn build_sysv(
    file: &OwnedFd,
    geometry: &Geometry,
    identity: &Identity,
    group: Option<u32>,
    fingerprint: Fingerprint,
) -> Result<i32> {
    let key = (uuid::Uuid::new_v4().as_u128() as i32 & 0x7fff_ffff).max(1);
    let text = format!("memora sysv {key} {}\n", geometry.limit);
    // First the key, so that a sweeper finds the segment of a builder that was killed.
    nix::unistd::write(file, text.as_bytes())
        .map_err(|errno| Error::io("write", "the key", &errno.into()))?;
    kill_point!("segment.create.key_written");
    let id = sysv::create(key, geometry.limit, identity.mode)?;
    let made = (|| {
        sysv::set_access(id, group, identity.mode)?;
        let shm = Shm::attach_sysv(id, geometry.limit, true)?;
        header::write(&shm, geometry, identity, fingerprint)
    })();
    if made.is_err() {
        sysv::remove(id)?;
    }
    made.map(|()| key)
}

/// Removes what killed creators left in a home.
pub fn sweep(home: &Home) -> Result<()> {
    for name in home.files()?.iter().filter(|name| name.starts_with(PRIVATE_PREFIX)) {
        // Gone meanwhile, or another user's: not ours to sweep.
        let Ok(file) = home.open_file(name, OFlag::O_RDWR, Mode::empty()) else { continue };
        let key = super::attach::sysv_key(&file);
        let builder = LockFile::new(file);
        // A builder that has made the file but not locked it yet loses it here, and tries again under a new name.
        if builder.try_lock(BUILDER)? {
            if let Some((key, _)) = key
                && !published(home, key)?
            {
                super::remove_sysv(key)?;
            }
            home.remove(name)?;
        }
    }
    Ok(())
}

/// Whether a System V key stands under a public name.
fn published(home: &Home, key: i32) -> Result<bool> {
    for name in home.files()?.iter().filter(|name| name.ends_with(".sysv")) {
        if let Ok(file) = home.open_file(name, OFlag::O_RDONLY | OFlag::O_NONBLOCK, Mode::empty())
            && super::attach::sysv_key(&file).is_some_and(|(other, _)| other == key)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// An unnamed memory file, sealed: its size can never change, so no peer can make touching it a bus error.
pub fn create_memfd(geometry: &Geometry, identity: &Identity, fingerprint: Fingerprint) -> Result<Segment> {
    let fail = |call: &str, errno: nix::Error| Error::io(call, "a memory file", &errno.into());
    let file = memfd_create(c"memora", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)
        .map_err(|errno| fail("memfd_create", errno))?;
    nix::unistd::ftruncate(&file, geometry.limit as i64).map_err(|errno| fail("ftruncate", errno))?;
    drop(write_tables(&file, None, geometry, identity, fingerprint)?);
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_ADD_SEALS(seals))
        .map_err(|errno| fail("fcntl(F_ADD_SEALS)", errno))?;
    super::attach_memfd(file, false, fingerprint)
}

/// Memory of this process alone.
pub fn create_heap(geometry: &Geometry, identity: &Identity, fingerprint: Fingerprint) -> Result<Segment> {
    let fail = |call: &str, errno: nix::Error| Error::io(call, "memory of the process", &errno.into());
    let file =
        memfd_create(c"memora-heap", MFdFlags::MFD_CLOEXEC).map_err(|errno| fail("memfd_create", errno))?;
    nix::unistd::ftruncate(&file, geometry.limit as i64).map_err(|errno| fail("ftruncate", errno))?;
    let shm = write_tables(&file, None, geometry, identity, fingerprint)?;
    Ok(Segment {
        huge: HugePages::new(Some(&file), geometry.limit),
        shm: Arc::new(shm),
        geometry: *geometry,
        identity: *identity,
        backend: Backend::Heap,
        path: None,
        file: Some(file),
        locks: None,
    })
}

/// Checks the mode that a creator asks for: never for everybody.
pub fn check_mode(mode: u32) -> Result<()> {
    if mode & !0o770 != 0 || mode & 0o600 != 0o600 {
        return Err(Error::new(
            ErrorCode::InvalidArgument,
            format!(
                "Mode {mode:o} is not acceptable: the owner reads and writes, others get nothing (0600, 0640, 0660)."
            ),
        ));
    }
    Ok(())
}
