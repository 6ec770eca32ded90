//! Reading the files back: which count, where each ends, and whether that end is legal.
//!
//! Replay knows no order: every record says its own `order`, and of all records of one key the highest wins. So files may
//! be read in any sequence, a record may stand in them twice, and a leader that was deposed may still have written.
//! A flush is taken as a whole or not at all: the journal is read once to see which flushes are whole, then for its records.

use std::collections::{BTreeMap, HashMap};

use super::append::failed;
use super::directory;
use super::files::{FileLayer, LogFile};
use super::layout::{
    BATCH_HEADER_LEN, BatchHeader, FILE_HEADER_LEN, FILE_LEN_MAX, FIRST_SECTOR, FileHeader, FileName,
    MANIFEST_LEN, Manifest, Record, Refused, SECTOR, batch_len, file_tag,
};
use super::lsn::Lsn;
use crate::error::{Error, ErrorCode, Result};

/// What the directory holds.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// The manifest with the highest term.
    pub manifest: Option<Manifest>,
    /// Journal files that count, in the order of their places.
    pub journals: Vec<Lsn>,
    /// Names that no longer count and may be removed.
    pub obsolete: Vec<String>,
    /// The highest term in any name.
    pub term_max: u32,
    /// Whether there is a checkpoint, counting or not.
    pub checkpoints: bool,
    /// Bytes of all files of ours.
    pub bytes: u64,
}

/// What replay found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    pub term_max: u32,
    pub epoch_max: u64,
    pub order_max: u64,
    /// The latest wall clock of any batch, ms.
    pub wall_ms: u64,
    pub records: u64,
    pub bytes: u64,
    /// Journal files whose last batch was torn by a crash.
    pub torn: u32,
    /// Flushes that a crash cut short: nothing of them counts.
    pub broken_off: u32,
}

/// The flushes of a journal, and what the clock said.
#[derive(Clone, Debug, Default)]
pub struct Census {
    /// For each flush the batches that are there, and how many it has, 0 where its last batch is missing.
    flushes: HashMap<u64, (u32, u32)>,
    /// The latest wall clock of any batch, ms.
    pub wall_ms: u64,
}

impl Census {
    /// Whether all batches of a flush are there.
    fn is_whole(&self, epoch: u64) -> bool {
        self.flushes.get(&epoch).is_some_and(|(found, whole)| found == whole)
    }
}

/// Reads which flushes the journal holds.
pub fn census(files: &dyn FileLayer, store: &[u8; 16], survey: &Survey) -> Result<Census> {
    let wall_ms = survey.manifest.map_or(0, |manifest| manifest.wall_ms);
    let mut census = Census { wall_ms, ..Census::default() };
    for &place in &survey.journals {
        read_file(files, store, journal_at(place), place, &mut |batch, _| {
            let flush = census.flushes.entry(batch.epoch).or_default();
            flush.0 += 1;
            flush.1 = flush.1.max(batch.whole);
            census.wall_ms = census.wall_ms.max(batch.wall_ms);
            Ok(())
        })?;
    }
    Ok(census)
}

pub(super) fn journal_at(place: Lsn) -> FileName {
    FileName::Journal { term: place.term(), number: place.number() }
}

/// How far replay has come: for a progress bar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    pub bytes_done: u64,
    pub bytes_total: u64,
    pub records: u64,
}

pub fn corrupt(files: &dyn FileLayer, name: FileName, byte: u64, what: &str) -> Error {
    Error::new(ErrorCode::JournalCorrupt, format!("{}/{name} at byte {byte}: {what}.", files.place()))
}

fn manifest_missing(files: &dyn FileLayer, name: impl std::fmt::Display) -> Error {
    Error::new(ErrorCode::ManifestMissing, format!("{}/{name}: the file is missing.", files.place()))
}

fn truncated(files: &dyn FileLayer, name: FileName, byte: u64, what: &str) -> Error {
    Error::new(ErrorCode::Truncated, format!("{}/{name} at byte {byte}: {what}.", files.place()))
}

