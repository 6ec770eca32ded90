//! Parcels: messages that are too long for their lane stand in chunks of their own, and the lane holds a frame that names them.
//!
//! So a long message is what a short one is: visible whole by one store, or not at all; it is copied by each of its readers, and
//! comes again to who takes over from one that was killed. The publisher takes chunks, writes, names the parcel in its lane's entry, commits the frame, and
//! then keeps the chunks. Each parcel names the one before it, so the lane's word leads to all of them:
//!
//! ```text
//! chunks open, not named          who dies here leaves chunks that nobody names: the reaper frees them
//! named, no frame                 whoever takes the lane over takes the name back; then as above
//! named, frame committed          published; whoever takes the lane over keeps the chunks of the dead
//! every subscription is past it   anybody gives the chunks back: the oldest parcel first, of each the last chunk first
//! ```
//!
//! A chunk is named by its number and its generation, so a parcel that is gone is known by its first chunk, and all before it are gone as well; to give a
//! chunk back twice, or late, or before its publisher came to keep it, is harmless. No word says what is still there: it follows from the places of the
//! subscriptions.
//!
//! A queue without acknowledgement has one place, its head. On one *with* acknowledgement a parcel goes with its message: once the head is past it, it is
//! that of the cell that holds the message, and whoever makes that cell `Done` gives the chunks back. If it dies before, the cell says what is
//! left to do to whoever takes over from it. See `queue`.
//!
//! What is unread of a lane's parcels takes at most eight rings, or is two messages: then the publisher waits as it does for room in its ring. On a lane
//! that overruns it gives back the oldest instead. A reader that comes too late finds the chunks in another use, before or behind its copy, and has lost one
//! message.

use std::collections::HashSet;

use super::area::{Area, STAMP};
use super::lane::Lane;
use super::layout::{LaneState, POSITION_MAX};
use super::{log, queue};
use crate::chunk::{Loose, Parcels};
use crate::error::{Error, ErrorCode, Result};
use crate::shm::atomic::{Ordering, fence};

/// Unread parcels of a lane take at most so many times the bytes of its ring, unless they are two.
const RINGS: u64 = 8;
const FEW: usize = 2;

/// A parcel of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parcel {
    first: Loose,
    /// The one that was sent before it.
    before: u64,
    /// Of its frame.
    pub position: u64,
    /// Bytes, the time in front of the message included.
    len: u64,
    /// Generation of the lane's state when it was sent.
    term: u64,
}

impl Parcel {
    /// Those that name it.
    fn words(&self) -> [u64; 2] {
        [self.first.word(), self.len]
    }
}

/// The parcel whose first chunk is `word`; None if it is gone.
fn parcel(parcels: &Parcels<'_>, word: u64) -> Result<Option<Parcel>> {
    Ok(parcels.head(word)?.map(|head| {
        let [before, position, term] = head.marks;
        Parcel { first: head.first, before, position, len: head.len, term }
    }))
}

/// What a publisher waits for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    pub len: u64,
    /// There was no memory beside what is unread.
    pub alone: bool,
}

#[cold]
fn corrupt(area: &Area, what: String) -> Error {
    Error::new(ErrorCode::Corrupt, format!("Channel `{}`: {what}.", area.name))
}

