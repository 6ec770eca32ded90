//! What a flush writes: the current state of every key that changed.
//!
//! The walk over the chunks only tells which keys changed. Each is looked up, and what its slot names at that moment is
//! copied as a reader copies and pushed into the batch, unless the journal is known to have it. So what loses its
//! compare-and-swap, and what its writer did not live to publish, never reaches the files.

use std::collections::HashSet;

use super::core::Core;
use crate::chunk::record::{self, EXTENDED_BYTES, RELOCATED};
use crate::chunk::{Pool, Unflushed};
use crate::error::Result;
use crate::journal::{Batches, Record, Source};
use crate::shm::time;
use crate::table::KeyState;

/// What a flush remembers until its files are synced.
#[derive(Default)]
pub struct Taken {
    /// Chunks, and up to where the journal has them.
    marks: Vec<(Unflushed, u64)>,
    /// Keys whose state is a tombstone, with that state.
    tombstones: Vec<(Vec<u8>, KeyState)>,
}

/// The wall clock at which an entry that expires on the boot clock is gone; 0 = never.
pub fn wall_expiry(expiry: u64) -> u64 {
    if expiry == 0 { 0 } else { (time::wall_ms() + expiry).saturating_sub(time::boot_ms()).max(1) }
}

impl Core {
    /// Walks one chunk from its mark on. Returns the position up to which every record is decided and looked at.
    fn walk_chunk(
        &self,
        pool: &Pool,
        seen: &Unflushed,
        batches: &mut Batches<'_>,
        taken: &mut Taken,
        pushed: &mut HashSet<u64>,
    ) -> Result<u64> {
        let mut walk = pool.walk(seen.chunk, EXTENDED_BYTES, seen.from)?;
        let mut decided = seen.from;
        let mut undecided = None;
        let (mut key, mut value) = (Vec::new(), Vec::new());
        while let Some(found) = walk.next()? {
            if found.head.flags & RELOCATED == 0 {
                key.resize(found.head.key_len as usize, 0);
                record::key_span(pool.shm(), found.offset, EXTENDED_BYTES, &found.head)?
                    .copy_out(0, &mut key)?;
                let current = self.table.key_state(self.host.actor()?, &key, &mut value)?;
                if let Some(state) = &current {
                    self.push_state(pool, &key, &value, state, batches, taken, pushed)?;
                }
                // Its owner may be between appending and publishing: only the last record of an open chunk can be there.
                let published = current.is_some_and(|state| state.offset == found.offset);
                undecided = (seen.open && !published).then_some(found.position);
            } else {
                undecided = None;
            }
            decided = walk.position();
        }
        Ok(undecided.unwrap_or(decided))
    }

    #[allow(clippy::too_many_arguments)]
    fn push_state(
        &self,
        pool: &Pool,
        key: &[u8],
        value: &[u8],
        state: &KeyState,
        batches: &mut Batches<'_>,
        taken: &mut Taken,
        pushed: &mut HashSet<u64>,
    ) -> Result<()> {
        if state.relocated {
            return Ok(());
        }
        if let Some(chunk) = pool.geometry().chunk_of(state.offset)
            && pool.is_flushed(chunk, state.offset - pool.geometry().chunk_offset(chunk))?
        {
            return Ok(());
        }
        if !pushed.insert(state.id) {
            return Ok(());
        }
        batches.push(&Record {
            order: state.order,
            expiry_ms: wall_expiry(state.expiry),
            flags: state.client,
            key,
            value: (!state.tombstone).then_some(value),
        })?;
        if state.tombstone {
            taken.tombstones.push((key.to_vec(), *state));
        }
        Ok(())
    }
}

impl Source for Core {
    type Taken = Taken;

    fn collect(&self, batches: &mut Batches<'_>) -> Result<Taken> {
        let pool = self.pool();
        let mut taken = Taken::default();
        let mut pushed = HashSet::new();
        for seen in pool.unflushed(self.object)? {
            let to = self.walk_chunk(pool, &seen, batches, &mut taken, &mut pushed)?;
            taken.marks.push((seen, to));
        }
        Ok(taken)
    }

    fn settle(&self, taken: Taken) -> Result<()> {
        for (seen, to) in &taken.marks {
            kill_point!("store.flush.before_mark");
            self.pool().set_flushed(seen, *to)?;
            kill_point!("store.flush.marked");
        }
        for (key, state) in &taken.tombstones {
            self.drop_tombstone(key, state)?;
        }
        Ok(())
    }
}
