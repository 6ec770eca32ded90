//! Victims on channels with messages that are too long for a lane, of a broadcast, of a queue with acknowledgement and of a broadcast that
//! overruns: each is there whole or not at all, what was sent is read by somebody, and no chunk is lost.

use std::collections::HashSet;
use std::io::Write;
use std::time::Duration;

use memora::{
    Acknowledge, Channel, ChannelKind, ChannelOptions, ErrorCode, Fabric, OverrunPolicy, Subscriber,
};
use memora_stress::random::Random;
use memora_testkit::kill_point::{Harm, Victim, within_patience};
use memora_testkit::process::Worker;

use crate::{Blow, ENTRY, Place, Scenario, borrowed, check, environment};

pub const SCENARIO: Scenario = Scenario { role: "parcel", covers, tries: 2, prepare, survive, conclude };

const LANE_BYTES: u32 = 4 << 10;
/// Senders that stand there when the victim comes; they are dead by then.
const DEAD: [(&str, u64); 2] = [("channel.parcel.before_commit", 2), ("channel.parcel.committed", 2)];
/// Consumers that are dead by then, in the midst of giving a message's chunks back.
const DEAD_WORKERS: [(&str, u64); 2] = [("channel.ack.after", 2), ("chunk.parcel.freed", 3)];

fn covers(name: &str) -> bool {
    name.contains(".parcel.")
}

fn fabric(place: &Place) -> Fabric {
    place.open("parcels", crate::FABRIC_LIMIT)
}

fn open(fabric: &Fabric) -> Channel {
    let options =
        ChannelOptions { kind: ChannelKind::Broadcast, lane_bytes: LANE_BYTES, ..ChannelOptions::default() };
    fabric.channel("long", &options).expect("opened")
}

fn open_work(fabric: &Fabric) -> Channel {
    let acknowledge = Some(Acknowledge::default());
    let kind = ChannelKind::Queue;
    let options = ChannelOptions { kind, lane_bytes: LANE_BYTES, acknowledge, ..ChannelOptions::default() };
    fabric.channel("work", &options).expect("opened")
}

fn open_lossy(fabric: &Fabric) -> Channel {
    let (kind, overrun) = (ChannelKind::Broadcast, OverrunPolicy::Overrun);
    let options = ChannelOptions { kind, overrun, lane_bytes: LANE_BYTES, ..ChannelOptions::default() };
    fabric.channel("lossy", &options).expect("opened")
}

fn prepare(place: &Place) -> Vec<Victim> {
    drop(open(&fabric(place)).subscribe("keeper").expect("subscribed"));
    let environment = environment(place);
    let roles = DEAD.map(|at| ("sender", at)).into_iter().chain(DEAD_WORKERS.map(|at| ("worker", at)));
    let mut dying: Vec<Victim> = roles
        .map(|(role, (name, nth))| {
            Victim::harm(ENTRY, role, &borrowed(&environment), (name, nth, Harm::Freeze))
                .unwrap_or_else(|| panic!("nobody reaches {name}:{nth}"))
        })
        .collect();
    for victim in &mut dying {
        assert!(Worker::was_killed(victim.worker().kill()), "a frozen process does nothing but die");
    }
    Vec::new()
}

/// A line of a file that tells what this process was told.
fn note(place: &Place, what: &str, id: u64) {
    let path = place.root.join(format!("{what}-{}", std::process::id()));
    let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
    writeln!(file.expect("the place is writable"), "{id}").expect("written");
}

fn noted(place: &Place, what: &str) -> HashSet<u64> {
    let mut ids = HashSet::new();
    for entry in std::fs::read_dir(&place.root).expect("the place exists") {
        let path = entry.expect("readable").path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&format!("{what}-"))) {
            let text = std::fs::read_to_string(path).expect("readable");
            // Who was killed may have written half a line.
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            ids.extend(whole.lines().map(|line| line.parse::<u64>().expect("a number")));
        }
    }
    ids
}

fn body(len: usize, id: u64) -> Vec<u8> {
    let mut bytes: Vec<u8> =
        (0..len as u64 / 8 + 1).flat_map(|at| (id ^ at << 40 ^ (len as u64) << 20).to_le_bytes()).collect();
    bytes[..8].copy_from_slice(&id.to_le_bytes());
    bytes.truncate(len);
    bytes
}

/// Sends some; what has no room is not sent.
fn send(place: &Place, fabric: &Fabric, random: &mut Random, count: u64, reader: &mut Option<Subscriber>) {
    let mut publisher = open(fabric).publisher().expect("a lane");
    for number in 0..count {
        let id = u64::from(std::process::id()) << 32 | random.draw(1 << 20) << 8 | number;
        let len = 9 + random.draw(if number % 4 == 0 { 60_000 } else { 9000 }) as usize;
        match publisher.try_send(&body(len, id)) {
            Ok(_) => note(place, "sent", id),
            Err(error) if matches!(error.code(), ErrorCode::BackPressure | ErrorCode::Full) => {}
            Err(error) => panic!("{error}"),
        }
        if let Some(reader) = reader
            && number % 3 == 2
        {
            read(place, reader);
        }
    }
}

fn read(place: &Place, reader: &mut Subscriber) {
    let mut buffer = Vec::new();
    while reader.try_recv(&mut buffer).expect("received").is_some() {
        let id = u64::from_le_bytes(buffer[..8].try_into().expect("each begins with its number"));
        assert!(buffer == body(buffer.len(), id), "{} bytes of {id:#x} are not what was sent", buffer.len());
        note(place, "got", id);
    }
}

