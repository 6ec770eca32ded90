//! The directory of a user's fabrics, and names in it.
//!
//! `$MEMORA_HOME`, else `/dev/shm/memora-<uid>`. It is made with mode 0700 and refused if it is a symbolic link, belongs to
//! somebody else, or lets others write. All files are opened relative to a descriptor of the checked directory.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat};
use nix::sys::statvfs::statvfs;

use super::layout::bytes_text;
use crate::error::{Error, ErrorCode, Result};
use crate::limits::NAME_LEN_MAX;

/// The directory that is used when the caller names none.
pub fn default_home() -> PathBuf {
    match std::env::var_os("MEMORA_HOME") {
        Some(home) if !home.is_empty() => PathBuf::from(home),
        _ => PathBuf::from(format!("/dev/shm/memora-{}", nix::unistd::geteuid())),
    }
}

/// Checks the name of a fabric or object.
pub fn check_name(name: &str) -> Result<()> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if name.is_empty() || name.len() > NAME_LEN_MAX || name.starts_with('.') || !name.bytes().all(legal) {
        return Err(Error::new(
            ErrorCode::InvalidName,
            format!("The name `{}` is not acceptable.", name.escape_debug()),
        ));
    }
    Ok(())
}

/// A checked directory, open.
#[derive(Debug)]
pub struct Home {
    path: PathBuf,
    directory: OwnedFd,
}

impl Home {
    /// Opens a directory; with `create` makes it first if it is missing (its last part only).
    pub fn open(path: &Path, create: bool) -> Result<Home> {
        if create {
            match nix::unistd::mkdir(path, Mode::S_IRWXU) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(errno) => return Err(Error::io("mkdir", path.display(), &errno.into())),
            }
        }
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let directory = open(path, flags, Mode::empty()).map_err(|errno| match errno {
            Errno::ELOOP | Errno::ENOTDIR => Error::new(
                ErrorCode::NotOurs,
                format!("{} is no directory, or a symbolic link.", path.display()),
            ),
            errno => Error::io("open", path.display(), &errno.into()),
        })?;
        let status = fstat(&directory).map_err(|errno| Error::io("fstat", path.display(), &errno.into()))?;
        check_directory(path, &status)?;
        Ok(Home { path: path.to_owned(), directory })
    }

    /// Opens the directory of POSIX shared memory: everybody's, but sticky.
    pub fn posix() -> Result<Home> {
        Home::open(Path::new("/dev/shm"), false)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a file in the directory, for messages.
    pub fn join(&self, file: &str) -> PathBuf {
        self.path.join(file)
    }

    /// Opens a file of the directory, never through a symbolic link.
    pub fn open_file(&self, file: &str, flags: OFlag, mode: Mode) -> Result<OwnedFd> {
        openat(&self.directory, file, flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, mode).map_err(|errno| {
            match errno {
                Errno::ELOOP => Error::new(
                    ErrorCode::NotOurs,
                    format!("{} is a symbolic link.", self.join(file).display()),
                ),
                errno => Error::io("open", self.join(file).display(), &errno.into()),
            }
        })
    }

    /// Gives a file its public name, unless the name is taken (`AlreadyExists`).
    pub fn publish(&self, private: &str, public: &str) -> Result<()> {
        use nix::fcntl::AtFlags;
        nix::unistd::linkat(&self.directory, private, &self.directory, public, AtFlags::empty())
            .map_err(|errno| Error::io("linkat", self.join(public).display(), &errno.into()))
    }

    /// Removes a name; a missing one is no error.
    pub fn remove(&self, file: &str) -> Result<()> {
        use nix::unistd::{UnlinkatFlags, unlinkat};
        match unlinkat(&self.directory, file, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(Error::io("unlink", self.join(file).display(), &errno.into())),
        }
    }

    /// The names of the files in the directory.
    pub fn files(&self) -> Result<Vec<String>> {
        let entries = std::fs::read_dir(&self.path)
            .map_err(|error| Error::io("read directory", self.path.display(), &error))?;
        Ok(entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect())
    }
}

