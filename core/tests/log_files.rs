//! A log with files in real processes: everything is killed and the fabric removed; what was acknowledged as durable is there again.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use memora::{
    Channel, ChannelKind, ChannelOptions, Durability, ErrorCode, Fabric, FabricOptions, LogFiles,
    OverrunPolicy, ReadFrom, Retention,
};
use memora_testkit::process::{self, Worker};

const HOME: &str = "MEMORA_LOG_FILES_HOME";

fn fabric(home: &Path) -> Fabric {
    FabricOptions::new().home(home.join("home")).limit(4 << 20).open("logs").expect("the fabric opens")
}

fn options(home: &Path, durability: Durability) -> ChannelOptions {
    let files = LogFiles { durability, ..LogFiles::new(home.join("log")) };
    ChannelOptions {
        kind: ChannelKind::Log,
        overrun: OverrunPolicy::Overrun,
        retention: Some(Retention { bytes: 256 << 10, age: None }),
        files: Some(files),
        ..ChannelOptions::default()
    }
}

fn open(fabric: &Fabric, home: &Path, durability: Durability) -> Channel {
    fabric.channel("orders", &options(home, durability)).expect("the log opens")
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
    let log = open(&fabric, &home, Durability::Sync);
    if role == "read" {
        let mut reader = log.named_reader("audit", ReadFrom::Oldest).expect("a reader");
        let mut buffer = Vec::new();
        loop {
            let message = reader.recv(&mut buffer, None).expect("read").expect("it comes");
            reader.commit().expect("its own");
            process::tell(&format!("read {}", message.position));
        }
    }
    let mut appender = log.appender().expect("an appender");
    for number in 0.. {
        let message = format!("{role} {number}");
        let position = appender.append(message.as_bytes()).expect("appended");
        process::tell(&format!("{position} {message}"));
    }
}

/// The message that a position was acknowledged with, as a worker said it.
fn acknowledged(line: &str) -> (u64, String) {
    let (position, message) = line.split_once(' ').expect("two parts");
    (position.parse().expect("a number"), message.to_owned())
}

#[test]
fn what_was_acknowledged_is_there_after_everything_was_killed_and_the_fabric_removed() {
    let dir = tempfile::tempdir().expect("writable");
    let home = dir.path();
    let environment: [(&str, &OsStr); 1] = [(HOME, home.as_os_str())];
    drop(open(&fabric(home), home, Durability::Sync));
    let spawn = |role| Worker::spawn("entry", role, &environment);
    let (mut first, mut second, mut reader) = (spawn("one"), spawn("two"), spawn("read"));
    let mut durable = Vec::new();
    let mut take = |worker: &mut Worker, count: u32| {
        for _ in 0..count {
            durable.push(acknowledged(&worker.expect_line("")));
        }
    };
    take(&mut first, 30);
    take(&mut second, 30);
    // Stopped, perhaps while it flushes: the other goes on.
    assert!(first.stop());
    take(&mut second, 60);
    first.resume();
    take(&mut first, 30);
    let read: u64 = reader.expect_line("read").parse().expect("a number");
    for worker in [&mut first, &mut second, &mut reader] {
        assert!(Worker::was_killed(worker.kill()));
    }
    let mut last = read;
    while let Some(line) = reader.next_line("read", Duration::ZERO) {
        last = line.parse().expect("a number");
    }
    for worker in [&mut first, &mut second] {
        while let Some(line) = worker.next_line("", Duration::ZERO) {
            durable.push(acknowledged(&line));
        }
    }
    Fabric::remove(Some(&home.join("home")), "logs").expect("removed");

    let fabric = fabric(home);
    let log = open(&fabric, home, Durability::Sync);
    let mut found = Vec::new();
    let mut all = log.reader(ReadFrom::Oldest).expect("a reader");
    while all
        .poll(64, |message, bytes| {
            assert_eq!(message.position, found.len() as u64, "from the first on, without holes");
            found.push(String::from_utf8(bytes.to_vec()).expect("text"));
        })
        .expect("read")
        > 0
    {}
    assert!(durable.len() >= 150);
    for (position, message) in &durable {
        assert_eq!(found.get(*position as usize), Some(message), "position {position} was durable");
    }
    for who in ["one", "two"] {
        let prefix = format!("{who} ");
        let numbers =
            found.iter().filter_map(|it| it.strip_prefix(&prefix)).map(|it| it.parse::<u64>().unwrap());
        assert!(numbers.eq(0..found.iter().filter(|it| it.starts_with(&prefix)).count() as u64), "{who}");
    }
    let audit = log.named_reader("audit", ReadFrom::Newest).expect("a reader");
    // It may have committed one more than it could say.
    assert!(audit.position() <= last + 2, "{} is ahead of {last}", audit.position());
    assert_eq!(log.appender().expect("an appender").append(b"on").expect("appended"), found.len() as u64);
    let report = fabric.check().expect("checked");
    assert!(report.problems.is_empty(), "{:#?}", report.problems);
}

