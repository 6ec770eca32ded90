//! Taking, settling and giving back chunks.

use std::sync::Arc;

use super::layout::{Class, DESCRIPTOR_BYTES, Dead, HINT_COUNT, Kind, PoolGeometry, State, at, pair};
use super::{Actor, ChunkId, Ground, state};
use crate::error::{Error, ErrorCode, Result};
use crate::shm::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use crate::shm::{Block, Shm, Span};

/// A descriptor, checked.
pub type Descriptor<'a> = Block<'a, { DESCRIPTOR_BYTES as usize }>;

/// What a chunk is wanted for: decides how many free ones must stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Lanes, control areas: leaves the tables a part of the pool to clean with.
    Object,
    /// More live bytes in a table: leaves the reserve.
    Growth,
    /// Replacing what is there: may use the reserve, because it makes as much room as it takes.
    Overwrite,
    /// Moving live records away: the last chunks are for this, because it gives more than it takes.
    Clean,
}

/// The pool of chunks of one fabric.
pub struct Pool {
    shm: Arc<Shm>,
    geometry: PoolGeometry,
    ground: Arc<dyn Ground>,
    /// Where this process looks first for a free chunk: a private hint.
    start: AtomicU32,
    /// Where this process looks first for a chunk to clean: a private hint.
    pub(super) search: AtomicU32,
    /// The reserve as it was at the last allocation: private.
    reserve: AtomicU32,
    /// One bit for each chunk whose pages this process has mapped: private.
    #[cfg(not(memora_loom))]
    populated: Vec<AtomicU64>,
}

#[cold]
#[inline(never)]
fn no_such_chunk(chunk: ChunkId, count: u32) -> Error {
    Error::new(ErrorCode::Corrupt, format!("Chunk {} is not one of the {count} chunks.", chunk.0))
}

impl Pool {
    /// The pool whose descriptors and arena stand where `geometry` says.
    pub fn new(shm: Arc<Shm>, geometry: PoolGeometry, ground: Arc<dyn Ground>) -> Result<Pool> {
        let arena = geometry.chunk_bytes.checked_mul(geometry.chunk_count as u64);
        let fits = geometry.chunk_bytes.is_power_of_two()
            && geometry.chunk_count >= 2
            && arena
                .and_then(|bytes| bytes.checked_add(geometry.arena_offset))
                .is_some_and(|end| end <= shm.len());
        if !fits {
            return Err(Error::new(ErrorCode::Corrupt, format!("{geometry:?} does not fit the segment.")));
        }
        shm.span(geometry.table_offset, geometry.chunk_count as u64 * DESCRIPTOR_BYTES)?;
        Ok(Pool {
            start: AtomicU32::new(1),
            search: AtomicU32::new(0),
            reserve: AtomicU32::new(geometry.chunk_count / 4),
            #[cfg(not(memora_loom))]
            populated: (0..geometry.chunk_count.div_ceil(64)).map(|_| AtomicU64::new(0)).collect(),
            shm,
            geometry,
            ground,
        })
    }

    #[inline]
    pub fn shm(&self) -> &Shm {
        &self.shm
    }

    #[inline]
    pub fn geometry(&self) -> &PoolGeometry {
        &self.geometry
    }

    #[inline]
    pub fn ground(&self) -> &dyn Ground {
        &*self.ground
    }

    /// All chunks that can be handed out.
    pub fn chunks(&self) -> impl Iterator<Item = ChunkId> + use<> {
        (1..self.geometry.chunk_count).map(ChunkId)
    }

    /// The chunks up to the highest that was ever used.
    pub fn used_chunks(&self) -> impl Iterator<Item = ChunkId> + use<> {
        // ORDER Relaxed: a high-water mark; a chunk that is missed was just opened.
        let used = self.head().u64::<{ at::POOL_COMMITTED }>().load(Ordering::Relaxed);
        (1..used.min(self.geometry.chunk_count as u64) as u32).map(ChunkId)
    }

