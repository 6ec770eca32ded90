//! Messages that are too long for a block: whole, in the one order, kept as long as the log keeps them, and given back afterwards.

use std::sync::Arc;

use super::layout::{BYTES_MIN, Newest, block, record};
use super::parcel::RECORD;
use super::testing::{log_with, reopen};
use super::tests::{assert_sound, code, dies, drain, stats};
use crate::channel::inherit::inherit;
use crate::channel::parcel_tests::{CHUNKS, free, long, reap};
use crate::channel::testing::{Stage, act_as};
use crate::channel::*;
use crate::chunk::PARCEL_HEADER;
use crate::error::ErrorCode;
use crate::shm::atomic::Ordering::Relaxed;

const CHUNK: usize = 16 << 10;
const PART: usize = CHUNK - PARCEL_HEADER as usize;

fn log_of(overrun: OverrunPolicy) -> (Arc<Stage>, Channel, u32) {
    let (stage, channel) = log_with(overrun, Retention { bytes: BYTES_MIN, age: None });
    let free = stage.give_chunks(CHUNKS).free_count();
    act_as(1);
    (stage, channel, free)
}

fn log() -> (Arc<Stage>, Channel, u32) {
    log_of(OverrunPolicy::Overrun)
}

/// The word of a block's entry that names its newest long message.
fn newest(channel: &Channel, index: u32) -> Newest {
    let entry = channel.area.log().unwrap().entry(&channel.area.shm, index).unwrap();
    Newest(entry.u64::<{ block::PARCEL }>().load(Relaxed))
}

fn set_newest(channel: &Channel, index: u32, newest: Newest) {
    let entry = channel.area.log().unwrap().entry(&channel.area.shm, index).unwrap();
    entry.u64::<{ block::PARCEL }>().store(newest.0, Relaxed);
}

#[test]
fn messages_of_every_kind_of_length_come_back_whole_among_short_ones() {
    let (stage, channel, _) = log();
    let mut appender = channel.appender().unwrap();
    let mut reader = channel.reader(ReadFrom::Oldest).unwrap();
    let mut named = channel.named_reader("named", ReadFrom::Oldest).unwrap();
    let most = channel.claim_len_max();
    assert_eq!(most, (BYTES_MIN / 128) as usize - 24);
    assert!(channel.message_len_max() > 20 * PART);
    assert_eq!(appender.message_len_max(), channel.message_len_max());
    let mut buffer = Vec::new();
    let lens = [0, most, most + 1, CHUNK, PART - 1, PART, PART + 1, 2 * PART, 5 * PART + 3, 1];
    for (number, len) in lens.into_iter().cycle().take(200).enumerate() {
        let bytes = long(len, number);
        assert_eq!(appender.append(&bytes).unwrap(), number as u64);
        let message = reader.try_recv(&mut buffer).unwrap().unwrap();
        assert_eq!((message.position, message.len), (number as u64, len));
        assert!(buffer == bytes, "length {len}");
        // By the handler, too, which gets what stands in the reader's own memory.
        let polled = named.poll(10, |message, bytes| {
            assert_eq!(message.position, number as u64);
            assert!(bytes == buffer, "length {len}");
        });
        assert_eq!(polled.unwrap(), 1);
        if number % 20 == 0 {
            assert_sound(&channel);
        }
    }
    // The longest one is kept alone.
    let bytes = long(channel.message_len_max(), 7);
    let position = appender.append(&bytes).unwrap();
    assert_eq!(drain(&mut reader), [(position, bytes)]);
    assert_eq!(stats(&channel).oldest, position - 1, "all long ones in front of it were trimmed for it");
    reap(&stage, &channel, 1);
}

