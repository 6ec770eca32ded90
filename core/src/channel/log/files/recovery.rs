//! The first opener reads the files; the others wait.
//!
//! While any process lived the memory holds everything, and there is nothing to do. After the loss of the segment the log is new, and one
//! opener, who leads by a word with a term, reads all files: where the messages begin and end, and where the named readers were. The
//! messages stay where they are: the log in memory begins, empty, at the position behind the last one, and who wants older ones reads the files.
//!
//! A recoverer that was stopped and overtaken changes nothing when it wakes: each of its stores is a compare-and-swap of what it saw before it was
//! stopped, and an entry that it was filling in for a reader has another generation by then.

use std::time::Duration;

use super::flush::mark_of;
use super::line::{Added, Kind, Line, Parts, Place, decode_places};
use crate::channel::area::Area;
use crate::channel::layout::{NAMED, SubKind, SubState};
use crate::channel::log::layout::{Cell, ReaderPlace};
use crate::channel::subscription::check_name;
use crate::error::{Error, ErrorCode, Result};
use crate::journal::append::{deposed, failed};
use crate::journal::layout::FileName;
use crate::journal::leader::{LeaderWord, Reign, claim};
use crate::journal::replay::{Counted, corrupt, replay_batches, survey};
use crate::journal::{FileLayer, Lsn};
use crate::shm::atomic::Ordering;

/// Cells between two signs of life.
const CELLS: u64 = 1 << 16;

/// What the files hold.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// The oldest message.
    pub first: u64,
    /// Behind the last message.
    pub end: u64,
    /// Where the named readers were.
    pub readers: Vec<Place>,
    pub term_max: u32,
    pub epoch_max: u64,
    /// Files of the journal.
    pub files: Vec<Lsn>,
    /// Files whose end was cut off by a crash.
    pub torn: u32,
}

/// Reads all files that count. `beat` is called for each batch.
pub fn read_files(
    files: &dyn FileLayer,
    id: &[u8; 16],
    beat: &mut dyn FnMut() -> Result<()>,
) -> Result<Contents> {
    let found = survey(files, id)?;
    let mut contents = Contents::default();
    // In front of the first message; where files were removed, the manifest says where it must be.
    let (mut first, mut end) = (None, found.manifest.as_ref().map(|manifest| manifest.order_floor));
    let floor = found.manifest.as_ref().map_or(0, |manifest| manifest.order_floor);
    let mut places_of = 0;
    let mut parts = Parts::default();
    let replayed = replay_batches(files, id, &found, &mut |_| {}, &mut |batch| {
        beat()?;
        let mut rest = batch.body;
        for _ in 0..batch.header.count {
            let Some((line, len)) = Line::decode(rest) else {
                return Err(damaged(files, batch, "a line of the batch is malformed"));
            };
            rest = &rest[len..];
            let added = if line.kind == Kind::Readers { None } else { Some(parts.add(&line)) };
            match line.kind {
                // What is left of a message whose beginning was removed with its file.
                Kind::Further if added == Some(Added::Stray) && line.position < floor => {}
                Kind::First | Kind::Further if added == Some(Added::Stray) => {
                    return Err(damaged(files, batch, "a part of a long message does not continue it"));
                }
                Kind::Message | Kind::First | Kind::Further if end.is_none_or(|end| line.position <= end) => {
                    first.get_or_insert(line.position);
                    // It counts with its last part. A leader that was deposed may have written it again.
                    let behind = line.position + u64::from(added.is_some_and(|added| added.is_end()));
                    end = Some(end.unwrap_or(line.position).max(behind));
                }
                Kind::Message | Kind::First | Kind::Further => {
                    let what = format!(
                        "positions {} to {} are missing in front of it",
                        end.unwrap_or(0),
                        line.position
                    );
                    return Err(damaged(files, batch, &what));
                }
                Kind::Readers if batch.header.epoch >= places_of => {
                    places_of = batch.header.epoch;
                    contents.readers = decode_places(line.payload)
                        .ok_or_else(|| damaged(files, batch, "the places of the readers are malformed"))?;
                }
                Kind::Readers => {}
            }
        }
        if rest.is_empty() {
            Ok(true)
        } else {
            Err(damaged(files, batch, "the batch has more bytes than lines"))
        }
    })?;
    if let Some(first) = first.filter(|first| *first > floor) {
        let place = found.journals.first().copied().unwrap_or(Lsn::NONE);
        let name = FileName::Journal { term: place.term(), number: place.number() };
        return Err(corrupt(files, name, place.byte(), &format!("positions {floor} to {first} are missing")));
    }
    contents.end = end.unwrap_or(0);
    contents.first = floor.min(contents.end);
    (contents.term_max, contents.epoch_max) = (replayed.term_max, replayed.epoch_max);
    (contents.files, contents.torn) = (found.journals, replayed.torn);
    Ok(contents)
}

fn damaged(files: &dyn FileLayer, batch: &Counted<'_>, what: &str) -> Error {
    corrupt(files, batch.name, batch.header.lsn.byte(), what)
}

