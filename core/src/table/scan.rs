//! All entries, a few at a time.
//!
//! The order is by bucket number first, then by directory. A split moves an entry to another chunk, but never to another
//! bucket number: so an entry that stays in the table is given exactly once, however the table grows meanwhile.

use super::decide::Counts;
use super::layout::{Entry, SLOT_COUNT, bucket_of};
use super::slot::{Slot, SlotKind};
use super::snapshot::Seen;
use super::{KeyState, Table, View, too_many_tries};
use crate::chunk::Actor;
use crate::chunk::record::{self, Head};
use crate::error::Result;
use crate::shm::atomic::{AtomicU64, Ordering, fence};

/// Bits of a cursor for the directory index.
const INDEX_BITS: u32 = 32;

/// A snapshot, and who reads it.
#[derive(Clone, Copy)]
pub(super) struct Viewed<'a> {
    pub me: Actor<'a>,
    pub view: &'a View,
}

impl Table {
    /// Gives at least one and about `limit` entries, beginning at `cursor` (0 at first); returns the next cursor, 0 at the
    /// end. The function gets key, header and value.
    pub fn scan(
        &self,
        cursor: u64,
        limit: usize,
        mut visit: impl FnMut(&[u8], &Head, &[u8]) -> Result<()>,
    ) -> Result<u64> {
        self.scan_records(cursor, limit, None, &mut |record| {
            let head = &record.head;
            let over = head.expiry != 0 && head.expiry <= self.now_ms();
            if !head.is_tombstone() && !over && !self.is_flushed(head, record.offset) {
                visit(&record.key, head, &record.value)?;
            }
            Ok(())
        })
    }

    /// All states of a store, tombstones and expired entries included, in the buckets whose numbers are wanted. A key stays in its bucket
    /// as long as it is in the table.
    pub fn each_state_in(
        &self,
        wanted: &dyn Fn(u64) -> bool,
        visit: &mut dyn FnMut(&[u8], &[u8], &KeyState) -> Result<()>,
    ) -> Result<()> {
        let mut entries = Vec::new();
        for number in (0..self.shape.buckets).filter(|number| wanted(*number)) {
            let mut index = 0;
            while index < 1 << self.bits {
                index = self.collect_bucket(number, index, None, &mut entries)?;
                for record in &entries {
                    let state = KeyState::new(record.offset, &record.head, record.order);
                    visit(&record.key, &record.value, &state)?;
                }
            }
        }
        Ok(())
    }

    /// Buckets of an index chunk: their numbers are below this.
    pub fn bucket_count(&self) -> u64 {
        self.shape.buckets
    }

    /// All records that count, or those that a snapshot sees.
    pub(super) fn scan_records(
        &self,
        cursor: u64,
        limit: usize,
        viewed: Option<Viewed<'_>>,
        visit: &mut dyn FnMut(&Copied) -> Result<()>,
    ) -> Result<u64> {
        let start = cursor.saturating_sub(1);
        let (mut number, mut index) = (start >> INDEX_BITS, start & ((1 << INDEX_BITS) - 1));
        let mut given = 0;
        let mut entries = Vec::new();
        while number < self.shape.buckets {
            while index < 1 << self.bits {
                if given >= limit.max(1) {
                    return Ok((number << INDEX_BITS | index) + 1);
                }
                index = self.collect_bucket(number, index, viewed, &mut entries)?;
                if let Some(viewed) = viewed {
                    self.check_view(viewed.view)?;
                }
                given += entries.len();
                for record in &entries {
                    visit(record)?;
                }
            }
            index = 0;
            number += 1;
        }
        Ok(0)
    }

