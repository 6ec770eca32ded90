//! Emptying a cache at one moment: every record that was appended before is gone.
//!
//! Chunks get unique, growing numbers when they are opened, and a record's id begins with the number of the chunk that it was
//! first written to. A flush draws the next number and stores it, as the lowest id that is not gone, in one word: that store
//! is the moment. Moving a record keeps its id, so what is moved stays gone.
//!
//! Two things make it exact. A writer that decided after it saw the word appends only to a chunk with a higher number; who
//! decided before was earlier. And no chunk may get a higher number, and records that others see, before the word is stored:
//! so a flush first marks the word as *pending*, then draws the number; whoever opens a chunk after that sees the mark, and
//! completes the flush before it appends. The mark of a dead flusher is completed by the next writer; readers do not mind it.
//!
//! A transaction that is under way is aborted by a flush between the mark and the number: its states are older than the flush, and
//! must not be gone already when it commits.
//!
//! Counts of entries and live bytes stand in two sets, one for what is there and one for what is gone and not yet unlinked;
//! a flush exchanges their roles.

use super::layout::control;
use super::{EventKind, Table, too_many_tries};
use crate::chunk::layout::{Dead, at};
use crate::chunk::record::{self, GIVEN, Head};
use crate::chunk::{Actor, ChunkId, Kind};
use crate::error::Result;
use crate::shm::atomic::{AtomicU64, Ordering};

/// Mark of the word: a flush has begun and is not done.
const PENDING: u64 = 1;
/// Says which set of counts is that of what is there.
const PARITY: u64 = 2;
/// Bits of an id below the number of its chunk.
const NUMBER_SHIFT: u32 = 20;
/// Rounds of a loop: each lost one is the flush of somebody else.
const TRIES: u32 = 10_000;

const _: () = assert!(PENDING + PARITY < 16, "ids of one chunk differ by more than the marks");

/// The word as a writer saw it before it decided: it appends only to chunks that are younger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Epoch(u64);

impl Epoch {
    /// Whether records of a chunk with this number are gone.
    #[inline]
    pub fn is_over(self, number: u64) -> bool {
        number << NUMBER_SHIFT < self.0 & !(PENDING | PARITY)
    }

    /// Whether a record with this id is gone.
    #[inline]
    pub fn has_ended(self, id: u64) -> bool {
        id < self.0 & !(PENDING | PARITY)
    }
}

impl Table {
    #[inline(always)]
    fn flush_word(&self) -> &AtomicU64 {
        let block = self.shm.view::<8>(self.control + control::FLUSH as u64);
        block.expect("checked when the table was opened").u64::<0>()
    }

    /// Whether a record was flushed. Behind the load of the slot that names it.
    #[inline(always)]
    pub(super) fn is_flushed(&self, head: &Head, offset: u64) -> bool {
        // ORDER Relaxed: whoever published the record had seen the word as it was then or newer, and the slot was loaded with
        // Acquire, so this is not older.
        let word = self.flush_word().load(Ordering::Relaxed);
        // Ids begin with a number that is not 0: of a cache that was never flushed none is lower.
        if head.id >= word && head.flags & GIVEN == 0 {
            return false;
        }
        self.is_flushed_by(Epoch(word), head, offset)
    }

    /// As [`Table::is_flushed`], as of the time when the word was looked at.
    #[inline(always)]
    pub(super) fn was_flushed(&self, epoch: Epoch, head: &Head, offset: u64) -> bool {
        (head.id < epoch.0 || head.flags & GIVEN != 0) && self.is_flushed_by(epoch, head, offset)
    }

    /// Whether what is appended to a chunk would be gone at once.
    #[inline]
    pub(super) fn is_flushed_chunk(&self, chunk: ChunkId) -> Result<bool> {
        // ORDER Relaxed: who appends looks again behind its decision.
        let word = self.flush_word().load(Ordering::Relaxed);
        Ok(word != 0 && Epoch(word).is_over(self.number_of(chunk)?))
    }

