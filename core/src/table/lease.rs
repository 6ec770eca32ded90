//! Leases: who makes the value of a key that is not there, while others wait for it.
//!
//! A lease stands in the slot of its key, like an entry: a record with the flag `TOMBSTONE`, which readers, scans and counts
//! take for no entry, and whose value names its owner. So it is taken by the one compare-and-swap that publishes every
//! record; there is no second place that could disagree with the slot; and whatever is put over it ends it. Its id is the
//! ticket: who fills expects the very record of his lease, so a late fill of one whose lease was taken over, or whose key was
//! set or deleted meanwhile, changes nothing.
//!
//! An owner is a thread entry and its generation. A lease is taken over when the kernel proves its owner dead, or the entry
//! has another holder by now; never by time.
//!
//! In a cache that transactions may change, a deletion by a transaction is a tombstone as well, until it is unlinked: one without
//! a value, so that it names nobody, as a lease whose owner is gone. A transaction that deletes puts it over a lease too: what is
//! being computed may be out of date by then.
//!
//! Of an entry that is out of date, whoever is the first to ask is told to make a new value: its record is marked as won, and says
//! behind its value by whom. When that one is gone, the next who asks is told.
//!
//! Who waits sleeps on one of a few words, chosen by the key's hash, which changes when a lease ends: a [`Bell`]. Whatever
//! the bell misses, a sleeper sees after a slice.

use std::time::Duration;

use super::layout::{BELL_BYTES, BELL_COUNT, USER_OFFSET};
use super::lookup::{Attempt, Found};
use super::{Action, Changed, Current, Id, OBJECT_HEADER_BYTES, Revision, Table, Update};
use crate::chunk::Actor;
use crate::chunk::record::{Head, STALE, WON, winner_span};
use crate::error::Result;
use crate::shm::atomic::{AtomicU32, Ordering, fence};
use crate::shm::{Span, futex};

/// Who has a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Index of the thread's entry.
    pub thread: u16,
    /// Its generation.
    pub generation: u32,
}

impl Owner {
    const BYTES: usize = 8;

    /// As it stands in a record.
    pub(super) fn bytes(self) -> [u8; Owner::BYTES] {
        (u64::from(self.thread) | u64::from(self.generation) << 32).to_le_bytes()
    }

    /// The owner that a lease names; what a damaged one names is nobody, so that it is taken over.
    fn of(lease: &Current<'_>) -> Result<Owner> {
        let mut bytes = [0; Owner::BYTES];
        if lease.head.value_len as usize == Owner::BYTES {
            lease.value.copy_out(0, &mut bytes)?;
        }
        Ok(Owner::named(bytes))
    }

    fn named(bytes: [u8; Owner::BYTES]) -> Owner {
        let word = u64::from_le_bytes(bytes);
        Owner { thread: word as u16, generation: (word >> 32) as u32 }
    }
}

/// What asking for a lease came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// There is an entry, which was shown.
    Present,
    /// The caller has the lease with this ticket.
    Taken(u64),
    /// Another thread has it, and lives; `own`: the caller itself.
    Held { by: Owner, own: bool },
}

/// What a lease ends with.
#[derive(Clone, Copy, Debug)]
pub enum End<'v> {
    Fill(Update<'v>),
    Abandon,
}

