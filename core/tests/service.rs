//! Services under a storm: clients and servers in processes of their own are killed, stopped, continued and replaced at random.
//! Afterwards each call has ended once, in the right way, none was served twice, and the fabric passes its check.
//!
//! `MEMORA_TORTURE=N` makes it longer.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use memora::{ErrorCode, Fabric, FabricOptions, Service, ServiceOptions};
use memora_stress::random::Random;
use memora_testkit::call_history::{CallClient, CallServer, Summary, judge};
use memora_testkit::kill_point::torture;
use memora_testkit::process::{self, PATIENCE, Worker};

const HOME: &str = "MEMORA_SERVICE_HOME";
const OPTIONS: ServiceOptions = ServiceOptions { message_bytes: 2000, calls: 8 };

fn fabric(home: &Path) -> Fabric {
    FabricOptions::new().home(home.join("home")).limit(8 << 20).open("services").expect("the fabric opens")
}

fn open(fabric: &Fabric) -> Service {
    fabric.service("work", &OPTIONS).expect("the service opens")
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
    let service = open(&fabric);
    let mut random = Random::new(&format!("{role}{}", std::process::id()));
    match role.as_str() {
        "ask" => ask(&home, &service, &mut random),
        "serve" => serve(&home, &service, &mut random),
        "take" => take(&service),
        other => panic!("unknown role {other}"),
    }
}

fn ask(home: &Path, service: &Service, random: &mut Random) -> ! {
    let mut client = CallClient::open(home, service, "ask").expect("a client");
    process::tell("ready");
    loop {
        for _ in 0..1 + random.draw(6) {
            let most = if random.draw(8) == 0 { 100_000 } else { 1500 };
            client.send(random.draw(most) as usize);
        }
        match random.draw(4) {
            0 => {
                for call in client.open_calls() {
                    client.wait(call, Duration::from_millis(random.draw(60)));
                }
            }
            1 => {
                client.wait_any(Duration::from_millis(20));
            }
            2 if random.draw(10) == 0 => {
                for call in client.open_calls() {
                    client.cancel(call);
                }
            }
            _ => {
                client.poll();
            }
        }
        if random.draw(200) == 0 {
            client.close();
            client = CallClient::open(home, service, "ask").expect("a client");
        }
    }
}

fn serve(home: &Path, service: &Service, random: &mut Random) -> ! {
    let mut server = CallServer::open(home, service, "serve").expect("a server");
    process::tell("ready");
    let mut held = Vec::new();
    loop {
        held.extend(server.take(Some(Duration::from_millis(random.draw(10)))));
        // Some are answered later, and in another order.
        while held.len() > random.draw(3) as usize {
            let work = held.swap_remove(random.draw(held.len() as u64) as usize);
            server.answer(work, random);
        }
        if random.draw(50) == 0 {
            std::thread::sleep(Duration::from_millis(random.draw(4)));
        }
    }
}

/// Takes one request and keeps it.
fn take(service: &Service) -> ! {
    let mut server = service.server().expect("a server");
    process::tell("ready");
    let request = server.take(&mut Vec::new(), Some(PATIENCE)).expect("taken");
    assert!(request.is_some());
    process::tell("taken");
    loop {
        std::thread::sleep(PATIENCE);
    }
}

fn spawn(home: &Path, role: &str) -> Worker {
    let place: OsString = home.into();
    let environment: [(&str, &OsStr); 1] = [(HOME, &place)];
    let mut worker = Worker::spawn("entry", role, &environment);
    worker.expect_line("ready");
    worker
}

fn temporary() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("memora-service-").tempdir_in("/dev/shm").expect("writable")
}

struct Storm {
    dir: tempfile::TempDir,
    workers: Vec<(&'static str, Worker)>,
    killed: Vec<u32>,
}

impl Storm {
    fn new() -> Storm {
        let dir = temporary();
        open(&fabric(dir.path()));
        let roles = ["ask", "ask", "ask", "serve", "serve", "serve"];
        let workers = roles.into_iter().map(|role| (role, spawn(dir.path(), role))).collect();
        Storm { dir, workers, killed: Vec::new() }
    }

