//! `memora event`, `memora counter`, `memora lock` and `memora semaphore`: the signals of a fabric.

use std::ffi::OsString;
use std::process::Command;
use std::time::Duration;

use memora::{ErrorCode, Notified, SignalState};
use serde_json::{Value, json};

use super::open::Place;
use crate::cli::{CounterChange, EventCommand};
use crate::output::{Answer, Failure, Outcome, Output};

/// What the program that runs under a lock or permit finds in its environment when an owner died before.
const OWNER_DIED: &str = "MEMORA_OWNER_DIED";

/// Notifies, or waits.
pub fn event(place: &Place, command: EventCommand, output: &mut Output) -> Outcome {
    match command {
        EventCommand::Notify { name, one } => {
            let event = place.open_or_create()?.event(&name)?;
            if one {
                event.notify_one()?;
            } else {
                event.notify_all()?;
            }
            let sequence = event.sequence()?;
            output.answer(|| json!({ "sequence": sequence }), || sequence.to_string())?;
            Ok(Answer::Yes)
        }
        EventCommand::Wait { name, seen, timeout } => {
            let event = place.open_or_create()?.event(&name)?;
            let seen = seen.map_or_else(|| event.sequence(), Ok)?;
            let (sequence, one) = match event.wait(seen, timeout) {
                Ok(Notified::All(sequence)) => (sequence, false),
                Ok(Notified::One) => (seen, true),
                Err(error) if error.code() == ErrorCode::TimedOut => return Ok(Answer::No),
                Err(error) => return Err(error.into()),
            };
            output.answer(|| json!({ "sequence": sequence, "one": one }), || sequence.to_string())?;
            Ok(Answer::Yes)
        }
    }
}

/// Prints the value of a counter, after a change or a wait.
pub fn counter(
    place: &Place,
    name: &str,
    change: &CounterChange,
    timeout: Option<Duration>,
    output: &mut Output,
) -> Outcome {
    let counter = place.open_or_create()?.counter(name)?;
    let value = if let Some(delta) = change.add {
        counter.add(delta)?
    } else if let Some(value) = change.set {
        counter.set(value)?;
        value
    } else if let Some(least) = change.wait_at_least {
        match counter.wait_at_least(least, timeout) {
            Err(error) if error.code() == ErrorCode::TimedOut => return Ok(Answer::No),
            value => value?,
        }
    } else {
        counter.get()?
    };
    output.answer(|| json!({ "value": value }), || value.to_string())?;
    Ok(Answer::Yes)
}

/// Runs a program while it holds the lock. A program that ends well says that what the lock guards is whole.
pub fn lock(place: &Place, name: &str, timeout: Option<Duration>, program: &[OsString]) -> Outcome {
    let lock = place.open_or_create()?.lock(name)?;
    let mut guard = match timeout {
        None => lock.lock()?,
        Some(timeout) => lock.lock_timeout(timeout)?,
    };
    let answer = run(program, guard.owner_died()?)?;
    if answer == Answer::Yes {
        guard.mark_consistent()?;
    }
    guard.unlock()?;
    Ok(answer)
}

/// Runs a program while it holds permits.
pub fn semaphore(
    place: &Place,
    name: &str,
    permits: Option<u32>,
    count: u32,
    timeout: Option<Duration>,
    program: &[OsString],
) -> Outcome {
    let semaphore = match permits {
        None => place.open()?.open_semaphore(name)?,
        Some(permits) => place.open_or_create()?.semaphore(name, permits)?,
    };
    let held = match timeout {
        None => semaphore.acquire(count)?,
        Some(timeout) => semaphore.acquire_timeout(count, timeout)?,
    };
    let answer = run(program, held.owner_died())?;
    held.release()?;
    Ok(answer)
}

fn run(program: &[OsString], owner_died: bool) -> Outcome {
    let Some((name, arguments)) = program.split_first() else { return Ok(Answer::Yes) };
    let status = Command::new(name)
        .args(arguments)
        .env(OWNER_DIED, if owner_died { "1" } else { "0" })
        .status()
        .map_err(|error| Failure::Io("the program", error))?;
    // As shells do: 128 and the signal that ended it.
    let code = status
        .code()
        .unwrap_or_else(|| 128 + std::os::unix::process::ExitStatusExt::signal(&status).unwrap_or_default());
    Ok(match code {
        0 => Answer::Yes,
        code => Answer::Code(u8::try_from(code).unwrap_or(u8::MAX)),
    })
}

/// How a signal stands: for text and JSON alike.
pub fn figures(state: &SignalState) -> Vec<(&'static str, Value)> {
    let thread = |(pid, tid): (u32, u32)| json!({ "pid": pid, "tid": tid });
    match state {
        SignalState::Event { sequence, pending } => {
            vec![("sequence", (*sequence).into()), ("pending", (*pending).into())]
        }
        SignalState::Counter(value) => vec![("value", (*value).into())],
        SignalState::Lock(state) => {
            vec![("owner", state.owner.map_or(Value::Null, thread)), ("owner_died", state.owner_died.into())]
        }
        SignalState::Semaphore(state) => {
            let holders: Vec<_> = state
                .holders
                .iter()
                .map(|(holder, count)| {
                    let mut holder = thread(*holder);
                    holder["permits"] = (*count).into();
                    holder
                })
                .collect();
            vec![("permits", state.permits.into()), ("free", state.free.into()), ("holders", holders.into())]
        }
    }
}
