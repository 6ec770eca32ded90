//! The file layer: every call that the journal makes on files, as a trait, so that tests can fail, record and cut it.

use std::io;
use std::path::{Path, PathBuf};

use nix::fcntl::{FallocateFlags, OFlag, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};

use crate::error::{Error, ErrorCode, Result};
use crate::shm::{fork, uninterrupted};

/// How a byte of the lock file is to be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockMode {
    /// With others.
    Shared,
    /// Alone.
    Exclusive,
    /// Not at all.
    Free,
}

/// One directory and its files.
///
/// Contract: `write_at` writes everything or fails; after it fails, any part may have been written. What `sync` confirmed
/// survives a power cut; what it did not confirm may be there, not there, or there in part (by sectors). A `sync` that
/// failed says nothing about any earlier write. A created, renamed or removed name survives after `sync_names`.
pub trait FileLayer: Send + Sync {
    /// Makes a new file of length 0; `AlreadyExists` if there is one.
    fn create(&self, name: &str) -> io::Result<Box<dyn LogFile>>;
    /// Opens a file for reading and writing.
    fn open(&self, name: &str) -> io::Result<Box<dyn LogFile>>;
    /// All names in the directory.
    fn names(&self) -> io::Result<Vec<String>>;
    /// Replaces `to` by `from`, atomically.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a name.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes all earlier creations, renames and removals durable.
    fn sync_names(&self) -> io::Result<()>;
    /// Changes how this layer's own open file description holds a byte of the lock file; false if others stand against it.
    /// Never waits. The kernel frees the locks of a process that died.
    fn lock(&self, byte: u64, mode: LockMode) -> io::Result<bool>;
    /// The directory, for messages.
    fn place(&self) -> String;
}

/// An open file.
pub trait LogFile: Send + Sync {
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Reserves blocks up to `len` and makes the file that long.
    fn reserve(&self, len: u64) -> io::Result<()>;
    /// Writes all bytes at a place.
    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()>;
    /// Reads until `into` is full or the file ends.
    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize>;
    /// Makes everything written to the file durable, with its length.
    fn sync(&self) -> io::Result<()>;
}

/// The directory itself, by system calls relative to a checked descriptor.
pub struct RealFiles {
    path: PathBuf,
    directory: OwnedFd,
    /// Stands before the lock, so that it is given up before the descriptor is closed.
    _close_in_child: Option<fork::CloseInChild>,
    /// Its locks stand for this process; a forked child closes its copy at once, by number, so it must not close it again.
    lock: Option<OwnedFd>,
    generation: u64,
    /// Mode of new files: for the owner alone, or for the group that may write into the directory.
    mode: u32,
    /// Whether files are opened for writing, too.
    access: OFlag,
}

/// Opens a directory that is safe to use and tells its mode.
fn open_directory(path: &Path) -> Result<(std::fs::File, u32)> {
    let opened = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(path)
        .map_err(|error| match error.raw_os_error() {
            Some(libc::ENOTDIR) => {
                Error::new(ErrorCode::NotOurs, format!("{} is not a directory.", path.display()))
            }
            _ => Error::io("open", path.display(), &error),
        })?;
    let meta = opened.metadata().map_err(|e| Error::io("fstat", path.display(), &e))?;
    let mode = meta.mode() & 0o777;
    let me = nix::unistd::geteuid().as_raw();
    if mode & 0o002 != 0 || (meta.uid() != me && meta.uid() != 0 && mode & 0o020 == 0) {
        return Err(Error::new(
            ErrorCode::NotOurs,
            format!("{} belongs to user {} with mode {mode:o}.", path.display(), meta.uid()),
        ));
    }
    Ok((opened, mode))
}

fn io_error(errno: nix::errno::Errno) -> io::Error {
    io::Error::from_raw_os_error(errno as i32)
}

impl RealFiles {
    /// Opens the directory, making it (0700, with its parents) where there is none.
    ///
    /// Refused: what is no directory, one of somebody else who is not root and shares no group with us, one that everybody may write, a symbolic
    /// link in the last place.
    pub fn open(path: &Path) -> Result<RealFiles> {
        RealFiles::open_or(path, true)
    }

    /// As [`RealFiles::open`], but a directory that is not there is an error.
    pub fn open_existing(path: &Path) -> Result<RealFiles> {
        RealFiles::open_or(path, false)
    }

