//! Evicting: what goes when a cache is full, and who does the work.
//!
//! Chunks of records are two queues, in the order of their numbers: new keys go into chunks of class `Small`; who was evicted
//! from there lately, and who was read three times there, goes into chunks of class `Main` (S3-FIFO over chunks, with a second
//! chance among the young ones and a comparison with the oldest of the old ones). Readers count up to three in two bits beside
//! the slot. The work is done by those who write, a few records at a time, as soon as little is spare: a writer takes the oldest
//! chunk, walks on from where the last one stopped, unlinks or moves its records, notes how far it came and puts it back. So
//! nobody holds a chunk between two calls, and whoever is killed or stopped in the middle holds up nobody for long.
//!
//! The less is spare, the less is kept; when nothing is, nothing is kept. So each walk over a chunk gains, and a writer always
//! finds room.

#[cfg(memora_loom)]
use loom::sync::Mutex;
#[cfg(not(memora_loom))]
use std::sync::Mutex;

use super::clean::BATCH;
use super::drop::Gone;
use super::layout::{Bucket, SLOT_COUNT, bucket, bucket_of};
use super::queue::{Purpose, Queues, Victim};
use super::slot::{Slot, SlotKind};
use super::{Table, too_many_tries};
use crate::chunk::record;
use crate::chunk::{Account, Actor, ChunkId, Class, Effort, Kind, Need, Walked};
use crate::error::{ErrorCode, Result};
use crate::shm::atomic::{AtomicU32, AtomicU64, Ordering};

/// Records that one write looks at when little is spare, and when very little is.
const STEP: usize = 16;
const HURRIED_STEP: usize = 48;
/// Records that a writer looks at before it tries again to get a chunk.
const URGENT_STEP: usize = 128;
/// Writes that do not look for victims after a search found none.
const REST: u32 = 32;
/// Records that may be kept in a row before one goes, whatever it is worth.
pub(super) const KEEP_MAX: usize = 256;
/// One of so many entries, or chunks, may be a young one.
const SMALL_SHARE: u64 = 5;

/// What a process keeps for itself.
pub(super) struct Eviction {
    account: Account,
    queues: Mutex<Queues>,
    /// Writes that still rest from looking for victims.
    rest: AtomicU32,
    /// Ghosts that count: as many as a part of the entries.
    window: AtomicU64,
    /// Bytes of records after which a chunk gets no more, so that each queue has some sealed chunks: {young | old}.
    fill: [AtomicU64; 2],
}

impl Eviction {
    pub fn new(account: Account) -> Eviction {
        Eviction {
            account,
            queues: Mutex::new(Queues::default()),
            rest: AtomicU32::new(0),
            window: AtomicU64::new(u64::MAX),
            fill: [AtomicU64::new(u64::MAX), AtomicU64::new(u64::MAX)],
        }
    }

    /// Ghosts that count.
    pub fn ghost_window(&self) -> u64 {
        // ORDER Relaxed: private to the process, and only a hint.
        self.window.load(Ordering::Relaxed)
    }
}

/// What becomes of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Drop(Gone),
    /// It goes to the end of a queue, with this frequency.
    Keep(Class, u8),
}

/// What a call may still do.
pub(super) struct Budget {
    pub looks: usize,
    pub drops: usize,
    /// Records that were kept since the last one that went.
    pub kept: usize,
}

impl Budget {
    pub fn of(looks: usize, drops: usize) -> Budget {
        Budget { looks, drops, kept: 0 }
    }

    fn is_used_up(&self) -> bool {
        self.looks == 0 || self.drops == 0
    }

    fn spend(&mut self, dropped: bool) {
        self.looks = self.looks.saturating_sub(1);
        self.drops -= usize::from(dropped);
        self.kept = if dropped { 0 } else { self.kept + 1 };
    }
}

/// A live record, and what points to it.
pub(super) struct Owner<'a> {
    pub slot: &'a AtomicU64,
    pub word: Slot,
    pub bucket: Bucket<'a>,
    pub number: usize,
}

/// How often the entry in a slot was read.
#[inline]
pub(super) fn frequency(bucket: Bucket<'_>, number: usize) -> u8 {
    // ORDER Relaxed: a hint.
    (bucket.u16::<{ bucket::FREQUENCY }>().load(Ordering::Relaxed) >> (2 * number) & 3) as u8
}

