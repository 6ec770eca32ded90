//! Changing an entry: one loop for every kind of writer.
//!
//! The caller's function sees what is there and says what shall be; the new record is appended to the writer's own chunk;
//! one compare-and-swap from the word that was seen publishes it. If somebody was faster, the function is asked again.

use super::action::{Action, Changed, Current, Id, Restored, Revision, Update, Value};
use super::flush::Epoch;
use super::insert::Coming;
use super::lease::Owner;
use super::lookup::{Attempt, Found};
use super::slot::tag_of;
use super::stamp::{self, Reference};
use super::{Count, EventKind, RecordClass, Table, too_many_tries};
use crate::chunk::record::{self, Head, TOMBSTONE, record_bytes};
use crate::chunk::{Actor, Appended, Class, Extension, Need};
use crate::error::{Error, ErrorCode, Result};
use crate::shm::atomic::{Ordering, fence};

/// Rounds of the loop: each lost one is somebody else's success.
const TRIES: u32 = 20_000;

#[cold]
#[inline(never)]
fn bad_key(len: usize, max: usize) -> Error {
    Error::new(ErrorCode::KeyTooLong, format!("The key has {len} bytes; 1 to {max} are allowed."))
}

#[cold]
#[inline(never)]
fn bad_value(len: usize, max: u64) -> Error {
    Error::new(
        ErrorCode::ValueTooLong,
        format!("The value has {len} bytes; with this key and fabric {max} are allowed."),
    )
}

/// What an attempt to write needs besides the key.
pub(super) struct Draft<'v> {
    head: Head,
    /// The value, and what stands behind it.
    value: &'v [u8],
    origin: Origin,
}

/// Where a record comes from, and so what makes it count.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// An operation of its own: it counts from its publication.
    Operation,
    /// The files: with this order. That of others follows from what they replace.
    Files(u64),
    /// A transaction: it decides.
    Transaction(Reference),
}

impl<'v> Draft<'v> {
    /// Whether a transaction decides about it.
    fn is_decided_later(&self) -> bool {
        matches!(self.origin, Origin::Transaction(_))
    }

    /// The same; of a transaction, marked if it has taken a place among a limited number of entries.
    fn placed(&self, placed: bool) -> Draft<'v> {
        let mark = if placed && self.is_decided_later() { record::PLACED } else { 0 };
        Draft { head: Head { flags: self.head.flags | mark, ..self.head }, ..*self }
    }

    /// A tombstone that names the owner of a lease.
    fn lease(key: &[u8], owner: &'v [u8]) -> Self {
        let (key_len, value_len) = (key.len() as u32, owner.len() as u32);
        Draft {
            head: Head { key_len, value_len, flags: TOMBSTONE, ..Head::default() },
            value: owner,
            origin: Origin::Operation,
        }
    }
}

/// Where values are put together.
struct Scratch {
    digits: [u8; 20],
    joined: Vec<u8>,
    /// A value with the name of who won behind it.
    named: Vec<u8>,
}

/// Puts the name of who won behind a value.
fn name(value: &mut Vec<u8>, winner: Owner) {
    value.resize(crate::shm::align8(value.len() as u64) as usize, 0);
    value.extend_from_slice(&winner.bytes());
}

impl Table {
    /// Refuses a key or a value that is too long.
    pub fn check_lengths(&self, key_len: usize, value_len: usize) -> Result<()> {
        if key_len == 0 || key_len > self.key_len_max() {
            return Err(bad_key(key_len, self.key_len_max()));
        }
        let max = self.value_len_max(key_len);
        if value_len as u64 > max { Err(bad_value(value_len, max)) } else { Ok(()) }
    }

    /// Changes the entry of `key`. `decide` sees the entry, or `None` if there is none (or it expired or was deleted). It
    /// may be asked several times; the last answer is what was done.
    #[inline]
    pub fn update<'v>(
        &self,
        me: Actor<'_>,
        key: &[u8],
        decide: impl FnMut(Option<Current<'_>>) -> Result<Action<'v>>,
    ) -> Result<Changed> {
        self.update_with(me, key, Sight::Entries, decide)
    }

