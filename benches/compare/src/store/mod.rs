//! Stores beside databases on files, with the same safety on all sides: reads, changes, transactions, scans, opening after a kill, and
//! the size of the files.
//!
//! Each database is open in processes of its own, one or two, which sleep while others are measured. Samples of all are interleaved;
//! after each one that writes its database is synced, so that none pays for what another left.
//!
//! | file | holds |
//! |---|---|
//! | `engine` | what all have in common, ours and LMDB |
//! | `redb`, `fjall`, `sqlite` | the others |
//! | `worker` | a process that has one open |

mod engine;
mod fjall;
mod redb;
mod sqlite;
mod worker;

use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use crate::harness::{Figure, Report, Samples};
use crate::process::Process;

/// Bytes of a value.
const VALUE: usize = 100;
/// Keys of a batch.
const BATCH: usize = 1000;
/// Entries of a scan.
const SCAN: usize = 1000;
/// Bytes that those may keep in memory who have a cache of their own: more than the data.
const CACHE: usize = 512 << 20;
/// How long a sample takes, in milliseconds, after a tenth that does not count.
const SAMPLE: u64 = 150;
/// The longest that a task may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// Times that each database is opened after a kill.
const REOPENINGS: usize = 3;

/// A key: in order as its number is.
type Key = [u8; 16];

fn key(number: u64) -> Key {
    let mut key = *b"key-0000--------";
    key[8..].copy_from_slice(&number.to_be_bytes());
    key
}

/// One who takes part.
struct Contestant {
    title: &'static str,
    name: &'static str,
    /// Whether it takes part in a case.
    does: fn(&Case) -> bool,
}

const CONTESTANTS: [Contestant; 7] = [
    Contestant { title: "Memora", name: "memora", does: |case| case.task != "scan" },
    Contestant { title: "Memora, ordered", name: "ordered", does: |case| case.task == "scan" },
    Contestant { title: "LMDB (heed)", name: "lmdb", does: |_| true },
    Contestant { title: "redb", name: "redb", does: |case| case.processes == 1 },
    Contestant {
        title: "redb, many processes",
        name: "redb-shared",
        does: |case| case.processes == 2 && case.task != "put async",
    },
    Contestant { title: "fjall", name: "fjall", does: |case| case.processes == 1 },
    Contestant { title: "SQLite WAL", name: "sqlite", does: |_| true },
];

/// What is measured.
struct Case {
    title: &'static str,
    task: &'static str,
    processes: usize,
    /// In each process.
    threads: usize,
    goal: Option<&'static str>,
}

const fn case(
    title: &'static str,
    task: &'static str,
    processes: usize,
    threads: usize,
    goal: Option<&'static str>,
) -> Case {
    Case { title, task, processes, threads, goal }
}

const CASES: [Case; 13] = [
    case("get", "get", 1, 1, Some("faster than every peer")),
    case("get, each of two processes", "get", 2, 1, None),
    case("put async, 1 writer", "put async", 1, 1, Some("250 ns")),
    case("put async, 8 writers", "put async", 1, 8, None),
    case("put async, 8 writers of two processes", "put async", 2, 4, None),
    case("put sync, 1 writer", "put sync", 1, 1, Some("1.2 x bare fdatasync")),
    case("put sync, 8 writers", "put sync", 1, 8, Some("a sixth of 1 writer")),
    case("put sync, 8 writers of two processes", "put sync", 2, 4, None),
    case("batch of 1000 async, a key", "batch async", 1, 1, None),
    case("batch of 1000 sync, a key", "batch sync", 1, 1, None),
    case("transaction of 4 keys async", "transaction async", 1, 1, Some("1000 ns")),
    case("transaction of 4 keys sync", "transaction sync", 1, 1, None),
    case("scan of 1000, an entry", "scan", 1, 1, Some("redb's")),
];

