//! Reading the flushes of a journal one after the other, as they come.
//!
//! Only what was synced is read: up to the tail in the file that is written, up to where its successor says that it was synced in the
//! others. What a leader wrote behind that and did not live to sync, the next one writes again. Flushes that are not whole do not count, as in
//! [`replay`](super::replay).

use super::append::{Journal, failed};
use super::files::LogFile;
use super::layout::{
    BATCH_HEADER_LEN, BatchHeader, FILE_HEADER_LEN, FIRST_SECTOR, FileHeader, FileName, SECTOR, batch_len,
    file_tag,
};
use super::lsn::Lsn;
use super::replay::read_batch;
use crate::error::{Error, ErrorCode, Result};

/// Where nothing says where a file ends: the host was lost.
const OPEN: Lsn = Lsn(u64::MAX);

/// A flush that is whole: the places of its batches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flush {
    pub batches: Vec<Lsn>,
}

/// Where one who follows a journal is.
pub struct Follower {
    /// Where the next batch is looked for.
    next: Lsn,
    file: Option<(Lsn, Box<dyn LogFile>)>,
    /// Of the file that was looked at last, if another one follows it: up to where it counts, and where that one begins.
    end: Option<(Lsn, (Lsn, Lsn))>,
}

fn name_of(place: Lsn) -> FileName {
    FileName::Journal { term: place.term(), number: place.number() }
}

/// The place behind a batch.
fn behind(place: Lsn, header: &BatchHeader) -> Lsn {
    place.at_sector(place.sector() + (batch_len(header.body_len as usize) / SECTOR) as u32)
}

#[cold]
fn trimmed(journal: &Journal, place: Lsn) -> Error {
    let (place, name) = (journal.files().place(), name_of(place));
    Error::new(
        ErrorCode::PositionTrimmed,
        format!("{place}/{name} was removed, and with it changes that come next."),
    )
}

#[cold]
fn no_batch(journal: &Journal, place: Lsn) -> Error {
    let what = "no valid batch, though it was synced";
    super::replay::corrupt(&**journal.files(), name_of(place), place.byte(), what)
}

impl Journal {
    /// The files that have been begun, in their order: where their batches begin, and up to where the one before was synced.
    fn begun(&self) -> Result<Vec<(Lsn, Lsn)>> {
        let files = &**self.files();
        let mut all = Vec::new();
        for name in files.names().map_err(|e| Error::io("readdir", files.place(), &e))? {
            let Some(name @ FileName::Journal { term, number }) = FileName::parse(&name) else { continue };
            let file = match files.open(&name.to_string()) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                other => other.map_err(|e| failed(files, "open", name, &e))?,
            };
            let mut bytes = vec![0; FILE_HEADER_LEN as usize];
            let len = file.read_at(0, &mut bytes).map_err(|e| failed(files, "read", name, &e))?;
            let header = FileHeader::decode(&bytes[..len]).ok();
            if let Some(header) = header.filter(|it| it.store == *self.store() && it.tag == self.tag(name)) {
                all.push((Lsn::new(term, number, FIRST_SECTOR), header.previous));
            }
        }
        all.sort_unstable();
        Ok(all)
    }

    fn tag(&self, name: FileName) -> u64 {
        file_tag(self.store(), name)
    }

    /// Where the oldest file begins from which on all are kept; `tail` if there is none.
    pub fn oldest(&self, tail: Lsn) -> Result<Lsn> {
        let begun = self.begun()?;
        Ok(chain(&begun, tail).last().map_or(tail, |link| link.begin))
    }
}

/// A file that was written, and up to where the one before it counts.
#[derive(Clone, Copy)]
struct Link {
    begin: Lsn,
    before: Lsn,
}

/// The files that were written, the newest first: each says which was written before it. A leader that died before its file became the
/// current one leaves a file that is none of them.
fn chain(begun: &[(Lsn, Lsn)], tail: Lsn) -> impl Iterator<Item = Link> {
    let mut next = begun.iter().rposition(|(begin, _)| begin.same_file(tail));
    std::iter::from_fn(move || {
        let at = next?;
        let (begin, previous) = begun[at];
        let (place, before) = match previous {
            // The first one after the loss of the host: what is whole in the last one before was recovered.
            Lsn::NONE => (at.checked_sub(1), OPEN),
            _ => (begun[..at].iter().rposition(|(begin, _)| begin.same_file(previous)), previous),
        };
        next = place;
        Some(Link { begin, before })
    })
}

/// Up to where the file of a place counts, and where the next one begins; `None` if it is not there any more.
fn successor(begun: &[(Lsn, Lsn)], tail: Lsn, place: Lsn) -> Option<(Lsn, Lsn)> {
    let mut newer: Option<Link> = None;
    for link in chain(begun, tail) {
        if let Some(newer) = newer
            && link.begin.same_file(place)
        {
            return Some((newer.before, newer.begin));
        }
        newer = Some(link);
    }
    None
}

impl Follower {
    /// Begins with the first flush at or behind a place.
    pub fn new(next: Lsn) -> Follower {
        Follower { next, file: None, end: None }
    }

