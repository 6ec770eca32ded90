//! Backups of stores, and what is done with files that no fabric has open.
#![allow(unsafe_code)]

use std::ffi::{CString, c_char, c_int, c_void};

use memora_core::{BackupInfo, Loss, RepairOptions, RestoreOptions, Result, Store};

use crate::guard::{Answer, Border, call};
use crate::handles;
use crate::store::memora_store_t;

/// Hears how far a backup, restore, verification or repair is, in bytes; `total` may be an estimate. The function may call the
/// library, but not throw or jump out.
#[allow(non_camel_case_types)]
pub type memora_progress_fn = Option<unsafe extern "C" fn(context: *mut c_void, done: u64, total: u64)>;

/// What a backup holds.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct memora_backup_info_t {
    /// Records: one of each entry, and those of what changed while it was made.
    pub records: u64,
    /// Bytes of its files.
    pub bytes: u64,
    /// Milliseconds since 1970 at which it was begun.
    pub begun_ms: u64,
}

// SAFETY: only integers, as the assertion on its size shows.
unsafe impl Answer for memora_backup_info_t {}
const _: () = assert!(size_of::<memora_backup_info_t>() == 3 * 8);

/// What is known of the files of a store or backup.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct memora_verify_report_t {
    /// Records in all files that count: several of one key, if it was changed since the checkpoint.
    pub records: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Journal files whose last batch was cut off by a crash, which is legal.
    pub torn: u64,
    /// 1 for a backup, 0 for a store.
    pub backup: u64,
    /// Journal files of which all or a part is kept for the change feed only.
    pub feed_files: u64,
}

// SAFETY: only integers, as the assertion on its size shows.
unsafe impl Answer for memora_verify_report_t {}
const _: () = assert!(size_of::<memora_verify_report_t>() == 5 * 8);

/// Bytes of a store's file that cannot be read any more.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct memora_loss_t {
    /// Name of the file in the store's directory.
    pub file: *const c_char,
    /// What is wrong.
    pub what: *const c_char,
    /// First byte.
    pub from: u64,
    /// Behind the last byte.
    pub to: u64,
    /// Records that stood there, each the state of one key; UINT64_MAX if that is not known.
    pub records: u64,
}

/// Takes one loss of a repair; it is valid only until the function returns.
#[allow(non_camel_case_types)]
pub type memora_loss_fn = Option<unsafe extern "C" fn(context: *mut c_void, loss: *const memora_loss_t)>;

/// With memora_restore(): replace the store that is in the directory.
pub const MEMORA_RESTORE_OVERWRITE: u32 = 1;
/// With memora_repair(): do it, not only say what it would do.
pub const MEMORA_REPAIR_APPLY: u32 = 1;

fn info_of(info: &BackupInfo) -> memora_backup_info_t {
    memora_backup_info_t { records: info.records, bytes: info.bytes, begun_ms: info.begun_ms }
}

fn flag(flags: u32, known: u32) -> Result<bool> {
    match flags & !known {
        0 => Ok(flags & known != 0),
        _ => Err(memora_core::Error::new(
            memora_core::ErrorCode::InvalidArgument,
            format!("`flags` is {flags}, only {known} is known."),
        )),
    }
}

/// How far a call is, told to the caller's function if there is one.
fn progress(function: memora_progress_fn, context: *mut c_void) -> impl FnMut(u64, u64) {
    move |done, total| {
        if let Some(function) = function {
            // SAFETY: within the licence of the call: the caller's function with the caller's pointer.
            unsafe { function(context, done, total) }
        }
    }
}

/// Writes a backup of a store into the directory `dir`, which must be empty or not there, while everybody goes on writing.
///
/// It holds everything that was answered before the call, and is the state of one moment after it, with whole transactions; of a
/// store without files it is that of each key by itself. `function` may be NULL, `info` too;
/// `info_size` is its size.
/// Returns MEMORA_OK, MEMORA_ALREADY_EXISTS, MEMORA_NO_SPACE, MEMORA_PERMISSION_DENIED, MEMORA_NOT_OURS, MEMORA_IO,
/// MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_store_backup(
    store: *mut memora_store_t,
    dir: *const c_char,
    function: memora_progress_fn,
    context: *mut c_void,
    info: *mut memora_backup_info_t,
    info_size: usize,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            let dir = border.text(dir, "dir")?;
            let made = handles::with(handles::number(store), |store: &Store| {
                store.backup(dir, progress(function, context))
            })?;
            put(border, info, info_size, info_of(&made))
        })
    }
}

fn put<T: Answer>(border: &Border, place: *mut T, size: usize, value: T) -> Result<()> {
    if place.is_null() { Ok(()) } else { border.put_sized(place, size, value) }
}

