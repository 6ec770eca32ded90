//! The owner's side of a chunk of records: finding room and appending.
//!
//! A record is written above the tail, where nobody looks; then the tail moves over it; then its publisher swings a slot.
//! A thread that dies in between leaves bytes above the tail, or a record that nothing points to.

use super::layout::{Class, Kind, State, at, unpair};
use super::record::{self, HEADER_BYTES, Head, RECORD_ALIGN};
use super::{Actor, ChunkId, Need, Pool};
use crate::error::{Error, ErrorCode, Result};
use crate::shm::align8;
use crate::shm::atomic::Ordering;

/// Marks the word of an entry that names the chunk which its thread cleans, not one that it fills.
pub(super) const CLEANING: u32 = 1 << 31;
/// Marks the word of an entry that names a chunk of class `Small`, or of nodes: of a cache that evicts, and of a store with an
/// ordered index, a thread fills two.
const SMALL: u32 = 1 << 30;

/// Under what a thread's entry names its open chunk of an object.
#[inline]
const fn key_of(class: Class, object: u32) -> u32 {
    if matches!(class, Class::Small | Class::Node) { object | SMALL } else { object }
}

/// Where a key is looked for first in an entry: young and old ones of an object are not neighbours.
#[inline]
const fn first_place(key: u32) -> usize {
    (key as usize + (key & SMALL != 0) as usize * 4) & 7
}

/// A record that was appended and is not published yet. It must be published or given up before the thread does anything
/// that may seal its chunk.
#[derive(Clone, Copy, Debug)]
pub struct Appended {
    /// Where the record stands in the segment.
    pub offset: u64,
    /// Its id: the public version.
    pub id: u64,
    /// Bytes of the record.
    pub bytes: u64,
    /// The chunk that holds it.
    pub chunk: ChunkId,
    /// Number of this use of the chunk.
    pub number: u64,
    /// Whether it has a run of chunks of its own, which [`Pool::seal_run`] puts into use when it is published.
    pub run: bool,
}

/// What stands in the extended header of a store record when it is appended.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extension {
    /// Number of this state of its key.
    pub order: u64,
    /// Where the state stands that counts until this one does; 0 for none, and where none is needed.
    pub prev: u64,
    /// When it began to count, or who decides whether it does.
    pub stamp: u64,
}

impl Pool {
    /// The chunk under `key` (an object, or an object with [`CLEANING`]) in the caller's entry.
    #[inline]
    pub(super) fn entry_chunk(&self, me: Actor<'_>, key: u32) -> Option<ChunkId> {
        for step in 0..8 {
            // ORDER Relaxed: private to the owner of the entry.
            let word = me.open.u64_at::<0>((first_place(key) + step) & 7).load(Ordering::Relaxed);
            if word as u32 == key && word >> 32 != 0 {
                return Some(ChunkId((word >> 32) as u32));
            }
        }
        None
    }

    /// Names a chunk in the caller's entry; puts the one away that has to give way.
    pub(super) fn set_entry_chunk(&self, me: Actor<'_>, key: u32, chunk: Option<ChunkId>) -> Result<()> {
        // ORDER Relaxed: the words are private to the owner of the entry.
        let word = |step: usize| me.open.u64_at::<0>((first_place(key) + step) & 7);
        let place = (0..8)
            .map(word)
            .find(|word| {
                word.load(Ordering::Relaxed) as u32 == key && word.load(Ordering::Relaxed) >> 32 != 0
            })
            .or_else(|| (0..8).map(word).find(|word| word.load(Ordering::Relaxed) == 0))
            .unwrap_or_else(|| word(0));
        let old = place.load(Ordering::Relaxed);
        place.store(chunk.map_or(0, |chunk| key as u64 | (chunk.0 as u64) << 32), Ordering::Relaxed);
        if old >> 32 != 0 && old as u32 != key {
            let old_chunk = ChunkId((old >> 32) as u32);
            if old as u32 & CLEANING != 0 {
                self.put_back(me, old_chunk)?
            } else {
                self.settle(me, old_chunk)?
            }
        }
        Ok(())
    }

