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
use crate::chunk::{Loose, Pool, Search};
use crate::error::{Error, ErrorCode, Result};
use crate::limits::VALUE_LEN_MAX;
use crate::shm::Span;
use crate::shm::atomic::{Ordering, fence};

/// Bytes in front of a chunk's part of the message.
pub const HEADER: u64 = 40;
const NEXT: u64 = 0;
const BEFORE: u64 = 8;
const POSITION: u64 = 16;
const LEN: u64 = 24;
const TERM: u64 = 32;

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

/// Bytes of a message that one chunk holds.
fn part(pool: &Pool) -> u64 {
    pool.geometry().chunk_bytes - HEADER
}

impl Area {
    /// Bytes of the longest message; longer ones than `message_len_max` are sent as parcels, where there are any.
    pub fn parcel_len_max(&self) -> u64 {
        match self.ground.pool() {
            // What can be free in a fabric with other objects.
            Some(pool) => {
                let half = u64::from((pool.geometry().chunk_count - 1) / 2) * part(pool);
                let most = half.min(VALUE_LEN_MAX).saturating_sub(STAMP as u64);
                most.min(self.long_len_max_of_files()).max(self.message_len_max)
            }
            None => self.message_len_max,
        }
    }

    /// Takes chunks and writes a message into them, with its time in front if there is one. They are the caller's alone.
    pub fn write_parcel(&self, stamp: &[u8], message: &[u8]) -> Result<Vec<Loose>> {
        let pool = self.ground.pool().ok_or(ErrorCode::Internal)?;
        let mut chunks = Vec::new();
        let result = self.fill_parcel(pool, &mut chunks, stamp, message);
        if result.is_err() {
            self.drop_parcel(&chunks)?;
        }
        result.map(|()| chunks)
    }

    /// The caller took these chunks and nobody knows of them.
    pub fn drop_parcel(&self, chunks: &[Loose]) -> Result<()> {
        let pool = self.ground.pool().ok_or(ErrorCode::Internal)?;
        for chunk in chunks {
            pool.drop_loose(self.ground.actor()?, *chunk)?;
        }
        Ok(())
    }

    fn fill_parcel(&self, pool: &Pool, chunks: &mut Vec<Loose>, stamp: &[u8], message: &[u8]) -> Result<()> {
        let (me, part) = (self.ground.actor()?, part(pool));
        let count = ((stamp.len() + message.len()) as u64).div_ceil(part);
        let mut search = Search::default();
        for _ in 0..count {
            chunks.push(pool.take_loose(me, self.object(), &mut search)?);
            // DIES AFTER: open chunks that nobody names.
            kill_point!("channel.parcel.taken");
        }
        let mut rest = message;
        for (index, chunk) in chunks.iter().enumerate() {
            let span = self.parcel_span(pool, *chunk)?;
            let in_front = if index == 0 { stamp } else { &[] };
            span.copy_in(HEADER, in_front)?;
            let len = rest.len().min(part as usize - in_front.len());
            let (here, behind) = rest.split_at(len);
            span.copy_in(HEADER + in_front.len() as u64, here)?;
            rest = behind;
            if index == 0 {
                // ORDER Relaxed: as below.
                span.u64(LEN)?.store((stamp.len() + message.len()) as u64, Ordering::Relaxed);
            }
            let next = chunks.get(index + 1).map_or(0, |next| next.word());
            // ORDER Relaxed: bytes of the publisher; naming the parcel orders them.
            span.u64(NEXT)?.store(next, Ordering::Relaxed);
        }
        Ok(())
    }

