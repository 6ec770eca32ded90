//! Files that are too old, or too many, are removed, the oldest first.
//!
//! What is removed is named by a manifest first, as a checkpoint of a store does: it says which file is the first that counts, at which position that
//! begins, and where the named readers are, because what the removed files said of them goes. `stored` is moved before: a reader
//! that comes to an older position is told how much it lost. On a log that blocks, nothing is removed that a named reader has still to
//! read; a reader that comes or goes back changes the word of `stored`, so who looked at the readers before that does not trim.

use super::flush::mark_of;
use super::line::{HEADER, Kind, Line, encode_places};
use crate::channel::area::Area;
use crate::error::Result;
use crate::journal::append::{deposed, failed};
use crate::journal::checkpoint::CheckpointFile;
use crate::journal::layout::{
    BATCH_HEADER_LEN, BatchHeader, FILE_HEADER_LEN, FIRST_SECTOR, FileHeader, FileName, SECTOR, batch_len,
    file_tag,
};
use crate::journal::leader::{Reign, claim};
use crate::journal::manifest::Manifest;
use crate::journal::replay::survey;
use crate::journal::{Journal, Lsn};
use crate::shm::atomic::Ordering;
use crate::shm::time;

/// Looks before giving up: each failed one is a reader that came.
const ROUNDS: u32 = 100;

/// Name of a file of the journal.
pub fn name_of(place: Lsn) -> FileName {
    FileName::Journal { term: place.term(), number: place.number() }
}

/// The position of the first message that begins in the batches of an open file from `place` on, the batch that it is in, and the place behind that.
pub fn first_message(
    file: &dyn crate::journal::files::LogFile,
    tag: u64,
    mut place: Lsn,
) -> std::io::Result<Option<(u64, Lsn, Lsn)>> {
    loop {
        let mut bytes = [0; BATCH_HEADER_LEN + HEADER];
        let len = file.read_at(place.byte(), &mut bytes)?;
        let header = BatchHeader::decode(&bytes[..len]).filter(|it| it.tag == tag && it.lsn == place);
        let Some(header) = header else { return Ok(None) };
        match Line::head(&bytes[BATCH_HEADER_LEN..len]) {
            Some((kind, position, ..)) => match kind.begins(position) {
                Some(first) => return Ok(Some((first, place, behind(place, &header)))),
                None => place = behind(place, &header),
            },
            None => return Ok(None),
        }
    }
}

/// The place behind a batch.
pub fn behind(place: Lsn, header: &BatchHeader) -> Lsn {
    place.at_sector(place.sector() + (batch_len(header.body_len as usize) / SECTOR) as u32)
}

/// The first message of a file; None if there is none.
fn first_of(journal: &Journal, place: Lsn) -> Result<Option<u64>> {
    let (files, name) = (&**journal.files(), name_of(place));
    let file = files.open(&name.to_string()).map_err(|e| failed(files, "open", name, &e))?;
    let first = first_message(&*file, file_tag(journal.store(), name), place.at_sector(FIRST_SECTOR));
    Ok(first.map_err(|e| failed(files, "read", name, &e))?.map(|(position, ..)| position))
}

fn created_ms(journal: &Journal, place: Lsn) -> Result<Option<u64>> {
    let (files, name) = (&**journal.files(), name_of(place));
    let file = files.open(&name.to_string()).map_err(|e| failed(files, "open", name, &e))?;
    let mut bytes = vec![0; FILE_HEADER_LEN as usize];
    let len = file.read_at(0, &mut bytes).map_err(|e| failed(files, "read", name, &e))?;
    Ok(FileHeader::decode(&bytes[..len]).ok().map(|header| header.created_ms))
}

impl Area {
    /// Removes files if some may have to go: a new one was begun, or the log has an age.
    pub fn retain_if_due(&self) -> Result<()> {
        let words = self.words()?;
        // ORDER Relaxed: being late by a flush does no harm.
        let tail = words.journal()?.tail().load(Ordering::Relaxed) >> 24;
        let now = time::wall_ms();
        let age = self.log()?.age_ms;
        let files = self.files()?;
        // ORDER Relaxed: only says when to look.
        let aged = age != 0 && now >= files.look_at.load(Ordering::Relaxed);
        if words.trimmed_at().load(Ordering::Relaxed) >> 24 == tail && !aged {
            return Ok(());
        }
        files.look_at.store(now + age / 16, Ordering::Relaxed);
        if words.limit().is_none() && age == 0 { Ok(()) } else { self.retain() }
    }

    /// Removes the files that are too old or too many. Nothing if another process does.
    pub fn retain(&self) -> Result<()> {
        let (words, files) = (self.words()?, self.files()?);
        let is_dead = |thread: u16| self.ground.thread_is_dead(thread);
        let me = self.ground.thread()?;
        let Some(reign) = claim(words.trimmer(), me, &is_dead, &files.trim_watch, true)? else {
            return Ok(());
        };
        kill_point!("channel.log_files_trim.claimed");
        match self.retain_as(&reign) {
            Ok(true) => Ok(()),
            Ok(false) => {
                reign.give_back();
                Ok(())
            }
            // Deposed meanwhile: its files may be gone, and another does it.
            Err(_) if !reign.holds() => Ok(()),
            other => other.map(|_| ()),
        }
    }

