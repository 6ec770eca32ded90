//! System V shared memory calls, which no safe wrapper offers.

use crate::error::{Error, ErrorCode, Result};

/// What the kernel knows of a segment.
#[derive(Clone, Copy, Debug)]
pub struct Status {
    /// Length in bytes.
    pub len: u64,
    /// Owner's user id.
    pub uid: u32,
    /// Permission bits.
    pub mode: u32,
    /// Processes attached now.
    pub attached: u64,
}

fn last(call: &str, place: impl std::fmt::Display) -> Error {
    Error::io(call, place, &std::io::Error::last_os_error())
}

/// Makes a new segment under `key`; `AlreadyExists` if there is one.
pub fn create(key: i32, len: u64, mode: u32) -> Result<i32> {
    let len = usize::try_from(len).map_err(|_| Error::from(ErrorCode::NoSpace))?;
    // SAFETY: no pointer is passed.
    let id = unsafe { libc::shmget(key, len, libc::IPC_CREAT | libc::IPC_EXCL | (mode & 0o777) as i32) };
    if id < 0 { Err(last("shmget", format_args!("key {key:#x}"))) } else { Ok(id) }
}

/// Finds the segment under `key`.
pub fn find(key: i32) -> Result<i32> {
    // SAFETY: no pointer is passed.
    let id = unsafe { libc::shmget(key, 0, 0) };
    if id < 0 { Err(last("shmget", format_args!("key {key:#x}"))) } else { Ok(id) }
}

/// What the kernel knows of segment `id`.
pub fn status(id: i32) -> Result<Status> {
    // SAFETY: shmid_ds is plain data for which all zeros is a value.
    let mut data: libc::shmid_ds = unsafe { std::mem::zeroed() };
    // SAFETY: `data` is a valid place for the answer.
    if unsafe { libc::shmctl(id, libc::IPC_STAT, &mut data) } < 0 {
        return Err(last("shmctl", format_args!("id {id}")));
    }
    Ok(Status {
        len: data.shm_segsz as u64,
        uid: data.shm_perm.uid,
        mode: u32::from(data.shm_perm.mode) & 0o777,
        attached: data.shm_nattch as u64,
    })
}

/// Gives segment `id` to a group and sets its mode.
pub fn set_access(id: i32, group: Option<u32>, mode: u32) -> Result<()> {
    // SAFETY: shmid_ds is plain data for which all zeros is a value.
    let mut data: libc::shmid_ds = unsafe { std::mem::zeroed() };
    // SAFETY: `data` is a valid place for the answer, then a valid argument.
    let failed = unsafe {
        libc::shmctl(id, libc::IPC_STAT, &mut data) < 0 || {
            data.shm_perm.gid = group.unwrap_or(data.shm_perm.gid);
            data.shm_perm.mode = (mode & 0o777) as _;
            libc::shmctl(id, libc::IPC_SET, &mut data) < 0
        }
    };
    if failed { Err(last("shmctl", format_args!("id {id}"))) } else { Ok(()) }
}

/// Marks segment `id` for removal once nobody is attached.
pub fn remove(id: i32) -> Result<()> {
    // SAFETY: IPC_RMID ignores the pointer.
    if unsafe { libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()) } < 0 {
        return Err(last("shmctl", format_args!("id {id}")));
    }
    Ok(())
}

/// An attached segment; detached when dropped.
pub(in crate::shm) struct Attachment {
    base: *mut u8,
}

impl Attachment {
    #[cfg(not(memora_loom))]
    pub fn new(id: i32, writable: bool) -> Result<Attachment> {
        let flags = if writable { 0 } else { libc::SHM_RDONLY };
        // SAFETY: the kernel chooses the address.
        let base = unsafe { libc::shmat(id, std::ptr::null(), flags) };
        if base as isize == -1 {
            return Err(last("shmat", format_args!("id {id}")));
        }
        Ok(Attachment { base: base.cast() })
    }

    #[cfg(not(memora_loom))]
    pub fn base(&self) -> *mut u8 {
        self.base
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        // SAFETY: `base` came from shmat and is detached once.
        unsafe { libc::shmdt(self.base.cast()) };
    }
}
