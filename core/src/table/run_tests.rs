//! Long records: every boundary of their length, endless overwriting, what the dead leave, damaged words.

use super::tests::Bench;
use super::*;
use crate::chunk::layout::at;
use crate::chunk::{Kind, Need};
use crate::shm::atomic::Ordering::Relaxed;

const CHUNK: u64 = 1 << 14;

/// Bytes that follow from a length and a seed.
fn filled(len: usize, seed: u64) -> Vec<u8> {
    let mut value = Vec::with_capacity(len + 8);
    let mut word = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ len as u64;
    while value.len() < len {
        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        value.extend_from_slice(&word.to_le_bytes());
    }
    value.truncate(len);
    value
}

fn torture() -> u64 {
    if std::env::var_os("MEMORA_TORTURE").is_some() { 20 } else { 1 }
}

/// Chunks of each kind that a run has.
fn kinds(bench: &Bench, kind: Kind) -> usize {
    bench.pool.chunks().filter(|chunk| bench.pool.state(*chunk).unwrap().is(kind)).count()
}

/// The only run that is there.
fn only_run(bench: &Bench) -> ChunkId {
    let mut heads = bench.pool.chunks().filter(|chunk| bench.pool.state(*chunk).unwrap().is(Kind::RunHead));
    let first = heads.next().expect("a run");
    assert_eq!(heads.next(), None);
    first
}

#[test]
fn values_of_every_length_around_a_boundary_come_back_and_give_back_their_chunks() {
    let bench = Bench::new(1, 400, CHUNK, RecordClass::Cache);
    let me = bench.me(1);
    let mut lens = vec![0, 1, 7, 8, 9];
    for near in [CHUNK / 2, CHUNK, CHUNK + CHUNK / 2, 2 * CHUNK, 3 * CHUNK, 1 << 20, 3 << 20] {
        lens.extend((near - 50..near + 20).map(|len| len as usize));
    }
    let before = bench.pool.free_count();
    for len in lens {
        for key in [&b"k"[..], &[0; 9], &filled(300, 1)] {
            let value = filled(len, key.len() as u64);
            bench.set(me, key, &value).unwrap();
            assert!(bench.get(key).unwrap() == value, "{len} bytes with a key of {}", key.len());
            let bytes = crate::chunk::record::record_bytes(24, key.len() as u64, len as u64);
            let chunks = bench.pool.run_chunks(bytes);
            assert_eq!(chunks.is_some(), bytes > CHUNK / 2);
            assert_eq!(kinds(&bench, Kind::RunHead), usize::from(chunks.is_some()));
            assert_eq!(kinds(&bench, Kind::RunContinued), chunks.unwrap_or(1) as usize - 1);
            assert!(bench.delete(me, key).unwrap());
            assert_eq!(kinds(&bench, Kind::RunHead) + kinds(&bench, Kind::RunContinued), 0);
        }
    }
    bench.assert_sound();
    assert_eq!(bench.table.len().unwrap(), 0);
    let open = kinds(&bench, Kind::Open);
    assert!(before - bench.pool.free_count() <= open as u32 + 1, "chunks are gone");
}

#[test]
fn keys_have_1_to_65536_bytes() {
    let bench = Bench::new(1, 200, CHUNK, RecordClass::Cache);
    let me = bench.me(1);
    let lens = [1, 7, 8, 255, 256, 4095, 4096, 4097, 8191, 8192, 16384, 32768, 65528, 65535, 65536];
    for len in lens {
        bench.set(me, &filled(len, 3), &filled(10, len as u64)).unwrap();
    }
    for len in lens {
        assert_eq!(bench.get(&filled(len, 3)).unwrap(), filled(10, len as u64), "a key of {len} bytes");
    }
    for len in [0, 65537, 70000, 1 << 20] {
        let error = bench.set(me, &vec![1; len], b"value").unwrap_err();
        assert_eq!(error.code(), ErrorCode::KeyTooLong);
        assert!(
            error.to_string().contains("65536") && error.to_string().contains(&len.to_string()),
            "{error}"
        );
        assert_eq!(bench.get(&vec![1; len]), None);
    }
    // A key of zeros, whose length is written as 0, and its neighbours are different keys.
    for len in [65534, 65535, 65536] {
        bench.set(me, &vec![0; len], &[len as u8]).unwrap();
    }
    for len in [65534, 65535, 65536] {
        assert_eq!(bench.get(&vec![0; len]).unwrap(), [len as u8]);
    }
    let mut scanned = 0;
    let mut cursor = 0;
    loop {
        let count = |_: &[u8], _: &crate::chunk::record::Head, _: &[u8]| {
            scanned += 1;
            Ok(())
        };
        cursor = bench.table.scan(cursor, 4, count).unwrap();
        if cursor == 0 {
            break;
        }
    }
    assert_eq!(scanned, lens.len() + 3);
    bench.assert_sound();
}

