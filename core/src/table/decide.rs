//! States whose transaction is not decided: what counts meanwhile, and how nobody waits for long.
//!
//! A transaction puts its states into the slots before it is decided; each names the state before it. Whoever meets one
//! looks at the decision. As long as the transaction is active, or was aborted, the state before counts. While it is being
//! proved nobody can say what counts: that takes microseconds, so one waits; for a transaction whose thread is dead, or
//! that takes a millisecond, the waiting aborts it. So a transaction whose owner was killed or stopped blocks nobody, and
//! what the owner still does when it wakes finds its decision changed.
//!
//! The state before an undecided one is kept by whoever cleans or evicts, who decides first: so its bytes stay as long as the slot
//! names the undecided one. Both are counted as live bytes until then. Where the number of entries is limited, a state that brings
//! one takes its place when it is put there, and is marked so.

use super::evict::Owner;
use super::layout::{SLOT_COUNT, bucket_of};
use super::lookup::Found;
use super::slot::{Slot, SlotKind, tag_of};
use super::stamp::{Decision, Phase, Reference, Stamp};
use super::{Count, EventKind, Table};
use crate::chunk::record::{self, EXTENDED_BYTES, Head, PLACED, at};
use crate::chunk::{Actor, Appended, ChunkId, Guard};
use crate::error::{Error, ErrorCode, Result};
use crate::shm::Span;
use crate::shm::atomic::{AtomicU64, Ordering, fence, spin_hint, yield_now};

/// A transaction that is being proved is left alone for so long.
#[cfg(not(memora_loom))]
const PATIENCE_NS: u64 = 1_000_000;
/// Looks at a decision before the time and the life of its thread are.
#[cfg(not(memora_loom))]
const LOOKS: u32 = 64;

/// Stands in place of the time in the decision about a transaction that aborted itself: its states were in the way of the room for
/// others of them.
const OWN_WAY: u64 = 1;

/// What counts of the record in a slot.
pub(super) enum Counts<'a> {
    This,
    /// The state before it, at this offset, 0 for none: as long as the decision stands.
    Before {
        offset: u64,
        decision: &'a AtomicU64,
        seen: Decision,
        stamp: &'a AtomicU64,
        reference: Reference,
    },
    /// It was being decided: look again.
    Again,
}

impl Counts<'_> {
    /// Whether it is still so. Behind an acquire fence, which comes behind what was read.
    #[inline]
    pub fn stand(&self) -> bool {
        match self {
            Counts::This => true,
            // The stamp too: the decision of a later transaction may look the same, and then this one is stamped, or gone.
            // ORDER Relaxed: ordered by the fence.
            Counts::Before { decision, seen, stamp, reference, .. } => {
                decision.load(Ordering::Relaxed) == seen.0 && stamp.load(Ordering::Relaxed) == reference.0
            }
            Counts::Again => false,
        }
    }
}

impl Table {
    /// Where the state before an undecided one stands; 0 for none.
    pub(super) fn before(&self, offset: u64) -> Result<u64> {
        let block = self.pool.shm().block::<{ EXTENDED_BYTES as usize }>(offset)?;
        // ORDER Relaxed: a field of a published record.
        Ok(block.u64::<{ at::PREV }>().load(Ordering::Relaxed))
    }

    /// The transaction that decides about a record, if it is not stamped yet.
    pub(super) fn undecided(&self, offset: u64) -> Result<Option<Reference>> {
        if !self.class.has_stamps() {
            return Ok(None);
        }
        // ORDER Acquire [stamp]: as in `what_counts`.
        Ok(match Stamp::of(self.stamp_word(offset)?.load(Ordering::Acquire)) {
            Stamp::Of(reference) => Some(reference),
            _ => None,
        })
    }

    /// Whether the record at `offset` is the state before that at `later`, which is not stamped yet: a transaction may take that
    /// back, and a snapshot that is taken before it gets its stamp goes behind it.
    pub(super) fn is_before(&self, offset: u64, later: u64) -> bool {
        let unstamped = || -> Result<bool> {
            // ORDER Acquire [stamp]: as in `what_counts`.
            let stamp = Stamp::of(self.stamp_word(later)?.load(Ordering::Acquire));
            Ok(!matches!(stamp, Stamp::Since(_)) && self.before(later)? == offset)
        };
        self.class.has_stamps() && unstamped().unwrap_or(false)
    }

