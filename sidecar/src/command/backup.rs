//! `memora backup` and `memora restore`.

use std::io::Write;
use std::path::Path;

use memora::{BackupInfo, Durability, RestoreOptions, StoreOptions};
use serde_json::json;

use super::open::Place;
use super::progress::Bar;
use crate::output::{self, Answer, Outcome, Output};

pub fn run(place: &Place, store: &str, target: &Path, output: &mut Output) -> Outcome {
    // Looking is enough: nothing of the store changes, and a handle of this durability flushes nothing.
    let fabric = place.open_existing(store)?;
    let options = StoreOptions { durability: Durability::Process, ..StoreOptions::default() };
    let store = fabric.store(store, &options)?;
    let bar = Bar::bytes("backup");
    if target == Path::new("-") {
        let mut stream = std::io::BufWriter::with_capacity(1 << 20, std::io::stdout().lock());
        store.backup_to(&mut stream, |done, total| bar.at(done, total))?;
        stream.flush()?;
        bar.end();
        return Ok(Answer::Yes);
    }
    let info = store.backup(target, |done, total| bar.at(done, total))?;
    bar.end();
    say("backed up", &info, target, output)
}

pub fn restore(source: &Path, target: &Path, options: RestoreOptions, output: &mut Output) -> Outcome {
    let bar = Bar::bytes("restore");
    let info = if source == Path::new("-") {
        let mut stream = std::io::BufReader::with_capacity(1 << 20, std::io::stdin().lock());
        memora::restore_from(&mut stream, target, &options, |done| bar.at(done, done))?
    } else {
        memora::restore(source, target, &options, |done, total| bar.at(done, total))?
    };
    bar.end();
    say("restored", &info, target, output)
}

fn say(what: &str, info: &BackupInfo, target: &Path, output: &mut Output) -> Outcome {
    let target = target.display();
    output.answer(
        || {
            json!({
                "store": info.store, "dir": target.to_string(), "records": info.records, "bytes": info.bytes,
                "begun_ms": info.begun_ms,
            })
        },
        || {
            format!(
                "{target}: {what} `{}`, {} records, {}",
                info.store,
                info.records,
                output::bytes(info.bytes)
            )
        },
    )?;
    Ok(Answer::Yes)
}
