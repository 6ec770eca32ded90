//! One process computes a value and the others wait for it: also when that one is killed in the middle, or frozen.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::time::Duration;

use memora::{Cache, ErrorCode, Fabric, FabricOptions, Lease, SetOptions, Token};
use memora_testkit::kill_point::within_patience;
use memora_testkit::process::{Worker, role, tell};
use tempfile::TempDir;

const PLACE: &str = "MEMORA_TESTKIT_PLACE";
const LONG: Duration = Duration::from_secs(50);

fn open(home: &Path) -> (Fabric, Cache) {
    let fabric = FabricOptions::new().home(home).limit(4 << 20).open("computing").expect("a fabric");
    let cache = fabric.cache("pages").expect("a cache");
    (fabric, cache)
}

fn token(cache: &Cache, key: &[u8]) -> Token {
    match cache.lease(key, LONG).expect("the right to compute") {
        Lease::Compute(token) => token,
        Lease::Found(entry) => panic!("the key is there: {entry:?}"),
    }
}

/// Plays the children; a plain run has none.
#[test]
fn entry() {
    let Some(role) = role() else {
        assert!(std::env::var_os(PLACE).is_none());
        return;
    };
    let home = std::env::var_os(PLACE).expect("the parent says where");
    let (_fabric, cache) = open(Path::new(&home));
    let plain = SetOptions::default();
    match role.as_str() {
        // Takes the right and does nothing until it is told by a file, or killed, or frozen.
        "holder" => {
            let token = token(&cache, b"k");
            tell("computing");
            while !Path::new(&home).join("go").exists() {
                std::thread::sleep(Duration::from_millis(1));
            }
            let filled = cache.fill(token, b"of the holder", &plain).expect("answered");
            tell(&format!("filled {}", filled.is_some()));
        }
        "computer" => {
            for round in 0..200u64 {
                let compute = || {
                    cache.increment(b"computed", 1, Some(1))?;
                    Ok(round.to_string().into_bytes())
                };
                let value =
                    cache.get_or_compute(&round.to_le_bytes(), &plain, LONG, compute).expect("a value");
                assert_eq!(value, round.to_string().into_bytes());
            }
            tell("done");
        }
        other => panic!("unknown role {other}"),
    }
}

struct Stage {
    home: TempDir,
    place: OsString,
}

impl Stage {
    fn new() -> Stage {
        let home =
            tempfile::Builder::new().prefix("memora-test").tempdir_in("/dev/shm").expect("a temporary home");
        Stage { place: home.path().into(), home }
    }

    fn child(&self, role: &str) -> Worker {
        Worker::spawn("entry", role, &[(PLACE, OsStr::new(&self.place))])
    }

    fn let_go(&self) {
        std::fs::write(self.home.path().join("go"), b"").expect("a file");
    }
}

fn check(fabric: &Fabric) {
    let report = fabric.check().expect("checked");
    assert!(report.problems.is_empty(), "{:#?}", report.problems);
}

#[test]
fn of_several_processes_each_value_is_computed_by_one() {
    let stage = Stage::new();
    let (fabric, cache) = open(stage.home.path());
    let mut children: Vec<Worker> = (0..3).map(|_| stage.child("computer")).collect();
    for child in &mut children {
        child.expect_line("done");
        child.expect_success();
    }
    assert_eq!(cache.get(b"computed").expect("read"), Some(b"200".to_vec()));
    check(&fabric);
}

#[test]
fn who_waits_gets_the_value_of_another_process() {
    let stage = Stage::new();
    let (_fabric, cache) = open(stage.home.path());
    let mut holder = stage.child("holder");
    holder.expect_line("computing");
    let waiting = std::thread::spawn(move || {
        let value =
            cache.get_or_compute(b"k", &SetOptions::default(), LONG, || panic!("another one computes"));
        value.expect("the value of the holder")
    });
    stage.let_go();
    assert_eq!(within_patience("waiting", move || waiting.join().expect("no panic")), b"of the holder");
    assert_eq!(holder.expect_line("filled"), "true");
    holder.expect_success();
}

#[test]
fn when_the_computing_process_is_killed_one_who_waits_computes() {
    let stage = Stage::new();
    let (fabric, cache) = open(stage.home.path());
    let mut holder = stage.child("holder");
    holder.expect_line("computing");
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let cache = cache.clone();
            std::thread::spawn(move || {
                let compute = || {
                    cache.increment(b"computed", 1, Some(1))?;
                    Ok(b"of a successor".to_vec())
                };
                cache.get_or_compute(b"k", &SetOptions::default(), LONG, compute).expect("a value")
            })
        })
        .collect();
    assert!(Worker::was_killed(holder.kill()));
    for waiting in waiting {
        let value = within_patience("taking over", move || waiting.join().expect("no panic"));
        assert_eq!(value, b"of a successor");
    }
    assert_eq!(cache.get(b"computed").expect("read"), Some(b"1".to_vec()));
    fabric.reap().expect("reaped");
    check(&fabric);
}

#[test]
fn a_frozen_process_is_waited_for_as_long_as_asked_and_then_goes_on() {
    let stage = Stage::new();
    let (fabric, cache) = open(stage.home.path());
    let mut holder = stage.child("holder");
    holder.expect_line("computing");
    assert!(holder.stop());
    let asking = cache.clone();
    let refused = within_patience("asking", move || {
        asking.get_or_compute(b"k", &SetOptions::default(), Duration::from_millis(200), || {
            panic!("the holder lives")
        })
    });
    assert_eq!(refused.expect_err("nothing is there").code(), ErrorCode::TimedOut);
    stage.let_go();
    holder.resume();
    assert_eq!(holder.expect_line("filled"), "true");
    holder.expect_success();
    assert_eq!(cache.get(b"k").expect("read"), Some(b"of the holder".to_vec()));
    check(&fabric);
}

#[test]
fn a_frozen_process_does_not_overwrite_what_was_set_meanwhile() {
    let stage = Stage::new();
    let (fabric, cache) = open(stage.home.path());
    let mut holder = stage.child("holder");
    holder.expect_line("computing");
    assert!(holder.stop());
    // Who cannot wait sets the value: that ends the right of the frozen one.
    cache.set(b"k", b"newer").expect("stored");
    stage.let_go();
    holder.resume();
    assert_eq!(holder.expect_line("filled"), "false");
    holder.expect_success();
    assert_eq!(cache.get(b"k").expect("read"), Some(b"newer".to_vec()));
    check(&fabric);
}