#[test]
fn long_messages_that_are_kept_take_as_many_bytes_as_the_log_and_what_is_trimmed_is_given_back() {
    let (stage, channel, before) = log();
    let mut appender = channel.appender().unwrap();
    let mut reader = channel.reader(ReadFrom::Oldest).unwrap();
    let len = 3 * PART;
    let most = BYTES_MIN / len as u64;
    let mut buffer = Vec::new();
    for number in 0..50u64 {
        appender.append(b"short").unwrap();
        appender.append(&long(len, number as usize)).unwrap();
        let kept = (number + 1).min(most);
        assert_eq!(before - free(&stage), 3 * kept as u32);
        let stats = stats(&channel);
        assert_eq!(stats.oldest, if number < most { 0 } else { 2 * (number + 1 - most) });
        assert!(stats.bytes >= kept * len as u64);
    }
    // Who was too slow is told what it lost, exactly.
    let error = reader.try_recv(&mut buffer).unwrap_err();
    assert_eq!((error.code(), error.amount()), (ErrorCode::Overrun, 2 * (50 - most)));
    let rest = drain(&mut reader);
    assert_eq!(rest.len() as u64, 2 * most);
    assert!(rest.iter().skip(1).step_by(2).all(|(at, bytes)| *bytes == long(len, *at as usize / 2)));
    assert_sound(&channel);
    // Short ones push long ones out as well.
    while before - free(&stage) > 0 {
        appender.append(&[1; 1000]).unwrap();
    }
    assert_sound(&channel);
    assert_eq!(code(appender.append(&vec![0; channel.message_len_max() + 1])), ErrorCode::ValueTooLong);
    let error = appender.claim(channel.claim_len_max() + 1).map(drop).unwrap_err();
    assert_eq!(error.code(), ErrorCode::ValueTooLong);
    assert!(error.detail().contains("`append` takes it"), "{error}");
}

#[test]
fn a_log_that_blocks_keeps_long_messages_for_its_readers() {
    let (stage, channel, before) = log_of(OverrunPolicy::Block);
    let mut appender = channel.appender().unwrap();
    let mut reader = channel.named_reader("slow", ReadFrom::Oldest).unwrap();
    let len = 3 * PART;
    let most = BYTES_MIN as usize / len;
    for number in 0..most {
        appender.append(&long(len, number)).unwrap();
    }
    let error = appender.append(&long(len, most)).unwrap_err();
    assert_eq!(error.code(), ErrorCode::LogFull);
    assert!(error.detail().contains("`slow`"), "{error}");
    assert_eq!(before - free(&stage), 3 * most as u32, "nothing is left of what was refused");
    // Room comes message by message.
    for number in 0..20 {
        let mut got = Vec::new();
        reader.poll(1, |message, bytes| got.push((message.position, bytes.to_vec()))).unwrap();
        assert_eq!(got, [(number as u64, long(len, number))]);
        reader.commit().unwrap();
        appender.append(&long(len, most + number)).unwrap();
        assert_eq!(code(appender.append(&long(len, 0))), ErrorCode::LogFull);
    }
    assert_sound(&channel);
}

#[test]
fn who_finds_no_memory_trims_the_oldest_long_messages_and_then_is_told() {
    let (stage, channel, before) = log();
    let mut appender = channel.appender().unwrap();
    for number in 0..4 {
        appender.append(&long(2 * PART, number)).unwrap();
    }
    // Others have all the rest.
    let pool = stage.give_chunks(CHUNKS);
    let me = channel.area.ground.actor().unwrap();
    let mut search = crate::chunk::Search::default();
    let mut others = Vec::new();
    while let Ok(chunk) = pool.take_loose(me, 99, &mut search) {
        others.push(chunk);
    }
    appender.append(&long(3 * PART, 4)).unwrap();
    assert_eq!(stats(&channel).oldest, 2, "two of them made room for one of three chunks");
    let error = appender.append(&long(9 * PART, 5)).unwrap_err();
    assert_eq!(error.code(), ErrorCode::Full);
    assert_eq!(stats(&channel).end, 5);
    others.iter().for_each(|chunk| pool.drop_loose(me, *chunk).unwrap());
    assert_eq!(free(&stage), before, "no long message is kept, and none holds memory");
    appender.append(&long(9 * PART, 5)).unwrap();
    let mut reader = channel.reader(ReadFrom::Oldest).unwrap();
    assert_eq!(drain(&mut reader).pop().unwrap(), (5, long(9 * PART, 5)));
    assert_sound(&channel);
}

/// Appends one long message up to a step of its way, as one that is killed there does.
fn die_at(channel: &Channel, stage: &Stage, named: bool, published: bool) {
    act_as(2);
    let mut dead = channel.appender().unwrap();
    dead.append(&long(2 * PART, 1)).unwrap();
    let (index, state) = dead.block_for_test();
    if published {
        // As if it had not come to keep what it published.
        let position = dead.append(&long(2 * PART, 2)).unwrap();
        let kept = newest(channel, index);
        assert!(kept.is_kept());
        set_newest(channel, index, Newest::new(kept.at(), state.generation()));
        assert_eq!(stats(channel).end, position + 1);
    } else {
        let chunks = channel.area.write_parcel_of_log(&long(2 * PART, 2)).unwrap();
        if named {
            dead.name_for_test([chunks[0].word(), 2 * PART as u64]);
            assert!(!newest(channel, index).is_kept());
        }
    }
    dies(stage, 2, dead);
    act_as(1);
}

