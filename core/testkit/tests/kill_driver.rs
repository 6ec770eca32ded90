//! The kill driver itself, on the point that belongs to it.

use std::ffi::OsStr;

use memora::shm::kill_point::{index_of, reached};
use memora_testkit::kill_point::{Harm, Victim, profile, tell_hits};
use memora_testkit::process;

const POINT: &str = "test.self";
const TIMES: &str = "MEMORA_TESTKIT_TIMES";

/// Plays the victim; a plain run has none.
#[test]
fn entry() {
    let Some(role) = process::role() else {
        assert!(std::env::var_os(TIMES).is_none());
        return;
    };
    assert_eq!(role, "victim");
    let times: u64 = std::env::var(TIMES).expect("set by the parent").parse().expect("a number");
    for _ in 0..times {
        reached(index_of(POINT));
    }
    tell_hits();
}

#[test]
fn a_run_without_harm_counts_the_points() {
    let hits = profile("entry", "victim", &[(TIMES, OsStr::new("5"))]);
    assert_eq!(hits.into_iter().collect::<Vec<_>>(), [(POINT.to_string(), 5)]);
}

#[test]
fn a_victim_is_killed_or_frozen_at_the_occurrence_that_is_armed() {
    let environment = [(TIMES, OsStr::new("5"))];
    for harm in Harm::ALL {
        for nth in [1, 5] {
            let victim = Victim::harm("entry", "victim", &environment, (POINT, nth, harm));
            victim.unwrap_or_else(|| panic!("{harm:?} at {nth} is not reached")).finish();
        }
        assert!(Victim::harm("entry", "victim", &environment, (POINT, 6, harm)).is_none());
    }
}
