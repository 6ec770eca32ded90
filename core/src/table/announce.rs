//! Announcements of snapshots: words in the control area of a store that say which times are still read.
//!
//! ```text
//!  0 used    u64  entries that were ever taken: those behind them are free
//!  8 kept    u64  1: a chunk could not be freed because of a snapshot
//! 16 age     u64  milliseconds after which a snapshot may be cancelled, 0 = SNAPSHOT_AGE_MS
//! 24 share   u64  percent of the chunks that may be kept for snapshots, 0 = SNAPSHOT_SHARE
//! 32 cancelled u64  snapshots that were cancelled, over the life of the store;  40 zeros
//! 64 entries 64 x 16 B {word u64 | begun u64, milliseconds of the boot clock}
//!
//! word = | state 2 | owner 12 | time 50 |     highest bits first; state: 0 free, 1 claimed, 2 open, 3 cancelled
//! ```
//! The owner is an entry of the thread table that ends with its process. The time of a claimed entry is what the clock of the
//! store showed before: its snapshot will be of that time or a later one. An open one is of that time; no two are of the same,
//! because each moves the clock on, so a compare-and-swap that comes late fails.
//!
//! **What a snapshot needs is kept** by two who never look past each other. Who takes a snapshot announces it, then a fence, then
//! looks at the clock and at the slots. Who frees a chunk, or takes a deletion out, has unlinked everything that is in it, then a
//! fence, then looks at the announcements. So either the second sees the announcement, or the first sees slots and clock as
//! they are behind the unlinking: then it has no way to what is gone.
//!
//! Others take an entry away only when the kernel has proved its owner dead; else they cancel it. A cancelled one keeps nothing,
//! and is freed by its owner.

use crate::error::Result;
use crate::shm::atomic::{AtomicU64, Ordering, fence};
use crate::shm::{Block, Shm};

/// Snapshots of one store at once.
pub const SNAPSHOTS_MAX: u64 = if cfg!(memora_loom) { 2 } else { 64 };
/// Milliseconds after which a snapshot may be cancelled, unless the store says otherwise.
pub const SNAPSHOT_AGE_MS: u64 = 60_000;
/// Percent of the chunks that may be kept for snapshots, unless the store says otherwise.
pub const SNAPSHOT_SHARE: u64 = 25;
/// Bytes of an entry.
pub const ENTRY_BYTES: u64 = 16;
/// Where the entries begin.
pub const ENTRIES_AT: u64 = 64;
/// Bytes of all.
pub const AREA_BYTES: u64 = ENTRIES_AT + SNAPSHOTS_MAX * ENTRY_BYTES;

const TIME_BITS: u32 = 50;
const TIME_MASK: u64 = (1 << TIME_BITS) - 1;
const OWNER_MASK: u64 = 0xfff;
const STATE_SHIFT: u32 = 62;

/// Field offsets.
mod at {
    pub const USED: usize = 0;
    pub const KEPT: usize = 8;
    pub const AGE: usize = 16;
    pub const SHARE: usize = 24;
    pub const CANCELLED: usize = 32;
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Free = 0,
    Claimed = 1,
    Open = 2,
    Cancelled = 3,
}

/// The word of an entry.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Word(u64);

impl Word {
    const FREE: Word = Word(0);

    fn new(state: State, owner: u16, time: u64) -> Word {
        Word((state as u64) << STATE_SHIFT | (u64::from(owner) & OWNER_MASK) << TIME_BITS | time & TIME_MASK)
    }

    fn state(self) -> State {
        match self.0 >> STATE_SHIFT {
            0 => State::Free,
            1 => State::Claimed,
            2 => State::Open,
            _ => State::Cancelled,
        }
    }

    fn owner(self) -> u16 {
        (self.0 >> TIME_BITS & OWNER_MASK) as u16
    }

    fn time(self) -> u64 {
        self.0 & TIME_MASK
    }