    /// As [`Table::update`], but `decide` sees a lease as well: a tombstone. `tell` says whether a change is one of an entry.
    pub fn update_leased<'v>(
        &self,
        me: Actor<'_>,
        key: &[u8],
        tell: bool,
        decide: impl FnMut(Option<Current<'_>>) -> Result<Action<'v>>,
    ) -> Result<Changed> {
        self.update_with(me, key, Sight::Leases { tell }, decide)
    }

    /// As [`Table::update`], but what is put, or removed, is a state of a transaction.
    pub(super) fn update_in<'v>(
        &self,
        me: Actor<'_>,
        key: &[u8],
        transaction: Reference,
        decide: impl FnMut(Option<Current<'_>>) -> Result<Action<'v>>,
    ) -> Result<Changed> {
        self.update_with(me, key, Sight::Transaction(transaction), decide)
    }

    #[inline]
    fn update_with<'v>(
        &self,
        me: Actor<'_>,
        key: &[u8],
        sight: Sight,
        mut decide: impl FnMut(Option<Current<'_>>) -> Result<Action<'v>>,
    ) -> Result<Changed> {
        if key.is_empty() || key.len() > self.key_len_max() {
            return Err(bad_key(key.len(), self.key_len_max()));
        }
        let hash = self.hasher.hash(key);
        self.leave_some(me)?;
        for _ in 0..TRIES {
            if let Attempt::Done(done) = self.try_update(me, hash, key, sight, &mut decide)? {
                if let Sight::Transaction(_) = sight {
                    return Ok(done);
                }
                if done.changed && sight != (Sight::Leases { tell: false }) {
                    let (count, event) = match done.id {
                        0 => (Count::Delete, EventKind::Delete),
                        _ => (Count::Set, EventKind::Set),
                    };
                    self.note(me.index, count, 1);
                    self.tell(event, done.id, key);
                }
                if done.changed && done.id == 0 && self.tree.is_some() {
                    self.leave_tree(me, key)?;
                }
                self.share_chunks(me)?;
                return Ok(done);
            }
            crate::shm::atomic::spin_hint();
        }
        Err(too_many_tries("Changing an entry"))
    }

    /// Sets the entry of `key`, whatever it is.
    #[inline]
    pub fn put(&self, me: Actor<'_>, key: &[u8], update: &Update<'_>) -> Result<Changed> {
        self.relieve(me)?;
        match self.put_quick(me, self.hasher.hash(key), key, update) {
            Some(changed) => {
                self.note(me.index, Count::Set, 1);
                self.tell(EventKind::Set, changed.id, key);
                Ok(changed)
            }
            None => self.update(me, key, |_| Ok(Action::Put(*update))),
        }
    }

    #[inline]
    fn try_update<'v>(
        &self,
        me: Actor<'_>,
        hash: u64,
        key: &[u8],
        sight: Sight,
        decide: &mut impl FnMut(Option<Current<'_>>) -> Result<Action<'v>>,
    ) -> Result<Attempt<Changed>> {
        self.relieve(me)?;
        if self.round.is_due() {
            self.expire_step(me)?;
        }
        let (index, entry) = self.entry(hash)?;
        let span = self.index_span(entry)?;
        match self.find(span, hash, key)? {
            Attempt::Done(Some(found)) if !self.settle(me, &found)? => Ok(Attempt::Again),
            Attempt::Done(found) => {
                let attempt = self.attempt(me, hash, key, found, sight, decide)?;
                match attempt {
                    // A decision about nothing stands only if the index chunk was still in use.
                    Attempt::Done(Outcome::Kept) => {
                        // ORDER Acquire [chunk-reuse]: as for readers.
                        fence(Ordering::Acquire);
                        let still = self.directory_word(index)?.load(Ordering::Relaxed) == entry.0;
                        Ok(if still { Attempt::Done(Changed::NOTHING) } else { Attempt::Again })
                    }
                    Attempt::Done(Outcome::Changed(changed)) => Ok(Attempt::Done(changed)),
                    Attempt::Done(Outcome::Insert(coming)) => {
                        self.insert_into(me, index, entry, hash, key, &coming)
                    }
                    _ => Ok(Attempt::Again),
                }
            }
            Attempt::Again => Ok(Attempt::Again),
            Attempt::Split => self.update_split(me, hash, key, sight, decide),
        }
    }

