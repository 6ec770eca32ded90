//! What a flush of a log writes: its messages from `flushed` on, and where the named readers are if that changed.
//!
//! A message never changes once it is published, so a leader who was deposed and writes on puts the same bytes at the same
//! positions. Places are taken before the end of the log is looked for and written behind the messages: where a place survives a power
//! cut, the messages in front of it do, too.

use super::line::{Kind, Line, Place, encode_places, parts};
use crate::channel::area::Area;
use crate::channel::layout::{NAMED, SubKind};
use crate::channel::log::index::{Found, Look};
use crate::error::Result;
use crate::journal::append::deposed;
use crate::journal::{Batches, Source};
use crate::shm::atomic::Ordering;
use crate::shm::time;

/// The log as the journal sees it.
pub struct Flush<'a>(pub &'a Area);

/// What a flush remembers until its files are synced.
pub struct Taken {
    to: u64,
    /// The mark of the places that it saw and the one of those that it wrote.
    marks: Option<(u64, u64)>,
}

/// The wall clock at a time of the boot clock; 0 stays.
fn wall_of(time_ms: u64) -> u64 {
    if time_ms == 0 { 0 } else { (time::wall_ms() + time_ms).saturating_sub(time::boot_ms()).max(1) }
}

/// The mark of places that a flush wrote: 0 is that of none.
pub fn mark_of(places: &[Place], flush: u64) -> u64 {
    if places.is_empty() {
        return flush & 0xffff_ffff;
    }
    u64::from(crc32c::crc32c(&encode_places(places)).max(1)) << 32 | flush & 0xffff_ffff
}

impl Area {
    /// Bytes of a long message that one line holds: with them it is as long as the longest line of a message that stands in a block.
    fn part_of_line(&self) -> usize {
        self.message_len_max as usize - 8
    }

    /// Where the named readers are.
    pub fn reader_places(&self) -> Result<Vec<Place>> {
        let mut places = Vec::new();
        for index in 0..self.shape.subs {
            let seen = self.sub_state(index)?;
            if seen.flags() & NAMED == 0 || !matches!(seen.kind(), Some(SubKind::Live | SubKind::Away)) {
                continue;
            }
            let place = Place { name: self.sub_name(index)?, position: self.reader_position(index)? };
            // Another may have got the entry meanwhile.
            if self.sub_state(index)?.generation() == seen.generation() {
                places.push(place);
            }
        }
        Ok(places)
    }
}

impl Flush<'_> {
    /// Adds the parts of a long message. Gives the buffer back.
    fn collect_parcel(
        &self,
        batches: &mut Batches<'_>,
        position: u64,
        time_ms: u64,
        found: &Found,
        mut bytes: Vec<u8>,
    ) -> Result<Vec<u8>> {
        let (area, log) = (self.0, self.0.log()?);
        let words = area.words_of(found);
        if !log.is_kept(position) {
            return Err(deposed());
        }
        let copied = area.copy_parcel(words?, &mut bytes);
        if !log.is_kept(position) {
            return Err(deposed());
        }
        let Some(len) = copied? else { return Err(log.damaged(position, log.cell(position))) };
        for (kind, payload) in parts(&bytes[..len], area.part_of_line()) {
            batches.push(&Line { kind, position, time_ms, payload: &payload })?;
        }
        // It is seldom needed again.
        Ok(Vec::new())
    }
}

impl Source for Flush<'_> {
    type Taken = Taken;

    fn collect(&self, batches: &mut Batches<'_>) -> Result<Taken> {
        let (area, log) = (self.0, self.0.log()?);
        let words = area.words()?;
        // ORDER Acquire [log-marks]: what an earlier flush wrote.
        let seen = words.marks().load(Ordering::Acquire);
        let readers = area.reader_places()?;
        let from = words.flushed();
        let to = log.end(from);
        let mut bytes = Vec::new();
        for position in from..to {
            // What is not in the files is not trimmed: only who was deposed finds it so.
            let Look::Found(found) = log.look(position)? else { return Err(deposed()) };
            let time_ms = wall_of(found.time_ms);
            if found.parcel {
                bytes = self.collect_parcel(batches, position, time_ms, &found, bytes)?;
                continue;
            }
            bytes.resize(found.len as usize, 0);
            log.ring().copy_out(found.at, &mut bytes)?;
            if !log.is_kept(position) {
                return Err(deposed());
            }
            batches.push(&Line { kind: Kind::Message, position, time_ms, payload: &bytes })?;
        }
        let mark = mark_of(&readers, words.journal()?.epoch().load(Ordering::Relaxed));
        if seen >> 32 == mark >> 32 {
            return Ok(Taken { to, marks: None });
        }
        let payload = encode_places(&readers);
        let position = readers.len() as u64;
        batches.push(&Line { kind: Kind::Readers, position, time_ms: 0, payload: &payload })?;
        Ok(Taken { to, marks: Some((seen, mark)) })
    }

    fn settle(&self, taken: Taken) -> Result<()> {
        let words = self.0.words()?;
        kill_point!("channel.log_files_flush.before_mark");
        // ORDER AcqRel [log-flushed]: the files hold everything in front of it; a late leader moves it nowhere.
        words.flushed_word().fetch_max(taken.to, Ordering::AcqRel);
        kill_point!("channel.log_files_flush.marked");
        if let Some((seen, written)) = taken.marks {
            // ORDER AcqRel [log-marks]: a failure means that a later flush wrote other places.
            let _ = words.marks().compare_exchange(seen, written, Ordering::AcqRel, Ordering::Relaxed);
        }
        Ok(())
    }
}
