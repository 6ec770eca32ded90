//! One queue on a stage of its own: what each call promises, and what the dead leave.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::inherit::inherit;
use super::super::testing::{Stage, act_as, channel_with, reopen};
use super::super::{Channel, ChannelKind, ChannelOptions, check, check_taken_over};
use super::layout::consumer;
use super::*;
use crate::error::ErrorCode;

const SOON: Option<Duration> = Some(Duration::from_secs(60));
const LANE: u32 = 4096;

pub fn options(acknowledge: Option<Acknowledge>) -> ChannelOptions {
    ChannelOptions { kind: ChannelKind::Queue, lane_bytes: LANE, acknowledge, ..ChannelOptions::default() }
}

pub fn once() -> (Arc<Stage>, Channel) {
    channel_with(&options(None), 12)
}

pub fn least_once() -> (Arc<Stage>, Channel) {
    channel_with(&options(Some(Acknowledge::default())), 12)
}

fn with(acknowledge: Acknowledge) -> (Arc<Stage>, Channel) {
    channel_with(&options(Some(acknowledge)), 12)
}

#[track_caller]
pub fn assert_sound(channel: &Channel) {
    let mut problems = Vec::new();
    check(&channel.area, &mut |what, place| problems.push(format!("{place}: {what}"))).unwrap();
    check_taken_over(&channel.area, &mut |what, place| problems.push(format!("{place}: {what}"))).unwrap();
    assert!(problems.is_empty(), "{problems:#?}");
}

