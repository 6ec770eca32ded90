//! Writing batches: the leader's side.
//!
//! A [`Batches`] collects records into a private buffer, cuts a batch at [`BATCH_CUT`], writes it at the next sector of
//! the current file and rolls to the next file when one is full. Nothing counts before [`Batches::seal`]: sync the file,
//! see that this thread *still* leads, move `tail`. In that order, because a leader that finds itself in office behind
//! its sync knows that no checkpoint has removed the file from under it: what it then says is durable is durable.

use std::sync::{Arc, Mutex};

use super::control::{Control, Health};
use super::files::{FileLayer, LogFile};
use super::layout::{
    BATCH_CUT, BATCH_HEADER_LEN, BatchHeader, Entry, FILE_HEADER_LEN, FIRST_SECTOR, FileHeader, FileName,
    SECTOR, batch_len, file_tag,
};
use super::leader::{Reign, Watch};
use super::lsn::Lsn;
use crate::error::{Error, ErrorCode, Result};
use crate::shm::atomic::Ordering;

/// Bytes that are written ahead of small batches.
const FILL: u64 = 128 << 10;

/// A journal as one process has it open.
pub struct Journal {
    pub(super) files: Arc<dyn FileLayer>,
    pub(super) store: [u8; 16],
    pub(super) watch: Watch,
    /// The file that was written last, so that it is not opened for each flush.
    current: Mutex<Option<Current>>,
}

/// A file that is written.
struct Current {
    /// Its first sector.
    place: Lsn,
    file: Arc<dyn LogFile>,
    /// Up to where this process knows that its blocks were written, and not only reserved.
    filled: u64,
}

/// The leader was deposed while it worked; what it did has no effect.
pub fn deposed() -> Error {
    Error::new(ErrorCode::Busy, "Another process took over flushing: this one was stopped for too long.")
}

pub fn failed(
    files: &dyn FileLayer,
    call: &str,
    name: impl std::fmt::Display,
    error: &std::io::Error,
) -> Error {
    Error::io(call, format_args!("{}/{name}", files.place()), error)
}

impl Journal {
    /// Opens the journal of a store in its directory.
    pub fn new(files: Arc<dyn FileLayer>, store: [u8; 16]) -> Journal {
        Journal { files, store, watch: Watch::new(), current: Mutex::new(None) }
    }

    /// The directory.
    pub fn files(&self) -> &Arc<dyn FileLayer> {
        &self.files
    }

    /// The store that the files belong to.
    pub fn store(&self) -> &[u8; 16] {
        &self.store
    }

    fn open(&self, place: Lsn) -> Result<Arc<dyn LogFile>> {
        let name = FileName::Journal { term: place.term(), number: place.number() };
        let file = self.files.open(&name.to_string());
        Ok(file.map_err(|e| failed(&*self.files, "open", name, &e))?.into())
    }

    /// The open file of a place that is installed. One that is not must not be kept open: another leader of the same term
    /// removes it and makes it anew.
    fn file(&self, place: Lsn) -> Result<Arc<dyn LogFile>> {
        let mut current = self.current.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(current) = &*current
            && current.place.same_file(place)
        {
            return Ok(Arc::clone(&current.file));
        }
        let file = self.open(place)?;
        *current = Some(Current { place: place.at_sector(0), file: Arc::clone(&file), filled: 0 });
        Ok(file)
    }

    /// Bytes that a batch of `len` bytes is to be written with, zeros behind it. The first sync of a reserved block costs as much as two, for
    /// the file system has to note that it holds data now: so small batches write blocks for many of those that follow.
    fn padded(&self, place: Lsn, len: u64, capacity: u64) -> u64 {
        let current = self.current.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let filled = current.as_ref().filter(|it| it.place.same_file(place)).map_or(0, |it| it.filled);
        if len > FILL / 2 || place.byte() + len <= filled {
            return len;
        }
        (len + FILL).min(capacity - place.byte())
    }

    /// Remembers that the blocks up to `end` were written.
    fn note_filled(&self, place: Lsn, end: u64) {
        let mut current = self.current.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(current) = current.as_mut().filter(|it| it.place.same_file(place)) {
            current.filled = current.filled.max(end);
        }
    }