/// Makes a store of the backup in `from`, a directory or a file with a stream, in the directory `to`, which must be empty or not
/// there. Open it with memora_store_open() and that directory.
///
/// `name` is that of the new store, NULL for that of the old one. `flags` is 0 or MEMORA_RESTORE_OVERWRITE. A bad backup leaves no
/// store, and one that was there untouched. `function` and `info` may be NULL.
/// Returns MEMORA_OK, MEMORA_ALREADY_EXISTS, MEMORA_NOT_A_BACKUP, MEMORA_NOT_A_STORE (`to` holds something else),
/// MEMORA_JOURNAL_CORRUPT, MEMORA_TRUNCATED, MEMORA_MANIFEST_MISSING, MEMORA_OTHER_VERSION, MEMORA_BUSY, MEMORA_NO_SPACE,
/// MEMORA_NOT_FOUND, MEMORA_PERMISSION_DENIED, MEMORA_NOT_OURS, MEMORA_IO, MEMORA_INVALID_ARGUMENT,
/// MEMORA_INVALID_NAME.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_restore(
    from: *const c_char,
    to: *const c_char,
    name: *const c_char,
    flags: u32,
    function: memora_progress_fn,
    context: *mut c_void,
    info: *mut memora_backup_info_t,
    info_size: usize,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            let (from, to) = (border.text(from, "from")?, border.text(to, "to")?);
            let options = RestoreOptions {
                name: border.optional_text(name, "name")?.map(str::to_owned),
                overwrite: flag(flags, MEMORA_RESTORE_OVERWRITE)?,
            };
            let made = memora_core::restore(from, to, &options, progress(function, context))?;
            put(border, info, info_size, info_of(&made))
        })
    }
}

/// Reads every byte of the files of a store or backup in `dir` as recovery would; changes nothing and needs no fabric.
///
/// What is wrong first is the answer; memora_last_error_message() names file and offset. `function` and `report` may be NULL.
/// Returns MEMORA_OK, MEMORA_JOURNAL_CORRUPT, MEMORA_TRUNCATED, MEMORA_MANIFEST_MISSING, MEMORA_FEED_DAMAGED (only readers of the
/// change feed lose something), MEMORA_OTHER_VERSION,
/// MEMORA_NOT_A_STORE, MEMORA_NOT_FOUND, MEMORA_PERMISSION_DENIED, MEMORA_NOT_OURS, MEMORA_IO, MEMORA_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_verify(
    dir: *const c_char,
    function: memora_progress_fn,
    context: *mut c_void,
    report: *mut memora_verify_report_t,
    report_size: usize,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            let found = memora_core::verify(border.text(dir, "dir")?, progress(function, context))?;
            let answer = memora_verify_report_t {
                records: found.records,
                bytes: found.bytes,
                torn: u64::from(found.torn),
                backup: u64::from(found.backup),
                feed_files: u64::from(found.feed_files),
            };
            put(border, report, report_size, answer)
        })
    }
}

/// Says what is damaged in the files of a store in `dir` and exactly what that loses: `function` gets each loss. With
/// MEMORA_REPAIR_APPLY in `flags` the rest is saved, and the originals are kept beside under other names.
///
/// `*sound` becomes 1 if there was nothing to repair, else 0; `*records` the number of records that can be read. Each may be NULL, and
/// `function`. `name` is needed only where the file STORE is damaged, else NULL.
/// Returns MEMORA_OK, MEMORA_NOT_A_STORE, MEMORA_OTHER_VERSION, MEMORA_JOURNAL_CORRUPT (nothing of it can be read, or a name is
/// needed), MEMORA_BUSY, MEMORA_NO_SPACE, MEMORA_NOT_FOUND, MEMORA_PERMISSION_DENIED, MEMORA_NOT_OURS, MEMORA_IO,
/// MEMORA_INVALID_ARGUMENT, MEMORA_INVALID_NAME.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_repair(
    dir: *const c_char,
    name: *const c_char,
    flags: u32,
    function: memora_loss_fn,
    context: *mut c_void,
    records: *mut u64,
    sound: *mut c_int,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            let options = RepairOptions {
                apply: flag(flags, MEMORA_REPAIR_APPLY)?,
                name: border.optional_text(name, "name")?.map(str::to_owned),
            };
            let report = memora_core::repair(border.text(dir, "dir")?, &options, |_, _| {})?;
            for loss in &report.losses {
                tell(loss, function, context);
            }
            border.put(records, report.records);
            border.put(sound, c_int::from(report.problem.is_none()));
            Ok(())
        })
    }
}

fn tell(loss: &Loss, function: memora_loss_fn, context: *mut c_void) {
    let Some(function) = function else { return };
    // Names of files of ours and texts of ours hold no NUL.
    let (file, what) = (CString::new(loss.file.as_str()), CString::new(loss.what));
    let (file, what) = (file.unwrap_or_default(), what.unwrap_or_default());
    let loss = memora_loss_t {
        file: file.as_ptr(),
        what: what.as_ptr(),
        from: loss.from,
        to: loss.to,
        records: loss.records.unwrap_or(u64::MAX),
    };
    // SAFETY: within the licence of the call: the caller's function, with pointers that live during the call.
    unsafe { function(context, &loss) }
}
