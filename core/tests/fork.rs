//! A forked child and the handles of its parent: every call answers `Forked`, dropping them harms nobody, opening anew works, and
//! neither lives for the other in the eyes of others.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use memora::{
    ChannelKind, ChannelOptions, Durability, ErrorCode, Fabric, FabricOptions, Publisher, Result, SetOptions,
    Store, StoreOptions, Subscriber,
};
use memora_testkit::fork::Child;
use memora_testkit::process::{self, PATIENCE, Worker, tell};

const HOME: &str = "MEMORA_TESTKIT_HOME";
const FABRIC: &str = "forked";

/// Plays those who fork, in processes with few threads; a plain run has none.
#[test]
fn entry() {
    let Some(role) = process::role() else {
        assert!(std::env::var_os(HOME).is_none());
        return;
    };
    let home = PathBuf::from(std::env::var_os(HOME).expect("the parent gives a home"));
    match role.as_str() {
        "all" => fork_with_everything_open(&home),
        "grandchildren" => fork_again_and_again(&home),
        "reader" => fork_a_reader(&home),
        "orphan" => fork_and_wait(&home),
        other => panic!("unknown role {other}"),
    }
    tell("end");
}

fn play(role: &str) {
    let home = home();
    let mut worker = Worker::spawn("entry", role, &[(HOME, home.path().as_os_str())]);
    worker.expect_line("end");
    worker.expect_success();
}

fn home() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("memora-fork-").tempdir_in("/dev/shm").expect("/dev/shm is writable")
}

fn options(home: &Path) -> FabricOptions {
    FabricOptions::new().home(home.to_path_buf()).limit(4 << 20)
}

fn open(home: &Path) -> Fabric {
    options(home).open(FABRIC).unwrap_or_else(|error| panic!("the fabric does not open: {error}"))
}

fn broadcast() -> ChannelOptions {
    ChannelOptions { kind: ChannelKind::Broadcast, lane_bytes: 16 << 10, ..ChannelOptions::default() }
}

fn store(fabric: &Fabric, home: &Path) -> Store {
    let options = StoreOptions {
        dir: Some(home.join("files")),
        durability: Durability::Async { interval_ms: 5 },
        ..StoreOptions::default()
    };
    fabric.store("store", &options).unwrap_or_else(|error| panic!("the store does not open: {error}"))
}

fn assert_sound(fabric: &Fabric) {
    fabric.reap().expect("reaped");
    let report = fabric.check().expect("checked");
    assert!(report.problems.is_empty(), "{:#?}", report.problems);
}

#[track_caller]
fn forked<T>(result: Result<T>) {
    let code = result.err().map(|error| error.code());
    assert_eq!(code, Some(ErrorCode::Forked));
}

#[track_caller]
fn read_only<T>(result: Result<T>) {
    let code = result.err().map(|error| error.code());
    assert_eq!(code, Some(ErrorCode::ReadOnly));
}

/// Everything that a process can hold of a fabric.
struct Held {
    fabric: Fabric,
    cache: memora::Cache,
    channel: memora::Channel,
    publisher: Publisher,
    subscriber: Subscriber,
    store: Store,
}

impl Held {
    fn new(home: &Path) -> Held {
        let fabric = open(home);
        let (cache, channel) =
            (fabric.cache("cache").expect("opened"), fabric.channel("channel", &broadcast()));
        let channel = channel.expect("opened");
        let (publisher, subscriber) = (channel.publisher().expect("a lane"), channel.subscribe("held"));
        let store = store(&fabric, home);
        Held { fabric, cache, channel, publisher, subscriber: subscriber.expect("a place"), store }
    }

    /// All of it works.
    fn work(&mut self, who: &str) {
        let (key, value) = (who.as_bytes(), who.as_bytes());
        self.cache.set(key, value).expect("stored");
        assert_eq!(self.cache.get(key).expect("read").as_deref(), Some(value));
        self.publisher.try_send(value).expect("sent");
        let mut buffer = Vec::new();
        let message = self.subscriber.try_recv(&mut buffer).expect("received").expect("what was sent");
        assert_eq!(&buffer[..message.len], value);
        self.subscriber.commit().expect("committed");
        self.store.set_durable(key, value, Durability::Sync).expect("stored");
        assert_eq!(self.store.get(key).expect("read").as_deref(), Some(value));
    }