/// One case of one contestant.
struct Cell {
    case: &'static Case,
    contestant: usize,
    samples: Samples,
}

/// The open databases of a contestant: none any more where something went wrong.
struct Open {
    processes: Vec<Process>,
    load: Samples,
    reopen: Samples,
    recover: Samples,
    bytes: Samples,
}

/// Where a contestant's files and memory stand.
struct Place<'a> {
    files: &'a Path,
    memory: &'a Path,
}

impl Place<'_> {
    fn start(&self, contestant: &Contestant, part: &str, keys: u64) -> Result<(Process, f64, u8), String> {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let name = format!("{}-{part}", contestant.name);
        let mut command = Command::new(program);
        command.env(worker::ENGINE, contestant.name).env(worker::FILES, self.files.join(&name));
        command.env(worker::MEMORY, self.memory.join(&name)).env(worker::KEYS, keys.to_string());
        let mut process = Process::start(&mut command).ok_or("it does not start")?;
        let answer = process.hear("ready", PATIENCE)?;
        let mut words = answer.split_whitespace();
        let nanos = words.next().and_then(|word| word.parse().ok()).ok_or("it says no time")?;
        let last = words.next().and_then(|word| word.parse().ok()).ok_or("it says no value")?;
        Ok((process, nanos, last))
    }
}

fn perform(process: &mut Process, task: &str) -> Result<f64, String> {
    process.tell(task)?;
    number(&process.hear("done", PATIENCE)?)
}

fn number(answer: &str) -> Result<f64, String> {
    answer.parse().map_err(|_| format!("it answered `{answer}`"))
}

/// Takes one sample.
fn take(processes: &mut [Process], case: &Case, seed: u64) -> Result<f64, String> {
    let all = processes.get_mut(..case.processes).ok_or("it has not that many processes")?;
    for (process, seed) in all.iter_mut().zip(seed * 2..) {
        process.tell(&format!("{}:{} {seed} {SAMPLE}", case.task, case.threads))?;
    }
    let mut times = Vec::new();
    for process in all.iter_mut() {
        times.push(number(&process.hear("done", PATIENCE)?)?);
    }
    if case.task != "get" && case.task != "scan" {
        all.iter_mut().try_for_each(|process| perform(process, "settle:").map(drop))?;
        // Changes of all together.
        return Ok(1.0 / times.iter().map(|time| 1.0 / time).sum::<f64>());
    }
    Ok(times.iter().sum::<f64>() / times.len() as f64)
}

/// Nanoseconds of a `pwrite` of 4 KiB over existing blocks with its `fdatasync`.
fn bare_sync(file: &mut std::fs::File) -> std::io::Result<f64> {
    let (start, mut count) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_millis(SAMPLE) {
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&[1; 4096])?;
        file.sync_data()?;
        count += 1;
    }
    Ok(start.elapsed().as_nanos() as f64 / f64::from(count))
}

fn bytes_below(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries
        .filter_map(|entry| Some((entry.as_ref().ok()?.metadata().ok()?, entry.ok()?.path())))
        .map(|(data, path)| if data.is_dir() { bytes_below(&path) } else { data.blocks() * 512 })
        .sum()
}

/// A worker's part, if this process is one.
pub fn serve() -> Option<ExitCode> {
    worker::serve()
}

fn setting(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).ok().and_then(|word| word.parse().ok()).unwrap_or(otherwise)
}

