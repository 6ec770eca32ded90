//! Children to kill and freeze: spawned, watched with a bound, and never left behind.
//!
//! A test binary plays its own children: [`Worker::spawn`] starts it again with `--exact <entry>` and a role in the environment, and
//! the test `<entry>` calls [`role`] and does what it says. Lines that a child prints with [`tell`] reach the parent.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

const ROLE: &str = "MEMORA_TESTKIT_ROLE";
const PREFIX: &str = "@@";
/// Nothing that a test waits for takes longer on a machine that works, however slow.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The role that this process was spawned with, if it is a child.
///
/// It then dies with its parent, so that an aborted test leaves nobody behind.
pub fn role() -> Option<String> {
    let role = std::env::var(ROLE).ok()?;
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).expect("PR_SET_PDEATHSIG exists everywhere");
    Some(role)
}

/// Says a line to the parent.
pub fn tell(line: &str) {
    use std::io::Write;
    // One write: lines of threads must not mix, and the harness of `cargo test` may have left its line open.
    let mut out = std::io::stdout().lock();
    out.write_all(format!("\n{PREFIX}{line}\n").as_bytes())
        .and_then(|()| out.flush())
        .expect("the parent reads");
}

/// A child process.
pub struct Worker {
    child: Child,
    name: String,
    lines: Receiver<String>,
    seen: VecDeque<String>,
    errors: Arc<Mutex<String>>,
}

impl Worker {
    /// Starts this test binary again as `role`; `entry` is the full name of the test that plays it.
    pub fn spawn(entry: &str, role: &str, environment: &[(&str, &OsStr)]) -> Worker {
        let program = std::env::current_exe().expect("a test binary knows its path");
        let mut command = Command::new(program);
        command.args(["--exact", entry, "--nocapture", "--test-threads=1"]).env(ROLE, role);
        for (key, value) in environment {
            command.env(key, value);
        }
        Worker::start(&mut command, role)
    }

    /// Starts a program of its own, such as a worker in C.
    pub fn program(
        program: &Path,
        arguments: &[&OsStr],
        environment: &[(&str, &OsStr)],
        name: &str,
    ) -> Worker {
        let mut command = Command::new(program);
        command.args(arguments).envs(environment.iter().copied());
        Worker::start(&mut command, name)
    }

