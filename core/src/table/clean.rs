//! Making room: live records are moved out of chunks that hold mostly dead ones.
//!
//! A record is live if a slot points to it; the cleaner copies it to its own chunk and swings the slot. Who loses that
//! compare-and-swap has lost nothing: the record was just replaced, so it is dead. The work is done in small steps by
//! those who write, when few chunks are free; only when none is left does a writer clean a whole chunk at once.

use super::layout::{IN_STASH, SLOT_COUNT, bucket, bucket_of, control};
use super::lookup::frozen;
use super::slot::{Slot, SlotKind, tag_of};
use super::{RecordClass, Table, too_many_tries};
use crate::chunk::record::{self, Head};
use crate::chunk::{Actor, ChunkId, Class, Cleaner, Effort, Need, Walked};
use crate::error::{Error, ErrorCode, Result};
use crate::shm::Span;
use crate::shm::atomic::{AtomicU64, Ordering};

/// Records that are looked at together: their buckets are fetched while the next are read.
const BATCH: usize = 8;
/// Records that one write looks at when few chunks are free.
const STEP: usize = 16;
/// Writes that do not look for a chunk to clean after a search found none.
const REST: u64 = 512;

/// What became of a record of a chunk that is being cleaned.
enum Moved {
    Dead,
    Elsewhere,
    /// There is no room to move it to.
    NoRoom,
}

impl Cleaner for Table {
    fn object(&self) -> u32 {
        self.object
    }

    fn clean(&self, me: Actor<'_>, chunk: ChunkId, count: usize) -> Result<bool> {
        self.clean_records(me, chunk, count)
    }

    fn recount(&self, me: Actor<'_>) -> Result<bool> {
        let due = self.counts_are_due(control::RECOUNTED);
        if due {
            self.take_counts_anew(me)?;
        }
        Ok(due)
    }
}

impl Table {
    /// Pays for the room that this write will need, when little is left.
    #[inline]
    pub(super) fn relieve(&self, me: Actor<'_>) -> Result<()> {
        if self.pool.free_count() > self.pool.pressure_mark() { Ok(()) } else { self.relieve_now(me) }
    }

    #[cold]
    #[inline(never)]
    fn relieve_now(&self, me: Actor<'_>) -> Result<()> {
        if self.capacity.resting() {
            return Ok(());
        }
        if !self.pool.relieve_a_little(me, self, STEP)? {
            self.capacity.rest(REST);
        }
        Ok(())
    }

    /// Cleans up to `count` records of a chunk that the caller has taken. False when there was no room to move one.
    pub(super) fn clean_records(&self, me: Actor<'_>, chunk: ChunkId, count: usize) -> Result<bool> {
        let mut scratch = Vec::new();
        let mut done = 0;
        while done < count {
            let mut walk = self.pool.walk(chunk, self.header, self.pool.clean_position(me, chunk)?)?;
            let mut batch: [Option<(Walked, u64)>; BATCH] = [const { None }; BATCH];
            let mut len = 0;
            while len < BATCH {
                let Some(walked) = walk.next()? else { break };
                let hash = self.hash_of_record(walked.offset, &walked.head, &mut scratch)?;
                let (_, entry) = self.entry(hash)?;
                self.index_span(entry)?.prefetch(self.shape.home(hash) * super::layout::BUCKET_BYTES);
                batch[len] = Some((walked, hash));
                len += 1;
            }
            for (walked, hash) in batch.into_iter().flatten() {
                if let Moved::NoRoom = self.move_record(me, chunk, &walked, hash)? {
                    return Ok(false);
                }
                self.pool.set_clean_position(me, chunk, walked.position + walked.bytes)?;
            }
            if len < BATCH {
                self.pool.cleaned(me, chunk, self.object)?;
                return Ok(true);
            }
            done += len;
        }
        Ok(true)
    }