    /// None of it works any more.
    fn answers_forked(&mut self, home: &Path) {
        let options = SetOptions::default();
        let Held { fabric, cache, channel, publisher, subscriber, store } = self;
        forked(cache.get(b"parent"));
        forked(cache.get_entry(b"parent"));
        forked(cache.get_into(b"parent", &mut [0; 64]));
        forked(cache.get_many(&[b"parent"], |_, _| {}));
        forked(cache.set(b"parent", b"child"));
        forked(cache.add(b"another", b"child", &options));
        forked(cache.replace(b"parent", b"child", &options));
        forked(cache.delete(b"parent"));
        forked(cache.increment(b"number", 1, Some(1)));
        forked(cache.scan(0, 10, |_, _| {}));
        forked(cache.len());
        forked(cache.stats());
        forked(cache.process_counts());
        forked(cache.advice());
        forked(cache.events());
        forked(cache.view(b"parent"));
        forked(publisher.try_send(b"child"));
        forked(publisher.send(b"child"));
        forked(publisher.try_claim(10).map(drop));
        forked(subscriber.try_recv(&mut Vec::new()));
        forked(subscriber.recv(&mut Vec::new(), Some(Duration::from_secs(60))));
        forked(subscriber.poll(1, |_, _| {}));
        forked(channel.publisher());
        forked(channel.subscriber());
        forked(channel.subscribe("child"));
        forked(channel.subscriptions());
        forked(store.get(b"parent"));
        forked(store.set(b"parent", b"child"));
        forked(store.set_durable(b"parent", b"child", Durability::Sync));
        forked(store.delete(b"parent"));
        forked(store.scan(0, 10, |_, _| {}));
        forked(store.flush());
        forked(store.checkpoint());
        forked(fabric.cache("cache"));
        forked(fabric.channel("channel", &broadcast()));
        forked(fabric.open_channel("channel"));
        let files = StoreOptions { dir: Some(home.join("files")), ..StoreOptions::default() };
        forked(fabric.store("store", &files));
        forked(fabric.objects());
        forked(fabric.stat());
        forked(fabric.check());
        forked(fabric.reap());
        forked(fabric.close());
    }
}

fn fork_with_everything_open(home: &Path) {
    let mut held = Held::new(home);
    held.work("parent");
    let processes = |fabric: &Fabric| fabric.stat().expect("counted").processes.len();
    let mut in_child = Some(&mut held);
    let child = Child::fork(|| {
        in_child.take().expect("the parent's").answers_forked(home);
        // What it opens anew is its own.
        let fabric = open(home);
        let cache = fabric.cache("cache").expect("opened");
        assert_eq!(cache.get(b"parent").expect("read").as_deref(), Some(&b"parent"[..]));
        cache.set(b"child", b"child").expect("stored");
        let channel = fabric.channel("channel", &broadcast()).expect("opened");
        let refused = channel.subscribe("held").err().expect("the parent lives and holds it");
        assert_eq!(refused.code(), ErrorCode::SubscriptionInUse);
        channel.publisher().expect("a lane").try_send(b"from the child").expect("sent");
        let store = store(&fabric, home);
        assert_eq!(store.get(b"parent").expect("read").as_deref(), Some(&b"parent"[..]));
        store.set_durable(b"child", b"child", Durability::Sync).expect("stored");
        assert_eq!(processes(&fabric), 2);
        // It ends without letting go, as a process that is killed.
        std::mem::forget((fabric, cache, channel, store));
    });
    child.expect_success();
    let mut buffer = Vec::new();
    let message =
        held.subscriber.recv(&mut buffer, Some(PATIENCE)).expect("received").expect("what the child sent");
    assert_eq!(&buffer[..message.len], b"from the child");
    for found in [held.cache.get(b"child"), held.store.get(b"child")] {
        assert_eq!(found.expect("read").as_deref(), Some(&b"child"[..]));
    }
    held.work("parent again");
    assert_sound(&held.fabric);
    assert_eq!(processes(&held.fabric), 1);

    // A child that drops the parent's handles takes nothing from it either.
    let processes_before = held.fabric.stat().expect("counted");
    let mut moved = Some(held);
    let child = Child::fork(|| drop(moved.take()));
    child.expect_success();
    let mut held = moved.expect("only the child's copy was taken");
    assert_eq!(held.fabric.stat().expect("counted").processes.len(), processes_before.processes.len());
    held.work("parent at last");
    let held_by_us = held.channel.subscriptions().expect("listed");
    assert!(held_by_us.iter().any(|subscription| subscription.name == "held" && subscription.held));
    assert_sound(&held.fabric);
    held.store.close().expect("closed");
}

#[test]
fn a_child_is_told_and_opens_anew_and_the_parent_goes_on() {
    play("all");
}