#[test]
fn what_the_dead_leave_is_whole_or_nowhere_and_no_chunk_is_lost() {
    for (named, published) in [(false, false), (true, false), (true, true)] {
        let (stage, channel, before) = log();
        die_at(&channel, &stage, named, published);
        // Others go on before anybody has found out.
        let mut appender = channel.appender().unwrap();
        let next = appender.append(&long(PART, 3)).unwrap();
        assert_eq!(next, 1 + u64::from(published));
        for _ in 0..2 {
            reap(&stage, &channel, 2);
        }
        assert_eq!(before - free(&stage), 3 + 2 * u32::from(published));
        let mut expected = vec![(0, long(2 * PART, 1))];
        expected.extend(published.then(|| (1, long(2 * PART, 2))));
        expected.push((next, long(PART, 3)));
        assert_eq!(drain(&mut channel.reader(ReadFrom::Oldest).unwrap()), expected);
        // The block of the dead is continued, and begun anew.
        let mut heir = channel.appender().unwrap();
        for number in 0..3000 {
            heir.append(&long(1500, number)).unwrap();
        }
        assert_eq!(free(&stage), before);
        reap(&stage, &channel, 1);
    }
}

#[test]
fn what_was_trimmed_before_its_publisher_came_to_keep_it_is_given_back() {
    let (stage, channel, before) = log();
    die_at(&channel, &stage, true, true);
    let mut appender = channel.appender().unwrap();
    // Its mark is missing, so nobody knows whether it was published; whoever trims leaves it alone.
    for number in 0..4000 {
        appender.append(&long(100, number)).unwrap();
    }
    assert!(stats(&channel).oldest > 2);
    assert!(before - free(&stage) >= 2);
    reap(&stage, &channel, 2);
    assert_eq!(free(&stage), before);
}

#[test]
fn one_who_is_killed_between_trimming_and_giving_back_leaves_it_to_the_next() {
    let (stage, channel, before) = log();
    let mut appender = channel.appender().unwrap();
    for number in 0..4 {
        appender.append(&long(2 * PART, number)).unwrap();
    }
    // The word alone moves, as if its mover had been killed behind it.
    let word = channel.area.log().unwrap().oldest_word();
    word.fetch_add(3, Relaxed);
    assert_eq!(before - free(&stage), 8);
    assert_eq!(drain(&mut channel.reader(ReadFrom::Oldest).unwrap()), [(3, long(2 * PART, 3))]);
    appender.append(&long(5 * PART, 4)).unwrap();
    appender.append(&long(10 * PART, 5)).unwrap();
    // Whoever trims next gives all of it back.
    assert_eq!(before - free(&stage), 15);
    assert_sound(&channel);
}

#[test]
fn a_reader_that_is_overtaken_while_it_copies_is_told_so() {
    let (stage, channel, _) = log();
    let mut appender = channel.appender().unwrap();
    appender.append(&long(4 * PART, 0)).unwrap();
    let mut slow = channel.reader(ReadFrom::Oldest).unwrap();
    // What it finds in the record is read, and then everything goes.
    let Ok(super::index::Look::Found(found)) = channel.area.log().unwrap().look(0) else { panic!() };
    let words = channel.area.words_of(&found).unwrap();
    for number in 1..8 {
        appender.append(&long(4 * PART, number)).unwrap();
    }
    assert_eq!(channel.area.copy_parcel(words, &mut Vec::new()).unwrap(), None);
    let mut buffer = Vec::new();
    let error = slow.try_recv(&mut buffer).unwrap_err();
    assert_eq!((error.code(), error.amount()), (ErrorCode::Overrun, stats(&channel).oldest));
    assert_eq!(slow.try_recv(&mut buffer).unwrap().unwrap().len, 4 * PART);
    reap(&stage, &channel, 1);
}

