//! `memora tail`: the messages of a channel.

use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::time::Duration;

use memora::{
    Channel, ChannelKind, Consumer, Delivery, Error, ErrorCode, LogReader, ObjectKind, ReadFrom, Subscriber,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::{Map, Value, json};

use super::open::Place;
use super::tail_topic;
use crate::output::{Answer, Failure, Outcome, Output, put_value};

/// How often a quiet channel is left to see whether our reader is still there.
pub const LOOK: Duration = Duration::from_millis(200);

/// When to end.
pub struct Ending {
    pub follow: bool,
    pub count: Option<u64>,
    pub wait: Duration,
}

/// Which messages, and as whom.
pub struct Which<'a> {
    pub name: Option<&'a str>,
    /// Take them from the consumers of a queue.
    pub take: bool,
    /// Of a log.
    pub from: Option<ReadFrom>,
}

/// What the messages come from.
enum Source {
    /// Everybody else gets them, too.
    Subscriber(Subscriber),
    /// Nobody else gets them.
    Consumer(Consumer),
    /// They are kept.
    Log(LogReader),
}

/// A message that stands in the buffer of [`Source::recv`].
struct Head {
    /// None on a log.
    lane: Option<u32>,
    position: u64,
    /// Of a queue.
    delivery: Option<Delivery>,
}

impl Source {
    fn recv(&mut self, into: &mut Vec<u8>, wait: Duration) -> Result<Option<Head>, Error> {
        match self {
            Source::Subscriber(subscriber) => Ok(subscriber.recv(into, Some(wait))?.map(|message| Head {
                lane: Some(message.lane),
                position: message.position,
                delivery: None,
            })),
            Source::Consumer(consumer) => Ok(consumer.recv(into, Some(wait))?.map(|delivery| Head {
                lane: Some(delivery.lane),
                position: delivery.position,
                delivery: Some(delivery),
            })),
            Source::Log(reader) => Ok(reader.recv(into, Some(wait))?.map(|message| Head {
                lane: None,
                position: message.position,
                delivery: None,
            })),
        }
    }

    /// The message was printed: a consumer acknowledges it, where that is asked for.
    fn printed(&mut self, head: &Head) -> Result<(), Error> {
        match (self, &head.delivery) {
            // A queue without acknowledgement has nobody with a number.
            (Source::Consumer(consumer), Some(delivery)) if consumer.id().is_some() => {
                consumer.ack(&delivery.receipt)
            }
            _ => Ok(()),
        }
    }
}

fn source(channel: &Channel, which: &Which<'_>) -> Result<Source, Error> {
    let Which { name, take, from } = *which;
    let kind = channel.options().kind;
    let queue = kind == ChannelKind::Queue;
    let refuse = |text: String| Err(Error::new(ErrorCode::WrongKind, text));
    if kind == ChannelKind::Log && !take {
        let from = from.unwrap_or(ReadFrom::Newest);
        return Ok(Source::Log(match name {
            Some(name) => channel.named_reader(name, from)?,
            None => channel.reader(from)?,
        }));
    }
    if from.is_some() {
        return refuse(format!("Channel `{}` is no log: it cannot be read from a position.", channel.name()));
    }
    match (queue, take, name) {
        (true, true, _) => Ok(Source::Consumer(channel.consumer()?)),
        (true, false, _) => refuse(format!(
            "Channel `{}` is a queue: who reads a message takes it from its consumers. `--take` does that; `memora stat` shows \
             what waits.",
            channel.name()
        )),
        (false, true, _) => {
            refuse(format!("Channel `{}` is no queue: `--take` is not for it.", channel.name()))
        }
        (false, false, Some(name)) => Ok(Source::Subscriber(channel.subscribe(name)?)),
        (false, false, None) => Ok(Source::Subscriber(channel.subscriber()?)),
    }
}

pub fn run(place: &Place, channel: &str, which: &Which<'_>, ending: &Ending, output: &mut Output) -> Outcome {
    let fabric = place.open()?;
    if matches!(fabric.object_kind(channel), Ok(ObjectKind::Topic)) {
        return tail_topic::run(&fabric, channel, which.name, ending, output);
    }
    let channel = fabric.open_channel(channel)?;
    let mut source = source(&channel, which)?;
    let mut message = Vec::new();
    let mut printed = 0;
    let mut quiet = Duration::ZERO;
    while ending.count.is_none_or(|count| printed < count) {
        let slice = if ending.follow { LOOK } else { LOOK.min(ending.wait.saturating_sub(quiet)) };
        match source.recv(&mut message, slice) {
            Ok(Some(head)) => {
                print(&head, &message, output)?;
                source.printed(&head)?;
                printed += 1;
                quiet = Duration::ZERO;
                continue;
            }
            Err(error) if error.code() == ErrorCode::Overrun => {
                lost(error.amount(), output)?;
                continue;
            }
            Ok(None) => {}
            Err(error) if error.code() == ErrorCode::TimedOut => {}
            Err(error) => return Err(error.into()),
        }
        quiet += slice;
        if reader_is_gone() {
            break;
        }
        if !ending.follow && quiet >= ending.wait {
            break;
        }
    }
    // What was printed was handled: a named subscription goes on after it.
    match &mut source {
        Source::Subscriber(subscriber) => subscriber.commit()?,
        Source::Log(reader) => reader.commit()?,
        Source::Consumer(_) => {}
    }
    Ok(Answer::Yes)
}

fn print(head: &Head, message: &[u8], output: &mut Output) -> Result<(), Failure> {
    if !output.is_json() {
        return output.line(message);
    }
    let mut object = Map::new();
    if let Some(lane) = head.lane {
        object.insert("lane".to_owned(), lane.into());
    }
    object.insert("position".to_owned(), head.position.into());
    if let Some(delivery) = &head.delivery {
        object.insert("deliveries".to_owned(), delivery.deliveries.into());
        object.insert("redelivered".to_owned(), delivery.redelivered.into());
    }
    put_value(&mut object, message);
    output.answer(|| Value::Object(object), String::new)
}

fn lost(count: u64, output: &mut Output) -> Result<(), Failure> {
    if output.is_json() {
        return output.answer(|| json!({ "lost": count }), String::new);
    }
    eprintln!("memora: {count} messages were lost: this subscriber is too slow");
    Ok(())
}

/// Whether the other end of our pipe was closed: a quiet channel would not show it by a write.
pub fn reader_is_gone() -> bool {
    let stdout = std::io::stdout();
    if stdout.is_terminal() {
        return false;
    }
    let mut stdout = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
    matches!(poll(&mut stdout, PollTimeout::ZERO), Ok(1..))
        && stdout[0].revents().is_some_and(|seen| seen.contains(PollFlags::POLLERR))
}
