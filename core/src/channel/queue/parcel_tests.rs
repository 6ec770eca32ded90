//! Long messages of queues: each goes to one consumer, stays while somebody may need it, and leaves no chunk behind.

use std::sync::Arc;
use std::time::Duration;

use super::super::parcel_tests::{CHUNKS, free, long, options as kind, reap, stage_of};
use super::super::testing::{Stage, act_as, numbers};
use super::super::{Channel, ChannelKind, ChannelOptions};
use super::hand::Hand;
use super::layout::CellKind;
use super::tests::dies;
use super::*;
use crate::chunk::Loose;
use crate::error::ErrorCode;
use crate::shm::atomic::Ordering::{Relaxed, Release};

fn queue(acknowledge: Option<Acknowledge>) -> (Arc<Stage>, Channel, u32) {
    stage_of(&ChannelOptions { acknowledge, ..kind(ChannelKind::Queue) })
}

fn least_once() -> (Arc<Stage>, Channel, u32) {
    queue(Some(Acknowledge::default()))
}

fn take(consumer: &mut Consumer) -> Option<(Delivery, Vec<u8>)> {
    let mut buffer = Vec::new();
    consumer.try_recv(&mut buffer).unwrap().map(|delivery| (delivery, buffer))
}

#[test]
fn long_messages_go_to_one_consumer_each_among_short_ones_and_are_given_back() {
    for acknowledge in [None, Some(Acknowledge::default())] {
        for timestamps in [false, true] {
            let options =
                ChannelOptions { acknowledge: acknowledge.clone(), timestamps, ..kind(ChannelKind::Queue) };
            let (stage, channel, before) = stage_of(&options);
            let mut publisher = channel.publisher().unwrap();
            let mut consumers = [channel.consumer().unwrap(), channel.consumer().unwrap()];
            let most = channel.claim_len_max();
            for (round, len) in [most, most + 1, 5000, 16_344, 16_345, 100_000, channel.message_len_max(), 0]
                .into_iter()
                .cycle()
                .take(60)
                .enumerate()
            {
                let bytes = long(len, round);
                publisher.try_send(b"before").unwrap();
                publisher.try_send(&bytes).unwrap();
                publisher.try_send(b"behind").unwrap();
                let (first, second) = (take(&mut consumers[0]).unwrap(), take(&mut consumers[1]).unwrap());
                assert_eq!(
                    (first.1, second.0.len, second.0.sent_ns != 0),
                    (b"before".to_vec(), len, timestamps)
                );
                assert!(second.1 == bytes, "{len} bytes");
                let third = consumers[0].poll(10, |_, bytes| assert_eq!(bytes, b"behind")).unwrap();
                assert_eq!(third, 1);
                if acknowledge.is_some() {
                    consumers[0].ack_all().unwrap();
                    consumers[1].ack(&second.0.receipt).unwrap();
                }
                assert_eq!(free(&stage), before, "{len} bytes are given back");
            }
            reap(&stage, &channel, 8);
        }
    }
}

#[test]
fn several_long_messages_that_are_polled_at_once_all_arrive() {
    for acknowledge in [None, Some(Acknowledge::default())] {
        let (stage, channel, before) = queue(acknowledge.clone());
        let mut publishers = [channel.publisher().unwrap(), channel.publisher().unwrap()];
        let mut consumer = channel.consumer().unwrap();
        for (number, publisher) in publishers.iter_mut().enumerate() {
            publisher.try_send(b"x").unwrap();
            publisher.try_send(&long(20_000, number)).unwrap();
            publisher.try_send(&long(30_000, number)).unwrap();
        }
        let mut lens = Vec::new();
        assert_eq!(consumer.poll(100, |_, bytes| lens.push(bytes.len())).unwrap(), 6);
        lens.sort_unstable();
        assert_eq!(lens, [1, 1, 20_000, 20_000, 30_000, 30_000]);
        if acknowledge.is_some() {
            assert!(free(&stage) < before, "they are held");
            assert_eq!(consumer.ack_all().unwrap(), 6);
        }
        assert_eq!(free(&stage), before);
    }
}

