//! What a table holds and what still fits.
//!
//! Counts of live bytes and entries stand in stripes, one line for each few threads, and are changed after the change that
//! they count. A thread that is killed in between leaves them off by one record. That is the safe side for bytes: a dead
//! record that is not counted as dead only makes `Full` come early. So before `Full` is answered after somebody died, and
//! before entries are told, the counts are taken anew from what they stand for: slots and records.

use super::Table;
use super::layout::{BUCKET_BYTES, SLOT_COUNT, STRIPE_COUNT, bucket_of, control};
use super::slot::{Slot, SlotKind};
use crate::chunk::layout::{Dead, State, at};
use crate::chunk::record::{Head, record_bytes};
use crate::chunk::{Actor, ChunkId, Class, Kind};
use crate::error::{Error, ErrorCode, Result};
use crate::shm::atomic::{AtomicU64, Ordering};

/// Unit in which a capacity is remembered.
const CAPACITY_UNIT: u64 = 1024;

/// What this process found last: a hint, private.
pub(super) struct CapacityCache {
    /// {changes of the pool 32 | bytes of live records for which there is room, in units, 32}
    room: AtomicU64,
    /// Writes that still rest from looking for a chunk to clean.
    rest: AtomicU64,
    /// New entries that still rest from counting anew.
    recount_rest: AtomicU64,
}

impl CapacityCache {
    pub fn new() -> CapacityCache {
        CapacityCache { room: AtomicU64::new(0), rest: AtomicU64::new(0), recount_rest: AtomicU64::new(0) }
    }

    // ORDER Relaxed: private to the process, and only a hint.
    pub fn rest(&self, writes: u64) {
        self.rest.store(writes, Ordering::Relaxed);
    }

    pub fn resting(&self) -> bool {
        count_down(&self.rest)
    }

    pub fn rest_from_recounting(&self, entries: u64) {
        self.recount_rest.store(entries, Ordering::Relaxed);
    }

    pub fn recount_rests(&self) -> bool {
        count_down(&self.recount_rest)
    }
}

/// Whether there was something left.
fn count_down(left: &AtomicU64) -> bool {
    // ORDER Relaxed: private to the process, and only a hint.
    let seen = left.load(Ordering::Relaxed);
    if seen > 0 {
        left.store(seen - 1, Ordering::Relaxed);
    }
    seen > 0
}

/// What a table says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableStats {
    /// Entries, expired ones that were not yet removed included.
    pub entries: u64,
    /// Bytes of records that entries point to.
    pub live_bytes: u64,
    /// Bytes of records that nothing points to any more, not yet reclaimed.
    pub dead_bytes: u64,
    /// Bytes of live records that the table may hold now.
    pub capacity_bytes: u64,
    /// Chunks of records.
    pub record_chunks: u64,
    /// Chunks of buckets.
    pub index_chunks: u64,
    /// Slots in those.
    pub slots: u64,
}

impl Table {
    pub(super) fn stripe_word(&self, stripe: usize, set: usize, field: usize) -> &AtomicU64 {
        let at = stripe % STRIPE_COUNT * 64 + (set & 1) * control::SET + field;
        self.control().u64_at::<{ control::STRIPES }>(at / 8)
    }

    /// Counts a change of live bytes and entries by a record that is not gone.
    #[inline]
    pub(super) fn count(&self, me: Actor<'_>, live: i64, entries: i64) {
        self.count_in(me, self.parity(), live, entries);
    }

    /// Counts a change by the record at `offset`, which was linked or unlinked: one that was flushed is counted apart.
    #[inline]
    pub(super) fn count_record(&self, me: Actor<'_>, head: &Head, offset: u64, live: i64, entries: i64) {
        self.count_in(me, self.parity_of(head, offset), live, entries);
    }

