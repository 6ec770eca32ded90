//! Storms: workers in Rust, C and Java share one fabric while they are killed, stopped, continued and restarted at random.
//! Afterwards their histories are judged, the fabric checks itself, and nothing of the dead may be left.
//!
//! Workers in C and Java join when `MEMORA_STRESS_C` (a program) and `MEMORA_STRESS_JAVA` (a command) say how to start them.
//! `MEMORA_TORTURE=N` makes it longer; `MEMORA_STORM_SEED` repeats the order of the blows (not that of the operations).

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use memora::{ChannelKind, ChannelOptions, Fabric, FabricOptions, OverrunPolicy};
use memora_stress::evict::{Caches, EvictClient};
use memora_stress::kv::{KvClient, PLAIN, kept_cache};
use memora_stress::queue::{QueueClient, QueueOptions, Role};
use memora_stress::random::Random;
use memora_stress::{Bound, CHANNEL, Failure, LANE_BYTES, Options};
use memora_testkit::caches::{counts_are_exact, within_limits};
use memora_testkit::history::{Recorder, last_client, monotonic_ns, operations, read, record_kill};
use memora_testkit::kill_point::torture;
use memora_testkit::process::{self, PATIENCE, Worker};
use memora_testkit::{linearizability, queue_history};

const FABRIC: &str = "storm";
/// A storm goes on until it killed so many, however slow the machine is.
const KILLS_MIN: u64 = 8;
/// ... and, with caches that evict, until each of them evicted so many.
const EVICTED_MIN: u64 = 1000;
/// And until all stood still so many times.
const STANDSTILLS_MIN: u64 = 2;

/// Plays the workers in Rust; a plain run has none.
#[test]
fn entry() {
    let Some(role) = process::role() else {
        assert!(std::env::var_os("MEMORA_STORM_HISTORY").is_none());
        return;
    };
    let text = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
    let subscription = std::env::var("MEMORA_STORM_SUBSCRIPTION").ok();
    // In bursts, each by a new client that attaches and detaches: hundreds of thousands of operations a second would only make the
    // histories long.
    let (operations, pause) = if role == "evict" { (2000, 10) } else { (300, 2) };
    for burst in 0.. {
        let options = Options {
            fabric: FABRIC.to_string(),
            seed: format!("{}.{burst}", text("MEMORA_STORM_WORKER")),
            history: PathBuf::from(text("MEMORA_STORM_HISTORY")),
            bound: Bound::Operations(operations),
            burst: None,
        };
        let subscription = subscription.clone();
        let result = match role.as_str() {
            "kv" => memora_stress::kv::kv(&options),
            "evict" => memora_stress::evict::evict(&options),
            "queue" => {
                memora_stress::queue::queue(&options, &QueueOptions { role: Role::Both, subscription })
            }
            "sleepers" => sleep_and_wake(&options, subscription.as_deref()),
            other => panic!("unknown role {other}"),
        };
        result.unwrap_or_else(|error| panic!("burst {burst}: {error}"));
        std::thread::sleep(Duration::from_millis(pause));
    }
}

/// A worker that waits for room and for messages, and so sleeps and is woken.
fn sleep_and_wake(options: &Options, subscription: Option<&str>) -> Result<(), Failure> {
    const WAIT: Duration = Duration::from_millis(20);
    let channel = Fabric::open(&options.fabric)?.channel(CHANNEL, &channel_options())?;
    let mut client = QueueClient::open(&options.history, &options.seed, CHANNEL)?;
    let mut subscriber = client.subscribe(&channel, subscription)?;
    let mut publisher = channel.publisher()?;
    let mut random = Random::new(&options.seed);
    for _ in 0..300 {
        // Each message comes to three: who receives oftener than that has read everything, and sleeps.
        if random.draw(5) == 0 {
            let pad = random.draw(500) as usize;
            client.send_by(pad, |payload| publisher.send_timeout(payload, WAIT))?;
        } else {
            client.recv(&mut subscriber, Some(WAIT))?;
        }
    }
    Ok(())
}

fn channel_options() -> ChannelOptions {
    ChannelOptions {
        kind: ChannelKind::Broadcast,
        overrun: OverrunPolicy::Block,
        lane_bytes: LANE_BYTES,
        ..ChannelOptions::default()
    }
}

