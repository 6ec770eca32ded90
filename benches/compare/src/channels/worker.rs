//! One of the two processes of a contestant in Rust. Tasks come on standard input, one a line; the answers go to standard output.
//!
//! A task is `contestant case size count number`. The second process says `ready` when it can receive; then the first one is told the
//! same task. Both end with `done`: the second of a rate with nanoseconds and messages, the first of round trips with the file of their times.

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use memora::{Acknowledge, Channel, ChannelKind, ChannelOptions, Fabric};

use super::floor;
use super::links::{
    Came, Copied, Iceoryx, In, Link, Log, Memora, Out, Pipe, Place, Socket, channel, fabric, service,
};

/// In the environment of a worker: the folder that it shares with the other one.
pub const FOLDER: &str = "MEMORA_CHANNELS_FOLDER";
/// In the environment of a worker: `a`, who sends and measures round trips, or `b`, who receives and answers.
pub const SIDE: &str = "MEMORA_CHANNELS_SIDE";

/// A task as it stands in a line.
pub struct Task {
    contestant: String,
    /// What is done.
    pub case: String,
    /// Bytes of a message.
    pub size: usize,
    /// Messages that count; a tenth more come before.
    pub count: u64,
    number: u64,
    /// Where things are.
    pub folder: PathBuf,
    /// The first process of the two.
    pub first: bool,
}

impl Task {
    fn read(line: &str, folder: &Path, first: bool) -> Option<Task> {
        let mut words = line.split_whitespace();
        Some(Task {
            contestant: words.next()?.to_owned(),
            case: words.next()?.to_owned(),
            size: words.next()?.parse().ok()?,
            count: words.next()?.parse().ok()?,
            number: words.next()?.parse().ok()?,
            folder: folder.to_owned(),
            first,
        })
    }

    fn place(&self, direction: &str) -> Place {
        Place {
            folder: self.folder.clone(),
            name: format!("{direction}-{}-{}", self.contestant, self.number),
            size: self.size,
            blocking: self.case == "block",
        }
    }

    /// Messages before those that count.
    pub fn warm(&self) -> u64 {
        self.count / 10 + 1
    }

    /// Writes the times of round trips for the driver.
    pub fn answer(&self, times: &[u32]) -> String {
        let file = self.folder.join("times");
        let bytes: Vec<u8> = times.iter().flat_map(|time| time.to_le_bytes()).collect();
        std::fs::write(&file, bytes).expect("a file on tmpfs");
        file.display().to_string()
    }
}

/// Says that the receiving side is there.
pub fn ready() {
    say("ready");
}

fn say(line: &str) {
    println!("{line}");
    std::io::stdout().flush().expect("the driver reads");
}

/// Leaves a peer the time to fall asleep.
pub fn let_the_peer_sleep() {
    let start = Instant::now();
    while start.elapsed() < Duration::from_micros(200) {
        std::hint::spin_loop();
    }
}

/// Does tasks until standard input ends; none if this process is no worker.
pub fn serve() -> Option<ExitCode> {
    let folder = PathBuf::from(std::env::var_os(FOLDER)?);
    let first = std::env::var(SIDE).is_ok_and(|side| side == "a");
    for line in std::io::stdin().lock().lines() {
        let task = Task::read(&line.expect("a line"), &folder, first).expect("a task");
        let answer = match task.contestant.as_str() {
            "memora" => ours(&task),
            "copied" => run::<Copied>(&task),
            "log" => run::<Log>(&task),
            "service" => calls(&task),
            "iceoryx2" => run::<Iceoryx>(&task),
            "socket" => run::<Socket>(&task),
            "pipe" => run::<Pipe>(&task),
            _ => floor::run(&task),
        };
        say(&format!("done {answer}"));
    }
    Some(ExitCode::SUCCESS)
}

fn run<L: Link>(task: &Task) -> String {
    match (task.case.as_str(), task.first) {
        ("rate", true) => send_all(&mut L::send(&task.place("there")), task, task.count + task.warm()),
        ("rate", false) => {
            let mut receiver = L::receive(&task.place("there"));
            ready();
            count(task, &mut receiver)
        }
        (_, true) => round_trips::<L>(task),
        (_, false) => echo::<L>(task),
    }
}

