//! A pool without a segment or a registry, for tests and models.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use super::{Actor, ChunkId, Ground, Holders, Holds, Pool, PoolGeometry};
use crate::error::Result;
use crate::shm::atomic::Ordering;
use crate::shm::{Block, Shm};

/// Bytes for each thread: its pins, its open chunks and its transaction.
const ACTOR_BYTES: u64 = 192;

/// Threads are entries in front of the descriptors; the test says who is dead.
pub struct Stage {
    shm: Arc<Shm>,
    threads: u16,
    dead: Mutex<HashSet<u16>>,
    /// Pins of views: the entry of the highest thread is their only holder, once one was asked for.
    holds: Holds,
    holder: Mutex<Option<u16>>,
}

impl Stage {
    /// A pool of `chunk_count` chunks (chunk 0 included) for `threads` threads, indices 1 to `threads`.
    pub fn pool(threads: u16, chunk_count: u32, chunk_bytes: u64) -> (Arc<Stage>, Arc<Pool>) {
        let table_offset = ACTOR_BYTES * (threads as u64 + 1);
        let arena_offset = table_offset + 128 * chunk_count as u64;
        let shm = Arc::new(Shm::heap(arena_offset + chunk_bytes * chunk_count as u64).unwrap());
        let stage = Arc::new(Stage {
            shm: shm.clone(),
            threads,
            dead: Mutex::default(),
            holds: Holds::new(chunk_count),
            holder: Mutex::default(),
        });
        let geometry = PoolGeometry { chunk_bytes, chunk_count, table_offset, arena_offset };
        let pool = Arc::new(Pool::new(shm, geometry, stage.clone()).unwrap());
        (stage, pool)
    }

    /// Announces a chunk for a view.
    pub fn hold(&self, chunk: ChunkId) -> Result<bool> {
        self.holds.hold(self, chunk)
    }

    /// A view ended.
    pub fn let_go(&self, chunk: ChunkId) {
        self.holds.let_go(self, chunk).unwrap();
    }

    /// Chunks that are held for views.
    pub fn held(&self) -> u32 {
        self.holds.count()
    }

    /// The entry of a thread.
    pub fn actor(&self, index: u16) -> Actor<'_> {
        assert!(index >= 1 && index <= self.threads);
        let offset = ACTOR_BYTES * index as u64;
        Actor {
            index,
            pins: self.shm.block(offset).unwrap(),
            open: self.shm.block(offset + 64).unwrap(),
            transaction: self.shm.block(offset + 128).unwrap(),
        }
    }

    /// Makes every word that a model uses, before the threads that share them: the model checker wants that. `buckets` is
    /// where an index chunk stands.
    #[cfg(memora_loom)]
    pub fn touch(&self, geometry: &PoolGeometry, buckets: &[u64]) {
        use super::layout::at;
        for offset in (0..self.shm.len()).step_by(8) {
            let _ = self.shm.block::<8>(offset).unwrap().u64::<0>().load(Ordering::Relaxed);
        }
        for index in 1..=self.threads {
            for place in 0..8 {
                let _ = self.actor(index).pins.u32_at::<0>(place).load(Ordering::Relaxed);
            }
        }
        for chunk in 0..geometry.chunk_count as u64 {
            let descriptor = self.shm.block::<128>(geometry.table_offset + chunk * 128).unwrap();
            let _ = descriptor.u32::<{ at::OBJECT }>().load(Ordering::Relaxed);
            let _ = descriptor.u32::<{ at::RUN_LEN }>().load(Ordering::Relaxed);
            let _ = descriptor.u32::<{ at::ACCOUNT }>().load(Ordering::Relaxed);
            for hint in 0..super::layout::HINT_COUNT {
                let _ = descriptor.u32_at::<{ at::POOL_HINTS }>(hint).load(Ordering::Relaxed);
            }
        }
        for offset in buckets {
            for bucket in (0..geometry.chunk_bytes).step_by(64) {
                let bucket = self.shm.block::<64>(offset + bucket).unwrap();
                let _ = bucket.u16::<56>().load(Ordering::Relaxed);
                let _ = bucket.u8::<58>().load(Ordering::Relaxed);
                let _ = bucket.u8::<59>().load(Ordering::Relaxed);
                let _ = bucket.u32::<60>().load(Ordering::Relaxed);
            }
        }
    }

    /// From now on the kernel says that this thread is dead.
    pub fn kill(&self, index: u16) {
        self.dead.lock().unwrap().insert(index);
    }

    /// What the registry does when it reaps a thread, once its heirs were asked: the entry is as new.
    pub fn clear(&self, index: u16) {
        let actor = self.actor(index);
        for place in 0..8 {
            actor.pins.u32_at::<0>(place).store(0, Ordering::Release);
            actor.open.u64_at::<0>(place).store(0, Ordering::Release);
        }
        self.dead.lock().unwrap().remove(&index);
    }
}

impl Ground for Stage {
    fn commit(&self, _offset: u64, _len: u64) -> Result<()> {
        Ok(())
    }

    fn thread_is_dead(&self, thread: u16) -> bool {
        self.dead.lock().unwrap().contains(&thread)
    }

    fn thread_generation(&self, _thread: u16) -> u32 {
        0
    }

    fn thread_count(&self) -> u32 {
        self.threads as u32
    }

    fn thread_limit(&self) -> u32 {
        self.threads as u32 + 1
    }

    fn each_pin(&self, visit: &mut dyn FnMut(u32)) {
        for index in 1..=self.threads {
            for place in 0..8 {
                // ORDER Acquire [unpin]: what was done under the pin is seen before the chunk is reused.
                visit(self.actor(index).pins.u32_at::<0>(place).load(Ordering::Acquire));
            }
        }
    }

    fn transaction(&self, thread: u16) -> Result<Block<'_, 32>> {
        if thread == 0 || thread > self.threads {
            return Err(crate::error::ErrorCode::Corrupt.into());
        }
        self.shm.block(ACTOR_BYTES * u64::from(thread) + 128)
    }
}

impl Holders for Stage {
    fn claim_holder(&self) -> Result<Option<u16>> {
        let mut holder = self.holder.lock().unwrap();
        let free = holder.is_none().then_some(self.threads);
        *holder = holder.or(free);
        Ok(free)
    }

    fn holder_pins(&self, holder: u16) -> Result<Block<'_, 32>> {
        Ok(self.actor(holder).pins)
    }

    fn free_holder(&self, _holder: u16) -> Result<()> {
        *self.holder.lock().unwrap() = None;
        Ok(())
    }
}
