//! `memora get`: the value of a key of a cache.

use serde_json::{Map, Value, json};

use super::open::Place;
use crate::cli::Key;
use crate::output::{Answer, Outcome, Output, put_value};

pub fn run(place: &Place, cache: &str, key: &Key, output: &mut Output) -> Outcome {
    let entry = place.open()?.cache(cache)?.get_entry(&key.0)?;
    answer(entry, output)
}

/// Prints an entry, of a cache or a store; none is a no.
pub fn answer(entry: Option<memora::Entry>, output: &mut Output) -> Outcome {
    let Some(entry) = entry else {
        output.answer(|| json!({ "found": false }), String::new)?;
        return Ok(Answer::No);
    };
    if output.is_json() {
        let mut object = Map::new();
        object.insert("found".to_owned(), true.into());
        put_value(&mut object, &entry.value);
        object.insert("version".to_owned(), entry.version.0.into());
        object.insert("flags".to_owned(), entry.flags.into());
        object.insert("ttl_ms".to_owned(), entry.ttl_ms.into());
        output.answer(|| Value::Object(object), String::new)?;
    } else {
        output.value(&entry.value)?;
    }
    Ok(Answer::Yes)
}
