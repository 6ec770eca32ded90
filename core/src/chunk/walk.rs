//! All records of a chunk, in the order of their writing.

use super::layout::Kind;
use super::record::{self, HEADER_BYTES, Head, RECORD_ALIGN};
use super::{Actor, ChunkId, Pool};
use crate::error::Result;
use crate::shm::{Shm, Span};

/// Walks the records of a chunk between two of its positions. Every step is at least 16 bytes, so it ends whatever the
/// content is.
pub struct Walk<'a> {
    shm: &'a Shm,
    span: Span<'a>,
    header: u64,
    at: u64,
    end: u64,
}

impl Pool {
    /// The records from position `from` to the tail. `header` is the length of their header: 24 or 48.
    pub fn walk(&self, chunk: ChunkId, header: u64, from: u64) -> Result<Walk<'_>> {
        let end = self.tail(chunk)?;
        // The one record of a run goes beyond its first chunk.
        let chunks = end.div_ceil(self.geometry().chunk_bytes).max(1) as u32;
        Ok(Walk { shm: self.shm(), span: self.run_span(chunk, chunks)?, header, at: from, end })
    }

    /// As [`Pool::walk`], for a chunk that the caller has taken; `None` if somebody took it over. Its records are those that it
    /// had when it was taken: what another thread appends that took it over and lets it be filled on, and has not published
    /// yet, would look dead.
    pub fn walk_taken(
        &self,
        me: Actor<'_>,
        chunk: ChunkId,
        header: u64,
        from: u64,
    ) -> Result<Option<Walk<'_>>> {
        let walk = self.walk(chunk, header, from);
        // Behind the load of the tail. Only the caller makes this state, so the chunk was in it all the while.
        let state = self.state(chunk)?;
        if state.is(Kind::Evicting) && state.owner() == me.index { walk.map(Some) } else { Ok(None) }
    }
}

/// One record of a walk.
#[derive(Clone, Copy, Debug)]
pub struct Walked {
    /// Where it stands in the segment.
    pub offset: u64,
    /// Where it stands in its chunk.
    pub position: u64,
    pub head: Head,
    /// Bytes of the whole record.
    pub bytes: u64,
}

impl Walk<'_> {
    /// The position behind the last record given.
    pub fn position(&self) -> u64 {
        self.at
    }

    /// The next record; `None` at the tail; `Corrupt` for one that leaves the chunk.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Walked>> {
        if self.at >= self.end {
            return Ok(None);
        }
        let offset = self.span.offset() + self.at;
        let head = Head::read(self.span.block::<{ HEADER_BYTES as usize }>(self.at)?);
        let bytes = head.bytes(self.header);
        if bytes > self.end - self.at || head.id == 0 || !self.at.is_multiple_of(RECORD_ALIGN) {
            return Err(record::damaged(offset, &head));
        }
        let position = self.at;
        self.at += bytes;
        self.shm.prefetch(offset + bytes);
        Ok(Some(Walked { offset, position, head, bytes }))
    }
}
