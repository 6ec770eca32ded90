//! One log on a stage of its own: what each call promises, and what the dead leave.

use std::time::Duration;

use super::layout::{BYTES_MIN, PUBLISHERS_MAX};
use super::testing::{log_with, reopen};
use crate::channel::inherit::inherit;
use crate::channel::layout::LaneKind;
use crate::channel::testing::{Stage, act_as};
use crate::channel::*;
use crate::error::ErrorCode;

pub const MINUTE: Option<Duration> = Some(Duration::from_secs(60));

pub fn small(overrun: OverrunPolicy) -> (Arc<Stage>, Channel) {
    log_with(overrun, Retention { bytes: BYTES_MIN, age: None })
}

#[track_caller]
pub fn assert_sound(channel: &Channel) {
    let mut problems = Vec::new();
    check(&channel.area, &mut |what, place| problems.push(format!("{place}: {what}"))).unwrap();
    check_taken_over(&channel.area, &mut |what, place| problems.push(format!("{place}: {what}"))).unwrap();
    assert!(problems.is_empty(), "{problems:?}");
}

/// The thread `thread` is killed: its handles run no destructor any more.
pub fn dies<T>(stage: &Stage, thread: u16, handles: T) {
    stage.kill(thread);
    std::mem::forget(handles);
}

/// Everything that can be read now.
pub fn drain(reader: &mut LogReader) -> Vec<(u64, Vec<u8>)> {
    let mut all = Vec::new();
    while reader.poll(100, |message, bytes| all.push((message.position, bytes.to_vec()))).unwrap() > 0 {}
    all
}

pub fn texts(reader: &mut LogReader) -> Vec<String> {
    drain(reader).into_iter().map(|(_, bytes)| String::from_utf8(bytes).unwrap()).collect()
}

pub fn stats(channel: &Channel) -> LogStats {
    channel.stats().unwrap().log.unwrap()
}

pub fn code<T>(result: crate::error::Result<T>) -> ErrorCode {
    result.err().expect("an error").code()
}

#[test]
fn messages_of_every_length_come_back_whole_in_their_order_over_many_laps() {
    let (_stage, channel) = small(OverrunPolicy::Overrun);
    let mut appender = channel.appender().unwrap();
    let mut reader = channel.reader(ReadFrom::Oldest).unwrap();
    let mut buffer = Vec::new();
    let mut position = 0;
    assert_eq!(channel.message_len_max(), (BYTES_MIN / 128) as usize - 24);
    for round in 0..6 {
        for len in 0..=channel.message_len_max() {
            let bytes: Vec<u8> = (0..len).map(|at| (at * 31 + len + round) as u8).collect();
            assert_eq!(appender.append(&bytes).unwrap(), position);
            let message = reader.try_recv(&mut buffer).unwrap().unwrap();
            assert_eq!((message.position, message.len, message.time_ms), (position, len, 0));
            assert!(buffer == bytes, "length {len}");
            position += 1;
        }
        assert_sound(&channel);
    }
    assert!(reader.try_recv(&mut buffer).unwrap().is_none());
    assert!(stats(&channel).oldest > 0, "it was trimmed");
    assert_eq!(channel.reader(ReadFrom::Newest).unwrap().position(), position);
}

#[test]
fn all_appenders_share_one_order_and_every_reader_sees_it() {
    let (_stage, channel) = small(OverrunPolicy::Overrun);
    let mut appenders: Vec<_> = (0..5).map(|_| channel.appender().unwrap()).collect();
    let mut early = channel.named_reader("early", ReadFrom::Newest).unwrap();
    for number in 0..200u64 {
        let appender = &mut appenders[(number * 7 % 5) as usize];
        assert_eq!(appender.append(&number.to_le_bytes()).unwrap(), number);
    }
    let expected: Vec<_> = (0..200u64).map(|number| (number, number.to_le_bytes().to_vec())).collect();
    assert_eq!(drain(&mut early), expected);
    assert_eq!(drain(&mut channel.reader(ReadFrom::Oldest).unwrap()), expected);
    assert_eq!(drain(&mut channel.reader(ReadFrom::Position(150)).unwrap()), expected[150..]);
    assert_eq!(drain(&mut channel.reader(ReadFrom::Newest).unwrap()), []);
    drop(appenders);
    assert_sound(&channel);
    assert_eq!(stats(&channel).end, 200);
}