/// Says how often the entry in a slot was read. A hint: others may change the word at the same time.
#[inline]
pub(super) fn set_frequency(bucket: Bucket<'_>, number: usize, frequency: u8) {
    let word = bucket.u16::<{ bucket::FREQUENCY }>();
    // ORDER Relaxed: a hint.
    let seen = word.load(Ordering::Relaxed);
    let next = seen & !(3 << (2 * number)) | u16::from(frequency & 3) << (2 * number);
    if next != seen {
        word.store(next, Ordering::Relaxed);
    }
}

/// The entry in a slot was read. Entries that are read often cost nothing more after the third time.
#[inline(always)]
pub(super) fn note_read(bucket: Bucket<'_>, number: usize) {
    let word = bucket.u16::<{ bucket::FREQUENCY }>();
    // ORDER Relaxed: a hint.
    let seen = word.load(Ordering::Relaxed);
    if seen >> (2 * number) & 3 != 3 {
        word.store(seen.wrapping_add(1 << (2 * number)), Ordering::Relaxed);
    }
}

impl Table {
    /// Whether chunks of this class hold records of a table like this one.
    #[inline]
    pub(super) fn is_own(&self, class: Class) -> bool {
        class == self.class.class() || (self.evicts && class == Class::Small)
    }

    /// Chunks that the table may hold.
    pub(super) fn quota(&self) -> u32 {
        self.eviction.account.limit.min(self.pool.geometry().chunk_count - 1)
    }

    /// Chunks that the table may still take.
    #[inline]
    fn spare(&self) -> u32 {
        let free = self.pool.free_count().saturating_sub(self.pool.reserve());
        let account = &self.eviction.account;
        if account.limit == u32::MAX {
            return free;
        }
        free.min(account.limit.saturating_sub(self.pool.held(account.head).chunks))
    }

    /// With fewer spare chunks, those who write also evict.
    #[inline]
    fn mark(&self) -> u32 {
        let quota = self.quota();
        1 + (quota / 128).min(16) + self.pool.reserve().saturating_sub(2).min(quota / 16)
    }

    /// Whether writers have to evict.
    #[inline]
    pub(super) fn eviction_is_due(&self) -> bool {
        self.spare() <= self.mark()
    }

    /// The class of the chunk that holds a record.
    #[inline]
    pub(super) fn class_at(&self, offset: u64) -> Result<Class> {
        if !self.evicts {
            return Ok(self.class.class());
        }
        let Some(chunk) = self.pool.geometry().chunk_of(offset) else { return Ok(Class::Small) };
        Ok(match self.pool.state(chunk)?.class() {
            Some(Class::Main) => Class::Main,
            _ => Class::Small,
        })
    }

    /// Whether the record at `offset` is one of the young ones that are counted.
    #[inline]
    pub(super) fn is_young(&self, offset: u64) -> Result<bool> {
        Ok(self.entries_limit != 0 && self.class_at(offset)? == Class::Small)
    }

    /// The class of the chunk that a new key goes to.
    pub(super) fn class_of_new(&self, hash: u64) -> Result<Class> {
        if !self.evicts {
            return Ok(self.class.class());
        }
        Ok(if self.take_ghost(hash)? { Class::Main } else { Class::Small })
    }

    /// Evicts a few records for the room that this write will need.
    #[cold]
    #[inline(never)]
    pub(super) fn evict_a_little(&self, me: Actor<'_>) -> Result<()> {
        // ORDER Relaxed: private to the process, and only a hint.
        let (rest, spare, mark) = (self.eviction.rest.load(Ordering::Relaxed), self.spare(), self.mark());
        if rest > 0 && spare > mark / 2 {
            self.eviction.rest.store(rest - 1, Ordering::Relaxed);
            return Ok(());
        }
        let step = if spare > mark / 2 { STEP } else { HURRIED_STEP };
        if self.evict(me, step, usize::MAX)? == 0 {
            self.eviction.rest.store(REST, Ordering::Relaxed);
        }
        Ok(())
    }

    /// How little is kept: 0 as the policy says, 1 what is read often, 2 nothing.
    fn hurry(&self) -> u8 {
        let (spare, mark) = (self.spare(), self.mark());
        match spare {
            0 => 2,
            _ if spare <= mark / 4 => 1,
            _ => 0,
        }
    }

