//! A second process for benches of two: this program again, which does what it is told, one task at a time.
//!
//! Between tasks it sleeps, so that with two cores only two threads ever spin. Each of the two has a core of its own: two
//! that spin on one core measure the scheduler.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use memora::{Channel, ChannelKind, ChannelOptions, Fabric, FabricOptions, Publisher};

const ROLE: &str = "MEMORA_BENCH_CHILD";
const TASKS: &str = "tasks";

/// Does a task, `count` times: the name of the task is one byte.
pub type Perform = fn(fabric: &Fabric, task: u8, count: u64);

/// A fabric of its own and the second process on it. Both are gone when it is dropped.
pub struct Pair {
    home: PathBuf,
    child: Child,
    tasks: Publisher,
    allowed: Option<CpuSet>,
    /// The fabric.
    pub fabric: Fabric,
}

fn open(home: &Path) -> Fabric {
    FabricOptions::new().home(home.to_path_buf()).open("bench").expect("a fabric of its own")
}

fn tasks(fabric: &Fabric) -> Channel {
    let options = ChannelOptions { kind: ChannelKind::Stream, ..ChannelOptions::default() };
    fabric.channel(TASKS, &options).expect("the channel of tasks")
}

/// Binds the calling thread to a core: the first of those that it may use, or the second. Gives those that it may use.
/// Where the system refuses, the figures are merely noisier.
fn take_core(second: bool) -> Option<CpuSet> {
    let allowed = sched_getaffinity(Pid::from_raw(0)).ok()?;
    let mut cores = (0..CpuSet::count()).filter(|core| allowed.is_set(*core).unwrap_or(false));
    let core = cores.nth(usize::from(second))?;
    let mut set = CpuSet::new();
    set.set(core).and_then(|()| sched_setaffinity(Pid::from_raw(0), &set)).ok()?;
    Some(allowed)
}

impl Pair {
    /// Starts the second process.
    pub fn new() -> Pair {
        let home = PathBuf::from(format!("/dev/shm/memora-bench-{}", std::process::id()));
        std::fs::create_dir_all(&home).expect("a directory on tmpfs");
        std::fs::set_permissions(&home, std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .expect("our own directory");
        let fabric = open(&home);
        let tasks = tasks(&fabric).publisher().expect("a lane");
        let program = std::env::current_exe().expect("a program knows its path");
        let child = Command::new(program).env(ROLE, &home).spawn().expect("this program starts");
        // After the start of the second, which would inherit it.
        let allowed = take_core(false);
        Pair { home, child, tasks, allowed, fabric }
    }

    /// Tells the second process to do a task `count` times.
    pub fn start(&mut self, task: u8, count: u64) {
        let mut message = [0; 9];
        message[0] = task;
        message[1..].copy_from_slice(&count.to_le_bytes());
        self.tasks.send(&message).expect("room for a task");
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        // Benches that follow use all cores again.
        let _ = self.allowed.is_some_and(|allowed| sched_setaffinity(Pid::from_raw(0), &allowed).is_ok());
        // It may have ended already; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.home);
    }
}

/// In the second process: does tasks until it is killed. None in the first.
pub fn serve(perform: Perform) -> Option<ExitCode> {
    let home = PathBuf::from(std::env::var_os(ROLE)?);
    take_core(true);
    let parent = std::os::unix::process::parent_id();
    let fabric = open(&home);
    let mut subscriber = tasks(&fabric).subscriber().expect("the one subscription");
    let mut message = Vec::new();
    while std::os::unix::process::parent_id() == parent {
        let slice = std::time::Duration::from_millis(200);
        if subscriber.recv(&mut message, Some(slice)).expect("a sound channel").is_some() {
            perform(&fabric, message[0], u64::from_le_bytes(message[1..9].try_into().expect("9 bytes")));
        }
    }
    Some(ExitCode::SUCCESS)
}