#[test]
fn a_store_says_how_long_its_keys_and_values_may_be() {
    let bench = Bench::new(1, 200, CHUNK, RecordClass::Store);
    let me = bench.me(1);
    let longest = bench.table.key_len_max();
    assert_eq!(longest as u64, CHUNK - 512);
    bench.set(me, &filled(longest, 1), b"value").unwrap();
    assert_eq!(bench.get(&filled(longest, 1)).unwrap(), b"value");
    let error = bench.set(me, &filled(longest + 1, 1), b"value").unwrap_err();
    assert_eq!(error.code(), ErrorCode::KeyTooLong);
    assert!(error.to_string().contains(&longest.to_string()), "{error}");
    let max = bench.table.value_len_max(1) as usize;
    bench.set(me, b"k", &filled(max, 2)).unwrap();
    let error = bench.set(me, b"k", &filled(max + 1, 2)).unwrap_err();
    assert_eq!(error.code(), ErrorCode::ValueTooLong);
    assert!(bench.get(b"k").unwrap() == filled(max, 2), "the old entry is untouched");
}

#[test]
fn a_value_that_fits_no_fabric_of_this_size_is_too_long_and_one_that_finds_no_row_is_refused() {
    let bench = Bench::new(1, 64, CHUNK, RecordClass::Cache);
    let me = bench.me(1);
    let max = bench.table.value_len_max(1) as usize;
    assert_eq!(max as u64, 35 * CHUNK - 48);
    let error = bench.set(me, b"k", &vec![1; max + 1]).unwrap_err();
    assert_eq!(error.code(), ErrorCode::ValueTooLong);
    assert!(error.to_string().contains(&max.to_string()), "{error}");
    let value = filled(max, 1);
    bench.set(me, b"k", &value).unwrap();
    // There is no room for both: the old one stays.
    let error = bench.set(me, b"k", &filled(max, 2)).unwrap_err();
    assert_eq!(error.code(), ErrorCode::Full, "{error}");
    assert!(bench.get(b"k").unwrap() == value);
    bench.assert_sound();
    assert!(bench.delete(me, b"k").unwrap());
    bench.set(me, b"k", &filled(max, 2)).unwrap();
    bench.assert_sound();
}

#[test]
fn a_long_value_finds_its_row_among_garbage_and_between_live_entries() {
    // Small live entries are spread over all chunks, between dead ones.
    let bench = Bench::new(1, 1000, CHUNK, RecordClass::Cache);
    let me = bench.me(1);
    let mut count = 0u64;
    while bench.set(me, &count.to_le_bytes(), &[7; 500]).is_ok() {
        count += 1;
    }
    for number in (0..count).filter(|number| number % 10 != 0) {
        assert!(bench.delete(me, &number.to_le_bytes()).unwrap());
    }
    let live =
        |bench: &Bench| (0..count).step_by(10).all(|number| bench.get(&number.to_le_bytes()).is_some());
    assert!(live(&bench) && bench.pool.free_count() < 200, "{}", bench.pool.free_count());
    assert!(bench.table.stats().unwrap().index_chunks > 10);
    let value = filled(bench.table.value_len_max(4) as usize, 5);
    bench.set(me, b"long", &value).unwrap();
    assert!(bench.get(b"long").unwrap() == value && live(&bench));
    bench.assert_sound();
}