    /// Looks at up to `count` records, in the order of the queues, until `drops` of them are gone. Answers how many it looked
    /// at: 0 if there was nothing that could be had.
    pub(super) fn evict(&self, me: Actor<'_>, count: usize, drops: usize) -> Result<usize> {
        let (mut budget, mut searched) = (Budget::of(count, drops), false);
        // Each round looks at a record, frees a chunk, or is the last but one.
        for _ in 0..count.saturating_mul(2) + 4 {
            if budget.is_used_up() {
                break;
            }
            let Some(victim) = self.next_victim(me, drops == usize::MAX, &mut searched)? else { break };
            let left = budget.looks;
            let done = match victim.state.kind() {
                Some(Kind::RunHead) => self.evict_run(me, &victim, &mut budget),
                _ => self.evict_from(me, &victim, &mut budget),
            };
            match done {
                // A chunk that has nothing more counts as well, or the caller believes that there was nothing.
                Ok(true) if budget.looks == left => budget.looks -= 1,
                Ok(_) => {}
                // Somebody took the chunk over, and it is in use for something else: nothing of it was damaged.
                Err(_) if self.pool.state(victim.chunk)? != victim.state => {
                    budget.looks = budget.looks.saturating_sub(1);
                }
                Err(error) => {
                    self.pool.put_back(me, victim.chunk)?;
                    return Err(error);
                }
            }
        }
        Ok(count - budget.looks)
    }

    /// Whether the young ones have more than their share.
    fn small_is_over(&self) -> bool {
        if self.entries_limit != 0 {
            return self.small_entries() * SMALL_SHARE >= self.entries_limit;
        }
        let held = self.pool.held(self.eviction.account.head);
        u64::from(held.small) * SMALL_SHARE >= u64::from(held.chunks.saturating_sub(self.own_chunks))
    }

    /// Takes the chunk that something is evicted from next.
    fn next_victim(&self, me: Actor<'_>, clean: bool, searched: &mut bool) -> Result<Option<Victim>> {
        let mut queues = self.eviction.queues.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if self.search_is_due(&queues) && !*searched {
            *searched = true;
            self.search_queues(&mut queues)?;
        }
        // Who needs room takes first what is dead; who needs a place among a limited number of entries gains nothing by that.
        let order = match self.small_is_over() {
            true => [Purpose::Clean, Purpose::Small, Purpose::Main],
            false => [Purpose::Clean, Purpose::Main, Purpose::Small],
        };
        let (due, both) = (order[1], &order[1..]);
        let order = if clean { &order[..] } else { both };
        // The queue that it should be, then what is remembered; a search; the caller's own open chunks; the other queue.
        for attempt in 0..3 {
            // What was just put away is not cleaned: its few records would only go to the caller's next chunk, for ever.
            let queued = if attempt < 2 { &order[..order.len() - 1] } else { both };
            for purpose in queued {
                if let Some(victim) = self.take_victim(me, &mut queues, *purpose)? {
                    return Ok(Some(victim));
                }
            }
            match attempt {
                0 if !*searched => *searched = true,
                1 => {
                    if !self.pool.put_away_class(me, due.class(), self.object)? {
                        self.pool.put_away(me, self.object)?;
                    }
                }
                _ => continue,
            }
            self.search_queues(&mut queues)?;
        }
        Ok(None)
    }

    /// How often the oldest of the old ones was read.
    fn oldest_frequency(&self) -> Result<u8> {
        let oldest = {
            let queues = self.eviction.queues.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            self.oldest_main(&queues)?
        };
        let Some((chunk, from)) = oldest else { return Ok(0) };
        // What is damaged or being reused just now is worth nothing.
        let Ok(mut walk) = self.pool.walk(chunk, self.header, from) else { return Ok(0) };
        let mut scratch = Vec::new();
        for _ in 0..4 {
            let Ok(Some(walked)) = walk.next() else { break };
            let Ok(hash) = self.hash_of_record(walked.offset, &walked.head, &mut scratch) else { break };
            let (_, entry) = self.entry(hash)?;
            if let (Some(owner), _) = self.slot_of(self.index_span(entry)?, hash, walked.offset)? {
                return Ok(frequency(owner.bucket, owner.number));
            }
        }
        Ok(0)
    }

    /// What becomes of a live record.
    fn fate(&self, purpose: Purpose, class: Class, read: u8, hurry: u8) -> Result<Fate> {
        Ok(match purpose {
            Purpose::Clean => Fate::Keep(class, read),
            // Who comes must be better than who goes, or a flood of what was popular once flushes what still is.
            Purpose::Small if read == 3 && self.oldest_frequency()? < 3 => Fate::Keep(Class::Main, 0),
            Purpose::Small if read > 0 && hurry == 0 => Fate::Keep(Class::Small, 0),
            Purpose::Small => Fate::Drop(Gone::Young),
            Purpose::Main if read > hurry && hurry < 2 => Fate::Keep(Class::Main, read - 1),
            Purpose::Main => Fate::Drop(Gone::Old),
        })
    }

