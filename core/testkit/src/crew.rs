//! Workers on one object that are killed, replaced and stopped at random.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::time::Duration;

use memora_stress::random::Random;
use tempfile::TempDir;

use crate::process::Worker;

/// Processes of a test that play roles on the object `name`, in a directory of their own.
pub struct Crew {
    /// Where their fabric and their histories are.
    pub dir: TempDir,
    /// The object that they work on: they are told it behind their role.
    pub name: &'static str,
    /// How many were killed.
    pub kills: u64,
    variable: &'static str,
    workers: Vec<(&'static str, Worker)>,
}

impl Crew {
    /// One worker for each role, who find the directory in the environment variable `variable`. `prepare` runs before they start.
    pub fn new(
        variable: &'static str,
        name: &'static str,
        roles: &[&'static str],
        prepare: impl FnOnce(&Path),
    ) -> Crew {
        let dir = tempfile::Builder::new().prefix("memora-crew-").tempdir_in("/dev/shm").expect("writable");
        prepare(dir.path());
        let mut crew = Crew { dir, name, kills: 0, variable, workers: Vec::new() };
        for &role in roles {
            let worker = crew.spawn(role);
            crew.workers.push((role, worker));
        }
        crew
    }

    fn spawn(&self, role: &str) -> Worker {
        let home: OsString = self.dir.path().into();
        let environment: [(&str, &OsStr); 1] = [(self.variable, &home)];
        let mut worker = Worker::spawn("entry", &format!("{role} {}", self.name), &environment);
        worker.expect_line("ready");
        worker
    }

    /// Kills one and starts another in its place, or stops one for a while.
    pub fn blow(&mut self, random: &mut Random) {
        let which = random.draw(self.workers.len() as u64) as usize;
        let (role, worker) = &mut self.workers[which];
        let role = *role;
        if random.draw(3) == 0 {
            assert!(worker.stop(), "it ended by itself: {}", worker.errors());
            std::thread::sleep(Duration::from_millis(random.draw(200)));
            worker.resume();
            return;
        }
        assert!(Worker::was_killed(worker.kill()), "{role} ended by itself: {}", worker.errors());
        self.kills += 1;
        self.workers[which].1 = self.spawn(role);
    }

    /// Kills all that are left.
    pub fn end(&mut self) {
        for (role, worker) in &mut self.workers {
            assert!(Worker::was_killed(worker.kill()), "{role} ended by itself: {}", worker.errors());
        }
    }
}
