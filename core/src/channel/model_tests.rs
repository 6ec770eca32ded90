//! Random operations and deaths on a channel, against queues.

use std::collections::{HashMap, VecDeque};

use proptest::prelude::*;

use super::inherit::inherit;
use super::testing::act_as;
use super::tests::{assert_sound, block, dies};
use super::*;
use crate::error::ErrorCode;

/// What the model does next.
#[derive(Clone, Debug)]
enum Op {
    Send { publisher: usize, len: usize },
    Claim { publisher: usize, len: usize, commit: bool },
    Poll { subscriber: usize, limit: usize },
    Recv { subscriber: usize },
    Commit { subscriber: usize },
    Kill { subscriber: usize },
    KillPublisher { publisher: usize },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (0..2usize, 0..496usize).prop_map(|(publisher, len)| Op::Send { publisher, len }),
        2 => (0..2usize, 0..496usize, any::<bool>())
            .prop_map(|(publisher, len, commit)| Op::Claim { publisher, len, commit }),
        4 => (0..2usize, 0..20usize).prop_map(|(subscriber, limit)| Op::Poll { subscriber, limit }),
        3 => (0..2usize).prop_map(|subscriber| Op::Recv { subscriber }),
        1 => (0..2usize).prop_map(|subscriber| Op::Commit { subscriber }),
        1 => (0..2usize).prop_map(|subscriber| Op::Kill { subscriber }),
        1 => (0..2usize).prop_map(|publisher| Op::KillPublisher { publisher }),
    ]
}

/// For one named subscription: per lane what is still to be handed out, and what is handed out and not yet handled.
#[derive(Default)]
struct Expected {
    waiting: HashMap<u32, VecDeque<(u64, Vec<u8>)>>,
    unhandled: HashMap<u32, VecDeque<(u64, Vec<u8>)>>,
}

impl Expected {
    fn take(&mut self, message: &Message, bytes: &[u8]) {
        let next = self.waiting.get_mut(&message.lane).and_then(VecDeque::pop_front);
        assert_eq!(
            next.as_ref().map(|(position, text)| (*position, text.as_slice())),
            Some((message.position, bytes))
        );
        self.unhandled.entry(message.lane).or_default().push_back(next.expect("compared"));
    }

    fn die(&mut self) {
        for (lane, mut again) in self.unhandled.drain() {
            let waiting = self.waiting.entry(lane).or_default();
            again.append(waiting);
            *waiting = again;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if std::env::var_os("MEMORA_TORTURE").is_some() { 5000 } else { 200 }, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_operations_and_deaths_is_that_of_queues(ops in prop::collection::vec(op(), 1..200)) {
        let (stage, channel) = block(ChannelKind::Broadcast);
        let mut threads = 2u16;
        let mut fresh = |who: &str| { threads += 1; act_as(threads); (threads, who.to_owned()) };
        let mut subscribers = Vec::new();
        for name in ["a", "b"] {
            let (thread, name) = fresh(name);
            subscribers.push((thread, channel.subscribe(&name).unwrap(), name));
        }
        let mut publishers: Vec<(u16, Publisher)> = (0..2).map(|_| {
            let (thread, _) = fresh("");
            (thread, channel.publisher().unwrap())
        }).collect();
        let mut expected = [Expected::default(), Expected::default()];
        for (number, op) in ops.into_iter().enumerate() {
            let payload = |len: usize| -> Vec<u8> { (0..len).map(|at| (at + number) as u8).collect() };
            let mut sent = None;
            match op {
                Op::Send { publisher, len } => {
                    let (thread, publisher) = &mut publishers[publisher];
                    act_as(*thread);
                    match publisher.try_send(&payload(len)) {
                        Ok(position) => sent = Some((publisher.lane(), position, payload(len))),
                        Err(error) => prop_assert_eq!(error.code(), ErrorCode::BackPressure),
                    }
                }
                Op::Claim { publisher, len, commit } => {
                    let (thread, publisher) = &mut publishers[publisher];
                    act_as(*thread);
                    let lane = publisher.lane();
                    match publisher.try_claim(len) {
                        Ok(mut claim) => {
                            claim.write(0, &payload(len)).unwrap();
                            if commit { sent = Some((lane, claim.commit().unwrap(), payload(len))) } else { claim.abort() }
                        }
                        Err(error) => prop_assert_eq!(error.code(), ErrorCode::BackPressure),
                    }
                }
                Op::Poll { subscriber, limit } => {
                    let expected = &mut expected[subscriber];
                    let (thread, subscriber, _) = &mut subscribers[subscriber];
                    act_as(*thread);
                    expected.unhandled.clear();
                    let waiting: usize = expected.waiting.values().map(VecDeque::len).sum();
                    let taken = subscriber.poll(limit, |message, bytes| expected.take(message, bytes)).unwrap();
                    prop_assert_eq!(taken, limit.min(waiting));
                }
                Op::Recv { subscriber } => {
                    let expected = &mut expected[subscriber];
                    let (thread, subscriber, _) = &mut subscribers[subscriber];
                    act_as(*thread);
                    expected.unhandled.clear();
                    let mut buffer = Vec::new();
                    match subscriber.try_recv(&mut buffer).unwrap() {
                        Some(message) => expected.take(&message, &buffer),
                        None => prop_assert!(expected.waiting.values().all(VecDeque::is_empty)),
                    }
                }
                Op::Commit { subscriber } => {
                    expected[subscriber].unhandled.clear();
                    let (thread, subscriber, _) = &mut subscribers[subscriber];
                    act_as(*thread);
                    subscriber.commit().unwrap();
                }
                Op::Kill { subscriber } => {
                    expected[subscriber].die();
                    let (thread, dead, name) = subscribers.remove(subscriber);
                    dies(&stage, thread, dead);
                    if number % 2 == 0 { inherit(&channel.area, thread).unwrap() }
                    let (thread, name) = fresh(&name);
                    subscribers.insert(subscriber, (thread, channel.subscribe(&name).unwrap(), name));
                }
                Op::KillPublisher { publisher } => {
                    let (thread, dead) = publishers.remove(publisher);
                    dies(&stage, thread, dead);
                    inherit(&channel.area, thread).unwrap();
                    let (thread, _) = fresh("");
                    publishers.insert(publisher, (thread, channel.publisher().unwrap()));
                }
            }
            if let Some((lane, position, bytes)) = sent {
                for expected in &mut expected {
                    expected.waiting.entry(lane).or_default().push_back((position, bytes.clone()));
                }
            }
        }
        assert_sound(&channel);
    }
}
