//! Tables that evict: limits, hit ratios, values of changing length, storms.

use std::collections::{HashMap, HashSet, VecDeque};

use super::evict::Budget;
use super::queue::{Purpose, Victim};
use super::tests::Bench;
use super::*;
use crate::chunk::layout::at;
use crate::chunk::record::Head;
use crate::chunk::{Kind, Need};

const CHUNK: u64 = 1 << 14;

fn torture() -> u64 {
    if std::env::var_os("MEMORA_TORTURE").is_some() { 20 } else { 1 }
}

fn evicting(limit: u64, entries: u64) -> TableOptions {
    TableOptions { cache: true, limit, entries, evict: true, ..TableOptions::default() }
}

/// Each of these in a cache, and in one that transactions may change.
fn classes<T: Copy, const N: usize>(each: [T; N]) -> impl Iterator<Item = (RecordClass, T)> {
    let classes = [RecordClass::Cache, RecordClass::Stamped];
    classes.into_iter().flat_map(move |class| each.into_iter().map(move |one| (class, one)))
}

/// Numbers from 0 that follow one another at random.
struct Random(u64);

impl Random {
    fn draw(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn unit(&mut self) -> f64 {
        (self.draw() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Keys whose frequencies follow a power law: the most wanted is 0.
struct Zipf {
    sums: Vec<f64>,
}

impl Zipf {
    fn new(keys: usize, exponent: f64) -> Zipf {
        let mut sum = 0.0;
        let sums = (1..=keys).map(|rank| {
            sum += (rank as f64).powf(-exponent);
            sum
        });
        Zipf { sums: sums.collect() }
    }

    fn draw(&self, random: &mut Random) -> u64 {
        let wanted = random.unit() * self.sums.last().unwrap();
        self.sums.partition_point(|sum| *sum < wanted) as u64
    }
}

/// S3-FIFO as its paper has it: young ones a tenth, ghosts as many as old ones.
struct Textbook {
    capacity: usize,
    small: VecDeque<u64>,
    main: VecDeque<u64>,
    read: HashMap<u64, u8>,
    ghosts: VecDeque<u64>,
    ghost_set: HashSet<u64>,
}

impl Textbook {
    fn new(capacity: usize) -> Textbook {
        Textbook {
            capacity,
            small: VecDeque::new(),
            main: VecDeque::new(),
            read: HashMap::new(),
            ghosts: VecDeque::new(),
            ghost_set: HashSet::new(),
        }
    }

    /// Whether the key was there; it is now.
    fn ask(&mut self, key: u64) -> bool {
        if let Some(read) = self.read.get_mut(&key) {
            *read = (*read + 1).min(3);
            return true;
        }
        while self.read.len() >= self.capacity {
            self.evict();
        }
        let queue = if self.ghost_set.remove(&key) { &mut self.main } else { &mut self.small };
        queue.push_back(key);
        self.read.insert(key, 0);
        false
    }

    fn evict(&mut self) {
        if self.small.len() * 10 >= self.capacity || self.main.is_empty() {
            let key = self.small.pop_front().unwrap();
            if self.read[&key] > 1 {
                self.read.insert(key, 0);
                self.main.push_back(key);
                return;
            }
            self.read.remove(&key);
            self.ghosts.push_back(key);
            self.ghost_set.insert(key);
            while self.ghosts.len() > self.capacity * 9 / 10 {
                let oldest = self.ghosts.pop_front().unwrap();
                self.ghost_set.remove(&oldest);
            }
            return;
        }
        let key = self.main.pop_front().unwrap();
        match self.read[&key] {
            0 => {
                self.read.remove(&key);
            }
            read => {
                self.read.insert(key, read - 1);
                self.main.push_back(key);
            }
        }
    }
}

fn key_of(number: u64) -> [u8; 16] {
    let mut key = *b"key-000000000000";
    key[8..].copy_from_slice(&number.to_be_bytes());
    key
}

/// A value that tells its key and its turn in every word.
fn value_of(number: u64, turn: u64, len: usize) -> Vec<u8> {
    let word = (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ turn).to_le_bytes();
    let mut value: Vec<u8> = word.iter().copied().cycle().take(len.max(16)).collect();
    value[..8].copy_from_slice(&turn.to_le_bytes());
    value
}

fn assert_right(number: u64, value: &[u8]) {
    let turn = u64::from_le_bytes(value[..8].try_into().unwrap());
    assert!(value == value_of(number, turn, value.len()), "a wrong value for key {number}");
}

/// Chunks of the fabric that the object has.
fn held(bench: &Bench) -> u64 {
    let own = |chunk: &ChunkId| {
        let state = bench.pool.state(*chunk).unwrap();
        let object = bench.pool.descriptor(*chunk).unwrap().u32::<{ at::OBJECT }>().load(Ordering::Relaxed);
        object == bench.table.object && !state.is(Kind::Free) && !state.is(Kind::Virgin)
    };
    bench.pool.chunks().filter(own).count() as u64
}

/// Asks for a key as users of a cache do: sets it where it is missing. Whether it was there.
fn ask(bench: &Bench, me: Actor<'_>, number: u64, len: usize) -> bool {
    let key = key_of(number);
    if let Some(value) = bench.get(&key) {
        assert_right(number, &value);
        return true;
    }
    bench.set(me, &key, &value_of(number, 0, len)).unwrap();
    false
}

use crate::chunk::Actor;

#[test]
fn a_full_cache_takes_every_new_key_and_keeps_its_limit() {
    for (class, limit) in classes([0, 40 * CHUNK, 20 * CHUNK]) {
        let bench = Bench::with(1, 128, CHUNK, class, &evicting(limit, 0));
        let me = bench.me(1);
        for number in 0..60_000 * torture() {
            bench.set(me, &key_of(number), &value_of(number, 0, 60 + number as usize % 100)).unwrap();
            if number % 64 == 0 && limit != 0 {
                assert!(held(&bench) * CHUNK <= limit, "{} chunks", held(&bench));
            }
        }
        let stats = bench.table.stats().unwrap();
        let room = if limit == 0 { 127 * CHUNK } else { limit };
        assert!(stats.live_bytes * 100 > room * if limit == 0 { 75 } else { 40 }, "{stats:?} of {room}");
        assert_eq!(held(&bench), u64::from(bench.pool.held(bench.table.first_chunk().unwrap()).chunks));
        bench.assert_sound();
    }
}

#[test]
fn a_limit_of_entries_is_exact() {
    for (class, entries) in classes([1, 2, 10, 100, 5000]) {
        let bench = Bench::with(1, 128, CHUNK, class, &evicting(0, entries));
        let me = bench.me(1);
        for number in 0..entries * 3 + 20 {
            bench.set(me, &key_of(number), &value_of(number, 0, 40)).unwrap();
            assert_eq!(bench.table.len().unwrap(), (number + 1).min(entries));
        }
        assert!(bench.get(&key_of(entries * 3 + 19)).is_some(), "the newest is there");
        bench.assert_sound();
    }
}

#[test]
fn the_hit_ratio_is_that_of_the_textbook_or_better() {
    let zipf = Zipf::new(20_000, 0.9);
    for (entries, limit) in [(1000, 0), (4000, 0), (0, 32 * CHUNK)] {
        let bench = Bench::with(1, 400, CHUNK, RecordClass::Cache, &evicting(limit, entries));
        let me = bench.me(1);
        let mut random = Random(7);
        let mut hits = [0u64; 2];
        let mut asked = 0;
        // By bytes the capacity is what the cache holds at the end of a first turn.
        let mut textbook = Textbook::new(entries as usize);
        for turn in 0..200_000 {
            // One in eight is part of a scan.
            let number = if turn % 8 == 0 { 1_000_000 + turn } else { zipf.draw(&mut random) };
            let hit = ask(&bench, me, number, 100);
            if turn == 50_000 && entries == 0 {
                textbook = Textbook::new(bench.table.len().unwrap() as usize);
            }
            if turn < 50_000 && entries == 0 {
                continue;
            }
            let right = textbook.ask(number);
            if turn >= 100_000 {
                asked += 1;
                hits[0] += u64::from(hit);
                hits[1] += u64::from(right);
            }
        }
        let ratio = hits.map(|hits| hits as f64 * 100.0 / asked as f64);
        println!("{entries} entries, {limit} bytes: {:.2} %, textbook {:.2} %", ratio[0], ratio[1]);
        // Half of it is the price of a larger share of young ones, which real traces reward.
        let slack = if entries == 0 { 3.0 } else { 1.2 };
        assert!(ratio[0] > ratio[1] - slack, "{ratio:?} for {entries} entries");
        bench.assert_sound();
    }
}

#[test]
fn values_may_change_their_length_and_the_hit_ratio_comes_back() {
    let zipf = Zipf::new(3000, 0.9);
    let bench = Bench::with(1, 257, CHUNK, RecordClass::Cache, &evicting(200 * CHUNK, 0));
    let me = bench.me(1);
    let mut random = Random(5);
    let mut ratio = |lens: &dyn Fn(u64) -> usize, first: u64, turns: u64| {
        let mut hits = 0;
        for _ in 0..turns {
            let number = first + zipf.draw(&mut random);
            hits += u64::from(ask(&bench, me, number, lens(number)));
        }
        hits as f64 / turns as f64
    };
    // All fit while they are short.
    for number in 0..3000 {
        ask(&bench, me, number, 100);
    }
    assert!(ratio(&|_| 100, 0, 20_000) > 0.99);
    // The long ones turn the cache over with some 800 misses.
    let fresh = {
        let bench = Bench::with(1, 257, CHUNK, RecordClass::Cache, &evicting(200 * CHUNK, 0));
        let mut random = Random(9);
        let mut hits = 0;
        for turn in 0..12_000 {
            hits +=
                u64::from(ask(&bench, bench.me(1), 100_000 + zipf.draw(&mut random), 4000) && turn >= 6000);
        }
        hits as f64 / 6000.0
    };
    ratio(&|_| 4000, 100_000, 6000);
    let long = ratio(&|_| 4000, 100_000, 6000);
    assert!(long > fresh - 0.05, "{long} of long ones, {fresh} in a fresh cache");
    let mixed = |number: u64| if number.is_multiple_of(2) { 100 } else { 4000 };
    ratio(&mixed, 200_000, 6000);
    let both = ratio(&mixed, 200_000, 6000);
    assert!(both > long, "{both} of mixed ones, {long} of long ones");
    bench.assert_sound();
}

#[test]
fn overwriting_does_not_spoil_the_hit_ratio() {
    let zipf = Zipf::new(20_000, 0.9);
    let mut ratios = Vec::new();
    for overwrites in [0, 50] {
        let bench = Bench::with(1, 400, CHUNK, RecordClass::Cache, &evicting(48 * CHUNK, 0));
        let me = bench.me(1);
        let mut random = Random(3);
        let mut hits = 0;
        for turn in 0..200_000 {
            let number = zipf.draw(&mut random);
            let hit = ask(&bench, me, number, 100);
            if hit && random.draw() % 100 < overwrites {
                bench.set(me, &key_of(number), &value_of(number, turn, 100)).unwrap();
            }
            hits += u64::from(hit && turn >= 100_000);
        }
        ratios.push(hits as f64 / 1000.0);
        bench.assert_sound();
    }
    println!("{:.2} % without, {:.2} % with overwriting half of what is found", ratios[0], ratios[1]);
    assert!(ratios[1] > ratios[0] - 5.0, "{ratios:?}");
}

#[test]
fn threads_that_evict_never_see_a_wrong_value() {
    let sizes = [(0, 0, 64), (24 * CHUNK, 0, 64), (0, 500, 64), (0, 0, 24)];
    for (class, (limit, entries, chunks)) in classes(sizes) {
        let bench = Bench::with(4, chunks, CHUNK, class, &evicting(limit, entries));
        std::thread::scope(|scope| {
            for index in 1..=4u16 {
                let bench = &bench;
                scope.spawn(move || {
                    let me = bench.me(index);
                    let mut random = Random(u64::from(index));
                    for turn in 0..20_000 * torture() {
                        let drawn = random.draw();
                        let number = (drawn >> 33) % 10_000 * ((drawn >> 20) % 3);
                        let key = key_of(number);
                        let len = 16 + (drawn >> 50) as usize % 400 * ((drawn >> 8) % 4) as usize;
                        match drawn & 7 {
                            0 => {
                                bench.delete(me, &key).unwrap();
                            }
                            1..=3 => bench
                                .set(me, &key, &value_of(number, turn, len))
                                .map(|_| ())
                                .unwrap_or_else(|error| panic!("{limit} {entries} {chunks}: {error}")),
                            _ => {
                                if let Some(value) = bench.get(&key) {
                                    assert_right(number, &value);
                                }
                            }
                        }
                    }
                });
            }
        });
        if entries != 0 {
            assert!(bench.table.len().unwrap() <= entries);
        }
        bench.assert_sound();
    }
}

#[test]
fn what_expired_goes_first_and_what_is_read_stays() {
    let bench = Bench::with(1, 64, CHUNK, RecordClass::Cache, &evicting(0, 100));
    let me = bench.me(1);
    for number in 0..50 {
        bench.set(me, &key_of(number), &value_of(number, 0, 40)).unwrap();
    }
    for _ in 0..3 {
        for number in 0..10 {
            assert!(bench.get(&key_of(number)).is_some());
        }
    }
    for number in 100..300 {
        // The clock of the bench stands at 1000.
        bench.set_until(me, &key_of(number), &value_of(number, 0, 40), 500).unwrap();
    }
    for number in 0..10 {
        assert!(bench.get(&key_of(number)).is_some(), "key {number} was read three times");
    }
    bench.assert_sound();
}

#[test]
fn the_index_of_a_full_cache_grows_by_evicting() {
    // Long values first, then very short ones: many more entries in the same chunks.
    let bench = Bench::with(1, 200, CHUNK, RecordClass::Cache, &evicting(150 * CHUNK, 0));
    let me = bench.me(1);
    for number in 0..2000 {
        bench.set(me, &key_of(number), &value_of(number, 0, 4000)).unwrap();
    }
    let before = bench.table.stats().unwrap();
    for number in 10_000..150_000 {
        bench.set(me, &key_of(number), &value_of(number, 0, 16)).unwrap();
        assert!(bench.get(&key_of(number)).is_some());
    }
    let after = bench.table.stats().unwrap();
    assert!(after.index_chunks > before.index_chunks && after.entries > before.entries * 10, "{after:?}");
    assert!(held(&bench) <= 150);
    // It lies together in front, so that long rows can be made behind it.
    let kind = |chunk: &ChunkId| bench.pool.state(*chunk).unwrap().kind();
    let index: Vec<_> = bench.pool.chunks().filter(|chunk| kind(chunk) == Some(Kind::Index)).collect();
    let last = index.last().unwrap().0 as usize;
    assert!(last <= index.len() + 4, "{} chunks stay, the last one is {last}", index.len());
    bench.assert_sound();
}

#[test]
fn a_chunk_is_emptied_only_in_the_state_in_which_it_was_seen() {
    let bench = Bench::with(1, 64, CHUNK, RecordClass::Cache, &evicting(0, 0));
    let me = bench.me(1);
    for number in 0..500 {
        bench.set(me, &key_of(number), &value_of(number, 0, 100)).unwrap();
    }
    let state = |chunk: ChunkId| bench.pool.state(chunk).unwrap();
    let chunk = bench.pool.chunks().find(|chunk| state(*chunk).is(Kind::Sealed)).unwrap();
    let (sealed, live) = (state(chunk), bench.pool.live_bytes(chunk).unwrap());
    assert!(live > 0 && bench.pool.take_dirty(me, chunk, sealed).unwrap());
    // Who looked before it was taken, and comes late.
    bench.table.empty_chunk(me, chunk, sealed).unwrap();
    assert_eq!(bench.pool.live_bytes(chunk).unwrap(), live);
    bench.table.empty_chunk(me, chunk, state(chunk)).unwrap();
    assert_eq!(bench.pool.live_bytes(chunk).unwrap(), 0);
    bench.pool.put_back(me, chunk).unwrap();
    bench.assert_sound();
}

/// A chunk with some entries and room for more, taken by thread 1, and its state then.
fn taken_half_full(bench: &Bench) -> (ChunkId, crate::chunk::layout::State) {
    let me = bench.me(1);
    for number in 0..40 {
        bench.set(me, &key_of(number), &value_of(number, 0, 100)).unwrap();
    }
    bench.pool.put_away(me, bench.table.object).unwrap();
    let state = |chunk: ChunkId| bench.pool.state(chunk).unwrap();
    let chunk = bench.pool.chunks().find(|chunk| state(*chunk).is(Kind::Sealed)).unwrap();
    assert!(bench.pool.take_dirty(me, chunk, state(chunk)).unwrap());
    (chunk, state(chunk))
}

/// The other thread has appended a record there and not published it yet: it is not dead.
#[test]
fn who_was_stopped_while_it_evicts_says_nothing_of_what_is_appended_after_another_took_the_chunk_over() {
    let bench = Bench::with(2, 64, CHUNK, RecordClass::Cache, &evicting(0, 0));
    let (stopped, other) = (bench.me(1), bench.me(2));
    let (chunk, state) = taken_half_full(&bench);
    let (generation, end) = (state.generation(), bench.pool.tail(chunk).unwrap());
    assert!(bench.pool.take_dirty(other, chunk, state).unwrap());
    bench.pool.put_back(other, chunk).unwrap();
    let class = state.class().unwrap();
    assert!(bench.pool.adopt(other, class, bench.table.object, 200, 0).unwrap());
    let place = bench.pool.room(other, class, bench.table.object, 200).unwrap().unwrap();
    assert_eq!(place, (chunk, end));
    let head = Head { key_len: 16, value_len: 100, ..Head::default() };
    bench.pool.append(place, &head, None, &key_of(77), &value_of(77, 0, 100)).unwrap();
    for purpose in [Purpose::Clean, Purpose::Small] {
        let victim = Victim { chunk, state, purpose };
        bench.table.evict_from(stopped, &victim, &mut Budget::of(usize::MAX, usize::MAX)).unwrap();
        assert!(bench.pool.clean_position(chunk, generation).unwrap() <= end, "{purpose:?}");
    }
    bench.table.clean_records(stopped, chunk, usize::MAX).unwrap();
    assert!(bench.pool.clean_position(chunk, generation).unwrap() <= end);
}

/// What lies there now is of another object: nothing of the table's points to it, and yet it is live.
#[test]
fn who_was_stopped_before_it_cleans_says_nothing_of_the_next_use_of_a_chunk() {
    let bench = Bench::with(2, 64, CHUNK, RecordClass::Cache, &evicting(0, 0));
    let (stopped, other) = (bench.me(1), bench.me(2));
    let (chunk, state) = taken_half_full(&bench);
    assert!(bench.pool.take_dirty(other, chunk, state).unwrap());
    bench.table.clean_records(other, chunk, usize::MAX).unwrap();
    assert!(bench.pool.state(chunk).unwrap().is_free());
    while !bench.pool.state(chunk).unwrap().is(Kind::Open) {
        bench.pool.next_chunk(other, Class::Main, 99, Need::Growth).unwrap();
    }
    let place = bench.pool.room(other, Class::Main, 99, 200).unwrap().unwrap();
    assert_eq!(place, (chunk, 0));
    let head = Head { key_len: 16, value_len: 100, ..Head::default() };
    bench.pool.append(place, &head, None, &key_of(77), &value_of(77, 0, 100)).unwrap();
    bench.table.clean_records(stopped, chunk, usize::MAX).unwrap();
    let now = bench.pool.state(chunk).unwrap();
    assert_eq!(bench.pool.clean_position(chunk, now.generation()).unwrap(), 0);
    assert!(now.is(Kind::Open) && now.owner() == 2);
}

#[test]
fn a_table_that_holds_only_what_it_fills_gives_that_up_for_a_chunk_of_the_other_class() {
    let bench = Bench::with(1, 64, CHUNK, RecordClass::Cache, &evicting(0, 0));
    let me = bench.me(1);
    for number in 0..20 {
        bench.set(me, &key_of(number), &value_of(number, 0, 100)).unwrap();
    }
    // Others hold everything else.
    while bench.pool.take(me, Class::Lane, 99, 1, Need::Growth).unwrap().is_some() {}
    bench.table.make_room_by_evicting(me, Class::Main, Need::Growth, 128).unwrap();
    bench.assert_sound();
}

/// A long value whose version the user gave is older than a flush for ever, wherever it goes in its queue meanwhile.
#[test]
fn a_long_value_that_was_flushed_does_not_come_back_with_its_next_place_in_the_queue() {
    let bench = Bench::with(1, 128, CHUNK, RecordClass::Cache, &evicting(0, 0));
    let me = bench.me(1);
    let value = vec![1; 2 * CHUNK as usize];
    let set = |key: &[u8], id: u64| {
        let update = Update { value: Value::Bytes(&value), expiry: 0, client: 0, marks: 0, id };
        bench.table.update(me, key, |_| Ok(Action::Put(update))).unwrap()
    };
    set(b"first", 77);
    set(b"second", 78);
    let runs = || -> Vec<_> {
        let state = |chunk: ChunkId| bench.pool.state(chunk).unwrap();
        let mut runs: Vec<_> = bench.pool.chunks().filter(|chunk| state(*chunk).is(Kind::RunHead)).collect();
        runs.sort_by_key(|chunk| bench.pool.queue_number(*chunk, state(*chunk)).unwrap());
        runs
    };
    let before = runs();
    assert_eq!(before.len(), 2);
    // An evictor decided to keep the first one, and goes on after a flush.
    let seen = bench.pool.state(before[0]).unwrap();
    let words = bench.table.control().u64::<{ layout::control::FLUSH }>();
    words.store(bench.pool.next_number() << 20 | 2, Ordering::Relaxed);
    assert!(bench.pool.requeue_run(before[0], seen, Class::Main).unwrap());
    assert_eq!(bench.get(b"first"), None, "it was flushed");
    assert_eq!(runs(), [before[1], before[0]], "it went to the end of the queue");
    // Of a run that is used again nothing is changed by who is late.
    bench.pool.retire_run(before[0], bench.pool.state(before[0]).unwrap()).unwrap();
    assert!(!bench.pool.requeue_run(before[0], seen, Class::Small).unwrap());
}