    /// The lowest number of a chunk that may still be filled.
    pub(super) fn lowest_number(&self) -> Result<u64> {
        Ok(self.epoch()?.0 >> NUMBER_SHIFT)
    }

    #[cold]
    #[inline(never)]
    fn is_flushed_by(&self, epoch: Epoch, head: &Head, offset: u64) -> bool {
        if head.flags & GIVEN == 0 {
            return epoch.has_ended(head.id);
        }
        // The id says nothing: the number of the chunk does. Such records are moved only to chunks that are young enough.
        let chunk = self.pool.geometry().chunk_of(offset);
        chunk.and_then(|chunk| self.number_of(chunk).ok()).is_none_or(|number| epoch.is_over(number))
    }

    /// The number of a chunk.
    pub(super) fn number_of(&self, chunk: ChunkId) -> Result<u64> {
        // ORDER Relaxed: written before the chunk got a record that anybody could have found.
        Ok(self.pool.descriptor(chunk)?.u64::<{ at::SEQ }>().load(Ordering::Relaxed))
    }

    /// What a writer must know before it decides, behind its load of the slot. Completes a flush that has begun.
    #[inline]
    pub(super) fn epoch(&self) -> Result<Epoch> {
        // ORDER Acquire [flush]: behind the slot, and before the chunk is chosen.
        let word = self.flush_word().load(Ordering::Acquire);
        if word & PENDING == 0 { Ok(Epoch(word)) } else { self.complete_flush(word) }
    }

    /// The word for the common case; `None` while a flush is pending.
    #[inline(always)]
    pub(super) fn quiet_epoch(&self) -> Option<Epoch> {
        // ORDER Acquire [flush]: as in `epoch`.
        let word = self.flush_word().load(Ordering::Acquire);
        (word & PENDING == 0).then_some(Epoch(word))
    }

    /// Whether the word is still as it was. Asked after a chunk was opened.
    #[inline]
    pub(super) fn is_epoch(&self, epoch: Epoch) -> bool {
        // ORDER Acquire [flush]: the number of the chunk was drawn before: one drawn after that of a flush sees its mark.
        self.flush_word().load(Ordering::Acquire) == epoch.0
    }

    /// Which set of counts a record belongs to.
    #[inline]
    pub(super) fn parity_of(&self, head: &Head, offset: u64) -> usize {
        // One look: a flush in between would exchange the sets.
        // ORDER Relaxed: an older word gives the same set, as long as only one flush came since.
        let word = self.flush_word().load(Ordering::Relaxed);
        usize::from(word & PARITY != 0) ^ usize::from(self.was_flushed(Epoch(word), head, offset))
    }

    /// The set of counts of what is there.
    #[inline]
    pub(super) fn parity(&self) -> usize {
        Table::set_of(self.settled_flush())
    }

    /// The word without the mark of a flush that is not done yet.
    pub(super) fn settled_flush(&self) -> u64 {
        // ORDER Relaxed: only which count is changed.
        self.flush_word().load(Ordering::Relaxed) & !PENDING
    }

    /// The set of counts of what is there, when that was the word.
    pub(super) fn set_of(flush: u64) -> usize {
        usize::from(flush & PARITY != 0)
    }

    /// Makes everything gone that is there.
    pub fn flush(&self, me: Actor<'_>) -> Result<()> {
        debug_assert!(self.class.is_cache());
        let word = self.flush_word();
        for _ in 0..TRIES {
            // ORDER Acquire [flush]: as in `epoch`.
            let seen = word.load(Ordering::Acquire);
            if seen & PENDING == 0 {
                kill_point!("table.flush.before_pending");
                // DIES BEFORE: nothing happened. DIES AFTER: the next writer completes it.
                // ORDER AcqRel [flush]: before the number is drawn; pairs with `is_epoch`.
                if word.compare_exchange(seen, seen | PENDING, Ordering::AcqRel, Ordering::Relaxed).is_err() {
                    continue;
                }
                kill_point!("table.flush.pending");
            }
            self.complete_flush(seen | PENDING)?;
            self.tell(EventKind::Flush, 0, b"");
            return self.reclaim_flushed(me);
        }
        Err(too_many_tries("Emptying a cache"))
    }

