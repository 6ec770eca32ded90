//! New keys. Two who insert the same key exclude each other by the lock of its home bucket, the only lock of a table.
//!
//! A lock names its holder and a ticket. A dead holder's lock is taken at once. From a live holder that shows the same
//! ticket for too long (it is stopped) it is taken as well, and then *every* empty slot that the holder may be about to fill
//! gets another version: whatever the holder does when it goes on, its compare-and-swap fails, so does its unlocking, and
//! it begins again. Because the buckets of a home are few and the same for all its keys, that is a bounded walk.

use super::action::Changed;
use super::evict::set_frequency;
use super::layout::{ALTERNATIVES, Bucket, Entry, IN_STASH, SLOT_COUNT, bucket, bucket_of};
use super::lookup::{Attempt, frozen};
use super::places::Place;
use super::slot::{Slot, SlotKind, tag_of};
use super::{Table, too_many_tries};
use crate::chunk::record::Head;
use crate::chunk::{Actor, Appended, ChunkId, Guard};
use crate::error::Result;
use crate::shm::Span;
use crate::shm::atomic::{AtomicU32, AtomicU64, Ordering, spin_hint, yield_now};
use crate::tree::Entered;

/// Bits of the holder in a lock word; the ticket stands above.
const HOLDER_BITS: u32 = 12;
const HOLDER_MASK: u32 = (1 << HOLDER_BITS) - 1;
/// A live holder that shows the same ticket for so long is taken for stopped.
#[cfg(not(memora_loom))]
const STOPPED_NS: u64 = 2_000_000;
/// Looks at a lock before its holder's life is examined.
#[cfg(not(memora_loom))]
const PATIENCE: u32 = 200;
#[cfg(memora_loom)]
const PATIENCE: u32 = 1;
/// Rounds of waiting for a lock: many holders may come and go before.
const TRIES: u32 = 1_000_000;

/// An appended record that is to be inserted.
pub(super) struct Coming {
    pub record: Appended,
    /// Its place among a limited number of entries.
    pub place: Option<Place>,
    /// Whether it is a tombstone, which is no entry.
    pub lease: bool,
    /// Whether it counts when it is there: a state of a transaction does not yet.
    pub counts: bool,
    /// Whether it gets its stamp then.
    pub pending: bool,
    /// The leaf that shows the key, if keys are kept in order.
    pub entered: Option<Entered>,
}

/// A held insert lock.
pub(super) struct Lock<'a> {
    word: &'a AtomicU32,
    held: u32,
}

const fn holder(word: u32) -> u32 {
    word & HOLDER_MASK
}

/// The lock word of `me` that follows `word`: the ticket goes on, so that no two holdings look the same.
const fn taken(word: u32, me: u16) -> u32 {
    (word >> HOLDER_BITS).wrapping_add(1) << HOLDER_BITS | me as u32 & HOLDER_MASK
}

impl Lock<'_> {
    /// Whether nobody took the lock away.
    pub(super) fn holds(&self) -> bool {
        // ORDER Acquire [insert-lock]: behind the load of an empty slot: a slot that a thief poisoned shows the theft too.
        self.word.load(Ordering::Acquire) == self.held
    }

    /// Frees the lock, unless it was taken away.
    pub(super) fn release(self) {
        kill_point!("table.insert.before_unlock");
        // ORDER Release [insert-lock]: the insertion comes before; pairs with the next taking.
        let _ = self.word.compare_exchange(
            self.held,
            self.held & !HOLDER_MASK,
            Ordering::Release,
            Ordering::Relaxed,
        );
    }
}

impl Table {
    /// Inserts an appended record for a key that was not found. Unless the answer is `Done`, the record was given up.
    pub(super) fn insert_into(
        &self,
        me: Actor<'_>,
        index: u64,
        entry: Entry,
        hash: u64,
        key: &[u8],
        coming: &Coming,
    ) -> Result<Attempt<Changed>> {
        let chunk = ChunkId(entry.chunk() as u32);
        let pinned = Guard::pin(me, chunk).and_then(|pinned| {
            // The second look of the pin: as long as the entry stands, the chunk is in use, and now it stays.
            // ORDER Acquire [directory]: as in `Table::entry`.
            let stands = self.directory_word(index)?.load(Ordering::Acquire) == entry.0;
            Ok(stands.then_some(pinned))
        });
        let done = match pinned {
            Ok(Some(_pinned)) => self.insert_locked(me, chunk, hash, key, coming)?,
            Ok(None) => {
                self.give_up(me, coming)?;
                Attempt::Again
            }
            Err(error) => {
                self.give_up(me, coming)?;
                return Err(error);
            }
        };
        if let Attempt::Split = done {
            self.make_slot(me, hash)?;
            return Ok(Attempt::Again);
        }
        Ok(done)
    }

