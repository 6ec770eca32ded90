//! The processes of the example: started, killed in the middle of their work, started again, waited for.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Result;

/// A process that can be started again with the same command.
pub struct Worker {
    name: &'static str,
    command: Command,
    child: Child,
}

impl Worker {
    /// Starts the command.
    pub fn start(name: &'static str, mut command: Command) -> Result<Worker> {
        let child = spawn(name, &mut command)?;
        Ok(Worker { name, command, child })
    }

    /// Kills the process with SIGKILL, proves that this is what ended it, waits, and starts it again.
    /// Gives the number of the killed process.
    pub fn kill_and_restart(&mut self, away: Duration) -> Result<u32> {
        let killed = self.child.id();
        if let Some(status) = self.child.try_wait()? {
            return Err(format!("{} ended before it was killed: {status}", self.name).into());
        }
        kill(Pid::from_raw(killed as i32), Signal::SIGKILL)?;
        let status = self.child.wait()?;
        if status.signal() != Some(Signal::SIGKILL as i32) {
            return Err(format!("{} was not killed but ended: {status}", self.name).into());
        }
        std::thread::sleep(away);
        self.child = spawn(self.name, &mut self.command)?;
        Ok(killed)
    }

    /// An error if the process has ended without success.
    pub fn still_well(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            Some(status) if !status.success() => Err(format!("{} failed: {status}", self.name).into()),
            _ => Ok(()),
        }
    }

    /// Waits for a successful end.
    pub fn finish(mut self, timeout: Duration) -> Result<()> {
        let deadline = Instant::now() + timeout;
        loop {
            match self.child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(format!("{} failed: {status}", self.name).into()),
                None if Instant::now() > deadline => {
                    return Err(format!("{} did not end within {timeout:?}", self.name).into());
                }
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    /// The lines that the process prints, where its command pipes them.
    pub fn lines(&mut self) -> Receiver<String> {
        let (sender, receiver) = channel();
        if let Some(stream) = self.child.stdout.take() {
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    if sender.send(line).is_err() {
                        return;
                    }
                }
            });
        }
        receiver
    }
}

impl Drop for Worker {
    /// No process outlives the example, however it ends.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(name: &str, command: &mut Command) -> Result<Child> {
    let program = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).spawn().map_err(|error| format!("{name} ({program}): {error}").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.arg("-c").arg(script);
        command
    }

    #[test]
    fn a_worker_is_killed_and_comes_back_as_another_process() {
        let mut worker = Worker::start("sleeper", shell("sleep 60")).unwrap();
        let first = worker.child.id();
        assert_eq!(worker.kill_and_restart(Duration::ZERO).unwrap(), first);
        assert_ne!(worker.child.id(), first);
        worker.still_well().unwrap();
    }

    #[test]
    fn a_worker_that_fails_or_hangs_is_an_error() {
        let worker = Worker::start("failing", shell("exit 3")).unwrap();
        let error = worker.finish(Duration::from_secs(60)).unwrap_err().to_string();
        assert!(error.contains("failing failed") && error.contains('3'), "{error}");
        let worker = Worker::start("hanging", shell("sleep 60")).unwrap();
        let error = worker.finish(Duration::from_millis(30)).unwrap_err().to_string();
        assert!(error.contains("did not end"), "{error}");
    }

    #[test]
    fn the_lines_of_a_worker_arrive() {
        let mut command = shell("echo sent 50; echo sent 100");
        command.stdout(Stdio::piped());
        let mut worker = Worker::start("printer", command).unwrap();
        let lines: Vec<_> = worker.lines().iter().collect();
        assert_eq!(lines, ["sent 50", "sent 100"]);
        worker.finish(Duration::from_secs(60)).unwrap();
    }
}
