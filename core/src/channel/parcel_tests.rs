//! Messages that are too long for their lane: whole, in order, kept while somebody has to read them, and given back afterwards.

use std::sync::Arc;
use std::time::Duration;

use super::inherit::inherit;
use super::lane::{Next, PARCEL_WORDS, Place};
use super::layout::{FrameKind, FrameWord, LaneState, lane};
use super::testing::{Stage, act_as, channel_with, numbers};
use super::tests::{assert_sound, dies, drain};
use super::*;
use crate::chunk::{self, Loose};
use crate::error::ErrorCode;
use crate::shm::atomic::Ordering::Relaxed;

pub const CHUNKS: u32 = 64;
pub const LANE: usize = 4096;

pub fn options(kind: ChannelKind) -> ChannelOptions {
    ChannelOptions { kind, lane_bytes: LANE as u32, ..ChannelOptions::default() }
}

pub fn stage_of(options: &ChannelOptions) -> (Arc<Stage>, Channel, u32) {
    let (stage, channel) = channel_with(options, 12);
    let free = stage.give_chunks(CHUNKS).free_count();
    act_as(1);
    (stage, channel, free)
}

pub fn long(len: usize, number: usize) -> Vec<u8> {
    (0..len).map(|at| (at / 8 * 31 + at + number * 7) as u8).collect()
}

pub fn free(stage: &Stage) -> u32 {
    stage.give_chunks(CHUNKS).free_count()
}

/// The reaper's part of the pool, and that nothing is left over.
pub fn reap(stage: &Stage, channel: &Channel, thread: u16) {
    inherit(&channel.area, thread).unwrap();
    let pool = stage.give_chunks(CHUNKS);
    let named = |chunk| names_ring(&channel.area, pool.geometry().chunk_offset(chunk)).unwrap();
    chunk::inherit(pool, thread, &named).unwrap();
    let mut problems = Vec::new();
    parcel::check_taken_over(&channel.area, &mut |what, place| problems.push(format!("{place}: {what}")))
        .unwrap();
    assert!(problems.is_empty(), "{problems:?}");
    assert_sound(channel);
}

#[test]
fn messages_of_every_kind_of_length_arrive_whole_among_short_ones() {
    for (kind, timestamps) in
        [(ChannelKind::Stream, false), (ChannelKind::Broadcast, false), (ChannelKind::Broadcast, true)]
    {
        let (stage, channel, before) = stage_of(&ChannelOptions { timestamps, ..options(kind) });
        let mut subscriber = channel.subscriber().unwrap();
        let mut publisher = channel.publisher().unwrap();
        let part = (16 << 10) - crate::chunk::PARCEL_HEADER as usize;
        let most = channel.claim_len_max();
        assert!(most < LANE / 2 && channel.message_len_max() > 20 * part);
        let mut buffer = Vec::new();
        for (number, len) in [
            most,
            most + 1,
            LANE,
            part - 8,
            part - 7,
            part,
            part + 1,
            2 * part - 8,
            2 * part,
            5 * part + 3,
            channel.message_len_max(),
            0,
            1,
        ]
        .into_iter()
        .cycle()
        .take(130)
        .enumerate()
        {
            let bytes = long(len, number);
            let position = publisher.try_send(&bytes).unwrap();
            publisher.try_send(b"short").unwrap();
            let message = subscriber.try_recv(&mut buffer).unwrap().unwrap();
            assert_eq!((message.position, message.len, message.sent_ns != 0), (position, len, timestamps));
            assert!(buffer == bytes, "{len} bytes");
            subscriber.try_recv(&mut buffer).unwrap().unwrap();
            assert_eq!(buffer, b"short");
        }
        subscriber.commit().unwrap();
        assert_eq!(free(&stage), before, "what was read is given back");
        reap(&stage, &channel, 8);
    }
}

