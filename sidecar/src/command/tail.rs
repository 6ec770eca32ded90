//! `memora tail`: the messages of a channel.

use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::time::Duration;

use memora::{ErrorCode, Message};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::{Map, Value, json};

use super::open::Place;
use crate::output::{Answer, Failure, Outcome, Output, put_value};

/// How often a quiet channel is left to see whether our reader is still there.
const LOOK: Duration = Duration::from_millis(200);

/// When to end.
pub struct Ending {
    pub follow: bool,
    pub count: Option<u64>,
    pub wait: Duration,
}

pub fn run(
    place: &Place,
    channel: &str,
    name: Option<&str>,
    ending: &Ending,
    output: &mut Output,
) -> Outcome {
    let channel = place.open()?.open_channel(channel)?;
    let mut subscriber = match name {
        Some(name) => channel.subscribe(name)?,
        None => channel.subscriber()?,
    };
    let mut message = Vec::new();
    let mut printed = 0;
    let mut quiet = Duration::ZERO;
    while ending.count.is_none_or(|count| printed < count) {
        let slice = if ending.follow { LOOK } else { LOOK.min(ending.wait.saturating_sub(quiet)) };
        match subscriber.recv(&mut message, Some(slice)) {
            Ok(Some(head)) => {
                print(&head, &message, output)?;
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
    subscriber.commit()?;
    Ok(Answer::Yes)
}

fn print(head: &Message, message: &[u8], output: &mut Output) -> Result<(), Failure> {
    if !output.is_json() {
        return output.line(message);
    }
    let mut object = Map::new();
    object.insert("lane".to_owned(), head.lane.into());
    object.insert("position".to_owned(), head.position.into());
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
fn reader_is_gone() -> bool {
    let stdout = std::io::stdout();
    if stdout.is_terminal() {
        return false;
    }
    let mut stdout = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
    matches!(poll(&mut stdout, PollTimeout::ZERO), Ok(1..))
        && stdout[0].revents().is_some_and(|seen| seen.contains(PollFlags::POLLERR))
}