    #[inline]
    fn count_in(&self, me: Actor<'_>, set: usize, live: i64, entries: i64) {
        let stripe = me.index as usize;
        // ORDER Relaxed: sums, taken anew after a death.
        if live != 0 {
            self.stripe_word(stripe, set, control::LIVE).fetch_add(live as u64, Ordering::Relaxed);
        }
        if entries != 0 {
            // The limit of entries is kept by one word.
            let stripe = if self.entries_limit != 0 { 0 } else { stripe };
            self.stripe_word(stripe, set, control::ENTRIES).fetch_add(entries as u64, Ordering::Relaxed);
        }
    }

    /// Both sums of one set.
    pub(super) fn sums_of(&self, set: usize) -> [u64; 2] {
        [control::LIVE, control::ENTRIES].map(|field| self.sum_of(set, field))
    }

    /// Moves a part of the sums from one set to the other.
    pub(super) fn move_counts(&self, from: usize, to: usize, [live, entries]: [u64; 2]) {
        for (field, sum) in [(control::LIVE, live), (control::ENTRIES, entries)] {
            // ORDER Relaxed: sums.
            self.stripe_word(0, from, field).fetch_sub(sum, Ordering::Relaxed);
            self.stripe_word(0, to, field).fetch_add(sum, Ordering::Relaxed);
        }
    }

    fn sum_of(&self, set: usize, field: usize) -> u64 {
        (0..STRIPE_COUNT).fold(0u64, |sum, stripe| {
            // ORDER Relaxed: a sum that changes meanwhile.
            sum.wrapping_add(self.stripe_word(stripe, set, field).load(Ordering::Relaxed))
        })
    }

    /// The sum of a count over the stripes, 0 if it drifted below.
    fn sum(&self, field: usize) -> u64 {
        let sum = self.sum_exact(field);
        if sum as i64 >= 0 { sum } else { 0 }
    }

    /// Entries as counted.
    pub(super) fn len_now(&self) -> u64 {
        self.sum(control::ENTRIES)
    }

    /// Live bytes as counted.
    pub(super) fn live_sum(&self) -> u64 {
        self.sum(control::LIVE)
    }

    /// Whether a new or longer record may come in. `old_bytes` is what it replaces.
    #[inline]
    pub(super) fn admit(
        &self,
        me: Actor<'_>,
        key_len: usize,
        value_len: usize,
        old_bytes: u64,
    ) -> Result<()> {
        if self.evicts || (self.limit == 0 && self.pool.free_count() > self.pool.comfort_mark()) {
            return Ok(());
        }
        let bytes = record_bytes(self.header, key_len as u64, value_len as u64).saturating_sub(old_bytes);
        self.admit_tight(me, bytes)
    }

    #[inline(never)]
    fn admit_tight(&self, me: Actor<'_>, bytes: u64) -> Result<()> {
        let fits = |fresh| -> Result<bool> { Ok(self.sum(control::LIVE) + bytes <= self.capacity(fresh)?) };
        if fits(false)? || fits(true)? {
            return Ok(());
        }
        self.admit_last(me, bytes)
    }

    /// Before `Full` is answered: the pool may have drifted, counts may be off, expired entries may be in the way.
    #[cold]
    fn admit_last(&self, me: Actor<'_>, bytes: u64) -> Result<()> {
        self.pool.reap();
        self.pool.recount()?;
        if self.counts_are_due(control::RECOUNTED) {
            self.take_counts_anew(me)?;
        }
        if self.sum(control::LIVE) + bytes <= self.capacity(true)? {
            return Ok(());
        }
        let fits = || Ok(self.sum(control::LIVE) + bytes <= self.capacity(true)?);
        // Deletions may be in the way that stay for snapshots.
        self.let_all_views_go();
        if self.expire_until(me, fits)? && fits()? {
            return Ok(());
        }
        Err(Error::new(
            ErrorCode::Full,
            format!(
                "The table holds {} KiB of records and may hold {} KiB.",
                self.sum(control::LIVE) >> 10,
                self.capacity(true)? >> 10
            ),
        ))
    }

