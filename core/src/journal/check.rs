//! Verifies the files of a store without any fabric: everything that replay would refuse, and what it would find.

use super::feed;
use super::files::FileLayer;
use super::history::{History, check_history};
use super::replay::{Progress, Replayed, census, replay, survey};
use crate::error::Result;

/// Reads all files that count, as recovery would, and says what they hold.
pub fn check_files(
    files: &dyn FileLayer,
    store: &[u8; 16],
    progress: &mut dyn FnMut(Progress),
) -> Result<Replayed> {
    let found = survey(files, store)?;
    let flushes = census(files, store, &found)?;
    replay(files, store, &found, &flushes, progress, &mut |_| Ok(()))
}

/// As [`check_files`], and then what is kept for the change feed only: `FeedDamaged` says that nothing else is damaged.
pub fn check_all_files(
    files: &dyn FileLayer,
    store: &[u8; 16],
    progress: &mut dyn FnMut(Progress),
) -> Result<(Replayed, History)> {
    let replayed = check_files(files, store, progress)?;
    if feed::kept(files)? == 0 {
        return Ok((replayed, History::default()));
    }
    let history = check_history(files, store, &survey(files, store)?, &mut |done| {
        let bytes = replayed.bytes + done;
        progress(Progress { bytes_done: bytes, bytes_total: bytes, records: replayed.records });
    })?;
    Ok((replayed, history))
}
