//! Channels between two processes: messages a second in one direction, the time of one way, and what sleeping costs.

use std::time::{Duration, Instant};

use memora::{Channel, ChannelKind, ChannelOptions, ErrorCode, Fabric, OverrunPolicy, ReadFrom, Subscriber};

use crate::floor;
use crate::harness::{Case, Figure, Report, interleave};
use crate::pair::Pair;

const ROUNDS: usize = 9;
/// Messages of one sample of a rate.
const COUNT: u64 = 2_000_000;
/// Round trips of one sample with both asleep.
const SLEEPS: u64 = 100;

const STREAM: u8 = b'S';
const SHORT: u8 = b's';
const LOSSY: u8 = b'L';
const BROADCAST: u8 = b'B';
const ECHO: u8 = b'E';
const SLEEPY: u8 = b'e';
const LOG: u8 = b'l';
const BATCHES: u8 = b'b';

fn channel(fabric: &Fabric, name: &str, kind: ChannelKind, overrun: OverrunPolicy) -> Channel {
    let options = ChannelOptions { kind, overrun, ..ChannelOptions::default() };
    fabric.channel(name, &options).expect("a channel")
}

fn stream(fabric: &Fabric, name: &str) -> Channel {
    channel(fabric, name, ChannelKind::Stream, OverrunPolicy::Block)
}

fn lossy(fabric: &Fabric) -> Channel {
    channel(fabric, "lossy", ChannelKind::Broadcast, OverrunPolicy::Overrun)
}

fn broadcast(fabric: &Fabric) -> Channel {
    channel(fabric, "broadcast", ChannelKind::Broadcast, OverrunPolicy::Block)
}

fn log(fabric: &Fabric) -> Channel {
    channel(fabric, "log", ChannelKind::Log, OverrunPolicy::Overrun)
}

/// The second process's side.
pub fn perform(fabric: &Fabric, task: u8, count: u64) {
    match task {
        floor::LINE | floor::LINES => floor::answer(fabric, task, count),
        floor::WAKE => floor::wake_back(fabric, count),
        STREAM => send::<56>(&stream(fabric, "one-way"), count),
        SHORT => send::<32>(&stream(fabric, "one-way"), count),
        LOSSY => send::<56>(&lossy(fabric), count),
        BROADCAST => send::<56>(&broadcast(fabric), count),
        LOG => append(fabric, count, 1),
        BATCHES => append(fabric, count, 16),
        SLEEPY => echo_asleep(fabric, count),
        _ => echo(fabric, count),
    }
}

fn send<const LEN: usize>(channel: &Channel, count: u64) {
    let mut publisher = channel.publisher().expect("a lane");
    let mut message = [7; LEN];
    for number in 0..count {
        message[..8].copy_from_slice(&number.to_le_bytes());
        publisher.send(&message).expect("sent");
    }
}

fn append(fabric: &Fabric, count: u64, batch: usize) {
    let mut appender = log(fabric).appender().expect("a block");
    let message = [7; 32];
    let batch = vec![message.as_slice(); batch];
    for _ in 0..count / batch.len() as u64 {
        match batch.as_slice() {
            [one] => drop(appender.append(one).expect("appended")),
            many => drop(appender.append_all(many.iter().copied()).expect("appended")),
        }
    }
}

fn echo(fabric: &Fabric, count: u64) {
    let mut subscriber = stream(fabric, "there").subscribe("echo").expect("the subscription");
    let mut publisher = stream(fabric, "back").publisher().expect("a lane");
    let mut left = count;
    while left > 0 {
        left -= subscriber
            .poll(1, |_, message| {
                publisher.send(message).expect("sent");
            })
            .expect("a sound channel") as u64;
    }
}

fn echo_asleep(fabric: &Fabric, count: u64) {
    let mut subscriber = stream(fabric, "there").subscribe("echo").expect("the subscription");
    let mut publisher = stream(fabric, "back").publisher().expect("a lane");
    let mut message = Vec::new();
    for _ in 0..count {
        subscriber.recv(&mut message, None).expect("a sound channel").expect("no time limit");
        publisher.send(&message).expect("sent");
    }
}

