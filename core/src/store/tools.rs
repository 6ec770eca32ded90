//! What can be done with the files of a store that no fabric has open: restore, verify, repair.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use super::backup::BackupInfo;
use crate::error::{Error, ErrorCode, Result};
use crate::journal::backup::{StreamReader, read_head};
use crate::journal::check::{check_all_files, check_files};
use crate::journal::checkpoint::{CheckpointFile, FileParts};
use crate::journal::directory::{ASIDE, enter_for_tools, foreign_names, read_identity, write_identity};
use crate::journal::feed;
use crate::journal::layout::{BackupHead, FILE_HEADER_LEN, FileHeader, FileName, IDENTITY_NAME, Identity};
use crate::journal::manifest::Manifest;
use crate::journal::replay::{Census, replay, survey};
use crate::journal::salvage::{self, Loss};
use crate::journal::{FileLayer, Journal, Lsn, Owner, RealFiles, Record};
use crate::segment::home::check_name;

/// How a backup is restored.
#[derive(Clone, Debug, Default)]
pub struct RestoreOptions {
    /// Name of the new store. `None`: that of the store which was backed up.
    pub name: Option<String>,
    /// Whether a store that is in the directory already is replaced. It stays as it is if the backup turns out to be bad.
    pub overwrite: bool,
}

/// What verifying the files of a store or backup found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyReport {
    /// Name of the store.
    pub store: String,
    /// Whether it is a backup.
    pub backup: bool,
    /// Records in all files that count: several of one key, if it was changed since the checkpoint.
    pub records: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Journal files whose last batch was cut off by a crash, which is legal.
    pub torn: u32,
    /// Journal files of which all or a part is kept for the change feed only.
    pub feed_files: u32,
}

/// How a store is repaired.
#[derive(Clone, Debug, Default)]
pub struct RepairOptions {
    /// Does it. Else it only says what would be lost.
    pub apply: bool,
    /// Name of the store, needed where the file `STORE` itself is damaged.
    pub name: Option<String>,
}

/// What a repair loses and keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepairReport {
    /// What recovery says of the files as they are; `None` if they are sound and nothing was done.
    pub problem: Option<Error>,
    /// Everything that cannot be read.
    pub losses: Vec<Loss>,
    /// Records that can be read.
    pub records: u64,
    /// Names under which the originals were kept, in the same directory; empty if nothing was done.
    pub originals: Vec<String>,
}

/// Makes a store of the backup in `from` (a directory, or a file with a stream) in the directory `to`, which must be empty or
/// not there, unless `overwrite` is asked for.
///
/// Every checksum is verified on the way; a bad backup leaves no store, and one that was there untouched. The new store has an
/// id of its own. `progress` hears bytes done and in all.
pub fn restore(
    from: impl AsRef<Path>,
    to: impl AsRef<Path>,
    options: &RestoreOptions,
    mut progress: impl FnMut(u64, u64),
) -> Result<BackupInfo> {
    let from = from.as_ref();
    let meta = std::fs::metadata(from).map_err(|e| Error::io("open", from.display(), &e))?;
    if !meta.is_dir() {
        let mut file = std::fs::File::open(from).map_err(|e| Error::io("open", from.display(), &e))?;
        let total = meta.len();
        return restore_stream(&mut file, to.as_ref(), options, &mut |done| progress(done, total));
    }
    let source = RealFiles::open_to_read(from)?;
    let head = backup_head(&source)?;
    let found = survey(&source, &head.id)?;
    let Some(manifest) = &found.manifest else {
        let what = format!("{}/MANIFEST.0000001: the file is missing.", source.place());
        return Err(Error::new(ErrorCode::ManifestMissing, what));
    };
    restore_into(to.as_ref(), options, &head, &mut |push| {
        let mut say = |step: crate::journal::replay::Progress| progress(step.bytes_done, step.bytes_total);
        replay(&source, &head.id, &found, &Census::default(), &mut say, push)?;
        Ok(manifest.clone())
    })
}

/// As [`restore`], from a stream that [`crate::Store::backup_to`] wrote; `progress` hears bytes read.
pub fn restore_from(
    input: &mut dyn Read,
    to: impl AsRef<Path>,
    options: &RestoreOptions,
    mut progress: impl FnMut(u64),
) -> Result<BackupInfo> {
    restore_stream(input, to.as_ref(), options, &mut progress)
}

