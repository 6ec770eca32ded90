//! Queues under a storm: producers and consumers in processes of their own are killed, stopped, continued and replaced at random.
//! Afterwards nothing is lost, nothing came twice without a mark, and the fabric passes its check.
//!
//! `MEMORA_TORTURE=N` makes it longer.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use memora::{
    Acknowledge, Channel, ChannelKind, ChannelOptions, DeadLetters, ErrorCode, Fabric, FabricOptions,
};
use memora_stress::queue::QueueClient;
use memora_stress::random::Random;
use memora_testkit::crew::Crew;
use memora_testkit::history::{operations, read};
use memora_testkit::kill_point::torture;
use memora_testkit::process::{self, PATIENCE};
use memora_testkit::work_history::{self, Queue, Summary};

const HOME: &str = "MEMORA_QUEUE_HOME";
const VISIBILITY: Duration = Duration::from_millis(60);

fn fabric(home: &Path) -> Fabric {
    FabricOptions::new().home(home.join("home")).limit(8 << 20).open("queues").expect("the fabric opens")
}

fn queue(name: &str) -> Queue<'_> {
    let acknowledged = name != "once";
    Queue { name, acknowledged, letters: acknowledged.then_some("letters") }
}

fn open(fabric: &Fabric, name: &str) -> Channel {
    let letters = DeadLetters { after: 20, channel: "letters".into() };
    let acknowledge = Acknowledge { visibility: Some(VISIBILITY), dead_letters: Some(letters) };
    let options = ChannelOptions {
        kind: ChannelKind::Queue,
        lane_bytes: 16 << 10,
        acknowledge: (name != "once").then_some(acknowledge),
        ..ChannelOptions::default()
    };
    fabric.channel(name, &options).expect("the queue opens")
}

fn client(home: &Path, role: &str, queue: &str) -> QueueClient {
    let who = format!("{role}.{}", std::process::id());
    QueueClient::open(&home.join(format!("{who}.{queue}.jsonl")), &who, queue).expect("the place is writable")
}

