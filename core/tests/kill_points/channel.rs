//! Victims on channels: both kinds and policies, claims, waits, named and anonymous subscriptions, rings that wrap.

use std::collections::HashMap;
use std::time::Duration;

use memora::shm::kill_point::hits;
use memora::{Channel, ChannelKind, ChannelOptions, ErrorCode, Fabric, OverrunPolicy, Publisher, Subscriber};
use memora_stress::queue::QueueClient;
use memora_stress::random::Random;
use memora_testkit::history::{operations, read};
use memora_testkit::kill_point::{Harm, Victim, within_patience};
use memora_testkit::process::PATIENCE;

use crate::{Blow, ENTRY, Place, Scenario, borrowed, check, environment, in_place, keep};

pub const SCENARIO: Scenario =
    Scenario { role: "channel", covers: |_| true, tries: 2, prepare, survive, conclude };

/// The channels of the scenario: name, kind, policy, and whether more than one may subscribe.
const CHANNELS: [(&str, ChannelKind, OverrunPolicy); 3] = [
    ("each", ChannelKind::Broadcast, OverrunPolicy::Block),
    ("newest", ChannelKind::Broadcast, OverrunPolicy::Overrun),
    ("one", ChannelKind::Stream, OverrunPolicy::Block),
];
const LANE_BYTES: u32 = 16 << 10;

fn open(fabric: &Fabric, index: usize) -> Channel {
    let (name, kind, overrun) = CHANNELS[index];
    fabric
        .channel(name, &ChannelOptions { kind, overrun, lane_bytes: LANE_BYTES, ..ChannelOptions::default() })
        .unwrap_or_else(|error| panic!("channel {name} does not open: {error}"))
}

fn prepare(place: &Place) -> Vec<Victim> {
    let fabric = place.channels();
    for index in 0..CHANNELS.len() {
        open(&fabric, index);
    }
    // Near the end of its ring, so that some batches have padding in between.
    for (channel, mut reader) in batched(&fabric) {
        let mut publisher = channel.publisher().expect("a lane");
        for _ in 0..13 {
            publisher.send(&[0; 1000]).expect("sent");
            while reader.poll(8, |_, _| {}).expect("polled") > 0 {}
        }
    }
    Vec::new()
}

/// The channels for batches, each with the subscription that keeps what is sent.
fn batched(fabric: &Fabric) -> Vec<(Channel, Subscriber)> {
    let channels = [("together", OverrunPolicy::Block), ("together-lossy", OverrunPolicy::Overrun)];
    let open = |(name, overrun)| {
        let options = ChannelOptions {
            kind: ChannelKind::Broadcast,
            overrun,
            lane_bytes: LANE_BYTES,
            ..ChannelOptions::default()
        };
        let channel = fabric.channel(name, &options).expect("opens");
        let reader = channel.subscribe("reader").expect("subscribed");
        (channel, reader)
    };
    channels.into_iter().map(open).collect()
}

/// Each message says which of how many it is.
fn send_batches(fabric: &Fabric) {
    for name in ["together", "together-lossy"] {
        let channel = fabric.open_channel(name).expect("prepared");
        let mut publisher = channel.publisher().expect("a lane");
        for count in 1..30u8 {
            let messages: Vec<_> = (0..count).map(|which| vec![which + 1, count, count]).collect();
            let messages: Vec<_> = messages.iter().map(Vec::as_slice).collect();
            match publisher.try_send_all(&messages) {
                Ok(_) => {}
                Err(error) => assert_eq!(error.code(), ErrorCode::BackPressure, "{error}"),
            }
        }
    }
}

/// What others sent together is there together, or not at all.
fn read_batches(fabric: &Fabric) {
    for (channel, mut reader) in batched(fabric) {
        // Each lane has batches of its own.
        let mut expected: HashMap<u32, u8> = HashMap::new();
        loop {
            let polled = reader.poll(100, |message, bytes| {
                let [which, count, _] = bytes else { panic!("{bytes:?} was not sent") };
                let next = expected.entry(message.lane).or_insert(1);
                assert_eq!(which, next, "a batch of {count} is not whole");
                *next = if which == count { 1 } else { which + 1 };
            });
            match polled {
                Ok(0) => break,
                Ok(_) => {}
                // A loss may begin and end inside of batches.
                Err(error) if error.code() == ErrorCode::Overrun => panic!("nobody sends so much: {error}"),
                Err(error) => panic!("{error}"),
            }
        }
        assert!(expected.values().all(|next| *next == 1), "{}: half a batch is there", channel.name());
    }
}