    /// Inserts into an index chunk that is pinned. `Split` means that there is no room for the key in it, or that a place for
    /// it is being moved to a child. Unless the answer is `Done`, the record was given up.
    pub(super) fn insert_locked(
        &self,
        me: Actor<'_>,
        chunk: ChunkId,
        hash: u64,
        key: &[u8],
        coming: &Coming,
    ) -> Result<Attempt<Changed>> {
        let done = self.insert_in_turn(me, chunk, hash, key, coming);
        if !matches!(done, Ok(Attempt::Done(_))) {
            self.give_up(me, coming)?;
        }
        done
    }

    /// Inserts when it is the caller's turn.
    fn insert_in_turn(
        &self,
        me: Actor<'_>,
        chunk: ChunkId,
        hash: u64,
        key: &[u8],
        coming: &Coming,
    ) -> Result<Attempt<Changed>> {
        let span = self.pool.span(chunk)?;
        let home = bucket_of(span, self.shape.home(hash))?;
        let lock = self.lock(me, span, self.shape.home(hash))?;
        kill_point!("table.insert.locked");
        let done = self.insert_held(me, span, home, hash, key, coming, &lock);
        lock.release();
        kill_point!("table.insert.unlocked");
        done
    }

    /// The record was not inserted, and never will be.
    fn give_up(&self, me: Actor<'_>, coming: &Coming) -> Result<()> {
        if let Some(place) = coming.place {
            self.withdraw(me, place);
        }
        self.pool.give_up(&coming.record)
    }

    /// Inserts while the lock of the home is held.
    #[allow(clippy::too_many_arguments)]
    fn insert_held(
        &self,
        me: Actor<'_>,
        span: Span<'_>,
        home: Bucket<'_>,
        hash: u64,
        key: &[u8],
        coming: &Coming,
        lock: &Lock<'_>,
    ) -> Result<Attempt<Changed>> {
        let appended = &coming.record;
        // Somebody may have inserted it before the lock was taken, or the buckets are being moved to a child.
        if !matches!(self.find(span, hash, key)?, Attempt::Done(None)) {
            return Ok(Attempt::Again);
        }
        // Whoever is about to take the key out of the tree, because it was absent, fails from now on.
        if let Some(entered) = coming.entered
            && !self.touch_tree(key, entered)?
        {
            return Ok(Attempt::Again);
        }
        for (place, number) in self.shape.candidates(hash).into_iter().enumerate() {
            let bucket = bucket_of(span, number)?;
            // No mark of the home leads here, so no search has noticed the split. Whoever began it may be dead: it is carried on.
            if frozen(bucket) {
                return Ok(Attempt::Split);
            }
            let Some((slot_number, slot, word)) = empty_slot(bucket) else { continue };
            // The word is one that a thief of the lock poisons only from here on: then the swap below fails.
            if !lock.holds() {
                return Ok(Attempt::Again);
            }
            // The key is absent, and was not made and deleted since the record got its order, unless the floor shows it.
            // ORDER Acquire [order-floor]: raised before a tombstone left the slot.
            if self.class.has_stamps()
                && self.order_at(appended.offset)? <= self.floor().load(Ordering::Acquire)
            {
                return Ok(Attempt::Again);
            }
            // No reader may skip a place where the key may be: the marks come first.
            // ORDER Relaxed: ordered before the slot by its Release.
            match place {
                0 => {}
                1 => home.u8::<{ bucket::OVERFLOW }>().store(1, Ordering::Relaxed),
                _ => {
                    home.u8::<{ bucket::FLAGS }>().fetch_or(IN_STASH, Ordering::Relaxed);
                }
            }
            kill_point!("table.insert.before_publish");
            // DIES BEFORE: a held lock, maybe a mark too many, a dead record. DIES AFTER: the key is there; the lock is held and
            // the entry not counted.
            // ORDER SeqCst [slot] [store-time]: as in `replace`.
            let next = word.publish(tag_of(hash), appended.offset);
            if slot.compare_exchange(word.0, next.0, Ordering::SeqCst, Ordering::Relaxed).is_err() {
                // Taken by a key of another home, or frozen, or the lock was stolen.
                return Ok(Attempt::Again);
            }
            kill_point!("table.insert.published");
            if coming.pending {
                self.stamp_own(appended.offset)?;
            } else if self.class.has_stamps() {
                self.show_by_the_floor(appended.offset)?;
            }
            if coming.place.is_some() {
                self.use_place(me);
            }
            if self.evicts {
                set_frequency(bucket, slot_number, 0);
            }
            // It is there: what is damaged about counting it is for others to meet.
            let _ = match coming.counts {
                true => self.note_inserted(me, coming),
                false => self.note_installed(me, appended),
            };
            return Ok(Attempt::Done(Changed { id: appended.id, offset: appended.offset, changed: true }));
        }
        Ok(Attempt::Split)
    }