    /// Draws the number of a flush that has begun, and stores it, unless somebody else did.
    #[cold]
    #[inline(never)]
    fn complete_flush(&self, pending: u64) -> Result<Epoch> {
        // What transactions have put in place would be gone the moment they commit. Who begins from now on completes this flush first.
        if self.class.has_stamps() {
            self.abort_all()?;
        }
        let number = self.pool.next_number();
        // What an earlier flush left and nobody has unlinked yet joins what this one leaves.
        let old = usize::from(pending & PARITY != 0);
        let left = self.sums_of(1 - old);
        let next = number << NUMBER_SHIFT | (pending & PARITY ^ PARITY);
        // Who unlinks what is gone just now may count it where the other set is by then, and who is stopped before it has moved
        // the counts moves them late: they are taken anew.
        let leaves = left != [0, 0];
        if leaves {
            self.note_death();
        }
        kill_point!("table.flush.before_done");
        // DIES BEFORE: the next writer completes it. DIES AFTER: everything is gone; counts are taken anew after the death.
        // ORDER AcqRel [flush]: this is the moment of the flush.
        match self.flush_word().compare_exchange(pending, next, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => {
                kill_point!("table.flush.done");
                self.move_counts(1 - old, old, left);
                if leaves {
                    self.note_death();
                }
                Ok(Epoch(next))
            }
            Err(now) if now & PENDING == 0 => Ok(Epoch(now)),
            // Done by somebody, and begun again since: the caller looks again.
            Err(now) => Ok(Epoch(now & !PENDING)),
        }
    }

    /// Lets cleaners know which chunks hold only what is gone, and gives back long records at once.
    fn reclaim_flushed(&self, me: Actor<'_>) -> Result<()> {
        let epoch = self.epoch()?;
        for chunk in self.pool.used_chunks() {
            let state = self.pool.state(chunk)?;
            let descriptor = self.pool.descriptor(chunk)?;
            // ORDER Relaxed: a hint for cleaners, valid for one generation.
            let dead = Dead(descriptor.u64::<{ at::DEAD }>().load(Ordering::Relaxed));
            let of_table = self.holds_records(state)
                && descriptor.u32::<{ at::OBJECT }>().load(Ordering::Relaxed) == self.object;
            if !of_table || dead.generation() != state.generation() || !epoch.is_over(self.number_of(chunk)?)
            {
                continue;
            }
            if state.is(Kind::RunHead) {
                self.drop_flushed_run(me, chunk)?;
            } else {
                let all = Dead::estimated(state.generation(), self.pool.tail(chunk)? as u32);
                // ORDER Relaxed: as above; a failure means that somebody counted a record.
                let _ = descriptor.u64::<{ at::DEAD }>().compare_exchange(
                    dead.0,
                    all.0,
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                );
            }
        }
        Ok(())
    }

    fn drop_flushed_run(&self, me: Actor<'_>, first: ChunkId) -> Result<()> {
        let Ok(mut walk) = self.pool.walk(first, self.header, 0) else { return Ok(()) };
        // A run that is reused meanwhile may look damaged; what is unlinked is proved by its slot.
        if let Ok(Some(walked)) = walk.next()
            && self.is_flushed(&walked.head, walked.offset)
            && let Ok(hash) = self.hash_of_record(walked.offset, &walked.head, &mut Vec::new())
        {
            self.drop_hidden(me, &walked, hash)?;
        }
        Ok(())
    }

    /// Whether a lease stands for nobody any more: its owner is gone.
    pub(super) fn is_lost_lease(&self, offset: u64, head: &Head) -> Result<bool> {
        if !self.class.is_cache() || !head.is_tombstone() {
            return Ok(false);
        }
        let value = record::value_span(self.pool.shm(), offset, self.header, head)?;
        self.is_lease_of_gone(head, value)
    }
}
