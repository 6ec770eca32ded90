//! Victims on logs: appending, also long messages, batches, changing blocks, trimming, named readers that come, go on and go back; and taking over from
//! appenders that died in the midst of a long message.

use std::time::Duration;

use memora::{Channel, ChannelKind, ChannelOptions, ErrorCode, Fabric, OverrunPolicy, ReadFrom, Retention};
use memora_stress::log::Read;
use memora_stress::queue::QueueClient;
use memora_stress::random::Random;
use memora_testkit::history::{operations, read};
use memora_testkit::kill_point::{Harm, Victim, within_patience};
use memora_testkit::log_history;
use memora_testkit::process::Worker;

use crate::{Blow, ENTRY, Place, Scenario, borrowed, check, environment, keep};

pub const SCENARIO: Scenario = Scenario { role: "log", covers, tries: 2, prepare, survive, conclude };

const LOGS: [(&str, OverrunPolicy); 2] = [("newest", OverrunPolicy::Overrun), ("all", OverrunPolicy::Block)];
const BYTES: u64 = 256 << 10;
/// Appenders that stand there when the victim comes; they are dead by then. One had not published its long message, the others had.
const DEAD: [(&str, u64); 3] = [
    ("channel.log_parcel.named", 2),
    ("channel.log_parcel.before_keep", 2),
    ("channel.log_parcel.before_mark", 3),
];

fn covers(name: &str) -> bool {
    name.starts_with("channel.log_") && !name.starts_with("channel.log_files_")
}

fn fabric(place: &Place) -> Fabric {
    place.open("logs", crate::FABRIC_LIMIT)
}

fn open(fabric: &Fabric, index: usize) -> Channel {
    let (name, overrun) = LOGS[index];
    let retention = Some(Retention { bytes: BYTES, age: None });
    let options = ChannelOptions { kind: ChannelKind::Log, overrun, retention, ..ChannelOptions::default() };
    fabric.channel(name, &options).unwrap_or_else(|error| panic!("log {name} does not open: {error}"))
}

fn prepare(place: &Place) -> Vec<Victim> {
    for index in 0..LOGS.len() {
        open(&fabric(place), index);
    }
    let environment = environment(place);
    // All come to stand there before the first of them dies, because whoever opens a fabric takes over from the dead.
    let mut dying = DEAD.map(|(name, nth)| {
        Victim::harm(ENTRY, "log appender", &borrowed(&environment), (name, nth, Harm::Freeze))
            .unwrap_or_else(|| panic!("nobody reaches {name}:{nth}"))
    });
    for victim in &mut dying {
        assert!(Worker::was_killed(victim.worker().kill()), "a frozen process does nothing but die");
    }
    Vec::new()
}

/// Appends, some of it long.
pub fn appender(place: &Place) {
    work(&fabric(place), 0, place, "appender", None, &mut Random::new("appender"));
}

pub fn victim(place: &Place) {
    let fabric = fabric(place);
    let mut random = Random::new("victim");
    for index in 0..LOGS.len() {
        work(&fabric, index, place, "victim", Some("keeper"), &mut random);
        work(&fabric, index, place, "victim", None, &mut random);
    }
    // A thread that ends without letting go of its block.
    let channel = open(&fabric, 0);
    let thread = std::thread::spawn(move || std::mem::forget(channel.appender().expect("a block")));
    thread.join().expect("no panic");
    fabric.reap().expect("reaped");
    // On a log of its own, because what it does there stands in no history.
    let age = Some(Duration::from_millis(2));
    let retention = Some(Retention { bytes: BYTES, age });
    let options = ChannelOptions { kind: ChannelKind::Log, retention, ..ChannelOptions::default() };
    let channel = fabric.channel("aged", &options).expect("created");
    let mut appender = channel.appender().expect("a block");
    let mut reader = channel.named_reader("back", ReadFrom::Oldest).expect("a reader");
    for _ in 0..5 {
        appender.append_all([b"one".as_slice(), b"two", b"three"]).expect("appended");
        std::thread::sleep(Duration::from_millis(3));
        reader.poll(2, |_, _| {}).expect("kept for it");
        reader.commit().expect("committed");
        reader.seek(ReadFrom::Oldest).expect("kept for it");
    }
}