/// The thread is killed: its handles run no destructor any more.
pub fn dies<T>(stage: &Stage, thread: u16, handles: T) {
    stage.kill(thread);
    std::mem::forget(handles);
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Everything that can be taken now.
fn drain(consumer: &mut Consumer) -> Vec<(Delivery, String)> {
    let mut all = Vec::new();
    let mut buffer = Vec::new();
    while let Some(delivery) = consumer.try_recv(&mut buffer).unwrap() {
        all.push((delivery, text(&buffer)));
    }
    all
}

fn texts(messages: &[(Delivery, String)]) -> Vec<&str> {
    messages.iter().map(|(_, text)| text.as_str()).collect()
}

#[test]
fn each_message_goes_to_one_consumer_in_the_order_of_its_publisher() {
    for (_stage, channel) in [once(), least_once()] {
        let mut publishers = [channel.publisher().unwrap(), channel.publisher().unwrap()];
        let mut consumers = [channel.consumer().unwrap(), channel.consumer().unwrap()];
        let mut seen = HashSet::new();
        let mut last = HashMap::new();
        for round in 0..200 {
            for publisher in &mut publishers {
                publisher.send(format!("{round}").as_bytes()).unwrap();
            }
            let consumer = &mut consumers[round % 2];
            while consumer
                .poll(3, |delivery, bytes| {
                    assert!(seen.insert((delivery.lane, delivery.position)), "twice: {delivery:?}");
                    let number: usize = text(bytes).parse().unwrap();
                    assert_eq!(last.insert(delivery.lane, number).map_or(0, |last| last + 1), number);
                    assert!(!delivery.redelivered && delivery.deliveries == 1);
                })
                .unwrap()
                > 0
            {}
            consumer.ack_all().unwrap();
        }
        assert_eq!(seen.len(), 400);
        assert_sound(&channel);
    }
}

#[test]
fn messages_of_every_length_arrive_whole_at_every_offset_of_the_rings() {
    for (_stage, channel) in [once(), least_once()] {
        let mut publisher = channel.publisher().unwrap();
        let mut consumer = channel.consumer().unwrap();
        let mut buffer = Vec::new();
        for round in 0..3 {
            for len in 0..=channel.claim_len_max() {
                let bytes: Vec<u8> = (0..len).map(|at| (at * 31 + len + round) as u8).collect();
                let position = publisher.send(&bytes).unwrap();
                let delivery = consumer.try_recv(&mut buffer).unwrap().unwrap();
                assert_eq!((delivery.position, delivery.len), (position, len));
                assert!(buffer == bytes, "length {len}");
                if channel.options().acknowledge.is_some() {
                    consumer.ack(&delivery.receipt).unwrap();
                }
            }
        }
        assert!(consumer.try_recv(&mut buffer).unwrap().is_none());
        assert_sound(&channel);
    }
}

#[test]
fn a_full_lane_has_room_again_once_something_was_taken() {
    for (_stage, channel) in [once(), least_once()] {
        let mut publisher = channel.publisher().unwrap();
        let mut sent = 0;
        while publisher.try_send(&[7; 100]).is_ok() {
            sent += 1;
        }
        assert_eq!(sent, 36);
        let mut consumer = channel.consumer().unwrap();
        assert_eq!(consumer.poll(2, |_, bytes| assert_eq!(bytes, [7; 100])).unwrap(), 2);
        publisher.try_send(&[7; 100]).unwrap();
        assert_eq!(publisher.try_send(&[7; 100]).unwrap_err().code(), ErrorCode::BackPressure);
        let stats = channel.stats().unwrap().queue.unwrap();
        assert_eq!(stats.waiting_bytes, 4096 + 112 - 2 * 112, "with the padding at the end of the ring");
    }
}

#[test]
fn kinds_are_not_mixed_up_and_wrong_options_are_told() {
    let (_stage, queue) = once();
    for error in [queue.subscriber().err(), queue.subscribe("x").err()] {
        assert_eq!(error.unwrap().code(), ErrorCode::WrongKind);
    }
    let (_stage, stream) = channel_with(&ChannelOptions { lane_bytes: LANE, ..ChannelOptions::default() }, 2);
    assert_eq!(stream.consumer().err().unwrap().code(), ErrorCode::WrongKind);
    let letters = |after, channel: &str| {
        Some(Acknowledge {
            visibility: None,
            dead_letters: Some(DeadLetters { after, channel: channel.to_owned() }),
        })
    };
    let visible = |time| Some(Acknowledge { visibility: Some(time), dead_letters: None });
    let wrong = [
        ChannelOptions { overrun: OverrunPolicy::Overrun, ..options(None) },
        ChannelOptions { kind: ChannelKind::Stream, ..options(Some(Acknowledge::default())) },
        options(letters(0, "dead")),
        options(letters(1001, "dead")),
        options(letters(3, "self")),
        options(visible(Duration::ZERO)),
        options(visible(Duration::from_micros(1500))),
        options(visible(Duration::MAX)),
    ];
    for options in wrong {
        let error = check_options("self", &options).unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidArgument, "{options:?}");
    }
    assert_eq!(
        check_options("self", &options(letters(3, "../x"))).unwrap_err().code(),
        ErrorCode::InvalidName
    );
    for good in [options(letters(1, "dead")), options(visible(Duration::from_millis(1))), options(None)] {
        check_options("self", &good).unwrap();
        let (stage, channel) = channel_with(&good, 2);
        assert_eq!((channel.options(), reopen(&stage).options()), (good.clone(), good));
    }
}