    /// Whether something is kept for it.
    fn keeps(self) -> bool {
        matches!(self.state(), State::Claimed | State::Open)
    }
}

/// A snapshot that was announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announced {
    place: u64,
    word: u64,
}

impl Announced {
    /// Its time: it sees what counts since then or before.
    pub fn time(self) -> u64 {
        Word(self.word).time()
    }
}

/// What became of an attempt to announce a snapshot.
#[derive(Debug)]
pub enum Announcing {
    Done(Announced),
    /// Somebody needed the room before it was open.
    Cancelled,
    /// All entries are taken.
    None,
}

/// The announcements of one store.
#[derive(Clone, Copy)]
pub struct Announcements<'a> {
    shm: &'a Shm,
    offset: u64,
}

type Head<'a> = Block<'a, { ENTRIES_AT as usize }>;

impl<'a> Announcements<'a> {
    /// Those whose words begin at an offset of the segment.
    pub fn at(shm: &'a Shm, offset: u64) -> Result<Announcements<'a>> {
        shm.span(offset, AREA_BYTES)?;
        Ok(Announcements { shm, offset })
    }

    fn head(&self) -> Head<'a> {
        self.shm.block(self.offset).expect("checked when it was made")
    }

    fn entry(&self, place: u64) -> (&'a AtomicU64, &'a AtomicU64) {
        let place = place % SNAPSHOTS_MAX;
        let entry: Block<'a, 16> =
            self.shm.block(self.offset + ENTRIES_AT + place * ENTRY_BYTES).expect("checked when it was made");
        (entry.u64::<0>(), entry.u64::<8>())
    }

    fn word(&self, place: u64) -> Word {
        // ORDER Acquire [snapshot]: behind the caller's fence; what its owner did before it gave the entry back comes before.
        Word(self.entry(place).0.load(Ordering::Acquire))
    }

    /// Entries that may be taken.
    fn places(&self) -> std::ops::Range<u64> {
        // ORDER Acquire [snapshot]: behind the caller's fence: whoever takes an entry stores this before.
        0..self.head().u64::<{ at::USED }>().load(Ordering::Acquire).min(SNAPSHOTS_MAX)
    }

    /// Announces a snapshot. `time_now` tells the store's clock, `next_time` what it showed before it was moved on, both behind
    /// what was done before; `now_ms` the boot clock.
    pub fn announce(
        &self,
        owner: u16,
        is_dead: &dyn Fn(u16) -> bool,
        time_now: &dyn Fn() -> u64,
        next_time: &dyn Fn() -> u64,
        now_ms: u64,
    ) -> Announcing {
        for place in 0..SNAPSHOTS_MAX {
            let (word, begun) = self.entry(place);
            let seen = self.word(place);
            if seen != Word::FREE && !self.take_from_dead(place, seen, is_dead) {
                continue;
            }
            // ORDER Release [snapshot]: before the entry is taken, and so before the fence.
            self.head().u64::<{ at::USED }>().fetch_max(place + 1, Ordering::Release);
            let claimed = Word::new(State::Claimed, owner, time_now());
            kill_point!("table.snapshot.before_claim");
            // DIES BEFORE: nothing happened. DIES AFTER: whoever meets it takes it away.
            // ORDER SeqCst [snapshot]: before this moves the clock on, and so before it looks at slots, behind the fence that
            // `next_time` ends with; pairs with the fences in `oldest` and `keeps`.
            if word.compare_exchange(Word::FREE.0, claimed.0, Ordering::SeqCst, Ordering::Relaxed).is_err() {
                continue;
            }
            kill_point!("table.snapshot.claimed");
            // ORDER Relaxed: a figure that decides about cancelling.
            begun.store(now_ms, Ordering::Relaxed);
            let open = Word::new(State::Open, owner, next_time());
            // ORDER SeqCst [snapshot]: as above.
            let opened = word.compare_exchange(claimed.0, open.0, Ordering::SeqCst, Ordering::Relaxed);
            kill_point!("table.snapshot.opened");
            if opened.is_ok() {
                return Announcing::Done(Announced { place, word: open.0 });
            }
            // ORDER Release [snapshot]: only the owner frees a cancelled entry.
            word.store(Word::FREE.0, Ordering::Release);
            return Announcing::Cancelled;
        }
        Announcing::None
    }

