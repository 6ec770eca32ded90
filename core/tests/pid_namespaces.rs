//! Two processes with equal PIDs in PID namespaces of their own, as in two containers over one mount: the death of one is proved
//! and taken over by the other, which nobody takes for dead.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use memora::{Fabric, FabricOptions};
use memora_testkit::process::{PATIENCE, Worker, role, tell};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const ENTRY: &str = "plays_its_role";

fn open(home: &Path) -> Fabric {
    FabricOptions::new().home(home).limit(4 << 20).open("one").expect("open")
}

#[test]
fn plays_its_role() {
    let Some(role) = role() else { return };
    let home = PathBuf::from(std::env::var_os("NAMESPACE_HOME").expect("the parent gives it"));
    let fabric = open(&home);
    let cache = fabric.cache("c").expect("cache");
    cache.set(role.as_bytes(), b"alive").expect("set");
    tell(&format!("attached {}", std::process::id()));
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        cache.set(role.as_bytes(), b"still alive").expect("set");
        if role == "survivor" && fabric.reap().expect("reap").processes == 1 {
            tell("reaped");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Starts this test binary as process 1 of a PID namespace of its own.
fn container(role: &str, home: &Path) -> Worker {
    let program = std::env::current_exe().expect("a test binary knows its path");
    let arguments = ["--pid", "--fork", "--kill-child"].map(OsStr::new);
    let rest = ["--exact", ENTRY, "--nocapture", "--test-threads=1"].map(OsStr::new);
    let arguments: Vec<&OsStr> = arguments.into_iter().chain([program.as_os_str()]).chain(rest).collect();
    let environment = [("MEMORA_TESTKIT_ROLE", OsStr::new(role)), ("NAMESPACE_HOME", home.as_os_str())];
    Worker::program(Path::new("unshare"), &arguments, &environment, role)
}

/// The process inside, as this namespace numbers it.
fn inside(worker: &Worker) -> Pid {
    let pid = worker.pid();
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("children");
    Pid::from_raw(children.split_whitespace().next().expect("a child").parse().expect("a pid"))
}

#[test]
fn equal_pids_in_two_namespaces_are_told_apart() {
    let allowed = std::process::Command::new("unshare").args(["--pid", "--fork", "true"]).status();
    if !allowed.is_ok_and(|status| status.success()) {
        eprintln!("skipped: needs root and `unshare`, to make PID namespaces");
        return;
    }
    let home = tempfile::tempdir_in("/dev/shm").expect("/dev/shm is there");
    let watcher = open(home.path());
    let mut victim = container("victim", home.path());
    let mut survivor = container("survivor", home.path());
    assert_eq!((victim.expect_line("attached"), survivor.expect_line("attached")), ("1".into(), "1".into()));
    let before = watcher.stat().expect("stat").processes;
    assert_eq!(before.iter().filter(|process| process.pid == 1).count(), 2, "{before:?}");
    assert!(before.iter().all(|process| !process.dead), "{before:?}");

    kill(inside(&victim), Signal::SIGKILL).expect("kill");
    survivor.expect_line("reaped");
    assert!(victim.wait(PATIENCE).is_some_and(|status| !status.success()));

    let after = watcher.stat().expect("stat").processes;
    assert_eq!(after.iter().filter(|process| process.pid == 1).count(), 1, "{after:?}");
    assert!(after.iter().all(|process| !process.dead), "{after:?}");
    // The survivor goes on: it writes again after its entry was looked at.
    let cache = watcher.cache("c").expect("cache");
    assert!(cache.delete(b"survivor").expect("delete"));
    let end = Instant::now() + PATIENCE;
    while cache.get(b"survivor").expect("get").is_none() {
        assert!(Instant::now() < end, "the survivor writes no more");
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(cache.get(b"victim").expect("get").is_some(), "what the dead one stored stays");
    kill(inside(&survivor), Signal::SIGKILL).expect("kill");
    assert!(survivor.wait(PATIENCE).is_some());
    watcher.reap().expect("reap");
    assert_eq!(watcher.stat().expect("stat").processes.len(), 1);
    assert_eq!(watcher.check().expect("check").problems, []);
}