/// Takes what is there, and checks that it comes in order.
fn take(subscriber: &mut Subscriber, next: &mut u64, start: &mut Option<Instant>) {
    let taken = subscriber.poll(256, |_, message| {
        start.get_or_insert_with(Instant::now);
        assert_eq!(message[..8], next.to_le_bytes(), "in order, each once or counted");
        *next += 1;
    });
    match taken {
        Ok(0) => std::hint::spin_loop(),
        Ok(_) => {}
        Err(error) if error.code() == ErrorCode::Overrun => *next += error.amount(),
        Err(error) => panic!("{error}"),
    }
}

fn rate(start: Option<Instant>) -> f64 {
    COUNT as f64 * 1e3 / start.map_or(1, |start| start.elapsed().as_nanos()) as f64
}

/// Millions of messages a second through `poll`, all of them seen in order or counted as lost.
fn throughput(pair: &mut Pair, channel: &Channel, task: u8) -> f64 {
    let mut subscriber = channel.subscriber().expect("the subscription");
    pair.start(task, COUNT);
    let (mut next, mut start) = (0, None);
    while next < COUNT {
        take(&mut subscriber, &mut next, &mut start);
    }
    rate(start)
}

/// Millions of messages a second, each seen by two subscriptions that one process polls in turn.
fn throughput_to_two(pair: &mut Pair) -> f64 {
    let channel = broadcast(&pair.fabric);
    let mut first = channel.subscriber().expect("a subscription");
    let mut second = channel.subscriber().expect("a subscription");
    pair.start(BROADCAST, COUNT);
    let (mut seen, mut start) = ([0, 0], None);
    while seen != [COUNT, COUNT] {
        take(&mut first, &mut seen[0], &mut start);
        take(&mut second, &mut seen[1], &mut start);
    }
    rate(start)
}

/// Millions of messages a second that one process appends to a log and this one reads, or is told that they were trimmed.
fn log_throughput(pair: &mut Pair, task: u8) -> f64 {
    let mut reader = log(&pair.fabric).reader(ReadFrom::Newest).expect("a reader");
    let end = reader.position() + COUNT;
    pair.start(task, COUNT);
    let mut start = None;
    while reader.position() < end {
        let taken = reader.poll(256, |_, message| {
            start.get_or_insert_with(Instant::now);
            assert_eq!(message.len(), 32);
        });
        match taken {
            Ok(0) => std::hint::spin_loop(),
            Ok(_) => {}
            Err(error) if error.code() == ErrorCode::Overrun => {}
            Err(error) => panic!("{error}"),
        }
    }
    rate(start)
}

/// Millions of messages a second that two processes append to one log at the same time.
fn log_from_two(pair: &mut Pair) -> f64 {
    let channel = log(&pair.fabric);
    let end = || channel.reader(ReadFrom::Newest).expect("a reader").position();
    let mut appender = channel.appender().expect("a block");
    let first = end();
    pair.start(LOG, COUNT);
    while end() == first {}
    let (first, start) = (end(), Instant::now());
    for _ in 0..COUNT / 2 {
        appender.append(&[7; 32]).expect("appended");
    }
    let rate = (end() - first) as f64 * 1e3 / start.elapsed().as_nanos() as f64;
    while end() < first + COUNT {}
    std::thread::sleep(Duration::from_millis(20));
    rate
}

/// Nanoseconds of one way: half of a round trip, both sides polling.
fn one_way(pair: &mut Pair) -> f64 {
    const COUNT: u64 = 100_000;
    let mut subscriber = stream(&pair.fabric, "back").subscriber().expect("the subscription");
    let mut publisher = stream(&pair.fabric, "there").publisher().expect("a lane");
    pair.start(ECHO, COUNT);
    let mut start = Instant::now();
    for round in 0..COUNT {
        if round == COUNT / 10 {
            start = Instant::now();
        }
        publisher.send(&[7; 56]).expect("sent");
        while subscriber.poll(1, |_, message| assert_eq!(message.len(), 56)).expect("sound") == 0 {}
    }
    start.elapsed().as_nanos() as f64 / (COUNT - COUNT / 10) as f64 / 2.0
}

