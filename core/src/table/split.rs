//! Dividing an index chunk that is full, while everybody goes on.
//!
//! Two zeroed chunks are named as its children by one compare-and-swap of its descriptor. Then each slot is frozen and, if
//! it names a record, put into the child that the key's hash chooses: *same bucket, same slot*, from virgin. So it does not
//! matter how many help, how late, or who dies: a second helper's compare-and-swap finds the child's slot in use and fails,
//! also after the entry was changed or deleted there. When all buckets are moved, the directory's entries are swung to the
//! children, and the old chunk is retired.
//!
//! Writers who meet a frozen slot move the buckets of their key and go on in the child; readers look in both.
//! All who store here have pinned the old chunk and the child: virgin slots and free locks are zeros, which could occur in a
//! chunk that was reused.

use super::Table;
use super::evict::{frequency, set_frequency};
use super::layout::{BUCKET_BYTES, Bucket, Entry, IN_STASH, MIGRATED, SLOT_COUNT, bucket, bucket_of};
use super::slot::{Slot, SlotKind, tag_of};
use crate::chunk::layout::{at, pair, unpair};
use crate::chunk::{Actor, ChunkId, Class, Guard, Kind, Need, record};
use crate::error::{Error, ErrorCode, Result};
use crate::shm::Span;
use crate::shm::atomic::{Ordering, fence};

/// Buckets that a writer moves besides those of its key.
const SHARE: u64 = 8;

/// A split that a writer has entered: old chunk and children are pinned.
pub(super) struct Split<'a> {
    parent: ChunkId,
    entry: Entry,
    index: u64,
    pub children: [ChunkId; 2],
    /// The child of the writer's key.
    pub child: ChunkId,
    /// Whether all buckets were given out to helpers: then somebody must finish, who may be dead.
    pub exhausted: bool,
    _pins: [Guard<'a>; 3],
}