#[test]
fn a_message_too_long_a_position_trimmed_or_ahead_and_another_kind_are_told_apart() {
    let (_stage, channel) = small(OverrunPolicy::Overrun);
    let mut appender = channel.appender().unwrap();
    let error = appender.append(&vec![0; channel.message_len_max() + 1]).unwrap_err();
    assert_eq!(error.code(), ErrorCode::ValueTooLong);
    assert!(error.to_string().contains(&channel.message_len_max().to_string()), "{error}");
    for _ in 0..1000 {
        appender.append(&[1; 1000]).unwrap();
    }
    let oldest = stats(&channel).oldest;
    assert!(oldest > 500 && oldest < 1000, "{oldest}");
    let error = channel.reader(ReadFrom::Position(oldest - 1)).err().unwrap();
    assert_eq!((error.code(), error.amount()), (ErrorCode::PositionTrimmed, oldest));
    assert!(error.to_string().contains(&oldest.to_string()), "{error}");
    let error = channel.named_reader("n", ReadFrom::Position(1001)).err().unwrap();
    assert_eq!((error.code(), error.amount()), (ErrorCode::PositionAhead, 1000));
    assert_eq!(channel.reader(ReadFrom::Position(1000)).unwrap().position(), 1000);
    assert_eq!(stats(&channel).readers, [], "who was refused holds nothing");
    assert_eq!(code(channel.publisher()), ErrorCode::WrongKind);
    assert_eq!(code(channel.subscriber()), ErrorCode::WrongKind);
    assert_eq!(code(channel.subscribe("s")), ErrorCode::WrongKind);
    assert_eq!(code(channel.consumer()), ErrorCode::WrongKind);
    let (_stage, stream) =
        crate::channel::testing::channel(ChannelKind::Stream, OverrunPolicy::Block, 4096, 1);
    assert_eq!(code(stream.appender()), ErrorCode::WrongKind);
    assert_eq!(code(stream.reader(ReadFrom::Oldest)), ErrorCode::WrongKind);
    assert_eq!(code(stream.named_reader("n", ReadFrom::Oldest)), ErrorCode::WrongKind);
    assert_eq!(stream.stats().unwrap().log, None);
}

#[test]
fn options_that_cannot_be_are_refused_and_the_rest_is_filled_in() {
    let log = ChannelOptions { kind: ChannelKind::Log, ..ChannelOptions::default() };
    let with = |retention| ChannelOptions { retention: Some(retention), ..log.clone() };
    for bad in [
        with(Retention { bytes: 1000, age: None }),
        with(Retention { bytes: BYTES_MIN / 2, age: None }),
        with(Retention { bytes: 2 << 30, age: None }),
        with(Retention { age: Some(Duration::ZERO), ..Retention::default() }),
        with(Retention { age: Some(Duration::from_micros(1500)), ..Retention::default() }),
        with(Retention { age: Some(Duration::from_secs(1 << 40)), ..Retention::default() }),
        ChannelOptions { kind: ChannelKind::Stream, ..with(Retention::default()) },
        ChannelOptions { timestamps: true, ..log.clone() },
    ] {
        assert_eq!(settle_options("l", &bad).unwrap_err().code(), ErrorCode::InvalidArgument, "{bad:?}");
    }
    let settled = settle_options("l", &ChannelOptions { lane_bytes: 1 << 20, ..log.clone() }).unwrap();
    assert_eq!(settled, with(Retention::default()));
    let age = Some(Duration::from_millis(1500));
    let (_stage, made) = log_with(OverrunPolicy::Overrun, Retention { bytes: BYTES_MIN, age });
    assert_eq!(made.options().retention, Some(Retention { bytes: BYTES_MIN, age }));
}

