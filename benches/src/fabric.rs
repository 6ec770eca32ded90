//! Attaching, taking over from a dead process, and what the living notice of a large process that is killed.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use memora::{Channel, ChannelKind, ChannelOptions, Fabric, FabricOptions, OverrunPolicy};

use crate::harness::{Case, Figure, Report, Samples, interleave};

const ROLE: &str = "MEMORA_BENCH_FABRIC_ROLE";
const HOME: &str = "MEMORA_BENCH_FABRIC_HOME";
/// The heap of the process whose death is watched.
const HEAP: usize = 4 << 30;
const ROUNDS: usize = 10;

fn open(home: &Path) -> Fabric {
    FabricOptions::new().home(home.to_path_buf()).open("bench").expect("a fabric of its own")
}

/// Its publisher waits for its slowest subscriber: until that is proven dead.
fn news(fabric: &Fabric) -> Channel {
    let options = ChannelOptions {
        kind: ChannelKind::Broadcast,
        overrun: OverrunPolicy::Block,
        lane_bytes: 16 << 10,
        ..ChannelOptions::default()
    };
    fabric.channel("news", &options).expect("a channel")
}

/// In a second process: plays its role. None in the first.
pub fn serve() -> Option<ExitCode> {
    let role = std::env::var(ROLE).ok()?;
    let home = PathBuf::from(std::env::var_os(HOME)?);
    match role.as_str() {
        "attach" => attach(&home),
        "victim" => be_killed(&home, 0),
        _ => be_killed(&home, HEAP),
    }
    Some(ExitCode::SUCCESS)
}

/// Says how many nanoseconds passed from nothing to the first value.
fn attach(home: &Path) {
    let start = Instant::now();
    let fabric = open(home);
    let value = fabric.cache("cache").expect("there").get(b"first").expect("read");
    let time = start.elapsed();
    assert!(value.is_some(), "the value was stored before");
    println!("{}", time.as_nanos());
}

/// Subscribes, publishes, writes, with a heap of its own, until it is killed or its parent is gone.
fn be_killed(home: &Path, heap: usize) {
    let parent = std::os::unix::process::parent_id();
    let heap = vec![1u8; heap];
    let fabric = open(home);
    let cache = fabric.cache("cache").expect("there");
    let mut subscriber = news(&fabric).subscriber().expect("room for one more");
    let mut publisher = fabric
        .channel("answers", &ChannelOptions::default())
        .and_then(|channel| channel.publisher())
        .expect("a lane");
    println!("ready");
    let mut message = Vec::new();
    while std::os::unix::process::parent_id() == parent {
        subscriber.recv(&mut message, Some(Duration::from_millis(1))).expect("a sound channel");
        cache.set(b"victim", &message).expect("set");
        // Nobody reads the answers: full is what they are after a while.
        let _ = publisher.try_send(&message);
    }
    std::hint::black_box(&heap);
}

fn spawn(home: &Path, role: &str) -> (Child, BufReader<std::process::ChildStdout>) {
    let program = std::env::current_exe().expect("a program knows its path");
    let mut child = Command::new(program)
        .env(ROLE, role)
        .env(HOME, home)
        .stdout(Stdio::piped())
        .spawn()
        .expect("this program starts");
    let output = BufReader::new(child.stdout.take().expect("piped"));
    (child, output)
}

fn line(output: &mut impl BufRead) -> String {
    let mut line = String::new();
    output.read_line(&mut line).expect("readable");
    line.trim().to_owned()
}

fn victim(home: &Path, role: &str) -> Child {
    let (child, mut output) = spawn(home, role);
    assert_eq!(line(&mut output), "ready");
    child
}

/// The longest time in ms that one message, one write and one read took while a process was killed, or not.
fn stall(home: &Path, fabric: &Fabric, kill: bool) -> f64 {
    let cache = fabric.cache("cache").expect("there");
    let mut publisher = news(fabric).publisher().expect("a lane");
    let mut child = victim(home, "heap");
    let killer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        if kill {
            child.kill().expect("it lives");
            child.wait().expect("it ends");
        }
        // What comes late is seen as well.
        std::thread::sleep(Duration::from_millis(300));
        child
    });
    let mut longest = Duration::ZERO;
    while !killer.is_finished() {
        let start = Instant::now();
        publisher.send(&[7; 56]).expect("sent");
        cache.set(b"first", &[7; 100]).expect("set");
        cache.get(b"first").expect("read");
        longest = longest.max(start.elapsed());
    }
    let mut child = killer.join().expect("nothing fails there");
    let _ = child.kill();
    child.wait().expect("it ends");
    fabric.reap().expect("reaped");
    longest.as_secs_f64() * 1e3
}

/// The time in µs that taking over from one killed process takes.
fn reap(home: &Path, fabric: &Fabric) -> f64 {
    let mut child = victim(home, "victim");
    child.kill().expect("it lives");
    child.wait().expect("it ends");
    let start = Instant::now();
    let report = fabric.reap().expect("reaped");
    let time = start.elapsed();
    assert_eq!(report.processes, 1, "its entry was there to be freed");
    time.as_secs_f64() * 1e6
}

/// Measures all.
pub fn run(report: &Report) {
    let home = PathBuf::from(format!("/dev/shm/memora-bench-fabric-{}", std::process::id()));
    std::fs::create_dir_all(&home).expect("a directory on tmpfs");
    std::fs::set_permissions(&home, std::os::unix::fs::PermissionsExt::from_mode(0o700))
        .expect("our own directory");
    let fabric = open(&home);
    fabric.cache("cache").expect("created").set(b"first", &[7; 100]).expect("set");
    let attach = || {
        let (mut child, mut output) = spawn(&home, "attach");
        let time: f64 = line(&mut output).parse().expect("nanoseconds");
        child.wait().expect("it ends");
        time / 1e3
    };
    // The least that attaching can be.
    let look = || {
        let start = Instant::now();
        let file = std::fs::File::open(home.join("bench.fabric")).expect("there");
        let mut head = [0; 4096];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut head, 0).expect("long enough");
        std::hint::black_box(head);
        start.elapsed().as_secs_f64() * 1e6
    };
    let mut cases: [Case<'_>; 3] = [
        ("open and read", Box::new(look)),
        ("attach", Box::new(attach)),
        ("reap", Box::new(|| reap(&home, &fabric))),
    ];
    let quick = interleave(ROUNDS, &mut cases);
    drop(cases);
    let mut cases: [Case<'_>; 2] = [
        ("alive", Box::new(|| stall(&home, &fabric, false))),
        ("killed", Box::new(|| stall(&home, &fabric, true))),
    ];
    let slow = interleave(ROUNDS / 2, &mut cases);
    drop(cases);
    let show = |case: &str, unit: &str, samples: &Samples, floor: Option<(&str, f64)>, goal: &str| {
        report.add(&Figure { bench: "fabric", case, procs: 2, unit, samples, floor, goal: Some(goal) });
    };
    let floor = Some(("opening the file and reading a page", quick[0].median()));
    show("attach in a new process, to the first value", "us", &quick[1], floor, "< 1000");
    show("take over from a killed process", "us", &quick[2], None, "< 1000");
    let floor = Some(("nobody is killed", slow[0].high()));
    show("longest stall, a process of 4 GB is killed", "ms", &slow[1], floor, "< 100");
    drop(fabric);
    let _ = std::fs::remove_dir_all(&home);
}
