use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;

use super::layout::{Intent, ROOT, Ref};
use super::load::Loaded;
use super::node::Content;
use super::*;
use crate::chunk::testing::Stage;
use crate::chunk::{Class, Need};

const OBJECT: u32 = 5;
const CHUNK_BYTES: u64 = 1 << 14;

/// Gives room as a table does, without cleaning.
struct Plain(Arc<Pool>);

impl Room for Plain {
    fn room(&self, me: Actor<'_>, bytes: u64) -> Result<(ChunkId, u64)> {
        if let Some(place) = self.0.room(me, Class::Node, OBJECT, bytes)? {
            return Ok(place);
        }
        self.0.next_chunk(me, Class::Node, OBJECT, Need::Growth)?;
        self.0.room(me, Class::Node, OBJECT, bytes)?.ok_or_else(|| ErrorCode::Internal.into())
    }
}

pub(super) struct Ground {
    stage: Arc<Stage>,
    room: Plain,
    tree: Tree,
}

impl Ground {
    pub(super) fn new(threads: u16, chunks: u32) -> Ground {
        let (stage, pool) = Stage::pool(threads, chunks, CHUNK_BYTES);
        let me = stage.actor(1);
        let bytes = area_bytes(&pool);
        let count = bytes.div_ceil(CHUNK_BYTES) as u32;
        let first = pool.allocate_run(me, Class::Control, OBJECT, count, Need::Object).unwrap();
        let span = pool.run_span(first, count).unwrap();
        span.zero(0, span.len()).unwrap();
        pool.settle(me, first).unwrap();
        let tree = Tree::open(Arc::clone(&pool), OBJECT, span.offset()).unwrap();
        Ground { stage, room: Plain(pool), tree }
    }

    fn writer(&self, thread: u16) -> Writer<'_> {
        self.tree.writer(self.stage.actor(thread), &self.room).unwrap()
    }

    fn keys(&self) -> Vec<Vec<u8>> {
        forwards(&self.tree)
    }

    /// The tree is sound, and holds just these keys.
    fn assert_is(&self, model: &BTreeSet<Vec<u8>>) -> check::TreeStats {
        let mut problems = Vec::new();
        let stats =
            self.tree.check(false, &mut |place, what| problems.push(format!("{place}: {what}"))).unwrap();
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(self.keys(), model.iter().cloned().collect::<Vec<_>>());
        assert_eq!(backwards(&self.tree), model.iter().rev().cloned().collect::<Vec<_>>());
        assert_eq!(stats.keys, model.len() as u64);
        let chunks = crate::chunk::check(&self.tree.pool, false, &|_| false, &mut |place, what| {
            panic!("{place}: {what}")
        });
        chunks.unwrap();
        stats
    }
}

/// All keys, leaf by leaf.
fn forwards(tree: &Tree) -> Vec<Vec<u8>> {
    let (mut keys, mut leaf, mut from) = (Vec::new(), Leaf::default(), Vec::new());
    while tree.leaf(Probe::At(&from), &mut leaf).unwrap() {
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
    keys
}

/// All keys from the last.
fn backwards(tree: &Tree) -> Vec<Vec<u8>> {
    let (mut keys, mut leaf) = (Vec::new(), Leaf::default());
    let mut to: Option<Vec<u8>> = None;
    loop {
        let probe = to.as_deref().map_or(Probe::Last, Probe::Before);
        if !tree.leaf(probe, &mut leaf).unwrap() {
            return keys;
        }
        let end = match &to {
            Some(to) => leaf.find(to).unwrap().0,
            None => leaf.count(),
        };
        for at in (0..end).rev() {
            let mut key = Vec::new();
            leaf.key_into(at, &mut key).unwrap();
            keys.push(key);
        }
        match leaf.low() {
            Some(low) => to = Some(low.to_vec()),
            None => return keys,
        }
    }
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(0u8..4, 0..12),
        (0u32..2000).prop_map(|number| format!("key:{number:06}").into_bytes()),
        (0u8..4, 0usize..1000).prop_map(|(byte, len)| vec![byte; len]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if std::env::var("MEMORA_TORTURE").is_ok() { 400 } else { 24 }))]

    #[test]
    fn it_holds_what_a_set_holds(steps in proptest::collection::vec((key(), 0u8..5), 0..1500)) {
        let ground = Ground::new(1, 4096);
        let writer = ground.writer(1);
        let mut model = BTreeSet::new();
        for (key, what) in &steps {
            if *what < 3 {
                writer.enter(key).unwrap();
                model.insert(key.clone());
            } else {
                writer.leave(key, || Ok(true)).unwrap();
                writer.tidy(key).unwrap();
                model.remove(key);
            }
        }
        ground.assert_is(&model);
        for (key, _) in &steps {
            assert_eq!(ground.tree.contains(key).unwrap(), model.contains(key));
        }
        for key in std::mem::take(&mut model) {
            writer.leave(&key, || Ok(true)).unwrap();
            writer.tidy(&key).unwrap();
        }
        let stats = ground.assert_is(&model);
        // Bounds that are longer than a quarter of a node keep it from being small.
        if steps.iter().all(|(key, _)| key.len() < 100) {
            prop_assert!(stats.nodes <= 3 * u64::from(stats.levels), "{stats:?}");
        }
    }
}