fn check_directory(path: &Path, status: &FileStat) -> Result<()> {
    let me = nix::unistd::geteuid().as_raw();
    let mode = status.st_mode;
    let sticky = mode & Mode::S_ISVTX.bits() != 0;
    let group_shared = mode & Mode::S_ISGID.bits() != 0;
    let refuse = |why: String| Err(Error::new(ErrorCode::NotOurs, format!("{} {why}.", path.display())));
    // A directory that another user made for a group (setgid, as a mounted volume with a group has it) is fine: the files
    // in it carry their own owner and mode. So is a sticky one, where nobody can replace another's files.
    if status.st_uid != me && status.st_uid != 0 && !group_shared && !sticky {
        return refuse(format!("belongs to user {}, not to {me}", status.st_uid));
    }
    if mode & Mode::S_IWOTH.bits() != 0 && !sticky {
        return refuse(format!("can be written by everybody (mode {:o})", mode & 0o7777));
    }
    Ok(())
}

/// What to check of a file before mapping it: a plain file with one name, owned by us, root or a user whose group we share.
pub fn check_file(place: &str, status: &FileStat) -> Result<()> {
    let refuse = |why: String| Err(Error::new(ErrorCode::NotOurs, format!("{place} {why}.")));
    if status.st_mode & SFlag::S_IFMT.bits() != SFlag::S_IFREG.bits() {
        return refuse("is not a plain file".to_owned());
    }
    if status.st_mode & Mode::S_IWOTH.bits() != 0 {
        return refuse(format!("can be written by everybody (mode {:o})", status.st_mode & 0o7777));
    }
    let me = nix::unistd::geteuid().as_raw();
    let shared = status.st_mode & Mode::S_IRWXG.bits() != 0 && status.st_gid != 0;
    if status.st_uid != me && me != 0 && status.st_uid != 0 && !shared {
        return refuse(format!("belongs to user {}, not to {me}", status.st_uid));
    }
    Ok(())
}

/// Whether a file lies in memory, so that it does not outlive a boot.
pub fn is_in_memory(file: &OwnedFd) -> bool {
    use nix::sys::statfs::{FsType, HUGETLBFS_MAGIC, TMPFS_MAGIC, fstatfs};
    const RAMFS_MAGIC: FsType = FsType(0x8584_58f6);
    fstatfs(file)
        .is_ok_and(|status| [TMPFS_MAGIC, HUGETLBFS_MAGIC, RAMFS_MAGIC].contains(&status.filesystem_type()))
}

/// Gives a new file its mode, whatever the umask, and its group.
pub fn set_access(file: &OwnedFd, place: &Path, mode: u32, group: Option<u32>) -> Result<()> {
    if let Some(group) = group {
        nix::unistd::fchown(file, None, Some(nix::unistd::Gid::from_raw(group)))
            .map_err(|errno| Error::io("fchown", place.display(), &errno.into()))?;
    }
    fchmod(file, Mode::from_bits_truncate(mode))
        .map_err(|errno| Error::io("fchmod", place.display(), &errno.into()))
}

/// A second description of an open file: locks and offsets are then apart.
pub fn reopen(file: &OwnedFd, flags: OFlag) -> Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    open(path.as_str(), flags | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(|errno| Error::io("open", &path, &errno.into()))
}

/// How much room the file system of a path has, in words.
pub fn room_text(path: Option<&Path>) -> String {
    let Some(status) = path.and_then(Path::parent).and_then(|folder| Some((folder, statvfs(folder).ok()?)))
    else {
        return "the host has no memory left".to_owned();
    };
    let (folder, status) = status;
    let unit = status.fragment_size();
    format!(
        "{} has {} free of {}",
        folder.display(),
        bytes_text(status.blocks_available() * unit),
        bytes_text(status.blocks() * unit)
    )
}
