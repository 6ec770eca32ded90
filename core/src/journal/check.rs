//! Verifies the files of a store without any fabric: everything that replay would refuse, and what it would find.

use super::files::FileLayer;
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
