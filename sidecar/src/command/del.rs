//! `memora del`: deletes a key of a cache.

use serde_json::json;

use super::open::Place;
use crate::cli::Key;
use crate::output::{Answer, Outcome, Output};

pub fn run(place: &Place, cache: &str, key: &Key, output: &mut Output) -> Outcome {
    let deleted = place.open()?.cache(cache)?.delete(&key.0)?;
    answer(deleted, output)
}

/// Says whether there was something to delete; the text form says it by the exit code.
pub fn answer(deleted: bool, output: &mut Output) -> Outcome {
    output.answer(|| json!({ "deleted": deleted }), String::new)?;
    Ok(if deleted { Answer::Yes } else { Answer::No })
}
