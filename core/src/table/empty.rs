//! Emptying a chunk for whoever needs it in a row with others: everything live in it goes.

use super::Table;
use super::drop::Gone;
use super::too_many_tries;
use crate::chunk::layout::{State, at};
use crate::chunk::{Actor, ChunkId, Class, Walked};
use crate::error::Result;
use crate::shm::atomic::Ordering;

impl Table {
    /// Evicts every entry of a chunk that the caller has taken, or of a run, which is in the state `seen`.
    pub(super) fn empty_chunk(&self, me: Actor<'_>, chunk: ChunkId, seen: State) -> Result<()> {
        // ORDER Relaxed: written before the chunk was settled, and not changed as long as the state stands.
        let object = self.pool.descriptor(chunk)?.u32::<{ at::OBJECT }>().load(Ordering::Relaxed);
        if object != self.object || self.pool.state(chunk)? != seen {
            return Ok(());
        }
        match self.drop_all(me, chunk, seen) {
            // Somebody took the chunk over, or the run is gone, and it is in use for something else: nothing was damaged.
            Err(_) if self.pool.state(chunk)? != seen => Ok(()),
            done => done,
        }
    }

    fn drop_all(&self, me: Actor<'_>, chunk: ChunkId, state: State) -> Result<()> {
        let gone = if state.class() == Some(Class::Small) { Gone::Young } else { Gone::Old };
        let (mut walk, mut scratch) = (self.pool.walk(chunk, self.header, 0)?, Vec::new());
        while let Some(walked) = walk.next()? {
            let hash = self.hash_of_record(walked.offset, &walked.head, &mut scratch)?;
            self.drop_if_live(me, &walked, hash, gone)?;
        }
        // One that nobody pointed to: its writer died. The others are gone with their record.
        self.pool.retire_run(chunk, state)
    }

    fn drop_if_live(&self, me: Actor<'_>, walked: &Walked, hash: u64, gone: Gone) -> Result<()> {
        for _ in 0..1000 {
            let mut entered = None;
            let Some(owner) = self.owner_of(me, hash, walked.offset, &mut entered)? else { return Ok(()) };
            // What no transaction has decided yet is decided first; which record goes then is seen anew.
            if !self.settle_owner(me, &owner)? {
                continue;
            }
            if self.drop_record(me, walked, hash, &owner, gone)?.is_some() {
                return Ok(());
            }
        }
        Err(too_many_tries("Emptying a chunk"))
    }
}
