//! Taking, settling and giving back chunks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, RwLock, Weak};

use super::account::Account;
use super::layout::{Class, DESCRIPTOR_BYTES, Dead, HINT_COUNT, Kind, PoolGeometry, State, at};
use super::{Actor, ChunkId, Ground, Relief, state};
use crate::error::{Error, ErrorCode, Result};
use crate::shm::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use crate::shm::{Block, Shm, Span};

/// A descriptor, checked.
pub type Descriptor<'a> = Block<'a, { DESCRIPTOR_BYTES as usize }>;

/// The pool of chunks of one fabric.
pub struct Pool {
    shm: Arc<Shm>,
    geometry: PoolGeometry,
    ground: Arc<dyn Ground>,
    /// Where this process looks first for a free chunk: a private hint.
    pub(super) start: AtomicU32,
    /// Where this process looks first for a chunk to clean: a private hint.
    pub(super) search: AtomicU32,
    /// The reserve as it was at the last allocation: private.
    reserve: AtomicU32,
    /// Chunks that the last search found worth cleaning, the best last: private hints.
    pub(super) dirty: Mutex<Vec<(ChunkId, State)>>,
    /// The accounts of the objects that this process opened and that evict: private.
    pub(super) accounts: RwLock<HashMap<u32, Account>>,
    /// Who knows the objects whose records are in the chunks.
    pub(super) relief: OnceLock<Weak<dyn Relief>>,
    /// One bit for each chunk whose pages this process has mapped: private.
    #[cfg(not(memora_loom))]
    pub(super) populated: Vec<AtomicU64>,
}

/// The count of dead bytes of a chunk.
#[derive(Clone, Copy)]
pub struct DeadCount<'a> {
    chunk: ChunkId,
    descriptor: Descriptor<'a>,
}