#[test]
fn what_may_not_be_long_is_refused_and_says_what_would_do() {
    let (_stage, channel, _) = stage_of(&options(ChannelKind::Stream));
    let mut publisher = channel.publisher().unwrap();
    let error = publisher.send(&vec![0; channel.message_len_max() + 1]).unwrap_err();
    assert_eq!(error.code(), ErrorCode::ValueTooLong);
    assert!(error.detail().contains(&format!("up to {} bytes", channel.message_len_max())), "{error}");
    let error = publisher.try_claim(channel.claim_len_max() + 1).err().unwrap();
    assert_eq!(error.code(), ErrorCode::ValueTooLong);
    assert!(error.detail().contains("`send` takes it"), "{error}");
}

#[test]
fn unread_long_messages_hold_their_publisher_back_and_an_idle_one_keeps_nothing() {
    let (stage, channel, before) = stage_of(&options(ChannelKind::Broadcast));
    let (mut quick, mut slow) = (channel.subscriber().unwrap(), channel.subscribe("slow").unwrap());
    let mut publisher = channel.publisher().unwrap();
    let message = long(40_000, 1);
    publisher.try_send(&message).unwrap();
    publisher.try_send(&message).unwrap();
    assert_eq!(publisher.try_send(&message).unwrap_err().code(), ErrorCode::BackPressure);
    assert_eq!(free(&stage), before - 6);
    assert_eq!(drain(&mut quick).len(), 2);
    let error = publisher.send_timeout(&message, Duration::from_millis(3)).unwrap_err();
    assert_eq!(error.code(), ErrorCode::TimedOut, "one of two has not read it");
    publisher.try_send(b"short ones go on").unwrap();
    let mut buffer = Vec::new();
    slow.try_recv(&mut buffer).unwrap().unwrap();
    assert!(buffer == message);
    assert_eq!(publisher.try_send(&message).unwrap_err().code(), ErrorCode::BackPressure, "not handled yet");
    slow.commit().unwrap();
    assert_eq!(free(&stage), before - 3, "its reader gave it back");
    publisher.try_send(&message).unwrap();
    // Who leaves, and has no name, reads no more.
    drop(quick);
    assert_eq!(free(&stage), before - 6);
    drop(slow);
    assert!(channel.unsubscribe("slow").unwrap());
    assert_eq!(free(&stage), before, "nobody is left to read them");
    // Many that are not much longer than the lane takes.
    let _reader = channel.subscriber().unwrap();
    let count = (0..100).take_while(|_| publisher.try_send(&[5; 3000]).is_ok()).count();
    assert_eq!(count, 8 * LANE / 3000);
}

#[test]
fn who_stands_still_before_a_long_message_is_ejected() {
    let eject_after = Some(Duration::from_millis(5));
    let (stage, channel, before) =
        stage_of(&ChannelOptions { eject_after, ..options(ChannelKind::Broadcast) });
    let mut stuck = channel.subscriber().unwrap();
    let mut publisher = channel.publisher().unwrap();
    for number in 0..5 {
        publisher.send_timeout(&long(20_000, number), Duration::from_secs(60)).unwrap();
    }
    assert_eq!(stuck.poll(1, |_, _| {}).unwrap_err().code(), ErrorCode::Ejected);
    assert_eq!(free(&stage), before);
}

#[test]
fn a_named_subscription_gets_a_long_message_again_that_it_had_not_handled() {
    let (stage, channel, before) = stage_of(&options(ChannelKind::Broadcast));
    act_as(2);
    let mut reader = channel.subscribe("n").unwrap();
    act_as(1);
    let mut publisher = channel.publisher().unwrap();
    let message = long(100_000, 3);
    publisher.send(&message).unwrap();
    act_as(2);
    let mut buffer = Vec::new();
    reader.try_recv(&mut buffer).unwrap().unwrap();
    assert!(buffer == message);
    dies(&stage, 2, reader);
    act_as(1);
    reap(&stage, &channel, 2);
    let mut next = channel.subscribe("n").unwrap();
    next.try_recv(&mut buffer).unwrap().unwrap();
    assert!(buffer == message);
    next.commit().unwrap();
    assert_eq!(free(&stage), before);
}

