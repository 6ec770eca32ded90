//! `flights`: the main example. Starts everything in a fresh fabric, kills the C program and the first JVM in the middle,
//! and compares the result with a computation in a single thread.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use memora::{Durability, Fabric, FabricOptions, StoreOptions};
use memora_flights::crew::Worker;
use memora_flights::{Result, data, names, reference, verify};

/// How long a killed process stays away: the publisher meets the full ring meanwhile.
const AWAY: Duration = Duration::from_millis(700);
/// How long the consumers may take for what is left when everything was published.
const REST: Duration = Duration::from_secs(60);
/// Name of the fabric.
const FABRIC: &str = "flights";

/// Runs the flights example.
#[derive(Parser)]
struct Arguments {
    /// The C program, built from counter.c
    #[arg(long, default_value = "target/flights/counter")]
    counter: PathBuf,
    /// The jar with the programs flights-late and flights-report
    #[arg(long, default_value = "bindings-java/target/memora.jar")]
    jar: PathBuf,
    /// The Java to use
    #[arg(long, default_value = "java")]
    java: PathBuf,
    /// Directory of flights.csv and airports.csv
    #[arg(long, default_value = "examples/data")]
    data: PathBuf,
    /// Over how many seconds to publish
    #[arg(long, default_value_t = 12.0)]
    seconds: f64,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("flights: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let started = Instant::now();
    for (what, path) in [("the C program", &arguments.counter), ("the jar", &arguments.jar)] {
        if !path.is_file() {
            return Err(format!("{what} is missing at {}; `make run` builds it first", path.display()).into());
        }
    }
    let flights = data::flights(&arguments.data)?;
    let summary = reference::compute(&flights)?;

    // A home of our own on the tmpfs, the files of the store beside the other temporary files: both go away with us.
    let home = temporary(Path::new("/dev/shm"))?;
    let files = temporary(&std::env::temp_dir())?;
    let fabric = FabricOptions::new().home(home.path().join("home")).open(FABRIC)?;
    subscribe_before_publishing(&fabric)?;
    let scene = Scene { arguments, home: home.path().join("home"), store_dir: files.path().join("late") };
    println!(
        "fabric {FABRIC} in {}: {} flights through a ring of {} KiB",
        scene.home.display(),
        flights.len(),
        names::LANE_BYTES / 1024
    );
    play(&scene, flights.len())?;

    let report = output(scene.jar("flights-report"), "the second JVM")?;
    print!("\n{report}");
    let cache = fabric.cache(names::AIRPORTS)?;
    let store = fabric.store(names::LATE_STORE, &scene.store_options())?;
    let mut differences = verify::differences(&summary, &verify::airports(&cache)?, &verify::late(&store)?);
    differences.extend(verify::report(&summary, &data::airport_names(&arguments.data)?, &report));
    drop((cache, store));
    drop(fabric);
    print!("\n{}", output(scene.check()?, "memora check")?);
    if !differences.is_empty() {
        return Err(format!(
            "the result differs from the single-threaded computation:\n{}",
            differences.join("\n")
        )
        .into());
    }
    println!(
        "result equals the single-threaded computation: {} flights, {} airports, {} late, in {:.1} s",
        flights.len(),
        summary.airports.len(),
        summary.late.len(),
        started.elapsed().as_secs_f64()
    );
    Ok(())
}

fn temporary(place: &Path) -> Result<tempfile::TempDir> {
    let place = if place.is_dir() { place.to_owned() } else { std::env::temp_dir() };
    Ok(tempfile::Builder::new().prefix("memora-flights-").tempdir_in(place)?)
}

/// Registers both named subscriptions, so that their places are at the first flight whoever starts first.
fn subscribe_before_publishing(fabric: &Fabric) -> Result<()> {
    let channel = fabric.channel(names::CHANNEL, &memora_flights::channel_options())?;
    for name in [names::COUNTER, names::LATE] {
        drop(channel.subscribe(name)?);
    }
    Ok(())
}

/// What the commands of the processes need.
struct Scene<'a> {
    arguments: &'a Arguments,
    home: PathBuf,
    store_dir: PathBuf,
}