impl DeadCount<'_> {
    /// As [`Pool::dead_generation`].
    #[inline]
    pub fn generation(&self) -> u32 {
        // ORDER Relaxed: as in `Pool::dead_generation`.
        Dead(self.descriptor.u64::<{ at::DEAD }>().load(Ordering::Relaxed)).generation()
    }
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
            dirty: Mutex::new(Vec::new()),
            accounts: RwLock::default(),
            relief: OnceLock::new(),
            #[cfg(not(memora_loom))]
            populated: (0..geometry.chunk_count.div_ceil(64)).map(|_| AtomicU64::new(0)).collect(),
            shm,
            geometry,
            ground,
        })
    }

    /// From now on the pool may clean chunks of every object. Without it, who runs short cleans only its own.
    pub fn set_relief(&self, relief: Weak<dyn Relief>) {
        // Only the first is kept: there is one fabric for a pool.
        let _ = self.relief.set(relief);
    }

    #[inline]
    pub fn shm(&self) -> &Shm {
        &self.shm
    }

    /// The space of the pool, to be shared.
    pub fn shared_shm(&self) -> &Arc<Shm> {
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

    pub(crate) fn renew_reserve(&self) {
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

    /// Draws the number that the next chunk would have got: chunks opened before have lower ones, those opened after higher.
    pub fn next_number(&self) -> u64 {
        // ORDER AcqRel [flush]: behind the mark of a flush; who draws a later number sees the mark.
        self.head().u64::<{ at::POOL_SEQUENCE }>().fetch_add(1, Ordering::AcqRel) + 1
    }

    pub(super) fn count_taken(&self, chunks: i64) {
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
            taken += u32::from(!state.is_free());
        }
        let after = before & !0xffff_ffff | taken as u64;
        // ORDER AcqRel [pool-taken]: fails if a chunk was counted since; pairs with itself.
        let _ = word.compare_exchange(before, after, Ordering::AcqRel, Ordering::Relaxed);
        Ok(())
    }

    /// Whether the owner of an open chunk has written its descriptor: until then that of its last use stands there.
    pub(super) fn is_described(&self, chunk: ChunkId, seen: State) -> Result<bool> {
        // ORDER Acquire [chunk-described]: with this generation in it, the other fields are those of this use.
        let described = Dead(self.descriptor(chunk)?.u64::<{ at::DEAD }>().load(Ordering::Acquire));
        Ok(described.generation() == seen.generation())
    }

    /// Chunks of the run that begins at `first`, as its owner stored them.
    pub fn run_len(&self, first: ChunkId) -> Result<u32> {
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
                let settled = State::new(class.settled(), class, 0, seen.generation());
                if class.has_records() {
                    self.note_sealed(chunk)?;
                }
                kill_point!("chunk.settle.before");
                self.transition(self.descriptor(chunk)?, seen, settled);
                kill_point!("chunk.settle.after");
                if class.has_records() {
                    self.free_if_dead(chunk)?;
                }
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
        self.retire_as(chunk, seen, class)
    }

    /// As [`Pool::retire`], for a chunk of buckets, also for one that was one of the control area's run.
    pub(crate) fn retire_buckets(&self, chunk: ChunkId, seen: State) -> Result<()> {
        self.retire_as(chunk, seen, Class::Buckets)
    }

    fn retire_as(&self, chunk: ChunkId, seen: State, class: Class) -> Result<()> {
        let quiet = State::new(Kind::Quiesce, class, 0, seen.generation());
        if class.has_snapshots() {
            self.note_quiet(chunk)?;
        }
        kill_point!("chunk.retire.before");
        if self.transition(self.descriptor(chunk)?, seen, quiet) {
            // DIES AFTER: the chunk waits in Quiesce; any allocation that finds too little goes on from here.
            kill_point!("chunk.retire.quiet");
            self.free_if_unpinned(&[(chunk, quiet)])?;
        }
        Ok(())
    }

    /// Frees those of the quiet chunks that no pin holds.
    pub(super) fn free_if_unpinned(&self, quiet: &[(ChunkId, State)]) -> Result<()> {
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
            if self.is_kept_for_snapshot(*chunk, *seen)? {
                continue;
            }
            self.free_continued(*chunk, *seen)?;
            self.free_one(*chunk, *seen)?;
        }
        Ok(())
    }

    /// Frees a chunk that nothing points to and no pin holds, unless somebody else did.
    pub(super) fn free_one(&self, chunk: ChunkId, seen: State) -> Result<()> {
        let kept = seen.class() == Some(Class::Buckets);
        let class = if kept { Class::Buckets } else { Class::None };
        let free = State::new(Kind::Free, class, 0, seen.generation().wrapping_add(1));
        let charged = self.charged(self.descriptor(chunk)?);
        // What is kept for buckets counts as taken.
        let freed = i64::from(!kept);
        self.count_taken(-freed);
        // DIES BEFORE: the count of taken chunks is one too low until the next recount, which the reaper does.
        kill_point!("chunk.free.before");
        if !self.transition(self.descriptor(chunk)?, seen, free) {
            self.count_taken(freed);
        } else {
            kill_point!("chunk.free.after");
            self.discharge(charged, seen.class().unwrap_or(Class::None))?;
            // ORDER Relaxed: a hint.
            self.head()
                .u32_at::<{ at::POOL_HINTS }>(chunk.0 as usize % HINT_COUNT)
                .store(chunk.0, Ordering::Relaxed);
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

    /// A thread unlinked `bytes` of records in the chunk while it had `generation`. A chunk whose records are all dead is
    /// free at once.
    #[inline]
    pub fn add_dead(&self, chunk: ChunkId, generation: u32, bytes: u64) -> Result<()> {
        self.add_to(&DeadCount { chunk, descriptor: self.descriptor(chunk)? }, generation, bytes)
    }

    /// As [`Pool::add_dead`], for a chunk whose count was looked up before.
    #[inline(always)]
    pub fn add_to(&self, count: &DeadCount<'_>, generation: u32, bytes: u64) -> Result<()> {
        let word = count.descriptor.u64::<{ at::DEAD }>();
        // ORDER Relaxed: a count, valid for one generation; nothing is reached through it.
        let mut seen = Dead(word.load(Ordering::Relaxed));
        // Each failure is another thread's success; the bound only guards against damaged content.
        for _ in 0..1 << 16 {
            if seen.generation() != generation {
                return Ok(());
            }
            let next = seen.plus(bytes);
            // ORDER AcqRel [dead]: the unlinking comes before its count: who frees the chunk because of the sum has seen all
            // of them.
            match word.compare_exchange_weak(seen.0, next.0, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => {
                    // ORDER Relaxed: a hint; 0 while the chunk is open.
                    let sealed = count.descriptor.u64::<{ at::AUX }>().load(Ordering::Relaxed);
                    return if next.bytes() as u64 == sealed {
                        self.free_if_dead(count.chunk)
                    } else {
                        Ok(())
                    };
                }
                Err(now) => seen = Dead(now),
            }
        }
        Ok(())
    }

    /// Frees a sealed chunk of records if each of them was unlinked and counted.
    ///
    /// Records are counted by whoever unlinked them, once. So if the sum is that of all bytes, and no part of it was taken
    /// anew by looking, nothing points into the chunk. Who is killed before it counts leaves the sum too low.
    #[cold]
    #[inline(never)]
    pub(super) fn free_if_dead(&self, chunk: ChunkId) -> Result<()> {
        // ORDER Acquire [dead]: all the unlinkings came before.
        let dead = Dead(self.descriptor(chunk)?.u64::<{ at::DEAD }>().load(Ordering::Acquire));
        // ORDER SeqCst [adopt]: behind the sum: who adopts the chunk, and is not seen below, sees the sum and does not append.
        // Pairs with the fence in `Pool::adopt`: without it a chunk that was filled on and sealed again would look the same.
        fence(Ordering::SeqCst);
        let state = self.state(chunk)?;
        let at_rest = state.is(Kind::Sealed) || state.is(Kind::RunHead);
        let Some(class) = state.class().filter(|class| at_rest && class.has_records()) else {
            return Ok(());
        };
        if dead.generation() == state.generation()
            && dead.is_exact()
            && dead.bytes() as u64 == self.tail(chunk)?
            && self.may_be_cleaned(chunk, class)?
        {
            self.retire(chunk, state)?;
        }
        Ok(())
    }

    /// Before an open chunk of records is sealed: notes beside the dead bytes how many there are in all.
    pub(super) fn note_sealed(&self, chunk: ChunkId) -> Result<()> {
        let tail = self.tail(chunk)?;
        // ORDER Relaxed: released by the state, which goes on next.
        self.descriptor(chunk)?.u64::<{ at::AUX }>().store(tail, Ordering::Relaxed);
        Ok(())
    }

    /// The count of dead bytes of the chunk of a record, fetched for writing.
    #[inline]
    pub fn dead_count(&self, offset: u64) -> Option<DeadCount<'_>> {
        let chunk = self.geometry.chunk_of(offset)?;
        let at = self.geometry.table_offset + u64::from(chunk.0) * DESCRIPTOR_BYTES;
        let descriptor: Descriptor<'_> = self.shm.view(at)?;
        self.shm.prefetch_write(at);
        Some(DeadCount { chunk, descriptor })
    }

    /// The generation under which dead bytes of the chunk are counted now. Read it before the compare-and-swap that
    /// unlinks the record: its success proves that the chunk was not reused in between.
    #[inline]
    pub fn dead_generation(&self, chunk: ChunkId) -> Result<u32> {
        // ORDER Relaxed: the slot was loaded with Acquire before; the chunk got this word before the record was published.
        Ok(Dead(self.descriptor(chunk)?.u64::<{ at::DEAD }>().load(Ordering::Relaxed)).generation())
    }
}
