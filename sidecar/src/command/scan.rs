//! `memora scan`: entries of a store in the order of their keys.

use std::ops::Bound;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use memora::{Direction, Durability, Entry, Error, ErrorCode, ObjectKind, StoreOptions};
use serde_json::{Map, Value};

use super::open::Place;
use crate::cli::ScanRange;
use crate::output::{Answer, Failure, Outcome, Output, put_value};

/// Entries that are copied at once.
const PAGE: usize = 256;

/// Prints a line for each entry: key, tab, value; or a JSON object. None is a no.
pub fn run(place: &Place, name: &str, range: &ScanRange, output: &mut Output) -> Outcome {
    let fabric = place.open()?;
    let exists =
        fabric.objects()?.iter().any(|object| object.name == name && object.kind == ObjectKind::Store);
    if !exists {
        return Err(Error::new(ErrorCode::NotFound, format!("There is no store `{name}`.")).into());
    }
    // Looking flushes nothing.
    let options = StoreOptions { durability: Durability::Process, ..StoreOptions::default() };
    let store = fabric.store(name, &options)?;
    let direction = if range.reverse { Direction::Backward } else { Direction::Forward };
    let entries = match &range.prefix {
        Some(prefix) => store.iter_prefix(&prefix.0, direction),
        None => {
            let from = range.from.as_ref().map_or(Bound::Unbounded, |key| Bound::Included(&key.0[..]));
            let to = range.to.as_ref().map_or(Bound::Unbounded, |key| Bound::Excluded(&key.0[..]));
            store.iter_range(from, to, direction)
        }
    };
    let mut any = false;
    let mut lines = Vec::new();
    for entry in entries.take(range.count.unwrap_or(usize::MAX)) {
        let (key, entry) = entry?;
        any = true;
        lines.push(line(&key, &entry, output.is_json()));
        if lines.len() == PAGE {
            print(&mut lines, output)?;
        }
    }
    print(&mut lines, output)?;
    Ok(if any { Answer::Yes } else { Answer::No })
}

fn print(lines: &mut Vec<Vec<u8>>, output: &mut Output) -> Result<(), Failure> {
    if !lines.is_empty() {
        output.line(&lines.join(&b'\n'))?;
        lines.clear();
    }
    Ok(())
}

fn line(key: &[u8], entry: &Entry, json: bool) -> Vec<u8> {
    if !json {
        return [key, b"\t", &entry.value].concat();
    }
    let mut object = Map::new();
    match std::str::from_utf8(key) {
        Ok(text) => object.insert("key".to_owned(), text.into()),
        Err(_) => object.insert("key_base64".to_owned(), STANDARD.encode(key).into()),
    };
    put_value(&mut object, &entry.value);
    object.insert("version".to_owned(), entry.version.0.into());
    object.insert("flags".to_owned(), entry.flags.into());
    object.insert("ttl_ms".to_owned(), entry.ttl_ms.into());
    Value::Object(object).to_string().into_bytes()
}