/// Each generation opens anew and forks the next one.
fn fork_again_and_again(home: &Path) {
    fn descend(home: &Path, depth: u32) {
        let mut held = Held::new_generation(home, depth);
        held.work(&depth.to_string());
        if depth < 3 {
            let mut in_child = Some(&mut held);
            let child = Child::fork(|| {
                in_child.take().expect("the parent's").answers_forked(home);
                descend(home, depth + 1);
            });
            child.expect_success();
        }
        held.work(&format!("{depth} after its child"));
    }
    descend(home, 0);
    let fabric = open(home);
    let cache = fabric.cache("cache").expect("opened");
    for depth in 0..=3 {
        assert_eq!(
            cache.get(depth.to_string().as_bytes()).expect("read").as_deref(),
            Some(depth.to_string().as_bytes())
        );
    }
    assert_sound(&fabric);
}

impl Held {
    fn new_generation(home: &Path, depth: u32) -> Held {
        let fabric = open(home);
        let cache = fabric.cache("cache").expect("opened");
        // Of its own: a subscriber hears everybody, and what it hears here is compared.
        let channel = fabric.channel(&format!("channel{depth}"), &broadcast()).expect("opened");
        let (publisher, subscriber) = (channel.publisher().expect("a lane"), channel.subscribe("held"));
        let store = store(&fabric, home);
        Held { fabric, cache, channel, publisher, subscriber: subscriber.expect("a place"), store }
    }
}

#[test]
fn children_of_children_work_with_what_they_opened() {
    play("grandchildren");
}

/// A reader has no entry, but its handles belong to the parent all the same.
fn fork_a_reader(home: &Path) {
    let mut held = Held::new(home);
    held.work("writer");
    let fabric = options(home).read_only(true).open(FABRIC).expect("opened");
    let cache = fabric.cache("cache").expect("opened");
    let store = store(&fabric, home);
    let channel = fabric.open_channel("channel").expect("opened");
    let value = Some(&b"writer"[..]);
    assert_eq!(cache.get(b"writer").expect("read").as_deref(), value);
    assert_eq!(store.get(b"writer").expect("read").as_deref(), value);
    assert_eq!(channel.subscriptions().expect("listed").len(), 1);
    read_only(cache.set(b"writer", b"reader"));
    read_only(cache.delete(b"writer"));
    read_only(store.set(b"writer", b"reader"));
    read_only(store.delete(b"writer"));
    read_only(channel.publisher());
    read_only(channel.subscriber());
    read_only(channel.subscribe("reader"));
    assert!(fabric.check().expect("checked").problems.is_empty());

    let child = Child::fork(|| {
        forked(cache.get(b"writer"));
        forked(store.get(b"writer"));
        forked(fabric.check());
        let fabric = options(home).read_only(true).open(FABRIC).expect("opened");
        assert_eq!(fabric.cache("cache").expect("opened").get(b"writer").expect("read").as_deref(), value);
    });
    child.expect_success();
    assert_eq!(cache.get(b"writer").expect("read").as_deref(), value);
    held.work("writer again");
    assert_eq!(held.fabric.stat().expect("counted").processes.len(), 1, "readers take no entry");
}

#[test]
fn a_reader_sees_all_objects_and_its_child_is_told() {
    play("reader");
}

/// The child holds copies of everything and lives on when its parent was killed.
fn fork_and_wait(home: &Path) {
    let mut held = Held::new(home);
    held.work("parent");
    let child = Child::fork(|| {
        let end = Instant::now() + PATIENCE;
        while !home.join("go").exists() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
        held.answers_forked(home);
        std::fs::write(home.join("gone"), "").expect("written");
    });
    tell("forked");
    std::thread::sleep(PATIENCE);
    child.expect_success();
}

#[test]
fn a_child_does_not_keep_its_dead_parent_alive() {
    let home = home();
    let watcher = open(home.path());
    let mut parent = Worker::spawn("entry", "orphan", &[(HOME, home.path().as_os_str() as &OsStr)]);
    parent.expect_line("forked");
    assert_eq!(watcher.stat().expect("counted").processes.len(), 2);
    assert!(Worker::was_killed(parent.kill()));
    // The child still holds its copies; the parent's entries are taken over all the same, and so is what it held.
    watcher.reap().expect("reaped");
    assert_eq!(watcher.stat().expect("counted").processes.len(), 1, "the child stands for its dead parent");
    let channel = watcher.channel("channel", &broadcast()).expect("opened");
    channel.subscribe("held").expect("its holder is dead");
    let store = store(&watcher, home.path());
    assert_eq!(store.get(b"parent").expect("read").as_deref(), Some(&b"parent"[..]));
    std::fs::write(home.path().join("go"), "").expect("written");
    let end = Instant::now() + PATIENCE;
    while !home.path().join("gone").exists() {
        assert!(Instant::now() < end, "the orphan does not end well");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_sound(&watcher);
}
