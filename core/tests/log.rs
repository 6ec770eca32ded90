//! Logs under a storm: appenders and readers in processes of their own are killed, stopped, continued and replaced at random. Afterwards all
//! have seen one order, what was trimmed was told exactly, and the fabric passes its check.
//!
//! `MEMORA_TORTURE=N` makes it longer.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use memora::{
    Channel, ChannelKind, ChannelOptions, ErrorCode, Fabric, FabricOptions, OverrunPolicy, ReadFrom,
    Retention,
};
use memora_stress::log::Read;
use memora_stress::queue::QueueClient;
use memora_stress::random::Random;
use memora_testkit::crew::Crew;
use memora_testkit::history::{operations, read};
use memora_testkit::kill_point::torture;
use memora_testkit::log_history::{self, Summary};
use memora_testkit::process::{self, PATIENCE};

const HOME: &str = "MEMORA_LOG_HOME";
const NAME: &str = "keeper";

fn options_of(home: &Path) -> FabricOptions {
    FabricOptions::new().home(home.join("home")).limit(8 << 20)
}

fn fabric(home: &Path) -> Fabric {
    options_of(home).open("logs").expect("the fabric opens")
}

fn options(name: &str) -> ChannelOptions {
    let overrun = if name == "kept" { OverrunPolicy::Block } else { OverrunPolicy::Overrun };
    let retention = Some(Retention { bytes: 256 << 10, age: None });
    ChannelOptions { kind: ChannelKind::Log, overrun, retention, ..ChannelOptions::default() }
}

fn open(fabric: &Fabric, name: &str) -> Channel {
    fabric.channel(name, &options(name)).expect("the log opens")
}

fn client(home: &Path, role: &str, log: &str) -> QueueClient {
    let who = format!("{role}.{}", std::process::id());
    QueueClient::open(&home.join(format!("{who}.{log}.jsonl")), &who, log).expect("the place is writable")
}