#[test]
fn what_is_acknowledged_never_comes_again_and_what_is_not_comes_marked() {
    let (stage, channel) = least_once();
    act_as(2);
    let mut first = channel.consumer().unwrap();
    act_as(1);
    let mut publisher = channel.publisher().unwrap();
    for number in 0..10 {
        publisher.send(format!("{number}").as_bytes()).unwrap();
    }
    act_as(2);
    let held = drain(&mut first);
    assert_eq!(held.len(), 10);
    for (delivery, _) in held.iter().step_by(2) {
        first.ack(&delivery.receipt).unwrap();
        assert_eq!(first.ack(&delivery.receipt).unwrap_err().code(), ErrorCode::NotHeld, "once only");
    }
    act_as(3);
    let mut second = reopen(&stage).consumer().unwrap();
    assert!(drain(&mut second).is_empty(), "its holder lives");
    let others = second.ack(&held[1].0.receipt).unwrap_err();
    assert_eq!(others.code(), ErrorCode::NotHeld, "another's receipt");
    dies(&stage, 2, first);
    let again = second.recv(&mut Vec::new(), SOON).unwrap().unwrap();
    let mut all = vec![(again, "1".to_owned())];
    all.extend(drain(&mut second));
    assert_eq!(texts(&all), ["1", "3", "5", "7", "9"]);
    for ((delivery, _), (before, _)) in all.iter().zip(held.iter().skip(1).step_by(2)) {
        assert!(delivery.redelivered && delivery.deliveries == 2, "{delivery:?}");
        assert_eq!((delivery.lane, delivery.position), (before.lane, before.position));
        second.ack(&delivery.receipt).unwrap();
    }
    assert_eq!(channel.stats().unwrap().queue.unwrap().redelivered, 5);
    dies(&stage, 3, second);
    act_as(4);
    assert!(drain(&mut reopen(&stage).consumer().unwrap()).is_empty());
    assert_sound(&channel);
}

#[test]
fn a_consumer_that_leaves_or_gives_back_leaves_its_messages_to_others() {
    let (_stage, channel) = least_once();
    let mut publisher = channel.publisher().unwrap();
    let mut first = channel.consumer().unwrap();
    let mut second = channel.consumer().unwrap();
    publisher.send(b"a").unwrap();
    publisher.send(b"b").unwrap();
    let held = drain(&mut first);
    first.nack(&held[0].0.receipt, Duration::ZERO).unwrap();
    assert_eq!(first.nack(&held[0].0.receipt, Duration::ZERO).unwrap_err().code(), ErrorCode::NotHeld);
    let again = drain(&mut second);
    assert_eq!((texts(&again), again[0].0.deliveries), (vec!["a"], 2));
    drop(first);
    let again = drain(&mut second);
    assert_eq!((texts(&again), again[0].0.deliveries), (vec!["b"], 2));
    // Its own come back to a consumer that is alone.
    second.nack(&again[0].0.receipt, Duration::ZERO).unwrap();
    let again = drain(&mut second);
    assert_eq!((texts(&again), again[0].0.deliveries), (vec!["b"], 3));
    // However often it is given back, who asks next has it.
    let mut buffer = Vec::new();
    let mut held = again[0].0.clone();
    for deliveries in 4..20 {
        second.nack(&held.receipt, Duration::ZERO).unwrap();
        held = second.try_recv(&mut buffer).unwrap().expect("it was given back");
        assert_eq!(held.deliveries, deliveries);
    }
    let start = Instant::now();
    second.nack(&held.receipt, Duration::from_millis(30)).unwrap();
    assert!(drain(&mut second).is_empty() || start.elapsed() >= Duration::from_millis(30));
    let later = second.recv(&mut buffer, SOON).unwrap().unwrap();
    assert!(start.elapsed() >= Duration::from_millis(29) && later.deliveries == 20);
    assert_eq!(second.ack_all().unwrap(), 2);
    assert_sound(&channel);
}

