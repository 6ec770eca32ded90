//! The store as an object of a fabric: laying it out, opening it, taking over from the dead.

use std::path::Path;
use std::sync::Arc;

use super::core::{Core, Host};
use super::layout::Words;
use super::recovery::Opening;
use super::shards::{SHARDS_DEFAULT, check_shards};
use super::{Durability, Store, StoreOptions};
use crate::chunk::Pool;
use crate::error::{Error, ErrorCode, Result};
use crate::journal::directory::refuse_foreign;
use crate::journal::replay::Progress;
use crate::journal::{FileLayer, Owner, RealFiles, leader};
use crate::shm::{Span, time};
use crate::table::layout::USER_OFFSET;
use crate::table::{self, RecordClass, Table, TableOptions};

/// Bytes of journal from which a checkpoint is made, at least: below, files would be made and removed all the time.
const CHECKPOINT_BYTES_MIN: u64 = 64 << 10;

fn table_options(options: &StoreOptions) -> TableOptions {
    TableOptions { ordered: options.ordered.unwrap_or(false), ..TableOptions::default() }
}

/// Chunks that the object of a store needs in a row.
pub fn chunks_needed(pool: &Pool, options: &StoreOptions) -> u32 {
    table::chunks_needed(pool, &table_options(options))
}

/// What must be right before a store is made, so that a mistyped directory does not leave a store that cannot be opened.
pub fn check_options(name: &str, options: &StoreOptions) -> Result<()> {
    if options.checkpoint_bytes < CHECKPOINT_BYTES_MIN {
        return Err(Error::new(
            ErrorCode::InvalidArgument,
            format!(
                "`checkpoint_bytes` is {}, at least {CHECKPOINT_BYTES_MIN} are needed.",
                options.checkpoint_bytes
            ),
        ));
    }
    if let Some(shards) = options.shards {
        check_shards(shards)?;
    }
    match &options.dir {
        Some(dir) => refuse_foreign(&RealFiles::open(dir)?, Owner::Store, name),
        None => Ok(()),
    }
}

/// Lays out a store in the chunks of a new object, which only the caller can reach yet. `run` is all of them, the object's
/// header in front.
pub fn initialise(pool: &Pool, run: Span<'_>, seed: u64, options: &StoreOptions) -> Result<()> {
    let class = if options.dir.is_some() { RecordClass::Store } else { RecordClass::Memory };
    if options.dir.is_none() && options.durability != Durability::Process {
        return Err(no_directory(options.durability));
    }
    table::initialise(pool, run, class, seed, &table_options(options))?;
    let words = Words::at(run.shm(), run.offset() + USER_OFFSET)?;
    match &options.dir {
        Some(dir) => {
            let path = std::path::absolute(dir).map_err(|e| Error::io("realpath", dir.display(), &e))?;
            words.set_path(&path)
        }
        None => Ok(()),
    }
}

fn no_directory(durability: Durability) -> Error {
    Error::new(
        ErrorCode::InvalidArgument,
        format!(
            "A store without `dir` has no files, so it cannot be {durability:?}: name a directory, or ask for Process."
        ),
    )
}

/// Where an object stands, and whose it is.
pub struct Object<'a> {
    pub name: &'a str,
    pub number: u32,
    /// Where its header begins.
    pub offset: u64,
    /// Id of the fabric.
    pub fabric: [u8; 16],
}

/// Opens the store in an object. The first opener after the loss of the segment reads the files; `say` hears how far.
pub fn open(
    pool: Arc<Pool>,
    host: Arc<dyn Host>,
    object: &Object<'_>,
    options: &StoreOptions,
    say: &mut dyn FnMut(Progress),
) -> Result<Store> {
    if let Some(shards) = options.shards {
        check_shards(shards)?;
    }
    let words = object.offset.saturating_add(USER_OFFSET);
    let path = Words::at(pool.shm(), words)?.path()?;
    let open_files =
        |path: &Path| -> Result<Option<Arc<dyn FileLayer>>> { Ok(Some(Arc::new(RealFiles::open(path)?))) };
    let files = match (&options.dir, &path) {
        // Readers need no files, and must not make any.
        _ if !pool.shm().writable() => None,
        // It may be mounted elsewhere here: what the directory says of itself decides.
        (Some(dir), Some(_)) => open_files(dir)?,
        (None, Some(path)) => open_files(path)?,
        (Some(_), None) => {
            return Err(Error::new(
                ErrorCode::WrongOptions,
                format!("The store `{}` was made without a directory.", object.name),
            ));
        }
        (None, None) if options.durability != Durability::Process => {
            return Err(no_directory(options.durability));
        }
        (None, None) => None,
    };
    let class = if path.is_some() { RecordClass::Store } else { RecordClass::Memory };
    let pool_is_writable = pool.shm().writable();
    let table = Table::open(pool, object.number, object.offset, class, Arc::new(time::boot_ms))?;
    let ordered = table.tree().is_some();
    if options.ordered.is_some_and(|wanted| wanted != ordered) {
        let made = if ordered { "with" } else { "without" };
        return Err(Error::new(
            ErrorCode::WrongOptions,
            format!("The store `{}` was made {made} keys in order.", object.name),
        ));
    }
    let opening = Opening {
        name: object.name,
        fabric: object.fabric,
        fresh: uuid::Uuid::new_v4().into_bytes(),
        checkpoint_bytes: options.checkpoint_bytes,
        shards: options.shards.unwrap_or(SHARDS_DEFAULT),
        files,
        writable: pool_is_writable,
    };
    let core = Core::open(host, table, words, &opening, say)?;
    core.keep_feed(options.feed_bytes)?;
    Store::new(core, options.durability)
}

/// What a dead process has announced ends with the entry of the thread table that was its.
pub fn inherit_snapshots(table: &Table, thread: u16) {
    table.inherit_views(thread);
}

/// Frees what a dead thread led, so that nobody waits until its silence is long enough. Repeating it is harmless.
pub fn inherit(pool: &Pool, object_offset: u64, thread: u16) -> Result<()> {
    let words = Words::at(pool.shm(), object_offset.saturating_add(USER_OFFSET))?;
    for word in [words.journal().leader(), words.checkpointer(), words.recoverer()] {
        leader::inherit(word, thread);
    }
    Ok(())
}
