//! `memora set`: sets a key of a cache.

use std::ffi::OsString;
use std::time::Duration;

use memora::SetOptions;
use serde_json::json;

use super::open::{Place, value};
use crate::cli::Key;
use crate::output::{Answer, Outcome, Output};

pub fn run(
    place: &Place,
    cache: &str,
    key: &Key,
    argument: OsString,
    ttl: Option<Duration>,
    flags: u32,
    output: &mut Output,
) -> Outcome {
    let value = value(argument)?;
    let ttl_ms = ttl.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
    let version =
        place.open_or_create()?.cache(cache)?.set_with(&key.0, &value, &SetOptions { ttl_ms, flags })?;
    output.answer(|| json!({ "stored": true, "version": version.0 }), String::new)?;
    Ok(Answer::Yes)
}
