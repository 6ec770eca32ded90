//! One channel on a stage of its own: what each call promises, and what the dead leave.

use std::collections::HashMap;
use std::time::Duration;

use super::inherit::inherit;
use super::layout::{LaneKind, SubKind};
use super::testing::{Stage, act_as, channel, reopen};
use super::*;
use crate::error::ErrorCode;
use crate::shm::atomic::Ordering::Relaxed;

const MINUTE: Option<Duration> = Some(Duration::from_secs(60));

pub(super) fn block(kind: ChannelKind) -> (Arc<Stage>, Channel) {
    channel(kind, OverrunPolicy::Block, 4096, 8)
}

pub(super) fn assert_sound(channel: &Channel) {
    let mut problems = Vec::new();
    check(&channel.area, &mut |what, place| problems.push(format!("{place}: {what}"))).unwrap();
    assert!(problems.is_empty(), "{problems:?}");
}

/// Everything that can be taken now.
pub(super) fn drain(subscriber: &mut Subscriber) -> Vec<(Message, Vec<u8>)> {
    let mut all = Vec::new();
    let mut buffer = Vec::new();
    while let Some(message) = subscriber.try_recv(&mut buffer).unwrap() {
        all.push((message, buffer.clone()));
    }
    all
}

pub(super) fn texts(messages: &[(Message, Vec<u8>)]) -> Vec<String> {
    messages.iter().map(|(_, bytes)| String::from_utf8(bytes.clone()).unwrap()).collect()
}

/// The thread `thread` is killed: its handles run no destructor any more.
pub(super) fn dies<T>(stage: &Stage, thread: u16, handles: T) {
    stage.kill(thread);
    std::mem::forget(handles);
}

#[test]
fn messages_of_every_length_arrive_whole_at_every_offset_of_the_ring() {
    for overrun in [OverrunPolicy::Block, OverrunPolicy::Overrun] {
        let (_stage, channel) = channel(ChannelKind::Broadcast, overrun, 4096, 1);
        let mut subscriber = channel.subscriber().unwrap();
        let mut publisher = channel.publisher().unwrap();
        let (mut last, mut buffer) = (0, Vec::new());
        for round in 0..3 {
            for len in 0..=channel.message_len_max() {
                let bytes: Vec<u8> = (0..len).map(|at| (at * 31 + len + round) as u8).collect();
                let position = publisher.send(&bytes).unwrap();
                let message = subscriber.try_recv(&mut buffer).unwrap().unwrap();
                // Two of the longest do not always fit at once.
                subscriber.commit().unwrap();
                assert_eq!((message.position, message.len, message.lane), (position, len, publisher.lane()));
                assert!(buffer == bytes, "length {len}");
                assert!(position > last);
                last = position;
            }
        }
        assert!(subscriber.try_recv(&mut buffer).unwrap().is_none());
        assert_sound(&channel);
    }
}

#[test]
fn a_message_that_is_too_long_is_refused_and_nothing_is_lost() {
    let (_stage, channel) = block(ChannelKind::Stream);
    let mut publisher = channel.publisher().unwrap();
    let error = publisher.send(&vec![0; channel.message_len_max() + 1]).unwrap_err();
    assert_eq!(error.code(), ErrorCode::ValueTooLong);
    assert!(error.to_string().contains(&channel.message_len_max().to_string()), "{error}");
    publisher.send(b"short").unwrap();
    assert_eq!(texts(&drain(&mut channel.subscriber().unwrap())), ["short"]);
}

#[test]
fn a_full_lane_refuses_or_times_out_and_has_room_again_once_the_place_moves() {
    let (_stage, channel) = block(ChannelKind::Broadcast);
    let mut subscriber = channel.subscriber().unwrap();
    let mut publisher = channel.publisher().unwrap();
    let mut sent = 0;
    while publisher.try_send(&[7; 100]).is_ok() {
        sent += 1;
    }
    assert_eq!(sent, 36, "4096 bytes hold 36 frames of 112 bytes and the word behind them");
    assert_eq!(publisher.try_send(&[8; 100]).unwrap_err().code(), ErrorCode::BackPressure);
    let error = publisher.send_timeout(&[8; 100], Duration::from_millis(3)).unwrap_err();
    assert_eq!(error.code(), ErrorCode::TimedOut);
    let taken = subscriber.poll(1000, |_, bytes| assert_eq!(bytes, [7; 100])).unwrap();
    assert_eq!(taken, 32, "a call ends after a quarter of the ring and 32 messages");
    assert_eq!(publisher.try_send(&[8; 100]).unwrap_err().code(), ErrorCode::BackPressure, "not handled yet");
    subscriber.commit().unwrap();
    publisher.try_send(&[8; 100]).unwrap();
    assert_eq!(drain(&mut subscriber).len(), 4 + 1);
    assert_sound(&channel);
}