#[test]
fn without_memory_beside_what_is_unread_the_publisher_waits_for_its_readers() {
    let (stage, channel, before) = stage_of(&options(ChannelKind::Stream));
    let mut subscriber = channel.subscriber().unwrap();
    let mut publisher = channel.publisher().unwrap();
    let most = long(channel.message_len_max(), 0);
    publisher.try_send(&most).unwrap();
    assert_eq!(publisher.try_send(&most).unwrap_err().code(), ErrorCode::BackPressure);
    assert_eq!(drain(&mut subscriber).len(), 1);
    publisher.try_send(&most).unwrap();
    assert_eq!(drain(&mut subscriber).len(), 1);
    subscriber.commit().unwrap();
    // Somebody else has the memory.
    let pool = stage.give_chunks(CHUNKS);
    let me = channel.area.ground.actor().unwrap();
    let mut search = chunk::Search::default();
    let taken: Vec<_> = (0..before / 2).map(|_| pool.take_loose(me, 99, &mut search).unwrap()).collect();
    assert_eq!(publisher.try_send(&most).unwrap_err().code(), ErrorCode::Full);
    publisher.try_send(&long(20_000, 1)).unwrap();
    assert_eq!(drain(&mut subscriber).len(), 1);
    subscriber.commit().unwrap();
    taken.iter().for_each(|chunk| pool.drop_loose(me, *chunk).unwrap());
    assert_eq!(free(&stage), before, "what did not fit took nothing");
}

/// The steps of sending, and what a publisher that dies after each of them leaves.
#[test]
fn what_a_dead_publisher_did_not_publish_is_nowhere_and_what_it_did_is_whole() {
    for step in 0..4 {
        for (is_read, lane_first) in [(false, false), (true, false), (false, true)] {
            let (stage, channel, before) = stage_of(&options(ChannelKind::Stream));
            let mut subscriber = channel.subscriber().unwrap();
            act_as(2);
            let mut publisher = channel.publisher().unwrap();
            publisher.send(&long(20_000, 0)).unwrap();
            let message = long(40_000, 1);
            let area = &channel.area;
            let chunks = area.write_parcel(&[], &message).unwrap();
            let reference = area.lane_ref(publisher.lane()).unwrap().unwrap();
            let (lane, state) = (area.lane(reference).unwrap(), area.lane_state(publisher.lane()).unwrap());
            let mut head = lane.head::<false>(&*area.ground, state.generation()).unwrap();
            if step > 0 {
                lane.begin::<false>(&mut head, PARCEL_WORDS);
                area.name_parcel(lane, chunks[0], head.position, state.generation()).unwrap();
            }
            if step > 1 {
                lane.commit_parcel::<false>(&mut head, [chunks[0].word(), 40_000], false);
            }
            if step > 2 {
                stage.give_chunks(CHUNKS).keep_loose(2, chunks[1]).unwrap();
            }
            let index = publisher.lane();
            dies(&stage, 2, publisher);
            act_as(1);
            let published = step > 1;
            let sent = 1 + usize::from(published);
            if is_read {
                assert_eq!(drain(&mut subscriber).len(), sent);
            }
            if lane_first {
                // Its successor comes before the reaper.
                let mut next = channel.publisher().unwrap();
                assert_eq!(next.lane(), index);
                next.send(b"next").unwrap();
            }
            reap(&stage, &channel, 2);
            let mut next = channel.publisher().unwrap();
            assert_eq!(next.lane(), if lane_first { 0 } else { index });
            let more = next.try_send(&long(30_000, 2)).map_err(|error| error.code());
            let is_full = published && !is_read;
            assert_eq!(more.err(), is_full.then_some(ErrorCode::BackPressure), "step {step}");
            let got = drain(&mut subscriber);
            let has = |bytes: &[u8]| got.iter().any(|(_, got)| got == bytes);
            assert_eq!(has(&message), published && !is_read, "step {step}");
            assert_eq!(has(&long(20_000, 0)), !is_read);
            assert_eq!(has(b"next"), lane_first);
            subscriber.commit().unwrap();
            assert_eq!(free(&stage), before, "step {step}, read {is_read}, successor {lane_first}");
        }
    }
}

