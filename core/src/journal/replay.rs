//! Reading the files back: which count, where each ends, and whether that end is legal.
//!
//! Replay knows no order: every record says its own `order`, and of all records of one key the highest wins. So files may
//! be read in any sequence, a record may stand in them twice, and a leader that was deposed may still have written.
//! A flush is taken as a whole or not at all: the journal is read once to see which flushes are whole, then for its records.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use super::append::failed;
use super::directory;
use super::files::{FileLayer, LogFile};
use super::layout::{
    BATCH_HEADER_LEN, BatchHeader, FILE_HEADER_LEN, FILE_LEN_MAX, FIRST_SECTOR, FileHeader, FileName, Record,
    Refused, SECTOR, batch_len, file_tag,
};
use super::lsn::Lsn;
use super::manifest::{MANIFEST_LEN_MAX, Manifest, Row};
use crate::error::{Error, ErrorCode, Result};

/// Times that the directory is listed: each but the last needs a checkpoint that was completed meanwhile.
const LISTINGS: u32 = 100;
/// How often the one who waits for readers looks.
const SLICE: Duration = Duration::from_millis(5);

/// What the directory holds.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// The manifest with the highest term.
    pub manifest: Option<Manifest>,
    /// Where journal files begin that count, in their order: behind the header, or where a checkpoint has cut the first one.
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
    let wall_ms = survey.manifest.as_ref().map_or(0, |manifest| manifest.wall_ms);
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

/// Of the manifests among these names the one with the highest term.
fn newest_manifest(files: &dyn FileLayer, store: &[u8; 16], names: &[String]) -> Result<Option<Manifest>> {
    let mut newest: Option<Manifest> = None;
    for text in names {
        let Some(name @ FileName::Manifest { .. }) = FileName::parse(text) else { continue };
        let file = files.open(text).map_err(|e| failed(files, "open", text, &e))?;
        let mut bytes = vec![0; MANIFEST_LEN_MAX + 1];
        let len = file.read_at(0, &mut bytes).map_err(|e| failed(files, "read", text, &e))?;
        let manifest = match Manifest::decode(&bytes[..len]) {
            Ok(manifest) if manifest.store == *store && manifest.term == name.term() => manifest,
            Err(Refused::Version(version)) => {
                return Err(directory::other_version(format_args!("{}/{name}", files.place()), version));
            }
            _ => return Err(corrupt(files, name, 0, "not a valid manifest of this store")),
        };
        if newest.as_ref().is_none_or(|seen| seen.term < manifest.term) {
            newest = Some(manifest);
        }
    }
    Ok(newest)
}

/// The names in the directory while one manifest was in force, and that manifest: a list from before does not have what it names.
fn names_and_manifest(files: &dyn FileLayer, store: &[u8; 16]) -> Result<(Vec<String>, Option<Manifest>)> {
    let list = || files.names().map_err(|e| Error::io("readdir", files.place(), &e));
    let mut manifest = newest_manifest(files, store, &list()?)?;
    for _ in 0..LISTINGS {
        let names = list()?;
        let now = newest_manifest(files, store, &names)?;
        if now == manifest {
            return Ok((names, manifest));
        }
        manifest = now;
    }
    Err(Error::new(ErrorCode::Busy, format!("The files in {} change all the time.", files.place())))
}