#[test]
fn what_a_consumer_holds_keeps_no_publisher_back_until_there_is_no_memory() {
    let (stage, channel, before) = least_once();
    let mut publisher = channel.publisher().unwrap();
    let mut consumer = channel.consumer().unwrap();
    publisher.try_send(&long(40_000, 0)).unwrap();
    publisher.try_send(&long(40_000, 1)).unwrap();
    assert_eq!(publisher.try_send(&long(40_000, 2)).unwrap_err().code(), ErrorCode::BackPressure);
    let mut held = vec![take(&mut consumer).unwrap(), take(&mut consumer).unwrap()];
    let error = loop {
        match publisher.try_send(&long(40_000, held.len())) {
            Ok(_) => held.push(take(&mut consumer).unwrap()),
            Err(error) => break error,
        }
    };
    assert_eq!(error.code(), ErrorCode::Full);
    assert!(held.len() > 10, "{}", held.len());
    // In any order.
    let middle = held.len() / 2;
    for (number, (delivery, bytes)) in held.into_iter().enumerate().rev() {
        assert!(bytes == long(40_000, number));
        if number != middle {
            consumer.ack(&delivery.receipt).unwrap();
        }
    }
    assert_eq!(free(&stage), before - 3);
    publisher.try_send(&long(40_000, 0)).unwrap();
    assert_eq!(consumer.ack_all().unwrap(), 1);
    take(&mut consumer).unwrap();
    consumer.ack_all().unwrap();
    assert_eq!(free(&stage), before);
    reap(&stage, &channel, 8);
}

#[test]
fn a_long_message_comes_again_until_it_is_acknowledged() {
    let (stage, channel, before) = least_once();
    let message = long(50_000, 1);
    channel.publisher().unwrap().send(&message).unwrap();
    // Given back, left by who leaves, left by the dead.
    let mut consumer = channel.consumer().unwrap();
    let (delivery, bytes) = take(&mut consumer).unwrap();
    assert!(bytes == message && delivery.deliveries == 1);
    consumer.nack(&delivery.receipt, Duration::ZERO).unwrap();
    let (delivery, bytes) = take(&mut consumer).unwrap();
    assert!(bytes == message && delivery.deliveries == 2 && delivery.redelivered);
    drop(consumer);
    act_as(2);
    let mut consumer = channel.consumer().unwrap();
    let (delivery, bytes) = take(&mut consumer).unwrap();
    assert!(bytes == message && delivery.deliveries == 3);
    dies(&stage, 2, consumer);
    act_as(3);
    let mut own = channel.consumer().unwrap();
    act_as(1);
    reap(&stage, &channel, 2);
    act_as(3);
    let (delivery, bytes) = take(&mut own).unwrap();
    assert!(bytes == message && delivery.deliveries == 4);
    assert!(free(&stage) < before);
    own.ack(&delivery.receipt).unwrap();
    assert_eq!(free(&stage), before);
    assert!(take(&mut own).is_none());
    reap(&stage, &channel, 8);
}

#[test]
fn a_message_whose_time_is_over_goes_to_another_and_only_that_one_ends_it() {
    let visibility = Some(Duration::from_millis(1));
    let (stage, channel, before) = queue(Some(Acknowledge { visibility, dead_letters: None }));
    let message = long(50_000, 1);
    channel.publisher().unwrap().send(&message).unwrap();
    let (mut slow, mut quick) = (channel.consumer().unwrap(), channel.consumer().unwrap());
    let (late, _) = take(&mut slow).unwrap();
    let mut buffer = Vec::new();
    let mut again = quick.recv(&mut buffer, Some(Duration::from_secs(60))).unwrap().unwrap();
    quick.extend(&mut again.receipt, Duration::from_secs(600)).unwrap();
    assert!(buffer == message && again.deliveries == 2);
    assert_eq!(slow.ack(&late.receipt).unwrap_err().code(), ErrorCode::NotHeld);
    // What it copies from then on counts for nothing.
    let holding = slow.holding.as_ref().unwrap();
    let words = held_words(&channel, &holding.hand, late.receipt.number);
    let mut scratch = words.map(u64::to_le_bytes).concat();
    let copied =
        holding.copy_parcel(&channel.area, late.receipt.number, late.receipt.word, 0..16, &mut scratch);
    assert_eq!(copied.unwrap(), None);
    // Its cell is done, and the message is in another's hand.
    drop(slow);
    reap(&stage, &channel, 8);
    assert!(free(&stage) < before);
    quick.nack(&again.receipt, Duration::ZERO).unwrap();
    let (again, bytes) = take(&mut quick).unwrap();
    assert!(bytes == message);
    quick.ack(&again.receipt).unwrap();
    assert_eq!(free(&stage), before);
}