#[test]
fn a_stream_keeps_what_was_sent_before_its_first_subscriber_and_a_broadcast_does_not() {
    let (_stage, stream) = block(ChannelKind::Stream);
    let mut publisher = stream.publisher().unwrap();
    publisher.send(b"early").unwrap();
    assert_eq!(texts(&drain(&mut stream.subscriber().unwrap())), ["early"]);

    let (_stage, broadcast) = block(ChannelKind::Broadcast);
    let mut publisher = broadcast.publisher().unwrap();
    for _ in 0..1000 {
        publisher.try_send(b"nobody hears this").unwrap();
    }
    let mut subscriber = broadcast.subscriber().unwrap();
    publisher.send(b"late").unwrap();
    assert_eq!(texts(&drain(&mut subscriber)), ["late"]);
}

#[test]
fn a_late_joiner_gets_what_comes_after_it_and_bounds_a_publisher_that_looked_before() {
    let (_stage, channel) = block(ChannelKind::Broadcast);
    let mut publisher = channel.publisher().unwrap();
    for number in 0..20u64 {
        publisher.try_send(&number.to_le_bytes()).unwrap();
    }
    let mut subscriber = channel.subscriber().unwrap();
    let mut sent = Vec::new();
    for number in 20..2000u64 {
        if publisher.try_send(&number.to_le_bytes()).is_err() {
            break;
        }
        sent.push(number.to_le_bytes().to_vec());
    }
    assert!(sent.len() > 200 && sent.len() < 300, "{}", sent.len());
    let got: Vec<Vec<u8>> = drain(&mut subscriber).into_iter().map(|(_, bytes)| bytes).collect();
    assert!(got == sent);
}

#[test]
fn each_broadcast_subscriber_gets_each_message_of_each_publisher_in_its_order() {
    let (_stage, channel) = block(ChannelKind::Broadcast);
    let mut subscribers = [channel.subscriber().unwrap(), channel.subscribe("second").unwrap()];
    let mut publishers = [channel.publisher().unwrap(), channel.publisher().unwrap()];
    for number in 0..30 {
        for (which, publisher) in publishers.iter_mut().enumerate() {
            publisher.send(format!("{which} {number}").as_bytes()).unwrap();
        }
    }
    for subscriber in &mut subscribers {
        let got = texts(&drain(subscriber));
        for which in ["0", "1"] {
            let of_one: Vec<&String> = got.iter().filter(|text| text.starts_with(which)).collect();
            assert_eq!(of_one.len(), 30);
            assert!(of_one.iter().enumerate().all(|(number, text)| text.ends_with(&format!(" {number}"))));
        }
    }
}

#[test]
fn a_claim_is_seen_after_commit_only_and_its_parts_land_where_they_belong() {
    let (_stage, channel) = block(ChannelKind::Stream);
    let mut publisher = channel.publisher().unwrap();
    let mut subscriber = channel.subscriber().unwrap();
    let text: Vec<u8> = (0..61).collect();
    for cut in 0..text.len() {
        for second in [cut, (cut + 3).min(61), (cut + 17).min(61)] {
            let mut claim = publisher.claim(text.len()).unwrap();
            claim.write(second, &text[second..]).unwrap();
            claim.write(cut, &text[cut..second]).unwrap();
            claim.write(0, &text[..cut]).unwrap();
            assert!(drain(&mut subscriber).is_empty());
            assert!(claim.write(60, &[1, 2]).is_err() && claim.write(usize::MAX, &[1]).is_err());
            claim.commit().unwrap();
            let got = drain(&mut subscriber);
            assert!(got.len() == 1 && got[0].1 == text, "cut at {cut} and {second}");
        }
        publisher.claim(8).unwrap().abort();
        publisher.try_claim(300).unwrap().abort();
    }
    assert!(drain(&mut subscriber).is_empty());
}