    /// Kills one and starts another in its place, or stops one for a while.
    fn blow(&mut self, random: &mut Random) {
        let which = random.draw(self.workers.len() as u64) as usize;
        if random.draw(3) == 0 {
            let (role, worker) = &mut self.workers[which];
            assert!(worker.stop(), "{role} ended by itself: {}", worker.errors());
            std::thread::sleep(Duration::from_millis(random.draw(200)));
            worker.resume();
            return;
        }
        self.kill(which);
        self.workers[which].1 = spawn(self.dir.path(), self.workers[which].0);
    }

    fn kill(&mut self, which: usize) {
        let (role, worker) = &mut self.workers[which];
        self.killed.push(worker.pid());
        assert!(Worker::was_killed(worker.kill()), "{role} ended by itself: {}", worker.errors());
    }

    /// Ends everybody, checks the fabric and judges the histories.
    fn judge(mut self) -> Summary {
        for which in 0..self.workers.len() {
            self.kill(which);
        }
        let home = self.dir.path();
        let fabric = fabric(home);
        fabric.reap().expect("reaped");
        let service = open(&fabric);
        let stats = service.stats().expect("counted");
        assert_eq!((stats.asked, stats.taken, stats.left), (0, 0, 0), "{stats:?}");
        assert_eq!((stats.clients, stats.servers), (0, 0), "{stats:?}");
        assert!(stats.rings <= 8, "memory comes back: {stats:?}");
        let report = fabric.check().expect("checked");
        assert!(report.problems.is_empty(), "{:#?}", report.problems);
        let killed = std::mem::take(&mut self.killed);
        let was_killed = |name: &str| killed.iter().any(|pid| name.contains(&format!(".{pid}.")));
        match judge(home, was_killed) {
            Ok(summary) => summary,
            Err(error) => panic!("{error}\nhistories kept in {}", self.dir.keep().display()),
        }
    }
}

#[test]
fn a_storm_ends_each_call_once_in_the_right_way() {
    let mut random = Random::new("service");
    let mut storm = Storm::new();
    for _ in 0..30 * torture() {
        std::thread::sleep(Duration::from_millis(random.draw(80)));
        storm.blow(&mut random);
    }
    let kills = storm.killed.len();
    let summary = storm.judge();
    println!("{kills} kills, {summary:?}");
    assert!(kills > 0 && summary.replied > 100 && summary.unanswered > 0, "{summary:?}");
}

#[test]
fn the_death_of_a_server_ends_the_call_that_it_took_long_before_its_time_is_over() {
    let dir = temporary();
    let fabric = fabric(dir.path());
    let service = open(&fabric);
    let mut client = service.client().expect("a client");
    let mut taker = spawn(dir.path(), "take");
    let call = client.send(b"taken").expect("sent");
    taker.expect_line("taken");
    let not_taken = client.send(b"waits").expect("sent");
    let killer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(30));
        assert!(Worker::was_killed(taker.kill()));
    });
    let start = Instant::now();
    let ended = client.wait(call, &mut Vec::new(), Some(PATIENCE * 10));
    killer.join().expect("it killed");
    assert_eq!(ended.expect_err("no reply").code(), ErrorCode::PeerDied);
    assert!(start.elapsed() < PATIENCE, "not at the time-out");
    // The next server takes what the dead one had not taken.
    let mut next = spawn(dir.path(), "take");
    next.expect_line("taken");
    assert_eq!(client.poll(not_taken, &mut Vec::new()).expect("not ended"), None);
    assert_eq!(service.stats().expect("counted").taken, 1);
    // A server that stands still: the time of its call is over, and a call to another server is answered.
    assert!(next.stop());
    let ended = client.wait(not_taken, &mut Vec::new(), Some(Duration::from_millis(20)));
    assert_eq!(ended.expect_err("no reply").code(), ErrorCode::TimedOut);
    let call = client.send(b"next").expect("sent");
    let mut server = service.server().expect("a server");
    let request = server.take(&mut Vec::new(), Some(PATIENCE)).expect("taken").expect("it was sent");
    assert!(request.reply(b"yes").expect("answered"));
    assert_eq!(client.wait(call, &mut Vec::new(), Some(PATIENCE)).expect("a reply"), 3);
    assert_eq!(service.stats().expect("counted").left, 1);
    assert!(Worker::was_killed(next.kill()));
    fabric.reap().expect("reaped");
    assert_eq!(service.stats().expect("counted").left, 0);
}