#[test]
fn a_blocking_log_is_full_when_a_named_reader_has_not_read_and_goes_on_when_it_has() {
    for len in [0, 500] {
        let (_stage, channel) = small(OverrunPolicy::Block);
        let mut appender = channel.appender().unwrap();
        let message = vec![7; len];
        let mut fill = || {
            for sent in 0..100_000u64 {
                if let Err(error) = appender.append(&message) {
                    return (sent, error);
                }
            }
            panic!("it never fills");
        };
        let mut reader = channel.named_reader("keeper", ReadFrom::Oldest).unwrap();
        let (sent, error) = fill();
        assert_eq!((error.code(), error.amount()), (ErrorCode::LogFull, 0));
        assert!(error.to_string().contains("`keeper`"), "{error}");
        assert!(sent > 300, "{sent}");
        assert_eq!(stats(&channel).oldest, 0);
        assert_eq!(drain(&mut reader).len() as u64, sent);
        reader.commit().unwrap();
        let (more, error) = fill();
        assert_eq!((error.code(), error.amount()), (ErrorCode::LogFull, sent));
        assert!(more > 300, "{more}");
        // Away it keeps as much, until it is ended.
        drop(reader);
        assert_eq!(fill().0, 0);
        assert_eq!(drain(&mut channel.named_reader("keeper", ReadFrom::Oldest).unwrap()).len() as u64, more);
        assert!(fill().0 > 300);
        assert!(channel.unsubscribe("keeper").unwrap());
        // Readers without a name keep nothing.
        let _plain = channel.reader(ReadFrom::Oldest).unwrap();
        for _ in 0..10_000 {
            appender.append(&message).unwrap();
        }
        drop(appender);
        assert_sound(&channel);
    }
}

#[test]
fn who_trims_after_a_look_at_the_readers_fails_when_one_came_meanwhile() {
    let (_stage, channel) = small(OverrunPolicy::Block);
    let mut appender = channel.appender().unwrap();
    for _ in 0..50 {
        appender.append(b"x").unwrap();
    }
    let seen = channel.area.log().unwrap().oldest();
    let reader = channel.named_reader("n", ReadFrom::Position(5)).unwrap();
    // A publisher that stood still since then.
    channel.area.move_oldest(seen, 30).unwrap();
    assert_eq!(stats(&channel).oldest, 0);
    assert_eq!(code(channel.area.trim_to(30, 30)), ErrorCode::LogFull);
    assert_eq!(channel.area.trim_to(4, 30).unwrap(), 5);
    drop(reader);
}

#[test]
fn a_loss_after_the_joins_came_round_is_told_exactly() {
    let (_stage, channel) = small(OverrunPolicy::Block);
    let mut appender = channel.appender().unwrap();
    for _ in 0..50 {
        appender.append(b"x").unwrap();
    }
    let seen = channel.area.log().unwrap().oldest();
    let mut reader = channel.named_reader("n", ReadFrom::Position(5)).unwrap();
    // Fewer than all that the word can count: who stood still fails.
    for _ in 0..1 << 12 {
        channel.area.reader_joined().unwrap();
    }
    channel.area.move_oldest(seen, 30).unwrap();
    assert_eq!(stats(&channel).oldest, 0);
    while channel.area.log().unwrap().oldest() != seen {
        channel.area.reader_joined().unwrap();
    }
    channel.area.move_oldest(seen, 30).unwrap();
    let lost = reader.poll(100, |_, _| {}).unwrap_err();
    assert_eq!((lost.code(), lost.amount()), (ErrorCode::Overrun, 25));
    assert_eq!(drain(&mut reader).len(), 20);
    assert_sound(&channel);
}

