//! Messages that are sent together, and the time that messages bear.

use super::inherit::inherit;
use super::testing::{act_as, channel, channel_with};
use super::tests::{assert_sound, dies, drain, texts};
use super::*;
use crate::error::ErrorCode;
use crate::shm::atomic::Ordering::Relaxed;

#[test]
fn batches_of_every_size_arrive_whole_at_every_offset_of_the_ring() {
    for overrun in [OverrunPolicy::Block, OverrunPolicy::Overrun] {
        let (_stage, channel) = channel(ChannelKind::Broadcast, overrun, 4096, 1);
        let mut subscriber = channel.subscriber().unwrap();
        let mut publisher = channel.publisher().unwrap();
        let (header, most) =
            (if overrun == OverrunPolicy::Block { 8 } else { 16 }, channel.message_len_max());
        for round in 0..4000usize {
            // Up to as much as goes in at once, and sometimes one long message among short ones.
            let mut batch: Vec<Vec<u8>> = Vec::new();
            let mut room = most + header;
            for number in 0..round % 9 {
                let len = if number == round % 5 { round * 7 % (most / 2) } else { (round + number) % 40 };
                if room < len + header + 7 {
                    break;
                }
                room -= (len + header + 7) & !7;
                batch.push((0..len).map(|at| (at * 31 + number + round) as u8).collect());
            }
            let slices: Vec<&[u8]> = batch.iter().map(Vec::as_slice).collect();
            let last = publisher.try_send_all(&slices).unwrap();
            let got = drain(&mut subscriber);
            assert!(got.iter().map(|(_, bytes)| bytes).eq(&batch), "round {round}");
            assert!(got.last().is_none_or(|(message, _)| message.position == last));
            subscriber.commit().unwrap();
        }
        let error = publisher.send_all(&[&vec![0; most], b"one more"]).unwrap_err();
        assert_eq!(error.code(), ErrorCode::ValueTooLong);
        assert!(drain(&mut subscriber).is_empty());
        publisher.send_all(&[&vec![7; most]]).unwrap();
        assert_eq!(drain(&mut subscriber).len(), 1);
        assert_sound(&channel);
    }
}

#[test]
fn messages_bear_the_time_at_which_they_were_sent_where_that_is_asked_for() {
    for (kind, overrun) in [
        (ChannelKind::Stream, OverrunPolicy::Block),
        (ChannelKind::Broadcast, OverrunPolicy::Overrun),
        (ChannelKind::Queue, OverrunPolicy::Block),
    ] {
        let options =
            ChannelOptions { kind, overrun, lane_bytes: 4096, timestamps: true, ..ChannelOptions::default() };
        let (_stage, channel) = channel_with(&options, 2);
        assert_eq!(channel.options(), options);
        let mut got: Vec<(u64, usize, Vec<u8>)> = Vec::new();
        let most = vec![7; channel.message_len_max()];
        let mut publisher = channel.publisher().unwrap();
        let mut take: Box<dyn FnMut() -> Vec<(u64, usize, Vec<u8>)>> = if kind == ChannelKind::Queue {
            let mut consumer = channel.consumer().unwrap();
            Box::new(move || {
                let mut all = Vec::new();
                let take = |got: &Delivery, bytes: &[u8]| all.push((got.sent_ns, got.len, bytes.to_vec()));
                consumer.poll(9, take).unwrap();
                all
            })
        } else {
            let mut subscriber = channel.subscriber().unwrap();
            Box::new(move || {
                let all = drain(&mut subscriber);
                all.into_iter().map(|(message, bytes)| (message.sent_ns, message.len, bytes)).collect()
            })
        };
        let before = crate::shm::time::monotonic_ns();
        publisher.send(b"").unwrap();
        let mut claim = publisher.claim(5).unwrap();
        claim.write(0, b"cl").unwrap();
        claim.write(2, b"aim").unwrap();
        claim.commit().unwrap();
        got.extend(take());
        publisher.send_all(&[b"one", b"two"]).unwrap();
        got.extend(take());
        publisher.send(&most).unwrap();
        got.extend(take());
        let after = crate::shm::time::monotonic_ns();
        let error = publisher.send(&vec![7; most.len() + 1]).unwrap_err();
        assert_eq!(error.code(), ErrorCode::ValueTooLong);
        assert!(error.to_string().contains(&most.len().to_string()), "{error}");
        let bytes: Vec<_> = got.iter().map(|(_, _, bytes)| bytes.as_slice()).collect();
        assert_eq!(bytes, [&b""[..], b"claim", b"one", b"two", &most], "{kind:?}");
        assert!(got.iter().all(|(sent, len, bytes)| *len == bytes.len() && (before..=after).contains(sent)));
        assert!(got.is_sorted_by_key(|(sent, _, _)| *sent));
        assert_sound(&channel);
    }
}

#[test]
fn a_batch_waits_for_room_for_all_of_it_and_a_successor_overwrites_what_was_not_committed() {
    let (stage, channel) = channel(ChannelKind::Broadcast, OverrunPolicy::Block, 4096, 1);
    act_as(1);
    let mut subscriber = channel.subscriber().unwrap();
    act_as(2);
    let mut publisher = channel.publisher().unwrap();
    while publisher.try_send(&[1; 100]).is_ok() {}
    let refused = publisher.try_send_all(&[b"a", b"b", b"c", b"d", b"e", b"f", b"g"]).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::BackPressure);
    drain(&mut subscriber);
    subscriber.commit().unwrap();
    // All words but the first were stored when it died.
    let view = channel.area.lane(channel.area.lane_ref(0).unwrap().unwrap()).unwrap();
    let before = view.tail();
    publisher.send_all(&[b"lost", b"too", b"and this"]).unwrap();
    view.ring().word(before).store(0, Relaxed);
    channel.area.shm.block::<192>(channel.area.shape.lane(0)).unwrap().u64::<64>().store(before, Relaxed);
    assert!(drain(&mut subscriber).is_empty());
    dies(&stage, 2, publisher);
    inherit(&channel.area, 2).unwrap();
    act_as(3);
    let mut next = channel.publisher().unwrap();
    assert_eq!(next.lane(), 0);
    next.send(b"x").unwrap();
    assert_eq!(texts(&drain(&mut subscriber)), ["x"]);
    next.send_all(&[b"y", b"z"]).unwrap();
    assert_eq!(texts(&drain(&mut subscriber)), ["y", "z"]);
    assert_sound(&channel);
}