/// How a worker is started.
#[derive(Clone)]
enum Kind {
    Rust { subscription: Option<&'static str>, full_fences: bool },
    Command(Vec<OsString>),
}

struct Member {
    kind: Kind,
    name: String,
    incarnation: u32,
    worker: Worker,
    history: PathBuf,
    born: Instant,
}

struct Storm {
    role: &'static str,
    dir: tempfile::TempDir,
    members: Vec<Member>,
    histories: Vec<PathBuf>,
    kills: u64,
    stops: u64,
    standstills: u64,
}

impl Storm {
    fn new(role: &'static str, named: Option<&'static str>) -> Storm {
        let mut storm = Storm::empty(role);
        for subscription in [None, None, named] {
            storm.join(Kind::Rust { subscription, full_fences: false });
        }
        for variable in ["MEMORA_STRESS_C", "MEMORA_STRESS_JAVA"] {
            let Some(command) = std::env::var_os(variable).filter(|command| !command.is_empty()) else {
                println!("{variable} is not set: no such worker");
                continue;
            };
            let command = command.into_string().expect("a command in UTF-8");
            storm.join(Kind::Command(command.split_whitespace().map(OsString::from).collect()));
        }
        storm
    }

    /// Without workers.
    fn empty(role: &'static str) -> Storm {
        let dir = tempfile::Builder::new()
            .prefix("memora-storm-")
            .tempdir_in("/dev/shm")
            .expect("/dev/shm is writable");
        let storm = Storm {
            role,
            dir,
            members: Vec::new(),
            histories: Vec::new(),
            kills: 0,
            stops: 0,
            standstills: 0,
        };
        // The first opener makes the fabric and the cache; what the others would make does not matter.
        kept_cache(&storm.fabric()).expect("made");
        storm
    }

    fn join(&mut self, kind: Kind) {
        let name = format!("w{}", self.members.len());
        let (worker, history) = self.start(&kind, &name, 0);
        self.members.push(Member { kind, name, incarnation: 0, worker, history, born: Instant::now() });
    }

    fn home(&self) -> &Path {
        self.dir.path()
    }

    fn fabric(&self) -> Fabric {
        FabricOptions::new()
            .home(self.home().to_path_buf())
            .limit(16 << 20)
            .open(FABRIC)
            .unwrap_or_else(|error| panic!("the fabric does not open: {error}"))
    }

    fn start(&mut self, kind: &Kind, name: &str, incarnation: u32) -> (Worker, PathBuf) {
        let seed = format!("{name}.{incarnation}");
        let history = self.home().join(format!("{seed}.jsonl"));
        self.histories.push(history.clone());
        let mut environment: Vec<(&str, &OsStr)> = vec![("MEMORA_HOME", self.home().as_os_str())];
        let worker = match kind {
            Kind::Rust { subscription, full_fences } => {
                if *full_fences {
                    environment.push(("MEMORA_NO_MEMBARRIER", OsStr::new("1")));
                }
                environment.push(("MEMORA_STORM_WORKER", OsStr::new(&seed)));
                environment.push(("MEMORA_STORM_HISTORY", history.as_os_str()));
                if let Some(subscription) = subscription {
                    environment.push(("MEMORA_STORM_SUBSCRIPTION", OsStr::new(subscription)));
                }
                Worker::spawn("entry", self.role, &environment)
            }
            Kind::Command(command) => {
                let mut arguments: Vec<&OsStr> = command[1..].iter().map(OsString::as_os_str).collect();
                arguments.extend([self.role, "--fabric", FABRIC, "--seed"].map(OsStr::new));
                arguments.extend([OsStr::new(&seed), OsStr::new("--history"), history.as_os_str()]);
                arguments.extend(["--burst", "30"].map(OsStr::new));
                Worker::program(Path::new(&command[0]), &arguments, &environment, &seed)
            }
        };
        (worker, history)
    }

    /// Kills a member, notes it in its history.
    fn kill(&mut self, index: usize) {
        let member = &mut self.members[index];
        let status = member.worker.kill();
        assert!(
            Worker::was_killed(status),
            "{} ended by itself with {status}: {}",
            member.name,
            member.worker.errors()
        );
        self.kills += 1;
        let dead_at = monotonic_ns();
        if let Some(client) = last_client(&member.history).expect("readable") {
            record_kill(&member.history, &client, dead_at).expect("noted");
        }
    }

    fn restart(&mut self, index: usize) {
        let (kind, name, incarnation) = {
            let member = &self.members[index];
            (member.kind.clone(), member.name.clone(), member.incarnation + 1)
        };
        let (worker, history) = self.start(&kind, &name, incarnation);
        self.members[index] = Member { kind, name, incarnation, worker, history, born: Instant::now() };
    }

    fn rage(&mut self, time: Duration) {
        self.rage_and_look(time, &|| true, &mut |_| {});
    }