    /// The record that the table's counts are about where a slot names the one at `offset`: that before it, or none, as long as it
    /// is not stamped by its transaction.
    pub(super) fn counted(&self, offset: u64) -> Result<Option<u64>> {
        match self.undecided(offset)? {
            Some(_) => Ok(Some(self.before(offset)?).filter(|before| *before != 0)),
            None => Ok(Some(offset)),
        }
    }

    /// The decision about a transaction that `stamp` was seen to name; `None` if it is over: its states are stamped, or gone.
    pub(super) fn decision_of(
        &self,
        stamp: &AtomicU64,
        reference: Reference,
    ) -> Result<Option<(&AtomicU64, Decision, Phase)>> {
        let word =
            self.pool.ground().transaction(reference.thread())?.u64::<{ super::intent::at::DECISION }>();
        // ORDER Acquire [decision]: everything that its thread put in place before.
        let seen = Decision(word.load(Ordering::Acquire));
        // The decision has only the lowest bits of the number, so that of a later transaction may seem to be about this one.
        // But whoever sees that sees that this one's states were stamped, or taken back, before.
        // ORDER Acquire [stamp]: behind the decision.
        if !seen.is_of(reference.number()) || stamp.load(Ordering::Acquire) != reference.0 {
            return Ok(None);
        }
        let phase = seen.phase().ok_or_else(|| damaged(reference))?;
        Ok((phase != Phase::None).then_some((word, seen, phase)))
    }