    fn open_or(path: &Path, make: bool) -> Result<RealFiles> {
        if make && let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            std::fs::create_dir_all(parent).map_err(|e| Error::io("mkdir", parent.display(), &e))?;
        }
        let made = match make.then(|| std::fs::DirBuilder::new().mode(0o700).create(path)) {
            None => false,
            Some(Ok(())) => true,
            Some(Err(error)) if error.kind() == io::ErrorKind::AlreadyExists => false,
            Some(Err(error)) => return Err(Error::io("mkdir", path.display(), &error)),
        };
        let (opened, mode) = open_directory(path)?;
        let directory = OwnedFd::from(opened);
        // Who may write into the directory may take part in the store; whoever may only look, may not read it.
        let mode = if mode & 0o020 != 0 { 0o660 } else { 0o600 };
        let lock = openat(
            &directory,
            super::layout::LOCK_NAME,
            OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
            Mode::from_bits_truncate(mode),
        )
        .map_err(|e| Error::io("open", path.join(super::layout::LOCK_NAME).display(), &io_error(e)))?;
        // The umask of whoever made the file does not decide who of the group may lock it. Only its owner can mend that.
        let _ = nix::sys::stat::fchmod(&lock, Mode::from_bits_truncate(mode));
        if made && let Some(parent) = path.parent() {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            std::fs::File::open(parent)
                .and_then(|parent| parent.sync_all())
                .map_err(|e| Error::io("fsync", parent.display(), &e))?;
        }
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Ok(RealFiles {
            path,
            directory,
            generation: fork::begin(),
            _close_in_child: fork::close_in_child(lock.as_raw_fd()),
            lock: Some(lock),
            mode,
            access: OFlag::O_RDWR,
        })
    }

    /// Opens a directory to read its files and nothing else: neither a lock nor the right to write is needed.
    pub fn open_to_read(path: &Path) -> Result<RealFiles> {
        let (opened, mode) = open_directory(path)?;
        Ok(RealFiles {
            path: std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
            directory: OwnedFd::from(opened),
            generation: fork::begin(),
            _close_in_child: None,
            lock: None,
            mode,
            access: OFlag::O_RDONLY,
        })
    }

    fn open_at(&self, name: &str, flags: OFlag) -> io::Result<RealFile> {
        let flags = flags | self.access | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd =
            openat(&self.directory, name, flags, Mode::from_bits_truncate(self.mode)).map_err(io_error)?;
        let file = std::fs::File::from(fd);
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok(RealFile { file })
    }
}

impl Drop for RealFiles {
    fn drop(&mut self) {
        if fork::generation() != self.generation {
            std::mem::forget(self.lock.take());
        }
    }
}

impl FileLayer for RealFiles {
    fn create(&self, name: &str) -> io::Result<Box<dyn LogFile>> {
        let file = self.open_at(name, OFlag::O_CREAT | OFlag::O_EXCL)?;
        // The umask of this process does not decide who of the group may read.
        nix::sys::stat::fchmod(&file.file, Mode::from_bits_truncate(self.mode)).map_err(io_error)?;
        Ok(Box::new(file))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn LogFile>> {
        Ok(Box::new(self.open_at(name, OFlag::empty())?))
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let own = openat(
            &self.directory,
            ".",
            OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
            Mode::empty(),
        )
        .map_err(io_error)?;
        let mut directory = nix::dir::Dir::from_fd(own).map_err(io_error)?;
        let mut names = Vec::new();
        for entry in directory.iter() {
            let entry = entry.map_err(io_error)?;
            // A name that is no UTF-8 is none of ours.
            if let Ok(name) = entry.file_name().to_str()
                && name != "."
                && name != ".."
            {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        renameat(&self.directory, from, &self.directory, to).map_err(io_error)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        unlinkat(&self.directory, name, UnlinkatFlags::NoRemoveDir).map_err(io_error)
    }

    fn sync_names(&self) -> io::Result<()> {
        uninterrupted(|| nix::unistd::fsync(&self.directory)).map_err(io_error)
    }

    fn lock(&self, byte: u64, mode: LockMode) -> io::Result<bool> {
        let kind = match mode {
            LockMode::Shared => libc::F_RDLCK,
            LockMode::Exclusive => libc::F_WRLCK,
            LockMode::Free => libc::F_UNLCK,
        };
        let range = libc::flock {
            l_type: kind as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: byte as libc::off_t,
            l_len: 1,
            l_pid: 0,
        };
        let Some(lock) = self.lock.as_ref().filter(|_| fork::generation() == self.generation) else {
            return Err(io::Error::other("the directory was opened before a fork"));
        };
        match nix::fcntl::fcntl(lock.as_fd(), nix::fcntl::FcntlArg::F_OFD_SETLK(&range)) {
            Ok(_) => Ok(true),
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EACCES) => Ok(false),
            Err(errno) => Err(io_error(errno)),
        }
    }

    fn place(&self) -> String {
        self.path.display().to_string()
    }
}

struct RealFile {
    file: std::fs::File,
}

impl LogFile for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn reserve(&self, len: u64) -> io::Result<()> {
        let len = libc::off_t::try_from(len).map_err(|_| io::Error::from_raw_os_error(libc::EFBIG))?;
        match uninterrupted(|| nix::fcntl::fallocate(&self.file, FallocateFlags::empty(), 0, len)) {
            Ok(()) => Ok(()),
            // A file system that cannot reserve: writing zeros takes the blocks as well.
            Err(nix::errno::Errno::EOPNOTSUPP | nix::errno::Errno::ENOSYS) => {
                let zeros = vec![0; 1 << 20];
                let len = len as u64;
                let mut at = self.len()?;
                while at < len {
                    let part = (len - at).min(zeros.len() as u64);
                    self.file.write_all_at(&zeros[..part as usize], at)?;
                    at += part;
                }
                Ok(())
            }
            Err(errno) => Err(io_error(errno)),
        }
    }

    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, at)
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while done < into.len() {
            match self.file.read_at(&mut into[done..], at + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn sync(&self) -> io::Result<()> {
        // fdatasync writes the length too where reading the data back needs it.
        uninterrupted(|| nix::unistd::fdatasync(self.file.as_fd())).map_err(io_error)
    }
}
