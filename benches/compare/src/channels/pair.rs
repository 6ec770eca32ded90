//! The two processes of a contestant's program, each bound to a core of its own.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use super::worker::{FOLDER, SIDE};

/// The longest that a sample may take.
const PATIENCE: Duration = Duration::from_secs(30);

struct Worker {
    child: Child,
    tasks: ChildStdin,
    answers: Receiver<String>,
}

/// Two processes of one program, which do the tasks of the contestants in it. They end with this.
pub struct Pair {
    first: Worker,
    second: Worker,
}

/// What two processes answered: the first, then the second.
pub type Answers = (String, String);

impl Worker {
    fn start(program: &[OsString], folder: &Path, side: &str) -> Option<Worker> {
        let mut child = Command::new(program.first()?)
            .args(&program[1..])
            .env(FOLDER, folder)
            .env(SIDE, side)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        let (tasks, output) = (child.stdin.take()?, child.stdout.take()?);
        let (sender, answers) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                // Other lines are what a library has to say.
                if (line.starts_with("done") || line == "ready") && sender.send(line).is_err() {
                    break;
                }
            }
        });
        Some(Worker { child, tasks, answers })
    }

    fn tell(&mut self, task: &str) -> Result<(), String> {
        writeln!(self.tasks, "{task}").map_err(|error| format!("it has ended: {error}"))
    }

    fn hear(&mut self, beginning: &str) -> Result<String, String> {
        let line = self.answers.recv_timeout(PATIENCE).map_err(|error| format!("no answer: {error}"))?;
        line.strip_prefix(beginning)
            .map(|rest| rest.trim().to_owned())
            .ok_or_else(|| format!("it said `{line}`"))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

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
            Worker::start(program, folder, ["a", "b"][side])
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
        self.second.hear("ready")?;
        self.first.tell(task)?;
        let first = self.first.hear("done")?;
        Ok((first, self.second.hear("done")?))
    }
}
