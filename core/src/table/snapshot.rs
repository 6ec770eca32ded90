//! Snapshots: reading a store as it was at one time of its clock.
//!
//! Taking one costs an announcement and one step of the clock; see `announce`. A state counts since the time of its stamp, and names
//! the state before it in `prev`. So a read takes what the slot names and goes back until it finds a state of the snapshot's time
//! or before. What is still without a stamp gets one, which is later; of a transaction that is being proved the decision gets
//! a later earliest time, as by a flush. So whatever is met once is on the same side for ever.
//!
//! **A slot that is looked at behind the taking leads to what the snapshot sees**: what it named when the snapshot was taken, or
//! what has that behind it. It need not stay as it was while its record is read: the bytes stay as long as the announcement
//! stands, and that is looked at behind them.
//!
//! *What stays.* A chunk becomes quiet when nothing in it is named by a slot, or is the state before one that has no stamp yet; with
//! it the clock's time is noted. All states in it were replaced by states that are stamped with that time or before. So a
//! snapshot of that time or later stops before it gets there; for an earlier one the chunk is kept. A deletion stays in its slot
//! as long as a snapshot is of an earlier time than its stamp, and what has expired as long as there is any snapshot: for the clock
//! that decides about expiry is that of the moment when the snapshot was taken.
//!
//! *What is bounded.* Who opens a chunk looks how much is kept, and cancels the oldest snapshots where it is too much, or they are
//! too old; so does whoever would find no room. Reads of a cancelled one answer `SnapshotTooOld`.

use super::announce::{Announced, Announcements, Announcing};
use super::layout::control;
use super::lookup::Attempt;
use super::scan::Viewed;
use super::slot::Slot;
use super::stamp::{Phase, Reference, Stamp};
use super::{Table, too_many_tries};
use crate::chunk::layout::at as descriptor_at;
use crate::chunk::record::{self, Head};
use crate::chunk::{Actor, Guard, Kind};
use crate::error::{Error, ErrorCode, Result};
use crate::shm::atomic::{AtomicU64, Ordering};
use crate::shm::{Span, align8};

/// Times that a snapshot is announced anew when somebody needed the room at once.
const TRIES: u32 = 8;
/// How much is kept is looked at when one of so many chunks has changed.
const LOOK_SHARE: u32 = 256;
/// Looks at a transaction's decision: each lost one is a change of it.
const LOOKS: u32 = 100_000;

/// A time of a store that the caller has announced.
#[derive(Clone, Copy, Debug)]
pub struct View {
    announced: Announced,
    /// The boot clock when it was taken: what decides about expiry.
    pub now_ms: u64,
}

/// What snapshots there are, and what they cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ViewFigures {
    /// Those that are open.
    pub open: u64,
    /// Those that were cancelled so far.
    pub cancelled: u64,
    /// For how long the oldest one has been open, in milliseconds; 0 without any.
    pub oldest_ms: u64,
    /// Bytes of chunks that would be free without them.
    pub kept_bytes: u64,
}

impl View {
    fn time(&self) -> u64 {
        self.announced.time()
    }
}

/// Where the state stands that a snapshot sees.
pub(super) enum Seen {
    At(u64),
    Nothing,
    /// The slot has changed: look again.
    Again,
}

/// The answer of a snapshot that was cancelled.
#[cold]
fn too_old() -> Error {
    ErrorCode::SnapshotTooOld.into()
}