#[test]
fn a_killed_named_subscriber_sees_its_last_batch_again_with_equal_positions() {
    for kind in [ChannelKind::Broadcast, ChannelKind::Stream] {
        let (stage, channel) = block(kind);
        act_as(2);
        let mut first = channel.subscribe("worker").unwrap();
        act_as(1);
        let mut publisher = channel.publisher().unwrap();
        for number in 0..10 {
            publisher.send(format!("{number}").as_bytes()).unwrap();
        }
        let error = channel.subscribe("worker").err().unwrap();
        assert_eq!(error.code(), ErrorCode::SubscriptionInUse);
        act_as(2);
        let mut seen = Vec::new();
        assert_eq!(first.poll(4, |message, bytes| seen.push((*message, bytes.to_vec()))).unwrap(), 4);
        assert_eq!(first.poll(3, |message, bytes| seen.push((*message, bytes.to_vec()))).unwrap(), 3);
        dies(&stage, 2, first);
        act_as(3);
        let mut second = reopen(&stage).subscribe("worker").unwrap();
        let again = drain(&mut second);
        assert_eq!(texts(&again), ["4", "5", "6", "7", "8", "9"]);
        assert_eq!(again[..3], seen[4..], "the batch that was not followed by another call");
        drop(second);
        publisher.send(b"away").unwrap();
        assert_eq!(texts(&drain(&mut channel.subscribe("worker").unwrap())), ["away"]);
        assert_sound(&channel);
    }
}

#[test]
fn a_dead_anonymous_subscriber_blocks_nobody_even_before_it_is_reaped() {
    for kind in [ChannelKind::Broadcast, ChannelKind::Stream] {
        let (stage, channel) = block(kind);
        act_as(2);
        let subscriber = channel.subscriber().unwrap();
        act_as(1);
        let mut publisher = channel.publisher().unwrap();
        while publisher.try_send(&[1; 64]).is_ok() {}
        dies(&stage, 2, subscriber);
        publisher.try_send(&[1; 64]).unwrap();
        for _ in 0..1000 {
            publisher.send(&[1; 64]).unwrap();
        }
        assert!(channel.subscriptions().unwrap().is_empty());
        assert_sound(&channel);
    }
}

#[test]
fn a_publisher_that_waits_goes_on_when_its_dead_subscriber_is_met() {
    let (stage, channel) = block(ChannelKind::Broadcast);
    act_as(2);
    let subscriber = channel.subscriber().unwrap();
    act_as(1);
    let mut publisher = channel.publisher().unwrap();
    while publisher.try_send(&[1; 64]).is_ok() {}
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| publisher.send(&[2; 64]));
        std::thread::sleep(Duration::from_millis(20));
        assert!(!sender.is_finished(), "its subscriber lives");
        dies(&stage, 2, subscriber);
        sender.join().unwrap().unwrap();
    });
}

#[test]
fn an_away_named_subscription_holds_publishers_back_until_it_is_ended() {
    let (stage, channel) = block(ChannelKind::Broadcast);
    act_as(2);
    let subscriber = channel.subscribe("slow").unwrap();
    act_as(1);
    assert_eq!(channel.unsubscribe("slow").unwrap_err().code(), ErrorCode::SubscriptionInUse);
    dies(&stage, 2, subscriber);
    let mut publisher = channel.publisher().unwrap();
    while publisher.try_send(&[1; 64]).is_ok() {}
    let listed = channel.subscriptions().unwrap();
    assert_eq!((listed.len(), listed[0].name.as_str(), listed[0].held), (1, "slow", false));
    assert!(listed[0].lag_bytes > 3000);
    assert!(channel.unsubscribe("slow").unwrap() && !channel.unsubscribe("slow").unwrap());
    for _ in 0..100 {
        publisher.try_send(&[1; 64]).unwrap();
    }
    assert_eq!(channel.subscribe("../x").err().unwrap().code(), ErrorCode::InvalidName);
}

#[test]
fn an_ejected_subscriber_blocks_nobody_and_is_told() {
    let (_stage, channel) = block(ChannelKind::Broadcast);
    let mut stuck = channel.subscriber().unwrap();
    let mut publisher = channel.publisher().unwrap();
    while publisher.try_send(&[1; 64]).is_ok() {}
    stuck.poll(1, |_, _| {}).unwrap();
    assert!(channel.eject(stuck.id()).unwrap() && !channel.eject(stuck.id()).unwrap());
    assert!(!channel.eject(u32::MAX).unwrap());
    for _ in 0..100 {
        publisher.try_send(&[2; 64]).unwrap();
    }
    assert_eq!(
        stuck.poll(10, |_, _| panic!("nothing of it is its own")).unwrap_err().code(),
        ErrorCode::Ejected
    );
    assert_eq!(stuck.recv(&mut Vec::new(), MINUTE).unwrap_err().code(), ErrorCode::Ejected);
    drop(stuck);
    assert_sound(&channel);
}