pub fn victim(place: &Place) {
    let fabric = place.channels();
    let mut random = Random::new("victim");
    for round in 0..3 {
        for index in 0..CHANNELS.len() {
            let name = (round > 0 && index == 0).then_some("keeper");
            work(&fabric, index, place, "victim", name, &mut random, 120);
        }
    }
    // A machine that is busy may wake nobody at first.
    let woken =
        || hits().iter().filter(|(name, count)| WAITS.contains(name) && *count > 0).count() == WAITS.len();
    for _ in 0..100 {
        sleep_and_wake(&fabric);
        if woken() {
            break;
        }
    }
    // On a channel of its own, because what it sends stands in no history.
    let options = ChannelOptions { lane_bytes: LANE_BYTES, ..ChannelOptions::default() };
    let channel = fabric.channel("stuck", &options).expect("created");
    let mut subscriber = channel.subscriber().expect("subscribed");
    let mut publisher = channel.publisher().expect("published");
    let full = (0..10_000).any(|_| publisher.try_send(b"unread").is_err());
    assert!(full, "a subscriber that does not read holds its producer back");
    let refused = publisher.send_timeout(b"unread", ASLEEP).expect_err("still full");
    assert!(matches!(refused.code(), ErrorCode::TimedOut | ErrorCode::BackPressure), "{refused}");
    let count = subscriber.poll(8, |_, payload| assert_eq!(payload, b"unread")).expect("polled");
    assert!(count > 0);
    subscriber.commit().expect("committed");
    subscriber.lag().expect("counted");
    channel.stats().expect("counted");
    assert!(channel.eject(subscriber.id()).expect("ejected"));
    let refused = subscriber.poll(8, |_, _| {}).expect_err("it was ejected");
    assert_eq!(refused.code(), ErrorCode::Ejected, "{refused}");
    send_batches(&fabric);
}

/// What only those reach who sleep or wake others.
const WAITS: [&str; 3] = ["channel.wait.armed", "channel.wake.before_clear", "channel.wake.cleared"];
/// Long enough for a waiter to have stopped looking and gone to sleep.
const ASLEEP: Duration = Duration::from_millis(30);

/// A subscriber sleeps until a message comes, a publisher until there is room.
fn sleep_and_wake(fabric: &Fabric) {
    let options = ChannelOptions { lane_bytes: LANE_BYTES, ..ChannelOptions::default() };
    let channel = fabric.channel("woken", &options).expect("created");
    let mut publisher = channel.publisher().expect("a lane");
    let mut subscriber = channel.subscriber().expect("subscribed");
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || {
            let mut buffer = Vec::new();
            subscriber.recv(&mut buffer, Some(PATIENCE)).expect("received").expect("it was sent");
            std::thread::sleep(ASLEEP);
            // Each batch makes room for those who wait.
            let mut seen = 1;
            while buffer != b"last" {
                subscriber.recv(&mut buffer, Some(PATIENCE)).expect("received").expect("it was sent");
                seen += 1;
            }
            seen
        });
        std::thread::sleep(ASLEEP);
        let mut sent = 0;
        // More than a ring holds: the publisher waits for the reader.
        for _ in 0..1000 {
            publisher.send_timeout(&[1; 40], PATIENCE).expect("sent");
            sent += 1;
        }
        publisher.send_timeout(b"last", PATIENCE).expect("sent");
        assert_eq!(reader.join().expect("no panic"), sent + 1);
    });
}