/// Lists the directory and reads the manifests.
pub fn survey(files: &dyn FileLayer, store: &[u8; 16]) -> Result<Survey> {
    let (names, manifest) = names_and_manifest(files, store)?;
    let mut found = Survey { manifest, ..Survey::default() };
    let mut all = Vec::new();
    for text in names {
        let Some(name) = FileName::parse(&text) else { continue };
        found.term_max = found.term_max.max(name.term());
        found.checkpoints |= matches!(name, FileName::Checkpoint { .. });
        all.push((name, text));
    }
    let expected = directory::read_identity(files)?.map_or(0, |identity| identity.manifest);
    if found.manifest.as_ref().map_or(0, |manifest| manifest.term) < expected {
        return Err(manifest_missing(files, FileName::Manifest { term: expected }));
    }
    for (name, text) in all {
        let place = match name {
            FileName::Journal { term, number } => {
                begin_of(Lsn::new(term, number, FIRST_SECTOR), found.manifest.as_ref())
            }
            _ => Lsn::NONE,
        };
        // What is older than the manifest and not named by it is contained in what it names. What is newer and no journal is
        // not finished, and perhaps being written: it does not count, and is not ours to remove.
        let (counts, obsolete) = match (name, &found.manifest) {
            (FileName::Journal { .. }, Some(manifest)) => {
                let counts = place >= manifest.first.at_sector(FIRST_SECTOR);
                (counts, !counts)
            }
            (FileName::Journal { .. }, None) => (true, false),
            (FileName::Checkpoint { term, part }, Some(manifest)) => {
                (manifest.names(term, part), manifest.is_past(term, part))
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

/// Where a journal file begins to count: a checkpoint may have cut it in the middle.
pub(super) fn begin_of(file: Lsn, manifest: Option<&Manifest>) -> Lsn {
    match manifest {
        Some(manifest) if manifest.first.same_file(file) => manifest.first.max(file),
        _ => file,
    }
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
    if header.is_none() && (place != first || first.sector() > FIRST_SECTOR) {
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

/// A file that counts, and where its batches begin.
#[derive(Clone, Copy)]
struct Piece {
    name: FileName,
    first: Lsn,
    of_checkpoint: bool,
}

/// What reading a file gave.
#[derive(Clone, Copy)]
struct Read {
    end: End,
    /// Records of all batches.
    count: u64,
    /// Of those that count.
    records: u64,
    bytes: u64,
    epoch_max: u64,
    wall_ms: u64,
    order_max: u64,
}

/// All files that count: the checkpoints first, then those of the journal in the order of their places.
fn pieces(survey: &Survey) -> Vec<Piece> {
    let rows = survey.manifest.as_ref().map_or(&[][..], |manifest| &manifest.rows[..]);
    let of_row = |row: &Row| {
        let row = *row;
        row.files().enumerate().map(move |(index, name)| Piece {
            name,
            first: Lsn::new(row.term, row.part + index as u32, FIRST_SECTOR),
            of_checkpoint: true,
        })
    };
    let journal =
        survey.journals.iter().map(|&first| Piece { name: journal_at(first), first, of_checkpoint: false });
    rows.iter().flat_map(of_row).chain(journal).collect()
}

/// Reads a file; `visit` gets each batch and says whether its records count, `step` hears of each how many do and its bytes.
fn read_piece(
    files: &dyn FileLayer,
    store: &[u8; 16],
    piece: Piece,
    step: &mut dyn FnMut(u64, u64) -> Result<()>,
    visit: &mut dyn FnMut(&Counted<'_>) -> Result<bool>,
) -> Result<Read> {
    let Piece { name, first, of_checkpoint } = piece;
    let (mut count, mut records, mut bytes, mut epoch_max, mut wall_ms) = (0, 0, 0, 0, 0);
    let end = read_file(files, store, name, first, &mut |header, body| {
        let all = u64::from(header.count);
        let counted = if visit(&Counted { name, header, body, of_checkpoint })? { all } else { 0 };
        let len = batch_len(body.len());
        (count, records, bytes) = (count + all, records + counted, bytes + len);
        if !of_checkpoint {
            epoch_max = epoch_max.max(header.epoch);
            wall_ms = wall_ms.max(header.wall_ms);
        }
        step(counted, len)
    })?;
    Ok(Read { end, count, records, bytes, epoch_max, wall_ms, order_max: 0 })
}

/// As [`read_piece`], for the records of a store.
fn read_records(
    (files, store): (&dyn FileLayer, &[u8; 16]),
    piece: Piece,
    (first_epoch, census): (u64, &Census),
    step: &mut dyn FnMut(u64, u64) -> Result<()>,
    visit: &mut dyn FnMut(&Record<'_>) -> Result<()>,
) -> Result<Read> {
    let mut order_max = 0;
    let read = read_piece(files, store, piece, step, &mut |batch| {
        // A batch of an earlier epoch was complete before any checkpoint looked at anything: it is contained there.
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
    Ok(Read { order_max, ..read })
}

fn first_epoch(survey: &Survey) -> u64 {
    survey.manifest.as_ref().map_or(0, |manifest| manifest.first_epoch)
}

fn broken_off(census: &Census) -> u32 {
    census.flushes.keys().filter(|&&epoch| !census.is_whole(epoch)).count() as u32
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
    let counts = (first_epoch(survey), census);
    let result = one_by_one(files, survey, progress, &mut |piece, step| {
        read_records((files, store), piece, counts, step, visit)
    })?;
    Ok(Replayed { broken_off: broken_off(census), ..result })
}

/// As [`replay`], by several threads, each of which takes the next file. The calling one calls `meanwhile` with the progress, again and
/// again; an error of it, of a file or of `visit` ends all.
pub fn replay_in_parallel(
    files: &dyn FileLayer,
    store: &[u8; 16],
    survey: &Survey,
    census: &Census,
    threads: usize,
    meanwhile: &mut dyn FnMut(Progress) -> Result<()>,
    visit: &(dyn Fn(&Record<'_>) -> Result<()> + Sync),
) -> Result<Replayed> {
    struct Work {
        next: usize,
        running: usize,
        done: Progress,
        reads: Vec<Option<Read>>,
        failed: Option<Error>,
    }
    let all = pieces(survey);
    let done = Progress { bytes_done: 0, bytes_total: survey.bytes, records: 0 };
    let work =
        Mutex::new(Work { next: 0, running: threads, done, reads: vec![None; all.len()], failed: None });
    let ended = Condvar::new();
    let lock = || work.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    // Whoever sees that another has failed stops, too.
    let stopped = || Error::from(ErrorCode::Internal);
    let counts = (first_epoch(survey), census);
    let read_next = || -> Result<bool> {
        let mut taken = lock();
        let at = taken.next;
        let Some(piece) = all.get(at).filter(|_| taken.failed.is_none()) else { return Ok(false) };
        taken.next += 1;
        drop(taken);
        let read = read_records(
            (files, store),
            *piece,
            counts,
            &mut |records, bytes| {
                let mut work = lock();
                work.done.records += records;
                work.done.bytes_done += bytes;
                if work.failed.is_some() { Err(stopped()) } else { Ok(()) }
            },
            &mut |record| visit(record),
        )?;
        lock().reads[at] = Some(read);
        Ok(true)
    };
    /// Says that a thread ended, also by a panic.
    struct Leaving<'a>(&'a dyn Fn());
    impl Drop for Leaving<'_> {
        fn drop(&mut self) {
            (self.0)();
        }
    }
    let leave = || {
        lock().running -= 1;
        ended.notify_all();
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let _leaving = Leaving(&leave);
                loop {
                    match read_next() {
                        Ok(true) => {}
                        Ok(false) => return,
                        Err(error) => {
                            lock().failed.get_or_insert(error);
                            return;
                        }
                    }
                }
            });
        }
        let mut seen = lock();
        while seen.running > 0 {
            let progress = seen.done;
            drop(seen);
            let answer = meanwhile(progress);
            seen = lock();
            if let Err(error) = answer {
                seen.failed.get_or_insert(error);
            }
            if seen.running > 0 {
                let waited = ended.wait_timeout(seen, SLICE);
                seen = waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0;
            }
        }
    });
    let mut work = work.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(error) = work.failed.take() {
        return Err(error);
    }
    // Also where the readers were done before the calling thread had looked once.
    meanwhile(work.done)?;
    let reads: Option<Vec<Read>> = work.reads.into_iter().collect();
    let reads = reads.ok_or_else(|| Error::new(ErrorCode::Internal, "A file was not read."))?;
    let result = judge(files, survey, &all, &reads)?;
    Ok(Replayed { broken_off: broken_off(census), ..result })
}

/// Reads everything that counts, the checkpoints first, then the files of the journal in the order of their places, and hands each batch to
/// `visit`, which says whether its records count.
pub fn replay_batches(
    files: &dyn FileLayer,
    store: &[u8; 16],
    survey: &Survey,
    progress: &mut dyn FnMut(Progress),
    visit: &mut dyn FnMut(&Counted<'_>) -> Result<bool>,
) -> Result<Replayed> {
    one_by_one(files, survey, progress, &mut |piece, step| read_piece(files, store, piece, step, visit))
}

/// Reads a piece; the second argument hears how many records of each batch count, and its bytes.
type ReadPiece<'a> = &'a mut dyn FnMut(Piece, &mut dyn FnMut(u64, u64) -> Result<()>) -> Result<Read>;

fn one_by_one(
    files: &dyn FileLayer,
    survey: &Survey,
    progress: &mut dyn FnMut(Progress),
    read: ReadPiece<'_>,
) -> Result<Replayed> {
    let all = pieces(survey);
    let mut done = Progress { bytes_done: 0, bytes_total: survey.bytes, records: 0 };
    let mut reads = Vec::with_capacity(all.len());
    for piece in &all {
        reads.push(read(*piece, &mut |records, bytes| {
            done.records += records;
            done.bytes_done += bytes;
            done.bytes_total = done.bytes_total.max(done.bytes_done);
            progress(done);
            Ok(())
        })?);
    }
    judge(files, survey, &all, &reads)
}

/// Whether the checkpoint of a shard is what its row says.
fn judge_row(
    files: &dyn FileLayer,
    manifest: &Manifest,
    row: &Row,
    parts: &[(FileName, &Read)],
) -> Result<()> {
    for (name, read) in parts {
        if read.end.len < FILE_HEADER_LEN {
            return Err(truncated(files, *name, read.end.len, "the checkpoint ends within its header"));
        }
        if read.end.header.is_none() {
            return Err(corrupt(files, *name, 0, "the file header is damaged"));
        }
    }
    let sum = |of: fn(&Read) -> u64| parts.iter().map(|part| of(part.1)).sum::<u64>();
    let (len, count) = (sum(|read| read.end.place.byte()), sum(|read| read.count));
    if len == row.bytes && count == row.records {
        return Ok(());
    }
    let what = format!(
        "the checkpoint ends here with {len} bytes and {count} records; its manifest says {} and {}",
        row.bytes, row.records
    );
    let error = if sum(|read| read.end.len) < row.bytes { truncated } else { corrupt };
    let last = parts.last().map(|(name, read)| (*name, read.end.place.byte()));
    let (name, byte) = last.unwrap_or((FileName::Manifest { term: manifest.term }, 0));
    Err(error(files, name, byte, &what))
}

/// Whether what was read is all that must be there.
fn judge(files: &dyn FileLayer, survey: &Survey, all: &[Piece], reads: &[Read]) -> Result<Replayed> {
    let mut result = Replayed { term_max: survey.term_max, ..Replayed::default() };
    let mut parts = all.iter().zip(reads).map(|(piece, read)| (piece.name, read));
    if let Some(manifest) = &survey.manifest {
        result.epoch_max = manifest.last_epoch.max(manifest.first_epoch);
        result.order_max = manifest.order_floor;
        result.wall_ms = manifest.wall_ms;
        for row in &manifest.rows {
            let of_row: Vec<_> = parts.by_ref().take(row.parts as usize).collect();
            judge_row(files, manifest, row, &of_row)?;
        }
    }
    for read in reads {
        result.epoch_max = result.epoch_max.max(read.epoch_max);
        result.wall_ms = result.wall_ms.max(read.wall_ms);
        result.order_max = result.order_max.max(read.order_max);
        result.records += read.records;
        result.bytes += read.bytes;
    }
    let mut ends: BTreeMap<u64, End> = BTreeMap::new();
    for (piece, read) in all.iter().zip(reads).filter(|(piece, _)| !piece.of_checkpoint) {
        result.torn += u32::from(read.end.torn);
        ends.insert(piece.first.at_sector(0).0, read.end);
    }
    // The file that a manifest begins with was there, durably, before the manifest.
    if let Some(manifest) = &survey.manifest
        && manifest.first.sector() != 0
        && !ends.contains_key(&manifest.first.at_sector(0).0)
    {
        let what = "the file is missing, though the manifest names it";
        return Err(corrupt(files, journal_at(manifest.first), 0, what));
    }
    // Each file says up to where its predecessor was synced when it began.
    for end in ends.values() {
        let Some(header) = &end.header else { continue };
        let previous = header.previous;
        let counts = survey.manifest.as_ref().is_none_or(|m| previous.at_sector(0) >= m.first.at_sector(0));
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
        let tag = file_tag(&[1; 16], name);
        let header =
            FileHeader { store: [1; 16], tag, capacity: 1 << 20, previous: Lsn::NONE, created_ms: 1 };
        std::os::unix::fs::FileExt::write_all_at(&file, &header.encode(), 0).unwrap();
        let files = RealFiles::open_to_read(place.path()).unwrap();
        let first = Lsn::new(1, 0, Lsn::SECTOR_MAX - 20);
        let end = read_file(&files, &[1; 16], name, first, &mut |_, _| Ok(())).unwrap();
        assert_eq!((end.place, end.torn, end.len), (first, false, FILE_LEN_MAX));
    }
}