impl Table {
    /// Enters the split of the index chunk of `hash`, if there is one, and moves the buckets of that hash.
    #[cold]
    pub(super) fn enter_split<'a>(&self, me: Actor<'a>, hash: u64) -> Result<Option<Split<'a>>> {
        let (index, entry) = self.entry(hash)?;
        self.index_span(entry)?;
        let parent = ChunkId(entry.chunk() as u32);
        let pin = Guard::pin(me, parent)?;
        // ORDER Acquire [index-split]: the children were zeroed before they were named.
        let named = self.pool.descriptor(parent)?.u64::<{ at::SPLIT }>().load(Ordering::Acquire);
        let (left, right) = unpair(named);
        if named == 0 || entry.depth() >= self.bits {
            return Ok(None);
        }
        let children = [ChunkId(left), ChunkId(right)];
        let pins = [pin, Guard::pin(me, children[0])?, Guard::pin(me, children[1])?];
        // The second look of the pins: while the entry stands neither the chunk nor its children are retired.
        // ORDER Acquire [directory]: as in `Table::entry`.
        if self.directory_word(index)?.load(Ordering::Acquire) != entry.0 {
            return Ok(None);
        }
        for child in children {
            self.pool.settle(me, child)?;
        }
        let child = children[(hash >> (63 - entry.depth()) & 1) as usize];
        let mut split = Split { parent, entry, index, children, child, exhausted: false, _pins: pins };
        for number in self.shape.candidates(hash) {
            self.migrate(&split, number)?;
        }
        split.exhausted = self.share_work(&split, SHARE)?;
        Ok(Some(split))
    }

    /// Moves up to `count` buckets that nobody has claimed yet.
    fn share_work(&self, split: &Split<'_>, count: u64) -> Result<bool> {
        let cursor = self.pool.descriptor(split.parent)?.u64::<{ at::CURSOR }>();
        for _ in 0..count {
            // ORDER Relaxed: only a hint who does what; `finish_split` looks at every bucket.
            let number = cursor.fetch_add(1, Ordering::Relaxed);
            if number >= self.shape.buckets {
                return Ok(true);
            }
            self.migrate(split, number)?;
        }
        Ok(false)
    }

    /// Starts the split of the index chunk of `hash` and carries it through.
    #[cold]
    pub(super) fn split(&self, me: Actor<'_>, hash: u64) -> Result<()> {
        self.begin_split(me, hash)?;
        match self.enter_split(me, hash)? {
            Some(split) => self.finish_split(split),
            None => Ok(()),
        }
    }

    /// Makes place for a key that found none: carries a split on that has begun, or divides the index chunk. A cache that evicts
    /// gives up another entry instead if no chunk can be had for it, or the chunk is not so full that it is worth dividing.
    #[cold]
    pub(super) fn make_slot(&self, me: Actor<'_>, hash: u64) -> Result<()> {
        let (_, entry) = self.entry(hash)?;
        let descriptor = self.pool.descriptor(ChunkId(entry.chunk() as u32))?;
        // ORDER Relaxed: only what is tried first.
        let begun = descriptor.u64::<{ at::SPLIT }>().load(Ordering::Relaxed) != 0;
        if self.evicts && !begun && !self.is_crowded(entry)? && self.evict_slot(me, hash)? {
            return Ok(());
        }
        match self.split(me, hash) {
            Err(error) if self.evicts && error.code() == ErrorCode::Full => {
                if self.evict_slot(me, hash)? {
                    Ok(())
                } else {
                    Err(error)
                }
            }
            done => done,
        }
    }

    /// Whether most slots of an index chunk are taken, as a sample of its buckets shows.
    fn is_crowded(&self, entry: Entry) -> Result<bool> {
        const SAMPLE: u64 = 64;
        let span = self.index_span(entry)?;
        let (mut taken, mut all) = (0, 0);
        for number in (0..self.shape.homes).step_by((self.shape.homes / SAMPLE).max(1) as usize) {
            let bucket = bucket_of(span, number)?;
            for slot in 0..SLOT_COUNT {
                // ORDER Relaxed: an estimate.
                let word = Slot(bucket.u64_at::<0>(slot).load(Ordering::Relaxed));
                taken += usize::from(word.kind() == SlotKind::Record);
                all += 1;
            }
        }
        Ok(taken * 2 >= all)
    }

    /// Names two new chunks as children of the index chunk of `hash`, unless it has some.
    pub(super) fn begin_split(&self, me: Actor<'_>, hash: u64) -> Result<()> {
        let (index, entry) = self.entry(hash)?;
        self.index_span(entry)?;
        let chunk = ChunkId(entry.chunk() as u32);
        if entry.depth() >= self.bits {
            return Err(Error::new(
                ErrorCode::Full,
                format!("The index of object {} cannot be divided further.", self.object),
            ));
        }
        let descriptor = self.pool.descriptor(chunk)?;
        // ORDER Relaxed: only whether to allocate; the compare-and-swap decides.
        if descriptor.u64::<{ at::SPLIT }>().load(Ordering::Relaxed) == 0 {
            let children = self.new_children(me, chunk)?;
            let pin = Guard::pin(me, chunk)?;
            // ORDER Acquire [directory]: the second look of the pin.
            let still = self.directory_word(index)?.load(Ordering::Acquire) == entry.0;
            if still {
                self.claim_range(index, entry)?;
            }
            let named = pair(children[0].0, children[1].0);
            kill_point!("table.split.before_start");
            // DIES BEFORE: two open chunks that no split names: freed by the reaper. DIES AFTER: the split has begun: the next
            // writer goes on, the reaper settles the children.
            // ORDER AcqRel [index-split]: releases the zeroed children.
            let started = still
                && descriptor
                    .u64::<{ at::SPLIT }>()
                    .compare_exchange(0, named, Ordering::AcqRel, Ordering::Relaxed)
                    .is_ok();
            kill_point!("table.split.started");
            drop(pin);
            if !started {
                for child in children {
                    self.pool.release(me, child)?;
                }
            }
        }
        Ok(())
    }

    /// Two zeroed chunks, which only the caller can reach.
    fn new_children(&self, me: Actor<'_>, parent: ChunkId) -> Result<[ChunkId; 2]> {
        let left = self.new_child(me)?;
        let right = match self.new_child(me) {
            Ok(right) => right,
            Err(error) => {
                self.pool.release(me, left)?;
                return Err(error);
            }
        };
        let generation = self.pool.state(parent)?.generation();
        for child in [left, right] {
            self.pool.span(child)?.zero(0, self.shape.buckets * BUCKET_BYTES)?;
            // ORDER Relaxed: released by the compare-and-swap that names the children.
            let word = self.pool.descriptor(child)?.u64::<{ at::PARENT }>();
            word.store(pair(parent.0, generation), Ordering::Relaxed);
        }
        Ok([left, right])
    }

    fn new_child(&self, me: Actor<'_>) -> Result<ChunkId> {
        if !self.evicts {
            return self.pool.allocate(me, Class::Buckets, self.object, Need::Growth);
        }
        self.index_chunk_by_evicting(me)?.ok_or_else(|| {
            Error::new(ErrorCode::Full, format!("Object {} finds no chunk for its index.", self.object))
        })
    }

    /// Makes sure that no directory entry of the chunk's range still names the chunk that it was split from: a chunk may
    /// only be split when its own parent can no longer be reached.
    fn claim_range(&self, index: u64, entry: Entry) -> Result<()> {
        for index in self.range(index, entry) {
            let word = self.directory_word(index)?;
            // ORDER Acquire [directory]: as in `Table::entry`.
            let seen = Entry(word.load(Ordering::Acquire));
            if seen != entry && seen.in_use() && seen.depth() < entry.depth() {
                // ORDER AcqRel [directory]: all of the parent's buckets were moved before the first entry was swung.
                let _ = word.compare_exchange(seen.0, entry.0, Ordering::AcqRel, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// Directory entries that share an index chunk.
    pub(super) fn range(&self, index: u64, entry: Entry) -> std::ops::Range<u64> {
        let count = 1u64 << self.bits.saturating_sub(entry.depth());
        let first = index / count * count;
        first..first + count
    }

    /// Moves what is left, swings the directory, retires the old chunk.
    #[cold]
    pub(super) fn finish_split(&self, split: Split<'_>) -> Result<()> {
        self.share_work(&split, self.shape.buckets)?;
        // Buckets whose helper was stopped or killed.
        for number in 0..self.shape.buckets {
            self.migrate(&split, number)?;
        }
        kill_point!("table.split.migrated");
        let entry = split.entry;
        let range = self.range(split.index, entry);
        let half = range.start + (range.end - range.start) / 2;
        for index in range {
            let child = split.children[usize::from(index >= half)];
            let generation = self.pool.state(child)?.generation();
            let next = Entry::new(child.0, generation, entry.depth() + 1);
            kill_point!("table.split.before_swing");
            // ORDER AcqRel [directory]: releases everything moved into the child.
            let _ = self.directory_word(index)?.compare_exchange(
                entry.0,
                next.0,
                Ordering::AcqRel,
                Ordering::Relaxed,
            );
        }
        // DIES BEFORE: the old chunk is in use and unreachable: `table::inherit` retires it.
        kill_point!("table.split.swung");
        let (parent, state) = (split.parent, self.pool.state(split.parent)?);
        drop(split);
        if state.is(Kind::Index) && state.generation() & 0xf_ffff == entry.generation() {
            self.pool.retire_buckets(parent, state)?;
        }
        Ok(())
    }

    /// Moves one bucket to the children. Done by as many as like, whenever.
    fn migrate(&self, split: &Split<'_>, number: u64) -> Result<()> {
        let old = bucket_of(self.pool.span(split.parent)?, number)?;
        // ORDER Acquire [migrated]: the children have everything of the bucket.
        if old.u8::<{ bucket::FLAGS }>().load(Ordering::Acquire) & MIGRATED != 0 {
            return Ok(());
        }
        let spans = [self.pool.span(split.children[0])?, self.pool.span(split.children[1])?];
        let buckets = [bucket_of(spans[0], number)?, bucket_of(spans[1], number)?];
        let mut scratch = Vec::new();
        for slot_number in 0..SLOT_COUNT {
            let slot = old.u64_at::<0>(slot_number);
            let mut word;
            loop {
                // ORDER Acquire [slot]: the record that the word names is whole.
                word = Slot(slot.load(Ordering::Acquire));
                if word.kind() == SlotKind::Frozen {
                    break;
                }
                kill_point!("table.split.before_freeze");
                // ORDER AcqRel [slot]: who sees the frozen slot sees the split.
                let frozen =
                    slot.compare_exchange(word.0, word.freeze().0, Ordering::AcqRel, Ordering::Relaxed);
                if frozen.is_ok() {
                    word = word.freeze();
                    break;
                }
            }
            kill_point!("table.split.frozen");
            if word.offset() != 0 {
                self.migrate_slot(split, buckets, spans, number, slot_number, word, &mut scratch)?;
            }
        }
        kill_point!("table.split.before_migrated");
        // ORDER Release [migrated]: pairs with the load above.
        old.u8::<{ bucket::FLAGS }>().fetch_or(MIGRATED, Ordering::Release);
        Ok(())
    }

    #[allow(clippy::too_many_arguments)]
    fn migrate_slot(
        &self,
        split: &Split<'_>,
        buckets: [Bucket<'_>; 2],
        spans: [Span<'_>; 2],
        number: u64,
        slot_number: usize,
        word: Slot,
        scratch: &mut Vec<u8>,
    ) -> Result<()> {
        let targets = buckets.map(|bucket| bucket.u64_at::<0>(slot_number));
        let hash = record::head_at(self.pool.shm(), word.offset())
            .and_then(|head| self.hash_of_record(word.offset(), &head, scratch));
        // As long as the children's slots are virgin nobody has moved the entry, so nobody has replaced it there, and the
        // record that was read is what the slot names.
        // ORDER Acquire [chunk-reuse]: a byte of a later use of the record's chunk would show the slot as used.
        fence(Ordering::Acquire);
        if targets.iter().any(|slot| slot.load(Ordering::Relaxed) != Slot::VIRGIN.0) {
            return Ok(());
        }
        let hash = hash?;
        let side = (hash >> (63 - split.entry.depth()) & 1) as usize;
        // The marks that lead a reader here come before the entry, in the child as they did in the parent.
        let home_number = self.shape.home(hash);
        if home_number != number {
            let home = bucket_of(spans[side], home_number)?;
            // ORDER Relaxed: ordered before the slot by its Release.
            if number >= self.shape.homes {
                home.u8::<{ bucket::FLAGS }>().fetch_or(IN_STASH, Ordering::Relaxed);
            } else {
                home.u8::<{ bucket::OVERFLOW }>().store(1, Ordering::Relaxed);
            }
        }
        kill_point!("table.split.before_move");
        let next = Slot::VIRGIN.publish(tag_of(hash), word.offset());
        // ORDER AcqRel [slot]: as every publication. A failure means that another helper did it.
        let moved =
            targets[side].compare_exchange(Slot::VIRGIN.0, next.0, Ordering::AcqRel, Ordering::Relaxed);
        if moved.is_ok() && self.evicts {
            let old = bucket_of(self.pool.span(split.parent)?, number)?;
            set_frequency(buckets[side], slot_number, frequency(old, slot_number));
        }
        kill_point!("table.split.moved");
        Ok(())
    }
}
