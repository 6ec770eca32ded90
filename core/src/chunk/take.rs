//! Taking free chunks: who may have how many of the last ones, which are taken, and making a row of them.
//!
//! A chunk is counted after it was taken, and before it is free: so a count that is taken anew in between is too high for a
//! while, never too low. Who then finds too few left gives his back.

use super::layout::{Class, Dead, HINT_COUNT, Kind, State, at, pair};
use super::relief::{Cleaner, Effort};
use super::{Actor, ChunkId, Pool};
use crate::error::{Error, ErrorCode, Result};
use crate::shm::atomic::{Ordering, fence};

/// What a chunk is wanted for: decides how many free ones must stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Lanes, control areas: leaves the tables a part of the pool to clean with.
    Object,
    /// More live bytes in a table: leaves the reserve.
    Growth,
    /// Replacing what is there: may use the reserve, because it makes as much room as it takes.
    Overwrite,
    /// Moving live records away: the last chunks are for this, because it gives more than it takes.
    Clean,
}

impl Pool {
    pub(super) fn must_stay(&self, need: Need) -> u32 {
        match need {
            Need::Object => self.reserve() + self.geometry().chunk_count / 16,
            Need::Growth => self.reserve(),
            Need::Overwrite => 2.min(self.geometry().chunk_count / 8),
            Need::Clean => 0,
        }
    }

    /// Takes a free chunk for `object`: open, owned by the caller alone, its bytes undefined. Cleans chunks of any object if
    /// there are too few.
    pub fn allocate(&self, me: Actor<'_>, class: Class, object: u32, need: Need) -> Result<ChunkId> {
        self.allocate_run(me, class, object, 1, need)
    }

    /// Takes `count` free chunks in a row.
    pub fn allocate_run(
        &self,
        me: Actor<'_>,
        class: Class,
        object: u32,
        count: u32,
        need: Need,
    ) -> Result<ChunkId> {
        self.allocate_row(me, class, object, count, need, None)
    }

    /// As [`Pool::allocate_run`]; `own` is the table that the caller writes to.
    pub(super) fn allocate_row(
        &self,
        me: Actor<'_>,
        class: Class,
        object: u32,
        count: u32,
        need: Need,
        own: Option<&dyn Cleaner>,
    ) -> Result<ChunkId> {
        let chunks = self.geometry().chunk_count;
        let mut effort = Effort::new(self);
        if count == 1
            && !class.has_records()
            && let Some(chunk) = self.make_low(me, class, object, need, own)?
        {
            return Ok(chunk);
        }
        for step in 0u32.. {
            if let Some(first) = self.take(me, class, object, count, need)? {
                return Ok(first);
            }
            // Looking for a row is a walk over all chunks.
            if count > 1
                && step.is_multiple_of(1 + chunks / 128)
                && let Some(first) = self.make_row(me, class, object, count, need, own)?
            {
                return Ok(first);
            }
            if need == Need::Clean {
                break;
            }
            // What evicts gives up its own before others have to, when it is it that may have no more.
            if step < count.saturating_mul(16).saturating_add(64)
                && !self.may_hold(object, count)
                && let Some(own) = own.filter(|own| own.gives_way())
                && own.give(me)?
            {
                continue;
            }
            if self.relieve(me, own, self.geometry().chunk_bytes, &mut effort)? {
                continue;
            }
            if count == 1 || !self.row_may_come(class, count)? {
                break;
            }
            // Others who wait for a row need it in one piece as well: nothing of the caller's stands in their way.
            self.put_away_others(me, None)?;
            if !self.wait(&mut effort) {
                break;
            }
        }
        // The last steps may have made what was missing before.
        let made = if count > 1 { self.make_row(me, class, object, count, need, own)? } else { None };
        made.ok_or_else(|| self.full(count, need))
    }

    /// As [`Pool::allocate_run`], but takes only what is free: `None` if that is not enough.
    pub fn take(
        &self,
        me: Actor<'_>,
        class: Class,
        object: u32,
        count: u32,
        need: Need,
    ) -> Result<Option<ChunkId>> {
        if !self.shm().writable() {
            return Err(ErrorCode::ReadOnly.into());
        }
        self.renew_reserve();
        if !self.may_hold(object, count) {
            return Ok(None);
        }
        // One that is kept for this leaves as many free as there were.
        if count == 1
            && let Some(chunk) = self.kept_buckets(class)?
            && self.open_run(me, class, object, chunk, 1)?
        {
            return Ok(Some(chunk));
        }
        for attempt in 0..2 {
            if self.leaves_enough(count, need)
                && let Some(first) = self.find_run(me, class, object, count)?
            {
                self.count_taken(i64::from(count));
                // Others may have taken some at the same time: then who sees that too few are left gives his back.
                if self.leaves_enough(0, need) {
                    return Ok(Some(first));
                }
                self.release(me, first)?;
            }
            if attempt == 0 {
                // What waited for a pin may be free now, and the count may have drifted.
                self.free_quiet()?;
                self.recount()?;
            }
        }
        Ok(None)
    }

