//! Making room: live records are moved out of chunks that hold mostly dead ones.
//!
//! A record is live if a slot points to it; the cleaner copies it to its own chunk and swings the slot. Who loses that
//! compare-and-swap has lost nothing: the record was just replaced, so it is dead. The work is done in small steps by
//! those who write, when few chunks are free; only when none is left does a writer clean a whole chunk at once.

use super::drop::Gone;
use super::evict::Owner;
use super::layout::{BUCKET_BYTES, IN_STASH, SLOT_COUNT, bucket, bucket_of, control};
use super::lookup::frozen;
use super::slot::{Slot, SlotKind, tag_of};
use super::split::Split;
use super::{RecordClass, Table, too_many_tries};
use crate::chunk::layout::State;
use crate::chunk::record::{self, Head};
use crate::chunk::{Actor, ChunkId, Class, Cleaner, Effort, Need, Walked};
use crate::error::{Error, ErrorCode, Result};
use crate::shm::Span;
use crate::shm::atomic::Ordering;

/// Records that are looked at together: their buckets are fetched while the next are read.
pub(super) const BATCH: usize = 8;
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

    fn empty(&self, me: Actor<'_>, chunk: ChunkId, seen: State) -> Result<()> {
        self.empty_chunk(me, chunk, seen)
    }

    fn gives_way(&self) -> bool {
        self.evicts
    }

    fn give(&self, me: Actor<'_>) -> Result<bool> {
        Table::give(self, me)
    }

    fn quiet_time(&self) -> u64 {
        if self.class.is_cache() { 0 } else { Table::quiet_time(self) }
    }

    fn keeps(&self, quiet_since: u64) -> Result<bool> {
        self.views_keep(quiet_since)
    }

    fn let_a_snapshot_go(&self) -> Result<bool> {
        self.let_a_view_go()
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
        match (self.is_pressed(), self.evicts) {
            (false, _) => Ok(()),
            (true, true) => self.evict_a_little(me),
            (true, false) => self.relieve_now(me),
        }
    }

    /// Whether so little is left that a write has to make room.
    #[inline]
    pub(super) fn is_pressed(&self) -> bool {
        if self.evicts { self.eviction_is_due() } else { self.pool.free_count() <= self.pool.pressure_mark() }
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
        let taken = self.pool.state(chunk)?;
        let nodes = taken.class() == Some(Class::Node);
        let cleaned =
            if nodes { self.clean_nodes(me, chunk, count) } else { self.clean_some(me, chunk, count) };
        match cleaned {
            // Somebody took the chunk over, and it is in use for something else: nothing of it was damaged.
            Err(_) if self.pool.state(chunk)? != taken => Ok(true),
            done => done,
        }
    }

    fn clean_some(&self, me: Actor<'_>, chunk: ChunkId, count: usize) -> Result<bool> {
        let mut scratch = Vec::new();
        let mut done = 0;
        let state = self.pool.state(chunk)?;
        let (generation, class) = (state.generation(), state.class().unwrap_or(self.class.class()));
        while done < count {
            let next = self.next_batch(me, chunk, generation, BATCH, &mut scratch)?;
            let Some((batch, len)) = next else { return Ok(true) };
            for (walked, hash) in batch.into_iter().flatten() {
                if let Moved::NoRoom = self.move_record(me, class, &walked, hash)? {
                    return Ok(false);
                }
                self.pool.set_clean_position(chunk, generation, walked.position + walked.bytes)?;
            }
            if len < BATCH {
                self.pool.cleaned(me, chunk, self.object)?;
                return Ok(true);
            }
            done += len;
        }
        Ok(true)
    }

    /// The next records of a chunk that the caller has taken, from the position to which it was cleaned, `most` of them, with
    /// their hashes, and how many they are; `None` if somebody took it over. Their buckets are fetched while the next are read.
    pub(super) fn next_batch(
        &self,
        me: Actor<'_>,
        chunk: ChunkId,
        generation: u32,
        most: usize,
        scratch: &mut Vec<u8>,
    ) -> Result<Option<([Option<(Walked, u64)>; BATCH], usize)>> {
        let from = self.pool.clean_position(chunk, generation)?;
        let Some(mut walk) = self.pool.walk_taken(me, chunk, self.header, from)? else { return Ok(None) };
        let (mut batch, mut len) = ([const { None }; BATCH], 0);
        while len < most.min(BATCH) {
            let Some(walked) = walk.next()? else { break };
            let hash = self.hash_of_record(walked.offset, &walked.head, scratch)?;
            let (_, entry) = self.entry(hash)?;
            self.index_span(entry)?.prefetch(self.shape.home(hash) * BUCKET_BYTES);
            batch[len] = Some((walked, hash));
            len += 1;
        }
        Ok(Some((batch, len)))
    }

    /// The slot that points to the record at `offset`, in the index chunk at `span`. The second answer says whether a bucket
    /// was frozen, so that the slot may be in a child.
    pub(super) fn slot_of<'a>(
        &self,
        span: Span<'a>,
        hash: u64,
        offset: u64,
    ) -> Result<(Option<Owner<'a>>, bool)> {
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
                    return Ok((Some(Owner { slot, word, bucket, number: slot_number }), false));
                }
            }
            split |= frozen(bucket);
        }
        Ok((None, split))
    }

    /// What points to the record at `offset`; `None` if nothing does. `entered` is held until the slot was changed: the child of
    /// a split must not be retired.
    pub(super) fn owner_of<'a>(
        &'a self,
        me: Actor<'a>,
        hash: u64,
        offset: u64,
        entered: &mut Option<Split<'a>>,
    ) -> Result<Option<Owner<'a>>> {
        for _ in 0..1000 {
            *entered = None;
            let (index, entry) = self.entry(hash)?;
            let span = self.index_span(entry)?;
            let found = match self.slot_of(span, hash, offset)? {
                (Some(found), _) => Some(found),
                (None, true) => {
                    *entered = self.enter_split(me, hash)?;
                    let Some(split) = &*entered else { continue };
                    let (found, divided) = self.slot_of(self.pool.span(split.child)?, hash, offset)?;
                    // The split was finished meanwhile, and the child is being divided itself: it is where the directory leads.
                    if found.is_none() && divided {
                        continue;
                    }
                    if found.is_none() && self.is_shielded(me, self.pool.span(split.child)?, hash, offset)? {
                        continue;
                    }
                    found
                }
                (None, false) if self.is_shielded(me, span, hash, offset)? => continue,
                (None, false) => None,
            };
            // ORDER Acquire [directory]: nothing points to it, unless the index chunk went out of use meanwhile.
            let sure =
                || -> Result<bool> { Ok(self.directory_word(index)?.load(Ordering::Acquire) == entry.0) };
            if found.is_some() || entered.is_some() || sure()? {
                return Ok(found);
            }
        }
        Err(too_many_tries("Looking for what points to a record"))
    }

    /// Moves one record out of a chunk of `class` if it is live.
    fn move_record(&self, me: Actor<'_>, class: Class, walked: &Walked, hash: u64) -> Result<Moved> {
        for _ in 0..1000 {
            let mut entered = None;
            let Some(owner) = self.owner_of(me, hash, walked.offset, &mut entered)? else {
                return Ok(Moved::Dead);
            };
            // One that is not decided yet stays where it is; which it then is, is seen anew.
            if !self.settle_owner(me, &owner)? {
                continue;
            }
            if let Some(moved) = self.move_live(me, class, walked, &owner, hash)? {
                return Ok(moved);
            }
        }
        Err(too_many_tries("Moving a record"))
    }

    /// Moves or drops a record that a slot points to. `None` when somebody changed the slot.
    fn move_live(
        &self,
        me: Actor<'_>,
        class: Class,
        walked: &Walked,
        owner: &Owner<'_>,
        hash: u64,
    ) -> Result<Option<Moved>> {
        let epoch = self.epoch()?;
        if self.may_drop(walked.offset, &walked.head)? {
            return Ok(self.drop_record(me, walked, hash, owner, Gone::Expired)?.map(|_| Moved::Dead));
        }
        let place = match self.room(me, class, walked.bytes)? {
            Some(place) => place,
            None => {
                match self.pool.next_chunk(me, class, self.object, Need::Clean) {
                    Ok(()) => {}
                    // Somebody left a chunk that is not full.
                    Err(error)
                        if error.code() == ErrorCode::Full
                            && self.class.is_cache()
                            && self.pool.adopt(
                                me,
                                class,
                                self.object,
                                walked.bytes,
                                self.lowest_number()?,
                            )? => {}
                    Err(error) if error.code() == ErrorCode::Full => return Ok(Some(Moved::NoRoom)),
                    Err(error) => return Err(error),
                }
                let Some(place) = self.room(me, class, walked.bytes)? else {
                    // A flush since then: the record may be gone by now.
                    return if self.is_epoch(epoch) { Err(no_place()) } else { Ok(None) };
                };
                place
            }
        };
        Ok(self.move_to(walked, hash, owner, place)?.map(|moved| match moved {
            true => Moved::Elsewhere,
            false => Moved::Dead,
        }))
    }

    /// Copies a record to a place and lets its slot point there. False if it is not the record any more that was walked over:
    /// the chunk was taken from the caller, and reused. `None` when somebody changed the slot.
    pub(super) fn move_to(
        &self,
        walked: &Walked,
        hash: u64,
        owner: &Owner<'_>,
        place: (ChunkId, u64),
    ) -> Result<Option<bool>> {
        let dead = self.dead_token(walked.offset)?;
        // Behind the load of the slot, whose word the swap expects: what is read now is what the slot names.
        if !self.still_is(walked.offset, &walked.head)? {
            return Ok(Some(false));
        }
        let appended = self.pool.append_copy(place, walked.offset, self.header, &walked.head)?;
        // Of a record whose id says nothing the new chunk decides: it must not be younger than a flush of the record.
        if walked.head.flags & record::GIVEN != 0
            && self.was_flushed(self.epoch()?, &walked.head, walked.offset)
        {
            self.pool.give_up(&appended)?;
            return Ok(None);
        }
        kill_point!("table.clean.before_move");
        // DIES BEFORE: a copy that nothing points to. DIES AFTER: the record is moved.
        // ORDER AcqRel [slot]: as every publication.
        let next = owner.word.publish(tag_of(hash), appended.offset);
        if owner.slot.compare_exchange(owner.word.0, next.0, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            self.pool.give_up(&appended)?;
            return Ok(None);
        }
        kill_point!("table.clean.moved");
        self.pool.add_dead(dead.0, dead.1, walked.bytes)?;
        Ok(Some(true))
    }

    /// Whether the record at `offset` has the header that was read before.
    pub(super) fn still_is(&self, offset: u64, head: &Head) -> Result<bool> {
        Ok(record::head_at(self.pool.shm(), offset)? == *head)
    }

    /// Whether the cleaner may unlink a live record instead of moving it: an expired entry of a cache, a tombstone that no
    /// file needs any more.
    pub(super) fn may_drop(&self, offset: u64, head: &Head) -> Result<bool> {
        match self.class {
            RecordClass::Cache | RecordClass::Stamped => Ok(self.has_expired(head)
                || self.is_flushed(head, offset)
                || self.is_lost_lease(offset, head)?),
            // The journal has the whole chunk, or it would not be cleaned; an insert that finds the key absent takes an order
            // above the floor.
            // ORDER Acquire [order-floor]: raised before.
            RecordClass::Memory => Ok((head.is_tombstone()
                || (head.expiry != 0 && head.expiry <= self.now_ms()))
                && !self.is_needed_by_views(offset, head)?),
            RecordClass::Store if head.is_tombstone() => Ok(self.order_at(offset)?
                <= self.floor().load(Ordering::Acquire)
                && !self.is_needed_by_views(offset, head)?),
            RecordClass::Store => Ok(false),
        }
    }

    /// Opens a chunk with room for a record, cleaning as long as there is none.
    #[cold]
    #[inline(never)]
    pub(super) fn make_room(
        &self,
        me: Actor<'_>,
        class: Class,
        need: Need,
        bytes: u64,
    ) -> Result<(ChunkId, u64)> {
        self.expire_some(me)?;
        self.bound_views()?;
        if self.evicts {
            return self.make_room_by_evicting(me, class, need, bytes);
        }
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
                let adopted = class == Class::Main
                    && self.pool.adopt(me, class, self.object, bytes, self.lowest_number()?)?;
                let place = if adopted { self.pool.room(me, class, self.object, bytes)? } else { None };
                return place.ok_or(error);
            }
        }
    }
}

#[cold]
fn no_place() -> Error {
    Error::new(ErrorCode::Internal, "A chunk that was just opened has no room for a record.")
}