#[test]
fn a_long_message_that_is_held_moves_on_in_its_hand() {
    let (stage, channel, before) = least_once();
    let message = long(50_000, 1);
    let mut publisher = channel.publisher().unwrap();
    let mut consumer = channel.consumer().unwrap();
    publisher.send(&message).unwrap();
    let (held, _) = take(&mut consumer).unwrap();
    for _ in 0..1000 {
        publisher.send(b"passing").unwrap();
        let (passing, _) = take(&mut consumer).unwrap();
        consumer.ack(&passing.receipt).unwrap();
    }
    assert_eq!(free(&stage), before - 4, "it was not given back with the cells that it stood in");
    consumer.nack(&held.receipt, Duration::ZERO).unwrap();
    let (held, bytes) = take(&mut consumer).unwrap();
    assert!(bytes == message);
    consumer.ack(&held.receipt).unwrap();
    assert_eq!(free(&stage), before);
    reap(&stage, &channel, 8);
}

#[test]
fn a_long_dead_letter_is_sent_and_its_chunks_are_given_back() {
    let letters = DeadLetters { after: 1, channel: "letters".into() };
    let (stage, channel, before) = queue(Some(Acknowledge { visibility: None, dead_letters: Some(letters) }));
    let (other, sink, other_before) = stage_of(&kind(ChannelKind::Queue));
    stage.send_letters_to(&other);
    let message = long(50_000, 1);
    channel.publisher().unwrap().send(&message).unwrap();
    let mut consumer = channel.consumer().unwrap();
    let (delivery, _) = take(&mut consumer).unwrap();
    consumer.nack(&delivery.receipt, Duration::ZERO).unwrap();
    assert!(take(&mut consumer).is_none(), "it is a dead letter");
    assert_eq!(free(&stage), before);
    let (letter, bytes) = take(&mut sink.consumer().unwrap()).unwrap();
    assert!(bytes == message && !letter.redelivered);
    assert_eq!(free(&other), other_before);
    // One whose sender died may have been sent before: that is seen on it.
    channel.publisher().unwrap().send(&message).unwrap();
    act_as(2);
    let mut dead = channel.consumer().unwrap();
    take(&mut dead).unwrap();
    let hand = Hand::of(&channel.area, dead.id().unwrap()).unwrap().unwrap();
    let number = hand.shown().end - 1;
    let word = hand.look(number).unwrap();
    assert!(hand.change(number, word, word.as_letter(true)));
    dies(&stage, 2, dead);
    act_as(1);
    reap(&stage, &channel, 2);
    assert!(take(&mut consumer).is_none());
    let (letter, bytes) = take(&mut sink.consumer().unwrap()).unwrap();
    assert!(bytes == message && letter.redelivered);
    assert_eq!((free(&stage), free(&other)), (before, other_before));
    reap(&stage, &channel, 8);
}

/// The steps of taking and acknowledging, and what a consumer that dies after each of them leaves.
#[test]
fn what_a_dead_consumer_had_of_a_long_message_comes_again_or_is_given_back() {
    for step in ["held", "done", "half freed"] {
        for reaped_by_another_consumer in [false, true] {
            let (stage, channel, before) = least_once();
            let message = long(50_000, 1);
            channel.publisher().unwrap().send(&message).unwrap();
            act_as(2);
            let mut dead = channel.consumer().unwrap();
            take(&mut dead).unwrap();
            let hand = Hand::of(&channel.area, dead.id().unwrap()).unwrap().unwrap();
            let number = hand.shown().start;
            let word = hand.look(number).unwrap();
            if step != "held" {
                assert!(hand.change(number, word, word.to(CellKind::Done)));
            }
            if step == "half freed" {
                let mut word = held_words(&channel, &hand, number)[0];
                let pool = stage.give_chunks(CHUNKS);
                let mut last = None;
                while let Some(chunk) = Loose::from_word(word) {
                    last = Some(chunk);
                    word = pool.loose_span(chunk).unwrap().unwrap().u64(0).unwrap().load(Relaxed);
                }
                pool.give_back_loose(last.unwrap()).unwrap();
            }
            dies(&stage, 2, dead);
            act_as(1);
            if reaped_by_another_consumer {
                // It finds the dead when it enters, or looks round.
                let mut next = channel.consumer().unwrap();
                assert_eq!(take(&mut next).is_some(), step == "held", "{step}");
                assert_eq!(free(&stage) == before, step != "held", "{step}: by whom it met first");
            }
            reap(&stage, &channel, 2);
            let mut next = channel.consumer().unwrap();
            let got = take(&mut next);
            assert_eq!(got.is_some(), step == "held", "{step}");
            next.ack_all().unwrap();
            assert_eq!(free(&stage), before, "{step}");
            reap(&stage, &channel, 8);
        }
    }
}

