//! A process that does tasks: a line tells it what, and it answers with a line that begins with `ready` or `done`.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// The process. It is killed with this.
pub struct Process {
    child: Child,
    tasks: ChildStdin,
    answers: Receiver<String>,
}

impl Process {
    /// Starts it; None if that cannot be.
    pub fn start(command: &mut Command) -> Option<Process> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
        let (tasks, output) = (child.stdin.take()?, child.stdout.take()?);
        let (sender, answers) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                // Other lines are what a library has to say.
                if (line.starts_with("done") || line.starts_with("ready")) && sender.send(line).is_err() {
                    break;
                }
            }
        });
        Some(Process { child, tasks, answers })
    }

    /// Tells it a task.
    pub fn tell(&mut self, task: &str) -> Result<(), String> {
        writeln!(self.tasks, "{task}").map_err(|error| format!("it has ended: {error}"))
    }

    /// What stands behind `beginning` in its next answer.
    pub fn hear(&mut self, beginning: &str, patience: Duration) -> Result<String, String> {
        let line = self.answers.recv_timeout(patience).map_err(|error| format!("no answer: {error}"))?;
        line.strip_prefix(beginning)
            .map(|rest| rest.trim().to_owned())
            .ok_or_else(|| format!("it said `{line}`"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
