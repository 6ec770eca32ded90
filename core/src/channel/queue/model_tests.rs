//! Random operations and deaths on a queue with acknowledgement, against sets.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use proptest::prelude::*;

use super::super::inherit::inherit;
use super::super::testing::{act_as, reopen};
use super::tests::{assert_sound, dies, least_once};
use super::*;
use crate::error::ErrorCode;

/// What the model does next.
#[derive(Clone, Debug)]
enum Op {
    Send { publisher: usize, len: usize },
    Poll { consumer: usize, limit: usize },
    Recv { consumer: usize },
    Ack { consumer: usize, which: usize },
    AckAll { consumer: usize },
    Nack { consumer: usize, which: usize },
    Extend { consumer: usize, which: usize },
    Leave { consumer: usize },
    Kill { consumer: usize, reap: bool },
    KillPublisher { publisher: usize },
}

fn op() -> impl Strategy<Value = Op> {
    let consumer = || 0..3usize;
    prop_oneof![
        10 => (0..2usize, 0..200usize).prop_map(|(publisher, len)| Op::Send { publisher, len }),
        4 => (consumer(), 1..20usize).prop_map(|(consumer, limit)| Op::Poll { consumer, limit }),
        6 => consumer().prop_map(|consumer| Op::Recv { consumer }),
        8 => (consumer(), 0..20usize).prop_map(|(consumer, which)| Op::Ack { consumer, which }),
        2 => consumer().prop_map(|consumer| Op::AckAll { consumer }),
        3 => (consumer(), 0..20usize).prop_map(|(consumer, which)| Op::Nack { consumer, which }),
        2 => (consumer(), 0..20usize).prop_map(|(consumer, which)| Op::Extend { consumer, which }),
        1 => consumer().prop_map(|consumer| Op::Leave { consumer }),
        1 => (consumer(), any::<bool>()).prop_map(|(consumer, reap)| Op::Kill { consumer, reap }),
        1 => (0..2usize).prop_map(|publisher| Op::KillPublisher { publisher }),
    ]
}

type Message = (u32, u64);

/// Where each message is.
#[derive(Default)]
struct World {
    payload: HashMap<Message, Vec<u8>>,
    /// Of each lane, what nobody took yet.
    waiting: HashMap<u32, VecDeque<u64>>,
    /// For anybody, with the number of deliveries so far.
    returned: HashMap<Message, u32>,
    done: HashSet<Message>,
}

impl World {
    fn taken(&mut self, delivery: &Delivery, bytes: &[u8]) {
        let message = (delivery.lane, delivery.position);
        assert_eq!(self.payload[&message], bytes);
        assert!(!self.done.contains(&message), "acknowledged before: {delivery:?}");
        match self.returned.remove(&message) {
            Some(before) => {
                assert!(delivery.redelivered && delivery.deliveries == before + 1, "{delivery:?}")
            }
            None => {
                assert_eq!(
                    self.waiting.get_mut(&delivery.lane).and_then(VecDeque::pop_front),
                    Some(delivery.position)
                );
                assert!(!delivery.redelivered && delivery.deliveries == 1, "{delivery:?}");
            }
        }
    }