#[test]
fn what_is_too_old_is_trimmed_and_nothing_else() {
    for (age, all) in [(Duration::from_millis(1), true), (Duration::from_secs(3600), false)] {
        let (_stage, channel) =
            log_with(OverrunPolicy::Overrun, Retention { bytes: BYTES_MIN, age: Some(age) });
        let mut appender = channel.appender().unwrap();
        for _ in 0..100 {
            appender.append(b"old").unwrap();
        }
        std::thread::sleep(Duration::from_millis(10));
        let mut reader = channel.reader(ReadFrom::Oldest).unwrap();
        assert_eq!(reader.position(), if all { 100 } else { 0 });
        assert_eq!(appender.append(b"new").unwrap(), 100);
        if !all {
            let mut times = Vec::new();
            assert_eq!(reader.poll(200, |message, _| times.push(message.time_ms)).unwrap(), 101);
            assert!(times.is_sorted() && times[0] > 0 && times[100] >= times[0] + 10, "{times:?}");
        }
    }
}

#[test]
fn what_is_too_old_is_found_among_what_is_not() {
    // Longer than the test takes, and shorter than the host has been up when it is built.
    let age = Some(Duration::from_secs(60));
    let (_stage, channel) = log_with(OverrunPolicy::Block, Retention { bytes: BYTES_MIN, age });
    let mut appender = channel.appender().unwrap();
    let log = channel.area.log().unwrap();
    for _ in 0..1000 {
        appender.append(b"x").unwrap();
    }
    for old in [1u64, 2, 337, 338, 999, 1000] {
        for position in 0..old {
            let cell = log.cell(position);
            // As if it had been published at the start of the host.
            log.ring().word(cell.at() + 16).store(1, crate::shm::atomic::Ordering::Relaxed);
        }
        let keeper = channel.named_reader("k", ReadFrom::Oldest).unwrap();
        let at = keeper.position();
        assert_eq!(stats(&channel).oldest, at, "a named reader keeps it on a log that blocks");
        drop(keeper);
        channel.unsubscribe("k").unwrap();
        assert_eq!(stats(&channel).oldest, old);
    }
}

#[test]
fn the_dead_leave_whole_messages_and_their_blocks_are_continued() {
    let (stage, channel) = small(OverrunPolicy::Overrun);
    let mut expected = Vec::new();
    for thread in 2..200u16 {
        act_as(thread);
        let mut appender = channel.appender().unwrap();
        let text = format!("of {thread}");
        appender.append(text.as_bytes()).unwrap();
        expected.push(text);
        dies(&stage, thread, appender);
        if thread % 3 == 0 {
            inherit(&channel.area, thread).unwrap();
        }
    }
    act_as(500);
    assert_eq!(texts(&mut channel.reader(ReadFrom::Oldest).unwrap()), expected);
    let _last = channel.appender().unwrap();
    for thread in 2..200 {
        inherit(&channel.area, thread).unwrap();
    }
    assert_sound(&channel);
}

#[test]
fn those_who_come_and_go_share_a_block() {
    let (_stage, channel) = small(OverrunPolicy::Overrun);
    for _ in 0..100 {
        channel.appender().unwrap().append(b"short").unwrap();
    }
    let used = (0..channel.area.log().unwrap().geometry.blocks)
        .filter(|index| channel.area.look_at_block(*index).unwrap().1 > 0);
    assert!(used.count() <= 2);
    assert_eq!(stats(&channel).oldest, 0);
    assert_eq!(stats(&channel).bytes, 100 * 32);
}

