//! All processes are killed; how soon has a new one found an entry?

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use memora::{Create, FabricOptions};

use crate::harness::{Figure, Report, Samples};

const CHILD: &str = "MEMORA_COMPARE_FILL";
const LIMIT: u64 = 1 << 30;
const VALUE: usize = 4096;
const KEYS: u64 = 200_000;

fn options(home: &Path) -> FabricOptions {
    FabricOptions::new().home(home).limit(LIMIT)
}

/// In the process to be killed: fills the cache, says so, goes on writing. None in the first.
pub fn serve() -> Option<ExitCode> {
    let home = PathBuf::from(std::env::var_os(CHILD)?);
    let parent = std::os::unix::process::parent_id();
    let cache = options(&home).open("warm").and_then(|fabric| fabric.cache("warm")).expect("a cache");
    let mut number = 0;
    while std::os::unix::process::parent_id() == parent {
        cache.set(&crate::peer::key(number % KEYS), &[7; VALUE]).expect("set");
        number += 1;
        if number == KEYS {
            println!("full");
        }
    }
    Some(ExitCode::SUCCESS)
}

/// Fills, kills, attaches, reads.
pub fn run(report: &Report) {
    let folder = crate::folder();
    let mut samples = Samples::default();
    for _ in 0..3 {
        let program = std::env::current_exe().expect("a program knows its path");
        let mut child = Command::new(program)
            .env(CHILD, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("it fills");
        child.kill().and_then(|()| child.wait()).expect("killed");
        let start = Instant::now();
        let fabric = options(folder.path()).create(Create::OpenOnly).open("warm").expect("still there");
        let cache = fabric.cache("warm").expect("still there");
        let found = (0..KEYS).find_map(|number| cache.get(&crate::peer::key(number)).expect("get"));
        samples.push(start.elapsed().as_secs_f64() * 1000.0);
        assert_eq!(found.map(|value| value.len()), Some(VALUE));
    }
    report.add(&Figure {
        bench: "compare",
        case: "first hit after all were killed, 1 GiB",
        procs: 1,
        unit: "ms",
        samples: &samples,
        floor: None,
        goal: Some("10 ms"),
    });
}