    fn parcel_span<'p>(&self, pool: &'p Pool, chunk: Loose) -> Result<Span<'p>> {
        pool.loose_span(chunk)?.ok_or_else(|| corrupt(self, format!("{chunk:?} is not that of a parcel")))
    }

    /// The lane's holder names the parcel whose frame it commits next, at `position`.
    pub fn name_parcel(&self, lane: Lane<'_>, first: Loose, position: u64, term: u32) -> Result<()> {
        let pool = self.ground.pool().ok_or(ErrorCode::Internal)?;
        let span = self.parcel_span(pool, first)?;
        let word = lane.parcel_word();
        // ORDER Relaxed: the holder's own word.
        let before = word.load(Ordering::Relaxed);
        for (at, value) in [(BEFORE, before), (POSITION, position), (TERM, term.into())] {
            // ORDER Relaxed: bytes of the publisher; the store below orders them.
            span.u64(at)?.store(value, Ordering::Relaxed);
        }
        kill_point!("channel.parcel.before_name");
        // ORDER Release [parcel]: the parcel's header and its chunks; pairs with the load in `parcels`.
        word.store(first.word(), Ordering::Release);
        // DIES AFTER: the name is taken back by whoever takes the lane over.
        kill_point!("channel.parcel.named");
        Ok(())
    }

    /// The parcel was published: its chunks are nobody's. Readers may be past it already.
    pub fn keep_parcel(&self, lane: u32, chunks: &[Loose]) -> Result<()> {
        let pool = self.ground.pool().ok_or(ErrorCode::Internal)?;
        let me = self.ground.actor()?.index;
        for chunk in chunks {
            pool.keep_loose(me, *chunk)?;
        }
        // DIES BEFORE: whoever takes the lane over does it.
        kill_point!("channel.parcel.kept");
        self.free_parcels(lane)
    }

    /// Whoever takes a lane over from the dead, whose state was `seen`, keeps the chunks of its last parcel, or takes back the name of what it
    /// did not come to publish. The lane's tail was repaired before, and nobody else has published on the lane since. Repeating it is harmless.
    pub fn settle_parcel(&self, lane: Lane<'_>, seen: LaneState) -> Result<()> {
        let Some(pool) = self.ground.pool() else { return Ok(()) };
        // ORDER Acquire [parcel]: the parcel's header.
        let word = lane.parcel_word().load(Ordering::Acquire);
        let Some(parcel) = self.parcel(pool, word)? else { return Ok(()) };
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
        for chunk in self.chunks_of(pool, &parcel)? {
            // DIES BEFORE: the lane is that of the dead still, whoever comes next goes on.
            kill_point!("channel.parcel.before_inherit");
            pool.keep_loose(seen.owner(), chunk)?;
        }
        Ok(())
    }

    /// The parcel whose first chunk is `word`; None if it is gone.
    fn parcel(&self, pool: &Pool, word: u64) -> Result<Option<Parcel>> {
        let Some(first) = Loose::from_word(word) else { return Ok(None) };
        let Some(span) = pool.loose_span(first)? else { return Ok(None) };
        // ORDER Relaxed: whoever named it ordered them; validated below.
        let field = |at| Ok::<u64, Error>(span.u64(at)?.load(Ordering::Relaxed));
        let parcel = Parcel {
            first,
            before: field(BEFORE)?,
            position: field(POSITION)?,
            len: field(LEN)?,
            term: field(TERM)?,
        };
        // ORDER Acquire [chunk-reuse]: what was loaded before; who saw bytes of a later use sees that this one has ended.
        fence(Ordering::Acquire);
        Ok(pool.loose_span(first)?.map(|_| parcel))
    }

    /// The parcels of a lane that are still there, the newest first; on a queue with acknowledgement those that nobody has taken.
    fn parcels(&self, pool: &Pool, index: u32, lane: Lane<'_>) -> Result<Vec<Parcel>> {
        let mut all = Vec::new();
        let taken = match &self.queue {
            Some(queue) if queue.acknowledge.is_some() => self.head(index)?.position(),
            _ => 0,
        };
        // ORDER Acquire [parcel]: the parcel's header, and those before it.
        let mut word = lane.parcel_word().load(Ordering::Acquire);
        // Ends: positions get smaller, which is checked, by at least a frame.
        let mut position = POSITION_MAX;
        while let Some(parcel) = self.parcel(pool, word)? {
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

    fn chunks_of(&self, pool: &Pool, parcel: &Parcel) -> Result<Vec<Loose>> {
        self.chunks_from(pool, [parcel.first.word(), parcel.len])
    }

    /// Whether all chunks of a parcel are there.
    pub fn is_whole_parcel(&self, words: [u64; 2]) -> Result<bool> {
        let pool = self.ground.pool().ok_or(ErrorCode::Internal)?;
        Ok(self.chunks_from(pool, words)?.len() as u64 == words[1].div_ceil(part(pool)))
    }

    /// The chunks of the parcel that a frame, a cell or a record names with these words, up to the first that is gone.
    pub fn chunks_from(&self, pool: &Pool, [word, len]: [u64; 2]) -> Result<Vec<Loose>> {
        let mut chunks = Vec::new();
        let mut next = Loose::from_word(word);
        // One at least, so that nothing stays of a parcel whose length is damaged.
        let count = len.min(VALUE_LEN_MAX).div_ceil(part(pool)).max(1);
        while let Some(chunk) = next.filter(|_| (chunks.len() as u64) < count) {
            let Some(span) = pool.loose_span(chunk)? else { break };
            // ORDER Relaxed: as in `parcel`.
            let word = span.u64(NEXT)?.load(Ordering::Relaxed);
            // ORDER Acquire [chunk-reuse]: as in `parcel`.
            fence(Ordering::Acquire);
            if pool.loose_span(chunk)?.is_none() {
                break;
            }
            chunks.push(chunk);
            next = Loose::from_word(word);
        }
        Ok(chunks)
    }

    /// Gives back the parcels of a lane that every subscription is past. Anybody may, at any time.
    pub fn free_parcels(&self, index: u32) -> Result<()> {
        let Some(pool) = self.ground.pool().filter(|pool| pool.shm().writable()) else { return Ok(()) };
        let Some(reference) = self.lane_ref(index)? else { return Ok(()) };
        let lane = self.lane(reference)?;
        let parcels = self.parcels(pool, index, lane)?;
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
            self.end_parcel([parcel.first.word(), parcel.len])?;
        }
        Ok(())
    }

    /// Nobody needs a published parcel any more: gives its chunks back. Anybody who knows that may, at any time.
    pub fn end_parcel(&self, words: [u64; 2]) -> Result<()> {
        let Some(pool) = self.ground.pool() else { return Ok(()) };
        for chunk in self.chunks_from(pool, words)?.iter().rev() {
            kill_point!("channel.parcel.before_free");
            pool.give_back_loose(*chunk)?;
            // DIES AFTER: the parcel ends in front of that chunk; whoever comes next goes on.
            kill_point!("channel.parcel.freed");
        }
        Ok(())
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
        let Some(pool) = self.ground.pool() else { return Ok(None) };
        let Some(reference) = self.lane_ref(index)? else { return Ok(None) };
        let parcels = self.parcels(pool, index, self.lane(reference)?)?;
        let bytes = parcels.iter().fold(wanted.len, |sum, parcel| sum.saturating_add(parcel.len));
        let most = if wanted.alone { 0 } else { self.shape.lane_bytes * RINGS };
        let few = if wanted.alone { 1 } else { FEW };
        let fits = parcels.len() < few || bytes <= most;
        Ok(if fits { None } else { parcels.last().map(|oldest| oldest.position) })
    }

    /// The holder of a lane that overruns gives back its oldest parcels, whoever has still to read them, until it may send what it wants to.
    pub fn push_out_parcels(&self, index: u32, wanted: Wanted) -> Result<()> {
        let Some(pool) = self.ground.pool() else { return Ok(()) };
        let Some(reference) = self.lane_ref(index)? else { return Ok(()) };
        for oldest in self.parcels(pool, index, self.lane(reference)?)?.iter().rev() {
            if self.parcel_bound(index, wanted)?.is_none() {
                break;
            }
            self.end_parcel([oldest.first.word(), oldest.len])?;
        }
        Ok(())
    }

    /// The first chunk's word and the length in the words that name a parcel, if one can be so long.
    fn named(&self, [word, len]: [u64; 2]) -> Result<(u64, u64)> {
        if len == 0 || len > self.parcel_len_max() + STAMP as u64 {
            return Err(corrupt(self, format!("a parcel of {len} bytes cannot be")));
        }
        Ok((word, len))
    }

    /// As [`Area::copy_parcel`], where it cannot be gone; if it is, the caller does not hold any more what it took it to hold.
    #[cold]
    #[inline(never)]
    pub fn copy_held_parcel(&self, words: [u64; 2], into: &mut Vec<u8>) -> Result<usize> {
        self.copy_parcel(words, into)?.ok_or_else(|| corrupt(self, "a parcel is gone".into()))
    }

    /// Copies the parcel that a frame or a cell names to the start of `into`, which grows when it is too short. Gives its bytes; None if it is
    /// gone. A copy is whole: who gives chunks back makes that seen before anybody writes to them.
    #[cold]
    #[inline(never)]
    pub fn copy_parcel(&self, words: [u64; 2], into: &mut Vec<u8>) -> Result<Option<usize>> {
        let pool = self.ground.pool().ok_or(ErrorCode::Internal)?;
        let (word, len) = self.named(words)?;
        let (len, part) = (len as usize, part(pool) as usize);
        if into.len() < len {
            into.resize(len, 0);
        }
        let mut next = Loose::from_word(word);
        let mut done = 0;
        while done < len {
            let chunk = next.ok_or_else(|| corrupt(self, format!("a parcel ends after {done} bytes")))?;
            let Some(span) = pool.loose_span(chunk)? else { return Ok(None) };
            let is_first = done == 0;
            let end = len.min(done + part);
            span.copy_out(HEADER, &mut into[done..end])?;
            // ORDER Relaxed: the frame ordered them; validated below.
            let (whole, link) =
                (span.u64(LEN)?.load(Ordering::Relaxed), span.u64(NEXT)?.load(Ordering::Relaxed));
            // ORDER Acquire [chunk-reuse]: as in `parcel`.
            fence(Ordering::Acquire);
            if pool.loose_span(chunk)?.is_none() {
                return Ok(None);
            }
            if is_first && whole != len as u64 {
                return Err(corrupt(self, format!("a parcel has not the {len} bytes of its frame")));
            }
            done = end;
            next = Loose::from_word(link);
        }
        Ok(Some(len))
    }

    /// The first chunk of the parcel that a frame names, if its length is that of the frame.
    pub fn first_of_parcel(&self, words: [u64; 2]) -> Result<(Loose, u64)> {
        let pool = self.ground.pool().ok_or(ErrorCode::Internal)?;
        let (word, len) = self.named(words)?;
        let first =
            Loose::from_word(word).ok_or_else(|| corrupt(self, "a parcel has no chunk".to_owned()))?;
        // ORDER Relaxed: the frame ordered it.
        if self.parcel_span(pool, first)?.u64(LEN)?.load(Ordering::Relaxed) != len {
            return Err(corrupt(self, format!("a parcel has not the {len} bytes of its frame")));
        }
        Ok((first, len))
    }

    /// Bytes of a parcel's message that each of its chunks holds, but the last.
    pub fn parcel_part(&self) -> Result<u64> {
        self.ground.pool().map(part).ok_or_else(|| ErrorCode::Internal.into())
    }

    /// The part of the message in a chunk of a parcel. It is good if the caller still holds its subscription afterwards.
    pub fn parcel_bytes(&self, chunk: Loose) -> Result<Span<'_>> {
        let pool = self.ground.pool().ok_or(ErrorCode::Internal)?;
        self.parcel_span(pool, chunk)?.sub(HEADER, part(pool))
    }

    /// The chunk of a parcel behind this one, for there must be one.
    pub fn next_of_parcel(&self, chunk: Loose) -> Result<Loose> {
        let pool = self.ground.pool().ok_or(ErrorCode::Internal)?;
        // ORDER Relaxed: the frame ordered it.
        let word = self.parcel_span(pool, chunk)?.u64(NEXT)?.load(Ordering::Relaxed);
        Loose::from_word(word).ok_or_else(|| corrupt(self, format!("a parcel ends with {chunk:?}")))
    }

    /// The bytes of a message that a queue's cell or a frame holds instead of a parcel's, as its words.
    pub fn parcel_words(&self, bytes: &[u8]) -> Result<[u64; 2]> {
        match bytes.as_chunks::<8>() {
            ([first, second], []) => Ok([u64::from_le_bytes(*first), u64::from_le_bytes(*second)]),
            _ => Err(corrupt(self, format!("{} bytes cannot name a parcel", bytes.len()))),
        }
    }

    /// Where the chunks of all parcels are: of those in lanes, and of those in hands.
    fn parcel_offsets(&self, pool: &Pool) -> Result<HashSet<u64>> {
        let mut offsets = HashSet::new();
        let mut add =
            |chunks: Vec<Loose>| offsets.extend(chunks.iter().map(|chunk| pool.loose_offset(*chunk)));
        for index in 0..self.shape.lanes {
            let Some(reference) = self.lane_ref(index)? else { continue };
            for parcel in self.parcels(pool, index, self.lane(reference)?)? {
                add(self.chunks_of(pool, &parcel)?);
            }
        }
        for words in queue::held_parcels(self)?.into_iter().chain(log::parcel::named(self)?) {
            add(self.chunks_from(pool, words)?);
        }
        Ok(offsets)
    }
}