fn send_all(out: &mut impl Out, task: &Task, count: u64) -> String {
    let mut message = vec![7; task.size];
    let last = task.size - 8;
    for number in 0..count {
        message[last..].copy_from_slice(&number.to_le_bytes());
        message[..8].copy_from_slice(&number.to_le_bytes());
        out.send(&message);
    }
    String::new()
}

/// Receives all messages of a rate; the nanoseconds and the number of those that came after the warm-up.
fn count(task: &Task, receiver: &mut impl In) -> String {
    let (warm, end, last) = (task.warm(), task.warm() + task.count, task.size - 8);
    let (mut next, mut start) = (0u64, (Instant::now(), 0));
    while next < end {
        let before = next;
        let taken = receiver.poll(256, &mut |message| {
            let ends = (message.number_at(0), message.number_at(last));
            assert!(
                message.len() == last + 8 && ends == (next, next),
                "message {next} is not whole or not in its place: its ends are {ends:?}"
            );
            next += 1;
        });
        if taken == 0 {
            std::hint::spin_loop();
        }
        if before < warm && next >= warm {
            start = (Instant::now(), next);
        }
    }
    rate(Some(start), end)
}

fn rate(start: Option<(Instant, u64)>, end: u64) -> String {
    start.map_or_else(
        || "1 0".to_owned(),
        |(start, first)| format!("{} {}", start.elapsed().as_nanos(), end - first),
    )
}

fn round_trips<L: Link>(task: &Task) -> String {
    let mut back = L::receive(&task.place("back"));
    let mut there = L::send(&task.place("there"));
    let blocking = task.case == "block";
    let message = vec![7; task.size];
    let mut times = Vec::with_capacity(task.count as usize);
    for round in 0..task.warm() + task.count {
        if blocking {
            let_the_peer_sleep();
        }
        let start = Instant::now();
        there.send(&message);
        let mut check = |answer: &Came<'_>| assert!(answer.len() == message.len(), "whole");
        if blocking {
            back.wait(&mut check);
        } else {
            while back.poll(1, &mut check) == 0 {
                std::hint::spin_loop();
            }
        }
        let time = start.elapsed();
        if round >= task.warm() {
            times.push(u32::try_from(time.as_nanos()).unwrap_or(u32::MAX));
        }
    }
    task.answer(&times)
}

fn echo<L: Link>(task: &Task) -> String {
    let mut there = L::receive(&task.place("there"));
    let mut back = None;
    ready();
    let mut left = task.warm() + task.count;
    while left > 0 {
        let mut answer = |message: &Came<'_>| {
            back.get_or_insert_with(|| L::send(&task.place("back"))).pass_on(message);
            left -= 1;
        };
        if task.case == "block" {
            there.wait(&mut answer);
        } else if there.poll(1, &mut answer) == 0 {
            std::hint::spin_loop();
        }
    }
    String::new()
}

/// Calls of a service: a request and its reply are a round trip.
fn calls(task: &Task) -> String {
    let (service, blocking) = (service(&task.folder, task.size), task.case == "block");
    let (all, mut bytes) = (task.warm() + task.count, Vec::new());
    if !task.first {
        let mut server = service.server().expect("an entry");
        ready();
        let mut left = all;
        while left > 0 {
            let request = if blocking { server.take(&mut bytes, None) } else { server.try_take(&mut bytes) };
            match request.expect("a sound service") {
                Some(request) => {
                    request.reply(&bytes).expect("answered");
                    left -= 1;
                }
                None => std::hint::spin_loop(),
            }
        }
        return String::new();
    }
    let mut client = service.client().expect("cells");
    let message = vec![7; task.size];
    let mut times = Vec::with_capacity(task.count as usize);
    for round in 0..all {
        if blocking {
            let_the_peer_sleep();
        }
        let start = Instant::now();
        if blocking {
            client.call(&message, &mut bytes, None).expect("a reply");
        } else {
            let call = client.send(&message).expect("a free cell");
            while client.poll(call, &mut bytes).expect("a reply").is_none() {
                std::hint::spin_loop();
            }
        }
        let time = start.elapsed();
        assert!(bytes.len() == message.len(), "whole");
        if round >= task.warm() {
            times.push(u32::try_from(time.as_nanos()).unwrap_or(u32::MAX));
        }
    }
    task.answer(&times)
}