    /// Whether a snapshot was not cancelled. What was read before under it is whole then.
    pub fn stands(&self, announced: Announced) -> bool {
        // ORDER Acquire [snapshot]: behind what was read: if any byte of it was of a later use of a chunk, then the word is seen
        // to be another, because it was so before the chunk became free.
        fence(Ordering::Acquire);
        // ORDER Relaxed: ordered by the fence.
        self.entry(announced.place).0.load(Ordering::Relaxed) == announced.word
    }

    /// Ends a snapshot of the caller. Whether a chunk was kept meanwhile that may be free now.
    pub fn withdraw(&self, announced: Announced) -> bool {
        let word = self.entry(announced.place).0;
        let seen = Word(announced.word);
        kill_point!("table.snapshot.before_withdraw");
        // ORDER Release [snapshot]: everything that was read under it comes before.
        let open = word.compare_exchange(seen.0, Word::FREE.0, Ordering::Release, Ordering::Relaxed);
        let cancelled = Word::new(State::Cancelled, seen.owner(), seen.time());
        if open == Err(cancelled.0) {
            // ORDER Release [snapshot]: only the owner frees a cancelled entry, unless it is dead.
            let _ = word.compare_exchange(cancelled.0, Word::FREE.0, Ordering::Release, Ordering::Relaxed);
        }
        kill_point!("table.snapshot.withdrawn");
        let kept = self.head().u64::<{ at::KEPT }>();
        // ORDER Relaxed: a hint; who finds no chunk looks for those that were kept.
        open.is_ok() && kept.load(Ordering::Relaxed) != 0 && kept.swap(0, Ordering::Relaxed) != 0
    }

    /// Frees an entry whose owner is dead. Whether it is free now.
    fn take_from_dead(&self, place: u64, seen: Word, is_dead: &dyn Fn(u16) -> bool) -> bool {
        if !is_dead(seen.owner()) {
            return false;
        }
        self.free(place, seen)
    }

    fn free(&self, place: u64, seen: Word) -> bool {
        kill_point!("table.snapshot.before_take_over");
        // ORDER AcqRel [snapshot]: the dead stores nothing more.
        let freed =
            self.entry(place).0.compare_exchange(seen.0, Word::FREE.0, Ordering::AcqRel, Ordering::Relaxed);
        kill_point!("table.snapshot.taken_over");
        freed.is_ok()
    }

    /// An owner is gone: what it announced ends.
    pub fn inherit(&self, owner: u16) {
        for place in self.places() {
            let seen = self.word(place);
            if seen != Word::FREE && seen.owner() == owner {
                self.free(place, seen);
            }
        }
    }

    /// The earliest time that a snapshot is of, or may yet be of; `u64::MAX` without any. Behind what the caller unlinked, or
    /// stamped.
    pub fn oldest(&self) -> u64 {
        // ORDER SeqCst [snapshot]: what the caller did comes before this looks at the announcements; pairs with the fence in
        // `announce`.
        fence(Ordering::SeqCst);
        self.places()
            .map(|place| self.word(place))
            .filter(|word| word.keeps())
            .map(Word::time)
            .min()
            .unwrap_or(u64::MAX)
    }