    /// Takes the first free chunk from number `from` on, if enough stay free: who takes many goes on behind the last one.
    pub(super) fn take_next(
        &self,
        me: Actor<'_>,
        class: Class,
        object: u32,
        need: Need,
        from: u32,
    ) -> Result<Option<ChunkId>> {
        if !self.shm().writable() || !self.leaves_enough(1, need) {
            return Ok(None);
        }
        for chunk in (from.max(1)..self.geometry().chunk_count).map(ChunkId) {
            if !self.state(chunk)?.is_free() || !self.open_run(me, class, object, chunk, 1)? {
                continue;
            }
            self.count_taken(1);
            if self.leaves_enough(0, need) {
                return Ok(Some(chunk));
            }
            self.release(me, chunk)?;
            break;
        }
        Ok(None)
    }

    /// Whether enough chunks stay free when `count` more are taken.
    fn leaves_enough(&self, count: u32, need: Need) -> bool {
        self.free_count() >= count.saturating_add(self.must_stay(need))
    }

    #[cold]
    pub(super) fn full(&self, count: u32, need: Need) -> Error {
        let (all, bytes) = (self.geometry().chunk_count - 1, self.geometry().chunk_bytes);
        Error::new(
            ErrorCode::Full,
            format!(
                "No room for {count} more chunks of {} KiB: {} of {all} are free and {} of them are kept in reserve.",
                bytes >> 10,
                self.free_count(),
                self.must_stay(need),
            ),
        )
    }

    /// Up to here the arena is for chunks that stay where they are: control areas, buckets, lanes. Anywhere else they would
    /// be in the way of long rows.
    pub(super) fn low_end(&self) -> u32 {
        1 + self.geometry().chunk_count / 8
    }

    /// A chunk that is kept for what is wanted.
    pub(super) fn kept_buckets(&self, class: Class) -> Result<Option<ChunkId>> {
        if class == Class::Buckets {
            for chunk in self.used_chunks() {
                if self.state(chunk)?.is_kept() {
                    return Ok(Some(chunk));
                }
            }
        }
        Ok(None)
    }

    fn find_run(&self, me: Actor<'_>, class: Class, object: u32, count: u32) -> Result<Option<ChunkId>> {
        let total = self.geometry().chunk_count;
        // ORDER Relaxed: hints.
        let used =
            self.head().u64::<{ at::POOL_COMMITTED }>().load(Ordering::Relaxed).clamp(1, total as u64) as u32;
        let start = self.start.load(Ordering::Relaxed).clamp(1, total - 1);
        // What stays where it is lies together at the lowest numbers; records leave the first chunks to it as long as there
        // are fresh ones. First where chunks were used before, then fresh ones, then everywhere once more.
        let low = if used < total { self.low_end() } else { 1 };
        let ranges = if class.has_records() {
            [(start.max(low), used), (low, start.min(used)), (used.max(low), total), (1, total)]
        } else {
            [(1, total), (0, 0), (0, 0), (0, 0)]
        };
        if count == 1 && class.has_records() {
            for hint in 0..HINT_COUNT {
                // ORDER Relaxed: a hint; the state decides.
                let word = self.head().u32_at::<{ at::POOL_HINTS }>(hint);
                let chunk = ChunkId(word.load(Ordering::Relaxed));
                if chunk.0 >= low && chunk.0 < self.geometry().chunk_count {
                    word.store(0, Ordering::Relaxed);
                    if self.state(chunk)?.is_free() && self.open_run(me, class, object, chunk, 1)? {
                        return Ok(Some(chunk));
                    }
                }
            }
        }
        for (from, to) in ranges {
            let mut found = 0;
            for number in from..to {
                let state = self.state(ChunkId(number))?;
                found = if state.is_free() { found + 1 } else { 0 };
                if found == count {
                    let first = ChunkId(number + 1 - count);
                    if self.open_run(me, class, object, first, count)? {
                        if class.has_records() {
                            self.start.store(number + 1, Ordering::Relaxed);
                        }
                        return Ok(Some(first));
                    }
                    found = 0;
                }
            }
        }
        Ok(None)
    }

    /// Claims the chunks one by one in the order of their numbers; gives back what it has if one is lost. Counting them is the
    /// caller's affair.
    fn open_run(&self, me: Actor<'_>, class: Class, object: u32, first: ChunkId, count: u32) -> Result<bool> {
        self.reserve_pages(first, count)?;
        for number in first.0..first.0 + count {
            if !self.open_one(me, class, object, ChunkId(number))? {
                self.give_back(me, first.0..number)?;
                return Ok(false);
            }
        }
        self.describe_run(first, count)?;
        Ok(true)
    }