fn ours(task: &Task) -> String {
    match task.case.as_str() {
        "one" => broadcast(task, 1),
        "two" => broadcast(task, 2),
        "queue" => queue(task, None),
        "acknowledged" => queue(task, Some(Acknowledge::default())),
        _ => run::<Memora>(task),
    }
}

/// A broadcast to subscribers that one process polls in turn.
fn broadcast(task: &Task, subscribers: usize) -> String {
    let fabric = fabric(&task.folder);
    let channel = channel(&fabric, "broadcast", ChannelKind::Broadcast, task.size);
    if task.first {
        return send_all(&mut channel.publisher().expect("a lane"), task, task.count + task.warm());
    }
    let mut all: Vec<_> =
        (0..subscribers).map(|_| (channel.subscriber().expect("a subscription"), 0u64)).collect();
    ready();
    let (warm, end) = (task.warm(), task.warm() + task.count);
    let mut start = None;
    while all.iter().any(|(_, next)| *next < end) {
        for (subscriber, next) in &mut all {
            let taken = subscriber.poll(256, |_, message| {
                assert!(message[..8] == next.to_le_bytes(), "in order");
                *next += 1;
            });
            if taken.expect("a sound channel") == 0 {
                std::hint::spin_loop();
            }
        }
        let least = all.iter().map(|(_, next)| *next).min().unwrap_or(0);
        if start.is_none() && least >= warm {
            start = Some((Instant::now(), least));
        }
    }
    rate(start, end)
}

fn jobs(fabric: &Fabric, acknowledge: Option<Acknowledge>) -> Channel {
    let name = if acknowledge.is_some() { "acknowledged" } else { "queue" };
    let options = ChannelOptions {
        kind: ChannelKind::Queue,
        acknowledge,
        lane_bytes: 1 << 20,
        ..ChannelOptions::default()
    };
    fabric.channel(name, &options).expect("a queue")
}

/// A queue with two producers in one process and two consumers in the other, each a thread.
fn queue(task: &Task, acknowledge: Option<Acknowledge>) -> String {
    let acknowledged = acknowledge.is_some();
    let queue = jobs(&fabric(&task.folder), acknowledge);
    let all = task.warm() + task.count;
    if task.first {
        std::thread::scope(|scope| {
            for part in [all / 2, all - all / 2] {
                let queue = &queue;
                scope.spawn(move || send_all(&mut queue.publisher().expect("a lane"), task, part));
            }
        });
        return String::new();
    }
    let seen = AtomicU64::new(0);
    let start = std::sync::OnceLock::new();
    let mut consumers: Vec<_> = (0..2).map(|_| queue.consumer().expect("a consumer")).collect();
    ready();
    std::thread::scope(|scope| {
        for mut consumer in consumers.drain(..) {
            let (seen, start) = (&seen, &start);
            scope.spawn(move || {
                while seen.load(Ordering::Relaxed) < all {
                    let taken = consumer
                        .poll(256, |_, message| assert!(message.len() == task.size, "whole"))
                        .expect("a sound queue");
                    if acknowledged && taken > 0 {
                        consumer.ack_all().expect("acknowledged");
                    }
                    if taken == 0 {
                        std::thread::yield_now();
                    } else {
                        let now = seen.fetch_add(taken as u64, Ordering::Relaxed) + taken as u64;
                        if now >= task.warm() {
                            start.get_or_init(|| (Instant::now(), now));
                        }
                    }
                }
            });
        }
    });
    rate(start.get().copied(), all)
}