    /// Walks over a chunk that the caller has taken; gives it back, or frees it when it is through. Whether it is.
    pub(super) fn evict_from(&self, me: Actor<'_>, victim: &Victim, budget: &mut Budget) -> Result<bool> {
        let (mut finished, mut scratch) = (false, Vec::new());
        let generation = victim.state.generation();
        let class = victim.state.class().unwrap_or(Class::Main);
        let batch_len = if budget.drops < BATCH { 1 } else { BATCH };
        while !budget.is_used_up() && !finished {
            let next = self.next_batch(me, victim.chunk, generation, batch_len, &mut scratch)?;
            let Some((batch, len)) = next else { return Ok(true) };
            for (walked, hash) in batch.into_iter().flatten() {
                let hurry = if budget.kept >= KEEP_MAX { 2 } else { self.hurry() };
                let dropped = self.evict_record(me, &walked, hash, &mut |read| {
                    self.fate(victim.purpose, class, read, hurry)
                })?;
                budget.spend(dropped);
                kill_point!("table.evict.before_position");
                self.pool.set_clean_position(victim.chunk, generation, walked.position + walked.bytes)?;
            }
            finished = len < batch_len;
        }
        if finished {
            self.pool.cleaned(me, victim.chunk, self.object)?;
        } else {
            kill_point!("table.evict.before_put_back");
            self.pool.put_back(me, victim.chunk)?;
        }
        Ok(finished)
    }

    /// A run is a chunk with one record: it is dropped, or goes to the end of a queue where it stands. Whether it is through.
    fn evict_run(&self, me: Actor<'_>, victim: &Victim, budget: &mut Budget) -> Result<bool> {
        let class = victim.state.class().unwrap_or(Class::Main);
        let hurry = if budget.kept >= KEEP_MAX { 2 } else { self.hurry() };
        let mut scratch = Vec::new();
        let Ok(Some(walked)) = self.pool.walk(victim.chunk, self.header, 0).and_then(|mut walk| walk.next())
        else {
            return Ok(true);
        };
        let hash = self.hash_of_record(walked.offset, &walked.head, &mut scratch)?;
        if !self.is_live(hash, walked.offset)? {
            self.pool.retire_run(victim.chunk, victim.state)?;
            return Ok(true);
        }
        let mut kept = None;
        let dropped = self.evict_record(me, &walked, hash, &mut |read| {
            let fate = self.fate(victim.purpose, class, read, hurry)?;
            kept = match fate {
                Fate::Keep(class, read) => Some((class, read)),
                Fate::Drop(_) => None,
            };
            Ok(fate)
        })?;
        budget.spend(dropped);
        if let (false, Some((to, _))) = (dropped, kept)
            && self.pool.requeue_run(victim.chunk, victim.state, to)?
        {
            self.count_small(if to == Class::Small { 1 } else { -1 });
        }
        Ok(true)
    }

    /// Unlinks or moves a record if it is live. Answers whether an entry is gone.
    fn evict_record(
        &self,
        me: Actor<'_>,
        walked: &Walked,
        hash: u64,
        decide: &mut dyn FnMut(u8) -> Result<Fate>,
    ) -> Result<bool> {
        for _ in 0..1000 {
            let mut entered = None;
            let Some(owner) = self.owner_of(me, hash, walked.offset, &mut entered)? else { return Ok(false) };
            // What no transaction has decided yet is decided first: its chunk must not go with a state that may come back.
            if !self.settle_owner(me, &owner)? {
                continue;
            }
            let read = frequency(owner.bucket, owner.number);
            let fate = if self.may_drop(walked.offset, &walked.head)? {
                Fate::Drop(Gone::Expired)
            } else if walked.head.is_tombstone() {
                // A lease, whose owner lives: who waits for it waits for that very record.
                Fate::Keep(Class::Main, 0)
            } else {
                decide(read)?
            };
            let done = match fate {
                Fate::Drop(gone) => self.drop_record(me, walked, hash, &owner, gone)?,
                Fate::Keep(class, read) if self.pool.run_chunks(walked.bytes).is_some() => {
                    let _ = class;
                    set_frequency(owner.bucket, owner.number, read);
                    Some(false)
                }
                Fate::Keep(class, read) => match self.place_for_kept(me, class, walked.bytes)? {
                    Some(place) => {
                        let moved = self.move_to(walked, hash, &owner, place)?;
                        if moved == Some(true) {
                            set_frequency(owner.bucket, owner.number, read);
                            self.changed_queue(walked.offset, class)?;
                        }
                        moved.map(|_| false)
                    }
                    None => self.drop_record(me, walked, hash, &owner, Gone::Old)?,
                },
            };
            if let Some(dropped) = done {
                return Ok(dropped);
            }
        }
        Err(too_many_tries("Evicting a record"))
    }

