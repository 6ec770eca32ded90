//! `memora tail`: the messages of a channel.

use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::time::Duration;

use memora::{Channel, ChannelKind, Consumer, Delivery, Error, ErrorCode, ObjectKind, Subscriber};
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

/// What the messages come from.
enum Source {
    /// Everybody else gets them, too.
    Subscriber(Subscriber),
    /// Nobody else gets them.
    Consumer(Consumer),
}

/// A message that stands in the buffer of [`Source::recv`].
struct Head {
    lane: u32,
    position: u64,
    /// Of a queue.
    delivery: Option<Delivery>,
}

impl Source {
    fn recv(&mut self, into: &mut Vec<u8>, wait: Duration) -> Result<Option<Head>, Error> {
        match self {
            Source::Subscriber(subscriber) => Ok(subscriber.recv(into, Some(wait))?.map(|message| Head {
                lane: message.lane,
                position: message.position,
                delivery: None,
            })),
            Source::Consumer(consumer) => Ok(consumer.recv(into, Some(wait))?.map(|delivery| Head {
                lane: delivery.lane,
                position: delivery.position,
                delivery: Some(delivery),
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

fn source(channel: &Channel, name: Option<&str>, take: bool) -> Result<Source, Error> {
    let queue = channel.options().kind == ChannelKind::Queue;
    let refuse = |text: String| Err(Error::new(ErrorCode::WrongKind, text));
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

pub fn run(
    place: &Place,
    channel: &str,
    name: Option<&str>,
    take: bool,
    ending: &Ending,
    output: &mut Output,
) -> Outcome {
    let fabric = place.open()?;
    if matches!(fabric.object_kind(channel), Ok(ObjectKind::Topic)) {
        return tail_topic::run(&fabric, channel, name, ending, output);
    }
    let channel = fabric.open_channel(channel)?;
    let mut source = source(&channel, name, take)?;
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
    if let Source::Subscriber(subscriber) = &mut source {
        // What was printed was handled: a named subscription goes on after it.
        subscriber.commit()?;
    }
    Ok(Answer::Yes)
}

fn print(head: &Head, message: &[u8], output: &mut Output) -> Result<(), Failure> {
    if !output.is_json() {
        return output.line(message);
    }
    let mut object = Map::new();
    object.insert("lane".to_owned(), head.lane.into());
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
