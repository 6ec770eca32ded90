//! What readers of a log are handed out and told, and names that go from one holder to the next.

use std::time::Duration;

use super::testing::reopen;
use super::tests::{MINUTE, assert_sound, code, dies, drain, small, stats, texts};
use crate::channel::inherit::inherit;
use crate::channel::layout::SubKind;
use crate::channel::testing::act_as;
use crate::channel::*;
use crate::error::ErrorCode;

#[test]
fn a_reader_that_is_too_slow_is_told_exactly_what_it_lost_and_goes_on_with_the_oldest() {
    let (_stage, channel) = small(OverrunPolicy::Overrun);
    let mut appender = channel.appender().unwrap();
    let mut named = channel.named_reader("slow", ReadFrom::Oldest).unwrap();
    let mut plain = channel.reader(ReadFrom::Oldest).unwrap();
    let (mut sent, mut buffer) = (0u64, Vec::new());
    for len in [10usize, 300, 1500, 0, 40] {
        for _ in 0..5000 {
            appender.append(&vec![len as u8; len]).unwrap();
            sent += 1;
        }
        let oldest = stats(&channel).oldest;
        for reader in [&mut named, &mut plain] {
            let at = reader.position();
            assert_eq!(reader.lag().unwrap(), sent - at);
            let error = reader.try_recv(&mut buffer).unwrap_err();
            assert_eq!((error.code(), error.amount()), (ErrorCode::Overrun, oldest - at));
            let rest = drain(reader);
            assert_eq!((rest[0].0, rest.len() as u64), (oldest, sent - oldest));
            assert!(rest.iter().all(|(_, bytes)| bytes.len() == len));
        }
    }
    assert_sound(&channel);
}

#[test]
fn messages_in_front_of_a_loss_are_handed_out_before_it_is_told() {
    let (_stage, channel) = small(OverrunPolicy::Overrun);
    let mut appender = channel.appender().unwrap();
    for _ in 0..10 {
        appender.append(b"first").unwrap();
    }
    let mut reader = channel.reader(ReadFrom::Oldest).unwrap();
    let mut taken = 0;
    let polled = reader.poll(100, |_, _| {
        taken += 1;
        if taken == 3 {
            for _ in 0..9000 {
                appender.append(b"later").unwrap();
            }
        }
    });
    assert_eq!((polled.unwrap(), taken), (3, 3));
    let error = reader.poll(100, |_, _| {}).unwrap_err();
    assert_eq!((error.code(), error.amount()), (ErrorCode::Overrun, stats(&channel).oldest - 3));
    assert_eq!(drain(&mut reader)[0].0, stats(&channel).oldest);
}

#[test]
fn a_loss_behind_what_was_handed_out_is_told_once_to_whoever_goes_on_with_the_name() {
    for is_killed in [false, true] {
        let (stage, channel) = small(OverrunPolicy::Overrun);
        let mut appender = channel.appender().unwrap();
        for _ in 0..10 {
            appender.append(b"first").unwrap();
        }
        act_as(2);
        let mut reader = channel.named_reader("n", ReadFrom::Oldest).unwrap();
        let mut taken = 0;
        let polled = reader.poll(100, |_, _| {
            taken += 1;
            if taken == 3 {
                act_as(1);
                for _ in 0..9000 {
                    appender.append(b"later").unwrap();
                }
                act_as(2);
            }
        });
        assert_eq!((polled.unwrap(), reader.position()), (3, 3));
        if is_killed {
            reader.commit().unwrap();
            dies(&stage, 2, reader);
            inherit(&channel.area, 2).unwrap();
        } else {
            drop(reader);
        }
        act_as(3);
        let mut reader = channel.named_reader("n", ReadFrom::Oldest).unwrap();
        assert_eq!(reader.position(), 3);
        let oldest = stats(&channel).oldest;
        let error = reader.poll(100, |_, _| {}).unwrap_err();
        assert_eq!((error.code(), error.amount()), (ErrorCode::Overrun, oldest - 3));
        drop(reader);
        let mut reader = channel.named_reader("n", ReadFrom::Oldest).unwrap();
        assert_eq!(drain(&mut reader)[0].0, oldest);
        act_as(1);
    }
}

#[test]
fn a_named_reader_goes_on_exactly_where_it_was() {
    let (stage, channel) = small(OverrunPolicy::Overrun);
    act_as(2);
    let mut appender = channel.appender().unwrap();
    for number in 0..10u8 {
        appender.append(&[number]).unwrap();
    }
    let mut reader = channel.named_reader("n", ReadFrom::Oldest).unwrap();
    assert_eq!(code(channel.named_reader("n", ReadFrom::Oldest)), ErrorCode::SubscriptionInUse);
    assert_eq!(reader.poll(4, |_, _| {}).unwrap(), 4);
    drop(reader);
    // Handled, for it was closed in order.
    let mut reader = channel.named_reader("n", ReadFrom::Newest).unwrap();
    assert_eq!(reader.position(), 4);
    assert_eq!(reader.poll(2, |_, _| {}).unwrap(), 2);
    assert_eq!(reader.poll(2, |_, _| {}).unwrap(), 2);
    // Killed: what was handed out last was not handled.
    dies(&stage, 2, reader);
    act_as(3);
    let mut reader = channel.named_reader("n", ReadFrom::Newest).unwrap();
    assert_eq!(reader.position(), 6);
    assert_eq!(reader.poll(1, |_, _| {}).unwrap(), 1);
    reader.unread().unwrap();
    assert_eq!(reader.position(), 6);
    assert_eq!(drain(&mut reader).len(), 4);
    reader.seek(ReadFrom::Position(1)).unwrap();
    assert_eq!(drain(&mut reader)[0].0, 1);
    reader.seek(ReadFrom::Oldest).unwrap();
    assert_eq!(reader.position(), 0);
    assert_eq!(code(reader.seek(ReadFrom::Position(11))), ErrorCode::PositionAhead);
    reader.seek(ReadFrom::Newest).unwrap();
    let info = &stats(&channel).readers[0];
    assert_eq!((info.name.as_str(), info.held, info.position, info.lag), ("n", true, 10, 0));
    drop(reader);
    assert!(channel.unsubscribe("n").unwrap());
    assert_eq!(stats(&channel).readers, []);
    drop(appender);
    inherit(&channel.area, 2).unwrap();
    assert_sound(&channel);
}

