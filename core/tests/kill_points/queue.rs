//! Victims on queues: with and without acknowledgement, dead letters, hands that are taken over, from the dead and from the stopped.

use std::time::Duration;

use memora::{Acknowledge, Channel, ChannelKind, ChannelOptions, Consumer, DeadLetters, Fabric};
use memora_stress::queue::QueueClient;
use memora_stress::random::Random;
use memora_stress::work::Taken;
use memora_testkit::history::{operations, read};
use memora_testkit::kill_point::{Harm, Victim, within_patience};
use memora_testkit::process::Worker;
use memora_testkit::work_history::{self, Queue};

use crate::{Blow, ENTRY, Place, Scenario, borrowed, check, environment, keep};

pub const SCENARIO: Scenario = Scenario { role: "queue", covers, tries: 1, prepare, survive, conclude };

const LANE_BYTES: u32 = 16 << 10;
/// A message that a frozen one holds goes to others after this time.
const VISIBILITY: Duration = Duration::from_millis(40);
/// What is judged.
const QUEUES: [Queue<'static>; 2] = [
    Queue { name: "work", acknowledged: true, letters: Some("letters") },
    Queue { name: "once", acknowledged: false, letters: None },
];

/// Takers that stand at these points when the victim comes; all but the last are dead by then.
const OTHERS: [(&str, u64); 4] = [
    ("channel.take.claimed", 3),
    ("channel.take.open", 4),
    ("channel.take.shown", 5),
    ("channel.take.claimed", 2),
];

fn covers(name: &str) -> bool {
    [
        "return",
        "ack",
        "extend",
        "consume",
        "take",
        "help",
        "settle",
        "hand",
        "enter",
        "quit",
        "redeliver",
        "letter",
    ]
    .iter()
    .any(|part| name.strip_prefix("channel.").is_some_and(|rest| rest.starts_with(&format!("{part}."))))
        || name.starts_with("channel.inherit.") && name.ends_with("left")
}

fn options(acknowledge: Option<Acknowledge>) -> ChannelOptions {
    ChannelOptions {
        kind: ChannelKind::Queue,
        lane_bytes: LANE_BYTES,
        acknowledge,
        ..ChannelOptions::default()
    }
}

fn fabric(place: &Place) -> Fabric {
    place.open("queues", crate::FABRIC_LIMIT)
}

fn open(fabric: &Fabric, name: &str) -> Channel {
    let letters = DeadLetters { after: 4, channel: "letters".into() };
    let work = Acknowledge { visibility: Some(VISIBILITY), dead_letters: Some(letters) };
    let options = options((name == "work").then_some(work));
    fabric.channel(name, &options).unwrap_or_else(|error| panic!("queue {name} does not open: {error}"))
}

fn client(place: &Place, who: &str, queue: &str) -> QueueClient {
    let who = format!("{who}.{queue}.{}", std::process::id());
    QueueClient::open(&place.history(&who), &who, queue).expect("the place is writable")
}

fn prepare(place: &Place) -> Vec<Victim> {
    for queue in QUEUES {
        open(&fabric(place), queue.name);
    }
    let environment = environment(place);
    let freeze = |(name, nth)| {
        Victim::harm(ENTRY, "taker", &borrowed(&environment), (name, nth, Harm::Freeze))
            .unwrap_or_else(|| panic!("the taker does not reach {name}:{nth}"))
    };
    let mut others: Vec<Victim> = OTHERS.into_iter().map(freeze).collect();
    let frozen = others.pop().into_iter().collect();
    for victim in &mut others {
        assert!(Worker::was_killed(victim.worker().kill()), "a frozen process does nothing but die");
    }
    frozen
}

/// Sends to its own lane and takes from it, so that each of them leaves a lane of its own with messages behind what it took.
pub fn taker(place: &Place) {
    let fabric = fabric(place);
    let channel = open(&fabric, "work");
    let mut client = client(place, "taker", "work");
    let mut publisher = channel.publisher().expect("a lane");
    let mut consumer = channel.consumer().expect("a consumer");
    for _ in 0..8 {
        assert!(client.send(&mut publisher, 20).expect("sent"));
    }
    for _ in 0..8 {
        if let Some(taken) = client.take(&mut consumer, None).expect("taken") {
            client.ack(&mut consumer, &taken).expect("acknowledged");
        }
    }
}

pub fn victim(place: &Place) {
    let fabric = fabric(place);
    let mut random = Random::new("victim");
    for _ in 0..3 {
        work(&fabric, place, "victim", &mut random, 60);
    }
    // Queues of its own, because what it does with them stands in no history.
    fill_letters(&fabric);
    hold_long(&fabric);
}

/// Two consumers and a publisher on each queue do everything that they can.
fn work(fabric: &Fabric, place: &Place, who: &str, random: &mut Random, count: u64) {
    for queue in QUEUES {
        let channel = open(fabric, queue.name);
        let mut client = client(place, who, queue.name);
        let mut publisher =
            channel.publisher().unwrap_or_else(|error| panic!("{who} cannot publish: {error}"));
        let consumer = || channel.consumer().unwrap_or_else(|error| panic!("{who} cannot consume: {error}"));
        let mut consumers = [consumer(), consumer()];
        let mut held: [Vec<Taken>; 2] = [Vec::new(), Vec::new()];
        for _ in 0..count {
            let pad = if random.draw(8) == 0 { random.draw(1800) } else { random.draw(100) } as usize;
            for _ in 0..random.draw(3) {
                client.send(&mut publisher, pad).unwrap_or_else(|error| panic!("{who} cannot send: {error}"));
            }
            let which = random.draw(2) as usize;
            let wait = (random.draw(30) == 0).then_some(Duration::from_millis(2));
            let taken = client
                .take(&mut consumers[which], wait)
                .unwrap_or_else(|error| panic!("{who} cannot take: {error}"));
            if !queue.acknowledged {
                continue;
            }
            held[which].extend(taken);
            settle(&mut client, &mut consumers[which], &mut held[which], random);
        }
    }
}