#[test]
fn a_message_that_is_held_too_long_goes_to_another_and_the_late_acknowledgement_is_refused() {
    let (_stage, channel) =
        with(Acknowledge { visibility: Some(Duration::from_millis(20)), dead_letters: None });
    let mut publisher = channel.publisher().unwrap();
    let (mut slow, mut other) = (channel.consumer().unwrap(), channel.consumer().unwrap());
    let mut buffer = Vec::new();
    publisher.send(b"work").unwrap();
    let mut held = slow.try_recv(&mut buffer).unwrap().unwrap();
    slow.extend(&mut held.receipt, Duration::from_secs(3600)).unwrap();
    assert!(other.recv(&mut buffer, Some(Duration::from_millis(100))).unwrap().is_none(), "extended");
    slow.extend(&mut held.receipt, Duration::from_millis(1)).unwrap();
    let again = other.recv(&mut buffer, SOON).unwrap().unwrap();
    assert!(again.redelivered && again.position == held.position && buffer == b"work");
    assert_eq!(slow.ack(&held.receipt).unwrap_err().code(), ErrorCode::NotHeld);
    assert_eq!(
        slow.extend(&mut held.receipt, Duration::from_secs(1)).unwrap_err().code(),
        ErrorCode::NotHeld
    );
    // Nobody else is there: it comes to the one who holds it already, who has to begin anew.
    drop(slow);
    let third = other.recv(&mut buffer, SOON).unwrap().unwrap();
    assert_eq!(third.deliveries, 3);
    assert_eq!(other.ack(&again.receipt).unwrap_err().code(), ErrorCode::NotHeld);
    other.ack(&third.receipt).unwrap();
    assert!(other.recv(&mut buffer, Some(Duration::from_millis(60))).unwrap().is_none());
    assert_sound(&channel);
}

#[test]
fn a_message_that_nobody_acknowledges_becomes_a_dead_letter_once() {
    let letters = DeadLetters { after: 2, channel: "letters".into() };
    let (stage, channel) = with(Acknowledge { visibility: None, dead_letters: Some(letters) });
    let (other, dead) = least_once();
    stage.send_letters_to(&other);
    let mut publisher = channel.publisher().unwrap();
    let (mut one, mut two) = (channel.consumer().unwrap(), channel.consumer().unwrap());
    for number in 0..3 {
        publisher.send(format!("poison {number}").as_bytes()).unwrap();
    }
    for consumer in [&mut one, &mut two] {
        let held = drain(consumer);
        assert_eq!(held.len(), 3);
        for (delivery, _) in held {
            consumer.nack(&delivery.receipt, Duration::ZERO).unwrap();
        }
    }
    assert!(drain(&mut one).is_empty() && drain(&mut two).is_empty());
    let got = drain(&mut dead.consumer().unwrap());
    assert_eq!(texts(&got), ["poison 0", "poison 1", "poison 2"]);
    assert!(got.iter().all(|(delivery, _)| !delivery.redelivered && delivery.deliveries == 1));
    assert_eq!(channel.stats().unwrap().queue.unwrap().dead_letters, 3);
    assert!(channel.stats().unwrap().queue.unwrap().consumers.iter().all(|info| info.unacknowledged == 0));
    assert_sound(&channel);
}

#[test]
fn a_full_channel_for_dead_letters_keeps_them_and_blocks_nothing_else() {
    let letters = DeadLetters { after: 1, channel: "letters".into() };
    let (stage, channel) = with(Acknowledge { visibility: None, dead_letters: Some(letters) });
    let (other, dead) = once();
    stage.send_letters_to(&other);
    let mut publisher = channel.publisher().unwrap();
    let mut consumer = channel.consumer().unwrap();
    let mut kept = 0;
    let filler = [1; 100];
    // The lane of its publisher has room for 36.
    for _ in 0..45 {
        publisher.send(&filler).unwrap();
        for delivery in drain_bytes(&mut consumer) {
            consumer.nack(&delivery.receipt, Duration::ZERO).unwrap();
            kept += 1;
        }
        assert!(consumer.try_recv(&mut Vec::new()).unwrap().is_none());
    }
    let stats = channel.stats().unwrap().queue.unwrap();
    let waiting: u64 = stats.consumers.iter().map(|info| info.unacknowledged).sum();
    assert!(stats.dead_letters < kept && waiting == kept - stats.dead_letters, "{stats:?}, {kept}");
    publisher.send(b"fresh").unwrap();
    let mut buffer = Vec::new();
    let fresh = consumer.try_recv(&mut buffer).unwrap().unwrap();
    assert_eq!(buffer, b"fresh");
    consumer.ack(&fresh.receipt).unwrap();
    let mut reader = dead.consumer().unwrap();
    let mut got = 0;
    let end = Instant::now() + Duration::from_secs(60);
    while got < kept {
        got += reader.poll(100, |_, bytes| assert_eq!(bytes, filler)).unwrap() as u64;
        assert!(consumer.try_recv(&mut buffer).unwrap().is_none());
        assert!(Instant::now() < end, "{got} of {kept}");
    }
    assert_sound(&channel);
}