fn held_words(channel: &Channel, hand: &Hand, number: u64) -> [u64; 2] {
    let mut words = Vec::new();
    let len = hand.copy(hand.content(number).data, &mut words).unwrap();
    channel.area.parcel_words(&words[..len]).unwrap()
}

#[test]
fn a_late_helper_does_not_end_what_a_later_holder_of_the_entry_has() {
    let (stage, channel, before) = least_once();
    let mut publisher = channel.publisher().unwrap();
    publisher.send(&long(50_000, 1)).unwrap();
    act_as(2);
    let mut dead = channel.consumer().unwrap();
    let (delivery, _) = take(&mut dead).unwrap();
    dead.ack(&delivery.receipt).unwrap();
    let index = dead.id().unwrap();
    let seen = channel.area.consumer_state(index).unwrap();
    dies(&stage, 2, dead);
    // A helper has proved it dead, and stops here; the reaper comes, and another goes on with the entry.
    act_as(1);
    reap(&stage, &channel, 2);
    act_as(3);
    let mut next = channel.consumer().unwrap();
    assert_eq!(next.id(), Some(index));
    publisher.send(&long(50_000, 2)).unwrap();
    let (held, _) = take(&mut next).unwrap();
    join::take_over(&channel.area, index, seen).unwrap();
    channel.area.leave(index, seen).unwrap();
    // Nor if it stopped between its look at a cell and what that named.
    let hand = Hand::of(&channel.area, index).unwrap().unwrap();
    channel.area.end_left(&hand, hand.shown().end - 1, seen).unwrap();
    assert!(free(&stage) < before);
    next.nack(&held.receipt, Duration::ZERO).unwrap();
    let (held, bytes) = take(&mut next).unwrap();
    assert!(bytes == long(50_000, 2));
    next.ack(&held.receipt).unwrap();
    assert_eq!(free(&stage), before);
}

#[test]
fn a_queue_without_acknowledgement_loses_no_chunk_to_a_consumer_that_dies_with_a_long_message() {
    let (stage, channel, before) = queue(None);
    act_as(2);
    let mut publisher = channel.publisher().unwrap();
    publisher.send(&long(50_000, 1)).unwrap();
    let consumer = channel.consumer().unwrap();
    // It moved the head, and came no further.
    let area = &channel.area;
    let tail = area.lane(area.lane_ref(publisher.lane()).unwrap().unwrap()).unwrap().tail();
    let word = area.shm.block::<8>(area.queue().unwrap().head_offset(publisher.lane())).unwrap();
    word.u64::<0>().store(layout::HeadWord::new(tail, 0).0, Release);
    dies(&stage, 2, (publisher, consumer));
    act_as(1);
    assert!(free(&stage) < before);
    reap(&stage, &channel, 2);
    assert_eq!(free(&stage), before);
}

#[test]
fn any_content_of_a_held_parcel_gives_an_error_and_never_a_panic() {
    let mut next = numbers();
    let (mut errors, mut whole) = (0, 0);
    for _ in 0..200 {
        let (_stage, channel, _) = least_once();
        let mut publisher = channel.publisher().unwrap();
        let mut consumer = channel.consumer().unwrap();
        publisher.send(&long(40_000, 0)).unwrap();
        publisher.send(&long(20_000, 1)).unwrap();
        let (held, _) = take(&mut consumer).unwrap();
        let hand = Hand::of(&channel.area, consumer.id().unwrap()).unwrap().unwrap();
        let ring = channel.area.consumer_ring(hand.index).unwrap().unwrap();
        let half = channel.area.shape.lane_bytes / 2;
        let span = channel.area.shm.span(ring, 2 * half).unwrap();
        for _ in 0..1 + next() % 2 {
            let at = if next().is_multiple_of(2) { 24 } else { half + next() % 2 * 8 };
            let value = match next() % 4 {
                0 => next(),
                1 => u64::MAX - next() % 64,
                2 => next() % (1 << 24),
                _ => next() % u64::from(CHUNKS + 2),
            };
            span.u64(at).unwrap().store(value, Relaxed);
        }
        errors += usize::from(check::check(&channel.area, &mut Vec::new(), &mut |_, _| ()).is_err());
        errors += usize::from(consumer.nack(&held.receipt, Duration::ZERO).is_err());
        for _ in 0..3 {
            match consumer.poll(1, |_, _| {}) {
                Ok(count) => whole += count,
                Err(_) => errors += 1,
            }
        }
        errors += usize::from(consumer.ack_all().is_err());
        drop(consumer);
        let _ = super::super::check_taken_over(&channel.area, &mut |_, _| errors += 1);
    }
    assert!(errors > 200 && whole > 100, "{errors} {whole}");
}