#[test]
fn more_appenders_than_may_be_are_refused_until_one_leaves_or_dies() {
    let (stage, channel) = small(OverrunPolicy::Overrun);
    let mut all: Vec<_> = (0..PUBLISHERS_MAX).map(|_| channel.appender().unwrap()).collect();
    assert_eq!(channel.stats().unwrap().publishers, PUBLISHERS_MAX);
    assert_eq!(code(channel.appender()), ErrorCode::TooManyPublishers);
    // All of them go on, round and round.
    for round in 0..200u64 {
        for appender in &mut all {
            appender.append(&[round as u8; 900]).unwrap();
        }
    }
    all.pop();
    act_as(9);
    let other = channel.appender().unwrap();
    act_as(1);
    assert_eq!(code(channel.appender()), ErrorCode::TooManyPublishers);
    dies(&stage, 9, other);
    let _again = channel.appender().unwrap();
    drop(all);
    assert_sound(&channel);
}

#[test]
fn an_appender_moves_to_another_thread_and_on_from_one_that_ended() {
    let (stage, channel) = small(OverrunPolicy::Overrun);
    act_as(2);
    let mut appender = channel.appender().unwrap();
    let mut reader = channel.named_reader("n", ReadFrom::Oldest).unwrap();
    appender.append(b"a").unwrap();
    let (mut appender, mut reader) = std::thread::scope(|scope| {
        let channel = &channel;
        scope
            .spawn(move || {
                act_as(3);
                appender.append(b"b").unwrap();
                assert_eq!(texts(&mut reader), ["a", "b"]);
                inherit(&channel.area, 2).unwrap();
                appender.append(b"c").unwrap();
                (appender, reader)
            })
            .join()
            .unwrap()
    });
    // The thread ended, and its block was taken from it; another continued it.
    stage.kill(3);
    inherit(&channel.area, 3).unwrap();
    act_as(4);
    let mut other = channel.appender().unwrap();
    other.append(b"d").unwrap();
    appender.append(b"e").unwrap();
    assert_eq!(texts(&mut reader), ["c", "d", "e"]);
    drop((appender, other));
    assert_sound(&channel);
    // Another goes on with the name: the old handle learns it.
    drop(reader);
    let mut reader = channel.named_reader("n", ReadFrom::Oldest).unwrap();
    let id = stats(&channel).readers[0].id;
    assert!(channel.eject(id).unwrap());
    assert_eq!(code(reader.poll(1, |_, _| {})), ErrorCode::Ejected);
    assert_eq!(code(reader.commit()), ErrorCode::Ejected);
}

#[test]
fn a_batch_is_appended_in_order_and_an_error_says_how_far_it_came() {
    let (_stage, channel) = small(OverrunPolicy::Overrun);
    let mut appender = channel.appender().unwrap();
    let batch: Vec<Vec<u8>> = (0..50u8).map(|number| vec![number; number as usize]).collect();
    assert_eq!(appender.append_all(batch.iter().map(Vec::as_slice)).unwrap(), Some(49));
    assert_eq!(appender.append_all([]).unwrap(), None);
    let long = vec![0; channel.message_len_max() + 1];
    let error = appender.append_all([b"one".as_slice(), b"two", &long, b"four"]).unwrap_err();
    assert_eq!((error.code(), error.amount()), (ErrorCode::ValueTooLong, 2));
    let all = drain(&mut channel.reader(ReadFrom::Oldest).unwrap());
    assert_eq!(all.len(), 52);
    assert!(all.iter().zip(&batch).all(|((_, bytes), sent)| bytes == sent));
    assert_eq!(all[51].1, b"two");
}