fn drain_bytes(consumer: &mut Consumer) -> Vec<Delivery> {
    let mut all = Vec::new();
    while consumer.poll(10, |delivery, _| all.push(delivery.clone())).unwrap() > 0 {}
    all
}

#[test]
fn who_holds_too_much_is_told_and_one_message_held_long_does_not_hold_up_the_rest() {
    let (_stage, channel) = least_once();
    let mut publisher = channel.publisher().unwrap();
    let mut consumer = channel.consumer().unwrap();
    let mut buffer = Vec::new();
    let mut held = Vec::new();
    let error = loop {
        publisher.send(b"x").unwrap();
        match consumer.try_recv(&mut buffer) {
            Ok(delivery) => held.push(delivery.unwrap()),
            Err(error) => break error,
        }
    };
    assert_eq!((error.code(), held.len()), (ErrorCode::TooManyHeld, 56));
    let mut other = channel.consumer().unwrap();
    assert!(other.try_recv(&mut buffer).unwrap().is_some(), "others go on");
    // All but the first two are done: those two move on with the rest, and their receipts stay good.
    for delivery in &held[2..] {
        consumer.ack(&delivery.receipt).unwrap();
    }
    for number in 0..1000u32 {
        publisher.send(&number.to_le_bytes()).unwrap();
        let delivery = consumer.try_recv(&mut buffer).unwrap().unwrap();
        assert_eq!(buffer, number.to_le_bytes());
        consumer.ack(&delivery.receipt).unwrap();
    }
    assert_sound(&channel);
    consumer.ack(&held[0].receipt).unwrap();
    consumer.nack(&held[1].receipt, Duration::ZERO).unwrap();
    assert_eq!(consumer.ack(&held[0].receipt).unwrap_err().code(), ErrorCode::NotHeld);
    let again = consumer.try_recv(&mut buffer).unwrap().unwrap();
    assert_eq!((again.position, again.deliveries), (held[1].position, 2));
    assert_sound(&channel);
}

#[test]
fn a_consumer_goes_on_with_the_ring_of_one_before_and_so_memory_does_not_grow() {
    let (stage, channel) = least_once();
    let mut publisher = channel.publisher().unwrap();
    // 12 rings are there: more consumers than that come and go.
    for round in 0..40u16 {
        act_as(10 + round);
        let mut consumer = reopen(&stage).consumer().unwrap();
        publisher.send(b"again and again").unwrap();
        let count = drain(&mut consumer).len();
        assert_eq!(count, usize::from(round) + 1);
        if round % 2 == 0 { dies(&stage, 10 + round, consumer) } else { drop(consumer) }
    }
    let live: Vec<Consumer> = (0..11).map_while(|_| channel.consumer().ok()).collect();
    assert_eq!(live.len(), 11, "one ring is the publisher's");
    assert_eq!(channel.consumer().err().unwrap().code(), ErrorCode::Full);
    assert_sound(&channel);
}

