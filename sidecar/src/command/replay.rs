//! `memora replay`: the hit ratio of a cache that meets the requests of a trace.
//!
//! Each request reads its object and sets it when it is missing. The cache lives in a memory file, so nothing remains of it
//! however the command ends. Several processes share it and take short blocks of requests in turn, in the order of the
//! trace: whoever is free takes the next, so that they stay in step without waiting for each other.

mod trace;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::parent_id;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use memora::limits::{FABRIC_LIMIT_MAX, FABRIC_LIMIT_MIN};
use memora::{Backend, Cache, CacheOptions, Create, Fabric, FabricOptions, WhenFull};
use serde_json::json;

use crate::cli::ReplayOptions;
use crate::output::{Answer, Failure, Outcome, Output};

/// Requests that a process takes at a time: short beside any cache, long beside the taking.
const BLOCK: u64 = 256;
/// Bytes of the record and the index for an object, beside its value, with room to spare: the number of objects is what
/// shall bind, not the memory.
const OBJECT_OVERHEAD: u64 = 192;
/// Bytes for the tables and the open chunks of the processes, and for chunks on the way from one use to the next: where objects
/// are counted, and for each process beside a number of bytes.
const SMALL_ROOM: u64 = 1 << 18;
const ROOM: u64 = 16 << 20;
const WAIT: Duration = Duration::from_millis(2);

const NEXT: &[u8] = b"next";
const READY: &[u8] = b"ready";
const GO: &[u8] = b"go";
const HITS: &[u8] = b"hits";

/// The cache, and beside it what the processes count together.
struct Shared {
    cache: Cache,
    counters: Cache,
}

impl Shared {
    fn of(fabric: &Fabric, options: &ReplayOptions) -> Result<Shared, Failure> {
        let cache = fabric.cache_with(
            "replay",
            &CacheOptions { limit: options.memory, entries: options.objects, ..CacheOptions::default() },
        )?;
        let kept = CacheOptions { when_full: WhenFull::Reject, ..CacheOptions::default() };
        Ok(Shared { cache, counters: fabric.cache_with("counters", &kept)? })
    }

    /// Adds to a counter and gives what it was before.
    fn add(&self, counter: &[u8], by: u64) -> Result<u64, Failure> {
        let now = self.counters.increment(counter, by, Some(by))?;
        Ok(now.map_or(0, |now| now - by))
    }

    fn count(&self, counter: &[u8]) -> Result<u64, Failure> {
        self.add(counter, 0)
    }
}

/// Replays the trace, or, as one of the processes that such a command started, takes part.
pub fn run(options: &ReplayOptions, output: &mut Output) -> Outcome {
    let requests = trace::read(&options.file).map_err(|error| unreadable(&options.file, &error))?;
    if options.helper {
        return help(options, &requests);
    }
    let fabric = FabricOptions::new()
        .backend(Backend::Memfd)
        .create(Create::CreateNew)
        .limit(limit(options, requests.len() as u64))
        .open("replay")?;
    let shared = Shared::of(&fabric, options)?;
    let mut helpers = Helpers::start(&fabric, options)?;
    while shared.count(READY)? + 1 < u64::from(options.procs) {
        helpers.see_that_none_failed()?;
        std::thread::sleep(WAIT);
    }
    shared.add(GO, 1)?;
    let bar = progress_bar(requests.len() as u64);
    work(&shared, options, &requests, |done| {
        bar.set_position(done);
        Ok(true)
    })?;
    helpers.finish()?;
    bar.finish_and_clear();
    let hits = shared.count(HITS)?;
    let percent = hits as f64 * 100.0 / requests.len() as f64;
    output.answer(
        || {
            json!({
                "requests": requests.len(), "hits": hits, "hit_ratio": percent, "procs": options.procs,
                "objects": options.objects, "memory": options.memory,
            })
        },
        || format!("requests {}\nhits {hits}\n{percent:.2} %\n", requests.len()),
    )?;
    Ok(Answer::Yes)
}

fn unreadable(file: &Path, error: &io::Error) -> Failure {
    Failure::Io("the trace", io::Error::new(error.kind(), format!("{}: {error}", file.display())))
}

