//! Every interleaving of those who put keys in, take them out and scan, on the real functions over nodes of three keys.
//!
//! Run with `RUSTFLAGS="--cfg memora_loom" cargo test -p memora --lib --release --target-dir target/loom interleavings`.

use std::sync::Arc;

use super::*;
use crate::chunk::testing::Stage;
use crate::chunk::{Class, Need};

const OBJECT: u32 = 5;
const CHUNK_BYTES: u64 = 512;
const CHUNKS: u32 = 12;

struct Plain(Arc<Pool>);

impl Room for Plain {
    fn room(&self, me: Actor<'_>, bytes: u64) -> Result<(ChunkId, u64)> {
        if let Some(place) = self.0.room(me, Class::Node, OBJECT, bytes)? {
            return Ok(place);
        }
        self.0.next_chunk(me, Class::Node, OBJECT, Need::Clean)?;
        self.0.room(me, Class::Node, OBJECT, bytes)?.ok_or_else(|| ErrorCode::Internal.into())
    }
}

struct Ground {
    stage: Arc<Stage>,
    room: Plain,
    tree: Tree,
}

fn model(preemptions: usize, check: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 50_000;
    builder.check(check);
}

/// A tree with these keys; each thread has a chunk for nodes.
fn ground(threads: u16, keys: &[&[u8]]) -> Arc<Ground> {
    let (stage, pool) = Stage::pool(threads, CHUNKS, CHUNK_BYTES);
    let me = stage.actor(1);
    let count = area_bytes(&pool).div_ceil(CHUNK_BYTES) as u32;
    let first = pool.allocate_run(me, Class::Control, OBJECT, count, Need::Clean).unwrap();
    stage.touch(pool.geometry(), &[]);
    let span = pool.run_span(first, count).unwrap();
    span.zero(0, span.len()).unwrap();
    pool.settle(me, first).unwrap();
    let tree = Tree::open(Arc::clone(&pool), OBJECT, span.offset()).unwrap();
    let ground = Arc::new(Ground { stage, room: Plain(pool), tree });
    for key in keys {
        ground.writer(1).enter(key).unwrap();
    }
    for index in 1..=threads {
        ground.tree.pool.next_chunk(ground.stage.actor(index), Class::Node, OBJECT, Need::Clean).unwrap();
    }
    ground
}

impl Ground {
    fn writer(&self, thread: u16) -> Writer<'_> {
        self.tree.writer(self.stage.actor(thread), &self.room).unwrap()
    }

    fn keys(&self) -> Vec<Vec<u8>> {
        let (mut keys, mut leaf, mut from) = (Vec::new(), Leaf::default(), Vec::new());
        while self.tree.leaf(Probe::At(&from), &mut leaf).unwrap() {
            for at in leaf.find(&from).unwrap().0..leaf.count() {
                let mut key = Vec::new();
                leaf.key_into(at, &mut key).unwrap();
                keys.push(key);
            }
            match leaf.high() {
                Some(high) => from = high.to_vec(),
                None => break,
            }
        }
        assert!(keys.windows(2).all(|pair| pair[0] < pair[1]), "{keys:?}");
        keys
    }

    fn assert_is(&self, keys: &[&[u8]]) {
        assert_eq!(self.keys(), keys.iter().map(|key| key.to_vec()).collect::<Vec<_>>());
        self.tree.check(false, &mut |place, what| panic!("{place}: {what}")).unwrap();
    }
}

/// A node is divided while it is scanned.
#[test]
fn a_scan_misses_nothing_while_a_node_is_divided() {
    model(2, || {
        let ground = ground(2, &[b"a", b"c", b"e"]);
        let other = Arc::clone(&ground);
        let thread = loom::thread::spawn(move || {
            other.writer(2).enter(b"d").unwrap();
        });
        let seen = ground.keys();
        for key in [b"a", b"c", b"e"] {
            assert!(seen.iter().any(|seen| seen == key), "{seen:?}");
        }
        thread.join().unwrap();
        ground.assert_is(&[b"a", b"c", b"d", b"e"]);
    });
}

/// A key comes back while it is taken out: as the table does it, with a word in place of the slot and of the lock.
#[test]
fn a_key_that_comes_back_while_it_is_taken_out_stays() {
    model(3, || {
        let ground = ground(2, &[b"a", b"k"]);
        // {whether the key has a record 1 | holder 1..}: the lock is taken from whoever has it.
        let slot = Arc::new(AtomicU64::new(2 << 1));
        let (other, theirs) = (Arc::clone(&ground), Arc::clone(&slot));
        let thread = loom::thread::spawn(move || {
            // Holds the lock, saw the key absent, and goes on.
            other.writer(2).leave(b"k", || Ok(theirs.load(Ordering::Acquire) == 2 << 1)).unwrap();
        });
        let entered = ground.writer(1).enter(b"k").unwrap();
        // Steals the lock; then touches, or enters again; then fills the slot.
        slot.store(1 << 1, Ordering::Release);
        let mut entered = entered;
        while !ground.tree.touch(entered).unwrap() {
            entered = ground.writer(1).enter(b"k").unwrap();
        }
        slot.store(1 << 1 | 1, Ordering::Release);
        thread.join().unwrap();
        ground.assert_is(&[b"a", b"k"]);
    });
}
