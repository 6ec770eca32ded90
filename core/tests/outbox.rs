//! Messages that transactions send, under a storm: processes that count in a store and say so in a broadcast and a queue, in one transaction,
//! are killed, stopped, continued and replaced at random. Of each the messages are exactly those of what it counted: none comes before its
//! commit, none without it, none twice, none is missing.
//!
//! `MEMORA_TORTURE=N` makes it longer.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use memora::{
    Channel, ChannelKind, ChannelOptions, Consumer, Durability, ErrorCode, Fabric, FabricOptions, Outbox,
    Result, Retention, Store, StoreOptions, Subscriber, Transaction,
};
use memora_stress::random::Random;
use memora_testkit::crew::Crew;
use memora_testkit::kill_point::torture;
use memora_testkit::process::{self, PATIENCE};

const HOME: &str = "MEMORA_OUTBOX_HOME";
/// Keys that all change: so that transactions are in each other's way.
const HOT: u64 = 3;
const LANE_BYTES: u32 = 16 << 10;

fn fabric(home: &Path) -> Fabric {
    FabricOptions::new().home(home.join("home")).limit(16 << 20).open("outboxes").expect("the fabric opens")
}

fn store(fabric: &Fabric) -> Store {
    let options = StoreOptions { durability: Durability::Process, ..StoreOptions::default() };
    fabric.store("counters", &options).expect("the store opens")
}

fn channel(fabric: &Fabric, kind: ChannelKind) -> Channel {
    let name = if kind == ChannelKind::Queue { "queue" } else { "broadcast" };
    let options = ChannelOptions { kind, lane_bytes: LANE_BYTES, ..ChannelOptions::default() };
    fabric.channel(name, &options).expect("the channel opens")
}

fn channels(fabric: &Fabric) -> [Channel; 2] {
    [ChannelKind::Broadcast, ChannelKind::Queue].map(|kind| channel(fabric, kind))
}

fn number(value: Option<Vec<u8>>) -> u64 {
    value.map_or(0, |value| String::from_utf8(value).expect("text").parse().expect("a number"))
}

/// How many messages say that somebody has counted to `number`, in each channel.
fn parts(number: u64) -> u64 {
    1 + number % 3
}

fn message(who: &str, number: u64, part: u64) -> Vec<u8> {
    format!("{who} {number} {part} {}", "x".repeat((number * 7 + part) as usize % 200)).into_bytes()
}

/// Counts for somebody, and says so in both channels.
fn count(transaction: &mut Transaction, outboxes: &[Outbox; 2], who: &str, hot: u64) -> Result<u64> {
    let next = number(transaction.get(who.as_bytes())?) + 1;
    let hot = format!("hot {hot}");
    let sum = number(transaction.get(hot.as_bytes())?) + 1;
    transaction.put(hot.as_bytes(), sum.to_string().as_bytes())?;
    for outbox in outboxes {
        (0..parts(next)).try_for_each(|part| transaction.publish(outbox, &message(who, next, part)))?;
    }
    transaction.put(who.as_bytes(), next.to_string().as_bytes())?;
    Ok(next)
}

