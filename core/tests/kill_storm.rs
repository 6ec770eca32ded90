//! A storm that counts its kills: children are forked, work on caches with all that a cache can do, and are killed after a random time, or
//! after a random amount of work, some of them while they are stopped. Now and then one is let live: it must come to its end, whatever the
//! dead left behind. Whoever does not is a hang.
//!
//! The storm is made of rounds, each on a new fabric, which is checked at its end, and whose histories are judged. `MEMORA_TORTURE=N`:
//! N times 100,000 kills. `MEMORA_STORM_KILLS`: so many; `MEMORA_STORM_SEED` repeats the order of the blows.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use memora::{Cache, FabricOptions};
use memora_stress::evict::Caches;
use memora_stress::kv::kept_cache;
use memora_stress::random::Random;
use memora_stress::{Bound, Options};
use memora_testkit::caches::within_limits;
use memora_testkit::fork::Child;
use memora_testkit::history::{last_client, monotonic_ns, operations, read, record_kill};
use memora_testkit::kill_point::torture;
use memora_testkit::linearizability::{self, Budget, Verdict};
use memora_testkit::process::{self, PATIENCE, Worker};
use nix::sys::signal::Signal;

const FABRIC: &str = "storm";
/// Kills of one round.
const ROUND: u64 = 1000;
/// Processes that fork children and kill them, at once.
const NURSERIES: u64 = 4;
/// One child of so many is let live.
const SURVIVORS: u64 = 25;

/// Plays a process that forks children; a plain run has none.
#[test]
fn entry() {
    let Some(role) = process::role() else {
        assert!(std::env::var_os("MEMORA_STORM_DIR").is_none());
        return;
    };
    assert_eq!(role, "nursery");
    let text = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
    let (dir, name) = (PathBuf::from(text("MEMORA_STORM_DIR")), text("MEMORA_STORM_NAME"));
    let kills: u64 = text("MEMORA_STORM_KILLS").parse().expect("a number");
    let mut random = Random::new(&name);
    let (mut killed, mut survived) = (0, 0);
    for number in 0.. {
        if killed == kills {
            break;
        }
        let work = if random.draw(4) == 0 { "kv" } else { "whole" };
        let seed = format!("{name}.{number}");
        let history = dir.join(format!("{work}-{seed}.jsonl"));
        let lives = number % SURVIVORS == SURVIVORS - 1;
        let options = Options {
            fabric: FABRIC.to_string(),
            seed,
            history: history.clone(),
            bound: if lives { Bound::Operations(150) } else { Bound::Killed },
            burst: None,
        };
        let mut child = Child::fork(|| {
            // Dies with this process, and is the child of one that has nothing of the library's.
            process::role();
            let done = match work {
                "kv" => memora_stress::kv::kv(&options),
                _ => memora_stress::whole::whole(&options),
            };
            done.unwrap_or_else(|failure| panic!("{work} {}: {failure}", options.seed));
        });
        if lives {
            match child.wait(PATIENCE) {
                Some(true) => survived += 1,
                Some(false) => panic!("a child ended badly"),
                None => panic!("hang: {} does not end\n{}", options.seed, process::threads(child.pid())),
            }
            continue;
        }
        live_a_little(&child, &history, &mut random);
        assert!(child.kill(), "{} ended by itself", options.seed);
        killed += 1;
        let dead_at = monotonic_ns();
        if let Some(client) = last_client(&history).expect("readable") {
            record_kill(&history, &client, dead_at).expect("noted");
        }
    }
    process::tell(&format!("killed {killed} {survived}"));
}

/// Lets a child live for a random time, or until it has done a random amount of work; stops it now and then.
fn live_a_little(child: &Child, history: &Path, random: &mut Random) {
    const MOST: Duration = Duration::from_millis(300);
    if random.draw(3) == 0 {
        std::thread::sleep(Duration::from_micros(random.draw(6_000)));
    } else {
        let (enough, start) = (random.draw(40_000), Instant::now());
        let done = || std::fs::metadata(history).map_or(0, |metadata| metadata.len());
        while done() <= enough && start.elapsed() < MOST {
            std::thread::sleep(Duration::from_micros(100));
        }
    }
    if random.draw(16) == 0 {
        child.signal(Signal::SIGSTOP);
        std::thread::sleep(Duration::from_micros(random.draw(20_000)));
        if random.draw(2) == 0 {
            child.signal(Signal::SIGCONT);
            std::thread::sleep(Duration::from_micros(random.draw(2_000)));
        }
    }
}

/// What all rounds came to.
#[derive(Debug, Default)]
struct Sum {
    rounds: u64,
    kills: u64,
    survivors: u64,
    operations: u64,
    /// Operations in the midst of which somebody was killed.
    cut: u64,
    evicted: u64,
    /// Chunks that indexes grew by.
    splits: u64,
}