    /// Where a kept record is copied to. `None` if there is no room: then it goes, because keeping must not take what it is to
    /// gain.
    fn place_for_kept(&self, me: Actor<'_>, class: Class, bytes: u64) -> Result<Option<(ChunkId, u64)>> {
        if let Some(place) = self.room(me, class, bytes)? {
            return Ok(Some(place));
        }
        match self.open_chunk(me, class, Need::Clean) {
            Ok(()) => self.room(me, class, bytes),
            Err(error) if matches!(error.code(), ErrorCode::Full | ErrorCode::NoSpace) => {
                let adopted = self.pool.adopt(me, class, self.object, bytes, self.lowest_number()?)?;
                if adopted { self.room(me, class, bytes) } else { Ok(None) }
            }
            Err(error) => Err(error),
        }
    }

    /// Room in the caller's open chunk of a class.
    #[inline]
    pub(super) fn room(&self, me: Actor<'_>, class: Class, bytes: u64) -> Result<Option<(ChunkId, u64)>> {
        let place = self.pool.room(me, class, self.object, bytes)?;
        let place = match place {
            Some((chunk, _)) if self.is_flushed_chunk(chunk)? => None,
            place => place,
        };
        if self.entries_limit == 0 || !self.evicts {
            return Ok(place);
        }
        Ok(place.filter(|(_, tail)| *tail == 0 || *tail < self.fill_of(class)))
    }

    /// Bytes of records after which a chunk of a class gets no more.
    pub(super) fn fill_of(&self, class: Class) -> u64 {
        // ORDER Relaxed: private to the process, and only a hint.
        self.eviction.fill[usize::from(class == Class::Main)].load(Ordering::Relaxed)
    }

