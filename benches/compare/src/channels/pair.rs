//! The two processes of a contestant's program, each bound to a core of its own.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use super::worker::{FOLDER, SIDE};
use crate::process::Process;

/// The longest that a sample may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Two processes of one program, which do the tasks of the contestants in it. They end with this.
pub struct Pair {
    first: Process,
    second: Process,
}

/// What two processes answered: the first, then the second.
pub type Answers = (String, String);

/// The cores that this process may use; the second is the first again where there is one only.
fn cores() -> Option<(CpuSet, [CpuSet; 2])> {
    let allowed = sched_getaffinity(Pid::from_raw(0)).ok()?;
    let all: Vec<usize> =
        (0..CpuSet::count()).filter(|core| allowed.is_set(*core).unwrap_or(false)).collect();
    let one = |core: usize| {
        let mut set = CpuSet::new();
        set.set(core).ok().map(|()| set)
    };
    Some((allowed, [one(*all.first()?)?, one(*all.get(1).or(all.first())?)?]))
}

impl Pair {
    /// Starts the two. None if the program cannot be started.
    pub fn new(program: &[OsString], folder: &Path) -> Option<Pair> {
        let cores = cores();
        let bind = |set: &CpuSet| _ = sched_setaffinity(Pid::from_raw(0), set);
        // A child inherits the core; where the system refuses, the figures are merely noisier.
        let start = |side: usize| {
            if let Some((_, cores)) = &cores {
                bind(&cores[side]);
            }
            let mut command = Command::new(program.first()?);
            command.args(&program[1..]).env(FOLDER, folder).env(SIDE, ["a", "b"][side]);
            Process::start(&mut command)
        };
        let (first, second) = (start(0), start(1));
        if let Some((allowed, _)) = &cores {
            bind(allowed);
        }
        Some(Pair { first: first?, second: second? })
    }

    /// Lets the two do a task: what they answered, or why not.
    pub fn perform(&mut self, task: &str) -> Result<Answers, String> {
        self.second.tell(task)?;
        self.second.hear("ready", PATIENCE)?;
        self.first.tell(task)?;
        let first = self.first.hear("done", PATIENCE)?;
        Ok((first, self.second.hear("done", PATIENCE)?))
    }
}
