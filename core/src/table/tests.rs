use std::collections::HashMap;
use std::sync::Arc;

use super::*;
use crate::chunk::testing::Stage;
use crate::chunk::{Actor, Need};

/// A table on a stage, with a clock that the test sets.
pub(super) struct Bench {
    pub stage: Arc<Stage>,
    pub pool: Arc<Pool>,
    pub table: Arc<Table>,
}

impl Bench {
    pub fn new(threads: u16, chunks: u32, chunk_bytes: u64, class: RecordClass) -> Bench {
        Bench::with(threads, chunks, chunk_bytes, class, &TableOptions::default())
    }

    pub fn with(
        threads: u16,
        chunks: u32,
        chunk_bytes: u64,
        class: RecordClass,
        options: &TableOptions,
    ) -> Bench {
        let (stage, pool) = Stage::pool(threads, chunks, chunk_bytes);
        let me = stage.actor(1);
        let options = &TableOptions { transactions: class == RecordClass::Stamped, ..*options };
        let count = chunks_needed(&pool, options);
        let first = pool.allocate_run(me, Class::Control, 5, count, Need::Object).unwrap();
        let run = pool.run_span(first, count).unwrap();
        initialise(&pool, run, class, 42, options).unwrap();
        pool.settle(me, first).unwrap();
        let offset = run.offset();
        let table = Table::open(pool.clone(), 5, offset, class, Arc::new(|| 1000)).unwrap();
        Bench { stage: stage.clone(), pool, table: Arc::new(table) }
    }

    pub fn me(&self, index: u16) -> Actor<'_> {
        self.stage.actor(index)
    }

    pub fn set(&self, me: Actor<'_>, key: &[u8], value: &[u8]) -> Result<Changed> {
        self.set_until(me, key, value, 0)
    }

    pub fn set_until(&self, me: Actor<'_>, key: &[u8], value: &[u8], expiry: u64) -> Result<Changed> {
        self.table.update(me, key, |_| {
            Ok(Action::Put(Update { value: Value::Bytes(value), expiry, client: 7, marks: 0, id: 0 }))
        })
    }

    pub fn delete(&self, me: Actor<'_>, key: &[u8]) -> Result<bool> {
        Ok(self.table.update(me, key, |_| Ok(Action::Remove))?.changed)
    }

    pub fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let found = self
            .table
            .read(key, |head, value| {
                out.resize(head.value_len as usize, 0);
                value.copy_out(0, &mut out)
            })
            .unwrap();
        found.map(|_| out)
    }

    pub fn problems(&self, live: bool) -> Vec<String> {
        let mut problems = Vec::new();
        let mut report = |place: String, what: String| problems.push(format!("{place}: {what}"));
        crate::chunk::check(&self.pool, live, &|_| self.table.has_transactions(), &mut report).unwrap();
        check(&self.table, live, &mut report).unwrap();
        problems
    }

    pub fn assert_sound(&self) {
        assert_eq!(self.problems(false), Vec::<String>::new());
    }
}

#[test]
fn set_get_replace_delete_and_count() {
    let bench = Bench::new(1, 64, 1 << 14, RecordClass::Cache);
    let me = bench.me(1);
    assert_eq!(bench.get(b"k"), None);
    let first = bench.set(me, b"k", b"value one").unwrap();
    assert_eq!(bench.get(b"k").unwrap(), b"value one");
    let second = bench.set(me, b"k", b"v2").unwrap();
    assert!(second.id != first.id && second.changed);
    assert_eq!(bench.get(b"k").unwrap(), b"v2");
    assert_eq!(bench.table.len().unwrap(), 1);
    assert!(bench.delete(me, b"k").unwrap());
    assert!(!bench.delete(me, b"k").unwrap());
    assert_eq!((bench.get(b"k"), bench.table.len().unwrap()), (None, 0));
    bench.assert_sound();
}