    /// Seals and counts what was inserted.
    fn note_inserted(&self, me: Actor<'_>, coming: &Coming) -> Result<()> {
        let appended = &coming.record;
        if appended.run {
            self.pool.seal_run(appended)?;
        }
        let head = Head { id: appended.number << 20, ..Head::default() };
        // With a limit of entries it was counted when it got its place.
        let entries = i64::from(!coming.lease && self.entries_limit == 0);
        self.count_record(me, &head, appended.offset, appended.bytes as i64, entries);
        self.count_small(i64::from(self.is_young(appended.offset)?));
        Ok(())
    }

    /// Takes the insert lock of a home bucket in a pinned index chunk.
    pub(super) fn lock<'a>(&self, me: Actor<'_>, span: Span<'a>, home: u64) -> Result<Lock<'a>> {
        let word = bucket_of(span, home)?.u32::<{ bucket::LOCK }>();
        let mut watched = 0;
        #[cfg(not(memora_loom))]
        let mut since = 0;
        for round in 0..TRIES {
            // ORDER Relaxed: the compare-and-swap decides.
            let seen = word.load(Ordering::Relaxed);
            let mut stolen = false;
            let take = if holder(seen) == 0 {
                true
            } else if seen != watched && !cfg!(memora_loom) {
                watched = seen;
                #[cfg(not(memora_loom))]
                {
                    since = 0;
                }
                false
            } else if round % PATIENCE != 0 {
                false
            } else if holder(seen) == me.index as u32
                || self.pool.ground().thread_is_dead(holder(seen) as u16)
            {
                // The holder is dead, or was a dead user of this thread's entry: it stores nothing more.
                true
            } else {
                #[cfg(not(memora_loom))]
                {
                    let now = crate::shm::time::monotonic_ns();
                    since = if since == 0 { now } else { since };
                    stolen = now.saturating_sub(since) >= STOPPED_NS;
                }
                #[cfg(memora_loom)]
                {
                    stolen = true;
                }
                stolen
            };
            if take {
                let held = taken(seen, me.index);
                kill_point!("table.lock.before");
                // ORDER Acquire [insert-lock]: sees what the last holder inserted.
                if word.compare_exchange(seen, held, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                    if stolen {
                        kill_point!("table.lock.stolen");
                        self.poison(span, home)?;
                    }
                    return Ok(Lock { word, held });
                }
                watched = 0;
            }
            if round % 64 == 63 { yield_now() } else { spin_hint() }
        }
        Err(too_many_tries("Waiting to insert a key"))
    }

    /// Gives every empty slot that a holder of this home's lock may be about to fill another version.
    fn poison(&self, span: Span<'_>, home: u64) -> Result<()> {
        let stash = self.shape.stash(home);
        let others = (0..ALTERNATIVES.len()).map(|which| self.shape.alternative(home, which));
        for number in std::iter::once(home).chain(others).chain(stash) {
            let bucket = bucket_of(span, number)?;
            for slot in 0..SLOT_COUNT {
                let slot = bucket.u64_at::<0>(slot);
                // ORDER Relaxed: the swap below decides.
                let word = Slot(slot.load(Ordering::Relaxed));
                if word.kind() == SlotKind::Empty {
                    // A failure means that it has just got another version.
                    // ORDER Release [slot]: the theft of the lock is seen by whoever sees the new version.
                    let _ =
                        slot.compare_exchange(word.0, word.unlink().0, Ordering::Release, Ordering::Relaxed);
                }
            }
            kill_point!("table.lock.poisoned");
        }
        Ok(())
    }
}

/// The first empty slot of a bucket.
fn empty_slot(bucket: Bucket<'_>) -> Option<(usize, &AtomicU64, Slot)> {
    (0..SLOT_COUNT).find_map(|number| {
        let slot = bucket.u64_at::<0>(number);
        // ORDER Acquire [slot]: whoever emptied or poisoned it did so after the theft of a lock, or after raising the floor.
        let word = Slot(slot.load(Ordering::Acquire));
        (word.kind() == SlotKind::Empty).then_some((number, slot, word))
    })
}
