//! Victims on a log with files: every durability, files that are removed, named readers, recovery after the segment is lost.

use std::collections::BTreeMap;
use std::io::Write;

use memora::{
    Channel, ChannelKind, ChannelOptions, Durability, ErrorCode, Fabric, LogFiles, OverrunPolicy, ReadFrom,
    Retention,
};
use memora_stress::random::Random;
use memora_testkit::kill_point::{Victim, within_patience};

use crate::{Blow, Place, Scenario, check, keep};

pub const SCENARIO: Scenario = Scenario {
    role: "log files",
    covers: |name| name.starts_with("channel.log_files_") || name.starts_with("journal."),
    tries: 1,
    prepare,
    survive,
    conclude,
};

const FABRIC: &str = "files";
const FILE: u64 = 64 << 10;

fn open(fabric: &Fabric, place: &Place) -> Channel {
    let files = LogFiles {
        durability: Durability::Async { interval_ms: 5 },
        bytes: Some(4 * FILE),
        file_bytes: FILE,
        ..LogFiles::new(place.root.join("log"))
    };
    let options = ChannelOptions {
        kind: ChannelKind::Log,
        overrun: OverrunPolicy::Overrun,
        retention: Some(Retention { bytes: 256 << 10, age: None }),
        files: Some(files),
        ..ChannelOptions::default()
    };
    fabric.channel("orders", &options).unwrap_or_else(|error| panic!("the log does not open: {error}"))
}

fn fabric(place: &Place) -> Fabric {
    place.open(FABRIC, crate::FABRIC_LIMIT)
}

fn lose_the_segment(place: &Place) {
    Fabric::remove(Some(&place.home()), FABRIC).unwrap_or_else(|error| panic!("the fabric stays: {error}"));
}

/// Appends messages that are like no other, and notes those that are on the disk.
fn work(channel: &Channel, place: &Place, who: &str, count: u64, random: &mut Random) {
    let path = place.root.join(format!("acknowledged.{who}.{}", std::process::id()));
    let mut notes = std::fs::OpenOptions::new().create(true).append(true).open(path).expect("writable");
    let mut appender = channel.appender().unwrap_or_else(|error| panic!("{who} cannot append: {error}"));
    let mut reader = match channel.named_reader(&format!("of.{who}"), ReadFrom::Oldest) {
        Ok(reader) => reader,
        Err(error) => panic!("{who} cannot read: {error}"),
    };
    for number in 0..count {
        let mut message = format!("{who}.{}.{number}.{} ", std::process::id(), random.draw(1 << 30));
        // Now and then one that stands in several lines of the files.
        let pad = if number % 50 == 7 { random.draw(30_000) } else { random.draw(1500) } as usize;
        message.push_str(&"x".repeat(pad));
        let durability = if number % 15 == 0 { Durability::Sync } else { Durability::Process };
        let position = appender
            .append_durable(message.as_bytes(), durability)
            .unwrap_or_else(|error| panic!("{who} cannot append: {error}"));
        if durability == Durability::Sync {
            writeln!(notes, "{position} {message}").expect("written");
        }
        if number % 40 == 0 {
            match reader.poll(60, |_, _| {}) {
                Err(error) => assert_eq!(error.code(), ErrorCode::Overrun, "{error}"),
                Ok(_) => reader.commit().expect("its own"),
            }
        }
    }
}

fn prepare(place: &Place) -> Vec<Victim> {
    let fabric = fabric(place);
    let channel = open(&fabric, place);
    work(&channel, place, "first", 300, &mut Random::new("first"));
    channel.flush().expect("flushed");
    drop(channel);
    fabric.close().expect("closed");
    lose_the_segment(place);
    Vec::new()
}

pub fn victim(place: &Place) {
    let mut random = Random::new("victim");
    for round in 0..3 {
        let fabric = fabric(place);
        let channel = open(&fabric, place);
        work(&channel, place, "victim", 300, &mut random);
        channel.flush().expect("flushed");
        channel.stats().expect("counted");
        drop(channel);
        fabric.close().expect("closed");
        if round < 2 {
            lose_the_segment(place);
        }
    }
}

fn survive(place: &Place, blow: Blow) {
    let place = Place { root: place.root.clone() };
    within_patience("operations on the log of the victim", move || {
        let fabric = fabric(&place);
        let channel = open(&fabric, &place);
        work(&channel, &place, "survivor", 60, &mut Random::new(&format!("survivor {blow:?}")));
        check(&fabric, "with the victim");
    });
}

/// What is on the disk, in one order without holes; what was acknowledged as durable is among it.
fn judge(channel: &Channel, place: &Place) {
    let oldest = channel.stats().expect("counted").log.expect("a log").oldest;
    let mut found = BTreeMap::new();
    let mut reader = channel.reader(ReadFrom::Oldest).expect("a reader");
    let mut next = oldest;
    loop {
        let polled = reader.poll(100, |message, bytes| {
            assert_eq!(message.position, next, "no holes");
            next += 1;
            found.insert(message.position, String::from_utf8(bytes.to_vec()).expect("text"));
        });
        if polled.expect("read") == 0 {
            break;
        }
    }
    let mut acknowledged = 0;
    for entry in std::fs::read_dir(&place.root).expect("readable") {
        let path = entry.expect("readable").path();
        if !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("acknowledged.")) {
            continue;
        }
        let notes = std::fs::read_to_string(&path).expect("readable");
        // A note itself may be cut off.
        for note in notes.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
            let (position, message) = note.split_once(' ').expect("two parts");
            let position: u64 = position.parse().expect("a number");
            acknowledged += 1;
            if position >= oldest && found.get(&position).is_none_or(|it| it != message) {
                panic!("{position} of {} was durable; kept in {}", path.display(), keep(place).display());
            }
        }
    }
    assert!(acknowledged > 20, "{acknowledged}");
}

fn conclude(place: &Place) {
    {
        let fabric = fabric(place);
        let channel = open(&fabric, place);
        work(&channel, place, "last", 20, &mut Random::new("last"));
        judge(&channel, place);
        check(&fabric, "after the victim");
        drop(channel);
        fabric.close().expect("closed");
    }
    lose_the_segment(place);
    let fabric = fabric(place);
    let channel = open(&fabric, place);
    judge(&channel, place);
    check(&fabric, "after recovery");
}