fn number(number: u32) -> Vec<u8> {
    format!("job/{number:010}").into_bytes()
}

#[test]
fn a_queue_that_moves_on_needs_no_more_nodes_and_no_more_ids() {
    let ground = Ground::new(1, 20_000);
    let writer = ground.writer(1);
    let (mut model, window) = (BTreeSet::new(), 2000);
    let mut most = 0;
    for now in 0..30_000 {
        writer.enter(&number(now)).unwrap();
        model.insert(number(now));
        if now >= window {
            let old = number(now - window);
            writer.leave(&old, || Ok(true)).unwrap();
            writer.tidy(&old).unwrap();
            model.remove(&old);
        }
        if now == 2 * window {
            most = ground.assert_is(&model).ids;
        }
    }
    let stats = ground.assert_is(&model);
    assert!(stats.ids <= most + 64 && stats.nodes < 120, "{stats:?}, {most} ids at first");
}

#[test]
fn a_stack_and_holes_in_the_middle_are_given_back_too() {
    let ground = Ground::new(1, 20_000);
    let writer = ground.writer(1);
    let mut model: BTreeSet<_> = (0..20_000).map(number).collect();
    for key in &model {
        writer.enter(key).unwrap();
    }
    let full = ground.assert_is(&model);
    assert!(full.bytes / full.keys < 24, "ascending keys fill their nodes: {full:?}");
    for at in (5000..15_000).chain((16_000..20_000).rev()) {
        let key = number(at);
        writer.leave(&key, || Ok(true)).unwrap();
        writer.tidy(&key).unwrap();
        model.remove(&key);
    }
    let stats = ground.assert_is(&model);
    assert!(stats.nodes < full.nodes / 2, "{stats:?} of {full:?}");
    // A few that stay everywhere do not keep a node each.
    for key in model.iter().filter(|key| key[key.len() - 1] != b'7').cloned().collect::<Vec<_>>() {
        writer.leave(&key, || Ok(true)).unwrap();
        writer.tidy(&key).unwrap();
        model.remove(&key);
    }
    let sparse = ground.assert_is(&model);
    assert!(sparse.bytes / sparse.keys < 150, "{sparse:?}");
}

#[test]
fn a_key_that_was_touched_is_not_taken_out_by_whoever_looked_before() {
    let ground = Ground::new(2, 64);
    let writer = ground.writer(1);
    let entered = writer.enter(b"key").unwrap();
    let mut asked = 0;
    let out = ground.writer(2).leave(b"key", || {
        asked += 1;
        // It comes back while it is about to be taken out.
        if asked == 1 {
            assert!(ground.tree.touch(entered).unwrap());
        }
        Ok(asked == 1)
    });
    assert!(!out.unwrap());
    assert_eq!(asked, 2);
    assert!(ground.tree.contains(b"key").unwrap());
    assert!(!ground.tree.touch(entered).unwrap(), "the word has changed");
}

