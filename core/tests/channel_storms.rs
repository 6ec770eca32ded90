//! Many messages through storms: producers and consumers in processes of their own are killed, stopped, continued and replaced at random
//! while they send as fast as they can. Each message is judged when it comes, by a ledger that outlives all of them: none is lost, none comes
//! twice unless it may, each producer's come in their order, and losses are told exactly.
//!
//! With `MEMORA_STORM_CLASSES`, a class path, JVMs are among those who send. `MEMORA_TORTURE=N` sends N times a hundred million messages, with N times five hundred kills, otherwise it is two hundred thousand.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use memora::{
    Acknowledge, Appender, Channel, ChannelKind, ChannelOptions, ErrorCode, FabricOptions, LogReader,
    OverrunPolicy, Publisher, ReadFrom, Retention, Subscriber,
};
use memora_stress::random::Random;
use memora_testkit::kill_point::torture;
use memora_testkit::process::{self, PATIENCE, Worker};
use memora_testkit::words::Words;

const HOME: &str = "MEMORA_CHANNEL_STORM_HOME";
/// Where the classes of JVMs are: one of two who send is a JVM then, whose threads write their lanes themselves where they may.
const CLASSES: &str = "MEMORA_STORM_CLASSES";
/// Messages that a call hands out at most: what a killed consumer may see again, or take with it.
const BATCH: u64 = 256;

/// What all processes of a storm know: who sent how much, and who got what. It is a file that all map, so what a process stored stays
/// when it is killed.
struct Ledger {
    words: Words,
}

impl Ledger {
    /// Incarnations of producers.
    const PRODUCERS: u64 = 1 << 14;
    /// Messages of one incarnation: then the process goes on as another.
    const MOST: u64 = 1 << 20;
    /// Subscribers that are told apart.
    const READERS: u64 = 2;
    const LINE: u64 = 64;
    /// Where the lines of producers begin: how much each sent, and what each reader expects of it next.
    const LINES: u64 = Ledger::LINE;
    /// Where the bits of messages begin.
    const BITS: u64 = Ledger::LINES + Ledger::PRODUCERS * Ledger::LINE;
    const BYTES: u64 = Ledger::BITS + Ledger::PRODUCERS * Ledger::MOST / 8;

    fn create(home: &Path) {
        Words::create(&home.join("ledger"), Ledger::BYTES);
    }

    fn open(home: &Path) -> Ledger {
        let words = Words::open(&home.join("ledger"));
        assert_eq!(words.bytes(), Ledger::BYTES);
        Ledger { words }
    }

    fn word(&self, at: u64) -> &AtomicU64 {
        self.words.at(at)
    }

    /// Begins an incarnation of a producer.
    fn enter(&self) -> u64 {
        let producer = self.word(0).fetch_add(1, Relaxed);
        assert!(producer < Ledger::PRODUCERS, "too many incarnations");
        producer
    }

    fn producers(&self) -> u64 {
        self.word(0).load(Relaxed)
    }

    /// Messages that a reader was told to have lost.
    fn lost(&self) -> &AtomicU64 {
        self.word(8)
    }

    fn sent(&self, producer: u64) -> &AtomicU64 {
        self.word(Ledger::LINES + producer * Ledger::LINE)
    }

    /// What a reader expects next of a producer.
    fn next(&self, reader: u64, producer: u64) -> &AtomicU64 {
        assert!(reader < Ledger::READERS);
        self.word(Ledger::LINES + producer * Ledger::LINE + 8 + reader * 8)
    }

    /// How many a reader got of a producer.
    fn got(&self, producer: u64) -> &AtomicU64 {
        self.word(Ledger::LINES + producer * Ledger::LINE + 24)
    }

    fn bit(&self, producer: u64, number: u64) -> (&AtomicU64, u64) {
        let place = producer * Ledger::MOST + number;
        (self.word(Ledger::BITS + place / 64 * 8), 1 << (place % 64))
    }

    /// Notes that a message came; whether it had come before.
    fn mark(&self, producer: u64, number: u64) -> bool {
        let (word, bit) = self.bit(producer, number);
        word.fetch_or(bit, Relaxed) & bit != 0
    }

    fn is_marked(&self, producer: u64, number: u64) -> bool {
        let (word, bit) = self.bit(producer, number);
        word.load(Relaxed) & bit != 0
    }

    fn all_sent(&self) -> u64 {
        (0..self.producers()).map(|producer| self.sent(producer).load(Relaxed)).sum()
    }
}