/// Bytes of which each place has its own.
fn long(len: usize, number: u64) -> Vec<u8> {
    (0..len as u64).step_by(8).flat_map(|at| (at ^ number << 40).to_le_bytes()).take(len).collect()
}

#[test]
fn requests_and_replies_of_64_mib_arrive_whole_and_their_memory_comes_back() {
    const LEN: usize = 64 << 20;
    let dir = temporary();
    let fabric =
        FabricOptions::new().home(dir.path().join("home")).limit(256 << 20).open("long").expect("opens");
    let service = fabric.service("work", &ServiceOptions::default()).expect("opens");
    let mut client = service.client().expect("a client");
    assert!(client.message_len_max() > LEN, "{}", client.message_len_max());
    let before = fabric.stat().expect("counted").chunks_used;
    let mut server = service.server().expect("a server");
    let serving = std::thread::spawn(move || {
        let mut buffer = Vec::new();
        for number in 0..3 {
            let request = server.take(&mut buffer, Some(PATIENCE)).expect("taken").expect("it was sent");
            assert!(buffer == long(LEN + number, 1), "another request");
            assert!(request.reply(&long(LEN + number, 2)).expect("answered"));
        }
    });
    let mut reply = Vec::new();
    for number in 0..3 {
        client.call(&long(LEN + number, 1), &mut reply, Some(PATIENCE)).expect("a reply");
        assert!(reply == long(LEN + number, 2), "another reply");
    }
    serving.join().expect("it ends");
    // Two that nobody takes leave no room for a third.
    let calls = [1, 2].map(|_| client.send(&reply));
    assert!(calls.iter().filter(|call| call.is_ok()).count() >= 1);
    let error = (0..2).find_map(|_| client.send(&reply).err()).expect("no room");
    assert_eq!(error.code(), ErrorCode::Full);
    drop(client);
    assert_eq!(fabric.stat().expect("counted").chunks_used, before);
    let report = fabric.check().expect("checked");
    assert!(report.problems.is_empty(), "{:#?}", report.problems);
}

#[test]
fn what_is_wrong_is_told() {
    let dir = temporary();
    let first = fabric(dir.path());
    let service = open(&first);
    let code = |error: memora::Error| error.code();
    assert_eq!(open(&first).options(), service.options(), "opened again");
    let other = ServiceOptions { calls: 4, ..OPTIONS };
    assert_eq!(first.service("work", &other).map(|_| ()).map_err(code), Err(ErrorCode::WrongOptions));
    let wrong = ServiceOptions { calls: 3, ..OPTIONS };
    assert_eq!(first.service("wrong", &wrong).map(|_| ()).map_err(code), Err(ErrorCode::InvalidArgument));
    assert_eq!(first.open_service("none").map(|_| ()).map_err(code), Err(ErrorCode::NotFound));
    first.cache("cache").expect("made");
    assert_eq!(first.open_service("cache").map(|_| ()).map_err(code), Err(ErrorCode::WrongKind));
    assert_eq!(first.open_channel("work").map(|_| ()).map_err(code), Err(ErrorCode::WrongKind));
    let looking =
        FabricOptions::new().home(dir.path().join("home")).read_only(true).open("services").expect("opens");
    let seen = looking.open_service("work").expect("it exists");
    assert_eq!(seen.stats().expect("counted").clients, 0);
    assert_eq!(seen.client().map(|_| ()).map_err(code), Err(ErrorCode::ReadOnly));
    assert_eq!(seen.server().map(|_| ()).map_err(code), Err(ErrorCode::ReadOnly));
    let (mut client, mut server) = (service.client().expect("a client"), service.server().expect("a server"));
    client.send(b"q").expect("sent");
    let request = server.try_take(&mut Vec::new()).expect("taken").expect("it was sent");
    let wait = Some(PATIENCE);
    first.close().expect("closed");
    assert_eq!(client.wait_any(&mut Vec::new(), wait).map(|_| ()).map_err(code), Err(ErrorCode::Closed));
    assert_eq!(server.take(&mut Vec::new(), wait).map(|_| ()).map_err(code), Err(ErrorCode::Closed));
    // What was taken before is answered all the same: nobody waits for ever for a request in hand.
    assert_eq!(request.reply(b"late").map_err(code), Ok(true));
}