#[test]
fn mixed_lengths_with_endless_overwriting_lose_no_chunk() {
    let bench = Bench::new(3, 300, CHUNK, RecordClass::Cache);
    std::thread::scope(|scope| {
        for index in 1..=3u16 {
            let bench = &bench;
            scope.spawn(move || {
                let me = bench.me(index);
                let mut random = u64::from(index);
                for turn in 0..3000 * torture() {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let key = [(random >> 40) as u8 % 24];
                    let len = match random >> 60 {
                        0..=5 => (random >> 33) % 200,
                        6..=10 => (random >> 33) % CHUNK,
                        11..=14 => (random >> 33) % (4 * CHUNK),
                        _ => (random >> 33) % (12 * CHUNK),
                    };
                    match random >> 50 & 7 {
                        0 => {
                            bench.delete(me, &key).unwrap();
                        }
                        1 | 2 => {
                            if let Some(found) = bench.get(&key) {
                                let seed = u64::from_le_bytes(found[..8].try_into().unwrap());
                                assert!(found[8..] == filled(found.len() - 8, seed), "a torn value");
                            }
                        }
                        _ => {
                            let mut value = turn.to_le_bytes().to_vec();
                            value.extend(filled(len as usize, turn));
                            bench.set(me, &key, &value).unwrap();
                        }
                    }
                }
            });
        }
    });
    bench.assert_sound();
    let runs: usize = bench.pool.chunks().filter(|c| bench.pool.state(*c).unwrap().is(Kind::RunHead)).count();
    assert!(runs <= 24, "{runs} runs for 24 keys");
    for key in 0..24u8 {
        bench.delete(bench.me(1), &[key]).unwrap();
    }
    assert_eq!(kinds(&bench, Kind::RunHead) + kinds(&bench, Kind::RunContinued), 0);
    bench.assert_sound();
}

#[test]
fn what_a_dead_writer_left_of_a_run_is_given_back_or_found_dead() {
    let bench = Bench::new(2, 64, CHUNK, RecordClass::Cache);
    let (dead, me) = (bench.me(1), bench.me(2));
    let (class, object) = (crate::chunk::Class::Main, 5);
    let value = filled(3 * CHUNK as usize, 1);
    let free = bench.pool.free_count();
    // Taken, but not written.
    bench.pool.take_record_run(dead, class, object, 4, Need::Growth, None).unwrap();
    // Written, but not published.
    let first = bench.pool.take_record_run(dead, class, object, 4, Need::Growth, None).unwrap();
    let head = crate::chunk::record::Head { key_len: 1, value_len: value.len() as u32, ..Default::default() };
    bench.pool.append_run(first, &head, None, b"u", &value).unwrap();
    // Half taken.
    bench.pool.allocate_run(dead, class, object, 3, Need::Growth).unwrap();
    bench.stage.kill(1);
    crate::chunk::inherit(&bench.pool, 1, &|_| false).unwrap();
    inherit(&bench.table, true).unwrap();
    assert_eq!((only_run(&bench), bench.pool.free_count()), (first, free - 4));
    assert_eq!(bench.get(b"u"), None);
    bench.assert_sound();
    // Whoever runs short looks whether a slot points to it.
    bench.table.take_counts_anew(me).unwrap();
    assert_eq!(bench.pool.free_count(), free);
    bench.stage.clear(1);
    bench.assert_sound();
}

#[test]
fn the_first_index_chunk_of_a_table_may_become_one_of_another() {
    let bench = Bench::new(2, 200, CHUNK, RecordClass::Cache);
    let me = bench.me(1);
    let mut number = 0u64;
    while bench.table.stats().unwrap().index_chunks < 2 {
        bench.set(me, &number.to_le_bytes(), b"value").unwrap();
        number += 1;
    }
    let root = bench.table.root_chunk().expect("a first index chunk");
    assert!(bench.pool.state(root).unwrap().is(Kind::Free), "it was divided");
    let other = bench.pool.allocate(me, crate::chunk::Class::Buckets, 6, Need::Growth).unwrap();
    assert_eq!(other, root, "what stays in place takes the lowest chunk");
    bench.pool.settle(me, other).unwrap();
    inherit(&bench.table, true).unwrap();
    assert!(bench.pool.state(other).unwrap().is(Kind::Index), "it is not this table's any more");
    bench.assert_sound();
}