/// Appends and reads in turn, each message noted in the history; more than the log keeps.
fn work(fabric: &Fabric, index: usize, place: &Place, who: &str, name: Option<&str>, random: &mut Random) {
    let channel = open(fabric, index);
    let who = format!("{who}.{}", std::process::id());
    let mut client =
        QueueClient::open(&place.history(&who), &who, LOGS[index].0).expect("the place is writable");
    let mut reader = match client.open_reader(&channel, name, ReadFrom::Oldest) {
        Ok(reader) => Some(reader),
        // A frozen victim is alive: its name stays its own.
        Err(memora_stress::Failure::Memora(error)) if error.code() == ErrorCode::SubscriptionInUse => None,
        Err(error) => panic!("{who} cannot read {}: {error}", LOGS[index].0),
    };
    let mut appender = channel.appender().unwrap_or_else(|error| panic!("{who} cannot append: {error}"));
    for turn in 0..400 {
        let pad = match turn % 12 {
            // In chunks of its own.
            5 => 3000 + random.draw(30_000),
            0 | 3 | 6 | 9 => 1000 + random.draw(900),
            _ => random.draw(100),
        } as usize;
        let done =
            client.append(&mut appender, pad).unwrap_or_else(|error| panic!("{who} cannot append: {error}"));
        let Some(reader) = &mut reader else { continue };
        // Behind by more than the log keeps, then on again.
        let looks = if !done {
            400
        } else if turn < 350 {
            random.draw(2)
        } else {
            20
        };
        for _ in 0..looks {
            if client.read(reader, name).unwrap_or_else(|error| panic!("{who} cannot read: {error}"))
                == Read::Nothing
            {
                break;
            }
        }
    }
}

fn survive(place: &Place, blow: Blow) {
    let root = Place { root: place.root.clone() };
    within_patience("operations on the logs of the victim", move || {
        let fabric = fabric(&root);
        let mut random = Random::new(&format!("survivor {blow:?}"));
        for index in 0..LOGS.len() {
            work(&fabric, index, &root, "survivor", None, &mut random);
        }
        if let Ok(channel) = fabric.open_channel("aged") {
            channel.appender().expect("an appender").append(b"survivor").expect("appended");
        }
    });
    let fabric = fabric(place);
    within_patience("the check", move || check(&fabric, "with the victim"));
}

fn conclude(place: &Place) {
    let fabric = fabric(place);
    let mut random = Random::new("last");
    for (index, (name, _)) in LOGS.iter().enumerate() {
        work(&fabric, index, place, "last", Some("keeper"), &mut random);
        // Everything that is kept, for the judge.
        let channel = open(&fabric, index);
        let mut client = QueueClient::open(&place.history("end"), "end", name).expect("writable");
        let mut reader = client.open_reader(&channel, None, ReadFrom::Oldest).expect("a reader");
        while client.read(&mut reader, None).expect("read") != Read::Nothing {}
    }
    check(&fabric, "after the victim");
    let mut lines = read(&place.histories()).expect("readable");
    lines.retain(|line| line.q.is_some());
    let operations = operations(&lines).expect("well formed");
    for (name, overrun) in LOGS {
        match log_history::check(&operations, name) {
            Err(error) => panic!("{name}: {error}\nhistories kept in {}", keep(place).display()),
            Ok(summary) => {
                assert!(summary.appended > 0 && summary.read > 0, "{name}: {summary:?}");
                assert!(overrun == OverrunPolicy::Block || summary.trimmed > 0, "{name}: {summary:?}");
            }
        }
    }
}