    /// Rages until it is `enough`, however slow the machine is, but no longer than [`PATIENCE`]; now and then, while all workers are
    /// stopped, wherever they are, calls `look` with their number.
    fn rage_and_look(&mut self, time: Duration, enough: &dyn Fn() -> bool, look: &mut dyn FnMut(usize)) {
        let seed = std::env::var("MEMORA_STORM_SEED").unwrap_or_else(|_| format!("{}", monotonic_ns()));
        println!("{}: MEMORA_STORM_SEED={seed}", self.role);
        let mut random = Random::new(&seed);
        let end = Instant::now() + time;
        while Instant::now() < end
            || self.kills < KILLS_MIN
            || self.standstills < STANDSTILLS_MIN
            || !enough() && Instant::now() < end + PATIENCE
        {
            std::thread::sleep(Duration::from_millis(random.draw(60)));
            let index = random.draw(self.members.len() as u64) as usize;
            // A JVM needs time to come to its first operation.
            let youth = match self.members[index].kind {
                Kind::Rust { .. } => Duration::from_millis(30 + random.draw(100)),
                Kind::Command(_) => Duration::from_millis(random.draw(2500)),
            };
            match random.draw(10) {
                0..=4 if self.members[index].born.elapsed() >= youth => {
                    self.kill(index);
                    self.restart(index);
                }
                5..=7 => {
                    let member = &mut self.members[index];
                    assert!(
                        member.worker.stop(),
                        "{} ended by itself: {}",
                        member.name,
                        member.worker.errors()
                    );
                    std::thread::sleep(Duration::from_millis(random.draw(60)));
                    self.members[index].worker.resume();
                    self.stops += 1;
                }
                8..=9 => self.while_all_are_stopped(look),
                _ => {}
            }
        }
        self.everybody_makes_progress();
        for index in 0..self.members.len() {
            self.kill(index);
        }
    }

    fn while_all_are_stopped(&mut self, look: &mut dyn FnMut(usize)) {
        for member in &mut self.members {
            assert!(member.worker.stop(), "{} ended by itself: {}", member.name, member.worker.errors());
        }
        look(self.members.len());
        self.standstills += 1;
        for member in &mut self.members {
            member.worker.resume();
        }
    }

