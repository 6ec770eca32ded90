//! Every named kill point, killed and frozen in a real process: the survivors go on at once, what was acknowledged is there, and the
//! fabric passes its own check; a frozen victim then goes on as if nothing had happened.
//!
//! Sixteen scenarios reach the points: `cache`, `evict`, `store`, `store files` (backup, restore, repair), `ordered`, `transactions`, `snapshots`, `channel`, `parcel`, `queue`, `log`, `log files`, `signal`, `service`, `fabric` (creation, attaching, objects) and `heir` (taking over from the dead
//! and from the stopped). A scenario is a random mix of everything that its objects can do, so a new kill point is covered when it is named.
//!
//! `MEMORA_KILL_ONLY=text` narrows a run to the points whose names contain the text, and tries more of their occurrences.

mod cache;
mod channel;
mod evict;
mod fabric;
mod heir;
mod log;
mod log_files;
mod ordered;
mod parcel;
mod queue;
mod service;
mod signal;
mod snapshots;
mod store;
mod store_files;
mod transactions;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use memora::{Fabric, FabricOptions};
use memora_testkit::history::{operations, read};
use memora_testkit::kill_point::{Harm, Victim, occurrences, profile, tell_hits, torture};
use memora_testkit::linearizability::{Budget, Verdict};
use memora_testkit::process;

const ENTRY: &str = "entry";
const PLACE: &str = "MEMORA_TESTKIT_PLACE";
const FABRIC: &str = "victim";
const FABRIC_LIMIT: u64 = 4 << 20;
/// Runs in one of which every point is reached: a few depend on who is scheduled.
const RUNS: usize = 5;

/// Plays the victims; a plain run has none.
#[test]
fn entry() {
    let Some(role) = process::role() else {
        assert!(std::env::var_os(PLACE).is_none());
        return;
    };
    let place = Place { root: PathBuf::from(std::env::var_os(PLACE).expect("the parent gives a place")) };
    match role.as_str() {
        "cache" => cache::victim(&place),
        "store" => store::victim(&place),
        "store files" => store_files::victim(&place),
        "channel" => channel::victim(&place),
        "parcel" => parcel::victim(&place),
        "sender" => parcel::sender(&place),
        "worker" => parcel::worker(&place),
        "queue" => queue::victim(&place),
        "log" => log::victim(&place),
        "log appender" => log::appender(&place),
        "log files" => log_files::victim(&place),
        "taker" => queue::taker(&place),
        "signal" => signal::victim(&place),
        "mover" => signal::mover(&place),
        "service" => service::victim(&place),
        "call taker" => service::taker(&place),
        "answerer" => service::answerer(&place),
        "fabric" => fabric::victim(&place),
        "evict" => evict::victim(&place),
        "heir" => heir::victim(&place),
        "ordered" => ordered::victim(&place),
        "transactions" => transactions::victim(&place),
        "halfway" => transactions::halfway(&place),
        "snapshots" => snapshots::victim(&place),
        "moving" => snapshots::moving(&place),
        "keeping" => snapshots::keeping(&place),
        "inserter" => heir::insert(&place, "inserter"),
        "corpse" => fabric::corpse(&place),
        other => panic!("unknown role {other}"),
    }
    tell_hits();
}

/// Where one run keeps its fabrics, files and histories.
struct Place {
    root: PathBuf,
}

impl Place {
    fn home(&self) -> PathBuf {
        self.root.join("home")
    }

    fn history(&self, who: &str) -> PathBuf {
        self.root.join(format!("{who}.jsonl"))
    }

    fn store_dir(&self) -> PathBuf {
        self.root.join("store")
    }

    fn fabric(&self) -> Fabric {
        self.open(FABRIC, FABRIC_LIMIT)
    }

    /// The fabric of the channels, so that a cache that fills its own takes no room from them.
    fn channels(&self) -> Fabric {
        self.open("channels", FABRIC_LIMIT)
    }

    /// The fabric of the signals, for the same reason.
    fn signals(&self) -> Fabric {
        self.open("signals", FABRIC_LIMIT)
    }

    /// A small one, to be filled.
    fn tight(&self) -> Fabric {
        self.open("tight", 1 << 20)
    }

    fn open(&self, name: &str, limit: u64) -> Fabric {
        FabricOptions::new()
            .home(self.home())
            .limit(limit)
            .open(name)
            .unwrap_or_else(|error| panic!("the fabric does not open: {error}"))
    }

    fn histories(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(&self.root).expect("the place exists");
        let paths = entries.map(|entry| entry.expect("readable").path());
        paths.filter(|path| path.extension() == Some(OsStr::new("jsonl"))).collect()
    }
}