fn open(home: &Path, name: &str) -> (memora::Fabric, Channel) {
    let fabric = FabricOptions::new().home(home.join("home")).limit(8 << 20).open("storm").expect("opens");
    let plain = ChannelOptions::default();
    let options = match name {
        "stream" => plain,
        "broadcast" => ChannelOptions { kind: ChannelKind::Broadcast, ..plain },
        "overrun" => {
            ChannelOptions { kind: ChannelKind::Broadcast, overrun: OverrunPolicy::Overrun, ..plain }
        }
        "queue" => ChannelOptions { kind: ChannelKind::Queue, ..plain },
        // A log that trims what nobody has read, and one that is full until it was read.
        "log" | "kept" => ChannelOptions {
            kind: ChannelKind::Log,
            overrun: if name == "log" { OverrunPolicy::Overrun } else { OverrunPolicy::Block },
            retention: Some(Retention { bytes: 256 << 10, age: None }),
            ..plain
        },
        _ => ChannelOptions { kind: ChannelKind::Queue, acknowledge: Some(Acknowledge::default()), ..plain },
    };
    let channel = fabric.channel(name, &options).expect("the channel opens");
    (fabric, channel)
}

fn parts(message: &[u8]) -> (u64, u64) {
    assert!(message.len() >= 16 && message.len() <= 64, "{} bytes", message.len());
    let word = |at: usize| u64::from_le_bytes(message[at..at + 8].try_into().expect("8 bytes"));
    let (producer, number) = (word(0), word(8));
    assert_eq!(message.len() as u64, 16 + number % 7 * 8, "message {number} of producer {producer}");
    assert!(message[16..].iter().all(|byte| u64::from(*byte) == number & 0x7f), "{message:?}");
    (producer, number)
}

/// Plays the workers; a plain run has none.
#[test]
fn entry() {
    let Some(role) = process::role() else {
        assert!(std::env::var_os(HOME).is_none());
        return;
    };
    let home = PathBuf::from(std::env::var_os(HOME).expect("the parent gives a place"));
    let (role, name) = role.split_once(' ').expect("what to do on which channel");
    let (_fabric, channel) = open(&home, name);
    let ledger = Ledger::open(&home);
    process::tell("ready");
    match role {
        "send" => send(&channel, &ledger),
        "work" => work(&channel, &ledger, &mut || false),
        reader => read(&channel, &ledger, reader, &mut || false),
    }
}

/// Whether readers that are too slow lose messages.
fn is_lossy(channel: &Channel) -> bool {
    channel.options().overrun == OverrunPolicy::Overrun
}

/// What sends to a channel of any kind.
enum Sending {
    Publisher(Publisher),
    Appender(Appender),
}

impl Sending {
    fn of(channel: &Channel) -> Sending {
        match channel.options().kind {
            ChannelKind::Log => Sending::Appender(channel.appender().expect("an appender")),
            _ => Sending::Publisher(channel.publisher().expect("a lane")),
        }
    }

    fn send(&mut self, message: &[u8]) {
        match self {
            Sending::Publisher(publisher) => drop(publisher.send(message).expect("sent")),
            Sending::Appender(appender) => loop {
                match appender.append(message) {
                    Ok(_) => return,
                    Err(error) if error.code() == ErrorCode::LogFull => std::thread::yield_now(),
                    Err(error) => panic!("{error}"),
                }
            },
        }
    }
}

fn send(channel: &Channel, ledger: &Ledger) {
    let mut sending = Sending::of(channel);
    loop {
        let producer = ledger.enter();
        let mut message = [0u8; 64];
        message[..8].copy_from_slice(&producer.to_le_bytes());
        for number in 0..Ledger::MOST {
            let len = 16 + (number % 7 * 8) as usize;
            message[8..16].copy_from_slice(&number.to_le_bytes());
            message[16..len].fill((number & 0x7f) as u8);
            sending.send(&message[..len]);
            // Who is killed before has sent one more than it says.
            ledger.sent(producer).store(number + 1, Relaxed);
        }
    }
}

/// What reads a channel whose readers get everything, under a name.
enum Reading {
    Subscriber(Subscriber),
    Log(LogReader),
}

impl Reading {
    fn of(channel: &Channel, name: &str) -> memora::Result<Reading> {
        match channel.options().kind {
            ChannelKind::Log => channel.named_reader(name, ReadFrom::Oldest).map(Reading::Log),
            _ => channel.subscribe(name).map(Reading::Subscriber),
        }
    }

    fn poll(&mut self, take: &mut impl FnMut(&[u8])) -> memora::Result<usize> {
        match self {
            Reading::Subscriber(subscriber) => subscriber.poll(BATCH as usize, |_, message| take(message)),
            Reading::Log(reader) => reader.poll(BATCH as usize, |_, message| take(message)),
        }
    }
}