    /// As `try_update`, when the key's index chunk is being split: its buckets are moved first, then the child is changed.
    #[cold]
    fn update_split<'v>(
        &self,
        me: Actor<'_>,
        hash: u64,
        key: &[u8],
        sight: Sight,
        decide: &mut impl FnMut(Option<Current<'_>>) -> Result<Action<'v>>,
    ) -> Result<Attempt<Changed>> {
        let Some(split) = self.enter_split(me, hash)? else { return Ok(Attempt::Again) };
        let span = self.pool.span(split.child)?;
        let Attempt::Done(found) = self.find(span, hash, key)? else { return Ok(Attempt::Again) };
        if let Some(found) = &found
            && !self.settle(me, found)?
        {
            return Ok(Attempt::Again);
        }
        let done = match self.attempt(me, hash, key, found, sight, decide)? {
            Attempt::Done(Outcome::Kept) => Attempt::Done(Changed::NOTHING),
            Attempt::Done(Outcome::Changed(changed)) => Attempt::Done(changed),
            Attempt::Done(Outcome::Insert(coming)) => {
                self.insert_locked(me, split.child, hash, key, &coming)?
            }
            _ => Attempt::Again,
        };
        // A child that is full before its parent is gone is split when the directory names it.
        let full = matches!(done, Attempt::Split);
        if full || split.exhausted {
            self.finish_split(split)?;
        }
        Ok(if full { Attempt::Again } else { done })
    }

    /// Decides, and changes an entry that is there. For one that is not, the record is appended for the insertion.
    #[inline]
    fn attempt<'v>(
        &self,
        me: Actor<'_>,
        hash: u64,
        key: &[u8],
        found: Option<Found<'_>>,
        sight: Sight,
        decide: &mut impl FnMut(Option<Current<'_>>) -> Result<Action<'v>>,
    ) -> Result<Attempt<Outcome>> {
        let mut scratch = Scratch { digits: [0; 20], joined: Vec::new(), named: Vec::new() };
        let epoch = self.epoch()?;
        let Some(found) = found else {
            let action = decide(None)?;
            let draft = match action {
                Action::Keep | Action::Remove | Action::Revise(_) => return Ok(Attempt::Done(Outcome::Kept)),
                Action::Put(update) => self.draft(me, key, &update, None, &mut scratch)?,
                Action::Lease(owner) => Draft::lease(key, owner),
                Action::Bury => self.tombstone(key),
            };
            let draft = Draft { origin: sight.origin(), ..draft };
            let Some(coming) = self.append_new(me, hash, key, &draft, epoch)? else {
                return Ok(Attempt::Again);
            };
            return Ok(Attempt::Done(Outcome::Insert(coming)));
        };
        // A transaction that deletes ends a lease: what is being computed may be out of date by then.
        let leases = match sight {
            Sight::Entries => false,
            Sight::Leases { .. } => true,
            Sight::Transaction(_) => self.class.is_cache(),
        };
        let current = self.current(&found, key.len(), leases, epoch)?;
        let shown = current.is_some();
        let visible = shown && !found.head.is_tombstone();
        let action = match decide(current) {
            Ok(action) => action,
            // An objection stands only if it was about what is really there.
            Err(error) => return if self.unchanged(&found) { Err(error) } else { Ok(Attempt::Again) },
        };
        let present = visible.then_some(&found);
        let draft = match action {
            Action::Remove if self.class.is_cache() && sight.origin() == Origin::Operation => {
                return self.unlink(me, hash, key, found, visible);
            }
            Action::Remove
                if visible && self.class == RecordClass::Memory && sight.origin() == Origin::Operation =>
            {
                return self.bury(me, hash, key, &found, epoch);
            }
            Action::Remove if shown => Ok(self.tombstone(key)),
            Action::Bury => Ok(self.tombstone(key)),
            Action::Put(update) => self.draft(me, key, &update, present, &mut scratch),
            Action::Lease(owner) => Ok(Draft::lease(key, owner)),
            Action::Revise(revision) if visible => self.revised(me, key, &found, &revision, &mut scratch),
            Action::Keep | Action::Remove | Action::Revise(_) => {
                return Ok(if self.unchanged(&found) {
                    Attempt::Done(Outcome::Kept)
                } else {
                    Attempt::Again
                });
            }
        };
        let draft = match draft {
            Ok(draft) => draft,
            // As for objections of `decide`: a value that is joined with a torn one may seem to be too long.
            Err(error) => return if self.unchanged(&found) { Err(error) } else { Ok(Attempt::Again) },
        };
        let seen = if visible { Seen::Entry } else { Seen::Hidden };
        self.replace(me, hash, key, (&found, seen), &Draft { origin: sight.origin(), ..draft }, epoch)
    }

