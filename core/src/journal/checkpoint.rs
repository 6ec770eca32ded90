//! The files of a checkpoint: files of batches, then the manifest that makes them count, then removing what is obsolete.
//!
//! A checkpoint counts from the moment at which its manifest has its name and that name is durable. Whatever dies before
//! leaves files that nobody counts; whatever dies after leaves old files that nobody counts.
//!
//! A manifest takes over the rows of the one before, so what it names must not be removed by a maker that was stopped, deposed, and
//! gave its manifest a name when it woke: its successor may have read the manifest before, and go on to name what that one
//! replaces. So **only who still leads behind the naming removes anything**: a successor then reads that manifest, or a later one, and
//! what is obsolete by it stays so.

use std::time::Duration;

use super::append::{Journal, deposed, failed};
use super::control::Control;
use super::files::{FileLayer, LogFile};
use super::layout::{
    BATCH_CUT, BatchHeader, Entry, FIRST_SECTOR, FileHeader, FileName, SECTOR, batch_len, file_tag,
};
use super::lsn::Lsn;
use super::manifest::Manifest;
use super::replay::survey;
use super::sync::{Caller, Source};
use crate::error::{Error, ErrorCode, Result};
use crate::shm::atomic::Ordering;

/// Bytes from which the next part of a checkpoint is begun.
const PART_BYTES: u64 = 1 << 30;
/// How long a flush that leads may keep a checkpoint waiting.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the parts of a checkpoint go: files of a directory, or one stream.
pub trait Parts {
    /// Begins a part with its header.
    fn begin(&mut self, name: FileName, header: &[u8]) -> Result<()>;
    /// Writes at a place of the part; each place directly behind the one before.
    fn write(&mut self, name: FileName, at: u64, bytes: &[u8]) -> Result<()>;
    /// Makes the part durable where that is possible.
    fn sync(&mut self, name: FileName) -> Result<()>;
}

/// Parts as files of a directory.
pub struct FileParts<'a> {
    files: &'a dyn FileLayer,
    file: Option<Box<dyn LogFile>>,
}

impl<'a> FileParts<'a> {
    /// Parts in this directory.
    pub fn new(files: &'a dyn FileLayer) -> FileParts<'a> {
        FileParts { files, file: None }
    }

    fn file(&self, name: FileName) -> Result<&dyn LogFile> {
        self.file.as_deref().ok_or_else(|| Error::new(ErrorCode::Internal, format!("{name} was not begun.")))
    }
}

impl Parts for FileParts<'_> {
    fn begin(&mut self, name: FileName, header: &[u8]) -> Result<()> {
        let text = name.to_string();
        match self.files.remove(&text) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed(self.files, "unlink", name, &error));
            }
            _ => {}
        }
        let file = self.files.create(&text).map_err(|e| failed(self.files, "create", name, &e))?;
        match file.write_at(0, header) {
            Ok(()) => {
                self.file = Some(file);
                Ok(())
            }
            Err(error) => {
                let _ = self.files.remove(&text);
                Err(failed(self.files, "write", name, &error))
            }
        }
    }

    fn write(&mut self, name: FileName, at: u64, bytes: &[u8]) -> Result<()> {
        self.file(name)?.write_at(at, bytes).map_err(|e| failed(self.files, "write", name, &e))
    }

    /// A failed sync of a file that does not count yet is the failure of this checkpoint, nothing more.
    fn sync(&mut self, name: FileName) -> Result<()> {
        self.file(name)?.sync().map_err(|e| failed(self.files, "fdatasync", name, &e))
    }
}

/// A checkpoint that is being written.
pub struct CheckpointFile<P> {
    parts: P,
    store: [u8; 16],
    first: u32,
    next: Lsn,
    epoch: u64,
    body: Vec<u8>,
    count: u32,
    /// Of the parts before this one.
    done: u64,
    records: u64,
}

fn name_of(place: Lsn) -> FileName {
    FileName::Checkpoint { term: place.term(), part: place.number() }
}

impl<'a> CheckpointFile<FileParts<'a>> {
    /// Begins the files of a checkpoint in the journal's directory with a part of a term.
    pub fn create(
        journal: &'a Journal,
        (term, part): (u32, u32),
        epoch: u64,
    ) -> Result<CheckpointFile<FileParts<'a>>> {
        CheckpointFile::begin(FileParts::new(&*journal.files), journal.store, (term, part), epoch)
    }

    /// Gives the space back after a failure.
    pub fn abandon(self) {
        for part in self.first..=self.next.number() {
            let name = FileName::Checkpoint { term: self.next.term(), part };
            let _ = self.parts.files.remove(&name.to_string());
        }
    }
}