impl Area {
    /// Makes the log ready, or waits until another opener has done so.
    pub fn recover(&self) -> Result<()> {
        let (words, files) = (self.words()?, self.files()?);
        let is_dead = |thread: u16| self.ground.thread_is_dead(thread);
        loop {
            if words.is_ready() {
                return Ok(());
            }
            let me = self.ground.thread()?;
            if let Some(reign) = claim(words.recoverer(), me, &is_dead, &files.recovery_watch, true)? {
                kill_point!("channel.log_files_recover.claimed");
                if words.is_ready() {
                    return Ok(());
                }
                match self.recover_as(&reign, me) {
                    // Stopped for too long: another has taken over.
                    Err(error) if error.code() == ErrorCode::Busy => continue,
                    result => return result,
                }
            }
            // The recoverer is alive and moves, or is overtaken: so this ends.
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn recover_as(&self, reign: &Reign<'_>, me: u16) -> Result<()> {
        let (words, log) = (self.words()?, self.log()?);
        let journal = &self.files()?.journal;
        let layer = &**journal.files();
        let beat = &mut || if reign.beat() { Ok(()) } else { Err(deposed()) };
        let contents = read_files(layer, journal.store(), beat)?;
        // What was read may be in no file after the next power cut: what follows it shall not be without it.
        for place in &contents.files {
            beat()?;
            let name = FileName::Journal { term: place.term(), number: place.number() };
            let file = layer.open(&name.to_string()).map_err(|e| failed(layer, "open", name, &e))?;
            file.sync().map_err(|e| failed(layer, "fdatasync", name, &e))?;
        }
        layer.sync_names().map_err(|e| failed(layer, "fsync", "", &e))?;
        if contents.term_max >= Lsn::PART_MAX || contents.end >= log.geometry.position_max() {
            return Err(Error::new(ErrorCode::Full, "All terms or positions of the log are used up."));
        }
        if !words.set_id(journal.store()) {
            return Err(Error::new(
                ErrorCode::NotAStore,
                format!("{} holds another log than the one in memory.", layer.place()),
            ));
        }
        kill_point!("channel.log_files_recover.before_cells");
        self.begin_at(contents.end, beat)?;
        // ORDER AcqRel [log-ready]: ordered by `ready` below; a late recoverer changes nothing.
        let change = |word: &crate::shm::atomic::AtomicU64, seen: u64, to: u64| {
            let _ = word.compare_exchange(seen, to, Ordering::AcqRel, Ordering::Relaxed);
        };
        change(words.flushed_word(), words.flushed(), contents.end);
        let stored = words.stored();
        change(words.stored_word(), stored.0, stored.moved(contents.first).0);
        beat()?;
        self.forget_readers(me)?;
        for place in &contents.readers {
            beat()?;
            self.restore_reader(me, place, contents.end, reign)?;
        }
        change(
            words.marks(),
            words.marks().load(Ordering::Relaxed),
            mark_of(&contents.readers, contents.epoch_max),
        );
        let term = contents.term_max + 1;
        words.journal()?.init(term, contents.epoch_max.saturating_add(1), 0);
        change(words.trimmer(), 0, LeaderWord::free(term).0);
        beat()?;
        kill_point!("channel.log_files_recover.before_ready");
        change(words.ready(), 0, 1);
        kill_point!("channel.log_files_recover.ready");
        Ok(())
    }

    /// Makes the log in memory, of which nothing was used, begin at a position.
    fn begin_at(&self, end: u64, beat: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        let log = self.log()?;
        let nothing = log.geometry.block_at(0);
        for position in end.saturating_sub(log.geometry.cells())..end {
            if position % CELLS == 0 {
                beat()?;
            }
            let word = log.cell_word(position);
            let seen = word.load(Ordering::Relaxed);
            let cell = Cell::new(log.geometry.lap(position), nothing).0;
            if seen != cell {
                // ORDER AcqRel [log-cell]: late recoverers expect what was there before.
                let _ = word.compare_exchange(seen, cell, Ordering::AcqRel, Ordering::Relaxed);
            }
        }
        kill_point!("channel.log_files_recover.cells");
        beat()?;
        let seen = log.oldest();
        self.move_oldest(seen, end)
    }

    /// Takes back what an earlier recovery, which was broken off, said of readers.
    fn forget_readers(&self, me: u16) -> Result<()> {
        for index in 0..self.shape.subs {
            let seen = self.sub_state(index)?;
            let next = seen.generation().wrapping_add(1);
            let to = match seen.kind() {
                Some(SubKind::Live | SubKind::Away) => SubState::new(SubKind::Free, 0, 0, next),
                // Of one that is stopped: the entry stays its own, and what it does with it fails.
                Some(SubKind::Joining) if seen.owner() != me && !self.ground.thread_is_dead(seen.owner()) => {
                    SubState::new(SubKind::Joining, 0, seen.owner(), next)
                }
                Some(SubKind::Joining) => SubState::new(SubKind::Free, 0, 0, next),
                _ => continue,
            };
            self.change_sub(index, seen, to)?;
        }
        Ok(())
    }

    /// A named reader that is away, as the files say.
    fn restore_reader(&self, me: u16, place: &Place, end: u64, reign: &Reign<'_>) -> Result<()> {
        check_name(&place.name)?;
        for index in 0..self.shape.subs {
            let Some(joining) = self.claim(me, index, self.sub_state(index)?)? else { continue };
            self.write_name(index, &place.name)?;
            self.begin_reader(index, ReaderPlace::new(place.position.min(end), joining.generation()))?;
            kill_point!("channel.log_files_recover.reader");
            let away = SubState::new(SubKind::Away, NAMED, 0, joining.generation());
            if reign.beat() && self.change_sub(index, joining, away)? {
                return Ok(());
            }
            // Overtaken: the entry has another generation, or will be forgotten.
            let seen = self.sub_state(index)?;
            if seen.owner() == me {
                self.release_sub(index, seen)?;
            }
            return Err(deposed());
        }
        Ok(())
    }
}
