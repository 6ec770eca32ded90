//! Records that are too long to share a chunk: each lies in a run of chunks of its own.
//!
//! The first chunk of the run describes it: its length, its one record, the bytes of it that are dead. The later chunks
//! have no owner and no life of their own: they name the first one and its generation, and are free when it goes. So
//! nobody has to find them, and whoever is killed in the middle leaves one state word that says it all:
//!
//! ```text
//! all Open(me)                          taken; who dies here leaves empty open chunks, which the reaper gives back
//! Open(me), RunContinued ...            the record is written, its tail is set; the reaper settles the first chunk
//! RunHead,  RunContinued ...            a slot points to it, or its writer died before: who looks finds it dead
//! Quiesce,  RunContinued or Free ...    unlinked; anyone who finds no pin on the first chunk frees the later ones, then it
//! ```

use super::layout::{Class, Kind, State, at, pair};
use super::record::{self, EXTENDED_BYTES, HEADER_BYTES, Head};
use super::relief::Cleaner;
use super::{Actor, Appended, ChunkId, Extension, Need, Pool};
use crate::error::{Error, ErrorCode, Result};
use crate::shm::align8;
use crate::shm::atomic::Ordering;

impl Pool {
    /// Chunks of the run for a record of `bytes`; `None` for one that shares its chunk with others.
    #[inline]
    pub fn run_chunks(&self, bytes: u64) -> Option<u32> {
        let chunk_bytes = self.geometry().chunk_bytes;
        (bytes > chunk_bytes / 2).then(|| u32::try_from(bytes.div_ceil(chunk_bytes)).unwrap_or(u32::MAX))
    }

    /// Bytes of the longest record that a run may hold: a part of the arena that can be free in a fabric with other objects.
    pub fn run_bytes_max(&self) -> u64 {
        u64::from((self.geometry().chunk_count - 1) / 8 * 5) * self.geometry().chunk_bytes
    }

    /// Takes a run for a record of a cache: open, the caller's alone. `own` is the table that the caller writes to.
    pub fn take_record_run(
        &self,
        me: Actor<'_>,
        class: Class,
        object: u32,
        count: u32,
        need: Need,
        own: Option<&dyn Cleaner>,
    ) -> Result<ChunkId> {
        let first = self.allocate_row(me, class, object, count, need, own)?;
        kill_point!("chunk.run.taken");
        // DIES BEFORE, BETWEEN: empty open chunks; those that are a part already go with the first one.
        for number in first.0 + 1..first.0 + count {
            let seen = self.state(ChunkId(number))?;
            let part = State::new(Kind::RunContinued, class, 0, seen.generation());
            if !self.transition(self.descriptor(ChunkId(number))?, seen, part) {
                return Err(Error::new(
                    ErrorCode::Corrupt,
                    format!("Chunk {number} was taken from its owner."),
                ));
            }
            kill_point!("chunk.run.continued");
        }
        Ok(first)
    }

    /// Writes the one record of a run that the caller has just taken.
    pub fn append_run(
        &self,
        first: ChunkId,
        head: &Head,
        extension: Option<&Extension>,
        key: &[u8],
        value: &[u8],
    ) -> Result<Appended> {
        let header = if extension.is_some() { EXTENDED_BYTES } else { HEADER_BYTES };
        let bytes = record::record_bytes(header, key.len() as u64, value.len() as u64);
        let room = self.run_span(first, self.run_len(first)?)?;
        let span = room.sub(0, bytes)?;
        span.copy_in(header, key)?;
        span.copy_in(header + align8(key.len() as u64), value)?;
        Ok(Appended { run: true, ..self.finish((first, 0), head, extension, bytes, room.len())? })
    }

    /// The record of the run was published: from now on the run is nobody's, and goes when the record is unlinked.
    pub fn seal_run(&self, appended: &Appended) -> Result<()> {
        let seen = self.state(appended.chunk)?;
        let Some(class) = seen.class().filter(|class| seen.is(Kind::Open) && class.has_records()) else {
            return Ok(());
        };
        self.note_sealed(appended.chunk)?;
        // DIES BEFORE: the reaper does it. DIES AFTER: nothing is left to do.
        kill_point!("chunk.run.before_seal");
        let head = State::new(Kind::RunHead, class, 0, seen.generation());
        self.transition(self.descriptor(appended.chunk)?, seen, head);
        kill_point!("chunk.run.sealed");
        // Unlinked already: whoever did it found the chunk open.
        self.free_if_dead(appended.chunk)
    }

    /// Gives back a run whose record was not published. Doing it twice is harmless: the number is that of this use of the chunk.
    pub(super) fn give_up_run(&self, appended: &Appended) -> Result<()> {
        let seen = self.state(appended.chunk)?;
        // ORDER Relaxed: the caller's own, as long as the state says so.
        let sequence = self.descriptor(appended.chunk)?.u64::<{ at::SEQ }>().load(Ordering::Relaxed);
        if seen.is(Kind::Open) && sequence == appended.number {
            self.retire(appended.chunk, seen)?;
        }
        Ok(())
    }

    /// The caller saw that no slot points to the record of a run in `seen`: it goes. No slot ever will, for a run is settled
    /// only after it was published, or by whoever took over from its dead writer.
    pub fn retire_run(&self, first: ChunkId, seen: State) -> Result<()> {
        if seen.is(Kind::RunHead) { self.retire(first, seen) } else { Ok(()) }
    }

    /// Frees the later chunks of a run whose first chunk is quiet in `seen`, and not pinned.
    pub(super) fn free_continued(&self, first: ChunkId, seen: State) -> Result<()> {
        let count = self.run_len(first)?;
        if count == 1 || !seen.class().is_some_and(Class::has_records) {
            return Ok(());
        }
        for number in first.0 + 1..first.0 + count {
            let chunk = ChunkId(number);
            let state = self.state(chunk)?;
            if self.is_part_of(chunk, state, first, seen.generation())? {
                // DIES BETWEEN: the first chunk is still quiet, and whoever finds it goes on.
                kill_point!("chunk.run.before_part");
                self.free_one(chunk, state)?;
            }
        }
        Ok(())
    }

    /// Whether a chunk in `state` is a later chunk of the run that begins with `first` in `generation`.
    pub(super) fn is_part_of(
        &self,
        chunk: ChunkId,
        state: State,
        first: ChunkId,
        generation: u32,
    ) -> Result<bool> {
        // ORDER Relaxed: written before the chunk became a part; if it was reused since, its state is another.
        let parent = self.descriptor(chunk)?.u64::<{ at::PARENT }>().load(Ordering::Relaxed);
        Ok(state.is(Kind::RunContinued) && parent == pair(first.0, generation))
    }
}