    /// Gives back chunks that were just opened and not counted.
    fn give_back(&self, me: Actor<'_>, chunks: std::ops::Range<u32>) -> Result<()> {
        for number in chunks {
            self.count_taken(1);
            self.release(me, ChunkId(number))?;
        }
        Ok(())
    }

    pub(super) fn describe_run(&self, first: ChunkId, count: u32) -> Result<()> {
        let generation = self.state(first)?.generation();
        // ORDER Relaxed: the owner's, until the run is reachable.
        for number in first.0 + 1..first.0 + count {
            self.descriptor(ChunkId(number))?
                .u64::<{ at::PARENT }>()
                .store(pair(first.0, generation), Ordering::Relaxed);
        }
        self.descriptor(first)?.u32::<{ at::RUN_LEN }>().store(count, Ordering::Relaxed);
        Ok(())
    }

    /// One free chunk becomes the caller's. Its count is the caller's affair.
    pub(super) fn open_one(&self, me: Actor<'_>, class: Class, object: u32, chunk: ChunkId) -> Result<bool> {
        let descriptor = self.descriptor(chunk)?;
        // ORDER Acquire [chunk-state]: as in `state`.
        let seen = State(descriptor.u64::<{ at::STATE }>().load(Ordering::Acquire));
        let kept = seen.is_kept() && class == Class::Buckets;
        if !(seen.is_free() || kept) || !self.may_hold(object, 1) {
            return Ok(false);
        }
        // Pages first: if there are none, nothing has changed.
        if seen.is(Kind::Virgin) && !self.is_populated(chunk) {
            self.ground().commit(self.geometry().chunk_offset(chunk), self.geometry().chunk_bytes)?;
        }
        self.populate(chunk, 1)?;
        // Before the chunk can be owned, so that whoever looks for what the dead owned comes as far as here.
        // ORDER Relaxed: ordered before the state by its Release; only the reaper needs it, who sees all of the dead's stores.
        self.head().u64::<{ at::POOL_COMMITTED }>().fetch_max(chunk.0 as u64 + 1, Ordering::Relaxed);
        // DIES BEFORE: nothing is taken.
        kill_point!("chunk.allocate.before_open");
        if !self.transition(descriptor, seen, State::new(Kind::Open, class, me.index, seen.generation())) {
            return Ok(false);
        }
        // DIES AFTER: an open chunk of the dead, with the descriptor of its last use: the reaper seals it and the cleaner
        // finds nothing live in it, or frees it because nothing refers to it.
        kill_point!("chunk.allocate.opened");
        self.describe(chunk, object, seen.generation())?;
        if !self.charge(descriptor, class, object)? {
            self.count_taken(i64::from(!kept));
            self.retire(chunk, State::new(Kind::Open, class, me.index, seen.generation()))?;
            return Ok(false);
        }
        Ok(true)
    }

    /// Begins a use of a chunk that has just become the caller's: its descriptor gets the values of an empty one.
    pub(super) fn describe(&self, chunk: ChunkId, object: u32, generation: u32) -> Result<()> {
        let descriptor = self.descriptor(chunk)?;
        // ORDER Release [chunk-reuse]: whoever sees bytes that are written from here on, and then executes an acquire
        // fence, also sees that the records of the last use were unlinked and the generation went on.
        fence(Ordering::Release);
        // ORDER Relaxed: the next fields are the owner's until the chunk is reachable; what makes it so orders them.
        let sequence = self.next_number();
        descriptor.u64::<{ at::TAIL }>().store(0, Ordering::Relaxed);
        descriptor.u64::<{ at::SEQ }>().store(sequence, Ordering::Relaxed);
        descriptor.u32::<{ at::OBJECT }>().store(object, Ordering::Relaxed);
        descriptor.u64::<{ at::OPENED }>().store(crate::shm::time::boot_ms(), Ordering::Relaxed);
        descriptor.u32::<{ at::RUN_LEN }>().store(1, Ordering::Relaxed);
        descriptor.u32::<{ at::ACCOUNT }>().store(0, Ordering::Relaxed);
        for word in [
            descriptor.u64::<{ at::AUX }>(),
            descriptor.u64::<{ at::FLUSHED }>(),
            descriptor.u64::<{ at::SPLIT }>(),
            descriptor.u64::<{ at::PARENT }>(),
            descriptor.u64::<{ at::CURSOR }>(),
            descriptor.u64::<{ at::FIRST_END }>(),
            descriptor.u64::<{ at::QUIET_SINCE }>(),
        ] {
            word.store(0, Ordering::Relaxed);
        }
        // ORDER Release [chunk-described]: with this generation in it, the fields above are those of this use.
        descriptor.u64::<{ at::DEAD }>().store(Dead::new(generation, 0).0, Ordering::Release);
        kill_point!("chunk.allocate.described");
        Ok(())
    }