    /// Opens a chunk of a class for the caller, and looks how much there is now.
    pub(super) fn open_chunk(&self, me: Actor<'_>, class: Class, need: Need) -> Result<()> {
        self.pool.next_chunk(me, class, self.object, need)?;
        if !self.evicts {
            return Ok(());
        }
        // ORDER Relaxed: private to the process, and only hints.
        let entries = if self.entries_limit != 0 { self.entries_limit } else { self.len_now() };
        self.eviction.window.store(entries - entries / SMALL_SHARE, Ordering::Relaxed);
        if self.entries_limit != 0 {
            let record = self.live_sum() / self.len_now().max(1) + 1;
            let parts = u64::from(self.quota().saturating_sub(self.own_chunks) / 8).clamp(2, 32);
            let small = (self.entries_limit / SMALL_SHARE / (parts / 4).max(2)).max(1);
            let main = (self.entries_limit / parts).max(1);
            for (fill, records) in self.eviction.fill.iter().zip([small, main]) {
                fill.store(records * record, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// Finds room for a record of a new entry or of one that is replaced: evicts as long as there is none.
    #[cold]
    #[inline(never)]
    pub(super) fn make_room_by_evicting(
        &self,
        me: Actor<'_>,
        class: Class,
        need: Need,
        bytes: u64,
    ) -> Result<(ChunkId, u64)> {
        let mut effort = Effort::new(&self.pool);
        // Each round that goes on has gained something or waited for others, unless content is damaged.
        for _ in 0..self.rounds_max() {
            let shares = self.shares_chunks();
            if shares
                && self.pool.adopt(me, class, self.object, bytes, self.lowest_number()?)?
                && let Some(place) = self.room(me, class, bytes)?
            {
                return Ok(place);
            }
            let error = match self.open_chunk(me, class, need) {
                Ok(()) => {
                    if let Some(place) = self.room(me, class, bytes)? {
                        return Ok(place);
                    }
                    continue;
                }
                Err(error) if matches!(error.code(), ErrorCode::Full | ErrorCode::NoSpace) => error,
                Err(error) => return Err(error),
            };
            if self.evict(me, URGENT_STEP, usize::MAX)? > 0 {
                continue;
            }
            // Others hold what there is: what is open of ours, or was left by others, then patience.
            for class in [class, Class::Main, Class::Small] {
                if let Some(place) = self.room(me, class, bytes)? {
                    return Ok(place);
                }
                if self.pool.adopt(me, class, self.object, bytes, self.lowest_number()?)?
                    && let Some(place) = self.room(me, class, bytes)?
                {
                    return Ok(place);
                }
            }
            self.pool.recount_held(self.object, self.eviction.account.head)?;
            if !self.pool.relieve(me, Some(self), bytes, &mut effort)? {
                return Err(error);
            }
        }
        Err(too_many_tries("Making room for an entry"))
    }

    /// Rounds in which all records that fit the fabric are looked at a few times.
    fn rounds_max(&self) -> u64 {
        let geometry = self.pool.geometry();
        1000 + u64::from(geometry.chunk_count) * (geometry.chunk_bytes / 8 / URGENT_STEP as u64 + 8)
    }

    /// Takes a chunk for the index of a cache that evicts.
    pub(super) fn index_chunk_by_evicting(&self, me: Actor<'_>) -> Result<Option<ChunkId>> {
        for _ in 0..64 {
            match self.pool.take_low(me, Class::Buckets, self.object, Need::Overwrite, self) {
                Ok(Some(chunk)) => return Ok(Some(chunk)),
                Ok(None) => {}
                Err(error) if error.code() == ErrorCode::NoSpace => {}
                Err(error) => return Err(error),
            }
            if self.evict(me, URGENT_STEP, usize::MAX)? == 0 {
                break;
            }
        }
        Ok(None)
    }

    /// Whether there are so few chunks for so many threads that nobody keeps one open between two writes.
    #[inline]
    pub(super) fn shares_chunks(&self) -> bool {
        self.evicts && self.quota() < 6 * self.pool.reserve()
    }

    /// Evicts one chunk's worth for whoever is short of memory. Whether something was gained.
    pub(super) fn give(&self, me: Actor<'_>) -> Result<bool> {
        let before = self.pool.free_count();
        for _ in 0..64 {
            if self.evict(me, URGENT_STEP, usize::MAX)? == 0 {
                return Ok(false);
            }
            if self.pool.free_count() > before {
                return Ok(true);
            }
        }
        Ok(true)
    }

    /// Frees a slot for a key whose buckets are all full and whose index chunk shall not be divided: the entry that was read
    /// least often in its home bucket goes. Whether one did.
    pub(super) fn evict_slot(&self, me: Actor<'_>, hash: u64) -> Result<bool> {
        let (_, entry) = self.entry(hash)?;
        let home = bucket_of(self.index_span(entry)?, self.shape.home(hash))?;
        let mut slots: Vec<usize> = (0..SLOT_COUNT).collect();
        slots.sort_by_key(|number| frequency(home, *number));
        for number in slots {
            let slot = home.u64_at::<0>(number);
            // ORDER Acquire [slot]: as for readers.
            let word = Slot(slot.load(Ordering::Acquire));
            if word.kind() != SlotKind::Record {
                continue;
            }
            // What is not decided yet stays: it may be the caller's own, who puts it beside the others of its transaction.
            if self.undecided(word.offset())?.is_some() {
                continue;
            }
            let head = record::head_at(self.pool.shm(), word.offset())?;
            if head.is_tombstone() && !self.may_drop(word.offset(), &head)? {
                continue;
            }
            let walked = Walked { offset: word.offset(), position: 0, head, bytes: head.bytes(self.header) };
            let owner = Owner { slot, word, bucket: home, number };
            if !self.settle_owner(me, &owner)? {
                continue;
            }
            if self.drop_record(me, &walked, hash, &owner, Gone::Crowded)? == Some(true) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A record was moved to a chunk of another class.
    fn changed_queue(&self, from: u64, to: Class) -> Result<()> {
        if self.entries_limit != 0 && self.class_at(from)? == Class::Small && to == Class::Main {
            self.count_small(-1);
        }
        Ok(())
    }

    /// After a write in a cache with few chunks for many threads: others may go on filling what the caller had open.
    pub(super) fn share_chunks(&self, me: Actor<'_>) -> Result<()> {
        if self.shares_chunks() {
            self.pool.put_away(me, self.object)?;
        }
        Ok(())
    }
}