/// Nanoseconds of a round trip through `send` and `recv` to a process that has fallen asleep.
fn round_trip_asleep(pair: &mut Pair) -> f64 {
    let mut subscriber = stream(&pair.fabric, "back").subscriber().expect("the subscription");
    let mut publisher = stream(&pair.fabric, "there").publisher().expect("a lane");
    let mut message = Vec::new();
    pair.start(SLEEPY, SLEEPS);
    let mut total = Duration::ZERO;
    for _ in 0..SLEEPS {
        floor::let_the_peer_sleep();
        let start = Instant::now();
        publisher.send(&[7; 56]).expect("sent");
        subscriber.recv(&mut message, None).expect("a sound channel").expect("no time limit");
        total += start.elapsed();
    }
    total.as_nanos() as f64 / SLEEPS as f64
}

/// Runs the bench.
pub fn run(report: &Report) {
    let pair = std::cell::RefCell::new(Pair::new());
    let pair = || pair.borrow_mut();
    let fabric = pair().fabric.clone();
    let mut cases: Vec<Case<'_>> = vec![
        ("line", Box::new(|| floor::line_transfer(&mut pair(), floor::LINE))),
        ("lines", Box::new(|| floor::line_transfer(&mut pair(), floor::LINES))),
        ("one way", Box::new(|| one_way(&mut pair()))),
        ("stream", Box::new(|| throughput(&mut pair(), &stream(&fabric, "one-way"), STREAM))),
        ("short", Box::new(|| throughput(&mut pair(), &stream(&fabric, "one-way"), SHORT))),
        ("two", Box::new(|| throughput_to_two(&mut pair()))),
        ("lossy", Box::new(|| throughput(&mut pair(), &lossy(&fabric), LOSSY))),
        ("log", Box::new(|| log_throughput(&mut pair(), LOG))),
        ("log batches", Box::new(|| log_throughput(&mut pair(), BATCHES))),
        ("log two", Box::new(|| log_from_two(&mut pair()))),
        ("futex", Box::new(|| floor::futex_round_trip(&mut pair(), SLEEPS))),
        ("asleep", Box::new(|| round_trip_asleep(&mut pair()))),
    ];
    let samples = interleave(ROUNDS, &mut cases);
    let lines = Some(("a line each way ns", samples[1].median()));
    let futex = Some(("futex ns", samples[10].median()));
    let stream = Some(("stream M msg/s", samples[3].median()));
    let figures = [
        ("one cache line to and fro, one way", "ns", None, None),
        ("a cache line for each way, one way", "ns", None, None),
        ("56 B one way, polling", "ns", lines, Some("<= 1.3 x the lines")),
        ("56 B stream, send and poll", "M msg/s", lines, Some(">= 50")),
        ("32 B stream, send and poll", "M msg/s", lines, Some(">= 50")),
        ("56 B broadcast to two, send and poll", "M msg/s", stream, Some(">= 70 % of the stream")),
        ("56 B lossy broadcast, send and poll", "M msg/s", lines, None),
        ("32 B log, append and poll", "M msg/s", lines, Some(">= 10")),
        ("32 B log, append 16 at once and poll", "M msg/s", lines, Some(">= 10")),
        ("32 B log, append by two", "M msg/s", lines, None),
        ("bare futex round trip, peer asleep", "ns", None, None),
        ("56 B round trip, send and recv, peer asleep", "ns", futex, Some("<= 1.2 x the futex")),
    ];
    for ((case, unit, floor, goal), samples) in figures.into_iter().zip(&samples) {
        report.add(&Figure { bench: "channel", case, procs: 2, unit, samples, floor, goal });
    }
}
