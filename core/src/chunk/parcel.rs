//! Parcels: messages in chunks of their own, linked in the order of their bytes, and named by the first chunk and the length.
//!
//! What stands here is the same for all who have some: writing, keeping, copying and giving back. Who names a parcel, and when nobody needs it
//! any more, is its object's affair, which puts up to three words of its own, its *marks*, into the header of the first chunk.
//!
//! A parcel that is gone is known by its first chunk: its chunks go the last one first. Giving it back twice, late, or before whoever took the chunks has
//! kept them, is harmless.

use super::{Actor, Loose, Pool, Search};
use crate::error::{Error, ErrorCode, Result};
use crate::limits::VALUE_LEN_MAX;
use crate::shm::Span;
use crate::shm::atomic::{Ordering, fence};

/// Bytes in front of a chunk's part of the message.
pub const PARCEL_HEADER: u64 = 40;
const NEXT: u64 = 0;
const LEN: u64 = 24;
const MARKS: [u64; 3] = [8, 16, 32];

/// The header of a parcel's first chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParcelHead {
    pub first: Loose,
    /// Bytes, those in front of the message included.
    pub len: u64,
    /// What its object wrote there.
    pub marks: [u64; 3],
}

/// The parcels of an object.
#[derive(Clone, Copy)]
pub struct Parcels<'a> {
    pub pool: &'a Pool,
    /// Number of the object.
    pub object: u32,
    /// What it is and how it is called, for errors.
    pub owner: (&'static str, &'a str),
}

impl<'a> Parcels<'a> {
    #[cold]
    fn corrupt(&self, what: String) -> Error {
        let (kind, name) = self.owner;
        Error::new(ErrorCode::Corrupt, format!("{kind} `{name}`: {what}."))
    }

    /// Bytes of a message that one chunk holds.
    pub fn part(&self) -> u64 {
        self.pool.geometry().chunk_bytes - PARCEL_HEADER
    }

    /// Bytes of the longest parcel: what can be free in a fabric with other objects.
    pub fn len_max(&self) -> u64 {
        let half = u64::from((self.pool.geometry().chunk_count - 1) / 2) * self.part();
        half.min(VALUE_LEN_MAX)
    }

    /// Takes chunks and writes a message into them, with some bytes in front. They are the caller's alone.
    pub fn write(&self, me: Actor<'_>, in_front: &[u8], message: &[u8]) -> Result<Vec<Loose>> {
        let mut chunks = Vec::new();
        let result = self.fill(me, &mut chunks, in_front, message);
        if result.is_err() {
            self.discard(me, &chunks)?;
        }
        result.map(|()| chunks)
    }

    /// The caller wrote a parcel that nobody knows of, and does not want it.
    pub fn discard(&self, me: Actor<'_>, chunks: &[Loose]) -> Result<()> {
        chunks.iter().try_for_each(|chunk| self.pool.drop_loose(me, *chunk))
    }