    /// The caller's open chunk of `object` and its tail, if it has room for `bytes`.
    #[inline]
    pub fn room(
        &self,
        me: Actor<'_>,
        class: Class,
        object: u32,
        bytes: u64,
    ) -> Result<Option<(ChunkId, u64)>> {
        let Some(chunk) = self.entry_chunk(me, key_of(class, object)) else { return Ok(None) };
        let Ok(descriptor) = self.descriptor(chunk) else { return Ok(None) };
        // ORDER Relaxed: own words, except that the state says whether they are still so.
        let state = State(descriptor.u64::<{ at::STATE }>().load(Ordering::Relaxed));
        let mine = state.0 as u32 == State::new(Kind::Open, class, me.index, 0).0 as u32
            && descriptor.u32::<{ at::OBJECT }>().load(Ordering::Relaxed) == object;
        let tail = descriptor.u64::<{ at::TAIL }>().load(Ordering::Relaxed);
        let fits = tail.is_multiple_of(RECORD_ALIGN)
            && tail.checked_add(bytes).is_some_and(|end| end <= self.geometry().chunk_bytes);
        Ok((mine && fits).then_some((chunk, tail)))
    }

    /// Seals the caller's open chunk of `object`, if it has one, and opens another. `Full` when too few are free: nothing is
    /// cleaned for it.
    pub fn next_chunk(&self, me: Actor<'_>, class: Class, object: u32, need: Need) -> Result<()> {
        let chunk = self.take(me, class, object, 1, need)?.ok_or_else(|| self.full(1, need))?;
        self.put_entry_chunk(me, class, object, chunk)
    }

    /// Makes an open chunk the one that the caller appends to; seals the one before.
    pub(super) fn put_entry_chunk(
        &self,
        me: Actor<'_>,
        class: Class,
        object: u32,
        chunk: ChunkId,
    ) -> Result<()> {
        let key = key_of(class, object);
        if let Some(old) = self.entry_chunk(me, key) {
            self.settle(me, old)?;
        }
        self.set_entry_chunk(me, key, Some(chunk))
    }

    /// Seals the caller's open chunks of all objects but `own`. Whether there were any.
    pub(super) fn put_away_others(&self, me: Actor<'_>, own: Option<u32>) -> Result<bool> {
        let mut any = false;
        for place in 0..8 {
            // ORDER Relaxed: private to the owner of the entry.
            let (key, chunk) = unpair(me.open.u64_at::<0>(place).load(Ordering::Relaxed));
            if chunk != 0 && key & CLEANING == 0 && Some(key & !SMALL) != own {
                self.settle(me, ChunkId(chunk))?;
                self.set_entry_chunk(me, key, None)?;
                any = true;
            }
        }
        Ok(any)
    }

    /// The number of the caller's open chunk of `object`, or else the least that its next one can get.
    pub fn first_number(&self, me: Actor<'_>, class: Class, object: u32) -> Result<u64> {
        match self.entry_chunk(me, key_of(class, object)) {
            // ORDER Relaxed: an own word.
            Some(chunk) => Ok(self.descriptor(chunk)?.u64::<{ at::SEQ }>().load(Ordering::Relaxed)),
            None => Ok(self.next_id() >> 20),
        }
    }

    /// The least id that a record can get whose chunk is taken from now on.
    pub fn next_id(&self) -> u64 {
        // ORDER Relaxed: a number that only grows.
        (self.head().u64::<{ at::POOL_SEQUENCE }>().load(Ordering::Relaxed) + 1) << 20
    }

    /// Seals the caller's open chunks of `object`, if it has any: others may then clean them.
    pub fn put_away(&self, me: Actor<'_>, object: u32) -> Result<()> {
        self.put_away_class(me, Class::Small, object)?;
        self.put_away_class(me, Class::Main, object)?;
        Ok(())
    }

    /// Seals the caller's open chunk of `object` and this class. Whether there was one.
    pub fn put_away_class(&self, me: Actor<'_>, class: Class, object: u32) -> Result<bool> {
        let key = key_of(class, object);
        let Some(old) = self.entry_chunk(me, key) else { return Ok(false) };
        self.settle(me, old)?;
        self.set_entry_chunk(me, key, None)?;
        Ok(true)
    }

    /// Appends a record at the place that [`Pool::room`] gave for its bytes. With `head.id` 0 it gets a new id.
    #[inline]
    pub fn append(
        &self,
        place: (ChunkId, u64),
        head: &Head,
        extension: Option<&Extension>,
        key: &[u8],
        value: &[u8],
    ) -> Result<Appended> {
        let (chunk, tail) = place;
        let header = if extension.is_some() { record::EXTENDED_BYTES } else { HEADER_BYTES };
        let bytes = record::record_bytes(header, key.len() as u64, value.len() as u64);
        let span = self.span(chunk)?.sub(tail, bytes)?;
        span.copy_in(header, key)?;
        span.copy_in(header + align8(key.len() as u64), value)?;
        self.finish(place, head, extension, bytes, self.geometry().chunk_bytes)
    }