    /// What a reader takes of the record at `offset`, which `slot` named when it was loaded as `word`.
    #[inline]
    pub(super) fn what_counts(&self, slot: &AtomicU64, word: Slot, offset: u64) -> Result<Counts<'_>> {
        if !self.class.has_stamps() {
            return Ok(Counts::This);
        }
        // ORDER Acquire [stamp]: whoever stamped it saw what its writer had done before.
        let stamp = self.stamp_word(offset)?;
        match Stamp::of(stamp.load(Ordering::Acquire)) {
            Stamp::Since(_) => Ok(Counts::This),
            Stamp::Pending => {
                self.lend_stamp(slot, word, offset)?;
                Ok(Counts::This)
            }
            Stamp::Of(reference) => self.what_counts_of(stamp, reference, offset),
        }
    }

    #[cold]
    fn what_counts_of<'a>(
        &'a self,
        stamp: &'a AtomicU64,
        reference: Reference,
        offset: u64,
    ) -> Result<Counts<'a>> {
        let Some((decision, seen, phase)) = self.decision_of(stamp, reference)? else {
            return Ok(Counts::Again);
        };
        let decided = match phase {
            Phase::Committed => return Ok(Counts::This),
            Phase::Proving => self.outwait(reference, decision, seen),
            _ => false,
        };
        // Who only reads cannot abort it, and takes what certainly counted when it came.
        if phase == Phase::Proving && (decided || self.pool.shm().writable()) {
            return Ok(Counts::Again);
        }
        Ok(Counts::Before { offset: self.before(offset)?, decision, seen, stamp, reference })
    }

    /// Stamps a record for its writer, which may be dead: what a reader has seen counts from now on at the latest.
    #[cold]
    fn lend_stamp(&self, slot: &AtomicU64, word: Slot, offset: u64) -> Result<()> {
        if !self.pool.shm().writable() {
            return Ok(());
        }
        let Some(hands) = self.hands.get().and_then(std::sync::Weak::upgrade) else { return Ok(()) };
        let Some(chunk) = self.pool.geometry().chunk_of(offset) else { return Ok(()) };
        // Who has no entry reads on without: as who may not write.
        let Ok(me) = hands.actor() else { return Ok(()) };
        let _pin = Guard::pin(me, chunk)?;
        // ORDER Acquire [slot]: the second look of the pin.
        if slot.load(Ordering::Acquire) == word.0 {
            self.stamp(offset)?;
        }
        Ok(())
    }

    /// Waits until a transaction that was seen undecided moves on; aborts it if its thread is dead or it takes too long.
    /// False if it stands as it was.
    #[cold]
    pub(super) fn outwait(&self, reference: Reference, decision: &AtomicU64, seen: Decision) -> bool {
        #[cfg(not(memora_loom))]
        {
            let start = crate::shm::time::monotonic_ns();
            for look in 1u32.. {
                // ORDER Acquire [decision]: as in `decision_of`.
                if decision.load(Ordering::Acquire) != seen.0 {
                    return true;
                }
                if look.is_multiple_of(LOOKS) {
                    let waited = crate::shm::time::monotonic_ns().saturating_sub(start);
                    if waited >= PATIENCE_NS || self.pool.ground().thread_is_dead(reference.thread()) {
                        break;
                    }
                    yield_now();
                } else {
                    spin_hint();
                }
            }
        }
        if !self.pool.shm().writable() {
            return false;
        }
        let _ = reference;
        Table::abort(decision, seen, 0);
        true
    }

    /// Aborts a transaction that was seen undecided, unless that has changed. `why` is 0, or `OWN_WAY`.
    fn abort(decision: &AtomicU64, seen: Decision, why: u64) {
        kill_point!("table.decide.before_abort");
        // A failure means that it was decided, or that a flush set its earliest time.
        // ORDER AcqRel [decision]: as every decision.
        let _ = decision.compare_exchange(
            seen.0,
            seen.with(Phase::Aborted, why).0,
            Ordering::AcqRel,
            Ordering::Relaxed,
        );
        kill_point!("table.decide.aborted");
    }

    /// Whether the calling thread's transaction was aborted because its own states were all that could make room for the others.
    pub fn is_in_its_own_way(me: Actor<'_>) -> bool {
        // ORDER Relaxed: the caller has decided it, or has seen that it is decided.
        let seen = Decision(Table::word(me).load(Ordering::Relaxed));
        seen.phase() == Some(Phase::Aborted) && seen.time() == OWN_WAY
    }

    /// Aborts every transaction that is under way, whatever it changes.
    #[cold]
    pub(super) fn abort_all(&self) -> Result<()> {
        // ORDER SeqCst [flush]: behind the mark of the flush; pairs with the fence in `begin`: who is not seen here sees the mark.
        fence(Ordering::SeqCst);
        let ground = self.pool.ground();
        for thread in 1..ground.thread_limit() as u16 {
            let decision = ground.transaction(thread)?.u64::<{ super::intent::at::DECISION }>();
            // ORDER Acquire [decision]: as in `decision_of`.
            let first = Decision(decision.load(Ordering::Acquire));
            let mut seen = first;
            // It may go on to its proof, or show that it goes on. The next one of its thread began behind the mark.
            while let Some(Phase::Active | Phase::Proving) = seen.phase()
                && seen.with(Phase::None, 0) == first.with(Phase::None, 0)
            {
                Table::abort(decision, seen, 0);
                seen = Decision(decision.load(Ordering::Acquire));
            }
        }
        Ok(())
    }

    /// Sees to it that the record that a writer found counts and may be replaced. False: look again.
    #[inline]
    pub(super) fn settle(&self, me: Actor<'_>, found: &Found<'_>) -> Result<bool> {
        if !self.class.has_stamps() {
            return Ok(true);
        }
        // ORDER Acquire [stamp]: as in `what_counts`.
        match Stamp::of(self.stamp_word(found.offset)?.load(Ordering::Acquire)) {
            Stamp::Since(_) => Ok(true),
            _ => self.settle_slot(me, found.slot, found.word),
        }
    }

    /// As [`Table::settle`], for what points to a record.
    #[inline]
    pub(super) fn settle_owner(&self, me: Actor<'_>, owner: &Owner<'_>) -> Result<bool> {
        if !self.class.has_stamps() {
            return Ok(true);
        }
        // ORDER Acquire [stamp]: as in `what_counts`. If it is a stamp of a later use of the chunk, the slot has changed.
        match Stamp::of(self.stamp_word(owner.word.offset())?.load(Ordering::Acquire)) {
            Stamp::Since(_) => Ok(true),
            _ => self.settle_slot(me, owner.slot, owner.word),
        }
    }

    /// As [`Table::settle`], for what a slot names.
    #[cold]
    pub(super) fn settle_slot(&self, me: Actor<'_>, slot: &AtomicU64, word: Slot) -> Result<bool> {
        let offset = word.offset();
        let Some(chunk) = self.pool.geometry().chunk_of(offset) else { return Ok(false) };
        let _pin = Guard::pin(me, chunk)?;
        // ORDER Acquire [slot]: the second look of the pin: from here on the bytes are those that the slot names.
        if slot.load(Ordering::Acquire) != word.0 {
            return Ok(false);
        }
        let stamp = self.stamp_word(offset)?;
        match Stamp::of(stamp.load(Ordering::Acquire)) {
            Stamp::Since(_) => Ok(true),
            Stamp::Pending => self.stamp(offset).map(|_| true),
            Stamp::Of(reference) => {
                let Some((decision, seen, phase)) = self.decision_of(stamp, reference)? else {
                    return Ok(false);
                };
                match phase {
                    Phase::Committed => {
                        self.make_count(me, offset, reference, seen.time(), Teller::Other).map(|()| true)
                    }
                    Phase::Aborted => self.take_back(me, slot, word).map(|_| false),
                    // The caller's own is in the way of the room that it looks for: it would wait for itself.
                    _ if reference.thread() == me.index => {
                        Table::abort(decision, seen, OWN_WAY);
                        Ok(false)
                    }
                    _ => {
                        self.outwait(reference, decision, seen);
                        Ok(false)
                    }
                }
            }
        }
    }

    /// A state of a transaction was put in place: it is one more record that takes room, with that before it.
    pub(super) fn note_installed(&self, me: Actor<'_>, appended: &Appended) -> Result<()> {
        if appended.run {
            self.pool.seal_run(appended)?;
        }
        let fresh = Head { id: appended.number << 20, ..Head::default() };
        self.count_record(me, &fresh, appended.offset, appended.bytes as i64, 0);
        self.count_small(i64::from(self.is_young(appended.offset)?));
        Ok(())
    }

    /// Stamps a state of a committed transaction with its time; whoever does so counts and tells what it changed. The caller holds the
    /// chunk, which is still that of the record.
    pub(super) fn make_count(
        &self,
        me: Actor<'_>,
        offset: u64,
        reference: Reference,
        time: u64,
        teller: Teller,
    ) -> Result<()> {
        let head = record::head_at(self.pool.shm(), offset)?;
        // Before the stamp: as long as there is none the state before is kept.
        let old = match self.before(offset)? {
            0 => Ok(None),
            before => self.left_by(before).map(Some),
        };
        let mut key = Vec::new();
        if self.class.is_cache() {
            key.resize(head.key_len as usize, 0);
            record::key_span(self.pool.shm(), offset, self.header, &head)?.copy_out(0, &mut key)?;
        }
        kill_point!("table.intent.before_stamp");
        // DIES BEFORE: whoever meets it stamps it. DIES AFTER: it counts as any other; the old bytes are not counted dead.
        // ORDER AcqRel [stamp]: as in `stamp`.
        let stamped =
            self.stamp_word(offset)?.compare_exchange(reference.0, time, Ordering::AcqRel, Ordering::Relaxed);
        kill_point!("table.intent.stamped");
        if stamped.is_err() {
            return Ok(());
        }
        let comes = !head.is_tombstone() && head.flags & PLACED == 0;
        self.count_record(me, &head, offset, 0, i64::from(comes));
        let old = old?;
        if let Some(old) = &old {
            let bytes = old.head.bytes(self.header);
            self.pool.add_dead(old.dead.0, old.dead.1, bytes)?;
            self.count_record(
                me,
                &old.head,
                old.offset,
                -(bytes as i64),
                -i64::from(!old.head.is_tombstone()),
            );
            self.count_small(-i64::from(old.young));
        }
        if self.class.is_cache() {
            self.tell_committed(me, &head, old.as_ref(), &key, teller)?;
        }
        Ok(())
    }

    /// What is to be known of the record at `offset` when it counts no more.
    fn left_by(&self, offset: u64) -> Result<Left> {
        let head = record::head_at(self.pool.shm(), offset)?;
        Ok(Left { head, offset, dead: self.dead_token(offset)?, young: self.is_young(offset)? })
    }

    /// Notes and tells what a committed state changed in a cache.
    fn tell_committed(
        &self,
        me: Actor<'_>,
        head: &Head,
        old: Option<&Left>,
        key: &[u8],
        teller: Teller,
    ) -> Result<()> {
        let mut entry = false;
        if let Some(old) = old {
            if old.head.is_tombstone() {
                self.lease_ended(self.hash(key))?;
            } else if self.has_expired(&old.head) || self.is_flushed(&old.head, old.offset) {
                self.note_hidden(me, &old.head, old.offset, key);
            } else {
                entry = true;
            }
        }
        let (count, kind, version) = match head.is_tombstone() {
            false => (Count::Set, EventKind::Set, head.id),
            true if entry => (Count::Delete, EventKind::Delete, 0),
            true => return Ok(()),
        };
        self.note(me.index, count, 1);
        match teller {
            Teller::Owner => self.tell(kind, version, key),
            Teller::Other => self.tell_later(kind, version, key),
        }
        Ok(())
    }

    /// Puts the state before that of an aborted transaction back into the slot. False: somebody changed the slot.
    pub(super) fn take_back(&self, me: Actor<'_>, slot: &AtomicU64, word: Slot) -> Result<bool> {
        let offset = word.offset();
        let head = record::head_at(self.pool.shm(), offset)?;
        let (dead, young) = (self.dead_token(offset)?, self.is_young(offset)?);
        let next = match self.before(offset)? {
            0 => word.unlink(),
            before => word.publish(word.tag(), before),
        };
        let key = if next.offset() == 0 { self.key_to_note(offset, &head)? } else { None };
        kill_point!("table.intent.before_back");
        // DIES BEFORE: whoever meets it takes it back. DIES AFTER: it is gone; its bytes are not counted dead.
        // ORDER AcqRel [slot]: as every publication.
        let back = slot.compare_exchange(word.0, next.0, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        kill_point!("table.intent.back");
        if back {
            self.forget_later(key);
            let bytes = head.bytes(self.header);
            self.count_record(me, &head, offset, -(bytes as i64), -i64::from(head.flags & PLACED != 0));
            self.count_small(-i64::from(young));
            self.pool.add_dead(dead.0, dead.1, bytes)?;
        }
        Ok(back)
    }

    /// Whether the record at `offset`, which no slot in the index chunk at `span` was seen to name, is the state before an
    /// undecided one, or is named by now. What is undecided is decided, and the caller looks again.
    pub(super) fn is_shielded(&self, me: Actor<'_>, span: Span<'_>, hash: u64, offset: u64) -> Result<bool> {
        if !self.class.has_stamps() {
            return Ok(false);
        }
        for number in self.shape.candidates(hash) {
            let bucket = bucket_of(span, number)?;
            for slot_number in 0..SLOT_COUNT {
                let slot = bucket.u64_at::<0>(slot_number);
                // One load says of each slot whether it names the record, or one whose decision puts it back.
                // ORDER Acquire [slot]: as for readers.
                let word = Slot(slot.load(Ordering::Acquire));
                if word.kind() != SlotKind::Record || word.tag() != tag_of(hash) {
                    continue;
                }
                if word.offset() == offset {
                    return Ok(true);
                }
                if self.is_before(offset, word.offset()) {
                    self.settle_slot(me, slot, word)?;
                    return Ok(true);
                }
                // ORDER Acquire [chunk-reuse]: behind what was read of the record: if that was taken back and its chunk is in
                // use for something else, the slot is seen to name something else, which may be the state before.
                fence(Ordering::Acquire);
                // ORDER Relaxed: ordered by the fence.
                if slot.load(Ordering::Relaxed) != word.0 {
                    return Ok(true);
                }
            }
        }
        // ORDER Acquire [chunk-reuse]: the caller looks whether the index chunk is still in use.
        fence(Ordering::Acquire);
        Ok(false)
    }
}

