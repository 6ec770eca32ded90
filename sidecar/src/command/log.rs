//! `memora log`: logs with files.

use memora::{Channel, ChannelKind, ChannelOptions, Durability, LogFiles, OverrunPolicy, Retention};
use serde_json::json;

use super::open::Place;
use crate::cli::{Durable, LogCommand, LogFileOptions, WhenFull};
use crate::output::{Answer, Failure, Outcome, Output};

pub fn run(place: &Place, command: &LogCommand, output: &mut Output) -> Outcome {
    match command {
        LogCommand::Open { log, when_full, log_bytes, log_age, files: given } => {
            let options = ChannelOptions {
                kind: ChannelKind::Log,
                overrun: match when_full {
                    WhenFull::Block => OverrunPolicy::Block,
                    WhenFull::Overrun => OverrunPolicy::Overrun,
                },
                retention: Some(Retention {
                    bytes: log_bytes.unwrap_or(Retention::default().bytes),
                    age: *log_age,
                }),
                files: files(given),
                ..ChannelOptions::default()
            };
            let stats = place.open_or_create()?.channel(log, &options)?.stats()?;
            let (oldest, end) = stats.log.map_or((0, 0), |log| (log.oldest, log.end));
            output.answer(|| json!({ "oldest": oldest, "end": end }), || format!("{oldest} {end}"))?;
        }
        LogCommand::Flush { log } => {
            place.open_or_create()?.open_channel(log)?.flush()?;
            output.answer(|| json!({ "flushed": true }), String::new)?;
        }
    }
    Ok(Answer::Yes)
}

/// The files of a log that is made.
pub fn files(given: &LogFileOptions) -> Option<LogFiles> {
    let mut files = LogFiles::new(given.log_dir.clone()?);
    files.durability = match given.durability {
        Durable::Process => Durability::Process,
        Durable::Async => Durability::default(),
        Durable::Sync => Durability::Sync,
    };
    files.bytes = given.log_dir_bytes;
    files.file_bytes = given.log_file_bytes.unwrap_or(files.file_bytes);
    Some(files)
}

/// This process is gone before the next flush of an async log, and perhaps nobody else is there to do it.
pub fn settle(channel: &Channel) -> Result<(), Failure> {
    match channel.options().files.map(|files| files.durability) {
        Some(Durability::Async { .. }) => Ok(channel.flush()?),
        _ => Ok(()),
    }
}
