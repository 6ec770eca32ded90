//! Accounts: how many chunks a cache that evicts holds, and how many it may hold.
//!
//! The count stands in the descriptor of the cache's first chunk, and every chunk names that account, so that whoever frees
//! it knows where to count. Which account an object has is known to those who opened it, in private memory: only they take
//! chunks for it.
//!
//! ```text
//! held = | chunks 32 | epoch 32 |      lowest bits first
//! ```
//! A chunk is charged after it was taken and discharged after it was freed; who finds more charged than allowed gives his
//! back. The epoch goes on when the count is taken anew, which is done after a death: who freed a chunk while that was done
//! does not know whether it was counted, and leaves the count as it is. So what is off is too high, never too low, and the
//! limit is kept.

use super::layout::{Class, Kind, State, at, pair, unpair};
use super::pool::Descriptor;
use super::{ChunkId, Pool};
use crate::error::Result;
use crate::shm::atomic::{AtomicU64, Ordering};

/// How often chunks are counted anew while they change.
const RECOUNTS: u32 = if cfg!(memora_loom) { 1 } else { 16 };

/// The account of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// The object's first chunk, whose descriptor has the counts.
    pub head: ChunkId,
    /// Chunks that it may hold.
    pub limit: u32,
}

/// Chunks that an object holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// All.
    pub chunks: u32,
    /// Those of class `Small`.
    pub small: u32,
}

/// Adds to the low half of a word, not below 0.
fn add(word: &AtomicU64, delta: i32) -> u32 {
    // ORDER Relaxed: a count; nothing is reached through it.
    let mut seen = word.load(Ordering::Relaxed);
    loop {
        let (count, epoch) = unpair(seen);
        let next = count.saturating_add_signed(delta);
        match word.compare_exchange_weak(seen, pair(next, epoch), Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return next,
            Err(now) => seen = now,
        }
    }
}

impl Pool {
    /// From now on chunks that this process takes for the object are charged to the account.
    pub fn open_account(&self, object: u32, account: Account) {
        self.accounts.write().unwrap_or_else(|poisoned| poisoned.into_inner()).insert(object, account);
    }