#[test]
fn a_late_helper_does_not_take_back_the_name_of_a_successors_parcel() {
    let (stage, channel, _) = stage_of(&options(ChannelKind::Stream));
    act_as(2);
    let publisher = channel.publisher().unwrap();
    let (index, seen) = (publisher.lane(), channel.area.lane_state(publisher.lane()).unwrap());
    dies(&stage, 2, publisher);
    act_as(1);
    reap(&stage, &channel, 2);
    let next = channel.publisher().unwrap();
    assert_eq!(next.lane(), index);
    // It is about to commit, and a helper that proved the dead one dead wakes up.
    let area = &channel.area;
    let chunks = area.write_parcel(&[], &long(20_000, 0)).unwrap();
    let lane = area.lane(area.lane_ref(index).unwrap().unwrap()).unwrap();
    let state: LaneState = area.lane_state(index).unwrap();
    let head = lane.head::<false>(&*area.ground, state.generation()).unwrap();
    area.name_parcel(lane, chunks[0], head.position, state.generation()).unwrap();
    area.settle_parcel(lane, seen).unwrap();
    assert_eq!(lane.parcel_word().load(Relaxed), chunks[0].word());
    area.settle_parcel(lane, state).unwrap();
    assert_eq!(lane.parcel_word().load(Relaxed), 0, "that of its own state it does");
}

#[test]
fn what_a_dead_publisher_published_is_kept_when_its_lane_is_taken_over_and_not_before() {
    let (stage, channel, before) = stage_of(&options(ChannelKind::Stream));
    let mut subscriber = channel.subscriber().unwrap();
    act_as(2);
    let publisher = channel.publisher().unwrap();
    let message = long(40_000, 1);
    let area = &channel.area;
    let chunks = area.write_parcel(&[], &message).unwrap();
    let lane = area.lane(area.lane_ref(publisher.lane()).unwrap().unwrap()).unwrap();
    let state = area.lane_state(publisher.lane()).unwrap();
    let mut head = lane.head::<false>(&*area.ground, state.generation()).unwrap();
    lane.begin::<false>(&mut head, PARCEL_WORDS);
    area.name_parcel(lane, chunks[0], head.position, state.generation()).unwrap();
    lane.commit_parcel::<false>(&mut head, [chunks[0].word(), 40_000], false);
    dies(&stage, 2, publisher);
    act_as(1);
    // The next one of the lane publishes a long message of its own before the reaper comes to the chunks.
    let mut next = channel.publisher().unwrap();
    next.send(&long(20_000, 2)).unwrap();
    let pool = stage.give_chunks(CHUNKS);
    assert!(pool.lane_chunks(area.object()).unwrap().len() >= 5, "all are kept");
    reap(&stage, &channel, 2);
    let got = drain(&mut subscriber);
    assert!(got.len() == 2 && got[0].1 == message && got[1].1 == long(20_000, 2));
    subscriber.commit().unwrap();
    assert_eq!(free(&stage), before);
}

fn lossy() -> ChannelOptions {
    ChannelOptions { overrun: OverrunPolicy::Overrun, ..options(ChannelKind::Broadcast) }
}