#[test]
fn a_pin_on_the_first_chunk_keeps_the_whole_run() {
    let bench = Bench::new(2, 64, CHUNK, RecordClass::Cache);
    let me = bench.me(1);
    bench.set(me, b"k", &filled(4 * CHUNK as usize, 1)).unwrap();
    let first = only_run(&bench);
    let free = bench.pool.free_count();
    let pin = crate::chunk::Guard::pin(bench.me(2), first).unwrap();
    assert!(bench.delete(me, b"k").unwrap());
    bench.pool.free_quiet().unwrap();
    assert_eq!((kinds(&bench, Kind::RunContinued), bench.pool.free_count()), (4, free));
    assert!(bench.pool.state(first).unwrap().is(Kind::Quiesce));
    bench.assert_sound();
    drop(pin);
    bench.pool.free_quiet().unwrap();
    assert_eq!((kinds(&bench, Kind::RunContinued), bench.pool.free_count()), (0, free + 5));
    bench.assert_sound();
}

#[test]
fn damaged_words_of_a_run_are_errors_and_lead_nowhere() {
    let fields: [(usize, u32); 4] = [(at::RUN_LEN & !7, 32), (at::TAIL, 0), (at::PARENT, 0), (at::STATE, 0)];
    for (field, shift) in fields {
        for bad in [0u64, 1, 2, 63, 64, 1000, 0x7fff_ffff, 0xffff_ffff, u64::MAX, 1 << 40, 16 * CHUNK, 13] {
            for part in [0, 2] {
                let bench = Bench::new(1, 64, CHUNK, RecordClass::Cache);
                let me = bench.me(1);
                bench.set(me, b"before", &filled(2 * CHUNK as usize, 1)).unwrap();
                bench.set(me, b"k", &filled(4 * CHUNK as usize, 1)).unwrap();
                let heads: Vec<ChunkId> =
                    bench.pool.chunks().filter(|c| bench.pool.state(*c).unwrap().is(Kind::RunHead)).collect();
                let chunk = ChunkId(heads[1].0 + part);
                let offset = bench.pool.geometry().table_offset + u64::from(chunk.0) * 128;
                let block = bench.pool.shm().block::<128>(offset).unwrap();
                let word = block.u64_at::<0>(field / 8);
                let old = word.load(Relaxed);
                word.store(if shift == 0 { bad } else { old & 0xffff_ffff | bad << shift }, Relaxed);
                let mut problems = Vec::new();
                let mut report = |place: String, what: String| problems.push(format!("{place}: {what}"));
                let checked = crate::chunk::check(&bench.pool, false, &|_| false, &mut report);
                // Only what says something of this chunk: its own words, and the first word of a later one.
                let matters =
                    part == 0 && field != at::PARENT || part == 2 && matches!(field, at::PARENT | at::STATE);
                if matters && word.load(Relaxed) != old {
                    assert!(checked.is_err() || !problems.is_empty(), "{field} = {bad:#x} in chunk {part}");
                }
                // Whatever is asked of the table now, it ends with an answer or an error.
                let _ = check(&bench.table, false, &mut |_, _| {});
                let _ = bench.table.read(b"k", |_, _| Ok(()));
                let _ = bench.table.stats();
                let _ = bench.table.take_counts_anew(me);
                let _ = bench.table.expire_until(me, || Ok(false));
                let _ = bench.set(me, b"k", &filled(3 * CHUNK as usize, 2));
                let _ = bench.set(me, b"other", &filled(9 * CHUNK as usize, 2));
                let _ = bench.delete(me, b"k");
                let _ = bench.delete(me, b"before");
                let _ = bench.pool.free_quiet();
                let _ = crate::chunk::inherit(&bench.pool, 1, &|_| false);
            }
        }
    }
}