    /// True if it wrote something.
    fn retain_as(&self, reign: &Reign<'_>) -> Result<bool> {
        let words = self.words()?;
        let control = words.journal()?;
        let journal = &self.files()?.journal;
        // ORDER Acquire [journal-tail]: the file that it names is there.
        let tail = Lsn(control.tail().load(Ordering::Acquire));
        let all = survey(&**journal.files(), journal.store())?.journals;
        for _ in 0..ROUNDS {
            let stored = words.stored();
            let (gone, keeper) = self.to_remove(journal, &all, tail)?;
            // ORDER Relaxed: only says whom to look at.
            words.held().store(keeper.map_or(0, |id| u64::from(id) + 1), Ordering::Relaxed);
            if !reign.beat() {
                return Err(deposed());
            }
            if gone == 0 {
                words.trimmed_at().store(tail.0, Ordering::Relaxed);
                return Ok(false);
            }
            let floor = self.first_from(journal, &all[gone..])?;
            kill_point!("channel.log_files_trim.before_stored");
            // ORDER AcqRel [log-stored]: a failure means that a reader came, or another trimmed.
            let moved = words.stored_word().compare_exchange(
                stored.0,
                stored.moved(floor.max(stored.position())).0,
                Ordering::AcqRel,
                Ordering::Relaxed,
            );
            if moved.is_err() {
                continue;
            }
            kill_point!("channel.log_files_trim.stored");
            self.remove_files(journal, reign, all[gone], floor)?;
            words.trimmed_at().store(tail.0, Ordering::Relaxed);
            return Ok(true);
        }
        Ok(false)
    }

    /// How many of the oldest files have to go, and the named reader that keeps the next one of those.
    fn to_remove(&self, journal: &Journal, all: &[Lsn], tail: Lsn) -> Result<(usize, Option<u32>)> {
        let (words, age) = (self.words()?, self.log()?.age_ms);
        let capacity = words.journal()?.checked_capacity()?;
        let limit = words.limit().map_or(u64::MAX, |limit| limit / capacity) as usize;
        let young = time::wall_ms().saturating_sub(age);
        let (bound, keeper) = if self.overruns() { (u64::MAX, None) } else { self.reader_bound()? };
        let stored = words.stored().position();
        let mut gone = 0;
        while gone + 1 < all.len() && all[gone + 1] <= tail {
            let first = self.first_from(journal, &all[gone + 1..])?;
            let aged = || -> Result<bool> {
                // All of a file was written before the next one was begun.
                Ok(age != 0 && created_ms(journal, all[gone + 1])?.is_some_and(|ms| ms < young))
            };
            if first > stored && all.len() - gone <= limit && !aged()? {
                break;
            }
            if first > bound {
                return Ok((gone, keeper));
            }
            gone += 1;
        }
        Ok((gone, None))
    }

    /// The first message in the first of these files that holds one; else the one that is written next.
    fn first_from(&self, journal: &Journal, all: &[Lsn]) -> Result<u64> {
        let flushed = self.words()?.flushed();
        for place in all {
            if let Some(first) = first_of(journal, *place)? {
                return Ok(first);
            }
        }
        Ok(flushed)
    }

    fn remove_files(&self, journal: &Journal, reign: &Reign<'_>, first: Lsn, floor: u64) -> Result<()> {
        let control = self.words()?.journal()?;
        // Before the look at the readers: what a later flush says of them counts instead.
        // ORDER Acquire [journal-epoch]: as above.
        let epoch = control.epoch().load(Ordering::Acquire);
        let marks = self.words()?.marks();
        // ORDER Acquire [log-marks]: of a flush before that.
        let seen = marks.load(Ordering::Acquire);
        let readers = self.reader_places()?;
        let mut file = CheckpointFile::create(journal, (reign.term(), 0), epoch)?;
        let payload = encode_places(&readers);
        let position = readers.len() as u64;
        let written = file
            .push(&Line { kind: Kind::Readers, position, time_ms: 0, payload: &payload })
            .and_then(|()| file.finish());
        let written = match written {
            Ok(written) => written,
            Err(error) => {
                file.abandon();
                return Err(error);
            }
        };
        let manifest = Manifest {
            last_epoch: control.durable().load(Ordering::Acquire),
            order_floor: floor,
            wall_ms: time::wall_ms(),
            ..Manifest::of_one(*journal.store(), reign.term(), written, first.at_sector(FIRST_SECTOR), 0)
        };
        journal.put_in_force(&manifest, 0, &|| reign.holds())?;
        // ORDER AcqRel [log-marks]: a failure means that a later flush wrote other places.
        let _ = marks.compare_exchange(seen, mark_of(&readers, epoch), Ordering::AcqRel, Ordering::Relaxed);
        Ok(())
    }
}