    fn start(command: &mut Command, name: &str) -> Worker {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let (sender, lines) = channel();
        let stdout = child.stdout.take().expect("piped");
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Some(line) = line.strip_prefix(PREFIX)
                    && sender.send(line.to_string()).is_err()
                {
                    return;
                }
            }
        });
        let errors = Arc::new(Mutex::new(String::new()));
        let (sink, mut stderr) = (errors.clone(), child.stderr.take().expect("piped"));
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = stderr.read(&mut buffer) {
                sink.lock().expect("no panic inside").push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        });
        Worker { child, name: name.to_string(), lines, seen: VecDeque::new(), errors }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote to standard error so far.
    pub fn errors(&self) -> String {
        self.errors.lock().expect("no panic inside").clone()
    }

    /// The next line that it told which begins with `prefix`, without the prefix; others are dropped.
    ///
    /// `None` if it ended, or after `timeout`.
    pub fn next_line(&mut self, prefix: &str, timeout: Duration) -> Option<String> {
        let end = Instant::now() + timeout;
        loop {
            let line = match self.seen.pop_front() {
                Some(line) => line,
                None => match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                    Ok(line) => line,
                    Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return None,
                },
            };
            if let Some(rest) = line.strip_prefix(prefix) {
                return Some(rest.trim().to_string());
            }
        }
    }

    /// Like [`Worker::next_line`], but panics with what the child wrote if no such line comes.
    #[track_caller]
    pub fn expect_line(&mut self, prefix: &str) -> String {
        match self.next_line(prefix, PATIENCE) {
            Some(line) => line,
            None => panic!(
                "{} did not say `{prefix}` ({:?}): {}",
                self.name,
                self.child.try_wait(),
                self.errors()
            ),
        }
    }

    fn signal(&self, signal: Signal) {
        // The child is ours and not yet waited for, so the pid cannot belong to another.
        kill(Pid::from_raw(self.pid() as i32), signal)
            .unwrap_or_else(|error| panic!("cannot send {signal} to {}: {error}", self.name));
    }

    /// SIGKILL, and waits until it is gone. Gives back how it ended, which may have been earlier and by itself.
    pub fn kill(&mut self) -> ExitStatus {
        if let Ok(Some(status)) = self.child.try_wait() {
            return status;
        }
        self.signal(Signal::SIGKILL);
        self.child.wait().expect("a child can be waited for")
    }

    /// SIGSTOP, and waits until it stands. False if it ended before.
    pub fn stop(&mut self) -> bool {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return false;
        }
        self.signal(Signal::SIGSTOP);
        match self.wait_stopped(PATIENCE) {
            Standing::Stopped => true,
            Standing::Ended => false,
            Standing::Running => panic!("{} does not stop:\n{}", self.name, threads(self.pid())),
        }
    }

    /// SIGCONT.
    pub fn resume(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal(Signal::SIGCONT);
        }
    }

    /// Ends its standard input: a worker that reads it goes on.
    pub fn end_input(&mut self) {
        self.child.stdin = None;
    }

    /// Waits until it stops (by itself or by a signal) or ends.
    pub fn wait_stopped(&mut self, timeout: Duration) -> Standing {
        let end = Instant::now() + timeout;
        let id = || Id::Pid(Pid::from_raw(self.pid() as i32));
        let flags =
            WaitPidFlag::WSTOPPED | WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::WNOHANG;
        loop {
            match waitid(id(), flags) {
                Ok(WaitStatus::Stopped(..)) => return Standing::Stopped,
                // ECHILD: its end was collected before.
                Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) | Err(Errno::ECHILD) => {
                    return Standing::Ended;
                }
                Err(error) => panic!("cannot wait for {}: {error}", self.name),
                _ if Instant::now() >= end => return Standing::Running,
                _ => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    /// Waits for its end; `None` after `timeout`.
    pub fn wait(&mut self, timeout: Duration) -> Option<ExitStatus> {
        let end = Instant::now() + timeout;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                return Some(status);
            }
            if Instant::now() >= end {
                return None;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits for its end and panics with what it wrote unless it was a success.
    #[track_caller]
    pub fn expect_success(&mut self) {
        match self.wait(PATIENCE) {
            Some(status) if status.success() => {}
            Some(status) => panic!("{} ended with {status}: {}", self.name, self.errors()),
            None => panic!("{} does not end: {}", self.name, self.errors()),
        }
    }

    /// True if it was ended by SIGKILL.
    pub fn was_killed(status: ExitStatus) -> bool {
        status.signal() == Some(Signal::SIGKILL as i32)
    }
}

/// How a child stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Stopped by a signal.
    Stopped,
    /// Gone.
    Ended,
    /// Neither, within the time given.
    Running,
}

impl Drop for Worker {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // Failing means that it is gone, which is what we want.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// What the kernel says of the threads of a process, for people.
pub fn threads(pid: u32) -> String {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", pid));
    let Ok(tasks) = tasks else { return "it is gone".to_string() };
    let mut text = String::new();
    for task in tasks.flatten() {
        for file in ["status", "wchan", "syscall", "stack"] {
            let all = std::fs::read_to_string(task.path().join(file)).unwrap_or_default();
            let wanted = all.lines().filter(|line| {
                file != "status" || ["State", "Sig", "Shd"].iter().any(|start| line.starts_with(start))
            });
            wanted.for_each(|line| text.push_str(&format!("  {file}: {line}\n")));
        }
    }
    text
}