fn progress_bar(requests: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{wide_bar} {human_pos}/{human_len} requests, {eta} left");
    let bar = ProgressBar::new(requests);
    // A template of our own that is wrong would show in the tests; the plain bar is as good.
    style.map_or(bar.clone(), |style| bar.with_style(style))
}

/// Bytes of the fabric: what the cache may use, and room for everything beside it. Pages count once they are used. For few
/// bytes no more than is needed: small fabrics have small chunks, as a fabric that somebody makes for such a cache.
fn limit(options: &ReplayOptions, requests: u64) -> u64 {
    let bytes = match (options.memory, options.objects) {
        (Some(memory), _) => memory.saturating_add(memory / 8 + SMALL_ROOM * (1 + u64::from(options.procs))),
        (None, Some(objects)) => {
            let entries = objects.min(requests);
            entries
                .saturating_mul(OBJECT_OVERHEAD + u64::from(options.value_bytes))
                .saturating_add(ROOM + u64::from(options.procs) * (1 << 20))
        }
        (None, None) => 0,
    };
    bytes.clamp(FABRIC_LIMIT_MIN, FABRIC_LIMIT_MAX)
}

/// Takes blocks until the trace is at its end, and adds the hits to the common count. `go_on` is told which request was
/// done last.
fn work(
    shared: &Shared,
    options: &ReplayOptions,
    requests: &[u32],
    mut go_on: impl FnMut(u64) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let value = vec![b'v'; options.value_bytes as usize];
    let mut found = vec![0; value.len()];
    let mut hits = 0;
    loop {
        let from = shared.add(NEXT, BLOCK)?;
        let to = (from + BLOCK).min(requests.len() as u64);
        if from >= to {
            break;
        }
        for id in &requests[from as usize..to as usize] {
            let key = id.to_le_bytes();
            if shared.cache.get_into(&key, &mut found)?.is_some() {
                hits += 1;
            } else {
                shared.cache.set(&key, &value)?;
            }
        }
        if !go_on(to)? {
            break;
        }
    }
    shared.add(HITS, hits)?;
    Ok(())
}

/// In a process that the command started: the memory file is its standard input.
fn help(options: &ReplayOptions, requests: &[u32]) -> Outcome {
    let parent = parent_id();
    let file = io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .map_err(|error| Failure::Io("the memory file of the replay", error))?;
    let fabric = FabricOptions::new().open_fd(file)?;
    let shared = Shared::of(&fabric, options)?;
    shared.add(READY, 1)?;
    while shared.count(GO)? == 0 && parent_id() == parent {
        std::thread::sleep(WAIT);
    }
    work(&shared, options, requests, |_| Ok(parent_id() == parent))?;
    Ok(Answer::Yes)
}

/// The other processes; killed if the command gives up.
struct Helpers(Vec<Child>);

impl Helpers {
    fn start(fabric: &Fabric, options: &ReplayOptions) -> Result<Helpers, Failure> {
        let failed = |error| Failure::Io("starting a process", error);
        let program = std::env::current_exe().map_err(failed)?;
        let mut helpers = Helpers(Vec::new());
        for _ in 1..options.procs {
            let file: OwnedFd = fabric.memfd()?;
            let child = Command::new(&program)
                .args(std::env::args_os().skip(1))
                .arg("--helper")
                .stdin(Stdio::from(file))
                .stdout(Stdio::null())
                .spawn()
                .map_err(failed)?;
            helpers.0.push(child);
        }
        Ok(helpers)
    }

    fn see_that_none_failed(&mut self) -> Result<(), Failure> {
        for helper in &mut self.0 {
            if let Some(status) = helper.try_wait().map_err(ended)?
                && !status.success()
            {
                return Err(ended(io::Error::other(format!("it ended early: {status}"))));
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Failure> {
        for helper in &mut self.0 {
            helper.wait().map_err(ended)?;
        }
        self.see_that_none_failed()
    }
}

fn ended(error: io::Error) -> Failure {
    Failure::Io("a process of the replay", error)
}

impl Drop for Helpers {
    fn drop(&mut self) {
        for helper in &mut self.0 {
            // One that has ended needs no killing.
            let _ = helper.kill();
            let _ = helper.wait();
        }
    }
}
