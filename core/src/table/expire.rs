//! Taking out what has expired, a little with each new chunk: nobody runs in the background for it, and nobody is kept long.
//!
//! Readers take an expired entry for none at once; here its record is unlinked, so that its room is used again. The
//! descriptor of a chunk says when its first record ends, so chunks with nothing to take out cost a look at one word.
//! Each process goes round all chunks by itself. Doing the same twice is harmless: a record is unlinked once.

use std::sync::Mutex;

use super::Table;
use crate::chunk::layout::at;
use crate::chunk::{Actor, ChunkId};
use crate::error::Result;
use crate::shm::atomic::{AtomicU64, Ordering};

/// Chunks that one call looks at.
const CHUNKS: u32 = 64;
/// Records that one call looks at.
const RECORDS: usize = 96;

/// Writes that go on after something was found, and the chunks and records that each looks at.
const WRITES: u64 = 256;
const STEP: u32 = 4;

/// How far this process came: private.
pub(super) struct Round {
    place: Mutex<Place>,
    /// Writes that go on with it.
    due: AtomicU64,
}

#[derive(Clone, Copy, Default)]
struct Place {
    /// The chunk that is looked at, or was last.
    chunk: u32,
    /// The next record in it, and when the first of those before it ends that stay. Position 0: not begun.
    position: u64,
    first_end: u64,
    /// What the descriptor said when it was begun.
    seen: u64,
}

impl Place {
    /// A record stays that ends then.
    fn note_end(&mut self, end: u64) {
        if self.first_end == 0 || end < self.first_end {
            self.first_end = end;
        }
    }
}

impl Round {
    pub fn new() -> Round {
        Round { place: Mutex::default(), due: AtomicU64::new(0) }
    }

    /// Whether writes are to go on with it: something was found when the last chunk was opened.
    #[inline]
    pub fn is_due(&self) -> bool {
        // ORDER Relaxed: private to the process, a hint.
        self.due.load(Ordering::Relaxed) != 0
    }
}

impl Table {
    fn end_word(&self, chunk: ChunkId) -> Result<&AtomicU64> {
        Ok(self.pool.descriptor(chunk)?.u64::<{ at::FIRST_END }>())
    }

    /// Goes on with taking out what has expired, when a chunk is opened. If there is any, the next writes go on.
    pub(super) fn expire_some(&self, me: Actor<'_>) -> Result<()> {
        // Otherwise another thread of this process is at it.
        if let Ok(mut place) = self.round.place.try_lock() {
            let found = self.expire_on(me, &mut place, CHUNKS, RECORDS)?;
            // ORDER Relaxed: private to the process, a hint.
            self.round.due.store(if found { WRITES } else { 0 }, Ordering::Relaxed);
        }
        Ok(())
    }

    /// One write's share.
    #[cold]
    #[inline(never)]
    pub(super) fn expire_step(&self, me: Actor<'_>) -> Result<()> {
        // ORDER Relaxed: as above.
        let due = self.round.due.load(Ordering::Relaxed);
        self.round.due.store(due.saturating_sub(1), Ordering::Relaxed);
        if let Ok(mut place) = self.round.place.try_lock() {
            self.expire_on(me, &mut place, STEP, STEP as usize)?;
        }
        Ok(())
    }

    /// Takes out expired entries until `enough` says so or none is left. Chunks without any cost one look each. Whether any was
    /// taken out.
    pub(super) fn expire_until(&self, me: Actor<'_>, enough: impl Fn() -> Result<bool>) -> Result<bool> {
        let mut any = false;
        let mut place = Place::default();
        for _ in self.pool.used_chunks() {
            any |= self.expire_on(me, &mut place, 1, usize::MAX)?;
            if any && enough()? {
                break;
            }
        }
        Ok(any)
    }

    /// Looks at up to `chunks` chunks and `records` records, from `place` on. Whether any was taken out.
    fn expire_on(
        &self,
        me: Actor<'_>,
        place: &mut Place,
        mut chunks: u32,
        mut records: usize,
    ) -> Result<bool> {
        if self.class.is_journaled() {
            return Ok(false);
        }
        let now = self.now_ms();
        let used = self.pool.used_chunks().count() as u32;
        let mut any = false;
        while chunks > 0 && records > 0 && used > 0 {
            chunks -= 1;
            if place.position == 0 {
                *place = Place { chunk: place.chunk % used + 1, ..Place::default() };
            }
            let chunk = ChunkId(place.chunk);
            if place.chunk > used || !self.is_sealed_record_chunk(chunk)? {
                place.position = 0;
                continue;
            }
            if place.position == 0 {
                // ORDER Relaxed: written by the owner before the chunk was sealed; wrong values cost a look.
                place.seen = self.end_word(chunk)?.load(Ordering::Relaxed);
                if place.seen == 0 || place.seen > now {
                    continue;
                }
            }
            any |= self.expire_in(me, chunk, place, now, &mut records)?;
        }
        Ok(any)
    }

    /// Goes on in a chunk; notes when its first record ends when it is through.
    fn expire_in(
        &self,
        me: Actor<'_>,
        chunk: ChunkId,
        place: &mut Place,
        now: u64,
        records: &mut usize,
    ) -> Result<bool> {
        let (mut any, mut scratch) = (false, Vec::new());
        let Ok(mut walk) = self.pool.walk(chunk, self.header, place.position) else {
            place.position = 0;
            return Ok(false);
        };
        // A chunk that is reused meanwhile may look damaged: what is unlinked is proved by its slot, the rest is skipped.
        while let Ok(Some(walked)) = walk.next() {
            let end = walked.head.expiry;
            if end != 0 && end <= now {
                let Ok(hash) = self.hash_of_record(walked.offset, &walked.head, &mut scratch) else { break };
                if self.drop_hidden(me, &walked, hash)? {
                    any = true;
                } else {
                    place.note_end(end);
                }
            } else if end != 0 {
                place.note_end(end);
            }
            *records = records.saturating_sub(1);
            if *records == 0 {
                place.position = walk.position();
                return Ok(any);
            }
        }
        place.position = 0;
        // ORDER Relaxed: a hint. If the chunk was reused meanwhile its owner starts from 0, so this fails, or the value that was
        // seen is there again and an entry is taken out later than it could have been.
        let word = self.end_word(chunk)?;
        let _ = word.compare_exchange(place.seen, place.first_end, Ordering::Relaxed, Ordering::Relaxed);
        Ok(any)
    }
}
