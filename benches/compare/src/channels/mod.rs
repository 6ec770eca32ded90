//! Channels between two processes, beside their peers: messages a second in one direction, and the times of round trips, both sides polling or
//! both asleep.
//!
//! A contestant is one way to carry messages. Its two processes do one task at a time, so with two cores nobody else spins; between tasks
//! they sleep. Programs in other languages speak the protocol of `worker`: `MEMORA_CHANNELS_C` names ours in C,
//! `MEMORA_CHANNELS_JAVA` the command of those in Java. Samples of all contestants are interleaved, in another order each round: how fast a
//! sleeper is woken depends on what the machine did just before.
//!
//! | file | holds |
//! |---|---|
//! | `links` | the contestants in Rust |
//! | `worker` | a process of theirs |
//! | `floor` | cache lines and the bare futex |
//! | `pair` | starting two processes, and telling them what to do |
//! | `plot` | the picture |

mod floor;
mod links;
mod pair;
mod plot;
mod worker;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use hdrhistogram::Histogram;

use crate::harness::{Figure, Random, Report, Samples};
use pair::Pair;

/// Rounds, after one that does not count. `MEMORA_CHANNELS_ROUNDS` says otherwise; no round begins that would end after
/// `MEMORA_CHANNELS_SECONDS`.
const ROUNDS: u64 = 7;
/// How long a sample of a rate is to take, in seconds.
const SAMPLE: f64 = 0.15;
/// Messages of the first sample of a rate, and the most bytes of it.
const FIRST: (u64, u64) = (50_000, 64 << 20);
/// Round trips of a sample.
const SPINS: u64 = 5_000;
const SLEEPS: u64 = 200;

/// A contestant: what it is called, the program that it is in, its name there, and whether it takes part with both sides asleep.
struct Contestant {
    title: &'static str,
    program: &'static str,
    name: &'static str,
}

const CONTESTANTS: [Contestant; 13] = [
    Contestant { title: "Memora, Rust", program: "rust", name: "memora" },
    Contestant { title: "Memora, C", program: "c", name: "memora" },
    Contestant { title: "Memora, Java", program: "java", name: "memora" },
    Contestant { title: "Aeron IPC, Java", program: "java", name: "aeron" },
    Contestant { title: "Agrona ring, Java", program: "java", name: "agrona" },
    Contestant { title: "Chronicle Queue, Java", program: "java", name: "chronicle" },
    Contestant { title: "iceoryx2, Rust", program: "rust", name: "iceoryx2" },
    Contestant { title: "Unix socket", program: "rust", name: "socket" },
    Contestant { title: "pipe", program: "rust", name: "pipe" },
    Contestant { title: "Memora, Rust, copied out", program: "rust", name: "copied" },
    Contestant { title: "Memora, C, copied out", program: "c", name: "copied" },
    Contestant { title: "Memora log, Rust", program: "rust", name: "log" },
    Contestant { title: "Memora service, Rust", program: "rust", name: "service" },
];

/// Bytes of messages.
const SIZES: [usize; 4] = [32, 256, 1024, 65536];

/// One row of the figures with one contestant.
struct Cell {
    title: &'static str,
    program: &'static str,
    name: &'static str,
    case: &'static str,
    size: usize,
    count: u64,
    samples: Samples,
    times: Histogram<u64>,
    missing: Option<String>,
}

impl Cell {
    fn new(
        title: &'static str,
        program: &'static str,
        name: &'static str,
        case: &'static str,
        size: usize,
    ) -> Cell {
        let count = match case {
            "spin" | "line" | "lines" => SPINS,
            "block" | "futex" => SLEEPS,
            _ => FIRST.0.min(FIRST.1 / size as u64),
        };
        let times = Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("bounds of a histogram");
        Cell { title, program, name, case, size, count, samples: Samples::default(), times, missing: None }
    }

    fn is_rate(&self) -> bool {
        !matches!(self.case, "spin" | "block" | "line" | "lines" | "futex")
    }

    /// Whether its rate is told in thousands.
    fn is_large(&self) -> bool {
        self.size > 4096
    }

