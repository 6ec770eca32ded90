//! The harness itself: children speak, are killed, stop and go on, and die with their handle.

use std::ffi::OsStr;
use std::time::Duration;

use memora_testkit::process::{self, PATIENCE, Standing, Worker, tell};

/// Plays the children of the tests below; a plain run has none.
#[test]
fn entry() {
    let Some(role) = process::role() else {
        assert!(std::env::var("MEMORA_TESTKIT_GREETING").is_err());
        return;
    };
    match role.as_str() {
        "greeter" => tell(&format!("hello {}", std::env::var("MEMORA_TESTKIT_GREETING").unwrap())),
        "counter" => {
            for number in 0.. {
                tell(&format!("count {number}"));
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        "failing" => panic!("as asked"),
        other => panic!("unknown role {other}"),
    }
}

#[test]
fn a_child_tells_lines_and_ends() {
    let mut worker = Worker::spawn("entry", "greeter", &[("MEMORA_TESTKIT_GREETING", OsStr::new("parent"))]);
    assert_eq!(worker.expect_line("hello"), "parent");
    worker.expect_success();
    assert_eq!(worker.next_line("hello", PATIENCE), None);
}

#[test]
fn a_child_stops_goes_on_and_is_killed() {
    let mut worker = Worker::spawn("entry", "counter", &[]);
    worker.expect_line("count");
    assert!(worker.stop());
    assert_eq!(worker.wait(Duration::from_millis(20)), None);
    worker.resume();
    assert_eq!(worker.wait_stopped(Duration::from_millis(20)), Standing::Running);
    assert!(Worker::was_killed(worker.kill()));
    assert_eq!(worker.wait_stopped(PATIENCE), Standing::Ended);
}

#[test]
fn a_dropped_worker_is_gone() {
    let worker = Worker::spawn("entry", "counter", &[]);
    let pid = worker.pid();
    drop(worker);
    let waited = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid as i32), None);
    assert_eq!(waited, Err(nix::errno::Errno::ECHILD));
}

#[test]
fn the_reason_of_a_failing_child_is_known() {
    let mut worker = Worker::spawn("entry", "failing", &[]);
    let status = worker.wait(PATIENCE).expect("it ends");
    assert!(!status.success());
    // Its pipes close a moment after it ended.
    for _ in 0..1000 {
        if worker.errors().contains("as asked") {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(worker.errors().contains("as asked"), "{}", worker.errors());
}
