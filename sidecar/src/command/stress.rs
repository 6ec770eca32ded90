//! `memora stress`: a worker whose history a checker can judge (docs/stress.md).

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use memora_stress::queue::{QueueOptions, Role as WorkerRole};
use memora_stress::work::Role as QueueRole;
use memora_stress::{Bound, Options};

use super::open::Place;
use crate::cli::{Role, StressOptions, Work, WorkRole};
use crate::output::{Answer, Failure, Outcome};

pub fn run(place: &Place, work: Work) -> Outcome {
    if let Some(home) = &place.home {
        run_in(home)?;
    }
    let done = match work {
        Work::Kv { options } => memora_stress::kv::kv(&worker(place, options)),
        Work::Evict { options } => memora_stress::evict::evict(&worker(place, options)),
        Work::Queue { options, role, subscription } => {
            let role = match role {
                Role::Both => WorkerRole::Both,
                Role::Produce => WorkerRole::Produce,
                Role::Consume => WorkerRole::Consume,
            };
            memora_stress::queue::queue(&worker(place, options), &QueueOptions { role, subscription })
        }
        Work::Jobs { options, role } => {
            let role = match role {
                WorkRole::Both => QueueRole::Both,
                WorkRole::Produce => QueueRole::Produce,
                WorkRole::Consume => QueueRole::Consume,
                WorkRole::Drain => QueueRole::Drain,
            };
            memora_stress::work::work(&worker(place, options), role)
        }
    };
    match done {
        Ok(()) => Ok(Answer::Yes),
        // The workers of all languages end with 1 here, so that one driver serves them.
        Err(failure) => {
            eprintln!("memora: {failure}");
            Ok(Answer::No)
        }
    }
}

fn worker(place: &Place, options: StressOptions) -> Options {
    let bound = match (options.ops, options.seconds) {
        (Some(count), _) => Bound::Operations(count),
        (None, Some(seconds)) => Bound::Time(Duration::from_secs(seconds)),
        (None, None) => Bound::Killed,
    };
    Options {
        fabric: place.fabric.clone(),
        seed: options.seed,
        history: options.history,
        bound,
        burst: options.burst,
    }
}

/// The workers find their fabric by the environment alone: where `--home` says something else, this process starts anew
/// with it (same process id, so that a killer still has its target).
fn run_in(home: &std::path::Path) -> Result<(), Failure> {
    if std::env::var_os("MEMORA_HOME").as_deref() == Some(home.as_os_str()) {
        return Ok(());
    }
    let failed = |error| Failure::Io("starting anew with another home", error);
    let program = std::env::current_exe().map_err(failed)?;
    Err(failed(Command::new(program).args(std::env::args_os().skip(1)).env("MEMORA_HOME", home).exec()))
}
