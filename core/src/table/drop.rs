//! Taking an entry out although nobody asked for it: it has expired, was flushed, or is evicted. Who cleans, who evicts and who looks
//! for what has expired all do it here.

use super::evict::Owner;
use super::{Count, EventKind, Table};
use crate::chunk::record::{self, Head};
use crate::chunk::{Actor, Walked};
use crate::error::Result;
use crate::shm::atomic::Ordering;

/// Why an entry left the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// It had expired, or was flushed.
    Expired,
    /// There was no room for it among the young ones.
    Young,
    /// There was no room for it among the old ones.
    Old,
    /// Its bucket was full.
    Crowded,
}

impl Table {
    /// Unlinks a live record, counts and tells it; answers whether an entry is gone by that. `None` if somebody changed the slot.
    pub(super) fn drop_record(
        &self,
        me: Actor<'_>,
        walked: &Walked,
        hash: u64,
        owner: &Owner<'_>,
        gone: Gone,
    ) -> Result<Option<bool>> {
        let (head, offset) = (&walked.head, walked.offset);
        let dead = self.dead_token(offset)?;
        let small = self.is_young(offset)?;
        // The header may have been of an earlier use of the chunk: read again under the word that the swap expects.
        if !self.still_is(offset, head)? {
            // ORDER Acquire [slot]: as for readers.
            let changed = owner.slot.load(Ordering::Acquire) != owner.word.0;
            return Ok(if changed { None } else { Some(false) });
        }
        // Read before the record is gone: only then it is certain to be its key.
        let mut key = Vec::new();
        if self.events {
            key.resize(head.key_len as usize, 0);
            record::key_span(self.pool.shm(), offset, self.header, head)?.copy_out(0, &mut key)?;
        }
        let leaving = self.key_to_note(offset, head)?;
        self.note_leaving(offset)?;
        kill_point!("table.drop.before");
        // DIES BEFORE: nothing happened. DIES AFTER: the entry is gone; its bytes are not counted dead, it is no ghost.
        // ORDER AcqRel [slot]: as every unlinking.
        let next = owner.word.unlink();
        if owner.slot.compare_exchange(owner.word.0, next.0, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return Ok(None);
        }
        kill_point!("table.drop.after");
        self.pool.add_dead(dead.0, dead.1, walked.bytes)?;
        let entries = -i64::from(!head.is_tombstone());
        self.count_record(me, head, offset, -(walked.bytes as i64), entries);
        self.count_small(-i64::from(small));
        self.forget_later(leaving);
        if head.is_tombstone() {
            return Ok(Some(false));
        }
        if gone == Gone::Expired || self.is_flushed(head, offset) {
            self.note_hidden(me, head, offset, &key);
        } else {
            if gone == Gone::Young {
                self.put_ghost(hash)?;
            }
            self.note_evicted(me, walked, gone, &key);
        }
        Ok(Some(true))
    }

    /// Unlinks a record that nobody is shown any more, if it is still linked. False: what no transaction has decided yet, or what
    /// stands behind that, or a snapshot needs, is left to the next round.
    pub(super) fn drop_hidden(&self, me: Actor<'_>, walked: &Walked, hash: u64) -> Result<bool> {
        let (_, entry) = self.entry(hash)?;
        let span = self.index_span(entry)?;
        let (Some(owner), _) = self.slot_of(span, hash, walked.offset)? else {
            return Ok(!self.is_shielded(me, span, hash, walked.offset)?);
        };
        if !self.settle_owner(me, &owner)? {
            return Ok(false);
        }
        if self.is_needed_by_views(walked.offset, &walked.head)? {
            return Ok(false);
        }
        self.drop_record(me, walked, hash, &owner, Gone::Expired)?;
        Ok(true)
    }

    /// An entry that had expired or was flushed has left its slot: counts it, and tells that it has expired. Flushing was told.
    pub(super) fn note_hidden(&self, me: Actor<'_>, head: &Head, offset: u64, key: &[u8]) {
        if self.is_flushed(head, offset) {
            self.note(me.index, Count::Flush, 1);
        } else {
            self.note(me.index, Count::Expire, 1);
            self.tell(EventKind::Expire, head.id, key);
        }
    }

    /// An entry was evicted: counts it, and tells it.
    fn note_evicted(&self, me: Actor<'_>, walked: &Walked, gone: Gone, key: &[u8]) {
        let count = if gone == Gone::Young { Count::EvictSmall } else { Count::EvictMain };
        self.note(me.index, count, 1);
        let age = self.now_ms().saturating_sub(self.pool.opened_ms(walked.offset));
        self.note_evicted_age(count == Count::EvictMain, age);
        self.tell(EventKind::Evict, walked.head.id, key);
    }
}