#[test]
fn a_lane_of_a_dead_publisher_is_drained_and_continued_behind_its_last_whole_frame() {
    for overrun in [OverrunPolicy::Block, OverrunPolicy::Overrun] {
        for committed in [false, true] {
            let (stage, channel) = channel(ChannelKind::Broadcast, overrun, 4096, 1);
            act_as(1);
            let mut subscriber = channel.subscriber().unwrap();
            act_as(2);
            let mut publisher = channel.publisher().unwrap();
            for _ in 0..36 {
                publisher.send(&[b'a'; 100]).unwrap();
                drain(&mut subscriber);
            }
            // Its last moments: padding if need be, payload written, the word perhaps stored, the tail not.
            let lane = channel.area.lane_ref(publisher.lane()).unwrap().unwrap();
            let entry = channel.area.shm.block::<192>(lane.entry).unwrap();
            let mut claim = publisher.claim(100).unwrap();
            claim.write(0, &[b'b'; 100]).unwrap();
            let (tail, count) = (entry.u64::<64>().load(Relaxed), entry.u64::<72>().load(Relaxed));
            if committed {
                claim.commit().unwrap();
                entry.u64::<64>().store(tail, Relaxed);
                entry.u64::<72>().store(count, Relaxed);
            } else {
                claim.abort();
            }
            dies(&stage, 2, publisher);
            act_as(3);
            inherit(&channel.area, 2).unwrap();
            inherit(&channel.area, 2).unwrap();
            assert!(channel.area.lane_state(0).unwrap().is(LaneKind::Closed));
            assert_eq!(
                entry.u64::<64>().load(Relaxed) > tail,
                committed,
                "the tail is behind the last whole frame"
            );
            let mut late = channel.subscriber().unwrap();
            let mut next = channel.publisher().unwrap();
            assert_eq!(next.lane(), 0, "it goes on with the lane");
            next.send(b"c").unwrap();
            let expected: &[&[u8]] = if committed { &[&[b'b'; 100], b"c"] } else { &[b"c"] };
            let got: Vec<Vec<u8>> = drain(&mut subscriber).into_iter().map(|(_, bytes)| bytes).collect();
            assert!(got == expected, "{overrun:?} committed {committed}: {} messages", got.len());
            assert_eq!(texts(&drain(&mut late)), ["c"], "whoever joined after the death sees nothing old");
            assert_sound(&channel);
        }
    }
}

#[test]
fn what_a_thread_held_when_it_died_while_taking_or_joining_is_free_again() {
    let (stage, channel) = block(ChannelKind::Broadcast);
    let area = &channel.area;
    let taking = super::layout::LaneState::new(LaneKind::Taking, 0, 2, 1);
    let joining = super::layout::SubState::new(SubKind::Joining, 0, 2, 1);
    assert!(area.change_lane(0, super::layout::LaneState(0), taking).unwrap());
    assert!(area.change_sub(0, super::layout::SubState(0), joining).unwrap());
    stage.kill(2);
    inherit(area, 2).unwrap();
    assert!(area.lane_state(0).unwrap().is(LaneKind::Free) && area.sub_state(0).unwrap().is(SubKind::Free));
    // With the ring named it is a lane.
    assert!(area.change_lane(0, area.lane_state(0).unwrap(), taking).unwrap());
    let ring = area.ground.take_ring(1, 4096).unwrap();
    area.ring_word(0).unwrap().store(ring, Relaxed);
    inherit(area, 2).unwrap();
    assert!(area.lane_state(0).unwrap().is(LaneKind::Closed));
    assert!(names_ring(area, ring + 4095).unwrap() && !names_ring(area, ring + 4096).unwrap());
    assert_sound(&channel);
}

#[test]
fn many_short_lived_publishers_share_few_lanes_and_their_messages_stay() {
    let (_stage, channel) = block(ChannelKind::Stream);
    let mut last = 0;
    for number in 0..100u64 {
        let position = channel.publisher().unwrap().send(&number.to_le_bytes()).unwrap();
        assert!(position > last);
        last = position;
    }
    assert_eq!(channel.stats().unwrap().lanes, 1);
    assert_eq!(drain(&mut channel.subscriber().unwrap()).len(), 100);
}

