//! Messages that are too long for their lane: whole, in order, kept while somebody has to read them, and given back afterwards.

use std::sync::Arc;
use std::time::Duration;

use super::inherit::inherit;
use super::lane::PARCEL_WORDS;
use super::layout::LaneState;
use super::testing::{Stage, act_as, channel_with};
use super::tests::{assert_sound, dies, drain};
use super::*;
use crate::chunk::{self, Loose};
use crate::error::ErrorCode;
use crate::shm::atomic::Ordering::Relaxed;

const CHUNKS: u32 = 64;
const LANE: usize = 4096;

fn options(kind: ChannelKind) -> ChannelOptions {
    ChannelOptions { kind, lane_bytes: LANE as u32, ..ChannelOptions::default() }
}

fn stage_of(options: &ChannelOptions) -> (Arc<Stage>, Channel, u32) {
    let (stage, channel) = channel_with(options, 8);
    let free = stage.give_chunks(CHUNKS).free_count();
    act_as(1);
    (stage, channel, free)
}

fn long(len: usize, number: usize) -> Vec<u8> {
    (0..len).map(|at| (at / 8 * 31 + at + number * 7) as u8).collect()
}

fn free(stage: &Stage) -> u32 {
    stage.give_chunks(CHUNKS).free_count()
}

/// The reaper's part of the pool, and that nothing is left over.
fn reap(stage: &Stage, channel: &Channel, thread: u16) {
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
        let part = (16 << 10) - parcel::HEADER as usize;
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
    let lossy = ChannelOptions { overrun: OverrunPolicy::Overrun, ..options(ChannelKind::Broadcast) };
    for options in [lossy, options(ChannelKind::Queue)] {
        let (_stage, channel, _) = stage_of(&options);
        assert_eq!(channel.message_len_max(), channel.claim_len_max());
        let error = channel.publisher().unwrap().send(&[0; 3000]).unwrap_err();
        assert_eq!(error.code(), ErrorCode::ValueTooLong);
        assert!(error.detail().contains("policy"), "{error}");
    }
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
    let taken: Vec<_> = (0..before / 2).map(|_| pool.take_loose(me, 99).unwrap()).collect();
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
                area.name_parcel(lane, chunks[0], head.position, 40_000, state.generation()).unwrap();
            }
            if step > 1 {
                lane.commit_parcel(&mut head, [chunks[0].word(), 40_000]);
            }
            if step > 2 {
                stage.give_chunks(CHUNKS).keep_loose(area.ground.actor().unwrap(), chunks[1]).unwrap();
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
    area.name_parcel(lane, chunks[0], head.position, 20_000, state.generation()).unwrap();
    area.drop_unsent_parcel(lane, seen).unwrap();
    assert_eq!(lane.parcel_word().load(Relaxed), chunks[0].word());
    area.drop_unsent_parcel(lane, state).unwrap();
    assert_eq!(lane.parcel_word().load(Relaxed), 0, "that of its own state it does");
}

#[test]
fn any_content_of_a_parcel_gives_an_error_and_never_a_panic() {
    let mut random = 0x2545f4914f6cdd1du64;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
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
            let chunk = Loose::from_word(if next() % 2 == 0 { word } else { next() % 8 + 1 });
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