    /// Appends a copy of the record at `from`, whose header was read into `head` and whose bytes are known to stay: the
    /// cleaner's way to move it. Keeps the id.
    pub fn append_copy(
        &self,
        place: (ChunkId, u64),
        from: u64,
        header: u64,
        head: &Head,
    ) -> Result<Appended> {
        let bytes = head.bytes(header);
        let (source, target) = (self.shm().span(from, bytes)?, self.span(place.0)?.sub(place.1, bytes)?);
        let mut buffer = [0u8; 512];
        let mut at = HEADER_BYTES;
        while at < bytes {
            let piece = &mut buffer[..(bytes - at).min(512) as usize];
            source.copy_out(at, piece)?;
            target.copy_in(at, piece)?;
            at += piece.len() as u64;
        }
        let moved = if header == record::EXTENDED_BYTES { record::RELOCATED } else { 0 };
        let head = Head { flags: head.flags | moved, ..*head };
        self.finish(place, &head, None, bytes, self.geometry().chunk_bytes)
    }

    /// Appends a record of a cache to the caller's open chunk of `object`, if everything is as usual: the chunk stands in the
    /// first place of its object and has room for `bytes`. `None`: nothing was done.
    #[inline(always)]
    #[allow(clippy::too_many_arguments)]
    pub fn append_quick(
        &self,
        me: Actor<'_>,
        class: Class,
        object: u32,
        head: &Head,
        key: &[u8],
        value: &[u8],
        bytes: u64,
    ) -> Option<Appended> {
        // ORDER Relaxed: private to the owner of the entry, and own words of the chunk.
        let named = key_of(class, object);
        let (found, chunk) = unpair(me.open.u64_at::<0>(first_place(named)).load(Ordering::Relaxed));
        let geometry = self.geometry();
        if found != named || chunk == 0 || chunk >= geometry.chunk_count {
            return None;
        }
        let (chunk, space) = (ChunkId(chunk), self.shm().window());
        let descriptor: super::pool::Descriptor<'_> =
            space.view(geometry.table_offset + u64::from(chunk.0) * super::layout::DESCRIPTOR_BYTES)?;
        let state = State(descriptor.u64::<{ at::STATE }>().load(Ordering::Relaxed));
        let tail = descriptor.u64::<{ at::TAIL }>().load(Ordering::Relaxed);
        if state.0 as u32 != State::new(Kind::Open, class, me.index, 0).0 as u32
            || descriptor.u32::<{ at::OBJECT }>().load(Ordering::Relaxed) != object
            || !tail.is_multiple_of(RECORD_ALIGN)
            || tail > geometry.chunk_bytes
            || geometry.chunk_bytes - tail < bytes
            || bytes > geometry.chunk_bytes / 2
        {
            return None;
        }
        let offset = geometry.chunk_offset(chunk) + tail;
        let record = space.range(offset, bytes)?;
        let header: crate::shm::Block<'_, { HEADER_BYTES as usize }> = record.block(0).ok()?;
        let id = (descriptor.u64::<{ at::SEQ }>().load(Ordering::Relaxed) << 20) | (tail / RECORD_ALIGN);
        record.copy_in(HEADER_BYTES, key).ok()?;
        record.copy_in(HEADER_BYTES + align8(key.len() as u64), value).ok()?;
        // The lines that are written next: a locked instruction waits until all that was written is in the cache.
        space.prefetch_write(offset + bytes + 256);
        space.prefetch_write(offset + bytes + 320);
        space.prefetch_write(offset + bytes + 384);
        header.u64::<{ record::at::LENGTHS }>().store(head.lengths_word(), Ordering::Relaxed);
        header.u64::<{ record::at::EXPIRY }>().store(head.expiry_word(), Ordering::Relaxed);
        note_end(descriptor, head.expiry);
        // As in `finish`.
        kill_point!("chunk.append.written");
        // ORDER Release [record-id]: the fields come before the id.
        header.u64::<{ record::at::ID }>().store(id, Ordering::Release);
        // ORDER Release [chunk-tail]: the record comes before the tail.
        descriptor.u64::<{ at::TAIL }>().store(tail + bytes, Ordering::Release);
        kill_point!("chunk.append.below_tail");
        Some(Appended { offset, id, bytes, chunk, number: id >> 20, run: false })
    }

