//! Measuring, and writing the results down.
//!
//! Cases that are compared run interleaved: one sample of each in turn, so that a machine whose speed drifts treats all
//! alike. A figure is the median of the samples with the lowest and the highest beside it. Results are appended as JSON
//! lines, one a case: `bench`, `case`, `lang`, `procs`, `value`, `unit`, `lo`, `hi`, `floor`, `peers`, `commit`, `machine`.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

use serde_json::{Value, json};

/// The samples of one case.
#[derive(Clone, Debug, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// Adds a sample.
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }

    /// The middle sample.
    pub fn median(&self) -> f64 {
        let sorted = self.sorted();
        sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
    }

    /// The lowest sample.
    pub fn low(&self) -> f64 {
        self.sorted().first().copied().unwrap_or(f64::NAN)
    }

    /// The highest sample.
    pub fn high(&self) -> f64 {
        self.sorted().last().copied().unwrap_or(f64::NAN)
    }
}

/// A case to measure: its name and what takes one sample.
pub type Case<'a> = (&'static str, Box<dyn FnMut() -> f64 + 'a>);

/// Takes `rounds` samples of each case, interleaved, after one round that does not count.
pub fn interleave(rounds: usize, cases: &mut [Case<'_>]) -> Vec<Samples> {
    let mut samples = vec![Samples::default(); cases.len()];
    for round in 0..=rounds {
        for (place, (_, take)) in cases.iter_mut().enumerate() {
            let value = take();
            if round > 0 {
                samples[place].push(value);
            }
        }
    }
    samples
}

/// One measured figure.
pub struct Figure<'a> {
    /// The part of the product.
    pub bench: &'a str,
    /// What was done, with its sizes.
    pub case: &'a str,
    /// Processes taking part.
    pub procs: u32,
    /// Unit of the value, such as `ns/op`.
    pub unit: &'a str,
    /// The samples of the run.
    pub samples: &'a Samples,
    /// What the hardware allows, measured in the same run: its name and value.
    pub floor: Option<(&'a str, f64)>,
    /// What we want to reach.
    pub goal: Option<&'a str>,
}

/// Where results go: `--results FILE`, else `target/bench/results.jsonl` of the workspace.
pub struct Report {
    file: PathBuf,
    commit: String,
    machine: String,
}

impl Report {
    /// A report that appends to `file`.
    pub fn new(file: PathBuf) -> Report {
        Report { file, commit: commit(), machine: machine() }
    }

    /// Prints one result and appends it.
    pub fn add(&self, figure: &Figure<'_>) {
        self.add_beside(figure, &[]);
    }

    /// The same beside what others reached in the same run.
    pub fn add_beside(&self, figure: &Figure<'_>, peers: &[(&str, f64)]) {
        let Figure { bench, case, unit, samples, floor, goal, .. } = figure;
        let floor_text = floor.map_or(String::new(), |(name, value)| format!("   floor {name}: {value:.1}"));
        let goal_text = goal.map_or(String::new(), |goal| format!("   goal {goal}"));
        println!(
            "{bench:<8} {case:<44} {:>12.1} {unit:<10} ({:.1} to {:.1}){floor_text}{goal_text}",
            samples.median(),
            samples.low(),
            samples.high()
        );
        for (name, value) in peers {
            println!("{:<8} {name:<44} {value:>12.1} {unit}", "");
        }
        self.append(figure, peers);
    }

    /// Appends a result without printing it.
    pub fn append(&self, figure: &Figure<'_>, peers: &[(&str, f64)]) {
        let Figure { bench, case, procs, unit, samples, floor, .. } = figure;
        let peers: Vec<Value> =
            peers.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
        let line = json!({
            "bench": bench, "case": case, "lang": "rust", "procs": procs,
            "value": samples.median(), "unit": unit, "lo": samples.low(), "hi": samples.high(),
            "floor": floor.map_or(Value::Null, |(name, value)| json!({"name": name, "value": value})),
            "peers": peers, "commit": self.commit, "machine": self.machine,
        });
        if let Err(error) = self.write(&line) {
            eprintln!("results are not written to {}: {error}", self.file.display());
        }
    }

    fn write(&self, line: &Value) -> std::io::Result<()> {
        if let Some(folder) = self.file.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mut file = OpenOptions::new().create(true).append(true).open(&self.file)?;
        writeln!(file, "{line}")
    }
}

fn commit() -> String {
    let output = std::process::Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
    output.map_or(String::new(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Processor, number of cores and kernel.
fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, name)| name.to_owned()))
        .unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, |cores| cores.get());
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{model}, {cores} cores, Linux {}", kernel.trim())
}

/// A small fast generator (SplitMix64, Steele, Lea and Flood 2014): only the order of accesses depends on it.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }
}
