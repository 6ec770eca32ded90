//! Every invariant of a store, as code.

use super::layout::Words;
use crate::chunk::{Class, Pool};
use crate::error::{ErrorCode, Result};
use crate::journal::check::check_all_files;
use crate::journal::{Lsn, RealFiles, directory};
use crate::shm::atomic::Ordering;
use crate::table::layout::USER_OFFSET;

/// Times that files which change meanwhile are read before their state is called a problem.
const READINGS: u32 = 5;

/// Reports what is wrong with the store in an object.
pub fn check(
    pool: &Pool,
    object: u32,
    object_offset: u64,
    report: &mut dyn FnMut(String, String),
) -> Result<()> {
    let words = Words::at(pool.shm(), object_offset.saturating_add(USER_OFFSET))?;
    let Some(path) = words.path()? else { return Ok(()) };
    let control = words.journal();
    let place = || format!("store in {}", path.display());
    // The durable number is loaded first: it only ever follows the other.
    // ORDER Acquire [journal-durable]: the number that was drawn for it is seen too.
    let durable = control.durable().load(Ordering::Acquire);
    // ORDER Relaxed: ordered by the load before.
    let epoch = control.epoch().load(Ordering::Relaxed);
    if durable > epoch {
        report(place(), format!("flush {durable} counts as durable, but only {epoch} were begun"));
    }
    let tail = Lsn(control.tail().load(Ordering::Acquire));
    let capacity = control.capacity().load(Ordering::Relaxed);
    if tail.byte() > capacity {
        report(place(), format!("the journal ends at byte {} of a file of {capacity}", tail.byte()));
    }
    for chunk in pool.used_chunks() {
        if let Some(flushed) = pool.flushed_beyond_tail(chunk, object)? {
            report(
                format!("chunk {}", chunk.0),
                format!("class {:?} is flushed up to {flushed}, behind its tail", Class::Store),
            );
        }
    }
    let Some(store) = words.store_id() else { return Ok(()) };
    let files = match RealFiles::open_to_read(&path) {
        Ok(files) => files,
        Err(error) => {
            report(place(), error.detail().to_owned());
            return Ok(());
        }
    };
    match directory::read_identity(&files)? {
        Some(identity) if identity.store == store => {}
        _ => {
            report(place(), "the directory does not hold this store".to_owned());
            return Ok(());
        }
    }
    for reading in 1..=READINGS {
        match check_all_files(&files, &store, &mut |_| {}) {
            Ok(_) => break,
            // A checkpoint may have removed a file between listing and reading; this process makes some by itself.
            Err(error) if reading < READINGS && error.code() != ErrorCode::Forked => {}
            Err(error) => {
                let whose = match error.code() {
                    ErrorCode::FeedDamaged => format!("history of the change feed of the {}", place()),
                    _ => place(),
                };
                report(whose, error.detail().to_owned());
                break;
            }
        }
    }
    Ok(())
}