    fn left(&mut self, held: Vec<Delivery>) {
        self.returned.extend(
            held.into_iter().map(|delivery| ((delivery.lane, delivery.position), delivery.deliveries)),
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if std::env::var_os("MEMORA_TORTURE").is_some() { 5000 } else { 300 }, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_operations_and_deaths_keeps_each_message_in_one_place(ops in prop::collection::vec(op(), 1..300)) {
        let (stage, channel) = least_once();
        let mut threads = 2u16;
        let mut fresh = || { threads += 1; act_as(threads); threads };
        let mut consumers: Vec<(u16, Consumer, Vec<Delivery>)> =
            (0..3).map(|_| (fresh(), channel.consumer().unwrap(), Vec::new())).collect();
        let mut publishers: Vec<(u16, crate::channel::Publisher)> =
            (0..2).map(|_| (fresh(), channel.publisher().unwrap())).collect();
        let mut world = World::default();
        let mut unreaped = false;
        for (number, op) in ops.into_iter().enumerate() {
            match op {
                Op::Send { publisher, len } => {
                    let (thread, publisher) = &mut publishers[publisher];
                    act_as(*thread);
                    let bytes: Vec<u8> = (0..len).map(|at| (at + number) as u8).collect();
                    match publisher.try_send(&bytes) {
                        Ok(position) => {
                            world.payload.insert((publisher.lane(), position), bytes);
                            world.waiting.entry(publisher.lane()).or_default().push_back(position);
                        }
                        Err(error) => prop_assert_eq!(error.code(), ErrorCode::BackPressure),
                    }
                }
                Op::Poll { consumer, limit } => {
                    let (thread, consumer, held) = &mut consumers[consumer];
                    act_as(*thread);
                    let taken = consumer.poll(limit, |delivery, bytes| {
                        world.taken(delivery, bytes);
                        held.push(delivery.clone());
                    });
                    if let Err(error) = taken {
                        prop_assert_eq!(error.code(), ErrorCode::TooManyHeld);
                    }
                }
                Op::Recv { consumer } => {
                    let (thread, consumer, held) = &mut consumers[consumer];
                    act_as(*thread);
                    let mut buffer = Vec::new();
                    match consumer.try_recv(&mut buffer) {
                        Ok(Some(delivery)) => {
                            world.taken(&delivery, &buffer);
                            held.push(delivery);
                        }
                        // What one left that is dead and not reaped may have to wait for the next look round.
                        Ok(None) => {
                            prop_assert!(world.waiting.values().all(VecDeque::is_empty));
                            prop_assert!(unreaped || world.returned.is_empty(), "{:?}", world.returned);
                        }
                        Err(error) => prop_assert_eq!(error.code(), ErrorCode::TooManyHeld),
                    }
                }
                Op::Ack { consumer, which } => {
                    let (thread, consumer, held) = &mut consumers[consumer];
                    act_as(*thread);
                    if !held.is_empty() {
                        let delivery = held.swap_remove(which % held.len());
                        consumer.ack(&delivery.receipt).unwrap();
                        prop_assert_eq!(consumer.ack(&delivery.receipt).unwrap_err().code(), ErrorCode::NotHeld);
                        world.done.insert((delivery.lane, delivery.position));
                    }
                }
                Op::AckAll { consumer } => {
                    let (thread, consumer, held) = &mut consumers[consumer];
                    act_as(*thread);
                    prop_assert_eq!(consumer.ack_all().unwrap(), held.len() as u64);
                    world.done.extend(held.drain(..).map(|delivery| (delivery.lane, delivery.position)));
                }
                Op::Nack { consumer, which } => {
                    let (thread, consumer, held) = &mut consumers[consumer];
                    act_as(*thread);
                    if !held.is_empty() {
                        let delivery = held.swap_remove(which % held.len());
                        consumer.nack(&delivery.receipt, Duration::ZERO).unwrap();
                        world.left(vec![delivery]);
                    }
                }
                Op::Extend { consumer, which } => {
                    let (thread, consumer, held) = &mut consumers[consumer];
                    act_as(*thread);
                    if !held.is_empty() {
                        let which = which % held.len();
                        consumer.extend(&mut held[which].receipt, Duration::from_secs(3600)).unwrap();
                    }
                }
                Op::Leave { consumer } => {
                    let (thread, gone, held) = consumers.remove(consumer);
                    act_as(thread);
                    drop(gone);
                    world.left(held);
                    consumers.insert(consumer, (fresh(), reopen(&stage).consumer().unwrap(), Vec::new()));
                }
                Op::Kill { consumer, reap } => {
                    let (thread, dead, held) = consumers.remove(consumer);
                    dies(&stage, thread, dead);
                    if reap { inherit(&channel.area, thread).unwrap() } else { unreaped = true }
                    world.left(held);
                    consumers.insert(consumer, (fresh(), reopen(&stage).consumer().unwrap(), Vec::new()));
                }
                Op::KillPublisher { publisher } => {
                    let (thread, dead) = publishers.remove(publisher);
                    dies(&stage, thread, dead);
                    inherit(&channel.area, thread).unwrap();
                    publishers.insert(publisher, (fresh(), channel.publisher().unwrap()));
                }
            }
        }
        // In the end everything that is not acknowledged comes to one who asks for it.
        for (thread, consumer, held) in consumers {
            act_as(thread);
            drop(consumer);
            world.left(held);
        }
        fresh();
        let mut last = channel.consumer().unwrap();
        let mut buffer = Vec::new();
        while let Some(delivery) = last.try_recv(&mut buffer).unwrap() {
            world.taken(&delivery, &buffer);
            last.ack(&delivery.receipt).unwrap();
            world.done.insert((delivery.lane, delivery.position));
        }
        prop_assert_eq!(world.done.len(), world.payload.len());
        assert_sound(&channel);
    }
}