/// Stops a taking after each of its steps, as a death does, and lets an heir settle it: the message is in one place.
#[test]
fn whoever_dies_in_the_midst_of_taking_has_taken_or_not() {
    for step in 0..6 {
        for next_takes in [false, true] {
            let (stage, channel) = least_once();
            let mut publisher = channel.publisher().unwrap();
            publisher.send(b"0").unwrap();
            publisher.send(b"1").unwrap();
            act_as(2);
            let mut victim = channel.consumer().unwrap();
            victim.start().unwrap();
            let area = channel.area.clone();
            let offset = area.queue().unwrap().head_offset(0);
            let head = area.head(0).unwrap();
            let holding = victim.holding.as_mut().unwrap();
            let behind = area
                .lane(area.lane_ref(0).unwrap().unwrap())
                .unwrap()
                .peek(&*area.ground, 0)
                .unwrap()
                .unwrap()
                .behind;
            let target = hand::moved_head(behind, holding.hand.index);
            if step > 0 {
                let word = layout::CellWord::held(0, 1, false);
                holding
                    .grip
                    .prepare::<false>(&holding.hand, layout::Name::new(0, behind), word, 0, b"0", false)
                    .unwrap()
                    .unwrap();
            }
            let plan = take::Plan { source: offset, target: target.0, until: 1 };
            if step > 1 {
                holding.intent = take::open(holding.hand.entry.block(), holding.intent, plan);
            }
            let word = area.shm.block::<8>(offset).unwrap().u64::<0>();
            if step > 2 {
                assert_eq!(word.swap(target.0, Ordering::AcqRel), head.0);
            }
            if step > 3 {
                holding.grip.show(&holding.hand);
            }
            if step > 4 {
                take::close(holding.hand.entry.block(), holding.intent);
            }
            act_as(3);
            let mut next = channel.consumer().unwrap();
            let mut got = Vec::new();
            if next_takes {
                got = drain(&mut next);
                assert_eq!(got.len(), if step > 2 { 1 } else { 2 }, "step {step}");
            }
            dies(&stage, 2, victim);
            inherit(&area, 2).unwrap();
            inherit(&area, 2).unwrap();
            got.extend(drain(&mut next));
            let mut sorted = texts(&got);
            sorted.sort_unstable();
            assert_eq!(sorted, ["0", "1"], "step {step}, {next_takes}");
            let marked = got.iter().filter(|(delivery, _)| delivery.redelivered).count();
            assert_eq!(marked, usize::from(step > 2), "only what the dead one had taken");
            assert_eq!(next.ack_all().unwrap(), 2);
            assert_sound(&channel);
        }
    }
}

#[test]
fn a_late_heir_changes_nothing_of_the_next_owner() {
    let (stage, channel) = least_once();
    let mut publisher = channel.publisher().unwrap();
    publisher.send(b"a").unwrap();
    act_as(2);
    let mut first = channel.consumer().unwrap();
    assert_eq!(drain(&mut first).len(), 1);
    let index = first.id().unwrap();
    let seen = channel.area.consumer_state(index).unwrap();
    dies(&stage, 2, first);
    inherit(&channel.area, 2).unwrap();
    act_as(3);
    let mut second = channel.consumer().unwrap();
    assert_eq!(second.id(), Some(index), "the same entry");
    let held = drain(&mut second);
    assert_eq!(held[0].0.deliveries, 2);
    // The heir was stopped after it had found the first owner dead.
    assert!(!channel.area.leave(index, seen).unwrap());
    // Nor does it close what the next one has opened, so that nobody could tell what that one took.
    let holding = second.holding.as_mut().unwrap();
    let plan = take::Plan { source: 256, target: 1, until: holding.grip.next };
    holding.intent = take::open(holding.hand.entry.block(), holding.intent, plan);
    take::settle(&channel.area, index, seen, u64::from(LANE) / 64).unwrap();
    assert_eq!(take::current(holding.hand.entry.block()), holding.intent);
    holding.intent = take::close(holding.hand.entry.block(), holding.intent);
    second.ack(&held[0].0.receipt).unwrap();
    assert_sound(&channel);
}

