//! Channels between two processes: messages a second in one direction, and the time of one way.

use std::time::Instant;

use memora::{Channel, ChannelKind, ChannelOptions, ErrorCode, Fabric, OverrunPolicy};

use crate::floor;
use crate::harness::{Case, Figure, Report, interleave};
use crate::pair::Pair;

const PAYLOAD: usize = 56;
const ROUNDS: usize = 7;

const STREAM: u8 = b'S';
const LOSSY: u8 = b'L';
const ECHO: u8 = b'E';

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

/// The second process's side.
pub fn perform(fabric: &Fabric, task: u8, count: u64) {
    match task {
        floor::TASK => floor::answer(fabric, count),
        STREAM => send(&stream(fabric, "one-way"), count),
        LOSSY => send(&lossy(fabric), count),
        _ => echo(fabric, count),
    }
}

fn send(channel: &Channel, count: u64) {
    let mut publisher = channel.publisher().expect("a lane");
    let mut message = [7; PAYLOAD];
    for number in 0..count {
        message[..8].copy_from_slice(&number.to_le_bytes());
        publisher.send(&message).expect("sent");
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

/// Millions of messages a second through `poll`, all of them seen in order.
fn throughput(pair: &mut Pair) -> f64 {
    const COUNT: u64 = 5_000_000;
    let mut subscriber = stream(&pair.fabric, "one-way").subscriber().expect("the subscription");
    pair.start(STREAM, COUNT);
    let (mut next, mut start) = (0, Instant::now());
    while next < COUNT {
        let taken = subscriber.poll(256, |_, message| {
            assert_eq!(message[..8], next.to_le_bytes(), "in order, each once");
            if next == 0 {
                start = Instant::now();
            }
            next += 1;
        });
        if taken.expect("a sound channel") == 0 {
            std::hint::spin_loop();
        }
    }
    COUNT as f64 * 1e3 / start.elapsed().as_nanos() as f64
}

/// Millions of messages a second that a publisher sends who waits for nobody; every one is seen or counted as lost.
fn lossy_throughput(pair: &mut Pair) -> f64 {
    const COUNT: u64 = 5_000_000;
    let mut subscriber = lossy(&pair.fabric).subscriber().expect("a subscription");
    pair.start(LOSSY, COUNT);
    let (mut next, mut start) = (0, None);
    while next < COUNT {
        let taken = subscriber.poll(256, |_, message| {
            assert_eq!(message[..8], next.to_le_bytes(), "in order, each once or counted");
            start.get_or_insert_with(Instant::now);
            next += 1;
        });
        match taken {
            Ok(0) => std::hint::spin_loop(),
            Ok(_) => {}
            Err(error) if error.code() == ErrorCode::Overrun => next += error.amount(),
            Err(error) => panic!("{error}"),
        }
    }
    COUNT as f64 * 1e3 / start.map_or(1, |start| start.elapsed().as_nanos()) as f64
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
        publisher.send(&[7; PAYLOAD]).expect("sent");
        while subscriber.poll(1, |_, message| assert_eq!(message.len(), PAYLOAD)).expect("sound") == 0 {}
    }
    start.elapsed().as_nanos() as f64 / (COUNT - COUNT / 10) as f64 / 2.0
}

/// Runs the bench.
pub fn run(report: &Report) {
    let pair = std::cell::RefCell::new(Pair::new());
    let mut cases: Vec<Case<'_>> = vec![
        ("floor", Box::new(|| floor::line_transfer(&mut pair.borrow_mut()))),
        ("one way", Box::new(|| one_way(&mut pair.borrow_mut()))),
        ("stream", Box::new(|| throughput(&mut pair.borrow_mut()))),
        ("lossy", Box::new(|| lossy_throughput(&mut pair.borrow_mut()))),
    ];
    let samples = interleave(ROUNDS, &mut cases);
    let line = samples[0].median();
    let figures = [
        ("cache line from one process to another", "ns", "-"),
        ("56 B one way, polling", "ns", "<= 1.3 x the line"),
        ("56 B stream, send and poll", "M msg/s", ">= 50"),
        ("56 B lossy broadcast, send and poll", "M msg/s", "-"),
    ];
    for ((case, unit, goal), samples) in figures.into_iter().zip(&samples) {
        report.add(&Figure {
            bench: "channel",
            case,
            procs: 2,
            unit,
            samples,
            floor: (unit == "M msg/s" || samples.median() != line).then_some(("line transfer ns", line)),
            goal: (goal != "-").then_some(goal),
        });
    }
}