/// Who makes a committed state count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Teller {
    /// The owner of the transaction, who ends it.
    Owner,
    /// Somebody who met it, maybe in the middle of making room.
    Other,
}

/// A record that counts no more.
struct Left {
    head: Head,
    offset: u64,
    /// Under what its bytes are counted dead.
    dead: (ChunkId, u32),
    young: bool,
}

#[cold]
fn damaged(reference: Reference) -> Error {
    Error::new(
        ErrorCode::Corrupt,
        format!("Thread entry {} has an impossible decision about a transaction.", reference.thread()),
    )
}

/// What somebody sees who was stopped between the stamp of a state and its decision.
#[cfg(all(test, not(memora_loom)))]
impl Table {
    /// The stamp of a state that was put in place.
    pub fn stamp_of(&self, intent: &super::Intent) -> Result<u64> {
        Ok(self.stamp_word(intent.offset())?.load(Ordering::Acquire))
    }

    /// Whether a state that was seen with this stamp seems to be undecided.
    pub fn is_under_way(&self, intent: &super::Intent, seen: u64) -> Result<bool> {
        let Stamp::Of(reference) = Stamp::of(seen) else { return Ok(false) };
        Ok(self.decision_of(self.stamp_word(intent.offset())?, reference)?.is_some())
    }
}