/// Says which of the channel's chunks nobody names, and which parcels are not whole. Nobody else is at work, and the dead were reaped.
pub fn check_taken_over(area: &Area, problem: &mut dyn FnMut(String, String)) -> Result<()> {
    let Some(pool) = area.ground.pool() else { return Ok(()) };
    let place = || format!("channel `{}`", area.name);
    for index in 0..area.shape.lanes {
        let Ok(Some(reference)) = area.lane_ref(index) else { continue };
        let lane = area.lane(reference)?;
        match area.parcels(pool, index, lane) {
            Ok(parcels) => {
                for parcel in parcels {
                    let whole = area.is_whole_parcel([parcel.first.word(), parcel.len])?;
                    if !whole || parcel.position >= lane.tail() {
                        problem(format!("lane {index}: {parcel:?} is not whole, or was not sent"), place());
                    }
                }
            }
            Err(error) => problem(error.detail().to_owned(), place()),
        }
    }
    let parcels = area.parcel_offsets(pool)?;
    for chunk in pool.lane_chunks(area.object())? {
        let offset = pool.geometry().chunk_offset(chunk);
        if !parcels.contains(&offset) && !super::names_ring(area, offset)? {
            problem(format!("nobody names its chunk {}", chunk.0), place());
        }
    }
    Ok(())
}