/// Plays the workers; a plain run has none.
#[test]
fn entry() {
    let Some(role) = process::role() else {
        assert!(std::env::var_os(HOME).is_none());
        return;
    };
    let home = PathBuf::from(std::env::var_os(HOME).expect("the parent gives a place"));
    let (role, name) = role.split_once(' ').expect("what to do on which queue");
    let fabric = fabric(&home);
    let channel = open(&fabric, name);
    let mut client = client(&home, role, name);
    process::tell("ready");
    let mut random = Random::new(&format!("{role}{}", std::process::id()));
    if role == "produce" {
        let mut publisher = channel.publisher().expect("a lane");
        loop {
            let sent = client.send_by(random.draw(200) as usize, |payload| {
                publisher.send_timeout(payload, Duration::from_millis(20))
            });
            sent.expect("sent, or told that there is no room");
            if random.draw(20) == 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
    let mut consumer = channel.consumer().expect("a consumer");
    loop {
        let wait = (random.draw(3) == 0).then_some(Duration::from_millis(20));
        let Some(taken) = client.take(&mut consumer, wait).expect("taken, or told that there is nothing")
        else {
            continue;
        };
        if name == "once" {
            continue;
        }
        // It may have gone to another meanwhile.
        let _held = match random.draw(20) {
            0 => client.back(&mut consumer, &taken, Duration::from_millis(random.draw(5))).expect("told"),
            1 => true,
            _ => client.ack(&mut consumer, &taken).expect("told"),
        };
    }
}

struct Storm(Crew);

impl Storm {
    fn new(name: &'static str) -> Storm {
        let roles = ["produce", "produce", "consume", "consume", "consume"];
        Storm(Crew::new(HOME, name, &roles, |home| drop(open(&fabric(home), name))))
    }

    /// Empties the queue, checks the fabric and judges the histories.
    fn judge(mut self) -> (u64, Summary) {
        self.0.end();
        let home = self.0.dir.path();
        let fabric = fabric(home);
        for name in [self.0.name, "letters"] {
            let channel = match fabric.open_channel(name) {
                Ok(channel) => channel,
                Err(error) => {
                    assert_eq!((error.code(), name), (ErrorCode::NotFound, "letters"));
                    continue;
                }
            };
            let mut client = client(home, "end", name);
            let mut consumer = channel.consumer().expect("a consumer");
            let end = Instant::now() + PATIENCE;
            while let Some(taken) = client.take(&mut consumer, Some(VISIBILITY * 3)).expect("taken") {
                if channel.options().acknowledge.is_some() {
                    client.ack(&mut consumer, &taken).expect("acknowledged");
                }
                assert!(Instant::now() < end, "{name} does not come to an end");
            }
        }
        fabric.reap().expect("reaped");
        let report = fabric.check().expect("checked");
        assert!(report.problems.is_empty(), "{:#?}", report.problems);
        let entries = std::fs::read_dir(home).expect("readable").map(|entry| entry.expect("readable").path());
        let paths: Vec<PathBuf> =
            entries.filter(|path| path.extension() == Some(OsStr::new("jsonl"))).collect();
        let operations = operations(&read(&paths).expect("readable")).expect("well formed");
        match work_history::check(&operations, &queue(self.0.name)) {
            Ok(summary) => (self.0.kills, summary),
            Err(error) => panic!("{error}\nhistories kept in {}", self.0.dir.keep().display()),
        }
    }
}

fn storm(name: &'static str) -> Summary {
    let mut random = Random::new(name);
    let mut storm = Storm::new(name);
    for _ in 0..25 * torture() {
        std::thread::sleep(Duration::from_millis(random.draw(80)));
        storm.0.blow(&mut random);
    }
    let (kills, summary) = storm.judge();
    println!("{name}: {kills} kills, {summary:?}");
    assert!(kills > 0 && summary.sent > 100, "{summary:?}");
    summary
}

#[test]
fn a_storm_loses_no_message_of_a_queue_with_acknowledgement_and_marks_what_comes_again() {
    let summary = storm("least");
    assert!(summary.redelivered > 0 && summary.acknowledged > 100, "{summary:?}");
}

#[test]
fn a_storm_loses_of_a_queue_without_acknowledgement_what_the_killed_were_taking_and_repeats_nothing() {
    let summary = storm("once");
    assert_eq!(summary.redelivered, 0, "{summary:?}");
}

#[test]
fn a_queue_is_made_with_its_channel_for_dead_letters_and_what_is_wrong_is_told() {
    let dir = tempfile::tempdir().expect("writable");
    let first = fabric(dir.path());
    let queue = open(&first, "least");
    let letters = first.open_channel("letters").expect("made with the queue");
    let made = letters.options();
    assert_eq!((made.kind, made.acknowledge), (ChannelKind::Queue, Some(Acknowledge::default())));
    assert_eq!(open(&first, "least").options(), queue.options(), "opened again");
    let code = |error: memora::Error| error.code();
    let other = ChannelOptions { acknowledge: None, ..queue.options() };
    assert_eq!(first.channel("least", &other).map(|_| ()).map_err(code), Err(ErrorCode::WrongOptions));
    let stream = first.channel("stream", &ChannelOptions::default()).expect("made");
    assert_eq!(stream.consumer().map(|_| ()).map_err(code), Err(ErrorCode::WrongKind));
    assert_eq!(queue.subscriber().map(|_| ()).map_err(code), Err(ErrorCode::WrongKind));
    first.cache("cache").expect("made");
    let letters = DeadLetters { after: 3, channel: "cache".into() };
    let to_cache = ChannelOptions {
        kind: ChannelKind::Queue,
        acknowledge: Some(Acknowledge { visibility: None, dead_letters: Some(letters) }),
        ..ChannelOptions::default()
    };
    assert_eq!(first.channel("other", &to_cache).map(|_| ()).map_err(code), Err(ErrorCode::WrongKind));
    let mut publisher = queue.publisher().expect("a lane");
    let too_long = vec![0; queue.message_len_max() + 1];
    assert_eq!(publisher.try_send(&too_long).map_err(code), Err(ErrorCode::ValueTooLong));

    let looking =
        FabricOptions::new().home(dir.path().join("home")).read_only(true).open("queues").expect("opens");
    let seen = looking.open_channel("least").expect("it exists");
    assert!(seen.stats().expect("counted").queue.is_some());
    assert_eq!(seen.consumer().map(|_| ()).map_err(code), Err(ErrorCode::ReadOnly));

    // A dead letter finds its channel by name.
    publisher.send(b"letter").expect("there is room");
    let mut consumer = queue.consumer().expect("a consumer");
    let mut buffer = Vec::new();
    for delivery in 1..=20 {
        let taken = consumer.recv(&mut buffer, Some(PATIENCE)).expect("taken").expect("it was sent");
        assert_eq!((taken.deliveries, taken.redelivered), (delivery, delivery > 1));
        consumer.nack(&taken.receipt, Duration::ZERO).expect("it is held");
    }
    assert!(consumer.try_recv(&mut buffer).expect("looked").is_none());
    let mut reader = first.open_channel("letters").expect("it exists").consumer().expect("a consumer");
    let letter = reader.recv(&mut buffer, Some(PATIENCE)).expect("taken").expect("it was sent");
    assert_eq!((buffer.as_slice(), letter.redelivered), (b"letter".as_slice(), false));

    first.close().expect("closed");
    assert_eq!(reader.ack(&letter.receipt).map_err(code), Err(ErrorCode::Closed));
    assert_eq!(consumer.try_recv(&mut buffer).map(|_| ()).map_err(code), Err(ErrorCode::Closed));
    assert_eq!(consumer.poll(1, |_, _| {}).map_err(code), Err(ErrorCode::Closed));
}