impl Table {
    fn announcements(&self) -> Option<Announcements<'_>> {
        if self.class.is_cache() {
            return None;
        }
        Announcements::at(&self.shm, self.control + control::SNAPSHOTS).ok()
    }

    fn is_dead(&self, owner: u16) -> bool {
        self.pool.ground().thread_is_dead(owner)
    }

    /// Takes a snapshot for an owner: an entry of the thread table that ends with this process.
    pub fn take_view(&self, owner: u16) -> Result<View> {
        let Some(list) = self.announcements() else {
            return Err(ErrorCode::Unsupported.into());
        };
        for _ in 0..TRIES {
            let announcing = list.announce(
                owner,
                &|owner| self.is_dead(owner),
                &|| self.time_now(),
                &|| self.next_time(),
                self.now_ms(),
            );
            match announcing {
                // The clock is read behind the announcement: whoever missed that took out only what had expired before.
                Announcing::Done(announced) => return Ok(View { announced, now_ms: self.now_ms() }),
                Announcing::Cancelled => {}
                Announcing::None => return Err(ErrorCode::TooManySnapshots.into()),
            }
        }
        Err(too_many_tries("Taking a snapshot"))
    }

    /// Ends a snapshot.
    pub fn drop_view(&self, view: &View) -> Result<()> {
        match self.announcements() {
            Some(list) if list.withdraw(view.announced) => self.pool.free_quiet(),
            _ => Ok(()),
        }
    }

    /// Refuses a snapshot that was cancelled. What was read under it before is whole otherwise.
    pub fn check_view(&self, view: &View) -> Result<()> {
        match self.announcements() {
            Some(list) if list.stands(view.announced) => Ok(()),
            _ => Err(too_old()),
        }
    }

    /// What an owner that is gone has announced ends.
    pub fn inherit_views(&self, owner: u16) {
        if let Some(list) = self.announcements() {
            list.inherit(owner);
        }
    }

    /// Sets after how many milliseconds a snapshot may be cancelled, and how many percent of the chunks may be kept for
    /// them; 0 for what is usual.
    pub fn limit_views(&self, age_ms: u64, share: u64) {
        if let Some(list) = self.announcements() {
            list.set_limits(age_ms, share);
        }
    }

    /// What snapshots there are, and what they cost.
    pub fn view_figures(&self) -> Result<ViewFigures> {
        let Some(list) = self.announcements() else { return Ok(ViewFigures::default()) };
        let open = list.count();
        Ok(ViewFigures {
            open,
            cancelled: list.cancelled(),
            oldest_ms: list.oldest_age_ms(self.now_ms()).unwrap_or(0),
            kept_bytes: if open == 0 { 0 } else { self.kept_chunks()? * self.pool.geometry().chunk_bytes },
        })
    }

    /// Whether a snapshot, open or yet to come, may see the state that is behind the one at `offset` in its slot, so that this must
    /// stay there. The caller has seen it settled, and saw it expired before if it is no deletion.
    pub(super) fn is_needed_by_views(&self, offset: u64, head: &Head) -> Result<bool> {
        let Some(list) = self.announcements() else { return Ok(false) };
        // ORDER Acquire [stamp]: as in `what_counts`.
        let stamp = self.stamp_word(offset)?.load(Ordering::Acquire);
        Ok(match Stamp::of(stamp) {
            Stamp::Since(time) if head.is_tombstone() => list.oldest() < time,
            Stamp::Since(_) => list.oldest() != u64::MAX,
            _ => true,
        })
    }

    /// What the clock shows when a chunk of this table becomes quiet: see the head of this file. Behind the unlinking.
    pub(super) fn quiet_time(&self) -> u64 {
        // ORDER SeqCst [snapshot]: the unlinking comes before the look at the clock; pairs with the taking of a snapshot, which moves
        // the clock on before it looks at slots.
        crate::shm::atomic::fence(Ordering::SeqCst);
        self.time_now()
    }

    /// Whether a chunk that became quiet at a time is kept for a snapshot.
    pub(super) fn views_keep(&self, quiet_since: u64) -> Result<bool> {
        let Some(list) = self.announcements() else { return Ok(false) };
        // Of a store that is gone nothing is kept, and its words may be those of something else.
        let first = self.first_chunk()?;
        // ORDER Relaxed: written before the object could be reached.
        let object = self.pool.descriptor(first)?.u32::<{ descriptor_at::OBJECT }>().load(Ordering::Relaxed);
        if object != self.object || !self.pool.state(first)?.is(Kind::Index) {
            return Ok(false);
        }
        Ok(list.keeps(quiet_since, &|owner| self.is_dead(owner)))
    }

    /// Quiet chunks of this table's records.
    fn kept_chunks(&self) -> Result<u64> {
        let mut kept = 0;
        for chunk in self.pool.used_chunks() {
            let state = self.pool.state(chunk)?;
            // ORDER Relaxed: written before the chunk was sealed.
            if state.is(Kind::Quiesce)
                && state.class().is_some_and(|class| self.is_own(class))
                && self.pool.descriptor(chunk)?.u32::<{ descriptor_at::OBJECT }>().load(Ordering::Relaxed)
                    == self.object
            {
                kept += u64::from(self.pool.run_len(chunk)?);
            }
        }
        Ok(kept)
    }

    /// Cancels what is too old, and of the rest the oldest as long as too much is kept for them. Called when a chunk is opened.
    pub(super) fn bound_views(&self) -> Result<()> {
        let Some(list) = self.announcements() else { return Ok(()) };
        if list.count() == 0 {
            return Ok(());
        }
        let overdue = list.cancel_overdue(self.now_ms());
        let (chunks, changes) = (self.pool.geometry().chunk_count, self.pool.changes());
        // All chunks are looked at only when a part of them has changed.
        // ORDER Relaxed: private to the process, a hint.
        let since = changes.wrapping_sub(self.views_bounded.load(Ordering::Relaxed));
        if !overdue && since <= chunks / LOOK_SHARE {
            return Ok(());
        }
        self.views_bounded.store(changes, Ordering::Relaxed);
        let most = u64::from(chunks) * list.share() / 100;
        let mut kept = self.kept_chunks()?;
        if overdue || kept > most {
            self.pool.free_quiet()?;
            kept = self.kept_chunks()?;
        }
        while kept > most && list.cancel_oldest() {
            self.pool.free_quiet()?;
            kept = self.kept_chunks()?;
        }
        Ok(())
    }

    /// Before there is no room: cancels the oldest snapshot if chunks are kept for any. Whether chunks are free by that.
    pub(super) fn let_a_view_go(&self) -> Result<bool> {
        let Some(list) = self.announcements() else { return Ok(false) };
        let mut kept = if list.count() == 0 { 0 } else { self.kept_chunks()? };
        while kept > 0 && list.cancel_oldest() {
            self.pool.free_quiet()?;
            let left = self.kept_chunks()?;
            if left < kept {
                return Ok(true);
            }
            kept = left;
        }
        Ok(false)
    }

    /// As [`Table::let_a_view_go`], where it is records in slots that leave no room: deletions may stay for snapshots.
    pub(super) fn let_all_views_go(&self) -> bool {
        let Some(list) = self.announcements() else { return false };
        let mut any = false;
        while list.cancel_oldest() {
            any = true;
        }
        any
    }

    /// Reads a key as it was; as [`Table::read`].
    pub fn read_in(
        &self,
        me: Actor<'_>,
        view: &View,
        key: &[u8],
        mut copy: impl FnMut(&Head, Span<'_>) -> Result<()>,
    ) -> Result<Option<Head>> {
        let read = self.read_with(self.hasher.hash(key), &mut |slot, word, expected| {
            self.read_record_in(me, view, slot, (word, expected), key, &mut copy)
        });
        // Whatever was read, or objected to, counts only as long as the bytes stay.
        self.check_view(view)?;
        Ok(read?.filter(|head| head.key_len != 0))
    }

    /// As `read_record`, for a snapshot: the slot may change meanwhile.
    fn read_record_in(
        &self,
        me: Actor<'_>,
        view: &View,
        slot: &AtomicU64,
        (word, expected): (Slot, Slot),
        key: &[u8],
        copy: &mut impl FnMut(&Head, Span<'_>) -> Result<()>,
    ) -> Result<Attempt<Option<Head>>> {
        // What was moved to a child counts as long as the child's slot was not used.
        // ORDER Acquire [slot]: as for readers.
        if word != expected && slot.load(Ordering::Acquire) != expected.0 {
            return Ok(Attempt::Again);
        }
        if !self.is_of_key(word.offset(), key)? {
            return Ok(Attempt::Done(None));
        }
        // ORDER Acquire [slot]: what was done before it changed.
        let still = || slot.load(Ordering::Acquire) == expected.0;
        let offset = match self.state_in(me, view, &still, word.offset())? {
            Seen::Again => return Ok(Attempt::Again),
            Seen::Nothing => return Ok(Attempt::Done(Some(Head::default()))),
            Seen::At(offset) => offset,
        };
        let head = record::head_at(&self.shm, offset)?;
        if offset != word.offset() && !self.is_of_key(offset, key)? {
            return Err(broken(offset));
        }
        if !view.shows(&head) {
            return Ok(Attempt::Done(Some(Head { key_len: 0, ..head })));
        }
        let at = offset + self.header + align8(key.len() as u64);
        copy(&head, self.shm.span(at, u64::from(head.value_len))?)?;
        Ok(Attempt::Done(Some(head)))
    }

    fn is_of_key(&self, offset: u64, key: &[u8]) -> Result<bool> {
        let head = record::head_at(&self.shm, offset)?;
        Ok(head.key_len as usize == key.len()
            && self.shm.span(offset + self.header, key.len() as u64)?.equals(0, key)?)
    }

    /// The state that a snapshot sees, from the one at `offset` on backwards, which a slot named; `still` says whether it does.
    pub(super) fn state_in(
        &self,
        me: Actor<'_>,
        view: &View,
        still: &dyn Fn() -> bool,
        newest: u64,
    ) -> Result<Seen> {
        let mut offset = newest;
        // No more states than have room.
        let most = u64::from(self.pool.geometry().chunk_count) * self.pool.geometry().chunk_bytes
            / record::EXTENDED_BYTES;
        let mut looks = 0;
        for _ in 0..most {
            let counts = loop {
                let word = self.stamp_word(offset)?;
                // ORDER Acquire [stamp]: whoever stamped it saw what its writer had done before.
                match Stamp::of(word.load(Ordering::Acquire)) {
                    Stamp::Since(time) => break time <= view.time(),
                    // Only what a slot names has none: what was replaced got one before, and still leads to what is seen. Else it is
                    // damaged, or of a later use of its chunk.
                    Stamp::Pending if offset != newest => return Err(broken(offset)),
                    Stamp::Pending => {
                        if !self.stamp_for_view(me, view, still, offset)?
                            && Stamp::of(word.load(Ordering::Acquire)) == Stamp::Pending
                        {
                            return Ok(Seen::Again);
                        }
                    }
                    Stamp::Of(reference) => {
                        if let Some(counts) = self.counts_in(view, word, reference)? {
                            break counts;
                        }
                        // What was replaced was stamped before. What a transaction took back names it for ever, and no slot
                        // leads there any more.
                        if !still() && word.load(Ordering::Acquire) == reference.0 {
                            return Ok(Seen::Again);
                        }
                        crate::shm::atomic::yield_now();
                    }
                }
                looks += 1;
                if looks > LOOKS {
                    return Err(too_many_tries("Reading a snapshot"));
                }
            };
            if counts {
                return Ok(Seen::At(offset));
            }
            let before = self.before(offset)?;
            if before == 0 {
                return Ok(Seen::Nothing);
            }
            // Damaged ones may name each other.
            if self.pool.geometry().chunk_of(before).is_none()
                || self.order_at(before)? >= self.order_at(offset)?
            {
                return Err(broken(before));
            }
            offset = before;
        }
        Err(broken(offset))
    }

    /// Stamps what a slot names. False: the slot has changed.
    #[cold]
    fn stamp_for_view(
        &self,
        me: Actor<'_>,
        view: &View,
        still: &dyn Fn() -> bool,
        offset: u64,
    ) -> Result<bool> {
        let Some(chunk) = self.pool.geometry().chunk_of(offset) else { return Ok(false) };
        let _pin = Guard::pin(me, chunk)?;
        // A slot that a split froze stays as it is for longer than what it names; but that was kept for the snapshot until here.
        self.check_view(view)?;
        // The second look of the pin.
        if !still() {
            return Ok(false);
        }
        self.stamp(offset).map(|_| true)
    }

    /// Whether a state of a transaction counts for a snapshot; `None`: look again.
    #[cold]
    fn counts_in(&self, view: &View, stamp: &AtomicU64, reference: Reference) -> Result<Option<bool>> {
        let Some((decision, seen, phase)) = self.decision_of(stamp, reference)? else { return Ok(None) };
        match phase {
            Phase::Committed => Ok(Some(seen.time() <= view.time())),
            // It looks at the clock when it has been proved: behind what its snapshot did.
            Phase::Proving if seen.time() > view.time() => Ok(Some(false)),
            Phase::Proving => {
                kill_point!("table.snapshot.before_fence");
                // ORDER SeqCst [decision]: pairs with the commit, which expects the word as it was.
                let _ = decision.compare_exchange(
                    seen.0,
                    seen.with(Phase::Proving, view.time() + 1).0,
                    Ordering::SeqCst,
                    Ordering::Relaxed,
                );
                kill_point!("table.snapshot.fenced");
                Ok(None)
            }
            _ => Ok(Some(false)),
        }
    }

    /// Gives at least one and about `limit` entries as they were, beginning at `cursor`; as [`Table::scan`].
    pub fn scan_in(
        &self,
        me: Actor<'_>,
        view: &View,
        cursor: u64,
        limit: usize,
        mut visit: impl FnMut(&[u8], &Head, &[u8]) -> Result<()>,
    ) -> Result<u64> {
        let viewed = Viewed { me, view };
        let next = self.scan_records(cursor, limit, Some(viewed), &mut |record| {
            if view.shows(&record.head) {
                visit(&record.key, &record.head, &record.value)?;
            }
            Ok(())
        });
        if next.is_err() {
            self.check_view(view)?;
        }
        next
    }
}

impl View {
    /// Whether a state that counts is an entry.
    fn shows(&self, head: &Head) -> bool {
        !head.is_tombstone() && (head.expiry == 0 || head.expiry > self.now_ms)
    }
}

#[cold]
fn broken(offset: u64) -> Error {
    Error::new(ErrorCode::Corrupt, format!("The states of a key lead to {offset}, which is no state of it."))
}
