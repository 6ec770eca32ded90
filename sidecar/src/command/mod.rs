//! One file for each command; all arguments were validated before.

mod backup;
mod call;
mod check;
mod del;
mod doctor;
mod export;
mod feed;
mod get;
mod import;
mod incr;
mod log;
mod ls;
mod open;
mod progress;
mod repair;
mod replay;
mod rm;
mod scan;
mod send;
mod set;
mod signal;
mod stat;
mod stat_cache;
mod store;
mod stress;
mod tail;
mod tail_topic;
mod version;

use std::path::PathBuf;

use crate::cli::{Cli, Command};
use crate::output::{Outcome, Output};
use open::Place;

/// Does what the arguments say.
pub fn run(cli: Cli, output: &mut Output) -> Outcome {
    let place = Place::new(&cli.global);
    match cli.command {
        Command::Ls => ls::run(&place, output),
        Command::Stat { name, object } => stat::run(&place, name.as_deref(), object.as_deref(), output),
        Command::Check { dir: Some(dir), .. } => check::run_files(&dir, output),
        Command::Check { name, dir: None } => check::run(&place, name.as_deref(), output),
        Command::Backup { store, target } => backup::run(&place, &store, &target, output),
        Command::Restore { source, target, name, overwrite } => {
            backup::restore(&source, &target, memora::RestoreOptions { name, overwrite }, output)
        }
        Command::Repair { dir, yes, dry_run: _, name } => {
            repair::run(&dir, memora::RepairOptions { apply: yes, name }, output)
        }
        Command::Export { object, file, form } => export::run(&place, &object, &file, form, output),
        Command::Import { object, file, form, dir } => {
            import::run(&place, &object, &file, form, dir.as_deref(), output)
        }
        Command::Rm { name, force } => rm::run(&place, &name, force, output),
        Command::Get { cache, key } => get::run(&place, &cache.cache, &key, output),
        Command::Set { cache, key, value, ttl, flags } => {
            set::run(&place, &cache.cache, &key, value, ttl, flags, output)
        }
        Command::Del { cache, key } => del::run(&place, &cache.cache, &key, output),
        Command::Incr { cache, key, by, down, initial } => {
            incr::run(&place, &cache.cache, &key, by, down, initial, output)
        }
        Command::Send {
            channel,
            message,
            lines,
            kind,
            when_full,
            lane_bytes,
            queue,
            log_bytes,
            log_age,
            log_files,
            timeout,
        } => {
            let making = send::Making { kind, when_full, lane_bytes, queue, log_bytes, log_age, log_files };
            send::run(&place, &channel, message, lines, &making, timeout, output)
        }
        Command::Call { service, request, timeout } => call::run(&place, &service, request, timeout, output),
        Command::Tail { channel, name, take, from, follow, count, wait } => {
            let ending = tail::Ending { follow, count, wait };
            let which = tail::Which { name: name.as_deref(), take, from };
            tail::run(&place, &channel, &which, &ending, output)
        }
        Command::Feed { store, from, prefix, follow, count, wait } => {
            let ending = tail::Ending { follow, count, wait };
            let prefix = prefix.map_or(Vec::new(), |prefix| prefix.0);
            feed::run(&place, &store, from, &prefix, &ending, output)
        }
        Command::Event { command } => signal::event(&place, command, output),
        Command::Counter { name, change, timeout } => {
            signal::counter(&place, &name, &change, timeout, output)
        }
        Command::Lock { name, timeout, program } => signal::lock(&place, &name, timeout, &program),
        Command::Semaphore { name, permits, count, timeout, program } => {
            signal::semaphore(&place, &name, permits, count, timeout, &program)
        }
        Command::Doctor { strict } => doctor::run(&home(cli.global.home), strict, output),
        Command::Log { command } => log::run(&place, &command, output),
        Command::Scan { store, range } => scan::run(&place, &store, &range, output),
        Command::Store { store, command } => store::run(&place, store, command, output),
        Command::Stress { work } => stress::run(&place, work),
        Command::Replay { options } => replay::run(&options, output),
        Command::Version => version::run(output),
    }
}

/// Where fabrics are, as the library chooses it.
fn home(chosen: Option<PathBuf>) -> PathBuf {
    chosen.unwrap_or_else(|| PathBuf::from(format!("/dev/shm/memora-{}", nix::unistd::geteuid())))
}