    /// A record is about to be unlinked: whoever saw its key absent before sees the floor moved.
    pub(super) fn note_leaving(&self, offset: u64) -> Result<()> {
        if self.class.has_stamps() {
            let order = self.order_at(offset)?;
            // ORDER Acquire [order-floor]: where others have raised it that high, that comes before the slot is emptied as well.
            if self.floor().load(Ordering::Acquire) < order {
                // ORDER AcqRel [order-floor]: before the slot is emptied.
                self.floor().fetch_max(order, Ordering::AcqRel);
            }
        }
        Ok(())
    }

    /// The draft of a deletion. Without files nothing but a snapshot needs one: it has expired, so it goes with what has.
    fn tombstone<'d>(&self, key: &[u8]) -> Draft<'d> {
        let mut draft = Draft::lease(key, &[]);
        draft.head.expiry = u64::from(self.class == RecordClass::Memory);
        draft
    }

    /// Deletes an entry of a store without files: by a tombstone, which goes at once unless a snapshot may need what it replaced.
    fn bury(
        &self,
        me: Actor<'_>,
        hash: u64,
        key: &[u8],
        found: &Found<'_>,
        epoch: Epoch,
    ) -> Result<Attempt<Outcome>> {
        let draft = self.tombstone(key);
        let done = self.replace(me, hash, key, (found, Seen::Entry), &draft, epoch)?;
        let Attempt::Done(Outcome::Changed(changed)) = done else { return Ok(done) };
        kill_point!("table.bury.published");
        let word = found.word.publish(tag_of(hash), changed.offset);
        self.drop_deletion(me, found.slot, word, false)?;
        Ok(Attempt::Done(Outcome::Changed(Changed { id: 0, ..changed })))
    }

    /// Publishes a tombstone in the slot of an entry. False: somebody changed it.
    pub(super) fn publish_tombstone(
        &self,
        me: Actor<'_>,
        hash: u64,
        key: &[u8],
        found: &Found<'_>,
    ) -> Result<bool> {
        let draft = self.tombstone(key);
        Ok(matches!(
            self.replace(me, hash, key, (found, Seen::Any), &draft, self.epoch()?)?,
            Attempt::Done(_)
        ))
    }