#[test]
fn a_reader_that_goes_back_on_a_blocking_log_is_kept_there() {
    let (_stage, channel) = small(OverrunPolicy::Block);
    let mut appender = channel.appender().unwrap();
    for _ in 0..100 {
        appender.append(&[1; 1000]).unwrap();
    }
    let mut reader = channel.named_reader("n", ReadFrom::Newest).unwrap();
    reader.seek(ReadFrom::Position(20)).unwrap();
    let error = (0..1000).find_map(|_| appender.append(&[2; 1000]).err()).unwrap();
    assert_eq!((error.code(), error.amount()), (ErrorCode::LogFull, 20));
    assert_eq!(drain(&mut reader)[0].0, 20);
}

#[test]
fn a_waiting_reader_is_woken_and_one_that_waits_in_vain_is_told() {
    let (stage, channel) = small(OverrunPolicy::Overrun);
    let mut reader = channel.reader(ReadFrom::Newest).unwrap();
    let mut buffer = Vec::new();
    assert!(reader.recv(&mut buffer, Some(Duration::from_millis(5))).unwrap().is_none());
    std::thread::scope(|scope| {
        let other = reopen(&stage);
        scope.spawn(move || {
            let mut appender = other.appender().unwrap();
            for number in 0..200u64 {
                if number % 20 == 0 {
                    std::thread::sleep(Duration::from_millis(2));
                }
                appender.append(&number.to_le_bytes()).unwrap();
            }
        });
        for number in 0..200u64 {
            let message = reader.recv(&mut buffer, MINUTE).unwrap().expect("within a minute");
            assert_eq!((message.position, buffer.as_slice()), (number, number.to_le_bytes().as_slice()));
        }
    });
}

#[test]
fn an_ejected_reader_that_stood_still_moves_nobody_elses_position() {
    let (_stage, channel) = small(OverrunPolicy::Overrun);
    let mut appender = channel.appender().unwrap();
    for _ in 0..10 {
        appender.append(b"x").unwrap();
    }
    let mut stopped = channel.named_reader("old", ReadFrom::Oldest).unwrap();
    let id = stats(&channel).readers[0].id;
    assert_eq!(stopped.poll(3, |_, _| {}).unwrap(), 3);
    let (before, late) = stopped.late_words();
    assert!(channel.eject(id).unwrap());
    let other = channel.named_reader("new", ReadFrom::Oldest).unwrap();
    assert_eq!(stats(&channel).readers[0].id, id, "it has the entry of the one that was ejected");
    // What the stopped one was about to do.
    assert!(!channel.area.show_reader(id, before, late).unwrap());
    assert_eq!(stats(&channel).readers[0].position, 0);
    assert_eq!(code(stopped.commit()), ErrorCode::Ejected);
    drop(other);
    // The same holds for the next holder of one name.
    let again = channel.named_reader("new", ReadFrom::Oldest).unwrap();
    assert!(!channel.area.show_reader(id, before, late).unwrap());
    assert_eq!(again.position(), 0);
}

#[test]
fn a_late_helper_leaves_a_reader_that_came_back_to_a_thread_with_the_same_entry() {
    let (_stage, channel) = small(OverrunPolicy::Block);
    let area = &channel.area;
    channel.appender().unwrap().append(b"one").unwrap();
    act_as(2);
    let mut reader = channel.named_reader("n", ReadFrom::Oldest).unwrap();
    let id = stats(&channel).readers[0].id;
    // A helper has looked at it, is about to take it for that of a dead thread, and stops here.
    let seen = area.sub_state(id).unwrap();
    let place = area.reader_place(id).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            act_as(3);
            reader.commit().unwrap();
        });
    });
    reader.commit().unwrap();
    assert_eq!(area.sub_state(id).unwrap().owner(), seen.owner());
    assert!(!area.release_sub(id, seen).unwrap());
    // Nor is there a word any more that an earlier holder could change.
    assert!(!area.show_reader(id, place, place).unwrap());
    assert_eq!(texts(&mut reader), ["one"]);
    // It also comes back after its thread ended, and then nobody else has the name.
    inherit(area, 2).unwrap();
    assert!(area.sub_state(id).unwrap().is(SubKind::Away));
    let away = area.sub_state(id).unwrap();
    reader.commit().unwrap();
    assert_ne!(area.sub_state(id).unwrap().generation(), away.generation());
    assert_eq!(code(channel.named_reader("n", ReadFrom::Oldest)), ErrorCode::SubscriptionInUse);
    assert_sound(&channel);
}
