//! What a dead thread leaves in the pool, and who gets it.

use super::layout::{Class, Kind, State, at, unpair};
use super::{ChunkId, Pool};
use crate::error::Result;
use crate::shm::atomic::Ordering;

/// Takes over every chunk that `thread` owned. The caller has proof that the thread is dead (or is the thread itself,
/// leaving). `referenced` says whether a chunk (the first of a run) of class `Control` or `Lane` can be reached from the
/// object directory or from its object. Repeating it is harmless.
pub fn inherit(pool: &Pool, thread: u16, referenced: &dyn Fn(ChunkId) -> bool) -> Result<()> {
    for chunk in pool.used_chunks() {
        let seen = pool.state(chunk)?;
        if seen.owner() != thread {
            continue;
        }
        let (Some(kind), Some(class)) = (seen.kind(), seen.class()) else { continue };
        let descriptor = pool.descriptor(chunk)?;
        match kind {
            Kind::Open => {
                if !pool.is_described(chunk, seen)? {
                    // It was not charged to anybody yet: the account is that of its last use.
                    // ORDER Relaxed: the dead owner's; only one takes over from it.
                    descriptor.u32::<{ at::ACCOUNT }>().store(0, Ordering::Relaxed);
                }
                let settle = match class {
                    // An empty one goes straight back, and one whose descriptor is still that of its last use.
                    class if class.has_records() => {
                        pool.is_described(chunk, seen)? && pool.tail(chunk).unwrap_or(0) > 0
                    }
                    Class::Buckets => is_child(pool, chunk)?,
                    // Before it is described it belongs to no run, and nobody names it.
                    _ => pool.is_described(chunk, seen)? && referenced(first_of_run(pool, chunk)?),
                };
                if settle {
                    if class.has_records() {
                        pool.note_sealed(chunk)?;
                    }
                    let run = class.has_records() && pool.run_len(chunk)? > 1;
                    let kind = if run { Kind::RunHead } else { class.settled() };
                    kill_point!("chunk.inherit.before_settle");
                    pool.transition(descriptor, seen, State::new(kind, class, 0, seen.generation()));
                    if class.has_records() {
                        pool.free_if_dead(chunk)?;
                    }
                } else {
                    kill_point!("chunk.inherit.before_free");
                    pool.retire(chunk, seen)?;
                }
            }
            // Cleaning is derived from the slots: the next cleaner begins again.
            Kind::Evicting => {
                kill_point!("chunk.inherit.before_unclean");
                pool.transition(descriptor, seen, State::new(Kind::Sealed, class, 0, seen.generation()));
            }
            _ => {}
        }
    }
    pool.recount()
}

/// The first chunk of the run that the chunk belongs to; itself for one alone.
fn first_of_run(pool: &Pool, chunk: ChunkId) -> Result<ChunkId> {
    // ORDER Relaxed: the owner is dead, all its stores are visible.
    let (first, _) = unpair(pool.descriptor(chunk)?.u64::<{ at::PARENT }>().load(Ordering::Relaxed));
    Ok(if first != 0 && first < chunk.0 { ChunkId(first) } else { chunk })
}

/// Whether the split that the chunk was made for names it as a child.
fn is_child(pool: &Pool, chunk: ChunkId) -> Result<bool> {
    // ORDER Relaxed: the owner is dead, all its stores are visible.
    let (parent, generation) =
        unpair(pool.descriptor(chunk)?.u64::<{ at::PARENT }>().load(Ordering::Relaxed));
    let Ok(descriptor) = pool.descriptor(ChunkId(parent)) else { return Ok(false) };
    // ORDER Acquire [index-split]: pairs with the compare-and-swap that starts a split.
    let (left, right) = unpair(descriptor.u64::<{ at::SPLIT }>().load(Ordering::Acquire));
    Ok(pool.state(ChunkId(parent))?.generation() == generation && (left == chunk.0 || right == chunk.0))
}