    /// What `decide` gets to see of a record.
    #[inline]
    fn current<'a>(
        &'a self,
        found: &Found<'a>,
        key_len: usize,
        leases: bool,
        epoch: Epoch,
    ) -> Result<Option<Current<'a>>> {
        let head = found.head;
        if (head.is_tombstone() && !leases)
            || self.has_expired(&head)
            || self.was_flushed(epoch, &head, found.offset)
        {
            return Ok(None);
        }
        let at = found.offset + self.header + crate::shm::align8(key_len as u64);
        let seen = || {
            let value = self.pool.shm().span(at, head.value_len as u64)?;
            Ok(Current { head, value, winner: self.winner_of(found)? })
        };
        match seen() {
            Ok(current) => Ok(Some(current)),
            // A torn length: the compare-and-swap will fail. A damaged one: no more to be said of it than that.
            Err(error) => {
                if self.unchanged(found) {
                    Err(error)
                } else {
                    Ok(None)
                }
            }
        }
    }

    /// Whether the time of an entry is over.
    #[inline]
    pub(super) fn has_expired(&self, head: &Head) -> bool {
        head.expiry != 0 && head.expiry <= self.now_ms()
    }

    #[inline]
    pub(super) fn unchanged(&self, found: &Found<'_>) -> bool {
        // ORDER Acquire [chunk-reuse]: if what was read was of a later use of the chunk, the slot is seen to have changed.
        fence(Ordering::Acquire);
        found.slot.load(Ordering::Relaxed) == found.word.0
    }

    #[inline]
    fn draft<'d>(
        &self,
        me: Actor<'_>,
        key: &[u8],
        update: &Update<'d>,
        present: Option<&Found<'_>>,
        scratch: &'d mut Scratch,
    ) -> Result<Draft<'d>> {
        let Scratch { digits, joined, named } = scratch;
        let value = match update.value {
            Value::Bytes(bytes) => bytes,
            Value::Number(number) => decimal(false, number, digits),
            Value::Signed(number) => decimal(number < 0, number.unsigned_abs(), digits),
            Value::Append(more) => {
                self.copy_value(key, present, more.len(), joined)?;
                joined.extend_from_slice(more);
                joined
            }
            Value::Prepend(more) => {
                self.copy_value(key, present, more.len(), joined)?;
                joined.splice(..0, more.iter().copied());
                joined
            }
        };
        let (max, len) = (self.value_len_max(key.len()), value.len());
        if len as u64 > max {
            return Err(bad_value(len, max));
        }
        let value = if update.marks & record::WON != 0 {
            let winner = present.map_or(Ok(None), |found| self.winner_of(found))?;
            named.extend_from_slice(value);
            name(named, winner.unwrap_or_else(|| self.owner(me)));
            named
        } else {
            value
        };
        let head = Head {
            id: update.id,
            value_len: len as u32,
            key_len: key.len() as u32,
            flags: update.marks & record::MARKS | given(update.id != 0),
            expiry: update.expiry.min(record::EXPIRY_MAX),
            client: update.client,
        };
        Ok(Draft { head, value, origin: Origin::Operation })
    }

    /// The draft of a record with the value that is there.
    fn revised<'d>(
        &self,
        me: Actor<'_>,
        key: &[u8],
        found: &Found<'_>,
        revision: &Revision,
        scratch: &'d mut Scratch,
    ) -> Result<Draft<'d>> {
        self.copy_value(key, Some(found), 0, &mut scratch.joined)?;
        // A store's states are told apart by their ids.
        let (id, was_given) = match revision.id {
            Id::Keep if self.class.is_cache() => (found.head.id, found.head.flags & record::GIVEN),
            Id::Keep | Id::New => (0, 0),
            Id::Given(id) => (id, given(id != 0)),
        };
        let head = Head {
            id,
            flags: revision.marks & record::MARKS | was_given,
            expiry: revision.expiry.min(record::EXPIRY_MAX),
            ..found.head
        };
        if head.is_won() {
            let winner = if revision.win { None } else { self.winner_of(found)? };
            name(&mut scratch.joined, winner.unwrap_or_else(|| self.owner(me)));
        }
        Ok(Draft { head, value: &scratch.joined, origin: Origin::Operation })
    }

    /// Copies the value of a record, which may be torn, where `more` bytes shall be added to it.
    fn copy_value(
        &self,
        key: &[u8],
        present: Option<&Found<'_>>,
        more: usize,
        buffer: &mut Vec<u8>,
    ) -> Result<()> {
        let Some(found) = present else { return Ok(()) };
        let (max, len) = (self.value_len_max(key.len()), found.head.value_len as usize);
        if (len + more) as u64 > max {
            return Err(bad_value(len + more, max));
        }
        let value = record::value_span(self.pool.shm(), found.offset, self.header, &found.head)?;
        buffer.reserve_exact(len + more);
        buffer.resize(len, 0);
        value.copy_out(0, buffer)
    }

    /// Appends the record of a key that is not there, if it may come in.
    fn append_new(
        &self,
        me: Actor<'_>,
        hash: u64,
        key: &[u8],
        draft: &Draft<'_>,
        epoch: Epoch,
    ) -> Result<Option<Coming>> {
        self.admit(me, key.len(), draft.value.len(), 0)?;
        let class = self.class_of_new(hash)?;
        let lease = draft.head.is_tombstone();
        // Before the record, which would be in the way of making room.
        let entered = self.enter_tree(me, key)?;
        let place = if lease { None } else { Some(self.take_place(me)?) };
        let draft = &draft.placed(place.is_some() && self.entries_limit != 0);
        match self.append(me, class, Need::Growth, key, draft, None, epoch) {
            Ok(Some(record)) => {
                let counts = !draft.is_decided_later();
                let pending = draft.origin == Origin::Operation;
                Ok(Some(Coming { record, place, lease, counts, pending, entered }))
            }
            other => {
                if let Some(place) = place {
                    self.withdraw(me, place);
                }
                other.map(|_| None)
            }
        }
    }

    /// Appends the record of a draft to the caller's open chunk, which changes if it is full.
    #[inline]
    #[allow(clippy::too_many_arguments)]
    fn append(
        &self,
        me: Actor<'_>,
        class: Class,
        need: Need,
        key: &[u8],
        draft: &Draft<'_>,
        old: Option<&Found<'_>>,
        epoch: Epoch,
    ) -> Result<Option<Appended>> {
        let bytes = record_bytes(self.header, key.len() as u64, draft.value.len() as u64);
        if !self.class.is_journaled()
            && let Some(chunks) = self.pool.run_chunks(bytes)
        {
            let first = self.pool.take_record_run(me, class, self.object, chunks, need, Some(self))?;
            let extension = self.extension(draft, old)?;
            let appended = self.pool.append_run(first, &draft.head, extension.as_ref(), key, draft.value)?;
            if self.is_epoch(epoch) {
                return Ok(Some(appended));
            }
            self.pool.give_up(&appended)?;
            return Ok(None);
        }
        let place = match self.room(me, class, bytes)? {
            Some(place) => place,
            None => self.make_room(me, class, need, bytes)?,
        };
        // A flush since the decision: it may have been about what is gone by now.
        if !self.is_epoch(epoch) {
            return Ok(None);
        }
        let extension = self.extension(draft, old)?;
        self.pool.append(place, &draft.head, extension.as_ref(), key, draft.value).map(Some)
    }

    /// The extended header of a record that replaces `old`, or none: its order is one more than that of the old record, or
    /// than the floor, at or above which no state is that left the table.
    fn extension(&self, draft: &Draft<'_>, old: Option<&Found<'_>>) -> Result<Option<Extension>> {
        if !self.class.has_stamps() {
            return Ok(None);
        }
        let order = match (draft.origin, old) {
            (Origin::Files(order), _) => order,
            // Proved by the compare-and-swap of the slot: it expects the record whose order was read.
            (_, Some(old)) => self.order_at(old.offset)?.saturating_add(1),
            // Looked at again when the key is seen to be absent under the insert lock.
            // ORDER Acquire [order-floor]: as in `insert_held`.
            (_, None) => self.floor().load(Ordering::Acquire).saturating_add(1),
        };
        let prev = old.map_or(0, |old| old.offset);
        Ok(Some(match draft.origin {
            Origin::Operation => Extension { order, prev, stamp: stamp::PENDING },
            Origin::Files(_) => Extension { order, prev: 0, stamp: stamp::RESTORED },
            Origin::Transaction(reference) => Extension { order, prev, stamp: reference.0 },
        }))
    }

    /// Replaces the record in a slot by a new one. `seen`: as what.
    #[inline]
    fn replace(
        &self,
        me: Actor<'_>,
        hash: u64,
        key: &[u8],
        (found, seen): (&Found<'_>, Seen),
        draft: &Draft<'_>,
        epoch: Epoch,
    ) -> Result<Attempt<Outcome>> {
        let old_bytes = found.head.bytes(self.header);
        let new_bytes = record_bytes(self.header, key.len() as u64, draft.value.len() as u64);
        let need = if new_bytes > old_bytes { Need::Growth } else { Need::Overwrite };
        if need == Need::Growth {
            self.admit(me, key.len(), draft.value.len(), old_bytes)?;
        }
        let dead = self.dead_token(found.offset)?;
        let old_class = self.class_at(found.offset)?;
        let was_flushed = self.was_flushed(epoch, &found.head, found.offset);
        // In place of what is no entry one more comes.
        let comes = !draft.head.is_tombstone() && (was_flushed || found.head.is_tombstone());
        let place = if comes && self.entries_limit != 0 { Some(self.take_place(me)?) } else { None };
        let draft = &draft.placed(place.is_some());
        let appended = match self.append(me, old_class, need, key, draft, Some(found), epoch) {
            Ok(Some(appended)) => appended,
            other => {
                if let Some(place) = place {
                    self.withdraw(me, place);
                }
                return other.map(|_| Attempt::Again);
            }
        };
        // What follows was decided from an entry that nobody sees any more: it must not come back.
        if seen == Seen::Entry && self.has_expired(&found.head) {
            if let Some(place) = place {
                self.withdraw(me, place);
            }
            self.pool.give_up(&appended)?;
            return Ok(Attempt::Again);
        }
        kill_point!("table.replace.before_publish");
        // DIES BEFORE: a record that nothing points to. DIES AFTER: the entry is changed; the old bytes are not counted dead.
        // ORDER SeqCst [slot] [store-time]: releases the record to those who load the slot, before the clock is looked at.
        let next = found.word.publish(tag_of(hash), appended.offset);
        if found.slot.compare_exchange(found.word.0, next.0, Ordering::SeqCst, Ordering::Relaxed).is_err() {
            if let Some(place) = place {
                self.withdraw(me, place);
            }
            self.pool.give_up(&appended)?;
            return Ok(Attempt::Again);
        }
        kill_point!("table.replace.published");
        let changed = Changed { id: appended.id, offset: appended.offset, changed: true };
        if place.is_some() {
            self.use_place(me);
        }
        match draft.origin {
            Origin::Operation => self.stamp_own(appended.offset)?,
            Origin::Files(_) => {}
            // What it replaces counts until the transaction is decided; then that is counted.
            Origin::Transaction(_) => {
                self.note_installed(me, &appended)?;
                return Ok(Attempt::Done(Outcome::Changed(changed)));
            }
        }
        if appended.run {
            self.pool.seal_run(&appended)?;
        }
        self.pool.add_dead(dead.0, dead.1, old_bytes)?;
        let fresh = Head { id: appended.number << 20, ..Head::default() };
        let come = i64::from(!draft.head.is_tombstone() && place.is_none());
        let gone = i64::from(!found.head.is_tombstone());
        if was_flushed {
            self.count_record(me, &found.head, found.offset, -(old_bytes as i64), -gone);
            self.count_record(me, &fresh, appended.offset, new_bytes as i64, come);
        } else {
            let bytes = new_bytes as i64 - old_bytes as i64;
            self.count_record(me, &fresh, appended.offset, bytes, come - gone);
        }
        if self.entries_limit != 0 && self.class_at(appended.offset)? != old_class {
            self.count_small(if old_class == Class::Small { -1 } else { 1 });
        }
        match found.head.is_tombstone() {
            true if self.class.is_cache() => self.lease_ended(hash)?,
            false if seen == Seen::Hidden => self.note_hidden(me, &found.head, found.offset, key),
            _ => {}
        }
        Ok(Attempt::Done(Outcome::Changed(changed)))
    }

    /// Unlinks the record in a slot of a cache. `visible` says whether it counts as a change for the caller.
    fn unlink(
        &self,
        me: Actor<'_>,
        hash: u64,
        key: &[u8],
        found: Found<'_>,
        visible: bool,
    ) -> Result<Attempt<Outcome>> {
        let dead = self.dead_token(found.offset)?;
        self.note_leaving(found.offset)?;
        let small = self.is_young(found.offset)?;
        if visible && self.has_expired(&found.head) {
            return Ok(Attempt::Again);
        }
        kill_point!("table.unlink.before");
        // DIES BEFORE: nothing happened. DIES AFTER: the entry is gone; its bytes are not counted dead.
        // ORDER AcqRel [slot]: as in `replace`.
        let next = found.word.unlink();
        if found.slot.compare_exchange(found.word.0, next.0, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return Ok(Attempt::Again);
        }
        kill_point!("table.unlink.after");
        let bytes = found.head.bytes(self.header);
        self.pool.add_dead(dead.0, dead.1, bytes)?;
        let entries = -i64::from(!found.head.is_tombstone());
        self.count_record(me, &found.head, found.offset, -(bytes as i64), entries);
        self.count_small(-i64::from(small));
        if found.head.is_tombstone() && self.class.is_cache() {
            self.lease_ended(hash)?;
        } else if !visible {
            self.note_hidden(me, &found.head, found.offset, key);
        }
        Ok(Attempt::Done(Outcome::Changed(Changed { changed: visible, ..Changed::NOTHING })))
    }

    /// The chunk of a record and the generation under which its dead bytes are counted: taken before the record is
    /// unlinked, used after.
    #[inline]
    pub(super) fn dead_token(&self, offset: u64) -> Result<(crate::chunk::ChunkId, u32)> {
        let chunk = self.pool.geometry().chunk_of(offset).ok_or_else(|| outside(offset))?;
        Ok((chunk, self.pool.dead_generation(chunk)?))
    }

    /// Puts a record of a store as it was journaled, unless the key has one that is as new. Answers whether it was put.
    pub fn restore(&self, me: Actor<'_>, key: &[u8], restored: &Restored<'_>) -> Result<bool> {
        if key.is_empty() || key.len() > self.key_len_max() {
            return Err(bad_key(key.len(), self.key_len_max()));
        }
        let hash = self.hasher.hash(key);
        let draft = Draft {
            head: Head {
                id: 0,
                value_len: restored.value.map_or(0, <[u8]>::len) as u32,
                key_len: key.len() as u32,
                flags: record::RELOCATED | if restored.value.is_none() { TOMBSTONE } else { 0 },
                expiry: restored.expiry,
                client: restored.client,
            },
            value: restored.value.unwrap_or_default(),
            origin: Origin::Files(restored.order),
        };
        if draft.value.len() as u64 > self.value_len_max(key.len()) {
            return Err(bad_value(draft.value.len(), self.value_len_max(key.len())));
        }
        for _ in 0..TRIES {
            self.relieve(me)?;
            let (index, entry) = self.entry(hash)?;
            let span = self.index_span(entry)?;
            let attempt = match self.find(span, hash, key)? {
                Attempt::Done(Some(found)) if !self.settle(me, &found)? => Attempt::Again,
                Attempt::Done(Some(found)) => {
                    if self.order_at(found.offset)? >= restored.order {
                        if self.unchanged(&found) {
                            return Ok(false);
                        }
                        Attempt::Again
                    } else {
                        match self.replace(me, hash, key, (&found, Seen::Any), &draft, self.epoch()?)? {
                            Attempt::Done(_) => return Ok(true),
                            _ => Attempt::Again,
                        }
                    }
                }
                // The store is in use: whoever still restores was stopped, and all that it could restore is known.
                // ORDER Acquire [order-floor]: as in `insert_held`.
                Attempt::Done(None) if restored.order <= self.floor().load(Ordering::Acquire) => {
                    return Ok(false);
                }
                Attempt::Done(None) => match self.append_new(me, hash, key, &draft, self.epoch()?)? {
                    Some(coming) => self.insert_into(me, index, entry, hash, key, &coming)?,
                    None => Attempt::Again,
                },
                Attempt::Split => {
                    if let Some(split) = self.enter_split(me, hash)? {
                        self.finish_split(split)?;
                    }
                    Attempt::Again
                }
                Attempt::Again => Attempt::Again,
            };
            if let Attempt::Done(_) = attempt {
                return Ok(true);
            }
        }
        Err(too_many_tries("Restoring an entry"))
    }
}