#[test]
fn a_dead_letter_whose_sender_died_in_between_is_marked() {
    let letters = DeadLetters { after: 1, channel: "letters".into() };
    let (stage, channel) = with(Acknowledge { visibility: None, dead_letters: Some(letters) });
    let (other, dead) = once();
    stage.send_letters_to(&other);
    channel.publisher().unwrap().send(b"letter").unwrap();
    act_as(2);
    let mut first = channel.consumer().unwrap();
    let held = drain(&mut first);
    // It said that it was going to send it, and died.
    let holding = first.holding.as_ref().unwrap();
    let word = held[0].0.receipt.word;
    assert!(holding.hand.change(held[0].0.receipt.number, word, word.touched().as_letter(true)));
    dies(&stage, 2, first);
    act_as(3);
    let mut second = channel.consumer().unwrap();
    assert!(drain(&mut second).is_empty());
    let got = drain(&mut dead.consumer().unwrap());
    assert_eq!(texts(&got), ["letter"]);
    assert!(got[0].0.redelivered && got[0].0.deliveries == 1);
    assert_sound(&channel);
}

#[test]
fn a_sleeping_consumer_is_woken_by_a_message_and_by_one_given_back() {
    for (_stage, channel) in [once(), least_once()] {
        let mut publisher = channel.publisher().unwrap();
        let mut consumer = channel.consumer().unwrap();
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| {
                act_as(5);
                let mut buffer = Vec::new();
                consumer.recv(&mut buffer, SOON).unwrap().unwrap();
                buffer
            });
            std::thread::sleep(Duration::from_millis(30));
            publisher.send(b"wake").unwrap();
            assert_eq!(sleeper.join().unwrap(), b"wake");
        });
    }
}

#[test]
fn a_consumer_may_move_to_another_thread_as_long_as_nobody_took_over_from_the_last() {
    let (_stage, channel) = least_once();
    let mut publisher = channel.publisher().unwrap();
    for text in ["a", "b", "c"] {
        publisher.send(text.as_bytes()).unwrap();
    }
    let receive = |thread: u16, mut consumer: Consumer| {
        std::thread::spawn(move || {
            act_as(thread);
            let delivery = consumer.try_recv(&mut Vec::new());
            (consumer, delivery)
        })
        .join()
        .unwrap()
    };
    let (consumer, first) = receive(5, channel.consumer().unwrap());
    let (mut consumer, second) = receive(6, consumer);
    act_as(7);
    consumer.ack(&first.unwrap().unwrap().receipt).unwrap();
    assert_eq!(consumer.ack_all().unwrap(), 1, "{second:?}");
    let (consumer, third) = receive(8, consumer);
    assert!(third.unwrap().is_some());
    // The thread detaches, as it does at its end: what it held is for others.
    inherit(&channel.area, 8).unwrap();
    let (consumer, closed) = receive(9, consumer);
    assert_eq!(closed.unwrap_err().code(), ErrorCode::Closed);
    let again = drain(&mut channel.consumer().unwrap());
    assert_eq!(texts(&again), ["c"]);
    drop(consumer);
    assert_sound(&channel);
}