/// One of a few things that somebody does who has counted to `done`.
fn step(store: &Store, outboxes: &[Outbox; 2], who: &str, random: &mut Random, done: &mut u64) {
    let given_up = || {
        let mut transaction = store.transaction().expect("begun");
        let read = format!("read by {who}");
        transaction.get(read.as_bytes()).expect("read");
        transaction.put(who.as_bytes(), b"1000000").expect("kept");
        outboxes
            .iter()
            .try_for_each(|outbox| transaction.publish(outbox, b"never"))
            .unwrap_or_else(|error| panic!("{who} cannot publish: {error}"));
        (transaction, read)
    };
    match random.draw(12) {
        0 => given_up().0.abort(),
        1 => {
            let (transaction, read) = given_up();
            store.set(read.as_bytes(), b"changed").expect("set");
            let code = transaction.commit().expect_err("what it has read was changed").code();
            assert!(matches!(code, ErrorCode::Conflict | ErrorCode::BackPressure), "{code:?}");
        }
        _ => {
            let hot = random.draw(HOT);
            match store.transact(|transaction| count(transaction, outboxes, who, hot)) {
                Ok(next) => {
                    assert_eq!(next, *done + 1, "{who}");
                    *done = next;
                }
                Err(error) => {
                    let code = error.code();
                    assert!(matches!(code, ErrorCode::Conflict | ErrorCode::BackPressure), "{error}");
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        }
    }
    assert_eq!(number(store.get(who.as_bytes()).expect("read")), *done, "{who}");
}

/// Plays the workers; a plain run has none.
#[test]
fn entry() {
    let Some(role) = process::role() else {
        assert!(std::env::var_os(HOME).is_none());
        return;
    };
    let home = PathBuf::from(std::env::var_os(HOME).expect("the parent gives a place"));
    let fabric = fabric(&home);
    if role.starts_with("follow") {
        let mut follower = Follower::new(&fabric, "follower", false);
        process::tell("ready");
        loop {
            follower.follow();
        }
    }
    let store = store(&fabric);
    let outboxes = channels(&fabric).map(|channel| channel.outbox().expect("an outbox"));
    let begun = SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_nanos();
    let who = format!("{}.{begun}", std::process::id());
    // Two threads with the same outboxes.
    let other = {
        let (store, outboxes, who) = (store.clone(), outboxes.clone(), format!("{who}.other"));
        std::thread::spawn(move || {
            let (mut random, mut done) = (Random::new(&who), 0);
            loop {
                step(&store, &outboxes, &who, &mut random, &mut done);
            }
        })
    };
    process::tell("ready");
    let (mut random, mut done) = (Random::new(&who), 0);
    while !other.is_finished() {
        step(&store, &outboxes, &who, &mut random, &mut done);
    }
    other.join().expect("it never ends by itself");
}

/// What somebody's messages in one channel have come to: the number and its part.
type Seen = HashMap<String, (u64, u64)>;

/// Notes a message, and judges it by those before.
fn note(seen: &mut Seen, store: &Store, data: &[u8], from_the_first: bool) {
    let text = std::str::from_utf8(data).unwrap_or_else(|_| panic!("torn: {data:?}"));
    let mut words = text.split(' ');
    let mut word = || words.next().unwrap_or_else(|| panic!("a message that nobody sent: {text}"));
    let (who, at, part) = (word(), word(), word());
    let (at, part): (u64, u64) = (at.parse().expect("a number"), part.parse().expect("a number"));
    assert_eq!(data, message(who, at, part), "torn");
    let next = match seen.get(who) {
        Some(&(before, last)) if last + 1 == parts(before) => (before + 1, 0),
        Some(&(before, last)) => (before, last + 1),
        None if from_the_first => (1, 0),
        None => (at, part),
    };
    assert_eq!((at, part), next, "of {who}");
    assert!(number(store.get(who.as_bytes()).expect("read")) >= at, "{who} {at} came before its commit");
    seen.insert(who.to_string(), (at, part));
}

/// Receives the messages of the broadcast under a name.
struct Follower {
    store: Store,
    subscriber: Subscriber,
    seen: Seen,
    /// It is the only one that had the name.
    alone: bool,
}

impl Follower {
    fn new(fabric: &Fabric, name: &str, alone: bool) -> Follower {
        let broadcast = channel(fabric, ChannelKind::Broadcast);
        let subscriber = broadcast.subscribe(name).expect("its holder before is dead");
        Follower { store: store(fabric), subscriber, seen: Seen::new(), alone }
    }

    /// False if there was nothing.
    fn follow(&mut self) -> bool {
        let Follower { store, subscriber, seen, alone } = self;
        let taken = subscriber.poll(64, |_, data| note(seen, store, data, *alone)).expect("received");
        if taken == 0 {
            std::thread::sleep(Duration::from_micros(200));
        }
        taken > 0
    }
}

/// Receives all that is sent.
struct Judge {
    broadcast: Follower,
    queue: Consumer,
    seen: Seen,
}

impl Judge {
    fn new(fabric: &Fabric) -> Judge {
        let queue = channel(fabric, ChannelKind::Queue).consumer().expect("a consumer");
        Judge { broadcast: Follower::new(fabric, "judge", true), queue, seen: Seen::new() }
    }

    /// False if there was nothing.
    fn judge(&mut self) -> bool {
        let (store, seen) = (&self.broadcast.store, &mut self.seen);
        let taken = self.queue.poll(64, |_, data| note(seen, store, data, true)).expect("received");
        self.broadcast.follow() || taken > 0
    }

    /// All have ended: what has come is what the store says.
    fn decide(mut self) -> u64 {
        while self.judge() {}
        let store = &self.broadcast.store;
        let (mut counted, mut cursor) = (BTreeMap::new(), 0);
        loop {
            cursor = store
                .scan(cursor, 100, |key, entry| {
                    let key = String::from_utf8(key.to_vec()).expect("text");
                    counted.insert(key, entry.value.clone());
                })
                .expect("scanned");
            if cursor == 0 {
                break;
            }
        }
        counted.retain(|key, _| !key.starts_with("read by"));
        let numbers: BTreeMap<String, u64> =
            counted.into_iter().map(|(key, value)| (key, number(Some(value)))).collect();
        let (hot, counted): (BTreeMap<_, _>, BTreeMap<_, _>) =
            numbers.into_iter().partition(|(key, _)| key.starts_with("hot"));
        let expected: BTreeMap<&str, (u64, u64)> =
            counted.iter().map(|(who, &at)| (who.as_str(), (at, parts(at) - 1))).collect();
        for (name, seen) in [("broadcast", &self.broadcast.seen), ("queue", &self.seen)] {
            let seen: BTreeMap<&str, (u64, u64)> = seen.iter().map(|(who, &at)| (who.as_str(), at)).collect();
            assert_eq!(seen, expected, "{name}");
        }
        let all = counted.values().sum();
        assert_eq!(hot.values().sum::<u64>(), all, "what all counted together");
        all
    }
}

#[test]
fn a_storm_sends_exactly_what_is_committed() {
    let mut random = Random::new("outbox");
    let roles = ["count", "count", "count", "follow"];
    let mut crew = Crew::new(HOME, "outboxes", &roles, |home| {
        let fabric = fabric(home);
        let [broadcast, _queue] = channels(&fabric);
        for name in ["judge", "follower"] {
            drop(broadcast.subscribe(name).expect("subscribed"));
        }
    });
    let (fabric, ended) = (fabric(crew.dir.path()), AtomicBool::new(false));
    let counted = std::thread::scope(|scope| {
        let judge = scope.spawn(|| {
            let mut judge = Judge::new(&fabric);
            while !ended.load(Relaxed) {
                judge.judge();
            }
            // What the killed have left is settled with that.
            fabric.reap().expect("reaped");
            judge.decide()
        });
        for _ in 0..20 * torture() {
            std::thread::sleep(Duration::from_millis(random.draw(80)));
            crew.blow(&mut random);
        }
        crew.end();
        ended.store(true, Relaxed);
        judge.join().expect("the judge has found nothing wrong")
    });
    println!("{} kills, {counted} transactions", crew.kills);
    assert!(crew.kills > 0 && counted > 500, "{} kills, {counted} transactions", crew.kills);
    let report = fabric.check().expect("checked");
    assert!(report.problems.is_empty(), "{:#?}", report.problems);
}

struct Place {
    _dir: tempfile::TempDir,
    fabric: Fabric,
    store: Store,
}

impl Place {
    fn new() -> Place {
        let dir = tempfile::Builder::new().prefix("memora-outbox-").tempdir_in("/dev/shm").expect("writable");
        let fabric = fabric(dir.path());
        Place { _dir: dir, store: store(&fabric), fabric }
    }
}

fn code<T>(result: Result<T>) -> ErrorCode {
    match result {
        Ok(_) => panic!("it was not refused"),
        Err(error) => error.code(),
    }
}

#[test]
fn an_outbox_outlives_the_threads_that_used_it_and_keeps_its_order() {
    let Place { _dir, fabric, store } = &Place::new();
    let broadcast = channel(fabric, ChannelKind::Broadcast);
    let outbox = broadcast.outbox().expect("an outbox");
    let mut subscriber = broadcast.subscriber().expect("subscribed");
    let mut buffer = Vec::new();
    for round in 0..200u64 {
        let (store, outbox) = (store.clone(), outbox.clone());
        std::thread::spawn(move || {
            store.transact(|transaction| {
                transaction.put(b"round", round.to_string().as_bytes())?;
                transaction.publish(&outbox, &round.to_le_bytes())
            })
        })
        .join()
        .expect("it ends")
        .expect("committed");
        // Every other time two wait.
        for expected in (round / 2 * 2..=round).filter(|_| round % 2 == 1) {
            subscriber.recv(&mut buffer, Some(PATIENCE)).expect("received").expect("it was sent");
            assert_eq!(buffer, expected.to_le_bytes());
        }
    }
    assert!(subscriber.try_recv(&mut buffer).expect("looked").is_none());
}

#[test]
fn without_room_nothing_is_done_and_what_cannot_be_sent_is_refused() {
    let Place { _dir, fabric, store } = &Place::new();
    let broadcast = channel(fabric, ChannelKind::Broadcast);
    let outbox = broadcast.outbox().expect("an outbox");
    let mut subscriber = broadcast.subscribe("slow").expect("subscribed");
    let mut sent = 0u64;
    let put_and_publish = |sent: u64| {
        store.transact(|transaction| {
            transaction.put(b"sent", sent.to_string().as_bytes())?;
            transaction.publish(&outbox, &[7; 1000])
        })
    };
    let refused = loop {
        match put_and_publish(sent + 1) {
            Ok(()) => sent += 1,
            Err(error) => break error.code(),
        }
        assert!(sent <= u64::from(LANE_BYTES) / 1000, "there was room without end");
    };
    assert_eq!((refused, number(store.get(b"sent").expect("read"))), (ErrorCode::BackPressure, sent));
    let mut taken = 0;
    while subscriber.poll(100, |_, data| assert_eq!(data, [7; 1000])).expect("received") > 0 {
        taken += 1;
        subscriber.commit().expect("confirmed");
    }
    assert!(taken > 0);
    put_and_publish(sent + 1).expect("there is room again");

    let mut transaction = store.transaction().expect("begun");
    let most = broadcast.claim_len_max();
    assert_eq!(code(transaction.publish(&outbox, &vec![0; most + 1])), ErrorCode::ValueTooLong);
    transaction.publish(&outbox, &vec![1; most / 2]).expect("kept");
    assert_eq!(code(transaction.publish(&outbox, &vec![2; most / 2 + 100])), ErrorCode::ValueTooLong);
    transaction.commit().expect("as if the others had not been tried");
    let mut lengths = Vec::new();
    while subscriber.poll(100, |_, data| lengths.push(data.len())).expect("received") > 0 {}
    assert_eq!(lengths, [1000, most / 2]);

    let log = ChannelOptions {
        kind: ChannelKind::Log,
        retention: Some(Retention { bytes: 256 << 10, ..Retention::default() }),
        ..ChannelOptions::default()
    };
    assert_eq!(code(fabric.channel("log", &log).expect("made").outbox()), ErrorCode::WrongKind);
    let elsewhere = Place::new();
    let foreign = channel(&elsewhere.fabric, ChannelKind::Queue).outbox().expect("an outbox");
    let mut transaction = store.transaction().expect("begun");
    assert_eq!(code(transaction.publish(&foreign, b"x")), ErrorCode::InvalidArgument);
    transaction.put(b"sent", b"0").expect("kept");
    transaction.commit().expect("as if that had not been tried");
    assert_eq!(number(store.get(b"sent").expect("read")), 0);
}