    /// After the last blow everybody who lives goes on working.
    fn everybody_makes_progress(&mut self) {
        let size = |path: &Path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        let before: Vec<u64> = self.members.iter().map(|member| size(&member.history)).collect();
        let end = Instant::now() + PATIENCE;
        for (member, before) in self.members.iter_mut().zip(before) {
            while size(&member.history) <= before + 2000 {
                assert!(
                    Instant::now() < end && member.worker.wait(Duration::ZERO).is_none(),
                    "{} makes no progress: {}",
                    member.name,
                    member.worker.errors()
                );
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    /// All are dead: reaped, they leave nothing behind.
    fn nothing_is_left(&self, fabric: &Fabric) {
        fabric.reap().expect("reaped");
        let report = fabric.check().expect("checked");
        assert!(report.problems.is_empty(), "{:#?}", report.problems);
    }

    fn keep(&self) -> PathBuf {
        let kept = std::env::temp_dir().join(format!("memora-storm-{}-{}", self.role, std::process::id()));
        std::fs::create_dir_all(&kept).expect("the temporary directory is writable");
        for history in self.histories.iter().filter(|history| history.exists()) {
            std::fs::copy(history, kept.join(history.file_name().expect("a file"))).expect("copied");
        }
        kept
    }

    fn operations(&mut self) -> Vec<memora_testkit::history::Operation> {
        self.histories.retain(|history| history.exists());
        let lines = read(&self.histories)
            .unwrap_or_else(|error| panic!("{error}, kept in {}", self.keep().display()));
        operations(&lines).unwrap_or_else(|error| panic!("{error}, kept in {}", self.keep().display()))
    }
}

fn length() -> Duration {
    Duration::from_secs(3) * torture() as u32
}

#[test]
fn a_cache_stays_linearizable_while_its_users_are_killed_and_stopped() {
    let mut storm = Storm::new("kv", None);
    storm.rage(length());
    let fabric = storm.fabric();
    storm.nothing_is_left(&fabric);
    // What is there at the end belongs to the history, too.
    let path = storm.home().join("last.jsonl");
    let cache = kept_cache(&fabric).expect("opened");
    let mut last = KvClient::open(cache, &path, "last", PLAIN).expect("opened");
    for key in (0..8).map(|number| format!("k{number}")).chain((0..4).map(|number| format!("n{number}"))) {
        let line = last.line("get", &key);
        assert!(last.perform(line).expect("read"));
    }
    storm.histories.push(path);
    let operations = storm.operations();
    let start = Instant::now();
    let verdict =
        linearizability::check(&operations, linearizability::Budget::default()).expect("can be judged");
    println!(
        "{} operations, {} kills, {} stops, judged in {:?}",
        operations.len(),
        storm.kills,
        storm.stops,
        start.elapsed()
    );
    assert!(operations.len() > 1000 && storm.kills >= KILLS_MIN, "this was no storm");
    if verdict != linearizability::Verdict::Linearizable {
        panic!("{verdict:?}\nhistories kept in {}", storm.keep().display());
    }
}

/// Caches that evict may lose an entry at any time, and nothing else: no wrong, torn or older value, no refused write, no
/// byte and no entry beyond the limit.
#[test]
fn caches_that_evict_show_nothing_wrong_while_their_users_are_killed_and_stopped() {
    // Their histories are long: rather more storms than longer ones.
    for _ in 0..torture() {
        storm_of_evicting_caches();
    }
}

fn storm_of_evicting_caches() {
    let mut storm = Storm::new("evict", None);
    let fabric = storm.fabric();
    let caches = Caches::open(&fabric).expect("opened");
    // It works while all others are stopped: what they hold must not be in its way.
    let path = storm.home().join("watcher.jsonl");
    let recorder = Recorder::open(&path, "watcher").expect("writable");
    let mut watcher = EvictClient::with(caches.clone(), recorder, "watcher");
    let evicted = || -> Vec<u64> {
        let counts = caches.each().iter().map(|cache| cache.stats().expect("readable").counts);
        counts.map(|counts| counts.evicted_small + counts.evicted_main).collect()
    };
    let enough = || evicted().iter().all(|&count| count > EVICTED_MIN);
    storm.rage_and_look(Duration::from_secs(3), &enough, &mut |workers| {
        // Each may be about to take a chunk.
        within_limits(&fabric, &caches, workers as u64);
        for _ in 0..300 {
            watcher.step().unwrap_or_else(|error| panic!("while all others are stopped: {error}"));
        }
        within_limits(&fabric, &caches, workers as u64);
    });
    storm.nothing_is_left(&fabric);
    within_limits(&fabric, &caches, 0);
    counts_are_exact(&caches);
    for _ in 0..3000 {
        watcher.step().unwrap_or_else(|error| panic!("when all others are dead: {error}"));
    }
    within_limits(&fabric, &caches, 0);
    storm.nothing_is_left(&fabric);
    storm.histories.push(path);
    let operations = storm.operations();
    println!(
        "{} operations, {} kills, {} stops, {} standstills, {:?} evicted",
        operations.len(),
        storm.kills,
        storm.stops,
        storm.standstills,
        evicted()
    );
    let verdict = linearizability::check_evicting(&operations, linearizability::Budget::default())
        .expect("can be judged");
    if verdict != linearizability::Verdict::Linearizable {
        panic!("{verdict:?}\nhistories kept in {}", storm.keep().display());
    }
    assert!(operations.len() > 10_000 && storm.kills >= KILLS_MIN && enough(), "this was no storm");
}

#[test]
fn a_channel_loses_and_repeats_nothing_while_its_users_are_killed_and_stopped() {
    judge_channel(Storm::new("queue", Some("keeper")));
}

/// Who publishes pays for a full fence where a kernel has no barrier for others; who does not may meet those who do.
#[test]
fn a_channel_of_sleepers_loses_and_repeats_nothing_with_either_fence_and_with_both() {
    for full_fences in [[false; 3], [true; 3], [false, true, false], [true, false, true]] {
        let mut storm = Storm::empty("sleepers");
        for (full_fences, subscription) in full_fences.into_iter().zip([None, None, Some("keeper")]) {
            storm.join(Kind::Rust { subscription, full_fences });
        }
        judge_channel(storm);
    }
}

fn judge_channel(mut storm: Storm) {
    storm.rage(length());
    let fabric = storm.fabric();
    // The last holder of the named subscription takes all that is left.
    let path = storm.home().join("last.jsonl");
    {
        let channel = fabric.channel(CHANNEL, &channel_options()).expect("opened");
        let mut last = QueueClient::open(&path, "last", CHANNEL).expect("opened");
        let mut subscriber = last.subscribe(&channel, Some("keeper")).expect("its holder is dead");
        while last.recv(&mut subscriber, None).expect("received") {}
    }
    storm.histories.push(path);
    storm.nothing_is_left(&fabric);
    let operations = storm.operations();
    match queue_history::check(&operations) {
        Ok(summary) => {
            println!("{summary:?}, {} kills, {} stops", storm.kills, storm.stops);
            assert!(
                summary.received > 100 && summary.lost == 0 && storm.kills >= KILLS_MIN,
                "this was no storm: {summary:?}"
            );
        }
        Err(error) => panic!("{error}\nhistories kept in {}", storm.keep().display()),
    }
}
