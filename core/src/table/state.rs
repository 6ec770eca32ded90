//! What a store needs beside reading and updating: the current state of a key with its order, tombstones included; taking
//! out tombstones; putting states back that were read from files.
//!
//! The order of a record is one more than that of the record which it replaced; that of a record which replaced none is
//! one more than the table's floor, at or above which no state is that ever left the table. So of two states of a key, the
//! one that was published later has the higher order, also when the key was deleted and made again in between.

use super::lookup::{Attempt, Found};
use super::slot::SlotKind;
use super::stamp::{Phase, Stamp};
use super::{Table, too_many_tries};
use crate::chunk::record::{self, EXTENDED_BYTES, Head, RELOCATED};
use crate::chunk::{Actor, Walked};
use crate::error::{Error, ErrorCode, Result};
use crate::shm::atomic::{Ordering, fence};

/// Rounds of a loop: each lost one is somebody else's success.
const TRIES: u32 = 1_000_000;

/// The state of a key as its slot names it, tombstone or value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyState {
    /// Id of its record: the public version.
    pub id: u64,
    /// Where its record stands.
    pub offset: u64,
    /// Number of this state of its key.
    pub order: u64,
    /// Instant on the table's clock, 0 = never.
    pub expiry: u64,
    /// Flags of the user.
    pub client: u32,
    pub tombstone: bool,
    /// Its record was moved by the cleaner, or restored: the journal has it.
    pub relocated: bool,
}

/// Where a record stands to the cut of a flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// It counts since before; with its order.
    Before(u64),
    /// It counts later, or will.
    Behind,
    /// No slot names it: it will never count, unless its writer is about to publish it.
    Unpublished,
}

/// Gets key, value and state.
pub type StateVisitor<'a> = dyn FnMut(&[u8], &[u8], &KeyState) -> Result<()> + 'a;

impl KeyState {
    pub(super) fn new(offset: u64, head: &Head, order: u64) -> KeyState {
        KeyState {
            id: head.id,
            offset,
            order,
            expiry: head.expiry,
            client: head.client,
            tombstone: head.is_tombstone(),
            relocated: head.flags & RELOCATED != 0,
        }
    }
}

impl Table {
    /// The order of a record.
    pub(super) fn order_at(&self, offset: u64) -> Result<u64> {
        let block = self.pool.shm().block::<{ EXTENDED_BYTES as usize }>(offset)?;
        // ORDER Relaxed: a field of a published record; proved by a second look at its slot.
        Ok(block.u64::<{ record::at::ORDER }>().load(Ordering::Relaxed))
    }

