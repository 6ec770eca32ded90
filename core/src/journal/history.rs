//! Verifies the files of the journal that checkpoints need no more and that are kept for the change feed.
//!
//! Recovery never reads them, so damage in them loses no data: it ends the readers of the feed that have not come past it.
//! Which of them were written is known by going back from the newest: each file says which one came before it, and up to where that one
//! was synced.

use super::files::FileLayer;
use super::layout::{FILE_HEADER_LEN, FIRST_SECTOR, FileHeader, FileName, file_tag};
use super::lsn::Lsn;
use super::replay::{Survey, corrupt, journal_at, read_file, records};
use crate::error::{Error, ErrorCode, Result};

/// What the files hold that only the feed needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// One of which it needs a part alone included.
    pub files: u32,
    pub records: u64,
    pub bytes: u64,
}

/// The header of a file; `None` if it has none, or one of something else.
fn header_of(files: &dyn FileLayer, store: &[u8; 16], place: Lsn) -> Result<Option<FileHeader>> {
    let name = journal_at(place);
    let file = files.open(&name.to_string()).map_err(|e| super::append::failed(files, "open", name, &e))?;
    let mut bytes = vec![0; FILE_HEADER_LEN as usize];
    let len = file.read_at(0, &mut bytes).map_err(|e| super::append::failed(files, "read", name, &e))?;
    let header = FileHeader::decode(&bytes[..len]).ok();
    Ok(header.filter(|header| header.store == *store && header.tag == file_tag(store, name)))
}

/// Reads what is older than the manifest needs. `FeedDamaged` tells the first thing that is wrong, with file and offset.
pub fn check_history(
    files: &dyn FileLayer,
    store: &[u8; 16],
    survey: &Survey,
    progress: &mut dyn FnMut(u64),
) -> Result<History> {
    checked(files, store, survey, progress).map_err(|error| match error.code() {
        ErrorCode::JournalCorrupt => Error::new(ErrorCode::FeedDamaged, error.detail()),
        _ => error,
    })
}

fn checked(
    files: &dyn FileLayer,
    store: &[u8; 16],
    survey: &Survey,
    progress: &mut dyn FnMut(u64),
) -> Result<History> {
    let mut history = History::default();
    let Some(manifest) = &survey.manifest else { return Ok(history) };
    let needed = manifest.first.at_sector(FIRST_SECTOR);
    // Whole files: where one begins to count does not matter here.
    let mut all: Vec<Lsn> = survey.journals.iter().map(|place| place.at_sector(FIRST_SECTOR)).collect();
    for name in &survey.obsolete {
        if let Some(FileName::Journal { term, number }) = FileName::parse(name) {
            all.push(Lsn::new(term, number, FIRST_SECTOR));
        }
    }
    all.sort_unstable();
    // The newest one that was begun: checkpoints need that one, or a later one.
    let mut header = loop {
        let Some(place) = all.pop() else { return Ok(history) };
        if let Some(header) = header_of(files, store, place)? {
            if place == needed {
                front(files, store, manifest.first, &mut history)?;
            }
            break header;
        }
    };
    while let Some(&oldest) = all.first() {
        // Where nothing says where the one before ends, the host was lost: what is whole in it was recovered.
        let end = header.previous;
        let place = if end == Lsn::NONE { all[all.len() - 1] } else { end.at_sector(FIRST_SECTOR) };
        // Others in between were begun by leaders that died before they wrote.
        all.retain(|other| *other <= place);
        // They go in their order, the oldest first.
        let Some(last) = all.pop() else { break };
        if last != place {
            let what = format!("the file is missing, though {} is kept", journal_at(oldest));
            return Err(corrupt(files, journal_at(place), 0, &what));
        }
        if place < needed {
            read(files, store, place, end, &mut history)?;
            progress(history.bytes);
        } else if place == needed {
            front(files, store, manifest.first, &mut history)?;
        }
        match header_of(files, store, place)? {
            Some(found) => header = found,
            None if end == Lsn::NONE => {}
            None => return Err(corrupt(files, journal_at(place), 0, "the file header is damaged")),
        }
    }
    Ok(history)
}

/// Reads what stands in front of the place at which a checkpoint cut a file in the middle.
fn front(files: &dyn FileLayer, store: &[u8; 16], first: Lsn, history: &mut History) -> Result<()> {
    if first.sector() > FIRST_SECTOR {
        read(files, store, first.at_sector(FIRST_SECTOR), first, &mut History::default())?;
        history.files += 1;
        history.bytes += first.byte();
    }
    Ok(())
}

/// Reads one file, which was synced up to `end`.
fn read(files: &dyn FileLayer, store: &[u8; 16], place: Lsn, end: Lsn, history: &mut History) -> Result<()> {
    let name = journal_at(place);
    let found = read_file(files, store, name, place, &mut |batch, body| {
        history.records += u64::from(batch.count);
        records(files, name, batch, body, &mut |_| Ok(()))
    })?;
    if found.place < end {
        return Err(corrupt(files, name, found.place.byte(), "no valid batch, though it was synced"));
    }
    history.files += 1;
    history.bytes += found.len;
    Ok(())
}
