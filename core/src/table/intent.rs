//! The states of a transaction: putting them in place, proving what was read, making them count.
//!
//! 1. Begun: the decision in the entry of its thread says active.
//! 2. Each new state is put into the slot of its key, marked as the transaction's, with the state before it behind it.
//! 3. The decision says proving. Each key that was read must still have the state that was read: nobody can change that of
//!    a key which the transaction writes, and who changes another one afterwards comes after it.
//! 4. **The decision says committed, with the time of the store's clock: now all of it counts.** Where somebody aborted it
//!    meanwhile this fails.
//! 5. Every state is stamped with that time (or taken back), by the owner or by whoever meets it; then the decision is none.
//!
//! Two transactions of which each reads what the other writes: each puts its states in place before it proves, so at least
//! one meets a state of the other, and of two that are being proved the younger entry gives way. (Validation as in Silo, Tu
//! et al., SOSP 2013; the locks are replaced by states that anybody may abort, after Larson et al., VLDB 2011.)

use super::action::Current;
use super::decide::{Counts, Teller};
use super::lookup::Found;
use super::slot::Slot;
use super::stamp::{Decision, Phase, Reference, Stamp};
use super::{Action, Table, Update, too_many_tries};
use crate::chunk::layout::at as descriptor_at;
use crate::chunk::record::{self, EXTENDED_BYTES, Head};
use crate::chunk::{Actor, ChunkId, Guard, Kind};
use crate::error::{Error, ErrorCode, Result};
use crate::shm::atomic::{AtomicU64, Ordering, fence};
use crate::shm::{Block, Span};

/// Rounds of a loop: each lost one is somebody else's success.
const TRIES: u32 = 20_000;

/// Fields of a thread entry's transaction.
pub(super) mod at {
    pub const DECISION: usize = 0;
    pub const NUMBER: usize = 8;
    pub const FIRST: usize = 16;
    pub const OBJECT: usize = 24;
}

/// Flag of the object's number: there are states in other objects, too.
const MANY: u64 = 1 << 32;

/// A transaction that the calling thread has begun.
pub struct Begun {
    reference: Reference,
}

impl Begun {
    /// What its states name it by.
    pub fn reference(&self) -> Reference {
        self.reference
    }
}

/// A state that was put in place.
pub struct Intent {
    hash: u64,
    offset: u64,
    chunk: ChunkId,
    /// Number of that use of the chunk.
    number: u64,
    deletes: bool,
    /// The entry that it replaced: its id, and when its time is over.
    saw: Option<(u64, u64)>,
}

#[cfg(all(test, not(memora_loom)))]
impl Intent {
    /// Where it stands.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }
}

/// What a transaction saw of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Of the record that was there, a deletion or an expired one included; 0 if there was none.
    pub id: u64,
    /// Whether there was an entry.
    pub present: bool,
    /// Where there was no record: the table's floor, which moves when one is taken out.
    floor: u64,
}

impl Table {
    /// Begins a transaction of the calling thread in this table.
    #[cfg(test)]
    pub fn begin(&self, me: Actor<'_>) -> Result<Begun> {
        self.begin_over(me, false)
    }

    /// Begins a transaction whose time is that of this table; there are states in other tables as well if `many`.
    pub fn begin_over(&self, me: Actor<'_>, many: bool) -> Result<Begun> {
        // One that an error broke off.
        self.end_left(me, me.index)?;
        // ORDER Relaxed: the number is the owner's; what else is stored here is released by the decision.
        let number = me.transaction.u64::<{ at::NUMBER }>().load(Ordering::Relaxed).wrapping_add(1);
        // In a cache a thread may go on filling chunks that others have begun.
        let first = match self.class.is_cache() {
            true => 0,
            false => self.pool.first_number(me, self.class.class(), self.object)?,
        };
        me.transaction.u64::<{ at::NUMBER }>().store(number, Ordering::Relaxed);
        me.transaction.u64::<{ at::FIRST }>().store(first, Ordering::Relaxed);
        me.transaction
            .u64::<{ at::OBJECT }>()
            .store(u64::from(self.object) | if many { MANY } else { 0 }, Ordering::Relaxed);
        kill_point!("table.intent.before_begin");
        // ORDER Release [decision]: number and place come before.
        Self::word(me).store(Decision::new(Phase::Active, number, 0).0, Ordering::Release);
        // ORDER SeqCst [flush]: before any state is put in place; pairs with the fence in `abort_all`.
        fence(Ordering::SeqCst);
        kill_point!("table.intent.begun");
        Ok(Begun { reference: Reference::new(me.index, number) })
    }