#[test]
fn many_threads_take_each_message_once() {
    const EACH: u64 = 20_000;
    for (_stage, channel) in [once(), least_once()] {
        let total = std::sync::atomic::AtomicU64::new(0);
        // Each has a lane of its own: who begins when the other has ended would go on with its lane.
        let begun = std::sync::Barrier::new(2);
        let counts: Vec<HashMap<(u32, u64), u32>> = std::thread::scope(|scope| {
            for thread in 0..2u16 {
                let (channel, begun) = (channel.clone(), &begun);
                scope.spawn(move || {
                    act_as(20 + thread);
                    let mut publisher = channel.publisher().unwrap();
                    begun.wait();
                    for number in 0..EACH {
                        publisher.send(&number.to_le_bytes()).unwrap();
                    }
                });
            }
            let consumers: Vec<_> = (0..3u16)
                .map(|thread| {
                    let (channel, total) = (channel.clone(), &total);
                    scope.spawn(move || {
                        act_as(30 + thread);
                        let mut consumer = channel.consumer().unwrap();
                        let (mut seen, mut last) = (HashMap::new(), HashMap::new());
                        while total.load(Ordering::Relaxed) < 2 * EACH {
                            let taken = consumer
                                .poll(32, |delivery, bytes| {
                                    let number = u64::from_le_bytes(bytes.try_into().unwrap());
                                    let before = last.insert(delivery.lane, number);
                                    assert!(before.is_none_or(|before| before < number));
                                    *seen.entry((delivery.lane, number)).or_insert(0) += 1;
                                })
                                .unwrap();
                            consumer.ack_all().unwrap();
                            total.fetch_add(taken as u64, Ordering::Relaxed);
                            if taken == 0 {
                                std::thread::yield_now();
                            }
                        }
                        seen
                    })
                })
                .collect();
            consumers.into_iter().map(|consumer| consumer.join().unwrap()).collect()
        });
        let mut all = HashMap::new();
        for (key, count) in counts.into_iter().flatten() {
            *all.entry(key).or_insert(0) += count;
        }
        assert_eq!(all.len() as u64, 2 * EACH);
        assert!(all.values().all(|count| *count == 1));
        assert_sound(&channel);
    }
}

#[test]
fn any_content_of_heads_entries_and_cells_gives_an_error_or_messages_and_never_a_panic() {
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let mut errors = 0;
    for round in 0..600 {
        let (stage, channel) = if round % 3 == 0 { once() } else { least_once() };
        act_as(1);
        let mut publisher = channel.publisher().unwrap();
        let mut consumer = channel.consumer().unwrap();
        let mut other = channel.consumer().unwrap();
        for _ in 0..20 {
            publisher.send(&[3; 77]).unwrap();
        }
        let mut receipts = Vec::new();
        consumer.poll(5, |delivery, _| receipts.push(delivery.receipt.clone())).unwrap();
        let all = stage.shm.span(256, stage.shm.len() - 256).unwrap();
        let heads = channel.area.queue().unwrap().heads - 256;
        let entries = channel.area.queue().unwrap().entries - 256;
        let rings = super::super::testing::CONTROL_BYTES;
        for _ in 0..1 + next() % 40 {
            let at = match next() % 6 {
                0 => next() % 384,
                1 => heads + next() % 64,
                2 => entries + next() % (2 * consumer::BYTES),
                3 => rings + u64::from(LANE) + next() % 512,
                4 => rings + 2 * u64::from(LANE) + next() % 512,
                _ => next() % all.len(),
            } & !7;
            let value = match next() % 4 {
                0 => next(),
                1 => u64::MAX - next() % 64,
                2 => layout::CellWord::held(next() % 70, 1, next() % 2 == 0).0 + next() % 5,
                _ => next() % 8192,
            };
            all.u64(at).unwrap().store(value, Ordering::Relaxed);
        }
        for _ in 0..20 {
            errors += u32::from(publisher.try_send(&[1; 500]).is_err());
            errors += u32::from(consumer.poll(7, |_, _| {}).is_err());
            errors += u32::from(other.poll(7, |_, _| {}).is_err());
        }
        for mut receipt in receipts {
            errors += u32::from(consumer.extend(&mut receipt, Duration::from_secs(1)).is_err());
            errors += u32::from(consumer.ack(&receipt).is_err());
        }
        errors += u32::from(consumer.ack_all().is_err());
        let _ = check(&channel.area, &mut |_, _| errors += 1);
        let _ = check_taken_over(&channel.area, &mut |_, _| errors += 1);
        errors += u32::from(inherit(&channel.area, 1).is_err());
        errors += u32::from(channel.stats().is_err());
        errors += u32::from(channel.consumer().is_err());
        let bytes = super::super::testing::CONTROL_BYTES;
        errors += u32::from(Area::open(stage.shm.clone(), stage.clone(), 256, bytes, "t").is_err());
    }
    assert!(errors > 600, "{errors}");
}