/// Sends long messages to the queue, and takes and acknowledges some.
fn work(place: &Place, fabric: &Fabric, random: &mut Random, count: u64) {
    let channel = open_work(fabric);
    let mut publisher = channel.publisher().expect("a lane");
    let mut consumer = channel.consumer().expect("a consumer");
    let mut buffer = Vec::new();
    for number in 0..count {
        let id = u64::from(std::process::id()) << 32 | random.draw(1 << 20) << 8 | number;
        match publisher.try_send(&body(4000 + random.draw(30_000) as usize, id)) {
            Ok(_) => note(place, "asked", id),
            Err(error) if matches!(error.code(), ErrorCode::BackPressure | ErrorCode::Full) => {}
            Err(error) => panic!("{error}"),
        }
        let Some(delivery) = consumer.try_recv(&mut buffer).expect("taken") else { continue };
        done(place, &buffer);
        match random.draw(6) {
            0 => {}
            1 => consumer.nack(&delivery.receipt, Duration::ZERO).expect("it is held"),
            _ => consumer.ack(&delivery.receipt).expect("it is held"),
        }
    }
}

fn done(place: &Place, bytes: &[u8]) {
    let id = u64::from_le_bytes(bytes[..8].try_into().expect("each begins with its number"));
    assert!(bytes == body(bytes.len(), id), "{} bytes of {id:#x} are not what was sent", bytes.len());
    note(place, "done", id);
}

/// Sends more long messages than a slow reader keeps: what it gets and what it is told that it lost is all of them.
fn lose(fabric: &Fabric) {
    let channel = open_lossy(fabric);
    let mut reader = channel.subscriber().expect("subscribed");
    let mut publisher = channel.publisher().expect("a lane");
    let mut sent = 0;
    for number in 0..6 {
        match publisher.try_send(&body(9000, number)) {
            Ok(_) => sent += 1,
            Err(error) if error.code() == ErrorCode::Full => {}
            Err(error) => panic!("{error}"),
        }
    }
    let (mut buffer, mut met) = (Vec::new(), 0);
    while met < sent {
        match reader.try_recv(&mut buffer) {
            Ok(message) => {
                assert!(message.is_some(), "{met} of {sent}");
                assert!(buffer == body(9000, u64::from_le_bytes(buffer[..8].try_into().expect("long"))));
                met += 1;
            }
            Err(error) if error.code() == ErrorCode::Overrun => met += error.amount(),
            Err(error) => panic!("{error}"),
        }
    }
}

/// The one who reads all; a frozen victim keeps it.
fn keeper(fabric: &Fabric) -> Option<Subscriber> {
    match open(fabric).subscribe("keeper") {
        Ok(reader) => Some(reader),
        Err(error) if error.code() == ErrorCode::SubscriptionInUse => None,
        Err(error) => panic!("{error}"),
    }
}

/// Reads nothing, so that what it leaves is there when the victim comes.
pub fn sender(place: &Place) {
    let fabric = fabric(place);
    send(place, &fabric, &mut Random::new("sender"), 12, &mut None);
}

/// Takes and acknowledges what it sends.
pub fn worker(place: &Place) {
    work(place, &fabric(place), &mut Random::new("worker"), 24);
}

pub fn victim(place: &Place) {
    let fabric = fabric(place);
    fabric.reap().expect("reaped");
    let mut reader = keeper(&fabric);
    assert!(reader.is_some(), "nobody else lives");
    send(place, &fabric, &mut Random::new("victim"), 24, &mut reader);
    work(place, &fabric, &mut Random::new("victim's work"), 12);
    lose(&fabric);
}

fn survive(place: &Place, blow: Blow) {
    let place = Place { root: place.root.clone() };
    within_patience("operations on the channel of the victim", move || {
        let fabric = fabric(&place);
        let mut reader = keeper(&fabric);
        let mut random = Random::new(&format!("survivor {blow:?}"));
        send(&place, &fabric, &mut random, 20, &mut reader);
        drop(reader);
        work(&place, &fabric, &mut random, 8);
        check(&fabric, "with the victim");
    });
}

fn conclude(place: &Place) {
    let fabric = fabric(place);
    fabric.reap().expect("reaped");
    let mut reader = keeper(&fabric).expect("nobody else lives");
    read(place, &mut reader);
    send(place, &fabric, &mut Random::new("last"), 20, &mut Some(reader));
    let mut reader = keeper(&fabric).expect("nobody else lives");
    read(place, &mut reader);
    drop(reader);
    work(place, &fabric, &mut Random::new("last work"), 8);
    lose(&fabric);
    let mut consumer = open_work(&fabric).consumer().expect("a consumer");
    let mut buffer = Vec::new();
    while let Some(delivery) = consumer.try_recv(&mut buffer).expect("taken") {
        done(place, &buffer);
        consumer.ack(&delivery.receipt).expect("it is held");
    }
    let (asked, got) = (noted(place, "asked"), noted(place, "done"));
    let lost: Vec<_> = asked.difference(&got).collect();
    assert!(lost.is_empty() && asked.len() > 10, "{lost:x?} of {} are lost", asked.len());
    drop(consumer);
    // A message may have been sent, or read, without its sender or reader having come to note it.
    let (sent, got) = (noted(place, "sent"), noted(place, "got"));
    let lost: Vec<_> = sent.difference(&got).collect();
    assert!(lost.is_empty() && sent.len() > 10, "{lost:x?} of {} are lost", sent.len());
    check(&fabric, "after the victim");
}