/// One kind of victim with its survivors.
struct Scenario {
    role: &'static str,
    /// The points that it is for.
    covers: fn(&str) -> bool,
    /// At how many occurrences of each it tries, in the short form.
    tries: u64,
    /// Before the victim starts. Those who are frozen meanwhile go on before the end.
    prepare: fn(&Place) -> Vec<Victim>,
    /// While the victim is dead or frozen.
    survive: fn(&Place, Blow),
    /// After it is gone.
    conclude: fn(&Place),
}

/// What happened to the victim, and where.
#[derive(Clone, Copy, Debug)]
struct Blow {
    harm: Harm,
    name: &'static str,
}

impl Blow {
    /// A living process that takes a store's directory over keeps others out of it, which they are told.
    fn keeps_out(self) -> bool {
        self.harm == Harm::Freeze && self.name.starts_with("store.identity.")
    }
}

const SCENARIOS: [Scenario; 16] = [
    cache::SCENARIO,
    evict::SCENARIO,
    channel::SCENARIO,
    queue::SCENARIO,
    signal::SCENARIO,
    service::SCENARIO,
    log::SCENARIO,
    log_files::SCENARIO,
    store::SCENARIO,
    store_files::SCENARIO,
    fabric::SCENARIO,
    heir::SCENARIO,
    ordered::SCENARIO,
    transactions::SCENARIO,
    parcel::SCENARIO,
    snapshots::SCENARIO,
];

/// Points of the harness itself, which no operation reaches.
fn is_own(name: &str) -> bool {
    name.starts_with("test.")
}

fn in_place<T>(run: impl FnOnce(&Place) -> T) -> T {
    let dir =
        tempfile::Builder::new().prefix("memora-kill-").tempdir_in("/dev/shm").expect("/dev/shm is writable");
    let place = Place { root: dir.path().to_path_buf() };
    let _swept = fabric::Keyed(place.home());
    run(&place)
}

fn environment(place: &Place) -> Vec<(&'static str, OsString)> {
    vec![(PLACE, place.root.clone().into())]
}

fn borrowed<'a>(environment: &'a [(&'static str, OsString)]) -> Vec<(&'static str, &'a OsStr)> {
    environment.iter().map(|(key, value)| (*key, value.as_os_str())).collect()
}

fn reached_by(scenario: &Scenario) -> BTreeMap<String, u64> {
    in_place(|place| {
        let others = (scenario.prepare)(place);
        let mut hits = profile(ENTRY, scenario.role, &borrowed(&environment(place)));
        others.into_iter().for_each(Victim::finish);
        (scenario.conclude)(place);
        hits.retain(|name, _| (scenario.covers)(name) && !is_own(name));
        hits
    })
}

/// Kills and freezes a victim at some occurrences of each point that its scenario reaches.
fn run_all(scenario: &Scenario) {
    let only = std::env::var("MEMORA_KILL_ONLY").ok();
    let tries = if only.is_some() { 20 } else { scenario.tries * torture() };
    let mut hits = reached_by(scenario);
    hits.retain(|name, _| only.as_ref().is_none_or(|only| name.contains(only)));
    let mut done = 0;
    for (name, count) in &hits {
        let name =
            memora::shm::kill_point::NAMES.iter().find(|known| *known == name).expect("it was reached");
        for nth in occurrences(*count, tries) {
            for harm in Harm::ALL {
                let blow = Blow { harm, name };
                // Being kept out takes seconds, and is the same each time.
                if blow.keeps_out() && nth > 1 {
                    continue;
                }
                // The number of occurrences differs from run to run; the first one comes, at the latest after some runs, for who
                // sleeps or helps depends on who is scheduled.
                let reached = run_one(scenario, blow, nth) || (0..RUNS).any(|_| run_one(scenario, blow, 1));
                assert!(reached, "{}: {name} is not reached any more", scenario.role);
                done += 1;
            }
        }
    }
    println!("{}: {} points, {done} victims", scenario.role, hits.len());
    assert!(done >= hits.len(), "only {done} victims for {} points", hits.len());
}

fn run_one(scenario: &Scenario, blow: Blow, nth: u64) -> bool {
    println!("{}: {:?} at {}:{nth}", scenario.role, blow.harm, blow.name);
    in_place(|place| {
        let others = (scenario.prepare)(place);
        let point = (blow.name, nth, blow.harm);
        let Some(victim) = Victim::harm(ENTRY, scenario.role, &borrowed(&environment(place)), point) else {
            return false;
        };
        (scenario.survive)(place, blow);
        victim.finish();
        others.into_iter().for_each(Victim::finish);
        (scenario.conclude)(place);
        true
    })
}

/// Reaps what died and lets the fabric check itself.
#[track_caller]
fn check(fabric: &Fabric, when: &str) {
    fabric.reap().unwrap_or_else(|error| panic!("{when}: reaping fails: {error}"));
    let report = fabric.check().unwrap_or_else(|error| panic!("{when}: the check fails: {error}"));
    assert!(report.problems.is_empty(), "{when}: {:#?}", report.problems);
}

/// Whether the fabric of a run lives as long as the run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Versions {
    /// It does, so versions are unique.
    Unique,
    /// A store was recovered into a new fabric, which gave every entry a new version: they say nothing about each other.
    Renewed,
}