    fn fill(&self, me: Actor<'_>, chunks: &mut Vec<Loose>, in_front: &[u8], message: &[u8]) -> Result<()> {
        let part = self.part();
        let len = (in_front.len() + message.len()) as u64;
        let mut search = Search::default();
        for _ in 0..len.div_ceil(part) {
            chunks.push(self.pool.take_loose(me, self.object, &mut search)?);
            // DIES AFTER: open chunks that nobody names.
            kill_point!("chunk.parcel.taken");
        }
        let mut rest = message;
        for (index, chunk) in chunks.iter().enumerate() {
            let span = self.span(*chunk)?;
            let in_front = if index == 0 { in_front } else { &[] };
            span.copy_in(PARCEL_HEADER, in_front)?;
            let here = rest.len().min(part as usize - in_front.len());
            let (here, behind) = rest.split_at(here);
            span.copy_in(PARCEL_HEADER + in_front.len() as u64, here)?;
            rest = behind;
            let next = chunks.get(index + 1).map_or(0, |next| next.word());
            // ORDER Relaxed: bytes of the writer; naming the parcel orders them.
            span.u64(NEXT)?.store(next, Ordering::Relaxed);
            if index == 0 {
                // ORDER Relaxed: as before.
                span.u64(LEN)?.store(len, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// The object's words in the header of a parcel that was written and is not named yet.
    pub fn mark(&self, first: Loose, marks: [u64; 3]) -> Result<()> {
        let span = self.span(first)?;
        for (at, value) in MARKS.into_iter().zip(marks) {
            // ORDER Relaxed: bytes of the writer; naming the parcel orders them.
            span.u64(at)?.store(value, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The parcel was published: its chunks are nobody's. `taker` has them open, and calls, or is dead. Readers may be past it already.
    pub fn keep(&self, taker: u16, chunks: &[Loose]) -> Result<()> {
        chunks.iter().try_for_each(|chunk| self.pool.keep_loose(taker, *chunk))
    }

    /// The bytes of a chunk; None if that use of it has ended.
    fn look(&self, chunk: Loose) -> Result<Option<Span<'a>>> {
        let Some(span) = self.pool.loose_span(chunk)? else { return Ok(None) };
        if self.pool.loose_object(chunk)? != self.object && self.pool.loose_span(chunk)?.is_some() {
            return Err(self.corrupt(format!("{chunk:?} is another object's")));
        }
        Ok(Some(span))
    }

    fn span(&self, chunk: Loose) -> Result<Span<'a>> {
        self.look(chunk)?.ok_or_else(|| self.corrupt(format!("{chunk:?} is not that of a parcel")))
    }

    /// The header of the parcel whose first chunk is `word`; None if it is gone.
    pub fn head(&self, word: u64) -> Result<Option<ParcelHead>> {
        let Some(first) = Loose::from_word(word) else { return Ok(None) };
        let Some(span) = self.look(first)? else { return Ok(None) };
        // ORDER Relaxed: whoever named it ordered them; validated below.
        let field = |at| Ok::<u64, Error>(span.u64(at)?.load(Ordering::Relaxed));
        let marks = [field(MARKS[0])?, field(MARKS[1])?, field(MARKS[2])?];
        let head = ParcelHead { first, len: field(LEN)?, marks };
        // ORDER Acquire [chunk-reuse]: what was loaded before; who saw bytes of a later use sees that this one has ended.
        fence(Ordering::Acquire);
        Ok(self.pool.loose_span(first)?.map(|_| head))
    }

    /// The chunks of the parcel that is named with these words, up to the first that is gone.
    pub fn chunks(&self, [word, len]: [u64; 2]) -> Result<Vec<Loose>> {
        let mut chunks = Vec::new();
        let mut next = Loose::from_word(word);
        // One at least, so that nothing stays of a parcel whose length is damaged.
        let count = len.min(VALUE_LEN_MAX).div_ceil(self.part()).max(1);
        while let Some(chunk) = next.filter(|_| (chunks.len() as u64) < count) {
            let Some(span) = self.look(chunk)? else { break };
            // ORDER Relaxed: as in `head`.
            let word = span.u64(NEXT)?.load(Ordering::Relaxed);
            // ORDER Acquire [chunk-reuse]: as in `head`.
            fence(Ordering::Acquire);
            if self.pool.loose_span(chunk)?.is_none() {
                break;
            }
            chunks.push(chunk);
            next = Loose::from_word(word);
        }
        Ok(chunks)
    }

    /// Whether all of a parcel is there that is named with these words.
    pub fn is_whole(&self, words: [u64; 2]) -> Result<bool> {
        Ok(self.chunks(words)?.len() as u64 == words[1].div_ceil(self.part()))
    }

    /// Nobody needs a parcel any more that was named: gives its chunks back. Anybody who knows that may, at any time.
    pub fn give_back(&self, words: [u64; 2]) -> Result<()> {
        for chunk in self.chunks(words)?.iter().rev() {
            kill_point!("chunk.parcel.before_free");
            self.pool.give_back_loose(*chunk)?;
            // DIES AFTER: the parcel ends in front of that chunk; whoever comes next goes on.
            kill_point!("chunk.parcel.freed");
        }
        Ok(())
    }

    /// The first chunk's word and the length in the words that name a parcel, if one of an object whose longest has `most` bytes can be so long.
    fn named(&self, [word, len]: [u64; 2], most: u64) -> Result<(u64, u64)> {
        if len == 0 || len > most {
            return Err(self.corrupt(format!("a parcel of {len} bytes cannot be")));
        }
        Ok((word, len))
    }

    /// Copies the parcel that is named with these words to the start of `into`, which grows when it is too short. Gives its bytes, `most` at
    /// most; None if it is gone. A copy is whole: who gives chunks back makes that seen before anybody writes to them.
    #[cold]
    #[inline(never)]
    pub fn copy(&self, words: [u64; 2], most: u64, into: &mut Vec<u8>) -> Result<Option<usize>> {
        let (word, len) = self.named(words, most)?;
        let (len, part) = (len as usize, self.part() as usize);
        if into.len() < len {
            into.resize(len, 0);
        }
        let mut next = Loose::from_word(word);
        let mut done = 0;
        while done < len {
            let chunk = next.ok_or_else(|| self.corrupt(format!("a parcel ends after {done} bytes")))?;
            let Some(span) = self.look(chunk)? else { return Ok(None) };
            let is_first = done == 0;
            let end = len.min(done + part);
            span.copy_out(PARCEL_HEADER, &mut into[done..end])?;
            // ORDER Relaxed: who named it ordered them; validated below.
            let (whole, link) =
                (span.u64(LEN)?.load(Ordering::Relaxed), span.u64(NEXT)?.load(Ordering::Relaxed));
            // ORDER Acquire [chunk-reuse]: as in `head`.
            fence(Ordering::Acquire);
            if self.pool.loose_span(chunk)?.is_none() {
                return Ok(None);
            }
            if is_first && whole != len as u64 {
                return Err(self.not_whole(len as u64));
            }
            done = end;
            next = Loose::from_word(link);
        }
        Ok(Some(len))
    }

    #[cold]
    fn not_whole(&self, len: u64) -> Error {
        self.corrupt(format!("a parcel has not the {len} bytes of its name"))
    }

    /// The first chunk of the parcel that is named with these words, if its length is that of the name.
    pub fn first(&self, words: [u64; 2], most: u64) -> Result<(Loose, u64)> {
        let (word, len) = self.named(words, most)?;
        let first = Loose::from_word(word).ok_or_else(|| self.corrupt("a parcel has no chunk".to_owned()))?;
        // ORDER Relaxed: who named it ordered it.
        if self.span(first)?.u64(LEN)?.load(Ordering::Relaxed) != len {
            return Err(self.not_whole(len));
        }
        Ok((first, len))
    }

    /// The part of the message in a chunk of a parcel. It is good if the caller still holds what keeps the parcel afterwards.
    pub fn bytes(&self, chunk: Loose) -> Result<Span<'a>> {
        self.span(chunk)?.sub(PARCEL_HEADER, self.part())
    }

    /// The chunk of a parcel behind this one, for there must be one.
    pub fn next(&self, chunk: Loose) -> Result<Loose> {
        // ORDER Relaxed: who named it ordered it.
        let word = self.span(chunk)?.u64(NEXT)?.load(Ordering::Relaxed);
        Loose::from_word(word).ok_or_else(|| self.corrupt(format!("a parcel ends with {chunk:?}")))
    }
}