    /// Completes a record whose key and value were written in a place of `room` bytes from the start of its chunk.
    #[inline]
    pub(super) fn finish(
        &self,
        (chunk, tail): (ChunkId, u64),
        head: &Head,
        extension: Option<&Extension>,
        bytes: u64,
        room: u64,
    ) -> Result<Appended> {
        let descriptor = self.descriptor(chunk)?;
        let offset = self.geometry().chunk_offset(chunk) + tail;
        if tail + bytes > room {
            return Err(no_room(bytes, room));
        }
        // ORDER Relaxed: the owner's bytes; the id, the tail and then the slot order them.
        if let Some(extension) = extension {
            let block = self.shm().block::<{ record::EXTENDED_BYTES as usize }>(offset)?;
            block.u64::<{ record::at::ORDER }>().store(extension.order, Ordering::Relaxed);
            block.u64::<{ record::at::PREV }>().store(extension.prev, Ordering::Relaxed);
            block.u64::<{ record::at::STAMP }>().store(extension.stamp, Ordering::Relaxed);
        }
        let block = self.shm().block::<{ HEADER_BYTES as usize }>(offset)?;
        block.u64::<{ record::at::LENGTHS }>().store(head.lengths_word(), Ordering::Relaxed);
        block.u64::<{ record::at::EXPIRY }>().store(head.expiry_word(), Ordering::Relaxed);
        let number = descriptor.u64::<{ at::SEQ }>().load(Ordering::Relaxed);
        let id = if head.id != 0 { head.id } else { number << 20 | (tail / RECORD_ALIGN) };
        note_end(descriptor, head.expiry);
        // DIES BEFORE: bytes above the tail, which nobody reads.
        kill_point!("chunk.append.written");
        // ORDER Release [record-id]: the fields come before the id; pairs with `Head::read`.
        block.u64::<{ record::at::ID }>().store(id, Ordering::Release);
        // ORDER Release [chunk-tail]: the record comes before the tail; pairs with the load in `Pool::tail`.
        descriptor.u64::<{ at::TAIL }>().store(tail + bytes, Ordering::Release);
        // DIES AFTER: a whole record that nothing points to, thus dead.
        kill_point!("chunk.append.below_tail");
        Ok(Appended { offset, id, bytes, chunk, number, run: false })
    }

    /// Bytes appended to a chunk so far, all of them whole records; never more than the chunk, or the run that begins with
    /// it, holds.
    #[inline]
    pub fn tail(&self, chunk: ChunkId) -> Result<u64> {
        // ORDER Acquire [chunk-tail]: the records below are whole.
        let tail = self.descriptor(chunk)?.u64::<{ at::TAIL }>().load(Ordering::Acquire);
        let in_run =
            || -> Result<bool> { Ok(tail <= u64::from(self.run_len(chunk)?) * self.geometry().chunk_bytes) };
        if (tail > self.geometry().chunk_bytes && !in_run()?) || !tail.is_multiple_of(RECORD_ALIGN) {
            return Err(long_tail(chunk, tail));
        }
        Ok(tail)
    }

    /// The record was not published and never will be: its bytes are dead.
    pub fn give_up(&self, record: &Appended) -> Result<()> {
        if record.run {
            return self.give_up_run(record);
        }
        let generation = self.dead_generation(record.chunk)?;
        self.add_dead(record.chunk, generation, record.bytes)
    }
}

/// Notes when the first record of the caller's chunk ends.
#[inline]
fn note_end(descriptor: super::pool::Descriptor<'_>, expiry: u64) {
    if expiry != 0 {
        let word = descriptor.u64::<{ at::FIRST_END }>();
        // ORDER Relaxed: the owner's, until the chunk is sealed.
        let first = word.load(Ordering::Relaxed);
        if first == 0 || expiry < first {
            word.store(expiry, Ordering::Relaxed);
        }
    }
}

#[cold]
fn no_room(bytes: u64, room: u64) -> Error {
    Error::new(
        ErrorCode::Internal,
        format!("A record of {bytes} bytes was to be appended where only {room} are in all."),
    )
}

#[cold]
fn long_tail(chunk: ChunkId, tail: u64) -> Error {
    Error::new(ErrorCode::Corrupt, format!("Chunk {} claims {tail} bytes of records.", chunk.0))
}