    /// Whether threads died since the counts under this field were taken.
    pub(super) fn counts_are_due(&self, field: usize) -> bool {
        // ORDER Acquire [deaths]: what the dead changed is seen by the new count.
        let deaths = self.control().u64::<{ control::DEATHS }>().load(Ordering::Acquire);
        deaths != self.control().u64_at::<0>(field / 8).load(Ordering::Relaxed)
    }

    /// A thread was reaped: counts may be off by what it did last.
    pub(super) fn note_death(&self) {
        // ORDER Release [deaths]: the dead's changes come before; pairs with `counts_are_due`.
        self.control().u64::<{ control::DEATHS }>().fetch_add(1, Ordering::Release);
    }

    /// Whether chunks in this state hold records of a table of this class.
    pub(super) fn holds_records(&self, state: State) -> bool {
        state.class().is_some_and(|class| self.is_own(class))
            && matches!(state.kind(), Some(Kind::Open | Kind::Sealed | Kind::Evicting | Kind::RunHead))
    }

    /// Whether the chunk, or the run that begins with it, holds records of this table and gets no more.
    pub(super) fn is_sealed_record_chunk(&self, chunk: ChunkId) -> Result<bool> {
        let state = self.pool.state(chunk)?;
        // ORDER Relaxed: written before the chunk was sealed.
        Ok((state.is(Kind::Sealed) || state.is(Kind::RunHead))
            && state.class().is_some_and(|class| self.is_own(class))
            && self.pool.descriptor(chunk)?.u32::<{ at::OBJECT }>().load(Ordering::Relaxed) == self.object)
    }

    /// Bytes of live records that the table may hold: nine tenths of all chunks that hold records, or could, beyond the
    /// reserve, so that cleaning always finds something to gain; less what is live in other tables. Dead records of whatever
    /// table are room, because whoever needs it cleans them.
    fn capacity(&self, fresh: bool) -> Result<u64> {
        let changes = self.pool.changes();
        // ORDER Relaxed: private to the process.
        let cached = self.capacity.room.load(Ordering::Relaxed);
        let age = changes.wrapping_sub((cached >> 32) as u32);
        let units = if cached != 0 && !fresh && age <= self.pool.geometry().chunk_count / 128 {
            cached as u32 as u64
        } else {
            let units = (self.room_for_records()? / CAPACITY_UNIT).clamp(1, u32::MAX as u64);
            self.capacity.room.store((changes as u64) << 32 | units, Ordering::Relaxed);
            units
        };
        let capacity = units * CAPACITY_UNIT;
        if self.evicts {
            return Ok(
                u64::from(self.quota().saturating_sub(self.own_chunks)) * self.pool.geometry().chunk_bytes
            );
        }
        Ok(if self.limit != 0 { capacity.min(self.limit) } else { capacity })
    }

    /// Looks at all chunks for what [`Table::capacity`] needs.
    fn room_for_records(&self) -> Result<u64> {
        let geometry = self.pool.geometry();
        let (mut taken, mut open, mut foreign) = (0u32, 0u32, 0u64);
        for chunk in self.pool.used_chunks() {
            let state = self.pool.state(chunk)?;
            let records = state.class().is_some_and(Class::has_records);
            match state.kind() {
                Some(Kind::RunContinued) => {}
                Some(Kind::Open | Kind::Sealed | Kind::Evicting | Kind::RunHead) if records => {
                    open += u32::from(state.is(Kind::Open));
                    if state.is(Kind::RunHead) {
                        // What a run leaves of its last chunk is room for nobody.
                        let bytes = u64::from(self.pool.run_len(chunk)?) * geometry.chunk_bytes;
                        foreign += bytes.saturating_sub(self.pool.tail(chunk)?);
                    }
                    // ORDER Relaxed: an estimate.
                    let object = self.pool.descriptor(chunk)?.u32::<{ at::OBJECT }>().load(Ordering::Relaxed);
                    // What evicts is room: it gives way.
                    let other = object != self.object || state.class() == Some(Class::Node);
                    if other && !self.pool.gives_way(chunk)? {
                        foreign += self.pool.live_bytes(chunk)?;
                    }
                }
                Some(Kind::Quiesce) => {}
                _ if state.is_free() => {}
                _ => taken += 1,
            }
        }
        // Each thread may hold one chunk open, whose dead records nobody can clean; some hold more.
        let kept = self.pool.reserve().max(open + 2);
        let chunks = (geometry.chunk_count - 1).saturating_sub(taken).saturating_sub(kept) as u64;
        Ok((chunks * geometry.chunk_bytes / 10 * 9).saturating_sub(foreign))
    }