#[test]
fn the_ticker_flushes_and_what_is_wrong_with_files_is_told() {
    let dir = tempfile::tempdir().expect("writable");
    let home = dir.path();
    let first = fabric(home);
    let log = open(&first, home, Durability::Async { interval_ms: 1 });
    let mut appender = log.appender().expect("an appender");
    appender.append(b"soon").expect("appended");
    let end = std::time::Instant::now() + process::PATIENCE;
    while log.stats().expect("counted").log.expect("a log").files.expect("files").durable < 1 {
        assert!(std::time::Instant::now() < end, "nobody flushes");
        std::thread::sleep(Duration::from_millis(1));
    }
    let code = |error: memora::Error| error.code();
    let by_name = first.open_channel("orders").expect("it says where its files are");
    assert_eq!(by_name.options(), log.options());
    let without = ChannelOptions { files: None, ..log.options() };
    assert_eq!(first.channel("orders", &without).map(|_| ()).map_err(code), Err(ErrorCode::WrongOptions));
    let plain = first.channel("plain", &without).expect("a log in memory");
    let with_files = ChannelOptions { files: Some(LogFiles::new(home.join("elsewhere"))), ..without.clone() };
    assert_eq!(first.channel("plain", &with_files).map(|_| ()).map_err(code), Err(ErrorCode::WrongOptions));
    assert_eq!(plain.flush().map_err(code), Err(ErrorCode::InvalidArgument));
    let mut in_memory = plain.appender().expect("an appender");
    assert_eq!(
        in_memory.append_durable(b"x", Durability::Sync).map_err(code),
        Err(ErrorCode::InvalidArgument)
    );
    assert_eq!(in_memory.append_durable(b"x", Durability::Process), Ok(0));
    let other = first.channel("other", &options(home, Durability::Sync));
    assert_eq!(other.map(|_| ()).map_err(code), Err(ErrorCode::NotAStore));
    assert_eq!(
        first.open_channel("other").map(|_| ()).map_err(code),
        Err(ErrorCode::NotFound),
        "nothing is left"
    );
    for wrong in [
        LogFiles { file_bytes: 4096, ..LogFiles::new(home.join("w")) },
        LogFiles { file_bytes: 128 << 20, ..LogFiles::new(home.join("w")) },
        LogFiles { bytes: Some(32 << 20), ..LogFiles::new(home.join("w")) },
    ] {
        let options = ChannelOptions { files: Some(wrong), ..without.clone() };
        assert_eq!(first.channel("w", &options).map(|_| ()).map_err(code), Err(ErrorCode::InvalidArgument));
    }
    let stream = ChannelOptions { files: Some(LogFiles::new(home.join("w"))), ..ChannelOptions::default() };
    assert_eq!(first.channel("w", &stream).map(|_| ()).map_err(code), Err(ErrorCode::InvalidArgument));
    drop(first.close());
    assert_eq!(appender.append(b"x").map_err(code), Err(ErrorCode::Closed));
}