#[test]
fn a_channel_keeps_as_many_rings_as_it_had_publishers_at_once() {
    let (stage, channel) = channel(ChannelKind::Stream, OverrunPolicy::Block, 4096, 5);
    for _ in 0..20 {
        let mut crowd: Vec<Publisher> = (0..5).map(|_| channel.publisher().unwrap()).collect();
        for publisher in &mut crowd {
            publisher.send(b"x").unwrap();
        }
    }
    // The dead count only until a publisher comes that needs their lane: there is no room for a sixth ring.
    for thread in 2..40 {
        act_as(thread);
        let mut publisher = channel.publisher().unwrap();
        publisher.send(b"y").unwrap();
        dies(&stage, thread, publisher);
    }
    act_as(1);
    assert_eq!(channel.stats().unwrap().lanes, 5);
    let mut subscriber = channel.subscriber().unwrap();
    assert_eq!(drain(&mut subscriber).len(), 20 * 5 + 38, "nobody's death or end took a message away");
    for thread in 2..40 {
        inherit(&channel.area, thread).unwrap();
    }
    assert_sound(&channel);
}

#[test]
fn all_lanes_taken_by_live_publishers_is_an_error_and_so_are_all_subscriptions() {
    let (_stage, channel) = channel(ChannelKind::Broadcast, OverrunPolicy::Block, 4096, 64);
    let publishers: Vec<Publisher> = (0..64).map(|_| channel.publisher().unwrap()).collect();
    assert_eq!(channel.publisher().err().unwrap().code(), ErrorCode::TooManyPublishers);
    drop(publishers);
    channel.publisher().unwrap();
    let subscribers: Vec<Subscriber> = (0..32).map(|_| channel.subscriber().unwrap()).collect();
    assert_eq!(channel.subscriber().err().unwrap().code(), ErrorCode::TooManySubscribers);
    assert_eq!(channel.subscribe("x").err().unwrap().code(), ErrorCode::TooManySubscribers);
    drop(subscribers);
    channel.subscribe("x").unwrap();
}

#[test]
fn no_room_for_a_ring_is_an_error_that_leaves_the_lane_free() {
    let (_stage, channel) = channel(ChannelKind::Broadcast, OverrunPolicy::Block, 4096, 1);
    let publisher = channel.publisher().unwrap();
    assert_eq!(channel.publisher().err().unwrap().code(), ErrorCode::Full);
    drop(publisher);
    channel.publisher().unwrap();
    assert_sound(&channel);
}

#[test]
fn an_overrun_is_told_once_with_the_exact_number_and_reading_goes_on_behind_it() {
    for lens in [vec![48usize], vec![0, 300, 7, 496]] {
        let (_stage, channel) = channel(ChannelKind::Broadcast, OverrunPolicy::Overrun, 4096, 1);
        let mut subscriber = channel.subscribe("s").unwrap();
        let mut publisher = channel.publisher().unwrap();
        let mut sent = 0u64;
        let (mut next, mut lost, mut told) = (0u64, 0u64, 0);
        for burst in [3u64, 500, 1, 60, 2000, 90, 10, 4] {
            for _ in 0..burst {
                let mut bytes = sent.to_le_bytes().to_vec();
                bytes.resize(8 + lens[sent as usize % lens.len()].min(488), 9);
                publisher.send(&bytes).unwrap();
                sent += 1;
            }
            let mut buffer = Vec::new();
            loop {
                match subscriber.try_recv(&mut buffer) {
                    Ok(Some(_)) => {
                        assert_eq!(u64::from_le_bytes(buffer[..8].try_into().unwrap()), next);
                        next += 1;
                    }
                    Ok(None) => break,
                    Err(error) => {
                        assert_eq!(error.code(), ErrorCode::Overrun);
                        assert!(error.amount() > 0);
                        lost += error.amount();
                        next += error.amount();
                        told += 1;
                    }
                }
            }
            assert_eq!(next, sent, "every message was either seen or counted as lost");
        }
        assert!(lost > 1000 && (2..=4).contains(&told), "{lost} lost, told {told} times");
        assert_sound(&channel);
    }
}