/// Reads under a name until `is_done`, which is asked when nothing is there. Where messages are lost, `a` counts exactly what it got and was told.
fn read(channel: &Channel, ledger: &Ledger, name: &str, is_done: &mut dyn FnMut() -> bool) {
    let reader = u64::from(name == "b");
    let (lossy, counts) = (is_lossy(channel), is_lossy(channel) && name == "a");
    let end = Instant::now() + PATIENCE;
    let mut reading = loop {
        match Reading::of(channel, name) {
            Ok(reading) => break reading,
            // Its predecessor is dead, and not yet found so.
            Err(error) if error.code() == ErrorCode::SubscriptionInUse && Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(error) => panic!("{error}"),
        }
    };
    let mut again = 0;
    loop {
        let taken = reading.poll(&mut |message| {
            let (producer, number) = parts(message);
            let next = ledger.next(reader, producer);
            let expected = next.load(Relaxed);
            if number < expected {
                // What its predecessor had in hand when it was killed.
                again += 1;
                assert!(again <= BATCH, "message {number} of {producer} came again, {expected} is next");
                return;
            }
            assert!(lossy || number == expected, "{number} of {producer} came, {expected} is next");
            next.store(number + 1, Relaxed);
            if counts {
                ledger.got(producer).fetch_add(1, Relaxed);
            }
        });
        match taken {
            Ok(0) if is_done() => return,
            Ok(0) => std::thread::yield_now(),
            Ok(_) => {}
            Err(error) if lossy && error.code() == ErrorCode::Overrun => {
                if counts {
                    ledger.lost().fetch_add(error.amount(), Relaxed);
                }
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Takes messages of a queue until `is_done`, which is asked when nothing is there.
fn work(channel: &Channel, ledger: &Ledger, is_done: &mut dyn FnMut() -> bool) {
    let acknowledged = channel.options().acknowledge.is_some();
    let mut consumer = channel.consumer().expect("a consumer");
    loop {
        let taken = consumer.poll(BATCH as usize, |delivery, message| {
            let (producer, number) = parts(message);
            let before = ledger.mark(producer, number);
            assert!(
                !before || acknowledged && delivery.redelivered,
                "message {number} of {producer} came again: {delivery:?}"
            );
        });
        if acknowledged {
            consumer.ack_all().expect("acknowledged");
        }
        if taken.expect("taken") == 0 {
            if is_done() {
                return;
            }
            std::thread::yield_now();
        }
    }
}

/// A worker in this role: a process of this test, or a JVM.
fn spawn(home: &Path, role: &str, name: &str) -> Worker {
    let mut worker = if role == "jvm" {
        let classes = std::env::var_os(CLASSES).expect("MEMORA_STORM_CLASSES says where the classes are");
        let [class, name] = ["io.memora.LaneStorm", name].map(OsStr::new);
        let arguments = ["-cp".as_ref(), classes.as_os_str(), class, home.as_os_str(), name];
        Worker::program(Path::new("java"), &arguments, &[], role)
    } else {
        Worker::spawn("entry", &format!("{role} {name}"), &[(HOME, home.as_os_str())])
    };
    worker.expect_line("ready");
    worker
}

/// The roles, with a JVM for the first who sends where its threads write themselves.
fn with_jvm<'a>(channel: &Channel, roles: &[&'a str]) -> Vec<&'a str> {
    let mut roles = roles.to_vec();
    let writes = channel.options().kind != ChannelKind::Log && !is_lossy(channel);
    if writes && std::env::var_os(CLASSES).is_some() {
        roles[0] = "jvm";
    }
    roles
}

fn is_sender(role: &str) -> bool {
    matches!(role, "send" | "jvm")
}

/// Storms `name` with these roles until so many messages were sent and enough were killed and stopped. Who counts what it is told of losses is
/// stopped only: what was told to the dead nobody knows.
fn storm(name: &'static str, roles: &[&'static str], messages: u64) {
    let dir = tempfile::Builder::new().prefix("memora-storm-").tempdir_in("/dev/shm").expect("writable");
    let home = dir.path();
    Ledger::create(home);
    let (fabric, channel) = open(home, name);
    let lossy = is_lossy(&channel);
    let roles = with_jvm(&channel, roles);
    let readers: Vec<&str> = roles.iter().copied().filter(|role| role.len() == 1).collect();
    for role in &readers {
        // Named before anything is sent: from the first message on.
        drop(Reading::of(&channel, role).expect("a subscription"));
    }
    let ledger = Ledger::open(home);
    let mut workers: Vec<(&str, Worker)> =
        roles.iter().map(|role| (*role, spawn(home, role, name))).collect();
    let mut random = Random::new(name);
    let (mut kills, mut stops) = (0u64, 0u64);
    let (mut last, mut moved, begun) = (0, Instant::now(), Instant::now());
    let (kills_least, stops_least) = if torture() == 1 { (5, 1) } else { (7 * torture(), 3 * torture()) };
    while last < messages || kills < kills_least || stops < stops_least {
        // Starting a process anew takes as long as sending very many messages: the long form leaves them more time.
        std::thread::sleep(Duration::from_millis(random.draw(if torture() == 1 { 60 } else { 300 })));
        let which = random.draw(workers.len() as u64) as usize;
        let (role, worker) = &mut workers[which];
        if !(lossy && *role == "a") && random.draw(3) != 0 {
            assert!(Worker::was_killed(worker.kill()), "{role} ended by itself: {}", worker.errors());
            kills += 1;
            let role = *role;
            workers[which].1 = spawn(home, role, name);
        } else {
            assert!(worker.stop(), "{role} ended by itself: {}", worker.errors());
            std::thread::sleep(Duration::from_millis(random.draw(30)));
            worker.resume();
            stops += 1;
        }
        let now = ledger.all_sent();
        if now > last {
            moved = Instant::now();
        }
        assert!(moved.elapsed() < PATIENCE, "nothing was sent for {PATIENCE:?}");
        last = now;
    }
    // Producers first: who is told of a loss is not killed before it wrote that down.
    workers.sort_by_key(|(role, _)| !is_sender(role));
    for (role, worker) in &mut workers {
        let counted =
            || (0..ledger.producers()).map(|producer| ledger.got(producer).load(Relaxed)).sum::<u64>();
        while lossy && *role == "a" && counted() + ledger.lost().load(Relaxed) < ledger.all_sent() {
            assert!(moved.elapsed() < PATIENCE, "{role} does not come to the end: {}", worker.errors());
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(Worker::was_killed(worker.kill()), "{role} ended by itself: {}", worker.errors());
        kills += 1;
    }
    drop(workers);
    fabric.reap().expect("reaped");
    if matches!(name, "queue" | "acknowledged") {
        work(&channel, &ledger, &mut || true);
    }
    for role in &readers {
        read(&channel, &ledger, role, &mut || true);
    }
    let mut missing = 0;
    for producer in 0..ledger.producers() {
        let sent = ledger.sent(producer).load(Relaxed);
        match name {
            "queue" | "acknowledged" => {
                missing += (0..sent).filter(|number| !ledger.is_marked(producer, *number)).count() as u64;
            }
            _ if lossy => missing += sent.saturating_sub(ledger.got(producer).load(Relaxed)),
            _ => {
                for role in &readers {
                    let next = ledger.next(u64::from(*role == "b"), producer).load(Relaxed);
                    assert!(next == sent || next == sent + 1, "{role} got {next} of {sent} of {producer}");
                }
            }
        }
    }
    let told = ledger.lost().load(Relaxed);
    match name {
        "acknowledged" => assert_eq!(missing, 0),
        "queue" => assert!(missing <= kills * BATCH, "{missing} are missing after {kills} kills"),
        // Each killed producer may have sent one more than it says, which was lost or not.
        _ => assert!(told.abs_diff(missing) <= kills, "{missing} are missing, {told} were told"),
    }
    drop(channel);
    let report = fabric.check().expect("checked");
    assert!(report.problems.is_empty(), "{:#?}", report.problems);
    let all = ledger.all_sent();
    println!(
        "{name} ({}): {all} messages in {:.1} s, {kills} kills, {stops} stops, {missing} missing, {told} told lost",
        roles.join(", "),
        begun.elapsed().as_secs_f64()
    );
}

/// A part of all messages.
fn share(hundredths: u64) -> u64 {
    let all = if torture() == 1 { 200_000 } else { torture() / 10 * 100_000_000 };
    all / 100 * hundredths
}

#[test]
fn a_stream_loses_nothing_in_a_storm() {
    storm("stream", &["send", "send", "a"], share(30));
}

#[test]
fn a_broadcast_that_blocks_loses_nothing_in_a_storm() {
    storm("broadcast", &["send", "send", "a", "b"], share(20));
}

#[test]
fn a_broadcast_that_overruns_tells_its_losses_exactly_in_a_storm() {
    storm("overrun", &["send", "send", "a", "b"], share(20));
}

#[test]
fn a_queue_hands_out_each_message_once_in_a_storm() {
    storm("queue", &["send", "send", "work", "work"], share(10));
}

#[test]
fn a_queue_with_acknowledgement_loses_nothing_in_a_storm() {
    storm("acknowledged", &["send", "send", "work", "work"], share(8));
}

#[test]
fn a_log_tells_what_it_trimmed_exactly_in_a_storm() {
    storm("log", &["send", "send", "a", "b"], share(6));
}

#[test]
fn a_log_that_blocks_loses_nothing_in_a_storm() {
    storm("kept", &["send", "send", "a", "b"], share(6));
}