/// Sends and receives in turn, each message noted in the history.
fn work(
    fabric: &Fabric,
    index: usize,
    place: &Place,
    who: &str,
    subscription: Option<&str>,
    random: &mut Random,
    count: u64,
) {
    let channel = open(fabric, index);
    let mut client =
        QueueClient::open(&place.history(who), who, CHANNELS[index].0).expect("the place is writable");
    let mut subscriber = match client.subscribe(&channel, subscription) {
        Ok(subscriber) => Some(subscriber),
        // A frozen victim is alive: its subscription stays its own.
        Err(memora_stress::Failure::Memora(error))
            if matches!(error.code(), ErrorCode::SubscriptionInUse | ErrorCode::TooManySubscribers) =>
        {
            None
        }
        Err(error) => panic!("{who} cannot subscribe to {}: {error}", CHANNELS[index].0),
    };
    let mut publisher = channel.publisher().unwrap_or_else(|error| panic!("{who} cannot publish: {error}"));
    for _ in 0..count {
        let pad = if random.draw(8) == 0 { random.draw(1800) } else { random.draw(100) } as usize;
        let sent = match random.draw(4) {
            0 => client.send_by(pad, |payload| publisher.send_timeout(payload, Duration::from_millis(1))),
            1 => client.send_by(pad, |payload| claimed(&mut publisher, payload)),
            _ => client.send(&mut publisher, pad),
        };
        sent.unwrap_or_else(|error| panic!("{who} cannot send: {error}"));
        if random.draw(10) == 0
            && let Ok(claim) = publisher.try_claim(40)
        {
            claim.abort();
        }
        let Some(subscriber) = &mut subscriber else { continue };
        let wait = (random.draw(20) == 0).then_some(Duration::from_millis(1));
        for _ in 0..random.draw(4) {
            client.recv(subscriber, wait).unwrap_or_else(|error| panic!("{who} cannot receive: {error}"));
        }
    }
    // More than a ring holds: where nobody waits, the subscriber is lapped.
    for _ in 0..300 {
        client.send(&mut publisher, 60).unwrap_or_else(|error| panic!("{who} cannot send: {error}"));
    }
    // What is left, until the channel says that nothing is.
    for _ in 0..10_000 {
        let Some(subscriber) = &mut subscriber else { break };
        if !client.recv(subscriber, None).unwrap_or_else(|error| panic!("{who} cannot receive: {error}")) {
            break;
        }
    }
}

fn claimed(publisher: &mut Publisher, payload: &[u8]) -> memora::Result<u64> {
    // This thread is a subscriber, too: it must not wait for itself.
    let mut claim = publisher.try_claim(payload.len())?;
    claim.write(0, payload)?;
    claim.commit()
}

/// Goes on where others died.
pub fn survivor(place: &Place, who: &str, random: &mut Random) {
    let fabric = place.channels();
    for index in 0..CHANNELS.len() {
        work(&fabric, index, place, who, None, random, 200);
    }
}

fn survive(place: &Place, blow: Blow) {
    let fabric = place.channels();
    let history = Place { root: place.root.clone() };
    within_patience("operations on the channels of the victim", move || {
        survivor(&history, "survivor", &mut Random::new(&format!("survivor {blow:?}")));
    });
    within_patience("the check", move || {
        read_batches(&fabric);
        check(&fabric, "with the victim");
    });
}

pub fn conclude(place: &Place) {
    let fabric = place.channels();
    let mut random = Random::new("last");
    for index in 0..CHANNELS.len() {
        let name = (index == 0).then_some("keeper");
        work(&fabric, index, place, "last", name, &mut random, 200);
    }
    read_batches(&fabric);
    check(&fabric, "after the victim");
    let mut lines = read(&place.histories()).expect("readable");
    lines.retain(|line| line.q.is_some());
    let operations = operations(&lines).expect("well formed");
    if let Err(error) = memora_testkit::queue_history::check(&operations) {
        panic!("{error}\nhistories kept in {}", keep(place).display());
    }
}

/// A subscriber that looked at the lanes before there was this one hears the next who publishes on it: the dead one's successor
/// is given its lane, ring and all, and makes none that subscribers would be told of.
#[test]
fn who_subscribed_before_a_publisher_died_at_its_first_lane_hears_the_successor() {
    for point in ["channel.ring.named", "channel.lane.live"] {
        in_place(|place| {
            let fabric = place.channels();
            let channel = open(&fabric, 0);
            let mut early = channel.subscriber().expect("subscribed");
            assert_eq!(early.poll(8, |_, _| {}).expect("polled"), 0);
            let environment = environment(place);
            Victim::harm(ENTRY, "channel", &borrowed(&environment), (point, 1, Harm::Kill))
                .unwrap_or_else(|| panic!("the victim does not reach {point}"));
            fabric.reap().expect("reaped");
            channel.publisher().expect("the lane of the dead").send(b"successor").expect("sent");
            let mut heard = Vec::new();
            early.recv(&mut heard, Some(PATIENCE)).expect("received").expect("it was sent");
            assert_eq!(heard, b"successor", "{point}");
            assert_eq!(channel.stats().expect("counted").lanes, 1, "{point}: the lane was used again");
        });
    }
}