#[test]
fn a_named_subscription_that_was_lapped_while_away_learns_exactly_what_it_lost() {
    let (stage, channel) = channel(ChannelKind::Broadcast, OverrunPolicy::Overrun, 4096, 1);
    act_as(2);
    let mut first = channel.subscribe("s").unwrap();
    act_as(1);
    let mut publisher = channel.publisher().unwrap();
    for number in 0..10u64 {
        publisher.send(&number.to_le_bytes()).unwrap();
    }
    act_as(2);
    first.poll(4, |_, _| {}).unwrap();
    first.commit().unwrap();
    dies(&stage, 2, first);
    act_as(1);
    for number in 10..100_000u64 {
        publisher.send(&number.to_le_bytes()).unwrap();
    }
    for killed_while_jumping in [true, false] {
        let mut again = channel.subscribe("s").unwrap();
        let error = again.try_recv(&mut Vec::new()).unwrap_err();
        assert_eq!(error.code(), ErrorCode::Overrun);
        if killed_while_jumping {
            // It died between its mark and the new count.
            let stand = channel.area.place(again.id(), 0).unwrap();
            let (position, handled) = (stand.u64::<0>(), stand.u64::<8>());
            position.store((4 * 24) | 1, Relaxed);
            handled.store(super::layout::Count::new(4, 4 * 24).0, Relaxed);
            act_as(3);
            let mut other = channel.subscribe("other").unwrap();
            other.commit().unwrap();
            act_as(1);
            std::mem::forget(again);
            stage.kill(1);
            act_as(4);
            continue;
        }
        let rest = drain(&mut again);
        let first = u64::from_le_bytes(rest[0].1.as_slice().try_into().unwrap());
        assert_eq!(error.amount(), first - 4);
        assert_eq!(rest.len() as u64, 100_000 - first);
    }
}

#[test]
fn a_reader_that_dies_between_the_two_stores_of_its_place_is_found_behind_its_batch() {
    let (_stage, channel) = channel(ChannelKind::Broadcast, OverrunPolicy::Overrun, 4096, 1);
    let mut subscriber = channel.subscribe("s").unwrap();
    let mut publisher = channel.publisher().unwrap();
    for number in 0..10u64 {
        publisher.send(&number.to_le_bytes()).unwrap();
    }
    subscriber.poll(4, |_, _| {}).unwrap();
    let index = subscriber.id();
    drop(subscriber);
    channel.area.place(index, 0).unwrap().u64::<0>().store(0, Relaxed);
    let rest = drain(&mut channel.subscribe("s").unwrap());
    assert_eq!(rest.len(), 6);
    assert_eq!(rest[0].1, 4u64.to_le_bytes());
}

#[test]
fn a_publisher_and_a_subscriber_may_move_to_other_threads() {
    let (_stage, channel) = block(ChannelKind::Broadcast);
    act_as(1);
    let mut publisher = channel.publisher().unwrap();
    let mut subscriber = channel.subscriber().unwrap();
    publisher.send(b"one").unwrap();
    let channel = &channel;
    std::thread::scope(|scope| {
        scope
            .spawn(move || {
                act_as(2);
                publisher.send(b"two").unwrap();
                assert_eq!(channel.area.lane_state(publisher.lane()).unwrap().owner(), 2);
                assert_eq!(texts(&drain(&mut subscriber)), ["one", "two"]);
                assert_eq!(channel.area.sub_state(subscriber.id()).unwrap().owner(), 2);
                inherit(&channel.area, 1).unwrap();
                publisher.send(b"three").unwrap();
                assert_eq!(texts(&drain(&mut subscriber)), ["three"]);
            })
            .join()
            .unwrap();
    });
    assert!(channel.subscriptions().unwrap().is_empty());
}

#[test]
fn handles_whose_thread_detached_go_on_elsewhere_or_say_so() {
    let (_stage, channel) = block(ChannelKind::Broadcast);
    act_as(2);
    let mut publisher = channel.publisher().unwrap();
    let mut named = channel.subscribe("n").unwrap();
    let mut anonymous = channel.subscriber().unwrap();
    publisher.send(b"one").unwrap();
    inherit(&channel.area, 2).unwrap();
    act_as(3);
    let mut other = channel.publisher().unwrap();
    assert_eq!(other.lane(), publisher.lane(), "the closed lane was taken by another");
    other.send(b"two").unwrap();
    publisher.send(b"three").unwrap();
    assert_ne!(other.lane(), publisher.lane());
    let mut got = texts(&drain(&mut named));
    got.sort();
    assert_eq!(got, ["one", "three", "two"]);
    assert_eq!(anonymous.try_recv(&mut Vec::new()).unwrap_err().code(), ErrorCode::Ejected);
    assert_sound(&channel);
}