/// Does something with one of the messages that a consumer holds.
fn settle(client: &mut QueueClient, consumer: &mut Consumer, held: &mut Vec<Taken>, random: &mut Random) {
    if held.is_empty() || random.draw(5) == 0 {
        return;
    }
    let mut taken = held.swap_remove(random.draw(held.len() as u64) as usize);
    // It may have gone to another meanwhile.
    let _held = match random.draw(8) {
        0 => client.back(consumer, &taken, Duration::ZERO).expect("given back"),
        1 => client.back(consumer, &taken, Duration::from_millis(3)).expect("given back"),
        2 => {
            let extended = consumer.extend(&mut taken.delivery.receipt, VISIBILITY * 2).is_ok();
            held.push(taken);
            extended
        }
        _ => client.ack(consumer, &taken).expect("acknowledged"),
    };
}

/// More dead letters than their channel has room for.
fn fill_letters(fabric: &Fabric) {
    let narrow = ChannelOptions { lane_bytes: 4096, ..ChannelOptions::default() };
    fabric.channel("narrow", &narrow).expect("created");
    let letters = DeadLetters { after: 1, channel: "narrow".into() };
    let acknowledge = Acknowledge { visibility: None, dead_letters: Some(letters) };
    let channel = fabric.channel("poison", &options(Some(acknowledge))).expect("created");
    let mut publisher = channel.publisher().expect("a lane");
    let mut consumer = channel.consumer().expect("a consumer");
    let mut buffer = Vec::new();
    for _ in 0..50 {
        publisher.try_send(&[1; 100]).expect("there is room");
        // A survivor may have taken it while this process stood still.
        let Some(delivery) = consumer.try_recv(&mut buffer).expect("taken") else { continue };
        consumer.nack(&delivery.receipt, Duration::ZERO).expect("it is held");
        assert!(consumer.try_recv(&mut buffer).expect("looked").is_none(), "it is a dead letter");
    }
    let stats = channel.stats().expect("counted").queue.expect("a queue");
    assert!((30..=50).contains(&stats.dead_letters), "what fits a lane, with what others left: {stats:?}");
}

/// A message that is held while many others come and go moves on with them.
fn hold_long(fabric: &Fabric) {
    let channel = fabric.channel("long", &options(Some(Acknowledge::default()))).expect("created");
    let mut publisher = channel.publisher().expect("a lane");
    let mut consumer = channel.consumer().expect("a consumer");
    let mut buffer = Vec::new();
    publisher.try_send(b"held").expect("there is room");
    // A survivor may have taken it, or what follows, while this process stood still.
    let held = consumer.try_recv(&mut buffer).expect("taken");
    for _ in 0..500 {
        publisher.try_send(b"passing").expect("there is room");
        let Some(passing) = consumer.try_recv(&mut buffer).expect("taken") else { continue };
        consumer.ack(&passing.receipt).expect("it is held");
    }
    if let Some(held) = held {
        consumer.ack(&held.receipt).expect("it is held");
    }
    assert_eq!(consumer.ack_all().expect("nothing is left"), 0);
}

fn survive(place: &Place, blow: Blow) {
    let root = Place { root: place.root.clone() };
    within_patience("operations on the queues of the victim", move || {
        let fabric = fabric(&root);
        work(&fabric, &root, "survivor", &mut Random::new(&format!("survivor {blow:?}")), 60);
        // Channels of the victim alone: what it left of them is used by others, too.
        for name in ["poison", "long"] {
            if let Ok(channel) = fabric.open_channel(name) {
                let mut consumer = channel.consumer().expect("a consumer");
                channel.publisher().expect("a lane").send(b"survivor").expect("sent");
                consumer.poll(1000, |_, _| {}).expect("polled");
            }
        }
    });
    let fabric = fabric(place);
    within_patience("the check", move || check(&fabric, "with the victim"));
}

fn conclude(place: &Place) {
    let fabric = fabric(place);
    let mut random = Random::new("last");
    work(&fabric, place, "last", &mut random, 30);
    for (queue, name) in [(true, "work"), (false, "once"), (true, "letters")] {
        let channel = fabric.open_channel(name).expect("it exists");
        let mut client = client(place, "end", name);
        let mut consumer = channel.consumer().expect("a consumer");
        // Nobody is left who could hold anything: what is not there after this time is not there.
        while let Some(taken) = client.take(&mut consumer, Some(VISIBILITY * 3)).expect("taken") {
            if queue {
                client.ack(&mut consumer, &taken).expect("acknowledged");
            }
        }
    }
    check(&fabric, "after the victim");
    let mut lines = read(&place.histories()).expect("readable");
    lines.retain(|line| line.q.is_some());
    let operations = operations(&lines).expect("well formed");
    for queue in &QUEUES {
        match work_history::check(&operations, queue) {
            Err(error) => panic!("{}: {error}\nhistories kept in {}", queue.name, keep(place).display()),
            Ok(summary) => assert!(summary.sent > 0 && summary.taken > 0, "{summary:?}"),
        }
    }
}