fn restore_stream(
    input: &mut dyn Read,
    to: &Path,
    options: &RestoreOptions,
    say: &mut dyn FnMut(u64),
) -> Result<BackupInfo> {
    let reader = StreamReader::begin(input)?;
    let head = reader.head.clone();
    let mut reader = Some(reader);
    restore_into(to, options, &head, &mut |push| match reader.take() {
        Some(reader) => reader.read(say, push),
        None => Err(Error::new(ErrorCode::Internal, "The stream was read twice.")),
    })
}

fn backup_head(files: &dyn FileLayer) -> Result<BackupHead> {
    match read_head(files)? {
        Some(head) => Ok(head),
        None => {
            let what = match read_identity(files) {
                Ok(Some(_)) => "it is a store",
                _ => "it has no file BACKUP",
            };
            Err(Error::new(
                ErrorCode::NotABackup,
                format!("{} is no complete backup: {what}.", files.place()),
            ))
        }
    }
}

type Push<'a> = dyn FnMut(&Record<'_>) -> Result<()> + 'a;

fn names_of(files: &dyn FileLayer) -> Result<Vec<String>> {
    files.names().map_err(|e| Error::io("readdir", files.place(), &e))
}

fn remove(files: &dyn FileLayer, name: &str) -> Result<()> {
    files.remove(name).map_err(|e| Error::io("unlink", format_args!("{}/{name}", files.place()), &e))
}