/// Judges the key-value histories of one run.
#[track_caller]
fn judge_kv(place: &Place, versions: Versions) {
    let mut lines = read(&place.histories()).expect("readable");
    lines.retain(|line| line.k.is_some());
    for line in lines.iter_mut().filter(|line| line.op == "gets" && versions == Versions::Renewed) {
        (line.op, line.tok) = ("get".to_string(), None);
    }
    let operations = operations(&lines).expect("well formed");
    let verdict =
        memora_testkit::linearizability::check(&operations, Budget::default()).expect("can be judged");
    if verdict != Verdict::Linearizable {
        panic!("{verdict:?}\nhistories kept in {}", keep(place).display());
    }
}

/// Copies the evidence to where it outlives the test.
fn keep(place: &Place) -> PathBuf {
    let kept = std::env::temp_dir().join(format!("memora-evidence-{}", std::process::id()));
    copy_tree(&place.root, &kept);
    kept
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("the temporary directory is writable");
    for entry in std::fs::read_dir(from).expect("readable") {
        let entry = entry.expect("readable");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copied");
        }
    }
}

#[test]
fn every_named_point_is_reached_by_some_scenario() {
    let mut missing: Vec<&str> =
        memora::shm::kill_point::NAMES.iter().copied().filter(|name| !is_own(name)).collect();
    for _ in 0..RUNS {
        for scenario in &SCENARIOS {
            if !missing.iter().any(|name| (scenario.covers)(name)) {
                continue;
            }
            let reached = reached_by(scenario);
            missing.retain(|name| !reached.contains_key(*name));
        }
    }
    assert!(missing.is_empty(), "no scenario reaches {missing:#?}");
}

#[test]
fn survivors_of_a_cache_go_on_and_nothing_acknowledged_is_lost() {
    run_all(&cache::SCENARIO);
}

#[test]
fn survivors_of_caches_that_evict_find_room_and_right_values() {
    run_all(&evict::SCENARIO);
}

#[test]
fn tools_for_the_files_of_stores_leave_what_can_be_done_again() {
    run_all(&store_files::SCENARIO);
}

#[test]
fn survivors_of_a_channel_go_on_and_nothing_acknowledged_is_lost() {
    run_all(&channel::SCENARIO);
}

#[test]
fn survivors_of_long_messages_read_each_whole_or_not_at_all_and_no_chunk_is_lost() {
    run_all(&parcel::SCENARIO);
}

#[test]
fn survivors_of_a_queue_go_on_and_each_message_is_taken_or_marked() {
    run_all(&queue::SCENARIO);
}

#[test]
fn survivors_of_a_log_with_files_go_on_and_nothing_durable_is_lost() {
    run_all(&log_files::SCENARIO);
}

#[test]
fn survivors_of_signals_have_what_the_dead_held_and_not_what_the_stopped_hold() {
    run_all(&signal::SCENARIO);
}

#[test]
fn survivors_of_a_service_go_on_and_each_call_ends_once() {
    run_all(&service::SCENARIO);
}

#[test]
fn survivors_of_a_log_go_on_in_the_one_order_of_all() {
    run_all(&log::SCENARIO);
}

#[test]
fn survivors_of_a_store_go_on_and_nothing_acknowledged_is_lost() {
    run_all(&store::SCENARIO);
}

#[test]
fn survivors_of_keys_in_order_find_each_that_was_acknowledged() {
    run_all(&ordered::SCENARIO);
}

#[test]
fn survivors_of_transactions_go_on_and_money_is_neither_made_nor_lost() {
    run_all(&transactions::SCENARIO);
}

#[test]
fn survivors_of_snapshots_go_on_and_each_snapshot_is_one_moment() {
    run_all(&snapshots::SCENARIO);
}

#[test]
fn survivors_take_over_from_one_who_took_over() {
    run_all(&heir::SCENARIO);
}

#[test]
fn survivors_open_what_a_dead_or_frozen_creator_left() {
    run_all(&fabric::SCENARIO);
}