#[test]
fn thousands_of_keys_split_the_index_and_are_all_there() {
    let bench = Bench::new(1, 600, 1 << 14, RecordClass::Cache);
    let me = bench.me(1);
    let count = 40_000u64;
    for number in 0..count {
        let key = number.to_le_bytes();
        bench.set(me, &key, &number.to_be_bytes()).unwrap();
    }
    for number in 0..count {
        assert_eq!(bench.get(&number.to_le_bytes()).unwrap(), number.to_be_bytes(), "{number}");
    }
    assert_eq!(bench.table.len().unwrap(), count);
    let stats = bench.table.stats().unwrap();
    assert!(stats.index_chunks > 10 && stats.entries == count, "{stats:?}");
    assert!(stats.slots < count * 2, "{stats:?}");
    bench.assert_sound();
    let (mut cursor, mut seen) = (0, HashMap::new());
    loop {
        cursor = bench
            .table
            .scan(cursor, 100, |key, _, value| {
                *seen.entry((key.to_vec(), value.to_vec())).or_insert(0) += 1;
                Ok(())
            })
            .unwrap();
        if cursor == 0 {
            break;
        }
    }
    assert_eq!(seen.len() as u64, count);
    assert!(seen.values().all(|times| *times == 1));
}

#[test]
fn a_scan_gives_each_entry_once_while_half_of_the_directory_names_the_children_of_a_split() {
    let bench = Bench::new(1, 64, 1 << 14, RecordClass::Cache);
    let (me, table) = (bench.me(1), &bench.table);
    let count = 300u64;
    for number in 0..count {
        bench.set(me, &number.to_le_bytes(), b"stays").unwrap();
    }
    let hash = table.hasher.hash(&0u64.to_le_bytes());
    let (index, parent) = table.entry(hash).unwrap();
    table.begin_split(me, hash).unwrap();
    let split = loop {
        let split = table.enter_split(me, hash).unwrap().unwrap();
        if split.exhausted {
            break split;
        }
    };
    let range = table.range(index, parent);
    let half = range.start + (range.end - range.start) / 2;
    assert!(half > range.start);
    let given = || {
        let (mut cursor, mut given) = (0, Vec::new());
        loop {
            let visit = |key: &[u8], _: &_, _: &[u8]| {
                given.push(key.to_vec());
                Ok(())
            };
            cursor = table.scan(cursor, 1, visit).unwrap();
            if cursor == 0 {
                given.sort();
                return given;
            }
        }
    };
    let whole = given();
    assert_eq!(whole.len() as u64, count);
    // What `finish_split` does, broken off after each entry of the directory.
    let [left, right] = split.children;
    for index in range {
        let child = if index < half { left } else { right };
        let generation = bench.pool.state(child).unwrap().generation();
        let next = Entry::new(child.0, generation, parent.depth() + 1);
        table.directory_word(index).unwrap().store(next.0, Ordering::Relaxed);
        assert!(given() == whole, "entries are given twice or not at all at {index}");
    }
    table.finish_split(split).unwrap();
    assert!(given() == whole, "entries are given twice or not at all behind the split");
    bench.assert_sound();
}

#[test]
fn endless_overwriting_in_a_full_table_never_fails() {
    let bench = Bench::new(4, 64, 1 << 14, RecordClass::Cache);
    let me = bench.me(1);
    let mut keys = 0u64;
    let error = loop {
        match bench.set(me, &keys.to_le_bytes(), &[keys as u8; 100]) {
            Ok(_) => keys += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.code(), ErrorCode::Full);
    assert!(keys > 2000, "{keys}");
    let multiplier = if std::env::var_os("MEMORA_TORTURE").is_some() { 20 } else { 1 };
    std::thread::scope(|scope| {
        for index in 1..=4u16 {
            let bench = &bench;
            scope.spawn(move || {
                let me = bench.me(index);
                for turn in 0..60_000 * multiplier {
                    let key = (turn * 7919 + index as u64 * 13) % keys;
                    bench.set(me, &key.to_le_bytes(), &[key as u8; 100]).unwrap();
                }
            });
        }
    });
    for key in 0..keys {
        assert_eq!(bench.get(&key.to_le_bytes()).unwrap(), [key as u8; 100]);
    }
    assert_eq!(bench.table.len().unwrap(), keys);
    bench.assert_sound();
    // What is deleted makes room again.
    for key in 0..keys / 2 {
        assert!(bench.delete(me, &key.to_le_bytes()).unwrap());
    }
    for key in 0..keys / 3 {
        bench.set(me, &key.to_le_bytes(), &[1; 100]).unwrap();
    }
    bench.assert_sound();
}
