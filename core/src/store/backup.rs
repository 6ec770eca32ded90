//! Backups of a store while its writers go on.
//!
//! A walk over the table writes each live entry as it is met, so memory holds one batch at a time. Then the store is flushed, and what
//! its journal got since the walk began is written behind: so a backup is the state at the cut of that flush, with whole
//! transactions, as recovery would give it. A store without files has no such journal: there a backup holds, of each key, one whole state that it
//! had after the call began.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use super::Store;
use super::core::Core;
use super::flush::wall_expiry;
use crate::error::{Error, ErrorCode, Result};
use crate::journal::backup::{StreamParts, TERM, read_head, write_head};
use crate::journal::checkpoint::{CheckpointFile, FileParts, Parts};
use crate::journal::layout::{BACKUP_NAME, BackupHead, LOCK_NAME};
use crate::journal::manifest::Manifest;
use crate::journal::{Caller, FileLayer, Journal, Lsn, RealFiles, Record};
use crate::shm::atomic::Ordering;
use crate::shm::time;

/// What a backup holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupInfo {
    /// Name of the store that it was made of.
    pub store: String,
    /// Wall clock in ms at which it was begun.
    pub begun_ms: u64,
    /// Records: one of each entry, and those of what changed while it was made.
    pub records: u64,
    /// Bytes of its parts.
    pub bytes: u64,
}

impl BackupInfo {
    pub(super) fn new(head: &BackupHead, manifest: &Manifest) -> BackupInfo {
        BackupInfo {
            store: head.name.clone(),
            begun_ms: head.begun_ms,
            records: manifest.size().1,
            bytes: manifest.size().0,
        }
    }
}

fn head_of(core: &Core) -> Result<BackupHead> {
    Ok(BackupHead {
        id: uuid::Uuid::new_v4().into_bytes(),
        store: core.words()?.store_id().unwrap_or_default(),
        begun_ms: time::wall_ms(),
        name: core.name.clone(),
        // ORDER Relaxed: a number that stands for itself.
        feed_bytes: core.words()?.feed_bytes().load(Ordering::Relaxed),
    })
}

/// Writes a whole backup but for what makes it count.
fn write_parts<P: Parts>(
    core: &Core,
    head: &BackupHead,
    file: &mut CheckpointFile<P>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Manifest> {
    let total = core.table.stats()?.live_bytes;
    let mut push = |record: &Record<'_>| {
        file.push(record)?;
        if file.records().is_multiple_of(1024) {
            progress(file.bytes(), total.max(file.bytes()));
        }
        Ok(())
    };
    match &core.journal {
        None => core.each_live(&mut push)?,
        Some(journal) => core.each_until_a_cut(journal, &mut push)?,
    }
    let written = file.finish()?;
    progress(written.1, written.1);
    Ok(Manifest {
        shards: if core.journal.is_some() { core.map()?.shards } else { 0 },
        last_epoch: 1,
        order_floor: core.order_floor()?,
        wall_ms: time::wall_ms(),
        ..Manifest::of_one(head.id, TERM, written, Lsn::new(TERM + 1, 0, 0), 1)
    })
}

impl Core {
    /// What makes up the state at one moment, as recovery puts it together: of several states of a key the newest counts.
    fn each_until_a_cut(
        &self,
        journal: &Journal,
        visit: &mut dyn FnMut(&Record<'_>) -> Result<()>,
    ) -> Result<()> {
        let control = self.words()?.journal();
        let me = self.me()?;
        let is_dead = |thread: u16| self.is_dead(thread);
        let refusing = control.accept().is_err();
        if !refusing {
            // So that only what comes from now on stands in the backup twice.
            self.flush()?;
        }
        let moment = journal.moment(control, &Caller { me, is_dead: &is_dead })?;
        self.each_live(visit)?;
        // A store that could not be written all the time has refused all changes: what was seen is one moment already.
        if refusing && control.accept().is_err() {
            return Ok(());
        }
        self.flush()?;
        journal.since(control, moment, visit)
    }

    /// Every entry that is there from the beginning to the end of the call, in one of the states that it has meanwhile.
    fn each_live(&self, visit: &mut dyn FnMut(&Record<'_>) -> Result<()>) -> Result<()> {
        // Without files nothing is numbered: one state of each key is as good as any number.
        let ordered = self.words()?.path()?.is_some();
        let now = self.table.now_ms();
        self.table.each_state(&mut |key, value, state| {
            if state.tombstone || (state.expiry != 0 && state.expiry <= now) {
                return Ok(());
            }
            visit(&Record {
                order: if ordered { state.order } else { 1 },
                expiry_ms: wall_expiry(state.expiry),
                flags: state.client,
                key,
                value: Some(value),
            })
        })
    }
}

/// Writes a backup into a directory that is empty.
pub(super) fn backup_into(
    core: &Core,
    files: &Arc<dyn FileLayer>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<BackupInfo> {
    let names = files.names().map_err(|e| Error::io("readdir", files.place(), &e))?;
    if let Some(name) = names.iter().find(|name| ![LOCK_NAME, "lost+found"].contains(&name.as_str())) {
        let what = match read_head(&**files) {
            Ok(Some(_)) => "a backup".to_owned(),
            _ => format!("`{name}`"),
        };
        return Err(Error::new(
            ErrorCode::AlreadyExists,
            format!("{} is not empty: it holds {what}. Back up into a new directory.", files.place()),
        ));
    }
    let head = head_of(core)?;
    let journal = Journal::new(Arc::clone(files), head.id);
    let mut file = CheckpointFile::begin(FileParts::new(&**files), head.id, (TERM, 0), 1)?;
    let written = write_parts(core, &head, &mut file, progress).and_then(|manifest| {
        journal.publish_manifest(&manifest, &|| true)?;
        write_head(&**files, &head)?;
        Ok(manifest)
    });
    match written {
        Ok(manifest) => Ok(BackupInfo::new(&head, &manifest)),
        Err(error) => {
            // Room that a failed backup takes would only make a full disk fuller.
            for name in [BACKUP_NAME, "BACKUP.tmp", "MANIFEST.0000001", "MANIFEST.0000001.tmp"] {
                let _ = files.remove(name);
            }
            file.abandon();
            Err(error)
        }
    }
}

impl Store {
    /// Writes a backup into a directory, which must be empty or not there, while everybody goes on writing.
    ///
    /// It holds everything that was acknowledged before the call, and is the state of one moment after it, with whole transactions;
    /// of a store without files, and by a read-only attachment, it is that of each key by itself. [`crate::restore`] makes a
    /// store of it. `progress` hears bytes written and about how many there will be.
    pub fn backup(&self, dir: impl AsRef<Path>, mut progress: impl FnMut(u64, u64)) -> Result<BackupInfo> {
        let core = self.core()?;
        let files: Arc<dyn FileLayer> = Arc::new(RealFiles::open(dir.as_ref())?);
        backup_into(core, &files, &mut progress)
    }

    /// Writes a backup as a stream; [`crate::restore_from`] reads it.
    pub fn backup_to(&self, out: &mut dyn Write, mut progress: impl FnMut(u64, u64)) -> Result<BackupInfo> {
        let core = self.core()?;
        let head = head_of(core)?;
        let mut file = CheckpointFile::begin(StreamParts::begin(out, &head)?, head.id, (TERM, 0), 1)?;
        let manifest = write_parts(core, &head, &mut file, &mut progress)?;
        file.into_parts().finish(&manifest)?;
        Ok(BackupInfo::new(&head, &manifest))
    }
}