/// Lists the directory and reads the manifests.
pub fn survey(files: &dyn FileLayer, store: &[u8; 16]) -> Result<Survey> {
    let names = files.names().map_err(|e| Error::io("readdir", files.place(), &e))?;
    let mut found = Survey::default();
    let mut all = Vec::new();
    for text in names {
        let Some(name) = FileName::parse(&text) else { continue };
        found.term_max = found.term_max.max(name.term());
        if let FileName::Manifest { .. } = name {
            let file = files.open(&text).map_err(|e| failed(files, "open", &text, &e))?;
            let mut bytes = vec![0; MANIFEST_LEN + 1];
            let len = file.read_at(0, &mut bytes).map_err(|e| failed(files, "read", &text, &e))?;
            let manifest = match Manifest::decode(&bytes[..len]) {
                Ok(manifest) if manifest.store == *store && manifest.term == name.term() => manifest,
                Err(Refused::Version(version)) => {
                    return Err(directory::other_version(format_args!("{}/{name}", files.place()), version));
                }
                _ => return Err(corrupt(files, name, 0, "not a valid manifest of this store")),
            };
            if found.manifest.is_none_or(|seen| seen.term < manifest.term) {
                found.manifest = Some(manifest);
            }
        }
        found.checkpoints |= matches!(name, FileName::Checkpoint { .. });
        all.push((name, text));
    }
    let expected = directory::read_identity(files)?.map_or(0, |identity| identity.manifest);
    if found.manifest.map_or(0, |manifest| manifest.term) < expected {
        return Err(manifest_missing(files, FileName::Manifest { term: expected }));
    }
    for (name, text) in all {
        let place = match name {
            FileName::Journal { term, number } => Lsn::new(term, number, FIRST_SECTOR),
            _ => Lsn::NONE,
        };
        // What is older than the manifest is contained in it. What is newer and no journal is not finished, and perhaps
        // being written: it does not count, and is not ours to remove.
        let (counts, obsolete) = match (name, &found.manifest) {
            (FileName::Journal { .. }, Some(manifest)) => {
                let counts = place >= manifest.first.at_sector(FIRST_SECTOR);
                (counts, !counts)
            }
            (FileName::Journal { .. }, None) => (true, false),
            (FileName::Checkpoint { term, part }, Some(manifest)) => {
                (term == manifest.term && part < manifest.parts, term < manifest.term)
            }
            (_, Some(manifest)) => {
                (name == FileName::Manifest { term: manifest.term }, name.term() < manifest.term)
            }
            (_, None) => (false, false),
        };
        if counts {
            let file = files.open(&text).map_err(|e| failed(files, "open", &text, &e))?;
            found.bytes += file.len().map_err(|e| failed(files, "stat", &text, &e))?;
            if place != Lsn::NONE {
                found.journals.push(place);
            }
        }
        if obsolete {
            found.obsolete.push(text);
        }
    }
    found.journals.sort();
    Ok(found)
}

/// Reads a file front to back through a private window.
pub(super) struct Reader<'a> {
    file: &'a dyn LogFile,
    window: Vec<u8>,
    at: u64,
}

impl<'a> Reader<'a> {
    pub(super) fn new(file: &'a dyn LogFile) -> Reader<'a> {
        Reader { file, window: Vec::new(), at: 0 }
    }

    /// The bytes at a place: fewer than asked at the end of the file.
    pub(super) fn bytes(&mut self, at: u64, len: usize) -> std::io::Result<&[u8]> {
        const WINDOW: usize = 1 << 20;
        let inside = at >= self.at && at + len as u64 <= self.at + self.window.len() as u64;
        if !inside {
            self.window.resize(len.max(WINDOW), 0);
            let filled = self.file.read_at(at, &mut self.window)?;
            self.window.truncate(filled);
            self.at = at;
        }
        let from = (at - self.at) as usize;
        Ok(&self.window[from..self.window.len().min(from + len)])
    }
}

/// Where and how a file ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    pub(super) place: Lsn,
    /// Something stood behind the end: a batch that was cut off.
    torn: bool,
    header: Option<FileHeader>,
    /// Bytes of the file.
    pub(super) len: u64,
}