#[test]
fn a_handle_does_not_come_back_to_a_name_that_another_has_held_meanwhile() {
    for overrun in [OverrunPolicy::Block, OverrunPolicy::Overrun] {
        for still_held in [true, false] {
            let (_stage, channel) = channel(ChannelKind::Broadcast, overrun, 4096, 1);
            act_as(1);
            let mut publisher = channel.publisher().unwrap();
            act_as(2);
            let mut first = channel.subscribe("n").unwrap();
            publisher.send(b"one").unwrap();
            assert_eq!(texts(&drain(&mut first)), ["one"]);
            inherit(&channel.area, 2).unwrap();
            // The next thread has the entry of the one that detached.
            let mut second = channel.subscribe("n").unwrap();
            publisher.send(b"two").unwrap();
            assert_eq!(texts(&drain(&mut second)).last().unwrap(), "two");
            if still_held {
                act_as(3);
                std::thread::scope(|scope| {
                    let stale = scope.spawn(|| {
                        act_as(3);
                        first.try_recv(&mut Vec::new()).unwrap_err().code()
                    });
                    assert_eq!(stale.join().unwrap(), ErrorCode::Ejected);
                });
                act_as(2);
                publisher.send(b"three").unwrap();
                assert_eq!(texts(&drain(&mut second)), ["three"], "its holder lives and keeps it");
            } else {
                drop(second);
                assert_eq!(first.try_recv(&mut Vec::new()).unwrap_err().code(), ErrorCode::Ejected);
            }
            assert_sound(&channel);
        }
    }
}

#[test]
fn a_handler_that_panics_gets_the_message_again() {
    let (_stage, channel) = block(ChannelKind::Stream);
    let mut publisher = channel.publisher().unwrap();
    let mut subscriber = channel.subscriber().unwrap();
    for text in ["one", "two", "three"] {
        publisher.send(text.as_bytes()).unwrap();
    }
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        subscriber.poll(9, |_, bytes| assert_ne!(bytes, b"two", "a test's own panic"))
    }));
    assert!(result.is_err());
    assert_eq!(texts(&drain(&mut subscriber)), ["two", "three"]);
}

#[test]
fn what_was_given_back_comes_again_also_to_the_next_holder_of_the_name() {
    for overrun in [OverrunPolicy::Block, OverrunPolicy::Overrun] {
        let (_stage, channel) = channel(ChannelKind::Broadcast, overrun, 4096, 1);
        let mut subscriber = channel.subscribe("s").unwrap();
        let mut publisher = channel.publisher().unwrap();
        for text in ["one", "two", "three"] {
            publisher.send(text.as_bytes()).unwrap();
        }
        let mut buffer = Vec::new();
        assert!(subscriber.try_recv(&mut buffer).unwrap().is_some());
        let first = subscriber.try_recv(&mut buffer).unwrap().unwrap();
        assert_eq!(buffer, b"two");
        subscriber.unread().unwrap();
        subscriber.commit().unwrap();
        assert_eq!(subscriber.try_recv(&mut buffer).unwrap(), Some(first));
        subscriber.unread().unwrap();
        drop(subscriber);
        let mut subscriber = channel.subscribe("s").unwrap();
        assert_eq!(texts(&drain(&mut subscriber)), ["two", "three"]);
        assert_sound(&channel);
    }
}

#[test]
fn recv_times_out_and_is_woken_by_a_message_and_by_a_new_lane() {
    let (_stage, channel) = block(ChannelKind::Broadcast);
    let mut subscriber = channel.subscriber().unwrap();
    let mut buffer = Vec::new();
    assert!(subscriber.recv(&mut buffer, Some(Duration::from_millis(2))).unwrap().is_none());
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            act_as(2);
            let mut publisher = channel.publisher().unwrap();
            for number in 0..200u64 {
                if number % 20 == 0 {
                    std::thread::sleep(Duration::from_millis(1));
                }
                publisher.send(&number.to_le_bytes()).unwrap();
            }
        });
        for number in 0..200u64 {
            let message = subscriber.recv(&mut buffer, MINUTE).unwrap().expect("in time");
            assert_eq!((message.len, buffer.as_slice()), (8, number.to_le_bytes().as_slice()));
        }
        sender.join().unwrap();
    });
}