    /// Entries of the table. After a death they are counted in the index.
    pub fn len(&self) -> Result<u64> {
        if self.counts_are_due(control::COUNTED) && self.pool.shm().writable() {
            self.recount_entries()?;
        }
        Ok(self.sum(control::ENTRIES))
    }

    fn sum_exact(&self, field: usize) -> u64 {
        self.sum_of(self.parity(), field)
    }

    /// Takes dead bytes of every sealed chunk and live bytes of the table anew, by looking which records slots point to.
    pub(super) fn take_counts_anew(&self, _me: Actor<'_>) -> Result<()> {
        self.count_bytes_anew()
    }

    /// As [`Table::take_counts_anew`], for whoever has no entry at hand.
    pub(super) fn count_bytes_anew(&self) -> Result<()> {
        // ORDER Acquire [deaths]: as in `counts_are_due`.
        let deaths = self.control().u64::<{ control::DEATHS }>().load(Ordering::Acquire);
        let mut scratch = Vec::new();
        for chunk in self.pool.used_chunks() {
            if self.is_sealed_record_chunk(chunk)? {
                self.count_dead_anew(chunk, &mut scratch)?;
            }
        }
        let before = self.sum_exact(control::LIVE);
        let mut live = 0u64;
        for chunk in self.pool.used_chunks() {
            let state = self.pool.state(chunk)?;
            // ORDER Relaxed: an estimate, corrected only when nobody changed it meanwhile.
            if state.class().is_some_and(|class| self.is_own(class))
                && matches!(state.kind(), Some(Kind::Open | Kind::Sealed | Kind::Evicting | Kind::RunHead))
                && self.pool.descriptor(chunk)?.u32::<{ at::OBJECT }>().load(Ordering::Relaxed) == self.object
            {
                live += self.pool.live_bytes(chunk)?;
            }
        }
        if self.sum_exact(control::LIVE) == before {
            // ORDER Relaxed: a sum.
            let word = self.stripe_word(0, self.parity(), control::LIVE);
            word.fetch_add(live.wrapping_sub(before), Ordering::Relaxed);
            self.control().u64::<{ control::RECOUNTED }>().store(deaths, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Takes the dead bytes of one chunk anew, unless they change meanwhile.
    fn count_dead_anew(&self, chunk: ChunkId, scratch: &mut Vec<u8>) -> Result<()> {
        let state = self.pool.state(chunk)?;
        let word = self.pool.descriptor(chunk)?.u64::<{ at::DEAD }>();
        // ORDER Acquire [dead]: what was unlinked before it was counted is seen as dead.
        let before = word.load(Ordering::Acquire);
        let (mut dead, mut linked) = (0u64, false);
        let Ok(mut walk) = self.pool.walk(chunk, self.header, 0) else { return Ok(()) };
        while let Ok(Some(walked)) = walk.next() {
            let Ok(hash) = self.hash_of_record(walked.offset, &walked.head, scratch) else { return Ok(()) };
            let unlinked = !self.is_live(hash, walked.offset)?;
            linked |= !unlinked;
            if unlinked || self.is_flushed(&walked.head, walked.offset) {
                dead += walked.bytes;
            }
        }
        if !linked && state.is(Kind::RunHead) {
            return self.pool.retire_run(chunk, state);
        }
        if Dead(before).bytes() as u64 == dead {
            return Ok(());
        }
        let after = Dead::estimated(Dead(before).generation(), dead as u32);
        // ORDER AcqRel [dead]: thrown away if a record was counted since.
        let _ = word.compare_exchange(before, after.0, Ordering::AcqRel, Ordering::Relaxed);
        Ok(())
    }

    /// Calls `visit` for the word of every slot that names a record, each once. Slots that change meanwhile may be missed.
    pub(super) fn each_slot(&self, visit: &mut dyn FnMut(Slot, ChunkId) -> Result<()>) -> Result<()> {
        let mut index = 0;
        while index < 1 << self.bits {
            // ORDER Acquire [directory]: as in `Table::entry`.
            let entry = super::layout::Entry(self.directory_word(index)?.load(Ordering::Acquire));
            let span = self.index_span(entry)?;
            let children = [0u64, 1 << 63 >> entry.depth()].map(|hash| self.child_of(entry, hash));
            let children =
                [children[0].as_ref().ok().copied().flatten(), children[1].as_ref().ok().copied().flatten()];
            for number in 0..span.len() / BUCKET_BYTES {
                for slot in 0..SLOT_COUNT {
                    // ORDER Acquire [slot]: as for readers.
                    let word = Slot(bucket_of(span, number)?.u64_at::<0>(slot).load(Ordering::Acquire));
                    let mut moved = false;
                    for child in children.into_iter().flatten() {
                        let bucket = bucket_of(self.pool.span(child)?, number)?;
                        let in_child = Slot(bucket.u64_at::<0>(slot).load(Ordering::Acquire));
                        moved |= in_child != Slot::VIRGIN;
                        if in_child.kind() == SlotKind::Record {
                            visit(in_child, child)?;
                        }
                    }
                    let counts = word.kind() == SlotKind::Record
                        || (word.kind() == SlotKind::Frozen && word.offset() != 0);
                    if counts && !moved {
                        visit(word, ChunkId(entry.chunk() as u32))?;
                    }
                }
            }
            index = self.range(index, entry).end;
        }
        Ok(())
    }

    /// What the table holds now.
    pub fn stats(&self) -> Result<TableStats> {
        let mut stats = TableStats {
            entries: self.len()?,
            capacity_bytes: self.capacity(true)?,
            ..TableStats::default()
        };
        for chunk in self.pool.used_chunks() {
            let state = self.pool.state(chunk)?;
            // ORDER Relaxed: an estimate.
            if state.class().is_some_and(|class| self.is_own(class))
                && matches!(state.kind(), Some(Kind::Open | Kind::Sealed | Kind::Evicting | Kind::RunHead))
                && self.pool.descriptor(chunk)?.u32::<{ at::OBJECT }>().load(Ordering::Relaxed) == self.object
            {
                let live = self.pool.live_bytes(chunk)?;
                let run = state.is(Kind::RunHead);
                stats.record_chunks += if run { u64::from(self.pool.run_len(chunk)?) } else { 1 };
                stats.live_bytes += live;
                stats.dead_bytes += self.pool.tail(chunk)?.saturating_sub(live);
            }
        }
        let mut index = 0;
        while index < 1 << self.bits {
            // ORDER Acquire [directory]: as in `Table::entry`.
            let entry = super::layout::Entry(self.directory_word(index)?.load(Ordering::Acquire));
            self.index_span(entry)?;
            stats.index_chunks += 1;
            index = self.range(index, entry).end;
        }
        stats.slots = stats.index_chunks * self.shape.buckets * SLOT_COUNT as u64;
        Ok(stats)
    }
}
