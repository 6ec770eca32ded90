//! `memora tail` of a topic: the newest value of each key, then what comes.

use std::time::Duration;

use memora::{Error, ErrorCode, Fabric, TopicUpdate};
use serde_json::{Map, Value};

use super::tail::{Ending, LOOK, reader_is_gone};
use crate::output::{Answer, Failure, Outcome, Output, put_value};

pub fn run(
    fabric: &Fabric,
    name: &str,
    named: Option<&str>,
    ending: &Ending,
    output: &mut Output,
) -> Outcome {
    if let Some(named) = named {
        let text = format!("`{name}` is a topic, which has no subscription `{named}`: leave --name out.");
        return Err(Error::new(ErrorCode::InvalidArgument, text).into());
    }
    let mut subscriber = fabric.open_topic(name)?.subscribe()?;
    let mut printed = 0;
    let mut quiet = Duration::ZERO;
    while ending.count.is_none_or(|count| printed < count) {
        let slice = if ending.follow { LOOK } else { LOOK.min(ending.wait.saturating_sub(quiet)) };
        if let Some(update) = subscriber.next(Some(slice))? {
            print(&update, output)?;
            printed += 1;
            quiet = Duration::ZERO;
            continue;
        }
        quiet += slice;
        if reader_is_gone() || !ending.follow && quiet >= ending.wait {
            break;
        }
    }
    Ok(Answer::Yes)
}

/// As text: key and value with a tab between them; the key alone if it was retracted.
fn print(update: &TopicUpdate, output: &mut Output) -> Result<(), Failure> {
    if !output.is_json() {
        let mut line = update.key.clone();
        if let Some(value) = &update.value {
            line.push(b'\t');
            line.extend_from_slice(value);
        }
        return output.line(&line);
    }
    let mut object = Map::new();
    object.insert("key".to_owned(), String::from_utf8_lossy(&update.key).into());
    object.insert("number".to_owned(), update.number.into());
    object.insert("conflated".to_owned(), update.conflated.into());
    match &update.value {
        Some(value) => put_value(&mut object, value),
        None => drop(object.insert("value".to_owned(), Value::Null)),
    }
    output.answer(|| Value::Object(object), String::new)
}
