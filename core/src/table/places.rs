//! Places among a limited number of entries: whoever brings an entry takes one before.
//!
//! The limit is kept by one word, that of the first stripe: it is counted up before an entry comes, and down after one went. So
//! it shows too many for a moment, never too few; and what a thread leaves that is killed in between is found by counting the
//! slots anew. Whoever lives and has taken a place for what is not yet in a slot says so in its own line of counts, however long
//! it is stopped: that place is counted as well.

use super::evict::KEEP_MAX;
use super::layout::control;
use super::{Count, Table};
use crate::chunk::record::{self, PLACED};
use crate::chunk::{Actor, Effort};
use crate::error::{Error, ErrorCode, Result};
use crate::shm::atomic::{AtomicU64, Ordering, fence};

/// Entries that come in after one found no quiet moment to count anew, until another one tries.
const REST: u64 = 4096;
/// Entries that go at most for one to come. It is one, unless the counts were off.
const EVICT_MAX: u32 = 1000;

/// A place that was taken: with the word of the flush at that time, which says where it is counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place(u64);

/// What changes when entries come and go: a count of them is right if all this stayed as it was.
#[derive(PartialEq, Eq)]
struct Trace {
    flush: u64,
    entries: u64,
    changes: u64,
    /// Places that threads have taken and not yet used or given back.
    taken: u64,
}

impl Table {
    /// Takes a place for an entry that is to come; evicts one for it if it is one too many.
    pub(super) fn take_place(&self, me: Actor<'_>) -> Result<Place> {
        if self.entries_limit == 0 {
            return Ok(Place(0));
        }
        // The caller's own place is not in the index yet: so before it is taken.
        if self.counts_are_due(control::COUNTED) && !self.capacity.recount_rests() {
            self.recount_entries()?;
        }
        let (place, word) = self.count_place(me);
        // ORDER Relaxed: a count, taken anew after a death.
        let fits = || word.load(Ordering::Relaxed) as i64 <= self.most_entries();
        let made = if fits() { Ok(true) } else { self.make_place(me, &fits) };
        if let Ok(true) = made {
            return Ok(place);
        }
        self.withdraw(me, place);
        made?;
        // Those that died in between may have left some.
        if self.pool.reap() && self.recount_entries()? {
            let (place, word) = self.count_place(me);
            if word.load(Ordering::Relaxed) as i64 <= self.most_entries() {
                return Ok(place);
            }
            self.withdraw(me, place);
        }
        let most = self.entries_limit;
        Err(Error::new(ErrorCode::Full, format!("The cache holds {most} entries, as many as it may.")))
    }

    fn most_entries(&self) -> i64 {
        i64::try_from(self.entries_limit).unwrap_or(i64::MAX)
    }

    fn count_place(&self, me: Actor<'_>) -> (Place, &AtomicU64) {
        self.hold_place(me.index, true);
        let flush = self.settled_flush();
        let word = self.stripe_word(0, Table::set_of(flush), control::ENTRIES);
        // ORDER Release [places]: who counts anew and sees this place in the sum sees that it is taken.
        word.fetch_add(1, Ordering::Release);
        (Place(flush), word)
    }

    /// Evicts, or takes out what has expired, until `fits`. False when nothing more can be had.
    #[cold]
    fn make_place(&self, me: Actor<'_>, fits: &dyn Fn() -> bool) -> Result<bool> {
        if !self.evicts {
            self.expire_until(me, || Ok(fits()))?;
            return Ok(fits());
        }
        let mut effort = Effort::new(&self.pool);
        for _ in 0..EVICT_MAX {
            // Others may hold what there is: they give it back, or it is taken from them when they seem to be stopped.
            let mut waits = true;
            while waits && !fits() && self.evict(me, 2 * KEEP_MAX, 1)? == 0 {
                waits = self.pool.wait(&mut effort);
            }
            if fits() {
                return Ok(true);
            }
            if !waits {
                break;
            }
        }
        Ok(false)
    }

