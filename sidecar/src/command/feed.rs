//! `memora feed`: the committed changes of a store.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use memora::{Change, Durability, Error, ErrorCode, FeedFrom, ObjectKind, StoreOptions};
use serde_json::{Map, Value};

use super::open::Place;
use super::tail::{Ending, LOOK, reader_is_gone};
use crate::output::{Answer, Outcome, Output, put_value};

/// Prints a line for each change: position, tab, `set` or `del`, tab, key, and of a set tab, value; or a JSON object.
pub fn run(
    place: &Place,
    name: &str,
    from: FeedFrom,
    prefix: &[u8],
    ending: &Ending,
    output: &mut Output,
) -> Outcome {
    let fabric = place.open()?;
    let exists =
        fabric.objects()?.iter().any(|object| object.name == name && object.kind == ObjectKind::Store);
    if !exists {
        return Err(Error::new(ErrorCode::NotFound, format!("There is no store `{name}`.")).into());
    }
    // Looking flushes nothing.
    let options = StoreOptions { durability: Durability::Process, ..StoreOptions::default() };
    let mut feed = fabric.store(name, &options)?.feed(from, prefix)?;
    let mut printed = 0;
    let mut quiet = Duration::ZERO;
    while ending.count.is_none_or(|count| printed < count) {
        let slice = if ending.follow { LOOK } else { LOOK.min(ending.wait.saturating_sub(quiet)) };
        if let Some(change) = feed.next(Some(slice))? {
            output.line(&line(&change, output.is_json()))?;
            printed += 1;
            quiet = Duration::ZERO;
            continue;
        }
        quiet += slice;
        if reader_is_gone() || (!ending.follow && quiet >= ending.wait) {
            break;
        }
    }
    Ok(Answer::Yes)
}

fn line(change: &Change, json: bool) -> Vec<u8> {
    let position = change.position.to_string();
    if !json {
        return match &change.value {
            Some(value) => [position.as_bytes(), b"\tset\t", &change.key, b"\t", value].concat(),
            None => [position.as_bytes(), b"\tdel\t", &change.key].concat(),
        };
    }
    let mut object = Map::new();
    object.insert("position".to_owned(), position.into());
    match std::str::from_utf8(&change.key) {
        Ok(text) => object.insert("key".to_owned(), text.into()),
        Err(_) => object.insert("key_base64".to_owned(), STANDARD.encode(&change.key).into()),
    };
    object.insert("deleted".to_owned(), change.value.is_none().into());
    if let Some(value) = &change.value {
        put_value(&mut object, value);
        object.insert("flags".to_owned(), change.flags.into());
        object.insert("expires_ms".to_owned(), change.expires_ms.into());
    }
    object.insert("order".to_owned(), change.order.into());
    Value::Object(object).to_string().into_bytes()
}