    pub(super) fn word<'a>(me: Actor<'a>) -> &'a AtomicU64 {
        me.transaction.u64::<{ at::DECISION }>()
    }

    /// Puts the new state of a key in place; `None` as value deletes. `None` as answer: there is nothing to delete.
    pub fn install(
        &self,
        me: Actor<'_>,
        begun: &Begun,
        key: &[u8],
        update: Option<&Update<'_>>,
    ) -> Result<Option<Intent>> {
        let mut saw = None;
        let changed = self.update_in(me, key, begun.reference, |current: Option<Current<'_>>| {
            saw = current.as_ref().map(|current| (current.head.id, current.head.expiry));
            // ORDER Acquire [decision]: as in `decision_of`.
            if !Decision(Self::word(me).load(Ordering::Acquire)).phase().is_some_and(|it| it == Phase::Active)
            {
                return Err(conflict());
            }
            Ok(match update {
                Some(update) => Action::Put(*update),
                // A cache is not read by the transaction: what comes there meanwhile may be made of what it changes.
                None if self.class.is_cache() => Action::Bury,
                None if current.is_some() => Action::Remove,
                None => Action::Keep,
            })
        })?;
        kill_point!("table.intent.installed");
        if !changed.changed {
            return Ok(None);
        }
        let chunk = self.pool.geometry().chunk_of(changed.offset).ok_or(ErrorCode::Internal)?;
        let number = changed.id >> 20;
        let deletes = update.is_none();
        Ok(Some(Intent { hash: self.hash(key), offset: changed.offset, chunk, number, deletes, saw }))
    }

    /// All states are in place: from now on nobody reads past them. False: somebody aborted the transaction.
    pub fn prove(&self, me: Actor<'_>) -> bool {
        let word = Self::word(me);
        // ORDER Acquire [decision]: as in `decision_of`.
        let seen = Decision(word.load(Ordering::Acquire));
        kill_point!("table.intent.before_proving");
        // ORDER SeqCst [decision]: the states were put in place before; pairs with the look of another transaction at them,
        // behind its own.
        let proving = seen.phase() == Some(Phase::Active)
            && word
                .compare_exchange(seen.0, seen.with(Phase::Proving, 0).0, Ordering::SeqCst, Ordering::Relaxed)
                .is_ok();
        fence(Ordering::SeqCst);
        kill_point!("table.intent.proving");
        proving
    }

    /// Shows those who wait that the proof goes on.
    pub fn beat(&self, me: Actor<'_>) {
        let word = Self::word(me);
        // ORDER Relaxed: only for those who wait; a failure means that the decision has changed, which `decide` sees.
        let seen = Decision(word.load(Ordering::Relaxed));
        if seen.phase() == Some(Phase::Proving) {
            let _ = word.compare_exchange(seen.0, seen.beaten().0, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// What is there of a key; its value is handed to `copy` if it is an entry, as often as [`Table::read`] does.
    pub fn sight(
        &self,
        key: &[u8],
        copy: &mut impl FnMut(&Head, Span<'_>) -> Result<()>,
    ) -> Result<(Sighting, Option<Head>)> {
        // ORDER Acquire [order-floor]: before the slot is seen empty: a deletion that leaves it later moves the floor.
        let floor = self.floor().load(Ordering::Acquire);
        let head = self.read_hashed(self.hash(key), key, copy)?;
        let present = head.is_some_and(|head| head.key_len != 0);
        let id = head.map_or(0, |head| head.id);
        Ok((Sighting { id, present, floor: if id == 0 { floor } else { 0 } }, head.filter(|_| present)))
    }

    /// What a record, or none, would be seen as.
    fn as_seen(&self, record: Option<(u64, &Head)>) -> Sighting {
        match record {
            Some((offset, head)) => {
                let over = self.has_expired(head) || self.is_flushed(head, offset);
                Sighting { id: head.id, present: !head.is_tombstone() && !over, floor: 0 }
            }
            // ORDER Acquire [order-floor]: as in `sight`: behind the look at the slot, which was empty then.
            None => Sighting { id: 0, present: false, floor: self.floor().load(Ordering::Acquire) },
        }
    }

    /// Whether a key is still as it was seen, but for what the transaction itself puts there.
    pub fn is_unchanged(
        &self,
        me: Actor<'_>,
        begun: &Begun,
        key: &[u8],
        sighting: &Sighting,
    ) -> Result<bool> {
        Ok(self.seen_now(me, begun, key)? == Some(*sighting))
    }

    /// Whether a state of the transaction replaced just what was seen. Nobody changes what stands before it, unless the transaction is
    /// aborted, so this proves the key. False: the key has to be looked at.
    pub fn replaced(&self, intent: &Intent, sighting: &Sighting) -> bool {
        intent.saw.is_some_and(|(id, expiry)| {
            sighting.present && sighting.id == id && (expiry == 0 || expiry > self.now_ms())
        })
    }

    /// Whether no slot has a record of a key, but for what the transaction itself puts there.
    pub fn is_untouched(&self, me: Actor<'_>, begun: &Begun, key: &[u8]) -> Result<bool> {
        Ok(self.seen_now(me, begun, key)?.is_some_and(|now| now.id == 0))
    }

    /// What is there of a key, but for what the transaction itself puts there; `None` if it has to give way.
    fn seen_now(&self, me: Actor<'_>, begun: &Begun, key: &[u8]) -> Result<Option<Sighting>> {
        let mine = begun.reference;
        self.with_slot_as_found(me, key, &mut |found| {
            let Some(found) = found else { return Ok(Some(Some(self.as_seen(None)))) };
            // ORDER Acquire [stamp]: as in `what_counts`.
            let word = self.stamp_word(found.offset)?;
            let now = match Stamp::of(word.load(Ordering::Acquire)) {
                Stamp::Since(_) | Stamp::Pending => self.as_seen(Some((found.offset, &found.head))),
                Stamp::Of(other) if other == mine => self.seen_before(found.offset)?,
                Stamp::Of(other) => match self.seen_under(word, other, mine, &found)? {
                    Under::Seen(now) => now,
                    Under::GiveWay => return Ok(Some(None)),
                    Under::Again => return Ok(None),
                },
            };
            Ok(if self.unchanged(&found) { Some(Some(now)) } else { None })
        })
    }

    /// The table's floor: as long as it stands no record has left a slot for good.
    pub fn floor_now(&self) -> u64 {
        // ORDER Acquire [order-floor]: as in `sight`.
        self.floor().load(Ordering::Acquire)
    }

    /// What the state before an undecided one would be seen as.
    fn seen_before(&self, offset: u64) -> Result<Sighting> {
        Ok(match self.before(offset)? {
            0 => self.as_seen(None),
            before => self.as_seen(Some((before, &record::head_at(self.pool.shm(), before)?))),
        })
    }

    /// What counts where a state of another transaction stands.
    fn seen_under(
        &self,
        stamp: &AtomicU64,
        other: Reference,
        mine: Reference,
        found: &Found<'_>,
    ) -> Result<Under> {
        let Some((decision, seen, phase)) = self.decision_of(stamp, other)? else { return Ok(Under::Again) };
        match phase {
            Phase::Committed => return Ok(Under::Seen(self.as_seen(Some((found.offset, &found.head))))),
            // Both are being proved: the one with the lower reference stays, so that they do not wait for each other.
            Phase::Proving if other < mine => return Ok(Under::GiveWay),
            Phase::Proving => {
                self.outwait(other, decision, seen);
                return Ok(Under::Again);
            }
            _ => {}
        }
        let now = self.seen_before(found.offset)?;
        // ORDER Acquire [decision]: behind what was read of the state before: it is still what counts.
        fence(Ordering::Acquire);
        let counts = Counts::Before { offset: 0, decision, seen, stamp, reference: other };
        Ok(if counts.stand() { Under::Seen(now) } else { Under::Again })
    }

    /// Commits: from this moment on all states count. False: somebody aborted it.
    pub fn decide(&self, me: Actor<'_>) -> bool {
        let word = Self::word(me);
        loop {
            // ORDER Acquire [decision]: as in `decision_of`.
            let seen = Decision(word.load(Ordering::Acquire));
            if seen.phase() != Some(Phase::Proving) {
                return false;
            }
            // A flush that has moved the clock on and met one of the states has set the earliest time, so that this fails
            // if the clock was read before.
            let time = self.time_now().max(seen.time());
            kill_point!("table.intent.before_commit");
            // DIES BEFORE: whoever meets it aborts it. DIES AFTER: it is committed.
            // ORDER SeqCst [decision]: everything that was proved and put in place comes before.
            let committed = word.compare_exchange(
                seen.0,
                seen.with(Phase::Committed, time).0,
                Ordering::SeqCst,
                Ordering::Relaxed,
            );
            if committed.is_ok() {
                kill_point!("table.intent.committed");
                return true;
            }
        }
    }

    /// Decides the calling thread's transaction, if nobody has yet: it is aborted then. Whether it was committed.
    pub fn settle_own(&self, me: Actor<'_>) -> bool {
        let word = Self::word(me);
        loop {
            // ORDER Acquire [decision]: as in `decision_of`.
            let seen = Decision(word.load(Ordering::Acquire));
            match seen.phase() {
                Some(Phase::Active | Phase::Proving) => {
                    // ORDER AcqRel [decision]: as every decision. A failure means that somebody else aborted it.
                    let _ = word.compare_exchange(
                        seen.0,
                        seen.with(Phase::Aborted, 0).0,
                        Ordering::AcqRel,
                        Ordering::Relaxed,
                    );
                }
                phase => return phase == Some(Phase::Committed),
            }
        }
    }

    #[cfg(test)]
    /// Ends the calling thread's transaction, all of whose states are in this table: stamps them if it was committed, takes them back if
    /// not.
    pub fn end(&self, me: Actor<'_>, begun: Begun, intents: &[Intent]) -> Result<()> {
        self.settle_own(me);
        self.end_states(me, &begun, intents)?;
        Table::finish(me);
        Ok(())
    }

    /// Ends the states in this table of the calling thread's transaction, which is decided.
    pub fn end_states(&self, me: Actor<'_>, begun: &Begun, intents: &[Intent]) -> Result<()> {
        // ORDER Relaxed: nobody changes a decision that was made.
        let seen = Decision(Self::word(me).load(Ordering::Relaxed));
        kill_point!("table.intent.decided");
        let mut held: Option<(ChunkId, Guard<'_>)> = None;
        for intent in intents {
            if seen.phase() == Some(Phase::Committed) {
                // Most stand in one chunk.
                if held.as_ref().is_none_or(|(chunk, _)| *chunk != intent.chunk) {
                    drop(held.take());
                    held = Some((intent.chunk, Guard::pin(me, intent.chunk)?));
                }
                self.end_committed(me, begun.reference, intent, seen.time())?;
                if intent.deletes && !self.class.is_journaled() {
                    let mut entered = None;
                    if let Some(owner) = self.owner_of(me, intent.hash, intent.offset, &mut entered)? {
                        self.drop_deletion(me, owner.slot, owner.word, true)?;
                    }
                }
            } else {
                self.end_aborted(me, intent.hash, intent.offset)?;
            }
        }
        self.share_chunks(me)
    }

    /// The calling thread's transaction is over: nothing names it any more.
    pub fn finish(me: Actor<'_>) {
        let word = Self::word(me);
        // ORDER Relaxed: as in `end_states`.
        let seen = Decision(word.load(Ordering::Relaxed));
        kill_point!("table.intent.before_end");
        // ORDER Release [decision]: every state is stamped or gone: nobody has to look here any more.
        word.store(seen.with(Phase::None, 0).0, Ordering::Release);
        kill_point!("table.intent.ended");
    }

    /// Stamps one state, unless others have: then its chunk may be in use for something else. The caller pins it.
    fn end_committed(&self, me: Actor<'_>, reference: Reference, intent: &Intent, time: u64) -> Result<()> {
        let descriptor = self.pool.descriptor(intent.chunk)?;
        // ORDER Acquire [chunk-described]: the second look of the pin: the chunk is in the use in which the state was written.
        if descriptor.u64::<{ descriptor_at::SEQ }>().load(Ordering::Acquire) != intent.number
            || self.pool.state(intent.chunk)?.is(Kind::Free)
        {
            return Ok(());
        }
        self.make_count(me, intent.offset, reference, time, Teller::Owner)
    }

    /// Unlinks a deletion that counts, and that no journal has to hear of, unless a snapshot needs what it replaced: then it goes
    /// later, with what has expired. `remember`: its key is to leave the tree.
    pub(super) fn drop_deletion(
        &self,
        me: Actor<'_>,
        slot: &AtomicU64,
        word: Slot,
        remember: bool,
    ) -> Result<()> {
        let offset = word.offset();
        let Some(chunk) = self.pool.geometry().chunk_of(offset) else { return Ok(()) };
        let _pin = Guard::pin(me, chunk)?;
        // ORDER Acquire [slot]: the second look of the pin.
        if slot.load(Ordering::Acquire) != word.0 {
            return Ok(());
        }
        let (head, dead) = (record::head_at(self.pool.shm(), offset)?, self.dead_token(offset)?);
        let young = self.is_young(offset)?;
        if self.is_needed_by_views(offset, &head)? {
            return Ok(());
        }
        self.note_leaving(offset)?;
        let key = if remember { self.key_to_note(offset, &head)? } else { None };
        kill_point!("table.intent.before_drop");
        // DIES BEFORE: the cleaner does it. DIES AFTER: the bytes are not counted dead.
        // ORDER AcqRel [slot]: as every unlinking. A failure means that the key has a new state.
        let next = word.unlink();
        if slot.compare_exchange(word.0, next.0, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            self.pool.add_dead(dead.0, dead.1, head.bytes(self.header))?;
            self.count_record(me, &head, offset, -(head.bytes(self.header) as i64), 0);
            self.count_small(-i64::from(young));
            self.forget_later(key);
        }
        Ok(())
    }

    /// Takes one state back, unless others have.
    fn end_aborted(&self, me: Actor<'_>, hash: u64, offset: u64) -> Result<()> {
        for _ in 0..TRIES {
            let mut entered = None;
            match self.owner_of(me, hash, offset, &mut entered)? {
                None => return Ok(()),
                Some(owner) => {
                    if self.take_back(me, owner.slot, owner.word)? {
                        return Ok(());
                    }
                }
            }
        }
        Err(too_many_tries("Taking back a state of a transaction"))
    }

    /// Ends what a thread that died, or was broken off by an error, left of a transaction in this store. It is
    /// decided by now; afterwards the caller sets the decision to none.
    fn end_states_of(&self, me: Actor<'_>, reference: Reference, first: u64) -> Result<()> {
        let mut scratch = Vec::new();
        for chunk in self.pool.used_chunks() {
            let state = self.pool.state(chunk)?;
            let descriptor = self.pool.descriptor(chunk)?;
            // ORDER Relaxed: of a chunk in another use nothing is changed: its records are not the transaction's.
            if !self.holds_records(state)
                || descriptor.u32::<{ descriptor_at::OBJECT }>().load(Ordering::Relaxed) != self.object
                || descriptor.u64::<{ descriptor_at::SEQ }>().load(Ordering::Relaxed) < first
            {
                continue;
            }
            let Ok(mut walk) = self.pool.walk(chunk, EXTENDED_BYTES, 0) else { continue };
            // What is reused meanwhile may look damaged: what is done to a state is proved by its slot.
            while let Ok(Some(walked)) = walk.next() {
                // ORDER Acquire [stamp]: as in `what_counts`.
                if self.stamp_word(walked.offset)?.load(Ordering::Acquire) != reference.0 {
                    continue;
                }
                let Ok(hash) = self.hash_of_record(walked.offset, &walked.head, &mut scratch) else { break };
                for _ in 0..TRIES {
                    let mut entered = None;
                    let Some(owner) = self.owner_of(me, hash, walked.offset, &mut entered)? else { break };
                    if self.settle_slot(me, owner.slot, owner.word)? {
                        break;
                    }
                }
                kill_point!("table.inherit.state_ended");
            }
        }
        Ok(())
    }

    /// Ends the transaction in this store that a thread entry has under way, if there is one: its holder is dead, or is the
    /// caller, whom an error broke off. Repeating it is harmless.
    pub fn end_left(&self, me: Actor<'_>, thread: u16) -> Result<()> {
        let words = self.pool.ground().transaction(thread)?;
        let decision = words.u64::<{ at::DECISION }>();
        // ORDER Acquire [decision]: with it the words that stand before.
        let mut seen = Decision(decision.load(Ordering::Acquire));
        if !self.has_left(thread)? {
            return Ok(());
        }
        while let Some(Phase::Active | Phase::Proving) = seen.phase() {
            let aborted = seen.with(Phase::Aborted, 0);
            kill_point!("table.inherit.before_abort");
            // ORDER AcqRel [decision]: as every decision.
            match decision.compare_exchange(seen.0, aborted.0, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => seen = aborted,
                Err(other) => seen = Decision(other),
            }
        }
        // ORDER Relaxed: ordered by the decision.
        let number = words.u64::<{ at::NUMBER }>().load(Ordering::Relaxed);
        let first = words.u64::<{ at::FIRST }>().load(Ordering::Relaxed);
        let object = words.u64::<{ at::OBJECT }>().load(Ordering::Relaxed);
        let first = if object as u32 == self.object { first } else { 0 };
        self.end_states_of(me, Reference::new(thread, number), first)?;
        // Whoever has ended it everywhere says so: `finish_left`.
        if object & MANY != 0 {
            return Ok(());
        }
        kill_point!("table.inherit.before_none");
        // ORDER AcqRel [decision]: as in `end`.
        let none = seen.with(Phase::None, 0);
        let _ = decision.compare_exchange(seen.0, none.0, Ordering::AcqRel, Ordering::Relaxed);
        Ok(())
    }

    /// Whether a thread entry may have a transaction under way in this table.
    pub fn has_left(&self, thread: u16) -> Result<bool> {
        if !self.class.has_stamps() {
            return Ok(false);
        }
        let words = self.pool.ground().transaction(thread)?;
        // ORDER Acquire [decision]: with it the words that stand before.
        let seen = Decision(words.u64::<{ at::DECISION }>().load(Ordering::Acquire));
        let object = words.u64::<{ at::OBJECT }>().load(Ordering::Relaxed);
        Ok(seen.phase() != Some(Phase::None) && (object as u32 == self.object || object & MANY != 0))
    }

    /// Whether the calling thread has a transaction under way: one that an error broke off.
    pub fn has_own_left(me: Actor<'_>) -> bool {
        // ORDER Relaxed: the caller's own.
        Decision(Self::word(me).load(Ordering::Relaxed)).phase() != Some(Phase::None)
    }
}

/// The transaction of a thread entry was ended in all objects: by whoever takes over from a dead thread, or by itself after an error.
/// Repeating it is harmless.
pub fn finish_left(words: Block<'_, 32>) {
    let decision = words.u64::<{ at::DECISION }>();
    // ORDER Acquire [decision]: as in `end_left`.
    let seen = Decision(decision.load(Ordering::Acquire));
    if matches!(seen.phase(), Some(Phase::Committed | Phase::Aborted)) {
        kill_point!("table.inherit.before_none");
        // ORDER AcqRel [decision]: as in `finish`.
        let none = seen.with(Phase::None, 0);
        let _ = decision.compare_exchange(seen.0, none.0, Ordering::AcqRel, Ordering::Relaxed);
    }
}

/// What counts where a state of another transaction stands.
enum Under {
    Seen(Sighting),
    GiveWay,
    Again,
}

#[cold]
fn conflict() -> Error {
    ErrorCode::Conflict.into()
}