/// A valid batch at a place; `None` if there is none. The header comes back alone if only the body is bad.
pub(super) fn batch_at(
    reader: &mut Reader<'_>,
    tag: u64,
    place: Lsn,
) -> std::io::Result<Option<(BatchHeader, bool)>> {
    let Some(header) = BatchHeader::decode(reader.bytes(place.byte(), BATCH_HEADER_LEN)?) else {
        return Ok(None);
    };
    if header.tag != tag || header.lsn != place {
        return Ok(None);
    }
    let len = header.body_len as usize;
    let body = reader.bytes(place.byte() + BATCH_HEADER_LEN as u64, len)?;
    let whole = body.len() == len && crc32c::crc32c(body) == header.body_crc;
    Ok(Some((header, whole)))
}

/// The batch at a place of an open file, its body in `body`; None if there is no whole one.
pub fn read_batch(
    file: &dyn LogFile,
    tag: u64,
    place: Lsn,
    body: &mut Vec<u8>,
) -> std::io::Result<Option<BatchHeader>> {
    let mut head = [0; BATCH_HEADER_LEN];
    let len = file.read_at(place.byte(), &mut head)?;
    let Some(header) = BatchHeader::decode(&head[..len]).filter(|it| it.tag == tag && it.lsn == place) else {
        return Ok(None);
    };
    body.resize(header.body_len as usize, 0);
    let len = file.read_at(place.byte() + BATCH_HEADER_LEN as u64, body)?;
    Ok((len == body.len() && crc32c::crc32c(body) == header.body_crc).then_some(header))
}

/// Reads the batches of one file in order and hands each to `visit`.
pub(super) fn read_file(
    files: &dyn FileLayer,
    store: &[u8; 16],
    name: FileName,
    first: Lsn,
    visit: &mut dyn FnMut(&BatchHeader, &[u8]) -> Result<()>,
) -> Result<End> {
    let failed = |e: std::io::Error| failed(files, "read", name, &e);
    let file = files.open(&name.to_string()).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => corrupt(files, name, 0, "the file is missing, though it counts"),
        _ => super::append::failed(files, "open", name, &e),
    })?;
    // What is behind no batch can name its place.
    let len = file.len().map_err(failed)?.min(FILE_LEN_MAX);
    let tag = file_tag(store, name);
    let mut reader = Reader::new(&*file);
    let head = reader.bytes(0, FILE_HEADER_LEN as usize).map_err(failed)?;
    let header = match FileHeader::decode(head) {
        Ok(header) => Some(header),
        Err(Refused::Damaged) => None,
        Err(Refused::Version(version)) => {
            return Err(directory::other_version(format_args!("{}/{name}", files.place()), version));
        }
    };
    if let Some(header) = &header
        && (header.store != *store || header.tag != tag)
    {
        return Err(corrupt(files, name, 0, "the file belongs to another store or carries another name"));
    }
    let mut place = first;
    while place.byte() < len
        && let Some((batch, true)) = batch_at(&mut reader, tag, place).map_err(failed)?
    {
        let body =
            reader.bytes(place.byte() + BATCH_HEADER_LEN as u64, batch.body_len as usize).map_err(failed)?;
        visit(&batch, body)?;
        place = place.behind((batch_len(batch.body_len as usize) / SECTOR) as u32);
    }
    // Behind the end: a batch that says that it was written when the end was already synced proves a hole.
    let mut torn = false;
    let mut sector = place.sector();
    while u64::from(sector) * SECTOR < len {
        let behind = place.at_sector(sector);
        let bytes = reader.bytes(behind.byte(), BATCH_HEADER_LEN).map_err(failed)?;
        torn |= bytes.iter().any(|byte| *byte != 0);
        if BatchHeader::decode(bytes).is_some_and(|batch| batch.synced_lsn > place)
            && let Some((batch, true)) = batch_at(&mut reader, tag, behind).map_err(failed)?
        {
            return Err(corrupt(
                files,
                name,
                place.byte(),
                &format!(
                    "no valid batch, but the one at byte {} was written after it was synced",
                    batch.lsn.byte()
                ),
            ));
        }
        sector += 1;
    }
    if header.is_none() && place != first {
        return Err(corrupt(files, name, 0, "the file header is damaged, though batches follow"));
    }
    Ok(End { place, torn, header, len })
}