#[test]
fn a_record_that_was_written_and_not_published_is_nowhere() {
    let (stage, channel) = small(OverrunPolicy::Overrun);
    act_as(2);
    let mut appender = channel.appender().unwrap();
    appender.append(b"there").unwrap();
    let block =
        (0..112).find(|index| channel.area.look_at_block(*index).unwrap().0.is(LaneKind::Live)).unwrap();
    let entry = channel.area.log().unwrap().entry(&stage.shm, block).unwrap();
    // As after `log.publish.before`.
    entry.u64::<8>().store(64, crate::shm::atomic::Ordering::Relaxed);
    entry.u64::<16>().store(2, crate::shm::atomic::Ordering::Relaxed);
    dies(&stage, 2, appender);
    inherit(&channel.area, 2).unwrap();
    act_as(3);
    let mut reader = channel.reader(ReadFrom::Oldest).unwrap();
    assert_eq!(texts(&mut reader), ["there"]);
    // Its block is begun anew though it says a position that nobody published: nothing behind the end is trimmed.
    let mut choice = channel.area.take_block(3, 2000, false).unwrap();
    while choice.index != block {
        channel.area.close_block(choice.index, choice.state).unwrap();
        choice = channel.area.take_block(3, 2048, false).unwrap();
        if choice.index != block {
            let used = channel.area.log().unwrap().entry(&stage.shm, choice.index).unwrap();
            used.u64::<8>().store(2048, crate::shm::atomic::Ordering::Relaxed);
            used.u64::<16>().store(9, crate::shm::atomic::Ordering::Relaxed);
        }
    }
    assert_eq!(stats(&channel).oldest, 1);
    assert!(reader.try_recv(&mut Vec::new()).unwrap().is_none());
    assert_eq!(channel.appender().unwrap().append(b"next").unwrap(), 1);
    assert_eq!(texts(&mut reader), ["next"]);
}

#[test]
fn a_late_compare_and_swap_of_a_stopped_publisher_is_nothing_or_whole() {
    let (_stage, channel) = small(OverrunPolicy::Overrun);
    let log = channel.area.log().unwrap();
    let cells = log.geometry.cells();
    let mut appender = channel.appender().unwrap();
    // What it saw before it stopped: the cell of position 3 was free, or of the lap before.
    let late = |position: u64, seen: super::layout::Cell| {
        log.cell_word(position)
            .compare_exchange(
                seen.0,
                super::layout::Cell::new(log.geometry.lap(position), log.geometry.block_at(111)).0,
                crate::shm::atomic::Ordering::AcqRel,
                crate::shm::atomic::Ordering::Relaxed,
            )
            .is_ok()
    };
    let free = log.cell(3);
    for _ in 0..5 {
        appender.append(b"x").unwrap();
    }
    assert!(!late(3, free), "another has the position");
    let lap = log.cell(3);
    for _ in 5..cells + 5 {
        appender.append(b"x").unwrap();
    }
    assert!(!late(3, free) && !late(cells + 3, lap), "laps later as well");
    assert_sound(&channel);
}

#[test]
fn the_end_is_found_however_far_it_is() {
    let (_stage, channel) = small(OverrunPolicy::Overrun);
    let mut appender = channel.appender().unwrap();
    let log = channel.area.log().unwrap();
    for end in 0..10_000u64 {
        if end < 70 || end % 777 < 2 {
            for from in [0, end / 2, end.saturating_sub(1), end] {
                assert_eq!(log.end(from), end, "from {from}");
            }
        }
        appender.append(b"").unwrap();
    }
}

#[test]
fn a_log_comes_to_its_last_position_with_an_error() {
    let (_stage, channel) = small(OverrunPolicy::Overrun);
    let log = channel.area.log().unwrap();
    let (cells, max) = (log.geometry.cells(), log.geometry.position_max());
    // As if all positions but three were used.
    for position in max - 3 - cells..max - 3 {
        let cell = super::layout::Cell::new(log.geometry.lap(position), log.geometry.block_at(0));
        log.cell_word(position).store(cell.0, crate::shm::atomic::Ordering::Relaxed);
    }
    log.oldest_word().store(max - 3, crate::shm::atomic::Ordering::Relaxed);
    let mut reader = channel.reader(ReadFrom::Newest).unwrap();
    assert_eq!(reader.position(), max - 3);
    let mut appender = channel.appender().unwrap();
    for number in 0..3 {
        assert_eq!(appender.append(b"last").unwrap(), max - 3 + number);
    }
    assert_eq!(code(appender.append(b"beyond")), ErrorCode::Full);
    assert_eq!(code(appender.append(b"beyond")), ErrorCode::Full);
    assert_eq!(texts(&mut reader), ["last"; 3]);
    assert_eq!(code(channel.appender().unwrap().append(b"beyond")), ErrorCode::Full);
}