/// What a reader gets of a lossy channel, and how much it is told that it lost.
fn read_on(subscriber: &mut Subscriber) -> (Vec<Vec<u8>>, u64) {
    let (mut got, mut lost, mut buffer) = (Vec::new(), 0, Vec::new());
    loop {
        match subscriber.try_recv(&mut buffer) {
            Ok(Some(_)) => got.push(buffer.clone()),
            Ok(None) => return (got, lost),
            Err(error) if error.code() == ErrorCode::Overrun => lost += error.amount(),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_slow_reader_of_a_lossy_channel_loses_long_messages_one_by_one_and_counts_them() {
    for timestamps in [false, true] {
        let (stage, channel, before) = stage_of(&ChannelOptions { timestamps, ..lossy() });
        let (mut quick, mut slow) = (channel.subscriber().unwrap(), channel.subscribe("slow").unwrap());
        let mut publisher = channel.publisher().unwrap();
        assert!(channel.message_len_max() > 100_000);
        for number in 0..20 {
            publisher.try_send(&long(40_000, number)).unwrap();
            publisher.try_send(&[number as u8]).unwrap();
            let (got, lost) = read_on(&mut quick);
            assert_eq!((got.len(), lost), (2, 0));
            assert!(got[0] == long(40_000, number), "message {number}");
        }
        assert_eq!(free(&stage), before - 6, "two are kept for the slow one");
        let (got, lost) = read_on(&mut slow);
        assert_eq!(lost, 18);
        let expected: Vec<_> = (0..20u8).map(|number| vec![number]).collect();
        let short: Vec<_> = got.iter().filter(|bytes| bytes.len() == 1).cloned().collect();
        assert_eq!(short, expected, "none of the short ones is lost");
        assert!(got[18] == long(40_000, 18) && got[20] == long(40_000, 19));
        slow.commit().unwrap();
        assert_eq!(free(&stage), before);
        reap(&stage, &channel, 8);
    }
}

#[test]
fn a_lapped_reader_counts_long_and_short_messages_alike() {
    let (stage, channel, before) = stage_of(&lossy());
    let mut subscriber = channel.subscriber().unwrap();
    let mut publisher = channel.publisher().unwrap();
    for number in 0..600 {
        let len = if number % 3 == 0 { 3000 } else { 40 };
        publisher.try_send(&long(len, number)).unwrap();
    }
    let (got, lost) = read_on(&mut subscriber);
    assert!(lost > 300 && !got.is_empty());
    assert_eq!(got.len() as u64 + lost, 600);
    assert!(*got.last().unwrap() == long(40, 599));
    subscriber.commit().unwrap();
    assert_eq!(free(&stage), before);
}

#[test]
fn a_copy_whose_chunks_went_to_another_use_meanwhile_counts_for_nothing() {
    let (stage, channel, _) = stage_of(&lossy());
    let mut publisher = channel.publisher().unwrap();
    publisher.try_send(&long(40_000, 1)).unwrap();
    let _reader = channel.subscriber().unwrap();
    publisher.try_send(&long(40_000, 2)).unwrap();
    let area = &channel.area;
    let lane = area.lane(area.lane_ref(0).unwrap().unwrap()).unwrap();
    let words = [lane.parcel_word().load(Relaxed), 40_000];
    let mut copy = Vec::new();
    assert_eq!(area.copy_parcel(words, &mut copy).unwrap(), Some(40_000));
    // The first chunk stands still, the last is another's already.
    let pool = stage.give_chunks(CHUNKS);
    let first = Loose::from_word(words[0]).unwrap();
    let second =
        Loose::from_word(pool.loose_span(first).unwrap().unwrap().u64(0).unwrap().load(Relaxed)).unwrap();
    pool.give_back_loose(second).unwrap();
    assert_eq!(area.copy_parcel(words, &mut copy).unwrap(), None);
    let taken = pool.take_loose(area.ground.actor().unwrap(), 99, &mut chunk::Search::default()).unwrap();
    assert_eq!(area.copy_parcel(words, &mut copy).unwrap(), None, "{taken:?}");
}

#[test]
fn the_name_of_a_parcel_that_may_have_been_overwritten_is_not_followed() {
    let (_stage, channel, _) = stage_of(&lossy());
    let _reader = channel.subscriber().unwrap();
    channel.publisher().unwrap().send(&long(40_000, 1)).unwrap();
    let area = &channel.area;
    let lane = area.lane(area.lane_ref(0).unwrap().unwrap()).unwrap();
    let mut scratch = Vec::new();
    let next = lane.next::<true>(&*area.ground, Place::default(), &mut scratch).unwrap();
    assert!(matches!(next, Next::Parcel { words: [_, 40_000], behind: Place { position: 32, messages: 1 } }));
    // Its producer has announced that it goes round.
    let entry = area.shm.block::<64>(area.shape.lane(0)).unwrap();
    entry.u64::<{ lane::INTENT }>().store(LANE as u64 + 8, Relaxed);
    assert_eq!(lane.next::<true>(&*area.ground, Place::default(), &mut scratch).unwrap(), Next::Lapped);
}

#[test]
fn a_reader_that_long_messages_overtake_gets_whole_ones_or_is_told() {
    const SENT: u64 = 4000;
    let (stage, channel, before) = stage_of(&lossy());
    let mut subscriber = channel.subscriber().unwrap();
    let (mut got, mut lost) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            act_as(2);
            let mut publisher = channel.publisher().unwrap();
            for number in 0..SENT {
                publisher.try_send(&[number as u8; 15_000]).unwrap();
            }
        });
        let mut buffer = Vec::new();
        while got + lost < SENT {
            match subscriber.try_recv(&mut buffer) {
                Ok(None) => std::thread::yield_now(),
                Ok(Some(_)) => {
                    let number = (got + lost) as u8;
                    assert!(
                        buffer.len() == 15_000 && buffer.iter().all(|byte| *byte == number),
                        "{got} {lost}"
                    );
                    got += 1;
                }
                Err(error) if error.code() == ErrorCode::Overrun => lost += error.amount(),
                Err(error) => panic!("{error}"),
            }
        }
    });
    assert_eq!(got + lost, SENT);
    subscriber.commit().unwrap();
    assert_eq!(free(&stage), before);
    assert_sound(&channel);
}