    /// Goes on filling a sealed chunk of a cache that has room for `bytes` and at least this number: left by a thread that ended,
    /// or put away.
    pub fn adopt(&self, me: Actor<'_>, class: Class, object: u32, bytes: u64, lowest: u64) -> Result<bool> {
        let chunk_bytes = self.geometry().chunk_bytes;
        for chunk in self.used_chunks() {
            let seen = self.state(chunk)?;
            let descriptor = self.descriptor(chunk)?;
            // Not those of a store: whoever flushes takes a sealed chunk for one that gets no more records.
            // ORDER Relaxed: written before the chunk was sealed.
            if !seen.is(Kind::Sealed)
                || seen.class() != Some(class)
                || descriptor.u32::<{ at::OBJECT }>().load(Ordering::Relaxed) != object
                || descriptor.u64::<{ at::SEQ }>().load(Ordering::Relaxed) < lowest
                || self.tail(chunk)? + bytes.max(chunk_bytes / 8) > chunk_bytes
            {
                continue;
            }
            let open = State::new(Kind::Open, class, me.index, seen.generation());
            kill_point!("chunk.adopt.before");
            if self.transition(descriptor, seen, open) {
                // DIES AFTER: as any open chunk with records.
                kill_point!("chunk.adopt.opened");
                // ORDER SeqCst [adopt]: behind the state; pairs with the fence in `Pool::free_if_dead`.
                fence(Ordering::SeqCst);
                // ORDER Relaxed: ordered by the fence.
                let dead = Dead(descriptor.u64::<{ at::DEAD }>().load(Ordering::Relaxed));
                if dead.is_exact() && u64::from(dead.bytes()) == self.tail(chunk)? {
                    // Somebody may be about to free it, however late: it must not be sealed with anything live in it.
                    self.retire(chunk, open)?;
                    continue;
                }
                // ORDER Relaxed: the owner's; only a hint for others.
                descriptor.u64::<{ at::AUX }>().store(0, Ordering::Relaxed);
                // Who looks just now for what has expired notes nothing then: it does not know what comes.
                let first_end = descriptor.u64::<{ at::FIRST_END }>();
                first_end.store(first_end.load(Ordering::Relaxed).saturating_sub(1), Ordering::Relaxed);
                self.put_entry_chunk(me, class, object, chunk)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Reserves and maps the pages of a long run at once: one call for each chunk costs more than the copy that follows.
    pub(super) fn reserve_pages(&self, first: ChunkId, count: u32) -> Result<()> {
        if count == 1 {
            return Ok(());
        }
        let mut virgin = None;
        for number in first.0..=first.0 + count {
            let is_virgin = number < first.0 + count && self.state(ChunkId(number))?.is(Kind::Virgin);
            match (is_virgin, virgin) {
                (true, None) => virgin = Some(number),
                (false, Some(start)) => {
                    let bytes = u64::from(number - start) * self.geometry().chunk_bytes;
                    self.ground().commit(self.geometry().chunk_offset(ChunkId(start)), bytes)?;
                    virgin = None;
                }
                _ => {}
            }
        }
        self.populate(first, count)
    }

    /// Maps the pages of chunks that this process has not touched yet: a fault costs more than a write.
    #[cfg(not(memora_loom))]
    pub(super) fn populate(&self, first: ChunkId, count: u32) -> Result<()> {
        let chunks = (first.0..first.0 + count).map(ChunkId);
        if chunks.clone().all(|chunk| self.is_populated(chunk)) {
            return Ok(());
        }
        self.shm()
            .populate(self.geometry().chunk_offset(first), u64::from(count) * self.geometry().chunk_bytes)?;
        // ORDER Relaxed: private to this process, and doing it twice is harmless.
        chunks.for_each(|chunk| {
            self.populated[chunk.0 as usize / 64].fetch_or(1 << (chunk.0 % 64), Ordering::Relaxed);
        });
        Ok(())
    }

    /// Whether this process has mapped the pages of a chunk: then they were reserved.
    #[cfg(not(memora_loom))]
    fn is_populated(&self, chunk: ChunkId) -> bool {
        // ORDER Relaxed: private to this process.
        self.populated[chunk.0 as usize / 64].load(Ordering::Relaxed) >> (chunk.0 % 64) & 1 != 0
    }

    #[cfg(memora_loom)]
    fn is_populated(&self, _chunk: ChunkId) -> bool {
        false
    }

    #[cfg(memora_loom)]
    pub(super) fn populate(&self, _first: ChunkId, _count: u32) -> Result<()> {
        Ok(())
    }
}