/// Reads the records of a body; the inner error says what is wrong with it.
pub(super) fn decode_records(
    batch: &BatchHeader,
    body: &[u8],
    visit: &mut dyn FnMut(&Record<'_>) -> Result<()>,
) -> Result<Result<(), &'static str>> {
    let mut rest = body;
    for _ in 0..batch.count {
        let Some((record, len)) = Record::decode(rest) else {
            return Ok(Err("a record of the batch is malformed"));
        };
        visit(&record)?;
        rest = &rest[len..];
    }
    Ok(if rest.is_empty() { Ok(()) } else { Err("the batch has more bytes than records") })
}

/// As [`decode_records`], of a file.
pub(super) fn records(
    files: &dyn FileLayer,
    name: FileName,
    batch: &BatchHeader,
    body: &[u8],
    visit: &mut dyn FnMut(&Record<'_>) -> Result<()>,
) -> Result<()> {
    decode_records(batch, body, visit)?.map_err(|what| corrupt(files, name, batch.lsn.byte(), what))
}

/// A batch that counts.
pub struct Counted<'a> {
    pub name: FileName,
    pub header: &'a BatchHeader,
    pub body: &'a [u8],
    /// Of the checkpoint, not of the journal.
    pub of_checkpoint: bool,
}

/// Reads everything that counts and hands each record of a store to `visit`, in no particular order.
pub fn replay(
    files: &dyn FileLayer,
    store: &[u8; 16],
    survey: &Survey,
    census: &Census,
    progress: &mut dyn FnMut(Progress),
    visit: &mut dyn FnMut(&Record<'_>) -> Result<()>,
) -> Result<Replayed> {
    let first_epoch = survey.manifest.map_or(0, |manifest| manifest.first_epoch);
    let mut order_max = 0;
    let mut result = replay_batches(files, store, survey, progress, &mut |batch| {
        // A batch of an earlier epoch was complete before the checkpoint looked at anything: it is contained there.
        let epoch = batch.header.epoch;
        if !batch.of_checkpoint && (epoch < first_epoch || !census.is_whole(epoch)) {
            return Ok(false);
        }
        records(files, batch.name, batch.header, batch.body, &mut |record| {
            order_max = order_max.max(record.order);
            visit(record)
        })?;
        Ok(true)
    })?;
    result.order_max = result.order_max.max(order_max);
    result.broken_off = census.flushes.keys().filter(|&&epoch| !census.is_whole(epoch)).count() as u32;
    Ok(result)
}

/// Reads everything that counts, the checkpoint first, then the files of the journal in the order of their places, and hands each batch to
/// `visit`, which says whether its records count.
pub fn replay_batches(
    files: &dyn FileLayer,
    store: &[u8; 16],
    survey: &Survey,
    progress: &mut dyn FnMut(Progress),
    visit: &mut dyn FnMut(&Counted<'_>) -> Result<bool>,
) -> Result<Replayed> {
    let mut result = Replayed { term_max: survey.term_max, ..Replayed::default() };
    let mut say = |result: &Replayed| {
        progress(Progress {
            bytes_done: result.bytes,
            bytes_total: survey.bytes.max(result.bytes),
            records: result.records,
        });
    };
    if let Some(manifest) = &survey.manifest {
        result.epoch_max = manifest.last_epoch.max(manifest.first_epoch);
        result.order_max = manifest.order_floor;
        result.wall_ms = manifest.wall_ms;
        let mut count = 0;
        let mut len = 0;
        let mut file_len = 0;
        let mut last = (FileName::Manifest { term: manifest.term }, 0);
        for part in 0..manifest.parts {
            let name = FileName::Checkpoint { term: manifest.term, part };
            let first = Lsn::new(manifest.term, part, FIRST_SECTOR);
            let end = read_file(files, store, name, first, &mut |batch, body| {
                count += u64::from(batch.count);
                visit(&Counted { name, header: batch, body, of_checkpoint: true })?;
                result.records += u64::from(batch.count);
                result.bytes += batch_len(body.len());
                say(&result);
                Ok(())
            })?;
            file_len += end.len;
            if end.len < FILE_HEADER_LEN {
                return Err(truncated(files, name, end.len, "the checkpoint ends within its header"));
            }
            if end.header.is_none() {
                return Err(corrupt(files, name, 0, "the file header is damaged"));
            }
            len += end.place.byte();
            last = (name, end.place.byte());
        }
        if len != manifest.checkpoint_len || count != manifest.records {
            let what = format!(
                "the checkpoint ends here with {len} bytes and {count} records; its manifest says {} and {}",
                manifest.checkpoint_len, manifest.records
            );
            let error = if file_len < manifest.checkpoint_len { truncated } else { corrupt };
            return Err(error(files, last.0, last.1, &what));
        }
    }
    let mut ends: BTreeMap<u64, End> = BTreeMap::new();
    for &place in &survey.journals {
        let name = journal_at(place);
        let end = read_file(files, store, name, place, &mut |batch, body| {
            result.epoch_max = result.epoch_max.max(batch.epoch);
            result.wall_ms = result.wall_ms.max(batch.wall_ms);
            result.bytes += batch_len(body.len());
            if visit(&Counted { name, header: batch, body, of_checkpoint: false })? {
                result.records += u64::from(batch.count);
            }
            say(&result);
            Ok(())
        })?;
        result.torn += u32::from(end.torn);
        ends.insert(place.at_sector(0).0, end);
    }
    // The file that a manifest begins with was there, durably, before the manifest.
    if let Some(manifest) = &survey.manifest
        && manifest.first.sector() != 0
        && !ends.contains_key(&manifest.first.at_sector(0).0)
    {
        let name = FileName::Journal { term: manifest.first.term(), number: manifest.first.number() };
        return Err(corrupt(files, name, 0, "the file is missing, though the manifest names it"));
    }
    // Each file says up to where its predecessor was synced when it began.
    for end in ends.values() {
        let Some(header) = &end.header else { continue };
        let previous = header.previous;
        let counts = survey.manifest.is_none_or(|m| previous.at_sector(0) >= m.first.at_sector(0));
        if previous == Lsn::NONE || previous.sector() <= FIRST_SECTOR || !counts {
            continue;
        }
        let name = journal_at(previous);
        match ends.get(&previous.at_sector(0).0) {
            Some(before) if before.place >= previous => {}
            Some(before) => {
                let what = format!("no valid batch, but the file was synced up to byte {}", previous.byte());
                return Err(corrupt(files, name, before.place.byte(), &what));
            }
            // Only a checkpoint that counts makes an earlier journal go.
            None if survey.manifest.is_none() && survey.checkpoints => {
                return Err(manifest_missing(files, "MANIFEST"));
            }
            None => {
                return Err(corrupt(files, name, 0, "the file is missing, though a later one follows it"));
            }
        }
    }
    Ok(result)
}

#[cfg(all(test, not(memora_loom)))]
mod tests {
    use super::super::files::RealFiles;
    use super::*;

    #[test]
    fn a_file_longer_than_places_reach_ends_where_they_do() {
        let place = tempfile::tempdir().unwrap();
        let name = FileName::Journal { term: 1, number: 0 };
        let file = std::fs::File::create(place.path().join(name.to_string())).unwrap();
        file.set_len(1 << 43).unwrap();
        let files = RealFiles::open_to_read(place.path()).unwrap();
        let first = Lsn::new(1, 0, Lsn::SECTOR_MAX - 20);
        let end = read_file(&files, &[1; 16], name, first, &mut |_, _| Ok(())).unwrap();
        assert_eq!((end.place, end.torn, end.len), (first, false, FILE_LEN_MAX));
    }
}