    fn file(&mut self, journal: &Journal, place: Lsn) -> Result<&dyn LogFile> {
        if self.file.as_ref().is_none_or(|(at, _)| !at.same_file(place)) {
            let (files, name) = (&**journal.files(), name_of(place));
            let file = files.open(&name.to_string()).map_err(|e| match e.kind() {
                std::io::ErrorKind::NotFound => trimmed(journal, place),
                _ => failed(files, "open", name, &e),
            })?;
            self.file = Some((place.at_sector(0), file));
        }
        match &self.file {
            Some((_, file)) => Ok(&**file),
            None => Err(ErrorCode::Internal.into()),
        }
    }

    fn header(&mut self, journal: &Journal, place: Lsn) -> Result<Option<BatchHeader>> {
        let name = name_of(place);
        let tag = journal.tag(name);
        let mut bytes = [0; BATCH_HEADER_LEN];
        let len = self
            .file(journal, place)?
            .read_at(place.byte(), &mut bytes)
            .map_err(|e| failed(&**journal.files(), "read", name, &e))?;
        Ok(BatchHeader::decode(&bytes[..len]).filter(|it| it.tag == tag && it.lsn == place))
    }

    /// As [`Follower::header`], of a batch that nobody has synced for certain: it may be torn.
    fn whole(&mut self, journal: &Journal, place: Lsn) -> Result<Option<BatchHeader>> {
        let name = name_of(place);
        let tag = journal.tag(name);
        read_batch(self.file(journal, place)?, tag, place, &mut Vec::new())
            .map_err(|e| failed(&**journal.files(), "read", name, &e))
    }

    /// The body of a batch of a flush that was found, and how many records it has.
    pub fn body(&mut self, journal: &Journal, place: Lsn, body: &mut Vec<u8>) -> Result<u32> {
        let name = name_of(place);
        let tag = journal.tag(name);
        let read = read_batch(self.file(journal, place)?, tag, place, body)
            .map_err(|e| failed(&**journal.files(), "read", name, &e))?;
        read.map(|header| header.count).ok_or_else(|| no_batch(journal, place))
    }

    /// Up to where the file of a place counts, and where the next one begins.
    fn end_of(&mut self, journal: &Journal, tail: Lsn, place: Lsn) -> Result<(Lsn, Lsn)> {
        match self.end {
            Some((known, end)) if known.same_file(place) => return Ok(end),
            _ => {}
        }
        let begun = journal.begun()?;
        let Some(mut end) = successor(&begun, tail, place) else { return Err(trimmed(journal, place)) };
        if end.0 != OPEN && self.ends_the_life(journal, &begun, tail, end.1)? {
            end.0 = OPEN;
        }
        self.end = Some((place, end));
        Ok(end)
    }

    /// Whether nothing whole was written from a file on until the host was lost: then recovery took what was whole in front of it,
    /// though nobody lived to say that it was synced.
    fn ends_the_life(
        &mut self,
        journal: &Journal,
        begun: &[(Lsn, Lsn)],
        tail: Lsn,
        mut file: Lsn,
    ) -> Result<bool> {
        while let Some((limit, next)) = successor(begun, tail, file) {
            let mut place = file;
            while place < limit
                && let Some(header) = self.header(journal, place)?
            {
                if header.whole != 0 {
                    return Ok(false);
                }
                place = behind(place, &header);
            }
            if limit == OPEN {
                return Ok(true);
            }
            file = next;
        }
        Ok(false)
    }

    /// The next flush in front of `tail` that is whole, and stands behind it then; `None` if there is none yet. `PositionTrimmed`
    /// if its file was removed.
    pub fn next(&mut self, journal: &Journal, tail: Lsn) -> Result<Option<Flush>> {
        // Of the flush that is being looked at.
        let (mut place, mut epoch, mut flush) = (self.next, None, Flush::default());
        loop {
            // Up to where this file counts, and where it goes on.
            let (limit, successor) = if tail.same_file(place) {
                (tail, None)
            } else {
                let (limit, next) = self.end_of(journal, tail, place)?;
                (limit, Some(next))
            };
            let header = if place >= limit {
                None
            } else if limit == OPEN {
                self.whole(journal, place)?
            } else {
                self.header(journal, place)?
            };
            match header {
                Some(header) => {
                    if epoch != Some(header.epoch) {
                        // What came before broke off.
                        (self.next, epoch, flush) = (place, Some(header.epoch), Flush::default());
                    }
                    flush.batches.push(place);
                    place = behind(place, &header);
                    if header.whole != 0 {
                        self.next = place;
                        if header.whole as usize == flush.batches.len() {
                            return Ok(Some(flush));
                        }
                        epoch = None;
                    }
                }
                None if place < limit && limit != OPEN => return Err(no_batch(journal, place)),
                None => match successor {
                    None => return Ok(None),
                    Some(next) => {
                        place = next;
                        if flush.batches.is_empty() {
                            self.next = next;
                        }
                    }
                },
            }
        }
    }
}