/// A node that thread 2 made and did not live to link.
fn orphan(ground: &Ground) -> Ref {
    let writer = ground.writer(2);
    let (id, word) = (77, ground.tree.word(77).unwrap());
    let to = Ref::new(id, word.publish(0).version());
    writer.intend(Intent::Link, to).unwrap();
    let content = Content { low: Some(number(5)), keys: vec![number(6)], ..Content::default() };
    writer.publish(to, word, 0, &content.build(false).unwrap()).unwrap().unwrap();
    ground.tree.area_word(layout::HIGH as u64).unwrap().fetch_max(78, Ordering::Relaxed);
    to
}

#[test]
fn what_the_dead_did_not_link_is_freed_and_what_they_linked_stays() {
    for by_reaper in [true, false] {
        let ground = Ground::new(2, 256);
        let writer = ground.writer(1);
        let mut model: BTreeSet<_> = (0..500).map(number).collect();
        for key in &model {
            writer.enter(key).unwrap();
        }
        let left = orphan(&ground);
        assert!(!ground.keys().contains(&number(1000)));
        assert_ne!(ground.tree.word(left.id()).unwrap().offset(), 0);
        if by_reaper {
            ground.tree.inherit(2).unwrap();
            ground.tree.inherit(2).unwrap();
        } else {
            ground.writer(2).enter(&number(9999)).unwrap();
            model.insert(number(9999));
        }
        assert_eq!(ground.tree.word(left.id()).unwrap().offset(), 0);
        ground.assert_is(&model);
        // One that was linked: the intent of a divider that died behind the swap.
        let mut leaf = Loaded::default();
        assert!(ground.tree.seek(Probe::Last, 0, &mut leaf, &mut None).unwrap());
        ground.writer(2).intend(Intent::Link, leaf.reference()).unwrap();
        ground.tree.inherit(2).unwrap();
        assert_eq!(ground.tree.intent(2, Intent::Link).unwrap().load(Ordering::Relaxed), 0);
        ground.assert_is(&model);
    }
}

/// Makes the leaf of a key dead, as whoever dies then does.
fn half_merge(ground: &Ground, thread: u16, key: &[u8]) {
    let writer = ground.writer(thread);
    let mut leaf = Loaded::default();
    writer.find(key, 0, &mut leaf).unwrap();
    writer.intend(Intent::Unlink, leaf.reference()).unwrap();
    writer.replace(&leaf, &leaf.node.dead()).unwrap().unwrap();
}

#[test]
fn dead_nodes_are_read_and_taken_out_by_whoever_changes_something_there() {
    let ground = Ground::new(3, 1024);
    let writer = ground.writer(1);
    let mut model: BTreeSet<_> = (0..4000).map(number).collect();
    for key in &model {
        writer.enter(key).unwrap();
    }
    // Neighbours, each with its keys, and the first leaf of all.
    for (thread, at) in [(2, 2000), (3, 2070), (2, 0), (3, 1930)] {
        half_merge(&ground, thread, &number(at));
        assert_eq!(ground.keys(), model.iter().cloned().collect::<Vec<_>>());
        assert_eq!(backwards(&ground.tree), model.iter().rev().cloned().collect::<Vec<_>>());
        writer.enter(&[number(at), b"+".to_vec()].concat()).unwrap();
        model.insert([number(at), b"+".to_vec()].concat());
        ground.assert_is(&model);
    }
    // Three in a row, of which the middle one is met first.
    let leaf_of = |key: &[u8]| {
        let mut leaf = Leaf::default();
        ground.tree.leaf(Probe::At(key), &mut leaf).unwrap();
        leaf
    };
    let one = leaf_of(&number(1000));
    let two = leaf_of(one.high().unwrap());
    let three = leaf_of(two.high().unwrap());
    for leaf in [&three, &one, &two] {
        half_merge(&ground, 2, leaf.low().unwrap());
    }
    assert_eq!(ground.keys(), model.iter().cloned().collect::<Vec<_>>());
    writer.enter(&[two.low().unwrap(), b"+"].concat()).unwrap();
    model.insert([two.low().unwrap(), b"+"].concat());
    assert_eq!(ground.keys(), model.iter().cloned().collect::<Vec<_>>());
    ground.writer(2).enter(b"last").unwrap();
    model.insert(b"last".to_vec());
    for key in [number(1000), number(1100)] {
        ground.writer(3).enter(&[&key[..], b"x"].concat()).unwrap();
        model.insert([&key[..], b"x"].concat());
    }
    ground.assert_is(&model);
}