/// Gone with it.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs the bench. `MEMORA_STORE_KEYS`, `MEMORA_STORE_ROUNDS`, `MEMORA_STORE_SECONDS` (of the rounds), `MEMORA_STORE_SIZE_KEYS`,
/// `MEMORA_STORE_DIR` and `MEMORA_STORE_ONLY` (a part of `case: contestant`) say otherwise.
pub fn run(report: &Report) {
    let parent =
        std::env::var_os("MEMORA_STORE_DIR").map_or_else(|| PathBuf::from("target/bench"), PathBuf::from);
    let files = Folder(parent.join(format!("compare-store-{}", std::process::id())));
    std::fs::create_dir_all(&files.0).expect("a folder for the files");
    let memory = crate::folder();
    let place = Place { files: &files.0, memory: memory.path() };
    let keys = setting("MEMORA_STORE_KEYS", 1_000_000).max(2 * SCAN as u64);
    let only = std::env::var("MEMORA_STORE_ONLY").unwrap_or_default();

    let mut cells: Vec<Cell> = Vec::new();
    for case in &CASES {
        let all = CONTESTANTS.iter().enumerate().filter(|(_, it)| (it.does)(case));
        let wanted = all.filter(|(_, it)| format!("{}: {}", case.title, it.title).contains(&only));
        cells.extend(wanted.map(|(contestant, _)| Cell { case, contestant, samples: Samples::default() }));
    }
    let mut open: Vec<Option<Open>> = Vec::new();
    for (number, contestant) in CONTESTANTS.iter().enumerate() {
        let most =
            cells.iter().filter(|cell| cell.contestant == number).map(|cell| cell.case.processes).max();
        open.push(most.and_then(|most| {
            start(&place, contestant, keys, most).map_err(|why| missing(contestant, &why)).ok()
        }));
    }
    let mut bare = std::fs::File::create(files.0.join("bare")).expect("a file");
    bare.write_all(&[0; 4096]).and_then(|()| bare.sync_all()).expect("a first write");
    let mut floor = Samples::default();

    let (rounds, seconds) = (setting("MEMORA_STORE_ROUNDS", 5), setting("MEMORA_STORE_SECONDS", 200) as f64);
    let (start_of_all, mut longest, mut number) = (Instant::now(), 0f64, 0);
    for round in 0..=rounds {
        let begun = start_of_all.elapsed().as_secs_f64();
        if round > 1 && begun + longest > seconds {
            println!("{} rounds in {begun:.0} s", round - 1);
            break;
        }
        let synced = bare_sync(&mut bare).expect("synced");
        if round > 0 {
            floor.push(synced);
        }
        for cell in &mut cells {
            let Some(opened) = &mut open[cell.contestant] else { continue };
            number += 1;
            // What others left to be written is nobody's burden.
            nix::unistd::syncfs(&bare).expect("synced");
            match take(&mut opened.processes, cell.case, number) {
                Ok(value) if round > 0 => cell.samples.push(value),
                Ok(_) => {}
                Err(why) => {
                    missing(&CONTESTANTS[cell.contestant], &format!("{}: {why}", cell.case.title));
                    open[cell.contestant] = None;
                }
            }
        }
        longest = longest.max(start_of_all.elapsed().as_secs_f64() - begun);
    }
    for (number, (contestant, slot)) in CONTESTANTS.iter().zip(&mut open).enumerate() {
        let alone = cells.iter().any(|cell| cell.contestant == number && cell.case.processes == 1);
        if alone
            && let Some(opened) = slot
            && let Err(why) = reopen(&place, contestant, keys, opened)
                .and_then(|()| grow(&place, contestant, setting("MEMORA_STORE_SIZE_KEYS", 200_000), opened))
        {
            missing(contestant, &why);
        }
    }
    tell(report, keys, &cells, &open, &floor);
}

fn missing(contestant: &Contestant, why: &str) {
    eprintln!("missing: {}: {why}", contestant.title);
}

/// Opens a contestant's database in so many processes, and loads it.
fn start(place: &Place<'_>, contestant: &Contestant, keys: u64, processes: usize) -> Result<Open, String> {
    let (mut first, ..) = place.start(contestant, "speed", keys)?;
    let mut load = Samples::default();
    load.push(perform(&mut first, "load:1")?);
    let mut all = vec![first];
    while all.len() < processes {
        all.push(place.start(contestant, "speed", keys)?.0);
    }
    let none = Samples::default;
    Ok(Open { processes: all, load, reopen: none(), recover: none(), bytes: none() })
}

