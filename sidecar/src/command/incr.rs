//! `memora incr`: adds to a counter of a cache, or subtracts.

use serde_json::json;

use super::open::Place;
use crate::cli::Key;
use crate::output::{Answer, Outcome, Output};

pub fn run(
    place: &Place,
    cache: &str,
    key: &Key,
    by: u64,
    down: bool,
    initial: Option<u64>,
    output: &mut Output,
) -> Outcome {
    let cache = place.open_or_create()?.cache(cache)?;
    let counted =
        if down { cache.decrement(&key.0, by, initial)? } else { cache.increment(&key.0, by, initial)? };
    output.answer(
        || json!({ "found": counted.is_some(), "number": counted }),
        || counted.map_or(String::new(), |number| number.to_string()),
    )?;
    Ok(if counted.is_some() { Answer::Yes } else { Answer::No })
}