    /// Collects the entries of one bucket and returns the directory index behind its chunk.
    fn collect_bucket(
        &self,
        number: u64,
        index: u64,
        viewed: Option<Viewed<'_>>,
        entries: &mut Vec<Copied>,
    ) -> Result<u64> {
        for _ in 0..1000 {
            entries.clear();
            // ORDER Acquire [directory]: as in `Table::entry`.
            let entry = Entry(self.directory_word(index)?.load(Ordering::Acquire));
            let bucket = bucket_of(self.index_span(entry)?, number)?;
            let mut children = Vec::new();
            for hash in [0u64, 1 << 63 >> entry.depth()] {
                if let Some(child) = self.child_of(entry, hash)? {
                    children.push(bucket_of(self.pool.span(child)?, number)?);
                }
            }
            let mut outcome = Ok(());
            for slot_number in 0..SLOT_COUNT {
                let in_children: Vec<_> =
                    children.iter().map(|child| child.u64_at::<0>(slot_number)).collect();
                let slot = bucket.u64_at::<0>(slot_number);
                outcome = outcome.and(self.collect_slot(slot, &in_children, viewed, entries));
            }
            // ORDER Acquire [chunk-reuse]: if the index chunk was reused, the entry is seen to have changed.
            fence(Ordering::Acquire);
            // ORDER Relaxed: ordered by the fence.
            if self.directory_word(index)?.load(Ordering::Relaxed) == entry.0 {
                outcome?;
                let range = self.range(index, entry);
                // While a split swings the directory, the child of the lower half stands there already and the divided chunk
                // still behind it: what the child gave is not given again.
                if index > range.start {
                    entries.retain(|record| self.hasher.hash(&record.key) >> self.shift >= index);
                }
                return Ok(range.end);
            }
        }
        Err(too_many_tries("Scanning a bucket"))
    }

    /// Collects the entry of one slot: from the slot itself, or from the child that it was moved to.
    fn collect_slot(
        &self,
        old: &AtomicU64,
        children: &[&AtomicU64],
        viewed: Option<Viewed<'_>>,
        entries: &mut Vec<Copied>,
    ) -> Result<()> {
        for _ in 0..1000 {
            // ORDER Acquire [slot]: as for readers.
            let old_word = Slot(old.load(Ordering::Acquire));
            let moved = children.iter().find_map(|slot| {
                let word = Slot(slot.load(Ordering::Acquire));
                (word != Slot::VIRGIN).then_some((*slot, word))
            });
            let (slot, word) = moved.unwrap_or((old, old_word));
            if word.kind() == SlotKind::Empty || word.offset() == 0 {
                return Ok(());
            }
            if let Some(Viewed { me, view }) = viewed {
                // What is frozen stays as it is for ever: it counts as long as no child has it.
                let still = || {
                    // ORDER Acquire [slot]: what was done before it changed.
                    let same = slot.load(Ordering::Acquire) == word.0;
                    let unmoved =
                        || children.iter().all(|slot| slot.load(Ordering::Acquire) == Slot::VIRGIN.0);
                    same && (moved.is_some() || unmoved())
                };
                match self.state_in(me, view, &still, word.offset())? {
                    Seen::At(offset) => entries.push(self.copy_record(offset)?),
                    Seen::Nothing => {}
                    Seen::Again => continue,
                }
                return Ok(());
            }
            let counts = self.what_counts(slot, if moved.is_some() { word } else { old_word }, word.offset());
            let copied = counts.and_then(|counts| {
                let copied = match counts {
                    Counts::This => self.copy_record(word.offset()).map(Some),
                    Counts::Before { offset: 0, .. } => Ok(None),
                    Counts::Before { offset, .. } => self.copy_record(offset).map(Some),
                    Counts::Again => Ok(None),
                };
                copied.map(|copied| (copied, counts))
            });
            // ORDER Acquire [chunk-reuse]: as in `read_record`.
            fence(Ordering::Acquire);
            // ORDER Relaxed: ordered by the fence.
            let virgin =
                moved.is_some() || children.iter().all(|slot| slot.load(Ordering::Relaxed) == Slot::VIRGIN.0);
            if virgin && slot.load(Ordering::Relaxed) == word.0 {
                let (copied, counts) = copied?;
                if counts.stand() {
                    entries.extend(copied);
                    return Ok(());
                }
            }
        }
        Err(too_many_tries("Scanning an entry"))
    }

    fn copy_record(&self, offset: u64) -> Result<Copied> {
        let shm = self.pool.shm();
        let head = record::head_at(shm, offset)?;
        // Both lie in the segment before memory is taken for them.
        let key_bytes = record::key_span(shm, offset, self.header, &head)?;
        let value_bytes = record::value_span(shm, offset, self.header, &head)?;
        let mut key = vec![0; head.key_len as usize];
        key_bytes.copy_out(0, &mut key)?;
        let mut value = vec![0; head.value_len as usize];
        value_bytes.copy_out(0, &mut value)?;
        let order = if self.class.has_stamps() { self.order_at(offset)? } else { 0 };
        Ok(Copied { key, head, value, offset, order })
    }
}

/// A record, copied.
pub(super) struct Copied {
    pub key: Vec<u8>,
    pub head: Head,
    pub value: Vec<u8>,
    offset: u64,
    order: u64,
}
