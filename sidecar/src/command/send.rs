//! `memora send`: messages on a channel.

use std::ffi::OsString;
use std::io::BufRead;
use std::time::Duration;

use memora::{
    Acknowledge, Appender, Channel, ChannelKind, ChannelOptions, DeadLetters, ErrorCode, Fabric,
    OverrunPolicy, Publisher, Retention,
};
use serde_json::json;

use super::log::{files, settle};
use super::open::{Place, value};
use crate::cli::{Kind, LogFileOptions, QueueOptions, WhenFull};
use crate::output::{Answer, Failure, Outcome, Output};

/// How the channel is made if it is not there yet.
pub struct Making {
    pub kind: Kind,
    pub when_full: WhenFull,
    pub lane_bytes: Option<u32>,
    pub queue: QueueOptions,
    pub log_bytes: Option<u64>,
    pub log_age: Option<Duration>,
    pub log_files: LogFileOptions,
}

/// The sending end.
enum Sender {
    Lane(Publisher),
    Log(Appender),
}

impl Sender {
    fn send(&mut self, message: &[u8], timeout: Duration) -> memora::Result<u64> {
        match self {
            Sender::Lane(publisher) => publisher.send_timeout(message, timeout),
            Sender::Log(appender) => appender.append(message),
        }
    }
}

pub fn run(
    place: &Place,
    name: &str,
    message: OsString,
    lines: bool,
    making: &Making,
    timeout: Duration,
    output: &mut Output,
) -> Outcome {
    let by_line = lines && message == "-";
    // Standard input is read before anything is made, so that a broken pipe there changes nothing.
    let whole = if by_line { None } else { Some(value(message)?) };
    let fabric = place.open_or_create()?;
    let channel = open_or_make(&fabric, name, making)?;
    let mut sender = match channel.options().kind {
        ChannelKind::Log => Sender::Log(channel.appender()?),
        _ => Sender::Lane(channel.publisher()?),
    };
    let mut sent = 0u64;
    let mut position = 0;
    match whole {
        Some(message) => {
            position = sender.send(&message, timeout)?;
            sent = 1;
        }
        None => {
            for line in std::io::stdin().lock().split(b'\n') {
                let line = line.map_err(|error| Failure::Io("standard input", error))?;
                position = sender.send(&line, timeout)?;
                sent += 1;
            }
        }
    }
    settle(&channel)?;
    output.answer(|| json!({ "sent": sent, "position": position }), String::new)?;
    Ok(Answer::Yes)
}

fn open_or_make(fabric: &Fabric, name: &str, making: &Making) -> Result<Channel, Failure> {
    match fabric.open_channel(name) {
        Err(error) if error.code() == ErrorCode::NotFound => {}
        other => return Ok(other?),
    }
    let mut options = ChannelOptions {
        kind: match making.kind {
            Kind::Stream => ChannelKind::Stream,
            Kind::Broadcast => ChannelKind::Broadcast,
            Kind::Queue => ChannelKind::Queue,
            Kind::Log => ChannelKind::Log,
        },
        overrun: match making.when_full {
            WhenFull::Block => OverrunPolicy::Block,
            WhenFull::Overrun => OverrunPolicy::Overrun,
        },
        acknowledge: acknowledge(&making.queue),
        ..ChannelOptions::default()
    };
    if making.kind == Kind::Log {
        let bytes = making.log_bytes.unwrap_or(Retention::default().bytes);
        options.retention = Some(Retention { bytes, age: making.log_age });
        options.files = files(&making.log_files);
    }
    if let Some(lane_bytes) = making.lane_bytes {
        options.lane_bytes = lane_bytes;
    }
    Ok(fabric.channel(name, &options)?)
}

fn acknowledge(queue: &QueueOptions) -> Option<Acknowledge> {
    let QueueOptions { acknowledge, visibility, dead_letters, deliveries } = queue;
    let dead_letters = dead_letters.clone().zip(*deliveries);
    acknowledge.then(|| Acknowledge {
        visibility: *visibility,
        dead_letters: dead_letters.map(|(channel, after)| DeadLetters { after, channel }),
    })
}