    /// Takes one sample.
    fn take(&mut self, pair: &mut Pair, number: u64, counts: bool) -> Result<(), String> {
        let task = format!("{} {} {} {} {number}", self.name, self.case, self.size, self.count);
        let (first, second) = pair.perform(&task)?;
        if self.is_rate() {
            let mut words = second.split_whitespace().map(|word| word.parse().unwrap_or(0.0));
            let (nanos, messages): (f64, f64) = (words.next().unwrap_or(0.0), words.next().unwrap_or(0.0));
            if nanos <= 0.0 || messages <= 0.0 {
                return Err(format!("it answered `{second}`"));
            }
            let rate = messages * 1e3 / nanos;
            self.count = ((rate * 1e6 * SAMPLE) as u64).clamp(1_000, 50_000_000);
            if counts {
                self.samples.push(if self.is_large() { rate * 1e3 } else { rate });
            }
            return Ok(());
        }
        let bytes = std::fs::read(&first).map_err(|error| format!("{first}: {error}"))?;
        let mut times = Histogram::<u64>::new(3).expect("a histogram");
        for time in bytes.chunks_exact(4) {
            let time = u32::from_le_bytes(time.try_into().expect("4 bytes"));
            times.record(u64::from(time)).map_err(|error| error.to_string())?;
        }
        if counts {
            self.samples.push(times.value_at_quantile(0.5) as f64);
            self.times.add(&times).map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

/// A worker's part, if this process is one.
pub fn serve() -> Option<ExitCode> {
    worker::serve()
}

fn programs() -> BTreeMap<&'static str, Vec<OsString>> {
    let mut programs = BTreeMap::new();
    programs
        .insert("rust", vec![std::env::current_exe().expect("a program knows its path").into_os_string()]);
    if let Some(c) = std::env::var_os("MEMORA_CHANNELS_C") {
        programs.insert("c", vec![c]);
    }
    if let Ok(java) = std::env::var("MEMORA_CHANNELS_JAVA") {
        programs.insert("java", java.split_whitespace().map(OsString::from).collect());
    }
    programs
}

fn cells() -> Vec<Cell> {
    let mut cells = vec![
        Cell::new("a cache line to and fro", "rust", "floor", "line", 32),
        Cell::new("a cache line for each way", "rust", "floor", "lines", 32),
        Cell::new("bare futex", "rust", "floor", "futex", 32),
    ];
    for size in SIZES {
        for case in ["rate", "spin", "block"] {
            // Calls go to and fro; who sleeps takes one message, a copy.
            let all = CONTESTANTS.iter().filter(|it| match it.name {
                "service" => case != "rate",
                "copied" => case != "block" && (it.program == "rust" || case == "rate"),
                _ => true,
            });
            cells.extend(all.map(|it| Cell::new(it.title, it.program, it.name, case, size)));
        }
    }
    for case in ["one", "two", "queue", "acknowledged"] {
        cells.push(Cell::new("Memora, Rust", "rust", "memora", case, 32));
    }
    // For trying some: `MEMORA_CHANNELS_ONLY` is a part of `case size title`, or several with `|` between them.
    if let Ok(only) = std::env::var("MEMORA_CHANNELS_ONLY") {
        let name = |cell: &Cell| format!("{} {} {}", cell.case, cell.size, cell.title);
        cells.retain(|cell| only.split('|').any(|part| name(cell).contains(part)));
    }
    cells
}

/// Runs the bench.
pub fn run(report: &Report) {
    let folder = crate::folder();
    let programs = programs();
    let mut pairs: BTreeMap<&str, Pair> = BTreeMap::new();
    let mut cells = cells();
    let rounds = number_in("MEMORA_CHANNELS_ROUNDS").unwrap_or(ROUNDS);
    let seconds = number_in("MEMORA_CHANNELS_SECONDS").map_or(f64::INFINITY, |seconds| seconds as f64);
    let (start_of_all, mut last_round, mut number) = (Instant::now(), 0.0, 0);
    let (mut order, mut random): (Vec<usize>, _) = ((0..cells.len()).collect(), Random(1));
    for round in 0..=rounds {
        let begun = start_of_all.elapsed().as_secs_f64();
        if round > 1 && begun + last_round > seconds {
            println!("{} rounds in {begun:.0} s", round - 1);
            break;
        }
        for left in (1..order.len()).rev() {
            order.swap(left, (random.next() % (left as u64 + 1)) as usize);
        }
        for &place in &order {
            let cell = &mut cells[place];
            if cell.missing.is_some() {
                continue;
            }
            number += 1;
            let taken = match start(&mut pairs, &programs, cell.program, folder.path()) {
                Some(pair) => cell.take(pair, number, round > 0),
                None => Err("its program is not there".to_owned()),
            };
            if let Err(why) = taken {
                eprintln!("missing: {} ({} {} B): {why}", cell.title, cell.case, cell.size);
                cell.missing = Some(why);
                // What its processes do now nobody knows: the others get new ones.
                pairs.remove(cell.program);
            }
        }
        last_round = start_of_all.elapsed().as_secs_f64() - begun;
    }
    drop(pairs);
    tell(report, &cells);
    plot::draw(&PathBuf::from("target/bench/channels.svg"), &cells);
}

fn number_in(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn start<'a>(
    pairs: &'a mut BTreeMap<&'static str, Pair>,
    programs: &BTreeMap<&'static str, Vec<OsString>>,
    name: &'static str,
    folder: &Path,
) -> Option<&'a mut Pair> {
    if !pairs.contains_key(name) {
        pairs.insert(name, Pair::new(programs.get(name)?, folder)?);
    }
    pairs.get_mut(name)
}

fn median(cells: &[Cell], case: &str) -> Option<f64> {
    cells
        .iter()
        .find(|cell| cell.case == case)
        .map(|cell| cell.samples.median())
        .filter(|value| value.is_finite())
}

/// Prints and appends all that was measured.
fn tell(report: &Report, cells: &[Cell]) {
    let names: BTreeMap<&str, &str> = BTreeMap::from([
        ("rate", "one way"),
        ("spin", "round trip, both polling"),
        ("block", "round trip, both asleep"),
        ("line", "round trip of one cache line"),
        ("lines", "round trip of a cache line for each way"),
        ("futex", "round trip of a bare futex"),
        ("one", "broadcast to one"),
        ("two", "broadcast to two, polled in turn"),
        ("queue", "queue, two producers and two consumers"),
        ("acknowledged", "queue with acknowledgement, two and two"),
    ]);
    let (line, futex) = (median(cells, "line"), median(cells, "futex"));
    for cell in cells.iter().filter(|cell| cell.missing.is_none() && cell.samples.median().is_finite()) {
        let case = format!("{} B {}: {}", cell.size, names[cell.case], cell.title);
        let procs = 2;
        let (floor, goal) = match cell.case {
            "spin" => (line.map(|value| ("line", value)), None),
            "block" => (futex.map(|value| ("futex", value)), None),
            "two" => (median(cells, "one").map(|value| ("one", value)), Some(">= 70 % of one")),
            "queue" | "acknowledged" => (None, Some(">= 10")),
            "rate" if cell.size == 32 && cell.name == "memora" => {
                (None, Some(if cell.program == "java" { ">= 20" } else { ">= 50" }))
            }
            _ => (None, None),
        };
        let unit = match (cell.is_rate(), cell.is_large()) {
            (true, false) => "M msg/s",
            (true, true) => "k msg/s",
            (false, _) => "ns p50",
        };
        report.add(&Figure {
            bench: "channels",
            case: &case,
            procs,
            unit,
            samples: &cell.samples,
            floor,
            goal,
        });
        if cell.is_rate() {
            continue;
        }
        for (unit, quantile) in [("ns p99", 0.99), ("ns p99.9", 0.999)] {
            let mut samples = Samples::default();
            samples.push(cell.times.value_at_quantile(quantile) as f64);
            report.add(&Figure {
                bench: "channels",
                case: &case,
                procs,
                unit,
                samples: &samples,
                floor: None,
                goal: None,
            });
        }
    }
}