#[test]
fn a_log_is_waited_for_together_with_others() {
    let (_stage, channel) = small(OverrunPolicy::Overrun);
    let (_other_stage, other) = small(OverrunPolicy::Overrun);
    let mut appender = channel.appender().unwrap();
    let mut quiet = other.reader(ReadFrom::Newest).unwrap();
    let mut named = channel.named_reader("n", ReadFrom::Newest).unwrap();
    let wait = |first: &mut LogReader, second: &mut LogReader| {
        wait_any(&mut [first, second], Some(Duration::from_millis(20))).unwrap()
    };
    assert_eq!(wait(&mut quiet, &mut named), None);
    appender.append(b"x").unwrap();
    assert_eq!(wait(&mut quiet, &mut named), Some(1));
    assert_eq!(texts(&mut named), ["x"]);
    assert_eq!(wait(&mut quiet, &mut named), None);
    assert!(channel.eject(stats(&channel).readers[0].id).unwrap());
    assert_eq!(code(wait_any(&mut [&mut quiet, &mut named], None)), ErrorCode::Ejected);
}

#[test]
fn threads_share_one_order_while_readers_are_overrun() {
    let (stage, channel) = small(OverrunPolicy::Overrun);
    const EACH: u64 = 30_000;
    let histories: Vec<_> = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2).map(|_| reopen(&stage).reader(ReadFrom::Oldest).unwrap()).collect();
        for thread in 0..3u64 {
            let other = reopen(&stage);
            scope.spawn(move || {
                act_as(10 + thread as u16);
                let mut appender = other.appender().unwrap();
                for number in 0..EACH {
                    let len = (number * 7 + thread) % 90;
                    let mut bytes = vec![(number ^ thread) as u8; 16 + len as usize];
                    bytes[..8].copy_from_slice(&thread.to_le_bytes());
                    bytes[8..16].copy_from_slice(&number.to_le_bytes());
                    appender.append(&bytes).unwrap();
                }
            });
        }
        let readers: Vec<_> = readers
            .into_iter()
            .map(|mut reader| {
                scope.spawn(move || {
                    let (mut seen, mut lost) = (Vec::new(), 0);
                    while (seen.len() as u64 + lost) < 3 * EACH {
                        let polled = reader.poll(64, |message, bytes| {
                            let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
                            let (thread, number) = (word(0), word(8));
                            assert_eq!(bytes.len() as u64, 16 + (number * 7 + thread) % 90);
                            assert!(bytes[16..].iter().all(|byte| *byte == (number ^ thread) as u8));
                            seen.push((message.position, thread, number));
                        });
                        match polled {
                            Err(error) if error.code() == ErrorCode::Overrun => lost += error.amount(),
                            other => drop(other.unwrap()),
                        }
                    }
                    assert_eq!(seen.len() as u64 + lost, 3 * EACH);
                    seen
                })
            })
            .collect();
        readers.into_iter().map(|reader| reader.join().unwrap()).collect()
    });
    let mut order = std::collections::HashMap::new();
    for history in &histories {
        let mut next = [0u64; 3];
        for (position, thread, number) in history {
            assert!(*number >= next[*thread as usize], "per publisher they keep their order");
            next[*thread as usize] = number + 1;
            let known = order.entry(*position).or_insert((*thread, *number));
            assert_eq!(known, &(*thread, *number), "all readers see the same");
        }
    }
    assert_sound(&channel);
}