impl<P: Parts> CheckpointFile<P> {
    /// Begins with a part of a term.
    pub fn begin(
        parts: P,
        store: [u8; 16],
        (term, first): (u32, u32),
        epoch: u64,
    ) -> Result<CheckpointFile<P>> {
        let (next, body) = (Lsn::new(term, first, FIRST_SECTOR), Vec::new());
        let mut file =
            CheckpointFile { parts, store, first, next, epoch, body, count: 0, done: 0, records: 0 };
        file.begin_part()?;
        Ok(file)
    }

    fn begin_part(&mut self) -> Result<()> {
        let name = name_of(self.next);
        let header = FileHeader {
            store: self.store,
            tag: file_tag(&self.store, name),
            capacity: 0,
            previous: Lsn::NONE,
            created_ms: crate::shm::time::wall_ms(),
        };
        self.parts.begin(name, &header.encode())
    }

    /// Adds a record.
    pub fn push(&mut self, entry: &impl Entry) -> Result<()> {
        entry.encode(&mut self.body);
        self.count += 1;
        self.records += 1;
        if self.body.len() >= BATCH_CUT { self.cut() } else { Ok(()) }
    }

    /// What it was written to.
    pub fn into_parts(self) -> P {
        self.parts
    }

    /// Records so far.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Bytes that are written so far.
    pub fn bytes(&self) -> u64 {
        self.done + self.next.byte()
    }

    fn cut(&mut self) -> Result<()> {
        if self.count == 0 {
            return Ok(());
        }
        if self.next.byte() >= PART_BYTES {
            self.parts.sync(name_of(self.next))?;
            self.done += self.next.byte();
            if self.next.number() == Lsn::PART_MAX {
                return Err(Error::new(ErrorCode::Full, "All parts of this term are used up."));
            }
            self.next = Lsn::new(self.next.term(), self.next.number() + 1, FIRST_SECTOR);
            self.begin_part()?;
        }
        let name = name_of(self.next);
        let header = BatchHeader {
            body_crc: crc32c::crc32c(&self.body),
            body_len: self.body.len() as u32,
            tag: file_tag(&self.store, name),
            lsn: self.next,
            synced_lsn: Lsn::NONE,
            epoch: self.epoch,
            wall_ms: crate::shm::time::wall_ms(),
            count: self.count,
            whole: 0,
        };
        let len = batch_len(self.body.len());
        let mut bytes = Vec::with_capacity(len as usize);
        bytes.extend_from_slice(&header.encode());
        bytes.extend_from_slice(&self.body);
        bytes.resize(len as usize, 0);
        self.parts.write(name, self.next.byte(), &bytes)?;
        self.next = self.next.at_sector(self.next.sector() + (len / SECTOR) as u32);
        self.body.clear();
        self.count = 0;
        Ok(())
    }

    /// Writes the rest and syncs. Returns the parts, their length in bytes and the number of records.
    pub fn finish(&mut self) -> Result<(u32, u64, u64)> {
        self.cut()?;
        kill_point!("store.checkpoint.before_sync");
        self.parts.sync(name_of(self.next))?;
        kill_point!("store.checkpoint.synced");
        Ok((self.next.number() + 1 - self.first, self.bytes(), self.records))
    }
}

impl Journal {
    /// The manifest in force.
    pub fn manifest(&self) -> Result<Option<Manifest>> {
        Ok(survey(&*self.files, &self.store)?.manifest)
    }

    /// The place from which on the journal is needed besides a checkpoint that looks at the table after this, and the number of the first
    /// flush that writes there.
    ///
    /// In one reign with a flush that is complete: a leader that died on the way may have noted for some chunks only that the files
    /// have them. The next flush writes what stands in the others once more, perhaps a value whose deletion is in front of
    /// the cut, and nothing behind it.
    pub fn cut<S: Source>(
        &self,
        control: Control<'_>,
        caller: &Caller<'_>,
        source: &S,
    ) -> Result<(Lsn, u64)> {
        self.lead(control, caller, PATIENCE, |leader| {
            self.flush(control, leader, source)?;
            // ORDER Acquire [journal-tail]: what was flushed stands in front of it.
            let tail = Lsn(control.tail().load(Ordering::Acquire));
            // A file of which much is left goes on: with many shards, preallocated files would take more room than what is in them.
            let goes_on = tail.term() == leader.term() && tail.byte() <= control.checked_capacity()? / 2;
            let first = if goes_on { tail } else { self.roll_now(control, leader)? };
            let epoch = control.next_epoch()?;
            if !leader.beat() {
                return Err(deposed());
            }
            // ORDER Relaxed: a counter.
            control.written().store(0, Ordering::Relaxed);
            Ok((first, epoch))
        })
    }