#[test]
fn threads_that_put_in_and_take_out_leave_what_they_agree_on() {
    let ground = Arc::new(Ground::new(4, 24_000));
    let rounds = if std::env::var("MEMORA_TORTURE").is_ok() { 40_000 } else { 6000u32 };
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (1..=3u16)
            .map(|thread| {
                let ground = &ground;
                scope.spawn(move || {
                    // Each has keys of its own between those of the others, and moves on through them.
                    let mut mine = BTreeSet::new();
                    for round in 0..rounds {
                        let writer = ground.writer(thread);
                        let key = number(round * 3 + u32::from(thread));
                        writer.enter(&key).unwrap();
                        mine.insert(key);
                        if round >= 300 && round % 7 != 0 {
                            let old = number((round - 300) * 3 + u32::from(thread));
                            writer.leave(&old, || Ok(true)).unwrap();
                            writer.tidy(&old).unwrap();
                            mine.remove(&old);
                        }
                    }
                    mine
                })
            })
            .collect();
        let (reader, stop) = (&ground, &stop);
        scope.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let keys = forwards(&reader.tree);
                assert!(keys.windows(2).all(|pair| pair[0] < pair[1]));
                let keys = backwards(&reader.tree);
                assert!(keys.windows(2).all(|pair| pair[0] > pair[1]));
                reader.tree.check(true, &mut |place, what| panic!("{place}: {what}")).unwrap();
            }
        });
        let model: BTreeSet<_> = workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect();
        stop.store(true, Ordering::Relaxed);
        ground.assert_is(&model);
    });
}

#[test]
fn damaged_content_is_an_error() {
    let ground = Ground::new(1, 512);
    let writer = ground.writer(1);
    for at in 0..1500 {
        writer.enter(&number(at)).unwrap();
    }
    let high = ground.tree.high().unwrap().load(Ordering::Relaxed) as u32;
    let mut seed = 88_172_645_463_325_252u64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let mut errors = 0;
    for round in 0..3000u64 {
        let id = ROOT + random() as u32 % (high - ROOT);
        let mapping = ground.tree.mapping(id).unwrap().unwrap();
        let old = mapping.load(Ordering::Relaxed);
        // A node, its mapping word, or an intent.
        let word = match round % 3 {
            0 => mapping,
            1 => ground.tree.intent(1, Intent::Unlink).unwrap(),
            _ => ground
                .tree
                .pool
                .shm()
                .block::<8>(Word(old).offset() + 8 * (random() % 20))
                .unwrap()
                .u64::<0>(),
        };
        let was = word.load(Ordering::Relaxed);
        word.store(if round % 2 == 0 { was ^ 1 << (random() % 64) } else { random() }, Ordering::Relaxed);
        let outcome = (|| -> Result<()> {
            let mut leaf = Leaf::default();
            ground.tree.contains(&number(700))?;
            ground.tree.leaf(Probe::Before(&number(700)), &mut leaf)?;
            ground.tree.check(false, &mut |_, _| {})?;
            // Changes only as long as nothing else was damaged by them.
            if round % 3 == 1 {
                ground.tree.writer(ground.stage.actor(1), &ground.room).map(|_| ())
            } else {
                Ok(())
            }
        })();
        if let Err(error) = outcome {
            assert!(matches!(error.code(), ErrorCode::Corrupt | ErrorCode::Busy), "{error}");
            errors += 1;
        }
        word.store(was, Ordering::Relaxed);
    }
    assert!(errors > 100, "{errors} errors");
    ground.tree.intent(1, Intent::Unlink).unwrap().store(0, Ordering::Relaxed);
    ground.assert_is(&(0..1500).map(number).collect());
}