impl Scene<'_> {
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env("MEMORA_HOME", &self.home);
        command
    }

    fn publisher(&self) -> Result<Command> {
        let mut command = self.command(&sibling("flights-publish")?);
        command.args(["--fabric", FABRIC, "--data"]).arg(&self.arguments.data);
        command.arg("--seconds").arg(self.arguments.seconds.to_string()).stdout(Stdio::piped());
        Ok(command)
    }

    fn counter(&self) -> Command {
        let mut command = self.command(&self.arguments.counter);
        command.arg(FABRIC).stdout(Stdio::null());
        command
    }

    fn late(&self) -> Command {
        let mut command = self.jar("flights-late");
        command.stdout(Stdio::null());
        command
    }

    fn jar(&self, program: &str) -> Command {
        let mut command = self.command(&self.arguments.java);
        command.arg("-jar").arg(&self.arguments.jar).arg(program);
        command.args(["--fabric", FABRIC, "--store-dir"]).arg(&self.store_dir);
        command.arg("--airports").arg(self.arguments.data.join("airports.csv"));
        command
    }

    fn check(&self) -> Result<Command> {
        let mut command = self.command(&sibling("memora")?);
        command.args(["check", FABRIC]);
        Ok(command)
    }

    fn store_options(&self) -> StoreOptions {
        StoreOptions {
            dir: Some(self.store_dir.clone()),
            durability: Durability::Async { interval_ms: 100 },
            ..StoreOptions::default()
        }
    }
}

/// A program that was built beside this one.
fn sibling(name: &str) -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    if path.is_file() {
        Ok(path)
    } else {
        Err(format!("{} is missing; `make build` makes it", path.display()).into())
    }
}

/// Runs all processes to their end, two of them killed and started again on the way.
fn play(scene: &Scene, total: usize) -> Result<()> {
    let bar = ProgressBar::new(total as u64)
        .with_style(ProgressStyle::with_template("{elapsed:>3} [{wide_bar}] {pos}/{len} flights  {msg}")?);
    let say = |text: String| if bar.is_hidden() { println!("{text}") } else { bar.println(text) };
    let names = ["C program", "first JVM"];
    let mut workers = [Worker::start(names[0], scene.counter())?, Worker::start(names[1], scene.late())?];
    let mut publisher = Worker::start("publisher", scene.publisher()?)?;
    let progress = publisher.lines();
    let mut killed = 0;
    while let Some(sent) = sent(&progress, &mut publisher)? {
        bar.set_position(sent as u64);
        for worker in &mut workers {
            worker.still_well()?;
        }
        // The first at one third of the flights, the second at two thirds.
        if killed < workers.len() && sent >= total * (killed + 1) / 3 {
            let name = names[killed];
            bar.set_message(format!("{name} killed"));
            let process = workers[killed].kill_and_restart(AWAY)?;
            say(format!(
                "after {sent} flights: {name} (process {process}) killed with SIGKILL, started again"
            ));
            bar.set_message("");
            killed += 1;
        }
    }
    publisher.finish(REST)?;
    if killed < workers.len() {
        return Err("the publisher ended before everybody was killed".into());
    }
    for worker in workers {
        worker.finish(REST)?;
    }
    bar.finish_and_clear();
    Ok(())
}

/// The next number of flights that the publisher tells; none when it has ended.
fn sent(progress: &Receiver<String>, publisher: &mut Worker) -> Result<Option<usize>> {
    match progress.recv_timeout(REST) {
        Ok(line) => {
            let number = line.strip_prefix("sent ").and_then(|number| number.parse().ok());
            Ok(Some(number.ok_or_else(|| format!("the publisher said: {line}"))?))
        }
        Err(RecvTimeoutError::Disconnected) => Ok(None),
        Err(RecvTimeoutError::Timeout) => {
            publisher.still_well()?;
            Err(format!("the publisher did not get on for {REST:?}: some subscriber is stuck").into())
        }
    }
}

/// Runs a command and gives what it printed.
fn output(mut command: Command, name: &str) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("{name}: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        Ok(text)
    } else {
        Err(format!("{name} failed: {}\n{text}", output.status).into())
    }
}