#[test]
fn who_comes_back_to_a_name_is_told_a_loss_that_its_predecessor_did_not_come_to_tell() {
    let (stage, channel, _) = stage_of(&lossy());
    act_as(2);
    let mut reader = channel.subscribe("n").unwrap();
    act_as(1);
    let mut publisher = channel.publisher().unwrap();
    publisher.send(b"first").unwrap();
    for number in 0..3 {
        publisher.send(&long(40_000, number)).unwrap();
    }
    act_as(2);
    // What it hands out comes first; it is killed before the next call.
    let mut got = Vec::new();
    reader.poll(10, |_, bytes| got.push(bytes.to_vec())).unwrap();
    assert_eq!(got, [b"first"]);
    let error = reader.poll(10, |_, _| {}).unwrap_err();
    assert_eq!((error.code(), error.amount()), (ErrorCode::Overrun, 1));
    dies(&stage, 2, reader);
    act_as(1);
    reap(&stage, &channel, 2);
    let (got, lost) = read_on(&mut channel.subscribe("n").unwrap());
    assert_eq!((got.len(), lost), (2, 1));
}

#[test]
fn a_dead_publisher_of_a_lossy_lane_has_counted_its_long_messages() {
    for step in 1..3 {
        let (stage, channel, before) = stage_of(&lossy());
        let mut subscriber = channel.subscriber().unwrap();
        act_as(2);
        let mut publisher = channel.publisher().unwrap();
        publisher.send(b"one").unwrap();
        let area = &channel.area;
        let chunks = area.write_parcel(&[], &long(40_000, 1)).unwrap();
        let lane = area.lane(area.lane_ref(publisher.lane()).unwrap().unwrap()).unwrap();
        let state = area.lane_state(publisher.lane()).unwrap();
        let mut head = lane.head::<true>(&*area.ground, state.generation()).unwrap();
        lane.begin::<true>(&mut head, PARCEL_WORDS);
        area.name_parcel(lane, chunks[0], head.position, state.generation()).unwrap();
        if step > 1 {
            // It has committed the frame, and has not come to count it or to move its tail.
            for (at, word) in [(8, 1), (16, chunks[0].word()), (24, 40_000)] {
                lane.ring().word(head.position + at).store(word, Relaxed);
            }
            let word = FrameWord::new(32, FrameKind::Parcel, head.position);
            lane.ring().word(head.position).store(word.0, Relaxed);
        }
        dies(&stage, 2, publisher);
        act_as(1);
        reap(&stage, &channel, 2);
        channel.publisher().unwrap().send(b"last").unwrap();
        let (got, lost) = read_on(&mut subscriber);
        assert_eq!((got.len(), lost), (if step > 1 { 3 } else { 2 }, 0));
        subscriber.commit().unwrap();
        assert_eq!(free(&stage), before);
        reap(&stage, &channel, 8);
    }
}