/// As what a record was seen that is to be replaced.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// An entry.
    Entry,
    /// What had expired, was flushed, or is a tombstone.
    Hidden,
    /// It does not matter.
    Any,
}

/// What an update is shown, and whether it is one of an entry.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sight {
    Entries,
    Leases {
        tell: bool,
    },
    /// Entries; what is changed is a state of this transaction.
    Transaction(Reference),
}

impl Sight {
    fn origin(self) -> Origin {
        match self {
            Sight::Transaction(reference) => Origin::Transaction(reference),
            _ => Origin::Operation,
        }
    }
}

/// What an attempt came to.
enum Outcome {
    Kept,
    Changed(Changed),
    /// The key is not there: the appended record is to be inserted.
    Insert(Coming),
}

/// The mark of a record whose id is the user's.
const fn given(given: bool) -> u8 {
    if given { record::GIVEN } else { 0 }
}

#[cold]
#[inline(never)]
fn outside(offset: u64) -> Error {
    Error::new(ErrorCode::Corrupt, format!("A slot names a record at {offset}, outside the arena."))
}

/// A number in decimal, in the end of the buffer. Those with a sign have 63 bits and thus at most 19 digits.
fn decimal(negative: bool, mut number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            if negative && at > 0 {
                at -= 1;
                digits[at] = b'-';
            }
            return &digits[at..];
        }
    }
}