#[test]
fn damaged_names_are_told_and_free_nothing_of_others() {
    let (stage, channel, before) = log();
    let mut appender = channel.appender().unwrap();
    for number in 0..3 {
        appender.append(&long(2 * PART, number)).unwrap();
    }
    let (index, _) = appender.block_for_test();
    let good = newest(&channel, index);
    let log = channel.area.log().unwrap();
    let problems = || {
        let mut problems = Vec::new();
        check(&channel.area, &mut |what, _| problems.push(what)).unwrap();
        problems
    };
    // Places where no such record can be, in front of the block, behind it, in the middle of another record.
    let first = log.geometry.block_at(index);
    for at in [8, first - 8, first + log.geometry.block_bytes() - 8, good.at() + 8, good.at() + 4 * RECORD] {
        set_newest(&channel, index, Newest::new(at, 5).kept());
        let named = super::parcel::named(&channel.area);
        assert!(named.is_err() || named.unwrap().is_empty(), "{at}");
        appender.append(b"short").unwrap();
    }
    set_newest(&channel, index, good);
    assert!(problems().is_empty());
    // A chain that goes round, and one that leaves the block.
    let word = log.ring().word(good.at() + record::BEFORE);
    let before_word = word.load(Relaxed);
    for at in [good.at(), good.at() + RECORD, 16, u64::MAX] {
        word.store(at, Relaxed);
        assert_eq!(code(super::parcel::named(&channel.area)), ErrorCode::Corrupt, "{at}");
        channel.area.free_parcels_of_log().unwrap_err();
    }
    word.store(before_word, Relaxed);
    // A wrong length, a chunk that is none, one of another use.
    let names = log.ring().word(good.at() + record::FIRST);
    let first_word = names.load(Relaxed);
    let whole = log.ring().word(good.at() + record::WHOLE);
    for (field, value) in [
        (whole, 0),
        (whole, 2 * PART as u64 - 1),
        (whole, 2 * PART as u64 + 1),
        (whole, u64::MAX),
        (names, 0),
        (names, u64::MAX),
        (names, first_word + 1),
        (names, first_word ^ 1 << 63),
    ] {
        let was = field.load(Relaxed);
        field.store(value, Relaxed);
        let mut reader = channel.reader(ReadFrom::Position(2)).unwrap();
        assert_eq!(code(reader.try_recv(&mut Vec::new())), ErrorCode::Corrupt, "{value:#x}");
        assert!(problems().iter().any(|what| what.contains("position 2")), "{value:#x}: {:?}", problems());
        field.store(was, Relaxed);
    }
    assert!(problems().is_empty());
    assert_eq!(before - free(&stage), 6);
    let all = drain(&mut channel.reader(ReadFrom::Oldest).unwrap());
    assert_eq!(all[..3], [0, 1, 2].map(|number| (number as u64, long(2 * PART, number))));
}

#[test]
fn several_appenders_and_readers_share_long_messages() {
    let (stage, channel, before) = log();
    let opened = reopen(&stage);
    std::thread::scope(|scope| {
        for thread in [2u16, 3] {
            let channel = &channel;
            scope.spawn(move || {
                act_as(thread);
                let mut appender = channel.appender().unwrap();
                for number in 0..300 {
                    let number = number * 4 + usize::from(thread);
                    let len = [3000, PART + 5, 40, 3 * PART][number / 4 % 4];
                    let mut bytes = long(len, number);
                    bytes[..8].copy_from_slice(&(number as u64).to_le_bytes());
                    appender.append(&bytes).unwrap();
                }
            });
        }
        for thread in [4u16, 5] {
            let channel = &opened;
            scope.spawn(move || {
                act_as(thread);
                let mut reader = channel.reader(ReadFrom::Oldest).unwrap();
                let (mut met, mut buffer, mut last) = (reader.position(), Vec::new(), [0; 4]);
                while met < 600 {
                    match reader.try_recv(&mut buffer) {
                        Ok(None) => std::thread::yield_now(),
                        Ok(Some(message)) => {
                            assert_eq!(message.position, met);
                            met += 1;
                            let number = u64::from_le_bytes(buffer[..8].try_into().unwrap());
                            let whole = long(buffer.len(), number as usize);
                            assert!(buffer[8..] == whole[8..], "{number}");
                            assert!(last[number as usize % 4] < number, "in the order of its appender");
                            last[number as usize % 4] = number;
                        }
                        Err(error) => {
                            assert_eq!(error.code(), ErrorCode::Overrun, "{error}");
                            met += error.amount();
                        }
                    }
                }
                assert_eq!(met, 600);
            });
        }
    });
    let kept = super::parcel::named(&channel.area).unwrap();
    assert!(!kept.is_empty() && before > free(&stage));
    inherit(&channel.area, 2).unwrap();
    reap(&stage, &channel, 3);
}