    /// Whether a snapshot is of an earlier time than `time`: it may need what was unlinked until then. What the dead announced is
    /// taken away.
    pub fn keeps(&self, time: u64, is_dead: &dyn Fn(u16) -> bool) -> bool {
        // ORDER SeqCst [snapshot]: as in `oldest`.
        fence(Ordering::SeqCst);
        for place in self.places() {
            let seen = self.word(place);
            if seen.keeps() && seen.time() < time && !self.take_from_dead(place, seen, is_dead) {
                // ORDER Relaxed: a hint.
                self.head().u64::<{ at::KEPT }>().store(1, Ordering::Relaxed);
                return true;
            }
        }
        false
    }

    /// Cancels the oldest snapshot. Whether there was one.
    pub fn cancel_oldest(&self) -> bool {
        for _ in 0..SNAPSHOTS_MAX {
            let oldest = self
                .places()
                .map(|place| (place, self.word(place)))
                .filter(|(_, word)| word.keeps())
                .min_by_key(|(_, word)| word.time());
            match oldest {
                None => return false,
                Some((place, seen)) if self.cancel(place, seen) => return true,
                Some(_) => {}
            }
        }
        true
    }

    /// Cancels those that were begun so many milliseconds ago. Whether there were any.
    pub fn cancel_overdue(&self, now_ms: u64) -> bool {
        let mut any = false;
        let age = self.age_ms();
        for place in self.places() {
            let seen = self.word(place);
            // ORDER Relaxed: stored before it was opened.
            let begun = self.entry(place).1.load(Ordering::Relaxed);
            if seen.state() == State::Open && now_ms.saturating_sub(begun) >= age {
                any |= self.cancel(place, seen);
            }
        }
        any
    }

    fn cancel(&self, place: u64, seen: Word) -> bool {
        let cancelled = Word::new(State::Cancelled, seen.owner(), seen.time());
        kill_point!("table.snapshot.before_cancel");
        // DIES BEFORE: nothing happened. DIES AFTER: it is cancelled.
        // ORDER AcqRel [snapshot]: before anything is freed because of it; pairs with the fence in `stands`.
        let done =
            self.entry(place).0.compare_exchange(seen.0, cancelled.0, Ordering::AcqRel, Ordering::Relaxed);
        kill_point!("table.snapshot.cancelled");
        if done.is_ok() {
            // ORDER Relaxed: a figure.
            self.head().u64::<{ at::CANCELLED }>().fetch_add(1, Ordering::Relaxed);
        }
        done.is_ok()
    }

    /// Snapshots that keep something.
    pub fn count(&self) -> u64 {
        self.places().filter(|place| self.word(*place).keeps()).count() as u64
    }

    /// Milliseconds for which the oldest open snapshot has been open; `None` without any.
    pub fn oldest_age_ms(&self, now_ms: u64) -> Option<u64> {
        let open = self.places().filter(|place| self.word(*place).state() == State::Open);
        // ORDER Relaxed: stored before it was opened.
        let ages = open.map(|place| now_ms.saturating_sub(self.entry(place).1.load(Ordering::Relaxed)));
        ages.max()
    }

    /// Snapshots that were cancelled so far.
    pub fn cancelled(&self) -> u64 {
        // ORDER Relaxed: a figure.
        self.head().u64::<{ at::CANCELLED }>().load(Ordering::Relaxed)
    }

    fn age_ms(&self) -> u64 {
        // ORDER Relaxed: a setting.
        match self.head().u64::<{ at::AGE }>().load(Ordering::Relaxed) {
            0 => SNAPSHOT_AGE_MS,
            age => age,
        }
    }

    /// Percent of the chunks that may be kept.
    pub fn share(&self) -> u64 {
        // ORDER Relaxed: a setting.
        match self.head().u64::<{ at::SHARE }>().load(Ordering::Relaxed) {
            0 => SNAPSHOT_SHARE,
            share => share.min(100),
        }
    }