#[test]
fn threads_that_send_and_receive_lose_nothing_while_the_lanes_are_full_most_of_the_time() {
    let (_stage, channel) = block(ChannelKind::Broadcast);
    let each = 20_000u64;
    let mut subscribers =
        [channel.subscriber().unwrap(), channel.subscribe("a").unwrap(), channel.subscribe("b").unwrap()];
    std::thread::scope(|scope| {
        for sender in 0..2u16 {
            let channel = channel.clone();
            scope.spawn(move || {
                act_as(10 + sender);
                let mut publisher = channel.publisher().unwrap();
                for number in 0..each {
                    let mut bytes = [(sender as u8), 0, 0, 0, 0, 0, 0, 0].to_vec();
                    bytes.extend(number.to_le_bytes());
                    bytes.resize(16 + (number % 40) as usize, number as u8);
                    publisher.send(&bytes).unwrap();
                }
            });
        }
        for (which, subscriber) in subscribers.iter_mut().enumerate() {
            scope.spawn(move || {
                act_as(20 + which as u16);
                let mut next = [0u64; 2];
                let mut buffer = Vec::new();
                while next != [each, each] {
                    if which == 0 {
                        subscriber.recv(&mut buffer, MINUTE).unwrap().expect("in time");
                        verify(&mut next, &buffer);
                    } else if subscriber.poll(50, |_, bytes| verify(&mut next, bytes)).unwrap() == 0 {
                        std::thread::yield_now();
                    }
                }
            });
        }
    });
    assert_sound(&channel);
}

fn verify(next: &mut [u64; 2], bytes: &[u8]) {
    let sender = bytes[0] as usize;
    let number = u64::from_le_bytes(bytes[8..16].try_into().unwrap());
    assert_eq!(number, next[sender]);
    assert!(bytes[16..].iter().all(|byte| *byte == number as u8), "torn");
    next[sender] += 1;
}

#[test]
fn threads_on_a_lossy_channel_account_for_every_message() {
    let (_stage, channel) = channel(ChannelKind::Broadcast, OverrunPolicy::Overrun, 4096, 2);
    let each = 100_000u64;
    let mut subscriber = channel.subscriber().unwrap();
    std::thread::scope(|scope| {
        for sender in 0..2u16 {
            let channel = channel.clone();
            scope.spawn(move || {
                act_as(10 + sender);
                let mut publisher = channel.publisher().unwrap();
                for number in 0..each {
                    let mut bytes = number.to_le_bytes().to_vec();
                    bytes.resize(8 + (number % 300) as usize, number as u8);
                    publisher.send(&bytes).unwrap();
                    if number % 1000 == 0 {
                        std::thread::yield_now();
                    }
                }
            });
        }
        let mut next: HashMap<u32, u64> = HashMap::new();
        let (mut seen, mut lost) = (0, 0);
        while seen + lost < 2 * each {
            let result = subscriber.poll(100, |message, bytes| {
                let number = u64::from_le_bytes(bytes[..8].try_into().unwrap());
                let next = next.entry(message.lane).or_insert(0);
                assert!(number >= *next, "order");
                assert!(bytes[8..].iter().all(|byte| *byte == number as u8), "torn");
                *next = number + 1;
                seen += 1;
            });
            match result {
                Ok(0) => std::thread::yield_now(),
                Ok(_) => {}
                Err(error) => {
                    assert_eq!(error.code(), ErrorCode::Overrun);
                    lost += error.amount();
                }
            }
        }
        assert_eq!(seen + lost, 2 * each);
        assert!(seen > 0);
    });
}

#[test]
fn many_threads_that_want_one_name_get_it_one_at_a_time() {
    let (_stage, channel) = block(ChannelKind::Broadcast);
    for round in 0..50 {
        let name = format!("n{}", round % 8);
        let start = std::sync::Barrier::new(4);
        let held: Vec<Option<Subscriber>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4u16)
                .map(|thread| {
                    let (channel, name, start) = (&channel, &name, &start);
                    scope.spawn(move || {
                        act_as(10 + thread);
                        start.wait();
                        match channel.subscribe(name) {
                            Ok(subscriber) => Some(subscriber),
                            Err(error) => {
                                assert_eq!(error.code(), ErrorCode::SubscriptionInUse);
                                None
                            }
                        }
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(held.iter().flatten().count(), 1, "round {round}");
        assert_sound(&channel);
    }
    assert_eq!(channel.subscriptions().unwrap().len(), 8);
}