    /// The slot that points to the record at `offset`, in the index chunk at `span`. The second answer says whether a bucket
    /// was frozen, so that the slot may be in a child.
    fn slot_of<'a>(
        &self,
        span: Span<'a>,
        hash: u64,
        offset: u64,
    ) -> Result<(Option<(&'a AtomicU64, Slot)>, bool)> {
        let candidates = self.shape.candidates(hash);
        let home = bucket_of(span, candidates[0])?;
        let mut split = false;
        for (place, number) in candidates.into_iter().enumerate() {
            // ORDER Relaxed: the marks were stored before the record was published, and that before its chunk was sealed.
            let marked = match place {
                0 => true,
                1 => home.u8::<{ bucket::OVERFLOW }>().load(Ordering::Relaxed) != 0,
                _ => home.u8::<{ bucket::FLAGS }>().load(Ordering::Relaxed) & IN_STASH != 0,
            };
            if !marked {
                continue;
            }
            let bucket = bucket_of(span, number)?;
            for slot_number in 0..SLOT_COUNT {
                let slot = bucket.u64_at::<0>(slot_number);
                // ORDER Acquire [slot]: as for readers.
                let word = Slot(slot.load(Ordering::Acquire));
                if word.offset() == offset && word.kind() == SlotKind::Record {
                    return Ok((Some((slot, word)), false));
                }
            }
            split |= frozen(bucket);
        }
        Ok((None, split))
    }

    /// Moves one record out of the chunk if it is live.
    fn move_record(&self, me: Actor<'_>, chunk: ChunkId, walked: &Walked, hash: u64) -> Result<Moved> {
        for _ in 0..1000 {
            let (index, entry) = self.entry(hash)?;
            let span = self.index_span(entry)?;
            let (found, split) = self.slot_of(span, hash, walked.offset)?;
            // Held until the slot was swung: the child must not be retired.
            let mut entered = None;
            let found = match (found, split) {
                (Some(found), _) => Some(found),
                (None, true) => {
                    entered = self.enter_split(me, hash)?;
                    let Some(split) = &entered else { continue };
                    self.slot_of(self.pool.span(split.child)?, hash, walked.offset)?.0
                }
                (None, false) => None,
            };
            let Some((slot, word)) = found else {
                // ORDER Acquire [directory]: nothing points to it, unless the index chunk went out of use meanwhile.
                if entered.is_none() && self.directory_word(index)?.load(Ordering::Acquire) != entry.0 {
                    continue;
                }
                return Ok(Moved::Dead);
            };
            let moved = self.move_live(me, chunk, walked, slot, word, hash)?;
            if let Some(moved) = moved {
                return Ok(moved);
            }
        }
        Err(too_many_tries("Moving a record"))
    }

    /// Moves or drops a record that a slot points to. `None` when somebody changed the slot.
    fn move_live(
        &self,
        me: Actor<'_>,
        chunk: ChunkId,
        walked: &Walked,
        slot: &AtomicU64,
        word: Slot,
        hash: u64,
    ) -> Result<Option<Moved>> {
        let head = &walked.head;
        if self.may_drop(walked.offset, head)? {
            let dead = self.dead_token(walked.offset)?;
            kill_point!("table.clean.before_drop");
            // ORDER AcqRel [slot]: as every unlinking.
            let next = word.unlink();
            if slot.compare_exchange(word.0, next.0, Ordering::AcqRel, Ordering::Relaxed).is_err() {
                return Ok(None);
            }
            self.pool.add_dead(dead.0, dead.1, walked.bytes)?;
            self.count(me, -(walked.bytes as i64), -i64::from(!head.is_tombstone()));
            return Ok(Some(Moved::Dead));
        }
        let place = match self.pool.room(me, self.class.class(), self.object, walked.bytes)? {
            Some(place) => place,
            None => {
                match self.pool.next_chunk(me, self.class.class(), self.object, Need::Clean) {
                    Ok(()) => {}
                    // Somebody left a chunk that is not full.
                    Err(error)
                        if error.code() == ErrorCode::Full
                            && self.class == RecordClass::Cache
                            && self.pool.adopt(me, self.object, walked.bytes)? => {}
                    Err(error) if error.code() == ErrorCode::Full => return Ok(Some(Moved::NoRoom)),
                    Err(error) => return Err(error),
                }
                self.pool.room(me, self.class.class(), self.object, walked.bytes)?.ok_or_else(no_place)?
            }
        };
        let dead = self.dead_token(walked.offset)?;
        let appended = self.pool.append_copy(place, walked.offset, self.header, head)?;
        kill_point!("table.clean.before_move");
        // DIES BEFORE: a copy that nothing points to. DIES AFTER: the record is moved.
        // ORDER AcqRel [slot]: as every publication.
        let next = word.publish(tag_of(hash), appended.offset);
        if slot.compare_exchange(word.0, next.0, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            self.pool.give_up(&appended)?;
            return Ok(None);
        }
        kill_point!("table.clean.moved");
        debug_assert_eq!(dead.0, chunk);
        self.pool.add_dead(dead.0, dead.1, walked.bytes)?;
        Ok(Some(Moved::Elsewhere))
    }

    /// Whether the cleaner may unlink a live record instead of moving it: an expired entry of a cache, a tombstone that no
    /// file needs any more.
    fn may_drop(&self, offset: u64, head: &Head) -> Result<bool> {
        match self.class {
            RecordClass::Cache => Ok(head.expiry != 0 && head.expiry <= self.now_ms()),
            // The journal has the whole chunk, or it would not be cleaned; an insert that finds the key absent takes an order
            // above the floor.
            // ORDER Acquire [order-floor]: raised before.
            RecordClass::Store if head.is_tombstone() => {
                Ok(self.order_at(offset)? <= self.floor().load(Ordering::Acquire))
            }
            RecordClass::Store => Ok(false),
        }
    }

    /// Opens a chunk with room for a record, cleaning as long as there is none.
    #[cold]
    #[inline(never)]
    pub(super) fn make_room(&self, me: Actor<'_>, need: Need, bytes: u64) -> Result<(ChunkId, u64)> {
        let class = self.class.class();
        let mut effort = Effort::new(&self.pool);
        loop {
            let error = match self.pool.next_chunk(me, class, self.object, need) {
                Ok(()) => return self.pool.room(me, class, self.object, bytes)?.ok_or_else(no_place),
                Err(error) => error,
            };
            if error.code() != ErrorCode::Full {
                return Err(error);
            }
            let goes_on = self.pool.relieve(me, Some(self), bytes, &mut effort)?;
            // What was gained by cleaning may be in the chunk that is open; or in one that somebody left.
            if let Some(place) = self.pool.room(me, class, self.object, bytes)? {
                return Ok(place);
            }
            if !goes_on {
                let adopted = class == Class::Main && self.pool.adopt(me, self.object, bytes)?;
                let place = if adopted { self.pool.room(me, class, self.object, bytes)? } else { None };
                return place.ok_or(error);
            }
        }
    }

    /// Unlinks expired entries of a cache in all sealed chunks, when the last time is a while ago. Their room is then found
    /// by cleaning. Answers whether it looked.
    pub(super) fn sweep_expired(&self, me: Actor<'_>) -> Result<bool> {
        const PAUSE_MS: u64 = 1000;
        if self.class != RecordClass::Cache {
            return Ok(false);
        }
        let word = self.control().u64::<{ control::SWEPT_MS }>();
        let now = self.now_ms();
        // ORDER Relaxed: only keeps others from doing the same at once.
        let last = word.load(Ordering::Relaxed);
        if now.saturating_sub(last) < PAUSE_MS
            || word.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_err()
        {
            return Ok(false);
        }
        let mut scratch = Vec::new();
        for chunk in self.pool.used_chunks() {
            if !self.is_sealed_record_chunk(chunk)? {
                continue;
            }
            let Ok(mut walk) = self.pool.walk(chunk, self.header, 0) else { continue };
            // A chunk that is reused meanwhile may look damaged: what is unlinked is proved by its slot, the rest is skipped.
            while let Ok(Some(walked)) = walk.next() {
                if walked.head.expiry != 0 && walked.head.expiry <= now {
                    let Ok(hash) = self.hash_of_record(walked.offset, &walked.head, &mut scratch) else {
                        break;
                    };
                    self.drop_expired(me, &walked, hash)?;
                }
            }
        }
        Ok(true)
    }

    fn drop_expired(&self, me: Actor<'_>, walked: &Walked, hash: u64) -> Result<()> {
        let (_, entry) = self.entry(hash)?;
        let (Some((slot, word)), _) = self.slot_of(self.index_span(entry)?, hash, walked.offset)? else {
            return Ok(());
        };
        let dead = self.dead_token(walked.offset)?;
        // The header may have been of an earlier use of the chunk: read again under the word that the swap expects.
        let head = record::head_at(self.pool.shm(), walked.offset)?;
        if head != walked.head {
            return Ok(());
        }
        // ORDER AcqRel [slot]: as every unlinking.
        let next = word.unlink();
        if slot.compare_exchange(word.0, next.0, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            self.pool.add_dead(dead.0, dead.1, walked.bytes)?;
            self.count(me, -(walked.bytes as i64), -1);
        }
        Ok(())
    }
}

#[cold]
fn no_place() -> Error {
    Error::new(ErrorCode::Internal, "A chunk that was just opened has no room for a record.")
}