#[test]
fn without_memory_a_lossy_lane_gives_up_what_it_has_unread() {
    let (stage, channel, _) = stage_of(&lossy());
    let _slow = channel.subscribe("slow").unwrap();
    let mut publisher = channel.publisher().unwrap();
    let most = long(channel.message_len_max(), 0);
    for _ in 0..3 {
        publisher.try_send(&most).unwrap();
    }
    let pool = stage.give_chunks(CHUNKS);
    let (me, mut search) = (channel.area.ground.actor().unwrap(), chunk::Search::default());
    while pool.take_loose(me, 99, &mut search).is_ok() {}
    publisher.try_send(&most).unwrap();
    while pool.take_loose(me, 99, &mut search).is_ok() {}
    let longer = long(channel.message_len_max(), 1);
    publisher.try_send(&longer[..longer.len() - 40_000]).unwrap();
    let free_chunks = free(&stage);
    while pool.take_loose(me, 99, &mut search).is_ok() {}
    assert!(free(&stage) < free_chunks);
    publisher.try_send(b"short ones go on").unwrap();
}

#[test]
fn any_content_of_a_parcel_gives_an_error_and_never_a_panic() {
    let mut next = numbers();
    let (mut errors, mut whole) = (0, 0);
    for _ in 0..400 {
        let (stage, channel, _) = stage_of(&options(ChannelKind::Broadcast));
        let mut subscriber = channel.subscribe("s").unwrap();
        let mut publisher = channel.publisher().unwrap();
        publisher.send(&long(40_000, 0)).unwrap();
        publisher.send(&long(20_000, 1)).unwrap();
        let pool = stage.give_chunks(CHUNKS);
        let lane = channel.area.lane(channel.area.lane_ref(0).unwrap().unwrap()).unwrap();
        for _ in 0..1 + next() % 3 {
            let value = match next() % 5 {
                0 => next(),
                1 => u64::MAX - next() % 64,
                2 => next() % (1 << 18),
                3 => lane.parcel_word().load(Relaxed),
                _ => next() % u64::from(CHUNKS + 2),
            };
            let word = lane.parcel_word().load(Relaxed);
            let chunk = Loose::from_word(if next().is_multiple_of(2) { word } else { next() % 8 + 1 });
            let span = chunk.and_then(|chunk| pool.loose_span(chunk).ok().flatten());
            match (next() % 4, span) {
                (0, _) => lane.parcel_word().store(value, Relaxed),
                (1, _) => lane.ring().word(next() % 48).store(value, Relaxed),
                (_, Some(span)) => span.u64(next() % 5 * 8).unwrap().store(value, Relaxed),
                _ => {}
            }
        }
        for _ in 0..4 {
            match subscriber.poll(1, |_, _| {}) {
                Ok(count) => whole += count,
                Err(_) => errors += 1,
            }
            errors += usize::from(publisher.try_send(&[1; 5000]).is_err());
        }
        let _ = check(&channel.area, &mut |_, _| errors += 1);
        let _ = check_taken_over(&channel.area, &mut |_, _| errors += 1);
        errors += usize::from(inherit(&channel.area, 1).is_err());
        errors += usize::from(names_ring(&channel.area, 1 << 16).is_err());
        errors += usize::from(channel.publisher().is_err());
    }
    assert!(errors > 400 && whole > 100, "{errors} {whole}");
}