impl Area {
    /// Its parcels; None where there are none.
    pub(super) fn parcels(&self) -> Option<Parcels<'_>> {
        let pool = self.ground.pool()?;
        Some(Parcels { pool, object: self.object(), owner: ("Channel", &self.name) })
    }

    pub(super) fn must_have_parcels(&self) -> Result<Parcels<'_>> {
        self.parcels().ok_or_else(|| ErrorCode::Internal.into())
    }

    /// Bytes of the longest message; longer ones than `message_len_max` are sent as parcels, where there are any.
    pub fn parcel_len_max(&self) -> u64 {
        match self.parcels() {
            Some(parcels) => {
                let most = parcels.len_max().saturating_sub(STAMP as u64);
                most.min(self.long_len_max_of_files()).max(self.message_len_max)
            }
            None => self.message_len_max,
        }
    }

    /// Takes chunks and writes a message into them, with its time in front if there is one. They are the caller's alone.
    pub fn write_parcel(&self, stamp: &[u8], message: &[u8]) -> Result<Vec<Loose>> {
        self.must_have_parcels()?.write(self.ground.actor()?, stamp, message)
    }

    /// The lane's holder names the parcel whose frame it commits next, at `position`.
    pub fn name_parcel(&self, lane: Lane<'_>, first: Loose, position: u64, term: u32) -> Result<()> {
        let word = lane.parcel_word();
        // ORDER Relaxed: the holder's own word.
        let before = word.load(Ordering::Relaxed);
        self.must_have_parcels()?.mark(first, [before, position, term.into()])?;
        kill_point!("channel.parcel.before_name");
        // ORDER Release [parcel]: the parcel's header and its chunks; pairs with the load in `parcels`.
        word.store(first.word(), Ordering::Release);
        // DIES AFTER: the name is taken back by whoever takes the lane over.
        kill_point!("channel.parcel.named");
        Ok(())
    }

    /// The parcel was published: its chunks are nobody's. Readers may be past it already.
    pub fn keep_parcel(&self, lane: u32, chunks: &[Loose]) -> Result<()> {
        self.must_have_parcels()?.keep(self.ground.actor()?.index, chunks)?;
        // DIES BEFORE: whoever takes the lane over does it.
        kill_point!("channel.parcel.kept");
        self.free_parcels(lane)
    }

    /// Whoever takes a lane over from the dead, whose state was `seen`, keeps the chunks of its last parcel, or takes back the name of what it
    /// did not come to publish. The lane's tail was repaired before, and nobody else has published on the lane since. Repeating it is harmless.
    pub fn settle_parcel(&self, lane: Lane<'_>, seen: LaneState) -> Result<()> {
        let Some(parcels) = self.parcels() else { return Ok(()) };
        // ORDER Acquire [parcel]: the parcel's header.
        let word = lane.parcel_word().load(Ordering::Acquire);
        let Some(parcel) = parcel(&parcels, word)? else { return Ok(()) };
        // Of a later holder it is its own affair.
        if parcel.term != u64::from(seen.generation()) {
            return Ok(());
        }
        if parcel.position >= lane.tail() {
            kill_point!("channel.parcel.before_unname");
            // ORDER AcqRel [parcel]: what the dead did; a failure means that another was first. No word comes twice.
            let _ =
                lane.parcel_word().compare_exchange(word, parcel.before, Ordering::AcqRel, Ordering::Relaxed);
            // DIES AFTER: the chunks are open still, and nobody names them.
            kill_point!("channel.parcel.unnamed");
            return Ok(());
        }
        for chunk in parcels.chunks(parcel.words())? {
            // DIES BEFORE: the lane is that of the dead still, whoever comes next goes on.
            kill_point!("channel.parcel.before_inherit");
            parcels.keep(seen.owner(), &[chunk])?;
        }
        Ok(())
    }

    /// The parcels of a lane that are still there, the newest first; on a queue with acknowledgement those that nobody has taken.
    fn parcels_of(&self, parcels: &Parcels<'_>, index: u32, lane: Lane<'_>) -> Result<Vec<Parcel>> {
        let mut all = Vec::new();
        let taken = match &self.queue {
            Some(queue) if queue.acknowledge.is_some() => self.head(index)?.position(),
            _ => 0,
        };
        // ORDER Acquire [parcel]: the parcel's header, and those before it.
        let mut word = lane.parcel_word().load(Ordering::Acquire);
        // Ends: positions get smaller, which is checked, by at least a frame.
        let mut position = POSITION_MAX;
        while let Some(parcel) = parcel(parcels, word)? {
            if parcel.position >= position || all.len() as u64 > self.shape.lane_bytes {
                return Err(corrupt(self, format!("{parcel:?} stands before one at {position}")));
            }
            if parcel.position < taken {
                break;
            }
            (word, position) = (parcel.before, parcel.position);
            all.push(parcel);
        }
        Ok(all)
    }

    /// Gives back the parcels of a lane that every subscription is past. Anybody may, at any time.
    pub fn free_parcels(&self, index: u32) -> Result<()> {
        let Some(all) = self.parcels().filter(|all| all.pool.shm().writable()) else { return Ok(()) };
        let Some(reference) = self.lane_ref(index)? else { return Ok(()) };
        let lane = self.lane(reference)?;
        let parcels = self.parcels_of(&all, index, lane)?;
        if parcels.is_empty() {
            return Ok(());
        }
        let tail = lane.tail();
        // ORDER SeqCst [join]: the tail before the look at the subscriptions; pairs with the fence in `go_live`.
        fence(Ordering::SeqCst);
        let mut subs = Vec::new();
        self.bounding(&mut subs)?;
        let lowest = self.limit(&subs, index, tail)? - self.shape.lane_bytes;
        for parcel in parcels.iter().rev() {
            if parcel.position >= lowest {
                break;
            }
            all.give_back(parcel.words())?;
        }
        Ok(())
    }

    /// Nobody needs a published parcel any more: gives its chunks back. Anybody who knows that may, at any time.
    pub fn end_parcel(&self, words: [u64; 2]) -> Result<()> {
        self.parcels().map_or(Ok(()), |parcels| parcels.give_back(words))
    }

    /// As [`Area::free_parcels`], for all lanes. What is damaged stays, and is told to whoever reads it.
    pub fn free_all_parcels(&self) {
        for index in 0..self.shape.lanes {
            let _ = self.free_parcels(index);
        }
    }

    /// Whether a publisher of the lane may send what it wants to: None. Else the position that every subscription must be past.
    pub fn parcel_bound(&self, index: u32, wanted: Wanted) -> Result<Option<u64>> {
        self.free_parcels(index)?;
        let Some(all) = self.parcels() else { return Ok(None) };
        let Some(reference) = self.lane_ref(index)? else { return Ok(None) };
        let parcels = self.parcels_of(&all, index, self.lane(reference)?)?;
        let bytes = parcels.iter().fold(wanted.len, |sum, parcel| sum.saturating_add(parcel.len));
        let most = if wanted.alone { 0 } else { self.shape.lane_bytes * RINGS };
        let few = if wanted.alone { 1 } else { FEW };
        let fits = parcels.len() < few || bytes <= most;
        Ok(if fits { None } else { parcels.last().map(|oldest| oldest.position) })
    }

    /// The holder of a lane that overruns gives back its oldest parcels, whoever has still to read them, until it may send what it wants to.
    pub fn push_out_parcels(&self, index: u32, wanted: Wanted) -> Result<()> {
        let Some(all) = self.parcels() else { return Ok(()) };
        let Some(reference) = self.lane_ref(index)? else { return Ok(()) };
        for oldest in self.parcels_of(&all, index, self.lane(reference)?)?.iter().rev() {
            if self.parcel_bound(index, wanted)?.is_none() {
                break;
            }
            all.give_back(oldest.words())?;
        }
        Ok(())
    }

    /// As [`Area::copy_parcel`], where it cannot be gone; if it is, the caller does not hold any more what it took it to hold.
    #[cold]
    #[inline(never)]
    pub fn copy_held_parcel(&self, words: [u64; 2], into: &mut Vec<u8>) -> Result<usize> {
        self.copy_parcel(words, into)?.ok_or_else(|| corrupt(self, "a parcel is gone".into()))
    }

    /// Whether all of the parcel is there that these words name.
    pub fn is_whole_parcel(&self, words: [u64; 2]) -> Result<bool> {
        let (parcels, ..) = self.view_parcel(words)?;
        parcels.is_whole(words)
    }

    /// Bytes of the longest parcel, the time in front of the message included.
    fn parcel_bytes_max(&self) -> u64 {
        self.parcel_len_max() + STAMP as u64
    }

    /// Copies the parcel that a frame or a cell names to the start of `into`, which grows when it is too short. Gives its bytes; None if it is
    /// gone.
    pub fn copy_parcel(&self, words: [u64; 2], into: &mut Vec<u8>) -> Result<Option<usize>> {
        self.must_have_parcels()?.copy(words, self.parcel_bytes_max(), into)
    }

    /// The parcel that a frame names, to be read in place: its first chunk, its length, and how to come to the others.
    pub fn view_parcel(&self, words: [u64; 2]) -> Result<(Parcels<'_>, Loose, u64)> {
        let parcels = self.must_have_parcels()?;
        let (first, len) = parcels.first(words, self.parcel_bytes_max())?;
        Ok((parcels, first, len))
    }

    /// The bytes of a message that a queue's cell or a frame holds instead of a parcel's, as its words.
    pub fn parcel_words(&self, bytes: &[u8]) -> Result<[u64; 2]> {
        match bytes.as_chunks::<8>() {
            ([first, second], []) => Ok([u64::from_le_bytes(*first), u64::from_le_bytes(*second)]),
            _ => Err(corrupt(self, format!("{} bytes cannot name a parcel", bytes.len()))),
        }
    }

    /// Where the chunks of all parcels are: of those in lanes, and of those in hands.
    fn parcel_offsets(&self, all: &Parcels<'_>) -> Result<HashSet<u64>> {
        let mut offsets = HashSet::new();
        let mut add =
            |chunks: Vec<Loose>| offsets.extend(chunks.iter().map(|chunk| all.pool.loose_offset(*chunk)));
        for index in 0..self.shape.lanes {
            let Some(reference) = self.lane_ref(index)? else { continue };
            for parcel in self.parcels_of(all, index, self.lane(reference)?)? {
                add(all.chunks(parcel.words())?);
            }
        }
        for words in queue::held_parcels(self)?.into_iter().chain(log::parcel::named(self)?) {
            add(all.chunks(words)?);
        }
        Ok(offsets)
    }
}

/// Says which of the channel's chunks nobody names, and which parcels are not whole. Nobody else is at work, and the dead were reaped.
pub fn check_taken_over(area: &Area, problem: &mut dyn FnMut(String, String)) -> Result<()> {
    let Some(all) = area.parcels() else { return Ok(()) };
    let place = || format!("channel `{}`", area.name);
    for index in 0..area.shape.lanes {
        let Ok(Some(reference)) = area.lane_ref(index) else { continue };
        let lane = area.lane(reference)?;
        match area.parcels_of(&all, index, lane) {
            Ok(parcels) => {
                for parcel in parcels {
                    if !all.is_whole(parcel.words())? || parcel.position >= lane.tail() {
                        problem(format!("lane {index}: {parcel:?} is not whole, or was not sent"), place());
                    }
                }
            }
            Err(error) => problem(error.detail().to_owned(), place()),
        }
    }
    let parcels = area.parcel_offsets(&all)?;
    for chunk in all.pool.lane_chunks(area.object())? {
        let offset = all.pool.geometry().chunk_offset(chunk);
        if !parcels.contains(&offset) && !super::names_ring(area, offset)? {
            problem(format!("nobody names its chunk {}", chunk.0), place());
        }
    }
    Ok(())
}