/// Takes the directory, writes what `produce` reads, and last of all makes it a store.
fn restore_into(
    to: &Path,
    options: &RestoreOptions,
    head: &BackupHead,
    produce: &mut dyn FnMut(&mut Push<'_>) -> Result<Manifest>,
) -> Result<BackupInfo> {
    let files = RealFiles::open(to)?;
    enter_for_tools(&files)?;
    restore_taken(Arc::new(files), options, head, produce)
}

/// As [`restore_into`], in a directory that is this process's alone.
pub(super) fn restore_taken(
    files: Arc<dyn FileLayer>,
    options: &RestoreOptions,
    head: &BackupHead,
    produce: &mut dyn FnMut(&mut Push<'_>) -> Result<Manifest>,
) -> Result<BackupInfo> {
    // Before anything is touched: no fabric could open a store of another name.
    let name = options.name.clone().unwrap_or_else(|| head.name.clone());
    check_name(&name)?;
    if let Some(name) = foreign_names(&*files)?.first() {
        return Err(Error::new(
            ErrorCode::NotAStore,
            format!("{} is not empty and not a store: it holds `{name}`.", files.place()),
        ));
    }
    // A damaged identity is what overwriting may replace; a log is not.
    match store_identity(&*files) {
        Err(error) if error.code() == ErrorCode::NotAStore => return Err(error),
        _ => {}
    }
    let before: Vec<String> = names_of(&*files)?
        .into_iter()
        .filter(|name| name == IDENTITY_NAME || FileName::parse(name).is_some())
        .collect();
    if let Some(name) = before.first()
        && !options.overwrite
    {
        let what = match read_identity(&*files) {
            Ok(Some(found)) => format!("the store `{}`", found.name),
            _ => format!("`{name}`"),
        };
        return Err(Error::new(
            ErrorCode::AlreadyExists,
            format!("{} holds {what}: restore replaces it only if it is asked to overwrite.", files.place()),
        ));
    }
    let term_max =
        before.iter().filter_map(|name| FileName::parse(name)).map(FileName::term).max().unwrap_or(0);
    let store = uuid::Uuid::new_v4().into_bytes();
    let term = next_term(term_max)?;
    let mut file = CheckpointFile::begin(FileParts::new(&*files), store, (term, 0), 1)?;
    let written =
        produce(&mut |record| file.push(record)).and_then(|manifest| Ok((manifest, file.finish()?)));
    let (told, written) = match written {
        Ok(written) => written,
        Err(error) => {
            file.abandon();
            return Err(error);
        }
    };
    // From here on the backup is known to be good. What was there stops being a store before its files go.
    // DIES BEFORE: what was there is untouched.  DIES AFTER: no store, until the new identity has its name; the restore can be
    // done again.
    kill_point!("store.restore.before_removing");
    if before.iter().any(|name| name == IDENTITY_NAME) {
        remove(&*files, IDENTITY_NAME)?;
        files.sync_names().map_err(|e| Error::io("fsync", files.place(), &e))?;
    }
    for name in before.iter().filter(|name| *name != IDENTITY_NAME) {
        remove(&*files, name)?;
        kill_point!("store.restore.removing");
    }
    let manifest = Manifest {
        shards: told.shards,
        last_epoch: told.last_epoch,
        order_floor: told.order_floor,
        wall_ms: told.wall_ms,
        ..Manifest::of_one(store, term, written, Lsn::new(term + 1, 0, 0), told.first_epoch)
    };
    Journal::new(Arc::clone(&files), store).publish_manifest(&manifest, &|| true)?;
    if feed::kept(&*files).ok() != Some(head.feed_bytes) {
        feed::write(&*files, head.feed_bytes)?;
    }
    let identity = Identity { store, fabric: [0; 16], owner: Owner::Store, manifest: term, name };
    write_identity(&*files, &identity)?;
    Ok(BackupInfo::new(head, &manifest))
}

fn next_term(term: u32) -> Result<u32> {
    if term + 2 >= Lsn::PART_MAX {
        return Err(Error::new(ErrorCode::Full, "All terms of the journal are used up."));
    }
    Ok(term + 1)
}

/// Reads every byte of the files of a store or backup as recovery would; changes nothing, needs no lock and no fabric.
///
/// The first thing that is wrong is the error, with file and offset; `FeedDamaged` where only readers of the change feed lose
/// something. A store may be in use meanwhile.
pub fn verify(dir: impl AsRef<Path>, mut progress: impl FnMut(u64, u64)) -> Result<VerifyReport> {
    /// Times that files which change meanwhile are read before their state is called a problem.
    const READINGS: u32 = 5;
    let files = RealFiles::open_to_read(dir.as_ref())?;
    let (id, store, backup) = match read_head(&files)? {
        Some(head) => (head.id, head.name, true),
        None => {
            let identity = identity_of(&files)?;
            (identity.store, identity.name, false)
        }
    };
    let mut reading = 1;
    loop {
        let found = check_all_files(&files, &id, &mut |step| progress(step.bytes_done, step.bytes_total));
        match found {
            Ok((found, history)) => {
                return Ok(VerifyReport {
                    store,
                    backup,
                    records: found.records,
                    bytes: found.bytes + history.bytes,
                    torn: found.torn,
                    feed_files: history.files,
                });
            }
            Err(error) if reading == READINGS || error.code() == ErrorCode::OtherVersion => {
                return Err(error);
            }
            // A checkpoint may have removed a file between listing and reading.
            Err(_) => reading += 1,
        }
    }
}

/// The identity of a store; the files of a log are refused: their lines are no records, and a repair would lose them all.
fn store_identity(files: &dyn FileLayer) -> Result<Option<Identity>> {
    match read_identity(files)? {
        Some(found) if found.owner != Owner::Store => Err(Error::new(
            ErrorCode::NotAStore,
            format!(
                "{} is no store: it belongs to the {} `{}`.",
                files.place(),
                found.owner.noun(),
                found.name
            ),
        )),
        identity => Ok(identity),
    }
}

fn identity_of(files: &dyn FileLayer) -> Result<Identity> {
    store_identity(files)?.ok_or_else(|| {
        Error::new(ErrorCode::NotAStore, format!("{} is no store: it has no file STORE.", files.place()))
    })
}

/// Says what is damaged in the files of a store and exactly what that loses; with `apply`, saves the rest.
///
/// Whatever is readable is written as a new checkpoint; the originals stay in the directory under other names. A key whose newest
/// state is lost has its state before that, or none; one that was deleted there may come back.
pub fn repair(
    dir: impl AsRef<Path>,
    options: &RepairOptions,
    mut progress: impl FnMut(u64, u64),
) -> Result<RepairReport> {
    let mut say = |step: crate::journal::replay::Progress| progress(step.bytes_done, step.bytes_total);
    if !options.apply {
        return repair_taken(Arc::new(RealFiles::open_to_read(dir.as_ref())?), options, &mut say);
    }
    let files = RealFiles::open_existing(dir.as_ref())?;
    enter_for_tools(&files)?;
    repair_taken(Arc::new(files), options, &mut say)
}

/// The identity, or what can be known of it where its file is damaged.
fn identity_or_guess(files: &dyn FileLayer, options: &RepairOptions) -> Result<(Identity, Option<Error>)> {
    let problem = match store_identity(files) {
        Ok(Some(identity)) => return Ok((identity, None)),
        Ok(None) => Error::new(
            ErrorCode::NotAStore,
            format!("{}/{IDENTITY_NAME}: the file is missing.", files.place()),
        ),
        Err(error) if error.code() == ErrorCode::JournalCorrupt => error,
        Err(error) => return Err(error),
    };
    let mut store = None;
    for name in names_of(files)? {
        let Some(FileName::Journal { .. } | FileName::Checkpoint { .. }) = FileName::parse(&name) else {
            continue;
        };
        let mut bytes = vec![0; FILE_HEADER_LEN as usize];
        let read = files.open(&name).and_then(|file| file.read_at(0, &mut bytes));
        let len = read.map_err(|e| Error::io("read", format_args!("{}/{name}", files.place()), &e))?;
        store = store.or_else(|| FileHeader::decode(&bytes[..len]).ok().map(|header| header.store));
    }
    match (store, &options.name) {
        (None, _) => Err(problem),
        (Some(_), None) => Err(Error::new(
            problem.code(),
            format!("{} Its files say which store it was, but not its name: name it.", problem.detail()),
        )),
        (Some(store), Some(name)) => {
            check_name(name)?;
            let (fabric, name) = ([0; 16], name.clone());
            Ok((Identity { store, fabric, owner: Owner::Store, manifest: 0, name }, Some(problem)))
        }
    }
}

/// As [`repair`], in a directory that is this process's alone, or is only read.
pub(super) fn repair_taken(
    files: Arc<dyn FileLayer>,
    options: &RepairOptions,
    say: &mut dyn FnMut(crate::journal::replay::Progress),
) -> Result<RepairReport> {
    let (identity, damaged) = identity_or_guess(&*files, options)?;
    let store = identity.store;
    let strict = check_files(&*files, &store, say);
    let problem = match (damaged, strict) {
        (None, Ok(found)) => {
            return Ok(RepairReport {
                problem: None,
                losses: Vec::new(),
                records: found.records,
                originals: Vec::new(),
            });
        }
        (Some(damaged), _) => damaged,
        (None, Err(error)) => match error.code() {
            ErrorCode::JournalCorrupt | ErrorCode::Truncated | ErrorCode::ManifestMissing => error,
            _ => return Err(error),
        },
    };
    let expected = identity.manifest != 0 || problem.code() == ErrorCode::ManifestMissing;
    let found = salvage::examine(&*files, &store, expected, say)?;
    let term = next_term(found.term_max)?;
    let mut file = if options.apply {
        Some(CheckpointFile::begin(FileParts::new(&*files), store, (term, 0), 1)?)
    } else {
        None
    };
    let kept = found.read(&*files, &store, say, &mut |record| match &mut file {
        Some(file) => file.push(record),
        None => Ok(()),
    });
    let kept = match (kept, file.is_some()) {
        (Err(error), true) => {
            if let Some(file) = file {
                file.abandon();
            }
            return Err(error);
        }
        (kept, _) => kept?,
    };
    let mut report = RepairReport {
        problem: Some(problem),
        losses: found.losses,
        records: kept.records,
        originals: Vec::new(),
    };
    let Some(mut file) = file else { return Ok(report) };
    let written = match file.finish() {
        Ok(written) => written,
        Err(error) => {
            file.abandon();
            return Err(error);
        }
    };
    let manifest = Manifest {
        shards: found.manifest.as_ref().map_or(0, |manifest| manifest.shards),
        last_epoch: kept.epoch_max,
        order_floor: kept.order_max,
        wall_ms: kept.wall_ms,
        ..Manifest::of_one(store, term, written, Lsn::new(term + 1, 0, 0), kept.epoch_max)
    };
    // No fabric may go on with what it holds in memory: it was written to files that count no more from the next step on, and would be
    // written on behind them. Where `STORE` is damaged it names none.
    let cut_off = match identity.fabric == [0; 16] {
        true => Ok(()),
        false => write_identity(&*files, &Identity { fabric: [0; 16], ..identity.clone() }),
    };
    let journal = Journal::new(Arc::clone(&files), store);
    if let Err(error) = cut_off.and_then(|()| journal.publish_manifest(&manifest, &|| true)) {
        // Room that it takes would only make a full disk fuller; unless it counts already.
        let name = FileName::Manifest { term }.to_string();
        if names_of(&*files).is_ok_and(|names| !names.contains(&name)) {
            file.abandon();
        }
        return Err(error);
    }
    // Nothing but the new checkpoint counts any more. Its predecessors are not made obsolete, but kept.
    // DIES BEFORE: a sound store, which the next opener rids of what is obsolete.  DIES AFTER: the same, with fewer names.
    kill_point!("store.repair.before_aside");
    for name in found.names {
        let aside = format!("{name}.{term:07}{ASIDE}");
        files
            .rename(&name, &aside)
            .map_err(|e| Error::io("rename", format_args!("{}/{name}", files.place()), &e))?;
        kill_point!("store.repair.aside");
        report.originals.push(aside);
    }
    files.sync_names().map_err(|e| Error::io("fsync", files.place(), &e))?;
    write_identity(&*files, &Identity { fabric: [0; 16], manifest: term, ..identity })?;
    Ok(report)
}