    /// How many chunks each object holds.
    pub fn chunks_by_object(&self) -> Result<std::collections::HashMap<u32, u64>> {
        let mut held = std::collections::HashMap::new();
        for chunk in self.used_chunks() {
            let state = self.state(chunk)?;
            if !state.is(Kind::Virgin) && !state.is(Kind::Free) {
                // ORDER Relaxed: figures for people.
                *held
                    .entry(self.descriptor(chunk)?.u32::<{ at::OBJECT }>().load(Ordering::Relaxed))
                    .or_insert(0) += 1;
            }
        }
        Ok(held)
    }

    /// Descriptor 0, whose words are the pool's.
    #[inline]
    pub(super) fn head(&self) -> Descriptor<'_> {
        self.shm.block(self.geometry.table_offset).expect("checked when the pool was made")
    }

    /// The descriptor of a chunk.
    #[inline]
    pub fn descriptor(&self, chunk: ChunkId) -> Result<Descriptor<'_>> {
        if chunk.0 == 0 || chunk.0 >= self.geometry.chunk_count {
            return Err(no_such_chunk(chunk, self.geometry.chunk_count));
        }
        self.shm.block(self.geometry.table_offset + chunk.0 as u64 * DESCRIPTOR_BYTES)
    }

    /// The bytes of a chunk.
    #[inline]
    pub fn span(&self, chunk: ChunkId) -> Result<Span<'_>> {
        self.run_span(chunk, 1)
    }

    /// The bytes of a run of chunks.
    #[inline]
    pub fn run_span(&self, first: ChunkId, count: u32) -> Result<Span<'_>> {
        if first.0 == 0 || first.0.checked_add(count).is_none_or(|end| end > self.geometry.chunk_count) {
            return Err(no_such_chunk(first, self.geometry.chunk_count));
        }
        self.shm.span(self.geometry.chunk_offset(first), count as u64 * self.geometry.chunk_bytes)
    }

    /// The state of a chunk.
    #[inline]
    pub fn state(&self, chunk: ChunkId) -> Result<State> {
        // ORDER Acquire [chunk-state]: what the last owner did before the change is seen.
        Ok(State(self.descriptor(chunk)?.u64::<{ at::STATE }>().load(Ordering::Acquire)))
    }

    /// One edge of the state machine. False if somebody else was first.
    pub(super) fn transition(&self, descriptor: Descriptor<'_>, from: State, to: State) -> bool {
        debug_assert!(
            from.kind().zip(to.kind()).is_some_and(|(from, to)| state::allowed(from, to)),
            "{from:?} -> {to:?}"
        );
        // ORDER AcqRel [chunk-state]: hands over everything written to the chunk so far; takes over what the last did.
        descriptor
            .u64::<{ at::STATE }>()
            .compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// Chunks that are free, roughly: a process killed in between leaves it off by one until the next recount.
    pub fn free_count(&self) -> u32 {
        // ORDER Relaxed: an estimate.
        let taken = self.head().u64::<{ at::POOL_TAKEN }>().load(Ordering::Relaxed) as u32 as i32;
        (self.geometry.chunk_count - 1).saturating_sub(taken.max(0) as u32)
    }

    /// How often a chunk was taken or freed: tells whether a cached count is old.
    pub fn changes(&self) -> u32 {
        // ORDER Relaxed: an estimate.
        (self.head().u64::<{ at::POOL_TAKEN }>().load(Ordering::Relaxed) >> 32) as u32
    }

    /// Chunks that only overwriting and cleaning may take: one for each thread that may hold one open, and two to clean with.
    pub fn reserve(&self) -> u32 {
        // ORDER Relaxed: private, and only as good as the last allocation.
        self.reserve.load(Ordering::Relaxed)
    }

    fn renew_reserve(&self) {
        let reserve = (self.ground.thread_count() + 2).min(self.geometry.chunk_count / 4);
        self.reserve.store(reserve, Ordering::Relaxed);
    }

    /// With fewer free chunks, those who write also clean.
    #[inline]
    pub fn pressure_mark(&self) -> u32 {
        self.reserve() + self.geometry.chunk_count / 16
    }

    /// With more free chunks, nobody asks whether a new record fits.
    #[inline]
    pub fn comfort_mark(&self) -> u32 {
        self.reserve() + self.geometry.chunk_count / 8
    }

    fn must_stay(&self, need: Need) -> u32 {
        match need {
            Need::Object => self.reserve() + self.geometry.chunk_count / 16,
            Need::Growth => self.reserve(),
            Need::Overwrite => 2.min(self.geometry.chunk_count / 8),
            Need::Clean => 0,
        }
    }

    fn count_taken(&self, chunks: i64) {
        let delta = (1u64 << 32).wrapping_add(chunks as u64);
        // ORDER Relaxed: an estimate, corrected by `recount`.
        self.head().u64::<{ at::POOL_TAKEN }>().fetch_add(delta, Ordering::Relaxed);
    }

    /// Counts the taken chunks anew. Does nothing if chunks change meanwhile.
    pub fn recount(&self) -> Result<()> {
        let word = self.head().u64::<{ at::POOL_TAKEN }>();
        // ORDER Acquire [pool-taken]: the states are read after the word.
        let before = word.load(Ordering::Acquire);
        let mut taken = 0u32;
        for chunk in self.used_chunks() {
            let state = self.state(chunk)?;
            taken += u32::from(!state.is(Kind::Free) && !state.is(Kind::Virgin));
        }
        let after = before & !0xffff_ffff | taken as u64;
        // ORDER AcqRel [pool-taken]: fails if a chunk was counted since; pairs with itself.
        let _ = word.compare_exchange(before, after, Ordering::AcqRel, Ordering::Relaxed);
        Ok(())
    }

    /// Takes a free chunk for `object`: open, owned by the caller alone, its bytes undefined.
    pub fn allocate(&self, me: Actor<'_>, class: Class, object: u32, need: Need) -> Result<ChunkId> {
        self.allocate_run(me, class, object, 1, need)
    }

    /// Takes `count` free chunks in a row.
    pub fn allocate_run(
        &self,
        me: Actor<'_>,
        class: Class,
        object: u32,
        count: u32,
        need: Need,
    ) -> Result<ChunkId> {
        if !self.shm.writable() {
            return Err(ErrorCode::ReadOnly.into());
        }
        self.renew_reserve();
        for attempt in 0..3 {
            if (self.free_count() >= count.saturating_add(self.must_stay(need)) || attempt == 2)
                && let Some(chunk) = self.find_run(me, class, object, count, need)?
            {
                return Ok(chunk);
            }
            // What waited for a pin may be free now, and the count may have drifted.
            self.free_quiet()?;
            self.recount()?;
        }
        Err(self.full(count, need))
    }

    #[cold]
    fn full(&self, count: u32, need: Need) -> Error {
        let (all, bytes) = (self.geometry.chunk_count - 1, self.geometry.chunk_bytes);
        Error::new(
            ErrorCode::Full,
            format!(
                "No room for {count} more chunks of {} KiB: {} of {all} are free and {} of them are kept in reserve.",
                bytes >> 10,
                self.free_count(),
                self.must_stay(need),
            ),
        )
    }

    fn find_run(
        &self,
        me: Actor<'_>,
        class: Class,
        object: u32,
        count: u32,
        need: Need,
    ) -> Result<Option<ChunkId>> {
        if self.free_count() < count.saturating_add(self.must_stay(need)) {
            return Ok(None);
        }
        if count == 1 {
            for hint in 0..HINT_COUNT {
                // ORDER Relaxed: a hint; the state decides.
                let word = self.head().u32_at::<{ at::POOL_HINTS }>(hint);
                let chunk = ChunkId(word.load(Ordering::Relaxed));
                if chunk.0 != 0 && chunk.0 < self.geometry.chunk_count {
                    word.store(0, Ordering::Relaxed);
                    if self.state(chunk)?.is(Kind::Free) && self.open_run(me, class, object, chunk, 1)? {
                        return Ok(Some(chunk));
                    }
                }
            }
        }
        let total = self.geometry.chunk_count;
        // ORDER Relaxed: hints.
        let used =
            self.head().u64::<{ at::POOL_COMMITTED }>().load(Ordering::Relaxed).clamp(1, total as u64) as u32;
        let start = self.start.load(Ordering::Relaxed).clamp(1, total - 1);
        // First where chunks were used before, then fresh ones, then everywhere once more.
        let ranges = [(start, used), (1, start.min(used)), (used, total), (1, total)];
        for (from, to) in ranges {
            let mut found = 0;
            for number in from..to {
                let state = self.state(ChunkId(number))?;
                found = if state.is(Kind::Free) || state.is(Kind::Virgin) { found + 1 } else { 0 };
                if found == count {
                    let first = ChunkId(number + 1 - count);
                    if self.open_run(me, class, object, first, count)? {
                        self.start.store(number + 1, Ordering::Relaxed);
                        return Ok(Some(first));
                    }
                    found = 0;
                }
            }
        }
        Ok(None)
    }

    /// Claims the chunks one by one in the order of their numbers; gives back what it has if one is lost.
    fn open_run(&self, me: Actor<'_>, class: Class, object: u32, first: ChunkId, count: u32) -> Result<bool> {
        let span = self.run_span(first, count)?;
        // Pages first: if there are none, nothing has changed.
        for number in first.0..first.0 + count {
            if self.state(ChunkId(number))?.is(Kind::Virgin) {
                self.ground.commit(self.geometry.chunk_offset(ChunkId(number)), self.geometry.chunk_bytes)?;
            }
        }
        self.populate(first, count)?;
        for number in first.0..first.0 + count {
            if !self.open_one(me, class, object, ChunkId(number))? {
                for claimed in first.0..number {
                    self.release(me, ChunkId(claimed))?;
                }
                return Ok(false);
            }
        }
        // ORDER Relaxed: the owner's, until the run is reachable.
        for number in first.0 + 1..first.0 + count {
            self.descriptor(ChunkId(number))?
                .u64::<{ at::PARENT }>()
                .store(pair(first.0, 0), Ordering::Relaxed);
        }
        self.descriptor(first)?.u32::<{ at::RUN_LEN }>().store(count, Ordering::Relaxed);
        debug_assert_eq!(span.len(), count as u64 * self.geometry.chunk_bytes);
        Ok(true)
    }

    fn open_one(&self, me: Actor<'_>, class: Class, object: u32, chunk: ChunkId) -> Result<bool> {
        let descriptor = self.descriptor(chunk)?;
        // ORDER Acquire [chunk-state]: as in `state`.
        let seen = State(descriptor.u64::<{ at::STATE }>().load(Ordering::Acquire));
        if !seen.is(Kind::Free) && !seen.is(Kind::Virgin) {
            return Ok(false);
        }
        // Before the chunk can be owned, so that whoever looks for what the dead owned comes as far as here.
        // ORDER Relaxed: ordered before the state by its Release; only the reaper needs it, who sees all of the dead's stores.
        self.head().u64::<{ at::POOL_COMMITTED }>().fetch_max(chunk.0 as u64 + 1, Ordering::Relaxed);
        // DIES BEFORE: nothing is taken.
        kill_point!("chunk.allocate.before_open");
        if !self.transition(descriptor, seen, State::new(Kind::Open, class, me.index, seen.generation())) {
            return Ok(false);
        }
        // DIES AFTER: an open chunk of the dead, with the descriptor of its last use: the reaper seals it and the cleaner
        // finds nothing live in it, or frees it because nothing refers to it.
        kill_point!("chunk.allocate.opened");
        // ORDER Release [chunk-reuse]: whoever sees bytes that are written from here on, and then executes an acquire
        // fence, also sees that the records of the last use were unlinked and the generation went on.
        fence(Ordering::Release);
        // ORDER Relaxed: the next fields are the owner's until the chunk is reachable; what makes it so orders them.
        let sequence = self.head().u64::<{ at::POOL_SEQUENCE }>().fetch_add(1, Ordering::Relaxed) + 1;
        descriptor.u64::<{ at::TAIL }>().store(0, Ordering::Relaxed);
        descriptor.u64::<{ at::SEQ }>().store(sequence, Ordering::Relaxed);
        descriptor.u32::<{ at::OBJECT }>().store(object, Ordering::Relaxed);
        descriptor.u32::<{ at::RUN_LEN }>().store(1, Ordering::Relaxed);
        for word in [
            descriptor.u64::<{ at::AUX }>(),
            descriptor.u64::<{ at::FLUSHED }>(),
            descriptor.u64::<{ at::SPLIT }>(),
            descriptor.u64::<{ at::PARENT }>(),
            descriptor.u64::<{ at::CURSOR }>(),
        ] {
            word.store(0, Ordering::Relaxed);
        }
        // ORDER Release [chunk-described]: with this generation in it, the fields above are those of this use.
        descriptor.u64::<{ at::DEAD }>().store(Dead::new(seen.generation(), 0).0, Ordering::Release);
        kill_point!("chunk.allocate.described");
        self.count_taken(1);
        Ok(true)
    }

    /// Maps the pages of chunks that this process has not touched yet: a fault costs more than a write.
    #[cfg(not(memora_loom))]
    fn populate(&self, first: ChunkId, count: u32) -> Result<()> {
        for number in first.0..first.0 + count {
            let (word, bit) = (&self.populated[number as usize / 64], 1u64 << (number % 64));
            // ORDER Relaxed: private to this process, and doing it twice is harmless.
            if word.load(Ordering::Relaxed) & bit == 0 {
                self.shm.populate(self.geometry.chunk_offset(ChunkId(number)), self.geometry.chunk_bytes)?;
                word.fetch_or(bit, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    #[cfg(memora_loom)]
    fn populate(&self, _first: ChunkId, _count: u32) -> Result<()> {
        Ok(())
    }

    /// Chunks of the run that begins at `first`, as its owner stored them.
    fn run_len(&self, first: ChunkId) -> Result<u32> {
        // ORDER Relaxed: written before the run was reachable.
        let count = self.descriptor(first)?.u32::<{ at::RUN_LEN }>().load(Ordering::Relaxed);
        Ok(count.clamp(1, self.geometry.chunk_count - first.0))
    }

    /// The owner is ready with an open chunk, or with a run of them: records are sealed, control areas, buckets and lanes go
    /// into use. A chunk of buckets may be settled by anyone who can reach it.
    pub fn settle(&self, me: Actor<'_>, chunk: ChunkId) -> Result<()> {
        for number in chunk.0..chunk.0 + self.run_len(chunk)? {
            let chunk = ChunkId(number);
            let seen = self.state(chunk)?;
            let (Some(Kind::Open), Some(class)) = (seen.kind(), seen.class()) else { continue };
            if seen.owner() == me.index || class == Class::Buckets {
                kill_point!("chunk.settle.before");
                let settled = State::new(class.settled(), class, 0, seen.generation());
                self.transition(self.descriptor(chunk)?, seen, settled);
                kill_point!("chunk.settle.after");
            }
        }
        Ok(())
    }

    /// Gives back a chunk, or the run that begins with it, that is open and not reachable, or in use (`Index`, `Lane`) and
    /// no longer reachable. It becomes free when nobody has it pinned, now or at a later allocation. The first chunk of a
    /// run goes last, so that whoever takes over from the dead still finds the run.
    pub fn release(&self, me: Actor<'_>, chunk: ChunkId) -> Result<()> {
        for number in (chunk.0..chunk.0 + self.run_len(chunk)?).rev() {
            let seen = self.state(ChunkId(number))?;
            let mine = match seen.kind() {
                Some(Kind::Open) => seen.owner() == me.index,
                Some(Kind::Index | Kind::Lane) => true,
                _ => false,
            };
            if mine {
                self.retire(ChunkId(number), seen)?;
            }
        }
        Ok(())
    }

    /// From a state in which nothing points to the chunk any more to `Quiesce`, and on to `Free` if no pin holds it.
    pub(crate) fn retire(&self, chunk: ChunkId, seen: State) -> Result<()> {
        let Some(class) = seen.class() else {
            return Err(Error::new(ErrorCode::Corrupt, format!("Chunk {} has state {seen:?}.", chunk.0)));
        };
        let quiet = State::new(Kind::Quiesce, class, 0, seen.generation());
        kill_point!("chunk.retire.before");
        if self.transition(self.descriptor(chunk)?, seen, quiet) {
            // DIES AFTER: the chunk waits in Quiesce; any allocation that finds too little goes on from here.
            kill_point!("chunk.retire.quiet");
            self.free_if_unpinned(&[(chunk, quiet)])?;
        }
        Ok(())
    }

    /// Frees those of the quiet chunks that no pin holds.
    fn free_if_unpinned(&self, quiet: &[(ChunkId, State)]) -> Result<()> {
        // ORDER SeqCst [pin]: the unlinking came before; a pin that this scan misses is stored after this fence, so its
        // owner's second look at the slot comes after the unlinking; pairs with the fence in `Guard::pin`.
        fence(Ordering::SeqCst);
        let mut pinned = Vec::new();
        self.ground.each_pin(&mut |chunk| {
            if chunk != 0 && quiet.iter().any(|(id, _)| id.0 == chunk) {
                pinned.push(chunk);
            }
        });
        for (chunk, seen) in quiet.iter().filter(|(chunk, _)| !pinned.contains(&chunk.0)) {
            let free = State::new(Kind::Free, Class::None, 0, seen.generation().wrapping_add(1));
            kill_point!("chunk.free.before");
            if self.transition(self.descriptor(*chunk)?, *seen, free) {
                // DIES AFTER: the count of taken chunks is one too high until the next recount.
                kill_point!("chunk.free.after");
                self.count_taken(-1);
                // ORDER Relaxed: a hint.
                self.head()
                    .u32_at::<{ at::POOL_HINTS }>(chunk.0 as usize % HINT_COUNT)
                    .store(chunk.0, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// Frees every quiet chunk that no pin holds any more.
    pub fn free_quiet(&self) -> Result<()> {
        let mut quiet = Vec::new();
        for chunk in self.used_chunks() {
            let state = self.state(chunk)?;
            if state.is(Kind::Quiesce) {
                quiet.push((chunk, state));
            }
        }
        if quiet.is_empty() { Ok(()) } else { self.free_if_unpinned(&quiet) }
    }

    /// A thread unlinked `bytes` of records in the chunk while it had `generation`.
    #[inline]
    pub fn add_dead(&self, chunk: ChunkId, generation: u32, bytes: u64) -> Result<()> {
        let word = self.descriptor(chunk)?.u64::<{ at::DEAD }>();
        // ORDER Relaxed: a count, valid for one generation; nothing is reached through it.
        let mut seen = Dead(word.load(Ordering::Relaxed));
        // Each failure is another thread's success; the bound only guards against damaged content.
        for _ in 0..1 << 16 {
            if seen.generation() != generation {
                return Ok(());
            }
            let next = Dead::new(generation, seen.bytes().saturating_add(bytes as u32));
            match word.compare_exchange_weak(seen.0, next.0, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(now) => seen = Dead(now),
            }
        }
        Ok(())
    }

    /// The generation under which dead bytes of the chunk are counted now. Read it before the compare-and-swap that
    /// unlinks the record: its success proves that the chunk was not reused in between.
    #[inline]
    pub fn dead_generation(&self, chunk: ChunkId) -> Result<u32> {
        // ORDER Relaxed: the slot was loaded with Acquire before; the chunk got this word before the record was published.
        Ok(Dead(self.descriptor(chunk)?.u64::<{ at::DEAD }>().load(Ordering::Relaxed)).generation())
    }
}