    /// Calls `act` with the slot of a key, whose record counts, or `None` if there is none, until it answers: `None` from it
    /// means that others were faster.
    fn with_slot<T>(
        &self,
        me: Actor<'_>,
        key: &[u8],
        act: &mut dyn FnMut(Option<Found<'_>>) -> Result<Option<T>>,
    ) -> Result<T> {
        self.with_slot_as_found(me, key, &mut |found| match &found {
            Some(found) if !self.settle(me, found)? => Ok(None),
            _ => act(found),
        })
    }

    /// As `with_slot`, but the record may be one that no transaction has decided yet.
    pub(super) fn with_slot_as_found<T>(
        &self,
        me: Actor<'_>,
        key: &[u8],
        act: &mut dyn FnMut(Option<Found<'_>>) -> Result<Option<T>>,
    ) -> Result<T> {
        let hash = self.hasher.hash(key);
        for _ in 0..TRIES {
            let (index, entry) = self.entry(hash)?;
            let span = self.index_span(entry)?;
            let done = match self.find(span, hash, key)? {
                Attempt::Done(None) => {
                    // Nothing is there only if the index chunk was still in use.
                    // ORDER Acquire [chunk-reuse]: as for readers.
                    fence(Ordering::Acquire);
                    if self.directory_word(index)?.load(Ordering::Relaxed) == entry.0 {
                        act(None)?
                    } else {
                        None
                    }
                }
                Attempt::Done(found) => act(found)?,
                Attempt::Again => None,
                Attempt::Split => match self.enter_split(me, hash)? {
                    None => None,
                    Some(split) => match self.find(self.pool.span(split.child)?, hash, key)? {
                        Attempt::Done(found) => act(found)?,
                        _ => None,
                    },
                },
            };
            if let Some(done) = done {
                return Ok(done);
            }
            crate::shm::atomic::spin_hint();
        }
        Err(too_many_tries("Looking at a key"))
    }

    #[cfg(test)]
    /// The current state of a key; its value is copied into `value`, which is empty for a tombstone.
    pub fn key_state(&self, me: Actor<'_>, key: &[u8], value: &mut Vec<u8>) -> Result<Option<KeyState>> {
        self.with_slot(me, key, &mut |found| {
            value.clear();
            let Some(found) = found else { return Ok(Some(None)) };
            let copied = (|| {
                let span = record::value_span(self.pool.shm(), found.offset, self.header, &found.head)?;
                value.resize(span.len().min(u64::from(found.head.value_len)) as usize, 0);
                span.copy_out(0, value)?;
                Ok(KeyState::new(found.offset, &found.head, self.order_at(found.offset)?))
            })();
            // What was copied, or objected to, stands only if the slot still names that record.
            if self.unchanged(&found) { copied.map(|state| Some(Some(state))) } else { Ok(None) }
        })
    }

    /// Header and state of the record at `offset`, which stays.
    pub fn state_at(&self, offset: u64) -> Result<(Head, KeyState)> {
        let head = record::head_at(self.pool.shm(), offset)?;
        Ok((head, KeyState::new(offset, &head, self.order_at(offset)?)))
    }

    /// On which side of a cut a record stands that a walk found in a chunk which the journal does not have: the clock showed
    /// `cut` until [`Table::next_time`] moved it on for this flush.
    pub fn cut(&self, me: Actor<'_>, found: &Walked, cut: u64) -> Result<Cut> {
        for _ in 0..TRIES {
            // ORDER Acquire [stamp]: as in `what_counts`.
            let word = self.stamp_word(found.offset)?;
            let stamp = Stamp::of(word.load(Ordering::Acquire));
            if let Stamp::Since(time) = stamp {
                return Ok(if time <= cut { Cut::Before(self.order_at(found.offset)?) } else { Cut::Behind });
            }
            let hash = self.hash_of_record(found.offset, &found.head, &mut Vec::new())?;
            let mut entered = None;
            let owner = self.owner_of(me, hash, found.offset, &mut entered)?;
            // Nobody replaces, or takes back, what has no stamp without giving it one first: so what no slot names was never
            // published, or has its stamp by now.
            let Some(owner) = owner else {
                if Stamp::of(word.load(Ordering::Acquire)) == stamp {
                    return Ok(Cut::Unpublished);
                }
                continue;
            };
            let Stamp::Of(reference) = stamp else {
                self.settle_slot(me, owner.slot, owner.word)?;
                continue;
            };
            let Some((decision, seen, phase)) = self.decision_of(word, reference)? else { continue };
            match phase {
                Phase::Committed | Phase::Aborted => {
                    self.settle_slot(me, owner.slot, owner.word)?;
                }
                // It commits behind the cut, because it looks at the clock when it has been proved.
                Phase::Proving if seen.time() > cut => return Ok(Cut::Behind),
                // It may have looked at the clock before it was moved on: then it has to look again.
                Phase::Proving => {
                    kill_point!("table.cut.before_fence");
                    // ORDER SeqCst [decision]: pairs with the commit, which expects the word as it was.
                    let _ = decision.compare_exchange(
                        seen.0,
                        seen.with(Phase::Proving, cut + 1).0,
                        Ordering::SeqCst,
                        Ordering::Relaxed,
                    );
                    kill_point!("table.cut.fenced");
                }
                _ => return Ok(Cut::Behind),
            }
        }
        Err(Error::new(
            ErrorCode::Corrupt,
            format!("The record at {} waits for a transaction that is not under way.", found.offset),
        ))
    }

    /// Unlinks a tombstone if it is still the state of the key. The floor must be at its order before. False: it stays, because a
    /// snapshot needs what it replaced.
    pub fn drop_tombstone(&self, me: Actor<'_>, key: &[u8], state: &KeyState) -> Result<bool> {
        self.unlink_state(me, key, &mut |head| head.id == state.id && head.is_tombstone())
    }

    /// Unlinks the state of a key, whatever it is, if its record still has this id: for a recovery that begins again.
    pub fn forget(&self, me: Actor<'_>, key: &[u8], id: u64) -> Result<()> {
        self.unlink_state(me, key, &mut |head| head.id == id).map(|_| ())
    }

    fn unlink_state(
        &self,
        me: Actor<'_>,
        key: &[u8],
        condition: &mut dyn FnMut(&Head) -> bool,
    ) -> Result<bool> {
        let mut needed = false;
        let unlinked = self.with_slot(me, key, &mut |found| {
            needed = false;
            let Some(found) = found else { return Ok(Some(false)) };
            if !condition(&found.head) || found.word.kind() != SlotKind::Record {
                return Ok(if self.unchanged(&found) { Some(false) } else { None });
            }
            needed = found.head.is_tombstone() && self.is_needed_by_views(found.offset, &found.head)?;
            if needed {
                return Ok(if self.unchanged(&found) { Some(false) } else { None });
            }
            let dead = self.dead_token(found.offset)?;
            let bytes = found.head.bytes(self.header);
            // ORDER AcqRel [slot]: the floor was raised before; whoever sees the slot empty sees that.
            let next = found.word.unlink();
            if found.slot.compare_exchange(found.word.0, next.0, Ordering::AcqRel, Ordering::Relaxed).is_err()
            {
                return Ok(None);
            }
            self.pool.add_dead(dead.0, dead.1, bytes)?;
            self.count(me, -(bytes as i64), -i64::from(!found.head.is_tombstone()));
            Ok(Some(true))
        })?;
        if unlinked {
            self.leave_tree(me, key)?;
        }
        Ok(!needed)
    }

    /// Deletes an entry whose time is over, if it is still the one with this id: as every deletion, by a tombstone.
    pub fn bury_expired(&self, me: Actor<'_>, key: &[u8], id: u64) -> Result<()> {
        let hash = self.hasher.hash(key);
        self.with_slot(me, key, &mut |found| {
            let Some(found) = found else { return Ok(Some(())) };
            if found.head.id != id || found.head.is_tombstone() {
                return Ok(if self.unchanged(&found) { Some(()) } else { None });
            }
            Ok(self.publish_tombstone(me, hash, key, &found)?.then_some(()))
        })
    }

    /// All states, tombstones and expired entries included.
    pub fn each_state(&self, visit: &mut StateVisitor<'_>) -> Result<()> {
        self.each_state_in(&|_| true, visit)
    }
}

/// What a writer does when it wakes between appending and publishing.
#[cfg(test)]
impl Table {
    /// Publishes an appended record over the present one of the key, as `replace` would.
    pub fn publish_late(&self, me: Actor<'_>, key: &[u8], appended: &crate::chunk::Appended) -> Result<()> {
        let tag = super::slot::tag_of(self.hasher.hash(key));
        self.with_slot(me, key, &mut |found| {
            let found = found.expect("the key is there");
            let next = found.word.publish(tag, appended.offset);
            let swapped =
                found.slot.compare_exchange(found.word.0, next.0, Ordering::AcqRel, Ordering::Relaxed);
            Ok(swapped.is_ok().then_some(()))
        })
    }
}
