//! Memory for rings: contiguous runs of chunks of the pool.

use crate::chunk::{Actor, ChunkId, Class, Need, Pool};
use crate::error::{Error, ErrorCode, Result};

fn chunks(pool: &Pool, len: u64) -> u32 {
    len.div_ceil(pool.geometry().chunk_bytes) as u32
}

/// Takes a run for a ring of `len` bytes: [`Ground::take_ring`](super::Ground::take_ring).
pub(crate) fn take(pool: &Pool, me: Actor<'_>, object: u32, len: u64) -> Result<u64> {
    let count = chunks(pool, len);
    let first = pool.allocate_run(me, Class::Lane, object, count, Need::Object)?;
    Ok(pool.run_span(first, count)?.offset())
}

/// Some lane names the ring: [`Ground::keep_ring`](super::Ground::keep_ring).
pub(crate) fn keep(pool: &Pool, me: Actor<'_>, ring: u64) -> Result<()> {
    pool.settle(me, first(pool, ring)?)
}

/// No lane names the ring: [`Ground::give_back_ring`](super::Ground::give_back_ring).
pub(crate) fn give_back(pool: &Pool, me: Actor<'_>, ring: u64) -> Result<()> {
    pool.release(me, first(pool, ring)?)
}

/// The first chunk of a ring, by which its run is settled and released as one: a second chunk may be somebody else's by then.
fn first(pool: &Pool, ring: u64) -> Result<ChunkId> {
    pool.geometry()
        .chunk_of(ring)
        .ok_or_else(|| Error::new(ErrorCode::Corrupt, format!("The ring at {ring} is in no chunk.")))
}

#[cfg(all(test, not(memora_loom)))]
mod tests {
    use super::*;
    use crate::chunk::Kind;
    use crate::chunk::testing::Stage;

    #[test]
    fn a_ring_is_kept_or_given_back_with_all_its_chunks() {
        let (stage, pool) = Stage::pool(2, 64, 16 << 10);
        let me = stage.actor(1);
        let before = pool.free_count();
        for (len, count) in [(4096, 1), (64 << 10, 4)] {
            let ring = take(&pool, me, 7, len).unwrap();
            let first = pool.geometry().chunk_of(ring).unwrap();
            assert_eq!(pool.free_count(), before - count);
            give_back(&pool, me, ring).unwrap();
            assert_eq!(pool.free_count(), before);
            let ring = take(&pool, me, 7, len).unwrap();
            keep(&pool, me, ring).unwrap();
            let kept = pool.geometry().chunk_of(ring).unwrap();
            for number in kept.0..kept.0 + count {
                assert!(pool.state(ChunkId(number)).unwrap().is(Kind::Lane));
            }
            give_back(&pool, me, ring).unwrap();
            assert_eq!(pool.free_count(), before, "first was {first:?}");
        }
    }
}
