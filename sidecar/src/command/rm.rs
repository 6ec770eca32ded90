//! `memora rm`: removes a fabric.

use memora::{Error, ErrorCode, Fabric};
use serde_json::json;

use super::open::Place;
use crate::output::{Answer, Outcome, Output};

pub fn run(place: &Place, name: &str, force: bool, output: &mut Output) -> Outcome {
    // What cannot be opened is removed without asking: that is how to get rid of it.
    if !force && let Ok(fabric) = place.open_to_look(name) {
        let me = std::process::id();
        let others =
            fabric.stat()?.processes.iter().filter(|process| !process.dead && process.pid != me).count();
        if others > 0 {
            return Err(Error::new(
                ErrorCode::Busy,
                format!(
                    "Fabric `{name}` has {others} attached processes; --force removes its name all the same."
                ),
            )
            .into());
        }
    }
    Fabric::remove(place.home.as_deref(), name)?;
    output.answer(|| json!({ "removed": name }), String::new)?;
    Ok(Answer::Yes)
}