/// Kills those who have it open while they write, and opens it again, several times; ours also when its memory is gone.
fn reopen(place: &Place<'_>, contestant: &Contestant, keys: u64, open: &mut Open) -> Result<(), String> {
    let ours = ["memora", "ordered"].contains(&contestant.name);
    for time in 0..REOPENINGS * if ours { 2 } else { 1 } {
        let process = open.processes.first_mut().ok_or("nobody has it open")?;
        perform(process, &format!("last:1 {time} {}", 2 * SAMPLE))?;
        // Dropped is killed.
        open.processes.clear();
        let lost = ours && time % 2 == 1;
        if lost {
            std::fs::remove_dir_all(place.memory.join(format!("{}-speed", contestant.name)))
                .map_err(|error| error.to_string())?;
        }
        let (process, nanos, last) = place.start(contestant, "speed", keys)?;
        if last != worker::LAST {
            return Err("it lost a change that was synced".to_owned());
        }
        let samples = if lost { &mut open.recover } else { &mut open.reopen };
        samples.push(nanos / 1e6);
        open.processes.push(process);
    }
    open.processes.clear();
    Ok(())
}

/// Overwrites all keys of a new database ten times and looks at its files, when all is synced and nothing moves any more.
fn grow(place: &Place<'_>, contestant: &Contestant, keys: u64, open: &mut Open) -> Result<(), String> {
    let (mut process, ..) = place.start(contestant, "size", keys)?;
    perform(&mut process, "load:11")?;
    let files = place.files.join(format!("{}-size", contestant.name));
    let mut before = bytes_below(&files);
    // Some tidy up behind our back: until they are done, for ten seconds at most.
    for _ in 0..10 {
        std::thread::sleep(Duration::from_secs(1));
        let now = bytes_below(&files);
        if now == before {
            break;
        }
        before = now;
    }
    open.bytes.push(before as f64 / (keys * (size_of::<Key>() + VALUE) as u64) as f64);
    Ok(())
}

/// Prints and appends all that was measured.
fn tell(report: &Report, keys: u64, cells: &[Cell], open: &[Option<Open>], floor: &Samples) {
    let sized = format!("{keys} keys of 16 B, values of {VALUE} B");
    println!("{sized}");
    let add = |case: &str,
               procs: usize,
               unit: &str,
               samples: &Samples,
               floor: Option<(&str, f64)>,
               goal: Option<&str>| {
        if samples.median().is_finite() {
            report.add(&Figure { bench: "store", case, procs: procs as u32, unit, samples, floor, goal });
        }
    };
    add("bare fdatasync of a 4 KiB overwrite", 1, "ns/op", floor, None, None);
    for cell in cells {
        let contestant = &CONTESTANTS[cell.contestant];
        let case = format!("{}: {}", cell.case.title, contestant.title);
        let bare = cell.case.task.ends_with(" sync").then(|| ("bare fdatasync", floor.median()));
        let goal = cell.case.goal.filter(|_| cell.contestant < 2);
        add(&case, cell.case.processes, "ns/op", &cell.samples, bare, goal);
    }
    let all: Vec<_> =
        CONTESTANTS.iter().zip(open).filter_map(|(it, open)| Some((it, open.as_ref()?))).collect();
    for (title, unit, of) in [
        ("new key, batches of 1000 async", "ns/op", (|open| &open.load) as fn(&Open) -> &Samples),
        ("open and read after SIGKILL", "ms", |open| &open.reopen),
        ("the same, memory lost", "ms", |open| &open.recover),
        ("files after overwriting all ten times, x data", "x", |open| &open.bytes),
    ] {
        for (contestant, open) in &all {
            add(&format!("{title}: {}", contestant.title), 1, unit, of(open), None, None);
        }
    }
}