impl Table {
    /// Asks for the entry of a key, or for the lease on it. Of an entry that is stale, the first who asks gets the lease, and the
    /// others see it as it is. `see` is shown an entry and may be called several times.
    pub fn lease(
        &self,
        me: Actor<'_>,
        key: &[u8],
        see: &mut dyn FnMut(&Current<'_>) -> Result<()>,
    ) -> Result<Asked> {
        let mine = self.owner(me);
        let bytes = mine.bytes();
        let mut asked = Asked::Present;
        let changed = self.update_leased(me, key, false, |current| {
            asked = Asked::Taken(0);
            let Some(current) = current else { return Ok(Action::Lease(&bytes)) };
            if current.head.is_tombstone() {
                let by = Owner::of(&current)?;
                if self.is_gone(by) {
                    return Ok(Action::Lease(&bytes));
                }
                asked = Asked::Held { by, own: by == mine };
                return Ok(Action::Keep);
            }
            if current.head.flags & STALE != 0 && current.winner.is_none_or(|by| self.is_gone(by)) {
                return Ok(Action::Revise(Revision {
                    expiry: current.head.expiry,
                    marks: STALE | WON,
                    id: Id::Keep,
                    win: true,
                }));
            }
            asked = Asked::Present;
            see(&current)?;
            Ok(Action::Keep)
        })?;
        kill_point!("table.lease.asked");
        Ok(if let Asked::Taken(_) = asked { Asked::Taken(changed.id) } else { asked })
    }

    /// Ends the lease with this ticket: with an entry, or with none as before. Nothing is changed if it is not there any more.
    pub fn end_lease(&self, me: Actor<'_>, key: &[u8], ticket: u64, end: End<'_>) -> Result<Changed> {
        self.update_leased(me, key, matches!(end, End::Fill(_)), |current| {
            let Some(current) = current.filter(|current| current.head.id == ticket) else {
                return Ok(Action::Keep);
            };
            Ok(match end {
                End::Fill(update) => Action::Put(update),
                End::Abandon if current.head.is_tombstone() => Action::Remove,
                End::Abandon => Action::Revise(Revision {
                    expiry: current.head.expiry,
                    marks: current.head.flags & !WON,
                    id: Id::Keep,
                    win: false,
                }),
            })
        })
    }

    /// Whether a lease with this value has no owner who could fill it.
    pub(super) fn is_lease_of_gone(&self, head: &Head, value: Span<'_>) -> Result<bool> {
        Ok(self.is_gone(Owner::of(&Current { head: *head, value, winner: None })?))
    }

    /// The calling thread, as the owner of what it takes.
    pub(super) fn owner(&self, me: Actor<'_>) -> Owner {
        Owner { thread: me.index, generation: self.pool.ground().thread_generation(me.index) }
    }

    /// Who was told to make a new value for an entry.
    pub(super) fn winner_of(&self, found: &Found<'_>) -> Result<Option<Owner>> {
        if !found.head.is_won() || !self.class.is_cache() {
            return Ok(None);
        }
        let mut bytes = [0; Owner::BYTES];
        winner_span(self.pool.shm(), found.offset, self.header, &found.head)?.copy_out(0, &mut bytes)?;
        Ok(Some(Owner::named(bytes)))
    }

    /// Whether somebody who lives was told to make a new value for the entry of a key. False where that is not certain.
    pub fn winner_lives(&self, key: &[u8]) -> Result<bool> {
        let hash = self.hash(key);
        let (_, entry) = self.entry(hash)?;
        let Attempt::Done(Some(found)) = self.find(self.index_span(entry)?, hash, key)? else {
            return Ok(false);
        };
        let winner = self.winner_of(&found);
        if !self.unchanged(&found) {
            return Ok(false);
        }
        Ok(winner?.is_some_and(|winner| !self.is_gone(winner)))
    }

    /// Whether whoever owns a lease, or has won, will not fill it any more.
    pub fn is_gone(&self, owner: Owner) -> bool {
        let ground = self.pool.ground();
        owner.thread == 0
            || ground.thread_generation(owner.thread) != owner.generation
            || ground.thread_is_dead(owner.thread)
    }

    /// The bell of a key.
    pub fn bell(&self, key: &[u8]) -> Result<Bell<'_>> {
        self.bell_of(self.hash(key))
    }

    fn bell_of(&self, hash: u64) -> Result<Bell<'_>> {
        let offset =
            self.control - OBJECT_HEADER_BYTES + USER_OFFSET + (hash >> 20) % BELL_COUNT * BELL_BYTES;
        Ok(Bell::new(self.shm.block::<8>(offset)?.u32::<0>()))
    }

    /// A lease of a key with this hash ended: wakes who waits for that.
    #[cold]
    #[inline(never)]
    pub(super) fn lease_ended(&self, hash: u64) -> Result<()> {
        // DIES BEFORE: who waits sees the end of the lease after its slice.
        kill_point!("table.lease.before_ring");
        // Models have no user part; they have the bell alone.
        if !cfg!(memora_loom) {
            self.bell_of(hash)?.ring();
        }
        Ok(())
    }
}

/// A word that is changed for those who wait: `{waiters 1 | sequence 31}`.
#[derive(Clone, Copy)]
pub struct Bell<'a>(&'a AtomicU32);

const WAITERS: u32 = 1;

impl<'a> Bell<'a> {
    /// The bell that is this word.
    pub(super) fn new(word: &'a AtomicU32) -> Bell<'a> {
        Bell(word)
    }

    /// Announces somebody who waits. The caller then looks once more at what it waits for, and sleeps with what this gives.
    pub fn listen(self) -> u32 {
        // ORDER SeqCst [lease-bell]: before the second look; pairs with the fence in `ring`.
        let seen = self.0.fetch_or(WAITERS, Ordering::SeqCst) | WAITERS;
        fence(Ordering::SeqCst);
        seen
    }

    /// Sleeps until the bell rings after `seen`, for a slice at most.
    pub fn sleep(self, seen: u32, timeout: Duration) {
        futex::wait(self.0, seen, timeout);
    }

    /// Wakes who waits, if anybody does.
    pub(super) fn ring(self) {
        // ORDER SeqCst [lease-bell]: behind the store that ended the lease; pairs with the fence in `listen`.
        fence(Ordering::SeqCst);
        // ORDER Relaxed: ordered by the fence.
        let seen = self.0.load(Ordering::Relaxed);
        if seen & WAITERS == 0 {
            return;
        }
        // ORDER Relaxed: sleepers look again. Who fails leaves it to the one who succeeded: they rang after the same sleepers.
        let next = (seen & !WAITERS).wrapping_add(2);
        if self.0.compare_exchange(seen, next, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            futex::wake(self.0, u32::MAX);
        }
    }
}
