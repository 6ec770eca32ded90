//! Reading messages that are in memory no more out of the files.
//!
//! Only positions in front of `flushed` are looked for, so what is read was synced and does not change. A file that is removed meanwhile
//! is read to its end; a later one that is missing means that `stored` has moved.

use super::line::{Added, Kind, Line, Parts};
use super::retention::{behind, first_message, name_of};
use crate::channel::area::Area;
use crate::channel::log::LogMessage;
use crate::error::{Error, Result};
use crate::journal::append::failed;
use crate::journal::files::LogFile;
use crate::journal::layout::{FIRST_SECTOR, FileName, file_tag};
use crate::journal::replay::{corrupt, read_batch};
use crate::journal::{Journal, Lsn};
use crate::shm::time;

/// Where a reader is in the files.
#[derive(Default)]
pub struct Cursor {
    file: Option<Open>,
    body: Vec<u8>,
    /// Where in the body the next line is.
    at: usize,
    /// Behind the message that it gave last: who asks for an earlier one went back.
    behind: u64,
}

struct Open {
    place: Lsn,
    tag: u64,
    file: Box<dyn LogFile>,
    /// Of the next batch.
    next: Lsn,
}

/// The boot clock at a time of the wall clock; 0 stays.
fn boot_of(time_ms: u64) -> u64 {
    if time_ms == 0 { 0 } else { (time::boot_ms() + time_ms).saturating_sub(time::wall_ms()).max(1) }
}

/// The files of the journal, in their order.
fn journals(journal: &Journal) -> Result<Vec<Lsn>> {
    let files = &**journal.files();
    let names = files.names().map_err(|e| Error::io("readdir", files.place(), &e))?;
    let mut all: Vec<Lsn> = names
        .iter()
        .filter_map(|name| match FileName::parse(name) {
            Some(FileName::Journal { term, number }) => Some(Lsn::new(term, number, FIRST_SECTOR)),
            _ => None,
        })
        .collect();
    all.sort();
    Ok(all)
}

fn open(journal: &Journal, place: Lsn) -> Result<Option<Open>> {
    let (files, name) = (&**journal.files(), name_of(place));
    match files.open(&name.to_string()) {
        Ok(file) => Ok(Some(Open { place, tag: file_tag(journal.store(), name), file, next: place })),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(files, "open", name, &error)),
    }
}

impl Open {
    fn first(&self, journal: &Journal, from: Lsn) -> Result<Option<(u64, Lsn, Lsn)>> {
        first_message(&*self.file, self.tag, from)
            .map_err(|e| failed(&**journal.files(), "read", name_of(self.place), &e))
    }
}

impl Cursor {
    /// Puts the message at `position` into `into`; None if the files do not hold it any more.
    pub fn read(&mut self, area: &Area, position: u64, into: &mut Vec<u8>) -> Result<Option<LogMessage>> {
        let journal = &area.files()?.journal;
        let went_back = position < std::mem::take(&mut self.behind);
        if (self.file.is_none() || went_back) && !self.seek(journal, position)? {
            return self.absent(area, position, None);
        }
        // Where a file ended since the last look for the position.
        let (mut sought, mut end) = (false, None);
        let mut parts = Parts::default();
        loop {
            while let Some((line, len)) = Line::decode(&self.body[self.at..]) {
                if line.position > position && line.kind != Kind::Readers {
                    break;
                }
                self.at += len;
                if line.position < position || line.kind == Kind::Readers {
                    continue;
                }
                // A leader that was deposed may have left a beginning, which begins anew then.
                let (bytes, first, end) = match parts.add(&line) {
                    Added::Whole(bytes) => (bytes, true, true),
                    Added::First { bytes, end } => (bytes, true, end),
                    Added::Further { bytes, end } => (bytes, false, end),
                    Added::Stray => continue,
                };
                if first {
                    into.clear();
                }
                into.extend_from_slice(bytes);
                if end {
                    let time_ms = boot_of(line.time_ms);
                    self.behind = position + 1;
                    return Ok(Some(LogMessage { position, len: into.len(), time_ms }));
                }
            }
            if self.at < self.body.len() {
                // Somebody went back, unless it is not there either.
                if sought || !self.seek(journal, position)? {
                    return self.absent(area, position, end);
                }
                (sought, end) = (true, None);
                continue;
            }
            if self.next_batch(journal)? {
                continue;
            }
            end = self.file.as_ref().map(|open| open.next);
            if !self.next_file(journal)? {
                return self.absent(area, position, end);
            }
        }
    }

    /// Forgets where it is.
    fn close(&mut self) {
        self.file = None;
        self.body.clear();
        self.at = 0;
    }

    fn next_batch(&mut self, journal: &Journal) -> Result<bool> {
        let Some(open) = &mut self.file else { return Ok(false) };
        (self.at, self.body) = (0, std::mem::take(&mut self.body));
        let read = read_batch(&*open.file, open.tag, open.next, &mut self.body)
            .map_err(|e| failed(&**journal.files(), "read", name_of(open.place), &e));
        match read {
            Ok(Some(header)) => {
                open.next = behind(open.next, &header);
                Ok(true)
            }
            other => {
                self.body.clear();
                other.map(|_| false)
            }
        }
    }

    fn next_file(&mut self, journal: &Journal) -> Result<bool> {
        let Some(last) = self.file.as_ref().map(|open| open.place) else { return Ok(false) };
        let Some(place) = journals(journal)?.into_iter().find(|place| *place > last) else {
            return Ok(false);
        };
        let next = open(journal, place)?;
        self.close();
        self.file = next;
        Ok(self.file.is_some())
    }

    /// Goes to the batch in which a position may be. False if there is none.
    fn seek(&mut self, journal: &Journal, position: u64) -> Result<bool> {
        self.close();
        for place in journals(journal)?.into_iter().rev() {
            let Some(mut file) = open(journal, place)? else { continue };
            let (mut from, mut found) = (place, false);
            while let Some((first, batch, next)) = file.first(journal, from)?
                && first <= position
            {
                (file.next, from, found) = (batch, next, true);
            }
            if found {
                self.file = Some(file);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What is to be said if no file has a position.
    fn absent(&mut self, area: &Area, position: u64, at: Option<Lsn>) -> Result<Option<LogMessage>> {
        self.close();
        if area.words()?.stored().position() > position {
            return Ok(None);
        }
        let at = at.unwrap_or(Lsn::NONE);
        let files = &**area.files()?.journal.files();
        Err(corrupt(
            files,
            name_of(at),
            at.byte(),
            &format!("no valid batch, though position {position} was synced"),
        ))
    }
}