    /// Makes a complete checkpoint count and removes what that makes obsolete, but for the newest `keep` bytes of the journal.
    pub fn put_in_force(&self, manifest: &Manifest, keep: u64, still_leads: &dyn Fn() -> bool) -> Result<()> {
        self.publish_manifest(manifest, still_leads)?;
        if !still_leads() {
            return Err(deposed());
        }
        self.remove_obsolete(keep).map(drop)
    }

    /// Makes a complete checkpoint count. `still_leads` is asked last before the name is given.
    pub fn publish_manifest(&self, manifest: &Manifest, still_leads: &dyn Fn() -> bool) -> Result<()> {
        let files = &*self.files;
        let (temporary, name) =
            (FileName::Unfinished { term: manifest.term }, FileName::Manifest { term: manifest.term });
        let text = temporary.to_string();
        match files.remove(&text) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed(files, "unlink", temporary, &error));
            }
            _ => {}
        }
        let file = files.create(&text).map_err(|e| failed(files, "create", temporary, &e))?;
        let written =
            file.write_at(0, &manifest.encode()).and_then(|()| file.sync()).and_then(|()| files.sync_names());
        if let Err(error) = written {
            let _ = files.remove(&text);
            return Err(failed(files, "write", temporary, &error));
        }
        kill_point!("store.manifest.before_rename");
        if !still_leads() {
            let _ = files.remove(&text);
            return Err(deposed());
        }
        kill_point!("store.manifest.renaming");
        files.rename(&text, &name.to_string()).map_err(|e| failed(files, "rename", name, &e))?;
        kill_point!("store.manifest.renamed");
        files.sync_names().map_err(|e| failed(files, "fsync", name, &e))?;
        kill_point!("store.manifest.durable");
        Ok(())
    }

    /// Bytes of the journal files from one file up to another one, which does not count.
    pub fn bytes_between(&self, from: Lsn, to: Lsn) -> Result<u64> {
        let names = self.files.names().map_err(|e| Error::io("readdir", self.files.place(), &e))?;
        let mut bytes = 0u64;
        for text in names {
            let Some(FileName::Journal { term, number }) = FileName::parse(&text) else { continue };
            if !(from..to).contains(&Lsn::new(term, number, 0)) {
                continue;
            }
            match self.files.open(&text).and_then(|file| file.len()) {
                Ok(len) => bytes = bytes.saturating_add(len),
                // Removed meanwhile.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(&*self.files, "stat", &text, &error)),
            }
        }
        Ok(bytes)
    }

    /// Removes the files that the manifest in force has made obsolete, but for the newest `keep` bytes of the journal. Returns how many.
    fn remove_obsolete(&self, keep: u64) -> Result<u32> {
        let mut removed = 0;
        for name in self.beyond(survey(&*self.files, &self.store)?.obsolete, keep)? {
            match self.files.remove(&name) {
                Ok(()) => removed += 1,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(&*self.files, "unlink", &name, &error)),
            }
            kill_point!("store.checkpoint.removing");
        }
        if removed > 0 {
            self.files.sync_names().map_err(|e| failed(&*self.files, "fsync", "", &e))?;
        }
        Ok(removed)
    }
    /// Of names that are obsolete those that go: all but the files of the journal, the newest first, that fit into `keep` bytes.
    fn beyond(&self, mut obsolete: Vec<String>, keep: u64) -> Result<Vec<String>> {
        if keep == 0 {
            return Ok(obsolete);
        }
        let place = |name: &String| match FileName::parse(name) {
            Some(FileName::Journal { term, number }) => Lsn::new(term, number, 0),
            _ => Lsn::NONE,
        };
        obsolete.sort_by_key(|name| std::cmp::Reverse(place(name)));
        let (mut kept, mut gone) = (0u64, Vec::new());
        for name in obsolete {
            if place(&name) != Lsn::NONE && kept < keep {
                let len = self.files.open(&name).and_then(|file| file.len());
                match len {
                    Ok(len) => kept = kept.saturating_add(len),
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    Err(error) => return Err(failed(&*self.files, "stat", &name, &error)),
                }
                if kept <= keep {
                    continue;
                }
            }
            gone.push(name);
        }
        // The oldest first: what is left has no gap, wherever this is broken off.
        gone.reverse();
        Ok(gone)
    }
}