    /// Begins the account of a new object, with the chunks of its own, which only the caller can reach yet.
    pub fn begin_account(&self, head: ChunkId, count: u32) -> Result<()> {
        // ORDER Relaxed: nobody can reach the object yet; what publishes it orders these stores.
        let words = self.descriptor(head)?;
        words.u64::<{ at::HELD }>().store(u64::from(count), Ordering::Relaxed);
        words.u64::<{ at::HELD_SMALL }>().store(0, Ordering::Relaxed);
        for number in head.0..head.0 + count {
            self.descriptor(ChunkId(number))?.u32::<{ at::ACCOUNT }>().store(head.0, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The account of an object that evicts, if this process opened it.
    pub(super) fn account(&self, object: u32) -> Option<Account> {
        self.accounts.read().unwrap_or_else(|poisoned| poisoned.into_inner()).get(&object).copied()
    }

    /// Chunks that the account shows.
    #[inline]
    pub fn held(&self, head: ChunkId) -> Held {
        match self.descriptor(head) {
            // ORDER Relaxed: counts that change meanwhile.
            Ok(head) => Held {
                chunks: head.u64::<{ at::HELD }>().load(Ordering::Relaxed) as u32,
                small: head.u64::<{ at::HELD_SMALL }>().load(Ordering::Relaxed) as u32,
            },
            Err(_) => Held { chunks: 0, small: 0 },
        }
    }

    /// When the use of the chunk began that holds the record at `offset`.
    pub fn opened_ms(&self, offset: u64) -> u64 {
        let chunk = self.geometry().chunk_of(offset).and_then(|chunk| self.descriptor(chunk).ok());
        // ORDER Relaxed: a figure for statistics.
        chunk.map_or(0, |descriptor| descriptor.u64::<{ at::OPENED }>().load(Ordering::Relaxed))
    }

    /// Chunks that an object with an account holds.
    pub(super) fn held_by(&self, object: u32) -> u32 {
        self.account(object).map_or(0, |account| self.held(account.head).chunks)
    }

    /// Whether the object may take `count` more chunks.
    pub(super) fn may_hold(&self, object: u32, count: u32) -> bool {
        self.account(object)
            .is_none_or(|account| self.held(account.head).chunks.saturating_add(count) <= account.limit)
    }

    /// Charges a chunk that was just opened. False if that is one too many: then the caller gives it back.
    pub(super) fn charge(&self, descriptor: Descriptor<'_>, class: Class, object: u32) -> Result<bool> {
        let account = self.account(object);
        let Some(account) = account else { return Ok(true) };
        let head = self.descriptor(account.head)?;
        if add(head.u64::<{ at::HELD }>(), 1) > account.limit {
            add(head.u64::<{ at::HELD }>(), -1);
            return Ok(false);
        }
        if class == Class::Small {
            add(head.u64::<{ at::HELD_SMALL }>(), 1);
        }
        kill_point!("chunk.charge.charged");
        // ORDER Relaxed: the owner's, until the chunk is reachable.
        descriptor.u32::<{ at::ACCOUNT }>().store(account.head.0, Ordering::Relaxed);
        Ok(true)
    }

    /// What is needed to discharge a chunk when it is free: read before.
    pub(super) fn charged(&self, descriptor: Descriptor<'_>) -> Option<(ChunkId, u32)> {
        // ORDER Relaxed: written by the last owner, before the chunk was settled.
        let head = ChunkId(descriptor.u32::<{ at::ACCOUNT }>().load(Ordering::Relaxed));
        let word = self.descriptor(head).ok()?.u64::<{ at::HELD }>();
        Some((head, unpair(word.load(Ordering::Relaxed)).1))
    }

    /// The chunk is free.
    pub(super) fn discharge(&self, charged: Option<(ChunkId, u32)>, class: Class) -> Result<()> {
        let Some((head, epoch)) = charged else { return Ok(()) };
        let head = self.descriptor(head)?;
        let word = head.u64::<{ at::HELD }>();
        // ORDER Relaxed: a count.
        let mut seen = word.load(Ordering::Relaxed);
        while unpair(seen).1 == epoch {
            let next = pair(unpair(seen).0.saturating_sub(1), epoch);
            match word.compare_exchange_weak(seen, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => seen = now,
            }
        }
        if class == Class::Small {
            add(head.u64::<{ at::HELD_SMALL }>(), -1);
        }
        Ok(())
    }

    /// A run that something points to goes to the end of a queue of its object, where it stands: it gets the class of the queue,
    /// and a place in it behind all that there is. Whoever else does so at the same time, or frees the run, is as right. Whether
    /// the caller changed its class.
    ///
    /// The number of the run stays: it says which flush the record is older than.
    pub fn requeue_run(&self, first: ChunkId, seen: State, class: Class) -> Result<bool> {
        let next = State::new(Kind::RunHead, class, 0, seen.generation());
        let descriptor = self.descriptor(first)?;
        kill_point!("chunk.run.before_requeue");
        if !self.transition(descriptor, seen, next) {
            return Ok(false);
        }
        // ORDER Relaxed: written before the run was reachable; here it only orders the queue.
        let number = descriptor.u64::<{ at::SEQ }>().load(Ordering::Relaxed);
        let behind = self.next_number().saturating_sub(number);
        // However late: it counts for one generation.
        self.set_clean_position(first, seen.generation(), behind.min(u64::from(u32::MAX)))?;
        if seen.class() == Some(class) {
            return Ok(false);
        }
        self.moved_class(first, class)?;
        for number in first.0 + 1..first.0 + self.run_len(first)? {
            let (chunk, state) = (ChunkId(number), self.state(ChunkId(number))?);
            if self.is_part_of(chunk, state, first, seen.generation())?
                && state.class() != Some(class)
                && self.transition(
                    self.descriptor(chunk)?,
                    state,
                    State::new(Kind::RunContinued, class, 0, state.generation()),
                )
            {
                self.moved_class(chunk, class)?;
            }
        }
        Ok(true)
    }

    /// The place of a sealed chunk or of a run in the queue of its object: its number, or a later one.
    pub fn queue_number(&self, chunk: ChunkId, seen: State) -> Result<u64> {
        // ORDER Relaxed: written before the chunk was sealed.
        let number = self.descriptor(chunk)?.u64::<{ at::SEQ }>().load(Ordering::Relaxed);
        let behind = if seen.is(Kind::RunHead) { self.clean_position(chunk, seen.generation())? } else { 0 };
        Ok(number.saturating_add(behind))
    }

    /// A chunk changed between `Small` and another class.
    fn moved_class(&self, chunk: ChunkId, to: Class) -> Result<()> {
        if let Some((head, _)) = self.charged(self.descriptor(chunk)?) {
            let small = self.descriptor(head)?.u64::<{ at::HELD_SMALL }>();
            add(small, if to == Class::Small { 1 } else { -1 });
        }
        Ok(())
    }

    /// Whether the object evicts to which a chunk is charged.
    pub fn gives_way(&self, chunk: ChunkId) -> Result<bool> {
        // ORDER Relaxed: written by the owner before the chunk was settled.
        Ok(self.descriptor(chunk)?.u32::<{ at::ACCOUNT }>().load(Ordering::Relaxed) != 0)
    }

    /// Counts the chunks of an account anew, unless they change each time.
    pub fn recount_held(&self, object: u32, head: ChunkId) -> Result<()> {
        let words = self.descriptor(head)?;
        let (word, small_word) = (words.u64::<{ at::HELD }>(), words.u64::<{ at::HELD_SMALL }>());
        for _ in 0..RECOUNTS {
            // ORDER Acquire [held]: the states are read after the word.
            let (before, small_before) = (word.load(Ordering::Acquire), small_word.load(Ordering::Relaxed));
            let (mut chunks, mut small) = (0u32, 0u32);
            for chunk in self.used_chunks() {
                let state = self.state(chunk)?;
                // One that was just opened is charged by its owner.
                let is_used = !state.is(Kind::Free) && !state.is(Kind::Virgin);
                let is_new = state.is(Kind::Open) && !self.is_described(chunk, state)?;
                // ORDER Relaxed: written before the chunk was described.
                let of = self.descriptor(chunk)?.u32::<{ at::OBJECT }>().load(Ordering::Relaxed);
                if is_used && !is_new && of == object {
                    chunks += 1;
                    small += u32::from(state.class() == Some(Class::Small));
                }
            }
            let after = pair(chunks, unpair(before).1.wrapping_add(1));
            // ORDER AcqRel [held]: fails if a chunk was charged or discharged since; pairs with itself.
            if word.compare_exchange(before, after, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                // ORDER Relaxed: it only decides which queue is evicted from.
                let _ = small_word.compare_exchange(
                    small_before,
                    u64::from(small),
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                );
                break;
            }
        }
        Ok(())
    }
}
