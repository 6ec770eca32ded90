//! The kill and freeze driver: a victim runs a scenario in a child process until it reaches a named point; there it is killed or
//! frozen; survivors must go on; a frozen one then goes on too.
//!
//! Which points a scenario reaches, and how often, is found by running it once without harm ([`profile`]). So a new kill point
//! is covered as soon as any scenario comes by, and a name that none reaches is noticed.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::time::Duration;

use crate::process::{PATIENCE, Standing, Worker, tell};

/// What happens to the victim at the point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// SIGKILL.
    Kill,
    /// SIGSTOP, and SIGCONT after the survivors are done.
    Freeze,
}

impl Harm {
    /// Both, in turn.
    pub const ALL: [Harm; 2] = [Harm::Kill, Harm::Freeze];

    /// The value of `MEMORA_KILL_POINT` that does this at the `nth` time.
    pub fn arm(self, name: &str, nth: u64) -> OsString {
        let action = match self {
            Harm::Kill => "kill",
            Harm::Freeze => "stop",
        };
        format!("{name}:{nth}:{action}").into()
    }
}

/// Called by a victim at its end: tells the parent how often each point was reached.
pub fn tell_hits() {
    for (name, count) in memora::shm::kill_point::hits() {
        if count > 0 {
            tell(&format!("hit {name} {count}"));
        }
    }
    tell("end");
}

/// Runs a victim to its end and collects what it reached.
#[track_caller]
pub fn profile(entry: &str, role: &str, environment: &[(&str, &OsStr)]) -> BTreeMap<String, u64> {
    let mut victim = Worker::spawn(entry, role, environment);
    let mut hits = BTreeMap::new();
    loop {
        let line = victim.expect_line("");
        if line == "end" {
            break;
        }
        if let Some((name, count)) = line.strip_prefix("hit ").and_then(|rest| rest.split_once(' ')) {
            hits.insert(name.to_string(), count.parse().expect("a count"));
        }
    }
    victim.expect_success();
    hits
}

/// The occurrences of a point to try, out of `count`: the first and some spread over the rest.
pub fn occurrences(count: u64, tries: u64) -> Vec<u64> {
    let mut chosen: Vec<u64> = (0..tries).map(|step| 1 + step * (count - 1) / tries.max(1)).collect();
    if tries > 2 {
        chosen.push(count);
    }
    chosen.dedup();
    chosen
}

/// A victim that reached its point.
pub struct Victim {
    worker: Worker,
    harm: Harm,
}

impl Victim {
    /// Starts the victim and waits until the harm is done. `None` if it came to its end without reaching the point that often.
    #[track_caller]
    pub fn harm(
        entry: &str,
        role: &str,
        environment: &[(&str, &OsStr)],
        (name, nth, harm): (&str, u64, Harm),
    ) -> Option<Victim> {
        let armed = harm.arm(name, nth);
        let mut environment = environment.to_vec();
        environment.push(("MEMORA_KILL_POINT", &armed));
        let mut worker = Worker::spawn(entry, role, &environment);
        match worker.wait_stopped(PATIENCE) {
            Standing::Stopped => {
                assert_eq!(harm, Harm::Freeze, "{name}:{nth} stopped instead of being killed");
                Some(Victim { worker, harm })
            }
            Standing::Ended => {
                let status = worker.wait(Duration::ZERO).expect("it ended");
                if status.success() {
                    return None;
                }
                assert!(
                    harm == Harm::Kill && Worker::was_killed(status),
                    "the victim of {name}:{nth} ended with {status}: {}",
                    worker.errors()
                );
                Some(Victim { worker, harm })
            }
            Standing::Running => panic!("the victim of {name}:{nth} hangs: {}", worker.errors()),
        }
    }

    /// The victim's process, to hear what it told.
    pub fn worker(&mut self) -> &mut Worker {
        &mut self.worker
    }

    /// Lets a frozen victim finish, which it must do well; a killed one is already gone.
    #[track_caller]
    pub fn finish(mut self) {
        if self.harm == Harm::Freeze {
            self.worker.resume();
            self.worker.expect_success();
        }
    }
}

/// Runs `work` in a thread of its own and fails if it does not come back: survivors wait for nobody.
#[track_caller]
pub fn within_patience<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let result = work();
        // The receiver is gone only if it lost its patience, which fails the test there.
        let _ = sender.send(result);
    });
    match receiver.recv_timeout(PATIENCE) {
        Ok(result) => {
            thread.join().expect("it sent its result");
            result
        }
        Err(std::sync::mpsc::RecvTimeoutError::Timeout) => panic!("{what}: no progress in {PATIENCE:?}"),
        Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => match thread.join() {
            Err(reason) => std::panic::resume_unwind(reason),
            Ok(()) => unreachable!("the result was sent before the thread ended"),
        },
    }
}

/// How much longer than usual the long form is: `MEMORA_TORTURE=N`.
pub fn torture() -> u64 {
    match std::env::var("MEMORA_TORTURE") {
        Ok(text) => text.parse::<u64>().unwrap_or(1).max(1) * 10,
        Err(_) => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn occurrences_are_spread_from_the_first_to_the_last() {
        assert_eq!(occurrences(1, 2), [1]);
        assert_eq!(occurrences(2, 2), [1]);
        assert_eq!(occurrences(100, 2), [1, 50]);
        assert_eq!(occurrences(100, 4), [1, 25, 50, 75, 100]);
    }

    #[test]
    fn a_panic_of_the_work_is_passed_on() {
        assert_eq!(within_patience("adding", || 1 + 1), 2);
        let caught = std::panic::catch_unwind(|| within_patience("failing", || panic!("as asked")));
        assert_eq!(caught.unwrap_err().downcast_ref::<&str>(), Some(&"as asked"));
    }
}