    /// The entry is in a slot.
    pub(super) fn use_place(&self, me: Actor<'_>) {
        if self.entries_limit != 0 {
            self.hold_place(me.index, false);
        }
    }

    /// The entry did not come.
    pub(super) fn withdraw(&self, me: Actor<'_>, place: Place) {
        if self.entries_limit != 0 {
            let now = self.settled_flush();
            // A flush since then exchanged the sets, and took the place to that of what is gone.
            let set = Table::set_of(now) ^ usize::from(now != place.0);
            // ORDER Relaxed: a count.
            self.stripe_word(0, set, control::ENTRIES).fetch_sub(1, Ordering::Relaxed);
            self.hold_place(me.index, false);
        }
    }

    /// Young entries of a cache with a limit of entries.
    pub(super) fn small_entries(&self) -> u64 {
        // ORDER Relaxed: a count that decides which queue is evicted from.
        let count = self.control().u64::<{ control::SMALL_ENTRIES }>().load(Ordering::Relaxed);
        if count as i64 >= 0 { count } else { 0 }
    }

    /// Counts young entries of a cache with a limit of entries.
    pub(super) fn count_small(&self, delta: i64) {
        if delta != 0 && self.entries_limit != 0 {
            // ORDER Relaxed: as above.
            self.control().u64::<{ control::SMALL_ENTRIES }>().fetch_add(delta as u64, Ordering::Relaxed);
        }
    }

    /// Counts the entries in the index, and corrects the stripes if nobody changed entries meanwhile. Otherwise a later call tries
    /// again. Whether it could.
    pub(super) fn recount_entries(&self) -> Result<bool> {
        // ORDER Acquire [deaths]: as in `counts_are_due`.
        let deaths = self.control().u64::<{ control::DEATHS }>().load(Ordering::Acquire);
        for _ in 0..4 {
            let before = self.trace();
            let (mut counted, mut small) = (0u64, 0u64);
            self.each_slot(&mut |word, _| {
                let named = word.offset();
                small += u64::from(self.is_young(named)?);
                let counts = self.counted(named)?;
                if counts != Some(named) {
                    let head = record::head_at(self.pool.shm(), named)?;
                    counted += u64::from(head.flags & PLACED != 0 && !self.is_flushed(&head, named));
                }
                let Some(offset) = counts else { return Ok(()) };
                let head = record::head_at(self.pool.shm(), offset)?;
                counted += u64::from(!head.is_tombstone() && !self.is_flushed(&head, offset));
                small += u64::from(offset != named && self.is_young(offset)?);
                Ok(())
            })?;
            if self.trace() == before {
                // ORDER Relaxed: sums.
                self.stripe_word(0, Table::set_of(before.flush), control::ENTRIES).fetch_add(
                    counted.wrapping_add(before.taken).wrapping_sub(before.entries),
                    Ordering::Relaxed,
                );
                if self.entries_limit != 0 {
                    self.control().u64::<{ control::SMALL_ENTRIES }>().store(small, Ordering::Relaxed);
                }
                self.control().u64::<{ control::COUNTED }>().store(deaths, Ordering::Relaxed);
                return Ok(true);
            }
        }
        self.capacity.rest_from_recounting(REST);
        Ok(false)
    }

    fn trace(&self) -> Trace {
        let flush = self.settled_flush();
        let [_, entries] = self.sums_of(Table::set_of(flush));
        // ORDER Acquire [places]: the places in the sum are seen as taken.
        fence(Ordering::Acquire);
        let taken = self.places_held();
        let counts = self.counts();
        let all =
            [Count::Set, Count::Delete, Count::EvictSmall, Count::EvictMain, Count::Expire, Count::Flush];
        let changes = all.into_iter().fold(0u64, |sum, count| sum.wrapping_add(counts.of(count)));
        Trace { flush, entries, changes, taken }
    }
}