    /// Makes a journal file with its blocks reserved and its name durable; empty, so it does not count yet.
    fn prepare(&self, place: Lsn, capacity: u64) -> Result<()> {
        let name = FileName::Journal { term: place.term(), number: place.number() };
        let text = name.to_string();
        kill_point!("journal.file.before_create");
        let file = match self.files.create(&text) {
            Ok(file) => file,
            // Left by a failed attempt of this very term: it never became the current file, so nothing counts in it.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                self.files.remove(&text).map_err(|e| failed(&*self.files, "unlink", name, &e))?;
                self.files.create(&text).map_err(|e| failed(&*self.files, "create", name, &e))?
            }
            Err(error) => return Err(failed(&*self.files, "create", name, &error)),
        };
        kill_point!("journal.file.created");
        let reserved =
            file.reserve(capacity).and_then(|()| file.sync()).and_then(|()| self.files.sync_names());
        if let Err(error) = reserved {
            // The blocks that were taken go back: a half-reserved file would only make a full disk fuller.
            let _ = self.files.remove(&text);
            return Err(failed(&*self.files, "fallocate", name, &error));
        }
        kill_point!("journal.file.reserved");
        Ok(())
    }

    /// Makes the next file the current one. Everything in the present one is synced up to `end`.
    fn roll(&self, control: Control<'_>, reign: &Reign<'_>, end: Lsn) -> Result<(Lsn, Arc<dyn LogFile>)> {
        let capacity = control.checked_capacity()?;
        let number = if end.term() == reign.term() { end.number() + 1 } else { 0 };
        if number > Lsn::PART_MAX {
            return Err(Error::new(ErrorCode::Full, "All file numbers of this term are used up."));
        }
        let next = Lsn::new(reign.term(), number, FIRST_SECTOR);
        // ORDER Relaxed: only leaders of this journal read and write the words of files.
        if Lsn(control.spare().load(Ordering::Relaxed)) != next.at_sector(0) {
            self.prepare(next, capacity)?;
        }
        let file = self.open(next)?;
        let name = FileName::Journal { term: next.term(), number };
        let header = FileHeader {
            store: self.store,
            tag: file_tag(&self.store, name),
            capacity,
            previous: end,
            created_ms: crate::shm::time::wall_ms(),
        };
        file.write_at(0, &header.encode()).map_err(|e| failed(&*self.files, "write", name, &e))?;
        kill_point!("journal.file.header_written");
        if let Err(error) = file.sync() {
            return Err(self.poison(control, name, &error));
        }
        kill_point!("journal.file.before_install");
        // A leader that was deposed meanwhile fails here: its successor has installed a file of the next term.
        // ORDER AcqRel [journal-tail]: the file with its header stands before the word that names it.
        control
            .tail()
            .compare_exchange(end.0, next.0, Ordering::AcqRel, Ordering::Relaxed)
            .map_err(|_| deposed())?;
        kill_point!("journal.file.installed");
        Ok((next, file))
    }

    /// A sync failed: what reached the disk is not known, so nothing is written any more.
    pub(super) fn poison(
        &self,
        control: Control<'_>,
        name: impl std::fmt::Display,
        error: &std::io::Error,
    ) -> Error {
        control.set_health(Health::Poisoned);
        control.event().fetch_add(1, Ordering::AcqRel);
        crate::shm::futex::wake(control.event(), u32::MAX);
        Error::new(ErrorCode::Poisoned, format!("fdatasync {}/{name}: {error}.", self.files.place()))
    }

    /// Begins a flush: the leader may now collect records.
    pub fn begin<'a>(&'a self, control: Control<'a>, reign: &'a Reign<'a>, epoch: u64) -> Batches<'a> {
        // ORDER Acquire [journal-tail]: the file named by the word stands with its header.
        let tail = Lsn(control.tail().load(Ordering::Acquire));
        Batches {
            journal: self,
            control,
            reign,
            epoch,
            installed: tail,
            next: tail,
            file: None,
            body: Vec::new(),
            count: 0,
            batches: 0,
            // ORDER Relaxed: never changes. A wrong one is refused when a batch is cut.
            cut_at: (control.capacity().load(Ordering::Relaxed) / 4).min(BATCH_CUT as u64) as usize,
            written: 0,
            unsynced: false,
        }
    }

    /// Ends the current file, so that whatever is written from now on stands in files that begin at the returned place.
    pub fn roll_now(&self, control: Control<'_>, reign: &Reign<'_>) -> Result<Lsn> {
        let tail = Lsn(control.tail().load(Ordering::Acquire));
        if !reign.beat() {
            return Err(deposed());
        }
        // A file of this term that holds nothing yet will do.
        if tail.term() == reign.term() && tail.sector() == FIRST_SECTOR {
            return Ok(tail);
        }
        self.roll(control, reign, tail).map(|(place, _)| place)
    }

    /// Makes sure that there is a file to write to and, when that is half full, one more: growth is durable before use.
    pub fn ensure_room(&self, control: Control<'_>, reign: &Reign<'_>) -> Result<()> {
        let mut tail = Lsn(control.tail().load(Ordering::Acquire));
        if tail.term() != reign.term() {
            tail = self.roll_now(control, reign)?;
        }
        let capacity = control.checked_capacity()?;
        let spare = Lsn::new(reign.term(), tail.number() + 1, 0);
        if tail.byte() > capacity / 2
            && tail.number() < Lsn::PART_MAX
            && Lsn(control.spare().load(Ordering::Relaxed)) != spare
        {
            self.prepare(spare, capacity)?;
            // ORDER Relaxed: a leader reads it; a stale value names a file of an older place and is not used.
            control.spare().store(spare.0, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// One flush under way.
pub struct Batches<'a> {
    journal: &'a Journal,
    control: Control<'a>,
    reign: &'a Reign<'a>,
    epoch: u64,
    /// The `tail` word as this flush last saw or set it: all below is synced.
    installed: Lsn,
    /// Where the next batch goes.
    next: Lsn,
    file: Option<Arc<dyn LogFile>>,
    body: Vec<u8>,
    count: u32,
    /// Batches of this flush that were written.
    batches: u32,
    /// Bytes of a body from which a batch is cut: a part of a file.
    cut_at: usize,
    written: u64,
    unsynced: bool,
}

impl Batches<'_> {
    /// Adds a record.
    pub fn push(&mut self, entry: &impl Entry) -> Result<()> {
        // Only when more comes: the last batch must be known to be the last.
        if self.body.len() >= self.cut_at {
            self.cut(false)?;
        }
        entry.encode(&mut self.body);
        self.count += 1;
        Ok(())
    }

    /// Writes the batch that was collected; the last one makes the flush count.
    fn cut(&mut self, last: bool) -> Result<()> {
        if self.count == 0 {
            return Ok(());
        }
        if !self.reign.beat() {
            return Err(deposed());
        }
        let capacity = self.control.checked_capacity()?;
        let len = batch_len(self.body.len());
        if FILE_HEADER_LEN + len > capacity {
            return Err(Error::new(ErrorCode::ValueTooLong, "A record is longer than a journal file."));
        }
        if self.next.term() != self.reign.term() || self.next.byte() + len > capacity {
            self.sync()?;
            let end = self.next;
            if end != self.installed {
                self.install(end)?;
            }
            let (place, file) = self.journal.roll(self.control, self.reign, end)?;
            (self.installed, self.next, self.file) = (place, place, Some(file));
        }
        let name = FileName::Journal { term: self.next.term(), number: self.next.number() };
        let header = BatchHeader {
            body_crc: crc32c::crc32c(&self.body),
            body_len: self.body.len() as u32,
            tag: file_tag(&self.journal.store, name),
            lsn: self.next,
            synced_lsn: self.installed,
            epoch: self.epoch,
            wall_ms: crate::shm::time::wall_ms(),
            count: self.count,
            whole: if last { self.batches + 1 } else { 0 },
        };
        let padded = self.journal.padded(self.next, len, capacity);
        let mut bytes = Vec::with_capacity(padded as usize);
        bytes.extend_from_slice(&header.encode());
        bytes.extend_from_slice(&self.body);
        bytes.resize(padded as usize, 0);
        debug_assert!(bytes.len() >= BATCH_HEADER_LEN + self.body.len());
        let file = match &self.file {
            Some(file) => Arc::clone(file),
            None => self.journal.file(self.next)?,
        };
        kill_point!("journal.batch.before_write");
        file.write_at(self.next.byte(), &bytes)
            .map_err(|e| failed(&*self.journal.files, "write", name, &e))?;
        kill_point!("journal.batch.written");
        self.journal.note_filled(self.next, self.next.byte() + padded);
        self.file = Some(file);
        self.unsynced = true;
        self.next = self.next.at_sector(self.next.sector() + (len / SECTOR) as u32);
        self.written += len;
        self.batches += 1;
        // ORDER Relaxed: counters.
        self.control.batches().fetch_add(1, Ordering::Relaxed);
        self.control.records().fetch_add(u64::from(self.count), Ordering::Relaxed);
        self.body.clear();
        self.count = 0;
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        if !self.unsynced {
            return Ok(());
        }
        let Some(file) = &self.file else { return Ok(()) };
        kill_point!("journal.batch.before_sync");
        if let Err(error) = file.sync() {
            let name = FileName::Journal { term: self.next.term(), number: self.next.number() };
            return Err(self.journal.poison(self.control, name, &error));
        }
        kill_point!("journal.batch.synced");
        self.unsynced = false;
        Ok(())
    }

    /// Moves `tail`: everything below is synced.
    fn install(&mut self, end: Lsn) -> Result<()> {
        // ORDER AcqRel [journal-tail]: the next leader writes behind what this one wrote.
        self.control
            .tail()
            .compare_exchange(self.installed.0, end.0, Ordering::AcqRel, Ordering::Relaxed)
            .map_err(|_| deposed())?;
        self.installed = end;
        kill_point!("journal.tail.moved");
        Ok(())
    }

    /// Makes everything pushed durable. When this returns well the thread led behind its last sync.
    pub fn seal(mut self) -> Result<u64> {
        self.cut(true)?;
        self.sync()?;
        if !self.reign.holds() {
            return Err(deposed());
        }
        if self.next != self.installed {
            let end = self.next;
            self.install(end)?;
        }
        if self.written > 0 {
            self.control.flushes().fetch_add(1, Ordering::Relaxed);
            self.control.bytes().fetch_add(self.written, Ordering::Relaxed);
            self.control.written().fetch_add(self.written, Ordering::Relaxed);
        }
        Ok(self.written)
    }
}