#[test]
fn a_cache_outlives_its_users_however_many_are_killed() {
    let usual = if torture() > 1 { 10_000 * torture() } else { 500 };
    let kills = std::env::var("MEMORA_STORM_KILLS")
        .map_or(usual, |text| text.parse().expect("MEMORA_STORM_KILLS is a number"));
    let seed = std::env::var("MEMORA_STORM_SEED").unwrap_or_else(|_| monotonic_ns().to_string());
    println!("MEMORA_STORM_SEED={seed}");
    let (mut sum, start) = (Sum::default(), Instant::now());
    while sum.kills < kills {
        round(&seed, (kills - sum.kills).min(ROUND), &mut sum);
        println!("{:?} after {:?}", sum, start.elapsed());
    }
    assert_eq!(sum.kills, kills);
    println!("{kills} kills, 0 hangs, all histories in order");
    assert!(
        sum.operations > 5 * kills && sum.cut > kills / 20 && sum.evicted > kills && sum.splits > 0,
        "this was no storm: {sum:?}"
    );
}

/// Entries of a cache, every one of which can be read.
fn readable(cache: &Cache) -> u64 {
    cache.iter().map(|entry| u64::from(!entry.expect("readable").0.is_empty())).sum()
}

fn round(seed: &str, kills: u64, sum: &mut Sum) {
    let dir = tempfile::Builder::new()
        .prefix("memora-storm-")
        .tempdir_in("/dev/shm")
        .expect("/dev/shm is writable");
    // Small fabrics, which fill soon, and larger ones with larger chunks.
    let limit = [4 << 20, 5 << 20, 8 << 20, 16 << 20][sum.rounds as usize % 4];
    let fabric = FabricOptions::new()
        .home(dir.path().to_path_buf())
        .limit(limit)
        .open(FABRIC)
        .unwrap_or_else(|error| panic!("the fabric does not open: {error}"));
    kept_cache(&fabric).expect("made");
    let caches = Caches::open(&fabric).expect("made");
    let index_chunks =
        || -> u64 { caches.each().iter().map(|cache| cache.stats().expect("readable").index_chunks).sum() };
    let index_at_first = index_chunks();
    let mut nurseries: Vec<Worker> = (0..NURSERIES)
        .map(|number| {
            let name = format!("{seed}-{}-{number}", sum.rounds);
            let kills = (kills / NURSERIES + u64::from(number < kills % NURSERIES)).to_string();
            let environment = [
                ("MEMORA_HOME", dir.path().as_os_str()),
                ("MEMORA_STORM_DIR", dir.path().as_os_str()),
                ("MEMORA_STORM_NAME", OsStr::new(&name)),
                ("MEMORA_STORM_KILLS", OsStr::new(&kills)),
            ];
            Worker::spawn("entry", "nursery", &environment)
        })
        .collect();
    // A round is no single thing that one waits for.
    let end = Instant::now() + PATIENCE * 10;
    for nursery in &mut nurseries {
        let said = nursery.next_line("killed ", end.saturating_duration_since(Instant::now()));
        let Some(said) = said else { panic!("{}\nkept in {}", nursery.errors(), keep(&dir)) };
        let counts: Vec<u64> = said.split(' ').map(|text| text.parse().expect("a number")).collect();
        sum.kills += counts[0];
        sum.survivors += counts[1];
        nursery.expect_success();
    }
    sum.evicted +=
        caches.each().iter().map(|cache| cache.stats().expect("readable").counts.evictions()).sum::<u64>();
    sum.splits += index_chunks() - index_at_first;
    // All are dead: reaped, they leave nothing behind.
    fabric.reap().expect("reaped");
    let report = fabric.check().expect("checked");
    assert!(report.problems.is_empty(), "{:#?}\nkept in {}", report.problems, keep(&dir));
    within_limits(&fabric, &caches, 0);
    // What has expired is still counted, and not found.
    for cache in caches.each() {
        assert!(readable(cache) <= cache.len().expect("counted"));
    }
    let kept = kept_cache(&fabric).expect("opened");
    assert_eq!(readable(&kept), kept.len().expect("counted"));
    for work in ["kv", "whole"] {
        judge(&dir, work, sum);
    }
    sum.rounds += 1;
}

fn judge(dir: &tempfile::TempDir, work: &str, sum: &mut Sum) {
    let histories: Vec<PathBuf> = std::fs::read_dir(dir.path())
        .expect("readable")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&format!("{work}-")))
        })
        .collect();
    let lines = read(&histories).unwrap_or_else(|error| panic!("{error}, kept in {}", keep(dir)));
    let operations = operations(&lines).unwrap_or_else(|error| panic!("{error}, kept in {}", keep(dir)));
    sum.operations += operations.len() as u64;
    sum.cut += operations.iter().filter(|operation| !operation.answered).count() as u64;
    let check = if work == "kv" { linearizability::check } else { linearizability::check_evicting };
    let verdict = check(&operations, Budget::default()).expect("can be judged");
    if verdict != Verdict::Linearizable {
        panic!("{verdict:?}\nkept in {}", keep(dir));
    }
}

/// Copies all that a round left to where it stays.
fn keep(dir: &tempfile::TempDir) -> String {
    let kept = std::env::temp_dir().join(format!("memora-kill-storm-{}", std::process::id()));
    std::fs::create_dir_all(&kept).expect("the temporary directory is writable");
    for entry in std::fs::read_dir(dir.path()).expect("readable").flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_file()) {
            std::fs::copy(entry.path(), kept.join(entry.file_name())).expect("copied");
        }
    }
    kept.display().to_string()
}