/// Plays the workers; a plain run has none.
#[test]
fn entry() {
    let Some(role) = process::role() else {
        assert!(std::env::var_os(HOME).is_none());
        return;
    };
    let home = PathBuf::from(std::env::var_os(HOME).expect("the parent gives a place"));
    let (role, name) = role.split_once(' ').expect("what to do on which log");
    let fabric = fabric(&home);
    let channel = open(&fabric, name);
    let mut client = client(&home, role, name);
    process::tell("ready");
    let mut random = Random::new(&format!("{role}{}", std::process::id()));
    if role == "append" {
        let mut appender = channel.appender().expect("an appender");
        loop {
            let pad = if random.draw(3) == 0 { 1000 + random.draw(900) } else { random.draw(100) } as usize;
            let appended = client.append(&mut appender, pad).expect("appended, or told that it is full");
            if !appended || random.draw(20) == 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
    let as_who = (role == "keep").then_some(NAME);
    loop {
        // Its predecessor may be dead and not yet found so, or alive and stopped.
        let mut reader = client.open_reader(&channel, as_who, ReadFrom::Oldest).expect("a reader");
        for _ in 0..5000 {
            if client.read(&mut reader, as_who).expect("read, or told what was trimmed") == Read::Nothing {
                std::thread::sleep(Duration::from_millis(random.draw(3)));
            }
        }
    }
}

struct Storm(Crew);

impl Storm {
    fn new(name: &'static str) -> Storm {
        let roles = ["append", "append", "append", "read", "keep"];
        Storm(Crew::new(HOME, name, &roles, |home| drop(open(&fabric(home), name))))
    }

    /// Reads what is kept, checks the fabric and judges the histories.
    fn judge(mut self) -> (u64, Summary) {
        self.0.end();
        let home = self.0.dir.path();
        let fabric = fabric(home);
        let channel = open(&fabric, self.0.name);
        for name in [None, Some(NAME)] {
            let mut client = client(home, "end", self.0.name);
            let mut reader = client.open_reader(&channel, name, ReadFrom::Oldest).expect("a reader");
            while client.read(&mut reader, name).expect("read") != Read::Nothing {}
        }
        fabric.reap().expect("reaped");
        let report = fabric.check().expect("checked");
        assert!(report.problems.is_empty(), "{:#?}", report.problems);
        let entries = std::fs::read_dir(home).expect("readable").map(|entry| entry.expect("readable").path());
        let paths: Vec<PathBuf> =
            entries.filter(|path| path.extension() == Some(OsStr::new("jsonl"))).collect();
        let operations = operations(&read(&paths).expect("readable")).expect("well formed");
        match log_history::check(&operations, self.0.name) {
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
    assert!(kills > 0 && summary.appended > 500 && summary.read > 500, "{summary:?}");
    summary
}

#[test]
fn a_storm_leaves_one_order_and_tells_exactly_what_was_trimmed() {
    storm("newest");
}

#[test]
fn a_storm_leaves_everything_that_a_named_reader_has_to_read_on_a_log_that_blocks() {
    storm("kept");
}

#[test]
fn a_log_takes_its_bytes_when_it_is_made_and_what_is_wrong_is_told() {
    let dir = tempfile::tempdir().expect("writable");
    let first = fabric(dir.path());
    let log = open(&first, "newest");
    let code = |error: memora::Error| error.code();
    let object = first.objects().expect("listed").into_iter().find(|it| it.name == "newest").expect("made");
    assert!(object.bytes >= (256 << 10) && object.bytes <= (256 << 10) + (64 << 10), "{object:?}");
    assert_eq!(log.options(), options("newest"));
    assert_eq!(open(&fabric(dir.path()), "newest").options(), log.options(), "opened again");
    let larger = ChannelOptions { retention: Some(Retention::default()), ..log.options() };
    assert_eq!(first.channel("newest", &larger).map(|_| ()).map_err(code), Err(ErrorCode::WrongOptions));
    let stream = ChannelOptions::default();
    assert_eq!(first.channel("newest", &stream).map(|_| ()).map_err(code), Err(ErrorCode::WrongKind));
    // More than the fabric has: told when it is made, and nothing is left of it.
    let used = first.stat().expect("counted").chunks_used;
    assert_eq!(first.channel("large", &larger).map(|_| ()).map_err(code), Err(ErrorCode::Full));
    assert_eq!(first.stat().expect("counted").chunks_used, used);

    let mut appender = log.appender().expect("an appender");
    appender.append(b"seen by those who only look").expect("appended");
    let looking = options_of(dir.path()).read_only(true).open("logs").expect("opens");
    let seen = looking.open_channel("newest").expect("it exists");
    let mut reader = seen.reader(ReadFrom::Oldest).expect("needs no place");
    let mut buffer = Vec::new();
    let wait = Some(Duration::from_millis(10));
    assert_eq!(reader.recv(&mut buffer, wait).expect("read").expect("it is there").position, 0);
    assert!(reader.recv(&mut buffer, wait).expect("looked").is_none());
    appender.append(b"later").expect("appended");
    assert_eq!(reader.recv(&mut buffer, Some(PATIENCE)).expect("read").expect("it comes").position, 1);
    assert_eq!(seen.stats().expect("counted").log.expect("a log").end, 2);
    assert_eq!(memora::wait_any(&mut [&mut reader], wait).map_err(code), Err(ErrorCode::ReadOnly));
    assert_eq!(seen.appender().map(|_| ()).map_err(code), Err(ErrorCode::ReadOnly));
    assert_eq!(seen.named_reader("n", ReadFrom::Oldest).map(|_| ()).map_err(code), Err(ErrorCode::ReadOnly));

    let mut named = log.named_reader("n", ReadFrom::Oldest).expect("a reader");
    first.close().expect("closed");
    assert_eq!(appender.append(b"x").map_err(code), Err(ErrorCode::Closed));
    assert_eq!(named.poll(1, |_, _| {}).map_err(code), Err(ErrorCode::Closed));
    assert_eq!(log.reader(ReadFrom::Oldest).map(|_| ()).map_err(code), Err(ErrorCode::Closed));
}