    /// Sets both limits; 0 for what is usual.
    pub fn set_limits(&self, age_ms: u64, share: u64) {
        // ORDER Relaxed: settings.
        self.head().u64::<{ at::AGE }>().store(age_ms, Ordering::Relaxed);
        self.head().u64::<{ at::SHARE }>().store(share, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(memora_loom)))]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn announcements_keep_what_is_older_and_end_with_their_owner_or_by_being_cancelled() {
        let shm = Shm::heap(4096).unwrap();
        let list = Announcements::at(&shm, 64).unwrap();
        let clock = Cell::new(10u64);
        let next = || {
            clock.set(clock.get() + 1);
            clock.get() - 1
        };
        let announce =
            |owner: u16, now_ms| match list.announce(owner, &|_| false, &|| clock.get(), &next, now_ms) {
                Announcing::Done(announced) => announced,
                other => panic!("{other:?}"),
            };
        assert_eq!(list.oldest(), u64::MAX);
        let (first, second) = (announce(3, 1000), announce(4, 2000));
        assert_eq!((first.time(), second.time(), list.oldest(), list.count()), (10, 11, 10, 2));
        assert!(list.keeps(11, &|_| false) && !list.keeps(10, &|_| false));
        assert!(list.stands(first) && list.withdraw(first) && !list.stands(first), "it kept something");
        assert_eq!(list.oldest(), 11);
        assert_eq!(list.oldest_age_ms(2500), Some(500));
        assert!(!list.cancel_overdue(2000 + SNAPSHOT_AGE_MS - 1));
        assert!(list.cancel_overdue(2000 + SNAPSHOT_AGE_MS) && !list.stands(second));
        assert!(!list.keeps(u64::MAX, &|_| false) && !list.cancel_oldest());
        assert_eq!(list.oldest_age_ms(u64::MAX), None, "a cancelled one has no age");
        list.withdraw(second);
        // The dead keep nothing.
        let third = announce(5, 0);
        assert!(list.keeps(u64::MAX, &|owner| owner == 4));
        assert!(!list.keeps(u64::MAX, &|owner| owner == 5) && !list.stands(third));
        let fourth = announce(6, 0);
        list.inherit(5);
        assert!(list.stands(fourth));
        list.inherit(6);
        assert!(!list.stands(fourth));
        assert_eq!(list.cancelled(), 1);
        let all: Vec<_> = (0..SNAPSHOTS_MAX).map(|_| announce(7, 0)).collect();
        assert!(matches!(list.announce(8, &|_| false, &|| 0, &next, 0), Announcing::None));
        assert!(list.cancel_oldest() && !list.stands(all[0]) && list.stands(all[1]));
    }

    #[test]
    fn who_is_cancelled_while_it_announces_has_no_snapshot_and_leaves_its_entry() {
        let shm = Shm::heap(4096).unwrap();
        let list = Announcements::at(&shm, 64).unwrap();
        let cancel = || {
            assert!(!list.cancel_overdue(u64::MAX), "when it was begun is not known yet");
            assert!(list.cancel_oldest());
            7
        };
        let announcing = list.announce(3, &|_| false, &|| 7, &cancel, 1000);
        assert!(matches!(announcing, Announcing::Cancelled), "{announcing:?}");
        assert_eq!((list.count(), list.cancelled(), list.oldest()), (0, 1, u64::MAX));
        let places: Vec<_> =
            (0..SNAPSHOTS_MAX).map(|_| list.announce(3, &|_| false, &|| 8, &|| 8, 1000)).collect();
        assert!(places.iter().all(|it| matches!(it, Announcing::Done(_))), "every entry is free");
    }

    #[test]
    fn limits_are_those_that_were_set_or_the_usual_ones() {
        let shm = Shm::heap(4096).unwrap();
        let list = Announcements::at(&shm, 64).unwrap();
        assert_eq!((list.age_ms(), list.share()), (SNAPSHOT_AGE_MS, SNAPSHOT_SHARE));
        list.set_limits(9, 1000);
        assert_eq!((list.age_ms(), list.share()), (9, 100));
    }
}
